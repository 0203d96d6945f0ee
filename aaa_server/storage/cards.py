"""Calling cards: accounts that are reached by card number and PIN, made in batches.

A card is a prepaid customer whose code is its number. What is special about it is in its
batch; its serial is its place in the batch. Making, selling and taking back of cards is in
`storage.card_batches`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.charging.card import ANIS_MAX
from aaa_server.storage import accounts, maps
from aaa_server.storage.owned import find_owned
from aaa_server.storage.problem import Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, may, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import cursor as Cursor

SERIAL_MAX = 2**31 - 1
STATES = ("new", "ready", "used", "blocked", "locked", "expired", "void")


class Batch(NamedTuple):
    """Cards made together, all of one face value."""

    card_batch_id: int
    name: str
    owner_id: int
    owner_code: str
    owner_chain: tuple[int, ...]
    currency: str
    face_value_micros: int
    rate_group: str
    valid_days: int | None
    surcharge_micros: int
    created_at: datetime


class Counts(NamedTuple):
    """How many cards a batch has, and how many of them have got so far."""

    cards: int
    activated: int
    used: int
    void: int


class Card(NamedTuple):
    """One card. `expires_at` is when it ends, by a date or by its days since the first call.

    `value_micros` is what its activation put on it, None before that. `batch` is '' for who
    may see the card and not its seller; the serial means nothing then.
    """

    account_id: int
    number: str
    chain: tuple[int, ...]
    batch: str
    serial: int
    status: str
    value_micros: int | None
    currency: str
    balance_micros: int
    reserved_micros: int
    calls: int
    surcharge_micros: int
    valid_days: int | None
    first_used_at: datetime | None
    expires_at: datetime | None
    pin_failures: int
    locked_until: datetime | None

    @property
    def activated(self) -> bool:
        """Its face value was put on it."""
        return self.value_micros is not None

    @property
    def unused(self) -> bool:
        """As it was made or activated: no call, no money in or out since."""
        untouched = self.balance_micros == (self.value_micros or 0) and not self.reserved_micros
        return self.first_used_at is None and not self.calls and untouched

    def state(self, at: datetime) -> str:
        """One of `STATES`: what somebody who holds the card in hand meets at `at`."""
        if self.status == "closed":
            return "void"
        if not self.activated:
            return "new"
        if self.status != "active":
            return "blocked"
        if self.expires_at is not None and self.expires_at <= at:
            return "expired"
        if self.locked_until is not None and self.locked_until > at:
            return "locked"
        return "ready" if self.unused else "used"


def list_batches(cursor: Cursor, viewer: Viewer) -> list[Batch]:
    """Those of the viewer's tree, by owner and name."""
    cursor.execute(
        """
        SELECT card_batch.card_batch_id,
               card_batch.name,
               card_batch.owner_id,
               owner.code,
               owner.chain,
               card_batch.currency,
               card_batch.face_value_micros,
               coalesce(rate_group.name, ''),
               card_batch.valid_days,
               card_batch.surcharge_micros,
               card_batch.created_at
          FROM card_batch
          JOIN account AS owner ON owner.account_id = card_batch.owner_id
          LEFT JOIN rate_group ON rate_group.rate_group_id = card_batch.rate_group_id
         ORDER BY owner.chain, card_batch.name
        """
    )
    found = [Batch(*row)._replace(owner_chain=tuple(row[4])) for row in cursor.fetchall()]
    return [one for one in found if may(viewer, Deed.SEE, one.owner_chain)]


def counts(cursor: Cursor, card_batch_ids: Sequence[int]) -> dict[int, Counts]:
    """By batch, of the cards as they are now."""
    cursor.execute(
        """
        SELECT card_batch_id,
               count(*),
               count(*) FILTER (WHERE posted.activated),
               count(*) FILTER (WHERE first_used_at IS NOT NULL
                                   OR posted.activated
                                      AND status <> 'closed'
                                      AND balance_micros <> face_value_micros),
               count(*) FILTER (WHERE status = 'closed')
          FROM account
          JOIN card_batch USING (card_batch_id)
         CROSS JOIN LATERAL (SELECT EXISTS (SELECT
                                              FROM posting
                                             WHERE posting.account_id = account.account_id
                                               AND posting.contra_book = 'cards'
                                               AND posting.amount_micros > 0)) AS posted (activated)
         WHERE card_batch_id = ANY (%s)
         GROUP BY card_batch_id
        """,
        (list(card_batch_ids),),
    )
    return {row[0]: Counts(*row[1:]) for row in cursor.fetchall()}


def find_batch(cursor: Cursor, viewer: Viewer, name: str, *, owner: str = "") -> Batch:
    """The batch `name` of `owner`; '' when the name alone says which.

    The viewer's own goes before another's of the same name. Raises `NotFound`, and
    `Conflict` when several owners have one.
    """
    return find_owned(
        list_batches(cursor, viewer),
        viewer,
        name,
        owner=owner,
        kind="batch",
        listed_by="sky-aaa cards list",
    )


def list_cards(
    cursor: Cursor, viewer: Viewer, batch: Batch, *, first: int = 1, last: int = SERIAL_MAX
) -> list[Card]:
    """The batch's cards with serials from `first` to `last`, in order."""
    return _select(cursor, viewer, batch.card_batch_id, "", first, last)


