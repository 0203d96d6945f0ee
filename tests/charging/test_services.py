"""What is sold besides plain calls: packages, DIDs, cards; limits, number rules, emergencies."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import Rerated
from aaa_server.storage import correction
from tests.charging import proof
from tests.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

PLAIN = """
    rate      retail 44 0.03 60/60
    account   acme   1.00 retail
"""


@pytest.fixture
def scenario(connection: Connection) -> Iterator[Scenario]:
    """Whatever a test does, the books are in order after it."""
    scenario = Scenario(connection)
    yield scenario
    with connection.cursor() as cursor:
        assert proof.broken_laws(cursor) == {}


# ------------------------------------------------------------------ packages


def test_case_17_a_package_is_used_up_and_the_rest_is_charged(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 600s used=540s prefixes=44
        authorize s1 acme 442071838750   -> granted 2040s final
        used      acme minutes           -> 540s reserved 60s
        stop      s1 130s                -> cost 0.060000
        used      acme minutes           -> 600s reserved 0s
        balance   acme                   -> 0.940000 reserved 0.000000
    """)


def test_case_18_of_two_calls_at_once_the_first_has_the_package(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 600s used=540s
        authorize s1 acme 442071838750 slice=60  -> granted 60s
        balance   acme                   -> 1.000000 reserved 0.000000
        authorize s2 acme 442071838750 slice=60  -> granted 60s
        balance   acme                   -> 1.000000 reserved 0.030000
        stop      s1 60s                 -> cost 0.000000
        stop      s2 60s                 -> cost 0.030000
        used      acme minutes           -> 600s reserved 0s
    """)


def test_seconds_that_a_call_did_not_use_are_free_again(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 600s
        authorize s1 acme 442071838750 slice=300 -> granted 300s
        used      acme minutes           -> 0s reserved 300s
        more      s1 300s slice=300      -> granted 300s
        used      acme minutes           -> 0s reserved 600s
        more      s1 600s slice=60       -> granted 60s
        balance   acme                   -> 1.000000 reserved 0.030000
        stop      s1 20s                 -> cost 0.000000
        used      acme minutes           -> 20s reserved 0s
        stop      s1 20s                 -> cost 0.000000
        used      acme minutes           -> 20s reserved 0s
    """)


def test_packages_are_used_in_order_and_only_for_their_numbers(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        rate      retail 49 0.06 60/60
        package   acme second 600s priority=2
        package   acme first 60s priority=1 prefixes=44
        package   acme gone 600s to=2026-01-01T00:00:00Z
        authorize s1 acme 442071838750 slice=90 -> granted 90s
        used      acme first             -> 0s reserved 60s
        used      acme second            -> 0s reserved 30s
        used      acme gone              -> 0s reserved 0s
        authorize s2 acme 4930123456 slice=60 -> granted 60s
        used      acme second            -> 0s reserved 90s
        stop      s1 70s                 -> cost 0.000000
        used      acme first             -> 60s reserved 0s
        used      acme second            -> 10s reserved 60s
    """)


def test_a_package_frees_only_its_own_accounts_level(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60
        rate      resale 44 0.02 60/60
        reseller  north 1.00 resale
        account   acme  1.00 retail north
        package   acme minutes 600s
        authorize s1 acme 442071838750 slice=60 -> granted 60s
        stop      s1 60s                 -> cost 0.000000
        charges   s1                     -> acme 0.000000 north 0.020000
    """)


def test_included_seconds_are_used_before_the_package(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60 included=30 connect=0.01
        account   acme  1.00 retail
        package   acme minutes 600s
        authorize s1 acme 442071838750 slice=60 -> granted 60s
        used      acme minutes           -> 0s reserved 30s
        stop      s1 40s                 -> cost 0.010000
        used      acme minutes           -> 10s reserved 0s
    """)


def test_a_call_that_fell_silent_gives_its_package_back_and_a_late_stop_takes_it(
    scenario: Scenario,
) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 600s
        authorize s1 acme 442071838750 slice=300 -> granted 300s
        update    s1 180s
        after     421s
        expire    s1                     -> closed 1
        used      acme minutes           -> 180s reserved 0s
        stop      s1 240s                -> cost 0.000000
        used      acme minutes           -> 240s reserved 0s
    """)


