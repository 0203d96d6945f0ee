"""Fees that come again: once a period, whatever happens to the scheduler."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaa_server.rating.money import format_micros, parse_micros
from aaa_server.storage import accounts, packages, payments, subscriptions, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.problem import Conflict
from aaa_server.storage.recurring import Charged, NotAllCharged, charge_recurring
from aaa_server.storage.subscriptions import NewSubscription
from tests.charging.proof import broken_laws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

KILLED_THINGS = 250
KILLS = 6
BEHIND = 100  # fees after the kill, at most
SECONDS_MAX = 120.0


class World:
    """The operator, its reseller north (postpaid), north's customers, a provider."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        with transaction(connection) as cursor:
            accounts.add(
                cursor,
                accounts.NewAccount("admin", "admin", None, prepaid=False, currency="USD"),
            )
            self.admin = viewer.operator(cursor)
        self.add("carrier", "provider", postpaid=True)
        self.add("north", "reseller", postpaid=True)

    def add(
        self,
        code: str,
        kind: str = "customer",
        parent: str = "admin",
        *,
        postpaid: bool = False,
        credit: str = "",
        zone: str = "UTC",
    ) -> None:
        with transaction(self.connection) as cursor:
            above = accounts.find(cursor, self.admin, parent)
            new = accounts.NewAccount(
                code,
                kind,
                above.account_id,
                prepaid=not postpaid,
                currency="USD",
                time_zone=zone,
            )
            accounts.add(cursor, new)
            if credit:
                self.pay(code, credit, cursor)

    def pay(self, code: str, credit: str, cursor: Any = None) -> None:
        with contextlib.ExitStack() as stack:
            cursor = cursor or stack.enter_context(transaction(self.connection))
            reference = f"{code} {time.monotonic_ns()}"
            payments.top_up(cursor, self.admin, code, parse_micros(credit), reference=reference)

    def subscribe(self, code: str, name: str = "line", **values: Any) -> None:
        """A row as `subscriptions.add` writes it; nothing is charged yet."""
        package = values.pop("package", None)
        self.ask(
            """
            INSERT INTO subscription (
                       account_id, name, package_id, setup_micros, price_micros, unit, calendar,
                       prorate, time_zone, begins_at, ends_at, anchor_at, next_at)
            SELECT account_id, %(name)s,
                   (SELECT package_id FROM package WHERE name = %(package)s),
                   %(setup)s, %(price)s,
                   coalesce((SELECT period FROM package WHERE name = %(package)s), 'month'),
                   %(calendar)s, %(prorate)s, time_zone, %(begins)s, %(ends)s, %(begins)s,
                   %(begins)s
              FROM account
             WHERE code = %(code)s
         RETURNING 1
            """,
            {
                "code": code,
                "name": name,
                "package": package,
                "setup": parse_micros(values.pop("setup", "0")),
                "price": parse_micros(values.pop("price", "0")),
                "calendar": values.pop("calendar", False),
                "prorate": values.pop("prorate", True),
                "begins": at(values.pop("begins")),
                "ends": at(values.pop("ends", None)),
            },
        )
        assert not values

    def ask(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with transaction(self.connection) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def fees(self, code: str) -> list[str]:
        """Its fees in the ledger: when, how much."""
        rows = self.ask(
            """
            SELECT at, amount_micros
              FROM posting
              JOIN ledger_transaction USING (transaction_id)
              JOIN account USING (account_id)
             WHERE code = %s
               AND ledger_transaction.kind = 'fee'
             ORDER BY at, transaction_id
            """,
            (code,),
        )
        return [
            f"{when.astimezone(UTC):%Y-%m-%d %H:%M} {format_micros(micros)}"
            for when, micros in rows
        ]

    def balance(self, code: str) -> str:
        [(micros,)] = self.ask("SELECT balance_micros FROM account WHERE code = %s", (code,))
        return format_micros(micros)

    def run(self, now: str) -> Charged:
        when = at(now)
        assert when is not None
        return charge_recurring(self.connection, when)

    def events(self) -> list[tuple[str, str]]:
        return [
            (code, kind)
            for code, kind in self.ask(
                "SELECT code, event.kind FROM event JOIN account USING (account_id)"
                " ORDER BY event_id"
            )
        ]


def at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def world(connection: Connection) -> Iterator[World]:
    yield World(connection)
    with transaction(connection) as cursor:
        cursor.execute("UPDATE account SET reserved_micros = 0")
        assert broken_laws(cursor) == {}


# ------------------------------------------------------------------ subscriptions


def test_a_fee_is_charged_once_a_period_by_the_anniversary(world: World) -> None:
    world.add("alice", credit="100")
    world.subscribe("alice", setup="5", price="10", begins="2026-01-31T15:32")
    assert world.run("2026-01-31T15:31").fees == 0
    assert world.run("2026-01-31T15:32").fees == 2
    assert world.run("2026-02-28T15:31").fees == 0
    assert world.run("2026-02-28T15:32").fees == 1
    assert world.run("2026-03-31T16:00").fees == 1
    assert world.run("2026-03-31T16:00").fees == 0
    assert world.fees("alice") == [
        "2026-01-31 15:32 -5.000000",
        "2026-01-31 15:32 -10.000000",
        "2026-02-28 15:32 -10.000000",
        "2026-03-31 15:32 -10.000000",
    ]
    books = world.ask("SELECT DISTINCT contra_book FROM posting WHERE amount_micros < 0")
    assert books == [("fees",)]


def test_a_scheduler_that_was_off_for_three_months_charges_three(world: World) -> None:
    world.add("alice", postpaid=True)
    world.subscribe("alice", price="10", begins="2026-01-15")
    assert world.run("2026-04-14T23:59") == Charged(3, 0)
    assert world.fees("alice") == [
        "2026-01-15 00:00 -10.000000",
        "2026-02-15 00:00 -10.000000",
        "2026-03-15 00:00 -10.000000",
    ]


def test_calendar_months_are_those_of_the_accounts_zone_and_cost_their_days(world: World) -> None:
    world.add("madrid", postpaid=True, zone="Europe/Madrid")
    # The 10th in Madrid; out on the 10th of April: 22 of 31 days, two months, 9 of 30.
    world.subscribe(
        "madrid", price="10", calendar=True, begins="2026-01-09T23:30", ends="2026-04-09T22:00"
    )
    world.run("2026-06-01")
    assert world.fees("madrid") == [
        "2026-01-09 23:30 -7.096774",
        "2026-01-31 23:00 -10.000000",
        "2026-02-28 23:00 -10.000000",
        "2026-03-31 22:00 -3.000000",
    ]


def test_what_is_not_prorated_costs_whole_periods(world: World) -> None:
    world.add("alice", postpaid=True)
    world.subscribe(
        "alice",
        price="10",
        calendar=True,
        prorate=False,
        begins="2026-01-30",
        ends="2026-03-02",
    )
    world.run("2026-06-01")
    assert [line[-10:] for line in world.fees("alice")] == ["-10.000000"] * 3


def test_a_new_zone_of_the_account_moves_no_period(world: World) -> None:
    world.add("alice", postpaid=True, zone="Europe/Madrid")
    world.subscribe("alice", price="31", calendar=True, begins="2026-01-31T23:00")
    world.run("2026-02-01")
    world.ask("UPDATE account SET time_zone = 'America/New_York' WHERE code = 'alice'")
    world.run("2026-03-02")
    assert world.fees("alice") == ["2026-01-31 23:00 -31.000000", "2026-02-28 23:00 -31.000000"]


def test_a_prepaid_account_without_the_money_is_not_charged_and_tried_again(world: World) -> None:
    world.add("alice", credit="14")
    world.subscribe("alice", setup="5", price="10", begins="2026-01-05")
    for day in ("05", "06", "07"):
        assert world.run(f"2026-01-{day}") == Charged(0, 1)
    assert world.fees("alice") == []
    assert world.events() == [("alice", "subscription-suspended")]
    world.pay("alice", "11")
    # Served from now on, so paid from now on.
    assert world.run("2026-03-10T12:00") == Charged(2, 0)
    assert world.run("2026-04-10T11:59") == Charged(0, 0)
    assert world.run("2026-04-10T12:00") == Charged(1, 0)
    assert world.fees("alice") == [
        "2026-03-10 12:00 -5.000000",
        "2026-03-10 12:00 -10.000000",
        "2026-04-10 12:00 -10.000000",
    ]
    assert world.events()[1:] == [("alice", "subscription-resumed")]


def test_what_calls_have_reserved_pays_no_fee(world: World) -> None:
    world.add("alice", credit="10")
    world.ask("UPDATE account SET reserved_micros = 1 WHERE code = 'alice' RETURNING 1")
    world.subscribe("alice", price="10", begins="2026-01-05")
    assert world.run("2026-01-05") == Charged(0, 1)
    world.ask("UPDATE account SET reserved_micros = 0 WHERE code = 'alice' RETURNING 1")
    assert world.run("2026-01-05") == Charged(1, 0)
    assert world.balance("alice") == "0.000000"


def test_a_suspended_calendar_month_is_resumed_for_its_days(world: World) -> None:
    world.add("alice", credit="1")
    world.subscribe("alice", price="30", calendar=True, begins="2026-04-01")
    world.run("2026-04-01")
    world.pay("alice", "100")
    world.run("2026-06-21T08:00")
    world.run("2026-07-01")
    assert world.fees("alice") == ["2026-06-21 08:00 -10.000000", "2026-07-01 00:00 -30.000000"]


def test_a_suspended_subscription_that_ends_is_charged_nothing(world: World) -> None:
    world.add("alice")
    world.subscribe("alice", price="30", begins="2026-04-01", ends="2026-05-01")
    world.run("2026-04-01")
    world.pay("alice", "100")
    assert world.run("2026-05-01") == Charged(0, 0)
    assert world.ask("SELECT next_at FROM subscription") == [(None,)]


def test_a_postpaid_account_is_charged_beyond_its_limit(world: World) -> None:
    world.add("bob", postpaid=True)
    world.subscribe("bob", price="10", begins="2026-01-05")
    assert world.run("2026-01-05") == Charged(1, 0)
    assert world.balance("bob") == "-10.000000"


def test_a_closed_account_is_charged_no_more(world: World) -> None:
    world.add("bob", postpaid=True)
    world.subscribe("bob", price="10", begins="2026-01-05")
    world.run("2026-01-05")
    world.ask("UPDATE account SET status = 'closed' WHERE code = 'bob'")
    assert world.run("2026-09-05") == Charged(0, 0)
    world.ask("UPDATE account SET status = 'active' WHERE code = 'bob'")
    assert world.run("2026-09-05") == Charged(0, 0)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    begins=st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 1)),  # noqa: DTZ001
    days=st.integers(0, 150),
    calendar=st.booleans(),
    prorate=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_however_often_the_scheduler_runs_the_fees_are_the_same(
    world: World, begins: datetime, days: int, calendar: bool, prorate: bool, cuts: list[int]
) -> None:
    """Once at the end, or at any days before, some of them twice."""
    world.connection.rollback()
    codes = [f"a{time.monotonic_ns()}", f"b{time.monotonic_ns()}"]
    ends = begins + timedelta(days=days)
    last = (begins + timedelta(days=200)).isoformat()
    for code, moments in zip(codes, ([], sorted(cuts)), strict=True):
        world.add(code, postpaid=True)
        world.subscribe(
            code,
            price="10",
            calendar=calendar,
            prorate=prorate,
            begins=begins.isoformat(),
            ends=ends.isoformat(),
        )
        for day in moments:
            world.run((begins + timedelta(days=day)).isoformat())
        world.run(last)
    assert world.fees(codes[0]) == world.fees(codes[1])
    assert bool(world.fees(codes[0])) == (days > 0)


