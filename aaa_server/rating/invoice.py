"""An invoice's arithmetic: lines are rounded once each, everything else is a sum or a tax.

Amounts are micros. What people see are whole units of the currency's exponent: a line is the
half-up sum of its charges; the net is the sum of lines; a tax is taken once a rate, on the sum;
what rounding has added or taken is named, so that the books tie to the calls.
"""

from __future__ import annotations

from typing import NamedTuple

from aaa_server.rating.money import PPM, div_half_up

# ISO 4217: decimals of the currencies that have not two.
EXPONENTS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND",
         "VUV", "XAF", "XOF", "XPF"),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}  # fmt: skip

# The smallest amount of a currency with so many decimals, in micros.
UNITS = {0: 10**6, 2: 10**4, 3: 10**3}

STANDARD, ZERO, EXEMPT, REVERSE_CHARGE = "S", "Z", "E", "AE"


class Tax(NamedTuple):
    """One way to be taxed; `category` as EN 16931 has it, `note` the law's or the reason."""

    name: str
    rate_ppm: int
    category: str
    note: str = ""


class Item(NamedTuple):
    """What is billed on one line, exactly: `raw_micros` is not rounded yet.

    `tax` counts from 0 in the taxes of the invoice.
    """

    kind: str
    description: str
    raw_micros: int
    calls: int = 0
    billed_seconds: int = 0
    package_seconds: int = 0
    tax: int = 0


class Line(NamedTuple):
    """An item as it is shown; `net_micros` has no tax in it, whatever is shown."""

    item: Item
    amount_micros: int
    net_micros: int


class Taxed(NamedTuple):
    """One tax, on the sum of its lines."""

    tax: Tax
    base_micros: int
    tax_micros: int


class Totals(NamedTuple):
    """A whole invoice. `residue_micros` is what rounding added to the shown amounts."""

    lines: tuple[Line, ...]
    taxes: tuple[Taxed, ...]
    raw_micros: int
    net_micros: int
    tax_micros: int
    residue_micros: int

    @property
    def total_micros(self) -> int:
        """Net and tax."""
        return self.net_micros + self.tax_micros


def unit_micros(currency: str) -> int:
    """The smallest amount that can be paid: a cent is 10 000 micros."""
    return UNITS[EXPONENTS.get(currency, 2)]


def round_to(micros: int, unit: int) -> int:
    """The nearest multiple of `unit`, halves upwards."""
    return div_half_up(micros, unit) * unit


def discount(items: tuple[Item, ...], ppm: int, description: str, tax: int = 0) -> Item | None:
    """The line that takes `ppm` off all usage, exact to half a micro; None: nothing."""
    usage = sum(one.raw_micros for one in items if one.kind in ("usage", "correction"))
    off = div_half_up(usage * ppm, PPM)
    return Item("discount", description, -off, tax=tax) if off else None


def add_up(
    items: tuple[Item, ...], taxes: tuple[Tax, ...], currency: str, *, inclusive: bool
) -> Totals:
    """The invoice of `items`; with `inclusive` they have their tax in them already."""
    unit = unit_micros(currency)
    shown = [round_to(one.raw_micros, unit) for one in items]
    taxed = []
    nets = list(shown)
    for place, tax in enumerate(taxes):
        places = [at for at, one in enumerate(items) if one.tax == place]
        amounts = [shown[at] for at in places]
        taxed.append(_taxed(tax, sum(amounts), unit, inclusive=inclusive))
        if inclusive:
            for at, net in zip(places, _nets(amounts, tax.rate_ppm, taxed[-1], unit), strict=True):
                nets[at] = net
    raw = sum(one.raw_micros for one in items)
    totals = Totals(
        lines=tuple(
            Line(one, amount, net) for one, amount, net in zip(items, shown, nets, strict=True)
        ),
        taxes=tuple(taxed),
        raw_micros=raw,
        net_micros=sum(nets),
        tax_micros=sum(one.tax_micros for one in taxed),
        residue_micros=sum(shown) - raw,
    )
    assert totals.net_micros == sum(one.base_micros for one in taxed)
    return totals


def _taxed(tax: Tax, amount: int, unit: int, *, inclusive: bool) -> Taxed:
    if inclusive:
        due = div_half_up(amount * tax.rate_ppm, (PPM + tax.rate_ppm) * unit) * unit
        return Taxed(tax, amount - due, due)
    return Taxed(tax, amount, div_half_up(amount * tax.rate_ppm, PPM * unit) * unit)


def _nets(amounts: list[int], rate_ppm: int, taxed: Taxed, unit: int) -> list[int]:
    """The lines without tax: their sums are rounded, so that the last one is the base's."""
    nets = []
    so_far = before = 0
    for place, amount in enumerate(amounts):
        so_far += amount
        last = place == len(amounts) - 1
        upto = (
            taxed.base_micros if last else div_half_up(so_far * PPM, (PPM + rate_ppm) * unit) * unit
        )
        nets.append(upto - before)
        before = upto
    return nets


# Where lines of these kinds were posted before they were invoiced.
_BOOKS = {"sales": ("usage", "correction", "discount", "credit"), "fees": ("fee",)}


class Booked(NamedTuple):
    """One posting of an invoice: to the account's balance, against a book of the issuer's."""

    amount_micros: int
    book: str


def bookings(totals: Totals, *, prepaid: bool) -> tuple[Booked, ...]:
    """What an invoice posts besides the charges and fees that are in the ledger already.

    A prepaid account has paid what its calls cost: for it tax and rounding are taken from the
    seller's sales, and only a discount moves the balance.
    """
    taken = -sum(line.item.raw_micros for line in totals.lines if line.item.kind == "discount")
    out = [Booked(taken, "sales")]
    if prepaid:
        out.append(Booked(totals.residue_micros, "sales"))
    out.append(Booked(-totals.residue_micros, "rounding"))
    for book, kinds in _BOOKS.items():
        # Only of inclusive lines: their tax was posted as sales.
        within = sum(
            one.amount_micros - one.net_micros for one in totals.lines if one.item.kind in kinds
        )
        out.append(Booked(within, book))
    out.append(Booked(-totals.tax_micros, "tax"))
    return tuple(one for one in out if one.amount_micros)
