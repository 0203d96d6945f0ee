"""Calls: those in progress, and the records and charges of those that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.problem import NotFound
from aaa_server.storage.viewer import Deed, Viewer, may

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

RUNNING_MAX = 10_000  # calls of one look at those in progress
NUMBER_DIGITS_MAX = 18  # what surely fits a call_id


class RunningCall(NamedTuple):
    """One call in progress. Switch, route and what it reserves: for the operator only."""

    call_id: int
    status: str
    account_code: str | None
    account_chain: tuple[int, ...]
    ani: str
    called: str
    found_by: str | None
    authorized_at: datetime
    started_at: datetime | None
    granted_seconds: int
    last_seconds: int | None
    expires_at: datetime
    session_key: str
    sip_call_id: str
    refusal: str | None
    client: str = ""
    route: str = ""
    reserved_micros: int | None = None
    currency: str = ""


class Cdr(NamedTuple):
    """One ended call. What the operator alone may know is '' or None for others.

    `amount_micros` is what the caller's account paid; `cost_micros` what the viewer paid
    for it: the operator its provider, a reseller its parent.
    """

    call_id: int
    account_id: int | None
    account_code: str | None
    account_chain: tuple[int, ...]
    ani: str
    called: str
    found_by: str | None
    authorized_at: datetime
    started_at: datetime | None
    ended_at: datetime
    ended_by: str
    granted_seconds: int
    duration_ms: int
    seconds: int
    cause: str
    refusal: str | None
    session_key: str
    sip_call_id: str
    resource_group_in: str
    postings: int
    prefix: str | None
    amount_micros: int | None
    currency: str | None
    cost_micros: int | None
    cost_currency: str | None
    client: str = ""
    nas_address: str = ""
    route: str = ""


class Details(NamedTuple):
    """The frozen prices of a call as JSON (charging.call), and its flags."""

    levels: str
    routes: str
    flags: tuple[str, ...]


class Charge(NamedTuple):
    """What one party of a call paid, or, level -1, what the provider gets."""

    level: int
    account_code: str
    amount_micros: int
    currency: str
    billed_seconds: int
    rate_id: int
    prefix: str
    destination: str
    rate_group: str


class Filter(NamedTuple):
    """Which records; '' and None: all. `before` is a call's number: go on below it."""

    account_id: int | None = None
    begin: datetime | None = None
    end: datetime | None = None
    number: str = ""
    refused: bool | None = None
    before: int | None = None
    limit: int = 100


# ------------------------------------------------------------------ in progress


def running(cursor: Cursor, viewer: Viewer, *, refused: bool = False) -> list[RunningCall]:
    """The newest `RUNNING_MAX` calls in progress, the newest last.

    With `refused` also refused attempts whose end the switch has not told yet.
    """
    cursor.execute(
        """
        SELECT call.call_id,
               call.status,
               account.code,
               coalesce(account.chain, '{}'),
               call.ani,
               call.called,
               call.found_by,
               call.authorized_at,
               call.started_at,
               call.granted_seconds,
               call.last_seconds,
               call.expires_at,
               call.session_key,
               call.sip_call_id,
               call.refusal
          FROM call
          LEFT JOIN account USING (account_id)
         WHERE %s OR call.status <> 'refused'
         ORDER BY call.authorized_at DESC, call.call_id DESC
         LIMIT %s
        """,
        (refused, RUNNING_MAX),
    )
    rows = reversed(cursor.fetchall())
    calls = [RunningCall(*row)._replace(account_chain=tuple(row[3])) for row in rows]
    calls = [call for call in calls if may(viewer, Deed.SEE, call.account_chain)]
    return _with_switches(cursor, calls) if viewer.is_operator else calls


