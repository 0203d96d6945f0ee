"""What is unwise of a client is said, and allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Sky

LONG = "d41d8cd98f00b204e9800998ecf8427e"
SHORT_TOLD = "fewer than 16 octets"


@pytest.mark.parametrize(
    ("address", "secret", "told"),
    [
        ("10.0.0.1", "testing123", [SHORT_TOLD]),
        ("10.0.0.1", LONG, []),
        ("127.0.0.7", "testing123", []),
        ("0.0.0.0/0", LONG, ["0.0.0.0/0 has 4294967296 addresses"]),
        ("2001:db8::/32", "s", [SHORT_TOLD, "2001:db8::/32 has "]),
        ("10.1.0.0/16", LONG, []),
    ],
)
def test_what_is_unwise_is_said(sky: Sky, address: str, secret: str, told: list[str]) -> None:
    ran = sky("client", "add", "new", address, "--type", "rfc", "--secret", secret)
    assert ran.status == 0
    assert len(ran.err.splitlines()) == len(told)
    assert all(text in ran.err for text in told)


def test_a_change_warns_of_what_it_changes(sky: Sky, tmp_path: Path) -> None:
    sky("client", "add", "new", "10.0.0.1", "--type", "rfc", "--secret", "s")
    assert sky("client", "set", "new", "--slice-seconds", "60").err == ""
    assert "0.0.0.0/0 has" in sky("client", "set", "new", "--address", "0.0.0.0/0").err
    second = tmp_path / "second"
    second.write_text("short")
    assert SHORT_TOLD in sky("client", "set", "new", "--second-secret-file", str(second)).err


def test_an_ipv4_address_is_entered_as_such(sky: Sky) -> None:
    add = ("--type", "rfc", "--secret", LONG)
    sky("client", "add", "new", "::ffff:10.0.0.1", *add)
    assert "10.0.0.1/32" in sky("client", "show", "new").out
    again = sky("client", "add", "again", "10.0.0.1", *add)
    assert again.status
    assert "another client has the network" in again.err
    sky("client", "set", "new", "--address", "::ffff:10.1.0.0/112")
    assert "10.1.0.0/16" in sky("client", "show", "new").out
