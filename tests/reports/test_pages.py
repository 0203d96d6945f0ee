"""Pages that everybody can read: named, labelled, in their language, on a telephone too."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lxml import etree, html

import web_reports
from tests.reports import month
from web_reports import report_page
from web_reports.chart import NARROW, WIDE, chart
from web_reports.invoice import load
from web_reports.invoice_document import html as invoice_page
from web_reports.report import Column, find, reports
from web_reports.report_run import Question, running
from web_reports.words import LANGUAGES

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

STATIC = Path(web_reports.__file__).with_name("static")
COLOURS = re.compile(r"--(\w+): (#[0-9a-f]{6})")
CONTRAST_MIN = 4.5  # WCAG 2.2, 1.4.3


def barriers(page: bytes) -> list[str]:
    """What would stop somebody who reads the page with a machine."""
    root = html.fromstring(page)
    found = []
    if not root.get("lang"):
        found.append("no language")
    if len(root.findall(".//h1")) != 1 or not root.findtext(".//title"):
        found.append("no name")
    ids = [one.get("id") for one in root.xpath("//*[@id]")]
    if len(set(ids)) != len(ids):
        found.append(f"twice: {sorted({one for one in ids if ids.count(one) > 1})}")
    found += [f"no scope: {one.text_content()}" for one in root.xpath("//th[not(@scope)]")]
    found += [f"no row header: {one.text_content()}" for one in root.xpath("//table[not(.//th)]")]
    found += ["a picture without words" for _ in root.xpath("//img[not(@alt)]")]
    found += ["a drawing without words" for one in root.xpath("//figure") if not _named(one)]
    for one in root.xpath("//*[@aria-labelledby]"):
        if one.get("aria-labelledby") not in ids:
            found.append(f"labelled by nothing: {one.get('aria-labelledby')}")
    # What scrolls is reached by the keyboard, and says what it is.
    for one in root.xpath("//*[@class='scroll']"):
        if not one.get("tabindex") or not (one.get("aria-label") or one.get("aria-labelledby")):
            found.append("scrolls, and nobody can get there")
    return found


def _named(figure: Any) -> bool:
    return bool(figure.get("aria-label") or figure.xpath(".//*[@role='img' and @aria-label]"))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(
    ("name", "language"),
    list(zip([one.name for one in reports()], itertools.cycle(["en", *LANGUAGES]), strict=False)),
)
def test_a_report_s_page_has_no_barrier(of_month: Connection, name: str, language: str) -> None:
    report = find(name)
    question = Question(period=month.NAME if report.period else "", language=language)
    text = io.StringIO()
    with running(of_month, report, question) as result:
        # Of the longest some rows are enough.
        result.rows = iter(list(result.rows)[:200])
        report_page.write_html(result, text, ties=False)
    page = text.getvalue().encode()
    assert barriers(page) == []
    assert html.fromstring(page).get("lang") == language


def test_an_invoice_s_page_has_no_barrier(of_month: Connection) -> None:
    from aaa_server.storage import invoices, viewer

    with of_month.cursor() as cursor:
        admin = viewer.operator(cursor)
        found = invoices.list_invoices(cursor, admin, invoices.Filter())
        pages = [invoice_page(load(cursor, admin, one)) for one in found[:: len(found) // 6]]
    of_month.rollback()
    assert len(pages) > 5
    assert [barriers(page) for page in pages] == [[] for _ in pages]


@pytest.mark.parametrize("name", ["report.css", "invoice.css"])
def test_words_stand_out_from_what_is_behind_them(name: str) -> None:
    style = (STATIC / name).read_text(encoding="utf-8")
    colours = dict(COLOURS.findall(style))
    for word in ("ink", "soft"):
        for behind in ("#ffffff", "#f6f8fa", colours.get("head", "#ffffff")):
            lighter, darker = luminance(behind), luminance(colours[word])
            assert (lighter + 0.05) / (darker + 0.05) >= CONTRAST_MIN, (word, behind)


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("kind", ["text", "day"])
def test_a_chart_stays_in_its_frame(size: Any, kind: str) -> None:
    from datetime import date
    from zoneinfo import ZoneInfo

    from web_reports.cells import Speaker

    label, value = Column("x", "X", kind), Column("y", "Y", "integer")
    names = [date(2026, 10, day) if kind == "day" else "w" * 40 + str(day) for day in range(1, 32)]
    pairs = [(name, (-1) ** place * 10**place) for place, name in enumerate(names[:9])]
    svg = chart("A title " * 20, label, value, pairs, Speaker("en", ZoneInfo("UTC")), size)
    root = etree.fromstring(svg.encode())
    for bar in root.iter("{*}rect"):
        assert 0 <= int(bar.get("x", "")) <= size.width
        assert int(bar.get("x", "")) + int(bar.get("width", "")) <= size.width
    # As wide as letters of this size are at most.
    texts = [one.text or "" for one in root.iter("{*}text")]
    assert max(map(len, texts)) <= size.title_characters


def test_a_telephone_gets_the_narrow_picture(of_month: Connection) -> None:
    text = io.StringIO()
    question = Question(period=month.NAME, group_by=("day",))
    with running(of_month, find("traffic"), question) as result:
        report_page.write_html(result, text, ties=False)
    page = text.getvalue()
    for kind, size in (("wide", WIDE), ("narrow", NARROW)):
        assert re.search(rf'<figure class="{kind}"><svg[^>]*viewBox=.0 0 {size.width} ', page)
    assert re.search(r"max-width: 600px\).*?figure.wide { display: none", page, re.S)
