"""One account's invoice, made and written into the audit log: by command, page or worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.rating.money import format_micros
from aaa_server.storage import audit_log, invoices

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.invoice_draft import Buyer, Span
    from aaa_server.storage.invoices import Outcome
    from aaa_server.storage.viewer import Viewer


def bill(
    cursor: Cursor,
    viewer: Viewer,
    buyer: Buyer,
    span: Span,
    now: datetime,
    *,
    actor: str,
    issue: bool = True,
) -> Outcome:
    """As `storage.invoices.bill`; what is made stands in the audit log under `actor`."""
    outcome = invoices.bill(cursor, viewer, buyer, span, now, issue=issue)
    if outcome.what in ("issued", "draft"):
        audit_log.note(
            cursor,
            actor=actor,
            acting_as_id=buyer.issuer_id,
            action=f"invoice {'issue' if issue else 'draft'}",
            subject=outcome.number,
            before=None,
            after=described(outcome),
        )
    return outcome


def described(one: Outcome) -> dict[str, str | int]:
    """In words and amounts."""
    return {
        "account": one.code,
        "what": one.what,
        "number": one.number,
        "lines": one.lines,
        "currency": one.currency,
        "net": format_micros(one.net_micros),
        "tax": format_micros(one.tax_micros),
        "total": format_micros(one.total_micros),
    }