# ------------------------------------------------------------------ packages


def offer(world: World, **values: Any) -> packages.Package:
    with transaction(world.connection) as cursor:
        seller = accounts.find(cursor, world.admin, "admin")
        new = packages.NewPackage("hour", seller.account_id, "USD", 3600, **values)
        return packages.add(cursor, world.admin, seller, new)


def held(world: World, code: str) -> list[str]:
    rows = world.ask(
        """
        SELECT valid_from, valid_to, granted_seconds
          FROM package_holding
          JOIN account USING (account_id)
         WHERE code = %s
         ORDER BY valid_from
        """,
        (code,),
    )
    return [f"{begin:%m-%d} {end:%m-%d} {seconds}" for begin, end, seconds in rows]


def test_a_package_is_renewed_and_paid_at_its_price_of_the_time(world: World) -> None:
    package = offer(world, price_micros=10_000_000)
    world.add("alice", credit="100")
    world.subscribe("alice", "hour", package="hour", begins="2026-01-31")
    world.run("2026-01-31")
    with transaction(world.connection) as cursor:
        packages.change(
            cursor, world.admin, package._replace(price_micros=12_000_000, seconds=4000)
        )
    world.run("2026-02-28")
    assert held(world, "alice") == ["01-31 02-28 3600", "02-28 03-31 4000"]
    assert world.fees("alice") == ["2026-01-31 00:00 -10.000000", "2026-02-28 00:00 -12.000000"]


