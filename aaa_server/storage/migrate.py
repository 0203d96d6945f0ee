"""Brings a database to the schema of this version: schema/NNNN_verb_noun.sql, each once.

A file's SHA-256 is recorded when it is applied; a file that changed afterwards is refused,
since nobody could say any more what the database looks like.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.database import transaction

if TYPE_CHECKING:
    from psycopg2.extensions import connection as PsycopgConnection
    from psycopg2.extensions import cursor as PsycopgCursor

SCHEMA_FOLDER = Path(__file__).parent / "schema"
FILE_NAME = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql")
# pg_advisory_xact_lock: two servers that start at once migrate one after the other.
LOCK_NUMBER = 0x534B594D


class MigrationError(Exception):
    """The schema files and the database do not fit each other."""


class Migration(NamedTuple):
    """One schema file: "0001_create_core.sql", its text, and the text's SHA-256."""

    name: str
    sql: str
    sha256: str


def migrations(folder: Path = SCHEMA_FOLDER) -> list[Migration]:
    """The files in order. Raises `MigrationError` for a gap, a double or a strange name."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        named = FILE_NAME.fullmatch(path.name)
        if named is None or int(named[1]) != number:
            raise MigrationError(f"{path.name}: number {number:04}_….sql was expected here")
        text = path.read_bytes()
        found.append(Migration(path.name, text.decode(), hashlib.sha256(text).hexdigest()))
    return found


def pending(connection: PsycopgConnection, folder: Path = SCHEMA_FOLDER) -> list[str]:
    """The names of the files that `migrate` would apply. Changes nothing."""
    with transaction(connection) as cursor:
        cursor.execute("SELECT to_regclass('schema_migration') IS NOT NULL")
        (exists,) = cursor.fetchone() or (False,)
        applied = _applied(cursor) if exists else {}
    return [migration.name for migration in _missing(migrations(folder), applied)]


def migrate(connection: PsycopgConnection, folder: Path = SCHEMA_FOLDER) -> list[str]:
    """Applies what is missing, all of it or nothing, and returns the names.

    Raises `MigrationError` when an applied file has changed or the database is newer than
    this version; psycopg2's error when a file does not apply.
    """
    with transaction(connection) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_NUMBER,))
        cursor.execute(
            """
            CREATE TABLE IF NOT EXISTS schema_migration (
                name text PRIMARY KEY,
                sha256 text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
        missing = _missing(migrations(folder), _applied(cursor))
        for migration in missing:
            # Without parameters, so a % in the file is a %.
            cursor.execute(migration.sql)
            cursor.execute(
                "INSERT INTO schema_migration (name, sha256) VALUES (%s, %s)",
                (migration.name, migration.sha256),
            )
    return [migration.name for migration in missing]


def _applied(cursor: PsycopgCursor) -> dict[str, str]:
    cursor.execute("SELECT name, sha256 FROM schema_migration")
    return dict(cursor.fetchall())


def _missing(files: list[Migration], applied: dict[str, str]) -> list[Migration]:
    unknown = sorted(applied.keys() - {migration.name for migration in files})
    if unknown:
        raise MigrationError(
            f"the database has {unknown[-1]}, which this version does not know: it is newer"
        )
    for migration in files:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise MigrationError(
                f"{migration.name} has changed since it was applied: put it back as it was,"
                " and write what is new into the next number"
            )
    return [migration for migration in files if migration.name not in applied]
