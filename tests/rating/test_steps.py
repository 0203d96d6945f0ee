"""Steps as text, and what they come to without markup."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.rate import STEP_SECONDS_MAX, STEPS_MAX, Terms
from aaa_server.rating.steps import format_steps, nano_seconds, parse_steps

STEPS = st.dictionaries(
    st.integers(1, 300) | st.integers(1, STEP_SECONDS_MAX),
    st.integers(0, 10**12),
    max_size=STEPS_MAX,
).map(lambda steps: tuple(sorted(steps.items())))


@given(STEPS)
def test_steps_are_read_as_they_are_written(steps: tuple[tuple[int, int], ...]) -> None:
    assert parse_steps(format_steps(steps)) == steps


@given(STEPS, st.integers(0, 10**9), st.integers(0, 400))
def test_every_billed_second_has_the_price_that_holds_then(
    steps: tuple[tuple[int, int], ...], first: int, billed: int
) -> None:
    prices = [
        [first, *(nanos for after, nanos in steps if after <= second)][-1]
        for second in range(billed)
    ]
    assert nano_seconds(Terms(first, steps=steps), billed) == sum(prices)


def test_steps_may_stand_in_any_order_with_spaces_between() -> None:
    assert parse_steps(" 600:0.01; 300 : 0.02 ;") == ((300, 20_000_000), (600, 10_000_000))
    assert parse_steps("") == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("300", "seconds, a colon and a price"),
        ("x:0.02", "seconds, a colon and a price"),
        ("-5:0.02", "seconds, a colon and a price"),
        ("0:0.02", "after 1 to 86400 seconds"),
        ("86401:0.02", "after 1 to 86400 seconds"),
        ("300:cheap", "is not a price"),
        ("300:-0.02", "below 0"),
        ("300:1;300:2", "two steps"),
        (";".join(f"{second}:1" for second in range(1, 10)), "9 steps, 8 are allowed"),
    ],
)
def test_what_is_no_step_is_refused_in_words(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_steps(text)
