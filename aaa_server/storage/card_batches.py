"""Batches of calling cards: making them, selling them, taking them back, printing their PINs.

Everything is set-based: ten thousand cards are a second's work.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.storage import accounts, cards
from aaa_server.storage.problem import BadValue, Conflict
from aaa_server.storage.viewer import Deed, Viewer, as_owner, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.cards import Batch, Card
    from aaa_server.storage.secrets import Keyring

CARDS_MAX = 100_000  # of one batch
DIGITS_MIN, DIGITS_MAX = 8, 20
PIN_DIGITS_MIN, PIN_DIGITS_MAX = 4, 12
# So many numbers there are for each card of a batch: who guesses one seldom meets a card.
NUMBERS_A_CARD = 100
DRAWS_MAX = 50  # rounds in which numbers that are taken already are drawn anew
IDENTIFIERS_A_BLOCK = 1000  # INCREMENT BY of sequence identifier_block


class NewBatch(NamedTuple):
    """What the cards of a new batch have in common."""

    name: str
    currency: str
    face_value_micros: int
    rate_group_id: int | None = None
    valid_days: int | None = None
    surcharge_micros: int = 0
    expires_at: datetime | None = None


class Secret(NamedTuple):
    """What is printed on one card."""

    number: str
    pin: str


class Voided(NamedTuple):
    """How many cards were closed, how many were passed over, and what was left on the first."""

    cards: int
    passed_over: int
    left_micros: int


class Numbers(NamedTuple):
    """How card numbers and PINs are drawn: `prefix`, random digits, a check digit."""

    digits: int = 12
    pin_digits: int = 6
    prefix: str = ""

    def check(self, count: int) -> None:
        """Raises `BadValue` when `count` such cards could not be told apart, or be guessed."""
        if not DIGITS_MIN <= self.digits <= DIGITS_MAX:
            raise BadValue(f"a card number has {DIGITS_MIN} to {DIGITS_MAX} digits")
        if not PIN_DIGITS_MIN <= self.pin_digits <= PIN_DIGITS_MAX:
            raise BadValue(f"a PIN has {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX} digits")
        if self.prefix and not (self.prefix.isdigit() and self.prefix.isascii()):
            raise BadValue(f"{self.prefix!r} is no prefix of card numbers: digits only")
        free = self._free_digits
        if free < 1 or 10**free < count * NUMBERS_A_CARD:
            raise BadValue(
                f"{self.digits} digits, of which {len(self.prefix)} are the prefix and one is the "
                f"check digit, are too few for {count} cards that cannot be guessed: take more "
                "--digits or a shorter --prefix"
            )

    @property
    def _free_digits(self) -> int:
        return self.digits - len(self.prefix) - 1

    def draw(self, count: int) -> list[Secret]:
        """So many different numbers, each with a PIN, from the system's random source."""
        free = self._free_digits
        # A number that begins with 0 loses it in the printer's spreadsheet.
        least = 0 if self.prefix else 10 ** (free - 1)
        bodies: set[str] = set()
        while len(bodies) < count:
            bodies.add(f"{self.prefix}{least + secrets.randbelow(10**free - least):0{free}}")
        pins = self.pin_digits
        return [
            Secret(body + check_digit(body), f"{secrets.randbelow(10**pins):0{pins}}")
            for body in bodies
        ]


def check_digit(body: str) -> str:
    """The digit behind `body` that catches a wrong digit and most swaps (ISO/IEC 7812-1, Luhn)."""
    total = 0
    for place, character in enumerate(reversed(body)):
        digit = int(character) * (1 if place % 2 else 2)
        total += digit - 9 if digit > 9 else digit
    return str(-total % 10)


def create(
    cursor: Cursor,
    viewer: Viewer,
    keyring: Keyring,
    owner: Account,
    new: NewBatch,
    *,
    count: int,
    draw: Callable[[int], list[Secret]],
) -> Batch:
    """A batch of `count` cards of `owner`, none active yet.

    `draw` gives so many different numbers and PINs; it is asked again for those whose number
    is an account's already. Raises `Conflict` for a name in use, or when no free number comes.
    """
    require(viewer, Deed.SELL_AS, owner.chain, owner.code)
    if owner.kind not in ("admin", "reseller"):
        raise BadValue(f"{owner.code} is a {owner.kind}: only the operator and resellers sell")
    if not 0 < count <= CARDS_MAX:
        raise BadValue(f"a batch has 1 to {CARDS_MAX} cards")
    if new.face_value_micros <= 0:
        raise BadValue("a card's face value is above 0")
    with as_owner(cursor, viewer):
        card_batch_id = _insert_batch(cursor, owner, new)
        wanted = count
        for _ in range(DRAWS_MAX):
            wanted -= _insert_cards(cursor, keyring, owner, new, card_batch_id, draw(wanted))
            if not wanted:
                break
        else:
            raise Conflict(f"{wanted} of {count} cards found no free number: take more --digits")
    return cards.find_batch(cursor, viewer, new.name, owner=owner.code)


