"""How large prices, fees, markups and exchange rates may be: so that every charge can be stored.

The dearest call of all, with the largest fee and markup and exchanged, comes to less than half
of what a bigint of micros holds. Price and exchange rate bound each other: `price_nanos_max`.
"""

from __future__ import annotations

from aaa_server.rating.money import (
    EXCHANGE_SCALE,
    MICROS,
    NANOS,
    PPM,
    format_exchange,
    format_micros,
    format_nanos,
    format_percent,
)

TALK_SECONDS_MAX = 30 * 86_400  # more is not believed of a call
CALL_SECONDS_MAX = TALK_SECONDS_MAX + 86_400  # a block may be a day
# A million a minute is dear in every currency, also where a coffee costs as much.
PRICE_NANOS_MAX = 10**6 * NANOS
FEE_MICROS_MAX = 10**6 * MICROS  # of a call: connect fee, minimum charge, surcharge
CREDIT_MICROS_MAX = 10**12 * MICROS  # a credit limit: what is available is a sum with it
MARKUP_PPM_MAX = 10 * PPM
EXCHANGE_E10_MAX = 10**6 * EXCHANGE_SCALE
EXCHANGE_E10_MIN = EXCHANGE_SCALE // 10**6  # the opposite direction is its inverse
EXCHANGED_NANOS_MAX = 5 * PRICE_NANOS_MAX  # a price in another currency


def checked_price(nanos: int, most: int = PRICE_NANOS_MAX) -> int:
    """The price a minute itself. Raises `ValueError` for one above `most`."""
    if nanos > most:
        raise ValueError(
            f"{format_nanos(nanos)} a minute is too much: {format_nanos(most)} is the most"
            + ("" if most == PRICE_NANOS_MAX else ", with the exchange rates of its currency")
        )
    return nanos


def checked_fee(micros: int) -> int:
    """The fee of a call itself. Raises `ValueError` for one that is too large."""
    if micros > FEE_MICROS_MAX:
        most = FEE_MICROS_MAX // MICROS
        raise ValueError(f"{format_micros(micros)} for a call is too much: {most} is the most")
    return micros


def checked_credit(micros: int) -> int:
    """The credit limit itself. Raises `ValueError` for one that is too large."""
    if micros > CREDIT_MICROS_MAX:
        most = CREDIT_MICROS_MAX // MICROS
        raise ValueError(f"{format_micros(micros)} of credit is too much: {most} is the most")
    return micros


def checked_markup(ppm: int) -> int:
    """The markup itself. Raises `ValueError` for one that is too large."""
    if ppm > MARKUP_PPM_MAX:
        most = format_percent(MARKUP_PPM_MAX)
        raise ValueError(f"a markup of {format_percent(ppm)} % is too much: {most} % is the most")
    return ppm


def checked_exchange(rate_e10: int) -> int:
    """The exchange rate itself. Raises `ValueError` for one too far from 1, either way."""
    if not EXCHANGE_E10_MIN <= rate_e10 <= EXCHANGE_E10_MAX:
        least, most = format_exchange(EXCHANGE_E10_MIN), EXCHANGE_E10_MAX // EXCHANGE_SCALE
        raise ValueError(
            f"an exchange rate is from {least} to {most}, not {format_exchange(rate_e10)}"
        )
    return rate_e10


def price_nanos_max(exchange_e10: int) -> int:
    """The largest price that may be exchanged at this rate."""
    return min(PRICE_NANOS_MAX, EXCHANGED_NANOS_MAX * EXCHANGE_SCALE // exchange_e10)
