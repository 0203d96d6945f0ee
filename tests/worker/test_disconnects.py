"""Orders to a switch that listens on a real UDP port, by a clock wound by hand."""

from __future__ import annotations

import contextlib
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.task import Clock

from aaa_server.config import Config
from aaa_server.radius import attribute
from aaa_server.radius.packet import DISCONNECT_REQUEST, Packet, Secret, decode, encode_reply
from aaa_server.storage import disconnects as stored
from aaa_server.storage import viewer
from aaa_server.storage.database import Connection, transaction
from aaa_server.storage.problem import Conflict, NotAllowed, NotFound
from aaa_server.worker.disconnects import Disconnects
from tests.worker.conftest import NOW, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.epollreactor import EPollReactor

    from tests.conftest import Run

SECRET = Secret(b"testing123")
ACK, NAK = 41, 42
WAIT_SECONDS_MAX = 60.0


class Switch:
    """A NAS on a port of its own."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._wire = socket.socket(family, socket.SOCK_DGRAM)
        self._wire.bind((address, 0))
        self._wire.settimeout(WAIT_SECONDS_MAX)
        self.port: int = self._wire.getsockname()[1]
        self._peer: Any = None

    def hear(self) -> Packet:
        """The next request."""
        datagram, self._peer = self._wire.recvfrom(4096)
        return decode(datagram)

    def answer(
        self, request: Packet, code: int, *, cause: int | None = None, secret: Secret = SECRET
    ) -> None:
        attributes = [] if cause is None else [(attribute.ERROR_CAUSE, cause.to_bytes(4, "big"))]
        self.say(encode_reply(code, request, secret, attributes, message_authenticator=True))

    def say(self, datagram: bytes) -> None:
        self._wire.sendto(datagram, self._peer)

    def close(self) -> None:
        self._wire.close()


class Bench:
    """The sender under test, its world, and time."""

    def __init__(self, world: World, url: str, reactor: EPollReactor, run: Run) -> None:
        self.world = world
        self.clock = Clock()
        self._heard = 0
        self._reactor = reactor
        self._run = run
        self.connection = Connection(url, reactor=reactor, clock=reactor, quiet=True)
        self.sender = Disconnects(
            reactor, self.connection, world.keyring, Config(), clock=self.clock
        )
        run(self.connection.connect())
        run(self.sender.begin())

    def look(self, seconds: float = 0.0) -> None:
        """Time goes on by so much, then the worker looks."""
        self.clock.advance(seconds)
        self._run(self.sender.look(NOW + timedelta(seconds=self.clock.seconds())))

    def told(self, switch: Switch) -> Packet | None:
        """The next request that the switch was sent; None when it has heard all of them."""
        if self._heard == self.sender.counts["packets"]:
            return None
        self._heard += 1
        return switch.hear()

    def hears(self, count: int) -> None:
        """Wait until so many datagrams have come in, whatever they are worth."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        sender = self.sender
        before = sender.counts["ignored"] + len(sender._outcomes)
        while sender.counts["ignored"] + len(sender._outcomes) < before + count:
            assert time.monotonic() < deadline, "nothing came in"
            self._reactor.iterate(0.01)

    def close(self) -> None:
        self._run(self.sender.stop())
        self.connection.close()


@pytest.fixture
def bench(world: World, database_url: str, reactor: EPollReactor, run: Run) -> Iterator[Bench]:
    made = Bench(world, database_url, reactor, run)
    with contextlib.closing(made):
        yield made


@pytest.fixture
def switch(world: World) -> Iterator[Switch]:
    made = Switch()
    world.client(1, "127.0.0.1", made.port)
    with contextlib.closing(made):
        yield made


def values(packet: Packet | None) -> dict[int, bytes]:
    assert packet is not None
    return dict(packet.attributes)


