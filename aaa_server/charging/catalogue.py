"""Prices, routes and exchange rates as a server holds them in memory between batches."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.charging.choice import (
    CHOICES_HELD_MAX,
    PRICES_HELD_MAX,
    Choice,
    KeptByPrefix,
    KeptPrice,
)
from aaa_server.charging.did import Did
from aaa_server.charging.numbers import NO_RULES, NumberRules
from aaa_server.rating.lcr import Quality
from aaa_server.rating.money import EXCHANGE_SCALE, LARGEST, div_half_up
from aaa_server.rating.prefix import Prefixes
from aaa_server.rating.rate import Terms
from aaa_server.rating.tariff import Tariff

if TYPE_CHECKING:
    from aaa_server.charging.requests import Origin

ADDRESSES_HELD_MAX = 10_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """One carrier connection, RG_xx; `account_id` is the provider (out) or the customer (in)."""

    resource_group_id: int
    name: str
    direction: str
    account_id: int
    tariff: Tariff | None
    gateway: str
    max_calls: int
    calls_per_second: int
    precedence: int
    strip: int
    prepend: str
    active: bool
    account_currency: str

    @property
    def is_limited(self) -> bool:
        """Whether it can be too busy for another call."""
        return bool(self.max_calls or self.calls_per_second)


class Attachment(NamedTuple):
    """An outbound resource group that a rate group's calls may use."""

    group: ResourceGroup
    priority: int
    weight: int


@dataclass(frozen=True, slots=True)
class RateGroup:
    """A price list and the ways out that belong to it."""

    rate_group_id: int
    name: str
    tariff: Tariff
    strategy: str
    markup_ppm: int
    routes: tuple[Attachment, ...]
    on_net: Terms | None = None  # of calls to numbers of our own inventory
    minimum_margin_ppm: int | None = None  # of the selling price; None: nobody asks
    resource_group_ids: frozenset[int] = field(init=False)
    provider_ids: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        """Asked for with every call."""
        groups = [attachment.group for attachment in self.routes]
        put = object.__setattr__
        put(self, "resource_group_ids", frozenset([one.resource_group_id for one in groups]))
        put(self, "provider_ids", frozenset([one.account_id for one in groups]))


class Endpoint(NamedTuple):
    """Where an inbound resource group's calls come from; port 0: any."""

    group: ResourceGroup
    network: Network
    port: int
    tech_prefix: str


class Inbound(NamedTuple):
    """The resource group a call came in over, and the tech prefix its number began with."""

    group: ResourceGroup
    tech_prefix: str

    def without_prefix(self, called: str) -> str:
        """The number that was meant: the tech prefix only tells whose call it is."""
        return called[len(self.tech_prefix) :]


