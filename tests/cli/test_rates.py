"""`sky-aaa rate` and `sky-aaa import-rates`, on the demo."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky

RETAIL = ("--rate-group", "retail")


def only(sky: Sky, *words: str) -> dict[str, Any]:
    """The record that the command prints."""
    ran = sky("-o", "json", *words)
    assert ran.status == 0, ran.err
    record: dict[str, Any] = ran.json
    return record


def rows(sky: Sky, *words: str) -> list[dict[str, Any]]:
    ran = sky("-o", "json", "rate", "list", *words)
    assert ran.status == 0, ran.err
    listed: list[dict[str, Any]] = ran.json
    return listed


def bad_lines(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))[1:]


# ------------------------------------------------------------------ one row


def test_a_rate_is_added_changed_and_closed(sky: Sky) -> None:
    made = only(
        sky, "rate", "add", "999001", "--per-minute", "0.0123", *RETAIL, "--destination", "Moon"
    )
    assert (made["per_minute"], made["interval"], made["destination"]) == (
        "0.0123",
        "60/60",
        "Moon",
    )
    later = only(
        sky, "rate", "set", "999001", "--per-minute", "0.02", *RETAIL, "--from", "2100-01-01"
    )
    assert (later["per_minute"], later["destination"]) == ("0.0200", "Moon")
    both = rows(sky, *RETAIL, "--prefix", "999001", "--all-times")
    assert [(row["per_minute"], row["effective_to"]) for row in both] == [
        ("0.0123", "2100-01-01T00:00:00+00:00"),
        ("0.0200", None),
    ]
    sky("rate", "close", "999001", *RETAIL, "--at", "2100-01-01")
    closed = only(sky, "rate", "close", "999001", *RETAIL, "--at", "2099-01-01")
    assert closed["effective_to"] == "2099-01-01T00:00:00+00:00"
    assert len(rows(sky, *RETAIL, "--prefix", "999001", "--all-times")) == 1


def test_a_change_that_changes_nothing_says_so(sky: Sky) -> None:
    sky("rate", "add", "999001", "--per-minute", "0.5", *RETAIL)
    ran = sky("rate", "set", "999001", "--per-minute", "0.5", *RETAIL)
    assert ran.status == 0
    assert "nothing was changed" in ran.err


def test_changes_are_in_the_audit_log(sky: Sky, demo_connection: Connection) -> None:
    sky("rate", "add", "999001", "--per-minute", "0.5", *RETAIL)
    sky("rate", "set", "999001", "--per-minute", "0.6", *RETAIL)
    sky("rate", "close", "999001", *RETAIL, "--at", "2100-01-01")
    with demo_connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT action, subject, before ->> 'per_minute', after ->> 'per_minute'
              FROM audit_log
             WHERE action LIKE 'rate %'
             ORDER BY audit_id
            """
        )
        assert cursor.fetchall() == [
            ("rate add", "retail 999001", None, "0.5000"),
            ("rate set", "retail 999001", "0.5000", "0.6000"),
            ("rate close", "retail 999001", None, None),
        ]


def test_an_accounts_own_rate_goes_first_for_it_alone(sky: Sky) -> None:
    sky("rate", "add", "999", "--per-minute", "0.002", *RETAIL)
    sky("rate", "add", "999", "--per-minute", "0.001", *RETAIL, "--account", "alice")
    alice = only(sky, "rate", "lookup", "+999 (20) 7183", "--account", "alice")
    bob = only(sky, "rate", "lookup", "999207183", "--account", "bob")
    assert (alice["per_minute"], bob["per_minute"]) == ("0.0010", "0.0020")
    assert [(row["prefix"], row["of"], row["verdict"]) for row in alice["rows"]] == [
        ("999", "alice", "applies"),
        ("999", "", "the account's own row goes first"),
    ]
    assert [row["of"] for row in rows(sky, *RETAIL, "--account", "alice")] == ["alice"]


def test_a_row_that_prices_none_of_the_accounts_calls_is_remarked(sky: Sky) -> None:
    ran = sky("rate", "add", "44", "--per-minute", "0.001", *RETAIL, "--account", "nora")
    assert ran.status == 0
    assert "nora does not pay by retail" in ran.err


