"""What goes wrong for one account is told once, and holds no other account up."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from twisted.logger import Logger

from aaa_server.storage import accounts, job_problems, viewer
from aaa_server.storage.database import reason_of, transaction
from aaa_server.storage.problem import Problem
from web_reports.outbox import ServerTrouble

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from psycopg2.extensions import connection as Connection

log = Logger()

NO_MAIL_SERVER = "mails wait, and no mail server is configured: [smtp] host"


class Place(NamedTuple):
    """Which job works for which account, and when."""

    job: str
    account_id: int
    at: datetime


@contextlib.contextmanager
def hindrance(connection: Connection, place: Place, hindered: list[str]) -> Iterator[None]:
    """Whatever the block raises becomes an event and a line of the log, the first time.

    Added to `hindered`. A lost connection and a mail server's trouble concern everybody: they
    end the job.
    """
    try:
        yield
    except ServerTrouble:
        raise
    except Exception as error:
        if connection.closed:
            raise
        connection.rollback()
        text = str(error) if isinstance(error, Problem) else reason_of(error)
        hindered.append(text)
        stand(connection, place, text)
        if not isinstance(error, Problem):
            log.failure("Job {job} failed for account {number}", job=place.job,
                        number=place.account_id)  # fmt: skip
        return
    with transaction(connection) as cursor:
        job_problems.solved(cursor, place.job, place.account_id)


def stand(connection: Connection, place: Place, text: str) -> None:
    """Tell of it, unless it was told before."""
    line = job_problems.line_of(text)
    with transaction(connection) as cursor:
        new = job_problems.stands(cursor, place.job, place.account_id, line, place.at)
        code = accounts.codes(cursor, [place.account_id]).get(place.account_id, "")
    if new:
        log.warn("Job {job}, {code}: {line}", job=place.job, code=code, line=line)


def mail_server(connection: Connection, host: str, at: datetime) -> bool:
    """Whether there is one; that there is none is told once, to the operator."""
    with transaction(connection) as cursor:
        place = Place("mail-server", viewer.operator(cursor).account_id, at)
        if host:
            job_problems.solved(cursor, *place[:2])
    if not host:
        stand(connection, place, NO_MAIL_SERVER)
    return bool(host)
