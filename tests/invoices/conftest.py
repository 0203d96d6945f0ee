"""A world to invoice: an operator, a reseller, customers, and calls of a month that is over."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest

from aaa_server.cli.context import explain_errors
from aaa_server.cli.main import cli
from aaa_server.storage.database import connect, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

ACCOUNTS = """
INSERT INTO account (account_id, code, kind, parent_id, name, email, prepaid, currency, language,
                     time_zone)
VALUES (1, 'admin', 'admin', NULL, 'Operator', '', false, 'EUR', 'en', 'Europe/Madrid'),
       (2, 'carrier', 'provider', 1, 'Carrier', '', false, 'EUR', 'en', 'UTC'),
       (3, 'north', 'reseller', 1, 'North Telecom', 'north@example.test', false, 'EUR', 'de',
        'Europe/Berlin'),
       (4, 'alice', 'customer', 1, 'Alice Ltd', 'alice@example.test', false, 'EUR', 'en', 'UTC'),
       (5, 'bob', 'customer', 1, 'Bob', 'bob@example.test', true, 'EUR', 'es', 'UTC'),
       (6, 'cora', 'customer', 3, 'Cora GmbH', 'cora@example.test', false, 'EUR', 'de', 'UTC'),
       (7, 'yuki', 'customer', 1, 'Yuki KK', 'yuki@example.test', false, 'JPY', 'fr', 'UTC');
INSERT INTO tariff (currency) VALUES ('EUR');
INSERT INTO rate (tariff_id, prefix, destination, per_minute_nanos, initial_seconds,
                  increment_seconds, effective_from, revision)
SELECT 1, prefix, destination, 10000000, 60, 60, '2020-01-01', 1
  FROM (VALUES ('34', 'Spain'), ('346', 'Spain Mobile'), ('44', 'United Kingdom'),
               ('49', 'Germany'), ('1', 'United States')) AS known (prefix, destination);
SELECT cdr_add_month(month)
  FROM unnest(ARRAY['2026-08-01Z', '2026-09-01Z', '2026-10-01Z']::timestamptz[]) AS month;
"""

# A call with its record, charges and postings, as an ended one leaves them.
_RECORD = """
INSERT INTO cdr (call_id, client_id, session_key, account_id, party_id, levels, routes,
                 granted_seconds, authorized_at, started_at, found_by, ani, called, sip_call_id,
                 ended_at, ended_by, duration_ms, seconds, cause, postings)
VALUES (%(call_id)s, 1, %(call_id)s::text, %(account_id)s, '{}', '[]', '[]', 7200, %(began)s,
        %(began)s, 'argument', '34910000001', %(called)s, '', %(ended)s, 'stop',
        1000 * %(seconds)s, %(seconds)s, '16', 1)
"""
_CHARGE = """
INSERT INTO charge (call_id, level, account_id, currency, amount_micros, billed_seconds, rate_id,
                    prefix, number, at)
SELECT %(call_id)s, %(level)s, account_id, currency, %(micros)s, %(seconds)s,
       coalesce((SELECT rate_id FROM rate WHERE prefix = %(prefix)s), 0), %(prefix)s, %(number)s,
       %(at)s
  FROM account
 WHERE code = %(code)s
"""
_POSTING = """
INSERT INTO posting (transaction_id, position, account_id, amount_micros, currency,
                     contra_account_id, contra_book)
SELECT %(transaction_id)s, %(level)s, account_id, -%(micros)s, currency, parent_id, %(book)s
  FROM account
 WHERE code = %(code)s
