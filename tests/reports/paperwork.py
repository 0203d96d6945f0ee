"""The invoices of the month: of all sellers, for September, October and November.

Buyers are taxed in each way there is, and pay as people do: in part, too much, twice, by
transfer or coupon, and some of it goes back. Invoices are credited, void and billed again.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from unittest import mock

from aaa_server.config import SmtpConfig
from aaa_server.storage import (
    accounts,
    adjustments,
    closed_periods,
    coupons,
    disputes,
    invoice_taxes,
    invoices,
    issuers,
    payments,
    recurring,
    refunds,
    subscriptions,
    transfers,
    viewer,
)
from aaa_server.storage.database import transaction
from aaa_server.storage.invoice_draft import Span
from aaa_server.storage.invoice_taxes import TaxRule
from aaa_server.storage.issuers import DunningStep, TaxRate
from aaa_server.storage.problem import BadValue, Conflict
from web_reports import dunning

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.invoices import Invoice
    from aaa_server.storage.viewer import Viewer
    from tests.reports.month import Month

CENT = 10_000
MOVES = 40
RATES = (
    ("DE", "VAT", 190_000, "USt. nach § 12 UStG"),
    ("DE", "reduced", 70_000, ""),
    ("ES", "VAT", 210_000, "Ley 37/1992"),
    ("ES", "reduced", 100_000, ""),
    ("CH", "VAT", 0, ""),
    ("CH", "reduced", 0, ""),
)
RULES = (
    TaxRule("subscriptions", "", "reduced", ""),
    TaxRule("subscriptions", "insurance", "", "Article 135 (1) (a), Directive 2006/112/EC"),
    TaxRule("reminders", "", "", "Damages are not taxed"),
    TaxRule("packages", "", "reduced", ""),
)
VAT_IDS = {"DE": "DE136695976", "ES": "ESB58378431"}


def _instant(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


SPANS = {
    name: Span(name, begin, end, "UTC")
    for name, begin, end in (
        ("2026-09", _instant(2026, 9, 1), _instant(2026, 10, 1)),
        ("2026-10", _instant(2026, 10, 1), _instant(2026, 11, 1)),
        ("2026-11", _instant(2026, 11, 1), _instant(2026, 12, 1)),
    )
}


class Paperwork:
    """What is written, paid and taken back; chance of its own, so that calls stay as they are."""

    def __init__(self, month: Month) -> None:
        self.month = month
        self.connection = month.connection
        self.chance = random.Random(f"paper {month.seed}")
        with transaction(self.connection) as cursor:
            cursor.execute(
                "SELECT code FROM account WHERE kind IN ('admin', 'reseller') ORDER BY account_id"
            )
            self.sellers = [code for (code,) in cursor.fetchall()]
        self.moves = 0

    # ------------------------------------------------------------------ what is agreed

    def prepare(self) -> None:
        """Issuers, rates, rules, how each account is billed, and what it pays each month."""
        for place, seller in enumerate(self.sellers):
            with transaction(self.connection) as cursor:
                eyes = viewer.enter(cursor, seller)
                self._issuer(cursor, eyes, place)
                for number, code in enumerate(self._buyers(cursor, eyes)):
                    buyer = accounts.find(cursor, eyes, code)
                    self._profile(cursor, eyes, buyer, number + place)
                    self._contract(cursor, eyes, buyer, number + place)

    def _issuer(self, cursor: Cursor, eyes: Viewer, place: int) -> None:
        account = accounts.find(cursor, eyes, eyes.code)
        issuers.set_issuer(
            cursor, eyes, account,
            {"name": f"{eyes.code} GmbH", "street": "Hauptstr. 1", "postcode": "10115",
             "city": "Berlin", "country": "DE", "vat_id": VAT_IDS["DE"],
             "payment_days": 7 + 7 * (place % 3)}, None,
        )  # fmt: skip
        for country, name, rate, note in RATES:
            new = TaxRate(0, country, name, rate, note, date(2020, 1, 1), None)
            issuers.add_tax_rate(cursor, eyes, account, new)
        for rule in RULES:
            invoice_taxes.set_tax_rule(cursor, eyes, account, rule)
        issuers.set_dunning_steps(
            cursor, eyes, account, [DunningStep(1, 3, 2_500_000, suspend=False)]
        )

    def _buyers(self, cursor: Cursor, eyes: Viewer) -> list[str]:
        cursor.execute(
            "SELECT code FROM account WHERE parent_id = %s AND kind <> 'provider'"
            " AND card_batch_id IS NULL ORDER BY code",
            (eyes.account_id,),
        )
        return [code for (code,) in cursor.fetchall()]

    def _profile(self, cursor: Cursor, eyes: Viewer, buyer: Account, number: int) -> None:
        country = ("ES", "DE", "DE", "CH")[number % 4]
        given = {
            "name": f"{buyer.code} S.L.", "street": "Calle 1", "postcode": "28001", "city": "X",
            "country": country, "vat_id": VAT_IDS.get(country, ""),
            "prices_include_tax": number % 5 == 1,
            "discount_ppm": 50_000 if number % 6 == 2 else 0,
        }  # fmt: skip
        if number % 7 == 3:
            given |= {"treatment": "exempt", "exempt_reason": "Article 151"}
        elif number % 7 == 5 and country in VAT_IDS:
            given |= {"treatment": "reverse-charge"}
        issuers.set_profile(cursor, eyes, buyer, given)

    def _contract(self, cursor: Cursor, eyes: Viewer, buyer: Account, number: int) -> None:
        begin = _instant(2026, 9, 5)
        with mock.patch.object(subscriptions, "_now", return_value=begin):
            self._subscribe(cursor, eyes, buyer, number, begin)

    def _subscribe(
        self, cursor: Cursor, eyes: Viewer, buyer: Account, number: int, begin: datetime
    ) -> None:
        if number % 3 == 0:
            new = subscriptions.NewSubscription(
                "office line", setup_micros=1_990_000, price_micros=2_333_333, begins_at=begin
            )
            subscriptions.add(cursor, eyes, buyer, new)
        if number % 5 == 0:
            new = subscriptions.NewSubscription(
                "insurance", price_micros=1_010_000, begins_at=begin, calendar=True
            )
            subscriptions.add(cursor, eyes, buyer, new)

    # ------------------------------------------------------------------ when

    def day(self, day: int, at: datetime) -> None:
        """What is done after this day of October's calls."""
        if day == 1:
            self.run("2026-09", at)
        if day in (4, 13, 22):
            self.move(at + timedelta(minutes=10))
        if day == 17:
            self.mistakes(at + timedelta(minutes=10))
        if day == 21:
            self._changes_sides(at + timedelta(minutes=10))
        if day == 25:
            self._reminders(at + timedelta(minutes=10))

    def october(self) -> None:
        """Its invoices; one is a slip and is billed again; the operator closes it."""
        at = _instant(2026, 11, 2)
        self.run("2026-10", at)
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)
            self.month.clock(at + timedelta(hours=1))
            one = invoices.list_invoices(cursor, admin, invoices.Filter())[0]
            invoices.void(cursor, admin, one, "a slip", at + timedelta(hours=1))
        self.mistakes(at + timedelta(hours=2))
        self.run("2026-10", at + timedelta(hours=4))
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)
            operator = accounts.find(cursor, admin, "admin")
            closed_periods.close(cursor, admin, operator, SPANS["2026-10"], at + timedelta(hours=5))
        self.move(at + timedelta(hours=6))

    def november(self) -> None:
        """What came late, corrections, and money once more."""
        self.move(_instant(2026, 11, 6))
        recurring.charge_recurring(self.connection, _instant(2026, 11, 8))
        self._dispute(_instant(2026, 11, 9))
        self.run("2026-11", _instant(2026, 12, 2))
        self.mistakes(_instant(2026, 12, 3))
        self.move(_instant(2026, 12, 4))

    # ------------------------------------------------------------------ invoices

    def run(self, name: str, at: datetime) -> None:
        """Every seller's invoices of the period; what was issued before stays."""
        self.month.clock(at)
        for seller in self.sellers:
            with transaction(self.connection) as cursor:
                eyes = viewer.enter(cursor, seller)
                for buyer in invoices.to_bill(cursor, eyes, SPANS[name], None, at):
                    invoices.bill(cursor, eyes, buyer, SPANS[name], at, issue=True)

    def mistakes(self, at: datetime) -> None:
        """Some are credited in part, of one of their taxes, and some are void."""
        self.month.clock(at)
        for one in self.chance.sample(self._issued(), 8):
            self._do(partial(self._credit, one=one, at=at))
        for one in self.chance.sample(self._issued(), 4):
            self._do(partial(invoices.void, one=one, reason="wrong", now=at))

    def _issued(self) -> list[Invoice]:
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)
            found = invoices.list_invoices(cursor, admin, invoices.Filter(kind="invoice"))
        return [one for one in found if one.status not in ("draft", "void")]

    def _credit(self, cursor: Cursor, admin: Viewer, one: Invoice, at: datetime) -> None:
        taxed = self.chance.choice(invoices.totals(cursor, one).taxes)
        micros = max(CENT, taxed.base_micros // 3 // CENT * CENT)
        invoices.credit(cursor, admin, one, micros, "outage", at, rate_ppm=taxed.tax.rate_ppm)

    def _reminders(self, at: datetime) -> None:
        self.month.clock(at)
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)
        dunning.remind(self.connection, admin, SmtpConfig(), at, dry_run=False)

    def _dispute(self, at: datetime) -> None:
        self.month.clock(at)
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)
            cursor.execute("SELECT max(call_id) FROM cdr WHERE seconds > 0")
            [call_id] = cursor.fetchone() or ()
            disputes.open_dispute(cursor, admin, str(call_id), "never spoken")
            disputes.resolve(cursor, admin, str(call_id), "credited")

    # ------------------------------------------------------------------ money

    def move(self, at: datetime) -> None:
        """Payments, refunds, adjustments, transfers and coupons, of accounts by chance."""
        self.month.clock(at)
        ways = (self._pays, self._pays, self._pays_any, self._gets_back, self._adjusted,
                self._moves_on, self._redeems)  # fmt: skip
        for _ in range(MOVES):
            way = self.chance.choice(ways)
            self._do(way)

    def _do(self, deed: Callable[[Cursor, Viewer], object]) -> None:
        """One deed in a transaction of its own; who has not the money does not do it."""
        self.moves += 1
        try:
            with transaction(self.connection) as cursor:
                deed(cursor, viewer.operator(cursor))
        except (Conflict, BadValue):
            return

    def _someone(self, cursor: Cursor, admin: Viewer, near: Account | None = None) -> Account:
        cursor.execute(
            "SELECT code FROM account WHERE kind IN ('customer', 'reseller')"
            " AND card_batch_id IS NULL AND (%(parent)s::bigint IS NULL OR parent_id = %(parent)s)"
            " ORDER BY code",
            {"parent": near.parent_id if near else None},
        )
        [code] = self.chance.choice(cursor.fetchall())
        return accounts.find(cursor, admin, code)

    def _pays(self, cursor: Cursor, admin: Viewer) -> None:
        """An invoice: in part, exactly, or more than it says."""
        wanted = invoices.Filter(kind="invoice")
        found = [one for one in invoices.list_invoices(cursor, admin, wanted) if one.open_micros]
        one = self.chance.choice(found)
        amount = one.open_micros
        amount = self.chance.choice((amount, amount, amount // 2 + 1, amount + 3_500_000))
        payer = accounts.find(cursor, admin, one.account_code)
        new = payments.NewPayment(amount, "bank-transfer", f"bank {self.moves}")
        invoices.pay(cursor, admin, one, payer, new)

    def _pays_any(self, cursor: Cursor, admin: Viewer) -> None:
        payer = self._someone(cursor, admin)
        amount = self.chance.randrange(1, 2000) * CENT
        payments.pay(
            cursor, admin, payer, payments.NewPayment(amount, "card", f"card {self.moves}")
        )

    def _gets_back(self, cursor: Cursor, admin: Viewer) -> None:
        found = payments.list_payments(cursor, admin, payments.Filter(method="bank-transfer"))
        paid = self.chance.choice([one for one in found if one.account_kind != "provider"])
        left = paid.amount_micros - paid.refunded_micros
        refunds.refund(
            cursor, admin, paid, amount_micros=max(1, left // 3), reference=f"r {self.moves}"
        )

    def _adjusted(self, cursor: Cursor, admin: Viewer) -> None:
        amount = self.chance.choice((-1, 1)) * self.chance.randrange(1, 4_000_000)
        someone = self._someone(cursor, admin)
        adjustments.adjust(cursor, admin, someone, amount, reason="by hand")

    def _moves_on(self, cursor: Cursor, admin: Viewer) -> None:
        source = self._someone(cursor, admin)
        target = self._someone(cursor, admin, near=source)
        amount = self.chance.randrange(1, 3_000_000)
        transfers.transfer(cursor, admin, source, target, amount, reference=f"on {self.moves}")

    def _redeems(self, cursor: Cursor, admin: Viewer) -> None:
        someone = self._someone(cursor, admin)
        cursor.execute(
            "SELECT seller.code FROM account JOIN account AS seller"
            " ON seller.account_id = account.parent_id WHERE account.code = %s",
            (someone.code,),
        )
        [seller] = cursor.fetchone() or ()
        [made] = coupons.create(
            cursor, admin, self.month.keyring, accounts.find(cursor, admin, seller),
            coupons.NewCoupons(2_500_000, someone.currency), 1,
        )  # fmt: skip
        coupons.redeem(cursor, admin, self.month.keyring, someone, made.code)

    def _changes_sides(self, at: datetime) -> None:
        """Who paid in advance pays by invoice from now on, and the other way round."""
        self.month.clock(at)
        with transaction(self.connection) as cursor:
            admin = viewer.operator(cursor)
            for code, prepaid, limit in (("c04", False, 500_000_000), ("c10", False, 5_000_000)):
                one = accounts.find_to_change(cursor, admin, code)
                accounts.change(cursor, one._replace(prepaid=prepaid, credit_limit_micros=limit))
