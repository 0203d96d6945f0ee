"""Packets by people who mean harm: the server goes on serving, and says no traceback."""

from __future__ import annotations

import random
import socket
import time
from typing import TYPE_CHECKING

from aaa_server.radius import attribute
from aaa_server.radius.client import AUTH
from aaa_server.radius.packet import ACCESS_REQUEST, decode, encode_request
from aaa_server.radius.receive import COMPLAINT_SECONDS
from tests.integration.nas import ANSWER_SECONDS_MAX, CALLED, SECRET, STOP, Nas
from tests.radius.peer import captured_datagrams
from tests.radius.test_mutations import mutated

if TYPE_CHECKING:
    from tests.integration.server import Server

SECONDS = 4.0
MUTATED_MIN = 1000
SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.77")
TEXTS = (
    b"",
    b"\0",
    b"alice\0",
    b"alice",
    b"admin",
    b"acme",
    b"7700123456",
    b"'; DROP TABLE account; --",
    b"%s %(x)s {0} \\x00 \\",
    b'{a,b},NULL,"',
    b"\xff\xfe\xed",
    "żółw 📞 \u202e".encode(),
    b"0" * 253,
    b"9" * 32,
    b"1" * 33,
    b"RG_21",
    b"h323-ivr-out=PHASE:reauth:1",
    b"h323-ivr-out=PHASE:end:99999999",
    b"h323-ivr-out=PHASE:end:2",
    b"sky-bill-msec=99999999999999999999",
    b"sky-elapsed=4294967295",
    b"bill-msec=2147483647999",
    b"route=RG_21",
    b"route=RG_11",
    b"sky-rg-out=21",
    b"sky-rg-in=11",
    b"sky-ext=1001@x",
    b"\0\0\0\x01",
    b"\0\0\0\x02",
    b"\0\0\0\x03",
    b"\0\0\0\x07",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
)
KEYS = (
    *(attribute.USER_NAME, attribute.USER_PASSWORD, attribute.CHAP_PASSWORD),
    *(attribute.SERVICE_TYPE, attribute.CLASS, attribute.CALLED_STATION_ID),
    *(attribute.CALLING_STATION_ID, attribute.ACCT_STATUS_TYPE, attribute.ACCT_DELAY_TIME),
    *(attribute.ACCT_SESSION_ID, attribute.ACCT_SESSION_TIME, attribute.EVENT_TIMESTAMP),
    *(attribute.CISCO_AVPAIR, attribute.H323_REMOTE_ADDRESS, attribute.H323_CONF_ID),
    *(attribute.H323_CALL_ORIGIN, attribute.DIGEST_RESPONSE, attribute.CISCO_AVPAIR),
)


def alive(server: Server, key: str) -> None:
    nas = Nas(server)
    assert nas.ask(nas.authorize(key, "bob", CALLED), again_seconds=1).granted
    nas.ask(nas.report(STOP, key, seconds=0), again_seconds=1)


def seeded() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)


def test_mutated_packets_leave_the_server_serving(server: Server) -> None:
    chance = seeded()
    good = captured_datagrams()
    wires = []
    for source in SOURCES:
        wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wire.bind((source, 0))
        wires.append(wire)
    ends = time.monotonic() + SECONDS
    sent = 0
    while time.monotonic() < ends or sent < MUTATED_MIN:
        datagram, role, _ = chance.choice(good)
        port = server.auth_port if role == AUTH else server.acct_port
        if chance.random() < 0.9:
            datagram = mutated(datagram, chance)
        chance.choice(wires).sendto(datagram, ("127.0.0.1", port))
        sent += 1
        if sent % 500 == 0:
            alive(server, f"alive-{sent}")
    for wire in wires:
        wire.close()
    alive(server, "alive")
    server.audit()


