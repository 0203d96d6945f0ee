"""Price lists into the database: a whole file as one difference, computed in SQL.

The rows are copied into a temporary table, compared with what stands, and only what
differs is written: a running row is closed at the instant its successor begins, and the
successor is inserted. Importing the same file twice writes nothing the second time.
"""

from __future__ import annotations

import io
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.problem import BadValue, Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor
    from typing_extensions import Buffer

ANALYZE_ROWS = 10_000
COPY_LINES = 1_000
COPY_OCTETS = 128 * 1024
CONFLICTS_SHOWN_MAX = 20
DIFFERENCE_SLICE_ROWS = 5_000


class RateRow(NamedTuple):
    """One row to be written. `effective_from` None: the import's own instant.

    `effective_to` None: until the prefix's next row begins, be it in the same import or
    planned already. `line` is where it stands in its file. `resource_group_id`: the one way
    out of calls that are sold at this row; 0: any. `band` is when it applies, `steps` are
    those of `Terms`. Rows of different bands of one prefix have nothing to do with each other.
    """

    prefix: str
    per_minute_nanos: int
    initial_seconds: int = 60
    increment_seconds: int = 60
    connect_fee_micros: int = 0
    included_seconds: int = 0
    minimum_charge_micros: int = 0
    blocked: bool = False
    destination: str = ""
    strip: int = 0
    prepend: str = ""
    priority: int = 0
    effective_from: datetime | None = None
    effective_to: datetime | None = None
    line: int = 0
    resource_group_id: int = 0
    band: str = ""
    steps: tuple[tuple[int, int], ...] = ()


class Imported(NamedTuple):
    """What an import did, in rows; `revision` is the tariff's afterwards.

    Each row is counted against the one that would have been in force at its beginning:
    `increased` and `decreased` go by price, then connect fee, minimum charge, billing
    steps and included seconds; `changed` differs in none of them. `closed` rows ended
    because the import replaces the whole list.
    """

    revision: int
    new: int
    increased: int
    decreased: int
    changed: int
    unchanged: int
    closed: int


class Change(NamedTuple):
    """One line of the difference; None where there is no old or no new row."""

    what: str  # a field of Imported
    line: int | None
    prefix: str
    destination: str
    old_nanos: int | None
    new_nanos: int | None
    old_interval: str | None  # "60/6"
    new_interval: str | None
    effective_from: datetime
    effective_to: datetime | None
    band: str
    old_steps: tuple[tuple[int, int], ...]
    new_steps: tuple[tuple[int, int], ...]


def lock_tariff(cursor: Cursor, tariff_id: int) -> int:
    """The revision that the rows to be written carry; nobody else writes until the end.

    Raises `NotFound` for a tariff that is not there, or not for this viewer to change.
    """
    cursor.execute("SELECT revision FROM tariff WHERE tariff_id = %s FOR UPDATE", (tariff_id,))
    row = cursor.fetchone()
    if row is None:
        raise NotFound("there is no such price list that may be changed")
    return int(row[0]) + 1


def set_revision(cursor: Cursor, tariff_id: int, revision: int) -> None:
    """Tell the servers. The last statement of a change: it locks the one catalogue row."""
    cursor.execute("UPDATE tariff SET revision = %s WHERE tariff_id = %s", (revision, tariff_id))


def import_rates(
    cursor: Cursor,
    tariff_id: int,
    rows: Iterable[RateRow],
    *,
    effective: datetime,
    account_id: int = 0,
    replace: bool = False,
    dry_run: bool = False,
) -> Imported:
    """Write `rows` into the tariff; those without a date of their own begin at `effective`.

    A row dated from X closes the prefix's running row at X. Prefixes that are not among
    `rows` stay, unless `replace`: then they end at `effective`, and what was planned for
    later goes. `account_id` 0: everybody's rows, else that account's own. A dry run
    computes the difference and writes nothing. Raises `Conflict` when a row's own end
    lies behind the beginning of the prefix's next one, `BadValue` for a band that the list
    does not have.
    """
    revision = lock_tariff(cursor, tariff_id)
    cursor.execute("SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true)")
    _copy(cursor, rows, effective)
    _refuse_unknown_bands(cursor, tariff_id)
    parameters = {
        "tariff_id": tariff_id,
        "account_id": account_id,
        "effective": effective,
        "replace": replace,
        "revision": revision,
    }
    cursor.execute(_STANDING, parameters)
    cursor.execute(_ARRIVING, parameters)
    _refuse_conflicts(cursor)
    cursor.execute(_CLOSING, parameters)
    counts = _counts(cursor)
    if dry_run or counts == Imported(0, 0, 0, 0, 0, counts.unchanged, 0):
        return counts._replace(revision=revision - 1)
    cursor.execute(_CLOSE, parameters)
    cursor.execute(_INSERT, parameters)
    if cursor.rowcount >= ANALYZE_ROWS:
        # Until autovacuum comes by, PostgreSQL would plan as if the rows were not there.
        cursor.execute("ANALYZE rate")
    set_revision(cursor, tariff_id, revision)
    return counts._replace(revision=revision)


