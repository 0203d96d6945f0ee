"""The one door to the money: every protocol's question goes through here.

Questions that arrive while a transaction runs are gathered, and the next transaction
takes them all. The answer comes after COMMIT.

A batch is decided on rows in memory where all of them are held, and written in one round
trip that proves them; else, and when they prove wrong, on rows that are read and locked.
While the database works on a batch, the next one is decided ahead.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred, succeed

from aaa_server.charging.decide import decide_batch
from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import ChargingAnswer, ChargingRequest
from aaa_server.group_commit import GroupCommit, Late
from aaa_server.storage.charging import Transaction
from aaa_server.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from aaa_server.charging.ledger import Ledger
    from aaa_server.config import ChargingConfig
    from aaa_server.storage.catalogue import Execute
    from aaa_server.storage.charging import ChargingStore
    from aaa_server.storage.database import ChargingDatabase, Connection

InTransaction = Callable[[Callable[[Transaction], Awaitable[None]]], Awaitable[None]]


def policy_of(charging: ChargingConfig) -> Policy:
    """The operator's rules, from the configuration."""
    return Policy(
        grace_seconds=charging.grace_seconds,
        overrun_seconds=charging.overrun_seconds,
        assume_lost=charging.assume_lost,
        maximum_call_seconds=charging.maximum_call_seconds,
        pin_failures_max=charging.pin_failures_max,
        pin_lock_seconds=charging.pin_lock_seconds,
    )


class Place:
    """Of one batch in the order: `before` fires when all that came earlier are through."""

    def __init__(self, before: Deferred[None], earlier: Place | None) -> None:
        self.before = before
        self.decided: Deferred[None] = Deferred()
        self.failed = False  # what it decided was not written, and it is not through yet
        self._earlier = earlier

    @property
    def overtakes(self) -> bool:
        """Whether the one before it is to be decided anew, which this one would come before."""
        return self._earlier is not None and self._earlier.failed

    def decide(self) -> None:
        """The next one may decide."""
        if not self.decided.called:
            self.decided.callback(None)

    def leave(self) -> None:
        """It is through, or will never be."""
        self.failed = False
        self._earlier = None  # or each would hold all before it
        self.decide()


class Overtaken(Exception):
    """A batch was decided on what the one before it then did not write."""


