"""What people and switches write as a called number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.prefix import NUMBER_DIGITS_MAX, dial_number, number_of


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("442071838750", "442071838750"),
        ("+44 20 7183-8750", "442071838750"),
        ("+44 (0)20/7183.8750", "4402071838750"),
        ("sip:+442071838750@203.0.113.9:5060;user=phone", "442071838750"),
        ("SIPS:442071838750@host", "442071838750"),
        ("sip:442071838750", "442071838750"),
        ("442071838750@host", "442071838750"),
        ("tel:+44-20-7183-8750;phone-context=example.com", "442071838750"),
        ('"Alice" <sip:+442071838750@host>', "442071838750"),
        ("sip:+442071838750;phone-context=+44@host;user=phone", "442071838750"),
        ("*98#", "*98#"),
        ("sip:%2398@host", "#98"),
        ("sip:%2B4420@host", "4420"),
        ("1", "1"),
        ("1" * 32, "1" * 32),
        ("1" * 33, ""),
        ("+" + "1" * 33, ""),
        ("", ""),
        ("+", ""),
        ("++44", ""),
        ("44+20", ""),
        ("sip:@host", ""),
        ("sip:alice@host", ""),
        ("44x20", ""),
        ("٤٤", ""),
        ("²", ""),
        ("442071838750\n", "442071838750"),
        ("4420\n71", ""),
        ("4420\x0071", ""),
    ],
)
def test_numbers_are_normalised(text: str, number: str) -> None:
    assert number_of(text) == number


@given(st.text())
def test_any_text_gives_a_number_or_nothing(text: str) -> None:
    number = number_of(text)
    assert len(number) <= NUMBER_DIGITS_MAX
    assert set(number) <= set("0123456789*#")
    assert number_of(number) == number


def test_strip_and_prepend_make_the_dialled_number() -> None:
    assert dial_number("442071838750", strip=0, prepend="") == "442071838750"
    assert dial_number("442071838750", strip=2, prepend="0") == "02071838750"
    assert dial_number("44", strip=5, prepend="9") == "9"
