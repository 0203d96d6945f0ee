"""What is frozen on a call is read back as it was, whenever it was written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from aaa_server.charging.call import (
    Level,
    Offer,
    Price,
    Share,
    levels_text,
    make_offer,
    offers_text,
    read_levels,
    read_offers,
)
from aaa_server.rating.rate import STEPS_MAX, Terms

PRICES = st.builds(
    Price,
    st.integers(1, 10**9),
    st.text("0123456789*#", min_size=1, max_size=8),
    st.sampled_from(["EUR", "USD"]),
    st.builds(
        Terms,
        st.integers(0, 10**12),
        connect_fee_micros=st.integers(0, 10**9),
        markup_ppm=st.integers(-(10**6), 10**6),
        exchange_e10=st.integers(1, 10**12),
        steps=st.dictionaries(st.integers(1, 7200), st.integers(0, 10**12), max_size=STEPS_MAX).map(
            lambda steps: tuple(sorted(steps.items()))
        ),
    ),
)
SHARES = st.lists(
    st.builds(Share, st.sampled_from("pl"), st.integers(1, 99), st.integers(0), st.integers(0)),
    max_size=2,
).map(tuple)


@given(st.lists(st.builds(Level, st.integers(1, 99), PRICES, SHARES), max_size=3))
def test_levels_are_read_as_they_were_written(levels: list[Level]) -> None:
    text = levels_text(tuple(levels))
    assert read_levels(text) == tuple(levels)
    for row, level in zip(json.loads(text), levels, strict=True):
        has_steps = isinstance(row[-1], list)
        assert has_steps == bool(level.price.terms.steps)


@given(
    st.lists(st.builds(make_offer, st.integers(1, 99), st.text(), st.text(), st.just(3), PRICES))
)
def test_offers_are_read_as_they_were_written(offers: list[Offer]) -> None:
    assert read_offers(offers_text(tuple(offers))) == tuple(offers)


def test_a_price_that_was_frozen_before_there_were_steps_is_read() -> None:
    text = '[[7,373,"4420","USD",10000000,0,0,60,60,0,0,10000000000]]'
    [level] = read_levels(text)
    assert level == Level(7, Price(373, "4420", "USD", Terms(10_000_000)))
    assert levels_text((level,)) == text
