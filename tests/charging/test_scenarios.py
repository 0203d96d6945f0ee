"""The worked scenarios of the domain: inputs and amounts worked by hand.

Cases that only price one call are in tests/cases/rating.json.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from aaa_server.charging.ledger import Policy
from tests.scenario import CLIENT, Scenario, said

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# Servers forget rows that ended weeks ago, so a change of price is played at this midnight.
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def instant(*, seconds: float) -> str:
    return (MIDNIGHT + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def scenario(connection: Connection) -> Scenario:
    return Scenario(connection)


def test_a_chain_is_granted_what_its_poorest_level_can_pay(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44  0.60 60/6
        rate      resale 44  0.50 60/60
        reseller  north  5.00  resale
        account   acme   1.00  retail north

        authorize s1 acme 442071838750  -> granted 96s final
        balance   acme                  -> 1.000000 reserved 0.960000
        balance   north                 -> 5.000000 reserved 1.000000
        authorize s2 acme 442071838750  -> refused not-enough
        stop      s1 61s                -> cost 0.660000
        stop      s1 61s                -> cost 0.660000   # a retransmission
        balance   acme                  -> 0.340000 reserved 0.000000
    """)


@pytest.mark.parametrize(
    ("authorised", "cost"),
    [(-0.001, "0.060000"), (0, "0.080000"), (-10, "0.060000")],
    ids=["case 1: just before", "case 2: at exactly midnight", "case 3: answered after it"],
)
def test_a_price_is_frozen_when_the_call_is_authorised(
    scenario: Scenario, authorised: float, cost: str
) -> None:
    scenario.check(
        f"""
        rate      retail 1 0.03 60/60 to={MIDNIGHT.isoformat()}
        rate      retail 1 0.04 60/60 from={MIDNIGHT.isoformat()}
        account   acme 10.00 retail
        at {instant(seconds=authorised)}
        authorize s1 acme 12125551212    -> granted 7200s
        at {instant(seconds=authorised + 20)}
        after     90s
        stop      s1 90s                 -> cost {cost}
    """.replace("granted 7200s", "granted 7200s final")
    )


def test_case_3_an_import_during_a_call_does_not_reprice_it(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 1 0.03 60/60
        account   acme 10.00 retail
        authorize s1 acme 12125551212   -> granted 7200s final
        rate      retail 12 0.90 60/60
        stop      s1 90s                -> cost 0.060000
        authorize s2 acme 12125551212   -> granted 660s final
    """)


def test_case_4_a_price_entered_in_local_time_is_in_force_in_utc(scenario: Scenario) -> None:
    before = MIDNIGHT.replace(month=1, day=1, year=MIDNIGHT.year + 1) - timedelta(hours=1)
    local = f"{MIDNIGHT.year + 1}-01-01T00:00:00+01:00"  # Europe/Madrid in winter
    scenario.check(f"""
        rate      retail 1 0.03 60/60 to={local}
        rate      retail 1 0.04 60/60 from={local}
        account   acme 10.00 retail
        at {(before + timedelta(minutes=30)).isoformat()}
        authorize s1 acme 12125551212   -> granted 7200s final
        stop      s1 60s                -> cost 0.040000
    """)


def test_cases_5_and_6_longest_prefix_first_then_the_accounts_own_row(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 1        0.01
        rate      retail 1212     0.02
        rate      retail 12125551 0.05
        account   acme   10.00 retail
        authorize s1 acme 12125551212
        stop      s1 60s                -> cost 0.050000
        rate      second 1212     0.02
        account   own    10.00 second
        rate      second 1        0.005 60/60 own=own
        authorize s2 own 12129990000
        stop      s2 60s                -> cost 0.020000
        authorize s3 own 13129990000
        stop      s3 60s                -> cost 0.005000
        rate      second 1212     0.004 60/60 own=own
        authorize s4 own 12129990000
        stop      s4 60s                -> cost 0.004000
    """)


