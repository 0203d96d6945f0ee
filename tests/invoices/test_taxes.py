"""Several taxes on one invoice: each on its own sum, in every document, report and credit note."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aaa_server.rating.invoice import EXEMPT, STANDARD, Tax
from aaa_server.storage import audit
from aaa_server.storage.invoice_taxes import Sold, placed, sold
from tests.invoices.test_documents import OCTOBER, broken_rules, e_invoice, pdf_of, text_of

if TYPE_CHECKING:
    from tests.invoices.conftest import Sky, World

REASON = "Article 135 (1) (a), insurance"


@pytest.fixture
def two_rates(ready: Sky, world: World) -> Sky:
    """Calls at 21 %, numbers at 10 %, an insurance exempt; alice has all of them."""
    for words in (
        ("tax", "add", "ES", "reduced", "10", "--note", "Reduced rate, article 91"),
        ("tax", "rule", "numbers", "--rate", "reduced"),
        ("tax", "rule", "other", "--item", "Insurance", "--exempt", REASON),
    ):
        ran = ready(*words)
        assert ran.status == 0, ran.err
    world.call(("alice", 123_456_789), seconds=3600)
    world.fee("alice", 1_230_000, "did/34910000002/4/2026-10-01")
    world.fee("alice", 4_560_000, "did/34910000003/4/2026-10-01")
    world.fee("alice", 7_000_000, "Insurance, 2026-10-01 to 2026-11-01")
    return ready


def run(sky: Sky) -> None:
    ran = sky("invoice", "run", *OCTOBER)
    assert ran.status == 0, ran.err


def taxes_of(sky: Sky, number: str = "INV-2026-00001") -> list[tuple[str, str, str, str]]:
    shown = sky("invoice", "show", number, "-o", "json").json["taxes"]
    return [(one["tax"], one["category"], one["base"], one["amount"]) for one in shown]


def prove(world: World) -> None:
    with world.connection.cursor() as cursor:
        assert [one.check for one in audit.prove(cursor) if one.differences] == []
    world.connection.rollback()


def test_each_rate_is_taken_on_its_own_sum(two_rates: Sky, world: World) -> None:
    run(two_rates)
    assert taxes_of(two_rates) == [
        ("VAT 21 %", "S", "123.460000", "25.930000"),
        ("reduced 10 %", "S", "5.790000", "0.580000"),
        ("VAT 0 %", "E", "7.000000", "0.000000"),
    ]
    one = two_rates("invoice", "show", "INV-2026-00001", "-o", "json").json
    assert (one["net"], one["tax"], one["total"]) == ("136.250000", "26.510000", "162.760000")
    prove(world)
    report = two_rates("report", "tax", "--period", one["issued"], "-o", "json",
                       "--group-by", "country,tax,category").json  # fmt: skip
    found = {(row["tax"], row["category"]): (row["base"], row["amount"]) for row in report["rows"]}
    assert found == {
        ("VAT", "S"): ("123.460000", "25.930000"),
        ("reduced", "S"): ("5.790000", "0.580000"),
        ("VAT", "E"): ("7.000000", "0.000000"),
    }
    assert [tie["difference"] for tie in report["ties"]] == ["0.000000"]


@pytest.mark.parametrize("syntax", ["cii", "ubl"])
def test_the_e_invoice_has_each_rate(two_rates: Sky, syntax: str) -> None:
    run(two_rates)
    two_rates("invoice", "credit", "INV-2026-00001", "2.00", "--rate", "10", "--reason", "outage")
    two_rates("invoice", "credit", "INV-2026-00001", "7.00", "--rate", "0", "--reason", "ended")
    for number in ("INV-2026-00001", "CN-2026-00001", "CN-2026-00002"):
        assert broken_rules(syntax, e_invoice(two_rates, number, syntax)) == []
    root = etree.fromstring(e_invoice(two_rates, "INV-2026-00001", syntax))
    words = " ".join(text.strip() for text in root.itertext() if text.strip())
    for text in ("123.46", "5.79", "0.58", REASON, "162.76"):
        assert text in words


def test_page_and_pdf_show_each_rate(two_rates: Sky) -> None:
    run(two_rates)
    two_rates("invoice", "html", "INV-2026-00001", "--out", "i.html")
    page = Path("i.html").read_text(encoding="utf-8")
    text = text_of(pdf_of(two_rates, "INV-2026-00001")).replace("\n", " ")
    for words in (
        "VAT 21% on 123.46", "reduced 10% on 5.79", "VAT – Exempt on 7.00", REASON,
        "Reduced rate, article 91",
    ):  # fmt: skip
        assert words in page, words
        assert words in text, words
    assert re.search(r'<th scope="col"[^>]*>Tax</th>', page)


def test_an_invoice_of_one_tax_has_no_column_for_it(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    run(ready)
    ready("invoice", "html", "INV-2026-00001", "--out", "i.html")
    page = Path("i.html").read_text(encoding="utf-8")
    assert ">Tax</th>" not in page
    assert ">VAT 21%<" in page


def test_only_fees_have_only_their_tax(ready: Sky, world: World) -> None:
    ready("tax", "rule", "other", "--exempt", REASON)
    world.fee("alice", 7_000_000, "Insurance")
    run(ready)
    assert taxes_of(ready) == [("VAT 0 %", "E", "7.000000", "0.000000")]


@pytest.mark.parametrize("syntax", ["cii", "ubl"])
def test_prices_with_tax_keep_the_rules_with_two_rates(
    two_rates: Sky, world: World, syntax: str
) -> None:
    two_rates("billing", "set", "alice", "--prices-include-tax", "--discount", "5")
    world.fee("bob", 3_330_000, "did/34910000009/5/2026-10-01")
    world.call(("bob", 2_000_001))
    run(two_rates)
    for number in ("INV-2026-00001", "INV-2026-00002"):
        assert broken_rules(syntax, e_invoice(two_rates, number, syntax)) == []
        one = two_rates("invoice", "show", number, "-o", "json").json
        shown = sum(float(line["amount"]) for line in one["lines"])
        assert round(shown, 2) == float(one["total"])
    prove(world)


@pytest.mark.parametrize("treatment", ["exempt", "reverse-charge"])
def test_a_buyer_without_tax_has_none_on_anything(two_rates: Sky, treatment: str) -> None:
    two_rates("billing", "set", "alice", "--treatment", treatment, "--exempt-reason", "Article 22",
              "--vat-id", "ESB58378431")  # fmt: skip
    run(two_rates)
    [(_, category, base, amount)] = taxes_of(two_rates)
    assert category == {"exempt": "E", "reverse-charge": "AE"}[treatment]
    assert (base, amount) == ("136.250000", "0.000000")


def test_a_rate_that_the_buyer_s_country_lacks_stops_the_run(ready: Sky, world: World) -> None:
    ready("tax", "rule", "numbers", "--rate", "reduced")
    world.call(("alice", 1_000_000))
    world.fee("alice", 1_000_000, "did/34910000002/4/2026-10-01")
    ran = ready("invoice", "run", *OCTOBER)
    assert ran.status == 1
    assert "there is no tax rate 'reduced' of ES" in ran.err
    assert "sky-aaa tax add ES reduced RATE" in ran.err
    assert world.ask("SELECT count(*) FROM invoice") == [(0,)]


def test_a_credit_note_says_of_which_tax(two_rates: Sky, world: World) -> None:
    run(two_rates)
    ran = two_rates("invoice", "credit", "INV-2026-00001", "1.00", "--reason", "outage")
    assert ran.status == 2
    assert "several rates of tax, 0, 10, 21 %: say which by --rate" in ran.err
    ran = two_rates("invoice", "credit", "INV-2026-00001", "1", "--reason", "x", "--rate", "4")
    assert ran.status == 2
    assert "no tax of that rate" in ran.err
    for amount, status in (("5.79", 0), ("0.01", 1)):
        ran = two_rates("invoice", "credit", "INV-2026-00001", amount, "--rate", "10",
                        "--reason", "outage")  # fmt: skip
        assert ran.status == status, ran.err
    assert "left of what INV-2026-00001 taxes so" in ran.err
    assert taxes_of(two_rates, "CN-2026-00001") == [("reduced 10 %", "S", "5.790000", "0.580000")]
    ran = two_rates("invoice", "credit", "INV-2026-00001", "123.46", "--rate", "21",
                    "--reason", "all of it")  # fmt: skip
    assert ran.status == 0, ran.err
    prove(world)


def test_a_void_invoice_is_taken_back_with_all_its_taxes(two_rates: Sky, world: World) -> None:
    run(two_rates)
    before = taxes_of(two_rates)
    assert two_rates("invoice", "void", "INV-2026-00001", "--reason", "slip").status == 0
    assert taxes_of(two_rates, "CN-2026-00001") == before
    run(two_rates)
    assert taxes_of(two_rates, "INV-2026-00002") == before
    prove(world)


def test_rules_are_listed_changed_and_taken_away(ready: Sky, world: World) -> None:
    ready("tax", "rule", "numbers", "--rate", "reduced")
    ready("tax", "rule", "numbers", "--exempt", REASON)
    ready("--as", "north", "tax", "rule", "packages", "--rate", "half")
    assert ready("tax", "rules", "-o", "json").json == [
        {"product": "numbers", "item": "", "rate": "", "exempt": REASON}
    ]
    assert ready("tax", "rule", "numbers", "--as-buyer").status == 0
    assert ready("tax", "rules", "-o", "json").json == []
    actions = world.ask("SELECT action, subject FROM audit_log WHERE action = 'tax rule'")
    assert [subject for _, subject in actions] == ["admin", "admin", "north", "admin"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("numbers",), "either a rate, by its name, or a reason"),
        (("numbers", "--rate", "x", "--exempt", "y"), "either a rate"),
        (("calls", "--item", "Spain", "--rate", "x"), "a rule of calls has no item"),
        (("numbers", "--item", "9" * 300, "--rate", "x"), "at most 200 characters"),
        (("numbers", "--as-buyer"), "has no tax rule of numbers"),
        (("numbers", "--item", "x", "--as-buyer"), "no tax rule of numbers 'x'"),
        (("numbers", "--as-buyer", "--rate", "x"), "--as-buyer takes the rule away"),
        (("cheese", "--rate", "x"), "cheese"),
        (("numbers", "--rate", "x", "--issuer", "alice"), "alice is a customer"),
    ],
)
def test_a_wrong_rule_is_refused(ready: Sky, words: tuple[str, ...], why: str) -> None:
    ran = ready("tax", "rule", *words)
    assert ran.status
    assert why in ran.err


def test_a_rule_is_its_issuer_s_alone(ready: Sky) -> None:
    for code in ("alice", "north"):
        ran = ready("--as", code, "tax", "rule", "numbers", "--rate", "x", "--issuer", "admin")
        assert ran.status != 0
    assert ready("--as", "alice", "tax", "rule", "numbers", "--rate", "x").status != 0


# ------------------------------------------------------------------ pieces


@pytest.mark.parametrize(
    ("reference", "note", "what"),
    [
        ("subscription/7/setup", "office line, setup", ("subscriptions", "office line")),
        ("subscription/7/2026-10-01", "a, b, 2026-10-01 to 2026-11-01", ("subscriptions", "a, b")),
        ("subscription/7/end", "x, ends 2026-10-05: days not used", ("subscriptions", "x")),
        ("package/3", "package uk-60, 2026-10-01 to 2026-11-01", ("packages", "uk-60")),
        ("mine", "package uk-60, from 2026-10-01", ("packages", "uk-60")),
        ("did/3491/4/2026-10-01", "DID 3491, 2026-10-01 to 2026-11-01", ("numbers", "3491")),
        ("reminder/8/1", "Reminder 1, INV-1", ("reminders", "Reminder 1")),
        ("odd", "", ("other", "")),
    ],
)
def test_a_fee_says_what_it_is_for(reference: str, note: str, what: tuple[str, str]) -> None:
    assert sold(reference, note) == Sold(*what)


@given(
    st.lists(
        st.builds(
            Tax,
            st.sampled_from(["VAT", "IGIC"]),
            st.sampled_from([0, 70_000]),
            st.sampled_from([STANDARD, EXEMPT]),
            st.sampled_from(["", "one", "two"]),
        ),
        min_size=1,
    )
)
def test_a_tax_is_one_by_category_and_rate(taxes: list[Tax]) -> None:
    found, places = placed(taxes)
    keys: list[Any] = [(one.category, one.rate_ppm) for one in found]
    assert len(set(keys)) == len(keys)
    for one, place in zip(taxes, places, strict=True):
        assert (one.category, one.rate_ppm) == keys[place]
        assert one.note in found[place].note.split("; ") or not one.note
    assert places[0] == 0
