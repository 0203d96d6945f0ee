"""A database with a small tree, a switch that takes orders, and calls in progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.storage.database import transaction
from aaa_server.storage.secrets import Keyring

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class World:
    """Admin 1; reseller north 10 with its customer nora 11; customer alice 20."""

    def __init__(self, connection: Connection, keyring: Keyring) -> None:
        self.connection = connection
        self.keyring = keyring
        self._calls = 1000
        self.ask(
            """
            INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency) VALUES
                   (1, 'admin', 'admin', NULL, false, 'EUR');
            INSERT INTO account (account_id, code, kind, parent_id, prepaid, currency) VALUES
                   (10, 'north', 'reseller', 1, false, 'EUR'),
                   (11, 'nora', 'customer', 10, true, 'EUR'),
                   (20, 'alice', 'customer', 1, true, 'EUR')
            """
        )

    def ask(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with transaction(self.connection) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description is not None else []

    def client(
        self,
        client_id: int,
        network: str,
        port: int | None,
        *,
        kind: str = "rfc",
        second: bytes | None = None,
    ) -> None:
        """A switch whose secret is testing123."""
        sealed = [
            None
            if octets is None
            else self.keyring.seal(octets, table="client", row_id=client_id, column=column)
            for column, octets in (("secret", b"testing123"), ("second_secret", second))
        ]
        self.ask(
            """
            INSERT INTO client (client_id, name, network, type, secret_sealed,
                                second_secret_sealed, require_message_authenticator,
                                limit_proxy_state, refuse_with, disconnect_port)
            VALUES (%s, %s, %s, %s, %s, %s, 'yes', 'auto', 'reject', %s)
            """,
            (client_id, f"switch-{client_id}", network, kind, *sealed, port),
        )

    def call(
        self,
        key: str,
        *,
        account: int | None = 20,
        client: int = 1,
        granted: int = 60,
        since: int = 0,
        started: int | None = None,
        nas: str | None = "127.0.0.1",
        **changes: Any,
    ) -> int:
        """A call authorised `since` seconds ago, answered `started` seconds ago; its number."""
        self._calls += 1
        authorized = NOW - timedelta(seconds=since)
        row = {
            "client_id": client,
            "session_key": key,
            "call_id": self._calls,
            "status": "authorized",
            "account_id": account,
            "levels": "[[20]]",
            "granted_seconds": granted,
            "expires_at": authorized + timedelta(seconds=granted + 120),
            "authorized_at": authorized,
            "started_at": None if started is None else NOW - timedelta(seconds=started),
            "found_by": "argument",
            "nas_address": nas,
            **changes,
        }
        columns = ", ".join(row)
        places = ", ".join(["%s"] * len(row))
        self.ask(f"INSERT INTO call ({columns}) VALUES ({places})", list(row.values()))  # noqa: S608
        return self._calls

    def orders(self) -> list[tuple[Any, ...]]:
        """Session key, reason, state of all orders."""
        return self.ask("SELECT session_key, reason, state FROM disconnect_order ORDER BY order_id")

    def events(self) -> list[tuple[Any, ...]]:
        """Account, kind, detail of all events."""
        return self.ask("SELECT account_id, kind, detail FROM event ORDER BY event_id")


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    folder: Path = tmp_path_factory.mktemp("worker")
    return Keyring.open(folder / "secrets.key")


@pytest.fixture
def world(connection: Connection, keyring: Keyring) -> World:
    return World(connection, keyring)
