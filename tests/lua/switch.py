"""A FreeSWITCH for the scripts, as far as they can see: channels, bridge, tasks, a clock.

It follows FreeSWITCH's documentation and source and is strict where FreeSWITCH is: a method
that does not exist, a nil where text belongs, a dial string that does not parse is an error.
Lua runs in a fresh state for each script, as mod_lua does it; time is wound by hand, so a call
of two hours takes a moment. What carriers and callers do is told beforehand.
"""

from __future__ import annotations

import importlib
import re
import time
import uuid as uuids
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.lua.xml_radius import SECONDS_OF_A_SECOND, START, STOP, XmlRadius

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "lua"
RUNTIMES = ("lua51", "lua52", "lua53", "lua54", "luajit21")
SECOND = 1_000_000  # microseconds

CAUSES = {
    "UNALLOCATED_NUMBER": 1, "NORMAL_CLEARING": 16, "USER_BUSY": 17, "NO_ANSWER": 19,
    "CALL_REJECTED": 21, "INVALID_NUMBER_FORMAT": 28, "NORMAL_TEMPORARY_FAILURE": 41,
    "SWITCH_CONGESTION": 42, "OUTGOING_CALL_BARRED": 52, "ORIGINATOR_CANCEL": 487,
    "PROGRESS_TIMEOUT": 607, "ALLOTTED_TIMEOUT": 802, "NO_USER_RESPONSE": 18,
    "DESTINATION_OUT_OF_ORDER": 27, "NONE": 0, "BLIND_TRANSFER": 800,
}  # fmt: skip

# Argument types of what the scripts may call: s text, i number, b bool; ? may be left out.
SESSION = {
    "answer": "", "preAnswer": "", "answered": "", "ready": "", "getState": "", "destroy": "",
    "execute": "ss?", "getVariable": "s", "setVariable": "ss", "hangup": "s?",
    "setAutoHangup": "b", "sleep": "ii?", "streamFile": "si?", "say": "ssss?s?",
    "sayPhrase": "ss?s?", "playAndGetDigits": "iiiisssss?i?s?",
}  # fmt: skip
BOOTSTRAP = b"""
local call, signatures = ...
local TYPES = { s = "string", i = "number", b = "boolean" }
local function checked(name, signature, ...)
    local n, at = 0, 1
    while at <= #signature do
        n = n + 1
        local kind = TYPES[signature:sub(at, at)]
        local optional = signature:sub(at + 1, at + 1) == "?"
        local value = (select(n, ...))
        if not (optional and n > select("#", ...)) and type(value) ~= kind then
            error("argument " .. n .. " of " .. name .. " is a " .. type(value), 3)
        end
        at = at + (optional and 2 or 1)
    end
    if select("#", ...) > n then
        error(name .. " has too many arguments", 3)
    end
end
return function(id)
    local object = {}
    return setmetatable(object, {
        __newindex = function() error("a field of a FreeSWITCH object is set", 2) end,
        __index = function(_, name)
            local signature = signatures[name]
            if not signature then
                error("there is no method " .. tostring(name), 2)
            end
            return function(self, ...)
                if self ~= object then
                    error(name .. " is called without a colon", 2)
                end
                checked(name, signature, ...)
                return call(id, name, ...)
            end
        end,
    })
end
"""


class Callee(NamedTuple):
    """What happens when this dial string is called."""

    ring_seconds: float = 2.0
    talk_seconds: float | None = 60.0  # until the callee hangs up; None: never
    cause: str = ""  # instead of an answer
    media_first: bool = False  # 183 with media before the answer or the failure
    caller_leaves_after: float | None = None  # seconds of ringing or of talk
    transfer: str = ""  # "transferred" or "moved", after talk_seconds; "bypassed" media
    silent: bool = False  # no sign of life while it "rings"


class Hangup(Exception):
    """The caller hangs up here."""


