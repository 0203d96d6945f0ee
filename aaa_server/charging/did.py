"""Numbers that are called from outside: whose they are, what they cost, where they ring."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from aaa_server.rating.rate import Terms


class Assignment(NamedTuple):
    """Whose the number is in [valid_from, valid_to), and where it rings.

    `active` is whether its owner and all above it may do business, `expires_at` until when.
    """

    account_id: int
    valid_from: datetime
    valid_to: datetime | None
    kind: str  # extension, sip, pstn
    destination: str
    active: bool = True
    expires_at: datetime | None = None


class Did(NamedTuple):
    """A number of the inventory.

    `terms` is what its provider takes, in the provider's currency; `prices` what each
    buyer (the owner, its resellers) pays, in the buyer's.
    """

    number: str
    provider_id: int
    provider_currency: str
    access: bool
    active: bool
    terms: Terms
    prices: dict[int, Terms]
    assignments: tuple[Assignment, ...]

    def assigned(self, at: datetime) -> Assignment | None:
        """The assignment in force at `at`; None when nobody has the number, or it is suspended."""
        return self.held(at) if self.active else None

    def held(self, at: datetime) -> Assignment | None:
        """The assignment in force at `at`, whether or not the number is suspended."""
        for assignment in self.assignments:
            if assignment.valid_from <= at and (
                assignment.valid_to is None or at < assignment.valid_to
            ):
                return assignment
        return None


def rings(did: Did, assignment: Assignment, at: datetime) -> bool:
    """Whether a call may reach it: nobody is suspended, closed or expired."""
    expires_at = assignment.expires_at
    return did.active and assignment.active and (expires_at is None or at < expires_at)


def ring(assignment: Assignment) -> tuple[str, str]:
    """A route's name and dial string for it: ("DID", "user/1001@sip.example").

    A number outside is not dialled but called by the owner's own account: ("PSTN", number).
    """
    match assignment.kind:
        case "extension":
            return "DID", f"user/{assignment.destination}"
        case "sip":
            return "DID", f"sofia/external/{assignment.destination}"
        case _:
            return "PSTN", assignment.destination
