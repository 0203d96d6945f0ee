"""Numbers without gaps whatever happens at once, and a run that is killed in its middle."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from aaa_server.storage import invoices, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.invoice_draft import Span
from tests.integration.server import wait_until

if TYPE_CHECKING:
    from tests.invoices.conftest import Sky, World

THREADS = 6
ACCOUNTS = 30
MADRID = ZoneInfo("Europe/Madrid")
SPAN = Span(
    "2026-10",
    datetime(2026, 10, 1, tzinfo=MADRID),
    datetime(2026, 11, 1, tzinfo=MADRID),
    "Europe/Madrid",
)


@pytest.fixture
def many(ready: Sky, world: World) -> Sky:
    """Customers with a call each."""
    world.ask(
        """
        INSERT INTO account (account_id, code, kind, parent_id, name, prepaid, currency)
        SELECT 100 + number, 'c' || number, 'customer', 1, 'C', false, 'EUR'
          FROM generate_series(1, %s) AS number
     RETURNING 1
        """,
        ACCOUNTS,
    )
    world.ask(
        """
        INSERT INTO billing_profile (account_id, city, country)
        SELECT account_id, 'Madrid', 'ES' FROM account WHERE account_id > 100 RETURNING 1
        """
    )
    for number in range(1, ACCOUNTS + 1):
        world.call((f"c{number}", 1_000_000 + number))
    return ready


def numbers(world: World) -> list[str]:
    return [row[0] for row in world.ask("SELECT number FROM invoice ORDER BY number")]


def alone(world: World) -> bool:
    """Whether nobody else is at work in the database."""
    return not world.ask(
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )


EXPECTED = [f"INV-2026-{place:05}" for place in range(1, ACCOUNTS + 1)]


def test_threads_that_bill_the_same_accounts_leave_no_gap_and_no_double(
    many: Sky, world: World, database_url: str
) -> None:
    failed: list[BaseException] = []

    def bill(thread: int) -> None:
        try:
            with contextlib.closing(connect(database_url)) as connection:
                with transaction(connection) as cursor:
                    eyes = viewer.operator(cursor)
                    found = invoices.to_bill(cursor, eyes, SPAN, None, datetime.now(UTC))
                # Each in an order of its own, so that they meet.
                for buyer in found[thread:] + found[:thread]:
                    with transaction(connection) as cursor:
                        invoices.bill(cursor, eyes, buyer, SPAN, datetime.now(UTC), issue=True)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    threads = [threading.Thread(target=bill, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert numbers(world) == EXPECTED
    assert world.ask("SELECT count(*) FROM charge WHERE invoice_line_id IS NULL") == [(0,)]


def test_a_transaction_that_fails_gives_its_number_back(
    many: Sky, world: World, database_url: str
) -> None:
    with contextlib.closing(connect(database_url)) as connection:
        with transaction(connection) as cursor:
            eyes = viewer.operator(cursor)
            found = invoices.to_bill(cursor, eyes, SPAN, None, datetime.now(UTC))
        with connection.cursor() as cursor:
            invoices.bill(cursor, eyes, found[0], SPAN, datetime.now(UTC), issue=True)
        connection.rollback()
    many("invoice", "run", "--period", "2026-10")
    assert numbers(world) == EXPECTED


def test_a_run_that_is_killed_is_gone_on_with(many: Sky, world: World) -> None:
    command = [sys.executable, "-m", "aaa_server.cli.main", "invoice", "run", "--period", "2026-10"]
    process = subprocess.Popen(
        command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not numbers(world) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What it had asked for last is done or undone in a moment.
    wait_until(lambda: alone(world), "its session ends")
    before = numbers(world)
    assert before
    ran = many("invoice", "run", "--period", "2026-10", "-o", "json")
    assert ran.status == 0, ran.err
    assert [row["what"] for row in ran.json].count("issued before") == len(before)
    assert numbers(world) == EXPECTED
    assert world.ask("SELECT count(*) FROM charge WHERE invoice_line_id IS NULL") == [(0,)]


def test_a_call_that_is_charged_meanwhile_is_on_the_invoice_whole_or_on_the_next(
    many: Sky, world: World
) -> None:
    # Committed between the run's look and its end: it stays free.
    stop = threading.Event()

    def charge() -> None:
        for micros in range(200):
            if stop.is_set():
                return
            world.call(("c1", 7_000_000 + micros))

    thread = threading.Thread(target=charge)
    thread.start()
    many("invoice", "run", "--period", "2026-10")
    stop.set()
    thread.join()
    assert (
        world.ask(
            """
        SELECT invoice_line.invoice_line_id
          FROM invoice_line
          LEFT JOIN charge USING (invoice_line_id)
         GROUP BY invoice_line.invoice_line_id, invoice_line.raw_micros, invoice_line.calls
        HAVING invoice_line.raw_micros <> coalesce(sum(charge.amount_micros), 0)
            OR invoice_line.calls <> count(charge.call_id)
        """
        )
        == []
    )
