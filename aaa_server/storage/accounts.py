"""Accounts: one party each, in a tree below the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import (
    Deed,
    Viewer,
    as_owner,
    may,
    require,
    unknown_account,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.secrets import Keyring

FIRST_ACCOUNT_LOCK = 0x534B5941  # pg_advisory_xact_lock
LIST_MAX = 10_000  # rows of one listing; narrower questions find the rest


class Account(NamedTuple):
    """One row, with the names that its numbers stand for ('' where the viewer may not know)."""

    account_id: int
    code: str
    kind: str
    parent_id: int | None
    parent_code: str
    chain: tuple[int, ...]
    name: str
    email: str
    prepaid: bool
    currency: str
    credit_limit_micros: int
    rate_group_id: int | None
    rate_group: str
    max_channels: int
    calls_per_second: int
    maximum_call_seconds: int | None
    status: str
    expires_at: datetime | None
    language: str
    time_zone: str
    created_at: datetime
    balance_micros: int
    reserved_micros: int
    channels: int
    valid_days: int | None
    surcharge_micros: int
    first_used_at: datetime | None
    pin_failures: int
    locked_until: datetime | None
    low_balance_micros: int | None

    @property
    def available_micros(self) -> int:
        """What may still be spent or reserved; plus is in the account's favour."""
        return self.balance_micros - self.reserved_micros + self.credit_limit_micros

    @property
    def reseller(self) -> str:
        """The reseller's code; "0" for a direct account of the operator."""
        if self.kind == "admin":
            return ""
        return "0" if len(self.chain) == 1 else self.parent_code


class NewAccount(NamedTuple):
    """What a new account is made of; the rest can be changed later."""

    code: str
    kind: str
    parent_id: int | None
    prepaid: bool
    currency: str
    name: str = ""
    email: str = ""
    credit_limit_micros: int = 0
    rate_group_id: int | None = None
    max_channels: int = 0
    calls_per_second: int = 0
    maximum_call_seconds: int | None = None
    expires_at: datetime | None = None
    language: str = "en"
    time_zone: str = "UTC"
    valid_days: int | None = None
    surcharge_micros: int = 0
    low_balance_micros: int | None = None


class Filter(NamedTuple):
    """Which accounts to list; '' and None: all. Calling cards of batches with `cards` only."""

    kind: str = ""
    status: str = ""
    parent_id: int | None = None
    account_ids: Sequence[int] | None = None
    search: str = ""
    cards: bool = True
    after: str = ""
    limit: int = LIST_MAX


def find(cursor: Cursor, viewer: Viewer, code: str) -> Account:
    """The account; raises `NotFound` when there is none that `viewer` may see."""
    found = _select(cursor, viewer, Filter(), code=code)
    if not found:
        raise NotFound(unknown_account(viewer, code))
    return found[0]


def exist(cursor: Cursor) -> bool:
    """Whether there is any account; two that ask at once, to make the first, wait in turn."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (FIRST_ACCOUNT_LOCK,))
    cursor.execute("SELECT EXISTS (SELECT FROM account)")
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def list_accounts(cursor: Cursor, viewer: Viewer, wanted: Filter) -> list[Account]:
    """In order of codes, at most `wanted.limit` after `wanted.after`."""
    return _select(cursor, viewer, wanted, code="")


def _select(cursor: Cursor, viewer: Viewer, wanted: Filter, *, code: str) -> list[Account]:
    cursor.execute(
        """
        SELECT account.account_id,
               account.code,
               account.kind,
               account.parent_id,
               coalesce(parent.code, ''),
               account.chain,
               account.name,
               account.email,
               account.prepaid,
               account.currency,
               account.credit_limit_micros,
               account.rate_group_id,
               coalesce(rate_group.name, ''),
               account.max_channels,
               account.calls_per_second,
               account.maximum_call_seconds,
               account.status,
               account.expires_at,
               account.language,
               account.time_zone,
               account.created_at,
               account.balance_micros,
               account.reserved_micros,
               account.channels,
               account.valid_days,
               account.surcharge_micros,
               account.first_used_at,
               account.pin_failures,
               account.locked_until,
               account.low_balance_micros
          FROM account
          LEFT JOIN account AS parent ON parent.account_id = account.parent_id
          LEFT JOIN rate_group ON rate_group.rate_group_id = account.rate_group_id
         WHERE (%(code)s = '' OR account.code = %(code)s)
           AND (%(kind)s = '' OR account.kind = %(kind)s)
           AND (%(status)s = '' OR account.status = %(status)s)
           AND (%(parent_id)s::bigint IS NULL OR account.parent_id = %(parent_id)s)
           AND (%(account_ids)s::bigint[] IS NULL
                OR account.account_id = ANY (%(account_ids)s::bigint[]))
           AND (%(search)s = ''
                OR strpos(lower(account.code), lower(%(search)s)) > 0
                OR strpos(lower(account.name), lower(%(search)s)) > 0)
           AND (%(cards)s OR account.card_batch_id IS NULL)
           AND account.code > %(after)s
         ORDER BY account.code
         LIMIT %(limit)s
        """,
        {**wanted._asdict(), "code": code, "account_ids": _list(wanted.account_ids)},
    )
    accounts = [Account(*row)._replace(chain=tuple(row[5])) for row in cursor.fetchall()]
    return [account for account in accounts if may(viewer, Deed.SEE, account.chain)]


def _list(numbers: Sequence[int] | None) -> list[int] | None:
    """As psycopg2 wants an array."""
    return None if numbers is None else list(numbers)


def add(cursor: Cursor, new: NewAccount) -> int:
    """The new account's number. Raises `Conflict` for a code in use, `BadValue` for the rest."""
    try:
        cursor.execute(
            """
            INSERT INTO account (
                       code, kind, parent_id, name, email, prepaid, currency,
                       credit_limit_micros, rate_group_id, max_channels, calls_per_second,
                       maximum_call_seconds, expires_at, language, time_zone, valid_days,
                       surcharge_micros, low_balance_micros)
            VALUES (%(code)s, %(kind)s, %(parent_id)s, %(name)s, %(email)s, %(prepaid)s,
                    %(currency)s, %(credit_limit_micros)s, %(rate_group_id)s, %(max_channels)s,
                    %(calls_per_second)s, %(maximum_call_seconds)s, %(expires_at)s,
                    %(language)s, %(time_zone)s, %(valid_days)s, %(surcharge_micros)s,
                    %(low_balance_micros)s)
            RETURNING account_id
            """,
            new._asdict(),
        )
    except psycopg2.errors.UniqueViolation as error:
        if new.kind == "admin":
            raise Conflict("there is an admin account already, and there is only one") from error
        raise Conflict(f"there is an account {new.code!r} already: codes are unique") from error
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, new.code)) from error
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _check_text(error: psycopg2.errors.CheckViolation, code: str) -> str:
    """Our triggers' own words, or the broken constraint in ours."""
    constraint = error.diag.constraint_name or ""
    if not constraint:
        return error.diag.message_primary or str(error)
    return {
        "account_code_check": f"{code!r} is no account code: 1 to 64 characters without spaces",
        "account_currency_check": "a currency is three capital letters, such as EUR",
        "account_credit_limit_micros_check": "a credit limit is not below 0",
        "account_surcharge_micros_check": "a surcharge is not below 0",
        "account_check": "a prepaid account has no credit limit: make it --postpaid",
    }.get(constraint, f"account {code}: a value is out of range ({constraint})")


