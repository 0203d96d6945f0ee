"""Whose a DID is, from when to when, and where it rings.

A number is one account's at a time. Whoever has it in hand hands it on: the operator any
number, a reseller one that it has a price for and that nobody outside its tree has, each
to accounts below itself. What an account above the new owner had until then, or the owner
itself, ends at that instant; any other overlap is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.rating.prefix import number_of
from aaa_server.storage import dids
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.dids import Did

KINDS = ("extension", "sip", "pstn")
# A reply's route list has 247 octets at most, and some are the words around the address.
DESTINATION_OCTETS_MAX = 190
# What a command calls "now" is past when the database looks at its own clock.
CLOCK_SLACK = timedelta(minutes=1)

# Addresses become dial strings, where {}[]()<>,|&;$ and blanks have meanings of their own:
# what is not listed here is refused.
_USER = r"[A-Za-z0-9_.*#+-]{1,64}"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_HOST}(?:\.{_HOST})*"
_EXTENSION = re.compile(rf"{_USER}@{_DOMAIN}")
_SIP_URI = re.compile(rf"sips?:{_USER}@{_DOMAIN}(?::([1-9][0-9]{{0,4}}))?")


class Destination(NamedTuple):
    """Where a number rings; `kind` is extension, sip or pstn."""

    kind: str
    address: str


class Assignment(NamedTuple):
    """One account's time with a number: [valid_from, valid_to), empty when it was called off."""

    assignment_id: int
    did_id: int
    account_id: int
    account_code: str
    account_chain: tuple[int, ...]
    valid_from: datetime
    valid_to: datetime | None
    destination: Destination


def read_destination(kind: str, text: str) -> Destination:
    """Where a number shall ring; raises `BadValue` for what must not get into a dial string."""
    address = text.strip()
    if kind == "pstn":
        address = number_of(text)
        if not address.isdigit() or len(address) < 3:
            raise BadValue(f"{text!r} is no number: 3 to 32 digits with the country code")
        return Destination(kind, address)
    if len(address) > DESTINATION_OCTETS_MAX:
        raise BadValue(
            f"{address[:20]!r}… has {len(address)} characters: {DESTINATION_OCTETS_MAX} at most"
        )
    if kind == "extension":
        if not _EXTENSION.fullmatch(address):
            raise BadValue(
                f"{text!r} is no extension: 1001@sip.example is; letters, digits and _.*#+- "
                "before the @, a host behind it"
            )
        return Destination(kind, address)
    match = _SIP_URI.fullmatch(address)
    if match is None or int(match[1] or 1) > 65_535:
        raise BadValue(
            f"{text!r} is no SIP URI for a number to ring at: sip:user@host or "
            "sip:user@host:port is; letters, digits and _.*#+- in user, nothing behind the port"
        )
    return Destination(kind, address)


def history(cursor: Cursor, viewer: Viewer, did_id: int) -> list[Assignment]:
    """Who has and had the number, the oldest first; of the viewer's tree."""
    return [one for one in _all(cursor, did_id) if may(viewer, Deed.SEE, one.account_chain)]


def _all(cursor: Cursor, did_id: int) -> list[Assignment]:
    cursor.execute(
        """
        SELECT did_assignment.assignment_id,
               did_assignment.did_id,
               did_assignment.account_id,
               account.code,
               account.chain,
               did_assignment.valid_from,
               did_assignment.valid_to,
               did_assignment.destination_kind,
               did_assignment.destination
          FROM did_assignment
          JOIN account USING (account_id)
         WHERE did_assignment.did_id = %s
         ORDER BY did_assignment.valid_from, did_assignment.assignment_id
        """,
        (did_id,),
    )
    return [
        Assignment(
            row[0], row[1], row[2], row[3], tuple(row[4]), row[5], row[6], Destination(*row[7:])
        )
        for row in cursor.fetchall()
    ]


# ------------------------------------------------------------------ handing on


def assign(
    cursor: Cursor,
    viewer: Viewer,
    did: Did,
    owner: Account,
    destination: Destination,
    *,
    begin: datetime | None = None,
) -> Assignment:
    """`did` is `owner`'s from `begin` (None: now) and rings at `destination`.

    An assignment to the account that has it changes where it rings. Raises `Conflict` for
    a number that is not in use, an account in the owner's chain without a price (and names
    it), an overlap with another's assignment (and names it and its period); `BadValue`.
    """
    require(viewer, Deed.CHANGE, owner.chain, owner.code)
    if owner.kind not in ("customer", "reseller"):
        raise BadValue(f"{owner.code} is of kind {owner.kind}: customers and resellers own numbers")
    if owner.status == "closed":
        raise Conflict(f"{owner.code} is closed: it gets no numbers")
    if destination == Destination("pstn", did.number):
        raise BadValue(f"{did.number} cannot be forwarded to itself")
    begin = begin or _now(cursor)
    with as_owner(cursor, viewer):
        dids.lock(cursor, did.did_id)
        _require_in_use(cursor, did)
        _require_prices(cursor, viewer, did, owner)
        _end_what_ran(cursor, viewer, did, owner, destination, begin)
        _insert(cursor, viewer, did, owner, destination, begin)
        return next(
            one
            for one in reversed(_all(cursor, did.did_id))
            if (one.account_id, one.valid_from) == (owner.account_id, begin)
            and one.valid_to != one.valid_from
        )