def test_lookup_says_why_each_row_applies_or_not(sky: Sky) -> None:
    for prefix, more in (
        ("9", ()),
        ("99", ("--to", "2099-06-01")),
        ("999", ("--from", "2099-01-01")),
        ("9990", ("--to", "2030-01-01")),
        ("99901", ("--blocked",)),
    ):
        ran = sky("rate", "add", prefix, "--per-minute", "0.1", *RETAIL, *more)
        assert ran.status == 0, ran.err
    found = only(sky, "rate", "lookup", "999055", *RETAIL, "--at", "2050-01-01")
    assert found["prefix"] == "99"
    assert {row["prefix"]: row["verdict"] for row in found["rows"]} == {
        "9990": "ended",
        "999": "not in force yet",
        "99": "applies",
        "9": "a longer prefix goes first",
    }
    blocked = only(sky, "rate", "lookup", "999015", *RETAIL)
    assert blocked["blocked"] is True
    assert blocked["rows"][0]["verdict"] == "applies: such calls are refused"


def test_lookup_shows_the_price_with_the_groups_markup(sky: Sky) -> None:
    sky("rate-group", "set", "retail", "--markup", "10")
    sky("rate", "add", "999", "--per-minute", "0.1", *RETAIL)
    found = only(sky, "rate", "lookup", "9991", *RETAIL)
    assert (found["per_minute"], found["per_minute_with_markup"]) == ("0.1000", "0.1100")


def test_lookup_of_a_number_without_a_rate_fails_and_says_so(unchanged: Sky) -> None:
    ran = unchanged("rate", "lookup", "0000", *RETAIL)
    assert ran.status == 1
    assert "retail has no rate for 0000 at that time" in ran.err


def test_termination_rates_are_looked_up_and_set(sky: Sky) -> None:
    assert only(sky, "rate", "lookup", "442071838750", "--resource-group", "21")["prefix"]
    sky("rate", "add", "999", "--per-minute", "0.1", "--resource-group", "RG_21", "--strip", "2")
    assert only(sky, "rate", "lookup", "9991", "--resource-group", "RG_21")["strip"] == 2


def test_times_are_the_rate_groups(sky: Sky) -> None:
    sky("rate-group", "set", "retail", "--time-zone", "Europe/Madrid")
    made = only(sky, "rate", "add", "999", "--per-minute", "0.1", *RETAIL, "--from", "2030-01-01")
    assert made["effective_from"] == "2029-12-31T23:00:00+00:00"


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("add", "44", "--per-minute", "0.1", *RETAIL), 1, "prefix 44 has a row already, from"),
        (("add", "4x", "--per-minute", "0.1", *RETAIL), 2, "'4x' is no prefix"),
        (("add", "999", "--per-minute", "0,1", *RETAIL), 2, "'0,1' is not a price"),
        (("add", "999", "--per-minute", "-1", *RETAIL), 2, "a price is at least 0"),
        (
            ("add", "999", "--per-minute", "1", *RETAIL, "--from", "07/01/2026"),
            2,
            "'07/01/2026' is no instant",
        ),
        (
            (
                "add",
                "9",
                "--per-minute",
                "1",
                *RETAIL,
                "--from",
                "2030-01-01",
                "--to",
                "2029-01-01",
            ),
            2,
            "a row ends after it begins",
        ),
        (("add", "999", "--per-minute", "0.1"), 2, "which price list?"),
        (("add", "999", "--per-minute", "0.1", "--account", "alice"), 2, "which price list?"),
        (
            ("add", "999", "--per-minute", "0.1", *RETAIL, "--resource-group", "21"),
            2,
            "--resource-group stands alone",
        ),
        (("set", "44", *RETAIL), 2, "nothing to change: name at least one option"),
        (("set", "0000", "--per-minute", "1", *RETAIL), 1, "prefix 0000 has no row in force"),
        (("close", "0000", *RETAIL), 1, "prefix 0000 has no row in force"),
        (("lookup", "alice", *RETAIL), 2, "'alice' is no number"),
        (("lookup", "44", "--rate-group", "nowhere"), 1, "there is no rate group 'nowhere'"),
        (("lookup", "44", "--account", "admin"), 1, "admin has no rate group"),
        (("lookup", "44", "--resource-group", "RG_11"), 1, "RG_11 is an inbound resource group"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    unchanged: Sky, words: tuple[str, ...], status: int, text: str
) -> None:
    ran = unchanged("rate", *words)
    assert ran.status == status, ran.err
    assert text in ran.err
    assert ran.out == ""


