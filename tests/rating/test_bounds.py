"""What the inputs let through can be charged: the dearest call fits what a row holds."""

from __future__ import annotations

import pytest

from aaa_server.rating import bounds
from aaa_server.rating.money import EXCHANGE_SCALE, LARGEST
from aaa_server.rating.rate import Terms


@pytest.mark.parametrize(
    "exchange_e10",
    [
        bounds.EXCHANGE_E10_MIN,
        EXCHANGE_SCALE,
        5 * EXCHANGE_SCALE,
        25_000 * EXCHANGE_SCALE,
        bounds.EXCHANGE_E10_MAX,
    ],
)
def test_the_dearest_call_fits_a_bigint_twice(exchange_e10: int) -> None:
    dearest = Terms(
        per_minute_nanos=bounds.price_nanos_max(exchange_e10),
        connect_fee_micros=bounds.FEE_MICROS_MAX,
        minimum_charge_micros=bounds.FEE_MICROS_MAX,
        markup_ppm=bounds.MARKUP_PPM_MAX,
        exchange_e10=exchange_e10,
    )
    assert 2 * dearest.cost_micros(bounds.CALL_SECONDS_MAX) < LARGEST
