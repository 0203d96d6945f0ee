"""The UDP ports: datagrams in, replies out. The only RADIUS module with a socket."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from aaa_server.radius.client import ACCT, AUTH
from aaa_server.radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_CHALLENGE,
    ACCESS_REJECT,
    ACCOUNTING_RESPONSE,
    PACKET_OCTETS_MAX,
    STATUS_SERVER,
    encode_reply,
)
from aaa_server.radius.receive import Fresh, Receiver, Reply, Resend, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
    from twisted.python.failure import Failure


Answer = Callable[[Fresh, Reply], None]

TURN_DATAGRAMS_MAX = 16  # read at a time, so that replies and the database get their turn
# The kernel's default holds some 90 requests and drops the rest.
RECEIVE_BUFFER_OCTETS = 4 * 1024 * 1024
_SO_RCVBUFFORCE = 33  # socket(7); Python has no name for it
_IP_PKTINFO = 8  # ip(7); nor for this
_TOLD_OCTETS = 64  # more than an in6_pktinfo and its header
FACES_MAX = 1024  # addresses of this machine that are remembered
# Rejects that wait at a time; whoever guesses passwords faster hears nothing at all.
DELAYED_MAX = 4096
_COUNTER_MAX = 2**32 - 1

FREERADIUS = 11344 << 8
STATISTICS_TYPE = FREERADIUS + 127
_AUTHENTICATION, _ACCOUNTING, _INTERNAL = 1, 2, 0x10
START_TIME = FREERADIUS + 176


class RadiusServer:
    """Listens on the auth and acct ports of every address.

    `answer_access` and `answer_accounting` get a request and what to call with it and the
    whole reply, or None for silence: then, and when they fail at once, a retransmission is
    answered as if it were new.
    `reuse_port` lets several processes share the ports; the `first` of them makes sure that
    nobody else has them, since a socket that shares would never notice.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorFDSet,
        receiver: Receiver,
        *,
        clock: IReactorTime,
        addresses: Sequence[str],
        auth_port: int,
        acct_port: int,
        answer_access: Answer,
        answer_accounting: Answer,
        reuse_port: bool = True,
        first: bool = False,
    ) -> None:
        self.receiver = receiver
        self.ports: list[Port] = []
        self._reactor = reactor
        self._clock = clock
        self._addresses = addresses
        self._listen_on = ((AUTH, auth_port), (ACCT, acct_port))
        self._answers = {AUTH: answer_access, ACCT: answer_accounting}
        self._reuse_port = reuse_port
        self._first = first
        self._started_at = 0.0
        self._delayed: set[IDelayedCall] = set()

    def start(self) -> None:
        """Open every port; raises `OSError` that names the one that cannot be had."""
        self._started_at = self._clock.seconds()
        try:
            for address in self._addresses:
                for role, number in self._listen_on:
                    if self._first:
                        listening_socket(address, number, reuse_port=False).close()
                    port = Port(
                        self._reactor,
                        listening_socket(address, number, reuse_port=self._reuse_port),
                        role,
                        self.datagram_received,
                    )
                    self.ports.append(port)
        except OSError:
            self.stop()
            raise
        for port in self.ports:
            self._reactor.addReader(port)

    def stop(self) -> None:
        """Close the ports. What is still being answered is not sent."""
        for port in self.ports:
            port.close()
        self.ports.clear()
        for call in self._delayed:
            call.cancel()
        self._delayed.clear()

    def datagram_received(self, datagram: bytes, source: Source, port: Port | Face) -> None:
        """Answer at once, later or never. Never raises: the port must go on listening."""
        try:
            received = self.receiver.receive(datagram, source, port.role)
            if type(received) is Fresh:
                self._answer(received, port)
            elif type(received) is Resend:
                port.send(received.reply, source)
        except Exception:  # noqa: BLE001 - whatever one packet does, the next one is read
            self._log.failure(
                "a packet from {host} port {port} could not be handled",
                host=source[0],
                port=source[1],
            )
            self._count(port.role, "failed")

    def _answer(self, fresh: Fresh, port: Port | Face) -> None:
        fresh.port = port
        if fresh.packet.code == STATUS_SERVER:
            self._reply(fresh, self.status(fresh))
            return
        try:
            self._answers[port.role](fresh, self._reply)
        except Exception:
            self.receiver.forget(fresh)
            raise

    def status(self, fresh: Fresh) -> bytes:
        """The answer to Status-Server: alive, and the counters asked for (RFC 5997)."""
        wanted = 0
        for key, value in fresh.packet.attributes:
            if key == STATISTICS_TYPE:
                wanted = int.from_bytes(value, "big")
        attributes: list[tuple[int, bytes]] = []
        if wanted & _AUTHENTICATION:
            attributes += _statistics(self.receiver.counts, AUTH, _AUTH_STATISTICS)
        if wanted & _ACCOUNTING:
            attributes += _statistics(self.receiver.counts, ACCT, _ACCT_STATISTICS)
        if wanted & (_INTERNAL | _AUTHENTICATION | _ACCOUNTING):
            attributes.append((START_TIME, _counter(int(self._started_at))))
        return encode_reply(
            ACCESS_ACCEPT if fresh.role == AUTH else ACCOUNTING_RESPONSE,
            fresh.packet,
            fresh.secret,
            attributes,
            message_authenticator=True,
        )

    def _reply(self, fresh: Fresh, reply: bytes | None) -> None:
        if reply is None:
            self.receiver.forget(fresh)
        elif fresh.delay_seconds:
            self._reply_later(reply, fresh)
        else:
            self._send(reply, fresh)

    def _reply_later(self, reply: bytes, fresh: Fresh) -> None:
        if len(self._delayed) >= DELAYED_MAX:
            self._count(fresh.role, "delayed-too-many")
            return

        def send() -> None:
            self._delayed.discard(call)
            self._send(reply, fresh)

        call = self._clock.callLater(fresh.delay_seconds, send)
        self._delayed.add(call)

    def _send(self, reply: bytes, fresh: Fresh) -> None:
        assert fresh.port is not None
        fresh.port.send(reply, fresh.source)
        self.receiver.answered(fresh, reply)
        self._count(fresh.role, _REPLIES.get(reply[0], "responses"))

    def _count(self, role: str, what: str) -> None:
        counts = self.receiver.counts
        counts[role, what] = counts.get((role, what), 0) + 1


