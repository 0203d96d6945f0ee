"""The one door to the money: every protocol's question goes through here.

Questions that arrive while a transaction runs are gathered, and the next transaction
takes them all. The answer comes after COMMIT.

A batch is decided on rows in memory where all of them are held, and written in one round
trip that proves them; else, and when they prove wrong, on rows that are read and locked.
While the database works on a batch, the next one is decided ahead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import DeferredLock

from aaa_server.charging.decide import decide_batch
from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import ChargingAnswer, ChargingRequest
from aaa_server.group_commit import GroupCommit
from aaa_server.storage.charging import Transaction
from aaa_server.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from aaa_server.charging.ledger import Ledger
    from aaa_server.config import ChargingConfig
    from aaa_server.storage.charging import ChargingStore
    from aaa_server.storage.database import ChargingDatabase

InTransaction = Callable[[Callable[[Transaction], Awaitable[None]]], Awaitable[None]]


def policy_of(charging: ChargingConfig) -> Policy:
    """The operator's rules, from the configuration."""
    return Policy(
        grace_seconds=charging.grace_seconds,
        overrun_seconds=charging.overrun_seconds,
        assume_lost=charging.assume_lost,
        maximum_call_seconds=charging.maximum_call_seconds,
    )


async def charge(
    batch: list[ChargingRequest],
    store: ChargingStore,
    in_transaction: InTransaction,
    order: DeferredLock,
) -> list[ChargingAnswer]:
    """The answers to `batch`, committed.

    `in_transaction` runs its argument in a transaction, one after the other as they are
    asked for, and again when that lost a deadlock. `order` is held while memory is worked
    on: a batch that is read and locked holds it to its end, one that is decided on memory
    only until it waits for its transaction, so that the next can be decided meanwhile.
    """
    await order.acquire()
    recalled = _decide_from_memory(batch, store)
    if recalled is not None:
        order.release()
        answers = await _commit(recalled, store, in_transaction)
        if answers is not None:
            return answers
        await order.acquire()
    try:
        return await _charge_loaded(batch, store, in_transaction)
    finally:
        order.release()


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
        answers = decide_batch(batch, ledger)
        statements = store.written(ledger)
        store.keep(ledger)
    except Exception:  # noqa: BLE001 - a bug does the same on rows that are read, and is told there
        store.forget(ledger)
        return None
    return Recalled(ledger, answers, statements)


async def _commit(
    recalled: Recalled, store: ChargingStore, in_transaction: InTransaction
) -> list[ChargingAnswer] | None:
    """The committed answers; None, and nothing changed, when memory was wrong."""
    try:
        await in_transaction(lambda transaction: transaction.commit_with(recalled.statements))
    except DatabaseUnavailable:
        store.forget(recalled.ledger)  # nobody knows whether it is committed
        raise
    except Exception:  # noqa: BLE001 - as above
        store.forget(recalled.ledger)
        return None
    return recalled.answers


async def _charge_loaded(
    batch: list[ChargingRequest], store: ChargingStore, in_transaction: InTransaction
) -> list[ChargingAnswer]:
    outcome: list[tuple[Ledger, list[ChargingAnswer]]] = []

    async def work(transaction: Transaction) -> None:
        ledger = await store.load(transaction, batch)
        outcome.append((ledger, decide_batch(batch, ledger)))
        await store.record(transaction, ledger)

    await in_transaction(work)
    ledger, answers = outcome[-1]
    store.keep(ledger)
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
    ) -> None:
        self._database = database
        self._store = store
        self._order = DeferredLock()
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

    async def _charge(self, batch: list[ChargingRequest]) -> list[ChargingAnswer]:
        return await charge(batch, self._store, self._database.transaction, self._order)
