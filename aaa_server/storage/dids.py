"""DIDs: the numbers that are called from outside, what they cost, and what buyers pay.

The operator keeps the inventory and sees what providers take. A price is what one buyer
pays its seller, the account above it; only who has a price for a number may sell it on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.rating.bounds import FEE_MICROS_MAX
from aaa_server.rating.money import MICROS
from aaa_server.storage.problem import BadValue, Conflict, NotAllowed, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require, require_operator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

LIST_MAX = 10_000  # rows of one listing; narrower questions find the rest
MONEY_MAX = 10**15  # micros or nanos: more is a slip of the keyboard
SECONDS_MAX = 86_400  # a longer billing block is a mistake
STATUSES = ("active", "suspended", "retired")
_NUMBER = re.compile(r"[0-9]{3,32}")


class Terms(NamedTuple):
    """What one party pays for a number, in that party's currency."""

    setup_micros: int = 0
    monthly_micros: int = 0
    per_minute_nanos: int = 0
    connect_fee_micros: int = 0
    included_seconds: int = 0
    initial_seconds: int = 60
    increment_seconds: int = 60


class Did(NamedTuple):
    """One number. `owner_*` is who has it now, '' for nobody whom the viewer may see.

    `provider_*` and `cost` are the operator's; others find '' and None there.
    """

    did_id: int
    number: str
    access: bool
    status: str
    owner_code: str
    destination_kind: str
    destination: str
    provider_id: int | None = None
    provider_code: str = ""
    currency: str = ""
    cost: Terms | None = None


class Price(NamedTuple):
    """What `account_code` pays its seller for a number."""

    did_id: int
    account_id: int
    account_code: str
    account_chain: tuple[int, ...]
    currency: str
    terms: Terms


class Filter(NamedTuple):
    """Which numbers to list; '' and None: all. `free`: assigned to nobody now."""

    numbers: Sequence[str] | None = None
    prefixes: Sequence[str] | None = None
    account_id: int | None = None
    provider_id: int | None = None
    status: str = ""
    free: bool = False
    after: str = ""
    limit: int = LIST_MAX


class Row(NamedTuple):
    """One line of a provider's inventory."""

    number: str
    cost: Terms


class Saved(NamedTuple):
    """What an import did, in numbers."""

    new: int
    changed: int
    unchanged: int


def check_number(text: str) -> str:
    """`text`, which is 3 to 32 digits in international form; raises `BadValue`."""
    if not _NUMBER.fullmatch(text):
        raise BadValue(f"{text!r} is no number: 3 to 32 digits with the country code, no +")
    return text


def check_terms(terms: Terms) -> Terms:
    """`terms`, none of it out of range; raises `BadValue`."""
    for name, value in zip(Terms._fields, terms, strict=True):
        unit = name.rpartition("_")[2]
        if unit in ("micros", "nanos") and not 0 <= value <= MONEY_MAX:
            raise BadValue(f"{name.removesuffix('_' + unit)} is below 0 or beyond all measure")
        if name == "connect_fee_micros" and value > FEE_MICROS_MAX:
            raise BadValue(f"connect_fee is at most {FEE_MICROS_MAX // MICROS}")
        if unit == "seconds" and not 0 <= value <= SECONDS_MAX:
            raise BadValue(f"{name} is 0 to {SECONDS_MAX}, not {value}")
    if terms.increment_seconds == 0:
        raise BadValue("increment_seconds is at least 1")
    return terms


# ------------------------------------------------------------------ looking


