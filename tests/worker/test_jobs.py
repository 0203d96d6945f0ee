"""Jobs: when they are due, what failures do, and what they leave in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from aaa_server.config import SmtpConfig, WorkerConfig
from aaa_server.storage import jobs
from aaa_server.storage.database import connect, transaction
from aaa_server.worker.job import Job, More, due, retry_seconds, run_job
from aaa_server.worker.jobs import jobs_of

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Clock:
    """Wound by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ask(connection: Connection, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with transaction(connection) as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description is not None else []


def counting(name: str = "count", *, every: int = 60) -> tuple[Job, list[datetime]]:
    ran: list[datetime] = []

    def work(_: Connection, now: datetime) -> str:
        ran.append(now)
        return f"run {len(ran)}"

    return Job(name, every, work, "counts"), ran


def failing(error: Exception) -> Job:
    def work(connection: Connection, now: datetime) -> str:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO event (kind) VALUES ('half-done')")
        raise error

    return Job("fail", 3600, work, "fails")


def state(connection: Connection, name: str) -> jobs.JobState:
    with transaction(connection) as cursor:
        return {state.name: state for state in jobs.states(cursor)}[name]


def names(found: list[Job]) -> list[str]:
    return [job.name for job in found]


def test_a_job_is_due_at_once_and_then_after_its_interval(
    connection: Connection, clock: Clock
) -> None:
    job, ran = counting()
    assert names(due(connection, [job], clock())) == ["count"]
    assert run_job(connection, job, clock).result == "run 1"
    assert due(connection, [job], clock()) == []
    clock.advance(59)
    assert due(connection, [job], clock()) == []
    clock.advance(1)
    assert names(due(connection, [job], clock())) == ["count"]
    run_job(connection, job, clock)
    assert ran == [NOW, NOW + 60 * SECOND]
    kept = state(connection, "count")
    assert (kept.result, kept.runs, kept.failures) == ("run 2", 2, 0)
    assert kept.due_at == clock() + 60 * SECOND


def test_a_job_with_more_to_do_is_due_at_once_behind_the_others(
    connection: Connection, clock: Clock
) -> None:
    other, _ = counting("other")
    run_job(connection, other, clock)
    clock.advance(60)
    many = Job("many", 3600, lambda _, __: More("100 of 1000"), "does much")
    assert run_job(connection, many, clock).result == "100 of 1000"
    assert names(due(connection, [many, other], clock())) == ["many", "other"]
    clock.advance(1)
    run_job(connection, many, clock)
    assert names(due(connection, [many, other], clock())) == ["other", "many"]


def test_slow_jobs_have_a_lock_of_their_own(connection: Connection, database_url: str) -> None:
    first = connect(database_url)
    with transaction(first) as other, transaction(connection) as cursor:
        assert jobs.lead(other)
        assert jobs.lead(cursor, jobs.SLOW_LOCK)
        assert not jobs.lead(other, jobs.SLOW_LOCK)
    first.close()


def test_a_shorter_interval_counts_from_now(connection: Connection, clock: Clock) -> None:
    job, _ = counting(every=86_400)
    run_job(connection, job, clock)
    clock.advance(100)
    assert due(connection, [job], clock()) == []
    assert names(due(connection, [job._replace(every_seconds=60)], clock())) == ["count"]


def test_what_no_version_knows_any_more_is_left_alone(connection: Connection, clock: Clock) -> None:
    job, _ = counting("of-yesterday")
    run_job(connection, job, clock)
    clock.advance(1_000_000)
    assert due(connection, [], clock()) == []


def test_a_failure_is_noted_undone_told_once_and_tried_again_more_slowly(
    connection: Connection, clock: Clock
) -> None:
    job = failing(ValueError("no such thing"))
    waits = []
    for _ in range(12):
        ran = run_job(connection, job, clock)
        assert ran.problem == "no such thing"
        kept = state(connection, "fail")
        waits.append((kept.due_at - clock()).total_seconds())
        clock.now = kept.due_at
        assert names(due(connection, [job], clock())) == ["fail"]
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]
    assert (kept.runs, kept.failed_runs, kept.failures) == (12, 12, 12)
    told = ask(connection, "SELECT kind, detail, account_id FROM event")
    assert told == [("job-failed", {"job": "fail", "reason": "no such thing"}, None)]
    well, _ = counting("fail")
    run_job(connection, well, clock)
    assert state(connection, "fail").failures == 0
    run_job(connection, job, clock)
    assert len(ask(connection, "SELECT FROM event")) == 2


