"""A call from its first message to its record: what was frozen, what is held, what was charged.

Prices are frozen when the call is authorised and travel with it as JSON, so that an
import during the call does not reprice it and a Stop needs no price list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aaa_server.rating.money import EXCHANGE_SCALE
from aaa_server.rating.rate import Rate, Terms

if TYPE_CHECKING:
    from datetime import datetime

CallKey = tuple[int, str]  # client row, session key
PRICES_HELD_MAX = 200_000  # then the cache starts again: 1 000 000 rates must not double in memory


class Price(NamedTuple):
    """One rate row as it is applied to one account: markup and exchange rate are inside `terms`.

    `currency` is the price list's; `text` is all of this as JSON without brackets.
    """

    rate_id: int
    prefix: str
    currency: str
    terms: Terms
    text: str


# By their own values, and by the row, markup and exchange rate that they were made of.
_prices: dict[tuple[object, ...], Price] = {}
_applied: dict[tuple[int, int, int], tuple[Terms, Price]] = {}


def apply_rate(rate: Rate, currency: str, *, markup_ppm: int, exchange_e10: int) -> Price:
    """`rate` of a price list in `currency`, with markup and exchange rate worked in."""
    key = (rate.rate_id, markup_ppm, exchange_e10)
    held = _applied.get(key)
    if held is not None and (held[0] is rate.terms or held[0] == rate.terms):
        return held[1]
    terms = rate.terms
    if markup_ppm:
        terms = terms.with_markup(markup_ppm)
    if exchange_e10 != EXCHANGE_SCALE:
        terms = terms.with_exchange(exchange_e10)
    if len(_applied) >= PRICES_HELD_MAX:
        _applied.clear()
    made = _price((rate.rate_id, rate.prefix, currency, *_numbers(terms)), terms)
    _applied[key] = (rate.terms, made)
    return made


def _price(values: tuple[Any, ...], terms: Terms | None = None) -> Price:
    """The one `Price` of these values: rate, prefix, currency and the numbers of its Terms."""
    held = _prices.get(values)
    if held is not None:
        return held
    if len(_prices) >= PRICES_HELD_MAX:
        _prices.clear()
    text = json.dumps(values, separators=(",", ":"))[1:-1]
    rate_id, prefix, currency, *numbers = values
    made = Price(rate_id, prefix, currency, terms or Terms(*numbers), text)
    _prices[values] = made
    return made


def _numbers(terms: Terms) -> tuple[int, ...]:
    return (
        terms.per_minute_nanos,
        terms.connect_fee_micros,
        terms.included_seconds,
        terms.initial_seconds,
        terms.increment_seconds,
        terms.minimum_charge_micros,
        terms.markup_ppm,
        terms.exchange_e10,
    )


class Level(NamedTuple):
    """One payer of the call: the account that makes it, or one of its resellers."""

    account_id: int
    price: Price


class Offer(NamedTuple):
    """One way out that the switch was given, with what its provider would charge."""

    resource_group_id: int
    name: str
    dial: str
    provider_id: int
    price: Price


def levels_text(levels: tuple[Level, ...]) -> str:
    """`levels` as JSON: [[account, rate, prefix, currency, eight numbers of Terms], …]."""
    return "[" + ",".join([f"[{level[0]},{level[1].text}]" for level in levels]) + "]"


def offers_text(offers: tuple[Offer, ...]) -> str:
    """`offers` as JSON: [[group, name, dial, provider, rate, prefix, currency, numbers…], …]."""
    parts = [
        f"[{offer.resource_group_id},{json.dumps(offer.name)},{json.dumps(offer.dial)},"
        f"{offer.provider_id},{offer.price.text}]"
        for offer in offers
    ]
    return "[" + ",".join(parts) + "]"


def read_levels(text: str) -> tuple[Level, ...]:
    """The opposite of `levels_text`."""
    return tuple([Level(row[0], _price(tuple(row[1:]))) for row in json.loads(text)])


def read_offers(text: str) -> tuple[Offer, ...]:
    """The opposite of `offers_text`."""
    return tuple(
        [Offer(row[0], row[1], row[2], row[3], _price(tuple(row[4:]))) for row in json.loads(text)]
    )


@dataclass(slots=True)
class Call:
    """One call within a batch; a row of table call, or of cdr once it has ended.

    `status` is authorized, started (by accounting alone), refused or ended. `reserved`
    holds micros, one number a level. `charged` holds what each level has paid, then, when
    there was one, the provider's part; it is empty before the end.
    """

    client_id: int
    session_key: str
    call_id: int
    status: str
    authorized_at: datetime
    expires_at: datetime
    account_id: int | None = None
    party: tuple[int, ...] = ()
    reserved: tuple[int, ...] = ()
    levels: tuple[Level, ...] = ()
    offers: tuple[Offer, ...] = ()
    resource_group_in_id: int | None = None
    resource_group_out_id: int | None = None
    granted_seconds: int = 0
    last_seconds: int | None = None
    step: int | None = None
    step_seconds: int | None = None
    started_at: datetime | None = None
    found_by: str | None = None
    ani: str = ""
    called: str = ""
    nas_address: str | None = None
    sip_call_id: str = ""
    refusal: str | None = None
    # Once it has ended:
    ended_at: datetime | None = None
    ended_by: str = ""
    duration_ms: int = 0
    seconds: int = 0
    cause: str = ""
    postings: int = 0
    flags: list[str] = field(default_factory=list)
    charged: dict[int, int] = field(default_factory=dict)
    recorded: bool = False  # it had ended, and has its record, when the batch began

    @property
    def key(self) -> CallKey:
        return self.client_id, self.session_key

    @property
    def ended(self) -> bool:
        return self.status == "ended"
