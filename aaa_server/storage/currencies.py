"""Exchange rates: how much of one currency a unit of another is, from when on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.rating.money import EXCHANGE_SCALE, div_half_up
from aaa_server.storage.problem import BadValue
from aaa_server.storage.viewer import Viewer, require_operator

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor


class ExchangeRate(NamedTuple):
    """In force from `effective_from` until the pair's next one."""

    from_currency: str
    to_currency: str
    effective_from: datetime
    rate_e10: int


def set_rate(cursor: Cursor, viewer: Viewer, rate: ExchangeRate) -> None:
    """Enter the rate; one from the same instant is replaced. Raises `BadValue`."""
    require_operator(viewer, "exchange rates are set")
    try:
        cursor.execute(
            """
            INSERT INTO exchange_rate (from_currency, to_currency, effective_from, rate_e10)
            VALUES (%(from_currency)s, %(to_currency)s, %(effective_from)s, %(rate_e10)s)
                ON CONFLICT (from_currency, to_currency, effective_from) DO UPDATE
               SET rate_e10 = excluded.rate_e10
            """,
            rate._asdict(),
        )
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(
            "two different currencies of three capital letters and a rate above 0 are expected"
        ) from error


def list_rates(cursor: Cursor) -> list[ExchangeRate]:
    """All, the newest of each pair first."""
    cursor.execute(
        """
        SELECT from_currency, to_currency, effective_from, rate_e10
          FROM exchange_rate
         ORDER BY from_currency, to_currency, effective_from DESC
        """
    )
    return [ExchangeRate(*row) for row in cursor.fetchall()]


def rate_now(cursor: Cursor, source: str, target: str) -> int | None:
    """How much of `target` one unit of `source` is now, times 10^10; None: unknown.

    A pair that is entered in the other direction only is turned round, half up, as for calls.
    """
    if source == target:
        return EXCHANGE_SCALE
    rate = _entered(cursor, source, target)
    if rate is not None:
        return rate
    inverse = _entered(cursor, target, source)
    return None if inverse is None else div_half_up(EXCHANGE_SCALE * EXCHANGE_SCALE, inverse)


def _entered(cursor: Cursor, source: str, target: str) -> int | None:
    cursor.execute(
        """
        SELECT rate_e10
          FROM exchange_rate
         WHERE from_currency = %s
           AND to_currency = %s
           AND effective_from <= now()
         ORDER BY effective_from DESC
         LIMIT 1
        """,
        (source, target),
    )
    row = cursor.fetchone()
    return None if row is None else int(row[0])