@implementer(IReadDescriptor)
class Port:
    """One bound socket, read by the reactor."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        bound: socket.socket,
        role: str,
        received: Callable[[bytes, Source, Port | Face], None],
    ) -> None:
        self.role = role
        self.address: tuple[str, int] = bound.getsockname()[:2]
        self._reactor = reactor
        self._socket = bound
        self._six = bound.family == socket.AF_INET6
        self._received = received
        self._faces: dict[bytes, Face] | None = None
        if self.address[0] in ("0.0.0.0", "::") and tell_destination(bound):
            self._faces = {}
        self.unsent = 0  # replies that the kernel did not take

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return f"radius {self.role}"

    def doRead(self) -> None:
        receive, receive_told = self._socket.recvfrom, self._socket.recvmsg
        faces = self._faces
        port: Port | Face = self
        for _ in range(TURN_DATAGRAMS_MAX):
            try:
                if faces is None:
                    datagram, source = receive(PACKET_OCTETS_MAX)
                else:
                    datagram, told, _, source = receive_told(PACKET_OCTETS_MAX, _TOLD_OCTETS)
                    port = faces.get(told[0][2]) or self._face(told[0][2]) if told else self
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error of something sent before; the socket is fine.
                continue
            if self._six:
                source = (source[0].partition("%")[0], source[1], source[2], source[3])
            self._received(datagram, source, port)

    def _face(self, told: bytes) -> Face:
        """The face for what the kernel told with a datagram, its in_pktinfo or in6_pktinfo."""
        assert self._faces is not None
        if len(self._faces) >= FACES_MAX:
            self._faces.clear()
        made = Face(self, self._socket, told, six=self._six)
        self._faces[told] = made
        return made

    def connectionLost(self, _reason: Failure) -> None:
        self.close()

    def send(self, reply: bytes, source: Source) -> None:
        """Send now; what the kernel cannot take is lost, and the client asks again."""
        try:
            self._socket.sendto(reply, source)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        """Stop reading and give the port back."""
        if self._socket.fileno() != -1:
            self._reactor.removeReader(self)
            self._socket.close()


class Face:
    """A wildcard port as one of this machine's addresses: replies leave from that one.

    A client takes no answer from another address than the one that it asked.
    """

    def __init__(self, port: Port, bound: socket.socket, told: bytes, *, six: bool) -> None:
        self.role = port.role
        self._port = port
        self._socket = bound
        if not six:
            # struct in_pktinfo: interface, local address, destination. Interface 0: by route.
            level, kind, said = socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + told[4:8] + bytes(4)
        else:
            # struct in6_pktinfo: destination, interface, which only a link-local one needs.
            local = told[0] == 0xFE and told[1] & 0xC0 == 0x80
            level, kind = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
            said = told if local else told[:16] + bytes(4)
        self._from = [(level, kind, said)]

    def send(self, reply: bytes, source: Source) -> None:
        """As `Port.send`."""
        try:
            self._socket.sendmsg([reply], self._from, 0, source)
        except OSError:
            self._port.unsent += 1


def tell_destination(bound: socket.socket) -> bool:
    """Have the kernel tell with each datagram which address it was sent to, where it can."""
    if sys.platform != "linux":
        return False
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    return True


def listening_socket(address: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A bound UDP socket; raises `OSError` that says where."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # beyond net.core.rmem_max, for those who may
                bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
        bound.bind((address, port))
    except OSError as problem:
        bound.close()
        raise OSError(
            problem.errno, f"cannot listen on {address} port {port}/udp: {problem.strerror}"
        ) from problem
    return bound


_REPLIES = {
    ACCESS_ACCEPT: "accepts",
    ACCESS_REJECT: "rejects",
    ACCESS_CHALLENGE: "challenges",
    ACCOUNTING_RESPONSE: "responses",
}
# FreeRADIUS-Total-…, by type, with what is counted under it.
_AUTH_STATISTICS: dict[int, tuple[str, ...]] = {
    128: ("requests",),
    129: ("accepts",),
    130: ("rejects",),
    131: ("challenges",),
    132: ("accepts", "rejects"),
    133: ("duplicate",),
    134: ("malformed",),
    135: ("invalid",),
    136: ("dropped",),
    137: ("unknown-code",),
}
_ACCT_STATISTICS: dict[int, tuple[str, ...]] = {
    148: ("requests",),
    149: ("responses",),
    150: ("duplicate",),
    151: ("malformed",),
    152: ("invalid",),
    153: ("dropped",),
    154: ("unknown-code",),
}
# FreeRADIUS calls a request invalid when it cannot have come from a client of ours.
_INVALID = (
    "unknown-client",
    "bad-authenticator",
    "bad-message-authenticator",
    "no-message-authenticator",
    "proxy-state",
)
_DROPPED = ("wrong-role", "failed", "delayed-too-many")


def _statistics(
    counts: dict[tuple[str, str], int], role: str, wanted: dict[int, tuple[str, ...]]
) -> list[tuple[int, bytes]]:
    totals: dict[str, int] = {}
    for (counted_role, reason), count in counts.items():
        if counted_role != role:
            continue
        totals[reason] = count
        if reason.startswith("malformed-"):
            totals["malformed"] = totals.get("malformed", 0) + count
        elif reason in _INVALID:
            totals["invalid"] = totals.get("invalid", 0) + count
        elif reason in _DROPPED:
            totals["dropped"] = totals.get("dropped", 0) + count
    return [
        (FREERADIUS + number, _counter(sum(totals.get(name, 0) for name in names)))
        for number, names in wanted.items()
    ]


def _counter(count: int) -> bytes:
    """A 32-bit counter, which starts again at 0 (RFC 4669)."""
    return (count & _COUNTER_MAX).to_bytes(4, "big")
