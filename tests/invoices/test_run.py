"""A run: what is billed, once, with which number, and what the books say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.storage import audit
from aaa_server.storage.database import transaction

if TYPE_CHECKING:
    from tests.invoices.conftest import Sky, World

OCTOBER = ("--period", "2026-10")


def invoice_of(sky: Sky, code: str) -> Any:
    listed = sky("invoice", "list", "--account", code, "-o", "json").json
    return sky("invoice", "show", listed[-1]["number"], "-o", "json").json


def books(world: World) -> dict[str, int]:
    return dict(
        world.ask(
            """
            SELECT contra_book, -sum(posting.amount_micros)::bigint
              FROM posting
              JOIN ledger_transaction USING (transaction_id)
             WHERE kind IN ('invoice', 'credit-note')
             GROUP BY contra_book
            """
        )
    )


def balance(world: World, code: str) -> int:
    return int(world.ask("SELECT balance_micros FROM account WHERE code = %s", code)[0][0])


def assert_proved(world: World) -> None:
    with transaction(world.connection) as cursor:
        found = [one for proved in audit.prove(cursor) for one in proved.differences]
    assert found == []


def test_the_worked_case_ties_to_the_last_micro(ready: Sky, world: World) -> None:
    world.call(("alice", 100_000_000), prefix="34")
    world.call(("alice", 23_456_789), prefix="44")
    ran = ready("invoice", "run", *OCTOBER, "-o", "json")
    assert ran.status == 0, ran.err
    (row,) = ran.json
    assert row["number"] == "INV-2026-00001"
    assert (row["net"], row["tax"], row["total"]) == ("123.460000", "25.930000", "149.390000")
    assert books(world) == {"rounding": 3_211, "tax": 25_930_000}
    assert balance(world, "alice") == -149_390_000
    shown = invoice_of(ready, "alice")
    assert shown["amount_due"] == shown["open"] == "149.390000"
    assert [line["description"] for line in shown["lines"]] == ["Spain", "United Kingdom"]
    assert_proved(world)


def test_a_run_again_changes_nothing(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    ready("invoice", "run", *OCTOBER)
    before = world.ask("SELECT * FROM invoice"), balance(world, "alice")
    again = ready("invoice", "run", *OCTOBER, "-o", "json")
    assert [row["what"] for row in again.json] == ["issued before"]
    assert (world.ask("SELECT * FROM invoice"), balance(world, "alice")) == before


def test_what_came_late_is_billed_with_the_next_and_flagged(ready: Sky, world: World) -> None:
    first = world.call(("alice", 1_000_000), at="2026-09-20T10:00:00Z")
    ready("invoice", "run", "--period", "2026-09")
    # Corrected, and another one only told of, when September was invoiced.
    world.charge(first, ("alice", 500_000), at="2026-10-02T10:00:00Z", number=2)
    world.call(("alice", 250_000), at="2026-10-03T10:00:00Z", ended="2026-09-30T10:00:00Z")
    world.call(("alice", 2_000_000), at="2026-10-04T10:00:00Z")
    ready("invoice", "run", *OCTOBER)
    lines = invoice_of(ready, "alice")["lines"]
    assert [(line["kind"], line["exact"]) for line in lines] == [
        ("usage", "2.000000"),
        ("correction", "0.750000"),
    ]
    assert world.ask("SELECT count(*) FROM charge WHERE invoice_line_id IS NULL") == [(0,)]
    assert_proved(world)


def test_months_are_those_of_the_issuer_s_clock(ready: Sky, world: World) -> None:
    # Madrid is two hours ahead: this is the first of October there.
    world.call(("alice", 1_000_000), at="2026-09-30T22:30:00Z")
    world.call(("alice", 2_000_000), at="2026-10-31T22:59:59Z")
    world.call(("alice", 4_000_000), at="2026-10-31T23:00:00Z")
    ready("invoice", "run", *OCTOBER)
    assert invoice_of(ready, "alice")["net"] == "3.000000"


def test_fees_are_billed_once(ready: Sky, world: World) -> None:
    world.fee("alice", 5_000_000, "DID 34910000002, 2026-10-01 to 2026-11-01")
    world.fee("alice", -1_000_000, "line, ends 2026-10-20: days not used")
    world.call(("alice", 1_000_000))
    ready("invoice", "run", *OCTOBER)
    shown = invoice_of(ready, "alice")
    assert shown["net"] == "5.000000"
    assert [line["kind"] for line in shown["lines"]] == ["usage", "fee", "fee"]
    fee = world.ask("SELECT transaction_id, position, invoice_line_id FROM invoice_fee")[0]
    with pytest.raises(psycopg2.errors.UniqueViolation):
        world.ask("INSERT INTO invoice_fee VALUES (%s, %s, %s) RETURNING 1", *fee)
    assert_proved(world)


def test_a_reseller_invoices_under_its_own_name_and_numbers(ready: Sky, world: World) -> None:
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    retail = ready("--as", "north", "invoice", "run", *OCTOBER, "-o", "json").json
    wholesale = ready("invoice", "run", *OCTOBER, "-o", "json").json
    assert [(row["account"], row["number"], row["total"]) for row in retail] == [
        ("cora", "NT2026/00001", "2.380000")
    ]
    # The operator invoices the reseller, who owes the tax itself.
    assert [(row["account"], row["number"], row["total"]) for row in wholesale] == [
        ("north", "INV-2026-00001", "1.000000")
    ]
    assert invoice_of(ready, "north")["taxes"][0]["category"] == "AE"
    assert ready("--as", "cora", "invoice", "show", "NT2026/00001").status == 0
    for number in ("INV-2026-00001",):
        assert ready("--as", "cora", "invoice", "show", number).status == 1
    assert_proved(world)


def test_a_prepaid_account_has_paid_already(ready: Sky, world: World) -> None:
    ready("account", "top-up", "bob", "10.00", "--reference", "first")
    world.call(("bob", 1_234_567))
    before = balance(world, "bob")
    ready("invoice", "run", *OCTOBER)
    shown = invoice_of(ready, "bob")
    assert (shown["total"], shown["tax"], shown["status"]) == ("1.230000", "0.210000", "paid")
    assert (shown["open"], shown["amount_due"]) == ("0.000000", "0.000000")
    assert balance(world, "bob") == before
    assert books(world) == {"rounding": -4_567, "sales": -205_433, "tax": 210_000}
    assert_proved(world)


def test_yen_have_no_cents(ready: Sky, world: World) -> None:
    world.call(("yuki", 123_500_000))
    ready("invoice", "run", *OCTOBER)
    shown = invoice_of(ready, "yuki")
    assert (shown["total"], shown["rounding"]) == ("124.000000", "0.500000")
    assert shown["taxes"][0]["note"] == "Export of services, article 69"


def test_a_discount_is_a_line_and_money(ready: Sky, world: World) -> None:
    ready("billing", "set", "alice", "--discount", "10")
    world.call(("alice", 10_000_000))
    world.fee("alice", 5_000_000, "line")
    ready("invoice", "run", *OCTOBER)
    shown = invoice_of(ready, "alice")
    assert (shown["net"], shown["total"]) == ("14.000000", "16.940000")
    assert balance(world, "alice") == -16_940_000
    assert_proved(world)


def test_previous_balance_payments_and_amount_due(ready: Sky, world: World) -> None:
    world.call(("alice", 100_000_000), at="2026-09-10T10:00:00Z")
    ready("invoice", "run", "--period", "2026-09")
    ready("account", "top-up", "alice", "50.00", "--reference", "half")
    world.call(("alice", 10_000_000))
    ready("invoice", "run", *OCTOBER)
    shown = invoice_of(ready, "alice")
    assert (shown["previous_balance"], shown["total"]) == ("121.000000", "12.100000")
    assert shown["amount_due"] == "83.100000"
    assert balance(world, "alice") == -83_100_000
    # The payment went to the older one.
    listed = ready("invoice", "list", "--account", "alice", "-o", "json").json
    assert [(one["status"], one["open"]) for one in listed] == [
        ("part-paid", "71.000000"),
        ("issued", "12.100000"),
    ]


def test_a_draft_has_no_number_and_is_made_anew(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    ready("invoice", "run", *OCTOBER, "--draft")
    assert world.ask("SELECT number, status FROM invoice") == [(None, "draft")]
    world.call(("alice", 2_000_000))
    rehearsed = ready("invoice", "run", *OCTOBER, "--dry-run", "-o", "json").json
    assert rehearsed[0]["what"] == "draft changes from 1.210000 to 3.630000"
    ready("invoice", "run", *OCTOBER, "--draft")
    (draft,) = ready("invoice", "list", "-o", "json").json
    assert draft["total"] == "3.630000"
    issued = ready("invoice", "issue", draft["number"], "-o", "json")
    assert issued.json["number"] == "INV-2026-00001"
    assert ready("invoice", "issue", "INV-2026-00001").status == 1


def test_a_dry_run_changes_nothing(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    ran = ready("invoice", "run", *OCTOBER, "--dry-run", "-o", "json")
    assert [(row["what"], row["total"]) for row in ran.json] == [("new", "1.210000")]
    assert world.ask("SELECT count(*) FROM invoice") == [(0,)]
    assert world.ask("SELECT count(*) FROM charge WHERE invoice_line_id IS NULL") == [(1,)]


def test_a_missing_address_stops_the_run_before_the_first_number(sky: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    world.call(("cora", 2_000_000), ("north", 1_000_000))
    ran = sky("invoice", "run", *OCTOBER)
    assert ran.status == 1
    assert "alice: its seller admin has no name, street, city, country" in ran.err
    assert "north: its seller admin" in ran.err
    assert world.ask("SELECT count(*) FROM invoice") == [(0,)]
    assert world.ask("SELECT count(*) FROM invoice_counter") == [(0,)]


def test_an_overlapping_period_is_refused_with_the_number(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    ready("invoice", "run", *OCTOBER)
    world.call(("alice", 1_000_000), at="2026-10-16T12:00:00Z")
    for how in ((), ("--dry-run",), ("--draft",)):
        ran = ready("invoice", "run", "--period", "2026-10-16", *how)
        assert ran.status == 1
        assert "INV-2026-00001" in ran.err
        assert "never overlap" in ran.err
    # The database says so too, whatever a program thinks.
    with pytest.raises(psycopg2.errors.ExclusionViolation):
        world.ask(
            """
            INSERT INTO invoice (issuer_id, account_id, currency, period_name, period_from,
                                 period_to, time_zone, prepaid, inclusive, raw_micros, net_micros,
                                 tax_micros, total_micros, language)
            SELECT issuer_id, account_id, currency, 'x', period_from, period_from + interval '1 h',
                   time_zone, prepaid, inclusive, 0, 0, 0, 0, language
              FROM invoice
         RETURNING 1
            """
        )


def test_a_period_that_is_not_over_is_refused(ready: Sky) -> None:
    ran = ready("invoice", "run", "--period", "2999-01")
    assert ran.status == 2
    assert "not over" in ran.err


def test_what_was_issued_cannot_be_changed(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    ready("invoice", "run", *OCTOBER)
    for sql in (
        "UPDATE invoice SET total_micros = 1, net_micros = 1, tax_micros = 0 RETURNING 1",
        "UPDATE invoice SET seller = '{}' RETURNING 1",
        "DELETE FROM invoice RETURNING 1",
        "UPDATE invoice_line SET amount_micros = 1 RETURNING 1",
        "DELETE FROM invoice_tax RETURNING 1",
        "UPDATE charge SET invoice_line_id = NULL RETURNING 1",
        "UPDATE charge SET amount_micros = 1 RETURNING 1",
    ):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            world.ask(sql)


def test_a_void_invoice_s_calls_are_billed_again(ready: Sky, world: World) -> None:
    world.call(("alice", 1_234_567))
    world.fee("alice", 5_000_000, "line")
    ready("invoice", "run", *OCTOBER)
    voided = ready("invoice", "void", "INV-2026-00001", "--reason", "wrong address", "-o", "json")
    assert voided.json["number"] == "CN-2026-00001"
    assert balance(world, "alice") == -6_234_567
    assert books(world) == {"rounding": 0, "tax": 0}
    assert_proved(world)
    ready("invoice", "run", *OCTOBER)
    listed = ready("invoice", "list", "--account", "alice", "-o", "json").json
    assert [(one["number"], one["status"], one["total"]) for one in listed] == [
        ("INV-2026-00001", "void", "7.540000"),
        ("CN-2026-00001", "paid", "7.540000"),
        ("INV-2026-00002", "issued", "7.540000"),
    ]
    assert invoice_of(ready, "alice")["amount_due"] == "7.540000"
    assert ready("invoice", "void", "INV-2026-00001", "--reason", "again").status == 1
    assert_proved(world)


def test_a_part_is_credited_with_its_tax(ready: Sky, world: World) -> None:
    world.call(("alice", 100_000_000))
    ready("invoice", "run", *OCTOBER)
    ready("invoice", "pay", "INV-2026-00001", "121.00", "--reference", "all")
    ran = ready("invoice", "credit", "INV-2026-00001", "10.00", "--reason", "outage", "-o", "json")
    assert (ran.json["number"], ran.json["total"]) == ("CN-2026-00001", "12.100000")
    assert balance(world, "alice") == 12_100_000
    for amount, status in (("0.001", 2), ("-1", 2), ("95", 1)):
        ran = ready("invoice", "credit", "--reason", "x", "--", "INV-2026-00001", amount)
        assert ran.status == status, ran.err
    assert ready("invoice", "void", "INV-2026-00001", "--reason", "x").status == 1
    # What was paid too much pays the next one.
    world.call(("alice", 10_000_000), at="2026-10-20T10:00:00Z")
    assert world.ask(
        "SELECT sum(amount_micros)::bigint FROM invoice_payment WHERE released_at IS NULL"
    ) == [(108_900_000,)]
    assert_proved(world)


def test_payments_make_it_part_paid_and_paid(ready: Sky, world: World) -> None:
    world.call(("alice", 100_000_000))
    ready("invoice", "run", *OCTOBER)
    part = ready("invoice", "pay", "INV-2026-00001", "21", "--reference", "a", "-o", "json").json
    assert (part["status"], part["open"]) == ("part-paid", "100.000000")
    again = ready("invoice", "pay", "INV-2026-00001", "21", "--reference", "a", "-o", "json").json
    assert (again["posted"], again["open"]) == (False, "100.000000")
    paid = ready("invoice", "pay", "INV-2026-00001", "100", "--reference", "b", "-o", "json").json
    assert (paid["status"], paid["open"], paid["balance"]) == ("paid", "0.000000", "0.000000")
    # Money that goes back leaves it open.
    ready("account", "set", "alice", "--credit-limit", "1000")
    assert ready("payment", "refund", "b", "--method", "bank-transfer").status == 0
    world.call(("alice", 1_000_000), at="2026-11-01T10:00:00Z")
    listed = ready("invoice", "pay", "INV-2026-00001", "1", "--reference", "c", "-o", "json").json
    assert (listed["status"], listed["open"]) == ("part-paid", "99.000000")


def test_a_closed_period_stays_closed(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    refused = ready("period", "close", "2026-10")
    assert refused.status == 1
    assert "alice has what no invoice bills" in refused.err
    ready("invoice", "run", *OCTOBER)
    closed = ready("period", "close", "2026-10", "-o", "json")
    assert closed.json["totals"] == ["EUR: 1 invoices, 1.000000 + 0.210000 tax = 1.210000"]
    again = ready("invoice", "run", *OCTOBER)
    assert (again.status, "is closed" in again.err) == (1, True)
    assert ready("period", "close", "2026-10").status == 1
    assert len(ready("period", "list", "-o", "json").json) == 1
