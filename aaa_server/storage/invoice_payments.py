"""Which money has paid which invoices.

Payments, and what else is in the account's favour: adjustments, transfers, coupons, and
invoices below 0. What was said with a payment holds; all else pays the invoice that is due
first. Money that goes back, or an invoice that becomes void, sets free what was paid with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor


class Source(NamedTuple):
    """Where money comes from: a payment, a posting, or an invoice below 0."""

    payment_id: int | None = None
    transaction_id: int | None = None
    position: int | None = None
    credit_id: int | None = None


class Part(NamedTuple):
    """So much of one source pays one invoice."""

    invoice_id: int
    source: Source
    amount_micros: int


def shares(invoices: Sequence[tuple[int, int]], free: Sequence[tuple[Source, int]]) -> list[Part]:
    """Money (source, free micros) over invoices (id, open micros), each in its order."""
    found = []
    left = dict(free)
    for invoice_id, open_micros in invoices:
        for source, _ in free:
            amount = min(open_micros, left[source])
            if amount > 0:
                found.append(Part(invoice_id, source, amount))
                left[source] -= amount
                open_micros -= amount
    return found


def in_favour(moved: Sequence[tuple[Source, int]], spent_micros: int) -> dict[Source, int]:
    """What each source is worth; `moved` in the order of time, `spent_micros` by prepaid calls.

    Postings against the account (an adjustment down, a transfer to another) are taken off its
    other postings, the newest first, and off nothing else: an invoice that was paid stays
    paid. What a prepaid account has spent is taken off the oldest money.
    """
    against = -sum(micros for _, micros in moved if micros < 0)
    worth = {source: micros for source, micros in moved if micros >= 0}
    for source in reversed(worth):
        if source.transaction_id is not None:
            less = min(against, worth[source])
            worth[source] -= less
            against -= less
    for source in worth:
        less = min(spent_micros, worth[source])
        worth[source] -= less
        spent_micros -= less
    return worth


def allocate(cursor: Cursor, account_id: int, *, first: int | None = None) -> None:
    """Let the account's money pay its invoices, `first` before all others.

    The caller holds the account's lock and runs as the owner.
    """
    if not _has_invoices(cursor, account_id):
        return
    _take_back(cursor, account_id)
    # What was taken back may have left a paid one open.
    _settle(cursor, account_id)
    cursor.execute(
        """
        SELECT invoice_id, total_micros - paid_micros - credited_micros
          FROM invoice
         WHERE account_id = %s
           AND kind = 'invoice'
           AND status IN ('issued', 'part-paid')
         ORDER BY invoice_id IS DISTINCT FROM %s, due_date, invoice_id
        """,
        (account_id, first),
    )
    invoices = cursor.fetchall()
    if invoices:
        for one in shares(invoices, list(_free(cursor, account_id).items())):
            _give(cursor, one)
    _settle(cursor, account_id)


def release(cursor: Cursor, invoice_id: int, now: datetime) -> None:
    """What has paid this invoice may pay others."""
    cursor.execute(
        """
        UPDATE invoice_payment
           SET released_at = %s
         WHERE invoice_id = %s
           AND released_at IS NULL
        """,
        (now, invoice_id),
    )


def spent(cursor: Cursor, account_id: int) -> int:
    """What prepaid invoices have billed: it was paid out of the balance when it was used."""
    cursor.execute(
        """
        SELECT greatest(0, coalesce(sum(CASE kind WHEN 'invoice' THEN raw_micros
                                                  ELSE -total_micros END), 0))::bigint
          FROM invoice
         WHERE account_id = %s
           AND prepaid
           AND status NOT IN ('draft', 'void')
           AND (kind = 'invoice'
                OR EXISTS (SELECT
                             FROM invoice AS corrected
                            WHERE corrected.invoice_id = invoice.corrects_id
                              AND corrected.status <> 'void'))
        """,
        (account_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _has_invoices(cursor: Cursor, account_id: int) -> bool:
    """Whether anything could be paid, or could have been."""
    cursor.execute(
        """
        SELECT EXISTS (SELECT
                         FROM invoice
                        WHERE account_id = %s
                          AND kind = 'invoice'
                          AND status <> 'draft'
                          AND NOT prepaid)
        """,
        (account_id,),
    )
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def _give(cursor: Cursor, one: Part) -> None:
    cursor.execute(
        """
        INSERT INTO invoice_payment (
                   invoice_id, payment_id, transaction_id, position, credit_id, amount_micros)
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        (one.invoice_id, *one.source, one.amount_micros),
    )


def _free(cursor: Cursor, account_id: int) -> dict[Source, int]:
    """What is left of each source, the oldest first; below 0 where money went back."""
    worth = in_favour(_moved(cursor, account_id), spent(cursor, account_id))
    cursor.execute(
        """
        SELECT used.payment_id,
               used.transaction_id,
               used.position,
               used.credit_id,
               sum(used.amount_micros)::bigint
          FROM invoice
          JOIN invoice_payment AS used USING (invoice_id)
         WHERE invoice.account_id = %s
           AND used.released_at IS NULL
         GROUP BY 1, 2, 3, 4
        """,
        (account_id,),
    )
    for *source, used in cursor.fetchall():
        known = Source(*source)
        worth[known] = worth.get(known, 0) - used
    return worth


