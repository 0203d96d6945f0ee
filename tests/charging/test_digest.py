"""SIP digests against the examples of the RFCs and of real switches."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.charging.catalogue import Catalogue
from aaa_server.charging.digest import (
    REPEAT_SECONDS,
    USED_ONCE,
    check_digest,
    is_users,
    nonce_key,
    prove,
    reply_to,
)
from aaa_server.charging.ledger import Ledger, Policy, Profile
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    Digest,
    DigestReply,
    Origin,
    Refusal,
    Refused,
)

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


def profile(code: str, password: bytes | None) -> Profile:
    return Profile(
        account_id=7,
        code=code,
        kind="customer",
        parent_id=1,
        chain=(7,),
        prepaid=True,
        currency="USD",
        credit_limit_micros=0,
        rate_group_id=1,
        max_channels=0,
        calls_per_second=0,
        maximum_call_seconds=None,
        status="active",
        expires_at=None,
        language="en",
        password=password,
        pin=None,
        revision=1,
    )


def digest(username: str, **fields: str) -> Digest:
    return Digest(
        username, tuple((name.replace("_", "-"), value) for name, value in fields.items())
    )


def check(
    said: Digest,
    password: bytes | None,
) -> int | Refused:
    return check_digest(said, profile(said.username, password), Origin(), None, NOW)


# RFC 2617 §3.5; RFC 7616 §3.9.1 (both algorithms); RFC 5090 §6 (SIP and HTTP); what
# FreeSWITCH and Kamailio sent (tests/captures), without and with every kind of qop.
RFC_2617 = digest(
    "Mufasa",
    realm="testrealm@host.com",
    nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
    uri="/dir/index.html",
    method="GET",
    qop="auth",
    nc="00000001",
    cnonce="0a4f113b",
    response="6629fae49393a05397450978507c4ef1",
)
_RFC_7616 = {
    "realm": "http-auth@example.org",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "uri": "/dir/index.html",
    "method": "GET",
    "qop": "auth",
    "nc": "00000001",
    "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
}
RFC_7616_MD5 = digest(
    "Mufasa", **_RFC_7616, algorithm="MD5", response="8ca523f5e9506fed4657c9700eebdbec"
)
RFC_7616_SHA256 = digest(
    "Mufasa",
    **_RFC_7616,
    algorithm="SHA-256",
    response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
)
RFC_5090 = digest(
    "12345678",
    realm="example.com",
    nonce="3bada1a0",
    uri="sip:97226491335@example.com",
    method="INVITE",
    qop="auth",
    algorithm="md5",
    nc="00000001",
    cnonce="56593a80",
    response="756933f735fcd93f90a4bbdd5467f263",
)
FREESWITCH = digest(
    "alice",
    realm="sip.lab",
    nonce="23d23831-ad07-4fb7-baf0-67df3a6d81ed",
    uri="sip:127.0.0.1:15062",
    method="REGISTER",
    qop="auth",
    algorithm="MD5",
    nc="00000001",
    cnonce="6b8b4567",
    response="2dced44c2e4927186fa5be05530fd2f3",
)
KAMAILIO = digest(
    "alice",
    realm="sip.lab",
    nonce="awM0x2sDM5vu4Wg2neOYcfBZd2ZAz9v/",
    uri="sip:127.0.0.1:15160",
    method="REGISTER",
    qop="auth",
    nc="00000001",
    cnonce="6b8b4567",
    response="585ecf3903d072cdf0fc7f1fbf2a0b63",
)
# The next one of the same capture, with a password that was wrong.
FREESWITCH_WRONG = digest(
    "alice",
    realm="sip.lab",
    nonce="0aa54e36-33bf-4eb0-9c55-34623cabfc74",
    uri="sip:127.0.0.1:15062",
    method="REGISTER",
    qop="auth",
    algorithm="MD5",
    nc="00000001",
    cnonce="6b8b4567",
    response="a89c66199419879d5ea0e538accb818c",
)
EXAMPLES = [
    (RFC_2617, b"Circle Of Life"),
    (RFC_7616_MD5, b"Circle of Life"),
    (RFC_7616_SHA256, b"Circle of Life"),
    (RFC_5090, b"secret"),
    (FREESWITCH, b"secret"),
    (FREESWITCH_WRONG, b"wrong"),
    (KAMAILIO, b"secret"),
]


@pytest.mark.parametrize(("said", "password"), EXAMPLES)
def test_the_examples_of_the_rfcs_and_of_real_switches_fit(said: Digest, password: bytes) -> None:
    assert check(said, password) == 1
    wrong = Refused(Refusal.INVALID_PASSWORD, "invalid password or PIN")
    assert check(said, password + b"!") == wrong
    assert check(said, b"") == wrong
    assert check(said, None) == wrong
    upper = tuple((name, text.upper() if name == "response" else text) for name, text in said[1])
    assert check(said._replace(fields=upper), password) == 1


def test_the_server_proves_itself_as_in_the_example_of_rfc_5090() -> None:
    answer = reply_to(RFC_5090, profile("12345678", b"secret"))
    assert answer == DigestReply("f847de948d12285f8f4199e366f1af21")
    assert reply_to(RFC_5090, profile("12345678", b"other")) is None


def md5(said: str) -> str:
    return hashlib.md5(said.encode()).hexdigest()


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters=":"),
                min_size=1, max_size=20)  # fmt: skip


@given(
    user=NAMES,
    realm=NAMES,
    password=NAMES,
    nonce=NAMES,
    cnonce=NAMES,
    uri=NAMES,
    count=st.integers(1, 0xFFFFFFFF),
    qop=st.sampled_from(["", "auth", "auth-int"]),
    algorithm=st.sampled_from(["", "MD5", "md5", "MD5-sess", "md5-SESS"]),
)
def test_every_kind_of_digest_fits_as_rfc_2617_spells_it(
    user: str,
    realm: str,
    password: str,
    nonce: str,
    cnonce: str,
    uri: str,
    count: int,
    qop: str,
    algorithm: str,
) -> None:
    body_hash = md5("body")
    ha1 = md5(f"{user}:{realm}:{password}")
    session = algorithm.lower() == "md5-sess"
    if session:
        ha1 = md5(f"{ha1}:{nonce}:{cnonce}")
    ha2 = md5(f"INVITE:{uri}:{body_hash}" if qop == "auth-int" else f"INVITE:{uri}")
    nc = f"{count:08x}"
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    said = digest(
        user,
        realm=realm,
        nonce=nonce,
        cnonce=cnonce,
        uri=uri,
        method="INVITE",
        qop=qop,
        algorithm=algorithm,
        nc=nc,
        body_hash=body_hash,
        response=md5(f"{ha1}:{middle}:{ha2}"),
    )
    assert check(said, password.encode()) == (count if qop else 0)
    answer = reply_to(said, profile(user, password.encode()))
    if qop == "auth-int":  # without the answer's body nobody can make the proof
        assert answer == DigestReply("", ha1 if session else "")
    else:
        assert answer == DigestReply(md5(f"{ha1}:{middle}:{md5(f':{uri}')}"))
    for name in ("response", "nonce", "realm", "uri", "method"):
        less = tuple(field for field in said.fields if field[0] != name)
        refused = check(said._replace(fields=less), password.encode())
        assert refused == Refused(Refusal.INVALID_ARGUMENT, f"the digest has no {name}")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"algorithm": "AKAv1-MD5"}, "digest algorithm AKAv1-MD5 is not supported"),
        ({"qop": "auth,auth-int"}, "digest qop auth,auth-int is not supported"),
        ({"nc": ""}, "eight hexadecimal digits"),
        ({"nc": "1"}, "eight hexadecimal digits"),
        ({"nc": "00000000"}, "eight hexadecimal digits above 0"),
        ({"nc": "0x000001"}, "eight hexadecimal digits"),
        ({"nc": "٠٠٠٠٠٠٠١"}, "eight hexadecimal digits"),
        ({"cnonce": ""}, "the digest has no cnonce"),
        ({"cnonce": "", "qop": "", "algorithm": "MD5-sess"}, "the digest has no cnonce"),
        ({"qop": "auth-int"}, "auth-int and has no Digest-Entity-Body-Hash"),
    ],
)
def test_a_digest_that_cannot_be_checked_is_refused_by_name(
    changes: dict[str, str], text: str
) -> None:
    said = RFC_5090._replace(fields=tuple((dict(RFC_5090.fields) | changes).items()))
    refused = check(said, b"secret")
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.INVALID_ARGUMENT
    assert text in refused.text


# ------------------------------------------------------------------ replay

KEY = nonce_key(RFC_5090)


def with_count(count: int, **changes: str) -> Digest:
    """RFC 5090's digest, answered for that nonce count."""
    fields = dict(RFC_5090.fields) | {"nc": f"{count:08x}"} | changes
    ha1 = md5(f"{RFC_5090.username}:{fields['realm']}:secret")
    middle = f"{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:auth"
    fields["response"] = md5(f"{ha1}:{middle}:{md5(fields['method'] + ':' + fields['uri'])}")
    return RFC_5090._replace(fields=tuple(fields.items()))


