"""Providers' call records: CSV or XLSX as they send them, read line by line.

A line is a call that its provider charges for. What cannot be read is a bad line, with its
column, value and reason; memory stays the same however long the file is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from aaa_server import sheet
from aaa_server.sheet import BadLine, Sheet, Unreadable, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

T = TypeVar("T")

BAD_LINES_MAX = 10_000  # more, and it is the reading that is wrong, not the lines
SECONDS_MAX = 7 * 86_400
DIGITS_MAX = 40
PROGRESS_LINES = 5_000

# Column -> how others call it: in lower case, letters and digits alone.
SYNONYMS = {
    "called": "callednumber calledparty calledpartynumber callednum callee cld dnis dst bnumber "
    "number dialednumber dialed diallednumber dialled destinationnumber numbercalled tonumber to",
    "ani": "callingnumber callingparty callingpartynumber caller callernumber callerid cli clid "
    "anumber source src from fromnumber origin originnumber",
    "answer": "answertime answeredat answerdate connecttime connectedat connecttimestamp connect",
    "time": "starttime start startdate startdatetime begin begintime calldate calltime "
    "callstart callstarttime datetime timestamp date dateandtime calldatetime",
    "setup": "setuptime setupdate callsetuptime invitetime",
    "end": "endtime enddate stoptime stop disconnecttime hanguptime releasetime",
    "seconds": "duration durations durationsec durationseconds callduration billsec talktime "
    "conversationtime length sec secs seconds durationinseconds",
    "billed": "billedseconds billedduration billeddurations billeddurationsec chargedduration "
    "chargeableduration billableseconds billableduration roundedduration billduration",
    "amount": "cost charge charged totalcost totalcharge total callcost callcharge chargeamount "
    "amountcharged netamount revenue fee",
    "rate": "rateperminute ratepermin ratemin priceperminute pricepermin costperminute unitprice "
    "tariff",
    "code": "prefix dialcode destinationcode areacode breakout",
    "destination": "destinationname dest zone zonename country countryname description",
    "currency": "cur ccy",
}
COLUMNS = tuple(SYNONYMS)
# The surest first: a file has several, and one is compared.
TIMES = ("answer", "time", "setup", "end")
DURATIONS = ("seconds", "billed")
DATE_ORDERS = ("ymd", "dmy", "mdy")
UNITS = {"seconds": Decimal(1), "minutes": Decimal(60), "milliseconds": Decimal("0.001")}

_AROUND_NUMBER = re.compile(r"[\s()./+-]")
_WRAPPED = re.compile(r"(?:sips?|tel):([^@;>]+)", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]{1,4}):([0-5][0-9])(?::([0-5][0-9](?:\.[0-9]+)?))?")
_ORDERED = re.compile(r"([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4}|[0-9]{2})(?:[ T]+(.*))?")
_EPOCH = re.compile(r"([0-9]{10})(?:[0-9]{3})?(?:\.0*)?")
_ZONE_NAME = re.compile(r"\s*(?:UTC|GMT|Z)$", re.IGNORECASE)
_HALF_DAY = re.compile(r"([0-9]{1,2})(:[0-9]{2}(?::[0-9]{2})?)\s*([AP])M", re.IGNORECASE)
_CURRENCY_SIGNS = " \u00a0$€£"


class Reading(NamedTuple):
    """How a file is read: the zone of times without one, the order of dates, what a duration is."""

    time_zone: str = "UTC"
    date_order: str = "ymd"
    duration_unit: str = "seconds"


class TheirCall(NamedTuple):
    """One line. None where the file has no such column, or nothing in it.

    `number` is digits alone without leading zeros; `seconds` are rounded up; amounts are
    rounded half up to a micro.
    """

    line: int
    number: str
    ani: str
    at: datetime
    seconds: int
    micros: int | None
    nanos: int | None
    code: str
    destination: str


class Counts(NamedTuple):
    """What went by: lines with data, and those of no second and no money."""

    lines: int
    unanswered: int


class ProviderFile:
    """The calls of an open file, once; what was wrong is in `bad` afterwards.

    `time` is the column that calls are compared by, `duration` that of the seconds talked,
    else of the seconds billed.
    """

    def __init__(
        self,
        table: Sheet,
        path: Path,
        *,
        currency: str,
        reading: Reading,
        mapping: Mapping[str, str],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Reads up to the headers. Raises `Unreadable` where there are none."""
        self.headers = VOCABULARY.find(table, path, mapping)
        places = self.headers.places
        self.time = next(column for column in TIMES if column in places)
        self.duration = next(column for column in DURATIONS if column in places)
        self.bad: list[BadLine] = []
        self.counts = Counts(0, 0)
        self._table = table
        self._path = path
        self._currency = currency
        self._reading = reading
        self._progress = progress
        zone = ZoneInfo(reading.time_zone)
        self._number = lru_cache(maxsize=16_384)(_number)
        self._instant = lambda text: _instant(text, zone, reading.date_order)
        self._seconds = lru_cache(maxsize=16_384)(lambda text: _seconds(text, reading))
        self._amount = lru_cache(maxsize=16_384)(lambda text: self._decimal(text, 6))
        self._price = lru_cache(maxsize=16_384)(lambda text: self._decimal(text, 9))

    def calls(self) -> Iterator[TheirCall]:
        """The good lines. Raises `Unreadable` after `BAD_LINES_MAX` bad ones."""
        lines = unanswered = 0
        for line, cells in self._table.lines:
            if not any(cells):
                continue
            lines += 1
            call = self._call(line, cells)
            if call is None:
                if len(self.bad) > BAD_LINES_MAX:
                    raise Unreadable(
                        f"{self._path}: more than {BAD_LINES_MAX} bad lines, the first: "
                        f"{told(self.bad[0])}: is it read as it is meant (--map, --date-order)?"
                    )
            elif not call.seconds and not call.micros:
                unanswered += 1
            else:
                yield call
            self.counts = Counts(lines, unanswered)
            if self._progress is not None and lines % PROGRESS_LINES == 0:
                self._progress(self._table.position(), self._table.size)

    def _call(self, line: int, cells: Sequence[str]) -> TheirCall | None:
        """The line's call; None when it is bad."""
        places, headers = self.headers.places, self.headers
        bad_before = len(self.bad)

        def cell(column: str) -> str:
            place = places.get(column)
            return cells[place].strip() if place is not None and place < len(cells) else ""

        def value(column: str, read: Callable[[str], T], *, needed: bool = False) -> T | None:
            text = cell(column)
            if not text and not needed:
                return None
            try:
                return read(text)
            except ValueError as problem:
                self.bad.append(BadLine(line, headers.named[column], text, str(problem)))
                return None

        seconds = value(self.duration, self._seconds, needed=True)
        micros = value("amount", self._amount)
        number = value("called", self._number, needed=True)
        if seconds == 0 and not micros and not cell(self.time):
            # Nobody answered, so there is no time of an answer either.
            at: datetime | None = datetime.fromtimestamp(0, UTC)
        else:
            at = value(self.time, self._instant, needed=True)
        nanos = value("rate", self._price)
        value("currency", self._expect_currency)
        destination = value("destination", sheet.storable) or ""
        beyond = [one for one in cells[headers.width :] if one.strip()]
        if beyond:
            self.bad.append(
                BadLine(line, "", beyond[0], f"{len(cells)} cells, but {headers.width} headers")
            )
        if len(self.bad) > bad_before or number is None or at is None or seconds is None:
            return None
        return TheirCall(
            line,
            number,
            re.sub(r"[^0-9]", "", cell("ani")).lstrip("0")[:DIGITS_MAX],
            at,
            seconds,
            micros,
            nanos,
            re.sub(r"[^0-9*#]", "", cell("code"))[:DIGITS_MAX],
            " ".join(destination.split())[:200],
        )

    def _decimal(self, text: str, decimals: int) -> int:
        bare = text.strip(_CURRENCY_SIGNS)
        if self._table.decimal_comma and "." not in bare and bare.count(",") == 1:
            bare = bare.replace(",", ".")
        if not re.fullmatch(r"\+?[0-9]{0,12}(\.[0-9]{0,20})?", bare) or not re.search(
            "[0-9]", bare
        ):
            raise ValueError("a number, 0 or more, with a decimal point is expected")
        scaled = Decimal(bare).scaleb(decimals)
        return int(scaled.to_integral_value(ROUND_HALF_UP))

    def _expect_currency(self, text: str) -> str:
        if text.upper() != self._currency:
            raise ValueError(f"the provider's account is in {self._currency}")
        return text


