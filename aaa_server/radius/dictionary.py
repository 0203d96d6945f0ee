"""Attributes by name: pyrad reads the dictionaries, tables of keys come out.

The codec needs none of this; people do, who want to read a packet or write one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from pyrad.dictionary import Dictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORY = Path(__file__).resolve().parents[2] / "dictionaries"

# Read on top of the others for clients of that type: the numbers clash.
OVERLAYS = {"kamailio": "dictionary.kamailio"}

_HIDDEN = frozenset(("User-Password", "CHAP-Password", "Tunnel-Password", "Digest-HA1"))
_NUMBERS = frozenset(("integer", "short", "byte", "integer64"))


def load(directory: Path = DIRECTORY, *, client_type: str = "") -> Dictionary:
    """The dictionary as clients of `client_type` mean it.

    An operator's own attributes are in `dictionary.local` beside it, which need not exist.
    Raises pyrad's `ParseError`, with file and line, or `OSError`.
    """
    dictionary = Dictionary(str(directory / "dictionary"))
    overlay = OVERLAYS.get(client_type)
    if overlay is not None:
        dictionary.ReadDictionary(str(directory / overlay))
    return dictionary


class Names:
    """Names and keys both ways, and values as people read and write them.

    A key is an attribute's type, for a vendor's attribute vendor * 256 + type.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self.key_of: dict[str, int] = {}
        self.name_of: dict[int, str] = {}
        self._type_of: dict[int, str] = {}
        self._word_of: dict[int, dict[int, str]] = {}
        self._number_of: dict[int, dict[str, int]] = {}
        for name, definition in dictionary.attributes.items():
            if definition.is_sub_attribute:
                continue
            vendor: int = dictionary.vendors.GetForward(definition.vendor)
            key = vendor << 8 | int(definition.code)
            self.key_of[str(name)] = key
            self.name_of[key] = str(name)
            self._type_of[key] = str(definition.type)
            for word in definition.values.forward:
                number = int.from_bytes(definition.values.GetForward(word), "big")
                self._word_of.setdefault(key, {})[number] = str(word)
                self._number_of.setdefault(key, {})[str(word)] = number

    def name(self, key: int) -> str:
        """The attribute's name, or for an unknown one `Attr-230`, `Attr-26.9.77`."""
        name = self.name_of.get(key)
        if name is None:
            name = f"Attr-{key}" if key < 256 else f"Attr-26.{key >> 8}.{key & 255}"
        return name

    def spell(self, key: int, value: bytes) -> str:
        """The value as people read it; passwords are not shown, strange lengths as hex."""
        if self.name_of.get(key) in _HIDDEN:
            return "(hidden)"
        kind = self._type_of.get(key, "octets")
        size = len(value)
        if kind in _NUMBERS and size in (1, 2, 4, 8):
            number = int.from_bytes(value, "big")
            return self._word_of.get(key, {}).get(number, str(number))
        if kind == "date" and size == 4:
            return datetime.fromtimestamp(int.from_bytes(value, "big"), UTC).isoformat()
        if kind == "ipaddr" and size == 4:
            return str(IPv4Address(value))
        if kind == "ipv6addr" and size == 16:
            return str(IPv6Address(value))
        if kind == "string":
            text = value.decode("utf-8", "replace")
            if text.isprintable():
                return text
        return f"0x{value.hex()}"

    def spelled(self, attributes: Iterable[tuple[int, bytes]]) -> list[tuple[str, str]]:
        """Names and readable values of a packet's attributes, in order."""
        return [(self.name(key), self.spell(key, value)) for key, value in attributes]

    def attribute(self, name: str, text: str) -> tuple[int, bytes]:
        """The attribute that a person wrote; raises `ValueError` that says what is wrong.

        A password comes out as it was written: `Secret.hide` hides it.
        """
        key = self.key_of.get(name)
        if key is None:
            raise ValueError(f"{name} is no attribute that dictionaries/ has")
        kind = self._type_of[key]
        try:
            if kind in _NUMBERS or kind == "date":
                number = self._number_of.get(key, {}).get(text)
                if number is None:
                    number = int(text, 0)
                return key, number.to_bytes({"byte": 1, "short": 2, "integer64": 8}.get(kind, 4))
            if kind == "ipaddr":
                return key, IPv4Address(text).packed
            if kind == "ipv6addr":
                return key, IPv6Address(text).packed
            if kind != "string" and text.startswith("0x"):
                return key, bytes.fromhex(text[2:])
        except (ValueError, OverflowError) as problem:
            raise ValueError(f"{name} cannot be {text!r}: it has the type {kind}") from problem
        return key, text.encode()
