"""The database's part of a batch: load what it can touch, record what it changed.

Three round trips a batch: the calls; the accounts and resource groups, locked; and all
that changed together with COMMIT. Statements are set-based and prepared. What rarely
changes of an account is held in memory by its revision, which comes with the lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from aaa_server.charging.account_code import whose
from aaa_server.charging.call import Call, CallKey, read_levels, read_offers
from aaa_server.charging.digest import nonce_key
from aaa_server.charging.ledger import Account, GroupUse, Ledger, Nonce, Policy, Profile
from aaa_server.charging.numbers import with_callers_translated
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    ChargingRequest,
    Digest,
    Expire,
    Reboot,
    Refused,
    Rerate,
    Start,
    Stop,
    Update,
)
from aaa_server.storage.arrays import ALWAYS, array, bounds, text_array, time_array
from aaa_server.storage.charging_memory import ACCOUNTS_HELD_MAX, Memory, drop_oldest
from aaa_server.storage.charging_meters import read_meters
from aaa_server.storage.charging_record import statements_for
from aaa_server.storage.identifiers import Identifiers
from aaa_server.storage.route_refusal import RouteRefusals

if TYPE_CHECKING:
    from aaa_server.storage.catalogue import CatalogueHolder, Execute

# As many as accounts: what an account is known by lasts as long as its row.
PROFILES_HELD_MAX = CODES_HELD_MAX = ACCOUNTS_HELD_MAX
SLICE_ROWS = 100  # 2 ms of Python, so that answers go out in between
IDENTIFIERS_A_BLOCK = 1000  # INCREMENT BY of sequence identifier_block
BLOCKS_AT_ONCE = 16

# One charging transaction at a time in the whole database: no deadlocks, and what one
# process decides the next one sees. Hot rows (top resellers) would serialise them anyway.
ADVISORY_LOCK = 7_263_001

Unseal = Callable[[bytes, int, str], bytes]  # sealed, account_id, column -> plain
Row = tuple[Any, ...]
WithOrigin = Authorize | Authenticate | Start | Update | Stop
Sure = Authorize | Authenticate  # asked about whose call it is, whatever is known of the call

_STATE = 24  # of a row of load_profiles, where the account's state begins

# Of calls and periods that ended longer ago, packages and limits are not corrected.
METERED_BACK = timedelta(days=62)

_TURN = f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK}); "


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
        self.route_refusals = RouteRefusals()
        self._policy = policy
        self._unseal = unseal
        self._memory = Memory()
        self._profiles: dict[int, Profile] = {}
        self._codes: dict[str, int] = {}
        self._loading = 0  # batches that count on what is held just now
        self._identifiers = Identifiers() if identifiers is None else identifiers

    async def warm_up(self, execute: Execute, after: int = 0, rows: int = SLICE_ROWS) -> int:
        """Hold `rows` accounts more, so that no call waits for them; the last one, 0 at the end.

        `after` is the last one that is held already. No more are held than memory has room for.
        """
        if len(self._memory.accounts) >= ACCOUNTS_HELD_MAX:
            return 0
        found = await execute(f"EXECUTE next_accounts ({after}, {rows})", None)
        account_ids = [row[0] for row in found]
        await self._remember(execute, account_ids, ())
        return account_ids[-1] if len(account_ids) == rows else 0

    @property
    def accounts_held(self) -> int:
        """How many accounts are in memory."""
        return len(self._memory.accounts)

    def holds(self, key: CallKey) -> bool:
        """Whether memory has a call in progress of that key."""
        return key in self._memory.calls

    async def look(self, execute: Execute, batch: list[ChargingRequest]) -> bool:
        """Have memory hold the payers of `batch` too, as they are; whether it came to know more.

        Nothing is locked, and it need not be the charging connection: what is decided on these
        rows is proved as all of memory is.
        """
        known = False
        while not self._memory.paused:
            if not self._loading:
                self._make_room()
            account_ids, codes = self._lacking(batch)
            if not (account_ids or codes) or not await self._remember(execute, account_ids, codes):
                break
            known = True
        return known

    async def load(self, transaction: Transaction, batch: list[ChargingRequest]) -> Ledger:
        """All rows that `batch` can touch, locked, as they are now that it is their turn."""
        if not self._loading:
            self._make_room()
        self._loading += 1
        try:
            return await self._load(transaction, batch)
        finally:
            self._loading -= 1

    async def _load(self, transaction: Transaction, batch: list[ChargingRequest]) -> Ledger:
        if not self.catalogue.revision:
            await self.catalogue.refresh(transaction.execute)
        catalogue = self.catalogue.held
        ledger = Ledger(catalogue, self._policy, self._identifiers, codes=self._codes)
        asked, batch = batch, with_callers_translated(batch, catalogue)
        await self._resolve(transaction, [r for r in batch if isinstance(r, Sure)], ledger)
        keys = await self._keys(transaction, batch)
        wanted = self._wanted(batch, ledger, told=False)
        rated = [(*_key_of(one), one.call_id) for one in batch if isinstance(one, Rerate)]
        await self._fetch(transaction, keys, wanted, ledger, _within(batch), rated)
        await self._fetch_former(transaction, batch, ledger)
        if ledger.catalogue is not catalogue:
            batch = with_callers_translated(asked, ledger.catalogue)
            await self._resolve(transaction, [r for r in batch if isinstance(r, Sure)], ledger)
        await self._resolve(transaction, [r for r in batch if _unknown(r, ledger)], ledger)
        ledger.batch = batch
        while True:
            accounts, groups = self._wanted(batch, ledger, told=True)
            missing = accounts - ledger.accounts.keys(), groups - ledger.group_uses.keys()
            if not any(missing):
                break
            await self._fetch(transaction, {}, missing, ledger, bounds(()))
        await self._load_meters(transaction, batch, ledger)
        await self._load_nonces(transaction, batch, ledger)
        await self._count_anis(transaction, batch, ledger)
        await self._take_identifiers(transaction, 2 * len(batch) + len(ledger.calls))
        return ledger

    def recall(self, batch: list[ChargingRequest]) -> Ledger | None:
        """As `load`, from memory alone; None when the batch may touch what is not held.

        Nothing is locked: `record` proves that the database has it so, or fails with SKY01.
        """
        memory = self._memory
        if (
            not memory.trusted()
            or not self.catalogue.revision
            or len(self._identifiers) < 3 * len(batch)
        ):
            return None
        ledger = Ledger(
            self.catalogue.held,
            self._policy,
            self._identifiers,
            codes=self._codes,
            from_memory=True,
        )
        batch = ledger.batch = with_callers_translated(batch, ledger.catalogue)
        for request in batch:
            if isinstance(request, Authenticate | Reboot | Expire | Rerate):
                return None
            call = memory.calls.get((request.client_id, request.session_key))
            if call is not None:
                if isinstance(request, Start | Update | Stop) and ledger.precedes(request, call):
                    return None
                ledger.calls[call.key] = call
            elif not isinstance(request, Authorize | Start) or not _begins(request, self._codes):
                return None
            # Whose call it is, is asked again: a Start may have told, but not as sure.
            if isinstance(request, Authorize) and not _is_plain(request, self._codes):
                return None
        accounts, groups = self._wanted(batch, ledger, told=True)
        for call in ledger.calls.values():
            accounts.update(call.party)
            groups.update(_groups_of(call))
        if not memory.fill(ledger, accounts, groups):
            return None
        for account in ledger.accounts.values():
            if account.profile.metered:  # what it has of packages and limits is not held
                return None
        return ledger

    def written(self, ledger: Ledger) -> str:
        """What writes a ledger that was recalled, and fails with SKY01 where memory was wrong."""
        # In its turn too: nobody's rows change between what it proves and what it writes.
        return _TURN + "; ".join(statements_for(ledger, self._identifiers))

    def keep(self, ledger: Ledger) -> None:
        """What `ledger` says is what the database has, or has once it is committed."""
        self._memory.keep(ledger)

    def count(self, ledger: Ledger) -> None:
        """`ledger` is committed: count what is counted of calls."""
        if ledger.margin_refused:
            self.route_refusals.add(ledger.margin_refused)

    def forget(self, ledger: Ledger) -> None:
        """`ledger` was not committed, or nobody knows: its rows are read anew."""
        self._memory.forget(ledger)

    async def record(self, transaction: Transaction, ledger: Ledger) -> None:
        """Write what changed on loaded rows, and commit."""
        await self._take_identifiers(transaction, len(ledger.transactions))
        statements = statements_for(ledger, self._identifiers)
        if statements:
            await transaction.commit_with("; ".join(statements))
        else:
            await transaction.commit()

    def _lacking(self, batch: list[ChargingRequest]) -> tuple[set[int], set[str]]:
        """Of what memory could decide but for their rows: the accounts, or their codes."""
        memory, account_ids, codes = self._memory, set[int](), set[str]()
        for request in batch:
            if isinstance(request, Authenticate | Reboot | Expire | Rerate):
                continue
            call = memory.calls.get((request.client_id, request.session_key))
            if call is not None:
                account_ids.update(call.party)
            elif isinstance(request, Authorize | Start) and request.origin.account_code:
                account_id = self._codes.get(request.origin.account_code)
                if account_id is None:
                    codes.add(request.origin.account_code)
                    continue
                account_ids.add(account_id)
                profile = self._profiles.get(account_id)
                if profile is not None:
                    account_ids.update(profile.chain)
        # Not by the dictionary's keys as a set: that would go through all of them.
        return {one for one in account_ids if one not in memory.accounts}, codes

    async def _remember(
        self, execute: Execute, account_ids: Collection[int], codes: Collection[str]
    ) -> bool:
        """Read accounts into memory; whether there were any. What it holds already is newer."""
        rows = await execute(
            f"EXECUTE load_profiles ({array(account_ids)}, {text_array(codes)})", None
        )
        for row in rows:
            profile = self._profile(row)
            self._profiles[profile.account_id] = profile
            self._codes[profile.code] = profile.account_id
            if profile.account_id not in self._memory.accounts:
                self._memory.accounts[profile.account_id] = Account(profile, *row[_STATE:])
        return bool(rows)

    def _make_room(self) -> None:
        drop_oldest(self._profiles, PROFILES_HELD_MAX)
        drop_oldest(self._codes, CODES_HELD_MAX)

    async def _keys(
        self, transaction: Transaction, batch: list[ChargingRequest]
    ) -> dict[CallKey, bool]:
        """The calls that are spoken of, and whether their money may move."""
        keys: dict[CallKey, bool] = {}
        rebooted: set[int] = set()
        for request in batch:
            if isinstance(request, Reboot):
                rebooted.add(request.client_id)
            elif not isinstance(request, Authenticate | Rerate):
                key = (request.client_id, request.session_key)
                if not isinstance(request, Start | Update):
                    keys[key] = True
                elif key not in keys:
                    keys[key] = False
        if rebooted:
            rows = await transaction.execute(f"{_TURN}EXECUTE open_calls ({array(rebooted)})")
            keys.update(dict.fromkeys(map(tuple, rows), True))
        return keys

    async def _take_identifiers(self, transaction: Transaction, wanted: int) -> None:
        """Have at least `wanted` numbers at hand that no other process has."""
        if wanted <= len(self._identifiers):
            return
        blocks = max(BLOCKS_AT_ONCE, -(-wanted // IDENTIFIERS_A_BLOCK))
        rows = await transaction.execute(
            "SELECT nextval('identifier_block') FROM generate_series(1, %s)", [blocks]
        )
        for (first,) in rows:
            self._identifiers.add(range(first, first + IDENTIFIERS_A_BLOCK))

    async def _resolve(
        self, transaction: Transaction, requests: list[WithOrigin], ledger: Ledger
    ) -> None:
        """Look up account codes not yet met, and extensions and ANIs where no code is given."""
        codes: set[str] = set()
        extensions: set[str] = set()
        anis: set[str] = set()
        for request in requests:
            origin = request.origin
            if isinstance(request, Authenticate) and request.register and origin.ani:
                anis.add(origin.ani)
            if origin.account_code and origin.account_code in self._codes:
                continue
            if origin.account_code:
                codes.add(origin.account_code)
                user, address, _ = origin.account_code.partition("@")
                if address:
                    codes.add(user)
                    extensions.add(user)
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

    async def _fetch(
        self,
        transaction: Transaction,
        keys: dict[CallKey, bool],
        wanted: tuple[set[int], set[int]],
        ledger: Ledger,
        within: tuple[str, str],
        numbered: Collection[tuple[int, str, int]] = (),
    ) -> None:
        """Put calls, and the locked rows of accounts and groups, into the ledger.

        Records of calls that were authorised `within` these instants: the last of each key, and
        those of keys and numbers.
        """
        numbers = [number for _, _, number in numbered]
        clients = array([one[0] for one in numbered] + [key[0] for key in keys])
        sessions = text_array([one[1] for one in numbered] + [key[1] for key in keys])
        money = array([1] * len(numbers) + [int(moves) for moves in keys.values()])
        accounts, groups = array(wanted[0]), array(wanted[1])
        rows = await transaction.execute(
            f"{_TURN}EXECUTE load"
            f" ({clients}, {sessions}, {money}, {accounts}, {groups}, {within[0]}, {within[1]},"
            f" {array(numbers)})"
        )
        stale = []
        profiles = self._profiles
        for row in rows:
            kind = row[0]
            if kind == 0:
                profile = profiles.get(row[1])
                if profile is None or profile.revision != row[2]:
                    stale.append(row)
                else:
                    ledger.accounts[row[1]] = Account(profile, *row[3:8])
            elif kind == 1:
                ledger.group_uses[row[1]] = GroupUse(*row[5:8])
            elif kind == 2:
                revision = row[2]
            else:
                call = _call(row[8:])
                if numbers and call.ended and call.call_id in numbers:
                    call = ledger.numbered.setdefault(call.call_id, call)
                known = ledger.calls.get(call.key)
                # One in progress comes before its key's old records, and the newest of these.
                if known is None or (known.ended and known.authorized_at <= call.authorized_at):
                    ledger.calls[call.key] = call
        if revision != self.catalogue.revision:
            await self.catalogue.refresh(transaction.execute)
            ledger.catalogue = self.catalogue.held
        if stale:
            await self._load_profiles(transaction, [row[1] for row in stale])
            for row in stale:
                ledger.accounts[row[1]] = Account(profiles[row[1]], *row[3:8])

    async def _fetch_former(
        self, transaction: Transaction, batch: list[ChargingRequest], ledger: Ledger
    ) -> None:
        """Put into the ledger what was before the present calls of keys, where it is spoken of."""
        reuse = timedelta(seconds=self._policy.session_reuse_seconds)
        spoken = []
        for request in batch:
            if isinstance(request, Start | Update | Stop):
                call = ledger.calls.get(_key_of(request))
                if call is not None and ledger.precedes(request, call):
                    spoken.append((*_key_of(request), request.at + reuse))
        if not spoken:
            return
        within = bounds([begun_by for _, _, begun_by in spoken])
        clients, sessions, begun_by = zip(*spoken, strict=True)
        numbered = await transaction.execute(
            f"EXECUTE former_calls ({array(clients)}, {text_array(sessions)},"
            f" {time_array(begun_by)}, {within[0]}, {within[1]})"
        )
        if not numbered:
            return
        await self._fetch(transaction, {}, (set(), set()), ledger, within, numbered)
        for client_id, session_key, number in set(numbered):
            call = ledger.numbered.get(number)
            if call is not None:
                ledger.former.setdefault((client_id, session_key), []).append(call)

    async def _load_nonces(
        self, transaction: Transaction, batch: list[ChargingRequest], ledger: Ledger
    ) -> None:
        """What is remembered of the nonces of the batch's digests."""
        keys = {
            nonce_key(request.credential).hex()
            for request in batch
            if isinstance(request, Sure) and isinstance(request.credential, Digest)
        }
        if not keys:
            return
        rows = await transaction.execute(f"EXECUTE load_nonces ({text_array(keys)})")
        for nonce_hash, *row in rows:
            ledger.nonces[bytes.fromhex(nonce_hash)] = Nonce(*row)

    async def _count_anis(
        self, transaction: Transaction, batch: list[ChargingRequest], ledger: Ledger
    ) -> None:
        """How many callers' numbers those have who want one more."""
        cards = []
        for request in batch:
            if isinstance(request, Authenticate) and request.register:
                found = whose(request.origin, "", ledger, request.at)
                if not isinstance(found, Refused):
                    cards.append(found.account_id)
        if cards:
            rows = await transaction.execute(f"EXECUTE count_anis ({array(cards)})")
            ledger.ani_counts.update(rows)

    async def _load_meters(
        self, transaction: Transaction, batch: list[ChargingRequest], ledger: Ledger
    ) -> None:
        """Packages and limits of the loaded accounts; none is loaded where nobody is metered."""
        metered = [key for key, account in ledger.accounts.items() if account.profile.metered]
        if not metered:
            return
        # A call holds what was in force when it was authorised, whenever a switch says it is.
        calls = [*ledger.calls.values(), *ledger.numbered.values()]
        begun = [call.authorized_at for call in calls]
        since = min([request.at for request in batch] + begun) - METERED_BACK
        rows = await transaction.execute(
            f"EXECUTE load_meters ({array(metered)}, '{since.isoformat()}')"
        )
        ledger.meters = read_meters(rows)

    async def _load_profiles(self, transaction: Transaction, account_ids: Iterable[int]) -> None:
        rows = await transaction.execute(f"EXECUTE load_profiles ({array(account_ids)}, '{{}}')")
        for row in rows:
            self._profiles[row[0]] = self._profile(row)

    def _profile(self, row: Row) -> Profile:
        account_id, password, pin = row[0], row[15], row[16]
        secrets = (
            None if password is None else self._unseal(bytes(password), account_id, "password"),
            None if pin is None else self._unseal(bytes(pin), account_id, "pin"),
        )
        return Profile(*(*row[:4], tuple(row[4]), *row[5:15], *secrets, *row[17:_STATE]))

    def _wanted(
        self, batch: list[ChargingRequest], ledger: Ledger, *, told: bool
    ) -> tuple[set[int], set[int]]:
        """Accounts and resource groups that the batch can touch, as far as is known by now.

        `told`: the calls are in the ledger, so that the payers of those that are not can be
        looked for too. Before that only who asks for a call is sure to be needed.
        """
        accounts: set[int] = set()
        groups: set[int] = set()
        ending = _Ending(batch)
        by_name = ledger.catalogue.by_name
        for request in batch:
            if isinstance(request, Stop) and request.route in by_name:
                accounts.add(by_name[request.route].account_id)
            if isinstance(request, Sure) or (told and _unknown(request, ledger)):
                # One that begins and ends in one batch pays the providers of routes offered in it.
                ends = not isinstance(request, Authenticate) and ending.has(
                    request.client_id, request.session_key
                )
                self._want_payers(request, ledger, accounts, groups, providers=ends)
        for call in ledger.calls.values():
            # A call that was offered no route is charged for one that would be offered now.
            if call.account_id is not None and not call.offers and ending.has(*call.key):
                self._want_chain(call.account_id, ledger, accounts, groups, providers=True)
        for call in ledger.numbered.values():
            if call.account_id is not None:
                bare = not call.offers
                self._want_chain(call.account_id, ledger, accounts, groups, providers=bare)
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
        inbound = ledger.catalogue.inbound(request.origin, called)
        if inbound is not None:
            groups.add(inbound.group.resource_group_id)
        did = ledger.catalogue.dids.get(request.origin.did)
        if did is not None and providers:
            accounts.add(did.provider_id)
        origin = request.origin
        # Nearly always the first of the rules decides; else all of them are asked.
        account_id = None if origin.did else ledger.codes.get(origin.account_code)
        if account_id is None:
            found = whose(origin, called, ledger, request.at)
            account_id = None if isinstance(found, Refused) else found.account_id
        if account_id is not None:
            self._want_chain(account_id, ledger, accounts, groups, providers=providers)

    def _want_chain(
        self,
        account_id: int,
        ledger: Ledger,
        accounts: set[int],
        groups: set[int],
        *,
        providers: bool,
    ) -> None:
        accounts.add(account_id)  # the operator's own chain is empty
        profile = self._profiles.get(account_id)
        if profile is None:
            return
        accounts.update(profile.chain)
        topmost = self._profiles.get(profile.chain[-1]) if profile.chain else None
        group = ledger.catalogue.rate_groups.get(topmost.rate_group_id or 0) if topmost else None
        if group is not None:
            groups.update(group.resource_group_ids)
            if providers:
                accounts.update(group.provider_ids)


