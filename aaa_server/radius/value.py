"""What the octets of an attribute say. A value that cannot be read is one that was not given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# Longer than any call: the switch's counter has gone wrong.
DURATION_SECONDS_MAX = 30 * 86_400
# Seconds are cut or rounded, and some count the ringing's end: two lengths may differ by this.
AGREES_MS = 5000
DELAY_SECONDS_MAX = 7 * 86_400  # a NAS that kept a record for longer has lost its clock
# Before these the NAS had no time yet: clocks start in 1970, 1993 or 2000.
EVENT_TIMESTAMP_MIN = 978_307_200  # 2001-01-01
YEAR_MIN = 2001
# A clock in the wrong zone is ahead by less.
AHEAD_MAX = timedelta(days=1)

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


def text(value: bytes | None) -> str:
    """The text, without characters that no log and no database wants; '' for none."""
    if not value:
        return ""
    said = value.decode("utf-8", "replace")
    return said if said.isprintable() else "".join(filter(str.isprintable, said))


def token(value: bytes | None) -> str:
    """An identifier, so that different octets are different texts: `0x…` unless printable."""
    if not value:
        return ""
    try:
        said = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return said if said.isprintable() else f"0x{value.hex()}"


def integer(value: bytes | None) -> int | None:
    """A 32-bit number; None when there is none or it has not four octets."""
    return int.from_bytes(value, "big") if value is not None and len(value) == 4 else None


def digits(said: str | None, *, most: int) -> int | None:
    """A written number from 0 to `most`; None for anything else."""
    if not said or not said.isdecimal() or not said.isascii() or len(said) > 18:
        return None
    number = int(said)
    return number if number <= most else None


@lru_cache(maxsize=4096)
def peer(said: str) -> tuple[str, int]:
    """Address and port in `192.0.2.1`, `192.0.2.1:5060` or `[2001:db8::1]:5060`.

    ('', 0) when it is no address, or the unspecified one; port 0: not said.
    """
    host, port = said.strip(), ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return "", 0
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            address = IPv6Address(int(address))
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
    if address.is_unspecified:
        return "", 0
    return str(address), digits(port, most=65_535) or 0


def event_at(event_timestamp: bytes | None, delay_time: bytes | None, now: datetime) -> datetime:
    """When it happened: Event-Timestamp, else arrival − Acct-Delay-Time (RFC 2869 §5.3).

    As the NAS's clock has it, which may be ahead: nothing is dated by that. One that is ahead
    by more than `AHEAD_MAX` is none.
    """
    stamp = integer(event_timestamp)
    if stamp is not None and stamp >= EVENT_TIMESTAMP_MIN:
        at = datetime.fromtimestamp(stamp, UTC)
        return at if at <= now + AHEAD_MAX else now
    delay = integer(delay_time)
    if delay and delay <= DELAY_SECONDS_MAX:
        return now - timedelta(seconds=delay)
    return now


def milliseconds(said: str | None) -> int | None:
    """A call's length in written milliseconds; None when it cannot be one."""
    return digits(said, most=DURATION_SECONDS_MAX * 1000)


def session_milliseconds(acct_session_time: bytes | None) -> int | None:
    """Acct-Session-Time in milliseconds; None when it cannot be a call's length."""
    seconds = integer(acct_session_time)
    return None if seconds is None or seconds > DURATION_SECONDS_MAX else seconds * 1000


