"""Who sees what: `may` decides, for every command, page and call of the API.

The operator (the admin account) sees everything. A reseller sees its own tree: itself,
its customers, its sub-resellers and theirs. A customer sees itself. Row-level security
(schema/0002_create_viewer.sql) says the same once more in the database: `enter` changes
to the role that it binds.
"""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.problem import NotAllowed, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg2.extensions import cursor as Cursor


class Deed(Enum):
    """What a viewer may want to do to an account, or to a thing that belongs to one."""

    SEE = "see"
    ADD_BELOW = "add accounts below"
    CHANGE = "change"
    TOP_UP = "top up"
    MOVE_MONEY = "move the money of"
    REDEEM = "redeem a coupon for"
    SELL_TO = "set what is paid by"
    MAP = "map numbers to"
    SET_PRICES = "set prices of"
    SELL_AS = "make and sell cards of"
    ISSUE = "issue coupons of"
    READ_PIN = "read the PIN of"
    BILL = "write invoices for"
    BILL_AS = "write invoices as"
    SCHEDULE = "schedule reports of"


class Viewer(NamedTuple):
    """Whose eyes and rights; `chain` is the account itself and its resellers, the admin's empty."""

    account_id: int
    code: str
    kind: str
    chain: tuple[int, ...]

    @property
    def is_operator(self) -> bool:
        """The admin: nothing is hidden from it."""
        return self.kind == "admin"


def may(viewer: Viewer, deed: Deed, chain: Sequence[int]) -> bool:
    """Whether `viewer` may do this to the account with this `chain`, or to what it owns.

    The chain is empty for the admin and for what is the operator's own: providers' prices,
    outbound resource groups, routes, RADIUS clients.
    """
    if viewer.is_operator:
        return True
    if viewer.account_id not in chain:
        return False
    if deed is Deed.SEE:
        return True
    # With the code of a coupon anybody may add to what is its own; and anybody may have sent
    # again and again what it may look at.
    if deed in (Deed.REDEEM, Deed.SCHEDULE) and chain[0] == viewer.account_id:
        return True
    if viewer.kind != "reseller":
        return False
    match deed:
        case Deed.ADD_BELOW | Deed.MAP:
            return True
        case Deed.CHANGE:
            return chain[0] != viewer.account_id
        case Deed.TOP_UP | Deed.MOVE_MONEY | Deed.REDEEM | Deed.SELL_TO | Deed.READ_PIN | Deed.BILL:
            return len(chain) > 1 and chain[1] == viewer.account_id
        case Deed.SET_PRICES | Deed.SELL_AS | Deed.ISSUE | Deed.BILL_AS | Deed.SCHEDULE:
            return chain[0] == viewer.account_id


def require(viewer: Viewer, deed: Deed, chain: Sequence[int], code: str) -> None:
    """Raises `NotFound` for an account that `viewer` cannot see, `NotAllowed` for the deed.

    The text about an account of another tree is the one about an account that does not exist.
    """
    if not may(viewer, Deed.SEE, chain):
        raise NotFound(unknown_account(viewer, code))
    if may(viewer, deed, chain):
        return
    if viewer.kind != "reseller":
        raise NotAllowed(
            f"{viewer.code} is a {viewer.kind}: it may look, but not {deed.value} {code}"
        )
    reason = {
        Deed.CHANGE: "an account is changed by those above it",
        Deed.TOP_UP: "an account is topped up by its own reseller",
        Deed.MOVE_MONEY: "an account's money is moved by its own reseller",
        Deed.REDEEM: "a coupon is redeemed by its account or that one's reseller",
        Deed.SELL_TO: "an account buys from its own reseller",
        Deed.SET_PRICES: "prices are set by the account that owns the rate group",
        Deed.SELL_AS: "a batch of cards is its owner's",
        Deed.ISSUE: "coupons are issued by who gives the money",
        Deed.READ_PIN: "PINs are for the reseller that sells the card",
        Deed.BILL: "an account is invoiced by its own reseller",
        Deed.BILL_AS: "a seller's own invoices are its own",
        Deed.SCHEDULE: "a scheduled report is its owner's",
    }.get(deed, "it is not below it")
    raise NotAllowed(f"{viewer.code} may not {deed.value} {code}: {reason}")


def require_operator(viewer: Viewer, what: str) -> None:
    """Raises `NotAllowed` for everybody but the admin; `what` is the operator's own."""
    if not viewer.is_operator:
        raise NotAllowed(f"{what}: for the operator only, {viewer.code} is a {viewer.kind}")


def unknown_account(viewer: Viewer, code: str) -> str:
    """The text for an account that does not exist, or that `viewer` must not know of."""
    if viewer.is_operator:
        return f"there is no account {code!r}: `sky-aaa account list` shows all"
    return (
        f"there is no account {code!r} that {viewer.code} may see: "
        f"`sky-aaa --as {viewer.code} account list` shows its own"
    )


def operator(cursor: Cursor) -> Viewer:
    """The admin's eyes. Raises `NotFound` in a database that has no admin account yet."""
    cursor.execute("SELECT account_id, code FROM account WHERE kind = 'admin'")
    row = cursor.fetchone()
    if row is None:
        raise NotFound(
            "there is no admin account yet: make the operator's, for instance with "
            "`sky-aaa account add admin --kind admin --currency EUR`"
        )
    return Viewer(row[0], row[1], "admin", ())


def enter(cursor: Cursor, code: str) -> Viewer:
    """The eyes of account `code`, and the database's role for them until the transaction ends.

    The admin's code changes nothing. Raises `NotFound`, and `NotAllowed` for a provider.
    """
    cursor.execute("SELECT account_id, code, kind, chain FROM account WHERE code = %s", (code,))
    row = cursor.fetchone()
    if row is None:
        raise NotFound(f"--as: there is no account {code!r}: `sky-aaa account list` shows all")
    viewer = Viewer(row[0], row[1], row[2], tuple(row[3]))
    if viewer.kind == "provider":
        raise NotAllowed(f"--as: {code} is a provider; resellers and customers have eyes here")
    if not viewer.is_operator:
        cursor.execute(
            "SELECT set_config('sky_aaa.viewer_id', %s, true)", (str(viewer.account_id),)
        )
        cursor.execute("SET LOCAL ROLE sky_aaa_viewer")
    return viewer


@contextlib.contextmanager
def as_owner(cursor: Cursor, viewer: Viewer) -> Iterator[None]:
    """For what a viewer sets going but may not write by itself: the postings of a payment.

    Whoever uses it has asked `may` first and holds the viewer's own lock on the account.
    """
    if viewer.is_operator:
        yield
        return
    cursor.execute("SET LOCAL ROLE NONE")
    yield
    cursor.execute("SET LOCAL ROLE sky_aaa_viewer")