def list_dids(cursor: Cursor, viewer: Viewer, wanted: Filter) -> list[Did]:
    """In order of numbers, at most `wanted.limit` after `wanted.after`.

    Who is not the operator finds the numbers that accounts of its tree have a price for, or
    have or had.
    """
    cursor.execute(
        """
        SELECT did.did_id,
               did.number,
               did.access,
               did.status,
               coalesce(owner.code, ''),
               coalesce(running.destination_kind, ''),
               coalesce(running.destination, '')
          FROM did
          LEFT JOIN did_assignment AS running
                 ON running.did_id = did.did_id
                AND tstzrange(running.valid_from, running.valid_to) @> now()
          LEFT JOIN account AS owner ON owner.account_id = running.account_id
         WHERE (%(viewer_id)s::bigint IS NULL
                OR did.did_id IN (SELECT did_price.did_id
                                    FROM did_price
                                    JOIN account USING (account_id)
                                   WHERE account.chain @> ARRAY[%(viewer_id)s::bigint])
                OR did.did_id IN (SELECT did_assignment.did_id
                                    FROM did_assignment
                                    JOIN account USING (account_id)
                                   WHERE account.chain @> ARRAY[%(viewer_id)s::bigint]))
           AND (%(numbers)s::text[] IS NULL OR did.number = ANY (%(numbers)s::text[]))
           AND (%(prefixes)s::text[] IS NULL
                OR EXISTS (SELECT
                             FROM unnest(%(prefixes)s::text[]) AS prefix
                            WHERE starts_with(did.number, prefix)))
           AND (%(did_ids)s::bigint[] IS NULL OR did.did_id = ANY (%(did_ids)s::bigint[]))
           AND (%(account_id)s::bigint IS NULL OR running.account_id = %(account_id)s)
           AND (%(status)s = '' OR did.status = %(status)s)
           AND (NOT %(free)s OR running.did_id IS NULL)
           AND did.number > %(after)s
         ORDER BY did.number
         LIMIT %(limit)s
        """,
        {
            **wanted._asdict(),
            "viewer_id": None if viewer.is_operator else viewer.account_id,
            "did_ids": _of_provider(cursor, wanted.provider_id),
            "numbers": None if wanted.numbers is None else list(wanted.numbers),
            "prefixes": list(wanted.prefixes) if wanted.prefixes else None,
        },
    )
    found = [Did(*row) for row in cursor.fetchall()]
    return _with_buying_side(cursor, found) if viewer.is_operator else found


def _of_provider(cursor: Cursor, provider_id: int | None) -> list[int] | None:
    """Asked apart: the viewer's role may not so much as name the column."""
    if provider_id is None:
        return None
    cursor.execute("SELECT did_id FROM did WHERE provider_id = %s", (provider_id,))
    return [row[0] for row in cursor.fetchall()]


def _with_buying_side(cursor: Cursor, found: list[Did]) -> list[Did]:
    cursor.execute(
        """
        SELECT did.did_id,
               did.provider_id,
               account.code,
               account.currency,
               did.setup_micros,
               did.monthly_micros,
               did.per_minute_nanos,
               did.connect_fee_micros,
               did.included_seconds,
               did.initial_seconds,
               did.increment_seconds
          FROM did
          JOIN account ON account.account_id = did.provider_id
         WHERE did.did_id = ANY (%s)
        """,
        ([did.did_id for did in found],),
    )
    sides = {row[0]: row[1:] for row in cursor.fetchall()}
    return [
        did._replace(
            provider_id=side[0], provider_code=side[1], currency=side[2], cost=Terms(*side[3:])
        )
        for did in found
        for side in (sides[did.did_id],)
    ]


def find(cursor: Cursor, viewer: Viewer, number: str) -> Did:
    """The number; raises `NotFound` when there is none that `viewer` may see."""
    found = list_dids(cursor, viewer, Filter(numbers=(check_number(number),)))
    if not found:
        whose = "" if viewer.is_operator else f" that {viewer.code} may see"
        raise NotFound(f"there is no DID {number}{whose}: `sky-aaa did list` shows all")
    return found[0]


