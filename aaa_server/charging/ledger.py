"""The rows that one batch may read and change, and what it changed.

Storage fills a `Ledger` under locks, `decide` works on it in memory, storage writes the
differences. Money moves only here: `reserve`, `release` and `post` keep the caches on
the accounts and the rows of the books in step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from aaa_server.charging.call import NEW, Call, CallKey
from aaa_server.charging.catalogue import Catalogue
from aaa_server.charging.meter import Meters
from aaa_server.charging.requests import ChargingRequest, Start, Stop, Update, switch_time


class Profile(NamedTuple):
    """What of an account does not change with calls. Held between batches by `revision`.

    `chain` is the account itself, its reseller, and so on, without the admin.
    """

    account_id: int
    code: str
    kind: str
    parent_id: int | None
    chain: tuple[int, ...]
    prepaid: bool
    currency: str
    credit_limit_micros: int
    rate_group_id: int | None
    max_channels: int
    calls_per_second: int
    maximum_call_seconds: int | None
    status: str
    expires_at: datetime | None
    language: str
    password: bytes | None
    pin: bytes | None
    revision: int
    metered: bool = False  # it has packages or limits
    pin_failures: int = 0
    locked_until: datetime | None = None
    first_used_at: datetime | None = None
    valid_days: int | None = None  # from its first call; None: `expires_at` alone decides
    surcharge_micros: int = 0  # of a call over an access number


@dataclass(slots=True)
class Account:
    """An account's row, locked for this batch."""

    profile: Profile
    balance_micros: int
    reserved_micros: int
    channels: int
    second_at: int
    second_calls: int
    changed: bool = False
    # What it was decided on: the row is only written if it is still so.
    was: tuple[int, int, int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.keep()

    def keep(self) -> None:
        """Take the row as it is for what the database has."""
        self.was = (
            self.balance_micros,
            self.reserved_micros,
            self.channels,
            self.second_at,
            self.second_calls,
        )
        self.changed = False

    @property
    def available_micros(self) -> int:
        """What may still be spent or reserved; plus is in the account's favour."""
        return self.balance_micros - self.reserved_micros + self.profile.credit_limit_micros


@dataclass(slots=True)
class GroupUse:
    """How busy a resource group is."""

    channels: int
    second_at: int
    second_calls: int
    changed: bool = False
    was: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.keep()

    def keep(self) -> None:
        """Take the row as it is for what the database has."""
        self.was = (self.channels, self.second_at, self.second_calls)
        self.changed = False


class Charge(NamedTuple):
    """What one party of a call pays; level -1 is the provider, who gets it.

    Number 1 is the call as it ended; each correction has a number of its own, and its
    rows are what it changes: their sum is what the party pays in all.
    """

    call_id: int
    level: int
    number: int
    account_id: int
    currency: str
    amount_micros: int
    billed_seconds: int
    rate_id: int
    prefix: str
    exchange_e10: int
    package_seconds: int


class Posting(NamedTuple):
    """One row of the books: `amount_micros` to the account, its opposite to the contra book."""

    reference: str
    position: int
    account_id: int
    amount_micros: int
    currency: str
    contra_account_id: int
    contra_book: str


class Policy(NamedTuple):
    """The rules that an operator sets ([charging] in the configuration)."""

    grace_seconds: int = 120
    overrun_seconds: int = 2
    assume_lost: str = "nothing"  # or "slice": charge a call of which nothing more was heard
    session_reuse_seconds: int = 86_400  # after this long, an old session key means a new call
    maximum_call_seconds: int = 7200
    pin_failures_max: int = 5  # wrong PINs in a row that lock a card
    pin_lock_seconds: int = 900


class Event(NamedTuple):
    """Something that somebody should know of an account; `detail` is JSON."""

    account_id: int
    kind: str
    detail: str


@dataclass(slots=True)
class Nonce:
    """How often a digest nonce has been used, so that what was seen is not accepted again."""

    account_id: int
    last_count: int
    last_response: str
    seen_at: datetime
    changed: bool = False


class Transaction(NamedTuple):
    """The head of a call's postings; (kind call, reference) is unique in the database."""

    reference: str
    at: datetime


class KeyUsedAgain(Exception):
    """Two calls of one key in one batch: they must be decided in batches of their own."""


@dataclass(slots=True)
class Ledger:
    """One batch's world. `identifiers` yields numbers that no other row has."""

    catalogue: Catalogue
    policy: Policy
    identifiers: Iterator[int]
    accounts: dict[int, Account] = field(default_factory=dict)
    group_uses: dict[int, GroupUse] = field(default_factory=dict)
    calls: dict[CallKey, Call] = field(default_factory=dict)
    numbered: dict[int, Call] = field(default_factory=dict)  # records that are asked for by number
    former: dict[CallKey, list[Call]] = field(default_factory=dict)  # some of these, by key
    codes: dict[str, int] = field(default_factory=dict)
    extensions: dict[tuple[str, str], int] = field(default_factory=dict)
    anis: dict[str, int] = field(default_factory=dict)
    ani_counts: dict[int, int] = field(default_factory=dict)  # of who registers one more
    from_memory: bool = False  # nothing was locked or read: to be proved when it is written
    batch: list[ChargingRequest] = field(default_factory=list)
    meters: Meters | None = None  # None: nobody of these accounts is metered
    nonces: dict[bytes, Nonce] = field(default_factory=dict)
    # What decide did:
    opened: dict[CallKey, Call] = field(default_factory=dict)  # to be written whole
    touched: dict[CallKey, Call] = field(default_factory=dict)  # to be written where changed
    corrected: dict[int, Call] = field(default_factory=dict)  # likewise, not the last of their key
    charges: list[Charge] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    postings: list[Posting] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    # How often a route was not offered for its margin, by rate group and resource group.
    margin_refused: dict[tuple[int, int], int] = field(default_factory=dict)
    profiles: dict[int, Profile] = field(default_factory=dict)  # those that changed
    registered: dict[str, int] = field(default_factory=dict)  # callers that are now a card's

    def existing(self, client_id: int, session_key: str, begun: datetime) -> Call | None:
        """The call of this key; not one that ended so long before `begun` that it is another."""
        call = self.calls.get((client_id, session_key))
        if call is None or call.ended_at is None:
            return call
        return None if begun > call.ended_at + self._reuse else call

    def told_of(self, request: Start | Update | Stop, begun: datetime) -> Call | None:
        """The call that accounting tells of, which may be a former one of its key."""
        call = self.calls.get((request.client_id, request.session_key))
        if call is None:
            return None
        former = self.former.get(call.key)
        if former is not None and self.precedes(request, call):
            lasted = [one for one in former if self._lasted(one, request, begun)]
            if lasted:
                return max(lasted, key=_authorized_at)
        if call.ended_at is None or begun <= call.ended_at + self._reuse:
            return call
        # Told of on arrival, it may have been on record for less than its own times say.
        if request.switch_at is None and call.recorded_at is not None:
            return None if begun > call.recorded_at + self._reuse else call
        return None

    def precedes(self, request: Start | Update | Stop, call: Call) -> bool:
        """Whether what is told is of so long before `call` that it is of a former one of its key.

        By the switch's own clock, however wrong, where that has told when the call began.
        """
        if request.at >= call.authorized_at:
            return False
        if call.started_at is not None:
            return switch_time(request) + self._reuse < call.started_at
        return request.at + self._reuse < call.authorized_at

    def _lasted(self, call: Call, request: Start | Update | Stop, begun: datetime) -> bool:
        """Whether `call` was there, or nearly so, when `request` says that one was.

        By the switch's own clock, if that has told when the call began.
        """
        assert call.ended_at is not None
        at = switch_time(request)
        begun += at - request.at
        slow = timedelta() if call.started_at is None else call.authorized_at - call.started_at
        return (
            call.authorized_at - slow <= at + self._reuse
            and begun <= call.ended_at - slow + self._reuse
        )

    @property
    def _reuse(self) -> timedelta:
        return timedelta(0, self.policy.session_reuse_seconds)

    def open(self, client_id: int, session_key: str, at: datetime) -> Call:
        """A new call; its status and times are the caller's to set.

        Raises `KeyUsedAgain` after a call of that key in the same batch.
        """
        if (client_id, session_key) in self.opened or (client_id, session_key) in self.touched:
            raise KeyUsedAgain(session_key)
        before = self.calls.get((client_id, session_key))
        if before is not None:
            self.former.setdefault(before.key, []).append(before)
        call = Call(client_id, session_key, next(self.identifiers), "started", at, at)
        self.calls[call.key] = call
        return call

    def write(self, call: Call) -> None:
        """Have the whole call written: it is new, or another one than before."""
        if call.recorded and call.version == NEW:  # a refused attempt: it has had a row before
            call.row_number = next(self.identifiers)
        self.opened[call.key] = call

    def touch(self, call: Call) -> None:
        """Have the call's progress or end written."""
        if self.calls.get(call.key) is call:
            self.touched[call.key] = call
        else:
            self.corrected[call.call_id] = call

    def providers_of(self, topmost_id: int) -> tuple[int, ...]:
        """The providers that could carry the calls of a chain with this top, in order."""
        group = self.catalogue.rate_groups.get(self.accounts[topmost_id].profile.rate_group_id or 0)
        if group is None:
            return ()
        return tuple(sorted(group.provider_ids))

    def chain_of(self, account_id: int) -> list[Account]:
        """The payers of this account's calls, itself first."""
        accounts = self.accounts
        return [accounts[payer_id] for payer_id in accounts[account_id].profile.chain]

    def hold(self, call: Call, amounts: tuple[int, ...]) -> None:
        """Make `amounts` (micros, one a level) what the call reserves, instead of before."""
        before = call.reserved or (0,) * len(amounts)
        assert len(amounts) == len(before) == len(call.levels)
        for place, level in enumerate(call.levels):
            account = self.accounts[level.account_id]
            account.reserved_micros += amounts[place] - before[place]
            account.changed = True
            assert account.reserved_micros >= 0
        call.reserved = amounts

    def release(self, call: Call) -> None:
        """Give back all that the call reserves and the channels it holds."""
        for level, held in zip(call.levels, call.reserved, strict=True):
            account = self.accounts[level.account_id]
            account.reserved_micros -= held
            account.channels -= 1
            account.changed = True
            assert account.reserved_micros >= 0
            assert account.channels >= 0
        call.reserved = ()
        for group_id in (call.resource_group_in_id, call.resource_group_out_id):
            if group_id is not None:
                use = self.group_uses[group_id]
                use.channels -= 1
                use.changed = True
                assert use.channels >= 0

    def change_profile(self, account: Account, profile: Profile) -> None:
        """Have the account's row say what `profile` says of its card."""
        if account.profile.account_id not in self.profiles:
            profile = profile._replace(revision=profile.revision + 1)  # once a batch
        account.profile = self.profiles[profile.account_id] = profile

    def post(self, posting: Posting) -> None:
        """Move money on the account and in the books."""
        account = self.accounts[posting.account_id]
        account.balance_micros += posting.amount_micros
        account.changed = True
        self.postings.append(posting)


def _authorized_at(call: Call) -> datetime:
    return call.authorized_at
