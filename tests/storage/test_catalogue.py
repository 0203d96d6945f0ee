"""The catalogue in memory follows the database's, whatever fails on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aaa_server.storage import catalogue
from aaa_server.storage.catalogue import AGAIN_SECONDS, CatalogueHolder
from aaa_server.storage.database import DatabaseUnavailable
from aaa_server.storage.plain import PlainTransaction, finished
from tests.scenario import BEGINNING, Scenario

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

GONE = DatabaseUnavailable("gone")


class Background:
    """A connection beside: each statement waits for `step`, and fails with what is in `errors`."""

    def __init__(self, connection: Connection) -> None:
        self._transaction = PlainTransaction(connection)
        self._waiting: list[Deferred[None]] = []
        self.errors: list[Exception] = []

    async def execute(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        await turn
        if self.errors:
            raise self.errors.pop()
        return await self._transaction.execute(sql, parameters)

    def step(self) -> bool:
        """Answer one statement; False: none waits."""
        if not self._waiting:
            return False
        self._waiting.pop(0).callback(None)
        return True

    def finish(self) -> None:
        while self.step():
            pass


class World:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.clock = Clock()
        self.background = Background(connection)
        self.holder = CatalogueHolder(self.background, self.clock)  # type: ignore[arg-type]
        self.scenario = Scenario(connection)

    def refresh(self, *, fails_at: str = "") -> None:
        """Once; `fails_at`: a word of the statement at which the database goes."""
        transaction = PlainTransaction(self.connection)

        async def execute(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
            if fails_at and fails_at in sql:
                raise GONE
            return await transaction.execute(sql, parameters)

        finished(self.holder.refresh(execute))

    @property
    def in_step(self) -> bool:
        [(revision,)] = self.scenario.query("SELECT revision FROM catalogue")
        return bool(self.holder.revision == revision)

    def price(self, called: str) -> int:
        group = next(iter(self.holder.held.rate_groups.values()))
        rate = group.tariff.rate_for(called, BEGINNING, 0)
        assert rate is not None
        return rate.terms.per_minute_nanos


@pytest.fixture
def world(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> World:
    """Every change of a price list is read beside."""
    monkeypatch.setattr(catalogue, "CHANGES_AT_ONCE_MAX", 0)
    world = World(connection)
    world.scenario.check("rate retail 44 0.60")
    world.refresh()
    world.scenario.check("rate retail 4420 0.70")
    world.refresh()
    assert world.in_step
    assert world.price("442071838750") == 600_000_000  # still being read
    return world


def test_a_list_is_read_beside(world: World) -> None:
    world.background.finish()
    assert world.price("442071838750") == 700_000_000
    assert world.in_step


def test_a_list_is_read_again_when_the_database_is_back(world: World) -> None:
    world.background.errors = [GONE]
    world.background.finish()
    assert not world.in_step
    world.refresh()
    world.background.finish()
    assert world.price("442071838750") == 700_000_000
    assert world.in_step


def test_a_list_is_read_again_when_the_database_goes_twice(world: World) -> None:
    world.background.errors = [GONE]
    world.background.finish()
    with pytest.raises(DatabaseUnavailable):
        world.refresh(fails_at="FROM tariff")
    assert not world.in_step
    world.refresh()
    world.background.finish()
    assert world.price("442071838750") == 700_000_000


def test_a_look_beside_that_ends_during_a_refresh_is_not_overlooked(world: World) -> None:
    transaction = PlainTransaction(world.connection)
    world.background.errors = [GONE]

    async def execute(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        if "FROM rate_band" in sql:  # the lists have been looked at by then
            world.background.finish()
        return await transaction.execute(sql, parameters)

    finished(world.holder.refresh(execute))
    assert world.background.errors == []
    assert not world.in_step


def test_a_list_that_cannot_be_read_is_tried_again_and_again(world: World) -> None:
    world.background.errors = [psycopg2.errors.QueryCanceled("x") for _ in range(2)]
    world.background.finish()
    world.scenario.check("rate retail 4471 0.80")
    world.refresh()
    for _ in range(2):
        assert world.price("442071838750") == 600_000_000
        world.clock.advance(AGAIN_SECONDS)
        world.background.finish()
    assert world.price("442071838750") == 700_000_000
    assert world.price("44718387") == 800_000_000


@pytest.mark.parametrize("fails_at", ["FROM did_price", "FROM number_rule", "FROM tariff"])
def test_a_number_that_was_read_in_vain_is_read_again(
    connection: Connection, fails_at: str
) -> None:
    world = World(connection)
    world.scenario.check("did 34932 carrier 0")
    world.refresh()
    world.scenario.check("did 34933 carrier 0")
    with pytest.raises(DatabaseUnavailable):
        world.refresh(fails_at=fails_at)
    assert not world.in_step
    world.refresh()
    assert set(world.holder.held.dids) == {"34932", "34933"}
