"""Packages: prepaid seconds that a seller sells to its own accounts, period by period.

A package is what is on offer. A holding is what one account has of it in one period: it is
frozen when it is given, so a package can change while people use it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.rating.money import format_micros
from aaa_server.storage import accounts
from aaa_server.storage.movements import AMOUNT_MICROS_MAX
from aaa_server.storage.owned import find_owned
from aaa_server.storage.problem import BadValue, Conflict, NotAllowed, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account

PERIODS = ("once", "day", "week", "month", "year")
PREFIXES_MAX = 1000  # of one package: each call looks through all
BUYERS = ("customer", "reseller")


class Package(NamedTuple):
    """One offer. `prefixes` () is every number; of several the lower `priority` is used first."""

    package_id: int
    name: str
    owner_id: int
    owner_code: str
    owner_chain: tuple[int, ...]
    currency: str
    price_micros: int
    seconds: int
    prefixes: tuple[str, ...]
    period: str
    valid_days: int | None
    priority: int
    active: bool


class NewPackage(NamedTuple):
    """What a new package is made of."""

    name: str
    owner_id: int
    currency: str
    seconds: int
    price_micros: int = 0
    prefixes: tuple[str, ...] = ()
    period: str = "month"
    valid_days: int | None = None
    priority: int = 0


class Holding(NamedTuple):
    """The seconds that an account has in [valid_from, valid_to); None: without end."""

    holding_id: int
    package: str
    prefixes: tuple[str, ...]
    priority: int
    valid_from: datetime
    valid_to: datetime | None
    granted_seconds: int
    used_seconds: int
    reserved_seconds: int

    @property
    def left_seconds(self) -> int:
        """What calls that begin now may still use."""
        return self.granted_seconds - self.used_seconds - self.reserved_seconds


class Granted(NamedTuple):
    """What `grant` did; without a price there is no ledger transaction."""

    holding_id: int
    valid_from: datetime
    valid_to: datetime | None
    seconds: int
    price_micros: int
    transaction_id: int | None
    reference: str
    balance_micros: int


def list_packages(cursor: Cursor, viewer: Viewer) -> list[Package]:
    """Those of the viewer's tree, and those that its own seller offers; by owner and name."""
    cursor.execute(
        """
        SELECT package.package_id,
               package.name,
               package.owner_id,
               coalesce(owner.code, ''),
               coalesce(owner.chain, '{}'),
               package.currency,
               package.price_micros,
               package.seconds,
               package.prefixes,
               package.period,
               package.valid_days,
               package.priority,
               package.active
          FROM package
          LEFT JOIN account AS owner ON owner.account_id = package.owner_id
         ORDER BY owner.chain, package.name
        """
    )
    found = [
        Package(*row)._replace(owner_chain=tuple(row[4]), prefixes=tuple(row[8]))
        for row in cursor.fetchall()
    ]
    cursor.execute("SELECT parent_id FROM account WHERE account_id = %s", (viewer.account_id,))
    row = cursor.fetchone()
    seller_id = None if row is None else row[0]
    return [
        one for one in found if one.owner_id == seller_id or may(viewer, Deed.SEE, one.owner_chain)
    ]


def find(cursor: Cursor, viewer: Viewer, name: str, *, owner: str = "") -> Package:
    """The package `name` of `owner`; '' when the name alone says which.

    The viewer's own goes before another's of the same name. Raises `NotFound`, and
    `Conflict` when several owners have one.
    """
    return find_owned(
        list_packages(cursor, viewer),
        viewer,
        name,
        owner=owner,
        kind="package",
        listed_by="sky-aaa package list",
    )


def find_for_account(cursor: Cursor, viewer: Viewer, name: str, account: Account) -> Package:
    """The package `name` that `account` may buy: its own seller's."""
    found = [one for one in list_packages(cursor, viewer) if one.name == name]
    for one in found:
        if one.owner_id == account.parent_id:
            return one
    if found:
        raise Conflict(
            f"package {name!r} is sold by {found[0].owner_code or 'another account'}: "
            f"{account.code} buys from its own reseller only"
        )
    raise NotFound(
        f"there is no package {name!r} that {account.code} could buy: "
        "`sky-aaa package list` shows what there is"
    )


