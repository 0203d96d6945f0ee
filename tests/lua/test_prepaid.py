"""sky_prepaid.lua: whole calls, from the first packet to the record, in every Lua."""

from __future__ import annotations

import contextlib
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.radius.dialects.reply import RETURN_CODES, SIP_STATUSES
from aaa_server.rating.money import parse_micros
from aaa_server.storage import accounts, payments, rate_groups, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.secrets import Keyring
from tests.integration.server import free_port, wait_until
from tests.lua.conftest import REJECTED, SLICED
from tests.lua.switch import SECOND, Callee, Channel, Settings, Switch

if TYPE_CHECKING:
    from tests.integration.server import Server
    from tests.lua.conftest import NewSwitch

PREPAID = "lua/sky_prepaid.lua"
LONDON = "442071838750"  # over RG_22 (globex), then RG_21 (acme); alice pays 0.01 a minute
TRANSPORTS = pytest.mark.parametrize("transport", ["xml_radius", "radius"])


def cdr(server: Server, key: str) -> tuple[str, int, str, int]:
    """How it ended, seconds, route that answered, transactions; fails unless it is one record."""
    [row] = server.query(
        "SELECT ended_by, seconds, coalesce(resource_group.name, ''), postings"
        "  FROM cdr LEFT JOIN resource_group ON resource_group_id = resource_group_out_id"
        " WHERE session_key = %s",
        key,
    )
    return row


def cdrs(server: Server, key: str) -> int:
    [(count,)] = server.query("SELECT count(*) FROM cdr WHERE session_key = %s", key)
    assert isinstance(count, int)
    return count


def held(server: Server, code: str) -> tuple[int, int]:
    [row] = server.query("SELECT reserved_micros, channels FROM account WHERE code = %s", code)
    return row


def add_account(server: Server, code: str, credit: str, pin: str = "") -> None:
    """A prepaid customer of the operator with so much, and perhaps a PIN."""
    with contextlib.closing(connect(server.url)) as connection, transaction(connection) as cursor:
        admin = viewer.operator(cursor)
        group = rate_groups.find_for_account(cursor, admin, "retail", admin.account_id)
        account_id = accounts.add(
            cursor,
            accounts.NewAccount(
                code=code,
                kind="customer",
                parent_id=admin.account_id,
                prepaid=True,
                currency="USD",
                rate_group_id=group.rate_group_id,
            ),
        )
        if pin:
            keyring = Keyring.open(Path(server.key_file))
            accounts.set_pin(cursor, keyring, account_id, pin.encode())
        payments.top_up(cursor, admin, code, parse_micros(credit), reference=code)


def answered(switch: Switch, route: str = "globex", **more: Any) -> None:
    switch.callees[route] = Callee()._replace(**more)


def variables(channel: Channel) -> dict[str, str]:
    names = (
        "sky_result sky_code sky_account sky_account_source sky_max_sec sky_balance sky_currency "
        "sky_route_count sky_route_n"
    )
    return {name: channel.variables.get(name, "") for name in names.split()}


# ------------------------------------------------------------------ it goes well


@TRANSPORTS
def test_a_call_is_authorised_dialled_ended_and_charged_once(
    world: Server, new_switch: NewSwitch, transport: str
) -> None:
    switch = new_switch(transport=transport)
    answered(switch, talk_seconds=61)
    call = switch.call(PREPAID, LONDON)
    assert cdr(world, call.uuid) == ("stop", 61, "RG_22", 1)
    assert variables(call) == {
        "sky_result": "ok",
        "sky_code": "0",
        "sky_account": "alice",
        "sky_account_source": "ani",
        "sky_max_sec": call.variables["sky_max_sec"],
        "sky_balance": call.variables["sky_balance"],
        "sky_currency": "USD",
        "sky_route_count": "2",
        "sky_route_n": "1",
    }
    assert call.cause == "NORMAL_CLEARING"
    assert len(call.bridges) == 1
    assert switch.stop_sent == [call.uuid]
    assert (call.variables["sky_called"], call.variables["sky_ani"]) == (LONDON, "15551230001")
    assert held(world, "alice") == (0, 0)


