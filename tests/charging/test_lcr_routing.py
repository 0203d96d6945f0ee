"""The routes of a call: what was kept against what is found out anew, and why one is out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aaa_server.charging.call import Offer, apply_rate, make_offer, offers_text, read_offers
from aaa_server.charging.catalogue import Attachment, Catalogue, RateGroup, ResourceGroup
from aaa_server.charging.choice import CHOICES_HELD_MAX, Choice, KeptByPrefix
from aaa_server.charging.ledger import GroupUse, Ledger, Policy
from aaa_server.charging.numbers import NO_RULES, NumberRules, Rule
from aaa_server.charging.routing import (
    ROUTES_MAX,
    Sale,
    Wish,
    consider,
    margin_of,
    no_route_text,
    offer_over,
    offers_for,
)
from aaa_server.rating.lcr import STRATEGIES, Quality
from aaa_server.rating.money import EXCHANGE_SCALE
from aaa_server.rating.prefix import Prefixes
from aaa_server.rating.rate import Rate, Terms
from aaa_server.rating.tariff import Tariff

DAWN = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = 1
GROUPS_MAX = 18  # more than are held of a choice
SOLD = Terms(30_000_000, initial_seconds=1, increment_seconds=1)  # 0.09 for the reference call


def day(number: int) -> datetime:
    return DAWN + timedelta(days=number)


class Given(NamedTuple):
    """What a test wants of one outbound resource group, else as usual."""

    price_nanos: int = 20_000_000
    prefix: str = "44"
    currency: str = "USD"
    priority: int = 0
    weight: int = 1
    gateway: str = "sofia/gateway/one"
    max_calls: int = 0
    calls_per_second: int = 0
    strip: int = 0
    prepend: str = ""
    active: bool = True
    quality: Quality | None = None
    rules: tuple[Rule, ...] = ()
    blocked: bool = False


def catalogue_of(
    ways: list[Given],
    *,
    strategy: str = "least-cost",
    minimum_margin_ppm: int | None = None,
    exchanges: dict[tuple[str, str], tuple[list[datetime], list[int]]] | None = None,
    keeping: bool = True,
) -> Catalogue:
    """One rate group, with a way out for each of `ways`: RG_1, RG_2 and so on."""
    prefixes = Prefixes()
    groups = {}
    for number, way in enumerate(ways, start=1):
        tariff = Tariff(100 + number, way.currency, prefixes=prefixes)
        terms = Terms(way.price_nanos, initial_seconds=1, increment_seconds=1)
        rate = Rate(number, way.prefix, terms, DAWN, None, blocked=way.blocked)
        tariff.replace(0, way.prefix, [rate])
        groups[number] = ResourceGroup(
            number, f"RG_{number}", "out", 50 + number, tariff, way.gateway, way.max_calls,
            way.calls_per_second, 0, way.strip, way.prepend, way.active, way.currency,
        )  # fmt: skip
    selling = Tariff(1, "USD", prefixes=prefixes)
    attachments = tuple(
        Attachment(groups[number], way.priority, way.weight)
        for number, way in enumerate(ways, start=1)
    )
    rules = {("resource-group", n): way.rules for n, way in enumerate(ways, start=1) if way.rules}
    return Catalogue(
        1, ADMIN, "USD",
        {
            1: RateGroup(
                1, "retail", selling, strategy, 0, attachments,
                minimum_margin_ppm=minimum_margin_ppm,
            )
        },
        groups,
        exchanges=exchanges or {},
        number_rules=NumberRules(rules, {}) if rules else NO_RULES,
        qualities={
            number: way.quality
            for number, way in enumerate(ways, start=1)
            if way.quality is not None
        },
        prefixes=prefixes if keeping else None,
    )  # fmt: skip


def ledger_of(catalogue: Catalogue) -> Ledger:
    ledger = Ledger(catalogue, Policy(), count(1))
    ledger.group_uses = {number: GroupUse(0, 0, 0) for number in catalogue.resource_groups}
    return ledger


def sale(terms: Terms = SOLD, *, rate_id: int = 77, currency: str = "USD") -> Sale:
    rate = Rate(rate_id, "44", terms, DAWN, None)
    return Sale(apply_rate(rate, currency, markup_ppm=0, exchange_e10=EXCHANGE_SCALE), currency)


def wish(called: str = "442071838750", *, sold: Sale | None = None, wanted: str = "") -> Wish:
    return Wish(called, day(5), "call-1", wanted, sold or sale())


def names(ledger: Ledger, asked: Wish) -> list[str]:
    return [offer.name for offer in offers_for(ledger.catalogue.rate_groups[1], asked, ledger)]


def reasons(ledger: Ledger, asked: Wish) -> list[str]:
    group = ledger.catalogue.rate_groups[1]
    return [consider(attachment, group, asked, ledger)[1] for attachment in group.routes]


# ------------------------------------------------------------------ kept, and found out anew


def naive(group: RateGroup, asked: Wish, ledger: Ledger) -> list[Offer]:
    """What is to come out, from what `consider` says of each attachment by itself."""
    considered = [consider(attachment, group, asked, ledger) for attachment in group.routes]
    out = {route.name for route, why in considered if route is not None and why}
    routes = [route for route, _ in considered if route is not None]
    if asked.wanted:
        routes = [route for route in routes if route.name == asked.wanted]
    offers = []
    for route in STRATEGIES[group.strategy](routes, asked.key):
        if route.name not in out:
            resource_group = ledger.catalogue.resource_groups[route.resource_group_id]
            offer = offer_over(resource_group, asked, ledger)
            assert offer is not None
            offers.append(offer)
    return offers[:ROUTES_MAX]


PREFIXES = st.text("12", min_size=1, max_size=4)
NUMBERS = st.text("12", min_size=1, max_size=6)
QUALITIES = st.sampled_from(
    [None, Quality(5, 5, 500), Quality(40, 40, 4000), Quality(40, 4, 90), Quality(40, 0, 0)]
)
BLOCKING = Rule("121", 1, 32, True, 0, "")
REWRITING = Rule("12", 3, 32, False, 1, "99")
WAYS = st.builds(
    Given,
    price_nanos=st.sampled_from([0, 10_000_000, 20_000_000, 40_000_000]),
    prefix=PREFIXES,
    currency=st.sampled_from(["USD", "USD", "EUR"]),
    priority=st.integers(0, 2),
    weight=st.sampled_from([0, 1, 1, 5]),
    gateway=st.sampled_from(["", "sofia/gateway/one", 'a"{number}/x\\{number}', "é/{number}"]),
    max_calls=st.sampled_from([0, 0, 0, 1]),
    calls_per_second=st.sampled_from([0, 0, 0, 1]),
    strip=st.integers(0, 2),
    prepend=st.sampled_from(["", "+", "00"]),
    active=st.sampled_from([True, True, True, False]),
    quality=QUALITIES,
    rules=st.sampled_from([(), (), (), (BLOCKING,), (REWRITING,), (REWRITING, BLOCKING)]),
    blocked=st.sampled_from([False, False, False, True]),
)


class Rows(NamedTuple):
    """New rows of one prefix: in force in these spans of days."""

    way: int
    prefix: str
    edges: tuple[int, ...]
    price_nanos: int


class Ask(NamedTuple):
    called: str
    at: int
    key: str
    wanted: str
    sold: Sale | None
    busy: frozenset[int]


@st.composite
def steps(draw: st.DrawFn) -> list[Rows | Ask]:
    """About two numbers, so that nearly every change is one of what is asked for again."""
    numbers = draw(st.lists(NUMBERS, min_size=1, max_size=2))
    begun = st.tuples(st.sampled_from(numbers), st.integers(1, 4)).map(lambda it: it[0][: it[1]])
    changes = st.builds(
        Rows,
        st.sampled_from([1, 1, 2, 3, GROUPS_MAX]),
        begun,
        st.sets(st.integers(0, 9), max_size=3).map(sorted).map(tuple),
        st.sampled_from([0, 5_000_000, 50_000_000]),
    )
    asks = st.builds(
        Ask,
        st.sampled_from(numbers),
        st.sampled_from([3, 3, 3, 4, 5, 8]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["", "", "", "", "RG_1", "RG_2"]),
        st.sampled_from([None, sale(), sale(), sale(), sale(rate_id=7), sale(currency="EUR")]),
        st.frozensets(st.integers(1, GROUPS_MAX), max_size=6),
    )
    return draw(st.lists(st.one_of(changes, asks, asks), min_size=3, max_size=25))


EXCHANGES = {("USD", "EUR"): ([DAWN, day(4)], [9_000_000_000, 5_000_000_000])}


@settings(max_examples=200)
@given(
    st.lists(WAYS, min_size=1, max_size=GROUPS_MAX),
    st.sampled_from(sorted(STRATEGIES)),
    st.sampled_from([None, None, 100_000, 500_000, -200_000]),
    st.sampled_from([0, 0, 0, 1, 2, GROUPS_MAX]),
    steps(),
)
def test_what_was_kept_is_what_would_be_found_out_now(
    ways: list[Given],
    strategy: str,
    minimum_margin_ppm: int | None,
    forced_id: int,
    stream: list[Rows | Ask],
) -> None:
    catalogue = catalogue_of(
        ways, strategy=strategy, minimum_margin_ppm=minimum_margin_ppm, exchanges=EXCHANGES
    )
    group = catalogue.rate_groups[1]
    forcing = Rate(7, "1", SOLD, DAWN, None, resource_group_id=forced_id)
    group.tariff.replace(0, "1", [forcing])
    for step in stream:
        if isinstance(step, Rows):
            change(catalogue, step)
            continue
        ledger = ledger_of(catalogue)
        for number in step.busy & ledger.group_uses.keys():
            ledger.group_uses[number] = GroupUse(1, int(day(step.at).timestamp()), 1)
        asked = Wish(step.called, day(step.at), step.key, step.wanted, step.sold)
        offers = offers_for(group, asked, ledger)
        assert list(offers) == naive(group, asked, ledger)
        if not offers and minimum_margin_ppm is None:
            assert no_route_text(group, asked, ledger) == "no route to this number"


def change(catalogue: Catalogue, step: Rows) -> None:
    group = catalogue.resource_groups.get(step.way)
    if group is None:
        return
    assert group.tariff is not None
    terms = Terms(step.price_nanos, initial_seconds=1, increment_seconds=1)
    ends = [*map(day, step.edges[1:]), None]
    rates = [
        Rate(900 + number, step.prefix, terms, day(begins), end)
        for number, (begins, end) in enumerate(zip(step.edges, ends, strict=False))
    ]
    group.tariff.replace(0, step.prefix, rates)


@given(st.lists(WAYS, min_size=1, max_size=4), NUMBERS)
def test_an_offer_s_json_is_that_of_its_fields(ways: list[Given], called: str) -> None:
    catalogue = catalogue_of(ways, exchanges=EXCHANGES)
    ledger = ledger_of(catalogue)
    offers = offers_for(catalogue.rate_groups[1], Wish(called, day(5), "a"), ledger)
    for offer in offers:
        assert offer == make_offer(
            offer.resource_group_id, offer.name, offer.dial, offer.provider_id, offer.price
        )
    assert read_offers(offers_text(offers)) == offers


def test_a_second_number_of_a_prefix_is_not_asked_for_again() -> None:
    ledger = ledger_of(catalogue_of([Given(), Given(prefix="4420")]))
    assert names(ledger, wish("442071838750")) == ["RG_1", "RG_2"]
    assert names(ledger, wish("442099999999")) == ["RG_1", "RG_2"]
    assert len(ledger.catalogue.choices) == 1
    assert names(ledger, wish("441234567890")) == ["RG_1"]
    assert len(ledger.catalogue.choices) == 2


def test_rate_groups_with_the_same_routes_and_strategy_share_what_was_found_out() -> None:
    catalogue = catalogue_of([Given(), Given()])
    retail = catalogue.rate_groups[1]
    wholesale = RateGroup(2, "wholesale", Tariff(2, "USD"), "least-cost", 0, retail.routes)
    other = RateGroup(3, "by-lot", Tariff(3, "USD"), "percentage", 0, retail.routes)
    both = Catalogue(
        1, ADMIN, "USD", {1: retail, 2: wholesale, 3: other}, catalogue.resource_groups
    )
    assert both.routing_of(retail) == both.routing_of(wholesale) != both.routing_of(other)


def test_choices_are_forgotten_when_they_become_too_many() -> None:
    choices = KeptByPrefix[Choice](CHOICES_HELD_MAX)
    choice = Choice((), more=False, changes=0, begins=None, ends=None)
    for number in range(CHOICES_HELD_MAX):
        choices.keep(1, str(number), choice)
    assert choices.find(1, "5", 0, DAWN) is choice
    choices.keep(1, "one more", choice)
    assert choices.find(1, "5", 0, DAWN) is None
    assert len(choices) == 1


# ------------------------------------------------------------------ who is out, and why


def test_the_first_routes_are_offered_and_no_more() -> None:
    ledger = ledger_of(catalogue_of([Given()] * (ROUTES_MAX + 2)))
    assert names(ledger, wish()) == [f"RG_{number}" for number in range(1, ROUTES_MAX + 1)]


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (Given(active=False), "suspended"),
        (Given(prefix="49"), "no termination rate for this number"),
        (Given(blocked=True), "prefix 44 is blocked"),
        (Given(currency="GBP"), "no exchange rate for GBP"),
        (Given(max_calls=1), "its channels or calls per second are used up"),
        (Given(calls_per_second=1), "its channels or calls per second are used up"),
        (
            Given(rules=(Rule("4420", 1, 32, block=True, strip=0, prepend=""),)),
            "a number rule keeps this number from it",
        ),
        (Given(price_nanos=31_000_000), "less than the minimum margin would be left"),
    ],
)
def test_a_route_is_out_for_this_reason_and_the_other_is_offered(way: Given, why: str) -> None:
    ledger = ledger_of(catalogue_of([way, Given()], minimum_margin_ppm=0))
    ledger.group_uses[1] = GroupUse(1, int(day(5).timestamp()), 1)
    assert reasons(ledger, wish()) == [why, ""]
    assert names(ledger, wish()) == ["RG_2"]


def test_a_route_that_is_asked_for_is_the_only_one() -> None:
    ledger = ledger_of(catalogue_of([Given(), Given()]))
    assert names(ledger, wish(wanted="RG_2")) == ["RG_2"]
    assert reasons(ledger, wish(wanted="RG_2")) == ["RG_2 was asked for", ""]
    assert names(ledger, wish(wanted="RG_3")) == []


def test_a_price_row_that_names_its_route_has_no_other() -> None:
    catalogue = catalogue_of([Given(price_nanos=1), Given(), Given()])
    forcing = Rate(7, "44", SOLD, DAWN, None, resource_group_id=3)
    catalogue.rate_groups[1].tariff.replace(0, "44", [forcing])
    ledger = ledger_of(catalogue)
    assert names(ledger, wish(sold=sale(rate_id=7))) == ["RG_3"]
    assert reasons(ledger, wish(sold=sale(rate_id=7)))[0] == "the rate row has RG_3 used alone"
    assert names(ledger, wish(sold=sale(rate_id=8))) == ["RG_1", "RG_2", "RG_3"]


def test_a_price_row_that_names_a_route_which_is_not_attached_has_none() -> None:
    catalogue = catalogue_of([Given()])
    forcing = Rate(7, "44", SOLD, DAWN, None, resource_group_id=99)
    catalogue.rate_groups[1].tariff.replace(0, "44", [forcing])
    ledger = ledger_of(catalogue)
    assert names(ledger, wish(sold=sale(rate_id=7))) == []
    assert reasons(ledger, wish(sold=sale(rate_id=7))) == [
        "the rate row has another route used alone"
    ]


def test_a_route_s_own_rules_make_the_number_that_its_provider_gets() -> None:
    national = Rule("44", 1, 32, block=False, strip=2, prepend="0")
    ledger = ledger_of(
        catalogue_of([Given(rules=(national,)), Given(strip=2, prepend="00", rules=(national,))])
    )
    offers = offers_for(ledger.catalogue.rate_groups[1], wish(), ledger)
    # The rules see the number first, then strip and prepend of the group what they made of it.
    assert [offer.dial for offer in offers] == [
        "sofia/gateway/one/02071838750",
        "sofia/gateway/one/00071838750",
    ]


# ------------------------------------------------------------------ margins


@pytest.mark.parametrize(
    ("minimum_margin_ppm", "offered"),
    [
        (None, ["RG_1", "RG_2", "RG_3"]),
        (0, ["RG_1", "RG_2"]),  # sold at 0.09: RG_2 costs just that
        (1, ["RG_1"]),
        (333_333, ["RG_1"]),  # 0.06 is two thirds of it
        (333_334, []),
        (-100_000, ["RG_1", "RG_2"]),
        (-112_000, ["RG_1", "RG_2", "RG_3"]),  # a loss of 10/90 is accepted
    ],
)
def test_a_route_is_offered_when_the_margin_is_kept(
    minimum_margin_ppm: int | None, offered: list[str]
) -> None:
    ways = [Given(20_000_000), Given(30_000_000), Given(33_333_000)]
    ledger = ledger_of(catalogue_of(ways, minimum_margin_ppm=minimum_margin_ppm))
    assert names(ledger, wish()) == offered
    refused = {(1, number) for number in (1, 2, 3) if f"RG_{number}" not in offered}
    assert ledger.margin_refused == dict.fromkeys(refused, 1)


def test_without_any_route_that_keeps_the_margin_the_refusal_says_so() -> None:
    ledger = ledger_of(catalogue_of([Given(40_000_000)], minimum_margin_ppm=0))
    group = ledger.catalogue.rate_groups[1]
    assert names(ledger, wish()) == []
    text = no_route_text(group, wish(), ledger)
    assert text == "no route to this number leaves the minimum margin"
    ledger.group_uses[1].channels = 1
    assert no_route_text(group, wish("4912345"), ledger) == "no route to this number"


def test_a_margin_is_taken_in_the_currency_that_is_bought_in() -> None:
    # Sold at 0.09 EUR, which is 0.099 USD; bought at 0.0924 USD.
    exchanges = {("EUR", "USD"): ([DAWN], [11_000_000_000])}
    catalogue = catalogue_of([Given(30_800_000)], minimum_margin_ppm=0, exchanges=exchanges)
    ledger = ledger_of(catalogue)
    group = catalogue.rate_groups[1]
    euros = wish(sold=sale(currency="EUR"))
    assert names(ledger, euros) == ["RG_1"]
    assert names(ledger, wish()) == []
    route, _ = consider(group.routes[0], group, euros, ledger)
    assert route is not None
    assert margin_of(route, euros, ledger) == 66_666
    assert margin_of(route, wish(), ledger) == -26_667
    assert margin_of(route, wish(sold=sale(Terms(0))), ledger) is None


def test_a_margin_that_nobody_can_know_is_not_kept() -> None:
    ledger = ledger_of(catalogue_of([Given(1)], minimum_margin_ppm=0))
    assert names(ledger, wish(sold=sale(currency="GBP"))) == []


def test_a_call_that_has_taken_place_has_routes_whatever_it_is_sold_at() -> None:
    ledger = ledger_of(catalogue_of([Given(40_000_000)], minimum_margin_ppm=0))
    assert names(ledger, Wish("442071838750", day(5), "call-1")) == ["RG_1"]


def test_a_route_that_would_not_have_been_offered_anyway_is_not_counted() -> None:
    ways = [Given(20_000_000)] * ROUTES_MAX + [Given(40_000_000)]
    ledger = ledger_of(catalogue_of(ways, minimum_margin_ppm=0))
    assert len(names(ledger, wish())) == ROUTES_MAX
    assert ledger.margin_refused == {}
