"""Questions to the RADIUS servers: sent, sent again, asked of the next one (RFC 5080 §2.2.1).

To one server a question goes `tries` times with the same octets. The next server gets another
packet: its delay has grown, and so its identifier is a new one (RFC 2866 §5.2). Whoever
answered last is asked first.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from aaa_server.radius.packet import (
    ACCESS_REQUEST,
    Malformed,
    Packet,
    Secret,
    decode,
    encode_request,
    reply_fits,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IListeningPort

log = Logger()

IDENTIFIERS = 256  # an octet; no more questions may be under way at one server
# Some stay free, so that a late answer does not meet the next question of its identifier.
UNDER_WAY_MAX = 200

Attributes = list[tuple[int, bytes]]
Address = tuple[str, int]


class Waiting(NamedTuple):
    """A question under way."""

    datagram: bytes
    answered: Deferred[Packet | None]


class Ear(DatagramProtocol):
    """Hears what comes back; a port that nobody listens on is as good as silence."""

    noisy = False

    def __init__(self, heard: Callable[[bytes, Address], None]) -> None:
        self._heard = heard

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._heard(datagram, (addr[0].partition("%")[0], addr[1]))


class Server:
    """One server's one port, and the questions under way to it."""

    def __init__(self, address: Address, secret: Secret, counts: Counter[str]) -> None:
        self.address = address
        self._secret = secret
        self._counts = counts
        self._waiting: dict[int, Waiting] = {}
        self._identifier = 0
        self._port: IListeningPort | None = None

    def listen(self, reactor: Any, bind: str) -> None:
        """Open a socket of its own for this server. Raises `CannotListenError`."""
        interface = bind or ("::" if ":" in self.address[0] else "0.0.0.0")
        self._port = reactor.listenUDP(0, Ear(self._heard), interface=interface)

    def stop(self) -> Deferred[Any]:
        """Close the socket; what is under way stays unanswered."""
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(int)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= UNDER_WAY_MAX

    def begin(self, code: int, attributes: Attributes, *, signed: bool) -> int:
        """Make a packet of it; the identifier that it is under way with."""
        while self._identifier in self._waiting:
            self._identifier = (self._identifier + 1) % IDENTIFIERS
        identifier, self._identifier = self._identifier, (self._identifier + 1) % IDENTIFIERS
        datagram = encode_request(
            code,
            identifier,
            self._secret,
            attributes,
            authenticator=os.urandom(16),
            message_authenticator=signed or code == ACCESS_REQUEST,
        )
        self._waiting[identifier] = Waiting(datagram, Deferred())
        return identifier

    def answer(self, identifier: int) -> Deferred[Packet | None]:
        """Fires with the answer, or with None when it is given up."""
        return self._waiting[identifier].answered

    def send(self, identifier: int) -> None:
        """Send the packet, for the first time or again."""
        self._counts["sent"] += 1
        port: Any = self._port
        try:
            if port is not None:
                port.write(self._waiting[identifier].datagram, self.address)
        except OSError as error:
            # As good as lost on the way; it is sent again.
            log.debug("Nothing can be sent to {host}: {reason}", host=self.address[0], reason=error)

    def give_up(self, identifier: int) -> None:
        """Wait for this answer no more."""
        self._waiting.pop(identifier).answered.callback(None)

    def _heard(self, datagram: bytes, source: Address) -> None:
        waiting = self._waiting.get(datagram[1]) if len(datagram) > 1 else None
        if waiting is None or source != self.address:
            self._counts["ignored"] += 1
            return
        try:
            packet = decode(datagram)
            asked = waiting.datagram
            genuine = reply_fits(datagram, asked[4:20], self._secret)
        except Malformed:
            genuine = False
        # A forged answer is no answer; the true one may still come. To an Access-Request it has
        # to be signed: CVE-2024-3596.
        if not genuine or (asked[0] == ACCESS_REQUEST and not packet.message_authenticator_at):
            self._counts["forged"] += 1
            return
        del self._waiting[datagram[1]]
        self._counts["answered"] += 1
        waiting.answered.callback(packet)


class Servers:
    """The servers of one kind of question. `counts` says what was sent and what came back."""

    def __init__(
        self,
        addresses: list[Address],
        secret: Secret,
        *,
        clock: Any,
        timeout_seconds: float,
        tries: int,
        signed: bool = True,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.answered_at: float | None = None
        self._servers = [Server(address, secret, self.counts) for address in addresses]
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._tries = tries
        self._signed = signed
        self._first = 0

    def listen(self, reactor: Any, bind: str) -> None:
        """Open the sockets, bound to the address `bind` if it is not ''."""
        for server in self._servers:
            server.listen(reactor, bind)

    async def stop(self) -> None:
        """Close the sockets."""
        for server in self._servers:
            await server.stop()

    @property
    def round_seconds(self) -> float:
        """How long it takes to learn that nobody answers."""
        return self._timeout_seconds * self._tries * len(self._servers)

    async def ask(self, code: int, attributes: Callable[[], Attributes]) -> Packet | None:
        """The answer of the first server that gives one; None: all are silent.

        `attributes` is called for each server anew.
        """
        first = self._first
        for turn in range(len(self._servers)):
            place = (first + turn) % len(self._servers)
            server = self._servers[place]
            if server.full:
                continue
            packet = await self._ask_one(server, code, attributes())
            if packet is not None:
                if self._first != place:
                    log.info("RADIUS server {host} answers now", host=server.address[0])
                self._first = place
                self.answered_at = self._clock.seconds()
                return packet
            self.counts["unanswered"] += 1
        return None

    async def _ask_one(self, server: Server, code: int, attributes: Attributes) -> Packet | None:
        identifier = server.begin(code, attributes, signed=self._signed)
        answer = server.answer(identifier)
        again = self._send(server, identifier, self._tries)
        packet = await answer
        if again[0].active():
            again[0].cancel()
        return packet

    def _send(self, server: Server, identifier: int, tries: int) -> list[IDelayedCall]:
        """Send it so often; a list of the one call that is next."""
        following: list[IDelayedCall] = []

        def once(left: int) -> None:
            if left == 0:
                server.give_up(identifier)
                return
            server.send(identifier)
            following[:] = [self._clock.callLater(self._timeout_seconds, once, left - 1)]

        once(tries)
        return following
