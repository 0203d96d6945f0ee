"""Runs a report: read-only, as of one instant, row by row.

The transaction is REPEATABLE READ READ ONLY: rows, totals and what they tie to are of one
moment. Rows come by a cursor of the server, so that a report may be larger than memory.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ

from aaa_server.rating.money import PPM, div_half_up
from aaa_server.storage import accounts, reading, viewer
from aaa_server.storage.database import transaction
from aaa_server.storage.problem import BadValue, NotAllowed
from web_reports import period as periods
from web_reports.report import TIMES, Parameter, for_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.viewer import Viewer
    from web_reports.period import Period
    from web_reports.report import Column, Report, Tie

STATEMENT_SECONDS_MAX = 600  # of a query, and of each portion of its rows
ROWS_AT_ONCE = 2000
NAMES_MAX = 12  # of what is allowed, in an error
# Of two sums; that of any other two is a quotient as it stands.
_PER_MILLION = ("percent",)


class Question(NamedTuple):
    """What is asked of a report; '' and () for what is not said.

    `begin` and `end` go before `period`. `values` are the parameters as people type them. A
    period such as `last-month` is the one before `at`; None: before the run.
    """

    period: str = ""
    begin: str = ""
    end: str = ""
    group_by: tuple[str, ...] = ()
    values: Mapping[str, str] = {}
    language: str = ""
    time_zone: str = ""
    at: datetime | None = None


class Tied(NamedTuple):
    """One comparison; amounts are micros. `currency` '' where counts are compared."""

    title: str
    column: str
    currency: str
    report: int
    ledger: int

    @property
    def difference(self) -> int:
        """0: it ties."""
        return self.report - self.ledger


@dataclass
class Result:
    """A report that runs. `totals` and `ties` are whole once all rows were taken."""

    report: Report
    columns: tuple[Column, ...]
    group_by: tuple[str, ...]
    period: Period | None
    values: dict[str, Any]
    asked: dict[str, str]
    language: str
    zone: ZoneInfo
    reader: str
    as_of: datetime
    rows: Iterator[tuple[Any, ...]]
    # By currency ('' where there is none): a value a column, None where nothing is added up.
    totals: dict[str, list[int | None]] = field(default_factory=dict)
    _sums: dict[tuple[str, str], int] = field(default_factory=dict)
    _cursor: Cursor | None = None
    _operator: bool = True

    def ties(self) -> list[Tied]:
        """The totals beside what other queries say they must be. After all rows."""
        assert self._cursor is not None
        found = []
        for tie in self.report.ties:
            column = next((one for one in self.columns if one.name == tie.column), None)
            if column is None or any(self.values.get(name) is not None for name in tie.unless):
                continue
            found += self._tied(tie, self._cursor)
        return found

    def _tied(self, tie: Tie, cursor: Cursor) -> list[Tied]:
        cursor.execute(for_reader(tie.sql, operator=self._operator), self.values)
        expected = {row[0] or "": int(row[1] or 0) for row in cursor.fetchall()}
        own = {key: sum_ for (name, key), sum_ in self._sums.items() if name == tie.column}
        return [
            Tied(tie.title, tie.column, key, own.get(key, 0), expected.get(key, 0))
            for key in sorted(own.keys() | expected.keys())
        ]


@contextlib.contextmanager
def running(
    connection: Connection, report: Report, question: Question, *, as_code: str = ""
) -> Iterator[Result]:
    """The report with the eyes of `as_code` ('': the operator's), while the block lasts.

    Raises `NotAllowed`, `NotFound` and `BadValue`, which name what is allowed.
    """
    connection.rollback()
    connection.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
    try:
        with transaction(connection) as cursor:
            eyes = viewer.enter(cursor, as_code) if as_code else viewer.operator(cursor)
            _allow(report, eyes)
            now = reading.begin(cursor, statement_seconds=STATEMENT_SECONDS_MAX)
            with connection.cursor("report") as rows:
                yield _result(report, question, eyes, now, (cursor, rows))
    finally:
        if not connection.closed:
            connection.set_session(isolation_level="default", readonly="default")


def _result(
    report: Report,
    question: Question,
    eyes: Viewer,
    now: datetime,
    cursors: tuple[Cursor, Cursor],
) -> Result:
    cursor, rows = cursors
    language, zone, period, group_by, values = _meant(report, question, eyes, now, cursor)
    asked = {*group_by, *(name for name, text in question.values.items() if text)}
    values |= _read_from(report, asked, period, eyes)
    result = Result(
        report=report,
        columns=report.shown(group_by, operator=eyes.is_operator),
        group_by=group_by,
        period=period,
        values=values,
        asked={name: text for name, text in question.values.items() if text},
        language=language,
        zone=zone,
        reader=eyes.code,
        as_of=now,
        rows=iter(()),
        _cursor=cursor,
        _operator=eyes.is_operator,
    )
    rows.itersize = ROWS_AT_ONCE
    rows.execute(report.query(group_by, operator=eyes.is_operator), values)
    result.rows = _rows(result, rows)
    return result


def _read_from(
    report: Report, asked: set[str], period: Period | None, eyes: Viewer
) -> dict[str, Any]:
    """What the query of a rollup reads; spans' days are of a clock, which matters to days alone."""
    span, widths = report.span(asked, operator=eyes.is_operator)
    rolled = period is None or period.whole_hours
    return {
        "cut": report.cut(asked, operator=eyes.is_operator),
        "span": span,
        "widths": list(widths) if rolled else [],
        "clock": period.zone.key if period and asked & TIMES.keys() else None,
    }


def check(cursor: Cursor, eyes: Viewer, report: Report, question: Question, now: datetime) -> None:
    """Raises what `running` would for this question; nothing is run."""
    _allow(report, eyes)
    _meant(report, question, eyes, now, cursor)


def _allow(report: Report, eyes: Viewer) -> None:
    if report.operator_only and not eyes.is_operator:
        raise NotAllowed(f"{report.name}: for the operator only, {eyes.code} is a {eyes.kind}")


def _meant(
    report: Report, question: Question, eyes: Viewer, now: datetime, cursor: Cursor
) -> tuple[str, ZoneInfo, Period | None, tuple[str, ...], dict[str, Any]]:
    """What is asked in its words: language, time zone, period, columns, and values for the SQL."""
    language, zone = _reader(cursor, eyes, question)
    period = _period(report, question, zone, question.at or now)
    group_by = report.check_group_by(question.group_by, operator=eyes.is_operator)
    values = {
        "viewer_id": eyes.account_id,
        "zone": zone.key,
        "language": language,
        "begin": period.begin if period else None,
        "end": period.end if period else None,
        "rolled": period.whole_hours if period else True,
        **_values(report, question.values, eyes, cursor, zone),
    }
    return language, zone, period, group_by, values


def _reader(cursor: Cursor, eyes: Viewer, question: Question) -> tuple[str, ZoneInfo]:
    account = accounts.find(cursor, eyes, eyes.code)
    name = question.time_zone or account.time_zone
    try:
        zone = ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise BadValue(f"{name!r} is no time zone: Europe/Madrid is, and UTC") from error
    return question.language or account.language, zone


def _period(report: Report, question: Question, zone: ZoneInfo, now: datetime) -> Period | None:
    if not report.period:
        if question.period or question.begin or question.end:
            raise BadValue(f"{report.name} has no period: it tells how things stand")
        return None
    if not question.begin and question.end:
        raise BadValue("--to ends what --from begins: say both, or --period")
    if question.begin:
        if question.period:
            raise BadValue("say --period, or --from and --to, not both")
        begin = periods.read_instant(question.begin, zone)
        end = periods.read_instant(question.end, zone) if question.end else None
        return periods.between(begin, end, zone)
    return periods.named(question.period or report.period, zone, now)


def _values(
    report: Report, given: Mapping[str, str], eyes: Viewer, cursor: Cursor, zone: ZoneInfo
) -> dict[str, Any]:
    asked = report.asked(operator=eyes.is_operator)
    names = [one.name for one in asked]
    for name in given:
        if name not in names:
            allowed = ", ".join(names[:NAMES_MAX]) or "none"
            raise BadValue(f"{report.name} has no parameter {name!r}: allowed are {allowed}")
    values: dict[str, Any] = {one.name: one.default for one in report.parameters}
    for one in asked:
        if given.get(one.name):
            values[one.name] = _value(one, given[one.name], eyes, cursor, zone)
    return values


def _value(one: Parameter, text: str, eyes: Viewer, cursor: Cursor, zone: ZoneInfo) -> Any:
    if one.choices and text not in one.choices:
        raise BadValue(f"{one.option}: {text!r} is none of {', '.join(one.choices)}")
    match one.kind:
        case "account":
            return accounts.find(cursor, eyes, text).account_id
        case "integer":
            if text.startswith("-"):
                raise BadValue(f"{one.option}: {text!r} is below 0")
            if not text.isdecimal() or len(text) > len(str(PPM**2)):
                raise BadValue(f"{one.option}: {text!r} is no whole number")
            return int(text)
        case "number":
            number = text.removeprefix("+")
            if not number.isdecimal():
                raise BadValue(f"{one.option}: {text!r} is no number: digits are expected")
            return number
        case "yes":
            if text not in ("yes", "no"):
                raise BadValue(f"{one.option}: {text!r} is neither yes nor no")
            return text == "yes"
        case "instant":
            instant = periods.read_instant(text, zone)
            if isinstance(instant, datetime):
                return instant
            return datetime.combine(instant, time(), tzinfo=zone)
        case _:
            return text


# ------------------------------------------------------------------ rows


def _rows(result: Result, cursor: Cursor) -> Iterator[tuple[Any, ...]]:
    """The rows as the columns have them, adding up while they pass by."""
    first = cursor.fetchone()
    if first is not None:
        places = {one.name: place for place, one in enumerate(cursor.description or ())}
        quotients = [
            (place, *(places[name] for name in one.ratio), _scale(one))
            for place, one in enumerate(result.columns)
            if one.ratio
        ]
        order = [0 if one.ratio else places[one.name] for one in result.columns]
        # Of hundreds of thousands of rows, what is done with each is most of the time.
        sums = _Sums(result.report.columns, places, result._sums)
        for row in itertools.chain((first,), cursor):
            # sum(bigint) is numeric: a whole number all the same.
            values = [int(value) if value.__class__ is Decimal else value for value in row]
            sums.add(values)
            line = [values[place] for place in order]
            for place, one, other, scale in quotients:
                line[place] = _divided(values[one], values[other], scale)
            yield tuple(line)
        sums.close()
    _add_up(result)


class _Sums:
    """Adds up columns by currency; the sums are in `whole` when it is closed."""

    def __init__(
        self, columns: tuple[Column, ...], places: dict[str, int], whole: dict[tuple[str, str], int]
    ) -> None:
        self._columns: dict[int, list[Column]] = {}
        self._whole = whole
        # By the place of the column of the currency, -1 where there is none, and the currency.
        self._running: dict[tuple[int, str], list[int | None]] = {}
        for one in columns:
            if one.total and one.name in places:
                self._columns.setdefault(places.get(one.currency, -1), []).append(one)
        self._steps = [
            (currency, [(places[one.name], one.total == "max") for one in group])
            for currency, group in self._columns.items()
        ]

    def add(self, values: list[Any]) -> None:
        """One row."""
        for currency, steps in self._steps:
            key = (currency, values[currency] or "" if currency >= 0 else "")
            running = self._running.get(key)
            if running is None:
                running = self._running[key] = [None] * len(steps)
            for number, (place, largest) in enumerate(steps):
                value = values[place]
                if value is not None:
                    before = running[number]
                    if before is None or largest:
                        running[number] = value if before is None else max(before, value)
                    else:
                        running[number] = before + value

    def close(self) -> None:
        """No more rows come."""
        for (currency, key), running in self._running.items():
            for one, value in zip(self._columns[currency], running, strict=True):
                if value is not None:
                    self._whole[one.name, key] = value


def _quotient(column: Column, values: Mapping[str, Any]) -> int | None:
    one, other = (values.get(name) for name in column.ratio)
    return _divided(one, other, _scale(column))


def _scale(column: Column) -> int:
    return PPM if column.kind in _PER_MILLION else 1


def _divided(one: int | None, other: int | None, scale: int) -> int | None:
    if one is None or not other:
        return None
    if other < 0:
        one, other = -one, -other
    return div_half_up(scale * one, other)


def _add_up(result: Result) -> None:
    sums = result._sums
    for key in sorted({key for _, key in sums}):
        line: list[int | None] = []
        own = {name: value for (name, one), value in sums.items() if one == key}
        for column in result.columns:
            if column.ratio:
                line.append(_quotient(column, own))
            else:
                line.append(own.get(column.name))
        result.totals[key] = line
