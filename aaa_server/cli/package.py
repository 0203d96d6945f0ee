"""`sky-aaa package`: prepaid seconds for some prefixes, period by period."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import AMOUNT, CURRENCY, DAYS, WHEN
from aaa_server.rating.money import LARGEST
from aaa_server.rating.prefix import number_of
from aaa_server.storage import accounts, packages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aaa_server.cli.output import Row
    from aaa_server.storage.packages import Holding, Package

SECONDS_A_MINUTE = 60
SECONDS_MAX = 2**31 - 1
LIST_COLUMNS = (
    "name",
    "owner",
    "currency",
    "price",
    "seconds",
    "prefixes",
    "period",
    "valid_days",
    "priority",
    "status",
)


@click.group()
def package() -> None:
    """Packages: prepaid seconds for some prefixes, period by period."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `add` and `set` share."""
    for option in reversed(
        (
            click.option(
                "--minutes",
                type=click.IntRange(1, SECONDS_MAX // SECONDS_A_MINUTE),
                help="What one period gives.",
            ),
            click.option(
                "--seconds", type=click.IntRange(1, SECONDS_MAX), help="Instead of minutes."
            ),
            click.option("--price", type=AMOUNT, help="Of one period.  [default: 0]"),
            click.option(
                "--prefix",
                "prefixes",
                multiple=True,
                metavar="P",
                help="Only calls that begin so; several times. Without: every call.",
            ),
            click.option("--period", type=click.Choice(packages.PERIODS), help="[default: month]"),
            click.option(
                "--valid-days",
                type=DAYS,
                help="How long --period once lasts; 0: without end.",
            ),
            click.option(
                "--priority", type=int, help="Of several, the lower is used up first.  [default: 0]"
            ),
        )
    ):
        command = option(command)
    return command


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """What was said, by the names of `packages.Package`."""
    minutes, seconds = options["minutes"], options["seconds"]
    if minutes is not None and seconds is not None:
        raise BadData("say --minutes or --seconds, not both")
    given: dict[str, Any] = {}
    if minutes is not None or seconds is not None:
        given["seconds"] = seconds if minutes is None else minutes * SECONDS_A_MINUTE
    if options["price"] is not None:
        if not 0 <= options["price"] <= LARGEST:
            raise BadData("a price is not below 0")
        given["price_micros"] = options["price"]
    if options["prefixes"]:
        given["prefixes"] = _prefixes(options["prefixes"])
    if options["valid_days"] is not None:
        given["valid_days"] = options["valid_days"] or None
    for key in ("period", "priority"):
        if options[key] is not None:
            given[key] = options[key]
    return given


def _prefixes(texts: Sequence[str]) -> tuple[str, ...]:
    """In order, each once; '' alone, in `set`, is every number."""
    found = set()
    for text in texts:
        digits = number_of(text) if text else ""
        if text and not digits:
            raise click.BadParameter(f"{text!r} is no prefix: digits are", param_hint="--prefix")
        found.add(digits)
    return () if "" in found else tuple(sorted(found))


def _owner_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--owner", metavar="CODE", default="", help="Where several have one of this name."
    )(command)


@package.command()
@click.argument("name")
@click.option("--owner", metavar="CODE", help="Who sells it.  [default: who runs the command]")
@click.option("--currency", type=CURRENCY, help="[default: the owner's]")
@_options
@output_option
@pass_session
def add(
    session: Session, /, name: str, owner: str | None, currency: str | None, **options: Any
) -> None:
    """Offer package NAME to the owner's own accounts; `package grant` gives it to one."""
    given = _given(options)
    if "seconds" not in given:
        raise BadData("say how much one period gives: --minutes or --seconds")
    with session.transaction() as work:
        seller = accounts.find(work.cursor, work.viewer, owner or work.viewer.code)
        new = packages.NewPackage(
            name=name,
            owner_id=seller.account_id,
            currency=currency or seller.currency,
            **given,
        )
        made = packages.add(work.cursor, work.viewer, seller, new)
        record = _record(made)
        work.note("package add", name, after=dict(record), acting_as_id=seller.account_id)
    show_record(session, record)


def _record(one: Package) -> Row:
    return {
        "name": one.name,
        "owner": one.owner_code,
        "currency": one.currency,
        "price": amount(one.price_micros),
        "seconds": one.seconds,
        "prefixes": list(one.prefixes),
        "period": one.period,
        "valid_days": one.valid_days,
        "priority": one.priority,
        "status": "active" if one.active else "retired",
    }


