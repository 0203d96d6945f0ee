"""Child processes that never outlive the bench, and what /proc says they have used."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
STOP_SECONDS_MAX = 20
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
UNPRIVILEGED_USER = "nobody"


class Failed(Exception):
    """Something that the bench needs is missing or does not work; says what to do."""


def unprivileged() -> dict[str, Any]:
    """Arguments of Popen that drop root's rights; none when there are none to drop."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give_away(path: Path) -> None:
    """Makes `path` belong to the user of `unprivileged`."""
    rights = unprivileged()
    if rights:
        os.chown(path, rights["user"], rights["group"])


class Child:
    """A server in a session of its own, so that Ctrl-C reaches the bench alone.

    The kernel kills it should the bench be killed. `log` gets all its output.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        log: Path,
        *,
        privileged: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = os.path.basename(arguments[0])
        self.log = log
        libc = ctypes.CDLL(None)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
                **({} if privileged else unprivileged()),
            )
        self.pid = self.process.pid

    def wait_until(self, ready: Callable[[], bool], seconds_max: float) -> None:
        """Raises `Failed` with the end of the log when it ends or never gets ready."""
        deadline = time.monotonic() + seconds_max
        while not ready():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} was not ready in {seconds_max:g} s: {self.tail()}")
            time.sleep(0.05)

    def ended_at(self) -> float:
        """Waits for its end; the monotonic time of it."""
        self.process.wait()
        return time.monotonic()

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log, and the log's name."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([str(self.log), *text])

    def stop(self) -> None:
        """Asks it to end, and kills what is left of its session if it does not."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


class Usage(NamedTuple):
    """What /proc/PID/stat says of one process, in clock ticks and pages."""

    parent: int
    ticks: int
    reaped_ticks: int  # of children that have ended
    resident_pages: int


def family(pid: int) -> list[Usage]:
    """The process and all below it that live."""
    everybody: dict[int, Usage] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                # proc(5): the name in brackets may hold blanks; state is the first field after it.
                state = file.read().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        numbers = [int(state[place]) for place in (1, 11, 12, 13, 14, 21)]
        parent, user, system, reaped_user, reaped_system, resident = numbers
        everybody[int(name)] = Usage(parent, user + system, reaped_user + reaped_system, resident)
    members, grown = {pid}, True
    while grown:
        born = {one for one, usage in everybody.items() if usage.parent in members} - members
        members |= born
        grown = bool(born)
    return [everybody[one] for one in sorted(members) if one in everybody]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all below it, what has ended there included."""
    return sum(usage.ticks + usage.reaped_ticks for usage in family(pid)) / TICKS_A_SECOND


def resident_bytes(pid: int) -> int:
    """Memory of a process and all below it that is in RAM; shared pages count in each."""
    return sum(usage.resident_pages for usage in family(pid)) * os.sysconf("SC_PAGE_SIZE")


def busy_seconds() -> float:
    """CPU time that everything on this machine has used since it started."""
    with open("/proc/stat") as file:
        # proc(5): user nice system idle iowait irq softirq steal; guests are in user.
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(
            int, file.readline().split()[1:9]
        )
    return (user + nice + system + irq + softirq + steal) / TICKS_A_SECOND


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[int]:
    """Loopback ports that nobody uses at this moment, all different."""
    sockets = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