def find(cursor: Cursor, viewer: Viewer, number: str) -> Card:
    """The card; raises `NotFound` when there is none of that number that `viewer` may see."""
    found = _select(cursor, viewer, None, number, 1, SERIAL_MAX)
    if not found:
        raise NotFound(
            f"there is no calling card {number!r}: `sky-aaa cards list BATCH` shows a batch's; an "
            "account with a PIN of its own is an account, `sky-aaa account show`"
        )
    return found[0]


def _select(
    cursor: Cursor,
    viewer: Viewer,
    card_batch_id: int | None,
    number: str,
    first: int,
    last: int,
) -> list[Card]:
    cursor.execute(
        """
        SELECT account.account_id,
               account.code,
               account.chain,
               coalesce(card_batch.name, ''),
               placed.serial,
               account.status,
               (SELECT posting.amount_micros
                  FROM posting
                 WHERE posting.account_id = account.account_id
                   AND posting.contra_book = 'cards'
                   AND posting.amount_micros > 0),
               account.currency,
               account.balance_micros,
               account.reserved_micros,
               account.channels,
               account.surcharge_micros,
               account.valid_days,
               account.first_used_at,
               least(account.expires_at,
                     account.first_used_at + make_interval(days => account.valid_days)),
               account.pin_failures,
               account.locked_until
          FROM (SELECT account_id,
                       row_number() OVER (ORDER BY account_id) AS serial
                  FROM account
                 WHERE card_batch_id
                       = coalesce(%(card_batch_id)s,
                                  (SELECT card_batch_id FROM account WHERE code = %(number)s)))
               AS placed
          JOIN account USING (account_id)
          LEFT JOIN card_batch USING (card_batch_id)
         WHERE (%(number)s = '' OR account.code = %(number)s)
           AND placed.serial BETWEEN %(first)s AND %(last)s
         ORDER BY placed.serial
        """,
        {"card_batch_id": card_batch_id, "number": number, "first": first, "last": last},
    )
    cards = [Card(*row)._replace(chain=tuple(row[2])) for row in cursor.fetchall()]
    return [one for one in cards if may(viewer, Deed.SEE, one.chain)]


def find_to_change(cursor: Cursor, viewer: Viewer, number: str) -> Card:
    """The card, locked, as it is now. Raises `NotFound`, `NotAllowed`."""
    card = find(cursor, viewer, number)
    require(viewer, Deed.CHANGE, card.chain, number)
    accounts.lock(cursor, [card.account_id])
    return find(cursor, viewer, number)


def set_blocked(cursor: Cursor, viewer: Viewer, number: str, *, blocked: bool) -> Card:
    """The card as it was. Raises `Conflict` for one that is not in use."""
    card = find_to_change(cursor, viewer, number)
    if card.status == "closed":
        raise Conflict(f"card {number} is void: it stays so")
    if not card.activated:
        raise Conflict(
            f"card {number} was never activated: `sky-aaa cards activate {card.batch} "
            f"--from-serial {card.serial} --to-serial {card.serial}`"
        )
    cursor.execute(
        "UPDATE account SET status = %s WHERE account_id = %s",
        ("suspended" if blocked else "active", card.account_id),
    )
    return card


def unlock(cursor: Cursor, account_id: int) -> None:
    """Forget the wrong PINs: it may be used again at once. The account is locked."""
    cursor.execute(
        """
        UPDATE account
           SET pin_failures = 0,
               locked_until = NULL
         WHERE account_id = %s
        """,
        (account_id,),
    )


def anis(cursor: Cursor, account_id: int) -> list[str]:
    """The numbers from which the card is used without its PIN."""
    cursor.execute("SELECT ani FROM ani_map WHERE account_id = %s ORDER BY ani", (account_id,))
    return [row[0] for row in cursor.fetchall()]


def add_ani(cursor: Cursor, viewer: Viewer, card: Card, ani: str) -> bool:
    """Whether `ani` was new to the card, which is locked.

    Raises `Conflict` for a number of another account and for one more than `ANIS_MAX`,
    `BadValue` for no number.
    """
    require(viewer, Deed.MAP, card.chain, card.number)
    if card.status == "closed":
        raise Conflict(f"card {card.number} is void")
    known = anis(cursor, card.account_id)
    if ani in known:
        return False
    if len(known) >= ANIS_MAX:
        raise Conflict(
            f"card {card.number} has {len(known)} numbers already ({', '.join(known)}), and "
            f"{ANIS_MAX} is the most: take one away with --remove"
        )
    cursor.execute(
        "SELECT account.code FROM ani_map JOIN account USING (account_id) WHERE ani = %s", (ani,)
    )
    row = cursor.fetchone()
    if row is not None:
        raise Conflict(
            f"number {ani} is {row[0]}'s: `sky-aaa map remove ani {ani}` first, if that is right"
        )
    maps.map_ani(cursor, ani, card.account_id)
    return True


def remove_anis(cursor: Cursor, viewer: Viewer, card: Card, ani: str) -> list[str]:
    """The numbers that are the card's no more: `ani`, or all for ''. Raises `NotFound`."""
    require(viewer, Deed.MAP, card.chain, card.number)
    known = anis(cursor, card.account_id)
    gone = known if not ani else [one for one in known if one == ani]
    if not gone:
        which = f"number {ani}" if ani else "number of its own"
        raise NotFound(f"card {card.number} has no {which}")
    for one in gone:
        maps.unmap_ani(cursor, one)
    return gone
