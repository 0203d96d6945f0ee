"""`sky-aaa did`: numbers that are called from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli import did_file
from aaa_server.cli.context import BadData, Failure, Session, Work, pass_session
from aaa_server.cli.output import Things, amount, output_option, price, show_record, show_rows
from aaa_server.cli.values import AMOUNT, COUNT, FEE, PRICE, WHEN
from aaa_server.rating.prefix import number_of
from aaa_server.storage import accounts, did_assignments, dids
from aaa_server.storage.did_assignments import read_destination
from aaa_server.storage.viewer import require_operator

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from aaa_server.cli.output import Row
    from aaa_server.storage.accounts import Account
    from aaa_server.storage.did_assignments import Assignment, Destination
    from aaa_server.storage.dids import Did, Terms

BAD_LINES_SHOWN_MAX = 1_000  # in a table; JSON and CSV have all
LIST_COLUMNS = ("number", "account", "rings", "status", "access")


@click.group()
def did() -> None:
    """DIDs: numbers that are called from outside, their prices and whose they are."""


def _number(text: str) -> str:
    return number_of(text) or text


def _terms_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a number costs somebody, for the commands that say so."""
    for option in reversed(
        (
            click.option("--setup", "setup_micros", type=AMOUNT, help="Once."),
            click.option("--monthly", "monthly_micros", type=AMOUNT),
            click.option("--per-minute", "per_minute_nanos", type=PRICE),
            click.option("--connect-fee", "connect_fee_micros", type=FEE, help="A call."),
            click.option("--initial", "initial_seconds", type=COUNT, help="First block."),
            click.option("--increment", "increment_seconds", type=COUNT, help="Further blocks."),
            click.option("--included", "included_seconds", type=COUNT, help="Free in each call."),
        )
    ):
        command = option(command)
    return command


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _terms(terms: Terms) -> dict[str, Any]:
    return {
        "setup": amount(terms.setup_micros),
        "monthly": amount(terms.monthly_micros),
        "per_minute": price(terms.per_minute_nanos),
        "connect_fee": amount(terms.connect_fee_micros),
        "initial_seconds": terms.initial_seconds,
        "increment_seconds": terms.increment_seconds,
        "included_seconds": terms.included_seconds,
    }


def _rings(kind: str, address: str) -> str:
    return f"{kind} {address}".strip()


def _row(one: Did) -> dict[str, Any]:
    row = {
        "number": one.number,
        "account": one.owner_code,
        "rings": _rings(one.destination_kind, one.destination),
        "status": one.status,
        "access": one.access,
    }
    if one.cost is not None:
        row |= {"provider": one.provider_code, "currency": one.currency, **_terms(one.cost)}
    return row


def _record(work: Work, one: Did) -> Row:
    """The number, with the prices and assignments that the viewer may see."""
    prices = dids.prices(work.cursor, work.viewer, [one.did_id])
    periods = did_assignments.history(work.cursor, work.viewer, one.did_id)
    return {
        **_row(one),
        "prices": Things(
            {
                "account": each.account_code,
                "currency": each.currency,
                **_terms(each.terms),
            }
            for each in prices
        ),
        "assignments": Things(_period(period) for period in periods),
    }


def _period(one: Assignment) -> Row:
    return {
        "account": one.account_code,
        "from": one.valid_from,
        "to": one.valid_to,
        "rings": _rings(*one.destination),
    }


# ------------------------------------------------------------------ the inventory


@did.command()
@click.argument("number")
@click.option("--provider", metavar="CODE", required=True, help="Whose calls to it come in.")
@click.option("--access", is_flag=True, help="Calling cards are used over it; nobody owns it.")
@_terms_options
@output_option
@pass_session
def add(session: Session, /, number: str, provider: str, access: bool, **costs: Any) -> None:
    """Take NUMBER into the inventory; the prices are what its provider takes."""
    with session.transaction() as work:
        require_operator(work.viewer, "DIDs are added")
        seller = accounts.find(work.cursor, work.viewer, provider)
        row = dids.Row(_number(number), dids.Terms(**_given(costs)))
        dids.add(work.cursor, work.viewer, seller, row, access=access)
        made = dids.find(work.cursor, work.viewer, row.number)
        work.note("did add", made.number, after=_row(made))
        record = _record(work, made)
    show_record(session, record)


