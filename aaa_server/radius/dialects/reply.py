"""Answers as attributes: Accept and Reject in the words of h323 VSAs.

Two forms of them: Cisco's repeats the name in the value (`h323-credit-time=120`), the
bare one does not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from aaa_server.charging.requests import Refusal
from aaa_server.radius import attribute
from aaa_server.radius.packet import VALUE_OCTETS_MAX, VSA_VALUE_OCTETS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aaa_server.charging.requests import DigestReply, Granted, Refused, RouteOffer, Yes
    from aaa_server.radius.client import Client

    Attributes = list[tuple[int, bytes]]

CLASS_PREFIX = b"sky-aaa:"
ROUTE_EXPIRES_SECONDS = 60  # a route that has not answered by then is given up for the next
# Of a packet's 4096: the rest is for the other attributes and for Proxy-State.
ROUTINGS_OCTETS_MAX = 2400
REQUEST_MORE = (1).to_bytes(4, "big")  # RADIUS-Request, RFC 2865 §5.29

RETURN_CODES: dict[Refusal, int] = {
    Refusal.INVALID_ACCOUNT: 1,
    Refusal.INVALID_PASSWORD: 2,
    Refusal.IN_USE: 3,
    Refusal.NO_CREDIT: 4,
    Refusal.EXPIRED: 5,
    Refusal.CREDIT_LIMIT: 6,
    Refusal.SUSPENDED: 7,
    Refusal.VELOCITY: 7,
    Refusal.NO_ROUTE: 8,
    Refusal.BLOCKED: 9,
    Refusal.RETRIES: 10,
    Refusal.INVALID_ARGUMENT: 11,
    Refusal.NOT_ENOUGH: 12,
    Refusal.NO_RATE: 17,
}

# The status with which a switch refuses the caller for it.
SIP_STATUSES: dict[Refusal, int] = {
    Refusal.INVALID_ACCOUNT: 403,
    Refusal.INVALID_PASSWORD: 403,
    Refusal.IN_USE: 503,
    Refusal.NO_CREDIT: 402,
    Refusal.EXPIRED: 403,
    Refusal.CREDIT_LIMIT: 402,
    Refusal.SUSPENDED: 403,
    Refusal.VELOCITY: 403,
    Refusal.NO_ROUTE: 503,
    Refusal.BLOCKED: 403,
    Refusal.RETRIES: 403,
    Refusal.INVALID_ARGUMENT: 484,
    Refusal.NOT_ENOUGH: 402,
    Refusal.NO_RATE: 404,
}

_RETURN_CODE = (attribute.H323_RETURN_CODE, "h323-return-code")
_CREDIT_AMOUNT = (attribute.H323_CREDIT_AMOUNT, "h323-credit-amount")


def named(key_and_name: tuple[int, str], value: object, *, cisco_form: bool) -> tuple[int, bytes]:
    """One h323 attribute in either form."""
    key, name = key_and_name
    return key, (f"{name}={value}" if cisco_form else str(value)).encode()


def whose(answer: Yes, *, cisco_form: bool) -> Attributes:
    """What every Accept says of the account: balance, currency, language, code, rule."""
    attributes = [named(_CREDIT_AMOUNT, amount(answer.available_micros), cisco_form=cisco_form)]
    if answer.account_code:  # an emergency call may be nobody's
        attributes.append((attribute.CHARGEABLE_USER_IDENTITY, cut(answer.account_code)))
    attributes += _fixed(
        answer.currency, answer.language, answer.prepaid, answer.found_by, cisco_form
    )
    return attributes


@lru_cache(maxsize=1024)
def _fixed(
    currency: str, language: str, prepaid: bool, found_by: str, cisco_form: bool
) -> tuple[tuple[int, bytes], ...]:
    attributes = [
        named(_RETURN_CODE, 0, cisco_form=cisco_form),
        named((attribute.H323_CURRENCY, "h323-currency"), currency, cisco_form=cisco_form),
        named(
            (attribute.H323_BILLING_MODEL, "h323-billing-model"),
            int(prepaid),
            cisco_form=cisco_form,
        ),
    ]
    if found_by:
        attributes.append((attribute.FILTER_ID, cut(found_by)))
    if language:
        attributes.append(
            named(
                (attribute.H323_PREFERRED_LANG, "h323-preferred-lang"),
                language,
                cisco_form=cisco_form,
            )
        )
    return tuple(attributes)


def granted(answer: Granted, session_key: str, *, cisco_form: bool) -> Attributes:
    """Time, money and the call's Class; without routes.

    Session-Timeout is of this slice, h323-credit-time of all that can be paid.
    """
    credit = answer.credit_seconds
    attributes = [
        (attribute.SESSION_TIMEOUT, answer.seconds.to_bytes(4, "big")),
        (
            attribute.H323_CREDIT_TIME,
            b"h323-credit-time=%d" % credit if cisco_form else b"%d" % credit,
        ),
    ]
    token = CLASS_PREFIX + session_key.encode()
    if len(token) <= VALUE_OCTETS_MAX:
        attributes.append((attribute.CLASS, token))
    attributes += whose(answer, cisco_form=cisco_form)
    return attributes


def refused(answer: Refused, client: Client, *, cisco_form: bool) -> Attributes:
    """The reason as h323-return-code, by the client's own map where it has one, and as text."""
    code = client.return_codes.get(answer.reason.value, RETURN_CODES[answer.reason])
    return [
        named(_RETURN_CODE, code, cisco_form=cisco_form),
        (attribute.REPLY_MESSAGE, cut(answer.text)),
    ]


