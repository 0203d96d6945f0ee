"""The real server for a test: `sky-aaa serve` in a process of its own, on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aaa_server.storage.database import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
SKY_AAA = str(Path(sys.executable).with_name("sky-aaa"))
# How long to wait for what comes in a moment where nothing is in the way: the machine is shared.
WAIT_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 40.0
POLL_SECONDS = 0.01
# Below the range that the kernel gives to clients, so that no client sits on a server's
# port while that server is down.
PORTS = range(20_000, 32_000)
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody uses, by UDP or TCP, on both families; other tests do not get it either.

    Another process of the tests may ask at the same moment, and a server that is down has its
    port still: a name that only one process can have is kept for each.
    """
    while True:
        number = random.choice(PORTS)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.ExitStack() as stack:
            try:
                name.bind(f"\0sky-aaa test port {number}")
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")):
                        stack.enter_context(socket.socket(family, kind)).bind((address, number))
            except OSError:
                name.close()
                continue
        _reserved.append(name)
        return number


def alive(number: int) -> bool:
    """Whether the process exists and is more than an entry in the process table."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(holds: Callable[[], Any], what: str, *, seconds: float = WAIT_SECONDS_MAX) -> Any:
    """What `holds` returns once that is true; fails naming `what` when it never is."""
    deadline = time.monotonic() + seconds
    while not (outcome := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_SECONDS)
    return outcome


class Server:
    """`sky-aaa serve`; `options` are lines of its TOML, by section."""

    def __init__(
        self,
        folder: Path,
        url: str,
        key_file: Path,
        *,
        addresses: Sequence[str] = ("127.0.0.1", "::1"),
        processes: int = 1,
        services: Sequence[str] = ("radius",),
        options: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = url
        self.auth_port = free_port()
        self.acct_port = free_port()
        self.key_file = str(key_file)
        self.processes = processes
        self._six = any(":" in address for address in addresses)
        self.config = folder / "sky-aaa.toml"
        self._sections = {
            "database": f"url = {json.dumps(url)}",
            "secrets": f"key_file = {json.dumps(str(key_file))}",
            "radius": f"address = {json.dumps(list(addresses))}\n"
            f"auth_port = {self.auth_port}\nacct_port = {self.acct_port}\n"
            f"processes = {processes}",
            "metrics": "port = 0",
        }
        for section, lines in (options or {}).items():
            said = self._sections.get(section)
            self._sections[section] = lines if said is None else f"{said}\n{lines}"
        self.config.write_text(
            f"services = {json.dumps(list(services))}\n"
            + "\n".join(f"[{section}]\n{lines}\n" for section, lines in self._sections.items())
        )
        self._log = folder / "log"
        self._begun = 0  # where the last start's part of the log begins
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that the server has logged, of every start."""
        return self._log.read_text(encoding="utf-8")

    @property
    def said(self) -> str:
        """What the last start has printed and logged."""
        return self._log.read_bytes()[self._begun :].decode()

    def start(self, command: Sequence[str] = (), environ: dict[str, str] | None = None) -> None:
        """Start, and wait until every process answers. `command` instead of `sky-aaa serve`."""
        assert self.process is None, "it runs"
        with self._log.open("ab") as log:
            self._begun = log.tell()
            self.process = subprocess.Popen(
                command or [SKY_AAA, "--config", str(self.config), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment() | (environ or {}),
                cwd=self.config.parent,
                start_new_session=True,
            )
        # The first process opens its ports once to see that they are free, and closes them again.
        wait_until(lambda: self._runs() and (command or "ready;" in self.said), "it is ready")
        wait_until(lambda: self._runs() and self._listens(six=False), "all processes listen")
        if self._six and not command:
            wait_until(lambda: self._runs() and self._listens(six=True), "and by IPv6")

    def _runs(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended:\n{self.said}"
        return True

    def _listens(self, *, six: bool) -> bool:
        ports = (self.auth_port, self.acct_port)
        return all(sockets_on(port, six=six) >= self.processes for port in ports)

    def kill(self) -> None:
        """SIGKILL, as a crash or the kernel short of memory would; further processes end too."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process = None

    def children(self) -> list[int]:
        """Numbers of its further processes."""
        assert self.process is not None
        number = self.process.pid
        file = Path(f"/proc/{number}/task/{number}/children")
        return [int(child) for child in file.read_text().split()]

    def command(
        self, *arguments: str, expected_status: int = 0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A `sky-aaa` command on the same configuration, once it has ended."""
        done = subprocess.run(
            [SKY_AAA, "--config", self.config, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
            timeout=2 * WAIT_SECONDS_MAX,
        )
        assert done.returncode == expected_status, done.stdout + done.stderr
        return done

    def audit(self) -> None:
        """Fails with the list of differences when the books do not agree."""
        assert json.loads(self.command("audit", "-o", "json").stdout) == []

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of one statement, on a connection of its own."""
        with contextlib.closing(connect(self.url, autocommit=True)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description is not None else []


def sockets_on(port: int, *, six: bool = False) -> int:
    """How many UDP sockets of IPv4, or of IPv6, are bound to the port."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/udp6" if six else "/proc/net/udp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(wanted) for line in lines)


def _environment() -> dict[str, str]:
    """The environment without what would change a configuration."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SKY_AAA_") and name != "DATABASE_URL"
    }