class Channel:
    """One leg."""

    def __init__(self, switch: Switch, direction: str, variables: dict[str, str]) -> None:
        self.switch = switch
        self.uuid = str(uuids.uuid4())
        self.variables = {"uuid": self.uuid, "direction": direction, **variables}
        self.created = switch.now
        self.answered = self.hungup = 0
        self.state = "CS_EXECUTE"
        self.cause = ""
        self.sip = ""  # what `respond` said
        self.bridges: list[str] = []  # dial strings, in order
        self.applications: list[tuple[str, str]] = []
        self.heard: list[str] = []  # files and what was said
        self.stops = 0
        switch.channels[self.uuid] = self

    @property
    def up(self) -> bool:
        return not self.hungup

    def get(self, name: str) -> str | None:
        """A variable, or one of the times and counters that FreeSWITCH makes up."""
        if name in self.variables:
            return self.variables[name]
        end = self.hungup or self.switch.now
        talk = end - self.answered if self.answered else 0
        made = {
            "answered_time": str(self.answered),
            "hungup_time": str(self.hungup),
            "created_time": str(self.created),
            "billmsec": str(talk // 1000),
            # The difference of whole seconds, as the switch works it out.
            "billsec": str(end // SECOND - self.answered // SECOND if self.answered else 0),
            "hangup_cause": self.cause or None,
            "hangup_cause_number": str(CAUSES[self.cause]) if self.cause else "0",
            "hostname": "vm",
            "h323-setup-time": stamp(self.created),
            "h323-connect-time": stamp(self.answered) if self.answered else None,
            "h323-disconnect-time": stamp(end),
        }
        return made.get(name)

    def set(self, name: str, value: str) -> None:
        if value:
            self.variables[name] = value
        else:
            self.variables.pop(name, None)

    def hang_up(self, cause: str) -> None:
        assert cause in CAUSES, cause
        if self.up:
            self.hungup, self.cause, self.state = self.switch.now, cause, "CS_HANGUP"
            if self.variables["direction"] == "outbound":
                self.report()

    def report(self) -> None:
        """CS_REPORTING: the Stop, and the end of everything in the leg's name."""
        assert not self.stops, "reported twice"
        self.stops = 1
        self.switch.radius_stop(self)
        self.state = "CS_DESTROY"
        self.switch.drop_tasks(self.uuid)
        del self.switch.channels[self.uuid]


class Switch:
    """`callees`: by a part of the dial string. `typed`: the caller's answers to the questions."""

    def __init__(
        self,
        runtime: str,
        radius: XmlRadius,
        globals_: dict[str, str] | None = None,
        settings: Callable[[Any], None] | None = None,
        transport: str = "xml_radius",
    ) -> None:
        self.runtime = runtime
        self.radius = radius
        self.transport = transport
        self.globals = {"script_dir": str(ROOT), **(globals_ or {})}
        self.settings = settings
        self.now = int(time.time() * SECOND)
        self.channels: dict[str, Channel] = {}
        self.tasks: list[tuple[int, str, str]] = []  # when, group, command
        self.callees: dict[str, Callee] = {}
        self.typed: list[str | type[Hangup]] = []
        self.asked: list[str] = []  # prompts of questions
        self.log: list[str] = []
        self.errors: list[str] = []
        self.stop_sent: list[str] = []  # keys
        self.leaves_at_step: int | None = None  # the caller, before his n-th step
        self.steps = 0
        self.on_key_at: float | None = None  # bridge_terminate_key, after seconds of talk
        self.has_sounds = True  # files and phrases

    # ------------------------------------------------------------------ calls

    def call(
        self, script: str, called: str, *arguments: str, caller: str = "15551230001", **more: str
    ) -> Channel:
        """An inbound call that this script handles, to its end and the Stop."""
        channel = self.new_call(called, caller=caller, **more)
        self.run(channel, script, *arguments)
        self.end(channel)
        return channel

    def new_call(self, called: str, *, caller: str = "15551230001", **more: str) -> Channel:
        channel = Channel(
            self,
            "inbound",
            {
                "destination_number": called,
                "caller_id_number": caller,
                "sip_network_ip": "192.0.2.50",
                "sip_call_id": str(uuids.uuid4()),
                **more,
            },
        )
        self.radius_start(channel)
        return channel

    def end(self, channel: Channel, cause: str = "NORMAL_CLEARING") -> None:
        """The dialplan is at its end: FreeSWITCH hangs up what is still up, and reports."""
        channel.hang_up(cause)
        if not channel.stops:
            channel.report()

    def radius_start(self, channel: Channel) -> None:
        if self.transport == "xml_radius":
            self.radius.account(START, channel.get)

    def radius_stop(self, channel: Channel) -> None:
        # Where there is no mod_xml_radius, its place is taken by sky-aaa switch-agent, which
        # takes the same variables.
        if self.radius.account(STOP, channel.get):
            self.stop_sent.append(channel.get("sky_key") or channel.uuid)

    # ------------------------------------------------------------------ Lua

    def run(self, channel: Channel | None, script: str, *arguments: str) -> None:
        """The script in a Lua state of its own, as mod_lua runs it."""
        # FreeSWITCH cuts what the dialplan gives into words itself.
        words = " ".join([script, *arguments]).split()
        runtime = importlib.import_module(f"lupa.{self.runtime}").LuaRuntime(
            encoding=None, unpack_returned_tuples=True
        )
        Script(self, runtime, channel, words).run()

    def wind(self, until: int) -> None:
        """Time goes on, and what is scheduled happens."""
        while due := [task for task in self.tasks if task[0] <= until]:
            task = min(due)
            self.tasks.remove(task)
            self.now = max(self.now, task[0])
            self.api(*task[2].partition(" ")[::2])
        self.now = max(self.now, until)

    def drop_tasks(self, group: str) -> int:
        kept = [task for task in self.tasks if task[1] != group]
        dropped = len(self.tasks) - len(kept)
        self.tasks = kept
        return dropped

    # ------------------------------------------------------------------ commands

    def api(self, command: str, argument: str) -> str:
        """A command of the console; what it prints."""
        words = argument.split(" ")
        channel = self.channels.get(words[0])
        match command:
            case "strmicroepoch":
                return str(self.now)
            case "uuid_exists":
                return "true" if channel else "false"
            case "uuid_setvar":
                if channel is None:
                    return "-ERR No such channel!\n"
                channel.set(words[1], " ".join(words[2:]))
                return "+OK\n"
            case "uuid_kill":
                if channel is None:
                    return "-ERR No such channel!\n"
                channel.hang_up(words[1] if len(words) > 1 else "NORMAL_CLEARING")
                return "+OK\n"
            case "sched_del":
                return f"+OK Deleted: {self.drop_tasks(argument)}\n"
            case "sched_hangup":
                channel = self.channels.get(words[1])
                if channel is None:
                    return "-ERR No Such Channel!\n"
                self.schedule(words[0], words[1], f"uuid_kill {words[1]} {words[2]}")
                return "+OK\n"
            case "sched_api":
                self.schedule(words[0], words[1], " ".join(words[2:]))
                return "+OK Added: 1\n"
            case "luarun":
                self.run(None, *words)
                return "+OK\n"
        raise AssertionError(f"the scripts use a command that is not known: {command} {argument}")

    def schedule(self, when: str, group: str, command: str) -> None:
        assert re.fullmatch(r"\+\d+", when), when
        # The scheduler counts whole seconds.
        at = (self.now // SECOND + int(when)) * SECOND
        self.tasks.append((at, group, command))

    def can_play(self, sound: str) -> bool:
        """Tones always; files and phrases where there are any."""
        return self.has_sounds or sound.startswith(("tone_stream://", "silence_stream://"))

    # ------------------------------------------------------------------ bridge

    def callee_of(self, dial: str) -> Callee:
        found = [callee for part, callee in self.callees.items() if part in dial]
        return found[0] if found else Callee(ring_seconds=0, cause="DESTINATION_OUT_OF_ORDER")

    def bridge(self, caller: Channel, data: str) -> None:
        """The application: dials, joins, and comes back when it is over."""
        caller.bridges.append(data)
        variables, dial = read_dial_string(data)
        plan = self.callee_of(dial)
        leg = Channel(self, "outbound", {**variables, "caller_id_number": "15551230001"})
        leg.state = "CS_ROUTING"
        self.radius_start(leg)
        leg.state = "CS_CONSUME_MEDIA"
        failed = self.ring(caller, leg, plan)
        if failed:
            caller.set("originate_disposition", failed)
            leg.hang_up(failed)
            if caller.variables.get("continue_on_fail") != "true":
                caller.hang_up(failed)
            return
        caller.set("originate_disposition", "SUCCESS")
        caller.set("last_bridge_to", leg.uuid)
        if plan.transfer == "bypassed":
            # The two are joined by signalling alone, and the application is over at once.
            caller.state = leg.state = "CS_HIBERNATE"
            return
        if leg.up:
            cause = plan.cause or self.talk(caller, leg, plan)
            leg.hang_up(leg.cause or cause)
        caller.set("bridge_hangup_cause", leg.cause)
        if caller.variables.get("hangup_after_bridge") == "true":
            caller.hang_up(leg.cause)

    def ring(self, caller: Channel, leg: Channel, plan: Callee) -> str:
        """Why it did not answer; '' when it did, or when early media joined the two."""
        patience = float(leg.variables.get("leg_timeout", "60"))
        if plan.media_first:
            # The two are joined, and the timeouts of ringing are over.
            patience = float(leg.variables.get("bridge_answer_timeout", "3600"))
        if plan.silent:
            patience = min(patience, float(leg.variables.get("leg_progress_timeout", "60")))
        wait = plan.ring_seconds
        leaves = plan.caller_leaves_after
        if leaves is not None and leaves < wait and not plan.cause:
            self.wind(self.now + int(leaves * SECOND))
            caller.hang_up("ORIGINATOR_CANCEL")
            return "ORIGINATOR_CANCEL"
        self.wind(self.now + int(min(wait, patience) * SECOND))
        if wait > patience and plan.media_first:
            leg.hang_up("ALLOTTED_TIMEOUT")
            return ""
        if wait > patience:
            return "PROGRESS_TIMEOUT" if plan.silent else "NO_ANSWER"
        if plan.cause:
            return "" if plan.media_first else plan.cause
        leg.answered = self.now
        for name in sorted(leg.variables):
            if name.startswith("execute_on_answer"):
                application, _, data = leg.variables[name].partition(" ")
                self.execute(leg, application, data)
        caller.answered = caller.answered or self.now
        return ""

    def talk(self, caller: Channel, leg: Channel, plan: Callee) -> str:
        """Until one of them leaves; why."""
        leg.state = "CS_EXCHANGE_MEDIA"
        began = self.now
        ends: list[tuple[int, str]] = []
        if plan.talk_seconds is not None:
            ends.append((began + int(plan.talk_seconds * SECOND), plan.transfer or "callee"))
        if plan.caller_leaves_after is not None:
            ends.append((began + int(plan.caller_leaves_after * SECOND), "caller"))
        if self.on_key_at is not None and caller.variables.get("bridge_terminate_key"):
            ends.append((began + int(self.on_key_at * SECOND), "key"))
        end, who = min(ends, default=(began + 100_000 * SECOND, "callee"))
        while leg.up and caller.up and self.now < end:
            upcoming = [task[0] for task in self.tasks]
            self.wind(min([end, *upcoming]))
        if leg.up and caller.up:
            if who == "caller":
                caller.hang_up("NORMAL_CLEARING")
            elif who == "transferred":
                caller.state = "CS_ROUTING"
            elif who == "moved":
                caller.state = "CS_HIBERNATE"
        return "NORMAL_CLEARING"

    def execute(self, channel: Channel, application: str, data: str) -> None:
        """An application, on a channel that is up."""
        channel.applications.append((application, data))
        match application:
            case "bridge":
                self.bridge(channel, data)
            case "radius_auth":
                result, variables = self.radius.authorize(channel.get)
                channel.set("radius_auth_result", result)
                for name, value in variables.items():
                    channel.set(name, value)
            case "respond":
                assert not channel.answered
                channel.sip = data
            case "sched_hangup":
                words = data.split(" ")
                self.schedule(words[0], channel.uuid, f"uuid_kill {channel.uuid} {words[1]}")
            case "lua":
                self.run(channel, *data.split(" "))
            case _:
                raise AssertionError(f"an application that is not known: {application} {data}")


class Script:
    """One run of one script."""

    def __init__(
        self, switch: Switch, runtime: Any, channel: Channel | None, words: list[str]
    ) -> None:
        self.switch = switch
        self.runtime = runtime
        self.channel = channel
        self.words = words
        self.sessions: dict[int, Channel | None] = {}

    def run(self) -> None:
        lua, switch = self.runtime, self.switch
        names = lua.table_from({k.encode(): v.encode() for k, v in SESSION.items()})
        make = lua.compile(BOOTSTRAP)(self.method, names)
        api = lua.table_from({b"execute": b"ss?", b"executeString": b"s", b"getTime": b""})
        api_object = lua.compile(BOOTSTRAP)(self.api, api)
        place = lua.globals()
        before = set(place)
        freeswitch = lua.table_from(
            {
                b"API": lambda: api_object(0),
                b"Session": lambda uuid: make(self.attach(uuid)),
                b"consoleLog": lambda level, text: switch.log.append(
                    f"{level.decode()} {text.decode('latin-1')}"
                ),
                b"getGlobalVariable": lambda name: switch.globals.get(name.decode(), "").encode(),
            }
        )
        given = {
            b"freeswitch": freeswitch,
            b"argv": lua.table_from([word.encode() for word in self.words[1:]]),
        }
        given[b"argv"][0] = self.words[0].encode()
        if self.channel is not None:
            self.sessions[1] = self.channel
            given[b"session"] = make(1)
        for name, value in given.items():
            place[name] = value
        self.prepare(lua)
        path = (ROOT / self.words[0]).read_text(encoding="utf-8").encode()
        try:
            lua.compile(path)()
        except Exception as error:  # noqa: BLE001 - mod_lua logs it, and the dialplan goes on
            switch.errors.append(f"{self.words}: {error}")
        left = set(place) - before - set(given)
        assert left == set(), f"globals: {left}"

    def prepare(self, lua: Any) -> None:
        """The settings of this test, and luasocket's place."""
        load = lua.eval(b"function(path) return assert(loadfile(path))() end")
        settings = load(str(SCRIPTS / "sky_settings.lua").encode())
        settings[b"transport"] = self.switch.transport.encode()
        # As in xml_radius.
        settings[b"radius"][b"timeout_seconds"] *= SECONDS_OF_A_SECOND
        if self.switch.settings is not None:
            self.switch.settings(Settings(lua, settings))
        lua.globals()[b"package"][b"loaded"][b"sky_settings"] = settings
        if self.switch.transport == "radius":
            from tests.lua.luasocket import module

            lua.globals()[b"package"][b"loaded"][b"socket"] = module(lua)

    def attach(self, uuid: bytes) -> int:
        assert uuid.decode() in self.switch.channels, (
            "Session() of a leg that is gone would dial it"
        )
        number = len(self.sessions) + 2
        self.sessions[number] = self.switch.channels[uuid.decode()]
        return number

    def api(self, _id: int, name: bytes, *arguments: bytes) -> bytes:
        assert name == b"execute"
        command, *rest = (argument.decode("latin-1") for argument in arguments)
        return self.switch.api(command, rest[0] if rest else "").encode()

    # ------------------------------------------------------------------ session:…

    def method(self, number: int, name: bytes, *arguments: Any) -> Any:
        channel = self.sessions[number]
        assert channel is not None, "the object was destroyed"
        said: list[Any] = [a.decode("latin-1") if isinstance(a, bytes) else a for a in arguments]
        switch = self.switch
        if channel is self.channel and channel.variables["direction"] == "inbound":
            switch.steps += 1
            if switch.steps == switch.leaves_at_step:
                channel.hang_up("NORMAL_CLEARING")
        match name.decode():
            case "getVariable":
                value = channel.get(said[0])
                return None if value is None else value.encode("latin-1")
            case "setVariable":
                channel.set(said[0], said[1])
            case "getState":
                return channel.state.encode()
            case "ready":
                return channel.up and channel.state in {"CS_EXECUTE", "CS_EXCHANGE_MEDIA"}
            case "answered":
                return bool(channel.answered)
            case "answer":
                channel.answered = channel.answered or switch.now
            case "hangup":
                channel.hang_up(said[0] if said else "NORMAL_CLEARING")
            case "execute":
                if channel.up:
                    switch.execute(channel, said[0], said[1] if len(said) > 1 else "")
            case "destroy":
                self.sessions[number] = None
            case "playAndGetDigits":
                return self.digits(channel, *said).encode()
            case "streamFile":
                if not channel.up or not switch.can_play(said[0]):
                    return 0
                channel.heard.append(said[0])
                return 1
            case "say":
                if channel.up and switch.has_sounds:
                    channel.heard.append(said[0])
            case "sleep":
                switch.wind(switch.now + said[0] * 1000)
        return None

    def digits(
        self, channel: Channel, least: int, most: int, tries: int, _ms: int, _end: str,
        prompt: str, bad: str, pattern: str, variable: str = "", *_more: Any,
    ) -> str:  # fmt: skip
        """What the caller types next, if it fits."""
        assert tries == 1
        assert prompt
        assert bad == ""
        # As in switch_ivr_read: a prompt that cannot be played leaves no result at all.
        channel.set("read_result", "")
        channel.set(variable, "")
        if not channel.up or not self.switch.can_play(prompt):
            return ""
        self.switch.asked.append(prompt)
        typed = self.switch.typed.pop(0) if self.switch.typed else ""
        if typed is Hangup:
            channel.hang_up("NORMAL_CLEARING")
            return ""
        assert isinstance(typed, str)
        channel.set("read_result", "success" if typed else "timeout")
        # FreeSWITCH's regex matches anywhere.
        if not least <= len(typed) <= most or not re.search(pattern, typed):
            channel.set(f"{variable}_invalid" if variable else "", typed)
            return ""
        if variable:
            channel.set(variable, typed)
        return typed


class Settings:
    """sky_settings.lua as a test changes it: settings["card"]["tries"] = 2."""

    def __init__(self, lua: Any, table: Any) -> None:
        self._lua = lua
        self._table = table

    def __getitem__(self, name: str) -> Settings:
        return Settings(self._lua, self._table[name.encode()])

    def __setitem__(self, name: str, value: Any) -> None:
        self._table[name.encode()] = self._of(value)

    def _of(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict):
            return self._lua.table_from({k.encode(): self._of(v) for k, v in value.items()})
        if isinstance(value, list):
            return self._lua.table_from([self._of(item) for item in value])
        return value


def read_dial_string(data: str) -> tuple[dict[str, str], str]:
    """The variables and the one leg behind them; fails on anything that is not that.

    How long one leg may ring counts only in its own brackets.
    """
    found = re.fullmatch(r"\{([^{}]*)\}\[([^\[\]]*)\]([^{}\[\],|<>'\" ]+)", data)
    assert found is not None, f"no dial string of one leg: {data}"
    variables = {}
    for group in (1, 2):
        for part in re.findall(r"(?:[^,']|'[^']*')+", found[group]):
            name, _, value = part.partition("=")
            assert re.fullmatch(r"\w+", name), part
            assert re.fullmatch(r"'[^']*'", value), part
            assert (name in ("leg_timeout", "leg_progress_timeout")) == (group == 2), part
            variables[name] = value[1:-1]
    return variables, found[3]


def stamp(microseconds: int) -> str:
    """A time as mod_xml_radius writes it with time_format 1."""
    seconds, rest = divmod(microseconds, SECOND)
    text = time.strftime("%H:%M:%S.{} UTC %a %b %d %Y", time.gmtime(seconds))
    return text.format(f"{rest // 1000:03}")
