"""SIP digest: does it fit the password, and is it new? (RFC 2617, 7616, RFC 5090.) Pure.

Passwords are known in plain, so any realm can be checked. What was seen of a nonce is
remembered by the caller, in rows that all servers share: the same answer is not taken twice,
but for the same call.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from aaa_server.charging.ledger import Nonce
from aaa_server.charging.requests import Authorize, DigestReply, Refusal, Refused

if TYPE_CHECKING:
    from datetime import datetime

    from aaa_server.charging.ledger import Ledger, Profile
    from aaa_server.charging.requests import Authenticate, Digest, Granted, Known, Origin

# The same request over another path of servers is no replay for as long as a SIP
# transaction repeats itself: 64 × T1 (RFC 3261 §17.1.1.2).
REPEAT_SECONDS = 32
NONCE_HASH_OCTETS = 16

_WRONG = Refused(Refusal.INVALID_PASSWORD, "invalid password or PIN")
_SEEN = Refused(Refusal.INVALID_PASSWORD, "this digest has been used before: nonce-count replay")
# The digest fits, and whoever sends it may answer a new nonce.
USED_ONCE = Refused(
    Refusal.INVALID_PASSWORD, "this nonce has been used: without a nonce count it is good for once"
)
_REGISTERS = Refused(Refusal.INVALID_PASSWORD, "the digest of a REGISTER sets up no call")
_NEEDED = ("realm", "nonce", "method", "uri", "response")
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


def prove(
    digest: Digest, profile: Profile, request: Authorize | Authenticate, ledger: Ledger
) -> Refused | None:
    """None when the digest lets `profile` in for `request`; its nonce count is then used up."""
    key = nonce_key(digest)
    before = ledger.nonces.get(key)
    use = use_of(digest, request)
    count = check_digest(digest, profile, request.origin, before, request.at, use)
    if isinstance(count, Refused):
        return count
    if isinstance(request, Authorize) and dict(digest.fields)["method"].upper() == "REGISTER":
        return _REGISTERS
    if count and (before is None or count > before.last_count):
        ledger.nonces[key] = Nonce(profile.account_id, count, use, request.at, changed=True)
    return None


def use_of(digest: Digest, request: Authorize | Authenticate) -> str:
    """What is remembered of a digest: the response, and what it was used for.

    Who has overheard one reaches no other number with it, under no other key, and
    registers no other caller's number.
    """
    said = [dict(digest.fields).get("response", "").lower()]
    if isinstance(request, Authorize):
        said += ["call", str(request.client_id), request.session_key]
        said += [request.called, request.origin.did]
    elif request.register:
        said += ["register", request.origin.ani]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()


def with_proof(
    digest: Digest, answer: Granted | Known | Refused, ledger: Ledger
) -> Granted | Known | Refused:
    """The answer, with the proof that a digest asks for in turn where it is a yes."""
    if isinstance(answer, Refused):
        return answer
    for account in ledger.accounts.values():
        if account.profile.code == answer.account_code:
            return replace(answer, digest=reply_to(digest, account.profile))
    return answer


def check_digest(
    digest: Digest,
    profile: Profile,
    origin: Origin,
    before: Nonce | None,
    at: datetime,
    use: str = "",
) -> int | Refused:
    """The nonce count that is used up when `digest` lets the account in; 0 where it has none.

    `before` is what is remembered under `nonce_key`, `use` is `use_of` the digest. Without
    qop it has no nonce count: a nonce of ours is then used up as by the count 1, and only
    whoever made another can tell how old it is.
    """
    fields = dict(digest.fields)
    problem = _problem(fields)
    if problem:
        return Refused(Refusal.INVALID_ARGUMENT, problem)
    fits = _fits(digest, profile)
    if not is_users(digest.username, profile, origin) or not fits:
        return _WRONG
    counted = bool(fields.get("qop"))
    count = int(fields["nc"], 16) if counted else int(digest.nonce_is_ours)
    if count and before is not None and count <= before.last_count:
        repeated = (
            count == before.last_count
            and before.last_response == use
            and at - before.seen_at <= timedelta(seconds=REPEAT_SECONDS)
        )
        if not repeated:
            return _SEEN if counted else USED_ONCE
    return count


def reply_to(digest: Digest, profile: Profile) -> DigestReply | None:
    """What the server proves to the caller in turn (RFC 2617 §3.2.3, RFC 5090 §3.4, §3.19).

    None unless the digest fits. Of auth-int only who has the answer's body can make the
    proof: it needs H(A1), which is told of a session alone, since another is good for ever.
    """
    fields = dict(digest.fields)
    if _problem(fields) or not _fits(digest, profile):
        return None
    ha1 = _ha1(digest.username, profile.password or b"", fields)
    if fields.get("qop") == "auth-int":
        return DigestReply("", ha1 if _is_session(fields) else "")
    return DigestReply(_response(ha1, f":{fields['uri']}", fields), "")


def nonce_key(digest: Digest) -> bytes:
    """Under what the nonce is remembered: one user's use of it says nothing of another's."""
    fields = dict(digest.fields)
    said = "\0".join((digest.username, fields.get("realm", ""), fields.get("nonce", "")))
    return hashlib.sha256(said.encode()).digest()[:NONCE_HASH_OCTETS]


def is_users(username: str, profile: Profile, origin: Origin) -> bool:
    """Whether a digest's user name is the account's: its code, extension or user@domain.

    A domain may only be another than the request's where that names none.
    """
    if username == profile.code:
        return True
    user, _, domain = username.partition("@")
    given, _, given_domain = origin.account_code.partition("@")
    domains = [name for name in (given_domain, origin.domain) if name]
    if domain and domains and domain not in domains:
        return False
    return bool(user) and user in (profile.code, origin.extension, given)


def _problem(fields: dict[str, str]) -> str:
    """What keeps the digest from being checked, in words; '' for nothing."""
    for name in _NEEDED:
        if not fields.get(name):
            return f"the digest has no {name}"
    algorithm = fields.get("algorithm", "")
    if algorithm.lower().removesuffix("-sess") not in _HASHES:
        return f"digest algorithm {algorithm[:32]} is not supported: MD5, SHA-256 or their -sess"
    qop = fields.get("qop", "")
    if qop not in ("", "auth", "auth-int"):
        return f"digest qop {qop[:32]} is not supported: auth or auth-int"
    if qop and not _is_count(fields.get("nc", "")):
        return "the digest's nonce count is not eight hexadecimal digits above 0"
    if (qop or _is_session(fields)) and not fields.get("cnonce"):
        return "the digest has no cnonce"
    if qop == "auth-int" and not fields.get("body-hash"):
        return "the digest is auth-int and has no Digest-Entity-Body-Hash"
    return ""


def _is_count(said: str) -> bool:
    """Eight hexadecimal digits, and not zero (RFC 2617 §3.2.2: LHEX)."""
    return len(said) == 8 and set(said) <= _HEXADECIMAL and int(said, 16) > 0


def _fits(digest: Digest, profile: Profile) -> bool:
    """Whether the response is by the account's password; no sooner known without one."""
    fields = dict(digest.fields)
    ha1 = _ha1(digest.username, profile.password or b"", fields)
    a2 = f"{fields['method']}:{fields['uri']}"
    if fields.get("qop") == "auth-int":
        a2 = f"{a2}:{fields['body-hash'].lower()}"
    expected = _response(ha1, a2, fields).encode()
    same = hmac.compare_digest(expected, fields["response"].lower().encode())
    return same and profile.password is not None


