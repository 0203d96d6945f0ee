"""Sippy B2BUA and PortaBilling's way: Cisco's words, digest by either numbering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.radius.dialects.cisco import Cisco
from aaa_server.radius.dialects.credential import either_digest

if TYPE_CHECKING:
    from aaa_server.radius.dialects.credential import DigestReader


class Sippy(Cisco):
    """As Cisco; the two differ in digest."""

    digest_of: DigestReader = staticmethod(either_digest)
