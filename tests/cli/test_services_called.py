"""Cards and packages over RADIUS: radclient plays the switch, the commands tell what happened."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from aaa_server import demo

if TYPE_CHECKING:
    from tests.cli.conftest import Sky

FIRST, SECOND, THIRD = demo.CARDS
LONDON = "442071838750"
CALLER = "34600111222"
WRONG_PINS_MAX = 10


class Heard(NamedTuple):
    """An Access-Accept's return code, credit and talk time; None where it has none."""

    return_code: int
    credit: str | None
    seconds: int | None
    text: str


def radius(kind: str, *lines: str) -> str:
    """What radclient prints of the answer to a request of these attributes."""
    program = shutil.which("radclient")
    assert program is not None
    port = os.environ[f"SKY_AAA_RADIUS_{kind.upper()}_PORT"]
    done = subprocess.run(
        [program, "-x", "-r", "1", "-t", "30", f"127.0.0.1:{port}", kind, "testing123"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout[done.stdout.index("Received ") :]


def ask(number: str, pin: str, *more: str, mode: str = "card", ani: str = CALLER) -> Heard:
    lines = [f'User-Name = "{number}"', f'Calling-Station-Id = "{ani}"']
    if pin:
        lines.append(f'User-Password = "{pin}"')
    lines += [
        f'Cisco-AVPair = "sky-mode={mode}"',
        f'Cisco-AVPair += "sky-did={demo.ACCESS_NUMBER}"',
    ]
    text = radius("auth", *lines, *more)
    found = dict(re.findall(r"([\w-]+)=([\w.-]+)\"", text))
    seconds = found.get("h323-credit-time")
    return Heard(
        int(found["h323-return-code"]),
        found.get("h323-credit-amount"),
        None if seconds is None else int(seconds),
        text,
    )


def call(session: str, called: str = LONDON) -> tuple[str, ...]:
    return (f'Called-Station-Id = "{called}"', f'Acct-Session-Id = "{session}"')


def stop(number: str, session: str, seconds: int) -> None:
    radius(
        "acct",
        f'User-Name = "{number}"',
        f'Calling-Station-Id = "{CALLER}"',
        *call(session),
        "Acct-Status-Type = Stop",
        f"Acct-Session-Time = {seconds}",
        'Cisco-AVPair = "route=RG_22"',
    )


def show(sky: Sky, number: str) -> dict[str, object]:
    shown: dict[str, object] = sky("cards", "show", number, "-o", "json").json
    return shown


def test_a_card_is_asked_for_its_pin_and_then_where_to(served: Sky) -> None:
    first = ask(SECOND.number, SECOND.pin)
    assert (first.return_code, first.credit, first.seconds) == (0, "10.00", None)
    assert show(served, SECOND.number)["first_used_at"] is None
    second = ask(SECOND.number, SECOND.pin, *call("one"))
    assert (second.return_code, second.seconds) == (0, 7200)
    stop(SECOND.number, "one", 61)
    # Two minutes at 0.01, and the access number's surcharge.
    after = show(served, SECOND.number)
    assert (after["balance"], after["state"]) == ("9.960000", "used")
    assert after["expires_at"] is not None
    assert served("audit").status == 0


def test_a_card_that_is_not_to_be_used_is_refused(served: Sky) -> None:
    served("cards", "block", FIRST.number)
    served("cards", "void", THIRD.number)
    for card in (FIRST, THIRD):
        heard = ask(card.number, card.pin, *call(card.number))
        assert heard.return_code != 0
        assert heard.seconds is None
    served("cards", "unblock", FIRST.number)
    assert ask(FIRST.number, FIRST.pin, *call("again")).return_code == 0


def test_wrong_pins_lock_a_card_until_it_is_unlocked(served: Sky) -> None:
    for tried in range(WRONG_PINS_MAX):
        heard = ask(THIRD.number, f"{tried:06}")
        assert heard.return_code != 0
        if "too many wrong PINs" in heard.text:
            break
    else:
        raise AssertionError("it never was locked")
    assert show(served, THIRD.number)["state"] == "locked"
    assert ask(THIRD.number, THIRD.pin).return_code != 0
    events = served("event", "list", "--account", THIRD.number, "-o", "json").json
    assert [event["kind"] for event in events] == ["card-locked"]
    assert served("cards", "unlock", THIRD.number).status == 0
    assert ask(THIRD.number, THIRD.pin).return_code == 0
    assert show(served, THIRD.number)["pin_failures"] == 0


def test_a_number_that_is_known_needs_no_pin(served: Sky) -> None:
    heard = ask("", "", *call("pinless"), ani=demo.PINLESS_ANI)
    assert (heard.return_code, heard.seconds) == (0, 7200)
    [calling] = served("calls", "-o", "json").json
    assert calling["account"] == FIRST.number
    # A caller registers by number and PIN, and is known from then on.
    assert ask("", "", *call("unknown")).return_code != 0
    assert ask(SECOND.number, SECOND.pin, mode="register").return_code == 0
    assert show(served, SECOND.number)["pinless"] == [CALLER]
    assert ask("", "", *call("known")).return_code == 0
    assert served("cards", "pinless", SECOND.number, "--ani", CALLER, "--remove").status == 0
    assert ask("", "", *call("gone")).return_code != 0


def test_package_seconds_are_held_during_a_call_and_used_before_money(served: Sky) -> None:
    def holding() -> tuple[int, int, int]:
        [held] = served("package", "holdings", "paula", "-o", "json").json
        return held["used"], held["reserved"], held["left"]

    heard = ask("paula", "", *call("package"), mode="auth")
    assert heard.return_code == 0
    used, reserved, left = holding()
    assert (used, reserved + left) == (0, 3600)
    assert reserved > 0
    stop("paula", "package", 61)
    assert holding() == (61, 0, 3539)
    shown = served("account", "show", "paula", "-o", "json").json
    assert (shown["balance"], shown["reserved"]) == ("7.000000", "0.000000")
    # Another country is not in the package.
    ask("paula", "", *call("spain", "34915550100"), mode="auth")
    assert holding() == (61, 0, 3539)
    assert served("audit").status == 0
