"""DIDs by command: the inventory, the prices of every level, and whose a number is."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.charging.did import Assignment, ring
from aaa_server.storage import accounts, did_assignments, dids
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.did_assignments import Destination, read_destination
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import operator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from tests.cli.conftest import Ran, Sky

N = "390200000001"
M = "390200000002"
RING = ("--extension", "1001@sip.example")


def ok(ran: Ran) -> Ran:
    assert ran.status == 0, ran.err
    return ran


def refused(ran: Ran, *texts: str) -> None:
    assert ran.status in (1, 2)
    assert ran.out == ""
    assert ran.err.count("\n") == 1, ran.err
    for text in texts:
        assert text in ran.err


@pytest.fixture
def numbers(sky: Sky) -> Sky:
    """Two numbers of acme's in the demo."""
    for number in (N, M):
        ok(sky("did", "add", number, "--provider", "acme", "--per-minute", "0.004"))
    return sky


@pytest.fixture
def priced(numbers: Sky) -> Sky:
    """Every level above cora, and cora, has a price for the first."""
    for code, price in (("north", "0.006"), ("coast", "0.008"), ("cora", "0.01")):
        ok(numbers("did", "price", N, "--account", code, "--per-minute", price))
    return numbers


# ------------------------------------------------------------------ the inventory


def test_a_number_comes_into_the_inventory_with_its_costs(sky: Sky) -> None:
    made = ok(
        sky(
            *("did", "add", "+39 02 0000 0003", "--provider", "acme", "--setup", "5"),
            *("--monthly", "1.50", "--per-minute", "0.004", "--connect-fee", "0.01"),
            *("--initial", "1", "--increment", "1", "--included", "3", "-o", "json"),
        )
    ).json
    assert made == {
        "number": "390200000003",
        "account": "",
        "rings": "",
        "status": "active",
        "access": False,
        "provider": "acme",
        "currency": "USD",
        "setup": "5.000000",
        "monthly": "1.500000",
        "per_minute": "0.0040",
        "connect_fee": "0.010000",
        "initial_seconds": 1,
        "increment_seconds": 1,
        "included_seconds": 3,
        "prices": [],
        "assignments": [],
    }
    assert sky("did", "show", "390200000003", "-o", "json").json == made


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("add", "12", "--provider", "acme"), "'12' is no number: 3 to 32 digits"),
        (("add", "abc", "--provider", "acme"), "'abc' is no number"),
        (("add", "123*", "--provider", "acme"), "no number"),
        (("add", N, "--provider", "alice"), "alice is a customer: numbers come from a provider"),
        (("add", N, "--provider", "nobody"), "there is no account 'nobody'"),
        (("add", N, "--provider", "acme", "--monthly", "-1"), "monthly is below 0"),
        (("add", N, "--provider", "acme", "--increment", "0"), "increment_seconds is at least 1"),
        (("add", N, "--provider", "acme", "--initial", "90000"), "0 to 86400, not 90000"),
        (("add", N, "--provider", "acme", "--per-minute", "1,5"), "is not a price"),
        (("show", N), f"there is no DID {N}"),
        (("set", N), "nothing to change"),
        (("price", "--account", "alice"), "one of them"),
        (("price", N, "--all", "--account", "alice"), "one of them"),
        (("price", "--prefix", "777", "--account", "alice"), "no number begins with 777"),
        (("price", N, "--remove", "--setup", "1", "--account", "alice"), "without a price"),
        (("assign", N, "alice"), "one of them"),
        (("assign", N, "alice", "--pstn", "441", *RING), "one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_says_why(unchanged: Sky, words: tuple[str, ...], text: str) -> None:
    ran = unchanged("did", *words)
    assert ran.status in (1, 2)
    assert text in ran.err


def test_a_number_stands_once_in_the_inventory(numbers: Sky) -> None:
    refused(
        numbers("did", "add", N, "--provider", "globex"),
        f"{N} is in the inventory already, from acme and active",
        f"`sky-aaa did set {N}`",
    )


def test_costs_and_provider_can_change(numbers: Sky) -> None:
    after = ok(
        numbers("did", "set", N, "--provider", "globex", "--monthly", "2", "-o", "json")
    ).json
    assert (after["provider"], after["monthly"], after["per_minute"]) == (
        "globex",
        "2.000000",
        "0.0040",
    )
    refused(numbers("did", "set", N, "--provider", "north"), "north is a reseller")


def test_the_list_can_be_asked_for_less(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING))
    mine = ("-o", "json", "--prefix", "3902")

    def listed(*words: str) -> list[str]:
        return [row["number"] for row in ok(priced("did", "list", *mine, *words)).json]

    assert listed() == [N, M]
    assert listed("--free") == [M]
    assert listed("--account", "cora") == [N]
    assert listed("--provider", "globex") == []
    assert listed("--provider", "acme", "--limit", "1", "--after", N) == [M]
    assert listed("--status", "retired") == []
    assert "go on with --after" in priced("did", "list", "--limit", "1").err


