"""Rollups are what the records say, at any moment, late corrections included."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.charging.call import read_levels, read_offers
from aaa_server.charging.requests import Rerate
from aaa_server.storage import audit, rollups
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.rates import RateRow, import_rates
from aaa_server.worker.rollups import refresh_rollups
from tests.reports.asking import Answer, ask
from tests.scenario import Books
from web_reports.report import find, reports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def rolled_url(month_url: str, new_database: Any) -> Iterator[str]:
    """The month, rolled up; nobody changes it."""
    with new_database(month_url.partition("?")[0].rpartition("/")[2]) as url:
        with contextlib.closing(connect(url)) as connection:
            refresh_rollups(connection, NOW)
        yield url


@pytest.fixture
def rolled_copy(rolled_url: str, new_database: Any) -> Iterator[Connection]:
    """The same, of this test's own."""
    with (
        new_database(rolled_url.partition("?")[0].rpartition("/")[2]) as url,
        contextlib.closing(connect(url)) as connection,
    ):
        yield connection


def hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def fetch(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with transaction(connection) as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def calls_by_hand(connection: Connection) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    """Attempts, refused and seconds of each key, from the records one by one."""
    counted: dict[tuple[Any, ...], list[int]] = {}
    for row in fetch(
        connection,
        "SELECT ended_at, account_id, resource_group_out_id, routes, levels, refusal, seconds"
        " FROM cdr",
    ):
        ended_at, account_id, group_id, routes, levels, refusal, seconds = row
        offers = read_offers(routes)
        if group_id is None:
            group_id = offers[0].resource_group_id if offers else 0
        priced = read_levels(levels)
        price = (priced[0].price.rate_id, priced[0].price.prefix) if priced else (0, "")
        line = counted.setdefault((hour(ended_at), account_id or 0, group_id, *price), [0, 0, 0])
        line[0] += refusal is None
        line[1] += refusal is not None
        line[2] += seconds if refusal is None else 0
    return {key: (line[0], line[1], line[2]) for key, line in counted.items()}


def charges_by_hand(connection: Connection) -> Counter[tuple[Any, ...]]:
    """Micros by hour, caller, party, level, provider and row, from the charges one by one."""
    rows = fetch(
        connection,
        "SELECT call_id, level, number, account_id, amount_micros, at, rate_id, currency,"
        " billed_seconds FROM charge ORDER BY number, billed_seconds, account_id DESC",
    )
    counted: Counter[tuple[Any, ...]] = Counter()
    for call_id, level, number, party, amount, at, rate_id, currency, _ in rows:
        known = [row for row in rows if row[0] == call_id and row[2] <= number]
        caller = [row for row in known if row[1] == 0][-1]
        providers = [row for row in known if row[1] == -1]
        provider = party if level == -1 else providers[-1][3] if providers else 0
        counted[hour(at), caller[3], party, level, provider, rate_id, currency] += amount
    return counted


def same(connection: Connection) -> bool:
    calls = {
        tuple(row[:5]): tuple(row[5:])
        for row in fetch(
            connection,
            "SELECT hour, account_id, resource_group_id, rate_id, prefix, attempts, refused,"
            " seconds FROM call_hour WHERE cut = 'all'",
        )
    }
    charges = Counter(
        {
            tuple(row[:7]): int(row[7])
            for row in fetch(
                connection,
                "SELECT hour, account_id, party_id, level, provider_id, own_rate_id, currency,"
                " sum(amount_micros) FROM charge_hour WHERE cut = 'all'"
                " GROUP BY 1, 2, 3, 4, 5, 6, 7",
            )
        }
    )
    return calls == calls_by_hand(connection) and charges == charges_by_hand(connection)


def test_they_are_what_the_records_say(month_copy: Connection) -> None:
    told = refresh_rollups(month_copy, NOW)
    assert told.endswith("hours counted")
    assert same(month_copy)
    assert refresh_rollups(month_copy, NOW) == "0 hours counted"


def everything(connection: Connection) -> dict[tuple[str, str], Answer]:
    return {
        (one.name, group): ask(connection, one.name, *([group] if group else []))
        for one in reports()
        for group in ("", *one.groups(operator=True))
        if one.name not in ("credit-control", "fraud")
    }


def test_a_report_says_the_same_before_and_after(month_copy: Connection) -> None:
    before = everything(month_copy)
    refresh_rollups(month_copy, NOW)
    after = everything(month_copy)
    different = [key for key in before if before[key].rows != after[key].rows]
    # The effect of new prices is worked out from what is rolled up.
    assert [key for key in different if key[0] != "rate-changes"] == []


def test_late_corrections_make_their_hours_stale(rolled_copy: Connection) -> None:
    with transaction(rolled_copy) as cursor:
        cursor.execute("SELECT set_config('month.now', %s, false)", (NOW.isoformat(),))
        cursor.execute(
            "SELECT tariff_id FROM rate_group JOIN account ON account_id = owner_id"
            " WHERE code = 'admin'"
        )
        [tariff_id] = cursor.fetchone() or ()
        row = RateRow("49", 77_000_000, destination="Germany")
        import_rates(cursor, tariff_id, [row], effective=NOW - timedelta(days=60))
        cursor.execute(
            "SELECT client_id, session_key, call_id FROM cdr"
            " WHERE called LIKE '49%' AND seconds > 0"
        )
        found = cursor.fetchall()
    Books(rolled_copy).decide([Rerate(row[0], row[1], row[2], NOW) for row in found])
    assert not same(rolled_copy)
    live = ask(rolled_copy, "margin", period="2026-11")
    assert [tied for tied in live.ties if tied.difference] == []
    told = refresh_rollups(rolled_copy, NOW)
    assert told != "0 hours counted"
    assert same(rolled_copy)
    assert ask(rolled_copy, "margin", period="2026-11").rows == live.rows


def test_what_is_written_meanwhile_is_not_lost(month_copy: Connection) -> None:
    """A transaction that commits while the hours are counted leaves its own note."""
    with contextlib.closing(connect(month_copy.dsn)) as other:
        with other.cursor() as writer:
            writer.execute(
                "UPDATE cdr SET seconds = seconds + 1"
                " WHERE call_id = (SELECT max(call_id) FROM cdr WHERE refusal IS NULL)"
            )
            while True:
                with transaction(month_copy) as cursor:
                    if not rollups.refresh(cursor):
                        break
        assert fetch(month_copy, "SELECT count(*) FROM rollup_stale") == [(0,)]
        other.commit()
    assert not same(month_copy)
    assert refresh_rollups(month_copy, NOW) == "1 hours counted"
    assert same(month_copy)


@pytest.mark.parametrize("statement", ["UPDATE charge SET amount_micros = 0", "DELETE FROM charge"])
def test_charges_change_only_by_new_rows(month_copy: Connection, statement: str) -> None:
    # What the rollup of charges rests on: only an INSERT can make an hour of it stale.
    with month_copy.cursor() as cursor, pytest.raises(Exception, match="refuses"):
        cursor.execute(statement)
    month_copy.rollback()


def differences(connection: Connection) -> dict[str, int]:
    """What the audit finds, by check."""
    with transaction(connection) as cursor:
        proved = audit.prove(cursor)
    return {one.check: len(one.differences) for one in proved if one.differences}


def spans(connection: Connection, rollup: str) -> list[tuple[Any, ...]]:
    kept = fetch(
        connection,
        "SELECT rollup, width, count(*), min(begins), max(ends) FROM rollup_span"
        " GROUP BY rollup, width ORDER BY width",
    )
    return [row[1:] for row in kept if row[0] == rollup]


def test_days_that_are_over_are_added_up_and_so_are_months(rolled_copy: Connection) -> None:
    first, ended = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC)
    weeks = datetime(2026, 11, 15, tzinfo=UTC)
    # The last hours of a day may still get calls.
    assert spans(rolled_copy, "call") == [("day", 79, first, ended), ("month", 3, first, weeks)]
    refresh_rollups(rolled_copy, NOW + timedelta(days=3))
    [days, months] = spans(rolled_copy, "call")
    assert days == ("day", 82, first, ended + timedelta(days=3))
    assert months == ("month", 3, first, weeks + timedelta(days=7))
    assert differences(rolled_copy) == {}


