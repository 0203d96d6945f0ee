"""The one door to the money: every protocol's question goes through here.

Questions that arrive while a transaction runs are gathered, and the next transaction
takes them all. The answer comes after COMMIT.

A batch is decided on rows in memory where all of them are held, and written in one round
trip that proves them; else, and when they prove wrong, on rows that are read and locked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

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
    batch: list[ChargingRequest], store: ChargingStore, in_transaction: InTransaction
) -> list[ChargingAnswer]:
    """The answers to `batch`, committed.

    `in_transaction` runs its argument in a transaction, again when that lost a deadlock.
    """
    ledger = store.recall(batch)
    if ledger is not None:
        answers = await _charge_from_memory(batch, ledger, store, in_transaction)
        if answers is not None:
            return answers
    outcome: list[tuple[Ledger, list[ChargingAnswer]]] = []

    async def work(transaction: Transaction) -> None:
        fresh = await store.load(transaction, batch)
        outcome.append((fresh, decide_batch(batch, fresh)))
        await store.record(transaction, fresh)

    await in_transaction(work)
    loaded, answers = outcome[-1]
    store.keep(loaded)
    return answers


async def _charge_from_memory(
    batch: list[ChargingRequest],
    ledger: Ledger,
    store: ChargingStore,
    in_transaction: InTransaction,
) -> list[ChargingAnswer] | None:
    """The committed answers; None, and nothing changed, when memory was wrong.

    Remembered rows may also contradict each other, being of different ages. What goes wrong
    for another reason does so again on rows that are read, and is told there.
    """
    try:
        answers = decide_batch(batch, ledger)
        await in_transaction(lambda transaction: store.record(transaction, ledger))
    except DatabaseUnavailable:
        store.forget(ledger)  # nobody knows whether it is committed
        raise
    except Exception:  # noqa: BLE001
        store.forget(ledger)
        return None
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
        self.commits = GroupCommit[ChargingRequest, ChargingAnswer](
            clock=clock, work=self._charge, batch_max=batch_max, waiting_max=waiting_max
        )

    def ask(self, request: ChargingRequest) -> Deferred[ChargingAnswer]:
        """The committed answer to `request`.

        Fails with `Overloaded` at once when too many wait, and with `DatabaseUnavailable`
        when nobody knows whether it is on record: then the peer hears nothing and asks again.
        """
        return self.commits.submit(request)

    async def _charge(self, batch: list[ChargingRequest]) -> list[ChargingAnswer]:
        return await charge(batch, self._store, self._database.transaction)
