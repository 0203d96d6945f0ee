"""Calling cards by command: batches made, paid for, printed, blocked and taken back."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server import demo as demo_world
from aaa_server.charging.card import ANIS_MAX
from aaa_server.storage import accounts, card_batches, cards, viewer
from aaa_server.storage.card_batches import Numbers, Secret, check_digit
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.secrets import Keyring, SecretsError

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from tests.cli.conftest import Ran, Sky

FIRST, SECOND, THIRD = demo_world.CARDS
MANY = 10_000
# Made in 0.6 s and activated in 1 s on an idle machine; ours is shared. One by one, with a commit
# or a hash of its own each, they would take minutes.
MANY_SECONDS_MAX = 60.0


def ok(ran: Ran) -> Ran:
    assert ran.status == 0, ran.err
    return ran


def refused(ran: Ran, text: str) -> None:
    assert ran.status in (1, 2)
    assert ran.out == ""
    assert ran.err.count("\n") == 1, ran.err
    assert text in ran.err


def create(sky: Sky, name: str, count: int, *words: str, owner: str = "north") -> Any:
    return ok(
        sky(
            *("cards", "create", name, "--count", str(count), "--owner", owner),
            *("--face-value", "5", "--rate-group", f"{owner}-retail", *words, "-o", "json"),
        )
    ).json


def listed(sky: Sky, name: str, *words: str) -> list[Any]:
    rows: list[Any] = ok(sky("cards", "list", name, *words, "-o", "json")).json
    return rows


def states(sky: Sky, name: str) -> list[str]:
    return [row["state"] for row in listed(sky, name)]


def show(sky: Sky, number: str) -> Any:
    return ok(sky("cards", "show", number, "-o", "json")).json


def printed(sky: Sky, name: str, *words: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ok(sky("cards", "print", name, *words)).out)))


# ------------------------------------------------------------------ numbers and PINs


@given(
    st.integers(8, 20), st.integers(4, 12), st.sampled_from(["", "7", "3500"]), st.integers(1, 9)
)
def test_numbers_are_drawn_as_they_were_asked_for(
    digits: int, pin_digits: int, prefix: str, count: int
) -> None:
    numbers = Numbers(digits, pin_digits, prefix)
    drawn = numbers.draw(count)
    assert len({one.number for one in drawn}) == count
    for one in drawn:
        assert one.number.startswith(prefix)
        assert len(one.number) == digits
        assert one.number[0] != "0"
        assert one.number[-1] == check_digit(one.number[:-1])
        assert len(one.pin) == pin_digits
        assert (one.number + one.pin).isdigit()


@given(st.text("0123456789", min_size=1, max_size=19), st.data())
def test_the_check_digit_catches_every_wrong_digit(body: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.sampled_from("0123456789").filter(lambda digit: digit != body[place]))
    wrong = body[:place] + other + body[place + 1 :]
    assert check_digit(wrong) != check_digit(body)


def test_the_check_digit_is_that_of_the_standard() -> None:
    # The example of ISO/IEC 7812-1 annex B.
    assert check_digit("7992739871") == "3"
    for one in demo_world.CARDS:
        assert check_digit(one.number[:-1]) == one.number[-1]


@pytest.mark.parametrize(
    ("numbers", "count", "text"),
    [
        (Numbers(digits=7), 1, "8 to 20 digits"),
        (Numbers(digits=21), 1, "8 to 20 digits"),
        (Numbers(pin_digits=3), 1, "4 to 12 digits"),
        (Numbers(prefix="12a"), 1, "'12a' is no prefix"),
        (Numbers(prefix="١٢"), 1, "is no prefix"),
        (Numbers(prefix="12345678901"), 1, "too few for 1 cards"),
        (Numbers(digits=8, prefix="1"), 100_000, "too few for 100000 cards"),
        (Numbers(digits=9, prefix="77"), 10_001, "too few for 10001 cards"),
    ],
)
def test_numbers_that_could_be_guessed_are_not_drawn(
    numbers: Numbers, count: int, text: str
) -> None:
    with pytest.raises(BadValue, match=text):
        numbers.check(count)


# ------------------------------------------------------------------ made and paid for


def test_cards_are_made_without_money_and_get_it_once(sky: Sky) -> None:
    made = create(sky, "spring", 5, "--valid-days", "30", "--surcharge", "0.05", "--prefix", "88")
    created_at = made.pop("created_at")
    assert made == {
        "batch": "spring",
        "owner": "north",
        "currency": "USD",
        "face_value": "5.000000",
        "rate_group": "north-retail",
        "valid_days": 30,
        "surcharge": "0.050000",
        "cards": 5,
        "activated": 0,
        "used": 0,
        "void": 0,
    }
    assert datetime.fromisoformat(created_at) <= datetime.now(UTC)
    rows = listed(sky, "spring")
    assert [row["serial"] for row in rows] == [1, 2, 3, 4, 5]
    assert {(row["state"], row["balance"]) for row in rows} == {("new", "0.000000")}
    words = ("cards", "activate", "spring", "--from-serial", "2", "--to-serial", "3", "-o", "json")
    assert ok(sky(*words)).json["amount"] == "10.000000"
    assert states(sky, "spring") == ["new", "ready", "ready", "new", "new"]
    assert ok(sky(*words)).json["activated"] == 0
    assert ok(sky("cards", "activate", "spring", "-o", "json")).json["activated"] == 3
    rows = listed(sky, "spring", "--state", "ready")
    assert {row["balance"] for row in rows} == {"5.000000"}
    [_, line, _] = sky("account", "statement", rows[0]["number"], "-o", "json").json
    assert (line["kind"], line["reference"], line["amount"]) == (
        "card",
        rows[0]["number"],
        "5.000000",
    )
    assert sky("audit").status == 0


def test_a_card_is_a_prepaid_customer_of_its_seller(sky: Sky) -> None:
    create(sky, "one", 1, "--active", "--expires", "2030-01-01")
    [row] = listed(sky, "one")
    account = ok(sky("account", "show", row["number"], "-o", "json")).json
    assert account["kind"] == "customer"
    assert account["reseller"] == "north"
    assert account["billing"] == "prepaid"
    assert account["status"] == "active"
    assert account["expires_at"] == row["expires_at"] == "2030-01-01T00:00:00+00:00"
    # Ten thousand of them would hide the accounts of people.
    codes = {one["code"] for one in sky("account", "list", "-o", "json").json}
    assert row["number"] not in codes
    with_cards = {one["code"] for one in sky("account", "list", "--cards", "-o", "json").json}
    assert with_cards - codes == {row["number"], *(one.number for one in demo_world.CARDS)}


def test_ten_thousand_cards_take_seconds(sky: Sky) -> None:
    begun = time.monotonic()
    create(sky, "many", MANY, "--active")
    assert time.monotonic() - begun < MANY_SECONDS_MAX
    [batch] = [row for row in sky("cards", "list", "-o", "json").json if row["batch"] == "many"]
    assert (batch["cards"], batch["activated"]) == (MANY, MANY)
    rows = printed(sky, "many", "-o", "csv")
    assert len({row["number"] for row in rows}) == MANY
    # As many different PINs as chance gives: none is of the number, none is given twice over.
    assert len({row["pin"] for row in rows}) > MANY * 0.98
    assert ok(sky("cards", "void", "many", "-o", "json")).json["amount"] == "50000.000000"
    assert sky("audit").status == 0


def test_a_number_that_is_taken_is_drawn_anew(demo_connection: Connection, key_file: Path) -> None:
    draws = [[FIRST, Secret("880000000013", "4444")], [Secret("880000000021", "5555")]]
    with transaction(demo_connection) as cursor:
        eyes = viewer.operator(cursor)
        owner = accounts.find(cursor, eyes, "north")
        new = card_batches.NewBatch("x", "USD", 1)
        batch = card_batches.create(
            *(cursor, eyes, Keyring.open(key_file), owner, new),
            count=2,
            draw=lambda _count: draws.pop(0),
        )
        made = {card.number for card in cards.list_cards(cursor, eyes, batch)}
        assert made == {"880000000013", "880000000021"}
    with (
        pytest.raises(Conflict, match="1 of 1 cards found no free number"),
        transaction(demo_connection) as cursor,
    ):
        card_batches.create(
            *(cursor, eyes, Keyring.open(key_file), owner, new._replace(name="y")),
            count=1,
            draw=lambda _count: [FIRST],
        )


def test_two_who_activate_at_once_pay_once(sky: Sky, demo_url: str) -> None:
    create(sky, "race", 200)

    def activate(_turn: int) -> int:
        with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
            eyes = viewer.operator(cursor)
            batch = cards.find_batch(cursor, eyes, "race")
            return card_batches.activate(cursor, eyes, batch)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(activate, range(4))) == 200
    assert {row["balance"] for row in listed(sky, "race")} == {"5.000000"}
    assert sky("audit").status == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("create", "x", "--count", "0"), "0: a whole number from 1 to"),
        (("create", "x", "--count", "100001"), "100001: a whole number from 1 to"),
        (("create", "x", "--count", "1", "--digits", "5"), "8 to 20 digits"),
        (("create", "x", "--count", "1", "--pin-digits", "2"), "4 to 12 digits"),
        (("create", "x", "--count", "1", "--prefix", "A"), "'A' is no prefix"),
        (("create", "x", "--count", "1", "--surcharge", "-1"), "a surcharge is not below 0"),
        (("create", "", "--count", "1"), "a batch needs a name"),
        (("create", "demo", "--count", "1"), "admin has a batch 'demo' of cards already"),
        (("create", "x", "--count", "1", "--owner", "acme"), "rate group 'retail' belongs to"),
        (("create", "x", "--count", "1", "--owner", "north"), "belongs to admin"),
        (("list", "nothing"), "no batch 'nothing'"),
        (("list", "--state", "new"), "--state is of the cards of one batch"),
        (("activate", "demo", "--from-serial", "4"), "serials 1 to 3: none from 4"),
        (("activate", "demo", "--from-serial", "3", "--to-serial", "2"), "none from 3 to 2"),
        (("print", "demo", "--from-serial", "9"), "serials 1 to 3"),
        (("show", "alice"), "no calling card 'alice'"),
        (("show", "7700123456"), "an account with a PIN of its own is an account"),
        (("reveal", "nothing"), "no calling card 'nothing'"),
        (("unblock", "nothing"), "no calling card 'nothing'"),
        (("void", "nothing"), "no batch 'nothing'"),
        (("pinless", FIRST.number), "--ani; or --remove"),
        (("pinless", FIRST.number, "--ani", "x"), "'x' is no number"),
        (("pinless", FIRST.number, "--ani", "15551230001"), "number 15551230001 is alice's"),
        (("pinless", FIRST.number, "--remove", "--ani", "1"), "has no number 1"),
        (("pinless", SECOND.number, "--remove"), "has no number of its own"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_says_why(unchanged: Sky, words: tuple[str, ...], text: str) -> None:
    if words[0] == "create":
        words = (*words, "--face-value", "5", "--rate-group", "retail")
    ran = unchanged("cards", *words)
    assert ran.status in (1, 2)
    assert text in ran.err


def test_a_card_without_value_is_not_made(unchanged: Sky) -> None:
    for value in ("0", "-5"):
        ran = unchanged(
            *("cards", "create", "x", "--count", "1", "--rate-group", "retail"),
            *("--face-value", value),
        )
        refused(ran, "a card's face value is above 0")


# ------------------------------------------------------------------ PINs


def test_pins_are_told_with_the_key_alone_and_on_record(
    sky: Sky, demo_connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = printed(sky, "demo", "-o", "csv")
    assert [(row["number"], row["pin"]) for row in rows] == list(demo_world.CARDS)
    assert rows[0]["face_value"] == "10.000000"
    assert ok(sky("cards", "reveal", SECOND.number, "-o", "json")).json["pin"] == SECOND.pin
    with transaction(demo_connection) as cursor:
        cursor.execute("SELECT action, subject, before, after FROM audit_log ORDER BY audit_id")
        noted = cursor.fetchall()
    assert [row[:2] for row in noted] == [
        ("cards print", "demo"),
        ("cards reveal", SECOND.number),
    ]
    assert not any(one.pin in str(noted) for one in demo_world.CARDS)
    Keyring.open(tmp_path / "another.key")
    monkeypatch.setenv("SKY_AAA_SECRETS_KEY_FILE", str(tmp_path / "another.key"))
    refused(sky("cards", "reveal", SECOND.number), "does not open with key 1")
    refused(sky("cards", "print", "demo"), "does not open with key 1")


def test_no_output_but_print_and_reveal_has_a_pin(sky: Sky, demo_connection: Connection) -> None:
    create(sky, "quiet", 20, "--active", "--pin-digits", "12")
    pins = {row["pin"] for row in printed(sky, "quiet", "-o", "csv")}
    number = listed(sky, "quiet")[0]["number"]
    texts = [
        sky(*words, "-o", "json").out
        for words in (
            ("cards", "list", "quiet"),
            ("cards", "list"),
            ("cards", "show", number),
            ("account", "show", number),
            ("cards", "block", number),
            ("cards", "void", "quiet"),
        )
    ]
    with transaction(demo_connection) as cursor:
        cursor.execute("SELECT before, after FROM audit_log")
        texts.append(str(cursor.fetchall()))
    assert not any(pin in text for pin in pins for text in texts)


def test_a_pin_copied_to_another_card_does_not_open(
    demo_connection: Connection, key_file: Path
) -> None:
    with demo_connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE account
               SET pin_sealed = (SELECT pin_sealed FROM account WHERE code = %s)
             WHERE code = %s
            """,
            (FIRST.number, SECOND.number),
        )
        eyes = viewer.operator(cursor)
        stolen = cards.find(cursor, eyes, SECOND.number)
        with pytest.raises(SecretsError, match="another row's"):
            card_batches.pins(cursor, eyes, Keyring.open(key_file), [stolen])
    demo_connection.rollback()


