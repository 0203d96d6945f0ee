"""SIP digests over the wire: a nonce of ours, a nonce of the client's, and what was overheard."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from aaa_server.radius import attribute
from aaa_server.radius.packet import ACCESS_CHALLENGE
from tests.integration.nas import CALLED, STOP, Nas
from tests.integration.server import wait_until
from tests.integration.test_radclient import RFC, radclient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import Serving
    from tests.integration.nas import Answer, Attributes
    from tests.integration.server import Server

PASSWORD = "alice-password"
URI = "sip:sip.example"
QUESTIONS = 20


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "two-processes"])
def server(serving: Serving, request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(processes=request.param) as started:
        yield started
        started.audit()


def md5(said: str) -> str:
    return hashlib.md5(said.encode()).hexdigest()


class Phone:
    """Alice's telephone: answers challenges with her password."""

    def __init__(self, nonce: str = "", *, realm: str = "sip.example") -> None:
        self.nonce = nonce or os.urandom(8).hex()
        self.realm = realm
        self.ha1 = md5(f"alice:{realm}:{PASSWORD}")

    def fields(self, count: int, *, uri: str = URI, method: str = "REGISTER") -> dict[str, str]:
        nc = f"{count:08x}"
        middle = f"{self.nonce}:{nc}:0a4f113b:auth"
        return {
            "Digest-Username": "alice",
            "Digest-Realm": self.realm,
            "Digest-Nonce": self.nonce,
            "Digest-Method": method,
            "Digest-URI": uri,
            "Digest-Qop": "auth",
            "Digest-Algorithm": "MD5",
            "Digest-CNonce": "0a4f113b",
            "Digest-Nonce-Count": nc,
            "Digest-Response": md5(f"{self.ha1}:{middle}:{md5(f'{method}:{uri}')}"),
        }

    def proof(self, count: int, *, uri: str = URI) -> str:
        middle = f"{self.nonce}:{count:08x}:0a4f113b:auth"
        return md5(f"{self.ha1}:{middle}:{md5(f':{uri}')}")


KEYS = {
    "Digest-Username": attribute.DIGEST_USERNAME,
    "Digest-Realm": attribute.DIGEST_REALM,
    "Digest-Nonce": attribute.DIGEST_NONCE,
    "Digest-Method": attribute.DIGEST_METHOD,
    "Digest-URI": attribute.DIGEST_URI,
    "Digest-Qop": attribute.DIGEST_QOP,
    "Digest-Algorithm": attribute.DIGEST_ALGORITHM,
    "Digest-CNonce": attribute.DIGEST_CNONCE,
    "Digest-Nonce-Count": attribute.DIGEST_NONCE_COUNT,
    "Digest-Response": attribute.DIGEST_RESPONSE,
}
STERMAN = {
    "Digest-Realm": 1,
    "Digest-Nonce": 2,
    "Digest-Method": 3,
    "Digest-URI": 4,
    "Digest-Qop": 5,
    "Digest-Algorithm": 6,
    "Digest-CNonce": 8,
    "Digest-Nonce-Count": 9,
    "Digest-Username": 10,
}


def by_rfc(fields: dict[str, str]) -> Attributes:
    return [(KEYS[name], text.encode()) for name, text in fields.items()]


def by_draft(fields: dict[str, str]) -> Attributes:
    tagged = [
        bytes((STERMAN[name], len(text) + 2)) + text.encode()
        for name, text in fields.items()
        if name in STERMAN
    ]
    response = (attribute.STERMAN_DIGEST_RESPONSE, fields["Digest-Response"].encode())
    return [response, *((attribute.STERMAN_DIGEST_ATTRIBUTES, one) for one in tagged)]


def ask(server: Server, attributes: Attributes, *, source: str = RFC) -> Answer:
    nas = Nas(server, source, target="127.0.0.1")
    return nas.ask(nas.access([(attribute.USER_NAME, b"alice"), *attributes]))


def heard(server: Server, attributes: dict[int, str]) -> tuple[str, dict[int, str]]:
    """What radclient hears; it knows the attributes of RFC 5090 by their numbers alone."""
    said = ", ".join(f"Attr-{key} = 0x{text.encode().hex()}" for key, text in attributes.items())
    answer = radclient(server, "auth", f'User-Name = "alice@sip.example", {said}', source=RFC)
    numbered = {
        int(name.removeprefix("Attr-")): bytes.fromhex(text.removeprefix("0x")).decode()
        for name, text in answer.attributes.items()
        if name.startswith("Attr-")
    }
    return answer.code, numbered


