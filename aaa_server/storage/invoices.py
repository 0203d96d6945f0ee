"""Invoices: run a period, find, list, and all that a document of one shows."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from aaa_server.storage import (
    closed_periods,
    invoice_draft,
    invoice_issue,
    invoice_taxes,
    issuers,
    payments,
)
from aaa_server.storage.invoice_draft import Buyer, Refused, Span
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.rating.invoice import Totals
    from aaa_server.storage.accounts import Account
    from aaa_server.storage.invoice_issue import Issued

LIST_MAX = 100_000
CALLS_AT_ONCE = 5000
OBSTACLES_SHOWN_MAX = 20


class Invoice(NamedTuple):
    """One invoice or credit note; `number` '' while it is a draft."""

    invoice_id: int
    kind: str
    number: str
    status: str
    issuer_id: int
    issuer_code: str
    account_id: int
    account_code: str
    account_chain: tuple[int, ...]
    currency: str
    period_name: str
    period_from: datetime
    period_to: datetime
    time_zone: str
    prepaid: bool
    inclusive: bool
    net_micros: int
    tax_micros: int
    total_micros: int
    paid_micros: int
    credited_micros: int
    issue_date: date | None
    due_date: date | None
    issued_at: datetime | None
    language: str
    seller: dict[str, Any]
    buyer: dict[str, Any]
    packages: list[dict[str, Any]]
    movements: list[dict[str, Any]]
    previous_micros: int
    due_micros: int
    corrects: str
    corrects_date: date | None
    reason: str
    dunning_step: int

    @property
    def open_micros(self) -> int:
        """What is still to be paid; a credit note and a void invoice: nothing."""
        if self.kind == "credit-note" or self.status in ("draft", "void"):
            return 0
        return max(0, self.total_micros - self.paid_micros - self.credited_micros)

    @property
    def name(self) -> str:
        """Its number, or what a draft is called by."""
        return self.number or str(self.invoice_id)


class Filter(NamedTuple):
    """Which invoices to list; '' and None: all."""

    account_id: int | None = None
    status: str = ""
    kind: str = ""
    period: str = ""
    overdue_on: date | None = None
    limit: int = LIST_MAX


class Call(NamedTuple):
    """One itemised charge; `late`: its call ended before the period."""

    at: datetime
    ani: str
    called: str
    destination: str
    seconds: int
    billed_seconds: int
    amount_micros: int
    late: bool
    account_code: str


class Outcome(NamedTuple):
    """What a run did for one account, or would do."""

    code: str
    what: str
    number: str
    currency: str
    lines: int
    net_micros: int
    tax_micros: int
    total_micros: int


# ------------------------------------------------------------------ a run


def to_bill(
    cursor: Cursor, viewer: Viewer, span: Span, account: Account | None, now: datetime
) -> list[Buyer]:
    """The accounts of a run. Raises, before anything is written, what stands in its way.

    `BadValue` for a period that is not over; `Conflict` for a closed one, and for accounts
    that cannot be invoiced, each with the reason.
    """
    if span.end > now:
        raise BadValue(f"{span.name} is not over: it is invoiced when it is")
    issuer_id = viewer.account_id
    if account is not None:
        require(viewer, Deed.BILL, account.chain, account.code)
        if account.parent_id is None or account.kind == "provider":
            raise BadValue(f"{account.code} is of kind {account.kind}: it is not invoiced")
        issuer_id = account.parent_id
    elif viewer.kind not in ("admin", "reseller"):
        require(viewer, Deed.BILL, viewer.chain, viewer.code)
    with as_owner(cursor, viewer):
        closed_periods.require_open(cursor, issuer_id, span.begin, span.end)
        found = invoice_draft.buyers(cursor, issuer_id, account.account_id if account else None)
        billable = [one for one in found if _has_work(cursor, one)]
        for buyer in billable:
            invoice_draft.require_no_overlap(cursor, buyer, span)
        _require_no_obstacle(cursor, billable, span)
    return billable


def _has_work(cursor: Cursor, buyer: Buyer) -> bool:
    """Whether anything of the account was ever charged: what has nothing needs no address."""
    cursor.execute(
        """
        SELECT EXISTS (SELECT FROM charge WHERE account_id = %(account_id)s AND level >= 0)
            OR EXISTS (SELECT
                         FROM posting
                        WHERE account_id = %(account_id)s
                          AND contra_book NOT IN ('sales', 'purchases'))
        """,
        {"account_id": buyer.account_id},
    )
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def _require_no_obstacle(cursor: Cursor, found: list[Buyer], span: Span) -> None:
    refused: list[Refused] = []
    for buyer in found:
        issuer = issuers.issuer(cursor, buyer.issuer_id)
        problem = invoice_draft.obstacle(
            cursor, issuer, _taxation(cursor, buyer, span), buyer, span
        )
        if problem is not None:
            refused.append(problem)
    if refused:
        shown = "\n".join(f"  {one.code}: {one.why}" for one in refused[:OBSTACLES_SHOWN_MAX])
        more = len(refused) - OBSTACLES_SHOWN_MAX
        rest = f"\n  and {more} more" if more > 0 else ""
        raise Conflict(f"nothing was invoiced, {len(refused)} cannot be:\n{shown}{rest}")


def bill(
    cursor: Cursor, viewer: Viewer, buyer: Buyer, span: Span, now: datetime, *, issue: bool
) -> Outcome:
    """Draft, and with `issue` issue, one account's invoice of the period.

    The same again changes nothing of what was issued. A transaction of its own: a run that is
    killed has whole invoices behind it, and finds the rest the next time.
    """
    with as_owner(cursor, viewer):
        invoice_draft.hold(cursor, buyer.account_id)
        number = _issued_number(cursor, buyer, span)
        if number:
            return _outcome(buyer, "issued before", number, None)
        drafted = invoice_draft.draft(cursor, buyer, _taxation(cursor, buyer, span), span)
        if drafted is None:
            return _outcome(buyer, "nothing to bill", "", None)
        if not issue:
            return _outcome(buyer, "draft", str(drafted.invoice_id), drafted.totals)
        assert drafted.invoice_id is not None
        done = invoice_issue.issue(cursor, viewer, drafted.invoice_id, now)
    return _outcome(buyer, "issued", done.number, drafted.totals)


def rehearse(cursor: Cursor, viewer: Viewer, buyer: Buyer, span: Span) -> Outcome:
    """What `bill` would do, beside the draft that there is; changes nothing."""
    with as_owner(cursor, viewer):
        number = _issued_number(cursor, buyer, span)
        if number:
            return _outcome(buyer, "issued before", number, None)
        before, now = invoice_draft.preview(cursor, buyer, _taxation(cursor, buyer, span), span)
    return _outcome(buyer, invoice_draft.difference(before, now), "", now.totals if now else None)


def _taxation(cursor: Cursor, buyer: Buyer, span: Span) -> invoice_taxes.Taxation:
    """The taxes are those of the period's last day."""
    end = span.end.astimezone(ZoneInfo(span.time_zone)).date()
    day = end - timedelta(days=1)
    return invoice_taxes.taxation(cursor, buyer.issuer_id, buyer.account_id, day)