@pytest.mark.parametrize("grouped", ["customer,account", "provider,destination", "day,prefix"])
def test_a_report_reads_spans_alone_when_they_cover_it(
    rolled_copy: Connection, grouped: str
) -> None:
    before = ask(rolled_copy, "margin", *grouped.split(","), period="2026-10")
    with transaction(rolled_copy) as cursor:
        cursor.execute("TRUNCATE call_hour, charge_hour, ledger_hour")
    after = ask(rolled_copy, "margin", *grouped.split(","), period="2026-10")
    assert after.rows == before.rows
    assert after.rows
    assert [tied for tied in after.ties if tied.difference] == []


def test_spans_of_the_operators_clock(month_copy: Connection) -> None:
    with transaction(month_copy) as cursor:
        cursor.execute("UPDATE account SET time_zone = 'Europe/Madrid' WHERE kind = 'admin'")
    pairs = [("day", "provider"), ("month", "account"), ("account", "destination")]
    asked = [("margin", *pair) for pair in pairs] + [("traffic", "day", "destination")]
    before = [ask(month_copy, *one, period="2026-10") for one in asked]
    refresh_rollups(month_copy, NOW)
    # Summer time ends in it: the month begins at 22:00 UTC and ends at 23:00.
    october = datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC)
    months = fetch(month_copy, "SELECT begins, ends FROM rollup_span WHERE width = 'month'")
    assert months.count(october) == len(rollups.ROLLUPS)
    assert [ask(month_copy, *one, period="2026-10").rows for one in asked] == [
        one.rows for one in before
    ]
    assert differences(month_copy) == {}
    with transaction(month_copy) as cursor:
        cursor.execute("UPDATE account SET time_zone = 'Asia/Kolkata' WHERE kind = 'admin'")
    refresh_rollups(month_copy, NOW)
    assert spans(month_copy, "charge") == []
    assert fetch(month_copy, "SELECT count(*) FROM charge_span") == [(0,)]


