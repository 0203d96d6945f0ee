"""Cisco gateways and what talks like them: Quintum, most session border controllers.

A call is two legs, `answer` (the customer's) and `originate` (the provider's); the client
row says which one is billed. Each leg has an Acct-Session-Id of its own, and so has the
Access-Request: h323-conf-id is what they share, and the call's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.radius import attribute
from aaa_server.radius.dialects import reply
from aaa_server.radius.dialects.rfc import Rfc, class_key, conf_id, conference
from aaa_server.radius.value import bare, pairs_of, token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from aaa_server.charging.requests import Granted
    from aaa_server.radius.call import AccessCall, AccountingCall
    from aaa_server.radius.client import Client
    from aaa_server.radius.packet import Packet
    from aaa_server.radius.receive import Fresh


class Cisco(Rfc):
    """h323 attributes with their names in the values; Quintum's are read as Cisco's."""

    cisco_form = True

    def routes(self, answer: Granted) -> list[tuple[int, bytes]]:
        """An attribute a route: these clients take a repeated one for a list."""
        return reply.routings(answer)

    def trusted(self, _values: Mapping[int, bytes]) -> bool:
        """A gateway asks only for callers that it knows."""
        return True

    def read(self, packet: Packet) -> tuple[dict[int, bytes], dict[str, str]]:
        values, pairs = super().read(packet)
        if values and max(values) >= attribute.QUINTUM:
            for key, value in packet.attributes:
                if key & ~255 == attribute.QUINTUM:
                    values.setdefault(key - attribute.QUINTUM + attribute.CISCO, value)
            quintum = pairs_of(packet.attributes, attribute.QUINTUM + 1)
            pairs = quintum | pairs
        return values, pairs

    def access(self, fresh: Fresh) -> AccessCall:
        call = super().access(fresh)
        return call._replace(sip_call_id=call.sip_call_id or _other_name(call, fresh))

    def account(self, fresh: Fresh, now: datetime) -> AccountingCall:
        call = super().account(fresh, now)
        other = _other_name(call, fresh)
        return call._replace(sip_call_id=call.sip_call_id or other, other_key=other)

    def session_of(self, values: Mapping[int, bytes]) -> str:
        return conf_id(values) or token(values.get(attribute.ACCT_SESSION_ID))

    def accounting_key(self, packet: Packet, values: Mapping[int, bytes], sip_call_id: str) -> str:
        """The key that our Class names is what the call was authorised as.

        But for one that names another conference: that is of another call, since an
        Access-Request of this one would have named its own.
        """
        shared = conf_id(values)
        key = class_key(packet)
        if key and not (shared and key.count(" ") == 3 and key == conference(key)):
            return key
        return shared or self.session_of(values) or sip_call_id

    def is_attempt(self, values: Mapping[int, bytes]) -> bool:
        return bare(values, attribute.H323_CALL_ORIGIN, "h323-call-origin=") == "originate"

    def skips(self, status: str, values: Mapping[int, bytes], client: Client) -> bool:
        if client.bill_leg == "any" or status in ("on", "off"):
            return False
        leg = bare(values, attribute.H323_CALL_ORIGIN, "h323-call-origin=")
        return leg in ("answer", "originate") and leg != client.bill_leg


def _other_name(call: AccessCall | AccountingCall, fresh: Fresh) -> str:
    """What the switch calls it besides its key."""
    session = token(dict(reversed(fresh.packet.attributes)).get(attribute.ACCT_SESSION_ID))
    return session if session != call.session_key else ""
