"""Plain RADIUS (RFC 2865, 2866), with h323 and Cisco-AVPair read where a NAS sends them.

The other dialects are this one with other words for some things.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aaa_server.charging.requests import (
    Digest,
    Granted,
    Known,
    Noted,
    Origin,
    Refused,
    Settled,
)
from aaa_server.radius import attribute
from aaa_server.radius.call import AccessCall, AccountingCall
from aaa_server.radius.dialects import reply
from aaa_server.radius.dialects.credential import (
    asks_for_nonce,
    credential_of,
    realm_of,
    rfc5090_digest,
)
from aaa_server.radius.packet import ACCESS_ACCEPT, ACCESS_REJECT
from aaa_server.radius.value import (
    bare,
    between_milliseconds,
    event_at,
    integer,
    milliseconds,
    pairs_of,
    peer,
    session_milliseconds,
    text,
    token,
)
from aaa_server.rating.prefix import number_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from aaa_server.radius.client import Client
    from aaa_server.radius.dialects.credential import DigestReader
    from aaa_server.radius.packet import Packet
    from aaa_server.radius.receive import Fresh

CALL_CHECK = 10  # RFC 2865 §5.6
AUTHORIZE_ONLY = 17  # RFC 5176 §3.2
INTERIM_SECONDS = 300  # RFC 2869 §5.16 wants at least 60 and suggests 600

CONFERENCE_DIGITS = 32  # a GUID's
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")

STATUSES = {1: "start", 2: "stop", 3: "interim", 7: "on", 8: "off", 15: "failed"}

# RFC 2866 §5.10
TERMINATE_CAUSES = (
    "",
    "User-Request",
    "Lost-Carrier",
    "Lost-Service",
    "Idle-Timeout",
    "Session-Timeout",
    "Admin-Reset",
    "Admin-Reboot",
    "Port-Error",
    "NAS-Error",
    "NAS-Request",
    "NAS-Reboot",
    "Port-Unneeded",
    "Port-Preempted",
    "Port-Suspended",
    "Service-Unavailable",
    "Callback",
    "User-Error",
    "Host-Request",
)


class Rfc:
    """The dialect of every NAS that is none of the others."""

    cisco_form = False
    challenges = True  # the client may leave the making of nonces to the server (RFC 5090 §2.2)
    proves = True  # and tells the caller that the server knows the password too
    digest_of: DigestReader = staticmethod(rfc5090_digest)

    def read(self, packet: Packet) -> tuple[dict[int, bytes], dict[str, str]]:
        """The packet's values by key and its AVPairs by name, the first of each."""
        attributes = packet.attributes
        return dict(reversed(attributes)), pairs_of(attributes, attribute.CISCO_AVPAIR)

    def trusted(self, values: Mapping[int, bytes]) -> bool:
        """Has the NAS authenticated the caller? A Call-Check comes before it could."""
        return integer(values.get(attribute.SERVICE_TYPE)) == CALL_CHECK

    def access(self, fresh: Fresh) -> AccessCall:
        values, pairs = self.read(fresh.packet)
        said = text(values.get(attribute.CALLED_STATION_ID))
        credential, problem = credential_of(fresh, values, self.digest_of)
        session = self.session_of(values)
        sip_call_id = call_id(values, pairs)
        realm = ""
        attributes = fresh.packet.attributes
        if credential is None and self.challenges and asks_for_nonce(attributes, values):
            service, realm = "challenge", realm_of(attributes, values)
        elif integer(values.get(attribute.SERVICE_TYPE)) == AUTHORIZE_ONLY:
            service = "reauthorize"
        elif said and not (type(credential) is Digest and not session):
            service = "call"
        else:
            service = "authenticate"
        elapsed = session_milliseconds(values.get(attribute.ACCT_SESSION_TIME))
        origin = self.origin(values, pairs, fresh)
        if isinstance(credential, Digest):
            origin = named(origin, credential)
        call = AccessCall(
            service,
            session or sip_call_id or "auth:" + fresh.packet.authenticator.hex(),
            origin,
            number_of(said) if said else "",
            credential,
            self.trusted(values),
            fresh.source[0],
            sip_call_id,
            resource_group(pairs.get("sky-rg-out")),
            problem,
            None,
            None if elapsed is None else elapsed // 1000,
            realm=realm,
        )
        if "sky-mode" in pairs:
            return with_mode(call, pairs["sky-mode"], pairs.get("sky-did", ""))
        return call

    def account(self, fresh: Fresh, now: datetime) -> AccountingCall:
        values, pairs = self.read(fresh.packet)
        status = STATUSES.get(integer(values.get(attribute.ACCT_STATUS_TYPE)) or 0, "")
        sip_call_id = call_id(values, pairs)
        said = text(values.get(attribute.CALLED_STATION_ID))
        return AccountingCall(
            status,
            self.accounting_key(fresh.packet, values, sip_call_id),
            self.origin(values, pairs, fresh),
            number_of(said) if said else "",
            event_at(
                values.get(attribute.EVENT_TIMESTAMP), values.get(attribute.ACCT_DELAY_TIME), now
            ),
            fresh.source[0],
            sip_call_id,
            self.duration_ms(status, values, pairs),
            route(pairs.get("route")),
            self.cause(values, pairs) if status in ("stop", "failed") else "",
            True,
            self.skips(status, values, fresh.client),
            self.is_attempt(values),
        )

    def session_of(self, values: Mapping[int, bytes]) -> str:
        """The session that a packet is about, by its best identifier; '' when it has none."""
        return token(values.get(attribute.ACCT_SESSION_ID)) or conf_id(values)

    def accounting_key(self, packet: Packet, values: Mapping[int, bytes], sip_call_id: str) -> str:
        """The call that an Accounting-Request is about; '' when it names none.

        Our Class tells what the call was authorised as. It stands in for Acct-Session-Id, and
        wins over it when the Access-Request had none: then it was authorised as something else.
        """
        session = token(values.get(attribute.ACCT_SESSION_ID))
        conference = conf_id(values)
        key = class_key(packet)
        if key and (not session or key.startswith("auth:") or key in (conference, sip_call_id)):
            return key
        return session or conference or sip_call_id

    def origin(self, values: Mapping[int, bytes], pairs: Mapping[str, str], fresh: Fresh) -> Origin:
        """All that the packet says about whose call it is."""
        return origin_of(
            user=text(values.get(attribute.USER_NAME)),
            calling=text(values.get(attribute.CALLING_STATION_ID)),
            remote=bare(values, attribute.H323_REMOTE_ADDRESS, "h323-remote-address="),
            pairs=pairs,
            source=fresh.source[0],
        )

    def duration_ms(
        self, status: str, values: Mapping[int, bytes], pairs: Mapping[str, str]
    ) -> int | None:
        """Length of the talk, by the best thing that the packet says about it."""
        if status == "failed":
            return 0
        if status not in ("stop", "interim"):
            return None
        length = milliseconds(pairs.get("bill-msec"))
        if length is not None:
            return length
        told_ms = session_milliseconds(values.get(attribute.ACCT_SESSION_TIME))
        connect = bare(values, attribute.H323_CONNECT_TIME, "h323-connect-time=")
        disconnect = bare(values, attribute.H323_DISCONNECT_TIME, "h323-disconnect-time=")
        if connect and disconnect:
            length = between_milliseconds(connect, disconnect, told_ms)
        return told_ms if length is None else length

    def cause(self, values: Mapping[int, bytes], pairs: Mapping[str, str]) -> str:
        """Why the call ended, as the switch said it; a Q.850 cause in decimal."""
        said = pairs.get("release-cause", "")
        if said and said != "NONE":
            return said
        said = bare(values, attribute.H323_DISCONNECT_CAUSE, "h323-disconnect-cause=")
        if said:
            return q850(said)
        number = integer(values.get(attribute.ACCT_TERMINATE_CAUSE)) or 0
        return TERMINATE_CAUSES[number] if number < len(TERMINATE_CAUSES) else str(number)

    def skips(self, _status: str, _values: Mapping[int, bytes], _client: Client) -> bool:
        """Whether this is the leg of a call that is not billed."""
        return False

    def is_attempt(self, _values: Mapping[int, bytes]) -> bool:
        """Whether this is one of the legs that a call may have tried to get through by."""
        return False

    def access_reply(
        self, answer: Granted | Known | Refused | Settled | Noted, call: AccessCall, client: Client
    ) -> tuple[int, list[tuple[int, bytes]]]:
        if isinstance(answer, Granted):
            attributes = reply.granted(answer, call.session_key, cisco_form=self.cisco_form)
            attributes.append((attribute.ACCT_INTERIM_INTERVAL, INTERIM_SECONDS.to_bytes(4, "big")))
            if not answer.final:
                attributes.append((attribute.TERMINATION_ACTION, reply.REQUEST_MORE))
            if self.proves:
                attributes += reply.proof(answer.digest)
            return ACCESS_ACCEPT, attributes + self.routes(answer)
        if isinstance(answer, Known):
            attributes = reply.whose(answer, cisco_form=self.cisco_form)
            if self.proves:
                attributes += reply.proof(answer.digest)
            return ACCESS_ACCEPT, attributes
        if isinstance(answer, Refused):
            attributes = reply.refused(answer, client, cisco_form=self.cisco_form)
            if client.refuse_with == "accept" and self.may_accept(call):
                return ACCESS_ACCEPT, [(attribute.SESSION_TIMEOUT, bytes(4)), *attributes]
            return ACCESS_REJECT, attributes
        return ACCESS_ACCEPT, reply.done(cisco_form=self.cisco_form)

    def routes(self, answer: Granted) -> list[tuple[int, bytes]]:
        """The ways out, in trial order."""
        return reply.routes(answer.routes)

    def may_accept(self, call: AccessCall) -> bool:
        """May a refusal travel in an Access-Accept? Never where that means: logged in."""
        return call.service != "authenticate" and type(call.credential) is not Digest


