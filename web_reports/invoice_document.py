"""An invoice as a page, as PDF/A-3 and as EN 16931 e-invoice, from the same data.

The PDF is Typst's, which makes the same bytes of the same data. What Factur-X wants to find in
its metadata is appended as an incremental update (ISO 32000-1 §7.5.6), so no other program
writes the file anew with its own clock.
"""

from __future__ import annotations

import json
import re
import tempfile
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typst
from jinja2 import TemplateError

from aaa_server.rating.invoice import EXPONENTS, unit_micros
from aaa_server.rating.money import format_percent
from aaa_server.storage.problem import BadValue, Problem
from web_reports.invoice import Loaded, Writer, content, paid_before_micros
from web_reports.report_page import TemplateProblem, environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aaa_server.rating.invoice import Line

_HERE = Path(__file__).parent
# With tags, which readers for the blind use, a thousand rows take a megabyte.
TAGGED_CALLS_MAX = 300
FACTUR_X_NAME = "factur-x.xml"


def html(loaded: Loaded) -> bytes:
    """A page of its own, UTF-8: nothing is loaded from anywhere, and it prints well."""
    style = (_HERE / "static" / "invoice.css").read_text(encoding="utf-8")
    return _rendered("invoice.html.jinja", {"style": style, **content(loaded)})


def pdf(loaded: Loaded) -> bytes:
    """PDF/A-3b; with the e-invoice in it where the currency lets there be one."""
    data = content(loaded)
    number = loaded.invoice.number
    xml = cii(loaded) if number and _fits_en_16931(loaded) else None
    with tempfile.TemporaryDirectory(prefix="sky-invoice-") as name:
        folder = Path(name)
        _lay_out(folder, loaded, data, xml)
        try:
            made = typst.compile(
                folder / "invoice.typ",
                root=folder,
                font_paths=_fonts(),
                ignore_system_fonts=True,
                pdf_standards=["a-3b"],
                pdf_tags=len(loaded.calls) <= TAGGED_CALLS_MAX,
            )
        except typst.TypstError as error:
            raise TemplateProblem(f"template invoice.typ: {error}") from error
    assert isinstance(made, bytes)
    return made if xml is None else _with_factur_x(made)


def _lay_out(folder: Path, loaded: Loaded, data: dict[str, Any], xml: bytes | None) -> None:
    """The files that the template reads."""
    source = (_HERE / "typst" / "invoice.typ").read_text(encoding="utf-8")
    if xml is not None:
        (folder / FACTUR_X_NAME).write_bytes(xml)
        source += (
            f'#pdf.attach("{FACTUR_X_NAME}", relationship: "alternative", '
            'mime-type: "text/xml", description: "Factur-X")\n'
        )
    del data["logo"]
    day = loaded.invoice.issue_date or loaded.invoice.period_to.date()
    data["date"] = [day.year, day.month, day.day]
    data["has_logo"] = loaded.logo is not None
    data["logo_format"] = loaded.logo[0] if loaded.logo else ""
    if loaded.logo is not None:
        (folder / f"logo.{loaded.logo[0]}").write_bytes(loaded.logo[1])
    qr = data["payment"]["qr"] if data["payment"] else ""
    data["has_qr"] = bool(qr)
    if qr:
        head = '<svg xmlns="http://www.w3.org/2000/svg" '
        (folder / "qr.svg").write_text(qr.replace("<svg ", head, 1), encoding="utf-8")
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "invoice.typ").write_text(source, encoding="utf-8")


@cache
def _fonts() -> typst.Fonts:
    """Read once a process."""
    import fontpkg_inter

    folder = Path(fontpkg_inter.__file__).with_name("files")
    return typst.Fonts(include_system_fonts=False, font_paths=[folder])


# ------------------------------------------------------------------ e-invoice


def cii(loaded: Loaded) -> bytes:
    """UN/CEFACT Cross Industry Invoice, EN 16931. Raises `BadValue` where it allows none."""
    return _rendered("invoice-cii.xml.jinja", _e_invoice(loaded))


def ubl(loaded: Loaded) -> bytes:
    """UBL 2.1 Invoice or CreditNote, EN 16931. Raises `BadValue` where it allows none."""
    return _rendered("invoice-ubl.xml.jinja", _e_invoice(loaded))