def test_case_7_every_level_pays_at_its_own_rate(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        rate      two    44 0.08 30/6
        rate      one    44 0.06 1/1
        cost      RG_21  44 0.04 6/6 provider=acme
        attach    one RG_21
        reseller  R1   10.00 one
        reseller  R2   10.00 two R1
        account   cust 10.00 retail R2
        authorize s1 cust 442071838750   -> granted 6000s RG_21 final
        stop      s1 61s route=RG_21     -> cost 0.200000
        charges   s1    -> cust 0.200000 R2 0.088000 R1 0.061000 acme 0.044000
        balance   cust  -> 9.800000 reserved 0.000000
        balance   R2    -> 9.912000 reserved 0.000000
        balance   R1    -> 9.939000 reserved 0.000000
        balance   acme  -> 0.044000 reserved 0.000000
        cdr       s1    -> 61s stop longer-than-elapsed
    """)
    margins = scenario.query(
        "SELECT account.code, book, sum(amount_micros)::bigint FROM ledger_entry"
        " JOIN account USING (account_id) JOIN ledger_transaction USING (transaction_id)"
        " WHERE ledger_transaction.kind = 'call' AND book <> 'balance' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert margins == [
        ("R1", "sales", 88_000),
        ("R2", "sales", 200_000),
        ("admin", "purchases", -44_000),
        ("admin", "sales", 61_000),
    ]


def test_cases_9_and_10_an_exchange_rate_is_frozen_and_rounded_once(scenario: Scenario) -> None:
    scenario.check("""
        exchange  USD EUR 0.92
        rate      dollars 44 0.10 60/60
        rate      dollars 49 0.01 1/1
        account   acme 10.00 dollars currency=EUR
        authorize s1 acme 442071838750
        exchange  USD EUR 0.50 from=2026-01-01
        stop      s1 61s      -> cost 0.184000
        authorize s2 acme 4930123456
        stop      s2 7s       -> cost 0.000583
        at 2025-12-01T00:00:00Z
        authorize s3 acme 4930123456
        stop      s3 7s       -> cost 0.001073
    """)


@pytest.mark.parametrize(
    ("row", "balance", "granted", "cost"),
    [
        ("0.03 60/60", "0.05", 60, "0.030000"),
        ("0.03 6/6", "0.02", 36, "0.018000"),
        ("0.03 60/60 connect=0.04 included=30", "0.10", 150, "0.100000"),
        ("0.03 60/60 postpaid limit=10.00", "-9.97", 60, "0.030000"),
    ],
    ids=["case 11", "case 12", "case 13", "case 14: postpaid"],
)
def test_the_grant_is_the_inverse_of_the_price(
    scenario: Scenario, row: str, balance: str, granted: int, cost: str
) -> None:
    words = [word for word in row.split() if word not in ("postpaid", "limit=10.00")]
    terms = "postpaid limit=10.00" if "postpaid" in row else ""
    scenario.check(f"""
        rate      retail 1 {" ".join(words)}
        account   acme {0 if terms else balance} retail {terms}
        {"pay acme " + balance if terms else ""}
        authorize s1 acme 12125551212     -> granted {granted}s final
        after     {granted}s
        stop      s1 {granted}s           -> cost {cost}
        cdr       s1                      -> {granted}s stop
    """)


def test_case_15_two_calls_share_the_money_in_slices(connection: Connection) -> None:
    scenario = Scenario(connection, slice_seconds=60)
    scenario.check("""
        rate      retail 1 1.00 60/60
        account   acme 10.00 retail
        authorize a acme 12125551212   -> granted 60s
        authorize b acme 12125551212   -> granted 60s
    """)
    for step in range(1, 5):
        final = " final" if step == 4 else ""
        scenario.check(f"""
            after     60s
            more      a {60 * step}s step={step}   -> granted 60s{final if step == 5 else ""}
            more      b {60 * step}s step={step}   -> granted 60s{final}
        """)
    scenario.check("""
        balance   acme                 -> 10.000000 reserved 10.000000
        after     60s
        more      a 300s step=5        -> refused no-credit
        more      b 300s step=5        -> refused no-credit
        stop      a 300s               -> cost 5.000000
        stop      b 300s               -> cost 5.000000
        balance   acme                 -> 0.000000 reserved 0.000000
    """)


def test_case_16_the_grant_is_the_least_of_the_chain(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        rate      two    44 0.08 30/6
        rate      one    44 0.06 1/1
        reseller  R1   2.00 one
        reseller  R2   1.00 two R1
        account   cust 5.00 retail R2
        authorize s1 cust 442071838750   -> granted 750s final
    """)


