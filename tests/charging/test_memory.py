"""What memory holds between batches is bounded, and the oldest goes first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aaa_server.charging.call import Call
from aaa_server.charging.catalogue import Catalogue
from aaa_server.charging.ledger import Ledger, Policy
from aaa_server.storage import charging_memory
from aaa_server.storage.charging_memory import Memory

if TYPE_CHECKING:
    import pytest

NOW = datetime(2026, 1, 15, tzinfo=UTC)


def batch(*sessions: str) -> Ledger:
    ledger = Ledger(Catalogue(1, 1, "USD", {}, {}), Policy(), iter(range(1, 100)))
    for number, session in enumerate(sessions):
        call = Call(1, session, number, "authorized", NOW, NOW)
        ledger.calls[call.key] = call
    return ledger


def test_the_oldest_calls_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charging_memory, "CALLS_HELD_MAX", 3)
    memory = Memory()
    for sessions in (("a", "b"), ("c", "d", "e"), ("f",)):
        memory.keep(batch(*sessions))
    assert [session for _, session in memory.calls] == ["c", "d", "e", "f"]
    memory.keep(batch("g", "h"))
    assert [session for _, session in memory.calls] == ["d", "e", "f", "g", "h"]
