"""Starts the embedded PostgreSQL again when it has ended while this process needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from aaa_server.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.storage.embedded import EmbeddedPostgres

log = Logger()

LOOK_SECONDS = 1.0
AGAIN_SECONDS_MAX = 60.0  # between two attempts, each of which doubles the pause


class Revival:
    """Looks every second while there is no database; starts it in a thread, one at a time.

    `available` says whether there is one. Of several processes that look, the lock of
    `embedded` lets one start it.
    """

    def __init__(
        self, embedded: EmbeddedPostgres, available: Callable[[], bool], reactor: Any
    ) -> None:
        self._embedded = embedded
        self._available = available
        self._reactor = reactor
        self._pause_seconds = LOOK_SECONDS
        self._not_before = 0.0
        # It begins no look before the one before has ended.
        self._loop = LoopingCall(lambda: ensureDeferred(self._look()))
        self._loop.clock = reactor
        self._ended: Deferred[LoopingCall] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._ended = self._loop.start(LOOK_SECONDS, now=False)

    def stop(self) -> Deferred[Any]:
        """Fires when nothing is being started, and nothing will be."""
        if self._ended is None:
            return succeed(None)
        self._loop.stop()
        return self._ended

    async def _look(self) -> None:
        if self._available():
            self._pause_seconds = LOOK_SECONDS
            return
        if self._reactor.seconds() < self._not_before:
            return
        try:
            await deferToThreadPool(
                self._reactor, self._reactor.getThreadPool(), self._embedded.revive
            )
        except DatabaseUnavailable as error:
            log.error("The database cannot be started again: {reason}", reason=str(error))
            self._pause()
        except Exception:  # noqa: BLE001 - one bad look must not end the looking
            log.failure("The database cannot be started again")
            self._pause()

    def _pause(self) -> None:
        self._not_before = self._reactor.seconds() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, AGAIN_SECONDS_MAX)
