"""The doctor finds what is wrong and says what to do."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.cli.doctor import FAULTS
from aaa_server.storage.database import transaction

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Ran, Sky

# What the tests' own cluster is: fast, and not durable.
OF_THE_CLUSTER = "fsync, full_page_writes or synchronous_commit is off"


def findings(ran: Ran) -> list[dict[str, Any]]:
    """All that is not ok, but for what the tests' cluster and an interpreted hot path cause."""
    return [
        row
        for row in ran.json
        if row["level"] != "ok" and OF_THE_CLUSTER not in row["what"] and row["about"] != "hot path"
    ]


@pytest.fixture
def healthy(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> Sky:
    """The demo with ports of its own."""
    monkeypatch.setenv("SKY_AAA_RADIUS_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("SKY_AAA_RADIUS_AUTH_PORT", "0")
    monkeypatch.setenv("SKY_AAA_RADIUS_ACCT_PORT", "0")
    # The machine may stand still between a look at its clock and one at the database's.
    monkeypatch.setattr("aaa_server.cli.doctor.CLOCK_SECONDS_MAX", 60.0)
    return sky


def test_the_demo_is_healthy(healthy: Sky) -> None:
    ran = healthy("doctor", "-o", "json")
    assert findings(ran) == []
    assert any(OF_THE_CLUSTER in row["what"] for row in ran.json)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "rate group without rates",
            [
                ("rate-group", "add", "bare"),
                ("rate-group", "attach", "bare", "21"),
                ("account", "add", "x", "--rate-group", "bare"),
            ],
        ),
        (
            "rate group without routes",
            [("resource-group", "set", "21", "--suspended"), ("account", "suspend", "globex")],
        ),
        ("account without rate group", [("account", "add", "x")]),
        (
            "account without exchange rate",
            [("account", "add", "x", "--currency", "GBP", "--rate-group", "retail")],
        ),
        (
            "outbound without rates",
            [
                (
                    *("resource-group", "add", "31", "--direction", "out"),
                    *("--account", "acme", "--gateway", "x"),
                ),
                ("rate-group", "attach", "retail", "31"),
            ],
        ),
        (
            "outbound without gateway",
            [("resource-group", "set", "21", "--gateway", "")],
        ),
        (
            "outbound not attached",
            [("rate-group", "detach", "retail", "21"), ("rate-group", "detach", "wholesale", "21")],
        ),
        (
            "client sw",
            [("client", "add", "sw", "10.0.0.1", "--type", "rfc", "--secret", "testing123")],
        ),
        ("client sw", [("client", "add", "sw", "10.0.0.1", "--type", "rfc", "--secret", "short")]),
        (
            "client sw",
            [
                (
                    *("client", "add", "sw", "10.0.0.1", "--type", "freeswitch"),
                    *("--secret", "long-enough-a-secret", "--limit-proxy-state", "no"),
                )
            ],
        ),
        (
            "clients",
            [("client", "remove", n) for n in ("rfc", "cisco", "freeswitch", "freeswitch-ipv6")],
        ),
    ],
)
def test_each_fault_is_found_with_what_to_do(
    healthy: Sky, fault: str, words: list[tuple[str, ...]]
) -> None:
    for line in words:
        assert healthy(*line).status == 0
    found = findings(healthy("doctor", "-o", "json"))
    assert [row["about"] for row in found] == [fault]
    assert found[0]["do"]


def test_a_group_without_any_route_attached_leaves_routing_to_the_switch(healthy: Sky) -> None:
    for number in ("21", "22"):
        assert healthy("rate-group", "detach", "retail", number).status == 0
    assert findings(healthy("doctor", "-o", "json")) == []


def test_calls_and_clocks_and_other_sellers_groups(
    healthy: Sky, demo_connection: Connection
) -> None:
    with transaction(demo_connection) as cursor:
        cursor.execute(
            """
            INSERT INTO call (client_id, session_key, call_id, status, expires_at, authorized_at)
            VALUES (1, 'old', 1, 'started', now() - interval '1 day', now() - interval '1 day'),
                   (1, 'new', 2, 'started', now() + interval '1 day', now() + interval '1 day')
            """
        )
        cursor.execute(
            """
            UPDATE account
               SET rate_group_id = (SELECT rate_group_id FROM rate_group WHERE name = 'retail')
             WHERE code = 'nora'
            """
        )
    found = {row["about"]: row["what"] for row in findings(healthy("doctor", "-o", "json"))}
    assert set(found) == {
        "calls that should have ended",
        "calls from the future",
        "account with another seller's rate group",
    }
    assert found["account with another seller's rate group"].endswith(": nora")


def test_every_fault_has_its_remedy() -> None:
    from aaa_server.storage.findings import _FAULTS

    assert {fault for fault, _ in _FAULTS} == set(FAULTS)


def test_a_wrong_configuration_is_the_first_finding(bare: Sky, settings: Path) -> None:
    settings.write_text("[radius]\nport = 1\n")
    ran = bare("doctor", "-o", "json")
    assert ran.status == 1
    assert [row["about"] for row in ran.json] == ["configuration"]


def test_no_database_is_a_finding(
    bare: Sky, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", f"postgresql:///sky?host={tmp_path}")
    ran = bare("doctor", "-o", "json")
    assert ran.status == 1
    assert ran.json[-1]["about"] == "database"


def test_a_schema_that_is_missing_and_an_operator_that_is_missing(
    bare: Sky, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", empty_database_url)
    last = bare("doctor", "-o", "json").json[-1]
    assert (last["about"], last["do"]) == ("schema", "sky-aaa migrate")
    bare("migrate")
    last = bare("doctor", "-o", "json").json[-1]
    assert last["about"] == "accounts"
    assert "serve --demo" in last["do"]


def test_a_key_file_that_others_may_read_and_one_that_is_another(
    healthy: Sky, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    monkeypatch.setenv("SKY_AAA_SECRETS_KEY_FILE", str(other))
    other.write_text(f"1 {'00' * 32}\n")
    other.chmod(0o644)
    assert "chmod 600" in findings(healthy("doctor", "-o", "json"))[0]["do"]
    other.chmod(0o600)
    found = findings(healthy("doctor", "-o", "json"))
    assert [row["about"] for row in found] == ["key file"]
    assert "put back the key file" in found[0]["do"]


def test_ports_are_free_in_use_or_impossible(healthy: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("SKY_AAA_RADIUS_AUTH_PORT", str(port))
        rows = {row["about"]: row["what"] for row in healthy("doctor", "-o", "json").json}
    assert rows[f"127.0.0.1 port {port}/udp"].startswith("in use")
    monkeypatch.setenv("SKY_AAA_RADIUS_ADDRESS", "192.0.2.1")
    found = findings(healthy("doctor", "-o", "json"))
    assert {row["level"] for row in found} == {"problem"}
    assert all("cannot be bound" in row["what"] for row in found)
