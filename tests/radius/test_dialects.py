"""What each kind of switch says, in tables: attributes in, call out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrad import packet as pyrad_packet

from aaa_server.auth import Limits, charging_request
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    Chap,
    Credential,
    Digest,
    Origin,
    Pap,
)
from aaa_server.radius import attribute
from aaa_server.radius.dialect import DIALECTS
from aaa_server.radius.dialects import reply
from aaa_server.radius.dictionary import Names, load
from aaa_server.radius.packet import encode_reply
from tests.radius.peer import (
    NOW,
    RANDOM,
    SECRET,
    SOURCE,
    Attributes,
    Wire,
    client_of,
    fresh_access,
    fresh_accounting,
)

if TYPE_CHECKING:
    from aaa_server.radius.call import AccessCall, AccountingCall

DICTIONARY = load()
NAMES = Names(DICTIONARY)
TYPES = sorted(DIALECTS)
UUID = "7a94570d-5b0c-41b2-bcf2-5aca6585281b"


def attributes_of(*lines: str) -> Attributes:
    """`User-Name=acme` and the like; a password is hidden."""
    attributes = []
    for line in lines:
        name, _, text = line.partition("=")
        key, octets = NAMES.attribute(name, text)
        attributes.append((key, SECRET.hide(octets, RANDOM) if key == 2 else octets))
    return attributes


def asked(client_type: str, *lines: str, more: Attributes | None = None) -> AccessCall:
    fresh = fresh_access(attributes_of(*lines) + (more or []), client_of(client_type))
    return DIALECTS[client_type].access(fresh)


def reported(
    client_type: str, *lines: str, more: Attributes | None = None, **changes: Any
) -> AccountingCall:
    fresh = fresh_accounting(
        attributes_of(*lines) + (more or []), client_of(client_type, **changes)
    )
    return DIALECTS[client_type].account(fresh, NOW)


# ------------------------------------------------------------------ which service


CALL = ("Called-Station-Id=4420", "Acct-Session-Id=s1")


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize(
    ("lines", "service", "key"),
    [
        (CALL, "call", "s1"),
        ((*CALL, "User-Password=secret"), "call", "s1"),
        ((*CALL, "Service-Type=Call-Check"), "call", "s1"),
        ((*CALL, "Service-Type=Authenticate-Only"), "call", "s1"),
        (("Called-Station-Id=4420",), "call", "auth:" + RANDOM.hex()),
        (("Called-Station-Id=alice", "Acct-Session-Id=s1"), "call", "s1"),
        (("User-Name=acme", "User-Password=secret"), "authenticate", "auth:" + RANDOM.hex()),
        (("User-Name=acme", "Acct-Session-Id=s1"), "authenticate", "s1"),
        (("Called-Station-Id=", "User-Name=acme"), "authenticate", "auth:" + RANDOM.hex()),
    ],
)
def test_a_called_number_makes_it_a_call(
    client_type: str, lines: tuple[str, ...], service: str, key: str
) -> None:
    call = asked(client_type, *lines)
    assert (call.service, call.session_key, call.problem) == (service, key, "")


@pytest.mark.parametrize("client_type", [each for each in TYPES if each != "freeswitch"])
@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (("Acct-Session-Id=s1", "Cisco-AVPair=call-id=i1"), "s1"),
        (("h323-conf-id=h323-conf-id=c1", "Cisco-AVPair=call-id=i1"), "c1"),
        (("h323-conf-id=c1",), "c1"),
        (("Cisco-AVPair=call-id=i1",), "i1"),
        (("call-id=i1",), "i1"),
        (("Acct-Session-Id=", "h323-conf-id=", "Cisco-AVPair=call-id=-"), "auth:" + RANDOM.hex()),
    ],
)
def test_a_call_is_known_by_the_first_identifier_that_there_is(
    client_type: str, lines: tuple[str, ...], key: str
) -> None:
    assert asked(client_type, "Called-Station-Id=4420", *lines).session_key == key


@pytest.mark.parametrize(
    ("client_type", "key"), [("rfc", "s1"), ("kamailio", "s1"), ("cisco", "c1"), ("sippy", "c1")]
)
def test_what_all_legs_of_a_cisco_call_share_is_its_key(client_type: str, key: str) -> None:
    both = ("Acct-Session-Id=s1", "h323-conf-id=h323-conf-id=c1", "Cisco-AVPair=call-id=i1")
    assert asked(client_type, "Called-Station-Id=4420", *both).session_key == key
    assert reported(client_type, "Acct-Status-Type=Start", *both).session_key == key
    service = ("Service-Type=Authorize-Only", "Acct-Session-Time=61")
    assert asked(client_type, *service, *both).session_key == key


@pytest.mark.parametrize("client_type", ["cisco", "sippy", "rfc"])
@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("F0 1 2 ABCDEF01", "F0 1 2 ABCDEF01"),
        ("h323-conf-id=f0 1 2 abcdef01", "F0 1 2 ABCDEF01"),
        (" 000000F0  00000001 00000002 ABCDEF01 ", "F0 1 2 ABCDEF01"),
        ("0 0 0 0", "0 0 0 0"),
        ("000000F000000001 00000002 ABCDEF01", "000000F000000001 00000002 ABCDEF01"),
        ("000000f0000000010000000200abcdef", "F0 1 2 ABCDEF"),
        ("000000F0-0000-0001-0000-000200ABCDEF", "F0 1 2 ABCDEF"),
        ("F0 1 2 X", "F0 1 2 X"),
        ("some\tcall", "0x736f6d650963616c6c"),
        ("c1", "c1"),
        ("", ""),
    ],
)
def test_a_conference_is_the_same_however_it_is_written(
    client_type: str, said: str, key: str
) -> None:
    more: Attributes = [(attribute.H323_CONF_ID, said.encode())]
    assert reported(client_type, "Acct-Status-Type=Stop", more=more).session_key == key


CONFERENCE = "F0 1 2 3"
IN_IT = "h323-conf-id=h323-conf-id=f0 1 2 3"


@pytest.mark.parametrize("client_type", ["cisco", "sippy"])
@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (("Acct-Session-Id=s1", IN_IT), CONFERENCE),
        (("Acct-Session-Id=s1", IN_IT, "Class=sky-aaa:F0 1 2 3"), CONFERENCE),
        # Another call's Class: this one was authorised under its own conference.
        (("Acct-Session-Id=s1", IN_IT, "Class=sky-aaa:E0 1 2 3"), CONFERENCE),
        # The Access-Request had no conference, and another Acct-Session-Id.
        (("Acct-Session-Id=s1", IN_IT, "Class=sky-aaa:s2"), "s2"),
        (("Acct-Session-Id=s1", IN_IT, "Class=sky-aaa:s1"), "s1"),
        (("Acct-Session-Id=s1", IN_IT, f"Class=sky-aaa:{'ab' * 16}"), "ab" * 16),
        (("Acct-Session-Id=s1", IN_IT, "Class=sky-aaa:auth:00ff"), "auth:00ff"),
        # It had one, and accounting has none.
        (("Acct-Session-Id=s1", "Class=sky-aaa:F0 1 2 3"), CONFERENCE),
        (("Acct-Session-Id=s1", "Class=sky-aaa:s2"), "s2"),
        (("Class=sky-aaa:s2",), "s2"),
        (("Acct-Session-Id=s1", IN_IT, "Class=theirs"), CONFERENCE),
        (("Acct-Session-Id=s1", "Class=theirs"), "s1"),
        (("Acct-Session-Id=s1", "Class=sky-aaa:"), "s1"),
        (("Acct-Session-Id=s1",), "s1"),
        ((IN_IT,), CONFERENCE),
        (("Cisco-AVPair=call-id=i1",), "i1"),
    ],
)
def test_a_leg_of_ciscos_is_found_by_what_was_authorised(
    client_type: str, lines: tuple[str, ...], key: str
) -> None:
    assert reported(client_type, "Acct-Status-Type=Stop", *lines).session_key == key


@pytest.mark.parametrize("client_type", [each for each in TYPES if each != "freeswitch"])
def test_our_class_is_found_among_others(client_type: str) -> None:
    classes = ("Class=theirs", "Class=sky-aaa:", "Class=sky-aaa:s2", "Class=last")
    assert reported(client_type, "Acct-Status-Type=Stop", *classes).session_key == "s2"


def test_a_freeswitch_call_is_known_by_its_channel_alone() -> None:
    both = ("h323-conf-id=c1", "Cisco-AVPair=call-id=i1")
    assert asked("freeswitch", "Called-Station-Id=4420", *both).session_key.startswith("auth:")
    stop = reported("freeswitch", "Acct-Status-Type=Stop", "Class=sky-aaa:s9", *both)
    assert stop.session_key == ""


@pytest.mark.parametrize("client_type", ["rfc", "cisco", "sippy"])
@pytest.mark.parametrize(("lines", "seconds"), [(("Acct-Session-Time=61",), 61), ((), None)])
def test_authorize_only_asks_for_more_time(
    client_type: str, lines: tuple[str, ...], seconds: int | None
) -> None:
    call = asked(client_type, *CALL, "Service-Type=Authorize-Only", *lines)
    assert (call.service, call.session_key) == ("reauthorize", "s1")
    assert (call.step, call.elapsed_seconds) == (None, seconds)


@pytest.mark.parametrize(
    ("client_type", "service_type", "trusted"),
    [
        ("rfc", None, False),
        ("rfc", "Login", False),
        ("rfc", "Call-Check", True),
        ("freeswitch", None, True),
        ("cisco", "Login", True),
        ("sippy", None, True),
        ("kamailio", None, True),
    ],
)
def test_a_switch_is_trusted_to_know_its_callers_and_a_plain_nas_when_it_says_so(
    client_type: str, service_type: str | None, trusted: bool
) -> None:
    lines = [f"Service-Type={service_type}"] if service_type else []
    assert asked(client_type, *CALL, *lines).trusted is trusted


# ------------------------------------------------------------------ FreeSWITCH's phases


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (("h323-ivr-out=PHASE:authorize",), ("call", UUID, None, None, None)),
        (("h323-ivr-out=PHASE:authorize:1",), ("call", UUID, None, None, None)),
        (("h323-ivr-out=PHASE:authorize:2",), ("call", f"{UUID}/2", None, None, None)),
        (
            ("h323-ivr-out=PHASE:reauth:3", "sky-elapsed=118"),
            ("reauthorize", UUID, 3, 118, None),
        ),
        (("h323-ivr-out=PHASE:reauth:3", "sky-elapsed="), ("reauthorize", UUID, 3, None, None)),
        (("h323-ivr-out=PHASE:reauth", "sky-elapsed=7"), ("reauthorize", UUID, None, 7, None)),
        (
            ("h323-ivr-out=PHASE:end:1", "sky-bill-msec=61000"),
            ("end", UUID, None, None, 61_000),
        ),
        (
            ("h323-ivr-out=PHASE:end:3", "sky-bill-msec=0", "route=RG_21"),
            ("end", f"{UUID}/3", None, None, 0),
        ),
    ],
)
def test_a_phase_says_what_is_asked(pairs: tuple[str, ...], expected: tuple[Any, ...]) -> None:
    call = asked(
        "freeswitch",
        f"Acct-Session-Id={UUID}",
        "Called-Station-Id=4420",
        *(f"Cisco-AVPair={pair}" for pair in pairs),
    )
    assert call.problem == ""
    assert expected == (
        call.service,
        call.session_key,
        call.step,
        call.elapsed_seconds,
        call.duration_ms,
    )


def test_the_key_of_a_later_call_is_not_numbered_twice() -> None:
    call = asked(
        "freeswitch",
        f"Acct-Session-Id={UUID}/2",
        "Cisco-AVPair=h323-ivr-out=PHASE:end:2",
        "Cisco-AVPair=sky-bill-msec=1000",
        "Cisco-AVPair=release-cause=NORMAL_CLEARING",
        "Cisco-AVPair=route=RG_22",
    )
    assert call.session_key == f"{UUID}/2"
    assert (call.cause, call.route) == ("NORMAL_CLEARING", "RG_22")


@pytest.mark.parametrize(
    ("phase", "problem"),
    [
        ("end:1", "PHASE:end without sky-bill-msec"),
        ("end:one", "PHASE:end:one has no number"),
        ("reauth:-1", "PHASE:reauth:-1 has no number"),
        ("refund", "PHASE:refund is unknown"),
    ],
)
def test_a_phase_that_makes_no_sense_is_refused_by_name(phase: str, problem: str) -> None:
    call = asked("freeswitch", *CALL, f"Cisco-AVPair=h323-ivr-out=PHASE:{phase}")
    assert call.problem == problem


# ------------------------------------------------------------------ FreeSWITCH's modes


ACCESS_NUMBER = "Cisco-AVPair=sky-did=+1 555 0199"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((*CALL, "Cisco-AVPair=sky-mode=", "Cisco-AVPair=sky-did="), ("call", "4420", "", "")),
        ((*CALL, "Cisco-AVPair=sky-mode=auth"), ("call", "4420", "", "")),
        ((*CALL, "Cisco-AVPair=sky-mode=query"), ("authenticate", "4420", "query", "")),
        (("Cisco-AVPair=sky-mode=query",), ("authenticate", "", "query", "")),
        ((*CALL, "Cisco-AVPair=sky-mode=register"), ("authenticate", "4420", "register", "")),
        (("Cisco-AVPair=sky-mode=card", ACCESS_NUMBER), ("authenticate", "", "card", "15550199")),
        ((*CALL, "Cisco-AVPair=sky-mode=card"), ("call", "4420", "card", "")),
        (
            (*CALL, "Cisco-AVPair=sky-mode=card", ACCESS_NUMBER),
            ("call", "4420", "card", "15550199"),
        ),
        ((*CALL, "Cisco-AVPair=sky-mode=did"), ("call", "4420", "did", "4420")),
        ((*CALL, "Cisco-AVPair=sky-mode=did", ACCESS_NUMBER), ("call", "4420", "did", "15550199")),
        (("Cisco-AVPair=sky-mode=did", ACCESS_NUMBER), ("call", "15550199", "did", "15550199")),
        (("Cisco-AVPair=sky-mode=did",), ("call", "", "did", "")),
    ],
)
@pytest.mark.parametrize("client_type", TYPES)
def test_a_mode_says_what_kind_of_call_or_question_it_is(
    client_type: str, lines: tuple[str, ...], expected: tuple[str, str, str, str]
) -> None:
    call = asked(client_type, "User-Name=alice", *lines)
    assert (call.service, call.called, call.mode, call.did) == expected
    assert call.problem == ""


def test_a_mode_that_nobody_knows_is_refused_by_name() -> None:
    call = asked("freeswitch", *CALL, "Cisco-AVPair=sky-mode=fax")
    assert call.problem == "sky-mode=fax is unknown"
    # The end of a call is the end of a call: it is charged whatever else is said.
    end = ("h323-ivr-out=PHASE:end:1", "sky-bill-msec=1000", "sky-mode=fax")
    call = asked("freeswitch", *CALL, *(f"Cisco-AVPair={pair}" for pair in end))
    assert (call.service, call.problem) == ("end", "")


def test_the_mode_and_the_number_of_ours_go_to_the_charging_core() -> None:
    client = client_of("freeswitch")
    did = asked("freeswitch", *CALL, "Cisco-AVPair=sky-mode=did", ACCESS_NUMBER)
    request = charging_request(did, client, NOW, Limits())
    assert isinstance(request, Authorize)
    assert (request.origin.did, request.called) == ("15550199", "4420")
    assert request.access_number == ""
    card = asked("freeswitch", *CALL, "Cisco-AVPair=sky-mode=card", ACCESS_NUMBER)
    request = charging_request(card, client, NOW, Limits())
    assert isinstance(request, Authorize)
    assert (request.origin.did, request.access_number) == ("", "15550199")
    for mode, registers in (("register", True), ("query", False), ("card", False)):
        call = asked("freeswitch", "User-Name=777", f"Cisco-AVPair=sky-mode={mode}")
        request = charging_request(call, client, NOW, Limits())
        assert isinstance(request, Authenticate)
        assert request.register is registers


# ------------------------------------------------------------------ credentials


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize(
    ("lines", "more", "credential", "problem"),
    [
        ((), [], None, ""),
        (("User-Password=",), [], None, ""),
        (("User-Password=-",), [], None, ""),
        (("User-Password=--",), [], Pap(b"--"), ""),
        (("User-Password=s3cret",), [], Pap(b"s3cret"), ""),
        ((), [(2, b"")], None, ""),
        ((), [(3, b"\x07" + b"r" * 16)], Chap(7, b"r" * 16, RANDOM), ""),
        ((), [(3, b"\x07" + b"r" * 16), (60, b"c")], Chap(7, b"r" * 16, b"c"), ""),
        ((), [(3, b"\x07")], None, "CHAP-Password has 1 octets, not 17"),
        (("User-Password=x",), [(3, bytes(17))], None, "both User-Password and CHAP-Password"),
        (("User-Password=-",), [(3, bytes(17))], Chap(0, bytes(16), RANDOM), ""),
        ((), [(79, b"\2\1\0\5\1")], None, "EAP is not supported: PAP, CHAP or a digest"),
        ((), [(311 << 8 | 1, bytes(50))], None, "MS-CHAP is not supported: PAP, CHAP or a digest"),
        (
            ("User-Password=x",),
            [(311 << 8 | 25, bytes(50))],
            None,
            "MS-CHAP is not supported: PAP, CHAP or a digest",
        ),
    ],
)
def test_a_password_is_read_or_refused_by_name(
    client_type: str,
    lines: tuple[str, ...],
    more: Attributes,
    credential: Credential | None,
    problem: str,
) -> None:
    call = asked(client_type, *CALL, *lines, more=more)
    assert (call.credential, call.problem) == (credential, problem)


RFC_5090 = (
    "Digest-Response=cafe",
    "Digest-Realm=sip.lab",
    "Digest-Username=alice",
    "Digest-Nonce-Count=00000001",
    "Digest-Opaque=o",
)
RFC_5090_DIGEST = Digest(
    "alice",
    (
        ("response", "cafe"),
        ("realm", "sip.lab"),
        ("nc", "00000001"),
        ("username", "alice"),
        ("opaque", "o"),
    ),
)
STERMAN: Attributes = [
    (206, b"cafe"),
    (207, b"\x0a\x07alice\x01\x09sip.lab"),
    (207, b"\x09\x0a00000001\x63\x03x\x02\x09cut"),
    (207, b"\x02\x01"),
]
STERMAN_DIGEST = Digest(
    "alice",
    (("response", "cafe"), ("username", "alice"), ("realm", "sip.lab"), ("nc", "00000001")),
)


@pytest.mark.parametrize("client_type", ["rfc", "cisco", "freeswitch", "sippy"])
def test_a_digest_by_rfc_5090_is_recognised(client_type: str) -> None:
    assert asked(client_type, *CALL, *RFC_5090).credential == RFC_5090_DIGEST


@pytest.mark.parametrize("client_type", ["kamailio", "sippy"])
def test_a_digest_by_draft_sterman_is_recognised(client_type: str) -> None:
    assert asked(client_type, *CALL, more=STERMAN).credential == STERMAN_DIGEST


DIGEST_NAMES = {
    "Digest-Realm": "realm",
    "Digest-Nonce": "nonce",
    "Digest-Method": "method",
    "Digest-URI": "uri",
    "Digest-Qop": "qop",
    "Digest-Algorithm": "algorithm",
    "Digest-Entity-Body-Hash": "body-hash",
    "Digest-CNonce": "cnonce",
    "Digest-Nonce-Count": "nc",
    "Digest-Username": "username",
    "Digest-Opaque": "opaque",
}


@given(st.dictionaries(st.sampled_from(sorted(DIGEST_NAMES)), st.text("abz019+/=", min_size=1)))
def test_a_digest_that_pyrad_writes_is_read_as_it_was_meant(said: dict[str, str]) -> None:
    packet = pyrad_packet.AuthPacket(
        secret=SECRET.octets, authenticator=RANDOM, id=1, dict=DICTIONARY
    )
    packet.AddAttribute("Digest-Response", "cafe")
    for name, value in said.items():
        packet.AddAttribute(name, value)
    wire = Wire(client_of(require_message_authenticator="no"))
    credential = DIALECTS["rfc"].access(wire.fresh(packet.RequestPacket())).credential
    assert isinstance(credential, Digest)
    meant = {DIGEST_NAMES[name]: value for name, value in said.items()}
    assert dict(credential.fields) == meant | {"response": "cafe"}
    assert credential.username == meant.get("username", "")


def test_pyrad_reads_a_challenge_of_ours() -> None:
    asks = attributes_of("Digest-Method=INVITE", "Digest-URI=sip:4420@sip.example:5060;x=y")
    fresh = fresh_access(asks, client_of("rfc"))
    call = DIALECTS["rfc"].access(fresh)
    assert (call.service, call.realm) == ("challenge", "sip.example")
    attributes = reply.challenge(call.realm, "n" * 56, stale=True)
    octets = encode_reply(11, fresh.packet, SECRET, attributes, message_authenticator=True)
    theirs = pyrad_packet.Packet(packet=octets, dict=DICTIONARY, secret=SECRET.octets)
    assert theirs.code == 11
    expected = {
        "Digest-Nonce": ["n" * 56],
        "Digest-Realm": ["sip.example"],
        "Digest-Qop": ["auth"],
        "Digest-Algorithm": ["MD5"],
        "Digest-Stale": ["true"],
    }
    assert {name: theirs[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("lines", "realm"),
    [
        (("Digest-Realm=lab", "User-Name=a@b"), "lab"),
        (("User-Name=alice@one.example", "SIP-AOR=sip:alice@two.example"), "one.example"),
        (("User-Name=alice", "SIP-AOR=sip:alice@two.example"), "two.example"),
        (("User-Name=alice@", "SIP-AOR="), "three.example"),
    ],
)
def test_the_realm_of_a_challenge_is_the_best_name_that_there_is(
    lines: tuple[str, ...], realm: str
) -> None:
    asks = ("Digest-Method=INVITE", "Digest-URI=sip:x@three.example")
    assert asked("rfc", *asks, *lines).realm == realm


@pytest.mark.parametrize("client_type", ["freeswitch", "sippy", "kamailio"])
def test_a_switch_that_makes_its_nonces_is_not_challenged(client_type: str) -> None:
    call = asked(client_type, "Digest-Method=INVITE", "Digest-URI=sip:x@y", "User-Name=alice")
    assert call.service == "authenticate"


def test_kamailios_tags_are_no_digest() -> None:
    tags: Attributes = [(103, b"7 INVITE"), (104, b"to"), (105, b"from")]
    assert asked("kamailio", *CALL, more=tags).credential is None


@pytest.mark.parametrize("client_type", TYPES)
def test_a_digest_without_a_session_only_authenticates_whatever_else_it_carries(
    client_type: str,
) -> None:
    digest = STERMAN if client_type == "kamailio" else attributes_of(*RFC_5090)
    more = ("Called-Station-Id=4420", "Cisco-AVPair=call-id=i1", "User-Name=alice")
    assert asked(client_type, *more, more=digest).service == "authenticate"
    for session in ("Acct-Session-Id=s1", "h323-conf-id=c1"):
        assert asked(client_type, *more, session, more=digest).service == "call"


def test_a_digest_beside_a_password_is_refused_by_name() -> None:
    call = asked("rfc", *CALL, *RFC_5090, "User-Password=x")
    assert (call.credential, call.problem) == (None, "both a password and a digest")
    call = asked("rfc", *CALL, *RFC_5090, more=[(3, bytes(17))])
    assert (call.credential, call.problem) == (None, "both CHAP-Password and a digest")


def test_the_user_of_a_digest_that_names_none_is_user_name() -> None:
    call = asked("rfc", "User-Name=bob", "Digest-Response=cafe")
    assert call.credential == Digest("bob", (("response", "cafe"),))


# ------------------------------------------------------------------ whose call


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize(
    ("user", "calling", "code", "ani"),
    [
        ("acme", "15551230001", "acme", "15551230001"),
        ("", "15551230001", "", "15551230001"),
        ("unknown", "unknown", "", ""),
        ("acme", "", "acme", ""),
        ("15551230001", "15551230001", "15551230001", "15551230001"),
        # Equal to Calling-Station-Id, written in another way: the same text as `ani`.
        ("+15551230001", "+15551230001", "15551230001", "15551230001"),
        ("+15551230001", "15551230001", "15551230001", "15551230001"),
        ("alice", "alice", "alice", "alice"),
        ("alice", "sip:alice@sip.lab", "alice", "alice"),
        ("acme", "sip:+1555@gw;user=phone", "acme", "1555"),
        (SOURCE[0], "1555", "", "1555"),
    ],
)
def test_user_name_is_an_account_code_unless_it_says_nothing(
    client_type: str, user: str, calling: str, code: str, ani: str
) -> None:
    lines = (f"User-Name={user}", f"Calling-Station-Id={calling}")
    for origin in (
        asked(client_type, *CALL, *lines).origin,
        reported(client_type, "Acct-Status-Type=Start", *lines).origin,
    ):
        assert (origin.account_code, origin.ani) == (code, ani)


@pytest.mark.parametrize("client_type", ["rfc", "cisco", "freeswitch", "sippy"])
@pytest.mark.parametrize(
    ("remote", "user", "expected"),
    [
        ("h323-remote-address=203.0.113.5", "acme", ("acme", "203.0.113.5", 0)),
        ("203.0.113.5:5080", "203.0.113.5", ("", "203.0.113.5", 5080)),
        ("h323-remote-address=203.0.113.5", "203.0.113.5", ("", "203.0.113.5", 0)),
        ("h323-remote-address=", "acme", ("acme", SOURCE[0], 0)),
        ("h323-remote-address=0.0.0.0", "acme", ("acme", SOURCE[0], 0)),
        ("sip.example.net", "sip.example.net", ("", SOURCE[0], 0)),
    ],
)
def test_the_peer_is_h323_remote_address_or_where_the_packet_came_from(
    client_type: str, remote: str, user: str, expected: tuple[str, str, int]
) -> None:
    origin = asked(client_type, *CALL, f"User-Name={user}", f"h323-remote-address={remote}").origin
    assert (origin.account_code, origin.address, origin.port) == expected


@pytest.mark.parametrize("client_type", TYPES)
def test_the_scripts_fields_are_read(client_type: str) -> None:
    call = asked(
        client_type,
        *CALL,
        "Cisco-AVPair=sky-ext=1001@pbx.example",
        "Cisco-AVPair=sky-rg-in=11",
        "Cisco-AVPair=sky-rg-out=RG_21",
        "Cisco-AVPair=call-id=1-2@192.0.2.1",
        "Cisco-AVPair=sky-mode=",
    )
    assert call.origin == Origin("", "1001", "pbx.example", "", "RG_11", SOURCE[0], 0)
    assert (call.wanted_route, call.sip_call_id) == ("RG_21", "1-2@192.0.2.1")
    assert call.nas_address == SOURCE[0]


@pytest.mark.parametrize("client_type", TYPES)
def test_an_empty_field_was_not_given(client_type: str) -> None:
    empty = [f"Cisco-AVPair={name}=" for name in ("sky-ext", "sky-rg-in", "sky-rg-out", "call-id")]
    call = asked(client_type, *CALL, *empty)
    assert call.origin == Origin(address=SOURCE[0])
    assert call.wanted_route == ""
    # Kamailio's session is the Call-ID.
    assert call.sip_call_id == ("s1" if client_type == "kamailio" else "")


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize(
    ("said", "called"),
    [
        ("442071838750", "442071838750"),
        ("+44 (20) 7183-8750", "442071838750"),
        ("sip:+442071838750@gw.example;user=phone", "442071838750"),
        ("*98#", "*98#"),
        ("alice", ""),
        ("4" * 33, ""),
    ],
)
def test_a_called_number_is_normalised(client_type: str, said: str, called: str) -> None:
    lines = (f"Called-Station-Id={said}", "Acct-Session-Id=s1")
    assert asked(client_type, *lines).called == called
    assert reported(client_type, *lines, "Acct-Status-Type=Start").called == called


# ------------------------------------------------------------------ accounting


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Start", "start"),
        ("Stop", "stop"),
        ("Interim-Update", "interim"),
        ("Accounting-On", "on"),
        ("Accounting-Off", "off"),
        ("Failed", "failed"),
        ("Tunnel-Start", ""),
        ("0", ""),
    ],
)
def test_a_status_is_read(client_type: str, status: str, expected: str) -> None:
    call = reported(client_type, f"Acct-Status-Type={status}", "Acct-Session-Id=s1")
    assert (call.status, call.session_key, call.skip) == (expected, "s1", False)
    assert call.nas_address == SOURCE[0]


CONNECT = "h323-connect-time=h323-connect-time=*09:15:00.250 UTC Fri Jan 02 2026"
DISCONNECT = "h323-disconnect-time=*09:16:01.350 UTC Fri Jan 02 2026"
SUMMER = "h323-disconnect-time=*10:16:01.350 BST Fri Jan 02 2026"
WINTER = "h323-connect-time=*09:15:00.250 GMT Fri Jan 02 2026"


@pytest.mark.parametrize("client_type", ["rfc", "cisco", "freeswitch", "sippy"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("Cisco-AVPair=bill-msec=1520", CONNECT, DISCONNECT, "Acct-Session-Time=2"), 1520),
        (("Cisco-AVPair=bill-msec=0", CONNECT, DISCONNECT, "Acct-Session-Time=2"), 0),
        (("Cisco-AVPair=bill-msec=", CONNECT, DISCONNECT, "Acct-Session-Time=2"), 61_100),
        ((CONNECT, DISCONNECT, "Acct-Session-Time=2"), 61_100),
        ((DISCONNECT, "Acct-Session-Time=2"), 2000),
        ((CONNECT, "h323-disconnect-time=nonsense", "Acct-Session-Time=2"), 2000),
        ((WINTER, SUMMER, "Acct-Session-Time=61"), 61_000),
        ((WINTER, SUMMER), 61_100),
        ((CONNECT, SUMMER, "Acct-Session-Time=61"), 61_000),
        ((CONNECT, DISCONNECT.replace("=*", "="), "Acct-Session-Time=3661"), 3_661_000),
        ((CONNECT, DISCONNECT.replace("=*", "="), "Acct-Session-Time=62"), 61_100),
        (("Acct-Session-Time=4294967295",), None),
        ((), None),
    ],
)
def test_the_best_duration_is_taken(
    client_type: str, lines: tuple[str, ...], expected: int | None
) -> None:
    call = reported(client_type, "Acct-Status-Type=Stop", "Acct-Session-Id=s1", *lines)
    assert call.duration_ms == expected


@pytest.mark.parametrize("client_type", TYPES)
def test_only_what_has_talked_has_a_duration(client_type: str) -> None:
    time = ("Acct-Session-Id=s1", "Acct-Session-Time=61")
    said = {
        status: reported(client_type, f"Acct-Status-Type={status}", *time).duration_ms
        for status in ("Start", "Interim-Update", "Failed", "Accounting-On")
    }
    assert said == {"Start": None, "Interim-Update": 61_000, "Failed": 0, "Accounting-On": None}


@pytest.mark.parametrize("client_type", ["rfc", "cisco", "freeswitch", "sippy"])
@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (("Cisco-AVPair=release-cause=USER_BUSY", "h323-disconnect-cause=10"), "USER_BUSY"),
        (("Cisco-AVPair=release-cause=NONE", "h323-disconnect-cause=322"), "802"),
        (("h323-disconnect-cause=h323-disconnect-cause=1f",), "31"),
        (("h323-disconnect-cause=odd",), "odd"),
        (("Acct-Terminate-Cause=User-Request",), "User-Request"),
        (("Acct-Terminate-Cause=99",), "99"),
        ((), ""),
    ],
)
def test_a_cause_is_told_as_the_switch_said_it(
    client_type: str, lines: tuple[str, ...], cause: str
) -> None:
    call = reported(client_type, "Acct-Status-Type=Stop", "Acct-Session-Id=s1", *lines)
    assert call.cause == cause


@pytest.mark.parametrize(
    ("said", "route"), [("RG_21", "RG_21"), ("sofia/gateway/a/44", "sofia/gateway/a/44"),
                        ("-", ""), ("none", ""), ("", "")]
)  # fmt: skip
def test_the_route_that_answered_is_read(said: str, route: str) -> None:
    for client_type in TYPES:
        assert reported(client_type, *STOP, f"Cisco-AVPair=route={said}").route == route


STOP = ("Acct-Status-Type=Stop", "Acct-Session-Id=s1")


@pytest.mark.parametrize("client_type", [each for each in TYPES if each != "freeswitch"])
@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (("Class=sky-aaa:s2", "h323-conf-id=c1"), "s2"),
        (("Acct-Session-Id=s1", "Class=sky-aaa:auth:00ff"), "auth:00ff"),
        # Authorised under the conference, since that Access-Request had no Acct-Session-Id.
        (("Acct-Session-Id=s1", "Class=sky-aaa:c1", "h323-conf-id=h323-conf-id=c1"), "c1"),
        (("Acct-Session-Id=s1", "Class=sky-aaa:i1", "Cisco-AVPair=call-id=i1"), "i1"),
        (("Acct-Session-Id=s1", "Class=somebody else's"), "s1"),
        (("Acct-Session-Id=s1", "Class=sky-aaa:"), "s1"),
        (("h323-conf-id=c1",), "c1"),
        (("Class=-",), ""),
    ],
)
def test_class_stands_in_for_the_session_that_was_authorised(
    client_type: str, lines: tuple[str, ...], key: str
) -> None:
    assert reported(client_type, "Acct-Status-Type=Stop", *lines).session_key == key


@pytest.mark.parametrize("client_type", ["rfc", "kamailio"])
def test_a_session_of_its_own_is_no_other_that_class_names(client_type: str) -> None:
    stop = ("Acct-Status-Type=Stop", "Acct-Session-Id=s1", "Class=sky-aaa:s2")
    assert reported(client_type, *stop).session_key == "s1"


@pytest.mark.parametrize("client_type", TYPES)
def test_identifiers_that_are_no_text_stay_apart(client_type: str) -> None:
    one = reported(client_type, "Acct-Status-Type=Stop", "Acct-Session-Id=x", more=[])
    binary = [
        reported(client_type, "Acct-Status-Type=Stop", more=[(44, octets)]).session_key
        for octets in (b"\xff\x01", b"\xff\x02", b"x\0")
    ]
    assert len({one.session_key, *binary}) == 4


@pytest.mark.parametrize("client_type", TYPES)
def test_the_event_is_when_the_nas_says(client_type: str) -> None:
    call = reported(client_type, *STOP, more=[(55, bytes.fromhex("6b033399"))])
    assert call.event_at == datetime(2026, 11, 22, 18, 25, 29, tzinfo=UTC)


# ------------------------------------------------------------------ legs


@pytest.mark.parametrize(
    ("bill_leg", "leg", "skip"),
    [
        ("answer", "h323-call-origin=answer", False),
        ("answer", "h323-call-origin=originate", True),
        ("answer", "originate", True),
        ("originate", "h323-call-origin=answer", True),
        ("originate", "originate", False),
        ("any", "originate", False),
        ("any", "answer", False),
        ("answer", "", False),
    ],
)
def test_cisco_bills_the_leg_of_the_clients_row(bill_leg: str, leg: str, skip: bool) -> None:
    call = reported("cisco", *STOP, f"h323-call-origin={leg}", bill_leg=bill_leg)
    assert call.attempt is ("originate" in leg)
    assert call.skip is skip
    assert call.unauthorized


def test_a_reboot_is_no_leg() -> None:
    call = reported("cisco", "Acct-Status-Type=Accounting-On", "h323-call-origin=originate")
    assert not call.skip


@pytest.mark.parametrize(
    ("lines", "unauthorized"),
    [
        (("Acct-Status-Type=Start", "h323-call-origin=h323-call-origin=inbound"), True),
        (("Acct-Status-Type=Start", "h323-call-origin=h323-call-origin=outbound"), False),
        (("Acct-Status-Type=Stop", "h323-call-origin=inbound"), True),
        (("Acct-Status-Type=Stop", "h323-call-origin=outbound"), False),
        (("Acct-Status-Type=Stop", "h323-call-origin=originate"), False),
        (("Acct-Status-Type=Stop", "Freeswitch-Direction=inbound"), True),
        (("Acct-Status-Type=Stop", "Freeswitch-Direction=outbound"), False),
        (("Acct-Status-Type=Stop", f"Freeswitch-Other-Leg-Id={UUID}"), False),
        (("Acct-Status-Type=Stop",), True),
        (("Acct-Status-Type=Start",), False),
    ],
)
def test_freeswitchs_outbound_leg_is_never_charged_by_itself(
    lines: tuple[str, ...], unauthorized: bool
) -> None:
    assert reported("freeswitch", "Acct-Session-Id=s1", *lines).unauthorized is unauthorized


def test_quintums_attributes_are_read_as_ciscos() -> None:
    call = reported(
        "cisco",
        "Acct-Status-Type=Stop",
        "Quintum-h323-conf-id=h323-conf-id=c1",
        "Quintum-h323-connect-time=h323-connect-time=09:15:00.000 UTC Fri Jan 02 2026",
        "Quintum-h323-disconnect-time=h323-disconnect-time=09:15:07.500 UTC Fri Jan 02 2026",
        "Quintum-h323-disconnect-cause=h323-disconnect-cause=10",
        "Quintum-h323-call-origin=h323-call-origin=answer",
        "Quintum-h323-remote-address=203.0.113.5",
        "Quintum-AVPair=route=RG_21",
    )
    assert (call.session_key, call.duration_ms, call.cause) == ("c1", 7500, "16")
    assert (call.origin.address, call.route, call.skip) == ("203.0.113.5", "RG_21", False)


def test_mod_radius_cdr_is_read_by_its_own_attributes() -> None:
    call = reported(
        "freeswitch",
        *STOP,
        "Freeswitch-Src=15551230001",
        "Freeswitch-Dst=4420555",
        "Freeswitch-Callanswerdate=2026-11-22T18:13:06.437635+0000",
        "Freeswitch-Callenddate=2026-11-22T18:13:09.417676+0000",
        "Freeswitch-Hangupcause=ALLOTTED_TIMEOUT",
        "Acct-Session-Time=2",
        "Framed-IP-Address=203.0.113.5",
    )
    assert (call.duration_ms, call.cause, call.called) == (2980, "802", "4420555")
    assert (call.origin.ani, call.origin.address) == ("15551230001", "203.0.113.5")


def test_mod_radius_cdrs_clock_is_put_forward_in_mid_call() -> None:
    call = reported(
        "freeswitch",
        *STOP,
        "Freeswitch-Callanswerdate=2026-03-29T00:59:58.000000+0000",
        "Freeswitch-Callenddate=2026-03-29T02:00:02.500000+0100",
        "Acct-Session-Time=4",
    )
    assert call.duration_ms == 4500


def test_kamailio_tells_the_response_and_no_duration() -> None:
    more: Attributes = [(attribute.SIP_RESPONSE_CODE, b"\0\0\1\xe6"), (108, b"203.0.113.5")]
    call = reported("kamailio", "Acct-Status-Type=Failed", "Acct-Session-Id=i1@a", more=more)
    assert (call.status, call.cause, call.duration_ms) == ("failed", "SIP 486", 0)
    assert (call.sip_call_id, call.origin.address) == ("i1@a", "203.0.113.5")
    assert asked("kamailio", "Acct-Session-Id=i2@a").sip_call_id == "i2@a"


def test_a_typed_card_number_is_not_trusted_without_its_pin() -> None:
    typed = ("User-Name=770010000014", "Cisco-AVPair=sky-mode=card", "Called-Station-Id=4420")
    assert not asked("freeswitch", *typed).trusted
    assert asked("freeswitch", "User-Name=unknown", *typed[1:]).trusted