def test_the_caller_who_hangs_up_pays_for_what_he_talked(
    world: Server, new_switch: NewSwitch
) -> None:
    switch = new_switch()
    answered(switch, talk_seconds=None, caller_leaves_after=30.5)
    call = switch.call(PREPAID, LONDON)
    assert cdr(world, call.uuid) == ("stop", 31, "RG_22", 1)


@pytest.mark.parametrize(
    ("arguments", "more", "account", "source"),
    [
        (["acct=bob"], {}, "bob", "argument"),
        (["bob", LONDON], {}, "bob", "argument"),
        ([], {"accountcode": "bob"}, "bob", "argument"),
        ([], {"sky_account": "nora", "accountcode": "bob"}, "nora", "argument"),
        ([], {"sip_auth_username": "1002", "sip_authorized": "true"}, "bob", "extension"),
        (
            [],
            {"sip_auth_username": "2001", "sip_auth_realm": "north.example",
             "sip_authorized": "true"},
            "nora",
            "extension",
        ),
        (["ext=1002", "ani=442079460001"], {}, "bob", "extension"),
        (["ani=442079460001"], {}, "nora", "ani"),
        ([], {"sip_from_user": "1002"}, "alice", "ani"),
        ([], {"sip_auth_username": "1002"}, "alice", "ani"),
    ],
)  # fmt: skip
def test_whose_call_it_is(
    world: Server,
    new_switch: NewSwitch,
    arguments: list[str],
    more: dict[str, str],
    account: str,
    source: str,
) -> None:
    """An extension counts when FreeSWITCH has authenticated it, the From user never does."""
    switch = new_switch()
    answered(switch)
    call = switch.call(PREPAID, LONDON, *arguments, **more)
    assert variables(call)["sky_account"] == account
    assert variables(call)["sky_account_source"] == source
    assert cdr(world, call.uuid)[:2] == ("stop", 60)


def test_one_way_out_can_be_asked_for(new_switch: NewSwitch) -> None:
    switch = new_switch()
    answered(switch, "acme")
    call = switch.call(PREPAID, LONDON, "rg_out=21")
    assert [dial.rpartition("]")[2] for dial in call.bridges] == [f"sofia/gateway/acme/{LONDON}"]


def test_a_query_tells_the_balance_and_leaves_the_rest_to_the_dialplan(
    world: Server, new_switch: NewSwitch
) -> None:
    switch = new_switch()
    call = switch.new_call(LONDON)
    switch.run(call, PREPAID, "mode=query")
    assert call.up
    assert call.bridges == []
    assert variables(call)["sky_result"] == "ok"
    assert re.fullmatch(r"\d+\.\d\d", variables(call)["sky_balance"])
    switch.end(call)
    assert held(world, "alice") == (0, 0)


def test_time_and_balance_are_announced_before_the_answer(new_switch: NewSwitch) -> None:
    switch = new_switch()
    answered(switch)
    call = switch.call(PREPAID, LONDON, "announce=both")
    assert call.variables["sky_balance"] in call.heard
    assert len(call.heard) >= 2


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "called", "reason", "sip"),
    [
        (["acct=nobody"], LONDON, "invalid-account", "403 Forbidden"),
        (["acct=empty"], LONDON, "no-credit", "402 Payment Required"),
        (["acct=suspended"], LONDON, "suspended", "403 Forbidden"),
        (["acct=expired"], LONDON, "expired", "403 Forbidden"),
        (["acct=alice"], "9006", "blocked", "403 Forbidden"),
        (["acct=alice"], "999999999", "no-rate", "404 Not Found"),
        (["acct=alice", "rg_out=29"], LONDON, "no-route", "503 Service Unavailable"),
    ],
)
@TRANSPORTS
def test_a_refusal_is_told_in_sip_and_nothing_is_dialled(
    world: Server,
    new_switch: NewSwitch,
    transport: str,
    arguments: list[str],
    called: str,
    reason: str,
    sip: str,
) -> None:
    switch = new_switch(transport=transport)
    call = switch.call(PREPAID, called, *arguments)
    assert variables(call)["sky_result"] == reason
    assert call.sip == sip
    assert call.bridges == []
    assert cdrs(world, call.uuid) <= 1
    [(charged,)] = world.query(
        "SELECT coalesce(sum(postings), 0) FROM cdr WHERE session_key = %s", call.uuid
    )
    assert charged == 0


