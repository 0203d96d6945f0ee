"""sky_card.lua: calling cards by number and PIN or by the caller's number, in every Lua."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.lua.switch import RUNTIMES, SECOND, Callee, Channel, Hangup, Settings, Switch
from tests.lua.test_prepaid import LONDON, add_account, cdr, cdrs, held

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.server import Server
    from tests.lua.conftest import NewSwitch

CARD = "lua/sky_card.lua"
ACCESS = "18005550100"
STRANGER = "15550009999"
MADRID = "34915550100"
REGISTERED = "tone_stream://%(100,100,1000);%(100,0,1200)"
TRANSPORTS = pytest.mark.parametrize("transport", ["xml_radius", "radius"])


class Card(NamedTuple):
    number: str
    pin: str


@pytest.fixture
def card(world: Server, request: pytest.FixtureRequest) -> Card:
    """A card of this test's own, with a PIN and five dollars on it."""
    number = f"77{zlib.crc32(request.node.name.encode()):010}"
    add_account(world, number, "5", pin="1234")
    return Card(number, "1234")


def answering(switch: Switch, **more: Any) -> None:
    switch.callees["sofia/gateway"] = Callee(talk_seconds=30)._replace(**more)


@TRANSPORTS
def test_number_pin_and_two_calls_are_two_records(
    world: Server, new_switch: NewSwitch, card: Card, transport: str
) -> None:
    """The first is settled as it ends, the second by the channel's Stop; prompts cost nothing."""
    switch = new_switch(transport=transport)
    answering(switch)
    switch.typed = [card.number, card.pin, LONDON, MADRID, Hangup]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("end", 30)
    assert cdr(world, call.uuid + "/2")[:2] == ("end", 30)
    assert held(world, card.number) == (0, 0)
    assert call.answered == call.created
    assert "5.00" in call.heard
    assert "sky_pin" not in call.variables
    assert not any(card.pin in line for line in switch.log)


