"""`sky-aaa account`: providers, resellers and customers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import BadData, Failure, Session, Work, pass_session, who_types
from aaa_server.cli.output import amount, output_option, show_record, show_rows
from aaa_server.cli.values import (
    AMOUNT,
    COUNT,
    CREDIT,
    CURRENCY,
    DAYS,
    EXPIRY,
    FEE,
    LANGUAGE,
    THRESHOLD,
    TIME_ZONE,
    WHEN,
    read_secret,
)
from aaa_server.storage import accounts, payments, rate_groups
from aaa_server.storage.viewer import Deed, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from aaa_server.cli.output import Row
    from aaa_server.storage.accounts import Account
    from aaa_server.storage.payments import Statement

COLUMNS = (
    "code",
    "kind",
    "reseller",
    "name",
    "billing",
    "currency",
    "balance",
    "reserved",
    "available",
    "calls",
    "rate_group",
    "status",
)


@click.group()
def account() -> None:
    """Accounts: one party each, in a tree below the operator."""


def _profile_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `add` and `set` share."""
    for option in reversed(
        (
            click.option("--name", help="For people."),
            click.option("--email"),
            click.option("--prepaid/--postpaid", "prepaid", default=None),
            click.option("--credit-limit", type=CREDIT, help="How far below zero (postpaid)."),
            click.option("--rate-group", metavar="NAME", help="What its calls cost."),
            click.option("--max-channels", type=COUNT, help="Calls at once; 0: no limit."),
            click.option("--calls-per-second", type=COUNT, help="0: no limit."),
            click.option("--maximum-call-seconds", type=COUNT, help="0: as the client has it."),
            click.option("--expires", type=EXPIRY, metavar="WHEN", help="Or: never."),
            click.option("--valid-days", type=DAYS, help="From its first call on; 0: for ever."),
            click.option("--surcharge", type=FEE, help="A call, over a cards' access number."),
            click.option(
                "--low-balance", type=THRESHOLD, help="An event tells of less. Or: never."
            ),
            click.option("--language", type=LANGUAGE),
            click.option("--time-zone", type=TIME_ZONE),
            click.option(
                "--password-file", metavar="FILE", help="For PAP and CHAP; - is standard input."
            ),
            click.option(
                "--pin-file", metavar="FILE", help="A calling card's; - is standard input."
            ),
        )
    ):
        command = option(command)
    return command


@account.command()
@click.argument("code")
@click.option(
    "--kind",
    type=click.Choice(["customer", "reseller", "provider", "admin"]),
    default="customer",
    show_default=True,
)
@click.option("--parent", metavar="CODE", help="Its reseller.  [default: who runs the command]")
@click.option("--currency", type=CURRENCY, help="[default: the parent's]")
@_profile_options
@output_option
@pass_session
def add(
    session: Session,
    /,
    code: str,
    kind: str,
    parent: str | None,
    currency: str | None,
    **options: Any,
) -> None:
    """Make account CODE; the code is what the switch sends."""
    secrets = _read_secrets(options)
    if kind == "admin":
        _add_admin(session, code, currency, options)
        return
    with session.transaction() as work:
        above = accounts.find(work.cursor, work.viewer, parent or work.viewer.code)
        require(work.viewer, Deed.ADD_BELOW, above.chain, above.code)
        new = _new_account(work, above, code, kind, currency, options)
        account_id = accounts.add(work.cursor, new)
        _set_secrets(session, work, account_id, secrets)
        made = accounts.find(work.cursor, work.viewer, code)
        # The operator who makes an account of a reseller's acts as that reseller.
        acting_as_id = above.account_id if work.viewer.is_operator else None
        work.note("account add", code, after=_audited(made), acting_as_id=acting_as_id)
    show_record(session, _record(made))


def _add_admin(session: Session, code: str, currency: str | None, options: dict[str, Any]) -> None:
    """The operator's own account: the one account that nobody can be logged in to make."""
    if session.as_code:
        raise Failure("the operator's account is not made with --as")
    if currency is None:
        raise BadData("say the operator's currency: --currency EUR. It cannot be changed later")
    from aaa_server.storage import viewer
    from aaa_server.storage.database import transaction

    with session.connection() as connection, transaction(connection) as cursor:
        new = accounts.NewAccount(
            code=code,
            kind="admin",
            parent_id=None,
            prepaid=False,
            currency=currency,
            name=options["name"] or "",
            email=options["email"] or "",
        )
        accounts.add(cursor, new)
        work = Work(cursor, viewer.operator(cursor), who_types())
        made = accounts.find(cursor, work.viewer, code)
        work.note("account add", code, after=_audited(made))
    show_record(session, _record(made))


