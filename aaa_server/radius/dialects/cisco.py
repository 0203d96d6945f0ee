"""Cisco gateways and what talks like them: Quintum, most session border controllers.

A call is two legs, `answer` (the customer's) and `originate` (the provider's); the client
row says which one is billed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.radius import attribute
from aaa_server.radius.dialects import reply
from aaa_server.radius.dialects.rfc import Rfc
from aaa_server.radius.value import bare, pairs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aaa_server.charging.requests import Granted
    from aaa_server.radius.client import Client
    from aaa_server.radius.packet import Packet


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

    def skips(self, status: str, values: Mapping[int, bytes], client: Client) -> bool:
        if client.bill_leg == "any" or status in ("on", "off"):
            return False
        leg = bare(values, attribute.H323_CALL_ORIGIN, "h323-call-origin=")
        return leg in ("answer", "originate") and leg != client.bill_leg