def test_cases_21_and_22_large_amounts_and_long_calls_are_exact(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 881 30.00 60/60
        rate      retail 44   0.01 60/60
        account   acme 5000.00 retail
        authorize s1 acme 88123456   maximum=40000  -> granted 9960s final
        stop      s1 2460s                          -> cost 1230.000000
        authorize s2 acme 442071838750 maximum=40000
        stop      s2 36000s                         -> cost 6.000000
    """)


def test_case_23_the_same_stop_three_times_is_one_record_and_one_charge(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        account   acme 1.00 retail
        authorize s1 acme 442071838750
        stop      s1 61s     -> cost 0.200000
        stop      s1 61s     -> cost 0.200000
        stop      s1 500s    -> cost 0.200000
        cdr       s1         -> 61s stop longer-than-elapsed
        balance   acme       -> 0.800000 reserved 0.000000
        authorize s1 acme 442071838750 -> refused invalid-argument
    """)
    assert scenario.query("SELECT count(*) FROM ledger_transaction WHERE kind = 'call'") == [(1,)]


def test_cases_24_and_25_silence_closes_a_call_and_a_late_stop_posts_the_difference(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.06 60/60
        account   acme 0.30 retail
        authorize s1 acme 442071838750   -> granted 300s final
        after     180s
        update    s1 180s                -> noted
        after     239s
        expire    s1                     -> noted
        after     1s
        expire    s1                     -> closed 1
        cdr       s1                     -> 180s expiry silent
        balance   acme                   -> 0.120000 reserved 0.000000
        stop      s1 240s                -> cost 0.240000
        stop      s1 240s                -> cost 0.240000
        cdr       s1                     -> 240s expiry silent late-stop
        balance   acme                   -> 0.060000 reserved 0.000000
        expire    s1                     -> noted
    """)
    assert scenario.query(
        "SELECT amount_micros FROM posting JOIN ledger_transaction USING (transaction_id)"
        " WHERE kind = 'call' ORDER BY transaction_id"
    ) == [(-180_000,), (-60_000,)]


def test_a_late_stop_may_also_give_money_back(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.06 60/60
        account   acme 1.00 retail
        authorize s1 acme 442071838750
        after     180s
        update    s1 180s
        after     9000s
        expire    s1                     -> closed 1
        stop      s1 60s                 -> cost 0.060000
        balance   acme                   -> 0.940000 reserved 0.000000
    """)


def test_a_call_of_which_nothing_is_known_costs_nothing_or_its_slice(
    connection: Connection,
) -> None:
    story = """
        rate      retail 44 0.06 60/60
        account   acme 1.00 retail
        authorize s1 acme 442071838750 slice=60
        after     180s
        expire    s1        -> closed 1
        cdr       s1        -> {seconds}s expiry silent{flags}
        balance   acme      -> {balance} reserved 0.000000
    """
    nothing = story.format(seconds=0, flags=" nothing-known", balance="1.000000")
    Scenario(connection).check(nothing)
    again = story.replace("acme", "second").replace("s1", "s2").replace("retail", "other")
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    Scenario(connection, policy=Policy(assume_lost="slice")).check(
        again.format(seconds=60, flags="", balance="0.940000")
    )


def test_case_26_the_route_that_answered_sets_the_cost(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        cost      RG_21  44 0.02 6/6 provider=A
        cost      RG_22  44 0.03 6/6 provider=B
        attach    retail RG_21 RG_22
        account   acme 10.00 retail
        authorize s1 acme 442071838750     -> granted 6000s RG_21 RG_22 final
        after     61s
        stop      s1 61s route=RG_22
        charges   s1          -> acme 0.200000 B 0.033000
        balance   A           -> 0.000000 reserved 0.000000
        authorize s2 acme 442071838750
        after     61s
        stop      s2 61s route=gw/B/442071838750
        charges   s2          -> acme 0.200000 B 0.033000
        cdr       s2          -> 61s stop
        authorize s3 acme 442071838750
        after     61s
        stop      s3 61s
        charges   s3          -> acme 0.200000 A 0.022000
        cdr       s3          -> 61s stop route-assumed
    """)


def test_cases_27_to_29_rounding_flat_fees_and_milliseconds(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.00003 1/1
        rate      retail 45 0 60/60 connect=0.10
        rate      retail 46 0.06 1/1
        account   acme 10.00 retail
        authorize s1 acme 442071838750
        stop      s1 1s         -> cost 0.000001
        authorize s2 acme 45123456
        stop      s2 45s        -> cost 0.100000
        authorize s3 acme 46123456
        stop      s3 1200ms     -> cost 0.002000
        authorize s4 acme 45123456
        stop      s4 0s         -> cost 0.000000
    """)


