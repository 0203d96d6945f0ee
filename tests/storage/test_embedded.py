from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest

from aaa_server.config import Config, DatabaseConfig
from aaa_server.storage import embedded
from aaa_server.storage.database import DatabaseUnavailable, connect, transaction
from aaa_server.storage.embedded import EmbeddedPostgres, open_database
from tests.integration.server import alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Without fsync these tests take a tenth of the time; the product's setting is tested by name.
SMALL = {"shared_buffers": "16MB", "fsync": "off"}

# Opens the database in the folder argv[1], says so, and waits for the end of its input.
OPENER = """
import sys
from pathlib import Path
from aaa_server.storage.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), settings={"shared_buffers": "16MB", "fsync": "off"}):
    print("open", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """A short folder that every user may enter, with the server in it stopped afterwards."""
    path = Path(tempfile.mkdtemp(prefix="sky-e-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    if (path / "postgresql.lock").exists():
        # Whatever a test left running, the last one out stops it.
        with EmbeddedPostgres(path, settings=SMALL) as last:
            pass
        shutil.rmtree(last.home.parent)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Shared by the tests of this module: what they start, they stop; the data stay."""
    with new_folder() as path:
        yield path


@pytest.fixture
def fresh_folder() -> Iterator[Path]:
    with new_folder() as path:
        yield path