# ------------------------------------------------------------------ in use


def test_a_card_is_blocked_and_let_go(sky: Sky) -> None:
    assert ok(sky("cards", "block", FIRST.number, "-o", "json")).json["state"] == "blocked"
    assert sky("account", "show", FIRST.number, "-o", "json").json["status"] == "suspended"
    assert ok(sky("cards", "unblock", FIRST.number, "-o", "json")).json["state"] == "ready"
    create(sky, "new", 2)
    number = listed(sky, "new")[1]["number"]
    for verb in ("block", "unblock"):
        refused(
            sky("cards", verb, number),
            "was never activated: `sky-aaa cards activate new --from-serial 2 --to-serial 2`",
        )


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("first_used_at = now(), valid_days = 30", "used"),
        ("first_used_at = now() - interval '31 days', valid_days = 30", "expired"),
        ("expires_at = now() - interval '1 second'", "expired"),
        ("locked_until = now() + interval '1 hour', pin_failures = 5", "locked"),
        ("locked_until = now() - interval '1 hour', pin_failures = 5", "ready"),
        ("balance_micros = 9999999", "used"),
        ("channels = 1", "used"),
        ("status = 'closed'", "void"),
        ("status = 'suspended', locked_until = now() + interval '1 hour'", "blocked"),
    ],
)
def test_the_state_of_a_card_is_what_its_holder_meets(
    sky: Sky, demo_connection: Connection, change: str, state: str
) -> None:
    with transaction(demo_connection) as cursor:
        cursor.execute(f"UPDATE account SET {change} WHERE code = %s", (FIRST.number,))  # noqa: S608
    assert show(sky, FIRST.number)["state"] == state
    # Its holder is told the same.
    own = ok(sky("--as", FIRST.number, "cards", "show", FIRST.number, "-o", "json")).json
    assert (own["state"], own["batch"], own["serial"]) == (state, "", None)


