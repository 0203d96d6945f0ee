"""Calls the way Cisco's gateways, Sippy's B2BUA and Kamailio place them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from aaa_server.demo import ACCESS_NUMBER, CARDS
from aaa_server.radius import attribute
from tests.integration.nas import CALLED, STOP, Nas
from tests.integration.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import Serving
    from tests.integration.nas import Answer
    from tests.integration.server import Server

CISCO, KAMAILIO, SIPPY = "127.0.0.3", "127.0.0.4", "127.0.0.5"
INVITE, CANCEL, BYE = 1, 2, 8  # Kamailio's Sip-Method
FAILED = 15


@pytest.fixture(scope="module")
def server(serving: Serving) -> Iterator[Server]:
    with serving() as started:
        for name, address in (("kamailio", KAMAILIO), ("sippy", SIPPY)):
            started.command(
                *("client", "add", name, address, "--type", name, "--secret", "testing123")
            )
        wait_until(lambda: "6 RADIUS clients" in started.log, "the clients are read again")
        yield started
        started.audit()


def nas_at(server: Server, source: str) -> Nas:
    return Nas(server, source, target="127.0.0.1", signed=source != KAMAILIO)


def number(key: int, value: int) -> tuple[int, bytes]:
    return key, value.to_bytes(4, "big")


def pairs(answer: Answer) -> list[str]:
    return [
        value.decode() for key, value in answer.packet.attributes if key == attribute.CISCO_AVPAIR
    ]


def test_a_cisco_gateway_asks_what_is_on_a_card_and_then_for_the_call(server: Server) -> None:
    nas, card = nas_at(server, CISCO), CARDS[1]
    who = [(attribute.USER_NAME, card.number.encode()), (attribute.H323_CONF_ID, b"c1")]
    first = nas.ask(nas.access(who, password=card.pin.encode()))
    assert (first.return_code, first.text(attribute.H323_CREDIT_AMOUNT)) == (0, "10.00")
    assert first.text(attribute.H323_CURRENCY) == "USD"
    assert first.text(attribute.H323_PREFERRED_LANG)
    assert first.seconds is None
    dialled_in = [*who, (attribute.CALLED_STATION_ID, ACCESS_NUMBER.encode())]
    also = nas.ask(nas.access(dialled_in, password=card.pin.encode()))
    assert (also.return_code, also.seconds) == (0, None)
    assert server.query("SELECT FROM call WHERE session_key = 'c1'") == []
    wrong = nas.ask(nas.access(dialled_in, password=b"000000"))
    assert (wrong.accepted, wrong.return_code) == (False, 2)

    to = [*who, (attribute.CALLED_STATION_ID, CALLED.encode())]
    second = nas.ask(nas.access(to, password=card.pin.encode()))
    assert second.granted
    assert second.text(attribute.H323_CREDIT_TIME) == str(second.seconds)  # the last slice
    routes = pairs(second)
    assert [said.partition(";")[0] for said in routes] == [
        f"h323-ivr-in=Routing:{CALLED}@globex",
        f"h323-ivr-in=Routing:{CALLED}@acme",
    ]
    stop = [
        number(attribute.ACCT_STATUS_TYPE, STOP),
        (attribute.H323_CONF_ID, b"c1"),
        (attribute.H323_CALL_ORIGIN, b"h323-call-origin=answer"),
        number(attribute.ACCT_SESSION_TIME, 30),
    ]
    nas.ask(nas.accounting(stop))
    assert server.query("SELECT seconds, flags @> '{route-assumed}' FROM cdr "
                        "WHERE session_key = 'c1'") == [(30, True)]  # fmt: skip


def test_sippy_knows_its_callers_by_address_and_sends_a_fixed_password(server: Server) -> None:
    server.command("resource-group", "add", "77", "--direction", "in", "--account", "bob",
                   "--endpoint", "198.51.100.7/32")  # fmt: skip
    nas = nas_at(server, SIPPY)
    about = [
        (attribute.USER_NAME, b"198.51.100.7"),
        (attribute.CALLED_STATION_ID, CALLED.encode()),
        (attribute.H323_REMOTE_ADDRESS, b"h323-remote-address=198.51.100.7"),
        (attribute.H323_CONF_ID, b"h323-conf-id=F0 1 2 3"),
        (attribute.CISCO_AVPAIR, b"call-id=abc@198.51.100.7"),
    ]

    def asked() -> bool:
        return nas.ask(nas.access(about, password=b"cisco")).granted

    wait_until(asked, "the resource group is known")
    answer = nas.ask(nas.access(about, password=b"cisco"))
    assert answer.text(attribute.CHARGEABLE_USER_IDENTITY) == "bob"
    assert answer.text(attribute.FILTER_ID) == "resource-group"
    assert pairs(answer)[0] == (
        f"h323-ivr-in=Routing:{CALLED}@globex;credit-time={answer.seconds};expires=60"
    )
    another = [*about[:3], (attribute.H323_CONF_ID, b"h323-conf-id=F0 1 2 4")]
    assert nas.ask(nas.access(another, password=b"guess")).return_code == 2
    stop = [
        *about[2:],
        number(attribute.ACCT_STATUS_TYPE, STOP),
        (attribute.H323_CALL_ORIGIN, b"h323-call-origin=answer"),
        (attribute.H323_CONNECT_TIME, b"h323-connect-time=09:15:00.250 UTC Fri Jan 02 2026"),
        (attribute.H323_DISCONNECT_TIME, b"h323-disconnect-time=09:15:10.250 UTC Fri Jan 02 2026"),
        (attribute.H323_DISCONNECT_CAUSE, b"h323-disconnect-cause=10"),
    ]
    nas.ask(nas.accounting(stop))
    assert server.query("SELECT seconds, cause FROM cdr WHERE session_key = 'F0 1 2 3'") == [
        (10, "16")
    ]


@pytest.mark.parametrize("source", [CISCO, SIPPY])
@pytest.mark.parametrize("echo", [False, True])
def test_a_cisco_call_is_one_whatever_session_its_legs_have(
    server: Server, source: str, echo: bool
) -> None:
    nas = nas_at(server, source)
    group = f"{source[-1]}{int(echo)}"
    about = [
        (attribute.USER_NAME, b"alice"),
        (attribute.CALLED_STATION_ID, CALLED.encode()),
    ]
    answer = nas.ask(
        nas.access(
            [
                *about,
                (attribute.ACCT_SESSION_ID, b"00000A1F"),
                (attribute.H323_CONF_ID, f"h323-conf-id={group}BD1A4C 33F111D6 0 B".encode()),
            ]
        )
    )
    assert answer.granted
    classes = [(key, value) for key, value in answer.packet.attributes if key == attribute.CLASS]
    assert classes
    for status in (1, STOP):
        for leg, session in ((b"answer", b"00000A20"), (b"originate", b"00000A21")):
            report = [
                *about,
                number(attribute.ACCT_STATUS_TYPE, status),
                (attribute.ACCT_SESSION_ID, session),
                (
                    attribute.H323_CONF_ID,
                    f"h323-conf-id={group}bd1a4c 33f111d6 00000000 0000000b".encode(),
                ),
                (attribute.H323_CALL_ORIGIN, b"h323-call-origin=" + leg),
                *([(attribute.CLASS, b"of another"), *classes] if echo else []),
                *([number(attribute.ACCT_SESSION_TIME, 61)] if status == STOP else []),
            ]
            nas.ask(nas.accounting(report))
    key = f"{group}BD1A4C 33F111D6 0 B"
    assert server.query(
        "SELECT seconds, account_id IS NOT NULL, flags @> '{no-authorization}' FROM cdr "
        "WHERE session_key LIKE %s OR session_key LIKE '00000A%%'",
        f"%{key}%",
    ) == [(61, True, False)]
    assert server.query("SELECT FROM call WHERE session_key = %s", key) == []


SESSION = (attribute.ACCT_SESSION_ID, b"00000B2E")
CONFERENCE = (attribute.H323_CONF_ID, b"h323-conf-id=AA01 BB02 CC03 DD04")


@pytest.mark.parametrize("source", [CISCO, SIPPY])
@pytest.mark.parametrize(
    ("number_", "asked", "told", "key"),
    [
        (1, [SESSION], [SESSION, CONFERENCE], "00000B2E"),
        (2, [CONFERENCE], [SESSION, CONFERENCE], "AA01 BB02 CC03 DD04"),
        (3, [SESSION], [SESSION], "00000B2E"),
    ],
)
def test_a_cisco_call_is_found_by_whichever_of_its_names_is_told(
    server: Server,
    source: str,
    number_: int,
    asked: list[tuple[int, bytes]],
    told: list[tuple[int, bytes]],
    key: str,
) -> None:
    def renamed(names: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Of this call alone."""
        own = f"{source[-1]}{number_}".encode()
        return [(name, value.replace(b"0B2E", own + b"2E").replace(b"AA01", own + b"01"))
                for name, value in names]  # fmt: skip

    nas = nas_at(server, source)
    about = [(attribute.USER_NAME, b"alice"), (attribute.CALLED_STATION_ID, CALLED.encode())]
    assert nas.ask(nas.access([*about, *renamed(asked)])).granted
    for status, seconds in ((1, 0), (3, 20), (STOP, 61), (STOP, 61)):
        report = [
            *about,
            number(attribute.ACCT_STATUS_TYPE, status),
            *renamed(told),
            (attribute.H323_CALL_ORIGIN, b"h323-call-origin=answer"),
            number(attribute.ACCT_SESSION_TIME, seconds),
        ]
        nas.ask(nas.accounting(report))
    own = f"{source[-1]}{number_}"
    assert server.query(
        "SELECT session_key, seconds, postings, flags @> '{no-authorization}' FROM cdr"
        " WHERE session_key LIKE %s OR session_key LIKE %s",
        *(f"%{own}2E", f"{own}01 %"),
    ) == [(key.replace("0B2E", f"{own}2E").replace("AA01", f"{own}01"), 61, 1, False)]


