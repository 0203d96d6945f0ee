"""SIGKILL of server processes under load: what was answered is on record, exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.load import ENOUGH, SLICE_SECONDS, Load, minute_prices, prove
from tests.integration.server import alive, sockets_on, wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Serving
    from tests.integration.server import Server

# Who is killed: by the number of processes, in an order of chance.
KILLED = {1: ["first"] * 5, 2: ["first", "first", "further", "all"]}


def crash(server: Server, whom: str) -> None:
    """Kill one process or all of them, and have all of them again."""
    children = server.children()
    if whom == "all":  # the first one first: it must not start another
        assert server.process is not None
        server.process.kill()
    if whom != "first":
        for child in children:
            with contextlib.suppress(ProcessLookupError):  # it has ended after the first
                os.kill(child, signal.SIGKILL)
    if whom == "further":  # the first one starts it again
        wait_until(lambda: server.children() not in ([], children), "it is started again")
        wait_until(lambda: sockets_on(server.acct_port) == server.processes, "all listen")
        return
    server.kill()
    wait_until(lambda: not any(map(alive, children)), "nobody is left behind")
    server.start()


@pytest.mark.parametrize("processes", [1, 2])
def test_every_answered_stop_is_charged_once_whenever_the_server_is_killed(
    serving: Serving, processes: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    options = {"charging": f"slice_seconds = {SLICE_SECONDS}"}
    with serving(processes=processes, options=options) as server:
        prices = minute_prices(server)
        load = Load(server, seed)
        try:
            for whom in chance.sample(KILLED[processes], len(KILLED[processes])):
                time.sleep(chance.uniform(0.2, 0.8))
                crash(server, whom)
            load.until(ENOUGH)
        finally:
            load.stop()
        prove(server, load, prices)
