"""Writes what a batch changed: one statement a table, all rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aaa_server.charging.call import NEW, Call, CallKey, levels_text, offers_text
from aaa_server.charging.settle import NO_AUTHORIZATION, RERATED, ROUTE_ASSUMED
from aaa_server.storage.arrays import (
    ALWAYS,
    array,
    bounds,
    json_list,
    lists_array,
    text_array,
    time_array,
    time_literal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.charging.ledger import Account, GroupUse, Ledger, Nonce
    from aaa_server.charging.meter import Meters
    from aaa_server.storage.identifiers import Identifiers


def statements_for(ledger: Ledger, identifiers: Identifiers) -> list[str]:
    """The EXECUTEs that write what the batch changed, in an order that finds its rows.

    Each fails with SQLSTATE SKY01 where a row is not as the batch was decided on.
    """
    statements = _prove(ledger) if ledger.from_memory else []
    new = [call for call in ledger.opened.values() if call.version == NEW]
    if new:
        statements.append(_write_calls("insert_calls", new))
    if len(new) < len(ledger.opened):
        again = [call for call in ledger.opened.values() if call.version != NEW]
        statements.append(_write_calls("rewrite_calls", again))
    # An attempt that was refused, and perhaps closed, before it was asked for again.
    reopened = [call for call in ledger.opened.values() if call.recorded or call.version != NEW]
    if reopened:
        statements.append(_reopen_cdrs(reopened))
    going_on = [call for call in ledger.touched.values() if not call.ended]
    if going_on:
        statements.append(_touch_calls(going_on, ledger))
    ended: list[Call] = []
    corrected = dict(ledger.corrected)
    for call in ledger.touched.values():
        if call.ended:
            if call.recorded and call.key not in ledger.opened:
                corrected[call.call_id] = call
            else:
                ended.append(call)
    if ended:
        statements.append(_end_calls(ended, ledger))
    if corrected:
        statements.append(_correct_cdrs(list(corrected.values())))
    if ledger.charges:
        statements.append(_write_charges(ledger))
    if ledger.transactions:
        statements += _write_ledger(ledger, identifiers)
    if ledger.profiles:
        statements.append(_write_profiles(ledger))
    accounts = [(key, row) for key, row in ledger.accounts.items() if row.changed]
    if accounts:
        statements.append(_write_accounts(accounts))
    uses = [(key, row) for key, row in ledger.group_uses.items() if row.changed]
    if uses:
        statements.append(_write_groups(uses))
    if ledger.meters is not None:
        statements += _write_meters(ledger.meters)
    if ledger.events:
        statements.append(_write_events(ledger))
    nonces = [item for item in ledger.nonces.items() if item[1].changed]
    if nonces:
        statements.append(_write_nonces(nonces))
    if ledger.registered:
        anis = ledger.registered
        statements.append(_execute("write_anis", text_array(anis), array(anis.values())))
    return statements


def _execute(name: str, *arrays: str) -> str:
    return f"EXECUTE {name} ({', '.join(arrays)})"


def _write_calls(statement: str, calls: list[Call]) -> str:
    # A call that ended within its batch is written as it was, and ended by the next statement.
    return _execute(
        statement,
        array([call.client_id for call in calls]),
        text_array([call.session_key for call in calls]),
        array([call.call_id for call in calls]),
        text_array(["started" if call.ended else call.status for call in calls]),
        array([call.account_id for call in calls]),
        lists_array([call.party for call in calls]),
        lists_array([call.reserved for call in calls]),
        json_list([levels_text(call.levels) for call in calls]),
        json_list([offers_text(call.offers) for call in calls]),
        _sparse(array, [call.resource_group_in_id for call in calls]),
        array([call.resource_group_out_id for call in calls]),
        array([call.granted_seconds for call in calls]),
        _sparse(array, [call.last_seconds for call in calls]),
        time_array([call.expires_at for call in calls]),
        time_array([call.authorized_at for call in calls]),
        _sparse(time_array, [call.started_at for call in calls]),
        text_array([call.found_by for call in calls]),
        text_array([call.ani for call in calls]),
        text_array([call.called for call in calls]),
        text_array([call.nas_address for call in calls]),
        text_array([call.sip_call_id for call in calls]),
        _sparse(text_array, [call.refusal for call in calls]),
        array([call.next_version for call in calls]),
    )


def _sparse(literal_of: Callable[[list[Any]], str], values: list[Any]) -> str:
    """A column that is mostly NULL: unnest() puts NULL where one of its arrays has no more."""
    return "'{}'" if values.count(None) == len(values) else literal_of(values)


def _version(call: Call, ledger: Ledger) -> int:
    """The version that the call's row has by the time it is touched or ended."""
    return call.next_version if call.key in ledger.opened else call.version


