"""What is entered about numbers, rules and limits is what a call on a running server meets."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

from aaa_server import demo

if TYPE_CHECKING:
    from tests.cli.conftest import Ran, Sky

NOTICED_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 60.0


def ok(ran: Ran) -> Ran:
    assert ran.status == 0, ran.err
    return ran


def radclient(port: str, kind: str, lines: str) -> str:
    ran = subprocess.run(
        ["radclient", "-x", "-r", "3", "-t", "10", f"127.0.0.1:{port}", kind, "testing123"],
        input=lines,
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS_MAX,
        check=False,
    )
    return ran.stdout


def authorize(session: str, account: str, called: str, *pairs: str) -> tuple[int, str]:
    """The seconds granted (0: refused), and the routes."""
    words = "\n".join(f'Cisco-AVPair += "{pair}"' for pair in pairs)
    told = radclient(
        os.environ["SKY_AAA_RADIUS_AUTH_PORT"],
        "auth",
        f'User-Name = "{account}"\nCalling-Station-Id = "34600111222"\n'
        f'Called-Station-Id = "{called}"\nAcct-Session-Id = "{session}"\n{words}\n',
    )
    assert "Received Access-Accept" in told, told
    seconds = re.search(r"Session-Timeout = (\d+)", told)
    routes = re.search(r"ROUTES:([^\"]*)", told)
    return int(seconds[1]) if seconds else 0, routes[1] if routes else ""


def stop(session: str, account: str, called: str, seconds: int) -> None:
    told = radclient(
        os.environ["SKY_AAA_RADIUS_ACCT_PORT"],
        "acct",
        f'User-Name = "{account}"\nCalled-Station-Id = "{called}"\n'
        f'Acct-Session-Id = "{session}"\nAcct-Status-Type = Stop\nAcct-Session-Time = {seconds}\n',
    )
    assert "Received Accounting-Response" in told, told


def until(granted: bool, account: str, called: str, *pairs: str) -> tuple[int, str]:
    """A server notices what has changed by itself; its answer once it has."""
    begun = time.monotonic()
    for number in range(1000):
        answer = authorize(f"{account}-{called}-{granted}-{number}", account, called, *pairs)
        if (answer[0] > 0) is granted:
            return answer
        assert time.monotonic() - begun < NOTICED_SECONDS_MAX, answer
    raise AssertionError("it was asked a thousand times")


def test_a_number_rings_where_it_was_assigned_and_every_level_pays(served: Sky) -> None:
    seconds, routes = authorize("in", "", demo.DID, "sky-mode=did", f"sky-did={demo.DID}")
    assert seconds > 0
    assert routes == "DID=user/2001@north.example"
    stop("in", "", demo.DID, 125)
    told = ok(served("cdr", "show", "in", "-o", "json")).json
    paid = {row["account"]: row["amount"] for row in told["charges"]}
    assert paid == {"nora": "0.030000", "north": "0.018000", "acme": "0.008333"}
    ok(served("did", "assign", demo.DID, "nora", "--sip", "sip:nora@pbx.example:5080"))
    begun = time.monotonic()
    while "sip:nora" not in routes:
        assert time.monotonic() - begun < NOTICED_SECONDS_MAX, routes
        _, routes = authorize(
            f"in-{time.monotonic()}", "", demo.DID, "sky-mode=did", f"sky-did={demo.DID}"
        )
    assert routes == "DID=sofia/external/sip:nora@pbx.example:5080"
    ok(served("did", "release", demo.DID))
    until(False, "", demo.DID, "sky-mode=did", f"sky-did={demo.DID}")
    assert served("audit").status == 0


def test_rules_blocks_and_emergency_numbers_are_obeyed(served: Sky) -> None:
    _, routes = until(True, "noel", "02071838750")
    assert "442071838750" in routes
    ok(
        served(
            "number-rule",
            "add",
            "--account",
            "noel",
            "--prefix",
            "0207",
            "--block",
            "--position",
            "1",
        )
    )
    until(False, "noel", "02071838750")
    assert authorize("help", "empty", "112")[0] > 0
    ok(served("emergency", "remove", "112"))
    until(False, "empty", "112")


def test_a_limit_keeps_further_calls_out_and_tells(served: Sky) -> None:
    ok(served("limit", "add", "bob", "--name", "one", "--period", "month", "--calls", "1"))
    until(False, "bob", "442071838750")
    events = ok(served("event", "list", "--account", "bob", "-o", "json")).json
    assert [event["kind"] for event in events] == ["velocity-limit"]
    # As it was then: another month may have begun.
    told = events[0]["detail"]
    assert (told["limit"], told["used"], told["maximum"]) == ("one", 1, 1)