def test_the_last_call_is_settled_by_the_stop_when_the_caller_hangs_up(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    switch = new_switch()
    answering(switch)
    switch.typed = [card.number, card.pin, LONDON, MADRID]
    bridge = switch.bridge

    def second_is_left(caller: Channel, data: str) -> None:
        if caller.bridges:
            answering(switch, talk_seconds=None, caller_leaves_after=12.4)
        bridge(caller, data)

    switch.bridge = second_is_left  # type: ignore[method-assign]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("end", 30)
    assert cdr(world, call.uuid + "/2")[:2] == ("stop", 13)
    assert held(world, card.number) == (0, 0)


def test_two_wrong_pins_and_then_the_right_one(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    switch = new_switch()
    answering(switch)
    switch.typed = [card.number, "1111", card.number, "2222", card.number, card.pin, LONDON]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("end", 30)
    assert call.heard.count("phrase:voicemail_fail_auth:#") == 2


def test_three_wrong_pins_end_the_call(world: Server, new_switch: NewSwitch, card: Card) -> None:
    switch = new_switch()
    switch.typed = [card.number, "1111", card.number, "2222", card.number, "3333", "never asked"]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert switch.typed == ["never asked"]
    assert call.cause == "NORMAL_CLEARING"
    assert call.bridges == []
    assert [
        (charged,)
        for (charged,) in world.query(
            "SELECT postings FROM cdr WHERE session_key = %s AND postings > 0", call.uuid
        )
    ] == []


@pytest.mark.parametrize("account", ["", "900100"])
def test_a_number_without_its_pin_opens_nothing(
    world: Server, new_switch: NewSwitch, card: Card, runtime: str, account: str
) -> None:
    """Neither a card nor the account of a customer who has no PIN at all."""
    number = card.number
    if account:
        number = f"{account}{RUNTIMES.index(runtime)}"
        add_account(world, number, "5")
    switch = new_switch()
    answering(switch)
    switch.typed = [number, "", number, "*", number, "0", LONDON]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert switch.typed == [LONDON]
    assert call.bridges == []


def test_a_registered_number_needs_neither_card_nor_pin(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    mine = f"1555{card.number}"
    switch = new_switch()
    answering(switch)
    switch.typed = [card.number, card.pin, "*1", LONDON]
    call = switch.call(CARD, ACCESS, caller=mine)
    assert REGISTERED in call.heard, switch.log
    assert cdr(world, call.uuid)[:2] == ("end", 30)
    switch = new_switch()
    answering(switch)
    switch.typed = [LONDON]
    call = switch.call(CARD, ACCESS, caller=mine)
    assert cdr(world, call.uuid)[:2] == ("end", 30)
    assert switch.asked[0] == "ivr/ivr-enter_destination_telephone_number.wav"


def test_who_calls_from_a_registered_number_cannot_register_again(
    new_switch: NewSwitch, card: Card
) -> None:
    switch = new_switch()
    switch.typed = ["*1"]
    call = switch.call(CARD, ACCESS, caller="15551230001")
    assert REGISTERED not in call.heard


def test_a_card_without_money_hears_so(world: Server, new_switch: NewSwitch, runtime: str) -> None:
    number = f"7800{RUNTIMES.index(runtime)}"
    add_account(world, number, "0.001", pin="4321")
    switch = new_switch()
    answering(switch)
    switch.typed = [number, "4321", LONDON]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert call.bridges == []
    assert "tone_stream://%(330,50,950);%(330,50,1400);%(330,500,1800)" in call.heard


def test_a_key_ends_the_call_and_not_the_caller_s_own(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    switch = new_switch()
    answering(switch, talk_seconds=None)
    switch.on_key_at = 25
    switch.typed = [card.number, card.pin, LONDON, Hangup]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("end", 25)
    assert call.variables["bridge_terminate_key"] == "*"


def test_a_failed_call_costs_nothing_and_another_may_follow(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    switch = new_switch()
    switch.callees["3491"] = Callee(talk_seconds=10)
    switch.typed = [card.number, card.pin, LONDON, "123", MADRID]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("end", 0)
    assert cdr(world, call.uuid + "/3")[:2] == ("end", 10)
    assert held(world, card.number) == (0, 0)


def test_the_caller_may_leave_at_every_step_of_the_card(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    step = 0
    while True:
        step += 29
        switch = new_switch()
        answering(switch, talk_seconds=7)
        switch.typed = [card.number, card.pin, LONDON, MADRID]
        switch.leaves_at_step = step
        call = switch.call(CARD, ACCESS, caller=STRANGER)
        assert switch.errors == []
        assert cdrs(world, call.uuid) <= 1
        assert cdrs(world, call.uuid + "/2") <= 1
        assert "sky_pin" not in call.variables
        if switch.steps < step:
            break
    assert step > 100
    assert held(world, card.number) == (0, 0)


def test_an_end_that_is_not_acknowledged_allows_no_further_call(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    """The Stop settles it: its key is the unsettled call's."""
    switch = new_switch()
    answering(switch)
    authorize = switch.radius.authorize

    def deaf_to_ends(get: Callable[[str], str | None]) -> tuple[str, dict[str, str]]:
        if (get("sky_phase") or "").startswith("end"):
            return "1", {}
        return authorize(get)

    switch.radius.authorize = deaf_to_ends  # type: ignore[method-assign]
    switch.typed = [card.number, card.pin, LONDON, MADRID]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("stop", 30)
    assert len(call.bridges) == 1
    assert held(world, card.number) == (0, 0)


def test_without_any_sound_there_are_tones(new_switch: NewSwitch, card: Card) -> None:
    def tones(settings: Settings) -> None:
        settings["prompts"] = "tones"

    switch = new_switch(settings=tones)
    answering(switch)
    switch.typed = [card.number, card.pin, LONDON]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    sounds = [*switch.asked, *call.heard]
    assert sounds
    assert all(sound.startswith(("tone_stream://", "silence_stream://")) for sound in sounds)


def test_a_switch_without_sounds_is_heard_in_tones_by_itself(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    """A prompt that FreeSWITCH cannot play ends the question before anything is typed."""
    switch = new_switch()
    switch.has_sounds = False
    answering(switch)
    switch.typed = [card.number, card.pin, LONDON]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("end", 30)
    assert all(sound.startswith("tone_stream://") for sound in [*switch.asked, *call.heard])


@pytest.mark.parametrize("number", ["*77", "77*1", "AB12", "7"])
def test_a_card_s_number_is_digits(
    world: Server, new_switch: NewSwitch, card: Card, number: str
) -> None:
    switch = new_switch()
    answering(switch)
    switch.typed = [number, card.number, "12*4", card.number, card.pin, LONDON]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert cdr(world, call.uuid)[:2] == ("end", 30)
    assert "sky_pin_invalid" not in call.variables
    assert call.heard.count("phrase:voicemail_fail_auth:#") == 2


def test_the_language_is_chosen_by_key(new_switch: NewSwitch, card: Card) -> None:
    def two(settings: Settings) -> None:
        settings["languages"] = [
            {"key": "1", "code": "en", "say": "en"},
            {"key": "2", "code": "es", "say": "es", "sound_prefix": "/sounds/es"},
        ]

    switch = new_switch(settings=two)
    switch.typed = ["2", card.number, card.pin]
    call = switch.call(CARD, ACCESS, caller=STRANGER)
    assert call.variables["default_language"] == "es"
    assert call.variables["sound_prefix"] == "/sounds/es"
    assert "5.00" in call.heard


def test_nothing_is_paid_for_listening_to_prompts(
    world: Server, new_switch: NewSwitch, card: Card
) -> None:
    switch = new_switch()
    switch.typed = [card.number, card.pin, Hangup]
    call = switch.new_call(ACCESS, caller=STRANGER)
    call.answered = switch.now - 600 * SECOND
    switch.run(call, CARD)
    switch.end(call)
    assert world.query("SELECT balance_micros FROM account WHERE code = %s", card.number) == [
        (5_000_000,)
    ]
