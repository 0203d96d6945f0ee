"""Invoices by the worker: when, once, whatever happens, and one issuer beside the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg2.errors
import pytest

from aaa_server.storage import viewer
from aaa_server.storage.database import connect, transaction
from web_reports import invoice_document
from web_reports.report_page import TemplateProblem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.invoices.conftest import Sky, World
    from tests.mailbox import Mailbox
    from tests.schedules.conftest import Works

# October ends at midnight in Madrid; six hours later its grace is over.
OVER = "2026-11-01T05:00:00Z"
DAY_AFTER = "2026-11-02T00:00:00Z"


def numbers(world: World) -> list[str]:
    return [row[0] for row in world.ask("SELECT number FROM invoice ORDER BY number")]


def events(world: World) -> list[tuple[str, str]]:
    """Account and kind of what was told."""
    return [
        (code, kind)
        for code, kind in world.ask(
            "SELECT account.code, event.kind FROM event LEFT JOIN account USING (account_id)"
            " ORDER BY event_id"
        )
    ]


def since(world: World, instant: str = "2026-10-01Z") -> None:
    """As if the schedules had been made then."""
    world.ask(
        """
        UPDATE invoice_schedule
           SET mail_since = %(at)s + (mail_since - mail_since),
               remind_since = %(at)s + (remind_since - remind_since),
               documents_since = %(at)s + (documents_since - documents_since)
     RETURNING 1
        """.replace("%(at)s", f"'{instant}'::timestamptz")
    )


def scheduled(ready: Sky, world: World, *words: str, code: str = "admin") -> None:
    """The issuer's October is invoiced by itself."""
    ran = ready("invoice", "schedule", "set", code, "--from", "2026-10", *words)
    assert ran.status == 0, ran.err
    since(world)


