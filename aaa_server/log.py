"""What the server says: readable lines, or one JSON object a line for machines.

Fields whose name speaks of a secret are masked before the message is put together, so a
careless format string shows asterisks.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from zope.interface import implementer

from aaa_server.config import MASK, mask_url

if TYPE_CHECKING:
    from constantly import NamedConstant
    from twisted.logger import LogEvent

# As words of a name: `pin` is a secret, `pinned` is not.
SECRET_WORDS = frozenset(
    {
        "cleartext",
        "credential",
        "key",
        "passphrase",
        "password",
        "pin",
        "secret",
        "secrets",
        "token",
    }
)
# What a peer sends may be in a message; a line break in it must not begin a forged line.
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(0x80, 0xA0))}
FIELD_TYPES = (str, int, float, bool, type(None))


@implementer(ILogObserver)
class LineObserver:
    """Writes an event as a line of text, with the traceback of a failure below it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        """Writes one event."""
        safe = masked(event)
        level = _level(event).name
        line = (
            f"{_time(event)} {level:<8} {event.get('log_namespace', '-')}:"
            f" {_message(safe).translate(CONTROL)}\n"
        )
        self._stream.write(line + _traceback(safe))
        self._stream.flush()


@implementer(ILogObserver)
class JsonObserver:
    """Writes an event as one JSON object: time, level, namespace, message, its own fields."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        """Writes one event."""
        safe = masked(event)
        document: dict[str, object] = {
            name: mask_url(value) if isinstance(value, str) else value
            for name, value in safe.items()
            if not name.startswith("log_") and isinstance(value, FIELD_TYPES)
        }
        document |= {
            "time": _time(event),
            "level": _level(event).name,
            "namespace": str(event.get("log_namespace", "-")),
            "message": _message(safe),
        }
        traceback = _traceback(safe)
        if traceback:
            document["traceback"] = traceback
        self._stream.write(json.dumps(document, ensure_ascii=False) + "\n")
        self._stream.flush()


def make_observer(form: str, stream: TextIO, *, debug: bool = False) -> ILogObserver:
    """The observer for `[log] format` "text" or "json"; `debug` lets debug events through."""
    observer: ILogObserver = JsonObserver(stream) if form == "json" else LineObserver(stream)
    level = LogLevel.debug if debug else LogLevel.info
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=level)])


def start_logging(form: str, stream: TextIO, *, debug: bool = False) -> None:
    """Sends all events to `stream`; once a process, which Twisted insists on."""
    globalLogBeginner.beginLoggingTo(
        [make_observer(form, stream, debug=debug)], redirectStandardIO=False
    )


def masked(event: LogEvent) -> LogEvent:
    """A copy of `event` whose secret fields are masked."""
    return {
        name: MASK if SECRET_WORDS.intersection(re.split(r"[_\W]+", name.lower())) else value
        for name, value in event.items()
    }


def _message(event: LogEvent) -> str:
    text = mask_url(formatEvent(event) or str(event.get("log_text", "")))
    # Twisted's old way of logging puts the traceback into the text; it is shown below.
    return text.partition("\n")[0] if event.get("isError") and "failure" in event else text


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure", event.get("failure"))
    return "" if failure is None else mask_url(failure.getTraceback().rstrip()) + "\n"


def _time(event: LogEvent) -> str:
    at = datetime.fromtimestamp(event.get("log_time", 0), UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(event: LogEvent) -> NamedConstant:
    level: NamedConstant = event.get("log_level") or LogLevel.info
    return level
