"""What people type for amounts, instants, currencies and the like, and what it becomes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from aaa_server.rating import bounds, money

if TYPE_CHECKING:
    from collections.abc import Callable

# Far enough from the ends of what a date can be for periods to be added, and zones.
YEAR_MIN, YEAR_MAX = 1900, 8999
SECRET_OCTETS_MIN = 16  # RFC 2865 §3: large and unguessable, preferably at least 16 octets
SECRET_OCTETS_MAX = 128  # RFC 2865 §5.2: what a User-Password can carry


class _Checked(click.ParamType[Any]):
    """A value read by a function that raises `ValueError` with a text for people."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _when(text: str) -> datetime:
    if text == "now":
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no instant: 2026-11-22, 2026-11-22T18:30:00Z or "
            "2026-11-22T18:30:00+01:00 are, and now"
        ) from error
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    if not YEAR_MIN <= when.year <= YEAR_MAX:
        raise ValueError(f"{text!r} is outside the years {YEAR_MIN} to {YEAR_MAX}")
    return when


def _expiry(text: str) -> datetime | None:
    return None if text in ("", "never") else _when(text)


def _threshold(text: str) -> int | None:
    return None if text in ("", "never") else money.parse_micros(text)


def _currency(text: str) -> str:
    code = text.strip().upper()
    if not re.fullmatch(r"[A-Z]{3}", code):
        raise ValueError(f"{text!r} is no currency: three letters are, such as EUR (ISO 4217)")
    return code


def _resource_group(text: str) -> str:
    match = re.fullmatch(r"(?:RG_)?([0-9]{1,6})", text.strip().upper())
    if match is None:
        raise ValueError(f"{text!r} is no resource group: RG_21 or 21 are, up to six digits")
    return f"RG_{match[1]}"


def _time_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{text!r} is no time zone: Europe/Madrid is, and UTC") from error
    return text


def _language(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?", text):
        raise ValueError(f"{text!r} is no language: en, es or pt-BR are (BCP 47)")
    return text


def checked(name: str, read: Callable[[str], Any]) -> click.ParamType[Any]:
    """The type of an argument that `read` reads; its `ValueError` is told to people."""
    return _Checked(name, read)


AMOUNT = _Checked("amount", money.parse_micros)
CREDIT = _Checked("amount", lambda text: bounds.checked_credit(money.parse_micros(text)))
FEE = _Checked("amount", lambda text: bounds.checked_fee(money.parse_micros(text)))
PRICE = _Checked("price", lambda text: bounds.checked_price(money.parse_nanos(text)))
PERCENT = _Checked("percent", money.parse_percent_ppm)
MARKUP = _Checked("percent", lambda text: bounds.checked_markup(money.parse_percent_ppm(text)))
EXCHANGE = _Checked("rate", lambda text: bounds.checked_exchange(money.parse_exchange(text)))
WHEN = _Checked("when", _when)
EXPIRY = _Checked("when", _expiry)
THRESHOLD = _Checked("amount", _threshold)
CURRENCY = _Checked("currency", _currency)
RESOURCE_GROUP = _Checked("rg_xx", _resource_group)
TIME_ZONE = _Checked("zone", _time_zone)
LANGUAGE = _Checked("language", _language)
COUNT = click.IntRange(min=0, max=2**31 - 1)
DAYS = click.IntRange(min=0, max=36_500)  # a century: more is a slip of the keyboard


def read_secret(path: str | None, what: str) -> bytes | None:
    """A password or PIN from a file ('-': standard input), without its last line end.

    Secrets are never arguments: those stand in the process list and the shell's history.
    """
    if path is None:
        return None
    with click.open_file(path, "rb") as file:
        secret: bytes = file.read(SECRET_OCTETS_MAX + 3).removesuffix(b"\n").removesuffix(b"\r")
    if not 1 <= len(secret) <= SECRET_OCTETS_MAX:
        raise click.BadParameter(
            f"{path}: a {what} has 1 to {SECRET_OCTETS_MAX} octets", param_hint=f"--{what}-file"
        )
    return secret
