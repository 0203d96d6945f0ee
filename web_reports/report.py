"""Reports: one `.sql` each in reports/, whose header says what it is, takes and gives.

The header is TOML in the file's first comment:

    title, about        in English; words.toml has the other languages
    operator_only       for nobody but the operator
    period              the period when none is said; without it the report has no period
    default_group       what it is grouped by when nothing is said
    parameters.NAME     kind (account, text, number, integer, choice, yes, instant), about;
                        `choices`, `default`, `operator_only`
    columns.NAME        title, kind (cells.KINDS), and perhaps
                        group: the SQL that it is grouped by, when the column is chosen
                        total: "sum" or "max" over all rows, by currency
                        ratio: [one, other], two columns of which it is the quotient
                        currency: the column that an amount's currency stands in
                        operator_only: left out for everybody else
    chart               label and value: two columns
    cuts                of the rollups: name, and `of` which columns and parameters; the first
                        one that has all that is asked is read, as `cut`, else "all"
    spans               of a rollup's days and months: name, `of` as before, `widths` that there are
    free                columns and parameters that every cut and span has

In the query `{group}` stands for the chosen columns, `{by}` for what they are grouped by
and `{names}` for their names, each with a comma behind it, `{charges}` and `{calls}` for the
query of a rollup in rollups/, which reads what `cut` and `span` say; lines that end with
`-- operator` are for the operator, with `-- viewer` for all others. A comment that begins
with `tie` (title, column, `unless` parameters) is followed by a query of its own for what
the column's totals must be: rows of a currency and an amount.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aaa_server.storage.problem import BadValue, NotFound

FOLDER = Path(__file__).with_name("reports")
ROLLUPS = {
    f"{{{path.stem}}}": path.read_text(encoding="utf-8").strip()
    for path in Path(__file__).with_name("rollups").glob("*.sql")
}
# What tells hours apart, days or months, and the spans that are not too long for it.
TIMES = {"hour": (), "day": ("day",), "month": ("month", "day")}
GROUPS_MAX = 3
_PART = re.compile(r"/\*(?: (tie))?\n(.*?)\*/\n", re.S)
_FOR_OPERATOR = "-- operator"
_FOR_VIEWER = "-- viewer"


class Parameter(NamedTuple):
    """Something that can be asked for; `choices` () for a free text."""

    name: str
    kind: str
    about: str
    choices: tuple[str, ...] = ()
    default: Any = None
    operator_only: bool = False

    @property
    def option(self) -> str:
        """As it is typed."""
        return "--" + self.name.replace("_", "-")


class Column(NamedTuple):
    """One column; `group` is '' for those that one cannot group by."""

    name: str
    title: str
    kind: str
    group: str = ""
    total: str = ""
    ratio: tuple[str, ...] = ()
    currency: str = "currency"
    operator_only: bool = False


class Tie(NamedTuple):
    """What a column's totals must be, by a query of its own."""

    title: str
    column: str
    sql: str
    unless: tuple[str, ...] = ()


class Chart(NamedTuple):
    """A picture of the first rows: one column's values, named by another."""

    label: str
    value: str


class Cut(NamedTuple):
    """A part of a rollup that is counted by fewer things, and so is smaller."""

    name: str
    of: tuple[str, ...]
    operator_only: bool = False


class Spans(NamedTuple):
    """Days and months of a rollup, added up; `widths` are those that there are."""

    name: str
    of: tuple[str, ...]
    widths: tuple[str, ...] = ("month", "day")
    operator_only: bool = False


