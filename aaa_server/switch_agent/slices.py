"""The next slice of a call that was granted in slices, where the scripts leave it to the agent.

The switch cuts the called leg by itself when its time is over (sched_hangup, armed at answer);
before that the server is asked for more, and the cut is moved. Refused, or silence: the cut
that stands is left standing. Should it fail, the leg is killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from aaa_server.radius import attribute
from aaa_server.radius.packet import ACCESS_ACCEPT, ACCESS_REQUEST
from aaa_server.radius.value import bare, digits, integer
from aaa_server.switch_agent.leg import CALL_SECONDS_MAX
from aaa_server.switch_agent.records import more_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from aaa_server.radius.packet import Packet
    from aaa_server.switch_agent.exchange import Servers
    from aaa_server.switch_agent.leg import Leg
    from aaa_server.switch_agent.records import Attributes
    from aaa_server.switch_agent.spool import Spool
    from aaa_server.switch_agent.switch import Switch

log = Logger()

SECOND_US = 1_000_000
# The switch looks at its tasks once a second. The server forgives as much ([charging]
# overrun_seconds).
LATE_SECONDS = 2.0
AGAIN_SECONDS = 0.5  # between two rounds of a question that no server answers
STEPS_MAX = 9999  # PHASE:reauth:N; the server takes no higher number


class More(NamedTuple):
    """`seconds` from the moment that was asked about; `further`: more can follow."""

    seconds: int
    further: bool


class Slices:
    """Asks in time, `margin_seconds` before a slice ends. `now_us`: the switch's clock."""

    def __init__(
        self,
        spool: Spool,
        switch: Switch,
        servers: Servers,
        *,
        clock: Any,
        now_us: Callable[[], int],
        margin_seconds: int,
        nas: Attributes,
    ) -> None:
        self._spool = spool
        self._switch = switch
        self._servers = servers
        self._clock = clock
        self._now_us = now_us
        self._margin_seconds = margin_seconds
        self._nas = nas
        self._questions: dict[str, IDelayedCall] = {}
        self._watches: dict[str, IDelayedCall] = {}
        self._asking: set[str] = set()

    def arm(self, leg: Leg) -> None:
        """Look after the leg until its time is over."""
        if not leg.until_us:
            return
        left = (leg.until_us - self._now_us()) / SECOND_US
        self._set(self._watches, leg.uuid, max(0.0, left + LATE_SECONDS), self._overdue)
        if leg.more and leg.step < STEPS_MAX and leg.uuid not in self._asking:
            after = ask_after(left, self._margin_seconds)
            if after is not None:
                self._set(self._questions, leg.uuid, after, self._ask_now)

    def forget(self, uuid: str) -> None:
        """The leg has ended."""
        for calls in (self._questions, self._watches):
            call = calls.pop(uuid, None)
            if call is not None and call.active():
                call.cancel()

    def stop(self) -> None:
        """Ask nothing more."""
        for uuid in {*self._questions, *self._watches}:
            self.forget(uuid)

    async def cut_after(self, leg: Leg, seconds: int) -> bool:
        """Have the switch end the leg so many seconds from now; False: there is no such leg."""
        leg.until_us = self._now_us() + seconds * SECOND_US
        leg.more = leg.more and bool(leg.granted_seconds)
        if not await self._move_cut(leg, seconds):
            return False
        if leg.uuid in self._spool.legs:
            self._spool.keep_leg(leg)
            self.arm(leg)
        return True

    # ------------------------------------------------------------------ asking

    def _ask_now(self, uuid: str) -> None:
        leg = self._spool.legs.get(uuid)
        if leg is None or uuid in self._asking or not self._switch.connected:
            return
        self._asking.add(uuid)
        leg.step += 1
        leg.asked_seconds = leg.talked_seconds(self._now_us())
        # On disk first: a number that was used means that question and no other, for ever.
        written = self._spool.journal.append({"leg": leg.entry()})
        written.addCallback(lambda _: ensureDeferred(self._ask(leg)))
        written.addErrback(self._broken)
        written.addBoth(lambda _: self._asking.discard(uuid))

    async def _ask(self, leg: Leg) -> None:
        # The same question again and again, while there is time.
        while leg.uuid in self._spool.legs and self._now_us() < leg.until_us - SECOND_US:
            answers = [await self._ask_for(leg, key) for key in leg.carried]
            if not answers:
                return
            if all(answer is not None for answer in answers):
                await self._answered(leg, [answer for answer in answers if answer is not None])
                return
            await deferLater(self._clock, AGAIN_SECONDS)
        log.warn(
            "No server has answered for {uuid}: it is cut when its time is over", uuid=leg.uuid
        )

    async def _ask_for(self, leg: Leg, key: str) -> More | None:
        answer = await self._servers.ask(ACCESS_REQUEST, lambda: more_time(leg, key, self._nas))
        return None if answer is None else more_of(answer)

    async def _answered(self, leg: Leg, answers: list[More]) -> None:
        seconds = min(answer.seconds for answer in answers)
        leg.more = seconds > 0 and all(answer.further for answer in answers)
        if leg.uuid not in self._spool.legs:
            return
        if not seconds:
            log.info("{uuid} gets no more time", uuid=leg.uuid)
            self._spool.keep_leg(leg)
            return
        until_us = leg.answered_us + (leg.asked_seconds + seconds) * SECOND_US
        leg.until_us = until_us
        left = (until_us - self._now_us()) // SECOND_US
        if left <= 0 or not await self._move_cut(leg, left):
            # Without a cut it would talk on for nothing.
            await self._switch.kill(leg.uuid)
            return
        if leg.uuid in self._spool.legs:
            self._spool.keep_leg(leg)
            self._asking.discard(leg.uuid)
            self.arm(leg)

    async def _move_cut(self, leg: Leg, seconds: int) -> bool:
        # At once: were we gone between the two, nothing would cut the leg.
        said = await self._switch.api(
            f"sched_del {leg.uuid}", f"sched_hangup +{seconds} {leg.uuid} ALLOTTED_TIMEOUT"
        )
        return said.startswith("+OK")

    # ------------------------------------------------------------------ time is over

    def _overdue(self, uuid: str) -> None:
        leg = self._spool.legs.get(uuid)
        if leg is None:
            return
        left = (leg.until_us - self._now_us()) / SECOND_US + LATE_SECONDS
        if left > 0:
            self._set(self._watches, uuid, left, self._overdue)
        elif self._switch.connected:
            log.warn("{uuid} talks on after its time: it is killed", uuid=uuid)
            ensureDeferred(self._switch.kill(uuid)).addErrback(self._broken)

    def _set(
        self,
        calls: dict[str, IDelayedCall],
        uuid: str,
        seconds: float,
        then: Callable[[str], None],
    ) -> None:
        call = calls.get(uuid)
        if call is not None and call.active():
            call.cancel()
        calls[uuid] = self._clock.callLater(seconds, then, uuid)

    def _broken(self, failure: Failure) -> None:
        log.warn("The switch cannot be told: {reason}", reason=failure.getErrorMessage())


def ask_after(seconds: float, margin_seconds: int) -> float | None:
    """Seconds from now until the next question; None: the slice is too short for one.

    In the last slices of a call, which get shorter and shorter, half of the time is left for
    the answer.
    """
    if seconds > 2 * margin_seconds:
        return seconds - margin_seconds
    return seconds / 2 if seconds >= 2 else None


def more_of(packet: Packet) -> More:
    """What the answer grants. What is missing in it is never taken for more time."""
    values = dict(reversed(packet.attributes))
    code = digits(bare(values, attribute.H323_RETURN_CODE, "h323-return-code="), most=9999)
    seconds = integer(values.get(attribute.SESSION_TIMEOUT)) or 0
    if packet.code != ACCESS_ACCEPT or code != 0 or seconds > CALL_SECONDS_MAX:
        return More(0, further=False)
    said = bare(values, attribute.H323_CREDIT_TIME, "h323-credit-time=")
    credit = digits(said, most=0xFFFFFFFF) or 0
    return More(seconds, credit > seconds)
