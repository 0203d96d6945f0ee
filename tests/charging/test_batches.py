"""Batching, memory and a second process are only speed: answers and rows stay the same.

A random stream is played one request at a time, each with a store that knows nothing yet,
so that every row is read and locked. That is the truth. The same stream is then played in
batches by stores that live as long as the stream.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred

from aaa_server.charging.ledger import KeyUsedAgain, Policy
from aaa_server.charging.requests import (
    Authorize,
    Expire,
    Origin,
    Reauthorize,
    Reboot,
    Start,
    Stop,
    Update,
)
from aaa_server.online_charging import Line, charge
from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.database import connect
from aaa_server.storage.plain import PlainTransaction, finished, in_transaction, prepare
from tests.charging import proof
from tests.charging.world import (
    ADMIN,
    BEGINNING,
    CUSTOMERS,
    RATE_GROUPS,
    STREAMS,
    TARIFFS,
    AccountRow,
    Change,
    GroupRow,
    Price,
    Row,
    Step,
    World,
    build,
    clear,
    timed,
    worlds,
)

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from psycopg2.extensions import connection as Connection
    from twisted.python.failure import Failure

    from aaa_server.charging.requests import ChargingAnswer, ChargingRequest
    from aaa_server.online_charging import InTransaction
    from aaa_server.storage.catalogue import Execute

EXAMPLES = settings(
    max_examples=60,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Process:
    """A server process's part of charging: a store, its connection and perhaps one beside it."""

    def __init__(
        self, connection: Connection, policy: Policy, beside: Connection | None = None
    ) -> None:
        self._run = in_transaction(connection)
        self._look = None if beside is None else looking(beside)
        self._line = Line()
        self._store = ChargingStore(
            catalogue=CatalogueHolder(),
            policy=policy,
            unseal=lambda sealed, _account_id, _column: sealed,
        )

    def decide(
        self, batch: list[ChargingRequest], before: Callable[[], None] = lambda: None
    ) -> list[ChargingAnswer]:
        """The committed answers; `before` happens ere the first transaction begins."""
        waiting = [before]

        async def run(work: Callable[[PlainTransaction], Awaitable[None]]) -> None:
            if waiting:
                waiting.pop()()
            await self._run(work)

        return self._decide(batch, run)

    def decide_ahead(
        self, first: list[ChargingRequest], second: list[ChargingRequest]
    ) -> list[ChargingAnswer]:
        """The answers to two batches, the second begun while the first awaits its transaction."""
        turns: deque[Deferred[None]] = deque()

        async def run(work: Callable[[PlainTransaction], Awaitable[None]]) -> None:
            turn: Deferred[None] = Deferred()
            turns.append(turn)
            await turn
            await self._run(work)

        answers: list[list[ChargingAnswer]] = [[], []]
        failures: list[Failure] = []
        for batch, said in zip((first, second), answers, strict=True):
            charged = ensureDeferred(charge(batch, self._store, run, self._line, self._look))
            charged.addCallbacks(said.extend, failures.append)
        while turns:
            turns.popleft().callback(None)
        for failure in failures:
            if failure.check(KeyUsedAgain) is not None:
                reject()  # it is cut in two, and its halves come after the other batch
            failure.raiseException()
        return answers[0] + answers[1]

    def _decide(self, batch: list[ChargingRequest], run: InTransaction) -> list[ChargingAnswer]:
        try:
            return finished(charge(batch, self._store, run, self._line, self._look))
        except KeyUsedAgain:
            # As group commit does with a batch that fails.
            middle = len(batch) // 2
            return self._decide(batch[:middle], run) + self._decide(batch[middle:], run)


