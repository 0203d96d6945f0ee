"""A small world to try everything in: loaded once, into a database without accounts.

Providers acme and globex sell to the operator; the operator sells to customers and to the
reseller north; north sells to customers and to its sub-reseller coast; coast sells to
customers. Everybody's price list is made from one deck (demo_deck.csv), so that every
level has a margin.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import parse_micros, parse_nanos
from aaa_server.storage import (
    accounts,
    card_batches,
    cards,
    clients,
    coupons,
    currencies,
    did_assignments,
    dids,
    maps,
    number_rules,
    packages,
    payments,
    rate_groups,
    resource_groups,
    subscriptions,
    velocity_limits,
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
    """One rate group of the demo: the deck's prices at `percent`, billed in these steps.

    `on_net` is the price a minute to numbers of its own inventory.
    """

    name: str
    owner: str
    percent: int
    initial_seconds: int
    increment_seconds: int
    on_net: str


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
    DemoAccount("paula", "customer", "admin", "60 minutes to 44 a month", "retail", "10"),
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
    PriceList("retail", "admin", 100, 60, 60, "0.002"),
    PriceList("wholesale", "admin", 75, 1, 1, "0.001"),
    PriceList("north-retail", "north", 115, 60, 60, "0.003"),
    PriceList("north-wholesale", "north", 85, 30, 6, "0.002"),
    PriceList("coast-retail", "coast", 130, 60, 60, "0.003"),
)

# Acme is the cheaper way to all but Europe, Globex to Europe (country codes 3x and 4x).
PROVIDERS = (("RG_21", "acme", 50, 60), ("RG_22", "globex", 60, 50))

ANIS = (("15551230001", "alice"), ("442079460001", "nora"), ("34911230001", "cora"))
EXTENSIONS = (("1001", "", "alice"), ("1002", "", "bob"), ("2001", "north.example", "nora"))

# What paula has: an hour a month to the United Kingdom.
PACKAGE = packages.NewPackage(
    name="uk-60", owner_id=0, currency="USD", seconds=3600, price_micros=3_000_000, prefixes=("44",)
)
PACKAGE_BUYER = "paula"

# From the first of next month on.
SUBSCRIBER = "bob"
SUBSCRIPTION = subscriptions.NewSubscription(
    name="office line", price_micros=9_900_000, calendar=True
)
# Known to everybody, and worth something once; those of `sky-aaa coupon create` are random.
COUPON_CODE = "DEM0-C0VP-0N10-2026"
COUPON = coupons.NewCoupons(amount_micros=10_000_000, currency="USD", note="demo")

# Their numbers and PINs are known to everybody; those of `sky-aaa cards create` are random.
CARDS = (
    card_batches.Secret("770010000014", "111111"),
    card_batches.Secret("770010000022", "222222"),
    card_batches.Secret("770010000030", "333333"),
)
CARD_BATCH = card_batches.NewBatch(
    name="demo",
    currency="USD",
    face_value_micros=10_000_000,
    valid_days=30,
    surcharge_micros=20_000,
)
# Whoever calls from here uses the first card without its PIN.
PINLESS_ANI = "15551230009"

# A number of nora's, who pays north, who pays the operator, who pays the provider; and one
# that calling cards are used over.
DID = "442079460100"
DID_OWNER = "nora"
DID_RINGS = did_assignments.Destination("extension", "2001@north.example")
DID_COST = dids.Terms(
    monthly_micros=500_000, per_minute_nanos=4_000_000, initial_seconds=1, increment_seconds=1
)
DID_PRICES = (("north", 1_000_000, 6_000_000), ("nora", 1_500_000, 10_000_000))
ACCESS_NUMBER = "442079460900"

EMERGENCY_NUMBERS = (("112", "European Union"), ("911", "North America"))

# How noel's phones dial: abroad with 00, at home, in the United Kingdom, with 0.
DIALLING_ACCOUNT = "noel"
DIALLING = (("00", 2, "", "abroad"), ("0", 1, "44", "national"))

LIMITED_ACCOUNT = "paula"
LIMIT = velocity_limits.NewLimit(
    name="satellites",
    prefixes=("870", "881", "882", "883"),
    period="month",
    measure="money",
    maximum=10_000_000,
)


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
    _add_dids(cursor, admin)
    _add_rules(cursor, admin)
    _add_package(cursor, admin)
    _add_subscription(cursor, admin)
    _add_coupon(cursor, admin, keyring)
    _add_cards(cursor, admin, keyring)
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
    lines.append(f"Number {DID} is {DID_OWNER}'s, {ACCESS_NUMBER} is for calling cards")
    lines.append("Calling cards")
    lines += [f"  {card.number}  PIN {card.pin}" for card in CARDS]
    lines.append(f"  and without PIN from {PINLESS_ANI}: {CARDS[0].number}")
    lines.append(f"Coupon {COUPON_CODE} is worth 10.00, once, to the operator's own customers")
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
            on_net_nanos=parse_nanos(plan.on_net),
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


def _add_dids(cursor: Cursor, admin: Viewer) -> None:
    provider = accounts.find(cursor, admin, PROVIDERS[0][1])
    dids.add(cursor, admin, provider, dids.Row(DID, DID_COST))
    dids.add(cursor, admin, provider, dids.Row(ACCESS_NUMBER, dids.Terms()), access=True)
    number = dids.find(cursor, admin, DID)
    for code, monthly_micros, per_minute_nanos in DID_PRICES:
        buyer = accounts.find(cursor, admin, code)
        price = {"monthly_micros": monthly_micros, "per_minute_nanos": per_minute_nanos}
        dids.set_price(cursor, admin, buyer, [number], price)
    owner = accounts.find(cursor, admin, DID_OWNER)
    did_assignments.assign(cursor, admin, number, owner, DID_RINGS)


def _add_rules(cursor: Cursor, admin: Viewer) -> None:
    """Numbers that are rewritten, numbers that always pass, and a limit."""
    scope = number_rules.Scope(account=accounts.find(cursor, admin, DIALLING_ACCOUNT))
    for prefix, strip, prepend, note in DIALLING:
        rule = number_rules.new_rule(
            prefix,
            min_digits=None,
            max_digits=None,
            block=False,
            strip=strip,
            prepend=prepend,
            note=note,
        )
        number_rules.add(cursor, admin, scope, rule)
    for number, note in EMERGENCY_NUMBERS:
        number_rules.add_emergency(cursor, admin, number, None, note)
    limited = accounts.find(cursor, admin, LIMITED_ACCOUNT)
    velocity_limits.add(cursor, admin, limited, LIMIT)


def _add_package(cursor: Cursor, admin: Viewer) -> None:
    seller = accounts.find(cursor, admin, admin.code)
    new = PACKAGE._replace(owner_id=seller.account_id)
    package = packages.add(cursor, admin, seller, new)
    buyer = accounts.find(cursor, admin, PACKAGE_BUYER)
    granted = packages.grant(cursor, admin, buyer, package, begin=datetime.now(UTC))
    # The hour of today is paid; from then on it renews itself.
    renewed = subscriptions.NewSubscription(
        name=package.name, package=package, begins_at=granted.valid_to
    )
    subscriptions.add(cursor, admin, buyer, renewed)


def _add_subscription(cursor: Cursor, admin: Viewer) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (today.replace(day=1) + timedelta(days=31)).replace(day=1)
    subscriber = accounts.find(cursor, admin, SUBSCRIBER)
    subscriptions.add(cursor, admin, subscriber, SUBSCRIPTION._replace(begins_at=next_month))


def _add_coupon(cursor: Cursor, admin: Viewer, keyring: Keyring) -> None:
    owner = accounts.find(cursor, admin, admin.code)
    coupons.create(cursor, admin, keyring, owner, COUPON, 1, draw=lambda: COUPON_CODE)


def _add_cards(cursor: Cursor, admin: Viewer, keyring: Keyring) -> None:
    seller = accounts.find(cursor, admin, admin.code)
    group = rate_groups.find_for_account(cursor, admin, "retail", seller.account_id)
    new = CARD_BATCH._replace(rate_group_id=group.rate_group_id)
    batch = card_batches.create(
        cursor, admin, keyring, seller, new, count=len(CARDS), draw=lambda _count: list(CARDS)
    )
    card_batches.activate(cursor, admin, batch)
    card = cards.find_to_change(cursor, admin, CARDS[0].number)
    cards.add_ani(cursor, admin, card, PINLESS_ANI)


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