def prices(cursor: Cursor, viewer: Viewer, did_ids: Sequence[int]) -> list[Price]:
    """The prices of these numbers, number by number, from the operator's buyer downwards."""
    cursor.execute(
        """
        SELECT did_price.did_id,
               did_price.account_id,
               account.code,
               account.chain,
               account.currency,
               did_price.setup_micros,
               did_price.monthly_micros,
               did_price.per_minute_nanos,
               did_price.connect_fee_micros,
               did_price.included_seconds,
               did_price.initial_seconds,
               did_price.increment_seconds
          FROM did_price
          JOIN did USING (did_id)
          JOIN account USING (account_id)
         WHERE did_price.did_id = ANY (%s)
         ORDER BY did.number, cardinality(account.chain), account.code
        """,
        (list(did_ids),),
    )
    found = [
        Price(row[0], row[1], row[2], tuple(row[3]), row[4], Terms(*row[5:]))
        for row in cursor.fetchall()
    ]
    return [price for price in found if may(viewer, Deed.SEE, price.account_chain)]


# ------------------------------------------------------------------ the inventory


def require_provider(account: Account) -> None:
    """Raises `BadValue` for an account that is no provider."""
    if account.kind != "provider":
        raise BadValue(f"{account.code} is a {account.kind}: numbers come from a provider")


def add(
    cursor: Cursor, viewer: Viewer, provider: Account, row: Row, *, access: bool = False
) -> None:
    """Take a number into the inventory. Raises `Conflict` for one that is there already."""
    require_operator(viewer, "DIDs are added")
    require_provider(provider)
    cursor.execute(
        """
        INSERT INTO did (
                   number, provider_id, access, setup_micros, monthly_micros, per_minute_nanos,
                   connect_fee_micros, included_seconds, initial_seconds, increment_seconds)
        VALUES (%(number)s, %(provider_id)s, %(access)s, %(setup_micros)s, %(monthly_micros)s,
                %(per_minute_nanos)s, %(connect_fee_micros)s, %(included_seconds)s,
                %(initial_seconds)s, %(increment_seconds)s)
            ON CONFLICT (number) DO NOTHING
        """,
        {
            "number": check_number(row.number),
            "provider_id": provider.account_id,
            "access": access,
            **check_terms(row.cost)._asdict(),
        },
    )
    if not cursor.rowcount:
        there = find(cursor, viewer, row.number)
        raise Conflict(
            f"{row.number} is in the inventory already, from {there.provider_code} and "
            f"{there.status}: `sky-aaa did set {row.number}` changes it"
        )


def of_other_providers(
    cursor: Cursor, viewer: Viewer, provider: Account, numbers: Sequence[str]
) -> Mapping[str, str]:
    """Those of `numbers` that come from somebody else, and from whom."""
    require_operator(viewer, "DIDs are imported")
    cursor.execute(
        """
        SELECT did.number,
               account.code
          FROM did
          JOIN account ON account.account_id = did.provider_id
         WHERE did.number = ANY (%s)
           AND did.provider_id <> %s
        """,
        (list(numbers), provider.account_id),
    )
    return dict(cursor.fetchall())