def between_milliseconds(connect: str, disconnect: str, told_ms: int | None = None) -> int | None:
    """From `connect` to `disconnect`, both as `clock` reads them; None when that makes no sense.

    Clocks of two zones, and one that was set between the two, may be apart by any time.
    `told_ms`, which the NAS has counted itself, then counts instead: of two zones always, of
    a clock that was set where the two do not agree.
    """
    started, ended = connect.lstrip("*."), disconnect.lstrip("*.")
    started_clock, _, started_day = started.partition(" ")
    ended_clock, _, ended_day = ended.partition(" ")
    if started_day and started_day == ended_day and started[4:5] != "-":
        # The same day and zone, so only the clocks count.
        start_ms, end_ms = _of_day(started_clock), _of_day(ended_clock)
        if start_ms is None or end_ms is None:
            return None
        length = end_ms - start_ms
    else:
        start, end = _zoned(started), _zoned(ended)
        if start is None or end is None or start.at.year < YEAR_MIN:
            return None
        length = (end.at - start.at) // timedelta(milliseconds=1)
        if start.zone != end.zone:
            if told_ms is not None:
                return told_ms
            hours = _hours_ahead(start.zone, end.zone)
            if hours is None:
                return None
            length -= hours * 3_600_000
    if told_ms is not None and abs(length - told_ms) > AGREES_MS:
        marks = connect[: -len(started)], disconnect[: -len(ended)]
        if marks[0] != marks[1]:
            return told_ms
    return length if 0 <= length <= DURATION_SECONDS_MAX * 1000 else None


def clock(said: str) -> datetime | None:
    """`09:15:00.250 UTC Fri Jan 02 2026`, also behind `*` or `.`, or an ISO 8601 time.

    Cisco puts `*` before a clock that was never set and `.` before one that has lost its
    source. The zone's name is a label (EST says three things), so the result is always
    in UTC: good for differences within one NAS and zone, and wrong by the zone for anything
    else. An ISO 8601 time with an offset is right.
    """
    read = _zoned(said.lstrip("*."))
    return None if read is None else read.at


class _Zoned(NamedTuple):
    """A time, and the label of the zone that it would be right in; '' for none."""

    at: datetime
    zone: str


def _zoned(said: str) -> _Zoned | None:
    try:
        if said[4:5] == "-":
            at = datetime.fromisoformat(said)
            if at.tzinfo is None:
                return _Zoned(at.replace(tzinfo=UTC), "")
            return _Zoned(at.astimezone(UTC), "UTC")
        of_day, zone, _weekday, month, day, year = said.split()
        milliseconds = _of_day(of_day)
        if milliseconds is None:
            return None
        midnight = datetime(int(year), _MONTHS[month], int(day), tzinfo=UTC)
        return _Zoned(midnight + timedelta(milliseconds=milliseconds), zone)
    except (ValueError, KeyError, OverflowError):
        return None


def _hours_ahead(zone: str, other: str) -> int | None:
    """How far the clocks of `other` are ahead of those of `zone`; None: nobody knows.

    The clocks of one NAS are only put forward to summer time and back: GMT and BST, EST and
    EDT, CET and CEST.
    """
    if {zone, other} == {"UTC", "GMT"}:
        return 0
    if other in _summer_of(zone):
        return 1
    return -1 if zone in _summer_of(other) else None


def _summer_of(zone: str) -> tuple[str, ...]:
    if zone in ("GMT", "UTC"):
        return ("BST", "IST")
    if zone.endswith("ST"):
        return (zone[:-2] + "DT",)
    return (zone[:-1] + "ST",) if zone.endswith("ET") else ()


def _of_day(said: str) -> int | None:
    """Milliseconds since midnight of `09:15:00.250`."""
    try:
        hours, minutes, rest = said.split(":")
        seconds, _, fraction = rest.partition(".")
        return (
            (int(hours) * 60 + int(minutes)) * 60_000
            + int(seconds) * 1000
            + int((fraction + "000")[:3])
        )
    except ValueError:
        return None


def pairs_of(attributes: list[tuple[int, bytes]], key: int) -> dict[str, str]:
    """The `name=value` texts in the attributes of that key; the first of a name counts.

    `h323-ivr-out=PHASE:reauth:1` is found under PHASE, as `reauth:1`.
    """
    pairs: dict[str, str] = {}
    for each, value in attributes:
        if each == key:
            name, _, said = text(value).partition("=")
            if name == "h323-ivr-out":
                name, _, said = said.partition(":")
            if name not in pairs:
                pairs[name] = said
    return pairs


def bare(values: Mapping[int, bytes], key: int, prefix: str) -> str:
    """An h323 text with or without its `name=`; '' for none."""
    value = values.get(key)
    return text(value).removeprefix(prefix) if value else ""