def test_a_late_record_takes_its_day_and_month_away_until_they_are_made_again(
    rolled_copy: Connection,
) -> None:
    longest = "UPDATE cdr SET seconds = seconds + 100000 WHERE call_id = (%s)"
    late = (
        "SELECT call_id FROM cdr WHERE ended_at < '2026-11-01' AND refusal IS NULL"
        " AND seconds > 0 ORDER BY ended_at DESC LIMIT 1"
    )
    with transaction(rolled_copy) as cursor:
        cursor.execute(longest % late)
    stale = ask(rolled_copy, "traffic", "account", "destination", period="2026-10")
    assert any(row[-1] for row in stale.rows)
    with transaction(rolled_copy) as cursor:
        rollups.refresh(cursor)
    days, months = spans(rolled_copy, "call")
    assert (days[1], months[1]) == (78, 2)
    assert differences(rolled_copy) == {}
    for day in (timedelta(), timedelta(days=3)):
        refresh_rollups(rolled_copy, NOW + day)
        again = ask(rolled_copy, "traffic", "account", "destination", period="2026-10")
        assert again.rows == stale.rows
        assert differences(rolled_copy) == {}


def test_a_rate_of_exchange_for_the_past_changes_what_was_worth(rolled_copy: Connection) -> None:
    with transaction(rolled_copy) as cursor:
        cursor.execute(
            "INSERT INTO exchange_rate"
            " SELECT from_currency, to_currency, '2026-10-10', rate_e10 + 12345"
            "   FROM exchange_rate ORDER BY effective_from DESC LIMIT 1"
        )
    kept = fetch(rolled_copy, "SELECT max(ends) FROM rollup_span WHERE rollup = 'charge'")
    assert kept == [(datetime(2026, 10, 10, tzinfo=UTC),)]
    before = ask(rolled_copy, "margin", "customer", period="2026-10")
    refresh_rollups(rolled_copy, NOW)
    assert ask(rolled_copy, "margin", "customer", period="2026-10").rows == before.rows
    assert differences(rolled_copy) == {}


TAMPERED = {
    "hours of calls": "UPDATE call_hour SET seconds = seconds + 1 WHERE cut = 'all'",
    "hours of charges": "UPDATE charge_hour SET calls = calls + 1 WHERE cut = 'all'",
    "hours of the ledger": "DELETE FROM ledger_hour WHERE kind = 'fee'",
    "cuts of hours of calls": "UPDATE call_hour SET timed = timed + 1 WHERE cut = 'route'",
    "cuts of hours of charges": "DELETE FROM charge_hour WHERE cut = 'provider'",
    "days and months of calls": "UPDATE call_span SET setup_ms = 7 WHERE width = 'day'",
    "days and months of charges": "UPDATE charge_span SET home_e10 = 7",
    "days and months of the ledger": "DELETE FROM ledger_span WHERE width = 'month'",
}


