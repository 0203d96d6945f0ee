"""Limits against fraud: calls, talk time or money an hour, day, week or month.

Those above an account set its limits; it sees them, and what has been used of them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import psycopg2.errors

from aaa_server.charging.meter import period_begin
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

PERIODS = ("hour", "day", "week", "month")
NAME_CHARACTERS_MAX = 64
PREFIXES_MAX = 200  # of one limit
LIMITS_MAX = 50  # of one account: each of its calls looks at all
MAXIMUM_MAX = 10**15
LONGEST_PERIOD = timedelta(days=32)
_PREFIX = re.compile(r"[0-9*#]{1,32}")


class Limit(NamedTuple):
    """At most `maximum` calls, seconds or micros of the account's currency in each period.

    `used` is of the period that began at `period_from` and has the present in it, calls in
    progress with what they may come to.
    """

    limit_id: int
    account_id: int
    account_code: str
    account_chain: tuple[int, ...]
    currency: str
    name: str
    prefixes: tuple[str, ...]
    period: str
    measure: str
    maximum: int
    action: str  # block, alert
    active: bool
    time_zone: str
    period_from: datetime | None = None
    used: int = 0


class NewLimit(NamedTuple):
    """What a limit is made of."""

    name: str
    prefixes: tuple[str, ...]
    period: str
    measure: str
    maximum: int
    action: str = "block"


def list_limits(
    cursor: Cursor, viewer: Viewer, account_id: int | None = None, *, now: datetime | None = None
) -> list[Limit]:
    """Of one account, or of all that `viewer` may see; in order of codes and names."""
    now = now or datetime.now(UTC)
    cursor.execute(
        """
        SELECT velocity_limit.limit_id,
               velocity_limit.account_id,
               account.code,
               account.chain,
               account.currency,
               velocity_limit.name,
               velocity_limit.prefixes,
               velocity_limit.period,
               velocity_limit.measure,
               velocity_limit.maximum,
               velocity_limit.action,
               velocity_limit.active,
               account.time_zone
          FROM velocity_limit
          JOIN account USING (account_id)
         WHERE %(account_id)s::bigint IS NULL OR account_id = %(account_id)s
         ORDER BY account.code, velocity_limit.name
        """,
        {"account_id": account_id},
    )
    found = [
        Limit(*row)._replace(account_chain=tuple(row[3]), prefixes=tuple(row[6]))
        for row in cursor.fetchall()
    ]
    found = [limit for limit in found if may(viewer, Deed.SEE, limit.account_chain)]
    used = _used(cursor, found, now)
    begun = [
        datetime.fromtimestamp(period_begin(limit.period, now, ZoneInfo(limit.time_zone)), UTC)
        for limit in found
    ]
    return [
        limit._replace(period_from=begin, used=used.get((limit.limit_id, begin), 0))
        for limit, begin in zip(found, begun, strict=True)
    ]


def _used(cursor: Cursor, limits: list[Limit], now: datetime) -> dict[tuple[int, datetime], int]:
    cursor.execute(
        """
        SELECT limit_id,
               period_from,
               amount
          FROM velocity_use
         WHERE limit_id = ANY (%s)
           AND period_from > %s
        """,
        ([limit.limit_id for limit in limits], now - LONGEST_PERIOD),
    )
    return {(row[0], row[1].astimezone(UTC)): row[2] for row in cursor.fetchall()}


def find(cursor: Cursor, viewer: Viewer, account: Account, name: str) -> Limit:
    """The account's limit; raises `NotFound`."""
    for limit in list_limits(cursor, viewer, account.account_id):
        if limit.name == name:
            return limit
    raise NotFound(
        f"{account.code} has no limit {name!r}: `sky-aaa limit list {account.code}` shows them"
    )


def _check(name: str, prefixes: tuple[str, ...], maximum: int) -> None:
    if not name.strip() or len(name) > NAME_CHARACTERS_MAX:
        raise BadValue(f"a limit's name has 1 to {NAME_CHARACTERS_MAX} characters")
    if len(prefixes) > PREFIXES_MAX:
        raise BadValue(f"{len(prefixes)} prefixes: a limit has {PREFIXES_MAX} at most")
    for prefix in prefixes:
        if not _PREFIX.fullmatch(prefix):
            raise BadValue(f"{prefix!r} is no prefix: 1 to 32 digits, * and #, without a +")
    if not 0 < maximum <= MAXIMUM_MAX:
        raise BadValue(
            "a limit is above 0: `sky-aaa account suspend` keeps an account from calling"
        )


def add(cursor: Cursor, viewer: Viewer, account: Account, new: NewLimit) -> None:
    """Limit the account. Raises `Conflict` for a name in use or too many, `BadValue`."""
    require(viewer, Deed.CHANGE, account.chain, account.code)
    if account.kind not in ("customer", "reseller"):
        raise BadValue(f"{account.code} is of kind {account.kind}: it makes no calls to limit")
    _check(new.name, new.prefixes, new.maximum)
    if len(list_limits(cursor, viewer, account.account_id)) >= LIMITS_MAX:
        raise Conflict(f"{account.code} has {LIMITS_MAX} limits already: change one of them")
    with as_owner(cursor, viewer):
        try:
            cursor.execute(
                """
                INSERT INTO velocity_limit (
                           account_id, name, prefixes, period, measure, maximum, action)
                VALUES (%(account_id)s, %(name)s, %(prefixes)s, %(period)s, %(measure)s,
                        %(maximum)s, %(action)s)
                """,
                {
                    **new._asdict(),
                    "account_id": account.account_id,
                    "prefixes": sorted(set(new.prefixes)),
                },
            )
        except psycopg2.errors.UniqueViolation as error:
            raise Conflict(
                f"{account.code} has a limit {new.name!r} already: `sky-aaa limit set` changes it"
            ) from error


def change(cursor: Cursor, viewer: Viewer, limit: Limit) -> None:
    """Write all that can be changed of `limit`. What has been used stays used."""
    require(viewer, Deed.CHANGE, limit.account_chain, limit.account_code)
    _check(limit.name, limit.prefixes, limit.maximum)
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            UPDATE velocity_limit
               SET prefixes = %(prefixes)s,
                   period = %(period)s,
                   maximum = %(maximum)s,
                   action = %(action)s,
                   active = %(active)s
             WHERE limit_id = %(limit_id)s
            """,
            {
                **limit._asdict(),
                "account_chain": None,
                "prefixes": sorted(set(limit.prefixes)),
            },
        )
