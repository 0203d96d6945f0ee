"""What each kind of switch is told, and that it can understand it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.charging.requests import (
    Credential,
    Digest,
    DigestReply,
    Granted,
    Known,
    Noted,
    Origin,
    Pap,
    Refusal,
    Refused,
    Settled,
)
from aaa_server.radius.call import AccessCall
from aaa_server.radius.dialect import DIALECTS
from aaa_server.radius.dialects import reply
from aaa_server.radius.dictionary import Names, load
from aaa_server.radius.packet import ACCESS_ACCEPT, ACCESS_REJECT, encode_attributes
from tests.radius.peer import client_of


class RouteOffer(NamedTuple):
    """One way out, as the charging core gives it."""

    name: str
    dial: str


NAMES = Names(load())
TYPES = sorted(DIALECTS)
CISCO_FORM = {"freeswitch", "cisco", "sippy"}

GRANTED = Granted(
    seconds=120,
    credit_seconds=600,
    final=False,
    available_micros=12_349_999,
    currency="EUR",
    account_code="acme",
    found_by="argument",
    prepaid=True,
    language="en",
    routes=(
        RouteOffer("RG_21", "sofia/gateway/acme/442071838750"),
        RouteOffer("RG_22", "sofia/gateway/beta/442071838750"),
    ),
)
KNOWN = Known(5_000_000, "USD", "acme", "ani", False, "es")
REFUSED = Refused(Refusal.NO_CREDIT, "there is no credit left")


def call_of(service: str = "call", credential: Credential | None = None) -> AccessCall:
    return AccessCall(service, "call-1", Origin(), "4420", credential, True, "192.0.2.7")


def told(
    client_type: str,
    answer: Granted | Known | Refused | Settled | Noted,
    call: AccessCall | None = None,
    **changes: Any,
) -> tuple[int, list[tuple[str, str]]]:
    code, attributes = DIALECTS[client_type].access_reply(
        answer, call or call_of(), client_of(client_type, **changes)
    )
    encode_attributes(attributes)
    return code, NAMES.spelled(attributes)


@pytest.mark.parametrize("client_type", TYPES)
def test_a_grant_tells_time_money_account_and_routes(client_type: str) -> None:
    code, said = told(client_type, GRANTED)

    def h323(name: str, text: str) -> tuple[str, str]:
        return name, f"{name}={text}" if client_type in CISCO_FORM else text

    expected = {
        ("Session-Timeout", "120"),
        h323("h323-credit-time", "600"),
        h323("h323-credit-amount", "12.34"),
        h323("h323-currency", "EUR"),
        h323("h323-return-code", "0"),
        h323("h323-preferred-lang", "en"),
        h323("h323-billing-model", "1"),
        ("Class", "0x" + b"sky-aaa:call-1".hex()),
        ("Chargeable-User-Identity", "acme"),
        ("Filter-Id", "argument"),
    }
    if client_type in ("cisco", "sippy"):
        limits = ";credit-time=120;expires=60"
        expected |= {
            ("Cisco-AVPair", f"h323-ivr-in=Routing:442071838750@{gateway}{limits}")
            for gateway in ("acme", "beta")
        }
    else:
        expected.add(
            (
                "Cisco-AVPair",
                "h323-ivr-in=ROUTES:RG_21=sofia/gateway/acme/442071838750"
                "|RG_22=sofia/gateway/beta/442071838750",
            )
        )
    if client_type != "freeswitch":
        expected |= {("Acct-Interim-Interval", "300"), ("Termination-Action", "RADIUS-Request")}
    assert code == ACCESS_ACCEPT
    assert set(said) == expected
    assert len(said) == len(expected)


@pytest.mark.parametrize("client_type", TYPES)
def test_the_last_slice_is_told_by_its_time_and_asks_for_no_more(client_type: str) -> None:
    said = dict(told(client_type, replace(GRANTED, credit_seconds=120, final=True))[1])
    assert said["Session-Timeout"] == said["h323-credit-time"].rpartition("=")[2]
    assert "Termination-Action" not in said


@pytest.mark.parametrize("client_type", ["cisco", "sippy"])
def test_routes_keep_their_order_where_each_has_its_own_attribute(client_type: str) -> None:
    said = [text for name, text in told(client_type, GRANTED)[1] if name == "Cisco-AVPair"]
    assert [text.partition("@")[2].partition(";")[0] for text in said] == ["acme", "beta"]


@pytest.mark.parametrize(
    ("dial", "address"),
    [
        ("sofia/gateway/acme/4420", "4420@acme"),
        ("203.0.113.5:5062/4420", "4420@203.0.113.5:5062"),
        ("sofia/external/sip:4420@acme.example", "4420@acme.example"),
        ("sips:4420@acme.example", "4420@acme.example"),
        ("user/1001@sip.example", "1001@sip.example"),
        ("4420", ""),
        ("acme/", ""),
        ("", ""),
    ],
)
def test_a_dial_string_is_turned_into_an_address(dial: str, address: str) -> None:
    assert reply.sip_address(dial) == address


def test_routes_that_a_packet_has_no_room_for_are_left_out() -> None:
    offers = tuple(RouteOffer(f"RG_{n}", f"{'h' * 150}.example/4420{n}") for n in range(40))
    said = reply.routings(replace(GRANTED, routes=offers))
    assert 5 < len(said) < 40
    assert sum(len(value) + 8 for _, value in said) <= reply.ROUTINGS_OCTETS_MAX
    nowhere = (RouteOffer("PSTN", "4420"), RouteOffer("RG_1", "acme/4420"))
    assert len(reply.routings(replace(GRANTED, routes=nowhere))) == 1


PROOF = DigestReply("f847de948d12285f8f4199e366f1af21")


@pytest.mark.parametrize("answer", [GRANTED, KNOWN])
@pytest.mark.parametrize("client_type", TYPES)
def test_a_digest_is_answered_with_a_proof_where_the_client_asks_by_rfc_5090(
    client_type: str, answer: Granted | Known
) -> None:
    said = dict(told(client_type, replace(answer, digest=PROOF))[1])
    assert ("Digest-Response-Auth" in said) is (client_type in ("rfc", "cisco"))
    said = dict(told(client_type, replace(answer, digest=DigestReply("", "cafe")))[1])
    assert ("Digest-HA1" in said) is (client_type in ("rfc", "cisco"))
    said = dict(told(client_type, replace(answer, digest=DigestReply()))[1])
    assert not {"Digest-HA1", "Digest-Response-Auth"} & said.keys()


@pytest.mark.parametrize("client_type", TYPES)
def test_who_is_known_is_told_the_balance_and_no_time(client_type: str) -> None:
    code, said = told(client_type, KNOWN, call_of("authenticate"))
    names = [name for name, _ in said]
    assert code == ACCESS_ACCEPT
    assert dict(said)["h323-credit-amount"].endswith("5.00")
    assert dict(said)["h323-billing-model"].endswith("0")
    assert "Session-Timeout" not in names
    assert "Class" not in names


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize("answer", [Settled(660_000, "EUR"), Noted()])
def test_the_end_of_a_call_is_told_in_one_attribute(
    client_type: str, answer: Settled | Noted
) -> None:
    code, said = told(client_type, answer, call_of("end"))
    assert code == ACCESS_ACCEPT
    assert [name for name, _ in said] == ["h323-return-code"]
    assert said[0][1].endswith("0")


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize("reason", list(Refusal))
def test_a_refusal_tells_why(client_type: str, reason: Refusal) -> None:
    answer = Refused(reason, "because")
    code, said = told(client_type, answer, refuse_with="reject")
    assert code == ACCESS_REJECT
    number = str(reply.RETURN_CODES[reason])
    form = f"h323-return-code={number}" if client_type in CISCO_FORM else number
    assert said == [("h323-return-code", form), ("Reply-Message", "because")]


def test_a_clients_own_return_codes_come_first() -> None:
    _, said = told("rfc", Refused(Refusal.NO_RATE, "x"), return_codes={"no-rate": 9})
    assert said[0] == ("h323-return-code", "9")
    _, said = told("rfc", REFUSED, return_codes={"no-rate": 9})
    assert said[0] == ("h323-return-code", "4")


def test_freeswitch_is_refused_in_an_accept_without_time() -> None:
    for service in ("call", "reauthorize", "end", "authenticate"):
        code, said = told("freeswitch", REFUSED, call_of(service, Pap(b"1234")))
        assert code == ACCESS_ACCEPT
        assert said == [
            ("Session-Timeout", "0"),
            ("h323-return-code", "h323-return-code=4"),
            ("Reply-Message", "there is no credit left"),
        ]


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize("service", ["call", "authenticate"])
def test_a_refused_digest_is_always_a_reject(client_type: str, service: str) -> None:
    # Whoever sends a digest takes any Access-Accept as: this is the user.
    call = call_of(service, Digest("alice", ()))
    assert told(client_type, REFUSED, call, refuse_with="accept")[0] == ACCESS_REJECT


@pytest.mark.parametrize("client_type", [each for each in TYPES if each != "freeswitch"])
def test_a_refused_login_is_a_reject_whatever_the_client_row_says(client_type: str) -> None:
    call = call_of("authenticate", Pap(b"guess"))
    assert told(client_type, REFUSED, call, refuse_with="accept")[0] == ACCESS_REJECT
    assert told(client_type, REFUSED, refuse_with="accept")[0] == ACCESS_ACCEPT


def freeswitch_names() -> set[str]:
    """The attributes that a FreeSWITCH with our dictionary knows."""
    dictionary = Path(__file__).parents[2] / "lua" / "conf" / "dictionary"
    lines = dictionary.read_text(encoding="utf-8").splitlines()
    return {line.split()[1] for line in lines if line.startswith("ATTRIBUTE")}


@pytest.mark.parametrize("answer", [GRANTED, KNOWN, REFUSED, Settled(1, "EUR")])
def test_freeswitch_gets_no_attribute_twice_and_none_that_it_lacks(
    answer: Granted | Known | Refused | Settled,
) -> None:
    names = [name for name, _ in told("freeswitch", answer)[1]]
    assert len(names) == len(set(names))
    assert set(names) <= freeswitch_names()


ROUTES = st.lists(
    st.builds(
        RouteOffer,
        st.integers(1, 999_999).map(lambda number: f"RG_{number}"),
        st.text(st.characters(codec="utf-8", exclude_characters="|"), max_size=120),
    ),
    max_size=20,
)


@given(ROUTES)
def test_routes_that_do_not_fit_are_dropped_from_the_end(offers: list[RouteOffer]) -> None:
    attributes = reply.routes(offers)
    assert len(attributes) <= 1
    listed = [f"{offer.name}={offer.dial}" for offer in offers]
    kept: list[str] = []
    if attributes:
        said = attributes[0][1]
        assert len(said) <= 247
        kept = said.decode().removeprefix("h323-ivr-in=ROUTES:").split("|")
    assert kept == listed[: len(kept)]
    if len(kept) < len(listed):
        longer = "h323-ivr-in=ROUTES:" + "|".join(listed[: len(kept) + 1])
        assert len(longer.encode()) > 247


def test_exactly_247_octets_of_routes_fit() -> None:
    room = 247 - len("h323-ivr-in=ROUTES:RG_1=")
    assert reply.routes([RouteOffer("RG_1", "x" * room)]) == [
        (2305, b"h323-ivr-in=ROUTES:RG_1=" + b"x" * room)
    ]
    assert reply.routes([RouteOffer("RG_1", "x" * (room + 1))]) == []
    assert reply.routes([]) == []


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00"),
        (12_340_000, "12.34"),
        (9_999, "0.00"),
        (19_999, "0.01"),
        (-9_999, "0.00"),
        (-10_000, "-0.01"),
        (-1_500_000, "-1.50"),
    ],
)
def test_an_amount_has_two_decimals(micros: int, text: str) -> None:
    assert reply.amount(micros) == text


def test_a_long_text_is_cut_between_characters() -> None:
    assert reply.cut("é" * 200) == "é".encode() * 126
    assert reply.cut("short") == b"short"


def test_a_session_too_long_for_class_has_none() -> None:
    call = call_of()._replace(session_key="s" * 246)
    assert "Class" not in dict(told("rfc", GRANTED, call)[1])
    call = call_of()._replace(session_key="s" * 245)
    assert "Class" in dict(told("rfc", GRANTED, call)[1])


@pytest.mark.parametrize("client_type", TYPES)
def test_a_call_of_nobody_is_told_no_empty_attribute(client_type: str) -> None:
    nobody = replace(GRANTED, account_code="", found_by="", language="", routes=())
    _, attributes = DIALECTS[client_type].access_reply(nobody, call_of(), client_of(client_type))
    assert all(value for _, value in attributes)


def test_an_account_without_a_language_is_told_none() -> None:
    assert "h323-preferred-lang" not in dict(told("rfc", replace(GRANTED, language=""))[1])
