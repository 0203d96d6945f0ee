"""The ledger for accounting programs: it balances, it ties, and they can read it."""

from __future__ import annotations

import contextlib
import csv
import io
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aaa_server.storage.database import connect, transaction
from web_reports.journal.datev import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg2.extensions import cursor as Cursor

    from tests.cli.conftest import Ran, Sky

BEAN_CHECK = Path(sys.executable).with_name("bean-check")
JANUARY = ("--from", "2026-01-01", "--to", "2026-02-01")
FEBRUARY = ("--from", "2026-02-01", "--to", "2026-03-01")
DATEV_MAP = """
[datev]
consultant = 12345
client = 7
"""


class Moved(NamedTuple):
    """One posting: account, micros, contra account, book."""

    code: str
    micros: int
    contra: str
    book: str
    currency: str = "USD"


NUMBERS = count(10**12)


def post(url: str, at: str, kind: str, *moves: Moved, note: str = "", happened: str = "") -> int:
    """A transaction of the ledger, as of `at`; its number."""
    number = next(NUMBERS)
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        cursor.execute(
            """
            INSERT INTO ledger_transaction (
                   transaction_id, kind, reference, at, note, posted_at)
            VALUES (%s, %s, %s, %s, %s, %s)
            """,
            (number, kind, f"{kind} ü{number}", happened or at, note, at),
        )
        for position, move in enumerate(moves):
            cursor.execute(
                """
                INSERT INTO posting (transaction_id, position, account_id, amount_micros, currency,
                                     contra_account_id, contra_book)
                SELECT %s, %s, account.account_id, %s, %s, contra.account_id, %s
                  FROM account
                  JOIN account AS contra ON contra.code = %s
                 WHERE account.code = %s
                """,
                (number, position, move.micros, move.currency, move.book, move.contra, move.code),
            )
    return number


def call(url: str, at: str, *, cora: int, coast: int, north: int, acme: int) -> int:
    """A call of cora's, charged at each level."""
    return post(
        url,
        at,
        "call",
        Moved("cora", -cora, "coast", "sales"),
        Moved("coast", -coast, "north", "sales"),
        Moved("north", -north, "admin", "sales"),
        Moved("acme", acme, "admin", "purchases"),
    )


@pytest.fixture
def books(sky: Sky, demo_url: str) -> Sky:
    """The demo, and two months of its past."""
    post(demo_url, "2026-01-05T10:00Z", "payment", Moved("alice", 10_000_000, "admin", "cash"))
    post(demo_url, "2026-01-31T23:30Z", "payment", Moved("bob", 7_250_000, "admin", "cash"))
    post(demo_url, "2026-01-06T10:00Z", "payment", Moved("north", 90_000_000, "admin", "cash"))
    for day in range(10, 20):
        at = f"2026-01-{day}T12:00Z"
        call(demo_url, at, cora=200_004, coast=88_003, north=61_001, acme=44_333)
        call(demo_url, at, cora=3, coast=2, north=1, acme=1)
    post(
        demo_url,
        "2026-01-21T00:00Z",
        "transfer",
        Moved("cora", -2_000_000, "coast", "exchange"),
        Moved("carl", 1_800_000, "coast", "exchange", "EUR"),
    )
    post(demo_url, "2026-02-03T10:00Z", "fee", Moved("north", -4_999_999, "admin", "fees"))
    post(demo_url, "2026-02-03T10:00Z", "adjustment", Moved("alice", 15, "admin", "adjustments"))
    call(demo_url, "2026-02-04T10:00Z", cora=100, coast=90, north=80, acme=70)
    return sky


def rows(ran: Ran) -> list[dict[str, str]]:
    assert ran.status == 0, ran.err
    return list(csv.DictReader(io.StringIO(ran.out)))


def balances(lines: Iterable[dict[str, str]]) -> dict[tuple[str, str], Decimal]:
    """Debit less credit, by account and currency; those that are nothing left out."""
    sums: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for line in lines:
        sums[line["account"], line["currency"]] += Decimal(line["debit"] or 0)
        sums[line["account"], line["currency"]] -= Decimal(line["credit"] or 0)
    return {key: value for key, value in sums.items() if value}