def with_mode(call: AccessCall, mode: str, did: str) -> AccessCall:
    """The call with what `sky-mode` and `sky-did` make of it; nothing for more time or an end."""
    if not mode or mode == "auth" or call.service not in ("call", "authenticate"):
        return call
    did = number_of(did) if did else ""
    if mode == "did":
        did = did or call.called
        origin = call.origin._replace(did=did)
        called = call.called or did
        return call._replace(service="call", called=called, origin=origin, mode=mode, did=did)
    if mode in ("query", "register"):
        return call._replace(service="authenticate", mode=mode, did=did)
    if mode == "card":
        # Whoever types a card's number at an access number is known by its PIN alone; a
        # caller without one is found by its own number.
        typed = bool(call.origin.account_code) and call.credential is None
        return call._replace(mode=mode, did=did, trusted=call.trusted and not typed)
    return call._replace(problem=call.problem or f"sky-mode={mode[:16]} is unknown")


def named(origin: Origin, digest: Digest) -> Origin:
    """The origin; the digest's user is the account code where no other is given."""
    return origin if origin.account_code else origin._replace(account_code=digest.username)


def origin_of(
    *, user: str, calling: str, remote: str, pairs: Mapping[str, str], source: str
) -> Origin:
    """Whose call it may be.

    User-Name is an account code unless it is empty, `unknown` or the peer's address. One
    that equals Calling-Station-Id is given as `ani` is, so that the two can be compared:
    whether it is a code, only the accounts can say.
    """
    address, port = peer(remote) if remote else ("", 0)
    address = address or source
    ani = number_of(calling) if calling else ""
    if not ani and calling != "unknown":
        ani = user_part(calling)
    if user == "unknown" or user in (address, remote, source):
        user = ""
    elif user == calling or (user[:1] == "+" and user[1:] == ani):
        user = ani
    extension, _, domain = pairs.get("sky-ext", "").partition("@")
    group = pairs.get("sky-rg-in")
    return Origin(
        user,
        extension,
        domain,
        ani,
        resource_group(group) if group else "",
        address,
        port,
    )


