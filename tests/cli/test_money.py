"""Money that is not calls: payments, refunds, adjustments, transfers, coupons."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.storage import accounts, coupons, payments, refunds, transfers, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.problem import Conflict
from aaa_server.storage.secrets import Keyring
from tests.charging.proof import broken_laws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from tests.cli.conftest import Sky

AMOUNT = re.compile(r"-?\d+\.\d{6}")
JSON = ("-o", "json")


@pytest.fixture
def demo_url(demo_url: str) -> Iterator[str]:
    """The demo, whose books add up whatever a test has done."""
    yield demo_url
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        # What some tests reserve is no call's.
        cursor.execute("UPDATE account SET reserved_micros = 0 WHERE channels = 0")
        assert broken_laws(cursor) == {}


def balance(sky: Sky, code: str) -> str:
    found: str = sky("account", "show", code, *JSON).json["balance"]
    return found


def reserve(url: str, code: str, micros: int) -> None:
    """As a call in progress does."""
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        cursor.execute("UPDATE account SET reserved_micros = %s WHERE code = %s", (micros, code))


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def pay(sky: Sky, code: str, amount: str, *words: str) -> Any:
    ran = sky("payment", "add", code, amount, "--method", "bank", *words, *JSON)
    assert ran.status == 0, ran.err
    return ran.json


# ------------------------------------------------------------------ payments


def test_a_payment_is_posted_once_by_method_and_reference(sky: Sky) -> None:
    first = pay(sky, "alice", "12.50", "--reference", "R1", "--note", "thanks")
    assert (first["posted"], first["balance"]) == (True, "62.500000")
    again = pay(sky, "alice", "12.50", "--reference", "R1")
    assert (again["posted"], again["transaction_id"]) == (False, first["transaction_id"])
    # Another method, and another seller, count for themselves.
    words = ("payment", "add", "alice", "1", "--method", "cash", "--reference", "R1", *JSON)
    assert sky(*words).json["posted"] is True
    assert sky("account", "top-up", "alice", "1", "--reference", "R1", *JSON).json["posted"] is True
    assert pay(sky, "nora", "1", "--reference", "R1")["ledger_reference"] == "north/bank:R1"
    assert balance(sky, "alice") == "64.500000"


def test_a_payment_reference_used_for_something_else_is_an_error(sky: Sky) -> None:
    pay(sky, "alice", "12.50", "--reference", "R1")
    for words in (("alice", "13"), ("bob", "12.50")):
        ran = sky("payment", "add", *words, "--method", "bank", "--reference", "R1")
        assert (ran.status, ran.out) == (1, "")
        assert "'R1' was used for another account or amount" in ran.err


def test_a_payment_to_a_provider_lowers_what_it_is_owed(sky: Sky) -> None:
    assert pay(sky, "acme", "100", "--reference", "I-7")["balance"] == "-100.000000"
    refunded = sky("payment", "refund", "I-7", "--amount", "40", *JSON).json
    assert (refunded["balance"], refunded["left"]) == ("-60.000000", "60.000000")
    ran = sky("account", "top-up", "acme", "5", "--reference", "x")
    assert ran.status == 2
    assert "payment add" in ran.err


def test_a_payment_of_yesterday_is_entered_today(sky: Sky) -> None:
    pay(sky, "alice", "1", "--reference", "old", "--at", "2026-01-02T03:04:05Z")
    [line] = sky("payment", "list", "--to", "2026-02-01", *JSON).json
    assert (line["reference"], line["at"]) == ("old", "2026-01-02T03:04:05+00:00")
    [_, line, _] = sky("account", "statement", "alice", "--to", "2026-02-01", *JSON).json
    assert line["balance"] == "1.000000"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("alice", "0", "--method", "bank", "--reference", "R"), "above 0"),
        (("alice", "1e3", "--method", "bank", "--reference", "R"), "digits and a point"),
        (("alice", "1000000001", "--method", "bank", "--reference", "R"), "at most 1000000000"),
        (("alice", "1", "--method", "Bank Transfer", "--reference", "R"), "no method"),
        (("alice", "1", "--method", "bank", "--reference", " "), "a reference has"),
        (("alice", "1", "--method", "bank", "--reference", "R" * 201), "a reference has"),
        (("admin", "1", "--method", "bank", "--reference", "R"), "nobody above it"),
        (("nobody", "1", "--method", "bank", "--reference", "R"), "there is no account"),
        (("alice", "1", "--method", "bank"), "--reference"),
        (
            ("alice", "1", "--method", "bank", "--reference", "R", "--at", "2999-01-01"),
            "in the future",
        ),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else "",
)
def test_a_payment_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], expected: str
) -> None:
    ran = unchanged("payment", "add", *words)
    assert ran.status in (1, 2)
    assert expected in ran.err
    assert ran.out == ""


def test_payments_are_listed_with_what_was_refunded(sky: Sky) -> None:
    pay(sky, "alice", "10", "--reference", "R1")
    pay(sky, "bob", "20", "--reference", "R2")
    sky("payment", "refund", "R1", "--amount", "2.50")
    listed = sky("payment", "list", "--method", "bank", *JSON).json
    assert [(line["code"], line["amount"], line["refunded"]) for line in listed] == [
        ("alice", "10.000000", "2.500000"),
        ("bob", "20.000000", "0.000000"),
    ]
    assert len(sky("payment", "list", "--account", "bob", "--method", "bank", *JSON).json) == 1
    seen = sky("--as", "north", "payment", "list", *JSON).json
    assert {line["code"] for line in seen} == {"coast", "nora", "cora"}


# ------------------------------------------------------------------ refunds


def test_refunds_are_never_more_than_the_payment(sky: Sky) -> None:
    pay(sky, "alice", "10", "--reference", "R1")
    first = sky("payment", "refund", "R1", "--amount", "4", *JSON).json
    assert (first["left"], first["balance"]) == ("6.000000", "56.000000")
    ran = sky("payment", "refund", "R1", "--amount", "6.000001")
    assert ran.status == 1
    assert AMOUNT.findall(ran.err) == ["6.000000", "4.000000", "10.000000", "6.000001"]
    rest = sky("payment", "refund", "R1", *JSON).json
    assert (rest["amount"], rest["left"], rest["balance"]) == ("6.000000", "0.000000", "50.000000")
    assert rest["ledger_reference"] == "bank:R1#2"
    assert sky("payment", "refund", "R1").status == 1


def test_a_refund_cannot_spend_what_is_reserved(sky: Sky, demo_url: str) -> None:
    pay(sky, "empty", "10", "--reference", "R1")
    reserve(demo_url, "empty", 9_000_000)
    ran = sky("payment", "refund", "R1", "--amount", "1.000001")
    assert ran.status == 1
    assert AMOUNT.findall(ran.err) == ["1.000001", "1.000000", "9.000000"]
    assert balance(sky, "empty") == "10.000000"
    assert sky("payment", "refund", "R1", "--amount", "1").status == 0


def test_a_refund_with_a_reference_is_posted_once(sky: Sky) -> None:
    pay(sky, "alice", "10", "--reference", "R1")
    pay(sky, "alice", "10", "--reference", "R2")
    words = ("payment", "refund", "R1", "--amount", "4", "--refund-reference", "back")
    assert sky(*words, *JSON).json["posted"] is True
    again = sky(*words, *JSON)
    assert (again.json["posted"], again.json["balance"]) == (False, "66.000000")
    assert "nothing was changed" in again.err
    for other in (
        ("R1", "--amount", "5"),
        ("R2", "--amount", "4"),
    ):
        ran = sky("payment", "refund", *other, "--refund-reference", "back")
        assert ran.status == 1
        assert "'back' was used" in ran.err


def test_a_refund_says_which_payment_it_means(sky: Sky) -> None:
    assert "there is no payment 'R9'" in sky("payment", "refund", "R9").err
    pay(sky, "alice", "10", "--reference", "R1")
    pay(sky, "nora", "10", "--reference", "R1")
    sky("payment", "add", "alice", "1", "--method", "cash", "--reference", "R1")
    ran = sky("payment", "refund", "R1")
    assert ran.status == 1
    assert "alice by bank, nora by bank, alice by cash" in ran.err
    assert sky("payment", "refund", "R1", "--account", "nora", *JSON).json["code"] == "nora"
    assert sky("payment", "refund", "R1", "--method", "cash", *JSON).json["amount"] == "1.000000"
    assert sky("payment", "refund", "R1", "--account", "nora", "--amount", "-1").status == 2


# ------------------------------------------------------------------ adjustments


def test_adjustments_go_up_and_down_with_a_reason(sky: Sky) -> None:
    up = sky("adjustment", "add", "alice", "2.5", "--reason", "sorry", *JSON).json
    down = sky("adjustment", "add", "alice", "-0.5", "--reason", "oops", *JSON).json
    assert (up["balance"], down["balance"]) == ("52.500000", "52.000000")
    listed = sky("adjustment", "list", *JSON).json
    assert [(line["amount"], line["reason"]) for line in listed] == [
        ("2.500000", "sorry"),
        ("-0.500000", "oops"),
    ]
    assert sky("adjustment", "list", "--account", "bob", *JSON).json == []
    last = sky("account", "statement", "alice", *JSON).json[-2]
    assert (last["kind"], last["note"]) == ("adjustment", "oops")


def test_an_adjustment_cannot_take_what_is_reserved(sky: Sky, demo_url: str) -> None:
    reserve(demo_url, "alice", 49_000_000)
    ran = sky("adjustment", "add", "alice", "-1.5", "--reason", "x")
    assert ran.status == 1
    assert AMOUNT.findall(ran.err) == ["1.500000", "1.000000", "49.000000"]
    assert sky("adjustment", "add", "alice", "-1", "--reason", "x").status == 0
    # Of a postpaid account the credit limit may be spent, of a provider there is no end.
    assert sky("adjustment", "add", "bob", "-100", "--reason", "x").status == 0
    assert sky("adjustment", "add", "bob", "-0.000001", "--reason", "x").status == 1
    assert sky("adjustment", "add", "acme", "-7", "--reason", "disputed").status == 0


def test_an_adjustment_with_a_reference_is_posted_once(sky: Sky) -> None:
    words = ("adjustment", "add", "nora", "1", "--reason", "x", "--reference", "A1", *JSON)
    assert sky(*words).json["posted"] is True
    again = sky(*words).json
    assert (again["posted"], again["ledger_reference"]) == (False, "north/A1")
    other = sky("adjustment", "add", "nora", "2", "--reason", "x", "--reference", "A1")
    assert other.status == 1
    assert "was used" in other.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("alice", "1"), "--reason"),
        (("alice", "1", "--reason", " "), "say why"),
        (("alice", "0", "--reason", "x"), "not 0"),
        (("alice", "-1000000001", "--reason", "x"), "at most 1000000000"),
        (("alice", "-x", "--reason", "x"), "digits and a point"),
        (("admin", "1", "--reason", "x"), "operator's own"),
        (("alice", "1", "--reason", "x", "--reference", "R" * 201), "a reference has"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_an_adjustment_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], expected: str
) -> None:
    ran = unchanged("adjustment", "add", *words)
    assert (ran.status, ran.out) == (2, "")
    assert expected in ran.err


# ------------------------------------------------------------------ transfers


def test_a_transfer_moves_money_inside_one_reseller_once(sky: Sky) -> None:
    words = ("transfer", "alice", "bob", "4.50", "--reference", "T1", *JSON)
    first, again = sky(*words).json, sky(*words).json
    assert (first["posted"], first["from_balance"], first["to_balance"]) == (
        True,
        "45.500000",
        "4.500000",
    )
    assert (again["posted"], again["transaction_id"]) == (False, first["transaction_id"])
    assert again["from_balance"] == "45.500000"
    for other in (("alice", "bob", "4"), ("alice", "single", "4.50")):
        ran = sky("transfer", *other, "--reference", "T1")
        assert ran.status == 1
        assert "was used" in ran.err


def test_a_transfer_while_all_is_reserved_is_refused(sky: Sky, demo_url: str) -> None:
    """Scenario 31: 4.50 of 5.00, all of which calls hold."""
    pay(sky, "empty", "5", "--reference", "R1")
    reserve(demo_url, "empty", 5_000_000)
    ran = sky("transfer", "empty", "alice", "4.50", "--reference", "T1")
    assert (ran.status, ran.out) == (1, "")
    assert AMOUNT.findall(ran.err) == ["4.500000", "0.000000", "5.000000"]
    reserve(demo_url, "empty", 500_000)
    assert sky("transfer", "empty", "alice", "4.50", "--reference", "T1").status == 0


def test_a_transfer_into_another_currency_keeps_the_rate(sky: Sky, demo_url: str) -> None:
    done = sky("transfer", "cora", "carl", "1.01", "--reference", "T1", *JSON).json
    assert (done["received"], done["received_currency"]) == ("0.929200", "EUR")
    assert done["exchange_rate"] == "0.9200"
    postings = """
        SELECT amount_micros, currency, contra_book
          FROM posting
          JOIN ledger_transaction USING (transaction_id)
         WHERE kind = 'transfer'
         ORDER BY position
    """
    assert rows(demo_url, postings) == [
        (-1_010_000, "USD", "exchange"),
        (929_200, "EUR", "exchange"),
    ]
    assert rows(demo_url, "SELECT exchange_e10, received_micros FROM transfer") == [
        (9_200_000_000, 929_200)
    ]
    [_, line, _] = sky("account", "statement", "carl", *JSON).json
    assert line["note"] == "1 USD = 0.9200 EUR"
    # The other way round: entered is only USD to EUR.
    back = sky("transfer", "carl", "cora", "0.92", "--reference", "T2", "--note", "back", *JSON)
    assert back.json["received"] == "1.000000"


def test_the_rate_is_that_of_the_time(sky: Sky) -> None:
    sky("currency", "rate", "USD", "EUR", "0.5", "--from", "2999-01-01")
    sky("currency", "rate", "USD", "EUR", "0.8", "--from", "2026-01-01")
    done = sky("transfer", "cora", "carl", "1", "--reference", "T1", *JSON).json
    assert done["received"] == "0.800000"


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (("alice", "nora", "1"), 2, "different sellers"),
        (("north", "nora", "1"), 2, "different sellers"),
        (("alice", "alice", "1"), 2, "two accounts"),
        (("alice", "acme", "1"), 2, "kind provider"),
        (("alice", "bob", "0"), 2, "above 0"),
        (("alice", "nobody", "1"), 1, "there is no account"),
        (("carl", "cora", "20.000001"), 1, "may spend: 20.000000"),
        (("empty", "alice", "0.000001"), 1, "may spend: 0.000000"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_transfer_that_cannot_be_says_why(
    unchanged: Sky, words: tuple[str, ...], status: int, expected: str
) -> None:
    ran = unchanged("transfer", *words, "--reference", "T")
    assert (ran.status, ran.out) == (status, "")
    assert expected in ran.err


def test_a_transfer_needs_a_rate_and_an_open_account(sky: Sky) -> None:
    sky("account", "add", "london", "--currency", "GBP")
    ran = sky("transfer", "alice", "london", "1", "--reference", "T")
    assert ran.status == 1
    assert "no exchange rate from USD to GBP" in ran.err
    sky("currency", "rate", "USD", "GBP", "0.000001")
    ran = sky("transfer", "alice", "london", "0.000001", "--reference", "T")
    assert "nothing in GBP" in ran.err
    sky("account", "close", "bob")
    ran = sky("transfer", "alice", "bob", "1", "--reference", "T")
    assert "bob is closed" in ran.err


# ------------------------------------------------------------------ coupons


def make(sky: Sky, *words: str) -> list[Any]:
    ran = sky("coupon", "create", *words, *JSON)
    assert ran.status == 0, ran.err
    found: list[Any] = ran.json
    return found


def test_a_coupon_is_worth_money_once(sky: Sky) -> None:
    one, other = make(sky, "--count", "2", "--amount", "5")
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", one["code"])
    assert one["code"] != other["code"]
    # As people type it.
    typed = one["code"].lower().replace("-", " ").replace("0", "o").replace("1", "l")
    done = sky("coupon", "redeem", typed, "--account", "alice", *JSON).json
    assert (done["amount"], done["balance"]) == ("5.000000", "55.000000")
    again = sky("coupon", "redeem", one["code"], "--account", "bob")
    assert again.status == 1
    assert f"coupon {one['coupon']} was redeemed at" in again.err
    listed = sky("coupon", "list", *JSON).json
    # The first one is the demo's.
    assert [(line["status"], line["account"]) for line in listed] == [
        ("open", ""),
        ("redeemed", "alice"),
        ("open", ""),
    ]
    assert len(sky("coupon", "list", "--status", "open", *JSON).json) == 2
    assert len(sky("coupon", "list", "--account", "alice", *JSON).json) == 1
    assert sky("coupon", "list", "--owner", "north", *JSON).json == []


def test_codes_are_not_in_the_database(sky: Sky, demo_url: str, key_file: Path) -> None:
    [one] = make(sky, "--amount", "5")
    code = one["code"].replace("-", "")
    sky("coupon", "redeem", one["code"], "--account", "alice")
    everything = str(rows(demo_url, "SELECT coupon::text FROM coupon"))
    everything += str(rows(demo_url, "SELECT before, after, subject FROM audit_log"))
    everything += str(rows(demo_url, "SELECT reference, note FROM ledger_transaction"))
    assert code not in everything.replace("-", "").upper()
    assert code.encode().hex() not in everything
    [(sealed,)] = rows(demo_url, "SELECT key_sealed FROM coupon_key")
    key = Keyring.open(key_file).unseal(bytes(sealed), table="coupon_key", row_id=1, column="key")
    assert len(key) == 32


def test_another_sellers_coupon_is_none(sky: Sky) -> None:
    [one] = make(sky, "--amount", "5", "--owner", "north")
    for account in ("alice", "cora"):
        ran = sky("coupon", "redeem", one["code"], "--account", account)
        assert ran.status == 1
        assert f"no coupon with this code for {account}" in ran.err
    assert sky("coupon", "redeem", one["code"], "--account", "nora").status == 0


def test_a_coupon_that_is_worth_nothing_says_why(sky: Sky, demo_url: str) -> None:
    euro, void, late, good = (
        make(sky, "--amount", "5", *words)[0]
        for words in (("--currency", "EUR"), (), ("--valid-days", "1"), ())
    )
    assert sky("coupon", "void", str(void["coupon"]), *JSON).json["voided"] == 1
    rows(demo_url, "UPDATE coupon SET expires_at = now() WHERE expires_at IS NOT NULL RETURNING 1")
    for one, expected in (
        (euro, "is of 5.000000 EUR, and alice has USD"),
        (void, "was made void at"),
        (late, "expired at"),
    ):
        ran = sky("coupon", "redeem", one["code"], "--account", "alice")
        assert (ran.status, ran.out) == (1, "")
        assert expected in ran.err
    sky("account", "close", "alice")
    assert "alice is closed" in sky("coupon", "redeem", good["code"], "--account", "alice").err
    statuses = {line["status"] for line in sky("coupon", "list", *JSON).json}
    assert statuses == {"open", "void", "expired"}


def test_coupons_are_taken_back_all_or_none(sky: Sky) -> None:
    made = make(sky, "--count", "3", "--amount", "5")
    first, last = str(made[0]["coupon"]), str(made[2]["coupon"])
    sky("coupon", "redeem", made[1]["code"], "--account", "alice")
    ran = sky("coupon", "void", first, "--to", last)
    assert ran.status == 1
    assert f"coupon {made[1]['coupon']} was redeemed" in ran.err
    assert len(sky("coupon", "list", "--status", "void", *JSON).json) == 0
    assert sky("coupon", "void", first).status == 0
    # Once more changes nothing.
    assert sky("coupon", "void", first, *JSON).json["voided"] == 0
    assert "there is no coupon 9999" in sky("coupon", "void", "9999").err
    assert sky("coupon", "void", last, "--to", first).status == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("create", "--amount", "0"), "above 0"),
        (("create", "--amount", "1", "--owner", "alice"), "alice is a customer"),
        (("create", "--amount", "1", "--count", "0"), "--count"),
        (("create", "--amount", "1", "--count", "10001"), "--count"),
        (("create", "--amount", "1", "--valid-days", "0"), "--valid-days"),
        (("redeem", "1234", "--account", "alice"), "no coupon code"),
        (("redeem", "7K2M-9QXR-04WD-HT5U", "--account", "alice"), "no coupon code"),
        (("redeem", "7K2M-9QXR-04WD-HT5B", "--account", "acme"), "kind provider"),
        (("redeem", "7K2M-9QXR-04WD-HT5B"), "kind admin"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_coupon_words_that_cannot_be(unchanged: Sky, words: tuple[str, ...], expected: str) -> None:
    ran = unchanged("coupon", *words)
    assert (ran.status, ran.out) == (2, "")
    assert expected in ran.err


# ------------------------------------------------------------------ at once


def at_once(url: str, works: list[Callable[[Cursor], str]]) -> list[str]:
    """What each came to, all of them begun together on connections of their own."""
    barrier = threading.Barrier(len(works))
    outcomes: list[str] = []

    def run(work: Callable[[Cursor], str]) -> None:
        with contextlib.closing(connect(url)) as connection:
            barrier.wait()
            try:
                with transaction(connection) as cursor:
                    outcome = work(cursor)
            except Conflict:
                outcome = "conflict"
            outcomes.append(outcome)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def test_a_coupon_redeemed_at_once_from_many_is_credited_once(
    demo_url: str, key_file: Path, demo_connection: Connection
) -> None:
    keyring = Keyring.open(key_file)
    with transaction(demo_connection) as cursor:
        admin = viewer.operator(cursor)
        owner = accounts.find(cursor, admin, "admin")
        new = coupons.NewCoupons(5_000_000, "USD")
        one, *others = coupons.create(cursor, admin, keyring, owner, new, 5)

    def redeem(code: str, account: str) -> Callable[[Cursor], str]:
        def work(cursor: Cursor) -> str:
            admin = viewer.operator(cursor)
            found = accounts.find(cursor, admin, account)
            coupons.redeem(cursor, admin, keyring, found, code)
            return "redeemed"

        return work

    # Some for the same account with other coupons: it waits for none of them, nor loses one.
    works = [redeem(one.code, account) for account in ("alice", "bob", "single", "alice") * 2]
    works += [redeem(other.code, "alice") for other in others]
    outcomes = at_once(demo_url, works)
    assert outcomes == ["conflict"] * 7 + ["redeemed"] * 5
    with transaction(demo_connection) as cursor:
        cursor.execute(
            "SELECT sum(amount_micros), count(*) FROM posting WHERE contra_book = 'coupons'"
        )
        assert cursor.fetchone() == (25_000_000, 5)


def test_refunds_and_transfers_at_once_never_spend_more_than_there_is(
    demo_url: str, demo_connection: Connection
) -> None:
    with transaction(demo_connection) as cursor:
        payments.top_up(cursor, viewer.operator(cursor), "empty", 10_000_000, reference="ten")

    def refund(cursor: Cursor) -> str:
        admin = viewer.operator(cursor)
        refunds.refund(cursor, admin, payments.find(cursor, admin, "ten"), amount_micros=3_000_000)
        return "refunded"

    def move(reference: str) -> Callable[[Cursor], str]:
        def work(cursor: Cursor) -> str:
            admin = viewer.operator(cursor)
            source, target = (accounts.find(cursor, admin, code) for code in ("empty", "alice"))
            transfers.transfer(cursor, admin, source, target, 3_000_000, reference=reference)
            return "moved"

        return work

    def back(cursor: Cursor) -> str:
        admin = viewer.operator(cursor)
        source, target = (accounts.find(cursor, admin, code) for code in ("alice", "single"))
        transfers.transfer(cursor, admin, source, target, 1_000_000, reference="other")
        return "other"

    works = [refund, refund, refund, move("a"), move("b"), move("c"), back]
    outcomes = at_once(demo_url, works)
    assert outcomes.count("conflict") == 3
    assert outcomes.count("other") == 1
    with transaction(demo_connection) as cursor:
        cursor.execute("SELECT balance_micros FROM account WHERE code = 'empty'")
        assert cursor.fetchone() == (1_000_000,)


# ------------------------------------------------------------------ whose business


@pytest.mark.parametrize(
    ("eyes", "words"),
    [
        # Itself, another level's customer, another tree's, the operator's provider.
        ("north", ("payment", "add", "north", "5", "--method", "bank", "--reference", "x")),
        ("north", ("payment", "add", "cora", "5", "--method", "bank", "--reference", "x")),
        ("north", ("payment", "add", "alice", "5", "--method", "bank", "--reference", "x")),
        ("north", ("payment", "add", "acme", "5", "--method", "bank", "--reference", "x")),
        ("north", ("payment", "refund", "demo alice")),
        ("north", ("payment", "refund", "demo cora")),
        ("coast", ("payment", "refund", "demo coast")),
        ("cora", ("payment", "refund", "demo cora")),
        ("north", ("adjustment", "add", "north", "5", "--reason", "x")),
        ("north", ("adjustment", "add", "cora", "5", "--reason", "x")),
        ("nora", ("adjustment", "add", "nora", "5", "--reason", "x")),
        ("north", ("transfer", "cora", "carl", "1", "--reference", "x")),
        ("north", ("transfer", "coast", "north", "1", "--reference", "x")),
        ("nora", ("transfer", "nora", "noel", "1", "--reference", "x")),
        ("north", ("coupon", "create", "--amount", "1", "--owner", "admin")),
        ("north", ("coupon", "create", "--amount", "1", "--owner", "coast")),
        ("nora", ("coupon", "create", "--amount", "1", "--owner", "nora")),
        ("north", ("coupon", "redeem", "7K2M-9QXR-04WD-HT5B", "--account", "cora")),
        ("north", ("coupon", "void", "1")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_money_that_is_not_ones_business_is_refused_in_words(
    unchanged: Sky, eyes: str, words: tuple[str, ...]
) -> None:
    ran = unchanged("--as", eyes, *words)
    assert ran.status in (1, 2)
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert "row-level" not in ran.err
    assert "permission denied" not in ran.err


def test_a_reseller_runs_its_own_cash_book(sky: Sky, demo_url: str) -> None:
    north = ("--as", "north")
    for words in (
        ("payment", "add", "nora", "5", "--method", "cash", "--reference", "N1"),
        ("payment", "list"),
        ("payment", "refund", "N1", "--amount", "1"),
        ("adjustment", "add", "noel", "2", "--reason", "goodwill"),
        ("adjustment", "list"),
        ("transfer", "nora", "coast", "1", "--reference", "N2"),
        ("coupon", "create", "--amount", "3", "--count", "2"),
        ("coupon", "list"),
    ):
        ran = sky(*north, *words)
        assert ran.status == 0, (words, ran.err)
    books = """
        SELECT DISTINCT contra.code, contra_book
          FROM posting
          JOIN ledger_transaction USING (transaction_id)
          JOIN account AS contra ON contra.account_id = contra_account_id
         WHERE author_id = (SELECT account_id FROM account WHERE code = 'north')
         ORDER BY 2
    """
    assert rows(demo_url, books) == [
        ("north", "adjustments"),
        ("north", "cash"),
        ("north", "transfers"),
    ]
    acting = "SELECT DISTINCT code FROM audit_log JOIN account ON account_id = acting_as_id"
    assert rows(demo_url, acting) == [("north",)]


def test_a_customer_redeems_a_coupon_by_itself(sky: Sky) -> None:
    [one] = make(sky, "--amount", "5", "--owner", "north")
    done = sky("--as", "nora", "coupon", "redeem", one["code"], *JSON)
    assert (done.status, done.json["balance"]) == (0, "25.000000")
    [seen] = sky("--as", "nora", "coupon", "list", *JSON).json
    assert (seen["status"], seen["owner"]) == ("redeemed", "")


def test_the_operator_acts_as_the_reseller_whose_books_it_writes(sky: Sky, demo_url: str) -> None:
    sky("payment", "add", "cora", "5", "--method", "cash", "--reference", "x")
    found = """
        SELECT action, subject, account.code, after ->> 'amount'
          FROM audit_log
          JOIN account ON account_id = acting_as_id
    """
    assert rows(demo_url, found) == [("payment add", "cora", "coast", "5.000000")]
