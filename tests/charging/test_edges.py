"""Where what is sold besides plain calls meets what else can happen to a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aaa_server.charging.requests import Expire
from tests.charging import proof
from tests.scenario import CLIENT, Scenario, said

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


def test_a_stop_in_the_batch_that_closed_its_call_uses_the_package(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 600s
        authorize s1 acme 442071838750 slice=60 -> granted 60s
        after     200s
    """)
    late = scenario.stop_request(["s1", "90s"], {})
    answers = scenario.books.decide([Expire(CLIENT, "s1", scenario.now), late])
    assert [said(answer) for answer in answers] == ["closed 1", "cost 0.000000"]
    scenario.check("""
        used      acme minutes          -> 90s reserved 0s
        balance   acme                  -> 1.000000 reserved 0.000000
    """)


def test_a_refused_attempt_tried_again_and_stopped_in_one_batch_gives_its_seconds_back(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60
        account   acme   0.00 retail
        package   acme minutes 600s
        set       acme status=suspended
        authorize s1 acme 442071838750 slice=60 -> refused suspended
        after     200s
        expire    s1                    -> closed 1
        set       acme status=active
    """)
    again = scenario.authorization(["s1", "acme", "442071838750"], {"slice": "60"})
    answers = scenario.books.decide([again, scenario.stop_request(["s1", "40s"], {})])
    assert [said(answer) for answer in answers] == ["granted 60s", "cost 0.000000"]
    scenario.check("used acme minutes       -> 40s reserved 0s")


def test_a_package_alone_is_worth_its_seconds(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60 connect=0.01
        account   acme   0.00 retail
        package   acme minutes 600s
        authorize s1 acme 442071838750  -> granted 600s final
        authorize s2 acme 442071838750  -> refused no-credit
        stop      s1 600s               -> cost 0.000000
    """)


def test_minimum_charge_and_connect_fee_of_a_call_that_a_package_covers_in_part(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60 connect=0.01 minimum=0.05 included=10
        account   acme   1.00 retail
        package   acme minutes 60s
        authorize s1 acme 442071838750 slice=300 -> granted 300s
        stop      s1 70s                -> cost 0.010000
        authorize s2 acme 442071838750 slice=300 -> granted 300s
        stop      s2 11s                -> cost 0.050000
        authorize s3 acme 442071838750 slice=300 -> granted 300s
        stop      s3 10s                -> cost 0.010000
    """)


def test_a_resellers_own_package_frees_the_reseller(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60
        rate      resale 44 0.02 60/60
        reseller  north 0.00 resale
        account   acme  1.00 retail north
        package   north bulk 100s
        authorize s1 acme 442071838750  -> granted 100s final
        stop      s1 61s                -> cost 0.060000
        charges   s1                    -> acme 0.060000 north 0.000000
        used      north bulk            -> 61s reserved 0s
    """)


def test_a_late_stop_after_a_new_rating_gives_money_and_seconds_back(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.03 60/60
        cost      RG_21  44 0.01 6/6 provider=A
        cost      RG_22  44 0.02 6/6 provider=B
        attach    retail RG_21 RG_22
        account   acme   1.00 retail
        package   acme   bulk 100s
        authorize s1 acme 442071838750  -> granted 2080s RG_21 RG_22 final
        update    s1 120s
        after     10000s
        expire    s1                    -> closed 1
        charges   s1                    -> acme 0.030000 A 0.020000
        rate      retail 4420 0.06 60/60
        rerate    s1                    -> acme 0.030000 0.060000 A 0.020000 0.020000
        stop      s1 60s route=RG_22    -> cost 0.000000
        charges   s1                    -> B 0.020000
        used      acme bulk             -> 60s reserved 0s
        balance   acme                  -> 1.000000 reserved 0.000000
        balance   A                     -> 0.000000 reserved 0.000000
    """)


def test_a_reboot_gives_back_what_calls_held_and_late_stops_take_it(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 600s
        cap       acme few day seconds=1000
        authorize s1 acme 442071838750 slice=300 -> granted 300s
        authorize s2 acme 442071838750 slice=300 -> granted 300s
        authorize s3 acme 442071838750 slice=300 -> granted 300s
        authorize s4 acme 442071838750 slice=300 -> granted 100s final
        update    s1 10s
        update    s2 20s
        after     30s
        reboot                          -> closed 4
        used      acme minutes          -> 30s reserved 0s
        counted   few                   -> 30
        stop      s1 15s
        used      acme minutes          -> 35s reserved 0s
        counted   few                   -> 35
    """)


