"""What a value looks like: for programs exactly, for people in their language.

Money is micros, prices nanos a minute, percentages parts per million, minutes seconds, all
integers; nothing here rounds money. Text from outside that a spreadsheet would take for a
formula is told apart by an apostrophe before it.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_decimal, format_percent

from aaa_server.rating import money
from web_reports.words import translate

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

RIGHT = ("integer", "money", "price", "percent", "seconds", "minutes", "milliseconds")
KINDS = (*RIGHT, "text", "word", "phone", "currency", "time", "hour", "day", "yes")
UNITS = {"percent": "%", "seconds": "h:mm:ss", "minutes": "min", "milliseconds": "s"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_PHONE = re.compile(r"\+?[0-9*#]*")
_CENT = Decimal("0.01")


def neutral(text: str) -> str:
    """Text that no spreadsheet takes for a formula; a phone number stays as it is."""
    if text.startswith(_FORMULA) and not _PHONE.fullmatch(text):
        return "'" + text
    return text


def minutes(seconds: int) -> Decimal:
    """Minutes with two decimals, rounded half up."""
    return (Decimal(seconds) / 60).quantize(_CENT, ROUND_HALF_UP)


def exact(kind: str, value: Any, zone: ZoneInfo) -> str | int | bool | None:
    """For programs: decimals as text with a point, instants in ISO 8601 with their offset."""
    if value is None or isinstance(value, bool):
        return value
    match kind:
        case "money":
            return money.format_micros(value)
        case "price":
            return money.format_nanos(value)
        case "percent":
            return money.format_percent(value)
        case "minutes":
            return str(minutes(value))
        case "milliseconds":
            return f"{Decimal(value) / 1000:.3f}"
        case "time":
            return str(value.astimezone(zone).isoformat(timespec="seconds"))
        case "hour":
            return str(value.isoformat(timespec="minutes"))
        case "day":
            return str(value.isoformat())
        case "integer" | "seconds":
            return int(value)
        case _:
            return str(value)


def csv_text(kind: str, value: Any, zone: ZoneInfo) -> str:
    """A cell of a CSV file."""
    plain = exact(kind, value, zone)
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    if isinstance(plain, str) and kind in ("text", "word", "phone", "currency"):
        return neutral(plain)
    return str(plain)


class Speaker:
    """Writes values for people of one language and time zone."""

    def __init__(self, language: str, zone: ZoneInfo) -> None:
        self.language = language
        self.zone = zone
        try:
            self.locale = Locale.parse(language, sep="-")
        except (UnknownLocaleError, ValueError):
            self.locale = Locale("en")
        self._by_kind: dict[str, Callable[[Any], str]] = {
            "integer": lambda value: self._decimal(value, "#,##0"),
            "money": self.money,
            "price": lambda value: self._decimal(Decimal(value).scaleb(-9), "#,##0.0000#####"),
            "percent": self._percent,
            "seconds": _clock,
            "minutes": lambda value: self._decimal(minutes(value), "#,##0.00"),
            "milliseconds": lambda value: self._decimal(Decimal(value).scaleb(-3), "#,##0.000"),
            "time": self.time,
            "hour": lambda value: format_datetime(value, "short", locale=self.locale),
            "day": self.day,
            "yes": lambda value: self.say("yes" if value else "no"),
            "word": self.say,
        }

    def say(self, text: str) -> str:
        """A text of ours in the reader's language."""
        return translate(text, self.language)

    def cell(self, kind: str, value: Any) -> str:
        """A value as people read it; '' for none."""
        if value is None:
            return ""
        write = self._by_kind.get(kind)
        return str(value) if write is None else write(value)

    def money(self, micros: int, decimals: int = 2) -> str:
        """At least so many decimals, and as many more as there are: nothing is rounded away."""
        pattern = f"#,##0.{'0' * decimals}{'#' * (6 - decimals)}"
        return self._decimal(Decimal(micros).scaleb(-6), pattern)

    def difference(self, micros: int) -> str:
        """All six decimals."""
        return self._decimal(Decimal(micros).scaleb(-6), "#,##0.000000")

    def time(self, value: datetime) -> str:
        """An instant in the reader's time zone, to the second."""
        return format_datetime(value, "medium", tzinfo=self.zone, locale=self.locale)

    def day(self, value: date) -> str:
        """A day."""
        return format_date(value, "medium", locale=self.locale)

    def _decimal(self, value: Decimal | int, pattern: str) -> str:
        return format_decimal(value, pattern, locale=self.locale, decimal_quantization=False)

    def _percent(self, ppm: int) -> str:
        value = Decimal(ppm).scaleb(-6).quantize(Decimal("0.0001"), ROUND_HALF_UP)
        pattern = self.locale.percent_formats[None].pattern.replace("0", "0.00", 1)
        return format_percent(value, pattern, locale=self.locale, decimal_quantization=False)


def _clock(seconds: int) -> str:
    sign = "-" if seconds < 0 else ""
    whole, rest = divmod(abs(seconds), 60)
    return f"{sign}{whole // 60}:{whole % 60:02d}:{rest:02d}"
