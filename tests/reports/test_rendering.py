"""What reports look like: golden texts, cells that are safe, files that other programs read."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from jinja2 import DictLoader

from tests.reports import month
from web_reports import report_page
from web_reports.cells import KINDS, Speaker, csv_text, exact
from web_reports.chart import chart
from web_reports.report import Column, find, reports
from web_reports.report_files import write_csv, write_json, write_table, write_xlsx
from web_reports.report_run import Question, running
from web_reports.words import LANGUAGES, known, translate

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

UTC_ZONE = ZoneInfo("UTC")


def written(
    connection: Connection, name: str, form: str, *, language: str = "en", **values: str
) -> Any:
    report = find(name)
    question = Question(
        period=month.NAME if report.period else "", language=language, values=values
    )
    with running(connection, report, question) as result:
        if form in ("xlsx", "pdf"):
            octets = io.BytesIO()
            if form == "xlsx":
                write_xlsx(result, octets, ties=True)
            else:
                report_page.write_pdf(result, octets, ties=True)
            return octets.getvalue()
        text = io.StringIO()
        match form:
            case "csv":
                write_csv(result, text)
            case "json":
                write_json(result, text, ties=True)
            case "html":
                report_page.write_html(result, text, ties=True)
            case _:
                write_table(result, text, ties=True)
        return text.getvalue()


# ------------------------------------------------------------------ golden


def test_a_table_in_german(of_month: Connection) -> None:
    text = written(of_month, "payments", "table", language="de", account="acme")
    lines = text.splitlines()
    assert re.fullmatch(
        r"Zahlungen: 01\.10\.2026 – 31\.10\.2026 \(UTC\), account acme, Stand .*, admin", lines[0]
    )
    assert lines[2].split("  ")[0] == "Gebucht"
    assert re.sub(r" {2,}", "|", lines[4]) == (
        "04.10.2026, 17:43:00|04.10.2026, 17:43:00|acme|Zahlung|bank-transfer|acme of 3|25,50|"
        "USD|=HYPERLINK(1)"
    )
    assert re.sub(r" {2,}", "|", lines[-3]) == "Summe|102,00|USD"
    assert lines[-1] == (
        "Abgestimmt mit: Zahlungen und Erstattungen im Hauptbuch: "
        "102,000000 − 102,000000 = 0,000000 USD"
    )


def test_csv_is_for_programs_in_every_language(of_month: Connection) -> None:
    texts = {
        written(of_month, "payments", "csv", language=one, account="acme")
        for one in ("en", *LANGUAGES)
    }
    [text] = texts
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [one.name for one in find("payments").columns]
    assert rows[0] == {
        "posted": "2026-10-04T17:43:00+00:00", "time": "2026-10-04T17:43:00+00:00",
        "account": "acme", "kind": "payment", "method": "bank-transfer",
        "reference": "acme of 3", "amount": "25.500000", "currency": "USD",
        "note": "'=HYPERLINK(1)",
    }  # fmt: skip


def test_json_says_all_of_it(of_month: Connection) -> None:
    said = json.loads(written(of_month, "prepaid-liability", "json"))
    assert said["report"] == "prepaid-liability"
    assert said["period"] == {
        "begin": "2026-10-01T00:00:00+00:00", "end": "2026-11-01T00:00:00+00:00", "name": "2026-10",
    }  # fmt: skip
    [row] = said["rows"]
    moves = [value for key, value in row.items() if key not in ("account", "currency", "closing")]
    assert sum(round(float(move) * 10**6) for move in moves) == round(float(row["closing"]) * 10**6)
    assert said["totals"][0]["closing"] == row["closing"] == said["ties"][0]["ledger"]
    assert said["ties"][0]["difference"] == "0.000000"


def test_a_workbook_has_numbers_as_numbers_and_phones_as_text(of_month: Connection) -> None:
    octets = written(of_month, "calls", "xlsx", language="es", account="c16", refused="no")
    book = openpyxl.load_workbook(io.BytesIO(octets))
    sheet = book.active
    assert sheet is not None
    assert sheet.freeze_panes == "A5"
    assert sheet["A1"].value == "Llamadas"
    titles = {cell.value: place for place, cell in enumerate(sheet[4])}
    assert {"Llamada", "De", "A", "Cargo", "Tiempo hablado"} <= set(titles)
    charge = titles["Cargo"]
    lines = [row for row in sheet.iter_rows(min_row=5) if row[charge].value]
    first = lines[0]
    assert first[titles["De"]].data_type == "s"
    assert first[charge].data_type == "n"
    assert first[charge].number_format == "#,##0.00####"
    assert isinstance(first[titles["Fin"]].value, datetime)
    total = [row for row in lines if row[0].value == "Total"]
    charges, totals = (
        sum((Decimal(str(row[charge].value)) for row in some), Decimal())
        for some in ([row for row in lines if row not in total], total)
    )
    assert abs(charges - totals) < Decimal("0.000001")


def test_a_workbook_has_no_formulas(of_month: Connection) -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(of_month, "payments", "xlsx")))
    sheet = book.active
    assert sheet is not None
    cells = [cell for row in sheet.iter_rows() for cell in row]
    assert any(cell.value == "=HYPERLINK(1)" for cell in cells)
    assert [cell for cell in cells if cell.data_type == "f"] == []


def test_a_pdf_is_the_same_bytes_for_the_same_data(of_month: Connection) -> None:
    report = find("margin")
    made = []
    with running(of_month, report, Question(period=month.NAME, language="fr")) as result:
        rows = list(result.rows)
        for _ in range(2):
            octets = io.BytesIO()
            result.rows = iter(rows)
            report_page.write_pdf(result, octets, ties=True)
            made.append(octets.getvalue())
    assert made[0] == made[1]
    assert made[0].startswith(b"%PDF-")


def test_a_page_stands_alone_and_is_escaped(of_month: Connection) -> None:
    page = written(of_month, "margin", "html", language="fr")
    assert '<html lang="fr">' in page
    assert "<h1>Marge</h1>" in page
    assert "<svg" in page
    assert re.findall(r"(?:src|href)=", page) == []
    assert "<script" not in page
    assert 'scope="col"' in page
    assert "0,000000" in page
    credit = written(of_month, "credit-control", "html")
    assert "C00 &amp; Co." in credit


@pytest.mark.parametrize("name", [one.name for one in reports()])
def test_every_report_becomes_a_page_and_a_table(of_month: Connection, name: str) -> None:
    assert "</html>" in written(of_month, name, "html", language="de")
    assert written(of_month, name, "table").strip()


def test_an_error_of_a_template_names_file_and_line(
    of_month: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = report_page.environment().overlay(
        loader=DictLoader({"report.html.jinja": "<p>\n{{ nothing_like_this }}\n"})
    )
    monkeypatch.setattr(report_page, "environment", lambda: broken)
    with pytest.raises(report_page.TemplateProblem, match=r"line 2.*nothing_like_this"):
        written(of_month, "margin", "html")


# ------------------------------------------------------------------ cells


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "=1+1", "'=1+1"),
        ("text", "@SUM(A1)", "'@SUM(A1)"),
        ("text", "-2+3", "'-2+3"),
        ("text", "\t=1", "'\t=1"),
        ("text", "Müller & Söhne", "Müller & Söhne"),
        ("phone", "+34915550100", "+34915550100"),
        ("phone", "*100#", "*100#"),
        ("phone", "+1;cmd|' /C calc'!A0", "'+1;cmd|' /C calc'!A0"),
        ("money", -1_234_567, "-1.234567"),
        ("percent", -125_000, "-12.5"),
        ("minutes", 100, "1.67"),
        ("yes", True, "yes"),
        ("text", None, ""),
    ],
)
def test_a_cell_of_csv_is_no_formula(kind: str, value: Any, expected: str) -> None:
    assert csv_text(kind, value, UTC_ZONE) == expected


@pytest.mark.parametrize(
    ("language", "money", "percent", "day"),
    [
        ("en", "-1,234.50", "12.50%", "Nov 22, 2026"),
        ("de", "-1.234,50", "12,50\xa0%", "22.11.2026"),
        ("es", "-1234,50", "12,50\xa0%", "22 nov 2026"),
        ("fr", "-1\u202f234,50", "12,50\xa0%", "22 nov. 2026"),
        ("pt-BR", "-1.234,50", "12,50%", "22 de nov. de 2026"),
    ],
)
def test_numbers_are_written_as_in_the_reader_s_country(
    language: str, money: str, percent: str, day: str
) -> None:
    speaker = Speaker(language, UTC_ZONE)
    assert speaker.cell("money", -1_234_500_000) in (money, money.replace("1234", "1.234"))
    assert speaker.cell("percent", 125_000) == percent
    assert speaker.cell("day", date(2026, 11, 22)) == day


def test_nothing_of_an_amount_is_rounded_away() -> None:
    speaker = Speaker("en", UTC_ZONE)
    assert [speaker.money(one) for one in (1, 100_000, 1_000_000, -10)] == [
        "0.000001", "0.10", "1.00", "-0.00001",
    ]  # fmt: skip
    assert speaker.cell("seconds", 90_061) == "25:01:01"
    assert speaker.cell("milliseconds", 1_234) == "1.234"
    assert speaker.cell("price", 12_300_000) == "0.0123"


def test_instants_are_in_the_reader_s_zone() -> None:
    at = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    assert exact("time", at, ZoneInfo("Europe/Madrid")) == "2026-10-25T01:30:00+02:00"
    assert "25.10.2026, 01:30:00" in Speaker("de", ZoneInfo("Europe/Madrid")).cell("time", at)


def test_every_text_of_a_report_is_translated() -> None:
    for report in reports():
        texts = [report.title, report.about, *(one.title for one in report.columns)]
        texts += [one.title for one in report.ties]
        assert [text for text in texts if not known(text)] == [], report.name
        assert {one.kind for one in report.columns} <= set(KINDS), report.name
    assert translate("Account", "es-MX") == "Cuenta"
    assert translate("Account", "pt") == "Account"
    assert translate("no such text", "de") == "no such text"


# ------------------------------------------------------------------ charts


def test_a_chart_shows_the_largest_and_losses_too() -> None:
    label, value = Column("x", "X", "text"), Column("y", "Y", "money")
    pairs = [(f"<{one}>", one * 1_000_000) for one in range(-5, 20)]
    svg = chart("Y / X", label, value, pairs, Speaker("en", UTC_ZONE))
    assert svg.count("<rect") == 10
    assert "&lt;19&gt;" in svg
    assert "role='img'" in svg
    assert chart("Y", label, value, [("one", 1)], Speaker("en", UTC_ZONE)) == ""


def test_a_chart_over_time_keeps_its_order() -> None:
    label, value = Column("x", "X", "day"), Column("y", "Y", "minutes")
    pairs = [(date(2026, 10, day), day * 60) for day in (3, 1, 2)]
    svg = chart("Y / X", label, value, pairs, Speaker("en", UTC_ZONE))
    assert re.findall(r"Oct (\d), 2026: [\d.]+</title>", svg) == ["1", "2", "3"]
