"""Reports as files and on a terminal: CSV, JSON, XLSX and plain tables.

CSV, JSON and XLSX are written while the rows come: memory does not grow with the report.
CSV and JSON are for programs: the columns' names, exact values, nothing of a language.
"""

from __future__ import annotations

import csv
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any
from unicodedata import category

import xlsxwriter

from aaa_server.storage.problem import BadValue
from web_reports.cells import RIGHT, Speaker, csv_text, exact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from web_reports.period import Period
    from web_reports.report_run import Result, Tied

TABLE_ROWS_MAX = 100_000  # of what has to be known as a whole before its first line
SHEET_ROWS_MAX = 1_048_000  # Excel's own limit is 1,048,576
HEADER_ROW = 3
CELL_CHARACTERS_MAX = 32_767  # Excel


def write_csv(result: Result, file: IO[str]) -> None:
    """The rows, under the columns' names. Totals are not rows: they are left out."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in result.columns])
    kinds = [column.kind for column in result.columns]
    zone = result.zone
    for row in result.rows:
        writer.writerow(
            [csv_text(kind, value, zone) for kind, value in zip(kinds, row, strict=True)]
        )


def write_json(result: Result, file: IO[str], *, ties: bool) -> None:
    """One object: what was asked, the columns, the rows, totals, and what they tie to."""
    head = {
        "report": result.report.name,
        "as_of": result.as_of.astimezone(result.zone).isoformat(timespec="seconds"),
        "time_zone": result.zone.key,
        "period": period_json(result),
        "group_by": list(result.group_by),
        "parameters": result.asked,
        "columns": [
            {"name": one.name, "title": one.title, "kind": one.kind} for one in result.columns
        ],
    }
    text = json.dumps(head, indent=2, ensure_ascii=False)
    file.write(text.removesuffix("\n}") + ',\n  "rows": [')
    before = "\n    "
    for row in result.rows:
        file.write(before + json.dumps(_named(result, row), ensure_ascii=False))
        before = ",\n    "
    totals = [
        {"currency": key or None, **_named(result, line, leave_out=True)}
        for key, line in result.totals.items()
    ]
    file.write('\n  ],\n  "totals": ' + json.dumps(totals, ensure_ascii=False))
    tied = [tied_json(one, result) for one in result.ties()] if ties else None
    file.write(',\n  "ties": ' + json.dumps(tied, ensure_ascii=False) + "\n}\n")


def period_json(result: Result) -> dict[str, str] | None:
    """Begin and end of the period, for programs."""
    if result.period is None:
        return None
    return {
        "begin": result.period.begin.isoformat(),
        "end": result.period.end.isoformat(),
        "name": result.period.name,
    }


def tied_json(one: Tied, result: Result) -> dict[str, Any]:
    """A tie, its amounts exact."""
    kind = next(column.kind for column in result.columns if column.name == one.column)
    return {
        "title": one.title,
        "column": one.column,
        "currency": one.currency or None,
        "report": exact(kind, one.report, result.zone),
        "ledger": exact(kind, one.ledger, result.zone),
        "difference": exact(kind, one.difference, result.zone),
    }


def _named(
    result: Result, row: tuple[Any, ...] | list[int | None], *, leave_out: bool = False
) -> dict[str, Any]:
    return {
        column.name: exact(column.kind, value, result.zone)
        for column, value in zip(result.columns, row, strict=True)
        if not (leave_out and value is None)
    }


# ------------------------------------------------------------------ tables


def whole(result: Result, most: int) -> list[tuple[Any, ...]]:
    """All rows. Raises `BadValue` for more than `most`, and says which formats take more."""
    rows = list(islice(result.rows, most + 1))
    if len(rows) > most:
        raise BadValue(
            f"{result.report.name} has more than {most} rows: take a shorter period, group it, "
            "or write it with -o csv, json or xlsx, which have no limit"
        )
    return rows


def write_table(result: Result, file: IO[str], *, ties: bool) -> None:
    """For a terminal: titles, lines, totals, ties; in the reader's language."""
    speaker = Speaker(result.language, result.zone)
    rows = whole(result, TABLE_ROWS_MAX)
    lines = [[speaker.say(column.title) for column in result.columns]]
    lines += [[_printable(text) for text in line] for line in row_texts(result, rows, speaker)]
    body = len(lines)
    lines += total_texts(result, rows, speaker)
    widths = [max(len(line[place]) for line in lines) for place in range(len(result.columns))]
    file.write(f"{speaker.say(result.report.title)}: {describe(result, speaker)}\n\n")
    for place, line in enumerate(lines):
        if place in (1, body):
            file.write("  ".join("-" * width for width in widths) + "\n")
        cells = [
            text.rjust(width) if column.kind in RIGHT else text.ljust(width)
            for text, width, column in zip(line, widths, result.columns, strict=True)
        ]
        file.write("  ".join(cells).rstrip() + "\n")
    for text in tie_texts(result, speaker) if ties else []:
        file.write(f"\n{text}")
    file.write("\n" if ties and result.report.ties else "")


