"""Cuts and ends at the worst moment: what comes between a question to the switch and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.switch_agent.calls import Calls
from aaa_server.switch_agent.exchange import Servers
from aaa_server.switch_agent.leg import Leg
from aaa_server.switch_agent.slices import Slices
from aaa_server.switch_agent.switch import SwitchGone
from tests.switch_agent.test_parts import SECRET, new_spool
from tests.switch_agent.test_switch import Line, result_of

if TYPE_CHECKING:
    from pathlib import Path

LOST_SECONDS = 30
NOW_US = 1_790_000_000_000_000


class Agent(Line):
    """An agent that knows of one channel, `leg`, on a switch that the test answers for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.spool = new_spool(folder)
        # Of long ago: not one that the list of channels may not have yet.
        self.leg = Leg("leg", "inbound", {"sky_leg": "none"}, created_us=1, answered_us=1)
        self.spool.keep_leg(self.leg)
        servers = Servers([], SECRET, clock=self.reactor, timeout_seconds=1, tries=1)
        self.slices = Slices(
            self.spool,
            self.switch,
            servers,
            clock=self.reactor,
            now_us=self.now_us,
            margin_seconds=10,
            nas=[],
        )
        self.calls = Calls(
            self.spool,
            self.switch,
            self.slices,
            clock=self.reactor,
            now_us=self.now_us,
            interim_seconds=0,
            lost_seconds=LOST_SECONDS,
            reconcile_seconds=3600,
            nas=[],
        )
        self.switch.listener = self.calls

    def now_us(self) -> int:
        return NOW_US + int(self.reactor.seconds() * 1_000_000)

    def is_asked(self) -> str:
        """What our side has written since it was last looked at."""
        said: str = self.wire.value().decode()
        self.wire.clear()
        return said

    def fires(self, name: str, *headers: str) -> str:
        """An event of the leg's, and what our side writes then."""
        event = "\n".join([f"Event-Name: {name}", "Unique-ID: leg", *headers, "", ""])
        return self.says(f"Content-Length: {len(event)}\nContent-Type: text/event-plain\n\n{event}")

    def answers(self, output: str) -> str:
        """The output of an api command, and what our side writes then."""
        return self.says(f"Content-Type: api/response\nContent-Length: {len(output)}\n\n{output}")

    def lists_none(self) -> str:
        """The job's reply and its result; what our side asks then."""
        job = self.is_asked()
        assert "bgapi show channels as json\n" in job
        self.says("Content-Type: command/reply\nReply-Text: +OK Job-UUID: 1\n\n")
        return self.says(result_of(self, job, '{"row_count":0}'))


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    made = Agent(tmp_path)
    made.open()
    return made


def test_a_channel_that_ends_while_it_is_looked_for_is_not_missed_for_ever(agent: Agent) -> None:
    assert agent.lists_none() == "api uuid_exists leg\n\n"
    agent.fires("CHANNEL_HANGUP_COMPLETE")
    assert agent.spool.legs == {}
    agent.answers("false")
    assert agent.calls.listings["done"] == 1
    agent.reactor.pump([1.0] * (LOST_SECONDS + 1))
    ends_that_wait = [
        call for call in agent.reactor.getDelayedCalls() if call.func == agent.calls._lose_missing
    ]
    assert ends_that_wait == []
    assert agent.calls.counts["lost"] == 0


def test_a_channel_that_is_found_to_be_gone_is_lost_after_a_while(agent: Agent) -> None:
    agent.leg.values["sky_leg"] = "caller"
    agent.lists_none()
    agent.answers("false")
    agent.reactor.pump([1.0] * (LOST_SECONDS - 1))
    assert list(agent.spool.legs) == ["leg"]
    agent.reactor.pump([1.0] * 2)
    assert agent.spool.legs == {}
    assert agent.calls.counts["lost"] == 1


class Writes:
    """Notes what goes over the wire in one write."""

    def __init__(self, agent: Agent) -> None:
        self.each: list[bytes] = []
        wire: Any = agent.wire
        wire.write = self.each.append


def test_a_cut_that_is_moved_is_taken_away_and_set_in_one_write(agent: Agent) -> None:
    agent.lists_none()
    agent.answers("true")
    writes = Writes(agent)
    moved = agent.ask(agent.slices.cut_after(agent.leg, 30))
    assert writes.each == [b"api sched_del leg\n\napi sched_hangup +30 leg ALLOTTED_TIMEOUT\n\n"]
    agent.answers("+OK\n")
    assert moved == []
    agent.answers("+OK\n")
    assert moved == [True]
    assert agent.leg.until_us == agent.now_us() + 30_000_000
    refused = agent.ask(agent.slices.cut_after(agent.leg, 30))
    agent.answers("+OK\n")
    agent.answers("-ERR No such channel!\n")
    assert refused == [False]


def test_a_connection_that_is_lost_within_a_cut_is_one_error(agent: Agent) -> None:
    agent.lists_none()
    agent.answers("true")
    moved = agent.ask(agent.slices.cut_after(agent.leg, 30))
    agent.answers("+OK\n")
    agent.close()
    assert isinstance(moved[0], SwitchGone)
    closed = agent.ask(agent.slices.cut_after(agent.leg, 30))
    assert isinstance(closed[0], SwitchGone)
