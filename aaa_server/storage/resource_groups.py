"""Resource groups: RG_xx, one direction of a carrier's connection to the switch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, may, require_operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import cursor as Cursor


class ResourceGroup(NamedTuple):
    """One row. `tariff_id` and `gateway` are of outbound ones, which only the operator sees."""

    resource_group_id: int
    name: str
    direction: str
    account_id: int
    account_code: str
    account_chain: tuple[int, ...]
    max_calls: int
    calls_per_second: int
    precedence: int
    strip: int
    prepend: str
    status: str
    channels: int
    endpoints: tuple[str, ...]
    tariff_id: int | None = None
    gateway: str = ""
    currency: str = ""
    time_zone: str = "UTC"


class Endpoint(NamedTuple):
    """Where an inbound group's calls come from; port 0: any."""

    network: str
    port: int = 0
    tech_prefix: str = ""


class NewResourceGroup(NamedTuple):
    """What a new resource group is made of; `currency` is that of its termination rates."""

    name: str
    direction: str
    account_id: int
    currency: str = ""
    gateway: str = ""
    max_calls: int = 0
    calls_per_second: int = 0
    precedence: int = 0
    strip: int = 0
    prepend: str = ""
    time_zone: str = "UTC"


def list_resource_groups(cursor: Cursor, viewer: Viewer) -> list[ResourceGroup]:
    """In order of their numbers: all for the operator, else the inbound of the viewer's tree."""
    cursor.execute(
        """
        SELECT resource_group.resource_group_id,
               resource_group.name,
               resource_group.direction,
               resource_group.account_id,
               account.code,
               account.chain,
               resource_group.max_calls,
               resource_group.calls_per_second,
               resource_group.precedence,
               resource_group.strip,
               resource_group.prepend,
               resource_group.status,
               resource_group.channels,
               ARRAY(SELECT resource_group_endpoint.network::text
                            || CASE port WHEN 0 THEN '' ELSE ':' || port END
                            || CASE tech_prefix WHEN '' THEN '' ELSE '/' || tech_prefix END
                       FROM resource_group_endpoint
                      WHERE resource_group_endpoint.resource_group_id
                            = resource_group.resource_group_id
                      ORDER BY network, port, tech_prefix)
          FROM resource_group
          JOIN account USING (account_id)
         ORDER BY length(resource_group.name), resource_group.name
        """
    )
    groups = [
        ResourceGroup(*row)._replace(account_chain=tuple(row[5]), endpoints=tuple(row[13]))
        for row in cursor.fetchall()
    ]
    if viewer.is_operator:
        return _with_buying_side(cursor, groups)
    return [
        group
        for group in groups
        if group.direction == "in" and may(viewer, Deed.SEE, group.account_chain)
    ]


def _with_buying_side(cursor: Cursor, groups: list[ResourceGroup]) -> list[ResourceGroup]:
    cursor.execute(
        """
        SELECT resource_group.resource_group_id,
               resource_group.tariff_id,
               resource_group.gateway,
               coalesce(tariff.currency, ''),
               resource_group.time_zone
          FROM resource_group
          LEFT JOIN tariff USING (tariff_id)
        """
    )
    sides = {row[0]: row[1:] for row in cursor.fetchall()}
    return [
        group._replace(tariff_id=side[0], gateway=side[1], currency=side[2], time_zone=side[3])
        for group in groups
        for side in (sides[group.resource_group_id],)
    ]


def rates_in_force(cursor: Cursor, viewer: Viewer) -> dict[int, int]:
    """How many rates each outbound group has now. Counted row by row, so for people only."""
    require_operator(viewer, "termination rates")
    cursor.execute(
        """
        SELECT resource_group.resource_group_id,
               count(*)
          FROM resource_group
          JOIN rate USING (tariff_id)
         WHERE tstzrange(rate.effective_from, rate.effective_to) @> now()
         GROUP BY resource_group.resource_group_id
        """
    )
    return dict(cursor.fetchall())


