"""Keeps prices, routes and exchange rates in memory, in step with the database.

Each batch reads the catalogue's revision with its locks. When it has moved, what is small
is read again on the spot; a price list of which many rows changed is read in slices on
another connection meanwhile, so that an import never stalls the answers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from aaa_server.charging.catalogue import (
    Attachment,
    Catalogue,
    Endpoint,
    RateGroup,
    ResourceGroup,
)
from aaa_server.charging.did import Assignment, Did
from aaa_server.charging.numbers import EVERYBODY, NumberRules, Rule, Scope
from aaa_server.rating.lcr import Quality
from aaa_server.rating.prefix import Prefixes
from aaa_server.rating.rate import Terms
from aaa_server.rating.tariff import Tariff
from aaa_server.storage import rate_bands, rates
from aaa_server.storage.database import Connection, DatabaseUnavailable

if TYPE_CHECKING:
    from datetime import datetime

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

log = Logger()

# More changed rows than this are not read within a batch: about 10 ms of Python.
CHANGES_AT_ONCE_MAX = 2000
# Rows a slice when many are read: 2 ms of Python, so that answers go out in between.
SLICE_ROWS = 400
# Until a list that could not be read is tried again.
AGAIN_SECONDS = 5.0

Rows = list[tuple[Any, ...]]
Execute = Callable[[str, Any], Awaitable[Rows]]

_TARIFFS = "SELECT tariff_id, currency, revision FROM tariff"
_REVISION = """
SELECT catalogue.revision,
       coalesce(account.account_id, 0),
       coalesce(account.currency, 'USD')
  FROM catalogue
  LEFT JOIN account ON account.kind = 'admin'"""
# What comes in from a suspended or closed account is still its own, and refused: nobody else,
# whose endpoint is wider, is to pay for it.
_RESOURCE_GROUPS = """
SELECT resource_group.resource_group_id,
       resource_group.name,
       direction,
       resource_group.account_id,
       tariff_id,
       gateway,
       max_calls,
       resource_group.calls_per_second,
       precedence,
       strip,
       prepend,
       resource_group.status = 'active'
       AND (direction = 'in' OR account.status = 'active'),
       account.currency
  FROM resource_group
  JOIN account ON account.account_id = resource_group.account_id"""
_RATE_GROUPS = """
SELECT rate_group_id,
       name,
       tariff_id,
       strategy,
       markup_ppm,
       on_net_per_minute_nanos,
       initial_seconds,
       increment_seconds,
       minimum_margin_ppm
  FROM rate_group"""
_ROUTES = """
SELECT rate_group_id,
       resource_group_id,
       priority,
       weight
  FROM rate_group_route
 ORDER BY rate_group_id, priority, resource_group_id"""
_QUALITIES = """
SELECT resource_group_id,
       attempts,
       answered,
       talk_seconds
  FROM route_quality"""
_ENDPOINTS = """
SELECT resource_group_id,
       network::text,
       port,
       tech_prefix
  FROM resource_group_endpoint
 ORDER BY resource_group_id"""
_EXCHANGES = """
SELECT from_currency,
       to_currency,
       effective_from,
       rate_e10
  FROM exchange_rate
 ORDER BY from_currency, to_currency, effective_from"""

_DIDS = """
SELECT did.did_id,
       did.number,
       did.provider_id,
       account.currency,
       did.access,
       did.status = 'active',
       did.status = 'retired',
       did.per_minute_nanos,
       did.connect_fee_micros,
       did.included_seconds,
       did.initial_seconds,
       did.increment_seconds
  FROM did
  JOIN account ON account.account_id = did.provider_id
 WHERE did.revision > %s"""
_DID_PRICES = """
SELECT did_id,
       did_price.account_id,
       did_price.per_minute_nanos,
       did_price.connect_fee_micros,
       did_price.included_seconds,
       did_price.initial_seconds,
       did_price.increment_seconds
  FROM did_price
  JOIN did USING (did_id)
 WHERE did.revision > %s"""
# Those that ended long ago are of no call any more.
_DID_ASSIGNMENTS = """
SELECT did_id,
       did_assignment.account_id,
       valid_from,
       valid_to,
       destination_kind,
       destination,
       payers.active,
       payers.expires_at
  FROM did_assignment
  JOIN did USING (did_id)
  JOIN account AS owner ON owner.account_id = did_assignment.account_id
 CROSS JOIN LATERAL (
       SELECT bool_and(payer.status = 'active') AS active,
              min(payer.expires_at) AS expires_at
         FROM account AS payer
        WHERE payer.account_id = ANY (owner.chain)) AS payers
 WHERE did.revision > %s
   AND (valid_to IS NULL OR valid_to > now() - interval '35 days')
 ORDER BY did_id, valid_from"""
_NUMBER_RULES = """
SELECT field,
       client_id,
       resource_group_id,
       account_id,
       prefix,
       min_digits,
       max_digits,
       action = 'block',
       strip,
       prepend,
       note
  FROM number_rule
 ORDER BY position, number_rule_id"""
_EMERGENCY_NUMBERS = """
SELECT number,
       resource_group_id
  FROM emergency_number"""


class CatalogueHolder:
    """The catalogue as of the last look, and the tariffs that are still being read."""

    def __init__(
        self,
        background: Connection | None = None,
        clock: IReactorTime | None = None,
        *,
        prefixes: Collection[str] | None = None,
    ) -> None:
        """Without a `background` connection, and its clock, every change is read on the spot.

        `prefixes`: read the rate rows of these alone, and of all times. That is for a look
        at one number; a server holds all prefixes, without what has ended long ago.
        """
        self._background = background
        self._clock = clock
        self._prefixes = prefixes
        self._held: Catalogue | None = None
        self._tariffs: dict[int, Tariff] = {}
        self._all_prefixes = Prefixes()
        self._behind: set[int] = set()
        self._catching_up: Deferred[None] | None = None
        # How often what was being read beside was given up, and how many of these `held` knows.
        self._given_up = 0
        self._given_up_before = 0
        self._dids_revision = -1

    @property
    def held(self) -> Catalogue:
        assert self._held is not None, "refresh comes first"
        return self._held

    @property
    def revision(self) -> int:
        """The revision held; 0 when all is to be looked at again."""
        if self._held is None or self._given_up != self._given_up_before:
            return 0
        return self._held.revision

    async def refresh(self, execute: Execute) -> None:
        """Read all that is not rate rows again, and of those what is new.

        The revision is read first and what others point at last: a change meanwhile can
        only show as one more look, never as a row that points at nothing. What was read
        counts when all was: a refresh that fails is made again whole.
        """
        first = self._held is None
        given_up = self._given_up
        [(revision, admin_id, admin_currency)] = await execute(_REVISION, None)
        exchanges = _exchanges(await execute(_EXCHANGES, None))
        routes = await execute(_ROUTES, None)
        qualities = {row[0]: Quality(*row[1:]) for row in await execute(_QUALITIES, None)}
        endpoints = await execute(_ENDPOINTS, None)
        rate_groups = await execute(_RATE_GROUPS, None)
        resource_groups = await execute(_RESOURCE_GROUPS, None)
        since = self._dids_revision
        dids = _with_changes(
            {} if self._held is None else self._held.dids,
            await execute(_DIDS, [since]),
            await execute(_DID_PRICES, [since]),
            await execute(_DID_ASSIGNMENTS, [since]),
        )
        number_rules = _number_rules(await execute(_NUMBER_RULES, None))
        emergency: dict[str, int | None] = dict(await execute(_EMERGENCY_NUMBERS, None))
        for tariff_id, currency, changed in await execute(_TARIFFS, None):
            await self._follow(execute, tariff_id, currency, changed, at_once=first)
        bands = rate_bands.bands_by_tariff(
            await execute(rate_bands.WINDOWS, None), await execute(rate_bands.HOLIDAYS, None)
        )
        for tariff in self._tariffs.values():
            tariff.use_bands(bands.get(tariff.tariff_id))
        groups = {
            row[0]: ResourceGroup(*(*row[:4], self._tariffs.get(row[4]), *row[5:]))
            for row in resource_groups
        }
        self._held = Catalogue(
            revision=revision,
            admin_id=admin_id,
            admin_currency=admin_currency,
            rate_groups=self._rate_groups(rate_groups, routes, groups),
            resource_groups=groups,
            endpoints=tuple(
                [
                    Endpoint(groups[group_id], ipaddress.ip_network(network), port, tech_prefix)
                    for group_id, network, port, tech_prefix in endpoints
                ]
            ),
            exchanges=exchanges,
            dids=dids,
            number_rules=number_rules,
            emergency=emergency,
            qualities=qualities,
            prefixes=self._all_prefixes,
        )
        # Later changes of DIDs may have been read too: they are read once more, then.
        self._dids_revision = revision
        self._given_up_before = given_up

    async def _follow(
        self, execute: Execute, tariff_id: int, currency: str, changed: int, *, at_once: bool
    ) -> None:
        tariff = self._tariffs.get(tariff_id)
        if tariff is None:
            tariff = self._tariffs[tariff_id] = Tariff(
                tariff_id, currency, prefixes=self._all_prefixes
            )
        if tariff.revision == changed or tariff_id in self._behind:
            return
        if self._prefixes is not None:
            rows = await execute(*rates.rates_of_prefixes(tariff_id, self._prefixes))
            rates.apply_rows(tariff, rows)
            tariff.revision = changed
            return
        limit = None if at_once or self._background is None else CHANGES_AT_ONCE_MAX
        if limit is not None:
            count = await execute(*rates.changes_count(tariff_id, tariff.revision, limit + 1))
            if count[0][0] > limit:
                self._behind.add(tariff_id)
                self._catch_up()
                return
        slice_rows = rates.LOAD_ROWS if at_once else SLICE_ROWS
        await _read(execute, tariff, changed, slice_rows)

    def _catch_up(self) -> None:
        if self._catching_up is None:
            self._catching_up = ensureDeferred(self._read_behind())

    async def _read_behind(self) -> None:
        try:
            while self._behind:
                for tariff_id in sorted(self._behind):
                    await self._read_beside(self._tariffs[tariff_id])
        except DatabaseUnavailable:
            # Looked at again with the next batch that finds a database.
            self._behind.clear()
            self._given_up += 1
        finally:
            self._catching_up = None

    async def _read_beside(self, tariff: Tariff) -> None:
        assert self._background is not None
        assert self._clock is not None
        execute = self._background.execute
        try:
            [(changed,)] = await execute(
                "SELECT revision FROM tariff WHERE tariff_id = %s", [tariff.tariff_id]
            )
            if changed == tariff.revision:
                self._behind.discard(tariff.tariff_id)
            else:
                await _read(execute, tariff, changed, SLICE_ROWS)
        except DatabaseUnavailable:
            raise
        except Exception:  # noqa: BLE001 - whatever stopped it, old prices must not stay
            log.failure("Price list {id} is old and will be read again", id=tariff.tariff_id)
            await deferLater(self._clock, AGAIN_SECONDS)

    def _rate_groups(
        self, rows: Rows, routes: Rows, groups: dict[int, ResourceGroup]
    ) -> dict[int, RateGroup]:
        attached: dict[int, list[Attachment]] = {}
        for rate_group_id, group_id, priority, weight in routes:
            attachment = Attachment(groups[group_id], priority, weight)
            attached.setdefault(rate_group_id, []).append(attachment)
        return {
            rate_group_id: RateGroup(
                rate_group_id,
                name,
                self._tariffs[tariff_id],
                strategy,
                markup_ppm,
                tuple(attached.get(rate_group_id, ())),
                None if on_net is None else Terms(on_net, 0, 0, initial, increment),
                minimum_margin,
            )
            for (
                rate_group_id,
                name,
                tariff_id,
                strategy,
                markup_ppm,
                on_net,
                initial,
                increment,
                minimum_margin,
            ) in rows
        }


async def _read(execute: Execute, tariff: Tariff, changed: int, slice_rows: int) -> None:
    """Bring `tariff` to revision `changed`, a slice at a time."""
    after: rates.Key | None = None
    while True:
        rows = await execute(
            *rates.rates_since(tariff.tariff_id, tariff.revision, after=after, limit=slice_rows)
        )
        if not rows:
            break
        after = rates.apply_rows(tariff, rows)
    tariff.revision = changed


def _with_changes(
    held: dict[str, Did], rows: Rows, price_rows: Rows, assignment_rows: Rows
) -> dict[str, Did]:
    """The numbers of the inventory, those of `rows` as they are now."""
    if not rows:
        return held
    prices: dict[int, dict[int, Terms]] = {}
    for did_id, account_id, *terms in price_rows:
        prices.setdefault(did_id, {})[account_id] = Terms(*terms)
    assignments: dict[int, list[Assignment]] = {}
    for did_id, *assignment in assignment_rows:
        assignments.setdefault(did_id, []).append(Assignment(*assignment))
    dids = dict(held)
    for did_id, number, provider_id, currency, access, active, retired, *terms in rows:
        if retired:
            dids.pop(number, None)
            continue
        dids[number] = Did(
            number,
            provider_id,
            currency,
            access,
            active,
            Terms(*terms),
            prices.get(did_id, {}),
            tuple(assignments.get(did_id, ())),
        )
    return dids


def _number_rules(rows: Rows) -> NumberRules:
    rules = NumberRules({}, {})
    for field, client_id, group_id, account_id, *rule in rows:
        scope: Scope = EVERYBODY
        if client_id is not None:
            scope = ("client", client_id)
        elif group_id is not None:
            scope = ("resource-group", group_id)
        elif account_id is not None:
            scope = ("account", account_id)
        of_field = rules.called if field == "called" else rules.caller
        of_field[scope] = (*of_field.get(scope, ()), Rule(*rule))
    return rules


def _exchanges(rows: Rows) -> dict[tuple[str, str], tuple[list[datetime], list[int]]]:
    exchanges: dict[tuple[str, str], tuple[list[datetime], list[int]]] = {}
    for source, target, effective_from, rate_e10 in rows:
        instants, values = exchanges.setdefault((source, target), ([], []))
        instants.append(effective_from)
        values.append(rate_e10)
    return exchanges