def test_package_periods_that_are_over_are_neither_given_nor_paid(world: World) -> None:
    offer(world, price_micros=10_000_000)
    world.add("alice", credit="100")
    world.subscribe("alice", "hour", package="hour", begins="2026-01-15")
    world.run("2026-01-15")
    world.run("2026-05-20")
    assert held(world, "alice") == ["01-15 02-15 3600", "05-15 06-15 3600"]
    assert len(world.fees("alice")) == 2


def test_without_the_money_there_is_no_package(world: World) -> None:
    offer(world, price_micros=10_000_000)
    world.add("alice", credit="9.999999")
    world.subscribe("alice", "hour", package="hour", begins="2026-01-15")
    assert world.run("2026-01-15") == Charged(0, 1)
    assert held(world, "alice") == []
    world.pay("alice", "1")
    assert world.run("2026-01-20") == Charged(1, 0)
    assert held(world, "alice") == ["01-20 02-20 3600"]


def test_a_part_of_a_calendar_month_gives_and_costs_a_part_of_the_package(world: World) -> None:
    offer(world, price_micros=30_000_000)
    world.add("alice", credit="100")
    world.subscribe("alice", "hour", package="hour", calendar=True, begins="2026-04-21")
    world.run("2026-04-21")
    assert held(world, "alice") == ["04-21 05-01 1200"]
    assert world.fees("alice") == ["2026-04-21 00:00 -10.000000"]