def find(cursor: Cursor, viewer: Viewer, name: str) -> ResourceGroup:
    """The group; raises `NotFound` when there is none that `viewer` may see."""
    for group in list_resource_groups(cursor, viewer):
        if group.name == name:
            return group
    raise NotFound(
        f"there is no resource group {name}: `sky-aaa resource-group list` shows what there is"
    )


def add(cursor: Cursor, viewer: Viewer, new: NewResourceGroup) -> int:
    """The new group's row number. Raises `Conflict` for a number in use, `BadValue`."""
    require_operator(viewer, "resource groups are added")
    try:
        cursor.execute(
            """
            WITH price_list AS (
                INSERT INTO tariff (currency)
                SELECT %(currency)s
                 WHERE %(direction)s = 'out'
             RETURNING tariff_id)
            INSERT INTO resource_group (
                       name, direction, account_id, tariff_id, gateway, max_calls,
                       calls_per_second, precedence, strip, prepend, time_zone)
            VALUES (%(name)s, %(direction)s, %(account_id)s, (SELECT tariff_id FROM price_list),
                    %(gateway)s, %(max_calls)s, %(calls_per_second)s, %(precedence)s, %(strip)s,
                    %(prepend)s, %(time_zone)s)
         RETURNING resource_group_id
            """,
            new._asdict(),
        )
    except psycopg2.errors.UniqueViolation as error:
        raise Conflict(f"there is a resource group {new.name} already") from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, new.name)) from error
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _check_text(error: psycopg2.errors.CheckViolation, name: str) -> str:
    constraint = error.diag.constraint_name or ""
    return {
        "resource_group_name_check": f"{name!r} is no resource group: RG_ and 1 to 6 digits",
        "resource_group_prepend_check": "what is prepended is digits, *, # and +, 32 at most",
        "resource_group_strip_check": "0 to 32 digits can be stripped",
        "resource_group_endpoint_tech_prefix_check": "a tech prefix is digits, * and #, 16 at most",
        "resource_group_endpoint_port_check": "a port is 0 (any) to 65535",
    }.get(constraint, f"{name}: a value is out of range ({constraint})")


def change(cursor: Cursor, viewer: Viewer, group: ResourceGroup) -> None:
    """Write all that can be changed of `group`. Raises `BadValue`."""
    require_operator(viewer, "resource groups are changed")
    try:
        cursor.execute(
            """
            UPDATE resource_group
               SET gateway = %(gateway)s,
                   max_calls = %(max_calls)s,
                   calls_per_second = %(calls_per_second)s,
                   precedence = %(precedence)s,
                   strip = %(strip)s,
                   prepend = %(prepend)s,
                   status = %(status)s,
                   time_zone = %(time_zone)s
             WHERE resource_group_id = %(resource_group_id)s
            """,
            {**group._asdict(), "account_chain": None, "endpoints": None},
        )
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, group.name)) from error


def set_endpoints(
    cursor: Cursor, viewer: Viewer, group_id: int, name: str, endpoints: Sequence[Endpoint]
) -> None:
    """These and no others are where the group's calls come from.

    Raises `Conflict` when another group has one of them, `BadValue` for what is no network.
    """
    require_operator(viewer, "resource groups are changed")
    cursor.execute("DELETE FROM resource_group_endpoint WHERE resource_group_id = %s", (group_id,))
    try:
        cursor.execute(
            """
            INSERT INTO resource_group_endpoint (resource_group_id, network, port, tech_prefix)
            SELECT %s, network, port, tech_prefix
              FROM unnest(%s::cidr[], %s::integer[], %s::text[])
                   AS new (network, port, tech_prefix)
            """,
            (
                group_id,
                [endpoint.network for endpoint in endpoints],
                [endpoint.port for endpoint in endpoints],
                [endpoint.tech_prefix for endpoint in endpoints],
            ),
        )
    except psycopg2.errors.UniqueViolation as error:
        detail = error.diag.message_detail or ""
        raise Conflict(
            f"{name}: another resource group has this endpoint already. {detail}"
        ) from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, name)) from error
