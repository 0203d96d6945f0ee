"""What a person has typed wrong is told in words about it, not in those of a library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Sky

LIBRARY_WORDS = ("valid integer", "x<=", "<=x", "codec", "No such option", "Errno")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("account", "statement", "alice", "--limit", "many"),
            "'many': a whole number from 1 to 1000000 is expected",
        ),
        (
            ("account", "statement", "alice", "--limit", "0"),
            "0: a whole number from 1 to 1000000 is expected",
        ),
        (
            ("number-rule", "remove", "x"),
            "'x': a whole number, at least 1, is expected",
        ),
        (
            ("account", "top-up", "alice", "-5", "--reference", "x"),
            "above 0. To take money off an account: `sky-aaa adjustment add CODE -5",
        ),
        (
            ("account", "top-up", "alice", "-.5", "--reference", "x"),
            "above 0. To take money off an account",
        ),
        (
            ("account", "top-up", "alice", "--reference", "x", "--", "-5"),
            "a payment is above 0. To take money off an account",
        ),
        (("payment", "add", "alice", "-5", "--reference", "x"), "above 0. To take money off"),
        (("account", "show", "-5"), "is typed behind a --"),
        (
            ("account", "statement", "alice", "--from", "0001-01-01T00:00:00+01:00"),
            "outside the years 1900 to 8999",
        ),
        (
            ("package", "grant", "alice", "uk-60", "--from", "9999-12-31"),
            "outside the years 1900 to 8999",
        ),
        (("billing", "set", "alice", "--discount", "-1"), "a discount is from 0 to 100 %"),
        (("billing", "set", "alice", "--discount", "101"), "a discount is from 0 to 100 %"),
        (("report", "top-destinations", "--limit", "-1"), "--limit: '-1' is below 0"),
        (("report", "traffic", "--from", "9999-12-31"), "outside the years 1900 to 8999"),
    ],
)
def test_a_wrong_word_is_told_plainly(unchanged: Sky, words: tuple[str, ...], told: str) -> None:
    ran = unchanged(*words)
    assert ran.status == 2
    assert told in ran.err
    assert not [word for word in LIBRARY_WORDS if word in ran.err]


def test_a_configuration_that_cannot_be_read_is_told_plainly(
    bare: Sky, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write_bytes(b"[radius]\n# caf\xe9\n")
    ran = bare("config", "check")
    assert ran.status == 2
    assert "line 2 is not UTF-8 (octet 0xe9): save it as UTF-8" in ran.err
    settings.write_text("")
    monkeypatch.setenv("SKY_AAA_DATABASE_URL_FILE", str(settings.parent / "none"))
    ran = bare("config", "check")
    assert ran.status == 2
    assert f"{settings.parent / 'none'}: No such file or directory" in ran.err
    assert not [word for word in LIBRARY_WORDS if word in ran.err]