def _with_switches(cursor: Cursor, calls: list[RunningCall]) -> list[RunningCall]:
    cursor.execute(
        """
        SELECT call.call_id,
               coalesce(client.name, call.client_id::text),
               coalesce(resource_group.name, ''),
               call.reserved_micros[1],
               coalesce(account.currency, '')
          FROM call
          LEFT JOIN client USING (client_id)
          LEFT JOIN resource_group
                 ON resource_group.resource_group_id = call.resource_group_out_id
          LEFT JOIN account ON account.account_id = call.account_id
         WHERE call.call_id = ANY (%s)
        """,
        ([call.call_id for call in calls],),
    )
    sides = {row[0]: row[1:] for row in cursor.fetchall()}
    return [
        call._replace(client=side[0], route=side[1], reserved_micros=side[2], currency=side[3])
        for call in calls
        for side in (sides.get(call.call_id),)
        if side is not None
    ]


# ------------------------------------------------------------------ ended


def list_cdrs(cursor: Cursor, viewer: Viewer, wanted: Filter) -> list[Cdr]:
    """The newest first, at most `wanted.limit`."""
    cursor.execute(_CDRS_WANTED, {**wanted._asdict(), "viewer_id": _payer(viewer)})
    return _read(cursor, viewer)


def find(cursor: Cursor, viewer: Viewer, text: str) -> Cdr:
    """The record of a call: by its number, its session key or its SIP Call-ID.

    Raises `NotFound`, which says so when the call still runs.
    """
    number = int(text) if text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX else None
    found: list[Cdr] = []
    if number is not None:
        cursor.execute(_CDR_BY_NUMBER, {"call_id": number, "viewer_id": _payer(viewer)})
        found = _read(cursor, viewer)
    if not found:
        cursor.execute(_CDR_BY_TEXT, {"text": text, "viewer_id": _payer(viewer)})
        found = _read(cursor, viewer)
    if found:
        return found[0]
    for call in running(cursor, viewer, refused=True):
        if text in (str(call.call_id), call.session_key, call.sip_call_id):
            raise NotFound(f"call {text} has not ended yet: `sky-aaa calls --all` shows it")
    raise NotFound(f"there is no call {text}: `sky-aaa cdr list` shows the latest")


def _payer(viewer: Viewer) -> int:
    """Whose charge is the viewer's cost; 0: the provider's, the operator's cost."""
    return 0 if viewer.is_operator else viewer.account_id


def _read(cursor: Cursor, viewer: Viewer) -> list[Cdr]:
    cdrs = [Cdr(*row)._replace(account_chain=tuple(row[3])) for row in cursor.fetchall()]
    cdrs = [cdr for cdr in cdrs if may(viewer, Deed.SEE, cdr.account_chain)]
    if not viewer.is_operator:
        return cdrs
    cursor.execute(
        """
        SELECT cdr.call_id,
               coalesce(client.name, cdr.client_id::text),
               coalesce(host(cdr.nas_address), ''),
               coalesce(resource_group.name, '')
          FROM cdr
          LEFT JOIN client USING (client_id)
          LEFT JOIN resource_group
                 ON resource_group.resource_group_id = cdr.resource_group_out_id
         WHERE cdr.call_id = ANY (%s)
        """,
        ([cdr.call_id for cdr in cdrs],),
    )
    sides = {row[0]: row[1:] for row in cursor.fetchall()}
    return [
        cdr._replace(client=side[0], nas_address=side[1], route=side[2])
        for cdr in cdrs
        for side in (sides[cdr.call_id],)
    ]


_CDR = """
SELECT cdr.call_id,
       cdr.account_id,
       account.code,
       coalesce(account.chain, '{}'),
       cdr.ani,
       cdr.called,
       cdr.found_by,
       cdr.authorized_at,
       cdr.started_at,
       cdr.ended_at,
       cdr.ended_by,
       cdr.granted_seconds,
       cdr.duration_ms,
       cdr.seconds,
       cdr.cause,
       cdr.refusal,
       cdr.session_key,
       cdr.sip_call_id,
       coalesce(inbound.name, ''),
       cdr.postings,
       paid.prefix,
       paid.amount_micros,
       paid.currency,
       cost.amount_micros,
       cost.currency
  FROM cdr
  LEFT JOIN account ON account.account_id = cdr.account_id
  LEFT JOIN resource_group AS inbound ON inbound.resource_group_id = cdr.resource_group_in_id
  LEFT JOIN LATERAL (
        SELECT max(prefix) AS prefix, sum(amount_micros)::bigint AS amount_micros, currency
          FROM charge
         WHERE charge.call_id = cdr.call_id
           AND level = 0
         GROUP BY currency) AS paid ON true
  LEFT JOIN LATERAL (
        SELECT sum(amount_micros)::bigint AS amount_micros, max(currency) AS currency
          FROM charge
         WHERE charge.call_id = cdr.call_id
           AND CASE %(viewer_id)s
               WHEN 0 THEN level = -1
               ELSE account_id = %(viewer_id)s AND level >= 0
               END
        HAVING count(*) > 0) AS cost ON true"""