@did.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", metavar="CODE", required=True, help="Whose numbers they are.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@output_option
@pass_session
def import_(session: Session, file: Path, provider: str, dry_run: bool) -> None:
    """Take the numbers in FILE (CSV) into the inventory, all of them or none.

    Columns: number, which must be there, and setup, monthly, per_minute, connect_fee,
    included_seconds, initial_seconds, increment_seconds: what the provider takes. Numbers
    that are known get these costs; numbers that are not in the file stay.
    """
    found = did_file.read(file)
    with session.transaction() as work:
        require_operator(work.viewer, "DIDs are imported")
        seller = accounts.find(work.cursor, work.viewer, provider)
        numbers = [row.number for row in found.rows]
        elsewhere = dids.of_other_providers(work.cursor, work.viewer, seller, numbers)
        bad = found.bad + [
            did_file.Bad(line, "number", row.number, f"it comes from {elsewhere[row.number]}")
            for line, row in zip(found.lines, found.rows, strict=True)
            if row.number in elsewhere
        ]
        _refuse_bad(session, file, sorted(bad))
        if not found.rows:
            raise BadData(f"{file}: there are no numbers to import")
        saved = dids.save(work.cursor, work.viewer, seller, found.rows, dry_run=dry_run)
        summary = {
            "provider": provider,
            "file": file.name,
            **saved._asdict(),
            "ignored_columns": found.ignored,
        }
        if not dry_run:
            work.note("did import", provider, after=summary)
    show_record(session, summary)
    if dry_run:
        click.echo("dry run: nothing was changed", err=True)


def _refuse_bad(session: Session, file: Path, bad: list[did_file.Bad]) -> None:
    if not bad:
        return
    shown = bad[:BAD_LINES_SHOWN_MAX] if session.output == "table" else bad
    show_rows(session, did_file.Bad._fields, [one._asdict() for one in shown])
    if len(shown) < len(bad):
        click.echo(f"and {len(bad) - len(shown)} more: -o csv shows all", err=True)
    lines = len({one.line for one in bad})
    raise BadData(f"{file}: {lines} bad line{'s' if lines > 1 else ''}: nothing was imported")


@did.command("list")
@click.option("--account", "code", metavar="CODE", help="Whose they are now.")
@click.option("--provider", metavar="CODE", help="From whom the operator has them.")
@click.option("--status", type=click.Choice(dids.STATUSES))
@click.option("--prefix", "prefixes", multiple=True, help="What they begin with; repeatable.")
@click.option("--free", is_flag=True, help="Assigned to nobody that you may see.")
@click.option("--after", metavar="NUMBER", default="", help="Go on after this number.")
@click.option("--limit", type=click.IntRange(1, dids.LIST_MAX), default=1000, show_default=True)
@output_option
@pass_session
def list_(
    session: Session,
    /,
    code: str | None,
    provider: str | None,
    status: str | None,
    prefixes: tuple[str, ...],
    **options: Any,
) -> None:
    """The numbers that you may see."""
    with session.transaction() as work:
        provider_id = None
        if provider is not None:
            require_operator(work.viewer, "providers of DIDs")
            provider_id = accounts.find(work.cursor, work.viewer, provider).account_id
        owner = accounts.find(work.cursor, work.viewer, code) if code is not None else None
        wanted = dids.Filter(
            prefixes=prefixes,
            account_id=None if owner is None else owner.account_id,
            provider_id=provider_id,
            status=status or "",
            **options,
        )
        found = dids.list_dids(work.cursor, work.viewer, wanted)
        operator = work.viewer.is_operator
    columns = (*LIST_COLUMNS, "provider", "currency", "monthly", "per_minute")
    show_rows(session, columns if operator else LIST_COLUMNS, [_row(one) for one in found])
    if len(found) == options["limit"]:
        click.echo(f"{len(found)} shown: go on with --after {found[-1].number}", err=True)


@did.command()
@click.argument("number")
@output_option
@pass_session
def show(session: Session, number: str) -> None:
    """NUMBER with the prices of its buyers, and who has and had it."""
    with session.transaction() as work:
        record = _record(work, dids.find(work.cursor, work.viewer, _number(number)))
    show_record(session, record)