@package.command("list")
@click.option("--retired", is_flag=True, help="Those that are not sold any more too.")
@output_option
@pass_session
def list_(session: Session, retired: bool) -> None:
    """The packages that you sell, those below you, and those that you may buy."""
    with session.transaction() as work:
        found = packages.list_packages(work.cursor, work.viewer)
    show_rows(session, LIST_COLUMNS, [_record(one) for one in found if one.active or retired])


@package.command()
@click.argument("name")
@_owner_option
@output_option
@pass_session
def show(session: Session, name: str, owner: str) -> None:
    """One package."""
    with session.transaction() as work:
        one = packages.find(work.cursor, work.viewer, name, owner=owner)
    show_record(session, _record(one))


@package.command("set")
@click.argument("name")
@_owner_option
@_options
@output_option
@pass_session
def set_(session: Session, /, name: str, owner: str, **options: Any) -> None:
    """Change package NAME for periods granted from now on. --prefix '' is every number."""
    given = _given(options)
    if not given:
        raise click.UsageError("nothing to change: name at least one option")
    if given.get("period", "once") != "once":
        given.setdefault("valid_days", None)
    _change(session, "package set", name, owner, given)


@package.command()
@click.argument("name")
@_owner_option
@output_option
@pass_session
def retire(session: Session, name: str, owner: str) -> None:
    """Sell package NAME no more; what was granted is used until it ends."""
    _change(session, "package retire", name, owner, {"active": False})


def _change(session: Session, action: str, name: str, owner: str, given: dict[str, Any]) -> None:
    with session.transaction() as work:
        before = packages.find(work.cursor, work.viewer, name, owner=owner)
        packages.change(work.cursor, work.viewer, before._replace(**given))
        after = packages.find(work.cursor, work.viewer, name, owner=before.owner_code)
        work.note(
            action,
            name,
            before=dict(_record(before)),
            after=dict(_record(after)),
            acting_as_id=before.owner_id,
        )
    show_record(session, _record(after))


@package.command()
@click.argument("code")
@click.argument("name")
@click.option("--from", "begin", type=WHEN, help="[default: now]")
@click.option("--to", "end", type=WHEN, help="Up to, not including.  [default: one period on]")
@click.option("--free", is_flag=True, help="Without its price.")
@output_option
@pass_session
def grant(
    session: Session, code: str, name: str, begin: datetime | None, end: datetime | None, free: bool
) -> None:
    """Give account CODE the seconds of one period of package NAME, and charge its price."""
    with session.transaction() as work:
        buyer = accounts.find(work.cursor, work.viewer, code)
        wanted = packages.find_for_account(work.cursor, work.viewer, name, buyer)
        granted = packages.grant(
            work.cursor,
            work.viewer,
            buyer,
            wanted,
            begin=begin or datetime.now(UTC),
            end=end,
            price_micros=0 if free else None,
        )
        record = {
            "code": code,
            "package": name,
            "valid_from": granted.valid_from,
            "valid_to": granted.valid_to,
            "seconds": granted.seconds,
            "price": amount(granted.price_micros),
            "balance": amount(granted.balance_micros),
            "currency": buyer.currency,
            "reference": granted.reference,
            "transaction_id": granted.transaction_id,
        }
        # The operator who sells to a reseller's account acts as that reseller.
        work.note("package grant", code, after=record, acting_as_id=wanted.owner_id)
    show_record(session, record)


@package.command()
@click.argument("code")
@click.option("--all", "ended", is_flag=True, help="Periods that have ended too.")
@output_option
@pass_session
def holdings(session: Session, code: str, ended: bool) -> None:
    """The package seconds of account CODE, in the order in which calls use them up."""
    with session.transaction() as work:
        one = accounts.find(work.cursor, work.viewer, code)
        at = None if ended else datetime.now(UTC)
        found = packages.holdings(work.cursor, one.account_id, at=at)
    columns = (
        "package",
        "prefixes",
        "priority",
        "valid_from",
        "valid_to",
        "granted",
        "used",
        "reserved",
        "left",
    )
    show_rows(session, columns, [_holding(held) for held in found])


def _holding(held: Holding) -> Row:
    return {
        "package": held.package,
        "prefixes": list(held.prefixes),
        "priority": held.priority,
        "valid_from": held.valid_from,
        "valid_to": held.valid_to,
        "granted": held.granted_seconds,
        "used": held.used_seconds,
        "reserved": held.reserved_seconds,
        "left": held.left_seconds,
    }
