"""`sky-aaa jobs`: what the worker does, when it did it last, and when it will again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import BadData, Failure, Session, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.storage import jobs as stored

if TYPE_CHECKING:
    from aaa_server.cli.output import Row
    from aaa_server.storage.jobs import JobState
    from aaa_server.worker.job import Job

COLUMNS = ("job", "every_seconds", "last_run", "result", "failures", "next_due", "purpose")


@click.group()
def jobs() -> None:
    """What is done again and again: by the worker, or by hand."""


@jobs.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """All jobs: the last run, what came of it, and when the next one is due."""
    from aaa_server.worker.jobs import jobs_of

    session.operator_only("the worker")
    with session.transaction() as work:
        states = {state.name: state for state in stored.states(work.cursor)}
        has_worker = stored.has_worker(work.cursor)
    known = jobs_of(session.config.worker, session.config.smtp)
    rows = [_row(job, states.get(job.name)) for job in known]
    show_rows(session, COLUMNS, rows)
    if not has_worker:
        click.echo("no worker runs: `sky-aaa serve worker`, or `sky-aaa serve`", err=True)


def _row(job: Job, state: JobState | None) -> Row:
    return {
        "job": job.name,
        "every_seconds": job.every_seconds,
        "last_run": state.started_at if state else None,
        "result": state.result if state else "",
        "failures": state.failures if state else 0,
        "next_due": state.due_at if state else None,
        "purpose": job.purpose,
    }


@jobs.command()
@click.argument("name")
@output_option
@pass_session
def run(session: Session, name: str) -> None:
    """Run job NAME now; it may run as often as you like."""
    from aaa_server.worker.job import run_job, utc_now
    from aaa_server.worker.jobs import jobs_of

    session.operator_only("the worker")
    known = {job.name: job for job in jobs_of(session.config.worker, session.config.smtp)}
    if name not in known:
        raise BadData(f"there is no job {name!r}: there are {', '.join(sorted(known))}")
    with session.connection() as connection:
        with session.transaction(connection) as work:
            work.note("jobs run", name, after={"at": datetime.now(UTC)})
        ran = run_job(connection, known[name], utc_now)
    if ran.problem:
        raise Failure(f"job {name} failed: {ran.problem}")
    show_record(session, {"job": name, "result": ran.result})
