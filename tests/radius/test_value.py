"""Texts, numbers, times and addresses inside attributes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.radius import value
from tests.radius.peer import NOW


@pytest.mark.parametrize(
    ("octets", "text", "token"),
    [
        (None, "", ""),
        (b"", "", ""),
        (b"acme", "acme", "acme"),
        ("acmé".encode(), "acmé", "acmé"),
        (b"acme\0", "acme", "0x61636d6500"),
        (b"a\nb", "ab", "0x610a62"),
        (b"\xff", "\ufffd", "0xff"),
        (b"\xfe", "\ufffd", "0xfe"),
    ],
)
def test_text_is_clean_and_a_token_is_unambiguous(
    octets: bytes | None, text: str, token: str
) -> None:
    assert value.text(octets) == text
    assert value.token(octets) == token


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_different_identifiers_are_different_tokens(one: bytes, other: bytes) -> None:
    if not (one + other).startswith(b"0x") and b"0x" not in (one[:2], other[:2]):
        assert (value.token(one) == value.token(other)) == (one == other)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:5060", ("192.0.2.1", 5060)),
        ("192.0.2.1:70000", ("192.0.2.1", 0)),
        (" 192.0.2.1 ", ("192.0.2.1", 0)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:DB8::1]:5060", ("2001:db8::1", 5060)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("fe80::1%eth0", ("fe80::1", 0)),
        ("::ffff:192.0.2.1", ("192.0.2.1", 0)),
        ("0.0.0.0", ("", 0)),
        ("::", ("", 0)),
        ("", ("", 0)),
        ("-", ("", 0)),
        ("sip.example.net", ("", 0)),
        ("192.0.2.1:5060:1", ("", 0)),
    ],
)
def test_a_peers_address_is_read(said: str, expected: tuple[str, int]) -> None:
    assert value.peer(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("09:15:00.250 UTC Fri Jan 02 2026", "2026-01-02T09:15:00.250000+00:00"),
        ("*09:15:00.250 UTC Fri Jan 02 2026", "2026-01-02T09:15:00.250000+00:00"),
        (".09:15:00.250 EST Fri Jan 2 2026", "2026-01-02T09:15:00.250000+00:00"),
        ("09:15:00 UTC Fri Jan 02 2026", "2026-01-02T09:15:00+00:00"),
        ("09:15:00.5 UTC Fri Jan 02 2026", "2026-01-02T09:15:00.500000+00:00"),
        ("2026-11-22T18:13:06.417642+0000", "2026-11-22T18:13:06.417642+00:00"),
        ("2026-11-22T18:13:06.417642+0200", "2026-11-22T16:13:06.417642+00:00"),
        ("2026-11-22T18:13:06-05:00", "2026-11-22T23:13:06+00:00"),
        ("2026-11-22 18:13:06Z", "2026-11-22T18:13:06+00:00"),
        ("2026-11-22T18:13:06", "2026-11-22T18:13:06+00:00"),
        ("0001-01-01T00:00:00+0200", None),
        ("09:15 UTC Fri Jan 02 2026", None),
        ("09:15:00.250 UTC Fri Foo 02 2026", None),
        ("09:15:00.250 UTC Fri Feb 30 2026", None),
        ("09:15:00.250 UTC Fri Jan 02", None),
        ("2026-13-22T18:13:06", None),
        ("", None),
    ],
)
def test_a_clock_is_read(said: str, expected: str | None) -> None:
    read = value.clock(said)
    assert (read.isoformat() if read else None) == expected


DAY = " UTC Sun Nov 22 2026"


@pytest.mark.parametrize(
    ("connect", "disconnect", "expected"),
    [
        ("18:33:38.562" + DAY, "18:33:40.082" + DAY, 1520),
        ("*18:33:38.562" + DAY, ".18:33:40.082" + DAY, 1520),
        ("18:33:38.562" + DAY, "18:33:38.562" + DAY, 0),
        ("18:33:40" + DAY, "18:33:38" + DAY, None),
        ("23:59:59.500" + DAY, "00:00:01.000 UTC Mon Nov 23 2026", 1500),
        ("23:59:59.500 UTC Thu Dec 31 2026", "00:00:00 UTC Fri Jan 01 2027", 500),
        ("18:33:38.562" + DAY, "nonsense" + DAY, None),
        ("nonsense", "18:33:38.562" + DAY, None),
        ("00:00:00.000 UTC Thu Jan 01 1970", "18:33:38.562" + DAY, None),
        ("1970-01-01T00:00:00.000000+0000", "2026-11-22T18:13:09.417676+0000", None),
        ("2026-11-22T18:13:06.437635+0000", "2026-11-22T18:13:09.417676+0000", 2980),
        ("2026-11-22 18:13:06", "2026-11-22 18:13:09", 3000),
        ("2026-11-21 18:13:06", "2026-11-22 18:13:06", 86_400_000),
        ("18:33:38.562 UTC Thu Jan 22 2026", "18:33:38.562" + DAY, None),  # ten months
        ("18:33:38" + DAY, "18:33:40.082" + DAY, 2082),
        ("23:59:50.999" + DAY, "00:01:00 UTC Mon Nov 23 2026", 69_001),
    ],
)
def test_a_call_lasts_from_connect_to_disconnect(
    connect: str, disconnect: str, expected: int | None
) -> None:
    assert value.between_milliseconds(connect, disconnect) == expected


@pytest.mark.parametrize(
    ("connect", "disconnect", "length"),
    [
        # The clocks are put forward or back while they talk.
        ("00:59:30 GMT Sun Mar 29 2026", "02:00:30 BST Sun Mar 29 2026", 60_000),
        ("01:59:30 BST Sun Oct 25 2026", "01:00:30.5 GMT Sun Oct 25 2026", 60_500),
        ("01:59:30 EST Sun Mar 8 2026", "03:00:30 EDT Sun Mar 8 2026", 60_000),
        ("01:59:30 EDT Sun Nov 1 2026", "01:00:30 EST Sun Nov 1 2026", 60_000),
        ("01:59:30 CET Sun Mar 29 2026", "03:00:30 CEST Sun Mar 29 2026", 60_000),
        ("02:59:30 CEST Sun Oct 25 2026", "02:00:30 CET Sun Oct 25 2026", 60_000),
        ("23:59:30 AKST Sat Mar 7 2026", "01:00:30 AKDT Sun Mar 8 2026", 60_000),
        ("01:59:30 AEST Sun Oct 4 2026", "03:00:30 AEDT Sun Oct 4 2026", 60_000),
        ("09:15:00 UTC Fri Jan 02 2026", "09:16:00 GMT Fri Jan 02 2026", 60_000),
        # Nobody knows how far apart these are.
        ("09:15:00 UTC Fri Jan 02 2026", "09:16:00 EST Fri Jan 02 2026", None),
        ("09:15:00 CST Fri Jan 02 2026", "17:16:00 IST Fri Jan 02 2026", None),
        ("2026-01-02T09:15:00+0100", "2026-01-02T09:16:00", None),
        ("2026-01-02T09:15:00+0100", "09:16:00 CET Fri Jan 02 2026", None),
    ],
)
def test_between_two_zones_the_session_time_tells(
    connect: str, disconnect: str, length: int | None
) -> None:
    assert value.between_milliseconds(connect, disconnect) == length
    for told_ms in (0, 59_000, 61_000, 3_660_000):
        assert value.between_milliseconds(connect, disconnect, told_ms) == told_ms


@pytest.mark.parametrize(
    ("connect", "disconnect"),
    [
        ("2026-03-29T00:59:30.000000+0000", "2026-03-29T02:00:30.500000+0100"),
        ("2026-10-25T01:59:30+01:00", "2026-10-25T01:00:30.5Z"),
        ("2026-03-28T23:59:30-0500", "2026-03-29T06:00:30.500+0100"),
    ],
)
def test_an_offset_is_part_of_the_time(connect: str, disconnect: str) -> None:
    assert value.between_milliseconds(connect, disconnect) == 60_500
    assert value.between_milliseconds(connect, disconnect, 3_660_000) == 60_500


@pytest.mark.parametrize("marks", [("*", ""), ("", "*"), (".", ""), ("", "."), ("*", ".")])
def test_a_clock_that_was_set_in_mid_call_is_believed_if_the_session_time_agrees(
    marks: tuple[str, str],
) -> None:
    connect, disconnect = marks[0] + "18:33:38.562" + DAY, marks[1] + "18:33:40.082" + DAY
    assert value.between_milliseconds(connect, disconnect) == 1520
    for told_ms in (0, 1000, 2000, 1520 + value.AGREES_MS):
        assert value.between_milliseconds(connect, disconnect, told_ms) == 1520
    assert value.between_milliseconds(connect, disconnect, 61_000) == 61_000
    # One that was set to an earlier time.
    assert value.between_milliseconds(disconnect, connect, 2000) in (None, 2000)


@pytest.mark.parametrize("mark", ["", "*", "."])
def test_one_clock_is_believed_whatever_the_session_time(mark: str) -> None:
    connect, disconnect = mark + "18:33:38.562" + DAY, mark + "19:33:40.082" + DAY
    assert value.between_milliseconds(connect, disconnect, 2000) == 3_601_520


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001 - naive is asked for
    st.integers(0, 30 * 86_400_000),
)
def test_any_two_clocks_tell_the_time_between_them(start: datetime, length: int) -> None:
    start = start.replace(microsecond=start.microsecond // 1000 * 1000, tzinfo=UTC)
    said = [
        f"{at:%H:%M:%S}.{at.microsecond // 1000:03} UTC {at:%a %b %d %Y}"
        for at in (start, start + timedelta(milliseconds=length))
    ]
    assert value.between_milliseconds(said[0], said[1]) == length


@pytest.mark.parametrize(
    ("stamp", "delay", "expected"),
    [
        (None, None, NOW),
        (None, b"\0\0\0\x05", NOW - timedelta(seconds=5)),
        (None, b"\xff\xff\xff\xff", NOW),
        (None, b"\5", NOW),
        (bytes.fromhex("6b033399"), b"\0\0\0\x05", datetime(2026, 11, 22, 18, 25, 29, tzinfo=UTC)),
        (b"\0\0\0\0", None, NOW),
        (b"\0\0\0\x64", b"\0\0\0\x05", NOW - timedelta(seconds=5)),
        (b"\1\2", None, NOW),
        (b"\xff\xff\xff\xff", None, NOW),  # no clock is so far ahead
        (
            int(NOW.timestamp() + 3600).to_bytes(4, "big"),
            None,
            NOW.replace(microsecond=0) + timedelta(hours=1),
        ),
    ],
)
def test_it_happened_when_the_nas_says_or_when_it_came(
    stamp: bytes | None, delay: bytes | None, expected: datetime
) -> None:
    assert value.event_at(stamp, delay, NOW) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0", 0),
        ("1520", 1520),
        ("2592000000", 2_592_000_000),
        ("2592000001", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("9" * 19, None),
    ],
)
def test_written_milliseconds_are_read_or_left(said: str | None, expected: int | None) -> None:
    assert value.milliseconds(said) == expected


def test_a_session_time_that_no_call_has_is_left() -> None:
    assert value.session_milliseconds(b"\0\0\0\2") == 2000
    assert value.session_milliseconds(b"\xff\xff\xff\xff") is None
    assert value.session_milliseconds(b"\0\2") is None
    assert value.session_milliseconds(None) is None


def test_pairs_are_found_by_name_and_the_first_counts() -> None:
    pairs = value.pairs_of(
        [
            (1, b"acme"),
            (2305, b"h323-ivr-out=PHASE:reauth:1"),
            (2305, b"sky-ext=1001"),
            (2305, b"sky-ext=1002"),
            (2305, b"nothing"),
            (2305, b"empty="),
            (2305, b"route=sofia/gateway/a=b"),
        ],
        2305,
    )
    assert pairs == {
        "PHASE": "reauth:1",
        "sky-ext": "1001",
        "nothing": "",
        "empty": "",
        "route": "sofia/gateway/a=b",
    }
