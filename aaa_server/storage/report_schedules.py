"""Reports that are mailed again and again: who wants which, when, and what became of it.

A run is known by the instant that it was planned for. One that was missed is made up once, as
of the last such instant; the others before it are left out.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2.extras import Json

from aaa_server.storage import wall_clock
from aaa_server.storage.problem import BadValue, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

FORMATS = ("html", "pdf", "csv", "xlsx", "json")
RHYTHMS = ("daily", "weekly", "monthly")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
RECIPIENTS_MAX = 20
SCHEDULES_MAX = 100  # of one owner
LOG_LINES_MAX = 1000
ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[^\s@<>,;:\"()\[\]\\]{1,253}")


class When(NamedTuple):
    """`day` is 1 (Monday) to 7, or of the month (its last where it is shorter), or 0 for daily."""

    rhythm: str
    day: int
    hour: int

    def before(self, at: datetime, zone: str) -> datetime:
        """The last instant planned up to `at`."""
        return max(one for one in self._around(at, zone) if one <= at)

    def after(self, at: datetime, zone: str) -> datetime:
        """The first instant planned after `at`."""
        return min(one for one in self._around(at, zone) if one > at)

    def _around(self, at: datetime, zone: str) -> Iterator[datetime]:
        """What is planned from some time before until some time after.

        An hour that the clock jumps over is as long after the jump; of one that comes twice it
        is the first.
        """
        today = wall_clock.local(at, zone).date()
        reach = {"daily": 2, "weekly": 8, "monthly": 33}[self.rhythm]
        for shift in range(-reach, reach + 1):
            day = today + timedelta(days=shift)
            if self._is_on(day):
                yield wall_clock.instant(datetime.combine(day, time(self.hour)), zone)

    def _is_on(self, day: date) -> bool:
        match self.rhythm:
            case "weekly":
                return day.isoweekday() == self.day
            case "monthly":
                return day.day == min(self.day, calendar.monthrange(day.year, day.month)[1])
            case _:
                return True


class Wish(NamedTuple):
    """What somebody wants to have sent; '' for the owner's own language and time zone."""

    report: str
    period: str
    group_by: tuple[str, ...]
    parameters: Mapping[str, str]
    format: str
    recipients: tuple[str, ...]
    when: When
    language: str = ""
    time_zone: str = ""
    active: bool = True


class Schedule(NamedTuple):
    """A wish and how it stands; `waiting` are those who have not got the run of `due_at` yet."""

    schedule_id: int
    owner_id: int
    owner_code: str
    owner_chain: tuple[int, ...]
    owner_zone: str
    closed: bool
    wish: Wish
    created_at: datetime
    due_at: datetime
    try_at: datetime
    tries: int
    waiting: tuple[str, ...]
    problem: str

    @property
    def zone(self) -> str:
        """By whose clock it is planned, and its periods are."""
        return self.wish.time_zone or self.owner_zone


class Delivery(NamedTuple):
    """One try: whom the mail server took the mail for, and what it said of the others."""

    due_at: datetime
    at: datetime
    recipients: tuple[str, ...]
    subject: str
    octets: int
    message_id: str
    problem: str


_SELECT = """
SELECT report_schedule.schedule_id,
       report_schedule.owner_id,
       account.code,
       account.chain,
       account.time_zone,
       EXISTS (SELECT
                 FROM account AS above
                WHERE above.account_id = ANY (account.chain)
                  AND above.status = 'closed'),
       report_schedule.report,
       report_schedule.period,
       report_schedule.group_by,
       report_schedule.parameters,
       report_schedule.format,
       report_schedule.recipients,
       report_schedule.rhythm,
       report_schedule.day,
       report_schedule.hour,
       report_schedule.language,
       report_schedule.time_zone,
       report_schedule.active,
       report_schedule.created_at,
       report_schedule.due_at,
       report_schedule.try_at,
       report_schedule.tries,
       report_schedule.waiting,
       report_schedule.problem
  FROM report_schedule
  JOIN account ON account.account_id = report_schedule.owner_id
 WHERE report_schedule.removed_at IS NULL"""


def _schedule(row: Sequence[Any]) -> Schedule:
    wish = Wish(
        report=row[6],
        period=row[7],
        group_by=tuple(row[8]),
        parameters=row[9],
        format=row[10],
        recipients=tuple(row[11]),
        when=When(*row[12:15]),
        language=row[15],
        time_zone=row[16],
        active=row[17],
    )
    return Schedule(
        schedule_id=row[0],
        owner_id=row[1],
        owner_code=row[2],
        owner_chain=tuple(row[3]),
        owner_zone=row[4],
        closed=row[5],
        wish=wish,
        created_at=row[18],
        due_at=row[19],
        try_at=row[20],
        tries=row[21],
        waiting=tuple(row[22]),
        problem=row[23],
    )


