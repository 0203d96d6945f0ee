"""Numbers for new rows, taken from the database in blocks."""

from __future__ import annotations


class Identifiers:
    """Gives each of them once, in order."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Identifiers:
        return self

    def __next__(self) -> int:
        return self._numbers.pop()

    def add(self, block: range) -> None:
        self._numbers[:0] = reversed(block)