def _fits_en_16931(loaded: Loaded) -> bool:
    return EXPONENTS.get(loaded.invoice.currency, 2) <= 2


def _e_invoice(loaded: Loaded) -> dict[str, Any]:
    one, totals = loaded.invoice, loaded.totals
    if not one.number:
        raise BadValue(f"{one.name} is a draft: only an issued invoice is an e-invoice")
    if not _fits_en_16931(loaded):
        raise BadValue(
            f"{one.number}: EN 16931 has two decimals, {one.currency} needs three: "
            "its PDF is the invoice"
        )
    writer = Writer(one)
    assert one.issue_date is not None
    paid = paid_before_micros(one)
    last = (one.period_to - timedelta(microseconds=1)).astimezone(writer.zone).date()
    seller = _party(one.seller)
    if not (seller["vat_id"] or seller["register"]):
        seller["id"] = one.seller.get("tax_number") or str(one.issuer_id)
    return {
        "number": one.number,
        "is_credit": one.kind == "credit-note",
        "type_code": "381" if one.kind == "credit-note" else "380",
        "issue_date": one.issue_date.isoformat(),
        "due_date": (one.due_date or one.issue_date).isoformat(),
        "period_from": one.period_from.astimezone(writer.zone).date().isoformat(),
        "period_to": last.isoformat(),
        "currency": one.currency,
        "notes": [note for note in (one.reason, one.seller.get("note", "")) if note],
        "buyer_reference": one.buyer.get("reference", ""),
        "seller": seller,
        "buyer": {**_party(one.buyer), "id": one.account_code},
        "iban": one.seller.get("iban", ""),
        "bic": one.seller.get("bic", ""),
        "lines": [
            _line(place, line, loaded, writer) for place, line in enumerate(totals.lines, start=1)
        ],
        "taxes": [
            {
                "category": taxed.tax.category,
                "rate": format_percent(taxed.tax.rate_ppm),
                "base": _plain(taxed.base_micros, one.currency),
                "amount": _plain(taxed.tax_micros, one.currency),
                "reason": _reason(taxed.tax.category, taxed.tax.note, writer),
            }
            for taxed in totals.taxes
        ],
        "net": _plain(totals.net_micros, one.currency),
        "tax_total": _plain(totals.tax_micros, one.currency),
        "total": _plain(totals.total_micros, one.currency),
        "paid": _plain(paid, one.currency),
        "payable": _plain(totals.total_micros - paid, one.currency),
        "corrects": one.corrects,
        "corrects_date": one.corrects_date.isoformat() if one.corrects_date else "",
    }


def _reason(category: str, note: str, writer: Writer) -> str:
    """Why there is no tax; a rate has no reason (BR-S-10, BR-Z-10)."""
    return writer.say(note) if category in ("E", "AE") else ""


def _line(place: int, line: Line, loaded: Loaded, writer: Writer) -> dict[str, str]:
    """One of something, or minus one: prices are never below 0 (BR-27)."""
    currency = loaded.invoice.currency
    tax = loaded.totals.taxes[line.item.tax].tax
    destination = line.item.description or writer.say("Other destinations")
    late = writer.say("from earlier periods")
    names = {
        "usage": f"{writer.say('Calls')}: {destination}",
        "correction": f"{writer.say('Calls')}, {late}: {destination}",
        "discount": writer.say("Discount on calls"),
    }
    about = ""
    if line.item.kind in ("usage", "correction"):
        minutes = writer.minutes(line.item.billed_seconds)
        about = f"{line.item.calls} {writer.say('Calls')}, {minutes} {writer.say('Minutes')}"
    return {
        "id": str(place),
        "name": names.get(line.item.kind, line.item.description) or writer.say("Item"),
        "about": about,
        "quantity": "-1" if line.net_micros < 0 else "1",
        "price": _plain(abs(line.net_micros), currency),
        "net": _plain(line.net_micros, currency),
        "category": tax.category,
        "rate": format_percent(tax.rate_ppm),
    }


def _party(known: Mapping[str, Any]) -> dict[str, str]:
    party = {
        key: str(known.get(key) or "")
        for key in ("name", "street", "postcode", "city", "country", "tax_number", "email",
                    "register")
    }  # fmt: skip
    # BR-CO-09: with the country before it; Greece's is EL.
    vat_id, prefix = str(known.get("vat_id") or ""), party["country"].replace("GR", "EL")
    party["vat_id"] = prefix + vat_id if vat_id and not vat_id[:2].isalpha() else vat_id
    party["id"] = ""
    return party


