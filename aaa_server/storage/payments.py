"""Payments: what accounts pay to their sellers, and the operator to providers.

Each is posted once by its reference, which is unique by seller and method.
"""

from __future__ import annotations

import contextlib
import re
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage import accounts, invoice_payments, movements
from aaa_server.storage.movements import Posting
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

TO_TAKE_OFF = (
    "To take money off an account: `sky-aaa adjustment add CODE -5 --reason TEXT`; to pay a "
    "payment back: `sky-aaa payment refund REFERENCE`"
)
TOP_UP = "top-up"  # the method of payments of which nobody said one
LIST_MAX = 100_000
ROWS_AT_ONCE = 5_000
_METHOD = re.compile(r"[a-z][a-z0-9-]{0,30}")


class NewPayment(NamedTuple):
    """What was paid; `at` None is now, `invoice_id` None for whatever is due first."""

    amount_micros: int
    method: str
    reference: str
    at: datetime | None = None
    note: str = ""
    invoice_id: int | None = None


class Paid(NamedTuple):
    """What `pay` did; `again`: nothing, this reference had been posted before.

    `reference` is the one in the ledger.
    """

    transaction_id: int
    reference: str
    again: bool
    balance_micros: int
    currency: str


class Payment(NamedTuple):
    """One payment, and what was paid back of it."""

    payment_id: int
    transaction_id: int
    at: datetime
    account_id: int
    account_code: str
    account_kind: str
    account_chain: tuple[int, ...]
    method: str
    reference: str
    ledger_reference: str
    amount_micros: int
    refunded_micros: int
    currency: str
    note: str


class Filter(NamedTuple):
    """Which payments to list; '' and None: all."""

    account_id: int | None = None
    method: str = ""
    reference: str = ""
    begin: datetime | None = None
    end: datetime | None = None
    limit: int = LIST_MAX


class StatementLine(NamedTuple):
    """One posting to an account, and its balance after it."""

    at: datetime
    kind: str
    reference: str
    note: str
    amount_micros: int
    balance_micros: int
    currency: str


class Statement(NamedTuple):
    """The lines, oldest first, and the balance before them.

    `left_out` is how many postings of the same time are older than the first line.
    """

    opening_micros: int
    left_out: int
    lines: Iterator[StatementLine]


def top_up(
    cursor: Cursor,
    viewer: Viewer,
    code: str,
    amount_micros: int,
    *,
    reference: str,
    note: str = "",
) -> Paid:
    """Credit `amount_micros` to the account against its seller's cash book.

    A payment of the method `top-up`: see `pay`.
    """
    account = accounts.find(cursor, viewer, code)
    if account.kind == "provider":
        raise BadValue(f"{code} is a provider: what it is paid is entered by `sky-aaa payment add`")
    paid = NewPayment(amount_micros, TOP_UP, reference, note=note)
    return pay(cursor, viewer, account, paid)


def pay(cursor: Cursor, viewer: Viewer, account: Account, new: NewPayment) -> Paid:
    """Post the payment, in the account's currency, against its seller's cash book.

    The seller is the account's parent. A payment of an account raises its balance; one to a
    provider, whose balance is what it is owed, lowers it. The same reference of the same
    method with the same account and amount changes nothing. Raises `Conflict` when it was
    used for something else, `BadValue`.
    """
    require(viewer, Deed.TOP_UP, account.chain, account.code)
    _check(cursor, account, new)
    accounts.lock(cursor, [account.account_id])
    with as_owner(cursor, viewer):
        return _posted(cursor, viewer, account, new)


def _check(cursor: Cursor, account: Account, new: NewPayment) -> None:
    if new.amount_micros < 0:
        raise BadValue(f"a payment is above 0. {TO_TAKE_OFF}")
    movements.check_amount(new.amount_micros, "a payment")
    if account.parent_id is None:
        raise BadValue(
            f"{account.code} is the operator's own account: there is nobody above it to pay"
        )
    if not _METHOD.fullmatch(new.method):
        raise BadValue(
            f"{new.method!r} is no method of payment: small letters, digits and - are, such as "
            "bank-transfer, at most 31"
        )
    movements.check_reference(new.reference)
    if new.at is not None:
        movements.check_not_future(cursor, new.at)


