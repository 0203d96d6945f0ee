"""The switch's events become records of calls; nothing else decides what is sent.

A Start when the leg that carries a call answers, an Interim-Update every so often, a Stop when
the leg that pays is gone. A channel whose end nobody has told of (the agent was away, or the
switch has dropped an event) is looked for, and its call is ended at the last moment at which
it was known to run.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from aaa_server.switch_agent import records
from aaa_server.switch_agent.event_socket import event_of
from aaa_server.switch_agent.leg import UUID, Leg, microseconds
from aaa_server.switch_agent.records import INTERIM, LOST_SERVICE, NAS_REBOOT, ON, START, STOP
from aaa_server.switch_agent.slices import LATE_SECONDS, SECOND_US
from aaa_server.switch_agent.switch import EVENTS, SwitchGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from aaa_server.switch_agent.event_socket import Event
    from aaa_server.switch_agent.records import Attributes
    from aaa_server.switch_agent.slices import Slices
    from aaa_server.switch_agent.spool import Spool
    from aaa_server.switch_agent.switch import Switch

log = Logger()

# How exactly the end of a call is known when the agent was away then.
ALIVE_SECONDS = 5.0
# The table that `show channels` reads is written a moment after the event.
YOUNG_SECONDS = 5
START_SLACK_SECONDS = 2


class Missing(NamedTuple):
    """A channel that has gone: since when that is known, and when it surely still ran."""

    since: float  # the reactor's seconds
    sure_us: int


class Calls:
    """What runs on the switch, as far as it is anybody's call.

    `interim_seconds` 0: no Interim-Updates. A channel that has gone without an event is taken
    for ended after `lost_seconds`: the event comes late when other modules write their records
    first. `now_us` is the switch's clock, in microseconds since 1970.
    """

    def __init__(
        self,
        spool: Spool,
        switch: Switch,
        slices: Slices,
        *,
        clock: Any,
        now_us: Callable[[], int],
        interim_seconds: int,
        lost_seconds: int,
        reconcile_seconds: int,
        nas: Attributes,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.listings: Counter[str] = Counter(done=0, failed=0)
        self.unlisted = ""  # why the channels could not be listed; '' when they could
        self._spool = spool
        self._switch = switch
        self._slices = slices
        self._clock = clock
        self._now_us = now_us
        self._interim_seconds = interim_seconds
        self._lost_seconds = lost_seconds
        self._nas = nas
        self._started_us = 0
        self._interims: dict[str, IDelayedCall] = {}
        self._carriers: dict[str, set[str]] = {}  # by call: the legs whose time may be its talk
        self._missing: dict[str, Missing] = {}
        self._waiting_for_missing: IDelayedCall | None = None
        self._sure_us = 0  # then all channels that were known did run
        self._nobodys: set[str] = set()  # channels that were looked at, and are no call of ours
        self._reconciling = False
        self._alive = LoopingCall(self._note_alive)
        self._reconcile = LoopingCall(self.look_again)
        for loop in (self._alive, self._reconcile):
            loop.clock = clock
        self._reconcile_seconds = reconcile_seconds
        for leg in spool.legs.values():
            self._index(leg)

    # ------------------------------------------------------------------ the connection

    def connected(self, uptime_seconds: int) -> None:
        """The event socket is open and subscribed; the switch runs for so long."""
        self._started_us = self._now_us() - uptime_seconds * SECOND_US
        self._sure_us = self._spool.alive_us
        self._alive.start(ALIVE_SECONDS, now=False)
        self._reconcile.start(self._reconcile_seconds, now=True)
        for leg in list(self._spool.legs.values()):
            self._arm(leg)

    def disconnected(self) -> None:
        """Nothing is known of the switch until it is back. Its own cuts stand."""
        for loop in (self._alive, self._reconcile):
            if loop.running:
                loop.stop()
        self._missing.clear()
        if self._waiting_for_missing is not None and self._waiting_for_missing.active():
            self._waiting_for_missing.cancel()

    def stop(self) -> None:
        """The agent ends; the calls go on."""
        self.disconnected()
        self._slices.stop()
        for uuid in list(self._interims):
            self._cancel_interim(uuid)

    def _note_alive(self) -> None:
        self._spool.alive(self._now_us())

    # ------------------------------------------------------------------ events

    def heard(self, event: Event) -> None:
        """One event of the switch."""
        name = event.name
        self.counts[name if name in EVENTS else "other"] += 1
        self._see_core(event)
        if not UUID.fullmatch(event.uuid):
            return
        match name:
            case "CHANNEL_CREATE":
                self._created(event)
            case "CHANNEL_ANSWER" | "CHANNEL_BRIDGE":
                self._goes_on(event)
            case "CHANNEL_HANGUP_COMPLETE":
                self._ended(event)

    def _see_core(self, event: Event) -> None:
        core = event.get("Core-UUID")
        if not core or core == self._spool.core:
            return
        if self._spool.core:
            legs = list(self._spool.legs.values())
            log.warn("The switch was restarted: {count} channels are lost", count=len(legs))
            self._lose_all([(leg, self._sure_us) for leg in legs], NAS_REBOOT)
            # It closes what was authorised up to a second after it; the uptime has lost up to
            # another one. What the new run has authorised since it began must stay open.
            at = self._started_us // SECOND_US - START_SLACK_SECONDS
            self._spool.add(ON, "", at, list(self._nas))
        self._spool.runs(core)

    def _created(self, event: Event) -> None:
        # What an outbound leg is for stands on it later; it may be nobody's.
        if event.get("Call-Direction") == "inbound":
            self._learn(event)

    def _goes_on(self, event: Event) -> None:
        leg = self._learn(event)
        if leg is not None:
            self._tell_start(leg)
            self._arm(leg)

    def _ended(self, event: Event) -> None:
        leg = self._spool.legs.get(event.uuid) or Leg(event.uuid)
        leg.learn(event)
        if leg.pays:
            ended_us = microseconds(event.get("Caller-Channel-Hangup-Time")) or self._now_us()
            self._spool.add(
                STOP, leg.key, ended_us // SECOND_US, records.stop(leg, event, self._nas)
            )
            self.counts["stops"] += 1
        self._forget(leg.uuid)

    def _learn(self, event: Event) -> Leg | None:
        """The leg that the event is about; None when it is nobody's call."""
        known = self._spool.legs.get(event.uuid)
        leg = known or Leg(event.uuid)
        news = leg.learn(event)
        if known is None and not (leg.pays or leg.carried or leg.granted_seconds):
            return None
        if news or known is None:
            self._spool.keep_leg(leg)
            self._index(leg)
        return leg

    def _index(self, leg: Leg) -> None:
        for key in leg.carried:
            self._carriers.setdefault(key, set()).add(leg.uuid)

    # ------------------------------------------------------------------ a call's time

    def _tell_start(self, leg: Leg) -> None:
        fresh = [key for key in leg.carried if key not in leg.told]
        for key in fresh:
            leg.told.append(key)
            at = leg.answered_us // SECOND_US
            self._spool.add(START, key, at, records.start(leg, key, self._nas))
        if fresh:
            self._spool.keep_leg(leg)

    def _arm(self, leg: Leg) -> None:
        if leg.uuid not in self._interims:
            self._arm_interim(leg)
        self._slices.arm(leg)

    def _arm_interim(self, leg: Leg) -> None:
        if self._interim_seconds and leg.carried:
            self._interims[leg.uuid] = self._clock.callLater(
                self._interim_seconds, self._interim, leg.uuid
            )

    def _interim(self, uuid: str) -> None:
        del self._interims[uuid]
        leg = self._spool.legs.get(uuid)
        if leg is None:
            return
        now_us = self._now_us()
        for key in leg.carried:
            if self._switch.connected and self._carrier(key) is leg:
                seconds = leg.talked_seconds(now_us)
                self._spool.add(
                    INTERIM,
                    key,
                    now_us // SECOND_US,
                    records.interim(leg, key, seconds, self._nas),
                )
        self._arm_interim(leg)

    def _carrier(self, key: str) -> Leg | None:
        """The leg whose time is the call's talk: the one that answered last."""
        legs = [self._spool.legs.get(uuid) for uuid in self._carriers.get(key, ())]
        carriers = [leg for leg in legs if leg is not None and key in leg.carried]
        return max(carriers, key=lambda leg: leg.answered_us, default=None)

    # ------------------------------------------------------------------ ends that nobody saw

    def _talk_ms(self, leg: Leg, sure_us: int) -> int:
        """How long the leg's call has talked, at `sure_us` or when it was last heard of."""
        carrier = self._carrier(leg.key)
        if carrier is None:
            said = leg.value("sky_bill_msec")
            if said or not leg.answered_us:
                return microseconds(said)
            carrier = leg
        until_us = max(sure_us, carrier.seen_us)
        if carrier.until_us:
            until_us = min(until_us, carrier.until_us + int(LATE_SECONDS) * SECOND_US)
        return max(0, until_us - carrier.answered_us) // 1000

    def _lose_all(self, gone: list[tuple[Leg, int]], cause: int) -> None:
        """End the calls of these legs, which surely ran until the moment beside each."""
        # All lengths first: one leg's is another one's, who is forgotten with it.
        ends = [(leg, self._talk_ms(leg, sure_us), sure_us) for leg, sure_us in gone]
        for leg, milliseconds, sure_us in ends:
            if leg.pays:
                at_us = max(sure_us, leg.seen_us, leg.answered_us + 1000 * milliseconds)
                attributes = records.lost(leg, milliseconds, cause, self._nas)
                self._spool.add(STOP, leg.key, at_us // SECOND_US, attributes)
                self.counts["lost"] += 1
            self._forget(leg.uuid)

    def _forget(self, uuid: str) -> None:
        self._cancel_interim(uuid)
        self._slices.forget(uuid)
        self._missing.pop(uuid, None)
        leg = self._spool.legs.get(uuid)
        for key in {*leg.told, *leg.carried} if leg is not None else ():
            carriers = self._carriers.get(key, set())
            carriers.discard(uuid)
            if not carriers:
                self._carriers.pop(key, None)
        self._spool.forget_leg(uuid)

    def _cancel_interim(self, uuid: str) -> None:
        call = self._interims.pop(uuid, None)
        if call is not None and call.active():
            call.cancel()

    def look_again(self) -> None:
        """Compare what is known with what the switch says that it has."""
        if self._reconciling or not self._switch.connected:
            return
        self._reconciling = True
        looking = ensureDeferred(self._look())
        looking.addErrback(self._looked_in_vain)
        looking.addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._reconciling = False

    def _looked_in_vain(self, failure: Failure) -> None:
        if failure.check(SwitchGone) is not None:
            return
        self.listings["failed"] += 1
        self.unlisted = failure.getErrorMessage() or "for no reason that is known"
        log.warn("The channels cannot be listed: {reason}", reason=self.unlisted)

    async def _look(self) -> None:
        asked_us = self._now_us()
        listed = channels_of(await self._switch.job("show channels as json"))
        self._nobodys &= listed
        for uuid in listed - self._spool.legs.keys() - self._nobodys:
            # "txt" quotes its values as events do; "plain", despite its name, does not.
            said = await self._switch.api(f"uuid_dump {uuid} txt")
            event = event_of(said.encode())
            if event.uuid != uuid:
                continue  # it has ended in the meantime
            self._goes_on(event)
            if uuid not in self._spool.legs:
                self._nobodys.add(uuid)
        since = self._clock.seconds()
        for leg in list(self._spool.legs.values()):
            young = leg.created_us > asked_us - YOUNG_SECONDS * SECOND_US
            if leg.uuid in listed or young or await self._switch.exists(leg.uuid):
                self._missing.pop(leg.uuid, None)
            elif leg.uuid in self._spool.legs:  # its end has not come before the answer
                self._missing.setdefault(leg.uuid, Missing(since, self._sure_us))
        self._sure_us = asked_us
        self.listings["done"] += 1
        self.unlisted = ""
        self._lose_missing()

    def _lose_missing(self) -> None:
        if self._waiting_for_missing is not None and self._waiting_for_missing.active():
            self._waiting_for_missing.cancel()
        now = self._clock.seconds()
        over = [
            (leg, missing.sure_us)
            for uuid, missing in self._missing.items()
            if now - missing.since >= self._lost_seconds
            and (leg := self._spool.legs.get(uuid)) is not None
        ]
        for leg, _ in over:
            log.warn("{uuid} has ended while nobody saw it", uuid=leg.uuid)
        self._lose_all(over, LOST_SERVICE)
        if self._missing:
            left = self._lost_seconds - (now - min(m.since for m in self._missing.values()))
            self._waiting_for_missing = self._clock.callLater(max(0.1, left), self._lose_missing)


def channels_of(listing: str) -> set[str]:
    """The uuids in the output of `show channels as json`. Raises `ValueError`."""
    said = json.loads(listing)
    if not isinstance(said, dict) or "row_count" not in said:
        raise ValueError("the switch's list of channels is none")
    uuids = {str(row.get("uuid", "")) for row in said.get("rows", ())}
    return {uuid for uuid in uuids if UUID.fullmatch(uuid)}
