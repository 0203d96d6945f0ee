"""Who is listened to: authenticators, Message-Authenticator, Proxy-State, duplicates."""

from __future__ import annotations

import pytest

from aaa_server.radius.client import ACCT, AUTH
from aaa_server.radius.packet import Secret
from aaa_server.radius.receive import ANSWER_KEPT_SECONDS, Discard, Fresh, Resend
from tests.radius.peer import (
    SECRET,
    SOURCE,
    Wire,
    access_request,
    accounting_request,
    client_of,
    status_request,
)

PROXIED = [(33, b"hop"), (1, b"acme")]
PLAIN = [(1, b"acme")]
START = [(40, b"\0\0\0\1"), (44, b"call-1")]
OTHER = Secret(b"the one before")


def outcome(wire: Wire, datagram: bytes, role: str = AUTH) -> str:
    received = wire.send(datagram, role=role)
    return received.reason if isinstance(received, Discard) else type(received).__name__.lower()


# ------------------------------------------------------------------ who and what


def test_a_stranger_hears_nothing_and_is_counted() -> None:
    wire = Wire(client_of(network="198.51.100.0/24"))
    assert wire.send(access_request(PLAIN)) == Discard("unknown-client")
    assert wire.receiver.counts == {(AUTH, "requests"): 1, (AUTH, "unknown-client"): 1}


@pytest.mark.parametrize(
    ("datagram", "role", "expected"),
    [
        (access_request(PLAIN), AUTH, "fresh"),
        (access_request(PLAIN), ACCT, "unknown-code"),
        (accounting_request(START), ACCT, "fresh"),
        (accounting_request(START), AUTH, "unknown-code"),
        (status_request(), AUTH, "fresh"),
        (status_request(), ACCT, "fresh"),
        # Replies, Access-Challenge, CoA, and codes that nobody has.
        *((bytes((code,)) + access_request(PLAIN)[1:], AUTH, "unknown-code")
          for code in (0, 2, 3, 5, 11, 13, 40, 43, 255)),
        (b"\x05" + accounting_request(START)[1:], ACCT, "unknown-code"),
    ],
)  # fmt: skip
def test_each_port_takes_its_own_requests(datagram: bytes, role: str, expected: str) -> None:
    assert outcome(Wire(), datagram, role) == expected


def test_a_client_may_be_kept_to_one_role() -> None:
    wire = Wire(client_of(roles=frozenset((ACCT,))))
    assert outcome(wire, access_request(PLAIN)) == "wrong-role"
    assert outcome(wire, accounting_request(START), ACCT) == "fresh"


def test_a_malformed_packet_is_counted_by_its_reason() -> None:
    wire = Wire()
    assert outcome(wire, b"\1\1\0\x15" + bytes(17)) == "malformed-attribute"
    assert wire.receiver.counts[AUTH, "malformed-attribute"] == 1


# ------------------------------------------------------------------ authenticators


@pytest.mark.parametrize(
    ("datagram", "role", "expected"),
    [
        (accounting_request(START, secret=OTHER), ACCT, "bad-authenticator"),
        (accounting_request(START, signed=True), ACCT, "fresh"),
        (accounting_request([(80, bytes(16)), *START]), ACCT, "bad-message-authenticator"),
        (access_request(PLAIN, secret=OTHER), AUTH, "bad-message-authenticator"),
        (access_request([(80, bytes(16)), *PLAIN], signed=False), AUTH,
         "bad-message-authenticator"),
        (status_request(signed=False), AUTH, "no-message-authenticator"),
    ],
)  # fmt: skip
def test_a_wrong_signature_is_dropped(datagram: bytes, role: str, expected: str) -> None:
    for client_type in ("rfc", "freeswitch"):
        assert outcome(Wire(client_of(client_type)), datagram, role) == expected


def test_a_message_authenticator_is_checked_in_any_position() -> None:
    signed = access_request(PLAIN)
    attribute, rest = signed[20:38], signed[38:]
    # Moved behind the others the value no longer fits: it covers the octets in their order.
    moved = signed[:20] + rest + attribute
    assert outcome(Wire(), moved) == "bad-message-authenticator"
    zeroed = signed[:20] + rest + attribute[:2] + bytes(16)
    right = zeroed[:-16] + SECRET.sign(zeroed)
    assert outcome(Wire(), right) == "fresh"


