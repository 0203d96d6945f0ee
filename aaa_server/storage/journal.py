"""The ledger as one party keeps its books: what it sold, bought, was paid and paid.

A posting stands in the books of its contra account, the seller: the operator's, or a
reseller's. A reseller's own postings stand in its books too, as what it buys: its seller
is the other party then, and the book is the seller's (`seller.sales`), turned round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.problem import NotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.viewer import Viewer

ROWS_AT_ONCE = 10_000  # of the journal in memory
SELLER = 0  # as a party: whose code the account that buys from it does not know


class Owner(NamedTuple):
    """Whose books they are."""

    account_id: int
    code: str
    name: str
    currency: str
    time_zone: str


class Party(NamedTuple):
    """The other side of entries; `kind` is customer, reseller, provider or seller."""

    account_id: int
    code: str
    kind: str
    name: str


class Wanted(NamedTuple):
    """Entries posted in [begin, end), None: from the beginning; '' as currency: all."""

    owner_id: int
    begin: datetime | None
    end: datetime
    currency: str
    time_zone: str


class Total(NamedTuple):
    """What came to one party and book: before `begin`, and in the period.

    Amounts are what the party is credited with; the book has the opposite.
    """

    party_id: int
    book: str
    currency: str
    opening_micros: int
    credit_micros: int
    postings: int
    first_at: datetime


class Entry(NamedTuple):
    """One entry: the party is credited with `credit_micros`, the book debited.

    Of a day: all postings of one kind, party, book and currency; `number` and `at` are None
    then, and `postings` says how many they are.
    """

    day: date
    number: int | None
    at: datetime | None
    kind: str
    reference: str
    note: str
    party_id: int
    book: str
    currency: str
    credit_micros: int
    postings: int


def owner(cursor: Cursor, viewer: Viewer) -> Owner:
    """The viewer's own books; raises `NotAllowed` for a customer, who keeps none here."""
    if not viewer.is_operator and viewer.kind != "reseller":
        raise NotAllowed(
            f"{viewer.code} is a {viewer.kind} and has no books here: "
            f"`sky-aaa --as {viewer.code} account statement {viewer.code}` shows its balance"
        )
    cursor.execute(
        "SELECT account_id, code, name, currency, time_zone FROM account WHERE account_id = %s",
        (viewer.account_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    return Owner(*row)


def parties(cursor: Cursor, account_ids: list[int]) -> dict[int, Party]:
    """The parties of these numbers, `SELLER` among them."""
    cursor.execute(
        """
        SELECT account_id,
               code,
               kind,
               name
          FROM account
         WHERE account_id = ANY (%s)
        """,
        (account_ids,),
    )
    found = {row[0]: Party(*row) for row in cursor.fetchall()}
    found[SELLER] = Party(SELLER, "", "seller", "")
    return found


# What concerns the owner, from its side.
_OWN = """
SELECT ledger_transaction.posted_at,
       ledger_transaction.at,
       ledger_transaction.kind,
       ledger_transaction.reference,
       ledger_transaction.note,
       posting.transaction_id,
       posting.position,
       CASE WHEN bought.it THEN 0 ELSE posting.account_id END AS party_id,
       CASE WHEN bought.it THEN 'seller.' ELSE '' END || posting.contra_book AS book,
       posting.currency,
       CASE WHEN bought.it THEN -posting.amount_micros ELSE posting.amount_micros END
           AS credit_micros
  FROM ledger_transaction
  JOIN posting USING (transaction_id)
 CROSS JOIN LATERAL (SELECT posting.account_id = %(owner_id)s) AS bought (it)
 WHERE (posting.contra_account_id = %(owner_id)s OR posting.account_id = %(owner_id)s)
   AND ledger_transaction.posted_at < %(end)s
   AND (%(currency)s = '' OR posting.currency = %(currency)s)"""

_TOTALS = (
    """
SELECT party_id,
       book,
       currency,
       coalesce(sum(credit_micros) FILTER (WHERE posted_at < %(begin)s), 0),
       coalesce(sum(credit_micros)
                FILTER (WHERE posted_at < %(begin)s IS NOT TRUE), 0),
       count(*) FILTER (WHERE posted_at < %(begin)s IS NOT TRUE),
       min(posted_at)
  FROM ("""
    + _OWN
    + """) AS own
 WHERE %(with_opening)s
    OR %(begin)s::timestamptz IS NULL
    OR posted_at >= %(begin)s
 GROUP BY party_id, book, currency
 ORDER BY currency, party_id, book"""
)

_BY_TRANSACTION = (
    """
SELECT (posted_at AT TIME ZONE %(time_zone)s)::date,
       transaction_id,
       at,
       kind,
       reference,
       note,
       party_id,
       book,
       currency,
       credit_micros,
       1
  FROM ("""
    + _OWN
    + """) AS own
 WHERE %(begin)s::timestamptz IS NULL
    OR posted_at >= %(begin)s
 ORDER BY posted_at, transaction_id, position"""
)

_BY_DAY = (
    """
SELECT (posted_at AT TIME ZONE %(time_zone)s)::date AS day,
       NULL,
       NULL,
       kind,
       '',
       '',
       party_id,
       book,
       currency,
       sum(credit_micros),
       count(*)
  FROM ("""
    + _OWN
    + """) AS own
 WHERE %(begin)s::timestamptz IS NULL
    OR posted_at >= %(begin)s
 GROUP BY day, kind, party_id, book, currency
HAVING sum(credit_micros) <> 0
 ORDER BY day, kind, party_id, book, currency"""
)


def totals(cursor: Cursor, wanted: Wanted, *, with_opening: bool) -> list[Total]:
    """What came to each party and book; as many rows as there are such pairs."""
    cursor.execute(_TOTALS, {**wanted._asdict(), "with_opening": with_opening})
    return [
        Total(*row)._replace(opening_micros=int(row[3]), credit_micros=int(row[4]))
        for row in cursor.fetchall()
    ]


def entries(cursor: Cursor, wanted: Wanted, *, by_day: bool) -> Iterator[Entry]:
    """The journal, in order of posting, read `ROWS_AT_ONCE` rows at a time.

    The transaction must show one state of the database throughout (REPEATABLE READ), so that
    the entries come to the `totals`.
    """
    with cursor.connection.cursor(name="journal") as rows:
        rows.itersize = ROWS_AT_ONCE
        rows.execute(_BY_DAY if by_day else _BY_TRANSACTION, wanted._asdict())
        for row in rows:
            yield Entry(*row)._replace(credit_micros=int(row[9]))
