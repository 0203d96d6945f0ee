"""Exchange rates: how much of one currency a unit of another is, from when on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.rating import bounds
from aaa_server.rating.money import EXCHANGE_SCALE, div_half_up, format_exchange, format_nanos
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
    _refuse_unbounded(cursor, rate)
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


def price_nanos_max(cursor: Cursor, currency: str) -> int:
    """The largest price a minute in this currency whose charges fit, whatever it is exchanged to.

    All rates that were ever entered count, as a call may be charged anew by an old one.
    """
    cursor.execute(
        """
        SELECT max(rate_e10) FILTER (WHERE from_currency = %(currency)s),
               min(rate_e10) FILTER (WHERE to_currency = %(currency)s)
          FROM exchange_rate
        """,
        {"currency": currency},
    )
    row = cursor.fetchone()
    assert row is not None
    largest = max(row[0] or EXCHANGE_SCALE, _inverse(row[1]) if row[1] else EXCHANGE_SCALE)
    return bounds.price_nanos_max(max(largest, EXCHANGE_SCALE))


def _inverse(rate_e10: int) -> int:
    return div_half_up(EXCHANGE_SCALE * EXCHANGE_SCALE, rate_e10)


def _refuse_unbounded(cursor: Cursor, rate: ExchangeRate) -> None:
    """Raises `BadValue` where a price that there is, exchanged so, could not be charged."""
    both = ((rate.from_currency, rate.rate_e10), (rate.to_currency, _inverse(rate.rate_e10)))
    for currency, rate_e10 in both:
        dearest = _dearest_nanos(cursor, currency)
        if dearest > bounds.price_nanos_max(rate_e10):
            raise BadValue(
                f"one {currency} as {format_exchange(rate_e10)} is too much beside a price of "
                f"{format_nanos(dearest)} {currency} a minute: such a call could not be charged"
            )


def _dearest_nanos(cursor: Cursor, currency: str) -> int:
    """Of all rows and their steps; a step's seconds are too small to matter."""
    cursor.execute(
        """
        SELECT greatest(max(rate.per_minute_nanos),
                        max((SELECT max(step) FROM unnest(rate.steps) AS step)),
                        max(rate_group.on_net_per_minute_nanos),
                        0)
          FROM tariff
          LEFT JOIN rate USING (tariff_id)
          LEFT JOIN rate_group USING (tariff_id)
         WHERE tariff.currency = %s
        """,
        (currency,),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


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
    return None if inverse is None else _inverse(inverse)


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