def in_ledger(url: str, owner: str, begin: str, end: str) -> dict[tuple[str, str], Decimal]:
    """What the bookkeepers' view says of an owner's books in a period, plus being debit."""
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        cursor.execute(
            """
            SELECT account.code,
                   ledger_entry.book,
                   ledger_entry.currency,
                   -sum(ledger_entry.amount_micros)
              FROM ledger_entry
              JOIN ledger_transaction USING (transaction_id)
              JOIN posting USING (transaction_id, position)
              JOIN account ON account.account_id = ledger_entry.account_id
             WHERE posting.contra_account_id = (SELECT account_id FROM account WHERE code = %s)
               AND posted_at >= %s AND posted_at < %s
             GROUP BY 1, 2, 3
            """,
            (owner, begin, end),
        )
        return {
            (code if book == "balance" else book, currency): Decimal(micros).scaleb(-6)
            for code, book, currency, micros in cursor.fetchall()
            if micros
        }


def bean_check(text: str, tmp_path: Path) -> str:
    """What `bean-check` complains of; '' for nothing."""
    file = tmp_path / "journal.beancount"
    file.write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [BEAN_CHECK, "--no-cache", file], capture_output=True, text=True, check=False
    )
    assert bool(ran.returncode) == bool(ran.stderr), ran
    return ran.stderr


# ------------------------------------------------------------------ csv


@pytest.mark.parametrize("per", ["day", "transaction"])
def test_the_journal_balances_and_comes_to_the_ledger(books: Sky, demo_url: str, per: str) -> None:
    ran = books("export", "journal", *JANUARY, "--per", per)
    assert "USD: debit " in ran.err
    assert "difference 0.000000; to the ledger 0.000000" in ran.err
    found = balances(rows(ran))
    assert sum(found.values()) == 0
    expected = in_ledger(demo_url, "admin", "2026-01-01", "2026-02-01")
    names = {
        "Assets:Customers:Alice": "alice", "Assets:Customers:Bob": "bob",
        "Assets:Resellers:North": "north", "Liabilities:Providers:Acme": "acme",
        "Assets:Cash": "cash", "Income:Sales": "sales", "Expenses:Purchases": "purchases",
    }  # fmt: skip
    assert {(names[name], currency): sum_ for (name, currency), sum_ in found.items()} == expected


def test_a_day_is_the_sum_of_its_transactions(books: Sky) -> None:
    by_day = rows(books("export", "journal", *JANUARY))
    singly = rows(books("export", "journal", *JANUARY, "--per", "transaction"))
    assert balances(by_day) == balances(singly)
    assert len(by_day) < len(singly)
    [sales] = [
        line for line in by_day
        if line["date"] == "2026-01-10" and line["account"] == "Income:Sales"
    ]  # fmt: skip
    assert (sales["credit"], sales["postings"], sales["transaction"]) == ("0.061002", "2", "")
    assert singly[0]["reference"].startswith("payment ü")


def test_days_are_those_of_the_time_zone(books: Sky) -> None:
    words = ("export", "journal", *JANUARY, "--time-zone", "Europe/Madrid")
    assert "Assets:Customers:Bob" not in {line["account"] for line in rows(books(*words))}
    february = ("export", "journal", *FEBRUARY, "--time-zone", "Europe/Madrid")
    [bob] = [line for line in rows(books(*february)) if line["account"] == "Assets:Customers:Bob"]
    assert (bob["date"], bob["credit"]) == ("2026-02-01", "7.250000")


def test_a_month_is_named_as_reports_name_it(books: Sky) -> None:
    named = books("export", "journal", "--period", "2026-01")
    assert named.out == books("export", "journal", *JANUARY).out
    assert len(rows(named)) > 1
    both = books("export", "journal", "--period", "2026-01", *FEBRUARY)
    assert (both.status, both.out) == (2, "")
    assert "--period is one way to name a time, --from and --to another" in both.err