def _new_account(
    work: Work,
    above: Account,
    code: str,
    kind: str,
    currency: str | None,
    options: dict[str, Any],
) -> accounts.NewAccount:
    prepaid = options["prepaid"]
    if prepaid is None:
        prepaid = kind != "provider" and not options["credit_limit"]
    group_id = None
    if options["rate_group"]:
        if kind == "provider":
            raise BadData("a provider has no rate group: its prices are its resource groups'")
        group_id = rate_groups.find_for_account(
            work.cursor, work.viewer, options["rate_group"], above.account_id
        ).rate_group_id
    return accounts.NewAccount(
        code=code,
        kind=kind,
        parent_id=above.account_id,
        prepaid=prepaid,
        currency=currency or above.currency,
        name=options["name"] or "",
        email=options["email"] or "",
        credit_limit_micros=options["credit_limit"] or 0,
        rate_group_id=group_id,
        max_channels=options["max_channels"] or 0,
        calls_per_second=options["calls_per_second"] or 0,
        maximum_call_seconds=options["maximum_call_seconds"] or None,
        expires_at=options["expires"],
        language=options["language"] or above.language,
        time_zone=options["time_zone"] or above.time_zone,
        valid_days=options["valid_days"] or None,
        surcharge_micros=options["surcharge"] or 0,
        low_balance_micros=options["low_balance"],
    )


def _read_secrets(options: dict[str, Any]) -> dict[str, bytes]:
    password = read_secret(options.pop("password_file"), "password")
    pin = read_secret(options.pop("pin_file"), "pin")
    if pin is not None and not pin.isdigit():
        raise click.BadParameter("a PIN is digits only", param_hint="--pin-file")
    return {
        name: secret
        for name, secret in (("password", password), ("pin", pin))
        if secret is not None
    }


def _set_secrets(session: Session, work: Work, account_id: int, secrets: dict[str, bytes]) -> None:
    if "password" in secrets:
        accounts.set_password(work.cursor, session.keyring, account_id, secrets["password"])
    if "pin" in secrets:
        accounts.set_pin(work.cursor, session.keyring, account_id, secrets["pin"])


@account.command("list")
@click.option("--kind", type=click.Choice(["customer", "reseller", "provider", "admin"]))
@click.option("--status", type=click.Choice(["active", "suspended", "closed"]))
@click.option("--parent", metavar="CODE", help="Only its direct accounts.")
@click.option("--search", metavar="TEXT", help="In code or name.")
@click.option("--cards", is_flag=True, help="Calling cards too; `cards list` has those.")
@click.option("--after", metavar="CODE", default="", help="Go on after this code.")
@click.option("--limit", type=click.IntRange(1, accounts.LIST_MAX), default=1000, show_default=True)
@output_option
@pass_session
def list_(
    session: Session,
    kind: str | None,
    status: str | None,
    parent: str | None,
    search: str | None,
    cards: bool,
    after: str,
    limit: int,
) -> None:
    """The accounts that you may see. Reseller 0: a direct account of the operator."""
    with session.transaction() as work:
        parent_id = None
        if parent is not None:
            parent_id = accounts.find(work.cursor, work.viewer, parent).account_id
        wanted = accounts.Filter(
            kind=kind or "",
            status=status or "",
            parent_id=parent_id,
            search=search or "",
            cards=cards,
            after=after,
            limit=limit,
        )
        found = accounts.list_accounts(work.cursor, work.viewer, wanted)
    show_rows(session, COLUMNS, [_row(one) for one in found])
    if len(found) == limit:
        click.echo(f"{limit} shown: go on with --after {found[-1].code}", err=True)


