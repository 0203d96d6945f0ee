"""Emergency calls while the database does not answer: granted, bounded, recorded in order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aaa_server import emergency
from aaa_server.charging.catalogue import Catalogue
from aaa_server.charging.requests import Authorize, Granted, Noted, Origin
from aaa_server.emergency import AGAIN_SECONDS, WAIT_SECONDS, EmergencyCalls
from aaa_server.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from aaa_server.charging.requests import ChargingAnswer
    from aaa_server.online_charging import OnlineCharging

AT = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


class Door:
    """What asks the database, answered by hand."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Deferred[ChargingAnswer]]] = []

    def ask(self, request: Authorize) -> Deferred[ChargingAnswer]:
        answer: Deferred[ChargingAnswer] = Deferred()
        self.asked.append((request.session_key, answer))
        return answer

    def lose(self) -> None:
        """The database goes away under all that is asked."""
        asked, self.asked = self.asked, []
        for _, answer in asked:
            answer.errback(DatabaseUnavailable("gone"))

    def commit(self) -> str:
        key, answer = self.asked.pop(0)
        answer.callback(Noted())
        return key


def call(key: str) -> Authorize:
    return Authorize(1, key, AT, Origin(ani="15551230001"), "112", maximum_seconds=3600)


class World:
    def __init__(self) -> None:
        self.door, self.clock = Door(), Clock()
        catalogue = Catalogue(1, 1, "EUR", {}, {}, emergency={"112": None})
        self.calls = EmergencyCalls(
            cast("OnlineCharging", self.door), self.clock, lambda: catalogue
        )
        self.answers: list[ChargingAnswer] = []

    def place(self, key: str) -> None:
        self.calls.ask(call(key)).addCallback(self.answers.append)


def test_an_answer_in_time_is_the_databases() -> None:
    world = World()
    world.place("a")
    assert world.door.commit() == "a"
    assert world.answers == [Noted()]
    assert (world.calls.passed, world.calls.waiting) == (0, 0)
    world.clock.advance(10)
    assert world.door.asked == []


def test_without_a_database_the_call_passes_at_once_and_is_recorded_in_order() -> None:
    world = World()
    for key in ("a", "b"):
        world.place(key)
        world.door.lose()
    assert [type(answer) for answer in world.answers] == [Granted, Granted]
    granted = world.answers[0]
    assert isinstance(granted, Granted)
    assert (granted.seconds, granted.final, granted.currency) == (3600, True, "EUR")
    assert (world.calls.passed, world.calls.waiting) == (2, 2)
    world.clock.advance(AGAIN_SECONDS)
    world.door.lose()  # still away
    world.clock.advance(AGAIN_SECONDS)
    assert [world.door.commit(), world.door.commit()] == ["a", "b"]
    assert (world.calls.passed, world.calls.waiting) == (2, 0)
    world.place("c")
    world.door.lose()
    world.clock.advance(AGAIN_SECONDS)
    assert world.door.commit() == "c"


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_database_that_stands_still_is_not_waited_for(comes_back: bool) -> None:
    world = World()
    world.place("a")
    world.clock.advance(WAIT_SECONDS - 0.01)
    assert world.answers == []
    world.clock.advance(0.01)
    assert [type(answer) for answer in world.answers] == [Granted]
    if comes_back:  # what was asked is on record after all
        world.door.commit()
        assert world.calls.waiting == 0
    else:
        world.door.lose()
        assert world.calls.waiting == 1
        world.clock.advance(AGAIN_SECONDS)
        assert world.door.commit() == "a"
    assert len(world.answers) == 1
    assert world.calls.passed == 1


def test_so_many_wait_to_be_recorded_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emergency, "UNRECORDED_MAX", 2)
    world = World()
    for key in ("a", "b", "c"):
        world.place(key)
        world.door.lose()
    assert len(world.answers) == 3  # it passes all the same
    assert world.calls.waiting == 2