def test_what_is_entered_late_stands_where_it_was_posted(books: Sky, demo_url: str) -> None:
    before = books("export", "journal", *JANUARY).out
    post(
        demo_url,
        "2026-02-05T10:00Z",
        "payment",
        Moved("alice", 5_000_000, "admin", "cash"),
        happened="2026-01-20T10:00Z",
    )
    assert books("export", "journal", *JANUARY).out == before
    words = ("export", "journal", *FEBRUARY, "--per", "transaction")
    [late] = [line for line in rows(books(*words)) if line["debit"] == "5.000000"]
    assert (late["date"], late["at"]) == ("2026-02-05", "2026-01-20T10:00:00+00:00")


# ------------------------------------------------------------------ whose books


def test_a_resellers_books_are_its_sales_and_what_it_buys(books: Sky) -> None:
    ran = books("--as", "coast", "export", "journal", *JANUARY)
    assert "EUR: debit 1.800000, credit 1.800000, difference 0.000000" in ran.err
    assert balances(rows(ran)) == {
        ("Assets:Customers:Cora", "USD"): Decimal("4.000070"),
        ("Assets:Customers:Carl", "EUR"): Decimal("-1.8"),
        ("Income:Sales", "USD"): Decimal("-2.000070"),
        ("Equity:Exchange", "USD"): Decimal("-2"),
        ("Equity:Exchange", "EUR"): Decimal("1.8"),
        ("Expenses:Purchases", "USD"): Decimal("0.880050"),
        ("Liabilities:Seller", "USD"): Decimal("-0.880050"),
    }


def test_a_reseller_sees_nobody_elses_books_nor_its_sellers_name(books: Sky) -> None:
    ran = books("--as", "coast", "export", "journal", *JANUARY, "--per", "transaction")
    shown = {line["account"] for line in rows(ran)} | {line["title"] for line in rows(ran)}
    assert not any(
        word in one.lower()
        for one in shown
        for word in ("north", "alice", "acme", "provider", "admin")
    )
    # What its reseller charges it is the other one's sale of the same amount.
    north = balances(rows(books("--as", "north", "export", "journal", *JANUARY)))
    assert north["Assets:Resellers:Coast", "USD"] == Decimal("0.880050")
    assert north["Expenses:Purchases", "USD"] == Decimal("0.610020")
    assert north["Liabilities:Seller", "USD"] == Decimal("-0.610020") + 90


def test_a_customer_keeps_no_books(books: Sky) -> None:
    ran = books("--as", "alice", "export", "journal", *JANUARY)
    assert (ran.status, ran.out) == (1, "")
    assert "alice is a customer and has no books here" in ran.err


def test_an_export_is_on_record(books: Sky, demo_url: str) -> None:
    books("--as", "coast", "export", "journal", *JANUARY)
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        cursor.execute(
            "SELECT subject, after ->> 'first_day' FROM audit_log WHERE action = 'export journal'"
        )
        assert cursor.fetchall() == [("coast", "2026-01-01")]


# ------------------------------------------------------------------ beancount


@pytest.mark.parametrize("per", ["day", "transaction"])
@pytest.mark.parametrize("months", [(), JANUARY, FEBRUARY], ids=["all", "january", "february"])
@pytest.mark.parametrize("eyes", [(), ("--as", "coast"), ("--as", "north")])
def test_bean_check_agrees(
    books: Sky, tmp_path: Path, per: str, months: tuple[str, ...], eyes: tuple[str, ...]
) -> None:
    ran = books(*eyes, "export", "journal", "--format", "beancount", *months, "--per", per)
    assert ran.status == 0, ran.err
    assert bean_check(ran.out, tmp_path) == ""


def test_a_period_opens_with_what_came_before(books: Sky) -> None:
    text = books("export", "journal", "--format", "beancount", *FEBRUARY).out
    opening = text.partition('"Opening balances"')[2].partition("\n\n")[0]
    assert "2026-01-31 open Assets:Customers:Alice" in text
    assert "  Assets:Resellers:North  -" in opening
    # What the demo had posted when it was made is of a later time than this period.
    assert "  Assets:Customers:Alice  -10.000000 USD" in opening
    assert (
        "2026-03-01 balance Assets:Customers:Alice  -10.000015 ~ 0.000000 USD" in text.splitlines()
    )