def test_cases_32_and_33_whose_call_it_is(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        account   A 1.00 retail
        account   B 2.00 retail
        account   C 3.00 retail
        account   D 4.00 retail
        map       extension 1001 A
        map       extension 1001@two.example D
        map       ani 34911234567 B
        inbound   RG_11 C network=192.0.2.0/24
        authorize s1 - 442071838750 ext=1001 ani=34911234567 rg=RG_11    -> granted 600s final
        authorize s2 - 442071838750 ani=34911234567 rg=RG_11             -> granted 1200s final
        authorize s3 - 442071838750 rg=RG_11                             -> granted 1800s final
        authorize s4 - 442071838750 ext=1001@two.example                 -> granted 2400s final
        authorize s5 - 442071838750 address=192.0.2.77 port=5060         -> refused no-credit
        authorize s6 nobody 442071838750 ext=1001            -> refused invalid-account
        authorize s7 34911234567 442071838750 ani=34911234567 -> refused no-credit
        authorize s8 - 442071838750 ext=7777                 -> refused invalid-account
    """)
    found = scenario.query("SELECT session_key, found_by FROM call ORDER BY session_key")
    assert found == [
        ("s1", "extension"),
        ("s2", "ani"),
        ("s3", "resource-group"),
        ("s4", "extension"),
        ("s5", "resource-group"),
        ("s6", None),
        ("s7", "ani"),
        ("s8", None),
    ]


def test_the_narrowest_endpoint_decides_and_a_tech_prefix_is_no_part_of_the_number(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        account   wide 1.00 retail
        account   port 2.00 retail
        account   tech 3.00 retail
        inbound   RG_11 wide network=192.0.2.0/24
        inbound   RG_12 port network=192.0.2.7/32 port=5070
        inbound   RG_13 tech network=192.0.2.7/32 tech=99
        authorize s1 - 442071838750 address=192.0.2.8 port=5070     -> granted 600s final
        authorize s2 - 442071838750 address=192.0.2.7 port=5070     -> granted 1200s final
        authorize s3 - 99442071838750 address=192.0.2.7 port=5060   -> granted 1800s final
        authorize s4 - 442071838750 address=198.51.100.1            -> refused invalid-account
    """)
    assert scenario.query("SELECT called FROM call WHERE session_key = 's3'") == [("442071838750",)]


def test_case_34_of_200_authorisations_for_ten_slices_exactly_ten_are_granted(
    connection: Connection,
) -> None:
    scenario = Scenario(connection, slice_seconds=60)
    scenario.check("""
        rate      retail 44 0.10 60/60
        rate      two    44 0.08 60/60
        rate      one    44 0.06 60/60
        reseller  R1   0.60 one
        reseller  R2   0.80 two R1
        account   cust 1.00 retail R2
    """)
    batch = [
        scenario.authorization([f"s{number}", "cust", "442071838750"], {}) for number in range(200)
    ]
    answers = [said(answer) for answer in scenario.books.decide(list(batch))]
    assert answers[:10] == ["granted 60s"] * 9 + ["granted 60s final"]
    assert answers[10:] == ["refused no-credit"] * 190
    scenario.check("""
        balance   cust   -> 1.000000 reserved 1.000000
        balance   R2     -> 0.800000 reserved 0.800000
        balance   R1     -> 0.600000 reserved 0.600000
    """)


