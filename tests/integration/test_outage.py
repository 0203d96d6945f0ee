"""The embedded PostgreSQL stands still, or is killed, under a server that it belongs to."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.auth import ANSWER_AWAITED_SECONDS
from aaa_server.demo import load_demo
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.embedded import EmbeddedPostgres
from aaa_server.storage.migrate import migrate
from aaa_server.storage.secrets import Keyring
from aaa_server.storage.silence import SILENT_SECONDS_MAX
from tests.integration.nas import CALLED, STOP, Nas
from tests.integration.server import Server, alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A second until it is noticed, some more until it runs and everybody has tried again.
BACK_SECONDS_MAX = 30.0
WORKS = "This process is the worker"


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedPostgres]:
    """The demo in a folder of its own; whoever serves it starts it."""
    folder = Path(tempfile.mkdtemp(prefix="sky-", dir="/tmp"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder)
    try:
        with postgres, contextlib.closing(connect(postgres.url)) as connection:
            migrate(connection)
            with transaction(connection) as cursor:
                assert load_demo(cursor, Keyring.open(folder / "secrets.key"))
        yield postgres
    finally:
        shutil.rmtree(folder)
        # Elsewhere, when its user cannot get at the installed binaries.
        shutil.rmtree(postgres.home.parent, ignore_errors=True)


@pytest.fixture
def start(embedded: EmbeddedPostgres, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server on that folder, once."""
    started: list[Server] = []

    def start(**options: Any) -> Server:
        folder = f'directory = "{embedded.directory}"'
        server = Server(
            tmp_path,
            "",
            embedded.directory / "secrets.key",
            options={"database": folder},
            **options,
        )
        started.append(server)
        server.start()
        server.url = embedded.url
        return server

    yield start
    [server] = started
    if server.process is not None:
        server.stop()
    print(server.log)  # noqa: T201 - shown when the test fails
    assert "Traceback" not in server.log


def postmaster(embedded: EmbeddedPostgres) -> int:
    return int((embedded.data / "postmaster.pid").read_text().split()[0])


def working_in(folder: Path) -> list[int]:
    """The processes whose current folder that is: a PostgreSQL's own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").resolve(strict=True) == folder.resolve():
                found.append(int(process.name))
    return found


def kill(embedded: EmbeddedPostgres) -> None:
    """As a machine short of memory does. Its sessions live on for a moment, and may answer."""
    number = postmaster(embedded)
    sessions = working_in(embedded.data)
    os.kill(number, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, sessions)), "all of it has ended")


@contextlib.contextmanager
def standing_still(embedded: EmbeddedPostgres) -> Iterator[None]:
    """All of PostgreSQL's processes are stopped while the block lasts."""
    number = postmaster(embedded)
    os.kill(number, signal.SIGSTOP)  # it starts no others from now on
    numbers = [number, *working_in(embedded.data)]
    for number in numbers:
        os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in numbers:
            os.kill(number, signal.SIGCONT)


def page(server: Server, name: str) -> tuple[int, str]:
    """A page of the first process, which said where it is: status and text."""
    port = re.search(r"metrics and health on http port (\d+)", server.said)
    assert port is not None
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/{name}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(server: Server, name: str) -> float:
    text = page(server, "metrics")[1]
    [value] = [line.split()[1] for line in text.splitlines() if line.split()[0] == name]
    return float(value)


def times(server: Server, text: str) -> int:
    """In how many lines of the log it is."""
    return sum(text in line for line in server.log.splitlines())


def wait_for(server: Server, text: str, count: int) -> None:
    wait_until(lambda: times(server, text) == count, f"{text}: {count} times")


def test_a_database_that_stands_still_is_told_of_though_nobody_asks_for_anything(
    embedded: EmbeddedPostgres, start: Callable[..., Server]
) -> None:
    server = start(services=("radius", "worker"))
    wait_for(server, WORKS, 1)
    assert page(server, "readyz") == (200, "ready\n")
    with standing_still(embedded):
        wait_until(lambda: page(server, "readyz")[0] == 503, "it is noticed", seconds=15)
        assert re.fullmatch(r"the database has not answered for \d+ s\n", page(server, "readyz")[1])
        assert metric(server, "sky_aaa_database_silent_seconds") > SILENT_SECONDS_MAX
        # Each of the two processes says so.
        wait_for(server, "The database does not answer", 2)
    wait_until(lambda: page(server, "readyz") == (200, "ready\n"), "it is noticed too")
    wait_for(server, "The database answers again after", 2)
    assert times(server, "The database does not answer") == 2
    assert metric(server, "sky_aaa_database_silent_seconds") < SILENT_SECONDS_MAX
    assert times(server, "database is lost") == 0