def test_a_period_that_the_account_was_given_by_hand_is_not_sold_again(world: World) -> None:
    package = offer(world, price_micros=10_000_000)
    world.add("alice", credit="100")
    with transaction(world.connection) as cursor:
        account = accounts.find(cursor, world.admin, "alice")
        begin, end = at("2026-01-20"), at("2026-01-25")
        assert begin is not None
        packages.grant(cursor, world.admin, account, package, begin=begin, end=end, price_micros=0)
    world.subscribe("alice", "hour", package="hour", begins="2026-01-15")
    world.run("2026-02-15")
    assert held(world, "alice") == ["01-20 01-25 3600", "02-15 03-15 3600"]
    # The first month was over when the scheduler ran.
    world.subscribe("alice", "hour again", package="hour", begins="2026-03-01")
    world.run("2026-03-01")
    assert world.events() == [("alice", "package-not-renewed")]


def test_a_retired_package_is_not_renewed(world: World) -> None:
    package = offer(world, price_micros=10_000_000)
    world.add("alice", credit="100")
    world.subscribe("alice", "hour", package="hour", begins="2026-01-15")
    world.run("2026-01-15")
    with transaction(world.connection) as cursor:
        packages.change(cursor, world.admin, package._replace(active=False))
    assert world.run("2026-02-15") == Charged(0, 0)
    assert world.events() == [("alice", "package-not-renewed")]
    assert world.ask("SELECT next_at FROM subscription") == [(None,)]


# ------------------------------------------------------------------ DIDs