def _row(one: Account) -> Row:
    return {
        "code": one.code,
        "kind": one.kind,
        "reseller": one.reseller,
        "name": one.name,
        "billing": "prepaid" if one.prepaid else "postpaid",
        "currency": one.currency,
        "balance": amount(one.balance_micros),
        "reserved": amount(one.reserved_micros),
        "available": amount(one.available_micros),
        "calls": one.channels,
        "rate_group": one.rate_group,
        "status": one.status,
    }


def _record(one: Account) -> Row:
    return {
        **_row(one),
        "account_id": one.account_id,
        "email": one.email,
        "credit_limit": amount(one.credit_limit_micros),
        "max_channels": one.max_channels,
        "calls_per_second": one.calls_per_second,
        "maximum_call_seconds": one.maximum_call_seconds,
        "expires_at": one.expires_at,
        "valid_days": one.valid_days,
        "first_used_at": one.first_used_at,
        "surcharge": amount(one.surcharge_micros),
        "pin_failures": one.pin_failures,
        "locked_until": one.locked_until,
        "low_balance": None if one.low_balance_micros is None else amount(one.low_balance_micros),
        "language": one.language,
        "time_zone": one.time_zone,
        "created_at": one.created_at,
    }


def _audited(one: Account) -> dict[str, Any]:
    """What the audit log keeps: the profile, as amounts that people read; no secret, no cache."""
    record = dict(_record(one))
    for cache in ("balance", "reserved", "available", "calls"):
        del record[cache]
    for happened in ("first_used_at", "pin_failures", "locked_until"):
        del record[happened]
    return record


@account.command()
@click.argument("code")
@output_option
@pass_session
def show(session: Session, code: str) -> None:
    """All about one account."""
    with session.transaction() as work:
        one = accounts.find(work.cursor, work.viewer, code)
    show_record(session, _record(one))


@account.command("set")
@click.argument("code")
@_profile_options
@output_option
@pass_session
def set_(session: Session, /, code: str, **options: Any) -> None:
    """Change account CODE; what is not named stays. --rate-group '' takes the group away."""
    secrets = _read_secrets(options)
    given = {key: value for key, value in options.items() if value is not None}
    # "never" is a value that happens to be None.
    for name in ("expires", "low_balance"):
        source = click.get_current_context().get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            given[name] = options[name]
    if not given and not secrets:
        raise click.UsageError("nothing to change: name at least one option")
    with session.transaction() as work:
        before = accounts.find_to_change(
            work.cursor, work.viewer, code, standing="expires" in given
        )
        accounts.change(work.cursor, _changed(work, before, given))
        _set_secrets(session, work, before.account_id, secrets)
        after = accounts.find(work.cursor, work.viewer, code)
        marks = dict.fromkeys(secrets, "changed")
        work.note(
            "account set",
            code,
            before=_audited(before),
            after={**_audited(after), **marks},
        )
    show_record(session, _record(after))


def _changed(work: Work, before: Account, given: dict[str, Any]) -> Account:
    """`before` with the options in `given`."""
    renamed = {
        "credit_limit": "credit_limit_micros",
        "expires": "expires_at",
        "surcharge": "surcharge_micros",
        "low_balance": "low_balance_micros",
    }
    values = {renamed.get(key, key): value for key, value in given.items()}
    if "rate_group" in values:
        name = values.pop("rate_group")
        values["rate_group_id"] = None
        if name:
            if before.parent_id is None or before.kind == "provider":
                raise BadData(f"{before.code} is of kind {before.kind}: it has no rate group")
            values["rate_group_id"] = rate_groups.find_for_account(
                work.cursor, work.viewer, name, before.parent_id
            ).rate_group_id
    if "maximum_call_seconds" in values:
        values["maximum_call_seconds"] = values["maximum_call_seconds"] or None
    if "valid_days" in values:
        values["valid_days"] = values["valid_days"] or None
    if values.get("prepaid") and "credit_limit_micros" not in values:
        values["credit_limit_micros"] = 0
    return before._replace(**values)


