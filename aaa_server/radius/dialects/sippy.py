"""Sippy B2BUA and PortaBilling's way: Cisco's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.requests import Pap
from aaa_server.radius.dialects.cisco import Cisco

if TYPE_CHECKING:
    from aaa_server.radius.call import AccessCall
    from aaa_server.radius.receive import Fresh

# What is sent as the password of a caller who is known by his address.
FIXED_PASSWORD = Pap(b"cisco")


class Sippy(Cisco):
    """As Cisco; a caller is known by digest or by address."""

    challenges = False  # the B2BUA makes its nonces
    proves = False

    def access(self, fresh: Fresh) -> AccessCall:
        call = super().access(fresh)
        if call.credential == FIXED_PASSWORD and call.trusted:
            return call._replace(credential=None)
        return call
