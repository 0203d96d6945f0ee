"""Late corrections of money, and the pure parts of charging by the laws that they obey."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aaa_server.charging.account_code import Found, whose
from aaa_server.charging.call import (
    Level,
    Offer,
    Price,
    levels_text,
    make_offer,
    offers_text,
    read_levels,
    read_offers,
)
from aaa_server.charging.catalogue import Catalogue, Endpoint, ResourceGroup
from aaa_server.charging.credential import check
from aaa_server.charging.ledger import Ledger, Policy, Profile
from aaa_server.charging.requests import Chap, Origin, Pap, Refused
from aaa_server.rating.money import EXCHANGE_SCALE, PPM, div_half_up
from aaa_server.rating.rate import Terms
from aaa_server.storage import arrays
from aaa_server.storage.database import connect
from tests.charging import proof
from tests.scenario import BEGINNING, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
EXAMPLES = settings(max_examples=200, deadline=None)


# ------------------------------------------------------------------ late corrections


@pytest.fixture
def scenario(connection: Connection) -> Iterator[Scenario]:
    """A scenario whose books are proved at its end."""
    played = Scenario(connection)
    yield played
    with connection.cursor() as cursor:
        assert proof.broken_laws(cursor) == {}


SILENT = """
    rate      retail 44 0.10 60/60
    cost      RG_21  44 0.02 6/6 provider=A
    cost      RG_22  44 0.03 6/6 provider=B currency=EUR
    exchange  EUR USD 1.10
    attach    retail RG_21 RG_22
    account   acme 10.00 retail
    authorize s1 acme 442071838750
    start     s1
    after     60s
    update    s1 60s
    after     9000s
    expire    s1          -> closed 1
    charges   s1          -> acme 0.100000 A 0.020000
