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

# What else a NAS may hand on. It would prove nothing here, so it must not seem to.
_NOT_TAKEN = (
    (attribute.EAP_MESSAGE, "EAP"),
    (attribute.MS_CHAP_RESPONSE, "MS-CHAP"),
    (attribute.MS_CHAP2_RESPONSE, "MS-CHAP"),
)


def credential_of(
    fresh: Fresh, values: Mapping[int, bytes], digest_of: DigestReader
) -> tuple[Credential | None, str]:
    """The credential, or why what came is none; (None, '') when nothing came.

    An empty User-Password and `-`, which FreeSWITCH sends for no PIN, are no password.
    """
    packet = fresh.packet
    for key, method in _NOT_TAKEN:
        if key in values:
            return None, f"{method} is not supported: PAP, CHAP or a digest"
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
    attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]
) -> Digest | None:
    """The digest in attributes 103 to 116 and, as FreeRADIUS mixes them, in 206 and 207.

    None without a response.
    """
    response = values.get(attribute.DIGEST_RESPONSE)
    if response is None:
        response = values.get(attribute.STERMAN_DIGEST_RESPONSE)
        if response is None:
            return None
    return _digest(text(response), rfc5090_fields(attributes, values), values)


def sterman_digest(
    attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]
) -> Digest | None:
    """The digest in attributes 206 and 207; None without 206."""
    response = values.get(attribute.STERMAN_DIGEST_RESPONSE)
    if response is None:
        return None
    return _digest(text(response), sterman_fields(attributes), values)


def rfc5090_fields(
    attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]
) -> list[tuple[str, str]]:
    """What is said of a digest, by either numbering; RFC 5090's comes first."""
    fields = [(name, text(values[key])) for key, name in _RFC5090 if key in values]
    if attribute.STERMAN_DIGEST_ATTRIBUTES in values:
        named = {name for name, _ in fields}
        fields += [pair for pair in sterman_fields(attributes) if pair[0] not in named]
    return fields


def sterman_fields(attributes: list[tuple[int, bytes]]) -> list[tuple[str, str]]:
    """What attributes 207 say: each holds one or several; what does not fit is left out."""
    fields = []
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
    return fields


def asks_for_nonce(attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]) -> bool:
    """Whether a client that has no nonce asks for one (RFC 5090 §2.1.2)."""
    if attribute.DIGEST_METHOD not in values and attribute.STERMAN_DIGEST_ATTRIBUTES not in values:
        return False
    if attribute.DIGEST_RESPONSE in values or attribute.STERMAN_DIGEST_RESPONSE in values:
        return False
    fields = dict(rfc5090_fields(attributes, values))
    return "method" in fields and "uri" in fields


def realm_of(attributes: list[tuple[int, bytes]], values: Mapping[int, bytes]) -> str:
    """The realm of a challenge: what the client names, else the host of the best address."""
    fields = dict(rfc5090_fields(attributes, values))
    if fields.get("realm"):
        return fields["realm"]
    user, aor = values.get(attribute.USER_NAME), values.get(attribute.SIP_AOR)
    for said in (text(user), text(aor), fields.get("uri", "")):
        host = said.partition("@")[2].partition(";")[0].partition(":")[0]
        if host:
            return host
    return ""


def _digest(response: str, said: list[tuple[str, str]], values: Mapping[int, bytes]) -> Digest:
    fields = [("response", response), *said]
    username = dict(fields).get("username") or text(values.get(attribute.USER_NAME))
    return Digest(username, tuple(fields))
