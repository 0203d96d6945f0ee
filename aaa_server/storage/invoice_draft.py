"""Drafts: what an account is to be invoiced for a period, and the charges that this claims.

One statement finds the charges that no invoice has billed, adds them up by destination, and
writes the line into each: all of one snapshot, so a call that is charged at this moment is
either on the line and in its sum, or left for the next invoice. What was posted before the
period's end and is still unbilled is billed, however late it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors
from psycopg2.extras import Json

from aaa_server.rating import invoice as arithmetic
from aaa_server.rating.invoice import Item, Tax, Totals
from aaa_server.rating.money import format_micros
from aaa_server.storage import invoice_taxes, issuers
from aaa_server.storage.invoice_taxes import Sold, Taxation
from aaa_server.storage.problem import BadValue, Conflict

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.issuers import Issuer

BILLING_LOCK = 0x494E56  # pg_advisory_xact_lock, with the account
# Of one draft: every destination is a line.
LINES_MAX = 20_000


class Span(NamedTuple):
    """A period [begin, end), by name in the issuer's time zone."""

    name: str
    begin: datetime
    end: datetime
    time_zone: str


class Buyer(NamedTuple):
    """An account to be invoiced."""

    account_id: int
    code: str
    name: str
    kind: str
    currency: str
    prepaid: bool
    language: str
    issuer_id: int
    issuer_code: str


class Drafted(NamedTuple):
    """A draft, or what one would be; `invoice_id` None: it is none yet."""

    invoice_id: int | None
    totals: Totals


class Refused(NamedTuple):
    """Why an account cannot be invoiced."""

    code: str
    why: str


def buyers(cursor: Cursor, issuer_id: int, account_id: int | None) -> list[Buyer]:
    """The accounts that buy from the issuer, by code; calling cards only when named."""
    cursor.execute(
        """
        SELECT account.account_id,
               account.code,
               account.name,
               account.kind,
               account.currency,
               account.prepaid,
               account.language,
               seller.account_id,
               seller.code
          FROM account
          JOIN account AS seller ON seller.account_id = account.parent_id
         WHERE account.parent_id = %(issuer_id)s
           AND account.kind IN ('customer', 'reseller')
           AND CASE WHEN %(account_id)s::bigint IS NULL THEN account.card_batch_id IS NULL
                    ELSE account.account_id = %(account_id)s END
         ORDER BY account.code
        """,
        {"issuer_id": issuer_id, "account_id": account_id},
    )
    return [Buyer(*row) for row in cursor.fetchall()]