def difference(cursor: Cursor, *, unchanged: bool = False) -> Iterator[Change]:
    """What the import, or dry run, of this transaction found; in order of prefixes."""
    after, after_band, after_from = "", "", None
    while True:
        cursor.execute(
            _DIFFERENCE,
            {
                "unchanged": unchanged,
                "after": after,
                "after_band": after_band,
                "after_from": after_from,
                "limit": DIFFERENCE_SLICE_ROWS,
            },
        )
        rows = [
            Change(*row)._replace(old_steps=steps_of(row[-2]), new_steps=steps_of(row[-1]))
            for row in cursor.fetchall()
        ]
        yield from rows
        if len(rows) < DIFFERENCE_SLICE_ROWS:
            return
        last = rows[-1]
        after, after_band, after_from = last.prefix, last.band, last.effective_from


def steps_of(stored: Sequence[int] | None) -> tuple[tuple[int, int], ...]:
    """The steps of `Terms` from the one array in which a row has them."""
    return tuple(zip(stored[::2], stored[1::2], strict=True)) if stored else ()


def stored_steps(steps: tuple[tuple[int, int], ...]) -> list[int] | None:
    """The opposite of `steps_of`."""
    return list(chain.from_iterable(steps)) or None


def refuse_unknown_band(cursor: Cursor, tariff_id: int, band: str, where: str = "") -> None:
    """Raises `BadValue` when the price list has no band of this name; '' is none."""
    cursor.execute(
        "SELECT DISTINCT name FROM rate_band WHERE tariff_id = %s ORDER BY 1", (tariff_id,)
    )
    known = [name for (name,) in cursor.fetchall()]
    if band and band not in known:
        there_are = f"there are {', '.join(known)}" if known else "it has none yet"
        raise BadValue(
            f"{where}the price list has no band {band!r}, {there_are}: `band add` makes one"
        )


def _refuse_unknown_bands(cursor: Cursor, tariff_id: int) -> None:
    cursor.execute(
        """
        SELECT band,
               line
          FROM incoming
         WHERE band <> ''
           AND band NOT IN (SELECT name FROM rate_band WHERE tariff_id = %s)
         ORDER BY number
         LIMIT 1
        """,
        (tariff_id,),
    )
    for band, line in cursor.fetchall():
        refuse_unknown_band(cursor, tariff_id, band, f"line {line}: " if line else "")


def _counts(cursor: Cursor) -> Imported:
    cursor.execute(
        """
        SELECT what,
               count(*)
          FROM arriving
         GROUP BY what
         UNION ALL
        SELECT 'closed',
               count(*)
          FROM closing
         WHERE NOT superseded
        """
    )
    counts = dict(cursor.fetchall())
    return Imported(
        0,
        new=counts.get("new", 0),
        increased=counts.get("increased", 0),
        decreased=counts.get("decreased", 0),
        changed=counts.get("changed", 0),
        unchanged=counts.get("unchanged", 0),
        closed=counts["closed"],
    )


def _refuse_conflicts(cursor: Cursor) -> None:
    cursor.execute(
        """
        SELECT line,
               prefix || CASE band WHEN '' THEN '' ELSE ' of band ' || band END,
               effective_from,
               effective_to,
               natural_end
          FROM arriving
         WHERE effective_to > natural_end
            OR natural_end = effective_from
         ORDER BY number
         LIMIT %s
        """,
        (CONFLICTS_SHOWN_MAX,),
    )
    texts = []
    for line, prefix, begins, ends, following in cursor.fetchall():
        where = f"line {line}: " if line else ""
        if following == begins:
            texts.append(f"{where}prefix {prefix} stands twice from {begins.isoformat()}")
        else:
            texts.append(
                f"{where}prefix {prefix} would end at {ends.isoformat()}, but its next row begins "
                f"before that, at {following.isoformat()}: let it end there, or leave its end open"
            )
    if texts:
        raise Conflict("; ".join(texts))


