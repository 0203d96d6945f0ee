"""Wires everything: configuration in, a Twisted application out. No other module does.

One process holds a charging connection, one that reads accounts it has not met beside it,
one that reads changed price lists and one that looks for silent calls and changed clients.
Further processes of the same kind share the ports and the database; the first one starts
them and takes them down. Each other service (the worker) runs in such a process too: what
is slow never holds up an answer.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import Application, MultiService, Service
from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from aaa_server.accounting import Accounting
from aaa_server.auth import Authorization, Limits
from aaa_server.charging.requests import Expire
from aaa_server.demo import load_demo
from aaa_server.emergency import EmergencyCalls
from aaa_server.group_commit import Overloaded
from aaa_server.large_pages import use_large_pages
from aaa_server.metrics import Metrics, MetricsService
from aaa_server.online_charging import OnlineCharging, policy_of
from aaa_server.radius.client import ClientTable
from aaa_server.radius.nonce import Nonces
from aaa_server.radius.receive import Receiver
from aaa_server.radius.server import RadiusServer
from aaa_server.session_keys import SessionKeys
from aaa_server.storage import watch
from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.charging_sql import LOOKS, PREPARED, SETTINGS
from aaa_server.storage.database import (
    ChargingDatabase,
    Connection,
    DatabaseUnavailable,
    connect,
    transaction,
)
from aaa_server.storage.embedded import OpenDatabase, open_database
from aaa_server.storage.migrate import migrate
from aaa_server.storage.revival import Revival
from aaa_server.storage.sealed import open_keyring
from aaa_server.storage.secrets import SecretsError
from aaa_server.storage.sessions import KEYS
from aaa_server.storage.silence import SILENT_SECONDS_MAX, Silence
from aaa_server.worker.service import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from aaa_server.config import Config
    from aaa_server.storage.route_refusal import RouteRefusals
    from aaa_server.storage.secrets import Keyring

log = Logger()

CLIENTS_SECONDS = 1.0  # between two looks for changed RADIUS clients
RESTART_SECONDS_MIN = 0.5
RESTART_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0  # for the transaction in flight and what waits behind it
LAST_COUNTS_SECONDS_MAX = 1.0  # for what was counted since they were last written
ACCOUNTS_AT_START_MAX = 50_000  # half a second; the others while calls are answered
WARM_UP_PAUSE_SECONDS = 0.01
COUNTS_LOOKS = 5  # every so many of them what was counted is written
NONCE_PURPOSE = "digest nonce"
# A process that stands still amid a transaction gives up its locks: the others go on.
IDLE_LIMIT = "idle_in_transaction_session_timeout=60s"

# Fewer requests than this between two looks: time to look for garbage.
QUIET_REQUESTS = 100
# And for putting memory that has come into use since into large pages.
TIDY_SECONDS_MAX = 0.02


class ChargingServer(Service):
    """One process's RADIUS ports on one database.

    `started` fires when it answers, or fails with the reason why it cannot.
    """

    name = "radius"

    def __init__(
        self, config: Config, url: str, keyring: Keyring, reactor: Any, *, first: bool
    ) -> None:
        self.started: Deferred[None] | None = None
        self._config = config
        self._keyring = keyring
        self._reactor = reactor
        self._sleeping: IDelayedCall | None = None
        self._requests_before = 0
        self._client_revision = 0
        self._silent_calls = watch.SilentCalls()
        self._held = 0  # the last account that was taken into memory, until all are
        self._url = url
        connection = partial(Connection, url, reactor=reactor, clock=reactor)
        self._charging_connection = connection(settings=(*SETTINGS, IDLE_LIMIT), prepared=PREPARED)
        # All five are lost together: one of them says so.
        self._look_connection = connection(settings=SETTINGS, prepared=LOOKS, quiet=True)
        self._session_connection = connection(settings=SETTINGS, prepared=KEYS, quiet=True)
        self._price_connection = connection(quiet=True)
        self._watch_connection = connection(quiet=True)
        # The one that reads accounts is used with the first, and new prices may take long to read.
        self.silence = Silence(
            (self._charging_connection, self._session_connection, self._watch_connection), reactor
        )
        self._database = ChargingDatabase(self._charging_connection)
        self._catalogue = CatalogueHolder(self._price_connection, reactor)
        self._nonces = Nonces(keyring.derive(NONCE_PURPOSE))
        charging = config.charging
        self._store = ChargingStore(
            catalogue=self._catalogue,
            policy=policy_of(charging),
            unseal=self._unseal,
        )
        self.charging = OnlineCharging(
            self._database,
            self._store,
            clock=reactor,
            batch_max=charging.batch_max,
            waiting_max=charging.waiting_max,
            beside=self._look_connection,
        )
        self.sessions = SessionKeys(
            self.charging, self._session_connection.execute, clock=reactor, now=_now
        )
        self.emergency = EmergencyCalls(self.charging, reactor, lambda: self._catalogue.held)
        self.authorization = Authorization(
            self.charging,
            now=_now,
            limits=Limits(charging.slice_seconds, charging.maximum_call_seconds),
            nonces=self._nonces,
            emergency=self.emergency,
            catalogue=lambda: self._catalogue.held,
            realm=config.radius.digest_realm,
        )
        self.receiver = Receiver(ClientTable(()), reactor.seconds)
        self.server = RadiusServer(
            reactor,
            self.receiver,
            clock=reactor,
            addresses=config.radius.address,
            auth_port=config.radius.auth_port,
            acct_port=config.radius.acct_port,
            answer_access=self.authorization.answer,
            answer_accounting=Accounting(self.charging, self.sessions, now=_now).answer,
            first=first,
        )

    @property
    def _connections(self) -> tuple[Connection, ...]:
        return (
            self._charging_connection,
            self._look_connection,
            self._session_connection,
            self._price_connection,
            self._watch_connection,
        )

    @property
    def accounts_held(self) -> int:
        """How many accounts are in memory."""
        return self._store.accounts_held

    @property
    def warming_up(self) -> bool:
        """Whether more accounts are being taken into memory."""
        return self._held > 0

    @property
    def route_refusals(self) -> RouteRefusals:
        """Routes that were not offered for their margin."""
        return self._store.route_refusals

    @property
    def dropped(self) -> dict[str, int]:
        """Requests that had no answer and were not begun, by reason."""
        commits = self.charging.commits
        return {
            "overloaded": commits.overloaded + self.sessions.overloaded,
            "late": commits.late,
        }

    @property
    def connected(self) -> bool:
        """Whether there is a database, which may stand still."""
        return self._charging_connection.available

    def not_ready(self) -> str:
        """Why calls cannot be answered now; '' when they can."""
        if not self.connected:
            return "no database"
        if not self.server.ports:
            return "starting"
        oldest_seconds = self.charging.commits.oldest_seconds
        if not self.silence.reason and oldest_seconds > SILENT_SECONDS_MAX:
            return f"the oldest request has waited for {oldest_seconds:.0f} s"
        return self.silence.reason

    def startService(self) -> None:
        Service.startService(self)
        self.started = ensureDeferred(self._start())

    async def _start(self) -> None:
        for connection in self._connections:
            await connection.connect()
        # Millions of rows make no garbage; looking for it among them would take a third longer.
        gc.disable()
        await self._catalogue.refresh(self._charging_connection.execute)
        self._held = await self._store.warm_up(
            self._charging_connection.execute, rows=ACCOUNTS_AT_START_MAX
        )
        await self._reload_clients()
        # What is loaded now lives as long as the process: no collection looks at it again.
        # The hot path makes no cycles, so others wait for a quiet second: looking through
        # what a hundred thousand calls hold would stop the answers for a tenth of one.
        _tidy_memory()
        log.info("{size} MB of memory are in large pages", size=use_large_pages() // 1_000_000)
        self.server.start()
        self.silence.start()
        ensureDeferred(self._watch())
        if self.warming_up:
            ensureDeferred(self._warm_up())

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self._sleeping is not None and self._sleeping.active():
            self._sleeping.cancel()
        self.silence.stop()
        self.server.stop()
        idle = ensureDeferred(self._idle())
        idle.addTimeout(STOP_SECONDS_MAX, self._reactor)
        # What a frozen database still holds is not answered; closing the connection fails it.
        with contextlib.suppress(TimeoutError):
            await idle
        written = ensureDeferred(self._write_route_refusals())
        written.addTimeout(LAST_COUNTS_SECONDS_MAX, self._reactor)
        with contextlib.suppress(TimeoutError, DatabaseUnavailable):
            await written
        for connection in self._connections:
            connection.close()

    async def _idle(self) -> None:
        await self.sessions.stop()
        await self.charging.commits.stop()

    def _unseal(self, sealed: bytes, account_id: int, column: str) -> bytes:
        return self._keyring.unseal(sealed, table="account", row_id=account_id, column=column)

    async def _watch(self) -> None:
        """Look at clients and silent calls, again and again, while the service runs."""
        looks = 0
        problem = ""
        while self.running:
            await self._sleep(CLIENTS_SECONDS)
            looks += 1
            try:
                self._tidy_when_quiet()
                self._look_at_key_file()
                await self._look_at_clients()
                await self._close_silent_calls()
                if looks % COUNTS_LOOKS == 0:
                    await self._write_route_refusals()
                problem = ""
            except (DatabaseUnavailable, Overloaded):
                continue  # said where it happened; the next look is soon
            except SecretsError as error:
                # The clients stay as they were; said once, not every second.
                if str(error) != problem:
                    problem = str(error)
                    log.error("Changed RADIUS clients are not used: {reason}", reason=problem)
            except Exception:  # noqa: BLE001 - one bad look must not end the looking
                log.failure("A look at the database failed")

    async def _warm_up(self) -> None:
        """Hold the other accounts too, a slice at a time beside the answers."""
        connection = Connection(
            self._url, reactor=self._reactor, clock=self._reactor, prepared=LOOKS, quiet=True
        )
        try:
            await connection.connect()
            while self.running and self._held:
                self._held = await self._store.warm_up(connection.execute, self._held)
                gc.freeze()  # as after the start: no collection looks at them
                await deferLater(self._reactor, WARM_UP_PAUSE_SECONDS)
            log.info("{count} accounts are in memory", count=self.accounts_held)
        except (DatabaseUnavailable, SecretsError):
            log.info("Accounts that are not in memory are read as they are met")
        finally:
            self._held = 0
            connection.close()

    def _sleep(self, seconds: float) -> Deferred[None]:
        slept: Deferred[None] = Deferred()
        self._sleeping = self._reactor.callLater(seconds, slept.callback, None)
        return slept

    def _tidy_when_quiet(self) -> None:
        requests = self.charging.commits.requests
        if requests - self._requests_before < QUIET_REQUESTS:
            _tidy_memory()
            use_large_pages(TIDY_SECONDS_MAX)
        self._requests_before = requests

    def _look_at_key_file(self) -> None:
        try:
            if self._keyring.refresh():
                self._nonces.keys = self._keyring.derive(NONCE_PURPOSE)
                log.info("The key file has changed and was read again")
        except SecretsError as error:
            log.error("The changed key file is not used: {reason}", reason=str(error))

    async def _look_at_clients(self) -> None:
        signing = self.receiver.newly_signing.copy()
        if signing:
            await watch.note_signing(self._watch_connection, signing)
            self.receiver.newly_signing -= signing
        if await watch.client_revision(self._watch_connection) != self._client_revision:
            await self._reload_clients()

    async def _reload_clients(self) -> None:
        revision = await watch.client_revision(self._watch_connection)
        clients = await watch.clients(self._watch_connection, self._keyring)
        self.receiver.clients = ClientTable(clients)
        self._client_revision = revision
        log.info("{count} RADIUS clients", count=len(clients))

    async def _write_route_refusals(self) -> None:
        await self._store.route_refusals.write(self._watch_connection, _now())

    async def _close_silent_calls(self) -> None:
        at = _now()
        silent = await self._silent_calls.look(self._watch_connection.execute, at)
        for closed in [self.charging.ask(Expire(*call, at)) for call in silent]:
            await closed


# Asked for each request, so without a function of ours around it.
_now = partial(datetime.now, UTC)


def _tidy_memory() -> None:
    """Free cycles; what is left is not looked at again."""
    gc.collect()
    gc.freeze()


class Sibling(ProcessProtocol):
    """One further server process; started again when it dies, more slowly each time."""

    def __init__(self, reactor: Any, command: list[str]) -> None:
        self.ended: Deferred[None] | None = None
        self._reactor = reactor
        self._command = command
        self._stopping = False
        self._delay_seconds = RESTART_SECONDS_MIN
        self._restart: IDelayedCall | None = None

    def start(self) -> None:
        self._restart = None
        self.ended = Deferred()
        self._reactor.spawnProcess(
            self,
            self._command[0],
            self._command,
            env=os.environ,
            # Its standard input is a pipe that ends with this process, however that ends.
            childFDs={0: "w", 1: 1, 2: 2},
        )

    def processEnded(self, reason: Failure) -> None:
        ended, self.ended = self.ended, None
        assert ended is not None
        ended.callback(None)
        if not self._stopping:
            log.error("A server process ended: {reason}", reason=reason.getErrorMessage())
            self._restart = self._reactor.callLater(self._delay_seconds, self.start)
            self._delay_seconds = min(2 * self._delay_seconds, RESTART_SECONDS_MAX)

    def stop(self) -> Deferred[None]:
        """Fires when it has ended."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
        if self.ended is None:
            return succeed(None)
        assert self.transport is not None
        # No signal: Ctrl-C goes to all processes of a terminal, and one may be stopping by it.
        self.transport.closeStdin()
        return self.ended


