from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aaa_server.group_commit import GroupCommit, Late, Overloaded
from aaa_server.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from twisted.python.failure import Failure


class Poison(Exception):
    pass


class Bench:
    """A GroupCommit whose transactions end when the test says so; answers are doubles."""

    def __init__(self, *, batch_max: int = 512, waiting_max: int = 20_000) -> None:
        self.clock = Clock()
        self.batches: list[list[int]] = []
        self.running: Deferred[list[int]] | None = None
        self.until = 0.0
        self.answered: list[int] = []
        self.failed: list[tuple[int, type[BaseException]]] = []
        self.commit = GroupCommit[int, int](
            clock=self.clock, work=self.work, batch_max=batch_max, waiting_max=waiting_max
        )

    async def work(self, batch: list[int], until: float) -> list[int]:
        self.batches.append(list(batch))
        assert self.running is None, "two transactions at once"
        self.running = Deferred()
        self.until = until
        try:
            return await self.running
        finally:
            self.running = None

    def submit(self, *requests: int) -> None:
        for request in requests:
            deferred = self.commit.submit(request)
            deferred.addCallbacks(self.answered.append, self._fail, errbackArgs=(request,))

    def submit_until(self, until: float, *requests: int) -> None:
        for request in requests:
            self.commit.submit_then(request, partial(self._told, request), until)

    def _told(self, request: int, answer: int | Exception) -> None:
        if isinstance(answer, Exception):
            self.failed.append((request, type(answer)))
        else:
            self.answered.append(answer)

    def _fail(self, failure: Failure, request: int) -> None:
        assert failure.type is not None
        self.failed.append((request, failure.type))

    def tick(self) -> None:
        self.clock.advance(0)

    def finish(self) -> None:
        assert self.running is not None
        self.running.callback([2 * request for request in self.batches[-1]])

    def break_down(self, error: Exception) -> None:
        assert self.running is not None
        self.running.errback(error)


def test_a_burst_of_one_turn_shares_a_transaction() -> None:
    bench = Bench()
    bench.submit(1, 2, 3)
    assert bench.batches == []
    bench.tick()
    assert bench.batches == [[1, 2, 3]]
    assert bench.answered == []
    bench.finish()
    assert bench.answered == [2, 4, 6]


def test_what_arrives_during_a_transaction_is_the_next_one_without_a_timer() -> None:
    bench = Bench()
    bench.submit(1)
    bench.tick()
    bench.submit(2, 3)
    bench.tick()
    assert bench.batches == [[1]]
    bench.finish()
    assert bench.batches == [[1], [2, 3]]
    assert bench.clock.getDelayedCalls() == []


def test_a_batch_is_capped_and_keeps_the_order_of_arrival() -> None:
    bench = Bench(batch_max=2)
    bench.submit(1, 2, 3, 4, 5)
    bench.tick()
    for _ in range(3):
        bench.finish()
    assert bench.batches == [[1, 2], [3, 4], [5]]
    assert bench.answered == [2, 4, 6, 8, 10]
    assert (bench.commit.batches, bench.commit.requests, bench.commit.largest) == (3, 5, 2)


def test_the_next_batch_starts_before_the_answers_of_the_last_are_delivered() -> None:
    bench = Bench()
    seen: list[int] = []
    bench.commit.submit(1).addCallback(lambda _: seen.append(len(bench.batches)))
    bench.tick()
    bench.submit(2)
    bench.finish()
    assert seen == [2]


def test_a_request_made_by_an_answer_is_served_too() -> None:
    bench = Bench()
    bench.commit.submit(1).addCallback(lambda _: bench.submit(2))
    bench.tick()
    bench.finish()
    bench.tick()
    assert bench.batches == [[1], [2]]
    bench.finish()
    assert bench.answered == [4]


def test_too_many_waiting_requests_are_refused_at_once() -> None:
    bench = Bench(waiting_max=2)
    bench.submit(1, 2, 3)
    assert bench.failed == [(3, Overloaded)]
    bench.tick()
    bench.submit(4, 5, 6)
    assert bench.failed == [(3, Overloaded), (6, Overloaded)]
    assert bench.commit.overloaded == 2
    bench.finish()
    bench.finish()
    assert bench.answered == [2, 4, 8, 10]


