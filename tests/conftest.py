"""One private PostgreSQL a run, and in it a fresh migrated database a test."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest
from hypothesis import settings
from psycopg2 import sql
from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import ensureDeferred

from aaa_server.storage.database import connect
from aaa_server.storage.embedded import EmbeddedPostgres
from aaa_server.storage.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from psycopg2.extensions import connection as PsycopgConnection
    from psycopg2.extensions import cursor as PsycopgCursor
    from twisted.internet.epollreactor import EPollReactor

# What a shell starts in the background is deaf to SIGINT, and so would be every server that
# the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine is shared: how long an example takes says nothing.
settings.register_profile("sky", deadline=None, print_blob=True)
settings.load_profile("sky")

RUN_SECONDS_MAX = 60.0
Result = TypeVar("Result")

# A cluster that lives as long as the run: only a power cut could tell the difference.
CLUSTER_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "128MB",
}
# A database is 1400 files: in memory it is copied and dropped ten times faster than on a disk.
MEMORY = Path("/dev/shm")
MEMORY_OCTETS_MIN = 3 * 2**30


class Run(Protocol):
    """Runs the reactor until `awaitable` has its result, and returns or raises it."""

    def __call__(self, awaitable: Awaitable[Result]) -> Result: ...


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedPostgres]:
    """The run's own PostgreSQL, in a short folder since a socket's path is short."""
    folder = Path(tempfile.mkdtemp(prefix="sky-", dir=_cluster_folder()))
    # The server of a test run by root is another user's, who must get there.
    folder.chmod(0o755)
    embedded = EmbeddedPostgres(folder, settings=CLUSTER_SETTINGS)
    try:
        with embedded:
            yield embedded
    finally:
        shutil.rmtree(folder)
        # Elsewhere, when that user cannot get at the installed binaries.
        shutil.rmtree(embedded.home.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def administrator(cluster: EmbeddedPostgres) -> Iterator[PsycopgCursor]:
    """A cursor that makes and drops databases."""
    with contextlib.closing(connect(cluster.url, autocommit=True)) as connection:
        yield connection.cursor()


@pytest.fixture(scope="session")
def template(cluster: EmbeddedPostgres, administrator: PsycopgCursor) -> str:
    """The name of the migrated database that every test's is a copy of."""
    administrator.execute("CREATE DATABASE template_sky")
    with contextlib.closing(connect(url_of(cluster, "template_sky"))) as connection:
        migrate(connection)
    return "template_sky"


@pytest.fixture(scope="session")
def new_database(
    cluster: EmbeddedPostgres, administrator: PsycopgCursor
) -> Callable[[str], contextlib.AbstractContextManager[str]]:
    """The URL of a new copy of the database of that name, until the block ends."""
    numbers = itertools.count(1)

    @contextlib.contextmanager
    def copy(template: str) -> Iterator[str]:
        name = sql.Identifier(f"test_{next(numbers)}")
        administrator.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template))
        )
        yield url_of(cluster, name.string)
        administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    return copy


@pytest.fixture
def database_url(
    template: str, new_database: Callable[[str], contextlib.AbstractContextManager[str]]
) -> Iterator[str]:
    """A migrated database without rows, for this test alone."""
    with new_database(template) as url:
        yield url


@pytest.fixture
def empty_database_url(
    new_database: Callable[[str], contextlib.AbstractContextManager[str]],
) -> Iterator[str]:
    """A database without a schema, for this test alone."""
    with new_database("template0") as url:
        yield url


@pytest.fixture
def connection(database_url: str) -> Iterator[PsycopgConnection]:
    """A blocking connection to this test's database."""
    with contextlib.closing(connect(database_url)) as opened:
        yield opened


@pytest.fixture(scope="session")
def reactor() -> Iterator[EPollReactor]:
    """The reactor, started; it turns while `run` waits for something."""
    # Whichever reactor the platform has; its module has no type of its own.
    started: Any = twisted_reactor
    started.startRunning(installSignalHandlers=False)
    started.iterate(0)
    yield started
    started.stop()
    started.iterate(0)


@pytest.fixture
def run(reactor: EPollReactor) -> Run:
    """Runs the reactor until an awaitable has its result."""

    def until_done(awaitable: Awaitable[Result]) -> Result:
        async def wait() -> Result:
            return await awaitable

        outcome: list[Result] = []
        failed: list[BaseException] = []
        ensureDeferred(wait()).addCallbacks(
            outcome.append, lambda failure: failed.append(failure.value)
        )
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while not outcome and not failed:
            assert time.monotonic() < deadline, "nothing came of it"
            reactor.iterate(0.05)
        if failed:
            raise failed[0]
        return outcome[0]

    return until_done


def _cluster_folder() -> Path:
    """Memory where a run's cluster has room in it, else the disk."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_OCTETS_MIN:
        return MEMORY
    return Path("/tmp")


def url_of(cluster: EmbeddedPostgres, database: str) -> str:
    return cluster.url.replace("/sky_aaa?", f"/{database}?")