def without_qop(method: str = "INVITE", *, ours: bool) -> Digest:
    """RFC 5090's digest as RFC 2069 had it: without qop, nonce count and cnonce."""
    fields = dict(RFC_5090.fields) | {"method": method}
    for name in ("qop", "nc", "cnonce"):
        del fields[name]
    ha1 = md5(f"{RFC_5090.username}:{fields['realm']}:secret")
    fields["response"] = md5(f"{ha1}:{fields['nonce']}:{md5(method + ':' + fields['uri'])}")
    return Digest(RFC_5090.username, tuple(fields.items()), ours)


CALL = Authorize(1, "s1", NOW, Origin("12345678"), "97226491335")
WHO = Authenticate(NOW, Origin("12345678"), None)


class Server:
    """What is remembered of nonces, asked by RFC 5090's user."""

    def __init__(self) -> None:
        self.ledger = Ledger(Catalogue(1, 1, "USD", {}, {}), Policy(), iter(()))

    def asked(
        self, said: Digest, request: Authorize | Authenticate = CALL, *, later: int = 0
    ) -> Refused | None:
        request = request._replace(at=NOW + timedelta(seconds=later))
        return prove(said, profile("12345678", b"secret"), request, self.ledger)


def is_replay(answer: Refused | None) -> bool:
    assert answer is None or answer.reason is Refusal.INVALID_PASSWORD
    return answer is not None and "replay" in answer.text


