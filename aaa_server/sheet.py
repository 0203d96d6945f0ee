"""Tables that others send, CSV or XLSX: the form is found by itself, cells come as text.

Nothing is guessed about what a cell says. What cannot be read says why and what to do.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import re
import warnings
import zipfile
import zlib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path
    from zoneinfo import ZoneInfo

HEADER_WITHIN_LINES = 30  # titles, addresses and notices may stand above the headers

# PostgreSQL's text has no NUL, and UTF-8 no half of a pair of UTF-16.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# How the messages of Python's csv begin.
_CSV_FAULTS = {
    "new-line character seen": "a carriage return stands alone outside of quotes, as old "
    "Macintoshes ended their lines: save it with line ends LF or CRLF",
    "unexpected end of data": "a quote is opened here and never closed",
    "field larger than": f"a cell has more than {csv.field_size_limit()} characters: "
    "is a quote missing?",
    "'": "something stands behind a closing quote: a quote within quotes is doubled",
}
_GERMAN_DATE = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(.*)")


class Unreadable(Exception):
    """It is no such file, or its columns cannot be told; the text says what and what to do."""


class BadLine(NamedTuple):
    """One thing that is wrong. `column` is the header as it stands in the file."""

    line: int
    column: str
    value: str
    reason: str


class Headers(NamedTuple):
    """Which columns were understood, and in which cells; `named` as they stand in the file."""

    places: dict[str, int]
    named: dict[str, str]
    ignored: list[str]
    width: int


class Sheet(NamedTuple):
    """The lines of a file with their numbers, and how they are written."""

    lines: Iterator[tuple[int, Sequence[str]]]
    decimal_comma: bool
    position: Callable[[], int]
    size: int


@contextlib.contextmanager
def opened(path: Path, *, columns: int) -> Iterator[Sheet]:
    """The table at `path`, which has `columns` columns or so. Raises `Unreadable`, `OSError`."""
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PK\x03\x04"):
            table = _open_xlsx(file, path)
        elif start.startswith(b"\xd0\xcf\x11\xe0"):
            raise Unreadable(f"{path}: the old Excel format (XLS): save it as XLSX or CSV")
        else:
            table = _open_csv(file, path, columns)
        yield table


class Vocabulary:
    """What the headers of one kind of file are called, and which of them it needs.

    `synonyms` are column -> how others call it, in lower case, letters and digits alone;
    `unit` is what may stand in a header besides. `enough` says whether these columns make
    such a file, `needs` and `example` say it to a person. `preferred` may choose among
    several headers of one column, in whose cells they are; None: it is to be asked for.
    """

    def __init__(
        self,
        synonyms: Mapping[str, str],
        *,
        unit: re.Pattern[str],
        enough: Callable[[AbstractSet[str]], bool],
        needs: str,
        example: str,
        preferred: Callable[[str, list[int], Sequence[str]], int | None] | None = None,
    ) -> None:
        self.columns = tuple(synonyms)
        self._unit = unit
        self._enough = enough
        self._needs = needs
        self._example = example
        self._preferred = preferred
        self._known_as = {
            bare(name): column
            for column, others in synonyms.items()
            for name in (column, *others.split())
        }

    def find(self, table: Sheet, path: Path, mapping: Mapping[str, str]) -> Headers:
        """The headers, which end the lines above them. `mapping` is column -> its header.

        Raises `Unreadable` where there are none, or one could mean what another does.
        """
        for column in mapping:
            if column not in self.columns:
                raise Unreadable(
                    f"--map {column}: no such column; there are {', '.join(self.columns)}"
                )
        first: tuple[int, Sequence[str]] | None = None
        for line, cells in table.lines:
            if not any(cells) or (line == 1 and cells[0].startswith("sep=")):
                continue
            first = first or (line, cells)
            check_headers(path, line, cells)
            headers = self._headers(line, cells, mapping)
            if headers is not None:
                return headers
            if line >= HEADER_WITHIN_LINES:
                break
        if first is None:
            raise Unreadable(f"{path}: it is empty")
        found = ", ".join(repr(cell.strip()) for cell in first[1] if cell.strip())
        named = "".join(f" and {header!r} (--map {column})" for column, header in mapping.items())
        raise Unreadable(
            f"{path}: no line of headers with {self._needs}{named} among the first "
            f"{HEADER_WITHIN_LINES}; line {first[0]} has {found}: say what is what with "
            f"{self._example}"
        )

    def _headers(
        self, line: int, cells: Sequence[str], mapping: Mapping[str, str]
    ) -> Headers | None:
        """The headers in this line; None when what is needed is not there."""
        wanted = {header.strip().lower(): column for column, header in mapping.items()}
        candidates: dict[str, list[int]] = {}
        for place, cell in enumerate(cells):
            name = cell.strip().lower()
            column = wanted.get(name) or (self._meaning(name) if name else None)
            if column is not None and (column not in mapping or name in wanted):
                candidates.setdefault(column, []).append(place)
        if not (self._enough(candidates.keys()) and mapping.keys() <= candidates.keys()):
            return None
        places = {
            column: self._the_one(line, column, found, cells)
            for column, found in candidates.items()
        }
        return Headers(
            places,
            {column: cells[place].strip() for column, place in places.items()},
            [
                cell.strip()
                for place, cell in enumerate(cells)
                if cell.strip() and place not in places.values()
            ],
            len(cells),
        )

    def _meaning(self, header: str) -> str | None:
        known = self._known_as
        return known.get(bare(header)) or known.get(bare(self._unit.sub("", header)))

    def _the_one(self, line: int, column: str, places: list[int], cells: Sequence[str]) -> int:
        """Of several headers that could mean `column`, the one that does."""
        if len(places) == 1:
            return places[0]
        preferred = self._preferred and self._preferred(column, places, cells)
        if preferred is not None:
            return preferred
        both = " and ".join(repr(cells[place].strip()) for place in places)
        raise Unreadable(
            f"line {line}: {both} could both be {column}: say which with --map {column}=HEADER"
        )


def check_headers(path: Path, line: int, cells: Sequence[str]) -> None:
    """Raises `Unreadable` for one that cannot be stored: what was ignored is noted by name."""
    for place, cell in enumerate(cells, 1):
        try:
            storable(cell)
        except ValueError as error:
            raise Unreadable(f"{path}: line {line}, cell {place}: {error}") from None


def bare(header: str) -> str:
    """The letters and digits of it, in lower case."""
    return re.sub(r"[^a-z0-9]", "", header.lower())


def storable(text: str) -> str:
    """The text itself. Raises `ValueError` for characters that no database keeps."""
    wrong = _UNSTORABLE.search(text)
    if wrong is not None:
        raise ValueError(
            f"character {wrong.start() + 1} is U+{ord(wrong[0]):04X}, which cannot be stored: "
            "take it out"
        )
    return text


def csv_fault(error: csv.Error) -> str:
    """What is wrong with the line, and what to do; Python's own words are about Python."""
    text = str(error)
    for begin, meaning in _CSV_FAULTS.items():
        if text.startswith(begin):
            return meaning
    return text