def test_radclient_is_challenged_answers_and_is_let_in(server: Server) -> None:
    asks = {attribute.DIGEST_METHOD: "REGISTER", attribute.DIGEST_URI: URI}
    code, challenge = heard(server, asks)
    assert code == "Access-Challenge"
    nonce = challenge.pop(attribute.DIGEST_NONCE)
    assert challenge == {
        attribute.DIGEST_REALM: "sip.example",
        attribute.DIGEST_QOP: "auth",
        attribute.DIGEST_ALGORITHM: "MD5",
    }
    phone = Phone(nonce)
    fields = {KEYS[name]: text for name, text in phone.fields(1).items()}
    code, accepted = heard(server, fields)
    assert (code, accepted) == ("Access-Accept", {attribute.DIGEST_RESPONSE_AUTH: phone.proof(1)})
    wrong = fields | {attribute.DIGEST_NONCE_COUNT: "00000002"}
    assert heard(server, wrong) == ("Access-Reject", {})


def test_radclients_own_digest_names_are_the_drafts_and_are_read_too(server: Server) -> None:
    phone = Phone()
    said = ", ".join(
        f'{name.replace("Digest-Username", "Digest-User-Name")} = "{text}"'
        for name, text in phone.fields(1).items()
    )
    answer = radclient(server, "auth", f'User-Name = "alice", {said}', source=RFC)
    assert answer.code == "Access-Accept", answer.output
    assert "Digest-Attributes" in answer.output
    assert answer.attributes["h323-currency"] == "USD"
    assert "Session-Timeout" not in answer.attributes  # it only says who this is


def test_what_was_overheard_is_not_taken_again_by_any_process(server: Server) -> None:
    phone = Phone()
    assert ask(server, by_rfc(phone.fields(5))).accepted
    # The very same request over another path of servers.
    assert all(ask(server, by_rfc(phone.fields(5))).accepted for _ in range(4))
    for fields in (phone.fields(5, uri="sip:other.example"), phone.fields(4), phone.fields(1)):
        for _ in range(2):
            answer = ask(server, by_rfc(fields))
            assert not answer.accepted
            assert answer.return_code == 2
            assert "replay" in (answer.text(attribute.REPLY_MESSAGE) or "")
    assert ask(server, by_rfc(phone.fields(6))).accepted
    assert server.query("SELECT max(last_count) FROM digest_nonce") == [(6,)]


def test_a_digest_sets_up_a_call_and_an_old_one_does_not(server: Server) -> None:
    phone = Phone()
    call = (
        (attribute.CALLED_STATION_ID, CALLED.encode()),
        (attribute.ACCT_SESSION_ID, phone.nonce.encode()),
    )
    fields = phone.fields(2, method="INVITE", uri=f"sip:{CALLED}@sip.example")
    answer = ask(server, [*by_rfc(fields), *call])
    assert answer.granted
    assert answer.text(attribute.DIGEST_RESPONSE_AUTH) == phone.proof(
        2, uri=f"sip:{CALLED}@sip.example"
    )
    later = (call[0], (attribute.ACCT_SESSION_ID, f"{phone.nonce}-2".encode()))
    stolen = phone.fields(2, method="INVITE", uri="sip:900@sip.example")
    assert not ask(server, [*by_rfc(stolen), *later]).accepted
    assert not ask(server, [*by_rfc(fields | {"Digest-Response": "0" * 32}), *later]).accepted
    nas = Nas(server, RFC, target="127.0.0.1")
    for key in (phone.nonce, f"{phone.nonce}-2"):
        nas.ask(nas.report(STOP, key, seconds=0))


def test_an_overheard_digest_reaches_no_other_number_and_no_second_call(server: Server) -> None:
    phone = Phone()
    fields = phone.fields(1, method="INVITE", uri=f"sip:{CALLED}@sip.example")

    def asked(key: str, called: str = CALLED) -> Answer:
        call = [
            (attribute.CALLED_STATION_ID, called.encode()),
            (attribute.ACCT_SESSION_ID, key.encode()),
        ]
        return ask(server, [*by_rfc(fields), *call])

    assert asked(phone.nonce).granted
    assert asked(phone.nonce).granted  # of the same call it is no replay
    for answer in (
        asked(f"{phone.nonce}-2"),
        asked(phone.nonce, "442071838751"),
        asked(f"{phone.nonce}-3", "442071838751"),
        ask(server, by_rfc(fields)),
    ):
        assert (answer.accepted, answer.return_code) == (False, 2)
        assert "replay" in (answer.text(attribute.REPLY_MESSAGE) or "")
    nas = Nas(server, RFC, target="127.0.0.1")
    nas.ask(nas.report(STOP, phone.nonce, seconds=0))