def test_one_poison_request_does_not_spoil_its_batch() -> None:
    bench = Bench()
    bench.submit(*range(8))
    bench.tick()
    bench.submit(100)
    while bench.running is not None:
        if 5 in bench.batches[-1]:
            bench.break_down(Poison())
        else:
            bench.finish()
    assert bench.failed == [(5, Poison)]
    assert bench.answered == [0, 2, 4, 6, 8, 12, 14, 200]
    assert bench.batches[-1] == [100]


def test_a_lost_database_fails_the_batch_once_unsplit() -> None:
    bench = Bench()
    bench.submit(1, 2, 3)
    bench.tick()
    bench.submit(4)
    bench.break_down(DatabaseUnavailable("gone"))
    assert bench.failed == [(request, DatabaseUnavailable) for request in (1, 2, 3)]
    assert bench.batches == [[1, 2, 3], [4]]
    bench.finish()
    assert bench.answered == [8]


def test_a_wrong_number_of_answers_reaches_nobody() -> None:
    bench = Bench()
    bench.submit(1)
    bench.tick()
    assert bench.running is not None
    bench.running.callback([])
    assert bench.failed == [(1, AssertionError)]


def test_stop_fires_when_all_that_was_taken_is_answered() -> None:
    bench = Bench()
    bench.submit(1)
    bench.tick()
    bench.submit(2)
    stopped: list[list[int]] = []
    bench.commit.stop().addCallback(lambda _: stopped.append(list(bench.answered)))
    bench.submit(3)
    assert bench.failed == [(3, Overloaded)]
    bench.finish()
    assert stopped == []
    bench.finish()
    assert stopped == [[2, 4]]
    bench.commit.stop().addCallback(lambda _: stopped.append([]))
    assert stopped == [[2, 4], []]


def test_whoever_is_late_when_a_batch_begins_is_dropped_and_nobody_else() -> None:
    bench = Bench()
    bench.submit(1)
    bench.tick()
    bench.submit_until(10.0, 2, 3)
    bench.submit(4)
    bench.submit_until(20.0, 5)
    bench.clock.advance(10.5)
    bench.finish()
    assert bench.batches == [[1], [4, 5]]
    assert bench.until == 20.0
    assert bench.failed == [(2, Late), (3, Late)]
    bench.finish()
    assert bench.answered == [2, 8, 10]
    assert bench.commit.late == 2
    assert bench.commit.overloaded == 0


def test_a_batch_of_late_ones_alone_makes_room_for_the_next_and_holds_up_no_stop() -> None:
    bench = Bench(batch_max=2)
    bench.submit(1)
    bench.tick()
    bench.submit_until(10.0, 2, 3)
    bench.submit(4)
    bench.submit_until(10.0, 5)
    stopped = bench.commit.stop()
    bench.clock.advance(11)
    bench.finish()
    assert bench.batches == [[1], [4]]
    bench.finish()
    assert bench.failed == [(2, Late), (3, Late), (5, Late)]
    assert stopped.called


def test_who_is_late_alone_ends_a_stop_too() -> None:
    bench = Bench()
    bench.submit_until(-1.0, 1)
    stopped = bench.commit.stop()
    bench.tick()
    assert bench.failed == [(1, Late)]
    assert bench.batches == []
    assert stopped.called


def test_work_that_began_too_late_is_done_again_without_those_who_are_late() -> None:
    bench = Bench()
    bench.submit_until(10.0, 1)
    bench.submit(2, 3)
    bench.tick()
    assert bench.until == 10.0
    bench.clock.advance(11)
    bench.break_down(Late())
    assert bench.batches == [[1, 2, 3], [2, 3]]
    assert bench.until == inf
    assert bench.failed == [(1, Late)]
    bench.finish()
    assert bench.answered == [4, 6]


def test_the_halves_of_a_spoilt_batch_are_without_those_who_are_late() -> None:
    bench = Bench()
    bench.submit_until(10.0, 1)
    bench.submit(2)
    bench.submit_until(10.0, 3, 4)
    bench.tick()
    bench.clock.advance(11)
    bench.break_down(Poison())
    assert bench.batches == [[1, 2, 3, 4], [2]]
    bench.finish()
    assert bench.batches == [[1, 2, 3, 4], [2]]
    assert bench.failed == [(1, Late), (3, Late), (4, Late)]