def list_schedules(cursor: Cursor, viewer: Viewer) -> list[Schedule]:
    """Those of the viewer's tree, by number."""
    cursor.execute(_SELECT + "\n ORDER BY report_schedule.schedule_id")
    found = [_schedule(row) for row in cursor.fetchall()]
    return [one for one in found if may(viewer, Deed.SEE, one.owner_chain)]


def find(cursor: Cursor, viewer: Viewer, schedule_id: int) -> Schedule:
    """The schedule of that number. Raises `NotFound`, also for another tree's."""
    cursor.execute(_SELECT + "\n   AND report_schedule.schedule_id = %s", (schedule_id,))
    row = cursor.fetchone()
    found = None if row is None else _schedule(row)
    if found is None or not may(viewer, Deed.SEE, found.owner_chain):
        raise NotFound(
            f"there is no scheduled report {schedule_id} that you may see: "
            "`sky-aaa report schedule list` shows them"
        )
    return found


def due(cursor: Cursor, now: datetime) -> list[Schedule]:
    """What is to be tried now, the one that has waited longest first. Runs as the owner."""
    cursor.execute(
        _SELECT
        + """
   AND report_schedule.active
   AND report_schedule.try_at <= %s
 ORDER BY report_schedule.try_at, report_schedule.schedule_id""",
        (now,),
    )
    return [_schedule(row) for row in cursor.fetchall()]


def waits(cursor: Cursor) -> bool:
    """Whether any report is to be mailed at all."""
    cursor.execute(
        "SELECT EXISTS (SELECT FROM report_schedule WHERE active AND removed_at IS NULL)"
    )
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def log_of(cursor: Cursor, schedule_id: int, *, limit: int = LOG_LINES_MAX) -> list[Delivery]:
    """The last `limit` tries, the oldest first."""
    cursor.execute(
        """
        SELECT due_at, at, recipients, subject, octets, message_id, problem
          FROM report_mail
         WHERE schedule_id = %s
         ORDER BY at DESC, report_mail_id DESC
         LIMIT %s
        """,
        (schedule_id, limit),
    )
    rows = reversed(cursor.fetchall())
    return [Delivery(*row)._replace(recipients=tuple(row[2])) for row in rows]


# ------------------------------------------------------------------ what people want


def add(cursor: Cursor, viewer: Viewer, account: Account, wish: Wish, now: datetime) -> Schedule:
    """A new schedule of that owner. The report and its parameters have been looked at.

    Raises `BadValue` for recipients that are none and more than `SCHEDULES_MAX`.
    """
    require(viewer, Deed.SCHEDULE, account.chain, account.code)
    _check(wish)
    zone = wish.time_zone or account.time_zone
    due_at = wish.when.after(now, zone)
    with as_owner(cursor, viewer):
        cursor.execute(
            "SELECT count(*) FROM report_schedule WHERE owner_id = %s AND removed_at IS NULL",
            (account.account_id,),
        )
        row = cursor.fetchone()
        if row is not None and row[0] >= SCHEDULES_MAX:
            raise BadValue(f"{account.code} has {SCHEDULES_MAX} scheduled reports: remove one")
        cursor.execute(
            """
            INSERT INTO report_schedule (
                       owner_id, report, period, group_by, parameters, format, recipients, rhythm,
                       day, hour, language, time_zone, active, created_at, due_at, try_at)
            VALUES (%(owner_id)s, %(report)s, %(period)s, %(group_by)s, %(parameters)s, %(format)s,
                    %(recipients)s, %(rhythm)s, %(day)s, %(hour)s, %(language)s, %(time_zone)s,
                    %(active)s, %(now)s, %(due_at)s, %(due_at)s)
         RETURNING schedule_id
            """,
            {**_values(wish), "owner_id": account.account_id, "now": now, "due_at": due_at},
        )
        number = cursor.fetchone()
        assert number is not None
    return find(cursor, viewer, number[0])


