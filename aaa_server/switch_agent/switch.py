"""The connection to FreeSWITCH's event socket: kept open, asked, listened to.

Commands are answered in their order. What may take the switch long (a list of all channels) is
asked as a background job, so that no cut waits behind it.
"""

from __future__ import annotations

import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from aaa_server.switch_agent import event_socket
from aaa_server.switch_agent.event_socket import BrokenFrame, Event, Frames, event_of
from aaa_server.switch_agent.leg import UUID, whole

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall
    from twisted.python.failure import Failure

    from aaa_server.switch_agent.event_socket import Frame

log = Logger()

EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_HANGUP_COMPLETE",
    "BACKGROUND_JOB",
    "HEARTBEAT",
)
RECONNECT_SECONDS_MIN = 0.2
RECONNECT_SECONDS_MAX = 10.0
CONNECT_SECONDS_MAX = 5.0
# The switch sends a HEARTBEAT every 20 seconds, by default.
SILENCE_SECONDS_MAX = 70.0
ANSWER_SECONDS_MAX = 30.0
LOOK_SECONDS = 5.0


class SwitchGone(Exception):
    """The event socket is not open, or was closed before the answer came."""


class Refused(Exception):
    """The switch does not take our password, or not our address."""


class Listener(Protocol):
    """Who hears of events and of the connection."""

    def connected(self, uptime_seconds: int) -> None: ...

    def disconnected(self) -> None: ...

    def heard(self, event: Event) -> None: ...

    def look_again(self) -> None: ...


