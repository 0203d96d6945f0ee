"""Fills a migrated database with an operator's world of any size, by COPY.

Everything is drawn from one seed, so the same `Shape` gives the same rows. Customers
come in chains of one, two and three levels in equal parts: below the admin, below a
reseller, below a reseller's reseller. Every price list knows every country, so each
number dialled finds a rate at every level; half of all rate rows are in the four big
lists (retail, wholesale, two carriers), as an operator has it. Where it has more carriers,
each has a list of its own, and no two of them are cheapest for the same numbers.
"""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    # Encrypts a secret: plain text, table, row, column.
    Seal: TypeAlias = Callable[[bytes, str, int, str], bytes]

SECRET = b"testing123"
CURRENCY = "USD"
SEED = 20260101
EFFECTIVE_FROM = "2026-01-01T00:00:00Z"
COUNTRIES = (
    "1",
    "7",
    "33",
    "34",
    "39",
    "44",
    "48",
    "49",
    "55",
    "61",
    "81",
    "86",
    "91",
    "234",
    "971",
)
BELOW_COUNTRY_DIGITS_MAX = 6
NUMBERS_MAX = 2000

ADMIN_ID, CARRIER_A_ID, CARRIER_B_ID, FIRST_RESELLER_ID = 1, 2, 3, 4
RESELLERS, SUB_RESELLERS = 10, 20
# Customers' identifiers are those of the smallest world, whoever else there is.
FIRST_FURTHER_CARRIER_ID = 90_000_000
RETAIL, WHOLESALE, CARRIER_A, CARRIER_B, FIRST_OWN_LIST = 1, 2, 3, 4, 5
RESELLER_MICROS = 10**15
CUSTOMER_MICROS = 10**12
CHEAPEST_NANOS, STEP_NANOS, STEPS = 4_000_000, 2_000_000, 200
CARRIERS, CARRIER_PERCENT_MIN, CARRIER_PERCENT_STEPS = 2, 45, 25

CLIENT_ID = 1
# Servers take call and transaction numbers by blocks of so many; payments come before.
IDENTIFIERS_A_BLOCK = 1000


class Shape(NamedTuple):
    """How big the world is. `one_reseller`: a single reseller stands above all customers.

    `carrier_rates`: the rows of each carrier's list, which come on top of `rates`; 0: two of
    the four big lists are theirs.
    """

    accounts: int = 10_000
    rates: int = 100_000
    one_reseller: bool = False
    carriers: int = CARRIERS
    carrier_rates: int = 0

    @property
    def name(self) -> str:
        """Letters, digits and underscores: part of a database's name."""
        name = f"a{self.accounts}_r{self.rates}" + ("_one" if self.one_reseller else "")
        if self.carrier_rates:
            name += f"_c{self.carriers}_{self.carrier_rates}"
        return name


class Party(NamedTuple):
    """One row of account; `list_id` is the price list that it buys at, 0: none."""

    account_id: int
    code: str
    kind: str
    parent_id: int
    prepaid: bool = False
    list_id: int = 0
    balance_micros: int = 0
    password: bytes = b""


class PriceList(NamedTuple):
    """A tariff; with an owner it is a rate group, without one a carrier's resource group."""

    list_id: int
    owner_id: int
    rows: int
    percent_of_retail: int
    initial_seconds: int
    increment_seconds: int
    carrier_id: int = 0


def fill(connection: Connection, shape: Shape, seal: Seal) -> None:
    """Writes all rows, commits and vacuums."""
    lists = price_lists(shape)
    with connection, connection.cursor() as cursor:
        write_accounts(cursor, sellers(shape), seal)
        write_price_lists(cursor, lists)
        for party in sellers(shape):
            if party.list_id:
                cursor.execute(
                    "UPDATE account SET rate_group_id = %s WHERE account_id = %s",
                    (party.list_id, party.account_id),
                )
        write_accounts(cursor, customers(shape), seal)
        write_payments(cursor, shape)
        write_rates(cursor, lists)
        write_client(cursor, seal)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (FREEZE, ANALYZE)")


