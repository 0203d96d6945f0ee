"""Orders to switches to end a call: who is to be told, and what the switch said.

An order is a row, so that it outlives the process that sends it. A call without price
levels is an emergency call: only a person's order for that very call ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aaa_server.storage.problem import Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from datetime import datetime
    from typing import Protocol

    from psycopg2.extensions import cursor as Cursor

    class Execute(Protocol):
        """Runs a statement on the reactor's connection."""

        def __call__(
            self, sql: str, parameters: Any = None
        ) -> Awaitable[list[tuple[Any, ...]]]: ...


ORDERS_AT_ONCE = 500
LIST_MAX = 10_000


class Outgoing(NamedTuple):
    """An order to be sent. `running`: the call has no Stop yet."""

    order_id: int
    call_id: int
    session_key: str
    reason: str
    running: bool
    user_name: str
    address: str | None
    port: int | None
    client_id: int
    client_type: str
    secret_sealed: bytes | None
    second_secret_sealed: bytes | None


class Order(NamedTuple):
    """An order as people see it."""

    order_id: int
    call_id: int
    account_code: str
    account_chain: tuple[int, ...]
    client: str
    reason: str
    state: str
    attempts: int
    error_cause: int | None
    detail: str
    ordered_at: datetime
    answered_at: datetime | None


# ------------------------------------------------------------------ from the worker

_ORDER = """
INSERT INTO disconnect_order (call_id, client_id, session_key, account_id, reason, ordered_at)
SELECT call.call_id, call.client_id, call.session_key, call.account_id, %(reason)s, %(now)s
  FROM call
  JOIN client USING (client_id)
"""


_SUSPENDED = """
INSERT INTO disconnect_order (call_id, client_id, session_key, account_id, reason, ordered_at)
SELECT call.call_id, call.client_id, call.session_key, call.account_id, %(reason)s, %(now)s
  FROM call
  JOIN client USING (client_id)
  JOIN account ON account.account_id = call.account_id
 WHERE client.disconnect_port IS NOT NULL
   AND call.status <> 'refused'
   AND (call.levels <> '[]' OR call.status = 'started')
   AND account.chain && ARRAY(SELECT account_id FROM account WHERE status <> 'active')
    ON CONFLICT (call_id, reason) DO NOTHING"""


async def order_ended_credit(
    execute: Execute, now: datetime, *, grace_seconds: int, overrun_seconds: int, ring_seconds: int
) -> None:
    """Order the end of calls whose granted time is over.

    It counts from the answer where a Start or a re-authorisation told of it, else from the
    authorisation and the time that it may have rung. A Start that is yet to come was told by a
    clock that is ahead, and tells nothing.
    """
    await execute(
        _ORDER
        + """
 CROSS JOIN LATERAL (
        SELECT CASE WHEN call.started_at <= %(now)s THEN call.started_at END AS at) AS started
 WHERE client.disconnect_port IS NOT NULL
   AND call.status = 'authorized'
   AND call.levels <> '[]'
   AND greatest(call.expires_at - make_interval(secs => %(grace_seconds)s),
                started.at + make_interval(secs => call.granted_seconds))
       + make_interval(secs => %(overrun_seconds)s)
       + CASE WHEN started.at IS NULL AND call.step_seconds IS NULL
              THEN make_interval(secs => %(ring_seconds)s)
              ELSE interval '0'
         END <= %(now)s
 LIMIT %(limit)s
    ON CONFLICT (call_id, reason) DO NOTHING
        """,
        {
            "reason": "credit-ended",
            "now": now,
            "grace_seconds": grace_seconds,
            "overrun_seconds": overrun_seconds,
            "ring_seconds": ring_seconds,
            "limit": ORDERS_AT_ONCE,
        },
    )


async def order_suspended(execute: Execute, now: datetime) -> None:
    """Order the end of calls of accounts that are not active any more, or below such a one."""
    await execute(
        _SUSPENDED,
        {"reason": "account-suspended", "now": now},
    )


