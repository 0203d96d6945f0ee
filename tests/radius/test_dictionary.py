"""dictionaries/: loads without a warning, agrees with the keys in code, reads and writes values."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

import pytest
from pyrad.dictionary import Dictionary

from aaa_server.radius import attribute, server
from aaa_server.radius.dictionary import DIRECTORY, Names, load

if TYPE_CHECKING:
    from pathlib import Path

NAMES = Names(load())
KAMAILIO = Names(load(client_type="kamailio"))
FILES = sorted(path for path in DIRECTORY.iterdir() if path.name != "dictionary.local")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_loads_alone_without_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        Dictionary(str(path))
    assert caplog.records == []


def test_every_file_is_read_by_somebody() -> None:
    included = {
        line.split()[1]
        for line in (DIRECTORY / "dictionary").read_text().splitlines()
        if line.startswith("$INCLUDE ")
    }
    assert {path.name for path in FILES} == included | {"dictionary", "dictionary.kamailio"}


def test_no_two_attributes_share_a_number() -> None:
    for names in (NAMES, Names(Dictionary(str(DIRECTORY / "dictionary.kamailio")))):
        assert len(names.key_of) == len(names.name_of)


def spelled_as_constant(name: str) -> str:
    """`H323_CONF_ID` for `h323-conf-id`."""
    return name.replace("-", "_").upper()


def test_every_key_in_code_is_that_attribute_in_the_dictionaries() -> None:
    renamed = {"CISCO_CALL_ID": "call-id"}
    known = {spelled_as_constant(name): key for name, key in NAMES.key_of.items()}
    known |= {
        spelled_as_constant(name): key
        for name, key in KAMAILIO.key_of.items()
        if name.startswith("Sip-")
    }
    for constant, key in vars(attribute).items():
        if constant.isupper() and key & 255:
            name = spelled_as_constant(renamed.get(constant, constant))
            assert known[name] == key, constant


def test_the_vendors_in_code_are_those_of_the_dictionaries() -> None:
    vendors = load().vendors
    for name, prefix in (
        ("Cisco", attribute.CISCO),
        ("Quintum", attribute.QUINTUM),
        ("Freeswitch", attribute.FREESWITCH),
        ("FreeRADIUS", server.FREERADIUS),
    ):
        assert vendors.GetForward(name) << 8 == prefix
    for number in (*server._AUTH_STATISTICS, *server._ACCT_STATISTICS):
        assert NAMES.name_of[server.FREERADIUS + number].startswith("FreeRADIUS-Total-")


def test_quintum_numbers_its_attributes_as_cisco_does() -> None:
    for name, key in NAMES.key_of.items():
        if name.startswith("h323-"):
            quintum = key - attribute.CISCO + attribute.QUINTUM
            assert NAMES.name_of[quintum] == f"Quintum-{name}"


def test_an_operators_own_dictionary_is_read_when_it_is_there(tmp_path: Path) -> None:
    shutil.copytree(DIRECTORY, tmp_path, dirs_exist_ok=True)
    local = tmp_path / "dictionary.local"
    local.unlink(missing_ok=True)
    assert "Acme-Trunk" not in Names(load(tmp_path)).key_of
    local.write_text(
        "VENDOR Acme 64000\nBEGIN-VENDOR Acme\nATTRIBUTE Acme-Trunk 1 string\nEND-VENDOR Acme\n"
    )
    assert Names(load(tmp_path)).key_of["Acme-Trunk"] == 64000 * 256 + 1


def test_what_kamailio_means_by_a_number_is_told_to_kamailio_only() -> None:
    assert NAMES.name(105) == "Digest-Nonce"
    assert KAMAILIO.name(105) == "Sip-From-Tag"
    assert KAMAILIO.spell(101, b"\0\0\0\x08") == "BYE"
    assert KAMAILIO.spell(6, b"\0\0\0\x0f") == "Sip-Session"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("User-Name", "acme", b"acme"),
        ("Session-Timeout", "60", b"\0\0\0\x3c"),
        ("Acct-Status-Type", "Stop", b"\0\0\0\2"),
        ("Service-Type", "Call-Check", b"\0\0\0\x0a"),
        ("Service-Type", "99", b"\0\0\0\x63"),
        ("NAS-IP-Address", "192.0.2.1", bytes((192, 0, 2, 1))),
        ("NAS-IPv6-Address", "2001:db8::1", bytes.fromhex("20010db8" + "00" * 11 + "01")),
        ("Class", "0xff00", b"\xff\x00"),
        ("Chargeable-User-Identity", "acmé", "acmé".encode()),
        ("Freeswitch-Hangupcause", "ALLOTTED_TIMEOUT", b"\0\0\x03\x22"),
        ("h323-credit-time", "h323-credit-time=120", b"h323-credit-time=120"),
    ],
)
def test_a_value_is_written_and_read_as_people_do(name: str, text: str, value: bytes) -> None:
    key, written = NAMES.attribute(name, text)
    assert written == value
    assert NAMES.spelled([(key, value)]) == [(name, text)]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (2, b"\1\2", "(hidden)"),
        (3, b"\1\2", "(hidden)"),
        (121, b"ha1", "(hidden)"),
        (55, bytes.fromhex("6b033399"), "2026-11-22T18:25:29+00:00"),
        (27, b"\1\2\3", "0x010203"),
        (4, b"\1\2", "0x0102"),
        (1, b"a\0b", "0x610062"),
        (25, b"abc", "0x616263"),
        (230, b"\1", "0x01"),
    ],
)
def test_a_value_of_any_kind_and_length_can_be_shown(key: int, value: bytes, text: str) -> None:
    assert NAMES.spell(key, value) == text


def test_an_unknown_attribute_is_shown_by_its_number() -> None:
    assert NAMES.name(230) == "Attr-230"
    assert NAMES.name(9 * 256 + 77) == "Attr-26.9.77"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Nonsense", "1", "Nonsense is no attribute"),
        ("Session-Timeout", "soon", "Session-Timeout cannot be 'soon': it has the type integer"),
        ("Session-Timeout", "4294967296", "cannot be"),
        ("NAS-IP-Address", "192.0.2", "type ipaddr"),
        ("Class", "0xf", "type octets"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NAMES.attribute(name, text)