def hold(cursor: Cursor, account_id: int) -> None:
    """One invoice of an account is written at a time; its calls go on meanwhile."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s, %s::integer)", (BILLING_LOCK, account_id))


# ------------------------------------------------------------------ may it be invoiced


def obstacle(
    cursor: Cursor, issuer: Issuer, decides: Taxation, buyer: Buyer, span: Span
) -> Refused | None:
    """Why this account cannot be invoiced for the period now; None: it can."""
    profile = decides.profile
    if issuer.missing:
        return Refused(
            buyer.code,
            f"its seller {buyer.issuer_code} has no {', '.join(issuer.missing)} on invoices: "
            f"`sky-aaa issuer set {buyer.issuer_code} …`",
        )
    if not profile.country or not profile.city:
        return Refused(
            buyer.code,
            f"no billing address, and its country decides the tax: "
            f"`sky-aaa billing set {buyer.code} …`",
        )
    try:
        fees = [one.sold for one in _fees(cursor, _values(buyer, span, []))]
        taxes = [decides.tax(), *(decides.tax(*one) for one in fees)]
        if any(one.category == arithmetic.STANDARD for one in taxes) and not (
            issuer.vat_id or issuer.tax_number
        ):
            return Refused(
                buyer.code,
                f"its seller {buyer.issuer_code} takes tax without a VAT id or tax number: "
                f"`sky-aaa issuer set {buyer.issuer_code} --vat-id …`",
            )
        if profile.treatment == "reverse-charge":
            issuers.check_vat_id(profile.vat_id, profile.country)
            if not issuer.vat_id:
                return Refused(
                    buyer.code, f"reverse charge needs the VAT id of {buyer.issuer_code} too"
                )
    except BadValue as problem:
        return Refused(buyer.code, str(problem))
    return None


# ------------------------------------------------------------------ what stands on it

_PICKED = """
WITH period AS (
    SELECT %(account_id)s::bigint AS account_id,
           %(period_from)s::timestamptz AS period_from,
           %(period_to)s::timestamptz AS period_to,
           -- Whatever was posted before the last invoice's end is billed, unless one is void.
           CASE WHEN bool_or(status = 'void') THEN '-infinity'
                ELSE coalesce(max(period_to) FILTER (WHERE status <> 'draft')
                              - interval '1 day', '-infinity') END AS unbilled_from
      FROM invoice
     WHERE account_id = %(account_id)s
       AND kind = 'invoice'
       AND period_to <= %(period_from)s
), picked AS MATERIALIZED (
    SELECT charge.call_id,
           charge.level,
           charge.number,
           charge.account_id,
           charge.amount_micros,
           charge.billed_seconds,
           charge.package_seconds,
           CASE WHEN record.ended_at < period.period_from THEN 'correction' ELSE 'usage' END
           AS kind,
           CASE WHEN record.found_by = 'did' THEN 'DID ' || record.called
                ELSE coalesce(nullif(rate.destination, ''), charge.prefix) END AS description
      FROM period
      JOIN charge
        ON charge.account_id = period.account_id
       AND charge.level >= 0
       AND charge.at >= period.unbilled_from
       AND charge.at < period.period_to
       AND (charge.invoice_line_id IS NULL OR charge.invoice_line_id = ANY (%(draft_lines)s))
      LEFT JOIN rate ON rate.rate_id = charge.rate_id
      LEFT JOIN LATERAL (
           SELECT cdr.ended_at, cdr.found_by, cdr.called
             FROM cdr_ever AS cdr
            WHERE cdr.call_id = charge.call_id
            LIMIT 1) AS record ON true
), grouped AS (
    SELECT row_number() OVER (ORDER BY kind DESC, description) AS position,
           kind,
           description,
           count(*) FILTER (WHERE number = 1) AS calls,
           sum(billed_seconds)::bigint AS billed_seconds,
           sum(package_seconds)::bigint AS package_seconds,
           sum(amount_micros)::bigint AS raw_micros
      FROM picked
     GROUP BY kind, description
)"""

_PREVIEW = (
    _PICKED
    + """