def change(cursor: Cursor, account: Account) -> None:
    """Write all that can be changed of `account`. Raises `BadValue`."""
    try:
        cursor.execute(
            """
            UPDATE account
               SET name = %(name)s,
                   email = %(email)s,
                   prepaid = %(prepaid)s,
                   credit_limit_micros = %(credit_limit_micros)s,
                   rate_group_id = %(rate_group_id)s,
                   max_channels = %(max_channels)s,
                   calls_per_second = %(calls_per_second)s,
                   maximum_call_seconds = %(maximum_call_seconds)s,
                   status = %(status)s,
                   expires_at = %(expires_at)s,
                   language = %(language)s,
                   time_zone = %(time_zone)s,
                   valid_days = %(valid_days)s,
                   surcharge_micros = %(surcharge_micros)s,
                   low_balance_micros = %(low_balance_micros)s
             WHERE account_id = %(account_id)s
            """,
            {**account._asdict(), "chain": None},
        )
    except psycopg2.errors.CheckViolation as error:
        raise BadValue(_check_text(error, account.code)) from error


def lock(cursor: Cursor, account_ids: Sequence[int]) -> None:
    """Hold these accounts until the transaction ends, in the order every writer takes them."""
    cursor.execute(
        """
        SELECT account_id
          FROM account
         WHERE account_id = ANY (%s)
         ORDER BY account_id
           FOR NO KEY UPDATE
        """,
        (list(account_ids),),
    )


def find_to_change(cursor: Cursor, viewer: Viewer, code: str, *, standing: bool = False) -> Account:
    """The account, locked, as it is now; raises `NotFound` and `NotAllowed`.

    `standing`: its status or expiry is to change, and with it whether its numbers ring.
    """
    account = find(cursor, viewer, code)
    require(viewer, Deed.CHANGE, account.chain, code)
    if standing:
        # Before its row is locked: while an import holds the catalogue's, calls need not wait.
        with as_owner(cursor, viewer):
            have_numbers_read_again(cursor, account.account_id)
    lock(cursor, [account.account_id])
    return find(cursor, viewer, code)


def have_numbers_read_again(cursor: Cursor, account_id: int) -> None:
    """Servers look anew at the DIDs of the account and of all below it."""
    cursor.execute(
        """
        SELECT did.did_id
          FROM did_assignment
          JOIN account USING (account_id)
          JOIN did USING (did_id)
         WHERE account.chain @> ARRAY[%s::bigint]
           AND (did_assignment.valid_to IS NULL OR did_assignment.valid_to > now())
         ORDER BY did.did_id
           FOR NO KEY UPDATE OF did
        """,
        (account_id,),
    )
    # As whoever assigns them does: the numbers before the catalogue's row.
    did_ids = [row[0] for row in cursor.fetchall()]
    if did_ids:  # an update of none would have all servers read everything again
        cursor.execute("UPDATE did SET revision = 0 WHERE did_id = ANY (%s)", (did_ids,))


def set_password(cursor: Cursor, keyring: Keyring, account_id: int, password: bytes) -> None:
    """What PAP and CHAP are checked against; sealed, bound to this row and column."""
    sealed = keyring.seal(password, table="account", row_id=account_id, column="password")
    cursor.execute(
        "UPDATE account SET password_sealed = %s WHERE account_id = %s", (sealed, account_id)
    )


def set_pin(cursor: Cursor, keyring: Keyring, account_id: int, pin: bytes) -> None:
    """The card's PIN; sealed, bound to this row and column."""
    sealed = keyring.seal(pin, table="account", row_id=account_id, column="pin")
    cursor.execute("UPDATE account SET pin_sealed = %s WHERE account_id = %s", (sealed, account_id))


def codes(cursor: Cursor, account_ids: Sequence[int]) -> dict[int, str]:
    """The codes of those of these accounts that the viewer's role may see."""
    cursor.execute(
        "SELECT account_id, code FROM account WHERE account_id = ANY (%s)", (list(account_ids),)
    )
    return dict(cursor.fetchall())
