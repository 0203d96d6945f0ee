"""The connection to the event socket, with a clock that is wound by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from aaa_server.switch_agent.event_socket import ANSWER_OCTETS_MAX, EVENT_OCTETS_MAX
from aaa_server.switch_agent.switch import RECONNECT_SECONDS_MAX, Switch, SwitchGone
from tests.switch_agent.freeswitch import FreeSwitch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aaa_server.switch_agent.event_socket import Event
    from aaa_server.switch_agent.switch import Connection


class Wire(StringTransport):
    """A transport that says whether it was aborted."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Ear:
    """Notes what the connection tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connected(self, uptime_seconds: int) -> None:
        self.told.append(f"connected {uptime_seconds}")

    def disconnected(self) -> None:
        self.told.append("disconnected")

    def heard(self, event: Event) -> None:
        self.told.append(event.name)

    def look_again(self) -> None:
        self.told.append("look again")


class Line:
    """A switch of ours, and what the other side says to it."""

    def __init__(self) -> None:
        # Its types come from zope.interface, which says too little of it.
        self.reactor: Any = MemoryReactorClock()
        self.switch = Switch("127.0.0.1", 8021, "ClueCon", reactor=self.reactor)
        self.ear = Ear()
        self.switch.listener = self.ear
        self.switch.start()
        self.wire = Wire()
        self.connection: Connection

    def connect(self) -> None:
        self.connection = self.switch.buildProtocol(None)
        self.connection.makeConnection(self.wire)

    def says(self, *texts: str) -> str:
        """What our side writes when it hears this."""
        self.wire.clear()
        for text in texts:
            self.connection.dataReceived(text.encode())
        said: str = self.wire.value().decode()
        return said

    def open(self) -> None:
        self.connect()
        assert self.says("Content-Type: auth/request\n\n") == "auth ClueCon\n\n"
        ok = "Content-Type: command/reply\nReply-Text: +OK accepted\n\n"
        assert self.says(ok) == "api uptime s\n\n"
        uptime = "Content-Type: api/response\nContent-Length: 3\n\n77\n"
        assert self.says(uptime).startswith("event plain CHANNEL_CREATE ")
        self.says("Content-Type: command/reply\nReply-Text: +OK event listener enabled plain\n\n")

    def close(self) -> None:
        self.connection.connectionLost(Failure(ConnectionDone()))

    def ask(self, question: Coroutine[Any, Any, Any]) -> list[Any]:
        """A list that has the answer, or what went wrong, when there is one."""
        outcome: list[Any] = []
        ensureDeferred(question).addCallbacks(
            outcome.append, lambda failure: outcome.append(failure.value)
        )
        return outcome


@pytest.fixture
def line() -> Line:
    return Line()


def test_it_is_connected_once_it_hears_events(line: Line) -> None:
    line.open()
    assert line.switch.connected
    assert line.ear.told == ["connected 77"]


def test_answers_come_in_the_order_of_questions_with_events_between_them(line: Line) -> None:
    line.open()
    first, second = line.ask(line.switch.api("uuid_exists a")), line.ask(line.switch.api("x"))
    event = "Event-Name: HEARTBEAT\n\n"
    line.says(
        "Content-Type: api/response\nContent-Length: 4\n\ntrue",
        f"Content-Length: {len(event)}\nContent-Type: text/event-plain\n\n{event}",
        "Content-Type: api/response\nContent-Length: 4\n\n+OK\n",
    )
    assert (first, second) == (["true"], ["+OK\n"])
    assert line.ear.told[-1] == "HEARTBEAT"


def test_a_job_that_may_not_be_done_is_an_error(line: Line) -> None:
    line.open()
    outcome = line.ask(line.switch.job("show channels as json"))
    line.says("Content-Type: command/reply\nReply-Text: -ERR permission denied\n\n")
    assert "permission denied" in str(outcome[0])


def test_a_job_that_is_never_done_is_given_up(line: Line) -> None:
    line.open()
    outcome = line.ask(line.switch.job("show channels as json"))
    line.says("Content-Type: command/reply\nReply-Text: +OK Job-UUID: 1\nJob-UUID: 1\n\n")
    line.reactor.pump([5.0] * 8)
    assert isinstance(outcome[0], ValueError)
    assert not line.wire.aborted


def result_of(line: Line, job: str, output: str) -> str:
    """The frame of a job's end; `job` is what our side wrote when it asked for it."""
    number = job.partition("Job-UUID: ")[2].strip()
    event = f"Event-Name: BACKGROUND_JOB\nJob-UUID: {number}\nContent-Length: {len(output)}\n\n"
    length = len(event) + len(output)
    return f"Content-Length: {length}\nContent-Type: text/event-plain\n\n{event}{output}"


