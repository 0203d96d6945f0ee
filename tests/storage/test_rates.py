"""Rate rows in a real PostgreSQL: the import, single rows, and what a server reads of them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaa_server.rating.band import EVERY_DAY, Window
from aaa_server.rating.tariff import Tariff
from aaa_server.storage import rate_bands, rates, viewer
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.rates import RateRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

DAWN = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
# A database is made once a test: the examples of one share it, each with a tariff of its own.
EXAMPLES = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
PREFIXES = st.text("12*", min_size=1, max_size=4)
DAYS = st.integers(0, 9)
BANDS = st.sampled_from(["", "", "peak", "night"])
STEPS = st.sampled_from([(), (), ((60, 1),), ((60, 1), (120, 2**40))])


def day(number: int) -> datetime:
    return DAWN + timedelta(days=number)


@pytest.fixture
def cursor(connection: Connection) -> Iterator[Cursor]:
    with connection.cursor() as opened:
        yield opened


def new_tariff(cursor: Cursor) -> int:
    """The tariff of one example; what the one before it wrote goes."""
    cursor.connection.rollback()
    return another_tariff(cursor)


def another_tariff(cursor: Cursor) -> int:
    cursor.execute("INSERT INTO tariff (currency) VALUES ('EUR') RETURNING tariff_id")
    [(tariff_id,)] = cursor.fetchall()
    rate_bands.add_window(cursor, tariff_id, Window("peak", EVERY_DAY, 8 * 60, 20 * 60))
    rate_bands.add_window(cursor, tariff_id, Window("night", EVERY_DAY, 22 * 60, 6 * 60))
    return int(tariff_id)


@pytest.fixture
def tariff_id(cursor: Cursor) -> int:
    return new_tariff(cursor)


def row(prefix: str, price: int = 1000, **more: Any) -> RateRow:
    return RateRow(prefix, price, **more)


class Stood(NamedTuple):
    prefix: str
    price: int
    begins: int
    ends: int | None
    band: str = ""
    steps: tuple[tuple[int, int], ...] = ()


def stored(cursor: Cursor, tariff_id: int, account_id: int = 0) -> list[Stood]:
    """The rows that are not empty, in days."""
    return [
        Stood(
            found.rate.prefix,
            found.rate.terms.per_minute_nanos,
            (found.rate.effective_from - DAWN).days,
            (found.rate.effective_to - DAWN).days if found.rate.effective_to else None,
            found.rate.band,
            found.rate.terms.steps,
        )
        for found in rates.list_rates(cursor, tariff_id, at=None, account_id=account_id)
    ]


def revision_of(cursor: Cursor, tariff_id: int) -> int:
    cursor.execute("SELECT revision FROM tariff WHERE tariff_id = %s", (tariff_id,))
    [(revision,)] = cursor.fetchall()
    return int(revision)


def in_memory(tariff: Tariff, accounts: tuple[int, ...] = (0, 7, 8)) -> list[Any]:
    return sorted(
        (account_id, rate.prefix, rate.band, rate.effective_from, rate.rate_id, rate)
        for account_id in accounts
        for rate in tariff.rates(account_id)
    )


# ------------------------------------------------------------------ the import


@st.composite
def disjoint_rows(draw: st.DrawFn, *, price: st.SearchStrategy[int]) -> list[RateRow]:
    """Rows whose periods do not overlap; at most some of each prefix and band."""
    rows = []
    for prefix, band in draw(st.lists(st.tuples(PREFIXES, BANDS), unique=True, max_size=4)):
        edges = sorted(draw(st.sets(DAYS, min_size=1, max_size=3)))
        for place, begins in enumerate(edges):
            following = edges[place + 1] if place + 1 < len(edges) else 11
            ends = draw(st.none() | st.integers(begins + 1, following))
            rows.append(
                row(
                    prefix,
                    draw(price),
                    band=band,
                    steps=draw(STEPS),
                    effective_from=day(begins),
                    effective_to=None if ends is None else day(ends),
                )
            )
    return rows


def expected_price(
    standing: list[Stood],
    arriving: list[RateRow],
    key: tuple[str, str],
    at: int,
    replace_from: int | None,
) -> tuple[int, tuple[tuple[int, int], ...]] | None:
    """The price in force after the import, read off the rule: who began last, and still runs.

    `key` is prefix and band: each has a history of its own.
    """
    mine = [new for new in arriving if (new.prefix, new.band) == key]
    begins = [(new.effective_from - DAWN).days for new in mine if new.effective_from]
    periods = []
    for old in standing:
        if (old.prefix, old.band) != key:
            continue
        if replace_from is not None and begins and old.begins >= min(begins):
            continue
        ends = old.ends
        if replace_from is not None and not begins:
            ends = replace_from if ends is None else min(ends, replace_from)
        periods.append((old.begins, 0, ends, (old.price, old.steps)))
    for new, start in zip(mine, begins, strict=True):
        end = (new.effective_to - DAWN).days if new.effective_to else None
        periods.append((start, 1, end, (new.per_minute_nanos, new.steps)))
    started = [period for period in periods if period[0] <= at]
    if not started:
        return None
    _, _, ends, price = max(started, key=lambda period: period[:2])
    return price if ends is None or at < ends else None


def ends_in_time(standing: list[Stood], arriving: list[RateRow], replace: bool) -> bool:
    """Whether no row's own end lies behind the beginning of its prefix's next."""
    for new in arriving:
        if new.effective_to is None or new.effective_from is None:
            continue
        starts = [
            other.effective_from
            for other in arriving
            if (other.prefix, other.band) == (new.prefix, new.band) and other.effective_from
        ]
        if not replace:
            starts += [
                day(old.begins)
                for old in standing
                if (old.prefix, old.band) == (new.prefix, new.band)
            ]
        if any(new.effective_from < start < new.effective_to for start in starts):
            return False
    return True


PRICES = st.integers(1, 2)  # few, so that much is unchanged


@EXAMPLES
@given(
    first=disjoint_rows(price=PRICES),
    second=disjoint_rows(price=PRICES),
    replace=st.booleans(),
    effective=DAYS,
)
def test_after_an_import_each_day_has_the_price_that_the_rule_says(
    cursor: Cursor,
    first: list[RateRow],
    second: list[RateRow],
    replace: bool,
    effective: int,
) -> None:
    tariff_id = new_tariff(cursor)
    rates.import_rates(cursor, tariff_id, first, effective=day(0))
    standing = stored(cursor, tariff_id)
    if not ends_in_time(standing, second, replace):
        with pytest.raises(Conflict, match="its next row begins before that"):
            rates.import_rates(cursor, tariff_id, second, effective=day(effective), replace=replace)
        return
    done = rates.import_rates(cursor, tariff_id, second, effective=day(effective), replace=replace)
    tariff = rates.load_tariff(cursor, tariff_id)
    for prefix, band in {(each.prefix, each.band) for each in first + second}:
        own = Tariff(1, "EUR")
        mine = [each for each in tariff.rates() if (each.prefix, each.band) == (prefix, band)]
        own.replace(0, prefix, [dataclasses.replace(each, band="") for each in mine])
        for at in range(12):
            found = own.rate_for(prefix, day(at))
            terms = (found.terms.per_minute_nanos, found.terms.steps) if found else None
            assert terms == expected_price(
                standing, second, (prefix, band), at, effective if replace else None
            ), (prefix, band, at)
    again = rates.import_rates(cursor, tariff_id, second, effective=day(effective), replace=replace)
    assert again == done._replace(
        new=0, increased=0, decreased=0, changed=0, closed=0, unchanged=len(second)
    )


def test_a_row_closes_the_running_one_at_its_beginning(cursor: Cursor, tariff_id: int) -> None:
    rates.import_rates(cursor, tariff_id, [row("44", 10), row("33", 10)], effective=day(0))
    done = rates.import_rates(cursor, tariff_id, [row("44", 12)], effective=day(5))
    assert done == rates.Imported(
        2, new=0, increased=1, decreased=0, changed=0, unchanged=0, closed=0
    )
    assert stored(cursor, tariff_id) == [
        Stood("33", 10, 0, None),
        Stood("44", 10, 0, 5),
        Stood("44", 12, 5, None),
    ]


def test_every_row_is_counted_for_what_it_is(cursor: Cursor, tariff_id: int) -> None:
    before = [row(prefix, 10) for prefix in ("1", "2", "3", "4", "5", "6", "7")]
    rates.import_rates(cursor, tariff_id, before, effective=day(0))
    done = rates.import_rates(
        cursor,
        tariff_id,
        [
            row("1", 10),
            row("2", 11),
            row("3", 9),
            row("4", 10, destination="Spain"),
            row("5", 10, increment_seconds=1),
            row("6", 10, connect_fee_micros=1),
            row("8", 10),
        ],
        effective=day(1),
        replace=True,
    )
    assert done == rates.Imported(
        2, new=1, increased=2, decreased=2, changed=1, unchanged=1, closed=1
    )
    found = {change.prefix: change for change in rates.difference(cursor)}
    assert {prefix: change.what for prefix, change in found.items()} == {
        "2": "increased",
        "3": "decreased",
        "4": "changed",
        "5": "decreased",
        "6": "increased",
        "7": "closed",
        "8": "new",
    }
    assert (found["2"].old_nanos, found["2"].new_nanos) == (10, 11)
    assert (found["5"].old_interval, found["5"].new_interval) == ("60/60", "60/1")
    assert (found["7"].effective_to, found["7"].new_nanos) == (day(1), None)
    everything = list(rates.difference(cursor, unchanged=True))
    assert [change.prefix for change in everything] == ["1", "2", "3", "4", "5", "6", "7", "8"]


def test_rows_of_bands_come_and_go_without_touching_others(cursor: Cursor, tariff_id: int) -> None:
    rates.import_rates(
        cursor, tariff_id, [row("44", 10), row("44", 20, band="peak")], effective=day(0)
    )
    done = rates.import_rates(cursor, tariff_id, [row("44", 21, band="peak")], effective=day(1))
    assert (done.increased, done.new, done.closed) == (1, 0, 0)
    [change] = rates.difference(cursor)
    assert (change.band, change.old_nanos, change.new_nanos) == ("peak", 20, 21)
    done = rates.import_rates(cursor, tariff_id, [row("44", 10)], effective=day(2), replace=True)
    assert (done.unchanged, done.closed) == (1, 1)
    assert stored(cursor, tariff_id) == [
        Stood("44", 10, 0, None),
        Stood("44", 20, 0, 1, "peak"),
        Stood("44", 21, 1, 2, "peak"),
    ]


def test_the_difference_has_every_row_however_it_is_sliced(
    cursor: Cursor, tariff_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aaa_server.storage.rate_import.DIFFERENCE_SLICE_ROWS", 1)
    arriving = [row(prefix, 1, band=band) for prefix in "12" for band in ("", "night", "peak")]
    rates.import_rates(cursor, tariff_id, arriving, effective=day(0))
    found = [(change.prefix, change.band) for change in rates.difference(cursor)]
    assert found == [(each.prefix, each.band) for each in arriving]


def test_a_step_that_changes_is_a_change_of_price(cursor: Cursor, tariff_id: int) -> None:
    stepped = row("44", 10, steps=((300, 5),))
    rates.import_rates(cursor, tariff_id, [stepped, row("33", 10)], effective=day(0))
    done = rates.import_rates(
        cursor,
        tariff_id,
        [row("44", 10, steps=((300, 6),)), row("33", 10, steps=((60, 9),))],
        effective=day(1),
    )
    assert done.increased == 2
    found = {
        change.prefix: (change.old_steps, change.new_steps) for change in rates.difference(cursor)
    }
    assert found == {"44": (((300, 5),), ((300, 6),)), "33": ((), ((60, 9),))}
    done = rates.import_rates(cursor, tariff_id, [row("44", 10)], effective=day(2))
    assert (done.decreased, done.unchanged) == (1, 0)


def test_a_band_that_the_list_does_not_have_is_refused_with_its_line(
    cursor: Cursor, tariff_id: int
) -> None:
    arriving = [row("1", 1, line=2), row("2", 1, band="lunch", line=3)]
    with pytest.raises(
        BadValue, match="line 3: the price list has no band 'lunch', there are night, peak"
    ):
        rates.import_rates(cursor, tariff_id, arriving, effective=day(0))
    with pytest.raises(BadValue, match="no band 'lunch'"):
        rates.add_rate(cursor, tariff_id, row("3", 1, band="lunch", effective_from=day(0)))


@pytest.mark.parametrize(
    "steps",
    [
        "{}",
        "{300}",
        "{0,1}",
        "{300,5,300,6}",
        "{300,5,200,6}",
        "{300,-1}",
        "{NULL,5}",
        "{300,NULL}",
        "{86401,5}",
        "{{300,5},{600,6}}",
        "[0:1]={300,5}",
        "{" + ",".join(f"{second},1" for second in range(1, 10)) + "}",
    ],
)
def test_the_database_refuses_steps_that_make_no_price(
    cursor: Cursor, tariff_id: int, steps: str
) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation, match="rate_steps_check"):
        cursor.execute(
            """
            INSERT INTO rate (tariff_id, prefix, per_minute_nanos, initial_seconds,
                              increment_seconds, effective_from, revision, steps)
            VALUES (%s, '44', 1, 60, 60, now(), 1, %s::bigint[])
            """,
            (tariff_id, steps),
        )


def test_single_rows_of_a_band_are_changed_and_closed_by_themselves(
    cursor: Cursor, tariff_id: int
) -> None:
    for band in ("", "peak"):
        rates.add_rate(
            cursor, tariff_id, row("44", 10, band=band, steps=((60, 7),), effective_from=day(0))
        )
    with pytest.raises(Conflict, match="prefix 44 of band peak has a row already"):
        rates.add_rate(cursor, tariff_id, row("44", 9, band="peak", effective_from=day(1)))
    rates.set_rate(cursor, tariff_id, "44", {"per_minute_nanos": 12}, at=day(1), band="peak")
    rates.close_rate(cursor, tariff_id, "44", at=day(2))
    assert stored(cursor, tariff_id) == [
        Stood("44", 10, 0, 2, "", ((60, 7),)),
        Stood("44", 10, 0, 1, "peak", ((60, 7),)),
        Stood("44", 12, 1, None, "peak", ((60, 7),)),
    ]
    with pytest.raises(NotFound, match="prefix 44 of band night has no row in force"):
        rates.close_rate(cursor, tariff_id, "44", at=day(2), band="night")


def test_a_dry_run_says_the_same_and_writes_nothing(cursor: Cursor, tariff_id: int) -> None:
    rates.import_rates(cursor, tariff_id, [row("44", 10), row("33", 10)], effective=day(0))
    before = stored(cursor, tariff_id)
    arguments: dict[str, Any] = {"effective": day(1), "replace": True}
    dry = rates.import_rates(cursor, tariff_id, [row("44", 9)], dry_run=True, **arguments)
    assert stored(cursor, tariff_id) == before
    assert revision_of(cursor, tariff_id) == dry.revision == 1
    real = rates.import_rates(cursor, tariff_id, [row("44", 9)], **arguments)
    assert real == dry._replace(revision=2)


def test_replacing_takes_back_what_was_planned(cursor: Cursor, tariff_id: int) -> None:
    planned = [row("44", 10, effective_from=day(1)), row("44", 11, effective_from=day(7))]
    rates.import_rates(cursor, tariff_id, [*planned, row("33", 5)], effective=day(8))
    rates.import_rates(cursor, tariff_id, [row("44", 20)], effective=day(3), replace=True)
    assert stored(cursor, tariff_id) == [Stood("44", 10, 1, 3), Stood("44", 20, 3, None)]


def test_without_replace_a_new_row_ends_where_a_planned_one_begins(
    cursor: Cursor, tariff_id: int
) -> None:
    rates.import_rates(cursor, tariff_id, [row("44", 11)], effective=day(7))
    rates.import_rates(cursor, tariff_id, [row("44", 10)], effective=day(3))
    assert stored(cursor, tariff_id) == [Stood("44", 10, 3, 7), Stood("44", 11, 7, None)]


def test_a_row_that_ends_too_late_is_refused_with_its_line(cursor: Cursor, tariff_id: int) -> None:
    rates.import_rates(cursor, tariff_id, [row("44", 11)], effective=day(7))
    with pytest.raises(Conflict, match=r"line 4: prefix 44 would end at .* begins before that"):
        rates.import_rates(
            cursor, tariff_id, [row("44", 10, effective_to=day(8), line=4)], effective=day(3)
        )
    with pytest.raises(Conflict, match="line 2: prefix 1 stands twice from"):
        rates.import_rates(
            cursor, tariff_id, [row("1", 1, line=2), row("1", 2, line=3)], effective=day(3)
        )


def test_texts_come_through_the_copy_unharmed(cursor: Cursor, tariff_id: int) -> None:
    name = 'Côte d\'Ivoire\t"x"\\N\r\nπ'
    rates.import_rates(
        cursor, tariff_id, [row("225", 1, destination=name), row("2250", 1)], effective=day(0)
    )
    tariff = rates.load_tariff(cursor, tariff_id)
    found = tariff.rate_for("22512345", day(1))
    assert found is not None
    assert found.destination == name


def test_an_accounts_own_rows_are_apart_from_everybodys(cursor: Cursor, tariff_id: int) -> None:
    rates.import_rates(cursor, tariff_id, [row("44", 10)], effective=day(0))
    done = rates.import_rates(
        cursor, tariff_id, [row("44", 8)], effective=day(0), account_id=7, replace=True
    )
    assert (done.new, done.closed) == (1, 0)
    assert stored(cursor, tariff_id) == [Stood("44", 10, 0, None)]
    assert stored(cursor, tariff_id, 7) == [Stood("44", 8, 0, None)]


def test_an_import_locks_out_the_next_and_tells_the_servers(
    cursor: Cursor, tariff_id: int, connection: Connection
) -> None:
    connection.commit()
    cursor.execute("SELECT revision FROM catalogue")
    [(before,)] = cursor.fetchall()
    rates.import_rates(cursor, tariff_id, [row("44")], effective=day(0))
    cursor.execute("SELECT revision FROM catalogue")
    [(after,)] = cursor.fetchall()
    assert after > before
    cursor.execute("SELECT DISTINCT revision FROM rate")
    assert cursor.fetchall() == [(1,)]


def test_a_tariff_that_is_not_there_is_named(cursor: Cursor) -> None:
    with pytest.raises(NotFound, match="price list"):
        rates.import_rates(cursor, 4711, [row("44")], effective=day(0))
    with pytest.raises(NotFound, match="tariff 4711"):
        rates.load_tariff(cursor, 4711)


# ------------------------------------------------------------------ memory against SQL


class Placed(NamedTuple):
    account_id: int
    row: RateRow


@st.composite
def placed_rows(draw: st.DrawFn) -> list[Placed]:
    return [
        Placed(account_id, each)
        for account_id in (0, 7, 8)
        for each in draw(disjoint_rows(price=st.integers(1, 10**6)))
    ]


def write(cursor: Cursor, tariff_id: int, rows: list[Placed]) -> None:
    for account_id in (0, 7, 8):
        mine = [placed.row for placed in rows if placed.account_id == account_id]
        rates.import_rates(cursor, tariff_id, mine, effective=day(0), account_id=account_id)


@EXAMPLES
@given(
    rows=placed_rows(),
    questions=st.lists(
        st.tuples(st.text("12*", max_size=6), st.integers(-24, 264), st.sampled_from([0, 7, 8])),
        max_size=20,
    ),
)
def test_the_tariff_in_memory_answers_like_sql(
    cursor: Cursor, rows: list[Placed], questions: list[tuple[str, int, int]]
) -> None:
    tariff_id = new_tariff(cursor)
    write(cursor, tariff_id, rows)
    tariff = rates.load_tariff(cursor, tariff_id)
    tariff.use_bands(rate_bands.bands_of(cursor, tariff_id, "UTC"))
    for number, hour, account_id in questions:
        at = DAWN + timedelta(hours=hour)
        cursor.execute(
            """
            SELECT rate_id
              FROM rate
             WHERE tariff_id = %s
               AND account_id IN (0, %s)
               AND starts_with(%s, prefix)
               AND tstzrange(effective_from, effective_to) @> %s
               AND band IN ('', %s)
             ORDER BY length(prefix) DESC, account_id DESC, band DESC
             LIMIT 1
            """,
            (
                tariff_id,
                account_id,
                number,
                at,
                "peak" if 8 <= at.hour < 20 else "night" if not 6 <= at.hour < 22 else "",
            ),
        )
        found = tariff.rate_for(number, at, account_id)
        assert ([(found.rate_id,)] if found else []) == cursor.fetchall()


def follow(cursor: Cursor, tariff: Tariff, *, limit: int) -> None:
    """What a server does when it hears of a new revision, in pages of `limit`."""
    after = None
    while True:
        cursor.execute(
            *rates.rates_since(tariff.tariff_id, tariff.revision, after=after, limit=limit)
        )
        after = rates.apply_rows(tariff, cursor.fetchall())
        if after is None:
            break
    tariff.revision = revision_of(cursor, tariff.tariff_id)


@EXAMPLES
@given(
    steps=st.lists(st.tuples(placed_rows(), st.booleans()), min_size=1, max_size=3),
    limit=st.integers(1, 5),
    pauses=st.booleans(),
)
def test_a_server_that_follows_the_changes_holds_what_a_fresh_one_loads(
    cursor: Cursor, steps: list[tuple[list[Placed], bool]], limit: int, pauses: bool
) -> None:
    tariff_id = new_tariff(cursor)
    server = Tariff(tariff_id, "EUR")
    for rows, replace in steps:
        for account_id in (0, 7, 8):
            mine = [placed.row for placed in rows if placed.account_id == account_id]
            cursor.execute("SAVEPOINT step")
            try:
                rates.import_rates(
                    cursor,
                    tariff_id,
                    mine,
                    effective=day(2),
                    account_id=account_id,
                    replace=replace,
                )
            except Conflict:
                cursor.execute("ROLLBACK TO SAVEPOINT step")
        if not pauses:
            follow(cursor, server, limit=limit)
    follow(cursor, server, limit=limit)
    fresh = rates.load_tariff(cursor, tariff_id)
    assert in_memory(server) == in_memory(fresh)
    assert server.revision == fresh.revision
    count, parameters = rates.changes_count(tariff_id, server.revision, 5)
    cursor.execute(count, parameters)
    assert cursor.fetchall() == [(0,)]


def test_rows_that_ended_long_ago_are_not_held_in_memory(cursor: Cursor, tariff_id: int) -> None:
    ended = [
        row("44", effective_from=day(-100), effective_to=day(-60)),
        row("44", effective_from=day(-60)),
        row("33", effective_from=day(-100), effective_to=day(-60)),
    ]
    rates.import_rates(cursor, tariff_id, ended, effective=day(0))
    tariff = rates.load_tariff(cursor, tariff_id)
    assert [rate.effective_from for rate in tariff.rates()] == [day(-60)]
    follower = Tariff(tariff_id, "EUR", revision=0)
    follow(cursor, follower, limit=1)
    assert in_memory(follower) == in_memory(tariff)


def test_the_same_terms_are_held_once(cursor: Cursor, tariff_id: int) -> None:
    rates.import_rates(
        cursor,
        tariff_id,
        [row("44", destination="UK"), row("33", destination="UK")],
        effective=day(0),
    )
    one, other = rates.load_tariff(cursor, tariff_id).rates()
    assert one.terms is other.terms
    assert one.effective_from is other.effective_from
    assert one.destination is other.destination
    assert one.effective_from.tzinfo is UTC


# ------------------------------------------------------------------ one row at a time


def test_a_row_is_added_and_its_overlap_refused_in_words(cursor: Cursor, tariff_id: int) -> None:
    rates.add_rate(cursor, tariff_id, row("44", effective_from=day(2), effective_to=day(4)))
    with pytest.raises(Conflict, match=r"prefix 44 has a row already, from .* until .*`rate set`"):
        rates.add_rate(cursor, tariff_id, row("44", effective_from=day(3)))
    rates.add_rate(cursor, tariff_id, row("44", 2000, effective_from=day(4)))
    with pytest.raises(Conflict, match=r"from .* with no end, and two rows"):
        rates.add_rate(cursor, tariff_id, row("44", effective_from=day(8)))
    rates.add_rate(cursor, tariff_id, row("44", effective_from=day(8)), account_id=7)
    assert stored(cursor, tariff_id) == [Stood("44", 1000, 2, 4), Stood("44", 2000, 4, None)]
    assert revision_of(cursor, tariff_id) == 3


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (row("4x"), "'4x' is no prefix: 1 to 32 digits"),
        (row("44", strip=33), "0 to 32 digits can be stripped"),
        (row("44", prepend="a"), "what is prepended is digits"),
        (row("44", increment_seconds=0), "an increment is at least 1 second"),
        (row("44", -1), "a price is at least 0"),
        (row("44", connect_fee_micros=-1), "a connect fee is at least 0"),
        (row("44", minimum_charge_micros=-1), "a minimum charge is at least 0"),
        (row("44", effective_to=day(-1)), "a row ends after it begins"),
        (row("44", included_seconds=-1), r"out of range \(rate_included_seconds_check\)"),
    ],
)
def test_a_value_that_the_database_refuses_is_explained(
    cursor: Cursor, tariff_id: int, bad: RateRow, text: str
) -> None:
    with pytest.raises(BadValue, match=text):
        rates.add_rate(cursor, tariff_id, bad._replace(effective_from=day(0)))


def test_setting_a_rate_keeps_what_is_not_named(cursor: Cursor, tariff_id: int) -> None:
    rates.add_rate(
        cursor,
        tariff_id,
        row("44", destination="UK", strip=2, effective_from=day(0), effective_to=day(9)),
    )
    done = rates.set_rate(cursor, tariff_id, "44", {"per_minute_nanos": 900}, at=day(5))
    assert (done.decreased, done.unchanged) == (1, 0)
    assert stored(cursor, tariff_id) == [Stood("44", 1000, 0, 5), Stood("44", 900, 5, 9)]
    found = rates.load_tariff(cursor, tariff_id).rate_for("4420", day(6))
    assert found is not None
    assert (found.destination, found.strip) == ("UK", 2)
    same = rates.set_rate(cursor, tariff_id, "44", {"per_minute_nanos": 900}, at=day(6))
    assert (same.unchanged, same.revision) == (1, 2)
    with pytest.raises(BadValue, match="can be stripped"):
        rates.set_rate(cursor, tariff_id, "44", {"strip": 99}, at=day(6))


def test_a_closed_row_ends_and_one_closed_at_its_beginning_never_was(
    cursor: Cursor, tariff_id: int
) -> None:
    rates.add_rate(cursor, tariff_id, row("44", effective_from=day(0)))
    was = rates.close_rate(cursor, tariff_id, "44", at=day(4))
    assert was.effective_to is None
    assert stored(cursor, tariff_id) == [Stood("44", 1000, 0, 4)]
    rates.close_rate(cursor, tariff_id, "44", at=day(0))
    assert stored(cursor, tariff_id) == []
    assert len(rates.load_tariff(cursor, tariff_id)) == 0
    rates.add_rate(cursor, tariff_id, row("44", effective_from=day(0)))


def test_closing_or_setting_what_is_not_in_force_says_what_comes_next(
    cursor: Cursor, tariff_id: int
) -> None:
    with pytest.raises(
        NotFound, match=r"prefix 44 has no row in force at .*: `rate add` makes one"
    ):
        rates.close_rate(cursor, tariff_id, "44", at=day(0))
    rates.add_rate(cursor, tariff_id, row("44", effective_from=day(5)))
    with pytest.raises(NotFound, match="; the next begins at"):
        rates.set_rate(cursor, tariff_id, "44", {"per_minute_nanos": 1}, at=day(0))


@pytest.mark.parametrize("prefix", ["1", "1*", "1#", "*", "#", "0" * 32])
def test_the_database_refuses_an_overlap_whatever_the_prefix(
    cursor: Cursor, tariff_id: int, prefix: str
) -> None:
    insert = """
        INSERT INTO rate (tariff_id, prefix, per_minute_nanos, initial_seconds,
                          increment_seconds, effective_from, revision)
        VALUES (%s, %s, 1, 60, 60, now(), 1)
    """
    for other in ("1*", "1#", "1", "*", "#", "0" * 31, "0" * 32, "0" * 30):
        if other != prefix:
            cursor.execute(insert, (tariff_id, other))
    cursor.execute(insert, (tariff_id, prefix))
    with pytest.raises(psycopg2.errors.ExclusionViolation):
        cursor.execute(insert, (tariff_id, prefix))


def test_candidates_are_all_rows_that_could_apply_the_best_first(
    cursor: Cursor, tariff_id: int
) -> None:
    rates.import_rates(
        cursor, tariff_id, [row("4", 1), row("44", 2), row("45", 3)], effective=day(0)
    )
    rates.import_rates(cursor, tariff_id, [row("44", 4)], effective=day(5))
    rates.import_rates(cursor, tariff_id, [row("44", 5)], effective=day(0), account_id=7)
    found = rates.candidates(cursor, tariff_id, "4420", account_id=7)
    assert [(each.account_id, each.rate.terms.per_minute_nanos) for each in found] == [
        (7, 5),
        (0, 2),
        (0, 4),
        (0, 1),
    ]
    assert [each.account_id for each in rates.candidates(cursor, tariff_id, "4420")] == [0, 0, 0]


def test_rates_are_listed_by_prefix_and_time(cursor: Cursor, tariff_id: int) -> None:
    rates.import_rates(cursor, tariff_id, [row("4"), row("44"), row("45")], effective=day(0))
    rates.import_rates(cursor, tariff_id, [row("44", 2)], effective=day(5))

    def listed(**arguments: Any) -> list[tuple[str, int]]:
        return [
            (found.rate.prefix, found.rate.terms.per_minute_nanos)
            for found in rates.list_rates(cursor, tariff_id, **arguments)
        ]

    assert listed(at=day(6)) == [("4", 1000), ("44", 2), ("45", 1000)]
    assert listed(at=None, prefix="44") == [("44", 1000), ("44", 2)]
    assert listed(at=day(1), after="4", limit=1) == [("44", 1000)]


# ------------------------------------------------------------------ a reseller's own list


def test_a_reseller_imports_into_its_own_list_and_no_other(cursor: Cursor) -> None:
    own, foreign = new_tariff(cursor), another_tariff(cursor)
    cursor.execute(
        """
        INSERT INTO account (code, kind, prepaid, currency) VALUES ('admin', 'admin', false, 'EUR');
        INSERT INTO account (code, kind, parent_id, prepaid, currency)
        SELECT 'north', 'reseller', account_id, true, 'EUR' FROM account;
        INSERT INTO rate_group (owner_id, name, tariff_id)
        SELECT account_id, 'retail', %s FROM account WHERE code = 'north';
        INSERT INTO rate_group (owner_id, name, tariff_id)
        SELECT account_id, 'wholesale', %s FROM account WHERE code = 'admin';
        """,
        (own, foreign),
    )
    rates.import_rates(cursor, foreign, [row("44", 5)], effective=day(0))
    cursor.connection.commit()
    viewer.enter(cursor, "north")
    rates.import_rates(cursor, own, [row("44", 10)], effective=day(0))
    done = rates.import_rates(cursor, own, [row("44", 11)], effective=day(1))
    assert done.increased == 1
    assert [change.what for change in rates.difference(cursor)] == ["increased"]
    assert stored(cursor, own) == [Stood("44", 10, 0, 1), Stood("44", 11, 1, None)]
    assert stored(cursor, foreign) == []
    with pytest.raises(NotFound, match="no such price list"):
        rates.import_rates(cursor, foreign, [row("44", 1)], effective=day(0))