def _touch_calls(calls: list[Call], ledger: Ledger) -> str:
    return _execute(
        "touch_calls",
        array([call.client_id for call in calls]),
        text_array([call.session_key for call in calls]),
        array([call.granted_seconds for call in calls]),
        array([call.last_seconds for call in calls]),
        array([call.step for call in calls]),
        array([call.step_seconds for call in calls]),
        time_array([call.expires_at for call in calls]),
        time_array([call.started_at for call in calls]),
        lists_array([call.reserved for call in calls]),
        array([_version(call, ledger) for call in calls]),
        text_array([levels_text(call.levels) if _has_shares(call) else None for call in calls]),
    )


def _has_shares(call: Call) -> bool:
    """Whether packages or limits change with the call, which its levels then tell."""
    return any(level.shares for level in call.levels)


def _repriced(call: Call) -> bool:
    """Whether the levels of a record that is corrected may be others than are on it."""
    return _has_shares(call) or RERATED in call.flags


def _rated_late(call: Call) -> bool:
    """Whether the levels at the end are not those on the call's row."""
    return NO_AUTHORIZATION in call.flags or _has_shares(call)


def _routed_late(call: Call) -> bool:
    """Whether routes may have been found at the end, and not be on the call's row."""
    flags = call.flags
    return NO_AUTHORIZATION in flags or ROUTE_ASSUMED in flags or RERATED in flags


def _end_calls(calls: list[Call], ledger: Ledger) -> str:
    return _execute(
        "end_calls",
        array([call.client_id for call in calls]),
        text_array([call.session_key for call in calls]),
        text_array([levels_text(call.levels) if _rated_late(call) else None for call in calls]),
        text_array([offers_text(call.offers) if _routed_late(call) else None for call in calls]),
        time_array([call.ended_at for call in calls]),
        text_array([call.ended_by for call in calls]),
        array([call.duration_ms for call in calls]),
        array([call.seconds for call in calls]),
        text_array([call.cause for call in calls]),
        array([call.resource_group_out_id for call in calls]),
        array([call.postings for call in calls]),
        lists_array([call.flags for call in calls]),
        array([_version(call, ledger) for call in calls]),
        array([call.granted_seconds for call in calls]),
        time_array([call.started_at for call in calls]),
    )


def _reopen_cdrs(calls: list[Call]) -> str:
    # Where a record was read its month is not known any more; else there is hardly ever one.
    recorded = any(call.recorded for call in calls)
    return _execute(
        "reopen_cdrs",
        array([call.call_id for call in calls]),
        time_array([call.authorized_at for call in calls]),
        *(ALWAYS if recorded else bounds([call.authorized_at for call in calls])),
    )


def _correct_cdrs(calls: list[Call]) -> str:
    authorized = [call.authorized_at for call in calls]
    return _execute(
        "correct_cdrs",
        array([call.call_id for call in calls]),
        array([call.duration_ms for call in calls]),
        array([call.seconds for call in calls]),
        text_array([call.cause for call in calls]),
        array([call.resource_group_out_id for call in calls]),
        text_array([offers_text(call.offers) if _routed_late(call) else None for call in calls]),
        array([call.postings for call in calls]),
        lists_array([call.flags for call in calls]),
        text_array([levels_text(call.levels) if _repriced(call) else None for call in calls]),
        time_array(authorized),
        time_literal(min(authorized)),
        time_literal(max(authorized)),
    )


def _write_charges(ledger: Ledger) -> str:
    charges = ledger.charges
    return _execute(
        "write_charges",
        array([charge.call_id for charge in charges]),
        array([charge.level for charge in charges]),
        array([charge.number for charge in charges]),
        array([charge.account_id for charge in charges]),
        text_array([charge.currency for charge in charges]),
        array([charge.amount_micros for charge in charges]),
        array([charge.billed_seconds for charge in charges]),
        array([charge.rate_id for charge in charges]),
        text_array([charge.prefix for charge in charges]),
        array([charge.exchange_e10 for charge in charges]),
        array([charge.package_seconds for charge in charges]),
    )


def _write_profiles(ledger: Ledger) -> str:
    profiles = ledger.profiles.values()
    return _execute(
        "write_profiles",
        array([profile.account_id for profile in profiles]),
        array([profile.pin_failures for profile in profiles]),
        time_array([profile.locked_until for profile in profiles]),
        time_array([profile.first_used_at for profile in profiles]),
        time_array([profile.expires_at for profile in profiles]),
        array([profile.revision for profile in profiles]),
    )


def _write_meters(meters: Meters) -> list[str]:
    statements = []
    holdings = [holding for holding in meters.holdings.values() if holding.changed]
    if holdings:
        statements.append(
            _execute(
                "write_holdings",
                array([holding.holding_id for holding in holdings]),
                array([holding.used_seconds for holding in holdings]),
                array([holding.reserved_seconds for holding in holdings]),
            )
        )
    uses = [use for use in meters.uses.values() if use.changed]
    if uses:
        statements.append(
            _execute(
                "write_uses",
                array([use.limit_id for use in uses]),
                array([use.period for use in uses]),
                array([use.amount for use in uses]),
                array([int(use.alerted) for use in uses]),
            )
        )
    return statements