def test_a_call_without_authorisation_uses_the_package_too(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60
        account   acme  0.00 retail postpaid limit=5.00
        package   acme minutes 60s
        stop      s1 90s acme 442071838750 -> cost 0.030000
        used      acme minutes             -> 60s reserved 0s
    """)


# ------------------------------------------------------------------ limits against fraud


def test_a_limit_of_calls_blocks_and_tells_once(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        cap       acme few hour calls=2 prefixes=44
        rate      retail 49 0.03 60/60
        authorize s1 acme 442071838750 slice=60 -> granted 60s
        authorize s2 acme 442071838750 slice=60 -> granted 60s
        authorize s3 acme 442071838750 slice=60 -> refused velocity-limit
        authorize s4 acme 442071838750 slice=60 -> refused velocity-limit
        authorize s5 acme 4930123456 slice=60   -> granted 60s
        events    acme                          -> velocity-limit 1
        stop      s1 10s
        authorize s6 acme 442071838750 slice=60 -> refused velocity-limit
        after     3600s
        authorize s7 acme 442071838750 slice=60 -> granted 60s
    """)


def test_a_spend_cap_is_never_exceeded_by_calls_at_once(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        cap       acme daily day money=0.10
        authorize s1 acme 442071838750 slice=60  -> granted 60s
        authorize s2 acme 442071838750 slice=120 -> granted 120s final
        counted   daily                          -> 90000
        authorize s3 acme 442071838750 slice=60  -> refused velocity-limit
        stop      s2 30s                         -> cost 0.030000
        counted   daily                          -> 60000
        authorize s3 acme 442071838750 slice=60  -> granted 60s final
        more      s1 60s slice=60                -> refused not-enough
    """)


def test_a_limit_of_seconds_holds_for_a_reseller_and_all_its_customers(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60
        rate      resale 44 0.02 60/60
        reseller  north 10.00 resale
        account   acme  10.00 retail north
        account   beta  10.00 retail north
        cap       north minutes day seconds=100
        authorize s1 acme 442071838750 slice=60  -> granted 60s
        authorize s2 beta 442071838750           -> granted 40s final
        authorize s3 beta 442071838750           -> refused velocity-limit
        stop      s2 10s                         -> cost 0.030000
        counted   minutes                        -> 70
    """)


