"""The database goes away under load: silence, one line in the log, and service by itself."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aaa_server.demo import load_demo
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.embedded import EmbeddedPostgres
from aaa_server.storage.migrate import migrate
from aaa_server.storage.secrets import Keyring
from tests.integration.load import ENOUGH, SLICE_SECONDS, Load, minute_prices, prove
from tests.integration.nas import CALLED, STOP, Nas
from tests.integration.server import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import cursor as Cursor

    from tests.integration.conftest import Serving

OUTAGE_SECONDS = 1.5
# The server tries again ever more slowly, at most 5 s apart.
BACK_SECONDS_MAX = 20.0


@pytest.fixture(scope="module")
def cluster_of_its_own() -> Iterator[EmbeddedPostgres]:
    """A durable PostgreSQL that these tests may stop, with the demo in it."""
    with tempfile.TemporaryDirectory(prefix="sky-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        embedded = EmbeddedPostgres(folder, settings={"shared_buffers": "32MB"})
        with embedded:
            with contextlib.closing(connect(embedded.url)) as connection:
                migrate(connection)
                with transaction(connection) as cursor:
                    assert load_demo(cursor, Keyring.open(folder / "secrets.key"))
            yield embedded


@pytest.fixture
def server(cluster_of_its_own: EmbeddedPostgres, tmp_path: Path) -> Iterator[Server]:
    started = Server(
        tmp_path,
        cluster_of_its_own.url,
        cluster_of_its_own.directory / "secrets.key",
        processes=2,
        options={"charging": f"slice_seconds = {SLICE_SECONDS}"},
    )
    started.start()
    yield started
    if started.process is not None:
        started.stop()
    assert "Traceback" not in started.log, started.log


def postmaster(embedded: EmbeddedPostgres) -> int:
    file = embedded.directory / "postgresql" / "data" / "postmaster.pid"
    return int(file.read_text().split()[0])


def go_away(embedded: EmbeddedPostgres, how: str) -> None:
    if how == "stopped":
        embedded.close()
        return
    # SIGQUIT is PostgreSQL's immediate shutdown: as after a crash it reads its log again.
    number = postmaster(embedded)
    os.kill(number, signal.SIGQUIT)
    wait_until(lambda: not Path(f"/proc/{number}").exists(), "PostgreSQL has ended")
    embedded.close()


def messages(server: Server, text: str) -> list[str]:
    return [line for line in server.log.splitlines() if text in line]


@pytest.mark.parametrize("how", ["stopped", "crashed"])
def test_nothing_acknowledged_is_lost_when_the_database_goes_away(
    cluster_of_its_own: EmbeddedPostgres, server: Server, how: str
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    prices = minute_prices(server)
    load = Load(server, seed)
    try:
        load.until(ENOUGH // 2)
        go_away(cluster_of_its_own, how)
        gone_at = time.monotonic()
        time.sleep(OUTAGE_SECONDS)
        # What was asked before may have been committed, and its answer on its way.
        answered = [asked_at for asked_at, _ in load.answered if asked_at > gone_at]
        assert answered == []
        back_at = time.monotonic()
        cluster_of_its_own.open()
        wait_until(
            lambda: any(at > back_at for _, at in load.answered[-10:]),
            "it answers again",
            seconds=BACK_SECONDS_MAX,
        )
        load.until(ENOUGH // 2)
    finally:
        load.stop()
    # Once a process, however many connections it has and requests failed.
    wait_until(
        lambda: len(messages(server, "database is back")) >= server.processes, "all are back"
    )
    assert len(messages(server, "database is lost")) == server.processes
    assert len(messages(server, "database is back")) == server.processes
    prove(server, load, prices)


def test_a_database_that_lets_nobody_in_means_silence_to_both_kinds_of_requests(
    serving: Serving,
) -> None:
    with serving() as server:
        nas = Nas(server)
        assert nas.ask(nas.authorize("before", "bob", CALLED)).granted
        name = server.url.partition("@/")[2].partition("?")[0]
        elsewhere = server.url.replace(f"/{name}?", "/postgres?")
        with contextlib.closing(connect(elsewhere, autocommit=True)) as connection:
            cursor = connection.cursor()
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            wait_until(lambda: not sessions(cursor, name), "they have ended")
            stop = nas.report(STOP, "before", "bob", CALLED, seconds=30)
            assert nas.hears_nothing(stop)
            assert nas.hears_nothing(nas.authorize("refused?", "bob", CALLED))
            assert nas.hears_nothing(nas.authorize("refused?", "empty", CALLED))
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        nas.ask(stop, again_seconds=0.3)
        nas.ask(stop)
        assert server.query("SELECT session_key, seconds FROM cdr") == [("before", 30)]
        server.audit()


def sessions(cursor: Cursor, database: str) -> list[tuple[int]]:
    cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", (database,))
    return cursor.fetchall()


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """The database does nothing for the server while the block lasts."""
    backends = server.query(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'sky-aaa charging%%'"
    )
    assert backends

    def tell(signal_number: signal.Signals) -> None:
        for (number,) in backends:
            # One of the server before may just be ending.
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal_number)

    tell(signal.SIGSTOP)
    try:
        yield
    finally:
        tell(signal.SIGCONT)


@contextlib.contextmanager
def away(embedded: EmbeddedPostgres) -> Iterator[None]:
    """There is no database while the block lasts."""
    go_away(embedded, "crashed")
    try:
        yield
    finally:
        embedded.open()


def test_a_database_that_stands_still_is_waited_for_and_nothing_is_answered(
    cluster_of_its_own: EmbeddedPostgres, server: Server
) -> None:
    nas = Nas(server)
    assert nas.ask(nas.authorize("frozen", "bob", CALLED)).granted
    with frozen(server):
        stop = nas.report(STOP, "frozen", seconds=9)
        assert nas.hears_nothing(stop)
        assert nas.hears_nothing(nas.authorize("frozen-2", "bob", CALLED))
    nas.ask(stop, again_seconds=0.3)
    assert server.query("SELECT seconds FROM cdr WHERE session_key = 'frozen'") == [(9,)]
    server.audit()


@pytest.mark.parametrize("how", ["away", "frozen"])
def test_an_emergency_call_passes_without_a_database_and_is_on_record_later(
    cluster_of_its_own: EmbeddedPostgres, server: Server, how: str
) -> None:
    nas = Nas(server)  # 112 is one of the demo's
    assert nas.ask(nas.authorize(f"sos-{how}-drill", "empty", "112")).granted
    with away(cluster_of_its_own) if how == "away" else frozen(server):
        answers, waits = [], []
        for n, account in enumerate(("alice", "nobody", "suspended")):
            begun = time.monotonic()
            answers.append(nas.ask(nas.authorize(f"sos-{how}-{n}", account, "112")))
            waits.append(time.monotonic() - begun)
        assert all(answer.granted for answer in answers)
        assert [answer.seconds for answer in answers] == [7200] * 3
        # A caller who waits for the database waits each time; the machine stands still seldom,
        # and not for long.
        assert min(waits) < (1.0 if how == "away" else 2.0)
        assert max(waits) < 6.0
        assert nas.hears_nothing(nas.authorize(f"sos-{how}-not", "alice", CALLED))

    def recorded() -> bool:
        found = server.query(
            "SELECT session_key FROM call WHERE session_key LIKE %s AND called = '112'",
            f"sos-{how}-%",
        )
        return len(found) == 4

    wait_until(recorded, "all of them are on record")
    passed = messages(server, "is let through without a record yet")
    assert [sum(f"sos-{how}-{n} " in line for line in passed) for n in range(3)] == [1, 1, 1]
    for n in range(3):
        nas.ask(nas.report(STOP, f"sos-{how}-{n}", called="112", seconds=61))
    assert server.query("SELECT count(*) FROM charge JOIN cdr USING (call_id) "
                        "WHERE cdr.called = '112' AND amount_micros <> 0") == [(0,)]  # fmt: skip
    server.audit()


def test_a_server_ends_though_its_database_stands_still(
    cluster_of_its_own: EmbeddedPostgres, server: Server
) -> None:
    nas = Nas(server)
    nas.ask(nas.authorize("stuck", "bob", CALLED))
    with frozen(server):
        assert nas.hears_nothing(nas.report(STOP, "stuck", seconds=9))
        assert server.stop() == 0
    assert server.query("SELECT count(*) FROM cdr WHERE session_key = 'stuck'")[0][0] <= 1


def test_a_server_that_finds_no_database_says_so_and_ends(tmp_path: Path) -> None:
    server = Server(tmp_path, "postgresql://nobody@127.0.0.1:1/none", tmp_path / "key")
    done = server.command("serve", expected_status=1)
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