@pytest.mark.parametrize(
    ("count", "said", "later", "accepted"),
    [
        (1, RFC_5090, 0, True),  # the same request by another path of servers
        (1, RFC_5090, REPEAT_SECONDS, True),
        (1, RFC_5090, REPEAT_SECONDS + 1, False),
        (1, with_count(1, cnonce="another"), 0, False),
        (2, RFC_5090, 0, False),
        (0xFFFFFFFF, RFC_5090, 0, False),
    ],
)
def test_a_nonce_count_is_taken_once(count: int, said: Digest, later: int, accepted: bool) -> None:
    server = Server()
    assert server.asked(with_count(count)) is None
    assert server.ledger.nonces[KEY].last_count == count
    assert is_replay(server.asked(said, later=later)) is not accepted
    # A wrong digest learns nothing of what was used.
    before = server.ledger.nonces[KEY]
    guess = check_digest(RFC_5090, profile("12345678", b"guess"), Origin(), before, NOW)
    assert guess == check(RFC_5090, b"guess")


@pytest.mark.parametrize(
    "other",
    [
        CALL._replace(session_key="s2"),
        CALL._replace(called="8821234567"),
        CALL._replace(origin=Origin("12345678", did="97226491335")),
        CALL._replace(client_id=2),
        WHO,
        WHO._replace(register=True),
    ],
)
@pytest.mark.parametrize("said", [RFC_5090, without_qop(ours=True)])
def test_a_repeat_is_of_the_same_call(said: Digest, other: Authorize | Authenticate) -> None:
    server = Server()
    assert server.asked(said) is None
    assert server.asked(said, other, later=1) is not None
    assert server.asked(said, later=2) is None
    server = Server()
    assert server.asked(said, other) is None
    assert server.asked(said, later=1) is not None
    assert server.asked(said, other, later=2) is None


