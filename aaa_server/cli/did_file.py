"""A provider's inventory of numbers as CSV, read into rows or into named mistakes."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.cli.context import BadData
from aaa_server.rating.money import parse_micros, parse_nanos
from aaa_server.rating.prefix import number_of
from aaa_server.sheet import Unreadable, check_headers, csv_fault, not_utf8
from aaa_server.storage.dids import Row, Terms, check_number, check_terms
from aaa_server.storage.problem import BadValue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LINES_MAX = 500_000

# Column -> how else it is called: in lower case, letters and digits alone.
SYNONYMS = {
    "number": "did didnumber phone phonenumber telephone telephonenumber tn e164 msisdn",
    "setup": "setupfee setupcost nrc onetimefee onetime",
    "monthly": "monthlyfee monthlycost mrc month permonth",
    "per_minute": "rate minute perminuterate minuteprice priceperminute",
    "connect_fee": "connectionfee connect percall",
    "included_seconds": "included freeseconds graceseconds",
    "initial_seconds": "initial initialincrement",
    "increment_seconds": "increment nextincrement",
}
COLUMNS = tuple(SYNONYMS)
_KNOWN_AS = {
    name: column
    for column, synonyms in SYNONYMS.items()
    for name in (column.replace("_", ""), *synonyms.split())
}


class Bad(NamedTuple):
    """One thing that is wrong, and where."""

    line: int
    column: str
    value: str
    reason: str


class Inventory(NamedTuple):
    """What a file holds; `lines` has each row's line, `ignored` the headers that mean nothing."""

    rows: list[Row]
    lines: list[int]
    bad: list[Bad]
    ignored: list[str]


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(f"{text!r} is no number of seconds")
    return int(text)


_READERS: dict[str, tuple[str, Callable[[str], int]]] = {
    "setup": ("setup_micros", parse_micros),
    "monthly": ("monthly_micros", parse_micros),
    "per_minute": ("per_minute_nanos", parse_nanos),
    "connect_fee": ("connect_fee_micros", parse_micros),
    "included_seconds": ("included_seconds", _seconds),
    "initial_seconds": ("initial_seconds", _seconds),
    "increment_seconds": ("increment_seconds", _seconds),
}


def read(path: Path) -> Inventory:
    """All rows of the CSV file at `path`: UTF-8, a line of headers, `,` `;` or tab between.

    Raises `BadData` for what is no such file, and `OSError`. What a row does not say is 0,
    and blocks of 60 s.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=start.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            headers = next(reader, [])
            check_headers(path, 1, headers)
            places = _places(path, headers)
            ignored = [
                header
                for place, header in enumerate(headers)
                if place not in places.values() and header.strip()
            ]
            found = Inventory([], [], [], ignored)
            seen: dict[str, int] = {}
            begin = reader.line_num + 1
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    _read_line(found, seen, begin, cells, places)
                begin = reader.line_num + 1
                if begin > LINES_MAX:
                    raise BadData(f"{path}: more than {LINES_MAX} lines: split it")
    except Unreadable as error:
        raise BadData(str(error)) from error
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: {not_utf8(error)}") from error
    except csv.Error as error:
        raise BadData(f"{path}: line {reader.line_num}: {csv_fault(error)}") from error
    return found


def _places(path: Path, headers: Sequence[str]) -> dict[str, int]:
    """Which cell of a line is which column."""
    places: dict[str, int] = {}
    for place, header in enumerate(headers):
        column = _KNOWN_AS.get(re.sub(r"[^a-z0-9]", "", header.lower()))
        if column is None:
            continue
        if column in places:
            raise BadData(f"{path}: line 1: {header.strip()!r} is a second column {column}")
        places[column] = place
    if "number" not in places:
        raise BadData(f"{path}: line 1 has no header number; the columns are {', '.join(COLUMNS)}")
    return places


def _read_line(
    found: Inventory,
    seen: dict[str, int],
    line: int,
    cells: Sequence[str],
    places: dict[str, int],
) -> None:
    values: dict[str, int] = {}
    number = ""
    before = len(found.bad)
    for column, place in places.items():
        text = cells[place].strip() if place < len(cells) else ""
        try:
            if column == "number":
                number = check_number(number_of(text) or text)
            elif text:
                name, read_cell = _READERS[column]
                values[name] = read_cell(text)
        except (ValueError, BadValue) as error:
            found.bad.append(Bad(line, column, text, str(error)))
    if number in seen:
        reason = f"it stands in line {seen[number]} already"
        found.bad.append(Bad(line, "number", number, reason))
    if len(found.bad) > before:
        return
    seen[number] = line
    try:
        found.rows.append(Row(number, check_terms(Terms(**values))))
        found.lines.append(line)
    except BadValue as error:
        found.bad.append(Bad(line, "", number, str(error)))
