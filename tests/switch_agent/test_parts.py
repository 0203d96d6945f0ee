"""The agent's parts by themselves: frames, journal, spool, delivery, records, slices."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from aaa_server.radius import attribute
from aaa_server.radius.dialects.freeswitch import Freeswitch
from aaa_server.radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCOUNTING_REQUEST,
    ACCOUNTING_RESPONSE,
    Packet,
    Secret,
    decode,
    encode_reply,
    encode_request,
)
from aaa_server.switch_agent import event_socket, records
from aaa_server.switch_agent.calls import channels_of
from aaa_server.switch_agent.delivery import Delivery
from aaa_server.switch_agent.event_socket import BrokenFrame, Frames, event_of
from aaa_server.switch_agent.exchange import Servers
from aaa_server.switch_agent.journal import Journal, SpoolInUse
from aaa_server.switch_agent.leg import Leg
from aaa_server.switch_agent.records import INTERIM, ON, START, STOP
from aaa_server.switch_agent.slices import More, ask_after, more_of
from aaa_server.switch_agent.spool import RECORD_OCTETS, Spool
from tests.switch_agent.freeswitch import FreeSwitch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aaa_server.radius.call import AccountingCall

SECRET = Secret(b"testing123")

# ------------------------------------------------------------------ frames

STREAM = (
    b"Content-Type: auth/request\n\n"
    b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"
    b"Content-Type: command/reply\nReply-Text: +OK Job-UUID: 1\nJob-UUID: 1\n\n\n"
    b"Content-Type: api/response\nContent-Length: 7\n\n+OK\n\n\n\n"
    b"Content-Length: 61\nContent-Type: text/event-plain\n\n"
    b"Event-Name: CHANNEL_ANSWER\nUnique-ID: a%20b\nvariable_x: \xc3\xb6%25\n\n"
    b"Content-Type: text/disconnect-notice\nContent-Length: 2\n\n\n\n"
)


def cut_up(stream: bytes, sizes: list[int]) -> list[event_socket.Frame]:
    frames = Frames()
    found: list[event_socket.Frame] = []
    for size in sizes:
        found += frames.feed(stream[:size])
        stream = stream[size:]
    return found + list(frames.feed(stream))


@given(st.lists(st.integers(1, 40), max_size=40))
def test_frames_are_the_same_however_they_are_cut(sizes: list[int]) -> None:
    found = cut_up(STREAM, sizes)
    assert [frame.kind for frame in found] == [
        "auth/request", "command/reply", "command/reply", "api/response", "text/event-plain",
        "text/disconnect-notice",
    ]  # fmt: skip
    assert found[3].body == b"+OK\n\n\n\n"
    event = event_of(found[4].body)
    assert (event.name, event.uuid, event.variable("x")) == ("CHANNEL_ANSWER", "a b", "ö%")


def test_an_event_s_body_is_what_follows_its_headers() -> None:
    event = event_of(b'Event-Name: BACKGROUND_JOB\nContent-Length: 10\n\n{\n\n"a": 1}')
    assert json.loads(event.body) == {"a": 1}


def test_a_body_that_is_too_long_is_passed_over_without_being_kept() -> None:
    frames = Frames()
    size = event_socket.EVENT_OCTETS_MAX + 1
    head = b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % size
    found = list(frames.feed(head))
    for _ in range(size // 1000):
        found += frames.feed(bytes(1000))
        assert len(frames._buffer) == 0
    found += frames.feed(bytes(size % 1000) + b"Content-Type: auth/request\n\n")
    assert [(frame.kind, frame.passed_over) for frame in found] == [
        ("text/event-plain", True), ("auth/request", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "stream",
    [
        b"x" * (event_socket.HEAD_OCTETS_MAX + 1),
        b"Content-Length: -1\n\n",
        b"Content-Length: x\n\n",
    ],
)
def test_what_is_no_event_socket_s_language_is_an_error(stream: bytes) -> None:
    with pytest.raises(BrokenFrame):
        list(Frames().feed(stream))


def test_a_list_of_channels_has_uuids_or_is_an_error() -> None:
    assert channels_of('{"row_count":0}') == set()
    assert channels_of('{"row_count":2,"rows":[{"uuid":"a"},{"uuid":"b c"}]}') == {"a"}
    for wrong in ("-ERR no reply", "[]", "{}"):
        with pytest.raises(ValueError):  # noqa: PT011 - JSONDecodeError is one
            channels_of(wrong)


# ------------------------------------------------------------------ journal and spool


def at_once(work: Callable[[], None]) -> Deferred[None]:
    """What the agent does in a thread."""
    try:
        work()
    except OSError:
        return fail()
    return succeed(None)


def new_spool(folder: Path, in_thread: Callable[[Any], Deferred[None]] = at_once) -> Spool:
    spool = Spool(
        lambda snapshot: Journal(
            folder, in_thread=in_thread, snapshot=snapshot, seconds=Clock().seconds
        )
    )
    spool.open(1000 * RECORD_OCTETS)
    return spool


def again(spool: Spool, folder: Path) -> Spool:
    """Another agent on the same folder, after the first one's end."""
    spool.journal._close(None)
    return new_spool(folder)


