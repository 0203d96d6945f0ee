"""The worker: one at a time on one database, in a process that answers no calls.

The session that runs the jobs holds the lock that makes it the worker. So whoever has lost
the database has lost the lock too, and commits nothing any more; the next worker has it as
soon as the database notices that this one is gone. Jobs that wait for mail servers, or write
for minutes, have a session, a thread and a lock of their own beside the quick ones.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg2
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from aaa_server.storage import jobs
from aaa_server.storage.database import (
    Connection,
    DatabaseUnavailable,
    connect,
    reason_of,
    transaction,
)
from aaa_server.storage.silence import Silence
from aaa_server.worker.disconnects import Disconnects
from aaa_server.worker.job import due, run_job, utc_now
from aaa_server.worker.jobs import jobs_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from psycopg2.extensions import connection as PsycopgConnection
    from twisted.internet.interfaces import IDelayedCall

    from aaa_server.config import Config
    from aaa_server.storage.secrets import Keyring
    from aaa_server.worker.job import Job

log = Logger()

TURN_SECONDS = 1.0  # between two looks for jobs that are due, orders to send, or the lock


class Shift:
    """The worker's blocking half, for a thread: takes the lock, then runs what is due."""

    def __init__(
        self,
        url: str,
        known: list[Job],
        now: Callable[[], datetime],
        lock: int = jobs.WORKER_LOCK,
    ) -> None:
        self.runs: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.leads = False
        self._lock = lock
        self._url = url
        self._jobs = known
        self._now = now
        self._connection: PsycopgConnection | None = None
        self._stopping = False

    def turn(self) -> bool:
        """Run what is due, if this is the worker or becomes it now; says whether it is.

        Raises `DatabaseUnavailable`: then somebody else may be the worker.
        """
        try:
            connection = self._open()
            if not self.leads:
                with transaction(connection) as cursor:
                    self.leads = jobs.lead(cursor, self._lock)
            for job in due(connection, self._jobs, self._now()) if self.leads else ():
                if self._stopping:
                    break
                ran = run_job(connection, job, self._now)
                self.runs[job.name] += 1
                self.failures[job.name] += bool(ran.problem)
        except psycopg2.Error as error:
            self.close()
            raise DatabaseUnavailable(reason_of(error)) from error
        return self.leads

    def interrupt(self) -> None:
        """Have a running job end at once, from another thread: as if its process were killed."""
        self._stopping = True
        connection = self._connection
        if connection is not None and not connection.closed:
            with (
                contextlib.suppress(OSError, psycopg2.Error),
                # A duplicate: the descriptor itself is libpq's, to be closed once.
                socket.socket(fileno=os.dup(connection.fileno())) as wire,
            ):
                wire.shutdown(socket.SHUT_RDWR)
        # After the database: what is broken off here is no failure that anybody notes.
        for job in self._jobs:
            if job.interrupt is not None:
                job.interrupt()

    def close(self) -> None:
        """End the session, and the lock with it."""
        self.leads = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> PsycopgConnection:
        if self._connection is None:
            self._connection = connect(self._url)
            with transaction(self._connection) as cursor:
                # So that a job does not outlive its process for longer than that.
                cursor.execute("SET client_connection_check_interval = '1s'")
        return self._connection


class Worker(Service):
    """Jobs in a thread, orders to switches on the reactor; both only while it is the worker.

    `started` fires when it runs, the worker or waiting to be it.
    """

    name = "worker"

    def __init__(self, config: Config, url: str, keyring: Keyring, reactor: Any) -> None:
        self.started: Deferred[None] | None = None
        known = jobs_of(config.worker, config.smtp)
        self.shift = Shift(url, [job for job in known if not job.slow], utc_now)
        self.slow = Shift(url, [job for job in known if job.slow], utc_now, jobs.SLOW_LOCK)
        # One count of all jobs.
        self.slow.runs, self.slow.failures = self.shift.runs, self.shift.failures
        self._reactor = reactor
        self._connection = Connection(url, reactor=reactor, clock=reactor, quiet=True)
        self.silence = Silence((self._connection,), reactor)
        self.disconnects = Disconnects(reactor, self._connection, keyring, config, clock=reactor)
        self._sleeping: set[IDelayedCall] = set()
        self._loops: list[Deferred[None]] = []
        self._without: set[Shift] = set()  # those that have lost the database

    @property
    def connected(self) -> bool:
        """Whether there is a database, which may stand still."""
        return self._connection.available

    def not_ready(self) -> str:
        """Why no job can run now; '' when they can, here or in another process."""
        return self.silence.reason if self.connected else "no database"

    def startService(self) -> None:
        Service.startService(self)
        self.started = ensureDeferred(self._start())

    async def _start(self) -> None:
        await self._connection.connect()
        self.silence.start()
        self._loops = [
            ensureDeferred(self._run_jobs(self.shift)),
            ensureDeferred(self._run_jobs(self.slow)),
            ensureDeferred(self._run_orders()),
        ]

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self.shift.interrupt()
        self.slow.interrupt()
        self.silence.stop()
        for call in list(self._sleeping):
            call.reset(0)
        self._connection.close()
        for loop in self._loops:
            await loop
        self.shift.close()
        self.slow.close()
        await self.disconnects.stop()

    async def _run_jobs(self, shift: Shift) -> None:
        while self.running:
            led = shift.leads
            try:
                leads = await deferToThreadPool(
                    self._reactor, self._reactor.getThreadPool(), shift.turn
                )
                self._has_database(shift)
                if leads and not led and shift is self.shift:
                    log.info("This process is the worker")
            except DatabaseUnavailable as error:
                self._lacks_database(shift, str(error))
            except Exception:  # noqa: BLE001 - one bad turn must not end the work
                log.failure("The worker's turn failed")
            await self._sleep()

    def _lacks_database(self, shift: Shift, reason: str) -> None:
        """Said once until both have it again, and not of a session that is ended to stop."""
        if self.running and not self._without:
            log.error("No jobs: the database is lost: {reason}", reason=reason)
        self._without.add(shift)

    def _has_database(self, shift: Shift) -> None:
        if shift in self._without:
            self._without.discard(shift)
            if not self._without:
                log.info("The jobs have the database again")

    async def _run_orders(self) -> None:
        led = False
        while self.running:
            try:
                if self.shift.leads and not led:
                    await self.disconnects.begin()
                led = self.shift.leads
                if led:
                    await self.disconnects.look(utc_now())
            except DatabaseUnavailable:
                pass  # said where it happened
            except Exception:  # noqa: BLE001 - one bad look must not end the looking
                log.failure("A look for calls to end failed")
            await self._sleep()

    async def _sleep(self) -> None:
        if not self.running:
            return
        slept: Deferred[None] = Deferred()
        call = self._reactor.callLater(TURN_SECONDS, slept.callback, None)
        self._sleeping.add(call)
        await slept
        self._sleeping.discard(call)
