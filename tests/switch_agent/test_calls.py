"""Whole calls: a switch's events in, CDRs of the real server out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from aaa_server.charging.ledger import Policy
from aaa_server.radius import attribute
from aaa_server.switch_agent.slices import LATE_SECONDS
from tests.integration.nas import CALLED, Nas
from tests.integration.server import SKY_AAA, wait_until
from tests.switch_agent.conftest import SLICE_SECONDS, add_client

if TYPE_CHECKING:
    from tests.integration.conftest import Serving
    from tests.integration.nas import Answer
    from tests.integration.server import Server
    from tests.switch_agent.agent import Agent
    from tests.switch_agent.conftest import NewAgent
    from tests.switch_agent.freeswitch import FreeSwitch

SLICED = ("--slice-seconds", str(SLICE_SECONDS))
# What a call has left of its slice when the agent hears of it: after half of that it asks for more,
# and the other half is time for the answer.
LEFT_SECONDS = 10
OVERRUN_SECONDS = Policy().overrun_seconds
# A cut is so late when the machine stands still just then; a slice too many is more.
STALL_SECONDS_MAX = 5


def authorize(server: Server, bind: str, key: str, account: str = "alice") -> Answer:
    """What the Lua script asks before it dials."""
    phase = (attribute.CISCO_AVPAIR, b"h323-ivr-out=PHASE:authorize:1")
    nas = Nas(server, bind)
    return nas.ask(nas.authorize(key, account, CALLED, phase))


def cdrs(server: Server, *keys: str) -> list[dict[str, Any]]:
    """The records of these keys, in their order of ending."""
    rows = server.query(
        "SELECT row_to_json(cdr) FROM cdr WHERE session_key = ANY (%s) ORDER BY ended_at, call_id",
        list(keys),
    )
    return [row[0] for row in rows]


def ended(server: Server, key: str) -> dict[str, Any]:
    """The one CDR of a call, once there is one."""
    wait_until(lambda: cdrs(server, key), f"a CDR of {key}")
    (cdr,) = cdrs(server, key)
    return cdr


def wait_for(server: Server, key: str, column: str) -> None:
    """Until the running call has something there."""
    wait_until(lambda: (running(server, key) or {}).get(column), f"{column} of {key}")


def running(server: Server, key: str) -> dict[str, Any] | None:
    rows = server.query("SELECT row_to_json(call) FROM call WHERE session_key = %s", key)
    return rows[0][0] if rows else None


def test_a_call_is_charged_by_what_its_leg_has_talked(
    world: Server, switch: FreeSwitch, agent: Agent
) -> None:
    bind = agent.bind
    assert authorize(world, bind, "whole-call-1").granted
    caller, callee = switch.talk(account="alice", ago=61, uuid="whole-call-1")
    wait_for(world, caller.uuid, "started_at")
    switch.hangup(caller)

    cdr = ended(world, caller.uuid)
    assert cdr["duration_ms"] == (caller.hungup_us - caller.answered_us) // 1000 >= 61_000
    assert cdr["ended_by"] == "stop"
    assert cdr["cause"] == "NORMAL_CLEARING"
    assert cdr["called"] == CALLED
    explained = world.command("cdr", "explain", caller.uuid).stdout
    assert "RG_22 answered" in explained
    assert callee.hungup_us
    agent.wait_for("sky_aaa_agent_waiting", 0)
    agent.wait_for("sky_aaa_agent_channels", 0)


def test_a_call_that_nobody_answers_costs_nothing_and_reserves_nothing(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world)
    new_agent(world, bind).start()
    caller = switch.create(sky_leg="caller", sky_account="alice")
    assert authorize(world, bind, caller.uuid).granted
    switch.hangup(caller, "USER_BUSY", sky_key=caller.uuid)

    cdr = ended(world, caller.uuid)
    assert (cdr["duration_ms"], cdr["cause"], cdr["flags"]) == (0, "USER_BUSY", [])
    assert running(world, caller.uuid) is None


def test_updates_tell_how_long_a_call_has_talked(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world)
    new_agent(world, bind, interim_seconds=1).start()
    caller, _ = switch.talk(account="alice", ago=100)
    authorize(world, bind, caller.uuid)
    wait_until(
        lambda: ((running(world, caller.uuid) or {}).get("last_seconds") or 0) >= 102, "updates"
    )
    switch.hangup(caller)
    assert ended(world, caller.uuid)["seconds"] >= 102


def test_calls_of_a_card_on_one_channel_have_a_record_each(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world)
    new_agent(world, bind, interim_seconds=1).start()
    # The script answers by itself, before there is any call.
    caller = switch.create(ago=200, sky_leg="caller", sky_bill_msec="0")
    switch.answer(caller, ago=199)
    first, second = caller.uuid, f"{caller.uuid}/2"
    nas = Nas(world, bind)
    for key, number in ((first, 1), (second, 2)):
        phase = (attribute.CISCO_AVPAIR, b"h323-ivr-out=PHASE:authorize:%d" % number)
        assert nas.ask(nas.authorize(key, "alice", CALLED, phase)).granted
        callee = switch.create(
            direction="outbound", sky_leg="callee", sky_key=key, sky_account="alice"
        )
        switch.answer(callee, ago=30)
        switch.bridge(caller, callee, sky_key=key, sky_account="alice", sky_route="RG_22")
        wait_for(world, key, "last_seconds")
        caller.other = callee.other = ""
        switch.hangup(callee)
        talked = {"sky_bill_msec": "31000"}
        if number == 1:
            end = [
                (attribute.ACCT_SESSION_ID, key.encode()),
                (attribute.CISCO_AVPAIR, b"h323-ivr-out=PHASE:end:1"),
                (attribute.CISCO_AVPAIR, b"sky-bill-msec=31000"),
                (attribute.CISCO_AVPAIR, b"route=RG_22"),
            ]
            assert nas.ask(nas.access(end)).accepted
            assert ended(world, first)["seconds"] == 31
    switch.hangup(caller, **talked)

    assert ended(world, second)["duration_ms"] == 31_000
    # The channel's own 199 seconds are nobody's.
    assert [cdr["seconds"] for cdr in cdrs(world, first, second)] == [31, 31]


def test_a_leg_that_is_not_to_be_accounted_has_no_record(
    world: Server, switch: FreeSwitch, agent: Agent
) -> None:
    between_extensions = switch.create(sky_leg="none")
    switch.answer(between_extensions)
    callee = switch.create(direction="outbound")
    switch.answer(callee)
    for channel in (between_extensions, callee):
        switch.hangup(channel)
    marker = switch.create(sky_leg="caller", sky_account="alice")
    switch.hangup(marker)
    ended(world, marker.uuid)
    assert cdrs(world, between_extensions.uuid, callee.uuid) == []
    assert agent.metric("sky_aaa_agent_channels") == 0


# ------------------------------------------------------------------ slices


def steps(switch: FreeSwitch, uuid: str) -> list[str]:
    return [c for c in orders(switch, uuid) if c.startswith("sched_hangup")]


def orders(switch: FreeSwitch, uuid: str) -> list[str]:
    """What the switch was told about this leg's cut, in order."""
    return [c for c in switch.commands if c.startswith("sched_") and uuid in c.split()]


