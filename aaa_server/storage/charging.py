"""The database's part of a batch: load what it can touch, record what it changed.

Three round trips a batch: the calls; the accounts and resource groups, locked; and all
that changed together with COMMIT. Statements are set-based and prepared. What rarely
changes of an account is held in memory by its revision, which comes with the lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from aaa_server.charging.account_code import whose
from aaa_server.charging.call import Call, CallKey, read_levels, read_offers
from aaa_server.charging.ledger import Account, GroupUse, Ledger, Policy, Profile
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    ChargingRequest,
    Reboot,
    Refused,
    Start,
    Stop,
    Update,
)
from aaa_server.storage.arrays import array, text_array
from aaa_server.storage.charging_record import Identifiers, statements_for

if TYPE_CHECKING:
    from aaa_server.storage.catalogue import CatalogueHolder

# About 600 octets each; then all are read again as they are met.
PROFILES_HELD_MAX = 200_000
CODES_HELD_MAX = 1_000_000
IDENTIFIERS_A_BLOCK = 1000  # INCREMENT BY of sequence identifier_block

# One charging transaction at a time in the whole database: no deadlocks, and what one
# process decides the next one sees. Hot rows (top resellers) would serialise them anyway.
ADVISORY_LOCK = 7_263_001

Unseal = Callable[[bytes, int, str], bytes]  # sealed, account_id, column -> plain
Row = tuple[Any, ...]
WithOrigin = Authorize | Authenticate | Start | Update | Stop


class Transaction(Protocol):
    """Where statements run: `database.Transaction`, or `plain.PlainTransaction`."""

    def execute(self, sql: str, parameters: Any = None) -> Awaitable[list[Row]]: ...
    def commit_with(self, sql: str) -> Awaitable[None]: ...
    def commit(self) -> Awaitable[None]: ...


class ChargingStore:
    """Loads and records batches; holds profiles, account codes and the catalogue between them."""

    def __init__(
        self,
        *,
        catalogue: CatalogueHolder,
        policy: Policy,
        unseal: Unseal,
        identifiers: Identifiers | None = None,
    ) -> None:
        """`identifiers` are used up before numbers are taken from the database."""
        self.catalogue = catalogue
        self._policy = policy
        self._unseal = unseal
        self._profiles: dict[int, Profile] = {}
        self._codes: dict[str, int] = {}
        self._identifiers = Identifiers() if identifiers is None else identifiers

    async def load(self, transaction: Transaction, batch: list[ChargingRequest]) -> Ledger:
        """All rows that `batch` can touch, locked, as they are now that it is their turn."""
        self._make_room()
        calls = await self._load_calls(transaction, batch)
        if not self.catalogue.revision:
            await self.catalogue.refresh(transaction.execute)
        await self._take_identifiers(transaction, 2 * len(batch) + len(calls))
        ledger = Ledger(self.catalogue.held, self._policy, self._identifiers, codes=self._codes)
        for row in calls:
            call = _call(row)
            if call.key not in ledger.calls:  # a call in progress comes before its old record
                ledger.calls[call.key] = call
        await self._resolve(transaction, batch, ledger)
        await self._lock(transaction, batch, ledger)
        return ledger

    async def record(self, transaction: Transaction, ledger: Ledger) -> None:
        """Write what changed, and commit."""
        await self._take_identifiers(transaction, len(ledger.transactions))
        statements = statements_for(ledger, self._identifiers)
        if statements:
            await transaction.commit_with("; ".join(statements))
        else:
            await transaction.commit()

    def _make_room(self) -> None:
        if len(self._profiles) > PROFILES_HELD_MAX:
            self._profiles.clear()
        if len(self._codes) > CODES_HELD_MAX:
            self._codes.clear()

    async def _load_calls(
        self, transaction: Transaction, batch: list[ChargingRequest]
    ) -> list[Row]:
        keys: set[CallKey] = set()
        rebooted: set[int] = set()
        for request in batch:
            if isinstance(request, Reboot):
                rebooted.add(request.client_id)
            elif not isinstance(request, Authenticate):
                keys.add((request.client_id, request.session_key))
        lock = f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK}); "
        if rebooted:
            keys.update(await transaction.execute(f"{lock}EXECUTE open_calls ({array(rebooted)})"))
        clients = array([key[0] for key in keys])
        sessions = text_array([key[1] for key in keys])
        return await transaction.execute(f"{lock}EXECUTE load_calls ({clients}, {sessions})")

    async def _take_identifiers(self, transaction: Transaction, wanted: int) -> None:
        """Have at least `wanted` numbers at hand that no other process has."""
        short = wanted - len(self._identifiers)
        if short <= 0:
            return
        blocks = -(-short // IDENTIFIERS_A_BLOCK)
        rows = await transaction.execute(
            "SELECT nextval('identifier_block') FROM generate_series(1, %s)", [blocks]
        )
        for (first,) in rows:
            self._identifiers.add(range(first, first + IDENTIFIERS_A_BLOCK))

    async def _resolve(
        self, transaction: Transaction, batch: list[ChargingRequest], ledger: Ledger
    ) -> None:
        """Look up account codes not yet met, and extensions and ANIs where no code is given."""
        codes: set[str] = set()
        extensions: set[str] = set()
        anis: set[str] = set()
        for request in batch:
            if not isinstance(request, WithOrigin) or _needs_no_origin(request, ledger):
                continue
            origin = request.origin
            if origin.account_code and origin.account_code in self._codes:
                continue
            if origin.account_code:
                codes.add(origin.account_code)
            if origin.extension:
                extensions.add(origin.extension)
            if origin.ani:
                anis.add(origin.ani)
        if not (codes or extensions or anis):
            return
        rows = await transaction.execute(
            f"EXECUTE resolve ({text_array(codes)}, {text_array(extensions)}, {text_array(anis)})"
        )
        for kind, name, domain, account_id in rows:
            if kind == "code":
                self._codes[name] = account_id
            elif kind == "extension":
                ledger.extensions[name, domain] = account_id
            else:
                ledger.anis[name] = account_id

    async def _lock(
        self, transaction: Transaction, batch: list[ChargingRequest], ledger: Ledger
    ) -> None:
        """Lock and read accounts and groups, again while what was held turns out to be old."""
        while True:
            account_ids, group_ids = self._wanted(batch, ledger)
            account_ids -= ledger.accounts.keys()
            group_ids -= ledger.group_uses.keys()
            if not account_ids and not group_ids and ledger.accounts:
                return
            rows = await transaction.execute(
                f"EXECUTE lock ({array(sorted(account_ids))}, {array(sorted(group_ids))})"
            )
            if await self._take(transaction, rows, ledger):
                return

    async def _take(self, transaction: Transaction, rows: list[Row], ledger: Ledger) -> bool:
        """Put locked rows into the ledger; False when held knowledge was old and is new now."""
        stale = []
        profiles = self._profiles
        fresh = True
        for kind, row_id, revision, balance, reserved, channels, second_at, second_calls in rows:
            if kind == 0:
                profile = profiles.get(row_id)
                if profile is None or profile.revision != revision:
                    stale.append((row_id, balance, reserved, channels, second_at, second_calls))
                else:
                    ledger.accounts[row_id] = Account(
                        profile, balance, reserved, channels, second_at, second_calls
                    )
            elif kind == 1:
                ledger.group_uses[row_id] = GroupUse(channels, second_at, second_calls)
            elif revision != self.catalogue.revision:
                await self.catalogue.refresh(transaction.execute)
                ledger.catalogue = self.catalogue.held
                fresh = False
        if stale:
            await self._load_profiles(transaction, [row[0] for row in stale])
            for account_id, *numbers in stale:
                ledger.accounts[account_id] = Account(profiles[account_id], *numbers)
            fresh = False
        return fresh

    async def _load_profiles(self, transaction: Transaction, account_ids: Iterable[int]) -> None:
        rows = await transaction.execute(f"EXECUTE load_profiles ({array(account_ids)})")
        for row in rows:
            account_id, password, pin = row[0], row[15], row[16]
            secrets = (
                None if password is None else self._unseal(bytes(password), account_id, "password"),
                None if pin is None else self._unseal(bytes(pin), account_id, "pin"),
            )
            self._profiles[account_id] = Profile(
                *(*row[:4], tuple(row[4]), *row[5:15], *secrets, row[17])
            )

    def _wanted(self, batch: list[ChargingRequest], ledger: Ledger) -> tuple[set[int], set[int]]:
        """Accounts and resource groups that the batch can touch, as far as is known by now."""
        accounts: set[int] = set()
        groups: set[int] = set()
        for call in ledger.calls.values():
            accounts.update(call.party)
            groups.update(
                [
                    group_id
                    for group_id in (call.resource_group_in_id, call.resource_group_out_id)
                    if group_id is not None
                ]
            )
        # A call that begins and ends in one batch pays the providers of routes offered in it.
        ends = any(not isinstance(request, Authorize) for request in batch)
        catalogue = ledger.catalogue
        for request in batch:
            if not isinstance(request, WithOrigin):
                continue
            if isinstance(request, Stop) and request.route:
                told = catalogue.by_name.get(request.route)
                if told is not None:
                    accounts.add(told.account_id)
            if not _needs_no_origin(request, ledger):
                self._want_payers(request, ledger, accounts, groups, providers=ends)
        return accounts, groups

    def _want_payers(
        self,
        request: WithOrigin,
        ledger: Ledger,
        accounts: set[int],
        groups: set[int],
        *,
        providers: bool,
    ) -> None:
        called = "" if isinstance(request, Authenticate) else request.called
        catalogue = ledger.catalogue
        inbound = catalogue.inbound(request.origin, called)
        if inbound is not None:
            groups.add(inbound.group.resource_group_id)
        found = whose(request.origin, called, ledger)
        if isinstance(found, Refused):
            return
        accounts.add(found.account_id)  # the operator's own chain is empty
        profile = self._profiles.get(found.account_id)
        if profile is None:
            return
        accounts.update(profile.chain)
        topmost = self._profiles.get(profile.chain[-1]) if profile.chain else None
        group = catalogue.rate_groups.get(topmost.rate_group_id or 0) if topmost else None
        if group is not None:
            groups.update(group.resource_group_ids)
            if providers:
                accounts.update(group.provider_ids)


def _needs_no_origin(request: WithOrigin, ledger: Ledger) -> bool:
    """Whether accounting is for a call whose payers are on its row, or that nobody will pay."""
    if isinstance(request, Authorize | Authenticate):
        return False
    return not request.unauthorized or (request.client_id, request.session_key) in ledger.calls


def _call(row: Row) -> Call:
    ended = row[3] == "ended"
    return Call(
        client_id=row[0],
        session_key=row[1],
        call_id=row[2],
        status=row[3],
        account_id=row[4],
        party=tuple(row[5]),
        reserved=tuple(row[6] or ()),
        levels=read_levels(row[7]),
        offers=read_offers(row[8]),
        resource_group_in_id=row[9],
        resource_group_out_id=row[10],
        granted_seconds=row[11],
        last_seconds=row[12],
        step=row[13],
        step_seconds=row[14],
        expires_at=row[15],
        authorized_at=row[16],
        started_at=row[17],
        found_by=row[18],
        nas_address=row[19],
        called=row[20],
        refusal=row[21],
        ended_at=row[22],
        ended_by=row[23] or "",
        seconds=row[24],
        postings=row[25],
        flags=row[26] or [],
        charged=dict(zip(row[27], row[28], strict=True)) if ended else {},
        recorded=ended,
    )