def save(
    cursor: Cursor, viewer: Viewer, provider: Account, rows: Sequence[Row], *, dry_run: bool
) -> Saved:
    """New numbers are added, known ones of this provider get these costs.

    Their status, prices and assignments stay. Each number stands once in `rows`, and none
    is another provider's.
    """
    require_operator(viewer, "DIDs are imported")
    require_provider(provider)
    columns = [
        list(column) for column in zip(*(check_terms(row.cost) for row in rows), strict=True)
    ]
    cursor.execute("SAVEPOINT inventory")
    cursor.execute(
        """
        INSERT INTO did (
                   number, provider_id, setup_micros, monthly_micros, per_minute_nanos,
                   connect_fee_micros, included_seconds, initial_seconds, increment_seconds)
        SELECT number, %s, setup_micros, monthly_micros, per_minute_nanos,
               connect_fee_micros, included_seconds, initial_seconds, increment_seconds
          FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                      %s::integer[], %s::integer[], %s::integer[])
               AS new (number, setup_micros, monthly_micros, per_minute_nanos,
                       connect_fee_micros, included_seconds, initial_seconds, increment_seconds)
            ON CONFLICT (number) DO UPDATE
           SET setup_micros = excluded.setup_micros,
               monthly_micros = excluded.monthly_micros,
               per_minute_nanos = excluded.per_minute_nanos,
               connect_fee_micros = excluded.connect_fee_micros,
               included_seconds = excluded.included_seconds,
               initial_seconds = excluded.initial_seconds,
               increment_seconds = excluded.increment_seconds
         WHERE did.provider_id = excluded.provider_id
           AND (did.setup_micros, did.monthly_micros, did.per_minute_nanos,
                did.connect_fee_micros, did.included_seconds, did.initial_seconds,
                did.increment_seconds)
               IS DISTINCT FROM
               (excluded.setup_micros, excluded.monthly_micros, excluded.per_minute_nanos,
                excluded.connect_fee_micros, excluded.included_seconds, excluded.initial_seconds,
                excluded.increment_seconds)
     -- A row that is new has never been locked or replaced.
     RETURNING xmax = 0
        """,
        (
            provider.account_id,
            [row.number for row in rows],
            *columns,
        ),
    )
    written = [row[0] for row in cursor.fetchall()]
    if dry_run:
        cursor.execute("ROLLBACK TO SAVEPOINT inventory")
    new = sum(written)
    return Saved(new, len(written) - new, len(rows) - len(written))


def lock(cursor: Cursor, did_id: int) -> None:
    """Hold the number until the transaction ends: its prices and assignments stand still."""
    cursor.execute("SELECT FROM did WHERE did_id = %s FOR NO KEY UPDATE", (did_id,))


def change(cursor: Cursor, viewer: Viewer, did: Did) -> None:
    """Write all that can be changed of `did`.

    Raises `Conflict` for a number that somebody has and that is retired or made an access
    number, `BadValue`.
    """
    require_operator(viewer, "DIDs are changed")
    assert did.cost is not None
    lock(cursor, did.did_id)
    if did.access or did.status == "retired":
        owner = _owner_now_or_later(cursor, did.did_id)
        if owner:
            what = "retired" if did.status == "retired" else "an access number"
            raise Conflict(
                f"{did.number} is assigned to {owner} and cannot be {what}: "
                f"`sky-aaa did release {did.number}` first"
            )
    cursor.execute(
        """
        UPDATE did
           SET provider_id = %(provider_id)s,
               access = %(access)s,
               status = %(status)s,
               setup_micros = %(setup_micros)s,
               monthly_micros = %(monthly_micros)s,
               per_minute_nanos = %(per_minute_nanos)s,
               connect_fee_micros = %(connect_fee_micros)s,
               included_seconds = %(included_seconds)s,
               initial_seconds = %(initial_seconds)s,
               increment_seconds = %(increment_seconds)s
         WHERE did_id = %(did_id)s
        """,
        {
            "provider_id": did.provider_id,
            "access": did.access,
            "status": did.status,
            "did_id": did.did_id,
            **check_terms(did.cost)._asdict(),
        },
    )


def _owner_now_or_later(cursor: Cursor, did_id: int, below_id: int | None = None) -> str:
    """Who has the number, or will; of `below_id`'s tree when that is given. '': nobody."""
    cursor.execute(
        """
        SELECT account.code
          FROM did_assignment
          JOIN account USING (account_id)
         WHERE did_assignment.did_id = %(did_id)s
           AND (valid_to IS NULL OR valid_to > greatest(now(), valid_from))
           AND (%(below_id)s::bigint IS NULL OR account.chain @> ARRAY[%(below_id)s::bigint])
         ORDER BY valid_from
         LIMIT 1
        """,
        {"did_id": did_id, "below_id": below_id},
    )
    row = cursor.fetchone()
    return "" if row is None else str(row[0])


# ------------------------------------------------------------------ prices