def test_a_call_whose_time_is_over_is_ended(bench: Bench, switch: Switch) -> None:
    call = bench.world.call("talk", since=100, started=61)
    bench.look()
    assert bench.told(switch) is None
    bench.look(1)
    request = bench.told(switch)
    assert request is not None
    assert request.code == DISCONNECT_REQUEST
    said = values(request)
    assert said[attribute.ACCT_SESSION_ID] == b"talk"
    assert said[attribute.USER_NAME] == b"alice"
    assert said[attribute.NAS_IP_ADDRESS] == bytes([127, 0, 0, 1])
    assert int.from_bytes(said[attribute.EVENT_TIMESTAMP], "big") == int(NOW.timestamp()) + 1
    switch.answer(request, ACK)
    bench.hears(1)
    bench.look(1)
    assert bench.world.orders() == [("talk", "credit-ended", "acknowledged")]
    assert bench.world.ask("SELECT call_id, attempts FROM disconnect_order") == [(call, 1)]
    bench.look(100)
    assert bench.told(switch) is None
    assert bench.world.events() == []


def test_when_the_time_of_a_call_is_over(bench: Bench, switch: Switch) -> None:
    """Overrun 2 s; 60 s of ringing where nobody told of an answer."""
    world = bench.world
    world.call("answered-in-time", since=200, started=61, granted=60)
    world.call("answered-too-long", since=200, started=62, granted=60)
    world.call("may-have-rung", since=121, granted=60)
    world.call("cannot-have-rung", since=122, granted=60)
    world.call(
        "asked-again",
        since=500,
        granted=60,
        expires_at=NOW + timedelta(seconds=119),
        step=1,
        step_seconds=30,
    )
    world.call(
        "asked-again-over",
        since=500,
        granted=60,
        expires_at=NOW + timedelta(seconds=118),
        step=1,
        step_seconds=30,
    )
    # Told by a clock that is an hour ahead: no answer that is known of.
    world.call("ahead-may-have-rung", since=121, started=-3600, granted=60)
    world.call("ahead", since=122, started=-3600, granted=60)
    world.call("emergency", since=1000, granted=60, levels="[]")
    world.call("refused", since=1000, granted=60, status="refused")
    world.call("only-accounting", since=1000, granted=0, status="started")
    bench.look()
    assert sorted(bench.world.orders()) == [
        ("ahead", "credit-ended", "sent"),
        ("answered-too-long", "credit-ended", "sent"),
        ("asked-again-over", "credit-ended", "sent"),
        ("cannot-have-rung", "credit-ended", "sent"),
    ]


def test_a_lost_request_is_sent_again_until_it_is_answered(bench: Bench, switch: Switch) -> None:
    bench.world.call("talk", since=500)
    bench.look()
    first = bench.told(switch)
    assert first is not None
    bench.look(1)
    assert bench.told(switch) is None
    bench.look(2)
    again = bench.told(switch)
    assert again is not None
    assert again.raw == first.raw
    switch.answer(again, ACK)
    bench.hears(1)
    bench.look(60)
    assert bench.told(switch) is None
    assert bench.world.orders() == [("talk", "credit-ended", "acknowledged")]


def test_a_switch_that_never_answers_is_given_up(bench: Bench, switch: Switch) -> None:
    bench.world.call("talk", since=500)
    heard = 0
    for _ in range(80):
        bench.look(1)
        heard += bench.told(switch) is not None
    assert heard == 6
    assert bench.world.orders() == [("talk", "credit-ended", "unanswered")]
    [(account, kind, detail)] = bench.world.events()
    assert (account, kind, detail["state"]) == (20, "call-not-ended", "unanswered")


def test_the_stop_may_be_quicker_than_the_answer(bench: Bench, switch: Switch) -> None:
    bench.world.call("talk", since=500)
    bench.look()
    bench.world.ask("DELETE FROM call")
    for _ in range(80):
        bench.look(1)
    assert bench.world.orders() == [("talk", "credit-ended", "ended")]
    assert bench.world.events() == []


def test_forged_and_double_answers_are_ignored(bench: Bench, switch: Switch) -> None:
    bench.world.call("talk", since=500)
    bench.look()
    request = bench.told(switch)
    assert request is not None
    switch.say(b"noise")
    switch.answer(request, ACK, secret=Secret(b"a guess"))
    other = Switch()
    with contextlib.closing(other):
        other._peer = switch._peer
        other.answer(request, ACK)
        bench.hears(3)
    bench.look()
    assert bench.world.orders() == [("talk", "credit-ended", "sent")]
    switch.answer(request, NAK, cause=501)
    switch.answer(request, ACK)
    bench.hears(2)
    bench.look()
    assert bench.world.orders() == [("talk", "credit-ended", "refused")]
    assert bench.world.ask("SELECT error_cause, detail FROM disconnect_order") == [
        (501, "administratively prohibited")
    ]
    assert bench.sender.counts["ignored"] == 4


