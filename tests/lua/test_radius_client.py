"""The RADIUS client in Lua: its arithmetic, its packets, whom it believes, and on luasocket."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import os
import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaa_server.radius.packet import (
    ACCESS_ACCEPT,
    Secret,
    decode,
    encode_reply,
    message_authenticator_fits,
)
from tests.integration.server import ROOT, free_port
from tests.lua.test_prepaid import LONDON, PREPAID, answered, cdr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.server import Server
    from tests.lua.conftest import NewSwitch
    from tests.lua.switch import Settings

SECRET = Secret(b"testing123")
FIXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def md5(runtime: str) -> Any:
    lua = importlib.import_module(f"lupa.{runtime}").LuaRuntime(encoding=None)
    lua.execute(b'package.path = "lua/lib/?.lua;" .. package.path')
    return lua.eval(b'(require("md5"))')


@pytest.fixture
def bits(runtime: str) -> Any:
    lua = importlib.import_module(f"lupa.{runtime}").LuaRuntime(encoding=None)
    lua.execute(b'package.path = "lua/lib/?.lua;" .. package.path')
    return lua.eval(b'(require("bits"))')


@FIXED
@given(st.binary(max_size=300), st.binary(max_size=100))
def test_md5_and_hmac_are_those_of_the_rfc(md5: Any, text: bytes, key: bytes) -> None:
    assert md5[b"sum"](text) == hashlib.md5(text, usedforsecurity=False).digest()
    assert md5[b"hmac"](key, text) == hmac.new(key, text, "md5").digest()


WORDS = st.integers(min_value=0, max_value=2**32 - 1)


@FIXED
@given(WORDS, WORDS)
def test_bits_without_operators_are_those_with(bits: Any, a: int, b: int) -> None:
    for place in (bits, bits[b"by_table"]()):
        assert place[b"band"](a, b) == a & b
        assert place[b"bor"](a, b) == a | b
        assert place[b"bxor"](a, b) == a ^ b


class Responder:
    """A server that answers with what `answers` makes of a request."""

    def __init__(self, answers: Callable[[bytes], list[bytes]]) -> None:
        self.requests: list[bytes] = []
        self._answers = answers
        self._wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._wire.bind(("127.0.0.1", 0))
        self.port = self._wire.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            request, source = self._wire.recvfrom(4096)
            if not request:
                return
            self.requests.append(request)
            for answer in self._answers(request):
                self._wire.sendto(answer, source)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._wire.close()


@pytest.fixture
def responder() -> Iterator[Callable[[Callable[[bytes], list[bytes]]], Responder]]:
    made: list[Responder] = []

    def start(answers: Callable[[bytes], list[bytes]]) -> Responder:
        made.append(Responder(answers))
        return made[-1]

    yield start
    for each in made:
        each.close()


def accept(request: bytes, *, secret: Secret = SECRET, signed: bool = True) -> bytes:
    """Ten minutes over one route."""
    attributes = [
        (27, (600).to_bytes(4)),
        ((9 << 8) + 103, b"h323-return-code=0"),
        ((9 << 8) + 1, f"h323-ivr-in=ROUTES:RG_22=sofia/gateway/globex/{LONDON}".encode()),
    ]
    return encode_reply(
        ACCESS_ACCEPT, decode(request), secret, attributes, message_authenticator=signed
    )


def test_a_request_is_signed_first_and_hides_the_pin(new_switch: NewSwitch, responder: Any) -> None:
    server = responder(lambda request: [accept(request)])
    switch = new_switch(transport="radius", auth_port=server.port)
    answered(switch)
    switch.call(PREPAID, LONDON, "acct=7700123456", sky_pin="123456789012345678")
    packet = decode(server.requests[0])
    assert packet.attributes[0][0] == 80
    assert message_authenticator_fits(packet, SECRET)
    values = dict(packet.attributes)
    assert SECRET.reveal(values[2], packet.authenticator) == b"123456789012345678"
    assert values[1] == b"7700123456"
    assert values[30] == LONDON.encode()


@pytest.mark.parametrize(
    ("peer", "sent"),
    [
        ("192.0.2.50", b"h323-remote-address=192.0.2.50"),
        ("2001:db8::50", b"h323-remote-address=2001:db8::50"),
        ("::ffff:192.0.2.50", b"h323-remote-address=::ffff:192.0.2.50"),
        ("", None),
        ("192.0.2.50 x", None),
        ("sip.example.com", None),
        (":" * 65, None),
    ],
)
def test_the_peer_s_address_is_told_of_either_family(
    new_switch: NewSwitch, responder: Any, peer: str, sent: bytes | None
) -> None:
    server = responder(lambda request: [accept(request)])
    switch = new_switch(transport="radius", auth_port=server.port)
    answered(switch)
    switch.call(PREPAID, LONDON, sip_network_ip=peer)
    values = dict(decode(server.requests[0]).attributes)
    assert values.get((9 << 8) + 23) == sent


def test_only_the_authentic_answer_is_believed(new_switch: NewSwitch, responder: Any) -> None:
    """A stranger's secret, another identifier, no signature, cut off, not a packet."""

    def answers(request: bytes) -> list[bytes]:
        right = accept(request)
        other = accept(bytes((request[0], request[1] ^ 1)) + request[2:])
        return [
            accept(request, secret=Secret(b"guessed")),
            accept(request, signed=False),
            other,
            right[:-5],
            b"?",
            b"",
            right,
        ]

    server = responder(answers)
    switch = new_switch(transport="radius", auth_port=server.port)
    answered(switch)
    call = switch.call(PREPAID, LONDON)
    assert call.variables["sky_max_sec"] == "600"
    assert len(server.requests) == 1