def _now(cursor: Cursor) -> datetime:
    cursor.execute("SELECT now()")
    row = cursor.fetchone()
    assert row is not None
    now = row[0]
    assert isinstance(now, datetime)
    return now


def _require_in_use(cursor: Cursor, did: Did) -> None:
    cursor.execute("SELECT status, access FROM did WHERE did_id = %s", (did.did_id,))
    row = cursor.fetchone()
    assert row is not None
    if row[0] != "active":
        raise Conflict(f"{did.number} is {row[0]}: only an active number can be assigned")
    if row[1]:
        raise Conflict(f"{did.number} is an access number of calling cards: nobody owns it")


def _require_prices(cursor: Cursor, viewer: Viewer, did: Did, owner: Account) -> None:
    cursor.execute(
        """
        SELECT account.code,
               account.chain
          FROM account
         WHERE account.account_id = ANY (%(chain)s)
           AND NOT EXISTS (SELECT
                             FROM did_price
                            WHERE did_price.did_id = %(did_id)s
                              AND did_price.account_id = account.account_id)
         ORDER BY cardinality(account.chain)
         LIMIT 1
        """,
        {"chain": list(owner.chain), "did_id": did.did_id},
    )
    row = cursor.fetchone()
    if row is None:
        return
    code, chain = row
    if not may(viewer, Deed.SEE, chain):
        raise Conflict(
            f"an account above {viewer.code} has no price for {did.number}: ask your seller"
        )
    raise Conflict(
        f"{code} has no price for {did.number}: every account from {owner.code} upwards needs "
        f"one, `sky-aaa did price {did.number} --account {code} …` sets it"
    )


def _end_what_ran(
    cursor: Cursor,
    viewer: Viewer,
    did: Did,
    owner: Account,
    destination: Destination,
    begin: datetime,
) -> None:
    """End what `owner`, or an account above it, has of the number at `begin`."""
    for one in _all(cursor, did.did_id):
        running = one.valid_from <= begin and (one.valid_to is None or begin < one.valid_to)
        if (
            not running
            or one.account_id not in owner.chain
            or not may(viewer, Deed.SEE, one.account_chain)
        ):
            continue
        if one.account_id == owner.account_id and one.destination == destination:
            raise Conflict(
                f"{did.number} is {owner.code}'s and rings there already, {_period(one)}"
            )
        _require_not_past(cursor, did, begin)
        _end(cursor, one, begin)


def _require_not_past(cursor: Cursor, did: Did, at: datetime) -> None:
    if at < _now(cursor) - CLOCK_SLACK:
        raise BadValue(
            f"{did.number} cannot change hands in the past, at {_instant(at)}: what was "
            "charged until now stays charged"
        )


def _end(cursor: Cursor, one: Assignment, at: datetime) -> None:
    cursor.execute(
        "UPDATE did_assignment SET valid_to = %s WHERE assignment_id = %s",
        (max(at, one.valid_from), one.assignment_id),
    )


def _insert(
    cursor: Cursor,
    viewer: Viewer,
    did: Did,
    owner: Account,
    destination: Destination,
    begin: datetime,
) -> None:
    cursor.execute("SAVEPOINT assignment")
    try:
        cursor.execute(
            """
            INSERT INTO did_assignment (
                       did_id, account_id, valid_from, destination_kind, destination)
            VALUES (%s, %s, %s, %s, %s)
            """,
            (did.did_id, owner.account_id, begin, destination.kind, destination.address),
        )
    except psycopg2.errors.ExclusionViolation as error:
        cursor.execute("ROLLBACK TO SAVEPOINT assignment")
        raise Conflict(_overlap(viewer, did, owner, begin, _all(cursor, did.did_id))) from error


def _overlap(
    viewer: Viewer, did: Did, owner: Account, begin: datetime, there: Sequence[Assignment]
) -> str:
    """Names the first assignment that is in the way of one from `begin` on."""
    other = next(
        one for one in there if one.valid_to is None or one.valid_to > max(begin, one.valid_from)
    )
    if not may(viewer, Deed.SEE, other.account_chain):
        return f"{did.number} is assigned to an account that you may not see: ask the operator"
    return (
        f"{did.number} cannot be {owner.code}'s from {_instant(begin)}: it is "
        f"{other.account_code}'s {_period(other)}. `sky-aaa did release {did.number}` first"
    )


def _period(one: Assignment) -> str:
    end = "" if one.valid_to is None else f" to {_instant(one.valid_to)}"
    return f"from {_instant(one.valid_from)}{end}"


def _instant(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def release(cursor: Cursor, viewer: Viewer, did: Did, *, at: datetime | None = None) -> Assignment:
    """End the assignment that runs at `at` (None: now), or call off the next one after it.

    What comes back has its new end. Raises `NotFound` when nobody has the number then,
    `BadValue` for the past, `NotAllowed` for an owner that is not below the viewer.
    """
    at = at or _now(cursor)
    with as_owner(cursor, viewer):
        dids.lock(cursor, did.did_id)
        found = [
            one
            for one in _all(cursor, did.did_id)
            if (one.valid_to is None or one.valid_to > max(at, one.valid_from))
            and may(viewer, Deed.SEE, one.account_chain)
        ]
        if not found:
            raise NotFound(f"{did.number} is nobody's at {_instant(at)}: there is nothing to end")
        one = found[0]
        require(viewer, Deed.CHANGE, one.account_chain, one.account_code)
        _require_not_past(cursor, did, at)
        _end(cursor, one, at)
        return one._replace(valid_to=max(at, one.valid_from))
