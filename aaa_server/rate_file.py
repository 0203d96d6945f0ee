"""Rate files: CSV or XLSX as carriers send them, read into rows or into named mistakes.

Nothing is guessed about a price: a cell that is not exactly a number, a prefix that stands
twice, a date that has two readings is a bad line, with its line, column, value and reason.
What is found by itself is the form: delimiter, the line of the headers, what they mean.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from aaa_server import sheet
from aaa_server.rating.bounds import PRICE_NANOS_MAX, checked_fee, checked_price
from aaa_server.rating.money import parse_micros, parse_nanos
from aaa_server.rating.steps import parse_steps
from aaa_server.sheet import BadLine, Headers, Sheet, Unreadable, Vocabulary
from aaa_server.storage.rates import RateRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

LINES_MAX = 3_000_000
BLOCK_SECONDS_MAX = 86_400  # a longer billing block or grace time is a mistake
PROGRESS_LINES = 2_000

# Column -> how others call it: in lower case, letters and digits alone.
SYNONYMS = {
    "prefix": "code codes dialcode dialcodes dialingcode diallingcode dialprefix dialpattern "
    "destinationcode pattern prefixes e164 breakout",
    "destination": "destinationname dest name description country countryname zone zonename "
    "region location area route routename",
    "connect_fee": "connectionfee connectcost connectioncost connectcharge connectioncharge "
    "setupfee setupcost setupcharge setup callsetup flagfall surcharge",
    "per_minute": "rate price cost costmin costperminute costpermin perminutecost permincost "
    "ratemin rateperminute ratepermin perminuterate pricemin priceperminute pricepermin "
    "perminuteprice minuterate minuteprice newrate newprice currentrate",
    "included_seconds": "included gracetime graceperiod graceseconds freeseconds",
    "initial_seconds": "initial initialincrement initialinterval initialblock initialperiod "
    "firstincrement firstinterval firstblock interval1 minimumseconds minimumduration mintime",
    "increment_seconds": "increment intervaln nextincrement nextinterval nextblock "
    "subsequentincrement subsequentinterval additionalincrement secondinterval",
    "minimum_charge": "mincharge minimumcost mincost minimumfee minfee",
    "effective_from": "effective effectivedate effectivetime effectivedatetime startdate "
    "starttime start validfrom from begin begindate activationdate activefrom datefrom",
    "effective_to": "enddate endtime end validto validuntil until to expires expiry expirydate "
    "expirationdate dateto",
    "blocked": "block barred banned disabled forbidden",
    "strip": "stripdigits removedigits removeprefix",
    "prepend": "prependdigits addprefix adddigits",
    "priority": "precedence preference lcrpriority order",
    "band": "timeband timeperiod timeofday timeofdayband ratetype timeclass",
    "steps": "pricesteps ratesteps steppedprice tiers",
    "route": "forcedroute resourcegroup trunk",
    # Not a column of its own: both block lengths in one cell, "60/1".
    "interval": "interval1n intervals billing billingincrement billingincrements "
    "billinginterval billingterms billingunit increments rounding pulse",
}
COLUMNS = tuple(SYNONYMS)

_CURRENCY_SIGNS = " \u00a0$€£"
_INTERVAL = re.compile(r"([0-9]{1,5})\s*[/+:-]\s*([0-9]{1,5})")
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0*)?")
_SIGNED = re.compile(r"-?[0-9]{1,9}")
_PREFIX = re.compile(r"[0-9*#]{1,32}")
_PREPEND = re.compile(r"[0-9*#+]{0,32}")
_YES = frozenset(("1", "yes", "y", "true", "t", "on", "x", "blocked"))
_NO = frozenset(("0", "no", "n", "false", "f", "off", "-"))
# How databases and people write that there is no date; and, of ends, that there is none.
_NO_DATE = frozenset(("-", "none", "null", "0000-00-00", "0000-00-00 00:00:00"))
_NO_BAND = frozenset(("-", "all", "any", "always", "none"))
_NEVER = re.compile(r"never|9999-12-31.*")


class Defaults(NamedTuple):
    """What a row gets where the file says nothing, and the zone of times without one.

    Also what a row may name: the list's `bands`, and by name the outbound resource groups
    that its calls can be forced over; and how large a price a minute may be.
    """

    initial_seconds: int = 60
    increment_seconds: int = 60
    time_zone: str = "UTC"
    bands: frozenset[str] = frozenset()
    routes: Mapping[str, int] = {}
    price_nanos_max: int = PRICE_NANOS_MAX


class RateFile(NamedTuple):
    """What a file holds: its good rows, its bad lines, and which headers were understood."""

    rows: list[RateRow]
    bad: list[BadLine]
    headers: dict[str, str]  # column -> header
    ignored: list[str]  # headers that mean nothing here
    lines: int  # with data


def read(
    path: Path,
    *,
    effective: datetime,
    defaults: Defaults | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RateFile:
    """All rows of the file at `path`.

    Rows without a date begin at `effective`. `mapping` names the header of a column where
    the synonyms do not find it. `progress` is called with what is done, and of how much.
    Raises `Unreadable`, and `OSError`.
    """
    defaults = defaults or Defaults()
    with sheet.opened(path, columns=len(COLUMNS)) as table:
        return _read_table(table, path, effective, defaults, mapping or {}, progress)


def _read_table(
    table: Sheet,
    path: Path,
    effective: datetime,
    defaults: Defaults,
    mapping: Mapping[str, str],
    progress: Callable[[int, int], None] | None,
) -> RateFile:
    headers = VOCABULARY.find(table, path, mapping)
    reader = _RowReader(headers, defaults, decimal_comma=table.decimal_comma)
    rows: list[RateRow] = []
    bad: list[BadLine] = []
    lines = 0
    for line, cells in table.lines:
        if not any(cells):
            continue
        lines += 1
        if lines > LINES_MAX:
            raise Unreadable(f"{path}: more than {LINES_MAX} lines: split it")
        problems_before = len(bad)
        row = reader.row(line, cells, bad)
        if len(bad) == problems_before:
            rows.append(row)
        if progress is not None and lines % PROGRESS_LINES == 0:
            progress(table.position(), table.size)
    rows = _without_overlaps(rows, effective, headers, bad)
    bad.sort(key=lambda problem: problem.line)
    return RateFile(rows, bad, headers.named, headers.ignored, lines)


# ------------------------------------------------------------------ the headers


def _preferred(column: str, places: list[int], cells: Sequence[str]) -> int | None:
    """Of country, zone and destination, all in one file, the one that says most."""
    names = [sheet.bare(cells[place]) for place in places]
    order = (column, *SYNONYMS[column].split())
    if column != "destination" or len(set(names)) < len(names) or not set(names) <= set(order):
        return None
    return min(places, key=lambda place: order.index(names[places.index(place)]))


VOCABULARY = Vocabulary(
    SYNONYMS,
    unit=re.compile(r"\b(usd|eur|gbp|cad|aud|chf)\b|[$€£]", re.IGNORECASE),
    enough=frozenset(("prefix", "per_minute")).issubset,
    needs="a prefix and a price",
    example="--map prefix=HEADER --map per_minute=HEADER",
    preferred=_preferred,
)


# ------------------------------------------------------------------ the rows


class _RowReader:
    """Turns the cells of a line into a row, with what each column needs."""

    def __init__(self, headers: Headers, defaults: Defaults, *, decimal_comma: bool) -> None:
        self._headers = headers
        self._zone = ZoneInfo(defaults.time_zone)
        self._bands = defaults.bands
        self._routes = defaults.routes
        self._most = defaults.price_nanos_max
        self._comma = decimal_comma
        self._base = RateRow(
            prefix="",
            per_minute_nanos=0,
            initial_seconds=defaults.initial_seconds,
            increment_seconds=defaults.increment_seconds,
        )
        readers: dict[str, tuple[str, Callable[[str], Any]]] = {
            "prefix": ("prefix", _prefix),
            "destination": ("destination", sheet.storable),
            "connect_fee": ("connect_fee_micros", self._amount(_fee)),
            "per_minute": ("per_minute_nanos", self._amount(self._price)),
            "included_seconds": ("included_seconds", _seconds),
            "initial_seconds": ("initial_seconds", _seconds),
            "increment_seconds": ("increment_seconds", _increment),
            "minimum_charge": ("minimum_charge_micros", self._amount(_fee)),
            "effective_from": ("effective_from", self._instant),
            "effective_to": ("effective_to", self._end),
            "blocked": ("blocked", _yes_or_no),
            "strip": ("strip", _strip),
            "prepend": ("prepend", _prepend),
            "priority": ("priority", _priority),
            "band": ("band", self._band),
            "steps": ("steps", self._steps),
            "route": ("resource_group_id", self._route),
            "interval": ("interval", _interval),
        }
        places = headers.places
        if "initial_seconds" not in places and "interval" not in places:
            # "Increment" then often holds both: 60/1.
            readers["increment_seconds"] = ("interval", _interval_or_increment)
        # The same prices, dates and blocks stand in thousands of lines: read once each.
        self._plan = [
            (place, headers.named[column], field, lru_cache(maxsize=16_384)(read_cell))
            for column, place in places.items()
            for field, read_cell in (readers[column],)
        ]
        self._width = headers.width

    def row(self, line: int, cells: Sequence[str], bad: list[BadLine]) -> RateRow:
        """The row; worth nothing when `bad` has grown."""
        values: dict[str, Any] = {"line": line}
        for place, header, field, read_cell in self._plan:
            text = cells[place].strip() if place < len(cells) else ""
            if text:
                try:
                    values[field] = read_cell(text)
                except ValueError as problem:
                    bad.append(BadLine(line, header, text, str(problem)))
        interval = values.pop("interval", None)
        if interval is not None:
            if interval[0] is not None:
                values["initial_seconds"] = interval[0]
            values["increment_seconds"] = interval[1]
        self._check(line, cells, values, bad)
        return self._base._replace(**values)

    def _check(
        self, line: int, cells: Sequence[str], values: dict[str, Any], bad: list[BadLine]
    ) -> None:
        """What must be there, what must not, and what must fit together."""
        named = self._headers.named
        reported = {problem.column for problem in bad if problem.line == line} if bad else set()
        for column, field in (("prefix", "prefix"), ("per_minute", "per_minute_nanos")):
            if field not in values and named[column] not in reported:
                bad.append(BadLine(line, named[column], "", "it is empty"))
        beyond = [cell for cell in cells[self._width :] if cell.strip()]
        if beyond:
            bad.append(
                BadLine(
                    line,
                    "",
                    beyond[0],
                    f"{len(cells)} cells, but {self._width} headers: is a quote missing around "
                    "a text with the delimiter in it?",
                )
            )
        begins, ends = values.get("effective_from"), values.get("effective_to")
        if begins is not None and ends is not None and ends <= begins:
            bad.append(
                BadLine(
                    line, named["effective_to"], ends.isoformat(), "it is not after the beginning"
                )
            )

    def _amount(self, parse: Callable[[str], int]) -> Callable[[str], int]:
        def read_amount(text: str) -> int:
            bare = text.strip(_CURRENCY_SIGNS)
            if self._comma and "." not in bare and bare.count(",") == 1:
                bare = bare.replace(",", ".")
            value = parse(bare)
            if value < 0:
                raise ValueError("it is below 0")
            return value

        return read_amount

    def _band(self, text: str) -> str:
        if text.lower() in _NO_BAND:
            return ""
        if text not in self._bands:
            there_are = ", ".join(sorted(self._bands)) or "none"
            raise ValueError(f"the price list has no such band; there are: {there_are}")
        return text

    def _steps(self, text: str) -> tuple[tuple[int, int], ...]:
        steps = parse_steps(text.replace(",", ".") if self._comma else text)
        for _, nanos in steps:
            checked_price(nanos, self._most)
        return steps

    def _price(self, text: str) -> int:
        return checked_price(parse_nanos(text), self._most)

    def _route(self, text: str) -> int:
        name = text.upper() if text.upper().startswith("RG_") else f"RG_{text}"
        if name not in self._routes:
            raise ValueError("there is no such outbound resource group")
        return self._routes[name]

    def _end(self, text: str) -> datetime | None:
        return None if _NEVER.fullmatch(text.lower()) else self._instant(text)

    def _instant(self, text: str) -> datetime | None:
        if text.lower() in _NO_DATE:
            return None
        return sheet.instant(text, self._zone)


def _fee(text: str) -> int:
    return checked_fee(parse_micros(text))


def _prefix(text: str) -> str:
    bare = text.removeprefix("+").replace(" ", "")
    if not _PREFIX.fullmatch(bare):
        if re.fullmatch(r"[0-9.,]+[eE]\+?[0-9]+", bare):
            raise ValueError(
                "a spreadsheet has rounded it: make the column text and enter it again"
            )
        raise ValueError("1 to 32 digits, * and # make a prefix")
    return bare


def _seconds(text: str) -> int:
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise ValueError("whole seconds are expected")
    seconds = int(match[1])
    if seconds > BLOCK_SECONDS_MAX:
        raise ValueError(f"more than {BLOCK_SECONDS_MAX} seconds, a day, is a mistake")
    return seconds


def _increment(text: str) -> int:
    seconds = _seconds(text)
    if seconds == 0:
        raise ValueError("an increment is at least 1 second")
    return seconds


def _interval(text: str) -> tuple[int | None, int]:
    """Initial block and increment; a number alone is both."""
    match = _INTERVAL.fullmatch(text)
    if match is not None:
        return _seconds(match[1]), _increment(match[2])
    if not _WHOLE.fullmatch(text):
        raise ValueError("initial block and increment are expected, like 60/1")
    return _increment(text), _increment(text)


def _interval_or_increment(text: str) -> tuple[int | None, int]:
    """As `_interval`, but a number alone says nothing about the initial block."""
    return _interval(text) if _INTERVAL.fullmatch(text) else (None, _increment(text))


def _yes_or_no(text: str) -> bool:
    word = text.lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError("yes or no is expected")


def _strip(text: str) -> int:
    match = _WHOLE.fullmatch(text)
    if match is None or int(match[1]) > 32:
        raise ValueError("0 to 32 digits can be stripped")
    return int(match[1])


def _prepend(text: str) -> str:
    if not _PREPEND.fullmatch(text):
        raise ValueError("digits, *, # and + can be prepended, 32 at most")
    return text


def _priority(text: str) -> int:
    bare = text.removesuffix(".0")
    if not _SIGNED.fullmatch(bare):
        raise ValueError("a whole number is expected")
    return int(bare)


# ------------------------------------------------------------------ lines against each other


def _without_overlaps(
    rows: list[RateRow], effective: datetime, headers: Headers, bad: list[BadLine]
) -> list[RateRow]:
    """The rows that no other of their prefix and band contradicts; those go to `bad`."""
    by_prefix: dict[tuple[str, str], list[RateRow]] = {}
    for row in rows:
        by_prefix.setdefault((row.prefix, row.band), []).append(row)
    left_out: set[int] = set()
    for (prefix, _), mine in by_prefix.items():
        if len(mine) > 1:
            left_out.update(_contradictions(prefix, mine, effective, headers, bad))
    for row in rows:
        ends = row.effective_to
        if ends is not None and row.effective_from is None and ends <= effective:
            reason = f"it is not after the beginning, {effective.isoformat()}"
            bad.append(BadLine(row.line, headers.named["effective_to"], ends.isoformat(), reason))
            left_out.add(row.line)
    return [row for row in rows if row.line not in left_out] if left_out else rows


def _contradictions(
    prefix: str,
    rows: Iterable[RateRow],
    effective: datetime,
    headers: Headers,
    bad: list[BadLine],
) -> set[int]:
    """The lines, all of them, that say two things about one prefix at one time."""
    left_out: set[int] = set()
    dated = sorted((row.effective_from or effective, row.line, row) for row in rows)
    for (begins, line, row), (next_begins, next_line, _) in pairwise(dated):
        if begins == next_begins:
            reason = f"the same prefix at the same time stands in line {line}"
        elif row.effective_to is not None and row.effective_to > next_begins:
            reason = (
                f"its row begins at {next_begins.isoformat()}, before the one in line {line} ends"
            )
        else:
            continue
        bad.append(BadLine(next_line, headers.named["prefix"], prefix, reason))
        left_out.update((line, next_line))
    return left_out