def test_a_locked_card_is_unlocked(sky: Sky, demo_connection: Connection) -> None:
    for number in (FIRST.number, "7700123456"):
        with transaction(demo_connection) as cursor:
            cursor.execute(
                """
                UPDATE account
                   SET pin_failures = 5,
                       locked_until = now() + interval '1 hour'
                 WHERE code = %s
                """,
                (number,),
            )
        ok(sky("cards", "unlock", number))
        account = sky("account", "show", number, "-o", "json").json
        assert (account["pin_failures"], account["locked_until"]) == (0, None)


def test_a_card_is_used_without_its_pin_from_a_few_numbers(sky: Sky) -> None:
    number = SECOND.number
    anis = [f"3491200000{place}" for place in range(ANIS_MAX)]
    for ani in anis:
        ok(sky("cards", "pinless", number, "--ani", f"+{ani}"))
    ok(sky("cards", "pinless", number, "--ani", anis[0]))
    assert show(sky, number)["pinless"] == anis
    refused(sky("cards", "pinless", number, "--ani", "34912999999"), "5 is the most")
    ok(sky("cards", "pinless", number, "--ani", anis[0], "--remove"))
    assert show(sky, number)["pinless"] == anis[1:]
    refused(sky("cards", "pinless", FIRST.number, "--ani", anis[1]), f"is {number}'s")
    ok(sky("cards", "pinless", number, "--remove"))
    assert show(sky, number)["pinless"] == []
    maps = sky("map", "list", "-o", "json").json
    assert {row["account"] for row in maps if row["number"] == demo_world.PINLESS_ANI} == {
        FIRST.number
    }


