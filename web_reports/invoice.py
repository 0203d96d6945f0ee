"""What an invoice shows: texts in the buyer's language, ready to be set.

HTML, PDF and e-invoice are made from one `Loaded`. Nothing here adds up money: every amount
was worked out when the invoice was issued.
"""

from __future__ import annotations

import base64
import tomllib
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from babel.numbers import format_currency, format_percent
from segno import helpers

from aaa_server.rating.invoice import EXPONENTS, Totals, round_to, unit_micros
from aaa_server.storage import invoices
from aaa_server.storage.viewer import as_owner
from web_reports.cells import Speaker
from web_reports.words import LANGUAGES, spoken

if TYPE_CHECKING:
    from babel import Locale
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.rating.invoice import Line, Tax
    from aaa_server.storage.invoices import Call, Invoice
    from aaa_server.storage.viewer import Viewer

# Some 600 pages; who has more gets them as a file (`sky-aaa report calls`).
ANNEX_CALLS_MAX = 30_000
# In the PDF so many calls share their cells; a longer text is cut.
ROWS_A_BLOCK = 5
CELL_CHARACTERS_MAX = 30
MOVEMENT_CHARACTERS_MAX = 60
_WORDS = Path(__file__).with_name("invoice_words.toml")
_CALL_KINDS = ("usage", "correction")


class Loaded(NamedTuple):
    """An invoice with all that its documents need."""

    invoice: Invoice
    totals: Totals
    calls: tuple[Call, ...]
    calls_left_out: int
    logo: tuple[str, bytes] | None


def load(cursor: Cursor, viewer: Viewer, one: Invoice) -> Loaded:
    """Everything about an invoice that `viewer` has found: who sees it sees all that is on it."""
    with as_owner(cursor, viewer):
        return _load(cursor, one)


def _load(cursor: Cursor, one: Invoice) -> Loaded:
    totals = invoices.totals(cursor, one)
    wanted = one.buyer.get("itemised", True) and one.kind == "invoice"
    count = sum(line.item.calls for line in totals.lines if line.item.kind in _CALL_KINDS)
    calls: tuple[Call, ...] = ()
    if wanted and count <= ANNEX_CALLS_MAX:
        calls = tuple(invoices.calls(cursor, one, limit=2 * ANNEX_CALLS_MAX))
    left_out = count if wanted and not calls else 0
    return Loaded(one, totals, calls, left_out, invoices.logo(cursor, one))


@cache
def _words() -> dict[str, dict[str, str]]:
    lines = tomllib.loads(_WORDS.read_text(encoding="utf-8"))
    return {
        language: {text: others[place] for text, others in lines.items()}
        for place, language in enumerate(LANGUAGES)
    }


class Writer:
    """Texts and amounts in one invoice's language, currency and time zone."""

    def __init__(self, one: Invoice) -> None:
        self.language = spoken(one.language)
        self.zone = ZoneInfo(one.time_zone)
        self.currency = one.currency
        # The regional form of numbers where there is one: de-CH writes 1’000.
        tag = one.language if one.language.partition("-")[0] == self.language else self.language
        self.speaker = Speaker(tag, self.zone)
        self.locale: Locale = self.speaker.locale
        self._decimals = EXPONENTS.get(one.currency, 2)

    def say(self, text: str) -> str:
        """A text of ours; what nobody has translated stays."""
        return _words().get(self.language, {}).get(text, text)

    def amount(self, micros: int) -> str:
        """As many decimals as the currency has."""
        pattern = "#,##0" + ("." + "0" * self._decimals if self._decimals else "")
        return self.speaker._decimal(Decimal(micros).scaleb(-6), pattern)

    def money(self, micros: int) -> str:
        """With the currency's sign."""
        return format_currency(Decimal(micros).scaleb(-6), self.currency, locale=self.locale)

    def percent(self, ppm: int) -> str:
        """A rate with its sign, without idle zeros."""
        pattern = self.locale.percent_formats[None].pattern.replace("#,##0", "#,##0.####")
        return format_percent(
            Decimal(ppm).scaleb(-6), pattern, locale=self.locale, decimal_quantization=False
        )

    def day(self, value: date | None) -> str:
        """A day in words of the language."""
        return "" if value is None else self.speaker.day(value)

    def minutes(self, seconds: int) -> str:
        """Two decimals."""
        return self.speaker.cell("minutes", seconds)


