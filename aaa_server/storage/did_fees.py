"""Setup and months of DIDs: of the owner, of each reseller above it, and of the provider.

Each buyer pays its own price to its seller, from when the number is its own or that of an
account below it, without a break, until it is not; moving it between those accounts changes
nothing. The operator pays the provider while the number is in the inventory, whoever has
it. Months are whole, by the anniversary, in advance.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import format_micros
from aaa_server.rating.period import Plan, period
from aaa_server.storage import accounts, movements, wall_clock
from aaa_server.storage.movements import Posting, Standing

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

PERIODS_MAX = 1000  # of one number in one transaction; the next run goes on


class Key(NamedTuple):
    """One party's time with one number."""

    did_id: int
    account_id: int
    since: datetime


class Row(NamedTuple):
    """How far that has been charged, and what it costs as of now."""

    number: str
    setup_micros: int
    monthly_micros: int
    since: datetime
    until: datetime | None
    time_zone: str
    setup_charged: bool
    next_number: int
    next_at: datetime
    unpaid_since: datetime | None


class Charged(NamedTuple):
    """What one run did: `fees` were posted; `unpaid` because a prepaid account had not enough."""

    fees: int
    unpaid: bool


def refresh(cursor: Cursor, now: datetime) -> None:
    """Have a row for each time that somebody has a number, as assignments and inventory say."""
    cursor.execute(
        """
        WITH held AS (
            SELECT did_assignment.did_id,
                   buyer.account_id,
                   buyer.time_zone,
                   unnest(range_agg(tstzrange(valid_from, valid_to))) AS span
              FROM did_assignment
              JOIN account AS owner USING (account_id)
              JOIN account AS buyer ON buyer.account_id = ANY (owner.chain)
             WHERE NOT isempty(tstzrange(valid_from, valid_to))
             GROUP BY did_assignment.did_id, buyer.account_id, buyer.time_zone
             UNION ALL
            SELECT did.did_id,
                   provider.account_id,
                   provider.time_zone,
                   tstzrange(did.acquired_at, did.retired_at)
              FROM did
              JOIN account AS provider ON provider.account_id = did.provider_id
        ), gone AS (
            -- Called off as it began, or another provider's meanwhile.
            UPDATE did_fee
               SET until = greatest(did_fee.since, least(%(now)s, did.acquired_at))
              FROM did
             WHERE did.did_id = did_fee.did_id
               AND did_fee.until IS NULL
               AND NOT EXISTS (SELECT
                                 FROM held
                                WHERE held.did_id = did_fee.did_id
                                  AND held.account_id = did_fee.account_id
                                  AND lower(held.span) = did_fee.since)
        )
        INSERT INTO did_fee (did_id, account_id, since, until, time_zone, next_at)
        SELECT did_id, account_id, lower(span), upper(span), time_zone, lower(span)
          FROM held
         WHERE lower(span) <= %(now)s
            ON CONFLICT (did_id, account_id, since) DO UPDATE
           SET until = excluded.until
         WHERE did_fee.until IS DISTINCT FROM excluded.until
        """,
        {"now": now},
    )


def due(cursor: Cursor, now: datetime, after: Key | None, limit: int) -> list[Key]:
    """The next `limit` rows, in order of their keys, that have a month to be charged."""
    cursor.execute(
        """
        SELECT did_id,
               account_id,
               since
          FROM did_fee
         WHERE next_at <= %(now)s
           AND (until IS NULL OR next_at < until)
           AND (%(did_id)s::bigint IS NULL
                OR (did_id, account_id, since) > (%(did_id)s, %(account_id)s, %(since)s))
         ORDER BY did_id, account_id, since
         LIMIT %(limit)s
        """,
        {
            **(after or Key(0, 0, now))._asdict(),
            "did_id": after.did_id if after else None,
            "now": now,
            "limit": limit,
        },
    )
    return [Key(*row) for row in cursor.fetchall()]


