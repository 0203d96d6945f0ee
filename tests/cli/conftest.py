"""The command line, run in this process against a database of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest

from aaa_server.cli.context import explain_errors
from aaa_server.cli.main import cli
from aaa_server.demo import load_demo
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.secrets import Keyring
from tests.integration.server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

SERVER_SECONDS_MAX = 120.0


class Ran(NamedTuple):
    """What a command printed and returned."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Sky(Protocol):
    """Runs `sky-aaa` with these words."""

    def __call__(self, *words: str) -> Ran: ...


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One key for all databases of the run: they are copies of one another."""
    return tmp_path_factory.mktemp("key") / "secrets.key"


@pytest.fixture(scope="session")
def demo_template(template: str, new_database: Any, key_file: Path) -> Iterator[str]:
    """The name of a database with the demo in it, to be copied."""
    with new_database(template) as url:
        with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
            assert load_demo(cursor, Keyring.open(key_file))
        with contextlib.closing(connect(url)) as connection:
            name = connection.info.dbname
        yield name


@pytest.fixture(scope="session")
def shared_demo_url(demo_template: str, new_database: Any) -> Iterator[str]:
    """A demo database for tests that change nothing, or roll it back."""
    with new_database(demo_template) as url:
        yield url


@pytest.fixture
def demo_owner(shared_demo_url: str) -> Iterator[Cursor]:
    """The shared demo's owner; what it does is rolled back."""
    with contextlib.closing(connect(shared_demo_url)) as connection:
        with connection.cursor() as cursor:
            yield cursor
        connection.rollback()


@pytest.fixture
def demo_url(demo_template: str, new_database: Any) -> Iterator[str]:
    """The demo's database, for this test alone."""
    with new_database(demo_template) as url:
        yield url


@pytest.fixture
def demo_connection(demo_url: str) -> Iterator[Connection]:
    """A blocking connection to it, as its owner."""
    with contextlib.closing(connect(demo_url)) as opened:
        yield opened


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key_file: Path) -> Path:
    """A configuration of this test's own; the machine's is not looked at."""
    for name in list(os.environ):
        if name.startswith("SKY_AAA_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    file = tmp_path / "sky-aaa.toml"
    file.write_text("")
    monkeypatch.setenv("SKY_AAA_CONFIG", str(file))
    monkeypatch.setenv("SKY_AAA_SECRETS_KEY_FILE", str(key_file))
    return file


@pytest.fixture
def bare(settings: Path, capsys: pytest.CaptureFixture[str]) -> Sky:
    """The command line without a database."""

    def run(*words: str) -> Ran:
        status = explain_errors(cli, list(words))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture
def empty(bare: Sky, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Sky:
    """The command line on a migrated database without rows."""
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", database_url)
    return bare


@pytest.fixture
def sky(bare: Sky, demo_url: str, monkeypatch: pytest.MonkeyPatch) -> Sky:
    """The command line on the demo."""
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", demo_url)
    return bare


@pytest.fixture
def unchanged(bare: Sky, shared_demo_url: str, monkeypatch: pytest.MonkeyPatch) -> Sky:
    """The command line on a demo that tests share: for what changes nothing."""
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", shared_demo_url)
    return bare


@pytest.fixture
def served(sky: Sky, demo_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sky]:
    """The command line on the demo, and a server that serves it."""
    auth, acct = free_port(), free_port()
    monkeypatch.setenv("SKY_AAA_RADIUS_ADDRESS", "127.0.0.1,127.0.0.2")
    monkeypatch.setenv("SKY_AAA_RADIUS_AUTH_PORT", str(auth))
    monkeypatch.setenv("SKY_AAA_RADIUS_ACCT_PORT", str(acct))
    monkeypatch.setenv("SKY_AAA_METRICS_PORT", "0")
    monkeypatch.setenv("SKY_AAA_SERVICES", "radius")
    command = [sys.executable, "-m", "aaa_server.cli.main", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            deadline = time.monotonic() + SERVER_SECONDS_MAX
            assert server.stdout is not None
            for line in server.stdout:
                assert time.monotonic() < deadline, "the server does not say that it is ready"
                if line.startswith("ready"):
                    break
            else:
                raise AssertionError("the server ended before it was ready")
            yield sky
        finally:
            server.terminate()
            server.wait(SERVER_SECONDS_MAX)
