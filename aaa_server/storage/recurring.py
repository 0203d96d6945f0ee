"""Everything that is charged again and again: subscriptions, packages by the period, DIDs.

`charge_recurring` may be run at any time, as often as somebody likes, by several at once, and
may be killed in its middle: each thing is charged in a transaction of its own together with
how far it has been charged, and the ledger takes each period's reference once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import psycopg2

from aaa_server.storage import did_fees, subscription_fees
from aaa_server.storage.database import reason_of, transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

THINGS_AT_ONCE = 1000  # read in one go; each is charged by itself


class Charged(NamedTuple):
    """What one run did: fees posted, and things that prepaid accounts cannot pay."""

    fees: int
    unpaid: int

    def __str__(self) -> str:
        return f"{self.fees} fees posted, {self.unpaid} cannot be paid"


class NotAllCharged(Exception):
    """Some things could not be charged, though all others were; the text says which and why."""


def charge_recurring(connection: Connection, now: datetime) -> Charged:
    """Charge all that is due by `now`, each missed period at its own time; commits by itself.

    Raises `NotAllCharged` once all others are charged, when something could not be.
    """
    run = _Run(connection)
    after = 0
    while numbers := _due_subscriptions(connection, now, after):
        for number, account_id in numbers:
            work = partial(_subscription, number=number, account_id=account_id, now=now)
            run.charge(f"subscription {number}", work)
            after = number
    with transaction(connection) as cursor:
        did_fees.refresh(cursor, now)
    last: did_fees.Key | None = None
    while keys := _due_dids(connection, now, last):
        for key in keys:
            what = f"DID {key.did_id} of account {key.account_id}"
            run.charge(what, partial(did_fees.charge, key=key, now=now))
            last = key
    if run.problems:
        more = f" and {len(run.problems) - 1} more" if len(run.problems) > 1 else ""
        raise NotAllCharged(f"{run.problems[0]}{more}; {Charged(run.fees, run.unpaid)}")
    return Charged(run.fees, run.unpaid)


class _Run:
    """Counts, and keeps one thing's fault from the others."""

    def __init__(self, connection: Connection) -> None:
        self.fees = 0
        self.unpaid = 0
        self.problems: list[str] = []
        self._connection = connection

    def charge(self, what: str, work: Callable[[Cursor], tuple[int, bool]]) -> None:
        try:
            with transaction(self._connection) as cursor:
                fees, unpaid = work(cursor)
        except psycopg2.OperationalError:
            raise
        except psycopg2.Error as error:
            self.problems.append(f"{what}: {reason_of(error)}")
            return
        self.fees += fees
        self.unpaid += unpaid


def _subscription(
    cursor: Cursor, *, number: int, account_id: int, now: datetime
) -> tuple[int, bool]:
    charged = subscription_fees.charge(cursor, number, account_id, now)
    return charged.fees, charged.unpaid_micros > 0


def _due_subscriptions(connection: Connection, now: datetime, after: int) -> list[tuple[int, int]]:
    with transaction(connection) as cursor:
        cursor.execute(
            """
            SELECT subscription_id,
                   account_id
              FROM subscription
             WHERE next_at <= %s
               AND subscription_id > %s
             ORDER BY subscription_id
             LIMIT %s
            """,
            (now, after, THINGS_AT_ONCE),
        )
        return cursor.fetchall()


def _due_dids(
    connection: Connection, now: datetime, after: did_fees.Key | None
) -> list[did_fees.Key]:
    with transaction(connection) as cursor:
        return did_fees.due(cursor, now, after, THINGS_AT_ONCE)
