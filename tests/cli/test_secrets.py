"""The key that seals secrets: rotated, broken off, lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from psycopg2 import sql

from aaa_server.storage import sealed
from aaa_server.storage.database import transaction
from aaa_server.storage.secrets import KEY_ID_MAX, Keyring, SecretsError, add_key

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky


@pytest.fixture
def own_key(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run's key file, which this test may change."""
    own = tmp_path / "own.key"
    own.touch(mode=0o600)
    own.write_bytes(key_file.read_bytes())
    monkeypatch.setenv("SKY_AAA_SECRETS_KEY_FILE", str(own))
    return own


def keys_in_use(connection: Connection) -> set[int]:
    with transaction(connection) as cursor:
        return {use.key_id for use in sealed.uses(cursor)}


def plain(connection: Connection, keyring: Keyring) -> dict[tuple[str, str, int], bytes]:
    """Everything that is sealed, opened."""
    found = {}
    with transaction(connection) as cursor:
        for column in sealed.columns(cursor):
            cursor.execute(
                sql.SQL("SELECT {key}, {sealed} FROM {table} WHERE {sealed} IS NOT NULL").format(
                    **column.identifiers()
                )
            )
            for row_id, value in cursor.fetchall():
                place = {"table": column.table, "row_id": row_id, "column": column.name}
                found[column.table, column.name, row_id] = keyring.unseal(bytes(value), **place)
    return found


def test_all_sealed_columns_are_known(demo_connection: Connection) -> None:
    with transaction(demo_connection) as cursor:
        found = {(one.table, one.name) for one in sealed.columns(cursor)}
        assert sealed.is_any(cursor)
    assert found >= {
        ("account", "password"),
        ("account", "pin"),
        ("client", "secret"),
        ("client", "second_secret"),
    }


def test_a_rotation_seals_everything_with_a_new_key_and_keeps_the_old_one(
    sky: Sky, own_key: Path, demo_connection: Connection
) -> None:
    before = plain(demo_connection, Keyring.open(own_key))
    server = Keyring.open(own_key)  # one that runs meanwhile
    old_lines = own_key.read_text().splitlines()
    ran = sky("secrets", "rotate", "-o", "json")
    assert ran.status == 0, ran.err
    assert ran.json == {"key_id": 2, "resealed": len(before)}
    assert own_key.read_text().splitlines()[: len(old_lines)] == old_lines
    assert own_key.stat().st_mode & 0o777 == 0o600
    assert keys_in_use(demo_connection) == {2}
    assert plain(demo_connection, server) == before
    assert sky("doctor", "-o", "json").json[0]["level"] == "ok"
    with transaction(demo_connection) as cursor:
        cursor.execute("SELECT subject FROM audit_log WHERE action = 'secrets rotate'")
        assert cursor.fetchall() == [("key 2",)]
    listed = sky("secrets", "list", "-o", "json").json
    assert {row["key_id"] for row in listed} == {2}
    assert sum(row["values"] for row in listed) == len(before)


def test_a_rotation_that_was_broken_off_goes_on(
    sky: Sky, own_key: Path, demo_connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plain(demo_connection, Keyring.open(own_key))
    monkeypatch.setattr(sealed, "ROWS_AT_ONCE", 2)
    seal, left = Keyring.seal, [3]

    def breaks_off(self: Keyring, octets: bytes, *, table: str, row_id: int, column: str) -> bytes:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return seal(self, octets, table=table, row_id=row_id, column=column)

    monkeypatch.setattr(Keyring, "seal", breaks_off)
    assert sky("secrets", "rotate").status != 0
    monkeypatch.setattr(Keyring, "seal", seal)
    assert keys_in_use(demo_connection) == {1, 2}
    assert plain(demo_connection, Keyring.open(own_key)) == before
    assert sky("secrets", "reseal", "-o", "json").json == {
        "key_id": 2,
        "resealed": len(before) - 2,
    }
    assert sky("secrets", "reseal", "-o", "json").json["resealed"] == 0
    assert keys_in_use(demo_connection) == {2}
    assert plain(demo_connection, Keyring.open(own_key)) == before


def test_a_value_that_does_not_open_is_named_and_stays(
    sky: Sky, own_key: Path, demo_connection: Connection
) -> None:
    with transaction(demo_connection) as cursor:
        cursor.execute(
            "UPDATE client SET secret_sealed = set_byte(secret_sealed, 20, 255) "
            "WHERE client_id = (SELECT min(client_id) FROM client) RETURNING client_id"
        )
        (client_id,) = cursor.fetchone() or (0,)
    ran = sky("secrets", "rotate")
    assert ran.status == 1
    assert f"client {client_id} secret: does not open with key 1" in ran.err
    assert len(own_key.read_text().splitlines()) == 2


def test_a_lost_key_file_is_not_made_anew_for_a_database_that_needs_it(
    sky: Sky, own_key: Path
) -> None:
    own_key.unlink()
    found = [row for row in sky("doctor", "-o", "json").json if row["about"] == "key file"]
    assert ("problem", True) in {(row["level"], "put it back" in row["what"]) for row in found}
    ran = sky("secrets", "rotate")
    assert ran.status == 1
    assert f"{own_key} is not there, and the database has" in ran.err
    ran = sky("account", "set", "alice", "--password-file", os.devnull)
    assert not own_key.exists()


def test_a_database_without_secrets_gets_a_key_file_of_its_own(empty: Sky, own_key: Path) -> None:
    own_key.unlink()
    assert empty("doctor", "-o", "json").status in (0, 1)
    assert not own_key.exists()  # the doctor changes nothing
    assert empty("account", "add", "admin", "--kind", "admin", "--currency", "EUR").status == 0
    ran = empty("secrets", "reseal", "-o", "json")
    assert ran.status == 0, ran.err
    assert own_key.exists()


def test_rotation_is_the_operators(unchanged: Sky) -> None:
    for words in (["list"], ["rotate"], ["reseal"]):
        ran = unchanged("--as", "north", "secrets", *words)
        assert (ran.status, "leave --as north away" in ran.err) == (1, True)


def test_a_key_that_cannot_be_added_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    full = f"{KEY_ID_MAX} {'00' * 32}\n"
    path.write_text(full)
    with pytest.raises(SecretsError, match="no key above 255"):
        add_key(path)
    assert path.read_text() == full
    assert list(tmp_path.iterdir()) == [path]


def test_a_comment_and_a_link_survive_a_new_key(tmp_path: Path) -> None:
    path, link = tmp_path / "keys", tmp_path / "link"
    path.touch(mode=0o600)
    path.write_text(f"# ours\n1 {'00' * 32}")
    link.symlink_to(path)
    keyring = Keyring.open(link)
    assert add_key(link) == 2
    assert link.is_symlink()
    assert path.read_text().startswith(f"# ours\n1 {'00' * 32}\n2 ")
    assert keyring.sealing_id == 1
    assert keyring.refresh()
    assert keyring.sealing_id == 2
    assert not keyring.refresh()
    path.unlink()
    assert not keyring.refresh()  # what is known is enough to go on


def test_a_spoilt_key_file_is_told_once_and_the_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keyring = Keyring.open(path)
    path.write_text("spoilt\n")
    with pytest.raises(SecretsError, match="not an id and a hexadecimal key"):
        keyring.refresh()
    assert not keyring.refresh()
    assert keyring.sealing_id == 1