# ------------------------------------------------------------------ the copy


def _copy(cursor: Cursor, rows: Iterable[RateRow], effective: datetime) -> None:
    cursor.execute(_INCOMING)
    text = io.BufferedReader(_CopyText(_copy_lines(rows, effective.isoformat())), COPY_OCTETS)
    cursor.copy_expert("COPY incoming FROM STDIN", text, COPY_OCTETS)
    # The plans below depend on knowing how many rows came.
    cursor.execute("ANALYZE incoming")


def _copy_lines(rows: Iterable[RateRow], effective: str) -> Iterator[str]:
    instants: dict[datetime, str] = {}
    for number, row in enumerate(rows):
        begins, ends = row.effective_from, row.effective_to
        begins_text, ends_text = effective, "\\N"
        if begins is not None:
            begins_text = instants.get(begins) or instants.setdefault(begins, begins.isoformat())
        if ends is not None:
            ends_text = instants.get(ends) or instants.setdefault(ends, ends.isoformat())
        yield (
            f"{number}\t{row.line}\t{row.prefix}\t{row.per_minute_nanos}\t{row.initial_seconds}\t"
            f"{row.increment_seconds}\t{row.connect_fee_micros}\t{row.included_seconds}\t"
            f"{row.minimum_charge_micros}\t{row.blocked}\t{_escape(row.destination)}\t{row.strip}\t"
            f"{row.prepend}\t{row.priority}\t{row.resource_group_id}\t{row.band}\t"
            f"{_array(row.steps) if row.steps else '{}'}\t{begins_text}\t{ends_text}\n"
        )


def _array(steps: tuple[tuple[int, int], ...]) -> str:
    return "{" + ",".join([f"{after},{nanos}" for after, nanos in steps]) + "}"


def _escape(text: str) -> str:
    if text.isprintable() and "\\" not in text:
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


class _CopyText(io.RawIOBase):
    """Lines as the file that COPY reads from."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        if not self._held:
            self._held = "".join(islice(self._lines, COPY_LINES)).encode()
        size = min(len(view), len(self._held))
        view[:size] = self._held[:size]
        self._held = self._held[size:]
        return size


# ------------------------------------------------------------------ the statements

_INCOMING = """
DROP TABLE IF EXISTS pg_temp.incoming, pg_temp.standing, pg_temp.arriving, pg_temp.closing;
CREATE TEMPORARY TABLE incoming (
    number integer NOT NULL,
    line integer NOT NULL,
    prefix text COLLATE "C" NOT NULL,
    per_minute_nanos bigint NOT NULL,
    initial_seconds integer NOT NULL,
    increment_seconds integer NOT NULL,
    connect_fee_micros bigint NOT NULL,
    included_seconds integer NOT NULL,
    minimum_charge_micros bigint NOT NULL,
    blocked boolean NOT NULL,
    destination text NOT NULL,
    strip integer NOT NULL,
    prepend text NOT NULL,
    priority integer NOT NULL,
    resource_group_id bigint NOT NULL,
    band text COLLATE "C" NOT NULL,
    steps bigint[] NOT NULL,
    effective_from timestamptz NOT NULL,
    effective_to timestamptz
) ON COMMIT DROP"""

# The rows that the import can touch: of its prefixes, or of all when it replaces the list.
_STANDING = """
CREATE TEMPORARY TABLE standing ON COMMIT DROP AS
SELECT rate_id,
       prefix,
       per_minute_nanos,
       initial_seconds,
       increment_seconds,
       connect_fee_micros,
       included_seconds,
       minimum_charge_micros,
       blocked,
       destination,
       strip,
       prepend,
       priority,
       coalesce(resource_group_id, 0) AS resource_group_id,
       band COLLATE "C" AS band,
       coalesce(steps, '{}') AS steps,
       effective_from,
       effective_to
  FROM rate
 WHERE tariff_id = %(tariff_id)s
   AND account_id = %(account_id)s
   AND (effective_to IS NULL
        OR (effective_to > effective_from
            AND effective_to > (SELECT least(min(effective_from), %(effective)s)
                                  FROM incoming)))
   AND (%(replace)s OR prefix IN (SELECT prefix FROM incoming));
