"""A job in a session of its own, or in a process that is killed once its mail has arrived."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from aaa_server.config import SmtpConfig, WorkerConfig
from aaa_server.storage.database import connect
from aaa_server.worker.job import run_job
from aaa_server.worker.jobs import jobs_of

if TYPE_CHECKING:
    from tests.mailbox import Mailbox

WAIT_SECONDS_MAX = 120.0


def killed_once_mailed(name: str, url: str, mailbox: Mailbox, at: str) -> bool:
    """Run the job as of that instant; whether it was killed."""
    process = subprocess.Popen(
        [sys.executable, __file__, name, url, str(mailbox.port), at],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    mailbox.kills = process.pid
    return process.wait(WAIT_SECONDS_MAX) == -signal.SIGKILL


def run_once(name: str, url: str, port: int, at: str) -> None:
    """Run the job as of that instant, over a session of its own."""
    smtp = SmtpConfig(host="127.0.0.1", port=port, encryption="none")
    [job] = [job for job in jobs_of(WorkerConfig(), smtp) if job.name == name]
    with contextlib.closing(connect(url)) as connection:
        run_job(connection, job, lambda: datetime.fromisoformat(at))


if __name__ == "__main__":
    run_once(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
