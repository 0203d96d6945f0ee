"""sky_did.lua: calls from outside to numbers of ours, in every Lua."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lua.switch import Callee, Channel, Switch
from tests.lua.test_prepaid import LONDON, PREPAID, add_account, cdr, cdrs, held

if TYPE_CHECKING:
    from tests.integration.server import Server
    from tests.lua.conftest import NewSwitch

DID = "lua/sky_did.lua"
OUTSIDE = "33155550100"
TRANSPORTS = pytest.mark.parametrize("transport", ["xml_radius", "radius"])


@pytest.fixture(scope="session")
def owned(world: Server) -> dict[str, str]:
    """Numbers by where they ring; all of hanna, but for the one of an owner without money."""
    numbers = {"extension": "390211", "sip": "390212", "pstn": "390213", "poor": "390214"}
    add_account(world, "poor", "0.001")
    add_account(world, "hanna", "50")
    rings = {
        "extension": ("--extension", "1001@sip.example"),
        "sip": ("--sip", "sip:reception@pbx.example:5070"),
        "pstn": ("--pstn", LONDON),
        "poor": ("--extension", "1003@sip.example"),
    }
    for kind, number in numbers.items():
        owner = "poor" if kind == "poor" else "hanna"
        world.command("did", "add", number, "--provider", "acme", "--per-minute", "0.004")
        world.command("did", "price", number, "--account", owner, "--per-minute", "0.01")
        world.command("did", "assign", number, owner, *rings[kind])
    return numbers


def payer(server: Server, key: str) -> str:
    [(code,)] = server.query(
        "SELECT code FROM cdr JOIN account USING (account_id) WHERE session_key = %s", key
    )
    assert isinstance(code, str)
    return code


def dialled(call: Channel) -> list[str]:
    return [data.rpartition("]")[2] for data in call.bridges]


@pytest.mark.parametrize(
    ("kind", "dial"),
    [
        ("extension", "user/1001@sip.example"),
        ("sip", "sofia/external/sip:reception@pbx.example:5070"),
    ],
)
@TRANSPORTS
def test_it_rings_where_the_owner_wants_and_he_pays(
    world: Server,
    new_switch: NewSwitch,
    owned: dict[str, str],
    kind: str,
    dial: str,
    transport: str,
) -> None:
    switch = new_switch(transport=transport)
    switch.callees[dial] = Callee(talk_seconds=125)
    call = switch.call(DID, owned[kind], caller=OUTSIDE)
    assert dialled(call) == [dial]
    assert cdr(world, call.uuid)[:2] == ("stop", 125)
    assert payer(world, call.uuid) == "hanna"
    assert call.variables["sky_account_source"] == "did"
    assert held(world, "hanna") == (0, 0)


def test_a_prepaid_call_may_be_told_that_it_is_one_to_a_did(
    new_switch: NewSwitch, owned: dict[str, str]
) -> None:
    switch = new_switch()
    switch.callees["user/1001"] = Callee()
    call = switch.call(PREPAID, owned["extension"], "mode=did", caller=OUTSIDE)
    assert dialled(call) == ["user/1001@sip.example"]


@TRANSPORTS
def test_forwarded_to_the_telephone_network_the_owner_pays_for_both_calls(
    world: Server, new_switch: NewSwitch, owned: dict[str, str], transport: str
) -> None:
    switch = new_switch(transport=transport)
    switch.callees["globex"] = Callee(talk_seconds=70)
    call = switch.call(DID, owned["pstn"], caller=OUTSIDE)
    assert dialled(call) == [f"sofia/gateway/globex/{LONDON}"]
    assert cdr(world, call.uuid)[:2] == ("stop", 70)
    assert cdr(world, call.uuid + "/2")[:3] == ("stop", 70, "RG_22")
    assert payer(world, call.uuid + "/2") == "hanna"
    # Each leg accounts for itself.
    assert switch.stop_sent == [call.uuid + "/2", call.uuid]
    assert held(world, "hanna") == (0, 0)


def test_a_forwarded_call_hunts_too(
    world: Server, new_switch: NewSwitch, owned: dict[str, str]
) -> None:
    switch = new_switch()
    switch.callees["globex"] = Callee(cause="NORMAL_TEMPORARY_FAILURE")
    switch.callees["acme"] = Callee(talk_seconds=70)
    call = switch.call(DID, owned["pstn"], caller=OUTSIDE)
    assert dialled(call) == [f"sofia/gateway/globex/{LONDON}", f"sofia/gateway/acme/{LONDON}"]
    assert cdr(world, call.uuid)[1] == 70
    assert cdr(world, call.uuid + "/2")[1] == 0
    assert cdr(world, call.uuid + "/3")[1:3] == (70, "RG_21")
    assert held(world, "hanna") == (0, 0)


def test_the_caller_may_leave_at_every_step_of_a_forwarded_call(
    world: Server, new_switch: NewSwitch, owned: dict[str, str]
) -> None:
    """Between the second answer and the dialling nothing is left to end that call but time."""
    step = 0
    while True:
        step += 13
        switch = new_switch()
        switch.callees["globex"] = Callee(talk_seconds=7)
        switch.leaves_at_step = step
        call = switch.call(DID, owned["pstn"], caller=OUTSIDE)
        assert cdrs(world, call.uuid) == 1
        assert cdrs(world, call.uuid + "/2") <= 1
        assert call.bridges == [] or open_calls(world, call) == 0
        if switch.steps < step:
            break
    assert step > 60


def open_calls(server: Server, call: Channel) -> int:
    """Those of the channel that a switch would still have to end."""
    [(count,)] = server.query(
        "SELECT count(*) FROM call WHERE session_key LIKE %s", call.uuid + "%"
    )
    assert isinstance(count, int)
    return count


def test_an_owner_without_money_is_not_called_and_the_stranger_not_told_why(
    world: Server, new_switch: NewSwitch, owned: dict[str, str]
) -> None:
    switch = new_switch()
    switch.callees["user"] = Callee()
    call = switch.call(DID, owned["poor"], caller=OUTSIDE)
    assert call.sip == "480 Temporarily Unavailable"
    assert call.bridges == []
    assert call.variables["sky_result"] in ("no-credit", "not-enough")
    assert held(world, "poor") == (0, 0)


def test_a_number_that_is_not_ours_goes_nowhere(new_switch: NewSwitch) -> None:
    switch = new_switch()
    call = switch.call(DID, "390299", caller=OUTSIDE)
    assert call.sip.startswith("503")
    assert call.bridges == []


def test_nobody_answers(world: Server, new_switch: NewSwitch, owned: dict[str, str]) -> None:
    switch = new_switch()
    switch.callees["user"] = Callee(ring_seconds=100)
    call = switch.call(DID, owned["extension"], caller=OUTSIDE)
    assert call.cause == "NO_ANSWER"
    assert cdr(world, call.uuid)[1] == 0


@pytest.mark.parametrize("caller", ["", "anonymous", "a b"])
def test_a_caller_who_does_not_say_who_he_is_is_put_through(
    world: Server, new_switch: NewSwitch, owned: dict[str, str], caller: str
) -> None:
    switch = new_switch()
    answer(switch)
    call = switch.call(DID, owned["extension"], caller=caller)
    assert cdr(world, call.uuid)[:2] == ("stop", 60)


def answer(switch: Switch) -> None:
    switch.callees["user"] = Callee()
