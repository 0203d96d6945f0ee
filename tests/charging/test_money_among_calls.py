"""Money that is not calls, moved while calls hold some of it: nothing reserved is ever spent."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaa_server.storage import (
    accounts,
    adjustments,
    coupons,
    payments,
    refunds,
    subscriptions,
    transfers,
    viewer,
)
from aaa_server.storage.database import transaction
from aaa_server.storage.problem import Conflict, Problem
from aaa_server.storage.recurring import charge_recurring
from aaa_server.storage.secrets import Keyring
from tests.charging.proof import broken_laws
from tests.scenario import Scenario

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.viewer import Viewer

KEYRING = Keyring({1: bytes(32)})
CODES = ("acme", "beta", "euro", "north")
WORLD = """
    exchange  USD EUR 0.92
    rate      retail 44  0.60 60/60
    account   acme   5.00  retail
    account   beta   3.00  retail
    account   euro   2.00  retail currency=EUR
    account   north  1.00  retail postpaid limit=4.00
"""


@pytest.fixture
def scenario(connection: Connection) -> Scenario:
    scenario = Scenario(connection)
    # Money is posted at the database's time.
    scenario.now = datetime.now(UTC)
    scenario.check(WORLD)
    return scenario


def find(cursor: Cursor, code: str) -> accounts.Account:
    return accounts.find(cursor, viewer.operator(cursor), code)


def test_a_transfer_while_a_call_holds_everything_is_refused(scenario: Scenario) -> None:
    """Scenario 31: 4.50 of 5.00, all of which is reserved."""
    scenario.check("""
        rate      flat   49  1.00 60/60
        account   gamma  5.00  flat
        authorize s1 gamma 4930123456   -> granted 300s final
        balance   gamma                 -> 5.000000 reserved 5.000000
    """)

    def move() -> transfers.Transferred:
        with transaction(scenario.connection) as cursor:
            source, target = find(cursor, "gamma"), find(cursor, "beta")
            admin = viewer.operator(cursor)
            return transfers.transfer(cursor, admin, source, target, 4_500_000, reference="31")

    with pytest.raises(Conflict, match=r"4\.500000 USD is more than gamma may spend: 0\.000000"):
        move()
    scenario.check("""
        stop      s1 10s                -> cost 1.000000
        balance   gamma                 -> 4.000000 reserved 0.000000
    """)
    with pytest.raises(Conflict, match=r"may spend: 4\.000000$"):
        move()


# ------------------------------------------------------------------ whatever is done


def pay(cursor: Cursor, admin: Viewer, code: str, _other: str, micros: int, name: str) -> None:
    new = payments.NewPayment(micros, "bank", name)
    payments.pay(cursor, admin, find(cursor, code), new)


def refund(cursor: Cursor, admin: Viewer, _code: str, _other: str, micros: int, name: str) -> None:
    refunds.refund(cursor, admin, payments.find(cursor, admin, name), amount_micros=micros)


def give(cursor: Cursor, admin: Viewer, code: str, _other: str, micros: int, _name: str) -> None:
    adjustments.adjust(cursor, admin, find(cursor, code), micros, reason="x")


def take(cursor: Cursor, admin: Viewer, code: str, _other: str, micros: int, _name: str) -> None:
    adjustments.adjust(cursor, admin, find(cursor, code), -micros, reason="x")


def move(cursor: Cursor, admin: Viewer, code: str, other: str, micros: int, name: str) -> None:
    source, target = find(cursor, code), find(cursor, other)
    transfers.transfer(cursor, admin, source, target, micros, reference=name)


def redeem(cursor: Cursor, admin: Viewer, code: str, _other: str, micros: int, _name: str) -> None:
    owner = find(cursor, "admin")
    new = coupons.NewCoupons(micros, "USD")
    [made] = coupons.create(cursor, admin, KEYRING, owner, new, 1)
    coupons.redeem(cursor, admin, KEYRING, find(cursor, code), made.code)


def subscribe(
    cursor: Cursor, admin: Viewer, code: str, _other: str, micros: int, name: str
) -> None:
    begins = datetime.now(UTC) - timedelta(days=40)
    new = subscriptions.NewSubscription(name, price_micros=micros, begins_at=begins)
    subscriptions.add(cursor, admin, find(cursor, code), new)


def end(cursor: Cursor, admin: Viewer, code: str, _other: str, _micros: int, name: str) -> None:
    subscriptions.end(cursor, admin, find(cursor, code), name)


DEEDS = (pay, refund, give, take, move, redeem, subscribe, end)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "stop", "fees", *DEEDS]),
        st.sampled_from(CODES),
        st.sampled_from(CODES),
        st.sampled_from([1, 400_000, 999_999, 1_000_000, 2_500_000, 5_000_000]),
        st.sampled_from(["one", "two", "three"]),
    ),
    max_size=25,
)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=STEPS)
def test_whatever_is_done_in_whatever_order_the_books_add_up(
    scenario: Scenario, steps: list[tuple[Any, ...]]
) -> None:
    keys = itertools.count(1)
    run = f"{datetime.now(UTC).timestamp()}"
    open_calls: list[tuple[str, str]] = []
    for place, (deed, code, other, micros, name) in enumerate(steps):
        if deed == "call":
            key = f"{run}-{next(keys)}"
            scenario.check(f"authorize {key} {code} 442071838750")
            open_calls.append((key, code))
        elif deed == "stop":
            if open_calls:
                key, _ = open_calls.pop()
                scenario.check(f"stop {key} 45s")
        elif deed == "fees":
            now = datetime.now(UTC) + timedelta(days=31 * place)
            charge_recurring(scenario.connection, now)
        else:
            try:
                with transaction(scenario.connection) as cursor:
                    admin = viewer.operator(cursor)
                    deed(cursor, admin, code, other, micros, f"{name} {run}")
            except Problem:
                # Refused in words; what it would have done is undone.
                pass
        broken = scenario.query(
            "SELECT code, balance_micros, reserved_micros FROM account"
            " WHERE prepaid AND kind = 'customer' AND balance_micros < reserved_micros"
        )
        assert broken == [], f"after {deed}"
    for key, _ in open_calls:
        scenario.check(f"stop {key} 0s")
    with transaction(scenario.connection) as cursor:
        assert broken_laws(cursor) == {}