def test_signed_requests_with_any_values_are_answered_or_dropped_and_the_books_agree(
    server: Server,
) -> None:
    chance = seeded()
    ends = time.monotonic() + SECONDS
    number = answered = 0
    while time.monotonic() < ends:
        number += 1
        nas = Nas(server, chance.choice(SOURCES[:3]))
        attributes = [
            (key, chance.choice(TEXTS)[: 253 if key < 256 else 247])
            for key in chance.choices(KEYS, k=chance.randrange(1, 9))
        ]
        if chance.random() < 0.5:
            attributes.append((attribute.ACCT_SESSION_ID, b"hostile-%d" % chance.randrange(20)))
        if chance.random() < 0.7:
            attributes.append((attribute.USER_NAME, chance.choice((b"alice", b"bob", b"cora"))))
        if chance.random() < 0.7:
            attributes.append((attribute.CALLED_STATION_ID, CALLED.encode()))
        if chance.random() < 0.5:
            question = nas.access(attributes, identifier=number % 256)
            said = dict(attributes)
            delayed = attribute.CALLED_STATION_ID not in said or attribute.DIGEST_RESPONSE in said
        else:
            status = chance.choice((1, 2, 3, 2, 3, 7, 15, 99))
            attributes.append((attribute.ACCT_STATUS_TYPE, status.to_bytes(4, "big")))
            question = nas.accounting(attributes, identifier=number % 256)
            delayed = False
        if delayed:  # the refusal of a wrong password takes a second
            wire = nas.socket(question.port)
            wire.send(question.datagram)
            wire.close()
        else:
            # An authentic request of a known client is answered, whatever is in it.
            answer = nas.try_to_ask(question, seconds=ANSWER_SECONDS_MAX)
            assert answer is not None, decode(question.datagram).attributes
            answered += 1
    print(f"{number} requests, {answered} answers")  # noqa: T201 - likewise
    alive(server, "alive-2")
    server.audit()


def test_a_reply_sent_to_the_server_and_other_codes_are_dropped(server: Server) -> None:
    nas = Nas(server)
    for code in (0, 2, 3, 5, 11, 13, 40, 43, 255):
        question = nas.access([(attribute.USER_NAME, b"bob")])
        changed = question._replace(datagram=bytes((code,)) + question.datagram[1:])
        assert nas.hears_nothing(changed, seconds=0.05)
    assert nas.hears_nothing(
        nas.authorize("wrong-port", "bob", CALLED)._replace(port=server.acct_port), seconds=0.2
    )
    assert nas.hears_nothing(
        nas.report(STOP, "wrong-port", "bob", CALLED)._replace(port=server.auth_port), seconds=0.2
    )
    alive(server, "alive-3")


def test_the_rules_of_cve_2024_3596_hold(server: Server) -> None:
    rfc = Nas(server, "127.0.0.2", signed=False)
    assert rfc.hears_nothing(rfc.authorize("unsigned", "bob", CALLED))
    freeswitch = Nas(server, signed=False)
    assert freeswitch.ask(freeswitch.authorize("unsigned-fs", "bob", CALLED)).granted
    proxied = freeswitch.authorize("proxied", "bob", CALLED, (33, b"state"))
    assert freeswitch.hears_nothing(proxied)
    signed = Nas(server)
    answer = signed.ask(signed.authorize("proxied-2", "bob", CALLED, (33, b"one"), (33, b"two")))
    assert [value for key, value in answer.packet.attributes if key == 33] == [b"one", b"two"]


def test_an_identifier_used_again_at_once_is_another_question(server: Server) -> None:
    nas = Nas(server)
    with nas.socket(server.auth_port) as wire:
        wire.settimeout(ANSWER_SECONDS_MAX)
        for number in range(50):
            question = nas.authorize(f"identifier-{number}", "bob", CALLED)
            wire.send(question.datagram)
            answer = nas.check(wire.recv(4096), question)
            assert answer.text(attribute.CLASS) == f"sky-aaa:identifier-{number}"
            wire.send(question.datagram)
            assert nas.check(wire.recv(4096), question).packet.raw == answer.packet.raw
    server.audit()


def test_a_flood_of_forged_strangers_takes_nothing_from_a_client(server: Server) -> None:
    datagram = encode_request(
        ACCESS_REQUEST, 1, SECRET, [(attribute.USER_NAME, b"bob")], authenticator=bytes(16)
    )
    said, begun = server.log.count("is no client of ours"), time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.66", 0))
        for number in range(3000):
            wire.sendto(datagram, ("127.0.0.1", server.auth_port))
            if number % 1000 == 0:
                alive(server, f"flood-{number}")
    alive(server, "flood")
    # One line every ten seconds, not one a packet.
    lines = server.log.count("is no client of ours") - said
    assert lines <= 1 + (time.monotonic() - begun) / COMPLAINT_SECONDS
