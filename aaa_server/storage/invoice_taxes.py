"""How one buyer's invoice is taxed: its country's rate, and what its seller taxes otherwise.

A buyer that is exempt, or to whom the tax is charged in reverse, is so for everything. For all
others the seller's rules go before the buyer's own rate: the rule of an item before that of
its whole product.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.rating import invoice as arithmetic
from aaa_server.rating.invoice import Item, Tax
from aaa_server.storage import issuers
from aaa_server.storage.problem import BadValue, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.issuers import Profile, TaxRate

PRODUCTS = ("calls", "packages", "subscriptions", "numbers", "reminders", "other")
# The law's words where the issuer has entered none. English; documents translate them.
REVERSE_CHARGE_NOTE = "Reverse charge: the customer accounts for the tax"
ITEM_CHARACTERS_MAX = 200
# What fees are posted by: the first part of their reference.
_BY_REFERENCE = {
    "package": "packages",
    "subscription": "subscriptions",
    "did": "numbers",
    "reminder": "reminders",
}
# "support, setup", "package uk-60, 2026-10-01 to 2026-11-01", "DID 3491, 2026-10-01 to …".
_NOTE = re.compile(r"(?:package |DID )?(.*?)(?:, [^,]*)?", re.S)


class TaxRule(NamedTuple):
    """How a product, or one item of it, is taxed; a rate's name or the reason for none."""

    product: str
    item: str
    tax_name: str
    exempt_reason: str


class Sold(NamedTuple):
    """What a fee is for."""

    product: str
    item: str


def sold(reference: str, note: str) -> Sold:
    """What the fee with this reference and note in the ledger is for."""
    product = _BY_REFERENCE.get(reference.partition("/")[0], "other")
    if product == "other" and note.startswith("package "):
        product = "packages"  # granted by hand, under a reference of one's own
    named = _NOTE.fullmatch(note)
    assert named is not None, "the pattern takes every text"
    return Sold(product, named[1])


# ------------------------------------------------------------------ what decides


class Taxation(NamedTuple):
    """What decides the taxes of one buyer's invoice of a day."""

    profile: Profile
    rates: list[TaxRate]
    rules: list[TaxRule]
    day: date

    def tax(self, product: str = "calls", item: str = "") -> Tax:
        """How this is taxed. Raises `BadValue` when the rate is not known."""
        profile = self.profile
        if profile.treatment == "exempt":
            return Tax(profile.tax_name, 0, arithmetic.EXEMPT, profile.exempt_reason)
        if profile.treatment == "reverse-charge":
            known = (one.legal_note for one in self.rates if one.name == "reverse-charge")
            note = next(known, "") or REVERSE_CHARGE_NOTE
            return Tax(profile.tax_name, 0, arithmetic.REVERSE_CHARGE, note)
        rule = self._rule(product, item)
        if rule is not None and rule.exempt_reason:
            return Tax(profile.tax_name, 0, arithmetic.EXEMPT, rule.exempt_reason)
        rate = self._rate(profile.tax_name if rule is None else rule.tax_name)
        category = arithmetic.STANDARD if rate.rate_ppm else arithmetic.ZERO
        return Tax(rate.name, rate.rate_ppm, category, rate.legal_note)

    def _rule(self, product: str, item: str) -> TaxRule | None:
        wanted = [one for one in self.rules if one.product == product and one.item in ("", item)]
        return max(wanted, key=lambda one: bool(one.item), default=None)

    def _rate(self, name: str) -> TaxRate:
        country = self.profile.country
        for one in self.rates:
            if (
                (one.country, one.name) == (country, name)
                and one.valid_from <= self.day
                and (one.valid_to is None or self.day < one.valid_to)
            ):
                return one
        raise BadValue(
            f"there is no tax rate {name!r} of {country} on {self.day}: "
            f"`sky-aaa tax add {country} {name} RATE`, 0 for none"
        )


