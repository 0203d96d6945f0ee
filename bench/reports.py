"""`python -m bench.reports`: how fast reports answer on a month of calls. Decides nothing.

The month is made once (bench/reports.sql, bench/reports_day.sql) and kept with its rollups in a
private PostgreSQL. Then every report of the rollups is asked in each grouping by one and by two
things, the other reports as they come; the books are proved check by check; and half a month of
records is written as CSV by a process of its own, whose memory is read.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from aaa_server.storage import audit, rollups
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.migrate import migrate
from bench.__main__ import default_directory, locked
from bench.cluster import Cluster
from web_reports.report import find
from web_reports.report_files import write_csv
from web_reports.report_run import Question, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

PERIOD = "2026-10"
FIRST = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 31
AFTERWARDS = datetime(2026, 11, 2, tzinfo=UTC)
HALF = Question(begin="2026-10-01", end="2026-10-16T12:00")
GROUPED = (
    "traffic", "margin", "top-destinations", "provider-settlement", "reseller-settlement",
    "revenue-by-product",
)  # fmt: skip
OTHERS = (
    "aged-receivables", "tax", "invoice-register", "prepaid-liability", "fraud", "calling-cards",
    "suspense", "mediation-completeness", "credit-control", "payments", "adjustments",
    "rate-changes",
)  # fmt: skip
ROUNDS = 3
BATCH = 500
BATCHES = 20


@click.command(context_settings={"show_default": True})
@click.option("--calls", type=click.IntRange(1000, 100_000_000), default=1_000_000)
@click.option("--csv/--no-csv", "as_csv", default=True, help="Write half of the records as CSV.")
@click.option("--proof/--no-proof", default=True, help="Prove the books, and time each check.")
@click.option("--others/--no-others", default=True, help="Ask the reports that have no rollup too.")
@click.option("--directory", type=click.Path(path_type=Path), help="For the data, which are kept.")
def main(calls: int, as_csv: bool, proof: bool, others: bool, directory: Path | None) -> None:
    """Make a month of calls once, roll it up, and time reports on it."""
    with locked(directory or default_directory() / "reports") as place:
        cluster = Cluster(place)
        try:
            _made(cluster, calls)
            url = cluster.url(_name(calls))
            clock = Clock(cluster)
            for name in GROUPED:
                for groups in _groupings(name):
                    _time(clock, url, name, groups, ROUNDS)
            if others:
                for name in OTHERS:
                    _time(clock, url, name, find(name).default_group, 1)
            if proof:
                _prove(clock, url)
            _writing(url)
            if as_csv:
                _write(clock, url)
        finally:
            cluster.stop()


# ------------------------------------------------------------------ the month


def _name(calls: int) -> str:
    return f"reports_{calls}"


def _made(cluster: Cluster, calls: int) -> None:
    """The month, rolled up; made if it is not there."""
    clock = Clock(cluster)
    if not cluster.has(_name(calls)):
        cluster.create("making")
        begun = clock.now()
        _make(cluster.url("making"), calls)
        print(f"{calls} calls made: {clock.now() - begun}", flush=True)
        cluster.rename("making", _name(calls))
    with contextlib.closing(connect(cluster.url(_name(calls)))) as connection:
        migrate(connection)
        connection.commit()
        hours = _steps(clock, connection, "hours of the rollups", rollups.refresh)
        days = _steps(
            clock, connection, "days and months", lambda cursor: rollups.extend(cursor, AFTERWARDS)
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            if hours or days:
                cursor.execute("VACUUM ANALYZE")
            for table in ("call_hour", "charge_hour", "ledger_hour", "call_span", "charge_span"):
                cursor.execute(
                    "SELECT reltuples::bigint, pg_size_pretty(pg_total_relation_size(oid))"
                    "  FROM pg_class WHERE relname = %s",
                    (table,),
                )
                print(table, *(cursor.fetchone() or ()))


def _make(url: str, calls: int) -> None:
    folder = Path(__file__).parent
    day = (folder / "reports_day.sql").read_text(encoding="utf-8")
    with contextlib.closing(connect(url)) as connection:
        migrate(connection)
        with transaction(connection) as cursor:
            cursor.execute((folder / "reports.sql").read_text(encoding="utf-8"))
        done = 0
        for number in range(DAYS):
            until = calls * (number + 1) // DAYS
            with transaction(connection) as cursor:
                cursor.execute("SET LOCAL work_mem = '256MB'; SET LOCAL jit = off")
                values = {"calls": until - done, "first": 10**6 + done, "seed": number / DAYS}
                cursor.execute(day, values | {"day": FIRST + timedelta(days=number)})
            done = until
        with transaction(connection) as cursor:
            cursor.execute(_BALANCES)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (FREEZE, ANALYZE)")


_BALANCES = """
UPDATE account
   SET balance_micros = posted.micros
  FROM (SELECT account_id,
               sum(amount_micros) AS micros
          FROM posting
         GROUP BY account_id) AS posted
 WHERE posted.account_id = account.account_id"""


def _steps(clock: Clock, connection: Connection, title: str, step: Callable[[Cursor], int]) -> int:
    """Repeats a step, a transaction each, until it has nothing to do; how much it did."""
    done, slowest = 0, 0.0
    begun = clock.now()
    while True:
        started = time.perf_counter()
        with transaction(connection) as cursor:
            found = step(cursor)
        if not found:
            break
        done += found
        slowest = max(slowest, time.perf_counter() - started)
    if done:
        took = clock.now() - begun
        print(f"{done} {title}: {took}; the slowest transaction {slowest:.1f} s", flush=True)
    return done


# ------------------------------------------------------------------ what is measured


class Took(NamedTuple):
    """Seconds on the wall and of CPU; of CPU this process' and PostgreSQL's."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} CPU)"

    def __sub__(self, other: Took) -> Took:
        return Took(self.wall - other.wall, self.cpu - other.cpu)