def _status_command(name: str, status: str, text: str) -> None:
    @account.command(name, help=text)
    @click.argument("code")
    @output_option
    @pass_session
    def change_status(session: Session, code: str) -> None:
        with session.transaction() as work:
            before = accounts.find_to_change(work.cursor, work.viewer, code, standing=True)
            if before.kind == "admin":
                raise Failure(f"{code} is the operator's own account: it stays active")
            accounts.change(work.cursor, before._replace(status=status))
            after = accounts.find(work.cursor, work.viewer, code)
            work.note(f"account {name}", code, before=_audited(before), after=_audited(after))
        show_record(session, _record(after))
        if status == "closed" and after.balance_micros:
            left = f"{amount(after.balance_micros)} {after.currency}"
            click.echo(f"{code} is closed with a balance of {left}", err=True)


_status_command("suspend", "suspended", "No new calls for account CODE and all below it.")
_status_command("resume", "active", "Let account CODE call again.")
_status_command("close", "closed", "End account CODE; its records stay.")


@account.command("top-up")
@click.argument("code")
@click.argument("amount_", metavar="AMOUNT", type=AMOUNT)
@click.option("--reference", required=True, help="Unique: the same one again changes nothing.")
@click.option("--note", default="", help="For people.")
@output_option
@pass_session
def top_up(session: Session, code: str, amount_: int, reference: str, note: str) -> None:
    """Credit AMOUNT, which the account has paid, to account CODE."""
    with session.transaction() as work:
        before = accounts.find(work.cursor, work.viewer, code)
        paid = payments.top_up(
            work.cursor, work.viewer, code, amount_, reference=reference, note=note
        )
        if not paid.again:
            work.note(
                "account top-up",
                code,
                before={"balance": amount(paid.balance_micros - amount_)},
                after={
                    "balance": amount(paid.balance_micros),
                    "amount": amount(amount_),
                    "reference": paid.reference,
                },
            )
    if paid.again:
        click.echo(f"reference {paid.reference} was posted before: nothing was changed", err=True)
    show_record(
        session,
        {
            "code": code,
            "reference": paid.reference,
            "posted": not paid.again,
            "amount": amount(amount_),
            "balance": amount(paid.balance_micros),
            "currency": before.currency,
            "transaction_id": paid.transaction_id,
        },
    )


STATEMENT_COLUMNS = ("at", "kind", "reference", "note", "amount", "balance", "currency")
STATEMENT_SHOWN = 1000  # postings in a table of which nobody has said how many


@account.command()
@click.argument("code")
@click.option("--from", "begin", type=WHEN)
@click.option("--to", "end", type=WHEN, help="Up to, not including.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    help=f"The newest so many postings.  [default: all; {STATEMENT_SHOWN} in a table]",
)
@output_option
@pass_session
def statement(
    session: Session, code: str, begin: datetime | None, end: datetime | None, limit: int | None
) -> None:
    """The ledger of account CODE: the balance before, every posting, the balance after.

    The balance before and all amounts come to the balance after. Where --limit leaves older
    postings out, they are in the balance before, and the note says how many they are.
    """
    if limit is None and session.output == "table":
        limit = STATEMENT_SHOWN
    with session.transaction() as work:
        one = accounts.find(work.cursor, work.viewer, code)
        with payments.statement(
            work.cursor, one.account_id, begin=begin, end=end, limit=limit
        ) as told:
            show_rows(session, STATEMENT_COLUMNS, _statement_rows(told, one.currency, begin, end))
    if told.left_out:
        click.echo(
            f"{told.left_out} older postings are left out: --limit shows more, -o csv all", err=True
        )


def _statement_rows(
    told: Statement, currency: str, begin: datetime | None, end: datetime | None
) -> Iterator[Row]:
    balance_micros = told.opening_micros
    left_out = f"with {told.left_out} older postings, left out" if told.left_out else ""
    since = None if told.left_out else begin
    yield _statement_balance("opening balance", since, left_out, balance_micros, currency)
    for line in told.lines:
        balance_micros = line.balance_micros
        yield {
            "at": line.at,
            "kind": line.kind,
            "reference": line.reference,
            "note": line.note,
            "amount": amount(line.amount_micros),
            "balance": amount(balance_micros),
            "currency": line.currency,
        }
    yield _statement_balance("closing balance", end, "", balance_micros, currency)


def _statement_balance(
    kind: str, at: datetime | None, note: str, balance_micros: int, currency: str
) -> Row:
    return {
        "at": at,
        "kind": kind,
        "reference": "",
        "note": note,
        "amount": None,
        "balance": amount(balance_micros),
        "currency": currency,
    }