def _moved(cursor: Cursor, account_id: int) -> list[tuple[Source, int]]:
    cursor.execute(
        """
        SELECT payment_id, transaction_id, position, credit_id, micros
          FROM (SELECT payment.payment_id,
                       NULL::bigint AS transaction_id,
                       NULL::smallint AS position,
                       NULL::bigint AS credit_id,
                       payment.amount_micros
                       - (SELECT coalesce(sum(refund.amount_micros), 0)
                            FROM refund
                           WHERE refund.payment_id = payment.payment_id)::bigint AS micros,
                       payment.at
                  FROM payment
                 WHERE payment.account_id = %(account_id)s
                 UNION ALL
                SELECT NULL,
                       posting.transaction_id,
                       posting.position,
                       NULL,
                       posting.amount_micros,
                       ledger_transaction.at
                  FROM posting
                  JOIN ledger_transaction USING (transaction_id)
                 WHERE posting.account_id = %(account_id)s
                   AND posting.contra_book NOT IN ('sales', 'purchases')
                   AND ledger_transaction.kind IN ('adjustment', 'transfer', 'coupon', 'card')
                 UNION ALL
                SELECT NULL, NULL, NULL, invoice_id, -total_micros, issued_at
                  FROM invoice
                 WHERE account_id = %(account_id)s
                   AND kind = 'invoice'
                   AND NOT prepaid
                   AND total_micros < 0
                   AND status NOT IN ('draft', 'void')) AS moved
         ORDER BY at, payment_id, transaction_id, position, credit_id
        """,
        {"account_id": account_id},
    )
    return [(Source(*row[:4]), row[4]) for row in cursor.fetchall()]


def _take_back(cursor: Cursor, account_id: int) -> None:
    """Money that went back, and invoices that were credited, need less than was given."""
    for source, left in _free(cursor, account_id).items():
        if left < 0:
            _release_last(cursor, -left, source=source)
    cursor.execute(
        """
        SELECT invoice_id, paid_micros + credited_micros - total_micros
          FROM invoice
         WHERE account_id = %s
           AND kind = 'invoice'
           AND NOT prepaid
           AND credited_micros > 0
           AND paid_micros + credited_micros > total_micros
           AND status <> 'void'
        """,
        (account_id,),
    )
    for invoice_id, excess in cursor.fetchall():
        _release_last(cursor, excess, invoice_id=invoice_id)


def _release_last(
    cursor: Cursor, excess: int, *, source: Source | None = None, invoice_id: int | None = None
) -> None:
    """Set free what was given last, until it is `excess`."""
    cursor.execute(
        """
        SELECT invoice_payment_id, invoice_id, amount_micros, payment_id, transaction_id, position,
               credit_id
          FROM invoice_payment
         WHERE released_at IS NULL
           AND (invoice_id = %(invoice_id)s
                OR payment_id = %(payment_id)s
                OR (transaction_id = %(transaction_id)s AND position = %(position)s)
                OR credit_id = %(credit_id)s)
         ORDER BY invoice_payment_id DESC
        """,
        {**(source or Source())._asdict(), "invoice_id": invoice_id},
    )
    for part_id, paid_id, amount, *from_ in cursor.fetchall():
        if excess <= 0:
            break
        cursor.execute(
            "UPDATE invoice_payment SET released_at = now() WHERE invoice_payment_id = %s",
            (part_id,),
        )
        if amount > excess:
            _give(cursor, Part(paid_id, Source(*from_), amount - excess))
        excess -= amount


def _settle(cursor: Cursor, account_id: int) -> None:
    """Write what is paid, and the status that this means."""
    cursor.execute(
        """
        UPDATE invoice
           SET paid_micros = paid.micros,
               status = CASE WHEN paid.micros + credited_micros >= total_micros THEN 'paid'
                             WHEN paid.micros > 0 THEN 'part-paid'
                             ELSE 'issued' END
          FROM (SELECT one.invoice_id,
                       coalesce(sum(invoice_payment.amount_micros), 0)::bigint AS micros
                  FROM invoice AS one
                  LEFT JOIN invoice_payment
                         ON invoice_payment.invoice_id = one.invoice_id
                        AND invoice_payment.released_at IS NULL
                 WHERE one.account_id = %s
                   AND one.kind = 'invoice'
                   AND NOT one.prepaid
                   AND one.status IN ('issued', 'part-paid', 'paid')
                 GROUP BY one.invoice_id) AS paid
         WHERE invoice.invoice_id = paid.invoice_id
           AND (invoice.paid_micros <> paid.micros
                OR invoice.status
                   <> CASE WHEN paid.micros + credited_micros >= total_micros THEN 'paid'
                           WHEN paid.micros > 0 THEN 'part-paid'
                           ELSE 'issued' END)
        """,
        (account_id,),
    )
