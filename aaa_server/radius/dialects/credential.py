"""How a caller proves who it is: PAP, CHAP, and SIP digest by both numberings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.requests import Chap, Digest, Pap
from aaa_server.radius import attribute
from aaa_server.radius.value import text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aaa_server.charging.requests import Credential
    from aaa_server.radius.receive import Fresh

    DigestReader = Callable[[list[tuple[int, bytes]], Mapping[int, bytes]], Digest | None]

# RFC 5090 §3, by the names of RFC 2617.
_RFC5090 = (
    (attribute.DIGEST_REALM, "realm"),
    (attribute.DIGEST_NONCE, "nonce"),
    (attribute.DIGEST_METHOD, "method"),
    (attribute.DIGEST_URI, "uri"),
    (attribute.DIGEST_QOP, "qop"),
    (attribute.DIGEST_ALGORITHM, "algorithm"),
    (attribute.DIGEST_ENTITY_BODY_HASH, "body-hash"),
    (attribute.DIGEST_CNONCE, "cnonce"),
    (attribute.DIGEST_NONCE_COUNT, "nc"),
    (attribute.DIGEST_USERNAME, "username"),
    (attribute.DIGEST_OPAQUE, "opaque"),
)
# draft-sterman-aaa-sip-00 §3.2: sub-attributes of Digest-Attributes.
_STERMAN = {
    1: "realm",
    2: "nonce",
    3: "method",
    4: "uri",
    5: "qop",
    6: "algorithm",
    7: "body-hash",
    8: "cnonce",
    9: "nc",
    10: "username",
}


def credential_of(
    fresh: Fresh, values: Mapping[int, bytes], digest_of: DigestReader
) -> tuple[Credential | None, str]:
    """The credential, or why what came is none; (None, '') when nothing came.

    An empty User-Password and `-`, which FreeSWITCH sends for no PIN, are no password.
    """
    packet = fresh.packet
    password: Pap | None = None
    hidden = values.get(attribute.USER_PASSWORD)
    if hidden:
        plain = fresh.secret.reveal(hidden, packet.authenticator)
        if plain and plain != b"-":
            password = Pap(plain)
    digest = digest_of(packet.attributes, values)
    chap = values.get(attribute.CHAP_PASSWORD)
    if chap is None:
        if digest is None:
            return password, ""
        if password is None:
            return digest, ""
        return None, "both a password and a digest"
    if password is not None:
        return None, "both User-Password and CHAP-Password"
    if digest is not None:
        return None, "both CHAP-Password and a digest"
    if len(chap) != 17:
        return None, f"CHAP-Password has {len(chap)} octets, not 17"
    challenge = values.get(attribute.CHAP_CHALLENGE) or packet.authenticator
    return Chap(chap[0], chap[1:], challenge), ""


def rfc5090_digest(
    _attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]
) -> Digest | None:
    """The digest in attributes 103 to 116; None without Digest-Response."""
    response = values.get(attribute.DIGEST_RESPONSE)
    if response is None:
        return None
    fields = [("response", text(response))]
    fields.extend((name, text(values[key])) for key, name in _RFC5090 if key in values)
    return _digest(fields, values)


def sterman_digest(
    attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]
) -> Digest | None:
    """The digest in attributes 206 and 207; None without 206.

    A 207 holds one or several sub-attributes; what does not fit in it is left out.
    """
    response = values.get(attribute.STERMAN_DIGEST_RESPONSE)
    if response is None:
        return None
    fields = [("response", text(response))]
    for key, value in attributes:
        if key != attribute.STERMAN_DIGEST_ATTRIBUTES:
            continue
        at = 0
        while at + 2 <= len(value) and value[at + 1] >= 2:
            end = at + value[at + 1]
            name = _STERMAN.get(value[at])
            if name is not None and end <= len(value):
                fields.append((name, text(value[at + 2 : end])))
            at = end
    return _digest(fields, values)


def either_digest(
    attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]
) -> Digest | None:
    """The digest by RFC 5090 or, without one, by draft-sterman."""
    return rfc5090_digest(attributes, values) or sterman_digest(attributes, values)


def _digest(fields: list[tuple[str, str]], values: Mapping[int, bytes]) -> Digest:
    username = dict(fields).get("username") or text(values.get(attribute.USER_NAME))
    return Digest(username, tuple(fields))