@TRANSPORTS
def test_a_reject_is_no_permission_either(
    world: Server, new_switch: NewSwitch, transport: str
) -> None:
    """mod_xml_radius tells nothing of why; the scripts' own client does."""
    switch = new_switch(bind=REJECTED, transport=transport)
    call = switch.call(PREPAID, LONDON, "acct=empty")
    assert (variables(call)["sky_result"], call.sip) == {
        "xml_radius": ("rejected", "403 Forbidden"),
        "radius": ("no-credit", "402 Payment Required"),
    }[transport]


def test_one_call_at_once_means_one(world: Server, new_switch: NewSwitch) -> None:
    switch = new_switch()
    switch.callees["globex"] = Callee(talk_seconds=5)
    first = switch.new_call(LONDON)
    second: list[Channel] = []
    ring = switch.ring

    def meanwhile(caller: Channel, leg: Channel, plan: Callee) -> str:
        if not second:
            second.append(switch.new_call(LONDON))
            switch.run(second[0], PREPAID, "acct=single")
        return ring(caller, leg, plan)

    switch.ring = meanwhile  # type: ignore[method-assign]
    switch.run(first, PREPAID, "acct=single")
    switch.end(first)
    switch.end(second[0])
    assert second[0].sip == "503 Service Unavailable"
    assert variables(second[0])["sky_result"] == "in-use"
    assert held(world, "single") == (0, 0)


def test_the_reasons_are_the_server_s(runtime: str) -> None:
    lua = importlib.import_module(f"lupa.{runtime}").LuaRuntime()
    lua.execute('package.path = "lua/lib/?.lua;" .. package.path')
    reasons = lua.eval('(require("reasons"))')
    for reason, code in RETURN_CODES.items():
        row = reasons.by_code(code)
        assert row.sip == SIP_STATUSES[reason], reason
        assert row.name in {other.value for other, same in RETURN_CODES.items() if same == code}


# ------------------------------------------------------------------ ways out


def test_a_dead_first_way_out_is_followed_by_the_second(
    world: Server, new_switch: NewSwitch
) -> None:
    switch = new_switch()
    answered(switch, "globex", cause="NORMAL_TEMPORARY_FAILURE")
    answered(switch, "acme", talk_seconds=61)
    call = switch.call(PREPAID, LONDON)
    assert cdr(world, call.uuid) == ("stop", 61, "RG_21", 1)
    assert variables(call)["sky_route_n"] == "2"


def test_a_way_out_without_a_sign_of_life_is_given_up(world: Server, new_switch: NewSwitch) -> None:
    switch = new_switch()
    answered(switch, "globex", ring_seconds=100, silent=True)
    answered(switch, "acme")
    call = switch.call(PREPAID, LONDON)
    assert cdr(world, call.uuid)[2] == "RG_21"
    assert (call.answered - call.created) // SECOND == 12 + 2


def test_early_media_before_a_failure_is_no_answer(world: Server, new_switch: NewSwitch) -> None:
    switch = new_switch()
    answered(switch, "globex", cause="NORMAL_TEMPORARY_FAILURE", media_first=True)
    answered(switch, "acme")
    call = switch.call(PREPAID, LONDON)
    assert cdr(world, call.uuid) == ("stop", 60, "RG_21", 1)


