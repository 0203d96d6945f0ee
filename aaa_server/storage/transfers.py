"""Transfers: money from one account to another of the same seller.

Two accounts are inside one reseller when both are directly below it (or below the operator).
Each side is a posting in its own account's currency against a book of the seller: in one
currency the two cancel out there; in two, the seller's exchange book holds both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import EXCHANGE_SCALE, div_half_up, format_exchange
from aaa_server.storage import accounts, currencies, invoice_payments, movements
from aaa_server.storage.movements import Posting
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import Deed, Viewer, as_owner, require

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account


class Transferred(NamedTuple):
    """What `transfer` did; `again`: nothing, this reference had been posted before."""

    transaction_id: int
    reference: str
    again: bool
    received_micros: int
    exchange_e10: int
    from_balance_micros: int
    to_balance_micros: int


def transfer(
    cursor: Cursor,
    viewer: Viewer,
    source: Account,
    target: Account,
    amount_micros: int,
    *,
    reference: str,
    note: str = "",
) -> Transferred:
    """Take `amount_micros` from `source`, in its currency, and give it to `target`.

    Another currency is converted at the rate in force now, rounded half up. The reference is
    unique by seller: the same transfer again changes nothing. Raises `Conflict` for more
    than `source` may spend, without an exchange rate, and for a reference that was used for
    something else; `BadValue` for accounts that have not one seller.
    """
    for account in (source, target):
        require(viewer, Deed.MOVE_MONEY, account.chain, account.code)
    _check(source, target, amount_micros, reference)
    accounts.lock(cursor, [source.account_id, target.account_id])
    with as_owner(cursor, viewer):
        own = movements.sellers_reference(cursor, source.chain, reference)
        before = _posted_before(cursor, source, target, amount_micros, reference)
        if before is None:
            if movements.standing(cursor, target.account_id).status == "closed":
                raise Conflict(f"{target.code} is closed: it gets no money")
            now = movements.standing(cursor, source.account_id)
            movements.require_free(now, amount_micros, "a transfer")
            before = _post(cursor, viewer, source, target, amount_micros, own, note)
            _keep(cursor, source, target, amount_micros, reference, before)
            invoice_payments.allocate(cursor, source.account_id)
            invoice_payments.allocate(cursor, target.account_id)
        transaction_id, received, exchange, again = before
        return Transferred(
            transaction_id,
            own,
            again,
            received,
            exchange,
            movements.standing(cursor, source.account_id).balance_micros,
            movements.standing(cursor, target.account_id).balance_micros,
        )


def _check(source: Account, target: Account, amount_micros: int, reference: str) -> None:
    movements.check_amount(amount_micros, "a transfer")
    movements.check_reference(reference)
    if source.account_id == target.account_id:
        raise BadValue(f"{source.code} has its own money already: name two accounts")
    for account in (source, target):
        if account.kind not in ("customer", "reseller"):
            raise BadValue(
                f"{account.code} is of kind {account.kind}: transfers are between customers and "
                "resellers"
            )
    if source.parent_id != target.parent_id:
        raise BadValue(
            f"{source.code} and {target.code} have different sellers: a transfer is between "
            "accounts directly below the same one"
        )


def _post(
    cursor: Cursor,
    viewer: Viewer,
    source: Account,
    target: Account,
    amount_micros: int,
    reference: str,
    note: str,
) -> tuple[int, int, int, bool]:
    """Transaction, what is received, the rate that was applied, and that it is not `again`."""
    assert source.parent_id is not None
    exchange = currencies.rate_now(cursor, source.currency, target.currency)
    if exchange is None:
        raise Conflict(
            f"there is no exchange rate from {source.currency} to {target.currency}: "
            f"`sky-aaa currency rate {source.currency} {target.currency} …` enters one"
        )
    received = div_half_up(amount_micros * exchange, EXCHANGE_SCALE)
    if not received:
        raise BadValue(f"so little is nothing in {target.currency}")
    # Both sides read the note in their statements: it does not say who is on the other.
    book, notes = "transfers", [note]
    if source.currency != target.currency:
        book = "exchange"
        rate = f"1 {source.currency} = {format_exchange(exchange)} {target.currency}"
        notes = [rate, note]
    transaction_id = movements.post(
        cursor,
        kind="transfer",
        reference=reference,
        at=None,
        note=", ".join(filter(None, notes)),
        author_id=viewer.account_id,
        postings=[
            Posting(source.account_id, -amount_micros, source.currency, source.parent_id, book),
            Posting(target.account_id, received, target.currency, source.parent_id, book),
        ],
    )
    if transaction_id is None:
        raise Conflict(_used(reference))
    return transaction_id, received, exchange, False


def _keep(
    cursor: Cursor,
    source: Account,
    target: Account,
    amount_micros: int,
    reference: str,
    posted: tuple[int, int, int, bool],
) -> None:
    transaction_id, received, exchange, _ = posted
    cursor.execute(
        """
        INSERT INTO transfer (transaction_id, seller_id, reference, from_account_id,
                              to_account_id, amount_micros, received_micros, exchange_e10)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            transaction_id,
            source.parent_id,
            reference,
            source.account_id,
            target.account_id,
            amount_micros,
            received,
            exchange,
        ),
    )


def _posted_before(
    cursor: Cursor, source: Account, target: Account, amount_micros: int, reference: str
) -> tuple[int, int, int, bool] | None:
    cursor.execute(
        """
        SELECT transaction_id,
               from_account_id,
               to_account_id,
               amount_micros,
               received_micros,
               exchange_e10
          FROM transfer
         WHERE seller_id = %s
           AND reference = %s
        """,
        (source.parent_id, reference),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    if tuple(row[1:4]) != (source.account_id, target.account_id, amount_micros):
        raise Conflict(_used(reference))
    return row[0], row[4], row[5], True


def _used(reference: str) -> str:
    return (
        f"reference {reference!r} was used for other accounts or another amount already: "
        "a new transfer needs a reference of its own"
    )
