"""The months of the call records: made in time, found without a look into the others, detached."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.config import SmtpConfig, WorkerConfig
from aaa_server.storage import cdr_months
from aaa_server.storage.arrays import bounds
from aaa_server.storage.charging_sql import PREPARED, SETTINGS
from aaa_server.storage.database import connect, transaction
from aaa_server.worker.job import Job, run_job
from aaa_server.worker.jobs import jobs_of
from tests.scenario import Scenario

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# The migration makes the months of the machine's clock.
LOADED = NOW = datetime.now(UTC)
YEARS = 3


@pytest.fixture(autouse=True)
def of_the_migration(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """`NOW` is no earlier than the migration, though a month may have ended in between."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", max(LOADED, months(connection)[0]))


def ask(connection: Connection, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with transaction(connection) as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description is not None else []


def months(connection: Connection) -> list[datetime]:
    rows = ask(connection, "SELECT begins FROM cdr_months() ORDER BY begins")
    return [begins.astimezone(UTC) for (begins,) in rows]


def month_of(at: datetime, later: int = 0) -> datetime:
    number = at.year * 12 + at.month - 1 + later
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


def record(connection: Connection, call_id: int, at: datetime, *, key: str = "") -> None:
    ask(
        connection,
        """
        INSERT INTO cdr (call_id, client_id, session_key, party_id, levels, routes,
                         granted_seconds, authorized_at, ani, called, sip_call_id, ended_at,
                         ended_by, duration_ms, seconds)
        VALUES (%s, 1, %s, '{}', '[]', '[]', 60, %s, '', '', '', %s, 'stop', 0, 0)
        """,
        (call_id, key or f"call-{call_id}", at, at),
    )


def places(connection: Connection) -> dict[int, str]:
    """The table that each record lies in."""
    return dict(ask(connection, "SELECT call_id, tableoid::regclass::text FROM cdr"))


def job(**changes: Any) -> Job:
    [found] = [
        job for job in jobs_of(WorkerConfig(**changes), SmtpConfig()) if job.name == "call-records"
    ]
    return found


def run(connection: Connection, now: datetime, **changes: int) -> str:
    ran = run_job(connection, job(**changes), lambda: now)
    assert not ran.problem
    return ran.result


def test_this_month_and_the_next_two_are_there_from_the_beginning(connection: Connection) -> None:
    first = months(connection)[0]
    assert month_of(LOADED) <= first <= month_of(datetime.now(UTC))
    assert months(connection) == [month_of(first, later) for later in range(3)]
    assert run(connection, NOW) == "0 months made, 0 detached"


def test_months_are_made_ahead_of_time_once(connection: Connection) -> None:
    later = month_of(NOW, 14) + timedelta(days=3)
    assert run(connection, later) == "3 months made, 0 detached"
    assert run(connection, later) == "0 months made, 0 detached"
    assert months(connection)[-3:] == [month_of(NOW, 14 + ahead) for ahead in range(3)]


def test_records_of_a_month_without_a_table_move_when_it_is_made(connection: Connection) -> None:
    late, ahead = month_of(NOW, -5) + timedelta(days=10), month_of(NOW, 30)
    for call_id, at in enumerate((NOW, late, ahead, datetime(2001, 2, 3, tzinfo=UTC)), start=1):
        record(connection, call_id, at)
    assert [place == "cdr_default" for _, place in sorted(places(connection).items())] == [
        False,
        True,
        True,
        True,
    ]
    assert run(connection, NOW) == "1 months made, 0 detached"
    assert places(connection) == {
        1: f"cdr_{NOW:%Y_%m}",
        2: f"cdr_{late:%Y_%m}",
        3: "cdr_default",
        4: "cdr_default",
    }
    run(connection, month_of(NOW, 29))
    assert places(connection)[3] == f"cdr_{ahead:%Y_%m}"
    # Whatever was disabled to move them is in force again.
    for table in ("cdr", "cdr_default", f"cdr_{late:%Y_%m}"):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            ask(connection, f"DELETE FROM {table}")  # noqa: S608


def test_the_bounds_of_a_month_are_those_of_utc(connection: Connection) -> None:
    ask(connection, "SET TIME ZONE 'Pacific/Auckland'")
    begins = month_of(NOW, 7)
    with transaction(connection) as cursor:
        assert cdr_months.add(cursor, begins + timedelta(days=12))
        assert not cdr_months.add(cursor, begins)
    name = f"cdr_{begins:%Y_%m}"
    ends = month_of(NOW, 8)
    for call_id, at in enumerate(
        (begins - timedelta(microseconds=1), begins, ends - timedelta(microseconds=1), ends), 1
    ):
        record(connection, call_id, at)
    inside = {call_id for call_id, place in places(connection).items() if place == name}
    assert inside == {2, 3}


def test_one_key_at_one_instant_is_one_call(connection: Connection) -> None:
    record(connection, 1, NOW, key="once")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        record(connection, 2, NOW, key="once")
    record(connection, 2, NOW + timedelta(seconds=1), key="once")


def test_old_months_are_detached_whole_and_stay_known(connection: Connection) -> None:
    for call_id, back in enumerate((0, 1, 2, 3, 4, 5), start=1):
        at = month_of(NOW, -back) + timedelta(days=2)
        ask(connection, "SELECT cdr_add_month(%s)", (at,))
        record(connection, call_id, at)
    assert run(connection, NOW) == "0 months made, 0 detached"
    assert run(connection, NOW, call_record_months=4) == "0 months made, 1 detached"
    # Three are kept at least.
    assert run(connection, NOW, call_record_months=1) == "0 months made, 1 detached"
    assert sorted(places(connection)) == [1, 2, 3, 4]
    gone = f"cdr_detached_{month_of(NOW, -4):%Y_%m}"
    assert ask(connection, f"SELECT call_id FROM {gone}") == [(5,)]  # noqa: S608
    assert ask(connection, "SELECT call_id FROM cdr_ever ORDER BY 1") == [
        (number,) for number in range(1, 7)
    ]
    with pytest.raises(psycopg2.errors.RestrictViolation):
        ask(connection, f"DELETE FROM {gone}")  # noqa: S608
    # A record that comes for a detached month finds a place, and no new table is made.
    record(connection, 7, month_of(NOW, -4) + timedelta(days=1))
    assert run(connection, NOW, call_record_months=3) == "0 months made, 0 detached"
    assert places(connection)[7] == "cdr_default"


def test_a_column_that_came_later_is_null_in_detached_months(connection: Connection) -> None:
    at = month_of(NOW, -9)
    ask(connection, "SELECT cdr_add_month(%s)", (at,))
    record(connection, 1, at)
    run(connection, NOW, call_record_months=3)
    ask(connection, "ALTER TABLE cdr ADD COLUMN colour text DEFAULT 'blue'")
    ask(connection, "SELECT cdr_join_detached()")
    record(connection, 2, NOW)
    assert ask(connection, "SELECT call_id, colour FROM cdr_ever ORDER BY 1") == [
        (1, None),
        (2, "blue"),
    ]


def test_a_month_is_not_waited_for_while_somebody_reads(
    connection: Connection, database_url: str
) -> None:
    reader = connect(database_url)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cdr")
    later = month_of(NOW, 14)
    ran = run_job(connection, job(), lambda: later)
    assert "lock timeout" in ran.problem
    reader.close()
    assert run(connection, later) == "3 months made, 0 detached"


# ------------------------------------------------------------------ how records are found


def with_years(connection: Connection) -> None:
    for back in range(12 * YEARS):
        ask(connection, "SELECT cdr_add_month(%s)", (month_of(NOW, -back),))
        record(connection, back + 1, month_of(NOW, -back) + timedelta(hours=1), key="again")
    for setting in SETTINGS:
        name, _, value = setting.partition("=")
        ask(connection, "SELECT set_config(%s, %s, false)", (name, value))


def scanned(plan: Any) -> set[str]:
    """The months of cdr that a plan looks into when it is run."""
    found = set()
    name = str(plan.get("Relation Name", ""))
    if name.startswith("cdr_") and plan.get("Actual Loops", 1):
        found.add(name)
    for part in plan.get("Plans", ()):
        found |= scanned(part)
    return found


def looked_into(connection: Connection, statement: str) -> set[str]:
    [(plan,)] = ask(connection, f"EXPLAIN (ANALYZE, FORMAT json) EXECUTE {statement}")
    if isinstance(plan, str):
        plan = json.loads(plan)
    return scanned(plan[0]["Plan"])


def around(now: datetime) -> set[str]:
    begins, ends = now - timedelta(days=32), now + timedelta(days=32)
    return {
        f"cdr_{month:%Y_%m}"
        for month in (month_of(NOW, later) for later in range(-3, 4))
        if month_of(begins) <= month <= month_of(ends)
    }


def test_a_look_by_session_key_opens_the_months_it_can_be_in_and_no_others(
    connection: Connection,
) -> None:
    with_years(connection)
    ask(connection, f"PREPARE load AS {PREPARED['load']}")
    since, until = bounds([NOW])
    for _ in range(3):
        found = looked_into(
            connection,
            f"load ('{{1}}', '{{again}}', '{{1}}', '{{}}', '{{}}', {since}, {until}, '{{}}')",
        )
        assert found <= around(NOW) | {"cdr_default"}
        assert 1 <= len(found) <= 4
    rows = ask(
        connection,
        f"EXECUTE load ('{{1}}', '{{again}}', '{{1}}', '{{}}', '{{}}', {since}, {until}, '{{}}')",
    )
    assert [row[10] for row in rows if row[10] is not None] == [1]
    # A Stop that says that it is of two years ago is looked for there as well.
    since, until = bounds([month_of(NOW, -24)])
    found = looked_into(
        connection,
        f"load ('{{1}}', '{{again}}', '{{1}}', '{{}}', '{{}}', {since}, {until}, '{{}}')",
    )
    assert f"cdr_{month_of(NOW, -24):%Y_%m}" in found


def test_a_correction_opens_the_month_of_its_record(connection: Connection) -> None:
    with_years(connection)
    ask(connection, f"PREPARE correct_cdrs AS {PREPARED['correct_cdrs']}")
    at = month_of(NOW, -20) + timedelta(hours=1)
    text = at.isoformat()
    found = looked_into(
        connection,
        "correct_cdrs ('{21}', '{9000}', '{9}', '{16}', '{NULL}', '{NULL}', '{1}', '{\"{}\"}',"
        f" '{{NULL}}', '{{\"{text}\"}}', '{text}', '{text}')",
    )
    assert found == {f"cdr_{at:%Y_%m}"}
    assert ask(connection, "SELECT call_id, seconds FROM cdr WHERE seconds > 0") == [(21, 9)]


def test_a_refused_attempt_that_goes_on_takes_its_record_along(connection: Connection) -> None:
    with_years(connection)
    ask(connection, f"PREPARE reopen_cdrs AS {PREPARED['reopen_cdrs']}")
    old = month_of(NOW, -1) + timedelta(hours=1)
    ask(connection, "EXECUTE reopen_cdrs ('{2}', %s, '-infinity', 'infinity')", ([NOW],))
    [(at, place)] = ask(
        connection, "SELECT authorized_at, tableoid::regclass::text FROM cdr WHERE call_id = 2"
    )
    assert (at, place) == (NOW, f"cdr_{NOW:%Y_%m}")
    assert at != old


def test_an_attempt_that_is_refused_again_and_again_has_one_record(connection: Connection) -> None:
    scenario = Scenario(connection)
    scenario.check(
        """
        rate      retail 44  0.60 60/60
        account   acme   0.10  retail
        at 2026-08-31T23:59:30Z
        authorize s1 acme 442071838750  -> refused not-enough
        stop      s1 0s
        after 40s
        authorize s1 acme 442071838750  -> refused not-enough
        after 1s
        authorize s1 acme 442071838750  -> refused not-enough
        stop      s1 0s
        """
    )
    rows = ask(connection, "SELECT authorized_at, ended_at FROM cdr")
    assert rows == [(datetime(2026, 9, 1, 0, 0, 11, tzinfo=UTC),) * 2]
