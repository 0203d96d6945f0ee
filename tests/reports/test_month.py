"""The month, whatever its seed: every report ties, and all of them say the same.

`SKY_AAA_MONTH_SEEDS="7 8 9"` plays other months beside the usual one; a failure names its seed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING, Any, NamedTuple

import openpyxl
import pytest

from aaa_server.storage import audit
from aaa_server.storage.database import connect
from aaa_server.storage.secrets import Keyring
from tests.reports import month
from tests.reports.asking import Answer, ask
from web_reports import report_page
from web_reports.report import find, reports
from web_reports.report_files import write_csv, write_json, write_xlsx
from web_reports.report_run import Question, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

SEEDS = [month.SEED, *map(int, os.environ.get("SKY_AAA_MONTH_SEEDS", "").split())]
PERIODS = ("2026-09", "2026-10", "2026-11", "2026-12", "2026-Q4", "2026")
GROUPED = ("2026-10", "2026-11")  # the others are asked as they are by default
READERS = ("", "north", "west-one")
ISSUERS = ("", "north", "south-two", "west")
# Each line is converted to the reader's currency and rounded by itself.
ROUNDED_BY_LINE = {"home_margin"}


@pytest.fixture(scope="module", params=SEEDS)
def months(
    request: pytest.FixtureRequest,
    month_url: str,
    template: str,
    new_database: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The usual month, and one of each other seed."""
    if request.param == month.SEED:
        yield month_url
        return
    keyring = Keyring.open(tmp_path_factory.mktemp("month") / "secrets.key")
    with new_database(template) as url:
        with contextlib.closing(connect(url)) as connection:
            month.build(connection, keyring, request.param)
        yield url


@pytest.fixture
def any_month(months: str) -> Iterator[Connection]:
    with contextlib.closing(connect(months)) as connection:
        yield connection


