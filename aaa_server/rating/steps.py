"""Steps of a price as people write them: `300:0.02;600:0.01`, the price after so many seconds."""

from __future__ import annotations

import re

from aaa_server.rating.money import format_nanos, parse_nanos
from aaa_server.rating.rate import STEP_SECONDS_MAX, STEPS_MAX, Terms

_SECONDS = re.compile(r"[0-9]{1,9}")


def parse_step(text: str) -> tuple[int, int]:
    """Billed seconds and nanos a minute of `300:0.02`; raises `ValueError`."""
    seconds, colon, price = text.strip().partition(":")
    if not colon or not _SECONDS.fullmatch(seconds.strip()):
        raise ValueError(
            f"{text!r} is no step: seconds, a colon and a price are expected, like 300:0.02"
        )
    after = int(seconds)
    if not 0 < after <= STEP_SECONDS_MAX:
        raise ValueError(f"{text!r} is no step: it begins after 1 to {STEP_SECONDS_MAX} seconds")
    nanos = parse_nanos(price)
    if nanos < 0:
        raise ValueError(f"{text!r} is no step: its price is below 0")
    return after, nanos


def parse_steps(text: str) -> tuple[tuple[int, int], ...]:
    """Steps that stand after one another, in any order; raises `ValueError`."""
    return ordered([parse_step(part) for part in text.split(";") if part.strip()])


def ordered(steps: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """In order of time; raises `ValueError` for two at one time, and for too many."""
    if len(steps) > STEPS_MAX:
        raise ValueError(f"{len(steps)} steps, {STEPS_MAX} are allowed")
    if len({after for after, _ in steps}) < len(steps):
        raise ValueError("two steps begin after the same number of seconds")
    return tuple(sorted(steps))


def format_steps(steps: tuple[tuple[int, int], ...]) -> str:
    """The opposite of `parse_steps`."""
    return ";".join([f"{after}:{format_nanos(nanos)}" for after, nanos in steps])


def nano_seconds(terms: Terms, billed_seconds: int) -> int:
    """The sum over billed seconds of the price a minute of each (nanos), without markup."""
    total, begins, price = 0, 0, terms.per_minute_nanos
    for after, next_price in terms.steps:
        if after >= billed_seconds:
            break
        total += price * (after - begins)
        begins, price = after, next_price
    return total + price * (billed_seconds - begins)
