"""The charging store on an ordinary connection: for commands and tests, without a reactor.

A server's statements are awaited; on a blocking connection nothing ever has to wait, so a
coroutine runs to its end at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.charging_sql import PREPARED, SETTINGS
from aaa_server.storage.identifiers import Identifiers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from psycopg2.extensions import connection as Connection

    from aaa_server.charging.ledger import Ledger, Policy
    from aaa_server.charging.requests import ChargingRequest

Result = TypeVar("Result")


def finished(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError("it waited")


def look(
    connection: Connection, batch: list[ChargingRequest], *, number: str, policy: Policy
) -> Ledger:
    """What `batch`, which calls nothing but `number`, would be decided on.

    It is rolled back: nothing stays locked, no number is used up, and what is decided on
    the ledger is for looking at. Secrets are not opened, so no credential can be checked.
    Rate rows are those of all times.
    """
    prepare(connection)
    # Before the number's own digits a tech prefix may come off.
    places = range(len(number))
    prefixes = {number[begin : end + 1] for begin in places for end in places[begin:]}
    identifiers = Identifiers()
    identifiers.add(range(1, 4 * len(batch) + 1))
    store = ChargingStore(
        catalogue=CatalogueHolder(prefixes=prefixes),
        policy=policy,
        unseal=lambda _sealed, _account_id, _column: b"",
        identifiers=identifiers,
    )
    transaction = PlainTransaction(connection)
    try:
        # Prices first: while the locks are held, servers wait.
        finished(store.catalogue.refresh(transaction.execute))
        return finished(store.load(transaction, batch))
    finally:
        connection.rollback()


def prepare(connection: Connection) -> None:
    """Give `connection` the charging connection's settings and prepared statements."""
    with connection.cursor() as cursor:
        for setting in SETTINGS:
            name, _, value = setting.partition("=")
            cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        for name, statement in PREPARED.items():
            cursor.execute(f"PREPARE {name} AS {statement}")


def in_transaction(
    connection: Connection,
) -> Callable[[Callable[[PlainTransaction], Awaitable[None]]], Awaitable[None]]:
    """What runs work in a transaction of a prepared connection, and undoes it when it fails."""

    async def run(work: Callable[[PlainTransaction], Awaitable[None]]) -> None:
        try:
            await work(PlainTransaction(connection))
        except BaseException:
            connection.rollback()
            raise
        connection.commit()

    return run


class PlainTransaction:
    """The statements of one transaction on a prepared connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """The rows of the last statement in `sql`."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description is not None else []

    async def commit_with(self, sql: str) -> None:
        """Runs `sql` and commits."""
        await self.execute(sql)
        self._connection.commit()

    async def commit(self) -> None:
        self._connection.commit()
