"""A provider's call records held against ours, call by call.

Their lines go to a temporary table (COPY), ours beside them, and all that follows is set by
set: pairs that could be one call, by the end of the number and the time; of those, again and
again, the ones that are each other's best, until none is left. So a call is matched once.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.storage import reconciliation_sql as sql
from aaa_server.storage.problem import BadValue, NotFound
from aaa_server.storage.viewer import Viewer, require_operator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.provider_file import ProviderFile, TheirCall
    from aaa_server.storage.accounts import Account

WHAT = "what providers charge"
LIST_MAX = 10_000
ROWS_AT_ONCE = 10_000
COPY_OCTETS = 256 * 1024
CLASSES = ("different", "missing-at-ours", "missing-at-theirs", "within")
DISPUTED = CLASSES[:3]


class Question(NamedTuple):
    """What is compared, and how closely. The window is of the clocks, ours to theirs."""

    begins: datetime
    ends: datetime
    tolerance_seconds: int = 2
    tolerance_micros: int = 1_000
    window_seconds: int = 120
    reading: str = "{}"  # JSON: how the file is read


class Reconciliation(NamedTuple):
    """One comparison that is kept."""

    reconciliation_id: int
    provider: str
    created_at: datetime
    file_name: str
    sha256: str
    begins: datetime
    ends: datetime
    currency: str
    tolerance_seconds: int
    tolerance_micros: int
    window_seconds: int
    lines: int
    bad_lines: int
    unanswered: int
    outside: int
    our_calls: int
    our_seconds: int
    our_micros: int
    their_calls: int
    their_seconds: int
    their_micros: int | None  # None: the file has no amounts
    exact: int
    within: int
    different: int
    missing_at_ours: int
    missing_at_theirs: int


class Code(NamedTuple):
    """One destination of it."""

    code: str
    destination: str
    our_calls: int
    our_seconds: int
    our_micros: int
    their_calls: int
    their_seconds: int
    their_micros: int | None  # None: the file has no amounts
    exact: int
    within: int
    different: int
    missing_at_ours: int
    missing_at_theirs: int


class ComparedCall(NamedTuple):
    """One call that is not exactly the same, or is on one side alone."""

    kind: str
    differs: tuple[str, ...]
    code: str
    destination: str
    line: int | None
    their_number: str | None
    their_at: datetime | None
    their_seconds: int | None
    their_nanos: int | None
    their_micros: int | None
    call_id: int | None
    our_number: str | None
    our_at: datetime | None
    our_seconds: int | None
    our_nanos: int | None
    our_micros: int | None


def digest(path: Path) -> bytes:
    """The file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def done_before(
    cursor: Cursor, viewer: Viewer, provider: Account, question: Question, sha256: bytes
) -> int | None:
    """The number of the same comparison of the same file, if there was one."""
    require_operator(viewer, WHAT)
    cursor.execute(sql.DONE_BEFORE, _key(provider, question, sha256))
    row = cursor.fetchone()
    return None if row is None else int(row[0])


def forget(cursor: Cursor, viewer: Viewer, reconciliation_id: int) -> None:
    """Remove a comparison, so that it can be made anew."""
    require_operator(viewer, WHAT)
    cursor.execute(sql.FORGET, (reconciliation_id,))


def _key(provider: Account, question: Question, sha256: bytes) -> dict[str, object]:
    return {**question._asdict(), "provider_id": provider.account_id, "sha256": sha256}


def run(
    cursor: Cursor,
    viewer: Viewer,
    provider: Account,
    question: Question,
    *,
    sha256: bytes,
    file_name: str,
    file: ProviderFile,
) -> int:
    """Compare all of `file`, and keep what comes of it; the number of the comparison.

    Bad lines are left out: the caller looks at `file.bad` and undoes it all if it wants.
    """
    require_operator(viewer, WHAT)
    if provider.kind != "provider":
        raise BadValue(f"{provider.code} is a {provider.kind}: providers send such files")
    cursor.execute(sql.PREPARE)
    _copy(cursor, file)
    values: dict[str, object] = {
        **_key(provider, question, sha256),
        "file_name": file_name,
        "currency": provider.currency,
        "time": file.time,
        "by_billed": file.duration == "billed",
        "lines": file.counts.lines,
        "bad_lines": len({bad.line for bad in file.bad}),
        "unanswered": file.counts.unanswered,
    }
    for statement in (sql.OURS, sql.OUR_KEYS, sql.CANDIDATES):
        cursor.execute(statement, values)
    cursor.execute(sql.READY)
    while True:
        cursor.execute(sql.PAIR_BEST)
        if cursor.rowcount == 0:
            break
        cursor.execute(sql.DROP_TAKEN)
    cursor.execute(sql.COMPARED, values)
    cursor.execute(sql.KEEP, values)
    row = cursor.fetchone()
    assert row is not None
    reconciliation_id = int(row[0])
    cursor.execute(sql.KEEP_CODES, (reconciliation_id,))
    cursor.execute(sql.KEEP_CALLS, (reconciliation_id,))
    return reconciliation_id


