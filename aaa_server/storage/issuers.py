"""Who issues invoices, who gets them, and how they are taxed.

The issuer of an account's invoices is its parent: the operator, or a reseller under its own
name. Everything here is written by the owner's role, once `storage.viewer` has allowed it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2.errors
from stdnum import iban as iban_number
from stdnum.exceptions import ValidationError
from stdnum.util import get_cc_module

from aaa_server.rating.money import PPM
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import Deed, Viewer, as_owner, require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

LOGO_OCTETS_MAX = 2**20
# The first octets of the pictures that a document may show.
_PICTURES = (("png", b"\x89PNG\r\n"), ("jpg", b"\xff\xd8\xff"), ("svg", b"<"))
_SERIES = re.compile(r"(?:[A-Za-z0-9./_-]|\{year\}){0,40}")
# Monaco and the Isle of Man are taxed as these are; Greece's ids begin with EL.
_VAT_COUNTRIES = {"MC": "FR", "IM": "GB"}


class Issuer(NamedTuple):
    """What stands on the invoices of one account."""

    account_id: int
    name: str = ""
    street: str = ""
    postcode: str = ""
    city: str = ""
    country: str = ""
    tax_number: str = ""
    vat_id: str = ""
    register: str = ""
    iban: str = ""
    bic: str = ""
    email: str = ""
    phone: str = ""
    website: str = ""
    logo_sha256: bytes | None = None
    colour: str = "#0f4c81"
    series: str = "INV-{year}-"
    credit_series: str = "CN-{year}-"
    language: str = "en"
    payment_days: int = 14
    note: str = ""

    @property
    def missing(self) -> list[str]:
        """What an invoice cannot do without."""
        return [name for name in ("name", "street", "city", "country") if not getattr(self, name)]


class Profile(NamedTuple):
    """How one account is billed."""

    account_id: int
    name: str = ""
    street: str = ""
    postcode: str = ""
    city: str = ""
    country: str = ""
    vat_id: str = ""
    tax_number: str = ""
    email: str = ""
    reference: str = ""
    treatment: str = "standard"
    exempt_reason: str = ""
    tax_name: str = "VAT"
    prices_include_tax: bool = False
    discount_ppm: int = 0
    payment_days: int | None = None
    itemised: bool = True


class TaxRate(NamedTuple):
    """One rate in force in [valid_from, valid_to)."""

    tax_rate_id: int
    country: str
    name: str
    rate_ppm: int
    legal_note: str
    valid_from: date
    valid_to: date | None


class DunningStep(NamedTuple):
    """What is done so many days after the due date."""

    step: int
    days: int
    fee_micros: int
    suspend: bool


# ------------------------------------------------------------------ issuers


def issuer(cursor: Cursor, account_id: int) -> Issuer:
    """The account's profile; an empty one where nobody has filled it in."""
    cursor.execute(
        """
        SELECT account_id, name, street, postcode, city, country, tax_number, vat_id, register,
               iban, bic, email, phone, website, logo_sha256, colour, series, credit_series,
               language, payment_days, note
          FROM issuer
         WHERE account_id = %s
        """,
        (account_id,),
    )
    row = cursor.fetchone()
    if row is None:
        return Issuer(account_id)
    found = Issuer(*row)
    return found._replace(logo_sha256=bytes(row[14]) if row[14] is not None else None)


