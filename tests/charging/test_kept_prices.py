"""Prices that were kept of a prefix against those found anew: whatever happens in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from aaa_server.charging.call import Level, apply_rate, levels_text
from aaa_server.charging.catalogue import Catalogue, RateGroup
from aaa_server.charging.ledger import Account, Ledger, Policy, Profile
from aaa_server.charging.pricing import price_levels
from aaa_server.charging.requests import Refused
from aaa_server.rating.band import Bands, Window
from aaa_server.rating.prefix import Prefixes
from aaa_server.rating.rate import Rate, Terms
from aaa_server.rating.tariff import Tariff

DAWN = datetime(2026, 1, 1, tzinfo=UTC)
NIGHT = Bands(UTC, (Window("night", 127, 0, 480),))
NUMBERS = ("44", "442071838750", "4471", "12145551234", "12255551234", "13055551234")
# One below another, and one that numbers of several leads share.
PREFIXES = ("44", "4420", "1", "1212")
OWNER, FOREIGNER = 3, 4
# An exchange rate from the start, and another one from the second day on.
EXCHANGES = {("USD", "EUR"): ([DAWN, DAWN + timedelta(days=2)], [9_000_000_000, 8_000_000_000])}


def hour(number: int) -> datetime:
    return DAWN + timedelta(hours=number)


class Change(NamedTuple):
    """The rows of a prefix from now on, everybody's or the owner's: one from each edge."""

    group: int
    own: bool
    prefix: str
    edges: tuple[int, ...]
    price_nanos: int
    blocked: bool
    band: str


class Ask(NamedTuple):
    called: str
    at: int
    chain: tuple[int, ...]


HOURS = st.sampled_from([0, 1, 9, 10, 25, 49])  # some at night
CHANGES = st.builds(
    Change,
    group=st.sampled_from([1, 2]),
    own=st.booleans(),
    prefix=st.sampled_from(PREFIXES),
    edges=st.lists(HOURS, max_size=3, unique=True).map(sorted).map(tuple),
    price_nanos=st.integers(0, 3).map(lambda cents: cents * 10_000_000),
    blocked=st.sampled_from([False, False, False, True]),
    band=st.sampled_from(["", "", "night"]),
)
ASKS = st.builds(
    Ask,
    called=st.sampled_from(NUMBERS),
    at=HOURS,
    chain=st.lists(st.sampled_from([1, 1, 2, OWNER, FOREIGNER]), min_size=1, max_size=2).map(tuple),
)
STREAMS = st.lists(CHANGES | ASKS, min_size=5, max_size=20)


def profile(account_id: int) -> Profile:
    """1 and 2 pay by the first list, the third has rows of its own, the fourth other money."""
    currency = "EUR" if account_id == FOREIGNER else "USD"
    return Profile(
        account_id, str(account_id), "customer", 0, (account_id,), True, currency, 0,
        2 if account_id == 2 else 1, 0, 0, None, "active", None, "en", None, None, 1,
    )  # fmt: skip


def catalogue_of() -> Catalogue:
    prefixes = Prefixes()
    groups = {}
    for number, markup_ppm in ((1, 0), (2, 100_000)):
        tariff = Tariff(number, "USD", prefixes=prefixes)
        tariff.use_bands(NIGHT)
        groups[number] = RateGroup(number, f"list-{number}", tariff, "least-cost", markup_ppm, ())
    return Catalogue(1, 1, "USD", groups, {}, exchanges=EXCHANGES, prefixes=prefixes)


def change(catalogue: Catalogue, step: Change, rate_ids: count[int]) -> None:
    terms = Terms(step.price_nanos)
    ends = [*map(hour, step.edges[1:]), None]
    rates = [
        Rate(next(rate_ids), step.prefix, terms, hour(begins), end, step.blocked, band=step.band)
        for begins, end in zip(step.edges, ends, strict=False)
    ]
    owner = OWNER if step.own else 0
    catalogue.rate_groups[step.group].tariff.replace(owner, step.prefix, rates)


def found_anew(catalogue: Catalogue, step: Ask) -> tuple[Level, ...] | None:
    """What `price_levels` is to say, by the price lists alone; None: it refuses."""
    levels = []
    for account_id in step.chain:
        group = catalogue.rate_groups[2 if account_id == 2 else 1]
        rate = group.tariff.rate_for(step.called, hour(step.at), account_id)
        currency = profile(account_id).currency
        exchange_e10 = catalogue.exchange_e10("USD", currency, hour(step.at))
        if rate is None or rate.blocked or exchange_e10 is None:
            return None
        price = apply_rate(rate, "USD", markup_ppm=group.markup_ppm, exchange_e10=exchange_e10)
        levels.append(Level(account_id, price))
    return tuple(levels)


@settings(max_examples=500)
@given(STREAMS)
def test_what_was_kept_is_what_would_be_found_now(stream: list[Change | Ask]) -> None:
    catalogue = catalogue_of()
    ledger = Ledger(catalogue, Policy(), count(1))
    rate_ids = count(1)
    for step in stream:
        if isinstance(step, Change):
            change(catalogue, step, rate_ids)
            continue
        chain = [Account(profile(account_id), 0, 0, 0, 0, 0) for account_id in step.chain]
        levels = price_levels(chain, step.called, hour(step.at), ledger)
        expected = found_anew(catalogue, step)
        if expected is None:
            assert isinstance(levels, Refused)
        else:
            assert not isinstance(levels, Refused)
            assert levels == expected
            assert levels_text(levels) == levels_text(expected)


def test_a_price_is_looked_for_once() -> None:
    catalogue = catalogue_of()
    change(catalogue, Change(1, False, "44", (0,), 10_000_000, False, ""), count(1))
    ledger = Ledger(catalogue, Policy(), count(1))
    payer = [Account(profile(1), 0, 0, 0, 0, 0)]
    first = price_levels(payer, "442071838750", hour(1), ledger)
    second = price_levels(payer, "442071838751", hour(2), ledger)
    assert not isinstance(first, Refused)
    assert not isinstance(second, Refused)
    assert first[0].price is second[0].price
    assert len(catalogue.prices) == 1


def test_a_new_row_is_used_at_once() -> None:
    catalogue = catalogue_of()
    ledger = Ledger(catalogue, Policy(), count(1))
    payer = [Account(profile(1), 0, 0, 0, 0, 0)]
    for number, price_nanos in enumerate((10_000_000, 20_000_000), start=1):
        change(catalogue, Change(1, False, "4420", (0,), price_nanos, False, ""), count(number))
        levels = price_levels(payer, "442071838750", hour(1), ledger)
        assert not isinstance(levels, Refused)
        assert levels[0].price.terms.per_minute_nanos == price_nanos


def test_what_changes_below_one_lead_does_not_make_up_for_what_changes_above_all() -> None:
    catalogue = catalogue_of()
    ledger = Ledger(catalogue, Policy(), count(1))
    payer = [Account(profile(1), 0, 0, 0, 0, 0)]
    rate_ids = count(1)
    change(catalogue, Change(1, False, "1", (0,), 10_000_000, False, ""), rate_ids)
    change(catalogue, Change(1, False, "1212", (0,), 50_000_000, False, ""), rate_ids)
    price_levels(payer, "12145551234", hour(1), ledger)  # below the lead that 1212 has
    change(catalogue, Change(1, False, "1", (0,), 20_000_000, False, ""), rate_ids)
    for called in ("13055551234", "12145551234"):
        levels = price_levels(payer, called, hour(1), ledger)
        assert not isinstance(levels, Refused)
        assert levels[0].price.terms.per_minute_nanos == 20_000_000
