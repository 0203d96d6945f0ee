"""`sky-aaa report`: what is asked, what is refused, and where it goes."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from web_reports.report import reports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Sky


def test_all_reports_are_listed_with_what_they_take(unchanged: Sky) -> None:
    rows = unchanged("report", "list", "-o", "json").json
    assert [row["report"] for row in rows] == [one.name for one in reports()]
    margin = next(row for row in rows if row["report"] == "margin")
    assert "customer" in margin["group_by"]
    assert margin["parameters"] == ["account", "prefix"]
    assert margin["ties_to"]


def test_a_reseller_is_shown_those_it_may_run(unchanged: Sky) -> None:
    listed = unchanged("--as", "north", "report", "list", "-o", "json").json
    names = [row["report"] for row in listed]
    assert "calls" in names
    assert "audit-log" not in names
    assert all("provider" not in row["group_by"] for row in listed)


@pytest.mark.parametrize("name", [one.name for one in reports()])
def test_every_report_runs_by_its_name(unchanged: Sky, name: str) -> None:
    ran = unchanged("report", name)
    assert ran.status == 0, ran.err
    assert "as of" in ran.out


def test_a_report_is_a_table_json_or_csv(unchanged: Sky) -> None:
    ever = ("--from", "2020-01-01", "--to", "2100-01-01")
    question = ("report", "payments", *ever, "--account", "alice")
    assert "Payments: " in unchanged(*question).out
    said = json.loads(unchanged(*question, "-o", "json").out)
    ran = unchanged("-o", "csv", *question)
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert len(rows) == len(said["rows"]) == 1
    assert rows[0]["amount"] == said["rows"][0]["amount"] == "50.000000"
    # A file of rows has no place for it, so it is said beside.
    assert "= 0.000000 USD" in ran.err
    assert unchanged(*question, "-o", "csv", "--no-ties").err == ""


@pytest.mark.parametrize(("form", "magic"), [("xlsx", b"PK"), ("pdf", b"%PDF"), ("html", b"<!doc")])
def test_a_file_takes_its_place_when_it_is_whole(
    unchanged: Sky, tmp_path: Path, form: str, magic: bytes
) -> None:
    out = tmp_path / f"margin.{form}"
    ran = unchanged("report", "margin", "-o", form, "--out", str(out), "--language", "de")
    assert ran.status == 0, ran.err
    assert out.read_bytes().startswith(magic)
    assert [path.name for path in out.parent.glob("*margin*")] == [out.name]


def test_what_fails_leaves_no_file(unchanged: Sky, tmp_path: Path) -> None:
    out = tmp_path / "calls.csv"
    ran = unchanged("report", "calls", "--account", "nobody", "-o", "csv", "--out", str(out))
    assert ran.status == 1
    assert "there is no account 'nobody'" in ran.err
    assert list(tmp_path.glob("*calls*")) == []
    ran = unchanged("report", "calls", "-o", "csv", "--out", str(tmp_path / "no" / "calls.csv"))
    assert ran.status == 2
    assert "there is no folder" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("margins",), "there is no report 'margins': did you mean margin?"),
        (("margin", "--colour", "red"), "report margin has no --colour: allowed are --period"),
        (("margin", "--group-by", "colour"), "by customer, account, provider"),
        (("margin", "--period", "someday"), "'someday' is no period: today, yesterday"),
        (("suspense", "--reason", "odd"), "--reason: 'odd' is none of unrated"),
        (("aged-receivables", "--period", "today"), "has no --period: allowed are --as-of"),
    ],
)
def test_what_is_wrong_is_told_what_is_allowed(
    unchanged: Sky, words: tuple[str, ...], said: str
) -> None:
    ran = unchanged("report", *words)
    assert ran.status == 2
    assert said in ran.err


def test_with_a_reseller_s_eyes_there_is_nothing_of_providers(unchanged: Sky) -> None:
    ran = unchanged("--as", "north", "report", "calls", "--period", "this-year", "-o", "json")
    assert {"route", "flags"} & {one["name"] for one in json.loads(ran.out)["columns"]} == set()
    ran = unchanged("--as", "north", "report", "provider-settlement")
    assert ran.status == 1
    assert "for the operator only, north is a reseller" in ran.err
    ran = unchanged("--as", "north", "report", "margin", "--group-by", "provider")
    assert ran.status == 2
    assert "by customer, account, destination" in ran.err


def test_help_names_periods_and_groups(bare: Sky) -> None:
    text = bare("report", "margin", "--help").out
    assert "last-month" in text
    assert "customer" in text
    assert "margin" in bare("report", "--help").out