def told(bad: BadLine) -> str:
    """A bad line in one line."""
    return f"line {bad.line}, {bad.column or 'cells'}, {bad.value!r}: {bad.reason}"


# ------------------------------------------------------------------ the headers


def _enough(columns: AbstractSet[str]) -> bool:
    return (
        "called" in columns and not columns.isdisjoint(TIMES) and not columns.isdisjoint(DURATIONS)
    )


VOCABULARY = Vocabulary(
    SYNONYMS,
    unit=re.compile(r"\((?:[a-z$€£/. ]*)\)|\b(?:usd|eur|gbp)\b|[$€£]", re.IGNORECASE),
    enough=_enough,
    needs="a called number, a time and a duration",
    example="--map called=HEADER --map time=HEADER --map seconds=HEADER",
)


# ------------------------------------------------------------------ the cells


def _number(text: str) -> str:
    """Digits without what stands around them, a technical prefix up to #, or leading zeros."""
    wrapped = _WRAPPED.search(text)
    bare = _AROUND_NUMBER.sub("", wrapped[1] if wrapped else text.partition("@")[0])
    bare = bare.rpartition("#")[2].replace("*", "")
    if re.fullmatch(r"[0-9]+[eE][0-9]+", bare):
        raise ValueError("a spreadsheet has rounded it: make the column text and enter it again")
    if not re.fullmatch(rf"[0-9]{{1,{DIGITS_MAX}}}", bare):
        raise ValueError(f"a phone number of 1 to {DIGITS_MAX} digits is expected")
    return bare.lstrip("0") or "0"