def test_a_limit_that_only_alerts_counts_what_was_talked(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        cap       acme watch day seconds=100 alert
        authorize s1 acme 442071838750 -> granted 1980s final
        counted   watch                -> nothing
        stop      s1 90s               -> cost 0.060000
        events    acme                 -> none
        authorize s2 acme 442071838750 -> granted 1860s final
        stop      s2 20s               -> cost 0.030000
        counted   watch                -> 110
        authorize s3 acme 442071838750 -> granted 1800s final
        stop      s3 20s               -> cost 0.030000
        events    acme                 -> velocity-limit 1
    """)


# ------------------------------------------------------------------ DIDs

DID = """
    did       34931 carrier 0.004 1/1
    reseller  north 1.00 -
    account   acme  1.00 - north
    did-price 34931 acme  0.01 60/60
    did-price 34931 north 0.006 60/60
    assign    34931 acme extension=1001@sip.example
"""


def test_case_19_owner_resellers_and_provider_of_a_did(scenario: Scenario) -> None:
    scenario.check(f"""{DID}
        authorize s1 - 34931 did=34931 ani=44123 -> granted 6000s DID final
        after     125s
        stop      s1 125s             -> cost 0.030000
        charges   s1                  -> acme 0.030000 north 0.018000 carrier 0.008333
        cdr       s1                  -> 125s stop
        balance   carrier             -> 0.008333 reserved 0.000000
    """)


def test_a_did_that_nobody_answers_costs_nothing(scenario: Scenario) -> None:
    scenario.check(f"""{DID}
        authorize s1 - 34931 did=34931 -> granted 6000s DID final
        stop      s1 0s route=DID     -> cost 0.000000
        balance   carrier             -> 0.000000 reserved 0.000000
    """)


def test_case_20_a_did_whose_owner_cannot_pay_is_refused(scenario: Scenario) -> None:
    scenario.check(f"""{DID}
        account   poor  0.005 - north
        did       34932 carrier 0.004 1/1
        did-price 34932 poor 0.01 60/60
        assign    34932 poor sip=sip:poor@192.0.2.7
        authorize s1 - 34932 did=34932 -> refused not-enough
    """)


def test_a_did_is_its_owners_from_and_to(scenario: Scenario) -> None:
    scenario.check("""
        did       34931 carrier 0.00
        account   acme 1.00 -
        account   beta 1.00 -
        assign    34931 acme pstn=442071838750 to=2036-01-15T12:00:10Z
        assign    34931 beta sip=sip:b@192.0.2.7 from=2036-01-15T12:00:10Z to=2036-01-15T12:00:20Z
        at 2036-01-15T12:00:00Z
        authorize s1 - 34931 did=34931     -> granted 7200s PSTN final
        after     10s
        authorize s2 - 34931 did=34931     -> granted 7200s DID final
        after     10s
        authorize s3 - 34931 did=34931     -> refused no-route
        authorize s4 - 34999 did=34999     -> refused no-route
        stop      s1 5s                    -> cost 0.000000
        stop      s2 5s                    -> cost 0.000000
    """)


def test_a_call_to_a_number_of_ours_stays_with_us_and_is_cheap(scenario: Scenario) -> None:
    scenario.check("""
        did       442071838750 carrier 0.00
        rate      retail 44 0.60 60/60
        cost      RG_21 44 0.30 60/60
        attach    retail RG_21
        account   acme 1.00 retail
        account   beta 1.00 retail
        assign    442071838750 beta extension=1001@sip.example
        authorize s1 acme 442071838750  -> granted 60s RG_21 final
        stop      s1 0s                 -> cost 0.000000
        on-net    retail 0.01
        authorize s2 acme 442071838750  -> granted 6000s ON-NET final
        after     61s
        stop      s2 61s                -> cost 0.020000
        charges   s2                    -> acme 0.020000
        cdr       s2                    -> 61s stop
    """)


ON_NET = """
    did       442071838750 carrier 0.00
    rate      retail 44 0.60 60/60
    cost      RG_21 44 0.30 60/60
    attach    retail RG_21
    on-net    retail 0.01
    reseller  north 1.00 retail
    account   acme 1.00 retail
    account   beta 1.00 retail north
    assign    442071838750 beta extension=1001@sip.example
    authorize s1 acme 442071838750      -> granted 6000s ON-NET final
"""


@pytest.mark.parametrize("who", ["beta", "north"])
@pytest.mark.parametrize(
    ("column", "value"),
    [("status", "suspended"), ("status", "closed"), ("expires_at", "2026-01-15T12:00:00Z")],
)
def test_a_number_of_ours_does_not_ring_while_its_owner_may_do_no_business(
    scenario: Scenario, who: str, column: str, value: str
) -> None:
    scenario.check(f"""{ON_NET}
        set       {who} {column}={value}
        authorize s2 acme 442071838750      -> refused no-route
        balance   acme                      -> 1.000000 reserved 1.000000
        stop      s1 60s                    -> cost 0.010000
        stop      s2 0s                     -> cost 0.000000
        stop      s3 60s acme 442071838750  -> cost 0.010000
        charges   s3                        -> acme 0.010000
    """)
    assert scenario.query("SELECT refusal FROM cdr WHERE session_key = 's2'") == [("no-route",)]


def test_an_expiry_to_come_ends_the_ringing_at_its_instant(scenario: Scenario) -> None:
    scenario.check(f"""{ON_NET}
        stop      s1 0s
        set       beta expires_at=2026-01-15T12:00:10Z
        authorize s2 acme 442071838750      -> granted 6000s ON-NET final
        stop      s2 0s
        after     10s
        authorize s3 acme 442071838750      -> refused no-route
        set       beta expires_at=2026-02-15T12:00:00Z
        authorize s4 acme 442071838750      -> granted 6000s ON-NET final
    """)


def test_a_suspended_number_does_not_ring_and_one_that_nobody_has_is_none_of_ours(
    scenario: Scenario,
) -> None:
    scenario.check(f"""{ON_NET}
        stop      s1 0s
        did       442071838751 carrier 0.00
        authorize s2 acme 442071838751      -> granted 60s RG_21 final
        stop      s2 0s
        suspend   442071838750
        authorize s3 acme 442071838750      -> refused no-route
        authorize s4 - 442071838750 did=442071838750 -> refused no-route
    """)


# ------------------------------------------------------------------ calling cards

CARD = """
    rate      cards 44 0.10 60/60
    account   1002003004 5.00 cards pin=4711
"""


def test_a_card_is_locked_after_wrong_pins_and_opens_again(scenario: Scenario) -> None:
    scenario.check(f"""{CARD}
        who       1002003004 pin=4711      -> known 1002003004 5.000000
        who       1002003004 pin=1111      -> refused invalid-password
        authorize s1 1002003004 442071838750 pin=2222 -> refused invalid-password
        who       1002003004 pin=3333      -> refused invalid-password
        who       1002003004 pin=4444      -> refused invalid-password
        who       1002003004 pin=4711      -> known 1002003004 5.000000
        who       1002003004 pin=1111      -> refused invalid-password
        who       1002003004 pin=1111      -> refused invalid-password
        who       1002003004 pin=1111      -> refused invalid-password
        who       1002003004 pin=1111      -> refused invalid-password
        who       1002003004 pin=1111      -> refused invalid-password
        who       1002003004 pin=4711      -> refused retries
        events    1002003004               -> card-locked 1
        authorize s2 1002003004 442071838750 pin=4711 -> refused retries
        after     900s
        authorize s3 1002003004 442071838750 pin=4711 -> granted 3000s final
        stop      s3 10s                   -> cost 0.100000
    """)


def test_the_surcharge_is_for_calls_over_an_access_number(scenario: Scenario) -> None:
    scenario.check(f"""{CARD}
        did       34900 carrier 0.00 access
        set       1002003004 surcharge_micros=50000
        authorize s1 1002003004 442071838750 pin=4711 access=34900 -> granted 2940s final
        stop      s1 10s                   -> cost 0.150000
        authorize s2 1002003004 442071838750 pin=4711 access=34901 -> granted 2880s final
        stop      s2 10s                   -> cost 0.100000
    """)


def test_a_new_rating_keeps_the_surcharge_that_the_call_was_charged(scenario: Scenario) -> None:
    scenario.check(f"""{CARD}
        did       34900 carrier 0.00 access
        rate      cards 4420 0.20 60/60 connect=0.02
        set       1002003004 surcharge_micros=50000
        authorize s1 1002003004 442071838750 pin=4711 access=34900 slice=60 -> granted 60s
        stop      s1 10s                   -> cost 0.270000
        authorize s2 1002003004 442071838750 pin=4711 slice=60 -> granted 60s
        stop      s2 10s                   -> cost 0.220000
        set       1002003004 surcharge_micros=0
        rerate    s1                       -> nothing
        rerate    s2                       -> nothing
        set       1002003004 surcharge_micros=90000
        rate      cards 44207 0.30 60/60 connect=0.01
        rerate    s1                       -> 1002003004 0.270000 0.360000
        rerate    s2                       -> 1002003004 0.220000 0.310000
        rerate    s1                       -> nothing
        charges   s1                       -> 1002003004 0.360000
        balance   1002003004               -> 4.330000 reserved 0.000000
    """)


def test_a_row_that_was_taken_back_still_tells_the_surcharge(scenario: Scenario) -> None:
    scenario.check(f"""{CARD}
        did       34900 carrier 0.00 access
        set       1002003004 surcharge_micros=50000
        authorize s1 1002003004 442071838750 pin=4711 access=34900 slice=60 -> granted 60s
        stop      s1 10s                   -> cost 0.150000
    """)
    # As an import does that replaces a row at the instant of its beginning.
    scenario.query("UPDATE rate SET effective_to = effective_from")
    scenario.check("""
        rate      cards 44 0.06 60/60 connect=0.01
        rerate    s1                       -> the row that it was priced by is not there
    """)
    [call] = _ended(scenario)
    [answer] = correction.decide(
        scenario.connection,
        correction.rerates([call], scenario.now),
        numbers={call.called},
        policy=Policy(),
    )
    assert isinstance(answer, Rerated)
    assert [(one.before_micros, one.after_micros) for one in answer.changes] == [(150_000, 120_000)]


def _ended(scenario: Scenario) -> list[correction.Ended]:
    begin, end = scenario.now - timedelta(days=1), scenario.now + timedelta(days=1)
    with scenario.connection.cursor() as cursor:
        return correction.ended_calls(
            cursor, begin=begin, end=end, account_id=None, after=0, limit=10
        )


def test_a_surcharge_on_the_price_of_a_number_of_ours_stays_too(scenario: Scenario) -> None:
    scenario.check(f"""{CARD}
        did       34900 carrier 0.00 access
        did       442071838750 carrier 0.00
        account   beta 1.00 cards
        assign    442071838750 beta extension=1001@sip.example
        rate      cards 4420 0.20 60/60 connect=0.02
        on-net    cards 0.01
        set       1002003004 surcharge_micros=50000
        authorize s1 1002003004 442071838750 pin=4711 access=34900 slice=60 -> granted 60s ON-NET
        stop      s1 10s                   -> cost 0.060000
        set       1002003004 surcharge_micros=0
        rerate    s1                       -> nothing
        on-net    cards 0.02
        rerate    s1                       -> 1002003004 0.060000 0.070000
    """)


def test_a_surcharge_stays_the_same_in_the_cards_currency(scenario: Scenario) -> None:
    scenario.check("""
        rate      cards 44 0.10 60/60
        exchange  USD EUR 0.80
        account   1002003004 5.00 cards pin=4711 currency=EUR
        did       34900 carrier 0.00 access
        set       1002003004 surcharge_micros=50000
        authorize s1 1002003004 442071838750 pin=4711 access=34900 slice=60 -> granted 60s
        stop      s1 60s                   -> cost 0.130000
        exchange  USD EUR 0.90 from=2026-01-01T00:00:00Z
        rerate    s1                       -> 1002003004 0.130000 0.140000
    """)


def test_a_card_expires_so_many_days_after_its_first_call(scenario: Scenario) -> None:
    scenario.check(f"""{CARD}
        set       1002003004 valid_days=2
        after     864000s
        authorize s1 1002003004 442071838750 -> granted 3000s final
        stop      s1 10s                   -> cost 0.100000
        after     172799s
        authorize s2 1002003004 442071838750 slice=60 -> granted 60s
        stop      s2 10s                   -> cost 0.100000
        after     1s
        authorize s3 1002003004 442071838750 -> refused expired
    """)


def test_a_caller_registered_with_the_pin_needs_none_any_more(scenario: Scenario) -> None:
    scenario.check(f"""{CARD}
        account   2002003004 5.00 cards pin=4711
        authorize s1 - 442071838750 ani=34911000001  -> refused invalid-account
        who       1002003004 pin=1 ani=34911000001 register -> refused invalid-password
        who       1002003004 ani=34911000001 register       -> refused invalid-argument
        who       1002003004 pin=4711 ani=anonymous register   -> refused invalid-argument
        who       1002003004 pin=4711 ani=34911y00001 register -> refused invalid-argument
        who       1002003004 pin=4711 ani={33 * "1"} register -> refused invalid-argument
        who       1002003004 pin=4711 ani=34911000001 register -> known 1002003004 5.000000
        who       2002003004 pin=4711 ani=34911000001 register -> refused invalid-argument
        who       1002003004 pin=4711 ani=34911000001 register -> known 1002003004 5.000000
        who       1002003004 pin=4711 ani=34911000002 register -> known 1002003004 5.000000
        who       1002003004 pin=4711 ani=34911000003 register -> known 1002003004 5.000000
        who       1002003004 pin=4711 ani=34911000004 register -> known 1002003004 5.000000
        who       1002003004 pin=4711 ani=34911000005 register -> known 1002003004 5.000000
        who       1002003004 pin=4711 ani=34911000006 register -> refused retries
        authorize s1 - 442071838750 ani=34911000001  -> granted 3000s final
        stop      s1 10s                   -> cost 0.100000
    """)


# ------------------------------------------------------------------ numbers


def test_rules_of_everybody_client_and_account_follow_one_another(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 3491 0.60 60/60
        account   acme 1.00 retail
        rule      client prefix=00 strip=2
        rule      acme prefix=9 min=9 max=9 prepend=34
        rule      everybody prefix=0900 block
        authorize s1 acme 911222333        -> granted 60s final
        stop      s1 0s                    -> cost 0.000000
        authorize s2 acme 0034911222333    -> granted 60s final
        stop      s2 0s                    -> cost 0.000000
        authorize s3 acme 0900123          -> refused blocked
        authorize s4 acme 9112223334       -> refused no-rate
    """)


