"""`sky-aaa reconciliation`: a provider's call records against ours."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from aaa_server import provider_file, sheet
from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import Things, amount, output_option, price, show_record, show_rows
from aaa_server.cli.values import AMOUNT, TIME_ZONE
from aaa_server.provider_file import DATE_ORDERS, UNITS, ProviderFile, Reading
from aaa_server.storage import accounts, reconciliation
from aaa_server.storage.reconciliation import CLASSES, DISPUTED, Question
from web_reports import period
from web_reports.cells import neutral

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aaa_server.cli.context import Work
    from aaa_server.cli.output import Row
    from aaa_server.sheet import BadLine
    from aaa_server.storage.accounts import Account
    from aaa_server.storage.reconciliation import Code, ComparedCall, Reconciliation

BAD_LINES_SHOWN_MAX = 1_000
SPREADSHEET_ROWS_MAX = 1_048_575  # below the headers
CALL_COLUMNS = (
    "class", "differs", "code", "destination", "line", "their_number", "their_time",
    "their_seconds", "their_rate", "their_amount", "call", "our_number", "our_time",
    "our_seconds", "our_rate", "our_amount", "seconds_more", "amount_more",
)  # fmt: skip
LIST_COLUMNS = (
    "id", "provider", "created", "file", "from", "to", "their_calls", "exact", "within",
    "different", "missing_at_ours", "missing_at_theirs", "our_amount", "their_amount",
    "amount_more", "currency",
)  # fmt: skip


@click.group("reconciliation")
def group() -> None:
    """Hold what a provider charges against our call records; list what to dispute."""


@dataclass(frozen=True)
class Wanted:
    """What `run` was asked for."""

    provider: str
    begin: str
    end: str
    mapping: dict[str, str]
    reading: Reading
    tolerance_seconds: int
    tolerance_micros: int
    window_seconds: int

    def question(self, headers: dict[str, str]) -> Question:
        """The question, of a file that has these headers."""
        zone = ZoneInfo(self.reading.time_zone)
        asked = period.between(
            period.read_instant(self.begin, zone), period.read_instant(self.end, zone), zone
        )
        return Question(
            asked.begin,
            asked.end,
            self.tolerance_seconds,
            self.tolerance_micros,
            self.window_seconds,
            reconciliation.reading_text(headers, self.reading._asdict()),
        )


@group.command("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", required=True, metavar="CODE", help="Whose file it is.")
@click.option("--from", "begin", required=True, metavar="WHEN", help="Calls answered from then.")
@click.option("--to", "end", required=True, metavar="WHEN", help="Up to, not including.")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="COLUMN=HEADER",
    help=f"What a header means; repeatable. Columns: {', '.join(provider_file.COLUMNS)}.",
)
@click.option("--tolerance-seconds", type=click.IntRange(0, 3600), default=2, show_default=True)
@click.option(
    "--tolerance-amount", type=AMOUNT, default="0.001", show_default=True, help="For a call."
)
@click.option(
    "--window-seconds",
    type=click.IntRange(1, 3600),
    default=120,
    show_default=True,
    help="How far their clock and ours may be apart.",
)
@click.option(
    "--time-zone",
    type=TIME_ZONE,
    default="UTC",
    show_default=True,
    help="Of times without one in the file, and of WHEN.",
)
@click.option("--date-order", type=click.Choice(DATE_ORDERS), default="ymd", show_default=True)
@click.option(
    "--duration-unit", type=click.Choice(tuple(UNITS)), default="seconds", show_default=True
)
@click.option("--skip-errors", is_flag=True, help="Compare the good lines though there are bad.")
@click.option("--anew", is_flag=True, help="Compare again what was compared before.")
@output_option
@pass_session
def run(
    session: Session,
    file: Path,
    provider: str,
    begin: str,
    end: str,
    mapping: tuple[str, ...],
    tolerance_seconds: int,
    tolerance_amount: int,
    window_seconds: int,
    time_zone: str,
    date_order: str,
    duration_unit: str,
    skip_errors: bool,
    anew: bool,
) -> None:
    """Compare call records FILE (CSV or XLSX) of a provider with ours.

    Needed are a called number, a time (answer, setup, end, or one that is not told: time) and
    a duration; amount, rate and code are compared where they are. Usual headers are known.
    The same file compared in the same way again changes nothing.
    """
    if tolerance_amount < 0:
        raise click.BadParameter("it is 0 or more", param_hint="--tolerance-amount")
    wanted = Wanted(
        provider,
        begin,
        end,
        _mapping(mapping),
        Reading(time_zone, date_order, duration_unit),
        tolerance_seconds,
        tolerance_amount,
        window_seconds,
    )
    with session.connection() as connection, session.transaction(connection) as work:
        found = accounts.find(work.cursor, work.viewer, provider)
        try:
            number, again = _run(
                session, work, found, file, wanted, skip_errors=skip_errors, anew=anew
            )
        except sheet.Unreadable as error:
            raise BadData(str(error)) from error
        record = _record(reconciliation.find(work.cursor, work.viewer, number))
        codes = reconciliation.codes(work.cursor, work.viewer, number)
        if not again:
            work.note("reconciliation run", provider, after=record)
    if again:
        click.echo("this file was compared in this way before: --anew does it again", err=True)
    show_record(session, {**record, "again": again, "codes": Things(map(_code, codes))})


def _run(
    session: Session,
    work: Work,
    provider: Account,
    path: Path,
    wanted: Wanted,
    *,
    skip_errors: bool,
    anew: bool,
) -> tuple[int, bool]:
    """The number of the comparison, and whether it had been made before."""
    sha256 = reconciliation.digest(path)
    with sheet.opened(path, columns=len(provider_file.COLUMNS)) as table:
        file = ProviderFile(
            table,
            path,
            currency=provider.currency,
            reading=wanted.reading,
            mapping=wanted.mapping,
            progress=_progress(),
        )
        question = wanted.question(file.headers.named)
        before = reconciliation.done_before(work.cursor, work.viewer, provider, question, sha256)
        if before is not None:
            if not anew:
                return before, True
            reconciliation.forget(work.cursor, work.viewer, before)
        number = reconciliation.run(
            work.cursor,
            work.viewer,
            provider,
            question,
            sha256=sha256,
            file_name=path.name,
            file=file,
        )
    if file.bad:
        _show_bad(session, file.bad, on_stdout=not skip_errors)
        count = len({bad.line for bad in file.bad})
        lines = f"{path}: {count} bad line{'s' if count > 1 else ''} of {file.counts.lines}"
        if not skip_errors:
            raise BadData(f"{lines}: nothing was kept (--skip-errors compares the others)")
        click.echo(f"{lines}, left out", err=True)
    return number, False


def _mapping(texts: tuple[str, ...]) -> dict[str, str]:
    mapping = {}
    for text in texts:
        column, equals, header = text.partition("=")
        if not equals or not header.strip():
            raise click.BadParameter(f"{text!r}: COLUMN=HEADER is expected", param_hint="--map")
        mapping[column.strip()] = header
    return mapping


def _progress() -> Callable[[int, int], None] | None:
    """Tells how much of the file was read, on a terminal."""
    if not sys.stderr.isatty():
        return None

    def tell(done: int, size: int) -> None:
        click.echo(f"\rread {100 * done // max(size, 1)} %", err=True, nl=False)

    return tell


def _show_bad(session: Session, bad: list[BadLine], *, on_stdout: bool) -> None:
    shown = bad if session.output != "table" else bad[:BAD_LINES_SHOWN_MAX]
    if on_stdout:
        show_rows(session, ("line", "column", "value", "reason"), [one._asdict() for one in shown])
    else:
        # The result on stdout is the comparison's then.
        for one in shown:
            click.echo(provider_file.told(one), err=True)
    if len(shown) < len(bad):
        click.echo(f"and {len(bad) - len(shown)} more: -o csv shows all", err=True)


def _more(theirs: int | None, ours: int) -> int | None:
    return None if theirs is None else theirs - ours


def _record(one: Reconciliation) -> dict[str, Any]:
    return {
        "id": one.reconciliation_id,
        "provider": one.provider,
        "created": one.created_at,
        "file": one.file_name,
        "sha256": one.sha256,
        "from": one.begins,
        "to": one.ends,
        "tolerance_seconds": one.tolerance_seconds,
        "tolerance_amount": amount(one.tolerance_micros),
        "window_seconds": one.window_seconds,
        "lines": one.lines,
        "bad_lines": one.bad_lines,
        "unanswered": one.unanswered,
        "outside": one.outside,
        "our_calls": one.our_calls,
        "their_calls": one.their_calls,
        "exact": one.exact,
        "within": one.within,
        "different": one.different,
        "missing_at_ours": one.missing_at_ours,
        "missing_at_theirs": one.missing_at_theirs,
        "our_seconds": one.our_seconds,
        "their_seconds": one.their_seconds,
        "seconds_more": one.their_seconds - one.our_seconds,
        "our_amount": amount(one.our_micros),
        "their_amount": amount(one.their_micros),
        "amount_more": amount(_more(one.their_micros, one.our_micros)),
        "currency": one.currency,
    }


def _code(one: Code) -> dict[str, Any]:
    return {
        "code": one.code,
        "destination": one.destination,
        "our_calls": one.our_calls,
        "their_calls": one.their_calls,
        "our_seconds": one.our_seconds,
        "their_seconds": one.their_seconds,
        "our_amount": amount(one.our_micros),
        "their_amount": amount(one.their_micros),
        "amount_more": amount(_more(one.their_micros, one.our_micros)),
        "exact": one.exact,
        "within": one.within,
        "different": one.different,
        "missing_at_ours": one.missing_at_ours,
        "missing_at_theirs": one.missing_at_theirs,
    }


@group.command("list")
@click.option("--provider", metavar="CODE", help="Only of this one.")
@output_option
@pass_session
def list_(session: Session, provider: str | None) -> None:
    """What was compared, the newest last."""
    with session.transaction() as work:
        number = None
        if provider is not None:
            number = accounts.find(work.cursor, work.viewer, provider).account_id
        found = reconciliation.list_all(work.cursor, work.viewer, provider_id=number)
    show_rows(session, LIST_COLUMNS, [_record(one) for one in found])


@group.command()
@click.argument("number", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@output_option
@pass_session
def show(session: Session, number: int) -> None:
    """One comparison: its sums, and code by code."""
    with session.transaction() as work:
        record = _record(reconciliation.find(work.cursor, work.viewer, number))
        codes = reconciliation.codes(work.cursor, work.viewer, number)
    if session.output == "csv":
        rows = [_code(one) for one in codes]
        show_rows(session, tuple(rows[0]) if rows else ("code",), rows)
    else:
        show_record(session, {**record, "codes": Things(map(_code, codes))})


@group.command()
@click.argument("number", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@click.option(
    "--class",
    "classes",
    multiple=True,
    type=click.Choice(CLASSES),
    default=DISPUTED,
    show_default=True,
    help="Which calls; repeatable.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write this file: .csv, or .xlsx for a spreadsheet.",
)
@output_option
@pass_session
def dispute(session: Session, number: int, classes: tuple[str, ...], out: Path | None) -> None:
    """The calls to dispute: what they have, what we have, and how much more they charge."""
    if out is not None and out.suffix.lower() not in (".csv", ".xlsx"):
        raise click.BadParameter(f"{out}: a name ends in .csv or .xlsx", param_hint="--out")
    with session.transaction() as work:
        kept = _record(reconciliation.find(work.cursor, work.viewer, number))
        most = sum(kept[one.replace("-", "_")] for one in set(classes))
        if out is not None and out.suffix.lower() == ".xlsx" and most > SPREADSHEET_ROWS_MAX:
            raise BadData(
                f"{most} calls, and a spreadsheet has at most {SPREADSHEET_ROWS_MAX} rows: "
                "write .csv, or fewer classes (--class)"
            )
        rows = map(_call, reconciliation.calls(work.cursor, work.viewer, number, classes))
        if out is not None:
            written = _write_xlsx(out, rows) if out.suffix.lower() == ".xlsx" else _write(out, rows)
            click.echo(f"{out}: {written} calls", err=True)
        elif session.output == "csv":
            for text in _csv_lines(rows):
                click.echo(text, nl=False)
        else:
            show_rows(session, CALL_COLUMNS, rows)


def _call(one: ComparedCall) -> Row:
    theirs, ours = one.their_seconds or 0, one.our_seconds or 0
    more = (one.their_micros or 0) - (one.our_micros or 0)
    no_amount = one.line is not None and one.their_micros is None
    return {
        "class": one.kind,
        "differs": list(one.differs),
        "code": one.code,
        "destination": one.destination,
        "line": one.line,
        "their_number": one.their_number,
        "their_time": one.their_at,
        "their_seconds": one.their_seconds,
        "their_rate": price(one.their_nanos),
        "their_amount": amount(one.their_micros),
        "call": one.call_id,
        "our_number": one.our_number,
        "our_time": one.our_at,
        "our_seconds": one.our_seconds,
        "our_rate": price(one.our_nanos),
        "our_amount": amount(one.our_micros),
        "seconds_more": theirs - ours,
        "amount_more": None if no_amount else amount(more),
    }


def _plain(value: Any) -> Any:
    """A cell of a file: text that no spreadsheet takes for a formula, instants in UTC."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(value)
    if hasattr(value, "isoformat"):
        return value.isoformat(timespec="milliseconds")
    return value