ANALYZE standing"""

# natural_end: where the row ends by itself, at the beginning of the prefix's next one.
# covering: the row that would be in force when this one begins.
# A row that says what is in force anyway is not written. It must end where the standing
# one ends, or be cut only by a later row of the import, which then cuts the standing one;
# and no earlier row of the import may have cut the standing one before it.
_ARRIVING = """
CREATE TEMPORARY TABLE arriving ON COMMIT DROP AS
WITH following AS (
    SELECT incoming.number,
           min(standing.effective_from) AS begins
      FROM incoming
      JOIN standing ON standing.prefix = incoming.prefix
                   AND standing.band = incoming.band
                   AND standing.effective_from > incoming.effective_from
     WHERE NOT %(replace)s
     GROUP BY incoming.number
), spaced AS (
    SELECT number,
           lead(effective_from) OVER one_prefix AS next_incoming,
           row_number() OVER one_prefix AS place
      FROM incoming
    WINDOW one_prefix AS (PARTITION BY prefix, band ORDER BY effective_from, number)
), compared AS (
    SELECT incoming.*,
           spaced.place,
           spaced.next_incoming,
           least(spaced.next_incoming, following.begins) AS natural_end,
           coalesce(incoming.effective_to, least(spaced.next_incoming, following.begins))
               AS ends_at,
           covering.rate_id AS covering_id,
           covering.effective_from AS covering_from,
           covering.effective_to AS covering_to,
           covering.per_minute_nanos AS old_nanos,
           covering.initial_seconds AS old_initial_seconds,
           covering.increment_seconds AS old_increment_seconds,
           covering.steps AS old_steps,
           (incoming.per_minute_nanos, incoming.connect_fee_micros,
            incoming.minimum_charge_micros, incoming.initial_seconds,
            incoming.increment_seconds, -incoming.included_seconds, incoming.steps)
           > (covering.per_minute_nanos, covering.connect_fee_micros,
              covering.minimum_charge_micros, covering.initial_seconds,
              covering.increment_seconds, -covering.included_seconds, covering.steps) AS dearer,
           (incoming.per_minute_nanos, incoming.connect_fee_micros,
            incoming.minimum_charge_micros, incoming.initial_seconds,
            incoming.increment_seconds, incoming.included_seconds, incoming.steps)
           = (covering.per_minute_nanos, covering.connect_fee_micros,
              covering.minimum_charge_micros, covering.initial_seconds,
              covering.increment_seconds, covering.included_seconds, covering.steps) AS same_price,
           (incoming.blocked, incoming.destination, incoming.strip, incoming.prepend,
            incoming.priority, incoming.resource_group_id)
           = (covering.blocked, covering.destination, covering.strip, covering.prepend,
              covering.priority, covering.resource_group_id) AS same_rest
      FROM incoming
      JOIN spaced USING (number)
      LEFT JOIN following USING (number)
      LEFT JOIN standing AS covering
             ON covering.prefix = incoming.prefix
            AND covering.band = incoming.band
            AND covering.effective_from <= incoming.effective_from
            AND (covering.effective_to IS NULL
                 OR covering.effective_to > incoming.effective_from)
), judged AS (
    SELECT *,
           coalesce(same_price AND same_rest
                    AND (place = 1 OR covering_from = effective_from)
                    AND (ends_at IS NOT DISTINCT FROM covering_to
                         OR (effective_to IS NULL
                             AND natural_end = next_incoming
                             AND (covering_to IS NULL OR covering_to > natural_end))),
                    false) AS stands
      FROM compared
)
SELECT number,
       line,
       prefix,
       per_minute_nanos,
       initial_seconds,
       increment_seconds,
       connect_fee_micros,
       included_seconds,
       minimum_charge_micros,
       blocked,
       destination,
       strip,
       prepend,
       priority,
       resource_group_id,
       band,
       steps,
       effective_from,
       effective_to,
       natural_end,
       ends_at,
       covering_id,
       old_nanos,
       old_initial_seconds,
       old_increment_seconds,
       old_steps,
       NOT stands AS writes,
       CASE WHEN covering_id IS NULL THEN 'new'
            WHEN stands THEN 'unchanged'
            WHEN same_price THEN 'changed'
            WHEN dearer THEN 'increased'
            ELSE 'decreased'
       END AS what
  FROM judged;
