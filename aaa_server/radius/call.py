"""What a dialect makes of a packet: the call behind an Access- or Accounting-Request."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aaa_server.charging.requests import Credential, Origin

if TYPE_CHECKING:
    from aaa_server.charging.requests import Granted, Known, Noted, Refused, Settled
    from aaa_server.radius.client import Client
    from aaa_server.radius.receive import Fresh


class AccessCall(NamedTuple):
    """What an Access-Request asks.

    `service`: call (authorise a call), authenticate (who is it, what is there to spend),
    reauthorize (more time), end (call N of this channel is over, settle it), challenge (a
    nonce for a digest in `realm`).
    `problem`, where not '', says why the request is refused whatever the account.
    """

    service: str
    session_key: str
    origin: Origin
    called: str
    credential: Credential | None
    # The switch has authenticated the caller, so no credential is needed.
    trusted: bool
    nas_address: str
    sip_call_id: str = ""
    wanted_route: str = ""  # "RG_21"
    problem: str = ""
    # Of a reauthorize: the number of the question, and the talk so far; None: not said.
    step: int | None = None
    elapsed_seconds: int | None = None
    # Of an end.
    duration_ms: int | None = None
    route: str = ""
    cause: str = ""
    # Of a call: "", did or card; of an authenticate: "", query, card or register.
    mode: str = ""
    did: str = ""  # the number of ours that is called: of a mode did, or a card's access number
    realm: str = ""  # what a challenge is to name


class AccountingCall(NamedTuple):
    """What an Accounting-Request reports.

    `status`: start, interim, stop, failed, on, off; '' for one that is nothing to us.
    `session_key` '' when the packet names no session at all. `duration_ms` None: not said,
    Stop − Start decides. `unauthorized` False: forget the call unless it was authorised.
    `skip`: the leg that is not billed; acknowledge and do nothing. `attempt`: a leg by which
    the call was to get through; one that did not is followed by another. `other_key`: what the
    call may be known by instead of `session_key`; '' for nothing.
    """

    status: str
    session_key: str
    origin: Origin
    called: str
    event_at: datetime
    nas_address: str
    sip_call_id: str = ""
    duration_ms: int | None = None
    route: str = ""
    cause: str = ""
    unauthorized: bool = True
    skip: bool = False
    attempt: bool = False
    other_key: str = ""


class Dialect(Protocol):
    """One kind of switch: how it says things, and what it understands."""

    def access(self, fresh: Fresh) -> AccessCall:
        """What the Access-Request asks. Never raises."""

    def account(self, fresh: Fresh, now: datetime) -> AccountingCall:
        """What the Accounting-Request reports; `now` is its arrival, aware. Never raises."""

    def access_reply(
        self, answer: Granted | Known | Refused | Settled | Noted, call: AccessCall, client: Client
    ) -> tuple[int, list[tuple[int, bytes]]]:
        """The code and attributes that tell `answer`; Proxy-State and signatures come later."""