@did.command("set")
@click.argument("number")
@click.option("--provider", metavar="CODE", help="It was moved to this provider.")
@click.option("--access/--no-access", "access", default=None, help="Calling cards use it.")
@click.option("--active/--suspended", "active", default=None, help="Suspended: never rings.")
@_terms_options
@output_option
@pass_session
def set_(session: Session, /, number: str, provider: str | None, **options: Any) -> None:
    """Change what NUMBER's provider takes, or its state; what is not named stays."""
    access, active = options.pop("access"), options.pop("active")
    costs = _given(options)
    if not costs and provider is None and access is None and active is None:
        raise click.UsageError("nothing to change: name at least one option")
    with session.transaction() as work:
        require_operator(work.viewer, "DIDs are changed")
        before = dids.find(work.cursor, work.viewer, _number(number))
        assert before.cost is not None
        wanted = before._replace(cost=before.cost._replace(**costs))
        if provider is not None:
            seller = accounts.find(work.cursor, work.viewer, provider)
            dids.require_provider(seller)
            wanted = wanted._replace(provider_id=seller.account_id)
        if access is not None:
            wanted = wanted._replace(access=access)
        if active is not None:
            wanted = wanted._replace(status="active" if active else "suspended")
        record = _change(work, "did set", before, wanted)
    show_record(session, record)


@did.command()
@click.argument("number")
@output_option
@pass_session
def retire(session: Session, number: str) -> None:
    """NUMBER is not ours any more; its records stay. Not while somebody has it."""
    with session.transaction() as work:
        require_operator(work.viewer, "DIDs are retired")
        before = dids.find(work.cursor, work.viewer, _number(number))
        if before.status == "retired":
            raise Failure(f"{before.number} is retired already")
        record = _change(work, "did retire", before, before._replace(status="retired"))
    show_record(session, record)


def _change(work: Work, action: str, before: Did, wanted: Did) -> Row:
    dids.change(work.cursor, work.viewer, wanted)
    after = dids.find(work.cursor, work.viewer, before.number)
    work.note(action, before.number, before=_row(before), after=_row(after))
    return _record(work, after)


# ------------------------------------------------------------------ prices


@did.command("price")
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1)
@click.option("--account", "code", metavar="CODE", required=True, help="Who pays it.")
@click.option("--prefix", "prefixes", multiple=True, help="All numbers that begin so.")
@click.option("--all", "all_", is_flag=True, help="All numbers that you may see.")
@click.option("--remove", is_flag=True, help="It does not buy them any more.")
@_terms_options
@output_option
@pass_session
def price_(
    session: Session,
    /,
    numbers: tuple[str, ...],
    code: str,
    prefixes: tuple[str, ...],
    all_: bool,
    remove: bool,
    **costs: Any,
) -> None:
    """What account CODE pays its seller for NUMBER, in CODE's currency.

    The seller is the account above it. What is not named stays; of a new price it is 0, and
    blocks are 60 s. A number can be assigned to whoever has a price, and so has everybody
    above it.
    """
    if sum((bool(numbers), bool(prefixes), all_)) != 1:
        raise click.UsageError("which numbers? NUMBER…, or --prefix, or --all: one of them")
    given = _given(costs)
    if remove and given:
        raise click.UsageError("--remove stands without a price")
    with session.transaction() as work:
        buyer = accounts.find(work.cursor, work.viewer, code)
        found = _chosen(work, numbers, prefixes)
        change = (work.cursor, work.viewer, buyer, found)
        before = {row["number"]: row for row in _prices_of(work, buyer, found)}
        if remove:
            dids.remove_price(*change)
        else:
            dids.set_price(*change, given)
        after = _prices_of(work, buyer, found)
        told = {row["number"]: row for row in after}
        for one in found:
            work.note(
                "did price",
                f"{one.number} {code}",
                before=before.get(one.number, {}),
                after=told.get(one.number, {"removed": True}),
            )
    columns = ("number", "account", "currency", *_terms(dids.Terms()))
    if remove:
        click.echo(f"{code} has no price for {len(found)} number(s) any more", err=True)
    else:
        show_rows(session, columns, after)


