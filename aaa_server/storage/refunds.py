"""Refunds: payments that are paid back, in parts or whole, never more than was paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import format_micros
from aaa_server.storage import accounts, invoice_payments, movements
from aaa_server.storage.movements import Posting
from aaa_server.storage.problem import Conflict
from aaa_server.storage.viewer import Deed, Viewer, as_owner, require

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.payments import Payment


class Refunded(NamedTuple):
    """What `refund` did; `again`: nothing, this reference had been posted before.

    `left_micros` is what may still be paid back.
    """

    transaction_id: int
    reference: str
    again: bool
    amount_micros: int
    left_micros: int
    balance_micros: int


def refund(
    cursor: Cursor,
    viewer: Viewer,
    payment: Payment,
    *,
    amount_micros: int | None = None,
    reference: str = "",
    note: str = "",
) -> Refunded:
    """Pay `amount_micros` of the payment back; None: all that is left of it.

    With a `reference` (unique by seller) the same refund again changes nothing; without, each
    is one more. Raises `Conflict` for more than is left of the payment, for more than the
    account may spend, and for a reference that was used for another refund; `BadValue`.
    """
    require(viewer, Deed.MOVE_MONEY, payment.account_chain, payment.account_code)
    if amount_micros is not None:
        movements.check_amount(amount_micros, "a refund")
    if reference:
        movements.check_reference(reference)
    accounts.lock(cursor, [payment.account_id])
    with as_owner(cursor, viewer):
        own = movements.sellers_reference(cursor, payment.account_chain, reference)
        before = _posted_before(cursor, payment, own) if reference else None
        if before is not None:
            return _again(cursor, payment, before, amount_micros, own)
        return _posted(cursor, viewer, payment, amount_micros, own if reference else "", note)


def _posted(
    cursor: Cursor,
    viewer: Viewer,
    payment: Payment,
    amount_micros: int | None,
    reference: str,
    note: str,
) -> Refunded:
    number, done = _so_far(cursor, payment)
    left = payment.amount_micros - done
    amount = left if amount_micros is None else amount_micros
    if amount > left or not left:
        raise Conflict(
            f"{format_micros(left)} {payment.currency} of payment {payment.reference!r} can still "
            f"be refunded: {format_micros(done)} of {format_micros(payment.amount_micros)} was"
            + ("" if amount_micros is None else f", and {format_micros(amount)} is wanted")
        )
    account = movements.standing(cursor, payment.account_id)
    movements.require_free(account, amount, "a refund")
    sign = 1 if account.kind == "provider" else -1
    reference = reference or f"{payment.ledger_reference}#{number}"
    transaction_id = movements.post(
        cursor,
        kind="refund",
        reference=reference,
        at=None,
        note=note,
        author_id=viewer.account_id,
        postings=[
            Posting(account.account_id, sign * amount, account.currency, account.seller_id, "cash")
        ],
    )
    if transaction_id is None:
        raise Conflict(_used(reference))
    cursor.execute(
        """
        INSERT INTO refund (payment_id, number, transaction_id, amount_micros, at, note)
        VALUES (%s, %s, %s, %s, now(), %s)
        """,
        (payment.payment_id, number, transaction_id, amount, note),
    )
    invoice_payments.allocate(cursor, account.account_id)
    balance = account.balance_micros + sign * amount
    return Refunded(transaction_id, reference, False, amount, left - amount, balance)


def _so_far(cursor: Cursor, payment: Payment) -> tuple[int, int]:
    """The number that the next refund has, and the sum of those before."""
    cursor.execute(
        """
        SELECT count(*) + 1,
               coalesce(sum(amount_micros), 0)::bigint
          FROM refund
         WHERE payment_id = %s
        """,
        (payment.payment_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    return row[0], row[1]


def _posted_before(cursor: Cursor, payment: Payment, reference: str) -> tuple[int, int] | None:
    """Transaction and amount of the refund of that reference; raises `Conflict` for another's."""
    cursor.execute(
        """
        SELECT ledger_transaction.transaction_id,
               refund.payment_id,
               refund.amount_micros
          FROM ledger_transaction
          LEFT JOIN refund USING (transaction_id)
         WHERE ledger_transaction.kind = 'refund'
           AND ledger_transaction.reference = %s
        """,
        (reference,),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    if row[1] != payment.payment_id:
        raise Conflict(_used(reference))
    return row[0], row[2]


def _again(
    cursor: Cursor,
    payment: Payment,
    before: tuple[int, int],
    amount_micros: int | None,
    reference: str,
) -> Refunded:
    transaction_id, posted = before
    if amount_micros not in (None, posted):
        raise Conflict(_used(reference))
    _, done = _so_far(cursor, payment)
    balance = movements.standing(cursor, payment.account_id).balance_micros
    left = payment.amount_micros - done
    return Refunded(transaction_id, reference, True, posted, left, balance)


def _used(reference: str) -> str:
    return (
        f"reference {reference!r} was used for another refund or amount already: "
        "a new refund needs a reference of its own"
    )
