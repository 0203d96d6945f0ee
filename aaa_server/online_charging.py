"""The one door to the money: every protocol's question goes through here.

Questions that arrive while a transaction runs are gathered, and the next transaction
takes them all. The answer comes after COMMIT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.decide import decide_batch
from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import ChargingAnswer, ChargingRequest
from aaa_server.group_commit import GroupCommit

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from aaa_server.config import ChargingConfig
    from aaa_server.storage.charging import ChargingStore
    from aaa_server.storage.database import ChargingDatabase, Transaction


def policy_of(charging: ChargingConfig) -> Policy:
    """The operator's rules, from the configuration."""
    return Policy(
        grace_seconds=charging.grace_seconds,
        overrun_seconds=charging.overrun_seconds,
        assume_lost=charging.assume_lost,
        maximum_call_seconds=charging.maximum_call_seconds,
    )


async def charge(
    transaction: Transaction, batch: list[ChargingRequest], store: ChargingStore
) -> list[ChargingAnswer]:
    """One transaction: load what the batch needs, decide, record what changed."""
    ledger = await store.load(transaction, batch)
    answers = decide_batch(batch, ledger)
    await store.record(transaction, ledger)
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
        async def work(transaction: Transaction) -> list[ChargingAnswer]:
            return await charge(transaction, batch, self._store)

        return await self._database.transaction(work)
