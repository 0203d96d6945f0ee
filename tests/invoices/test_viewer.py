"""Who sees what of invoices: by the command line, and an attacker with SQL."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.storage import viewer
from aaa_server.storage.database import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import cursor as Cursor

    from tests.invoices.conftest import Sky, World

OCTOBER = ("--period", "2026-10")
DENIED = psycopg2.errors.InsufficientPrivilege
TABLES = (
    "issuer", "issuer_logo", "billing_profile", "tax_rate", "invoice", "invoice_tax",
    "invoice_line", "invoice_fee", "invoice_released", "invoice_payment", "invoice_document",
    "invoice_mail", "dunning_step", "closed_period",
)  # fmt: skip


@pytest.fixture
def invoiced(ready: Sky, world: World) -> Sky:
    """Everybody has an invoice; north has a draft for cora as well."""
    world.call(("alice", 1_000_000), at="2026-09-15T10:00:00Z")
    world.call(("cora", 2_000_000), ("north", 1_000_000), at="2026-09-15T10:00:00Z", prefix="49")
    for who in ((), ("--as", "north")):
        assert ready(*who, "invoice", "run", "--period", "2026-09").status == 0
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    ready("invoice", "run", *OCTOBER, "--draft")
    ready("--as", "north", "invoice", "run", *OCTOBER, "--draft")
    ready("issuer", "dunning", "admin", "7")
    for number in ("INV-2026-00001", "INV-2026-00002", "NT2026/00001"):
        ready("invoice", "pdf", number, "--out", "x.pdf")
    return ready


@pytest.fixture
def eyes(invoiced: Sky, database_url: str) -> Iterator[Any]:
    """SQL with somebody's role and nothing between it and the tables."""
    with contextlib.closing(connect(database_url)) as connection:

        def of(code: str) -> Cursor:
            connection.rollback()
            cursor = connection.cursor()
            viewer.enter(cursor, code)
            return cursor

        yield of
        connection.rollback()


def codes(cursor: Cursor) -> list[tuple[str, str]]:
    cursor.execute(
        """
        SELECT account.code, invoice.status
          FROM invoice
          JOIN account ON account.account_id = invoice.account_id
         ORDER BY 1, 2
        """
    )
    return cursor.fetchall()


def test_the_tables_show_a_viewer_its_tree_and_no_draft_from_above(eyes: Any) -> None:
    assert codes(eyes("north")) == [("cora", "draft"), ("cora", "issued"), ("north", "issued")]
    assert codes(eyes("cora")) == [("cora", "issued")]
    assert codes(eyes("alice")) == [("alice", "issued")]
    for code, own in (("north", 3), ("cora", 1), ("alice", 1)):
        cursor = eyes(code)
        for table in ("invoice_tax", "invoice_line"):
            cursor.execute("SELECT count(DISTINCT invoice_id) FROM " + table)  # noqa: S608
            assert cursor.fetchone() == (own,)
        cursor.execute("SELECT count(*) FROM dunning_step")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT count(*) FROM tax_rate")
        assert cursor.fetchone() == (1 if code == "north" else 0,)


@pytest.mark.parametrize("table", [*TABLES, "invoice_counter"])
def test_a_viewer_writes_none_of_them(eyes: Any, table: str) -> None:
    for sql in ("DELETE FROM " + table, "INSERT INTO " + table + " DEFAULT VALUES"):  # noqa: S608
        with pytest.raises(DENIED):
            eyes("north").execute(sql)


def test_a_viewer_bills_no_charge_by_hand(eyes: Any) -> None:
    with pytest.raises(DENIED):
        eyes("north").execute("UPDATE charge SET invoice_line_id = NULL")