def _insert_batch(cursor: Cursor, owner: Account, new: NewBatch) -> int:
    try:
        cursor.execute(
            """
            INSERT INTO card_batch (
                       owner_id, name, currency, face_value_micros, rate_group_id, valid_days,
                       surcharge_micros)
            VALUES (%(owner_id)s, %(name)s, %(currency)s, %(face_value_micros)s,
                    %(rate_group_id)s, %(valid_days)s, %(surcharge_micros)s)
         RETURNING card_batch_id
            """,
            {**new._asdict(), "owner_id": owner.account_id},
        )
    except psycopg2.errors.UniqueViolation as error:
        raise Conflict(
            f"{owner.code} has a batch {new.name!r} of cards already: a new one needs a new name"
        ) from error
    except psycopg2.errors.CheckViolation as error:
        constraint = error.diag.constraint_name or ""
        raise BadValue(
            {
                "card_batch_name_check": "a batch needs a name",
                "card_batch_surcharge_micros_check": "a surcharge is not below 0",
            }.get(constraint, f"batch {new.name}: a value is out of range ({constraint})")
        ) from error
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _insert_cards(
    cursor: Cursor,
    keyring: Keyring,
    owner: Account,
    new: NewBatch,
    card_batch_id: int,
    drawn: Sequence[Secret],
) -> int:
    """How many of them found their number free."""
    cursor.execute(
        "SELECT nextval(pg_get_serial_sequence('account', 'account_id'))"
        "  FROM generate_series(1, %s)",
        (len(drawn),),
    )
    numbers = [row[0] for row in cursor.fetchall()]
    # A PIN is sealed for its row, so the row's number comes first.
    pins = [
        keyring.seal(one.pin.encode(), table="account", row_id=number, column="pin")
        for number, one in zip(numbers, drawn, strict=True)
    ]
    cursor.execute(
        """
        INSERT INTO account (
                   account_id, code, kind, parent_id, name, prepaid, currency, rate_group_id,
                   status, expires_at, language, time_zone, pin_sealed, card_batch_id,
                   valid_days, surcharge_micros)
        SELECT card.account_id, card.code, 'customer', %(parent_id)s, %(name)s, true,
               %(currency)s, %(rate_group_id)s, 'suspended', %(expires_at)s, %(language)s,
               %(time_zone)s, card.pin_sealed, %(card_batch_id)s, %(valid_days)s,
               %(surcharge_micros)s
          FROM unnest(%(numbers)s::bigint[], %(codes)s::text[], %(pins)s::bytea[])
               AS card (account_id, code, pin_sealed)
            ON CONFLICT (code) DO NOTHING
        """,
        {
            **new._asdict(),
            "parent_id": owner.account_id,
            "language": owner.language,
            "time_zone": owner.time_zone,
            "card_batch_id": card_batch_id,
            "numbers": numbers,
            "codes": [one.number for one in drawn],
            "pins": pins,
        },
    )
    return cursor.rowcount


def activate(
    cursor: Cursor,
    viewer: Viewer,
    batch: Batch,
    *,
    first: int = 1,
    last: int = cards.SERIAL_MAX,
) -> int:
    """How many cards were activated: each gets its face value, once, and can be used.

    Those that are active or void already are passed over. Raises `BadValue` for serials
    that the batch does not have.
    """
    require(viewer, Deed.SELL_AS, batch.owner_chain, batch.owner_code)
    chosen = choose(cursor, viewer, batch, first=first, last=last)
    accounts.lock(cursor, [card.account_id for card in chosen])
    chosen = [
        card
        for card in choose(cursor, viewer, batch, first=first, last=last)
        if card.status != "closed" and not card.activated
    ]
    with as_owner(cursor, viewer):
        posted = _post(
            cursor,
            viewer,
            [(card, batch.face_value_micros, card.number) for card in chosen],
            note=f"face value, batch {batch.name}",
        )
        cursor.execute(
            "UPDATE account SET status = 'active' WHERE account_id = ANY (%s)", (posted,)
        )
    return len(posted)


def choose(
    cursor: Cursor,
    viewer: Viewer,
    batch: Batch,
    *,
    first: int = 1,
    last: int = cards.SERIAL_MAX,
) -> list[Card]:
    """The batch's cards of these serials. Raises `BadValue` when there are none."""
    chosen = cards.list_cards(cursor, viewer, batch, first=first, last=last)
    if not chosen:
        made = cards.counts(cursor, [batch.card_batch_id])[batch.card_batch_id].cards
        raise BadValue(f"batch {batch.name} has serials 1 to {made}: none from {first} to {last}")
    return chosen


