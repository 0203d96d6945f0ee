"""What the charging core is asked, and what it answers: no protocol's words in here.

They are not changed once they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol


class Pap(NamedTuple):
    """A password or card PIN as it was typed (RFC 2865 §5.2)."""

    password: bytes


class Chap(NamedTuple):
    """A CHAP response: MD5(identifier, password, challenge) (RFC 2865 §5.3, RFC 1994)."""

    identifier: int
    response: bytes
    challenge: bytes


class Digest(NamedTuple):
    """A SIP digest response (RFC 5090); `fields` holds realm, nonce, uri … by lower-case name.

    `nonce_is_ours`: the server made the nonce, and nobody else counts how often it is used.
    """

    username: str
    fields: tuple[tuple[str, str], ...]
    nonce_is_ours: bool = False


Credential = Pap | Chap | Digest


class Origin(NamedTuple):
    """All that a message says about whose call it is; '' and 0 where it says nothing.

    `did` is the number that was called from outside: whoever it is assigned to pays.
    """

    account_code: str = ""
    extension: str = ""
    domain: str = ""
    ani: str = ""
    resource_group: str = ""  # "RG_11"
    address: str = ""  # the SIP peer's, else the datagram's source
    port: int = 0
    did: str = ""


class Authorize(NamedTuple):
    """May this call be set up, for how long, over which routes, who pays? Reserves the money.

    `session_key` is the call's key within the client row. `called` is digits, `*` and `#`;
    '' when what came is no number. `slice_seconds` 0: no slices. `trusted`: the switch has
    authenticated the caller, no credential is needed. `access_number` is the one that a
    calling card is used over: its surcharge is added.
    """

    client_id: int
    session_key: str
    at: datetime
    origin: Origin
    called: str
    credential: Credential | None = None
    trusted: bool = True
    wanted_route: str = ""  # "RG_21": only this outbound resource group
    slice_seconds: int = 0
    maximum_seconds: int = 7200
    nas_address: str | None = None
    sip_call_id: str = ""
    access_number: str = ""


class Reauthorize(NamedTuple):
    """More time for a running call that has talked `elapsed_seconds`.

    None: nobody said, so all the time since it was authorised counts.
    `step` numbers the question where the protocol has a number; None where it has none.
    """

    client_id: int
    session_key: str
    at: datetime
    elapsed_seconds: int | None
    step: int | None = None
    slice_seconds: int = 0
    maximum_seconds: int = 7200


class Authenticate(NamedTuple):
    """Is this who it says it is, and what is there to spend? No call, no reservation.

    `register`: from now on calls of the origin's ANI are this account's, when it is a card.
    """

    at: datetime
    origin: Origin
    credential: Credential | None
    trusted: bool = False
    register: bool = False
    client_id: int = 0  # whose rules rewrite the caller's number; 0: everybody's alone


class Start(NamedTuple):
    """The switch has begun the call, at `switch_at` by its own clock (None: `at`). No money moves.

    `unauthorized` False: a call that was never authorised is acknowledged and forgotten.
    """

    client_id: int
    session_key: str
    at: datetime
    origin: Origin
    called: str
    unauthorized: bool = True
    nas_address: str | None = None
    sip_call_id: str = ""
    switch_at: datetime | None = None


class Update(NamedTuple):
    """The call still runs and has talked `seconds`, at `switch_at` by the switch's clock."""

    client_id: int
    session_key: str
    at: datetime
    seconds: int
    origin: Origin
    called: str
    unauthorized: bool = True
    nas_address: str | None = None
    sip_call_id: str = ""
    switch_at: datetime | None = None


class Stop(NamedTuple):
    """The call has ended after `duration_ms` of talk; None: Stop minus Start decides.

    `route` names the resource group that answered ("RG_21") or is its dial string.
    `ended_by` is a value of cdr.ended_by. `switch_at` is when it ended by the switch's own
    clock (None: `at`), which measures the call, and dates nothing. `attempt`: of one of the
    legs by which the call was to get through; when that did not, another one may yet.
    """

    client_id: int
    session_key: str
    at: datetime
    duration_ms: int | None
    origin: Origin
    called: str
    unauthorized: bool = True
    route: str = ""
    cause: str = ""
    ended_by: str = "stop"
    nas_address: str | None = None
    sip_call_id: str = ""
    switch_at: datetime | None = None
    attempt: bool = False


def switch_time(request: Start | Update | Stop) -> datetime:
    """When it was by the switch's own clock, if that was told; else by ours."""
    return request.switch_at or request.at