def test_a_failure_waits_no_longer_than_the_interval() -> None:
    assert [retry_seconds(before, 30) for before in range(4)] == [10, 20, 30, 30]
    assert retry_seconds(5, 1) == 10
    assert retry_seconds(10**9, 86_400) == 3600


def test_a_database_error_in_a_job_spoils_nothing_else(
    connection: Connection, clock: Clock
) -> None:
    def work(connection: Connection, _: datetime) -> str:
        with transaction(connection) as cursor:
            cursor.execute("SELECT 1 FROM nowhere")
        return ""

    ran = run_job(connection, Job("broken", 60, work, ""), clock)
    assert ran.problem == 'relation "nowhere" does not exist'
    other, runs = counting()
    run_job(connection, other, clock)
    assert len(runs) == 1


def test_a_lost_connection_is_no_failure_of_the_job(
    connection: Connection, database_url: str, clock: Clock
) -> None:
    def work(lost: Connection, _: datetime) -> str:
        ask(connection, "SELECT pg_terminate_backend(%s)", (lost.info.backend_pid,))
        with transaction(lost) as cursor:
            cursor.execute("SELECT 1")
        return ""

    job = Job("lost", 60, work, "")
    with pytest.raises(psycopg2.Error):
        run_job(connect(database_url), job, clock)
    kept = state(connection, "lost")
    assert (kept.runs, kept.failures, kept.ended_at) == (0, 0, None)
    assert names(due(connection, [job], clock())) == ["lost"]
    # And nobody holds it.
    run_job(connection, counting("lost")[0], clock)


