"""What a call costs, and how long it may talk for a given sum.

    seconds    = answered time, rounded up to a second; 0 seconds cost nothing at all
    chargeable = max(0, seconds - included seconds - package seconds)
    billed     = 0 if chargeable == 0
                 else initial + ceil(max(0, chargeable - initial) / increment) * increment
    amount     = max(minimum charge, connect fee + price * (1 + markup) * billed / 60)

A call wholly inside its free seconds costs the connect fee alone, and nothing when
package seconds cover it from the first second.

The trick: price, markup, exchange rate and the rounding half are folded, once per
`Terms`, into integers over one denominator, `unit`. So a price is a multiplication and
one floor division, and the affordable time solves the same inequality backwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from math import gcd

from aaa_server.rating.money import EXCHANGE_SCALE, MICROS, NANOS, PPM

# A server sees a few exchange rates at a time, times the price rows that are in use.
CONVERTED_TERMS_MAX = 8192

_NANOS_A_MICRO = NANOS // MICROS
_SECONDS_A_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Terms:
    """One row's conditions, with the markup and the exchange rate that apply to them.

    The fees and the price are in the tariff's currency, the results of the methods in
    the account's: `exchange_e10` is how many of the account's units one of the tariff's
    is worth.
    """

    per_minute_nanos: int
    connect_fee_micros: int = 0
    included_seconds: int = 0
    initial_seconds: int = 60
    increment_seconds: int = 60
    minimum_charge_micros: int = 0
    markup_ppm: int = 0
    exchange_e10: int = EXCHANGE_SCALE

    _slope: int = field(init=False, repr=False, compare=False)
    _fee: int = field(init=False, repr=False, compare=False)
    _minimum: int = field(init=False, repr=False, compare=False)
    _unit: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fold everything that does not depend on the seconds."""
        assert self.per_minute_nanos >= 0
        assert self.connect_fee_micros >= 0
        assert self.minimum_charge_micros >= 0
        assert self.included_seconds >= 0
        assert self.initial_seconds >= 0
        assert self.increment_seconds > 0
        assert self.markup_ppm >= -PPM
        assert self.exchange_e10 > 0
        # Exact numerators of a micro over `unit`, which makes all of them integers.
        unit = _SECONDS_A_MINUTE * _NANOS_A_MICRO * PPM * EXCHANGE_SCALE
        micro = _SECONDS_A_MINUTE * _NANOS_A_MICRO * PPM * self.exchange_e10
        slope = self.per_minute_nanos * (PPM + self.markup_ppm) * self.exchange_e10
        fee = self.connect_fee_micros * micro
        minimum = self.minimum_charge_micros * micro
        # In lowest terms nearly all real prices fit a machine word.
        common = gcd(unit, slope, fee, minimum)
        unit //= common
        # floor((2 x + unit) / (2 unit)) rounds half up: the half is folded in here.
        fold = object.__setattr__
        fold(self, "_slope", 2 * (slope // common))
        fold(self, "_fee", 2 * (fee // common) + unit)
        fold(self, "_minimum", 2 * (minimum // common) + unit)
        fold(self, "_unit", 2 * unit)

    def cost_micros(self, seconds: int, package_seconds: int = 0) -> int:
        """Price of a call of `seconds`, rounded half up to a micro, once.

        `package_seconds` is what the account's package still frees. An unanswered call
        (`seconds` 0) costs nothing, not even the connect fee.
        """
        if seconds <= 0:
            return 0
        chargeable = seconds - package_seconds - self.included_seconds
        if chargeable <= 0:
            if not self.included_seconds:
                return 0
            return self._fee // self._unit
        initial = self.initial_seconds
        if chargeable > initial:
            increment = self.increment_seconds
            initial -= (initial - chargeable) // increment * increment
        amount = self._fee + self._slope * initial
        if amount < self._minimum:
            amount = self._minimum
        return amount // self._unit

    def billed_seconds(self, seconds: int, package_seconds: int = 0) -> int:
        """The seconds of whole blocks that a call of `seconds` is charged for."""
        chargeable = seconds - package_seconds - self.included_seconds
        if seconds <= 0 or chargeable <= 0:
            return 0
        initial = self.initial_seconds
        if chargeable > initial:
            increment = self.increment_seconds
            initial -= (initial - chargeable) // increment * increment
        return initial

    def affordable_seconds(
        self, available_micros: int, at_most: int, package_seconds: int = 0
    ) -> int:
        """The longest call, up to `at_most` seconds, that costs no more than is available.

        The exact inverse of `cost_micros`; 0 when not even one second can be paid, and
        always 0 when less than nothing is available.
        """
        if available_micros < 0 or at_most <= 0:
            return 0
        included = self.included_seconds
        # cost <= available  <=>  numerator // unit <= available  <=>  numerator <= limit
        limit = self._unit * (available_micros + 1) - 1
        initial = self.initial_seconds
        increment = self.increment_seconds
        first_block = self._fee + self._slope * (initial or increment)
        if first_block > limit or self._minimum > limit:
            if not included:
                seconds = package_seconds
            elif self._fee <= limit:
                seconds = included + package_seconds
            else:
                seconds = 0
        elif not self._slope:
            return at_most
        else:
            billed = (limit - self._fee) // self._slope
            billed -= (billed - initial) % increment
            seconds = included + package_seconds + billed
        return seconds if seconds < at_most else at_most

    def with_exchange(self, exchange_e10: int) -> Terms:
        """The same terms for an account in another currency."""
        if exchange_e10 == self.exchange_e10:
            return self
        return _changed(self, self.markup_ppm, exchange_e10)

    def with_markup(self, markup_ppm: int) -> Terms:
        """The same terms with the rate group's markup on the price per minute."""
        if markup_ppm == self.markup_ppm:
            return self
        return _changed(self, markup_ppm, self.exchange_e10)


# Folding costs a few microseconds, and the same rows are asked for call after call.
@lru_cache(maxsize=CONVERTED_TERMS_MAX)
def _changed(terms: Terms, markup_ppm: int, exchange_e10: int) -> Terms:
    return Terms(
        per_minute_nanos=terms.per_minute_nanos,
        connect_fee_micros=terms.connect_fee_micros,
        included_seconds=terms.included_seconds,
        initial_seconds=terms.initial_seconds,
        increment_seconds=terms.increment_seconds,
        minimum_charge_micros=terms.minimum_charge_micros,
        markup_ppm=markup_ppm,
        exchange_e10=exchange_e10,
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """One row of a tariff: what a prefix costs in `[effective_from, effective_to)`.

    `strip` digits are cut from the number and `prepend` put before it on the way to a
    provider. Of two routes that are otherwise equal the lower `priority` comes first. Calls
    that are sold at this row go out over resource group `resource_group_id` alone, unless 0.
    """

    rate_id: int
    prefix: str
    terms: Terms
    effective_from: datetime
    effective_to: datetime | None
    blocked: bool = False
    destination: str = ""
    strip: int = 0
    prepend: str = ""
    priority: int = 0
    resource_group_id: int = 0
