"""Rate rows: read into a `Tariff`, page by page; added, changed, closed; looked up.

Whoever writes locks the tariff's row, gives its rows the next revision and sets the
tariff's revision last (`rate_import`). So a server that knows revision N asks for the
prefixes with a row above N and replaces all rows of those.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2.errors

from aaa_server.rating.rate import STEP_SECONDS_MAX, STEPS_MAX, Rate, Terms
from aaa_server.rating.tariff import Tariff
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.rate_import import (
    Change,
    Imported,
    RateRow,
    difference,
    import_rates,
    lock_tariff,
    refuse_unknown_band,
    set_revision,
    steps_of,
    stored_steps,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg2.extensions import cursor as Cursor

__all__ = [
    "Candidate",
    "Change",
    "Imported",
    "Key",
    "RateRow",
    "add_rate",
    "apply_rows",
    "candidates",
    "changes_count",
    "close_rate",
    "difference",
    "import_rates",
    "list_rates",
    "load_tariff",
    "rates_of_prefixes",
    "rates_since",
    "set_rate",
]

PAGE_ROWS = 2_000
LOAD_ROWS = 20_000  # where nobody waits for an answer meanwhile
# A row that ended longer ago prices no call any more, only a re-rating, which reads tables.
ENDED_DAYS_KEPT = 35
TERMS_SHARED_MAX = 65_536  # a price list has a few thousand different prices
LIST_MAX = 10_000  # rows of one listing

# What few rows have comes as one column, null for all others: a million rows are read
# noticeably faster so than with a column for each.
_COLUMNS = """
       rate.rate_id,
       rate.per_minute_nanos,
       rate.connect_fee_micros,
       rate.included_seconds,
       rate.initial_seconds,
       rate.increment_seconds,
       rate.minimum_charge_micros,
       rate.blocked,
       rate.destination,
       rate.strip,
       rate.prepend,
       rate.priority,
       rate.effective_from,
       rate.effective_to,
       CASE WHEN rate.band <> '' OR rate.steps IS NOT NULL OR rate.resource_group_id IS NOT NULL
            THEN json_build_array(coalesce(rate.resource_group_id, 0), rate.band, rate.steps)::text
       END"""


class Key(NamedTuple):
    """Where a page of rows ended; the next begins behind it."""

    revision: int
    prefix: str
    account_id: int


# ------------------------------------------------------------------ into memory


def rates_since(
    tariff_id: int, revision: int, *, after: Key | None = None, limit: int = PAGE_ROWS
) -> tuple[str, dict[str, Any]]:
    """SQL and parameters of the next page of what changed after `revision`; 0: of all rows.

    A page holds all rows of each of its prefixes, so it can be somewhat longer than
    `limit`. The end is an empty page. Rows for `apply_rows`.
    """
    if after is None:
        after = Key(revision + 1, "", 0)
    parameters = {
        "tariff_id": tariff_id,
        "revision": after.revision,
        "prefix": after.prefix,
        "account_id": after.account_id,
        "limit": limit,
        "kept": ENDED_DAYS_KEPT,
    }
    return (_CHANGED_ROWS if revision else _ALL_ROWS), parameters


def rates_of_prefixes(tariff_id: int, prefixes: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """SQL and parameters of all rows of these prefixes, also those ended or taken back long ago.

    Rows for `apply_rows`. With all prefixes that begin a number, enough to price it at any
    instant, whatever the size of the price list.
    """
    return _ROWS_OF_PREFIXES, {"tariff_id": tariff_id, "prefixes": list(prefixes)}


def changes_count(tariff_id: int, revision: int, limit: int) -> tuple[str, dict[str, Any]]:
    """SQL and parameters of how many rows changed after `revision`, counted up to `limit`."""
    return _CHANGES_COUNT, {"tariff_id": tariff_id, "revision": revision, "limit": limit}


def apply_rows(tariff: Tariff, rows: Iterable[Sequence[Any]]) -> Key | None:
    """Replace the rows of the prefixes in a page; where it ended, None for an empty one.

    The tariff's revision is the caller's to set, once all pages are in.
    """
    revision, prefix, account_id = 0, "", 0
    rates: list[Rate] = []
    for row in rows:
        if row[1] != prefix or row[2] != account_id or row[0] != revision:
            if prefix:
                tariff.replace(account_id, prefix, rates)
            # One string for all price lists: many providers have the same prefixes.
            revision, prefix, account_id = row[0], intern(row[1]), row[2]
            rates = []
        if row[3] is not None:
            rates.append(_rate(prefix, *row[3:]))
    if not prefix:
        return None
    tariff.replace(account_id, prefix, rates)
    return Key(revision, prefix, account_id)


def load_tariff(cursor: Cursor, tariff_id: int) -> Tariff:
    """The whole tariff. Raises `NotFound`."""
    cursor.execute("SELECT currency, revision FROM tariff WHERE tariff_id = %s", (tariff_id,))
    row = cursor.fetchone()
    if row is None:
        raise NotFound(f"there is no tariff {tariff_id}")
    # The revision is read first: rows written meanwhile are then read once more, not missed.
    tariff = Tariff(tariff_id, row[0], row[1])
    after: Key | None = None
    while True:
        cursor.execute(*rates_since(tariff_id, 0, after=after, limit=LOAD_ROWS))
        after = apply_rows(tariff, cursor.fetchall())
        if after is None:
            return tariff


def _rate(
    prefix: str,
    rate_id: int,
    per_minute_nanos: int,
    connect_fee_micros: int,
    included_seconds: int,
    initial_seconds: int,
    increment_seconds: int,
    minimum_charge_micros: int,
    blocked: bool,
    destination: str,
    strip: int,
    prepend: str,
    priority: int,
    effective_from: datetime,
    effective_to: datetime | None,
    seldom: str | None,
) -> Rate:
    terms = _terms(
        per_minute_nanos,
        connect_fee_micros,
        included_seconds,
        initial_seconds,
        increment_seconds,
        minimum_charge_micros,
    )
    resource_group_id, band = 0, ""
    if seldom is not None:
        resource_group_id, band, steps = json.loads(seldom)
        if steps is not None:
            terms = _with_steps(terms, steps_of(steps))
    return Rate(
        rate_id,
        prefix,
        terms,
        _instant(effective_from),
        None if effective_to is None else _instant(effective_to),
        blocked,
        intern(destination),
        strip,
        intern(prepend),
        priority,
        resource_group_id,
        intern(band),
    )


# Thousands of rows have the same terms and the same instants: kept once, not once a row.
_terms = lru_cache(maxsize=TERMS_SHARED_MAX)(Terms)


@lru_cache(maxsize=TERMS_SHARED_MAX)
def _with_steps(terms: Terms, steps: tuple[tuple[int, int], ...]) -> Terms:
    return replace(terms, steps=steps)


@lru_cache(maxsize=4096)
def _instant(value: datetime) -> datetime:
    # One tzinfo for all: datetimes of the same zone object are compared much faster.
    return value.astimezone(UTC)


# ------------------------------------------------------------------ one row at a time


def add_rate(cursor: Cursor, tariff_id: int, row: RateRow, *, account_id: int = 0) -> int:
    """The new row's number.

    Raises `Conflict` where the prefix has a row of this band at that time already, and
    `BadValue`.
    """
    assert row.effective_from is not None
    revision = lock_tariff(cursor, tariff_id)
    refuse_unknown_band(cursor, tariff_id, row.band)
    cursor.execute("SAVEPOINT add_rate")
    try:
        cursor.execute(
            """
            INSERT INTO rate (
                       tariff_id, account_id, prefix, destination, per_minute_nanos,
                       connect_fee_micros, included_seconds, initial_seconds, increment_seconds,
                       minimum_charge_micros, blocked, strip, prepend, priority,
                       resource_group_id, band, steps, effective_from, effective_to, revision)
            VALUES (%(tariff_id)s, %(account_id)s, %(prefix)s, %(destination)s,
                    %(per_minute_nanos)s, %(connect_fee_micros)s, %(included_seconds)s,
                    %(initial_seconds)s, %(increment_seconds)s, %(minimum_charge_micros)s,
                    %(blocked)s, %(strip)s, %(prepend)s, %(priority)s,
                    nullif(%(resource_group_id)s, 0), %(band)s, %(steps)s,
                    %(effective_from)s, %(effective_to)s, %(revision)s)
         RETURNING rate_id
            """,
            {
                **row._asdict(),
                "steps": stored_steps(row.steps),
                "tariff_id": tariff_id,
                "account_id": account_id,
                "revision": revision,
            },
        )
        made = cursor.fetchone()
    except psycopg2.errors.ExclusionViolation as error:
        cursor.execute("ROLLBACK TO SAVEPOINT add_rate")
        raise Conflict(_overlap_text(cursor, tariff_id, row, account_id)) from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, row.prefix)) from error
    set_revision(cursor, tariff_id, revision)
    assert made is not None
    return int(made[0])


def set_rate(
    cursor: Cursor,
    tariff_id: int,
    prefix: str,
    values: dict[str, Any],
    *,
    at: datetime,
    account_id: int = 0,
    band: str = "",
) -> Imported:
    """Change the prefix's row from `at` on: it ends there, and its successor has `values`.

    The row is the one of this `band`. `values` are fields of `RateRow`. Raises `NotFound`
    when no row is in force at `at`.
    """
    lock_tariff(cursor, tariff_id)
    running = _running(cursor, tariff_id, prefix, at, account_id, band)
    rate = running.rate
    row = RateRow(
        prefix=prefix,
        per_minute_nanos=rate.terms.per_minute_nanos,
        initial_seconds=rate.terms.initial_seconds,
        increment_seconds=rate.terms.increment_seconds,
        connect_fee_micros=rate.terms.connect_fee_micros,
        included_seconds=rate.terms.included_seconds,
        minimum_charge_micros=rate.terms.minimum_charge_micros,
        blocked=rate.blocked,
        destination=rate.destination,
        strip=rate.strip,
        prepend=rate.prepend,
        priority=rate.priority,
        resource_group_id=rate.resource_group_id,
        band=band,
        steps=rate.terms.steps,
        effective_from=at,
        effective_to=rate.effective_to,
    )
    try:
        return import_rates(
            cursor, tariff_id, [row._replace(**values)], effective=at, account_id=account_id
        )
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, prefix)) from error


def close_rate(
    cursor: Cursor,
    tariff_id: int,
    prefix: str,
    *,
    at: datetime,
    account_id: int = 0,
    band: str = "",
) -> Rate:
    """End the prefix's row of this `band` at `at`; the row as it was.

    At its very beginning, that takes it back. Raises `NotFound` when no row is in force at `at`.
    """
    revision = lock_tariff(cursor, tariff_id)
    running = _running(cursor, tariff_id, prefix, at, account_id, band)
    cursor.execute(
        """
        UPDATE rate
           SET effective_to = %s,
               revision = %s
         WHERE rate_id = %s
        """,
        (at, revision, running.rate.rate_id),
    )
    set_revision(cursor, tariff_id, revision)
    return running.rate


def _running(
    cursor: Cursor, tariff_id: int, prefix: str, at: datetime, account_id: int, band: str
) -> Candidate:
    rows = _select(
        cursor,
        """
        WHERE tariff_id = %(tariff_id)s
          AND account_id = %(account_id)s
          AND prefix = %(prefix)s
          AND band = %(band)s
          AND (effective_to IS NULL OR effective_to > greatest(effective_from, %(at)s))
        ORDER BY effective_from
        """,
        {
            "tariff_id": tariff_id,
            "account_id": account_id,
            "prefix": prefix,
            "band": band,
            "at": at,
        },
    )
    if rows and rows[0].rate.effective_from <= at:
        return rows[0]
    later = f"; the next begins at {_show(rows[0].rate.effective_from)}" if rows else ""
    raise NotFound(
        f"prefix {prefix}{_of_band(band)} has no row in force at {_show(at)}{later}: "
        "`rate add` makes one"
    )


def _overlap_text(cursor: Cursor, tariff_id: int, row: RateRow, account_id: int) -> str:
    [standing, *_] = _select(
        cursor,
        """
        WHERE tariff_id = %(tariff_id)s
          AND account_id = %(account_id)s
          AND prefix = %(prefix)s
          AND band = %(band)s
          AND tstzrange(effective_from, effective_to)
              && tstzrange(%(effective_from)s, %(effective_to)s)
        ORDER BY effective_from
        """,
        {
            "tariff_id": tariff_id,
            "account_id": account_id,
            "prefix": row.prefix,
            "band": row.band,
            "effective_from": row.effective_from,
            "effective_to": row.effective_to,
        },
    )
    begins, ends = standing.rate.effective_from, standing.rate.effective_to
    until = f"until {_show(ends)}" if ends else "with no end"
    return (
        f"prefix {row.prefix}{_of_band(row.band)} has a row already, from {_show(begins)} {until}, "
        "and two rows of one prefix never overlap: `rate set` changes the price from an instant "
        "on, `rate close` ends the row"
    )


def _of_band(band: str) -> str:
    return f" of band {band}" if band else ""


def _check_text(error: psycopg2.errors.CheckViolation, prefix: str) -> str:
    constraint = error.diag.constraint_name or ""
    return {
        "rate_prefix_check": f"{prefix!r} is no prefix: 1 to 32 digits, * and # are",
        "rate_strip_check": "0 to 32 digits can be stripped",
        "rate_prepend_check": "what is prepended is digits, *, # and +, 32 at most",
        "rate_increment_seconds_check": "an increment is at least 1 second",
        "rate_per_minute_nanos_check": "a price is at least 0",
        "rate_connect_fee_micros_check": "a connect fee is at least 0",
        "rate_minimum_charge_micros_check": "a minimum charge is at least 0",
        "rate_check": "a row ends after it begins",
        "rate_steps_check": f"a price has at most {STEPS_MAX} steps, each later than the one "
        f"before it, from 1 to {STEP_SECONDS_MAX} s",
    }.get(constraint, f"prefix {prefix}: a value is out of range ({constraint})")


def _show(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


# ------------------------------------------------------------------ looked up


class Candidate(NamedTuple):
    """A row as it stands in the table, and whose it is (0: everybody's)."""

    account_id: int
    rate: Rate


def candidates(
    cursor: Cursor, tariff_id: int, number: str, *, account_id: int = 0
) -> list[Candidate]:
    """All rows whose prefix begins `number`, whenever they are in force; the longest first.

    Of one prefix the account's own come first, of those the ones of bands, then the earlier
    ones. Rows taken back
    before they began are left out.
    """
    return _select(
        cursor,
        """
        WHERE tariff_id = %(tariff_id)s
          AND account_id IN (0, %(account_id)s)
          AND prefix = ANY (%(prefixes)s)
          AND (effective_to IS NULL OR effective_to > effective_from)
        ORDER BY length(prefix) DESC, account_id = 0, band = '', band, effective_from
        """,
        {
            "tariff_id": tariff_id,
            "account_id": account_id,
            "prefixes": [number[:length] for length in range(1, len(number) + 1)],
        },
    )


def list_rates(
    cursor: Cursor,
    tariff_id: int,
    *,
    at: datetime | None,
    account_id: int | None = None,
    prefix: str = "",
    after: str = "",
    limit: int = LIST_MAX,
) -> list[Candidate]:
    """In order of prefixes, those that begin with `prefix` and come after `after`.

    `at` None: of all times. `account_id` None: everybody's and the accounts' own.
    """
    return _select(
        cursor,
        """
        WHERE tariff_id = %(tariff_id)s
          AND (%(account_id)s IS NULL OR account_id = %(account_id)s)
          AND starts_with(prefix, %(prefix)s)
          AND prefix >= %(prefix)s
          AND prefix > %(after)s
          AND (%(at)s IS NULL OR tstzrange(effective_from, effective_to) @> %(at)s)
          AND (effective_to IS NULL OR effective_to > effective_from)
        ORDER BY prefix, account_id, band, effective_from
        LIMIT %(limit)s
        """,
        {
            "tariff_id": tariff_id,
            "account_id": account_id,
            "prefix": prefix,
            "after": after,
            "at": at,
            "limit": limit,
        },
    )


def _select(cursor: Cursor, condition: str, parameters: dict[str, Any]) -> list[Candidate]:
    cursor.execute(_SELECT + condition, parameters)
    return [Candidate(row[1], _rate(row[0], *row[2:])) for row in cursor.fetchall()]


# ------------------------------------------------------------------ the statements

_SELECT = (
    """
SELECT rate.prefix,
       rate.account_id,"""
    + _COLUMNS
    + """
  FROM rate
"""
)

_ALL_ROWS = (
    """
SELECT 0,
       rate.prefix,
       rate.account_id,"""
    + _COLUMNS
    + """
  FROM rate
 WHERE rate.tariff_id = %(tariff_id)s
   AND (rate.prefix, rate.account_id) > (%(prefix)s, %(account_id)s)
   AND (rate.effective_to IS NULL
        OR rate.effective_to > greatest(rate.effective_from,
                                        now() - make_interval(days => %(kept)s)))
 ORDER BY rate.prefix, rate.account_id
 FETCH FIRST %(limit)s ROWS WITH TIES"""
)

_ROWS_OF_PREFIXES = (
    """
SELECT 0,
       rate.prefix,
       rate.account_id,"""
    + _COLUMNS
    + """
  FROM rate
 WHERE rate.tariff_id = %(tariff_id)s
   AND rate.prefix = ANY (%(prefixes)s)
 ORDER BY rate.prefix, rate.account_id"""
)

# A prefix none of whose rows is wanted any more still comes, with nothing in its row.
_CHANGED_ROWS = """
WITH changed AS (
    SELECT revision,
           prefix,
           account_id
      FROM rate
     WHERE tariff_id = %(tariff_id)s
       AND (revision, prefix, account_id) > (%(revision)s, %(prefix)s, %(account_id)s)
     ORDER BY revision, prefix, account_id
     LIMIT %(limit)s
), distinct_changed AS (
    SELECT DISTINCT revision,
           prefix,
           account_id
      FROM changed
)
SELECT changed.revision,
       changed.prefix,
       changed.account_id,
       rate.rate_id,
       rate.per_minute_nanos,
       rate.connect_fee_micros,
       rate.included_seconds,
       rate.initial_seconds,
       rate.increment_seconds,
       rate.minimum_charge_micros,
       rate.blocked,
       rate.destination,
       rate.strip,
       rate.prepend,
       rate.priority,
       rate.effective_from,
       rate.effective_to,
       CASE WHEN rate.band <> '' OR rate.steps IS NOT NULL OR rate.resource_group_id IS NOT NULL
            THEN json_build_array(coalesce(rate.resource_group_id, 0), rate.band, rate.steps)::text
       END
  FROM distinct_changed AS changed
  LEFT JOIN rate ON rate.tariff_id = %(tariff_id)s
                AND rate.prefix = changed.prefix
                AND rate.account_id = changed.account_id
                AND (rate.effective_to IS NULL
                     OR rate.effective_to > greatest(rate.effective_from,
                                                     now() - make_interval(days => %(kept)s)))
 ORDER BY changed.revision, changed.prefix, changed.account_id"""

_CHANGES_COUNT = """
SELECT count(*)
  FROM (SELECT
          FROM rate
         WHERE tariff_id = %(tariff_id)s
           AND revision > %(revision)s
         LIMIT %(limit)s) AS changed"""
