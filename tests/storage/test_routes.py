"""Routes in a real PostgreSQL: margins, forced ones, shares, and how good they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest
from twisted.internet.defer import Deferred, fail, succeed

from aaa_server.rating.lcr import Quality
from aaa_server.storage import viewer
from aaa_server.storage.database import DatabaseUnavailable
from aaa_server.storage.problem import NotAllowed
from aaa_server.storage.route_quality import list_route_quality, refresh
from aaa_server.storage.route_refusal import RouteRefusals, hour_of, list_route_refusals
from tests.scenario import BEGINNING, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import connection as Connection

HOURS = timedelta(hours=4)
WORLD = """
    rate      retail 44  0.10 1/1
    cost      RG_21  44  0.04 1/1
    cost      RG_22  44  0.05 1/1
    cost      RG_23  44  0.06 1/1
    attach    retail RG_21 RG_22 RG_23
    account   acme   100.00 retail
"""


@pytest.fixture
def scenario(connection: Connection) -> Scenario:
    scenario = Scenario(connection)
    scenario.check(WORLD)
    return scenario


def count(scenario: Scenario, now: datetime, window: timedelta = HOURS) -> int:
    with scenario.connection.cursor() as cursor:
        changed = refresh(cursor, now, window)
    scenario.connection.commit()
    return changed


def held(scenario: Scenario) -> dict[str, Quality]:
    rows = scenario.query(
        "SELECT name, attempts, answered, talk_seconds"
        "  FROM route_quality JOIN resource_group USING (resource_group_id)"
    )
    return {row[0]: Quality(*row[1:]) for row in rows}


def revision(scenario: Scenario) -> int:
    [(number,)] = scenario.query("SELECT revision FROM catalogue")
    return int(number)


# ------------------------------------------------------------------ how good they were


def test_routes_before_the_one_that_answered_have_failed_and_so_has_one_nobody_answered(
    scenario: Scenario,
) -> None:
    scenario.check("""
        authorize s1 acme 442071838750  -> granted 7200s RG_21 RG_22 RG_23 final
        after     61s
        stop      s1 60s route=RG_21    -> cost 0.100000
        authorize s2 acme 442071838750  -> granted 7200s RG_21 RG_22 RG_23 final
        after     31s
        stop      s2 30s route=RG_23    -> cost 0.050000
        authorize s3 acme 442071838750  -> granted 7200s RG_21 RG_22 RG_23 final
        stop      s3 0s                 -> cost 0.000000
        authorize s4 acme 442071838750  -> granted 7200s RG_21 RG_22 RG_23 final
        stop      s4 0s route=RG_22     -> cost 0.000000
        authorize s5 acme 33123         -> refused no-rate
        stop      s5 0s
    """)
    count(scenario, scenario.now)
    assert held(scenario) == {
        "RG_21": Quality(4, 1, 60),  # s1; tried first in s2, s3, s4
        "RG_22": Quality(2, 0, 0),  # s2, s4
        "RG_23": Quality(1, 1, 30),  # s2
    }


def test_a_call_over_a_route_that_was_not_offered_is_an_attempt_of_that_route_alone(
    scenario: Scenario,
) -> None:
    scenario.check("""
        cost      RG_24  44  0.07 1/1
        authorize s1 acme 442071838750 route=RG_21  -> granted 7200s RG_21 final
        after     61s
        stop      s1 60s route=RG_24                -> cost 0.100000
        stop      s2 10s acme 442071838750 route=RG_22  -> cost 0.016667
    """)
    count(scenario, scenario.now)
    assert held(scenario) == {"RG_24": Quality(1, 1, 60), "RG_22": Quality(1, 1, 10)}


def test_only_calls_that_ended_in_the_window_count(scenario: Scenario) -> None:
    scenario.check("""
        authorize s1 acme 442071838750
        after     60s
        stop      s1 60s route=RG_21
        after     60s
        authorize s2 acme 442071838750
        after     60s
        stop      s2 60s route=RG_22
    """)
    ended = scenario.now
    assert count(scenario, ended, timedelta(seconds=120)) == 2
    assert held(scenario) == {"RG_21": Quality(1, 0, 0), "RG_22": Quality(1, 1, 60)}
    assert count(scenario, ended - timedelta(seconds=1)) == 2
    assert held(scenario) == {"RG_21": Quality(1, 1, 60)}
    assert count(scenario, ended + HOURS) == 1
    assert held(scenario) == {}


def test_counts_that_are_the_same_write_nothing_so_that_servers_keep_what_they_hold(
    scenario: Scenario,
) -> None:
    scenario.check("""
        authorize s1 acme 442071838750
        after     60s
        stop      s1 60s route=RG_21
    """)
    before = revision(scenario)
    assert count(scenario, scenario.now) == 1
    counted = revision(scenario)
    assert counted > before
    assert count(scenario, scenario.now + timedelta(minutes=5)) == 0
    assert revision(scenario) == counted


def test_a_server_orders_by_quality_as_soon_as_it_is_counted(scenario: Scenario) -> None:
    scenario.check("""
        group     retail strategy=quality
        authorize s1 acme 442071838750  -> granted 7200s RG_21 RG_22 RG_23 final
    """)
    scenario.query(
        "INSERT INTO route_quality"
        " SELECT resource_group_id, 100, 10, 900, now(), now() FROM resource_group"
        "  WHERE name = 'RG_21'"
    )
    scenario.query(
        "INSERT INTO route_quality"
        " SELECT resource_group_id, 100, 50, 9000, now(), now() FROM resource_group"
        "  WHERE name = 'RG_22'"
    )
    scenario.check("""
        authorize s2 acme 442071838750  -> granted 7200s RG_22 RG_23 RG_21 final
    """)


def test_the_counts_are_the_operator_s_business(scenario: Scenario) -> None:
    scenario.check("""
        authorize s1 acme 442071838750
        after     60s
        stop      s1 60s route=RG_22
    """)
    count(scenario, scenario.now)
    with scenario.connection.cursor() as cursor:
        rows = list_route_quality(cursor, viewer.operator(cursor))
        assert [(row.resource_group, row.provider, row.attempts) for row in rows] == [
            ("RG_21", "provider-RG_21", 1),
            ("RG_22", "provider-RG_22", 1),
        ]
        acme = viewer.enter(cursor, "acme")
        with pytest.raises(NotAllowed):
            list_route_quality(cursor, acme)
        with pytest.raises(NotAllowed):
            list_route_refusals(cursor, acme, since=BEGINNING, until=BEGINNING)
        for look in ("SELECT * FROM route_quality", "SELECT * FROM route_refusal"):
            cursor.execute("SAVEPOINT look")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(look)
            cursor.execute("ROLLBACK TO SAVEPOINT look")


# ------------------------------------------------------------------ margins


def set_margin(scenario: Scenario, ppm: int | None) -> None:
    scenario.query("UPDATE rate_group SET minimum_margin_ppm = %s WHERE name = 'retail'", ppm)


def test_a_route_that_would_lose_money_is_not_offered(scenario: Scenario) -> None:
    scenario.check("authorize s1 acme 442071838750 -> granted 7200s RG_21 RG_22 RG_23 final")
    set_margin(scenario, 500_000)
    scenario.check("authorize s2 acme 442071838750 -> granted 7200s RG_21 RG_22 final")
    set_margin(scenario, 650_000)
    scenario.check("authorize s3 acme 442071838750 -> refused no-route")
    set_margin(scenario, -1_000_000)
    scenario.check("authorize s4 acme 442071838750 -> granted 7200s RG_21 RG_22 RG_23 final")


def test_the_margin_is_that_of_the_topmost_level_s_own_price(scenario: Scenario) -> None:
    set_margin(scenario, 500_000)
    scenario.check(
        """
        reseller  north  100.00 retail
        rate      shop   44 0.01 1/1
        account   beta   100.00 shop north
        # What the reseller sells at is its own affair.
        authorize s1 beta 442071838750  -> granted 7200s RG_21 RG_22 final
    """
    )
    scenario.check("""
        rate      retail 44 0.08 1/1 own=north
        authorize s2 beta 442071838750  -> granted 7200s RG_21 final
        authorize s3 acme 442071838750  -> granted 7200s RG_21 RG_22 final
        group     retail markup=25
        authorize s4 beta 442071838750  -> granted 7200s RG_21 RG_22 final
        authorize s5 acme 442071838750  -> granted 7200s RG_21 RG_22 RG_23 final
    """)


def test_the_margin_is_taken_at_the_rate_of_exchange(scenario: Scenario) -> None:
    set_margin(scenario, 500_000)
    scenario.check("""
        exchange  USD EUR 0.80
        exchange  EUR USD 1.00
        account   euro 100.00 retail currency=EUR
        # 0.10 USD are 0.08 EUR, which are worth no more than 0.08 USD to the operator.
        authorize s1 euro 442071838750  -> granted 7200s RG_21 final
    """)


def test_a_forced_route_is_the_only_one_and_keeps_the_margin_too(scenario: Scenario) -> None:
    scenario.query(
        "UPDATE rate SET resource_group_id = (SELECT resource_group_id FROM resource_group"
        " WHERE name = 'RG_23') WHERE tariff_id = (SELECT tariff_id FROM rate_group)"
    )
    scenario.query("UPDATE tariff SET revision = revision + 1")
    scenario.query("UPDATE rate SET revision = (SELECT max(revision) FROM tariff)")
    scenario.check("authorize s1 acme 442071838750 -> granted 7200s RG_23 final")
    scenario.check("authorize s2 acme 442071838750 route=RG_21 -> refused no-route")
    set_margin(scenario, 500_000)
    scenario.check("authorize s3 acme 442071838750 -> refused no-route")


def test_a_reseller_cannot_force_a_route(scenario: Scenario) -> None:
    scenario.check("""
        reseller  north  100.00 retail
        account   beta   100.00 -       north
    """)
    with scenario.connection.cursor() as cursor:
        viewer.enter(cursor, "north")
        cursor.execute("INSERT INTO tariff (currency) VALUES ('USD')")
        cursor.execute(
            "INSERT INTO rate_group (owner_id, name, tariff_id) VALUES (viewer_id(), 'shop',"
            " currval(pg_get_serial_sequence('tariff', 'tariff_id')))"
        )
        row = (
            "INSERT INTO rate (tariff_id, prefix, per_minute_nanos, initial_seconds,"
            " increment_seconds, effective_from, revision, resource_group_id)"
            " SELECT tariff_id, '44', 0, 1, 1, now(), 1, %s FROM rate_group WHERE name = 'shop'"
        )
        cursor.execute(row, (None,))
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(row, (1,))


def test_number_rules_of_a_route_are_for_that_route(scenario: Scenario) -> None:
    scenario.check("""
        rule      RG_21 prefix=44 strip=2 prepend=0
        rule      RG_22 prefix=4420 block
        authorize s1 acme 442071838750  -> granted 7200s RG_21 RG_23 final
    """)
    [(routes,)] = scenario.query("SELECT routes FROM call")
    assert '"gw/provider-RG_21/02071838750"' in routes
    assert '"gw/provider-RG_23/442071838750"' in routes


# ------------------------------------------------------------------ what is counted of margins


class Written:
    """A connection that keeps what it is to write, and fails when it is told to."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.down = False

    def execute(self, statement: str, parameters: Sequence[Any]) -> Deferred[list[object]]:
        if self.down:
            return fail(DatabaseUnavailable("down"))
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
        self.connection.commit()
        return succeed([])


