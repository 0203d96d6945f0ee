"""Subscriptions by command: begun, charged, ended; and whose business they are."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.rating.money import div_half_up, parse_micros
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.recurring import charge_recurring
from tests.charging.proof import broken_laws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Sky

JSON = ("-o", "json")
NOW = datetime.now(UTC)


@pytest.fixture
def demo_url(demo_url: str) -> Iterator[str]:
    """The demo, whose books add up whatever a test has done."""
    yield demo_url
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        assert broken_laws(cursor) == {}


def ago(days: int) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def subscribe(sky: Sky, code: str, *words: str) -> Any:
    ran = sky("subscription", "add", code, *words, *JSON)
    assert ran.status == 0, ran.err
    return ran.json


def test_what_is_due_is_charged_as_it_begins(sky: Sky, demo_url: str) -> None:
    made = subscribe(sky, "alice", "--name", "line", "--setup", "5", "--monthly", "10")
    assert (made["charged"], made["balance"], made["status"]) == (
        "15.000000",
        "35.000000",
        "running",
    )
    lines = sky("account", "statement", "alice", *JSON).json[-3:-1]
    assert [line["note"].split(",")[0] for line in lines] == ["line", "line"]
    assert {line["kind"] for line in lines} == {"fee"}
    [listed] = sky("subscription", "list", "--account", "alice", *JSON).json
    assert listed == {key: made[key] for key in listed}
    with contextlib.closing(connect(demo_url)) as connection:
        charge_recurring(connection, NOW + timedelta(days=32))
    assert sky("account", "show", "alice", *JSON).json["balance"] == "25.000000"


def test_one_that_began_in_the_past_is_charged_up_to_now(sky: Sky) -> None:
    made = subscribe(sky, "bob", "--name", "line", "--monthly", "10", "--from", ago(65))
    assert made["charged"] == "30.000000"


def test_one_that_begins_in_the_future_waits(sky: Sky) -> None:
    made = subscribe(sky, "alice", "--name", "line", "--monthly", "10", "--from", ago(-5))
    assert (made["charged"], made["status"]) == ("0.000000", "waiting")
    ran = sky("subscription", "end", "alice", "line", *JSON)
    assert ran.status == 0, ran.err
    ended = ran.json
    assert (ended["given_back"], ended["balance"]) == ("0.000000", "50.000000")
    assert sky("subscription", "list", "--account", "alice", *JSON).json == []
    [listed] = sky("subscription", "list", "--account", "alice", "--all", *JSON).json
    assert listed["next_at"] is None


def test_a_prepaid_account_that_cannot_pay_gets_none(sky: Sky) -> None:
    ran = sky("subscription", "add", "alice", "--name", "line", "--monthly", "50.000001")
    assert (ran.status, ran.out) == (1, "")
    assert "50.000001 USD is more than alice may spend: 50.000000" in ran.err
    assert sky("subscription", "list", "--account", "alice", "--all", *JSON).json == []
    assert sky("event", "list", *JSON).json == []


def test_unused_days_are_given_back(sky: Sky) -> None:
    begin = (NOW - timedelta(days=3)).replace(microsecond=0)
    made = subscribe(sky, "bob", "--name", "rent", "--monthly", "10", "--from", begin.isoformat())
    ended = sky("subscription", "end", "bob", "rent", *JSON).json
    # The fourth day has begun.
    month = datetime.fromisoformat(made["next_at"]) - begin
    assert made["charged"] == "10.000000"
    assert parse_micros(ended["given_back"]) == 10_000_000 - div_half_up(4 * 10_000_000, month.days)
    again = sky("subscription", "end", "bob", "rent")
    assert again.status == 1
    assert "no running subscription 'rent'" in again.err
    # The name is free again.
    assert sky("subscription", "add", "bob", "--name", "rent", "--monthly", "10").status == 0


def test_without_prorating_nothing_is_given_back(sky: Sky) -> None:
    subscribe(sky, "bob", "--name", "rent", "--monthly", "10", "--no-prorate")
    ended = sky("subscription", "end", "bob", "rent", *JSON).json
    assert ended["given_back"] == "0.000000"


def test_an_end_can_be_set_ahead_and_brought_forward(sky: Sky, demo_url: str) -> None:
    subscribe(sky, "noel", "--name", "rent", "--monthly", "10", "--until", ago(-100))
    assert sky("subscription", "end", "noel", "rent", "--at", ago(-40)).status == 0
    ran = sky("subscription", "end", "noel", "rent", "--at", ago(-50))
    assert ran.status == 2
    assert "and not later" in ran.err
    ran = sky("subscription", "end", "noel", "rent", "--at", ago(1))
    assert ran.status == 2
    assert "it ends then or later" in ran.err
    with contextlib.closing(connect(demo_url)) as connection:
        charge_recurring(connection, NOW + timedelta(days=90))
    listed = sky("subscription", "list", "--account", "noel", "--all", *JSON).json
    assert [line["next_at"] for line in listed if line["name"] == "rent"] == [None]
    balance = parse_micros(sky("account", "show", "noel", *JSON).json["balance"])
    assert -20_000_000 < balance < -10_000_000


def test_the_demos_subscriptions_wait_for_their_time(sky: Sky, demo_url: str) -> None:
    listed = sky("subscription", "list", *JSON).json
    assert [(line["code"], line["name"], line["status"]) for line in listed] == [
        ("bob", "office line", "waiting"),
        ("paula", "uk-60", "waiting"),
    ]
    before = sky("account", "show", "bob", *JSON).json["balance"]
    assert before == "0.000000"
    # A month after the demo was loaded, and not two after the next one began.
    last = max(datetime.fromisoformat(line["next_at"]) for line in listed)
    with contextlib.closing(connect(demo_url)) as connection:
        charge_recurring(connection, last)
    assert sky("account", "show", "bob", *JSON).json["balance"] == "-9.900000"
    assert len(sky("package", "holdings", "paula", *JSON).json) == 2
    ran = sky("coupon", "redeem", "demo-covp-onio-2o26", "--account", "alice")
    assert ran.status == 0, ran.err


def test_a_package_renews_itself(sky: Sky) -> None:
    sky("package", "add", "hour", "--minutes", "60", "--price", "8")
    made = subscribe(sky, "alice", "--package", "hour")
    assert (made["name"], made["package"], made["charged"]) == ("hour", "hour", "8.000000")
    [held] = sky("package", "holdings", "alice", *JSON).json
    assert (held["granted"], held["valid_to"]) == (3600, made["next_at"])
    ended = sky("subscription", "end", "alice", "hour", *JSON).json
    assert ended["given_back"] == "0.000000"
    assert len(sky("package", "holdings", "alice", *JSON).json) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("alice", "--monthly", "1"), "needs a name"),
        (("alice", "--name", " ", "--monthly", "1"), "needs a name"),
        (("alice", "--name", "x" * 201, "--monthly", "1"), "needs a name"),
        (("alice", "--name", "x"), "costs something"),
        (("alice", "--name", "x", "--monthly", "-1"), "--monthly is not below 0"),
        (("alice", "--name", "x", "--setup", "1000000001"), "--setup is not below 0"),
        (("alice", "--name", "x", "--monthly", "1e2"), "digits and a point"),
        (("alice", "--name", "x", "--monthly", "1", "--from", "2020-01-01"), "days ago"),
        (("alice", "--name", "x", "--monthly", "1", "--until", "2020-01-01"), "before it begins"),
        (("acme", "--name", "x", "--monthly", "1"), "kind provider"),
        (("admin", "--name", "x", "--monthly", "1"), "kind admin"),
        (("nobody", "--name", "x", "--monthly", "1"), "there is no account"),
        (("alice", "--package", "gold"), "there is no package 'gold'"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else "",
)
def test_a_subscription_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], expected: str
) -> None:
    ran = unchanged("subscription", "add", *words)
    assert ran.status in (1, 2)
    assert expected in ran.err
    assert ran.out == ""


def test_packages_that_do_not_fit_say_why(sky: Sky) -> None:
    for name, *words in (
        ("once", "--period", "once"),
        ("euro", "--currency", "EUR", "--price", "1"),
        ("old",),
    ):
        sky("package", "add", name, "--minutes", "60", *words)
    sky("package", "retire", "old")
    sky("package", "add", "norths", "--minutes", "60", "--owner", "north")
    for name, expected in (
        ("once", "package grant"),
        ("euro", "costs EUR"),
        ("old", "retired"),
        ("norths", "buys from its own reseller"),
    ):
        ran = sky("subscription", "add", "alice", "--package", name)
        assert ran.status in (1, 2)
        assert expected in ran.err
    sky("package", "set", "once", "--period", "month")
    ran = sky("subscription", "add", "alice", "--package", "once", "--monthly", "1")
    assert "its own price" in ran.err


def test_names_and_closed_accounts(sky: Sky) -> None:
    subscribe(sky, "alice", "--name", "line", "--monthly", "1")
    ran = sky("subscription", "add", "alice", "--name", "line", "--monthly", "1")
    assert ran.status == 1
    assert "has a subscription 'line' since" in ran.err
    sky("account", "close", "bob")
    ran = sky("subscription", "add", "bob", "--name", "line", "--monthly", "1")
    assert "bob is closed" in ran.err
    assert "no running subscription 'x'" in sky("subscription", "end", "alice", "x").err


# ------------------------------------------------------------------ whose business


@pytest.mark.parametrize(
    ("eyes", "words"),
    [
        ("north", ("add", "north", "--name", "x", "--monthly", "1")),
        ("north", ("add", "cora", "--name", "x", "--monthly", "1")),
        ("north", ("add", "alice", "--name", "x", "--monthly", "1")),
        ("nora", ("add", "nora", "--name", "x", "--monthly", "1")),
        ("north", ("end", "cora", "x")),
        ("nora", ("end", "nora", "x")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_subscriptions_that_are_not_ones_business_are_refused_in_words(
    unchanged: Sky, eyes: str, words: tuple[str, ...]
) -> None:
    ran = unchanged("--as", eyes, "subscription", *words)
    assert ran.status == 1
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert "permission denied" not in ran.err


def test_a_reseller_charges_its_own_customers(sky: Sky, demo_url: str) -> None:
    sky("subscription", "add", "alice", "--name", "line", "--monthly", "1")
    made = subscribe(sky, "nora", "--name", "line", "--monthly", "1")
    sky("--as", "north", "subscription", "end", "nora", "line")
    ran = sky("--as", "north", "subscription", "add", "nora", "--name", "two", "--monthly", "2")
    assert ran.status == 0, ran.err
    listed = sky("--as", "north", "subscription", "list", "--all", *JSON).json
    assert [(line["code"], line["name"]) for line in listed] == [("nora", "line"), ("nora", "two")]
    assert made["currency"] == "USD"
    seen = sky("--as", "nora", "subscription", "list", *JSON).json
    assert [line["name"] for line in seen] == ["two"]
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        cursor.execute(
            """
            SELECT DISTINCT action, account.code
              FROM audit_log
              JOIN account ON account_id = acting_as_id
             WHERE subject = 'nora'
             ORDER BY 1
            """
        )
        assert cursor.fetchall() == [("subscription add", "north"), ("subscription end", "north")]