def test_nothing_is_done_by_itself_unless_somebody_wants_it(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    world.call(("alice", 1_000_000))
    ready("invoice", "run", "--period", "2026-10")
    ready("issuer", "dunning", "admin", "0:5.00:suspend")
    world.call(("alice", 1_000_000), at="2026-11-15T12:00:00Z")
    slow = ("invoice-run", "invoice-documents", "reminders", "invoice-mail", "scheduled-reports")
    for name in slow:
        assert works(name, "2027-06-01T00:00:00Z").problem == ""
    assert (numbers(world), mailbox.messages, events(world)) == (["INV-2026-00001"], [], [])


def test_a_period_is_invoiced_when_it_and_its_grace_are_over(
    ready: Sky, world: World, works: Works
) -> None:
    world.call(("alice", 1_000_000))
    world.call(("alice", 2_000_000), at="2026-11-01T01:00:00Z")
    scheduled(ready, world)
    assert works("invoice-run", "2026-11-01T04:59:59Z").result == "0 invoices issued"
    assert works("invoice-run", OVER).result == "1 invoices issued"
    for _ in range(2):
        assert works("invoice-run", DAY_AFTER).result == "0 invoices issued"
    [shown] = ready("invoice", "list", "-o", "json").json
    assert (shown["period"], shown["total"]) == ("2026-10", "1.210000")
    [row] = ready("invoice", "schedule", "list", "-o", "json").json
    assert (row["next_period"], row["runs_at"]) == ("2026-11", "2026-12-01T05:00:00+00:00")
    assert world.ask("SELECT actor FROM audit_log WHERE action = 'invoice issue'") == [("worker",)]


def test_periods_that_were_missed_are_made_up_each_by_itself(
    ready: Sky, world: World, works: Works
) -> None:
    for month in ("08", "09", "10"):
        world.call(("alice", 1_000_000), at=f"2026-{month}-15T12:00:00Z")
    scheduled(ready, world, "--from", "2026-Q3", "--every", "quarter")
    works("invoice-run", "2027-01-02T00:00:00Z")
    rows = world.ask("SELECT period_name, net_micros FROM invoice ORDER BY number")
    assert rows == [("2026-Q3", 2_000_000), ("2026-Q4", 1_000_000)]


def test_a_number_has_the_year_of_the_day_of_its_invoice(
    ready: Sky, world: World, works: Works
) -> None:
    for month in ("10", "11", "12"):
        world.call(("alice", 1_000_000), at=f"2026-{month}-15T12:00:00Z")
    assert ready("issuer", "set", "admin", "--series", "INV-{year}-").status == 0
    scheduled(ready, world)
    # The last of them as the new year is six hours old in Madrid.
    for at in (OVER, "2026-12-01T05:00:00Z", "2027-01-01T05:00:00Z"):
        assert works("invoice-run", at).result == "1 invoices issued"
    assert numbers(world) == ["INV-2026-00001", "INV-2026-00002", "INV-2027-00001"]


def test_an_address_that_is_missing_is_told_once_and_holds_up_nobody_else(
    ready: Sky, world: World, works: Works
) -> None:
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    world.ask("UPDATE issuer SET street = '' WHERE account_id = 1 RETURNING 1")
    scheduled(ready, world)
    scheduled(ready, world, code="north")
    for _ in range(3):
        ran = works("invoice-run", OVER)
        assert ran.problem == ""
    assert numbers(world) == ["NT2026/00001"]
    assert events(world) == [("admin", "job-hindered")]
    rows = ready("invoice", "schedule", "list", "-o", "json").json
    assert "has no street" in rows[0]["problem"]
    assert "has no street" in ready("doctor").out
    assert ready("--as", "north", "invoice", "schedule", "list", "-o", "json").json == [rows[1]]
    ready("issuer", "set", "admin", "--street", "Calle Mayor 1")
    works("invoice-run", OVER)
    assert numbers(world) == ["INV-2026-00001", "NT2026/00001"]
    assert world.ask("SELECT * FROM job_problem") == []


def test_a_period_that_was_closed_by_hand_is_passed_over(
    ready: Sky, world: World, works: Works
) -> None:
    world.call(("alice", 1_000_000))
    ready("invoice", "run", "--period", "2026-10")
    assert ready("period", "close", "2026-10").status == 0
    scheduled(ready, world)
    assert works("invoice-run", OVER).result == "0 invoices issued"
    assert events(world) == []
    [row] = ready("invoice", "schedule", "list", "-o", "json").json
    assert row["next_period"] == "2026-11"


def test_a_run_that_is_killed_is_gone_on_with(ready: Sky, world: World, works: Works) -> None:
    world.ask(
        """
        INSERT INTO account (account_id, code, kind, parent_id, name, prepaid, currency)
        SELECT 100 + number, 'c' || number, 'customer', 1, 'C', false, 'EUR'
          FROM generate_series(1, 25) AS number
     RETURNING 1
        """
    )
    world.ask(
        """
        INSERT INTO billing_profile (account_id, city, country)
        SELECT account_id, 'Madrid', 'ES' FROM account WHERE account_id > 100 RETURNING 1
        """
    )
    for number in range(1, 26):
        world.call((f"c{number}", 1_000_000))
    scheduled(ready, world)
    process = subprocess.Popen(
        [sys.executable, "-m", "aaa_server.cli.main", "jobs", "run", "invoice-run"],
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not numbers(world) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert numbers(world)
    works("invoice-run", DAY_AFTER)
    assert numbers(world) == [f"INV-2026-{place:05}" for place in range(1, 26)]
    assert world.ask("SELECT count(*) FROM charge WHERE invoice_line_id IS NULL") == [(0,)]


def test_documents_are_written_once_into_a_folder_an_issuer(
    ready: Sky, world: World, works: Works, tmp_path: Path
) -> None:
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    scheduled(ready, world, "--documents")
    scheduled(ready, world, "--documents", code="north")
    works("invoice-run", OVER)
    assert works("invoice-documents", OVER).result == "2 PDFs written"
    assert works("invoice-documents", OVER).result == "0 PDFs written"
    files = sorted(path.relative_to(tmp_path) for path in (tmp_path / "pdfs").rglob("*.*"))
    names = [str(path) for path in files if path.suffix == ".pdf"]
    assert names == ["pdfs/1-admin/INV-2026-00001.pdf", "pdfs/3-north/NT2026_00001.pdf"]
    digests = world.ask("SELECT count(*) FROM invoice_document WHERE written_at IS NOT NULL")
    assert digests == [(2,)]


def test_two_issuers_with_one_number_have_a_file_each(
    ready: Sky, world: World, tmp_path: Path
) -> None:
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    assert ready("issuer", "set", "north", "--series", "INV-2026-").status == 0
    for who in ((), ("--as", "north")):
        assert ready(*who, "invoice", "run", "--period", "2026-10").status == 0
    ran = ready("invoice", "pdfs", "--folder", "all", "--processes", "1")
    assert ran.status == 0, ran.err
    assert "2 of 2" in ran.err
    assert len(list((tmp_path / "all").glob("*.pdf"))) == 2


def test_a_template_that_is_wrong_is_told_once_and_tried_again(
    ready: Sky,
    world: World,
    works: Works,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.call(("alice", 1_000_000))
    scheduled(ready, world, "--documents", "--mail")
    works("invoice-run", OVER)

    def broken(_: object) -> bytes:
        raise TemplateProblem("template invoice.typ, line 7: unknown variable")

    with monkeypatch.context() as patched:
        patched.setattr(invoice_document, "pdf", broken)
        for _ in range(3):
            assert works("invoice-documents", OVER).problem == ""
            assert works("invoice-mail", OVER).problem == ""
    assert events(world) == [("admin", "job-hindered")] * 2
    [log] = ready("invoice", "mails", "INV-2026-00001", "-o", "json").json
    assert "line 7" in log["problem"]
    works("invoice-documents", OVER)
    assert world.ask("SELECT job FROM job_problem") == [("invoice-mail",)]
    works("invoice-mail", "2026-11-01T05:05:00Z")
    assert mailbox.subjects == ["Invoice INV-2026-00001 from Sky Operator S.L."]
    assert world.ask("SELECT * FROM job_problem") == []


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("set", "alice"), 2, "alice is a customer"),
        (("set", "admin", "--from", "2026-10-05"), 2, "2026-10-05 is no month: 2026-10 is"),
        (("set", "admin", "--every", "quarter", "--from", "2026-10"), 2, "2026-Q4 is"),
        (("set", "admin", "--from", "someday"), 2, "no period"),
        (("set", "nobody"), 1, "there is no account"),
    ],
)
def test_a_wrong_schedule_is_refused(
    ready: Sky, words: tuple[str, ...], status: int, text: str
) -> None:
    ran = ready("invoice", "schedule", *words)
    assert (ran.status, text in ran.err) == (status, True), ran.err