# What an Access-Request needs, by require_message_authenticator and limit_proxy_state.
@pytest.mark.parametrize(
    ("require", "limit", "signed", "proxied", "expected"),
    [
        ("yes", "no", True, True, "fresh"),
        ("yes", "no", False, False, "no-message-authenticator"),
        ("no", "no", False, False, "fresh"),
        ("no", "no", False, True, "fresh"),
        ("no", "yes", False, False, "fresh"),
        ("no", "yes", False, True, "proxy-state"),
        ("no", "yes", True, True, "fresh"),
        ("no", "auto", False, True, "fresh"),
        ("auto", "yes", False, False, "fresh"),
        ("auto", "yes", False, True, "proxy-state"),
        ("auto", "auto", True, True, "fresh"),
    ],
)
def test_what_an_access_request_must_carry(
    require: str, limit: str, signed: bool, proxied: bool, expected: str
) -> None:
    wire = Wire(client_of(require_message_authenticator=require, limit_proxy_state=limit))
    attributes = PROXIED if proxied else PLAIN
    assert outcome(wire, access_request(attributes, signed=signed)) == expected


def test_eap_is_never_unsigned() -> None:
    wire = Wire(client_of("freeswitch"))
    assert outcome(wire, access_request([(79, b"x")], signed=False)) == "no-message-authenticator"


def test_auto_becomes_yes_with_the_first_signed_request_and_is_reported_once() -> None:
    wire = Wire(client_of(require_message_authenticator="auto"))
    unsigned = access_request(PLAIN, signed=False, identifier=1)
    assert outcome(wire, unsigned) == "fresh"
    forged = access_request(PLAIN, secret=OTHER, identifier=2)
    assert outcome(wire, forged) == "bad-message-authenticator"
    assert wire.receiver.newly_signing == set()
    assert outcome(wire, access_request(PLAIN, identifier=3)) == "fresh"
    later = access_request(PLAIN, signed=False, identifier=4)
    assert outcome(wire, later) == "no-message-authenticator"
    assert wire.receiver.newly_signing == {7}
    wire.receiver.newly_signing.clear()  # it is stored
    assert outcome(wire, access_request(PLAIN, identifier=5)) == "fresh"
    assert outcome(wire, later) == "no-message-authenticator"


def test_auto_that_was_remembered_is_yes_from_the_beginning() -> None:
    wire = Wire(client_of(require_message_authenticator="auto", message_authenticator_seen=True))
    assert outcome(wire, access_request(PLAIN, signed=False)) == "no-message-authenticator"
    assert outcome(wire, access_request(PLAIN)) == "fresh"
    assert wire.receiver.newly_signing == set()


def test_a_signed_status_or_accounting_request_teaches_nothing() -> None:
    wire = Wire(client_of(require_message_authenticator="auto"))
    assert outcome(wire, status_request()) == "fresh"
    assert outcome(wire, accounting_request(START, signed=True), ACCT) == "fresh"
    assert outcome(wire, access_request(PLAIN, signed=False, identifier=2)) == "fresh"


@pytest.mark.parametrize(
    ("first_proxied", "first_signed", "expected"),
    [
        (True, False, "fresh"),  # an old proxy: it may go on
        (False, False, "proxy-state"),
        (True, True, "proxy-state"),
        (False, True, "proxy-state"),
    ],
)
def test_limit_proxy_state_auto_follows_the_first_access_request(
    first_proxied: bool, first_signed: bool, expected: str
) -> None:
    wire = Wire(client_of(require_message_authenticator="no", limit_proxy_state="auto"))
    first = access_request(PROXIED if first_proxied else PLAIN, signed=first_signed)
    assert outcome(wire, first) == "fresh"
    assert outcome(wire, access_request(PROXIED, signed=False, identifier=2)) == expected


# ------------------------------------------------------------------ two secrets


def test_either_secret_is_taken_during_a_rotation() -> None:
    wire = Wire(client_of("freeswitch", secrets=(SECRET, OTHER)))
    for number, secret in enumerate((SECRET, OTHER)):
        signed = access_request(PLAIN, secret=secret, identifier=number)
        assert wire.fresh(signed).secret is secret
        start = accounting_request(START, secret=secret, identifier=number)
        assert wire.fresh(start, role=ACCT).secret is secret
    third = accounting_request(START, secret=Secret(b"third"), identifier=9)
    assert outcome(wire, third, ACCT) == "bad-authenticator"


def test_an_unsigned_request_is_taken_by_the_secret_that_its_accounting_fitted() -> None:
    wire = Wire(client_of("freeswitch", secrets=(SECRET, OTHER)))
    unsigned = access_request(PLAIN, signed=False)
    assert wire.fresh(unsigned, source=("192.0.2.1", 1)).secret is SECRET
    wire.fresh(accounting_request(START, secret=OTHER), source=("192.0.2.1", 2), role=ACCT)
    assert wire.fresh(unsigned, source=("192.0.2.1", 3)).secret is OTHER
    assert wire.fresh(unsigned, source=("192.0.2.2", 3)).secret is SECRET


