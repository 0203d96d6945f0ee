"""Who may talk to the server: RADIUS clients by source address, longest match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.radius.packet import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = IPv4Network | IPv6Network

AUTH = "auth"
ACCT = "acct"

MAPPED_BITS = 96  # RFC 4291 §2.5.5.2

# Addresses of known clients whose row has been looked up; one network may hold many.
ADDRESSES_MAX = 16_384


class TypeDefaults(NamedTuple):
    """What a new client of a type gets where nothing else is said."""

    require_message_authenticator: str = "yes"
    limit_proxy_state: str = "auto"
    refuse_with: str = "reject"


# The libraries of FreeSWITCH and Kamailio never send Message-Authenticator; what it would
# protect is then protected by refusing Proxy-State (CVE-2024-3596). FreeSWITCH hides every
# attribute of an Access-Reject from the script, so it is refused inside an Access-Accept.
TYPE_DEFAULTS: dict[str, TypeDefaults] = {
    "freeswitch": TypeDefaults("no", "yes", "accept"),
    "kamailio": TypeDefaults("no", "yes"),
    "cisco": TypeDefaults(),
    "rfc": TypeDefaults(),
    "sippy": TypeDefaults(),
}


@dataclass(frozen=True, slots=True)
class Client:
    """One row of the client table; `secrets` holds two while a secret is being changed.

    `require_message_authenticator` and `limit_proxy_state` are yes, no or auto;
    `refuse_with` is accept or reject; `bill_leg` is answer, originate or any.
    `digest_nonces` is client (it may make them itself) or server.
    `return_codes` overrides h323-return-code by the value of a `Refusal`.
    """

    client_id: int
    name: str
    network: Network
    secrets: tuple[Secret, ...]
    type: str
    require_message_authenticator: str = "yes"
    message_authenticator_seen: bool = False
    limit_proxy_state: str = "auto"
    send_message_authenticator: bool = True
    refuse_with: str = "reject"
    roles: frozenset[str] = frozenset((AUTH, ACCT))
    bill_leg: str = "answer"
    slice_seconds: int | None = None
    maximum_call_seconds: int | None = None
    return_codes: Mapping[str, int] = field(default_factory=dict)
    disconnect_port: int | None = None
    digest_nonces: str = "client"

    def __post_init__(self) -> None:
        if not 1 <= len(self.secrets) <= 2:
            raise ValueError(f"client {self.name} has {len(self.secrets)} secrets, not 1 or 2")

    @property
    def covers_network(self) -> bool:
        """Do several addresses share the row? Then a reboot closes one address's calls only."""
        return self.network.num_addresses > 1


def unmapped(network: Network) -> Network:
    """`192.0.2.0/24` for `::ffff:192.0.2.0/120`: a datagram's source is compared as IPv4."""
    if isinstance(network, IPv4Network) or network.prefixlen < MAPPED_BITS:
        return network
    mapped = network.network_address.ipv4_mapped
    if mapped is None:
        return network
    return IPv4Network((int(mapped), network.prefixlen - MAPPED_BITS))


class ClientTable:
    """The clients, found by address; a changed table is a new one.

    Raises `ValueError` when two clients have the same network. Of two that only mean the same,
    one in IPv4 and one mapped into IPv6, the first is found.
    """

    def __init__(self, clients: Iterable[Client] = ()) -> None:
        self.clients: dict[int, Client] = {}
        # (version, prefix length), longest first, with the clients by network number.
        by_length: dict[tuple[int, int], dict[int, Client]] = {}
        for client in clients:
            network = unmapped(client.network)
            same = by_length.setdefault((network.version, network.prefixlen), {})
            other = same.setdefault(int(network.network_address), client)
            if other is not client:
                if other.network == client.network:
                    raise ValueError(f"clients {other.name} and {client.name} are both {network}")
                if client.network == network:
                    same[int(network.network_address)] = client
            self.clients[client.client_id] = client
        self._by_length = sorted(by_length.items(), key=lambda item: -item[0][1])
        self._by_address: dict[str, Client] = {}

    def match(self, address: str) -> Client | None:
        """The client of the narrowest network that holds `address`; None: nobody's."""
        client = self._by_address.get(address)
        if client is None:
            client = self._find(address)
            if client is not None:
                # Only the known are kept: strangers with forged addresses fill nothing.
                if len(self._by_address) >= ADDRESSES_MAX:
                    self._by_address.clear()
                self._by_address[address] = client
        return client

    def _find(self, address: str) -> Client | None:
        try:
            parsed = ip_address(address)
        except ValueError:
            return None
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        number = int(parsed)
        for (version, length), clients in self._by_length:
            if version == parsed.version:
                below = parsed.max_prefixlen - length
                client = clients.get(number >> below << below)
                if client is not None:
                    return client
        return None
