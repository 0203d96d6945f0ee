"""`sky-aaa cards`: calling cards, made and sold in batches, used by number and PIN."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import AMOUNT, CURRENCY, DAYS, EXPIRY, FEE
from aaa_server.rating.prefix import number_of
from aaa_server.storage import accounts, card_batches, rate_groups
from aaa_server.storage import cards as storage
from aaa_server.storage.problem import NotFound
from aaa_server.storage.viewer import Deed, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.context import Work
    from aaa_server.cli.output import Row
    from aaa_server.storage.cards import Batch, Card, Counts

SERIAL = click.IntRange(1, storage.SERIAL_MAX)
BATCH_COLUMNS = (
    "batch",
    "owner",
    "currency",
    "face_value",
    "rate_group",
    "cards",
    "activated",
    "used",
    "void",
    "created_at",
)
CARD_COLUMNS = (
    "serial",
    "number",
    "state",
    "balance",
    "reserved",
    "currency",
    "first_used_at",
    "expires_at",
)


@click.group()
def cards() -> None:
    """Calling cards: made and sold in batches, used by number and PIN."""


def _owner_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--owner", metavar="CODE", default="", help="Where several have a batch of this name."
    )(command)


def _serial_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option(
        "--to-serial", "last", type=SERIAL, default=storage.SERIAL_MAX, help="[default: the last]"
    )(command)
    return click.option(
        "--from-serial", "first", type=SERIAL, default=1, help="[default: the first]"
    )(command)


@cards.command()
@click.argument("batch")
@click.option("--count", type=click.IntRange(1, card_batches.CARDS_MAX), required=True)
@click.option("--owner", metavar="CODE", help="Who sells them.  [default: who runs the command]")
@click.option("--face-value", type=AMOUNT, required=True, help="On each card once it is active.")
@click.option("--currency", type=CURRENCY, help="[default: the owner's]")
@click.option("--rate-group", metavar="NAME", required=True, help="What its calls cost.")
@click.option("--digits", type=int, default=12, show_default=True, help="Of the card number.")
@click.option("--pin-digits", type=int, default=6, show_default=True)
@click.option("--prefix", default="", metavar="NNN", help="What the numbers begin with.")
@click.option("--valid-days", type=DAYS, help="From the first call on; 0: for ever.")
@click.option("--expires", type=EXPIRY, metavar="WHEN", help="Used or not.  [default: never]")
@click.option("--surcharge", type=FEE, default="0", help="A call, over an access number.")
@click.option("--active", is_flag=True, help="Activate them at once.")
@output_option
@pass_session
def create(session: Session, /, batch: str, count: int, **options: Any) -> None:
    """Make a BATCH of cards. `cards print` tells their PINs, `cards activate` makes them work."""
    numbers = card_batches.Numbers(
        digits=options["digits"], pin_digits=options["pin_digits"], prefix=options["prefix"]
    )
    numbers.check(count)
    with session.transaction() as work:
        owner = accounts.find(work.cursor, work.viewer, options["owner"] or work.viewer.code)
        require(work.viewer, Deed.SELL_AS, owner.chain, owner.code)
        group = rate_groups.find_for_account(
            work.cursor, work.viewer, options["rate_group"], owner.account_id
        )
        new = card_batches.NewBatch(
            name=batch,
            currency=options["currency"] or owner.currency,
            face_value_micros=options["face_value"],
            rate_group_id=group.rate_group_id,
            valid_days=options["valid_days"] or None,
            surcharge_micros=options["surcharge"],
            expires_at=options["expires"],
        )
        made = card_batches.create(
            work.cursor,
            work.viewer,
            session.keyring,
            owner,
            new,
            count=count,
            draw=numbers.draw,
        )
        if options["active"]:
            card_batches.activate(work.cursor, work.viewer, made)
        record = _batch_record(work, made)
        work.note("cards create", batch, after=dict(record), acting_as_id=made.owner_id)
    show_record(session, record)


def _batch_record(work: Work, one: Batch) -> Row:
    counted = storage.counts(work.cursor, [one.card_batch_id])
    return _batch_row(one, counted[one.card_batch_id])


def _batch_row(one: Batch, counted: Counts) -> Row:
    return {
        "batch": one.name,
        "owner": one.owner_code,
        "currency": one.currency,
        "face_value": amount(one.face_value_micros),
        "rate_group": one.rate_group,
        "valid_days": one.valid_days,
        "surcharge": amount(one.surcharge_micros),
        "created_at": one.created_at,
        **counted._asdict(),
    }


@cards.command("list")
@click.argument("batch", required=False)
@_owner_option
@click.option("--state", type=click.Choice(storage.STATES), help="Only cards that are so.")
@_serial_options
@output_option
@pass_session
def list_(
    session: Session, batch: str | None, owner: str, state: str | None, first: int, last: int
) -> None:
    """The batches, or the cards of BATCH."""
    if state is not None and batch is None:
        raise click.UsageError("--state is of the cards of one batch: name it")
    columns: tuple[str, ...] = BATCH_COLUMNS
    with session.transaction() as work:
        if batch is None:
            found = storage.list_batches(work.cursor, work.viewer)
            counted = storage.counts(work.cursor, [one.card_batch_id for one in found])
            rows = [_batch_row(one, counted[one.card_batch_id]) for one in found]
        else:
            one = storage.find_batch(work.cursor, work.viewer, batch, owner=owner)
            listed = storage.list_cards(work.cursor, work.viewer, one, first=first, last=last)
            rows = [_card_record(card) for card in listed]
            columns = CARD_COLUMNS
    show_rows(session, columns, [row for row in rows if state in (None, row.get("state"))])


def _card_record(card: Card) -> Row:
    return {
        "serial": card.serial if card.batch else None,
        "number": card.number,
        "state": card.state(datetime.now(UTC)),
        "batch": card.batch,
        "balance": amount(card.balance_micros),
        "reserved": amount(card.reserved_micros),
        "currency": card.currency,
        "surcharge": amount(card.surcharge_micros),
        "pin_failures": card.pin_failures,
        "locked_until": card.locked_until,
        "valid_days": card.valid_days,
        "first_used_at": card.first_used_at,
        "expires_at": card.expires_at,
    }


@cards.command()
@click.argument("number")
@output_option
@pass_session
def show(session: Session, number: str) -> None:
    """One card: what state it is in and what is left on it. Never its PIN."""
    with session.transaction() as work:
        record = _shown(work, number)
    show_record(session, record)


def _shown(work: Work, number: str) -> Row:
    card = storage.find(work.cursor, work.viewer, number)
    return {**_card_record(card), "pinless": storage.anis(work.cursor, card.account_id)}


@cards.command()
@click.argument("batch")
@_owner_option
@_serial_options
@output_option
@pass_session
def activate(session: Session, batch: str, owner: str, first: int, last: int) -> None:
    """Put the face value on the cards of BATCH that are new, once, and let them be used."""
    with session.transaction() as work:
        one = storage.find_batch(work.cursor, work.viewer, batch, owner=owner)
        done = card_batches.activate(work.cursor, work.viewer, one, first=first, last=last)
        record = {
            "batch": one.name,
            "owner": one.owner_code,
            "activated": done,
            "amount": amount(done * one.face_value_micros),
            "currency": one.currency,
        }
        if done:
            asked = {"first": first, "last": None if last == storage.SERIAL_MAX else last}
            work.note("cards activate", batch, after={**record, **asked}, acting_as_id=one.owner_id)
    show_record(session, record)


@cards.command("print")
@click.argument("batch")
@_owner_option
@_serial_options
@output_option
@pass_session
def print_(session: Session, batch: str, owner: str, first: int, last: int) -> None:
    """Numbers and PINs of BATCH, for the printer: -o csv. It is put on record who asked."""
    with session.transaction() as work:
        one = storage.find_batch(work.cursor, work.viewer, batch, owner=owner)
        require(work.viewer, Deed.SELL_AS, one.owner_chain, one.owner_code)
        chosen = card_batches.choose(work.cursor, work.viewer, one, first=first, last=last)
        pins = card_batches.pins(work.cursor, work.viewer, session.keyring, chosen)
        told = {"first": chosen[0].serial, "last": chosen[-1].serial}
        work.note("cards print", batch, after=told)
    columns = ("serial", "number", "pin", "face_value", "currency", "valid_days")
    value = amount(one.face_value_micros)
    rows = [
        {**_card_record(card), "pin": pins.get(card.account_id, ""), "face_value": value}
        for card in chosen
    ]
    show_rows(session, columns, rows)


@cards.command()
@click.argument("number")
@output_option
@pass_session
def reveal(session: Session, number: str) -> None:
    """The PIN of one card. It is put on record who asked."""
    with session.transaction() as work:
        card = storage.find(work.cursor, work.viewer, number)
        pins = card_batches.pins(work.cursor, work.viewer, session.keyring, [card])
        work.note("cards reveal", number)
    show_record(session, {"number": number, "pin": pins.get(card.account_id, "")})


@cards.command()
@click.argument("number")
@output_option
@pass_session
def block(session: Session, number: str) -> None:
    """No calls with card NUMBER until it is unblocked."""
    _set_blocked(session, number, blocked=True)


@cards.command()
@click.argument("number")
@output_option
@pass_session
def unblock(session: Session, number: str) -> None:
    """Let card NUMBER be used again."""
    _set_blocked(session, number, blocked=False)


def _set_blocked(session: Session, number: str, *, blocked: bool) -> None:
    with session.transaction() as work:
        before = storage.set_blocked(work.cursor, work.viewer, number, blocked=blocked)
        after = storage.find(work.cursor, work.viewer, number)
        work.note(
            "cards block" if blocked else "cards unblock",
            number,
            before={"status": before.status},
            after={"status": after.status},
        )
        record = _shown(work, number)
    show_record(session, record)


@cards.command()
@click.argument("number")
@output_option
@pass_session
def unlock(session: Session, number: str) -> None:
    """Forget the wrong PINs of card NUMBER, or of any account with a PIN."""
    with session.transaction() as work:
        account = accounts.find_to_change(work.cursor, work.viewer, number)
        storage.unlock(work.cursor, account.account_id)
        work.note("cards unlock", number)
    show_record(session, {"number": number, "pin_failures": 0, "locked_until": None})


@cards.command()
@click.argument("number")
@click.option("--ani", metavar="A", help="The number that calls.")
@click.option("--remove", is_flag=True, help="Take it away; without --ani, all of them.")
@output_option
@pass_session
def pinless(session: Session, number: str, ani: str | None, remove: bool) -> None:
    """Calls from number A are card NUMBER's without its PIN."""
    if ani is None and not remove:
        raise click.UsageError("say which number: --ani; or --remove")
    digits = "" if ani is None else number_of(ani)
    if ani is not None and not digits:
        raise click.BadParameter(f"{ani!r} is no number", param_hint="--ani")
    with session.transaction() as work:
        card = storage.find_to_change(work.cursor, work.viewer, number)
        if remove:
            gone = storage.remove_anis(work.cursor, work.viewer, card, digits)
            work.note("cards pinless", number, before={"ani": gone}, after={"ani": None})
        elif storage.add_ani(work.cursor, work.viewer, card, digits):
            work.note("cards pinless", number, before={"ani": None}, after={"ani": digits})
        record = _shown(work, number)
    show_record(session, record)


