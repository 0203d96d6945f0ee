"""Periods that are over, invoiced and closed: nothing is billed in them any more.

What is charged after a period's end is posted after it: it is the next one's, flagged there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2.errors
from psycopg2.extras import Json

from aaa_server.rating.money import format_micros
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import Deed, Viewer, as_owner, require

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.invoice_draft import Span

UNBILLED_SHOWN_MAX = 20


class Closed(NamedTuple):
    """A closed period; `totals` by currency, as they were when it was closed."""

    name: str
    begins: datetime
    ends: datetime
    closed_at: datetime
    totals: dict[str, Any]


def list_closed(cursor: Cursor, issuer_id: int) -> list[Closed]:
    """The issuer's, by time."""
    cursor.execute(
        """
        SELECT name, begins, ends, closed_at, totals
          FROM closed_period
         WHERE issuer_id = %s
         ORDER BY begins
        """,
        (issuer_id,),
    )
    return [Closed(*row) for row in cursor.fetchall()]


def require_open(cursor: Cursor, issuer_id: int, begin: datetime, end: datetime) -> None:
    """Raises `Conflict` when a closed period lies in this one."""
    cursor.execute(
        """
        SELECT name
          FROM closed_period
         WHERE issuer_id = %s
           AND tstzrange(begins, ends) && tstzrange(%s, %s)
        """,
        (issuer_id, begin, end),
    )
    row = cursor.fetchone()
    if row is not None:
        raise Conflict(f"period {row[0]} is closed: what came late is invoiced with the next one")


def close(cursor: Cursor, viewer: Viewer, issuer: Account, span: Span, now: datetime) -> Closed:
    """Close the period. Raises `Conflict` naming what is not invoiced yet, `BadValue`."""
    require(viewer, Deed.BILL_AS, issuer.chain, issuer.code)
    if span.end > now:
        raise BadValue(f"{span.name} is not over: it is closed when it is")
    with as_owner(cursor, viewer):
        _require_invoiced(cursor, issuer.account_id, span)
        totals = _totals(cursor, issuer.account_id, span)
        try:
            cursor.execute(
                """
                INSERT INTO closed_period (issuer_id, name, begins, ends, closed_at, totals)
                VALUES (%s, %s, %s, %s, %s, %s)
                """,
                (issuer.account_id, span.name, span.begin, span.end, now, Json(totals)),
            )
        except (psycopg2.errors.ExclusionViolation, psycopg2.errors.UniqueViolation) as error:
            raise Conflict(f"{span.name}, or a part of it, is closed already") from error
    return Closed(span.name, span.begin, span.end, now, totals)


def _require_invoiced(cursor: Cursor, issuer_id: int, span: Span) -> None:
    cursor.execute(
        """
        SELECT account.code,
               CASE WHEN EXISTS (SELECT
                                   FROM invoice
                                  WHERE invoice.account_id = account.account_id
                                    AND invoice.status = 'draft'
                                    AND invoice.period_to <= %(ends)s)
                    THEN 'has a draft'
                    ELSE 'has what no invoice bills' END
          FROM account
         WHERE account.parent_id = %(issuer_id)s
           AND account.kind IN ('customer', 'reseller')
           AND account.card_batch_id IS NULL
           AND (EXISTS (SELECT
                          FROM invoice
                         WHERE invoice.account_id = account.account_id
                           AND invoice.status = 'draft'
                           AND invoice.period_to <= %(ends)s)
                OR EXISTS (SELECT
                             FROM charge
                            WHERE charge.account_id = account.account_id
                              AND charge.level >= 0
                              AND charge.at >= %(begins)s
                              AND charge.at < %(ends)s
                              AND charge.invoice_line_id IS NULL)
                OR EXISTS (SELECT
                             FROM posting
                             JOIN ledger_transaction USING (transaction_id)
                            WHERE posting.account_id = account.account_id
                              AND posting.contra_book = 'fees'
                              AND posting.contra_book NOT IN ('sales', 'purchases')
                              AND ledger_transaction.kind = 'fee'
                              AND ledger_transaction.posted_at >= %(begins)s
                              AND ledger_transaction.posted_at < %(ends)s
                              AND NOT EXISTS (
                                  SELECT
                                    FROM invoice_fee
                                   WHERE invoice_fee.transaction_id = posting.transaction_id
                                     AND invoice_fee.position = posting.position)))
         ORDER BY account.code
         LIMIT %(shown_max)s
        """,
        {
            "issuer_id": issuer_id,
            "begins": span.begin,
            "ends": span.end,
            "shown_max": UNBILLED_SHOWN_MAX,
        },
    )
    found = cursor.fetchall()
    if found:
        names = ", ".join(f"{code} {why}" for code, why in found)
        raise Conflict(
            f"{span.name} is not invoiced: {names}. "
            f"`sky-aaa invoice run --period {span.name}`, then close it"
        )


def _totals(cursor: Cursor, issuer_id: int, span: Span) -> dict[str, Any]:
    cursor.execute(
        """
        SELECT currency,
               count(*),
               sum(net_micros)::bigint,
               sum(tax_micros)::bigint,
               sum(total_micros)::bigint
          FROM invoice
         WHERE issuer_id = %s
           AND kind = 'invoice'
           AND status NOT IN ('draft', 'void')
           AND period_from >= %s
           AND period_to <= %s
         GROUP BY currency
         ORDER BY currency
        """,
        (issuer_id, span.begin, span.end),
    )
    return {
        row[0]: {
            "invoices": row[1],
            "net": format_micros(row[2]),
            "tax": format_micros(row[3]),
            "total": format_micros(row[4]),
        }
        for row in cursor.fetchall()
    }
