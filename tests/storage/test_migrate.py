from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg2
import pytest

from aaa_server.storage.database import connect
from aaa_server.storage.migrate import MigrationError, migrate, migrations, pending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as PsycopgConnection


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[PsycopgConnection]:
    with contextlib.closing(connect(empty_database_url)) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_create_fruit.sql").write_text("CREATE TABLE fruit (name text); -- 100 %s")
    (tmp_path / "0002_add_colour.sql").write_text("ALTER TABLE fruit ADD COLUMN colour text;")
    return tmp_path


def tables(connection: PsycopgConnection) -> set[str]:
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        return {name for (name,) in cursor.fetchall()}


def test_files_are_applied_in_order_and_once(empty: PsycopgConnection, folder: Path) -> None:
    names = ["0001_create_fruit.sql", "0002_add_colour.sql"]
    assert pending(empty, folder) == names
    assert migrate(empty, folder) == names
    assert pending(empty, folder) == []
    assert migrate(empty, folder) == []


def test_the_dry_run_changes_nothing(empty: PsycopgConnection, folder: Path) -> None:
    pending(empty, folder)
    assert tables(empty) == set()


def test_a_failing_file_takes_the_ones_before_it_back(
    empty: PsycopgConnection, folder: Path
) -> None:
    (folder / "0003_fail.sql").write_text("ALTER TABLE vegetable ADD COLUMN colour text;")
    with pytest.raises(psycopg2.ProgrammingError, match="vegetable"):
        migrate(empty, folder)
    assert tables(empty) == set()


def test_a_changed_file_is_refused_by_name(empty: PsycopgConnection, folder: Path) -> None:
    migrate(empty, folder)
    (folder / "0001_create_fruit.sql").write_text("CREATE TABLE fruit (name text, size int);")
    with pytest.raises(MigrationError, match=r"^0001_create_fruit\.sql has changed"):
        migrate(empty, folder)


def test_a_newer_database_is_refused(empty: PsycopgConnection, folder: Path) -> None:
    migrate(empty, folder)
    (folder / "0002_add_colour.sql").unlink()
    with pytest.raises(MigrationError, match="which this version does not know"):
        migrate(empty, folder)


@pytest.mark.parametrize("name", ["0004_skip.sql", "0003-dash.sql", "3_short.sql"])
def test_a_gap_or_a_strange_name_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="number 0003_"):
        migrations(folder)


def test_the_product_s_own_files_apply(connection: PsycopgConnection) -> None:
    assert pending(connection) == []
    assert migrations()[0].name == "0001_create_core.sql"
