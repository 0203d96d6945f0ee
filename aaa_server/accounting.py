"""RADIUS Accounting-Request <-> start, update, stop, reboot (RFC 2866).

What cannot be recorded is not acknowledged: the response goes out after COMMIT.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aaa_server.auth import complain
from aaa_server.charging.requests import Reboot, Start, Stop, Update
from aaa_server.radius.dialect import DIALECTS
from aaa_server.radius.packet import ACCOUNTING_RESPONSE, encode_reply
from aaa_server.rating.money import div_ceil

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from aaa_server.charging.requests import ChargingAnswer
    from aaa_server.online_charging import OnlineCharging
    from aaa_server.radius.call import AccountingCall
    from aaa_server.radius.client import Client
    from aaa_server.radius.receive import Fresh, Reply
    from aaa_server.session_keys import SessionKeys


class Accounting:
    """Answers Accounting-Requests."""

    def __init__(
        self, charging: OnlineCharging, sessions: SessionKeys, *, now: Callable[[], datetime]
    ) -> None:
        self._charging = charging
        self._sessions = sessions
        self._now = now

    def answer(self, fresh: Fresh, reply: Reply) -> None:
        """Has `reply` called with the response once all is on record; with None: silence."""
        now = self._now()
        call = DIALECTS[fresh.client.type].account(fresh, now)
        request = charging_request(call, fresh.client, now)
        if request is None:
            reply(fresh, response(fresh))
            return
        then = partial(_recorded, fresh, reply)
        if call.other_key and not isinstance(request, Reboot):
            self._sessions.ask_then(request, call.other_key, then)
        else:
            self._charging.ask_then(request, then)


def _recorded(fresh: Fresh, reply: Reply, answer: ChargingAnswer | Exception) -> None:
    if isinstance(answer, Exception):
        complain(answer)
        reply(fresh, None)
    else:
        reply(fresh, response(fresh))


def charging_request(
    call: AccountingCall, client: Client, now: datetime
) -> Start | Update | Stop | Reboot | None:
    """What is to be recorded; None: nothing, the packet is only acknowledged.

    Nothing is dated later than `now`, its arrival: the switch's clock may be ahead.
    """
    nas_address = call.nas_address or None
    at = min(call.event_at, now)
    switch_at = None if call.event_at == now else call.event_at  # it did not say when
    if call.status in ("on", "off"):
        return Reboot(client.client_id, at, nas_address if client.covers_network else None)
    if call.skip or not call.session_key:
        return None
    key = (client.client_id, call.session_key, at)
    about = (call.origin, call.called, call.unauthorized)
    if call.status == "start":
        return Start(*key, *about, nas_address, call.sip_call_id, switch_at)
    if call.status == "interim" and call.duration_ms is not None:
        seconds = div_ceil(call.duration_ms, 1000)
        return Update(*key, seconds, *about, nas_address, call.sip_call_id, switch_at)
    if call.status == "interim":  # it is up, and nobody says since when
        return Start(*key, *about, nas_address, call.sip_call_id, switch_at)
    if call.status in ("stop", "failed"):
        failed = call.status == "failed"  # it was never answered
        return Stop(
            *key,
            0 if failed else call.duration_ms,
            *about,
            route=call.route,
            cause=call.cause or ("failed" if failed else ""),
            nas_address=nas_address,
            sip_call_id=call.sip_call_id,
            switch_at=switch_at,
            attempt=call.attempt,
        )
    return None


def response(fresh: Fresh) -> bytes:
    """An Accounting-Response with nothing but the echo of Proxy-State."""
    return encode_reply(
        ACCOUNTING_RESPONSE, fresh.packet, fresh.secret, (), message_authenticator=False
    )
