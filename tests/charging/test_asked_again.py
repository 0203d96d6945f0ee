"""Questions and Stops under the key of a call that is known, and Stops that say too little."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from aaa_server.charging.requests import Origin, Settled, Start, Stop
from tests.charging import proof
from tests.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

WORLD = """
    rate      retail 44 0.60 60/60
    account   acme   10.00 retail pin=1234
    account   other  10.00 retail
"""


@pytest.fixture
def scenario(connection: Connection) -> Iterator[Scenario]:
    """Whatever a test does, the books are in order after it."""
    scenario = Scenario(connection, slice_seconds=60)
    scenario.check(WORLD)
    yield scenario
    with connection.cursor() as cursor:
        assert proof.broken_laws(cursor) == {}


# ------------------------------------------------------------------ asked again


def test_its_own_caller_gets_the_same_answer(scenario: Scenario) -> None:
    scenario.check("""
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        after     5s
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        balance   acme                          -> 10.000000 reserved 0.600000
    """)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("acme 442071838750 pin=9999", "refused invalid-password"),
        ("acme 442071838751 pin=1234", "refused invalid-argument"),
        ("acme 8821234567 pin=1234", "refused invalid-argument"),
        ("other 442071838750", "refused invalid-argument"),
        ("nobody 442071838750", "refused invalid-account"),
    ],
)
def test_nobody_else_gets_in_under_its_key(scenario: Scenario, question: str, answer: str) -> None:
    scenario.check(f"""
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        authorize s1 {question}                 -> {answer}
        call      s1                            -> authorized
        after     60s
        stop      s1 60s                        -> cost 0.600000
        cdr       s1                            -> 60s stop
    """)


@pytest.mark.parametrize("first", ["authorize s1 acme 442071838750 pin=1234 -> granted 60s",
                                   "authorize s1 acme 112 -> granted 7200s final"])  # fmt: skip
@pytest.mark.parametrize("stop", ["", "stop s1 30s"])
def test_an_emergency_call_passes_under_any_key(scenario: Scenario, first: str, stop: str) -> None:
    scenario.check(f"""
        emergency 112
        {first}
        {stop}
        authorize s1 acme 112 -> granted 7200s final
    """)


def test_a_call_does_not_get_back_what_it_has_talked(scenario: Scenario) -> None:
    scenario.check("""
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        after     60s
        more      s1 60s step=2                 -> granted 60s
        after     60s
        more      s1 120s step=3                -> granted 60s
        more      s1 0s step=4                  -> granted 60s
    """)


# ------------------------------------------------------------------ how long was it?


def test_a_stop_without_a_length_is_charged_by_what_was_known_last(scenario: Scenario) -> None:
    scenario.check("""
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        after     20s
        update    s1 15s
        after     20s
        stop      s1 ?                          -> cost 0.600000
        cdr       s1                            -> 15s stop duration-unknown
    """)


def test_a_stop_of_which_nothing_is_known_is_flagged_and_corrected_later(
    scenario: Scenario,
) -> None:
    scenario.check("""
        authorize s1 acme 442071838750 pin=1234 slice=180 -> granted 180s
        after     90s
        stop      s1 ?                          -> cost 0.000000
        cdr       s1                            -> 0s stop duration-unknown
        balance   acme                          -> 10.000000 reserved 0.000000
        stop      s1 ?                          -> cost 0.000000
        stop      s1 61s                        -> cost 1.200000
        stop      s1 75s                        -> cost 1.200000
        cdr       s1                            -> 61s stop duration-unknown late-stop
        balance   acme                          -> 8.800000 reserved 0.000000
    """)


def test_a_stop_after_its_start_says_enough(scenario: Scenario) -> None:
    scenario.check("""
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        start     s1
        after     30s
        stop      s1 ?                          -> cost 0.600000
        cdr       s1                            -> 30s stop
    """)


# ------------------------------------------------------------------ when was it?


def test_nothing_is_posted_before_the_call_was_authorised(scenario: Scenario) -> None:
    scenario.check("""
        at        2026-11-22T12:00:00Z
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        at        2026-10-13T12:00:00Z
        stop      s1 30s                        -> cost 0.600000
    """)
    [(ended, posted)] = scenario.query(
        "SELECT cdr.ended_at, ledger_transaction.at FROM cdr, ledger_transaction"
        " WHERE ledger_transaction.kind = 'call'"
    )
    assert ended.isoformat() == posted.isoformat() == "2026-11-22T12:00:00+00:00"


def test_a_clock_that_was_set_during_the_call_measures_nothing(scenario: Scenario) -> None:
    """Five years of talk would not even fit into the books at the dearest prices."""
    scenario.check("""
        authorize s1 acme 442071838750 pin=1234 -> granted 60s
        account   rich 0.00 retail postpaid limit=10.00
    """)
    before = scenario.now - timedelta(days=1825)
    for key, account in (("s1", Origin("acme")), ("s2", Origin("rich"))):
        start = Start(1, key, before, account, "442071838750", switch_at=before)
        stop = Stop(1, key, scenario.now, None, account, "442071838750", switch_at=scenario.now)
        answers = scenario.books.decide([start, stop])
        assert answers[1] == Settled(0, "USD")
    assert scenario.query("SELECT seconds, flags FROM cdr ORDER BY session_key") == [
        (0, ["duration-unknown"]),
        (0, ["duration-unknown", "no-authorization"]),
    ]
