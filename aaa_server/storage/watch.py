"""What a server looks for in the database every second, away from the charging connection.

Calls that have fallen silent, and RADIUS clients that were added or changed.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from aaa_server.radius.client import Client
from aaa_server.radius.packet import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from aaa_server.storage.catalogue import Execute
    from aaa_server.storage.database import Connection
    from aaa_server.storage.secrets import Keyring

# Silent calls found in one look; the rest is in the next.
SILENT_MAX = 500
# Of 8 KiB, some ten calls each: read in a few milliseconds.
BLOCKS_A_LOOK = 500
# More blocks where these would not be enough: nobody's money is held much longer than it must.
LOOKS_A_ROUND_MAX = 60


class SilentCalls:
    """Goes round the calls in progress, a part of the table a look.

    An index by time would cost every call more than this does: and reading all of a hundred
    thousand calls at once would take a core from those that are being answered.
    """

    def __init__(self) -> None:
        self._block = 0
        self._blocks = 0  # of the table, at the last look

    async def look(self, execute: Execute, at: datetime) -> list[tuple[int, str]]:
        """Client row and session key of calls whose time was over at `at`."""
        end = self._block + max(BLOCKS_A_LOOK, self._blocks // LOOKS_A_ROUND_MAX)
        rows = await execute(
            """
            SELECT client_id,
                   session_key
              FROM call
             WHERE ctid >= %s::tid
               AND ctid < %s::tid
               AND expires_at <= %s
             LIMIT %s
            """,
            (f"({self._block},0)", f"({end},0)", at, SILENT_MAX),
        )
        if len(rows) < SILENT_MAX:
            await self._go_on(execute, end)
        return [(client_id, session_key) for client_id, session_key in rows]

    async def _go_on(self, execute: Execute, block: int) -> None:
        [(self._blocks,)] = await execute(
            "SELECT pg_relation_size('call') / current_setting('block_size')::bigint", None
        )
        self._block = block if block < self._blocks else 0


async def client_revision(connection: Connection) -> int:
    """A number that changes with every change of a RADIUS client."""
    [(revision,)] = await connection.execute("SELECT revision FROM client_list")
    return int(revision)


async def clients(connection: Connection, keyring: Keyring) -> list[Client]:
    """All RADIUS clients, their secrets opened.

    Raises `ValueError` naming the client whose secret the key file does not open.
    """
    rows = await connection.execute(
        """
        SELECT client_id,
               name,
               network::text,
               secret_sealed,
               second_secret_sealed,
               type,
               require_message_authenticator,
               message_authenticator_seen,
               limit_proxy_state,
               send_message_authenticator,
               refuse_with,
               roles,
               bill_leg,
               slice_seconds,
               maximum_call_seconds,
               return_codes,
               disconnect_port,
               digest_nonces
          FROM client
        """
    )
    return [_client(row, keyring) for row in rows]


def _client(row: tuple[Any, ...], keyring: Keyring) -> Client:
    client_id, name, network, sealed, second_sealed, *rest = row
    secrets = []
    for column, octets in (("secret", sealed), ("second_secret", second_sealed)):
        if octets is not None:
            plain = keyring.unseal(bytes(octets), table="client", row_id=client_id, column=column)
            secrets.append(Secret(plain))
    roles = frozenset(role.strip() for role in rest[6].split(","))
    return Client(
        *(client_id, name, ipaddress.ip_network(network), tuple(secrets)),
        *(*rest[:6], roles, *rest[7:]),
    )


async def note_signing(connection: Connection, client_ids: Iterable[int]) -> None:
    """Remember that these clients sign their requests: from now on they must."""
    await connection.execute(
        "UPDATE client SET message_authenticator_seen = true WHERE client_id = ANY (%s)",
        (list(client_ids),),
    )