def void_unused(
    cursor: Cursor,
    viewer: Viewer,
    batch: Batch,
    *,
    first: int = 1,
    last: int = cards.SERIAL_MAX,
) -> Voided:
    """Take back the batch's cards of these serials that nobody has used. Raises `BadValue`."""
    require(viewer, Deed.SELL_AS, batch.owner_chain, batch.owner_code)
    chosen = choose(cursor, viewer, batch, first=first, last=last)
    accounts.lock(cursor, [card.account_id for card in chosen])
    chosen = choose(cursor, viewer, batch, first=first, last=last)
    unused = [card for card in chosen if card.unused and card.status != "closed"]
    return Voided(len(unused), len(chosen) - len(unused), _close(cursor, viewer, unused))


def void(cursor: Cursor, viewer: Viewer, number: str) -> Voided:
    """Take back one card, used or not; what is left on it goes back to its seller.

    Raises `Conflict` for one with a call in progress, whose money is reserved, and for one
    that is void already.
    """
    card = cards.find(cursor, viewer, number)
    require(viewer, Deed.SELL_TO, card.chain, number)
    accounts.lock(cursor, [card.account_id])
    card = cards.find(cursor, viewer, number)
    if card.status == "closed":
        raise Conflict(f"card {number} is void already")
    if card.calls or card.reserved_micros:
        raise Conflict(f"card {number} has a call in progress: void it when that has ended")
    return Voided(1, 0, _close(cursor, viewer, [card]))


def _close(cursor: Cursor, viewer: Viewer, chosen: Sequence[Card]) -> int:
    """The micros that were left on these cards, which are locked and hold no reservation."""
    left = [card for card in chosen if card.balance_micros > 0]
    with as_owner(cursor, viewer):
        _post(
            cursor,
            viewer,
            [(card, -card.balance_micros, f"{card.number}/void") for card in left],
            note="what was left on a void card",
        )
        cursor.execute(
            "UPDATE account SET status = 'closed' WHERE account_id = ANY (%s)",
            ([card.account_id for card in chosen],),
        )
    return sum(card.balance_micros for card in left)


def _post(
    cursor: Cursor,
    viewer: Viewer,
    moves: Sequence[tuple[Card, int, str]],
    *,
    note: str,
) -> list[int]:
    """Post these amounts against their sellers' book of cards, each once by its reference.

    The accounts that got theirs now come back; balances are moved with the postings.
    """
    blocks = -(-len(moves) // IDENTIFIERS_A_BLOCK)
    cursor.execute("SELECT nextval('identifier_block') FROM generate_series(1, %s)", (blocks,))
    numbers = [
        first + place for (first,) in cursor.fetchall() for place in range(IDENTIFIERS_A_BLOCK)
    ]
    cursor.execute(
        """
          WITH move AS (
        SELECT *
          FROM unnest(%(numbers)s::bigint[], %(accounts)s::bigint[], %(amounts)s::bigint[],
                      %(references)s::text[])
               AS move (transaction_id, account_id, amount_micros, reference)),
               entered AS (
        INSERT INTO ledger_transaction (transaction_id, kind, reference, at, note, author_id)
        SELECT transaction_id, 'card', reference, now(), %(note)s, %(author)s
          FROM move
            ON CONFLICT (kind, reference) DO NOTHING
     RETURNING transaction_id),
               posted AS (
        INSERT INTO posting (
                   transaction_id, position, account_id, amount_micros, currency,
                   contra_account_id, contra_book)
        SELECT move.transaction_id, 0, account.account_id, move.amount_micros,
               account.currency, account.parent_id, 'cards'
          FROM entered
          JOIN move USING (transaction_id)
          JOIN account USING (account_id)
     RETURNING account_id, amount_micros)
        UPDATE account
           SET balance_micros = balance_micros + posted.amount_micros
          FROM posted
         WHERE account.account_id = posted.account_id
     RETURNING account.account_id
        """,
        {
            "numbers": numbers[: len(moves)],
            "accounts": [card.account_id for card, _, _ in moves],
            "amounts": [amount_micros for _, amount_micros, _ in moves],
            "references": [reference for _, _, reference in moves],
            "note": note,
            "author": viewer.account_id,
        },
    )
    return [row[0] for row in cursor.fetchall()]


def pins(
    cursor: Cursor, viewer: Viewer, keyring: Keyring, chosen: Sequence[Card]
) -> dict[int, str]:
    """The PINs of these cards by account; only for who sells them. Raises `NotAllowed`.

    Whoever asks leaves a line in the audit log.
    """
    for card in chosen:
        require(viewer, Deed.READ_PIN, card.chain, card.number)
    with as_owner(cursor, viewer):
        cursor.execute(
            "SELECT account_id, pin_sealed FROM account WHERE account_id = ANY (%s)",
            ([card.account_id for card in chosen],),
        )
        sealed = cursor.fetchall()
    return {
        account_id: keyring.unseal(pin, table="account", row_id=account_id, column="pin").decode()
        for account_id, pin in sealed
        if pin is not None
    }