def _printable(text: str) -> str:
    """Text from outside that cannot move a terminal's cursor."""
    return "".join(one if one.isprintable() or category(one) == "Zs" else "·" for one in text)


def row_texts(result: Result, rows: Sequence[tuple[Any, ...]], speaker: Speaker) -> list[list[str]]:
    """The rows as people read them; the amounts of a column have their points in one place."""
    kinds = [column.kind for column in result.columns]
    decimals = _decimals(result, rows)
    return [
        [
            speaker.money(value, decimals[place])
            if kind == "money" and value is not None
            else speaker.cell(kind, value)
            for place, (kind, value) in enumerate(zip(kinds, row, strict=True))
        ]
        for row in rows
    ]


def _decimals(result: Result, rows: Sequence[tuple[Any, ...]]) -> dict[int, int]:
    """How many decimals the amounts of each column need, totals included; two at least."""
    found = {}
    for place, column in enumerate(result.columns):
        if column.kind == "money":
            values = [row[place] for row in (*rows, *result.totals.values()) if row[place]]
            idle = (10_000, 1_000, 100, 10)
            found[place] = next(
                (
                    2 + nth
                    for nth, scale in enumerate(idle)
                    if all(value % scale == 0 for value in values)
                ),
                6,
            )
    return found


def total_lines(result: Result, speaker: Speaker) -> list[list[Any]]:
    """A line for each currency, or one: the sums, the currency beside them, and `Total`."""
    lines = []
    for key, totals in result.totals.items():
        line: list[Any] = list(totals)
        named = {
            column.currency
            for column, value in zip(result.columns, totals, strict=True)
            if value is not None and column.total
        }
        for place, column in enumerate(result.columns):
            if column.kind == "currency" and column.name in named:
                line[place] = key
        if line[0] is None:
            line[0] = speaker.say("Total")
        lines.append(line)
    return lines


def total_texts(
    result: Result, rows: Sequence[tuple[Any, ...]], speaker: Speaker
) -> list[list[str]]:
    """The totals as people read them."""
    decimals = _decimals(result, rows)
    return [
        [
            value
            if isinstance(value, str)
            else speaker.money(value, decimals[place])
            if column.kind == "money" and value is not None
            else speaker.cell(column.kind, value)
            for place, (column, value) in enumerate(zip(result.columns, line, strict=True))
        ]
        for line in total_lines(result, speaker)
    ]


def describe(result: Result, speaker: Speaker) -> str:
    """Period, what else was asked, and as of when, in one line."""
    parts = []
    if result.period is not None:
        parts.append(f"{period_text(result.period, speaker)} ({result.zone.key})")
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in result.asked.items()]
    parts.append(f"{speaker.say('as of')} {speaker.time(result.as_of)}")
    parts.append(result.reader)
    return ", ".join(parts)


def period_text(period: Period, speaker: Speaker) -> str:
    """Its first and its last day; begin and end where it is not whole days."""
    begin, end = (one.astimezone(period.zone) for one in (period.begin, period.end))
    if any(one.time() != time() for one in (begin, end)):
        return f"{speaker.time(begin)} – {speaker.time(end)}"
    last = end.date() - timedelta(days=1)
    if last == begin.date():
        return speaker.day(last)
    return f"{speaker.day(begin.date())} – {speaker.day(last)}"


def tie_texts(result: Result, speaker: Speaker) -> list[str]:
    """What the totals tie to, and by how much they do not."""
    return [
        f"{speaker.say('Ties to')}: {speaker.say(one.title)}: "
        f"{_amount(one, one.report, result, speaker)} − {_amount(one, one.ledger, result, speaker)}"
        f" = {_amount(one, one.difference, result, speaker)} {one.currency}".rstrip()
        for one in result.ties()
    ]


def _amount(one: Tied, value: int, result: Result, speaker: Speaker) -> str:
    kind = next(column.kind for column in result.columns if column.name == one.column)
    return speaker.difference(value) if kind == "money" else speaker.cell(kind, value)


# ------------------------------------------------------------------ XLSX