def _issued_number(cursor: Cursor, buyer: Buyer, span: Span) -> str:
    cursor.execute(
        """
        SELECT number
          FROM invoice
         WHERE account_id = %s
           AND kind = 'invoice'
           AND status NOT IN ('draft', 'void')
           AND period_from = %s
           AND period_to = %s
        """,
        (buyer.account_id, span.begin, span.end),
    )
    row = cursor.fetchone()
    return row[0] if row else ""


def _outcome(buyer: Buyer, what: str, number: str, totals: Totals | None) -> Outcome:
    return Outcome(
        buyer.code,
        what,
        number,
        buyer.currency,
        len(totals.lines) if totals else 0,
        totals.net_micros if totals else 0,
        totals.tax_micros if totals else 0,
        totals.total_micros if totals else 0,
    )


def issue_draft(cursor: Cursor, viewer: Viewer, one: Invoice, now: datetime) -> Issued:
    """Give a draft its number. Raises `NotAllowed`, `Conflict`."""
    require(viewer, Deed.BILL, one.account_chain, one.account_code)
    with as_owner(cursor, viewer):
        invoice_draft.hold(cursor, one.account_id)
        span = Span(one.period_name, one.period_from, one.period_to, one.time_zone)
        buyers = invoice_draft.buyers(cursor, one.issuer_id, one.account_id)
        _require_no_obstacle(cursor, buyers, span)
        closed_periods.require_open(cursor, one.issuer_id, span.begin, span.end)
        return invoice_issue.issue(cursor, viewer, one.invoice_id, now)


def discard_draft(cursor: Cursor, viewer: Viewer, one: Invoice) -> None:
    """Take a draft away. Raises `Conflict` for an invoice that has a number."""
    require(viewer, Deed.BILL, one.account_chain, one.account_code)
    if one.status != "draft":
        raise Conflict(f"{one.number} is issued: it is taken back by `sky-aaa invoice void`")
    with as_owner(cursor, viewer):
        invoice_draft.hold(cursor, one.account_id)
        invoice_draft.discard(cursor, one.invoice_id)