def prefixes(count: int) -> list[str]:
    """The first `count` prefixes of the world's deck, countries first, then ever deeper."""
    draw = random.Random(SEED)
    deck = list(COUNTRIES)
    for digits in range(1, BELOW_COUNTRY_DIGITS_MAX + 1):
        wanted = min(count - len(deck), len(COUNTRIES) * 10**digits)
        if wanted <= 0:
            break
        for place in draw.sample(range(len(COUNTRIES) * 10**digits), wanted):
            country, below = divmod(place, 10**digits)
            deck.append(f"{COUNTRIES[country]}{below:0{digits}}")
    return deck


def rate_sheet(path: Path, count: int) -> None:
    """A carrier's new prices for the first `count` prefixes, as `import-rates` reads them."""
    with path.open("w") as file:
        file.write("prefix,destination,per_minute,initial_seconds,increment_seconds\n")
        for number, prefix in enumerate(prefixes(count)):
            file.write(f"{prefix},Destination {prefix},0.{1000 + number % 9000:04},1,1\n")


def dialled(shape: Shape) -> list[str]:
    """Prefixes for radload, which adds digits: a sample of the longest list."""
    deck = prefixes(max(price_list.rows for price_list in price_lists(shape)))
    return random.Random(SEED + 1).sample(deck, min(NUMBERS_MAX, len(deck)))


# ---------------------------------------------------------------- who there is


def reseller_ids(shape: Shape) -> tuple[range, range]:
    """Identifiers of the resellers below the admin, and of those below them."""
    first, count = FIRST_RESELLER_ID, 1 if shape.one_reseller else RESELLERS
    return range(first, first + count), range(first + count, first + count + SUB_RESELLERS)


def own_list(reseller_id: int) -> int:
    """The price list that a reseller sells at."""
    return FIRST_OWN_LIST + reseller_id - FIRST_RESELLER_ID


def sellers(shape: Shape) -> Iterator[Party]:
    """Everybody who is no customer, parents before children."""
    resellers, sub_resellers = reseller_ids(shape)
    yield Party(ADMIN_ID, "admin", "admin", 0)
    yield Party(CARRIER_A_ID, "carrier-a", "provider", ADMIN_ID)
    yield Party(CARRIER_B_ID, "carrier-b", "provider", ADMIN_ID)
    for number in range(shape.carriers - CARRIERS):
        yield Party(
            FIRST_FURTHER_CARRIER_ID + number, f"carrier-{number + 3}", "provider", ADMIN_ID
        )
    for number in (*resellers, *sub_resellers):
        below = number in sub_resellers
        parent = resellers[number % len(resellers)] if below else ADMIN_ID
        yield Party(
            account_id=number,
            code=f"reseller{number:03}",
            kind="reseller",
            parent_id=parent,
            list_id=own_list(parent) if below else WHOLESALE,
            balance_micros=RESELLER_MICROS,
        )


def customers(shape: Shape) -> Iterator[Party]:
    """User names and passwords are those that radload makes of the same numbers."""
    first = reseller_ids(shape)[1][-1] + 1
    for number in range(shape.accounts):
        parent = parent_of(number, shape)
        yield Party(
            account_id=first + number,
            code=f"user{number:06}",
            kind="customer",
            parent_id=parent,
            # Two of three, in every kind of chain.
            prepaid=number // 3 % 3 != 0,
            list_id=RETAIL if parent == ADMIN_ID else own_list(parent),
            balance_micros=CUSTOMER_MICROS,
            password=b"pass%06d" % number,
        )


def parent_of(number: int, shape: Shape) -> int:
    """Who sells to customer `number`: a sub-reseller, a reseller and the admin in turn."""
    resellers, sub_resellers = reseller_ids(shape)
    place, level = divmod(number, 3)
    if level == 0:
        return sub_resellers[place % len(sub_resellers)]
    if level == 1 or shape.one_reseller:
        return resellers[place % len(resellers)]
    return ADMIN_ID