SELECT 0, kind, description, calls, billed_seconds, package_seconds, raw_micros
  FROM grouped
 ORDER BY position
 LIMIT %(lines_max)s"""
)

_CLAIM = (
    _PICKED  # noqa: S608 - nothing but constants
    + """, written AS (
    INSERT INTO invoice_line (
               invoice_id, position, kind, description, calls, billed_seconds, package_seconds,
               raw_micros, amount_micros, net_micros, tax_position)
    SELECT %(invoice_id)s, position, kind, description, calls, billed_seconds, package_seconds,
           raw_micros, raw_micros, raw_micros, 0
      FROM grouped
 RETURNING invoice_line_id, position
), claimed AS (
    UPDATE charge
       SET invoice_line_id = written.invoice_line_id
      FROM picked
      JOIN grouped USING (kind, description)
      JOIN written USING (position)
     WHERE charge.call_id = picked.call_id
       AND charge.level = picked.level
       AND charge.number = picked.number
       AND charge.account_id = picked.account_id
)
SELECT written.invoice_line_id,
       grouped.kind,
       grouped.description,
       grouped.calls,
       grouped.billed_seconds,
       grouped.package_seconds,
       grouped.raw_micros
  FROM grouped
  JOIN written USING (position)
 ORDER BY position"""
)

_FEES = """
SELECT posting.transaction_id,
       posting.position,
       ledger_transaction.reference,
       ledger_transaction.note,
       -posting.amount_micros
  FROM posting
  JOIN ledger_transaction USING (transaction_id)
  LEFT JOIN invoice_fee
         ON invoice_fee.transaction_id = posting.transaction_id
        AND invoice_fee.position = posting.position
 WHERE posting.account_id = %(account_id)s
   AND posting.contra_book = 'fees'
   AND posting.contra_book NOT IN ('sales', 'purchases')
   AND ledger_transaction.kind = 'fee'
   AND ledger_transaction.posted_at < %(period_to)s
   AND (invoice_fee.invoice_line_id IS NULL
        OR invoice_fee.invoice_line_id = ANY (%(draft_lines)s))
 ORDER BY ledger_transaction.at, posting.transaction_id, posting.position
 LIMIT %(lines_max)s"""


class _Part(NamedTuple):
    """One line to be: what is on it, and what it bills when that is a fee."""

    item: Item
    sold: Sold = Sold("calls", "")
    line_id: int = 0
    fee: tuple[int, int] | None = None


def preview(
    cursor: Cursor, buyer: Buyer, decides: Taxation, span: Span
) -> tuple[Drafted | None, Drafted | None]:
    """The draft that there is, and what it would be now; None for none. Changes nothing."""
    before = _draft_of(cursor, buyer.account_id, span)
    lines = [] if before is None else _lines_of(cursor, before)
    values = _values(buyer, span, lines)
    cursor.execute(_PREVIEW, values)
    parts = [_Part(Item(row[1], row[2], row[6], row[3], row[4], row[5])) for row in cursor]
    parts += _fees(cursor, values)
    now = _totals(parts, buyer, decides) if parts else None
    return (
        None if before is None else Drafted(before, stored(cursor, before)),
        None if now is None else Drafted(None, now),
    )


def draft(cursor: Cursor, buyer: Buyer, decides: Taxation, span: Span) -> Drafted | None:
    """The draft of the period as of now, in the place of the one that there was.

    None when there is nothing to bill. The caller holds `hold`. Raises `Conflict` for a
    period that overlaps an invoice, with that one's number.
    """
    before = _draft_of(cursor, buyer.account_id, span)
    if before is not None:
        discard(cursor, before)
    values = _values(buyer, span, [])
    invoice_id = _open(cursor, buyer, decides, span)
    cursor.execute(_CLAIM, {**values, "invoice_id": invoice_id})
    parts = [
        _Part(Item(row[1], row[2], row[6], row[3], row[4], row[5]), line_id=row[0])
        for row in cursor
    ]
    parts += _fees(cursor, values)
    if not parts:
        discard(cursor, invoice_id)
        return None
    if len(parts) > LINES_MAX:
        raise Conflict(f"{buyer.code}: more than {LINES_MAX} lines for {span.name}")
    totals = _totals(parts, buyer, decides)
    _write(cursor, invoice_id, parts, totals)
    _freeze_packages(cursor, invoice_id, buyer, span)
    return Drafted(invoice_id, totals)


def discard(cursor: Cursor, invoice_id: int) -> None:
    """Take a draft away; what it billed is free again."""
    lines = _lines_of(cursor, invoice_id)
    cursor.execute(
        "UPDATE charge SET invoice_line_id = NULL WHERE invoice_line_id = ANY (%s)", (lines,)
    )
    cursor.execute("DELETE FROM invoice_fee WHERE invoice_line_id = ANY (%s)", (lines,))
    cursor.execute("DELETE FROM invoice_line WHERE invoice_id = %s", (invoice_id,))
    cursor.execute("DELETE FROM invoice WHERE invoice_id = %s AND status = 'draft'", (invoice_id,))


def stored(cursor: Cursor, invoice_id: int) -> Totals:
    """The arithmetic of an invoice as it stands in the database."""
    cursor.execute(
        """
        SELECT name, rate_ppm, category, note, base_micros, tax_micros
          FROM invoice_tax
         WHERE invoice_id = %s
         ORDER BY position
        """,
        (invoice_id,),
    )
    taxes = tuple(arithmetic.Taxed(Tax(*row[:4]), row[4], row[5]) for row in cursor.fetchall())
    cursor.execute(
        """
        SELECT kind, description, raw_micros, calls, billed_seconds, package_seconds,
               tax_position, amount_micros, net_micros
          FROM invoice_line
         WHERE invoice_id = %s
         ORDER BY position
        """,
        (invoice_id,),
    )
    lines = tuple(arithmetic.Line(Item(*row[:7]), row[7], row[8]) for row in cursor.fetchall())
    raw = sum(one.item.raw_micros for one in lines)
    return Totals(
        lines=lines,
        taxes=taxes,
        raw_micros=raw,
        net_micros=sum(one.base_micros for one in taxes),
        tax_micros=sum(one.tax_micros for one in taxes),
        residue_micros=sum(one.amount_micros for one in lines) - raw,
    )


# ------------------------------------------------------------------ pieces


def _values(buyer: Buyer, span: Span, draft_lines: list[int]) -> dict[str, object]:
    return {
        "account_id": buyer.account_id,
        "period_from": span.begin,
        "period_to": span.end,
        "draft_lines": draft_lines,
        "lines_max": LINES_MAX + 1,
    }


def _draft_of(cursor: Cursor, account_id: int, span: Span) -> int | None:
    cursor.execute(
        """
        SELECT invoice_id
          FROM invoice
         WHERE account_id = %s
           AND kind = 'invoice'
           AND status = 'draft'
           AND period_from = %s
           AND period_to = %s
        """,
        (account_id, span.begin, span.end),
    )
    row = cursor.fetchone()
    return None if row is None else int(row[0])


def _lines_of(cursor: Cursor, invoice_id: int) -> list[int]:
    cursor.execute("SELECT invoice_line_id FROM invoice_line WHERE invoice_id = %s", (invoice_id,))
    return [row[0] for row in cursor.fetchall()]


def _fees(cursor: Cursor, values: dict[str, object]) -> list[_Part]:
    cursor.execute(_FEES, values)
    return [
        _Part(
            Item("fee", row[3], row[4]),
            invoice_taxes.sold(row[2], row[3]),
            fee=(row[0], row[1]),
        )
        for row in cursor.fetchall()
    ]


def _totals(parts: list[_Part], buyer: Buyer, decides: Taxation) -> Totals:
    """Usage stands first: its tax is the first one, which is a discount's too."""
    items, taxes = invoice_taxes.taxed(
        [one.item for one in parts], [one.sold for one in parts], decides
    )
    less = arithmetic.discount(items, decides.profile.discount_ppm, "discount")
    if less is not None:
        items = (*items, less)
    inclusive = buyer.prepaid or decides.profile.prices_include_tax
    return arithmetic.add_up(items, taxes, buyer.currency, inclusive=inclusive)