def test_case_35_a_stop_before_its_start_is_one_record_and_one_charge(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        account   acme 0 retail postpaid limit=10.00
        stop      s1 61s acme 442071838750    -> cost 0.200000
        start     s1 acme 442071838750        -> noted
        update    s1 500s acme 442071838750   -> noted
        call      s1                          -> none
        cdr       s1                          -> 61s stop no-authorization
        balance   acme                        -> -0.200000 reserved 0.000000
    """)


def test_case_36_a_reboot_charges_every_call_to_its_last_known_second(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.60 1/1
        account   acme 1000.00 retail
        authorize s1 acme 442071838750
        authorize s2 acme 442071838750
        authorize s3 acme 442071838750
        update    s1 10s
        update    s2 20s
        update    s3 30s
        authorize other acme 442071838750 client=2
        after     60s
        reboot                           -> closed 3
        cdr       s1                     -> 10s reboot silent
        cdr       s2                     -> 20s reboot silent
        cdr       s3                     -> 30s reboot silent
        balance   acme                   -> 999.400000 reserved 72.000000
        reboot                           -> noted
        call      other                  -> authorized
    """)
    assert CLIENT == 1


def test_a_stop_without_authorisation_is_rated_from_its_start(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.10 60/60
        rate      resale 44 0.05 60/60
        cost      RG_21  44 0.02 6/6 provider=A
        attach    resale RG_21
        reseller  north 0 resale postpaid limit=1.00
        account   acme  0 retail north postpaid limit=1.00
        start     s1 acme 442071838750            -> noted
        call      s1                              -> started
        after     61s
        stop      s1 ?                            -> cost 0.200000
        charges   s1                  -> acme 0.200000 north 0.100000 A 0.022000
        cdr       s1                  -> 61s stop no-authorization route-assumed
        stop      s2 61s nobody 442071838750      -> noted
        cdr       s2                  -> 61s stop no-authorization unrated
        stop      s3 61s acme 999                 -> cost 0.000000
        cdr       s3                  -> 61s stop no-authorization unrated
        stop      s4 61s acme 442071838750 forget -> noted
        cdr       s4                  -> 0 records
        start     s5 acme 442071838750 forget     -> noted
        call      s5                  -> none
    """)


def test_a_switch_that_cuts_late_is_billed_for_what_was_granted(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.06 1/1
        account   acme 0.06 retail
        authorize s1 acme 442071838750   -> granted 60s final
        after     62s
        stop      s1 62s                 -> cost 0.060000
        cdr       s1                     -> 60s stop
        pay       acme 0.06
        authorize s2 acme 442071838750   -> granted 60s final
        after     63s
        stop      s2 63s                 -> cost 0.063000
        cdr       s2                     -> 63s stop longer-than-granted
        balance   acme                   -> -0.003000 reserved 0.000000
    """)


def test_a_refused_call_costs_nothing_even_when_the_switch_talked_to_its_caller(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.06 1/1
        account   acme 0 retail
        authorize s1 acme 442071838750   -> refused no-credit
        call      s1                     -> refused
        after     9s
        stop      s1 9s                  -> cost 0.000000
        cdr       s1                     -> 0s stop no-credit refused-but-talked
        balance   acme                   -> 0.000000 reserved 0.000000
    """)


def test_a_refused_call_may_be_tried_again_under_its_key(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.06 1/1
        account   acme 0 retail
        authorize s1 acme 442071838750   -> refused no-credit
        pay       acme 1.00
        authorize s1 acme 442071838750   -> granted 1000s final
        balance   acme                   -> 1.000000 reserved 1.000000
        after     10s
        stop      s1 10s                 -> cost 0.010000
        cdr       s1                     -> 10s stop
        authorize s2 acme 9999           -> refused no-rate
        stop      s2 0s                  -> cost 0.000000
        cdr       s2                     -> 0s stop no-rate
        authorize s2 acme 442071838750   -> granted 990s final
        after     10s
        stop      s2 10s                 -> cost 0.010000
        cdr       s2                     -> 10s stop
    """)


