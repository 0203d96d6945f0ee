"""Rate groups: price lists, and the outbound resource groups that their calls may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.storage.owned import find_owned
from aaa_server.storage.problem import BadValue, Conflict, NotAllowed, NotFound
from aaa_server.storage.viewer import Deed, Viewer, may, require_operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import cursor as Cursor


class RateGroup(NamedTuple):
    """One price list. `strategy` is '' and the margin None for all but the operator."""

    rate_group_id: int
    name: str
    owner_id: int
    owner_code: str
    owner_chain: tuple[int, ...]
    tariff_id: int
    currency: str
    strategy: str
    minimum_margin_ppm: int | None
    markup_ppm: int
    initial_seconds: int
    increment_seconds: int
    time_zone: str
    on_net_nanos: int | None  # a minute to a number of our own inventory; None: as the rows say


class Use(NamedTuple):
    """How many rates of a group are in force, and how many accounts pay by it."""

    rates: int
    accounts: int


class NewRateGroup(NamedTuple):
    """What a new rate group is made of."""

    name: str
    owner_id: int
    currency: str
    strategy: str = "least-cost"
    minimum_margin_ppm: int | None = None
    markup_ppm: int = 0
    initial_seconds: int = 60
    increment_seconds: int = 60
    time_zone: str = "UTC"
    on_net_nanos: int | None = None


class Route(NamedTuple):
    """An outbound resource group that a rate group's calls may use."""

    rate_group_id: int
    resource_group: str
    provider: str
    gateway: str
    priority: int
    weight: int
    status: str
    rates: int


def list_rate_groups(cursor: Cursor, viewer: Viewer) -> list[RateGroup]:
    """Those that `viewer` may see, by owner and name.

    A viewer's own price list, which its parent owns, is among them.
    """
    cursor.execute(
        """
        SELECT rate_group.rate_group_id,
               rate_group.name,
               rate_group.owner_id,
               coalesce(owner.code, ''),
               coalesce(owner.chain, '{}'),
               rate_group.tariff_id,
               tariff.currency,
               '',
               NULL,
               rate_group.markup_ppm,
               rate_group.initial_seconds,
               rate_group.increment_seconds,
               rate_group.time_zone,
               rate_group.on_net_per_minute_nanos
          FROM rate_group
          JOIN tariff USING (tariff_id)
          LEFT JOIN account AS owner ON owner.account_id = rate_group.owner_id
         ORDER BY owner.chain, rate_group.name
        """
    )
    groups = [RateGroup(*row)._replace(owner_chain=tuple(row[4])) for row in cursor.fetchall()]
    own_id = _own_price_list(cursor, viewer)
    groups = [
        group
        for group in groups
        if group.rate_group_id == own_id or may(viewer, Deed.SEE, group.owner_chain)
    ]
    return _with_buying_rules(cursor, groups) if viewer.is_operator else groups


def uses(cursor: Cursor, rate_group_ids: Sequence[int]) -> dict[int, Use]:
    """Counted row by row, so for people only, who look at few groups. By number."""
    cursor.execute(
        """
        SELECT rate_group.rate_group_id,
               (SELECT count(*)
                  FROM rate
                 WHERE rate.tariff_id = rate_group.tariff_id
                   AND tstzrange(rate.effective_from, rate.effective_to) @> now()),
               (SELECT count(*)
                  FROM account
                 WHERE account.rate_group_id = rate_group.rate_group_id)
          FROM rate_group
         WHERE rate_group.rate_group_id = ANY (%s)
        """,
        (list(rate_group_ids),),
    )
    return {row[0]: Use(row[1], row[2]) for row in cursor.fetchall()}


def _own_price_list(cursor: Cursor, viewer: Viewer) -> int | None:
    cursor.execute("SELECT rate_group_id FROM account WHERE account_id = %s", (viewer.account_id,))
    row = cursor.fetchone()
    return None if row is None else row[0]


