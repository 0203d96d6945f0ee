"""What pays an invoice: payments, and all else that is in the account's favour, by due date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aaa_server.storage.invoice_payments import Source, in_favour, shares
from tests.invoices.test_documents import broken_rules, e_invoice
from tests.invoices.test_taxes import prove, run

if TYPE_CHECKING:
    from tests.invoices.conftest import Sky, World

FIRST, SECOND = "INV-2026-00001", "INV-2026-00002"


@pytest.fixture
def two_months(ready: Sky, world: World) -> Sky:
    """Alice owes 12.10 for September, which is due first, and 24.20 for October."""
    ready("account", "set", "alice", "--credit-limit", "1000")
    world.call(("alice", 10_000_000), at="2026-09-15T12:00:00Z")
    world.call(("alice", 20_000_000))
    ready("billing", "set", "alice", "--payment-days", "7")
    assert ready("invoice", "run", "--period", "2026-09").status == 0
    ready("billing", "set", "alice", "--payment-days", "30")
    run(ready)
    return ready


def standing(sky: Sky) -> list[tuple[str, str]]:
    found = [sky("invoice", "show", number, "-o", "json").json for number in (FIRST, SECOND)]
    return [(one["status"], one["open"]) for one in found]


def receivables(sky: Sky) -> dict[str, Any]:
    said = sky("report", "aged-receivables", "--account", "alice", "-o", "json").json
    assert [tie["difference"] for tie in said["ties"]] == ["0.000000"] * len(said["ties"])
    [row] = said["rows"]
    return row  # type: ignore[no-any-return]


def do(sky: Sky, *words: str) -> Any:
    ran = sky(*words)
    assert ran.status == 0, ran.err
    return ran


def test_a_payment_pays_at_once_what_is_due_first(two_months: Sky, world: World) -> None:
    do(two_months, "payment", "add", "alice", "20.00", "--method", "card", "--reference", "1")
    assert standing(two_months) == [("paid", "0.000000"), ("part-paid", "16.300000")]
    do(two_months, "payment", "refund", "1", "--amount", "15.00")
    assert standing(two_months) == [("part-paid", "7.100000"), ("issued", "24.200000")]
    prove(world)


def test_adjustments_transfers_and_coupons_pay_too(two_months: Sky, world: World) -> None:
    do(two_months, "adjustment", "add", "alice", "2.10", "--reason", "apology")
    assert standing(two_months)[0] == ("part-paid", "10.000000")
    do(two_months, "account", "top-up", "bob", "50", "--reference", "b")
    do(two_months, "transfer", "bob", "alice", "4.00", "--reference", "t")
    assert standing(two_months)[0] == ("part-paid", "6.000000")
    made = do(two_months, "coupon", "create", "--count", "1", "--amount", "8.00", "-o", "json").json
    do(two_months, "coupon", "redeem", made[0]["code"], "--account", "alice")
    assert standing(two_months) == [("paid", "0.000000"), ("part-paid", "22.200000")]
    assert receivables(two_months)["owed"] == "22.200000"
    prove(world)


def test_what_is_taken_back_opens_what_it_had_paid(two_months: Sky) -> None:
    do(two_months, "adjustment", "add", "alice", "13.00", "--reason", "a slip")
    assert standing(two_months) == [("paid", "0.000000"), ("part-paid", "23.300000")]
    do(two_months, "adjustment", "add", "--reason", "the slip", "--", "alice", "-13.00")
    assert standing(two_months) == [("issued", "12.100000"), ("issued", "24.200000")]


def test_what_is_taken_beyond_leaves_a_paid_invoice_paid(two_months: Sky) -> None:
    do(two_months, "invoice", "pay", SECOND, "24.20", "--reference", "2")
    do(two_months, "adjustment", "add", "--reason", "forgotten", "--", "alice", "-3.00")
    assert standing(two_months) == [("issued", "12.100000"), ("paid", "0.000000")]
    row = receivables(two_months)
    assert (row["open"], row["not_invoiced"], row["unapplied"], row["owed"]) == (
        "12.100000", "3.000000", "0.000000", "15.100000",
    )  # fmt: skip


def test_ages_are_those_of_the_due_dates(two_months: Sky, world: World) -> None:
    world.fee("alice", 1_000_000, "a fee", at="2026-01-01T00:00:00Z")
    dates = [str(row[0]) for row in world.ask("SELECT due_date FROM invoice ORDER BY invoice_id")]
    assert dates[0] < dates[1]
    fortnight = "SELECT (due_date + 14)::text FROM invoice ORDER BY invoice_id LIMIT 1"
    [(day,)] = world.ask(fortnight)
    said = two_months("report", "aged-receivables", "--as-of", day, "-o", "json").json["rows"][0]
    assert (said["days_30"], said["current"]) == ("12.100000", "24.200000")
    # What is on no invoice is not due, however old.
    assert said["not_invoiced"] == "1.000000"


def test_money_without_an_invoice_is_shown_apart(two_months: Sky) -> None:
    do(two_months, "payment", "add", "alice", "50.00", "--method", "card", "--reference", "1")
    row = receivables(two_months)
    assert (row["open"], row["unapplied"], row["owed"]) == ("0.000000", "13.700000", "-13.700000")


def test_an_invoice_below_zero_pays_others(two_months: Sky, world: World) -> None:
    call = world.call(("alice", 5_000_000), at="2026-10-20T12:00:00Z")
    world.charge(call, ("alice", -15_000_000), at="2026-10-30T12:00:00Z", number=2)
    two_months("invoice", "void", SECOND, "--reason", "again")
    run(two_months)
    third = two_months("invoice", "show", "INV-2026-00003", "-o", "json").json
    assert third["total"] == "12.100000"
    world.charge(call, ("alice", -7_000_000), at="2026-11-02T12:00:00Z", number=3)
    ran = two_months("invoice", "run", "--period", "2026-11-02")
    assert ran.status == 0, ran.err
    shown = two_months("invoice", "show", "INV-2026-00004", "-o", "json").json
    assert (shown["total"], shown["status"]) == ("-8.470000", "paid")
    assert standing(two_months)[0] == ("part-paid", "3.630000")
    for syntax in ("cii", "ubl"):
        assert broken_rules(syntax, e_invoice(two_months, "INV-2026-00004", syntax)) == []
    two_months("invoice", "void", "INV-2026-00004", "--reason", "wrong")
    assert standing(two_months)[0] == ("issued", "12.100000")
    assert receivables(two_months)["owed"] == "17.200000"
    prove(world)


def test_who_has_paid_in_advance_owes_the_rest(ready: Sky, world: World) -> None:
    """Prepaid for September, by invoice from then on: what was used up pays no invoice."""
    ready("account", "top-up", "bob", "30.00", "--reference", "first")
    world.call(("bob", 12_345_678), at="2026-09-15T12:00:00Z")
    assert ready("invoice", "run", "--period", "2026-09").status == 0
    ready("account", "set", "bob", "--postpaid", "--credit-limit", "100")
    world.call(("bob", 40_000_000))
    run(ready)
    shown = ready("invoice", "show", SECOND, "-o", "json").json
    assert (shown["total"], shown["paid"]) == ("48.400000", "17.654322")
    assert shown["previous_balance"] == "-17.654322"
    assert shown["amount_due"] == "30.745678"
    assert ready("report", "aged-receivables", "-o", "json").json["totals"] != []


@pytest.mark.parametrize("syntax", ["cii", "ubl"])
@pytest.mark.parametrize(
    ("paid", "before", "left"),
    [("0", "0.00", "24.20"), ("10.005", "10.00", "14.20"), ("99", "24.20", "0.00")],
)
def test_what_was_paid_before_is_on_the_e_invoice(
    ready: Sky, world: World, syntax: str, paid: str, before: str, left: str
) -> None:
    world.call(("alice", 20_000_000))
    if paid != "0":
        do(ready, "payment", "add", "alice", paid, "--method", "card", "--reference", "1")
    run(ready)
    first = e_invoice(ready, FIRST, syntax)
    assert broken_rules(syntax, first) == []
    names = {"cii": ("TotalPrepaidAmount", "DuePayableAmount"),
             "ubl": ("PrepaidAmount", "PayableAmount")}[syntax]  # fmt: skip
    root = etree.fromstring(first)
    assert [root.findtext(f".//{{*}}{name}") for name in names] == [before, left]
    # What is paid later changes no document.
    ready("invoice", "pay", FIRST, "1.00", "--reference", "later")
    assert e_invoice(ready, FIRST, syntax) == first


def test_a_debt_from_before_is_not_on_the_e_invoice(two_months: Sky) -> None:
    root = etree.fromstring(e_invoice(two_months, SECOND, "cii"))
    assert root.findtext(".//{*}DuePayableAmount") == "24.20"
    assert two_months("invoice", "show", SECOND, "-o", "json").json["amount_due"] == "36.300000"


# ------------------------------------------------------------------ pieces

sources = st.lists(
    st.tuples(st.booleans(), st.integers(-(10**6), 10**6).filter(bool)), max_size=12
).map(
    lambda found: [
        (Source(transaction_id=place, position=0), micros)
        if posted
        else (Source(payment_id=place), abs(micros))
        for place, (posted, micros) in enumerate(found)
    ]
)


@given(sources, st.integers(0, 10**6))
def test_what_is_in_favour_is_what_came_less_what_went(
    moved: list[tuple[Source, int]], spent: int
) -> None:
    worth = in_favour(moved, spent)
    assert all(micros >= 0 for micros in worth.values())
    paid = sum(micros for source, micros in moved if source.payment_id is not None)
    posted = sum(micros for source, micros in moved if source.transaction_id is not None)
    assert sum(worth.values()) == max(0, paid + max(0, posted) - spent)


@given(sources, st.lists(st.integers(0, 10**6), max_size=6))
def test_money_pays_in_order_and_no_more_than_there_is(
    moved: list[tuple[Source, int]], open_: list[int]
) -> None:
    free = list(in_favour(moved, 0).items())
    parts = shares(list(enumerate(open_)), free)
    assert sum(one.amount_micros for one in parts) == min(sum(open_), sum(m for _, m in free))
    paid = [
        sum(one.amount_micros for one in parts if one.invoice_id == n) for n in range(len(open_))
    ]
    # None is paid in part before one that comes earlier is paid.
    short = [place for place, micros in enumerate(paid) if micros < open_[place]]
    assert all(micros == 0 for micros in paid[short[0] + 1 :]) if short else True