def test_the_audit_proves_the_rollups(rolled_copy: Connection) -> None:
    assert differences(rolled_copy) == {}
    for name, statement in TAMPERED.items():
        [check] = [one for one in audit.CHECKS if one.name.startswith(name)]
        with rolled_copy.cursor() as cursor:
            cursor.execute(statement)
            assert audit.differences(cursor, check), name
        rolled_copy.rollback()


@pytest.mark.parametrize("as_code", ["", "north"])
def test_pairs_say_the_same_from_spans_and_from_records(
    of_month: Connection, rolled_url: str, as_code: str
) -> None:
    names = ("traffic", "margin", "top-destinations", "provider-settlement")
    with contextlib.closing(connect(rolled_url)) as rolled:
        for name in names:
            if as_code and find(name).operator_only:
                continue
            for pair in itertools.combinations(find(name).groups(operator=not as_code), 2):
                records, spans = (
                    ask(one, name, *pair, as_code=as_code, period="2026-10").rows
                    for one in (of_month, rolled)
                )
                assert records == spans, (name, pair)


def test_each_cut_adds_up_to_the_whole(rolled_copy: Connection) -> None:
    sums = fetch(
        rolled_copy,
        "SELECT cut, sum(attempts), sum(answered), sum(refused), sum(seconds), sum(setup_ms),"
        " max(longest_seconds) FROM call_hour GROUP BY cut",
    )
    assert {row[0] for row in sums} == {"all", "account", "route", "destination"}
    assert len({row[1:] for row in sums}) == 1
    own = fetch(
        rolled_copy,
        "SELECT cut, level, currency, sum(amount_micros), sum(billed_seconds), sum(calls)"
        "  FROM charge_hour WHERE cut <> 'all' GROUP BY 1, 2, 3"
        " UNION ALL "
        "SELECT 'whole', least(level, 0), charge_hour.currency, sum(amount_micros),"
        "       sum(billed_seconds), sum(calls)"
        "  FROM charge_hour JOIN account ON account.account_id = party_id"
        " WHERE cut = 'all' AND cardinality(chain) = 1 GROUP BY 1, 2, 3",
    )
    by_cut = {name: {row[1:] for row in own if row[0] == name} for name, *_ in own}
    assert len(by_cut) == 4
    assert all(rows == by_cut["whole"] for rows in by_cut.values())


@pytest.mark.parametrize(
    ("name", "asked", "operator", "cut"),
    [
        ("traffic", {"day"}, True, "route"),
        ("traffic", {"day", "provider"}, True, "route"),
        ("traffic", {"destination", "prefix"}, True, "destination"),
        ("traffic", {"account", "hour"}, True, "account"),
        ("traffic", {"account", "destination"}, True, "all"),
        ("traffic", {"day"}, False, "account"),
        ("traffic", {"destination"}, False, "all"),
        ("margin", {"customer"}, True, "customer"),
        ("margin", {"customer", "provider"}, True, "all"),
        ("margin", {"customer", "account"}, True, "all"),
        ("margin", {"customer"}, False, "all"),
    ],
)
def test_the_smallest_cut_that_has_all_is_read(
    name: str, asked: set[str], operator: bool, cut: str
) -> None:
    assert find(name).cut(asked, operator=operator) == cut


BOTH = ("month", "day")


@pytest.mark.parametrize(
    ("name", "asked", "operator", "span"),
    [
        ("traffic", {"day"}, True, ("account", ("day",))),
        ("traffic", {"hour", "account"}, True, ("", ())),
        ("traffic", {"account", "destination"}, True, ("account destination", ("month",))),
        ("traffic", {"account", "destination", "day"}, True, ("", ())),
        ("margin", {"customer", "provider"}, True, ("account provider", BOTH)),
        ("margin", {"customer", "provider"}, False, ("", ())),
        ("margin", {"customer"}, False, ("party account", BOTH)),
        ("margin", {"month", "prefix"}, True, ("provider destination", BOTH)),
        ("provider-settlement", {"provider", "prefix", "day"}, True, ("own row", ("day",))),
        ("reseller-settlement", {"reseller"}, True, ("party account", BOTH)),
    ],
)
def test_the_longest_spans_that_have_all_are_read(
    name: str, asked: set[str], operator: bool, span: tuple[str, tuple[str, ...]]
) -> None:
    assert find(name).span(asked, operator=operator) == span
