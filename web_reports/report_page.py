"""Reports as a page (Jinja2) and as a PDF (Typst), from the same data."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import fontpkg_inter
import typst
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError

from aaa_server.storage.problem import Problem
from web_reports.cells import RIGHT, Speaker
from web_reports.chart import NARROW, WIDE, Size, chart
from web_reports.report_files import describe, row_texts, tie_texts, total_texts, whole
from web_reports.words import spoken

if TYPE_CHECKING:
    from web_reports.report_run import Result

PAGE_ROWS_MAX = 20_000  # a browser takes them
PDF_ROWS_MAX = 10_000  # some 300 pages
_HERE = Path(__file__).parent
_FONTS = Path(fontpkg_inter.__file__).with_name("files")


@cache
def environment() -> Environment:
    """Everything is escaped, and a name that is not there is an error, not a blank."""
    return Environment(
        loader=PackageLoader("web_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def content(result: Result, *, most: int, ties: bool) -> dict[str, Any]:
    """What a page and a PDF show: texts in the reader's language, no number to work out."""
    speaker = Speaker(result.language, result.zone)
    rows = whole(result, most)
    columns = result.columns
    return {
        "language": spoken(result.language),
        "title": speaker.say(result.report.title),
        "about": speaker.say(result.report.about),
        "described": describe(result, speaker),
        "columns": [
            {"title": speaker.say(one.title), "right": one.kind in RIGHT} for one in columns
        ],
        "rows": row_texts(result, rows, speaker),
        "totals": total_texts(result, rows, speaker),
        "ties": tie_texts(result, speaker) if ties else [],
        "charts": [_chart(result, rows, speaker, size) for size in (WIDE, NARROW)],
        "words": {
            name: speaker.say(text)
            for name, text in (
                ("none", "No rows."),
                ("page", "Page"),
                ("of", "of"),
                ("table", "Table"),
                ("ties", "What it ties to"),
            )
        },
    }


def _chart(result: Result, rows: list[tuple[Any, ...]], speaker: Speaker, size: Size) -> str:
    wanted = result.report.chart
    places = {one.name: place for place, one in enumerate(result.columns)}
    if wanted is None or wanted.value not in places or not result.group_by:
        return ""
    # Of whatever it is grouped by first; of one currency, for others cannot be compared.
    label, value = 0, places[wanted.value]
    own = places.get(result.columns[value].currency)
    currency = rows[0][own] if own is not None and rows else None
    pairs = [(row[label], row[value]) for row in rows if own is None or row[own] == currency]
    titles = [speaker.say(result.columns[place].title) for place in (value, label)]
    title = " / ".join(titles)
    if currency and result.columns[value].kind == "money":
        title += f" ({currency})"
    return chart(title, result.columns[label], result.columns[value], pairs, speaker, size)


def write_html(result: Result, file: IO[str], *, ties: bool, footer: str = "") -> None:
    """A page of its own: nothing is loaded from anywhere, and it prints well."""
    style = (_HERE / "static" / "report.css").read_text(encoding="utf-8")
    try:
        template = environment().get_template("report.html.jinja")
        shown = content(result, most=PAGE_ROWS_MAX, ties=ties)
        page = template.render(style=style, footer=footer, **shown)
    except TemplateError as error:
        raise TemplateProblem(_where(error)) from error
    file.write(page)


class TemplateProblem(Problem):
    """A template is wrong; the text names file and line."""


def _where(error: TemplateError) -> str:
    """File and line of a template's error, as far as Jinja2 knows them."""
    name, line = getattr(error, "name", None), getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.endswith(".jinja") or file == "<template>":
            name, line = (name if file == "<template>" else file), trace.tb_lineno
        trace = trace.tb_next
    return f"template {name or 'report.html.jinja'}, line {line or '?'}: {error}"


def write_pdf(result: Result, file: IO[bytes], *, ties: bool) -> None:
    """A4 across; the same data make the same bytes."""
    data = content(result, most=PDF_ROWS_MAX, ties=ties)
    with tempfile.TemporaryDirectory(prefix="sky-report-") as name:
        folder = Path(name)
        picture = data.pop("charts")[0]
        data["has_chart"] = bool(picture)
        (folder / "chart.svg").write_text(picture, encoding="utf-8")
        (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
        source = (_HERE / "typst" / "report.typ").read_text(encoding="utf-8")
        (folder / "report.typ").write_text(source, encoding="utf-8")
        try:
            pdf = typst.compile(
                folder / "report.typ",
                root=folder,
                font_paths=[_FONTS],
                ignore_system_fonts=True,
            )
        except typst.TypstError as error:
            raise TemplateProblem(f"template report.typ: {error}") from error
    assert isinstance(pdf, bytes)
    file.write(pdf)