def _posted(cursor: Cursor, viewer: Viewer, account: Account, new: NewPayment) -> Paid:
    own = new.reference if new.method == TOP_UP else f"{new.method}:{new.reference}"
    reference = movements.sellers_reference(cursor, account.chain, own)
    assert account.parent_id is not None
    sign = -1 if account.kind == "provider" else 1
    transaction_id = movements.post(
        cursor,
        kind="payment",
        reference=reference,
        at=new.at,
        note=new.note,
        author_id=viewer.account_id,
        postings=[
            Posting(
                account.account_id,
                sign * new.amount_micros,
                account.currency,
                account.parent_id,
                "cash",
            )
        ],
    )
    if transaction_id is None:
        return _posted_before(cursor, account, new, reference)
    cursor.execute(
        """
        INSERT INTO payment (transaction_id, account_id, seller_id, method, reference,
                             amount_micros, currency, at, note)
        SELECT transaction_id, %(account_id)s, %(seller_id)s, %(method)s, %(reference)s,
               %(amount_micros)s, %(currency)s, at, note
          FROM ledger_transaction
         WHERE transaction_id = %(transaction_id)s
        """,
        {
            "transaction_id": transaction_id,
            "account_id": account.account_id,
            "seller_id": account.parent_id,
            "method": new.method,
            "reference": new.reference,
            "amount_micros": new.amount_micros,
            "currency": account.currency,
        },
    )
    invoice_payments.allocate(cursor, account.account_id, first=new.invoice_id)
    balance = movements.standing(cursor, account.account_id).balance_micros
    return Paid(transaction_id, reference, False, balance, account.currency)


def _posted_before(cursor: Cursor, account: Account, new: NewPayment, reference: str) -> Paid:
    cursor.execute(
        """
        SELECT payment.transaction_id
          FROM payment
          JOIN ledger_transaction USING (transaction_id)
         WHERE ledger_transaction.kind = 'payment'
           AND ledger_transaction.reference = %(ledger_reference)s
           AND payment.seller_id = %(seller_id)s
           AND payment.method = %(method)s
           AND payment.reference = %(reference)s
           AND payment.account_id = %(account_id)s
           AND payment.amount_micros = %(amount_micros)s
        """,
        {
            "ledger_reference": reference,
            "seller_id": account.parent_id,
            "method": new.method,
            "reference": new.reference,
            "account_id": account.account_id,
            "amount_micros": new.amount_micros,
        },
    )
    row = cursor.fetchone()
    if row is None:
        raise Conflict(
            f"reference {new.reference!r} was used for another account or amount already: "
            "a new payment needs a reference of its own"
        )
    balance = movements.standing(cursor, account.account_id).balance_micros
    return Paid(row[0], reference, True, balance, account.currency)


def list_payments(cursor: Cursor, viewer: Viewer, wanted: Filter) -> list[Payment]:
    """The last `wanted.limit` in [begin, end), the oldest first; of the viewer's tree."""
    cursor.execute(
        """
        SELECT payment.payment_id,
               payment.transaction_id,
               payment.at,
               payment.account_id,
               account.code,
               account.kind,
               account.chain,
               payment.method,
               payment.reference,
               ledger_transaction.reference,
               payment.amount_micros,
               (SELECT coalesce(sum(refund.amount_micros), 0)::bigint
                  FROM refund
                 WHERE refund.payment_id = payment.payment_id),
               payment.currency,
               payment.note
          FROM payment
          JOIN account USING (account_id)
          JOIN ledger_transaction USING (transaction_id)
         WHERE (%(account_id)s::bigint IS NULL OR payment.account_id = %(account_id)s)
           AND (%(method)s = '' OR payment.method = %(method)s)
           AND (%(reference)s = '' OR payment.reference = %(reference)s)
           AND (%(begin)s::timestamptz IS NULL OR payment.at >= %(begin)s)
           AND (%(end)s::timestamptz IS NULL OR payment.at < %(end)s)
         ORDER BY payment.at DESC, payment.payment_id DESC
         LIMIT %(limit)s
        """,
        wanted._asdict(),
    )
    found = [Payment(*row)._replace(account_chain=tuple(row[6])) for row in cursor.fetchall()]
    return [one for one in reversed(found) if may(viewer, Deed.SEE, one.account_chain)]