def did(world: World, number: str, owner: str, prices: dict[str, tuple[str, str]]) -> None:
    """A number of the carrier's at 1.00 setup and 0.50 a month, from 2026-01-31 on."""
    world.ask(
        "INSERT INTO did (number, provider_id, setup_micros, monthly_micros, acquired_at)"
        " SELECT %s, account_id, 1000000, 500000, '2026-01-31' FROM account"
        " WHERE code = 'carrier'",
        (number,),
    )
    for code, (setup, monthly) in prices.items():
        world.ask(
            "INSERT INTO did_price (did_id, account_id, setup_micros, monthly_micros)"
            " SELECT did_id, account_id, %s, %s FROM did, account WHERE number = %s AND code = %s",
            (parse_micros(setup), parse_micros(monthly), number, code),
        )
    assign(world, number, owner, "2026-01-31")


def assign(world: World, number: str, owner: str, begins: str, ends: str | None = None) -> None:
    world.ask(
        "INSERT INTO did_assignment (did_id, account_id, valid_from, valid_to, destination_kind,"
        " destination) SELECT did_id, account_id, %s, %s, 'extension', 'x@y'"
        " FROM did, account WHERE number = %s AND code = %s",
        (at(begins), at(ends), number, owner),
    )


def release(world: World, number: str, ends: str) -> None:
    world.ask(
        "UPDATE did_assignment SET valid_to = %s WHERE valid_to IS NULL"
        " AND did_id = (SELECT did_id FROM did WHERE number = %s)",
        (at(ends), number),
    )


PRICES = {"north": ("2", "1"), "nora": ("4", "3"), "noel": ("5", "3.5")}


def test_each_level_pays_its_seller_for_a_did_and_the_operator_the_provider(world: World) -> None:
    world.add("nora", parent="north", credit="100")
    did(world, "390000000001", "nora", PRICES)
    assert world.run("2026-02-28") == Charged(9, 0)
    assert world.run("2026-02-28") == Charged(0, 0)
    assert world.fees("nora") == [
        "2026-01-31 00:00 -4.000000",
        "2026-01-31 00:00 -3.000000",
        "2026-02-28 00:00 -3.000000",
    ]
    assert [line[17:] for line in world.fees("north")] == ["-2.000000", "-1.000000", "-1.000000"]
    assert [line[17:] for line in world.fees("carrier")] == ["1.000000", "0.500000", "0.500000"]
    sellers = world.ask(
        """
        SELECT DISTINCT account.code, contra.code, contra_book
          FROM posting
          JOIN ledger_transaction USING (transaction_id)
          JOIN account USING (account_id)
          JOIN account AS contra ON contra.account_id = contra_account_id
         WHERE ledger_transaction.kind = 'fee'
         ORDER BY 1
        """
    )
    assert sellers == [
        ("carrier", "admin", "purchases"),
        ("nora", "north", "fees"),
        ("north", "admin", "fees"),
    ]


def test_a_did_that_rings_elsewhere_or_moves_below_a_reseller_begins_no_new_month(
    world: World,
) -> None:
    world.add("nora", parent="north", credit="100")
    world.add("noel", parent="north", credit="100")
    did(world, "390000000001", "nora", PRICES)
    world.run("2026-01-31")
    release(world, "390000000001", "2026-02-05")
    assign(world, "390000000001", "nora", "2026-02-05", "2026-02-20")  # rings elsewhere
    world.run("2026-02-05")
    assert len(world.fees("nora")) == 2
    assign(world, "390000000001", "noel", "2026-02-20")
    world.run("2026-03-01")
    assert len(world.fees("nora")) == 2
    assert world.fees("noel") == ["2026-02-20 00:00 -5.000000", "2026-02-20 00:00 -3.500000"]
    # The reseller has had it all the time.
    assert [line[17:] for line in world.fees("north")] == ["-2.000000", "-1.000000", "-1.000000"]


