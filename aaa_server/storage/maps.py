"""Extension and ANI maps: whose call it is when the switch gives no account code."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import Deed, Viewer, may

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor


class Mapping(NamedTuple):
    """One line of a map; `kind` is extension or ani."""

    kind: str
    number: str
    domain: str
    account_code: str
    account_chain: tuple[int, ...]


def list_maps(cursor: Cursor, viewer: Viewer) -> list[Mapping]:
    """Extensions, then ANIs, in order of their numbers."""
    cursor.execute(
        """
        SELECT 'extension' AS kind, extension AS number, domain, account.code, account.chain
          FROM extension_map
          JOIN account USING (account_id)
         UNION ALL
        SELECT 'ani', ani, '', account.code, account.chain
          FROM ani_map
          JOIN account USING (account_id)
         ORDER BY kind DESC, number, domain
        """
    )
    maps = [Mapping(*row)._replace(account_chain=tuple(row[4])) for row in cursor.fetchall()]
    return [one for one in maps if may(viewer, Deed.SEE, one.account_chain)]


def map_extension(cursor: Cursor, extension: str, domain: str, account_id: int) -> str:
    """Map it; what it was mapped to before ('' for nothing) comes back.

    `domain` '' is every domain. Raises `Conflict` when it is another tree's.
    """
    cursor.execute(
        """
        SELECT account.code
          FROM extension_map
          JOIN account USING (account_id)
         WHERE extension = %s AND domain = %s
        """,
        (extension, domain),
    )
    row = cursor.fetchone()
    try:
        cursor.execute(
            """
            INSERT INTO extension_map (extension, domain, account_id)
            VALUES (%s, %s, %s)
                ON CONFLICT (extension, domain) DO UPDATE
               SET account_id = excluded.account_id
            """,
            (extension, domain, account_id),
        )
    except psycopg2.errors.InsufficientPrivilege as error:
        raise Conflict(_of_another_tree(f"extension {extension}@{domain}")) from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue("an extension is not empty") from error
    return "" if row is None else str(row[0])


def map_ani(cursor: Cursor, ani: str, account_id: int) -> str:
    """Map it; what it was mapped to before ('' for nothing) comes back.

    Raises `Conflict` when it is another tree's, `BadValue` for what is no number.
    """
    cursor.execute(
        "SELECT account.code FROM ani_map JOIN account USING (account_id) WHERE ani = %s", (ani,)
    )
    row = cursor.fetchone()
    try:
        cursor.execute(
            """
            INSERT INTO ani_map (ani, account_id)
            VALUES (%s, %s)
                ON CONFLICT (ani) DO UPDATE
               SET account_id = excluded.account_id
            """,
            (ani, account_id),
        )
    except psycopg2.errors.InsufficientPrivilege as error:
        raise Conflict(_of_another_tree(f"number {ani}")) from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(f"{ani!r} is no number: 1 to 32 digits, * and #") from error
    return "" if row is None else str(row[0])


def _of_another_tree(what: str) -> str:
    return f"{what} is mapped already, to an account that you may not see: ask the operator"


def unmap_extension(cursor: Cursor, extension: str, domain: str) -> bool:
    """Whether it was mapped (in the viewer's tree); it is not any more."""
    cursor.execute(
        "DELETE FROM extension_map WHERE extension = %s AND domain = %s", (extension, domain)
    )
    return bool(cursor.rowcount)


def unmap_ani(cursor: Cursor, ani: str) -> bool:
    """Whether it was mapped (in the viewer's tree); it is not any more."""
    cursor.execute("DELETE FROM ani_map WHERE ani = %s", (ani,))
    return bool(cursor.rowcount)
