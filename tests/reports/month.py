"""October 2026 of a whole business, made by the charging core and the storage functions.

A hundred accounts in three levels of resellers, two currencies, packages, numbers, cards,
coupons, fees; calls that are charged, refused, free, silent, late and rated anew; invoices of
all sellers for three months, and what is done with invoices (`paperwork`). The same every
time: what is random has a seed, and the database's clock is wound by hand.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

from aaa_server.charging.requests import (
    Authorize,
    Expire,
    Granted,
    Origin,
    Rerate,
    Stop,
)
from aaa_server.rating.money import parse_micros, parse_nanos
from aaa_server.storage import (
    accounts,
    adjustments,
    card_batches,
    clients,
    coupons,
    currencies,
    did_assignments,
    dids,
    maps,
    packages,
    payments,
    rate_groups,
    recurring,
    refunds,
    resource_groups,
    subscriptions,
    transfers,
    velocity_limits,
    viewer,
)
from aaa_server.storage.database import transaction
from aaa_server.storage.rates import RateRow, import_rates
from tests.reports.paperwork import Paperwork
from tests.scenario import Books

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.charging.requests import ChargingAnswer, ChargingRequest
    from aaa_server.storage.secrets import Keyring
    from aaa_server.storage.viewer import Viewer

NAME = "2026-10"
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CLIENT = 1
SEED = 20_261_001

# Prefix, name, what the two providers take a minute (acme in USD, euronet in EUR).
DECK = (
    ("44", "United Kingdom", "0.004", "0.0045"),
    ("447", "United Kingdom mobile", "0.012", "0.011"),
    ("34", "Spain", "0.005", "0.004"),
    ("346", "Spain mobile", "0.015", "0.016"),
    ("49", "Germany", "0.006", "0.005"),
    ("33", "France", "0.0055", "0.0065"),
    ("1212", "New York", "0.003", "0.009"),
    ("5255", "Mexico City", "0.01", "0.02"),
    # Sold below cost by everybody.
    ("8816", "Satellite", "3.0", "3.2"),
)
CAUSES = ("16", "16", "17", "19", "1", "34", "SIP 486")
DID = "442079460100"
ACCESS = "442079460900"
CUSTOMERS = 83
CALLS_A_DAY = 42


class Seller(NamedTuple):
    """A reseller of the month: who sells to it, at what percentage of the deck it sells."""

    code: str
    parent: str
    percent: int
    currency: str


def sellers() -> list[Seller]:
    """Three branches, each two resellers wide on its second level and third level."""
    found = []
    for branch, currency in (("north", "USD"), ("south", "USD"), ("west", "EUR")):
        found.append(Seller(branch, "admin", 220, currency))
        for wing in ("one", "two"):
            found.append(Seller(f"{branch}-{wing}", branch, 260, currency))
            found.append(Seller(f"{branch}-{wing}-sub", f"{branch}-{wing}", 320, currency))
    return found


class Month:
    """Builds it on one connection; `build` once."""

    def __init__(self, connection: Connection, keyring: Keyring, seed: int) -> None:
        self.connection = connection
        self.keyring = keyring
        self.seed = seed
        self.chance = random.Random(seed)
        self.ids: dict[str, int] = {}
        self.callers: list[str] = []
        self.calls = 0
        self.lost: list[Stop] = []
        self._wind_by_hand()

    def _wind_by_hand(self) -> None:
        """The database's own instants are what `clock` says, not the machine's."""
        with transaction(self.connection) as cursor:
            for table, column in (
                ("charge", "at"),
                ("ledger_transaction", "posted_at"),
                ("event", "at"),
                ("invoice_payment", "at"),
            ):
                cursor.execute(
                    f"ALTER TABLE {table} ALTER COLUMN {column}"
                    " SET DEFAULT current_setting('month.now')::timestamptz"
                )
            cursor.execute(
                """
                CREATE FUNCTION release_by_hand() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    NEW.released_at := current_setting('month.now')::timestamptz;
                    RETURN NEW;
                END $$;
                CREATE TRIGGER released_by_hand BEFORE UPDATE OF released_at ON invoice_payment
                    FOR EACH ROW EXECUTE FUNCTION release_by_hand();
                """
            )
        self.clock(BEGIN - timedelta(days=40))

    def clock(self, at: datetime) -> None:
        with transaction(self.connection) as cursor:
            cursor.execute("SELECT set_config('month.now', %s, false)", (at.isoformat(),))

    # ------------------------------------------------------------------ the world

    def build(self) -> None:
        """The world, the month, and what comes late."""
        with transaction(self.connection) as cursor:
            admin = self._operator(cursor)
            self._sellers(cursor, admin)
            self._customers(cursor, admin)
            self._services(cursor, admin)
        self.books = Books(self.connection)
        self.paperwork = Paperwork(self)
        self.paperwork.prepare()
        self._before()
        self.days()
        self.paperwork.october()
        self._late()
        self.paperwork.november()

    def _operator(self, cursor: Cursor) -> Viewer:
        accounts.add(
            cursor,
            accounts.NewAccount("admin", "admin", None, prepaid=False, currency="USD", name="Sky"),
        )
        admin = viewer.operator(cursor)
        self.ids["admin"] = admin.account_id
        for day, rate in (
            (LONG_AGO, 9_200_000_000),
            (datetime(2026, 10, 16, tzinfo=UTC), 9_300_000_000),
        ):
            currencies.set_rate(cursor, admin, currencies.ExchangeRate("USD", "EUR", day, rate))
        clients.add(
            cursor, admin, self.keyring, clients.new("switch", "192.0.2.1", "rfc"), b"testing123"
        )
        self._list(cursor, admin, "admin", "USD", 200)
        for place, (code, currency) in enumerate((("acme", "USD"), ("euronet", "EUR"))):
            self._account(cursor, code, "provider", "admin", currency)
            new = resource_groups.NewResourceGroup(
                name=f"RG_{21 + place}", direction="out", account_id=self.ids[code],
                currency=currency, gateway=f"gw/{code}",
            )  # fmt: skip
            group_id = resource_groups.add(cursor, admin, new)
            tariff_id = resource_groups.find(cursor, admin, new.name).tariff_id
            assert tariff_id is not None
            bought = [
                RateRow(row[0], parse_nanos(row[2 + place]), destination=row[1],
                        initial_seconds=6, increment_seconds=6)
                for row in DECK
            ]  # fmt: skip
            import_rates(cursor, tariff_id, bought, effective=LONG_AGO)
            selling = rate_groups.find(cursor, admin, "admin list")
            rate_groups.attach(
                cursor, admin, selling.rate_group_id, group_id, priority=place, weight=1
            )
        return admin

    def _list(self, cursor: Cursor, admin: Viewer, owner: str, currency: str, percent: int) -> None:
        name = f"{owner} list"
        new = rate_groups.NewRateGroup(
            name=name, owner_id=self.ids[owner], currency=currency,
            initial_seconds=60, increment_seconds=60,
        )  # fmt: skip
        rate_groups.add(cursor, admin, new)
        tariff_id = rate_groups.find(cursor, admin, name).tariff_id
        sold = [
            RateRow(prefix, _price(cost, percent, prefix), destination=destination,
                    initial_seconds=30 if owner == "north" else 60, increment_seconds=6)
            for prefix, destination, cost, _ in DECK
        ]  # fmt: skip
        import_rates(cursor, tariff_id, sold, effective=LONG_AGO)

    def _account(
        self, cursor: Cursor, code: str, kind: str, parent: str, currency: str, *,
        prepaid: bool = False, limit: str = "0",
    ) -> None:  # fmt: skip
        group_id = None
        if kind != "provider":
            cursor.execute(
                "SELECT rate_group_id FROM rate_group WHERE name = %s", (f"{parent} list",)
            )
            [group_id] = cursor.fetchone() or ()
        self.ids[code] = accounts.add(
            cursor,
            accounts.NewAccount(
                code=code, kind=kind, parent_id=self.ids[parent], prepaid=prepaid,
                currency=currency, name=f"{code.title()} & Co.", rate_group_id=group_id,
                credit_limit_micros=parse_micros(limit),
            ),
        )  # fmt: skip

    def _sellers(self, cursor: Cursor, admin: Viewer) -> None:
        for one in sellers():
            self._account(cursor, one.code, "reseller", one.parent, one.currency, limit="100000")
            self._list(cursor, admin, one.code, one.currency, one.percent)

    def _customers(self, cursor: Cursor, admin: Viewer) -> None:
        parents = ["admin", *(one.code for one in sellers())]
        for number in range(CUSTOMERS):
            code = f"c{number:02d}"
            parent = parents[number % len(parents)]
            prepaid = number % 3 != 0
            currency = "EUR" if number % 4 == 3 else "USD"
            self._account(
                cursor, code, "customer", parent, currency,
                prepaid=prepaid, limit="0" if prepaid else "500",
            )  # fmt: skip
            self.callers.append(code)
        for code in self.callers:
            if int(code[1:]) % 3:
                # One that runs out in the month, and one that has nothing.
                amount = {"c01": "0.50", "c02": "0", "c16": "900"}.get(code, "60")
                if amount != "0":
                    payments.top_up(
                        cursor, admin, code, parse_micros(amount), reference=f"first {code}"
                    )

    def _services(self, cursor: Cursor, admin: Viewer) -> None:
        operator = accounts.find(cursor, admin, "admin")
        acme = accounts.find(cursor, admin, "acme")
        terms = dids.Terms(
            setup_micros=1_000_000, monthly_micros=500_000, per_minute_nanos=4_000_000,
            initial_seconds=1, increment_seconds=1,
        )  # fmt: skip
        dids.add(cursor, admin, acme, dids.Row(DID, terms))
        did = dids.find(cursor, admin, DID)
        buyer = accounts.find(cursor, admin, "c16")  # a customer of the operator
        price = {"monthly_micros": 1_500_000, "per_minute_nanos": 10_000_000}
        dids.set_price(cursor, admin, buyer, [did], price)
        rings = did_assignments.Destination("extension", "1001@sip.example")
        did_assignments.assign(cursor, admin, did, buyer, rings, begin=LONG_AGO)
        new = packages.NewPackage(
            "uk-60", operator.account_id, "USD", 3600, price_micros=3_000_000, prefixes=("44",)
        )
        packages.add(cursor, admin, operator, new)
        group = rate_groups.find(cursor, admin, "admin list")
        batch = card_batches.create(
            cursor, admin, self.keyring, operator,
            card_batches.NewBatch("october", "USD", 10_000_000, group.rate_group_id),
            count=5,
            draw=lambda count: [
                card_batches.Secret(f"7700100000{10 + place}", "1234") for place in range(count)
            ],
        )  # fmt: skip
        card_batches.activate(cursor, admin, batch, first=1, last=3)
        self.cards = []
        for place in range(2):
            card = f"7700100000{10 + place}"
            maps.map_ani(
                cursor, f"1212555{place:04d}", accounts.find(cursor, admin, card).account_id
            )
            self.cards.append(f"1212555{place:04d}")
        velocity_limits.add(
            cursor, admin, accounts.find(cursor, admin, "c05"),
            velocity_limits.NewLimit(
                name="daily", prefixes=(), period="day", measure="calls", maximum=2
            ),
        )  # fmt: skip

    # ------------------------------------------------------------------ the month

    def _before(self) -> None:
        """September: something to open with."""
        self._calls(BEGIN - timedelta(days=20), 25)
        self.lost = []
        recurring.charge_recurring(self.connection, BEGIN - timedelta(days=18))

    def days(self) -> None:
        for day in range(31):
            at = BEGIN + timedelta(days=day, hours=self.chance.randrange(7, 21), minutes=13)
            self._calls(at, CALLS_A_DAY // 2)
            self._calls(at + timedelta(hours=2, minutes=7), CALLS_A_DAY // 2)
            # What was lost is found the next day; of the last day, in the next month.
            late = at + timedelta(hours=18)
            self.decide([stop._replace(at=late) for stop in self.lost], late)
            self.lost = []
            self.paperwork.day(day, late)
            if day in (3, 11, 19, 27):
                self._money(day, at + timedelta(hours=2, minutes=30))
            if day == 20:
                self._rerate(
                    at + timedelta(hours=2, minutes=50), BEGIN + timedelta(days=12), "5255"
                )

    def decide(self, batch: list[ChargingRequest], at: datetime) -> list[ChargingAnswer]:
        self.clock(at)
        return self.books.decide(batch)

    def _calls(self, at: datetime, count: int) -> None:
        wanted = [self._attempt(at) for _ in range(count)]
        answers = self.decide(list(wanted), at)
        stops: list[ChargingRequest] = []
        ended = at
        for request, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Granted):
                self.calls += 1
                seconds = self._talk(answer.seconds)
                ended = max(ended, at + timedelta(seconds=seconds))
                stops += self._end(request, answer, at, seconds)
            else:
                stops.append(
                    Stop(CLIENT, request.session_key, at, 0, request.origin, request.called)
                )
        # A call of which only the end is told.
        stranger = self.chance.choice(self.callers)
        stops.append(
            Stop(CLIENT, f"only-{at.isoformat()}", ended, 42_000, Origin(account_code=stranger),
                 "34915550100", cause="16")
        )  # fmt: skip
        self.decide(stops, ended + timedelta(seconds=5))
        silent = ended + timedelta(hours=4)
        self.decide([Expire(CLIENT, stop.session_key, silent) for stop in self.lost], silent)

    def _attempt(self, at: datetime) -> Authorize:
        kind = self.chance.random()
        key = f"s{self.calls}-{at.timestamp():.0f}-{self.chance.randrange(10**9)}"
        prefix = self.chance.choices([row[0] for row in DECK], [9, 5, 8, 4, 6, 3, 7, 2, 1])[0]
        called = prefix + f"{self.chance.randrange(10**8):08d}"
        caller = self.chance.choice(self.callers)
        origin = Origin(account_code=caller, ani=f"3491{self.chance.randrange(10**6):06d}")
        if kind < 0.03:
            origin, called = Origin(did=DID, ani=origin.ani), DID
        elif kind < 0.06:
            origin = Origin(ani=self.chance.choice(self.cards))
        elif kind < 0.08:
            called = "99999"
        return Authorize(CLIENT, key, at, origin, called, None, maximum_seconds=7200)

    def _talk(self, granted: int) -> int:
        if self.chance.random() < 0.25:
            return 0
        seconds = min(int(self.chance.expovariate(1 / 150)) + 1, 1800)
        # Some switches cut late.
        return min(seconds, granted + self.chance.choice([0, 0, 1, 9]))

    def _end(
        self, request: Authorize, answer: Granted, at: datetime, seconds: int
    ) -> list[ChargingRequest]:
        route = (
            answer.routes[self.chance.randrange(len(answer.routes))].name if answer.routes else ""
        )
        if request.called == DID and not seconds:
            route = ""  # it rang at the owner's, and went out nowhere
        cause = "16" if seconds else self.chance.choice(CAUSES)
        stop = Stop(
            CLIENT, request.session_key, at + timedelta(seconds=seconds),
            1000 * seconds - 300 if seconds else 0, request.origin, request.called,
            route=route, cause=cause,
        )  # fmt: skip
        if self.chance.random() < 0.03:
            self.lost.append(stop)
            return []
        return [stop]

    def _money(self, day: int, at: datetime) -> None:
        self.clock(at)
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)

            def find(code: str) -> accounts.Account:
                return accounts.find(cursor, admin, code)

            for code in ("c00", "c33", "north", "west", "acme"):
                new = payments.NewPayment(
                    parse_micros("25.50"), "bank-transfer", f"{code} of {day}", at, "=HYPERLINK(1)"
                )
                payments.pay(cursor, admin, find(code), new)
            payments.top_up(cursor, admin, "c04", 20_000_000, reference=f"more {day}")
            paid = payments.find(cursor, admin, f"more {day}")
            refunds.refund(cursor, admin, paid, amount_micros=1_250_000, reference=f"back {day}")
            adjustments.adjust(
                cursor, admin, find("c00"), -333_333, reason="+a mistake", reference=f"adj {day}"
            )
            transfers.transfer(
                cursor, admin, find("c16"), find("c32"), 1_000_000, reference=f"move {day}"
            )
            if day == 3:
                package = packages.find(cursor, admin, "uk-60")
                for code in ("c16", "c32", "c48"):
                    packages.grant(cursor, admin, find(code), package, begin=at, end=END)
            if day == 11:
                owner = find("admin")
                made = coupons.create(
                    cursor, admin, self.keyring, owner, coupons.NewCoupons(5_000_000, "USD"), 2
                )
                coupons.redeem(cursor, admin, self.keyring, find("c16"), made[0].code)
                new_fee = subscriptions.NewSubscription(
                    "support", setup_micros=2_000_000, price_micros=7_000_000, begins_at=BEGIN
                )
                with mock.patch.object(subscriptions, "_now", return_value=at):
                    subscriptions.add(cursor, admin, find("c16"), new_fee)
                card_batches.void(cursor, admin, "770010000012")
        recurring.charge_recurring(self.connection, at)

    def _rerate(self, at: datetime, since: datetime, prefix: str, price: str = "0.024") -> None:
        """A row that was wrong since then is mended, and the calls are rated anew."""
        self.clock(at)
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)
            tariff_id = rate_groups.find(cursor, admin, "admin list").tariff_id
            rows = [RateRow(prefix, parse_nanos(price), destination="Mended",
                            initial_seconds=60, increment_seconds=60)]  # fmt: skip
            import_rates(cursor, tariff_id, rows, effective=since)
            cursor.execute(
                "SELECT session_key, call_id FROM cdr WHERE called LIKE %s AND seconds > 0"
                " AND authorized_at >= %s ORDER BY call_id",
                (prefix + "%", since),
            )
            found = cursor.fetchall()
        self.decide([Rerate(CLIENT, key, call_id, at) for key, call_id in found], at)

    def _late(self) -> None:
        """November: more calls, and a row of October that is mended after its end."""
        at = END + timedelta(days=3)
        self._calls(at, 10)
        self._rerate(at + timedelta(hours=6), BEGIN + timedelta(days=25), "33")
        # What cost too much: who calls no more gets an invoice below 0.
        self._rerate(at + timedelta(hours=8), BEGIN + timedelta(days=14), "44", "0.001")


def build(connection: Connection, keyring: Keyring, seed: int = SEED) -> Month:
    """The whole month, committed."""
    month = Month(connection, keyring, seed)
    month.build()
    return month


def _price(cost: str, percent: int, prefix: str) -> int:
    nanos = parse_nanos(cost)
    return nanos // 2 if prefix == "8816" else nanos * percent // 100