def void(cursor: Cursor, viewer: Viewer, one: Invoice, reason: str, now: datetime) -> Issued:
    """See `invoice_issue.void`."""
    require(viewer, Deed.BILL, one.account_chain, one.account_code)
    with as_owner(cursor, viewer):
        invoice_draft.hold(cursor, one.account_id)
        return invoice_issue.void(cursor, viewer, one.invoice_id, reason, now)


def credit(
    cursor: Cursor,
    viewer: Viewer,
    one: Invoice,
    amount_micros: int,
    reason: str,
    now: datetime,
    *,
    rate_ppm: int | None = None,
) -> Issued:
    """See `invoice_issue.credit`."""
    require(viewer, Deed.BILL, one.account_chain, one.account_code)
    with as_owner(cursor, viewer):
        invoice_draft.hold(cursor, one.account_id)
        return invoice_issue.credit(
            cursor, viewer, one.invoice_id, amount_micros, reason, now, rate_ppm=rate_ppm
        )


def pay(
    cursor: Cursor, viewer: Viewer, one: Invoice, account: Account, new: payments.NewPayment
) -> payments.Paid:
    """Enter a payment that is for this invoice; what is too much pays the oldest other ones."""
    if one.kind != "invoice" or one.status == "draft":
        raise Conflict(f"{one.name} is not an invoice that can be paid")
    return payments.pay(cursor, viewer, account, new._replace(invoice_id=one.invoice_id))


# ------------------------------------------------------------------ looking


_COLUMNS = """
SELECT invoice.invoice_id,
       invoice.kind,
       coalesce(invoice.number, ''),
       invoice.status,
       invoice.issuer_id,
       coalesce(seller.code, ''),
       invoice.account_id,
       account.code,
       account.chain,
       invoice.currency,
       invoice.period_name,
       invoice.period_from,
       invoice.period_to,
       invoice.time_zone,
       invoice.prepaid,
       invoice.inclusive,
       invoice.net_micros,
       invoice.tax_micros,
       invoice.total_micros,
       invoice.paid_micros,
       invoice.credited_micros,
       invoice.issue_date,
       invoice.due_date,
       invoice.issued_at,
       invoice.language,
       invoice.seller,
       invoice.buyer,
       invoice.packages,
       invoice.movements,
       invoice.previous_micros,
       invoice.due_micros,
       coalesce(corrected.number, ''),
       corrected.issue_date,
       invoice.reason,
       invoice.dunning_step
  FROM invoice
  JOIN account ON account.account_id = invoice.account_id
  LEFT JOIN account AS seller ON seller.account_id = invoice.issuer_id
  LEFT JOIN invoice AS corrected ON corrected.invoice_id = invoice.corrects_id"""

_LIST = (
    _COLUMNS
    + """
 WHERE (%(account_id)s::bigint IS NULL OR invoice.account_id = %(account_id)s)
   AND (%(status)s = '' OR invoice.status = %(status)s)
   AND (%(kind)s = '' OR invoice.kind = %(kind)s)
   AND (%(period)s = '' OR invoice.period_name = %(period)s)
   AND (%(overdue_on)s::date IS NULL
        OR (invoice.due_date < %(overdue_on)s AND invoice.status IN ('issued', 'part-paid')))
 ORDER BY invoice.issued_at DESC NULLS FIRST, invoice.invoice_id DESC
 LIMIT %(limit)s"""
)

_BY_ID = (
    _COLUMNS
    + """
 WHERE invoice.invoice_id = %(invoice_id)s"""
)

_ONE = (
    _COLUMNS
    + """
 WHERE invoice.number = %(name)s
    OR (invoice.number IS NULL AND invoice.invoice_id::text = %(name)s)
 ORDER BY invoice.invoice_id"""
)


def list_invoices(cursor: Cursor, viewer: Viewer, wanted: Filter) -> list[Invoice]:
    """The last `wanted.limit`, the oldest first, drafts last; of the viewer's tree."""
    cursor.execute(_LIST, wanted._asdict())
    found = [_invoice(row) for row in cursor.fetchall()]
    return [one for one in reversed(found) if may(viewer, Deed.SEE, one.account_chain)]