def test_a_reseller_sets_its_own_prices_and_sees_no_others(sky: Sky) -> None:
    own = ("--rate-group", "north-retail")
    assert sky("--as", "north", "rate", "add", "999", "--per-minute", "0.2", *own).status == 0
    assert only(sky, "rate", "lookup", "9991", "--account", "nora")["per_minute"] == "0.2000"
    # What it pays itself, it may look at.
    assert sky("--as", "north", "rate", "lookup", "4420", "--account", "north").status == 0
    buying = sky(
        "--as", "north", "rate", "add", "999", "--per-minute", "0", "--rate-group", "wholesale"
    )
    assert buying.status == 1
    assert sky("--as", "north", "rate", "list", *RETAIL).status == 1
    provider = sky("--as", "north", "rate", "lookup", "4420", "--resource-group", "21")
    assert provider.status == 1
    assert "for the operator only" in provider.err
    assert sky("--as", "nora", "rate", "set", "999", "--per-minute", "0", *own).status == 1


# ------------------------------------------------------------------ a file


@pytest.fixture
def deck(tmp_path: Path) -> Path:
    """Three prefixes, of which retail has one already, at another price."""
    path = tmp_path / "deck.csv"
    path.write_text(
        "Code,Destination,Rate,Interval 1/N,Colour\n"
        "44,United Kingdom,9.5,60/1,blue\n999001,Moon,1.25,1/1,\n999002,Mars,2.5,1/1,\n"
    )
    return path


def test_a_file_is_imported_and_priced_at_once(sky: Sky, deck: Path) -> None:
    done = only(sky, "import-rates", str(deck), *RETAIL)
    assert {key: done[key] for key in ("lines", "new", "increased", "closed", "bad_lines")} == {
        "lines": 3,
        "new": 2,
        "increased": 1,
        "closed": 0,
        "bad_lines": 0,
    }
    assert done["ignored_columns"] == ["Colour"]
    found = only(sky, "rate", "lookup", "9990011", "--account", "alice")
    assert (found["per_minute"], found["interval"]) == ("1.2500", "1/1")
    again = only(sky, "import-rates", str(deck), *RETAIL)
    assert (again["unchanged"], again["new"], again["revision"]) == (3, 0, done["revision"])


def test_a_dry_run_shows_the_difference_and_changes_nothing(sky: Sky, deck: Path) -> None:
    before = rows(sky, *RETAIL)
    ran = sky("import-rates", str(deck), *RETAIL, "--dry-run", "--replace")
    assert ran.status == 0
    assert "dry run: nothing was changed" in ran.err
    assert f"and {len(before) + 2 - 100} more: -o csv shows all" in ran.err
    dry = only(sky, "import-rates", str(deck), *RETAIL, "--dry-run", "--replace")
    assert dry["closed"] == len(before) - 1
    found = {change["prefix"]: change for change in dry["changes"]}
    assert len(found) == len(before) + 2
    assert found["999001"]["what"] == "new"
    assert (found["44"]["what"], found["44"]["new_per_minute"]) == ("increased", "9.5000")
    listed = bad_lines(sky("import-rates", str(deck), *RETAIL, "--dry-run", "-o", "csv").out)
    assert [line[:2] for line in listed] == [
        ["increased", "44"],
        ["new", "999001"],
        ["new", "999002"],
    ]
    assert rows(sky, *RETAIL) == before


def test_replacing_closes_what_the_file_does_not_have(sky: Sky, deck: Path) -> None:
    only(sky, "import-rates", str(deck), *RETAIL, "--replace")
    assert [row["prefix"] for row in rows(sky, *RETAIL)] == ["44", "999001", "999002"]