def _open(cursor: Cursor, buyer: Buyer, decides: Taxation, span: Span) -> int:
    """A draft without lines, so that they can be written with what they bill.

    Its first tax is that of calls, until it is known what stands on it.
    """
    cursor.execute("SAVEPOINT opening")
    try:
        cursor.execute(
            """
            INSERT INTO invoice (
                       issuer_id, account_id, currency, period_name, period_from, period_to,
                       time_zone, prepaid, inclusive, raw_micros, net_micros, tax_micros,
                       total_micros, language)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0, 0, 0, %s)
         RETURNING invoice_id
            """,
            (
                buyer.issuer_id,
                buyer.account_id,
                buyer.currency,
                span.name,
                span.begin,
                span.end,
                span.time_zone,
                buyer.prepaid,
                buyer.prepaid or decides.profile.prices_include_tax,
                buyer.language,
            ),
        )
    except psycopg2.errors.ExclusionViolation as error:
        cursor.execute("ROLLBACK TO SAVEPOINT opening")
        text = _overlap(cursor, buyer, span) or f"{buyer.code}: {span.name} is invoiced already"
        raise Conflict(text) from error
    row = cursor.fetchone()
    assert row is not None
    cursor.execute("RELEASE SAVEPOINT opening")
    _write_taxes(cursor, row[0], (arithmetic.Taxed(decides.tax(), 0, 0),))
    return int(row[0])


def require_no_overlap(cursor: Cursor, buyer: Buyer, span: Span) -> None:
    """Raises `Conflict` with the number of an invoice of another period that overlaps this one."""
    text = _overlap(cursor, buyer, span)
    if text:
        raise Conflict(text)


def _overlap(cursor: Cursor, buyer: Buyer, span: Span) -> str:
    """'' when there is none."""
    cursor.execute(
        """
        SELECT coalesce(number, 'draft ' || invoice_id), period_name
          FROM invoice
         WHERE account_id = %(account_id)s
           AND kind = 'invoice'
           AND status <> 'void'
           AND tstzrange(period_from, period_to) && tstzrange(%(begin)s, %(end)s)
           AND (period_from, period_to) <> (%(begin)s, %(end)s)
         ORDER BY period_from
         LIMIT 1
        """,
        {"account_id": buyer.account_id, "begin": span.begin, "end": span.end},
    )
    row = cursor.fetchone()
    if row is None:
        return ""
    return (
        f"{buyer.code}: {span.name} overlaps {row[1]}, which is invoiced by {row[0]}: an account's "
        "periods never overlap"
    )