def content(loaded: Loaded) -> dict[str, Any]:
    """What page and PDF show."""
    one, totals = loaded.invoice, loaded.totals
    writer = Writer(one)
    say = writer.say
    return {
        "language": writer.language,
        "title": _title(one, say),
        "number": one.number or say("Draft"),
        "is_draft": one.status == "draft",
        "is_void": one.status == "void",
        "colour": one.seller.get("colour", "#0f4c81"),
        "logo": _data_url(loaded.logo),
        "seller": _seller(one, writer),
        "buyer": _buyer(one, writer),
        "facts": _facts(one, writer),
        "several_taxes": len(totals.taxes) > 1,
        "usage": _usage(totals, writer),
        "fees": _others(totals, writer),
        "packages": _packages(one, writer),
        "sums": _sums(one, totals, writer),
        "legal": _legal(one, totals, writer),
        "statement": _statement(one, writer),
        "due": _due(one, writer),
        "payment": _payment(one, writer),
        "reason": one.reason,
        "note": one.seller.get("note", ""),
        "footer": _footer(one, writer),
        "annex": _annex(loaded, writer),
        "words": {key: say(text) for key, text in _LABELS.items()},
    }


_LABELS = {
    "to": "To",
    "usage": "Calls",
    "destination": "Destination",
    "calls": "Calls",
    "minutes": "Minutes",
    "amount": "Amount",
    "tax": "Tax",
    "fees": "Fees and other items",
    "item": "Item",
    "packages": "Packages",
    "package": "Package",
    "used": "Used",
    "left": "Left",
    "summary": "Summary",
    "statement": "Your account",
    "due": "Amount due",
    "pay": "How to pay",
    "scan": "Scan to pay",
    "page": "Page",
    "of": "of",
    "annex": "Itemised calls",
    "time": "Time",
    "from": "From",
    "number_called": "To",
    "duration": "Duration",
    "late": "Calls marked * ended in an earlier period and were charged in this one.",
    "draft": "Draft: not an invoice yet",
    "void": "Void: taken back by a credit note",
    "reason": "Reason",
    "table": "Table",
}


def _title(one: Invoice, say: Any) -> str:
    return str(say("Credit note" if one.kind == "credit-note" else "Invoice"))


def _data_url(logo: tuple[str, bytes] | None) -> str:
    if logo is None:
        return ""
    kind = {"png": "image/png", "jpg": "image/jpeg", "svg": "image/svg+xml"}[logo[0]]
    return f"data:{kind};base64,{base64.b64encode(logo[1]).decode()}"


def _address(party: dict[str, Any], writer: Writer) -> list[str]:
    town = f"{party.get('postcode', '')} {party.get('city', '')}".strip()
    country = party.get("country", "")
    lines = (party.get("street", ""), town, writer.locale.territories.get(country, country))
    return [line for line in lines if line]


def _seller(one: Invoice, writer: Writer) -> dict[str, Any]:
    party = one.seller
    return {
        "name": party.get("name", "") or one.issuer_code,
        "address": _address(party, writer),
        "contact": [party[key] for key in ("email", "phone", "website") if party.get(key)],
        "ids": _ids(party, writer.say),
    }


def _ids(party: dict[str, Any], say: Any) -> list[list[str]]:
    labels = (("VAT ID", "vat_id"), ("Tax number", "tax_number"), ("Register", "register"))
    return [[say(label), party[key]] for label, key in labels if party.get(key)]


def _buyer(one: Invoice, writer: Writer) -> dict[str, Any]:
    party = one.buyer
    return {
        "name": party.get("name", "") or one.account_code,
        "address": _address(party, writer),
        "ids": _ids(party, writer.say),
    }


def _facts(one: Invoice, writer: Writer) -> list[list[str]]:
    say = writer.say
    last = (one.period_to - timedelta(microseconds=1)).astimezone(writer.zone).date()
    first = one.period_from.astimezone(writer.zone).date()
    facts = [
        [say("Number"), one.number or say("Draft")],
        [say("Date"), writer.day(one.issue_date)],
        [say("Period"), f"{writer.day(first)} – {writer.day(last)}"],
        [say("Due date"), writer.day(one.due_date) if one.kind == "invoice" else ""],
        [say("Customer"), one.account_code],
        [say("Your reference"), one.buyer.get("reference", "")],
        [say("For invoice"), f"{one.corrects}, {writer.day(one.corrects_date)}"]
        if one.corrects
        else ["", ""],
    ]
    return [fact for fact in facts if fact[1]]


def _usage(totals: Totals, writer: Writer) -> dict[str, Any]:
    found = [line for line in totals.lines if line.item.kind in _CALL_KINDS]
    rows = [
        {
            "description": line.item.description or writer.say("Other destinations"),
            "late": line.item.kind == "correction",
            "calls": writer.speaker.cell("integer", line.item.calls),
            "minutes": writer.minutes(line.item.billed_seconds),
            "tax": _short_tax(totals, line, writer),
            "amount": writer.amount(line.amount_micros),
        }
        for line in found
    ]
    return {
        "rows": rows,
        "has_late": any(row["late"] for row in rows),
        "late": writer.say("from earlier periods"),
        "calls": writer.speaker.cell("integer", sum(line.item.calls for line in found)),
        "minutes": writer.minutes(sum(line.item.billed_seconds for line in found)),
        "amount": writer.amount(sum(line.amount_micros for line in found)),
    }