def test_early_media_without_an_answer_is_given_up_like_ringing(
    world: Server, new_switch: NewSwitch
) -> None:
    switch = new_switch()
    answered(switch, ring_seconds=600, media_first=True)
    call = switch.call(PREPAID, LONDON)
    assert call.cause == "NO_ANSWER"
    assert len(call.bridges) == 1
    assert (call.hungup - call.created) // SECOND == 60
    assert cdr(world, call.uuid)[1] == 0


@pytest.mark.parametrize("media_first", [False, True])
def test_busy_is_not_tried_over_another_carrier(
    world: Server, new_switch: NewSwitch, media_first: bool
) -> None:
    switch = new_switch()
    answered(switch, "globex", cause="USER_BUSY", media_first=media_first)
    answered(switch, "acme")
    call = switch.call(PREPAID, LONDON)
    assert call.cause == "USER_BUSY"
    assert len(call.bridges) == 1
    assert cdr(world, call.uuid)[1] == 0
    assert held(world, "alice") == (0, 0)


def test_all_ways_out_may_fail(world: Server, new_switch: NewSwitch) -> None:
    switch = new_switch()
    call = switch.call(PREPAID, LONDON)
    assert len(call.bridges) == 2
    assert call.cause == "DESTINATION_OUT_OF_ORDER"
    assert cdr(world, call.uuid)[1:] == (0, cdr(world, call.uuid)[2], 0)
    assert "sky_route" not in call.variables


def test_what_the_dialplan_had_set_for_bridge_is_there_again(new_switch: NewSwitch) -> None:
    switch = new_switch()
    answered(switch)
    call = switch.call(PREPAID, LONDON, continue_on_fail="USER_BUSY")
    assert call.variables["continue_on_fail"] == "USER_BUSY"
    assert "hangup_after_bridge" not in call.variables


# ------------------------------------------------------------------ the limit


def test_the_cut_is_armed_at_answer_on_the_called_leg(
    world: Server, new_switch: NewSwitch, runtime: str
) -> None:
    """A cent buys one minute."""
    code = f"cent-{runtime}"
    add_account(world, code, "0.01")
    switch = new_switch()
    answered(switch, talk_seconds=None, ring_seconds=20)
    call = switch.call(PREPAID, LONDON, f"acct={code}")
    assert variables(call)["sky_max_sec"] == "60"
    ended_by, seconds, route, _ = cdr(world, call.uuid)
    assert (ended_by, route) == ("stop", "RG_22")
    assert 59 <= seconds <= 60
    assert call.cause == "ALLOTTED_TIMEOUT"
    assert held(world, code) == (0, 0)


@TRANSPORTS
def test_three_slices_then_no_more(
    world: Server, new_switch: NewSwitch, transport: str, runtime: str
) -> None:
    """Three cents are three minutes, granted one by one without touching the media."""
    code = f"three-{transport}-{runtime}"
    add_account(world, code, "0.03")
    switch = new_switch(bind=SLICED, transport=transport)
    answered(switch, talk_seconds=None)
    call = switch.call(PREPAID, LONDON, f"acct={code}")
    ended_by, seconds, _, _ = cdr(world, call.uuid)
    assert ended_by == "stop"
    assert 178 <= seconds <= 180, switch.log
    assert call.cause == "ALLOTTED_TIMEOUT"
    assert world.query(
        "SELECT balance_micros, reserved_micros FROM account WHERE code = %s", code
    ) == [(0, 0)]
    assert [name for name, _ in call.applications if name != "radius_auth"] == ["bridge"]


def test_a_slice_that_is_not_used_is_given_back(world: Server, new_switch: NewSwitch) -> None:
    switch = new_switch(bind=SLICED)
    answered(switch, talk_seconds=75)
    call = switch.call(PREPAID, LONDON, "acct=nora")
    assert cdr(world, call.uuid)[:2] == ("stop", 75)
    assert held(world, "nora") == (0, 0)


