"""What a batch decided on memory is proved by: it fails where it must, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2
import pytest

from aaa_server.storage.arrays import array, bounds, text_array
from aaa_server.storage.plain import prepare

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

ENDED = [(2, "00000001"), (2, "00000002"), (3, "00000001")]


@pytest.fixture
def ended(connection: Connection) -> Connection:
    """Calls of two gateways that count their sessions, both from the same number on."""
    prepare(connection)
    with connection.cursor() as cursor:
        for number, (client_id, session_key) in enumerate(ENDED, start=1):
            cursor.execute(
                """
                INSERT INTO cdr (call_id, client_id, session_key, party_id, levels, routes,
                                 granted_seconds, authorized_at, ani, called, sip_call_id,
                                 ended_at, ended_by, duration_ms, seconds, flags)
                VALUES (%s, %s, %s, '{}', '[]', '[]', 60, now(), '1', '2', '', now(), 'stop',
                        1000, 1, '{}')
                """,
                (number, client_id, session_key),
            )
    return connection


def prove_new(connection: Connection, *keys: tuple[int, str]) -> list[tuple[int, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        arguments = (
            array([client_id for client_id, _ in keys]),
            text_array([session_key for _, session_key in keys]),
            *bounds([cursor.fetchall()[0][0]]),
        )
        cursor.execute(f"EXECUTE prove_new ({', '.join(arguments)})")
        return cursor.fetchall()


@pytest.mark.parametrize(
    "keys",
    [
        ((1, "00000001"),),
        ((1, "00000001"), (2, "00000003")),
        ((1, "00000001"), (2, "00000003"), (3, "00000002")),
    ],
)
def test_a_key_that_another_client_has_used_is_new(
    ended: Connection, keys: tuple[tuple[int, str], ...]
) -> None:
    assert len(prove_new(ended, *keys)) == 1


@pytest.mark.parametrize("key", ENDED)
def test_one_that_the_client_itself_has_used_is_not(
    ended: Connection, key: tuple[int, str]
) -> None:
    with pytest.raises(psycopg2.Error) as raised:
        prove_new(ended, (1, "00000001"), (2, "00000003"), key)
    assert raised.value.pgcode == "SKY01"