def test_a_number_in_use_is_not_retired(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING))
    refused(priced("did", "retire", N), "assigned to cora and cannot be retired", "did release")
    refused(priced("did", "set", N, "--access"), "cora", "access number")
    ok(priced("did", "release", N))
    assert ok(priced("did", "retire", N, "-o", "json")).json["status"] == "retired"
    refused(priced("did", "retire", N), "retired already")
    refused(priced("did", "assign", N, "cora", *RING), "retired: only an active number")
    ok(priced("did", "set", N, "--active"))
    ok(priced("did", "assign", N, "cora", *RING))


def test_a_number_that_will_be_somebodys_is_not_retired(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING, "--from", "2099-01-01"))
    refused(priced("did", "retire", N), "assigned to cora")


def test_an_access_number_is_nobodys(priced: Sky) -> None:
    ok(priced("did", "set", N, "--access"))
    refused(priced("did", "assign", N, "cora", *RING), "access number of calling cards")


# ------------------------------------------------------------------ import


def inventory(tmp_path: Path, text: str) -> str:
    file = tmp_path / "numbers.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_an_inventory_is_imported_and_imported_again(numbers: Sky, tmp_path: Path) -> None:
    file = inventory(
        tmp_path,
        "\ufeffDID;NRC;MRC;Rate;Initial Increment;Increment;Note\n"
        "+39 02 0000 0009;5;1.5;0.004;1;1;new\n"
        f"{N};;2;0.004;;;known\n"
        "\n"
        f"{M};;;0.004;;;as it is\n",
    )
    command = ("did", "import", file, "--provider", "acme", "-o", "json")
    dry = ok(numbers(*command, "--dry-run"))
    assert "dry run" in dry.err
    assert numbers("did", "show", "390200000009").status == 1
    done = ok(numbers(*command)).json
    expected = {"new": 1, "changed": 1, "unchanged": 1, "ignored_columns": ["Note"]}
    assert done == dry.json == {"provider": "acme", "file": "numbers.csv", **expected}
    shown = numbers("did", "show", "390200000009", "-o", "json").json
    assert (shown["setup"], shown["monthly"], shown["per_minute"]) == (
        "5.000000",
        "1.500000",
        "0.0040",
    )
    assert (shown["initial_seconds"], shown["increment_seconds"]) == (1, 1)
    again = ok(numbers(*command)).json
    assert (again["new"], again["changed"], again["unchanged"]) == (0, 0, 3)


def test_one_bad_line_and_nothing_is_imported(numbers: Sky, tmp_path: Path) -> None:
    ok(numbers("did", "set", N, "--provider", "globex"))
    file = inventory(
        tmp_path,
        "number,monthly,initial_seconds,increment_seconds\n"
        "390200000011,1,,\n"
        "12,1,,\n"
        "390200000012,1 EUR,x,\n"
        "390200000011,1,,\n"
        f"{N},1,,\n"
        "390200000013,-1,,\n"
        "390200000014,1,60,0\n",
    )
    ran = numbers("did", "import", file, "--provider", "acme", "-o", "json")
    assert ran.status == 2
    assert "6 bad lines: nothing was imported" in ran.err
    found = [(bad["line"], bad["column"], bad["value"]) for bad in ran.json]
    assert found == [
        (3, "number", "12"),
        (4, "initial_seconds", "x"),
        (4, "monthly", "1 EUR"),
        (5, "number", "390200000011"),
        (6, "number", N),
        (7, "", "390200000013"),
        (8, "", "390200000014"),
    ]
    reasons = {bad["line"]: bad["reason"] for bad in ran.json}
    assert reasons[5] == "it stands in line 2 already"
    assert reasons[6] == "it comes from globex"
    assert numbers("did", "show", "390200000011").status == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no header number"),
        ("prefix,price\n1,2\n", "no header number"),
        ("number,did\n1,2\n", "a second column number"),
        ("number\n", "no numbers to import"),
        ('number,monthly\n"390,1\n', "line"),
    ],
    ids=repr,
)
def test_what_is_no_inventory_is_refused(
    unchanged: Sky, tmp_path: Path, text: str, reason: str
) -> None:
    ran = unchanged("did", "import", inventory(tmp_path, text), "--provider", "acme")
    assert ran.status == 2
    assert reason in ran.err


