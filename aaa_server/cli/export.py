"""`sky-aaa export`: the ledger for accounting programs."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from aaa_server.cli.context import Failure, Session, pass_session
from aaa_server.cli.output import Things, amount, output_option, show_record
from aaa_server.cli.values import CURRENCY, TIME_ZONE
from aaa_server.rating.money import format_micros
from aaa_server.storage import journal
from aaa_server.storage.problem import BadValue
from web_reports import period as periods
from web_reports.journal import beancount, chart, plain
from web_reports.journal.book import Book
from web_reports.journal.datev import CENT_MICROS, Batch, Rounding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aaa_server.cli.context import Work
    from web_reports.journal.book import Proof
    from web_reports.journal.chart import Chart

FORMATS = ("csv", "datev", "beancount")
SHIPPED = {"csv": "names", "beancount": "names", "datev": "skr04"}


@click.group()
def export() -> None:
    """Files for accounting programs, from the one ledger."""


@export.command("journal")
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--period", metavar="PERIOD", help="2026-11, 2026-Q4, last-month …")
@click.option("--from", "begin_text", metavar="WHEN", help="[default: the first posting]")
@click.option("--to", "end_text", metavar="WHEN", help="Up to, not including.  [default: now]")
@click.option(
    "--per",
    type=click.Choice(("day", "transaction")),
    default="day",
    show_default=True,
    help="One entry for each transaction, or the sums of each day.",
)
@click.option(
    "--account-map",
    "map_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML: which account of the bookkeeper's each party and book is.",
)
@click.option("--currency", type=CURRENCY, help="Only this one.")
@click.option(
    "--time-zone", type=TIME_ZONE, help="Of days, and of WHEN.  [default: the account's own]"
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write this file instead of stdout; -o is for what is said of it.",
)
@output_option
@pass_session
def journal_(
    session: Session,
    form: str,
    period: str | None,
    begin_text: str | None,
    end_text: str | None,
    per: str,
    map_path: Path | None,
    currency: str | None,
    time_zone: str | None,
    out: Path | None,
) -> None:
    """Write the journal of what was posted in a period, as csv, datev or beancount.

    The operator's books, or with --as those of a reseller: what it sold, and what it bought
    from its seller. Each currency balances, and comes to what the ledger says; stderr says
    both, and a difference is exit status 1. docs/accounting.md tells of account maps.
    """
    lines = chart.read(map_path, SHIPPED[form])
    with session.connection() as connection:
        # All that is read is of one moment, or the sums would not be those of the entries.
        connection.set_session(isolation_level="REPEATABLE READ")
        with session.transaction(connection) as work:
            owner = journal.owner(work.cursor, work.viewer)
            zone = ZoneInfo(time_zone or owner.time_zone)
            begin, end = _posted_within(period, begin_text, end_text, zone)
            wanted = journal.Wanted(owner.account_id, begin, end, currency or "", zone.key)
            book = _book(work, owner, lines, wanted, zone, with_opening=form != "csv")
            entries = journal.entries(work.cursor, wanted, by_day=per == "day")
            rows = book.lines(entries, by_day=per == "day")
            batch = Batch(book, datetime.now(UTC)) if form == "datev" else None
            if batch is not None:
                pieces = batch.write(rows)
            elif form == "beancount":
                beancount.check(book)
                pieces = beancount.write(book, rows)
            else:
                pieces = plain.write(book, rows)
            with _sink(out) as file:
                for piece in pieces:
                    file.write(piece)
            summary = _summary(book, form, per, batch.rounding if batch else None)
            work.note("export journal", owner.code, after=summary)
    _tell(book, batch.rounding if batch else None)
    if out is not None:
        show_record(session, {"file": str(out), **summary})
    if any(one.difference_micros or one.ledger_difference_micros for one in book.proofs()):
        raise Failure("the journal does not come to the ledger: `sky-aaa audit` looks for why")


@export.command("account-map")
@click.option("--base", type=click.Choice(tuple(chart.BASES)), default="names", show_default=True)
def account_map(base: str) -> None:
    """Print a shipped chart as an account map, to be changed and given to `export journal`."""
    parts = [f'base = "{base}"\n']
    for section, entries in chart.BASES[base].items():
        parts.append(f"\n[{section}]\n")
        parts += [f'{key} = "{text}"\n' for key, text in entries.items()]
    if base in ("skr03", "skr04"):
        parts.append("\n[datev]\nconsultant = 1001\nclient = 1\naccount_length = 4\n")
        parts.append('year_begins = "01-01"\n')
    click.echo("".join(parts), nl=False)


def _posted_within(
    name: str | None, begin_text: str | None, end_text: str | None, zone: ZoneInfo
) -> tuple[datetime | None, datetime]:
    now = datetime.now(UTC)
    if name is not None:
        if begin_text or end_text:
            raise BadValue("--period is one way to name a time, --from and --to another: not both")
        whole = periods.named(name, zone, now)
        return whole.begin, whole.end
    last = periods.read_instant(end_text, zone) if end_text else now
    if begin_text is None:
        # Only the end counts, which is made an instant of the zone.
        return None, periods.between(datetime.min.replace(tzinfo=UTC), last, zone).end
    found = periods.between(periods.read_instant(begin_text, zone), last, zone)
    return found.begin, found.end


def _book(
    work: Work,
    owner: journal.Owner,
    lines: Chart,
    wanted: journal.Wanted,
    zone: ZoneInfo,
    *,
    with_opening: bool,
) -> Book:
    totals = journal.totals(work.cursor, wanted, with_opening=with_opening)
    parties = journal.parties(work.cursor, sorted({total.party_id for total in totals}))
    return Book(
        owner,
        lines,
        totals=totals,
        parties=parties,
        begin=wanted.begin,
        end=wanted.end,
        zone=zone,
    )


@contextlib.contextmanager
def _sink(out: Path | None) -> Iterator[IO[bytes]]:
    """Stdout, or a file for its owner alone that is there only when it is whole."""
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(name).replace(out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _summary(book: Book, form: str, per: str, rounding: Rounding | None) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "books_of": book.owner.code,
        "format": form,
        "per": per,
        "chart": book.chart.base,
        "first_day": book.first_day.isoformat(),
        "last_day": book.last_day.isoformat(),
        "currencies": Things(_proof(one) for one in book.proofs()),
    }
    if rounding is not None:
        summary["rounding_account"] = rounding.account
        summary["rounded"] = amount(rounding.cents * CENT_MICROS)
    return summary


def _proof(one: Proof) -> dict[str, Any]:
    return {
        "currency": one.currency,
        "lines": one.lines,
        "debit": amount(one.debit_micros),
        "credit": amount(one.credit_micros),
        "difference": amount(one.difference_micros),
        "ledger_difference": amount(one.ledger_difference_micros),
    }


def _tell(book: Book, rounding: Rounding | None) -> None:
    for one in book.proofs():
        click.echo(
            f"{one.currency}: debit {format_micros(one.debit_micros)}, "
            f"credit {format_micros(one.credit_micros)}, "
            f"difference {format_micros(one.difference_micros)}; "
            f"to the ledger {format_micros(one.ledger_difference_micros)}",
            err=True,
        )
    if not book.currencies:
        click.echo("nothing was posted in the period", err=True)
    if rounding is not None and rounding.lines:
        click.echo(
            f"rounding account {rounding.account}: {format_micros(rounding.cents * CENT_MICROS)} "
            f"in {rounding.lines} lines",
            err=True,
        )