def add(cursor: Cursor, viewer: Viewer, seller: Account, new: NewPackage) -> Package:
    """The new package, of `seller`. Raises `Conflict` for a name in use, `BadValue`."""
    require(viewer, Deed.SET_PRICES, seller.chain, seller.code)
    if seller.kind not in ("admin", "reseller"):
        raise BadValue(f"{seller.code} is a {seller.kind}: only the operator and resellers sell")
    _check(new.price_micros, new.period, new.valid_days, new.prefixes)
    with as_owner(cursor, viewer):
        try:
            cursor.execute(
                """
                INSERT INTO package (
                           owner_id, name, currency, price_micros, seconds, prefixes, period,
                           valid_days, priority)
                VALUES (%(owner_id)s, %(name)s, %(currency)s, %(price_micros)s, %(seconds)s,
                        %(prefixes)s, %(period)s, %(valid_days)s, %(priority)s)
                """,
                {**new._asdict(), "prefixes": list(new.prefixes)},
            )
        except psycopg2.errors.UniqueViolation as error:
            raise Conflict(f"{seller.code} has a package {new.name!r} already") from error
        except psycopg2.errors.CheckViolation as error:
            raise BadValue(_check_text(error)) from error
    return find(cursor, viewer, new.name, owner=seller.code)


def change(cursor: Cursor, viewer: Viewer, package: Package) -> None:
    """Write all that can be changed of `package`; what was granted before stays as it was."""
    require_seller(viewer, package)
    _check(package.price_micros, package.period, package.valid_days, package.prefixes)
    with as_owner(cursor, viewer):
        try:
            cursor.execute(
                """
                UPDATE package
                   SET price_micros = %(price_micros)s,
                       seconds = %(seconds)s,
                       prefixes = %(prefixes)s,
                       period = %(period)s,
                       valid_days = %(valid_days)s,
                       priority = %(priority)s,
                       active = %(active)s
                 WHERE package_id = %(package_id)s
                """,
                {**package._asdict(), "prefixes": list(package.prefixes), "owner_chain": None},
            )
        except psycopg2.errors.CheckViolation as error:
            raise BadValue(_check_text(error)) from error


def require_seller(viewer: Viewer, package: Package) -> None:
    """Raises `NotAllowed` for everybody but the operator and the owner."""
    if not may(viewer, Deed.SET_PRICES, package.owner_chain):
        owner = f"{package.owner_code} does" if package.owner_code else "who sells it does"
        raise NotAllowed(f"{viewer.code} may not change package {package.name}: {owner}")


def _check(
    price_micros: int, period: str, valid_days: int | None, prefixes: tuple[str, ...]
) -> None:
    if not 0 <= price_micros <= AMOUNT_MICROS_MAX:
        raise BadValue(f"a price is not below 0 and at most {AMOUNT_MICROS_MAX // 10**6}")
    if valid_days is not None and period != "once":
        raise BadValue(
            f"--valid-days is for --period once: a package by the {period} ends with its period"
        )
    if len(prefixes) > PREFIXES_MAX:
        raise BadValue(f"a package has at most {PREFIXES_MAX} prefixes, not {len(prefixes)}")


def _check_text(error: psycopg2.errors.CheckViolation) -> str:
    constraint = error.diag.constraint_name or ""
    return {
        "package_name_check": "a package needs a name",
        "package_price_micros_check": "a price is not below 0",
        "package_seconds_check": "a package has at least one second",
    }.get(constraint, f"package: a value is out of range ({constraint})")


