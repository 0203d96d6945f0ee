"""Two workers as processes: a report is sent once, also when one of them is killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import SKY_AAA, wait_until
from tests.schedules.test_reports import add, planned
from web_reports.outbox import ANSWER_SECONDS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.invoices.conftest import Sky, World
    from tests.mailbox import Mailbox


@contextlib.contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`sky-aaa serve worker`, until the block ends."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([SKY_AAA, "serve", "worker"], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers look for reports every second."""
    for name, value in (
        ("WORKER_SCHEDULED_REPORTS_SECONDS", "1"),
        ("METRICS_PORT", "0"),
        ("DATABASE_DIRECTORY", str(tmp_path)),
    ):
        monkeypatch.setenv(f"SKY_AAA_{name}", value)


def test_two_workers_send_once_and_the_other_takes_over(
    ready: Sky, world: World, mailbox: Mailbox, often: None, tmp_path: Path
) -> None:
    add(ready, world, "margin")
    with worker(tmp_path) as first, worker(tmp_path) as second:
        wait_until(lambda: mailbox.messages, "the report comes")
        wait_until(lambda: world.ask("SELECT FROM report_mail"), "it is in the log")
        first.send_signal(signal.SIGKILL)
        first.wait()
        planned(world)
        wait_until(lambda: len(mailbox.messages) > 1, "the other sends")
        wait_until(lambda: len(world.ask("SELECT FROM report_mail")) > 1, "that is logged too")
        assert second.poll() is None
    assert len(mailbox.messages) == 2
    assert world.ask("SELECT problem FROM report_mail") == [("",), ("",)]


def test_a_worker_stops_at_once_while_a_mail_hangs(
    ready: Sky, world: World, mailbox: Mailbox, often: None, tmp_path: Path
) -> None:
    mailbox.hangs = True
    add(ready, world, "margin")
    with worker(tmp_path) as process:
        wait_until(lambda: mailbox.deliveries, "the mail hangs")
        process.send_signal(signal.SIGTERM)
        # Not after ANSWER_SECONDS_MAX, nor when the mail server has done with hanging.
        assert process.wait(ANSWER_SECONDS_MAX - 5) == 0
    assert world.ask("SELECT FROM report_mail") == []
