"""Which price list a command means, and what its times and empty cells mean there."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import click

from aaa_server.cli.values import RESOURCE_GROUP
from aaa_server.rate_file import Defaults
from aaa_server.storage import accounts, currencies, rate_bands, rate_groups, resource_groups
from aaa_server.storage.problem import NotFound
from aaa_server.storage.viewer import require_operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.context import Work
    from aaa_server.storage.rate_groups import RateGroup


class Choice(NamedTuple):
    """What the options say."""

    rate_group: str | None
    owner: str
    resource_group: str | None
    account: str | None


class PriceList(NamedTuple):
    """A tariff, whose it is, and what holds where nothing is said.

    `account_id` 0: everybody's rows; else the account's own ones within the list.
    """

    name: str  # "retail", "RG_21"
    tariff_id: int
    currency: str
    account_id: int
    account_code: str
    markup_ppm: int
    defaults: Defaults


def price_list_options(command: Callable[..., None]) -> Callable[..., None]:
    """--rate-group and its companions, which arrive as one `Choice` named `choice`."""

    @functools.wraps(command)
    def gather(**options: Any) -> None:
        choice = Choice(
            options.pop("rate_group"),
            options.pop("owner"),
            options.pop("resource_group"),
            options.pop("account"),
        )
        command(choice=choice, **options)

    with_options: Callable[..., None] = gather
    for option in (
        click.option("--account", metavar="CODE", help="The account's own rows within the list."),
        click.option("--resource-group", type=RESOURCE_GROUP, help="The provider's prices there."),
        click.option("--owner", metavar="CODE", default="", help="Of the rate group, if several."),
        click.option("--rate-group", metavar="NAME", help="The price list NAME."),
    ):
        with_options = option(with_options)
    return with_options


def find(work: Work, choice: Choice, *, change: bool) -> PriceList:
    """The list that `choice` means; `change`: the viewer must be allowed to set its prices.

    An account alone means the list that the account pays by, and is for looking only.
    """
    if choice.resource_group is not None:
        if choice.rate_group is not None or choice.account is not None:
            raise click.UsageError("--resource-group stands alone")
        return _of_resource_group(work, choice.resource_group)
    if choice.rate_group is None and (choice.account is None or change):
        raise click.UsageError("which price list? --rate-group NAME or --resource-group RG_xx")
    account = None
    if choice.account is not None:
        account = accounts.find(work.cursor, work.viewer, choice.account)
    if choice.rate_group is not None:
        group = rate_groups.find(work.cursor, work.viewer, choice.rate_group, owner=choice.owner)
    else:
        assert account is not None
        group = _group_of(work, account)
    if change:
        rate_groups.require_change(work.viewer, group)
    if account is not None and account.rate_group_id != group.rate_group_id:
        click.echo(
            f"note: {account.code} does not pay by {group.name}, so these rows price none of its "
            "calls",
            err=True,
        )
    return PriceList(
        group.name,
        group.tariff_id,
        group.currency,
        0 if account is None else account.account_id,
        "" if account is None else account.code,
        group.markup_ppm,
        Defaults(
            group.initial_seconds,
            group.increment_seconds,
            group.time_zone,
            _bands(work, group.tariff_id),
            _routes(work),
            currencies.price_nanos_max(work.cursor, group.currency),
        ),
    )


def _of_resource_group(work: Work, name: str) -> PriceList:
    require_operator(work.viewer, "termination rates")
    group = resource_groups.find(work.cursor, work.viewer, name)
    if group.tariff_id is None:
        raise NotFound(f"{name} is an inbound resource group: only outbound ones have prices")
    defaults = Defaults(
        time_zone=group.time_zone,
        bands=_bands(work, group.tariff_id),
        price_nanos_max=currencies.price_nanos_max(work.cursor, group.currency),
    )
    return PriceList(name, group.tariff_id, group.currency, 0, "", 0, defaults)


def _bands(work: Work, tariff_id: int) -> frozenset[str]:
    return frozenset(window.band for window in rate_bands.list_windows(work.cursor, tariff_id))


def _routes(work: Work) -> dict[str, int]:
    """What rows of a rate group can force their calls over; nobody but the operator sees any."""
    return {
        group.name: group.resource_group_id
        for group in resource_groups.list_resource_groups(work.cursor, work.viewer)
        if group.direction == "out"
    }


def _group_of(work: Work, account: accounts.Account) -> RateGroup:
    for group in rate_groups.list_rate_groups(work.cursor, work.viewer):
        if group.rate_group_id == account.rate_group_id:
            return group
    raise NotFound(
        f"{account.code} has no rate group: `sky-aaa account set {account.code} --rate-group NAME`"
    )


def instant(text: str | None, prices: PriceList, option: str) -> datetime:
    """What --from, --effective, --at say; without a zone it is the list's. None is now."""
    if text is None or text == "now":
        return datetime.now(UTC).replace(microsecond=0)
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=ZoneInfo(prices.defaults.time_zone))
        return when.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is no instant: 2026-11-22, 2026-11-22T18:30 (both in the list's time zone, "
            f"{prices.defaults.time_zone}), 2026-11-22T18:30:00Z are, and now",
            param_hint=option,
        ) from error