class Reboot(NamedTuple):
    """The switch has lost its calls (Accounting-On, -Off): close what was open before `at`.

    `nas_address` narrows a client row that covers a network; None closes all of the row.
    """

    client_id: int
    at: datetime
    nas_address: str | None = None


class Expire(NamedTuple):
    """Close this call if it has been silent past its time at `at`."""

    client_id: int
    session_key: str
    at: datetime


class Rerate(NamedTuple):
    """Price this call, which has ended, again by the price lists as they stand now."""

    client_id: int
    session_key: str
    call_id: int
    at: datetime


ChargingRequest = (
    Authorize | Reauthorize | Authenticate | Start | Update | Stop | Reboot | Expire | Rerate
)


class Refusal(Enum):
    """Why not. The value is what tables, metrics and clients' return_codes call it."""

    INVALID_ACCOUNT = "invalid-account"
    INVALID_PASSWORD = "invalid-password"
    IN_USE = "in-use"
    NO_CREDIT = "no-credit"
    EXPIRED = "expired"
    CREDIT_LIMIT = "credit-limit"
    SUSPENDED = "suspended"
    NO_ROUTE = "no-route"
    BLOCKED = "blocked"
    RETRIES = "retries"
    INVALID_ARGUMENT = "invalid-argument"
    NOT_ENOUGH = "not-enough"
    NO_RATE = "no-rate"
    VELOCITY = "velocity-limit"


class RouteOffer(Protocol):
    """One way out: "RG_21" and its dial string."""

    @property
    def name(self) -> str: ...
    @property
    def dial(self) -> str: ...


class DigestReply(NamedTuple):
    """What answers a digest: proof that the server knows the password too.

    `ha1` stands in where only who sends the answer's body can make the proof.
    """

    response_auth: str = ""
    ha1: str = ""


@dataclass(init=False)
class Yes:
    """What every yes says: whose account it is, and what that has to spend."""

    available_micros: int
    currency: str
    account_code: str
    found_by: str
    prepaid: bool
    language: str
    digest: DigestReply | None

    # By hand, here and below: what dataclass writes stays interpreted.
    def __init__(
        self,
        available_micros: int,
        currency: str,
        account_code: str,
        found_by: str,
        prepaid: bool,
        language: str,
        digest: DigestReply | None = None,
    ) -> None:
        self.available_micros = available_micros
        self.currency = currency
        self.account_code = account_code
        self.found_by = found_by
        self.prepaid = prepaid
        self.language = language
        self.digest = digest


@dataclass(init=False)
class Granted(Yes):
    """Go ahead for `seconds` from now.

    `credit_seconds` is the time from now in all that can be paid, this slice included;
    equal to `seconds` when nothing can follow (`final`). `available_micros` is what the
    account has to spend, this call's reservation included. Routes are in trial order.
    """

    seconds: int
    credit_seconds: int
    final: bool
    routes: tuple[RouteOffer, ...]

    def __init__(
        self,
        seconds: int,
        credit_seconds: int,
        final: bool,
        available_micros: int,
        currency: str,
        account_code: str,
        found_by: str,
        prepaid: bool,
        language: str,
        routes: tuple[RouteOffer, ...] = (),
        digest: DigestReply | None = None,
    ) -> None:
        super().__init__(
            available_micros, currency, account_code, found_by, prepaid, language, digest
        )
        self.seconds = seconds
        self.credit_seconds = credit_seconds
        self.final = final
        self.routes = routes


class Known(Yes):
    """The credential fits (or is not needed): who it is and what may be spent."""


class Refused(NamedTuple):
    """No. `text` is for a person and names no amount, price or upstream account."""

    reason: Refusal
    text: str


class Noted(NamedTuple):
    """A Start, Update, Reboot or Expire is on record; `closed` calls were ended by it."""

    closed: int = 0


class Settled(NamedTuple):
    """The call is ended and charged: what the caller's account paid."""

    cost_micros: int
    currency: str


class Changed(NamedTuple):
    """What one party of a call was charged before and is charged now; level -1: the provider."""

    account_id: int
    level: int
    before_micros: int
    after_micros: int
    currency: str


class Rerated(NamedTuple):
    """The call after a new rating: what has changed, or why it keeps its charges ('': no need)."""

    call_id: int
    kept: str
    changes: tuple[Changed, ...]


ChargingAnswer = Granted | Known | Refused | Noted | Settled | Rerated
