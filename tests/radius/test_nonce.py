"""Nonces that any of the servers made, and nobody else can make."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.radius.nonce import AHEAD_SECONDS, LIFE_SECONDS, Nonces
from tests.radius.peer import NOW

KEY, OTHER = b"k" * 32, b"o" * 32
NONCES = Nonces([KEY])


@pytest.mark.parametrize(
    ("age", "good"),
    [(0, True), (LIFE_SECONDS, True), (LIFE_SECONDS + 1, False), (-AHEAD_SECONDS, True),
     (-AHEAD_SECONDS - 1, False)],
)  # fmt: skip
def test_a_nonce_is_good_for_its_life(age: int, good: bool) -> None:
    nonce = NONCES.make(NOW - timedelta(seconds=age))
    assert NONCES.is_ours(nonce)
    assert NONCES.is_good(nonce, NOW) is good


def test_two_nonces_of_one_instant_differ() -> None:
    assert NONCES.make(NOW) != NONCES.make(NOW)


def test_a_nonce_of_before_the_keys_were_rotated_is_still_ours() -> None:
    assert Nonces([OTHER, KEY]).is_good(NONCES.make(NOW), NOW)
    assert not NONCES.is_ours(Nonces([OTHER, KEY]).make(NOW))


@given(st.text(max_size=80))
def test_what_we_did_not_make_is_not_ours(said: str) -> None:
    assert not NONCES.is_ours(said)
    assert not NONCES.is_good(said, NOW)


@given(st.integers(0, 55), st.sampled_from("0123456789abcdefG\u0663"))
def test_a_changed_nonce_is_not_ours(place: int, character: str) -> None:
    nonce = NONCES.make(NOW)
    changed = nonce[:place] + character + nonce[place + 1 :]
    assert NONCES.is_ours(changed) is (changed == nonce)