def test_bean_check_finds_one_micro_that_is_missing(books: Sky, tmp_path: Path) -> None:
    text = books("export", "journal", "--format", "beancount", *FEBRUARY).out
    entry = "  Assets:Customers:Alice  -0.000015 USD\n  Expenses:Adjustments  0.000015 USD"
    assert text.count(entry) == 1
    wrong = text.replace(entry, entry.replace("15", "14"))
    assert "Balance failed for 'Assets:Customers:Alice'" in bean_check(wrong, tmp_path)
    unbalanced = text.replace("Alice  -0.000015", "Alice  -0.000014")
    assert "does not balance" in bean_check(unbalanced, tmp_path)


def test_codes_and_texts_that_beancount_cannot_spell(
    books: Sky, demo_url: str, tmp_path: Path
) -> None:
    for code in ("Alice", "ünder_score", "4711", "@"):
        books("account", "add", code, "--kind", "customer", "--prepaid", "--currency", "USD")
        post(
            demo_url,
            "2026-02-03T10:00Z",
            "adjustment",
            Moved(code, 1_000_000, "admin", "adjustments"),
            note='He said "no"\nand \\ went',
        )
    for per in ("day", "transaction"):
        ran = books("export", "journal", "--format", "beancount", *FEBRUARY, "--per", per)
        assert bean_check(ran.out, tmp_path) == ""
    names = {line.split()[2] for line in ran.out.splitlines() if " open Assets:Cust" in line}
    assert len(names) == 6
    assert {"Assets:Customers:Alice", "Assets:Customers:4711"} < names


# ------------------------------------------------------------------ DATEV


class Batch(NamedTuple):
    """What was written for DATEV, and said of it."""

    head: list[str]
    lines: list[dict[str, str]]
    err: str


def datev(sky: Sky, file: Path | str, *words: str, eyes: tuple[str, ...] = ()) -> Batch:
    """A batch by the account map in `file`."""
    out = Path(file).with_suffix(".csv")
    words = ("--format", "datev", "--account-map", str(file), "--out", str(out), *words)
    ran = sky(*eyes, "export", "journal", *words)
    assert ran.status == 0, ran.err
    text = out.read_bytes().decode("cp1252")
    head, *lines = csv.reader(io.StringIO(text), delimiter=";")
    assert lines[0] == COLUMNS
    return Batch(head, [dict(zip(COLUMNS, line, strict=True)) for line in lines[1:]], ran.err)


def cents(text: str) -> int:
    units, _, rest = text.partition(",")
    assert len(rest) == 2
    return int(units) * 100 + int(rest)


def booked(lines: list[dict[str, str]]) -> dict[str, int]:
    """Cents by account, plus being debit."""
    sums: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        sign = {"S": 1, "H": -1}[line["Soll/Haben-Kennzeichen"]]
        amount = sign * cents(line["Umsatz (ohne Soll/Haben-Kz)"])
        assert amount
        sums[line["Konto"]] += amount
        sums[line["Gegenkonto (ohne BU-Schlüssel)"]] -= amount
    return dict(sums)


@pytest.fixture
def datev_map(tmp_path: Path) -> str:
    file = tmp_path / "map.toml"
    file.write_text(DATEV_MAP)
    return str(file)


def test_a_datev_batch_has_its_header_and_all_columns(books: Sky, datev_map: str) -> None:
    head, lines, _ = datev(books, datev_map, *JANUARY, "--per", "transaction")
    assert len(COLUMNS) == 125
    assert len(head) == 31
    assert head[:5] == ["EXTF", "700", "21", "Buchungsstapel", "13"]
    assert len(head[5]) == 17
    assert head[10:16] == ["12345", "7", "20260101", "4", "20260101", "20260131"]
    assert (head[21], head[26]) == ("USD", "04")
    [alice] = [line for line in lines if "Alice" in line["Buchungstext"]]
    assert alice["Umsatz (ohne Soll/Haben-Kz)"] == "10,00"
    assert alice["Soll/Haben-Kennzeichen"] == "H"
    assert alice["Gegenkonto (ohne BU-Schlüssel)"] == "1800"
    assert alice["Belegdatum"] == "0501"
    assert alice["Belegfeld 1"].startswith("payment--1")


