"""The dialects by the client's `type`. A new one is a module in dialects/ and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.radius.call import AccessCall, AccountingCall, Dialect
from aaa_server.radius.dialects.cisco import Cisco
from aaa_server.radius.dialects.freeswitch import Freeswitch
from aaa_server.radius.dialects.kamailio import Kamailio
from aaa_server.radius.dialects.rfc import Rfc
from aaa_server.radius.dialects.sippy import Sippy

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DIALECTS", "AccessCall", "AccountingCall", "Dialect"]

DIALECTS: Mapping[str, Dialect] = {
    "freeswitch": Freeswitch(),
    "rfc": Rfc(),
    "cisco": Cisco(),
    "kamailio": Kamailio(),
    "sippy": Sippy(),
}
