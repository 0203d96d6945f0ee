"""A job: what the worker does again and again, and what keeps its time.

A job may be run at any moment, as often as somebody likes, and may be killed in its middle:
each commits what belongs together in one transaction, and finds what is left the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from twisted.logger import Logger

from aaa_server.storage import jobs
from aaa_server.storage.database import reason_of, transaction
from aaa_server.storage.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import connection as Connection

log = Logger()

Work = Callable[["Connection", datetime], str]

# After a failure; doubled with each further one, up to the job's own interval or an hour.
RETRY_SECONDS_MIN = 10
RETRY_SECONDS_MAX = 3600


class More(str):
    """What a job did, when there is more to do: it is due again at once, after the others."""

    __slots__ = ()


class Job(NamedTuple):
    """`work` takes a connection and the time, and tells in a few words what it did.

    `slow` ones wait for mail servers, or write whole months: they have a thread of their own.
    `interrupt`, from another thread, ends what the database cannot.
    """

    name: str
    every_seconds: int
    work: Work
    purpose: str
    slow: bool = False
    interrupt: Callable[[], None] | None = None


class Ran(NamedTuple):
    """How a run went; `problem` '' when it went well."""

    name: str
    result: str
    problem: str = ""


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


def run_job(connection: Connection, job: Job, now: Callable[[], datetime]) -> Ran:
    """Run the job once, after whoever runs it now, and note how it went.

    Raises nothing for a job that fails; psycopg2's error when the connection is lost.
    """
    with transaction(connection) as cursor:
        jobs.know(cursor, [job.name], now())
        jobs.hold(cursor, job.name)
        jobs.began(cursor, job.name, now())
    try:
        ran = _tried(connection, job, now())
        with transaction(connection) as cursor:
            if ran.problem:
                _note_failure(connection, job, ran.problem, now())
            else:
                wait = 0 if isinstance(ran.result, More) else job.every_seconds
                due_at = now() + timedelta(seconds=wait)
                jobs.went_well(cursor, job.name, ran.result, at=now(), due_at=due_at)
    finally:
        if not connection.closed:
            with transaction(connection) as cursor:
                jobs.release(cursor, job.name)
    return ran


def _tried(connection: Connection, job: Job, now: datetime) -> Ran:
    try:
        result = job.work(connection, now)
        connection.commit()
    except Problem as problem:
        # In words for people, and no fault of the program: told when it begins.
        connection.rollback()
        return Ran(job.name, "", reason_of(problem))
    except Exception as error:
        # Whatever one job does, the others are run.
        if connection.closed:
            raise
        connection.rollback()
        log.failure("Job {job} failed", job=job.name)
        return Ran(job.name, "", reason_of(error))
    log.debug("Job {job}: {result}", job=job.name, result=result)
    return Ran(job.name, result)


def _note_failure(connection: Connection, job: Job, problem: str, now: datetime) -> None:
    with connection.cursor() as cursor:
        before = {state.name: state.failures for state in jobs.states(cursor)}
        if not before.get(job.name):
            log.warn("Job {job}: {problem}", job=job.name, problem=problem)
        delay = retry_seconds(before.get(job.name, 0), job.every_seconds)
        due_at = now + timedelta(seconds=delay)
        jobs.failed(cursor, job.name, problem, at=now, due_at=due_at)


def retry_seconds(failures_before: int, every_seconds: int) -> int:
    """How long to wait after one more failure in a row."""
    doubled = RETRY_SECONDS_MIN << min(failures_before, 16)
    return min(doubled, RETRY_SECONDS_MAX, max(every_seconds, RETRY_SECONDS_MIN))


def due(connection: Connection, known: Sequence[Job], now: datetime) -> list[Job]:
    """Those of `known` that are due, the one that has waited longest first.

    Brought forward when an interval has become shorter than what was planned with.
    """
    by_name = {job.name: job for job in known}
    with transaction(connection) as cursor:
        jobs.know(cursor, list(by_name), now)
        planned = jobs.states(cursor)
    waiting = []
    for state in planned:
        job = by_name.get(state.name)
        if job is None:
            continue
        latest = now + timedelta(seconds=max(job.every_seconds, RETRY_SECONDS_MIN))
        if state.due_at <= now or state.due_at > latest:
            waiting.append(job)
    return waiting
