"""The demo world in a database of its own, and servers that speak for it."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.demo import load_demo
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.secrets import Keyring
from tests.integration.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.embedded import EmbeddedPostgres

NewDatabase = Callable[[str], contextlib.AbstractContextManager[str]]
StartServer = Callable[..., Server]
Serving = Callable[..., contextlib.AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key that the demo's secrets are sealed with."""
    return tmp_path_factory.mktemp("integration") / "secrets.key"


@pytest.fixture(scope="session")
def demo(cluster: EmbeddedPostgres, administrator: Cursor, template: str, key_file: Path) -> str:
    """The name of the database with the demo data that every server gets a copy of."""
    # Other folders of tests have it too, sealed with a key of their own.
    name = f"template_demo_{secrets.token_hex(4)}"
    administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = cluster.url.replace("/sky_aaa?", f"/{name}?")
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        assert load_demo(cursor, Keyring.open(key_file))
    return name


@pytest.fixture(scope="session")
def serving(
    demo: str, new_database: NewDatabase, key_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Serving:
    """A server on a new copy of the demo until the block ends; it has logged no traceback."""
    numbers = itertools.count(1)

    @contextlib.contextmanager
    def serving(**options: Any) -> Iterator[Server]:
        folder = tmp_path_factory.mktemp(f"server-{next(numbers)}")
        with new_database(demo) as url:
            server = Server(folder, url, key_file, **options)
            try:
                server.start()
                yield server
            finally:
                if server.process is not None:
                    server.stop()
                print(server.log)  # noqa: T201 - shown when the test fails
            assert "Traceback" not in server.log, server.log

    return serving


@pytest.fixture(scope="module")
def server(serving: Serving) -> Iterator[Server]:
    """A server that the tests of one module share."""
    with serving() as started:
        yield started