def test_commands_are_for_the_seller(invoiced: Sky) -> None:
    refused = [
        ("--as", "cora", "invoice", "void", "NT2026/00001", "--reason", "x"),
        ("--as", "north", "invoice", "void", "INV-2026-00002", "--reason", "x"),
        ("--as", "north", "invoice", "void", "INV-2026-00001", "--reason", "x"),
        ("--as", "north", "issuer", "set", "admin", "--name", "Me"),
        ("--as", "north", "billing", "set", "north", "--treatment", "standard"),
        ("--as", "north", "billing", "set", "alice", "--city", "x"),
        ("--as", "cora", "issuer", "set", "cora", "--name", "x"),
        ("--as", "cora", "invoice", "run", *OCTOBER),
        ("--as", "north", "tax", "add", "FR", "VAT", "20", "--issuer", "admin"),
        ("--as", "alice", "invoice", "pdf", "NT2026/00001"),
        ("--as", "north", "invoice", "remind"),
    ]
    for words in refused:
        ran = invoiced(*words)
        assert ran.status == 1, (words, ran.out, ran.err)


def test_the_same_number_of_two_issuers_is_told_apart(ready: Sky, world: World) -> None:
    ready("issuer", "set", "north", "--series", "INV-2026-")
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    ready("invoice", "run", *OCTOBER)
    ready("--as", "north", "invoice", "run", *OCTOBER)
    own = ready("invoice", "show", "INV-2026-00001", "-o", "json").json
    assert own["account"] == "north"
    other = ready("invoice", "show", "INV-2026-00001", "--issuer", "north", "-o", "json").json
    assert other["account"] == "cora"
    assert ready("--as", "cora", "invoice", "show", "INV-2026-00001", "-o", "json").json["account"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("issuer", "set", "admin", "--iban", "ES00 1"), "no IBAN"),
        (("issuer", "set", "admin", "--vat-id", "ESB58378432"), "no VAT id of ES"),
        (("issuer", "set", "admin", "--country", "Spain"), "no country"),
        (("issuer", "set", "admin", "--series", "A B"), "no number series"),
        (("issuer", "set", "admin", "--series", "CN-2026-"), "different"),
        (("issuer", "set", "admin", "--colour", "red"), "no colour"),
        (("issuer", "set", "admin", "--logo", "sky-aaa.toml"), "PNG"),
        (("issuer", "set", "alice", "--name", "x"), "resellers issue"),
        (("issuer", "set", "admin"), "nothing to change"),
        (("billing", "set", "alice", "--treatment", "exempt"), "--exempt-reason"),
        (("billing", "set", "alice", "--treatment", "reverse-charge"), "VAT id"),
        (("billing", "set", "alice", "--vat-id", "ES123"), "no VAT id"),
        (("billing", "set", "carrier", "--city", "x"), "provider"),
        (("tax", "add", "ES", "VAT", "101", "--from", "2027-01-01"), "100"),
        (("tax", "add", "ES", "VAT", "20"), "already"),
        (("tax", "close", "FR", "VAT", "--on", "2027-01-01"), "no running rate"),
        (("invoice", "run", "--period", "nonsense"), "is no period"),
        (("invoice", "show", "nothing"), "no invoice"),
    ],
)
def test_bad_input_is_refused_with_the_reason(ready: Sky, words: tuple[str, ...], why: str) -> None:
    if "sky-aaa.toml" in words:
        with open("sky-aaa.toml", "w", encoding="utf-8") as file:
            file.write("# no picture\n")
    ran = ready(*words)
    assert ran.status in (1, 2)
    assert why in ran.err


def test_a_new_tax_rate_closes_the_one_before(ready: Sky, world: World) -> None:
    ready("tax", "add", "ES", "VAT", "10", "--from", "2026-10-01")
    listed = ready("tax", "list", "-o", "json").json
    assert [(one["rate"], one["from"], one["to"]) for one in listed] == [
        ("21", "2000-01-01", "2026-10-01"),
        ("10", "2026-10-01", None),
    ]
    world.call(("alice", 100_000_000))
    assert ready("invoice", "run", *OCTOBER, "-o", "json").json[0]["tax"] == "10.000000"


def test_profiles_are_shown_and_audited(ready: Sky, world: World) -> None:
    assert ready("issuer", "show", "admin", "-o", "json").json["missing"] == []
    assert ready("billing", "show", "north", "-o", "json").json["treatment"] == "reverse-charge"
    actions = {row[0] for row in world.ask("SELECT action FROM audit_log")}
    assert {"issuer set", "billing set", "tax add"} <= actions