def test_no_slice_is_asked_for_where_the_agent_does_it(new_switch: NewSwitch) -> None:
    def agent(settings: Settings) -> None:
        settings["slices_by"] = "agent"

    switch = new_switch(bind=SLICED, settings=agent)
    answered(switch, talk_seconds=None)
    call = switch.call(PREPAID, LONDON, "acct=nora")
    assert (call.hungup - call.answered) // SECOND in (59, 60)
    assert "sky_agent_sec='60'" in call.bridges[0]


# ------------------------------------------------------------------ the server does not help


@TRANSPORTS
def test_a_silent_server_lets_nobody_pass(new_switch: NewSwitch, transport: str) -> None:
    switch = new_switch(auth_port=free_port(), transport=transport)
    answered(switch)
    call = switch.call(PREPAID, LONDON)
    assert variables(call)["sky_result"] == "silent"
    assert call.sip == "503 Service Unavailable"
    assert call.bridges == []


@pytest.mark.parametrize("arguments", [["dest=112"], ["acct=fire-brigade"]])
def test_who_is_listed_may_pass_a_silent_server(
    new_switch: NewSwitch, arguments: list[str]
) -> None:
    def listed(settings: Settings) -> None:
        settings["pass_numbers"] = {"112": True}
        settings["pass_accounts"] = {"fire-brigade": True}
        settings["pass_route"] = "sofia/gateway/emergency/"

    switch = new_switch(auth_port=free_port(), settings=listed)
    answered(switch, "emergency")
    call = switch.call(PREPAID, LONDON, *arguments)
    assert [dial.rpartition("]")[2] for dial in call.bridges] == [
        f"sofia/gateway/emergency/{'112' if 'dest=112' in arguments else LONDON}"
    ]
    assert "sched_hangup +3600" in call.bridges[0]


def test_an_emergency_number_may_be_left_to_the_switch(
    world: Server, new_switch: NewSwitch
) -> None:
    """The server lets it pass without money, and names no way out."""
    if not world.query("SELECT 1 FROM emergency_number WHERE number = '112'"):
        world.command("emergency", "add", "112")

    def listed(settings: Settings) -> None:
        settings["pass_numbers"] = {"112": True}
        settings["pass_route"] = "sofia/gateway/emergency/"

    switch = new_switch(settings=listed)
    answered(switch, "emergency", talk_seconds=20)

    def passed() -> bool:
        call = switch.call(PREPAID, "112", "acct=empty")
        return call.variables["sky_result"] == "ok" and len(call.bridges) == 1

    wait_until(passed, "the server knows the number")


def test_nobody_who_is_refused_passes(new_switch: NewSwitch) -> None:
    def listed(settings: Settings) -> None:
        settings["pass_accounts"] = {"empty": True}
        settings["pass_route"] = "sofia/gateway/emergency/"

    call = new_switch(settings=listed).call(PREPAID, LONDON, "acct=empty")
    assert call.sip == "402 Payment Required"


@pytest.mark.parametrize(
    "attribute", ["Chargeable-User-Identity", "Session-Timeout", "h323-return"]
)
def test_lost_attributes_are_no_permission(
    world: Server, new_switch: NewSwitch, attribute: str
) -> None:
    """The switch's dictionary lacks one: all are lost, and the result is 0 all the same."""
    switch = new_switch(without=attribute)
    answered(switch)
    call = switch.call(PREPAID, LONDON)
    assert call.variables["radius_auth_result"] == "0"
    assert variables(call)["sky_result"] == "lost-attributes"
    assert call.bridges == []
    assert cdr(world, call.uuid)[1] == 0
    assert held(world, "alice") == (0, 0)