def grant(
    cursor: Cursor,
    viewer: Viewer,
    account: Account,
    package: Package,
    *,
    begin: datetime,
    end: datetime | None = None,
    price_micros: int | None = None,
    reference: str = "",
) -> Granted:
    """Give `account` the seconds of one period, and post the price in the same transaction.

    The period is [begin, end); without `end` it is as long as the package says, by the
    account's calendar, or has no end. `price_micros` None is the package's price, 0 is a
    present. The fee is posted once by its `reference`, which is the holding's number when
    none is given. Raises `Conflict` for a period that overlaps one the account has, for a
    reference in use, and when the price is more than what is neither spent nor reserved.
    """
    _require_sale(viewer, account, package, begin, end)
    accounts.lock(cursor, [account.account_id])
    with as_owner(cursor, viewer):
        ends = end or _period_end(cursor, account, package, begin)
        _refuse_overlap(cursor, account, package, begin, ends)
        holding_id = _hold(cursor, account, package, begin, ends)
        price = package.price_micros if price_micros is None else price_micros
        transaction_id = None
        if price:
            if account.currency != package.currency:
                raise BadValue(
                    f"package {package.name} costs {package.currency} and {account.code} pays in "
                    f"{account.currency}: make one in {account.currency}, or give it --free"
                )
            reference = reference or f"package/{holding_id}"
            note = f"package {package.name}, {_period_text(begin, ends)}"
            transaction_id = _post_fee(cursor, viewer, account, price, reference, note)
        cursor.execute(
            "SELECT balance_micros FROM account WHERE account_id = %s", (account.account_id,)
        )
        row = cursor.fetchone()
    assert row is not None
    return Granted(
        holding_id=holding_id,
        valid_from=begin,
        valid_to=ends,
        seconds=package.seconds,
        price_micros=price,
        transaction_id=transaction_id,
        reference=reference if price else "",
        balance_micros=row[0],
    )


def _require_sale(
    viewer: Viewer, account: Account, package: Package, begin: datetime, end: datetime | None
) -> None:
    require(viewer, Deed.SELL_TO, account.chain, account.code)
    if account.kind not in BUYERS:
        raise BadValue(f"{account.code} is of kind {account.kind}: it makes no calls to pay")
    if account.status == "closed":
        raise Conflict(f"{account.code} is closed: nothing is sold to it any more")
    if package.owner_id != account.parent_id:
        raise Conflict(f"package {package.name} is not of the seller of {account.code}")
    if not package.active:
        raise Conflict(f"package {package.name} is retired: `sky-aaa package list` shows others")
    if end is not None and end <= begin:
        raise BadValue(f"the period would end at {_show(end)}, before it begins at {_show(begin)}")


def _period_end(
    cursor: Cursor, account: Account, package: Package, begin: datetime
) -> datetime | None:
    """One period on by the account's own calendar, so that a day may have 23 hours."""
    if package.period == "once" and package.valid_days is None:
        return None
    length = f"{package.valid_days} days" if package.period == "once" else f"1 {package.period}"
    cursor.execute(
        """
        SELECT (%(begin)s::timestamptz AT TIME ZONE %(zone)s + %(length)s::interval)
               AT TIME ZONE %(zone)s
        """,
        {"begin": begin, "zone": account.time_zone, "length": length},
    )
    row = cursor.fetchone()
    assert row is not None
    ends: datetime = row[0]
    return ends


def _refuse_overlap(
    cursor: Cursor, account: Account, package: Package, begin: datetime, end: datetime | None
) -> None:
    """Says which period it would overlap, before the database refuses it without."""
    cursor.execute(
        """
        SELECT valid_from, valid_to
          FROM package_holding
         WHERE account_id = %s
           AND package_id = %s
           AND tstzrange(valid_from, valid_to) && tstzrange(%s, %s)
         ORDER BY valid_from
         LIMIT 1
        """,
        (account.account_id, package.package_id, begin, end),
    )
    row = cursor.fetchone()
    if row is None:
        return
    following = f": the next one can begin --from {_show(row[1])}" if row[1] else ""
    raise Conflict(
        f"{account.code} has package {package.name} {_period_text(row[0], row[1])} already, and "
        f"two periods of one package never overlap{following}"
    )