class Line:
    """The order of batches that are under way at once: one in the database, one ahead of it.

    They are decided in their order. A batch that is decided on memory need not wait for more:
    what it writes is proved in its turn, and if that fails the one after it is not written
    before it. One that reads and locks waits until all before it are through, and none looks
    into memory meanwhile.
    """

    def __init__(self) -> None:
        self._through: Deferred[None] = succeed(None)
        self._last: Place | None = None
        self._reading = 0

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place behind all that came before, when they are decided."""
        earlier, done = self._last, Deferred[None]()
        place = self._last = Place(self._through, earlier)
        self._through = done
        if earlier is not None:
            await _fired(earlier.decided)
        if self._reading:
            await _fired(place.before)
        try:
            yield place
        finally:
            place.leave()
            place.before.addCallback(lambda _: done.callback(None))

    @contextlib.asynccontextmanager
    async def reading(self, before: Deferred[None]) -> AsyncIterator[None]:
        """While this lasts, nobody who comes later looks into memory."""
        self._reading += 1
        try:
            await _fired(before)
            yield
        finally:
            self._reading -= 1


def _fired(deferred: Deferred[None]) -> Deferred[None]:
    """Fires when `deferred` does, which others may wait for too."""
    waiter: Deferred[None] = Deferred()
    deferred.addCallback(lambda _: waiter.callback(None))
    return waiter


async def charge(
    batch: list[ChargingRequest],
    store: ChargingStore,
    in_transaction: InTransaction,
    line: Line,
    look: Execute | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[ChargingAnswer]:
    """The answers to `batch`, committed.

    `in_transaction` runs its argument in a transaction, one after the other as they are
    asked for, and again when that lost a deadlock. `look` reads, beside such a transaction,
    what memory lacks. `check` is called before anything is written, and raises what ends it.
    """
    async with line.place() as place:
        recalled = _decide_from_memory(batch, store)
        if recalled is None and look is not None and await _look(batch, store, look):
            recalled = _decide_from_memory(batch, store)
        if recalled is not None:
            place.decide()
            answers = await _commit(recalled, place, store, in_transaction, check)
            if answers is not None:
                return answers
        async with line.reading(place.before):
            return await _charge_loaded(batch, store, in_transaction, check)


class Recalled(NamedTuple):
    """A batch decided on memory: the answers, and what makes them true."""

    ledger: Ledger
    answers: list[ChargingAnswer]
    statements: str


def _decide_from_memory(batch: list[ChargingRequest], store: ChargingStore) -> Recalled | None:
    """None when memory does not have it all, or its rows, of different ages, contradict each other.

    The next batch is decided on what this one makes of memory, before it is committed: if
    that fails, so does the proof of the next one.
    """
    ledger = store.recall(batch)
    if ledger is None:
        return None
    try:
        answers = decide_batch(ledger.batch, ledger)
        if ledger.profiles:  # a card's state changes on a row that is locked
            store.forget(ledger)
            return None
        statements = store.written(ledger)
        store.keep(ledger)
    except Exception:  # noqa: BLE001 - a bug does the same on rows that are read, and is told there
        store.forget(ledger)
        return None
    return Recalled(ledger, answers, statements)


async def _look(batch: list[ChargingRequest], store: ChargingStore, look: Execute) -> bool:
    """Whether memory holds more of what `batch` can touch than before."""
    try:
        return await store.look(look, batch)
    except Exception:  # noqa: BLE001 - it is read again, with locks, and what is wrong told there
        return False


async def _commit(
    recalled: Recalled,
    place: Place,
    store: ChargingStore,
    in_transaction: InTransaction,
    check: Callable[[], None],
) -> list[ChargingAnswer] | None:
    """The committed answers; None, and nothing changed, when memory was wrong."""

    async def write(transaction: Transaction) -> None:
        if place.overtakes:
            raise Overtaken
        check()
        # Told before the next transaction begins, which is as soon as this one has ended.
        place.failed = True
        await transaction.commit_with(recalled.statements)
        place.failed = False

    try:
        await in_transaction(write)
    except (DatabaseUnavailable, Late):
        store.forget(recalled.ledger)  # nobody knows whether it is committed, or it is not
        raise
    except Exception:  # noqa: BLE001 - as above
        store.forget(recalled.ledger)
        return None
    store.count(recalled.ledger)
    return recalled.answers


async def _charge_loaded(
    batch: list[ChargingRequest],
    store: ChargingStore,
    in_transaction: InTransaction,
    check: Callable[[], None],
) -> list[ChargingAnswer]:
    outcome: list[tuple[Ledger, list[ChargingAnswer]]] = []

    async def work(transaction: Transaction) -> None:
        ledger = await store.load(transaction, batch)
        check()
        outcome.append((ledger, decide_batch(ledger.batch, ledger)))
        await store.record(transaction, ledger)

    await in_transaction(work)
    ledger, answers = outcome[-1]
    store.keep(ledger)
    store.count(ledger)
    return answers


class OnlineCharging:
    """Charging requests in, committed answers out."""

    def __init__(
        self,
        database: ChargingDatabase,
        store: ChargingStore,
        *,
        clock: IReactorTime,
        batch_max: int,
        waiting_max: int,
        beside: Connection | None = None,
    ) -> None:
        """`beside` the charging connection accounts are read that memory does not hold."""
        self._clock = clock
        self._database = database
        self._store = store
        self._look = None if beside is None else beside.execute
        self._line = Line()
        self.commits = GroupCommit[ChargingRequest, ChargingAnswer](
            clock=clock,
            work=self._charge,
            batch_max=batch_max,
            waiting_max=waiting_max,
            ahead=True,
        )

    def ask(self, request: ChargingRequest) -> Deferred[ChargingAnswer]:
        """The committed answer to `request`.

        Fails with `Overloaded` at once when too many wait, and with `DatabaseUnavailable`
        when nobody knows whether it is on record: then the peer hears nothing and asks again.
        """
        return self.commits.submit(request)

    def ask_then(
        self,
        request: ChargingRequest,
        then: Callable[[ChargingAnswer | Exception], None],
        until: float = inf,
    ) -> None:
        """As `ask`; `then` is called with the committed answer, or with the exception.

        `until`, by the clock, is when nobody waits for the answer any more: what has not
        begun by then is dropped with `Late`.
        """
        self.commits.submit_then(request, then, until)

    def holds(self, client_id: int, session_key: str) -> bool:
        """Whether memory has a call in progress of that key."""
        return self._store.holds((client_id, session_key))

    async def _charge(self, batch: list[ChargingRequest], until: float) -> list[ChargingAnswer]:
        def check() -> None:
            if self._clock.seconds() > until:
                raise Late

        return await charge(
            batch, self._store, self._database.transaction, self._line, self._look, check
        )