def test_what_was_sent_in_time_and_lost_is_nobody_s_to_drop() -> None:
    bench = Bench()
    bench.submit_until(10.0, 1)
    bench.tick()
    bench.clock.advance(60)
    bench.finish()
    assert bench.answered == [2]
    assert bench.commit.late == 0


def test_the_oldest_is_as_old_as_it_has_been_without_an_answer() -> None:
    bench = Bench(batch_max=2)
    commit, ages = bench.commit, []
    ages.append(commit.oldest_seconds)
    for request in range(6):
        bench.submit(request)
        bench.clock.advance(1)
    while bench.running is not None:
        ages.append(commit.oldest_seconds)
        bench.finish()
    ages.append(commit.oldest_seconds)
    # Alone, then in pairs: of each the first one counts.
    assert bench.batches == [[0], [1, 2], [3, 4], [5]]
    assert ages == [0.0, 6.0, 5.0, 3.0, 1.0, 0.0]


@pytest.mark.parametrize("batch_max", [1, 3, 512])
@given(
    steps=st.lists(
        st.sampled_from(["submit", "hurry", "tick", "wait", "finish", "poison"]), max_size=60
    ),
)
def test_every_request_has_exactly_one_answer(steps: list[str], batch_max: int) -> None:
    bench = Bench(batch_max=batch_max)
    submitted = 0
    for step in steps:
        if step == "submit":
            bench.submit(submitted)
            submitted += 1
        elif step == "hurry":
            bench.submit_until(bench.clock.seconds() + 1, submitted)
            submitted += 1
        elif step in ("tick", "wait"):
            bench.clock.advance(0 if step == "tick" else 2)
        elif bench.running is not None and step == "finish":
            bench.finish()
        elif bench.running is not None:
            bench.break_down(Poison())
    bench.tick()
    while bench.running is not None:
        bench.finish()
        bench.tick()
    failed = [request for request, _ in bench.failed]
    assert sorted([*(answer // 2 for answer in bench.answered), *failed]) == list(range(submitted))


def ahead() -> tuple[Clock, list[list[int]], list[Deferred[list[int]]], GroupCommit[int, int]]:
    clock = Clock()
    batches: list[list[int]] = []
    running: list[Deferred[list[int]]] = []

    async def work(batch: list[int], _until: float) -> list[int]:
        batches.append(list(batch))
        running.append(Deferred())
        return await running[-1]

    return clock, batches, running, GroupCommit(clock=clock, work=work, ahead=True)


def test_one_batch_is_begun_ahead_once_it_is_no_smaller_than_the_one_in_flight() -> None:
    clock, batches, running, commit = ahead()
    answers: list[int] = []

    def submit(*requests: int) -> None:
        for request in requests:
            commit.submit(request).addCallback(answers.append)
        clock.advance(0)

    submit(1, 2, 3)
    submit(4, 5)
    assert batches == [[1, 2, 3]], "two are fewer than three"
    submit(6)
    assert batches == [[1, 2, 3], [4, 5, 6]]
    submit(7, 8, 9, 10)
    assert len(batches) == 2, "one ahead, not two"
    running[0].callback([10, 20, 30])
    assert batches[2:] == [[7, 8, 9, 10]]
    assert answers == [10, 20, 30]
    running[1].callback([40, 50, 60])
    running[2].callback([70, 80, 90, 100])
    assert answers == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_the_halves_of_a_spoilt_batch_wait_for_the_one_that_was_begun_ahead() -> None:
    clock, batches, running, commit = ahead()
    deferreds = [commit.submit(request) for request in (1, 2)]
    clock.advance(0)
    deferreds += [commit.submit(request) for request in (3, 4)]
    clock.advance(0)
    running[0].errback(Poison())
    assert batches == [[1, 2], [3, 4]]
    running[1].callback([30, 40])
    assert batches[2:] == [[1]]
    running[2].callback([10])
    running[3].errback(Poison())
    outcomes: list[object] = []
    for deferred in deferreds:
        deferred.addCallbacks(outcomes.append, lambda failure: outcomes.append(failure.type))
    assert outcomes == [10, Poison, 30, 40]


def test_stopping_waits_for_the_batch_ahead_too() -> None:
    clock, _, running, commit = ahead()
    for request in (1, 2):
        commit.submit(request)
        clock.advance(0)
    stopped = commit.stop()
    running[0].callback([10])
    assert not stopped.called
    running[1].callback([20])
    assert stopped.called
