"""`python -m bench.invoices`: a run of a thousand invoices with a million charges, and its PDFs.

A cluster of its own under a temporary folder; the figures are of this machine as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import click

from aaa_server.cli.context import explain_errors
from aaa_server.cli.main import cli
from aaa_server.storage import audit
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.embedded import EmbeddedPostgres
from aaa_server.storage.migrate import migrate

CALLS_EACH = 1000


@click.command()
@click.option("--accounts", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True)
def main(accounts: int, processes: int) -> None:
    """Make the month, invoice it, write the documents, prove the books; say how long each took."""
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-", dir="/tmp"))
    # PostgreSQL of a run by root is another user's, who must get there.
    folder.chmod(0o755)
    embedded = EmbeddedPostgres(folder)
    try:
        with embedded:
            _measure(embedded.url, folder, accounts, processes)
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(embedded.home.parent, ignore_errors=True)


def _measure(url: str, folder: Path, accounts: int, processes: int) -> None:
    os.environ["SKY_AAA_DATABASE_URL"] = url
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    with contextlib.closing(connect(url)) as connection:
        migrate(connection)
        with _timed(f"{accounts * CALLS_EACH} calls made"), transaction(connection) as cursor:
            values = {"accounts": accounts, "calls": accounts * CALLS_EACH}
            cursor.execute(statements, values)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    with _timed(f"{accounts} invoices issued"):
        _run("invoice", "run", "--period", "2026-10", "-o", "csv")
    with _timed(f"{accounts} PDFs with their annexes, {processes} processes"):
        _run("invoice", "pdfs", "--period", "2026-10", "--folder", str(folder / "pdfs"),
             "--processes", str(processes))  # fmt: skip
    size = sum(path.stat().st_size for path in (folder / "pdfs").iterdir())
    click.echo(f"{size // 10**6} MB of PDFs", err=True)
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        differences = sum(len(proved.differences) for proved in audit.prove(cursor))
        cursor.execute("SELECT count(*) FROM charge WHERE invoice_line_id IS NULL")
        click.echo(f"{differences} differences, {cursor.fetchone()} charges left out", err=True)


@contextlib.contextmanager
def _timed(what: str):  # type: ignore[no-untyped-def] # a context of no value
    begun, before = time.monotonic(), os.times()
    yield
    after = os.times()
    # Of this process and of those that it has waited for; PostgreSQL's is not in it.
    cpu = sum(after[:4]) - sum(before[:4])
    click.echo(f"{time.monotonic() - begun:8.1f} s, {cpu:6.1f} s of CPU  {what}", err=True)


def _run(*words: str) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        status = explain_errors(cli, list(words))
    assert status == 0, "the command failed"


if __name__ == "__main__":
    main()
