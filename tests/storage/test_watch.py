"""Calls that have fallen silent are found, however many are in progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from aaa_server.storage import watch
from aaa_server.storage.plain import PlainTransaction, finished
from aaa_server.storage.watch import SilentCalls

if TYPE_CHECKING:
    import pytest
    from psycopg2.extensions import connection as Connection

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OVER, GOING_ON = NOW - timedelta(seconds=1), NOW + timedelta(hours=1)


def open_calls(connection: Connection, numbers: range, expires_at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO call (client_id, session_key, call_id, status, expires_at, authorized_at,
                              sip_call_id)
            SELECT 1, 'call-' || n, n, 'authorized', %s, %s, repeat('x', 500)
              FROM generate_series(%s, %s) AS n
            """,
            (expires_at, NOW, numbers.start, numbers.stop - 1),
        )


def close(connection: Connection, calls: list[tuple[int, str]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM call WHERE session_key = ANY (%s)", ([key for _, key in calls],)
        )


def looks(connection: Connection, silent: SilentCalls, count: int) -> list[list[tuple[int, str]]]:
    execute = PlainTransaction(connection).execute
    return [finished(silent.look(execute, NOW)) for _ in range(count)]


def test_a_round_finds_each_once(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BLOCKS_A_LOOK", 3)
    open_calls(connection, range(200), GOING_ON)
    open_calls(connection, range(200, 230), OVER)
    open_calls(connection, range(230, 300), GOING_ON)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('call') / 8192")
        blocks = cursor.fetchall()[0][0]
    a_round = -(-blocks // 3)
    assert a_round > 3
    silent = SilentCalls()
    for _ in range(2):  # and the next round as well, as nobody has closed them
        found = [key for part in looks(connection, silent, a_round) for _, key in part]
        assert sorted(found) == sorted(f"call-{number}" for number in range(200, 230))


def test_a_large_table_is_gone_round_in_as_few_looks_as_that(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BLOCKS_A_LOOK", 1)
    monkeypatch.setattr(watch, "LOOKS_A_ROUND_MAX", 4)
    open_calls(connection, range(500), GOING_ON)
    open_calls(connection, range(500, 501), OVER)
    silent = SilentCalls()
    # The first look does not know yet how large the table is.
    found = [key for part in looks(connection, silent, 6) for _, key in part]
    assert found.count("call-500") == 1


def test_nothing_is_passed_over_while_there_are_too_many(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_MAX", 4)
    open_calls(connection, range(10), OVER)
    silent = SilentCalls()
    sizes = []
    for _ in range(3):
        [part] = looks(connection, silent, 1)
        sizes.append(len(part))
        close(connection, part)
    assert sizes == [4, 4, 2]


def test_an_empty_table_and_one_that_has_shrunk(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BLOCKS_A_LOOK", 1)
    silent = SilentCalls()
    assert looks(connection, silent, 2) == [[], []]
    open_calls(connection, range(100), GOING_ON)
    looks(connection, silent, 3)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE call")
    open_calls(connection, range(1), OVER)
    assert [(1, "call-0")] in looks(connection, silent, 2)


def test_only_the_part_is_read(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT 1 FROM call"
            " WHERE ctid >= '(500,0)' AND ctid < '(1000,0)' AND expires_at <= now() LIMIT 500"
        )
        assert "Tid Range Scan" in str(cursor.fetchall())
