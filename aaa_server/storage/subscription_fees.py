"""What is due of one subscription, charged once: the fee of a period, or a package for it.

The row says which period is next; the ledger's reference, the day that the period begins,
refuses the same one a second time whatever the row says.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import format_micros
from aaa_server.rating.period import Period, Plan, clipped, period, period_at, share
from aaa_server.storage import accounts, movements, wall_clock
from aaa_server.storage.movements import Posting, Standing

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

PERIODS_MAX = 1000  # of one subscription in one transaction; the next run goes on


class Subscription(NamedTuple):
    """One row of the table."""

    subscription_id: int
    account_id: int
    name: str
    package_id: int | None
    setup_micros: int
    price_micros: int
    unit: str
    calendar: bool
    prorate: bool
    time_zone: str
    begins_at: datetime
    ends_at: datetime | None
    anchor_at: datetime
    setup_charged: bool
    next_number: int
    next_at: datetime | None
    period_from: datetime | None
    period_to: datetime | None
    period_micros: int | None
    suspended_at: datetime | None

    @property
    def plan(self) -> Plan:
        """How its time is cut."""
        return wall_clock.plan(self.anchor_at, self.time_zone, self.unit, calendar=self.calendar)

    def wall(self, at: datetime) -> datetime:
        """What the clock in its zone shows then."""
        return wall_clock.local(at, self.time_zone)

    def instant(self, wall: datetime) -> datetime:
        """When the clock in its zone shows this."""
        return wall_clock.instant(wall, self.time_zone)


class Charged(NamedTuple):
    """What one run did: `fees` were posted; `unpaid_micros` a prepaid account did not have."""

    fees: int = 0
    unpaid_micros: int = 0


class Offer(NamedTuple):
    """What a period costs and gives; `seconds` None: it is no package's."""

    price_micros: int
    seconds: int | None
    prefixes: list[str]
    priority: int


def charge(cursor: Cursor, subscription_id: int, account_id: int, now: datetime) -> Charged:
    """Charge every period that has begun by `now`; the caller's transaction, its account's lock.

    A postpaid account is always charged. A prepaid one that has not the money is charged
    nothing: the subscription is suspended, with an event, until it has. It then begins anew,
    for time that was not paid was not served.
    """
    accounts.lock(cursor, [account_id])
    one = load(cursor, subscription_id)
    fees = 0
    for _ in range(PERIODS_MAX):
        if one.next_at is None or one.next_at > now:
            break
        account = movements.standing(cursor, account_id)
        if account.status == "closed":
            one = _over(one)
            break
        one, part = _next_part(one, now)
        if part is None:
            continue
        offer = _offer(cursor, one)
        if offer is None:
            _note(cursor, "package-not-renewed", one, now, {"reason": "it is not sold any more"})
            one = _over(one)
            break
        if offer.seconds is not None and _holds(cursor, one, part):
            _note(cursor, "package-not-renewed", one, now, {"reason": "it has the package"})
            one = _advanced(one)
            continue
        cost = _cost(one, offer.price_micros, part)
        setup = 0 if one.setup_charged else one.setup_micros
        if account.prepaid and cost + setup > account.available_micros:
            _save(cursor, _suspended(cursor, one, account, cost + setup, now))
            return Charged(fees, cost + setup)
        fees += _post(cursor, one, account, offer, part, cost, now)
        one = _paid(cursor, one, part, cost, now)
    _save(cursor, one)
    return Charged(fees)


