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
WIDTH = 720
BAR_HEIGHT = 22
BAR_GAP = 8
LABEL_WIDTH = 190
NUMBER_WIDTH = 110
COLUMNS_HEIGHT = 180
LABEL_CHARACTERS_MAX = 26
FILL = "#2f6690"
LOSS = "#b3261e"
AXIS = "#5b6670"
FONT = "font-family='Inter, system-ui, sans-serif' font-size='13' fill='#1c2429'"


class Point(NamedTuple):
    """One bar: what it is called, its value, and the value as people read it."""

    label: str
    value: int
    text: str


def chart(
    title: str, label: Column, value: Column, pairs: Sequence[tuple[Any, Any]], speaker: Speaker
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
    return draw(title, points)


def _largest(item: tuple[Any, int]) -> tuple[int, str]:
    return -abs(item[1]), str(item[0])


def _svg(title: str, height: int, body: list[str]) -> str:
    # role=img makes all within one picture, which its title names.
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
        f"role='img' aria-label='{escape(title)}'><title>{escape(title)}</title>"
        + "".join(body)
        + "</svg>"
    )


def _bars(title: str, points: list[Point]) -> str:
    largest = max(abs(point.value) for point in points)
    room = WIDTH - LABEL_WIDTH - NUMBER_WIDTH
    body = []
    for place, point in enumerate(points):
        top = place * (BAR_HEIGHT + BAR_GAP)
        width = max(2, room * abs(point.value) // largest)
        middle = top + BAR_HEIGHT - 6
        body.append(
            f"<text x='{LABEL_WIDTH - 10}' y='{middle}' text-anchor='end' {FONT}>"
            f"{escape(_short(point.label))}</text>"
            f"<rect x='{LABEL_WIDTH}' y='{top}' width='{width}' height='{BAR_HEIGHT}' rx='3' "
            f"fill='{FILL if point.value >= 0 else LOSS}'/>"
            f"<text x='{LABEL_WIDTH + width + 8}' y='{middle}' {FONT}>{escape(point.text)}</text>"
        )
    return _svg(title, len(points) * (BAR_HEIGHT + BAR_GAP), body)


def _columns(title: str, points: list[Point]) -> str:
    highest = max(0, *(point.value for point in points))
    lowest = min(0, *(point.value for point in points))
    span = max(1, highest - lowest)
    zero = 24 + COLUMNS_HEIGHT * highest // span
    step = WIDTH // len(points)
    body = [f"<line x1='0' x2='{WIDTH}' y1='{zero}' y2='{zero}' stroke='{AXIS}'/>"]
    for place, point in enumerate(points):
        height = COLUMNS_HEIGHT * abs(point.value) // span
        top = zero - height if point.value >= 0 else zero
        body.append(
            f"<rect x='{place * step + 1}' y='{top}' width='{max(1, step - 3)}' "
            f"height='{height}' rx='2' fill='{FILL if point.value >= 0 else LOSS}'>"
            f"<title>{escape(point.label)}: {escape(point.text)}</title></rect>"
        )
    peak = max(points, key=lambda point: point.value)
    bottom = 24 + COLUMNS_HEIGHT + 20
    body.append(
        f"<text x='0' y='14' {FONT}>{escape(peak.label)}: {escape(peak.text)}</text>"
        f"<text x='0' y='{bottom}' {FONT}>{escape(points[0].label)}</text>"
        f"<text x='{step * len(points)}' y='{bottom}' text-anchor='end' {FONT}>"
        f"{escape(points[-1].label)}</text>"
    )
    return _svg(title, bottom + 8, body)


def _short(label: str) -> str:
    if len(label) <= LABEL_CHARACTERS_MAX:
        return label
    return label[: LABEL_CHARACTERS_MAX - 1] + "…"
