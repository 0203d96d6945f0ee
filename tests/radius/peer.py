"""The other side of the wire: clients, requests and captured packets for the RADIUS tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aaa_server.radius.client import ACCT, AUTH, TYPE_DEFAULTS, Client, ClientTable
from aaa_server.radius.packet import (
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    STATUS_SERVER,
    Secret,
    encode_request,
)
from aaa_server.radius.receive import Fresh, Receiver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aaa_server.radius.receive import Discard, Resend

CAPTURES = Path(__file__).resolve().parents[1] / "captures"
SECRET = Secret(b"testing123")
SOURCE = ("192.0.2.7", 40_000)
NOW = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)
RANDOM = bytes(range(16))  # a request authenticator

Attributes = list[tuple[int, bytes]]


def client_of(client_type: str = "rfc", *, network: str = "0.0.0.0/0", **changes: Any) -> Client:
    """A client of that type with the type's defaults, but for `changes`."""
    defaults = TYPE_DEFAULTS[client_type]
    row: dict[str, Any] = {
        "client_id": 7,
        "name": "pop-1",
        "network": ip_network(network),
        "secrets": (SECRET,),
        "type": client_type,
        "require_message_authenticator": defaults.require_message_authenticator,
        "limit_proxy_state": defaults.limit_proxy_state,
        "refuse_with": defaults.refuse_with,
    }
    return Client(**(row | changes))


class Wire:
    """A receiver with a clock wound by hand."""

    def __init__(self, *clients: Client, duplicates_max: int = 1000) -> None:
        self.now = 1000.0
        self.receiver = Receiver(
            ClientTable(clients or [client_of()]),
            lambda: self.now,
            duplicates_max=duplicates_max,
        )

    def send(
        self, datagram: bytes, *, source: tuple[str, int] = SOURCE, role: str = AUTH
    ) -> Fresh | Resend | Discard:
        return self.receiver.receive(datagram, source, role)

    def fresh(
        self, datagram: bytes, *, source: tuple[str, int] = SOURCE, role: str = AUTH
    ) -> Fresh:
        received = self.send(datagram, source=source, role=role)
        assert isinstance(received, Fresh), received
        return received


def access_request(
    attributes: Sequence[tuple[int, bytes]],
    *,
    identifier: int = 1,
    authenticator: bytes = RANDOM,
    secret: Secret = SECRET,
    signed: bool = True,
) -> bytes:
    return encode_request(
        ACCESS_REQUEST,
        identifier,
        secret,
        attributes,
        authenticator=authenticator,
        message_authenticator=signed,
    )


def accounting_request(
    attributes: Sequence[tuple[int, bytes]],
    *,
    identifier: int = 1,
    secret: Secret = SECRET,
    signed: bool = False,
) -> bytes:
    return encode_request(
        ACCOUNTING_REQUEST, identifier, secret, attributes, message_authenticator=signed
    )


def status_request(
    attributes: Sequence[tuple[int, bytes]] = (), *, identifier: int = 1, signed: bool = True
) -> bytes:
    return encode_request(
        STATUS_SERVER,
        identifier,
        SECRET,
        attributes,
        authenticator=RANDOM,
        message_authenticator=signed,
    )


def fresh_access(attributes: Sequence[tuple[int, bytes]], client: Client | None = None) -> Fresh:
    """An Access-Request as the dialect gets it."""
    return Wire(client or client_of()).fresh(access_request(attributes))


def fresh_accounting(
    attributes: Sequence[tuple[int, bytes]], client: Client | None = None
) -> Fresh:
    """An Accounting-Request as the dialect gets it."""
    return Wire(client or client_of()).fresh(accounting_request(attributes), role=ACCT)


def captured(name: str) -> list[dict[str, Any]]:
    """The requests in `tests/captures/name.jsonl`, in order, `datagram` and `role` added."""
    requests = []
    for line in (CAPTURES / f"{name}.jsonl").read_text().splitlines():
        packet = json.loads(line)
        if packet["sender"] != "responder":
            packet["datagram"] = bytes.fromhex(packet["hex"])
            packet["role"] = AUTH if packet["dport"] == 1812 else ACCT
            requests.append(packet)
    return requests


def captured_datagrams() -> list[tuple[bytes, str, str]]:
    """Every captured request once: datagram, role, client type."""
    return sorted(
        {
            (packet["datagram"], packet["role"], name.partition("_")[0])
            for name in sorted(
                path.name.partition(".")[0] for path in CAPTURES.glob("*.expected.*")
            )
            for packet in captured(name)
        }
    )
