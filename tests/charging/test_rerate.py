"""What a new rating leaves as it was, and which call it is that is rated anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aaa_server.charging.requests import Rerate, Rerated
from tests.charging import proof
from tests.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

WORLD = """
    rate      retail 44 0.60 60/60
    cost      RG_21  44 0.30 60/60 provider=carrier
    attach    retail RG_21
    account   acme   100.00 retail
"""


@pytest.fixture
def scenario(connection: Connection) -> Iterator[Scenario]:
    """Whatever a test does, the books are in order after it."""
    scenario = Scenario(connection)
    scenario.check(WORLD)
    yield scenario
    with connection.cursor() as cursor:
        assert proof.broken_laws(cursor) == {}


def rerate_all(scenario: Scenario) -> list[Rerated]:
    """All records in one batch, in the order in which the calls began."""
    answers = scenario.books.decide(
        [
            Rerate(client_id, session_key, call_id, scenario.now)
            for client_id, session_key, call_id in scenario.query(
                "SELECT client_id, session_key, call_id FROM cdr ORDER BY authorized_at"
            )
        ]
    )
    return [answer for answer in answers if isinstance(answer, Rerated)]


def costs(scenario: Scenario) -> list[tuple[int, int]]:
    """Seconds and what the caller pays in all, call by call."""
    return [
        (int(seconds), int(micros))
        for seconds, micros in scenario.query(
            "SELECT cdr.seconds, sum(charge.amount_micros) FROM cdr JOIN charge USING (call_id)"
            " WHERE level = 0 GROUP BY call_id, cdr.seconds, authorized_at ORDER BY authorized_at"
        )
    ]


@pytest.mark.parametrize(
    "stops",
    [
        ["stop s1 60500ms cause=NORMAL_CLEARING"],
        ["expire s1"],
        ["expire s1", "stop s1 60500ms cause=NORMAL_CLEARING"],
    ],
)
def test_a_new_rating_leaves_the_reported_time_and_the_cause(
    scenario: Scenario, stops: list[str]
) -> None:
    scenario.check("authorize s1 acme 442071838750 maximum=600")
    scenario.check("update s1 59s")
    scenario.check("after 10000s")
    for stop in stops:
        scenario.check(stop)
    columns = "SELECT duration_ms, cause, seconds, ended_by, ended_at, resource_group_out_id"
    before = scenario.query(f"{columns} FROM cdr")
    assert before[0][0] > 50_000
    scenario.check("rate retail 4420 0.66 60/60")
    [answer] = rerate_all(scenario)
    assert answer.changes
    assert scenario.query(f"{columns} FROM cdr") == before


def test_a_call_whose_key_was_used_again_is_rated_anew_too(scenario: Scenario) -> None:
    for seconds in (10, 70, 130):
        scenario.check(f"""
            authorize s1 acme 442071838750
            after     200s
            stop      s1 {seconds}s
            after     90000s
        """)
    scenario.check("authorize s1 acme 442071838750 maximum=60")  # and runs meanwhile
    scenario.check("rate retail 4420 0.66 60/60")
    answers = rerate_all(scenario)
    assert [answer.kept for answer in answers] == ["", "", ""]
    assert all(answer.changes for answer in answers)
    assert costs(scenario) == [(10, 660_000), (70, 1_320_000), (130, 1_980_000)]
    assert all(not answer.changes for answer in rerate_all(scenario))
    scenario.check("""
        balance   acme                       -> 96.040000 reserved 0.600000
        stop      s1 60s                     -> cost 0.600000
    """)


def test_a_stop_and_a_new_rating_of_one_call_in_one_batch_are_both_done(
    scenario: Scenario,
) -> None:
    scenario.check("""
        authorize s1 acme 442071838750
        after     10000s
        expire    s1
        rate      retail 4420 0.66 60/60
    """)
    [(call_id,)] = scenario.query("SELECT call_id FROM cdr")
    late = scenario.stop_request(["s1", "60s"], {})
    scenario.books.decide([late, Rerate(1, "s1", call_id, scenario.now), late])
    assert costs(scenario) == [(60, 660_000)]


def test_a_late_stop_beside_a_new_rating_of_an_older_call_of_its_key(scenario: Scenario) -> None:
    scenario.check("""
        authorize s1 acme 442071838750
        after     60s
        stop      s1 60s
        after     90000s
        authorize s1 acme 442071838750
        after     10000s
        expire    s1
        rate      retail 4420 0.66 60/60
    """)
    [(older,), _] = scenario.query("SELECT call_id FROM cdr ORDER BY authorized_at")
    late = scenario.stop_request(["s1", "120s"], {})
    scenario.books.decide([Rerate(1, "s1", older, scenario.now), late])
    assert costs(scenario) == [(60, 660_000), (120, 1_200_000)]


def test_a_call_that_has_no_record_says_so(scenario: Scenario) -> None:
    scenario.check("authorize s1 acme 442071838750")
    [(running,)] = scenario.query("SELECT call_id FROM call")
    for call_id in (running, 77):
        [answer] = scenario.books.decide([Rerate(1, "s1", call_id, scenario.now)])
        assert answer == Rerated(call_id, "it has not ended, or has no record", ())
