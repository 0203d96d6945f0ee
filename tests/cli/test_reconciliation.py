"""What a provider charges against what we know: call by call, once each, and kept."""

from __future__ import annotations

import contextlib
import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2.errors
import pytest
from openpyxl import Workbook, load_workbook

from aaa_server import provider_file
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.viewer import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from psycopg2.extensions import cursor as Cursor

    from tests.cli.conftest import Ran, Sky

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MARCH = ("--from", "2026-03-01", "--to", "2026-04-01")
JSON = ("-o", "json")
HEADERS = ("Called Number", "Answer Time", "Duration", "Cost")
NUMBERS = count(10**12)
LINE = tuple[object, ...]


class Ours(NamedTuple):
    """A call of ours over acme, answered `at`; `sent` is the number as acme got it."""

    number: str
    at: datetime
    seconds: int
    micros: int
    sent: str = ""
    nanos: int = 10_000_000
    prefix: str = "44"
    provider: str = "acme"
    ani: str = "34911"
    ring: int = 7


def carry(url: str, *calls: Ours) -> list[int]:
    """Record the calls as a switch's Stops would have; their numbers."""
    made = []
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        for call in calls:
            made.append(next(NUMBERS))
            _carry(cursor, made[-1], call)
    return made


def _carry(cursor: Cursor, number: int, call: Ours) -> None:
    cursor.execute(
        """
        SELECT resource_group_id, resource_group.account_id
          FROM resource_group
          JOIN account USING (account_id)
         WHERE direction = 'out' AND account.code = %s
         ORDER BY resource_group_id
         LIMIT 1
        """,
        (call.provider,),
    )
    row = cursor.fetchone()
    assert row is not None
    group, provider = row
    sent = call.sent or call.number
    routes = (
        f'[[{group},"RG","sofia/gateway/x/{sent}",{provider},1,"{call.prefix}","USD",'
        f"{call.nanos},0,0,60,60,0,0,10000000000]]"
    )
    cursor.execute(
        """
        INSERT INTO cdr (call_id, client_id, session_key, party_id, levels, routes,
                         granted_seconds, authorized_at, started_at, ani, called, sip_call_id,
                         ended_at, ended_by, duration_ms, seconds, resource_group_out_id, postings)
        VALUES (%(number)s, 1, %(number)s::text, '{}', '[]', %(routes)s, 3600, %(setup)s,
                %(setup)s, %(ani)s, %(called)s, '', %(ended)s, 'stop', %(seconds)s * 1000,
                %(seconds)s, %(group)s, 1)
        """,
        {
            "number": number,
            "routes": routes,
            "setup": call.at - timedelta(seconds=call.ring),
            "ended": call.at + timedelta(seconds=call.seconds),
            "seconds": call.seconds,
            "ani": call.ani,
            "called": call.number,
            "group": group,
        },
    )
    cursor.execute(
        """
        INSERT INTO charge (call_id, level, number, account_id, currency, amount_micros,
                            billed_seconds, rate_id, prefix, at)
        VALUES (%s, -1, 1, %s, 'USD', %s, %s, 0, %s, %s)
        """,
        (number, provider, call.micros, call.seconds, call.prefix, call.at),
    )


def written(path: Path, *lines: LINE, headers: Sequence[str] = HEADERS) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([headers, *lines])
    return str(path)


@pytest.fixture
def their(tmp_path: Path) -> Callable[..., str]:
    """Writes their file."""
    return lambda *lines, **rest: written(tmp_path / "their.csv", *lines, **rest)


def reconcile(sky: Sky, file: str, *words: str) -> Any:
    ran = run(sky, file, *words, *JSON)
    assert ran.status == 0, ran.err
    return ran.json


def run(sky: Sky, file: str, *words: str) -> Ran:
    return sky("reconciliation", "run", file, "--provider", "acme", *MARCH, *words)


def counts(found: Any) -> dict[str, int]:
    """The classes that have calls."""
    names = ("exact", "within", "different", "missing_at_ours", "missing_at_theirs")
    return {name: found[name] for name in names if found[name]}


