"""PostgreSQL array literals from Python values, quoted for a statement without parameters.

psycopg2 adapts a list element by element in Python; joining strings takes a third of that,
and a batch sends some sixty arrays.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

LOOK_BACK = timedelta(days=32)
ALWAYS = ("'-infinity'", "'infinity'")
_JSON_SEPARATOR = "\x1f"


def literal(text: str) -> str:
    """`text` as an SQL string (standard_conforming_strings is on in every PostgreSQL we run)."""
    return "'" + text.replace("'", "''") + "'"


def array(values: Iterable[int | None]) -> str:
    """An array of integers."""
    return "'{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}'"


def time_array(values: Iterable[datetime | None]) -> str:
    """An array of instants, exact to the microsecond."""
    parts = ["NULL" if value is None else f'"{value.isoformat()}"' for value in values]
    return "'{" + ",".join(parts) + "}'"


def time_literal(value: datetime) -> str:
    """An instant, exact to the microsecond."""
    return f"'{value.isoformat()}'"


def bounds(begun: Iterable[datetime]) -> tuple[str, str]:
    """Between which instants calls were authorised of which something is told as of `begun`.

    A month each way: that long may a call last, or a server be down that should have closed it.
    """
    instants = list(begun)
    if not instants:
        return "'infinity'", "'-infinity'"
    return time_literal(min(instants) - LOOK_BACK), time_literal(max(instants) + LOOK_BACK)


def text_array(values: Iterable[str | None]) -> str:
    """An array of texts. NUL, which PostgreSQL cannot store, is left out."""
    return literal("{" + ",".join([_element(value) for value in values]) + "}")


def json_list(values: Iterable[str]) -> str:
    """Texts of JSON in one, for string_to_array; in JSON every control character is escaped."""
    return literal(_JSON_SEPARATOR.join(values))


def lists_array(values: Iterable[Iterable[object]]) -> str:
    """An array of texts that are array literals themselves: of numbers, or of plain words."""
    lists = [",".join([str(one) for one in value]) for value in values]
    return "'{" + ",".join(['"{' + one + '}"' for one in lists]) + "}'"


def _element(value: str | None) -> str:
    if value is None:
        return "NULL"
    if "\\" in value or '"' in value or "\0" in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "")
    return f'"{value}"'