class Report(NamedTuple):
    """A report as its file describes it."""

    name: str
    title: str
    about: str
    sql: str
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...] = ()
    ties: tuple[Tie, ...] = ()
    period: str = ""
    default_group: tuple[str, ...] = ()
    operator_only: bool = False
    chart: Chart | None = None
    cuts: tuple[Cut, ...] = ()
    spans: tuple[Spans, ...] = ()
    free: tuple[str, ...] = ()

    def groups(self, *, operator: bool) -> list[str]:
        """What it can be grouped by."""
        return [
            one.name for one in self.columns if one.group and (operator or not one.operator_only)
        ]

    def asked(self, *, operator: bool) -> list[Parameter]:
        """The parameters that this reader may give."""
        return [one for one in self.parameters if operator or not one.operator_only]

    def shown(self, group_by: tuple[str, ...], *, operator: bool) -> tuple[Column, ...]:
        """The columns of a run: what it is grouped by, then all that is no such choice."""
        by_name = {one.name: one for one in self.columns}
        chosen = [by_name[name] for name in group_by]
        return tuple(
            one
            for one in (*chosen, *(one for one in self.columns if not one.group))
            if operator or not one.operator_only
        )

    def cut(self, asked: set[str], *, operator: bool) -> str:
        """The smallest part of the rollup that has all these columns and parameters."""
        for one in self.cuts:
            if (operator or not one.operator_only) and asked <= {*one.of, *self.free}:
                return one.name
        return "all"

    def span(self, asked: set[str], *, operator: bool) -> tuple[str, tuple[str, ...]]:
        """The spans that have all these columns and parameters, and of what widths; or ("", ())."""
        fine = min((TIMES[name] for name in asked & TIMES.keys()), key=len, default=TIMES["month"])
        for one in self.spans:
            widths = tuple(width for width in one.widths if width in fine)
            if (operator or not one.operator_only) and asked <= {*one.of, *self.free} and widths:
                return one.name, widths
        return "", ()

    def query(self, group_by: tuple[str, ...], *, operator: bool) -> str:
        """The SQL of a run grouped by these columns."""
        sql = self.sql
        for name, rollup in ROLLUPS.items():
            sql = sql.replace(name, rollup)
        sql = for_reader(sql, operator=operator)
        expressions = {one.name: one.group for one in self.columns}
        group = "".join(f"{expressions[name]} AS {name}, " for name in group_by)
        by = "".join(f"{expressions[name]}, " for name in group_by)
        names = "".join(f"{name}, " for name in group_by)
        return sql.replace("{group}", group).replace("{by}", by).replace("{names}", names)

    def check_group_by(self, wanted: tuple[str, ...], *, operator: bool) -> tuple[str, ...]:
        """`wanted`, or the default for (). Raises `BadValue` that names the choices."""
        choices = self.groups(operator=operator)
        if not wanted:
            return tuple(name for name in self.default_group if name in choices)
        for name in wanted:
            if name not in choices:
                allowed = ", ".join(choices) or "nothing"
                raise BadValue(f"{self.name} cannot be grouped by {name!r}: by {allowed} it can")
        if len(wanted) > GROUPS_MAX or len(set(wanted)) < len(wanted):
            raise BadValue(f"a report is grouped by at most {GROUPS_MAX} different columns")
        return wanted


def for_reader(sql: str, *, operator: bool) -> str:
    """The query without the lines that are for the other kind of reader."""
    away = _FOR_VIEWER if operator else _FOR_OPERATOR
    return "\n".join(line for line in sql.splitlines() if not line.rstrip().endswith(away))


def find(name: str, *, operator: bool = True) -> Report:
    """The report of that name. Raises `NotFound` that names those there are."""
    names = [one.name for one in reports(operator=operator)]
    if name not in names:
        near = get_close_matches(name, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise NotFound(f"there is no report {name!r}: {hint}")
    return _load(name)


def reports(*, operator: bool = True) -> list[Report]:
    """All, by name; without those that are for the operator only."""
    found = [_load(path.stem) for path in sorted(FOLDER.glob("*.sql"))]
    return [one for one in found if operator or not one.operator_only]


@cache
def _load(name: str) -> Report:
    path = FOLDER / f"{name}.sql"
    return parse(name, path.read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Report:
    """The report of a file's text. Raises `BadValue` that says where the header is wrong."""
    parts = list(_PART.finditer(text))
    if not parts or parts[0].start() != 0 or parts[0][1]:
        raise BadValue(f"{name}.sql does not begin with a header in a comment")
    ends = [*(part.start() for part in parts[1:]), len(text)]
    try:
        heads = [tomllib.loads(part[2]) for part in parts]
    except tomllib.TOMLDecodeError as error:
        raise BadValue(f"{name}.sql: its header is no TOML: {error}") from error
    bodies = [text[part.end() : end].strip() for part, end in zip(parts, ends, strict=True)]
    head = heads[0]
    try:
        return Report(
            name=name,
            sql=bodies[0],
            columns=tuple(_column(*item) for item in head.pop("columns").items()),
            parameters=tuple(
                Parameter(name=key, **_tupled(value))
                for key, value in head.pop("parameters", {}).items()
            ),
            ties=tuple(
                Tie(sql=body, **_tupled(tie))
                for tie, body in zip(heads[1:], bodies[1:], strict=True)
            ),
            chart=Chart(**head.pop("chart")) if "chart" in head else None,
            cuts=tuple(Cut(**_tupled(one)) for one in head.pop("cuts", ())),
            spans=tuple(Spans(**_tupled(one)) for one in head.pop("spans", ())),
            **_tupled(head),
        )
    except (KeyError, TypeError) as error:
        raise BadValue(f"{name}.sql: its header is wrong: {error}") from error


def _column(name: str, given: dict[str, Any]) -> Column:
    return Column(name=name, **_tupled(given))


def _tupled(given: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in given.items()}
