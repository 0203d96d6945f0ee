"""The worker by command: its jobs, calls that switches are to end, low balances."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from aaa_server.config import SmtpConfig, WorkerConfig
from aaa_server.storage import jobs
from aaa_server.storage.database import connect, transaction
from aaa_server.worker.jobs import jobs_of

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky

NAMES = [job.name for job in jobs_of(WorkerConfig(), SmtpConfig())]


def call(connection: Connection, account: str, client: str, *, levels: str = "[[1]]") -> int:
    """A call in progress of the demo's account over the demo's client; its number."""
    now = datetime.now(UTC)
    with transaction(connection) as cursor:
        cursor.execute("SELECT coalesce(max(call_id), 100) + 1 FROM call")
        [(call_id,)] = cursor.fetchall()
        cursor.execute(
            """
            INSERT INTO call (client_id, session_key, call_id, status, account_id, levels,
                              granted_seconds, expires_at, authorized_at, found_by, nas_address)
            SELECT client_id, %s, %s, 'authorized', account_id, %s, 60, %s, %s, 'argument',
                   '127.0.0.1'
              FROM client, account
             WHERE client.name = %s
               AND code = %s
            """,
            (f"key-{call_id}", call_id, levels, now + timedelta(seconds=180), now, client, account),
        )
    return int(call_id)


def test_all_jobs_are_listed_before_any_has_run(sky: Sky) -> None:
    ran = sky("jobs", "list", "-o", "json")
    assert ran.status == 0
    assert [row["job"] for row in ran.json] == NAMES
    assert {row["last_run"] for row in ran.json} == {None}
    assert "no worker runs" in ran.err


@pytest.mark.parametrize("name", NAMES)
def test_every_job_runs_by_hand_on_the_demo_and_again(
    sky: Sky, demo_connection: Connection, name: str
) -> None:
    for _ in range(2):
        ran = sky("jobs", "run", name, "-o", "json")
        assert ran.status == 0, ran.err
        assert ran.json["result"]
    [row] = [row for row in sky("jobs", "list", "-o", "json").json if row["job"] == name]
    assert row["result"]
    assert row["failures"] == 0
    with demo_connection.cursor() as cursor:
        cursor.execute("SELECT subject FROM audit_log WHERE action = 'jobs run'")
        assert cursor.fetchall() == [(name,), (name,)]
    assert sky("audit").status == 0


def test_a_job_that_nobody_knows_is_refused_by_name(sky: Sky) -> None:
    ran = sky("jobs", "run", "fee")
    assert ran.status == 2
    assert "'fee'" in ran.err
    assert "fees" in ran.err


def test_a_job_that_fails_says_why(sky: Sky, demo_connection: Connection) -> None:
    with transaction(demo_connection) as cursor:
        cursor.execute("ALTER TABLE account DROP COLUMN expiry_told")
    ran = sky("jobs", "run", "expiry")
    assert ran.status == 1
    assert "job expiry failed: column" in ran.err


def test_the_worker_is_the_operator_s(sky: Sky) -> None:
    for words in (("jobs", "list"), ("jobs", "run", "expiry")):
        ran = sky("--as", "north", *words)
        assert ran.status == 1
        assert "operator" in ran.err


def test_a_running_worker_is_seen(sky: Sky, demo_url: str) -> None:
    worker = connect(demo_url)
    with transaction(worker) as cursor:
        assert jobs.lead(cursor)
    assert "no worker" not in sky("jobs", "list").err
    worker.close()


# ------------------------------------------------------------------ calls to end


def test_an_order_is_given_listed_and_audited(sky: Sky, demo_connection: Connection) -> None:
    sky("client", "set", "rfc", "--disconnect-port", "3799")
    number = call(demo_connection, "alice", "rfc")
    ran = sky("calls", "disconnect", str(number), "-o", "json")
    assert ran.status == 0, ran.err
    [row] = ran.json
    assert (row["call"], row["account"], row["reason"]) == (number, "alice", "operator")
    assert (row["state"], row["client"]) == ("waiting", "rfc")
    assert sky("calls", "orders", "-o", "json").json == [row]
    with demo_connection.cursor() as cursor:
        cursor.execute("SELECT subject, after FROM audit_log WHERE action = 'calls disconnect'")
        assert cursor.fetchall() == [(str(number), {"calls": [number]})]
    # The list of calls is as it was.
    assert [row["call"] for row in sky("calls", "-o", "json").json] == [number]


def test_all_calls_of_an_account_and_those_below_it(sky: Sky, demo_connection: Connection) -> None:
    sky("client", "set", "rfc", "--disconnect-port", "3799")
    nora, cora = (call(demo_connection, code, "rfc") for code in ("nora", "cora"))
    call(demo_connection, "alice", "rfc")
    call(demo_connection, "nora", "rfc", levels="[]")
    ran = sky("calls", "disconnect", "--account", "north", "-o", "json")
    assert sorted(row["call"] for row in ran.json) == [nora, cora]
    none = sky("calls", "disconnect", "--account", "bob")
    assert none.status == 0
    assert "bob has no call in progress" in none.err


def test_what_cannot_be_ordered_is_explained(sky: Sky, demo_connection: Connection) -> None:
    number = call(demo_connection, "alice", "cisco")
    for status, words, text in (
        (2, (), "name a call"),
        (2, (str(number), "--account", "alice"), "name a call"),
        (2, ("0",), "a whole number from 1 to"),
        (1, ("999999",), "no call 999999 is in progress"),
        (1, (str(number),), "--disconnect-port 3799"),
        (1, ("--account", "nobody"), "there is no account 'nobody'"),
        (2, ("--account", "admin"), "the operator's own account"),
    ):
        ran = sky("calls", "disconnect", *words)
        assert ran.status == status, ran.err
        assert text in ran.err
    assert sky("calls", "orders", "-o", "json").json == []


def test_a_reseller_orders_for_its_tree_and_sees_no_switch(
    sky: Sky, demo_connection: Connection
) -> None:
    sky("client", "set", "rfc", "--disconnect-port", "3799")
    nora, alice = call(demo_connection, "nora", "rfc"), call(demo_connection, "alice", "rfc")
    sky("calls", "disconnect", str(alice))
    ran = sky("--as", "north", "calls", "disconnect", str(nora), "-o", "json")
    assert ran.status == 0, ran.err
    assert "rfc" not in json.dumps(ran.json)
    for code, number in (("north", alice), ("coast", nora)):
        refused = sky("--as", code, "calls", "disconnect", str(number))
        assert refused.status == 1
        assert f"no call {number} is in progress" in refused.err
    assert sky("--as", "nora", "calls", "disconnect", str(nora)).status == 1
    assert sky("--as", "north", "calls", "disconnect", "--account", "north").status == 1
    seen = sky("--as", "north", "calls", "orders", "-o", "json").json
    assert [row["call"] for row in seen] == [nora]


def test_a_client_that_takes_no_orders_any_more(sky: Sky) -> None:
    assert sky("client", "set", "rfc", "--disconnect-port", "3799").status == 0
    ran = sky("client", "set", "rfc", "--disconnect-port", "0", "-o", "json")
    assert ran.json["disconnect_port"] is None


# ------------------------------------------------------------------ low balances


def test_a_threshold_is_set_and_taken_away(sky: Sky) -> None:
    ran = sky("account", "set", "alice", "--low-balance", "60", "-o", "json")
    assert ran.json["low_balance"] == "60.000000"
    sky("jobs", "run", "low-balance")
    [event] = sky("event", "list", "--account", "alice", "-o", "json").json
    assert event["kind"] == "low-balance"
    ran = sky("account", "set", "alice", "--low-balance", "never", "-o", "json")
    assert ran.json["low_balance"] is None
    made = sky("account", "add", "dora", "--prepaid", "--low-balance", "5", "-o", "json")
    assert made.json["low_balance"] == "5.000000"
    kept = sky("account", "set", "dora", "--name", "Dora", "-o", "json")
    assert kept.json["low_balance"] == "5.000000"
    assert sky("account", "set", "dora", "--low-balance", "much").status == 2


def test_a_reseller_sets_the_thresholds_of_its_own(sky: Sky) -> None:
    ran = sky("--as", "north", "account", "set", "nora", "--low-balance", "1", "-o", "json")
    assert ran.json["low_balance"] == "1.000000"