def test_a_job_s_result_may_be_longer_than_any_event(line: Line) -> None:
    line.open()
    line.wire.clear()
    outcome = line.ask(line.switch.job("show channels as json"))
    job = line.wire.value().decode()
    listing = "x" * (3 * EVENT_OCTETS_MAX)
    result = result_of(line, job, listing)
    half = len(result) // 2
    line.says(result[:half], result[half:])
    assert outcome == [listing]
    # When nobody waits for one, an event is as long as events are.
    line.says(result)
    assert line.ear.told[-2:] == ["BACKGROUND_JOB", "look again"]


def test_a_job_whose_result_is_passed_over_is_an_error_at_once(line: Line) -> None:
    line.open()
    line.wire.clear()
    outcome = line.ask(line.switch.job("show channels as json"))
    head = f"Content-Length: {ANSWER_OCTETS_MAX + 1}\nContent-Type: text/event-plain\n\n"
    line.says(head, *["x" * EVENT_OCTETS_MAX] * (ANSWER_OCTETS_MAX // EVENT_OCTETS_MAX))
    assert outcome == []
    line.says("x")
    assert "too long" in str(outcome[0])
    assert line.switch.connected


def test_what_waits_for_an_answer_is_told_when_the_connection_is_lost(line: Line) -> None:
    line.open()
    outcomes = [line.ask(line.switch.api("x")), line.ask(line.switch.job("y"))]
    line.close()
    assert all(isinstance(outcome[0], SwitchGone) for outcome in outcomes)
    assert not line.switch.connected
    assert line.ear.told == ["connected 77", "disconnected"]
    assert isinstance(line.ask(line.switch.api("x"))[0], SwitchGone)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n",
            "list",
        ),
        ("Content-Type: text/disconnect-notice\nContent-Length: 0\n\n", "goodbye"),
        ("HTTP/1.1 400 Bad Request\nContent-Length: minus one\n\n", "Content-Length"),
    ],
)
def test_a_connection_of_no_use_is_closed_and_the_reason_told(
    line: Line, text: str, why: str
) -> None:
    line.connect()
    line.says(text)
    assert line.wire.aborted
    line.close()
    assert why in line.switch.problem


def test_a_switch_that_falls_silent_is_connected_to_anew(line: Line) -> None:
    line.open()
    line.reactor.pump([5.0] * 14)
    assert not line.wire.aborted
    line.reactor.pump([5.0] * 2)
    assert line.wire.aborted


def test_a_switch_that_does_not_answer_is_connected_to_anew(line: Line) -> None:
    line.open()
    line.ask(line.switch.api("x"))
    beat = "Event-Name: HEARTBEAT\n\n"
    for _ in range(8):
        line.says(f"Content-Length: {len(beat)}\nContent-Type: text/event-plain\n\n{beat}")
        line.reactor.advance(5.0)
    assert line.wire.aborted


def test_it_tries_again_more_and_more_seldom_and_at_once_after_a_success(line: Line) -> None:
    waits = []
    for _ in range(10):
        line.connect()
        line.close()
        (call,) = line.reactor.getDelayedCalls()
        waits.append(call.getTime() - line.reactor.seconds())
        line.reactor.advance(waits[-1])
    assert waits == sorted(waits)
    assert waits[0] < 0.5
    assert waits[-1] == RECONNECT_SECONDS_MAX
    line.open()
    line.close()
    (call,) = line.reactor.getDelayedCalls()
    assert call.getTime() - line.reactor.seconds() == pytest.approx(waits[0])


def test_stopped_it_does_not_connect_again(line: Line) -> None:
    line.connect()
    line.switch.stop()
    line.close()
    assert line.reactor.getDelayedCalls() == []


def test_a_channel_of_a_call_id_is_one_word_of_a_command(line: Line) -> None:
    line.open()
    line.wire.clear()
    ensureDeferred(line.switch.kill("a84b4c76e66710@192.0.2.1"))
    assert line.wire.value() == b"api uuid_kill a84b4c76e66710@192.0.2.1 ALLOTTED_TIMEOUT\n\n"
    for wrong in ("a b", "a\nexit", "", "a/2"):
        outcome = line.ask(line.switch.kill(wrong))
        assert isinstance(outcome[0], AssertionError)


def test_the_stand_in_speaks_as_the_switch_s_source_has_it() -> None:
    """Quoting and framing of a real CHANNEL_HANGUP_COMPLETE, byte for byte."""
    switch = FreeSwitch()
    try:
        text = switch.serialized("X", [("Channel-Name", "sofia/cgrtest/1001@127.0.0.1"),
                                       ("variable_caller_id", '"1001" <1001>'),
                                       ("variable_ringback", "%(2000,4000,440,480)")])  # fmt: skip
    finally:
        switch.close()
    assert "Channel-Name: sofia/cgrtest/1001%40127.0.0.1\n" in text
    assert "variable_caller_id: %221001%22%20%3C1001%3E\n" in text
    assert "variable_ringback: %25(2000,4000,440,480)\n" in text
    assert text.endswith("\n\n")