def find(
    cursor: Cursor,
    viewer: Viewer,
    reference: str,
    *,
    method: str = "",
    account_id: int | None = None,
) -> Payment:
    """The payment that has this reference.

    Raises `NotFound`, and `Conflict` when more than one has it.
    """
    found = list_payments(
        cursor, viewer, Filter(account_id=account_id, method=method, reference=reference)
    )
    if not found:
        raise NotFound(
            f"there is no payment {reference!r}: `sky-aaa payment list` shows their references"
        )
    if len(found) > 1:
        which = ", ".join(f"{one.account_code} by {one.method}" for one in found[:5])
        raise Conflict(
            f"{len(found)} payments have the reference {reference!r} ({which}): say which by "
            "--method or --account"
        )
    return found[0]


@contextlib.contextmanager
def statement(
    cursor: Cursor,
    account_id: int,
    *,
    begin: datetime | None,
    end: datetime | None,
    limit: int | None,
) -> Iterator[Statement]:
    """The last `limit` postings in [begin, end), or all of them, read as they are asked for.

    The balances are summed from the ledger, not read from the account.
    """
    wanted = {"account_id": account_id, "begin": begin, "end": end, "limit": limit}
    with cursor.connection.cursor(name="statement") as rows:
        rows.itersize = ROWS_AT_ONCE
        rows.execute(_STATEMENT, wanted)
        first = next(rows, None)
        if first is None:
            yield Statement(_balance_before(cursor, account_id, end), 0, iter(()))
            return
        left_out, line = first[0], StatementLine(*first[1:])
        lines = chain([line], (StatementLine(*row[1:]) for row in rows))
        yield Statement(line.balance_micros - line.amount_micros, left_out, lines)


_STATEMENT = """
    SELECT greatest(postings - %(limit)s::bigint, 0),
           at,
           kind,
           reference,
           note,
           amount_micros,
           balance_micros,
           currency
      FROM (SELECT line.*,
                   count(*) OVER () AS postings,
                   row_number() OVER (ORDER BY at DESC, transaction_id DESC, position DESC)
                       AS from_the_end
              FROM (SELECT ledger_transaction.at,
                           ledger_transaction.kind,
                           ledger_transaction.reference,
                           ledger_transaction.note,
                           posting.amount_micros,
                           (sum(posting.amount_micros) OVER running)::bigint AS balance_micros,
                           posting.currency,
                           posting.transaction_id,
                           posting.position
                      FROM posting
                      JOIN ledger_transaction USING (transaction_id)
                     WHERE posting.account_id = %(account_id)s
                    WINDOW running AS (ORDER BY ledger_transaction.at,
                                                posting.transaction_id,
                                                posting.position)) AS line
             WHERE (%(begin)s::timestamptz IS NULL OR at >= %(begin)s)
               AND (%(end)s::timestamptz IS NULL OR at < %(end)s)) AS numbered
     WHERE %(limit)s::bigint IS NULL
        OR from_the_end <= %(limit)s
     ORDER BY from_the_end DESC
"""


def _balance_before(cursor: Cursor, account_id: int, end: datetime | None) -> int:
    cursor.execute(
        """
        SELECT coalesce(sum(posting.amount_micros), 0)::bigint
          FROM posting
          JOIN ledger_transaction USING (transaction_id)
         WHERE posting.account_id = %(account_id)s
           AND (%(end)s::timestamptz IS NULL OR ledger_transaction.at < %(end)s)
        """,
        {"account_id": account_id, "end": end},
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])