def at(seconds: float = 0) -> str:
    return (NOON + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")


# ------------------------------------------------------------------ classes


def test_every_call_falls_into_its_class(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    minute = timedelta(minutes=1)
    known = carry(
        demo_url,
        Ours("442070000001", NOON, 60, 10_000),
        Ours("442070000002", NOON + minute, 61, 10_200),
        Ours("442070000003", NOON + 2 * minute, 60, 10_000),
        Ours("442070000004", NOON + 3 * minute, 60, 10_000),
        Ours("442070000005", NOON + 4 * minute, 60, 10_000),
        Ours("442070000006", NOON, 60, 10_000, provider="globex"),
        Ours("442070000007", NOON, 0, 0),
    )
    file = their(
        ("442070000001", at(1), 60, "0.01"),
        ("442070000002", at(59), 60, "0.01"),
        ("442070000003", at(120), 90, "0.015"),
        ("442070000004", at(180), 60, "0.03"),
        ("442079999999", at(300), 45, "0.02"),
        ("442070000007", "", 0, "0"),
        ("442070000001", "2026-05-01 00:00:00", 60, "0.01"),
    )
    found = reconcile(sky, file)
    assert counts(found) == {
        "exact": 1, "within": 1, "different": 2, "missing_at_ours": 1, "missing_at_theirs": 1,
    }  # fmt: skip
    assert (found["lines"], found["unanswered"], found["outside"]) == (7, 1, 1)
    lines = sky("reconciliation", "dispute", str(found["id"]), *JSON).json
    assert [
        (one["class"], one["differs"], one["line"], one["call"], one["amount_more"])
        for one in lines
    ] == [
        ("different", ["duration", "amount"], 4, known[2], "0.005000"),
        ("different", ["amount"], 5, known[3], "0.020000"),
        ("missing-at-theirs", [], None, known[4], "-0.010000"),
        ("missing-at-ours", [], 6, None, "0.020000"),
    ]
    [within] = sky("reconciliation", "dispute", str(found["id"]), "--class", "within", *JSON).json
    assert (within["seconds_more"], within["amount_more"]) == (-1, "-0.000200")


def test_each_destination_has_its_sums(sky: Sky, demo_url: str, their: Callable[..., str]) -> None:
    carry(
        demo_url,
        Ours("442070000001", NOON, 60, 10_000, prefix="4420"),
        Ours("447700000002", NOON, 60, 20_000, prefix="447"),
        Ours("447700000003", NOON, 30, 10_000, prefix="447"),
    )
    file = their(
        ("442070000001", at(), 60, "0.01"),
        ("447700000002", at(), 60, "0.025"),
        ("447700000003", at(), 30, "0.01"),
        ("441314960000", at(), 100, "0.2"),
    )
    found = reconcile(sky, file)
    # The largest difference first; what is unknown to us has the code that it would have had.
    assert [
        (one["code"], one["our_amount"], one["their_amount"], one["amount_more"])
        for one in found["codes"]
    ] == [
        ("44131", "0.000000", "0.200000", "0.200000"),
        ("447", "0.030000", "0.035000", "0.005000"),
        ("4420", "0.010000", "0.010000", "0.000000"),
    ]
    assert found["amount_more"] == "0.205000"
    assert sum(one["their_seconds"] for one in found["codes"]) == found["their_seconds"] == 250
    assert sky("reconciliation", "show", str(found["id"]), *JSON).json["codes"] == found["codes"]
    shown = sky("reconciliation", "show", str(found["id"]), "-o", "csv").out
    assert [one["code"] for one in csv.DictReader(io.StringIO(shown))] == [
        "44131", "447", "4420",
    ]  # fmt: skip


def test_their_code_and_rate_are_compared_where_they_are(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    headers = (*HEADERS, "Rate/Min", "Dial Code", "Country")
    line = ("442070000001", at(), 60, "0.01", "0.0125", "+44 20", "=UK")
    found = reconcile(sky, their(line, headers=headers))
    assert counts(found) == {"different": 1}
    [one] = sky("reconciliation", "dispute", str(found["id"]), *JSON).json
    assert (one["differs"], one["their_rate"], one["our_rate"]) == (["rate"], "0.0125", "0.0100")
    assert (one["code"], one["destination"]) == ("4420", "=UK")
    text = sky("reconciliation", "dispute", str(found["id"]), "-o", "csv").out
    assert "'=UK" in text


def test_a_file_without_amounts_is_compared_by_time(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    found = reconcile(sky, their(("442070000001", at(), 60), headers=HEADERS[:3]))
    assert counts(found) == {"exact": 1}
    assert (found["their_amount"], found["amount_more"]) == (None, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "different"),
        (("--tolerance-seconds", "10"), "different"),
        (("--tolerance-seconds", "10", "--tolerance-amount", "0.005"), "within"),
        (("--tolerance-amount", "0.005"), "different"),
    ],
)
def test_the_tolerance_is_what_was_said(
    sky: Sky, demo_url: str, their: Callable[..., str], words: tuple[str, ...], expected: str
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    assert counts(reconcile(sky, their(("442070000001", at(), 70, "0.015")), *words)) == {
        expected: 1
    }


# ------------------------------------------------------------------ which call is it


@pytest.mark.parametrize(
    ("number", "sent", "written_number"),
    [
        ("442070000001", "", "00442070000001"),
        ("442070000001", "", "+44 20-7000.0001"),
        ("442070000001", "", "sip:+442070000001@sbc.example;user=phone"),
        ("442070000001", "02070000001", "02070000001"),
        ("442070000001", "9944207000001", "442070000001"),
        ("442070000001", "123#442070000001", "123#442070000001"),
        ("442070000001", "442070000001@10.0.0.1:5060", "442070000001"),
        ("4420", "", "4420"),
    ],
)
def test_a_number_is_known_however_it_is_written(
    sky: Sky, demo_url: str, their: Callable[..., str], number: str, sent: str, written_number: str
) -> None:
    carry(demo_url, Ours(number, NOON, 60, 10_000, sent))
    assert counts(reconcile(sky, their((written_number, at(), 60, "0.01")))) == {"exact": 1}


def test_another_number_or_time_is_another_call(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    for line in (("442070000002", at(), 60, "0.01"), ("442070000001", at(121), 60, "0.01")):
        assert counts(reconcile(sky, their(line))) == {
            "missing_at_ours": 1, "missing_at_theirs": 1,
        }  # fmt: skip
    wide = reconcile(sky, their(line), "--window-seconds", "300")
    assert counts(wide) == {"exact": 1}


def test_calls_to_one_number_are_matched_one_to_one_by_the_best(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    known = carry(
        demo_url,
        *(
            Ours("442070000001", NOON + timedelta(seconds=20 * place), 10 + place, 1000)
            for place in range(5)
        ),
    )
    # Their clock is 9 s behind, and they have one call more than we do, and less one of ours.
    lines = [("442070000001", at(20 * place - 9), 10 + place, "0.001") for place in (0, 1, 3, 4)]
    extra = ("442070000001", at(35), 500, "0.5")
    found = reconcile(sky, their(*lines, extra), "--window-seconds", "30")
    assert counts(found) == {"exact": 4, "different": 1}
    [one] = sky("reconciliation", "dispute", str(found["id"]), *JSON).json
    assert (one["call"], one["their_seconds"], one["our_seconds"]) == (known[2], 500, 12)


def test_the_caller_decides_between_calls_of_one_moment(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    carry(
        demo_url,
        Ours("442070000001", NOON, 60, 1000, ani="34911000001"),
        Ours("442070000001", NOON, 60, 2000, ani="34911000002"),
    )
    headers = (*HEADERS, "Calling Number")
    file = their(
        ("442070000001", at(1), 60, "0.002", "+34911000002"),
        ("442070000001", at(-1), 60, "0.001", "0034911000001"),
        headers=headers,
    )
    assert counts(reconcile(sky, file)) == {"exact": 2}


def test_a_call_at_midnight_belongs_to_the_period_of_our_clock(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    midnight = datetime(2026, 4, 1, tzinfo=UTC)
    carry(
        demo_url,
        Ours("442070000001", midnight - timedelta(seconds=1), 7200, 10_000),
        Ours("442070000002", midnight + timedelta(seconds=1), 60, 10_000),
    )
    file = their(
        ("442070000001", "2026-04-01 00:00:01", 7200, "0.01"),
        ("442070000002", "2026-03-31 23:59:59", 60, "0.01"),
    )
    found = reconcile(sky, file)
    assert (counts(found), found["outside"]) == ({"exact": 1}, 1)


@pytest.mark.parametrize(
    ("header", "offset"),
    [("Answer Time", 0), ("Setup Time", -7), ("End Time", 60), ("Start Time", -7), ("Date", 0)],
)
def test_each_kind_of_time_is_compared_with_its_own(
    sky: Sky, demo_url: str, their: Callable[..., str], header: str, offset: int
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    headers = ("Called Number", header, "Duration", "Cost")
    file = their(("442070000001", at(offset), 60, "0.01"), headers=headers)
    assert counts(reconcile(sky, file, "--window-seconds", "1")) == {"exact": 1}


# ------------------------------------------------------------------ the file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-03-10T13:00:00+01:00", ()),
        ("2026-03-10 13:00:00", ("--time-zone", "Europe/Madrid")),
        ("2026-03-10 12:00:00 UTC", ("--time-zone", "Europe/Madrid")),
        ("10.03.2026 12:00", ()),
        ("10/03/2026 12:00:00", ("--date-order", "dmy")),
        ("3/10/26 12:00:00 PM", ("--date-order", "mdy")),
        ("1773144000", ()),
        ("1773144000123", ()),
    ],
)
def test_times_are_read_as_they_are_meant(
    sky: Sky, demo_url: str, their: Callable[..., str], text: str, words: tuple[str, ...]
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    found = reconcile(
        sky, their(("442070000001", text, 60, "0.01")), "--window-seconds", "1", *words
    )
    assert counts(found) == {"exact": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("61", ()),
        ("60.2", ()),
        ("1:01", ()),
        ("00:01:01", ()),
        ("1.01", ("--duration-unit", "minutes")),
        ("60001", ("--duration-unit", "milliseconds")),
    ],
)
def test_durations_are_read_as_they_are_meant(
    sky: Sky, demo_url: str, their: Callable[..., str], text: str, words: tuple[str, ...]
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 61, 10_000))
    assert counts(reconcile(sky, their(("442070000001", at(), text, "0.01")), *words)) == {
        "exact": 1
    }


def test_semicolons_decimal_commas_titles_and_other_headers(
    sky: Sky, demo_url: str, tmp_path: Path
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 12_346))
    file = tmp_path / "their.csv"
    file.write_text(
        "\ufeffAcme Carrier, calls of March\n\nWann;Wohin;Dauer;Betrag\n"
        "10.03.2026 12:00:00;00442070000001;60;0,0123456\n",
        encoding="utf-8",
    )
    words = [
        word
        for column, header in (
            ("time", "Wann"), ("called", "wohin"), ("seconds", "Dauer"), ("amount", "Betrag"),
        )
        for word in ("--map", f"{column}={header}")
    ]  # fmt: skip
    assert counts(reconcile(sky, str(file), *words)) == {"exact": 1}


def test_a_spreadsheet_is_read(sky: Sky, demo_url: str, tmp_path: Path) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    book = Workbook()
    assert book.active is not None
    book.active.append(HEADERS)
    # A spreadsheet's times have no zone.
    book.active.append((442070000001, NOON.replace(tzinfo=None), 60, 0.01))
    file = tmp_path / "their.xlsx"
    book.save(file)
    assert counts(reconcile(sky, str(file))) == {"exact": 1}


def test_every_bad_line_is_told_and_nothing_is_kept(sky: Sky, their: Callable[..., str]) -> None:
    file = their(
        ("442070000001", at(), 60, "0.01"),
        ("anonymous", at(), 60, "0.01"),
        ("442070000001", "03/04/2026 12:00", 60, "0.01"),
        ("442070000001", "2026-03-10", 60, "0.01"),
        ("442070000001", at(), "-5", "0.01"),
        ("442070000001", at(), "soon", "x"),
        ("4.42E+11", at(), 60, "-1"),
        ("442070000001", "", 60, "0.01"),
        ("442070000001", at(), 60, "0.01", "more"),
    )
    ran = run(sky, file, *JSON)
    assert ran.status == 2
    assert "8 bad lines of 9: nothing was kept" in ran.err
    assert [(one["line"], one["column"], one["value"]) for one in ran.json] == [
        (3, "Called Number", "anonymous"),
        (4, "Answer Time", "03/04/2026 12:00"),
        (5, "Answer Time", "2026-03-10"),
        (6, "Duration", "-5"),
        (7, "Duration", "soon"),
        (7, "Cost", "x"),
        (8, "Cost", "-1"),
        (8, "Called Number", "4.42E+11"),
        (9, "Answer Time", ""),
        (10, "", "more"),
    ]
    assert "--date-order" in ran.json[1]["reason"]
    assert "a spreadsheet has rounded it" in ran.json[7]["reason"]
    assert sky("reconciliation", "list", *JSON).json == []
    kept = run(sky, file, "--skip-errors", *JSON)
    assert (kept.status, kept.json["bad_lines"], kept.json["their_calls"]) == (0, 8, 1)
    assert "line 4, Answer Time, '03/04/2026 12:00': which is the day" in kept.err


def test_another_currency_is_a_bad_line(sky: Sky, their: Callable[..., str]) -> None:
    file = their(("442070000001", at(), 60, "0.01", "EUR"), headers=(*HEADERS, "Currency"))
    [bad] = run(sky, file, *JSON).json
    assert (bad["value"], bad["reason"]) == ("EUR", "the provider's account is in USD")


def test_a_file_that_is_read_wrongly_stops_early(
    sky: Sky, their: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_file, "BAD_LINES_MAX", 3)
    ran = run(sky, their(*[("442070000001", "03/04/2026 12:00", 60, "0")] * 9))
    assert (ran.status, ran.out) == (2, "")
    assert "more than 3 bad lines, the first: line 2, Answer Time" in ran.err


@pytest.mark.parametrize(
    ("headers", "words", "expected"),
    [
        (("Destination", "Answer Time", "Duration"), (), "--map called=HEADER"),
        (("Called Number", "Duration"), (), "with a called number, a time and a duration"),
        (("Called Number", "Answer Time", "Cost"), (), "a time and a duration"),
        (("To", "Number", "Date", "Duration"), (), "'To' and 'Number' could both be called"),
        (HEADERS, ("--map", "price=Cost"), "--map price: no such column; there are called,"),
        (HEADERS, ("--map", "Cost"), "COLUMN=HEADER is expected"),
        (HEADERS, ("--map", "rate=Price"), "and 'Price' (--map rate)"),
        (HEADERS, ("--from", "yesterday"), "is no instant"),
        (HEADERS, ("--tolerance-amount", "-1"), "it is 0 or more"),
        (HEADERS, ("--provider", "alice"), "alice is a customer: providers send such files"),
        (HEADERS, ("--provider", "nobody"), "there is no account 'nobody'"),
    ],
)
def test_a_mistake_is_told(
    sky: Sky,
    their: Callable[..., str],
    headers: tuple[str, ...],
    words: tuple[str, ...],
    expected: str,
) -> None:
    ran = run(sky, their(headers=headers), *words)
    assert ran.status != 0
    assert ran.out == ""
    assert expected in ran.err


# ------------------------------------------------------------------ kept


def test_the_same_file_again_changes_nothing(
    sky: Sky, demo_url: str, their: Callable[..., str]
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    file = their(("442070000001", at(), 90, "0.02"))
    first = reconcile(sky, file)
    assert first["again"] is False
    carry(demo_url, Ours("442070000002", NOON, 60, 10_000))
    again = run(sky, file, *JSON)
    assert "--anew does it again" in again.err
    assert again.json == {**first, "again": True}
    # Compared in another way it is another comparison, and anew the old one goes.
    other = reconcile(sky, file, "--tolerance-seconds", "60", "--tolerance-amount", "1")
    assert counts(other) == {"within": 1, "missing_at_theirs": 1}
    anew = reconcile(sky, file, "--anew")
    assert counts(anew) == {"different": 1, "missing_at_theirs": 1}
    listed = sky("reconciliation", "list", "--provider", "acme", *JSON).json
    assert [one["id"] for one in listed] == [other["id"], anew["id"]]
    assert sky("reconciliation", "list", "--provider", "globex", *JSON).json == []
    gone = sky("reconciliation", "show", str(first["id"]))
    assert gone.status == 1
    assert f"there is no reconciliation {first['id']}" in gone.err


def test_a_comparison_is_on_record(sky: Sky, demo_url: str, their: Callable[..., str]) -> None:
    file = their(("442070000001", at(), 90, "0.02"))
    for _ in range(2):
        reconcile(sky, file)
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        cursor.execute(
            "SELECT subject, after ->> 'file' FROM audit_log WHERE action = 'reconciliation run'"
        )
        assert cursor.fetchall() == [("acme", "their.csv")]


def test_the_dispute_list_is_a_file(
    sky: Sky, demo_url: str, their: Callable[..., str], tmp_path: Path
) -> None:
    carry(demo_url, Ours("442070000001", NOON, 60, 10_000))
    line = ("00442070000009", at(), 90, "0.02", "=1+1")
    found = reconcile(sky, their(line, headers=(*HEADERS, "Country")))
    words = ("reconciliation", "dispute", str(found["id"]), "--out")
    text, book = tmp_path / "dispute.csv", tmp_path / "dispute.xlsx"
    assert "2 calls" in sky(*words, str(text)).err
    assert "2 calls" in sky(*words, str(book)).err
    rows = list(csv.DictReader(io.StringIO(text.read_text(encoding="utf-8"))))
    assert [(one["class"], one["amount_more"]) for one in rows] == [
        ("missing-at-ours", "0.020000"),
        ("missing-at-theirs", "-0.010000"),
    ]
    sheet: Any = load_workbook(book).active
    head, theirs, ours = sheet.iter_rows(values_only=True)
    line_of = dict(zip(head, theirs, strict=True))
    assert (line_of["their number"], line_of["their amount"]) == ("442070000009", 0.02)
    assert (line_of["destination"], line_of["our amount"]) == ("=1+1", None)
    assert dict(zip(head, ours, strict=True))["call"] == int(rows[1]["call"])
    ran = sky(*words, str(tmp_path / "dispute.pdf"))
    assert (ran.status, "ends in .csv or .xlsx" in ran.err) == (2, True)


@pytest.mark.parametrize("code", ["north", "alice"])
def test_it_is_the_operators_business(
    sky: Sky, demo_url: str, their: Callable[..., str], code: str
) -> None:
    found = reconcile(sky, their(("442070000001", at(), 90, "0.02")))
    for words in (
        ("list",),
        ("show", str(found["id"])),
        ("dispute", str(found["id"])),
    ):
        ran = sky("--as", code, "reconciliation", *words)
        assert (ran.status, ran.out) == (1, "")
        assert "what providers charge: for the operator only" in ran.err
    ran = sky("--as", code, "reconciliation", "run", their(), "--provider", "acme", *MARCH)
    assert ran.status == 1
    assert "there is no account 'acme'" in ran.err


@pytest.mark.parametrize("table", ["reconciliation", "reconciliation_code", "reconciliation_call"])
def test_row_security_lets_nobody_else_near(demo_url: str, table: str) -> None:
    with contextlib.closing(connect(demo_url)) as connection, connection.cursor() as cursor:
        enter(cursor, "north")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608 - the words above