def _write_nonces(nonces: list[tuple[bytes, Nonce]]) -> str:
    return _execute(
        "write_nonces",
        text_array([nonce_hash.hex() for nonce_hash, _ in nonces]),
        array([nonce.account_id for _, nonce in nonces]),
        array([nonce.last_count for _, nonce in nonces]),
        text_array([nonce.last_response for _, nonce in nonces]),
        time_array([nonce.seen_at for _, nonce in nonces]),
    )


def _write_events(ledger: Ledger) -> str:
    events = ledger.events
    return _execute(
        "write_events",
        array([event.account_id for event in events]),
        text_array([event.kind for event in events]),
        text_array([event.detail for event in events]),
    )


def _write_ledger(ledger: Ledger, identifiers: Identifiers) -> list[str]:
    ids = {transaction.reference: next(identifiers) for transaction in ledger.transactions}
    postings = ledger.postings
    return [
        _execute(
            "write_transactions",
            array(ids.values()),
            text_array(ids),
            time_array([transaction.at for transaction in ledger.transactions]),
        ),
        _execute(
            "write_postings",
            array([ids[posting.reference] for posting in postings]),
            array([posting.position for posting in postings]),
            array([posting.account_id for posting in postings]),
            array([posting.amount_micros for posting in postings]),
            text_array([posting.currency for posting in postings]),
            array([posting.contra_account_id for posting in postings]),
            text_array([posting.contra_book for posting in postings]),
        ),
    ]


def _write_accounts(accounts: list[tuple[int, Account]]) -> str:
    return _execute(
        "write_accounts",
        array([account_id for account_id, _ in accounts]),
        array([account.balance_micros for _, account in accounts]),
        array([account.reserved_micros for _, account in accounts]),
        array([account.channels for _, account in accounts]),
        array([account.second_at for _, account in accounts]),
        array([account.second_calls for _, account in accounts]),
        *_columns([account.was for _, account in accounts]),
        array([account.profile.revision for _, account in accounts]),
    )


def _write_groups(uses: list[tuple[int, GroupUse]]) -> str:
    return _execute(
        "write_groups",
        array([group_id for group_id, _ in uses]),
        array([use.channels for _, use in uses]),
        array([use.second_at for _, use in uses]),
        array([use.second_calls for _, use in uses]),
        *_columns([use.was for _, use in uses]),
    )


def _prove(ledger: Ledger) -> list[str]:
    statements = [_execute("prove_catalogue", str(ledger.catalogue.revision))]
    # Nothing is decided by what a provider has, or by how busy a group without limits is; where
    # that changes, the row is proved when it is written.
    accounts = [
        (key, row)
        for key, row in ledger.accounts.items()
        if not row.changed and row.profile.kind != "provider"
    ]
    if accounts:
        statements.append(_prove_accounts(accounts))
    groups = ledger.catalogue.resource_groups
    uses = [
        (key, row)
        for key, row in ledger.group_uses.items()
        if not row.changed and groups[key].is_limited
    ]
    if uses:
        numbers = array([group_id for group_id, _ in uses])
        was = _columns([use.was for _, use in uses])
        statements.append(_execute("prove_groups", numbers, *was))
    new = [key for key, call in ledger.opened.items() if call.version == NEW]
    if new:
        statements.append(_prove_new(new, ledger))
    # What is touched proves itself; what is written whole would be a row again, had it ended.
    remembered = [
        call
        for key, call in ledger.calls.items()
        if call.version != NEW and (key in ledger.opened or key not in ledger.touched)
    ]
    if remembered:
        statements.append(_prove_calls(remembered))
    return statements


def _prove_accounts(accounts: list[tuple[int, Account]]) -> str:
    return _execute(
        "prove_accounts",
        array([account_id for account_id, _ in accounts]),
        *_columns([account.was for _, account in accounts]),
        array([account.profile.revision for _, account in accounts]),
    )


def _prove_new(keys: list[CallKey], ledger: Ledger) -> str:
    return _execute(
        "prove_new",
        array([client_id for client_id, _ in keys]),
        text_array([session_key for _, session_key in keys]),
        *bounds([ledger.opened[key].authorized_at for key in keys]),
    )


def _prove_calls(calls: list[Call]) -> str:
    return _execute(
        "prove_calls",
        array([call.client_id for call in calls]),
        text_array([call.session_key for call in calls]),
        array([call.version for call in calls]),
    )


def _columns(rows: list[tuple[int, ...]]) -> list[str]:
    """The columns of rows of numbers, as arrays."""
    return [array(column) for column in zip(*rows, strict=True)]
