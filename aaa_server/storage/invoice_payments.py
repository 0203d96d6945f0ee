"""Which payments have paid which invoices.

What was said with a payment holds; all else pays the oldest invoice first. Money that goes
back, or an invoice that becomes void, sets free what was paid with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor


class Part(NamedTuple):
    """So much of one payment pays one invoice."""

    invoice_id: int
    payment_id: int
    amount_micros: int


def shares(invoices: Sequence[tuple[int, int]], free: Sequence[tuple[int, int]]) -> list[Part]:
    """Payments (id, free micros) over invoices (id, open micros), each in its order."""
    found = []
    left = dict(free)
    for invoice_id, open_micros in invoices:
        for payment_id, _ in free:
            amount = min(open_micros, left[payment_id])
            if amount > 0:
                found.append(Part(invoice_id, payment_id, amount))
                left[payment_id] -= amount
                open_micros -= amount
    return found


def allocate(cursor: Cursor, account_id: int, *, first: int | None = None) -> None:
    """Let the account's payments pay its invoices, `first` before all others.

    The caller holds the account's lock and runs as the owner.
    """
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
        for one in shares(invoices, _free(cursor, account_id)):
            cursor.execute(
                """
                INSERT INTO invoice_payment (invoice_id, payment_id, amount_micros)
                VALUES (%s, %s, %s)
                """,
                one,
            )
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


def _free(cursor: Cursor, account_id: int) -> list[tuple[int, int]]:
    """What is left of each payment, the oldest first; below 0 where money went back."""
    cursor.execute(
        """
        SELECT payment.payment_id,
               payment.amount_micros
               - (SELECT coalesce(sum(refund.amount_micros), 0)
                    FROM refund
                   WHERE refund.payment_id = payment.payment_id)::bigint
               - (SELECT coalesce(sum(used.amount_micros), 0)
                    FROM invoice_payment AS used
                   WHERE used.payment_id = payment.payment_id
                     AND used.released_at IS NULL)::bigint
          FROM payment
         WHERE payment.account_id = %s
         ORDER BY payment.at, payment.payment_id
        """,
        (account_id,),
    )
    return cursor.fetchall()


def _take_back(cursor: Cursor, account_id: int) -> None:
    """Payments that went back, and invoices that were credited, need less than was given."""
    for payment_id, left in _free(cursor, account_id):
        if left < 0:
            _release_last(cursor, -left, payment_id=payment_id)
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
    cursor: Cursor, excess: int, *, payment_id: int | None = None, invoice_id: int | None = None
) -> None:
    """Set free what was given last, until it is `excess`."""
    cursor.execute(
        """
        SELECT invoice_payment_id, invoice_id, payment_id, amount_micros
          FROM invoice_payment
         WHERE (payment_id = %s OR invoice_id = %s)
           AND released_at IS NULL
         ORDER BY invoice_payment_id DESC
        """,
        (payment_id, invoice_id),
    )
    for part_id, *ids, amount in cursor.fetchall():
        if excess <= 0:
            break
        cursor.execute(
            "UPDATE invoice_payment SET released_at = now() WHERE invoice_payment_id = %s",
            (part_id,),
        )
        if amount > excess:
            cursor.execute(
                """
                INSERT INTO invoice_payment (invoice_id, payment_id, amount_micros)
                VALUES (%s, %s, %s)
                """,
                (*ids, amount - excess),
            )
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
