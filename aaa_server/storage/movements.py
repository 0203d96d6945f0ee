"""How money moves outside of calls: lock the accounts, look at what is free, post once.

Every movement has a kind and a reference, which the ledger takes once: whoever tries again
changes nothing. What calls in progress have reserved is never spent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import format_micros
from aaa_server.storage.problem import BadValue, Conflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import cursor as Cursor

REFERENCE_OCTETS_MAX = 200
AMOUNT_MICROS_MAX = 10**15  # a thousand million units: more is a slip of the keyboard
# What a command calls "now" may be a little ahead of the database's clock.
CLOCK_SLACK = timedelta(minutes=1)


class Posting(NamedTuple):
    """`amount_micros` to the account's balance; its opposite to a book of the contra account."""

    account_id: int
    amount_micros: int
    currency: str
    contra_account_id: int
    contra_book: str


class Standing(NamedTuple):
    """An account's money and state while its lock is held."""

    account_id: int
    code: str
    kind: str
    parent_id: int | None
    prepaid: bool
    currency: str
    status: str
    balance_micros: int
    reserved_micros: int
    credit_limit_micros: int

    @property
    def available_micros(self) -> int:
        """What may be spent."""
        return self.balance_micros - self.reserved_micros + self.credit_limit_micros

    @property
    def seller_id(self) -> int:
        """Whose books the account's money is in: its parent's."""
        assert self.parent_id is not None, "the operator's own account has no postings"
        return self.parent_id


def standing(cursor: Cursor, account_id: int) -> Standing:
    """The account as it is now; ask after `accounts.lock`, in a statement of its own."""
    cursor.execute(
        """
        SELECT account_id,
               code,
               kind,
               parent_id,
               prepaid,
               currency,
               status,
               balance_micros,
               reserved_micros,
               credit_limit_micros
          FROM account
         WHERE account_id = %s
        """,
        (account_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    return Standing(*row)


def require_free(account: Standing, amount_micros: int, what: str) -> None:
    """Raises `Conflict`, with the numbers, when `amount_micros` is more than may be spent.

    A provider's balance is what it is owed: nothing of it is reserved, and it may be paid in
    advance.
    """
    if account.kind == "provider" or amount_micros <= account.available_micros:
        return
    held = ""
    if account.reserved_micros:
        held = f", {format_micros(account.reserved_micros)} being reserved for its calls"
    raise Conflict(
        f"{what} of {format_micros(amount_micros)} {account.currency} is more than "
        f"{account.code} may spend: {format_micros(account.available_micros)}{held}"
    )


def check_amount(amount_micros: int, what: str) -> None:
    """Raises `BadValue` for an amount that is not above 0, or beyond all measure."""
    if not 0 < amount_micros <= AMOUNT_MICROS_MAX:
        most = AMOUNT_MICROS_MAX // 10**6
        raise BadValue(f"{what} is above 0 and at most {most}, not {format_micros(amount_micros)}")


def check_reference(reference: str) -> None:
    """Raises `BadValue` for an empty or endless reference."""
    if not reference.strip() or len(reference.encode()) > REFERENCE_OCTETS_MAX:
        raise BadValue(f"a reference has 1 to {REFERENCE_OCTETS_MAX} characters")


def check_not_future(cursor: Cursor, at: datetime) -> None:
    """Raises `BadValue` for a movement of money that has not happened yet."""
    cursor.execute("SELECT now()")
    row = cursor.fetchone()
    assert row is not None
    if at > row[0] + CLOCK_SLACK:
        raise BadValue(f"{show(at)} is in the future: money is posted when it has moved")


def sellers_reference(cursor: Cursor, chain: Sequence[int], reference: str) -> str:
    """The reference in the ledger: a reseller's own ones are told apart by its code.

    `chain` is that of an account whose seller it is.
    """
    if len(chain) <= 1:
        return reference
    cursor.execute("SELECT code FROM account WHERE account_id = %s", (chain[1],))
    row = cursor.fetchone()
    assert row is not None
    return f"{row[0]}/{reference}"


def post(
    cursor: Cursor,
    *,
    kind: str,
    reference: str,
    at: datetime | None,
    note: str,
    author_id: int | None,
    postings: Sequence[Posting],
) -> int | None:
    """The new transaction's number; None, and nothing done, when the reference has been posted.

    '' as the reference is the transaction's own number; `at` None is now. The caller holds
    the locks of all accounts and has looked at what they may spend.
    """
    # The insert waits for a transaction in flight with the same reference, then finds it.
    cursor.execute(
        """
        INSERT INTO ledger_transaction (transaction_id, kind, reference, at, note, author_id)
        SELECT number,
               %(kind)s,
               coalesce(nullif(%(reference)s, ''), number::text),
               coalesce(%(at)s, now()),
               %(note)s,
               %(author_id)s
          FROM nextval('identifier_block') AS number
            ON CONFLICT (kind, reference) DO NOTHING
     RETURNING transaction_id
        """,
        {"kind": kind, "reference": reference, "at": at, "note": note, "author_id": author_id},
    )
    row = cursor.fetchone()
    if row is None:
        return None
    for position, one in enumerate(postings):
        cursor.execute(
            """
            INSERT INTO posting (
                       transaction_id, position, account_id, amount_micros, currency,
                       contra_account_id, contra_book)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            """,
            (row[0], position, *one),
        )
        cursor.execute(
            "UPDATE account SET balance_micros = balance_micros + %s WHERE account_id = %s",
            (one.amount_micros, one.account_id),
        )
    return int(row[0])


def note_event(
    cursor: Cursor, kind: str, account_id: int, at: datetime, detail: dict[str, str]
) -> None:
    """Tell whoever looks after the account; `detail` in words and amounts."""
    names = list(detail)
    cursor.execute(
        """
        INSERT INTO event (at, account_id, kind, detail)
        VALUES (%s, %s, %s, jsonb_object(%s::text[], %s::text[]))
        """,
        (at, account_id, kind, names, [detail[name] for name in names]),
    )


def show(at: datetime) -> str:
    """An instant for a text."""
    return at.astimezone(UTC).isoformat(" ", "seconds").replace("+00:00", "Z")
