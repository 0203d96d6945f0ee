"""What is counted besides money: seconds of packages, and limits against fraud.

A call holds its part of both while it runs, in the shares of its levels, and leaves what
it has really used when it ends. Only accounts that are metered have any.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from aaa_server.charging.call import LIMIT, PACKAGE, Level, Share

CALLS = "calls"
SECONDS = "seconds"
MONEY = "money"


@dataclass(slots=True)
class Holding:
    """Package seconds of one account for one period."""

    holding_id: int
    account_id: int
    prefixes: tuple[str, ...]
    priority: int
    valid_from: datetime
    valid_to: datetime | None
    granted_seconds: int
    used_seconds: int
    reserved_seconds: int
    changed: bool = False

    @property
    def free_seconds(self) -> int:
        return self.granted_seconds - self.used_seconds - self.reserved_seconds

    def serves(self, called: str, at: datetime) -> bool:
        """Whether a call to `called` that is authorised at `at` may use it."""
        in_force = self.valid_from <= at and (self.valid_to is None or at < self.valid_to)
        return in_force and _begins_with(called, self.prefixes)


class Limit(NamedTuple):
    """At most `maximum` calls, seconds or micros a period, to these prefixes."""

    limit_id: int
    account_id: int
    name: str
    prefixes: tuple[str, ...]
    period: str  # hour, day, week, month
    measure: str  # calls, seconds, money
    maximum: int
    blocks: bool
    active: bool  # one that is not still ends what calls hold of it
    zone: tzinfo


@dataclass(slots=True)
class LimitUse:
    """What has been used of a limit in one period, calls in progress included."""

    limit_id: int
    period: int  # the Unix second at which it began
    amount: int
    alerted: bool = False
    changed: bool = False


UseKey = tuple[int, int]  # limit_id, period


def _begins_with(called: str, prefixes: tuple[str, ...]) -> bool:
    return not prefixes or called.startswith(prefixes)


def period_begin(period: str, at: datetime, zone: tzinfo) -> int:
    """The Unix second at which the period that holds `at` began, by the clocks of `zone`.

    Weeks begin on Monday.
    """
    local = at.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    if period != "hour":
        local = local.replace(hour=0, fold=0)
    if period == "week":
        local -= timedelta(days=local.weekday())
    elif period == "month":
        local = local.replace(day=1)
    return int(local.astimezone(UTC).timestamp())


@dataclass(slots=True)
class Meters:
    """All that is metered of the accounts of one batch."""

    holdings: dict[int, Holding]
    limits: dict[int, list[Limit]]  # by account
    uses: dict[UseKey, LimitUse]

    def holdings_for(self, account_id: int, called: str, at: datetime) -> list[Holding]:
        """The account's packages that this call may use, in the order in which it does."""
        serving = [
            holding
            for holding in self.holdings.values()
            if holding.account_id == account_id
            and holding.free_seconds > 0
            and holding.serves(called, at)
        ]
        return sorted(serving, key=_by_priority)

    def limits_for(self, account_id: int, called: str) -> list[Limit]:
        """The account's limits that count calls to `called`."""
        return [
            limit
            for limit in self.limits.get(account_id, ())
            if _begins_with(called, limit.prefixes)
        ]

    def use_of(self, limit: Limit, at: datetime) -> LimitUse:
        """What has been used of `limit` in the period that holds `at`."""
        period = period_begin(limit.period, at, limit.zone)
        use = self.uses.get((limit.limit_id, period))
        if use is None:
            use = self.uses[limit.limit_id, period] = LimitUse(limit.limit_id, period, 0)
        return use

    def take(self, share: Share, before: int) -> None:
        """Hold `share.amount` instead of `before`; nothing of what is gone meanwhile."""
        change = share.amount - before
        if share.kind == PACKAGE:
            holding = self.holdings.get(share.row_id)
            if holding is None:
                return
            holding.reserved_seconds += change
            holding.changed = True
            assert 0 <= holding.reserved_seconds <= holding.granted_seconds - holding.used_seconds
        else:
            self._count(share, change)

    def settle(self, share: Share, used: int) -> None:
        """The call that held `share` has ended and used `used` of it."""
        if share.kind == PACKAGE:
            holding = self.holdings[share.row_id]
            holding.reserved_seconds -= share.amount
            holding.used_seconds += used
            holding.changed = True
            assert holding.reserved_seconds >= 0
        else:
            self._count(share, used - share.amount)

    def correct(self, share: Share, used: int) -> None:
        """What a call that had ended was said to use was `share`; it was `used`."""
        if share.kind == PACKAGE:
            holding = self.holdings[share.row_id]
            holding.used_seconds += used - share.amount
            holding.changed = True
        else:
            self._count(share, used - share.amount)

    def _count(self, share: Share, change: int) -> None:
        known = any(share.row_id == one.limit_id for held in self.limits.values() for one in held)
        if change and known:
            key = (share.row_id, share.period)
            use = self.uses.setdefault(key, LimitUse(share.row_id, share.period, 0))
            use.amount = max(0, use.amount + change)
            use.changed = True


def _by_priority(holding: Holding) -> tuple[int, datetime, int]:
    # Of equal ones that which ends first; one without an end comes last.
    end = holding.valid_to or datetime.max.replace(tzinfo=UTC)
    return holding.priority, end, holding.holding_id


def package_shares(
    level: Level, holdings: list[Holding], granted_seconds: int
) -> tuple[Share, ...]:
    """What a grant of `granted_seconds` takes of `holdings`, the included seconds first."""
    needed = max(0, granted_seconds - level.price.terms.included_seconds)
    shares = []
    for holding in holdings:
        taken = min(needed, holding.free_seconds)
        if taken:
            shares.append(Share(PACKAGE, holding.holding_id, 0, taken))
            needed -= taken
    return tuple(shares)


def counted(limit: Limit, level: Level, seconds: int) -> int:
    """How much of `limit` a call of `seconds` is: calls, seconds or micros."""
    if limit.measure == CALLS:
        return 1
    return seconds if limit.measure == SECONDS else level.cost_micros(seconds)


def limit_share(limit: Limit, use: LimitUse, amount: int) -> Share:
    """The part of a limit that a call holds."""
    return Share(LIMIT, limit.limit_id, use.period, amount)