def _others(totals: Totals, writer: Writer) -> list[dict[str, str]]:
    return [
        {
            "description": writer.say("Discount on calls")
            if line.item.kind == "discount"
            else line.item.description,
            "tax": _short_tax(totals, line, writer),
            "amount": writer.amount(line.amount_micros),
        }
        for line in totals.lines
        if line.item.kind not in _CALL_KINDS
    ]


def _short_tax(totals: Totals, line: Line, writer: Writer) -> str:
    """How a line is taxed, for a narrow column: a rate, or that there is none."""
    tax = totals.taxes[line.item.tax].tax
    if tax.category in _UNTAXED:
        return str(writer.say(_UNTAXED[tax.category]))
    return writer.percent(tax.rate_ppm)


_UNTAXED = {"E": "Exempt", "AE": "Reverse charge"}


def _tax_name(tax: Tax, writer: Writer) -> str:
    if tax.category in _UNTAXED:
        return f"{tax.name} – {writer.say(_UNTAXED[tax.category])}"
    return f"{tax.name} {writer.percent(tax.rate_ppm)}"


def _packages(one: Invoice, writer: Writer) -> list[dict[str, str]]:
    return [
        {
            "name": held["name"],
            "used": writer.minutes(held["used_seconds"]),
            "left": writer.minutes(held["granted_seconds"] - held["used_seconds"]),
        }
        for held in one.packages
    ]


def _sums(one: Invoice, totals: Totals, writer: Writer) -> list[dict[str, Any]]:
    say = writer.say
    rows = [{"label": say("Net"), "amount": writer.amount(totals.net_micros), "strong": False}]
    for taxed in totals.taxes:
        label = _tax_name(taxed.tax, writer)
        if len(totals.taxes) > 1:
            label += f" {say('on')} {writer.amount(taxed.base_micros)}"
        rows.append({"label": label, "amount": writer.amount(taxed.tax_micros), "strong": False})
    label = say("Total credited" if one.kind == "credit-note" else "Total")
    rows.append({"label": label, "amount": writer.money(totals.total_micros), "strong": True})
    return rows


def _legal(one: Invoice, totals: Totals, writer: Writer) -> list[str]:
    several = len(totals.taxes) > 1
    notes = [
        (f"{_tax_name(taxed.tax, writer)}: " if several else "") + writer.say(taxed.tax.note)
        for taxed in totals.taxes
        if taxed.tax.note
    ]
    if one.inclusive:
        notes.append(writer.say("Prices of items include the tax."))
    return notes


def _statement(one: Invoice, writer: Writer) -> list[dict[str, Any]]:
    """From what was owed before to what is owed now; nothing where there is only this invoice."""
    if one.prepaid or one.kind != "invoice" or (not one.movements and not one.previous_micros):
        return []
    say = writer.say
    rows = [{"label": say("Previous balance"), "amount": writer.amount(one.previous_micros)}]
    for moved in one.movements:
        day = datetime.fromisoformat(moved["at"]).astimezone(writer.zone).date()
        kind = say(_MOVEMENTS.get(moved["kind"], moved["kind"]))
        about = moved["reference"]
        if len(about) > MOVEMENT_CHARACTERS_MAX:
            about = about[: MOVEMENT_CHARACTERS_MAX - 1] + "…"
        rows.append(
            {
                "label": f"{kind}{' ' if about else ''}{about}, {writer.day(day)}",
                "amount": writer.amount(_shown(moved["owed_micros"], one)),
            }
        )
    rows.append({"label": say("This invoice"), "amount": writer.amount(one.total_micros)})
    return rows


_MOVEMENTS = {
    "payment": "Payment",
    "refund": "Refund",
    "adjustment": "Adjustment",
    "transfer": "Transfer",
    "coupon": "Coupon",
    "card": "Calling card",
    "credit-note": "Credit note",
    "invoice": "Discount",
}


def _shown(micros: int, one: Invoice) -> int:
    return round_to(micros, unit_micros(one.currency))


def to_pay_micros(one: Invoice) -> int:
    """What the buyer is asked for: what it owes, as whole cents; 0 where it owes nothing."""
    if one.kind != "invoice" or one.prepaid or one.status in ("draft", "void"):
        return 0
    return max(0, _shown(one.due_micros, one))


