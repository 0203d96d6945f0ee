"""What a call costs, and how long it may talk for a given sum.

    seconds    = answered time, rounded up to a second; 0 seconds cost nothing at all
    chargeable = max(0, seconds - included seconds - package seconds)
    billed     = 0 if chargeable == 0
                 else initial + ceil(max(0, chargeable - initial) / increment) * increment
    amount     = max(minimum charge, connect fee + price * (1 + markup) * billed / 60)

A call wholly inside its free seconds costs the connect fee alone, and nothing when
package seconds cover it from the first second.

With steps, the price changes at given billed seconds: `price * billed` is then the sum over
the stretches between them, and a block that lies across a step is split there.

The trick: price, markup, exchange rate and the rounding half are folded, once per
`Terms`, into integers over one denominator, `unit`. So a price is a multiplication and
one floor division, and the affordable time solves the same inequality backwards. Terms
with steps have no single price: theirs is folded to 0 and their minimum to more than the
fee, which leads them into the branches that others seldom take. So terms without steps
are never asked whether they have any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from math import gcd
from typing import NamedTuple

from aaa_server.rating.money import EXCHANGE_SCALE, MICROS, NANOS, PPM

# A server sees a few exchange rates at a time, times the price rows that are in use.
CONVERTED_TERMS_MAX = 8192
STEPS_MAX = 8  # more changes of price within one call than anybody sells
STEP_SECONDS_MAX = 86_400  # a step that begins later than a day into the call is a mistake

_NANOS_A_MICRO = NANOS // MICROS
_SECONDS_A_MINUTE = 60


class _Stepped(NamedTuple):
    """The amount as a line with knees: (billed seconds, numerator there, slope from there).

    The knees stand with the last one first, which is the first that is reached when the
    place of a length or of an amount is looked for. The last of them is at 0.
    """

    minimum: int
    knees: tuple[tuple[int, int, int], ...]

    def numerator(self, billed_seconds: int) -> int:
        """Of fee and price of so many billed seconds, or of the minimum charge."""
        numerator = self.minimum
        for begins, so_far, slope in self.knees:
            if billed_seconds >= begins:
                numerator = max(numerator, so_far + slope * (billed_seconds - begins))
                break
        return numerator

    def billed_seconds(self, limit: int) -> int | None:
        """The most that come to `limit`, which the fee does not exceed; None: without end."""
        for begins, so_far, slope in self.knees:
            # The last stretch that can be begun: its end, where it has one, costs more.
            if so_far <= limit:
                return begins + (limit - so_far) // slope if slope else None
        return 0


def _fold_steps(
    steps: tuple[tuple[int, int], ...], fee: int, slope: int, nano: int
) -> tuple[tuple[int, int, int], ...]:
    assert len(steps) <= STEPS_MAX
    knees = [(0, fee, slope)]
    for after_seconds, per_minute_nanos in steps:
        begins, so_far, slope = knees[-1]
        assert after_seconds > begins, "steps are in order of time, and none begins at 0"
        assert per_minute_nanos >= 0
        so_far += slope * (after_seconds - begins)
        knees.append((after_seconds, so_far, nano * per_minute_nanos))
    return tuple(reversed(knees))


@dataclass(frozen=True, slots=True)
class Terms:
    """One row's conditions, with the markup and the exchange rate that apply to them.

    The fees and the price are in the tariff's currency, the results of the methods in
    the account's: `exchange_e10` is how many of the account's units one of the tariff's
    is worth. Each of `steps` says after how many billed seconds which price a minute holds
    (nanos), up to the next one; before the first it is `per_minute_nanos`.
    """

    per_minute_nanos: int
    connect_fee_micros: int = 0
    included_seconds: int = 0
    initial_seconds: int = 60
    increment_seconds: int = 60
    minimum_charge_micros: int = 0
    markup_ppm: int = 0
    exchange_e10: int = EXCHANGE_SCALE
    # Left out of the hash, which is asked for at every call: few rows differ in it alone.
    steps: tuple[tuple[int, int], ...] = field(default=(), hash=False)

    _slope: int = field(init=False, repr=False, compare=False)
    _fee: int = field(init=False, repr=False, compare=False)
    _minimum: int = field(init=False, repr=False, compare=False)
    _unit: int = field(init=False, repr=False, compare=False)
    _stepped: _Stepped | None = field(init=False, repr=False, compare=False)

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
        nano = (PPM + self.markup_ppm) * self.exchange_e10
        slope = self.per_minute_nanos * nano
        fee = self.connect_fee_micros * micro
        minimum = self.minimum_charge_micros * micro
        # In lowest terms nearly all real prices fit a machine word.
        common = gcd(unit, slope, fee, minimum)
        stepped: _Stepped | None = None
        if self.steps:
            common = gcd(common, nano)
        unit //= common
        # floor((2 x + unit) / (2 unit)) rounds half up: the half is folded in here.
        slope = 2 * (slope // common)
        fee = 2 * (fee // common) + unit
        minimum = 2 * (minimum // common) + unit
        if self.steps:
            knees = _fold_steps(self.steps, fee, slope, 2 * (nano // common))
            stepped = _Stepped(minimum, knees)
            slope = 0
            minimum = max(minimum, fee + 1)
        fold = object.__setattr__
        fold(self, "_slope", slope)
        fold(self, "_fee", fee)
        fold(self, "_minimum", minimum)
        fold(self, "_unit", 2 * unit)
        fold(self, "_stepped", stepped)

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
            if self._stepped is not None:
                amount = self._stepped.numerator(initial)
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
            if self._stepped is not None:
                seconds = self._stepped_seconds(self._stepped, limit, at_most, package_seconds)
            elif not included:
                seconds = package_seconds
            elif self._fee <= limit:
                seconds = included + package_seconds
            else:
                seconds = 0
        elif not self._slope:
            if self._stepped is not None:
                seconds = self._stepped_seconds(self._stepped, limit, at_most, package_seconds)
            else:
                seconds = at_most
        else:
            billed = (limit - self._fee) // self._slope
            billed -= (billed - initial) % increment
            seconds = included + package_seconds + billed
        return seconds if seconds < at_most else at_most

    def _stepped_seconds(
        self, stepped: _Stepped, limit: int, unlimited: int, package_seconds: int
    ) -> int:
        """The longest call whose numerator is at most `limit`; `unlimited` when all are."""
        included = self.included_seconds
        initial = self.initial_seconds
        increment = self.increment_seconds
        if stepped.numerator(initial or increment) > limit:
            if not included:
                return package_seconds
            return included + package_seconds if self._fee <= limit else 0
        billed = stepped.billed_seconds(limit)
        if billed is None:
            return unlimited
        billed -= (billed - initial) % increment
        return included + package_seconds + billed

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
        steps=terms.steps,
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """One row of a tariff: what a prefix costs in `[effective_from, effective_to)`.

    `strip` digits are cut from the number and `prepend` put before it on the way to a
    provider. Of two routes that are otherwise equal the lower `priority` comes first. Calls
    that are sold at this row go out over resource group `resource_group_id` alone, unless 0.
    `band` names the times of day or week that the row is for; '': all others.
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
    band: str = ""
