"""Which call a report is about whose sender has two names for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from aaa_server.storage.catalogue import Execute


class Named(NamedTuple):
    """A call by the key that is right for its report, and by the one that may be its own."""

    client_id: int
    session_key: str
    other_key: str


# What a call goes by, best first. An `other_key` is a key, or stands beside a conference:
# not for a report that tells its conference itself, which may be another.
_KEYS = """\
SELECT coalesce(
           (SELECT session_key
              FROM call
             WHERE client_id = named.client_id
               AND session_key = named.session_key),
           (SELECT session_key
              FROM cdr
             WHERE client_id = named.client_id
               AND session_key = named.session_key
               AND authorized_at >= %(since)s
             LIMIT 1),
           (SELECT session_key
              FROM call
             WHERE client_id = named.client_id
               AND session_key = named.other_key),
           (SELECT session_key
              FROM call
             WHERE client_id = named.client_id
               AND sip_call_id = named.other_key
               AND named.session_key = named.other_key
               AND session_key LIKE '%% %% %% %%'
             ORDER BY authorized_at DESC
             LIMIT 1),
           (SELECT session_key
              FROM cdr
             WHERE client_id = named.client_id
               AND session_key = named.other_key
               AND authorized_at >= %(since)s
             LIMIT 1),
           (SELECT session_key
              FROM cdr
             WHERE client_id = named.client_id
               AND sip_call_id = named.other_key
               AND named.session_key = named.other_key
               AND session_key LIKE '%% %% %% %%'
               AND authorized_at >= %(since)s
             ORDER BY authorized_at DESC
             LIMIT 1),
           named.session_key)
  FROM unnest(%(client_ids)s::int[], %(session_keys)s::text[], %(other_keys)s::text[])
       WITH ORDINALITY AS named (client_id, session_key, other_key, position)
 ORDER BY position"""


async def keys_of(execute: Execute, calls: Sequence[Named], since: datetime) -> list[str]:
    """The session keys that `calls` go by; `session_key` where there is no such call.

    Of those that have ended only what was authorised `since` then counts.
    """
    client_ids, session_keys, other_keys = zip(*calls, strict=True)
    rows = await execute(
        _KEYS,
        {
            "client_ids": list(client_ids),
            "session_keys": list(session_keys),
            "other_keys": list(other_keys),
            "since": since,
        },
    )
    return [row[0] for row in rows]
