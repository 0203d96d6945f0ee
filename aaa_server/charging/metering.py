"""What a call takes of packages and limits, at each level that is metered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aaa_server.charging.call import PACKAGE, Level, Share
from aaa_server.charging.ledger import Account, Event
from aaa_server.charging.meter import (
    CALLS,
    MONEY,
    SECONDS,
    Holding,
    Limit,
    LimitUse,
    counted,
    limit_share,
    package_shares,
)

if TYPE_CHECKING:
    from datetime import datetime

    from aaa_server.charging.ledger import Ledger


class Metered:
    """The call that is metered: where to, authorised when, and whether packages may serve it."""

    def __init__(self, called: str, at: datetime, packages: bool = True) -> None:
        self.called = called
        self.at = at
        self.packages = packages


def payable_seconds(
    account: Account, level: Level, at_most: int, held_micros: int, call: Metered, ledger: Ledger
) -> int:
    """The longest call, up to `at_most`, within the account's money, packages and limits.

    `held_micros`, and the level's shares, are what the call has reserved already. 0 when a
    limit has been reached, or not even a second can be paid.
    """
    available = account.available_micros + held_micros
    free = level.package_seconds
    for holding in _holdings(account, call, ledger):
        free += holding.free_seconds
    for limit, use in _limits(account, call, ledger):
        if limit.blocks:
            left = max(0, limit.maximum - use.amount + _held_of(level, use))
            if limit.measure == MONEY:
                available = min(available, left)
            elif not left:
                return 0
            elif limit.measure == SECONDS:
                at_most = min(at_most, left)
    return level.price.terms.affordable_seconds(available, at_most, free)


def reached_limit(account: Account, level: Level, call: Metered, ledger: Ledger) -> Limit | None:
    """The limit that keeps a call of even one second out; tells of it once a period.

    One of money keeps no call out that costs nothing.
    """
    for limit, use in _limits(account, call, ledger):
        if limit.blocks:
            one = 1
            if limit.measure == MONEY:
                free = sum([holding.free_seconds for holding in _holdings(account, call, ledger)])
                one = level.price.terms.cost_micros(1, free)
            if max(0, limit.maximum - use.amount) < one:
                _tell(limit, use, ledger)
                return limit
    return None


def hold_shares(
    levels: tuple[Level, ...], seconds: int, call: Metered, ledger: Ledger
) -> tuple[Level, ...]:
    """`levels` with what a grant of `seconds` takes, instead of what they held before."""
    meters = ledger.meters
    if meters is None:
        return levels
    metered = []
    for level in levels:
        account = ledger.accounts[level.account_id]
        if account.profile.metered:
            for share in level.shares:
                meters.take(share._replace(amount=0), share.amount)
            bare = level.with_shares(())
            packages = package_shares(bare, _holdings(account, call, ledger), seconds)
            level = bare.with_shares(packages)
            shares = packages + _limit_shares(account, level, seconds, call, ledger)
            for share in shares:
                meters.take(share, 0)
            level = level.with_shares(shares)
        metered.append(level)
    return tuple(metered)


def settle_shares(
    levels: tuple[Level, ...], seconds: int, ledger: Ledger, *, first: bool
) -> tuple[Level, ...]:
    """`levels` with what a call of `seconds` has used of what they held.

    `first`: the call ends; else it had ended, and its shares are what was thought used.
    """
    if ledger.meters is None:
        return levels
    return tuple(
        [
            level if not level.shares else _settled(level, seconds, ledger, first=first)
            for level in levels
        ]
    )


def _settled(level: Level, seconds: int, ledger: Ledger, *, first: bool) -> Level:
    meters = ledger.meters
    assert meters is not None
    left = max(0, seconds - level.price.terms.included_seconds)
    packages = []
    for share in level.shares:
        if share.kind == PACKAGE:
            holding = meters.holdings.get(share.row_id)
            most = share.amount
            if not first and holding is not None:
                most += holding.free_seconds
            used = min(left, most)
            left -= used
            if holding is not None:
                (meters.settle if first else meters.correct)(share, used)
            packages.append(share._replace(amount=used))
    charged = level.with_shares(tuple(packages))
    shares = list(packages)
    limits = {limit.limit_id: limit for limit in meters.limits.get(level.account_id, ())}
    for share in level.shares:
        limit = limits.get(share.row_id) if share.kind != PACKAGE else None
        if limit is not None:
            used = counted(limit, charged, seconds)
            (meters.settle if first else meters.correct)(share, used)
            shares.append(share._replace(amount=used))
            use = meters.uses.get((share.row_id, share.period))
            if use is not None and use.amount >= limit.maximum:
                _tell(limit, use, ledger)
    return level.with_shares(tuple(shares))


def _holdings(account: Account, call: Metered, ledger: Ledger) -> list[Holding]:
    if ledger.meters is None or not call.packages:
        return []
    return ledger.meters.holdings_for(account.profile.account_id, call.called, call.at)


def _limits(account: Account, call: Metered, ledger: Ledger) -> list[tuple[Limit, LimitUse]]:
    meters = ledger.meters
    if meters is None:
        return []
    return [
        (limit, meters.use_of(limit, call.at))
        for limit in meters.limits_for(account.profile.account_id, call.called)
        if limit.active
    ]


def _limit_shares(
    account: Account, level: Level, seconds: int, call: Metered, ledger: Ledger
) -> tuple[Share, ...]:
    """What the call counts for while it runs.

    That is all that it may come to where a limit blocks, else only what is sure already.
    """
    return tuple(
        [
            limit_share(
                limit,
                use,
                counted(limit, level, seconds) if limit.blocks or limit.measure == CALLS else 0,
            )
            for limit, use in _limits(account, call, ledger)
        ]
    )


def _held_of(level: Level, use: LimitUse) -> int:
    for share in level.shares:
        if share.kind != PACKAGE and (share.row_id, share.period) == (use.limit_id, use.period):
            return share.amount
    return 0


def _tell(limit: Limit, use: LimitUse, ledger: Ledger) -> None:
    """An event, once a period."""
    if use.alerted:
        return
    use.alerted = use.changed = True
    detail = {
        "limit": limit.name,
        "period": limit.period,
        "measure": limit.measure,
        "maximum": limit.maximum,
        "used": use.amount,
        "action": "block" if limit.blocks else "alert",
    }
    ledger.events.append(Event(limit.account_id, "velocity-limit", json.dumps(detail)))