def test_an_overheard_digest_registers_no_other_number() -> None:
    server = Server()
    register = WHO._replace(register=True, origin=Origin("12345678", ani="15550001"))
    assert server.asked(RFC_5090, register) is None
    assert server.asked(RFC_5090, register) is None
    stolen = register._replace(origin=Origin("12345678", ani="15559999"))
    assert is_replay(server.asked(RFC_5090, stolen))


@pytest.mark.parametrize("method", ["REGISTER", "register"])
def test_a_digest_of_a_register_sets_up_no_call(method: str) -> None:
    server = Server()
    for said in (with_count(1, method=method), without_qop(method, ours=False)):
        answer = server.asked(said)
        assert answer is not None
        assert answer.reason is Refusal.INVALID_PASSWORD
        assert "REGISTER" in answer.text
        assert server.ledger.nonces == {}  # so it can still be used for what it is
        assert server.asked(said, WHO) is None
        server.ledger.nonces.clear()


def test_a_nonce_of_ours_without_a_count_is_good_for_one_use() -> None:
    server = Server()
    said = without_qop(ours=True)
    assert server.asked(said) is None
    assert server.asked(said, later=REPEAT_SECONDS) is None
    assert server.asked(said, later=REPEAT_SECONDS + 1) == USED_ONCE
    assert server.asked(without_qop("BYE", ours=True), later=1) == USED_ONCE
    assert is_replay(server.asked(RFC_5090))
    assert server.asked(with_count(2)) is None
    assert server.asked(said, later=1) == USED_ONCE
    # Whose nonce it is looks after its age.
    server = Server()
    for later in (0, 100):
        assert server.asked(without_qop(ours=False), later=later) is None
    assert server.ledger.nonces == {}


def test_a_nonce_is_remembered_by_user_and_realm() -> None:
    keys = {
        nonce_key(said)
        for said in (RFC_5090, RFC_5090._replace(username="87654321"), FREESWITCH, KAMAILIO)
    }
    assert len(keys) == 4
    assert {len(key) for key in keys} == {16}


# ------------------------------------------------------------------ whose


@pytest.mark.parametrize(
    ("username", "origin", "mine"),
    [
        ("acme", Origin(), True),
        ("acme@sip.lab", Origin(), True),
        ("1001", Origin(extension="1001"), True),
        ("1001@sip.lab", Origin(extension="1001", domain="sip.lab"), True),
        ("1001@other.lab", Origin(extension="1001", domain="sip.lab"), False),
        ("alice", Origin("alice@sip.lab"), True),
        ("alice@sip.lab", Origin("alice@sip.lab"), True),
        ("alice@other.lab", Origin("alice@sip.lab"), False),
        ("bob", Origin("alice@sip.lab"), False),
        ("bob", Origin("acme"), False),
        ("", Origin(), False),
        ("@sip.lab", Origin(), False),
    ],
)
def test_the_user_of_a_digest_is_the_account(username: str, origin: Origin, mine: bool) -> None:
    assert is_users(username, profile("acme", b"x"), origin) is mine
