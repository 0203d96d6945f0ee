"""The journal as a DATEV booking batch: EXTF, header 700, Buchungsstapel, Windows-1252.

DATEV knows cents. A line is booked with what its pair of accounts has come to since the
line before, in whole cents, so that nothing small is lost; at the end of the period one
line an account moves its residue to the rounding account. Every account then changes by
exactly what its balance, rounded half up, has changed, month after month.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, date
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import div_half_up
from aaa_server.storage.problem import BadValue
from web_reports.journal.chart import Account

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from web_reports.journal.book import Book, Line

CENT_MICROS = 10_000
LINES_MAX = 99_999  # of one batch
AMOUNT_CENTS_MAX = 10**12 - 1  # ten digits before the comma
FORMAT_VERSION = 13  # of category 21, Buchungsstapel
REFERENCE_MAX = 36  # Belegfeld 1
TEXT_MAX = 60  # Buchungstext
NAME_MAX = 30  # Bezeichnung

_NOT_IN_REFERENCE = re.compile(r"[^A-Za-z0-9$&%*+/-]")


def _numbered(first: str, second: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(1, count + 1) for name in (first, second)]


COLUMNS = [
    "Umsatz (ohne Soll/Haben-Kz)", "Soll/Haben-Kennzeichen", "WKZ Umsatz", "Kurs",
    "Basis-Umsatz", "WKZ Basis-Umsatz", "Konto", "Gegenkonto (ohne BU-Schlüssel)",
    "BU-Schlüssel", "Belegdatum", "Belegfeld 1", "Belegfeld 2", "Skonto", "Buchungstext",
    "Postensperre", "Diverse Adressnummer", "Geschäftspartnerbank", "Sachverhalt", "Zinssperre",
    "Beleglink",
    *_numbered("Beleginfo - Art", "Beleginfo - Inhalt", 8),
    "KOST1 - Kostenstelle", "KOST2 - Kostenstelle", "Kost-Menge",
    "EU-Land u. UStID (Bestimmung)", "EU-Steuersatz (Bestimmung)", "Abw. Versteuerungsart",
    "Sachverhalt L+L", "Funktionsergänzung L+L", "BU 49 Hauptfunktionstyp",
    "BU 49 Hauptfunktionsnummer", "BU 49 Funktionsergänzung",
    *_numbered("Zusatzinformation - Art", "Zusatzinformation- Inhalt", 20),
    "Stück", "Gewicht", "Zahlweise", "Forderungsart", "Veranlagungsjahr",
    "Zugeordnete Fälligkeit", "Skontotyp", "Auftragsnummer", "Buchungstyp",
    "USt-Schlüssel (Anzahlungen)", "EU-Mitgliedstaat (Anzahlungen)",
    "Sachverhalt L+L (Anzahlungen)", "EU-Steuersatz (Anzahlungen)", "Erlöskonto (Anzahlungen)",
    "Herkunft-Kz", "Buchungs GUID", "KOST-Datum", "SEPA-Mandatsreferenz", "Skontosperre",
    "Gesellschaftername", "Beteiligtennummer", "Identifikationsnummer", "Zeichnernummer",
    "Postensperre bis", "Bezeichnung SoBil-Sachverhalt", "Kennzeichen SoBil-Buchung",
    "Festschreibung", "Leistungsdatum", "Datum Zuord. Steuerperiode", "Fälligkeit",
    "Generalumkehr (GU)", "Steuersatz", "Land", "Abrechnungsreferenz", "BVV-Position",
    "EU-Mitgliedstaat u. UStID (Ursprung)", "EU-Steuersatz (Ursprung)", "Abw. Skontokonto",
]  # fmt: skip
_AFTER_TEXT = ";" * (len(COLUMNS) - COLUMNS.index("Buchungstext") - 1)


class Rounding(NamedTuple):
    """What the rounding account took, plus being debit, and in how many lines."""

    account: str
    cents: int
    lines: int


class Batch:
    """One file: one currency, one business year."""

    def __init__(self, book: Book, created: datetime) -> None:
        self._book = book
        self._created = created
        self.currency = book.currencies[0] if book.currencies else book.owner.currency
        self._rounding = book.account("rounding", self.currency)
        self._booked: defaultdict[str, int] = defaultdict(int)  # cents by account, plus is debit
        self._pairs: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._lines = 0
        self.rounding = Rounding(self._rounding.name, 0, 0)
        self._check()

    def _check(self) -> None:
        """Raises `BadValue` for what no batch can be: numbers, currencies, years."""
        book, told = self._book, self._book.chart.datev
        if told.consultant is None or told.client is None:
            raise BadValue(
                "a DATEV batch says whose it is: give consultant (1001 to 9999999) and client "
                "(1 to 99999) in [datev] of the file of --account-map"
            )
        if len(book.currencies) > 1:
            raise BadValue(
                f"a DATEV batch has one currency, and the period has {', '.join(book.currencies)}: "
                f"say which: --currency {book.currencies[0]}"
            )
        if self._year(book.first_day) != self._year(book.last_day):
            raise BadValue(
                f"a DATEV batch lies in one business year, and one begins between {book.first_day} "
                f"and {book.last_day} ([datev] year_begins): export it in two parts"
            )
        length = told.account_length
        for account in (*book.accounts(), self._rounding):
            # Personal accounts have a digit more than those of the ledger.
            if not re.fullmatch(rf"[1-9][0-9]{{{length - 1},{length}}}|0[0-9]{{{length - 1}}}",
                                account.name):  # fmt: skip
                raise BadValue(
                    f"{account.name!r} ({account.title}) is no DATEV account: {length} digits, or "
                    f"{length + 1} for a person's; give it a line in the file of --account-map"
                )

    def _year(self, day: date) -> date:
        """When the business year of `day` began."""
        begins = date(day.year, *self._book.chart.datev.year_begins)
        return begins if begins <= day else begins.replace(year=day.year - 1)

    def write(self, lines: Iterator[Line]) -> Iterator[bytes]:
        """The file, piece by piece. Raises `BadValue` when it gets too long."""
        yield self._head()
        for line in lines:
            yield self._line(line)
        yield self._residues()

    def _head(self) -> bytes:
        book, told = self._book, self._book.chart.datev
        created = self._created.astimezone(UTC).strftime("%Y%m%d%H%M%S") + "000"
        chart = {"skr03": "03", "skr04": "04"}.get(book.chart.base, "")
        head = [
            '"EXTF"', "700", "21", '"Buchungsstapel"', str(FORMAT_VERSION), created, "", '"RE"',
            '""', '""', str(told.consultant), str(told.client),
            self._year(book.first_day).strftime("%Y%m%d"), str(told.account_length),
            book.first_day.strftime("%Y%m%d"), book.last_day.strftime("%Y%m%d"),
            _quoted(f"Sky AAA {book.owner.code}", NAME_MAX), '""', "1", "0", "0",
            f'"{self.currency}"', "", '""', "", "", f'"{chart}"', "", "", '""', '""',
        ]  # fmt: skip
        return _encoded(";".join(head)) + _encoded(";".join(COLUMNS))

    def _line(self, line: Line) -> bytes:
        self._book.wrote(line.party, line.currency, -line.credit_micros)
        self._book.wrote(line.book, line.currency, line.credit_micros)
        pair = self._pairs[line.party.name, line.book.name]
        pair[0] -= line.credit_micros
        cents = div_half_up(pair[0], CENT_MICROS) - pair[1]
        pair[1] += cents
        if not cents:
            return b""
        reference = line.reference or f"{line.kind}-{line.day:%Y%m%d}"
        counted = f", {line.postings} Buchungen" if line.postings > 1 else ""
        text = f"{line.kind} {line.party.title}{counted}: {line.note}".removesuffix(": ")
        key = self._book.chart.bu_key.get(line.ledger_book, "")
        return self._row(cents, line.party, line.book, key, line.day, reference, text)

    def _row(
        self,
        debit_cents: int,
        account: Account,
        contra: Account,
        key: str,
        day: date,
        reference: str,
        text: str,
    ) -> bytes:
        self._lines += 1
        if self._lines > LINES_MAX:
            raise BadValue(
                f"a DATEV batch has at most {LINES_MAX} lines: export shorter periods, or --per day"
            )
        if abs(debit_cents) > AMOUNT_CENTS_MAX:
            raise BadValue(f"{reference}: more than the ten digits that a DATEV amount has")
        self._booked[account.name] += debit_cents
        self._booked[contra.name] -= debit_cents
        units, rest = divmod(abs(debit_cents), 100)
        cells = [
            f"{units},{rest:02}",
            '"S"' if debit_cents > 0 else '"H"',
            f'"{self.currency}"',
            "",
            "",
            "",
            account.name,
            contra.name,
            f'"{key}"' if key else "",
            day.strftime("%d%m"),
            _quoted(_NOT_IN_REFERENCE.sub("-", reference), REFERENCE_MAX),
            "",
            "",
            _quoted(text, TEXT_MAX),
        ]
        return _encoded(";".join(cells) + _AFTER_TEXT)

    def _residues(self) -> bytes:
        """The last lines: what each account is off from its rounded balance."""
        day = self._book.last_day
        rows = []
        for (name, _), standing in self._book.standings.items():
            if name == self._rounding.name:
                continue
            opening = div_half_up(standing.opening_micros, CENT_MICROS)
            closing = div_half_up(standing.opening_micros + standing.period_micros, CENT_MICROS)
            residue = closing - opening - self._booked[name]
            if residue:
                account = Account(name, "")
                text = "Rundungsdifferenz der Periode"
                reference = f"ROUNDING-{day:%Y%m%d}"
                rows.append(self._row(residue, account, self._rounding, "", day, reference, text))
                self.rounding = self.rounding._replace(
                    cents=self.rounding.cents - residue, lines=self.rounding.lines + 1
                )
        return b"".join(rows)


def _quoted(text: str, longest: int) -> str:
    bare = " ".join(text.split())[:longest].replace('"', '""')
    return f'"{bare}"'


def _encoded(line: str) -> bytes:
    """What Windows-1252 has no letter for becomes a question mark."""
    return line.encode("cp1252", errors="replace") + b"\r\n"
