"""The journal with the accounts of a chart, written entry by entry and proved as it goes.

Every entry has two sides of one amount, so each currency balances; the proof sums what was
written, side by side, and holds it against what the ledger says for the period.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.problem import BadValue
from web_reports.journal.chart import Account, Chart

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from aaa_server.storage.journal import Entry, Owner, Party, Total

MISSING_NAMED_MAX = 20  # of accounts without a line
Write = Callable[[str], object]


class Line(NamedTuple):
    """An entry with its accounts: `party` is credited with `credit_micros`, `book` debited."""

    day: date
    number: int | None
    at: datetime | None
    kind: str
    reference: str
    note: str
    party: Account
    book: Account
    ledger_book: str
    currency: str
    credit_micros: int
    postings: int


class Standing(NamedTuple):
    """One account of the chart in one currency; plus is debit."""

    opening_micros: int
    period_micros: int


class Proof(NamedTuple):
    """What was written in one currency, and what the ledger says, plus being debit."""

    currency: str
    lines: int
    debit_micros: int
    credit_micros: int
    ledger_difference_micros: int

    @property
    def difference_micros(self) -> int:
        """Debit less credit."""
        return self.debit_micros - self.credit_micros


class Book:
    """The entries of a period in the accounts of a chart."""

    def __init__(
        self,
        owner: Owner,
        chart: Chart,
        *,
        totals: list[Total],
        parties: Mapping[int, Party],
        begin: datetime | None,
        end: datetime,
        zone: ZoneInfo,
    ) -> None:
        self.owner = owner
        self.chart = chart
        self.zone = zone
        self._party: dict[tuple[int, str], Account] = {}
        self._book: dict[tuple[str, str], Account] = {}
        self._resolve(totals, parties)
        first = begin or min((total.first_at for total in totals), default=end)
        self.first_day = first.astimezone(zone).date()
        self.last_day = (end - timedelta(microseconds=1)).astimezone(zone).date()
        self.standings = self._standings(totals)
        self.currencies = sorted({total.currency for total in totals})
        self._expected: dict[tuple[str, str], int] = {
            key: one.period_micros for key, one in self.standings.items()
        }
        self._written: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._debit: defaultdict[str, int] = defaultdict(int)
        self._credit: defaultdict[str, int] = defaultdict(int)
        self._lines: defaultdict[str, int] = defaultdict(int)

    def _resolve(self, totals: list[Total], parties: Mapping[int, Party]) -> None:
        """An account for all that occurs; raises `BadValue` naming what has none."""
        missing: dict[str, int] = {}
        for total in totals:
            party = parties[total.party_id]
            account = self.chart.party_account(party, total.currency)
            if account is None:
                where = f"[party] {party.kind} or [account] {party.code}".removesuffix(
                    " or [account] "
                )
                missing[f"{where} ({total.currency})"] = 1
            else:
                self._party[total.party_id, total.currency] = account
            account = self.chart.book_account(total.book, total.currency)
            if account is None:
                section, _, name = total.book.rpartition(".")
                missing[f"[{section or 'book'}] {name} ({total.currency})"] = 1
            else:
                self._book[total.book, total.currency] = account
        if missing:
            named = ", ".join(list(missing)[:MISSING_NAMED_MAX])
            more = len(missing) - MISSING_NAMED_MAX
            raise BadValue(
                f"the chart {self.chart.base!r} has no account for {named}"
                + (f" and {more} more" if more > 0 else "")
                + ": give it a line in the file of --account-map"
            )
        self._refuse_shared(parties)

    def _refuse_shared(self, parties: Mapping[int, Party]) -> None:
        """Two parties share an account only where its line names neither."""
        whose: dict[tuple[str, str], int] = {}
        for (party_id, currency), account in self._party.items():
            party = parties[party_id]
            line = self.chart.account.get(party.code, self.chart.party.get(party.kind, ""))
            if "{" not in str(line):
                continue
            other = whose.setdefault((account.name, currency), party_id)
            if other != party_id:
                raise BadValue(
                    f"{parties[other].code} and {party.code} would both be {account.name}: give "
                    "one of them a line of its own in [account] of the file of --account-map"
                )

    def account(self, book: str, currency: str) -> Account:
        """The account of a book that the format itself needs; raises `BadValue`."""
        found = self.chart.book_account(book, currency)
        if found is None:
            raise BadValue(
                f"the chart {self.chart.base!r} has no account for [book] {book} ({currency}): "
                "give it a line in the file of --account-map"
            )
        return found

    def _standings(self, totals: list[Total]) -> dict[tuple[str, str], Standing]:
        """By account and currency."""
        sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for total in totals:
            sides = (
                (self._party[total.party_id, total.currency], -1),
                (self._book[total.book, total.currency], 1),
            )
            for account, sign in sides:
                both = sums[account.name, total.currency]
                both[0] += sign * total.opening_micros
                both[1] += sign * total.credit_micros
        return {key: Standing(*both) for key, both in sorted(sums.items())}

    def accounts(self) -> list[Account]:
        """All that occur, in order of their names."""
        named = {one.name: one for one in (*self._party.values(), *self._book.values())}
        return [named[name] for name in sorted(named)]

    def lines(self, entries: Iterable[Entry], *, by_day: bool) -> Iterator[Line]:
        """The entries with their accounts; of a day, those of the same accounts are one."""
        found = (self._line(entry) for entry in entries)
        if not by_day:
            yield from found
            return
        for _, of_day in groupby(found, key=lambda line: line.day):
            merged: dict[tuple[str, ...], Line] = {}
            for line in of_day:
                key = (line.kind, line.party.name, line.book.name, line.currency)
                before = merged.get(key)
                merged[key] = line if before is None else _sum(before, line)
            yield from (line for line in merged.values() if line.credit_micros)

    def _line(self, entry: Entry) -> Line:
        return Line(
            entry.day,
            entry.number,
            entry.at,
            entry.kind,
            entry.reference,
            entry.note,
            self._party[entry.party_id, entry.currency],
            self._book[entry.book, entry.currency],
            entry.book,
            entry.currency,
            entry.credit_micros,
            entry.postings,
        )

    def wrote(self, account: Account, currency: str, debit_micros: int) -> None:
        """Note that one side of a line was written: plus in debit, minus in credit."""
        if debit_micros > 0:
            self._debit[currency] += debit_micros
        else:
            self._credit[currency] -= debit_micros
        self._written[account.name, currency] += debit_micros
        self._lines[currency] += 1

    def proofs(self) -> list[Proof]:
        """A proof for each currency, of all that was written until now."""
        return [
            Proof(
                currency,
                self._lines[currency],
                self._debit[currency],
                self._credit[currency],
                sum(
                    abs(self._written.get(key, 0) - self._expected.get(key, 0))
                    for key in {**self._written, **self._expected}
                    if key[1] == currency
                ),
            )
            for currency in self.currencies
        ]


def _sum(one: Line, other: Line) -> Line:
    return one._replace(
        credit_micros=one.credit_micros + other.credit_micros,
        postings=one.postings + other.postings,
        # What merges several parties is nobody's in particular.
        party=one.party if one.party == other.party else Account(one.party.name, ""),
    )
