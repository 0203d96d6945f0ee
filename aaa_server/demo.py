"""A small world to try everything in: loaded once, into a database without accounts.

Providers acme and globex sell to the operator; the operator sells to customers and to the
reseller north; north sells to customers and to its sub-reseller coast; coast sells to
customers. Everybody's price list is made from one deck (demo_deck.csv), so that every
level has a margin.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import parse_micros, parse_nanos
from aaa_server.storage import (
    accounts,
    clients,
    currencies,
    maps,
    payments,
    rate_groups,
    resource_groups,
    viewer,
)
from aaa_server.storage.rates import RateRow, import_rates

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.secrets import Keyring
    from aaa_server.storage.viewer import Viewer

DECK = Path(__file__).with_name("demo_deck.csv")
# Long past, so that calls with any event time find a row.
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
SECRET = b"testing123"

# The shipped FreeSWITCH example dials these; no country has them.
BLOCKED_TEST_NUMBER = "9006"
TEST_NUMBER = "9018"


class DemoAccount(NamedTuple):
    """One account of the demo; `credit` is paid in, `limit` is the postpaid credit limit."""

    code: str
    kind: str
    parent: str
    name: str
    rate_group: str = ""
    credit: str = ""
    limit: str = ""
    currency: str = "USD"
    password: str = ""
    pin: str = ""
    max_channels: int = 0
    status: str = "active"
    expires_at: datetime | None = None


class DemoClient(NamedTuple):
    """One RADIUS client of the demo; the secret of all is testing123."""

    name: str
    address: str
    type: str


class PriceList(NamedTuple):
    """One rate group of the demo: the deck's prices at `percent`, billed in these steps."""

    name: str
    owner: str
    percent: int
    initial_seconds: int
    increment_seconds: int


ACCOUNTS = (
    DemoAccount("acme", "provider", "admin", "Acme Carrier"),
    DemoAccount("globex", "provider", "admin", "Globex Telecom"),
    DemoAccount("north", "reseller", "admin", "North Telecom", "wholesale", limit="500"),
    DemoAccount("coast", "reseller", "north", "Coast Calls", "north-wholesale", credit="200"),
    DemoAccount(
        "alice", "customer", "admin", "Alice", "retail", credit="50", password="alice-password"
    ),
    DemoAccount("bob", "customer", "admin", "Bob", "retail", limit="100"),
    DemoAccount(
        "nora", "customer", "north", "Nora", "north-retail", credit="20", password="nora-password"
    ),
    DemoAccount("noel", "customer", "north", "Noel", "north-retail", limit="50"),
    DemoAccount(
        "cora", "customer", "coast", "Cora", "coast-retail", credit="10", password="cora-password"
    ),
    DemoAccount(
        "carl", "customer", "coast", "Carl, in euros", "coast-retail", limit="20", currency="EUR"
    ),
    DemoAccount("7700123456", "customer", "admin", "A calling card", "retail", "5", pin="1234"),
    DemoAccount("empty", "customer", "admin", "Without credit", "retail"),
    DemoAccount("single", "customer", "admin", "One call at once", "retail", "10", max_channels=1),
    DemoAccount("suspended", "customer", "admin", "Suspended", "retail", "10", status="suspended"),
    DemoAccount("expired", "customer", "admin", "Expired", "retail", "10", expires_at=BEGIN),
)

CLIENTS = (
    DemoClient("freeswitch", "127.0.0.1", "freeswitch"),
    DemoClient("freeswitch-ipv6", "::1", "freeswitch"),
    DemoClient("rfc", "127.0.0.2", "rfc"),
    DemoClient("cisco", "127.0.0.3", "cisco"),
)

PRICE_LISTS = (
    PriceList("retail", "admin", 100, 60, 60),
    PriceList("wholesale", "admin", 75, 1, 1),
    PriceList("north-retail", "north", 115, 60, 60),
    PriceList("north-wholesale", "north", 85, 30, 6),
    PriceList("coast-retail", "coast", 130, 60, 60),
)

