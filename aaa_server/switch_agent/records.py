"""Accounting-Requests as mod_xml_radius sends them with the configuration in lua/conf.

So a server takes the agent for a FreeSWITCH like any other (type `freeswitch`). On top of it
the agent tells when a thing happened (Event-Timestamp), and sends Interim-Updates. Texts are
cut where that configuration cuts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aaa_server.radius import attribute
from aaa_server.radius.packet import VALUE_OCTETS_MAX, VSA_VALUE_OCTETS_MAX
from aaa_server.switch_agent.leg import microseconds, whole

if TYPE_CHECKING:
    from aaa_server.switch_agent.event_socket import Event
    from aaa_server.switch_agent.leg import Leg

# RFC 2866 §5.1
START, STOP, INTERIM, ON = 1, 2, 3, 7
# RFC 2866 §5.10: how a call ended whose end nobody has seen.
LOST_SERVICE, NAS_REBOOT = 3, 11

CALL_CHECK = 10  # RFC 2865 §5.6

# Not strftime's, whose words are the locale's.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

NAMED_CHARACTERS_MAX = 64
CALL_ID_CHARACTERS_MAX = 128
CLASS_CHARACTERS_MAX = 200

Attributes = list[tuple[int, bytes]]


@dataclass(slots=True)
class Record:
    """One Accounting-Request that is to be acknowledged; `at` is when it happened, Unix seconds.

    `durable`: the spool has it, so it may be sent.
    """

    number: int
    status: int
    key: str
    at: int
    attributes: Attributes
    durable: bool = False

    def entry(self) -> dict[str, Any]:
        """All of it, for the spool."""
        return {
            "number": self.number,
            "status": self.status,
            "key": self.key,
            "at": self.at,
            "attributes": [[key, value.hex()] for key, value in self.attributes],
        }

    def packet_attributes(self, now: float) -> Attributes:
        """The attributes of a packet that leaves at `now` (Unix seconds)."""
        delay = min(max(0, int(now) - self.at), 0xFFFFFFFF)
        return [
            (attribute.ACCT_STATUS_TYPE, number(self.status)),
            *self.attributes,
            (attribute.EVENT_TIMESTAMP, number(self.at)),
            (attribute.ACCT_DELAY_TIME, number(delay)),
        ]


def record_of(entry: dict[str, Any]) -> Record:
    """The record that `entry` was made of; it is in the spool."""
    attributes = [(key, bytes.fromhex(value)) for key, value in entry["attributes"]]
    return Record(
        entry["number"], entry["status"], entry["key"], entry["at"], attributes, durable=True
    )


def start(leg: Leg, key: str, nas: Attributes) -> Attributes:
    """The call of `key` begins to talk over `leg`."""
    return [*about(leg, key, nas), *_h323(leg, _origin(leg, key))]


def interim(leg: Leg, key: str, seconds: int, nas: Attributes) -> Attributes:
    """The call of `key` has talked so long over `leg`."""
    return [
        *start(leg, key, nas),
        (attribute.ACCT_SESSION_TIME, number(seconds)),
    ]


def stop(leg: Leg, event: Event, nas: Attributes) -> Attributes:
    """The leg that pays has ended, by its CHANNEL_HANGUP_COMPLETE."""
    billed = leg.value("sky_bill_msec") or event.variable("billmsec") or "0"
    attributes = [
        *about(leg, leg.key, nas),
        *_h323(leg, leg.direction),
        (attribute.CLASS, text(leg.value("Class") or "-", CLASS_CHARACTERS_MAX)),
        (attribute.ACCT_SESSION_TIME, number(whole(event.variable("billsec")))),
    ]
    ended_us = microseconds(event.get("Caller-Channel-Hangup-Time"))
    times = (
        (attribute.H323_CONNECT_TIME, leg.answered_us),
        (attribute.H323_DISCONNECT_TIME, ended_us),
    )
    attributes += [(key, clock(at).encode()) for key, at in times if at]
    cause = whole(event.variable("hangup_cause_q850"))
    if cause:
        attributes.append((attribute.H323_DISCONNECT_CAUSE, b"h323-disconnect-cause=%x" % cause))
    cause_name = event.variable("hangup_cause") or event.get("Hangup-Cause") or "NONE"
    return [
        *attributes,
        pair("bill-msec", billed),
        pair("release-cause", cause_name),
        pair("route", leg.value("sky_route") or "-", CALL_ID_CHARACTERS_MAX),
        pair("call-id", leg.value("sip_call_id") or "-", CALL_ID_CHARACTERS_MAX),
    ]


def lost(leg: Leg, milliseconds: int, cause: int, nas: Attributes) -> Attributes:
    """The leg that pays is gone and nobody saw it end; `cause` is an Acct-Terminate-Cause.

    `milliseconds`: the talk as far as it is known.
    """
    return [
        *about(leg, leg.key, nas),
        *_h323(leg, leg.direction),
        (attribute.CLASS, text(leg.value("Class") or "-", CLASS_CHARACTERS_MAX)),
        (attribute.ACCT_SESSION_TIME, number(milliseconds // 1000)),
        (attribute.ACCT_TERMINATE_CAUSE, number(cause)),
        pair("bill-msec", str(milliseconds)),
        pair("route", leg.value("sky_route") or "-", CALL_ID_CHARACTERS_MAX),
        pair("call-id", leg.value("sip_call_id") or "-", CALL_ID_CHARACTERS_MAX),
    ]


def more_time(leg: Leg, key: str, nas: Attributes) -> Attributes:
    """What the Lua transport asks when it wants the next slice (lua/lib/transport_radius.lua)."""
    return [
        (attribute.SERVICE_TYPE, number(CALL_CHECK)),
        *about(leg, key, nas),
        pair("h323-ivr-out", f"PHASE:reauth:{leg.step}"),
        pair("sky-elapsed", str(leg.asked_seconds)),
    ]


def about(leg: Leg, key: str, nas: Attributes) -> Attributes:
    """Whose call it is, and from where to where."""
    calling = leg.value("sky_ani") or leg.value("caller_id_number") or "unknown"
    called = leg.value("sky_called") or leg.value("destination_number") or "unknown"
    attributes = [
        (attribute.USER_NAME, text(leg.value("sky_account") or "unknown", NAMED_CHARACTERS_MAX)),
        (attribute.ACCT_SESSION_ID, key.encode()),
        (attribute.CALLING_STATION_ID, text(calling, NAMED_CHARACTERS_MAX)),
        (attribute.CALLED_STATION_ID, text(called, NAMED_CHARACTERS_MAX)),
        *nas,
    ]
    if not any(name == attribute.NAS_IDENTIFIER for name, _ in nas):
        host = leg.value("hostname") or "freeswitch"
        attributes.append((attribute.NAS_IDENTIFIER, text(host, NAMED_CHARACTERS_MAX)))
    return attributes


def pair(name: str, value: str, characters_max: int = VSA_VALUE_OCTETS_MAX) -> tuple[int, bytes]:
    """A Cisco-AVPair `name=value`."""
    said = f"{name}={value[:characters_max]}".encode()
    return attribute.CISCO_AVPAIR, cut(said, VSA_VALUE_OCTETS_MAX)


def text(value: str, characters_max: int) -> bytes:
    """As much of a text as goes there, in whole characters."""
    return cut(value[:characters_max].encode(), VALUE_OCTETS_MAX)


def number(value: int) -> bytes:
    """A 32-bit number."""
    return min(value, 0xFFFFFFFF).to_bytes(4, "big")


def cut(octets: bytes, most: int) -> bytes:
    """`octets`, or its first `most` less a character that they would cut in two."""
    return octets[:most].decode("utf-8", "ignore").encode() if len(octets) > most else octets


def clock(at_us: int) -> str:
    """`09:15:00.250 UTC Fri Jan 02 2026`, whatever the switch's own time zone."""
    at = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    month, day = MONTHS[at.month - 1], DAYS[at.weekday()]
    thousandths = at_us // 1000 % 1000
    return f"{at:%H:%M:%S}.{thousandths:03} UTC {day} {month} {at:%d %Y}"


def _origin(leg: Leg, key: str) -> str:
    """The direction of the leg that pays for `key`: a called leg only carries a caller's call."""
    return leg.direction if leg.pays and key == leg.key else "inbound"


def _h323(leg: Leg, direction: str) -> Attributes:
    peer = leg.value("sip_network_ip") or "0.0.0.0"
    attributes = [
        (attribute.H323_CONF_ID, f"h323-conf-id={leg.uuid}".encode()),
        (attribute.H323_CALL_ORIGIN, f"h323-call-origin={direction or 'inbound'}".encode()),
        (attribute.H323_REMOTE_ADDRESS, f"h323-remote-address={peer[:64]}".encode()),
    ]
    if leg.created_us:
        attributes.append((attribute.H323_SETUP_TIME, clock(leg.created_us).encode()))
    return attributes