def test_a_released_did_is_its_providers_charge_until_it_is_retired(world: World) -> None:
    world.add("nora", parent="north", credit="100")
    did(world, "390000000001", "nora", PRICES)
    release(world, "390000000001", "2026-02-10")
    world.run("2026-03-31")
    assert len(world.fees("nora")) == len(world.fees("north")) == 2
    assert len(world.fees("carrier")) == 4
    world.ask("UPDATE did SET status = 'retired'")
    [(retired,)] = world.ask("SELECT retired_at FROM did")
    world.run("2036-01-01")
    months = [line[:10] for line in world.fees("carrier")]
    assert max(months) <= f"{retired.astimezone(UTC):%Y-%m-%d}"
    world.ask("UPDATE did SET status = 'active'")
    again = "SELECT retired_at, acquired_at >= now() - interval '1 hour' FROM did"
    assert world.ask(again) == [(None, True)]


def test_another_provider_of_a_number_is_paid_from_then_on(world: World) -> None:
    world.add("carrier2", "provider", postpaid=True)
    did(world, "390000000001", "north", {})
    world.run("2026-01-31")
    world.ask(
        "UPDATE did SET provider_id = (SELECT account_id FROM account WHERE code = 'carrier2')"
    )
    [(since,)] = world.ask("SELECT acquired_at FROM did")
    world.run((since + timedelta(days=40)).strftime("%Y-%m-%d"))
    last = max(line[:10] for line in world.fees("carrier"))
    assert last <= f"{since.astimezone(UTC):%Y-%m-%d}"
    assert [line[17:] for line in world.fees("carrier2")] == ["1.000000", "0.500000", "0.500000"]


def test_a_did_called_off_as_it_began_costs_nothing_more(world: World) -> None:
    did(world, "390000000001", "north", PRICES)
    world.run("2026-01-31")
    world.ask("UPDATE did_assignment SET valid_to = valid_from")
    world.run("2026-06-30")
    assert len(world.fees("north")) == 2


def test_an_owner_without_the_money_owes_its_dids_months(world: World) -> None:
    world.add("nora", parent="north", credit="8")
    did(world, "390000000001", "nora", PRICES)
    assert world.run("2026-02-28").unpaid == 1
    assert world.run("2026-03-31").unpaid == 1
    assert world.events() == [("nora", "did-unpaid")]
    assert len(world.fees("nora")) == 2
    # Its reseller has paid on.
    assert len(world.fees("north")) == 4
    world.pay("nora", "50")
    assert world.run("2026-04-01") == Charged(2, 0)
    assert world.balance("nora") == "45.000000"


def test_a_closed_owner_pays_no_did(world: World) -> None:
    world.add("nora", parent="north", credit="100")
    did(world, "390000000001", "nora", PRICES)
    world.ask("UPDATE account SET status = 'closed' WHERE code = 'nora'")
    world.run("2026-02-28")
    assert world.fees("nora") == []
    assert len(world.fees("north")) == 3


# ------------------------------------------------------------------ crashes and races


PROGRAM = """
import contextlib, sys
from datetime import datetime
from aaa_server.storage.database import connect
from aaa_server.storage.recurring import charge_recurring
with contextlib.closing(connect(sys.argv[1])) as connection:
    print("begun", flush=True)
    charge_recurring(connection, datetime.fromisoformat(sys.argv[2]))
"""


# However late the kill comes, the run has not come to its end by itself.
WALL = """
CREATE TABLE wall (fees bigint);
INSERT INTO wall VALUES (0);
CREATE FUNCTION stop_at_wall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM ledger_transaction WHERE kind = 'fee') >= (SELECT fees FROM wall) THEN
        PERFORM pg_sleep(3600);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stop_at_wall BEFORE INSERT ON ledger_transaction
    FOR EACH ROW EXECUTE FUNCTION stop_at_wall();
"""


def end_other_sessions(world: World) -> None:
    """What a killed process had asked for last goes on in the database until it looks up."""
    world.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def posted(world: World) -> int:
    [(count,)] = world.ask("SELECT count(*) FROM ledger_transaction WHERE kind = 'fee'")
    return int(count)


