"""Which client an address belongs to."""

from __future__ import annotations

import pytest

from aaa_server.radius import client as client_module
from aaa_server.radius.client import TYPE_DEFAULTS, ClientTable
from aaa_server.radius.dialect import DIALECTS
from tests.radius.peer import SECRET, client_of


def table(*networks: str) -> ClientTable:
    return ClientTable(
        client_of(client_id=number, name=network, network=network)
        for number, network in enumerate(networks)
    )


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.9", "192.0.2.9/32"),
        ("192.0.2.8", "192.0.2.0/24"),
        ("192.0.3.1", "192.0.0.0/16"),
        ("::ffff:192.0.2.9", "192.0.2.9/32"),
        ("198.51.100.1", None),
        ("2001:db8::1", "2001:db8::1/128"),
        ("2001:db8::2", "2001:db8::/32"),
        ("2001:db9::2", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_narrowest_network_wins(address: str, name: str | None) -> None:
    clients = table(
        "192.0.0.0/16", "192.0.2.9/32", "192.0.2.0/24", "2001:db8::/32", "2001:db8::1/128"
    )
    for _ in range(2):  # the second time from the table of addresses
        found = clients.match(address)
        assert (found.name if found else None) == name


@pytest.mark.parametrize("address", ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"])
@pytest.mark.parametrize(
    "network",
    ["::ffff:192.0.2.1/128", "::ffff:192.0.2.0/120", "::ffff:0:0/96", "192.0.2.1/32"],
)
def test_an_ipv4_address_is_the_same_in_ipv6(address: str, network: str) -> None:
    for strangers in ((), ("2001:db8::/32",)):
        found = table(network, *strangers).match(address)
        assert found is not None
        assert found.name == network
    assert table("::/0").match(address) is None


def test_of_one_address_written_in_both_ways_the_short_one_counts() -> None:
    networks = ("192.0.2.1/32", "::ffff:192.0.2.1/128")
    for some in (networks, networks[::-1]):
        clients = table(*some)
        found = clients.match("192.0.2.1")
        assert found is not None
        assert found.name == "192.0.2.1/32"
        assert len(clients.clients) == 2


def test_the_whole_internet_may_be_one_client() -> None:
    found = table("0.0.0.0/0").match("203.0.113.77")
    assert found is not None
    assert found.covers_network
    assert table("0.0.0.0/0").match("2001:db8::1") is None


def test_one_address_is_no_network() -> None:
    assert not client_of(network="192.0.2.1/32").covers_network
    assert not client_of(network="2001:db8::1/128").covers_network
    assert client_of(network="192.0.2.0/31").covers_network


def test_two_clients_cannot_have_the_same_network() -> None:
    with pytest.raises(ValueError, match=r"pop-1 and pop-2 are both 192\.0\.2\.0/24"):
        ClientTable(
            [
                client_of(name="pop-1", network="192.0.2.0/24"),
                client_of(name="pop-2", network="192.0.2.0/24"),
            ]
        )


def test_the_table_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ADDRESSES_MAX", 4)
    clients = table("10.0.0.0/8")
    for number in range(20):
        assert clients.match(f"10.0.0.{number}") is not None
        assert clients.match(f"11.0.0.{number}") is None
        assert len(clients._by_address) <= 4


def test_a_client_has_one_or_two_secrets() -> None:
    for secrets in ((), (SECRET,) * 3):
        with pytest.raises(ValueError, match="not 1 or 2"):
            client_of(secrets=secrets)


def test_every_type_has_a_dialect_and_defaults() -> None:
    assert TYPE_DEFAULTS.keys() == DIALECTS.keys()
    unsigned = {
        name: each
        for name, each in TYPE_DEFAULTS.items()
        if each.require_message_authenticator == "no"
    }
    assert unsigned.keys() == {"freeswitch", "kamailio"}
    assert all(each.limit_proxy_state == "yes" for each in unsigned.values())
