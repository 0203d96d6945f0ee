"""What the server orders (RFC 5176): end this call, or let it last so long from now.

Taken from the configured servers alone, signed with their secret, and not old. An order is
answered when the switch has done it; while the switch cannot be told there is no answer, and
the server asks again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from aaa_server.radius import attribute
from aaa_server.radius.disconnect import SESSION_NOT_FOUND
from aaa_server.radius.packet import (
    COA_REQUEST,
    DISCONNECT_REQUEST,
    MESSAGE_AUTHENTICATOR,
    PROXY_STATE,
    Malformed,
    Packet,
    Secret,
    decode,
    encode_reply,
    message_authenticator_fits,
    request_authenticator_fits,
)
from aaa_server.radius.value import integer, text
from aaa_server.switch_agent.leg import CALL_SECONDS_MAX, KEY
from aaa_server.switch_agent.records import number
from aaa_server.switch_agent.switch import SwitchGone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.python.failure import Failure

    from aaa_server.switch_agent.leg import Leg
    from aaa_server.switch_agent.slices import Slices
    from aaa_server.switch_agent.spool import Spool
    from aaa_server.switch_agent.switch import Switch

log = Logger()

ACK, NAK = 1, 2  # added to the request's code (RFC 5176 §2)
# RFC 5176 §3.5
UNSUPPORTED_ATTRIBUTE, MISSING_ATTRIBUTE, NAS_MISMATCH, INVALID_VALUE = 401, 402, 403, 407

ANSWER_KEPT_SECONDS = 30.0
ANSWERS_MAX = 4096
OLD_SECONDS_MAX = 300  # RFC 5176 §6.3: how far an Event-Timestamp may be from our clock

# RFC 5176 §3: what may identify the session, or says nothing about it.
KNOWN = {
    attribute.USER_NAME,
    attribute.NAS_IP_ADDRESS,
    attribute.NAS_IPV6_ADDRESS,
    attribute.NAS_IDENTIFIER,
    attribute.ACCT_SESSION_ID,
    attribute.EVENT_TIMESTAMP,
    attribute.REPLY_MESSAGE,
    attribute.ACCT_TERMINATE_CAUSE,
    MESSAGE_AUTHENTICATOR,
    PROXY_STATE,
}


class Kept(NamedTuple):
    """An order that was taken; `reply` is None until it is done."""

    at: float
    reply: bytes | None


class Nak(Exception):
    """The order cannot be carried out; the number is the Error-Cause."""

    def __init__(self, error_cause: int) -> None:
        super().__init__(f"error cause {error_cause}")
        self.error_cause = error_cause


class Orders(DatagramProtocol):
    """The port that orders come to. `now` is Unix seconds; `nas_address` is ours, '' not known."""

    noisy = False

    def __init__(
        self,
        spool: Spool,
        switch: Switch,
        slices: Slices,
        *,
        sources: frozenset[str],
        secret: Secret,
        nas_address: str,
        clock: Any,
        now: Callable[[], float],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._spool = spool
        self._switch = switch
        self._slices = slices
        self._sources = sources
        self._secret = secret
        self._address = ip_address(nas_address) if nas_address else None
        self._clock = clock
        self._now = now
        self._kept: OrderedDict[tuple[str, int, bytes], Kept] = OrderedDict()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        host = addr[0].partition("%")[0].removeprefix("::ffff:")
        packet = self.authentic(datagram, host)
        if packet is None:
            self.counts["ignored"] += 1
            return
        # Identifier and authenticator: an order that is sent again has the same octets.
        name = (host, addr[1], packet.raw[:20])
        kept = self._kept.get(name)
        if kept is not None:
            if kept.reply is not None:
                self._write(kept.reply, addr)
            return
        self._forget_old()
        self._kept[name] = Kept(self._clock.seconds(), None)
        doing = ensureDeferred(self.answer(packet))
        doing.addCallbacks(self._done, self._undone, callbackArgs=(name, addr), errbackArgs=(name,))

    def authentic(self, datagram: bytes, host: str) -> Packet | None:
        """The order in `datagram`; None for one that is nobody's who may give orders."""
        if host not in self._sources:
            return None
        try:
            packet = decode(datagram)
        except Malformed:
            return None
        if packet.code not in (DISCONNECT_REQUEST, COA_REQUEST):
            return None
        if not request_authenticator_fits(packet, self._secret):
            log.warn("An order of {host} is not signed with our secret", host=host)
            return None
        signed = packet.message_authenticator_at
        if signed and not message_authenticator_fits(packet, self._secret):
            return None
        for key, value in packet.attributes:
            at = integer(value) if key == attribute.EVENT_TIMESTAMP else None
            if at is not None and abs(self._now() - at) > OLD_SECONDS_MAX:
                log.warn("An order of {host} is old, or a clock is wrong", host=host)
                return None
        return packet

    async def answer(self, packet: Packet) -> bytes:
        """The ACK or NAK, once the switch has been told. Raises `SwitchGone`."""
        try:
            await self._carry_out(packet)
        except Nak as nak:
            self.counts["refused"] += 1
            attributes = [(attribute.ERROR_CAUSE, number(nak.error_cause))]
            return self._reply(packet, NAK, attributes)
        self.counts["done"] += 1
        return self._reply(packet, ACK, [])

    async def _carry_out(self, packet: Packet) -> None:
        values = dict(reversed(packet.attributes))
        lasts = packet.code == COA_REQUEST
        known = {*KNOWN, attribute.SESSION_TIMEOUT} if lasts else KNOWN
        if not values.keys() <= known:
            raise Nak(UNSUPPORTED_ATTRIBUTE)
        self._check_address(values)
        key = text(values.get(attribute.ACCT_SESSION_ID))
        if not key or (lasts and attribute.SESSION_TIMEOUT not in values):
            raise Nak(MISSING_ATTRIBUTE)
        if not KEY.fullmatch(key):
            raise Nak(SESSION_NOT_FOUND)
        channel = key.partition("/")[0]
        self._check_user(channel, text(values.get(attribute.USER_NAME)))
        if not lasts:
            log.info("{channel} is to end, by order", channel=channel)
            if not await self._switch.kill(channel):
                raise Nak(SESSION_NOT_FOUND)
            return
        seconds = integer(values[attribute.SESSION_TIMEOUT])
        if seconds is None or seconds > CALL_SECONDS_MAX:
            raise Nak(INVALID_VALUE)
        log.info("{channel} is to end in {seconds} s, by order", channel=channel, seconds=seconds)
        await self._end_after(channel, seconds)

    def _check_address(self, values: Mapping[int, bytes]) -> None:
        """Is it this switch? What our address of the other family is, is not known."""
        if self._address is None:
            return
        four = self._address.version == 4
        named = values.get(attribute.NAS_IP_ADDRESS if four else attribute.NAS_IPV6_ADDRESS)
        if named is not None and named != self._address.packed:
            raise Nak(NAS_MISMATCH)

    def _check_user(self, channel: str, user: str) -> None:
        leg = self._spool.legs.get(channel)
        account = "" if leg is None else leg.value("sky_account")
        if user and account and user != account:
            raise Nak(SESSION_NOT_FOUND)

    async def _end_after(self, channel: str, seconds: int) -> None:
        """The called legs are what is cut, as the scripts do it; else the channel itself."""
        legs: list[Leg] = [
            leg
            for leg in self._spool.legs.values()
            if leg.uuid != channel and any(k.partition("/")[0] == channel for k in leg.carried)
        ]
        if not legs:
            leg = self._spool.legs.get(channel)
            if leg is None:
                raise Nak(SESSION_NOT_FOUND)
            legs = [leg]
        done = [
            await self._slices.cut_after(leg, seconds)
            if seconds
            else await self._switch.kill(leg.uuid)
            for leg in legs
        ]
        if not any(done):
            raise Nak(SESSION_NOT_FOUND)

    def _reply(self, packet: Packet, what: int, attributes: list[tuple[int, bytes]]) -> bytes:
        return encode_reply(
            packet.code + what, packet, self._secret, attributes, message_authenticator=True
        )

    def _done(self, reply: bytes, name: tuple[str, int, bytes], addr: Any) -> None:
        self._kept[name] = Kept(self._clock.seconds(), reply)
        self._write(reply, addr)

    def _undone(self, failure: Failure, name: tuple[str, int, bytes]) -> None:
        # Sent again, it is tried again.
        self._kept.pop(name, None)
        if failure.check(SwitchGone) is None:
            log.failure("An order could not be carried out", failure)
        else:
            log.warn("An order waits: the switch cannot be told")

    def _write(self, reply: bytes, addr: Any) -> None:
        if self.transport is not None:
            self.transport.write(reply, addr)

    def _forget_old(self) -> None:
        now = self._clock.seconds()
        while self._kept:
            name, kept = next(iter(self._kept.items()))
            if now - kept.at < ANSWER_KEPT_SECONDS and len(self._kept) < ANSWERS_MAX:
                return
            del self._kept[name]