def require_sale(cursor: Cursor, viewer: Viewer, buyer: Account, found: Sequence[Did]) -> None:
    """Raises `NotAllowed` unless `viewer` sells these numbers to `buyer`, `BadValue`.

    A reseller sells to its direct accounts what it has a price for itself.
    """
    require(viewer, Deed.SELL_TO, buyer.chain, buyer.code)
    if buyer.kind not in ("customer", "reseller"):
        raise BadValue(f"{buyer.code} is of kind {buyer.kind}: customers and resellers buy numbers")
    if viewer.is_operator:
        return
    own = {
        price.did_id
        for price in prices(cursor, viewer, [did.did_id for did in found])
        if price.account_id == viewer.account_id
    }
    for did in found:
        if did.did_id not in own:
            raise NotAllowed(
                f"{viewer.code} has no price for {did.number} itself, so it cannot sell it on"
            )


def set_price(
    cursor: Cursor,
    viewer: Viewer,
    buyer: Account,
    found: Sequence[Did],
    given: Mapping[str, int],
) -> None:
    """What `buyer` pays for these numbers; fields of `Terms` that are not given stay.

    Those of a new price are what `Terms` has by itself. Calls in progress keep theirs.
    """
    require_sale(cursor, viewer, buyer, found)
    check_terms(Terms(**given))
    with as_owner(cursor, viewer):
        cursor.execute(
            """
            INSERT INTO did_price (
                       did_id, account_id, setup_micros, monthly_micros, per_minute_nanos,
                       connect_fee_micros, included_seconds, initial_seconds, increment_seconds)
            SELECT new.did_id,
                   %(account_id)s,
                   coalesce(%(setup_micros)s, did_price.setup_micros, 0),
                   coalesce(%(monthly_micros)s, did_price.monthly_micros, 0),
                   coalesce(%(per_minute_nanos)s, did_price.per_minute_nanos, 0),
                   coalesce(%(connect_fee_micros)s, did_price.connect_fee_micros, 0),
                   coalesce(%(included_seconds)s, did_price.included_seconds, 0),
                   coalesce(%(initial_seconds)s, did_price.initial_seconds, 60),
                   coalesce(%(increment_seconds)s, did_price.increment_seconds, 60)
              FROM unnest(%(did_ids)s::bigint[]) AS new (did_id)
              LEFT JOIN did_price
                     ON did_price.did_id = new.did_id
                    AND did_price.account_id = %(account_id)s
                ON CONFLICT (did_id, account_id) DO UPDATE
               SET setup_micros = excluded.setup_micros,
                   monthly_micros = excluded.monthly_micros,
                   per_minute_nanos = excluded.per_minute_nanos,
                   connect_fee_micros = excluded.connect_fee_micros,
                   included_seconds = excluded.included_seconds,
                   initial_seconds = excluded.initial_seconds,
                   increment_seconds = excluded.increment_seconds
            """,
            {
                **dict.fromkeys(Terms._fields),
                **given,
                "account_id": buyer.account_id,
                "did_ids": [did.did_id for did in found],
            },
        )


def remove_price(cursor: Cursor, viewer: Viewer, buyer: Account, found: Sequence[Did]) -> None:
    """`buyer` does not buy these numbers any more.

    Raises `Conflict` while it, or an account below it, has one or will have it, `NotFound`
    where it has no price.
    """
    require_sale(cursor, viewer, buyer, found)
    with as_owner(cursor, viewer):
        for did in found:
            lock(cursor, did.did_id)
            owner = _owner_now_or_later(cursor, did.did_id, buyer.account_id)
            if owner:
                raise Conflict(
                    f"{did.number} is assigned to {owner}, so {buyer.code} pays for it: "
                    f"`sky-aaa did release {did.number}` first"
                )
            cursor.execute(
                "DELETE FROM did_price WHERE did_id = %s AND account_id = %s",
                (did.did_id, buyer.account_id),
            )
            if not cursor.rowcount:
                raise NotFound(f"{buyer.code} has no price for {did.number}")