def test_a_call_that_the_switch_does_not_know_is_told_of(bench: Bench, switch: Switch) -> None:
    call = bench.world.call("talk", since=500)
    bench.look()
    request = bench.told(switch)
    assert request is not None
    switch.answer(request, NAK, cause=503)
    bench.hears(1)
    bench.look(1)
    assert bench.world.orders() == [("talk", "credit-ended", "gone")]
    [(account, kind, detail)] = bench.world.events()
    assert (account, kind) == (20, "call-gone")
    assert detail == {
        "call": call,
        "reason": "credit-ended",
        "state": "gone",
        "error_cause": 503,
    }


@pytest.mark.parametrize(("suspended", "status"), [(10, "suspended"), (11, "closed")])
def test_suspending_an_account_ends_the_calls_of_its_tree(
    bench: Bench, switch: Switch, suspended: int, status: str
) -> None:
    bench.world.call("nora's", account=11)
    bench.world.call("alice's", account=20)
    bench.world.call("nora's emergency", account=11, levels="[]")
    bench.look()
    assert bench.world.orders() == []
    bench.world.ask("UPDATE account SET status = %s WHERE account_id = %s", (status, suspended))
    bench.look(1)
    assert values(bench.told(switch))[attribute.ACCT_SESSION_ID] == b"nora's"
    assert bench.told(switch) is None
    assert bench.world.orders() == [("nora's", "account-suspended", "sent")]


def test_a_switch_of_ipv6_is_told_too(bench: Bench) -> None:
    switch = Switch("::1")
    with contextlib.closing(switch):
        bench.world.client(2, "::1", switch.port)
        bench.world.call("six", client=2, since=500, nas="::1")
        bench.look()
        request = bench.told(switch)
        assert request is not None
        assert values(request)[attribute.NAS_IPV6_ADDRESS] == bytes(15) + b"\x01"
        switch.answer(request, ACK)
        bench.hears(1)
    bench.look()
    assert bench.world.orders() == [("six", "credit-ended", "acknowledged")]


def test_a_client_without_a_port_is_left_alone(bench: Bench) -> None:
    bench.world.client(3, "127.0.0.1", None)
    bench.world.call("deaf", client=3, since=500)
    bench.world.call("suspended", client=3, account=20)
    bench.world.ask("UPDATE account SET status = 'suspended' WHERE account_id = 20")
    bench.look()
    assert bench.world.orders() == []


def test_an_account_that_was_not_named_by_its_code_is_not_named(
    bench: Bench, switch: Switch
) -> None:
    bench.world.call("by-ani", since=500, found_by="ani")
    bench.look()
    assert attribute.USER_NAME not in values(bench.told(switch))


def test_the_address_is_the_clients_own_where_the_call_has_none(
    bench: Bench, switch: Switch
) -> None:
    bench.world.call("nowhere", since=500, nas=None)
    bench.look()
    assert bench.told(switch) is not None
    bench.world.client(4, "198.51.100.0/24", 3799)
    bench.world.call("of-a-network", client=4, since=500, nas=None)
    bench.look()
    assert ("of-a-network", "credit-ended", "impossible") in bench.world.orders()


def test_a_later_call_of_a_freeswitch_channel_is_ended_by_its_channel(bench: Bench) -> None:
    switch = Switch()
    with contextlib.closing(switch):
        bench.world.client(5, "127.0.0.1", switch.port, kind="freeswitch")
        bench.world.call("c0ffee-uuid/2", client=5, since=500)
        bench.look()
        assert values(bench.told(switch))[attribute.ACCT_SESSION_ID] == b"c0ffee-uuid"


def test_the_next_worker_sends_what_the_last_one_had_under_way(
    bench: Bench, switch: Switch, database_url: str, reactor: EPollReactor, run: Run
) -> None:
    bench.world.call("talk", since=500)
    bench.look()
    assert bench.told(switch) is not None
    successor = Bench(bench.world, database_url, reactor, run)
    with contextlib.closing(successor):
        successor.look()
        request = successor.told(switch)
        assert request is not None
        switch.answer(request, ACK)
        successor.hears(1)
        successor.look()
    assert bench.world.orders() == [("talk", "credit-ended", "acknowledged")]


