"""A FreeSWITCH as its event socket shows it: real TCP, its framing, its answers, its events.

Names and order of headers, quoting and replies are those of mod_event_socket.c, switch_event.c
and switch_channel.c (1.10, and 1.11 alike); an event that carries variables carries all of them.
What the callers and the scripts do is called from the test; what the agent orders is done.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid as uuids
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.integration.server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "ClueCon"
SECOND = 1_000_000
CAUSES = {
    "NONE": 0, "NORMAL_CLEARING": 16, "USER_BUSY": 17, "CALL_REJECTED": 21,
    "ORIGINATOR_CANCEL": 16, "ALLOTTED_TIMEOUT": 16, "SYSTEM_SHUTDOWN": 16,
}  # fmt: skip
# Of channels; the others have their own headers alone.
GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass
class Channel:
    """A channel: what its events say of it."""

    uuid: str
    direction: str
    caller: str
    called: str
    variables: dict[str, str]
    created_us: int
    answered_us: int = 0
    hungup_us: int = 0
    other: str = ""
    cause: str = "NONE"
    killed: bool = False  # by uuid_kill
    tasks: list[threading.Timer] = field(default_factory=list)

    def headers(self) -> list[tuple[str, str]]:
        """What switch_channel_event_set_data adds to an event."""
        state = "CS_REPORTING" if self.hungup_us else "CS_EXECUTE"
        answer = "hangup" if self.hungup_us else "answered" if self.answered_us else "ringing"
        found = [
            ("Channel-State", state),
            ("Channel-Call-State", "HANGUP" if self.hungup_us else "ACTIVE"),
            ("Channel-State-Number", "11" if self.hungup_us else "4"),
            ("Channel-Name", f"sofia/internal/{self.caller}@192.0.2.7"),
            ("Unique-ID", self.uuid),
            ("Call-Direction", self.direction),
            ("Presence-Call-Direction", self.direction),
            ("Channel-HIT-Dialplan", "true"),
            ("Channel-Call-UUID", self.uuid),
            ("Answer-State", answer),
            ("Caller-Direction", self.direction),
            ("Caller-Logical-Direction", self.direction),
            ("Caller-Dialplan", "XML"),
            ("Caller-Caller-ID-Name", "Zoë <x> 100%"),
            ("Caller-Caller-ID-Number", self.caller),
            ("Caller-Network-Addr", "192.0.2.7"),
            ("Caller-ANI", self.caller),
            ("Caller-Destination-Number", self.called),
            ("Caller-Unique-ID", self.uuid),
            ("Caller-Source", "mod_sofia"),
            ("Caller-Context", "default"),
            ("Caller-Profile-Index", "1"),
            ("Caller-Profile-Created-Time", str(self.created_us)),
            ("Caller-Channel-Created-Time", str(self.created_us)),
            ("Caller-Channel-Answered-Time", str(self.answered_us)),
            ("Caller-Channel-Progress-Time", "0"),
            ("Caller-Channel-Hangup-Time", str(self.hungup_us)),
        ]
        if self.other:
            found.append(("Other-Leg-Unique-ID", self.other))
        return found + [(f"variable_{name}", value) for name, value in self.variables.items()]


class Listener:
    """One connection of an event socket client."""

    def __init__(self, switch: FreeSwitch, wire: socket.socket) -> None:
        self.switch = switch
        self.wire = wire
        self.events: set[str] = set()
        self.authed = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            self.say("Content-Type: auth/request\n\n")
            pending = b""
            while received := self.wire.recv(65536):
                pending += received
                while b"\n\n" in pending:
                    command, _, pending = pending.partition(b"\n\n")
                    if not self.obey(command.decode()):
                        self.say(
                            "Content-Type: text/disconnect-notice\n"
                            f"Content-Length: {len(GOODBYE)}\n\n{GOODBYE}"
                        )
                        return
        except OSError:
            pass
        finally:
            self.switch.left(self)

    def say(self, text: str) -> None:
        with self.switch.lock:
            self.wire.sendall(text.encode())

    def reply(self, text: str) -> None:
        self.say(f"Content-Type: command/reply\nReply-Text: {text}\n\n")

    def obey(self, command: str) -> bool:
        line, *headers = command.strip("\n").split("\n")
        verb, _, rest = line.partition(" ")
        if not self.authed:
            self.authed = verb == "auth" and rest == self.switch.password
            self.reply("+OK accepted" if self.authed else "-ERR invalid")
            return self.authed
        if verb == "event":
            form, *names = rest.split(" ")
            assert form == "plain"
            self.events |= set(names)
            self.reply("+OK event listener enabled plain")
        elif verb == "api":
            output = self.switch.execute(rest) or "-ERR no reply\n"
            self.say(
                f"Content-Type: api/response\nContent-Length: {len(output.encode())}\n\n{output}"
            )
        elif verb == "bgapi":
            number = dict(header.split(": ", 1) for header in headers)["Job-UUID"]
            with self.switch.lock:
                self.say(
                    "Content-Type: command/reply\n"
                    f"Reply-Text: +OK Job-UUID: {number}\nJob-UUID: {number}\n\n"
                )
                name, _, argument = rest.partition(" ")
                about = [
                    ("Job-UUID", number), ("Job-Command", name), ("Job-Command-Arg", argument)
                ]  # fmt: skip
                self.switch.fire("BACKGROUND_JOB", about, body=self.switch.execute(rest))
        else:
            self.reply("-ERR command not found")
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.wire.shutdown(socket.SHUT_RDWR)
        self.wire.close()


class FreeSwitch:
    """The switch. `commands` are all that it was told by api and bgapi."""

    def __init__(self, password: str = PASSWORD) -> None:
        self.lock = threading.RLock()
        self.password = password
        self.core = str(uuids.uuid4())
        self.started = time.time()
        self.channels: dict[str, Channel] = {}
        self.commands: list[str] = []
        self.deaf_to: set[str] = set()  # commands that it answers and does not carry out
        self.filler = ""  # in each row of `show channels`
        self.listeners: list[Listener] = []
        self.sequence = 0
        self.port = free_port()  # it listens there again after it was away
        self.server: socket.socket | None = None
        self.listen()

    # ------------------------------------------------------------------ the socket

    def listen(self) -> None:
        self.server = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        threading.Thread(target=self.accept, args=(self.server,), daemon=True).start()

    def accept(self, server: socket.socket) -> None:
        while True:
            try:
                wire, _ = server.accept()
            except OSError:
                return
            with self.lock:
                self.listeners.append(Listener(self, wire))

    def left(self, listener: Listener) -> None:
        with self.lock:
            if listener in self.listeners:
                self.listeners.remove(listener)
        listener.close()

    def drop(self) -> None:
        """Close the port and all connections: nobody is told of anything."""
        with self.lock:
            assert self.server is not None
            # A thread that waits in accept() would keep the port open.
            self.server.shutdown(socket.SHUT_RDWR)
            self.server.close()
            for listener in list(self.listeners):
                listener.close()
            self.listeners.clear()

    def close(self) -> None:
        self.drop()
        for channel in self.channels.values():
            for task in channel.tasks:
                task.cancel()

    @property
    def heard(self) -> bool:
        """Whether somebody listens to events."""
        return any(listener.events for listener in self.listeners)

    # ------------------------------------------------------------------ events

    def serialized(
        self, name: str, headers: list[tuple[str, str]], body: str = "", *, quoted: bool = True
    ) -> str:
        """switch_event_serialize."""
        now = time.time()
        self.sequence += 1
        at = datetime.fromtimestamp(now, UTC)
        base = [
            ("Event-Name", name),
            ("Core-UUID", self.core),
            ("FreeSWITCH-Hostname", "switch1"),
            ("FreeSWITCH-Switchname", "switch1"),
            ("FreeSWITCH-IPv4", "192.0.2.1"),
            ("FreeSWITCH-IPv6", "::1"),
            ("Event-Date-Local", f"{at:%Y-%m-%d %H:%M:%S}"),
            ("Event-Date-GMT", f"{at:%a, %d %b %Y %H:%M:%S} GMT"),
            ("Event-Date-Timestamp", str(int(now * SECOND))),
            ("Event-Calling-File", "switch_core_state_machine.c"),
            ("Event-Calling-Function", "switch_core_session_run"),
            ("Event-Calling-Line-Number", "630"),
            ("Event-Sequence", str(self.sequence)),
        ]
        lines = [
            (key, quote(said, safe="/,()*") if quoted else said) for key, said in base + headers
        ]
        text = "".join(f"{key}: {said}\n" for key, said in lines)
        return text + (f"Content-Length: {len(body.encode())}\n\n{body}" if body else "\n")

    def fire(self, name: str, headers: list[tuple[str, str]], body: str = "") -> None:
        with self.lock:
            text = self.serialized(name, headers, body)
            frame = (
                f"Content-Length: {len(text.encode())}\nContent-Type: text/event-plain\n\n{text}"
            )
            for listener in list(self.listeners):
                if name in listener.events or "ALL" in listener.events:
                    try:
                        listener.say(frame)
                    except OSError:
                        self.left(listener)

    def heartbeat(self) -> None:
        uptime = int(1000 * (time.time() - self.started))
        self.fire("HEARTBEAT", [("Event-Info", "System Ready"), ("Uptime-msec", str(uptime))])

    # ------------------------------------------------------------------ calls

    def create(
        self,
        *,
        direction: str = "inbound",
        caller: str = "15551230001",
        called: str = "442071838750",
        ago: float = 0.0,
        uuid: str = "",
        **variables: str,
    ) -> Channel:
        """A new channel; `ago` seconds since."""
        uuid = uuid or str(uuids.uuid4())
        known = {
            "direction": direction, "uuid": uuid, "session_id": "4", "sip_network_ip": "192.0.2.7",
            "sip_call_id": f"call-{uuid}@192.0.2.7",
            # Two line breaks: whoever reads it unquoted loses all that follows.
            "rtp_local_sdp_str": "v=0\no=FreeSWITCH 1 2 IN IP4 192.0.2.1\n\n100%25",
        }  # fmt: skip
        created_us = now_us() - int(ago * SECOND)
        with self.lock:
            channel = Channel(uuid, direction, caller, called, known | variables, created_us)
            self.channels[uuid] = channel
            self.fire("CHANNEL_CREATE", channel.headers())
        return channel

    def answer(self, channel: Channel, *, ago: float = 0.0, **variables: str) -> None:
        with self.lock:
            channel.variables |= variables
            channel.answered_us = now_us() - int(ago * SECOND)
            self.fire("CHANNEL_ANSWER", channel.headers())

    def bridge(self, channel: Channel, other: Channel, **variables: str) -> None:
        with self.lock:
            channel.variables |= variables
            channel.other, other.other = other.uuid, channel.uuid
            both = [("Bridge-A-Unique-ID", channel.uuid), ("Bridge-B-Unique-ID", other.uuid)]
            self.fire("CHANNEL_BRIDGE", both + channel.headers())

    def talk(
        self, *, account: str, ago: float = 0.0, agent_sec: int = 0, key: str = "", uuid: str = ""
    ) -> tuple[Channel, Channel]:
        """A call as sky_prepaid.lua makes it, answered `ago` seconds since: caller, callee."""
        caller = self.create(ago=ago + 5, uuid=uuid, sky_leg="caller", sky_account=account)
        key = key or caller.uuid
        about = {
            "sky_key": key, "sky_account": account, "sky_ani": caller.caller,
            "sky_called": caller.called,
        }  # fmt: skip
        more = {"sky_agent_sec": str(agent_sec)} if agent_sec else {}
        callee = self.create(direction="outbound", ago=ago + 3, sky_leg="callee", **about, **more)
        self.answer(callee, ago=ago)
        self.answer(caller, ago=ago, sky_leg="caller", sky_route="RG_22", **about)
        self.bridge(caller, callee)
        return caller, callee

    def hangup(self, channel: Channel, cause: str = "NORMAL_CLEARING", **variables: str) -> None:
        """The channel ends, and the one that it is bridged to after it."""
        with self.lock:
            if self.channels.pop(channel.uuid, None) is None:
                return
            for task in channel.tasks:
                task.cancel()
            channel.hungup_us = now_us()
            channel.cause = cause
            talked = channel.hungup_us - channel.answered_us if channel.answered_us else 0
            channel.variables |= {
                "hangup_cause": cause,
                "hangup_cause_q850": str(CAUSES[cause]),
                "end_uepoch": str(channel.hungup_us),
                "billsec": str(talked // SECOND),
                "billmsec": str(talked // 1000),
            } | variables
            self.fire("CHANNEL_HANGUP_COMPLETE", [("Hangup-Cause", cause), *channel.headers()])
            other = self.channels.get(channel.other)
            if other is not None:
                self.hangup(other, cause)

    def restart(self) -> None:
        """The switch has crashed and runs again: nothing of before is left."""
        self.drop()
        with self.lock:
            for channel in self.channels.values():
                for task in channel.tasks:
                    task.cancel()
            self.channels.clear()
            self.core = str(uuids.uuid4())
            self.started = time.time()

    # ------------------------------------------------------------------ api

    def execute(self, command: str) -> str:
        """The output of an api command."""
        with self.lock:
            self.commands.append(command)
            name, *arguments = command.split(" ")
            known: dict[str, Callable[..., str]] = {
                "uptime": self.uptime,
                "show": self.show,
                "uuid_kill": self.uuid_kill,
                "uuid_exists": self.uuid_exists,
                "uuid_dump": self.uuid_dump,
                "sched_hangup": self.sched_hangup,
                "sched_del": self.sched_del,
            }
            if name not in known:
                return f"-ERR {name} Command not found!\n"
            if name in self.deaf_to:
                return "+OK\n"
            return known[name](*arguments)

    def uptime(self, unit: str) -> str:
        assert unit == "s"
        return f"{int(time.time() - self.started)}\n"

    def show(self, what: str, *form: str) -> str:
        assert (what, *form) == ("channels", "as", "json")
        rows = [
            {
                "uuid": channel.uuid,
                "direction": channel.direction,
                "created_epoch": str(channel.created_us // SECOND),
                "name": f"sofia/internal/{channel.caller}@192.0.2.7",
                "state": "CS_EXECUTE",
                "cid_num": channel.caller,
                "dest": channel.called,
                "callstate": "ACTIVE",
                "hostname": "switch1",
                "presence_data": self.filler,
            }
            for channel in self.channels.values()
        ]
        if not rows:
            return '{"row_count": 0}\n'
        return json.dumps({"row_count": len(rows), "rows": rows}, separators=(",", ":"))

    def uuid_kill(self, uuid: str, cause: str = "NORMAL_CLEARING") -> str:
        channel = self.channels.get(uuid)
        if channel is None:
            return "-ERR No such channel!\n"
        channel.killed = True
        self.hangup(channel, cause)
        return "+OK\n"

    def uuid_exists(self, uuid: str) -> str:
        return "true" if uuid in self.channels else "false"

    def uuid_dump(self, uuid: str, form: str) -> str:
        channel = self.channels.get(uuid)
        if channel is None:
            return "-ERR No such channel!\n"
        # switch_event_serialize(event, &buf, strcasecmp(format, "plain")): all but plain is quoted.
        return self.serialized("CHANNEL_DATA", channel.headers(), quoted=form != "plain")

    def sched_hangup(self, when: str, uuid: str, cause: str = "ALLOTTED_TIMEOUT") -> str:
        channel = self.channels.get(uuid)
        if channel is None:
            return "-ERR No such channel!\n"
        seconds = int(when.removeprefix("+"))
        task = threading.Timer(seconds, self.hangup, (channel, cause))
        task.daemon = True
        channel.tasks.append(task)
        task.start()
        return "+OK\n"

    def sched_del(self, uuid: str) -> str:
        channel = self.channels.get(uuid)
        tasks = [] if channel is None else channel.tasks
        for task in tasks:
            task.cancel()
        tasks.clear()
        return "+OK\n"
