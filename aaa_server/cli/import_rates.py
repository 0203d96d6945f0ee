"""`sky-aaa import-rates`: a rate file into a price list, all of it or nothing."""

from __future__ import annotations

import contextlib
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aaa_server import rate_file
from aaa_server.cli import price_list
from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import Things, output_option, price, show_record, show_rows
from aaa_server.cli.price_list import Choice, instant, price_list_options
from aaa_server.rating.steps import format_steps
from aaa_server.sheet import Unreadable
from aaa_server.storage import rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aaa_server.cli.price_list import PriceList
    from aaa_server.rate_file import RateFile
    from aaa_server.sheet import BadLine
    from aaa_server.storage.rates import Change, RateRow

CHANGES_SHOWN_MAX = 100  # in a table; JSON and CSV have all
BAD_LINES_SHOWN_MAX = 1_000  # likewise
PROGRESS_ROWS = 2_000

CHANGE_COLUMNS = (
    "what",
    "prefix",
    "destination",
    "old_per_minute",
    "new_per_minute",
    "old_interval",
    "new_interval",
    "effective_from",
    "effective_to",
    "band",
    "old_steps",
    "new_steps",
    "line",
)


@click.command("import-rates")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--effective", metavar="WHEN", help="Of rows without a date.  [default: now]")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="COLUMN=HEADER",
    help=f"What a header means; repeatable. Columns: {', '.join(rate_file.COLUMNS)}.",
)
@click.option("--replace", is_flag=True, help="Close the prefixes that are not in the file.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--skip-errors", is_flag=True, help="Import the good lines though there are bad.")
@price_list_options
@output_option
@pass_session
def import_rates(
    session: Session,
    /,
    choice: Choice,
    file: Path,
    effective: str | None,
    mapping: tuple[str, ...],
    replace: bool,
    dry_run: bool,
    skip_errors: bool,
) -> None:
    """Import rate FILE (CSV or XLSX) into a rate group or resource group.

    Columns: prefix and per_minute, which must be there, and destination, connect_fee,
    included_seconds, initial_seconds, increment_seconds, minimum_charge, effective_from,
    effective_to, blocked, strip, prepend, priority, band, steps ("300:0.02;600:0.01": the price
    after so many billed seconds), route (RG_xx). Usual other names of theirs are known.

    A row closes the running row of its prefix at the instant it begins. Prefixes that are
    not in the file stay. One bad line, and nothing is imported.
    """
    meanings = _mapping(mapping)
    with session.connection() as connection, _progress() as progress:
        with session.transaction(connection) as work:
            prices = price_list.find(work, choice, change=not dry_run)
        begins = instant(effective, prices, "--effective")
        try:
            found = rate_file.read(
                file,
                effective=begins,
                defaults=prices.defaults,
                mapping=meanings,
                progress=progress("reading"),
            )
        except Unreadable as error:
            raise BadData(str(error)) from error
        _refuse_bad(session, found, file, skip_errors=skip_errors)
        with session.transaction(connection) as work:
            done = rates.import_rates(
                work.cursor,
                prices.tariff_id,
                _told(found.rows, progress("importing")),
                effective=begins,
                account_id=prices.account_id,
                replace=replace,
                dry_run=dry_run,
            )
            summary = {
                "price_list": prices.name,
                **({"account": prices.account_code} if prices.account_code else {}),
                "file": file.name,
                "lines": found.lines,
                "effective": begins,
                **done._asdict(),
                "bad_lines": len({bad.line for bad in found.bad}),
                "ignored_columns": found.ignored,
            }
            if not dry_run:
                work.note("import-rates", _subject(prices), after=summary)
            changes = _changes(session, rates.difference(work.cursor)) if dry_run else None
    _show(session, summary, changes)


def _mapping(texts: tuple[str, ...]) -> dict[str, str]:
    mapping = {}
    for text in texts:
        column, equals, header = text.partition("=")
        if not equals or not header.strip():
            raise click.BadParameter(f"{text!r}: COLUMN=HEADER is expected", param_hint="--map")
        mapping[column.strip()] = header
    return mapping


