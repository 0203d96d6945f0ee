"""A price list in memory, and which of its rows applies to a number at a time.

The trick: one dict from prefix to row, walked from the longest prefix that is known to
begin with the number's first digits down to one digit. A prefix has nearly always one
row and is then stored as that row, else as a tuple of rows. Rows for times of the day
stand with what tells the time, so that all others are found as if there were no such rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.rating.prefix import LEAD_DIGITS, Prefixes
from aaa_server.rating.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from aaa_server.rating.band import Bands

_Rows = dict[str, "Rate | tuple[Rate, ...] | _Banded"]


class Tariff:
    """The rows of one tariff: everybody's (account 0) and single accounts' own ones.

    `revision` is the tariff's revision up to which changes have been applied. `forced` holds,
    by row, the one outbound resource group that its calls may use.
    """

    __slots__ = (
        "_banded",
        "_bands",
        "_depth",
        "_group",
        "_own",
        "_prefixes",
        "currency",
        "forced",
        "revision",
        "tariff_id",
    )

    def __init__(
        self, tariff_id: int, currency: str, revision: int = 0, prefixes: Prefixes | None = None
    ) -> None:
        """An empty tariff; `prefixes` is told of every row that changes."""
        self.tariff_id = tariff_id
        self.currency = currency
        self.revision = revision
        self._group: _Rows = {}
        self._own: dict[int, _Rows] = {}
        # First digits -> length of the longest prefix that begins with them. It never
        # shrinks: a prefix that is gone costs one more look, not a wrong answer.
        self._depth: dict[str, int] = {}
        self._prefixes = prefixes
        self._bands: Bands | None = None
        # Prefixes that have, or had, rows of bands.
        self._banded: set[str] = set()
        # Rows are never changed, so one that is gone does no harm here.
        self.forced: dict[int, int] = {}

    def rate_for(self, called: str, at: datetime, account_id: int = 0) -> Rate | None:
        """The row in force for `called` at `at`, or None.

        The longest prefix wins, at equal length the account's own row, of its rows that of
        the band in force before the one without a band, and of those the row whose
        `[effective_from, effective_to)` holds `at`. A prefix none of whose rows is in
        force is as good as absent. A blocked row is returned.
        """
        length = self._depth.get(called[:LEAD_DIGITS], LEAD_DIGITS - 1)
        if length > len(called):
            length = len(called)
        group = self._group
        own = self._own.get(account_id) if account_id else None
        while length > 0:
            prefix = called[:length]
            length -= 1
            if own is not None and (found := own.get(prefix)) is not None:
                rate = _in_force(found, at)
                if rate is not None:
                    return rate
            found = group.get(prefix)
            if found is not None:
                rate = _in_force(found, at)
                if rate is not None:
                    return rate
        return None

    def owns(self, account_id: int) -> bool:
        """Whether the account has rows of its own."""
        return bool(self._own) and account_id in self._own

    def stays(self, called: str, at: datetime) -> tuple[datetime | None, datetime | None]:
        """The span `[from, until)` around `at` in which everybody's row for `called` is the same.

        None: without end. It may be shorter than it could be, never longer.
        """
        begins: datetime | None = None
        ends: datetime | None = None
        for length in range(min(len(called), self._depth_of(called)), 0, -1):
            found = self._group.get(called[:length])
            if found is None:
                continue
            edges: list[datetime | None] = []
            for rate in _rows_of(found):
                edges += [rate.effective_from, rate.effective_to]
            if self._bands is not None and type(found) is _Banded:
                span = self._bands.span(at)
                edges += [span.begins, span.ends]
            for edge in edges:
                if edge is None:
                    continue
                if edge <= at:
                    begins = edge if begins is None or begins < edge else begins
                else:
                    ends = edge if ends is None or edge < ends else ends
            if _in_force(found, at) is not None:
                break  # shorter prefixes do not matter while this row is in force
        return begins, ends

    def _depth_of(self, called: str) -> int:
        return self._depth.get(called[:LEAD_DIGITS], LEAD_DIGITS - 1)

    def replace(self, account_id: int, prefix: str, rates: Sequence[Rate]) -> None:
        """Make `rates` all the rows that `prefix` has for `account_id` (0: everybody).

        None of them may overlap another of its band in time. An empty sequence removes
        the prefix.
        """
        if self._prefixes is not None:
            self._prefixes.change(prefix)
        rows = self._own.setdefault(account_id, {}) if account_id else self._group
        if not rates:
            rows.pop(prefix, None)
            if account_id and not rows:
                del self._own[account_id]
            return
        rows[prefix] = rates[0] if len(rates) == 1 else tuple(rates)
        for rate in rates:
            if rate.resource_group_id:
                self.forced[rate.rate_id] = rate.resource_group_id
            if rate.band:
                self._banded.add(prefix)
                rows[prefix] = _Banded(self, tuple(rates))
        if len(prefix) >= LEAD_DIGITS:
            lead = prefix[:LEAD_DIGITS]
            if len(prefix) > self._depth.get(lead, 0):
                self._depth[lead] = len(prefix)

    @property
    def bands(self) -> Bands | None:
        return self._bands

    def use_bands(self, bands: Bands | None) -> None:
        """Have `bands` tell at which times rows of bands apply; without any they never do."""
        if bands == self._bands:
            return
        self._bands = bands
        if self._prefixes is not None:
            for prefix in self._banded:
                self._prefixes.change(prefix)

    def band_at(self, at: datetime) -> str:
        """The band in force; '' for none."""
        return self._bands.span(at).band if self._bands is not None else ""

    def rates(self, account_id: int = 0) -> Iterator[Rate]:
        """All rows of `account_id` (0: everybody's), in no particular order."""
        rows = self._own.get(account_id, {}) if account_id else self._group
        for found in rows.values():
            yield from _rows_of(found)

    def row(self, rate_id: int, prefix: str, account_id: int) -> Rate | None:
        """That row of `prefix`, the account's own or everybody's, in force or not."""
        for rows in (self._own.get(account_id, {}), self._group):
            found = rows.get(prefix)
            if found is not None:
                for rate in _rows_of(found):
                    if rate.rate_id == rate_id:
                        return rate
        return None

    def __len__(self) -> int:
        """How many prefixes have rows, the accounts' own ones counted each."""
        return len(self._group) + sum(map(len, self._own.values()))


class _Banded:
    """The rows of a prefix of which some are for a band alone."""

    __slots__ = ("rates", "tariff")

    def __init__(self, tariff: Tariff, rates: tuple[Rate, ...]) -> None:
        self.tariff = tariff
        self.rates = rates

    def in_force(self, at: datetime) -> Rate | None:
        band = self.tariff.band_at(at)
        at_other_times = None
        for rate in self.rates:
            if rate.effective_from <= at and (rate.effective_to is None or at < rate.effective_to):
                if not rate.band:
                    at_other_times = rate
                elif rate.band == band:
                    return rate
        return at_other_times


def _in_force(found: Rate | tuple[Rate, ...] | _Banded, at: datetime) -> Rate | None:
    if type(found) is Rate:
        if found.effective_from <= at and (found.effective_to is None or at < found.effective_to):
            return found
        return None
    if isinstance(found, tuple):
        for rate in found:
            if rate.effective_from <= at and (rate.effective_to is None or at < rate.effective_to):
                return rate
        return None
    assert isinstance(found, _Banded)
    return found.in_force(at)


def _rows_of(found: Rate | tuple[Rate, ...] | _Banded) -> tuple[Rate, ...]:
    if isinstance(found, Rate):
        return (found,)
    return found if isinstance(found, tuple) else found.rates