def _seconds(text: str, reading: Reading) -> int:
    """Whole seconds, rounded up as calls are charged."""
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        parts = [Decimal(part) for part in clock.groups() if part is not None]
        total = parts[0] * 60 + parts[1]
        total = total * 60 + parts[2] if len(parts) == 3 else total
    else:
        try:
            total = Decimal(text.replace(",", "."))
        except InvalidOperation:
            raise ValueError("a duration is expected: 63, 1:03 or 00:01:03") from None
        if not total.is_finite() or total < 0:
            raise ValueError("a duration is 0 or more")
        total *= UNITS[reading.duration_unit]
    if total > SECONDS_MAX:
        raise ValueError(f"more than {SECONDS_MAX} seconds, a week, is a mistake")
    return int(total.to_integral_value(ROUND_CEILING))


def _instant(text: str, zone: ZoneInfo, order: str) -> datetime:
    if not text:
        raise ValueError("it is empty")
    epoch = _EPOCH.fullmatch(text)
    if epoch is not None:
        milliseconds = timedelta(milliseconds=int(text[10:13])) if len(text) == 13 else timedelta()
        return datetime.fromtimestamp(int(epoch[1]), UTC) + milliseconds
    bare = _ZONE_NAME.sub("+00:00", text)
    half = _HALF_DAY.search(bare)
    if half is not None:
        hour = int(half[1]) % 12 + (12 if half[3] in "pP" else 0)
        bare = f"{bare[: half.start()]}{hour:02}{half[2]}{bare[half.end() :]}"
    ordered = _ORDERED.fullmatch(bare)
    if ordered is not None and (order != "ymd" or "." in text.split()[0]):
        # A date with points is written by people who put the day first.
        day, month = (ordered[2], ordered[1]) if order == "mdy" else (ordered[1], ordered[2])
        year = ordered[3] if len(ordered[3]) == 4 else f"20{ordered[3]}"
        clock = re.sub(r"^([0-9]):", r"0\1:", ordered[4] or "")
        bare = f"{year}-{month:0>2}-{day:0>2}{f' {clock}' if clock else ''}"
    elif ordered is not None:
        raise ValueError("which is the day and which the month? --date-order dmy or mdy says it")
    if ":" not in bare:
        raise ValueError("a date and a time of day are expected")
    return sheet.instant(bare, zone)