def taxation(cursor: Cursor, issuer_id: int, account_id: int, day: date) -> Taxation:
    """What decides the taxes of the account's invoice on that day."""
    return Taxation(
        issuers.profile(cursor, account_id),
        issuers.tax_rates(cursor, issuer_id),
        tax_rules(cursor, issuer_id),
        day,
    )


def placed(taxes: Sequence[Tax]) -> tuple[tuple[Tax, ...], list[int]]:
    """The different ones in their order, and the place of each among them.

    EN 16931 knows a tax by category and rate (BR-S-08, BR-E-01): two of those are one, which
    has the name of the first and the notes of both.
    """
    found: dict[tuple[str, int], Tax] = {}
    for one in taxes:
        key = (one.category, one.rate_ppm)
        known = found.setdefault(key, one)
        if one.note and one.note not in known.note.split("; "):
            joined = "; ".join(filter(None, (known.note, one.note)))
            found[key] = known._replace(note=joined)
    order = list(found)
    return tuple(found.values()), [order.index((one.category, one.rate_ppm)) for one in taxes]


def taxed(items: Sequence[Item], what: Sequence[Sold], decides: Taxation) -> tuple[
    tuple[Item, ...], tuple[Tax, ...]
]:  # fmt: skip
    """The items, each with the place of its tax, and the taxes."""
    taxes, places = placed([decides.tax(*one) for one in what])
    return (
        tuple(one._replace(tax=place) for one, place in zip(items, places, strict=True)),
        taxes,
    )


# ------------------------------------------------------------------ rules


def tax_rules(cursor: Cursor, issuer_id: int) -> list[TaxRule]:
    """The issuer's, by product and item."""
    cursor.execute(
        """
        SELECT product, item, tax_name, exempt_reason
          FROM tax_rule
         WHERE issuer_id = %s
         ORDER BY product, item
        """,
        (issuer_id,),
    )
    return [TaxRule(*row) for row in cursor.fetchall()]


def set_tax_rule(cursor: Cursor, viewer: Viewer, account: Account, new: TaxRule) -> None:
    """This rule, in the place of the one that the product or item had. Raises `BadValue`."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    if account.kind not in ("admin", "reseller"):
        raise BadValue(f"{account.code} is a {account.kind}: the operator and resellers issue")
    if bool(new.tax_name) == bool(new.exempt_reason):
        raise BadValue("say either a rate, by its name, or a reason why there is no tax")
    if new.product == "calls" and new.item:
        raise BadValue("all calls of a buyer are taxed alike: a rule of calls has no item")
    if len(new.item) > ITEM_CHARACTERS_MAX:
        raise BadValue(f"an item has at most {ITEM_CHARACTERS_MAX} characters")
    with as_owner(cursor, viewer):
        try:
            cursor.execute(
                """
                INSERT INTO tax_rule (issuer_id, product, item, tax_name, exempt_reason)
                VALUES (%s, %s, %s, %s, %s)
                    ON CONFLICT (issuer_id, product, item) DO UPDATE
                   SET tax_name = excluded.tax_name,
                       exempt_reason = excluded.exempt_reason
                """,
                (account.account_id, *new),
            )
        except psycopg2.errors.CheckViolation as error:
            allowed = ", ".join(PRODUCTS)
            raise BadValue(f"{new.product!r} is no product: {allowed} are") from error


def remove_tax_rule(
    cursor: Cursor, viewer: Viewer, account: Account, product: str, item: str
) -> None:
    """The product or item is taxed like its buyer again. Raises `NotFound`."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    with as_owner(cursor, viewer):
        cursor.execute(
            "DELETE FROM tax_rule WHERE issuer_id = %s AND product = %s AND item = %s",
            (account.account_id, product, item),
        )
        if not cursor.rowcount:
            what = f"{product} {item!r}" if item else product
            raise NotFound(
                f"{account.code} has no tax rule of {what}: `sky-aaa tax rules` shows them"
            )
