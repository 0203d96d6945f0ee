"""Two server processes on one database: what one remembers of a key, the other may have ended.

A row of the same key is another one then, also where all its counters are the same.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from aaa_server.storage.database import connect
from tests.charging import proof
from tests.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

# What 8 minutes to the one number cost is what 16 to the other cost: of accounts nothing tells
# which of them is being called.
WORLD = """
    rate      retail 44   0.60 60/60
    rate      retail 4420 1.20 60/60
    account   acme   10.00 retail
    account   poor    0.00 retail
"""


@pytest.fixture
def one(connection: Connection) -> Iterator[Scenario]:
    """The first process; the books are in order after the test."""
    scenario = Scenario(connection)
    scenario.check(WORLD)
    yield scenario
    with connection.cursor() as cursor:
        assert proof.broken_laws(cursor) == {}


@pytest.fixture
def other(one: Scenario, database_url: str) -> Iterator[Scenario]:
    """The second process, on a connection of its own."""
    with contextlib.closing(connect(database_url)) as connection:
        scenario = Scenario(connection)
        scenario.now = one.now
        yield scenario


def test_a_refused_attempt_that_another_process_closed_and_let_in_is_charged_as_it_let_it_in(
    one: Scenario, other: Scenario
) -> None:
    one.check("authorize s1 poor 449012345678        -> refused no-credit")
    other.check("""
        after     5s
        stop      s1 0s                              -> cost 0.000000
        authorize s1 acme 449012345678               -> granted 960s final
        balance   acme                               -> 10.000000 reserved 9.600000
    """)
    one.check("""
        after     65s
        stop      s1 60s                             -> cost 0.600000
        stop      s1 60s                             -> cost 0.600000
        cdr       s1                                 -> 60s stop
        balance   acme                               -> 9.400000 reserved 0.000000
        call      s1                                 -> none
    """)


@pytest.mark.parametrize("between", ["", "start s1", "update s1 10s"])
def test_a_refused_attempt_may_be_closed_and_tried_again_many_times(
    one: Scenario, other: Scenario, between: str
) -> None:
    """The rows of one call are others each time, whichever process wrote them."""
    one.check(f"""
        authorize s1 poor 449012345678               -> refused no-credit
        {between}
    """)
    for _ in range(3):
        other.check(f"""
            stop      s1 0s                          -> cost 0.000000
            authorize s1 poor 449012345678           -> refused no-credit
            {between}
        """)
    other.check(f"""
        stop      s1 0s                              -> cost 0.000000
        authorize s1 acme 449012345678               -> granted 960s final
        {between}
    """)
    one.check("""
        after     120s
        stop      s1 120s                            -> cost 1.200000
        balance   acme                               -> 8.800000 reserved 0.000000
        balance   poor                               -> 0.000000 reserved 0.000000
    """)


def test_a_key_that_another_process_used_again_is_charged_as_its_new_call(
    one: Scenario, other: Scenario
) -> None:
    one.check("authorize s1 acme 449012345678        -> granted 960s final")
    other.check("""
        after     30s
        stop      s1 0s                              -> cost 0.000000
        after     90000s
        authorize s1 acme 442071838750               -> granted 480s final
    """)
    one.now = other.now
    one.check("""
        after     60s
        stop      s1 60s                             -> cost 1.200000
        stop      s1 60s                             -> cost 1.200000
        cdr       s1                                 -> 2 records
        balance   acme                               -> 8.800000 reserved 0.000000
    """)


def test_more_time_is_for_the_new_call_of_a_key(one: Scenario, other: Scenario) -> None:
    one.check("authorize s1 acme 449012345678 slice=120 -> granted 120s")
    other.check("""
        after     30s
        stop      s1 0s                              -> cost 0.000000
        after     90000s
        authorize s1 acme 442071838750 slice=60      -> granted 60s
    """)
    one.now = other.now
    one.check("""
        after     60s
        more      s1 60s slice=60                    -> granted 60s
        balance   acme                               -> 10.000000 reserved 2.400000
    """)