# ------------------------------------------------------------------ duplicates

FIRST = access_request(PLAIN, authenticator=b"a" * 16)


@pytest.mark.parametrize(
    ("second", "source", "role", "expected"),
    [
        (FIRST, SOURCE, AUTH, Resend),
        (FIRST + b"\0\0", SOURCE, AUTH, Resend),
        (FIRST, ("192.0.2.7", 40_001), AUTH, Fresh),
        (FIRST, ("192.0.2.8", 40_000), AUTH, Fresh),
        (access_request(PLAIN, authenticator=b"b" * 16), SOURCE, AUTH, Fresh),
        (access_request(PLAIN, authenticator=b"a" * 16, identifier=2), SOURCE, AUTH, Fresh),
        (status_request(), SOURCE, AUTH, Fresh),
        (accounting_request(START), SOURCE, ACCT, Fresh),
    ],
)
def test_a_duplicate_has_the_same_source_code_identifier_and_authenticator(
    second: bytes, source: tuple[str, int], role: str, expected: type
) -> None:
    wire = Wire()
    wire.receiver.answered(wire.fresh(FIRST), b"the reply")
    received = wire.send(second, source=source, role=role)
    assert type(received) is expected
    if isinstance(received, Resend):
        assert received.reply == b"the reply"


def test_a_duplicate_of_what_is_being_answered_is_dropped() -> None:
    wire = Wire()
    first = wire.fresh(FIRST)
    assert wire.send(FIRST) == Discard("duplicate")
    wire.receiver.answered(first, b"the reply")
    assert wire.send(FIRST) == Resend(b"the reply")
    assert wire.receiver.counts[AUTH, "duplicate"] == 2


def test_an_answer_is_kept_for_thirty_seconds() -> None:
    wire = Wire()
    wire.receiver.answered(wire.fresh(FIRST), b"the reply")
    wire.now += ANSWER_KEPT_SECONDS - 0.001
    assert wire.send(FIRST) == Resend(b"the reply")
    wire.now += 0.001
    assert type(wire.send(FIRST)) is Fresh


def test_the_thirty_seconds_begin_with_the_answer() -> None:
    wire = Wire()
    first = wire.fresh(FIRST)
    wire.now += 20
    wire.receiver.answered(first, b"the reply")
    wire.now += 20
    assert wire.send(FIRST) == Resend(b"the reply")


def test_what_gets_no_answer_is_asked_afresh() -> None:
    wire = Wire()
    wire.receiver.forget(wire.fresh(FIRST))
    again = wire.fresh(FIRST)
    # The identifier's next request has the slot now; the older one cannot take it away.
    new = wire.fresh(access_request(PLAIN, authenticator=b"b" * 16))
    wire.receiver.forget(again)
    wire.receiver.answered(new, b"of the new one")
    assert wire.send(access_request(PLAIN, authenticator=b"b" * 16)) == Resend(b"of the new one")


def test_an_unauthentic_packet_takes_no_slot() -> None:
    wire = Wire()
    wire.receiver.answered(wire.fresh(FIRST), b"the reply")
    forged = access_request(PLAIN, authenticator=b"c" * 16, secret=OTHER)
    assert outcome(wire, forged) == "bad-message-authenticator"
    assert wire.send(FIRST) == Resend(b"the reply")


def test_the_cache_is_bounded_and_the_oldest_leave_first() -> None:
    wire = Wire(duplicates_max=10)
    for port in range(1, 26):
        fresh = wire.fresh(FIRST, source=("192.0.2.7", port))
        wire.receiver.answered(fresh, b"%d" % port)
    assert len(wire.receiver._seen) == 10
    assert wire.send(FIRST, source=("192.0.2.7", 16)) == Resend(b"16")
    assert type(wire.send(FIRST, source=("192.0.2.7", 15))) is Fresh


def test_the_cache_shrinks_by_itself_when_little_comes() -> None:
    wire = Wire()
    for port in range(1, 101):
        wire.fresh(FIRST, source=("192.0.2.7", port))
    wire.now += ANSWER_KEPT_SECONDS
    for port in range(201, 301):
        wire.fresh(FIRST, source=("192.0.2.7", port))
    assert len(wire.receiver._seen) == 100


def test_a_reloaded_table_is_used_at_once() -> None:
    wire = Wire(client_of(network="198.51.100.0/24"))
    assert outcome(wire, FIRST) == "unknown-client"
    wire.receiver.clients = Wire(client_of()).receiver.clients
    assert outcome(wire, FIRST) == "fresh"