"""


def test_a_late_stop_over_another_route_pays_its_provider_instead(scenario: Scenario) -> None:
    scenario.check(f"""{SILENT}
        stop      s1 120s route=RG_22
        charges   s1          -> acme 0.200000 B 0.060000
        balance   A           -> 0.000000 reserved 0.000000
        balance   B           -> 0.060000 reserved 0.000000
        stop      s1 120s route=RG_21
        charges   s1          -> acme 0.200000 B 0.060000
    """)


def test_a_late_stop_without_a_duration_counts_from_its_start(scenario: Scenario) -> None:
    scenario.check(f"""{SILENT}
        at 2026-01-15T12:02:00Z
        stop      s1 ? route=RG_21    -> cost 0.200000
        cdr       s1                  -> 120s expiry silent route-assumed late-stop
    """)


def test_a_late_stop_that_knows_nothing_gives_no_money_back(scenario: Scenario) -> None:
    scenario.check(f"""{SILENT.replace("start     s1", "")}
        stop      s1 ? route=RG_21    -> cost 0.100000
        charges   s1                  -> acme 0.100000 A 0.020000
    """)


# ------------------------------------------------------------------ exchange rates, endpoints


def catalogue(
    exchanges: dict[tuple[str, str], tuple[list[datetime], list[int]]] | None = None,
    *endpoints: Endpoint,
) -> Catalogue:
    groups = {endpoint.group.resource_group_id: endpoint.group for endpoint in endpoints}
    return Catalogue(1, 1, "USD", {}, groups, endpoints, exchanges or {})


def test_an_exchange_rate_applies_from_its_very_instant() -> None:
    held = catalogue({("USD", "EUR"): ([NOON, NOON + timedelta(days=1)], [9, 8])})
    moment = timedelta(microseconds=1)
    days = [NOON - moment, NOON, NOON + timedelta(days=1) - moment, NOON + timedelta(days=1)]
    assert [held.exchange_e10("USD", "EUR", at) for at in days] == [None, 9, 9, 8]
    assert held.exchange_e10("EUR", "EUR", days[0]) == EXCHANGE_SCALE
    assert held.exchange_e10("EUR", "GBP", NOON) is None


@given(st.integers(11, 10**14))
def test_a_pair_entered_in_the_other_direction_is_turned_round_half_up(rate_e10: int) -> None:
    held = catalogue({("EUR", "USD"): ([NOON], [rate_e10])})
    turned = held.exchange_e10("USD", "EUR", NOON)
    assert turned == div_half_up(EXCHANGE_SCALE**2, rate_e10)
    assert held.exchange_e10("EUR", "USD", NOON) == rate_e10
    assert held.exchange_e10("USD", "EUR", NOON - timedelta(1)) is None


@pytest.mark.parametrize("rate_e10", [1, 10])
def test_a_pair_that_cannot_be_turned_round_on_record_is_unknown(rate_e10: int) -> None:
    held = catalogue({("EUR", "USD"): ([NOON], [rate_e10])})
    assert held.exchange_e10("EUR", "USD", NOON) == rate_e10
    assert held.exchange_e10("USD", "EUR", NOON) is None


def test_what_was_entered_goes_before_what_is_turned_round() -> None:
    held = catalogue(
        {
            ("EUR", "USD"): ([NOON], [11_000_000_000]),
            ("USD", "EUR"): ([NOON + timedelta(1)], [8_000_000_000]),
        }
    )
    assert held.exchange_e10("USD", "EUR", NOON) == 9_090_909_091
    assert held.exchange_e10("USD", "EUR", NOON + timedelta(1)) == 8_000_000_000


def inbound_group(number: int, *, active: bool = True, direction: str = "in") -> ResourceGroup:
    return ResourceGroup(
        number, f"RG_{number}", direction, 20 + number, None, "", 0, 0, 0, 0, "", active, "USD"
    )


def endpoint(number: int, network: str, port: int = 0, tech: str = "", **more: Any) -> Endpoint:
    return Endpoint(inbound_group(number, **more), ipaddress.ip_network(network), port, tech)


ENDPOINTS = (
    endpoint(1, "192.0.2.0/24"),
    endpoint(2, "192.0.2.7/32"),
    endpoint(3, "192.0.2.7/32", 5070),
    endpoint(4, "192.0.2.7/32", 0, "99"),
    endpoint(5, "192.0.2.8/32", 0, "1"),
    endpoint(6, "192.0.2.8/32", 0, "12"),
    endpoint(7, "192.0.2.9/32", active=False),
    endpoint(8, "2001:db8::/32"),
)


@pytest.mark.parametrize(
    ("address", "port", "called", "group", "number"),
    [
        ("192.0.2.1", 5060, "44123", 1, "44123"),
        ("192.0.2.7", 5060, "44123", 2, "44123"),
        ("192.0.2.7", 5070, "9944123", 3, "9944123"),  # an exact port before a tech prefix
        ("192.0.2.7", 5060, "9944123", 4, "44123"),
        ("192.0.2.8", 5060, "1244123", 6, "44123"),  # the longest tech prefix
        ("192.0.2.8", 5060, "1344123", 5, "344123"),
        ("192.0.2.8", 5060, "44123", 1, "44123"),  # the wider network, where no prefix fits
        ("192.0.2.9", 5060, "44123", 1, "44123"),  # a suspended one is passed over
        ("2001:db8::7", 5060, "44123", 8, "44123"),
        ("198.51.100.1", 5060, "44123", None, ""),
        ("sip.example", 5060, "44123", None, ""),
        ("", 5060, "44123", None, ""),
    ],
)
def test_the_narrowest_endpoint_that_matches_is_the_calls(
    address: str, port: int, called: str, group: int | None, number: str
) -> None:
    held = catalogue(None, *ENDPOINTS)
    found = held.inbound(Origin(address=address, port=port), called)
    if group is None:
        assert found is None
    else:
        assert found is not None
        assert (found.group.resource_group_id, found.without_prefix(called)) == (group, number)


def test_a_group_that_is_named_goes_before_the_address_and_must_be_inbound_and_active() -> None:
    held = catalogue(None, *ENDPOINTS, endpoint(9, "192.0.2.3/32", direction="out"))
    here = Origin(address="192.0.2.7")
    named = held.inbound(here._replace(resource_group="RG_1"), "44")
    assert named is not None
    assert named.group.name == "RG_1"
    for name in ("RG_7", "RG_9", "RG_404"):
        assert held.inbound(here._replace(resource_group=name), "44") is None


# ------------------------------------------------------------------ whose call, and is it really


def ledger() -> Ledger:
    made = Ledger(catalogue(None, *ENDPOINTS), Policy(), iter(()))
    made.codes.update({"acme": 1, "34911": 2})
    made.extensions.update({("100", ""): 3, ("100", "two.example"): 4, ("200", "two.example"): 5})
    made.anis.update({"34911": 6, "34922": 7})
    return made


@pytest.mark.parametrize(
    ("origin", "found"),
    [
        (Origin("acme", extension="100", ani="34922"), Found(1, "argument")),
        (Origin("34911", ani="34911"), Found(2, "argument")),
        (Origin("34922", ani="34922"), Found(7, "ani")),  # the code is the number: none given
        (Origin("34922", extension="100", ani="34922"), Found(3, "extension")),
        (Origin("34922", ani="34911"), None),  # somebody else's number is an unknown code
        (Origin("nobody", extension="100", ani="34911"), None),
        (Origin(extension="100", domain="two.example"), Found(4, "extension")),
        (Origin(extension="100", domain="one.example"), Found(3, "extension")),
        (Origin(extension="200", ani="34911"), Found(6, "ani")),  # not in that domain
        (Origin(ani="34911", address="192.0.2.1"), Found(6, "ani")),
        (Origin(ani="34900", address="192.0.2.1"), Found(21, "resource-group")),
        (Origin(resource_group="RG_8"), Found(28, "resource-group")),
        (Origin(ani="34900"), None),
        (Origin(), None),
    ],
)
def test_the_first_rule_that_applies_names_the_account(origin: Origin, found: Found | None) -> None:
    answer = whose(origin, "44123", ledger(), BEGINNING)
    if found is None:
        assert isinstance(answer, Refused)
        assert answer.reason.value == "invalid-account"
    else:
        assert answer == found


def profile(password: bytes | None = None, pin: bytes | None = None) -> Profile:
    return Profile(1, "acme", "customer", 0, (1,), True, "USD", 0, 1, 0, 0, None, "active", None,
                   "en", password, pin, 1)  # fmt: skip


def chap(secret: bytes, challenge: bytes = b"\x01" * 16, identifier: int = 7) -> Chap:
    # RFC 1994 §4.1: the hash of identifier, secret and challenge, one after the other.
    digest = hashlib.md5(bytes([identifier]) + secret + challenge).digest()
    return Chap(identifier, digest, challenge)


@pytest.mark.parametrize("make", [Pap, chap], ids=["PAP", "CHAP"])
def test_a_credential_fits_password_or_pin(make: Callable[[bytes], Pap | Chap]) -> None:
    both = profile(b"open sesame", b"1234")
    for trusted in (True, False):
        assert check(make(b"open sesame"), both, trusted=trusted) is None
        assert check(make(b"1234"), both, trusted=trusted) is None
        for wrong in (b"", b"open sesam", b"12345", b"Open sesame"):
            refused = check(make(wrong), both, trusted=trusted)
            assert refused is not None
            assert refused.reason.value == "invalid-password"
        assert check(make(b""), profile(), trusted=trusted) is not None  # nothing to fit


def test_chap_depends_on_identifier_and_challenge() -> None:
    account = profile(b"secret")
    right = chap(b"secret")
    assert check(right, account, trusted=False) is None
    assert check(right._replace(identifier=8), account, trusted=False) is not None
    assert check(right._replace(challenge=b"\x02" * 16), account, trusted=False) is not None
    assert check(right._replace(response=b""), account, trusted=False) is not None


def test_no_credential_is_needed_from_a_switch_or_where_none_is_set() -> None:
    assert check(None, profile(b"secret"), trusted=True) is None
    assert check(None, profile(), trusted=False) is None
    assert check(None, profile(b"secret"), trusted=False) is not None
    assert check(None, profile(pin=b"1"), trusted=False) is not None


# ------------------------------------------------------------------ frozen on the call

AMOUNTS = st.integers(0, 2**40)
TERMS = st.builds(
    Terms,
    per_minute_nanos=AMOUNTS,
    connect_fee_micros=AMOUNTS,
    included_seconds=st.integers(0, 10_000),
    initial_seconds=st.integers(0, 10_000),
    increment_seconds=st.integers(1, 10_000),
    minimum_charge_micros=AMOUNTS,
    markup_ppm=st.integers(-PPM + 1, 100 * PPM),
    exchange_e10=st.integers(1, 10**14),
)
IDS = st.integers(1, 2**63 - 1)
PREFIXES = st.text("0123456789*#", min_size=1, max_size=32)
PRICES = st.builds(Price, IDS, PREFIXES, st.sampled_from(["USD", "EUR", "XDR"]), TERMS)
LEVELS = st.lists(st.builds(Level, IDS, PRICES), max_size=10).map(tuple)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
OFFERS = st.lists(st.builds(make_offer, IDS, TEXTS, TEXTS, IDS, PRICES), max_size=8).map(tuple)


@EXAMPLES
@given(LEVELS, OFFERS)
def test_what_is_frozen_on_a_call_is_read_back(
    levels: tuple[Level, ...], offers: tuple[Offer, ...]
) -> None:
    assert read_levels(levels_text(levels)) == levels
    assert read_offers(offers_text(offers)) == offers
    for level, again in zip(levels, read_levels(levels_text(levels)), strict=True):
        assert again.price.terms.cost_micros(61) == level.price.terms.cost_micros(61)


# ------------------------------------------------------------------ arrays


@pytest.fixture(scope="module")
def cursor(
    template: str, new_database: Callable[[str], contextlib.AbstractContextManager[str]]
) -> Iterator[Cursor]:
    with new_database(template) as url, contextlib.closing(connect(url)) as connection:
        yield connection.cursor()


def selected(cursor: Cursor, literal: str, kind: str) -> Any:
    # As the store does: the array stands in the statement, which has no parameters.
    cursor.execute(f"SELECT {literal}::{kind}[]")
    row = cursor.fetchone()
    assert row is not None
    return row[0]


SPECIAL = st.sampled_from(
    ["NULL", "null", "", " ", '"', "\\", "'", "{}", "{,}", "\\'", "a\0b", "%s"]
)


@EXAMPLES
@given(values=st.lists(st.none() | TEXTS | SPECIAL))
def test_any_text_comes_back_without_its_nuls(cursor: Cursor, values: list[str | None]) -> None:
    expected = [None if value is None else value.replace("\0", "") for value in values]
    assert selected(cursor, arrays.text_array(values), "text") == expected


@EXAMPLES
@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_any_integer_comes_back(cursor: Cursor, values: list[int | None]) -> None:
    assert selected(cursor, arrays.array(values), "bigint") == values


@EXAMPLES
@given(
    values=st.lists(
        st.none()
        | st.datetimes(
            min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis puts the zone in
            timezones=st.sampled_from([UTC]) | st.timezones(),
        )
    )
)
def test_any_instant_comes_back_to_the_microsecond(
    cursor: Cursor, values: list[datetime | None]
) -> None:
    back = selected(cursor, arrays.time_array(values), "timestamptz")
    # Compared in UTC: an hour that a clock repeats is two instants.
    assert [value and value.astimezone(UTC) for value in back] == [
        value and value.astimezone(UTC) for value in values
    ]


@EXAMPLES
@given(values=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1))))
def test_lists_of_numbers_come_back(cursor: Cursor, values: list[list[int]]) -> None:
    parts = selected(cursor, arrays.lists_array(values), "text")
    assert [selected(cursor, arrays.literal(part), "bigint") for part in parts] == values


def test_lists_of_words_come_back(cursor: Cursor) -> None:
    flags = [["no-authorization", "late-stop"], [], ["silent"]]
    assert [
        selected(cursor, arrays.literal(text), "text")
        for text in selected(cursor, arrays.lists_array(flags), "text")
    ] == flags
