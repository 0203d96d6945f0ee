"""Charges of calls that somebody does not accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage import cdrs
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

REASON_CHARACTERS_MAX = 500


class Dispute(NamedTuple):
    """One dispute; `outcome` None: it is open."""

    call_id: int
    account_code: str
    opened_at: datetime
    opened_by: str
    reason: str
    resolved_at: datetime | None
    outcome: str | None


def open_dispute(cursor: Cursor, viewer: Viewer, call: str, reason: str) -> Dispute:
    """Mark the call's charge as disputed.

    Whoever sees the record may do it. Raises `Conflict` when it is disputed already,
    `BadValue` without a reason.
    """
    _check(reason, "a reason")
    call_id = cdrs.find(cursor, viewer, call).call_id
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            INSERT INTO dispute (call_id, opened_by_id, reason)
            VALUES (%s, %s, %s)
                ON CONFLICT (call_id) WHERE resolved_at IS NULL DO NOTHING
            """,
            (call_id, viewer.account_id, reason),
        )
        written = cursor.rowcount
    if not written:
        raise Conflict(f"call {call_id} is disputed already: `sky-aaa cdr disputes` shows by whom")
    return _newest(cursor, viewer, call_id)


def resolve(cursor: Cursor, viewer: Viewer, call: str, outcome: str) -> Dispute:
    """Close the call's open dispute, saying what came of it.

    Its seller does: the operator, or a reseller of the caller; never the customer that
    disputes. Raises `NotFound` when none is open.
    """
    _check(outcome, "what came of it")
    record = cdrs.find(cursor, viewer, call)
    if not viewer.is_operator and (
        record.account_id == viewer.account_id or not may(viewer, Deed.CHANGE, record.account_chain)
    ):
        raise Conflict(f"the dispute of call {record.call_id} is resolved by who sold the call")
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            UPDATE dispute
               SET resolved_at = now(),
                   outcome = %s
             WHERE call_id = %s
               AND resolved_at IS NULL
            """,
            (outcome, record.call_id),
        )
        written = cursor.rowcount
    if not written:
        raise NotFound(f"call {record.call_id} has no open dispute")
    return _newest(cursor, viewer, record.call_id)


def list_disputes(
    cursor: Cursor, viewer: Viewer, *, resolved: bool, limit: int, call_id: int | None = None
) -> list[Dispute]:
    """The open ones, or with `resolved` all, the newest first."""
    cursor.execute(
        """
        SELECT dispute.call_id,
               account.code,
               dispute.opened_at,
               coalesce(author.code, ''),
               dispute.reason,
               dispute.resolved_at,
               dispute.outcome,
               account.chain
          FROM dispute
          JOIN cdr USING (call_id)
          JOIN account ON account.account_id = cdr.account_id
          LEFT JOIN account AS author ON author.account_id = dispute.opened_by_id
         WHERE (%(resolved)s OR dispute.resolved_at IS NULL)
           AND (%(call_id)s::bigint IS NULL OR dispute.call_id = %(call_id)s)
         ORDER BY dispute.dispute_id DESC
         LIMIT %(limit)s
        """,
        {"resolved": resolved, "call_id": call_id, "limit": limit},
    )
    return [Dispute(*row[:7]) for row in cursor.fetchall() if may(viewer, Deed.SEE, tuple(row[7]))]


def _newest(cursor: Cursor, viewer: Viewer, call_id: int) -> Dispute:
    return list_disputes(cursor, viewer, resolved=True, limit=1, call_id=call_id)[0]


def _check(text: str, what: str) -> None:
    if not text.strip() or len(text) > REASON_CHARACTERS_MAX:
        raise BadValue(f"{what} is needed, of at most {REASON_CHARACTERS_MAX} characters")
