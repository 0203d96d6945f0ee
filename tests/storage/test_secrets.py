from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.storage.secrets import Keyring, SecretsError

if TYPE_CHECKING:
    from pathlib import Path

KEYRING = Keyring({1: bytes(32)})


def seal(keyring: Keyring, plain: bytes) -> bytes:
    return keyring.seal(plain, table="account", row_id=7, column="password")


def unseal(keyring: Keyring, sealed: bytes) -> bytes:
    return keyring.unseal(sealed, table="account", row_id=7, column="password")


@given(plain=st.binary(max_size=200))
def test_what_is_sealed_opens_again_and_never_looks_the_same(plain: bytes) -> None:
    first, second = seal(KEYRING, plain), seal(KEYRING, plain)
    assert unseal(KEYRING, first) == unseal(KEYRING, second) == plain
    assert first != second


@pytest.mark.parametrize(
    ("table", "row_id", "column"),
    [("client", 7, "password"), ("account", 8, "password"), ("account", 7, "pin")],
)
def test_a_value_moved_to_another_place_does_not_open(table: str, row_id: int, column: str) -> None:
    with pytest.raises(SecretsError, match=rf"^{table} {row_id} {column}: does not open"):
        KEYRING.unseal(seal(KEYRING, b"secret"), table=table, row_id=row_id, column=column)


@given(position=st.integers(min_value=0, max_value=35), bit=st.integers(min_value=0, max_value=7))
def test_a_changed_bit_is_found(position: int, bit: int) -> None:
    sealed = bytearray(seal(KEYRING, b"secret"))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(SecretsError):
        unseal(KEYRING, bytes(sealed))


def test_a_short_value_is_no_sealed_value() -> None:
    with pytest.raises(SecretsError, match="no sealed value"):
        unseal(KEYRING, b"\x01\x01")


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secrets.key"
    sealed = seal(Keyring.open(path), b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secrets.key"]
    assert unseal(Keyring.open(path), sealed) == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets.key"
    Keyring.open(path)
    path.chmod(mode)
    with pytest.raises(SecretsError, match="lets others read"):
        Keyring.open(path)


def test_after_a_rotation_old_values_open_and_new_ones_need_the_new_key(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    old = Keyring.open(path)
    sealed_before = seal(old, b"before")
    with path.open("a") as file:
        file.write(f"# 2026\n2 {os.urandom(32).hex()}\n")
    both = Keyring.open(path)
    assert unseal(both, sealed_before) == b"before"
    sealed_after = seal(both, b"after")
    assert unseal(old, sealed_after) == b"after"  # it reads the file again
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(SecretsError, match="key 2, which the key file lacks"):
        unseal(Keyring.open(path), sealed_after)


@pytest.mark.parametrize(
    "line", ["hello", "1 xyz", "1 00", "0 " + "00" * 32, "256 " + "00" * 32, "", "1"]
)
def test_a_broken_key_file_is_refused_without_showing_it(tmp_path: Path, line: str) -> None:
    path = tmp_path / "secrets.key"
    path.write_text(line)
    path.chmod(0o600)
    with pytest.raises(SecretsError) as caught:
        Keyring.open(path)
    assert str(path) in str(caught.value)
    assert "00000000" not in str(caught.value)


def test_a_key_id_cannot_come_twice(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    Keyring.open(path)
    path.write_text(path.read_text() * 2)
    with pytest.raises(SecretsError, match=":2: an id from 1 to 255, once"):
        Keyring.open(path)
