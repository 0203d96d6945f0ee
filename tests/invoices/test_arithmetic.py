"""An invoice's arithmetic, as laws and by the worked case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.rating.invoice import (
    EXEMPT,
    STANDARD,
    Item,
    Tax,
    add_up,
    bookings,
    discount,
    round_to,
    unit_micros,
)

VAT = Tax("VAT", 210_000, STANDARD)
FREE = Tax("VAT", 0, EXEMPT, "Article 132")

items = st.lists(
    st.builds(
        Item,
        st.sampled_from(["usage", "correction", "fee", "discount"]),
        st.just("line"),
        st.integers(-(10**10), 10**12),
        tax=st.sampled_from([0, 1]),
    ),
    min_size=1,
    max_size=30,
).map(tuple)
currencies = st.sampled_from(["EUR", "JPY", "KWD"])
taxes = st.tuples(
    st.integers(0, 300_000).map(lambda ppm: Tax("one", ppm, STANDARD)),
    st.integers(0, 300_000).map(lambda ppm: Tax("two", ppm, STANDARD)),
)


def test_the_worked_case() -> None:
    totals = add_up((Item("usage", "calls", 123_456_789),), (VAT,), "EUR", inclusive=False)
    assert totals.lines[0].amount_micros == 123_460_000
    assert totals.tax_micros == 25_930_000
    assert totals.total_micros == 149_390_000
    assert totals.residue_micros == 3_211
    assert bookings(totals, prepaid=False) == ((-3_211, "rounding"), (-25_930_000, "tax"))


def test_a_tax_that_is_in_the_price_is_taken_out_of_the_sum() -> None:
    lines = (Item("usage", "calls", 100_004_000), Item("fee", "DID", 20_996_000))
    totals = add_up(lines, (VAT,), "EUR", inclusive=True)
    assert totals.total_micros == 121_000_000
    assert (totals.net_micros, totals.tax_micros) == (100_000_000, 21_000_000)
    assert [line.amount_micros for line in totals.lines] == [100_000_000, 21_000_000]
    assert sum(line.net_micros for line in totals.lines) == 100_000_000


@pytest.mark.parametrize(
    ("currency", "shown"), [("JPY", 124_000_000), ("EUR", 123_500_000), ("KWD", 123_500_000)]
)
def test_half_a_unit_goes_up_in_each_currency(currency: str, shown: int) -> None:
    assert round_to(123_500_000, unit_micros(currency)) == shown


@given(items, taxes, currencies, st.booleans())
def test_net_is_the_sum_of_lines_and_of_bases(
    lines: tuple[Item, ...], both: tuple[Tax, Tax], currency: str, inclusive: bool
) -> None:
    totals = add_up(lines, both, currency, inclusive=inclusive)
    unit = unit_micros(currency)
    assert totals.net_micros == sum(line.net_micros for line in totals.lines)
    assert totals.net_micros == sum(one.base_micros for one in totals.taxes)
    assert totals.total_micros == totals.net_micros + totals.tax_micros
    shown = sum(line.amount_micros for line in totals.lines)
    assert shown == (totals.total_micros if inclusive else totals.net_micros)
    for line in totals.lines:
        assert line.amount_micros % unit == line.net_micros % unit == 0
        # Halves go upwards.
        assert -unit <= 2 * (line.item.raw_micros - line.amount_micros) < unit
    for one in totals.taxes:
        assert one.tax_micros % unit == 0
        # Within half a unit of the exact tax.
        exact = one.base_micros * one.tax.rate_ppm
        assert abs(one.tax_micros * 10**6 - exact) <= 10**6 * unit


@given(items, taxes, currencies, st.booleans(), st.booleans())
def test_the_books_tie_to_the_calls(
    lines: tuple[Item, ...], both: tuple[Tax, Tax], currency: str, inclusive: bool, prepaid: bool
) -> None:
    inclusive = inclusive or prepaid
    totals = add_up(lines, both, currency, inclusive=inclusive)
    posted = bookings(totals, prepaid=prepaid)
    books: dict[str, int] = {}
    for one in posted:
        books[one.book] = books.get(one.book, 0) - one.amount_micros
    taken = -sum(line.raw_micros for line in lines if line.kind == "discount")
    # What calls and fees have moved already, and what the invoice adds, is its total.
    already = sum(line.raw_micros for line in lines if line.kind != "discount")
    moved = already - sum(one.amount_micros for one in posted)
    assert moved == (already - taken if prepaid else totals.total_micros)
    assert books.get("tax", 0) == totals.tax_micros
    assert books.get("rounding", 0) == totals.residue_micros


@given(items, st.integers(0, 10**6))
def test_a_discount_is_of_usage_only(lines: tuple[Item, ...], ppm: int) -> None:
    less = discount(lines, ppm, "discount")
    usage = sum(one.raw_micros for one in lines if one.kind in ("usage", "correction"))
    off = 0 if less is None else -less.raw_micros
    assert abs(off * 10**6 - usage * ppm) * 2 <= 10**6


def test_what_is_exempt_has_no_tax_and_a_reason() -> None:
    totals: Any = add_up((Item("usage", "calls", 10**6),), (FREE,), "EUR", inclusive=False)
    assert (totals.tax_micros, totals.taxes[0].tax.note) == (0, "Article 132")