def set_issuer(
    cursor: Cursor, viewer: Viewer, account: Account, given: Mapping[str, Any], logo: bytes | None
) -> Issuer:
    """Change what is named in `given`; `logo` b'' takes the picture away. Raises `BadValue`."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    if account.kind not in ("admin", "reseller"):
        raise BadValue(f"{account.code} is a {account.kind}: the operator and resellers issue")
    wanted = issuer(cursor, account.account_id)._replace(**_cleaned(given))
    _check_issuer(wanted, given)
    with as_owner(cursor, viewer):
        if logo is not None:
            wanted = wanted._replace(logo_sha256=_keep_logo(cursor, account.account_id, logo))
        try:
            cursor.execute(
                """
                INSERT INTO issuer (
                           account_id, name, street, postcode, city, country, tax_number, vat_id,
                           register, iban, bic, email, phone, website, logo_sha256, colour, series,
                           credit_series, language, payment_days, note)
                VALUES (%(account_id)s, %(name)s, %(street)s, %(postcode)s, %(city)s, %(country)s,
                        %(tax_number)s, %(vat_id)s, %(register)s, %(iban)s, %(bic)s, %(email)s,
                        %(phone)s, %(website)s, %(logo_sha256)s, %(colour)s, %(series)s,
                        %(credit_series)s, %(language)s, %(payment_days)s, %(note)s)
                    ON CONFLICT (account_id) DO UPDATE
                   SET name = excluded.name, street = excluded.street,
                       postcode = excluded.postcode, city = excluded.city,
                       country = excluded.country, tax_number = excluded.tax_number,
                       vat_id = excluded.vat_id, register = excluded.register,
                       iban = excluded.iban, bic = excluded.bic, email = excluded.email,
                       phone = excluded.phone, website = excluded.website,
                       logo_sha256 = excluded.logo_sha256, colour = excluded.colour,
                       series = excluded.series, credit_series = excluded.credit_series,
                       language = excluded.language, payment_days = excluded.payment_days,
                       note = excluded.note
                """,
                wanted._asdict(),
            )
        except psycopg2.errors.CheckViolation as error:
            raise BadValue(f"issuer {account.code}: {error.diag.constraint_name}") from error
    return wanted


def _check_issuer(wanted: Issuer, given: Mapping[str, Any]) -> None:
    _check_country(wanted.country)
    if given.get("vat_id"):
        check_vat_id(wanted.vat_id, wanted.country)
    if given.get("iban"):
        check_iban(wanted.iban)
    if not re.fullmatch(r"#[0-9a-f]{6}", wanted.colour):
        raise BadValue(f"{wanted.colour!r} is no colour: #0f4c81 is")
    for series in (wanted.series, wanted.credit_series):
        if not _SERIES.fullmatch(series):
            raise BadValue(
                f"{series!r} is no number series: letters, digits, . / _ - and {{year}} are, such "
                "as INV-{year}-"
            )
    if wanted.series == wanted.credit_series:
        raise BadValue("invoices and credit notes have series of their own: make them different")


def _keep_logo(cursor: Cursor, account_id: int, content: bytes) -> bytes | None:
    if not content:
        return None
    form = next((name for name, first in _PICTURES if content.lstrip().startswith(first)), None)
    if form is None or len(content) > LOGO_OCTETS_MAX:
        raise BadValue("a logo is a PNG, JPEG or SVG picture of at most 1 MiB")
    digest = hashlib.sha256(content).digest()
    cursor.execute(
        """
        INSERT INTO issuer_logo (sha256, owner_id, format, content)
        VALUES (%s, %s, %s, %s)
            ON CONFLICT (sha256) DO NOTHING
        """,
        (digest, account_id, form, content),
    )
    return digest


# ------------------------------------------------------------------ buyers


def profile(cursor: Cursor, account_id: int) -> Profile:
    """How the account is billed; an empty profile where nobody has filled it in."""
    cursor.execute(
        """
        SELECT account_id, name, street, postcode, city, country, vat_id, tax_number, email,
               reference, treatment, exempt_reason, tax_name, prices_include_tax, discount_ppm,
               payment_days, itemised
          FROM billing_profile
         WHERE account_id = %s
        """,
        (account_id,),
    )
    row = cursor.fetchone()
    return Profile(account_id) if row is None else Profile(*row)


def set_profile(
    cursor: Cursor, viewer: Viewer, account: Account, given: Mapping[str, Any]
) -> Profile:
    """Change what is named in `given`. Raises `BadValue`, also for a VAT id that cannot be."""
    require(viewer, Deed.BILL, account.chain, account.code)
    if account.kind not in ("customer", "reseller"):
        raise BadValue(f"{account.code} is a {account.kind}: customers and resellers are invoiced")
    wanted = profile(cursor, account.account_id)._replace(**_cleaned(given))
    _check_country(wanted.country)
    if wanted.vat_id and wanted.country:
        check_vat_id(wanted.vat_id, wanted.country)
    if not 0 <= wanted.discount_ppm <= PPM:
        raise BadValue("a discount is from 0 to 100 %")
    if wanted.treatment == "exempt" and not wanted.exempt_reason:
        raise BadValue("an exempt buyer needs a reason that stands on the invoice: --exempt-reason")
    if wanted.treatment == "reverse-charge" and not (wanted.vat_id and wanted.country):
        raise BadValue("reverse charge needs the buyer's VAT id and country: --vat-id, --country")
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            INSERT INTO billing_profile (
                       account_id, name, street, postcode, city, country, vat_id, tax_number, email,
                       reference, treatment, exempt_reason, tax_name, prices_include_tax,
                       discount_ppm, payment_days, itemised)
            VALUES (%(account_id)s, %(name)s, %(street)s, %(postcode)s, %(city)s, %(country)s,
                    %(vat_id)s, %(tax_number)s, %(email)s, %(reference)s, %(treatment)s,
                    %(exempt_reason)s, %(tax_name)s, %(prices_include_tax)s, %(discount_ppm)s,
                    %(payment_days)s, %(itemised)s)
                ON CONFLICT (account_id) DO UPDATE
               SET name = excluded.name, street = excluded.street, postcode = excluded.postcode,
                   city = excluded.city, country = excluded.country, vat_id = excluded.vat_id,
                   tax_number = excluded.tax_number, email = excluded.email,
                   reference = excluded.reference, treatment = excluded.treatment,
                   exempt_reason = excluded.exempt_reason, tax_name = excluded.tax_name,
                   prices_include_tax = excluded.prices_include_tax,
                   discount_ppm = excluded.discount_ppm, payment_days = excluded.payment_days,
                   itemised = excluded.itemised
            """,
            wanted._asdict(),
        )
    return wanted


