"""The demo data: whole, loaded once, with a margin at every level."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aaa_server import demo
from aaa_server.charging.numbers import translate
from aaa_server.storage import dids, number_rules, rates, velocity_limits, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.secrets import Keyring

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from aaa_server.rating.tariff import Tariff

NOW = datetime(2026, 6, 1, tzinfo=UTC)
# Most people of the world.
CALLING_CODES = """
1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64
65 66 81 82 84 86 90 91 92 93 94 95 98 212 234 254 351 353 358 380 420 502 593 673 687 852 880
886 961 966 971 972 977 992 998
"""
LOAD_SECONDS_MAX = 30.0  # 0.4 s on an idle machine; ours is shared


def tariffs(connection: Connection) -> dict[str, Tariff]:
    with transaction(connection) as cursor:
        cursor.execute(
            "SELECT name, tariff_id FROM rate_group UNION ALL"
            " SELECT name, tariff_id FROM resource_group WHERE direction = 'out'"
        )
        return {name: rates.load_tariff(cursor, number) for name, number in cursor.fetchall()}


def test_it_loads_once(database_url: str, key_file: Path) -> None:
    keyring = Keyring.open(key_file)
    with contextlib.closing(connect(database_url)) as connection:
        begun = time.monotonic()
        with transaction(connection) as cursor:
            assert demo.load_demo(cursor, keyring)
        assert time.monotonic() - begun < LOAD_SECONDS_MAX
        with transaction(connection) as cursor:
            assert not demo.load_demo(cursor, keyring)
            cursor.execute("SELECT count(*) FROM account")
            assert cursor.fetchone() == (1 + len(demo.ACCOUNTS) + len(demo.CARDS),)


def test_the_deck_is_real_and_whole() -> None:
    rows = {row.prefix: row for row in demo.read_deck()}
    assert len(rows) > 700
    for code in CALLING_CODES.split():
        assert not rows[code].blocked
        assert rows[code].per_minute_nanos > 0
    assert rows["979"].blocked
    assert rows["1900"].blocked
    assert rows["4420"].destination == "United Kingdom London"


def test_every_level_has_a_margin_on_every_number(demo_connection: Connection) -> None:
    lists = tariffs(demo_connection)
    chains = (
        ("retail",),
        ("north-retail", "wholesale"),
        ("coast-retail", "north-wholesale", "wholesale"),
    )
    for row in demo.read_deck():
        if row.blocked:
            continue
        number = row.prefix.ljust(12, "5")
        found = {name: tariff.rate_for(number, NOW) for name, tariff in lists.items()}
        costs = [found[name] for name in ("RG_21", "RG_22")]
        cheapest = min(rate.terms.cost_micros(180) for rate in costs if rate is not None)
        for chain in chains:
            prices = []
            for name in chain:
                rate = found[name]
                assert rate is not None
                prices.append(rate.terms.cost_micros(180))
            assert [*prices, cheapest] == sorted([*prices, cheapest], reverse=True)
            assert len({*prices, cheapest}) == len(prices) + 1


def test_each_provider_is_the_cheaper_one_somewhere(demo_connection: Connection) -> None:
    lists = tariffs(demo_connection)
    cheaper = set()
    for number in ("442071838750", "12125551212"):
        costs = {}
        for name in ("RG_21", "RG_22"):
            rate = lists[name].rate_for(number, NOW)
            assert rate is not None
            costs[name] = rate.terms.cost_micros(180)
        cheaper.add(min(costs, key=lambda name: costs[name]))
    assert cheaper == {"RG_21", "RG_22"}


def test_what_the_shipped_switch_dials_has_an_answer(demo_connection: Connection) -> None:
    retail = tariffs(demo_connection)["retail"]
    refused, granted = retail.rate_for("9006", NOW), retail.rate_for("9018", NOW)
    assert refused is not None
    assert refused.blocked
    assert granted is not None
    assert not granted.blocked
    assert ("15551230001", "alice") in demo.ANIS


def test_what_is_sold_besides_calls_is_in_it(demo_connection: Connection) -> None:
    with transaction(demo_connection) as cursor:
        admin = viewer.operator(cursor)
        number = dids.find(cursor, admin, demo.DID)
        assert (number.owner_code, number.destination) == (demo.DID_OWNER, demo.DID_RINGS.address)
        prices = dids.prices(cursor, admin, [number.did_id])
        minutes = [price.terms.per_minute_nanos for price in reversed(prices)]
        assert number.cost is not None
        minutes.append(number.cost.per_minute_nanos)
        assert len(minutes) == 3
        assert minutes == sorted(set(minutes), reverse=True)
        assert dids.find(cursor, admin, demo.ACCESS_NUMBER).access
        emergency = number_rules.list_emergency(cursor, admin)
        assert {one.number for one in emergency} == {"112", "911"}
        rules = [one.rule for one in number_rules.list_rules(cursor, admin)]
        assert translate(tuple(rules), "0034911230001") == "34911230001"
        assert translate(tuple(rules), "02071838750") == "442071838750"
        [limit] = velocity_limits.list_limits(cursor, admin)
        assert (limit.account_code, limit.name) == (demo.LIMITED_ACCOUNT, "satellites")


def test_what_it_says_of_itself_names_everybody() -> None:
    text = demo.describe()
    for account in demo.ACCOUNTS:
        assert account.code in text
        assert account.password in text
    for card in demo.CARDS:
        assert f"{card.number}  PIN {card.pin}" in text
    assert "sky-aaa demo-call" in text