def class_key(packet: Packet) -> str:
    """The key that a Class of ours names, wherever among others it stands; '' for none."""
    for key, value in packet.attributes:
        if key == attribute.CLASS and value.startswith(reply.CLASS_PREFIX):
            said = token(value[len(reply.CLASS_PREFIX) :])
            if said:
                return said
    return ""


def conf_id(values: Mapping[int, bytes]) -> str:
    """What all legs of an H.323 or SIP call share, where the NAS says it."""
    said = values.get(attribute.H323_CONF_ID)
    return conference(token(said).removeprefix("h323-conf-id=")) if said else ""


def conference(said: str) -> str:
    """A conference id as Cisco writes it, four hexadecimal groups, if it is one; else as it was.

    Others write it in small letters, with leading zeros, or as one number of 32 digits.
    """
    groups = said.split()
    if len(groups) == 1:
        number = groups[0].replace("-", "")
        if len(number) != CONFERENCE_DIGITS:
            return said
        groups = [number[at : at + 8] for at in range(0, CONFERENCE_DIGITS, 8)]
    if len(groups) != 4 or not all(len(one) <= 8 and set(one) <= _HEXADECIMAL for one in groups):
        return said
    return " ".join(f"{int(one, 16):X}" for one in groups)


def call_id(values: Mapping[int, bytes], pairs: Mapping[str, str]) -> str:
    """The SIP Call-ID; '' when it is not said."""
    said = pairs.get("call-id") or bare(values, attribute.CISCO_CALL_ID, "call-id=")
    return "" if said == "-" else said


def resource_group(said: str | None) -> str:
    """`RG_21` for `RG_21`, `rg_21` or `21`; anything else as it was said."""
    if not said or said == "-":
        return ""
    name = said.upper()
    return f"RG_{name}" if name.isdigit() else name


def route(said: str | None) -> str:
    """The route that answered; '' for the `-` and `none` of a call without one."""
    return "" if said is None or said in ("-", "none") else said


def user_part(said: str) -> str:
    """`alice` for `sip:alice@example.net` and for `alice`."""
    for scheme in ("sip:", "sips:", "tel:"):
        if said.lower().startswith(scheme):
            said = said[len(scheme) :]
            break
    return said.partition("@")[0]


def q850(said: str) -> str:
    """The decimal of a hexadecimal cause (`10` is 16); what is no number, as it was said."""
    try:
        return str(int(said, 16))
    except ValueError:
        return said