def flush(refusals: RouteRefusals, written: Written, now: datetime) -> str:
    coroutine = refusals.write(written, now)  # type: ignore[arg-type] # as much as is used of it
    try:
        waited = coroutine.send(None)
        while True:
            waited = coroutine.send(waited.result)
    except StopIteration:
        return "written"
    except DatabaseUnavailable:
        return "down"


@pytest.fixture
def numbers(scenario: Scenario) -> tuple[int, int, int]:
    rows = scenario.query(
        "SELECT rate_group_id, resource_group_id FROM rate_group, resource_group"
        " WHERE resource_group.name IN ('RG_22', 'RG_23') ORDER BY resource_group.name"
    )
    return rows[0][0], rows[0][1], rows[1][1]


def test_refusals_are_counted_once_they_are_committed_and_only_then(scenario: Scenario) -> None:
    set_margin(scenario, 500_000)
    refusals = scenario.books._store.route_refusals
    for number in range(3):
        scenario.check(f"authorize s{number} acme 442071838750")
    assert refusals.total == 3  # RG_23, each time
    scenario.check("authorize s1 acme 442071838750")  # asked again: nothing is decided anew
    assert refusals.total == 3


def test_what_was_counted_is_added_to_its_hour(
    scenario: Scenario, numbers: tuple[int, int, int]
) -> None:
    rate_group, second, third = numbers
    written, refusals = Written(scenario.connection), RouteRefusals()
    noon = datetime(2026, 1, 15, 12, 40, tzinfo=UTC)
    refusals.add({(rate_group, second): 2, (rate_group, third): 1})
    assert flush(refusals, written, noon) == "written"
    refusals.add({(rate_group, second): 3, (rate_group, 999_999): 7})
    refusals.add({(rate_group, second): 1})
    written.down = True
    assert flush(refusals, written, noon) == "down"
    written.down = False
    assert flush(refusals, written, noon + timedelta(minutes=10)) == "written"
    assert flush(refusals, written, noon + timedelta(minutes=10)) == "written"
    refusals.add({(rate_group, third): 5})
    assert flush(refusals, written, noon + timedelta(minutes=20)) == "written"
    assert refusals.total == 19
    with scenario.connection.cursor() as cursor:
        rows = list_route_refusals(
            cursor, viewer.operator(cursor), since=hour_of(noon), until=noon + timedelta(hours=2)
        )
        early = list_route_refusals(
            cursor, viewer.operator(cursor), since=BEGINNING, until=hour_of(noon)
        )
    assert [(row.hour.hour, row.rate_group, row.resource_group, row.refusals) for row in rows] == [
        (13, "retail", "RG_23", 5),
        (12, "retail", "RG_22", 6),
        (12, "retail", "RG_23", 1),
    ]
    assert early == []


def test_an_hour_is_that_of_utc() -> None:
    calcutta = datetime.fromisoformat("2026-01-15T12:10:00+05:30")
    assert hour_of(calcutta) == datetime(2026, 1, 15, 6, tzinfo=UTC)
