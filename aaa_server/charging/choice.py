"""What was found out about the ways to a number, kept for all numbers of its prefix.

Which route has which price, and in which order they stand, depends on a prefix, not on a
call; what does depend on the call (who is busy, which margin is left) is looked at anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from aaa_server.charging.call import Offer, Price
from aaa_server.charging.numbers import Rule
from aaa_server.rating.lcr import Route
from aaa_server.rating.prefix import dial_number

# About 5 KiB each where there are many providers: 80 MiB at most, all rate groups together.
CHOICES_HELD_MAX = 16_384


class Dial(NamedTuple):
    """What stands around the number in an offer: in its dial string, and in its JSON."""

    around: tuple[str, ...]
    around_json: tuple[str, ...]
    strip: int
    prepend: str
    price: Price


@dataclass(slots=True)
class Candidate:
    """A route to all numbers of a prefix. `dial` is made when it is first offered."""

    route: Route
    max_calls: int
    calls_per_second: int
    rules: tuple[Rule, ...]  # for the number on its way to this provider
    dial: Dial | None = None


@dataclass(slots=True)
class Choice:
    """The candidates for a prefix, in order, as long as `[begins, ends)` and no row changes.

    `changes` counts the changes of rows up to now. `more`: there are some that are not held,
    behind those that are.
    """

    candidates: tuple[Candidate, ...]
    more: bool
    changes: int
    begins: datetime | None
    ends: datetime | None
    routes: list[Route] = field(init=False)
    by_id: dict[int, Candidate] = field(init=False)

    def __post_init__(self) -> None:
        self.routes = [one.route for one in self.candidates]
        self.by_id = {one.route.resource_group_id: one for one in self.candidates}

    def holds(self, changes: int, at: datetime) -> bool:
        """Whether it is still what would be found out at `at`."""
        return (
            changes == self.changes
            and (self.begins is None or self.begins <= at)
            and (self.ends is None or at < self.ends)
        )


class Choices:
    """Choices by set of routes and prefix; all are forgotten when they become too many."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], Choice] = {}

    def find(self, routing: int, prefix: str, changes: int, at: datetime) -> Choice | None:
        """What was kept, if it holds still."""
        choice = self._held.get((routing, prefix))
        return choice if choice is not None and choice.holds(changes, at) else None

    def keep(self, routing: int, prefix: str, choice: Choice) -> None:
        """Remember it for the next call."""
        if len(self._held) >= CHOICES_HELD_MAX:
            self._held.clear()
        self._held[routing, prefix] = choice

    def __len__(self) -> int:
        return len(self._held)


def dial_of(gateway: str, *, strip: int, prepend: str, route: Route, price: Price) -> Dial:
    """The parts of an offer over `gateway`: "{number}" stands for the number, else it ends it."""
    if "{number}" in gateway:
        around = gateway.split("{number}")
    else:
        around = [f"{gateway}/" if gateway else "", ""]
    escaped = [json.dumps(part)[1:-1] for part in around]
    escaped[0] = f'[{route.resource_group_id},{json.dumps(route.name)},"{escaped[0]}'
    escaped[-1] = f'{escaped[-1]}",{route.provider_id},{price.text}]'
    return Dial(tuple(around), tuple(escaped), strip, prepend, price)


def offer_of(dial: Dial, route: Route, number: str) -> Offer:
    """The route as it is offered for `number`, which is digits, `*`, `#` and `+`."""
    number = dial_number(number, strip=dial.strip, prepend=dial.prepend)
    return Offer(
        route.resource_group_id,
        route.name,
        number.join(dial.around),
        route.provider_id,
        dial.price,
        number.join(dial.around_json),
    )
