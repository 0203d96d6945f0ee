"""Charts as SVG: bars of the largest values, or columns over time. No script, no colour alone.

The numbers stand beside the bars, and the table says everything once more: the picture has
a title and is otherwise left out by screen readers.
"""

from __future__ import annotations

from datetime import date, datetime
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from web_reports.cells import Speaker
    from web_reports.report import Column

BARS_MAX = 10
COLUMNS_MAX = 62
BAR_HEIGHT = 22
BAR_GAP = 8
COLUMNS_HEIGHT = 180
TITLE_HEIGHT = 30
FILL = "#2f6690"
LOSS = "#b3261e"
AXIS = "#5b6670"
FONT = "font-family='Inter, system-ui, sans-serif' font-size='13' fill='#1c2429'"


class Size(NamedTuple):
    """Of a picture, in units that are pixels where it is shown as wide as it is."""

    width: int
    label_width: int
    number_width: int
    label_characters: int
    title_characters: int


WIDE = Size(720, 190, 110, 26, 90)
# A telephone held upright: smaller would be letters that nobody can read.
NARROW = Size(336, 112, 78, 12, 46)


class Point(NamedTuple):
    """One bar: what it is called, its value, and the value as people read it."""

    label: str
    value: int
    text: str


def chart(
    title: str,
    label: Column,
    value: Column,
    pairs: Sequence[tuple[Any, Any]],
    speaker: Speaker,
    size: Size = WIDE,
) -> str:
    """The picture; '' where there is nothing to show. Values of one label are added up."""
    sums: dict[Any, int] = {}
    for name, amount in pairs:
        sums[name] = sums.get(name, 0) + (amount or 0)
    if len(sums) < 2 or not any(sums.values()):
        return ""
    over_time = all(isinstance(name, (date, datetime)) for name in sums)
    ordered = sorted(sums.items()) if over_time else sorted(sums.items(), key=_largest)
    points = [
        Point(speaker.cell(label.kind, name) or "–", amount, speaker.cell(value.kind, amount))
        for name, amount in ordered[: COLUMNS_MAX if over_time else BARS_MAX]
    ]
    draw = _columns if over_time else _bars
    return draw(title, points, size)


def _largest(item: tuple[Any, int]) -> tuple[int, str]:
    return -abs(item[1]), str(item[0])


def _svg(title: str, height: int, body: list[str], size: Size) -> str:
    # role=img makes all within one picture, which its title names.
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' "
        f"viewBox='0 0 {size.width} {height + TITLE_HEIGHT}' "
        f"role='img' aria-label='{escape(title)}'><title>{escape(title)}</title>"
        f"<text x='0' y='14' font-weight='600' {FONT}>"
        f"{escape(_short(title, size.title_characters))}</text>"
        f"<g transform='translate(0 {TITLE_HEIGHT})'>" + "".join(body) + "</g></svg>"
    )


def _bars(title: str, points: list[Point], size: Size) -> str:
    largest = max(abs(point.value) for point in points)
    left = size.label_width
    room = size.width - left - size.number_width
    body = []
    for place, point in enumerate(points):
        top = place * (BAR_HEIGHT + BAR_GAP)
        width = max(2, room * abs(point.value) // largest)
        middle = top + BAR_HEIGHT - 6
        body.append(
            f"<text x='{left - 8}' y='{middle}' text-anchor='end' {FONT}>"
            f"{escape(_short(point.label, size.label_characters))}</text>"
            f"<rect x='{left}' y='{top}' width='{width}' height='{BAR_HEIGHT}' rx='3' "
            f"fill='{FILL if point.value >= 0 else LOSS}'/>"
            f"<text x='{left + width + 6}' y='{middle}' {FONT}>{escape(point.text)}</text>"
        )
    return _svg(title, len(points) * (BAR_HEIGHT + BAR_GAP), body, size)


def _columns(title: str, points: list[Point], size: Size) -> str:
    highest = max(0, *(point.value for point in points))
    lowest = min(0, *(point.value for point in points))
    span = max(1, highest - lowest)
    zero = 24 + COLUMNS_HEIGHT * highest // span
    edges = [size.width * place // len(points) for place in range(len(points) + 1)]
    body = [f"<line x1='0' x2='{size.width}' y1='{zero}' y2='{zero}' stroke='{AXIS}'/>"]
    for place, point in enumerate(points):
        height = COLUMNS_HEIGHT * abs(point.value) // span
        top = zero - height if point.value >= 0 else zero
        body.append(
            f"<rect x='{edges[place] + 1}' y='{top}' "
            f"width='{max(1, edges[place + 1] - edges[place] - 3)}' "
            f"height='{height}' rx='2' fill='{FILL if point.value >= 0 else LOSS}'>"
            f"<title>{escape(point.label)}: {escape(point.text)}</title></rect>"
        )
    peak = max(points, key=lambda point: point.value)
    bottom = 24 + COLUMNS_HEIGHT + 20
    body.append(
        f"<text x='0' y='14' {FONT}>{escape(peak.label)}: {escape(peak.text)}</text>"
        f"<text x='0' y='{bottom}' {FONT}>{escape(points[0].label)}</text>"
        f"<text x='{size.width}' y='{bottom}' text-anchor='end' {FONT}>"
        f"{escape(points[-1].label)}</text>"
    )
    return _svg(title, bottom + 8, body, size)


def _short(label: str, characters: int) -> str:
    return label if len(label) <= characters else label[: characters - 1] + "…"
