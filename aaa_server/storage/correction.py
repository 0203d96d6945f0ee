"""New ratings and closings by the operator, through the same door as a switch's messages.

A connection of its own plays a server process for as long as it takes: running servers
notice by the rows that their memory is old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.charging.decide import decide_batch
from aaa_server.charging.requests import ChargingAnswer, ChargingRequest, Origin, Rerate, Stop
from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.plain import PlainTransaction, finished
from aaa_server.storage.problem import NotFound

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.charging.ledger import Policy

CALLS_A_BATCH = 200  # servers wait while one is posted: some milliseconds


class Ended(NamedTuple):
    """A call that has ended, as a new rating needs to name it."""

    client_id: int
    session_key: str
    call_id: int
    called: str


def ended_calls(
    cursor: Cursor,
    *,
    begin: datetime,
    end: datetime,
    account_id: int | None,
    after: int,
    limit: int,
) -> list[Ended]:
    """Calls authorised in [begin, end) of the account and all below it, by number above `after`."""
    cursor.execute(
        """
        SELECT cdr.client_id,
               cdr.session_key,
               cdr.call_id,
               cdr.called
          FROM cdr
          JOIN account USING (account_id)
         WHERE cdr.authorized_at >= %(begin)s
           AND cdr.authorized_at < %(end)s
           AND cdr.refusal IS NULL
           AND cdr.seconds > 0
           AND cdr.call_id > %(after)s
           AND (%(account_id)s::bigint IS NULL OR account.chain @> ARRAY[%(account_id)s::bigint])
         ORDER BY cdr.call_id
         LIMIT %(limit)s
        """,
        {"begin": begin, "end": end, "account_id": account_id, "after": after, "limit": limit},
    )
    return [Ended(*row) for row in cursor.fetchall()]


def stop_of(cursor: Cursor, call_id: int, at: datetime, *, seconds: int | None) -> Stop:
    """The operator's Stop for a call in progress.

    `seconds` None: what was last known of it. Raises `NotFound` when it does not run.
    """
    cursor.execute(
        """
        SELECT client_id,
               session_key,
               last_seconds,
               called
          FROM call
         WHERE call_id = %s
           AND status <> 'refused'
        """,
        (call_id,),
    )
    row = cursor.fetchone()
    if row is None:
        raise NotFound(f"call {call_id} is not in progress: `sky-aaa calls` shows those that are")
    client_id, session_key, last_seconds, called = row
    talked = last_seconds or 0 if seconds is None else seconds
    return Stop(
        client_id, session_key, at, 1000 * talked, Origin(), called, False, ended_by="operator"
    )


def decide(
    connection: Connection,
    batch: list[ChargingRequest],
    *,
    numbers: Collection[str],
    policy: Policy,
    dry_run: bool = False,
) -> list[ChargingAnswer]:
    """The answers to `batch`, committed, or with `dry_run` rolled back.

    `connection` is a prepared one (plain.prepare). Prices are read for `numbers` alone, of
    all times.
    """
    prefixes = {number[:length] for number in numbers for length in range(1, len(number) + 1)}
    store = ChargingStore(
        catalogue=CatalogueHolder(prefixes=prefixes),
        policy=policy,
        unseal=lambda _sealed, _account_id, _column: b"",
    )
    transaction = PlainTransaction(connection)
    try:
        # Prices first: while the locks are held, servers wait.
        finished(store.catalogue.refresh(transaction.execute))
        ledger = finished(store.load(transaction, batch))
        answers = decide_batch(ledger.batch, ledger)
        if not dry_run:
            finished(store.record(transaction, ledger))
    finally:
        connection.rollback()
    return answers


def rerates(calls: list[Ended], at: datetime) -> list[ChargingRequest]:
    """What asks for the calls to be rated anew."""
    return [Rerate(call.client_id, call.session_key, call.call_id, at) for call in calls]
