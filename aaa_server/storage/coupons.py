"""Coupons: codes that are worth money once, to an account directly below who issued them.

A code has 80 random bits and is shown when it is made, never again: kept is its HMAC-SHA256
with a key of its own (`coupon_key`), sealed by the key file. A slow password hash would do
no better against 80 bits, and could not be looked up: it gives each row a salt, so every
coupon would have to be tried. The key keeps a stolen database from trying codes at all.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.money import format_micros
from aaa_server.storage import invoice_payments, movements
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.secrets import Keyring

# Crockford's base 32: no I, L, O or U, which are read as 1, 1, 0 and as a word.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_CHARACTERS = 16
GROUP_CHARACTERS = 4
KEY_OCTETS = 32
COUNT_MAX = 10_000
LIST_MAX = 100_000
STATUSES = ("open", "redeemed", "void", "expired")
_LOOKS_LIKE = str.maketrans("OIL", "011", "- ")
_CODE = re.compile(f"[{ALPHABET}]{{{CODE_CHARACTERS}}}")


class NewCoupons(NamedTuple):
    """What coupons are made of; `expires_at` None: never."""

    amount_micros: int
    currency: str
    expires_at: datetime | None = None
    note: str = ""


class Made(NamedTuple):
    """One new coupon, and the only time that its code is told."""

    coupon_id: int
    code: str


class Coupon(NamedTuple):
    """One coupon; `account_code` is whose it was, '' for nobody whom the viewer may see."""

    coupon_id: int
    owner_code: str
    owner_chain: tuple[int, ...]
    amount_micros: int
    currency: str
    note: str
    created_at: datetime
    expires_at: datetime | None
    status: str
    account_code: str
    account_chain: tuple[int, ...]
    redeemed_at: datetime | None


class Redeemed(NamedTuple):
    """What a coupon was worth, and the balance after it."""

    coupon_id: int
    transaction_id: int
    amount_micros: int
    balance_micros: int


def draw() -> str:
    """A new random code, in groups that people can read out."""
    code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARACTERS))
    return "-".join(
        code[place : place + GROUP_CHARACTERS]
        for place in range(0, CODE_CHARACTERS, GROUP_CHARACTERS)
    )


def read_code(text: str) -> str:
    """The code as it is hashed: capitals without hyphens, O read as 0, I and L as 1.

    Raises `BadValue` for what can be no code.
    """
    code = text.upper().translate(_LOOKS_LIKE)
    if not _CODE.fullmatch(code):
        # The text itself is not repeated: it may be a code with a slip in it.
        raise BadValue(
            f"this is no coupon code: {CODE_CHARACTERS} letters and digits are, such as "
            "7K2M-9QXR-04WD-HT5B"
        )
    return code


def create(
    cursor: Cursor,
    viewer: Viewer,
    keyring: Keyring,
    owner: Account,
    new: NewCoupons,
    count: int,
    draw: Callable[[], str] = draw,
) -> list[Made]:
    """Issue `count` coupons of `owner`, for accounts directly below it. Raises `BadValue`.

    `draw` yields their codes, each another one.
    """
    require(viewer, Deed.ISSUE, owner.chain, owner.code)
    if owner.kind not in ("admin", "reseller"):
        raise BadValue(f"{owner.code} is a {owner.kind}: the operator and resellers issue coupons")
    movements.check_amount(new.amount_micros, "a coupon")
    if not 1 <= count <= COUNT_MAX:
        raise BadValue(f"1 to {COUNT_MAX} coupons are made at once, not {count}")
    codes = [draw() for _ in range(count)]
    with as_owner(cursor, viewer):
        key = _key(cursor, keyring)
        cursor.execute(
            """
            INSERT INTO coupon (owner_id, code_hash, amount_micros, currency, note, expires_at)
            SELECT %(owner_id)s, code_hash, %(amount_micros)s, %(currency)s, %(note)s,
                   %(expires_at)s
              FROM unnest(%(hashes)s::bytea[]) WITH ORDINALITY AS new (code_hash, place)
             ORDER BY place
         RETURNING coupon_id
            """,
            {
                **new._asdict(),
                "owner_id": owner.account_id,
                "hashes": [_hash(key, code) for code in codes],
            },
        )
        numbers = sorted(row[0] for row in cursor.fetchall())
    return [Made(number, code) for number, code in zip(numbers, codes, strict=True)]


def _key(cursor: Cursor, keyring: Keyring) -> bytes:
    """The key of the hashes, made when it is first needed."""
    new = secrets.token_bytes(KEY_OCTETS)
    sealed = keyring.seal(new, table="coupon_key", row_id=1, column="key")
    # Whoever is first decides; a second one waits for it and reads what it made.
    cursor.execute(
        "INSERT INTO coupon_key (coupon_key_id, key_sealed) VALUES (1, %s) ON CONFLICT DO NOTHING",
        (sealed,),
    )
    cursor.execute("SELECT key_sealed FROM coupon_key")
    row = cursor.fetchone()
    assert row is not None
    return keyring.unseal(bytes(row[0]), table="coupon_key", row_id=1, column="key")


def _hash(key: bytes, code: str) -> bytes:
    return hmac.new(key, read_code(code).encode(), hashlib.sha256).digest()


def redeem(
    cursor: Cursor, viewer: Viewer, keyring: Keyring, account: Account, code: str
) -> Redeemed:
    """Credit the coupon to `account`, in one statement: of two at once, one gets the money.

    Raises `NotFound` for a code that is no coupon of the account's seller, `Conflict` for one
    that is used, void, expired or in another currency.
    """
    require(viewer, Deed.REDEEM, account.chain, account.code)
    if account.kind not in ("customer", "reseller"):
        raise BadValue(f"{account.code} is of kind {account.kind}: coupons are for customers")
    read_code(code)
    with as_owner(cursor, viewer):
        code_hash = _hash(_key(cursor, keyring), code)
        cursor.execute(
            """
            WITH spent AS (
                UPDATE coupon
                   SET redeemed_at = now(),
                       account_id = account.account_id,
                       transaction_id = nextval('identifier_block')
                  FROM account
                 WHERE coupon.code_hash = %(code_hash)s
                   AND coupon.redeemed_at IS NULL
                   AND coupon.voided_at IS NULL
                   AND (coupon.expires_at IS NULL OR coupon.expires_at > now())
                   AND account.account_id = %(account_id)s
                   AND account.parent_id = coupon.owner_id
                   AND account.currency = coupon.currency
                   AND account.status <> 'closed'
             RETURNING coupon.coupon_id,
                       coupon.owner_id,
                       coupon.account_id,
                       coupon.transaction_id,
                       coupon.amount_micros,
                       coupon.currency
            ), noted AS (
                INSERT INTO ledger_transaction (
                            transaction_id, kind, reference, at, note, author_id)
                SELECT transaction_id, 'coupon', coupon_id::text, now(), '', %(author_id)s
                  FROM spent
            ), posted AS (
                INSERT INTO posting (
                            transaction_id, position, account_id, amount_micros, currency,
                            contra_account_id, contra_book)
                SELECT transaction_id, 0, account_id, amount_micros, currency, owner_id, 'coupons'
                  FROM spent
            )
            UPDATE account
               SET balance_micros = account.balance_micros + spent.amount_micros
              FROM spent
             WHERE account.account_id = spent.account_id
         RETURNING spent.coupon_id,
                   spent.transaction_id,
                   spent.amount_micros,
                   account.balance_micros
            """,
            {
                "code_hash": code_hash,
                "account_id": account.account_id,
                "author_id": viewer.account_id,
            },
        )
        row = cursor.fetchone()
        if row is None:
            _explain(cursor, account, code_hash)
        # The balance's row is ours since it was credited.
        invoice_payments.allocate(cursor, account.account_id)
    assert row is not None
    return Redeemed(*row)


def _explain(cursor: Cursor, account: Account, code_hash: bytes) -> None:
    """Raises what to say of a coupon that could not be redeemed."""
    cursor.execute(
        """
        SELECT coupon_id,
               amount_micros,
               currency,
               redeemed_at,
               voided_at,
               expires_at
          FROM coupon
         WHERE code_hash = %s
           AND owner_id = %s
        """,
        (code_hash, account.parent_id),
    )
    row = cursor.fetchone()
    if row is None:
        # Another seller's is none, too: whether it is right is nobody's business here.
        raise NotFound(f"there is no coupon with this code for {account.code}")
    coupon_id, amount_micros, currency, redeemed_at, voided_at, expires_at = row
    if redeemed_at is not None:
        raise Conflict(f"coupon {coupon_id} was redeemed at {movements.show(redeemed_at)}")
    if voided_at is not None:
        raise Conflict(f"coupon {coupon_id} was made void at {movements.show(voided_at)}")
    if currency != account.currency:
        raise Conflict(
            f"coupon {coupon_id} is of {format_micros(amount_micros)} {currency}, and "
            f"{account.code} has {account.currency}"
        )
    if expires_at is not None:
        raise Conflict(f"coupon {coupon_id} expired at {movements.show(expires_at)}")
    raise Conflict(f"{account.code} is closed: it gets no money")


def list_coupons(
    cursor: Cursor,
    viewer: Viewer,
    *,
    owner_id: int | None = None,
    account_id: int | None = None,
    status: str = "",
    limit: int = LIST_MAX,
) -> list[Coupon]:
    """The last `limit` in order of numbers: those that the viewer's tree sells or redeemed."""
    cursor.execute(
        """
        SELECT *
          FROM (SELECT coupon.coupon_id,
                       coalesce(owner.code, '') AS owner_code,
                       coalesce(owner.chain, '{}'::bigint[]) AS owner_chain,
                       coupon.amount_micros,
                       coupon.currency,
                       coupon.note,
                       coupon.created_at,
                       coupon.expires_at,
                       CASE WHEN coupon.redeemed_at IS NOT NULL THEN 'redeemed'
                            WHEN coupon.voided_at IS NOT NULL THEN 'void'
                            WHEN coupon.expires_at <= now() THEN 'expired'
                            ELSE 'open' END AS status,
                       coalesce(account.code, '') AS account_code,
                       coalesce(account.chain, '{}'::bigint[]) AS account_chain,
                       coupon.redeemed_at
                  FROM coupon
                  LEFT JOIN account AS owner ON owner.account_id = coupon.owner_id
                  LEFT JOIN account ON account.account_id = coupon.account_id
                 WHERE (%(owner_id)s::bigint IS NULL OR coupon.owner_id = %(owner_id)s)
                   AND (%(account_id)s::bigint IS NULL
                        OR coupon.account_id = %(account_id)s)) AS one
         WHERE %(status)s IN ('', status)
         ORDER BY coupon_id DESC
         LIMIT %(limit)s
        """,
        {"owner_id": owner_id, "account_id": account_id, "status": status, "limit": limit},
    )
    found = [
        Coupon(*row)._replace(owner_chain=tuple(row[2]), account_chain=tuple(row[10]))
        for row in cursor.fetchall()
    ]
    return [
        one
        for one in reversed(found)
        if may(viewer, Deed.SEE, one.owner_chain) or may(viewer, Deed.SEE, one.account_chain)
    ]


