"""Secrets at rest: passwords, PINs and shared secrets that the server must know in plain.

AES-256-GCM, bound to the table, row and column, so that a value copied to another row does
not open. A sealed value is: version (1 octet), key id (1), nonce (12), ciphertext and tag.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = 1
KEY_OCTETS = 32
NONCE_OCTETS = 12  # NIST SP 800-38D §8.2: the length that GCM is made for
TAG_OCTETS = 16
KEY_ID_MAX = 255


class SecretsError(Exception):
    """The key file or a sealed value cannot be used; says which and why."""


class Keyring:
    """Keys by their id; the highest id seals, every one unseals.

    The file has one line a key: "id hexadecimal-key". To rotate, append a line with the next
    id; values sealed with the old one still open.
    """

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        assert keys, "a keyring has at least one key"
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._sealing_id = max(keys)

    @classmethod
    def open(cls, path: Path) -> Keyring:
        """The keys in `path`, which is made with one new key when it does not exist.

        Raises `SecretsError`, also when others than the owner may read the file.
        """
        try:
            with contextlib.suppress(FileExistsError):
                _make_key_file(path)
            with path.open(encoding="ascii") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise SecretsError(
                        f"{path}: mode {mode:04o} lets others read the keys: chmod 600 {path}"
                    )
                return cls(_parsed(file.read(), path))
        except (OSError, UnicodeDecodeError) as error:
            raise SecretsError(f"{path}: {error}") from error

    def seal(self, plain: bytes, *, table: str, row_id: int, column: str) -> bytes:
        """`plain` for that column of that row, and for no other."""
        nonce = os.urandom(NONCE_OCTETS)
        head = bytes((VERSION, self._sealing_id))
        cipher = self._ciphers[self._sealing_id]
        return head + nonce + cipher.encrypt(nonce, plain, head + _place(table, row_id, column))

    def unseal(self, sealed: bytes, *, table: str, row_id: int, column: str) -> bytes:
        """What was sealed. Raises `SecretsError` when it was sealed elsewhere or changed."""
        sealed = bytes(sealed)
        where = f"{table} {row_id} {column}"
        if len(sealed) < 2 + NONCE_OCTETS + TAG_OCTETS or sealed[0] != VERSION:
            raise SecretsError(f"{where}: this is no sealed value")
        cipher = self._ciphers.get(sealed[1])
        if cipher is None:
            raise SecretsError(f"{where}: sealed with key {sealed[1]}, which the key file lacks")
        head, nonce, body = sealed[:2], sealed[2 : 2 + NONCE_OCTETS], sealed[2 + NONCE_OCTETS :]
        try:
            return cipher.decrypt(nonce, body, head + _place(table, row_id, column))
        except InvalidTag:
            raise SecretsError(
                f"{where}: does not open with key {sealed[1]}: another key file, or another row's"
            ) from None


def _place(table: str, row_id: int, column: str) -> bytes:
    return f"{table}/{row_id}/{column}".encode()


def _make_key_file(path: Path) -> None:
    """Appears whole or not at all: written beside, then linked. Raises FileExistsError."""
    if path.exists():
        raise FileExistsError(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"1 {os.urandom(KEY_OCTETS).hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)
    finally:
        unfinished.unlink()


def _parsed(text: str, path: Path) -> dict[int, bytes]:
    keys: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        # The line itself is never shown: it is the secret.
        words = line.split()
        try:
            key_id, key = int(words[0]), bytes.fromhex(words[1])
        except (ValueError, IndexError):
            raise SecretsError(f"{path}:{number}: not an id and a hexadecimal key") from None
        if not 1 <= key_id <= KEY_ID_MAX or key_id in keys or len(key) != KEY_OCTETS:
            raise SecretsError(
                f"{path}:{number}: an id from 1 to {KEY_ID_MAX}, once, and {KEY_OCTETS} octets"
            )
        keys[key_id] = key
    if not keys:
        raise SecretsError(f"{path}: there is no key in it")
    return keys
