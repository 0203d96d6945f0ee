"""Clients, resource groups, rate groups, maps and currencies by command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aaa_server.storage import clients, viewer
from aaa_server.storage.database import transaction
from aaa_server.storage.secrets import Keyring

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky


# ------------------------------------------------------------------ clients


@pytest.mark.parametrize(
    ("kind", "message_authenticator", "proxy_state", "refuse_with"),
    [
        ("freeswitch", "no", "yes", "accept"),
        ("kamailio", "no", "yes", "reject"),
        ("rfc", "yes", "auto", "reject"),
        ("cisco", "yes", "auto", "reject"),
        ("sippy", "yes", "auto", "reject"),
    ],
)
def test_a_clients_type_says_what_is_not_said(
    sky: Sky, kind: str, message_authenticator: str, proxy_state: str, refuse_with: str
) -> None:
    made = sky(
        *("client", "add", "new", "192.0.2.0/24", "--type", kind, "--secret", "s3cret"),
        *("-o", "json"),
    ).json
    assert made["require_message_authenticator"] == message_authenticator
    assert made["limit_proxy_state"] == proxy_state
    assert made["refuse_with"] == refuse_with
    assert "s3cret" not in str(made)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("new", "192.0.2.1/24", "--type", "rfc", "--secret", "x"), "host bits"),
        (("new", "somewhere", "--type", "rfc", "--secret", "x"), "192.0.2.0/24"),
        (("new", "127.0.0.1", "--type", "rfc", "--secret", "x"), "network 127.0.0.1/32"),
        (("rfc", "192.0.2.1", "--type", "rfc", "--secret", "x"), "'rfc' already"),
        (("new", "192.0.2.1", "--type", "rfc"), "--secret-file"),
        (("new", "192.0.2.1", "--type", "rfc", "--secret", ""), "1 to 128"),
        (("new", "192.0.2.1", "--type", "freswitch", "--secret", "x"), "freeswitch"),
        (
            ("new", "192.0.2.1", "--type", "rfc", "--secret", "x", "--return-code", "no-rat=9"),
            "no-rate",
        ),
    ],
    ids=" ".join,
)
def test_a_client_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], expected: str
) -> None:
    ran = unchanged("client", "add", *words)
    assert ran.status in (1, 2)
    assert expected in ran.err


def test_set_changes_a_client_and_servers_are_told(sky: Sky, demo_connection: Connection) -> None:
    def revision() -> int:
        with transaction(demo_connection) as cursor:
            cursor.execute("SELECT revision FROM client_list")
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])

    before = sky("client", "show", "cisco", "-o", "json").json
    told = revision()
    after = sky(
        *("client", "set", "cisco", "--address", "2001:db8::/32", "--slice-seconds", "60"),
        *("--return-code", "no-rate=9", "--rename", "gateway", "-o", "json"),
    ).json
    expected = {
        "name": "gateway",
        "network": "2001:db8::/32",
        "slice_seconds": 60,
        "return_codes": {"no-rate": 9},
    }
    assert after == before | expected
    assert revision() > told


def test_a_secret_is_changed_over_with_a_second_one(
    sky: Sky, tmp_path: Path, demo_connection: Connection, key_file: Path
) -> None:
    (tmp_path / "new").write_bytes(b"the-new-secret\n")
    sky("client", "set", "rfc", "--second-secret-file", str(tmp_path / "new"))
    assert sky("client", "show", "rfc", "-o", "json").json["second_secret"] is True
    sky("client", "set", "rfc", "--secret-file", str(tmp_path / "new"))
    assert sky("client", "show", "rfc", "-o", "json").json["second_secret"] is False
    keyring = Keyring.open(key_file)
    with transaction(demo_connection) as cursor:
        operator = viewer.operator(cursor)
        client = clients.find(cursor, operator, "rfc")
        secret = clients.secret(cursor, operator, keyring, client.client_id)
    assert secret == b"the-new-secret"


def test_a_client_is_removed_but_not_while_it_has_calls(
    sky: Sky, demo_connection: Connection
) -> None:
    assert sky("client", "remove", "cisco").status == 0
    assert "no RADIUS client 'cisco'" in sky("client", "show", "cisco").err
    with transaction(demo_connection) as cursor:
        cursor.execute(
            """
            INSERT INTO call (client_id, session_key, call_id, status, expires_at, authorized_at)
            SELECT client_id, 's', 1, 'started', now(), now()
              FROM client
             WHERE name = 'rfc'
            """
        )
    ran = sky("client", "remove", "rfc")
    assert ran.status == 1
    assert "1 calls in progress" in ran.err


# ------------------------------------------------------------------ resource groups


def test_a_resource_group_out_and_in(sky: Sky) -> None:
    out = sky(
        *("resource-group", "add", "31", "--direction", "out", "--account", "acme"),
        *("--gateway", "sofia/gateway/acme2", "--max-calls", "30", "-o", "json"),
    ).json
    assert (out["name"], out["currency"], out["max_calls"]) == ("RG_31", "USD", 30)
    inward = sky(
        *("resource-group", "add", "RG_32", "--direction", "in", "--account", "nora"),
        *("--endpoint", "198.51.100.0/24", "--endpoint", "203.0.113.7:5070"),
        *("--endpoint", "[2001:db8::1]:5060", "--tech-prefix", "99#", "-o", "json"),
    ).json
    assert inward["endpoints"] == [
        "198.51.100.0/24/99#",
        "203.0.113.7/32:5070/99#",
        "2001:db8::1/128:5060/99#",
    ]
    again = sky("resource-group", "set", "32", "--endpoint", "198.51.100.1", "-o", "json").json
    assert again["endpoints"] == ["198.51.100.1/32"]
    assert (
        sky("resource-group", "set", "32", "--no-endpoints", "-o", "json").json["endpoints"] == []
    )
    suspended = sky("resource-group", "set", "31", "--suspended", "-o", "json").json
    assert suspended["status"] == "suspended"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("add", "21", "--direction", "out", "--account", "acme"), "RG_21 already"),
        (("add", "31", "--direction", "out", "--account", "alice"), "needs a provider"),
        (("add", "31", "--direction", "in", "--account", "acme"), "needs a customer"),
        (("add", "31", "--direction", "in", "--account", "admin"), "of kind admin"),
        (("add", "x1", "--direction", "in", "--account", "nora"), "RG_21 or 21"),
        (
            ("add", "31", "--direction", "in", "--account", "nora", "--endpoint", "127.0.0.11"),
            "another resource group",
        ),
        (
            ("add", "31", "--direction", "in", "--account", "nora", "--endpoint", "1.2.3.4:99999"),
            "65535",
        ),
        (
            ("add", "31", "--direction", "out", "--account", "acme", "--endpoint", "1.2.3.4"),
            "inbound",
        ),
        (
            ("add", "31", "--direction", "in", "--account", "nora", "--gateway", "x"),
            "outbound",
        ),
        (
            ("add", "31", "--direction", "out", "--account", "acme", "--prepend", "x"),
            "digits",
        ),
        (("set", "11"), "nothing to change"),
        (("set", "21", "--endpoint", "1.2.3.4"), "outbound"),
        (("show", "99"), "there is no resource group RG_99"),
    ],
    ids=" ".join,
)
def test_a_resource_group_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], expected: str
) -> None:
    ran = unchanged("resource-group", *words)
    assert ran.status in (1, 2)
    assert expected in ran.err


# ------------------------------------------------------------------ rate groups


def test_a_rate_group_with_its_routes(sky: Sky) -> None:
    made = sky(
        *("rate-group", "add", "gold", "--currency", "EUR", "--strategy", "longest-prefix"),
        *("--markup", "12.5", "--increment-seconds", "1", "-o", "json"),
    ).json
    assert (made["owner"], made["markup_percent"]) == ("admin", "12.5")
    assert (made["strategy"], made["increment_seconds"]) == ("longest-prefix", 1)
    sky("rate-group", "attach", "gold", "RG_21", "--priority", "5")
    attached = sky("rate-group", "attach", "gold", "22", "--weight", "3", "-o", "json").json
    assert [(row["resource_group"], row["priority"]) for row in attached] == [
        ("RG_22", 0),
        ("RG_21", 5),
    ]
    assert sky("rate-group", "detach", "gold", "22").status == 0
    shown = sky("rate-group", "show", "gold", "-o", "json").json
    assert [route["provider"] for route in shown["routes"]] == ["acme"]
    assert (shown["rates"], shown["accounts"]) == (0, 0)


def test_a_rate_groups_price_of_calls_to_numbers_of_our_own(sky: Sky) -> None:
    made = sky("rate-group", "add", "gold", "--on-net", "0.0005", "-o", "json").json
    assert made["on_net"] == "0.0005"
    assert (
        sky("rate-group", "set", "gold", "--markup", "1", "-o", "json").json["on_net"] == "0.0005"
    )
    assert sky("rate-group", "set", "gold", "--on-net", "none", "-o", "json").json["on_net"] is None
    words = ("rate-group", "set", "coast-retail", "--on-net", "0", "-o", "json")
    assert sky("--as", "coast", *words).json["on_net"] == "0.0000"
    assert sky("--as", "north", *words).status == 1


def test_a_name_of_two_owners_needs_the_owner(sky: Sky) -> None:
    sky("rate-group", "add", "retail", "--owner", "coast")
    sky("rate-group", "add", "coast-retail", "--owner", "north")
    assert sky("rate-group", "show", "retail", "-o", "json").json["owner"] == "admin"
    ran = sky("rate-group", "show", "coast-retail")
    assert ran.status == 1
    assert "--owner (coast, north)" in ran.err
    shown = sky("rate-group", "show", "coast-retail", "--owner", "coast", "-o", "json").json
    assert shown["owner"] == "coast"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("add", "retail"), "'retail' of this owner already"),
        (("add", "x", "--owner", "alice"), "only the operator and resellers sell"),
        (("add", "x", "--markup", "-100"), "more than -100 %"),
        (("set", "retail"), "nothing to change"),
        (("set", "retail", "--on-net=-0.01"), "'-0.01' is no price: 0 and above are, or none"),
        (("set", "retail", "--initial-seconds", "2147483648"), "too large to be stored"),
        (("attach", "retail", "11"), "inbound"),
        (("detach", "north-retail", "21"), "not attached"),
        (("show", "nothing"), "no rate group 'nothing'"),
    ],
    ids=" ".join,
)
def test_a_rate_group_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], expected: str
) -> None:
    ran = unchanged("rate-group", *words)
    assert ran.status in (1, 2)
    assert expected in ran.err


# ------------------------------------------------------------------ maps and currencies


def test_maps(sky: Sky) -> None:
    assert "44123 is bob" in sky("map", "ani", "+44-123", "bob").err
    assert "not bob any more" in sky("map", "ani", "0044123".removeprefix("00"), "nora").err
    sky("map", "extension", "55@SIP.example", "cora")
    rows = {
        (row["map"], row["number"], row["domain"], row["account"])
        for row in sky("map", "list", "-o", "json").json
    }
    assert ("ani", "44123", "", "nora") in rows
    assert ("extension", "55", "sip.example", "cora") in rows
    assert sky("map", "remove", "extension", "55@sip.example").status == 0
    again = sky("map", "remove", "extension", "55@sip.example")
    assert again.status == 1
    assert "sky-aaa map list" in again.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ani", "hello", "bob"), "no number"),
        (("ani", "1234", "acme"), "is a provider"),
        (("extension", "@sip.example", "bob"), "EXT@DOMAIN"),
        (("ani", "1234", "nobody"), "no account 'nobody'"),
    ],
    ids=" ".join,
)
def test_a_map_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], expected: str
) -> None:
    ran = unchanged("map", *words)
    assert ran.status in (1, 2)
    assert expected in ran.err


def test_exchange_rates(sky: Sky) -> None:
    sky("currency", "rate", "usd", "eur", "0.95", "--from", "2026-01-01")
    sky("currency", "rate", "USD", "EUR", "0.9500000001", "--from", "2026-01-01")
    rows = sky("currency", "list", "-o", "json").json
    assert [row["rate"] for row in rows] == ["0.9500000001", "0.9200"]
    for value in ("0", "-1", "x"):
        assert sky("currency", "rate", "USD", "GBP", "--", value).status == 2
    assert sky("currency", "rate", "USD", "USD", "1").status == 2