def _write(cursor: Cursor, invoice_id: int, parts: list[_Part], totals: Totals) -> None:
    _write_taxes(cursor, invoice_id, totals.taxes)
    known = [one.line_id for one in parts if one.line_id]
    shown = totals.lines[: len(known)]
    cursor.execute(
        """
        UPDATE invoice_line
           SET amount_micros = new.amount_micros,
               net_micros = new.net_micros
          FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
               AS new (invoice_line_id, amount_micros, net_micros)
         WHERE invoice_line.invoice_line_id = new.invoice_line_id
        """,
        (known, [one.amount_micros for one in shown], [one.net_micros for one in shown]),
    )
    for position, line in enumerate(totals.lines[len(known) :], start=len(known) + 1):
        line_id = _add_line(cursor, invoice_id, position, line)
        fee = parts[position - 1].fee if position <= len(parts) else None
        if fee is not None:
            cursor.execute(
                """
                INSERT INTO invoice_fee (transaction_id, position, invoice_line_id)
                VALUES (%s, %s, %s)
                """,
                (*fee, line_id),
            )
    _write_totals(cursor, invoice_id, totals)


def _add_line(cursor: Cursor, invoice_id: int, position: int, line: arithmetic.Line) -> int:
    cursor.execute(
        """
        INSERT INTO invoice_line (
                   invoice_id, position, kind, description, calls, billed_seconds, package_seconds,
                   raw_micros, amount_micros, net_micros, tax_position)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
     RETURNING invoice_line_id
        """,
        (
            invoice_id,
            position,
            line.item.kind,
            line.item.description,
            line.item.calls,
            line.item.billed_seconds,
            line.item.package_seconds,
            line.item.raw_micros,
            line.amount_micros,
            line.net_micros,
            line.item.tax,
        ),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _write_taxes(cursor: Cursor, invoice_id: int, taxes: tuple[arithmetic.Taxed, ...]) -> None:
    """Before the lines, which point at them."""
    for position, one in enumerate(taxes):
        cursor.execute(
            """
            INSERT INTO invoice_tax (
                       invoice_id, position, name, rate_ppm, category, note, base_micros,
                       tax_micros)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                ON CONFLICT (invoice_id, position) DO UPDATE
               SET name = excluded.name,
                   rate_ppm = excluded.rate_ppm,
                   category = excluded.category,
                   note = excluded.note,
                   base_micros = excluded.base_micros,
                   tax_micros = excluded.tax_micros
            """,
            (invoice_id, position, *one.tax, one.base_micros, one.tax_micros),
        )


def _write_totals(cursor: Cursor, invoice_id: int, totals: Totals) -> None:
    cursor.execute(
        """
        UPDATE invoice
           SET raw_micros = %s,
               net_micros = %s,
               tax_micros = %s,
               total_micros = %s
         WHERE invoice_id = %s
        """,
        (
            totals.raw_micros,
            totals.net_micros,
            totals.tax_micros,
            totals.total_micros,
            invoice_id,
        ),
    )


def write_credit(cursor: Cursor, invoice_id: int, totals: Totals) -> None:
    """The taxes and lines of a credit note that is a draft still."""
    _write_taxes(cursor, invoice_id, totals.taxes)
    for position, line in enumerate(totals.lines, start=1):
        _add_line(cursor, invoice_id, position, line)
    _write_totals(cursor, invoice_id, totals)


def _freeze_packages(cursor: Cursor, invoice_id: int, buyer: Buyer, span: Span) -> None:
    cursor.execute(
        """
        SELECT package.name,
               package_holding.granted_seconds,
               package_holding.used_seconds
          FROM package_holding
          JOIN package USING (package_id)
         WHERE package_holding.account_id = %s
           AND tstzrange(package_holding.valid_from, package_holding.valid_to)
               && tstzrange(%s, %s)
         ORDER BY package.name, package_holding.valid_from
        """,
        (buyer.account_id, span.begin, span.end),
    )
    held = [
        {"name": row[0], "granted_seconds": row[1], "used_seconds": row[2]}
        for row in cursor.fetchall()
    ]
    if held:
        cursor.execute(
            "UPDATE invoice SET packages = %s WHERE invoice_id = %s", (Json(held), invoice_id)
        )


def difference(before: Drafted | None, now: Drafted | None) -> str:
    """What a run would do to a draft, in a word and amounts."""
    if now is None:
        return "nothing to bill" if before is None else "the draft would go: nothing to bill"
    if before is None:
        return "new"
    one, other = before.totals.total_micros, now.totals.total_micros
    if before.totals == now.totals:
        return "as the draft"
    return f"draft changes from {format_micros(one)} to {format_micros(other)}"