def load(cursor: Cursor, subscription_id: int) -> Subscription:
    """The row, locked; its account is locked already."""
    cursor.execute(
        """
        SELECT subscription_id,
               account_id,
               name,
               package_id,
               setup_micros,
               price_micros,
               unit,
               calendar,
               prorate,
               time_zone,
               begins_at,
               ends_at,
               anchor_at,
               setup_charged,
               next_number,
               next_at,
               period_from,
               period_to,
               period_micros,
               suspended_at
          FROM subscription
         WHERE subscription_id = %s
           FOR UPDATE
        """,
        (subscription_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    return Subscription(*row)


# ------------------------------------------------------------------ which period, and what of it


def _next_part(one: Subscription, now: datetime) -> tuple[Subscription, Period | None]:
    """What is charged next, by the wall; None, with the row moved on, when it is nothing."""
    begins = one.wall(one.begins_at)
    if one.suspended_at is not None:
        # Nothing is owed for the time without service. By anniversary a new one begins now.
        if one.ends_at is not None and one.ends_at <= now:
            return _over(one), None
        begins = max(begins, one.wall(now))
        if one.calendar:
            one = one._replace(next_number=period_at(one.plan, begins).number)
        else:
            one = one._replace(anchor_at=now, next_number=0)
    whole = period(one.plan, one.next_number)
    # Seconds of a time that is over are of no use to anybody.
    if one.package_id is not None and one.instant(whole.end) <= now:
        return _advanced(one), None
    part = clipped(whole, begins, one.wall(one.ends_at) if one.ends_at else None)
    if part.begin == part.end:
        return _advanced(one), None
    return one, part


def _cost(one: Subscription, price_micros: int, part: Period) -> int:
    if not one.prorate:
        return price_micros
    return share(price_micros, part, period(one.plan, part.number))


def _advanced(one: Subscription) -> Subscription:
    """The next period is the following one, where that begins before the end."""
    number = one.next_number + 1
    next_at = one.instant(period(one.plan, number).begin)
    over = one.ends_at is not None and next_at >= one.ends_at
    return one._replace(next_number=number, next_at=None if over else next_at)


def _over(one: Subscription) -> Subscription:
    ends_at = one.ends_at
    if ends_at is None or (one.next_at is not None and one.next_at < ends_at):
        ends_at = one.next_at
    return one._replace(ends_at=ends_at, next_at=None)


# ------------------------------------------------------------------ packages


def _offer(cursor: Cursor, one: Subscription) -> Offer | None:
    """What the period costs as of now; None for a package that is not sold any more."""
    if one.package_id is None:
        return Offer(one.price_micros, None, [], 0)
    cursor.execute(
        """
        SELECT price_micros,
               seconds,
               prefixes,
               priority
          FROM package
         WHERE package_id = %s
           AND active
           AND period = %s
        """,
        (one.package_id, one.unit),
    )
    row = cursor.fetchone()
    return None if row is None else Offer(*row)


def _holds(cursor: Cursor, one: Subscription, part: Period) -> bool:
    cursor.execute(
        """
        SELECT EXISTS (SELECT
                         FROM package_holding
                        WHERE account_id = %s
                          AND package_id = %s
                          AND tstzrange(valid_from, valid_to) && tstzrange(%s, %s))
        """,
        (one.account_id, one.package_id, one.instant(part.begin), one.instant(part.end)),
    )
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def _hold(cursor: Cursor, one: Subscription, offer: Offer, part: Period) -> None:
    assert offer.seconds is not None
    seconds = offer.seconds
    if one.prorate:
        seconds = max(1, share(seconds, part, period(one.plan, part.number)))
    cursor.execute(
        """
        INSERT INTO package_holding (
                   account_id, package_id, prefixes, priority, valid_from, valid_to,
                   granted_seconds)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (
            one.account_id,
            one.package_id,
            offer.prefixes,
            offer.priority,
            one.instant(part.begin),
            one.instant(part.end),
            seconds,
        ),
    )


# ------------------------------------------------------------------ writing


def _post(
    cursor: Cursor,
    one: Subscription,
    account: Standing,
    offer: Offer,
    part: Period,
    cost: int,
    now: datetime,
) -> int:
    """How many transactions; what costs nothing has none."""
    at = min(now, one.instant(part.begin))
    day = period(one.plan, part.number).begin.date()
    name = f"subscription/{one.subscription_id}"
    first = one.setup_micros if not one.setup_charged else 0
    posted = 0
    for reference, micros, note in (
        (f"{name}/setup", first, f"{one.name}, setup"),
        (f"{name}/{day}", cost, f"{one.name}, {_days_text(part)}"),
    ):
        if not micros:
            continue
        posting = Posting(account.account_id, -micros, account.currency, account.seller_id, "fees")
        transaction_id = movements.post(
            cursor,
            kind="fee",
            reference=reference,
            at=at,
            note=note,
            author_id=None,
            postings=[posting],
        )
        posted += transaction_id is not None
    if offer.seconds is not None:
        _hold(cursor, one, offer, part)
    return posted


def _days_text(part: Period) -> str:
    return f"{part.begin.date()} to {part.end.date()}"


def _paid(
    cursor: Cursor, one: Subscription, part: Period, cost: int, now: datetime
) -> Subscription:
    if one.suspended_at is not None:
        _note(cursor, "subscription-resumed", one, now, {})
    return _advanced(
        one._replace(
            setup_charged=True,
            period_from=one.instant(part.begin),
            period_to=one.instant(part.end),
            period_micros=cost,
            suspended_at=None,
        )
    )


def _suspended(
    cursor: Cursor, one: Subscription, account: Standing, cost: int, now: datetime
) -> Subscription:
    """Tried again with every run; said once."""
    if one.suspended_at is not None:
        return one
    detail = {
        "due": format_micros(cost),
        "available": format_micros(account.available_micros),
        "currency": account.currency,
    }
    _note(cursor, "subscription-suspended", one, now, detail)
    return one._replace(suspended_at=now)


def _note(
    cursor: Cursor, kind: str, one: Subscription, now: datetime, detail: dict[str, str]
) -> None:
    movements.note_event(cursor, kind, one.account_id, now, {"subscription": one.name, **detail})


def _save(cursor: Cursor, one: Subscription) -> None:
    cursor.execute(
        """
        UPDATE subscription
           SET ends_at = %(ends_at)s,
               anchor_at = %(anchor_at)s,
               setup_charged = %(setup_charged)s,
               next_number = %(next_number)s,
               next_at = %(next_at)s,
               period_from = %(period_from)s,
               period_to = %(period_to)s,
               period_micros = %(period_micros)s,
               suspended_at = %(suspended_at)s
         WHERE subscription_id = %(subscription_id)s
        """,
        one._asdict(),
    )
