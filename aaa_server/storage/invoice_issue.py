"""Issuing: a number without gaps, the postings that make the books tie, and credit notes.

A number is taken in the transaction that issues: it holds the series' row until it commits, so
the next one waits, and one that fails gives its number back.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extras import Json

from aaa_server.rating import invoice as arithmetic
from aaa_server.rating.money import format_micros, format_percent
from aaa_server.storage import accounts, invoice_draft, invoice_payments, issuers, movements
from aaa_server.storage.movements import Posting
from aaa_server.storage.problem import BadValue, Conflict

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.issuers import Issuer
    from aaa_server.storage.viewer import Viewer

MOVEMENTS_MAX = 60  # on one invoice; more are added up by their kinds
REASON_CHARACTERS_MAX = 500
# What documents are written in; others get the issuer's language.
SPOKEN = ("en", "de", "es", "fr")


class Issued(NamedTuple):
    """An invoice or credit note with its number."""

    invoice_id: int
    number: str
    total_micros: int
    currency: str
    due_micros: int


class _Row(NamedTuple):
    invoice_id: int
    kind: str
    issuer_id: int
    account_id: int
    number: str | None
    status: str
    currency: str
    period_name: str
    period_from: datetime
    period_to: datetime
    time_zone: str
    prepaid: bool
    inclusive: bool
    total_micros: int
    paid_micros: int
    credited_micros: int
    transaction_id: int | None


def load(cursor: Cursor, invoice_id: int) -> _Row:
    """The invoice as it is now; ask with its account's lock."""
    cursor.execute(
        """
        SELECT invoice_id, kind, issuer_id, account_id, number, status, currency, period_name,
               period_from, period_to, time_zone, prepaid, inclusive, total_micros, paid_micros,
               credited_micros, transaction_id
          FROM invoice
         WHERE invoice_id = %s
        """,
        (invoice_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    return _Row(*row)


def issue(cursor: Cursor, viewer: Viewer, invoice_id: int, now: datetime) -> Issued:
    """Give the draft its number, post what it adds to its usage, and let payments pay it.

    The caller runs as the owner and has asked `storage.viewer`. Raises `Conflict` for one
    that is no draft.
    """
    one = load(cursor, invoice_id)
    if one.status != "draft":
        raise Conflict(f"{one.number} is issued already: it stays as it is")
    accounts.lock(cursor, [one.account_id])
    issuer = issuers.issuer(cursor, one.issuer_id)
    day = now.astimezone(ZoneInfo(one.time_zone)).date()
    number = next_number(cursor, one.issuer_id, issuer.series, day)
    totals = invoice_draft.stored(cursor, invoice_id)
    transaction_id = _post(cursor, viewer, one, number, totals, now)
    profile = issuers.profile(cursor, one.account_id)
    days = profile.payment_days if profile.payment_days is not None else issuer.payment_days
    rows, moved, owed = _standing(cursor, one, now)
    due = 0 if one.prepaid else owed + totals.total_micros
    buyer = _buyer(cursor, one.account_id, profile)
    cursor.execute(
        """
        UPDATE invoice
           SET number = %(number)s,
               status = %(status)s,
               issued_at = %(now)s,
               issue_date = %(day)s,
               due_date = %(due_date)s,
               language = %(language)s,
               seller = %(seller)s,
               buyer = %(buyer)s,
               movements = %(movements)s,
               previous_micros = %(previous)s,
               due_micros = %(due)s,
               transaction_id = %(transaction_id)s,
               paid_micros = %(paid)s
         WHERE invoice_id = %(invoice_id)s
        """,
        {
            "invoice_id": invoice_id,
            "number": number,
            "status": "paid" if one.prepaid or one.total_micros <= 0 else "issued",
            "now": now,
            "day": day,
            "due_date": day if one.prepaid else day + timedelta(days=days),
            "language": _language(buyer.pop("language"), issuer.language),
            "seller": Json(_seller(issuer)),
            "buyer": Json(buyer),
            "movements": Json(rows),
            "previous": 0 if one.prepaid else owed - moved,
            "due": due,
            "transaction_id": transaction_id,
            "paid": max(0, one.total_micros) if one.prepaid else 0,
        },
    )
    invoice_payments.allocate(cursor, one.account_id)
    return Issued(invoice_id, number, one.total_micros, one.currency, due)


def next_number(cursor: Cursor, issuer_id: int, series: str, day: date) -> str:
    """The series' next number, which nobody else gets until this transaction ends."""
    name = series.replace("{year}", str(day.year))
    cursor.execute(
        """
        INSERT INTO invoice_counter (issuer_id, series, last_number)
        VALUES (%s, %s, 1)
            ON CONFLICT (issuer_id, series) DO UPDATE
           SET last_number = invoice_counter.last_number + 1
     RETURNING last_number
        """,
        (issuer_id, name),
    )
    row = cursor.fetchone()
    assert row is not None
    return f"{name}{row[0]:05}"


def _post(
    cursor: Cursor,
    viewer: Viewer,
    one: _Row,
    number: str,
    totals: arithmetic.Totals,
    now: datetime,
) -> int | None:
    postings = [
        Posting(one.account_id, booked.amount_micros, one.currency, one.issuer_id, booked.book)
        for booked in arithmetic.bookings(totals, prepaid=one.prepaid)
    ]
    if not postings:
        return None
    transaction_id = movements.post(
        cursor,
        kind="invoice",
        reference=f"{one.issuer_id}/{number}",
        at=now,
        note=f"{number}, {one.period_name}",
        author_id=viewer.account_id,
        postings=postings,
    )
    assert transaction_id is not None, "a number is taken once"
    return transaction_id


def _seller(issuer: Issuer) -> dict[str, Any]:
    known = issuer._asdict()
    known["logo_sha256"] = issuer.logo_sha256.hex() if issuer.logo_sha256 else ""
    return known


def _buyer(cursor: Cursor, account_id: int, profile: issuers.Profile) -> dict[str, Any]:
    cursor.execute(
        "SELECT code, name, email, language FROM account WHERE account_id = %s", (account_id,)
    )
    row = cursor.fetchone()
    assert row is not None
    known = profile._asdict()
    known["code"] = row[0]
    known["name"] = profile.name or row[1] or row[0]
    known["email"] = profile.email or row[2]
    known["language"] = row[3]
    return known


def _language(wanted: str, otherwise: str) -> str:
    return wanted if wanted.partition("-")[0] in SPOKEN else otherwise


# ------------------------------------------------------------------ what is owed


_MOVED = """
SELECT ledger_transaction.at,
       ledger_transaction.kind,
       CASE ledger_transaction.kind
            WHEN 'adjustment' THEN ledger_transaction.note
            WHEN 'coupon' THEN ''
            ELSE coalesce(paid.reference,
                          returned.reference,
                          split_part(ledger_transaction.reference, '/', -1)) END,
       -posting.amount_micros
  FROM posting
  JOIN ledger_transaction USING (transaction_id)
  LEFT JOIN payment AS paid USING (transaction_id)
  LEFT JOIN refund USING (transaction_id)
  LEFT JOIN payment AS returned ON returned.payment_id = refund.payment_id
 WHERE posting.account_id = %(account_id)s
   AND posting.contra_book NOT IN ('sales', 'purchases')
   AND posting.contra_book NOT IN ('fees', 'tax', 'rounding')
   AND (%(last)s::timestamptz IS NULL OR ledger_transaction.posted_at > %(last)s)
 UNION ALL
SELECT issued_at, 'credit-note', number, -total_micros
  FROM invoice
 WHERE account_id = %(account_id)s
   AND kind = 'credit-note'
   AND issued_at > %(last)s::timestamptz
 ORDER BY 1, 3"""


def _standing(cursor: Cursor, one: _Row, now: datetime) -> tuple[list[dict[str, Any]], int, int]:
    """Payments and the like since the last invoice, what they change, and what is owed with them.

    Plus is owed by the account. This invoice is not in it.
    """
    last = _last_invoice(cursor, one)
    cursor.execute(
        """
        SELECT coalesce(sum(CASE kind WHEN 'invoice' THEN total_micros ELSE -total_micros END), 0)
          FROM invoice
         WHERE account_id = %s
           AND status <> 'draft'
           AND NOT prepaid
        """,
        (one.account_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    invoiced = int(row[0]) + invoice_payments.spent(cursor, one.account_id)
    cursor.execute(
        """
        SELECT coalesce(sum(amount_micros), 0)
          FROM posting
         WHERE account_id = %s
           AND contra_book NOT IN ('sales', 'purchases')
           AND contra_book NOT IN ('fees', 'tax', 'rounding')
        """,
        (one.account_id,),
    )
    total = cursor.fetchone()
    assert total is not None
    cursor.execute(_MOVED, {"account_id": one.account_id, "last": last})
    found = cursor.fetchall()
    moved = sum(row[3] for row in found)
    if len(found) > MOVEMENTS_MAX:
        kinds = sorted({row[1] for row in found})
        found = [(now, kind, "", sum(row[3] for row in found if row[1] == kind)) for kind in kinds]
    rows = [
        {
            "at": row[0].astimezone(UTC).isoformat(),
            "kind": row[1],
            "reference": row[2],
            "owed_micros": int(row[3]),
        }
        for row in found
    ]
    return rows, int(moved), invoiced - int(total[0])


def _last_invoice(cursor: Cursor, one: _Row) -> datetime | None:
    cursor.execute(
        """
        SELECT max(issued_at)
          FROM invoice
         WHERE account_id = %s
           AND kind = 'invoice'
           AND status <> 'draft'
        """,
        (one.account_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    last: datetime | None = row[0]
    return last


# ------------------------------------------------------------------ credit notes


def void(cursor: Cursor, viewer: Viewer, invoice_id: int, reason: str, now: datetime) -> Issued:
    """Take the whole invoice back by a credit note; its charges and fees can be billed again.

    Raises `Conflict` for a draft, a credit note, and what is credited in part already.
    """
    one = _to_credit(cursor, invoice_id, reason)
    if one.credited_micros:
        raise Conflict(
            f"{one.number} was credited in part: `sky-aaa invoice credit` takes back the rest, "
            f"{format_micros(one.total_micros - one.credited_micros)} {one.currency}"
        )
    totals = invoice_draft.stored(cursor, invoice_id)
    postings = []
    if one.transaction_id is not None:
        cursor.execute(
            """
            SELECT account_id, -amount_micros, currency, contra_account_id, contra_book
              FROM posting
             WHERE transaction_id = %s
             ORDER BY position
            """,
            (one.transaction_id,),
        )
        postings = [Posting(*row) for row in cursor.fetchall()]
    note = _credit_note(cursor, viewer, one, totals, postings, reason, now)
    _release(cursor, invoice_id)
    cursor.execute(
        """
        UPDATE invoice
           SET status = 'void',
               credited_micros = greatest(total_micros, 0),
               paid_micros = 0
         WHERE invoice_id = %s
        """,
        (invoice_id,),
    )
    invoice_payments.release(cursor, invoice_id, now)
    invoice_payments.allocate(cursor, one.account_id)
    return note


def credit(
    cursor: Cursor,
    viewer: Viewer,
    invoice_id: int,
    amount_micros: int,
    reason: str,
    now: datetime,
    *,
    rate_ppm: int | None = None,
) -> Issued:
    """Give back `amount_micros`, as the invoice shows its lines, and the tax that goes with it.

    Of an invoice with several rates of tax it is said which one. Raises `BadValue` for no whole
    cents and for a rate that is not on it, `Conflict` for more than is left of the invoice, or
    of what is taxed so.
    """
    one = _to_credit(cursor, invoice_id, reason)
    unit = arithmetic.unit_micros(one.currency)
    if amount_micros <= 0 or amount_micros % unit:
        raise BadValue(
            f"{format_micros(amount_micros)} cannot be credited: it is a multiple of "
            f"{format_micros(unit)} {one.currency} above 0"
        )
    taxed = _credited_tax(invoice_draft.stored(cursor, invoice_id), one, rate_ppm)
    item = arithmetic.Item("credit", reason, amount_micros)
    totals = arithmetic.add_up((item,), (taxed.tax,), one.currency, inclusive=one.inclusive)
    left = one.total_micros - one.credited_micros
    of_rate = taxed.base_micros + taxed.tax_micros - _credited_so(cursor, invoice_id, taxed.tax)
    if totals.total_micros > min(left, of_rate):
        what = one.number if of_rate >= left else f"what {one.number} taxes so"
        raise Conflict(
            f"{format_micros(totals.total_micros)} with its tax is more than is left of "
            f"{what}: {format_micros(min(left, of_rate))} {one.currency}"
        )
    postings = [
        Posting(one.account_id, micros, one.currency, one.issuer_id, book)
        for micros, book in ((totals.net_micros, "sales"), (totals.tax_micros, "tax"))
        if micros
    ]
    note = _credit_note(cursor, viewer, one, totals, postings, reason, now)
    cursor.execute(
        "UPDATE invoice SET credited_micros = credited_micros + %s WHERE invoice_id = %s",
        (totals.total_micros, invoice_id),
    )
    invoice_payments.allocate(cursor, one.account_id)
    return note


def _credited_tax(before: arithmetic.Totals, one: _Row, rate_ppm: int | None) -> arithmetic.Taxed:
    """The tax that is given back; with several the one of that rate, where it says which."""
    wanted = [taxed for taxed in before.taxes if rate_ppm is None or taxed.tax.rate_ppm == rate_ppm]
    if len(wanted) == 1:
        return wanted[0]
    rates = ", ".join(sorted({format_percent(taxed.tax.rate_ppm) for taxed in before.taxes}))
    if wanted and rate_ppm is not None:
        # Zero and exempt have one rate: what has more left to give.
        return max(wanted, key=lambda taxed: taxed.base_micros)
    if wanted:
        raise BadValue(f"{one.number} has several rates of tax, {rates} %: say which by --rate")
    raise BadValue(f"{one.number} has no tax of that rate: {rates} % it has")


def _credited_so(cursor: Cursor, invoice_id: int, tax: arithmetic.Tax) -> int:
    """What credit notes of the invoice have given back at this tax already, with the tax."""
    cursor.execute(
        """
        SELECT coalesce(sum(invoice_tax.base_micros + invoice_tax.tax_micros), 0)::bigint
          FROM invoice
          JOIN invoice_tax USING (invoice_id)
         WHERE invoice.corrects_id = %s
           AND invoice.status <> 'draft'
           AND invoice_tax.category = %s
           AND invoice_tax.rate_ppm = %s
        """,
        (invoice_id, tax.category, tax.rate_ppm),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _to_credit(cursor: Cursor, invoice_id: int, reason: str) -> _Row:
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX:
        raise BadValue(f"say why: a reason has 1 to {REASON_CHARACTERS_MAX} characters")
    accounts.lock(cursor, [load(cursor, invoice_id).account_id])
    one = load(cursor, invoice_id)
    if one.status == "draft":
        raise Conflict(
            f"invoice {invoice_id} is a draft: it has no number yet, `sky-aaa invoice run` makes "
            "it anew"
        )
    if one.kind != "invoice":
        raise Conflict(f"{one.number} is a credit note: an invoice is credited")
    if one.status == "void":
        raise Conflict(f"{one.number} is void already")
    return one


def _credit_note(
    cursor: Cursor,
    viewer: Viewer,
    one: _Row,
    totals: arithmetic.Totals,
    postings: list[Posting],
    reason: str,
    now: datetime,
) -> Issued:
    issuer = issuers.issuer(cursor, one.issuer_id)
    day = now.astimezone(ZoneInfo(one.time_zone)).date()
    cursor.execute(
        """
        INSERT INTO invoice (
                   kind, issuer_id, account_id, currency, period_name, period_from, period_to,
                   time_zone, prepaid, inclusive, raw_micros, net_micros, tax_micros, total_micros,
                   language, seller, buyer, corrects_id, reason)
        SELECT 'credit-note', issuer_id, account_id, currency, period_name, period_from, period_to,
               time_zone, prepaid, inclusive, 0, 0, 0, 0, language, seller, buyer, invoice_id, %s
          FROM invoice
         WHERE invoice_id = %s
     RETURNING invoice_id
        """,
        (reason, one.invoice_id),
    )
    row = cursor.fetchone()
    assert row is not None
    invoice_draft.write_credit(cursor, row[0], totals)
    number = next_number(cursor, one.issuer_id, issuer.credit_series, day)
    transaction_id = None
    if postings:
        transaction_id = movements.post(
            cursor,
            kind="credit-note",
            reference=f"{one.issuer_id}/{number}",
            at=now,
            note=f"{number} for {one.number}: {reason}",
            author_id=viewer.account_id,
            postings=postings,
        )
    cursor.execute(
        """
        UPDATE invoice
           SET number = %s,
               status = 'paid',
               issued_at = %s,
               issue_date = %s,
               due_date = %s,
               transaction_id = %s
         WHERE invoice_id = %s
        """,
        (number, now, day, day, transaction_id, row[0]),
    )
    return Issued(row[0], number, totals.total_micros, one.currency, 0)


def _release(cursor: Cursor, invoice_id: int) -> None:
    """Keep what the void invoice had billed, and let it be billed again."""
    cursor.execute("UPDATE invoice SET status = 'void' WHERE invoice_id = %s", (invoice_id,))
    cursor.execute(
        """
        WITH lines AS (
            SELECT invoice_line_id FROM invoice_line WHERE invoice_id = %s
        ), charges AS (
            UPDATE charge
               SET invoice_line_id = NULL
              FROM lines
             WHERE charge.invoice_line_id = lines.invoice_line_id
         RETURNING lines.invoice_line_id, call_id, level, number, account_id
        ), fees AS (
            DELETE FROM invoice_fee
             USING lines
             WHERE invoice_fee.invoice_line_id = lines.invoice_line_id
         RETURNING lines.invoice_line_id, transaction_id, position
        )
        INSERT INTO invoice_released (
                   invoice_line_id, call_id, level, number, account_id, transaction_id, position)
        SELECT invoice_line_id, call_id, level, number, account_id, NULL, NULL
          FROM charges
         UNION ALL
        SELECT invoice_line_id, NULL, NULL, NULL, NULL, transaction_id, position
          FROM fees
        """,
        (invoice_id,),
    )
