"""The demo with a real server, switches with an event socket, and agents between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import demo, key_file, serving
from tests.integration.nas import Nas
from tests.integration.server import WAIT_SECONDS_MAX
from tests.switch_agent.agent import Agent
from tests.switch_agent.freeswitch import FreeSwitch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import Serving
    from tests.integration.server import Server

__all__ = ["demo", "key_file", "serving"]

SLICE_SECONDS = 60
_addresses = itertools.count(11)

NewAgent = Callable[..., Agent]


def add_client(server: Server, *options: str) -> str:
    """The address of a new client of the server's, as a FreeSWITCH with an agent is."""
    address = f"127.0.1.{next(_addresses)}"
    name = f"switch-{address.rpartition('.')[2]}"
    server.command(
        "client", "add", name, address, "--type", "freeswitch", "--secret-file", "-", *options,
        stdin="testing123",
    )  # fmt: skip
    nas = Nas(server, address)
    # The server looks for changed clients once a second.
    nas.ask(nas.status(), seconds=WAIT_SECONDS_MAX, again_seconds=0.2)
    return address


@pytest.fixture(scope="session")
def world(serving: Serving) -> Iterator[Server]:
    """A server that the tests share; each has a client of its own."""
    with serving() as started:
        yield started
        started.audit()


@pytest.fixture
def switch() -> Iterator[FreeSwitch]:
    """A FreeSWITCH."""
    made = FreeSwitch()
    yield made
    made.close()


@pytest.fixture
def new_agent(tmp_path: Path, switch: FreeSwitch) -> Iterator[NewAgent]:
    """Agents on that switch; at the end none has had a mishap."""
    made: list[Agent] = []

    def agent(server: Server, bind: str, **options: Any) -> Agent:
        made.append(Agent(tmp_path / f"agent-{len(made)}", switch, server, bind, **options))
        return made[-1]

    yield agent
    for each in made:
        if each.process is not None:
            assert each.stop() == 0
        print(each.log)  # noqa: T201 - shown when the test fails
        assert "Traceback" not in each.log


@pytest.fixture
def agent(world: Server, new_agent: NewAgent) -> Agent:
    """One that runs, with a client of its own and nothing set otherwise."""
    made = new_agent(world, add_client(world))
    made.start()
    return made
