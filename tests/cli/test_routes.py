"""Margins, strategies and what became of routes, by the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky

LONDON = "442071838750"


def order(sky: Sky) -> list[tuple[int | None, str, str]]:
    rows = sky("-o", "json", "route", LONDON, "--account", "cora").json
    return [(row["place"], row["resource_group"], row["why"]) for row in rows]


def test_a_margin_is_set_shown_kept_and_taken_away(sky: Sky) -> None:
    rows = sky("-o", "json", "route", LONDON, "--account", "cora").json
    margins = {row["resource_group"]: float(row["margin_percent"]) for row in rows}
    assert margins["RG_22"] > margins["RG_21"] > 0
    between = int(margins["RG_21"]) + 1
    shown = sky("rate-group", "set", "wholesale", "--minimum-margin", str(between), "-o", "json")
    assert float(shown.json["minimum_margin_percent"]) == between
    why = "less than the minimum margin would be left"
    assert order(sky) == [(1, "RG_22", "offered"), (None, "RG_21", why)]
    text = sky("simulate-call", "--account", "cora", "--called", LONDON).out
    assert f"RG_21 of acme: {why}" in text
    assert "% of the price are left" in text
    sky("rate-group", "set", "wholesale", "--minimum-margin", "99.99")
    told = sky("-o", "json", "simulate-call", "--account", "cora", "--called", LONDON).json
    assert (told["answer"], told["reason"]) == ("refused", "no-route")
    assert told["text"] == "no route to this number leaves the minimum margin"
    sky("rate-group", "set", "wholesale", "--minimum-margin", "-10")
    assert [row[0] for row in order(sky)] == [1, 2]
    sky("rate-group", "set", "wholesale", "--minimum-margin", "none")
    shown = sky("rate-group", "show", "wholesale", "-o", "json")
    assert shown.json["minimum_margin_percent"] is None


@pytest.mark.parametrize("margin", ["101", "-10001", "much", ""])
def test_a_margin_that_is_none_is_refused(sky: Sky, margin: str) -> None:
    ran = sky("rate-group", "set", "wholesale", "--minimum-margin", margin)
    assert ran.status == 2
    assert repr(margin) in ran.err


def test_margins_strategies_and_counts_are_the_operator_s(sky: Sky) -> None:
    for words in (
        ("rate-group", "add", "own", "--minimum-margin", "5"),
        ("rate-group", "add", "own", "--strategy", "quality"),
        ("route-quality",),
        ("route-refusals",),
        ("route", LONDON, "--account", "cora"),
    ):
        ran = sky("--as", "north", *words)
        assert ran.status == 1, words
        assert "for the operator only" in ran.err


def test_every_strategy_can_be_chosen_and_routes_by_it(sky: Sky) -> None:
    assert [row[1] for row in order(sky)] == ["RG_22", "RG_21"]
    sky("rate-group", "attach", "wholesale", "22", "--priority", "2", "--weight", "0")
    sky("rate-group", "attach", "wholesale", "21", "--priority", "1", "--weight", "3")
    for strategy, first in (
        ("priority", "RG_21"),
        ("percentage", "RG_21"),
        ("quality", "RG_22"),
        ("least-cost", "RG_22"),
    ):
        assert sky("rate-group", "set", "wholesale", "--strategy", strategy).status == 0
        assert order(sky)[0][1] == first, strategy


def test_shares_are_shown_where_lots_decide(sky: Sky) -> None:
    sky("rate-group", "attach", "wholesale", "22", "--weight", "1")
    sky("rate-group", "attach", "wholesale", "21", "--weight", "3")
    sky("rate-group", "set", "wholesale", "--strategy", "percentage")
    rows = sky("-o", "json", "route", LONDON, "--account", "cora").json
    shares = {row["resource_group"]: float(row["share_percent"]) for row in rows}
    assert shares == {"RG_21": 75, "RG_22": 25}
    sky("rate-group", "set", "wholesale", "--strategy", "least-cost")
    rows = sky("-o", "json", "route", LONDON, "--account", "cora").json
    assert {row["share_percent"] for row in rows} == {None}


def test_quality_is_shown_by_route_and_by_its_own_command(
    sky: Sky, demo_connection: Connection
) -> None:
    with demo_connection, demo_connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO route_quality SELECT resource_group_id, 40, 10, 900, now(), now()"
            "  FROM resource_group WHERE name = 'RG_21'"
        )
        cursor.execute(
            "INSERT INTO route_quality SELECT resource_group_id, 7, 0, 0, now(), now()"
            "  FROM resource_group WHERE name = 'RG_22'"
        )
    rows = sky("-o", "json", "route-quality").json
    found = [
        (row["resource_group"], float(row["asr_percent"]), row["acd_seconds"], row["measured"])
        for row in rows
    ]
    assert found == [
        ("RG_21", 25, 90, "yes"),
        ("RG_22", 0, None, "from 30 attempts on"),
    ]
    rows = sky("-o", "json", "route", LONDON, "--account", "cora").json
    assert {row["resource_group"]: row["attempts"] for row in rows} == {"RG_21": 40, "RG_22": 7}
    told = sky("simulate-call", "--account", "cora", "--called", LONDON).out
    assert "% of 40 attempts answered" in told


def test_refusals_are_listed_by_hour(sky: Sky, demo_connection: Connection) -> None:
    with demo_connection, demo_connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO route_refusal"
            " SELECT date_trunc('hour', instant), rate_group_id, resource_group_id, 5"
            "  FROM rate_group, resource_group,"
            "       unnest(ARRAY[now(), now() - interval '3 days']) AS instant"
            " WHERE rate_group.name = 'wholesale' AND resource_group.name = 'RG_21'"
        )
    rows = sky("-o", "json", "route-refusals").json
    assert [(row["rate_group"], row["resource_group"], row["refusals"]) for row in rows] == [
        ("wholesale", "RG_21", 5)
    ]
    assert len(sky("-o", "json", "route-refusals", "--from", "2020-01-01").json) == 2
    year = datetime.now(UTC).year
    ran = sky("route-refusals", "--from", f"{year + 2}-01-01")
    assert ran.status == 2
    assert "is after --to" in ran.err
