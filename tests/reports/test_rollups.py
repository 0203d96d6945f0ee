"""Rollups are what the records say, at any moment, late corrections included."""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.charging.call import read_levels, read_offers
from aaa_server.charging.requests import Rerate
from aaa_server.storage import rollups
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.rates import RateRow, import_rates
from aaa_server.worker.rollups import refresh_rollups
from tests.reports.asking import Answer, ask
from tests.scenario import Books
from web_reports.report import find, reports

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def fetch(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with transaction(connection) as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def calls_by_hand(connection: Connection) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    """Attempts, refused and seconds of each key, from the records one by one."""
    counted: dict[tuple[Any, ...], list[int]] = {}
    for row in fetch(
        connection,
        "SELECT ended_at, account_id, resource_group_out_id, routes, levels, refusal, seconds"
        " FROM cdr",
    ):
        ended_at, account_id, group_id, routes, levels, refusal, seconds = row
        offers = read_offers(routes)
        if group_id is None:
            group_id = offers[0].resource_group_id if offers else 0
        priced = read_levels(levels)
        price = (priced[0].price.rate_id, priced[0].price.prefix) if priced else (0, "")
        line = counted.setdefault((hour(ended_at), account_id or 0, group_id, *price), [0, 0, 0])
        line[0] += refusal is None
        line[1] += refusal is not None
        line[2] += seconds if refusal is None else 0
    return {key: (line[0], line[1], line[2]) for key, line in counted.items()}


def charges_by_hand(connection: Connection) -> Counter[tuple[Any, ...]]:
    """Micros by hour, caller, party, level, provider and row, from the charges one by one."""
    rows = fetch(
        connection,
        "SELECT call_id, level, number, account_id, amount_micros, at, rate_id, currency,"
        " billed_seconds FROM charge ORDER BY number, billed_seconds, account_id DESC",
    )
    counted: Counter[tuple[Any, ...]] = Counter()
    for call_id, level, number, party, amount, at, rate_id, currency, _ in rows:
        known = [row for row in rows if row[0] == call_id and row[2] <= number]
        caller = [row for row in known if row[1] == 0][-1]
        providers = [row for row in known if row[1] == -1]
        provider = party if level == -1 else providers[-1][3] if providers else 0
        counted[hour(at), caller[3], party, level, provider, rate_id, currency] += amount
    return counted


def same(connection: Connection) -> bool:
    calls = {
        tuple(row[:5]): tuple(row[5:])
        for row in fetch(
            connection,
            "SELECT hour, account_id, resource_group_id, rate_id, prefix, attempts, refused,"
            " seconds FROM call_hour WHERE cut = 'all'",
        )
    }
    charges = Counter(
        {
            tuple(row[:7]): int(row[7])
            for row in fetch(
                connection,
                "SELECT hour, account_id, party_id, level, provider_id, own_rate_id, currency,"
                " sum(amount_micros) FROM charge_hour WHERE cut = 'all'"
                " GROUP BY 1, 2, 3, 4, 5, 6, 7",
            )
        }
    )
    return calls == calls_by_hand(connection) and charges == charges_by_hand(connection)


def test_they_are_what_the_records_say(month_copy: Connection) -> None:
    told = refresh_rollups(month_copy, NOW)
    assert told.endswith("hours counted")
    assert same(month_copy)
    assert refresh_rollups(month_copy, NOW) == "0 hours counted"


def everything(connection: Connection) -> dict[tuple[str, str], Answer]:
    return {
        (one.name, group): ask(connection, one.name, *([group] if group else []))
        for one in reports()
        for group in ("", *one.groups(operator=True))
        if one.name not in ("credit-control", "fraud")
    }


def test_a_report_says_the_same_before_and_after(month_copy: Connection) -> None:
    before = everything(month_copy)
    refresh_rollups(month_copy, NOW)
    after = everything(month_copy)
    different = [key for key in before if before[key].rows != after[key].rows]
    # The effect of new prices is worked out from what is rolled up.
    assert [key for key in different if key[0] != "rate-changes"] == []


def test_late_corrections_make_their_hours_stale(month_copy: Connection) -> None:
    refresh_rollups(month_copy, NOW)
    with transaction(month_copy) as cursor:
        cursor.execute("SELECT set_config('month.now', %s, false)", (NOW.isoformat(),))
        cursor.execute(
            "SELECT tariff_id FROM rate_group JOIN account ON account_id = owner_id"
            " WHERE code = 'admin'"
        )
        [tariff_id] = cursor.fetchone() or ()
        row = RateRow("49", 77_000_000, destination="Germany")
        import_rates(cursor, tariff_id, [row], effective=NOW - timedelta(days=60))
        cursor.execute(
            "SELECT client_id, session_key, call_id FROM cdr"
            " WHERE called LIKE '49%' AND seconds > 0"
        )
        found = cursor.fetchall()
    Books(month_copy).decide([Rerate(row[0], row[1], row[2], NOW) for row in found])
    assert not same(month_copy)
    live = ask(month_copy, "margin", period="2026-11")
    assert [tied for tied in live.ties if tied.difference] == []
    told = refresh_rollups(month_copy, NOW)
    assert told != "0 hours counted"
    assert same(month_copy)
    assert ask(month_copy, "margin", period="2026-11").rows == live.rows


def test_what_is_written_meanwhile_is_not_lost(month_copy: Connection) -> None:
    """A transaction that commits while the hours are counted leaves its own note."""
    with contextlib.closing(connect(month_copy.dsn)) as other:
        with other.cursor() as writer:
            writer.execute(
                "UPDATE cdr SET seconds = seconds + 1"
                " WHERE call_id = (SELECT max(call_id) FROM cdr WHERE refusal IS NULL)"
            )
            while True:
                with transaction(month_copy) as cursor:
                    if not rollups.refresh(cursor):
                        break
        assert fetch(month_copy, "SELECT count(*) FROM rollup_stale") == [(0,)]
        other.commit()
    assert not same(month_copy)
    assert refresh_rollups(month_copy, NOW) == "1 hours counted"
    assert same(month_copy)


@pytest.mark.parametrize("statement", ["UPDATE charge SET amount_micros = 0", "DELETE FROM charge"])
def test_charges_change_only_by_new_rows(month_copy: Connection, statement: str) -> None:
    # What the rollup of charges rests on: only an INSERT can make an hour of it stale.
    with month_copy.cursor() as cursor, pytest.raises(Exception, match="refuses"):
        cursor.execute(statement)
    month_copy.rollback()


def test_each_cut_adds_up_to_the_whole(month_copy: Connection) -> None:
    refresh_rollups(month_copy, NOW)
    sums = fetch(
        month_copy,
        "SELECT cut, sum(attempts), sum(answered), sum(refused), sum(seconds), sum(setup_ms),"
        " max(longest_seconds) FROM call_hour GROUP BY cut",
    )
    assert {row[0] for row in sums} == {"all", "account", "route", "destination"}
    assert len({row[1:] for row in sums}) == 1
    own = fetch(
        month_copy,
        "SELECT cut, level, currency, sum(amount_micros), sum(billed_seconds), sum(calls)"
        "  FROM charge_hour WHERE cut <> 'all' GROUP BY 1, 2, 3"
        " UNION ALL "
        "SELECT 'whole', least(level, 0), charge_hour.currency, sum(amount_micros),"
        "       sum(billed_seconds), sum(calls)"
        "  FROM charge_hour JOIN account ON account.account_id = party_id"
        " WHERE cut = 'all' AND cardinality(chain) = 1 GROUP BY 1, 2, 3",
    )
    by_cut = {name: {row[1:] for row in own if row[0] == name} for name, *_ in own}
    assert len(by_cut) == 4
    assert all(rows == by_cut["whole"] for rows in by_cut.values())


@pytest.mark.parametrize(
    ("name", "asked", "operator", "cut"),
    [
        ("traffic", {"day"}, True, "route"),
        ("traffic", {"day", "provider"}, True, "route"),
        ("traffic", {"destination", "prefix"}, True, "destination"),
        ("traffic", {"account", "hour"}, True, "account"),
        ("traffic", {"account", "destination"}, True, "all"),
        ("traffic", {"day"}, False, "account"),
        ("traffic", {"destination"}, False, "all"),
        ("margin", {"customer"}, True, "customer"),
        ("margin", {"customer", "provider"}, True, "all"),
        ("margin", {"customer", "account"}, True, "all"),
        ("margin", {"customer"}, False, "all"),
    ],
)
def test_the_smallest_cut_that_has_all_is_read(
    name: str, asked: set[str], operator: bool, cut: str
) -> None:
    assert find(name).cut(asked, operator=operator) == cut
