"""Number rules, emergency numbers, limits against fraud and events, by command."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.charging.meter import period_begin
from aaa_server.charging.numbers import Blocked, translate
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.number_rules import new_rule
from aaa_server.storage.problem import BadValue

if TYPE_CHECKING:
    from tests.cli.conftest import Ran, Sky


def ok(ran: Ran) -> Ran:
    assert ran.status == 0, ran.err
    return ran


def refused(ran: Ran, *texts: str) -> None:
    assert ran.status in (1, 2)
    assert ran.out == ""
    for text in texts:
        assert text in ran.err


def execute(url: str, sql: str, parameters: Any = None) -> None:
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        cursor.execute(sql, parameters)


def audited(url: str) -> list[tuple[str, str]]:
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        cursor.execute("SELECT action, subject FROM audit_log ORDER BY audit_id")
        return cursor.fetchall()


# ------------------------------------------------------------------ number rules


def rule(sky: Sky, *words: str) -> str:
    """Adds it; its number."""
    return str(ok(sky("number-rule", "add", *words, "-o", "json")).json["number_rule_id"])


def test_a_national_number_becomes_an_international_one(sky: Sky) -> None:
    added = ok(
        sky(
            *("number-rule", "add", "--account", "bob", "--prefix", "0", "--min-digits", "6"),
            *("--strip", "1", "--prepend", "34", "--note", "Spain", "-o", "json"),
        )
    ).json
    assert {key: added[key] for key in ("scope", "of", "field", "position", "does")} == {
        "scope": "account",
        "of": "bob",
        "field": "called",
        "position": 10,
        "does": "strip 1, prepend 34",
    }
    assert (added["min_digits"], added["max_digits"]) == (6, 31)
    tried = ok(sky("number-rule", "try", "0911 23 00 01", "--account", "bob", "-o", "json")).json
    assert tried == [
        {
            "scope": "everybody",
            "of": "",
            "rule": None,
            "does": "no rule fits",
            "number": "0911230001",
        },
        {
            "scope": "account",
            "of": "bob",
            "rule": added["number_rule_id"],
            "does": "strip 1, prepend 34",
            "number": "34911230001",
        },
    ]


def test_scopes_follow_one_another_and_a_block_ends_it(sky: Sky) -> None:
    everybody = rule(sky, "--everybody", "--prefix", "00", "--strip", "2")
    client = rule(sky, "--client", "rfc", "--prefix", "44", "--strip", "2", "--prepend", "4420")
    inbound = rule(sky, "--resource-group", "11", "--prefix", "4420", "--keep")
    first = rule(sky, "--account", "noel", "--prefix", "4420900", "--block")
    outbound = rule(sky, "--resource-group", "21", "--prefix", "44", "--prepend", "9")

    def tried(number: str, *words: str) -> list[tuple[str, str]]:
        rows = ok(sky("number-rule", "try", number, *words, "-o", "json")).json
        return [(str(row["rule"]), row["number"]) for row in rows]

    whole = ("--client", "rfc", "--resource-group", "11", "--account", "noel")
    assert tried("00447", *whole) == [
        (everybody, "447"),
        (client, "44207"),
        (inbound, "44207"),
        ("None", "44207"),
    ]
    assert tried("00449001", *whole)[-1] == (first, "")
    assert tried("00447", "--account", "noel", "--resource-group", "21") == [
        (everybody, "447"),
        ("None", "447"),
        (outbound, "9447"),
    ]
    assert tried("33", "--account", "noel") == [("None", "33"), ("None", "33")]


def test_the_first_rule_that_fits_decides(sky: Sky) -> None:
    late = rule(sky, "--account", "bob", "--prefix", "9", "--block")
    early = rule(sky, "--account", "bob", "--prefix", "91", "--keep", "--position", "5")
    third = rule(sky, "--account", "bob", "--prefix", "9", "--prepend", "1")
    listed = [
        (str(row["number_rule_id"]), row["position"])
        for row in ok(sky("number-rule", "list", "-o", "json")).json
        if row["of"] == "bob"
    ]
    assert listed == [(early, 5), (late, 10), (third, 20)]
    tried = sky("number-rule", "try", "912", "--account", "bob", "-o", "json").json
    assert str(tried[-1]["rule"]) == early
    tried = sky("number-rule", "try", "922", "--account", "bob", "-o", "json").json
    assert str(tried[-1]["rule"]) == late
    refused(
        sky("number-rule", "add", "--account", "bob", "--block", "--position", "5"),
        "position 5 of bob's rules is taken",
    )
    ok(sky("number-rule", "remove", early))
    refused(sky("number-rule", "remove", early), f"no number rule {early}")


def test_a_callers_number_is_rewritten_before_anybody_is_known(sky: Sky) -> None:
    made = rule(sky, "--everybody", "--caller", "--prefix", "0", "--strip", "1", "--prepend", "34")
    tried = ok(sky("number-rule", "try", "0911", "--caller", "-o", "json")).json
    assert [(str(row["rule"]), row["number"]) for row in tried] == [(made, "34911")]
    tried = ok(sky("number-rule", "try", "0911", "-o", "json")).json
    assert tried[0]["number"] == "0911"
    refused(
        sky("number-rule", "add", "--account", "bob", "--caller", "--block"),
        "--caller goes with --client or --everybody",
    )
    refused(sky("number-rule", "try", "0911", "--caller", "--account", "bob"), "--caller")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--block",), "whose numbers?"),
        (("--everybody", "--account", "bob", "--block"), "whose numbers?"),
        (("--everybody",), "what is done?"),
        (("--everybody", "--block", "--strip", "1"), "what is done?"),
        (("--everybody", "--prefix", "+34", "--block"), "numbers have no + here"),
        (("--everybody", "--prepend", "abc"), "--prepend 'abc'"),
        (("--everybody", "--strip", "3", "--min-digits", "3"), "say --min-digits 4"),
        (
            ("--everybody", "--strip", "3", "--prepend", "1", "--min-digits", "2"),
            "say --min-digits 3",
        ),
        (("--everybody", "--prepend", "123", "--max-digits", "30"), "say --max-digits 29"),
        (("--everybody", "--block", "--min-digits", "9", "--max-digits", "8"), "no number has 9"),
        (("--everybody", "--block", "--prefix", "1234", "--max-digits", "3"), "no number has 4"),
        (("--account", "acme", "--block"), "acme is of kind provider"),
        (("--account", "nobody", "--block"), "no account 'nobody'"),
        (("--client", "nobody", "--block"), "no RADIUS client 'nobody'"),
        (("--resource-group", "99", "--block"), "no resource group RG_99"),
    ],
    ids=" ".join,
)
def test_a_rule_that_cannot_be_says_why(unchanged: Sky, words: tuple[str, ...], text: str) -> None:
    refused(unchanged("number-rule", "add", *words), text)


@given(
    prefix=st.text("0123456789*#", max_size=6),
    min_digits=st.none() | st.integers(1, 32),
    max_digits=st.none() | st.integers(1, 32),
    block=st.booleans(),
    strip=st.integers(0, 32),
    prepend=st.text("0123456789*#", max_size=32),
    number=st.text("0123456789", min_size=1, max_size=32),
)
def test_what_a_rule_leaves_is_a_number(
    prefix: str,
    min_digits: int | None,
    max_digits: int | None,
    block: bool,
    strip: int,
    prepend: str,
    number: str,
) -> None:
    with contextlib.suppress(BadValue):
        made = new_rule(
            prefix,
            min_digits=min_digits,
            max_digits=max_digits,
            block=block,
            strip=strip,
            prepend=prepend,
            note="",
        )
        for tried in (number, prefix + number[len(prefix) :]):
            left = translate((made,), tried)
            assert isinstance(left, Blocked) or 1 <= len(left) <= 32


def test_a_reseller_rules_the_numbers_of_those_below_it(sky: Sky) -> None:
    hidden = rule(sky, "--account", "alice", "--block")
    own = str(
        ok(
            sky(
                *("--as", "north", "number-rule", "add", "--account", "cora"),
                *("--prefix", "9", "--block", "-o", "json"),
            )
        ).json["number_rule_id"]
    )
    listed = ok(sky("--as", "north", "number-rule", "list", "-o", "json")).json
    assert own in [str(row["number_rule_id"]) for row in listed]
    assert {row["scope"] for row in listed} == {"account"}
    assert hidden not in [str(row["number_rule_id"]) for row in listed]
    tried = ok(sky("--as", "north", "number-rule", "try", "91", "--account", "cora", "-o", "json"))
    assert tried.json[-1]["does"] == "block"
    assert "operator's own rules" in tried.err
    for words in (
        ("add", "--account", "alice", "--block"),
        ("add", "--account", "north", "--block"),
        ("add", "--everybody", "--block"),
        ("add", "--client", "rfc", "--block"),
        ("add", "--resource-group", "11", "--block"),
        ("add", "--resource-group", "21", "--block"),
        ("remove", hidden),
    ):
        refused(sky("--as", "north", "number-rule", *words))
    refused(sky("--as", "cora", "number-rule", "remove", own), "it may look")
    ok(sky("--as", "north", "number-rule", "remove", own))


# ------------------------------------------------------------------ emergency numbers


def test_emergency_numbers_are_the_operators(sky: Sky) -> None:
    made = ok(
        sky("emergency", "add", "999", "--resource-group", "21", "--note", "UK", "-o", "json")
    ).json
    assert made == {"number": "999", "resource_group": "RG_21", "note": "UK"}
    assert made in sky("emergency", "list", "-o", "json").json
    refused(sky("emergency", "add", "999"), "999 is an emergency number already")
    refused(sky("emergency", "add", "9" * 9), "2 to 8 digits")
    refused(sky("emergency", "add", "+999"), "2 to 8 digits")
    refused(sky("emergency", "add", "000", "--resource-group", "11"), "RG_11 is inbound")
    for words in (("add", "998"), ("list",), ("remove", "999")):
        refused(sky("--as", "north", "emergency", *words), "for the operator only")
    ok(sky("emergency", "remove", "999"))
    refused(sky("emergency", "remove", "999"), "999 is no emergency number")


# ------------------------------------------------------------------ limits


def test_a_limit_says_what_is_used_of_it_now(sky: Sky, demo_url: str) -> None:
    ok(sky("account", "set", "bob", "--time-zone", "Asia/Kolkata"))
    for name, period, *maximum in (
        ("calls", "hour", "--calls", "30"),
        ("talk", "day", "--minutes", "100"),
        ("spend", "month", "--money", "25.50", "--prefix", "882", "--prefix", "881"),
    ):
        ok(sky("limit", "add", "bob", "--name", name, "--period", period, *maximum))
    now = datetime.now(UTC)
    zone = ZoneInfo("Asia/Kolkata")
    for name, period, amount, longest in (
        ("calls", "hour", 7, timedelta(hours=1)),
        ("talk", "day", 61, timedelta(days=1)),
        ("spend", "month", 5, timedelta(days=31)),
    ):
        begins = period_begin(period, now, zone)
        # The one that begins next, too: it may have begun when the limits are listed.
        follows = period_begin(period, datetime.fromtimestamp(begins, UTC) + longest, zone)
        assert follows > begins
        for begin in (begins, follows):
            execute(
                demo_url,
                "INSERT INTO velocity_use SELECT limit_id, to_timestamp(%s), %s"
                " FROM velocity_limit WHERE name = %s",
                (begin, amount, name),
            )
    execute(
        demo_url,
        "INSERT INTO velocity_use SELECT limit_id, now() - interval '45 days', 9"
        " FROM velocity_limit WHERE name = 'spend'",
    )
    listed = ok(sky("limit", "list", "bob", "-o", "json")).json
    assert [(row["name"], row["measure"], row["maximum"], row["used"]) for row in listed] == [
        ("calls", "calls", 30, 7),
        ("spend", "money", "25.500000", "0.000005"),
        ("talk", "seconds", 6000, 61),
    ]
    assert listed[1]["prefixes"] == ["881", "882"]
    assert (listed[1]["currency"], listed[0]["currency"]) == ("USD", "")
    assert all(row["action"] == "block" and row["active"] for row in listed)


def test_a_limit_is_changed_and_ended(sky: Sky) -> None:
    add = ("limit", "add", "bob", "--name", "n", "--period", "day", "--calls", "5", "--alert")
    assert ok(sky(*add, "-o", "json")).json["action"] == "alert"
    refused(sky(*add), "bob has a limit 'n' already")
    change = ("limit", "set", "bob", "n", "-o", "json")
    after = ok(sky(*change, "--calls", "6", "--prefix", "1", "--block", "--period", "hour")).json
    kept = ("maximum", "prefixes", "action", "period")
    assert [after[key] for key in kept] == [6, ["1"], "block", "hour"]
    after = ok(sky(*change, "--all-numbers")).json
    assert [after[key] for key in kept] == [6, [], "block", "hour"]
    refused(sky(*change, "--minutes", "6"), "counts calls, not seconds")
    refused(sky(*change, "--all-numbers", "--prefix", "1"), "one of them")
    refused(sky(*change), "nothing to change")
    ok(sky("limit", "remove", "bob", "n"))
    refused(sky("limit", "remove", "bob", "n"), "has ended already")
    assert ok(sky(*change, "--active")).json["active"] is True
    assert ok(sky(*change, "--inactive")).json["active"] is False


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("bob", "--name", "n", "--period", "day"), "how much?"),
        (("bob", "--name", "n", "--period", "day", "--calls", "1", "--money", "1"), "one measure"),
        (("bob", "--name", "n", "--period", "year", "--calls", "1"), "year"),
        (("bob", "--name", "n", "--period", "day", "--calls", "0"), "--calls"),
        (("bob", "--name", "n", "--period", "day", "--money", "0"), "a limit is above 0"),
        (("bob", "--name", "n", "--period", "day", "--money", "-1"), "a limit is above 0"),
        (("bob", "--name", " ", "--period", "day", "--calls", "1"), "1 to 64 characters"),
        (
            ("bob", "--name", "n", "--period", "day", "--calls", "1", "--prefix", "+1"),
            "'+1' is no prefix",
        ),
        (("acme", "--name", "n", "--period", "day", "--calls", "1"), "acme is of kind provider"),
    ],
    ids=" ".join,
)
def test_a_limit_that_cannot_be_says_why(unchanged: Sky, words: tuple[str, ...], text: str) -> None:
    refused(unchanged("limit", "add", *words), text)


def test_limits_are_set_by_those_above(sky: Sky) -> None:
    new = ("--name", "n", "--period", "day", "--calls", "5")
    ok(sky("limit", "add", "north", *new))
    ok(sky("limit", "add", "alice", *new))
    for code in ("coast", "cora"):
        ok(sky("--as", "north", "limit", "add", code, *new))
    refused(sky("--as", "north", "limit", "set", "north", "n", "--calls", "9"), "those above it")
    refused(sky("--as", "north", "limit", "remove", "north", "n"), "those above it")
    refused(sky("--as", "north", "limit", "add", "alice", *new), "no account 'alice'")
    refused(sky("--as", "cora", "limit", "set", "cora", "n", "--calls", "9"), "it may look")
    ok(sky("--as", "coast", "limit", "set", "cora", "n", "--calls", "4"))

    def seen(*words: str) -> set[str]:
        return {row["account"] for row in ok(sky(*words, "limit", "list", "-o", "json")).json}

    assert seen() >= {"alice", "coast", "cora", "north"}
    assert seen("--as", "north") == {"coast", "cora", "north"}
    assert seen("--as", "cora") == {"cora"}


def test_an_account_has_so_many_limits(sky: Sky, demo_url: str) -> None:
    execute(
        demo_url,
        "INSERT INTO velocity_limit (account_id, name, period, measure, maximum)"
        " SELECT account_id, 'n' || n, 'day', 'calls', 1 FROM account, generate_series(1, 50) n"
        " WHERE code = 'alice'",
    )
    refused(
        sky("limit", "add", "alice", "--name", "x", "--period", "day", "--calls", "5"),
        "alice has 50 limits already",
    )


# ------------------------------------------------------------------ events

LOW = {"balance": "1.00"}


def test_events_are_told_to_those_they_concern(sky: Sky, demo_url: str) -> None:
    for code, kind, detail, at in (
        (None, "job-failed", {}, "2026-01-01T00:00:00Z"),
        *(
            (code, "low-balance", LOW, "2026-01-02T00:00:00Z")
            for code in ("alice", "cora", "north")
        ),
        ("cora", "card-locked", {}, "2026-01-03T00:00:00Z"),
    ):
        execute(
            demo_url,
            "INSERT INTO event (account_id, kind, detail, at)"
            " VALUES ((SELECT account_id FROM account WHERE code = %s), %s, %s, %s)",
            (code, kind, json.dumps(detail), at),
        )

    def seen(*words: str, eyes: str = "admin") -> list[tuple[str, str]]:
        ran = ok(sky("--as", eyes, "event", "list", *words, "-o", "json"))
        return [(row["kind"], row["account"]) for row in ran.json]

    assert seen()[0] == ("job-failed", "")
    assert set(seen("--kind", "low-balance")) == {
        ("low-balance", code) for code in ("alice", "cora", "north")
    }
    assert seen("--account", "cora") == [("low-balance", "cora"), ("card-locked", "cora")]
    assert seen("--to", "2026-01-02") == [("job-failed", "")]
    assert seen("--from", "2026-01-03") == seen("--limit", "1") == [("card-locked", "cora")]
    assert {code for _, code in seen(eyes="north")} == {"cora", "north"}
    assert {code for _, code in seen(eyes="cora")} == {"cora"}
    told = ok(sky("event", "list", "--account", "alice", "-o", "json")).json
    assert told == [
        {
            "at": "2026-01-02T00:00:00+00:00",
            "kind": "low-balance",
            "account": "alice",
            "detail": LOW,
        }
    ]


# ------------------------------------------------------------------ on record


def test_what_is_changed_of_rules_and_limits_is_on_record(sky: Sky, demo_url: str) -> None:
    made = rule(sky, "--account", "bob", "--block")
    ok(sky("number-rule", "remove", made))
    ok(sky("emergency", "add", "999"))
    ok(sky("emergency", "remove", "999"))
    ok(sky("limit", "add", "bob", "--name", "n", "--period", "day", "--calls", "5"))
    ok(sky("limit", "set", "bob", "n", "--calls", "6"))
    ok(sky("limit", "remove", "bob", "n"))
    assert audited(demo_url)[-7:] == [
        ("number-rule add", made),
        ("number-rule remove", made),
        ("emergency add", "999"),
        ("emergency remove", "999"),
        ("limit add", "bob n"),
        ("limit set", "bob n"),
        ("limit remove", "bob n"),
    ]