def test_a_gateway_s_session_in_another_conference_is_another_call(server: Server) -> None:
    nas = nas_at(server, CISCO)
    about = [
        (attribute.USER_NAME, b"alice"),
        (attribute.CALLED_STATION_ID, CALLED.encode()),
        (attribute.ACCT_SESSION_ID, b"00000C3F"),
    ]
    for conference in (b"C0 0 0 1", b"C0 0 0 2"):
        report = [
            *about,
            (attribute.H323_CONF_ID, b"h323-conf-id=" + conference),
            number(attribute.ACCT_STATUS_TYPE, STOP),
            number(attribute.ACCT_SESSION_TIME, 61),
        ]
        nas.ask(nas.accounting(report))
    assert server.query(
        "SELECT session_key, sip_call_id, postings FROM cdr WHERE session_key LIKE 'C0 %%'"
        " ORDER BY 1"
    ) == [("C0 0 0 1", "00000C3F", 1), ("C0 0 0 2", "00000C3F", 1)]


def test_of_several_attempts_to_reach_a_number_the_one_that_was_answered_is_charged(
    server: Server,
) -> None:
    server.command("client", "set", "sippy", "--bill-leg", "originate")
    nas = nas_at(server, SIPPY)

    def reported(session: bytes, conference: bytes, seconds: int) -> None:
        report = [
            number(attribute.ACCT_STATUS_TYPE, STOP),
            (attribute.USER_NAME, b"alice"),
            (attribute.CALLED_STATION_ID, CALLED.encode()),
            (attribute.ACCT_SESSION_ID, session),
            (attribute.H323_CONF_ID, b"h323-conf-id=" + conference),
            (attribute.H323_CALL_ORIGIN, b"h323-call-origin=originate"),
            number(attribute.ACCT_SESSION_TIME, seconds),
        ]
        nas.ask(nas.accounting(report))

    def billed() -> bool:
        reported(b"probe", b"E%d 0 0 0" % time.time_ns(), 1)
        return server.query("SELECT FROM cdr WHERE session_key LIKE 'E%%0 0 0'") != []

    wait_until(billed, "the clients are read again")
    about = [
        (attribute.USER_NAME, b"alice"),
        (attribute.CALLED_STATION_ID, CALLED.encode()),
        (attribute.H323_CONF_ID, b"h323-conf-id=D0 1 2 3"),
    ]
    assert nas.ask(nas.access(about)).granted
    for session, seconds in ((b"1", 0), (b"2", 0), (b"3", 61), (b"2", 0), (b"3", 61), (b"3", 75)):
        reported(session, b"D0 1 2 3", seconds)
    assert server.query(
        "SELECT seconds, (SELECT count(*) > 0 FROM charge WHERE charge.call_id = cdr.call_id)"
        " FROM cdr WHERE session_key = 'D0 1 2 3'"
    ) == [(61, True)]
    server.command("client", "set", "sippy", "--bill-leg", "answer")


