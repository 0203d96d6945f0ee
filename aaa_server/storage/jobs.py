"""The worker's jobs as the database remembers them, and the locks that keep them apart."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

# pg_advisory_lock(bigint), held by a session: it ends with the process, however that ends.
WORKER_LOCK = 0x534B5957
# The same for the session that runs the slow jobs.
SLOW_LOCK = 0x534B5953
# pg_advisory_lock(int, int) with a number of the job's name: a job runs once at a time,
# whoever runs it.
JOB_LOCKS = 0x534B594A
RESULT_CHARACTERS_MAX = 500


class JobState(NamedTuple):
    """One row; `failures` counts those since it last went well."""

    name: str
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    result: str
    runs: int
    failed_runs: int
    failures: int


def lead(cursor: Cursor, lock: int = WORKER_LOCK) -> bool:
    """Whether this session is the one worker now, or runs its slow jobs; ask once a session."""
    cursor.execute("SELECT pg_try_advisory_lock(%s)", (lock,))
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def has_worker(cursor: Cursor) -> bool:
    """Whether some session is the worker."""
    cursor.execute(
        """
        SELECT EXISTS (
               SELECT
                 FROM pg_locks
                WHERE locktype = 'advisory'
                  AND objsubid = 1
                  AND classid = 0
                  AND objid = %s
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND granted)
        """,
        (WORKER_LOCK,),
    )
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def hold(cursor: Cursor, name: str) -> None:
    """Wait until nobody else runs the job, and keep others from it until `release`."""
    cursor.execute("SELECT pg_advisory_lock(%s, %s)", (JOB_LOCKS, _number(name)))


def release(cursor: Cursor, name: str) -> None:
    """Let others run the job."""
    cursor.execute("SELECT pg_advisory_unlock(%s, %s)", (JOB_LOCKS, _number(name)))


def _number(name: str) -> int:
    return zlib.crc32(name.encode()) - 2**31


def know(cursor: Cursor, names: Sequence[str], now: datetime) -> None:
    """Have a row for each job; a new one is due at once."""
    cursor.execute(
        """
        INSERT INTO job (name, due_at)
        SELECT name, %s
          FROM unnest(%s::text[]) AS name
            ON CONFLICT (name) DO NOTHING
        """,
        (now, list(names)),
    )


def states(cursor: Cursor) -> list[JobState]:
    """All rows, the one that is due first at the front."""
    cursor.execute(
        """
        SELECT name,
               due_at,
               started_at,
               ended_at,
               result,
               runs,
               failed_runs,
               failures
          FROM job
         ORDER BY due_at, name
        """
    )
    return [JobState(*row) for row in cursor.fetchall()]


def began(cursor: Cursor, name: str, at: datetime) -> None:
    """The job runs."""
    cursor.execute("UPDATE job SET started_at = %s, ended_at = NULL WHERE name = %s", (at, name))


def went_well(cursor: Cursor, name: str, result: str, *, at: datetime, due_at: datetime) -> None:
    """The job has ended, and what came of it."""
    cursor.execute(
        """
        UPDATE job
           SET ended_at = %s,
               result = %s,
               due_at = %s,
               runs = runs + 1,
               failures = 0
         WHERE name = %s
        """,
        (at, result[:RESULT_CHARACTERS_MAX], due_at, name),
    )


def failed(cursor: Cursor, name: str, reason: str, *, at: datetime, due_at: datetime) -> None:
    """The job has failed; the first time in a row somebody is told by an event."""
    cursor.execute(
        """
        WITH failed AS (
            UPDATE job
               SET ended_at = %(at)s,
                   result = %(reason)s,
                   due_at = %(due_at)s,
                   runs = runs + 1,
                   failed_runs = failed_runs + 1,
                   failures = failures + 1
             WHERE name = %(name)s
         RETURNING name, failures
        )
        INSERT INTO event (at, kind, detail)
        SELECT %(at)s, 'job-failed', jsonb_build_object('job', name, 'reason', %(reason)s::text)
          FROM failed
         WHERE failures = 1
        """,
        {"at": at, "reason": reason[:RESULT_CHARACTERS_MAX], "due_at": due_at, "name": name},
    )
