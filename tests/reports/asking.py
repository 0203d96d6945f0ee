"""Runs a report to its end, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.reports import month
from web_reports.report import find
from web_reports.report_run import Question, running

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from web_reports.report import Column
    from web_reports.report_run import Tied


class Answer(NamedTuple):
    """All of a report."""

    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]
    totals: dict[str, list[int | None]]
    ties: list[Tied]

    def column(self, name: str) -> list[Any]:
        place = [one.name for one in self.columns].index(name)
        return [row[place] for row in self.rows]


def ask(
    connection: Connection, name: str, *group_by: str, as_code: str = "",
    period: str = month.NAME, time_zone: str = "", **values: str,
) -> Answer:  # fmt: skip
    """The report of October 2026, or of another period."""
    report = find(name)
    question = Question(
        period=period if report.period else "",
        group_by=group_by,
        values=values,
        time_zone=time_zone,
    )
    with running(connection, report, question, as_code=as_code) as result:
        rows = list(result.rows)
        return Answer(result.columns, rows, result.totals, result.ties())