def test_an_inventory_in_another_encoding_is_refused(unchanged: Sky, tmp_path: Path) -> None:
    file = tmp_path / "latin"
    file.write_bytes(b"number,note\n390200000011,caf\xe9\n")
    refused(unchanged("did", "import", str(file), "--provider", "acme"), "not UTF-8")


# ------------------------------------------------------------------ prices


def test_each_level_pays_its_own_price_in_its_own_currency(priced: Sky) -> None:
    ok(priced("did", "price", N, "--account", "carl", "--monthly", "3"))
    prices = priced("did", "show", N, "-o", "json").json["prices"]
    assert [(row["account"], row["currency"], row["per_minute"]) for row in prices] == [
        ("north", "USD", "0.0060"),
        ("coast", "USD", "0.0080"),
        ("carl", "EUR", "0.0000"),
        ("cora", "USD", "0.0100"),
    ]


def test_what_is_not_named_of_a_price_stays(priced: Sky) -> None:
    changed = ok(
        priced(
            "did", "price", N, "--account", "cora", "--initial", "1", "--setup", "2", "-o", "json"
        )
    ).json
    assert [(row["setup"], row["per_minute"], row["initial_seconds"]) for row in changed] == [
        ("2.000000", "0.0100", 1)
    ]


def test_many_numbers_get_a_price_at_once(numbers: Sky) -> None:
    by_prefix = numbers("did", "price", "--prefix", "3902", "--account", "bob", "-o", "json")
    assert [row["number"] for row in ok(by_prefix).json] == [N, M]
    ok(numbers("did", "retire", M))
    listed = numbers("did", "price", "--all", "--account", "north", "-o", "json")
    given = [row["number"] for row in ok(listed).json]
    assert N in given
    assert M not in given
    twice = numbers("did", "price", N, M, f"+{N}", "--account", "noel", "-o", "json")
    assert len(ok(twice).json) == 2


def test_numbers_are_sold_to_customers_and_resellers(numbers: Sky) -> None:
    refused(numbers("did", "price", N, "--account", "acme"), "acme is of kind provider")
    refused(numbers("did", "price", N, "--account", "admin"), "admin is of kind admin")


def test_a_price_of_a_number_in_use_is_not_taken_away(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING))
    refused(
        priced("did", "price", N, "--account", "north", "--remove"),
        f"{N} is assigned to cora, so north pays for it",
    )
    ok(priced("did", "release", N))
    ran = ok(priced("did", "price", N, "--account", "north", "--remove"))
    assert "north has no price" in ran.err
    refused(priced("did", "price", N, "--account", "north", "--remove"), "has no price")


# ------------------------------------------------------------------ whose it is


def test_a_number_is_assigned_when_its_chain_has_prices(numbers: Sky) -> None:
    command = ("did", "assign", N, "cora", *RING, "-o", "json")
    for code in ("north", "coast", "cora"):
        refused(numbers(*command), f"{code} has no price for {N}", f"--account {code}")
        ok(numbers("did", "price", N, "--account", code))
    made = ok(numbers(*command)).json
    assert (made["account"], made["to"], made["rings"]) == (
        "cora",
        None,
        "extension 1001@sip.example",
    )
    shown = numbers("did", "show", N, "-o", "json").json
    assert (shown["account"], shown["rings"]) == ("cora", "extension 1001@sip.example")


def test_two_accounts_do_not_have_one_number(priced: Sky) -> None:
    ok(priced("did", "price", N, "--account", "alice"))
    ok(priced("did", "assign", N, "cora", *RING, "--from", "2026-01-01"))
    refused(
        priced("did", "assign", N, "alice", *RING),
        "cannot be alice's from ",
        "it is cora's from 2026-01-01 00:00:00Z.",
        f"`sky-aaa did release {N}`",
    )
    ok(priced("did", "release", N, "--at", "2098-01-01"))
    refused(
        priced("did", "assign", N, "alice", *RING),
        "it is cora's from 2026-01-01 00:00:00Z to 2098-01-01 00:00:00Z",
    )
    ok(priced("did", "assign", N, "alice", *RING, "--from", "2098-01-01"))
    told = priced("did", "history", N, "-o", "json").json
    assert [(row["account"], row["from"], row["to"]) for row in told] == [
        ("cora", "2026-01-01T00:00:00+00:00", "2098-01-01T00:00:00+00:00"),
        ("alice", "2098-01-01T00:00:00+00:00", None),
    ]