class Connection(TwistedProtocol):
    """One connection. `opened` is called once it is authenticated and subscribed."""

    def __init__(self, switch: Switch, password: str, clock: Any) -> None:
        self._switch = switch
        self._password = password
        self._clock = clock
        self._frames = Frames(lambda: bool(self._jobs))
        self._answers: deque[tuple[float, Deferred[str]]] = deque()
        self._jobs: dict[str, tuple[float, Deferred[str]]] = {}
        self._heard_at = clock.seconds()
        self._greeted = False
        self._look = LoopingCall(self._look_for_silence)
        self._look.clock = clock
        self.ready = False
        self.why = ""

    def connectionMade(self) -> None:
        self._look.start(LOOK_SECONDS, now=False)

    def dataReceived(self, data: bytes) -> None:
        self._heard_at = self._clock.seconds()
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
        except BrokenFrame as error:
            self.give_up(str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._look.running:
            self._look.stop()
        waiting = [answer for _, answer in self._answers]
        waiting += [answer for _, answer in self._jobs.values()]
        self._answers.clear()
        self._jobs.clear()
        self._switch.lost(self, self.why or reason.getErrorMessage())
        for answer in waiting:
            answer.errback(SwitchGone("the event socket was closed"))

    def give_up(self, why: str) -> None:
        """Close the connection; `why` is for the log."""
        self.why = self.why or why
        if self.transport is not None:
            # Not loseConnection: what cannot be written would be waited for.
            transport: Any = self.transport
            transport.abortConnection()

    def command(self, text: str, *headers: str) -> Deferred[str]:
        """Send a command; fires with its answer, or fails with `SwitchGone`."""
        assert "\n" not in text, "a command is one line"
        (answer,) = self.commands("\n".join([text, *headers]))
        return answer

    def commands(self, *texts: str) -> list[Deferred[str]]:
        """Send them in one write, so that no lost connection comes between them."""
        answers: list[Deferred[str]] = [Deferred() for _ in texts]
        self._answers.extend((self._clock.seconds(), answer) for answer in answers)
        assert self.transport is not None
        self.transport.write("".join(f"{text}\n\n" for text in texts).encode())
        return answers

    def job(self, text: str) -> Deferred[str]:
        """Have the switch do it beside; fires with the output."""
        number = str(uuid.uuid4())
        result: Deferred[str] = Deferred()
        self._jobs[number] = (self._clock.seconds(), result)
        self.command(f"bgapi {text}", f"Job-UUID: {number}").addCallbacks(
            self._begun, lambda _: None, callbackArgs=(number,)
        )
        return result

    def _begun(self, reply: str, number: str) -> None:
        if not reply.startswith("+OK") and number in self._jobs:
            self._jobs.pop(number)[1].errback(ValueError(f"the switch says {reply[:200]!r}"))

    def _take(self, frame: Frame) -> None:
        if frame.passed_over:
            octets = int(frame.headers["content-length"])
            log.warn("An event of {octets} octets is passed over", octets=octets)
            if frame.kind == event_socket.EVENT:
                self._passed_over(octets)
                return
        match frame.kind:
            case event_socket.EVENT:
                self._take_event(event_of(frame.body))
            case event_socket.COMMAND_REPLY:
                self._answered(frame.headers.get("reply-text", ""))
            case event_socket.API_RESPONSE:
                self._answered(frame.body.decode("utf-8", "replace"))
            case event_socket.AUTH_REQUEST:
                if not self._greeted:
                    self._greeted = True
                    ensureDeferred(self._open()).addErrback(self._not_opened)
            case event_socket.REJECTION:
                self.give_up("our address is not in its access list (apply-inbound-acl)")
            case event_socket.DISCONNECT_NOTICE:
                self.give_up("the switch said goodbye")

    def _passed_over(self, octets: int) -> None:
        if octets <= event_socket.ANSWER_OCTETS_MAX or not self._jobs:
            self._switch.listener.look_again()
            return
        # A result. To ask for the channels at once would bring as much again.
        results = [result for _, result in self._jobs.values()]
        self._jobs.clear()
        for result in results:
            result.errback(ValueError(f"the output is too long to be kept: {octets} octets"))

    def _answered(self, text: str) -> None:
        if self._answers:
            self._answers.popleft()[1].callback(text)

    def _take_event(self, event: Event) -> None:
        self._switch.listener.heard(event)
        if event.name == "BACKGROUND_JOB":
            job = self._jobs.pop(event.get("Job-UUID"), None)
            if job is not None:
                job[1].callback(event.body)

    async def _open(self) -> None:
        said = await self.command(f"auth {self._password}")
        if not said.startswith("+OK"):
            raise Refused("it does not take the password (event_socket_password)")
        uptime = await self.command("api uptime s")
        said = await self.command(f"event plain {' '.join(EVENTS)}")
        if not said.startswith("+OK"):
            raise Refused(f"it does not give events: {said[:200]}")
        self.ready = True
        self._switch.opened(self, whole(uptime.strip()))

    def _not_opened(self, failure: Failure) -> None:
        if failure.check(SwitchGone) is None:
            self.give_up(failure.getErrorMessage())

    def _look_for_silence(self) -> None:
        now = self._clock.seconds()
        for number in [n for n, (at, _) in self._jobs.items() if now - at > ANSWER_SECONDS_MAX]:
            self._jobs.pop(number)[1].errback(ValueError("the switch does not do the job"))
        if self._answers and now - self._answers[0][0] > ANSWER_SECONDS_MAX:
            self.give_up("it does not answer")
        elif now - self._heard_at > SILENCE_SECONDS_MAX:
            self.give_up("it is silent")


class Switch(ClientFactory):
    """The switch, connected or not. `problem` says why not."""

    noisy = False

    def __init__(self, host: str, port: int, password: str, *, reactor: Any) -> None:
        self.listener: Listener
        self.problem = "not connected yet"
        self.connections = 0
        self._host = host
        self._port = port
        self._password = password
        self._reactor = reactor
        self._connection: Connection | None = None
        self._delay_seconds = RECONNECT_SECONDS_MIN
        self._again: IDelayedCall | None = None
        self._connector: IConnector | None = None
        self._stopped = False

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.ready

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        self._again = None
        self._connector = self._reactor.connectTCP(
            self._host, self._port, self, timeout=CONNECT_SECONDS_MAX
        )

    def stop(self) -> None:
        """Close the connection, for good."""
        self._stopped = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._connector is not None:
            self._connector.disconnect()

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # noqa: ARG002 - Twisted's
        self._connection = Connection(self, self._password, self._reactor)
        return self._connection

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:  # noqa: ARG002
        self._retry(reason.getErrorMessage())

    def opened(self, connection: Connection, uptime_seconds: int) -> None:
        """The connection is of use."""
        assert connection is self._connection
        log.info("Connected to the event socket of {host}", host=self._host)
        self.problem = ""
        self.connections += 1
        self._delay_seconds = RECONNECT_SECONDS_MIN
        self.listener.connected(uptime_seconds)

    def lost(self, connection: Connection, why: str) -> None:
        """The connection is closed."""
        was_ready = connection.ready
        self._connection = None
        if was_ready:
            self.listener.disconnected()
        self._retry(why)

    def _retry(self, why: str) -> None:
        if self._stopped:
            return
        if why != self.problem:
            log.warn("No event socket of {host}: {why}", host=self._host, why=why)
        self.problem = why
        self._again = self._reactor.callLater(self._delay_seconds, self.start)
        self._delay_seconds = min(2 * self._delay_seconds, RECONNECT_SECONDS_MAX)

    async def api(self, *commands: str) -> str:
        """The output of a command that takes no time; of several, the last one's.

        They are sent in one go, and nothing comes between them. Raises `SwitchGone`.
        """
        assert not any("\n" in command for command in commands), "a command is one line"
        connection = self._open_connection()
        *others, last = connection.commands(*(f"api {command}" for command in commands))
        for answer in others:
            answer.addErrback(lambda _: None)  # they fail together
        return await last

    async def job(self, command: str) -> str:
        """The output of a command that may take its time.

        Raises `SwitchGone`, or `ValueError` when it is not done.
        """
        return await self._open_connection().job(command)

    async def exists(self, channel: str) -> bool:
        """Is there such a channel, and not one that is hanging up? Raises `SwitchGone`."""
        return (await self.api(f"uuid_exists {channel}")).startswith("true")

    async def kill(self, channel: str) -> bool:
        """End the channel, as one whose time is over; False: there is none. Raises `SwitchGone`."""
        assert UUID.fullmatch(channel), "a command's argument is one word"
        return (await self.api(f"uuid_kill {channel} ALLOTTED_TIMEOUT")).startswith("+OK")

    def _open_connection(self) -> Connection:
        connection = self._connection
        if connection is None or not connection.ready:
            raise SwitchGone(self.problem)
        return connection
