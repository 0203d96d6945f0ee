"""Gathers requests while a transaction runs; the next transaction takes them all.

No timer is involved: under load a batch is what arrived during the one before it, and a
lone request waits for nothing but one turn of the reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.logger import Logger

from aaa_server.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from twisted.internet.interfaces import IReactorTime

BATCH_MAX = 512
WAITING_MAX = 20_000

log = Logger()

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Overloaded(Exception):
    """So many requests wait that this one is not taken; the peer asks again."""


# What is told the committed answer, or why there is none.
Then = Callable[[Answer | Exception], None]


class Batch(Generic[Request, Answer]):
    """Requests in order of arrival, each with what its answer goes to."""

    __slots__ = ("answers", "requests")

    def __init__(self, requests: list[Request], answers: list[Then[Answer]]) -> None:
        self.requests = requests
        self.answers = answers

    def halves(self) -> tuple[Batch[Request, Answer], Batch[Request, Answer]]:
        middle = len(self.requests) // 2
        return (
            Batch(self.requests[:middle], self.answers[:middle]),
            Batch(self.requests[middle:], self.answers[middle:]),
        )


class GroupCommit(Generic[Request, Answer]):
    """One `work` in flight at a time, with at most `batch_max` requests in arrival order.

    With `ahead`, `work` for one more batch is begun meanwhile, once no fewer requests wait
    than the one in flight has; `work` itself then sees to the order of its transactions.

    `work` returns one answer a request once they are committed. When it raises, its batch is
    cut in two and each half tried again, until the request that spoils the others is alone;
    only that one fails, with the exception. `DatabaseUnavailable` fails the whole batch at
    once, since no part of it would fare better.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        work: Callable[[list[Request]], Awaitable[list[Answer]]],
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
        ahead: bool = False,
    ) -> None:
        assert batch_max >= 1
        assert waiting_max >= 1
        self.batches = 0
        self.requests = 0
        self.largest = 0
        self.overloaded = 0
        self._clock = clock
        self._work = work
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: list[Request] = []
        self._answers: list[Then[Answer]] = []
        # Halves of a batch that failed; they arrived before all that waits.
        self._halves: deque[Batch[Request, Answer]] = deque()
        self._ahead = ahead
        self._running = 0
        self._size = 0  # of the batch that was begun last
        self._woken = False
        self._stopping: list[Deferred[None]] | None = None

    @property
    def waiting(self) -> int:
        """Requests that no transaction has taken yet."""
        return len(self._waiting)

    def submit(self, request: Request) -> Deferred[Answer]:
        """The answer, once it is committed.

        Fails with `Overloaded` at once when `waiting_max` requests wait or after `stop`, with
        `DatabaseUnavailable` when the database was lost, so that nobody knows whether it
        was done.
        """
        answer: Deferred[Answer] = Deferred()
        self.submit_then(request, partial(_fire, answer))
        return answer

    def submit_then(self, request: Request, then: Then[Answer]) -> None:
        """As `submit`; `then` is called with the answer or the exception. The quicker way."""
        if len(self._waiting) >= self._waiting_max or self._stopping is not None:
            self.overloaded += 1
            then(Overloaded(f"{len(self._waiting)} requests wait"))
            return
        self._waiting.append(request)
        self._answers.append(then)
        if not self._woken and self._may_begin():
            self._woken = True
            # One turn of the reactor, so that a burst read in this turn shares a transaction.
            self._clock.callLater(0, self._begin)

    def stop(self) -> Deferred[None]:
        """Takes no more requests; fires when all that were taken have their answers."""
        if self._stopping is None:
            self._stopping = []
        if not self._busy:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._stopping.append(idle)
        return idle

    @property
    def _busy(self) -> bool:
        return bool(self._running or self._waiting or self._halves)

    def _may_begin(self) -> bool:
        if not self._running:
            return bool(self._waiting or self._halves)
        return (
            self._ahead
            and self._running == 1
            and not self._halves
            and len(self._waiting) >= self._size
        )

    def _begin(self) -> None:
        self._woken = False
        if self._may_begin():
            self._start()

    def _start(self) -> None:
        batch = self._next()
        self._running += 1
        self._size = len(batch.requests)
        ensureDeferred(self._outcome(batch)).addCallback(self._done, batch)

    def _done(self, outcome: list[Answer] | Exception, batch: Batch[Request, Answer]) -> None:
        self._running -= 1
        split = (
            isinstance(outcome, Exception)
            and not isinstance(outcome, DatabaseUnavailable)
            and len(batch.requests) > 1
        )
        if split:
            self._halves.extendleft(reversed(batch.halves()))
        # The database works on the next batch while the replies of this one are built.
        if self._may_begin():
            self._start()
        if not split:
            _deliver(batch.answers, outcome)
        self._tell_stopped()

    def _next(self) -> Batch[Request, Answer]:
        """What the next transaction takes."""
        if self._halves:
            return self._halves.popleft()
        requests, answers = self._waiting, self._answers
        if len(requests) <= self._batch_max:
            self._waiting, self._answers = [], []
        else:
            self._waiting, self._answers = requests[self._batch_max :], answers[self._batch_max :]
            del requests[self._batch_max :], answers[self._batch_max :]
        self.requests += len(requests)
        self.largest = max(self.largest, len(requests))
        return Batch(requests, answers)

    async def _outcome(self, batch: Batch[Request, Answer]) -> list[Answer] | Exception:
        self.batches += 1
        try:
            answers = await self._work(batch.requests)
            assert len(answers) == len(batch.requests), "not one answer a request"
        except Exception as error:  # noqa: BLE001 - whatever spoils a batch belongs to its senders
            return error
        return answers

    def _tell_stopped(self) -> None:
        if self._stopping is not None and not self._busy:
            stopping, self._stopping = self._stopping, []
            for idle in stopping:
                idle.callback(None)


def _deliver(answers: list[Then[Answer]], outcome: list[Answer] | Exception) -> None:
    if isinstance(outcome, Exception):
        for then in answers:
            _tell(then, outcome)
    else:
        for then, answer in zip(answers, outcome, strict=True):
            _tell(then, answer)


def _tell(then: Then[Answer], outcome: Answer | Exception) -> None:
    try:
        then(outcome)
    except Exception:  # noqa: BLE001 - whatever one does with its answer, the next gets its own
        log.failure("an answer could not be given")


def _fire(deferred: Deferred[Answer], outcome: Answer | Exception) -> None:
    if isinstance(outcome, Exception):
        deferred.errback(outcome)
    else:
        deferred.callback(outcome)
