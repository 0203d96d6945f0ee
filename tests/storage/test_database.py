from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from aaa_server.storage import database
from aaa_server.storage.database import (
    ChargingDatabase,
    Connection,
    DatabaseUnavailable,
    Transaction,
    connect,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from psycopg2.extensions import connection as PsycopgConnection
    from psycopg2.extensions import cursor as PsycopgCursor
    from twisted.internet.epollreactor import EPollReactor
    from twisted.logger import LogEvent

    from tests.conftest import Run


@pytest.fixture
def make(reactor: EPollReactor) -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def one(url: str, **options: Any) -> Connection:
        made.append(Connection(url, reactor=reactor, clock=reactor, **options))
        return made[-1]

    yield one
    for connection in made:
        connection.close()


@pytest.fixture
def live(make: Callable[..., Connection], run: Run, database_url: str) -> Connection:
    connection = make(database_url)
    run(connection.connect())
    return connection


@pytest.fixture
def logged() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


def end_sessions(connection: PsycopgConnection) -> None:
    """Ends every other session of the test's database, as a server that goes down does."""
    with transaction(connection) as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def until(reactor: EPollReactor, condition: Callable[[], bool]) -> None:
    while not condition():
        await deferLater(reactor, 0.01)


# ------------------------------------------------------------------ statements


def test_the_rows_of_the_last_statement_are_returned(live: Connection, run: Run) -> None:
    assert run(live.execute("SELECT 1; SELECT %s, %s", (2, "three"))) == [(2, "three")]
    assert run(live.execute("SELECT 1; SET jit = off")) == []


def test_large_parameters_and_large_results_go_through(live: Connection, run: Run) -> None:
    sent = list(range(300_000))
    rows = run(live.execute("SELECT n FROM unnest(%s::bigint[]) AS list (n)", (sent,)))
    assert [number for (number,) in rows] == sent


def test_an_error_is_psycopg2_s_and_the_connection_goes_on(live: Connection, run: Run) -> None:
    with pytest.raises(psycopg2.errors.UndefinedTable):
        run(live.execute("SELECT 1; SELECT * FROM nowhere; SELECT 2"))
    with pytest.raises(psycopg2.errors.DivisionByZero):
        run(live.execute("SELECT 1 / (n - 3) FROM generate_series(1, 5) AS list (n)"))
    with pytest.raises(psycopg2.ProgrammingError, match="can't adapt"):
        run(live.execute("SELECT %s", (object(),)))
    assert run(live.execute("SELECT 4")) == [(4,)]


def test_a_value_that_python_has_no_type_for_is_an_error_and_the_connection_goes_on(
    live: Connection, run: Run
) -> None:
    for year in ("20000-01-01", "0044-03-15 BC"):
        with pytest.raises(ValueError, match="year"):
            run(live.execute("SELECT %s::date", (year,)))
        assert run(live.execute("SELECT 4")) == [(4,)]


def test_settings_and_prepared_statements_are_there_from_the_start(
    make: Callable[..., Connection], run: Run, database_url: str
) -> None:
    connection = make(
        database_url,
        settings=["jit=off", "plan_cache_mode=force_generic_plan"],
        prepared={"double": "SELECT 2 * $1::bigint"},
    )
    run(connection.connect())
    assert run(connection.execute("SHOW jit")) == [("off",)]
    assert run(connection.execute("SHOW plan_cache_mode")) == [("force_generic_plan",)]
    assert run(connection.execute("EXECUTE double (%s)", (21,))) == [(42,)]


# ------------------------------------------------------------------ lost and back


def test_what_runs_when_the_server_goes_fails_and_later_statements_work_again(
    make: Callable[..., Connection],
    run: Run,
    reactor: EPollReactor,
    database_url: str,
    connection: PsycopgConnection,
    logged: Sequence[LogEvent],
) -> None:
    live = make(database_url, prepared={"one": "SELECT 1"})
    run(live.connect())
    running = live.execute("SELECT pg_sleep(60)")
    run(deferLater(reactor, 0.05))
    end_sessions(connection)
    with pytest.raises(DatabaseUnavailable, match="terminating connection"):
        run(running)
    assert not live.available
    with pytest.raises(DatabaseUnavailable, match="not connected"):
        run(live.execute("SELECT 1"))
    run(until(reactor, lambda: live.available))
    assert run(live.execute("EXECUTE one")) == [(1,)]
    said = [event["log_format"] for event in logged if event["log_namespace"] == database.__name__]
    assert said == ["The database is lost: {reason}", "The database is back after {seconds:.1f} s"]


def test_an_idle_connection_notices_that_the_server_went(
    live: Connection, run: Run, reactor: EPollReactor, connection: PsycopgConnection
) -> None:
    end_sessions(connection)
    run(until(reactor, lambda: not live.available))
    run(until(reactor, lambda: live.available))


def test_a_failed_first_attempt_raises_and_is_said_once(
    make: Callable[..., Connection],
    run: Run,
    reactor: EPollReactor,
    tmp_path: Path,
    logged: Sequence[LogEvent],
) -> None:
    nowhere = make(f"postgresql:///none?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="No such file"):
        run(nowhere.connect())
    run(deferLater(reactor, 0.5))
    assert len(logged) == 1


def test_a_server_that_says_nothing_is_given_up(
    make: Callable[..., Connection], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS_MAX", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = make(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/none")
        with pytest.raises(DatabaseUnavailable, match="no connection within"):
            run(mute.connect())
        mute.close()


def test_a_setting_that_does_not_exist_is_a_reason(
    make: Callable[..., Connection], run: Run, database_url: str
) -> None:
    wrong = make(database_url, settings=["no_such_setting=1"])
    with pytest.raises(DatabaseUnavailable, match="no_such_setting"):
        run(wrong.connect())
    assert not wrong.available


def test_a_cancelled_statement_costs_the_connection_not_the_next_statement(
    live: Connection, run: Run, reactor: EPollReactor
) -> None:
    running = live.execute("SELECT pg_sleep(60)")
    running.cancel()
    with pytest.raises((DatabaseUnavailable, CancelledError)):
        run(running)
    run(until(reactor, lambda: live.available))
    assert run(live.execute("SELECT 1")) == [(1,)]


def test_close_fails_what_runs_and_ends_the_attempts(
    live: Connection, run: Run, reactor: EPollReactor
) -> None:
    running = live.execute("SELECT pg_sleep(60)")
    live.close()
    with pytest.raises(DatabaseUnavailable, match="was closed"):
        run(running)
    run(deferLater(reactor, 0.3))
    assert not live.available


# ------------------------------------------------------------------ transactions


@pytest.fixture
def charging(live: Connection, run: Run) -> ChargingDatabase:
    run(live.execute("CREATE TABLE fruit (name text PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)"))
    return ChargingDatabase(live)


def fruits(connection: PsycopgConnection) -> set[str]:
    with transaction(connection) as cursor:
        cursor.execute("SELECT name FROM fruit")
        return {name for (name,) in cursor.fetchall()}


def test_a_transaction_returns_what_its_work_returns_once_it_is_committed(
    charging: ChargingDatabase, run: Run, connection: PsycopgConnection
) -> None:
    async def work(unit: Transaction) -> int:
        await unit.execute("INSERT INTO fruit VALUES ('apple')")
        rows = await unit.execute("INSERT INTO fruit VALUES ('pear') RETURNING name")
        return len(rows)

    assert run(charging.transaction(work)) == 1
    assert fruits(connection) == {"apple", "pear"}


def test_the_last_statement_may_carry_the_commit(
    charging: ChargingDatabase, run: Run, connection: PsycopgConnection
) -> None:
    async def work(unit: Transaction) -> list[tuple[object, ...]]:
        rows = await unit.execute("SELECT count(*) FROM fruit")
        await unit.commit_with("INSERT INTO fruit VALUES (%s)", ("plum",))
        return rows

    assert run(charging.transaction(work)) == [(0,)]
    assert fruits(connection) == {"plum"}


def test_work_that_raises_leaves_nothing_behind(
    charging: ChargingDatabase, run: Run, connection: PsycopgConnection
) -> None:
    async def work(unit: Transaction) -> None:
        await unit.execute("INSERT INTO fruit VALUES ('apple')")
        raise LookupError("no more")

    with pytest.raises(LookupError):
        run(charging.transaction(work))
    assert fruits(connection) == set()


def test_an_error_at_commit_is_raised(charging: ChargingDatabase, run: Run) -> None:
    async def work(unit: Transaction) -> None:
        await unit.execute("INSERT INTO fruit VALUES ('apple'), ('apple')")

    with pytest.raises(psycopg2.errors.UniqueViolation):
        run(charging.transaction(work))


def test_a_swallowed_error_is_never_taken_for_a_commit(
    charging: ChargingDatabase, run: Run, connection: PsycopgConnection
) -> None:
    async def work(unit: Transaction) -> str:
        await unit.execute("INSERT INTO fruit VALUES ('apple')")
        with contextlib.suppress(psycopg2.Error):
            await unit.execute("SELECT 1 / 0")
        return "all is well"

    with pytest.raises(AssertionError, match="swallowed"):
        run(charging.transaction(work))
    assert fruits(connection) == set()


def test_transactions_take_turns(
    charging: ChargingDatabase, run: Run, reactor: EPollReactor
) -> None:
    seen: list[str] = []

    def work(name: str) -> Callable[[Transaction], Any]:
        async def steps(unit: Transaction) -> None:
            for _ in range(3):
                await unit.execute("SELECT pg_sleep(0.001)")
                seen.append(name)

        return steps

    run(gatherResults([ensureDeferred(charging.transaction(work(name))) for name in "abc"]))
    assert "".join(seen) == "aaabbbccc"


def test_the_loser_of_a_deadlock_is_run_again(
    charging: ChargingDatabase,
    run: Run,
    reactor: EPollReactor,
    connection: PsycopgConnection,
    administrator: PsycopgCursor,
) -> None:
    run(charging.connection.execute("INSERT INTO fruit VALUES ('apple'), ('pear')"))
    run(charging.connection.execute("SET deadlock_timeout = '10ms'"))
    cursor = connection.cursor()
    cursor.execute("SET deadlock_timeout = '1min'")
    cursor.execute("SELECT FROM fruit WHERE name = 'pear' FOR UPDATE")
    other = threading.Thread(
        target=cursor.execute, args=("SELECT FROM fruit WHERE name = 'apple' FOR UPDATE",)
    )
    attempts, backend = 0, connection.info.backend_pid

    async def work(unit: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await unit.execute("SELECT FROM fruit WHERE name = 'apple' FOR UPDATE")
        if attempts == 1:
            other.start()
            # Who waits first looks for a deadlock before there is one, and never again.
            await until(reactor, lambda: waits(administrator, backend))
            await unit.execute("SELECT FROM fruit WHERE name = 'pear' FOR UPDATE")

    finished = ensureDeferred(charging.transaction(work))
    run(wait_for_thread(reactor, other, connection))
    run(finished)
    assert (attempts, charging.retries) == (2, 1)


def waits(administrator: PsycopgCursor, backend: int) -> bool:
    """Whether the session waits for a lock."""
    administrator.execute(
        "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", (backend,)
    )
    return administrator.fetchall() == [(True,)]


async def wait_for_thread(
    reactor: EPollReactor, other: threading.Thread, connection: PsycopgConnection
) -> None:
    while not other.ident or other.is_alive():
        await deferLater(reactor, 0.01)
    connection.rollback()


def test_a_transaction_is_retried_five_times_and_no_more(
    charging: ChargingDatabase, run: Run
) -> None:
    attempts = 0

    async def work(unit: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await unit.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    with pytest.raises(psycopg2.errors.SerializationFailure):
        run(charging.transaction(work))
    assert attempts == 6


def test_a_database_lost_in_a_transaction_is_neither_retried_nor_committed(
    charging: ChargingDatabase, run: Run, reactor: EPollReactor, connection: PsycopgConnection
) -> None:
    attempts = 0

    async def work(unit: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await unit.execute("INSERT INTO fruit VALUES ('apple')")
        end_sessions(connection)
        gone: Deferred[list[tuple[object, ...]]] = unit.execute("SELECT 1")
        await gone

    with pytest.raises(DatabaseUnavailable):
        run(charging.transaction(work))
    run(until(reactor, lambda: charging.connection.available))
    assert attempts == 1
    assert fruits(connection) == set()


# ------------------------------------------------------------------ plain connections


def test_a_plain_connection_says_why_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="No such file"):
        connect(f"postgresql:///none?host={tmp_path}")


def test_a_url_that_is_none_is_said_to_be_one() -> None:
    with pytest.raises(DatabaseUnavailable, match="invalid"):
        connect("postgresql://[half/x")


def test_a_vanished_server_is_given_up_soon_unless_the_url_says_otherwise(
    database_url: str,
) -> None:
    with contextlib.closing(connect(f"{database_url}&keepalives_count=9")) as opened:
        said = opened.get_dsn_parameters()
    assert (said["keepalives_idle"], said["keepalives_count"]) == ("10", "9")


def test_a_block_that_raises_is_rolled_back(connection: PsycopgConnection) -> None:
    def broken() -> None:
        with transaction(connection) as cursor:
            cursor.execute("CREATE TABLE fruit (name text)")
            raise LookupError

    with pytest.raises(LookupError):
        broken()
    with transaction(connection) as cursor:
        cursor.execute("SELECT to_regclass('fruit')")
        assert cursor.fetchone() == (None,)
