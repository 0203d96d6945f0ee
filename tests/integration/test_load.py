"""Load from a switch while other things write the same rows: nothing is lost or waits long."""

from __future__ import annotations

import contextlib
import random
import re
import time
from typing import TYPE_CHECKING

import pytest

from aaa_server.service import ACCOUNTS_AT_START_MAX
from aaa_server.storage import payments, viewer
from aaa_server.storage.database import connect, transaction
from tests.integration.load import ACCOUNTS, ENOUGH, SLICE_SECONDS, Load, minute_prices, prove
from tests.integration.nas import CALLED, Nas
from tests.integration.server import wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Serving

SECONDS = 3.0
PAYMENTS_MIN = 20
CENT = 10_000


@pytest.mark.parametrize("processes", [1, 3])
def test_payments_among_calls_lose_nothing_and_nobody_waits_in_a_ring(
    serving: Serving, processes: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    paid: dict[str, int] = {}
    options = {"charging": f"slice_seconds = {SLICE_SECONDS}"}
    with serving(processes=processes, options=options) as server:
        prices = minute_prices(server)
        load = Load(server, seed)
        ends = time.monotonic() + SECONDS
        try:
            with contextlib.closing(connect(server.url)) as connection:
                number = 0
                while time.monotonic() < ends or number < PAYMENTS_MIN:
                    code = chance.choice(ACCOUNTS)
                    with transaction(connection) as cursor:
                        admin = viewer.operator(cursor)
                        reference = f"cent {number}"
                        payments.top_up(cursor, admin, code, CENT, reference=reference)
                    paid[code] = paid.get(code, 0) + CENT
                    number += 1
                    time.sleep(chance.choice((0, 0.001, 0.02)))
            load.until(ENOUGH)
        finally:
            load.stop()
        prove(server, load, prices, paid)
        # A deadlock is found by PostgreSQL after a second, in which nobody is answered.
        assert "deadlock" not in server.log


def test_more_accounts_than_are_read_at_the_start_come_into_memory_by_and_by(
    serving: Serving,
) -> None:
    more = ACCOUNTS_AT_START_MAX + 500
    with serving() as server:
        server.stop()
        with (
            contextlib.closing(connect(server.url)) as connection,
            transaction(connection) as cursor,
        ):
            cursor.execute(
                "INSERT INTO account (code, kind, parent_id, currency, prepaid)"
                " SELECT 'many-' || number, 'customer', account_id, currency, true"
                "   FROM account, generate_series(1, %s) AS number WHERE kind = 'admin'",
                [more],
            )
        server.start()
        nas = Nas(server)
        assert nas.ask(nas.authorize("meanwhile", "bob", CALLED)).granted
        wait_until(lambda: "accounts are in memory" in server.said, "all accounts are held")
        held = re.search(r"(\d+) accounts are in memory", server.said)
        assert held is not None
        assert int(held[1]) > more
        assert nas.ask(nas.authorize("afterwards", "bob", CALLED)).granted
