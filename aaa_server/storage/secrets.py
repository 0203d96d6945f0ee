"""Secrets at rest: passwords, PINs and shared secrets that the server must know in plain.

AES-256-GCM, bound to the table, row and column, so that a value copied to another row does
not open. A sealed value is: version (1 octet), key id (1), nonce (12), ciphertext and tag.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
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

    The file has one line a key: "id hexadecimal-key". A key that is added to it while the
    keyring is in use is found when a value needs it, or by `refresh`.
    """

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._path: Path | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._take(keys)

    def _take(self, keys: Mapping[int, bytes]) -> None:
        assert keys, "a keyring has at least one key"
        self._keys = dict(keys)
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.sealing_id = max(keys)

    @classmethod
    def open(cls, path: Path) -> Keyring:
        """The keys in `path`, which is made with one new key when it does not exist.

        Raises `SecretsError`, also when others than the owner may read the file.
        """
        try:
            with contextlib.suppress(FileExistsError):
                _make_key_file(path)
        except OSError as error:
            raise SecretsError(f"{path}: {error}") from error
        stamp = _stamp(path)
        keyring = cls(_read(path))
        keyring._path, keyring._stamp = path, stamp
        return keyring

    def refresh(self) -> bool:
        """Read the key file again if it has changed; whether it had.

        A file that has gone changes nothing; of one that cannot be used it is said once, by
        `SecretsError`, and the keys stay.
        """
        stamp = None if self._path is None else _stamp(self._path)
        if self._path is None or stamp is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        self._take(_read(self._path))
        return True

    def derive(self, purpose: str) -> tuple[bytes, ...]:
        """A key for `purpose` of each key, the one that seals first: nobody learns them of it."""
        return tuple(
            hmac.digest(self._keys[key_id], purpose.encode(), hashlib.sha256)
            for key_id in sorted(self._keys, reverse=True)
        )

    def seal(self, plain: bytes, *, table: str, row_id: int, column: str) -> bytes:
        """`plain` for that column of that row, and for no other."""
        nonce = os.urandom(NONCE_OCTETS)
        head = bytes((VERSION, self.sealing_id))
        cipher = self._ciphers[self.sealing_id]
        return head + nonce + cipher.encrypt(nonce, plain, head + _place(table, row_id, column))

    def unseal(self, sealed: bytes, *, table: str, row_id: int, column: str) -> bytes:
        """What was sealed. Raises `SecretsError` when it was sealed elsewhere or changed."""
        sealed = bytes(sealed)
        where = f"{table} {row_id} {column}"
        if len(sealed) < 2 + NONCE_OCTETS + TAG_OCTETS or sealed[0] != VERSION:
            raise SecretsError(f"{where}: this is no sealed value")
        cipher = self._ciphers.get(sealed[1])
        if cipher is None and self.refresh():
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


def add_key(path: Path) -> int:
    """Add a key to the file, which seals from now on; its id. The others stay, to read with.

    The file is never seen half written. Raises `SecretsError`.
    """
    keys = _read(path)
    key_id = max(keys) + 1
    if key_id > KEY_ID_MAX:
        raise SecretsError(f"{path}: there can be no key above {KEY_ID_MAX}: remove old ones")
    path = path.resolve()
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        owner = path.stat()
        lines = path.read_text(encoding="ascii").splitlines()
        lines.append(f"{key_id} {os.urandom(KEY_OCTETS).hex()}")
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SecretsError(f"{path}: {error}") from error
    return key_id


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells whether the file is still the one that was read; None: it cannot be seen."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def _read(path: Path) -> dict[int, bytes]:
    """The keys in the file. Raises `SecretsError`."""
    try:
        with path.open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise SecretsError(
                    f"{path}: mode {mode:04o} lets others read the keys: chmod 600 {path}"
                )
            return _parsed(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsError(f"{path}: {error}") from error


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