def test_forged_answers_alone_are_silence(new_switch: NewSwitch, responder: Any) -> None:
    def impatient(settings: Settings) -> None:
        settings["radius"] = {"timeout_seconds": 0.5, "tries": 2}

    server = responder(lambda request: [accept(request, secret=Secret(b"guessed"))])
    switch = new_switch(transport="radius", auth_port=server.port, settings=impatient)
    call = switch.call(PREPAID, LONDON)
    assert call.variables["sky_result"] == "silent"
    # The same octets again, so that the server knows the repetition.
    assert len(server.requests) == 2
    assert len(set(server.requests)) == 1


def test_a_second_server_is_asked_when_the_first_is_silent(
    world: Server, new_switch: NewSwitch
) -> None:
    switch = new_switch(
        transport="radius",
        auth_port=free_port(),
        sky_radius_server_2=f"127.0.0.1:{world.auth_port}",
    )
    answered(switch)
    call = switch.call(PREPAID, LONDON)
    assert cdr(world, call.uuid)[:2] == ("stop", 60)


def test_ipv6_is_spoken(world: Server, new_switch: NewSwitch) -> None:
    switch = new_switch(transport="radius")
    switch.globals |= {
        "sky_radius_server": f"[::1]:{world.auth_port}",
        "sky_radius_bind": "",
    }
    call = switch.new_call(LONDON)
    switch.run(call, PREPAID, "mode=query")
    assert call.variables["sky_result"] == "ok"
    switch.end(call)


def test_without_a_secret_nobody_is_asked(new_switch: NewSwitch) -> None:
    switch = new_switch(transport="radius")
    switch.globals["sky_radius_secret"] = ""
    call = switch.call(PREPAID, LONDON)
    assert call.sip == "503 Service Unavailable"
    assert any("sky_radius_secret" in line for line in switch.log)


PROGRAM = """
package.path = "lua/lib/?.lua;" .. package.path
local values = { sky_radius_server = arg[1], sky_radius_secret = "testing123" }
freeswitch = {
    getGlobalVariable = function(name) return values[name] end,
    consoleLog = function(_, text) io.stderr:write(text) end,
}
local session = { getVariable = function() return nil end }
local result, get = require("transport_radius").ask(session, {
    phase = "authorize:1", key = arg[2], account = "alice", called = arg[3],
}, { radius = { timeout_seconds = 5, tries = 2 } })
print(result, get("Session-Timeout"), get("h323-return-code"))
"""


def test_it_works_on_the_real_luasocket(world: Server) -> None:
    lua = shutil.which("lua5.1")
    assert lua is not None, "lua5.1 is needed (Debian: lua5.1 lua-socket)"
    done = subprocess.run(
        [lua, "-", f"127.0.0.1:{world.auth_port}", "luasocket-1", LONDON],
        input=PROGRAM,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
        env=os.environ,
    )
    result, seconds, code = done.stdout.split()
    assert (result, code) == ("0", "h323-return-code=0")
    assert int(seconds) > 0
