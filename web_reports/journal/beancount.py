"""The journal for beancount: opening balances, transactions, and closing balances to check.

All amounts have six decimals, and the closing balances are asserted without tolerance:
`bean-check` finds a single micro that is missing.
"""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from aaa_server.rating.money import format_micros
from aaa_server.storage.problem import BadValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from web_reports.journal.book import Book, Line
    from web_reports.journal.chart import Account

NAME = re.compile(r"(Assets|Liabilities|Equity|Income|Expenses)(:[A-Z0-9][A-Za-z0-9-]*)+")
TEXT_MAX = 200  # of a narration
DAYS_BEFORE = timedelta(days=1)


def check(book: Book) -> None:
    """Raises `BadValue` for an account that beancount would not take."""
    opening = [book.account("opening", currency) for currency in book.currencies]
    for account in (*book.accounts(), *opening):
        if not NAME.fullmatch(account.name):
            raise BadValue(
                f"{account.name!r} is no account of beancount: Assets, Liabilities, Equity, Income "
                "or Expenses, then names that begin with a capital or a digit: Assets:Cash:Bank"
            )


def write(book: Book, lines: Iterator[Line]) -> Iterator[bytes]:
    """The file, piece by piece."""
    yield _head(book)
    yield _opening(book)
    # Lines of one transaction, or of one day and kind, follow each other.
    for (day, number, kind), group in groupby(
        lines, key=lambda line: (line.day, line.number, line.kind)
    ):
        yield _transaction(book, day, number, kind, group)
    yield _closing(book)


def _head(book: Book) -> bytes:
    begun = book.first_day - DAYS_BEFORE
    parts = [
        f'option "title" {_quoted(book.owner.name or book.owner.code)}\n',
        f'option "operating_currency" "{book.owner.currency}"\n\n',
    ]
    parts += [f"{begun} commodity {currency}\n" for currency in book.currencies]
    accounts = {one.name: one for one in book.accounts()}
    for currency in book.currencies:
        opening = book.account("opening", currency)
        accounts.setdefault(opening.name, opening)
    parts += [_open(begun, accounts[name]) for name in sorted(accounts)]
    return "".join(parts).encode()


def _open(day: date, account: Account) -> str:
    title = f"\n  title: {_quoted(account.title)}" if account.title else ""
    return f"{day} open {account.name}{title}\n"


def _opening(book: Book) -> bytes:
    """One transaction, of the day before the first one."""
    legs = []
    for (name, currency), standing in book.standings.items():
        if standing.opening_micros:
            legs.append(_leg(name, standing.opening_micros, currency))
            opening = book.account("opening", currency).name
            legs.append(_leg(opening, -standing.opening_micros, currency))
    if not legs:
        return b"\n"
    begun = book.first_day - DAYS_BEFORE
    return "".join([f'\n{begun} * "Opening balances"\n', *legs, "\n"]).encode()


def _transaction(
    book: Book, day: date, number: int | None, kind: str, lines: Iterable[Line]
) -> bytes:
    legs: dict[tuple[str, str], tuple[Account, int]] = {}
    told = reference = ""
    for line in lines:
        told, reference = line.note, line.reference
        sides = ((line.party, -line.credit_micros), (line.book, line.credit_micros))
        for account, debit in sides:
            _, before = legs.get((account.name, line.currency), (account, 0))
            legs[account.name, line.currency] = account, before + debit
    text = f"{kind} {reference}".strip() + (f": {told}" if told else "")
    parts = [f"{day} * {_quoted(text[:TEXT_MAX])}\n"]
    if number is not None:
        parts.append(f'  transaction: "{number}"\n')
    for (name, currency), (account, debit) in legs.items():
        if debit:
            parts.append(_leg(name, debit, currency))
            book.wrote(account, currency, debit)
    return "".join([*parts, "\n"]).encode()


def _closing(book: Book) -> bytes:
    # A balance is that of the morning.
    morning = book.last_day + timedelta(days=1)
    parts = []
    for (name, currency), standing in book.standings.items():
        # The other side of the opening balances is not the ledger's.
        if name == book.account("opening", currency).name:
            continue
        closing = format_micros(standing.opening_micros + standing.period_micros)
        parts.append(f"{morning} balance {name}  {closing} ~ 0.000000 {currency}\n")
    return "".join(parts).encode()


def _leg(name: str, micros: int, currency: str) -> str:
    return f"  {name}  {format_micros(micros)} {currency}\n"


def _quoted(text: str) -> str:
    bare = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{bare}"'