def test_an_earlier_answer_does_not_stand_in_for_a_lost_one(new_switch: NewSwitch) -> None:
    switch = new_switch()
    answered(switch)
    call = switch.new_call(LONDON)
    switch.run(call, PREPAID, "mode=query")
    call.variables["Session-Timeout"] = "7200"
    switch.radius.dictionary.pop("Filter-Id")
    switch.run(call, PREPAID)
    switch.end(call)
    assert variables(call)["sky_result"] == "lost-attributes"


# ------------------------------------------------------------------ the caller goes, or is sent on


def test_the_caller_may_leave_at_every_step(world: Server, new_switch: NewSwitch) -> None:
    """Whenever he hangs up the script ends quietly: one record at most, and nothing held."""
    step = 0
    while True:
        step += 7
        switch = new_switch()
        answered(switch, "globex", cause="NORMAL_TEMPORARY_FAILURE", ring_seconds=1)
        answered(switch, "acme", talk_seconds=7)
        switch.leaves_at_step = step
        call = switch.call(PREPAID, LONDON, "announce=both")
        assert switch.errors == []
        assert cdrs(world, call.uuid) <= 1
        if switch.steps < step:
            break
    assert step > 60
    assert held(world, "alice") == (0, 0)


def test_the_caller_who_leaves_while_it_rings_pays_nothing(
    world: Server, new_switch: NewSwitch
) -> None:
    switch = new_switch()
    answered(switch, ring_seconds=20, caller_leaves_after=5)
    call = switch.call(PREPAID, LONDON)
    assert call.cause == "ORIGINATOR_CANCEL"
    assert len(call.bridges) == 1
    assert cdr(world, call.uuid)[1] == 0


def test_a_caller_who_is_transferred_pays_for_both_calls(
    world: Server, new_switch: NewSwitch
) -> None:
    switch = new_switch()
    answered(switch, talk_seconds=20, transfer="transferred")
    call = switch.new_call(LONDON)
    switch.run(call, PREPAID)
    assert call.up
    assert cdr(world, call.uuid)[:3] == ("end", 20, "RG_22")
    # The dialplan again, for the number that he was transferred to.
    call.state = "CS_EXECUTE"
    call.variables["destination_number"] = "34915550100"
    switch.callees.clear()
    answered(switch, "sofia/gateway", talk_seconds=None, caller_leaves_after=45)
    switch.run(call, PREPAID)
    switch.end(call)
    assert cdr(world, call.uuid + "/2")[:2] == ("stop", 45)
    assert cdr(world, call.uuid)[:2] == ("end", 20)
    assert held(world, "alice") == (0, 0)


def test_a_caller_who_talks_on_elsewhere_is_cut_in_time(
    world: Server, new_switch: NewSwitch
) -> None:
    """After an attended transfer: the limit moves to the leg that pays."""
    switch = new_switch()
    answered(switch, talk_seconds=20, transfer="moved")
    call = switch.new_call(LONDON)
    switch.run(call, PREPAID)
    granted = int(call.variables["sky_max_sec"])
    assert [(group, command.split()[0]) for _, group, command in switch.tasks] == [
        (call.uuid, "uuid_kill")
    ]
    switch.wind(switch.tasks[0][0])
    assert call.cause == "ALLOTTED_TIMEOUT"
    switch.end(call)
    assert granted - 1 <= cdr(world, call.uuid)[1] <= granted


def test_with_bypassed_media_the_called_leg_s_cut_stands(
    world: Server, new_switch: NewSwitch
) -> None:
    """There the bridge is over for the script while the two still talk."""
    switch = new_switch()
    answered(switch, transfer="bypassed")
    call = switch.new_call(LONDON)
    switch.run(call, PREPAID)
    [leg] = [channel for channel in switch.channels.values() if channel is not call]
    [(when, group, _)] = switch.tasks
    assert group == leg.uuid
    assert abs(when - call.answered - int(call.variables["sky_max_sec"]) * SECOND) <= SECOND
    switch.wind(switch.now + 90 * SECOND)
    leg.hang_up("NORMAL_CLEARING")
    switch.end(call)
    assert cdr(world, call.uuid)[:3] == ("stop", 90, "RG_22")


