"""The ports, with real UDP: every reply is checked as the client would."""

from __future__ import annotations

import select
import socket
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import provider

from aaa_server.radius import server as server_module
from aaa_server.radius.client import ACCT, AUTH, ClientTable
from aaa_server.radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCOUNTING_RESPONSE,
    STATUS_SERVER,
    decode,
    encode_reply,
    reply_fits,
)
from aaa_server.radius.receive import Fresh, Receiver, Reply, Source
from aaa_server.radius.server import STATISTICS_TYPE, RadiusServer, listening_socket
from tests.radius.peer import (
    RANDOM,
    SECRET,
    access_request,
    accounting_request,
    client_of,
    status_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.epollreactor import EPollReactor
    from twisted.logger import LogEvent

GUESS = [(1, b"acme"), (2, SECRET.hide(b"guess", RANDOM))]
START = [(40, b"\0\0\0\1"), (44, b"call-1")]
REPLY_SECONDS_MAX = 60.0


class HandReactor(Clock):
    """A reactor whose time is wound and whose sockets are read by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


def yes(fresh: Fresh) -> Deferred[bytes | None]:
    """Accept everything."""
    code = ACCESS_ACCEPT if fresh.role == AUTH else ACCOUNTING_RESPONSE
    return succeed(
        encode_reply(
            code,
            fresh.packet,
            fresh.secret,
            [(18, b"yes")],
            message_authenticator=fresh.role == AUTH,
        )
    )


class Bench:
    """A server on loopback ports of its own, and a client."""

    def __init__(self, reactor: Any, address: str = "127.0.0.1") -> None:
        self.reactor = reactor
        self.answer: Callable[[Fresh], Deferred[bytes | None]] = yes
        clients = [client_of(network="127.0.0.0/8"), client_of(client_id=8, network="::1/128")]
        self.receiver = Receiver(ClientTable(clients), reactor.seconds)
        self.server = RadiusServer(
            reactor,
            self.receiver,
            clock=reactor,
            addresses=[address],
            auth_port=0,
            acct_port=0,
            answer_access=self.answers,
            answer_accounting=self.answers,
        )
        self.server.start()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.client = socket.socket(family, socket.SOCK_DGRAM)
        self.client.bind((address, 0))
        self.client.settimeout(REPLY_SECONDS_MAX)
        self._sent = self._received = 0
        for port in self.server.ports:
            setattr(port, "send", partial(self._note, port.send))  # noqa: B010 - and sends it

    def _note(self, send: Callable[[bytes, Source], None], reply: bytes, source: Source) -> None:
        self._sent += 1
        send(reply, source)

    def answers(self, fresh: Fresh, reply: Reply) -> None:
        self.answer(fresh).addCallback(lambda octets: reply(fresh, octets))

    def port(self, role: str) -> Any:
        return next(port for port in self.server.ports if port.role == role)

    def send(self, datagram: bytes, role: str = AUTH) -> None:
        """Send it, and wait until there is something to read."""
        port = self.port(role)
        self.client.sendto(datagram, port.address)
        assert select.select([port], [], [], REPLY_SECONDS_MAX)[0]

    def turn(self) -> None:
        """Read what has come, as the reactor would."""
        for reader in list(self.reactor.readers):
            reader.doRead()

    def received(self) -> bytes | None:
        """The next reply that was sent; None when all have been received."""
        if self._received == self._sent:
            return None
        self._received += 1
        return self.client.recv(4096)

    def ask(self, datagram: bytes, role: str = AUTH) -> bytes | None:
        self.send(datagram, role)
        self.turn()
        return self.received()

    def close(self) -> None:
        self.server.stop()
        self.client.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(HandReactor())
    yield made
    made.close()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What is logged at warning or above."""
    events: list[LogEvent] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_both_ports_answer_on_either_protocol(reactor: EPollReactor, address: str) -> None:
    bench = Bench(reactor, address)
    deadline = reactor.seconds() + REPLY_SECONDS_MAX
    for role, request, code in (
        (AUTH, access_request(GUESS), ACCESS_ACCEPT),
        (ACCT, accounting_request(START), ACCOUNTING_RESPONSE),
    ):
        bench.send(request, role)
        reply = None
        while reply is None:
            assert reactor.seconds() < deadline, "no reply"
            reactor.iterate(0.01)
            reply = bench.received()
        packet = decode(reply)
        assert (packet.code, packet.identifier) == (code, 1)
        assert (18, b"yes") in packet.attributes
        assert reply_fits(reply, decode(request).authenticator, SECRET)
    bench.close()


def test_a_retransmission_gets_the_same_octets_and_is_not_asked_again(bench: Bench) -> None:
    asked = []

    def answer(fresh: Fresh) -> Deferred[bytes | None]:
        asked.append(fresh)
        return yes(fresh)

    bench.answer = answer
    first = bench.ask(access_request(GUESS))
    assert first is not None
    assert bench.ask(access_request(GUESS)) == first
    assert len(asked) == 1


def test_a_retransmission_of_a_request_in_flight_waits_for_its_answer(bench: Bench) -> None:
    pending: Deferred[bytes | None] = Deferred()
    asked: list[Fresh] = []

    def answer(fresh: Fresh) -> Deferred[bytes | None]:
        asked.append(fresh)
        return pending

    bench.answer = answer
    assert bench.ask(access_request(GUESS)) is None
    assert bench.ask(access_request(GUESS)) is None
    pending.callback(b"\x02\x01\x00\x14" + bytes(16))
    assert bench.received() is not None
    assert bench.received() is None
    assert len(asked) == 1


def test_silence_lets_the_next_try_be_a_new_one(bench: Bench) -> None:
    bench.answer = lambda _: succeed(None)
    assert bench.ask(accounting_request(START), ACCT) is None
    bench.answer = yes
    assert bench.ask(accounting_request(START), ACCT) is not None


def test_a_failing_answer_is_logged_and_the_next_try_is_a_new_one(
    bench: Bench, logged: list[LogEvent]
) -> None:
    def broken(_: Fresh) -> Deferred[bytes | None]:
        raise RuntimeError("broken")

    bench.answer = broken
    assert bench.ask(access_request(GUESS)) is None
    assert [event["log_failure"].getErrorMessage() for event in logged] == ["broken"]
    assert bench.receiver.counts[AUTH, "failed"] == 1
    bench.answer = yes
    assert bench.ask(access_request(GUESS)) is not None


def test_a_bad_packet_gets_silence_and_the_port_goes_on(bench: Bench) -> None:
    for datagram in (b"", b"x", bytes(5000), access_request(GUESS)[:-1], b"\xff" * 40):
        assert bench.ask(datagram) is None
    assert bench.ask(access_request(GUESS)) is not None


def test_dropped_packets_are_logged_once_in_a_while(bench: Bench, logged: list[LogEvent]) -> None:
    for _ in range(5):
        bench.ask(b"x")
    assert len(logged) == 1
    bench.reactor.advance(10)
    bench.ask(b"x")
    assert len(logged) == 2
    line = logged[1]["log_format"].format(**logged[1])
    assert "dropped a packet from 127.0.0.1" in line
    assert "4 more like it since the last line" in line


def test_a_reply_may_be_delayed_and_a_retransmission_does_not_hurry_it(bench: Bench) -> None:
    def later(fresh: Fresh) -> Deferred[bytes | None]:
        fresh.delay_seconds = 1.0
        return succeed(
            encode_reply(ACCESS_REJECT, fresh.packet, fresh.secret, [], message_authenticator=True)
        )

    bench.answer = later
    assert bench.ask(access_request(GUESS)) is None
    bench.reactor.advance(0.9)
    assert bench.ask(access_request(GUESS)) is None
    bench.reactor.advance(0.1)
    reply = bench.received()
    assert reply is not None
    assert decode(reply).code == ACCESS_REJECT
    assert bench.received() is None
    assert bench.ask(access_request(GUESS)) == reply
    assert bench.receiver.counts[AUTH, "rejects"] == 1


def test_delayed_replies_are_bounded_and_end_with_the_server(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "DELAYED_MAX", 2)

    def later(fresh: Fresh) -> Deferred[bytes | None]:
        fresh.delay_seconds = 1.0
        return yes(fresh)

    bench.answer = later
    for identifier in range(3):
        bench.ask(access_request(GUESS, identifier=identifier))
    assert bench.receiver.counts[AUTH, "delayed-too-many"] == 1
    assert len(bench.reactor.getDelayedCalls()) == 2
    bench.server.stop()
    assert bench.reactor.getDelayedCalls() == []


def test_at_most_sixteen_datagrams_are_read_in_a_turn(bench: Bench) -> None:
    for identifier in range(20):
        bench.send(access_request(GUESS, identifier=identifier))
    counts, port, read = bench.receiver.counts, bench.port(AUTH), [0]
    while read[-1] < 20:
        assert select.select([port], [], [], REPLY_SECONDS_MAX)[0]
        port.doRead()
        read.append(counts[AUTH, "requests"])
    assert max(after - before for before, after in pairwise(read)) <= 16


@pytest.mark.parametrize(("role", "code"), [(AUTH, ACCESS_ACCEPT), (ACCT, ACCOUNTING_RESPONSE)])
def test_status_server_is_answered_on_both_ports_without_asking(
    bench: Bench, role: str, code: int
) -> None:
    bench.answer = lambda _: fail(AssertionError("asked"))
    request = status_request()
    reply = bench.ask(request, role)
    assert reply is not None
    packet = decode(reply)
    assert (packet.code, [key for key, _ in packet.attributes]) == (code, [80])
    assert reply_fits(reply, RANDOM, SECRET)


def test_status_server_must_be_signed(bench: Bench) -> None:
    assert bench.ask(status_request(signed=False)) is None


def test_the_statistics_are_those_asked_for(bench: Bench) -> None:
    bench.ask(access_request(GUESS))
    bench.ask(access_request(GUESS))
    bench.ask(b"x")
    bench.ask(access_request([(1, b"x")], signed=False, identifier=9))
    bench.ask(bytes((3,)) + access_request(GUESS)[1:])
    bench.ask(accounting_request(START), ACCT)
    counters = {}
    for wanted in (1, 2, 0x1F):
        request = status_request([(STATISTICS_TYPE, bytes((0, 0, 0, wanted)))], identifier=wanted)
        reply = bench.ask(request)
        assert reply is not None
        counters[wanted] = {
            key & 255: int.from_bytes(value, "big")
            for key, value in decode(reply).attributes
            if key >> 8 == 11344
        }
    # requests, accepts, rejects, challenges, replies, duplicates, malformed, invalid, dropped,
    # unknown codes; the Status-Server itself is a request.
    auth = [counters[1][number] for number in range(128, 138)]
    assert auth == [6, 1, 0, 0, 1, 1, 1, 1, 0, 1]
    acct = [counters[2][number] for number in range(148, 155)]
    assert acct == [1, 1, 0, 0, 0, 0, 0]
    assert counters[0x1F].keys() >= counters[1].keys() | counters[2].keys()
    assert 148 not in counters[1]


def test_a_port_that_is_taken_is_named_and_nothing_stays_open(bench: Bench) -> None:
    taken = bench.port(AUTH).address[1]
    other = RadiusServer(
        bench.reactor,
        bench.receiver,
        clock=bench.reactor,
        addresses=["127.0.0.1"],
        auth_port=0,
        acct_port=taken,
        answer_access=bench.answers,
        answer_accounting=bench.answers,
        reuse_port=False,
    )
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {taken}/udp"):
        other.start()
    assert other.ports == []


def test_processes_share_a_port() -> None:
    first = listening_socket("127.0.0.1", 0, reuse_port=True)
    second = listening_socket("127.0.0.1", first.getsockname()[1], reuse_port=True)
    first.close()
    second.close()


def test_a_reply_to_a_closed_port_is_counted_and_no_error(bench: Bench) -> None:
    pending: Deferred[bytes | None] = Deferred()
    bench.answer = lambda _: pending
    bench.ask(access_request(GUESS))
    port = bench.port(AUTH)
    bench.server.stop()
    pending.callback(b"\x02\x01\x00\x14" + bytes(16))
    assert port.unsent == 1
    assert bench.reactor.readers == []


def test_a_server_may_be_stopped_while_it_reads(bench: Bench) -> None:
    def stop(_: Fresh) -> Deferred[bytes | None]:
        bench.server.stop()
        return succeed(None)

    bench.answer = stop
    port = bench.port(AUTH)
    for identifier in range(3):
        bench.send(access_request(GUESS, identifier=identifier))
    port.doRead()
    assert bench.receiver.counts == {(AUTH, "requests"): 1}
    assert port.fileno() == -1


def test_a_lost_reader_closes_its_port(bench: Bench) -> None:
    port = bench.port(AUTH)
    port.connectionLost(None)
    assert port.fileno() == -1
    assert port.logPrefix() == "radius auth"


def test_status_server_has_the_code_of_the_rfc() -> None:
    assert status_request()[0] == STATUS_SERVER == 12
