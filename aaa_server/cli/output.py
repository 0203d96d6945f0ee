"""Results on stdout: a table for people, JSON or CSV for programs.

A cell is text, a whole number, a yes or no, an instant, or nothing. Amounts and prices
are text made by `rating.money` and wrapped in `Amount`, which only makes a table align
them right; in JSON they are strings, so that no reader turns them into binary fractions.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aaa_server.rating.money import format_micros, format_nanos, format_percent

if TYPE_CHECKING:
    from rich.table import Table

    from aaa_server.cli.context import Session

WIDTH_MAX = 1000  # of a table; beyond it columns are folded
FORMATS = ("table", "json", "csv")

Cell = Any  # str, int, bool, None, datetime, Amount; a list or mapping of them in details
Row = Mapping[str, Cell]
Command = TypeVar("Command", bound=Callable[..., Any])


class Things(list[Row]):
    """Things within a thing: a table below its lines, a list in JSON, left out of CSV."""

    __slots__ = ()


class Amount(str):
    """A decimal number as text."""

    __slots__ = ()


def amount(micros: int | None) -> Amount | None:
    """An amount with all six decimals."""
    return None if micros is None else Amount(format_micros(micros))


def price(nanos: int | None) -> Amount | None:
    """A price per minute."""
    return None if nanos is None else Amount(format_nanos(nanos))


def percent(ppm: int | None) -> Amount | None:
    """A percentage without its sign."""
    return None if ppm is None else Amount(format_percent(ppm))


def output_option(command: Command) -> Command:
    """-o after a command, where people type it; it goes before the one before the command."""

    def keep(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        session = ctx.obj
        if value is not None and session is not None:
            session.output = value

    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        callback=keep,
        expose_value=False,
        help="How results are printed.",
    )(command)


def show_rows(session: Session, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A list of things, one line each, in these columns.

    JSON and CSV are written row by row, so that a long list is not held in memory.
    """
    chosen = ({column: row[column] for column in columns} for row in rows)
    if session.output == "json":
        _write_json_list(chosen)
    elif session.output == "csv":
        _write_csv(columns, chosen)
    elif held := list(chosen):
        _write_table(columns, held)
    else:
        click.echo("none", err=True)


def show_record(session: Session, record: Row) -> None:
    """One thing, a line for each of its fields, in order. Lists of things within it are tables."""
    if session.output == "json":
        _write(json.dumps(_plain(record), indent=2, ensure_ascii=False))
        return
    lines = {key: value for key, value in record.items() if not isinstance(value, Things)}
    if session.output == "csv":
        _write_csv(tuple(lines), [lines])
        return
    width = max((len(key) for key in lines), default=0)
    after_table = False
    for place, (key, value) in enumerate(record.items()):
        if not isinstance(value, Things):
            gap = "\n" if after_table else ""
            _write(gap + f"{_title(key).ljust(width)}  {_text(value)}".rstrip())
            after_table = False
        elif value:
            _write(("\n" if place else "") + _title(key))
            _write_table(tuple(value[0]), value)
            after_table = True


def progress(text: str) -> None:
    """What is being done, for the person who waits."""
    click.echo(text, err=True)


def _write(text: str) -> None:
    click.echo(text)


def _title(column: str) -> str:
    return column.replace("_", " ")


def _plain(value: Cell) -> Any:
    """The value as JSON has it: instants in ISO 8601, UTC; amounts as strings."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (str, int)) or value is None:
        return value
    return str(value)


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return str(value)


def _write_json_list(rows: Iterable[Row]) -> None:
    """As `json.dumps` writes a list with an indent of 2."""
    between = "[\n"
    for row in rows:
        text = json.dumps(_plain(row), indent=2, ensure_ascii=False)
        click.echo(between + textwrap.indent(text, "  "), nl=False)
        between = ",\n"
    click.echo("[]" if between == "[\n" else "\n]")


def _write_csv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_text(row[column]) for column in columns])
        click.echo(buffer.getvalue(), nl=False)
        buffer.seek(0)
        buffer.truncate()
    click.echo(buffer.getvalue(), nl=False)


def _csv_text(value: Cell) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else _text(value)


def _write_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    if sys.stdout.isatty():
        _print_rich(rich_table(columns, rows))
        return
    right = _right_columns(columns, rows)
    texts = [[_text(row[column]) for column in columns] for row in rows]
    titles = [_title(column) for column in columns]
    widths = [max(len(line[place]) for line in [titles, *texts]) for place in range(len(columns))]
    for line in [titles, *texts]:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, text, width in zip(columns, line, widths, strict=True)
        ]
        _write("  ".join(cells).rstrip())


def _right_columns(columns: Sequence[str], rows: Sequence[Row]) -> set[str]:
    """The columns of numbers."""
    return {
        column
        for column in columns
        if all(
            isinstance(row[column], (Amount, int)) and not isinstance(row[column], bool)
            for row in rows
            if row[column] is not None
        )
    }


def _print_rich(table: Table) -> None:
    """As wide as it is: a narrow terminal breaks lines at its edge, not columns to pieces."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    unlimited = console.options.update(max_width=WIDTH_MAX)
    natural = Measurement.get(console, unlimited, table).maximum
    Console(width=max(console.width, natural)).print(table)


def rich_table(columns: Sequence[str], rows: Sequence[Row]) -> Table:
    """The rows as a terminal shows them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    right = _right_columns(columns, rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column in right
        # A number that is broken or cut reads as another number.
        whole = max(len(_text(row[column])) for row in rows) if number and rows else None
        table.add_column(
            _title(column),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number,
            min_width=whole,
        )
    for row in rows:
        table.add_row(*(Text(_text(row[column])) for column in columns))
    return table