@pytest.mark.parametrize("per", ["day", "transaction"])
def test_cents_tie_to_micros_month_after_month(
    books: Sky, demo_url: str, datev_map: str, per: str
) -> None:
    sums: defaultdict[str, int] = defaultdict(int)
    for month in (JANUARY, FEBRUARY):
        batch = datev(books, datev_map, *month, "--per", per)
        assert "difference 0.000000; to the ledger 0.000000" in batch.err
        for account, amount in booked(batch.lines).items():
            sums[account] += amount
    exact = in_ledger(demo_url, "admin", "2026-01-01", "2026-03-01")
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        numbers = personal_accounts(cursor)
    names = {"cash": "1800", "sales": "4200", "purchases": "5900", "adjustments": "4700"}
    expected: defaultdict[str, Decimal] = defaultdict(Decimal)
    for (name, _), exactly in exact.items():
        expected[names.get(name) or numbers.get(name) or "4200"] += exactly
    rounding = sums.pop("6300", 0)
    for account, exactly in expected.items():
        assert abs(exactly * 100 - sums.pop(account, 0)) <= Decimal("0.5"), account
    assert not any(sums.values())
    assert abs(rounding) <= len(expected)


def personal_accounts(cursor: Cursor) -> dict[str, str]:
    cursor.execute("SELECT code, kind, account_id FROM account")
    return {
        code: str(number + (70_000 if kind == "provider" else 10_000))
        for code, kind, number in cursor.fetchall()
    }


def test_a_datev_file_is_windows_1252_with_crlf(
    books: Sky, demo_url: str, datev_map: str, tmp_path: Path
) -> None:
    note = "Müller zahlt 5 € in Łódź"
    moved = Moved("alice", 5_000_000, "admin", "cash")
    post(demo_url, "2026-01-07T10:00Z", "payment", moved, note=note)
    out = tmp_path / "EXTF_Buchungsstapel.csv"
    words = ("--format", "datev", "--account-map", datev_map, "--per", "transaction")
    ran = books("export", "journal", *JANUARY, *words, "--out", str(out), "-o", "json")
    assert ran.json["rounding_account"] == "6300"
    octets = out.read_bytes()
    assert octets.startswith(b'"EXTF";700;21;"Buchungsstapel";13;')
    assert "Müller zahlt 5 € in ?ód?".encode("cp1252") in octets
    assert octets.count(b"\n") == octets.count(b"\r\n")
    assert [one.name for one in tmp_path.glob(".EXTF*")] == []


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("", (), "give consultant (1001 to 9999999) and client"),
        (
            DATEV_MAP,
            ("--from", "2025-12-01", "--to", "2026-02-01"),
            "one begins between 2025-12-01 and",
        ),
        (DATEV_MAP + 'year_begins = "01-20"', JANUARY, "one begins between 2026-01-01 and"),
        (
            DATEV_MAP + "account_length = 6",
            JANUARY,
            "is no DATEV account: 6 digits, or 7 for a person's",
        ),
        (DATEV_MAP + '[book]\nsales = "Sales"', JANUARY, "'Sales' (Sales) is no DATEV account"),
    ],
)
def test_what_datev_would_not_take_is_refused(
    books: Sky, tmp_path: Path, text: str, words: tuple[str, ...], expected: str
) -> None:
    file = tmp_path / "map.toml"
    file.write_text(text)
    ran = books(
        "export", "journal", "--format", "datev", "--account-map", str(file), *(words or JANUARY)
    )
    assert (ran.status, ran.out) == (2, "")
    assert expected in ran.err


def test_a_datev_batch_has_one_currency(books: Sky, datev_map: str) -> None:
    words = ("--as", "coast", "export", "journal", "--format", "datev", *JANUARY)
    ran = books(*words, "--account-map", datev_map)
    assert ran.status == 2
    assert "one currency, and the period has EUR, USD: say which: --currency EUR" in ran.err
    batch = datev(books, datev_map, *JANUARY, "--currency", "EUR", eyes=("--as", "coast"))
    assert batch.head[21] == "EUR"
    [line] = batch.lines
    assert (line["Umsatz (ohne Soll/Haben-Kz)"], line["WKZ Umsatz"]) == ("1,80", "EUR")