async def outgoing(execute: Execute, limit: int) -> list[Outgoing]:
    """The orders that wait, the first first."""
    rows = await execute(
        """
        SELECT disconnect_order.order_id,
               disconnect_order.call_id,
               disconnect_order.session_key,
               disconnect_order.reason,
               call.call_id IS NOT NULL,
               CASE WHEN call.found_by = 'argument' THEN account.code ELSE '' END,
               coalesce(host(call.nas_address),
                        CASE WHEN masklen(client.network)
                                  = CASE family(client.network) WHEN 4 THEN 32 ELSE 128 END
                             THEN host(client.network)
                        END),
               client.disconnect_port,
               disconnect_order.client_id,
               coalesce(client.type, ''),
               client.secret_sealed,
               client.second_secret_sealed
          FROM disconnect_order
          LEFT JOIN client USING (client_id)
          LEFT JOIN call ON call.client_id = disconnect_order.client_id
                        AND call.session_key = disconnect_order.session_key
                        AND call.call_id = disconnect_order.call_id
          LEFT JOIN account ON account.account_id = call.account_id
         WHERE disconnect_order.state = 'waiting'
         ORDER BY disconnect_order.order_id
         LIMIT %s
        """,
        (limit,),
    )
    return [
        Outgoing(*row)._replace(secret_sealed=_bytes(row[10]), second_secret_sealed=_bytes(row[11]))
        for row in rows
    ]


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


async def mark_sent(execute: Execute, order_ids: Sequence[int]) -> None:
    """These are under way."""
    await execute(
        "UPDATE disconnect_order SET state = 'sent' WHERE order_id = ANY (%s)", (list(order_ids),)
    )


async def take_back(execute: Execute) -> None:
    """What another worker had under way when it ended is sent again."""
    await execute("UPDATE disconnect_order SET state = 'waiting' WHERE state = 'sent'")


async def close(
    execute: Execute,
    order_id: int,
    state: str,
    *,
    at: datetime,
    attempts: int = 0,
    error_cause: int | None = None,
    detail: str = "",
) -> None:
    """What came of an order. A call that has ended meanwhile needed no answer.

    A switch that does not know the call (`gone`) is told of in an event: its Stop is missing.
    """
    await execute(
        """
        WITH closed AS (
            UPDATE disconnect_order
               SET state = CASE
                           WHEN %(state)s IN ('gone', 'refused', 'unanswered')
                                AND NOT EXISTS (
                                    SELECT
                                      FROM call
                                     WHERE call.client_id = disconnect_order.client_id
                                       AND call.session_key = disconnect_order.session_key
                                       AND call.call_id = disconnect_order.call_id)
                           THEN 'ended'
                           ELSE %(state)s
                           END,
                   attempts = attempts + %(attempts)s,
                   error_cause = %(error_cause)s,
                   detail = %(detail)s,
                   answered_at = %(at)s
             WHERE order_id = %(order_id)s
         RETURNING call_id, account_id, reason, state, error_cause
        )
        INSERT INTO event (at, account_id, kind, detail)
        SELECT %(at)s, account_id,
               CASE state WHEN 'gone' THEN 'call-gone' ELSE 'call-not-ended' END,
               jsonb_build_object('call', call_id, 'reason', reason, 'state', state,
                                  'error_cause', error_cause)
          FROM closed
         WHERE state IN ('gone', 'refused', 'unanswered', 'impossible')
        """,
        {
            "order_id": order_id,
            "state": state,
            "at": at,
            "attempts": attempts,
            "error_cause": error_cause,
            "detail": detail,
        },
    )


# ------------------------------------------------------------------ from people


def order_call(cursor: Cursor, viewer: Viewer, call_id: int, now: datetime) -> list[Order]:
    """Order the end of one call; raises `NotFound`, `NotAllowed`, `Conflict`."""
    cursor.execute(
        """
        SELECT coalesce(account.code, ''), coalesce(account.chain, '{}')
          FROM call
          LEFT JOIN account USING (account_id)
         WHERE call_id = %s
           AND call.status <> 'refused'
        """,
        (call_id,),
    )
    row = cursor.fetchone()
    if row is None or not may(viewer, Deed.SEE, tuple(row[1])):
        raise NotFound(f"no call {call_id} is in progress: `sky-aaa calls` shows those that are")
    require(viewer, Deed.CHANGE, tuple(row[1]), row[0])
    with as_owner(cursor, viewer):
        return _ordered(cursor, viewer, [call_id], now)