"""


class World:
    """Writes calls and fees; everything ties as the server leaves it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._calls = 0
        with transaction(connection) as cursor:
            cursor.execute(ACCOUNTS)

    def call(
        self,
        *levels: tuple[str, int],
        at: str = "2026-10-15T12:00:00Z",
        ended: str = "",
        seconds: int = 60,
        prefix: str = "34",
    ) -> int:
        """A call of the first level's account; (code, micros) a level. Its number."""
        self._calls += 1
        values: dict[str, Any] = {
            "call_id": self._calls,
            "began": ended or at,
            "ended": ended or at,
            "called": prefix + "910000002",
            "seconds": seconds,
        }
        with transaction(self.connection) as cursor:
            cursor.execute("SELECT account_id FROM account WHERE code = %s", (levels[0][0],))
            row = cursor.fetchone()
            assert row is not None
            cursor.execute(_RECORD, {**values, "account_id": row[0]})
        self.charge(self._calls, *levels, at=at, seconds=seconds, prefix=prefix)
        return self._calls

    def charge(
        self,
        call_id: int,
        *levels: tuple[str, int],
        at: str,
        number: int = 1,
        seconds: int = 60,
        prefix: str = "34",
    ) -> None:
        """Charge it, or correct what it was charged."""
        suffix = "" if number == 1 else f"/{number}"
        with transaction(self.connection) as cursor:
            transaction_id = 10 * call_id + number
            _transaction(cursor, transaction_id, "call", f"{call_id}{suffix}", at, "")
            if number > 1:
                cursor.execute("UPDATE cdr SET postings = %s WHERE call_id = %s", (number, call_id))
            for level, (code, micros) in enumerate(levels):
                values = {
                    "call_id": call_id,
                    "level": level,
                    "code": code,
                    "micros": micros,
                    "seconds": seconds,
                    "prefix": prefix,
                    "number": number,
                    "at": at,
                    "transaction_id": transaction_id,
                    "book": "sales",
                }
                cursor.execute(_CHARGE, values)
                cursor.execute(_POSTING, values)
                _spend(cursor, code, micros)

    def fee(self, code: str, micros: int, note: str, at: str = "2026-10-01T00:00:00Z") -> None:
        """A fee that was posted then."""
        self._calls += 1
        with transaction(self.connection) as cursor:
            _transaction(cursor, 10 * self._calls, "fee", note, at, note)
            values = {"transaction_id": 10 * self._calls, "level": 0, "code": code}
            cursor.execute(_POSTING, {**values, "micros": micros, "book": "fees"})
            _spend(cursor, code, micros)

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()


def _transaction(
    cursor: Cursor, transaction_id: int, kind: str, reference: str, at: str, note: str
) -> None:
    cursor.execute(
        """
        INSERT INTO ledger_transaction (transaction_id, kind, reference, at, posted_at, note)
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        (transaction_id, kind, reference, at, at, note),
    )


def _spend(cursor: Cursor, code: str, micros: int) -> None:
    cursor.execute(
        "UPDATE account SET balance_micros = balance_micros - %s WHERE code = %s", (micros, code)
    )


class Ran(NamedTuple):
    """What a command printed and returned."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Sky(Protocol):
    """Runs `sky-aaa` with these words."""

    def __call__(self, *words: str) -> Ran: ...


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """The accounts, and what calls they will make."""
    with contextlib.closing(connect(database_url)) as connection:
        yield World(connection)


@pytest.fixture
def sky(
    database_url: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Sky:
    """The command line on that world, in a folder of its own."""
    for name in list(os.environ):
        if name.startswith("SKY_AAA_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    (tmp_path / "sky-aaa.toml").write_text("")
    monkeypatch.setenv("SKY_AAA_CONFIG", str(tmp_path / "sky-aaa.toml"))
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Ran:
        status = explain_errors(cli, list(words))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


# Numbers without the year in which the tests are run.
SELLER = (
    "--series", "INV-2026-", "--credit-series", "CN-2026-",
    "--name", "Sky Operator S.L.", "--street", "Calle Mayor 1", "--postcode", "28001",
    "--city", "Madrid", "--country", "ES", "--vat-id", "ESB58378431",
    "--iban", "ES91 2100 0418 4502 0005 1332", "--bic", "CAIXESBBXXX",
    "--email", "billing@operator.test", "--website", "operator.test",
)  # fmt: skip
NORTH = (
    "--name", "North Telecom GmbH", "--street", "Hafenstraße 5", "--postcode", "20457",
    "--city", "Hamburg", "--country", "DE", "--vat-id", "DE136695976",
    "--iban", "DE89370400440532013000", "--colour", "#0b6e4f",
    "--series", "NT2026/", "--credit-series", "NG2026/",
)  # fmt: skip


@pytest.fixture
def ready(sky: Sky) -> Sky:
    """The command line where all that invoices need is entered."""

    def do(*words: str) -> None:
        ran = sky(*words)
        assert ran.status == 0, ran.err

    do("issuer", "set", "admin", *SELLER)
    do("issuer", "set", "north", *NORTH)
    do("tax", "add", "ES", "VAT", "21", "--note", "Spanish VAT, Ley 37/1992")
    do("tax", "add", "DE", "VAT", "19", "--issuer", "north", "--note", "Umsatzsteuer nach UStG")
    do("billing", "set", "alice", "--country", "ES", "--city", "Sevilla", "--street", "Sierpes 2",
       "--postcode", "41004")  # fmt: skip
    do("billing", "set", "bob", "--country", "ES", "--city", "Madrid")
    do("billing", "set", "north", "--country", "DE", "--city", "Hamburg", "--vat-id", "DE136695976",
       "--treatment", "reverse-charge", "--name", "North Telecom GmbH")  # fmt: skip
    do("billing", "set", "cora", "--country", "DE", "--city", "Berlin", "--name", "Cora GmbH")
    do("billing", "set", "yuki", "--country", "JP", "--city", "Tokyo", "--treatment", "exempt",
       "--exempt-reason", "Export of services, article 69")  # fmt: skip
    return sky
