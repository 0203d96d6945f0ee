"""Which call a message is of when its key has been used more than once, or its time is odd."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from aaa_server.accounting import charging_request
from aaa_server.charging.requests import Origin, Settled, Start, Stop, Update
from aaa_server.radius.call import AccountingCall
from aaa_server.radius.client import Client
from aaa_server.radius.packet import Secret
from aaa_server.storage.database import connect
from tests.charging import proof
from tests.scenario import Books, Scenario, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

    from aaa_server.charging.requests import ChargingRequest

WORLD = """
    rate      retail 44 0.60 1/1
    cost      RG_21  44 0.30 1/1 provider=carrier
    attach    retail RG_21
    account   acme   10.00 retail
"""
DAY = timedelta(days=1)
NUMBER = "442071838750"
# The database has its own clock, which is not wound: what has been recorded was so just now.
NOW = datetime.now(UTC)


@pytest.fixture
def scenario(connection: Connection) -> Iterator[Scenario]:
    """Whatever a test does, the books are in order after it."""
    scenario = Scenario(connection)
    scenario.check(WORLD)
    scenario.now = NOW
    yield scenario
    with connection.cursor() as cursor:
        assert proof.broken_laws(cursor) == {}


def ask(scenario: Scenario, request: ChargingRequest) -> str:
    return said(scenario.books.decide([request])[0])


def stop(
    scenario: Scenario, seconds: int | None, switch_at: datetime | None = None, key: str = "s1"
) -> Stop:
    """A Stop that arrives now; `switch_at` is its Event-Timestamp, None: it has none."""
    return Stop(
        1,
        key,
        min(switch_at or scenario.now, scenario.now),
        None if seconds is None else 1000 * seconds,
        scenario.authorization([key, "acme", NUMBER], {}).origin,
        NUMBER,
        switch_at=switch_at,
    )


def start(scenario: Scenario, switch_at: datetime | None = None) -> Start:
    told = stop(scenario, 0, switch_at)
    return Start(1, "s1", told.at, told.origin, NUMBER, switch_at=switch_at)


def update(scenario: Scenario, seconds: int, switch_at: datetime | None = None) -> Update:
    told = stop(scenario, 0, switch_at)
    return Update(1, "s1", told.at, seconds, told.origin, NUMBER, switch_at=switch_at)


def records(scenario: Scenario) -> list[tuple[int, str]]:
    """Seconds and how it ended, of each record in the order in which the calls began."""
    return [
        (int(seconds), str(ended_by))
        for seconds, ended_by in scenario.query(
            "SELECT seconds, ended_by FROM cdr ORDER BY authorized_at"
        )
    ]


# ------------------------------------------------------------------ whose clock it is


@pytest.mark.parametrize("status", ["start", "interim", "stop", "failed"])
def test_a_message_without_a_time_has_none_of_its_switch(status: str) -> None:
    client = Client(1, "switch", ip_network("127.0.0.1"), (Secret(b"x"),), "rfc")
    for event_at, told in ((NOW, None), (NOW - DAY, NOW - DAY), (NOW + DAY, NOW + DAY)):
        call = AccountingCall(status, "s1", Origin("acme"), NUMBER, event_at, "", duration_ms=1000)
        request = charging_request(call, client, NOW)
        assert isinstance(request, Start | Update | Stop)
        assert (request.at, request.switch_at) == (min(event_at, NOW), told)


# ------------------------------------------------------------------ the same Stop again


@pytest.mark.parametrize("days", [2, 20])
@pytest.mark.parametrize("first", ["", "start", "update"])
def test_a_stop_of_long_ago_that_comes_again_without_its_time_is_charged_once(
    scenario: Scenario, days: int, first: str
) -> None:
    long_ago = scenario.now - days * DAY
    assert ask(scenario, stop(scenario, 60, long_ago)) == "cost 0.600000"
    scenario.now += timedelta(minutes=5)
    if first == "start":
        ask(scenario, start(scenario))
    elif first == "update":
        ask(scenario, update(scenario, 30))
    assert ask(scenario, stop(scenario, 60)) == "cost 0.600000"
    assert ask(scenario, stop(scenario, 60, long_ago)) == "cost 0.600000"
    assert records(scenario) == [(60, "stop")]
    scenario.check("balance acme -> 9.400000 reserved 0.000000")
    scenario.check("call s1 -> none")


def test_in_one_batch_it_is_charged_once_too(scenario: Scenario) -> None:
    told = stop(scenario, 60, scenario.now - 2 * DAY)
    scenario.books.decide([told])
    again = scenario.books.decide([stop(scenario, 60), told, stop(scenario, 60)])
    assert again == [Settled(600_000, "USD")] * 3
    assert records(scenario) == [(60, "stop")]


def test_calls_that_are_told_of_long_after_are_as_many_as_their_times_say(
    scenario: Scenario,
) -> None:
    """What a switch kept while the server was away: it has counted from 1 again meanwhile."""
    for days, seconds in ((6, 60), (4, 60), (2, 60)):
        assert ask(scenario, stop(scenario, seconds, scenario.now - days * DAY)) == "cost 0.600000"
    assert records(scenario) == [(60, "stop")] * 3
    for days, seconds in ((6, 60), (2, 60), (4, 60)):
        ask(scenario, stop(scenario, seconds, scenario.now - days * DAY))
    assert records(scenario) == [(60, "stop")] * 3
    scenario.check("balance acme -> 8.200000 reserved 0.000000")


def test_a_key_that_is_used_again_without_times_is_another_call(scenario: Scenario) -> None:
    ask(scenario, stop(scenario, 60))
    scenario.now += DAY + timedelta(minutes=5)
    ask(scenario, stop(scenario, 60))
    assert records(scenario) == [(60, "stop")] * 2


# ------------------------------------------------------------------ an old Stop for a key in use


@pytest.fixture
def again(scenario: Scenario) -> Scenario:
    """A call that fell silent, and two days later another one of its key, which runs."""
    scenario.now = NOW - 3 * DAY
    scenario.check("authorize s1 acme 442071838750 maximum=600")
    scenario.now += timedelta(hours=2)
    scenario.check("expire    s1 -> closed 1")
    scenario.now = NOW
    scenario.check("authorize s1 acme 442071838750 slice=120 -> granted 120s RG_21")
    return scenario


SPOOLED_AT = NOW - 3 * DAY + timedelta(minutes=5)


def test_an_old_stop_corrects_its_own_call_and_ends_no_other(again: Scenario) -> None:
    again.now += timedelta(seconds=60)
    for _ in range(2):
        assert ask(again, stop(again, 300, SPOOLED_AT)) == "cost 3.000000"
        again.check("""
            call      s1 -> authorized
            balance   acme -> 7.000000 reserved 1.200000
        """)
    assert ask(again, stop(again, 60, again.now)) == "cost 0.600000"
    assert records(again) == [(300, "expiry"), (60, "stop")]
    again.check("balance acme -> 6.400000 reserved 0.000000")


def test_an_old_stop_after_both_calls_have_ended_corrects_its_own(again: Scenario) -> None:
    again.now += timedelta(seconds=1000)
    again.check("expire s1 -> closed 1")
    assert ask(again, stop(again, 300, SPOOLED_AT)) == "cost 3.000000"
    assert ask(again, stop(again, 60, again.now)) == "cost 0.600000"
    assert records(again) == [(300, "expiry"), (60, "expiry")]


def test_both_stops_in_one_batch_find_their_calls(again: Scenario) -> None:
    again.now += timedelta(seconds=60)
    old, new = stop(again, 300, SPOOLED_AT), stop(again, 60, again.now)
    answers = again.books.decide([old, new, old, new])
    assert [said(answer) for answer in answers] == ["cost 3.000000", "cost 0.600000"] * 2
    assert records(again) == [(300, "expiry"), (60, "stop")]


def test_an_old_stop_in_the_batch_that_begins_the_new_call_finds_its_own(
    scenario: Scenario,
) -> None:
    scenario.now = NOW - 3 * DAY
    scenario.check("authorize s1 acme 442071838750 maximum=600")
    scenario.now += timedelta(hours=2)
    scenario.check("expire    s1 -> closed 1")
    scenario.now = NOW
    new = scenario.authorization(["s1", "acme", NUMBER], {"slice": "120"})
    answers = scenario.books.decide([new, stop(scenario, 300, SPOOLED_AT)])
    assert [said(answer) for answer in answers] == ["granted 120s RG_21", "cost 3.000000"]
    scenario.check("call s1 -> authorized")
    assert ask(scenario, stop(scenario, 60)) == "cost 0.600000"
    assert records(scenario) == [(300, "expiry"), (60, "stop")]


def test_an_old_start_and_update_are_of_the_old_call(again: Scenario) -> None:
    again.now += timedelta(seconds=60)
    ask(again, start(again, SPOOLED_AT - timedelta(minutes=5)))
    ask(again, update(again, 200, SPOOLED_AT))
    assert again.query("SELECT started_at, last_seconds FROM call") == [(None, None)]
    assert ask(again, stop(again, 300, SPOOLED_AT)) == "cost 3.000000"
    again.check("call s1 -> authorized")


def test_another_process_finds_its_call_too(again: Scenario, database_url: str) -> None:
    with contextlib.closing(connect(database_url)) as connection:
        books = Books(connection)
        [answer] = books.decide([stop(again, 300, SPOOLED_AT)])
        assert said(answer) == "cost 3.000000"
    again.check("call s1 -> authorized")
    assert ask(again, stop(again, 60)) == "cost 0.600000"


@pytest.mark.parametrize("slow", [timedelta(hours=2), 2 * DAY, timedelta(days=4000)])
@pytest.mark.parametrize("started", [False, True])
def test_a_slow_clock_ends_its_call(scenario: Scenario, slow: timedelta, started: bool) -> None:
    scenario.check("authorize s1 acme 442071838750 slice=120 -> granted 120s RG_21")
    if started:
        ask(scenario, start(scenario, scenario.now - slow))
    scenario.now += timedelta(seconds=60)
    assert ask(scenario, stop(scenario, 60, scenario.now - slow)) == "cost 0.600000"
    assert ask(scenario, stop(scenario, 60, scenario.now - slow)) == "cost 0.600000"
    assert records(scenario) == [(60, "stop")]


@pytest.mark.parametrize("slow", [timedelta(hours=2), 3 * DAY - timedelta(minutes=5), 4000 * DAY])
@pytest.mark.parametrize("spooled", [True, False])
def test_a_slow_clock_that_told_of_beginnings_ends_its_call_though_an_older_one_would_fit(
    scenario: Scenario, slow: timedelta, spooled: bool
) -> None:
    scenario.now = NOW - 3 * DAY
    scenario.check("authorize s1 acme 442071838750 maximum=600")
    ask(scenario, start(scenario, scenario.now - slow))
    scenario.now += timedelta(hours=2)
    scenario.check("expire    s1 -> closed 1")
    scenario.now = NOW
    scenario.check("authorize s1 acme 442071838750 slice=120 -> granted 120s RG_21")
    ask(scenario, start(scenario, scenario.now - slow))
    scenario.now += timedelta(seconds=60)
    if spooled and slow < DAY:  # slower ones date it before all that is looked into
        assert ask(scenario, stop(scenario, 300, SPOOLED_AT - slow)) == "cost 3.000000"
    assert ask(scenario, stop(scenario, None, scenario.now - slow)) == "cost 0.600000"
    scenario.check("call s1 -> none")
    assert records(scenario)[1] == (60, "stop")


@pytest.mark.parametrize("slow", [timedelta(hours=2), 4000 * DAY])
def test_a_slow_clock_at_which_no_older_call_was_ends_the_one_that_runs(
    again: Scenario, slow: timedelta
) -> None:
    again.now += timedelta(seconds=60)
    assert ask(again, stop(again, 60, again.now - slow)) == "cost 0.600000"
    again.check("call s1 -> none")
    assert records(again) == [(0, "expiry"), (60, "stop")]


def test_a_clock_that_is_ahead_ends_its_call(again: Scenario) -> None:
    ahead = timedelta(hours=20)
    ask(again, start(again, again.now + ahead))
    again.now += timedelta(seconds=60)
    assert ask(again, stop(again, None, again.now + ahead)) == "cost 0.600000"
    assert records(again) == [(0, "expiry"), (60, "stop")]


def test_an_old_stop_ends_no_call_of_a_clock_that_is_ahead(again: Scenario) -> None:
    ask(again, start(again, again.now + timedelta(hours=20)))
    assert ask(again, stop(again, 300, SPOOLED_AT)) == "cost 3.000000"
    again.check("call s1 -> authorized")
