"""Gathers requests while a transaction runs; the next transaction takes them all.

No timer is involved: under load a batch is what arrived during the one before it, and a
lone request waits for nothing but one turn of the reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
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


class Late(Exception):
    """Nobody waits for the answer any more, and nothing was done."""


# What is told the committed answer, or why there is none.
Then = Callable[[Answer | Exception], None]


class Batch(Generic[Request, Answer]):
    """Requests in order of arrival, each with what its answer goes to, and until when.

    `since` is when the first of them came, `until` when the first of them will be late.
    """

    __slots__ = ("answers", "requests", "since", "until", "untils")

    def __init__(
        self,
        requests: list[Request],
        answers: list[Then[Answer]],
        untils: list[float],
        since: float,
    ) -> None:
        self.requests = requests
        self.answers = answers
        self.untils = untils
        self.since = since
        self.until = min(untils)

    def halves(self) -> tuple[Batch[Request, Answer], Batch[Request, Answer]]:
        middle = len(self.requests) // 2
        return (
            self._part(list(range(middle))),
            self._part(list(range(middle, len(self.requests)))),
        )

    def in_time(self, now: float) -> Batch[Request, Answer] | None:
        """Those that are not late `now`; None when all are."""
        kept = [n for n, until in enumerate(self.untils) if until >= now]
        return self._part(kept) if kept else None

    def late(self, now: float) -> list[Then[Answer]]:
        """What the answers of the others would have gone to."""
        return [then for then, until in zip(self.answers, self.untils, strict=True) if until < now]

    def _part(self, places: list[int]) -> Batch[Request, Answer]:
        return Batch(
            [self.requests[n] for n in places],
            [self.answers[n] for n in places],
            [self.untils[n] for n in places],
            self.since,
        )


class GroupCommit(Generic[Request, Answer]):
    """One `work` in flight at a time, with at most `batch_max` requests in arrival order.

    With `ahead`, `work` for one more batch is begun meanwhile, once no fewer requests wait
    than the one in flight has; `work` itself then sees to the order of its transactions.

    `work` returns one answer a request once they are committed. When it raises, its batch is
    cut in two and each half tried again, until the request that spoils the others is alone;
    only that one fails, with the exception. `DatabaseUnavailable` fails the whole batch at
    once, since no part of it would fare better.

    `work` is also told when the first of them will be late. When it finds that this is over
    and has changed nothing yet it raises `Late`: the batch is taken again without the late
    ones, which are dropped, as they are from any batch that has not begun.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        work: Callable[[list[Request], float], Awaitable[list[Answer]]],
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
        self.late = 0
        self._clock = clock
        self._work = work
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: list[Request] = []
        self._answers: list[Then[Answer]] = []
        self._untils: list[float] = []
        # When every `batch_max`th of those that wait came: the first of each batch to be.
        self._since: deque[float] = deque()
        # What is left of batches that failed; they arrived before all that waits.
        self._again: deque[Batch[Request, Answer]] = deque()
        self._ahead = ahead
        self._running: list[Batch[Request, Answer]] = []
        self._size = 0  # of the batch that was begun last
        self._woken = False
        self._stopping: list[Deferred[None]] | None = None

    @property
    def waiting(self) -> int:
        """Requests that no transaction has taken yet."""
        return len(self._waiting)

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest request has had no answer; 0 when all have theirs."""
        since = [batch.since for batch in (*self._running, *self._again)]
        since += list(self._since)[:1]
        return self._clock.seconds() - min(since) if since else 0.0

    def submit(self, request: Request) -> Deferred[Answer]:
        """The answer, once it is committed.

        Fails with `Overloaded` at once when `waiting_max` requests wait or after `stop`, with
        `DatabaseUnavailable` when the database was lost, so that nobody knows whether it
        was done.
        """
        answer: Deferred[Answer] = Deferred()
        self.submit_then(request, partial(_fire, answer))
        return answer

    def submit_then(self, request: Request, then: Then[Answer], until: float = inf) -> None:
        """As `submit`; `then` is called with the answer or the exception. The quicker way.

        After `until` nobody waits for the answer: if its batch has not begun by then, the
        request is dropped, and `then` called with `Late`.
        """
        if len(self._waiting) >= self._waiting_max or self._stopping is not None:
            self.overloaded += 1
            then(Overloaded(f"{len(self._waiting)} requests wait"))
            return
        if len(self._waiting) % self._batch_max == 0:
            self._since.append(self._clock.seconds())
        self._waiting.append(request)
        self._answers.append(then)
        self._untils.append(until)
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
        return bool(self._running or self._waiting or self._again)

    def _may_begin(self) -> bool:
        if not self._running:
            return bool(self._waiting or self._again)
        return (
            self._ahead
            and len(self._running) == 1
            and not self._again
            and len(self._waiting) >= self._size
        )

    def _begin(self) -> None:
        self._woken = False
        self._go_on()
        self._tell_stopped()

    def _go_on(self) -> None:
        """Begin the next batch, if one may begin; whoever is late by now is not in it."""
        begun = False
        while not begun and self._may_begin():
            batch = self._next()
            now = self._clock.seconds()
            kept = batch if now <= batch.until else batch.in_time(now)
            if kept is not None:
                self._start(kept)
                begun = True
            if kept is not batch:
                late = batch.late(now)
                self.late += len(late)
                _deliver(late, Late("nobody waits for the answer any more"))

    def _start(self, batch: Batch[Request, Answer]) -> None:
        self._running.append(batch)
        self._size = len(batch.requests)
        ensureDeferred(self._outcome(batch)).addCallback(self._done, batch)

    def _done(self, outcome: list[Answer] | Exception, batch: Batch[Request, Answer]) -> None:
        self._running.remove(batch)
        again = self._to_try_again(batch, outcome)
        self._again.extendleft(reversed(again))
        # The database works on the next batch while the replies of this one are built.
        self._go_on()
        if not again:
            _deliver(batch.answers, outcome)
        self._tell_stopped()

    def _to_try_again(
        self, batch: Batch[Request, Answer], outcome: list[Answer] | Exception
    ) -> tuple[Batch[Request, Answer], ...]:
        if isinstance(outcome, Late):
            return (batch,)
        failed = isinstance(outcome, Exception) and not isinstance(outcome, DatabaseUnavailable)
        return batch.halves() if failed and len(batch.requests) > 1 else ()

    def _next(self) -> Batch[Request, Answer]:
        """What the next transaction takes."""
        if self._again:
            return self._again.popleft()
        requests, answers, untils = self._waiting, self._answers, self._untils
        most = self._batch_max
        if len(requests) <= most:
            self._waiting, self._answers, self._untils = [], [], []
        else:
            self._waiting, self._answers = requests[most:], answers[most:]
            self._untils = untils[most:]
            del requests[most:], answers[most:], untils[most:]
        self.requests += len(requests)
        self.largest = max(self.largest, len(requests))
        return Batch(requests, answers, untils, self._since.popleft())

    async def _outcome(self, batch: Batch[Request, Answer]) -> list[Answer] | Exception:
        self.batches += 1
        try:
            answers = await self._work(batch.requests, batch.until)
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
