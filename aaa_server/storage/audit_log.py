"""Who did what by command or page, with the values before and after. Never a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg2.extensions import cursor as Cursor


def note(
    cursor: Cursor,
    *,
    actor: str,
    acting_as_id: int,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """One line for one write, in the write's own transaction."""
    cursor.execute(
        """
        INSERT INTO audit_log (actor, acting_as_id, action, subject, before, after)
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        (actor, acting_as_id, action, subject, _json(before), _json(after)),
    )


def _json(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else json.dumps(values, default=str, sort_keys=True)