def test_every_reason_has_its_name(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44   0.60 60/60
        rate      retail 4490 0.60 60/60 blocked
        rate      retail 33   0.60 60/60
        cost      RG_21  44   0.30 60/60
        attach    retail RG_21
        account   rich   10.00 retail
        account   poor    0.30 retail
        account   empty   0    retail
        account   owing   0    retail postpaid limit=0.10
        pay       owing  -0.10
        account   barred 10.00 retail
        set       barred status=suspended
        account   gone   10.00 retail
        set       gone   status=closed
        account   old    10.00 retail
        set       old    expires_at=2026-01-15T12:00:00Z
        account   none   10.00 -
        authorize a rich   442071838750  -> granted 960s RG_21 final
        authorize b rich   449012345     -> refused blocked
        authorize c rich   331234567     -> refused no-route
        authorize d rich   5511987654    -> refused no-rate
        authorize e poor   442071838750  -> refused not-enough
        authorize f empty  442071838750  -> refused no-credit
        authorize g owing  442071838750  -> refused credit-limit
        authorize h barred 442071838750  -> refused suspended
        authorize i gone   442071838750  -> refused invalid-account
        authorize j old    442071838750  -> refused expired
        authorize k none   442071838750  -> refused no-rate
        authorize m admin  442071838750  -> refused invalid-account
    """)


def test_channel_and_rate_limits_hold_at_every_level_and_are_given_back(
    scenario: Scenario,
) -> None:
    scenario.check("""
        rate      retail 44 0.01 60/60
        cost      RG_21  44 0.001 60/60
        cost      RG_22  44 0.002 60/60
        attach    retail RG_21 RG_22
        reseller  north  100.00 retail
        account   acme   100.00 retail north
        account   beta   100.00 retail north
        limit     north  channels=2
        limit     RG_21  calls=1
        authorize a acme 442071838750   -> granted 7200s RG_21 RG_22 final
        authorize b beta 442071838750   -> granted 7200s RG_22 final
        authorize c acme 442071838750   -> refused in-use
        stop      a 0s
        authorize d acme 442071838750   -> granted 7200s RG_21 RG_22 final
        stop      b 0s
        stop      d 0s
        limit     beta cps=2
        authorize e beta 442071838750
        stop      e 0s
        authorize f beta 442071838750
        stop      f 0s
        authorize g beta 442071838750   -> refused in-use
        after     1s
        authorize g beta 442071838750   -> granted 7200s RG_21 RG_22 final
    """)


def test_a_route_in_the_other_providers_currency_costs_in_that_currency(
    scenario: Scenario,
) -> None:
    scenario.check("""
        exchange  USD EUR 0.92
        rate      retail 44 0.10 60/60
        cost      RG_21  44 0.10 60/60 provider=euro currency=EUR
        cost      RG_22  44 0.10 60/60 provider=dollar
        attach    retail RG_21 RG_22
        account   acme   10.00 retail
        authorize a acme 442071838750   -> granted 6000s RG_22 RG_21 final
        after     60s
        stop      a 60s route=RG_21
        charges   a                     -> acme 0.100000 euro 0.100000
    """)


def test_an_old_session_key_is_another_call(scenario: Scenario) -> None:
    scenario.check("""
        rate      retail 44 0.06 1/1
        account   acme 10.00 retail
        authorize s1 acme 442071838750
        after     10s
        stop      s1 10s                 -> cost 0.010000
        after     90000s
        authorize s1 acme 442071838750   -> granted 7200s final
        after     20s
        stop      s1 20s                 -> cost 0.020000
        cdr       s1                     -> 2 records
        stop      s1 20s                 -> cost 0.020000
        balance   acme                   -> 9.970000 reserved 0.000000
    """)


def test_more_time_is_counted_from_now_and_a_repeated_step_changes_nothing(
    connection: Connection,
) -> None:
    Scenario(connection, slice_seconds=60).check("""
        rate      retail 44 0.60 1/1
        account   acme 1.00 retail
        authorize s1 acme 442071838750   -> granted 60s
        authorize s1 acme 442071838750   -> granted 60s
        balance   acme                   -> 1.000000 reserved 0.600000
        after     50s
        more      s1 50s step=1          -> granted 50s final
        more      s1 50s step=1          -> granted 50s final
        balance   acme                   -> 1.000000 reserved 1.000000
        after     40s
        more      s1 90s step=2          -> granted 10s final
        more      s1 110s step=3         -> refused no-credit
        more      s9 10s step=1          -> refused invalid-argument
        after     10s
        stop      s1 100s                -> cost 1.000000
    """)