def test_of_two_who_assign_a_number_at_once_one_is_told_of_the_other(
    priced: Sky, demo_url: str
) -> None:
    ok(priced("did", "price", N, "--account", "alice"))

    def give(code: str, cursor: Cursor) -> None:
        admin = operator(cursor)
        number = dids.find(cursor, admin, N)
        owner = accounts.find(cursor, admin, code)
        did_assignments.assign(cursor, admin, number, owner, Destination("sip", f"sip:{code}@pbx"))

    def give_to_alice() -> None:
        with contextlib.closing(connect(demo_url)) as mine, transaction(mine) as cursor:
            give("alice", cursor)

    with (
        ThreadPoolExecutor(1) as other,
        contextlib.closing(connect(demo_url)) as connection,
        contextlib.closing(connect(demo_url, autocommit=True)) as watcher,
    ):
        with transaction(connection) as cursor:
            give("cora", cursor)
            second = other.submit(give_to_alice)
            with watcher.cursor() as looking:
                waiting: tuple[int, ...] | None = (0,)
                while waiting == (0,):
                    looking.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                        " AND datname = current_database()"
                    )
                    waiting = looking.fetchone()
        with pytest.raises(Conflict, match="it is cora's from"):
            second.result(120)
    told = priced("did", "history", N, "-o", "json").json
    assert [row["account"] for row in told] == ["cora"]


def test_a_number_rings_elsewhere_from_then_on(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING, "--from", "2026-01-01"))
    refused(priced("did", "assign", N, "cora", *RING), "cora's and rings there already")
    ok(priced("did", "assign", N, "cora", "--pstn", "+34 911 23 00 01"))
    told = priced("did", "history", N, "-o", "json").json
    assert [row["rings"] for row in told] == ["extension 1001@sip.example", "pstn 34911230001"]
    assert told[0]["to"] == told[1]["from"]


def test_a_number_does_not_change_hands_in_the_past(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING, "--from", "2026-01-01"))
    past = ("--from", "2026-02-01")
    refused(priced("did", "assign", N, "cora", "--pstn", "34911", *past), "in the past")
    refused(priced("did", "release", N, "--at", "2026-02-01"), "in the past")
    assert len(priced("did", "history", N, "-o", "json").json) == 1


def test_what_has_not_begun_is_called_off(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING, "--from", "2099-01-01"))
    ended = ok(priced("did", "release", N, "-o", "json")).json
    assert ended["from"] == ended["to"] == "2099-01-01T00:00:00+00:00"
    refused(priced("did", "release", N), "nobody's")
    ok(priced("did", "retire", N))


def test_a_number_is_not_forwarded_to_itself(priced: Sky) -> None:
    refused(priced("did", "assign", N, "cora", "--pstn", f"+{N}"), "to itself")


def test_a_closed_account_gets_no_number(priced: Sky) -> None:
    ok(priced("account", "close", "cora"))
    refused(priced("did", "assign", N, "cora", *RING), "cora is closed")


def test_a_provider_owns_no_number(priced: Sky) -> None:
    refused(priced("did", "assign", N, "acme", *RING), "acme is of kind provider")


# ------------------------------------------------------------------ where it rings

FORBIDDEN = "{}[]()<>,|&;$'\"\\`^~%!?=/ \t\r\n\0\x7fé"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("extension", "1001@sip.example"),
        ("extension", "alice.smith_2@10.0.0.1"),
        ("extension", "*97@pbx"),
        ("sip", "sip:alice@pbx.example"),
        ("sip", "sips:1001@pbx.example:5061"),
        ("sip", "sip:+34911@192.0.2.1:65535"),
        ("pstn", "+34 911 23 00 01"),
    ],
)
def test_an_address_that_can_be_dialled(kind: str, text: str) -> None:
    assert read_destination(kind, text).kind == kind


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("extension", "1001"),
        ("extension", "@sip.example"),
        ("extension", "1001@"),
        ("extension", "1001@a..b"),
        ("extension", "1001@-a"),
        ("extension", "a@b@c"),
        ("extension", "1001@sip.example:5060"),
        ("extension", f"1001@{'a' * 64}"),
        ("extension", f"1001@{'a.' * 100}a"),
        ("sip", "1001@pbx.example"),
        ("sip", "tel:+34911"),
        ("sip", "sip:pbx.example"),
        ("sip", "sip:a@pbx:0"),
        ("sip", "sip:a@pbx:65536"),
        ("sip", "sip:a@pbx;transport=tcp"),
        ("sip", "sip:a@[2001:db8::1]"),
        ("sip", "sip:a:secret@pbx"),
        ("pstn", "12"),
        ("pstn", "*12345"),
        ("pstn", "12a"),
        ("pstn", ""),
        *(("extension", f"10{sign}01@sip.example") for sign in FORBIDDEN),
        *(("sip", f"sip:1001@sip{sign}example") for sign in FORBIDDEN),
    ],
)
def test_an_address_that_must_not_get_into_a_dial_string(kind: str, text: str) -> None:
    with pytest.raises(BadValue):
        read_destination(kind, text)


