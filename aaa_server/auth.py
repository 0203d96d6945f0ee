"""RADIUS Access-Request <-> the charging core (RFC 2865): authorise, authenticate, more time.

The dialect reads the packet and writes the reply; this module turns what was read into a
charging request and the answer into a packet. Nothing is answered that is not committed.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from twisted.logger import Logger
from twisted.python.failure import Failure

from aaa_server.charging.digest import USED_ONCE
from aaa_server.charging.inbound_call import emergency_number
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    Digest,
    Pap,
    Reauthorize,
    Refusal,
    Refused,
    Rerated,
    Stop,
)
from aaa_server.group_commit import Late, Overloaded
from aaa_server.radius.dialect import DIALECTS
from aaa_server.radius.dialects.reply import challenge
from aaa_server.radius.packet import ACCESS_CHALLENGE, ACCESS_REJECT, encode_reply
from aaa_server.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from aaa_server.charging.catalogue import Catalogue
    from aaa_server.charging.requests import ChargingAnswer, ChargingRequest
    from aaa_server.emergency import EmergencyCalls
    from aaa_server.online_charging import OnlineCharging
    from aaa_server.radius.call import AccessCall
    from aaa_server.radius.client import Client
    from aaa_server.radius.nonce import Nonces
    from aaa_server.radius.receive import Fresh, Reply

log = Logger()

# RADIUS delays the answer to a wrong guess; a caller who waits for his call is not delayed.
REJECT_DELAY_SECONDS = 1.0

# A switch asks a server three times or so, some 3 s apart, and then goes another way: a yes
# that comes later holds money for a call that nobody makes.
ANSWER_AWAITED_SECONDS = 10.0

# The realm of a challenge where neither the configuration nor the request names one.
REALM = "sky-aaa"


class Limits(NamedTuple):
    """[charging] values that hold where a client's row says nothing."""

    slice_seconds: int = 0
    maximum_call_seconds: int = 7200


class Authorization:
    """Answers Access-Requests. `refusals` counts them by reason.

    `catalogue` is what is held of it; `realm` the only one that digests may have, '' allows
    any.
    """

    def __init__(
        self,
        charging: OnlineCharging,
        *,
        now: Callable[[], datetime],
        limits: Limits,
        nonces: Nonces,
        emergency: EmergencyCalls,
        catalogue: Callable[[], Catalogue],
        realm: str = "",
    ) -> None:
        self.refusals: dict[str, int] = {}
        self._charging = charging
        self._now = now
        self._limits = limits
        self._nonces = nonces
        self._emergency = emergency
        self._catalogue = catalogue
        self._realm = realm

    def answer(self, fresh: Fresh, reply: Reply) -> None:
        """Has `reply` called with the octets once all is committed; with None: silence."""
        call = DIALECTS[fresh.client.type].access(fresh)
        at = self._now()
        client_id = fresh.client.client_id
        if call.service == "call" and emergency_number(
            client_id, call.origin, call.called, 0, self._catalogue()
        ):
            # Whatever is wrong with the rest of the packet.
            request = charging_request(call._replace(problem=""), fresh.client, at, self._limits)
            assert isinstance(request, Authorize)
            self._emergency.ask(request).addCallback(partial(self._decided, fresh, call, reply))
            return
        if type(call.credential) is Pap and fresh.client.type == "cisco":
            call = self._card_step(call)
        elif type(call.credential) is Digest or call.service == "challenge":
            answered = self._digest(fresh, call, at)
            if answered is not None:
                reply(fresh, answered)
                return
            call = self._told_of_nonce(call)
        request = charging_request(call, fresh.client, at, self._limits)
        if isinstance(request, Refused):
            reply(fresh, self._packet(fresh, call, request))
        else:
            # What ends a call is recorded, however late.
            until = inf if type(request) is Stop else fresh.seen.at + ANSWER_AWAITED_SECONDS
            self._charging.ask_then(request, partial(self._decided, fresh, call, reply), until)

    def _decided(
        self, fresh: Fresh, call: AccessCall, reply: Reply, answer: ChargingAnswer | Exception
    ) -> None:
        octets = None
        if isinstance(answer, Exception):
            complain(answer)
        else:
            try:
                if type(call.credential) is Digest and answer == USED_ONCE:
                    realm = dict(call.credential.fields).get("realm", "")
                    octets = self._challenge(fresh, realm, self._now(), stale=True)
                else:
                    octets = self._packet(fresh, call, answer)
            except Exception:  # noqa: BLE001 - a bug: silence, and the next try is a new one
                log.failure("an answer to {client} cannot be told", client=fresh.client.name)
        reply(fresh, octets)

    def _card_step(self, call: AccessCall) -> AccessCall:
        """A card and PIN with the access number as called number only ask what is on the card.

        Cisco's script names it before the caller has dialled where the call is to go.
        """
        did = self._catalogue().dids.get(call.called) if call.service == "call" else None
        return call if did is None or not did.access else call._replace(service="authenticate")

    def _digest(self, fresh: Fresh, call: AccessCall, at: datetime) -> bytes | None:
        """The answer to a digest whose nonce or realm will not do; None where they will.

        A nonce that is none of ours is the client's own, who then looks after its age.
        """
        if call.service == "challenge":
            return self._challenge(fresh, call.realm, at, stale=False)
        assert isinstance(call.credential, Digest)
        fields = dict(call.credential.fields)
        realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
        if self._realm and realm != self._realm:
            refused = Refused(Refusal.INVALID_PASSWORD, f"the digest's realm is not {self._realm}")
            return self._packet(fresh, call, refused)
        if self._nonces.is_good(nonce, at):
            return None
        if fresh.client.digest_nonces == "server" or self._nonces.is_ours(nonce):
            return self._challenge(fresh, realm, at, stale=True)
        return None

    def _told_of_nonce(self, call: AccessCall) -> AccessCall:
        """The call, its digest saying whether a server of ours made the nonce."""
        digest = call.credential
        if type(digest) is not Digest:
            return call
        ours = self._nonces.is_ours(dict(digest.fields).get("nonce", ""))
        return call._replace(credential=digest._replace(nonce_is_ours=ours))

    def _challenge(self, fresh: Fresh, realm: str, at: datetime, *, stale: bool) -> bytes:
        nonce = self._nonces.make(at)
        return encode_reply(
            ACCESS_CHALLENGE,
            fresh.packet,
            fresh.secret,
            challenge(self._realm or realm or REALM, nonce, stale=stale),
            message_authenticator=fresh.client.send_message_authenticator,
        )

    def _packet(self, fresh: Fresh, call: AccessCall, answer: ChargingAnswer) -> bytes:
        client = fresh.client
        assert not isinstance(answer, Rerated)  # nobody asks for one by RADIUS
        code, attributes = DIALECTS[client.type].access_reply(answer, call, client)
        if isinstance(answer, Refused):
            reason = answer.reason.value
            self.refusals[reason] = self.refusals.get(reason, 0) + 1
            if code == ACCESS_REJECT and call.service == "authenticate":
                fresh.delay_seconds = REJECT_DELAY_SECONDS
        return encode_reply(
            code,
            fresh.packet,
            fresh.secret,
            attributes,
            message_authenticator=client.send_message_authenticator,
        )


