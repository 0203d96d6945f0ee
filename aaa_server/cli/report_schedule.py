"""`sky-aaa report schedule`: reports that are mailed again and again, by the worker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import BadData, Failure, Session, pass_session
from aaa_server.cli.output import Things, output_option, show_record, show_rows
from aaa_server.cli.values import LANGUAGE, TIME_ZONE
from aaa_server.storage import accounts, report_schedules, viewer
from aaa_server.storage.database import transaction
from aaa_server.storage.report_schedules import FORMATS, RHYTHMS, WEEKDAYS, When, Wish
from aaa_server.storage.viewer import Deed, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aaa_server.cli.output import Row
    from aaa_server.storage.report_schedules import Delivery, Schedule

COLUMNS = ("number", "owner", "report", "when", "format", "to", "active", "next_run", "problem")
LOG_SHOWN = 20
DEFAULT_HOUR = 6
# What a report is about when nobody says it: not the period that has just begun.
JUST_OVER = {"daily": "last-day", "weekly": "last-week", "monthly": "last-month"}


@click.group()
def schedule() -> None:
    """Reports by e-mail, daily, weekly or monthly: sent by the worker, seen by their owner."""


def _wish_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a wish is made of; None and () for what is not said."""
    days = ", ".join(WEEKDAYS[:2])
    for option in reversed(
        (
            click.option("--to", "recipients", multiple=True, metavar="ADDRESS"),
            click.option("--format", "form", type=click.Choice(FORMATS), help="[default: html]"),
            click.option("--every", "rhythm", metavar="DAY|WEEK|MONTH",
                         type=click.Choice(("day", "week", "month"))),
            click.option("--on", "day", metavar="DAY",
                         help=f"{days} …; or 1 to 31, the last where a month is shorter."),
            click.option("--at", "hour", type=click.IntRange(0, 23), metavar="HOUR",
                         help=f"By the owner's clock.  [default: {DEFAULT_HOUR}]"),
            click.option("--period", metavar="NAME",
                         help="last-day, last-week, last-month …  [default: what is just over]"),
            click.option("--group-by", metavar="A,B,C"),
            click.option("--set", "parameters", multiple=True, metavar="NAME=VALUE",
                         help="A parameter of the report."),
            click.option("--language", type=LANGUAGE, help="[default: the owner's]"),
            click.option("--time-zone", type=TIME_ZONE, help="[default: the owner's]"),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@schedule.command()
@click.argument("report")
@_wish_options
@output_option
@pass_session
def add(session: Session, /, report: str, **given: Any) -> None:
    """Mail REPORT again and again; with --as CODE it is that account's, with its eyes."""
    from web_reports import report_mail

    now = datetime.now(UTC)
    plain = Wish(report, "", (), {}, "html", (), When("daily", 0, DEFAULT_HOUR))
    if given["rhythm"] is None:
        raise click.UsageError("say how often: --every day, week or month")
    with session.transaction() as work:
        wish = _changed(plain, given)
        owner = accounts.find(work.cursor, work.viewer, work.viewer.code)
        require(work.viewer, Deed.SCHEDULE, owner.chain, owner.code)
        report_mail.check_wish(work.cursor, work.viewer, wish, now)
        one = report_schedules.add(work.cursor, work.viewer, owner, wish, now)
        work.note("report schedule add", str(one.schedule_id), after=_told(one.wish))
    show_record(session, _record(one))
    _warn(session)


@schedule.command()
@click.argument("number", type=int)
@_wish_options
@click.option("--active/--paused", "active", default=None)
@output_option
@pass_session
def change(session: Session, /, number: int, active: bool | None, **given: Any) -> None:
    """Change schedule NUMBER; what is not named stays. Recipients and --set are named anew."""
    from web_reports import report_mail

    now = datetime.now(UTC)
    if active is None and not any(one not in (None, ()) for one in given.values()):
        raise click.UsageError("nothing to change: name at least one option")
    with session.connection() as connection:
        with session.transaction(connection) as work:
            before = report_schedules.find(work.cursor, work.viewer, number)
            require(work.viewer, Deed.SCHEDULE, before.owner_chain, before.owner_code)
            wish = _changed(before.wish, given)
            wish = wish if active is None else wish._replace(active=active)
        if wish.active:
            with transaction(connection) as cursor:
                eyes = viewer.enter(cursor, before.owner_code)
                report_mail.check_wish(cursor, eyes, wish, now)
        with session.transaction(connection) as work:
            one = report_schedules.change(work.cursor, work.viewer, before, wish, now)
            told = (_told(before.wish), _told(wish))
            work.note("report schedule change", str(number), before=told[0], after=told[1])
    show_record(session, _record(one))


@schedule.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """All scheduled reports that you may see, and when they are sent next."""
    with session.transaction() as work:
        found = report_schedules.list_schedules(work.cursor, work.viewer)
    show_rows(session, COLUMNS, [_record(one) for one in found])


@schedule.command()
@click.argument("number", type=int)
@output_option
@pass_session
def show(session: Session, number: int) -> None:
    """Schedule NUMBER, and what was sent last: when, to whom, how large, what went wrong."""
    with session.transaction() as work:
        one = report_schedules.find(work.cursor, work.viewer, number)
        log = report_schedules.log_of(work.cursor, number, limit=LOG_SHOWN)
    sent = Things([_line(delivery) for delivery in log])
    show_record(session, {**_record(one), "sent": sent})


@schedule.command()
@click.argument("number", type=int)
@pass_session
def remove(session: Session, number: int) -> None:
    """Send schedule NUMBER no more; the log of what was sent stays."""
    with session.transaction() as work:
        one = report_schedules.find(work.cursor, work.viewer, number)
        report_schedules.remove(work.cursor, work.viewer, one, datetime.now(UTC))
        work.note("report schedule remove", str(number), before=_told(one.wish))


@schedule.command()
@click.argument("number", type=int)
@output_option
@pass_session
def run(session: Session, number: int) -> None:
    """Send schedule NUMBER now, as of now; its next run stays as planned."""
    from web_reports import report_mail
    from web_reports.outbox import Outbox

    config = session.config
    if not config.smtp.host:
        raise BadData("no mail server is configured: [smtp] host, and see docs/operations.md")
    now = datetime.now(UTC)
    outbox = Outbox(config.smtp)
    with session.connection() as connection:
        with session.transaction(connection) as work:
            one = report_schedules.find(work.cursor, work.viewer, number)
            require(work.viewer, Deed.SCHEDULE, one.owner_chain, one.owner_code)
        try:
            delivery, _ = report_mail.send(
                connection,
                outbox,
                config.smtp,
                one,
                due_at=now,
                recipients=one.wish.recipients,
                octets_max=config.worker.mail_megabytes_max * report_mail.MEGABYTE,
            )
        finally:
            outbox.close()
        with session.transaction(connection) as work:
            report_schedules.note(work.cursor, work.viewer, one, delivery)
            work.note("report schedule run", str(number), after=_line(delivery))
    if delivery.problem:
        raise Failure(f"scheduled report {number}: {delivery.problem}")
    show_record(session, _line(delivery))


# ------------------------------------------------------------------ words and values


def _changed(wish: Wish, given: Mapping[str, Any]) -> Wish:
    """The wish with what was said instead of what there was."""
    from web_reports.report import find

    changes: dict[str, Any] = {
        name: given[name] for name in ("language", "time_zone") if given[name] is not None
    }
    if given["recipients"]:
        changes["recipients"] = tuple(given["recipients"])
    if given["form"]:
        changes["format"] = given["form"]
    if given["period"] is not None:
        changes["period"] = given["period"]
    if given["group_by"] is not None:
        changes["group_by"] = tuple(filter(None, given["group_by"].split(",")))
    if given["parameters"]:
        changes["parameters"] = dict(map(_parameter, given["parameters"]))
    changed = wish._replace(**changes, when=_when(wish.when, given))
    if find(wish.report).period and changed.period in ("", JUST_OVER[wish.when.rhythm]):
        return changed._replace(period=JUST_OVER[changed.when.rhythm])
    return changed


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadData(f"--set {text!r}: NAME=VALUE is expected, such as account=alice")
    return name.strip().replace("-", "_"), value.strip()


def _when(before: When, given: Mapping[str, Any]) -> When:
    words = {"day": "daily", "week": "weekly", "month": "monthly"}
    rhythm = words[given["rhythm"]] if given["rhythm"] else before.rhythm
    assert rhythm in RHYTHMS
    hour = before.hour if given["hour"] is None else given["hour"]
    if rhythm == "daily":
        if given["day"] is not None:
            raise BadData("--on: what is sent every day has no day")
        return When(rhythm, 0, hour)
    if given["day"] is None:
        return When(rhythm, before.day if rhythm == before.rhythm else 1, hour)
    return When(rhythm, _day(rhythm, given["day"]), hour)


def _day(rhythm: str, text: str) -> int:
    if rhythm == "weekly":
        found = [name for name in WEEKDAYS if name.startswith(text.lower()) and len(text) > 1]
        if len(found) != 1:
            raise BadData(f"--on: {text!r} is no day of the week: {', '.join(WEEKDAYS)} are")
        return WEEKDAYS.index(found[0]) + 1
    if not text.isdecimal() or not 1 <= int(text) <= 31:
        raise BadData(f"--on: {text!r} is no day of a month: 1 to 31 are")
    return int(text)


def _warn(session: Session) -> None:
    if not session.config.smtp.host:
        click.echo("it waits: no mail server is configured, [smtp] host", err=True)


def _told(wish: Wish) -> dict[str, Any]:
    record = wish._asdict()
    record["when"] = _when_text(wish.when)
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in record.items()
    }


def _record(one: Schedule) -> Row:
    wish = one.wish
    return {
        "number": one.schedule_id,
        "owner": one.owner_code,
        "report": wish.report,
        "period": wish.period or None,
        "group_by": list(wish.group_by),
        "parameters": dict(wish.parameters),
        "format": wish.format,
        "to": list(wish.recipients),
        "when": _when_text(wish.when),
        "time_zone": one.zone,
        "language": wish.language or None,
        "active": wish.active,
        "next_run": one.try_at if wish.active else None,
        "tries": one.tries,
        "problem": one.problem,
    }


def _when_text(when: When) -> str:
    at = f"at {when.hour:02d}:00"
    match when.rhythm:
        case "weekly":
            return f"every {WEEKDAYS[when.day - 1]} {at}"
        case "monthly":
            return f"day {when.day} of every month {at}"
        case _:
            return f"every day {at}"


def _line(one: Delivery) -> Row:
    return {
        "run": one.due_at,
        "at": one.at,
        "to": list(one.recipients),
        "subject": one.subject,
        "octets": one.octets,
        "problem": one.problem,
    }
