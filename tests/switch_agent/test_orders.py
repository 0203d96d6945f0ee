"""Whose orders are whose: the addresses that an order names, and where orders are taken."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from aaa_server.config import SwitchAgentConfig
from aaa_server.radius import attribute
from aaa_server.radius.packet import (
    COA_REQUEST,
    DISCONNECT_REQUEST,
    Secret,
    decode,
    encode_request,
)
from aaa_server.switch_agent.leg import Leg
from aaa_server.switch_agent.orders import NAS_MISMATCH, Orders
from aaa_server.switch_agent.service import NotConfigured, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET = Secret(b"testing123")
DONE = None


class Told:
    """The spool, the switch and its cuts: one call, of which all is done that is ordered."""

    def __init__(self) -> None:
        self.legs = {"call": Leg("call")}

    async def kill(self, channel: str) -> bool:
        return channel in self.legs

    async def cut_after(self, leg: Leg, seconds: int) -> bool:
        return leg.uuid in self.legs and seconds > 0


def new_orders(nas_address: str, sources: Iterable[str] = ()) -> Orders:
    told: Any = Told()
    return Orders(
        told,
        told,
        told,
        sources=frozenset(sources),
        secret=SECRET,
        nas_address=nas_address,
        clock=Clock(),
        now=lambda: 1_790_000_000.0,
    )


def error_cause(orders: Orders, code: int, attributes: list[tuple[int, bytes]]) -> int | None:
    """Why the order is refused; None when it is done."""
    answers: list[bytes] = []
    packet = decode(encode_request(code, 1, SECRET, attributes))
    ensureDeferred(orders.answer(packet)).addCallback(answers.append)
    (octets,) = answers
    reply = decode(octets)
    causes = [value for key, value in reply.attributes if key == attribute.ERROR_CAUSE]
    assert reply.code == code + (2 if causes else 1)
    return int.from_bytes(causes[0], "big") if causes else None


@pytest.mark.parametrize("code", [DISCONNECT_REQUEST, COA_REQUEST])
@pytest.mark.parametrize(
    ("ours", "named", "outcome"),
    [
        ("192.0.2.10", "192.0.2.10", DONE),
        ("192.0.2.10", "192.0.2.9", NAS_MISMATCH),
        ("2001:db8::10", "2001:db8::10", DONE),
        ("2001:db8::10", "2001:db8::9", NAS_MISMATCH),
        # Of the other family we do not know ours.
        ("192.0.2.10", "2001:db8::10", DONE),
        ("2001:db8::10", "192.0.2.10", DONE),
        ("", "192.0.2.10", DONE),
        ("", "2001:db8::10", DONE),
    ],
)
def test_an_order_may_name_the_switch_by_either_address(
    code: int, ours: str, named: str, outcome: int | None
) -> None:
    address = ip_address(named)
    key = attribute.NAS_IP_ADDRESS if address.version == 4 else attribute.NAS_IPV6_ADDRESS
    attributes = [(attribute.ACCT_SESSION_ID, b"call"), (key, address.packed)]
    if code == COA_REQUEST:
        attributes.append((attribute.SESSION_TIMEOUT, (30).to_bytes(4, "big")))
    assert error_cause(new_orders(ours), code, attributes) == outcome


@pytest.mark.parametrize(
    ("bind", "address", "sent"),
    [
        ("", "", False),
        ("192.0.2.10", "192.0.2.10", True),
        ("2001:db8::10", "2001:db8::10", False),
        ("0.0.0.0", "", False),
        ("::", "", False),
    ],
)
def test_the_switch_s_address_is_the_one_that_is_bound(bind: str, address: str, sent: bool) -> None:
    config = SwitchAgentConfig(event_socket_password="x", secret="x", servers=(), bind=bind)
    settings = settings_of(config)
    assert settings.nas_address == address
    assert settings.nas == ([(attribute.NAS_IP_ADDRESS, b"\xc0\x00\x02\x0a")] if sent else [])


@pytest.mark.parametrize(
    ("bind", "server", "family"),
    [
        ("192.0.2.10", "2001:db8::1", "IPv6"),
        ("0.0.0.0", "2001:db8::1", "IPv6"),
        ("2001:db8::10", "192.0.2.1", "IPv4"),
        ("::", "192.0.2.1", "IPv4"),
    ],
)
def test_a_server_that_the_bound_address_cannot_reach_is_refused(
    bind: str, server: str, family: str
) -> None:
    config = SwitchAgentConfig(
        event_socket_password="x", secret="x", servers=(bind, server), bind=bind
    )
    with pytest.raises(NotConfigured) as refused:
        settings_of(config)
    why = str(refused.value)
    assert why.startswith(f"[switch_agent] servers: {server!r} is an {family} address")
    assert repr(bind) in why


def test_addresses_are_compared_as_the_kernel_writes_them() -> None:
    config = SwitchAgentConfig(
        event_socket_password="x", secret="x", servers=("2001:DB8:0::1", "::ffff:192.0.2.1")
    )
    assert settings_of(config).addresses == ["2001:db8::1", "192.0.2.1"]


def test_an_address_of_a_wrong_length_is_not_ours() -> None:
    for ours, key in (
        ("192.0.2.10", attribute.NAS_IP_ADDRESS),
        ("2001:db8::10", attribute.NAS_IPV6_ADDRESS),
    ):
        attributes = [(attribute.ACCT_SESSION_ID, b"call"), (key, b"\x00")]
        assert error_cause(new_orders(ours), DISCONNECT_REQUEST, attributes) == NAS_MISMATCH
