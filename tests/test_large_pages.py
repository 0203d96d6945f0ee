"""Memory in use becomes large pages where the system has them, and stays what it was."""

from __future__ import annotations

import platform
from pathlib import Path

from aaa_server.large_pages import LARGE_PAGE_OCTETS, use_large_pages


def test_the_rest_is_left_when_time_is_up() -> None:
    held = bytearray(64 * LARGE_PAGE_OCTETS)
    assert use_large_pages(seconds_max=-1) <= LARGE_PAGE_OCTETS
    assert held == bytes(64 * LARGE_PAGE_OCTETS)


def test_memory_says_the_same_afterwards() -> None:
    held = [str(number) * 10 for number in range(200_000)]
    octets = use_large_pages()
    assert octets % LARGE_PAGE_OCTETS == 0
    assert held == [str(number) * 10 for number in range(200_000)]
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    release = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit())
    if setting.exists() and "[never]" not in setting.read_text() and release >= (6, 1):
        assert octets > 0