def asked(connection: Connection, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        found = cursor.fetchall()
    connection.rollback()
    return found


def test_the_books_are_right(any_month: Connection) -> None:
    with any_month.cursor() as cursor:
        assert [found.check for found in audit.prove(cursor) if found.differences] == []
    any_month.rollback()


def test_the_month_has_what_happens_to_invoices(any_month: Connection) -> None:
    statuses = dict(asked(any_month, "SELECT status, count(*) FROM invoice GROUP BY 1"))
    assert statuses.keys() >= {"issued", "part-paid", "paid", "void"}
    kinds = dict(asked(any_month, "SELECT kind, count(*) FROM invoice_line GROUP BY 1"))
    assert kinds.keys() == {"usage", "correction", "fee", "discount", "credit"}
    taxes = {row[0] for row in asked(any_month, "SELECT DISTINCT category FROM invoice_tax")}
    assert taxes == {"S", "Z", "E", "AE"}
    [facts] = asked(
        any_month,
        """
        SELECT (SELECT count(DISTINCT issuer_id) FROM invoice),
               (SELECT count(DISTINCT period_name) FROM invoice),
               (SELECT count(DISTINCT currency) FROM invoice),
               (SELECT count(*) FROM invoice WHERE inclusive AND NOT prepaid),
               (SELECT count(*) FROM invoice WHERE total_micros < 0),
               (SELECT count(*) FROM invoice_payment WHERE transaction_id IS NOT NULL),
               (SELECT count(*) FROM invoice_payment WHERE released_at IS NOT NULL),
               (SELECT count(*)
                  FROM (SELECT
                          FROM invoice_tax
                         GROUP BY invoice_id
                        HAVING count(*) > 2) AS many),
               (SELECT count(*) FROM invoice WHERE dunning_step > 0),
               (SELECT count(*) FROM closed_period),
               (SELECT count(*) FROM account WHERE kind <> 'provider' AND card_batch_id IS NULL)
        """,
    )
    assert facts[0] >= 12
    assert facts[1] >= 3
    assert facts[2] == 2
    assert all(facts), facts
    assert facts[10] >= 99


@pytest.mark.parametrize("period", PERIODS)
def test_every_report_ties_in_every_grouping_for_everybody(
    any_month: Connection, period: str
) -> None:
    tied = Counter[str]()
    for reader in READERS:
        for report in reports(operator=not reader):
            groups = report.groups(operator=not reader)
            if not report.period and period != month.NAME:
                continue
            grouped = [(one,) for one in groups] if period in GROUPED else []
            for group in ((), *grouped):
                answer = ask(any_month, report.name, *group, as_code=reader, period=period)
                wrong = [tie for tie in answer.ties if tie.difference]
                assert wrong == [], (reader, report.name, group, period)
                tied[report.name] += len(answer.ties)
    assert tied["aged-receivables" if period == month.NAME else "margin"] or period == "2026-12"


def sums(answer: Answer) -> dict[tuple[str, str], int]:
    """What is added up, by column and currency; nothing and 0 are the same."""
    columns = [one for one in answer.columns if one.total == "sum"]
    names = [one.name for one in answer.columns]
    return {
        (one.name, currency): line[names.index(one.name)] or 0
        for currency, line in answer.totals.items()
        for one in columns
        if one.name not in ROUNDED_BY_LINE and line[names.index(one.name)]
    }


@pytest.mark.parametrize("reader", ["", "north"])
@pytest.mark.parametrize("period", ["2026-10", "2026-11"])
def test_totals_are_the_same_in_every_grouping(
    any_month: Connection, period: str, reader: str
) -> None:
    for report in reports(operator=not reader):
        groups = report.groups(operator=not reader)
        if not groups or report.name == "top-destinations":  # which has the first lines only
            continue
        wanted = [[one] for one in groups]
        wanted += [groups[at : at + 2] for at in range(0, len(groups) - 1, 2)]
        wanted += [groups[:3]]
        found = {
            tuple(group): sums(ask(any_month, report.name, *group, as_code=reader, period=period))
            for group in wanted
        }
        first, *others = found.items()
        for group, same in others:
            assert same == first[1], (report.name, group, first[0])


# ------------------------------------------------------------------ invoices against the ledger


def test_an_invoice_is_what_its_charges_and_postings_are(any_month: Connection) -> None:
    rows = asked(
        any_month,
        """
        SELECT invoice.number,
               invoice.prepaid,
               invoice.net_micros,
               invoice.tax_micros,
               invoice.total_micros,
               coalesce((SELECT sum(raw_micros)
                           FROM invoice_line
                          WHERE invoice_line.invoice_id = invoice.invoice_id
                            AND kind IN ('usage', 'correction', 'fee')), 0),
               coalesce((SELECT sum(amount_micros - raw_micros)
                           FROM invoice_line
                          WHERE invoice_line.invoice_id = invoice.invoice_id), 0),
               coalesce(sum(posting.amount_micros), 0),
               coalesce(sum(posting.amount_micros)
                            FILTER (WHERE contra_book IN ('sales', 'fees')), 0),
               coalesce(-sum(posting.amount_micros) FILTER (WHERE contra_book = 'rounding'), 0),
               coalesce(-sum(posting.amount_micros) FILTER (WHERE contra_book = 'tax'), 0)
          FROM invoice
          LEFT JOIN posting USING (transaction_id)
         WHERE invoice.kind = 'invoice'
           AND invoice.status <> 'draft'
         GROUP BY invoice.invoice_id
        """,
    )
    assert len(rows) > 100
    for number, prepaid, net, tax, total, raw, residue, moved, back, rounding, taxed in rows:
        assert (tax, rounding) == (taxed, residue), number
        # Revenue of the same charges; what rounding adds, someone who has paid does not pay.
        assert net == raw - back + rounding + (residue if prepaid else 0), number
        if not prepaid:
            assert total == raw - moved, number


def test_a_credit_note_is_what_was_posted_for_it(any_month: Connection) -> None:
    rows = asked(
        any_month,
        """
        SELECT note.number,
               note.total_micros,
               coalesce((SELECT sum(posting.amount_micros)
                           FROM posting
                          WHERE posting.transaction_id = note.transaction_id), 0),
               invoice.status = 'void',
               coalesce((SELECT sum(raw_micros)
                           FROM invoice_line
                          WHERE invoice_line.invoice_id = invoice.invoice_id
                            AND kind IN ('usage', 'correction', 'fee')), 0),
               invoice.prepaid
          FROM invoice AS note
          JOIN invoice ON invoice.invoice_id = note.corrects_id
        """,
    )
    assert {void for *_, void, _, _ in rows} == {True, False}
    for number, total, moved, void, released, prepaid in rows:
        if not void:
            assert moved == total, number
        elif not prepaid:
            # Its calls are free again, and owed until they are billed anew.
            assert moved == total - released, number


class Summed(NamedTuple):
    """What one issuer's documents of a period come to, by currency."""

    net: dict[str, int]
    tax: dict[str, int]


def summed(answer: Answer, net: str, tax: str) -> Summed:
    by_net, by_tax = Counter[str](), Counter[str]()
    for currency, one, other in zip(
        answer.column("currency"), answer.column(net), answer.column(tax), strict=True
    ):
        by_net[currency] += one
        by_tax[currency] += other
    return Summed(dict(by_net), dict(by_tax))


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("period", PERIODS)
def test_register_tax_report_and_ledger_are_one(
    any_month: Connection, period: str, issuer: str
) -> None:
    register = summed(
        ask(any_month, "invoice-register", period=period, as_code=issuer), "net", "tax"
    )
    for group in ((), ("category",), ("country", "month")):
        answer = ask(any_month, "tax", *group, period=period, as_code=issuer)
        assert summed(answer, "base", "amount") == register
    posted = ask(any_month, "invoice-register", period=period, as_code=issuer)
    assert sum(posted.column("total")) == sum(posted.column("net")) + sum(posted.column("tax"))


# ------------------------------------------------------------------ receivables


_OPEN = """
SELECT account.code,
       invoice.due_date,
       invoice.total_micros - invoice.paid_micros - invoice.credited_micros
  FROM invoice
  JOIN account ON account.account_id = invoice.account_id
  JOIN account AS seller ON seller.account_id = account.parent_id
 WHERE seller.code = %s
   AND NOT account.prepaid
   AND invoice.kind = 'invoice'
   AND invoice.status IN ('issued', 'part-paid')
"""


@pytest.mark.parametrize("seller", ["admin", "north", "west"])
@pytest.mark.parametrize("day", ["2026-12-05", "2027-01-10", "2027-06-01"])
def test_invoices_age_from_the_day_they_are_due(
    any_month: Connection, seller: str, day: str
) -> None:
    answer = ask(any_month, "aged-receivables", as_of=day, as_code=seller.replace("admin", ""))
    today = datetime.fromisoformat(day).replace(tzinfo=UTC).date()
    wanted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for code, due, micros in asked(any_month, _OPEN, seller):
        late = (today - due).days
        place = sum(late > bound for bound in (0, 30, 60, 90))
        wanted[code][place] += micros
    names = ("current", "days_30", "days_60", "days_90", "older")
    columns = [answer.column(name) for name in ("account", *names)]
    found = {code: list(ages) for code, *ages in zip(*columns, strict=True) if any(ages)}
    assert found == dict(wanted)
    assert found or seller != "admin"


def test_owed_is_the_balance_and_nothing_is_both_open_and_free(any_month: Connection) -> None:
    answer = ask(any_month, "aged-receivables")
    balances = dict(asked(any_month, "SELECT code, balance_micros FROM account WHERE NOT prepaid"))
    names = ("account", "owed", "open", "not_invoiced", "unapplied")
    assert sum(answer.column("unapplied")) > 0
    for code, owed, open_, more, free in zip(*map(answer.column, names), strict=True):
        assert owed == -balances[code] == open_ + more - free, code
        # Money pays what is open before it lies about.
        assert not (open_ and free), code


@pytest.mark.parametrize("as_of", ["2026-09-20", "2026-10-04", "2026-10-20", "2026-11-03"])
def test_the_past_ties_as_well(any_month: Connection, as_of: str) -> None:
    for reader in ("", "north", "west"):
        answer = ask(any_month, "aged-receivables", as_of=as_of, as_code=reader)
        assert [tie for tie in answer.ties if tie.difference] == []


def test_what_has_paid_is_never_more_than_there_was(any_month: Connection) -> None:
    assert not asked(
        any_month,
        """
        SELECT used.*
          FROM (SELECT payment_id, transaction_id, position, credit_id,
                       sum(amount_micros) AS micros
                  FROM invoice_payment
                 WHERE released_at IS NULL
                 GROUP BY 1, 2, 3, 4) AS used
          LEFT JOIN payment USING (payment_id)
          LEFT JOIN posting
                 ON posting.transaction_id = used.transaction_id
                AND posting.position = used.position
          LEFT JOIN invoice ON invoice.invoice_id = used.credit_id
         WHERE used.micros
               > coalesce(payment.amount_micros
                          - (SELECT coalesce(sum(refund.amount_micros), 0)
                               FROM refund
                              WHERE refund.payment_id = payment.payment_id),
                          posting.amount_micros,
                          -invoice.total_micros)
        """,
    )


# ------------------------------------------------------------------ the same in each format


def written(connection: Connection, name: str, form: str) -> Any:
    report = find(name)
    question = Question(period=month.NAME if report.period else "", language="en")
    with running(connection, report, question) as result:
        if form == "xlsx":
            octets = io.BytesIO()
            write_xlsx(result, octets, ties=True)
            book = openpyxl.load_workbook(octets)
            return [list(row) for row in book.worksheets[0].iter_rows(min_row=5, values_only=True)]
        text = io.StringIO()
        if form == "csv":
            write_csv(result, text)
            return list(csv.reader(io.StringIO(text.getvalue())))[1:]
        if form == "json":
            write_json(result, text, ties=True)
            return json.loads(text.getvalue())
        report_page.write_html(result, text, ties=True)
        return text.getvalue()


def cells_of(page: str) -> list[list[str]]:
    body = re.search(r"<tbody>(.*?)</tbody>", page, re.S)
    if body is None:
        return []
    return [
        [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", body[1], re.S)
    ]


def number(kind: str, text: str) -> Decimal | None:
    """What a page says, as a number of what programs get."""
    if not text:
        return None
    plain = text.replace(",", "").replace("\u2212", "-").replace("\u00a0", "")
    if kind == "seconds":
        sign = -1 if plain.startswith("-") else 1
        hours, minutes, seconds = map(int, plain.lstrip("-").split(":"))
        return sign * Decimal(3600 * hours + 60 * minutes + seconds)
    return Decimal(plain.removesuffix("%"))


def in_a_cell(kind: str, value: Any) -> Decimal | None:
    """What a workbook's cell holds, likewise; times of day are parts of a day there."""
    if isinstance(value, timedelta):
        return Decimal(round(value.total_seconds()))
    if isinstance(value, time):
        return Decimal(3600 * value.hour + 60 * value.minute + value.second)
    if value is None:
        return None
    scale = {"percent": 100, "seconds": 86_400}.get(kind, 1)
    return scale * Decimal(repr(value))


@pytest.mark.parametrize("name", [one.name for one in reports()])
def test_csv_json_workbook_and_page_say_the_same(of_month: Connection, name: str) -> None:
    answer = ask(of_month, name)
    comma = written(of_month, name, "csv")
    said = written(of_month, name, "json")
    book = written(of_month, name, "xlsx")
    page = cells_of(written(of_month, name, "html"))
    exact = [list(row.values()) for row in said["rows"]]
    assert len(comma) == len(exact) == len(page) == len(answer.rows) <= len(book)
    assert [tie for tie in said["ties"] if Decimal(tie["difference"])] == []
    for place, kind in enumerate(one.kind for one in answer.columns):
        if kind not in ("money", "price", "integer", "percent", "minutes", "seconds"):
            continue
        # Programs round minutes to two decimals, people read percentages with two.
        apart = Decimal("0.005") if kind in ("minutes", "percent") else Decimal("0.0000001")
        for row, plain in enumerate(exact):
            assert comma[row][place] == ("" if plain[place] is None else str(plain[place]))
            cell = in_a_cell(kind, book[row][place])
            seen = number(kind, page[row][place])
            if plain[place] is None:
                assert cell is seen is None
                continue
            assert cell is not None
            assert seen is not None
            value = Decimal(plain[place])
            assert abs(cell - value) <= apart, (kind, cell, value)
            assert abs(seen - value) <= apart, (kind, seen, value)