def _csv_lines(rows: Iterator[Row]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CALL_COLUMNS)
    for row in rows:
        cells = {**row, "destination": neutral(row["destination"])}
        writer.writerow([_plain(cells[column]) for column in CALL_COLUMNS])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _write(out: Path, rows: Iterator[Row]) -> int:
    count = -1  # the headers are no call
    with out.open("w", encoding="utf-8", newline="") as file:
        for text in _csv_lines(rows):
            count += text.count("\n")
            file.write(text)
    return count


def _write_xlsx(out: Path, rows: Iterator[Row]) -> int:
    """A spreadsheet: numbers are numbers, phone numbers and instants text. Constant memory."""
    from xlsxwriter import Workbook

    count = 0
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with Workbook(str(out), options) as book:
        table = book.add_worksheet("Calls")
        bold = book.add_format({"bold": True})
        table.freeze_panes(1, 0)
        for place, column in enumerate(CALL_COLUMNS):
            table.write_string(0, place, column.replace("_", " "), bold)
        for row in rows:
            count += 1
            for place, column in enumerate(CALL_COLUMNS):
                cell = _plain(row[column])
                if isinstance(cell, int):
                    table.write_number(count, place, cell)
                elif cell and column.endswith(("_rate", "_amount", "amount_more")):
                    table.write_number(count, place, float(cell))
                elif cell:
                    table.write_string(count, place, cell)
    return count