def _is_session(fields: dict[str, str]) -> bool:
    return fields.get("algorithm", "").lower().endswith("-sess")


def _ha1(username: str, password: bytes, fields: dict[str, str]) -> str:
    """H(A1), RFC 2617 §3.2.2.2; of a -sess algorithm that of the session."""
    ha1 = _hashed(b"%s:%s:%s" % (username.encode(), fields["realm"].encode(), password), fields)
    if _is_session(fields):
        ha1 = _hashed(f"{ha1}:{fields['nonce']}:{fields['cnonce']}".encode(), fields)
    return ha1


def _response(ha1: str, a2: str, fields: dict[str, str]) -> str:
    """The digest over `a2`, RFC 2617 §3.2.2.1; without qop as RFC 2069 had it."""
    parts = [ha1, fields["nonce"]]
    qop = fields.get("qop", "")
    if qop:
        parts += [fields["nc"], fields["cnonce"], qop]
    parts.append(_hashed(a2.encode(), fields))
    return _hashed(":".join(parts).encode(), fields)


def _hashed(octets: bytes, fields: dict[str, str]) -> str:
    return _HASHES[fields.get("algorithm", "").lower().removesuffix("-sess")](octets)


def _md5(octets: bytes) -> str:
    return hashlib.md5(octets, usedforsecurity=False).hexdigest()


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


# By the algorithm's name without -sess; where none is named it is MD5.
_HASHES = {"": _md5, "md5": _md5, "sha-256": _sha256}
