"""Files with what no database keeps: the line, the column and what to do are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Sky

RATES = "prefix,per_minute,destination,note\n29999,0.1,Nowhere,a\0b\n33,0.1,Fran\0ce,x\n"
NUL = "character 5 is U+0000, which cannot be stored: take it out"


def test_a_nul_in_a_rate_file_is_a_bad_line_and_the_others_can_be_imported(
    sky: Sky, tmp_path: Path
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(RATES)
    command = ("import-rates", str(file), "--rate-group", "retail")
    ran = sky(*command, "-o", "json")
    assert ran.status == 2
    [bad] = ran.json
    assert (bad["line"], bad["column"], bad["reason"]) == (3, "destination", NUL)
    assert sky(*command, "--skip-errors", "-o", "json").json["new"] == 1


def test_a_nul_in_a_providers_records_is_a_bad_line(sky: Sky, tmp_path: Path) -> None:
    file = tmp_path / "their.csv"
    file.write_text(
        "called,time,duration,destination\n34911111111,2026-03-02 10:00:00,60,Spai\0n\n"
    )
    ran = sky(
        *("reconciliation", "run", str(file), "--provider", "acme"),
        *("--from", "2026-03-01", "--to", "2026-04-01", "-o", "json"),
    )
    assert ran.status == 2
    [bad] = ran.json
    assert (bad["line"], bad["column"], bad["reason"]) == (2, "destination", NUL)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"number,no\0te\n390200000011,x\n", "line 1, cell 2: character 3 is U+0000"),
        (b"number,note\n390200000011,caf\xe9\n", "(octet 0xe9 behind "),
        (b'number,note\n390200000011,"a"b\n', "line 2: something stands behind a closing quote"),
    ],
)
def test_an_inventory_of_numbers_says_where_it_is_broken(
    unchanged: Sky, tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "numbers.csv"
    file.write_bytes(content)
    ran = unchanged("did", "import", str(file), "--provider", "acme")
    assert ran.status == 2
    assert reason in ran.err


def test_an_argument_that_is_not_utf8_is_named(unchanged: Sky) -> None:
    ran = unchanged("account", "show", "caf\udce9")
    assert ran.status == 2
    assert "'caf\\udce9' has characters that are not UTF-8" in ran.err
