"""Connections to PostgreSQL: one on the reactor for charging, plain ones for commands.

The charging connection is psycopg2 in its asynchronous mode, watched by the reactor: no
thread, and no hand-over between threads. It reconnects by itself; what was running when it
was lost fails with `DatabaseUnavailable`, and nothing is repeated behind the caller's back.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred, fail
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
    from twisted.python.failure import Failure

log = Logger()

CONNECT_SECONDS_MAX = 10.0
# A server whose machine vanished is given up after half a minute, not after the hours that
# TCP would wait. libpq's names; what the URL says is stronger.
KEEPALIVE = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
RECONNECT_SECONDS_MIN = 0.1
RECONNECT_SECONDS_MAX = 5.0
# A transaction that lost a deadlock or a serialisation race is run again at most so often.
RETRIES_MAX = 5

# SQLSTATEs after which no statement on this connection can do better: connection exceptions,
# a full disk, too many connections, a server that shuts down or starts up, failures of the
# operating system, and a server that has become a read-only standby.
UNAVAILABLE_STATES = (
    *("08", "53100", "53300", "57P01", "57P02", "57P03", "57P05", "58", "25006"),
    "25P03",  # the transaction stood still for longer than is allowed
)

Row = tuple[Any, ...]
Parameters: TypeAlias = "Sequence[object] | Mapping[str, object] | None"
Result = TypeVar("Result")


class DatabaseUnavailable(Exception):
    """There is no database to talk to, or it went away in the middle of something."""


# ------------------------------------------------------------------ plain connections


def connect(url: str, *, autocommit: bool = False) -> psycopg2.extensions.connection:
    """A blocking connection, for commands, tools and tests.

    Raises `DatabaseUnavailable` with libpq's reason.
    """
    try:
        connection = psycopg2.connect(_dsn(url, "sky-aaa"))
    except (psycopg2.OperationalError, psycopg2.ProgrammingError) as error:
        raise DatabaseUnavailable(reason_of(error)) from error
    connection.autocommit = autocommit
    return connection


@contextlib.contextmanager
def transaction(
    connection: psycopg2.extensions.connection,
) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor whose work is committed at the end of the block, or rolled back when it raises."""
    try:
        with connection.cursor() as cursor:
            yield cursor
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise
    connection.commit()


def _dsn(url: str, application: str) -> str:
    defaults = KEEPALIVE | {
        "connect_timeout": f"{CONNECT_SECONDS_MAX:.0f}",
        "fallback_application_name": application,
    }
    given = psycopg2.extensions.parse_dsn(url)
    return psycopg2.extensions.make_dsn(url, **(defaults | given))