def void(cursor: Cursor, viewer: Viewer, coupon_ids: Sequence[int]) -> int:
    """Take these coupons back, all or none; how many were open until now.

    One that is void stays so. Raises `NotFound` for a number that the viewer cannot see,
    `NotAllowed` for another's, `Conflict` for one that was redeemed.
    """
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            SELECT coupon.coupon_id,
                   coupon.redeemed_at,
                   owner.code,
                   owner.chain
              FROM coupon
              JOIN account AS owner ON owner.account_id = coupon.owner_id
             WHERE coupon.coupon_id = ANY (%s)
             ORDER BY coupon.coupon_id
               FOR NO KEY UPDATE OF coupon
            """,
            (list(coupon_ids),),
        )
        rows = [row for row in cursor.fetchall() if may(viewer, Deed.SEE, row[3])]
        missing = set(coupon_ids) - {row[0] for row in rows}
        if missing:
            raise NotFound(
                f"there is no coupon {min(missing)}: `sky-aaa coupon list` shows their numbers"
            )
        for coupon_id, redeemed_at, code, chain in rows:
            require(viewer, Deed.ISSUE, chain, code)
            if redeemed_at is not None:
                raise Conflict(
                    f"coupon {coupon_id} was redeemed at {movements.show(redeemed_at)}: "
                    "`sky-aaa adjustment add` takes money back"
                )
        cursor.execute(
            "UPDATE coupon SET voided_at = now() WHERE coupon_id = ANY (%s) AND voided_at IS NULL",
            (list(coupon_ids),),
        )
        return cursor.rowcount
