"""`band` and `holiday` of `sky-aaa rate-group` and `resource-group`: when which rates apply."""

from __future__ import annotations

import functools
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli import price_list
from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_rows
from aaa_server.cli.price_list import Choice
from aaa_server.cli.values import RESOURCE_GROUP, checked
from aaa_server.rating.band import DAY_MINUTES, EVERY_DAY, Window
from aaa_server.storage import rate_bands
from aaa_server.storage.rate_bands import Holiday

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.context import Work
    from aaa_server.cli.output import Row

    Command = Callable[..., None]
    Decorator = Callable[[Command], Command]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOW_COLUMNS = ("band", "days", "from", "to", "position")
HOLIDAY_COLUMNS = ("day", "name")


# ------------------------------------------------------------------ what people type


def _weekdays(text: str) -> int:
    """The bits of `mon-fri,sun`; a range may go on over Sunday."""
    bits = 0
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{text!r} are no days: mon-fri, or sat,sun, are")
        day, end = DAYS.index(first), DAYS.index(last or first)
        bits |= 1 << day
        while day != end:
            day = (day + 1) % len(DAYS)
            bits |= 1 << day
    return bits


def _minute(text: str) -> int:
    hour, colon, minute = text.partition(":")
    if colon and hour.isdecimal() and minute.isdecimal() and len(minute) == 2 and len(hour) <= 2:
        found = 60 * int(hour) + int(minute)
        if int(minute) < 60 and found <= DAY_MINUTES:
            return found
    raise ValueError(f"{text!r} is no time of the day: 00:00 to 24:00 are")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no date: 2026-12-25 is") from error


def _show_days(window: Window) -> str:
    if window.holiday:
        return "holidays"
    runs: list[list[int]] = []
    for day in range(len(DAYS)):
        if not window.weekdays >> day & 1:
            continue
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(
        f"{DAYS[run[0]]}-{DAYS[run[-1]]}" if len(run) > 2 else ",".join(DAYS[day] for day in run)
        for run in runs
    )


def _show_minute(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _record(window: Window) -> Row:
    return {
        "band": window.band,
        "days": _show_days(window),
        "from": _show_minute(window.from_minute),
        "to": _show_minute(window.to_minute),
        "position": window.position,
    }


# ------------------------------------------------------------------ whose bands


def of_rate_group(command: Command) -> Command:
    """A rate group's name as the first argument, and --owner; they arrive as `choice`."""

    @functools.wraps(command)
    def gather(name: str, owner: str, **options: Any) -> None:
        command(choice=Choice(name, owner, None, None), **options)

    with_owner: Command = click.option(
        "--owner", metavar="CODE", default="", help="Where several have one of this name."
    )(gather)
    with_name: Command = click.argument("name")(with_owner)
    return with_name


def of_resource_group(command: Command) -> Command:
    """A resource group as the first argument, which arrives as `choice`."""

    @functools.wraps(command)
    def gather(name: str, **options: Any) -> None:
        command(choice=Choice(None, "", name, None), **options)

    with_name: Command = click.argument("name", metavar="XX", type=RESOURCE_GROUP)(gather)
    return with_name


def attach(parent: click.Group, of_list: Decorator) -> None:
    """Give `parent` the commands, whose price lists `of_list` tells from the arguments."""
    band = click.Group("band", help="Bands: times of the day and week, and holidays, with rates.")
    band_argument = click.argument("band")
    _command(band, "add", add_band, [of_list, band_argument, *_WINDOW_OPTIONS])
    _command(band, "list", list_bands, [of_list])
    _command(band, "remove", remove_band, [of_list, band_argument])
    parent.add_command(band)
    holiday = click.Group("holiday", help="Holidays, on which bands of holidays are in force.")
    days = click.argument("days", nargs=-1, required=True, type=checked("date", _date))
    name = click.option("--name", "called", default="", help="A name for people.")
    _command(holiday, "add", add_holidays, [of_list, days, name])
    _command(holiday, "list", list_holidays, [of_list])
    _command(holiday, "remove", remove_holidays, [of_list, days])
    parent.add_command(holiday)


def _command(group: click.Group, name: str, function: Command, decorators: list[Decorator]) -> None:
    # The list's decorator wraps the function, so that each parent has a command of its own.
    of_list, *parameters = decorators
    (first, *others) = [output_option, *reversed(parameters)]

    @functools.wraps(function)
    def run(**options: Any) -> None:
        function(**options)

    command: Command = first(run)
    for parameter in others:
        command = parameter(command)
    group.command(name)(of_list(command))


_TIME = checked("time", _minute)
_WINDOW_OPTIONS: list[Decorator] = [
    click.option("--days", type=checked("days", _weekdays), help="mon-fri,sun  [default: all]"),
    click.option("--holidays", is_flag=True, help="On holidays, instead of days of the week."),
    click.option("--from", "begins", type=_TIME, default="00:00", show_default=True),
    click.option(
        "--to",
        "ends",
        type=_TIME,
        default="24:00",
        show_default=True,
        help="Not after --from: of the next day.",
    ),
    click.option(
        "--position",
        type=click.IntRange(-(2**31), 2**31 - 1),
        default=0,
        show_default=True,
        help="Where several are in force the lower one applies.",
    ),
]


# ------------------------------------------------------------------ the commands


@pass_session
def add_band(
    session: Session,
    /,
    choice: Choice,
    band: str,
    days: int | None,
    holidays: bool,
    begins: int,
    ends: int,
    position: int,
) -> None:
    """Let BAND be in force at these times too, by the clock of the list's time zone.

    Rates of the band then apply to calls that begin in it; where bands overlap, those of
    holidays go first, then the lower --position. A window over midnight belongs to the day
    on which it begins.
    """
    if holidays and days is not None:
        raise click.UsageError("--days and --holidays: one of them")
    if begins == DAY_MINUTES:
        raise click.UsageError("--from 24:00: say 00:00 of the next day")
    weekdays = 0 if holidays else days or EVERY_DAY
    window = Window(band, weekdays, begins, ends or DAY_MINUTES, holidays, position)
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        rate_bands.add_window(work.cursor, prices.tariff_id, window)
        _note(work, choice, "band add", prices.name, after=dict(_record(window)))
        found = rate_bands.list_windows(work.cursor, prices.tariff_id)
    show_rows(session, WINDOW_COLUMNS, [_record(one) for one in found])


@pass_session
def list_bands(session: Session, /, choice: Choice) -> None:
    """The times of all bands, in the order in which they go first."""
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=False)
        found = rate_bands.list_windows(work.cursor, prices.tariff_id)
    show_rows(session, WINDOW_COLUMNS, [_record(one) for one in found])