# ------------------------------------------------------------------ taken back


def test_void_cards_give_back_what_was_not_used(sky: Sky, demo_connection: Connection) -> None:
    create(sky, "mixed", 4)
    ok(sky("cards", "activate", "mixed", "--to-serial", "3"))
    used = listed(sky, "mixed")[1]["number"]
    with transaction(demo_connection) as cursor:
        cursor.execute("UPDATE account SET first_used_at = now() WHERE code = %s", (used,))
    voided = ok(sky("cards", "void", "mixed", "-o", "json")).json
    assert voided == {
        "void": "mixed",
        "cards": 3,
        "passed_over": 1,
        "amount": "10.000000",
        "currency": "USD",
    }
    assert states(sky, "mixed") == ["void", "used", "void", "void"]
    assert ok(sky("cards", "void", used, "-o", "json")).json["amount"] == "5.000000"
    refused(sky("cards", "void", used), "is void already")
    refused(sky("cards", "unblock", used), "is void: it stays so")
    refused(sky("cards", "pinless", used, "--ani", "3491"), "is void")
    # Nothing comes back to life.
    assert ok(sky("cards", "activate", "mixed", "-o", "json")).json["activated"] == 0
    assert {row["balance"] for row in listed(sky, "mixed")} == {"0.000000"}
    references = [
        line["reference"] for line in sky("account", "statement", used, "-o", "json").json[1:-1]
    ]
    assert references == [used, f"{used}/void"]
    assert sky("audit").status == 0