def test_a_reseller_schedules_its_own_invoices_and_sees_no_other(ready: Sky, world: World) -> None:
    scheduled(ready, world)
    as_north = ("--as", "north", "invoice", "schedule")
    assert ready(*as_north, "set", "north", "--mail").status == 0
    assert "operator only" in ready(*as_north, "set", "north", "--documents").err
    assert "there is no account" in ready(*as_north, "set", "admin").err
    assert ready("--as", "cora", "invoice", "schedule", "set", "north").status == 1
    rows = ready(*as_north, "list", "-o", "json").json
    assert [row["issuer"] for row in rows] == ["north"]
    assert ready(*as_north, "remove", "north").status == 0
    assert "nothing to remove" in ready(*as_north, "remove", "north").err
    actions = world.ask("SELECT action FROM audit_log WHERE action LIKE %s", "invoice schedule%")
    assert [action for (action,) in actions] == [
        "invoice schedule set",
        "invoice schedule set",
        "invoice schedule remove",
    ]


def test_row_level_security_hides_what_is_others(
    ready: Sky, world: World, database_url: str
) -> None:
    scheduled(ready, world)
    ready("report", "schedule", "add", "margin", "--every", "day", "--to", "a@example.test")
    world.ask(
        "INSERT INTO job_problem VALUES ('invoice-run', 1, 'x', now());"
        "INSERT INTO report_mail (schedule_id, due_at, at, recipients, subject, octets,"
        " message_id, problem) VALUES (1, now(), now(), '{}', '', 0, '', '') RETURNING 1"
    )
    connection = connect(database_url)
    for table in ("invoice_schedule", "job_problem", "report_schedule", "report_mail"):
        with transaction(connection) as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours
            assert cursor.fetchone() == (1,)
            viewer.enter(cursor, "north")
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours
            assert cursor.fetchone() == (0,)
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            connection.rollback()
    connection.close()