# Acme is the cheaper way to all but Europe, Globex to Europe (country codes 3x and 4x).
PROVIDERS = (("RG_21", "acme", 50, 60), ("RG_22", "globex", 60, 50))

ANIS = (("15551230001", "alice"), ("442079460001", "nora"), ("34911230001", "cora"))
EXTENSIONS = (("1001", "", "alice"), ("1002", "", "bob"), ("2001", "north.example", "nora"))


def load_demo(cursor: Cursor, keyring: Keyring) -> bool:
    """Load the demo in the cursor's transaction; False, and nothing done, where accounts exist."""
    if accounts.exist(cursor):
        return False
    admin = _add_operator(cursor)
    currencies.set_rate(cursor, admin, currencies.ExchangeRate("USD", "EUR", BEGIN, 9_200_000_000))
    deck = read_deck()
    numbers = {admin.code: admin.account_id}
    # Price lists come between a reseller and its customers: each owner's once it is there.
    _add_price_lists(cursor, admin, numbers, deck)
    for demo in ACCOUNTS:
        numbers[demo.code] = _add_account(cursor, admin, keyring, demo, numbers)
        _add_price_lists(cursor, admin, {demo.code: numbers[demo.code]}, deck)
    _add_resource_groups(cursor, admin, numbers, deck)
    for ani, code in ANIS:
        maps.map_ani(cursor, ani, numbers[code])
    for extension, domain, code in EXTENSIONS:
        maps.map_extension(cursor, extension, domain, numbers[code])
    for client in CLIENTS:
        new = clients.new(client.name, client.address, client.type)
        clients.add(cursor, admin, keyring, new, SECRET)
    return True


def describe() -> str:
    """What the demo holds and how a first call is placed, for the terminal."""
    lines = ["", "Demo accounts (operator: admin)"]
    for demo in ACCOUNTS:
        billing = f"postpaid, limit {demo.limit}" if demo.limit else f"prepaid {demo.credit or 0}"
        if demo.kind == "provider":
            billing = "-"
        secret = f"password {demo.password}" if demo.password else ""
        secret = f"PIN {demo.pin}" if demo.pin else secret
        below = "" if demo.parent == "admin" else f" of {demo.parent}"
        kind = f"{demo.kind}{below}"
        lines.append(f"  {demo.code:<11} {kind:<19} {billing:<21} {secret}".rstrip())
    lines.append(f"RADIUS clients, all with the secret {SECRET.decode()}")
    lines += [f"  {client.address:<11} {client.type}" for client in CLIENTS]
    lines += ["", "Place a first call:  .venv/bin/sky-aaa demo-call", ""]
    return "\n".join(lines)


def _add_operator(cursor: Cursor) -> Viewer:
    operator = accounts.NewAccount(
        code="admin", kind="admin", parent_id=None, prepaid=False, currency="USD", name="Operator"
    )
    accounts.add(cursor, operator)
    return viewer.operator(cursor)


def read_deck() -> list[RateRow]:
    """The prices that every list of the demo is made from, test numbers included."""
    with DECK.open(encoding="utf-8", newline="") as file:
        rows = [
            RateRow(
                prefix=line["prefix"],
                destination=line["destination"],
                per_minute_nanos=parse_nanos(line["per_minute"]),
                blocked=line["blocked"] == "yes",
            )
            for line in csv.DictReader(file)
        ]
    test_price = parse_nanos("0.06")
    return [
        *rows,
        RateRow(BLOCKED_TEST_NUMBER, test_price, destination="Test number", blocked=True),
        RateRow(TEST_NUMBER, test_price, destination="Test number"),
    ]