def test_a_digest_of_a_register_only_says_who_it_is(server: Server) -> None:
    phone = Phone()
    call = [
        (attribute.CALLED_STATION_ID, CALLED.encode()),
        (attribute.ACCT_SESSION_ID, phone.nonce.encode()),
    ]
    answer = ask(server, [*by_rfc(phone.fields(1)), *call])
    assert (answer.accepted, answer.return_code) == (False, 2)
    assert ask(server, by_rfc(phone.fields(1))).accepted


def test_a_nonce_of_ours_without_a_count_is_good_for_one_use(server: Server) -> None:
    asks = [(attribute.DIGEST_METHOD, b"REGISTER"), (attribute.DIGEST_URI, URI.encode())]
    phone = Phone(ask(server, asks).text(attribute.DIGEST_NONCE) or "")

    def said(uri: str) -> Attributes:
        """As RFC 2069 had it."""
        fields = phone.fields(1, uri=uri)
        for name in ("Digest-Qop", "Digest-CNonce", "Digest-Nonce-Count"):
            del fields[name]
        response = md5(f"{phone.ha1}:{phone.nonce}:{md5(f'REGISTER:{uri}')}")
        return by_rfc(fields | {"Digest-Response": response})

    assert ask(server, said(URI)).accepted
    assert ask(server, said(URI)).accepted  # by another path
    answer = ask(server, said("sip:other.example"))
    assert answer.packet.code == ACCESS_CHALLENGE
    assert answer.text(attribute.DIGEST_STALE) == "true"
    phone.nonce = answer.text(attribute.DIGEST_NONCE) or ""
    assert ask(server, said("sip:other.example")).accepted


def test_a_client_that_leaves_nonces_to_the_server_may_not_bring_its_own(server: Server) -> None:
    phone = Phone()

    def challenged() -> bool:
        # Each question is answered by any of the processes: so many reach all of them.
        answers = (ask(server, by_rfc(phone.fields(1))) for _ in range(QUESTIONS))
        return all(answer.packet.code == ACCESS_CHALLENGE for answer in answers)

    server.command("client", "set", "rfc", "--digest-nonces", "server")
    wait_until(challenged, "every process has read the clients again")
    answer = ask(server, by_rfc(phone.fields(1)))
    assert answer.text(attribute.DIGEST_STALE) == "true"
    ours = Phone(answer.text(attribute.DIGEST_NONCE) or "")
    assert ask(server, by_rfc(ours.fields(1))).accepted
    server.command("client", "set", "rfc", "--digest-nonces", "client")
    wait_until(lambda: not challenged(), "a process has read the clients again")


def test_kamailios_digest_is_checked_by_the_drafts_numbers(server: Server) -> None:
    server.command("client", "add", "proxy", "127.0.0.4", "--type", "kamailio", "--secret",
                   "testing123")  # fmt: skip
    phone = Phone()
    nas = Nas(server, "127.0.0.4", target="127.0.0.1", signed=False)

    def told(attributes: Attributes) -> Answer:
        # A process that has not read the clients again hears nothing of this one yet.
        return nas.ask(nas.access(attributes), again_seconds=0.5)

    def asked(fields: dict[str, str]) -> Answer:
        return told([(attribute.USER_NAME, b"alice@sip.example"), *by_draft(fields)])

    answer = asked(phone.fields(1))
    assert answer.accepted
    assert answer.text(attribute.DIGEST_RESPONSE_AUTH) is None  # 106 is another thing there
    assert answer.text(attribute.CHARGEABLE_USER_IDENTITY) == "alice"
    assert not asked(phone.fields(2) | {"Digest-Response": "0" * 32}).accepted
    # What a proxy calls a caller: the extension of that domain comes before the code.
    found = {
        name: told([(attribute.USER_NAME, name.encode())]).text(attribute.CHARGEABLE_USER_IDENTITY)
        for name in (
            "2001@north.example",
            "2001@other.example",
            "1001@any.example",
            "bob@x.example",
        )
    }
    assert found == {
        "2001@north.example": "nora",
        "2001@other.example": None,
        "1001@any.example": "alice",
        "bob@x.example": "bob",
    }


def test_only_the_configured_realm_is_taken(serving: Serving) -> None:
    options = {"radius": 'digest_realm = "sip.example"'}
    with serving(options=options) as server:
        assert ask(server, by_rfc(Phone().fields(1))).accepted
        answer = ask(server, by_rfc(Phone(realm="evil.example").fields(1)))
        assert not answer.accepted
        assert answer.text(attribute.REPLY_MESSAGE) == "the digest's realm is not sip.example"
        asks = [
            (attribute.DIGEST_METHOD, b"REGISTER"),
            (attribute.DIGEST_URI, b"sip:other.example"),
        ]
        challenge = ask(server, asks)
        assert challenge.packet.code == ACCESS_CHALLENGE
        assert challenge.text(attribute.DIGEST_REALM) == "sip.example"