@cards.command()
@click.argument("what", metavar="BATCH|NUMBER")
@_owner_option
@_serial_options
@output_option
@pass_session
def void(session: Session, what: str, owner: str, first: int, last: int) -> None:
    """End a card, or the unused cards of a batch; what is left on them goes back to the seller.

    A card that was used is ended by its NUMBER only. It cannot be undone.
    """
    with session.transaction() as work:
        card = _card_named(work, what)
        if card is not None:
            currency, owner_id = card.currency, card.chain[1] if len(card.chain) > 1 else None
            voided = card_batches.void(work.cursor, work.viewer, what)
        else:
            one = storage.find_batch(work.cursor, work.viewer, what, owner=owner)
            currency, owner_id = one.currency, one.owner_id
            voided = card_batches.void_unused(work.cursor, work.viewer, one, first=first, last=last)
        record = {
            "void": what,
            "cards": voided.cards,
            "passed_over": voided.passed_over,
            "amount": amount(voided.left_micros),
            "currency": currency,
        }
        if voided.cards:
            work.note("cards void", what, after=record, acting_as_id=owner_id)
    show_record(session, record)


def _card_named(work: Work, text: str) -> Card | None:
    """The card of that number; None when it names none, so it may name a batch."""
    try:
        return storage.find(work.cursor, work.viewer, text)
    except NotFound:
        return None