def find(cursor: Cursor, viewer: Viewer, name: str, *, issuer: str = "") -> Invoice:
    """The invoice with this number, or the draft that is called so.

    Raises `NotFound`, and `Conflict` where two issuers have the number.
    """
    cursor.execute(_ONE, {"name": name})
    found = [
        one
        for one in map(_invoice, cursor.fetchall())
        if may(viewer, Deed.SEE, one.account_chain) and issuer in ("", one.issuer_code)
    ]
    if not found:
        raise NotFound(
            f"there is no invoice {name!r} that you may see: `sky-aaa invoice list` shows them"
        )
    if len(found) > 1:
        own = [one for one in found if one.issuer_id == viewer.account_id]
        if len(own) == 1 and not issuer:
            return own[0]
        which = ", ".join(one.issuer_code for one in found)
        raise Conflict(f"{name} was issued by {which}: say by whom with --issuer")
    return found[0]


def get(cursor: Cursor, viewer: Viewer, invoice_id: int) -> Invoice:
    """The invoice of that number of ours. Raises `NotFound`."""
    cursor.execute(_BY_ID, {"invoice_id": invoice_id})
    row = cursor.fetchone()
    if row is None or not may(viewer, Deed.SEE, row[8]):
        raise NotFound(f"there is no invoice {invoice_id} that you may see")
    return _invoice(row)


def _invoice(row: tuple[Any, ...]) -> Invoice:
    return Invoice(*row)._replace(account_chain=tuple(row[8]))


def totals(cursor: Cursor, one: Invoice) -> Totals:
    """Lines and taxes."""
    return invoice_draft.stored(cursor, one.invoice_id)


def logo(cursor: Cursor, one: Invoice) -> tuple[str, bytes] | None:
    """The seller's picture of then: its format and octets."""
    digest = one.seller.get("logo_sha256")
    if not digest:
        return None
    cursor.execute(
        "SELECT format, content FROM issuer_logo WHERE sha256 = %s", (bytes.fromhex(digest),)
    )
    row = cursor.fetchone()
    return None if row is None else (row[0], bytes(row[1]))


def calls(cursor: Cursor, one: Invoice, *, limit: int) -> Iterator[Call]:
    """The first `limit` calls that it bills, by time; also of one that is void."""
    cursor.execute(
        """
        WITH billed AS (
            SELECT charge.call_id, charge.number, charge.rate_id, charge.prefix,
                   charge.billed_seconds, charge.amount_micros, invoice_line.kind
              FROM invoice_line
              JOIN charge USING (invoice_line_id)
             WHERE invoice_line.invoice_id = %(invoice_id)s
             UNION ALL
            SELECT charge.call_id, charge.number, charge.rate_id, charge.prefix,
                   charge.billed_seconds, charge.amount_micros, invoice_line.kind
              FROM invoice_line
              JOIN invoice_released USING (invoice_line_id)
              JOIN charge USING (call_id, level, number, account_id)
             WHERE invoice_line.invoice_id = %(invoice_id)s
        )
        SELECT coalesce(record.started_at, record.authorized_at),
               record.ani,
               record.called,
               coalesce(nullif(rate.destination, ''), billed.prefix),
               record.seconds,
               billed.billed_seconds,
               billed.amount_micros,
               billed.kind = 'correction',
               coalesce(account.code, '')
          FROM billed
          LEFT JOIN rate USING (rate_id)
         CROSS JOIN LATERAL (
               SELECT cdr.started_at, cdr.authorized_at, cdr.ani, cdr.called, cdr.seconds,
                      cdr.account_id
                 FROM cdr_ever AS cdr
                WHERE cdr.call_id = billed.call_id
                LIMIT 1) AS record
          LEFT JOIN account ON account.account_id = record.account_id
         ORDER BY 1, billed.call_id, billed.number
         LIMIT %(limit)s
        """,
        {"invoice_id": one.invoice_id, "limit": limit},
    )
    while rows := cursor.fetchmany(CALLS_AT_ONCE):
        for row in rows:
            yield Call(*row)


def note_document(cursor: Cursor, viewer: Viewer, one: Invoice, kind: str, digest: bytes) -> bytes:
    """Keep the hash of a document made the first time; the one that is kept."""
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            INSERT INTO invoice_document (invoice_id, kind, sha256)
            VALUES (%s, %s, %s)
                ON CONFLICT (invoice_id, kind) DO NOTHING
            """,
            (one.invoice_id, kind, digest),
        )
        cursor.execute(
            "SELECT sha256 FROM invoice_document WHERE invoice_id = %s AND kind = %s",
            (one.invoice_id, kind),
        )
        row = cursor.fetchone()
        assert row is not None
    return bytes(row[0])
