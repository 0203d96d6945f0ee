"""What is known of one channel, from its events or from `uuid_dump`, and kept in the spool.

The scripts leave on a called leg whose call it carries (`sky_key`, and `sky_key_2` where a
number of ours is forwarded) and for how long (`sky_agent_sec`). The leg that pays is the
caller's; its record of the end names the call (`sky_key`, else its own uuid).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aaa_server.switch_agent.event_socket import Event

# One word of a command. Not only uuids: with inbound-use-callid-as-uuid it is a SIP Call-ID.
UUID = re.compile(r"[!-.0-~]{1,128}")
KEY = re.compile(rf"{UUID.pattern}(/[0-9]{{1,4}})?")
VALUE_CHARACTERS_MAX = 247
CALL_SECONDS_MAX = 31 * 86_400

# Channel variables that accounting and slices are made of.
VARIABLES = (
    "Class",
    "hangup_cause",
    "sip_call_id",
    "sip_network_ip",
    "sky_account",
    "sky_agent_sec",
    "sky_ani",
    "sky_bill_msec",
    "sky_called",
    "sky_key",
    "sky_key_2",
    "sky_leg",
    "sky_route",
)
# What is said of the caller in every event, under the name of its variable.
PROFILE = {
    "caller_id_number": "Caller-Caller-ID-Number",
    "destination_number": "Caller-Destination-Number",
    "hostname": "FreeSWITCH-Hostname",
}


@dataclass(slots=True)
class Leg:
    """A channel. Times are microseconds since 1970, by the switch's clock; 0: not yet.

    `step` and `asked_seconds` are the last question for more time and the talk at that moment;
    `until_us` is when the granted time ends, 0 where nobody asks for more.
    """

    uuid: str
    direction: str = ""
    values: dict[str, str] = field(default_factory=dict)
    created_us: int = 0
    answered_us: int = 0
    seen_us: int = 0  # the last event that told of it
    until_us: int = 0
    step: int = 0
    asked_seconds: int = 0
    more: bool = True  # whether another slice may follow
    told: list[str] = field(default_factory=list)  # the calls whose Start was sent

    def learn(self, event: Event) -> bool:
        """Take in what `event` says; whether that was anything new."""
        before = (self.direction, dict(self.values), self.answered_us)
        self.direction = event.get("Call-Direction") or self.direction
        for name in VARIABLES:
            said = event.variable(name)
            if said:
                self.values[name] = said[:VALUE_CHARACTERS_MAX]
            else:
                # An event with variables has all of them: this one was taken away.
                self.values.pop(name, None)
        for name, header in PROFILE.items():
            said = event.get(header)
            if said:
                self.values[name] = said[:VALUE_CHARACTERS_MAX]
        self.created_us = self.created_us or microseconds(event.get("Caller-Channel-Created-Time"))
        self.answered_us = microseconds(event.get("Caller-Channel-Answered-Time"))
        self.seen_us = max(self.seen_us, microseconds(event.get("Event-Date-Timestamp")))
        if not self.until_us and self.answered_us and self.granted_seconds:
            self.until_us = self.answered_us + self.granted_seconds * 1_000_000
        return before != (self.direction, self.values, self.answered_us)

    def value(self, name: str) -> str:
        """The variable's value; '' where there is none."""
        return self.values.get(name, "")

    @property
    def granted_seconds(self) -> int:
        """What the script was granted, where the agent is to ask for more; else 0."""
        return min(whole(self.value("sky_agent_sec")), CALL_SECONDS_MAX)

    @property
    def pays(self) -> bool:
        """Is the leg's end an end of a call? As the conditions of mod_xml_radius have it.

        But of outbound legs only those that the scripts have marked: the server charges no other.
        """
        role = self.value("sky_leg")
        return role == "caller" or (role == "" and self.direction == "inbound")

    @property
    def key(self) -> str:
        """The Acct-Session-Id of the call that this leg's end is about."""
        return self._key("sky_key") or self.uuid

    @property
    def carried(self) -> list[str]:
        """The keys of the calls that talk as long as this leg does; none before its answer.

        A caller's own leg carries its call where no script has handled it: else the called
        leg does, since only that one's time is talk.
        """
        if not self.answered_us:
            return []
        keys = [key for key in (self._key("sky_key"), self._key("sky_key_2")) if key]
        if self.value("sky_leg") == "callee" or (self.direction == "outbound" and self.pays):
            return keys or ([self.uuid] if self.pays else [])
        handled = self.value("sky_bill_msec") or keys
        return [] if handled or not self.pays else [self.uuid]

    def _key(self, name: str) -> str:
        key = self.value(name)
        return key if KEY.fullmatch(key) else ""

    def talked_seconds(self, at_us: int) -> int:
        """Whole seconds since the answer, never below 0."""
        return max(0, (at_us - self.answered_us) // 1_000_000) if self.answered_us else 0

    def entry(self) -> dict[str, Any]:
        """All of it, for the spool."""
        return asdict(self)


def leg_of(entry: dict[str, Any]) -> Leg:
    """The leg that `entry` was made of."""
    return Leg(**entry)


def microseconds(said: str) -> int:
    """A time of an event; 0 for none."""
    return whole(said) if len(said) <= 17 else 0


def whole(said: str) -> int:
    """A written number; 0 for anything else."""
    return int(said) if said.isdecimal() and said.isascii() and len(said) <= 18 else 0
