"""An independent peer: FreeRADIUS's radclient places calls, right and wrong ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.integration.nas import ANSWER_SECONDS_MAX, CALLED

if TYPE_CHECKING:
    from tests.integration.server import Server

FREESWITCH, RFC = "127.0.0.1", "127.0.0.2"

BLOCKED = "9006123"
UNRATED = "0000123"


class Heard(NamedTuple):
    """`code` is Access-Accept, Access-Reject …, '' for silence; attributes as radclient prints."""

    code: str
    attributes: dict[str, str]
    output: str

    def number(self, name: str) -> int:
        return int(self.attributes[name].rpartition("=")[2])


def radclient(
    server: Server,
    kind: str,
    attributes: str,
    *,
    source: str = FREESWITCH,
    secret: str = "testing123",
    seconds: float = ANSWER_SECONDS_MAX,
) -> Heard:
    """What radclient hears on one request of `attributes` ("Name = value, …")."""
    program = shutil.which("radclient")
    assert program is not None
    six = ":" in source
    target = "[::1]" if six else "127.0.0.1"
    port = server.acct_port if kind == "acct" else server.auth_port
    family = "IPv6" if six else "IP"
    lines = f"{attributes}, Packet-Src-{family}-Address = {source}"
    # It signs with Message-Authenticator where it is told to.
    if kind != "acct":
        lines += ", Message-Authenticator = 0x00"
    done = subprocess.run(
        [
            *(program, "-x", "-r", "1", "-t", str(seconds), *(["-6"] if six else [])),
            *(f"{target}:{port}", kind, secret),
        ],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 10,
    )
    output = done.stdout + done.stderr
    received = re.search(r"^Received ([\w-]+) Id .*\n((?:\t.*\n)*)", output, re.MULTILINE)
    if received is None:
        assert done.returncode == 1, output
        return Heard("", {}, output)
    pairs = dict(line.strip().split(" = ", 1) for line in received[2].splitlines())
    return Heard(received[1], {name: text.strip('"') for name, text in pairs.items()}, output)


def call(key: str, account: str, called: str = CALLED, more: str = "") -> str:
    said = (
        f'User-Name = "{account}", Called-Station-Id = "{called}", Acct-Session-Id = "{key}", '
        "Service-Type = Call-Check"
    )
    return f"{said}, {more}" if more else said


@pytest.mark.parametrize("source", [FREESWITCH, RFC, "::1"])
def test_a_call_is_granted_its_time(server: Server, source: str) -> None:
    heard = radclient(server, "auth", call(f"granted-{source}", "alice"), source=source)
    assert heard.code == "Access-Accept", heard.output
    assert heard.number("Session-Timeout") == 7200
    assert heard.number("h323-credit-time") == 7200
    assert heard.number("h323-return-code") == 0
    assert heard.attributes["Chargeable-User-Identity"] == "0x" + b"alice".hex()
    assert "ROUTES:RG_22=sofia/gateway/globex/" in heard.attributes["Cisco-AVPair"]
    stop = call(f"granted-{source}", "alice", more="Acct-Status-Type = Stop, Acct-Session-Time = 0")
    assert radclient(server, "acct", stop, source=source).code == "Accounting-Response"


# Account, number, h323-return-code, a word of the reason.
REFUSALS = [
    ("empty", CALLED, 4, "credit"),
    ("nobody", CALLED, 1, "does not exist"),
    ("alice", BLOCKED, 9, "blocked"),
    ("alice", UNRATED, 17, "no rate"),
    ("suspended", CALLED, 7, "suspended"),
    ("expired", CALLED, 5, "expired"),
    ("acme", CALLED, 1, "does not make calls"),
    ("admin", CALLED, 1, "does not make calls"),
    ("alice", "anonymous", 11, "number"),
]


@pytest.mark.parametrize(("account", "called", "code", "reason"), REFUSALS)
def test_freeswitch_is_refused_inside_an_accept(
    server: Server, account: str, called: str, code: int, reason: str
) -> None:
    heard = radclient(server, "auth", call(f"no-{account}-{called}", account, called))
    assert heard.code == "Access-Accept", heard.output
    assert heard.number("h323-return-code") == code
    assert heard.number("Session-Timeout") == 0
    assert reason in heard.attributes["Reply-Message"]


@pytest.mark.parametrize(("account", "called", "code", "reason"), REFUSALS)
def test_others_are_refused_by_a_reject(
    server: Server, account: str, called: str, code: int, reason: str
) -> None:
    heard = radclient(server, "auth", call(f"no-{account}-{called}", account, called), source=RFC)
    assert heard.code == "Access-Reject", heard.output
    assert heard.number("h323-return-code") == code
    assert "Session-Timeout" not in heard.attributes
    assert reason in heard.attributes["Reply-Message"]


@pytest.mark.parametrize(
    ("source", "code"), [(FREESWITCH, "Access-Accept"), (RFC, "Access-Reject")]
)
def test_the_channel_limit_refuses_the_second_call_until_the_first_ends(
    server: Server, source: str, code: str
) -> None:
    first = radclient(server, "auth", call("channel-1", "single"), source=source)
    assert (first.code, first.number("h323-return-code")) == ("Access-Accept", 0)
    second = radclient(server, "auth", call("channel-2", "single"), source=source)
    assert (second.code, second.number("h323-return-code")) == (code, 3)
    assert "in use" in second.attributes["Reply-Message"]
    stop = call("channel-1", "single", more="Acct-Status-Type = Stop, Acct-Session-Time = 7")
    assert radclient(server, "acct", stop, source=source).code == "Accounting-Response"
    third = radclient(server, "auth", call("channel-3", "single"), source=source)
    assert third.number("h323-return-code") == 0
    stop = call("channel-3", "single", more="Acct-Status-Type = Stop, Acct-Session-Time = 0")
    assert radclient(server, "acct", stop, source=source).code == "Accounting-Response"


@pytest.mark.parametrize(
    ("account", "credential", "accepted"),
    [
        ("alice", 'User-Password = "alice-password"', True),
        ("alice", 'User-Password = "alice-passwore"', False),
        ("alice", 'User-Password = "alice-password-and-more-octets-than-one-block"', False),
        ("alice", 'CHAP-Password = "alice-password"', True),
        ("alice", 'CHAP-Password = "wrong"', False),
        ("7700123456", 'User-Password = "1234"', True),
        ("7700123456", 'User-Password = "1235"', False),
        ("7700123456", 'CHAP-Password = "1234"', True),
        ("bob", 'User-Password = "anything"', False),  # it has none
        ("nobody", 'User-Password = "alice-password"', False),
    ],
)
def test_a_password_or_pin_authenticates(
    server: Server, account: str, credential: str, accepted: bool
) -> None:
    heard = radclient(server, "auth", f'User-Name = "{account}", {credential}', source=RFC)
    if accepted:
        assert heard.code == "Access-Accept", heard.output
        assert heard.number("h323-return-code") == 0
        assert "h323-credit-amount" in heard.attributes
        assert "Session-Timeout" not in heard.attributes
    else:
        assert heard.code == "Access-Reject", heard.output
        assert heard.number("h323-return-code") == (1 if account == "nobody" else 2)


@pytest.mark.parametrize("credential", ['User-Password = "wrong"', 'CHAP-Password = "wrong"'])
def test_a_wrong_password_refuses_the_call_even_of_a_trusted_switch(
    server: Server, credential: str
) -> None:
    heard = radclient(server, "auth", call(f"wrong-{credential[:4]}", "alice", more=credential))
    assert (heard.code, heard.number("h323-return-code")) == ("Access-Accept", 2)
    assert heard.number("Session-Timeout") == 0


def test_an_empty_password_is_none(server: Server) -> None:
    heard = radclient(server, "auth", call("empty-pw", "single", more='User-Password = ""'))
    assert heard.number("h323-return-code") == 0
    stop = call("empty-pw", "single", more="Acct-Status-Type = Stop, Acct-Session-Time = 0")
    assert radclient(server, "acct", stop).code == "Accounting-Response"


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("auth", call("silence", "alice")),
        ("acct", call("silence", "alice", more="Acct-Status-Type = Stop, Acct-Session-Time = 7")),
        ("status", "NAS-Identifier = pop"),
    ],
)
def test_a_wrong_secret_hears_nothing(server: Server, kind: str, attributes: str) -> None:
    heard = radclient(server, kind, attributes, secret="testing124", seconds=0.5)
    assert heard.code == "", heard.output
    assert server.query("SELECT 1 FROM call WHERE session_key = 'silence'") == []
    assert server.query("SELECT 1 FROM cdr WHERE session_key = 'silence'") == []


def test_an_address_that_is_no_client_hears_nothing(server: Server) -> None:
    heard = radclient(server, "auth", call("x", "alice"), source="127.0.0.77", seconds=0.5)
    assert heard.code == "", heard.output


@pytest.mark.parametrize("source", [FREESWITCH, RFC, "::1"])
def test_status_server_is_answered_with_counters(server: Server, source: str) -> None:
    asked = "FreeRADIUS-Statistics-Type = Authentication"
    heard = radclient(server, "status", asked, source=source)
    assert heard.code == "Access-Accept", heard.output
    before = heard.number("FreeRADIUS-Total-Access-Requests")
    again = radclient(server, "status", asked, source=source)
    assert again.number("FreeRADIUS-Total-Access-Requests") > before


def test_the_books_agree_after_all_that(server: Server) -> None:
    assert server.query("SELECT session_key FROM call WHERE status = 'authorized'") == []
    assert server.query("SELECT code FROM account WHERE reserved_micros <> 0") == []
    server.audit()