def done(*, cisco_form: bool) -> Attributes:
    """Return code 0 and nothing else."""
    return [named(_RETURN_CODE, 0, cisco_form=cisco_form)]


def routes(offers: Iterable[RouteOffer]) -> Attributes:
    """All routes in one Cisco-AVPair, in trial order; what does not fit is left off the end.

    FreeSWITCH keeps only the last of a repeated attribute, so there is never a second one.
    """
    said = b"h323-ivr-in=ROUTES:"
    first = True
    for offer in offers:
        one = f"{offer.name}={offer.dial}".encode()
        longer = said + one if first else said + b"|" + one
        if len(longer) > VSA_VALUE_OCTETS_MAX:
            break
        said, first = longer, False
    return [] if first else [(attribute.CISCO_AVPAIR, said)]


def routings(answer: Granted) -> Attributes:
    """Each route in a Cisco-AVPair of its own, in trial order, as Sippy's B2BUA reads them.

    `Routing:cld@host;credit-time=…;expires=…`: how long the call may last, and how long it
    may ring before the next route is tried. A route whose dial string names no host is left
    out, and so is all that a packet has no room for.
    """
    attributes = []
    room = ROUTINGS_OCTETS_MAX
    for offer in answer.routes:
        where = sip_address(offer.dial)
        if not where:
            continue
        said = (
            f"h323-ivr-in=Routing:{where};credit-time={answer.seconds}"
            f";expires={ROUTE_EXPIRES_SECONDS}"
        ).encode()
        room -= len(said) + 8
        if room < 0:
            break
        if len(said) <= VSA_VALUE_OCTETS_MAX:
            attributes.append((attribute.CISCO_AVPAIR, said))
    return attributes


def sip_address(dial: str) -> str:
    """`4420@acme` for `acme/4420`, `sofia/gateway/acme/4420` and `sofia/external/sip:4420@acme`.

    '' when there is no host in it.
    """
    path, _, last = dial.rpartition("/")
    last = last.removeprefix("sip:").removeprefix("sips:")
    if "@" in last:
        return last
    host = path.rpartition("/")[2]
    return f"{last}@{host}" if host and last else ""


def challenge(realm: str, nonce: str, *, stale: bool) -> Attributes:
    """What asks for a digest (RFC 5090 §2.2.2). `stale`: the nonce was too old, nothing else."""
    attributes = [
        (attribute.DIGEST_NONCE, nonce.encode()),
        (attribute.DIGEST_REALM, cut(realm)),
        (attribute.DIGEST_QOP, b"auth"),
        (attribute.DIGEST_ALGORITHM, b"MD5"),
    ]
    if stale:
        attributes.append((attribute.DIGEST_STALE, b"true"))
    return attributes


def proof(digest: DigestReply | None) -> Attributes:
    """The server's answer to a digest that fits (RFC 5090 §3.4, §3.19)."""
    if digest is None:
        return []
    if digest.response_auth:
        return [(attribute.DIGEST_RESPONSE_AUTH, digest.response_auth.encode())]
    return [(attribute.DIGEST_HA1, digest.ha1.encode())] if digest.ha1 else []


def amount(micros: int) -> str:
    """An amount with two decimals, cut towards zero: nobody is told of money that is not there."""
    whole, rest = divmod(abs(micros), 1_000_000)
    sign = "-" if micros <= -10_000 else ""
    return f"{sign}{whole}.{rest // 10_000:02}"


def cut(said: str) -> bytes:
    """As much of the text as an attribute holds, in whole characters."""
    octets = said.encode()
    if len(octets) <= VALUE_OCTETS_MAX:
        return octets
    return octets[:VALUE_OCTETS_MAX].decode("utf-8", "ignore").encode()
