"""FreeSWITCH: mod_xml_radius with our configuration, and mod_radius_cdr beside it.

The key of a call is the channel's uuid in Acct-Session-Id and nothing else: both legs share
h323-conf-id, and Class arrives on the wrong leg after a transfer. The channel variables
of the script travel as `sky-…` Cisco-AVPairs; an empty one was not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.requests import Digest, Granted
from aaa_server.radius import attribute
from aaa_server.radius.call import AccessCall, AccountingCall
from aaa_server.radius.dialects import reply
from aaa_server.radius.dialects.credential import credential_of, rfc5090_digest
from aaa_server.radius.dialects.rfc import (
    STATUSES,
    Rfc,
    call_id,
    named,
    origin_of,
    resource_group,
    route,
    with_mode,
)
from aaa_server.radius.packet import ACCESS_ACCEPT
from aaa_server.radius.value import (
    DURATION_SECONDS_MAX,
    bare,
    between_milliseconds,
    digits,
    event_at,
    integer,
    milliseconds,
    session_milliseconds,
    text,
    token,
)
from aaa_server.rating.prefix import number_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from aaa_server.charging.requests import Known, Noted, Origin, Refused, Settled
    from aaa_server.radius.client import Client
    from aaa_server.radius.receive import Fresh

CALL_NUMBER_MAX = 9999  # calls on one channel

_OUTBOUND = ("outbound", "originate")


class Freeswitch(Rfc):
    """mod_xml_radius sends h323 attributes, mod_radius_cdr Freeswitch-… ones; both are read."""

    cisco_form = True
    challenges = False  # the switch makes its nonces
    proves = False

    def access(self, fresh: Fresh) -> AccessCall:
        values, pairs = self.read(fresh.packet)
        said = text(values.get(attribute.CALLED_STATION_ID))
        credential, problem = credential_of(fresh, values, rfc5090_digest)
        channel = token(values.get(attribute.ACCT_SESSION_ID))
        key = channel or "auth:" + fresh.packet.authenticator.hex()
        phase, _, tail = pairs.get("PHASE", "").partition(":")
        number = digits(tail, most=CALL_NUMBER_MAX)
        step = elapsed = length = None
        if tail and number is None:
            problem = problem or f"PHASE:{phase}:{tail[:16]} has no number"
        if phase in ("", "authorize"):
            digest_only = type(credential) is Digest and not (
                channel or attribute.H323_CONF_ID in values
            )
            service = "call" if said and not digest_only else "authenticate"
            key = key_of_call(key, number)
        elif phase == "reauth":
            service, step = "reauthorize", number
            elapsed = digits(pairs.get("sky-elapsed"), most=DURATION_SECONDS_MAX)
        elif phase == "end":
            service, key = "end", key_of_call(key, number)
            length = milliseconds(pairs.get("sky-bill-msec"))
            if length is None:
                problem = problem or "PHASE:end without sky-bill-msec"
        else:
            service, problem = "call", f"PHASE:{phase[:16]} is unknown"
        origin = self.origin(values, pairs, fresh)
        if isinstance(credential, Digest):
            origin = named(origin, credential)
        call = AccessCall(
            service,
            key,
            origin,
            number_of(said) if said else "",
            credential,
            True,
            fresh.source[0],
            call_id(values, pairs),
            resource_group(pairs.get("sky-rg-out")),
            problem,
            step,
            elapsed,
            length,
            route(pairs.get("route")),
            self.cause(values, pairs) if service == "end" else "",
        )
        if "sky-mode" in pairs:
            return with_mode(call, pairs["sky-mode"], pairs.get("sky-did", ""))
        return call

    def account(self, fresh: Fresh, now: datetime) -> AccountingCall:
        values, pairs = self.read(fresh.packet)
        status = STATUSES.get(integer(values.get(attribute.ACCT_STATUS_TYPE)) or 0, "")
        said = text(values.get(attribute.CALLED_STATION_ID) or values.get(attribute.FREESWITCH_DST))
        called = number_of(said) if said else ""
        origin = self.origin(values, pairs, fresh)
        if pairs.get("sky-mode") == "did":
            origin = origin._replace(did=number_of(pairs.get("sky-did", "")) or called)
        return AccountingCall(
            status,
            token(values.get(attribute.ACCT_SESSION_ID)),
            origin,
            called,
            event_at(
                values.get(attribute.EVENT_TIMESTAMP), values.get(attribute.ACCT_DELAY_TIME), now
            ),
            fresh.source[0],
            call_id(values, pairs),
            self.duration_ms(status, values, pairs),
            route(pairs.get("route")),
            self.cause(values, pairs) if status == "stop" else "",
            self.charges_by_itself(status, values),
        )

    def charges_by_itself(self, status: str, values: Mapping[int, bytes]) -> bool:
        """Is this a leg whose Stop is charged though nobody authorised it? The inbound one is.

        The Start of mod_radius_cdr does not tell the direction; it opens nothing then.
        """
        direction = bare(values, attribute.H323_CALL_ORIGIN, "h323-call-origin=") or text(
            values.get(attribute.FREESWITCH_DIRECTION)
        )
        if direction:
            return direction not in _OUTBOUND
        return status != "start" and attribute.FREESWITCH_OTHER_LEG_ID not in values

    def origin(self, values: Mapping[int, bytes], pairs: Mapping[str, str], fresh: Fresh) -> Origin:
        calling = text(
            values.get(attribute.CALLING_STATION_ID)
            or values.get(attribute.FREESWITCH_ANI)
            or values.get(attribute.FREESWITCH_SRC)
        )
        remote = bare(values, attribute.H323_REMOTE_ADDRESS, "h323-remote-address=")
        if not remote:
            framed = values.get(attribute.FRAMED_IP_ADDRESS)
            if framed is not None and len(framed) == 4:
                remote = ".".join(map(str, framed))
        return origin_of(
            user=text(values.get(attribute.USER_NAME)),
            calling=calling,
            remote=remote,
            pairs=pairs,
            source=fresh.source[0],
        )

    def duration_ms(
        self, status: str, values: Mapping[int, bytes], pairs: Mapping[str, str]
    ) -> int | None:
        length = milliseconds(pairs.get("bill-msec")) if status == "stop" else None
        if length is None and status == "stop":
            answered = text(values.get(attribute.FREESWITCH_CALLANSWERDATE))
            ended = text(values.get(attribute.FREESWITCH_CALLENDDATE))
            if answered and ended:
                told_ms = session_milliseconds(values.get(attribute.ACCT_SESSION_TIME))
                length = between_milliseconds(answered, ended, told_ms)
        return super().duration_ms(status, values, pairs) if length is None else length

    def cause(self, values: Mapping[int, bytes], pairs: Mapping[str, str]) -> str:
        number = integer(values.get(attribute.FREESWITCH_HANGUPCAUSE))
        return super().cause(values, pairs) if number is None else str(number)

    def access_reply(
        self, answer: Granted | Known | Refused | Settled | Noted, call: AccessCall, client: Client
    ) -> tuple[int, list[tuple[int, bytes]]]:
        """As plain RADIUS, but never an attribute that the switch's dictionary lacks.

        FreeSWITCH sends no Interim, so none is asked for.
        """
        if isinstance(answer, Granted):
            attributes = reply.granted(answer, call.session_key, cisco_form=True)
            return ACCESS_ACCEPT, attributes + reply.routes(answer.routes)
        return super().access_reply(answer, call, client)

    def may_accept(self, call: AccessCall) -> bool:
        """Only the script reads return codes; REGISTER and INVITE digests take an Accept as yes."""
        return type(call.credential) is not Digest


def key_of_call(key: str, number: int | None) -> str:
    """The key of the `number`th call on a channel: its uuid, and from the second on uuid/N."""
    if number is None or number < 2 or key.endswith(f"/{number}"):
        return key
    return f"{key}/{number}"