def test_what_has_waited_too_long_makes_no_call_and_every_report_is_on_record(
    embedded: EmbeddedPostgres, start: Callable[..., Server]
) -> None:
    server = start()
    nas = Nas(server)
    for key in ("first", "second"):
        assert nas.ask(nas.authorize(key, "bob", CALLED)).granted
    old = [f"ghost-{n}" for n in range(5)]
    with standing_still(embedded):
        # The first is sent to the database, the next is decided ahead, the others wait.
        stops = [nas.report(STOP, key, "bob", CALLED, seconds=9) for key in ("first", "second")]
        assert nas.hears_nothing(stops[0])
        for key in old:
            assert nas.hears_nothing(nas.authorize(key, "alice", CALLED), seconds=0.1)
        assert nas.hears_nothing(stops[1])
        wait_until(lambda: page(server, "readyz")[0] == 503, "it is noticed", seconds=15)
        wait_until(
            lambda: metric(server, "sky_aaa_oldest_seconds") > ANSWER_AWAITED_SECONDS + 2,
            "nobody waits any more",
        )
        assert nas.hears_nothing(nas.authorize("young", "alice", CALLED))
    wait_until(
        lambda: metric(server, 'sky_aaa_dropped_total{reason="late"}') == len(old),
        "they are dropped",
    )
    for stop in stops:
        nas.ask(stop, again_seconds=0.3)
    wait_until(
        lambda: server.query("SELECT session_key FROM call") == [("young",)], "it is on record"
    )
    assert server.query(
        "SELECT session_key, seconds FROM cdr WHERE session_key = ANY (%s) ORDER BY 1",
        [*old, "first", "second"],
    ) == [("first", 9), ("second", 9)]
    assert metric(server, 'sky_aaa_dropped_total{reason="overloaded"}') == 0
    # Who asks again is answered as if for the first time.
    assert nas.ask(nas.authorize(old[0], "alice", CALLED)).granted
    server.audit()


def test_a_database_that_is_killed_is_started_again_once_by_those_who_need_it(
    embedded: EmbeddedPostgres, start: Callable[..., Server]
) -> None:
    server = start(services=("radius", "worker"), processes=2)
    wait_for(server, WORKS, 1)
    nas = Nas(server)
    for turn in (1, 2):
        kill(embedded)
        asked = nas.authorize(f"after-{turn}", "bob", CALLED)
        assert nas.ask(asked, seconds=BACK_SECONDS_MAX, again_seconds=0.5).granted
        wait_for(server, "The database is back after", 2 * turn)
        wait_for(server, "The jobs have the database again", turn)
        wait_for(server, WORKS, 1 + turn)
        # Once a process of those that answer, and once for all jobs.
        assert times(server, "The database is lost") == 2 * turn
        assert times(server, "No jobs: the database is lost") == turn
        assert times(server, "had ended: started again") == turn
    assert server.stop() == 0
    assert working_in(embedded.data) == []


@pytest.mark.parametrize("delay_seconds", [0.0, 0.7, 1.2, 2.0])
def test_a_server_that_is_stopped_leaves_none_behind_that_was_being_started(
    embedded: EmbeddedPostgres, start: Callable[..., Server], delay_seconds: float
) -> None:
    server = start(services=("radius", "worker"), processes=2)
    wait_for(server, WORKS, 1)
    kill(embedded)
    time.sleep(delay_seconds)
    # As Ctrl-C does, which all processes of a terminal get.
    assert server.process is not None
    number = server.process.pid
    os.killpg(number, signal.SIGINT)
    assert server.process.wait(60) == 0
    server.process = None
    wait_until(lambda: working_in(embedded.data) == [], "all of it has ended", seconds=5)
    assert not alive(number)