def test_more_calls_than_identifiers_are_ended_one_after_the_other(
    bench: Bench, switch: Switch
) -> None:
    for number in range(230):
        bench.world.call(f"call-{number:03}", since=500)
    ended = set()
    for _ in range(4):
        bench.look()
        answered = 0
        while (request := bench.told(switch)) is not None:
            ended.add(values(request)[attribute.ACCT_SESSION_ID])
            switch.answer(request, ACK)
            answered += 1
        if answered:
            bench.hears(answered)
    assert len(ended) == 230
    assert {state for _, _, state in bench.world.orders()} == {"acknowledged"}


def test_a_secret_that_is_being_changed_does_no_harm(bench: Bench) -> None:
    switch = Switch()
    with contextlib.closing(switch):
        bench.world.client(6, "127.0.0.1", switch.port, second=b"the new one")
        bench.world.call("talk", client=6, since=500)
        bench.look()
        assert bench.told(switch) is not None  # signed with the old one: this switch drops it
        bench.look(3)
        request = bench.told(switch)
        assert request is not None
        switch.answer(request, ACK, secret=Secret(b"the new one"))
        bench.hears(1)
        bench.look()
    assert bench.world.orders() == [("talk", "credit-ended", "acknowledged")]


# ------------------------------------------------------------------ by a person


def ordered(world: World, code: str, *, call: int = 0, chain: tuple[int, ...] = ()) -> list[int]:
    """The calls that were ordered to end, with the eyes of `code`."""
    with transaction(world.connection) as cursor:
        eyes = viewer.enter(cursor, code)
        found = (
            stored.order_call(cursor, eyes, call, NOW)
            if call
            else stored.order_account(cursor, eyes, chain, NOW)
        )
        return [order.call_id for order in found]


def test_an_operator_ends_a_call_and_may_press_again(bench: Bench, switch: Switch) -> None:
    call = bench.world.call("talk")
    assert ordered(bench.world, "admin", call=call) == [call]
    bench.look()
    request = bench.told(switch)
    assert request is not None
    switch.answer(request, NAK, cause=506)
    bench.hears(1)
    bench.look()
    assert bench.world.orders() == [("talk", "operator", "refused")]
    assert ordered(bench.world, "admin", call=call) == [call]
    assert bench.world.orders() == [("talk", "operator", "waiting")]
    bench.look()
    assert bench.told(switch) is not None


def test_an_order_for_a_call_that_has_ended_meanwhile_is_not_sent(
    bench: Bench, switch: Switch
) -> None:
    call = bench.world.call("talk")
    ordered(bench.world, "admin", call=call)
    bench.world.ask("DELETE FROM call")
    bench.look()
    assert bench.told(switch) is None
    assert bench.world.orders() == [("talk", "operator", "ended")]


def test_a_reseller_ends_calls_below_it_and_nobody_else_s(bench: Bench, switch: Switch) -> None:
    world = bench.world
    nora, alice = world.call("nora's", account=11), world.call("alice's", account=20)
    emergency = world.call("emergency", account=11, levels="[]")
    with pytest.raises(NotFound):
        ordered(world, "north", call=alice)
    with pytest.raises(NotFound):
        ordered(world, "north", call=999)
    with pytest.raises(NotAllowed):
        ordered(world, "nora", call=nora)
    assert ordered(world, "north", chain=(11, 10)) == [nora]
    assert ordered(world, "north", call=nora) == [nora]
    assert ordered(world, "admin", call=emergency) == [emergency]
    with transaction(world.connection) as cursor:
        eyes = viewer.enter(cursor, "nora")
        seen = stored.list_orders(cursor, eyes)
    assert [order.call_id for order in seen] == [nora, emergency]


def test_an_order_that_no_switch_would_take_is_refused_by_name(bench: Bench) -> None:
    world = bench.world
    world.client(3, "127.0.0.1", None)
    call = world.call("deaf", client=3)
    with pytest.raises(Conflict, match=r"switch-3: .*--disconnect-port 3799"):
        ordered(world, "admin", call=call)
    nora = world.call("nora's", client=3, account=11)
    with pytest.raises(Conflict) as refused:
        ordered(world, "north", call=nora)
    assert "switch-3" not in str(refused.value)
    assert world.orders() == []
