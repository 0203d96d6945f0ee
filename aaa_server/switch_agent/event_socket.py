"""mod_event_socket's language: frames of header lines and a body, events inside them. No I/O.

A frame is lines `Name: value`, an empty line, and as many octets as Content-Length says. An
event (`event plain`) is a body of such lines again, its values quoted as in URLs, and may have
a body of its own (the result of a bgapi).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

HEAD_OCTETS_MAX = 65_536
# An event has some 10 000 octets. What is longer than this is passed over, and the switch is
# asked for its channels instead.
EVENT_OCTETS_MAX = 1 << 20
# `show channels as json` takes about 1 000 octets a channel. As the result of a job it is an
# event, and so while somebody waits for one an event may be as long as this, too.
ANSWER_OCTETS_MAX = 64 << 20

AUTH_REQUEST = "auth/request"
COMMAND_REPLY = "command/reply"
API_RESPONSE = "api/response"
EVENT = "text/event-plain"
DISCONNECT_NOTICE = "text/disconnect-notice"
REJECTION = "text/rude-rejection"  # our address is not in the event socket's access list


class BrokenFrame(Exception):
    """What comes is no event socket's language; the connection is of no more use."""


class Frame(NamedTuple):
    """`headers` by name in small letters. `passed_over`: the body was too long to be kept."""

    headers: Mapping[str, str]
    body: bytes = b""
    passed_over: bool = False

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "")


class Event:
    """An event's headers, unquoted when they are asked for, and its body."""

    __slots__ = ("_headers", "body")

    def __init__(self, headers: dict[str, str], body: str = "") -> None:
        self._headers = headers
        self.body = body

    def get(self, name: str) -> str:
        """The header's value; '' where there is none."""
        value = self._headers.get(name, "")
        return unquote(value, errors="replace") if "%" in value else value

    def variable(self, name: str) -> str:
        """The channel variable's value; '' where there is none."""
        return self.get(f"variable_{name}")

    @property
    def name(self) -> str:
        return self.get("Event-Name")

    @property
    def uuid(self) -> str:
        return self.get("Unique-ID")


class Frames:
    """Cuts what is received into frames, whatever the pieces are that it comes in.

    `job_waits` says whether an event may be the result of a job.
    """

    def __init__(self, job_waits: Callable[[], bool] = lambda: False) -> None:
        self._job_waits = job_waits
        self._buffer = bytearray()
        self._head: dict[str, str] | None = None
        self._missing = 0  # octets of the body
        self._passing_over = False

    def feed(self, octets: bytes) -> Iterator[Frame]:
        """The frames that `octets` complete. Raises `BrokenFrame`."""
        self._buffer += octets
        while True:
            if self._head is None and not self._read_head():
                return
            assert self._head is not None
            if self._passing_over:
                gone = min(self._missing, len(self._buffer))
                del self._buffer[:gone]
                self._missing -= gone
                if self._missing:
                    return
                body = b""
            else:
                if len(self._buffer) < self._missing:
                    return
                body = bytes(self._buffer[: self._missing])
                del self._buffer[: self._missing]
            frame = Frame(self._head, body, self._passing_over)
            self._head, self._missing, self._passing_over = None, 0, False
            yield frame

    def _read_head(self) -> bool:
        # FreeSWITCH puts an empty line too much after some replies.
        while self._buffer[:1] and self._buffer[0] in b"\r\n":
            del self._buffer[:1]
        end = self._buffer.find(b"\n\n")
        if end < 0:
            if len(self._buffer) > HEAD_OCTETS_MAX:
                raise BrokenFrame(f"no end of a head within {HEAD_OCTETS_MAX} octets")
            return False
        head = {name.lower(): value for name, value in _lines(bytes(self._buffer[:end]))}
        del self._buffer[: end + 2]
        length = head.get("content-length", "0")
        if not length.isdecimal() or len(length) > 12:
            raise BrokenFrame(f"Content-Length says {length[:32]!r}")
        self._head = head
        self._missing = int(length)
        short = head.get("content-type") == EVENT and not self._job_waits()
        self._passing_over = self._missing > (EVENT_OCTETS_MAX if short else ANSWER_OCTETS_MAX)
        return True


def event_of(octets: bytes) -> Event:
    """The event in a frame's body, or in the output of `uuid_dump UUID txt`."""
    head, _, body = octets.partition(b"\n\n")
    return Event(dict(_lines(head)), body.decode("utf-8", "replace"))


def _lines(head: bytes) -> Iterator[tuple[str, str]]:
    for line in head.decode("utf-8", "replace").split("\n"):
        name, colon, value = line.rstrip("\r").partition(":")
        if colon:
            yield name, value.lstrip(" ")
