"""`python -m bench.reports`: how fast reports answer on a month of calls. Decides nothing.

A month is made in a private PostgreSQL (bench/reports.sql), rolled up, and asked: traffic
and margin from the rollups, all records as CSV by a process of its own whose memory is read.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aaa_server.storage.database import connect
from aaa_server.storage.migrate import migrate
from aaa_server.worker.rollups import refresh_rollups
from bench.cluster import Cluster
from web_reports.report import find
from web_reports.report_files import write_csv
from web_reports.report_run import Question, running

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

PERIOD = "2026-10"
ROUNDS = 3
BATCH = 500
BATCHES = 20


@click.command(context_settings={"show_default": True})
@click.option("--calls", type=click.IntRange(1000, 100_000_000), default=1_000_000)
@click.option("--csv/--no-csv", "as_csv", default=True, help="Write all records as CSV too.")
@click.option("--directory", type=click.Path(path_type=Path), help="For the data; removed again.")
def main(calls: int, as_csv: bool, directory: Path | None) -> None:
    """Make a month of calls, roll it up, and time reports on it."""
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-", dir=directory))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.run("CREATE DATABASE reports")
        _measure(cluster.url("reports"), calls, as_csv)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(cluster.embedded.home.parent, ignore_errors=True)


def _measure(url: str, calls: int, as_csv: bool) -> None:
    connection = connect(url)
    migrate(connection)
    started = time.perf_counter()
    with connection.cursor() as cursor:
        text = Path(__file__).with_name("reports.sql").read_text(encoding="utf-8")
        cursor.execute(text, {"calls": calls})
    connection.commit()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    connection.autocommit = False
    print(f"{calls} calls made in {time.perf_counter() - started:.0f} s")
    started = time.perf_counter()
    told = refresh_rollups(connection, datetime.now(UTC))
    print(f"rollups: {told} in {time.perf_counter() - started:.1f} s")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE call_hour, charge_hour")
        for table in ("call_hour", "charge_hour"):
            cursor.execute(
                "SELECT reltuples::bigint, pg_size_pretty(pg_total_relation_size(oid))"
                "  FROM pg_class WHERE relname = %s",
                (table,),
            )
            print(table, *(cursor.fetchone() or ()))
    connection.commit()
    for name, groups in (
        ("traffic", ("day",)), ("traffic", ("provider",)), ("traffic", ("destination",)),
        ("margin", ("customer",)), ("margin", ("provider",)), ("margin", ("destination",)),
        ("top-destinations", ("destination",)), ("provider-settlement", ("provider", "prefix")),
    ):  # fmt: skip
        _time(url, name, groups)
    connection.close()
    _writing(url)
    if as_csv:
        results: Queue[tuple[int, float, int]] = multiprocessing.get_context("spawn").Queue()
        for period in ("2026-10-01", PERIOD):
            process = multiprocessing.get_context("spawn").Process(
                target=_csv, args=(url, period, results)
            )
            process.start()
            rows, seconds, kib = results.get()
            process.join()
            print(f"CSV of {period}: {rows} rows in {seconds:.1f} s, peak RSS {kib // 1024} MiB")


def _time(url: str, name: str, groups: tuple[str, ...]) -> None:
    connection = connect(url)
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        question = Question(period=PERIOD, group_by=groups)
        with running(connection, find(name), question) as result:
            rows = len(list(result.rows))
        taken.append(time.perf_counter() - started)
    with running(connection, find(name), question) as result:
        list(result.rows)
        started = time.perf_counter()
        differences = {tied.difference for tied in result.ties()}
        ties = time.perf_counter() - started
    connection.close()
    print(
        f"{name} by {', '.join(groups)}: {rows} rows in {sorted(taken)[ROUNDS // 2]:.2f} s; "
        f"tied in {ties:.1f} s, differences {differences or 'none'}"
    )


def _writing(url: str) -> None:
    """What the notes of stale hours cost a batch of records and charges."""
    connection = connect(url)
    taken: dict[str, float] = {}
    for state in ("ENABLE", "DISABLE") * 2:
        with connection.cursor() as cursor:
            for table, trigger in (
                ("cdr", "cdr_adds_to_rollup"), ("charge", "charge_adds_to_rollup"),
            ):  # fmt: skip
                cursor.execute(f"ALTER TABLE {table} {state} TRIGGER {trigger}")
            started = time.perf_counter()
            for number in range(BATCHES):
                first = 10**12 + number * BATCH
                cursor.execute(_RECORDS, {"first": first, "count": BATCH})
                cursor.execute(_CHARGES, {"first": first, "count": BATCH})
            seconds = (time.perf_counter() - started) / BATCHES
            taken[state] = min(taken.get(state, seconds), seconds)
        connection.rollback()
    connection.close()
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


def _csv(url: str, period: str, results: Queue[tuple[int, float, int]]) -> None:
    started = time.perf_counter()
    connection = connect(url)
    counted = itertools.count()
    with (
        Path(os.devnull).open("w", encoding="utf-8") as file,
        running(connection, find("calls"), Question(period=period)) as result,
    ):
        result.rows = (row for row, _ in zip(result.rows, counted, strict=False))
        write_csv(result, file)
    connection.close()
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put((next(counted), time.perf_counter() - started, kib))


if __name__ == "__main__":
    main()
