"""Kamailio and OpenSIPS: acc_radius, auth_radius, misc_radius.

Acct-Session-Id is the SIP Call-ID, and no packet has a duration: Stop − Start it is.
Their 101 to 109 are SIP things, not the digest of RFC 5090.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.radius import attribute
from aaa_server.radius.dialects.credential import sterman_digest
from aaa_server.radius.dialects.rfc import Rfc, origin_of
from aaa_server.radius.value import integer, text, token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from aaa_server.charging.requests import Origin
    from aaa_server.radius.call import AccessCall, AccountingCall
    from aaa_server.radius.dialects.credential import DigestReader
    from aaa_server.radius.receive import Fresh


CANCEL = 2  # of Sip-Method


class Kamailio(Rfc):
    """SIP proxies: they have checked the caller, or ask for a digest to be checked."""

    digest_of: DigestReader = staticmethod(sterman_digest)
    challenges = False  # the proxy makes its nonces, and 108 is not Digest-Method here
    proves = False

    def trusted(self, _values: Mapping[int, bytes]) -> bool:
        """The proxy's script decides whom to ask for."""
        return True

    def access(self, fresh: Fresh) -> AccessCall:
        call = super().access(fresh)
        return call if call.sip_call_id else call._replace(sip_call_id=sip_session(fresh))

    def account(self, fresh: Fresh, now: datetime) -> AccountingCall:
        call = super().account(fresh, now)
        if call.status == "stop" and sip_method(fresh) == CANCEL:
            # Nobody had answered: there is no talk between a Start and this.
            call = call._replace(duration_ms=0)
        return call if call.sip_call_id else call._replace(sip_call_id=sip_session(fresh))

    def origin(self, values: Mapping[int, bytes], pairs: Mapping[str, str], fresh: Fresh) -> Origin:
        return origin_of(
            user=text(values.get(attribute.USER_NAME)),
            calling=text(values.get(attribute.CALLING_STATION_ID)),
            remote=text(values.get(attribute.SIP_SRC_IP)),
            pairs=pairs,
            source=fresh.source[0],
        )

    def cause(self, values: Mapping[int, bytes], pairs: Mapping[str, str]) -> str:
        code = integer(values.get(attribute.SIP_RESPONSE_CODE))
        return super().cause(values, pairs) if code is None else f"SIP {code}"


def sip_method(fresh: Fresh) -> int | None:
    """Kamailio's number of the method that the transaction was of."""
    for key, value in fresh.packet.attributes:
        if key == attribute.SIP_METHOD:
            return integer(value)
    return None


def sip_session(fresh: Fresh) -> str:
    """Acct-Session-Id, which here is the Call-ID."""
    for key, value in fresh.packet.attributes:
        if key == attribute.ACCT_SESSION_ID:
            return token(value)
    return ""
