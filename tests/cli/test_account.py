"""Accounts and their money."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from aaa_server.storage import payments, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.problem import Conflict
from aaa_server.storage.secrets import Keyring

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky


def test_the_operators_account_comes_first_and_only_once(empty: Sky) -> None:
    assert "--currency" in empty("account", "add", "boss", "--kind", "admin").err
    made = empty("account", "add", "boss", "--kind", "admin", "--currency", "eur", "-o", "json")
    assert (made.status, made.json["currency"]) == (0, "EUR")
    again = empty("account", "add", "boss2", "--kind", "admin", "--currency", "EUR")
    assert again.status == 1
    assert "only one" in again.err


def test_a_new_account_takes_currency_language_and_zone_from_its_parent(sky: Sky) -> None:
    sky(
        *("account", "add", "shop", "--kind", "reseller", "--currency", "EUR"),
        *("--language", "es", "--time-zone", "Europe/Madrid"),
    )
    made = sky("account", "add", "below", "--parent", "shop", "-o", "json").json
    assert (made["currency"], made["language"]) == ("EUR", "es")
    assert (made["time_zone"], made["reseller"]) == ("Europe/Madrid", "shop")
    assert made["billing"] == "prepaid"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("account", "add", "alice"), "already"),
        (("account", "add", "with space"), "no account code"),
        (("account", "add", "x", "--parent", "alice"), "cannot be the parent"),
        (("account", "add", "x", "--parent", "nobody"), "there is no account 'nobody'"),
        (("account", "add", "x", "--prepaid", "--credit-limit", "5"), "--postpaid"),
        (("account", "add", "x", "--credit-limit", "0.1234567"), "6 are allowed"),
        (("account", "add", "x", "--currency", "EURO"), "three letters"),
        (("account", "add", "x", "--time-zone", "Mars/Phobos"), "no time zone"),
        (("account", "add", "x", "--expires", "tomorrow"), "2026-11-22"),
        (("account", "add", "x", "--rate-group", "gold"), "there is no rate group 'gold'"),
        (("account", "add", "x", "--rate-group", "north-retail"), "belongs to north"),
        (("account", "add", "x", "--kind", "provider", "--rate-group", "retail"), "no rate group"),
        (("account", "add", "x", "--kind", "provider", "--parent", "north"), "the admin"),
        (("account", "set", "alice"), "nothing to change"),
        (("account", "set", "admin", "--rate-group", "retail"), "has no rate group"),
        (("account", "set", "acme", "--rate-group", "retail"), "has no rate group"),
        (("account", "set", "bob", "--credit-limit", "-1"), "not below 0"),
        (("account", "suspend", "admin"), "stays active"),
        (("account", "set", "alice", "--credit-limit", "5"), "--postpaid"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_says_why(unchanged: Sky, words: tuple[str, ...], expected: str) -> None:
    ran = unchanged(*words)
    assert ran.status in (1, 2)
    assert expected in ran.err
    assert ran.out == ""


def test_a_chain_ends_at_ten(sky: Sky) -> None:
    parent = "coast"
    for level in range(3, 11):
        code = f"level{level}"
        made = sky("account", "add", code, "--kind", "reseller", "--parent", parent)
        assert made.status == 0, made.err
        parent = code
    refused = sky("account", "add", "level11", "--parent", parent)
    assert refused.status == 2
    assert "10 are allowed" in refused.err


def test_set_changes_what_is_named_and_nothing_else(sky: Sky) -> None:
    before = sky("account", "show", "bob", "-o", "json").json
    after = sky(
        *("account", "set", "bob", "--name", "Robert", "--expires", "2030-01-01"),
        *("--credit-limit", "250.50", "--rate-group", "", "-o", "json"),
    ).json
    expected = {
        "name": "Robert",
        "expires_at": "2030-01-01T00:00:00+00:00",
        "credit_limit": "250.500000",
        "available": "250.500000",
        "rate_group": "",
    }
    assert after == before | expected
    assert (
        sky("account", "set", "bob", "--expires", "never", "-o", "json").json["expires_at"] is None
    )


def test_prepaid_takes_the_credit_limit_away(sky: Sky) -> None:
    after = sky("account", "set", "bob", "--prepaid", "-o", "json").json
    assert (after["billing"], after["credit_limit"]) == ("prepaid", "0.000000")


def test_suspend_resume_close(sky: Sky) -> None:
    for verb, status in (("suspend", "suspended"), ("resume", "active"), ("close", "closed")):
        assert sky("account", verb, "alice", "-o", "json").json["status"] == status
    assert "balance of 50.000000 USD" in sky("account", "close", "alice").err
    assert len(sky("account", "list", "--status", "closed", "-o", "json").json) == 1


def test_passwords_and_pins_come_from_files_and_are_sealed(
    sky: Sky, tmp_path: Path, demo_connection: Connection, key_file: Path
) -> None:
    (tmp_path / "password").write_bytes(b"sw\xc3\xb6rdfish\r\n")
    (tmp_path / "pin").write_bytes(b"4711\n")
    ran = sky(
        *("account", "add", "card1", "--password-file", str(tmp_path / "password")),
        *("--pin-file", str(tmp_path / "pin")),
    )
    assert ran.status == 0
    with transaction(demo_connection) as cursor:
        cursor.execute(
            "SELECT account_id, password_sealed, pin_sealed FROM account WHERE code = 'card1'"
        )
        [(account_id, password, pin)] = cursor.fetchall()
    keyring = Keyring.open(key_file)
    for sealed, column, plain in (
        (password, "password", b"sw\xc3\xb6rdfish"),
        (pin, "pin", b"4711"),
    ):
        assert plain not in bytes(sealed)
        found = keyring.unseal(bytes(sealed), table="account", row_id=account_id, column=column)
        assert found == plain


@pytest.mark.parametrize("text", [b"", b"\n", b"x" * 129])
def test_a_password_of_an_impossible_length_is_refused(
    unchanged: Sky, tmp_path: Path, text: bytes
) -> None:
    (tmp_path / "password").write_bytes(text)
    ran = unchanged("account", "set", "alice", "--password-file", str(tmp_path / "password"))
    assert ran.status == 2
    assert "1 to 128 octets" in ran.err


def test_a_pin_is_digits(unchanged: Sky, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("12ab")
    ran = unchanged("account", "set", "alice", "--pin-file", str(tmp_path / "pin"))
    assert "digits" in ran.err


# ------------------------------------------------------------------ money


def test_a_top_up_is_posted_once(sky: Sky) -> None:
    words = ("account", "top-up", "alice", "12.5", "--reference", "R1", "-o", "json")
    first, second = sky(*words), sky(*words)
    assert first.json["posted"] is True
    assert second.json["posted"] is False
    assert second.json["transaction_id"] == first.json["transaction_id"]
    assert "nothing was changed" in second.err
    assert second.status == 0
    assert sky("account", "show", "alice", "-o", "json").json["balance"] == "62.500000"
    assert sky("audit").status == 0


@pytest.mark.parametrize(
    "words",
    [("alice", "13", "--reference", "R1"), ("bob", "12.5", "--reference", "R1")],
    ids=" ".join,
)
def test_a_reference_used_for_something_else_is_an_error(sky: Sky, words: tuple[str, ...]) -> None:
    sky("account", "top-up", "alice", "12.5", "--reference", "R1")
    ran = sky("account", "top-up", *words)
    assert ran.status == 1
    assert "'R1' was used" in ran.err


def test_resellers_references_are_their_own(sky: Sky) -> None:
    for account in ("alice", "nora", "cora"):
        ran = sky("account", "top-up", account, "1", "--reference", "R1", "-o", "json")
        assert ran.json["posted"] is True
    ran = sky("--as", "coast", "account", "top-up", "cora", "1", "--reference", "R1", "-o", "json")
    assert ran.json["posted"] is False
    assert ran.json["reference"] == "coast/R1"


def test_a_resellers_customer_pays_its_reseller(sky: Sky, demo_connection: Connection) -> None:
    sky("account", "top-up", "cora", "3", "--reference", "R1")
    with transaction(demo_connection) as cursor:
        cursor.execute(
            """
            SELECT contra.code, contra_book, amount_micros
              FROM posting
              JOIN ledger_transaction USING (transaction_id)
              JOIN account AS contra ON contra.account_id = contra_account_id
             WHERE reference = 'coast/R1'
            """
        )
        assert cursor.fetchall() == [("coast", "cash", 3_000_000)]


@pytest.mark.parametrize("text", ["0", "-5", "1000000001", "ten"])
def test_a_top_up_is_an_amount_above_zero(unchanged: Sky, text: str) -> None:
    ran = unchanged("account", "top-up", "--reference", "R1", "--", "alice", text)
    assert ran.status == 2
    assert ran.out == ""


def test_nobody_pays_the_operator(unchanged: Sky) -> None:
    assert unchanged("account", "top-up", "admin", "5", "--reference", "R1").status == 2


def test_the_same_top_up_at_once_from_many_is_posted_once(demo_url: str) -> None:
    barrier = threading.Barrier(6)
    outcomes: list[str] = []

    def pay(amount_micros: int) -> None:
        with contextlib.closing(connect(demo_url)) as connection:
            barrier.wait()
            try:
                with transaction(connection) as cursor:
                    paid = payments.top_up(
                        cursor, viewer.operator(cursor), "alice", amount_micros, reference="once"
                    )
                outcomes.append("again" if paid.again else "posted")
            except Conflict:
                outcomes.append("conflict")

    # The last one asks for another amount: whoever is first decides which of them is right.
    threads = [threading.Thread(target=pay, args=(7 if n == 5 else 5,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("posted") == 1
    assert sorted(outcomes) in (
        ["again"] * 4 + ["conflict", "posted"],
        ["conflict"] * 5 + ["posted"],
    )


def top_up_thrice(sky: Sky) -> None:
    for place in range(1, 4):
        sky("account", "top-up", "alice", f"0.{place}", "--reference", f"R{place}", "--note", "n")


def test_the_statement_is_the_ledger_between_two_balances(sky: Sky) -> None:
    top_up_thrice(sky)
    lines = sky("account", "statement", "alice", "-o", "json").json
    assert [(line["kind"], line["amount"], line["balance"]) for line in lines] == [
        ("opening balance", None, "0.000000"),
        ("payment", "50.000000", "50.000000"),
        ("payment", "0.100000", "50.100000"),
        ("payment", "0.200000", "50.300000"),
        ("payment", "0.300000", "50.600000"),
        ("closing balance", None, "50.600000"),
    ]
    since = sky("account", "statement", "alice", "--from", lines[2]["at"], "-o", "json").json
    assert (since[0]["at"], since[0]["balance"]) == (lines[2]["at"], "50.000000")
    assert since[1:] == lines[2:]
    until = sky("account", "statement", "alice", "--to", lines[2]["at"], "-o", "json").json
    assert until[:2] == lines[:2]
    assert (until[2]["at"], until[2]["balance"]) == (lines[2]["at"], "50.000000")


def test_a_statement_of_no_posting_has_the_balances(sky: Sky) -> None:
    for when, balance in (("--from", "50.000000"), ("--to", "0.000000")):
        day = "2999-01-01" if when == "--from" else "1999-01-01"
        lines = sky("account", "statement", "alice", when, day, "-o", "json").json
        assert [(line["kind"], line["balance"]) for line in lines] == [
            ("opening balance", balance),
            ("closing balance", balance),
        ]


def test_a_statement_says_what_it_leaves_out(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    top_up_thrice(sky)
    ran = sky("account", "statement", "alice", "--limit", "1", "-o", "json")
    assert [(line["note"], line["balance"]) for line in ran.json] == [
        ("with 3 older postings, left out", "50.300000"),
        ("n", "50.600000"),
        ("", "50.600000"),
    ]
    assert "3 older postings are left out" in ran.err
    monkeypatch.setattr("aaa_server.cli.account.STATEMENT_SHOWN", 2)
    table = sky("account", "statement", "alice")
    assert "with 2 older postings, left out" in table.out
    assert "2 older postings are left out: --limit shows more, -o csv all" in table.err
    whole = sky("account", "statement", "alice", "-o", "csv")
    assert (len(whole.out.splitlines()), whole.err) == (7, "")


def test_a_long_statement_is_read_bit_by_bit_and_comes_whole(
    sky: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aaa_server.storage.payments.ROWS_AT_ONCE", 2)
    top_up_thrice(sky)
    lines = sky("--as", "alice", "account", "statement", "alice", "-o", "json").json
    assert len(lines) == 6


def test_lists_go_on_where_they_ended(unchanged: Sky) -> None:
    everybody = [row["code"] for row in unchanged("account", "list", "-o", "json").json]
    seen: list[str] = []
    while True:
        after = seen[-1] if seen else ""
        page = unchanged("account", "list", "--limit", "5", "--after", after, "-o", "json").json
        if not page:
            break
        seen += [row["code"] for row in page]
    assert seen == everybody


def test_accounts_are_found_by_kind_parent_and_name(unchanged: Sky) -> None:
    def codes(*words: str) -> set[str]:
        return {row["code"] for row in unchanged("account", "list", *words, "-o", "json").json}

    assert codes("--kind", "provider") == {"acme", "globex"}
    assert codes("--parent", "north") == {"coast", "nora", "noel"}
    assert codes("--search", "EUROS") == {"carl"}
    assert codes("--status", "suspended") == {"suspended"}