def about(spool: Spool) -> list[tuple[int, str]]:
    return [(record.status, record.key) for record in spool.records.values()]


def test_what_is_not_acknowledged_is_there_again_in_its_order(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    spool.add(START, "a", 100, [(1, b"x"), (attribute.CISCO_AVPAIR, b"\xff\x00")])
    spool.add(START, "b", 101, [])
    spool.add(STOP, "a", 102, [])
    spool.keep_leg(Leg("a", "inbound", {"sky_account": "ö"}, answered_us=5, told=["a"]))
    spool.keep_leg(Leg("gone"))
    spool.forget_leg("gone")
    spool.runs("core-1")
    spool.alive(77)
    spool.acknowledged(2)
    spool.add(ON, "", 103, [])
    before = [record.entry() for record in spool.records.values()]

    spool = again(spool, tmp_path)
    assert [record.entry() for record in spool.records.values()] == before
    assert about(spool) == [(START, "a"), (STOP, "a"), (ON, "")]
    assert all(record.durable for record in spool.records.values())
    assert spool.legs == {"a": Leg("a", "inbound", {"sky_account": "ö"}, answered_us=5, told=["a"])}
    assert (spool.core, spool.alive_us) == ("core-1", 77)
    spool.add(STOP, "c", 104, [])
    assert max(spool.records) == 5, "a number is used once"


def test_an_update_that_waits_is_replaced_by_what_comes_later(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    for key, status in (("a", START), ("a", INTERIM), ("b", INTERIM), ("a", INTERIM)):
        spool.add(status, key, 100, [])
    assert about(spool) == [(START, "a"), (INTERIM, "b"), (INTERIM, "a")]
    spool.add(STOP, "a", 101, [])
    assert about(spool) == [(START, "a"), (INTERIM, "b"), (STOP, "a")]
    assert about(again(spool, tmp_path)) == about(spool)


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_a_torn_last_line_costs_itself_alone(tmp_path: Path, cut: int) -> None:
    spool = new_spool(tmp_path)
    for number in range(3):
        spool.add(STOP, f"call-{number}", 100, [])
    spool.journal._close(None)
    file = tmp_path / "journal"
    file.write_bytes(file.read_bytes()[:-cut])
    spool = new_spool(tmp_path)
    assert about(spool) == [(STOP, "call-0"), (STOP, "call-1")]
    assert spool.journal.dropped_lines == 1
    spool.add(STOP, "call-3", 100, [])
    assert about(again(spool, tmp_path)) == [(STOP, f"call-{number}") for number in (0, 1, 3)]


def test_two_agents_never_share_a_spool(tmp_path: Path) -> None:
    new_spool(tmp_path)
    with pytest.raises(SpoolInUse, match="another agent"):
        new_spool(tmp_path)


def test_the_journal_is_written_anew_when_it_has_grown(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    spool.add(STOP, "stays", 100, [])
    spool.keep_leg(Leg("runs"))
    octets = (1, bytes(200))
    for number in range(6000):
        spool.add(STOP, f"call-{number}", 100, [octets] * 2)
        spool.acknowledged(max(spool.records))
    assert spool.journal.octets < 2 << 20
    assert (tmp_path / "journal").stat().st_size == spool.journal.octets
    spool.journal.close()
    spool = new_spool(tmp_path)
    assert about(spool) == [(STOP, "stays")]
    assert list(spool.legs) == ["runs"]


def test_a_full_spool_drops_beginnings_before_ends(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    for number in range(2000):
        spool.add(START, f"call-{number}", 100, [])
    assert len(spool.records) == 750
    for number in range(2000):
        spool.add(STOP, f"call-{number}", 100, [])
    assert len(spool.records) == 1000
    assert spool.counts["dropped"] == 2000 - 750 + 2000 - 250


def test_without_a_disk_records_are_sent_all_the_same_and_written_when_it_is_back(
    tmp_path: Path,
) -> None:
    broken = [True]

    def in_thread(work: Callable[[], None]) -> Deferred[None]:
        def maybe() -> None:
            if broken[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            work()

        return at_once(maybe)

    spool = new_spool(tmp_path, in_thread)
    spool.add(STOP, "a", 100, [])
    assert spool.records[1].durable
    assert "No space left" in spool.journal.broken
    broken[0] = False
    spool.add(STOP, "b", 100, [])
    assert not spool.journal.broken
    assert about(again(spool, tmp_path)) == [(STOP, "a"), (STOP, "b")]


def test_a_record_waits_for_its_fsync_and_many_share_one(tmp_path: Path) -> None:
    writes: list[tuple[Callable[[], None], Deferred[None]]] = []

    def later(work: Callable[[], None]) -> Deferred[None]:
        writes.append((work, Deferred()))
        return writes[-1][1]

    spool = new_spool(tmp_path, later)
    ready: list[int] = []
    spool.ready = lambda: ready.append(1)
    for number in range(10):
        spool.add(STOP, f"call-{number}", 100, [])
    assert len(writes) == 1
    assert not any(record.durable for record in spool.records.values())
    for expected in (1, 10):
        work, done = writes[-1]
        work()
        done.callback(None)
        assert len(ready) == expected
    assert len(writes) == 2


# ------------------------------------------------------------------ delivery


class Wire:
    """RADIUS servers that the test answers for."""

    def __init__(self, folder: Path, *, servers: int = 2, tries: int = 2) -> None:
        self.clock = Clock()
        self.spool = new_spool(folder)
        addresses = [(f"192.0.2.{place}", 1813) for place in range(1, servers + 1)]
        self.servers = Servers(addresses, SECRET, clock=self.clock, timeout_seconds=1, tries=tries)
        self.sent: list[tuple[str, bytes]] = []
        for server in self.servers._servers:
            setattr(server, "_port", self)  # noqa: B010 - it is written to and nothing else
        self.delivery = Delivery(self.spool, self.servers, clock=self.clock, now=self.now)
        self.spool.ready = self.delivery.wake

    def now(self) -> float:
        return 1000.0 + self.clock.seconds()

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        self.sent.append((address[0], datagram))

    def answer(self, place: int = -1, *, secret: Secret = SECRET, source: str = "") -> None:
        host, datagram = self.sent[place]
        reply = encode_reply(
            ACCOUNTING_RESPONSE, decode(datagram), secret, [], message_authenticator=False
        )
        for server in self.servers._servers:
            if server.address[0] == host:
                server._heard(reply, (source or host, 1813))

    def keys(self) -> list[str]:
        return [
            dict(decode(datagram).attributes).get(attribute.ACCT_SESSION_ID, b"").decode()
            for _, datagram in self.sent
        ]


def delay(datagram: bytes) -> int:
    return int.from_bytes(dict(decode(datagram).attributes)[attribute.ACCT_DELAY_TIME], "big")


def key_of(key: str) -> list[tuple[int, bytes]]:
    return [(attribute.ACCT_SESSION_ID, key.encode())]


def test_the_same_octets_again_then_another_server_with_a_grown_delay(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    wire.spool.add(STOP, "a", 990, key_of("a"))
    wire.clock.pump([1.0, 1.0, 1.0])
    hosts = [host for host, _ in wire.sent]
    assert hosts == ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"]
    first, again_, other, _ = [datagram for _, datagram in wire.sent]
    assert first == again_
    assert first != other
    assert (delay(first), delay(other)) == (10, 12)
    wire.answer()
    assert wire.spool.records == {}
    # Whoever answered is asked first.
    wire.spool.add(STOP, "b", 990, key_of("b"))
    assert wire.sent[-1][0] == "192.0.2.2"


def test_a_record_leaves_only_by_an_answer_with_a_right_authenticator(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    wire.spool.add(STOP, "a", 990, key_of("a"))
    wire.answer(secret=Secret(b"guessed"))
    wire.answer(source="192.0.2.99")
    assert about(wire.spool) == [(STOP, "a")]
    wire.answer()
    assert wire.spool.records == {}
    assert wire.servers.counts["forged"] == 1
    assert wire.servers.counts["ignored"] == 1


def test_records_of_a_call_go_one_after_another_and_others_beside_them(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    wire.spool.add(START, "warm", 1000, key_of("warm"))
    wire.answer()
    for key, status in (("a", START), ("a", STOP), ("b", START), ("c", START)):
        wire.spool.add(status, key, 1000, key_of(key))
    assert wire.keys() == ["warm", "a", "b"]
    wire.answer(2)
    wire.answer(1)
    assert wire.keys() == ["warm", "a", "b", "c", "a"]


def test_an_accounting_on_waits_for_all_and_all_wait_for_it(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    wire.delivery._window = 64
    wire.spool.add(STOP, "a", 1000, key_of("a"))
    wire.spool.add(ON, "", 1000, [])
    wire.spool.add(START, "b", 1000, key_of("b"))
    assert wire.keys() == ["a"]
    wire.answer()
    assert wire.keys() == ["a", ""]
    wire.answer()
    assert wire.keys() == ["a", "", "b"]


def test_silent_servers_are_probed_with_one_record_more_and_more_seldom(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    for number in range(500):
        wire.spool.add(STOP, f"call-{number}", 1000, key_of(f"call-{number}"))
    wire.clock.pump([0.5] * 1200)
    assert set(wire.keys()) == {"call-0"}
    # 600 seconds, a round of four packets takes 4, and then at most 30 go by.
    assert 4 * 600 / 34 <= len(wire.sent) < 4 * 30
    assert wire.delivery.silent_since is not None
    # They are back: from the first answer on many go at once.
    place = len(wire.sent)
    for _ in range(80):
        wire.clock.advance(0.5)
        while place < len(wire.sent):
            wire.answer(place)
            place += 1
    assert wire.spool.records == {}
    assert wire.delivery.silent_since is None


def test_a_record_that_alone_is_not_acknowledged_holds_up_nobody(tmp_path: Path) -> None:
    wire = Wire(tmp_path, servers=1)
    wire.delivery._window = 64
    for number in range(200):
        wire.spool.add(STOP, f"call-{number}", 1000, key_of(f"call-{number}"))
    place = 0
    for _ in range(40):
        while place < len(wire.sent):
            if wire.keys()[place] != "call-7":
                wire.answer(place)
            place += 1
        wire.clock.advance(0.25)
    assert about(wire.spool) == [(STOP, "call-7")]
    tried = wire.keys().count("call-7")
    assert 2 <= tried <= 12
    # Nothing else happens any more, and it is tried again all the same.
    wire.clock.pump([1.0] * 130)
    assert tried < wire.keys().count("call-7") <= tried + 20
    wire.answer(len(wire.sent) - 1)


# ------------------------------------------------------------------ records


@pytest.fixture(scope="module")
def switch() -> Iterator[FreeSwitch]:
    made = FreeSwitch()
    yield made
    made.close()


def heard(switch: FreeSwitch, name: str, channel: Any) -> event_socket.Event:
    return event_of(switch.serialized(name, channel.headers()).encode())


def read(status: int, attributes: list[tuple[int, bytes]]) -> AccountingCall:
    """What a server of type freeswitch makes of it."""
    record = records.Record(1, status, "", 1_790_000_000, attributes)
    datagram = encode_request(
        ACCOUNTING_REQUEST, 1, SECRET, record.packet_attributes(1_790_000_007.5)
    )

    class Asked:
        packet = decode(datagram)
        source = ("192.0.2.1", 1)

    asked: Any = Asked()  # all that is read
    return Freeswitch().account(asked, datetime.now(UTC))


def test_a_stop_is_read_as_mod_xml_radius_s_is(switch: FreeSwitch) -> None:
    channel = switch.create(
        sky_key="call/2", sky_account="alice", sky_ani="34600111222", sky_called="442071838750",
        sky_route="RG_22", sky_bill_msec="61500", sky_leg="caller", Class="sky-aaa:call/2",
    )  # fmt: skip
    switch.answer(channel, ago=100)
    channel.hungup_us = channel.answered_us + 100_000_000
    channel.variables |= {
        "billsec": "100", "billmsec": "100020", "hangup_cause": "NORMAL_CLEARING",
        "hangup_cause_q850": "16",
    }  # fmt: skip
    event = heard(switch, "CHANNEL_HANGUP_COMPLETE", channel)
    leg = Leg(channel.uuid)
    leg.learn(event)
    call = read(STOP, records.stop(leg, event, []))
    assert (call.status, call.session_key, call.duration_ms) == ("stop", "call/2", 61_500)
    assert (call.origin.account_code, call.origin.ani) == ("alice", "34600111222")
    assert (call.called, call.route, call.cause) == ("442071838750", "RG_22", "NORMAL_CLEARING")
    assert call.unauthorized
    assert call.event_at.timestamp() == 1_790_000_000


def test_a_called_leg_s_start_and_update_are_about_the_caller_s_call(switch: FreeSwitch) -> None:
    channel = switch.create(direction="outbound", sky_leg="callee", sky_key="k", sky_account="al")
    switch.answer(channel, ago=10)
    leg = Leg(channel.uuid)
    leg.learn(heard(switch, "CHANNEL_ANSWER", channel))
    assert leg.carried == ["k"]
    assert not leg.pays
    for status, attributes in (
        (START, records.start(leg, "k", [])),
        (INTERIM, records.interim(leg, "k", 10, [])),
    ):
        call = read(status, attributes)
        assert (call.session_key, call.origin.account_code, call.unauthorized) == ("k", "al", True)
    assert call.duration_ms == 10_000


def test_what_a_caller_controls_is_cut_and_never_spoils_a_packet(switch: FreeSwitch) -> None:
    long = "ö" * 4000
    channel = switch.create(
        caller=long, called=long, sky_account=long, sip_call_id=long, Class=long, sky_route=long,
        sip_network_ip=long, hangup_cause=long, sky_key=long, sky_bill_msec=long,
    )  # fmt: skip
    switch.answer(channel)
    event = heard(switch, "CHANNEL_HANGUP_COMPLETE", channel)
    leg = Leg(channel.uuid)
    leg.learn(event)
    call = read(STOP, records.stop(leg, event, []))
    # What is no key names no call: the channel's own uuid does.
    assert call.session_key == channel.uuid
    assert len(leg.value("sky_account")) <= 247


@pytest.mark.parametrize(
    ("direction", "role", "pays"),
    [
        ("inbound", "", True), ("inbound", "caller", True), ("inbound", "callee", False),
        ("inbound", "none", False), ("outbound", "", False), ("outbound", "caller", True),
        ("outbound", "callee", False),
    ],
)  # fmt: skip
def test_which_legs_pay(direction: str, role: str, pays: bool) -> None:
    leg = Leg("a", direction, {"sky_leg": role} if role else {})
    assert leg.pays == pays


def test_times_are_written_in_utc() -> None:
    assert records.clock(1_767_345_300_250_999) == "09:15:00.250 UTC Fri Jan 02 2026"


# ------------------------------------------------------------------ slices


@pytest.mark.parametrize(
    ("left", "after"),
    [(60, 50), (21, 11), (20, 10), (10, 5), (3, 1.5), (2, 1), (1.9, None), (-5, None)],
)
def test_when_the_next_slice_is_asked_for(left: float, after: float | None) -> None:
    assert ask_after(left, 10) == after


def answered(code: int, *attributes: tuple[int, bytes]) -> Packet:
    asked = decode(encode_request(1, 1, SECRET, [], authenticator=bytes(16)))
    return decode(encode_reply(code, asked, SECRET, attributes, message_authenticator=True))


def test_what_is_missing_in_an_answer_is_never_more_time() -> None:
    ok = (attribute.H323_RETURN_CODE, b"h323-return-code=0")
    no = (attribute.H323_RETURN_CODE, b"h323-return-code=4")
    minute = (attribute.SESSION_TIMEOUT, (60).to_bytes(4, "big"))
    ever = (attribute.SESSION_TIMEOUT, b"\xff\xff\xff\xff")
    hour = (attribute.H323_CREDIT_TIME, b"h323-credit-time=3600")
    last = (attribute.H323_CREDIT_TIME, b"60")
    none = More(0, further=False)
    assert more_of(answered(ACCESS_ACCEPT, ok, minute, hour)) == More(60, further=True)
    assert more_of(answered(ACCESS_ACCEPT, ok, minute, last)) == More(60, further=False)
    assert more_of(answered(ACCESS_ACCEPT, ok, minute)) == More(60, further=False)
    for wrong in ([ok], [minute, hour], [no, minute, hour], [ok, ever, hour]):
        assert more_of(answered(ACCESS_ACCEPT, *wrong)) == none
    assert more_of(answered(ACCESS_REJECT, ok, minute, hour)) == none
