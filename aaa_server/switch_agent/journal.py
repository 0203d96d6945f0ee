"""A file of lines that survives the process: what was written is on disk before it is told.

Lines wait while the disk works, and go together with the next fsync: so one slow disk write
holds up neither events nor answers. A line is a checksum and a JSON object; a torn last line,
of a write that a crash cut off, is dropped when the file is read. When the file has grown it is
written anew from what still matters (`snapshot`), beside the old one, which it then replaces.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from twisted.python.failure import Failure

log = Logger()

Entry = dict[str, Any]

FILE_NAME = "journal"
# It is written anew when it is longer than this and than twice what mattered last time.
ANEW_OCTETS_MIN = 1 << 20
COMPLAINT_SECONDS = 60.0


class SpoolInUse(Exception):
    """Another agent works in the folder."""


class Journal:
    """The journal in `folder`. Nothing but `read` may be called before `read`.

    `in_thread` runs a function where it may block, one at a time, and fires when it has ended.
    """

    def __init__(
        self,
        folder: Path,
        *,
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        snapshot: Callable[[], Iterable[Entry]],
        seconds: Callable[[], float],
    ) -> None:
        self.octets = 0
        self.broken = ""  # why the last write failed; '' when it did not
        self.dropped_lines = 0  # that were unreadable
        self._folder = folder
        self._in_thread = in_thread
        self._snapshot = snapshot
        self._seconds = seconds
        self._number = -1
        self._lock = -1
        self._anew_at = ANEW_OCTETS_MIN
        self._waiting: list[bytes] = []
        self._told: list[Deferred[None]] = []
        self._writing: list[Deferred[None]] | None = None
        self._complained_at: float | None = None

    @property
    def unwritten(self) -> int:
        """Entries that are not on disk yet, of those that somebody waits for."""
        return len(self._told) + len(self._writing or ())

    def read(self) -> list[Entry]:
        """All entries, in the order in which they were written; opens the file for more.

        Raises `SpoolInUse`, or `OSError`.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise SpoolInUse(f"{self._folder}: another agent works there") from error
        path = self._folder / FILE_NAME
        content = path.read_bytes() if path.exists() else b""
        entries = []
        for line in content.splitlines():
            entry = _entry(line)
            if entry is None:
                self.dropped_lines += 1
            else:
                entries.append(entry)
        self._number = _open(path)
        if content and not content.endswith(b"\n"):
            os.write(self._number, b"\n")  # a torn line ends here, and spoils no other
        self.octets = os.fstat(self._number).st_size
        _sync_folder(self._folder)
        if self.dropped_lines:
            log.warn(
                "The spool had {lines} unreadable lines: a write was cut off",
                lines=self.dropped_lines,
            )
        return entries

    def append(self, entry: Entry) -> Deferred[None]:
        """Have `entry` written; fires when it is on disk, or cannot be put there (`broken`)."""
        self._waiting.append(_line(entry))
        told: Deferred[None] = Deferred()
        self._told.append(told)
        self._write()
        return told

    def note(self, entry: Entry) -> None:
        """Have `entry` written with the next ones; nobody waits for it."""
        self._waiting.append(_line(entry))
        if len(self._waiting) > 1000:
            self._write()

    def close(self) -> Deferred[None]:
        """Write what waits, and close the file."""
        done = self.append({})
        return done.addCallback(self._close)

    def _close(self, _: None) -> None:
        os.close(self._number)
        os.close(self._lock)

    def _write(self) -> None:
        if self._writing is not None:
            return
        lines, self._waiting = self._waiting, []
        self._writing, self._told = self._told, []
        anew = self.octets > self._anew_at
        if anew or self.broken:
            # Whatever waits is in it: what is told to the journal has been done already.
            lines = [_line(entry) for entry in self._snapshot()]
            work = self._replace
        else:
            work = self._append
        block = b"".join(lines)
        self._in_thread(lambda: work(block)).addCallbacks(self._written, self._failed)

    def _append(self, block: bytes) -> None:
        _write_all(self._number, block)
        os.fsync(self._number)
        self.octets += len(block)

    def _replace(self, block: bytes) -> None:
        path = self._folder / FILE_NAME
        beside = self._folder / f"{FILE_NAME}.new"
        beside.unlink(missing_ok=True)
        number = _open(beside)
        try:
            _write_all(number, block)
            os.fsync(number)
            beside.replace(path)
            _sync_folder(self._folder)
        except OSError:
            os.close(number)
            raise
        os.close(self._number)
        self._number = number
        self.octets = len(block)
        self._anew_at = max(ANEW_OCTETS_MIN, 2 * len(block))

    def _written(self, _: None) -> None:
        if self.broken:
            log.info("The spool can be written again")
        self.broken = ""
        self._tell()

    def _failed(self, failure: Failure) -> None:
        failure.trap(OSError)
        self.broken = failure.getErrorMessage()
        now = self._seconds()
        if self._complained_at is None or now - self._complained_at >= COMPLAINT_SECONDS:
            self._complained_at = now
            log.error(
                "The spool cannot be written: {reason}. Records are sent all the same, and "
                "are lost if this process ends before they are acknowledged",
                reason=self.broken,
            )
        self._tell()

    def _tell(self) -> None:
        told, self._writing = self._writing or [], None
        for one in told:
            one.callback(None)
        if self._told:
            self._write()


def _line(entry: Entry) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (crc32(text), text)


def _entry(line: bytes) -> Entry | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % crc32(text):
        return None
    entry: Entry = json.loads(text)
    return entry


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write_all(number: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(number, view) :]


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
