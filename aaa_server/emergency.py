"""Emergency calls pass when there is no database, and are put on record when it is back.

Everything else waits for COMMIT. These do not: where the answer would be silence, or a wait,
the caller is let through at price 0 by what is held in memory.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from aaa_server.charging.inbound_call import emergency_number, emergency_offers
from aaa_server.charging.ledger import Ledger, Policy
from aaa_server.charging.requests import Granted

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from aaa_server.charging.catalogue import Catalogue
    from aaa_server.charging.requests import Authorize, ChargingAnswer
    from aaa_server.online_charging import OnlineCharging

log = Logger()

# A database that has not answered by then is as good as gone for this call; switches ask
# again after 2 s or more.
WAIT_SECONDS = 1.0
AGAIN_SECONDS = 2.0  # between two attempts to record what was let through
UNRECORDED_MAX = 10_000  # more are in the log alone


class EmergencyCalls:
    """Asks for emergency calls, and answers in the database's place when it does not.

    `catalogue` is what is held of it. `passed` counts calls let through without a record,
    `waiting` those of them that are still to be recorded.
    """

    def __init__(
        self, charging: OnlineCharging, clock: IReactorTime, catalogue: Callable[[], Catalogue]
    ) -> None:
        self.passed = 0
        self._charging = charging
        self._clock = clock
        self._catalogue = catalogue
        self._unrecorded: deque[Authorize] = deque()
        self._recording = False

    @property
    def waiting(self) -> int:
        return len(self._unrecorded)

    def ask(self, request: Authorize) -> Deferred[ChargingAnswer]:
        """The committed answer to `request`, or a yes at price 0 where there is none in time."""
        answered: Deferred[ChargingAnswer] = Deferred()
        late = self._clock.callLater(WAIT_SECONDS, self._let_pass, request, answered)

        def committed(answer: ChargingAnswer) -> None:
            if late.active():
                late.cancel()
                answered.callback(answer)

        def failed(_failure: Failure) -> None:
            if late.active():
                late.cancel()
                self._let_pass(request, answered)
            self._record_later(request)

        self._charging.ask(request).addCallbacks(committed, failed)
        return answered

    def _let_pass(self, request: Authorize, answered: Deferred[ChargingAnswer]) -> None:
        self.passed += 1
        log.warn(
            "Emergency call {session} to {called} from {ani} is let through without a record yet",
            session=request.session_key,
            called=request.called,
            ani=request.origin.ani or request.origin.account_code or request.origin.address,
        )
        catalogue = self._catalogue()
        number = emergency_number(request.client_id, request.origin, request.called, 0, catalogue)
        offers = emergency_offers(number, Ledger(catalogue, Policy(), iter(())))
        seconds = request.maximum_seconds
        answered.callback(
            Granted(seconds, seconds, True, 0, catalogue.admin_currency, "", "", False, "", offers)
        )

    def _record_later(self, request: Authorize) -> None:
        if len(self._unrecorded) >= UNRECORDED_MAX:
            log.error(
                "Emergency call {session} to {called} will not be on record: {most} wait already",
                session=request.session_key,
                called=request.called,
                most=UNRECORDED_MAX,
            )
            return
        self._unrecorded.append(request)
        if not self._recording:
            self._recording = True
            self._clock.callLater(AGAIN_SECONDS, self._record)

    def _record(self) -> None:
        """Ask for the oldest again, as of when it was; then for the next."""
        request = self._unrecorded[0]

        def committed(_answer: ChargingAnswer) -> None:
            self._unrecorded.popleft()
            log.info("Emergency call {session} is on record", session=request.session_key)
            if self._unrecorded:
                self._record()
            else:
                self._recording = False

        def failed(_failure: Failure) -> None:
            self._clock.callLater(AGAIN_SECONDS, self._record)

        self._charging.ask(request).addCallbacks(committed, failed)
