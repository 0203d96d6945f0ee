"""Everything that is sealed in the database, and how it is sealed anew with another key.

A sealed column is of type bytea and called NAME_sealed; what is in it is bound to its
table, the row's number and NAME.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg2 import sql

from aaa_server.storage.database import transaction
from aaa_server.storage.secrets import Keyring, SecretsError

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

ROWS_AT_ONCE = 1000  # locked together: calls of their accounts wait so long
ROUNDS_MAX = 5  # over one column, while others still write with the old key


class Column(NamedTuple):
    """One sealed column: its table, the table's number, and the column without `_sealed`."""

    table: str
    key: str
    name: str

    def identifiers(self) -> dict[str, sql.Identifier]:
        """For a statement: table, key and sealed."""
        return {
            "table": sql.Identifier(self.table),
            "key": sql.Identifier(self.key),
            "sealed": sql.Identifier(f"{self.name}_sealed"),
        }


class Use(NamedTuple):
    """How many values of a column are sealed with one key."""

    table: str
    column: str
    key_id: int
    values: int


def columns(cursor: Cursor) -> list[Column]:
    """All sealed columns; none in a database without a schema."""
    cursor.execute(
        r"""
        SELECT relation.relname,
               key.attname,
               regexp_replace(sealed.attname, '_sealed$', '')
          FROM pg_class AS relation
          JOIN pg_attribute AS sealed ON sealed.attrelid = relation.oid
          JOIN pg_index AS pkey ON pkey.indrelid = relation.oid AND pkey.indisprimary
          JOIN pg_attribute AS key
            ON key.attrelid = relation.oid AND key.attnum = pkey.indkey[0]
         WHERE relation.relnamespace = current_schema()::regnamespace
           AND relation.relkind = 'r'
           AND sealed.attname LIKE '%\_sealed'
           AND sealed.atttypid = 'bytea'::regtype
           AND NOT sealed.attisdropped
           AND pkey.indnkeyatts = 1
         ORDER BY 1, 3
        """
    )
    return [Column(*row) for row in cursor.fetchall()]


def uses(cursor: Cursor) -> list[Use]:
    """Which keys seal how much, by column."""
    found = []
    for column in columns(cursor):
        cursor.execute(
            sql.SQL(
                """
                SELECT get_byte({sealed}, 1),
                       count(*)
                  FROM {table}
                 WHERE {sealed} IS NOT NULL
                 GROUP BY 1
                 ORDER BY 1
                """
            ).format(**column.identifiers())
        )
        found += [Use(column.table, column.name, *row) for row in cursor.fetchall()]
    return found


def is_any(cursor: Cursor) -> bool:
    """Whether something is sealed, so that a new key file would be of no use."""
    for column in columns(cursor):
        cursor.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE {sealed} IS NOT NULL)").format(
                **column.identifiers()
            )
        )
        (some,) = cursor.fetchone() or (False,)
        if some:
            return True
    return False


def open_keyring(path: Path, connection: Connection) -> Keyring:
    """The keys in `path`; a new file is only made for a database in which nothing is sealed.

    Raises `SecretsError`.
    """
    if not path.exists():
        with transaction(connection) as cursor:
            if is_any(cursor):
                raise SecretsError(missing_text(path))
    return Keyring.open(path)


def missing_text(path: Path) -> str:
    """What to say of a key file that is not there though the database needs it."""
    return (
        f"{path} is not there, and the database has passwords and secrets that were sealed with "
        "it: put it back from its copy"
    )


def reseal(connection: Connection, keyring: Keyring, column: Column) -> int:
    """Seal the whole column with the newest key; how many values were sealed with another.

    Some rows in each transaction: it may be broken off and begun again at any time. Raises
    `SecretsError` for a value that does not open.
    """
    count = 0
    for _ in range(ROUNDS_MAX):
        before, after = count, 0
        while True:
            with transaction(connection) as cursor:
                rows = _old_rows(cursor, keyring, column, after)
                if not rows:
                    break
                _write(cursor, keyring, column, rows)
            after = rows[-1][0]
            count += len(rows)
        if count == before:
            break
    return count


def _old_rows(
    cursor: Cursor, keyring: Keyring, column: Column, after: int
) -> list[tuple[int, bytes]]:
    """Rows beyond `after` that another key than the newest sealed, locked in their order."""
    cursor.execute(
        sql.SQL(
            """
            SELECT {key},
                   {sealed}
              FROM {table}
             WHERE {key} > %s
               AND get_byte({sealed}, 1) <> %s
             ORDER BY {key}
             LIMIT %s
               FOR NO KEY UPDATE
            """
        ).format(**column.identifiers()),
        (after, keyring.sealing_id, ROWS_AT_ONCE),
    )
    return [(int(row[0]), bytes(row[1])) for row in cursor.fetchall()]


def _write(cursor: Cursor, keyring: Keyring, column: Column, rows: list[tuple[int, bytes]]) -> None:
    sealed = []
    for row_id, old in rows:
        plain = keyring.unseal(old, table=column.table, row_id=row_id, column=column.name)
        sealed.append(keyring.seal(plain, table=column.table, row_id=row_id, column=column.name))
    cursor.execute(
        sql.SQL(
            """
            UPDATE {table}
               SET {sealed} = new.sealed
              FROM unnest(%s::bigint[], %s::bytea[]) AS new (row_id, sealed)
             WHERE {table}.{key} = new.row_id
            """
        ).format(**column.identifiers()),
        ([row_id for row_id, _ in rows], sealed),
    )
