"""Wires everything: configuration in, a Twisted application out. No other module does.

One process holds a charging connection, a connection that reads changed price lists and
one that looks for silent calls and changed clients. `processes` more of the same kind
share the ports and the database.
"""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from aaa_server.accounting import Accounting
from aaa_server.auth import Authorization, Limits
from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import Expire
from aaa_server.group_commit import Overloaded
from aaa_server.online_charging import OnlineCharging
from aaa_server.radius.client import ClientTable
from aaa_server.radius.receive import Receiver
from aaa_server.radius.server import RadiusServer
from aaa_server.storage import watch
from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.charging_sql import PREPARED, SETTINGS
from aaa_server.storage.database import ChargingDatabase, Connection, DatabaseUnavailable

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from aaa_server.config import Config
    from aaa_server.storage.secrets import Keyring

log = Logger()

CLIENTS_SECONDS = 1.0  # between two looks for changed RADIUS clients
SILENT_LOOKS = 5  # every so many of them calls that have fallen silent are looked for

# Collections of what lives long would stop the answers for tens of milliseconds; the hot
# path makes no cycles, so young garbage may grow.
GARBAGE_THRESHOLDS = (50_000, 50, 1000)


class ChargingServer(Service):
    """One process's RADIUS ports on one database.

    `started` fires when it answers, or fails with the reason why it cannot.
    """

    name = "radius"

    def __init__(self, config: Config, url: str, keyring: Keyring, reactor: Any) -> None:
        self.started: Deferred[None] | None = None
        self._config = config
        self._keyring = keyring
        self._reactor = reactor
        self._sleeping: IDelayedCall | None = None
        self._client_revision = 0
        self._charging_connection = Connection(
            url, reactor=reactor, clock=reactor, settings=SETTINGS, prepared=PREPARED
        )
        self._price_connection = Connection(url, reactor=reactor, clock=reactor)
        self._watch_connection = Connection(url, reactor=reactor, clock=reactor)
        self._database = ChargingDatabase(self._charging_connection)
        self._catalogue = CatalogueHolder(self._price_connection)
        charging = config.charging
        store = ChargingStore(
            catalogue=self._catalogue,
            policy=Policy(
                grace_seconds=charging.grace_seconds,
                overrun_seconds=charging.overrun_seconds,
                assume_lost=charging.assume_lost,
                maximum_call_seconds=charging.maximum_call_seconds,
            ),
            unseal=self._unseal,
        )
        self.charging = OnlineCharging(
            self._database,
            store,
            clock=reactor,
            batch_max=charging.batch_max,
            waiting_max=charging.waiting_max,
        )
        self.authorization = Authorization(
            self.charging,
            now=self._now,
            limits=Limits(charging.slice_seconds, charging.maximum_call_seconds),
        )
        self.receiver = Receiver(ClientTable(()), reactor.seconds)
        self.server = RadiusServer(
            reactor,
            self.receiver,
            addresses=config.radius.address,
            auth_port=config.radius.auth_port,
            acct_port=config.radius.acct_port,
            answer_access=self.authorization.answer,
            answer_accounting=Accounting(self.charging, now=self._now).answer,
        )

    @property
    def ready(self) -> bool:
        """Ports open, and the database there."""
        return bool(self.server.ports) and self._charging_connection.available

    def startService(self) -> None:
        super().startService()
        self.started = ensureDeferred(self._start())

    async def _start(self) -> None:
        for connection in (
            self._charging_connection,
            self._price_connection,
            self._watch_connection,
        ):
            await connection.connect()
        await self._catalogue.refresh(self._charging_connection.execute)
        await self._reload_clients()
        # What is loaded now lives as long as the process: no collection looks at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        self.server.start()
        ensureDeferred(self._watch())

    async def stopService(self) -> None:  # type: ignore[override]  # Twisted takes a Deferred
        super().stopService()
        if self._sleeping is not None and self._sleeping.active():
            self._sleeping.cancel()
        self.server.stop()
        await self.charging.commits.stop()
        for connection in (
            self._charging_connection,
            self._price_connection,
            self._watch_connection,
        ):
            connection.close()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._reactor.seconds(), UTC)

    def _unseal(self, sealed: bytes, account_id: int, column: str) -> bytes:
        return self._keyring.unseal(sealed, table="account", row_id=account_id, column=column)

    async def _watch(self) -> None:
        """Look at clients and silent calls, again and again, while the service runs."""
        looks = 0
        while self.running:
            await self._sleep(CLIENTS_SECONDS)
            looks += 1
            try:
                await self._look_at_clients()
                if looks % SILENT_LOOKS == 0:
                    await self._close_silent_calls()
            except (DatabaseUnavailable, Overloaded):
                continue  # said where it happened; the next look is soon
            except Exception:  # noqa: BLE001 - one bad look must not end the looking
                log.failure("A look at the database failed")

    def _sleep(self, seconds: float) -> Deferred[None]:
        slept: Deferred[None] = Deferred()
        self._sleeping = self._reactor.callLater(seconds, slept.callback, None)
        return slept

    async def _look_at_clients(self) -> None:
        signing = self.receiver.take_newly_signing()
        if signing:
            await watch.note_signing(self._watch_connection, signing)
        if await watch.client_revision(self._watch_connection) != self._client_revision:
            await self._reload_clients()

    async def _reload_clients(self) -> None:
        revision = await watch.client_revision(self._watch_connection)
        clients = await watch.clients(self._watch_connection, self._keyring)
        self.receiver.clients = ClientTable(clients)
        self._client_revision = revision
        log.info("{count} RADIUS clients", count=len(clients))

    async def _close_silent_calls(self) -> None:
        at = self._now()
        silent = await watch.silent_calls(self._watch_connection, at)
        for closed in [self.charging.ask(Expire(*call, at)) for call in silent]:
            await closed
