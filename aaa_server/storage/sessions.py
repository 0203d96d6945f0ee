"""Which call a report is about whose sender has two names for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.arrays import array, text_array, time_literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from aaa_server.storage.catalogue import Execute


class Named(NamedTuple):
    """A call by the key that is right for its report, and by the one that may be its own."""

    client_id: int
    session_key: str
    other_key: str


# The other key where there is a call of it, and none of the right one. Not by EXISTS, for
# which all calls may be read.
KEYS = {
    "session_keys": """
SELECT CASE
       WHEN coalesce(
            (SELECT true
               FROM call
              WHERE client_id = named.client_id
                AND session_key = named.other_key
              LIMIT 1),
            (SELECT true
               FROM cdr
              WHERE client_id = named.client_id
                AND session_key = named.other_key
                AND authorized_at >= $4::timestamptz
              LIMIT 1)) IS NULL
         OR coalesce(
            (SELECT true
               FROM call
              WHERE client_id = named.client_id
                AND session_key = named.session_key
              LIMIT 1),
            (SELECT true
               FROM cdr
              WHERE client_id = named.client_id
                AND session_key = named.session_key
                AND authorized_at >= $4::timestamptz
              LIMIT 1))
       THEN named.session_key
       ELSE named.other_key
       END
  FROM unnest($1::int[], $2::text[], $3::text[])
       WITH ORDINALITY AS named (client_id, session_key, other_key, position)
 ORDER BY position"""
}


async def keys_of(execute: Execute, calls: Sequence[Named], since: datetime) -> list[str]:
    """The session keys that `calls` go by; `session_key` where there is no such call.

    Of those that have ended only what was authorised `since` then counts. The connection has
    `KEYS` prepared.
    """
    client_ids, session_keys, other_keys = zip(*calls, strict=True)
    rows = await execute(
        f"EXECUTE session_keys ({array(client_ids)}, {text_array(session_keys)},"
        f" {text_array(other_keys)}, {time_literal(since)})",
        None,
    )
    return [row[0] for row in rows]