def test_one_bad_line_and_nothing_is_imported(sky: Sky, deck: Path) -> None:
    before = rows(sky, *RETAIL)
    deck.write_text(deck.read_text() + "99x,,0.1,1/1,\n999003,,-1,60/0,\n")
    ran = sky("import-rates", str(deck), *RETAIL, "-o", "csv")
    assert ran.status == 2
    assert "2 bad lines of 5: nothing was imported" in ran.err
    assert bad_lines(ran.out) == [
        ["5", "Code", "99x", "1 to 32 digits, * and # make a prefix"],
        ["6", "Rate", "-1", "it is below 0"],
        ["6", "Interval 1/N", "60/0", "an increment is at least 1 second"],
    ]
    assert rows(sky, *RETAIL) == before


def test_the_good_lines_are_imported_when_that_is_wanted(sky: Sky, deck: Path) -> None:
    deck.write_text(deck.read_text() + "99x,,0.1,1/1,\n")
    ran = sky("-o", "json", "import-rates", str(deck), *RETAIL, "--skip-errors")
    assert ran.status == 0
    assert (ran.json["new"], ran.json["bad_lines"]) == (2, 1)
    assert "line 5, Code, '99x'" in ran.err


def test_an_import_can_be_dated_in_the_future(sky: Sky, deck: Path) -> None:
    sky("rate-group", "set", "retail", "--time-zone", "Europe/Madrid")
    only(sky, "import-rates", str(deck), *RETAIL, "--effective", "2100-07-01")
    planned = rows(sky, *RETAIL, "--prefix", "999001", "--all-times")
    assert [row["effective_from"] for row in planned] == ["2100-06-30T22:00:00+00:00"]


def test_headers_can_be_named(sky: Sky, tmp_path: Path) -> None:
    path = tmp_path / "preise.csv"
    path.write_text("Kennzahl;Preis;Rate\n999;0,25;7\n")
    words = ("import-rates", str(path), "--resource-group", "RG_21")
    ran = sky(*words)
    assert ran.status == 2
    assert "--map prefix=HEADER" in ran.err
    only(sky, *words, "--map", "prefix=Kennzahl", "--map", "per_minute=Preis")
    assert only(sky, "rate", "lookup", "9991", "--resource-group", "21")["per_minute"] == "0.2500"
    wrong = sky(*words, "--map", "prefix")
    assert wrong.status == 2
    assert "COLUMN=HEADER is expected" in wrong.err


def test_a_file_without_rows_does_not_close_everything(sky: Sky, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("prefix,per_minute\n")
    ran = sky("import-rates", str(path), *RETAIL, "--replace")
    assert ran.status == 2
    assert "there are no rows to import" in ran.err


def test_rows_that_end_behind_a_planned_one_are_refused_by_line(sky: Sky, tmp_path: Path) -> None:
    sky("rate", "add", "999", "--per-minute", "0.1", *RETAIL, "--from", "2030-01-01")
    path = tmp_path / "late.csv"
    path.write_text("prefix,per_minute,effective_to\n999,1,2031-01-01\n")
    ran = sky("import-rates", str(path), *RETAIL)
    assert ran.status == 1
    assert "line 2: prefix 999 would end at 2031-01-01" in ran.err


def test_on_a_terminal_there_is_a_progress_bar(
    sky: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.csv"
    lines = [f"9{number:05d},0.1\n" for number in range(4500)]
    path.write_text("prefix,per_minute\n" + "".join(lines))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    ran = sky("-o", "json", "import-rates", str(path), *RETAIL)
    assert ran.json["new"] == 4500
    assert "importing" in ran.err


def test_a_reseller_imports_into_its_own_list_only(sky: Sky, deck: Path) -> None:
    own = sky(
        "--as", "north", "-o", "json", "import-rates", str(deck), "--rate-group", "north-retail"
    )
    assert own.status == 0, own.err
    assert own.json["new"] == 2
    assert sky("--as", "north", "import-rates", str(deck), *RETAIL).status == 1
    wholesale = sky("--as", "north", "import-rates", str(deck), "--rate-group", "wholesale")
    assert wholesale.status == 1
