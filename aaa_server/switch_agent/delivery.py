"""Gets the spool's records to a server, in order, until each is acknowledged.

Records of different calls are under way together, those of one call one after another, and an
Accounting-On waits for all before it and holds up all behind it: it closes what is open. While
no server answers, one record at a time asks whether they are back.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from aaa_server.radius.packet import ACCOUNTING_REQUEST, ACCOUNTING_RESPONSE
from aaa_server.switch_agent.records import ON

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from aaa_server.switch_agent.exchange import Servers
    from aaa_server.switch_agent.records import Record
    from aaa_server.switch_agent.spool import Spool

log = Logger()

UNDER_WAY_MAX = 64
PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 30.0
# For a record that stays unanswered while others are acknowledged.
ALONE_SECONDS_MAX = 600.0


class Delivery:
    """Sends what waits; `wake` says that there may be more. `now` is Unix seconds."""

    def __init__(
        self, spool: Spool, servers: Servers, *, clock: Any, now: Callable[[], float]
    ) -> None:
        self.silent_since: float | None = None  # reactor's seconds; None: servers answer
        self._spool = spool
        self._servers = servers
        self._clock = clock
        self._now = now
        self._under_way: dict[int, Record] = {}
        self._window = 1
        self._pause_seconds = PAUSE_SECONDS_MIN
        self._paused: IDelayedCall | None = None
        self._later: dict[int, tuple[float, float]] = {}  # not before, and how long it waited
        self._alarm: IDelayedCall | None = None
        self._stopped = False

    def wake(self) -> None:
        """Send as much as may be sent now."""
        if self._stopped or self._paused is not None:
            return
        for record in self._next():
            self._under_way[record.number] = record
            sending = ensureDeferred(self._send(record))
            sending.addErrback(self._broken, record)
        self._set_alarm()

    def stop(self) -> None:
        """Send nothing more; what is under way may still be answered."""
        self._stopped = True
        for call in (self._paused, self._alarm):
            if call is not None and call.active():
                call.cancel()

    def _next(self) -> list[Record]:
        room = self._window - len(self._under_way)
        chosen: list[Record] = []
        if room <= 0:
            return chosen
        now = self._clock.seconds()
        behind: set[str] = set()  # calls of which an earlier record is not acknowledged
        # Those that may not be sent yet are passed over, but not without end.
        for place, record in enumerate(islice(self._spool.records.values(), 8 * UNDER_WAY_MAX)):
            if record.status == ON and place > 0:
                break
            waits = (
                not record.durable
                or record.number in self._under_way
                or record.key in behind
                or self._later.get(record.number, (0.0, 0.0))[0] > now
            )
            behind.add(record.key)
            if not waits:
                chosen.append(record)
                if len(chosen) == room:
                    break
            if record.status == ON:
                break
        return chosen

    async def _send(self, record: Record) -> None:
        began = self._clock.seconds()
        answer = await self._servers.ask(
            ACCOUNTING_REQUEST, lambda: record.packet_attributes(self._now())
        )
        self._under_way.pop(record.number, None)
        if answer is not None and answer.code == ACCOUNTING_RESPONSE:
            self._later.pop(record.number, None)
            self._spool.acknowledged(record.number)
            if self.silent_since is not None:
                log.info("A RADIUS server takes records again")
            self.silent_since = None
            self._pause_seconds = PAUSE_SECONDS_MIN
            self._window = min(2 * self._window, UNDER_WAY_MAX)
            self.wake()
        elif self._servers.answered_at is not None and self._servers.answered_at >= began:
            self._put_off(record)
        else:
            self._pause(began)

    def _put_off(self, record: Record) -> None:
        """Others are acknowledged: this one alone waits."""
        _, waited = self._later.get(record.number, (0.0, PAUSE_SECONDS_MIN))
        waits = min(2 * waited, ALONE_SECONDS_MAX)
        self._later[record.number] = (self._clock.seconds() + waits, waits)
        log.warn("A record is not acknowledged while others are; again in {waits} s", waits=waits)
        self.wake()

    def _set_alarm(self) -> None:
        """Have somebody wake up when the next of those that were put off may be sent."""
        if self._alarm is not None and self._alarm.active():
            return
        records = self._spool.records
        self._later = {number: at for number, at in self._later.items() if number in records}
        if self._later:
            now = self._clock.seconds()
            left = min(at for at, _ in self._later.values()) - now
            # One whose time has come already waits for its turn, and not for the clock.
            self._alarm = self._clock.callLater(left if left > 0 else PAUSE_SECONDS_MIN, self.wake)

    def _pause(self, began: float) -> None:
        if self.silent_since is None:
            self.silent_since = began
            log.warn("No RADIUS server answers; {count} records wait", count=self.waiting)
        self._window = 1
        if self._paused is None and not self._stopped:
            self._paused = self._clock.callLater(self._pause_seconds, self._resume)
            self._pause_seconds = min(2 * self._pause_seconds, PAUSE_SECONDS_MAX)

    def _resume(self) -> None:
        self._paused = None
        self.wake()

    @property
    def waiting(self) -> int:
        """Records that are not acknowledged."""
        return len(self._spool.records)

    def _broken(self, failure: Failure, record: Record) -> None:
        log.failure("Record {number} cannot be sent", failure, number=record.number)
        self._under_way.pop(record.number, None)
        self._put_off(record)
