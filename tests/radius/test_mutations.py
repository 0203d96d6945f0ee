"""Whatever arrives, the receiver and the dialects answer it with a value."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from aaa_server.charging.digest import check_digest, nonce_key, reply_to
from aaa_server.charging.requests import Digest, Refusal, Refused
from aaa_server.radius.client import ACCT, AUTH
from aaa_server.radius.dialect import DIALECTS
from aaa_server.radius.packet import (
    ACCOUNTING_REQUEST,
    Malformed,
    decode,
    encode_reply,
    encode_request,
)
from aaa_server.radius.receive import Discard, Fresh, Resend
from tests.charging.test_digest import profile
from tests.radius.peer import NOW, SECRET, Wire, captured_datagrams, client_of

MUTATIONS = 100_000
# What dialects read, digests by both numberings among it.
KEYS = (1, 2, 3, 8, 25, 44, 46, 55, *range(101, 123), 206, 207, 207, 207, 2305, 6169, 6172)
PROFILE = profile("alice", b"secret")


def mutated(datagram: bytes, chance: random.Random) -> bytes:
    """The datagram with one to eight changes: octets, cuts, insertions, a wrong Length."""
    octets = bytearray(datagram)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(octets)) if octets else 0
        match chance.randrange(6):
            case 0:
                octets[at : at + 1] = bytes((chance.randrange(256),))
            case 1:
                octets[at : at + 1] = (
                    bytes((octets[at] ^ 1 << chance.randrange(8),)) if octets else b""
                )
            case 2:
                del octets[at : at + chance.randrange(1, 30)]
            case 3:
                octets[at:at] = chance.randbytes(chance.randrange(1, 30))
            case 4:
                octets[2:4] = chance.randrange(65_536).to_bytes(2, "big")
            case _:
                octets[2:4] = len(octets).to_bytes(2, "big")
    return bytes(octets)


def speak(fresh: Fresh) -> None:
    """Let the dialect read the request and say no to it."""
    dialect = DIALECTS[fresh.client.type]
    if fresh.packet.code == ACCOUNTING_REQUEST:
        call: Any = dialect.account(fresh, NOW)
        assert call.duration_ms is None or 0 <= call.duration_ms < 2**31 * 1000
    else:
        call = dialect.access(fresh)
        assert len(call.realm) <= 253
        if isinstance(call.credential, Digest):
            outcome = check_digest(call.credential, PROFILE, call.origin, None, NOW)
            assert isinstance(outcome, int | Refused)
            assert len(nonce_key(call.credential)) == 16
            digest = reply_to(call.credential, PROFILE)
            assert (digest is not None) or isinstance(outcome, Refused)
        no = Refused(Refusal.INVALID_ACCOUNT, "nobody")
        code, attributes = dialect.access_reply(no, call, fresh.client)
        encode_reply(code, fresh.packet, SECRET, attributes, message_authenticator=True)
    for text in (call.session_key, call.called, call.cause, call.route, *call.origin[:6]):
        assert "\0" not in text
        text.encode()


def test_a_hundred_thousand_mutations_never_raise_anything_but_malformed() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    good = captured_datagrams()
    wires = {name: Wire(client_of(name)) for name in DIALECTS}
    outcomes: dict[type, int] = {}
    for _ in range(MUTATIONS):
        datagram, role, client_type = chance.choice(good)
        datagram = mutated(datagram, chance)
        with contextlib.suppress(Malformed):
            decode(datagram)
        received = wires[client_type].send(
            datagram, source=("192.0.2.1", chance.randrange(4)), role=role
        )
        outcomes[type(received)] = outcomes.get(type(received), 0) + 1
        if isinstance(received, Fresh):
            speak(received)
    assert outcomes.keys() <= {Fresh, Resend, Discard}
    assert outcomes[Fresh] > 1000
    assert outcomes[Discard] > 1000


@pytest.mark.parametrize("client_type", sorted(DIALECTS))
def test_attributes_mutated_behind_a_good_signature_are_read_by_every_dialect(
    client_type: str,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    wire = Wire(client_of(client_type))
    good = [(decode(datagram), role) for datagram, role, _ in captured_datagrams()]
    for number in range(2000):
        packet, role = chance.choice(good)
        attributes = [pair for pair in packet.attributes if pair[0] not in (33, 80)]
        for _ in range(chance.randrange(1, 5)):
            key, value = attributes[chance.randrange(len(attributes))]
            if key == 3 or chance.random() < 0.2:
                key = chance.choice(KEYS)
            limit = 253 if key < 256 else 247
            attributes[chance.randrange(len(attributes))] = (
                key,
                mutated(value, chance)[:limit] if value else chance.randbytes(20),
            )
        datagram = encode_request(
            packet.code,
            number % 256,
            SECRET,
            attributes,
            authenticator=chance.randbytes(16),
        )
        speak(wire.fresh(datagram, role=role))


def test_noise_is_malformed_or_unknown_and_counted() -> None:
    chance = random.Random(1)
    wire = Wire()
    for size in range(300):
        assert isinstance(
            wire.send(chance.randbytes(size), role=chance.choice((AUTH, ACCT))), Discard
        )
    counts = wire.receiver.counts
    assert sum(n for (_, what), n in counts.items() if what == "requests") == 300
    assert sum(n for (_, what), n in counts.items() if what != "requests") == 300