# ------------------------------------------------------------------ limits


def test_a_spend_cap_keeps_out_what_costs_and_nothing_else(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        rate      retail 800 0.00 60/60
        package   acme minutes 60s prefixes=44
        cap       acme daily day money=0.05
        authorize s1 acme 442071838750  -> granted 120s final
        stop      s1 70s                -> cost 0.030000
        counted   daily                 -> 30000
        authorize s2 acme 442071838750  -> refused velocity-limit
        authorize s3 acme 8001234       -> granted 7200s final
        stop      s3 60s                -> cost 0.000000
        package   acme more 100s prefixes=44
        authorize s4 acme 442071838750  -> granted 100s final
        more      s4 100s               -> refused not-enough
        stop      s4 100s               -> cost 0.000000
    """)


def test_a_limit_of_seconds_is_never_exceeded_slice_by_slice(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        cap       acme minutes day seconds=150
        authorize s1 acme 442071838750 slice=60 -> granted 60s
        authorize s2 acme 442071838750 slice=60 -> granted 60s
        more      s1 60s slice=60       -> granted 30s final
        more      s2 60s slice=60       -> refused not-enough
        stop      s1 92s
        stop      s2 60s
        counted   minutes               -> 150
    """)


def test_a_limit_that_is_gone_does_not_keep_its_calls_from_going_on(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        cap       acme few day seconds=100
        authorize s1 acme 442071838750 slice=60 -> granted 60s
    """)
    scenario.query("DELETE FROM velocity_limit")
    scenario.check("""
        more      s1 50s slice=60       -> granted 60s
        stop      s1 100s               -> cost 0.060000
    """)


def test_an_hour_that_the_clocks_go_through_twice_is_two(scenario: Scenario) -> None:
    scenario.check(f"""{PLAIN}
        set       acme time_zone=Europe/Madrid
        cap       acme few hour calls=1
        at 2026-10-25T00:30:00Z
        authorize s1 acme 442071838750 slice=60 -> granted 60s
        at 2026-10-25T00:59:59Z
        authorize s2 acme 442071838750 slice=60 -> refused velocity-limit
        at 2026-10-25T01:00:00Z
        authorize s3 acme 442071838750 slice=60 -> granted 60s
        at 2026-10-25T01:59:59Z
        authorize s4 acme 442071838750 slice=60 -> refused velocity-limit
    """)


# ------------------------------------------------------------------ whose call


def test_nobody_else_pays_for_calls_of_an_account_that_is_not_active(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.60 60/60
        account   wide  1.00 retail
        account   inner 1.00 retail
        inbound   RG_11 wide network=192.0.2.0/24
        inbound   RG_12 inner network=192.0.2.7/32
        set       inner status=suspended
        authorize s1 - 442071838750 address=192.0.2.7 -> refused suspended
        set       inner status=closed
        authorize s2 - 442071838750 address=192.0.2.7 -> refused invalid-account
    """)


# ------------------------------------------------------------------ numbers


