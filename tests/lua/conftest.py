"""A real server and switches that ask it, in every Lua that FreeSWITCH may be built with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import demo, key_file, serving
from tests.integration.nas import Nas
from tests.integration.server import wait_until
from tests.lua.switch import RUNTIMES, SCRIPTS, Settings, Switch
from tests.lua.xml_radius import XmlRadius

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import Serving
    from tests.integration.server import Server

__all__ = ["demo", "key_file", "serving"]

SLICED = "127.0.0.9"  # the client that asks for slices
REJECTED = "127.0.0.10"  # the client that is refused by Access-Reject
SLICE_SECONDS = 60

NewSwitch = Callable[..., Switch]


@pytest.fixture(scope="session")
def world(serving: Serving) -> Iterator[Server]:
    """The demo, and a switch whose calls are granted a minute at a time."""
    with serving() as started:
        started.command(
            "client", "add", "sliced", SLICED, "--type", "freeswitch",
            "--secret-file", "-", "--slice-seconds", str(SLICE_SECONDS), stdin="testing123",
        )  # fmt: skip
        started.command(
            "client", "add", "rejected", REJECTED, "--type", "freeswitch",
            "--secret-file", "-", "--refuse-with", "reject", stdin="testing123",
        )  # fmt: skip
        for address in (SLICED, REJECTED):
            nas = Nas(started, address)
            question = nas.authorize("first", "nobody", "1")
            wait_until(partial(nas.try_to_ask, question, seconds=0.3), f"{address} is known")
        yield started
        started.audit()


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """A Lua."""
    assert isinstance(request.param, str)
    return request.param


def values_of(bind: str) -> dict[str, str]:
    """sky_vars.xml of one test."""
    return {
        "sky_radius_server": "127.0.0.1",
        "sky_radius_server_2": "",
        "sky_radius_secret": "testing123",
        "sky_radius_bind": bind,
        "sky_radius_dictionary": "",
    }


@pytest.fixture
def new_switch(world: Server, runtime: str) -> Iterator[NewSwitch]:
    """A switch; at the end no script has failed and no task is left."""
    made: list[Switch] = []

    def switch(
        *,
        bind: str = "127.0.0.1",
        transport: str = "xml_radius",
        auth_port: int | None = None,
        without: str = "",
        settings: Callable[[Settings], None] | None = None,
        **more: Any,
    ) -> Switch:
        """`auth_port`: where nobody listens, perhaps. `without`: an attribute not known."""
        port = auth_port or world.auth_port
        configuration = (
            (SCRIPTS / "conf" / "xml_radius.conf.xml")
            .read_text(encoding="utf-8")
            .replace(":1812:", f":{port}:")
            .replace(":1813:", f":{world.acct_port}:")
        )
        lines = (SCRIPTS / "conf" / "dictionary").read_text(encoding="utf-8").splitlines()
        dictionary = "\n".join(line for line in lines if not without or without not in line)
        values = values_of(bind)
        globals_ = {**values, "sky_radius_server": f"127.0.0.1:{port}", **more}
        radius = XmlRadius(configuration, dictionary, values)
        made.append(Switch(runtime, radius, globals_, settings, transport))
        return made[-1]

    yield switch
    for each in made:
        assert each.errors == [], each.log
        assert each.tasks == []
        assert each.channels == {}