@dataclass(slots=True)
class Catalogue:
    """All that decides prices and routes and is not an account. Replaced whole, never edited.

    `exchanges` holds, by currency pair, the instants from which a rate applies and the
    rates (10^-10), both in order of time. `qualities` holds what is known of outbound
    resource groups. `prefixes` are those of all tariffs; without it nothing that was found
    out about a number is kept for the next call.
    """

    revision: int
    admin_id: int
    admin_currency: str
    rate_groups: dict[int, RateGroup]
    resource_groups: dict[int, ResourceGroup]
    endpoints: tuple[Endpoint, ...] = ()
    exchanges: dict[tuple[str, str], tuple[list[datetime], list[int]]] = field(default_factory=dict)
    dids: dict[str, Did] = field(default_factory=dict)
    number_rules: NumberRules = NO_RULES
    # The outbound resource group that takes each, or None: the switch knows the way.
    emergency: dict[str, int | None] = field(default_factory=dict)
    qualities: dict[int, Quality] = field(default_factory=dict)
    prefixes: Prefixes | None = None
    by_name: dict[str, ResourceGroup] = field(init=False)
    choices: KeptByPrefix[Choice] = field(init=False)  # by set of routes
    prices: KeptByPrefix[KeptPrice] = field(init=False)  # by rate group
    _routings: dict[int, int] = field(init=False)
    _candidates: dict[str, tuple[Endpoint, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.by_name = {group.name: group for group in self.resource_groups.values()}
        self.choices = KeptByPrefix(CHOICES_HELD_MAX)
        self.prices = KeptByPrefix(PRICES_HELD_MAX)
        self._routings = {}
        same: dict[tuple[object, ...], int] = {}
        for group in self.rate_groups.values():
            ways = [(one.group.resource_group_id, *one[1:]) for one in group.routes]
            routing = same.setdefault((group.strategy, *ways), len(same))
            self._routings[group.rate_group_id] = routing

    def routing_of(self, group: RateGroup) -> int:
        """A number that the rate groups with the same routes and strategy share."""
        return self._routings[group.rate_group_id]

    def exchange_stays(
        self, from_currency: str, to_currency: str, at: datetime
    ) -> tuple[datetime | None, datetime | None]:
        """The span `[from, until)` around `at` in which `exchange_e10` is the same; None: no end.

        It may be shorter than it could be.
        """
        begins: datetime | None = None
        ends: datetime | None = None
        for pair in ((from_currency, to_currency), (to_currency, from_currency)):
            instants = self.exchanges.get(pair, ([], []))[0]
            place = bisect_right(instants, at)
            if place and (begins is None or begins < instants[place - 1]):
                begins = instants[place - 1]
            if place < len(instants) and (ends is None or instants[place] < ends):
                ends = instants[place]
        return begins, ends

    def exchange_e10(self, from_currency: str, to_currency: str, at: datetime) -> int | None:
        """How much of `to_currency` one unit of `from_currency` is, times 10^10; None: unknown.

        A pair that is entered in the other direction only is turned round, half up; unknown
        too where that is more than can be put on record.
        """
        if from_currency == to_currency:
            return EXCHANGE_SCALE
        rate = self._exchange_as_entered(from_currency, to_currency, at)
        if rate is not None:
            return rate
        inverse = self._exchange_as_entered(to_currency, from_currency, at)
        if inverse is None:
            return None
        turned = div_half_up(EXCHANGE_SCALE * EXCHANGE_SCALE, inverse)
        return turned if turned <= LARGEST else None

    def _exchange_as_entered(self, source: str, target: str, at: datetime) -> int | None:
        entered = self.exchanges.get((source, target))
        if entered is None:
            return None
        place = bisect_right(entered[0], at)
        return entered[1][place - 1] if place else None

    def inbound(self, origin: Origin, called: str, *, suspended: bool = False) -> Inbound | None:
        """The active inbound resource group of a call: the one it names, else by its source.

        Of several endpoints that match: the narrowest network, then an exact port, then
        the longest tech prefix. `suspended`: groups that are not active count too.
        """
        if origin.resource_group:
            group = self.by_name.get(origin.resource_group)
            if group is None or group.direction != "in" or not (group.active or suspended):
                return None
            return Inbound(group, "")
        if not self.endpoints or not origin.address:
            return None
        for endpoint in self._endpoints_of(origin.address):
            if endpoint.port not in (0, origin.port):
                continue
            if not (endpoint.group.active or suspended):
                continue
            if called.startswith(endpoint.tech_prefix):
                return Inbound(endpoint.group, endpoint.tech_prefix)
        return None

    def _endpoints_of(self, address: str) -> tuple[Endpoint, ...]:
        held = self._candidates.get(address)
        if held is not None:
            return held
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return ()
        matching = [endpoint for endpoint in self.endpoints if ip in endpoint.network]
        matching.sort(
            key=lambda e: (e.network.prefixlen, e.port != 0, len(e.tech_prefix)), reverse=True
        )
        if len(self._candidates) >= ADDRESSES_HELD_MAX:
            self._candidates.clear()
        held = self._candidates[address] = tuple(matching)
        return held