def test_an_emergency_number_passes_behind_a_tech_prefix_and_a_rule(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.60 60/60
        cost      RG_21 44 0.30 60/60
        account   acme 0.00 retail
        inbound   RG_11 acme network=192.0.2.0/24 tech=99
        emergency 112 route=RG_21
        authorize s1 - 99112 address=192.0.2.1 -> granted 7200s RG_21 final
        rule      everybody prefix=112 block
        rule      acme prefix=0 strip=1
        set       acme status=suspended
        authorize s2 - 99112 address=192.0.2.1 -> granted 7200s RG_21 final
        authorize s3 acme 0112          -> granted 7200s RG_21 final
        authorize s4 acme 00112         -> refused suspended
        after     60s
        stop      s1 60s                -> cost 0.000000
        cdr       s1                    -> 60s stop emergency
        stop      s3 60s                -> cost 0.000000
        cdr       s3                    -> 60s stop emergency
    """)
    assert scenario.query(
        "SELECT DISTINCT called, routes::jsonb -> 0 ->> 2 FROM cdr WHERE refusal IS NULL"
    ) == [("112", "gw/provider-RG_21/112")]


def test_rules_that_leave_no_number_refuse_the_call(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 9 0.60 60/60
        account   acme 1.00 retail
        rule      acme prefix=44 strip=32 position=1
        rule      acme prefix=9 position=2 prepend=99999999999999999999999999999999
        authorize s1 acme 442071838750  -> refused invalid-argument
        authorize s2 acme 91234567      -> refused invalid-argument
    """)


def test_a_callers_number_is_registered_as_the_clients_rules_make_it(scenario: Scenario) -> None:
    scenario.check("""
        rate      cards 44 0.10 60/60
        account   1002003004 5.00 cards pin=4711
        rule      client caller prefix=0 strip=1 prepend=34
        who       1002003004 pin=4711 ani=0911000001 register -> known 1002003004 5.000000
        authorize s1 - 442071838750 ani=0911000001  -> granted 3000s final
    """)


# ------------------------------------------------------------------ numbers of our own


def test_who_has_a_number_when_it_is_called_pays_for_the_whole_call(scenario: Scenario) -> None:
    scenario.check("""
        did       34931 carrier 0.004 1/1
        account   acme  1.00 -
        account   beta  1.00 -
        did-price 34931 acme 0.01 60/60
        did-price 34931 beta 0.05 60/60
        assign    34931 acme extension=1001@sip.example to=2036-01-15T12:00:10Z
        assign    34931 beta extension=1002@sip.example from=2036-01-15T12:00:10Z
        at 2036-01-15T12:00:00Z
        authorize s1 - 34931 did=34931 slice=60 -> granted 60s DID
        after     60s
        more      s1 60s slice=60       -> granted 60s DID
        stop      s1 100s               -> cost 0.020000
        charges   s1                    -> acme 0.020000 carrier 0.006667
    """)


def test_a_call_to_a_number_of_ours_that_only_accounting_tells_of_is_cheap_too(
    scenario: Scenario,
) -> None:
    scenario.check("""
        did       442071838750 carrier 0.00
        rate      retail 44 0.60 60/60
        cost      RG_21 44 0.30 60/60
        attach    retail RG_21
        account   acme 0.00 retail postpaid limit=5.00
        account   beta 1.00 retail
        assign    442071838750 beta extension=1001@sip.example
        on-net    retail 0.01
        stop      s1 60s acme 442071838750 -> cost 0.010000
        cdr       s1                    -> 60s stop no-authorization
        charges   s1                    -> acme 0.010000
        stop      s2 60s acme 442071838750 route=RG_21 -> cost 0.600000
        charges   s2                    -> acme 0.600000 provider-RG_21 0.300000
    """)


def test_a_route_that_nobody_told_of_is_the_one_that_would_have_been_offered_first(
    scenario: Scenario,
) -> None:
    scenario.check("""
        cost      RG_21 44 0.30 60/60 provider=dear
        cost      RG_22 44 0.10 60/60 provider=cheap
        attach    retail RG_21 RG_22
        group     retail strategy=least-cost
        rate      retail 44 0.60 60/60
        rate      retail 4420 0.60 60/60 via=RG_21
        account   acme 0.00 retail postpaid limit=9.00
        authorize s1 acme 442071838750        -> granted 900s RG_21 final
        stop      s1 60s                      -> cost 0.600000
        stop      s2 60s acme 442071838750    -> cost 0.600000
        charges   s2                          -> acme 0.600000 dear 0.300000
        cdr       s2                          -> 60s stop no-authorization route-assumed
        stop      s3 60s acme 447700900000    -> cost 0.600000
        charges   s3                          -> acme 0.600000 cheap 0.100000
    """)
    # Nothing would have been offered at this margin, but the call went out over something.
    scenario.query("UPDATE rate_group SET minimum_margin_ppm = 900000")
    scenario.check("""
        authorize s4 acme 447700900000        -> refused no-route
        stop      s5 60s acme 447700900000    -> cost 0.600000
        charges   s5                          -> acme 0.600000 cheap 0.100000
    """)


