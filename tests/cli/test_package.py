"""Packages by command: what is on offer, what an account was given, and what it paid."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.storage import accounts, packages, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.problem import Conflict

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from tests.cli.conftest import Ran, Sky

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def ok(ran: Ran) -> Ran:
    assert ran.status == 0, ran.err
    return ran


def refused(ran: Ran, text: str) -> None:
    assert ran.status in (1, 2)
    assert ran.out == ""
    assert ran.err.count("\n") == 1, ran.err
    assert text in ran.err


def add(sky: Sky, name: str, *words: str) -> Any:
    return ok(sky("package", "add", name, "--minutes", "10", *words, "-o", "json")).json


def balance(sky: Sky, code: str) -> str:
    return str(sky("account", "show", code, "-o", "json").json["balance"])


# ------------------------------------------------------------------ what is on offer


def test_a_package_is_offered_changed_and_retired(sky: Sky) -> None:
    made = add(sky, "eu", "--price", "5", "--prefix", "+44", "--prefix", "33", "--prefix", "44")
    expected = {
        "name": "eu",
        "owner": "admin",
        "currency": "USD",
        "price": "5.000000",
        "seconds": 600,
        "prefixes": ["33", "44"],
        "period": "month",
        "valid_days": None,
        "priority": 0,
        "status": "active",
    }
    assert made == expected
    changed = ok(
        sky(
            *("package", "set", "eu", "--seconds", "90", "--price", "0.5", "--prefix", ""),
            *("--period", "once", "--valid-days", "7", "--priority", "-1", "-o", "json"),
        )
    ).json
    assert changed == expected | {
        "seconds": 90,
        "price": "0.500000",
        "prefixes": [],
        "period": "once",
        "valid_days": 7,
        "priority": -1,
    }
    # A period of its own leaves no days behind.
    assert (
        ok(sky("package", "set", "eu", "--period", "week", "-o", "json")).json["period"] == "week"
    )
    assert sky("package", "show", "eu", "-o", "json").json["valid_days"] is None
    ok(sky("package", "retire", "eu"))
    listed = sky("package", "list", "-o", "json").json
    assert "eu" not in {row["name"] for row in listed}
    listed = sky("package", "list", "--retired", "-o", "json").json
    assert {row["name"]: row["status"] for row in listed}["eu"] == "retired"
    refused(sky("package", "grant", "alice", "eu"), "package eu is retired")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("add", "x"), "--minutes or --seconds"),
        (("add", "x", "--minutes", "1", "--seconds", "1"), "not both"),
        (("add", "x", "--minutes", "0"), "0: a whole number from 1 to"),
        (("add", "x", "--minutes", "99999999"), ": a whole number from 1 to"),
        (("add", "", "--minutes", "1"), "a package needs a name"),
        (("add", "x", "--minutes", "1", "--price", "-1"), "a price is not below 0"),
        (("add", "x", "--minutes", "1", "--prefix", "uk"), "'uk' is no prefix"),
        (("add", "x", "--minutes", "1", "--period", "hour"), "'hour' is not one of"),
        (("add", "x", "--minutes", "1", "--valid-days", "3"), "is for --period once"),
        (("add", "x", "--minutes", "1", "--owner", "alice"), "alice is a customer"),
        (("add", "x", "--minutes", "1", "--owner", "nobody"), "no account 'nobody'"),
        (("add", "uk-60", "--minutes", "1"), "admin has a package 'uk-60' already"),
        (("set", "uk-60"), "nothing to change"),
        (("set", "nothing", "--minutes", "1"), "no package 'nothing'"),
        (("show", "uk-60", "--owner", "north"), "no package 'uk-60' of north"),
        (("grant", "nora", "uk-60"), "is sold by admin: nora buys from its own reseller only"),
        (("grant", "alice", "nothing"), "no package 'nothing' that alice could buy"),
        (("grant", "acme", "uk-60", "--free"), "acme is of kind provider"),
        (("grant", "empty", "uk-60"), "empty may spend 0.000000 USD, and this costs 3.000000"),
        (
            ("grant", "alice", "uk-60", "--from", "2026-02-01", "--to", "2026-02-01"),
            "before it begins at 2026-02-01T00:00:00Z",
        ),
        (("holdings", "nobody"), "no account 'nobody'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_says_why(unchanged: Sky, words: tuple[str, ...], text: str) -> None:
    ran = unchanged("package", *words)
    assert ran.status in (1, 2)
    assert text in ran.err


def test_two_sellers_may_use_one_name(sky: Sky) -> None:
    for owner in ("north", "coast"):
        add(sky, "basic", "--owner", owner)
    refused(sky("package", "show", "basic"), "say which by --owner (coast, north)")
    for eyes, owner in (("north", "north"), ("coast", "coast")):
        shown = sky("--as", eyes, "package", "show", "basic", "-o", "json").json
        assert shown["owner"] == owner
    # Which one an account can have, its own seller says.
    ok(sky("package", "grant", "cora", "basic"))


# ------------------------------------------------------------------ a period given


def test_a_grant_takes_its_price_and_gives_its_seconds(sky: Sky) -> None:
    add(sky, "eu", "--price", "5", "--prefix", "33")
    given = ok(
        sky("package", "grant", "alice", "eu", "--from", "2026-01-31T10:00:00Z", "-o", "json")
    ).json
    assert given["valid_to"] == "2026-02-28T10:00:00+00:00"
    assert (given["price"], given["balance"]) == ("5.000000", "45.000000")
    last = sky("account", "statement", "alice", "-o", "json").json[-2]
    assert (last["kind"], last["amount"], last["reference"]) == (
        "fee",
        "-5.000000",
        given["reference"],
    )
    assert "package eu, from 2026-01-31T10:00:00Z until 2026-02-28T10:00:00Z" in last["note"]
    ok(sky("package", "set", "eu", "--minutes", "1", "--prefix", "34"))
    [held] = sky("package", "holdings", "alice", "--all", "-o", "json").json
    assert held == {
        "package": "eu",
        "prefixes": ["33"],
        "priority": 0,
        "valid_from": "2026-01-31T10:00:00+00:00",
        "valid_to": "2026-02-28T10:00:00+00:00",
        "granted": 600,
        "used": 0,
        "reserved": 0,
        "left": 600,
    }
    # What has ended is shown when it is asked for.
    assert sky("package", "holdings", "alice", "-o", "json").json == []
    assert sky("audit").status == 0


def test_two_periods_of_one_package_do_not_overlap(sky: Sky) -> None:
    add(sky, "eu", "--price", "5")
    ok(sky("package", "grant", "alice", "eu", "--from", "2026-03-01"))
    refused(
        sky("package", "grant", "alice", "eu", "--from", "2026-03-15"),
        "from 2026-03-01T00:00:00Z until 2026-04-01T00:00:00Z already, and two periods of one "
        "package never overlap: the next one can begin --from 2026-04-01T00:00:00Z",
    )
    assert balance(sky, "alice") == "45.000000"
    ok(sky("package", "grant", "alice", "eu", "--from", "2026-04-01"))
    ok(sky("package", "grant", "bob", "eu", "--from", "2026-03-15"))


def test_the_database_refuses_an_overlap_by_itself(demo_connection: Connection) -> None:
    with demo_connection.cursor() as cursor, pytest.raises(psycopg2.errors.ExclusionViolation):
        cursor.execute(
            """
            INSERT INTO package_holding (account_id, package_id, valid_from, granted_seconds)
            SELECT account_id, package_id, now(), 1
              FROM package_holding
            """
        )
    demo_connection.rollback()


@pytest.mark.parametrize(
    ("period", "days", "begin", "expected"),
    [
        ("day", (), "2026-03-28T12:00:00+01:00", "2026-03-29T10:00:00+00:00"),
        ("week", (), "2026-01-05", "2026-01-12T00:00:00+00:00"),
        ("month", (), "2026-10-01T00:00:00+02:00", "2026-10-31T23:00:00+00:00"),
        ("year", (), "2028-02-29T00:00:00Z", "2029-02-28T00:00:00+00:00"),
        ("once", (), "2026-01-05", None),
        ("once", ("--valid-days", "10"), "2026-01-05", "2026-01-15T00:00:00+00:00"),
    ],
)
def test_a_period_is_as_long_as_the_accounts_calendar_says(
    sky: Sky, period: str, days: tuple[str, ...], begin: str, expected: str | None
) -> None:
    # Europe's clocks went forward in the night to 29 March 2026, and back on 25 October.
    ok(sky("account", "set", "alice", "--time-zone", "Europe/Madrid"))
    add(sky, "p", "--period", period, *days)
    given = ok(sky("package", "grant", "alice", "p", "--from", begin, "-o", "json")).json
    assert given["valid_to"] == expected


def test_a_present_costs_nothing_and_is_in_no_ledger(sky: Sky) -> None:
    given = ok(sky("package", "grant", "alice", "uk-60", "--free", "-o", "json")).json
    assert (given["price"], given["transaction_id"]) == ("0.000000", None)
    assert balance(sky, "alice") == "50.000000"
    assert sky("audit").status == 0


def test_what_is_reserved_is_not_spent(sky: Sky, demo_connection: Connection) -> None:
    add(sky, "all", "--price", "49")
    with transaction(demo_connection) as cursor:
        cursor.execute("UPDATE account SET reserved_micros = 1500000 WHERE code = 'alice'")
    refused(
        sky("package", "grant", "alice", "all"),
        "alice may spend 48.500000 USD (1.500000 are reserved for its calls), and this costs "
        "49.000000",
    )
    assert sky("package", "holdings", "alice", "-o", "json").json == []
    ok(sky("package", "set", "all", "--price", "48.50"))
    ok(sky("package", "grant", "alice", "all"))
    assert balance(sky, "alice") == "1.500000"


def test_a_package_is_paid_in_the_accounts_own_currency(sky: Sky) -> None:
    add(sky, "usd", "--price", "1", "--owner", "coast")
    refused(sky("package", "grant", "carl", "usd"), "costs USD and carl pays in EUR")
    ok(sky("package", "grant", "carl", "usd", "--free"))
    add(sky, "eur", "--price", "1", "--owner", "coast", "--currency", "EUR")
    assert ok(sky("package", "grant", "carl", "eur", "-o", "json")).json["balance"] == "-1.000000"
    assert sky("audit").status == 0


def test_nothing_is_sold_to_a_closed_account(sky: Sky) -> None:
    ok(sky("account", "close", "alice"))
    refused(sky("package", "grant", "alice", "uk-60"), "alice is closed")


def test_a_reference_is_posted_once(demo_connection: Connection) -> None:
    """What a job that renews packages rests on."""
    with transaction(demo_connection) as cursor:
        operator = viewer.operator(cursor)
        buyer = accounts.find(cursor, operator, "alice")
        package = packages.find(cursor, operator, "uk-60")
        given = packages.grant(
            cursor, operator, buyer, package, begin=NOON, price_micros=7, reference="r/1"
        )
        assert (given.price_micros, given.reference) == (7, "r/1")
    with (
        pytest.raises(Conflict, match="'r/1' was posted before"),
        transaction(demo_connection) as cursor,
    ):
        packages.grant(
            cursor, operator, buyer, package, begin=given.valid_to or NOON, reference="r/1"
        )
    with transaction(demo_connection) as cursor:
        assert len(packages.holdings(cursor, buyer.account_id)) == 1


def test_two_who_grant_one_period_at_once_charge_it_once(sky: Sky, demo_url: str) -> None:
    def grant(_turn: int) -> bool:
        with contextlib.closing(connect(demo_url)) as connection:
            try:
                with transaction(connection) as cursor:
                    operator = viewer.operator(cursor)
                    buyer = accounts.find(cursor, operator, "alice")
                    package = packages.find(cursor, operator, "uk-60")
                    packages.grant(cursor, operator, buyer, package, begin=NOON)
            except Conflict:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(grant, range(8))) == 1
    assert balance(sky, "alice") == "47.000000"
    assert sky("audit").status == 0


def test_an_account_with_a_package_is_metered(sky: Sky, demo_connection: Connection) -> None:
    ok(sky("package", "grant", "alice", "uk-60"))
    with transaction(demo_connection) as cursor:
        cursor.execute("SELECT code FROM account WHERE metered ORDER BY code")
        assert cursor.fetchall() == [("alice",), ("paula",)]


# ------------------------------------------------------------------ who may


def test_a_reseller_sells_its_own_packages(sky: Sky, demo_connection: Connection) -> None:
    north = ("--as", "north")
    for words in (
        ("package", "add", "gold", "--minutes", "5", "--price", "2"),
        ("package", "set", "gold", "--priority", "3"),
        ("package", "grant", "nora", "gold"),
        ("package", "grant", "coast", "gold", "--free"),
        ("package", "holdings", "nora"),
        ("package", "show", "gold"),
        ("package", "retire", "gold"),
    ):
        ok(sky(*north, *words))
    assert balance(sky, "nora") == "18.000000"
    with transaction(demo_connection) as cursor:
        cursor.execute(
            """
            SELECT action, subject, account.code
              FROM audit_log
              JOIN account ON account_id = acting_as_id
             WHERE action LIKE 'package%'
             ORDER BY audit_id
            """
        )
        assert cursor.fetchall() == [
            ("package add", "gold", "north"),
            ("package set", "gold", "north"),
            ("package grant", "nora", "north"),
            ("package grant", "coast", "north"),
            ("package retire", "gold", "north"),
        ]
    assert sky("audit").status == 0


def test_a_buyer_sees_what_it_may_buy_and_not_of_whom(sky: Sky) -> None:
    add(sky, "for-coast", "--owner", "north")
    add(sky, "for-cora", "--owner", "coast")
    add(sky, "for-north")

    def seen(code: str) -> dict[str, str]:
        listed = sky("--as", code, "package", "list", "-o", "json").json
        return {row["name"]: row["owner"] for row in listed}

    assert seen("cora") == {"for-cora": ""}
    assert seen("coast") == {"for-coast": "", "for-cora": "coast"}
    assert seen("north") == {
        "uk-60": "",
        "for-north": "",
        "for-coast": "north",
        "for-cora": "coast",
    }
    assert seen("alice") == {"uk-60": "", "for-north": ""}


@pytest.mark.parametrize(
    ("eyes", "words", "text"),
    [
        ("north", ("add", "x", "--minutes", "1", "--owner", "coast"), "may not set prices of"),
        ("north", ("add", "x", "--minutes", "1", "--owner", "admin"), "no account 'admin'"),
        ("north", ("set", "uk-60", "--price", "0"), "may not change package uk-60"),
        ("north", ("retire", "uk-60"), "may not change package uk-60"),
        ("north", ("grant", "north", "uk-60", "--free"), "buys from its own reseller"),
        ("north", ("grant", "cora", "uk-60", "--free"), "cora buys from its own reseller only"),
        ("north", ("grant", "paula", "uk-60", "--free"), "no account 'paula'"),
        ("north", ("holdings", "paula"), "no account 'paula'"),
        ("coast", ("show", "uk-60"), "no package 'uk-60'"),
        ("alice", ("grant", "alice", "uk-60", "--free"), "alice is a customer"),
        ("alice", ("add", "x", "--minutes", "1"), "alice is a customer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_not_its_business_is_refused(
    unchanged: Sky, eyes: str, words: tuple[str, ...], text: str
) -> None:
    refused(unchanged("--as", eyes, "package", *words), text)


# ------------------------------------------------------------------ the attacker


def test_no_other_trees_packages_are_found_in_the_tables(demo_owner: Cursor) -> None:
    demo_owner.execute(
        """
        INSERT INTO package (owner_id, name, currency, seconds)
        SELECT account_id, code || '-package', 'USD', 60
          FROM account
         WHERE kind = 'reseller'
        """
    )
    demo_owner.execute(
        """
        INSERT INTO package_holding (account_id, package_id, valid_from, granted_seconds)
        SELECT account.account_id, package.package_id, now(), 60
          FROM package
          JOIN account ON account.parent_id = package.owner_id
         WHERE account.code IN ('nora', 'cora', 'alice')
        """
    )
    viewer.enter(demo_owner, "coast")
    demo_owner.execute("SELECT name FROM package ORDER BY name")
    assert demo_owner.fetchall() == [("coast-package",), ("north-package",)]
    demo_owner.execute("SELECT code FROM package_holding JOIN account USING (account_id)")
    assert demo_owner.fetchall() == [("cora",)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO package (owner_id, name, currency, seconds) "
        "VALUES (viewer_id(), 'x', 'USD', 1)",
        "UPDATE package SET price_micros = 0",
        "DELETE FROM package",
        "INSERT INTO package_holding (account_id, package_id, valid_from, granted_seconds) "
        "VALUES (viewer_id(), 1, now(), 1)",
        "UPDATE package_holding SET used_seconds = 0",
        "DELETE FROM package_holding",
        "UPDATE account SET metered = false",
    ],
)
def test_seconds_are_not_made_by_hand(demo_owner: Cursor, sql: str) -> None:
    viewer.enter(demo_owner, "north")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        demo_owner.execute(sql)
