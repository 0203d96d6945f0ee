"""From a datagram to a request that may be answered: no I/O, no database, no state of calls.

Client by address, strict decoding, authenticators, Message-Authenticator, Proxy-State
(CVE-2024-3596) and duplicates (RFC 5080 §2.2.2), in this order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from twisted.logger import Logger

from aaa_server.radius import attribute
from aaa_server.radius.client import ACCT, AUTH, Client, ClientTable
from aaa_server.radius.packet import (
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    STATUS_SERVER,
    Malformed,
    Packet,
    Secret,
    decode,
    message_authenticator_fits,
    request_authenticator_fits,
)

Source = tuple[str, int] | tuple[str, int, int, int]  # host and port; IPv6 has two numbers more

ANSWER_KEPT_SECONDS = 30.0
# Identifier slots remembered over all sources; a source port has 256 of a kind. FreeSWITCH
# opens a port for each request, so at 3 000 requests/s this holds the last 40 seconds.
DUPLICATES_MAX = 131_072
COMPLAINT_SECONDS = 10.0  # between two log lines for one reason

_CODES = {AUTH: (ACCESS_REQUEST, STATUS_SERVER), ACCT: (ACCOUNTING_REQUEST, STATUS_SERVER)}


class Seen:
    """A request in the duplicate cache; `reply` is None while it is being answered."""

    __slots__ = ("at", "authenticator", "reply")

    def __init__(self, authenticator: bytes, at: float) -> None:
        self.authenticator = authenticator
        self.at = at
        self.reply: bytes | None = None


class Sender(Protocol):
    """Where a request came in, and its reply goes out."""

    def send(self, reply: bytes, source: Source) -> None: ...


class Fresh:
    """A valid request, not seen before. `secret` is the one it was signed with.

    Whoever answers may set `delay_seconds`: a reply that says no to a guess of a
    password waits that long. `port` is set by who reads the socket.
    """

    __slots__ = ("client", "delay_seconds", "packet", "port", "role", "secret", "seen", "source")

    def __init__(
        self,
        packet: Packet,
        client: Client,
        source: Source,
        secret: Secret,
        role: str,
        seen: Seen,
    ) -> None:
        self.packet = packet
        self.client = client
        self.source = source
        self.secret = secret
        self.role = role
        self.seen = seen
        self.delay_seconds = 0.0
        self.port: Sender | None = None


# Is called with a request and its reply's octets, or None for silence.
Reply = Callable[[Fresh, bytes | None], None]


class Resend(NamedTuple):
    """The request again: it gets the same octets again."""

    reply: bytes


class Discard(NamedTuple):
    """Nothing is answered. `reason` is the counter that went up."""

    reason: str


class Receiver:
    """Checks datagrams. `counts` has, by (role, reason), what came and what was dropped.

    `seconds` is a monotonic-enough clock, `reactor.seconds`. `clients` may be replaced
    at any time.
    """

    _log = Logger()

    def __init__(
        self,
        clients: ClientTable,
        seconds: Callable[[], float],
        *,
        duplicates_max: int = DUPLICATES_MAX,
    ) -> None:
        self.clients = clients
        self.counts: dict[tuple[str, str], int] = {}
        self._seconds = seconds
        self._duplicates_max = duplicates_max
        # By source, code and identifier. Old ones leave one or two at a time with each new
        # one, in the order in which they came: no sweep ever stops the server.
        self._seen: dict[tuple[Source, int], Seen] = {}
        self._order: deque[tuple[tuple[Source, int], Seen]] = deque()
        # Clients of require_message_authenticator = auto that were seen to sign.
        self._signing: set[int] = set()
        # Ids of auto clients that have been seen to sign, until that is stored.
        self.newly_signing: set[int] = set()
        # Clients of limit_proxy_state = auto, by what their first Access-Request showed.
        self._limited: dict[int, bool] = {}
        # The secret that last fitted, for clients that have two: an unsigned
        # Access-Request does not show which one it was made with.
        self._secret_in_use: dict[tuple[int, str], Secret] = {}
        self._complained: dict[str, tuple[float, int]] = {}

    def receive(self, datagram: bytes, source: Source, role: str) -> Fresh | Resend | Discard:
        """What `datagram`, come from `source` to the port for `role`, is. Never raises."""
        counts = self.counts
        counted = (role, "requests")
        counts[counted] = counts.get(counted, 0) + 1
        client = self.clients.match(source[0])
        if client is None:
            return self._discard(role, "unknown-client", source, "is no client of ours")
        if role not in client.roles:
            return self._discard(role, "wrong-role", source, f"{client.name} may not do {role}")
        try:
            packet = decode(datagram)
        except Malformed as problem:
            reason = f"malformed-{problem.reason}"
            return self._discard(role, reason, source, f"{client.name}: {problem}")
        code = packet.code
        if code not in _CODES[role]:
            return self._discard(
                role, "unknown-code", source, f"{client.name}: code {code} on the {role} port"
            )
        key = (source, code << 8 | packet.identifier)
        now = self._seconds()
        seen = self._seen.get(key)
        if (
            seen is not None
            and seen.authenticator == packet.authenticator
            and now - seen.at < ANSWER_KEPT_SECONDS
        ):
            counted = (role, "duplicate")
            counts[counted] = counts.get(counted, 0) + 1
            return Discard("duplicate") if seen.reply is None else Resend(seen.reply)
        secret = self._signed_with(packet, client, source)
        if type(secret) is str:
            return self._discard(role, secret, source, f"{client.name}: {_TEXTS[secret]}")
        assert isinstance(secret, Secret)
        seen = self._remember(key, packet.authenticator, now)
        return Fresh(packet, client, source, secret, role, seen)

    def answered(self, fresh: Fresh, reply: bytes) -> None:
        """`reply` has been sent; whoever asks again within 30 s gets it again."""
        fresh.seen.reply = reply
        fresh.seen.at = self._seconds()

    def forget(self, fresh: Fresh) -> None:
        """No reply will come: when the client asks again, it is a new question."""
        key = (fresh.source, fresh.packet.code << 8 | fresh.packet.identifier)
        if self._seen.get(key) is fresh.seen:
            del self._seen[key]

    def _signed_with(self, packet: Packet, client: Client, source: Source) -> Secret | str:
        """The secret that `packet` was made with, or the reason to drop it."""
        secrets = client.secrets
        signed = packet.message_authenticator_at
        code = packet.code
        if code == ACCOUNTING_REQUEST:
            for secret in secrets:
                if request_authenticator_fits(packet, secret):
                    if signed and not message_authenticator_fits(packet, secret):
                        return "bad-message-authenticator"
                    if len(secrets) > 1:
                        self._secret_in_use[client.client_id, source[0]] = secret
                    return secret
            return "bad-authenticator"
        if signed:
            for secret in secrets:
                if message_authenticator_fits(packet, secret):
                    if code == ACCESS_REQUEST:
                        self._learn(packet, client)
                    if len(secrets) > 1:
                        self._secret_in_use[client.client_id, source[0]] = secret
                    return secret
            return "bad-message-authenticator"
        if code == STATUS_SERVER:  # RFC 5997 §3
            return "no-message-authenticator"
        return self._unsigned(packet, client, source)

    def _unsigned(self, packet: Packet, client: Client, source: Source) -> Secret | str:
        """As `_signed_with`, for an Access-Request without Message-Authenticator."""
        required = client.require_message_authenticator
        if (
            required == "yes"
            or (
                required == "auto"
                and (client.message_authenticator_seen or client.client_id in self._signing)
            )
            # RFC 3579 §3.2: EAP never without.
            or any(key == attribute.EAP_MESSAGE for key, _ in packet.attributes)
        ):
            return "no-message-authenticator"
        limit = client.limit_proxy_state
        if limit == "auto":
            self._learn(packet, client)
        if packet.proxied and (limit == "yes" or self._limited.get(client.client_id, False)):
            return "proxy-state"
        if len(client.secrets) > 1:
            return self._secret_in_use.get((client.client_id, source[0]), client.secrets[0])
        return client.secrets[0]

    def _learn(self, packet: Packet, client: Client) -> None:
        """Settle what `auto` means for this client.

        limit_proxy_state as FreeRADIUS 3.2 does: the first Access-Request decides, and only
        one with Proxy-State and without Message-Authenticator (an old proxy) says no.
        """
        client_id = client.client_id
        signed = packet.message_authenticator_at > 0
        if client.limit_proxy_state == "auto" and client_id not in self._limited:
            self._limited[client_id] = signed or not packet.proxied
        if (
            signed
            and client.require_message_authenticator == "auto"
            and not client.message_authenticator_seen
            and client_id not in self._signing
        ):
            self._signing.add(client_id)
            self.newly_signing.add(client_id)

    def _remember(self, key: tuple[Source, int], authenticator: bytes, now: float) -> Seen:
        seen = Seen(authenticator, now)
        slots, order = self._seen, self._order
        slots[key] = seen
        order.append((key, seen))
        # Two out for one in: the table shrinks back to what is still young.
        for _ in range(2):
            oldest, old = order[0]
            if now - old.at < ANSWER_KEPT_SECONDS and len(order) <= self._duplicates_max:
                break
            order.popleft()
            if slots.get(oldest) is old:  # or the identifier has been used again, or forgotten
                del slots[oldest]
        return seen

    def _discard(self, role: str, reason: str, source: Source, text: str) -> Discard:
        counted = (role, reason)
        self.counts[counted] = self.counts.get(counted, 0) + 1
        now = self._seconds()
        said_at, unsaid = self._complained.get(reason, (-COMPLAINT_SECONDS, 0))
        if now - said_at < COMPLAINT_SECONDS:
            self._complained[reason] = (said_at, unsaid + 1)
        else:
            self._complained[reason] = (now, 0)
            self._log.warn(
                "dropped a packet from {host} port {port} ({reason}): {text}{more}",
                host=source[0],
                port=source[1],
                reason=reason,
                text=text,
                more=f"; {unsaid} more like it since the last line" if unsaid else "",
            )
        return Discard(reason)


_TEXTS = {
    "bad-authenticator": "the Request Authenticator does not fit the shared secret",
    "bad-message-authenticator": "the Message-Authenticator does not fit the shared secret",
    "no-message-authenticator": "the request has no Message-Authenticator, which it must have",
    "proxy-state": "the request has Proxy-State but no Message-Authenticator",
}
