"""Called numbers: what people and switches write, down to digits, `*` and `#`."""

from __future__ import annotations

NUMBER_DIGITS_MAX = 32  # longer is no telephone number; rate.prefix holds as many

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
