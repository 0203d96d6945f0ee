"""Whose call is it? Four rules, tried in order; the first that applies decides.

A call from outside to a number of ours (a DID) is its owner's, whatever else is said. Else:

1. the account code that the script or NAS gave (unknown: refused, no falling through),
2. the extension, 3. the caller's number (ANI), 4. the inbound resource group, by its
name or by where the call comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aaa_server.charging.requests import Origin, Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from aaa_server.charging.ledger import Ledger


@dataclass(init=False)
class Found:
    """The account and the rule that found it (did, argument, extension, ani, resource-group)."""

    account_id: int
    found_by: str

    def __init__(self, account_id: int, found_by: str) -> None:
        self.account_id = account_id
        self.found_by = found_by


def by_argument(origin: Origin, _called: str, ledger: Ledger) -> Found | Refused | None:
    """The account code given; one that equals the ANI and is nobody's was not given."""
    code = origin.account_code
    if not code:
        return None
    account_id = ledger.codes.get(code)
    if account_id is not None:
        return Found(account_id, "argument")
    if "@" in code:
        found = by_address(code, ledger)
        if found is not None:
            return found
    if code == origin.ani:  # the switch fills User-Name with the caller's number by default
        return None
    return Refused(Refusal.INVALID_ACCOUNT, f"account {code} does not exist")


def by_address(address: str, ledger: Ledger) -> Found | None:
    """`alice@sip.example`, as SIP proxies name callers: that extension, else the code `alice`."""
    user, _, domain = address.partition("@")
    found = by_extension(Origin(extension=user, domain=domain), "", ledger)
    if found is None and user in ledger.codes:
        return Found(ledger.codes[user], "argument")
    return found


def by_extension(origin: Origin, _called: str, ledger: Ledger) -> Found | None:
    """The extension of that domain, else the one that is mapped for every domain."""
    if not origin.extension:
        return None
    account_id = ledger.extensions.get((origin.extension, origin.domain))
    if account_id is None:
        account_id = ledger.extensions.get((origin.extension, ""))
    return None if account_id is None else Found(account_id, "extension")


def by_ani(origin: Origin, _called: str, ledger: Ledger) -> Found | None:
    """The caller's number."""
    account_id = ledger.anis.get(origin.ani) if origin.ani else None
    return None if account_id is None else Found(account_id, "ani")


def by_resource_group(origin: Origin, called: str, ledger: Ledger) -> Found | None:
    """The inbound resource group named, else the one of the call's source and tech prefix."""
    inbound = ledger.catalogue.inbound(origin, called)
    return None if inbound is None else Found(inbound.group.account_id, "resource-group")


# The order is the precedence.
RESOLVERS: tuple[Callable[[Origin, str, Ledger], Found | Refused | None], ...] = (
    by_argument,
    by_extension,
    by_ani,
    by_resource_group,
)


def whose(origin: Origin, called: str, ledger: Ledger, at: datetime) -> Found | Refused:
    """The account that `origin` names, or why there is none.

    `at` decides whose a DID is; nothing else changes with time.
    """
    if origin.did:
        return _owner(origin.did, ledger, at)
    for resolve in RESOLVERS:
        found = resolve(origin, called, ledger)
        if found is not None:
            return found
    return Refused(
        Refusal.INVALID_ACCOUNT,
        "no account: no code was given, and no extension, caller or resource group matches",
    )


def _owner(number: str, ledger: Ledger, at: datetime) -> Found | Refused:
    did = ledger.catalogue.dids.get(number)
    if did is None:
        return Refused(Refusal.NO_ROUTE, "the number called is none of ours")
    assignment = did.assigned(at)
    if assignment is None:
        return Refused(Refusal.NO_ROUTE, "the number called is nobody's at present")
    return Found(assignment.account_id, "did")
