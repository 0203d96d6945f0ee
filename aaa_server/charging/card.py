"""Calling cards: accounts that people get into with a PIN from any telephone.

Wrong PINs in a row lock the card, whichever call or server they come by; its time begins
to run with its first call; a caller's number may be registered to it, and is asked for no
PIN from then on.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aaa_server.charging.credential import check
from aaa_server.charging.digest import prove
from aaa_server.charging.ledger import Account, Event
from aaa_server.charging.requests import Authenticate, Authorize, Digest, Refusal, Refused
from aaa_server.rating.prefix import number_of

if TYPE_CHECKING:
    from aaa_server.charging.ledger import Ledger

ANIS_MAX = 5  # callers' numbers that one card knows


def check_credential(
    request: Authorize | Authenticate, account: Account, ledger: Ledger
) -> Refused | None:
    """None when the caller may go on; counts wrong PINs, and locks after too many.

    A digest is by the password, and has no part in this.
    """
    profile = account.profile
    credential = request.credential
    if isinstance(credential, Digest):
        return prove(credential, profile, request, ledger)
    if credential is not None and profile.locked_until is not None:
        if request.at < profile.locked_until:
            return Refused(Refusal.RETRIES, "too many wrong PINs: try again later")
        # The time is over: it may be tried as often again.
        profile = profile._replace(locked_until=None, pin_failures=0)
        ledger.change_profile(account, profile)
        profile = account.profile
    refused = check(credential, profile, trusted=request.trusted)
    if credential is None or profile.pin is None:
        return refused
    if refused is None:
        if profile.pin_failures:
            ledger.change_profile(account, profile._replace(pin_failures=0))
    elif refused.reason is Refusal.INVALID_PASSWORD:
        _count_failure(account, request.at, ledger)
    return refused


def _count_failure(account: Account, at: datetime, ledger: Ledger) -> None:
    failures = account.profile.pin_failures + 1
    locked_until = None
    if failures >= ledger.policy.pin_failures_max:
        locked_until = at + timedelta(seconds=ledger.policy.pin_lock_seconds)
        detail = json.dumps({"failures": failures, "locked_until": locked_until.isoformat()})
        ledger.events.append(Event(account.profile.account_id, "card-locked", detail))
    profile = account.profile._replace(pin_failures=failures, locked_until=locked_until)
    ledger.change_profile(account, profile)


def first_use(account: Account, at: datetime, ledger: Ledger) -> None:
    """Let the time of a card that expires so long after its first call begin to run."""
    profile = account.profile
    if profile.valid_days is None or profile.first_used_at is not None:
        return
    expires_at = at + timedelta(days=profile.valid_days)
    if profile.expires_at is not None:
        expires_at = min(expires_at, profile.expires_at)
    ledger.change_profile(account, profile._replace(first_used_at=at, expires_at=expires_at))


def register(request: Authenticate, account: Account, ledger: Ledger) -> Refused | None:
    """Make calls of this caller's number the card's from now on."""
    ani = request.origin.ani
    if not ani or account.profile.pin is None or request.credential is None:
        return Refused(
            Refusal.INVALID_ARGUMENT, "a number is registered with a card's number and PIN"
        )
    if number_of(ani) != ani:  # a name, or "anonymous"
        return Refused(Refusal.INVALID_ARGUMENT, "what the caller calls from is no number")
    owner_id = ledger.anis.get(ani)
    if owner_id is not None and owner_id != account.profile.account_id:
        return Refused(Refusal.INVALID_ARGUMENT, "this number is registered to another account")
    if owner_id is None and ledger.ani_counts.get(account.profile.account_id, 0) >= ANIS_MAX:
        return Refused(Refusal.RETRIES, f"a card has at most {ANIS_MAX} registered numbers")
    if owner_id is None:
        account_id = account.profile.account_id
        ledger.registered[ani] = ledger.anis[ani] = account_id
        ledger.ani_counts[account_id] = ledger.ani_counts.get(account_id, 0) + 1
    return None
