"""`python -m bench.accounting`: a provider's file against our calls, and the journal of a month.

A month is made in a private PostgreSQL (bench/accounting.sql), and from it the provider's
file, in which one call in twenty differs. The commands run as people run them, in processes
of their own whose memory is read. Decides nothing.
"""

from __future__ import annotations

import csv
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aaa_server.storage.database import connect
from aaa_server.storage.migrate import migrate
from bench.cluster import Cluster

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

PERIOD = ("--from", "2026-10-01", "--to", "2026-11-01")
ROWS_AT_ONCE = 20_000


@click.command(context_settings={"show_default": True})
@click.option("--calls", type=click.IntRange(1000, 100_000_000), default=1_000_000)
@click.option("--directory", type=click.Path(path_type=Path), help="For the data; removed again.")
def main(calls: int, directory: Path | None) -> None:
    """Make a month of calls, reconcile it, and write its journal in each form."""
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-", dir=directory))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.run("CREATE DATABASE accounting")
        _measure(cluster.url("accounting"), calls, folder)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(cluster.embedded.home.parent, ignore_errors=True)


def _measure(url: str, calls: int, folder: Path) -> None:
    connection = connect(url)
    migrate(connection)
    with connection.cursor() as cursor:
        text = Path(__file__).with_name("accounting.sql").read_text(encoding="utf-8")
        cursor.execute(text, {"calls": calls})
    connection.commit()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    connection.autocommit = False
    their = folder / "their.csv"
    lines = _write_theirs(connection, their)
    connection.close()
    print(f"{calls} calls, {lines} lines of their file")
    run = ("reconciliation", "run", str(their), "--provider", "acme")
    _time(url, folder, "reconciliation", *run, *PERIOD, "-o", "json")
    for form, per in (("csv", "transaction"), ("beancount", "transaction"), ("beancount", "day")):
        out = folder / "journal"
        export = ("export", "journal", "--format", form, "--per", per)
        _time(url, folder, f"journal {form} per {per}", *export, *PERIOD, "--out", str(out))
        print(f"  {out.stat().st_size >> 20} MiB")


def _write_theirs(connection: Connection, path: Path) -> int:
    """Their file: clocks apart, some seconds more, some calls missing; how many lines."""
    chance = random.Random(1)
    lines = 0
    with path.open("w", encoding="utf-8") as file, connection.cursor(name="calls") as rows:
        writer = csv.writer(file)
        writer.writerow(("Called Number", "Answer Time", "Duration", "Cost", "Code"))
        rows.itersize = ROWS_AT_ONCE
        rows.execute(
            "SELECT called, ended_at - duration_ms * interval '1 ms', seconds, call_id % 2 FROM cdr"
        )
        for called, at, seconds, odd in rows:
            drawn = chance.random()
            if drawn < 0.002:
                continue
            more = 1 if drawn < 0.04 else 10 if drawn < 0.05 else 0
            shown = at + timedelta(seconds=chance.randint(-3, 3))
            cost = f"{(seconds + more) * 167 / 1_000_000:.6f}"
            code = "4420" if odd else "44"
            writer.writerow(
                (f"00{called}", f"{shown:%Y-%m-%d %H:%M:%S}", seconds + more, cost, code)
            )
            lines += 1
    connection.rollback()
    return lines


def _time(url: str, folder: Path, name: str, *words: str) -> None:
    environment = {
        **os.environ,
        "SKY_AAA_DATABASE_URL": url,
        "SKY_AAA_SECRETS_KEY_FILE": str(folder / "secrets.key"),
    }
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "aaa_server.cli.main", *words],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    # Of all children until now: it only grows.
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"{name}: {seconds:.1f} s, at most {most} MiB")


if __name__ == "__main__":
    main()