def charging_request(
    call: AccessCall, client: Client, at: datetime, limits: Limits
) -> ChargingRequest | Refused:
    """What an Access-Request asks of the charging core, or why it is refused at once."""
    if call.problem:
        return Refused(Refusal.INVALID_ARGUMENT, call.problem)
    if call.service == "call":
        return Authorize(
            client.client_id,
            call.session_key,
            at,
            call.origin,
            call.called,
            call.credential,
            call.trusted,
            call.wanted_route,
            _slice_seconds(client, limits),
            client.maximum_call_seconds or limits.maximum_call_seconds,
            call.nas_address or None,
            call.sip_call_id,
            call.did if call.mode == "card" else "",
        )
    if call.service == "reauthorize":
        return Reauthorize(
            client.client_id,
            call.session_key,
            at,
            call.elapsed_seconds,
            call.step,
            _slice_seconds(client, limits),
            client.maximum_call_seconds or limits.maximum_call_seconds,
        )
    if call.service == "end":
        return Stop(
            client.client_id,
            call.session_key,
            at,
            call.duration_ms or 0,
            call.origin,
            call.called,
            unauthorized=False,
            route=call.route,
            cause=call.cause,
            ended_by="end",
        )
    assert call.service == "authenticate", call.service
    return Authenticate(
        at,
        call.origin,
        call.credential,
        call.trusted,
        register=call.mode == "register",
        client_id=client.client_id,
    )


def _slice_seconds(client: Client, limits: Limits) -> int:
    return limits.slice_seconds if client.slice_seconds is None else client.slice_seconds


def complain(error: Exception) -> None:
    """Say why there is no answer: the peer asks again, and by then it can be recorded.

    A lost database, an overload and one who is late have been counted and logged where they
    happened; any other failure is ours, and is logged with its traceback.
    """
    if not isinstance(error, DatabaseUnavailable | Overloaded | Late):
        log.failure("A request could not be decided, and is not answered", Failure(error))