@pytest.fixture
def opener(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OPENER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def pid_file(server: EmbeddedPostgres) -> Path:
    """There while the server runs, and after it was killed."""
    return server.data / "postmaster.pid"


def pid_of(server: EmbeddedPostgres) -> int:
    return int(pid_file(server).read_text().split()[0])


def test_what_was_written_is_there_at_the_next_start(folder: Path) -> None:
    with (
        EmbeddedPostgres(folder, settings=SMALL) as server,
        contextlib.closing(connect(server.url)) as connection,
        transaction(connection) as cursor,
    ):
        cursor.execute("CREATE TABLE fruit AS SELECT 'apple' AS name")
    assert not pid_file(server).exists()
    with EmbeddedPostgres(folder, settings=SMALL) as server:
        assert rows(server.url, "SELECT name FROM fruit") == [("apple",)]


def test_durability_is_on_and_only_the_socket_is_listened_on(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        assert rows(
            server.url,
            "SELECT name || '=' || setting FROM pg_settings WHERE name IN ('fsync',"
            " 'synchronous_commit', 'full_page_writes', 'listen_addresses') ORDER BY name",
        ) == [
            ("fsync=on",),
            ("full_page_writes=on",),
            ("listen_addresses=",),
            ("synchronous_commit=on",),
        ]
    for name in ("data", "run", "log"):
        assert (server.home / name).stat().st_mode & 0o077 == 0


def test_nobody_else_s_operating_system_user_gets_in(folder: Path) -> None:
    with EmbeddedPostgres(folder, settings=SMALL) as server:
        allowed = (server.data / "pg_ident.conf").read_text()
        owner = pwd.getpwuid(server.home.stat().st_uid).pw_name
        me = pwd.getpwuid(os.geteuid()).pw_name
        assert set(allowed.split('"')[1::2]) == {owner, me, "root"}


def test_others_join_and_the_last_one_out_stops_it(
    folder: Path, opener: Callable[[], subprocess.Popen[str]]
) -> None:
    starter = opener()
    assert starter.stdout is not None
    assert starter.stdout.readline() == "open\n"
    with EmbeddedPostgres(folder, settings=SMALL) as joined:
        starter.communicate("")
        assert rows(joined.url, "SELECT 1") == [(1,)]
    assert not pid_file(joined).exists()


def test_many_that_start_at_once_share_one_server(
    folder: Path, opener: Callable[[], subprocess.Popen[str]]
) -> None:
    processes = [opener() for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
    for process in processes:
        process.communicate("")
        assert process.returncode == 0


def test_a_killed_starter_leaves_a_server_that_is_joined(
    folder: Path, opener: Callable[[], subprocess.Popen[str]]
) -> None:
    starter = opener()
    assert starter.stdout is not None
    assert starter.stdout.readline() == "open\n"
    starter.kill()
    starter.wait()
    with EmbeddedPostgres(folder, settings=SMALL) as server:
        assert rows(server.url, "SELECT 1") == [(1,)]
    assert not pid_file(server).exists()


def test_an_interrupt_for_the_foreground_s_process_group_spares_the_server(
    folder: Path,
) -> None:
    with EmbeddedPostgres(folder, settings=SMALL) as server:
        assert os.getpgid(pid_of(server)) != os.getpgid(0)


def test_a_killed_server_recovers_with_what_was_committed(folder: Path) -> None:
    with EmbeddedPostgres(folder, settings=SMALL) as server:
        rows(server.url, "CREATE TABLE vegetable (); SELECT 1")
        pid = pid_of(server)
        # What it had started ends a moment after it, and holds its memory until then.
        children = list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it is gone")
        wait_until(lambda: not any(map(alive, children)), "they are gone too")
        with EmbeddedPostgres(folder, settings=SMALL) as again:
            assert rows(again.url, "SELECT count(*) FROM vegetable") == [(0,)]


def test_a_pid_file_whose_number_belongs_to_another_process_is_stale(folder: Path) -> None:
    with EmbeddedPostgres(folder, settings=SMALL) as server:
        pass
    pid_file(server).write_text(f"{os.getpid()}\n")
    with EmbeddedPostgres(folder, settings=SMALL) as server:
        assert rows(server.url, "SELECT 1") == [(1,)]


def test_an_interrupted_first_start_is_begun_anew(fresh_folder: Path) -> None:
    with EmbeddedPostgres(fresh_folder, settings=SMALL) as server:
        pass
    unfinished = server.home / "data.new"
    server.data.rename(unfinished)
    (unfinished / "PG_VERSION").unlink()
    with EmbeddedPostgres(fresh_folder, settings=SMALL) as server:
        assert rows(server.url, "SELECT 1") == [(1,)]


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    server = EmbeddedPostgres(folder, settings={**SMALL, "shared_buffers": "none"})
    with pytest.raises(DatabaseUnavailable, match="shared_buffers"):
        server.open()
    with EmbeddedPostgres(folder, settings=SMALL):
        pass


def test_settings_of_the_operator_s_own_are_kept(fresh_folder: Path) -> None:
    with EmbeddedPostgres(fresh_folder, settings=SMALL) as server:
        pass
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("work_mem = '7MB'\n")
    with EmbeddedPostgres(fresh_folder, settings=SMALL) as server:
        assert rows(server.url, "SHOW work_mem") == [("7MB",)]


def test_a_deep_folder_has_its_socket_in_a_short_one_of_its_own(fresh_folder: Path) -> None:
    deep = fresh_folder / ("deep" * 30)
    with EmbeddedPostgres(deep, settings=SMALL) as server:
        made = Path(str(rows(server.url, "SHOW unix_socket_directories")[0][0]))
        assert len(bytes(made / ".s.PGSQL.5432")) <= 107
        assert made.stat().st_mode & 0o777 == 0o700
    if made.parent == server.home:
        # The data moved to a short folder, since root's own is out of the server's reach.
        shutil.rmtree(server.home.parent)
        return
    made.rmdir()
    # The name can be foreseen, so anybody could have laid a link there.
    made.symlink_to(fresh_folder)
    with pytest.raises(DatabaseUnavailable, match="is not a folder of user"):
        EmbeddedPostgres(deep, settings=SMALL).open()
    made.unlink()


def test_root_s_own_folder_gets_its_database_elsewhere(
    fresh_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an ordinary user there is nothing to move: the data stay where they were asked for."""
    private = fresh_folder / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(embedded, "SYSTEM_FOLDER", fresh_folder / "system")
    with EmbeddedPostgres(private / "var", settings=SMALL) as server:
        assert rows(server.url, "SELECT 1") == [(1,)]
    expected = "system" if os.geteuid() == 0 else "private"
    assert server.data.relative_to(fresh_folder).parts[0] == expected
    assert private.stat().st_mode & 0o777 == 0o700
    # Once there, always there: a permission given later does not hide the data.
    private.chmod(0o755)
    with EmbeddedPostgres(private / "var", settings=SMALL) as again:
        assert again.data == server.data


def test_a_named_database_is_used_and_nothing_is_started(database_url: str, tmp_path: Path) -> None:
    config = Config(database=DatabaseConfig(url=database_url, directory=tmp_path / "var"))
    with open_database(config) as opened:
        assert opened.url == database_url
    assert not (tmp_path / "var").exists()


def test_a_named_database_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Nobody listens there, and nobody else gets it.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        config = Config(database=DatabaseConfig(url=f"postgresql://127.0.0.1:{port}/x"))
        with pytest.raises(DatabaseUnavailable, match="refused"):
            open_database(config)


def test_the_configured_folder_s_database_is_opened_and_closed(folder: Path) -> None:
    config = Config(database=DatabaseConfig(directory=folder))
    with open_database(config) as opened:
        assert rows(opened.url, "SELECT current_database()") == [("sky_aaa",)]
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(opened.url)