def _chosen(work: Work, numbers: tuple[str, ...], prefixes: tuple[str, ...]) -> list[Did]:
    """The numbers that are meant. Those that are named must be there; retired ones are not."""
    if numbers:
        found = {
            one.number: one
            for one in (dids.find(work.cursor, work.viewer, _number(text)) for text in numbers)
        }
        return list(found.values())
    wanted = dids.Filter(prefixes=prefixes)
    listed = dids.list_dids(work.cursor, work.viewer, wanted)
    if len(listed) == dids.LIST_MAX:
        raise Failure(f"more than {dids.LIST_MAX} numbers at once: take a longer --prefix")
    chosen = [one for one in listed if one.status != "retired"]
    if not chosen:
        raise Failure(f"no number begins with {' or '.join(prefixes) or 'anything'}")
    return chosen


def _prices_of(work: Work, buyer: Account, found: list[Did]) -> list[dict[str, Any]]:
    names = {one.did_id: one.number for one in found}
    return [
        {
            "number": names[each.did_id],
            "account": each.account_code,
            "currency": each.currency,
            **_terms(each.terms),
        }
        for each in dids.prices(work.cursor, work.viewer, list(names))
        if each.account_id == buyer.account_id
    ]


# ------------------------------------------------------------------ whose it is


def _destination(extension: str | None, sip: str | None, pstn: str | None) -> Destination:
    given = [
        (kind, text)
        for kind, text in (("extension", extension), ("sip", sip), ("pstn", pstn))
        if text is not None
    ]
    if len(given) != 1:
        raise click.UsageError("where does it ring? --extension, --sip or --pstn: one of them")
    return read_destination(*given[0])


@did.command()
@click.argument("number")
@click.argument("code")
@click.option("--extension", metavar="E@DOMAIN", help="An extension of the switch.")
@click.option("--sip", metavar="URI", help="sip:user@host[:port].")
@click.option("--pstn", metavar="NUMBER", help="Called at CODE's expense, at its own prices.")
@click.option("--from", "begin", type=WHEN, metavar="WHEN", help="[default: now]")
@output_option
@pass_session
def assign(
    session: Session,
    number: str,
    code: str,
    extension: str | None,
    sip: str | None,
    pstn: str | None,
    begin: datetime | None,
) -> None:
    """NUMBER is account CODE's, and rings there.

    CODE and everybody above it needs a price first. Once more for the same account changes
    where the number rings. A reseller hands on what it has a price for, to those below it.
    """
    destination = _destination(extension, sip, pstn)
    with session.transaction() as work:
        one = dids.find(work.cursor, work.viewer, _number(number))
        owner = accounts.find(work.cursor, work.viewer, code)
        made = did_assignments.assign(
            work.cursor, work.viewer, one, owner, destination, begin=begin
        )
        work.note(
            "did assign",
            one.number,
            before={"account": one.owner_code, "rings": _row(one)["rings"]},
            after={"account": code, "rings": _rings(*destination), "from": made.valid_from},
        )
    if one.owner_code and one.owner_code != code:
        click.echo(f"{one.number} was {one.owner_code}'s until then", err=True)
    show_record(session, {"number": one.number, **_period(made)})


@did.command()
@click.argument("number")
@click.option("--at", type=WHEN, metavar="WHEN", help="[default: now]")
@output_option
@pass_session
def release(session: Session, number: str, at: datetime | None) -> None:
    """NUMBER is nobody's from then on; what has not begun is called off."""
    with session.transaction() as work:
        one = dids.find(work.cursor, work.viewer, _number(number))
        ended = did_assignments.release(work.cursor, work.viewer, one, at=at)
        work.note(
            "did release",
            one.number,
            before={"account": ended.account_code, "to": None},
            after={"account": ended.account_code, "to": ended.valid_to},
        )
    show_record(session, {"number": one.number, **_period(ended)})


@did.command()
@click.argument("number")
@output_option
@pass_session
def history(session: Session, number: str) -> None:
    """Who has and had NUMBER, of those that you may see; the oldest first."""
    with session.transaction() as work:
        one = dids.find(work.cursor, work.viewer, _number(number))
        found = did_assignments.history(work.cursor, work.viewer, one.did_id)
    show_rows(session, ("account", "from", "to", "rings"), [_period(period) for period in found])