# ------------------------------------------------------------------ emergency calls


def test_an_emergency_number_behind_a_suspended_groups_tech_prefix_is_one(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.60 60/60
        account   acme 1.00 retail
        inbound   RG_11 acme network=192.0.2.0/24 tech=99 status=suspended
        emergency 112
        authorize s1 - 99112 address=192.0.2.7         -> granted 7200s final
        authorize s2 - 99442071838750 address=192.0.2.7 -> refused invalid-account
        after     10s
        stop      s1 10s                               -> noted
        cdr       s1                                   -> 10s stop emergency
        stop      s3 10s - 99112 address=192.0.2.7     -> noted
        inbound   RG_12 acme network=192.0.0.0/16
        authorize s4 - 99112 address=192.0.2.7         -> granted 7200s final
        rule      everybody prefix=0112 strip=1
        authorize s5 - 990112 address=192.0.2.7        -> granted 7200s final
        authorize s6 - 0112 address=192.0.2.7          -> granted 7200s final
    """)
    assert scenario.query("SELECT called, flags FROM cdr WHERE session_key = 's3'") == [
        ("112", ["no-authorization", "emergency"])
    ]


# ------------------------------------------------------------------ currencies


def test_a_cards_surcharge_is_in_the_cards_currency(scenario: Scenario) -> None:
    scenario.check("""
        rate      cards 44 0.10 60/60
        group     cards markup=10
        exchange  USD EUR 0.92
        account   1002003004 5.00 cards pin=4711 currency=EUR
        did       34900 carrier 0.00 access
        set       1002003004 surcharge_micros=50000
        authorize s1 1002003004 442071838750 pin=4711 access=34900 -> granted 2880s final
        stop      s1 60s                -> cost 0.151200
    """)


def test_a_chain_in_three_currencies_balances_in_each(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        group     wholesale currency=GBP
        rate      wholesale 44 0.05 60/60
        cost      RG_21 44 2 6/6 currency=JPY
        attach    wholesale RG_21
        exchange  EUR USD 1.25
        reseller  north 10.00 wholesale currency=EUR
        account   acme  10.00 retail north currency=EUR
        authorize s1 acme 442071838750  -> refused no-rate
        exchange  EUR GBP 0.80
        exchange  JPY USD 0.0066
        authorize s2 acme 442071838750 slice=120 -> granted 120s RG_21
        stop      s2 61s route=RG_21    -> cost 0.160000
        charges   s2                    -> acme 0.160000 north 0.125000 provider-RG_21 2.200000
    """)
    assert (
        scenario.query(
            "SELECT currency, sum(amount_micros)::bigint FROM ledger_entry GROUP BY currency"
            " HAVING sum(amount_micros) <> 0"
        )
        == []
    )


# ------------------------------------------------------------------ clocks


def test_a_switch_whose_clock_is_far_ahead_gives_back_what_its_calls_held(
    scenario: Scenario,
) -> None:
    scenario.check(f"""{PLAIN}
        package   acme minutes 600s to=2026-02-01T00:00:00Z
        cap       acme few day seconds=1000
        authorize s1 acme 442071838750 slice=300 -> granted 300s
        authorize s2 acme 442071838750 slice=60 -> granted 60s
        at 2037-01-15T12:00:00Z
        stop      s1 100s               -> cost 0.000000
        used      acme minutes          -> 100s reserved 60s
        counted   few                   -> 160
        stop      s2 0s
    """)