_FORMATS = {
    "integer": "#,##0",
    "money": "#,##0.00####",
    "price": "#,##0.0000#####",
    "percent": "0.00%",
    "seconds": "[h]:mm:ss",
    "minutes": "#,##0.00",
    "milliseconds": "#,##0.000",
    "time": "yyyy-mm-dd hh:mm:ss",
    "hour": "yyyy-mm-dd hh:mm",
    "day": "yyyy-mm-dd",
}
_WIDTHS = {"time": 20, "hour": 17, "money": 16, "text": 18, "phone": 18, "integer": 11}
_SCALES = {
    "money": Decimal(10) ** -6,
    "price": Decimal(10) ** -9,
    "percent": Decimal(10) ** -6,
    "milliseconds": Decimal(10) ** -3,
    "minutes": Decimal(1) / 60,
    "seconds": Decimal(1) / 86_400,
}


class _Book:
    """A workbook that is written row by row; a full sheet is followed by another."""

    def __init__(self, result: Result, file: IO[bytes]) -> None:
        self.result = result
        self.speaker = Speaker(result.language, result.zone)
        self.book = xlsxwriter.Workbook(
            file,
            {
                "constant_memory": True,
                "strings_to_formulas": False,
                "strings_to_numbers": False,
                "strings_to_urls": False,
            },
        )
        self.book.set_properties({"created": result.as_of.replace(tzinfo=None)})
        plain = [_FORMATS.get(column.kind) for column in result.columns]
        self.formats = [self.book.add_format({"num_format": one or "@"}) for one in plain]
        bold = {"bold": True, "top": 1}
        self.bold = [self.book.add_format({**bold, "num_format": one or "@"}) for one in plain]
        self.title = self.book.add_format({"bold": True, "font_size": 14})
        self.head = self.book.add_format(
            {"bold": True, "bg_color": "#E8EEF4", "bottom": 1, "text_wrap": True, "valign": "top"}
        )
        self.sheets = 0
        self.row = 0
        self.sheet: Any = None
        self._begin_sheet()

    def _begin_sheet(self) -> None:
        self.sheets += 1
        name = self.result.report.name[:25]
        self.sheet = self.book.add_worksheet(name if self.sheets == 1 else f"{name} {self.sheets}")
        for place, column in enumerate(self.result.columns):
            self.sheet.set_column(place, place, _WIDTHS.get(column.kind, 14))
        self.sheet.freeze_panes(HEADER_ROW + 1, 0)
        self.sheet.repeat_rows(HEADER_ROW)
        self.sheet.set_landscape()
        self.sheet.fit_to_pages(1, 0)
        say = self.speaker.say
        self.sheet.write_string(0, 0, say(self.result.report.title), self.title)
        self.sheet.write_string(1, 0, describe(self.result, self.speaker))
        for place, column in enumerate(self.result.columns):
            self.sheet.write_string(HEADER_ROW, place, say(column.title), self.head)
        self.row = HEADER_ROW + 1

    def write(self, row: tuple[Any, ...] | list[Any], formats: list[Any]) -> None:
        """One more row."""
        if self.row >= SHEET_ROWS_MAX:
            self._begin_sheet()
        for place, (column, value) in enumerate(zip(self.result.columns, row, strict=True)):
            if value is not None and value != "":
                self._cell(place, column.kind, value, formats[place])
        self.row += 1

    def _cell(self, place: int, kind: str, value: Any, form: Any) -> None:
        if isinstance(value, bool):
            self.sheet.write_string(self.row, place, self.speaker.cell("yes", value), form)
        elif isinstance(value, int):
            self.sheet.write_number(self.row, place, float(value * _SCALES.get(kind, 1)), form)
        elif isinstance(value, datetime):
            local = value.astimezone(self.result.zone) if value.tzinfo else value
            self.sheet.write_datetime(self.row, place, local.replace(tzinfo=None), form)
        elif isinstance(value, date):
            self.sheet.write_datetime(self.row, place, value, form)
        else:
            # Always text, whatever it looks like: nothing in it is ever a formula.
            text = self.speaker.say(value) if kind == "word" else str(value)
            text = text[:CELL_CHARACTERS_MAX]
            self.sheet.write_string(self.row, place, text, form)

    def line(self, text: str) -> None:
        """A line of text below the rows."""
        self.sheet.write_string(self.row, 0, text)
        self.row += 1


def write_xlsx(result: Result, file: IO[bytes], *, ties: bool) -> None:
    """A workbook: numbers are numbers, phone numbers text; the header stays in sight."""
    book = _Book(result, file)
    first = book.row
    for row in result.rows:
        book.write(row, book.formats)
    if book.sheets == 1 and book.row > first:
        book.sheet.autofilter(HEADER_ROW, 0, book.row - 1, len(result.columns) - 1)
    for line in total_lines(result, book.speaker):
        book.write(line, book.bold)
    book.row += 1
    for text in tie_texts(result, book.speaker) if ties else []:
        book.line(text)
    book.book.close()
