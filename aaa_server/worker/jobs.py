"""All jobs, in one table: a new one is a function in a module of its family and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.worker import alerts, tables
from aaa_server.worker.job import Job

if TYPE_CHECKING:
    from aaa_server.config import WorkerConfig

HOUR = 3600


def jobs_of(config: WorkerConfig) -> list[Job]:
    """The jobs with the intervals that the configuration gives them."""
    return [
        Job(
            "low-balance",
            config.low_balance_seconds,
            alerts.low_balance,
            "An event for each balance that fell below its threshold.",
        ),
        Job(
            "expiry",
            config.expiry_seconds,
            alerts.expiry,
            "An event for each account and card that came to its end.",
        ),
        Job(
            "housekeeping",
            config.housekeeping_seconds,
            tables.housekeeping(config.event_days),
            "Forgets old events and what was used of limits long ago.",
        ),
    ]