def _add_price_lists(
    cursor: Cursor, admin: Viewer, owners: dict[str, int], deck: list[RateRow]
) -> None:
    for plan in PRICE_LISTS:
        if plan.owner not in owners:
            continue
        new = rate_groups.NewRateGroup(
            name=plan.name,
            owner_id=owners[plan.owner],
            currency="USD",
            initial_seconds=plan.initial_seconds,
            increment_seconds=plan.increment_seconds,
        )
        rate_groups.add(cursor, admin, new)
        group = rate_groups.find(cursor, admin, plan.name)
        priced = [
            _at_percent(row, plan.percent)._replace(
                initial_seconds=plan.initial_seconds, increment_seconds=plan.increment_seconds
            )
            for row in deck
        ]
        import_rates(cursor, group.tariff_id, priced, effective=BEGIN)


def _at_percent(row: RateRow, percent: int) -> RateRow:
    return row._replace(per_minute_nanos=row.per_minute_nanos * percent // 100)


def _add_account(
    cursor: Cursor, admin: Viewer, keyring: Keyring, demo: DemoAccount, numbers: dict[str, int]
) -> int:
    parent_id = numbers[demo.parent]
    group_id = None
    if demo.rate_group:
        group = rate_groups.find_for_account(cursor, admin, demo.rate_group, parent_id)
        group_id = group.rate_group_id
    new = accounts.NewAccount(
        code=demo.code,
        kind=demo.kind,
        parent_id=parent_id,
        prepaid=demo.kind != "provider" and not demo.limit,
        currency=demo.currency,
        name=demo.name,
        credit_limit_micros=parse_micros(demo.limit or "0"),
        rate_group_id=group_id,
        max_channels=demo.max_channels,
        expires_at=demo.expires_at,
    )
    account_id = accounts.add(cursor, new)
    if demo.password:
        accounts.set_password(cursor, keyring, account_id, demo.password.encode())
    if demo.pin:
        accounts.set_pin(cursor, keyring, account_id, demo.pin.encode())
    if demo.credit:
        credit = parse_micros(demo.credit)
        reference = f"demo {demo.code}"
        payments.top_up(
            cursor, admin, demo.code, credit, reference=reference, note="opening credit"
        )
    if demo.status != "active":
        account = accounts.find(cursor, admin, demo.code)
        accounts.change(cursor, account._replace(status=demo.status))
    return account_id


def _add_resource_groups(
    cursor: Cursor, admin: Viewer, numbers: dict[str, int], deck: list[RateRow]
) -> None:
    for name, provider, percent, percent_europe in PROVIDERS:
        new = resource_groups.NewResourceGroup(
            name=name,
            direction="out",
            account_id=numbers[provider],
            currency="USD",
            gateway=f"sofia/gateway/{provider}",
        )
        group_id = resource_groups.add(cursor, admin, new)
        tariff_id = resource_groups.find(cursor, admin, name).tariff_id
        assert tariff_id is not None
        bought = [
            _at_percent(row, percent_europe if row.prefix[0] in "34" else percent)._replace(
                initial_seconds=6, increment_seconds=6
            )
            for row in deck
            if not row.blocked
        ]
        import_rates(cursor, tariff_id, bought, effective=BEGIN)
        # The operator's lists: calls of a chain go out by the group of its topmost account.
        for price_list in PRICE_LISTS:
            if price_list.owner == admin.code:
                selling = rate_groups.find(cursor, admin, price_list.name)
                rate_groups.attach(
                    cursor, admin, selling.rate_group_id, group_id, priority=0, weight=1
                )
    inbound = resource_groups.NewResourceGroup(
        name="RG_11", direction="in", account_id=numbers["noel"]
    )
    group_id = resource_groups.add(cursor, admin, inbound)
    # An address to try it from, and one of RFC 5737's that stands for a carrier's.
    endpoints = [
        resource_groups.Endpoint("127.0.0.11/32"),
        resource_groups.Endpoint("192.0.2.11/32", 5060),
    ]
    resource_groups.set_endpoints(cursor, admin, group_id, "RG_11", endpoints)