@implementer(IReadDescriptor)
class Elder:
    """A further process's view of the one that started it: a pipe on standard input.

    `gone` is called when the elder has ended, so that nobody keeps the ports without it.
    """

    def __init__(self, reactor: Any, gone: Callable[[], None]) -> None:
        self._reactor = reactor
        self._gone = gone
        reactor.addReader(self)

    def fileno(self) -> int:
        return 0

    def logPrefix(self) -> str:
        return "elder"

    def doRead(self) -> None:
        if not os.read(0, 4096):
            self._ended()

    def connectionLost(self, _reason: Failure) -> None:
        self._ended()

    def close(self) -> None:
        """Look no more: this process ends by itself."""
        self._reactor.removeReader(self)

    def _ended(self) -> None:
        self.close()
        self._gone()


class SkyAaa(MultiService):
    """The whole server: database, the first of its services, metrics, further processes.

    RADIUS comes first where it is one of them. Each other service gets a process of its own.
    `ready` fires with this service once it answers; it fails with the reason why it cannot.
    `stand_alone` False: a further process, whose elder looks after the database. `options`
    are what `sky-aaa` was given before `serve`; further processes get them too.
    """

    def __init__(
        self,
        config: Config,
        *,
        reactor: Any,
        demo: bool = False,
        stand_alone: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.ready: Deferred[SkyAaa] = Deferred()
        self.radius: ChargingServer | None = None
        self.worker: Worker | None = None
        self.metrics: MetricsService | None = None
        self._config = config
        self._reactor = reactor
        self._demo = demo
        self._stand_alone = stand_alone
        self._options = options
        self._opened: OpenDatabase | None = None
        self._revival: Revival | None = None
        self._siblings: list[Sibling] = []
        self._elder: Elder | None = None

    @property
    def first(self) -> str:
        """The service that this process runs."""
        services = self._config.services
        return "radius" if "radius" in services else services[0]

    @property
    def beside(self) -> list[str]:
        """The services that run in processes of their own."""
        return [service for service in self._config.services if service != self.first]

    def startService(self) -> None:
        ensureDeferred(self._start()).addCallbacks(self.ready.callback, self.ready.errback)

    async def _start(self) -> SkyAaa:
        config = self._config
        self._opened = open_database(config)
        with contextlib.closing(connect(self._opened.url)) as connection:
            keyring = open_keyring(config.secrets.key_file, connection)
        if self._stand_alone:
            prepare(self._opened.url, keyring, demo=self._demo)
        service, metrics = self._first_service(self._opened.url, keyring)
        service.setServiceParent(self)
        self.metrics = MetricsService(
            reactor=self._reactor,
            address=config.metrics.address,
            port=config.metrics.port,
            metrics=metrics,
            not_ready=service.not_ready,
        )
        self.metrics.setServiceParent(self)
        MultiService.startService(self)
        assert service.started is not None
        await service.started
        if self._opened.embedded is not None:
            self._revival = Revival(self._opened.embedded, lambda: service.connected, self._reactor)
            self._revival.start()
        if self._stand_alone:
            self._start_siblings()
        else:
            self._elder = Elder(self._reactor, self._elder_gone)
        return self

    def _first_service(self, url: str, keyring: Keyring) -> tuple[ChargingServer | Worker, Metrics]:
        """The service that this process runs, and what is counted of it."""
        config = self._config
        if self.first == "radius":
            self.radius = ChargingServer(
                config, url, keyring, self._reactor, first=self._stand_alone
            )
            return self.radius, metrics_of(self.radius)
        self.worker = Worker(config, url, keyring, self._reactor)
        return self.worker, worker_metrics_of(self.worker)

    def _start_siblings(self) -> None:
        same = self._config.radius.processes - 1 if self.first == "radius" else 0
        program = (sys.executable, "-c", "from aaa_server.cli.main import main; main()")
        for service in ["radius"] * same + self.beside:
            command = [*program, *self._options, "serve", service, "--sibling"]
            sibling = Sibling(self._reactor, command)
            self._siblings.append(sibling)
            sibling.start()

    def _elder_gone(self) -> None:
        log.info("The process that started this one has ended or ends: this one too")
        # In the next turn, after a signal that came to both: Twisted stops once and no more.
        self._reactor.callLater(0, stop_reactor, self._reactor)

    def stopService(self) -> Deferred[None]:
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self._elder is not None:
            self._elder.close()
        if self._revival is not None:
            await self._revival.stop()
        for ended in [sibling.stop() for sibling in self._siblings]:
            await ended
        if self.running:
            await MultiService.stopService(self)
        if self._opened is not None:
            self._opened.close()


def prepare(url: str, keyring: Keyring, *, demo: bool) -> None:
    """Bring the schema up to date and, for a demo, load its data once."""
    connection = connect(url)
    try:
        for name in migrate(connection):
            log.info("Applied {name}", name=name)
        if demo:
            with transaction(connection) as cursor:
                if load_demo(cursor, keyring):
                    log.info("Loaded the demo data")
    finally:
        connection.close()


def metrics_of(radius: ChargingServer) -> Metrics:
    """What /metrics shows of one process."""
    metrics = Metrics()
    commits = radius.charging.commits
    metrics.counter("sky_aaa_batches", "Transactions committed", lambda: commits.batches)
    metrics.counter("sky_aaa_requests", "Requests in them", lambda: commits.requests)
    metrics.counters(
        "sky_aaa_dropped",
        "Requests dropped unanswered: too many waited, or nobody waited for the answer any more",
        "reason",
        lambda: radius.dropped,
    )
    metrics.gauge(
        "sky_aaa_waiting", "Requests that wait for a transaction", lambda: commits.waiting
    )
    metrics.gauge(
        "sky_aaa_oldest_seconds",
        "Age of the oldest request that has no answer yet",
        lambda: commits.oldest_seconds,
    )
    metrics.gauge(
        "sky_aaa_database_silent_seconds",
        "For how long the oldest statement has had no answer",
        lambda: radius.silence.seconds,
    )
    metrics.gauge("sky_aaa_accounts_held", "Accounts in memory", lambda: radius.accounts_held)
    metrics.gauge(
        "sky_aaa_warming_up", "1: more are being taken into it", lambda: int(radius.warming_up)
    )
    metrics.gauge("sky_aaa_largest_batch", "Most requests in one", lambda: commits.largest)
    metrics.counters(
        "sky_aaa_refusals", "Calls refused", "reason", lambda: radius.authorization.refusals
    )
    emergency = radius.emergency
    metrics.counter(
        "sky_aaa_emergency_passed",
        "Emergency calls let through without a record",
        lambda: emergency.passed,
    )
    metrics.gauge(
        "sky_aaa_emergency_waiting",
        "Those of them that are not on record yet",
        lambda: emergency.waiting,
    )
    metrics.counter(
        "sky_aaa_margin_refused_routes",
        "Routes not offered since less than the minimum margin would have been left",
        lambda: radius.route_refusals.total,
    )
    metrics.counters(
        "sky_aaa_packets",
        "Packets by port and what became of them",
        "what",
        lambda: {f"{role} {what}": count for (role, what), count in radius.receiver.counts.items()},
    )
    return metrics


def worker_metrics_of(worker: Worker) -> Metrics:
    """What /metrics shows of the worker's process."""
    metrics = Metrics()
    shift = worker.shift
    metrics.gauge(
        "sky_aaa_worker", "1: this process is the worker, 0: it waits", lambda: int(shift.leads)
    )
    metrics.gauge(
        "sky_aaa_database_silent_seconds",
        "For how long its statement for orders to switches has had no answer",
        lambda: worker.silence.seconds,
    )
    metrics.counters("sky_aaa_job_runs", "Runs of a job", "job", lambda: dict(shift.runs))
    metrics.counters(
        "sky_aaa_job_failures", "Runs that failed", "job", lambda: dict(shift.failures)
    )
    metrics.counters(
        "sky_aaa_disconnects",
        "Orders to switches to end a call, by what came of them; packets sent; packets ignored",
        "what",
        lambda: dict(worker.disconnects.counts),
    )
    return metrics


def make_application(config: Config, *, demo: bool = False) -> Any:
    """The application that `twistd` and `sky-aaa serve` run.

    A server that cannot start says why and stops the reactor.
    """
    from twisted.internet import reactor

    application = Application("sky-aaa")
    sky = SkyAaa(config, reactor=reactor, demo=demo)
    sky.ready.addErrback(_give_up, reactor)
    sky.setServiceParent(application)
    return application


def _give_up(failure: Failure, reactor: Any) -> None:
    log.critical("Cannot start: {reason}", reason=failure.getErrorMessage())
    reactor.callWhenRunning(stop_reactor, reactor)


def stop_reactor(reactor: Any) -> None:
    """Stop the reactor, unless it is stopping already."""
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()