def reason_of(error: BaseException) -> str:
    """The first line of what PostgreSQL or libpq said."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


# ------------------------------------------------------------------ on the reactor


@implementer(IReadWriteDescriptor)
class Watch:
    """Tells the reactor which descriptor to watch, and a `Connection` when it is ready.

    The descriptor is a duplicate: libpq may close its own at any moment, and epoll cannot
    forget a descriptor that is closed already.
    """

    def __init__(self, descriptor: int, ready: Callable[[], None], reactor: IReactorFDSet) -> None:
        self._descriptor = os.dup(descriptor)
        self._ready = ready
        self._reactor = reactor
        self._writing = False

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "PostgreSQL"

    def doRead(self) -> None:
        self._ready()

    def doWrite(self) -> None:
        self._ready()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted's signature
        """The reactor found the descriptor dead; libpq knows better what happened."""
        self._ready()

    def read(self) -> None:
        self._reactor.addReader(self)

    def write(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._reactor.addWriter(self)
        elif self._writing and not wanted:
            self._reactor.removeWriter(self)
        self._writing = wanted

    def close(self) -> None:
        if self._descriptor != -1:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            os.close(self._descriptor)
            self._descriptor = -1


class Connection:
    """One connection on the reactor: one statement at a time, autocommit, self-healing.

    `settings` ("name=value") and `prepared` (name -> SQL with $1, $2 … cast to their types) are
    applied whenever the connection is made. Statements are run by `EXECUTE name (%s, …)`.
    A `quiet` one tells only those who debug that it was lost and is back.
    """

    def __init__(
        self,
        url: str,
        *,
        reactor: IReactorFDSet,
        clock: IReactorTime,
        settings: Sequence[str] = (),
        prepared: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self.settings = list(settings)
        self.prepared = dict(prepared or {})
        self.statusmessage = ""
        self._url = url
        self._back_level = LogLevel.debug if quiet else LogLevel.info
        self._lost_level = LogLevel.debug if quiet else LogLevel.error
        self._reactor = reactor
        self._clock = clock
        self._connection: psycopg2.extensions.connection | None = None
        self._cursor: psycopg2.extensions.cursor | None = None
        self._watch: Watch | None = None
        self._running: Deferred[list[Row]] | None = None
        self._sent_at = 0.0
        self._ready = False
        self._closed = False
        self._lost_at: float | None = None
        self._delay_seconds = RECONNECT_SECONDS_MIN
        self._reconnecting: IDelayedCall | None = None

    @property
    def available(self) -> bool:
        """Connected, with its settings and prepared statements in place."""
        return self._ready

    @property
    def silent_seconds(self) -> float:
        """For how long the running statement has had no answer; 0 when none runs."""
        if self._running is None or not self._ready:
            return 0.0
        return self._clock.seconds() - self._sent_at

    async def connect(self) -> None:
        """Connects and prepares. Raises `DatabaseUnavailable`, and goes on trying by itself."""
        assert self._connection is None, "connected already"
        try:
            await self._open()
        except (psycopg2.Error, OSError) as error:
            self._lose(reason_of(error))
            raise DatabaseUnavailable(reason_of(error)) from error
        except DatabaseUnavailable as error:
            self._lose(str(error))
            raise

    def execute(self, sql: str, parameters: Parameters = None) -> Deferred[list[Row]]:
        """The rows of the last statement in `sql`, [] when that one returns none.

        Fails with `DatabaseUnavailable` when there is no connection or it is lost meanwhile,
        else with psycopg2's error. Cancelling it gives the connection up.
        """
        if not self._ready:
            return fail(DatabaseUnavailable("not connected to the database"))
        return self._send(sql, parameters)

    def close(self) -> None:
        """Ends the connection for good; what runs fails with `DatabaseUnavailable`."""
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            self._reconnecting = None
        self._drop("the connection was closed")

    async def _open(self) -> None:
        connection = psycopg2.connect(_dsn(self._url, "sky-aaa charging"), async_=True)
        self._connection = connection
        opened: Deferred[list[Row]] = Deferred(lambda _: self._lose("connecting took too long"))
        opened.addTimeout(CONNECT_SECONDS_MAX, self._clock, _took_too_long)
        self._running = opened
        self._poll_opening()
        await opened
        self._cursor = connection.cursor()
        self._watch = Watch(connection.fileno(), self._poll, self._reactor)
        self._watch.read()
        if self.settings:
            pairs = [setting.partition("=") for setting in self.settings]
            await self._send(
                "SELECT set_config(name, value, false)"
                "  FROM unnest(%s::text[], %s::text[]) AS setting (name, value)",
                ([name for name, _, _ in pairs], [value for _, _, value in pairs]),
            )
        for name, sql in self.prepared.items():
            await self._send(f"PREPARE {name} AS {sql}", None)
        self._ready = True
        self._delay_seconds = RECONNECT_SECONDS_MIN
        if self._lost_at is not None:
            log.emit(
                self._back_level,
                "The database is back after {seconds:.1f} s",
                seconds=self._clock.seconds() - self._lost_at,
            )
            self._lost_at = None

    def _poll_opening(self) -> None:
        # libpq may go through several sockets while it connects: each step watches anew.
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        connection, opened = self._connection, self._running
        if connection is None or opened is None:
            return
        try:
            state = connection.poll()
            if state == psycopg2.extensions.POLL_OK:
                self._running = None
                opened.callback([])
                return
            self._watch = Watch(connection.fileno(), self._poll_opening, self._reactor)
        except psycopg2.Error as error:
            self._running = None
            opened.errback(error)
            return
        if state == psycopg2.extensions.POLL_WRITE:
            self._watch.write(True)
        else:
            self._watch.read()

    def _send(self, sql: str, parameters: Parameters) -> Deferred[list[Row]]:
        assert self._running is None, "one statement at a time"
        if self._cursor is None:
            return fail(DatabaseUnavailable("not connected to the database"))
        running: Deferred[list[Row]] = Deferred(lambda _: self._lose("a statement was cancelled"))
        self._running = running
        self._sent_at = self._clock.seconds()
        try:
            self._cursor.execute(sql, parameters)
        except Exception as error:  # noqa: BLE001 - parameters that do not fit, or a dead socket
            self._finish_with(error)
        else:
            self._poll()
        return running

    def _poll(self) -> None:
        connection, watch = self._connection, self._watch
        if connection is None or watch is None:
            return
        try:
            state = connection.poll()
        except psycopg2.Error as error:
            self._finish_with(error)
            return
        watch.write(state == psycopg2.extensions.POLL_WRITE)
        if state == psycopg2.extensions.POLL_OK and self._running is not None:
            cursor = self._cursor
            assert cursor is not None
            try:
                rows = cursor.fetchall() if cursor.description is not None else []
            except Exception as error:  # noqa: BLE001 - a value that Python has no type for
                self._finish_with(error)
                return
            running, self._running = self._running, None
            self.statusmessage = cursor.statusmessage or ""
            running.callback(rows)

    def _finish_with(self, error: Exception) -> None:
        """Fails what runs: with `DatabaseUnavailable` when `error` says that the server is gone."""
        if isinstance(error, psycopg2.Error) and self._means_lost(error):
            self._lose(reason_of(error))
            return
        running, self._running = self._running, None
        if running is not None:
            running.errback(error)

    def _means_lost(self, error: psycopg2.Error) -> bool:
        if self._connection is None or self._connection.closed:
            return True
        if error.pgcode is None:
            # Not the server's word: libpq lost the socket, or psycopg2 was misused.
            return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or (
                type(error) is psycopg2.DatabaseError
            )
        return error.pgcode.startswith(UNAVAILABLE_STATES)

    def _lose(self, reason: str) -> None:
        """Gives the connection up and tries again later; said once until it is back."""
        if self._closed:
            return
        if self._lost_at is None:
            self._lost_at = self._clock.seconds()
            log.emit(self._lost_level, "The database is lost: {reason}", reason=reason)
        if self._reconnecting is None:
            self._reconnecting = self._clock.callLater(self._delay_seconds, self._reconnect)
            self._delay_seconds = min(2 * self._delay_seconds, RECONNECT_SECONDS_MAX)
        self._drop(reason)

    def _drop(self, reason: str) -> None:
        self._ready = False
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        connection, self._connection = self._connection, None
        self._cursor = None
        if connection is not None:
            connection.close()
        running, self._running = self._running, None
        if running is not None and not running.called:
            running.errback(DatabaseUnavailable(reason))

    def _reconnect(self) -> None:
        self._reconnecting = None

        async def again() -> None:
            # Its reason is logged, or was when the connection was lost, and the next try is set.
            with contextlib.suppress(DatabaseUnavailable):
                await self.connect()

        ensureDeferred(again())


def _took_too_long(_: object, seconds: float) -> list[Row]:
    raise DatabaseUnavailable(f"no connection within {seconds:.0f} s")


class Transaction:
    """The statements of one transaction, in as few round trips as they allow."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.begun = False
        self.committed = False

    def execute(self, sql: str, parameters: Parameters = None) -> Deferred[list[Row]]:
        """As `Connection.execute`; the first statement carries the BEGIN with it."""
        assert not self.committed, "the transaction is over"
        if not self.begun:
            self.begun = True
            sql = f"BEGIN; {sql}"
        return self._connection.execute(sql, parameters)

    async def commit_with(self, sql: str, parameters: Parameters = None) -> None:
        """Runs `sql` and commits, in one round trip. Nothing can be run after it."""
        await self.execute(f"{sql}; COMMIT", parameters)
        self._check_committed()

    async def commit(self) -> None:
        """Commits what was run; nothing when nothing was run or it is committed already."""
        if self.begun and not self.committed:
            await self._connection.execute("COMMIT")
            self._check_committed()

    def _check_committed(self) -> None:
        # COMMIT of a transaction that failed answers ROLLBACK, and raises nothing.
        assert self._connection.statusmessage == "COMMIT", "an error was swallowed"
        self.committed = True


class ChargingDatabase:
    """Transactions on the charging connection, one after the other."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.retries = 0
        self._turn = DeferredLock()

    async def transaction(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """What `work` returns, once its transaction is committed.

        `work` runs again, at most `RETRIES_MAX` times, when its transaction lost a deadlock
        or a serialisation race, so it changes nothing but the database. Whatever else it
        raises comes out here after a ROLLBACK.
        """
        await self._turn.acquire()
        try:
            for _ in range(RETRIES_MAX):
                try:
                    return await self._once(work)
                # Caught by its own name: psycopg2 makes it an OperationalError as well.
                except psycopg2.extensions.TransactionRollbackError as error:
                    self.retries += 1
                    log.warn("A transaction is run again: {reason}", reason=reason_of(error))
            return await self._once(work)
        finally:
            self._turn.release()

    async def _once(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        unit = Transaction(self.connection)
        try:
            result = await work(unit)
            await unit.commit()
        except DatabaseUnavailable:
            raise
        except Exception:
            if unit.begun and not unit.committed and self.connection.available:
                await self.connection.execute("ROLLBACK")
            raise
        return result