def paid_before_micros(one: Invoice) -> int:
    """What was paid of it when it was issued: all of a prepaid one, or what was owed to the buyer.

    What was owed by the buyer is no part of the invoice (EN 16931 BT-113, BT-115).
    """
    if one.kind != "invoice" or one.total_micros <= 0:
        return 0
    return one.total_micros - min(one.total_micros, max(0, _shown(one.due_micros, one)))


def _due(one: Invoice, writer: Writer) -> dict[str, str]:
    say = writer.say
    if one.kind == "credit-note":
        return {"label": say("Credited"), "amount": writer.money(one.total_micros), "about": ""}
    if one.status == "draft":
        return {"label": say("Total"), "amount": writer.money(one.total_micros), "about": ""}
    if one.prepaid:
        about = say("Paid from your prepaid balance.")
        return {"label": say("Amount due"), "amount": writer.money(0), "about": about}
    if one.due_micros < 0:
        about = say("Nothing is due.")
        amount = writer.money(-_shown(one.due_micros, one))
        return {"label": say("In your favour"), "amount": amount, "about": about}
    about = f"{say('Payable by')} {writer.day(one.due_date)}" if to_pay_micros(one) else ""
    return {
        "label": say("Amount due"),
        "amount": writer.money(to_pay_micros(one)),
        "about": about,
    }


def _payment(one: Invoice, writer: Writer) -> dict[str, Any] | None:
    if not to_pay_micros(one) or not one.seller.get("iban"):
        return None
    iban = one.seller["iban"]
    rows = [
        [writer.say("Account holder"), one.seller["name"]],
        ["IBAN", " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))],
        ["BIC", one.seller.get("bic", "")],
        [writer.say("Reference"), one.number],
    ]
    return {"rows": [row for row in rows if row[1]], "qr": _epc_qr(one)}


def _epc_qr(one: Invoice) -> str:
    """The European payments council's code as SVG; '' where the currency is none of its."""
    amount = Decimal(to_pay_micros(one)).scaleb(-6)
    if one.currency != "EUR" or not Decimal("0.01") <= amount <= Decimal("999999999.99"):
        return ""
    code = helpers.make_epc_qr(
        name=one.seller["name"][:70],
        iban=one.seller["iban"],
        amount=amount,
        text=one.number,
        bic=one.seller.get("bic") or None,
    )
    return str(code.svg_inline(border=0, scale=1, omitsize=True, svgclass=None, lineclass=None))


def _footer(one: Invoice, writer: Writer) -> list[str]:
    seller = _seller(one, writer)
    return [
        " · ".join([seller["name"], *seller["address"]]),
        " · ".join([*seller["contact"], *(f"{label} {text}" for label, text in seller["ids"])]),
    ]


def _annex(loaded: Loaded, writer: Writer) -> dict[str, Any] | None:
    if not loaded.calls and not loaded.calls_left_out:
        return None
    exact = any(call.amount_micros % 100 for call in loaded.calls)
    pattern = "#,##0.000000" if exact else "#,##0.0000"
    several = len({call.account_code for call in loaded.calls}) > 1
    write = writer.speaker
    rows = [
        [
            f"{call.at.astimezone(writer.zone):%Y-%m-%d %H:%M:%S}{' *' if call.late else ''}",
            *([call.account_code] if several else []),
            call.ani,
            call.called,
            call.destination,
            write.cell("seconds", call.billed_seconds),
            write._decimal(Decimal(call.amount_micros).scaleb(-6), pattern),
        ]
        for call in loaded.calls
    ]
    say = writer.say
    head = [say("Time"), *([say("Customer")] if several else []), say("From"), say("To"),
            say("Destination"), say("Duration"), say("Amount")]  # fmt: skip
    too_many = say("The calls are too many for this document: ask for them as a file.")
    return {
        "head": head,
        "rows": rows,
        "right": len(head) - 2,
        "widths": [35, *([20] if several else []), 28, 28, 0, 14, 19],
        "blocks": [
            [
                "\n".join(map(_unbroken, column))
                for column in zip(*rows[at : at + ROWS_A_BLOCK], strict=True)
            ]
            for at in range(0, len(rows), ROWS_A_BLOCK)
        ],
        "has_late": any(call.late for call in loaded.calls),
        "about": too_many if loaded.calls_left_out else "",
        "count": f"{write.cell('integer', len(rows))} {say('Calls')}" if rows else "",
    }


def _unbroken(text: str) -> str:
    """A cell that stays on its line, whatever is in it: those beside it count on that."""
    if len(text) > CELL_CHARACTERS_MAX:
        text = text[: CELL_CHARACTERS_MAX - 1] + "…"
    return text.replace(" ", "\u00a0").replace("-", "\u2011")
