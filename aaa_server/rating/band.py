"""Times of the day and week, and holidays, at which other rows of a price list apply.

The wall clock of the price list's time zone decides, whatever it does: an hour that it
skips has no calls, one that it shows twice is in its band both times.

The trick: the answer holds until the clock next shows a minute at which some window
begins or ends, shows midnight, or is put forward or back. So it is kept with the span of
instants for which it is right, and nearly every call finds it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

DAY_MINUTES = 1440
EVERY_DAY = 0b1111111

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_EARLIEST = datetime(MINYEAR, 1, 1, tzinfo=UTC)
_LATEST = datetime(MAXYEAR, 12, 31, tzinfo=UTC)


class Window(NamedTuple):
    """When a band is in force: from one minute of the local day up to another one.

    Where `to_minute` is not after `from_minute` it is of the next day. `weekdays` has a bit
    for each day on which it begins, Monday's the lowest; on holidays it begins whenever
    `holiday` says so, and then on no other days. Of several windows that hold an instant
    those of holidays go first, then the lower `position`.
    """

    band: str
    weekdays: int
    from_minute: int
    to_minute: int
    holiday: bool = False
    position: int = 0


class Span(NamedTuple):
    """The band that is in force in `[begins, ends)`; '' for none."""

    band: str
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Bands:
    """The windows of one price list, its holidays, and its time zone."""

    zone: tzinfo
    windows: tuple[Window, ...]
    holidays: frozenset[date] = frozenset()

    _edges: tuple[int, ...] = field(init=False, repr=False, compare=False)
    # The last answer, and from when until when it is right.
    _held: list[Span] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Put the windows into their order, and find the minutes at which something changes."""
        ordered = sorted(self.windows, key=_precedence)
        edges = {0, DAY_MINUTES}
        for window in ordered:
            assert 0 <= window.from_minute < DAY_MINUTES
            assert 0 < window.to_minute <= DAY_MINUTES
            edges.update((window.from_minute, window.to_minute))
        fold = object.__setattr__
        fold(self, "windows", tuple(ordered))
        fold(self, "_edges", tuple(sorted(edges)))
        fold(self, "_held", [Span("", _LATEST, _EARLIEST)])

    def span(self, at: datetime) -> Span:
        """The band in force at `at`, and a span around it in which nothing changes.

        The span may be shorter than it could be, never longer. The calendar's first and
        last year have no bands, since nothing comes before or after them.
        """
        held = self._held[0]
        if held.begins <= at < held.ends:
            return held
        found = self._look(at.astimezone(UTC).replace(microsecond=0))
        self._held[0] = found
        return found

    def _look(self, at: datetime) -> Span:
        if at.year == MINYEAR or at.year == MAXYEAR:
            return Span("", at, at)
        local = at.astimezone(self.zone)
        clock = local.replace(tzinfo=None)
        midnight = clock.replace(hour=0, minute=0, second=0)
        minute = 60 * clock.hour + clock.minute
        before = max([edge for edge in self._edges if edge <= minute])
        after = min([edge for edge in self._edges if edge > minute])
        begins = at - (clock - midnight - timedelta(minutes=before))
        ends = at + (midnight + timedelta(minutes=after) - clock)
        # So it is if the clock goes on as it does now. It is never changed twice a day.
        offset = local.utcoffset()
        if begins.astimezone(self.zone).utcoffset() != offset:
            begins = _clock_change(self.zone, begins, at)
        if ends.astimezone(self.zone).utcoffset() != offset:
            ends = _clock_change(self.zone, at, ends)
        return Span(self._band(clock.date(), minute), begins, ends)

    def _band(self, today: date, minute: int) -> str:
        for window in self.windows:
            if window.from_minute < window.to_minute:
                if window.from_minute <= minute < window.to_minute and self._on(window, today):
                    return window.band
            elif minute >= window.from_minute:
                if self._on(window, today):
                    return window.band
            elif minute < window.to_minute and self._on(window, today - _DAY):
                return window.band
        return ""

    def _on(self, window: Window, day: date) -> bool:
        """Whether the window begins on this day."""
        if window.holiday:
            return day in self.holidays
        return bool(window.weekdays >> day.weekday() & 1)


def _precedence(window: Window) -> tuple[bool, int]:
    return not window.holiday, window.position


def _clock_change(zone: tzinfo, begins: datetime, ends: datetime) -> datetime:
    """The first second in `(begins, ends]` at which the zone's offset is not as at `begins`."""
    offset = begins.astimezone(zone).utcoffset()
    same, changed = 0, (ends - begins) // _SECOND
    while changed - same > 1:
        middle = (same + changed) // 2
        if (begins + middle * _SECOND).astimezone(zone).utcoffset() == offset:
            same = middle
        else:
            changed = middle
    return begins + changed * _SECOND
