"""Does a credential match what is stored? Constant-time comparisons, no clock, no I/O."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from aaa_server.charging.requests import Chap, Pap, Refusal, Refused

if TYPE_CHECKING:
    from aaa_server.charging.ledger import Profile

_WRONG = Refused(Refusal.INVALID_PASSWORD, "invalid password or PIN")


def check(credential: Pap | Chap | None, profile: Profile, *, trusted: bool) -> Refused | None:
    """None when the caller may go on.

    A credential that is sent must match, whoever sends it. None is needed from a switch
    that has authenticated the caller itself (`trusted`), or for an account without any.
    """
    if credential is None:
        if trusted or (profile.password is None and profile.pin is None):
            return None
        return Refused(Refusal.INVALID_PASSWORD, "this account needs a password or PIN")
    secrets = [secret for secret in (profile.password, profile.pin) if secret is not None]
    # Every stored secret is compared, so that the time does not tell which one was close.
    matches = [_matches(credential, secret) for secret in secrets]
    return None if any(matches) else _WRONG


def _matches(credential: Pap | Chap, secret: bytes) -> bool:
    if isinstance(credential, Pap):
        return hmac.compare_digest(credential.password, secret)
    # RFC 2865 §5.3: the response is MD5 over identifier, password and challenge.
    expected = hashlib.md5(
        bytes([credential.identifier]) + secret + credential.challenge, usedforsecurity=False
    ).digest()
    return hmac.compare_digest(credential.response, expected)