def order_account(
    cursor: Cursor, viewer: Viewer, chain: Sequence[int], now: datetime
) -> list[Order]:
    """Order the end of all calls of the account with this chain, and of those below it.

    Emergency calls go on. Raises `Conflict` when a switch takes no orders.
    """
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            SELECT call.call_id
              FROM call
              JOIN account USING (account_id)
             WHERE account.chain @> ARRAY[%s::bigint]
               AND call.status <> 'refused'
               AND (call.levels <> '[]' OR call.status = 'started')
            """,
            (chain[0],),
        )
        return _ordered(cursor, viewer, [row[0] for row in cursor.fetchall()], now)


def _ordered(cursor: Cursor, viewer: Viewer, call_ids: list[int], now: datetime) -> list[Order]:
    cursor.execute(
        """
        SELECT DISTINCT client.name
          FROM call
          JOIN client USING (client_id)
         WHERE call.call_id = ANY (%s)
           AND client.disconnect_port IS NULL
         ORDER BY client.name
        """,
        (call_ids,),
    )
    deaf = [row[0] for row in cursor.fetchall()]
    if deaf and not viewer.is_operator:
        raise Conflict("the switch of such a call takes no orders: nothing was ordered")
    if deaf:
        raise Conflict(
            f"{', '.join(deaf)}: no port for orders is known, so nothing was ordered. If the "
            f"switch takes them: `sky-aaa client set {deaf[0]} --disconnect-port 3799`"
        )
    # An order that led to nothing is given anew.
    cursor.execute(
        _ORDER
        + """
 WHERE call.call_id = ANY (%(call_ids)s)
    ON CONFLICT (call_id, reason) DO UPDATE
   SET state = 'waiting',
       ordered_at = EXCLUDED.ordered_at,
       answered_at = NULL,
       error_cause = NULL,
       detail = ''
 WHERE disconnect_order.state NOT IN ('waiting', 'sent')
        """,
        {"reason": "operator", "now": now, "call_ids": call_ids},
    )
    cursor.execute(
        _LISTED + " WHERE disconnect_order.call_id = ANY (%s) AND reason = 'operator'"
        " ORDER BY order_id",
        (call_ids,),
    )
    return _read(cursor)


_LISTED = """
SELECT disconnect_order.order_id,
       disconnect_order.call_id,
       coalesce(account.code, ''),
       coalesce(account.chain, '{}'),
       coalesce(client.name, disconnect_order.client_id::text),
       disconnect_order.reason,
       disconnect_order.state,
       disconnect_order.attempts,
       disconnect_order.error_cause,
       disconnect_order.detail,
       disconnect_order.ordered_at,
       disconnect_order.answered_at
  FROM disconnect_order
  LEFT JOIN account USING (account_id)
  LEFT JOIN client USING (client_id)"""


def list_orders(cursor: Cursor, viewer: Viewer, *, limit: int = LIST_MAX) -> list[Order]:
    """The last `limit` orders, the oldest first; of the viewer's tree."""
    with as_owner(cursor, viewer):
        cursor.execute(
            _LISTED
            + """
 WHERE %(viewer_id)s::bigint IS NULL OR account.chain @> ARRAY[%(viewer_id)s::bigint]
 ORDER BY disconnect_order.order_id DESC
 LIMIT %(limit)s""",
            {"viewer_id": None if viewer.is_operator else viewer.account_id, "limit": limit},
        )
        found = _read(cursor)
    return [order for order in reversed(found) if may(viewer, Deed.SEE, order.account_chain)]


def _read(cursor: Cursor) -> list[Order]:
    return [Order(*row)._replace(account_chain=tuple(row[3])) for row in cursor.fetchall()]