def kamailio_reports(
    status: int, key: str, at: int, method: int, code: int
) -> list[tuple[int, bytes]]:
    return [
        number(attribute.ACCT_STATUS_TYPE, status),
        number(attribute.SERVICE_TYPE, 15),
        number(attribute.SIP_RESPONSE_CODE, code),
        number(attribute.SIP_METHOD, method),
        number(attribute.EVENT_TIMESTAMP, at),
        (attribute.ACCT_SESSION_ID, key.encode()),
        (attribute.USER_NAME, b"alice@sip.example"),
        (attribute.CALLED_STATION_ID, f"sip:+{CALLED}@sip.example".encode()),
    ]


@pytest.mark.parametrize(
    ("key", "reports", "expected"),
    [
        # Status, seconds after the beginning, method, response.
        ("k-talk", [(1, 0, INVITE, 200), (2, 61, BYE, 200)], (61, "SIP 200", True)),
        ("k-hold", [(1, 0, INVITE, 200), (3, 30, INVITE, 200), (2, 61, BYE, 200)],
         (61, "SIP 200", True)),
        ("k-no-start", [(3, 30, INVITE, 200), (2, 61, BYE, 200)], (31, "SIP 200", True)),
        ("k-busy", [(FAILED, 5, INVITE, 486)], (0, "SIP 486", False)),
        ("k-gave-up", [(2, 9, CANCEL, 200), (FAILED, 9, INVITE, 487)], (0, "SIP 200", False)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ahead_seconds", [0, 3600])
def test_kamailio_tells_times_and_responses_and_no_duration(
    server: Server,
    key: str,
    reports: list[tuple[int, int, int, int]],
    expected: tuple[int, str, bool],
    ahead_seconds: int,
) -> None:
    key = f"{key}-{ahead_seconds}"
    nas = nas_at(server, KAMAILIO)
    asked = [
        (attribute.USER_NAME, b"alice@sip.example"),
        (attribute.CALLED_STATION_ID, f"sip:+{CALLED}@sip.example".encode()),
        (attribute.ACCT_SESSION_ID, key.encode()),
    ]
    assert nas.ask(nas.access(asked)).granted
    # Without a lead the last is told of now.
    begun = int(time.time()) - max(later for _, later, _, _ in reports) + ahead_seconds
    for status, later, method, code in reports:
        nas.ask(nas.accounting(kamailio_reports(status, key, begun + later, method, code)))
    [found] = server.query(
        "SELECT seconds, cause, (SELECT sum(amount_micros) > 0 FROM charge "
        "WHERE charge.call_id = cdr.call_id), started_at <= ended_at AND ended_at <= now()"
        " FROM cdr WHERE session_key = %s",
        key,
    )
    seconds, cause, charged = expected
    assert found[:2] == (seconds, cause)
    assert bool(found[2]) is charged
    assert found[3] is not False, "its clock has dated something"