def charge(cursor: Cursor, key: Key, now: datetime) -> Charged:
    """Charge every month that has begun by `now`; the caller's transaction, its account's lock.

    A prepaid buyer that has not the money owes the month: it is charged as soon as it has,
    an event says so once, and the number stays. A closed account is charged nothing.
    """
    accounts.lock(cursor, [key.account_id])
    row = _load(cursor, key)
    fees = 0
    for _ in range(PERIODS_MAX):
        if row.next_at > now or (row.until is not None and row.next_at >= row.until):
            break
        account = movements.standing(cursor, key.account_id)
        if account.status != "closed":
            setup = 0 if row.setup_charged else row.setup_micros
            if account.prepaid and setup + row.monthly_micros > account.available_micros:
                _save(cursor, key, _unpaid(cursor, row, account, now))
                return Charged(fees, True)
            fees += _post(cursor, key, row, account)
        row = _advanced(row)
    _save(cursor, key, row)
    return Charged(fees, False)


def _load(cursor: Cursor, key: Key) -> Row:
    """The row, locked; a provider's prices are the number's, a buyer's those of its own."""
    cursor.execute(
        """
        SELECT did.number,
               CASE account.kind WHEN 'provider' THEN did.setup_micros
                    ELSE coalesce(did_price.setup_micros, 0) END,
               CASE account.kind WHEN 'provider' THEN did.monthly_micros
                    ELSE coalesce(did_price.monthly_micros, 0) END,
               did_fee.since,
               did_fee.until,
               did_fee.time_zone,
               did_fee.setup_charged,
               did_fee.next_number,
               did_fee.next_at,
               did_fee.unpaid_since
          FROM did_fee
          JOIN did USING (did_id)
          JOIN account ON account.account_id = did_fee.account_id
          LEFT JOIN did_price
                 ON did_price.did_id = did_fee.did_id
                AND did_price.account_id = did_fee.account_id
         WHERE did_fee.did_id = %s
           AND did_fee.account_id = %s
           AND did_fee.since = %s
           FOR UPDATE OF did_fee
        """,
        key,
    )
    row = cursor.fetchone()
    assert row is not None
    return Row(*row)


def _post(cursor: Cursor, key: Key, row: Row, account: Standing) -> int:
    """How many transactions; what costs nothing has none."""
    sign, book = (1, "purchases") if account.kind == "provider" else (-1, "fees")
    wall = wall_clock.local(row.next_at, row.time_zone)
    name = f"did/{row.number}/{key.account_id}/{wall.date()}"
    setup = 0 if row.setup_charged else row.setup_micros
    month = period(_plan(row), row.next_number)
    posted = 0
    for reference, micros, note in (
        (f"{name}/setup", setup, f"DID {row.number}, setup"),
        (name, row.monthly_micros, f"DID {row.number}, {wall.date()} to {month.end.date()}"),
    ):
        if not micros:
            continue
        posting = Posting(
            account.account_id, sign * micros, account.currency, account.seller_id, book
        )
        transaction_id = movements.post(
            cursor,
            kind="fee",
            reference=reference,
            at=row.next_at,
            note=note,
            author_id=None,
            postings=[posting],
        )
        posted += transaction_id is not None
    return posted


def _plan(row: Row) -> Plan:
    return wall_clock.plan(row.since, row.time_zone, "month", calendar=False)


def _advanced(row: Row) -> Row:
    number = row.next_number + 1
    return row._replace(
        setup_charged=True,
        next_number=number,
        next_at=wall_clock.instant(period(_plan(row), number).begin, row.time_zone),
        unpaid_since=None,
    )


def _unpaid(cursor: Cursor, row: Row, account: Standing, now: datetime) -> Row:
    if row.unpaid_since is not None:
        return row
    detail = {
        "did": row.number,
        "due": format_micros(row.monthly_micros + (0 if row.setup_charged else row.setup_micros)),
        "available": format_micros(account.available_micros),
        "currency": account.currency,
    }
    movements.note_event(cursor, "did-unpaid", account.account_id, now, detail)
    return row._replace(unpaid_since=now)


def _save(cursor: Cursor, key: Key, row: Row) -> None:
    cursor.execute(
        """
        UPDATE did_fee
           SET setup_charged = %(setup_charged)s,
               next_number = %(next_number)s,
               next_at = %(next_at)s,
               unpaid_since = %(unpaid_since)s
         WHERE did_id = %(did_id)s
           AND account_id = %(account_id)s
           AND since = %(since)s
        """,
        {**row._asdict(), **key._asdict()},
    )