def change(cursor: Cursor, viewer: Viewer, one: Schedule, wish: Wish, now: datetime) -> Schedule:
    """Have it so from now on; what was being tried is let go, and the next run planned anew."""
    require(viewer, Deed.SCHEDULE, one.owner_chain, one.owner_code)
    _check(wish)
    due_at = wish.when.after(now, wish.time_zone or one.owner_zone)
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            UPDATE report_schedule
               SET report = %(report)s,
                   period = %(period)s,
                   group_by = %(group_by)s,
                   parameters = %(parameters)s,
                   format = %(format)s,
                   recipients = %(recipients)s,
                   rhythm = %(rhythm)s,
                   day = %(day)s,
                   hour = %(hour)s,
                   language = %(language)s,
                   time_zone = %(time_zone)s,
                   active = %(active)s,
                   due_at = %(due_at)s,
                   try_at = %(due_at)s,
                   tries = 0,
                   waiting = '{}',
                   problem = ''
             WHERE schedule_id = %(schedule_id)s
            """,
            {**_values(wish), "schedule_id": one.schedule_id, "due_at": due_at},
        )
    return find(cursor, viewer, one.schedule_id)


def remove(cursor: Cursor, viewer: Viewer, one: Schedule, now: datetime) -> None:
    """It is not sent any more; the log of what was stays."""
    require(viewer, Deed.SCHEDULE, one.owner_chain, one.owner_code)
    with as_owner(cursor, viewer):
        cursor.execute(
            "UPDATE report_schedule SET removed_at = %s WHERE schedule_id = %s",
            (now, one.schedule_id),
        )


def _values(wish: Wish) -> dict[str, Any]:
    return {
        **wish._asdict(),
        **wish.when._asdict(),
        "group_by": list(wish.group_by),
        "parameters": Json(dict(wish.parameters)),
        "recipients": list(wish.recipients),
    }


def _check(wish: Wish) -> None:
    if not 1 <= len(wish.recipients) <= RECIPIENTS_MAX:
        raise BadValue(f"say to whom: a report goes to 1 to {RECIPIENTS_MAX} addresses")
    for address in wish.recipients:
        if not ADDRESS.fullmatch(address):
            raise BadValue(f"{address!r} is no e-mail address: accounts@example.net is")
    if len(set(wish.recipients)) < len(wish.recipients):
        raise BadValue("an address is named twice")


# ------------------------------------------------------------------ what becomes of it


def note(cursor: Cursor, viewer: Viewer, one: Schedule, delivery: Delivery) -> None:
    """One line of the log."""
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            INSERT INTO report_mail (
                       schedule_id, due_at, at, recipients, subject, octets, message_id, problem)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                one.schedule_id,
                delivery.due_at,
                delivery.at,
                list(delivery.recipients),
                delivery.subject,
                delivery.octets,
                delivery.message_id,
                delivery.problem,
            ),
        )


def try_later(
    cursor: Cursor,
    one: Schedule,
    due_at: datetime,
    *,
    waiting: Sequence[str],
    tries: int,
    try_at: datetime,
    problem: str,
) -> bool:
    """The run of `due_at` is tried once more for these.

    `problem` is what is for good with the others; True for one that the last run had not.
    Runs as the owner.
    """
    cursor.execute(
        """
        UPDATE report_schedule
           SET due_at = %s,
               try_at = %s,
               tries = %s,
               waiting = %s,
               problem = %s
         WHERE schedule_id = %s
           AND due_at = %s
        """,
        (due_at, try_at, tries, list(waiting), problem, one.schedule_id, one.due_at),
    )
    return bool(cursor.rowcount) and problem not in ("", one.problem)


def go_on(cursor: Cursor, one: Schedule, next_due: datetime, problem: str) -> bool:
    """The run is over, well ('') or with a problem; True for one that the last had not.

    Runs as the owner. Nothing when somebody has changed the schedule meanwhile.
    """
    cursor.execute(
        """
        UPDATE report_schedule
           SET due_at = %s,
               try_at = %s,
               tries = 0,
               waiting = '{}',
               problem = %s
         WHERE schedule_id = %s
           AND due_at = %s
        """,
        (next_due, next_due, problem, one.schedule_id, one.due_at),
    )
    return bool(cursor.rowcount) and problem not in ("", one.problem)


def stop(cursor: Cursor, one: Schedule, problem: str) -> None:
    """It is not sent any more until somebody wants it again. Runs as the owner."""
    cursor.execute(
        """
        UPDATE report_schedule
           SET active = false,
               tries = 0,
               waiting = '{}',
               problem = %s
         WHERE schedule_id = %s
        """,
        (problem, one.schedule_id),
    )


def forget(cursor: Cursor, before: datetime, most: int) -> int:
    """Lines of the log older than that; how many, at most `most` at a time."""
    cursor.execute(
        """
        DELETE FROM report_mail
         WHERE ctid = ANY (ARRAY (SELECT ctid FROM report_mail WHERE at < %s ORDER BY at LIMIT %s))
        """,
        (before, most),
    )
    return cursor.rowcount
