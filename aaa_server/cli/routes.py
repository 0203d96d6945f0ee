"""`sky-aaa route-quality` and `sky-aaa route-refusals`: what became of routes, in numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import output_option, show_rows
from aaa_server.cli.simulation import quality_row
from aaa_server.cli.values import WHEN
from aaa_server.rating.lcr import QUALITY_ATTEMPTS_MIN, Quality
from aaa_server.storage import route_quality as qualities
from aaa_server.storage.route_refusal import hour_of, list_route_refusals

if TYPE_CHECKING:
    from aaa_server.cli.output import Row
    from aaa_server.storage.route_quality import RouteQuality

QUALITY_COLUMNS = (
    "resource_group",
    "provider",
    "attempts",
    "answered",
    "talk_seconds",
    "asr_percent",
    "acd_seconds",
    "measured",
    "counted_from",
    "counted_to",
)
REFUSAL_COLUMNS = ("hour", "rate_group", "resource_group", "provider", "refusals")
DAYS_SHOWN = 1


@click.command("route-quality")
@output_option
@pass_session
def route_quality(session: Session) -> None:
    """Attempts, answers and talk of each outbound resource group, as servers know them.

    ASR: of the attempts, how many were answered. ACD: how long an answered call lasted. A
    group with too few attempts counts for nothing: it is not yet measured.
    """
    with session.transaction() as work:
        found = qualities.list_route_quality(work.cursor, work.viewer)
    show_rows(session, QUALITY_COLUMNS, [_quality(one) for one in found])


def _quality(one: RouteQuality) -> Row:
    quality = Quality(one.attempts, one.answered, one.talk_seconds)
    return {
        **one._asdict(),
        **quality_row(quality),
        "measured": "yes" if quality.is_measured else f"from {QUALITY_ATTEMPTS_MIN} attempts on",
    }


@click.command("route-refusals")
@click.option("--from", "since", type=WHEN, metavar="WHEN", help="[default: a day ago]")
@click.option("--to", "until", type=WHEN, default="now", metavar="WHEN", show_default=True)
@output_option
@pass_session
def route_refusals(session: Session, since: datetime | None, until: datetime) -> None:
    """Routes that were not offered because less than the minimum margin would have been left.

    By hour (UTC), rate group and resource group. A call that is authorised again counts again.
    """
    begins = since or datetime.now(UTC) - timedelta(days=DAYS_SHOWN)
    if begins > until:
        raise BadData(f"--from {begins.isoformat()} is after --to {until.isoformat()}")
    with session.transaction() as work:
        found = list_route_refusals(work.cursor, work.viewer, since=hour_of(begins), until=until)
    show_rows(session, REFUSAL_COLUMNS, [one._asdict() for one in found])