class _Ending:
    """The calls that a batch may end: only their providers are paid in it."""

    __slots__ = ("_clients", "_keys")

    def __init__(self, batch: list[ChargingRequest]) -> None:
        self._clients: set[int] = set()
        self._keys: set[CallKey] = set()
        for request in batch:
            if isinstance(request, Stop | Expire):
                self._keys.add((request.client_id, request.session_key))
            elif isinstance(request, Reboot):
                self._clients.add(request.client_id)

    def has(self, client_id: int, session_key: str) -> bool:
        return (client_id, session_key) in self._keys or client_id in self._clients


def _is_plain(request: Authorize, codes: dict[str, int]) -> bool:
    """Whether the account is found by its code, and nothing is asked that is not held."""
    origin = request.origin
    return (
        origin.account_code in codes
        and not origin.did
        and (request.credential is None or type(request.credential) is not Digest)
    )


def _begins(request: Authorize | Start, codes: dict[str, int]) -> bool:
    """Whether the request may open a call, for an account that is found by its code."""
    opens = isinstance(request, Authorize) or request.unauthorized
    return opens and request.origin.account_code in codes


def _key_of(request: Start | Update | Stop | Rerate) -> CallKey:
    return request.client_id, request.session_key


def _groups_of(call: Call) -> list[int]:
    """The resource groups whose channels the call may hold."""
    pair = (call.resource_group_in_id, call.resource_group_out_id)
    return [group_id for group_id in pair if group_id is not None]


