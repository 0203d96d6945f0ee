"""Golden packets: every captured request is read as tests/captures/NAME.expected.jsonl says.

A new capture is two files: NAME.jsonl, its name beginning with the client type, and the
expectations, one line a request. Packets of the sender `responder` are not looked at,
those of the sender `made` are ours, for what no real switch was at hand.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from aaa_server.charging.requests import Digest, Pap
from aaa_server.radius.client import AUTH
from aaa_server.radius.dialect import DIALECTS
from aaa_server.radius.packet import Secret, decode
from aaa_server.radius.receive import Discard, Fresh
from tests.radius.peer import CAPTURES, NOW, Wire, captured, client_of

NAMES = sorted(path.name.partition(".")[0] for path in CAPTURES.glob("*.expected.jsonl"))


def expected(name: str) -> list[dict[str, Any]]:
    lines = (CAPTURES / f"{name}.expected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def read(received: object, packet: dict[str, Any]) -> dict[str, Any]:
    """What the receiver and the dialect make of the packet, in the words of the expectations."""
    said: dict[str, Any] = {"n": packet["n"]}
    if isinstance(received, Discard):
        return said | {"discard": received.reason}
    assert isinstance(received, Fresh)
    dialect = DIALECTS[received.client.type]
    call: Any
    if packet["role"] == AUTH:
        call = dialect.access(received)
        assert call.problem == ""
        assert call.trusted
        said |= {"service": call.service}
        for key, value in received.packet.attributes:
            if key == 2:
                password = received.secret.reveal(value, received.packet.authenticator)
                said["password"] = password.decode()
        if isinstance(call.credential, Digest):
            said["digest"] = {"username": call.credential.username, **dict(call.credential.fields)}
        else:
            # Empty or "-", and what Sippy sends for a caller whom it knows: no password.
            real = said.get("password", "-") not in ("", "-", "cisco")
            assert type(call.credential) is (Pap if real else type(None))
        said |= {name: text for name in ("mode", "did", "realm") if (text := getattr(call, name))}
        if call.step is not None:
            said["step"] = call.step
    else:
        call = dialect.account(received, NOW)
        said["status"] = call.status
        if call.status == "stop":
            said |= {"duration_ms": call.duration_ms, "cause": call.cause, "route": call.route}
        said["unauthorized"] = call.unauthorized
        if call.skip:
            said["skip"] = True
        if call.event_at != NOW:
            said["event_at"] = call.event_at.isoformat()
    said |= {
        "session_key": call.session_key,
        "account_code": call.origin.account_code,
        "ani": call.origin.ani,
        "called": call.called,
        "address": call.origin.address,
    }
    if call.origin.did:
        said["origin_did"] = call.origin.did
    if call.sip_call_id:
        said["sip_call_id"] = call.sip_call_id
    assert call.nas_address == "127.0.0.1"
    return said


@pytest.mark.parametrize("name", NAMES)
def test_every_captured_request_is_read_right(name: str) -> None:
    wire = Wire(client_of(name.partition("_")[0]))
    read_so = [
        read(
            wire.send(
                packet["datagram"], source=("127.0.0.1", packet["sport"]), role=packet["role"]
            ),
            packet,
        )
        for packet in captured(name)
    ]
    assert read_so == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_captured_header_is_what_the_capture_says(name: str) -> None:
    for packet in captured(name):
        decoded = decode(packet["datagram"])
        assert (decoded.code, decoded.identifier) == (packet["code"], packet["id"])
        assert len(decoded.raw) == len(packet["datagram"])


@pytest.mark.parametrize("name", NAMES)
def test_no_captured_accounting_fits_another_secret(name: str) -> None:
    wire = Wire(client_of(name.partition("_")[0], secrets=(Secret(b"testing124"),)))
    accounting = [packet for packet in captured(name) if packet["role"] != AUTH]
    assert accounting
    for packet in accounting:
        received = wire.send(packet["datagram"], role=packet["role"])
        assert received == Discard("bad-authenticator")


def test_there_are_expectations_for_every_capture() -> None:
    captures = {path.name for path in CAPTURES.glob("*.jsonl")}
    assert captures == {f"{name}.jsonl" for name in NAMES} | {
        f"{name}.expected.jsonl" for name in NAMES
    }