def check_vat_id(vat_id: str, country: str) -> None:
    """Raises `BadValue` for a VAT id whose form or check digit is not its country's."""
    if not country:
        raise BadValue(f"VAT id {vat_id}: say the country too, whose rules it is checked by")
    known = get_cc_module(_VAT_COUNTRIES.get(country, country).lower(), "vat")
    if known is None:
        return
    try:
        known.validate(vat_id)
    except ValidationError as error:
        raise BadValue(f"{vat_id!r} is no VAT id of {country}: {_reason(error)}") from error


def check_iban(text: str) -> None:
    """Raises `BadValue` for an IBAN whose form or check digits are wrong."""
    try:
        iban_number.validate(text)
    except ValidationError as error:
        raise BadValue(f"{text!r} is no IBAN: {_reason(error)}") from error


def _reason(error: ValidationError) -> str:
    return str(error).rstrip(".").lower()


def _check_country(country: str) -> None:
    if country and not re.fullmatch(r"[A-Z]{2}", country):
        raise BadValue(f"{country!r} is no country: two letters are, such as DE (ISO 3166)")


def _cleaned(given: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: one.strip() if isinstance(one, str) else one for key, one in given.items()}
    for key in ("vat_id", "iban", "bic"):
        if key in values:
            values[key] = re.sub(r"[\s.]", "", values[key]).upper()
    if "country" in values:
        values["country"] = values["country"].upper()
    if "colour" in values:
        values["colour"] = values["colour"].lower()
    return values


# ------------------------------------------------------------------ taxes


def tax_rates(cursor: Cursor, issuer_id: int) -> list[TaxRate]:
    """All rates of the issuer, by country, name and date."""
    cursor.execute(
        """
        SELECT tax_rate_id, country, name, rate_ppm, legal_note, valid_from, valid_to
          FROM tax_rate
         WHERE issuer_id = %s
         ORDER BY country, name, valid_from
        """,
        (issuer_id,),
    )
    return [TaxRate(*row) for row in cursor.fetchall()]


def add_tax_rate(cursor: Cursor, viewer: Viewer, account: Account, new: TaxRate) -> TaxRate:
    """A rate from its day on; one of the same name that runs is closed there. Raises `Conflict`."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    _check_country(new.country)
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            UPDATE tax_rate
               SET valid_to = %(valid_from)s
             WHERE issuer_id = %(issuer_id)s
               AND country = %(country)s
               AND name = %(name)s
               AND valid_from < %(valid_from)s
               AND valid_to IS NULL
            """,
            {**new._asdict(), "issuer_id": account.account_id},
        )
        try:
            cursor.execute(
                """
                INSERT INTO tax_rate (
                           issuer_id, country, name, rate_ppm, legal_note, valid_from, valid_to)
                VALUES (%(issuer_id)s, %(country)s, %(name)s, %(rate_ppm)s, %(legal_note)s,
                        %(valid_from)s, %(valid_to)s)
             RETURNING tax_rate_id
                """,
                {**new._asdict(), "issuer_id": account.account_id},
            )
        except psycopg2.errors.ExclusionViolation as error:
            raise Conflict(
                f"{account.code} has a rate {new.name} of {new.country} at that time already: "
                "`sky-aaa tax list` shows them"
            ) from error
        except psycopg2.errors.CheckViolation as error:
            raise BadValue("a tax rate is from 0 to 100 % and ends after it begins") from error
        row = cursor.fetchone()
        assert row is not None
    return new._replace(tax_rate_id=row[0])


def close_tax_rate(
    cursor: Cursor, viewer: Viewer, account: Account, country: str, name: str, day: date
) -> int:
    """End the running rate of that name before `day`; how many there were."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            UPDATE tax_rate
               SET valid_to = %s
             WHERE issuer_id = %s
               AND country = %s
               AND name = %s
               AND valid_from <= %s
               AND valid_to IS NULL
            """,
            (day, account.account_id, country, name, day),
        )
        return cursor.rowcount


# ------------------------------------------------------------------ dunning steps


def dunning_steps(cursor: Cursor, issuer_id: int) -> list[DunningStep]:
    """In their order."""
    cursor.execute(
        """
        SELECT step, days, fee_micros, suspend
          FROM dunning_step
         WHERE issuer_id = %s
         ORDER BY step
        """,
        (issuer_id,),
    )
    return [DunningStep(*row) for row in cursor.fetchall()]


def set_dunning_steps(
    cursor: Cursor, viewer: Viewer, account: Account, steps: list[DunningStep]
) -> None:
    """These instead of what there was. Raises `BadValue` unless each is later than the last."""
    require(viewer, Deed.BILL_AS, account.chain, account.code)
    if any(later.days <= one.days for one, later in itertools.pairwise(steps)):
        raise BadValue("each dunning step comes more days after the due date than the one before")
    with as_owner(cursor, viewer):
        cursor.execute("DELETE FROM dunning_step WHERE issuer_id = %s", (account.account_id,))
        for one in steps:
            cursor.execute(
                """
                INSERT INTO dunning_step (issuer_id, step, days, fee_micros, suspend)
                VALUES (%s, %s, %s, %s, %s)
                """,
                (account.account_id, *one),
            )