def test_a_card_with_a_call_is_not_taken_from_under_it(
    sky: Sky, demo_connection: Connection
) -> None:
    with transaction(demo_connection) as cursor:
        cursor.execute(
            "UPDATE account SET reserved_micros = 1, channels = 1 WHERE code = %s", (FIRST.number,)
        )
    refused(sky("cards", "void", FIRST.number), "has a call in progress")
    voided = ok(sky("cards", "void", "demo", "-o", "json")).json
    assert (voided["cards"], voided["passed_over"]) == (2, 1)
    assert show(sky, FIRST.number)["balance"] == "10.000000"


# ------------------------------------------------------------------ who may


def test_a_reseller_runs_its_own_cards(sky: Sky, demo_connection: Connection) -> None:
    north = ("--as", "north")
    ok(
        sky(
            *(*north, "cards", "create", "n", "--count", "3", "--face-value", "5"),
            *("--rate-group", "north-retail"),
        )
    )
    number = listed(sky, "n")[0]["number"]
    for words in (
        ("activate", "n"),
        ("list",),
        ("list", "n"),
        ("print", "n"),
        ("reveal", number),
        ("block", number),
        ("unblock", number),
        ("unlock", number),
        ("pinless", number, "--ani", "3491"),
        ("pinless", number, "--remove"),
        ("show", number),
        ("void", number),
        ("void", "n"),
    ):
        ok(sky(*north, "cards", *words))
    with transaction(demo_connection) as cursor:
        cursor.execute(
            """
            SELECT DISTINCT account.code
              FROM audit_log
              JOIN account ON account_id = acting_as_id
             WHERE action LIKE 'cards%'
            """
        )
        assert cursor.fetchall() == [("north",)]
        cursor.execute("SELECT count(*) FROM audit_log WHERE action LIKE 'cards%'")
        assert cursor.fetchone() == (11,)
    assert sky("audit").status == 0


def test_who_is_above_the_seller_looks_after_its_cards_but_has_no_pins(sky: Sky) -> None:
    create(sky, "c", 2, "--active", owner="coast")
    number = listed(sky, "c")[0]["number"]
    north = ("--as", "north", "cards")
    ok(sky(*north, "list", "c"))
    ok(sky(*north, "block", number))
    ok(sky(*north, "unblock", number))
    for words, text in (
        (("print", "c"), "north may not make and sell cards of coast"),
        (("activate", "c"), "a batch of cards is its owner's"),
        (("void", "c"), "a batch of cards is its owner's"),
        (("reveal", number), "PINs are for the reseller that sells the card"),
        (("void", number), "buys from its own reseller"),
    ):
        refused(sky(*north, *words), text)