def _within(batch: list[ChargingRequest]) -> tuple[str, str]:
    """Between which instants the calls that are spoken of were authorised."""
    begun = []
    for request in batch:
        if isinstance(request, Rerate):
            return ALWAYS
        if isinstance(request, Stop):
            begun.append(request.at - timedelta(milliseconds=request.duration_ms or 0))
        elif isinstance(request, Update):
            begun.append(request.at - timedelta(seconds=request.seconds))
        elif not isinstance(request, Authenticate | Reboot):
            begun.append(request.at)
    return bounds(begun)


def _unknown(request: ChargingRequest, ledger: Ledger) -> TypeGuard[Start | Update | Stop]:
    """Whether accounting tells of a call that nobody has heard of and somebody will pay.

    One of that key that has ended may be of long ago, and this another.
    """
    if not isinstance(request, Start | Update | Stop) or not request.unauthorized:
        return False
    call = ledger.calls.get((request.client_id, request.session_key))
    return call is None or call.ended_at is not None


def _call(row: Row) -> Call:
    call = Call(row[0], row[1], row[2], row[3], row[16], row[15])
    call.account_id = row[4]
    call.party = tuple(row[5])
    call.reserved = tuple(row[6] or ())
    call.levels = read_levels(row[7])
    call.offers = read_offers(row[8])
    call.resource_group_in_id = row[9]
    call.resource_group_out_id = row[10]
    call.granted_seconds = row[11]
    call.last_seconds = row[12]
    call.step = row[13]
    call.step_seconds = row[14]
    call.started_at = row[17]
    call.found_by = row[18]
    call.nas_address = row[19]
    call.called = row[20]
    call.refusal = row[21]
    call.ended_at = row[22]
    call.ended_by = row[23] or ""
    call.seconds = row[24]
    call.postings = row[25]
    call.flags = tuple(row[26] or ())
    if call.ended:
        call.recorded = True
        call.charged = dict(zip(row[27] or (), row[28] or (), strict=True))
        call.billed = dict(zip(row[27] or (), row[32] or (), strict=True))
    call.provider_id = row[29]
    call.version = row[30]
    call.charges = row[33]
    call.duration_ms = row[34]
    call.cause = row[35]
    call.recorded_at = row[36]
    return call
