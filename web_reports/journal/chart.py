"""Charts of accounts: which account of a bookkeeper's is which party or book of the ledger.

A map file (TOML) changes single lines of a shipped chart, or replaces it (`base = "none"`).
What has no account is named, never guessed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from aaa_server.storage.problem import BadValue

if TYPE_CHECKING:
    from pathlib import Path

    from aaa_server.storage.journal import Party

PARTIES = ("customer", "reseller", "provider", "seller")
BOOKS = (
    "sales", "fees", "purchases", "cash", "adjustments", "coupons", "cards", "transfers",
    "exchange", "rounding", "tax", "opening",
)  # fmt: skip
SECTIONS = ("base", "party", "account", "book", "seller", "bu_key", "datev")
DATEV_KEYS = ("consultant", "client", "account_length", "year_begins")

# Personal accounts of SKR03 and SKR04: debtors from 10000, creditors from 70000.
_PERSONAL = {
    "customer": "{id+10000}",
    "reseller": "{id+10000}",
    "provider": "{id+70000}",
    "seller": "70000",
}
BASES: dict[str, dict[str, dict[str, str]]] = {
    "names": {
        "party": {
            "customer": "Assets:Customers:{code}",
            "reseller": "Assets:Resellers:{code}",
            "provider": "Liabilities:Providers:{code}",
            "seller": "Liabilities:Seller",
        },
        "book": {
            "sales": "Income:Sales",
            "fees": "Income:Fees",
            "purchases": "Expenses:Purchases",
            "cash": "Assets:Cash",
            "adjustments": "Expenses:Adjustments",
            "coupons": "Expenses:Coupons",
            "cards": "Assets:Cards",
            "transfers": "Equity:Transfers",
            "exchange": "Equity:Exchange",
            "rounding": "Expenses:Rounding",
            "tax": "Liabilities:Tax",
            "opening": "Equity:Opening-Balances",
        },
        "seller": {
            "sales": "Expenses:Purchases",
            "fees": "Expenses:Fees",
            "cash": "Assets:Cash",
            "adjustments": "Income:Seller-Adjustments",
            "coupons": "Income:Coupons",
            "transfers": "Equity:Transfers",
            "exchange": "Equity:Exchange",
            "rounding": "Expenses:Rounding",
            "tax": "Assets:Input-Tax",
        },
    },
    "skr03": {
        "party": _PERSONAL,
        "book": {
            "sales": "8200",
            "fees": "8200",
            "purchases": "3100",
            "cash": "1200",
            "adjustments": "8700",
            "coupons": "4600",
            "cards": "1360",
            "transfers": "1360",
            "exchange": "2150",
            "rounding": "2300",
            "tax": "1770",
            "opening": "9000",
        },
        "seller": {
            "sales": "3100",
            "fees": "3100",
            "cash": "1200",
            "adjustments": "3700",
            "coupons": "3700",
            "transfers": "1360",
            "exchange": "2150",
            "rounding": "2300",
            "tax": "1570",
        },
    },
    "skr04": {
        "party": _PERSONAL,
        "book": {
            "sales": "4200",
            "fees": "4200",
            "purchases": "5900",
            "cash": "1800",
            "adjustments": "4700",
            "coupons": "6600",
            "cards": "1460",
            "transfers": "1460",
            "exchange": "6880",
            "rounding": "6300",
            "tax": "3800",
            "opening": "9000",
        },
        "seller": {
            "sales": "5900",
            "fees": "5900",
            "cash": "1800",
            "adjustments": "5700",
            "coupons": "5700",
            "transfers": "1460",
            "exchange": "6880",
            "rounding": "6300",
            "tax": "1400",
        },
    },
    "none": {"party": {}, "book": {}, "seller": {}},
}

_PLACE = re.compile(r"\{(?:(code)|(id)(?:\+([0-9]{1,9}))?)\}")
_PLAIN_CODE = re.compile(r"[a-z0-9][A-Za-z0-9-]*")


class Account(NamedTuple):
    """An account of the chart: its number or name, and a title for people."""

    name: str
    title: str


class Datev(NamedTuple):
    """What a DATEV header says about whose books they are. None: not told."""

    consultant: int | None = None
    client: int | None = None
    account_length: int = 4
    year_begins: tuple[int, int] = (1, 1)  # month, day


class Chart(NamedTuple):
    """The lines of a chart. A line may differ by currency."""

    base: str
    party: Mapping[str, str | Mapping[str, str]]
    account: Mapping[str, str | Mapping[str, str]]
    book: Mapping[str, str | Mapping[str, str]]
    seller: Mapping[str, str | Mapping[str, str]]
    bu_key: Mapping[str, str]
    datev: Datev

    def party_account(self, party: Party, currency: str) -> Account | None:
        """The account of a party; None when no line is for it."""
        line = self.account.get(party.code) if party.kind != "seller" else None
        text = _of_currency(line, currency)
        if text is None:
            text = _of_currency(self.party.get(party.kind), currency)
        if text is None:
            return None
        if party.kind == "seller":
            return Account(text, "Seller")
        return Account(
            _PLACE.sub(lambda match: _filled(match, party), text), party.name or party.code
        )

    def book_account(self, book: str, currency: str) -> Account | None:
        """The account of a book, `sales` or `seller.sales`; None when no line is for it."""
        sellers = book.startswith("seller.")
        name = book.removeprefix("seller.")
        text = _of_currency((self.seller if sellers else self.book).get(name), currency)
        if text is None:
            return None
        return Account(text, f"{name} of the seller" if sellers else name.capitalize())


def read(path: Path | None, base: str) -> Chart:
    """The chart `base`, or that of the file at `path` where it names one, with its lines.

    Raises `BadValue` that names the file, the key and what there is; `OSError`.
    """
    told: dict[str, Any] = {}
    if path is not None:
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadValue(f"{path}: no TOML: {error}") from error
    where = str(path)
    _known(where, "", told, SECTIONS)
    name = told.get("base", base)
    if name not in BASES:
        raise BadValue(f"{where}: base = {name!r}: there are {', '.join(BASES)}")
    shipped = BASES[name]
    for section, names in (("party", PARTIES), ("book", BOOKS), ("seller", BOOKS)):
        _known(where, section, _table(where, section, told), names)
    return Chart(
        name,
        shipped["party"] | _lines(where, "party", told),
        _lines(where, "account", told),
        shipped["book"] | _lines(where, "book", told),
        shipped["seller"] | _lines(where, "seller", told),
        _keys(where, told),
        _datev(where, told),
    )


def _table(where: str, section: str, told: Mapping[str, Any]) -> dict[str, Any]:
    table = told.get(section, {})
    if not isinstance(table, dict):
        raise BadValue(f"{where}: {section} is a table: [{section}]")
    return table


def _known(where: str, section: str, table: Iterable[str], names: Iterable[str]) -> None:
    for key in table:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise BadValue(f"{where}: {f'[{section}] ' if section else ''}{key}: unknown, {hint}")


def _lines(where: str, section: str, told: Mapping[str, Any]) -> dict[str, Any]:
    table = _table(where, section, told)
    for key, value in table.items():
        texts = value.values() if isinstance(value, dict) else [value]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise BadValue(
                f"{where}: [{section}] {key}: an account as a text is expected, or one for each "
                f'currency: {{ EUR = "1800", USD = "1810" }}, not {value!r}'
            )
        for text in texts:
            left = _PLACE.sub("", text)
            if "{" in left or (section in ("book", "seller") and left != text):
                raise BadValue(
                    f"{where}: [{section}] {key} = {text!r}: {{code}}, {{id}} and {{id+10000}} can "
                    "stand in accounts of parties, nothing else in braces"
                )
    return table


def _keys(where: str, told: Mapping[str, Any]) -> dict[str, str]:
    table = _table(where, "bu_key", told)
    _known(where, "bu_key", table, [*BOOKS, *(f"seller.{book}" for book in BOOKS)])
    for key, value in table.items():
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,4}", value):
            raise BadValue(f"{where}: [bu_key] {key}: 1 to 4 digits as a text, not {value!r}")
    return table


def _datev(where: str, told: Mapping[str, Any]) -> Datev:
    table = _table(where, "datev", told)
    _known(where, "datev", table, DATEV_KEYS)
    bounds = {"consultant": (1001, 9999999), "client": (1, 99999), "account_length": (4, 8)}
    for key, (least, most) in bounds.items():
        value = table.get(key, least)
        if type(value) is not int or not least <= value <= most:
            raise BadValue(
                f"{where}: [datev] {key}: a number from {least} to {most}, not {value!r}"
            )
    values = dict(table)
    begins = values.pop("year_begins", "01-01")
    try:
        # A year that is no leap year, so that the day exists every year.
        day = date.fromisoformat(f"2001-{begins}")
    except ValueError:
        raise BadValue(f"{where}: [datev] year_begins: '07-01' is the first of July") from None
    return Datev(**values, year_begins=(day.month, day.day))


def _of_currency(line: str | Mapping[str, str] | None, currency: str) -> str | None:
    return line if line is None or isinstance(line, str) else line.get(currency)


def _filled(match: re.Match[str], party: Party) -> str:
    if match[1]:
        return _component(party)
    return str(party.account_id + int(match[3] or 0))


def _component(party: Party) -> str:
    """The code as a part of an account's name: letters, digits and -, the first one large.

    Where that is not the code itself but for its first letter, the account's number ends it,
    so that the name stays its own.
    """
    code = party.code
    if _PLAIN_CODE.fullmatch(code):
        return code[0].upper() + code[1:]
    bare = re.sub(r"[^A-Za-z0-9-]", "-", code).lstrip("-")
    return f"{bare[:1].upper()}{bare[1:]}-{party.account_id}" if bare else f"X-{party.account_id}"