@pass_session
def remove_band(session: Session, /, choice: Choice, band: str) -> None:
    """Take BAND away with all its times; no rate of it may be in force or planned."""
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        gone = rate_bands.remove_band(work.cursor, prices.tariff_id, band)
        before = {"windows": [dict(_record(one)) for one in gone]}
        _note(work, choice, "band remove", prices.name, before=before)
        found = rate_bands.list_windows(work.cursor, prices.tariff_id)
    show_rows(session, WINDOW_COLUMNS, [_record(one) for one in found])


@pass_session
def add_holidays(session: Session, /, choice: Choice, days: tuple[date, ...], called: str) -> None:
    """Make DAYS (2026-12-25 …) holidays of the price list."""
    holidays = [Holiday(day, called) for day in sorted(set(days))]
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        rate_bands.add_holidays(work.cursor, prices.tariff_id, holidays)
        after = {"holidays": [one._asdict() for one in holidays]}
        _note(work, choice, "holiday add", prices.name, after=after)
        found = rate_bands.list_holidays(work.cursor, prices.tariff_id)
    show_rows(session, HOLIDAY_COLUMNS, [one._asdict() for one in found])


@pass_session
def list_holidays(session: Session, /, choice: Choice) -> None:
    """The holidays, in order of time."""
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=False)
        found = rate_bands.list_holidays(work.cursor, prices.tariff_id)
    show_rows(session, HOLIDAY_COLUMNS, [one._asdict() for one in found])


@pass_session
def remove_holidays(session: Session, /, choice: Choice, days: tuple[date, ...]) -> None:
    """Make DAYS plain days of the week again."""
    with session.transaction() as work:
        prices = price_list.find(work, choice, change=True)
        gone = rate_bands.remove_holidays(work.cursor, prices.tariff_id, sorted(set(days)))
        before = {"holidays": [one._asdict() for one in gone]}
        _note(work, choice, "holiday remove", prices.name, before=before)
        found = rate_bands.list_holidays(work.cursor, prices.tariff_id)
    show_rows(session, HOLIDAY_COLUMNS, [one._asdict() for one in found])


def _note(
    work: Work,
    choice: Choice,
    action: str,
    subject: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    noun = "rate-group" if choice.resource_group is None else "resource-group"
    work.note(f"{noun} {action}", subject, before=before, after=after)