def list_all(
    cursor: Cursor, viewer: Viewer, *, provider_id: int | None = None
) -> list[Reconciliation]:
    """The newest last."""
    require_operator(viewer, WHAT)
    values = {"provider_id": provider_id, "number": None, "limit": LIST_MAX}
    cursor.execute(sql.LIST, values)
    return [Reconciliation(*row) for row in reversed(cursor.fetchall())]


def find(cursor: Cursor, viewer: Viewer, reconciliation_id: int) -> Reconciliation:
    """Raises `NotFound`."""
    require_operator(viewer, WHAT)
    cursor.execute(sql.LIST, {"provider_id": None, "number": reconciliation_id, "limit": 1})
    row = cursor.fetchone()
    if row is None:
        raise NotFound(
            f"there is no reconciliation {reconciliation_id}: "
            "`sky-aaa reconciliation list` shows all"
        )
    return Reconciliation(*row)


def codes(cursor: Cursor, viewer: Viewer, reconciliation_id: int) -> list[Code]:
    """The destinations, those with the largest difference of money first."""
    require_operator(viewer, WHAT)
    cursor.execute(sql.CODES, (reconciliation_id,))
    return [Code(*row) for row in cursor.fetchall()]


def calls(
    cursor: Cursor, viewer: Viewer, reconciliation_id: int, classes: Sequence[str]
) -> Iterator[ComparedCall]:
    """The calls of these classes, in order of time; read `ROWS_AT_ONCE` at a time."""
    require_operator(viewer, WHAT)
    with cursor.connection.cursor(name="compared") as rows:
        rows.itersize = ROWS_AT_ONCE
        rows.execute(sql.CALLS, (reconciliation_id, list(classes)))
        for row in rows:
            yield ComparedCall(*row)._replace(differs=tuple(row[1]))


def reading_text(headers: dict[str, str], rest: dict[str, str]) -> str:
    """How a file is read, as one text that is the same for the same."""
    return json.dumps({"headers": headers, **rest}, sort_keys=True)


def _copy(cursor: Cursor, file: ProviderFile) -> None:
    rows = _Rows(file.calls())
    try:
        cursor.copy_expert(sql.COPY, rows)  # type: ignore[arg-type] # read() is all it calls
    except psycopg2.errors.QueryCanceled:
        # What is wrong with the file comes out as a COPY that was given up.
        if rows.problem is not None:
            raise rows.problem from None
        raise


class _Rows:
    """Lines for COPY, made as they are asked for; `problem` is why they ended early."""

    def __init__(self, calls: Iterable[TheirCall]) -> None:
        self._calls = iter(calls)
        self._left = b""
        self.problem: Exception | None = None

    def read(self, size: int = COPY_OCTETS) -> bytes:
        """Up to `size` octets; b'' at the end."""
        try:
            return self._read(size)
        except Exception as problem:
            self.problem = problem
            raise

    def _read(self, size: int) -> bytes:
        parts = [self._left]
        length = len(self._left)
        while length < size:
            call = next(self._calls, None)
            if call is None:
                break
            parts.append(_copy_line(call))
            length += len(parts[-1])
        everything = b"".join(parts)
        self._left = everything[size:]
        return everything[:size]


def _copy_line(call: TheirCall) -> bytes:
    destination = call.destination.replace("\\", "\\\\").replace("\0", "")
    return (
        f"{call.line}\t{call.number}\t{call.ani}\t{call.at.isoformat()}\t{call.seconds}"
        f"\t{_nullable(call.micros)}\t{_nullable(call.nanos)}\t{call.code}\t{destination}\n"
    ).encode()


def _nullable(number: int | None) -> str:
    return "\\N" if number is None else str(number)
