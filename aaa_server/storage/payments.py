"""Money that is not calls: payments, each posted once by its reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage import accounts
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import Deed, Viewer, as_owner, require

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

REFERENCE_OCTETS_MAX = 200
AMOUNT_MICROS_MAX = 10**15  # a thousand million units: more is a slip of the keyboard


class Paid(NamedTuple):
    """What a top-up did; `again`: nothing, this reference had been posted before."""

    transaction_id: int
    reference: str
    again: bool
    balance_micros: int


class StatementLine(NamedTuple):
    """One posting to an account, and its balance after it."""

    at: datetime
    kind: str
    reference: str
    note: str
    amount_micros: int
    balance_micros: int
    currency: str


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

    The seller is the account's parent, and references are unique per seller: the same one
    with the same account and amount changes nothing. Raises `Conflict` when it was used for
    something else, `BadValue` for an amount that is not above 0.
    """
    account = accounts.find(cursor, viewer, code)
    require(viewer, Deed.TOP_UP, account.chain, code)
    if not 0 < amount_micros <= AMOUNT_MICROS_MAX:
        raise BadValue("a top-up is above 0 and at most 1000000000")
    if account.kind == "admin" or account.parent_id is None:
        raise BadValue(f"{code} is the operator's own account: there is nobody above it to pay")
    if not reference or len(reference.encode()) > REFERENCE_OCTETS_MAX:
        raise BadValue(f"a reference has 1 to {REFERENCE_OCTETS_MAX} characters")
    accounts.lock(cursor, [account.account_id])
    with as_owner(cursor, viewer):
        return _post(
            cursor, viewer, account, amount_micros, _full(cursor, account, reference), note
        )


def _full(cursor: Cursor, account: accounts.Account, reference: str) -> str:
    """The reference in the ledger: a reseller's own ones are told apart by its code."""
    if len(account.chain) == 1:
        return reference
    cursor.execute("SELECT code FROM account WHERE account_id = %s", (account.parent_id,))
    row = cursor.fetchone()
    assert row is not None
    return f"{row[0]}/{reference}"


def _post(
    cursor: Cursor,
    viewer: Viewer,
    account: accounts.Account,
    amount_micros: int,
    reference: str,
    note: str,
) -> Paid:
    # The insert waits for a transaction in flight with the same reference, then finds it.
    cursor.execute(
        """
        INSERT INTO ledger_transaction (transaction_id, kind, reference, at, note, author_id)
        VALUES (nextval('identifier_block'), 'payment', %s, now(), %s, %s)
            ON CONFLICT (kind, reference) DO NOTHING
     RETURNING transaction_id
        """,
        (reference, note, viewer.account_id),
    )
    row = cursor.fetchone()
    if row is None:
        return _posted_before(cursor, account, amount_micros, reference)
    cursor.execute(
        """
        INSERT INTO posting (
                   transaction_id, position, account_id, amount_micros, currency,
                   contra_account_id, contra_book)
        VALUES (%s, 0, %s, %s, %s, %s, 'cash')
        """,
        (row[0], account.account_id, amount_micros, account.currency, account.parent_id),
    )
    cursor.execute(
        """
        UPDATE account
           SET balance_micros = balance_micros + %s
         WHERE account_id = %s
     RETURNING balance_micros
        """,
        (amount_micros, account.account_id),
    )
    balance = cursor.fetchone()
    assert balance is not None
    return Paid(row[0], reference, again=False, balance_micros=balance[0])


def _posted_before(
    cursor: Cursor, account: accounts.Account, amount_micros: int, reference: str
) -> Paid:
    cursor.execute(
        """
        SELECT ledger_transaction.transaction_id, posting.account_id, posting.amount_micros,
               account.balance_micros
          FROM ledger_transaction
          JOIN posting USING (transaction_id)
          JOIN account USING (account_id)
         WHERE ledger_transaction.kind = 'payment'
           AND ledger_transaction.reference = %s
        """,
        (reference,),
    )
    row = cursor.fetchone()
    if row is None or (row[1], row[2]) != (account.account_id, amount_micros):
        raise Conflict(
            f"reference {reference!r} was used for another account or amount already: "
            "a new payment needs a reference of its own"
        )
    return Paid(row[0], reference, again=True, balance_micros=row[3])


def statement(
    cursor: Cursor,
    account_id: int,
    *,
    begin: datetime | None,
    end: datetime | None,
    limit: int,
) -> list[StatementLine]:
    """The last `limit` postings in [begin, end), oldest first, each with the balance after it.

    The balance is summed from the ledger, not read from the account.
    """
    cursor.execute(
        """
        SELECT at, kind, reference, note, amount_micros, balance_micros, currency
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
           AND (%(end)s::timestamptz IS NULL OR at < %(end)s)
         ORDER BY at DESC, transaction_id DESC, position DESC
         LIMIT %(limit)s
        """,
        {"account_id": account_id, "begin": begin, "end": end, "limit": limit},
    )
    return [StatementLine(*row) for row in reversed(cursor.fetchall())]