def test_a_callers_number_is_translated_before_its_account_is_looked_for(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.60 60/60
        account   acme 1.00 retail
        map       ani 34911222333 acme
        authorize s1 - 442071838750 ani=911222333 -> refused invalid-account
        rule      everybody caller prefix=9 min=9 max=9 prepend=34
        rule      client caller prefix=34666 block
        authorize s2 - 442071838750 ani=911222333 -> granted 60s final
        authorize s3 acme 442071838750 ani=34666111222 -> refused blocked
        stop      s2 60s                          -> cost 0.600000
    """)


def test_emergency_numbers_always_pass_at_price_0_and_are_on_record(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 1 0.60 60/60 blocked
        account   acme 0.00 retail
        set       acme status=suspended
        rule      everybody prefix=112 block
        limit     acme channels=1
        emergency 112
        authorize s1 acme 112              -> granted 7200s final
        authorize s2 nobody 112            -> granted 7200s final
        authorize s1 acme 112              -> granted 7200s final
        after     7100s
        more      s1 7000s                 -> granted 7200s final
        stop      s1 7100s                 -> cost 0.000000
        cdr       s1                       -> 7100s stop emergency
        stop      s2 30s                   -> noted
        cdr       s2                       -> 30s stop emergency
        stop      s3 30s acme 112          -> cost 0.000000
        cdr       s3                       -> 30s stop no-authorization emergency
        balance   acme                     -> 0.000000 reserved 0.000000
    """)


