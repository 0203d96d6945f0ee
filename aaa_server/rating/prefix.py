"""Called numbers: what people and switches write, down to digits, `*` and `#`."""

from __future__ import annotations

NUMBER_DIGITS_MAX = 32  # longer is no telephone number; rate.prefix holds as many
# Country codes have 1 to 3 digits, so three tell how deep a country's prefixes go.
LEAD_DIGITS = 3

_SCHEMES = ("sip:", "sips:", "tel:")
# What RFC 3966 §5.1.1 calls visual separators, and what people type besides.
_SEPARATORS = str.maketrans("", "", " -.()/\t\u00a0")
_ESCAPES = (("%23", "#"), ("%2b", "+"), ("%2B", "+"), ("%2a", "*"), ("%2A", "*"))
_DIALLED = frozenset("0123456789*#")


def number_of(text: str) -> str:
    """The number in `+44 20 7183-8750`, `sip:+4420@host;x=y` or `tel:…`; '' when it is none.

    One leading `+` is dropped, since prefixes are written without it. Letters, an empty
    user part and more than 32 digits make it no number.
    """
    if text.isdigit() and text.isascii():
        return text if len(text) <= NUMBER_DIGITS_MAX else ""
    if text.endswith(">") and "<" in text:
        text = text[text.rindex("<") + 1 : -1]
    text = text.strip()
    lower = text[:5].lower()
    for scheme in _SCHEMES:
        if lower.startswith(scheme):
            text = text[len(scheme) :]
            break
    text = text.partition("@")[0].partition(";")[0]
    if "%" in text:
        for escape, character in _ESCAPES:
            text = text.replace(escape, character)
    number = text.translate(_SEPARATORS).removeprefix("+")
    if not 0 < len(number) <= NUMBER_DIGITS_MAX or not _DIALLED.issuperset(number):
        return ""
    return number


def dial_number(called: str, *, strip: int, prepend: str) -> str:
    """What is sent to the provider: `strip` characters off the front, then `prepend` before it."""
    return prepend + called[strip:]


class Prefixes:
    """Every prefix that any of several tariffs has, and how often the rows of each changed.

    Numbers that begin with the same longest prefix known here find the same row in each
    of the tariffs, so what was found out for one of them holds for all. A prefix that is
    gone stays known: that makes a distinction too many, not a wrong answer.
    """

    __slots__ = ("_answer", "_asked", "_known", "_leads", "_short_changes")

    def __init__(self) -> None:
        self._known: set[str] = set()
        # First digits -> the longest prefix's length and the number of changes below them.
        self._leads: dict[str, tuple[int, int]] = {}
        self._short_changes = 0
        # The last number that was asked for, which is asked for several times a call.
        self._asked = ""
        self._answer = ("", 0)

    def change(self, prefix: str) -> None:
        """The rows of `prefix` in one of the tariffs are not what they were."""
        self._known.add(prefix)
        self._asked = ""
        if len(prefix) < LEAD_DIGITS:
            self._short_changes += 1
            return
        lead = prefix[:LEAD_DIGITS]
        depth, changes = self._leads.get(lead, (0, 0))
        self._leads[lead] = max(depth, len(prefix)), changes + 1

    def longest(self, called: str) -> tuple[str, int]:
        """The longest known prefix of `called`, '' if none, and a count of what touches it.

        While the count of a prefix is the same no row has changed that a number with this
        longest prefix could find. Counts of two prefixes say nothing about each other.
        """
        if called != self._asked or not called:
            self._answer = self._longest(called)
            self._asked = called
        return self._answer

    def _longest(self, called: str) -> tuple[str, int]:
        length, changes = self._leads.get(called[:LEAD_DIGITS], (LEAD_DIGITS - 1, 0))
        known = self._known
        while length > 0:
            prefix = called[:length]
            if prefix in known:
                # A short one is shared by several leads, and theirs are not its rows.
                short = length < LEAD_DIGITS
                return prefix, self._short_changes + (0 if short else changes)
            length -= 1
        return "", self._short_changes

    def __len__(self) -> int:
        """How many different prefixes are known."""
        return len(self._known)