@given(kind=st.sampled_from(["extension", "sip", "pstn"]), text=st.text())
def test_whatever_is_accepted_is_plain(kind: str, text: str) -> None:
    check_plain(kind, text)


@given(
    kind=st.sampled_from(["extension", "sip"]),
    text=st.from_regex(r"(sip:)?[ -~]{1,9}@[ -~]{1,9}", fullmatch=True),
)
def test_whatever_looks_like_an_address_and_is_accepted_is_plain(kind: str, text: str) -> None:
    check_plain(kind, text)


def check_plain(kind: str, text: str) -> None:
    with contextlib.suppress(BadValue):
        found = read_destination(kind, text)
        assert found == Destination(kind, found.address)
        assert not set(found.address) & set(FORBIDDEN)
        assert found.address.isascii()
        assert 3 <= len(found.address) <= 190


def test_the_longest_address_fits_a_reply() -> None:
    address = f"sip:{'u' * 64}@{'h' * 60}.{'h' * 60}"
    found = read_destination("sip", address)
    assignment = Assignment(1, None, None, found.kind, found.address)  # type: ignore[arg-type] # no time
    assert len("h323-ivr-in=ROUTES:" + "=".join(ring(assignment))) <= 247


# ------------------------------------------------------------------ resellers


def test_a_reseller_sells_on_what_it_has_a_price_for(numbers: Sky) -> None:
    north, coast = ("--as", "north", "did"), ("--as", "coast", "did")
    refused(numbers(*north, "show", N), f"there is no DID {N} that north may see")
    ok(numbers("did", "price", N, "--account", "north", "--per-minute", "0.006"))
    refused(numbers(*north, "price", M, "--account", "coast"), f"no DID {M}")
    ok(numbers(*north, "price", N, "--account", "coast", "--per-minute", "0.008"))
    # Each seller sets the prices of its own buyers, and of nobody else.
    refused(numbers(*north, "price", N, "--account", "cora"), "buys from its own reseller")
    refused(numbers(*north, "price", N, "--account", "north"), "buys from its own reseller")
    refused(numbers(*north, "price", N, "--account", "alice"), "no account 'alice'")
    ok(numbers(*coast, "price", N, "--account", "cora", "--per-minute", "0.01"))
    made = ok(numbers(*coast, "assign", N, "cora", *RING, "-o", "json")).json
    assert made["account"] == "cora"
    shown = ok(numbers(*coast, "show", N, "-o", "json")).json
    assert "provider" not in shown
    assert [row["account"] for row in shown["prices"]] == ["coast", "cora"]
    shown = ok(numbers("--as", "cora", "did", "show", N, "-o", "json")).json
    assert [row["account"] for row in shown["prices"]] == ["cora"]
    listed = ok(numbers("--as", "cora", "did", "list", "-o", "json")).json
    assert N in [row["number"] for row in listed]


def test_a_reseller_hands_on_what_it_has(priced: Sky) -> None:
    ok(priced("did", "assign", N, "north", *RING))
    ok(priced("--as", "north", "did", "price", N, "--account", "nora"))
    ran = ok(priced("--as", "north", "did", "assign", N, "nora", "--sip", "sip:nora@pbx.example"))
    assert f"{N} was north's until then" in ran.err
    told = priced("did", "history", N, "-o", "json").json
    assert [row["account"] for row in told] == ["north", "nora"]
    ended = ok(priced("--as", "north", "did", "release", N, "-o", "json")).json
    assert ended["account"] == "nora"


