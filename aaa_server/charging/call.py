"""A call from its first message to its record: what was frozen, what is held, what was charged.

Prices are frozen when the call is authorised and travel with it as JSON, so that an
import during the call does not reprice it and a Stop needs no price list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from aaa_server.rating.money import EXCHANGE_SCALE
from aaa_server.rating.prefix import dial_number
from aaa_server.rating.rate import Rate, Terms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

CallKey = tuple[int, str]  # client row, session key

NEW = -1  # the version of a call that has no row yet
# A row's versions begin at a number of its own: another process may have ended what this one
# remembers, and have written another row of its key. They are multiples of a number near the
# golden ratio of the range, so that rows of one key do not come to meet by counting either: of
# any 100 000 in a row no two are less than 6000 apart.
_SCATTER = 663_608_941
_FIRST_VERSION_MAX = 2**30 - 1  # as many again are left to count in the column's 31 bits

# Real price lists have a few thousand different prices.
TERMS_HELD_MAX = 65_536
_NUMBERS = 8  # of Terms, before its steps


@dataclass(init=False)
class Price:
    """One rate row as it is applied to one account: markup and exchange rate are in `terms`.

    `currency` is the price list's.
    """

    rate_id: int
    prefix: str
    currency: str
    terms: Terms

    # By hand, here and below: what dataclass writes is interpreted even where all else is
    # compiled, and is the slowest part of making what every call needs several of.
    def __init__(self, rate_id: int, prefix: str, currency: str, terms: Terms) -> None:
        self.rate_id = rate_id
        self.prefix = prefix
        self.currency = currency
        self.terms = terms
        self._text = ""

    @property
    def text(self) -> str:
        """All of it as JSON without brackets. A prefix and a currency need no escaping."""
        if not self._text:
            terms = self.terms
            # Nearly no price has steps, so their place is only there where there are some.
            steps = f",{json.dumps(terms.steps)}" if terms.steps else ""
            self._text = (
                f'{self.rate_id},"{self.prefix}","{self.currency}",{terms.per_minute_nanos},'
                f"{terms.connect_fee_micros},{terms.included_seconds},{terms.initial_seconds},"
                f"{terms.increment_seconds},{terms.minimum_charge_micros},{terms.markup_ppm},"
                f"{terms.exchange_e10}{steps}"
            )
        return self._text


def apply_rate(rate: Rate, currency: str, *, markup_ppm: int, exchange_e10: int) -> Price:
    """`rate` of a price list in `currency`, with markup and exchange rate worked in."""
    terms = rate.terms
    if markup_ppm or exchange_e10 != EXCHANGE_SCALE:
        terms = _worked_in(terms, markup_ppm, exchange_e10)
    return Price(rate.rate_id, rate.prefix, currency, terms)


@lru_cache(maxsize=TERMS_HELD_MAX)
def _worked_in(terms: Terms, markup_ppm: int, exchange_e10: int) -> Terms:
    return terms.with_markup(markup_ppm).with_exchange(exchange_e10)


_terms = lru_cache(maxsize=TERMS_HELD_MAX)(Terms)


PACKAGE = "p"
LIMIT = "l"


class Share(NamedTuple):
    """What a level of the call holds besides money: package seconds, or a part of a limit.

    `amount` is seconds of the holding `row_id`, or calls, seconds or micros of the limit
    `row_id` in the period that began at Unix second `period` (0 for packages).
    """

    kind: str
    row_id: int
    period: int
    amount: int


@dataclass(init=False)
class Level:
    """One payer of the call: the account that makes it, or one of its resellers."""

    account_id: int
    price: Price
    shares: tuple[Share, ...]

    def __init__(self, account_id: int, price: Price, shares: tuple[Share, ...] = ()) -> None:
        self.account_id = account_id
        self.price = price
        self.shares = shares

    def with_shares(self, shares: tuple[Share, ...]) -> Level:
        """The same payer and price, holding these."""
        return Level(self.account_id, self.price, shares)

    @property
    def package_seconds(self) -> int:
        """Seconds of packages that the call holds, or has used once it has ended."""
        if not self.shares:
            return 0
        return sum([share.amount for share in self.shares if share.kind == PACKAGE])

    def cost_micros(self, seconds: int) -> int:
        """What this level pays for a call of `seconds`, rounded half up to a micro."""
        if not self.shares:
            return self.price.terms.cost_micros(seconds)
        return self.price.terms.cost_micros(seconds, self.package_seconds)


class Dial:
    """A way out as all calls of a prefix are offered it, but for their numbers.

    `around` is what stands around the number in the dial string, `around_json` in the offer's
    JSON; before that `strip` characters are cut off it and `prepend` is put in front.
    """

    def __init__(
        self,
        resource_group_id: int,
        name: str,
        provider_id: int,
        price: Price,
        around: tuple[str, ...],
        around_json: tuple[str, ...],
        strip: int = 0,
        prepend: str = "",
    ) -> None:
        self.resource_group_id = resource_group_id
        self.name = name
        self.provider_id = provider_id
        self.price = price
        self.around = around
        self.around_json = around_json
        self.strip = strip
        self.prepend = prepend

    def offer(self, number: str) -> Offer:
        """It as it is offered for `number`, which is digits, `*`, `#` and `+`."""
        if self.strip or self.prepend:
            number = dial_number(number, strip=self.strip, prepend=self.prepend)
        return Offer(self, number)


class Offer:
    """One way out that the switch was given, with what its provider would charge.

    Held for as long as its call, of which there may be a hundred thousand: so it is little
    more than the number.
    """

    __slots__ = ("_number", "_way")

    def __init__(self, way: Dial, number: str) -> None:
        self._way = way
        self._number = number

    @property
    def resource_group_id(self) -> int:
        return self._way.resource_group_id

    @property
    def name(self) -> str:
        return self._way.name

    @property
    def provider_id(self) -> int:
        return self._way.provider_id

    @property
    def price(self) -> Price:
        return self._way.price

    @property
    def dial(self) -> str:
        """What the switch dials."""
        return self._number.join(self._way.around)

    @property
    def text(self) -> str:
        """All of it as JSON."""
        return self._number.join(self._way.around_json)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Offer) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Offer({self.text})"


def make_offer(
    resource_group_id: int, name: str, dial: str, provider_id: int, price: Price
) -> Offer:
    """An offer of its own."""
    text = f"[{resource_group_id},{json.dumps(name)},{json.dumps(dial)},{provider_id},{price.text}]"
    return Offer(Dial(resource_group_id, name, provider_id, price, (dial,), (text,)), "")


def levels_text(levels: tuple[Level, ...]) -> str:
    """`levels` as JSON: [[account, rate, prefix, currency, eight numbers of Terms], …].

    Steps of a price, where there are any, stand last: [[after seconds, nanos], …].

    A level's shares, where it has any, stand after the account as a list of lists.
    """
    return (
        "["
        + ",".join(
            [
                f"[{level.account_id},{level.price.text}]"
                if not level.shares
                else f"[{level.account_id},{json.dumps(level.shares)},{level.price.text}]"
                for level in levels
            ]
        )
        + "]"
    )


def offers_text(offers: tuple[Offer, ...]) -> str:
    """`offers` as JSON: [[group, name, dial, provider, rate, prefix, currency, numbers…], …]."""
    return "[" + ",".join([offer.text for offer in offers]) + "]"


def read_levels(text: str) -> tuple[Level, ...]:
    """The opposite of `levels_text`."""
    return tuple([_level(row) for row in json.loads(text)])


def _level(row: list[Any]) -> Level:
    if type(row[1]) is list:
        return Level(row[0], _price(row[2:]), tuple([Share(*share) for share in row[1]]))
    return Level(row[0], _price(row[1:]))


def read_offers(text: str) -> tuple[Offer, ...]:
    """The opposite of `offers_text`."""
    if text == "[]":
        return ()
    return tuple(
        [make_offer(row[0], row[1], row[2], row[3], _price(row[4:])) for row in json.loads(text)]
    )


def _price(values: list[Any]) -> Price:
    terms = values[3:]
    if len(terms) > _NUMBERS:
        terms[_NUMBERS] = tuple([(step[0], step[1]) for step in terms[_NUMBERS]])
    return Price(values[0], values[1], values[2], _terms(*terms))


_NOBODY: dict[int, int] = {}  # never written to


class Call:
    """One call within a batch; a row of table call, or of cdr once it has ended.

    `status` is authorized, started (by accounting alone), refused or ended. `reserved`
    holds micros, one number a level. `charged` holds what each level has paid, then, when
    there was one, the provider's part; it is empty before the end.
    """

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
    flags: tuple[str, ...] = ()
    charges: int = 0  # how often it has been charged: once, and once more a correction
    provider_id: int | None = None  # who got the provider's part
    recorded_at: datetime | None = None  # when it was charged first, by our clock
    recorded: bool = False  # it had ended, and has its record, when the batch began
    version: int = NEW  # of its row in table call, which is only written if it is still so

    def __init__(
        self,
        client_id: int,
        session_key: str,
        call_id: int,
        status: str,
        authorized_at: datetime,
        expires_at: datetime,
    ) -> None:
        self.client_id = client_id
        self.session_key = session_key
        self.call_id = call_id
        self.row_number = call_id  # as the call's identifier, of no other row in table call
        self.status = status
        self.authorized_at = authorized_at
        self.expires_at = expires_at
        self.charged: Mapping[int, int] = _NOBODY
        self.billed: Mapping[int, int] = _NOBODY  # seconds, likewise

    @property
    def key(self) -> CallKey:
        return self.client_id, self.session_key

    @property
    def next_version(self) -> int:
        """What its row's version is once it is written whole."""
        if self.version != NEW:
            return self.version + 1
        return self.row_number * _SCATTER & _FIRST_VERSION_MAX

    @property
    def ended(self) -> bool:
        return self.status == "ended"

    def flag(self, flag: str) -> None:
        """Have the record say so."""
        self.flags = (*self.flags, flag)