def test_slice_after_slice_is_asked_for_and_the_last_one_is_cut_at_its_second(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    # Half of a slice is left for each answer.
    bind = add_client(world, "--slice-seconds", "8", "--maximum-call-seconds", "16")
    new_agent(world, bind, slice_margin_seconds=4).start()
    assert authorize(world, bind, "sliced-1").seconds == 8
    caller, callee = switch.talk(account="alice", agent_sec=8, uuid="sliced-1")
    switch.sched_hangup("+8", callee.uuid)  # as execute_on_answer does
    wait_until(lambda: callee.hungup_us, "it is cut")

    # What was granted in the end is talked out, to the second, and no other slice.
    talked = (callee.hungup_us - callee.answered_us) / 1e6
    assert 15 <= talked < 16 + STALL_SECONDS_MAX
    cuts = steps(switch, callee.uuid)
    assert len(cuts) >= 2
    # The old cut goes before the new one comes.
    pairs = [step for cut in cuts for step in (f"sched_del {callee.uuid}", cut)]
    assert orders(switch, callee.uuid) == pairs
    # Nobody is killed whom the switch cuts in time.
    assert not callee.killed or talked >= 16 + LATE_SECONDS
    cdr = ended(world, caller.uuid)
    assert cdr["granted_seconds"] == 16
    assert cdr["cause"] == "ALLOTTED_TIMEOUT"
    paid = (caller.hungup_us - caller.answered_us) / 1e6
    assert cdr["seconds"] <= 16 or paid > 16 + OVERRUN_SECONDS


def test_a_leg_that_the_switch_does_not_cut_is_killed(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world, *SLICED)
    world.command("account", "add", "once", "--kind", "customer", "--rate-group", "retail",
                  "--prepaid")  # fmt: skip
    # 0.0100 USD a minute in blocks of a minute: one slice, and then nothing.
    world.command("account", "top-up", "once", "0.01", "--reference", "once-1")
    new_agent(world, bind).start()
    assert authorize(world, bind, "final-1", "once").granted
    switch.deaf_to = {"sched_hangup"}
    caller, callee = switch.talk(
        account="once", agent_sec=SLICE_SECONDS, ago=SLICE_SECONDS - LEFT_SECONDS, uuid="final-1"
    )
    wait_until(lambda: callee.hungup_us, "it is killed")
    assert len(steps(switch, callee.uuid)) == 1  # the rest of the slice, which is the last
    assert callee.cause == "ALLOTTED_TIMEOUT"
    talked = (callee.hungup_us - callee.answered_us) / 1e6
    least = SLICE_SECONDS - 0.5 + LATE_SECONDS
    assert least <= talked < least + 0.5 + STALL_SECONDS_MAX
    cdr = ended(world, caller.uuid)
    assert cdr["seconds"] in (SLICE_SECONDS, cdr["duration_ms"] // 1000 + 1)
    assert cdr["cause"] == "ALLOTTED_TIMEOUT"


def test_a_refused_call_is_left_to_the_cut_that_stands(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world, *SLICED)
    agent = new_agent(world, bind)
    agent.start()
    # The server knows of no such call: there is nothing that could be given more.
    ago = SLICE_SECONDS - LEFT_SECONDS
    _, callee = switch.talk(account="alice", agent_sec=SLICE_SECONDS, ago=ago)
    wait_until(lambda: "gets no more time" in agent.log, "the refusal")
    assert steps(switch, callee.uuid) == []
    assert not callee.hungup_us


def test_a_forwarded_call_goes_on_only_as_long_as_both_of_its_calls_may(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world, *SLICED)
    new_agent(world, bind).start()
    for key in ("did-1", "did-1/2"):
        assert authorize(world, bind, key).granted
    caller = switch.create(uuid="did-1", ago=60, sky_leg="caller", sky_key="did-1")
    forwarded = switch.create(
        direction="outbound", sky_leg="caller", sky_key="did-1/2", sky_key_2="did-1",
        sky_account="alice", sky_route="RG_22", sky_agent_sec=str(SLICE_SECONDS), ago=59,
    )  # fmt: skip
    ago = SLICE_SECONDS - LEFT_SECONDS
    switch.answer(forwarded, ago=ago)
    switch.answer(caller, ago=ago, sky_route="PSTN")
    switch.bridge(caller, forwarded)
    for key in ("did-1", "did-1/2"):
        wait_for(world, key, "step")
    wait_until(lambda: steps(switch, forwarded.uuid), "the cut is moved")
    switch.hangup(caller)
    for key in ("did-1", "did-1/2"):
        assert ended(world, key)["seconds"] >= ago


# ------------------------------------------------------------------ the server's orders


def test_the_operator_ends_a_call_with_one_command(
    serving: Serving, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    with serving(services=("radius", "worker")) as server:
        bind = add_client(server)
        agent = new_agent(server, bind)
        server.command("client", "set", f"switch-{bind.rpartition('.')[2]}",
                       "--disconnect-port", str(agent.order_port))  # fmt: skip
        agent.start()
        assert authorize(server, bind, "to-be-ended").granted
        caller, _ = switch.talk(account="alice", ago=20, uuid="to-be-ended")
        wait_for(server, "to-be-ended", "started_at")
        server.command("account", "suspend", "alice")
        wait_until(lambda: caller.hungup_us, "the channel is killed")
        assert f"uuid_kill {caller.uuid} ALLOTTED_TIMEOUT" in switch.commands
        assert ended(server, "to-be-ended")["seconds"] >= 20
        done = 'sky_aaa_agent_orders_total{what="done"} 1.0'
        wait_until(lambda: done in agent.page("metrics")[1], "an ACK")
        server.audit()


# ------------------------------------------------------------------ setting it up


def test_check_says_what_is_wrong_and_what_is_right(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world)
    good = new_agent(world, bind)
    bad = new_agent(world, bind, event_socket_password="wrong", secret="other")
    command = [SKY_AAA, "--config"]
    done = subprocess.run(
        [*command, good.config, "switch-agent", "--check"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": ok\n") == 4
    done = subprocess.run(
        [*command, bad.config, "switch-agent", "--check"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "it does not take the password" in done.stdout
    assert done.stdout.count("no answer: does it run") == 2


def test_without_a_secret_it_does_not_start(tmp_path: Any) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[switch_agent]\nevent_socket_password = "x"\n')
    done = subprocess.run(
        [SKY_AAA, "--config", config, "switch-agent"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "[switch_agent] secret" in done.stderr


def test_it_is_the_operator_s(tmp_path: Any) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    done = subprocess.run(
        [SKY_AAA, "--config", config, "--as", "alice", "switch-agent"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the operator's" in done.stderr


def test_a_wrong_password_is_told_and_tried_again(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    agent = new_agent(world, add_client(world))
    switch.password = "changed"
    agent.start(connects=False)
    wait_until(lambda: "it does not take the password" in agent.log, "a line in the log")
    status, why = agent.page("readyz")
    assert status == 503
    assert "no event socket" in why
    switch.password = "ClueCon"
    wait_until(lambda: switch.heard, "it connects by itself")
    wait_until(lambda: agent.page("readyz")[0] == 200, "it is ready")


def test_the_agent_needs_no_database_driver() -> None:
    program = (
        "import sys, json;"
        "import aaa_server.cli.main, aaa_server.cli.switch_agent;"
        "import aaa_server.switch_agent.service, aaa_server.switch_agent.check, aaa_server.log;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                         check=True, env=dict(os.environ))  # fmt: skip
    loaded = json.loads(ran.stdout)
    assert [name for name in loaded if name.startswith("psycopg")] == []
    # Only the words for errors, which every command shares.
    assert [name for name in loaded if name.startswith("aaa_server.storage.")] == [
        "aaa_server.storage.problem"
    ]
