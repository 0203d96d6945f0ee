"""What mod_xml_radius does with a configuration and a dictionary, by its source and captures.

Its surprises are kept: an answer with one attribute that the dictionary lacks loses them all
while the result stays 0; of a repeated attribute the last one counts; nothing of a Reject is
passed on; the conditions of acct_start decide about the Stop too, and a variable that is not
there matches; nothing can be executed on a channel that is down.
"""

from __future__ import annotations

import os
import re
import socket
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    Secret,
    decode,
    encode_request,
    reply_fits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ACCT_STATUS_TYPE, SERVICE_TYPE, USER_PASSWORD = 40, 6, 2
START, STOP, AUTHENTICATE_ONLY = 1, 2, 8
OK, TIMEOUT, REJECT = "0", "1", "2"  # of freeradius-client
# What is answered is waited for, longer than a caller would; a port without a server tells at once.
SECONDS_OF_A_SECOND = 10


class Attribute(NamedTuple):
    """A line of the dictionary; `key` as in aaa_server.radius.attribute."""

    key: int
    type: str


def read_dictionary(text: str) -> dict[str, Attribute]:
    """The attributes by name, of FreeRADIUS 1.x's format."""
    vendors: dict[str, int] = {}
    found: dict[str, Attribute] = {}
    block = ""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        match words:
            case ["VENDOR", name, number]:
                vendors[name] = int(number)
            case ["BEGIN-VENDOR", name]:
                block = name
            case ["END-VENDOR", _]:
                block = ""
            case ["ATTRIBUTE", name, number, kind, *options]:
                vendor = next((o.partition("=")[2] for o in options if "vendor=" in o), block)
                found[name] = Attribute((vendors[vendor] << 8 if vendor else 0) + int(number), kind)
    return found


class XmlRadius:
    """The module, loaded with `configuration`; `$${…}` are `values`."""

    def __init__(self, configuration: str, dictionary: str, values: dict[str, str]) -> None:
        text = re.sub(r"\$\$\{(\w+)\}", lambda found: values[found[1]], configuration)
        self.sections = {section.tag: section for section in ElementTree.fromstring(text)}
        self.dictionary = read_dictionary(dictionary)
        self.packets: list[bytes] = []  # sent, each once however often

    # ------------------------------------------------------------------ its three jobs

    def authorize(self, get: Callable[[str], str | None]) -> tuple[str, dict[str, str]]:
        """radius_auth: the result, and the variables that it sets."""
        section = self.sections["auth_app"]
        attributes = [*self.fields(section, get), (SERVICE_TYPE, AUTHENTICATE_ONLY.to_bytes(4))]
        answer = self.ask(section, "authserver", ACCESS_REQUEST, attributes)
        if answer is None:
            return TIMEOUT, {}
        if answer[0] != ACCESS_ACCEPT:
            return REJECT, {}
        return OK, self.variables(decode(answer).attributes)

    def account(self, status: int, get: Callable[[str], str | None]) -> bool:
        """Start or Stop of a leg; False when its conditions are not met or nobody answered."""
        if not self.meets_conditions(get):
            return False
        section = self.sections["acct_start" if status == START else "acct_end"]
        attributes = [*self.fields(section, get), (ACCT_STATUS_TYPE, status.to_bytes(4))]
        return self.ask(section, "acctserver", ACCOUNTING_REQUEST, attributes) is not None

    def meets_conditions(self, get: Callable[[str], str | None]) -> bool:
        """Those of acct_start, whatever is asked."""
        conditions = self.sections["acct_start"].findall("conditions/condition")
        return not conditions or any(
            all(
                (value := get(param.attrib["var"])) is None
                or re.search(param.attrib["regex"], value) is not None
                for param in condition.findall("param")
            )
            for condition in conditions
        )

    # ------------------------------------------------------------------ attributes

    def fields(
        self, section: ElementTree.Element, get: Callable[[str], str | None]
    ) -> list[tuple[int, bytes]]:
        """The attributes of a section's <fields>."""
        found = []
        for param in section.findall("fields/param"):
            said = param.attrib
            attribute = self.dictionary[said["name"]]
            if said["name"].endswith("-time") and "format" not in said:
                stamp = get(said["name"])  # the channel's own times, as text
                if stamp is not None:
                    found.append((attribute.key, stamp.encode()))
                continue
            if said["name"] == "h323-disconnect-cause":
                cause = int(get("hangup_cause_number") or 0)
                found.append((attribute.key, b"h323-disconnect-cause=%x" % cause))
                continue
            value = get(said["variable"])
            if value is None and "variable_secondary" in said:
                value = get(said["variable_secondary"])
            if attribute.type == "integer":
                assert value is not None, f"{said['name']}: FreeSWITCH crashes here"
                found.append((attribute.key, int(value).to_bytes(4)))
                continue
            value = said.get("default", "") if value is None else value
            if "regex" in said and (match := re.search(said["regex"], value)):
                value = match[match.lastindex or 0]
            octets = said["format"].replace("%s", value).encode()
            assert len(octets) <= (247 if attribute.key > 255 else 253), (
                f"{said['name']}: malformed"
            )
            found.append((attribute.key, octets))
        return found

    def variables(self, attributes: Iterable[tuple[int, bytes]]) -> dict[str, str]:
        """What an Accept sets."""
        names = {attribute.key: (name, attribute) for name, attribute in self.dictionary.items()}
        found = {}
        for key, value in attributes:
            if key not in names or names[key][1].type == "date":
                return {}
            name, attribute = names[key]
            is_number = attribute.type == "integer"
            found[name] = str(int.from_bytes(value)) if is_number else value.decode("latin-1")
        return found

    # ------------------------------------------------------------------ the wire

    def ask(
        self,
        section: ElementTree.Element,
        server: str,
        code: int,
        attributes: list[tuple[int, bytes]],
    ) -> bytes | None:
        """The authentic answer of the first server that answers."""
        params = [
            (p.attrib["name"], p.attrib["value"]) for p in section.findall("connection/param")
        ]
        said = dict(params)
        seconds = int(said["radius_timeout"]) * SECONDS_OF_A_SECOND
        authenticator = os.urandom(16)
        for host, port, secret in (v.split(":") for name, v in params if name == server):
            key = Secret(secret.encode())
            hidden = [
                (k, key.hide(v, authenticator) if k == USER_PASSWORD else v) for k, v in attributes
            ]
            datagram = encode_request(
                code,
                authenticator[0],
                key,
                hidden,
                authenticator=authenticator,
                message_authenticator=False,
            )
            self.packets.append(datagram)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
                wire.bind((said["bindaddr"], 0))
                wire.connect((host, int(port)))
                wire.settimeout(seconds)
                for _ in range(int(said["radius_retries"]) + 1):
                    try:
                        wire.send(datagram)
                        reply = wire.recv(4097)
                    except OSError:
                        continue
                    assert reply_fits(reply, datagram[4:20], key)
                    return reply
        return None