def _plain(micros: int, currency: str) -> str:
    """A decimal number with as many places as the currency has; nothing is rounded here."""
    unit = unit_micros(currency)
    assert micros % unit == 0, "invoices have whole cents"
    places = EXPONENTS.get(currency, 2)
    whole, rest = divmod(abs(micros), 10**6)
    sign = "-" if micros < 0 else ""
    return f"{sign}{whole}" + (f".{rest // unit:0{places}}" if places else "")


def _rendered(name: str, data: dict[str, Any]) -> bytes:
    try:
        return environment().get_template(name).render(**data).encode()
    except TemplateError as error:
        raise TemplateProblem(template_place(name, error)) from error


def template_place(name: str, error: TemplateError) -> str:
    """A template's error with file and line."""
    line = getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(".jinja"):
            name, line = Path(trace.tb_frame.f_code.co_filename).name, trace.tb_lineno
        trace = trace.tb_next
    return f"template {name}, line {line or '?'}: {error}"


# ------------------------------------------------------------------ Factur-X

_FACTUR_X_METADATA = """\
<rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">\
<fx:DocumentType>INVOICE</fx:DocumentType><fx:DocumentFileName>factur-x.xml</fx:DocumentFileName>\
<fx:Version>1.0</fx:Version><fx:ConformanceLevel>EN 16931</fx:ConformanceLevel></rdf:Description>\
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/" \
xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" \
xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#"><pdfaExtension:schemas><rdf:Bag>\
<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema\
</pdfaSchema:schema><pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#\
</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq>\
{properties}</rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas>\
</rdf:Description>"""
_PROPERTY = """\
<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>\
<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external\
</pdfaProperty:category><pdfaProperty:description>{about}</pdfaProperty:description></rdf:li>"""
_PROPERTIES = {
    "DocumentFileName": "name of the embedded XML invoice file",
    "DocumentType": "INVOICE",
    "Version": "version of the XML schema",
    "ConformanceLevel": "conformance level of the XML invoice",
}
_METADATA = re.compile(
    rb"\n(\d+) 0 obj\n<</Length \d+/Type/Metadata/Subtype/XML>>\nstream\n(.*?)\nendstream", re.S
)
_TRAILER = re.compile(rb"trailer\n<<(/Size \d+.*?)>>\nstartxref\n(\d+)\n%%EOF\s*$", re.S)
# Of the file, for what is written about its extension schema.
_SCHEMAS = re.compile(
    rb"<pdfaExtension:schemas>\s*<rdf:Bag>(.*?)</rdf:Bag>\s*</pdfaExtension:schemas>", re.S
)


class NotPlainPdf(Problem):
    """Typst writes its files in another way than this knows."""


def _with_factur_x(document: bytes) -> bytes:
    """The document with Factur-X's properties in its metadata, which name the attachment."""
    found, trailer = _METADATA.search(document), _TRAILER.search(document)
    if found is None or trailer is None:
        raise NotPlainPdf("the PDF has no metadata where they are expected: another typst?")
    properties = "".join(
        _PROPERTY.format(name=name, about=about) for name, about in _PROPERTIES.items()
    )
    added = _FACTUR_X_METADATA.format(properties=properties).encode()
    metadata = found[2]
    own = _SCHEMAS.search(metadata)
    if own is not None:
        # One bag for all schemas: those that Typst describes, and this one.
        inner = _SCHEMAS.search(added)
        assert inner is not None
        metadata = metadata[: own.end(1)] + inner[1] + metadata[own.end(1) :]
        added = added[: added.index(b'<rdf:Description rdf:about="" xmlns:pdfaExtension')]
    metadata = metadata.replace(b"</rdf:RDF>", added + b"</rdf:RDF>", 1)
    start = len(document)
    number = int(found[1])
    update = b"%d 0 obj\n<</Length %d/Type/Metadata/Subtype/XML>>\nstream\n%s\nendstream\nendobj\n"
    part = update % (number, len(metadata), metadata)
    table = b"xref\n%d 1\n%010d 00000 n \ntrailer\n<<%s/Prev %s>>\nstartxref\n%d\n%%%%EOF\n"
    return document + part + table % (number, start, trailer[1], trailer[2], start + len(part))