def test_a_tax_key_stands_with_its_book(books: Sky, tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text(DATEV_MAP + '[bu_key]\nsales = "40"\n')
    lines = datev(books, file, *JANUARY).lines
    keys = {line["Gegenkonto (ohne BU-Schlüssel)"]: line["BU-Schlüssel"] for line in lines}
    assert (keys["4200"], keys["1800"]) == ("40", "")


# ------------------------------------------------------------------ account maps


@pytest.mark.parametrize("base", ["names", "skr03", "skr04"])
def test_every_book_of_the_ledger_has_its_account(
    books: Sky, demo_url: str, tmp_path: Path, base: str
) -> None:
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        cursor.execute(
            """
            SELECT regexp_matches(pg_get_constraintdef(oid), $$'([a-z]+)'$$, 'g')
              FROM pg_constraint
             WHERE conname = 'posting_contra_book_check'
            """
        )
        there_are = [row[0][0] for row in cursor.fetchall()]
    assert {"sales", "tax", "cards"} < set(there_are)
    for seller, buyer in (("admin", "north"), ("north", "nora")):
        # A provider sells to the operator alone, and a card is nobody's reseller.
        bought = [book for book in there_are if book not in ("purchases", "cards")]
        moves = [Moved(buyer, -1_000_001, seller, book) for book in bought]
        post(demo_url, "2026-01-09T10:00Z", "adjustment", *moves)
    moves = [Moved("alice", 5, "admin", "cards"), Moved("acme", 5, "admin", "purchases")]
    post(demo_url, "2026-01-09T10:00Z", "adjustment", *moves)
    file = tmp_path / "map.toml"
    file.write_text(f'base = "{base}"\n')
    for eyes in ((), ("--as", "north")):
        ran = books(*eyes, "export", "journal", *JANUARY, "--account-map", str(file))
        assert ran.status == 0, ran.err
        assert "difference 0.000000; to the ledger 0.000000" in ran.err


def test_a_text_is_no_formula(books: Sky, demo_url: str) -> None:
    moved = Moved("alice", 5_000_000, "admin", "cash")
    post(demo_url, "2026-01-07T10:00Z", "payment", moved, note="=1+1")
    words = ("export", "journal", *JANUARY, "--per", "transaction")
    texts = {line["text"] for line in rows(books(*words))}
    assert "'=1+1" in texts


def test_one_line_of_a_map_changes_one_account(books: Sky, tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text(
        '[account]\nalice = "Assets:Vip"\n[party]\ncustomer = "Assets:Receivable"\n'
        '[book]\ncash = { USD = "Assets:Bank-Dollar", EUR = "Assets:Bank-Euro" }\n'
    )
    found = balances(rows(books("export", "journal", *JANUARY, "--account-map", str(file))))
    assert found["Assets:Vip", "USD"] == -10
    assert found["Assets:Receivable", "USD"] == Decimal("-7.25")
    assert found["Assets:Bank-Dollar", "USD"] == Decimal("107.25")


def test_many_parties_of_one_account_are_one_line_a_day(
    books: Sky, demo_url: str, tmp_path: Path
) -> None:
    for code in ("alice", "bob"):
        moved = Moved(code, 1_000_000, "admin", "cash")
        post(demo_url, "2026-01-08T10:00Z", "payment", moved)
    file = tmp_path / "map.toml"
    file.write_text('[party]\ncustomer = "Assets:Receivable"\n')
    lines = rows(books("export", "journal", *JANUARY, "--account-map", str(file)))
    [line] = [
        one for one in lines
        if one["date"] == "2026-01-08" and one["account"] == "Assets:Receivable"
    ]  # fmt: skip
    assert (line["credit"], line["postings"], line["title"]) == ("2.000000", "2", "")


def test_what_has_no_account_is_named(books: Sky, tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text('base = "none"\n[party]\ncustomer = "1"\n[book]\ncash = {EUR = "2"}\n')
    ran = books("export", "journal", *JANUARY, "--account-map", str(file))
    assert (ran.status, ran.out) == (2, "")
    for name in (
        "[book] cash (USD)",
        "[book] sales (USD)",
        "[book] purchases (USD)",
        "[party] reseller or [account] north (USD)",
        "[party] provider or [account] acme (USD)",
    ):
        assert name in ran.err
    assert "alice" not in ran.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[book", "no TOML"),
        ('base = "skr05"', "'skr05': there are names, skr03, skr04, none"),
        ('[books]\nsales = "1"', "books: unknown, did you mean book?"),
        ('[book]\nsale = "1"', "[book] sale: unknown, did you mean sales?"),
        ("[book]\nsales = 4200", "an account as a text is expected"),
        ('[book]\nsales = "{id}"', "can stand in accounts of parties"),
        ('[party]\ncustomer = "{name}"', "nothing else in braces"),
        ("party = 1", "party is a table: [party]"),
        ("[datev]\nconsultant = 5", "[datev] consultant: a number from 1001 to 9999999, not 5"),
        ('[datev]\nyear_begins = "31-12"', "'07-01' is the first of July"),
        ('[bu_key]\nsales = "x"', "[bu_key] sales: 1 to 4 digits"),
        ('[party]\ncustomer = "{code}"\n[account]\nbob = "Alice"', ""),
    ],
)
def test_a_mistake_in_a_map_is_told(books: Sky, tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "map.toml"
    file.write_text(text)
    ran = books("export", "journal", *JANUARY, "--account-map", str(file))
    assert ran.status == (2 if expected else 0)
    assert expected in ran.err


def test_an_account_that_beancount_would_not_take_is_refused(books: Sky, tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text('[book]\nsales = "Sales"\n')
    words = ("export", "journal", "--format", "beancount", *JANUARY, "--account-map", str(file))
    ran = books(*words)
    assert (ran.status, ran.out) == (2, "")
    assert "'Sales' is no account of beancount" in ran.err


def test_two_parties_do_not_fall_into_one_account(books: Sky, demo_url: str) -> None:
    codes = ("x.y", "account.of.number")
    for code in codes:
        books("account", "add", code, "--kind", "customer", "--prepaid", "--currency", "USD")
    with contextlib.closing(connect(demo_url)) as connection, transaction(connection) as cursor:
        cursor.execute("SELECT account_id FROM account WHERE code = 'x.y'")
        [[number]] = cursor.fetchall()
    twin = f"x-y-{number}"
    books("account", "add", twin, "--kind", "customer", "--prepaid", "--currency", "USD")
    for code in ("x.y", twin):
        post(demo_url, "2026-01-08T10:00Z", "payment", Moved(code, 1, "admin", "cash"))
    ran = books("export", "journal", *JANUARY)
    assert ran.status == 2
    assert f"would both be Assets:Customers:X-y-{number}" in ran.err


@pytest.mark.parametrize("base", ["names", "skr03", "skr04"])
def test_a_shipped_chart_is_a_map(books: Sky, tmp_path: Path, base: str) -> None:
    file = tmp_path / "map.toml"
    file.write_text(books("export", "account-map", "--base", base).out)
    ran = books("export", "journal", *JANUARY, "--account-map", str(file))
    assert ran.status == 0, ran.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--from", "2026-13-01"), "is no instant"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "before it begins"),
        (("--format", "xml"), "'xml' is not one of"),
        (("--account-map", "/nowhere.toml"), "does not exist"),
    ],
)
def test_a_mistake_in_words_is_told(books: Sky, words: tuple[str, ...], expected: str) -> None:
    ran = books("export", "journal", *words)
    assert (ran.status, ran.out) == (2, "")
    assert expected in ran.err


def test_a_period_without_postings_is_an_empty_journal(books: Sky, tmp_path: Path) -> None:
    words = ("--from", "2024-01-01", "--to", "2024-02-01")
    ran = books("export", "journal", *words)
    assert rows(ran) == []
    assert "nothing was posted" in ran.err
    ran = books("export", "journal", "--format", "beancount", *words)
    assert bean_check(ran.out, tmp_path) == ""


def test_a_file_is_whole_or_not_there(
    books: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, datev_map: str
) -> None:
    monkeypatch.setattr("web_reports.journal.datev.LINES_MAX", 3)
    out = tmp_path / "batch.csv"
    words: Any = ("--format", "datev", "--account-map", datev_map, "--out", str(out))
    ran = books("export", "journal", *JANUARY, *words)
    assert ran.status == 2
    assert "at most 3 lines" in ran.err
    assert [one.name for one in tmp_path.iterdir() if "batch" in one.name] == []