def not_utf8(error: UnicodeDecodeError) -> str:
    """Which octet it is and behind what, and what to do."""
    before = error.object[max(0, error.start - 20) : error.start].decode(errors="replace")
    behind = f" behind {before!r}" if before else ""
    return f"not UTF-8 (octet 0x{error.object[error.start]:02x}{behind}): save it as UTF-8"


def instant(text: str, zone: ZoneInfo) -> datetime:
    """The instant in UTC; one without a zone is of `zone`. Raises `ValueError`."""
    german = _GERMAN_DATE.fullmatch(text)
    if german is not None:
        iso = f"{german[3]}-{german[2]:0>2}-{german[1]:0>2}{german[4]}"
    elif re.match(r"[0-9]{4}/", text):
        iso = text.replace("/", "-")
    else:
        iso = text
    try:
        when = datetime.fromisoformat(iso)
        if when.tzinfo is None:
            when = when.replace(tzinfo=zone)
        return when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            "it is no date that has only one reading: 2026-11-22, 2026-11-22 18:30 or "
            "2026-11-22T18:30:00Z do"
        ) from None


def _open_csv(file: io.BufferedReader, path: Path, columns: int) -> Sheet:
    size = path.stat().st_size
    start = file.read(64 * 1024)
    file.seek(0)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable(f"{path}: UTF-16 text: save it as UTF-8")
    delimiter = _delimiter(start.decode("utf-8-sig", errors="replace"), columns)
    text = codecs.iterdecode(file, "utf-8-sig")
    # strict: a quote that is never closed must not swallow the rest of the file.
    reader = csv.reader(text, delimiter=delimiter, strict=True)

    def lines() -> Iterator[tuple[int, Sequence[str]]]:
        line = 1
        try:
            for cells in reader:
                yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise Unreadable(f"{path}: line {line}: {csv_fault(error)}") from error
        except UnicodeDecodeError as error:
            raise Unreadable(f"{path}: line {line}: {not_utf8(error)}") from error

    return Sheet(lines(), delimiter == ";", file.tell, size)


