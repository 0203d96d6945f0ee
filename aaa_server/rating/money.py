"""Money as integers: amounts in micros, prices in nanos a minute; text in, text out.

Every division names its rounding, and text is read exactly or refused: nothing here
knows a binary fraction.
"""

from __future__ import annotations

import re

MICROS = 10**6  # of a currency unit: amounts
NANOS = 10**9  # of a currency unit: prices per minute
PPM = 10**6  # of the whole: markups, margins
EXCHANGE_SCALE = 10**10  # of one unit of the other currency

LARGEST = 2**63 - 1  # what a bigint column holds

_DECIMAL = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?")


def div_floor(numerator: int, denominator: int) -> int:
    """The quotient, rounded towards minus infinity."""
    return numerator // denominator


def div_ceil(numerator: int, denominator: int) -> int:
    """The quotient, rounded towards plus infinity."""
    return -(-numerator // denominator)


def div_half_up(numerator: int, denominator: int) -> int:
    """The nearest integer, halves upwards: 0.5 is 1, −0.5 is 0. `denominator` is positive."""
    return (2 * numerator + denominator) // (2 * denominator)


def parse_micros(text: str) -> int:
    """Micros of an amount such as `-12.50`; raises `ValueError` that says what is wrong."""
    return _parse(text, decimals=6, what="an amount", example="12.50")


def parse_nanos(text: str) -> int:
    """Nanos of a price such as `0.0123`; raises `ValueError` that says what is wrong."""
    return _parse(text, decimals=9, what="a price", example="0.0123")


def parse_percent_ppm(text: str) -> int:
    """Parts per million of a percentage such as `12.5` or `12.5%`; raises `ValueError`."""
    number = text.strip().removesuffix("%")
    return _parse(number, decimals=4, what="a percentage", example="12.5")


def parse_exchange(text: str) -> int:
    """An exchange rate such as `0.92` as its ten-decimal integer; raises `ValueError`."""
    rate = _parse(text, decimals=10, what="an exchange rate", example="0.92")
    if rate <= 0:
        raise ValueError(f"{text!r} is not an exchange rate: it must be above 0")
    return rate


def format_micros(amount: int) -> str:
    """All six decimals: `0.100000`."""
    return _format(amount, scale=MICROS, decimals=6, at_least=6)


def format_nanos(price: int) -> str:
    """Four decimals, or as many more as the price has: `0.0123`, `0.00001`."""
    return _format(price, scale=NANOS, decimals=9, at_least=4)


def format_percent(ppm: int) -> str:
    """The percentage without its sign and without idle zeros: `10`, `12.5`."""
    return _format(ppm, scale=10**4, decimals=4, at_least=0)


def format_exchange(rate_e10: int) -> str:
    """Four decimals, or as many more as the rate has: `0.9200`."""
    return _format(rate_e10, scale=EXCHANGE_SCALE, decimals=10, at_least=4)


def _parse(text: str, *, decimals: int, what: str, example: str) -> int:
    match = _DECIMAL.fullmatch(text.strip())
    if match is None or not (match[2] or match[3]):
        raise ValueError(f"{text!r} is not {what}: digits and a point are expected, like {example}")
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    if len(fraction) > decimals:
        raise ValueError(
            f"{text!r} is not {what}: it has {len(fraction)} decimals, {decimals} are allowed"
        )
    # Counted before converting: int() refuses or crawls through absurdly long digits.
    if (
        len(whole.lstrip("0")) > 19
        or (value := int((whole or "0") + fraction.ljust(decimals, "0"))) > LARGEST
    ):
        raise ValueError(f"{text!r} is not {what}: it is too large")
    return -value if sign == "-" else value


def _format(value: int, *, scale: int, decimals: int, at_least: int) -> str:
    whole, rest = divmod(abs(value), scale)
    fraction = str(rest).rjust(decimals, "0").rstrip("0").ljust(at_least, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