ANALYZE arriving"""

_CLOSING = """
CREATE TEMPORARY TABLE closing ON COMMIT DROP AS
WITH superseded AS (
    SELECT standing.rate_id,
           min(arriving.effective_from) AS ends_at
      FROM standing
      JOIN arriving ON arriving.prefix = standing.prefix
                   AND arriving.band = standing.band
                   AND arriving.effective_from >= standing.effective_from
                   AND (standing.effective_to IS NULL
                        OR arriving.effective_from < standing.effective_to)
     WHERE arriving.writes
     GROUP BY standing.rate_id
), replaced AS (
    SELECT standing.rate_id,
           greatest(standing.effective_from,
                    CASE WHEN first.prefix IS NULL THEN %(effective)s END) AS ends_at
      FROM standing
      LEFT JOIN (SELECT prefix,
                        band,
                        min(effective_from) AS begins
                   FROM arriving
                  GROUP BY prefix, band) AS first ON first.prefix = standing.prefix
                                                 AND first.band = standing.band
     WHERE %(replace)s
       AND (first.prefix IS NULL OR standing.effective_from >= first.begins)
       AND NOT EXISTS (SELECT
                         FROM arriving
                        WHERE arriving.covering_id = standing.rate_id
                          AND NOT arriving.writes)
)
SELECT standing.rate_id,
       standing.prefix,
       standing.destination,
       standing.per_minute_nanos,
       standing.initial_seconds,
       standing.increment_seconds,
       standing.band,
       standing.steps,
       standing.effective_from,
       least(superseded.ends_at, replaced.ends_at) AS ends_at,
       superseded.rate_id IS NOT NULL AS superseded
  FROM standing
  LEFT JOIN superseded USING (rate_id)
  LEFT JOIN replaced USING (rate_id)
 WHERE least(superseded.ends_at, replaced.ends_at) IS NOT NULL
   AND (standing.effective_to IS NULL
        OR standing.effective_to > least(superseded.ends_at, replaced.ends_at));
ANALYZE closing"""

_CLOSE = """
UPDATE rate
   SET effective_to = closing.ends_at,
       revision = %(revision)s
  FROM closing
 WHERE rate.rate_id = closing.rate_id"""

# In order of prefixes, so that rows and index pages are filled one after the other.
_INSERT = """
INSERT INTO rate (
           tariff_id, account_id, prefix, destination, per_minute_nanos, connect_fee_micros,
           included_seconds, initial_seconds, increment_seconds, minimum_charge_micros,
           blocked, strip, prepend, priority, resource_group_id, band, steps,
           effective_from, effective_to, revision)
SELECT %(tariff_id)s,
       %(account_id)s,
       prefix,
       destination,
       per_minute_nanos,
       connect_fee_micros,
       included_seconds,
       initial_seconds,
       increment_seconds,
       minimum_charge_micros,
       blocked,
       strip,
       prepend,
       priority,
       nullif(resource_group_id, 0),
       band,
       nullif(steps, '{}'),
       effective_from,
       ends_at,
       %(revision)s
  FROM arriving
 WHERE writes
 ORDER BY prefix, band, effective_from"""

_DIFFERENCE = """
SELECT *
  FROM (SELECT what,
               line,
               prefix,
               destination,
               old_nanos,
               per_minute_nanos AS new_nanos,
               old_initial_seconds || '/' || old_increment_seconds AS old_interval,
               initial_seconds || '/' || increment_seconds AS new_interval,
               effective_from,
               ends_at AS effective_to,
               band,
               old_steps,
               steps AS new_steps
          FROM arriving
         WHERE %(unchanged)s OR what <> 'unchanged'
         UNION ALL
        SELECT 'closed',
               NULL,
               prefix,
               destination,
               per_minute_nanos,
               NULL,
               initial_seconds || '/' || increment_seconds,
               NULL,
               effective_from,
               ends_at,
               band,
               steps,
               NULL
          FROM closing
         WHERE NOT superseded) AS difference
 WHERE (prefix, band, effective_from)
       > (%(after)s, %(after_band)s, coalesce(%(after_from)s, '-infinity'::timestamptz))
 ORDER BY prefix, band, effective_from
 LIMIT %(limit)s"""