def test_a_callee_who_is_transferred_pays_for_himself(world: Server, new_switch: NewSwitch) -> None:
    """The caller sends the called leg to another number: its own call, on the caller's account."""
    switch = new_switch()
    answered(switch, talk_seconds=None)
    call = switch.new_call(LONDON)
    talk = switch.talk
    sent: list[Channel] = []

    def transfer(caller: Channel, leg: Channel, plan: Callee) -> str:
        if sent:
            return talk(caller, leg, plan)
        switch.wind(switch.now + 10 * SECOND)
        sent.append(leg)
        leg.hang_up = lambda cause: None  # type: ignore[method-assign] # noqa: ARG005
        caller.hang_up("BLIND_TRANSFER")
        return "NORMAL_CLEARING"

    switch.talk = transfer  # type: ignore[method-assign]
    switch.run(call, PREPAID)
    switch.end(call)
    [leg] = sent
    assert cdr(world, call.uuid)[:2] == ("stop", 10)
    # Unless it is authorised anew, it is cut soon.
    assert [task[1] for task in switch.tasks] == [leg.uuid]
    del leg.hang_up
    leg.state = "CS_EXECUTE"
    leg.variables["destination_number"] = "34915550100"
    switch.callees = {"sofia/gateway": Callee(talk_seconds=100)}
    switch.run(leg, PREPAID)
    leg.hang_up("NORMAL_CLEARING")
    assert cdr(world, leg.uuid)[:2] == ("stop", 100)
    [(owner,)] = world.query(
        "SELECT code FROM cdr JOIN account USING (account_id) WHERE session_key = %s", leg.uuid
    )
    assert owner == "alice"


# ------------------------------------------------------------------ who controls what


def module(runtime: str, name: str) -> Any:
    """A file of lua/lib, for itself."""
    lua = importlib.import_module(f"lupa.{runtime}").LuaRuntime(unpack_returned_tuples=True)
    lua.execute('package.path = "lua/lib/?.lua;" .. package.path')
    return lua.eval(f'(require("{name}"))')


@pytest.mark.parametrize(
    "dial",
    [
        "sofia/gateway/globex/442071838750",
        "sofia/external/sip:reception@pbx.example:5070;transport=tls",
        "user/1001@sip.example",
        "loopback/442071838750/carriers",
    ],
)
def test_a_plain_leg_is_dialled(runtime: str, dial: str) -> None:
    assert module(runtime, "check").dial(dial) == dial


@pytest.mark.parametrize(
    "dial",
    [
        "sofia/gateway/globex/4420,sofia/gateway/x/1",
        "sofia/gateway/globex/4420:_:sofia/gateway/x/1",
        "sofia/gateway/globex/${system(id)}",
        "{execute_on_answer='system id'}sofia/gateway/x/1",
        "[a=b]sofia/gateway/x/1",
        "<a=b>sofia/gateway/x/1",
        "sofia/gateway/x/1 inline",
        "sofia/gateway/x/1|error/USER_BUSY",
        "sofia/gateway/" + "1" * 300,
        "loopback/app=system:reboot",
        "loopback/system:reboot/default/inline",
        "loopback/1/default/inline",
        "group/all@sip.example",
        "error/USER_BUSY",
        "SOFIA/gateway/x/1",
        "442071838750",
        "sofia/",
        "",
    ],
)
def test_what_a_server_says_is_no_dial_string_by_itself(runtime: str, dial: str) -> None:
    assert module(runtime, "check").dial(dial) is None
    # A bar begins another route; what stands before it may be one.
    routes, strange = module(runtime, "routes").parse(f"ROUTES:RG_1={dial}", 8)
    assert (len(routes), strange) == (int("|" in dial), 1)


