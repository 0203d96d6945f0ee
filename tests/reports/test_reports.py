"""Every report runs, in every grouping, and ties to the ledger."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from psycopg2.errors import ReadOnlySqlTransaction

from aaa_server.storage import audit
from aaa_server.storage.problem import BadValue, NotAllowed, NotFound
from tests.reports.asking import ask
from web_reports.report import find, parse, reports
from web_reports.report_run import Question, running

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

REPORTS = [one.name for one in reports()]
GROUPED = [(one.name, group) for one in reports() for group in one.groups(operator=True)]
# Of October the invoices are November's.
MONTHS = ("2026-10", "2026-11")


def test_there_is_a_report_for_all_that_people_ask() -> None:
    assert REPORTS == [
        "adjustments", "aged-receivables", "audit-log", "calling-cards", "calls",
        "credit-control", "fraud", "invoice-register", "margin", "mediation-completeness",
        "payments", "prepaid-liability", "provider-settlement", "rate-changes",
        "reseller-settlement", "revenue-by-product", "suspense", "tax", "top-destinations",
        "traffic",
    ]  # fmt: skip


def test_the_books_of_the_month_are_right(of_month: Connection) -> None:
    with of_month.cursor() as cursor:
        for check in audit.CHECKS:
            cursor.execute(check.sql)
            assert cursor.fetchall() == [], check
    of_month.rollback()


@pytest.mark.parametrize("period", MONTHS)
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_with_its_defaults_ties(of_month: Connection, name: str, period: str) -> None:
    answer = ask(of_month, name, period=period)
    assert [tied for tied in answer.ties if tied.difference] == []
    assert bool(find(name).ties) >= bool(answer.ties)


@pytest.mark.parametrize(("name", "group"), GROUPED)
def test_a_report_in_each_grouping_ties(of_month: Connection, name: str, group: str) -> None:
    answer = ask(of_month, name, group)
    assert answer.columns[0].name == group
    assert [tied for tied in answer.ties if tied.difference] == []


@pytest.mark.parametrize(
    "name",
    [
        "margin", "prepaid-liability", "provider-settlement", "reseller-settlement",
        "aged-receivables", "revenue-by-product", "payments", "calling-cards", "traffic",
        "mediation-completeness",
    ],
)  # fmt: skip
def test_the_month_has_something_for_what_ties(of_month: Connection, name: str) -> None:
    ties = ask(of_month, name).ties
    assert ties
    assert all(tied.difference == 0 for tied in ties)
    assert any(tied.ledger for tied in ties)


@pytest.mark.parametrize("name", ["tax", "invoice-register"])
def test_invoices_tie_in_the_month_of_their_issue(of_month: Connection, name: str) -> None:
    answer = ask(of_month, name, period="2026-11")
    assert answer.rows
    assert any(tied.ledger for tied in answer.ties)
    assert [tied for tied in answer.ties if tied.difference] == []


def test_a_closed_month_is_not_changed_by_what_comes_late(of_month: Connection) -> None:
    # Rated anew in November for the end of October: both months tie, each with its own.
    october = ask(of_month, "margin", "month", account="c00")
    november = ask(of_month, "calls", period="2026-10").column("corrected")
    assert any(november)
    assert {row[0] for row in october.rows} == {"2026-10"}
    corrections = ask(of_month, "provider-settlement", "provider", period="2026-11")
    assert sum(corrections.column("corrections")) > 0


def test_everything_in_the_month_happened(of_month: Connection) -> None:
    reasons = set(ask(of_month, "suspense").column("reason"))
    assert reasons >= {"without authorisation", "without stop", "negative margin"}
    products = set(ask(of_month, "revenue-by-product").column("product"))
    assert products >= {"calls", "card calls", "calls to own numbers", "packages", "subscriptions"}
    kinds = set(ask(of_month, "rate-changes").column("kind"))
    assert kinds & {"increase", "decrease"}
    assert "limit reached" in ask(of_month, "fraud").column("kind")
    assert sum(ask(of_month, "mediation-completeness").column("unexplained")) == 0


def test_the_first_losses_come_first(of_month: Connection) -> None:
    answer = ask(of_month, "margin", "destination")
    losses: dict[str, int] = {}
    for name, micros in zip(
        answer.column("destination"), answer.column("home_margin"), strict=True
    ):
        losses[name] = losses.get(name, 0) + micros
    assert list(losses.values()) == sorted(losses.values())


def test_a_group_of_three_has_the_totals_of_one(of_month: Connection) -> None:
    three = ask(of_month, "margin", "customer", "destination", "day")
    one = ask(of_month, "margin", "provider")
    assert [sum(three.column(name)) for name in ("revenue", "cost", "calls")] == [
        sum(one.column(name)) for name in ("revenue", "cost", "calls")
    ]


def test_days_are_those_of_the_reader(of_month: Connection) -> None:
    kolkata = ask(of_month, "traffic", "day", time_zone="Asia/Kolkata")
    assert [tied.difference for tied in kolkata.ties] == [0]
    with of_month.cursor() as cursor:
        cursor.execute(
            "SELECT (ended_at AT TIME ZONE 'Asia/Kolkata')::date, count(*) FROM cdr"
            " WHERE refusal IS NULL"
            " AND ended_at >= '2026-10-01 00:00:00+05:30'"
            " AND ended_at < '2026-11-01 00:00:00+05:30'"
            " GROUP BY 1 ORDER BY 1"
        )
        counted = cursor.fetchall()
    of_month.rollback()
    days = list(zip(kolkata.column("day"), kolkata.column("attempts"), strict=True))
    assert [one for one in days if one[1]] == counted
    assert kolkata.column("day")[0] >= date(2026, 10, 1)


def test_nothing_can_be_written(of_month: Connection) -> None:
    report = find("payments")
    with (
        pytest.raises(ReadOnlySqlTransaction),
        running(of_month, report, Question()),
        of_month.cursor() as cursor,
    ):
        cursor.execute("UPDATE account SET name = 'x'")


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("margin", {"values": {"acount": "c00"}}, "allowed are account, prefix"),
        ("margin", {"group_by": ("colour",)}, "by customer, account, provider"),
        ("margin", {"group_by": ("day", "day")}, "at most 3 different"),
        ("margin", {"period": "someday"}, "today, yesterday, this-week"),
        ("margin", {"period": "2026-13"}, "2026-Q4"),
        ("margin", {"end": "2026-10-02"}, "say both"),
        ("margin", {"begin": "2026-10-02", "end": "2026-10-01"}, "before it begins"),
        ("margin", {"begin": "2026-10-02", "period": "today"}, "not both"),
        ("margin", {"begin": "October"}, "2026-11-22 "),
        ("margin", {"time_zone": "Mars/Base"}, "no time zone"),
        ("margin", {"values": {"prefix": "44x"}}, "--prefix: '44x' is no number"),
        ("aged-receivables", {"period": "today"}, "has no period"),
        ("aged-receivables", {"values": {"terms": "30"}}, "allowed are as_of, account"),
        ("top-destinations", {"values": {"limit": "soon"}}, "--limit: 'soon' is no whole number"),
        ("suspense", {"values": {"reason": "odd"}}, "none of unrated, zero-rated"),
        ("calls", {"values": {"refused": "maybe"}}, "neither yes nor no"),
    ],
)  # fmt: skip
def test_a_wrong_question_names_what_is_allowed(
    of_month: Connection, name: str, asked: dict[str, Any], said: str
) -> None:
    with (
        pytest.raises(BadValue, match=r".") as raised,
        running(of_month, find(name), Question(**asked)),
    ):
        pass
    assert said.strip() in str(raised.value)


def test_unknown_accounts_and_reports_are_told(of_month: Connection) -> None:
    with pytest.raises(NotFound, match="there is no account 'zoe'"):
        ask(of_month, "calls", account="zoe")
    with pytest.raises(NotFound, match="did you mean margin"):
        find("margins")
    with pytest.raises(NotAllowed, match="for the operator only"):
        ask(of_month, "suspense", as_code="north")


def test_the_receivables_of_the_past_are_those_of_then(of_month: Connection) -> None:
    then = ask(of_month, "aged-receivables", as_of="2026-10-20")
    assert [tied.title for tied in then.ties if tied.difference == 0] == [
        "Entries of the accounts in the ledger"
    ] * len(then.ties)
    assert then.rows != ask(of_month, "aged-receivables").rows


def test_ages_are_counted_from_when_it_was_due(of_month: Connection) -> None:
    as_of = datetime(2027, 3, 1, tzinfo=UTC).isoformat()
    old = ask(of_month, "aged-receivables", as_of=as_of)
    assert sum(old.column("older")) > 0
    assert sum(old.column("current")) == 0
    assert sum(old.column("not_invoiced")) == sum(
        ask(of_month, "aged-receivables").column("not_invoiced")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT 1", "does not begin with a header"),
        ("/*\ntitle = \n*/\nSELECT 1\n", "no TOML"),
        ("/*\ntitle = 'x'\n*/\nSELECT 1\n", "header is wrong: 'columns'"),
        ("/*\ntitle = 'x'\ncolour = 1\n[columns]\n*/\nSELECT 1\n", "header is wrong"),
    ],
)
def test_a_wrong_header_is_told_with_its_file(text: str, said: str) -> None:
    with pytest.raises(BadValue, match=r"odd\.sql") as raised:
        parse("odd", text)
    assert said in str(raised.value)
