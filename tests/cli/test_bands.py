"""Bands, holidays and steps: by command, by file, as a call meets them, and in others' eyes."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.charging.requests import Authorize, Granted, Origin, Stop
from aaa_server.storage.viewer import enter
from tests.cli.test_simulate_call import FREESWITCH, LONDON, Server

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky

RETAIL = ("--rate-group", "retail")
# 2026-12-25 is a Friday.
WORKING_HOUR, EVENING, CHRISTMAS = "2026-12-24T12:00", "2026-12-24T22:00", "2026-12-25T12:00"


def told(sky: Sky, *words: str) -> Any:
    ran = sky("-o", "json", *words)
    assert ran.status == 0, ran.err
    return ran.json


def refused(sky: Sky, *words: str) -> str:
    ran = sky(*words)
    assert ran.status == 2, ran
    return ran.err


@pytest.fixture
def banded(sky: Sky) -> Sky:
    """The demo's retail list in Madrid's time, dearer to London by day and cheap on holidays."""
    told(sky, "rate-group", "set", "retail", "--time-zone", "Europe/Madrid")
    band = ("rate-group", "band", "add", "retail")
    told(sky, *band, "peak", "--days", "mon-fri", "--from", "08:00", "--to", "20:00")
    told(sky, *band, "free-day", "--holidays")
    told(sky, "rate-group", "holiday", "add", "retail", "2026-12-25", "--name", "Christmas")
    rate = ("rate", "add", "4420", *RETAIL, "--from", "2026-01-01")
    told(sky, *rate, "--band", "peak", "--per-minute", "0.05", "--step", "300:0.02")
    told(sky, *rate, "--band", "free-day", "--per-minute", "0.001")
    return sky


def by_now(sky: Sky, at: str) -> tuple[Any, Any]:
    found = told(sky, "rate", "lookup", LONDON, *RETAIL, "--at", at)
    return found["band"], found["per_minute"]


# ------------------------------------------------------------------ which row


def test_the_row_of_the_band_in_force_applies(banded: Sky) -> None:
    assert by_now(banded, WORKING_HOUR) == ("peak", "0.0500")
    assert by_now(banded, EVENING) == (None, "0.0100")
    assert by_now(banded, CHRISTMAS) == ("free-day", "0.0010")
    # 08:00 in Madrid is 06:00 UTC in summer and 07:00 in winter.
    assert by_now(banded, "2026-07-08T06:00Z")[0] == "peak"
    assert by_now(banded, "2026-07-08T05:59Z")[0] is None
    assert by_now(banded, "2026-01-07T06:59Z")[0] is None


def test_the_lookup_says_why_of_every_row(banded: Sky) -> None:
    found = told(banded, "rate", "lookup", LONDON, *RETAIL, "--at", WORKING_HOUR)
    assert (found["row_of_band"], found["steps"]) == ("peak", "300:0.0200")
    verdicts = {(row["prefix"], row["band"]): row["verdict"] for row in found["rows"]}
    assert verdicts["4420", "peak"] == "applies"
    assert verdicts["4420", "free-day"] == "the band is peak then"
    assert verdicts["4420", ""] == "the row of band peak goes first"
    found = told(banded, "rate", "lookup", LONDON, *RETAIL, "--at", EVENING)
    verdicts = {(row["prefix"], row["band"]): row["verdict"] for row in found["rows"]}
    assert verdicts["4420", "peak"] == "no band is in force then"
    assert verdicts["4420", ""] == "applies"


def test_an_account_looks_its_own_price_up_in_its_list_s_bands(banded: Sky) -> None:
    words = ("rate", "lookup", LONDON, "--account", "alice", "--at", WORKING_HOUR)
    assert told(banded, *words)["per_minute"] == "0.0500"
    own = ("rate", "add", "4420", *RETAIL, "--account", "alice", "--from", "2026-01-01")
    told(banded, *own, "--per-minute", "0.07")
    found = told(banded, *words)
    assert found["per_minute"] == "0.0700"
    verdicts = {(row["of"], row["band"]): row["verdict"] for row in found["rows"]}
    assert verdicts["", "peak"] == "the account's own row goes first"


def authorization(session: str, at: datetime) -> Authorize:
    return Authorize(
        FREESWITCH,
        session,
        at,
        Origin(account_code="alice"),
        LONDON,
        trusted=True,
        maximum_seconds=7200,
    )


def test_a_call_is_priced_as_of_its_beginning_whatever_comes_then(
    banded: Sky, demo_connection: Connection
) -> None:
    """Authorised a minute before the band ends, stopped an hour later, by a running server."""
    server = Server(demo_connection)
    begins = datetime(2026, 12, 24, 18, 59, tzinfo=UTC)
    [granted] = server.decide(authorization("at-peak", begins))
    assert isinstance(granted, Granted)
    # The server hears of another band, of which the call that runs hears nothing.
    told(banded, "rate-group", "holiday", "add", "retail", "2026-12-24")
    [later] = server.decide(authorization("on-holiday", begins))
    assert isinstance(later, Granted)
    ends = datetime(2026, 12, 24, 19, 59, tzinfo=UTC)
    server.decide(
        *[
            Stop(FREESWITCH, session, ends, 601_000, Origin(account_code="alice"), LONDON)
            for session in ("at-peak", "on-holiday")
        ]
    )
    demo_connection.rollback()
    # 11 minutes: five at 0.05, six at 0.02; or all at 0.001.
    assert server.charges("at-peak")["0"] == ("alice", 370_000)
    assert server.charges("on-holiday")["0"] == ("alice", 11_000)


def test_what_a_call_would_do_is_told_with_band_and_steps(banded: Sky) -> None:
    words = ("simulate-call", "--account", "alice", "--called", LONDON, "--seconds", "601")
    text = banded(*words, "--at", "2026-12-24T11:00Z").out
    assert "for band peak" in " ".join(text.split())
    assert "0.0500 USD a minute, after 300 s billed 0.0200" in " ".join(text.split())
    assert "660 s cost 0.37 USD exactly" in " ".join(text.split())
    found = told(banded, *words, "--at", "2026-12-24T11:00Z")
    assert found["levels"][0]["band"] == "peak"
    assert found["levels"][0]["price"]["steps"] == "300:0.0200"


def test_termination_rates_have_bands_by_their_own_clock(sky: Sky) -> None:
    told(sky, "resource-group", "set", "22", "--time-zone", "America/New_York")
    told(sky, "resource-group", "band", "add", "22", "night", "--from", "22:00", "--to", "06:00")
    rate = ("rate", "add", "4420", "--resource-group", "22", "--from", "2026-01-01")
    told(sky, *rate, "--band", "night", "--per-minute", "0.001")
    lookup = ("rate", "lookup", LONDON, "--resource-group", "22", "--at")
    assert told(sky, *lookup, "2026-12-24T03:00Z")["per_minute"] == "0.0010"
    assert told(sky, *lookup, "2026-12-24T02:59Z")["per_minute"] == "0.0050"
    assert told(sky, "resource-group", "show", "22")["time_zone"] == "America/New_York"
    assert "inbound" in refused(sky, "resource-group", "set", "11", "--time-zone", "UTC")


# ------------------------------------------------------------------ bands and holidays by command


def test_bands_are_listed_in_the_order_in_which_they_go_first(banded: Sky) -> None:
    words = ("rate-group", "band", "add", "retail", "late", "--days", "fri,sat-mon")
    told(banded, *words, "--from", "22:00", "--to", "02:30", "--position", "-1")
    assert told(banded, "rate-group", "band", "list", "retail") == [
        {"band": "free-day", "days": "holidays", "from": "00:00", "to": "24:00", "position": 0},
        {"band": "late", "days": "mon,fri-sun", "from": "22:00", "to": "02:30", "position": -1},
        {"band": "peak", "days": "mon-fri", "from": "08:00", "to": "20:00", "position": 0},
    ]
    assert told(banded, "rate-group", "holiday", "list", "retail") == [
        {"day": "2026-12-25", "name": "Christmas"}
    ]


def test_a_band_goes_when_no_rate_is_of_it_any_more(banded: Sky) -> None:
    remove = ("rate-group", "band", "remove", "retail", "peak")
    ran = banded(*remove)
    assert ran.status == 1
    assert "1 rates of band peak are in force" in ran.err
    told(banded, "rate", "close", "4420", *RETAIL, "--band", "peak")
    assert [one["band"] for one in told(banded, *remove)] == ["free-day"]
    assert told(banded, "rate-group", "holiday", "remove", "retail", "2026-12-25") == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("band", "add", "retail", "x", "--days", "someday"), "'someday' are no days"),
        (("band", "add", "retail", "x", "--from", "25:00"), "'25:00' is no time of the day"),
        (("band", "add", "retail", "x", "--from", "24:00"), "say 00:00 of the next day"),
        (("band", "add", "retail", "x", "--days", "mon", "--holidays"), "one of them"),
        (("band", "add", "retail", "Big"), "no name of a band"),
        (("band", "add", "retail", "x", "--from", "9:00", "--to", "9:00"), "at another time"),
        (("band", "remove", "retail", "x"), "no band 'x'"),
        (("band", "list", "nowhere"), "no rate group 'nowhere'"),
        (("holiday", "add", "retail", "25.12."), "'25.12.' is no date"),
        (("holiday", "remove", "retail", "2026-12-25"), "is no holiday"),
    ],
)
def test_what_makes_no_band_is_refused_in_words(
    unchanged: Sky, words: tuple[str, ...], text: str
) -> None:
    ran = unchanged("rate-group", *words)
    assert ran.status in (1, 2)
    assert text in " ".join(ran.err.split())


def test_overlapping_windows_are_explained(banded: Sky) -> None:
    words = ("rate-group", "band", "add", "retail", "noon", "--from", "11:00", "--to", "13:00")
    ran = banded(*words)
    assert ran.status == 1
    assert "band peak is in force at some of these times already" in ran.err
    told(banded, *words, "--position", "-1")


# ------------------------------------------------------------------ rates by command and by file


def test_steps_are_set_changed_and_taken_away(sky: Sky) -> None:
    def change(*words: str) -> Any:
        return told(sky, "rate", "set", "999", *RETAIL, *words)["steps"]

    add = ("rate", "add", "999", *RETAIL, "--per-minute", "0.10", "--from", "2026-01-01")
    assert told(sky, *add, "--step", "600:0.01", "--step", "300:0.05")["steps"] == (
        "300:0.0500;600:0.0100"
    )
    assert change("--per-minute", "0.2") == "300:0.0500;600:0.0100"
    assert change("--step", "60:0") == "60:0.0000"
    assert change("--no-steps") == ""


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--step", "300"), "'300' is no step"),
        (("--step", "0:0.1"), "it begins after 1 to 86400 seconds"),
        (("--step", "60:-1"), "below 0"),
        (("--step", "60:free"), "is not a price"),
        (("--step", "60:1", "--step", "60:2"), "two steps begin after the same"),
        (tuple(word for n in range(1, 10) for word in ("--step", f"{n}:1")), "8 are allowed"),
        (("--band", "peek"), "no band 'peek'"),
        (("--route", "99"), "there is no such one"),
    ],
)
def test_what_makes_no_rate_is_refused_in_words(
    unchanged: Sky, words: tuple[str, ...], text: str
) -> None:
    add = ("rate", "add", "999", *RETAIL, "--per-minute", "0.10")
    assert text in " ".join(refused(unchanged, *add, *words).split())


def test_a_rate_names_the_one_route_of_its_calls(sky: Sky) -> None:
    add = ("rate", "add", "44207", *RETAIL, "--per-minute", "0.10")
    assert told(sky, *add, "--route", "21")["route"] == "RG_21"
    assert told(sky, "rate", "lookup", LONDON, *RETAIL)["route"] == "RG_21"
    offered = told(sky, "simulate-call", "--account", "alice", "--called", LONDON)["routes"]
    assert [row["resource_group"] for row in offered if row["place"]] == ["RG_21"]
    assert told(sky, "rate", "set", "44207", *RETAIL, "--no-route")["route"] == ""
    own = ("rate", "add", "999", "--rate-group", "north-retail", "--per-minute", "1")
    ran = sky("--as", "north", *own, "--route", "21")
    assert ran.status == 1
    assert "for the operator only" in ran.err


def test_a_file_brings_bands_steps_and_routes(banded: Sky, tmp_path: Path) -> None:
    file = tmp_path / "deck.csv"
    file.write_text(
        "Prefix;Rate;Time Band;Steps;Route\n"
        "8836;0,04;;;\n"
        '8836;0,08;peak;"300:0,05;600:0,01";RG_21\n'
        "8837;0,04;all;;21\n"
    )
    done = told(banded, "import-rates", str(file), *RETAIL, "--effective", "2026-01-01")
    assert done["new"] == 3
    listed = told(banded, "rate", "list", *RETAIL, "--prefix", "8836", "--at", WORKING_HOUR)
    assert [(row["band"], row["steps"], row["route"]) for row in listed] == [
        ("", "", ""),
        ("peak", "300:0.0500;600:0.0100", "RG_21"),
    ]
    ran = banded(
        "-o", "csv", "import-rates", str(file), *RETAIL, "--effective", "2026-02-01", "--dry-run"
    )
    assert list(csv.DictReader(io.StringIO(ran.out))) == []


def test_bad_bands_steps_and_routes_are_told_with_their_lines(banded: Sky, tmp_path: Path) -> None:
    file = tmp_path / "deck.csv"
    file.write_text(
        "prefix,per_minute,band,steps,route\n"
        "336,0.04,peek,,\n"
        "337,0.04,,300,\n"
        "338,0.04,,,RG_99\n"
        "339,0.04,peak,,\n"
        "339,0.05,peak,,\n"
    )
    ran = banded("-o", "csv", "import-rates", str(file), *RETAIL)
    assert ran.status == 2
    bad = [
        (row["line"], row["column"], row["reason"]) for row in csv.DictReader(io.StringIO(ran.out))
    ]
    assert bad == [
        ("2", "band", "the price list has no such band; there are: free-day, peak"),
        (
            "3",
            "steps",
            "'300' is no step: seconds, a colon and a price are expected, like 300:0.02",
        ),
        ("4", "route", "there is no such outbound resource group"),
        ("6", "prefix", "the same prefix at the same time stands in line 5"),
    ]


# ------------------------------------------------------------------ in others' eyes


def test_a_reseller_has_bands_of_its_own_and_sees_those_it_buys_at(banded: Sky) -> None:
    own = ("--as", "north", "rate-group")
    told(banded, *own, "band", "add", "north-retail", "weekend", "--days", "sat,sun")
    told(banded, *own, "holiday", "add", "north-retail", "2026-12-26")
    words = ("rate", "add", "999", "--rate-group", "north-retail", "--per-minute", "0.1")
    told(banded, "--as", "north", *words, "--band", "weekend", "--step", "60:0.05")
    told(banded, "rate-group", "band", "add", "wholesale", "peak", "--from", "08:00")
    assert [one["band"] for one in told(banded, *own, "band", "list", "wholesale")] == ["peak"]
    for refused_words in (
        ("band", "add", "wholesale", "mine", "--to", "07:00"),
        ("band", "remove", "wholesale", "peak"),
        ("holiday", "add", "wholesale", "2026-12-26"),
    ):
        ran = banded(*own, *refused_words)
        assert ran.status == 1
        assert "may not change rate group wholesale" in ran.err
    ran = banded("--as", "north", "resource-group", "band", "list", "21")
    assert ran.status == 1
    assert "for the operator only" in ran.err


@pytest.mark.parametrize("name", ["retail", "wholesale", "coast-retail", "RG_21"])
def test_by_sql_too_a_reseller_changes_no_other_bands(
    banded: Sky, demo_connection: Connection, name: str
) -> None:
    group = ("rate-group", "band", "add", name)
    if name.startswith("RG_"):
        group = ("resource-group", "band", "add", "21")
    if name != "retail":
        told(banded, *group, "peak")
    with demo_connection.cursor() as cursor:
        cursor.execute(
            "SELECT tariff_id FROM rate_group WHERE name = %(name)s"
            " UNION SELECT tariff_id FROM resource_group WHERE name = %(name)s",
            {"name": name},
        )
        [(tariff_id,)] = cursor.fetchall()
        enter(cursor, "north")
        cursor.execute("SELECT count(*) FROM rate_band WHERE tariff_id = %s", (tariff_id,))
        assert cursor.fetchone() == (int(name in ("wholesale", "coast-retail")),)
        cursor.execute("DELETE FROM rate_band WHERE tariff_id = %s", (tariff_id,))
        assert cursor.rowcount == 0
        cursor.execute("SAVEPOINT attack")
        for sql in (
            "INSERT INTO rate_band (tariff_id, name, weekdays, from_minute, to_minute, position)"
            " VALUES (%s, 'mine', 1, 0, 60, 9)",
            "INSERT INTO rate_holiday (tariff_id, day) VALUES (%s, '2026-12-24')",
            "UPDATE rate_band SET from_minute = 1 WHERE tariff_id = %s",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(sql, (tariff_id,))
            cursor.execute("ROLLBACK TO SAVEPOINT attack")
    demo_connection.rollback()


def test_changes_of_bands_are_on_record(banded: Sky, demo_connection: Connection) -> None:
    told(banded, "rate-group", "holiday", "remove", "retail", "2026-12-25")
    with demo_connection.cursor() as cursor:
        cursor.execute(
            "SELECT action, subject, before, after FROM audit_log WHERE action LIKE 'rate-group %'"
            " AND action <> 'rate-group set' AND at > now() - interval '1 hour' ORDER BY audit_id"
        )
        found = cursor.fetchall()[-4:]
    assert [row[:2] for row in found] == [
        ("rate-group band add", "retail"),
        ("rate-group band add", "retail"),
        ("rate-group holiday add", "retail"),
        ("rate-group holiday remove", "retail"),
    ]
    assert found[0][3]["days"] == "mon-fri"
    assert found[3][2]["holidays"] == [{"day": "2026-12-25", "name": "Christmas"}]
