"""Subscriptions: what an account pays again each period, a fee or a package's price.

`storage.subscription_fees` charges them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.period import clipped, period, share
from aaa_server.storage import accounts, movements, subscription_fees, wall_clock
from aaa_server.storage.movements import AMOUNT_MICROS_MAX, Posting, show
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.packages import Package

LIST_MAX = 100_000
NAME_CHARACTERS_MAX = 200
# What begins longer ago is a slip of the keyboard: all of it would be charged at once.
BACKDATED_MAX = timedelta(days=366)


class NewSubscription(NamedTuple):
    """What a subscription is made of; `begins_at` None: now, `ends_at` None: without end.

    With a `package` the price and the period are the package's, and `price_micros` is 0.
    """

    name: str
    setup_micros: int = 0
    price_micros: int = 0
    calendar: bool = False
    prorate: bool = True
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    package: Package | None = None


class Listed(NamedTuple):
    """One subscription as people see it; `package` '' for a plain fee."""

    subscription_id: int
    account_code: str
    account_chain: tuple[int, ...]
    name: str
    package: str
    setup_micros: int
    price_micros: int
    currency: str
    unit: str
    calendar: bool
    prorate: bool
    begins_at: datetime
    ends_at: datetime | None
    next_at: datetime | None
    period_to: datetime | None
    suspended_at: datetime | None

    def status(self, now: datetime) -> str:
        """One of waiting, running, suspended, ended."""
        if self.next_at is None:
            return "ended" if self.period_to is None or self.period_to <= now else "running"
        if self.suspended_at is not None:
            return "suspended"
        return "waiting" if self.begins_at > now else "running"


class Ended(NamedTuple):
    """When it ends; `credit_micros` was given back for days that had been charged."""

    ends_at: datetime
    credit_micros: int
    balance_micros: int


# ------------------------------------------------------------------ beginning


def add(cursor: Cursor, viewer: Viewer, account: Account, new: NewSubscription) -> int:
    """The new subscription's number. What is due by now is charged in the same transaction.

    Raises `Conflict` for a name that is running, and when a prepaid account cannot pay what
    is due; `BadValue`.
    """
    require(viewer, Deed.SELL_TO, account.chain, account.code)
    _check(account, new)
    accounts.lock(cursor, [account.account_id])
    with as_owner(cursor, viewer):
        now = _now(cursor)
        begins_at = new.begins_at or now
        _check_times(new, begins_at, now)
        if movements.standing(cursor, account.account_id).status == "closed":
            raise Conflict(f"{account.code} is closed: nothing is sold to it any more")
        _refuse_twice(cursor, account, new.name)
        number = _insert(cursor, account, new, begins_at)
        charged = subscription_fees.charge(cursor, number, account.account_id, now)
        if charged.unpaid_micros:
            standing = movements.standing(cursor, account.account_id)
            movements.require_free(standing, charged.unpaid_micros, "what is due at once")
        return number


def _check(account: Account, new: NewSubscription) -> None:
    if account.kind not in ("customer", "reseller"):
        raise BadValue(f"{account.code} is of kind {account.kind}: subscriptions are for buyers")
    if not new.name.strip() or len(new.name) > NAME_CHARACTERS_MAX:
        raise BadValue(f"a subscription needs a name of at most {NAME_CHARACTERS_MAX} characters")
    for name, micros in (("setup", new.setup_micros), ("monthly", new.price_micros)):
        if not 0 <= micros <= AMOUNT_MICROS_MAX:
            raise BadValue(f"--{name} is not below 0 and at most {AMOUNT_MICROS_MAX // 10**6}")
    if new.package is None:
        if not new.setup_micros and not new.price_micros:
            raise BadValue("a subscription costs something: say --monthly, --setup or --package")
        return
    package = new.package
    if new.price_micros:
        raise BadValue("a package has its own price: leave --monthly away")
    if package.period == "once":
        raise BadValue(
            f"package {package.name} is sold once: `sky-aaa package grant` gives it to an account"
        )
    if not package.active:
        raise Conflict(f"package {package.name} is retired: `sky-aaa package list` shows others")
    if package.owner_id != account.parent_id:
        raise Conflict(f"package {package.name} is not of the seller of {account.code}")
    if package.currency != account.currency and package.price_micros:
        raise BadValue(
            f"package {package.name} costs {package.currency} and {account.code} pays in "
            f"{account.currency}"
        )


def _check_times(new: NewSubscription, begins_at: datetime, now: datetime) -> None:
    if begins_at < now - BACKDATED_MAX:
        raise BadValue(
            f"--from {show(begins_at)} is more than {BACKDATED_MAX.days} days ago: all of that "
            "time would be charged at once"
        )
    if new.ends_at is not None and new.ends_at <= begins_at:
        raise BadValue(
            f"it would end at {show(new.ends_at)}, before it begins at {show(begins_at)}"
        )


def _refuse_twice(cursor: Cursor, account: Account, name: str) -> None:
    cursor.execute(
        """
        SELECT begins_at
          FROM subscription
         WHERE account_id = %s
           AND name = %s
           AND next_at IS NOT NULL
        """,
        (account.account_id, name),
    )
    row = cursor.fetchone()
    if row is not None:
        raise Conflict(
            f"{account.code} has a subscription {name!r} since {show(row[0])}: end it first, or "
            "take another name"
        )


def _insert(cursor: Cursor, account: Account, new: NewSubscription, begins_at: datetime) -> int:
    cursor.execute(
        """
        INSERT INTO subscription (
                   account_id, name, package_id, setup_micros, price_micros, unit, calendar,
                   prorate, time_zone, begins_at, ends_at, anchor_at, next_at)
        VALUES (%(account_id)s, %(name)s, %(package_id)s, %(setup_micros)s, %(price_micros)s,
                %(unit)s, %(calendar)s, %(prorate)s, %(time_zone)s, %(begins_at)s, %(ends_at)s,
                %(begins_at)s, %(begins_at)s)
     RETURNING subscription_id
        """,
        {
            **new._replace(package=None)._asdict(),
            "account_id": account.account_id,
            "package_id": new.package.package_id if new.package else None,
            "unit": new.package.period if new.package else "month",
            "time_zone": account.time_zone,
            "begins_at": begins_at,
        },
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _now(cursor: Cursor) -> datetime:
    cursor.execute("SELECT now()")
    row = cursor.fetchone()
    assert row is not None
    now = row[0]
    assert isinstance(now, datetime)
    return now


# ------------------------------------------------------------------ looking


def list_subscriptions(
    cursor: Cursor,
    viewer: Viewer,
    *,
    account_id: int | None = None,
    ended: bool = False,
    limit: int = LIST_MAX,
) -> list[Listed]:
    """By account and beginning; without `ended` only those that are charged or paid for still."""
    cursor.execute(
        """
        SELECT subscription.subscription_id,
               account.code,
               account.chain,
               subscription.name,
               coalesce(package.name, ''),
               subscription.setup_micros,
               coalesce(package.price_micros, subscription.price_micros),
               account.currency,
               subscription.unit,
               subscription.calendar,
               subscription.prorate,
               subscription.begins_at,
               subscription.ends_at,
               subscription.next_at,
               subscription.period_to,
               subscription.suspended_at
          FROM subscription
          JOIN account USING (account_id)
          LEFT JOIN package USING (package_id)
         WHERE (%(account_id)s::bigint IS NULL OR subscription.account_id = %(account_id)s)
           AND (%(ended)s
                OR subscription.next_at IS NOT NULL
                OR subscription.period_to > now())
         ORDER BY account.code, subscription.begins_at, subscription.subscription_id
         LIMIT %(limit)s
        """,
        {"account_id": account_id, "ended": ended, "limit": limit},
    )
    found = [Listed(*row)._replace(account_chain=tuple(row[2])) for row in cursor.fetchall()]
    return [one for one in found if may(viewer, Deed.SEE, one.account_chain)]


# ------------------------------------------------------------------ ending


def end(
    cursor: Cursor, viewer: Viewer, account: Account, name: str, *, at: datetime | None = None
) -> Ended:
    """Charge the running subscription `name` no more from `at` (None: now) on.

    Days that are charged already and lie behind `at` are given back when it is prorated, and
    no package's. Raises `NotFound`, and `BadValue` for an instant before the period that was
    charged last, or after an end that it has.
    """
    require(viewer, Deed.SELL_TO, account.chain, account.code)
    accounts.lock(cursor, [account.account_id])
    with as_owner(cursor, viewer):
        now = _now(cursor)
        at = at or now
        number = _running(cursor, account, name, at)
        # What is due is charged first, so that days can be given back of it.
        subscription_fees.charge(cursor, number, account.account_id, now)
        one = subscription_fees.load(cursor, number)
        at = _checked_end(one, at)
        credit = _credit(one, at)
        if credit:
            _give_back(cursor, viewer, account, one, credit, at)
        goes_on = one.next_at is not None and one.next_at < at and at > now
        cursor.execute(
            """
            UPDATE subscription
               SET ends_at = %(at)s,
                   next_at = CASE WHEN %(goes_on)s THEN next_at END,
                   period_to = CASE WHEN period_to IS NOT NULL THEN least(period_to, %(at)s) END,
                   period_micros = period_micros - %(credit)s
             WHERE subscription_id = %(number)s
            """,
            {"at": at, "goes_on": goes_on, "credit": credit, "number": number},
        )
        balance = movements.standing(cursor, account.account_id).balance_micros
        return Ended(at, credit, balance)


def _checked_end(one: subscription_fees.Subscription, at: datetime) -> datetime:
    """When it ends; one that has not begun ends as it begins."""
    if one.ends_at is not None and at > one.ends_at:
        raise BadValue(f"{one.name!r} ends at {show(one.ends_at)} already, and not later")
    if one.period_from is None:
        return max(at, one.begins_at)
    if at < one.period_from:
        raise BadValue(
            f"{one.name!r} is charged from {show(one.period_from)} on: it ends then or later, "
            "and `sky-aaa adjustment add` gives money back"
        )
    return at


def _running(cursor: Cursor, account: Account, name: str, at: datetime) -> int:
    """The number of the one that is not over at `at`."""
    cursor.execute(
        """
        SELECT subscription_id
          FROM subscription
         WHERE account_id = %s
           AND name = %s
           AND (next_at IS NOT NULL OR period_to > %s)
         ORDER BY subscription_id DESC
         LIMIT 1
        """,
        (account.account_id, name, at),
    )
    row = cursor.fetchone()
    if row is None:
        raise NotFound(
            f"{account.code} has no running subscription {name!r}: "
            f"`sky-aaa subscription list --account {account.code}` shows what it has"
        )
    return int(row[0])


def _credit(one: subscription_fees.Subscription, at: datetime) -> int:
    """What was charged for the days after `at`."""
    if not one.prorate or one.package_id is not None or one.period_to is None:
        return 0
    assert one.period_from is not None
    assert one.period_micros is not None
    if at >= one.period_to:
        return 0
    whole = period(one.plan, one.next_number - 1)
    used = clipped(
        whole, wall_clock.local(one.period_from, one.time_zone), wall_clock.local(at, one.time_zone)
    )
    return max(0, one.period_micros - share(one.price_micros, used, whole))


def _give_back(
    cursor: Cursor,
    viewer: Viewer,
    account: Account,
    one: subscription_fees.Subscription,
    credit: int,
    at: datetime,
) -> None:
    assert account.parent_id is not None
    transaction_id = movements.post(
        cursor,
        kind="fee",
        reference=f"subscription/{one.subscription_id}/end",
        at=None,
        note=f"{one.name}, ends {wall_clock.local(at, one.time_zone).date()}: days not used",
        author_id=viewer.account_id,
        postings=[Posting(account.account_id, credit, account.currency, account.parent_id, "fees")],
    )
    if transaction_id is None:
        raise Conflict(f"{one.name!r} was ended before, and its days were given back")
