"""`sky-aaa rerate`: charge calls anew by the price lists as they stand now."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from aaa_server.charging.requests import Rerated
from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import amount, output_option, show_rows
from aaa_server.cli.values import WHEN
from aaa_server.storage import accounts, correction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

    from aaa_server.charging.requests import Changed

COLUMNS = ("account", "role", "calls", "before", "after", "difference", "currency")


class Sums:
    """What the calls changed, by account and by whether it buys or, as a provider, sells."""

    def __init__(self) -> None:
        self.before: Counter[tuple[int, bool, str]] = Counter()
        self.after: Counter[tuple[int, bool, str]] = Counter()
        self.calls: Counter[tuple[int, bool, str]] = Counter()
        self.kept: Counter[str] = Counter()
        self.seen = self.changed = 0

    def add(self, answer: Rerated) -> None:
        """Count one call's new rating."""
        self.seen += 1
        if answer.kept:
            self.kept[answer.kept] += 1
        self.changed += bool(answer.changes)
        for change in answer.changes:
            if change.before_micros != change.after_micros:
                self._add(change)

    def _add(self, change: Changed) -> None:
        key = (change.account_id, change.level < 0, change.currency)
        self.before[key] += change.before_micros
        self.after[key] += change.after_micros
        self.calls[key] += 1


@click.command()
@click.option("--from", "begin", type=WHEN, required=True, help="Authorised at or after this.")
@click.option("--to", "end", type=WHEN, required=True, help="Authorised before this.")
@click.option("--account", "code", metavar="CODE", help="Its calls, and of all below it.")
@click.option("--dry-run", is_flag=True, help="Show the difference per account; post nothing.")
@output_option
@pass_session
def rerate(
    session: Session, begin: datetime, end: datetime, code: str | None, dry_run: bool
) -> None:
    """Rate the calls of a period anew, and post what changes.

    Each call is priced by the rows that are in force, as entered by now, for the instant at
    which it was authorised. What was posted stays; a reversal and a new charge are added.
    Running it again changes nothing more. Calls to DIDs keep their charges.
    """
    session.operator_only("rerate")
    if begin >= end:
        raise BadData(f"--from {begin.isoformat()} is not before --to {end.isoformat()}")
    sums = Sums()
    with session.connection() as connection:
        for answer in _answers(session, connection, begin, end, code, dry_run=dry_run):
            sums.add(answer)
        with session.transaction(connection) as work:
            codes = accounts.codes(work.cursor, [key[0] for key in sums.calls])
            if not dry_run:
                period = {"from": begin, "to": end, "account": code, "calls": sums.changed}
                work.note("rerate", code or "all", after=period)
    rows = [
        {
            "account": codes[key[0]],
            "role": "provider" if key[1] else "payer",
            "calls": count,
            "before": amount(sums.before[key]),
            "after": amount(sums.after[key]),
            "difference": amount(sums.after[key] - sums.before[key]),
            "currency": key[2],
        }
        for key, count in sorted(sums.calls.items())
    ]
    show_rows(session, COLUMNS, rows)
    done = "would change" if dry_run else "changed"
    click.echo(f"{sums.seen} calls looked at, {sums.changed} {done}", err=True)
    for reason, count in sums.kept.most_common():
        click.echo(f"  {count} keep their charges: {reason}", err=True)


def _answers(
    session: Session,
    connection: Connection,
    begin: datetime,
    end: datetime,
    code: str | None,
    *,
    dry_run: bool,
) -> Iterator[Rerated]:
    from aaa_server.online_charging import policy_of
    from aaa_server.storage.plain import prepare

    with session.transaction(connection) as work:
        account_id = None
        if code is not None:
            account_id = accounts.find(work.cursor, work.viewer, code).account_id
    prepare(connection)
    connection.commit()
    after, now = 0, datetime.now(UTC)
    while True:
        with session.transaction(connection) as work:
            calls = correction.ended_calls(
                work.cursor,
                begin=begin,
                end=end,
                account_id=account_id,
                after=after,
                limit=correction.CALLS_A_BATCH,
            )
        if not calls:
            return
        answers = correction.decide(
            connection,
            correction.rerates(calls, now),
            numbers={call.called for call in calls},
            policy=policy_of(session.config.charging),
            dry_run=dry_run,
        )
        for answer in answers:
            assert isinstance(answer, Rerated)
            yield answer
        after = calls[-1].call_id