def test_an_emergency_number_may_have_a_way_out_of_its_own(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.60 60/60
        cost      RG_21 44 0.30 60/60
        account   acme 0.00 retail
        emergency 112 route=RG_21
        authorize s1 acme 112              -> granted 7200s RG_21 final
        after     8000s
        expire    s1                       -> closed 1
        cdr       s1                       -> 0s expiry silent nothing-known emergency
    """)


# ------------------------------------------------------------------ corrections

SOLD = """
    rate      retail 44 0.60 60/60
    rate      resale 44 0.50 60/60
    cost      RG_21  44 0.30 60/60 provider=carrier
    attach    resale RG_21
    reseller  north  10.00 resale
    account   acme   10.00 retail north
    authorize s1 acme 442071838750   -> granted 960s RG_21 final
    after     90s
    stop      s1 90s route=RG_21     -> cost 1.200000
"""


def test_a_call_is_rated_anew_by_what_the_price_lists_say_now(scenario: Scenario) -> None:
    scenario.check(f"""{SOLD}
        rerate    s1                     -> nothing
        rate      retail 4420 0.40 60/60
        cost      RG_21 4420 0.20 60/60
        rerate    s1 -> acme 1.200000 0.800000 north 1.000000 1.000000 carrier 0.600000 0.400000
        rerate    s1                     -> nothing
        charges   s1                     -> acme 0.800000 north 1.000000 carrier 0.400000
        cdr       s1                     -> 90s stop rerated
        balance   acme                   -> 9.200000 reserved 0.000000
        balance   carrier                -> 0.400000 reserved 0.000000
        rate      resale 4420 0.10 60/60
        rerate    s1 -> acme 0.800000 0.800000 north 1.000000 0.200000 carrier 0.400000 0.400000
        stop      s1 90s route=RG_21     -> cost 0.800000
    """)
    [(postings,)] = scenario.query("SELECT postings FROM cdr")
    references = scenario.query(
        "SELECT count(*), count(DISTINCT reference) FROM ledger_transaction WHERE kind = 'call'"
    )
    assert (postings, *references[0]) == (5, 5, 5)
    assert scenario.query(
        "SELECT number, sum(amount_micros)::bigint FROM charge WHERE level = 0"
        " GROUP BY number ORDER BY number"
    ) == [(1, 1_200_000), (2, -1_200_000), (3, 800_000), (4, -800_000), (5, 800_000)]


def test_a_call_that_nobody_could_rate_is_charged_once_there_is_a_row(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.60 60/60
        account   acme   10.00 retail postpaid limit=5.00
        stop      s1 61s acme 4930123456 -> cost 0.000000
        cdr       s1                     -> 61s stop no-authorization unrated
        rate      retail 49 0.10 60/60
        rerate    s1                     -> acme 0.000000 0.200000
        cdr       s1                     -> 61s stop no-authorization rerated
        charges   s1                     -> acme 0.200000
    """)


def test_package_seconds_stay_used_when_a_call_is_rated_anew(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 60s
        authorize s1 acme 442071838750 slice=180 -> granted 180s
        stop      s1 90s                 -> cost 0.030000
        rate      retail 4420 0.05 60/60
        rerate    s1                     -> acme 0.030000 0.050000
        used      acme minutes           -> 60s reserved 0s
    """)


def test_a_stuck_call_is_closed_by_the_operator_and_its_late_stop_corrects(
    scenario: Scenario,
) -> None:
    scenario.check(f"""{PLAIN}
        authorize s1 acme 442071838750   -> granted 1980s final
        after     70s
        stop      s1 60s by=operator     -> cost 0.030000
        cdr       s1                     -> 60s operator
        after     200s
        stop      s1 125s                -> cost 0.090000
        cdr       s1                     -> 125s operator late-stop
    """)
