"""Accounts that memory lacks are read beside the charging transaction, and proved in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import Authorize, Granted, Origin, Refusal, Refused, Stop
from aaa_server.online_charging import Line, charge
from aaa_server.storage import charging, charging_memory
from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.database import DatabaseUnavailable, connect
from aaa_server.storage.plain import PlainTransaction, in_transaction, prepare
from tests.scenario import BEGINNING, CLIENT, Scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from psycopg2.extensions import connection as Connection

    from aaa_server.charging.requests import ChargingAnswer

WORLD = """
    rate      retail  44  0.60 60/60
    account   tenant  100.00 retail kind=reseller
    account   acme    5.00   retail
    account   beta    3.00   retail tenant
    account   zero    0.00   retail
"""


def asks(code: str, session: str, called: str = "442071830000") -> Authorize:
    return Authorize(CLIENT, session, BEGINNING, Origin(account_code=code), called, None, True)


def ends(session: str) -> Stop:
    return Stop(CLIENT, session, BEGINNING, 0, Origin(account_code="acme"), "442071830000")


class Server:
    """A store that has been asked once, with a second connection that it may look with."""

    def __init__(self, own: Connection, beside: Connection) -> None:
        self.beside = beside
        self.statements: list[str] = []
        self.looked: list[str] = []
        self.instead: Callable[[], None] = lambda: None
        self.held_up: Deferred[None] | None = None
        self.store = ChargingStore(
            catalogue=CatalogueHolder(),
            policy=Policy(),
            unseal=lambda sealed, _row, _column: sealed,
        )
        self._run = in_transaction(own)
        self._line = Line()

    async def look(self, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        self.looked.append(sql)
        if self.held_up is not None:
            await self.held_up
        rows = await PlainTransaction(self.beside).execute(sql, parameters)
        self.beside.commit()
        self.instead()
        return rows

    async def transaction(self, work: Callable[[PlainTransaction], Awaitable[None]]) -> None:
        async def watched(transaction: PlainTransaction) -> None:
            execute = transaction.execute

            async def said(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
                self.statements.append(sql)
                return await execute(sql, parameters)

            transaction.execute = said  # type: ignore[method-assign]
            await work(transaction)

        await self._run(watched)

    def ask(self, *batch: Authorize | Stop) -> Deferred[list[ChargingAnswer]]:
        self.statements.clear()
        self.looked.clear()
        return ensureDeferred(
            charge(list(batch), self.store, self.transaction, self._line, self.look)
        )


@pytest.fixture
def server(connection: Connection, database_url: str) -> Iterator[Server]:
    Scenario(connection).check(WORLD)
    beside, own = connect(database_url), connect(database_url)
    for one in (beside, own):
        prepare(one)
        one.commit()
    made = Server(own, beside)
    [answer] = answered(made.ask(asks("acme", "first")))
    assert isinstance(answer, Granted)
    yield made
    beside.close()
    own.close()


def answered(asked: Deferred[list[ChargingAnswer]]) -> list[ChargingAnswer]:
    result: list[list[ChargingAnswer]] = []
    asked.addCallback(result.append)
    assert result, "it is not answered yet"
    return result[0]


def was_locked(server: Server) -> bool:
    return any("EXECUTE load " in sql for sql in server.statements)


def test_who_is_met_first_is_looked_up_with_its_resellers_and_decided_on_memory(
    server: Server,
) -> None:
    [answer] = answered(server.ask(asks("beta", "b")))
    assert isinstance(answer, Granted)
    assert len(server.looked) == 2, "the account by its code, then its reseller"
    assert len(server.statements) == 1
    assert not was_locked(server)


def test_who_is_known_is_not_looked_up(server: Server) -> None:
    answered(server.ask(asks("acme", "second")))
    assert server.looked == []
    assert not was_locked(server)


def test_a_code_that_nobody_has_is_looked_up_once_and_then_refused_on_locked_rows(
    server: Server,
) -> None:
    [answer] = answered(server.ask(asks("nobody", "n")))
    assert isinstance(answer, Refused)
    assert answer.reason is Refusal.INVALID_ACCOUNT
    assert len(server.looked) == 1
    assert was_locked(server)


def test_money_that_went_away_after_the_look_is_not_granted(
    server: Server, connection: Connection
) -> None:
    def spend() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE account SET balance_micros = 0 WHERE code = 'beta'")
        connection.commit()

    server.instead = spend
    [answer] = answered(server.ask(asks("beta", "b")))
    assert isinstance(answer, Refused)
    assert was_locked(server)


def test_a_look_that_fails_costs_nothing_but_the_lock(server: Server) -> None:
    def lost() -> None:
        raise DatabaseUnavailable("gone")

    server.instead = lost
    [answer] = answered(server.ask(asks("beta", "b")))
    assert isinstance(answer, Granted)
    assert was_locked(server)


def test_what_comes_later_is_decided_after_what_is_being_looked_up(server: Server) -> None:
    server.held_up = Deferred()
    held_up = server.held_up
    first = server.ask(asks("beta", "b"))
    # Only 3.00 are there: whoever is decided first gets them.
    second = server.ask(asks("acme", "a2"), asks("beta", "b2"))
    assert not first.called
    assert not second.called
    server.held_up = None
    held_up.callback(None)
    [granted] = answered(first)
    assert isinstance(granted, Granted)
    refused = answered(second)[1]
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.NO_CREDIT


def test_all_accounts_are_taken_into_memory_a_slice_at_a_time(server: Server) -> None:
    async def all_of_them() -> list[int]:
        last, seen = 0, []
        while True:
            last = await server.store.warm_up(server.look, last, rows=2)
            seen.append(last)
            if not last:
                return seen

    slices: list[list[int]] = []
    ensureDeferred(all_of_them()).addCallback(slices.append)
    assert slices[0] == [*sorted(slices[0][:-1]), 0]
    assert len(slices[0]) == 3
    answered(server.ask(asks("beta", "b"), asks("zero", "z")))
    assert server.looked == []
    assert not was_locked(server)


def test_no_more_accounts_are_held_than_there_is_room_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (charging, charging_memory):
        monkeypatch.setattr(module, "ACCOUNTS_HELD_MAX", 2)
    monkeypatch.setattr(charging, "PROFILES_HELD_MAX", 2)
    monkeypatch.setattr(charging, "CODES_HELD_MAX", 2)
    for number, code in enumerate(("acme", "beta", "zero", "acme", "beta")):
        answered(server.ask(asks(code, f"{code}{number}")))
    assert server.store.accounts_held <= 4  # what one batch adds comes on top


def test_a_batch_is_not_written_before_one_that_has_to_be_decided_anew(server: Server) -> None:
    """What the first finds only in its turn is a call of the key that has ended long since."""
    answered(server.ask(ends("gone")))
    turns: list[Deferred[None]] = []
    run = server.transaction

    async def in_turn(work: Callable[[PlainTransaction], Awaitable[None]]) -> None:
        turn: Deferred[None] = Deferred()
        turns.append(turn)
        await turn
        await run(work)

    server.transaction = in_turn  # type: ignore[method-assign]
    first = server.ask(asks("acme", "first"), asks("acme", "gone", called="999"))
    second = server.ask(ends("first"))
    assert len(turns) == 2, "both are decided on memory"
    while turns:
        turns.pop(0).callback(None)
    again, gone = answered(first)
    assert isinstance(again, Granted), "asked again before it ended, as it came"
    assert isinstance(gone, Refused)
    assert gone.reason is Refusal.INVALID_ARGUMENT
    answered(second)