class Clock:
    """Reads both clocks."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def now(self) -> Took:
        """Since some time that is always the same."""
        return Took(time.perf_counter(), time.process_time() + self._cluster.cpu_seconds())


def _groupings(name: str) -> list[tuple[str, ...]]:
    """By one and by two things."""
    groups = find(name).groups(operator=True)
    singles = [(one,) for one in groups]
    return [*singles, *itertools.combinations(groups, 2)] or [()]


def _time(clock: Clock, url: str, name: str, groups: tuple[str, ...], rounds: int) -> None:
    """The report until its last row, and what it ties to after that: the median of both."""
    report = find(name)
    question = Question(period=PERIOD if report.period else "", group_by=groups)
    taken, tied = [], []
    with contextlib.closing(connect(url)) as connection:
        for _ in range(rounds):
            begun = clock.now()
            with running(connection, report, question) as result:
                rows = sum(1 for _ in result.rows)
                read = clock.now()
                differences = [one.difference for one in result.ties() if one.difference]
                tied.append(clock.now() - read)
            taken.append(read - begun)
    print(
        f"{name} by {', '.join(groups) or 'itself'}: {rows} rows in {_median(taken)};"
        f" ties {_median(tied)}, {len(differences)} differences",
        flush=True,
    )


def _median(taken: list[Took]) -> Took:
    return sorted(taken)[len(taken) // 2]


def _prove(clock: Clock, url: str) -> None:
    """Each check of `sky-aaa audit`."""
    for check in audit.CHECKS:
        with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
            begun = clock.now()
            differences = audit.differences(cursor, check)
            took = clock.now() - begun
        print(f"audit: {check.name}: {len(differences)} differences in {took}", flush=True)


def _writing(url: str) -> None:
    """What the notes of stale hours cost a batch of records, charges and postings."""
    taken: dict[str, float] = {}
    with contextlib.closing(connect(url)) as connection:
        for state in ("ENABLE", "DISABLE") * 2:
            with connection.cursor() as cursor:
                for table, trigger in (
                    ("cdr", "cdr_adds_to_rollup"), ("charge", "charge_adds_to_rollup"),
                    ("ledger_transaction", "ledger_adds_to_rollup"),
                ):  # fmt: skip
                    cursor.execute(f"ALTER TABLE {table} {state} TRIGGER {trigger}")
                started = time.perf_counter()
                for number in range(BATCHES):
                    values = {"first": 10**12 + number * BATCH, "count": BATCH}
                    for statement in (_RECORDS, _CHARGES, _LEDGER):
                        cursor.execute(statement, values)
                seconds = (time.perf_counter() - started) / BATCHES
                taken[state] = min(taken.get(state, seconds), seconds)
            connection.rollback()
    print(
        f"a batch of {BATCH} records and their charges: {1000 * taken['ENABLE']:.1f} ms, "
        f"without the notes {1000 * taken['DISABLE']:.1f} ms"
    )


_RECORDS = """
INSERT INTO cdr (call_id, client_id, session_key, account_id, party_id, levels, routes,
                 granted_seconds, authorized_at, ani, called, sip_call_id, ended_at, ended_by,
                 duration_ms, seconds)
SELECT number, 1, number::text, 1, '{1,2,3}', repeat('x', 200), repeat('x', 300), 60,
       '2026-10-31', '34915550100', '442071838750', '', '2026-10-31', 'stop', 1000, 1
  FROM generate_series(%(first)s, %(first)s + %(count)s - 1) AS number"""
_CHARGES = """
INSERT INTO charge (call_id, level, account_id, currency, amount_micros, billed_seconds, rate_id,
                    prefix)
SELECT number, level, 1, 'USD', 1, 1, 1, ''
  FROM generate_series(%(first)s, %(first)s + %(count)s - 1) AS number
 CROSS JOIN generate_series(-1, 1) AS level"""
_LEDGER = """
INSERT INTO ledger_transaction (transaction_id, kind, reference, at)
SELECT number, 'call', number::text, now()
  FROM generate_series(%(first)s, %(first)s + %(count)s - 1) AS number"""


# ------------------------------------------------------------------ all records as CSV


def _write(clock: Clock, url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    results: Queue[tuple[int, float, int]] = spawn.Queue()
    for question in (Question(period="2026-10-01"), HALF):
        begun = clock.now()
        process = spawn.Process(target=_csv, args=(url, question, results))
        process.start()
        rows, cpu, kib = results.get()
        process.join()
        took = clock.now() - begun
        print(
            f"CSV of {question.period or question.begin + '/' + question.end}: {rows} rows in"
            f" {took.wall:.0f} s ({took.cpu + cpu:.0f} CPU, of it {cpu:.0f} the writer's),"
            f" peak RSS {kib // 1024} MiB",
            flush=True,
        )


def _csv(url: str, question: Question, results: Queue[tuple[int, float, int]]) -> None:
    counted = itertools.count()
    with (
        contextlib.closing(connect(url)) as connection,
        Path(os.devnull).open("w", encoding="utf-8") as file,
        running(connection, find("calls"), question) as result,
    ):
        result.rows = (row for row, _ in zip(result.rows, counted, strict=False))
        write_csv(result, file)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put((next(counted), time.process_time(), kib))


if __name__ == "__main__":
    main()
