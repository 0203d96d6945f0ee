"""The worker's jobs by a clock wound by hand, and a mail server."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from aaa_server.config import SmtpConfig, WorkerConfig
from aaa_server.storage.database import connect
from aaa_server.worker.job import run_job
from aaa_server.worker.jobs import jobs_of
from tests.invoices.conftest import ready, sky, world
from tests.mailbox import Mailbox, mail_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aaa_server.worker.job import Ran

__all__ = ["ready", "sky", "world"]


class Works(Protocol):
    """Runs a job, as of that instant."""

    def __call__(self, name: str, at: str, **changes: Any) -> Ran: ...


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server that the configuration of commands names."""
    with mail_server() as box:
        monkeypatch.setenv("SKY_AAA_SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("SKY_AAA_SMTP_PORT", str(box.port))
        monkeypatch.setenv("SKY_AAA_SMTP_ENCRYPTION", "none")
        yield box


@pytest.fixture
def works(database_url: str, mailbox: Mailbox, tmp_path: Path) -> Iterator[Works]:
    """The worker's jobs, with the mail server; `host=""`: without."""
    connection = connect(database_url)

    def run(name: str, at: str, host: str = "127.0.0.1", **changes: Any) -> Ran:
        smtp = SmtpConfig(host=host, port=mailbox.port, encryption="none")
        config = WorkerConfig(invoice_folder=tmp_path / "pdfs", **changes)
        [job] = [job for job in jobs_of(config, smtp) if job.name == name]
        return run_job(connection, job, lambda: datetime.fromisoformat(at))

    yield run
    connection.close()
