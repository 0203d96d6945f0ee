"""The codec against the RFCs' examples, a table of malformed packets, and pyrad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrad import packet as pyrad_packet

from aaa_server.radius.dictionary import load
from aaa_server.radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCOUNTING_RESPONSE,
    PROXY_STATE_OCTETS_MAX,
    Malformed,
    Secret,
    decode,
    encode_reply,
    encode_request,
    message_authenticator_fits,
    reply_fits,
    request_authenticator_fits,
)
from tests.radius.peer import RANDOM, SECRET, accounting_request, captured_datagrams

DICTIONARY = load()

# RFC 2865 §7.1: nemo with the password arctangent logs in by telnet, secret xyzzy5461.
TELNET_REQUEST = bytes.fromhex(
    "01000038 0f403f94 73978057 bd83d5cb 98f4227a 01066e65 6d6f0212 0dbe708d"
    "93d413ce 3196e43f 782a0aee 0406c0a8 01100506 00000003"
)
TELNET_REPLY = bytes.fromhex(
    "02000026 86fe220e 7624ba2a 1005f6bf 9b55e0b2 06060000 00010f06 000000000e06c0a8 0103"
)


def test_the_request_of_rfc_2865_is_read() -> None:
    packet = decode(TELNET_REQUEST)
    assert (packet.code, packet.identifier) == (ACCESS_REQUEST, 0)
    values = dict(packet.attributes)
    assert (values[1], values[4], values[5]) == (b"nemo", bytes((192, 168, 1, 16)), b"\0\0\0\x03")
    assert Secret(b"xyzzy5461").reveal(values[2], packet.authenticator) == b"arctangent"


def test_the_reply_of_rfc_2865_is_written() -> None:
    attributes = [(6, b"\0\0\0\1"), (15, b"\0\0\0\0"), (14, bytes((192, 168, 1, 3)))]
    reply = encode_reply(
        ACCESS_ACCEPT,
        decode(TELNET_REQUEST),
        Secret(b"xyzzy5461"),
        attributes,
        message_authenticator=False,
    )
    assert reply == TELNET_REPLY


def framed(attributes: str, *, length: int | None = None) -> bytes:
    """An Access-Request of these octets, with the right Length unless another is wanted."""
    body = bytes.fromhex(attributes)
    size = 20 + len(body) if length is None else length
    return bytes((1, 1)) + size.to_bytes(2, "big") + bytes(16) + body


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "short"),
        (bytes(19), "short"),
        (framed("", length=19), "length"),
        (framed("", length=21), "length"),
        (framed("", length=4097) + bytes(5000), "length"),
        (framed("01"), "attribute"),
        (framed("0100"), "attribute"),
        (framed("0101"), "attribute"),
        (framed("0103"), "attribute"),
        (framed("010461626301"), "attribute"),
        (framed("0003ff"), "attribute"),
        (framed("1a02"), "vendor"),
        (framed("1a060000 0009"), "vendor"),
        (framed("1a070000 000901"), "vendor"),
        (framed("1a080000 00090103"), "vendor"),
        (framed("1a080000 00090101"), "vendor"),
        (framed("1a080000 00090002"), "vendor"),
        (framed("1a080000 00000102"), "vendor"),
        (framed("1a0b0000 0009 0104 6162 02"), "vendor"),
        (framed("1a0d0000 0009 0104 6162 0204 63"), "vendor"),
        (framed("1aff0000 00090102"), "attribute"),
        (framed("5011" + "00" * 15), "message-authenticator"),
        (framed("5013" + "00" * 17), "message-authenticator"),
        (framed(("5012" + "00" * 16) * 2), "message-authenticator"),
        (framed(("21ff" + "00" * 253) * 5), "proxy-state"),
    ],
)
def test_a_malformed_packet_is_refused_with_its_reason(datagram: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        decode(datagram)
    assert refused.value.reason == reason
    assert str(refused.value)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", []),
        ("0102", [(1, b"")]),
        ("1a080000 00090102", [(9 * 256 + 1, b"")]),
        ("1a0c0000 0009 0104 6162 0202", [(9 * 256 + 1, b"ab"), (9 * 256 + 2, b"")]),
        # A long vendor number, and a vendor that lays attribute 26 out in its own way.
        ("1a0a00ff ffff 0104 6162", [(0xFFFFFF << 8 | 1, b"ab")]),
        ("1a0a0000 01ad 0000 0001", [(26, bytes.fromhex("000001ad00000001"))]),
        # A number of three octets stays what it is.
        ("1b05010203", [(27, b"\1\2\3")]),
    ],
)
def test_a_rare_but_legal_packet_is_read(
    attributes: str, expected: list[tuple[int, bytes]]
) -> None:
    for _ in range(2):  # the second time from the table of known vendor attributes
        assert decode(framed(attributes)).attributes == expected


def test_padding_after_length_is_ignored() -> None:
    packet = decode(framed("010461627fff")[:-2].replace(b"\0\x1a", b"\0\x18", 1) + b"\xff\xff")
    assert packet.attributes == [(1, b"ab")]
    assert len(packet.raw) == 24


@pytest.mark.parametrize("attributes", ["1a060000 0009 0102", "1a070000 000901 0102"])
def test_a_vendor_attribute_is_not_read_beyond_its_end(attributes: str) -> None:
    decode(framed("1a080000 00090102"))  # vendor and type are known now
    with pytest.raises(Malformed):
        decode(framed(attributes))


def test_every_truncation_of_every_captured_request_is_malformed() -> None:
    for datagram, _, _ in captured_datagrams():
        for size in range(len(datagram)):
            with pytest.raises(Malformed):
                decode(datagram[:size])


def test_a_truncation_with_its_length_set_right_is_read_or_malformed() -> None:
    read = 0
    for datagram, _, _ in captured_datagrams():
        for size in range(20, len(datagram)):
            shorter = datagram[:2] + size.to_bytes(2, "big") + datagram[4:size]
            try:
                decode(shorter)
            except Malformed:
                continue
            read += 1
    # One for each attribute boundary.
    assert read == sum(len(decode(each).attributes) for each, _, _ in captured_datagrams())


@given(st.binary(max_size=128).filter(lambda password: not password.endswith(b"\0")))
def test_a_hidden_password_is_revealed_and_pyrad_agrees(password: bytes) -> None:
    hidden = SECRET.hide(password, RANDOM)
    assert SECRET.reveal(hidden, RANDOM) == password
    theirs = pyrad_packet.AuthPacket(secret=SECRET.octets, authenticator=RANDOM, dict=DICTIONARY)
    if password:
        assert theirs.PwCrypt(password) == hidden


@given(st.binary(max_size=253), st.binary(min_size=16, max_size=16))
def test_no_hidden_password_raises(hidden: bytes, authenticator: bytes) -> None:
    assert len(SECRET.reveal(hidden, authenticator)) <= len(hidden)


def test_a_password_or_secret_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="128"):
        SECRET.hide(bytes(129), RANDOM)
    with pytest.raises(ValueError, match="at least one octet"):
        Secret(b"")
    assert "testing" not in repr(SECRET)


def test_a_secret_longer_than_a_block_signs_as_hmac_does() -> None:
    # RFC 2202 §2, test case 6
    assert Secret(b"\xaa" * 80).sign(
        b"Test Using Larger Than Block-Size Key - Hash Key First"
    ) == bytes.fromhex("6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd")


@pytest.mark.parametrize(("key", "size"), [(1, 254), (9 * 256 + 1, 248)])
def test_a_value_too_long_for_its_attribute_is_refused(key: int, size: int) -> None:
    request = decode(TELNET_REQUEST)
    encode_reply(2, request, SECRET, [(key, bytes(size - 1))], message_authenticator=True)
    with pytest.raises(ValueError, match="are allowed"):
        encode_reply(2, request, SECRET, [(key, bytes(size))], message_authenticator=True)


def test_a_packet_too_long_for_radius_is_refused() -> None:
    request = decode(TELNET_REQUEST)
    with pytest.raises(ValueError, match="4096 are allowed"):
        encode_reply(2, request, SECRET, [(18, bytes(253))] * 16, message_authenticator=True)
    with pytest.raises(ValueError, match="4096 are allowed"):
        encode_request(1, 1, SECRET, [(18, bytes(253))] * 16, authenticator=RANDOM)


def test_proxy_state_comes_back_unchanged_and_in_order() -> None:
    states = [(33, b"second hop"), (33, b""), (33, b"first hop")]
    request = decode(accounting_request([states[0], (40, b"\0\0\0\1"), *states[1:]]))
    reply = encode_reply(
        ACCOUNTING_RESPONSE, request, SECRET, [(25, b"x")], message_authenticator=False
    )
    assert decode(reply).attributes == [(25, b"x"), *states]


def test_as_much_proxy_state_as_is_allowed_leaves_room_for_a_reply() -> None:
    size = PROXY_STATE_OCTETS_MAX // 8 - 2
    request = decode(accounting_request([(33, bytes(size))] * 8))
    with pytest.raises(Malformed):
        decode(accounting_request([(33, bytes(size))] * 8 + [(33, b"")]))
    encode_reply(2, request, SECRET, [(18, bytes(253))] * 11, message_authenticator=True)


# What pyrad and we must agree on: attributes of its dictionary's plain types.
KEYS = sorted(
    (DICTIONARY.vendors.GetForward(each.vendor) << 8) | each.code
    for each in DICTIONARY.attributes.values()
    if each.type in ("string", "octets", "integer", "ipaddr", "date")
    and not each.is_sub_attribute
    and each.code not in (26, 80)
)
ATTRIBUTES = st.lists(st.tuples(st.sampled_from(KEYS), st.binary(max_size=60)), max_size=30).filter(
    lambda pairs: sum(2 + len(value) for key, value in pairs if key == 33) <= 1024
)


def by_key(attributes: list[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    grouped: dict[int, list[bytes]] = {}
    for key, value in attributes:
        grouped.setdefault(key, []).append(value)
    return grouped


def pyrads(packet: pyrad_packet.Packet) -> dict[int, list[bytes]]:
    """What pyrad holds, with our keys."""
    held: dict[int, list[bytes]] = {}
    for key in pyrad_packet.OrderedDict.keys(packet):
        ours = key if isinstance(key, int) else key[0] << 8 | key[1]
        held[ours] = pyrad_packet.OrderedDict.__getitem__(packet, key)
    return held


@given(ATTRIBUTES, st.booleans(), st.integers(0, 255))
def test_a_request_that_we_write_is_what_pyrad_and_we_read(
    attributes: list[tuple[int, bytes]], signed: bool, identifier: int
) -> None:
    datagram = encode_request(
        ACCESS_REQUEST,
        identifier,
        SECRET,
        attributes,
        authenticator=RANDOM,
        message_authenticator=signed,
    )
    packet = decode(datagram)
    assert [pair for pair in packet.attributes if pair[0] != 80] == attributes
    assert bool(packet.message_authenticator_at) == signed
    theirs = pyrad_packet.AuthPacket(packet=datagram, dict=DICTIONARY, secret=SECRET.octets)
    assert (theirs.id, theirs.authenticator) == (identifier, RANDOM)
    assert pyrads(theirs) == by_key(packet.attributes)
    if signed:
        assert theirs.verify_message_authenticator()
        assert message_authenticator_fits(packet, SECRET)
        assert not message_authenticator_fits(packet, Secret(b"another"))


@given(ATTRIBUTES, st.booleans())
def test_an_accounting_request_that_we_write_is_valid_to_pyrad(
    attributes: list[tuple[int, bytes]], signed: bool
) -> None:
    datagram = accounting_request(attributes, signed=signed)
    theirs = pyrad_packet.AcctPacket(packet=datagram, dict=DICTIONARY, secret=SECRET.octets)
    assert theirs.VerifyAcctRequest()
    packet = decode(datagram)
    assert request_authenticator_fits(packet, SECRET)
    assert not request_authenticator_fits(packet, Secret(b"another"))
    if signed:
        assert theirs.verify_message_authenticator()
        assert message_authenticator_fits(packet, SECRET)


@given(st.lists(st.tuples(st.sampled_from((1, 18, 25, 31, 44)), st.text(min_size=1, max_size=40))))
def test_an_accounting_request_that_pyrad_writes_is_valid_to_us(
    attributes: list[tuple[int, str]],
) -> None:
    theirs = pyrad_packet.AcctPacket(dict=DICTIONARY, secret=SECRET.octets, id=7)
    for key, value in attributes:
        pyrad_packet.OrderedDict.setdefault(theirs, key, []).append(value.encode())
    packet = decode(theirs.RequestPacket())
    assert (packet.code, packet.identifier) == (ACCOUNTING_REQUEST, 7)
    assert request_authenticator_fits(packet, SECRET)
    assert by_key(packet.attributes) == pyrads(theirs)


@given(ATTRIBUTES, st.booleans(), st.booleans())
def test_a_reply_that_we_write_is_valid_to_pyrad_and_to_us(
    attributes: list[tuple[int, bytes]], signed: bool, proxied: bool
) -> None:
    attributes = [pair for pair in attributes if pair[0] != 33]
    request = encode_request(
        ACCESS_REQUEST,
        9,
        SECRET,
        [(33, b"hop")] if proxied else [],
        authenticator=RANDOM,
    )
    reply = encode_reply(
        ACCESS_ACCEPT, decode(request), SECRET, attributes, message_authenticator=signed
    )
    theirs = pyrad_packet.AuthPacket(packet=request, dict=DICTIONARY, secret=SECRET.octets)
    answer = pyrad_packet.Packet(packet=reply, dict=DICTIONARY, secret=SECRET.octets)
    assert theirs.VerifyReply(answer, reply, enforce_ma=signed)
    assert reply_fits(reply, RANDOM, SECRET)
    assert not reply_fits(reply, RANDOM, Secret(b"another"))
    assert not reply_fits(reply, bytes(16), SECRET)
    if signed:
        assert reply[20:22] == b"\x50\x12"


def test_a_reply_with_a_forged_message_authenticator_does_not_fit() -> None:
    request = decode(TELNET_REQUEST)
    forged = [(80, bytes(16)), (27, b"\0\0\0\1")]
    reply = encode_reply(2, request, SECRET, forged, message_authenticator=False)
    assert not reply_fits(reply, request.authenticator, SECRET)
