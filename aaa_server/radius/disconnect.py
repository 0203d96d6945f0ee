"""What a server asks of a switch: to end a call, or to change how long it lasts (RFC 5176).

No socket and no clock: `Exchanges` says what to send when, and what an answer means. A
request is sent again as RFC 5080 §2.2.1 has it, the same octets each time, until it is
answered or `ATTEMPTS_MAX` were sent.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.radius import attribute
from aaa_server.radius.packet import Malformed, Secret, decode, encode_request, reply_fits
from aaa_server.radius.value import token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# An ACK's code is the request's and 1, a NAK's and 2 (RFC 5176 §2.1, §2.2).
_ACK, _NAK = 1, 2

# RFC 5080 §2.2.1 names its parameters so; its intervals are randomised by a tenth.
INITIAL_SECONDS = 2.0  # IRT
LONGEST_SECONDS = 16.0  # MRT
ATTEMPTS_MAX = 6  # MRC: given up after some 65 seconds
# An identifier is an octet; some stay free, so that none is used again at once.
EXCHANGES_MAX = 200

SESSION_NOT_FOUND = 503
ERROR_CAUSES = {
    201: "residual session context removed",
    202: "invalid EAP packet",
    401: "unsupported attribute",
    402: "missing attribute",
    403: "NAS identification mismatch",
    404: "invalid request",
    405: "unsupported service",
    406: "unsupported extension",
    407: "invalid attribute value",
    501: "administratively prohibited",
    502: "request not routable",
    SESSION_NOT_FOUND: "session context not found",
    504: "session context not removable",
    505: "other proxy processing error",
    506: "resources unavailable",
    507: "request initiated",
    508: "multiple session selection unsupported",
}  # RFC 5176 §3.5

# A conference id stands in for the Acct-Session-Id that a Cisco did not send.
_CONFERENCE = re.compile(r"[0-9A-Fa-f]{1,8}( [0-9A-Fa-f]{1,8}){3}")

Address = tuple[str, int]


class Session(NamedTuple):
    """A call as its switch knows it; '' is not known."""

    key: str
    user_name: str = ""
    nas_address: str = ""


class Answer(NamedTuple):
    """What the switch said to an order; `error_cause` is None where it gave none."""

    order: int
    accepted: bool
    error_cause: int | None

    @property
    def gone(self) -> bool:
        """The switch has no such call: it ended, and its Stop was lost or is on its way."""
        return not self.accepted and self.error_cause == SESSION_NOT_FOUND


def session_attributes(session: Session, *, at: int) -> list[tuple[int, bytes]]:
    """What identifies the call (RFC 5176 §3), and when it was asked for (Unix seconds).

    Every attribute must fit the switch's session, so there is none that is only likely.
    """
    attributes = []
    if session.user_name:
        attributes.append((attribute.USER_NAME, session.user_name.encode()))
    if session.nas_address:
        parsed = ip_address(session.nas_address)
        key = attribute.NAS_IP_ADDRESS if parsed.version == 4 else attribute.NAS_IPV6_ADDRESS
        attributes.append((key, parsed.packed))
    if _CONFERENCE.fullmatch(session.key):
        attributes.append((attribute.H323_CONF_ID, f"h323-conf-id={session.key}".encode()))
    else:
        attributes.append((attribute.ACCT_SESSION_ID, _octets(session.key)))
    attributes.append((attribute.EVENT_TIMESTAMP, at.to_bytes(4, "big")))
    return attributes


def _octets(key: str) -> bytes:
    """The Acct-Session-Id that `value.token` made `key` of."""
    if key.startswith("0x"):
        with contextlib.suppress(ValueError):
            octets = bytes.fromhex(key[2:])
            if token(octets) == key:
                return octets
    return key.encode()


@dataclass(slots=True)
class Exchange:
    """One order under way; `datagrams` is the request by each secret that the switch may have."""

    order: int
    code: int
    address: Address
    secrets: tuple[Secret, ...]
    datagrams: tuple[bytes, ...]
    next_at: float
    interval_seconds: float
    attempts: int = 0


class Exchanges:
    """The requests under way, at most `EXCHANGES_MAX`, by identifier.

    `random` returns numbers in [0, 1). Times are seconds of one clock, whatever it counts from.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._under_way: dict[int, Exchange] = {}
        self._identifier = 0

    @property
    def room(self) -> int:
        """How many more may begin."""
        return EXCHANGES_MAX - len(self._under_way)

    def begin(
        self,
        order: int,
        code: int,
        address: Address,
        secrets: Sequence[Secret],
        attributes: Sequence[tuple[int, bytes]],
        now: float,
    ) -> None:
        """Have `order` sent with the next look at `due`, until it is answered.

        With two secrets, while one is being changed, they take turns.
        """
        assert self.room > 0, "the caller looks for room"
        while self._identifier in self._under_way:
            self._identifier = (self._identifier + 1) % 256
        identifier, self._identifier = self._identifier, (self._identifier + 1) % 256
        datagrams = [encode_request(code, identifier, secret, attributes) for secret in secrets]
        self._under_way[identifier] = Exchange(
            order, code, address, tuple(secrets), tuple(datagrams), now, INITIAL_SECONDS
        )

    def due(self, now: float) -> list[tuple[int, bytes, Address]]:
        """What is to be sent now: order, octets, where to."""
        to_send = []
        for exchange in self._under_way.values():
            if exchange.next_at <= now and exchange.attempts < ATTEMPTS_MAX:
                datagram = exchange.datagrams[exchange.attempts % len(exchange.datagrams)]
                to_send.append((exchange.order, datagram, exchange.address))
                exchange.attempts += 1
                spread = exchange.interval_seconds * (0.2 * self._random() - 0.1)
                exchange.next_at = now + exchange.interval_seconds + spread
                exchange.interval_seconds = min(2 * exchange.interval_seconds, LONGEST_SECONDS)
        return to_send

    def given_up(self, now: float) -> list[int]:
        """The orders whose last request has not been answered in its time; they are over."""
        lost = {
            identifier: exchange.order
            for identifier, exchange in self._under_way.items()
            if exchange.attempts == ATTEMPTS_MAX and exchange.next_at <= now
        }
        for identifier in lost:
            del self._under_way[identifier]
        return list(lost.values())

    def received(self, datagram: bytes, source: Address) -> Answer | None:
        """What `datagram` says; None for what is no answer to a request under way.

        It must come from where the request went, with the Response Authenticator and, where
        there is one, the Message-Authenticator of a secret that it was signed with.
        """
        if len(datagram) < 2:
            return None
        exchange = self._under_way.get(datagram[1])
        if (
            exchange is None
            or source != exchange.address
            or datagram[0] not in (exchange.code + _ACK, exchange.code + _NAK)
        ):
            return None
        try:
            genuine = any(
                reply_fits(datagram, asked[4:20], secret)
                for asked, secret in zip(exchange.datagrams, exchange.secrets, strict=True)
            )
            packet = decode(datagram)
        except Malformed:
            return None
        if not genuine:
            return None
        del self._under_way[datagram[1]]
        causes = [
            int.from_bytes(value, "big")
            for key, value in packet.attributes
            if key == attribute.ERROR_CAUSE and len(value) == 4
        ]
        return Answer(
            exchange.order, packet.code == exchange.code + _ACK, causes[0] if causes else None
        )

    def forget(self) -> None:
        """Ask no more: somebody else does."""
        self._under_way.clear()