def _with_buying_rules(cursor: Cursor, groups: list[RateGroup]) -> list[RateGroup]:
    cursor.execute("SELECT rate_group_id, strategy, minimum_margin_ppm FROM rate_group")
    rules = {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
    return [
        group._replace(
            strategy=rules[group.rate_group_id][0],
            minimum_margin_ppm=rules[group.rate_group_id][1],
        )
        for group in groups
    ]


def find(cursor: Cursor, viewer: Viewer, name: str, *, owner: str = "") -> RateGroup:
    """The rate group `name` of `owner`; '' when the name alone says which.

    The viewer's own goes before another's of the same name. Raises `NotFound`, and
    `Conflict` when several owners have one.
    """
    return find_owned(
        list_rate_groups(cursor, viewer),
        viewer,
        name,
        owner=owner,
        kind="rate group",
        listed_by="sky-aaa rate-group list",
    )


def require_change(viewer: Viewer, group: RateGroup) -> None:
    """Raises `NotAllowed` for everybody but the operator and the owner.

    A viewer sees the list it buys at too, and its parent's name is not for it.
    """
    if not may(viewer, Deed.SET_PRICES, group.owner_chain):
        owner = f"{group.owner_code} does" if group.owner_code else "who sells at it does"
        raise NotAllowed(f"{viewer.code} may not change rate group {group.name}: {owner}")


def find_for_account(cursor: Cursor, viewer: Viewer, name: str, parent_id: int) -> RateGroup:
    """The rate group `name` that an account below `parent_id` may be given: its parent's own."""
    groups = [group for group in list_rate_groups(cursor, viewer) if group.name == name]
    for group in groups:
        if group.owner_id == parent_id:
            return group
    if groups:
        raise Conflict(
            f"rate group {name!r} belongs to {groups[0].owner_code or 'another account'}: "
            "an account's rate group must be its parent's own"
        )
    raise NotFound(
        f"there is no rate group {name!r} of the account's parent: "
        "`sky-aaa rate-group list` shows what there is"
    )


def add(cursor: Cursor, viewer: Viewer, new: NewRateGroup) -> int:
    """The new group's number. Raises `Conflict` for a name its owner uses already, `BadValue`."""
    try:
        cursor.execute("INSERT INTO tariff (currency) VALUES (%s)", (new.currency,))
        # The tariff's number cannot be RETURNED to a viewer: nothing makes it visible yet.
        if viewer.is_operator:
            cursor.execute(
                """
                INSERT INTO rate_group (
                           owner_id, name, tariff_id, strategy, minimum_margin_ppm, markup_ppm,
                           initial_seconds, increment_seconds, time_zone,
                           on_net_per_minute_nanos)
                VALUES (%(owner_id)s, %(name)s,
                        currval(pg_get_serial_sequence('tariff', 'tariff_id')),
                        %(strategy)s, %(minimum_margin_ppm)s, %(markup_ppm)s,
                        %(initial_seconds)s, %(increment_seconds)s, %(time_zone)s,
                        %(on_net_nanos)s)
                """,
                new._asdict(),
            )
        else:
            cursor.execute(
                """
                INSERT INTO rate_group (
                           owner_id, name, tariff_id, markup_ppm,
                           initial_seconds, increment_seconds, time_zone,
                           on_net_per_minute_nanos)
                VALUES (%(owner_id)s, %(name)s,
                        currval(pg_get_serial_sequence('tariff', 'tariff_id')), %(markup_ppm)s,
                        %(initial_seconds)s, %(increment_seconds)s, %(time_zone)s,
                        %(on_net_nanos)s)
                """,
                new._asdict(),
            )
    except psycopg2.errors.UniqueViolation as error:
        raise Conflict(f"there is a rate group {new.name!r} of this owner already") from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error)) from error
    cursor.execute(
        "SELECT rate_group_id FROM rate_group WHERE owner_id = %s AND name = %s",
        (new.owner_id, new.name),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _check_text(error: psycopg2.errors.CheckViolation) -> str:
    constraint = error.diag.constraint_name or ""
    return {
        "tariff_currency_check": "a currency is three capital letters, such as EUR",
        "rate_group_name_check": "a rate group needs a name",
        "rate_group_markup_ppm_check": "a markup is more than -100 %",
        "rate_group_on_net_per_minute_nanos_check": "a price to our own numbers is not below 0",
        "rate_group_minimum_margin_ppm_check": "a margin is 100 % of the selling price at most",
    }.get(constraint, f"rate group: a value is out of range ({constraint})")


def change(cursor: Cursor, viewer: Viewer, group: RateGroup) -> None:
    """Write all that can be changed of `group`. Raises `BadValue`."""
    try:
        cursor.execute(
            """
            UPDATE rate_group
               SET markup_ppm = %(markup_ppm)s,
                   initial_seconds = %(initial_seconds)s,
                   increment_seconds = %(increment_seconds)s,
                   time_zone = %(time_zone)s,
                   on_net_per_minute_nanos = %(on_net_nanos)s
             WHERE rate_group_id = %(rate_group_id)s
            """,
            group._asdict(),
        )
        if viewer.is_operator:
            cursor.execute(
                """
                UPDATE rate_group
                   SET strategy = %(strategy)s,
                       minimum_margin_ppm = %(minimum_margin_ppm)s
                 WHERE rate_group_id = %(rate_group_id)s
                """,
                group._asdict(),
            )
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error)) from error


def routes(cursor: Cursor, viewer: Viewer, rate_group_id: int) -> list[Route]:
    """The ways out attached to the group, in order of priority. The operator's business."""
    require_operator(viewer, "routes")
    cursor.execute(
        """
        SELECT rate_group_route.rate_group_id,
               resource_group.name,
               account.code,
               resource_group.gateway,
               rate_group_route.priority,
               rate_group_route.weight,
               resource_group.status,
               (SELECT count(*)
                  FROM rate
                 WHERE rate.tariff_id = resource_group.tariff_id
                   AND tstzrange(rate.effective_from, rate.effective_to) @> now())
          FROM rate_group_route
          JOIN resource_group USING (resource_group_id)
          JOIN account USING (account_id)
         WHERE rate_group_route.rate_group_id = %s
         ORDER BY rate_group_route.priority, resource_group.name
        """,
        (rate_group_id,),
    )
    return [Route(*row) for row in cursor.fetchall()]


def attach(
    cursor: Cursor,
    viewer: Viewer,
    rate_group_id: int,
    resource_group_id: int,
    *,
    priority: int,
    weight: int,
) -> None:
    """Let the group's calls use this way out; attached already, it gets the new numbers."""
    require_operator(viewer, "routes")
    cursor.execute(
        """
        INSERT INTO rate_group_route (rate_group_id, resource_group_id, priority, weight)
        VALUES (%s, %s, %s, %s)
            ON CONFLICT (rate_group_id, resource_group_id) DO UPDATE
           SET priority = excluded.priority,
               weight = excluded.weight
        """,
        (rate_group_id, resource_group_id, priority, weight),
    )


def detach(cursor: Cursor, viewer: Viewer, rate_group_id: int, resource_group_id: int) -> bool:
    """Whether the way out was attached; it is not any more."""
    require_operator(viewer, "routes")
    cursor.execute(
        "DELETE FROM rate_group_route WHERE rate_group_id = %s AND resource_group_id = %s",
        (rate_group_id, resource_group_id),
    )
    return bool(cursor.rowcount)
