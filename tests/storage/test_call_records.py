"""The migration that puts call records into months, on a database that has some."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg2.errors
import pytest

from aaa_server.storage.database import connect, transaction
from aaa_server.storage.migrate import SCHEMA_FOLDER, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

BEFORE = "0010"
NOW = datetime.now(UTC)


@pytest.fixture
def old(empty_database_url: str, tmp_path: Path) -> Iterator[Connection]:
    """A database as it was before, with records of five months."""
    for file in SCHEMA_FOLDER.glob("*.sql"):
        if file.name < BEFORE:
            shutil.copy(file, tmp_path)
    with contextlib.closing(connect(empty_database_url)) as connection:
        migrate(connection, tmp_path)
        with transaction(connection) as cursor:
            cursor.execute(
                """
                INSERT INTO cdr (call_id, client_id, session_key, party_id, levels, routes,
                                 granted_seconds, authorized_at, ani, called, sip_call_id,
                                 ended_at, ended_by, duration_ms, seconds, flags)
                SELECT n, 1, 'call-' || n, '{7}', '[]', '[]', 60, at, '1', '2', 'x', at, 'stop',
                       1000 * n, n, '{silent}'
                  FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS one (at, n)
                """,
                (
                    [
                        datetime(2001, 3, 4, tzinfo=UTC),
                        datetime(2026, 8, 31, 23, 59, 59, 999_999, tzinfo=UTC),
                        datetime(2026, 9, 1, tzinfo=UTC),
                        datetime(2026, 9, 2, tzinfo=UTC),
                        NOW,
                        datetime(2035, 1, 1, tzinfo=UTC),
                    ],
                ),
            )
            cursor.execute("CREATE TABLE before AS SELECT * FROM cdr")
        yield connection


def test_records_are_moved_as_they_are(old: Connection) -> None:
    assert migrate(old)[0].startswith(BEFORE)
    with transaction(old) as cursor:
        cursor.execute("(TABLE before EXCEPT TABLE cdr) UNION ALL (TABLE cdr EXCEPT TABLE before)")
        assert cursor.fetchall() == []
        cursor.execute("SELECT call_id, tableoid::regclass::text FROM cdr ORDER BY call_id")
        assert cursor.fetchall() == [
            (1, "cdr_2001_03"),
            (2, "cdr_2026_08"),
            (3, "cdr_2026_09"),
            (4, "cdr_2026_09"),
            (5, f"cdr_{NOW:%Y_%m}"),
            (6, "cdr_2035_01"),
        ]
        cursor.execute("SELECT to_regclass('cdr_whole'), count(*) FROM cdr_ever")
        assert cursor.fetchall() == [(None, 6)]


def test_what_kept_records_safe_does_so_still(old: Connection) -> None:
    migrate(old)
    for statement in ("DELETE FROM cdr", "TRUNCATE cdr", "DELETE FROM cdr_2026_09"):
        with pytest.raises(psycopg2.errors.RestrictViolation), transaction(old) as cursor:
            cursor.execute(statement)
    with pytest.raises(psycopg2.errors.CheckViolation), transaction(old) as cursor:
        cursor.execute("UPDATE cdr SET ended_by = 'nobody'")
    with pytest.raises(psycopg2.errors.NotNullViolation), transaction(old) as cursor:
        cursor.execute("UPDATE cdr SET levels = NULL")


def test_a_viewer_reads_what_it_could_and_no_month_by_its_name(old: Connection) -> None:
    migrate(old)
    with transaction(old) as cursor:
        cursor.execute(
            """
            INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency)
            VALUES (1, 'admin', 'admin', NULL, false, 'EUR');
            INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency)
            VALUES (2, 'alice', 'customer', 1, true, 'EUR'), (3, 'bob', 'customer', 1, true, 'EUR');
            UPDATE cdr SET account_id = CASE WHEN call_id < 4 THEN 2 ELSE 3 END
            """
        )
    for statement, allowed in (
        ("SELECT call_id, seconds, called, cause, postings FROM cdr ORDER BY 1", True),
        ("SELECT levels FROM cdr", False),
        ("SELECT routes FROM cdr", False),
        ("SELECT call_id FROM cdr_2026_09", False),
        ("SELECT call_id FROM cdr_default", False),
        ("SELECT call_id FROM cdr_ever", False),
        ("UPDATE cdr SET seconds = 0", False),
    ):
        with old.cursor() as cursor:
            cursor.execute("SELECT set_config('sky_aaa.viewer_id', '2', true)")
            cursor.execute("SET LOCAL ROLE sky_aaa_viewer")
            if allowed:
                cursor.execute(statement)
                assert [row[0] for row in cursor.fetchall()] == [1, 2, 3]
            else:
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute(statement)
        old.rollback()