def _delimiter(start: str, columns: int) -> str:
    """The separator that the first lines have most of, quoted text left out."""
    told = re.match(r"sep=(.)\r?\n", start)
    if told is not None:
        return told[1]
    counts = dict.fromkeys(";\t,", 0)
    for line in start.splitlines()[:HEADER_WITHIN_LINES]:
        bare = re.sub(r'"[^"]*"', "", line)
        for delimiter in counts:
            # A line's worth at most, so that a sentence full of commas does not outvote all.
            counts[delimiter] += min(bare.count(delimiter), columns)
    # Where there are as many: decimal commas and sentences make commas, nothing makes the others.
    return max(counts, key=lambda delimiter: counts[delimiter])


def _open_xlsx(file: io.BufferedReader, path: Path) -> Sheet:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    # What openpyxl lets out of a broken archive or its XML (ParseError is a SyntaxError).
    broken = (
        InvalidFileException,
        zipfile.BadZipFile,
        zlib.error,
        SyntaxError,
        LookupError,
        ValueError,
        TypeError,
        EOFError,
    )
    try:
        with warnings.catch_warnings():
            # Unknown extensions and styles are no concern of the numbers in the cells.
            warnings.simplefilter("ignore")
            book = load_workbook(file, read_only=True, data_only=True)
            sheet = book.active
    except broken as error:
        raise Unreadable(f"{path}: not a readable XLSX file: {error}") from error
    if sheet is None or not hasattr(sheet, "iter_rows"):
        raise Unreadable(f"{path}: its active sheet is no table")
    reached = 0

    def lines() -> Iterator[tuple[int, Sequence[str]]]:
        nonlocal reached
        try:
            for line, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                reached = line
                yield line, [_cell_text(cell) for cell in cells]
        except broken as error:
            raise Unreadable(f"{path}: behind line {reached}: broken XLSX: {error}") from error

    return Sheet(lines(), False, lambda: reached, sheet.max_row or 0)


def _cell_text(cell: Any) -> str:
    """A spreadsheet's cell as its text would stand in a CSV file."""
    match cell:
        case None:
            return ""
        case str():
            return cell
        case bool():
            return "yes" if cell else "no"
        case int():
            return str(cell)
        case float():
            # 15 digits are what a spreadsheet shows; the rest is binary noise.
            return format(Decimal(format(cell, ".15g")), "f")
        case datetime() | date() | time():
            return cell.isoformat()
        case _:
            return str(cell)
