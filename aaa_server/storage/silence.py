"""A database that is connected and does not answer: noticed, told and said once.

A lost connection tells of itself. A server that stands still does not: its disk hangs, it is
stopped, somebody holds the rows that a transaction needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime

    from aaa_server.storage.database import Connection

log = Logger()

# A transaction takes milliseconds. By then every caller hears that his takes too long.
SILENT_SECONDS_MAX = 3.0
LOOK_SECONDS = 1.0


class Silence:
    """Of these connections, whose statements all take less than `SILENT_SECONDS_MAX`."""

    def __init__(self, connections: Sequence[Connection], clock: IReactorTime) -> None:
        self._connections = connections
        self._clock = clock
        self._since: float | None = None  # of the silence that was logged
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    @property
    def seconds(self) -> float:
        """For how long the oldest statement has had no answer."""
        return max(connection.silent_seconds for connection in self._connections)

    @property
    def reason(self) -> str:
        """That the database does not answer, in words; '' when it does."""
        seconds = self.seconds
        if seconds <= SILENT_SECONDS_MAX:
            return ""
        return f"the database has not answered for {seconds:.0f} s"

    def start(self) -> None:
        """Look for it again and again."""
        self._loop.start(LOOK_SECONDS, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        seconds, now = self.seconds, self._clock.seconds()
        if seconds > SILENT_SECONDS_MAX:
            if self._since is None:
                self._since = now - seconds
                log.error(
                    "The database does not answer: a statement has waited for {seconds:.1f} s",
                    seconds=seconds,
                )
        elif self._since is not None:
            # One that was lost meanwhile is said to be lost, and then to be back.
            if all(connection.available for connection in self._connections):
                log.info(
                    "The database answers again after {seconds:.1f} s", seconds=now - self._since
                )
            self._since = None