def test_a_reseller_takes_nothing_from_those_above_it_or_of_other_trees(priced: Sky) -> None:
    ok(priced("did", "price", N, "--account", "alice"))
    ok(priced("did", "assign", N, "north", *RING))
    ran = priced("--as", "coast", "did", "assign", N, "cora", *RING)
    refused(ran, "an account that you may not see")
    assert "north" not in ran.err
    refused(priced("--as", "coast", "did", "release", N), "nobody's")
    refused(priced("--as", "north", "did", "release", N), "changed by those above it")
    ok(priced("did", "release", N))
    ok(priced("did", "assign", N, "alice", *RING))
    ran = priced("--as", "north", "did", "assign", N, "cora", *RING)
    refused(ran, "an account that you may not see")
    assert "alice" not in ran.err


def test_a_missing_price_above_a_reseller_is_told_without_names(numbers: Sky) -> None:
    for code in ("coast", "cora"):
        ok(numbers("did", "price", N, "--account", code))
    ran = numbers("--as", "coast", "did", "assign", N, "cora", *RING)
    refused(ran, "an account above coast has no price")
    assert "north" not in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("add", "390200000005", "--provider", "acme"),
        ("set", N, "--monthly", "0"),
        ("retire", N),
        ("list", "--provider", "acme"),
        ("price", N, "--account", "cora", "--per-minute", "0"),
        ("price", N, "--account", "cora", "--remove"),
        ("assign", N, "north", *RING),
    ],
    ids=" ".join,
)
def test_what_is_the_operators_is_refused_to_a_reseller(
    priced: Sky, words: tuple[str, ...]
) -> None:
    before = priced("did", "show", N, "-o", "json").json
    ran = priced("--as", "north", "did", *words)
    refused(ran)
    assert "row-level" not in ran.err
    assert "permission denied" not in ran.err
    assert priced("did", "show", N, "-o", "json").json == before


def test_a_customer_only_looks(priced: Sky) -> None:
    ok(priced("did", "assign", N, "cora", *RING))
    for words in (
        ("price", N, "--account", "cora", "--per-minute", "0"),
        ("assign", N, "cora", "--pstn", "34911"),
        ("release", N),
    ):
        refused(priced("--as", "cora", "did", *words), "it may look")


# ------------------------------------------------------------------ on record


@pytest.fixture
def audited(demo_url: str) -> Iterator[list[tuple[str, str]]]:
    """What was written into the audit log, read when the test is over with its commands."""
    found: list[tuple[str, str]] = []
    yield found
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        cursor.execute("SELECT action, subject FROM audit_log ORDER BY audit_id")
        told = cursor.fetchall()
    assert [row for row in told if row[0].startswith("did")] == found


def test_every_change_is_on_record(
    sky: Sky, audited: list[tuple[str, str]], tmp_path: Path
) -> None:
    file = inventory(tmp_path, f"number\n{M}\n")
    for words, subject in (
        (("add", N, "--provider", "acme"), N),
        (("import", file, "--provider", "acme"), "acme"),
        (("set", N, "--monthly", "1"), N),
        (("price", N, "--account", "alice"), f"{N} alice"),
        (("assign", N, "alice", *RING), N),
        (("release", N), N),
        (("price", N, "--account", "alice", "--remove"), f"{N} alice"),
        (("retire", N), N),
    ):
        ok(sky("did", *words))
        audited.append((f"did {words[0]}", subject))


def test_servers_read_the_numbers_of_whom_is_suspended_again_and_of_nobody_else(
    sky: Sky, demo_connection: Connection
) -> None:
    def revisions() -> tuple[int, dict[str, int]]:
        with transaction(demo_connection) as cursor:
            cursor.execute("SELECT revision FROM catalogue")
            [(catalogue,)] = cursor.fetchall()
            cursor.execute("SELECT number, revision FROM did")
            return catalogue, dict(cursor.fetchall())

    nora = "442079460100"
    before = revisions()
    ok(sky("account", "suspend", "alice"))
    ok(sky("account", "set", "nora", "--name", "Nora"))
    assert revisions() == before
    for words in (
        ("--as", "north", "account", "suspend", "nora"),
        ("account", "resume", "nora"),
        ("account", "suspend", "north"),
        ("account", "set", "nora", "--expires", "2099-01-01"),
        ("account", "set", "nora", "--expires", "never"),
    ):
        ok(sky(*words))
        after = revisions()
        assert after[0] > before[0], words
        changed = {number for number, revision in after[1].items() if revision != before[1][number]}
        assert nora in changed, words
        before = after