def looking(connection: Connection) -> Execute:
    """What reads on `connection`, and holds on to nothing."""

    async def look(sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        rows = await PlainTransaction(connection).execute(sql, parameters)
        connection.commit()
        return rows

    return look


class Played(NamedTuple):
    """The answers in order, and the rows that were left."""

    answers: list[ChargingAnswer]
    rows: dict[str, list[str]]


class Place:
    """A database and connections to it; it gets one world after the other."""

    def __init__(self, url: str) -> None:
        self.connections = [connect(url), connect(url)]
        for connection in self.connections:
            prepare(connection)
            connection.commit()
        self._other = connect(url)

    def close(self) -> None:
        for connection in (*self.connections, self._other):
            connection.close()

    def begin(self, world: World) -> None:
        for connection in self.connections:
            connection.rollback()
        self._other.rollback()
        with self._other.cursor() as cursor:
            clear(cursor)
            build(cursor, world)
        self._other.commit()

    def change(self, change: Change, at: datetime) -> None:
        with self._other.cursor() as cursor:
            change.apply(cursor, at)
        self._other.commit()

    def end(self, answers: list[ChargingAnswer]) -> Played:
        """The proof of the books, and what is in them."""
        with self._other.cursor() as cursor:
            assert proof.broken_laws(cursor) == {}
            left = proof.rows(cursor)
        self._other.rollback()
        return Played(answers, left)


class Places(NamedTuple):
    truth: Place
    tried: Place


@pytest.fixture(scope="module")
def places(
    template: str, new_database: Callable[[str], contextlib.AbstractContextManager[str]]
) -> Iterator[Places]:
    """Two databases for all examples: making one takes longer than an example."""
    with new_database(template) as one, new_database(template) as other:
        opened = Places(Place(one), Place(other))
        yield opened
        for place in opened:
            place.close()


def play_singly(place: Place, world: World, stream: list[Step]) -> Played:
    """One request a transaction, nothing remembered from one to the next."""
    place.begin(world)
    answers = []
    for step, at in timed(stream):
        if isinstance(step.what, Change):
            place.change(step.what, at)
        else:
            answers += Process(place.connections[0], world.policy).decide([step.what])
    return place.end(answers)


class Item(NamedTuple):
    """A change, or a batch and who takes it."""

    first: Step
    at: datetime
    batch: list[ChargingRequest]


def items_of(stream: list[Step]) -> list[Item]:
    """The stream cut into batches; a change stands alone."""
    items: list[Item] = []
    for step, at in timed(stream):
        if isinstance(step.what, Change):
            items.append(Item(step, at, []))
        elif step.cut or not items or not items[-1].batch:
            items.append(Item(step, at, [step.what]))
        else:
            items[-1].batch.append(step.what)
    return items


def play_in_batches(place: Place, world: World, stream: list[Step]) -> Played:
    """One process that remembers, from batch to batch, what it has read and written."""
    place.begin(world)
    process = Process(place.connections[0], world.policy, place.connections[1])
    answers = []
    for first, at, batch in items_of(stream):
        if isinstance(first.what, Change):
            place.change(first.what, at)
        else:
            answers += process.decide(batch)
    return place.end(answers)


def play_ahead(place: Place, world: World, stream: list[Step]) -> Played:
    """One process that decides each second batch before the one before it is written."""
    place.begin(world)
    process = Process(place.connections[0], world.policy, place.connections[1])
    answers = []
    items = items_of(stream)
    number = 0
    while number < len(items):
        first, at, batch = items[number]
        following = items[number + 1].batch if number + 1 < len(items) else []
        if isinstance(first.what, Change):
            place.change(first.what, at)
        elif following:
            answers += process.decide_ahead(batch, following)
            number += 1
        else:
            answers += process.decide(batch)
        number += 1
    return place.end(answers)


def play_in_two_processes(place: Place, world: World, stream: list[Step]) -> Played:
    """Two that remember. Of a racing batch memory is asked before what stands before it happens."""
    place.begin(world)
    processes = [Process(connection, world.policy) for connection in place.connections]
    items = items_of(stream)
    answers: list[list[ChargingAnswer]] = [[] for _ in items]

    def play(number: int, before: Callable[[], None] = lambda: None) -> None:
        first, at, batch = items[number]
        if isinstance(first.what, Change):
            place.change(first.what, at)
        else:
            answers[number] = processes[first.store].decide(batch, before)

    number = 0
    while number < len(items):
        if number + 1 < len(items) and _race(*items[number : number + 2]):
            play(number + 1, partial(play, number))
            number += 2
        else:
            play(number)
            number += 1
    return place.end([answer for some in answers for answer in some])


def _race(one: Item, other: Item) -> bool:
    """Whether `other` may be under way when `one` happens: a process does one at a time."""
    apart = not one.batch or one.first.store != other.first.store
    return bool(other.batch) and other.first.racing and apart


def alike(places: Places, world: World, stream: list[Step]) -> Played:
    """The truth, after the same in batches and in two processes."""
    expected = play_singly(places.truth, world, stream)
    assert play_in_batches(places.tried, world, stream) == expected
    assert play_in_two_processes(places.tried, world, stream) == expected
    return expected


@EXAMPLES
@given(world=worlds(), stream=STREAMS)
def test_a_stream_in_batches_is_the_stream_one_by_one(
    places: Places, world: World, stream: list[Step]
) -> None:
    expected = play_singly(places.truth, world, stream)
    assert play_in_batches(places.tried, world, stream) == expected


@EXAMPLES
@given(world=worlds(), stream=STREAMS)
def test_batches_that_are_decided_ahead_are_the_stream_one_by_one(
    places: Places, world: World, stream: list[Step]
) -> None:
    expected = play_singly(places.truth, world, stream)
    assert play_ahead(places.tried, world, stream) == expected


@EXAMPLES
@given(world=worlds(), stream=STREAMS)
def test_two_processes_are_one(places: Places, world: World, stream: list[Step]) -> None:
    expected = play_singly(places.truth, world, stream)
    assert play_in_two_processes(places.tried, world, stream) == expected


# ------------------------------------------------------------------ what was found this way

ACME = Origin("acme")
NUMBER = "442071838750"
WORLD = World(
    currencies=dict.fromkeys(TARIFFS, "USD"),
    exchanges=(),
    markups=dict.fromkeys(RATE_GROUPS, 0),
    strategies=dict.fromkeys(RATE_GROUPS, "least-cost"),
    accounts=tuple(
        AccountRow(number, "customer", ADMIN, True, "USD", 0, 1, 0, 0, None, None, 50_000_000)
        for number in CUSTOMERS
    ),
    groups=(GroupRow(1, 2, 5, 0, ()), GroupRow(2, 3, 5, 0, ())),
    inbound_id=CUSTOMERS[0],
    inbound_max_calls=0,
    tech_prefix="",
    rows=tuple(Row(number, 0, "4", Price(60_000_000), False) for number in TARIFFS),
    policy=Policy(session_reuse_seconds=600),
)
AUTHORIZE = Authorize(1, "a", BEGINNING, ACME, NUMBER, slice_seconds=30)
START = Start(1, "a", BEGINNING, ACME, NUMBER)
UPDATE = Update(1, "a", BEGINNING, 5, ACME, NUMBER)
STOP = Stop(1, "a", BEGINNING, 50_000, ACME, NUMBER)


def step(
    wait_seconds: int,
    what: ChargingRequest | Change,
    *,
    cut: bool = False,
    store: int = 0,
    racing: bool = False,
) -> Step:
    return Step(1000 * wait_seconds, 0, cut, store, racing, what)


def test_progress_and_end_in_one_batch_are_both_on_record(places: Places) -> None:
    more = Reauthorize(1, "a", BEGINNING, 20, 1, slice_seconds=60)
    played = alike(
        places,
        WORLD,
        [
            step(0, AUTHORIZE),
            step(1, START, cut=True),
            step(19, more),
            step(30, STOP),
        ],
    )
    [record] = played.rows["cdr"]
    assert "'granted_seconds': 80" in record
    assert "'started_at': None" not in record


def test_of_a_refused_attempt_that_was_closed_nothing_goes_on(places: Places) -> None:
    nobody = AUTHORIZE._replace(origin=Origin("nobody"))
    alike(
        places,
        WORLD,
        [
            step(0, nobody),
            step(5, UPDATE),
            step(4, STOP._replace(cause="X")),
            step(1, AUTHORIZE),
            step(9000, Expire(1, "a", BEGINNING)),
        ],
    )


def test_a_key_used_again_in_one_batch_is_two_calls(places: Places) -> None:
    played = alike(
        places,
        WORLD,
        [step(0, AUTHORIZE), step(50, STOP), step(700, AUTHORIZE), step(50, STOP)],
    )
    assert len(played.rows["cdr"]) == 2


def test_routes_attached_during_a_call_are_found_at_its_end(places: Places) -> None:
    for last in (STOP, Reboot(1, BEGINNING), Expire(1, "a", BEGINNING)):
        played = alike(
            places,
            WORLD,
            [
                step(0, AUTHORIZE),
                step(10, UPDATE),
                step(0, Change("attach", (1, 1))),
                step(900, last),
                step(0, Change("attach", (1, 2))),
                step(0, STOP._replace(route="RG_2")),
            ],
        )
        assert len(played.rows["charge"]) == 2


# Two numbers of one price, one key, and calls that nobody answered: what one process remembers of
# the key is easily taken for what the other has made of it, for the accounts do not tell.
def _of_the_key(*requests: ChargingRequest, waits_ms: tuple[int, ...]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        wait_ms=st.sampled_from(waits_ms),
        late_ms=st.sampled_from([0, 0, 0, 1_500_000]),
        cut=st.just(True),
        store=st.integers(0, 1),
        racing=st.sampled_from([False, False, False, True]),
        what=st.sampled_from(requests),
    )


_LONG_AFTER = 1000 * (WORLD.policy.session_reuse_seconds + 100)
_UNANSWERED = STOP._replace(duration_ms=0)
EPISODES = st.lists(
    st.tuples(
        _of_the_key(
            AUTHORIZE,
            AUTHORIZE._replace(called="449012345678"),
            AUTHORIZE._replace(origin=Origin("beta")),
            START,
            waits_ms=(0, _LONG_AFTER, _LONG_AFTER),
        ),
        st.lists(
            _of_the_key(
                START,
                UPDATE,
                STOP,
                AUTHORIZE,
                Reauthorize(1, "a", BEGINNING, 20, slice_seconds=60),
                waits_ms=(0, 1000, 60_000),
            ),
            max_size=2,
        ),
        _of_the_key(
            *[_UNANSWERED] * 5, STOP, Expire(1, "a", BEGINNING), waits_ms=(1000, 60_000, 700_000)
        ),
    ).map(lambda episode: [episode[0], *episode[1], episode[2]]),
    min_size=2,
    max_size=10,
).map(lambda episodes: [step for episode in episodes for step in episode])
POOR_BETA = WORLD._replace(
    accounts=tuple(
        row._replace(balance_micros=0) if row.account_id == CUSTOMERS[1] else row
        for row in WORLD.accounts
    ),
    groups=(),
)


@EXAMPLES
@given(stream=EPISODES)
def test_two_processes_take_no_row_of_a_key_for_another(places: Places, stream: list[Step]) -> None:
    expected = play_singly(places.truth, POOR_BETA, stream)
    assert play_in_two_processes(places.tried, POOR_BETA, stream) == expected


def test_a_call_that_another_process_has_ended_is_not_written_again(places: Places) -> None:
    for again in (AUTHORIZE, START, UPDATE, Reauthorize(1, "a", BEGINNING, 20)):
        for racing in (False, True):
            alike(
                places,
                WORLD,
                [
                    step(0, START),
                    # It costs nothing, so that no balance tells of it.
                    step(5, STOP._replace(duration_ms=0), cut=True, store=1),
                    step(1, again, cut=True, racing=racing),
                ],
            )