def test_a_fee_run_killed_in_its_middle_and_run_again_charges_once(
    world: World, database_url: str
) -> None:
    for number in range(KILLED_THINGS):
        world.add(f"c{number}", postpaid=True)
        world.subscribe(
            f"c{number}", setup="1", price="10", begins="2026-01-10T12:00", calendar=number % 2 == 0
        )
    did(world, "390000000001", "c0", {"c0": ("1", "1")})
    wanted = KILLED_THINGS * (1 + 3) + 2 * (1 + 2)
    cut_at = [wanted * (place + 1) // (KILLS + 1) for place in range(KILLS)]
    seen = []
    world.ask(WALL)
    for goal in cut_at:
        world.ask("UPDATE wall SET fees = %s", (goal + BEHIND,))
        command = [sys.executable, "-c", PROGRAM, database_url, "2026-03-15T00:00:00+00:00"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            deadline = time.monotonic() + SECONDS_MAX
            while posted(world) < goal:
                assert time.monotonic() < deadline
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        end_other_sessions(world)
        seen.append(posted(world))
    # It was in its middle each time, and went on where it was.
    assert seen[-1] < wanted
    assert all(one < other for one, other in pairwise(seen))
    world.ask("DROP TRIGGER stop_at_wall ON ledger_transaction")
    world.run("2026-03-15")
    assert posted(world) == wanted
    assert world.run("2026-03-15") == Charged(0, 0)
    assert world.ask(
        """
        SELECT count(DISTINCT account.account_id), min(balance_micros), max(balance_micros)
          FROM account
         WHERE code LIKE 'c_%%' AND kind = 'customer' AND code <> 'c0'
           AND balance_micros NOT IN (-31000000, -28096774)
        """
    ) == [(0, None, None)]


def test_two_runs_at_once_charge_once(world: World, database_url: str) -> None:
    for number in range(40):
        world.add(f"c{number}", credit="100")
        world.subscribe(f"c{number}", price="10", begins="2026-01-10")
    did(world, "390000000001", "c0", {"c0": ("1", "1")})
    counts: list[int] = []
    barrier = threading.Barrier(3)

    def run() -> None:
        with contextlib.closing(connect(database_url)) as connection:
            barrier.wait()
            now = at("2026-03-01")
            assert now is not None
            counts.append(charge_recurring(connection, now).fees)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == posted(world) == 40 * 2 + 2 * 3


def test_a_row_that_was_put_back_is_not_charged_again(world: World) -> None:
    """The ledger refuses the period whatever the row says."""
    world.add("alice", credit="100")
    world.subscribe("alice", setup="5", price="10", begins="2026-01-10")
    world.run("2026-02-10")
    world.ask("UPDATE subscription SET next_number = 0, next_at = begins_at, setup_charged = false")
    assert world.run("2026-02-10") == Charged(0, 0)
    assert world.balance("alice") == "75.000000"


def test_one_thing_that_cannot_be_charged_does_not_keep_the_others(world: World) -> None:
    for code in ("a", "b", "c"):
        world.add(code, postpaid=True)
        world.subscribe(code, price="10", begins="2026-01-10")
    world.ask(
        "UPDATE subscription SET time_zone = 'UTC', price_micros = 9223372036854775807"
        " WHERE account_id = (SELECT account_id FROM account WHERE code = 'b')"
    )
    world.ask("UPDATE account SET balance_micros = -5 WHERE code = 'b'")
    with pytest.raises(NotAllCharged, match=r"^subscription \d+: .*out of range.*; 2 fees posted"):
        world.run("2026-01-10")
    world.ask("UPDATE account SET balance_micros = 0 WHERE code = 'b'")
    assert [world.balance(code) for code in "abc"] == ["-10.000000", "0.000000", "-10.000000"]


# ------------------------------------------------------------------ by command and by eyes


def test_subscriptions_of_one_name_begun_at_once_are_one(world: World, database_url: str) -> None:
    world.add("alice", credit="100")
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def begin() -> None:
        with contextlib.closing(connect(database_url)) as connection:
            barrier.wait()
            try:
                with transaction(connection) as cursor:
                    account = accounts.find(cursor, world.admin, "alice")
                    new = NewSubscription("line", price_micros=10_000_000)
                    subscriptions.add(cursor, world.admin, account, new)
                outcomes.append("begun")
            except Conflict:
                outcomes.append("conflict")

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["begun", "conflict", "conflict", "conflict"]
    assert world.balance("alice") == "90.000000"