def test_a_job_runs_once_at_a_time(connection: Connection, database_url: str, clock: Clock) -> None:
    tried = []

    def work(mine: Connection, now: datetime) -> str:
        with transaction(connection) as cursor:
            cursor.execute("SET LOCAL lock_timeout = '50ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                jobs.hold(cursor, "alone")
            tried.append(now)
            connection.rollback()
        return ""

    run_job(connect(database_url), Job("alone", 60, work, ""), clock)
    assert tried == [NOW]
    with transaction(connection) as cursor:
        jobs.hold(cursor, "alone")
        jobs.release(cursor, "alone")


def test_there_is_one_worker(connection: Connection, database_url: str) -> None:
    first = connect(database_url)
    with transaction(connection) as cursor:
        assert not jobs.has_worker(cursor)
        with transaction(first) as other:
            assert jobs.lead(other)
        assert jobs.has_worker(cursor)
        assert not jobs.lead(cursor)
        first.close()
    deadline = datetime.now(UTC) + 60 * SECOND
    with transaction(connection) as cursor:
        while not jobs.lead(cursor):
            assert datetime.now(UTC) < deadline


# ------------------------------------------------------------------ the jobs themselves


def job_of(name: str, **changes: Any) -> Job:
    [job] = [job for job in jobs_of(WorkerConfig(**changes), SmtpConfig()) if job.name == name]
    return job


def with_accounts(connection: Connection) -> None:
    ask(
        connection,
        """
        INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency)
        VALUES (1, 'admin', 'admin', NULL, false, 'EUR');
        INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency,
                             low_balance_micros, balance_micros)
        VALUES (2, 'alice', 'customer', 1, true, 'EUR', 5000000, 6000000),
               (3, 'bob', 'customer', 1, true, 'EUR', NULL, 0),
               (4, 'carol', 'customer', 1, true, 'EUR', 0, 0)
        """,
    )


def balance(connection: Connection, account_id: int, micros: int) -> None:
    ask(
        connection,
        "UPDATE account SET balance_micros = %s WHERE account_id = %s",
        (micros, account_id),
    )


def test_a_low_balance_is_told_once_a_crossing(connection: Connection, clock: Clock) -> None:
    with_accounts(connection)
    job = job_of("low-balance")
    told: list[int] = []
    for micros in (6_000_000, 5_000_000, 4_999_999, 1, -5, 4_999_999, 5_000_000, 4_000_000, 0):
        balance(connection, 2, micros)
        for _ in range(2):
            assert not run_job(connection, job, clock).problem
        told.append(len(ask(connection, "SELECT FROM event WHERE kind = 'low-balance'")))
    assert told == [0, 0, 1, 1, 1, 1, 1, 2, 2]
    [(account_id, at, detail), _] = ask(
        connection, "SELECT account_id, at, detail FROM event ORDER BY event_id"
    )
    assert (account_id, at) == (2, NOW)
    assert detail == {
        "balance_micros": 4_999_999,
        "low_balance_micros": 5_000_000,
        "currency": "EUR",
    }


def test_a_threshold_that_is_taken_away_is_silent(connection: Connection, clock: Clock) -> None:
    with_accounts(connection)
    balance(connection, 2, 0)
    ask(connection, "UPDATE account SET low_balance_micros = NULL")
    run_job(connection, job_of("low-balance"), clock)
    assert ask(connection, "SELECT FROM event") == []


def test_an_end_is_told_once_and_another_end_again(connection: Connection, clock: Clock) -> None:
    with_accounts(connection)
    job = job_of("expiry")
    ask(
        connection,
        """
        INSERT INTO card_batch (card_batch_id, owner_id, name, currency, face_value_micros)
        OVERRIDING SYSTEM VALUE
        VALUES (1, 1, 'blue', 'EUR', 0);
        UPDATE account SET expires_at = %s WHERE account_id = 2;
        UPDATE account SET expires_at = %s, card_batch_id = 1 WHERE account_id = 3;
        """,
        (NOW + 10 * SECOND, NOW + 20 * SECOND),
    )
    kinds = []
    for seconds in (0, 10, 5, 5, 100):
        clock.advance(seconds)
        for _ in range(2):
            run_job(connection, job, clock)
        kinds.append([row[0] for row in ask(connection, "SELECT kind FROM event ORDER BY at")])
    assert kinds == [
        [],
        ["account-expired"],
        ["account-expired"],
        ["account-expired", "card-expired"],
        ["account-expired", "card-expired"],
    ]
    ask(
        connection, "UPDATE account SET expires_at = %s WHERE account_id = 2", (NOW + 200 * SECOND,)
    )
    run_job(connection, job, clock)
    assert len(ask(connection, "SELECT FROM event")) == 2
    clock.advance(200)
    run_job(connection, job, clock)
    assert len(ask(connection, "SELECT FROM event WHERE account_id = 2")) == 2


def test_what_is_old_is_forgotten_and_the_rest_stays(connection: Connection, clock: Clock) -> None:
    with_accounts(connection)
    ask(
        connection,
        """
        INSERT INTO event (kind, at)
        SELECT 'tick', %(now)s - make_interval(days => day) FROM generate_series(0, 799) AS day;
        INSERT INTO velocity_limit (limit_id, account_id, name, period, measure, maximum)
        OVERRIDING SYSTEM VALUE
        VALUES (1, 2, 'calls', 'day', 'calls', 10);
        INSERT INTO velocity_use (limit_id, period_from, amount)
        SELECT 1, %(now)s - make_interval(days => day), 1 FROM generate_series(0, 199) AS day;
        INSERT INTO disconnect_order (call_id, client_id, session_key, reason, state, ordered_at)
        VALUES (1, 1, 'a', 'operator', 'acknowledged', %(now)s - interval '500 days'),
               (2, 1, 'b', 'operator', 'sent', %(now)s - interval '500 days'),
               (3, 1, 'c', 'operator', 'gone', %(now)s);
        INSERT INTO digest_nonce (nonce_hash, account_id, last_count, last_response, seen_at)
        SELECT decode(lpad(to_hex(hour), 32, '0'), 'hex'), 2, 1, 'cafe',
               %(now)s - make_interval(hours => hour)
          FROM generate_series(0, 47) AS hour;
        """,
        {"now": NOW},
    )
    ran = run_job(connection, job_of("housekeeping", event_days=400), clock)
    assert ran.result == (
        "106 uses of limits, 23 nonces, 399 events, 1 orders to switches, "
        "0 mailed reports forgotten"
    )
    assert ask(connection, "SELECT count(*), min(at) FROM event") == [
        (401, NOW - timedelta(days=400))
    ]
    assert ask(connection, "SELECT call_id FROM disconnect_order ORDER BY 1") == [(2,), (3,)]
    run_job(connection, job_of("housekeeping", event_days=0), clock)
    assert ask(connection, "SELECT count(*) FROM event") == [(401,)]
