"""A price, fee, markup or exchange rate that no charge could hold is refused where it comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Sky

RETAIL = ("--rate-group", "retail")
PRICE_TOLD = "a minute is too much: 1000000.0000 is the most"
FEE_TOLD = "for a call is too much: 1000000 is the most"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rate", "add", "999", *RETAIL, "--per-minute", "999999999"), PRICE_TOLD),
        (
            ("rate", "add", "9", *RETAIL, "--per-minute", "1", "--connect-fee", "1000001"),
            FEE_TOLD,
        ),
        (("rate", "set", "44", *RETAIL, "--minimum-charge", "1000001"), FEE_TOLD),
        (("rate", "set", "44", *RETAIL, "--step", "60:1000001"), PRICE_TOLD),
        (("rate-group", "set", "retail", "--markup", "1001"), "1000 % is the most"),
        (("rate-group", "set", "retail", "--on-net", "1000001"), PRICE_TOLD),
        (("account", "set", "alice", "--surcharge", "1000001"), FEE_TOLD),
        (("account", "set", "carl", "--credit-limit", "1000000000001"), "of credit is too much"),
        (("issuer", "dunning", "admin", "7:1000000001"), "at most 1000000000"),
        (("package", "set", "uk-60", "--price", "1000000001"), "at most 1000000000"),
        (("currency", "rate", "USD", "IRR", "1000001"), "from 0.000001 to 1000000, not"),
        (("currency", "rate", "IRR", "USD", "0.0000001"), "from 0.000001 to 1000000, not"),
    ],
)
def test_what_is_beyond_all_measure_is_refused(
    unchanged: Sky, words: tuple[str, ...], told: str
) -> None:
    ran = unchanged(*words)
    assert ran.status == 2
    assert told in ran.err


def test_a_rate_file_says_the_line_the_column_and_the_limit(sky: Sky, tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(
        "prefix,per_minute,connect_fee,steps\n"
        "29991,1000000,1000000,60:1000000\n"
        "29992,1000001,,\n"
        "29993,1,1000001,\n"
        "29994,1,,60:1000001\n"
    )
    ran = sky("import-rates", str(file), *RETAIL, "-o", "json")
    assert ran.status == 2
    assert [(bad["line"], bad["column"]) for bad in ran.json] == [
        (3, "per_minute"),
        (4, "connect_fee"),
        (5, "steps"),
    ]
    assert PRICE_TOLD in ran.json[0]["reason"]


def test_a_price_and_an_exchange_rate_must_fit_together(sky: Sky, tmp_path: Path) -> None:
    assert sky("currency", "rate", "USD", "VND", "25000").status == 0
    dear = sky("rate", "add", "29991", *RETAIL, "--per-minute", "201")
    assert dear.status == 2
    assert "200.0000 is the most, with the exchange rates of its currency" in dear.err
    file = tmp_path / "rates.csv"
    file.write_text("prefix,per_minute\n29991,201\n")
    assert "200.0000 is the most" in sky("import-rates", str(file), *RETAIL).out
    assert sky("rate", "add", "29991", *RETAIL, "--per-minute", "200").status == 0
    assert sky("currency", "rate", "USD", "IRR", "42000").status == 2
    # Turned round, it is the same rate.
    ran = sky("currency", "rate", "IRR", "USD", "0.00002")
    assert ran.status == 2
    assert "beside a price of 200.0000 USD a minute" in ran.err


def test_the_largest_credit_can_be_worked_with(sky: Sky) -> None:
    most = ("account", "set", "carl", "--postpaid", "--credit-limit", "1000000000000")
    assert sky(*most).status == 0
    assert sky("account", "top-up", "carl", "1000000000", "--reference", "b").status == 0
    call = ("--account", "carl", "--called", "442071838750", "--seconds", "61")
    assert sky("simulate-call", *call).status == 0
    assert sky("report", "credit-control").status == 0
