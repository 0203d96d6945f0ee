"""What goes wrong: servers, agent, event socket and switch away. Nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import socket
import time
from typing import TYPE_CHECKING

from aaa_server.radius import attribute
from aaa_server.radius.packet import (
    COA_REQUEST,
    DISCONNECT_REQUEST,
    Secret,
    decode,
    encode_request,
    reply_fits,
)
from aaa_server.switch_agent.calls import ALIVE_SECONDS
from tests.integration.nas import SECRET
from tests.integration.server import WAIT_SECONDS_MAX, wait_until
from tests.switch_agent.conftest import add_client
from tests.switch_agent.test_calls import authorize, cdrs, ended, running, wait_for

if TYPE_CHECKING:
    from tests.integration.conftest import Serving
    from tests.integration.server import Server
    from tests.switch_agent.agent import Agent
    from tests.switch_agent.conftest import NewAgent
    from tests.switch_agent.freeswitch import FreeSwitch

CALLS = 30
LISTINGS = 'sky_aaa_agent_listings_total{{what="{}"}}'


def all_ended(server: Server, keys: list[str]) -> None:
    wait_until(lambda: len(cdrs(server, *keys)) >= len(keys), "a CDR of each", seconds=120)
    assert sorted(cdr["session_key"] for cdr in cdrs(server, *keys)) == sorted(keys)


def test_what_ends_while_the_server_is_down_is_charged_once_when_it_is_back(
    serving: Serving, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    with serving() as server:
        bind = add_client(server)
        agent = new_agent(server, bind, interim_seconds=1)
        agent.start()
        talking = [switch.talk(account="cora", ago=30 + n) for n in range(CALLS)]
        keys = [caller.uuid for caller, _ in talking]
        for key in keys:
            authorize(server, bind, key, "cora")
        server.kill()
        for caller, _ in talking:
            switch.hangup(caller)
        wait_until(lambda: agent.page("readyz")[0] == 503, "it says that nobody answers")
        # Starts and Stops; an Update is worth nothing beside its Stop.
        wait_until(lambda: agent.metric("sky_aaa_agent_waiting") <= 2 * CALLS, "no more than that")
        server.start()
        all_ended(server, keys)
        for number, cdr in enumerate(sorted(cdrs(server, *keys), key=lambda c: c["duration_ms"])):
            assert cdr["duration_ms"] >= 1000 * (30 + number)
        agent.wait_for("sky_aaa_agent_waiting", 0)
        server.audit()


def test_an_agent_that_is_killed_loses_and_doubles_nothing(
    serving: Serving, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    with serving() as server:
        bind = add_client(server)
        agent = new_agent(server, bind)
        agent.start()
        talking = [switch.talk(account="cora", ago=20) for _ in range(CALLS)]
        keys = [caller.uuid for caller, _ in talking]
        for key in keys:
            authorize(server, bind, key, "cora")
        server.kill()
        chance.shuffle(talking)
        for begin in range(0, CALLS, 10):
            for caller, _ in talking[begin : begin + 10]:
                switch.hangup(caller)
            left = 2 * (CALLS - begin - 10)
            agent.wait_for("sky_aaa_agent_channels", left)
            agent.wait_for("sky_aaa_agent_unwritten", 0)
            if begin == 10:
                server.start()  # killed in the middle of delivering, too
            agent.kill()
            agent.start()
        all_ended(server, keys)
        assert {cdr["cause"] for cdr in cdrs(server, *keys)} == {"NORMAL_CLEARING"}
        agent.wait_for("sky_aaa_agent_waiting", 0)
        server.audit()


def test_an_agent_that_is_killed_at_any_moment_leaves_one_record_of_each_call(
    serving: Serving, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    with serving() as server:
        bind = add_client(server)
        agent = new_agent(server, bind, interim_seconds=1)
        agent.start()
        keys = []
        for number in range(4):
            talking = [switch.talk(account="cora", ago=20) for _ in range(8)]
            for caller, _ in talking:
                authorize(server, bind, caller.uuid, "cora")
                keys.append(caller.uuid)
            agent.wait_for("sky_aaa_agent_channels", 16)
            agent.wait_for("sky_aaa_agent_unwritten", 0)
            for caller, _ in talking[number:]:
                switch.hangup(caller)
            agent.kill()
            agent.start()
            for caller, _ in talking[:number]:
                switch.hangup(caller)
            agent.wait_for("sky_aaa_agent_channels", 0)
        all_ended(server, keys)
        for cdr in cdrs(server, *keys):
            # Those whose end nobody saw run to the last moment that is on disk.
            assert cdr["cause"] in ("NORMAL_CLEARING", "Lost-Service")
            assert cdr["duration_ms"] >= 20_000 or cdr["cause"] == "Lost-Service"
        server.audit()


def test_the_second_server_is_asked_when_the_first_is_silent(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.2.1", world.acct_port))
        new_agent(world, bind, servers=["127.0.2.1", "127.0.0.1"]).start()
        caller = switch.create(sky_leg="caller", sky_account="alice")
        switch.hangup(caller)
        ended(world, caller.uuid)
        since_hangup = time.time() - caller.hungup_us / 1e6
        silent.settimeout(WAIT_SECONDS_MAX)
        first, again = silent.recv(4096), silent.recv(4096)
    assert first == again
    values = dict(decode(first).attributes)
    assert values[attribute.ACCT_SESSION_ID] == caller.uuid.encode()
    # Whole seconds since the hangup; the other server was asked two tries of a second later.
    assert int.from_bytes(values[attribute.ACCT_DELAY_TIME], "big") <= since_hangup - 2 + 1


def test_servers_of_both_families_are_asked_and_give_orders(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    """`bind` is empty: an address is of one family."""
    for servers in (["::1", "127.0.2.1"], ["127.0.2.1", "::1"]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.2.1", world.acct_port))
            agent = new_agent(world, "", servers=servers)
            agent.start()
            caller = switch.create(sky_leg="caller", sky_account="alice")
            switch.hangup(caller)
            ended(world, caller.uuid)
        for source, address in (("::1", "::1"), ("127.0.2.1", "127.0.0.1")):
            caller, _ = switch.talk(account="alice", ago=5)
            server = Orderer(agent, source=source, address=address)
            assert server.order(server.packet(DISCONNECT_REQUEST, caller.uuid)) == (41, None)
        stranger = Orderer(agent, source="127.0.2.9", address="127.0.0.1")
        assert stranger.order(stranger.packet(DISCONNECT_REQUEST, "call"), seconds=0.3) is None
        assert agent.stop() == 0


def test_a_call_goes_on_over_a_broken_event_socket_and_one_that_ends_then_is_found(
    world: Server, switch: FreeSwitch, agent: Agent
) -> None:
    bind = agent.bind
    going_on, _ = switch.talk(account="alice", ago=40)
    ends, _ = switch.talk(account="alice", ago=50)
    for call in (going_on, ends):
        authorize(world, bind, call.uuid)
    agent.wait_for("sky_aaa_agent_channels", 4)
    switch.drop()
    switch.hangup(ends)
    talked = (ends.hungup_us - ends.answered_us) / 1e6
    begins, _ = switch.talk(account="alice", ago=10)
    authorize(world, bind, begins.uuid)
    switch.listen()

    lost = ended(world, ends.uuid)
    assert lost["cause"] == "Lost-Service"
    assert 50 <= lost["seconds"] <= talked + ALIVE_SECONDS
    agent.wait_for("sky_aaa_agent_channels", 4)
    for call in (going_on, begins):
        assert not cdrs(world, call.uuid)
        switch.hangup(call)
        assert ended(world, call.uuid)["cause"] == "NORMAL_CLEARING"


def test_a_call_that_ends_while_the_agent_is_dead_is_found(
    world: Server, switch: FreeSwitch, agent: Agent
) -> None:
    bind = agent.bind
    ends, _ = switch.talk(account="alice", ago=50)
    goes_on, _ = switch.talk(account="alice", ago=50)
    for call in (ends, goes_on):
        authorize(world, bind, call.uuid)
        wait_for(world, call.uuid, "started_at")
    agent.kill()
    switch.hangup(ends)
    agent.start()
    assert ended(world, ends.uuid)["cause"] == "Lost-Service"
    assert not cdrs(world, goes_on.uuid)
    switch.hangup(goes_on)
    assert ended(world, goes_on.uuid)["cause"] == "NORMAL_CLEARING"


def test_a_restart_of_the_switch_ends_its_calls(
    world: Server, switch: FreeSwitch, agent: Agent
) -> None:
    bind = agent.bind
    known, _ = switch.talk(account="alice", ago=45)
    authorize(world, bind, known.uuid)
    # Authorised, and gone before the agent has heard of it.
    authorize(world, bind, "never-seen")
    wait_for(world, known.uuid, "started_at")
    talked = time.time() - known.answered_us / 1e6
    switch.restart()
    # Seconds go by, as they do when a switch starts: a time stamp has whole ones.
    wait_until(lambda: time.time() - switch.started > 3.1, "it starts")
    switch.started = time.time()
    authorize(world, bind, "after-it")
    switch.listen()

    cdr = ended(world, known.uuid)
    assert cdr["cause"] == "NAS-Reboot"
    assert 45 <= cdr["seconds"] <= talked + ALIVE_SECONDS
    assert ended(world, "never-seen")["ended_by"] == "reboot"
    assert running(world, "after-it") is not None


def test_in_a_list_of_channels_of_megabytes_a_call_that_has_ended_is_found(
    world: Server, switch: FreeSwitch, agent: Agent
) -> None:
    bind = agent.bind
    goes_on, _ = switch.talk(account="alice", ago=50)
    ends, _ = switch.talk(account="alice", ago=50)
    for call in (goes_on, ends):
        authorize(world, bind, call.uuid)
    agent.wait_for("sky_aaa_agent_channels", 4)
    switch.drop()
    switch.hangup(ends)
    # As long as that of some thousand channels.
    switch.filler = "x" * (2 << 20)
    switch.listen()
    assert ended(world, ends.uuid)["cause"] == "Lost-Service"
    assert not cdrs(world, goes_on.uuid)
    wait_until(lambda: agent.page("readyz")[0] == 200, "it is ready")
    assert "passed over" not in agent.log


def test_that_the_channels_cannot_be_listed_is_told(switch: FreeSwitch, agent: Agent) -> None:
    done, failed = LISTINGS.format("done"), LISTINGS.format("failed")
    wait_until(lambda: agent.metric(done) >= 1, "the channels are listed")
    assert agent.metric(failed) == 0
    wait_until(lambda: agent.page("readyz")[0] == 200, "it is ready")
    switch.deaf_to = {"show"}
    wait_until(lambda: agent.metric(failed) >= 1, "a list that is none")
    status, why = agent.page("readyz")
    assert status == 503
    assert "the channels cannot be listed" in why
    switch.deaf_to = set()
    wait_until(lambda: agent.page("readyz")[0] == 200, "the next list is whole")


def test_an_event_of_two_megabytes_is_passed_over_and_the_call_is_found_all_the_same(
    world: Server, switch: FreeSwitch, new_agent: NewAgent
) -> None:
    bind = add_client(world)
    agent = new_agent(world, bind, reconcile_seconds=3600)
    agent.start()
    caller = switch.create(sky_leg="caller", sky_account="alice", ago=10)
    agent.wait_for("sky_aaa_agent_channels", 1)
    # While a list is waited for, so long an event is taken.
    wait_until(lambda: agent.metric(LISTINGS.format("done")) >= 1, "the first list of channels")
    switch.hangup(caller, huge="x" * (2 << 20))
    assert ended(world, caller.uuid)["cause"] == "Lost-Service"
    assert "passed over" in agent.log


# ------------------------------------------------------------------ orders


class Orderer:
    """Who gives orders: by hand, each with its own octets."""

    def __init__(
        self,
        agent: Agent,
        secret: Secret = SECRET,
        source: str = "127.0.0.1",
        address: str = "",
    ) -> None:
        self.agent = agent
        self.secret = secret
        self.source = source
        self.address = address or agent.bind

    def packet(self, code: int, key: str, *more: tuple[int, bytes], at: float = 0.0) -> bytes:
        when = int(at or time.time())
        attributes = [
            (attribute.ACCT_SESSION_ID, key.encode()),
            (attribute.EVENT_TIMESTAMP, when.to_bytes(4, "big")),
            *more,
        ]
        return encode_request(code, os.urandom(1)[0], self.secret, attributes)

    def order(
        self, octets: bytes, *, seconds: float = WAIT_SECONDS_MAX
    ) -> tuple[int, int | None] | None:
        """Code and Error-Cause of the answer; None: there was none."""
        family = socket.AF_INET6 if ":" in self.source else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as wire:
            wire.bind((self.source, 0))
            wire.settimeout(seconds)
            wire.connect((self.address, self.agent.order_port))
            wire.send(octets)
            try:
                reply = wire.recv(4096)
            except TimeoutError:
                return None
        assert reply_fits(reply, octets[4:20], self.secret)
        packet = decode(reply)
        causes = [v for k, v in packet.attributes if k == attribute.ERROR_CAUSE]
        return packet.code, int.from_bytes(causes[0], "big") if causes else None


def test_orders_are_carried_out_or_refused_for_a_reason(
    world: Server, switch: FreeSwitch, agent: Agent
) -> None:
    bind = agent.bind
    caller, callee = switch.talk(account="alice", ago=5)
    authorize(world, bind, caller.uuid)
    agent.wait_for("sky_aaa_agent_channels", 2)
    server = Orderer(agent)
    timeout = (attribute.SESSION_TIMEOUT, (30).to_bytes(4, "big"))

    kill = DISCONNECT_REQUEST
    assert server.order(server.packet(kill, "nobody")) == (42, 503)
    assert server.order(server.packet(kill, "a uuid_kill b")) == (42, 503)
    strange = (attribute.FRAMED_IP_ADDRESS, bytes(4))
    assert server.order(server.packet(kill, caller.uuid, strange)) == (42, 401)
    other_user = (attribute.USER_NAME, b"bob")
    assert server.order(server.packet(kill, caller.uuid, other_user)) == (42, 503)
    other_switch = (attribute.NAS_IP_ADDRESS, bytes((192, 0, 2, 9)))
    assert server.order(server.packet(kill, caller.uuid, other_switch)) == (42, 403)
    assert server.order(server.packet(COA_REQUEST, caller.uuid)) == (45, 402)
    forever = (attribute.SESSION_TIMEOUT, b"\xff\xff\xff\xff")
    assert server.order(server.packet(COA_REQUEST, caller.uuid, forever)) == (45, 407)

    assert server.order(server.packet(COA_REQUEST, caller.uuid, timeout)) == (44, None)
    assert f"sched_hangup +30 {callee.uuid} ALLOTTED_TIMEOUT" in switch.commands

    silence = 0.3
    old = server.packet(kill, caller.uuid, at=time.time() - 4000)
    assert server.order(old, seconds=silence) is None
    forger = Orderer(agent, Secret(b"guessed"))
    assert forger.order(forger.packet(kill, caller.uuid), seconds=silence) is None
    stranger = Orderer(agent, source="127.0.2.9")
    assert stranger.order(stranger.packet(kill, caller.uuid), seconds=silence) is None
    assert caller.uuid in switch.channels

    same = server.packet(kill, f"{caller.uuid}/2")
    assert server.order(same) == (41, None)
    assert caller.hungup_us
    assert ended(world, caller.uuid)["cause"] == "ALLOTTED_TIMEOUT"


def test_an_order_that_is_sent_again_gets_the_same_answer(switch: FreeSwitch, agent: Agent) -> None:
    caller, _ = switch.talk(account="alice", ago=5)
    server = Orderer(agent)
    octets = server.packet(DISCONNECT_REQUEST, caller.uuid)
    answers = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        wire.settimeout(WAIT_SECONDS_MAX)
        wire.connect((agent.bind, agent.order_port))
        for _ in range(2):
            wire.send(octets)
            answers.append(wire.recv(4096))
    assert answers[0] == answers[1]
    assert answers[0][0] == 41
    assert len([c for c in switch.commands if c.startswith("uuid_kill")]) == 1


def test_while_the_switch_cannot_be_told_an_order_waits_for_its_next_try(
    switch: FreeSwitch, agent: Agent
) -> None:
    caller, _ = switch.talk(account="alice", ago=5)
    switch.drop()
    wait_until(lambda: agent.page("readyz")[0] == 503, "it is noticed")
    server = Orderer(agent)
    octets = server.packet(DISCONNECT_REQUEST, caller.uuid)
    assert server.order(octets, seconds=0.3) is None
    switch.listen()
    agent.connected()
    assert server.order(octets) == (41, None)
