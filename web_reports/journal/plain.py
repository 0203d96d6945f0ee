"""The journal as CSV: a line for each side of an entry, debit and credit in two columns."""

from __future__ import annotations

import csv
import io
from datetime import UTC
from typing import TYPE_CHECKING

from aaa_server.rating.money import format_micros
from web_reports.cells import neutral

if TYPE_CHECKING:
    from collections.abc import Iterator

    from web_reports.journal.book import Book, Line

COLUMNS = (
    "date", "transaction", "at", "kind", "reference", "text", "postings", "account", "title",
    "currency", "debit", "credit",
)  # fmt: skip
CHUNK_CHARACTERS = 64 * 1024


def write(book: Book, lines: Iterator[Line]) -> Iterator[bytes]:
    """The file, piece by piece; UTF-8, amounts with six decimals and a point."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(COLUMNS)
    for line in lines:
        shared = (
            line.day.isoformat(),
            line.number,
            line.at.astimezone(UTC).isoformat() if line.at else "",
            line.kind,
            neutral(line.reference),
            neutral(line.note),
            line.postings,
        )
        sides = ((line.party, -line.credit_micros), (line.book, line.credit_micros))
        # The debit first, as bookkeepers read it.
        for account, debit in sorted(sides, key=lambda side: -side[1]):
            rows.writerow(
                (
                    *shared,
                    account.name,
                    neutral(account.title),
                    line.currency,
                    format_micros(debit) if debit > 0 else "",
                    format_micros(-debit) if debit < 0 else "",
                )
            )
            book.wrote(account, line.currency, debit)
        if buffer.tell() > CHUNK_CHARACTERS:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()