@pytest.mark.parametrize(
    ("eyes", "words", "text"),
    [
        ("north", ("list", "demo"), "no batch 'demo'"),
        ("north", ("print", "demo"), "no batch 'demo'"),
        ("north", ("activate", "demo"), "no batch 'demo'"),
        ("north", ("void", "demo"), "no batch 'demo'"),
        ("north", ("show", FIRST.number), "no calling card"),
        ("north", ("reveal", FIRST.number), "no calling card"),
        ("north", ("block", FIRST.number), "no calling card"),
        ("north", ("void", FIRST.number), "no batch"),
        ("north", ("unlock", FIRST.number), "no account"),
        ("north", ("pinless", FIRST.number, "--remove"), "no calling card"),
        (FIRST.number, ("reveal", FIRST.number), "it may look, but not read the PIN"),
        (FIRST.number, ("block", FIRST.number), "it may look"),
        (FIRST.number, ("unlock", FIRST.number), "it may look"),
        (FIRST.number, ("void", FIRST.number), "it may look"),
        (FIRST.number, ("pinless", FIRST.number, "--ani", "1"), "it may look"),
        (FIRST.number, ("show", SECOND.number), "no calling card"),
        ("alice", ("list", "demo"), "no batch 'demo'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_not_its_business_is_refused(
    unchanged: Sky, eyes: str, words: tuple[str, ...], text: str
) -> None:
    refused(unchanged("--as", eyes, "cards", *words), text)


@pytest.mark.parametrize(
    ("owner", "group", "text"),
    [
        ("coast", "coast-retail", "north may not make and sell cards of coast"),
        ("admin", "retail", "no account 'admin'"),
        ("north", "retail", "no rate group 'retail'"),
        ("north", "wholesale", "'wholesale' belongs to"),
    ],
)
def test_a_reseller_makes_cards_of_its_own_alone(
    unchanged: Sky, owner: str, group: str, text: str
) -> None:
    refused(
        unchanged(
            *("--as", "north", "cards", "create", "x", "--count", "1", "--face-value", "5"),
            *("--owner", owner, "--rate-group", group),
        ),
        text,
    )


# ------------------------------------------------------------------ the attacker


def test_no_other_trees_cards_are_found_in_the_tables(demo_owner: Cursor) -> None:
    demo_owner.execute(
        """
        INSERT INTO card_batch (owner_id, name, currency, face_value_micros)
        SELECT account_id, code, 'USD', 1
          FROM account
         WHERE kind = 'reseller'
        """
    )
    demo_owner.execute(
        """
        INSERT INTO account (code, kind, parent_id, prepaid, currency, card_batch_id)
        SELECT 'card-of-' || name, 'customer', owner_id, true, 'USD', card_batch_id
          FROM card_batch
        """
    )
    viewer.enter(demo_owner, "coast")
    demo_owner.execute("SELECT name FROM card_batch")
    assert demo_owner.fetchall() == [("coast",)]
    demo_owner.execute("SELECT code FROM account WHERE card_batch_id IS NOT NULL")
    assert demo_owner.fetchall() == [("card-of-coast",)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pin_sealed FROM account",
        "SELECT code FROM account WHERE pin_sealed IS NOT NULL",
        "SELECT account FROM account",
        "UPDATE account SET status = status RETURNING pin_sealed",
        "UPDATE account SET first_used_at = NULL",
        "UPDATE account SET card_batch_id = NULL",
        "UPDATE account SET balance_micros = 1",
        "INSERT INTO card_batch (owner_id, name, currency, face_value_micros) "
        "VALUES (viewer_id(), 'x', 'USD', 1)",
        "UPDATE card_batch SET face_value_micros = 1000000000",
        "DELETE FROM card_batch",
        "INSERT INTO ledger_transaction (transaction_id, kind, reference, at) "
        "VALUES (1, 'card', 'x', now())",
    ],
)
def test_pins_and_values_are_out_of_reach(demo_owner: Cursor, sql: str) -> None:
    viewer.enter(demo_owner, "north")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        demo_owner.execute(sql)


def test_another_trees_lock_is_not_there_to_be_opened(demo_owner: Cursor) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    demo_owner.execute("UPDATE account SET locked_until = %s WHERE code = %s", (soon, FIRST.number))
    viewer.enter(demo_owner, "north")
    demo_owner.execute(
        "UPDATE account SET locked_until = NULL, pin_failures = 0 WHERE kind = 'customer'"
    )
    demo_owner.execute("SET LOCAL ROLE NONE")
    demo_owner.execute("SELECT locked_until FROM account WHERE code = %s", (FIRST.number,))
    assert demo_owner.fetchone() == (soon,)