def _refuse_bad(session: Session, found: RateFile, file: Path, *, skip_errors: bool) -> None:
    """Show what is wrong, and go on only when that is wanted and something is left."""
    if found.bad:
        _show_bad(session, found.bad, on_stdout=not skip_errors)
        count = len({bad.line for bad in found.bad})
        lines = f"{count} bad line{'s' if count > 1 else ''} of {found.lines}"
        if not skip_errors:
            raise BadData(
                f"{file}: {lines}: nothing was imported (--skip-errors imports the others)"
            )
        click.echo(f"{file}: {lines}, left out", err=True)
    if not found.rows:
        raise BadData(f"{file}: there are no rows to import")


def _show_bad(session: Session, bad: list[BadLine], *, on_stdout: bool) -> None:
    columns = ("line", "column", "value", "reason")
    if on_stdout:
        shown = bad if session.output != "table" else bad[:BAD_LINES_SHOWN_MAX]
        show_rows(session, columns, [one._asdict() for one in shown])
        if len(shown) < len(bad):
            click.echo(f"and {len(bad) - len(shown)} more: -o csv shows all", err=True)
        return
    # The result on stdout is the import's then.
    for one in bad[:BAD_LINES_SHOWN_MAX]:
        click.echo(
            f"line {one.line}, {one.column or 'cells'}, {one.value!r}: {one.reason}", err=True
        )
    if len(bad) > BAD_LINES_SHOWN_MAX:
        click.echo(f"and {len(bad) - BAD_LINES_SHOWN_MAX} more", err=True)


def _subject(prices: PriceList) -> str:
    return f"{prices.name} {prices.account_code}".strip()


def _changes(session: Session, changes: Iterator[Change]) -> list[dict[str, Any]]:
    limit = CHANGES_SHOWN_MAX if session.output == "table" else None
    return [
        {
            "what": change.what,
            "prefix": change.prefix,
            "destination": change.destination,
            "old_per_minute": price(change.old_nanos),
            "new_per_minute": price(change.new_nanos),
            "old_interval": change.old_interval,
            "new_interval": change.new_interval,
            "effective_from": change.effective_from,
            "effective_to": change.effective_to,
            "band": change.band,
            "old_steps": format_steps(change.old_steps),
            "new_steps": format_steps(change.new_steps),
            "line": change.line,
        }
        for change in islice(changes, limit)
    ]


def _show(session: Session, summary: dict[str, Any], changes: list[dict[str, Any]] | None) -> None:
    if changes is None:
        show_record(session, summary)
    elif session.output == "csv":
        show_rows(session, CHANGE_COLUMNS, changes)
    else:
        show_record(session, {**summary, "changes": Things(changes)})
        kinds = ("new", "increased", "decreased", "changed", "closed")
        hidden = sum(summary[kind] for kind in kinds) - len(changes)
        if hidden:
            click.echo(f"and {hidden} more: -o csv shows all", err=True)
        click.echo("dry run: nothing was changed", err=True)


def _told(rows: list[RateRow], tell: Callable[[int, int], None] | None) -> Iterable[RateRow]:
    """The rows, and now and then how many went by."""
    if tell is None:
        return rows

    def told() -> Iterator[RateRow]:
        for number, row in enumerate(rows, 1):
            yield row
            if number % PROGRESS_ROWS == 0:
                tell(number, len(rows))
        tell(len(rows), len(rows))

    return told()


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], Callable[[int, int], None] | None]]:
    """Makes a teller of progress for each part of the work; on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bars:

        def part(text: str) -> Callable[[int, int], None]:
            task = bars.add_task(text, total=None)

            def tell(done: int, size: int) -> None:
                # The database compares and writes when all rows are there: the bar pulses then.
                finished = done >= size
                bars.update(task, completed=done, total=None if finished else size)

            return tell

        yield part
