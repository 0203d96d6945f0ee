"""What keeps a job from an account's work: told by an event when it begins, not at every run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg2.extras import Json

from aaa_server.storage.viewer import Deed, Viewer, may

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

TEXT_CHARACTERS_MAX = 2000


class JobProblem(NamedTuple):
    """It stands in the job's way since then."""

    job: str
    account_id: int
    account_code: str
    problem: str
    since: datetime


def stands(cursor: Cursor, job: str, account_id: int, text: str, at: datetime) -> bool:
    """Note the problem; True, and an event, when it is another one than the last time."""
    cursor.execute(
        """
        INSERT INTO job_problem (job, account_id, problem, since)
        VALUES (%(job)s, %(account_id)s, %(problem)s, %(at)s)
            ON CONFLICT (job, account_id) DO UPDATE
           SET problem = excluded.problem,
               since = excluded.since
         WHERE job_problem.problem <> excluded.problem
        """,
        {"job": job, "account_id": account_id, "problem": text, "at": at},
    )
    if not cursor.rowcount:
        return False
    tell(cursor, "job-hindered", account_id, at, {"job": job, "reason": text})
    return True


def line_of(problem: str) -> str:
    """The text on one line, as the list, the log and the event have it."""
    return " ".join(problem.split())[:TEXT_CHARACTERS_MAX]


def solved(cursor: Cursor, job: str, account_id: int) -> None:
    """Nothing stands in the way any more."""
    cursor.execute("DELETE FROM job_problem WHERE job = %s AND account_id = %s", (job, account_id))


def list_problems(cursor: Cursor, viewer: Viewer) -> list[JobProblem]:
    """Those of the viewer's tree, by account and job."""
    cursor.execute(
        """
        SELECT job_problem.job,
               job_problem.account_id,
               account.code,
               job_problem.problem,
               job_problem.since,
               account.chain
          FROM job_problem
          JOIN account USING (account_id)
         ORDER BY account.code, job_problem.job
        """
    )
    return [
        JobProblem(*row[:5]) for row in cursor.fetchall() if may(viewer, Deed.SEE, tuple(row[5]))
    ]


def tell(
    cursor: Cursor, kind: str, account_id: int, at: datetime, detail: Mapping[str, object]
) -> None:
    """One event about the account."""
    cursor.execute(
        "INSERT INTO event (at, account_id, kind, detail) VALUES (%s, %s, %s, %s)",
        (at, account_id, kind, Json(dict(detail))),
    )
