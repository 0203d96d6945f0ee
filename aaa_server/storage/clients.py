"""RADIUS clients: who may ask, with which secret, in which dialect."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2.errors

from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Viewer, require_operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.secrets import Keyring

TYPES = ("freeswitch", "cisco", "rfc", "sippy", "kamailio")


class Client(NamedTuple):
    """One row without its secrets."""

    client_id: int
    name: str
    network: str
    type: str
    require_message_authenticator: str
    message_authenticator_seen: bool
    limit_proxy_state: str
    send_message_authenticator: bool
    refuse_with: str
    roles: str
    bill_leg: str
    slice_seconds: int | None
    maximum_call_seconds: int | None
    return_codes: Mapping[str, int]
    disconnect_port: int | None
    digest_nonces: str
    created_at: datetime
    second_secret: bool


def defaults(type_name: str) -> dict[str, Any]:
    """What a client of this type is like when nothing else is said.

    FreeSWITCH's and Kamailio's RADIUS library never sends a Message-Authenticator, so
    requiring one would silence them; Proxy-State is refused there instead, which closes
    CVE-2024-3596. A FreeSWITCH script sees no attribute of a Reject: it is refused by an Accept
    without credit.
    """
    bare = type_name in ("freeswitch", "kamailio")
    return {
        "require_message_authenticator": "no" if bare else "yes",
        "limit_proxy_state": "yes" if bare else "auto",
        "refuse_with": "accept" if type_name == "freeswitch" else "reject",
    }


def new(name: str, network: str, type_name: str, **given: Any) -> Client:
    """A client that is not in the database yet: what is not `given` follows from its type."""
    values = {
        "message_authenticator_seen": False,
        "send_message_authenticator": True,
        "roles": "auth,acct",
        "bill_leg": "answer",
        "slice_seconds": None,
        "maximum_call_seconds": None,
        "return_codes": {},
        "disconnect_port": None,
        "digest_nonces": "client",
        **defaults(type_name),
        **given,
    }
    return Client(
        client_id=0,
        name=name,
        network=network,
        type=type_name,
        created_at=datetime.now(UTC),
        second_secret=False,
        **values,
    )


def list_clients(cursor: Cursor, viewer: Viewer) -> list[Client]:
    """All, by name."""
    require_operator(viewer, "RADIUS clients")
    cursor.execute(
        """
        SELECT client_id,
               name,
               network::text,
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
               digest_nonces,
               created_at,
               second_secret_sealed IS NOT NULL
          FROM client
         ORDER BY name
        """
    )
    return [Client(*row) for row in cursor.fetchall()]


def find(cursor: Cursor, viewer: Viewer, name: str) -> Client:
    """The client called `name`; raises `NotFound`."""
    for client in list_clients(cursor, viewer):
        if client.name == name:
            return client
    raise NotFound(f"there is no RADIUS client {name!r}: `sky-aaa client list` shows all")


def add(cursor: Cursor, viewer: Viewer, keyring: Keyring, client: Client, secret: bytes) -> int:
    """The new client's number (`client.client_id` is not looked at).

    Raises `Conflict` for a name or network in use, `BadValue`.
    """
    require_operator(viewer, "RADIUS clients")
    # The secret is sealed with the row's number, so the number comes first.
    cursor.execute("SELECT nextval(pg_get_serial_sequence('client', 'client_id'))")
    row = cursor.fetchone()
    assert row is not None
    client_id = int(row[0])
    sealed = keyring.seal(secret, table="client", row_id=client_id, column="secret")
    try:
        cursor.execute(
            """
            INSERT INTO client (
                       client_id, name, network, type, secret_sealed,
                       require_message_authenticator, limit_proxy_state,
                       send_message_authenticator, refuse_with, roles, bill_leg, slice_seconds,
                       maximum_call_seconds, return_codes, disconnect_port, digest_nonces)
            VALUES (%(client_id)s, %(name)s, %(network)s, %(type)s, %(secret_sealed)s,
                    %(require_message_authenticator)s, %(limit_proxy_state)s,
                    %(send_message_authenticator)s, %(refuse_with)s, %(roles)s, %(bill_leg)s,
                    %(slice_seconds)s, %(maximum_call_seconds)s, %(return_codes)s,
                    %(disconnect_port)s, %(digest_nonces)s)
            """,
            {**_parameters(client), "client_id": client_id, "secret_sealed": sealed},
        )
    except psycopg2.errors.UniqueViolation as error:
        raise _taken(error, client) from error
    except (psycopg2.errors.CheckViolation, psycopg2.errors.InvalidTextRepresentation) as error:
        raise BadValue(_check_text(error, client)) from error
    return client_id


def _parameters(client: Client) -> dict[str, Any]:
    return {**client._asdict(), "return_codes": json.dumps(dict(client.return_codes))}


def _taken(error: psycopg2.errors.UniqueViolation, client: Client) -> Conflict:
    if error.diag.constraint_name == "client_network_key":
        return Conflict(f"another client has the network {client.network} already")
    return Conflict(f"there is a RADIUS client {client.name!r} already")


def _check_text(error: psycopg2.Error, client: Client) -> str:
    constraint = error.diag.constraint_name or ""
    return {
        "client_name_check": f"{client.name!r} is no client name: 1 to 64 characters, no spaces",
        "": f"{client.network!r} is no address or network: 192.0.2.7 or 192.0.2.0/24 is expected",
    }.get(constraint, f"client {client.name}: a value is out of range ({constraint})")


def change(cursor: Cursor, viewer: Viewer, client: Client) -> None:
    """Write all of `client` but its secrets. Raises `Conflict`, `BadValue`."""
    require_operator(viewer, "RADIUS clients")
    try:
        cursor.execute(
            """
            UPDATE client
               SET name = %(name)s,
                   network = %(network)s,
                   type = %(type)s,
                   require_message_authenticator = %(require_message_authenticator)s,
                   message_authenticator_seen = %(message_authenticator_seen)s,
                   limit_proxy_state = %(limit_proxy_state)s,
                   send_message_authenticator = %(send_message_authenticator)s,
                   refuse_with = %(refuse_with)s,
                   roles = %(roles)s,
                   bill_leg = %(bill_leg)s,
                   slice_seconds = %(slice_seconds)s,
                   maximum_call_seconds = %(maximum_call_seconds)s,
                   return_codes = %(return_codes)s,
                   disconnect_port = %(disconnect_port)s,
                   digest_nonces = %(digest_nonces)s
             WHERE client_id = %(client_id)s
            """,
            _parameters(client),
        )
    except psycopg2.errors.UniqueViolation as error:
        raise _taken(error, client) from error
    except (psycopg2.errors.CheckViolation, psycopg2.errors.InvalidTextRepresentation) as error:
        raise BadValue(_check_text(error, client)) from error


def set_secret(
    cursor: Cursor, viewer: Viewer, keyring: Keyring, client_id: int, secret: bytes
) -> None:
    """The only secret from now on; a second one ends."""
    require_operator(viewer, "RADIUS clients")
    sealed = keyring.seal(secret, table="client", row_id=client_id, column="secret")
    cursor.execute(
        "UPDATE client SET secret_sealed = %s, second_secret_sealed = NULL WHERE client_id = %s",
        (sealed, client_id),
    )


def set_second_secret(
    cursor: Cursor, viewer: Viewer, keyring: Keyring, client_id: int, secret: bytes
) -> None:
    """Accepted beside the first one, while the switch is being changed over."""
    require_operator(viewer, "RADIUS clients")
    sealed = keyring.seal(secret, table="client", row_id=client_id, column="second_secret")
    cursor.execute(
        "UPDATE client SET second_secret_sealed = %s WHERE client_id = %s", (sealed, client_id)
    )


def secret(cursor: Cursor, viewer: Viewer, keyring: Keyring, client_id: int) -> bytes:
    """The client's first secret, in the clear: for a command that speaks as this client."""
    require_operator(viewer, "RADIUS clients")
    cursor.execute("SELECT secret_sealed FROM client WHERE client_id = %s", (client_id,))
    row = cursor.fetchone()
    assert row is not None
    return keyring.unseal(bytes(row[0]), table="client", row_id=client_id, column="secret")


def open_calls(cursor: Cursor, client_id: int) -> int:
    """How many calls in progress came from this client; attempts that were refused are none."""
    cursor.execute(
        "SELECT count(*) FROM call WHERE client_id = %s AND status <> 'refused'", (client_id,)
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def remove(cursor: Cursor, viewer: Viewer, client: Client) -> None:
    """Forget the client. Raises `Conflict` while it has calls in progress: they must end first."""
    require_operator(viewer, "RADIUS clients")
    running = open_calls(cursor, client.client_id)
    if running:
        raise Conflict(
            f"{client.name} has {running} calls in progress: their Stops would find no client. "
            "Remove it when they have ended"
        )
    cursor.execute("DELETE FROM client WHERE client_id = %s", (client.client_id,))