def price_lists(shape: Shape) -> list[PriceList]:
    """All lists; together they have about `shape.rates` rows."""
    resellers, sub_resellers = reseller_ids(shape)
    big = max(shape.rates // 8, len(COUNTRIES))
    carriers = shape.carrier_rates or big
    first_further = own_list(sub_resellers[-1]) + 1
    small = max(shape.rates // 2 // (len(resellers) + len(sub_resellers)), len(COUNTRIES))
    return [
        PriceList(RETAIL, ADMIN_ID, big, 100, 60, 60),
        PriceList(WHOLESALE, ADMIN_ID, big, 70, 1, 1),
        PriceList(CARRIER_A, 0, carriers, 50, 1, 1, CARRIER_A_ID),
        PriceList(CARRIER_B, 0, carriers, 55, 6, 6, CARRIER_B_ID),
        *(PriceList(own_list(number), number, small, 85, 30, 6) for number in resellers),
        *(PriceList(own_list(number), number, small, 100, 60, 60) for number in sub_resellers),
        *(
            PriceList(
                first_further + number, 0, carriers, 0, 1, 1, FIRST_FURTHER_CARRIER_ID + number
            )
            for number in range(shape.carriers - CARRIERS)
        ),
    ]


# ---------------------------------------------------------------- rows


class Lines:
    """A file for COPY that is made while it is read."""

    LINES_A_READ = 1000

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = iter(lines)

    def read(self, _size: int = -1, /) -> bytes:
        """The next lines, more or fewer octets than asked for; nothing at the end."""
        return "".join(islice(self.lines, self.LINES_A_READ)).encode()

    def readline(self, _size: int = -1, /) -> bytes:
        """One line; psycopg2 asks for the method to be there and calls `read`."""
        return next(self.lines, "").encode()


def copy(cursor: Cursor, table: str, columns: str, lines: Iterable[str]) -> None:
    """COPY in text format: tabs between fields, a backslash and N for null."""
    cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", Lines(lines))


def write_accounts(cursor: Cursor, everybody: Iterable[Party], seal: Seal) -> None:
    """Accounts; sellers get their price list later, since rate groups refer to accounts."""

    def line(party: Party) -> str:
        sealed = "\\N"
        if party.password:
            sealed = "\\\\x" + seal(party.password, "account", party.account_id, "password").hex()
        group = party.list_id if party.kind == "customer" else "\\N"
        return (
            f"{party.account_id}\t{party.code}\t{party.kind}\t{party.parent_id or chr(92) + 'N'}\t"
            f"{party.prepaid}\t{CURRENCY}\t{group}\t{party.balance_micros}\t{sealed}\n"
        )

    copy(
        cursor,
        "account",
        "account_id, code, kind, parent_id, prepaid, currency, rate_group_id, balance_micros,"
        " password_sealed",
        map(line, everybody),
    )
    cursor.execute("SELECT setval('account_account_id_seq', (SELECT max(account_id) FROM account))")


def write_payments(cursor: Cursor, shape: Shape) -> None:
    """The ledger rows behind every balance: one opening payment an account, to its seller."""

    def paid() -> Iterator[Party]:
        for everybody in (sellers(shape), customers(shape)):
            yield from (party for party in everybody if party.balance_micros)

    copy(
        cursor,
        "ledger_transaction",
        "transaction_id, kind, reference, at",
        (f"{p.account_id}\tpayment\topening-{p.account_id}\t{EFFECTIVE_FROM}\n" for p in paid()),
    )
    copy(
        cursor,
        "posting",
        "transaction_id, position, account_id, amount_micros, currency, contra_account_id,"
        " contra_book",
        (
            f"{p.account_id}\t0\t{p.account_id}\t{p.balance_micros}\t{CURRENCY}\t{p.parent_id}\tcash\n"
            for p in paid()
        ),
    )
    last = reseller_ids(shape)[1][-1] + shape.accounts
    # A block is free whether its number names its first or its last identifier.
    block = (last // IDENTIFIERS_A_BLOCK + 2) * IDENTIFIERS_A_BLOCK
    cursor.execute("SELECT setval('identifier_block', %s)", (block,))


def write_price_lists(cursor: Cursor, lists: Iterable[PriceList]) -> None:
    """Tariffs, rate groups, outbound resource groups, and the routes of the admin's groups."""
    for entry in lists:
        cursor.execute(
            "INSERT INTO tariff (tariff_id, currency, revision)"
            " OVERRIDING SYSTEM VALUE VALUES (%s, %s, 1)",
            (entry.list_id, CURRENCY),
        )
        if entry.owner_id:
            cursor.execute(
                "INSERT INTO rate_group (rate_group_id, owner_id, name, tariff_id, strategy)"
                " OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, 'least-cost')",
                (entry.list_id, entry.owner_id, f"list-{entry.list_id}", entry.list_id),
            )
    carriers = [entry for entry in lists if entry.carrier_id]
    for number, entry in enumerate(carriers, start=21):
        name, account_id, list_id = f"RG_{number}", entry.carrier_id, entry.list_id
        cursor.execute(
            "INSERT INTO resource_group (name, direction, account_id, tariff_id, gateway)"
            " VALUES (%s, 'out', %s, %s, %s)",
            (name, account_id, list_id, f"sofia/gateway/{name.lower()}"),
        )
    cursor.execute(
        "INSERT INTO rate_group_route (rate_group_id, resource_group_id)"
        " SELECT rate_group_id, resource_group_id FROM rate_group, resource_group"
        "  WHERE owner_id = %s",
        (ADMIN_ID,),
    )
    cursor.execute("SELECT setval('tariff_tariff_id_seq', (SELECT max(tariff_id) FROM tariff))")
    cursor.execute(
        "SELECT setval('rate_group_rate_group_id_seq', (SELECT max(rate_group_id) FROM rate_group))"
    )


def write_rates(cursor: Cursor, lists: list[PriceList]) -> None:
    """Every list's rows: the first prefixes of one deck, priced by prefix and list."""
    deck = prefixes(max(entry.rows for entry in lists))
    for entry in lists:
        copy(
            cursor,
            "rate",
            "tariff_id, prefix, per_minute_nanos, initial_seconds, increment_seconds,"
            " effective_from, revision",
            (
                f"{entry.list_id}\t{prefix}\t{price_nanos(prefix, entry)}\t"
                f"{entry.initial_seconds}\t{entry.increment_seconds}\t{EFFECTIVE_FROM}\t1\n"
                for prefix in deck[: entry.rows]
            ),
        )


def price_nanos(prefix: str, entry: PriceList) -> int:
    """A retail price between 0.004 and 0.402 that depends on the prefix alone, times the level.

    A further carrier's level is another one for each prefix.
    """
    retail = CHEAPEST_NANOS + crc32(prefix.encode()) % STEPS * STEP_NANOS
    percent = entry.percent_of_retail
    if not percent:
        lot = crc32(f"{entry.list_id}/{prefix}".encode())
        percent = CARRIER_PERCENT_MIN + lot % CARRIER_PERCENT_STEPS
    return retail * percent // 100


def write_client(cursor: Cursor, seal: Seal) -> None:
    """The load generator: a Cisco-style switch on the loopback address."""
    cursor.execute(
        "INSERT INTO client (client_id, name, network, type, secret_sealed,"
        " require_message_authenticator, limit_proxy_state, refuse_with)"
        " VALUES (%s, 'radload', '127.0.0.1/32', 'cisco', %s, 'yes', 'auto', 'reject')",
        (CLIENT_ID, seal(SECRET, "client", CLIENT_ID, "secret")),
    )
    cursor.execute("SELECT setval('client_client_id_seq', %s)", (CLIENT_ID,))
