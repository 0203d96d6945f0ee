"""Adjustments: corrections by hand, in either direction, each with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import format_micros
from aaa_server.storage import accounts, invoice_payments, movements
from aaa_server.storage.movements import AMOUNT_MICROS_MAX, Posting
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

LIST_MAX = 100_000
REASON_CHARACTERS_MAX = 1000


class Adjusted(NamedTuple):
    """What `adjust` did; `again`: nothing, this reference had been posted before."""

    transaction_id: int
    reference: str
    again: bool
    balance_micros: int


class Adjustment(NamedTuple):
    """One adjustment; `author_code` '' when it is above the viewer."""

    at: datetime
    account_code: str
    account_chain: tuple[int, ...]
    amount_micros: int
    currency: str
    reason: str
    reference: str
    author_code: str


def adjust(
    cursor: Cursor,
    viewer: Viewer,
    account: Account,
    amount_micros: int,
    *,
    reason: str,
    reference: str = "",
) -> Adjusted:
    """Add `amount_micros`, which may be below 0, to the account, against its seller's book.

    With a `reference` (unique by seller) the same adjustment again changes nothing; without,
    each is one more. Raises `Conflict` when more would be taken than the account may spend,
    and for a reference that was used for something else; `BadValue` without a reason.
    """
    require(viewer, Deed.MOVE_MONEY, account.chain, account.code)
    if account.parent_id is None:
        raise BadValue(f"{account.code} is the operator's own account: its books are the others'")
    if not 0 < abs(amount_micros) <= AMOUNT_MICROS_MAX:
        raise BadValue(
            f"an adjustment is not 0 and at most {AMOUNT_MICROS_MAX // 10**6} up or down, not "
            f"{format_micros(amount_micros)}"
        )
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX:
        raise BadValue(f"say why: a reason has 1 to {REASON_CHARACTERS_MAX} characters")
    if reference:
        movements.check_reference(reference)
    accounts.lock(cursor, [account.account_id])
    with as_owner(cursor, viewer):
        own = movements.sellers_reference(cursor, account.chain, reference) if reference else ""
        now = movements.standing(cursor, account.account_id)
        before = _posted_before(cursor, account, amount_micros, own) if own else None
        if before is not None:
            return Adjusted(before, own, True, now.balance_micros)
        movements.require_free(now, -amount_micros, "an adjustment")
        posting = Posting(
            account.account_id, amount_micros, account.currency, account.parent_id, "adjustments"
        )
        transaction_id = movements.post(
            cursor,
            kind="adjustment",
            reference=own,
            at=None,
            note=reason,
            author_id=viewer.account_id,
            postings=[posting],
        )
        if transaction_id is None:
            raise Conflict(_used(own))
        invoice_payments.allocate(cursor, account.account_id)
    return Adjusted(
        transaction_id, own or str(transaction_id), False, now.balance_micros + amount_micros
    )


def _posted_before(
    cursor: Cursor, account: Account, amount_micros: int, reference: str
) -> int | None:
    cursor.execute(
        """
        SELECT transaction_id,
               posting.account_id,
               posting.amount_micros
          FROM ledger_transaction
          JOIN posting USING (transaction_id)
         WHERE kind = 'adjustment'
           AND reference = %s
        """,
        (reference,),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    if (row[1], row[2]) != (account.account_id, amount_micros):
        raise Conflict(_used(reference))
    return int(row[0])


def _used(reference: str) -> str:
    return (
        f"reference {reference!r} was used for another account or amount already: "
        "a new adjustment needs a reference of its own"
    )


def list_adjustments(
    cursor: Cursor,
    viewer: Viewer,
    *,
    account_id: int | None = None,
    begin: datetime | None = None,
    end: datetime | None = None,
    limit: int = LIST_MAX,
) -> list[Adjustment]:
    """The last `limit` in [begin, end), the oldest first; of the viewer's tree."""
    cursor.execute(
        """
        SELECT ledger_transaction.at,
               account.code,
               account.chain,
               posting.amount_micros,
               posting.currency,
               ledger_transaction.note,
               ledger_transaction.reference,
               coalesce(author.code, '')
          FROM ledger_transaction
          JOIN posting USING (transaction_id)
          JOIN account USING (account_id)
          LEFT JOIN account AS author ON author.account_id = ledger_transaction.author_id
         WHERE ledger_transaction.kind = 'adjustment'
           AND (%(account_id)s::bigint IS NULL OR posting.account_id = %(account_id)s)
           AND (%(begin)s::timestamptz IS NULL OR ledger_transaction.at >= %(begin)s)
           AND (%(end)s::timestamptz IS NULL OR ledger_transaction.at < %(end)s)
         ORDER BY ledger_transaction.at DESC, ledger_transaction.transaction_id DESC
         LIMIT %(limit)s
        """,
        {"account_id": account_id, "begin": begin, "end": end, "limit": limit},
    )
    found = [Adjustment(*row)._replace(account_chain=tuple(row[2])) for row in cursor.fetchall()]
    return [one for one in reversed(found) if may(viewer, Deed.SEE, one.account_chain)]
