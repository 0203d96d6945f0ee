"""One batch, decided in order, each request seeing what those before it did. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.authorize import authenticate, authorize, reauthorize
from aaa_server.charging.digest import with_proof
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    ChargingAnswer,
    ChargingRequest,
    Digest,
    Expire,
    Granted,
    Known,
    Reauthorize,
    Reboot,
    Refused,
    Rerate,
    Start,
    Stop,
    Update,
)
from aaa_server.charging.rerate import rerate
from aaa_server.charging.settle import expire, reboot, start, stop, update

if TYPE_CHECKING:
    from aaa_server.charging.ledger import Ledger


def decide_batch(batch: list[ChargingRequest], ledger: Ledger) -> list[ChargingAnswer]:
    """The answers, in the order of the requests. Changes `ledger` alone."""
    return [_decide(request, ledger) for request in batch]


def _decide(request: ChargingRequest, ledger: Ledger) -> ChargingAnswer:
    match request:
        case Authorize():
            answer: Granted | Known | Refused = authorize(request, ledger)
            digest = request.credential
            return with_proof(digest, answer, ledger) if isinstance(digest, Digest) else answer
        case Stop():
            return stop(request, ledger)
        case Start():
            return start(request, ledger)
        case Update():
            return update(request, ledger)
        case Reauthorize():
            return reauthorize(request, ledger)
        case Authenticate():
            answer = authenticate(request, ledger)
            digest = request.credential
            return with_proof(digest, answer, ledger) if isinstance(digest, Digest) else answer
        case Expire():
            return expire(request, ledger)
        case Reboot():
            return reboot(request, ledger)
        case Rerate():
            return rerate(request, ledger)
