"""All jobs, in one table: a new one is a function in a module of its family and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.worker import alerts, fees, rollups, routes, tables
from aaa_server.worker.job import Job

if TYPE_CHECKING:
    from aaa_server.config import WorkerConfig


def jobs_of(config: WorkerConfig) -> list[Job]:
    """The jobs with the intervals that the configuration gives them."""
    return [
        Job(
            "fees",
            config.fees_seconds,
            fees.fees,
            "Charges subscriptions, packages and DIDs that are due.",
        ),
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
            "route-quality",
            config.route_quality_seconds,
            routes.quality(config.route_quality_hours),
            "Counts answers and lengths of calls, for routes by quality.",
        ),
        Job(
            "call-records",
            config.call_records_seconds,
            tables.call_records(config.call_record_months),
            "Makes the coming months of the call records; detaches old ones.",
        ),
        Job(
            "rollups",
            config.rollups_seconds,
            rollups.refresh_rollups,
            "Adds up the calls and charges of each hour, for reports.",
        ),
        Job(
            "housekeeping",
            config.housekeeping_seconds,
            tables.housekeeping(config.event_days),
            "Forgets old events and what was used of limits long ago.",
        ),
    ]