@pytest.mark.parametrize(
    "limit",
    ["", "-5", "60.5", "1e3", "0x3c", " 60", "60 ", "nan", "9" * 30, str(32 * 86400), "60;60"],
)
def test_a_limit_that_is_none_is_no_permission(runtime: str, limit: str) -> None:
    said = {"h323-return-code": "h323-return-code=0", "Session-Timeout": limit}
    answer = module(runtime, "reply").read("0", said.get, True, 8)
    assert not answer.granted
    assert answer.reason.name == "lost-attributes"


@pytest.mark.parametrize("code", ["", "ok", "0 ", "-0", "0x0", "h323-return-code=", "9" * 30])
def test_a_return_code_that_is_none_is_no_permission(runtime: str, code: str) -> None:
    said = {"h323-return-code": code, "Session-Timeout": "60"}
    assert not module(runtime, "reply").read("0", said.get, True, 8).granted


@pytest.mark.parametrize("result", ["", "1", "2", "-1", "00", "0 ", None])
def test_any_result_but_0_is_no_permission(runtime: str, result: str | None) -> None:
    said = {"h323-return-code": "0", "Session-Timeout": "60"}
    assert not module(runtime, "reply").read(result, said.get, True, 8).granted


@pytest.mark.parametrize(
    "called",
    [
        "442071838750,sofia/external/900@evil",
        "4420|error/USER_BUSY",
        "4420${system(id)}",
        "4420'}user/1001",
        "[x=1]4420",
        "4420 acct=bob",
        "1" * 33,
        "alice",
        "",
    ],
)
def test_a_strange_number_goes_nowhere(world: Server, new_switch: NewSwitch, called: str) -> None:
    switch = new_switch()
    switch.radius.packets.clear()
    call = switch.new_call(called)
    switch.run(call, PREPAID)
    assert call.sip == "484 Address Incomplete"
    assert call.bridges == []
    assert not any(packet[0] == 1 for packet in switch.radius.packets)
    switch.end(call)


@pytest.mark.parametrize(
    "arguments",
    [
        ["acct=alice", "acct=bob"],
        ["dest=${destination_number}"],
        ["colour=red"],
        ["mode=free"],
        ["mode=card", "acct=alice"],
        ["a", "b", "c"],
        [f"x{number}=1" for number in range(20)],
        ["ext=1001;drop"],
    ],
)
def test_wrong_arguments_are_refused_and_logged(
    new_switch: NewSwitch, arguments: list[str]
) -> None:
    switch = new_switch()
    call = switch.call(PREPAID, LONDON, *arguments)
    assert call.sip == "484 Address Incomplete"
    assert any(line.startswith("err sky: sky_prepaid.lua:") for line in switch.log)


def test_long_things_that_a_caller_says_are_cut(world: Server, new_switch: NewSwitch) -> None:
    switch = new_switch()
    answered(switch)
    call = switch.call(
        PREPAID, LONDON, "acct=alice", caller="9" * 500, sip_call_id="x" * 700,
        sip_auth_username="u" * 300, sip_authorized="true",
    )  # fmt: skip
    assert cdr(world, call.uuid)[:2] == ("stop", 60)


def test_routes_that_are_not_one_plain_leg_are_left_out(
    world: Server, new_switch: NewSwitch
) -> None:
    world.command("resource-group", "set", "22", "--gateway", "error/USER_BUSY,sofia/gateway/x")
    try:
        switch = new_switch()
        answered(switch, "acme")

        def offered() -> bool:
            call = switch.call(PREPAID, LONDON)
            return [dial.rpartition("]")[2] for dial in call.bridges] == [
                f"sofia/gateway/acme/{LONDON}"
            ]

        wait_until(offered, "the server knows the new gateway")
        assert any("cannot be dialled safely" in line for line in switch.log)
    finally:
        world.command("resource-group", "set", "22", "--gateway", "sofia/gateway/globex")
