"""Disconnect-Request and CoA-Request: what is sent when, and which answers count (RFC 5176)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyrad import packet as pyrad_packet
from pyrad.dictionary import Dictionary

from aaa_server.radius import attribute
from aaa_server.radius.dictionary import DIRECTORY
from aaa_server.radius.disconnect import (
    ATTEMPTS_MAX,
    EXCHANGES_MAX,
    Answer,
    Exchanges,
    Session,
    session_attributes,
)
from aaa_server.radius.packet import (
    COA_REQUEST,
    DISCONNECT_REQUEST,
    Secret,
    decode,
    encode_reply,
)
from aaa_server.radius.value import token

if TYPE_CHECKING:
    from aaa_server.radius.disconnect import Address

SECRET, OTHER = Secret(b"testing123"), Secret(b"another")
ALICE = Session("call-1", "alice", "192.0.2.7")
SWITCH: Address = ("192.0.2.7", 3799)
AT = 1_795_000_000
DICTIONARY = Dictionary(str(DIRECTORY / "dictionary"))


def exchanges() -> Exchanges:
    return Exchanges(lambda: 0.5)  # in the middle: no spread


def begun(
    *,
    order: int = 1,
    code: int = DISCONNECT_REQUEST,
    secrets: tuple[Secret, ...] = (SECRET,),
    session: Session = ALICE,
) -> tuple[Exchanges, bytes]:
    """One order under way, and its first datagram."""
    made = exchanges()
    made.begin(order, code, SWITCH, secrets, session_attributes(session, at=AT), 0.0)
    [(sent, datagram, address)] = made.due(0.0)
    assert (sent, address) == (order, SWITCH)
    return made, datagram


def reply(asked: bytes, code: int, *, cause: int | None = None, secret: Secret = SECRET) -> bytes:
    attributes = [] if cause is None else [(attribute.ERROR_CAUSE, cause.to_bytes(4, "big"))]
    return encode_reply(code, decode(asked), secret, attributes, message_authenticator=True)


@pytest.mark.parametrize("code", [DISCONNECT_REQUEST, COA_REQUEST])
def test_another_codec_takes_the_request_for_authentic(code: int) -> None:
    _, datagram = begun(code=code)
    peer = pyrad_packet.CoAPacket(secret=SECRET.octets, packet=datagram, dict=DICTIONARY, code=code)
    assert peer.VerifyCoARequest()
    assert peer.verify_message_authenticator()
    assert peer.code == code
    assert peer["Acct-Session-Id"] == ["call-1"]
    assert peer["User-Name"] == ["alice"]
    assert peer["NAS-IP-Address"] == ["192.0.2.7"]
    assert peer[55] == [AT.to_bytes(4, "big")]


def test_an_answer_of_another_codec_is_taken() -> None:
    made, datagram = begun()
    peer = pyrad_packet.CoAPacket(
        secret=SECRET.octets, packet=datagram, dict=DICTIONARY, code=DISCONNECT_REQUEST
    )
    answer = peer.CreateReply()
    answer.code = 42
    answer["Error-Cause"] = "Session-Context-Not-Found"
    assert made.received(answer.ReplyPacket(), SWITCH) == Answer(1, False, 503)


def test_a_switch_of_ipv6_is_named_by_that() -> None:
    session = Session("call-1", "", "2001:db8::7")
    attributes = dict(session_attributes(session, at=AT))
    assert attribute.NAS_IP_ADDRESS not in attributes
    assert attribute.USER_NAME not in attributes
    assert attributes[attribute.NAS_IPV6_ADDRESS].hex() == "20010db8000000000000000000000007"


def test_the_session_is_named_as_the_switch_named_it() -> None:
    conference = "1A2B3C4D 5E6F0011 22334455 66778899"
    attributes = dict(session_attributes(Session(conference), at=AT))
    assert attributes[attribute.H323_CONF_ID] == f"h323-conf-id={conference}".encode()
    assert attribute.ACCT_SESSION_ID not in attributes
    for octets in (b"\x00\x01\xff", b"0x41", b"0xzz", b"plain"):
        attributes = dict(session_attributes(Session(token(octets)), at=AT))
        assert attributes[attribute.ACCT_SESSION_ID] == octets


def test_an_ack_ends_the_exchange_and_its_duplicate_says_nothing() -> None:
    made, datagram = begun(order=7)
    ack = reply(datagram, 41)
    assert made.received(ack, SWITCH) == Answer(7, True, None)
    assert made.received(ack, SWITCH) is None
    assert made.due(100.0) == []
    assert made.room == EXCHANGES_MAX


def test_a_nak_says_why() -> None:
    made, datagram = begun()
    answer = made.received(reply(datagram, 42, cause=503), SWITCH)
    assert answer == Answer(1, False, 503)
    assert answer.gone
    made, datagram = begun()
    answer = made.received(reply(datagram, 42, cause=501), SWITCH)
    assert answer is not None
    assert not answer.gone
    made, datagram = begun()
    assert made.received(reply(datagram, 42), SWITCH) == Answer(1, False, None)


def test_what_is_no_authentic_answer_is_ignored() -> None:
    made, datagram = begun()
    genuine = reply(datagram, 41)
    spoiled = bytearray(genuine)
    spoiled[-1] ^= 1
    _, of_another = begun(session=Session("call-2"))
    for forged, source in (
        (b"", SWITCH),
        (genuine, ("192.0.2.8", 3799)),
        (genuine, ("192.0.2.7", 3800)),
        (bytes(spoiled), SWITCH),
        (reply(datagram, 41, secret=OTHER), SWITCH),
        (reply(of_another, 41), SWITCH),
        (reply(datagram, 44), SWITCH),
        (reply(datagram, 2), SWITCH),
        (genuine[:20], SWITCH),
        (bytes((41, 200)) + genuine[2:], SWITCH),
        (genuine[:2] + b"\xff\xff" + genuine[4:], SWITCH),
    ):
        assert made.received(forged, source) is None
    assert made.received(genuine, SWITCH) == Answer(1, True, None)


def test_every_truncation_of_an_answer_is_ignored() -> None:
    made, datagram = begun()
    genuine = reply(datagram, 42, cause=503)
    for length in range(len(genuine)):
        assert made.received(genuine[:length], SWITCH) is None
    assert made.received(genuine, SWITCH) is not None


def test_it_is_sent_again_ever_more_slowly_and_then_given_up() -> None:
    made, first = begun()
    sent = [0.0]
    now = 0.0
    while not (lost := made.given_up(now)):
        now += 0.5
        for _, datagram, _ in made.due(now):
            assert datagram == first  # RFC 5176 §2.3: identifier and authenticator stay
            sent.append(now)
        assert now < 200
    assert lost == [1]
    assert sent == [0.0, 2.0, 6.0, 14.0, 30.0, 46.0]
    assert len(sent) == ATTEMPTS_MAX
    assert now == 62.0
    assert made.received(reply(first, 41), SWITCH) is None  # too late


def test_while_a_secret_is_changed_both_are_tried() -> None:
    made, first = begun(secrets=(SECRET, OTHER))
    [(_, second, _)] = made.due(2.0)
    assert first != second
    assert made.received(reply(second, 41, secret=OTHER), SWITCH) == Answer(1, True, None)


def test_as_many_as_identifiers_allow_are_under_way() -> None:
    made = exchanges()
    attributes = session_attributes(Session("call"), at=AT)
    for order in range(EXCHANGES_MAX):
        made.begin(order, DISCONNECT_REQUEST, SWITCH, [SECRET], attributes, 0.0)
    assert made.room == 0
    sent = made.due(0.0)
    assert len({datagram[1] for _, datagram, _ in sent}) == EXCHANGES_MAX
    for order, datagram, _ in sent[:100]:
        assert made.received(reply(datagram, 41), SWITCH) == Answer(order, True, None)
    for order in range(1000, 1100):
        made.begin(order, DISCONNECT_REQUEST, SWITCH, [SECRET], attributes, 1.0)
    again = {datagram[1] for _, datagram, _ in made.due(1.0)}
    assert len(again) == 100
    made.forget()
    assert made.room == EXCHANGES_MAX
