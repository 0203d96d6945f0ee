"""Nonces of our own for SIP digests (RFC 5090 §2.2): any server can check what another made.

A nonce is when it was made, something random, and a MAC over both by the key that the
servers share; nothing is kept. How often it was used is for the charging core to know.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

LIFE_SECONDS = 300  # then a client is asked again: as long as Kamailio's own live
AHEAD_SECONDS = 60  # by which another server's clock may be ahead of ours
_TIME_DIGITS = 8
_RANDOM_OCTETS = 8
_MAC_DIGITS = 32
_DIGITS = _TIME_DIGITS + 2 * _RANDOM_OCTETS + _MAC_DIGITS


class Nonces:
    """Makes and checks nonces; the first of `keys` makes, each of them checks.

    `keys` may be replaced at any time.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        assert keys, "a nonce is made with a key"
        self.keys = tuple(keys)

    def make(self, at: datetime) -> str:
        """A new nonce, good from `at` for `LIFE_SECONDS`."""
        head = f"{int(at.timestamp()):0{_TIME_DIGITS}x}{os.urandom(_RANDOM_OCTETS).hex()}"
        return head + _mac(self.keys[0], head)

    def is_ours(self, nonce: str) -> bool:
        """Whether one of our servers made it."""
        if len(nonce) != _DIGITS:
            return False
        head, mac = nonce[:-_MAC_DIGITS], nonce[-_MAC_DIGITS:].encode()
        return any(hmac.compare_digest(_mac(key, head).encode(), mac) for key in self.keys)

    def is_good(self, nonce: str, at: datetime) -> bool:
        """Whether one of our servers made it, not too long before `at`."""
        if not self.is_ours(nonce):
            return False
        age = int(at.timestamp()) - int(nonce[:_TIME_DIGITS], 16)
        return -AHEAD_SECONDS <= age <= LIFE_SECONDS


def _mac(key: bytes, head: str) -> str:
    return hmac.digest(key, b"digest-nonce:" + head.encode(), hashlib.sha256).hex()[:_MAC_DIGITS]
