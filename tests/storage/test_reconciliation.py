"""Their calls and ours are paired as by a naive search for the best pairs, whatever they are."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaa_server import sheet
from aaa_server.provider_file import COLUMNS, ProviderFile, Reading
from aaa_server.storage import accounts, reconciliation, viewer
from aaa_server.storage.reconciliation import Question

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 4, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
WINDOW = 30
NUMBERS = ("442070000001", "442070000002", "44207")


class Known(NamedTuple):
    """A call on either side, answered so many seconds after noon."""

    number: str
    second: int
    seconds: int


known = st.lists(
    st.builds(Known, st.sampled_from(NUMBERS), st.integers(0, 120), st.integers(1, 20)),
    max_size=12,
)


@pytest.fixture
def world(connection: Connection) -> Connection:
    """A provider with one route."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency)
            VALUES (1, 'admin', 'admin', NULL, false, 'EUR'),
                   (2, 'acme', 'provider', 1, false, 'EUR');
            INSERT INTO tariff (currency) VALUES ('EUR');
            INSERT INTO resource_group (name, direction, account_id, tariff_id)
            SELECT 'RG_1', 'out', 2, tariff_id FROM tariff
            """
        )
    return connection


def carry(cursor: Cursor, number: int, call: Known) -> None:
    answered = NOON + timedelta(seconds=call.second)
    cursor.execute(
        """
        INSERT INTO cdr (call_id, client_id, session_key, party_id, levels, routes,
                         granted_seconds, authorized_at, ani, called, sip_call_id, ended_at,
                         ended_by, duration_ms, seconds, resource_group_out_id, postings)
        SELECT %(number)s, 1, %(number)s::text, '{}', '[]',
               '[[' || resource_group_id || ',"RG_1","x/' || %(called)s
               || '",2,1,"44","EUR",60000000,0,0,1,1,0,0,10000000000]]',
               3600, %(answered)s, '', %(called)s, '', %(ended)s, 'stop', %(seconds)s * 1000,
               %(seconds)s, resource_group_id, 1
          FROM resource_group
        """,
        {
            "number": number,
            "called": call.number,
            "answered": answered,
            "ended": answered + timedelta(seconds=call.seconds),
            "seconds": call.seconds,
        },
    )
    cursor.execute(
        """
        INSERT INTO charge (call_id, level, number, account_id, currency, amount_micros,
                            billed_seconds, rate_id, prefix)
        VALUES (%s, -1, 1, 2, 'EUR', %s, %s, 0, '44')
        """,
        (number, call.seconds * 1000, call.seconds),
    )


def compare(cursor: Cursor, path: Path, *, tolerance_seconds: int) -> int:
    eyes = viewer.operator(cursor)
    with sheet.opened(path, columns=len(COLUMNS)) as table:
        file = ProviderFile(table, path, currency="EUR", reading=Reading(), mapping={})
        return reconciliation.run(
            cursor,
            eyes,
            accounts.find(cursor, eyes, "acme"),
            Question(
                BEGIN, END, tolerance_seconds, tolerance_seconds * 1000, window_seconds=WINDOW
            ),
            sha256=reconciliation.digest(path),
            file_name=path.name,
            file=file,
        )


def best_pairs(ours: list[Known], theirs: list[Known]) -> dict[int, int]:
    """Their place -> our place: the nearest two first, then the nearest of the rest."""
    pairs = sorted(
        (abs(one.second - other.second) + abs(one.seconds - other.seconds), line, place)
        for line, one in enumerate(theirs)
        for place, other in enumerate(ours)
        if one.number == other.number and abs(one.second - other.second) <= WINDOW
    )
    found: dict[int, int] = {}
    for _, line, place in pairs:
        if line not in found and place not in found.values():
            found[line] = place
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ours=known, theirs=known, tolerance=st.integers(0, 5))
def test_pairs_are_those_of_a_naive_search(
    world: Connection, tmp_path: Path, ours: list[Known], theirs: list[Known], tolerance: int
) -> None:
    path = tmp_path / "their.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("called", "answer", "seconds", "amount"))
        for call in theirs:
            at = (NOON + timedelta(seconds=call.second)).isoformat()
            writer.writerow((call.number, at, call.seconds, f"{call.seconds / 1000:.3f}"))
    pairs = best_pairs(ours, theirs)
    apart = [abs(theirs[line].seconds - ours[place].seconds) for line, place in pairs.items()]
    with world.cursor() as cursor:
        for place, call in enumerate(ours):
            carry(cursor, place + 1, call)
        number = compare(cursor, path, tolerance_seconds=tolerance)
        eyes = viewer.operator(cursor)
        found = reconciliation.find(cursor, eyes, number)
        compared = list(reconciliation.calls(cursor, eyes, number, reconciliation.CLASSES))
    world.rollback()
    assert found.exact == apart.count(0)
    assert found.within == sum(0 < seconds <= tolerance for seconds in apart)
    assert found.different == sum(seconds > tolerance for seconds in apart)
    assert found.missing_at_ours == len(theirs) - len(pairs)
    assert found.missing_at_theirs == len(ours) - len(pairs)
    assert found.our_seconds == sum(call.seconds for call in ours)
    assert (found.their_micros or 0) == sum(call.seconds for call in theirs) * 1000
    # Line 1 has the headers, and calls are numbered from 1.
    inexact = {
        line + 2: place + 1
        for line, place in pairs.items()
        if theirs[line].seconds != ours[place].seconds
    }
    assert {
        one.line: one.call_id for one in compared if one.line is not None and one.call_id
    } == inexact
    assert all(one.differs == ("duration", "amount") for one in compared if one.kind == "different")
