"""What was found out about a number, its price and the ways to it, kept for all of its prefix.

Which route has which price, and in which order they stand, depends on a prefix, not on a
call; what does depend on the call (who is busy, which margin is left) is looked at anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from aaa_server.charging.call import Dial, Price
from aaa_server.charging.numbers import Rule
from aaa_server.rating.lcr import Route

if TYPE_CHECKING:
    from datetime import datetime

# About 5 KiB each where there are many providers: 80 MiB at most, all rate groups together.
CHOICES_HELD_MAX = 16_384
# Less than half a KiB each: some hundred prefixes of some hundred rate groups.
PRICES_HELD_MAX = 131_072


@dataclass(slots=True)
class Candidate:
    """A route to all numbers of a prefix. `dial` is made when it is first offered."""

    route: Route
    max_calls: int
    calls_per_second: int
    rules: tuple[Rule, ...]  # for the number on its way to this provider
    dial: Dial | None = None


class Kept:
    """What was found out of a prefix: as long as `[begins, ends)`, and until a row changes.

    `changes` counts the changes of rows up to now.
    """

    def __init__(self, changes: int, begins: datetime | None, ends: datetime | None) -> None:
        self.changes = changes
        self.begins = begins
        self.ends = ends

    def holds(self, changes: int, at: datetime) -> bool:
        """Whether it is still what would be found out at `at`."""
        return (
            changes == self.changes
            and (self.begins is None or self.begins <= at)
            and (self.ends is None or at < self.ends)
        )


class Choice(Kept):
    """The candidates for a prefix, in order.

    `more`: there are some that are not held, behind those that are.
    """

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        more: bool,
        changes: int,
        begins: datetime | None,
        ends: datetime | None,
    ) -> None:
        super().__init__(changes, begins, ends)
        self.candidates = candidates
        self.more = more
        self.routes = [one.route for one in candidates]
        self.by_id = {one.route.resource_group_id: one for one in candidates}


class KeptPrice(Kept):
    """What everybody in a rate group pays whose currency is the price list's."""

    def __init__(
        self, price: Price, changes: int, begins: datetime | None, ends: datetime | None
    ) -> None:
        super().__init__(changes, begins, ends)
        self.price = price


What = TypeVar("What", bound=Kept)


class KeptByPrefix(Generic[What]):
    """What was found out, by whom it is for (a number of its own) and prefix.

    All is forgotten when it becomes more than `held_max`.
    """

    def __init__(self, held_max: int) -> None:
        self._held: dict[tuple[int, str], What] = {}
        self._held_max = held_max

    def find(self, whose: int, prefix: str, changes: int, at: datetime) -> What | None:
        """What was kept, if it holds still."""
        one = self._held.get((whose, prefix))
        return one if one is not None and one.holds(changes, at) else None

    def keep(self, whose: int, prefix: str, one: What) -> None:
        """Remember it for the next call."""
        if len(self._held) >= self._held_max:
            self._held.clear()
        self._held[whose, prefix] = one

    def __len__(self) -> int:
        return len(self._held)


def dial_of(gateway: str, *, strip: int, prepend: str, route: Route, price: Price) -> Dial:
    """How `gateway` is dialled: "{number}" stands for the number, else it ends the string."""
    if "{number}" in gateway:
        around = gateway.split("{number}")
    else:
        around = [f"{gateway}/" if gateway else "", ""]
    escaped = [json.dumps(part)[1:-1] for part in around]
    escaped[0] = f'[{route.resource_group_id},{json.dumps(route.name)},"{escaped[0]}'
    escaped[-1] = f'{escaped[-1]}",{route.provider_id},{price.text}]'
    return Dial(
        route.resource_group_id,
        route.name,
        route.provider_id,
        price,
        tuple(around),
        tuple(escaped),
        strip,
        prepend,
    )