def _hold(
    cursor: Cursor, account: Account, package: Package, begin: datetime, end: datetime | None
) -> int:
    cursor.execute(
        """
        INSERT INTO package_holding (
                   account_id, package_id, prefixes, priority, valid_from, valid_to,
                   granted_seconds)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
     RETURNING holding_id
        """,
        (
            account.account_id,
            package.package_id,
            list(package.prefixes),
            package.priority,
            begin,
            end,
            package.seconds,
        ),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _post_fee(
    cursor: Cursor,
    viewer: Viewer,
    account: Account,
    price_micros: int,
    reference: str,
    note: str,
) -> int:
    """The transaction's number. The account is locked, so what it may spend stays as it is."""
    cursor.execute(
        """
        INSERT INTO ledger_transaction (transaction_id, kind, reference, at, note, author_id)
        VALUES (nextval('identifier_block'), 'fee', %s, now(), %s, %s)
            ON CONFLICT (kind, reference) DO NOTHING
     RETURNING transaction_id
        """,
        (reference, note, viewer.account_id),
    )
    row = cursor.fetchone()
    if row is None:
        raise Conflict(f"the fee {reference!r} was posted before: a new one needs its own")
    cursor.execute(
        """
        UPDATE account
           SET balance_micros = balance_micros - %(price)s
         WHERE account_id = %(account_id)s
           AND balance_micros - reserved_micros + credit_limit_micros >= %(price)s
        """,
        {"price": price_micros, "account_id": account.account_id},
    )
    if not cursor.rowcount:
        raise Conflict(_too_dear(cursor, account, price_micros))
    cursor.execute(
        """
        INSERT INTO posting (
                   transaction_id, position, account_id, amount_micros, currency,
                   contra_account_id, contra_book)
        VALUES (%s, 0, %s, %s, %s, %s, 'fees')
        """,
        (row[0], account.account_id, -price_micros, account.currency, account.parent_id),
    )
    return int(row[0])


def _too_dear(cursor: Cursor, account: Account, price_micros: int) -> str:
    cursor.execute(
        """
        SELECT balance_micros - reserved_micros + credit_limit_micros,
               reserved_micros
          FROM account
         WHERE account_id = %s
        """,
        (account.account_id,),
    )
    row = cursor.fetchone()
    assert row is not None
    held = f" ({format_micros(row[1])} are reserved for its calls)" if row[1] else ""
    return (
        f"{account.code} may spend {format_micros(row[0])} {account.currency}{held}, and this "
        f"costs {format_micros(price_micros)}: top it up first, or give it --free"
    )


def holdings(cursor: Cursor, account_id: int, *, at: datetime | None = None) -> list[Holding]:
    """The account's periods, in the order they are used up; with `at`, none that has ended."""
    cursor.execute(
        """
        SELECT package_holding.holding_id,
               coalesce(package.name, ''),
               package_holding.prefixes,
               package_holding.priority,
               package_holding.valid_from,
               package_holding.valid_to,
               package_holding.granted_seconds,
               package_holding.used_seconds,
               package_holding.reserved_seconds
          FROM package_holding
          LEFT JOIN package USING (package_id)
         WHERE package_holding.account_id = %(account_id)s
           AND (%(at)s::timestamptz IS NULL
                OR package_holding.valid_to IS NULL
                OR package_holding.valid_to > %(at)s)
         ORDER BY package_holding.priority,
                  package_holding.valid_to NULLS LAST,
                  package_holding.holding_id
        """,
        {"account_id": account_id, "at": at},
    )
    return [Holding(*row)._replace(prefixes=tuple(row[2])) for row in cursor.fetchall()]


def _period_text(begin: datetime, end: datetime | None) -> str:
    return f"from {_show(begin)} " + (f"until {_show(end)}" if end else "without end")


def _show(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