_CDRS_WANTED = (
    _CDR
    + """
 WHERE (%(account_id)s::bigint IS NULL OR account.chain @> ARRAY[%(account_id)s::bigint])
   AND (%(begin)s::timestamptz IS NULL OR cdr.ended_at >= %(begin)s)
   AND (%(end)s::timestamptz IS NULL OR cdr.ended_at < %(end)s)
   AND (%(number)s = '' OR cdr.called LIKE %(number)s || '%%' OR cdr.ani LIKE %(number)s || '%%')
   AND (%(refused)s::boolean IS NULL OR (cdr.refusal IS NOT NULL) = %(refused)s)
   AND (%(before)s::bigint IS NULL OR cdr.call_id < %(before)s)
 ORDER BY cdr.call_id DESC
 LIMIT %(limit)s"""
)

_CDR_BY_NUMBER = (
    _CDR
    + """
 WHERE cdr.call_id = %(call_id)s"""
)

_CDR_BY_TEXT = (
    _CDR
    + """
 WHERE cdr.session_key = %(text)s OR cdr.sip_call_id = %(text)s
 ORDER BY cdr.call_id DESC
 LIMIT 1"""
)


def details(cursor: Cursor, viewer: Viewer, call_id: int) -> Details:
    """Frozen prices and flags, as far as `viewer` may know them: never above its own level."""
    if viewer.is_operator:
        cursor.execute("SELECT levels, routes, flags FROM cdr WHERE call_id = %s", (call_id,))
    else:
        cursor.execute("SELECT levels::text, '[]', flags FROM viewer_cdr(%s)", (call_id,))
    row = cursor.fetchone()
    assert row is not None
    return Details(row[0] or "[]", row[1], tuple(row[2] or ()))


def charges(cursor: Cursor, viewer: Viewer, call_id: int) -> list[Charge]:
    """The caller first, the provider last."""
    cursor.execute(
        """
        SELECT paid.level,
               account.code,
               account.chain,
               paid.amount_micros,
               paid.currency,
               paid.billed_seconds,
               paid.rate_id,
               paid.prefix,
               coalesce(rate.destination, ''),
               coalesce(rate_group.name, '')
          FROM (SELECT level,
                       account_id,
                       currency,
                       sum(amount_micros)::bigint AS amount_micros,
                       sum(billed_seconds)::int AS billed_seconds,
                       (array_agg(rate_id ORDER BY number DESC))[1] AS rate_id,
                       (array_agg(prefix ORDER BY number DESC))[1] AS prefix
                  FROM charge
                 WHERE call_id = %s
                 GROUP BY level, account_id, currency
                -- A provider that was thought to have carried the call, and had not, is left out.
                HAVING count(*) = 1
                    OR sum(amount_micros) <> 0
                    OR sum(billed_seconds) <> 0) AS paid
          JOIN account USING (account_id)
          LEFT JOIN rate USING (rate_id)
          LEFT JOIN rate_group ON rate_group.tariff_id = rate.tariff_id
         ORDER BY paid.level = -1, paid.level
        """,
        (call_id,),
    )
    return [
        Charge(*row[:2], *row[3:])
        for row in cursor.fetchall()
        if may(viewer, Deed.SEE, tuple(row[2]))
    ]
