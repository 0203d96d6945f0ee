"""Finds the call that a report is about, where its sender has two names for it.

Legs of a Cisco call share a conference and have an Acct-Session-Id each; its Access-Request
may have told only the latter.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from aaa_server.group_commit import GroupCommit
from aaa_server.storage.sessions import Named, keys_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from aaa_server.charging.requests import ChargingAnswer, Start, Stop, Update
    from aaa_server.online_charging import OnlineCharging
    from aaa_server.storage.catalogue import Execute

# A report that comes again for a call that was authorised earlier than this is of another.
KNOWN_FOR = timedelta(days=2)


class SessionKeys:
    """Asks what is to be charged, under the key that the call goes by."""

    def __init__(
        self,
        charging: OnlineCharging,
        execute: Execute,
        *,
        clock: IReactorTime,
        now: Callable[[], datetime],
    ) -> None:
        self._charging = charging
        self._execute = execute
        self._now = now
        self._looks = GroupCommit[Named, str](clock=clock, work=self._find)

    def ask_then(
        self,
        request: Start | Update | Stop,
        other_key: str,
        then: Callable[[ChargingAnswer | Exception], None],
    ) -> None:
        """As `OnlineCharging.ask_then`; the call may also go by `other_key`."""
        if self._charging.holds(request.client_id, request.session_key):
            self._charging.ask_then(request, then)
        else:
            named = Named(request.client_id, request.session_key, other_key)
            self._looks.submit_then(named, partial(self._found, request, then))

    @property
    def overloaded(self) -> int:
        """Reports that were not taken, since too many waited to be looked for."""
        return self._looks.overloaded

    def stop(self) -> Deferred[None]:
        """Take nothing more; fires when all that was taken has gone on."""
        return self._looks.stop()

    def _found(
        self,
        request: Start | Update | Stop,
        then: Callable[[ChargingAnswer | Exception], None],
        key: str | Exception,
    ) -> None:
        if isinstance(key, Exception):
            then(key)
        else:
            self._charging.ask_then(request._replace(session_key=key), then)

    async def _find(self, batch: list[Named], _until: float) -> list[str]:
        return await keys_of(self._execute, batch, self._now() - KNOWN_FOR)
