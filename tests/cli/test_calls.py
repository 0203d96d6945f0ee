"""Real calls against a running server, and what people are shown of them."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.storage import viewer
from aaa_server.storage.database import connect, transaction

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from tests.cli.conftest import Sky

LONDON = "442071838750"


def changes(record: Any) -> dict[str, str]:
    return {row["account"]: row["change"] for row in record["balances"]}


def test_the_demo_call_shows_what_it_did(served: Sky) -> None:
    ran = served("demo-call", "-o", "json")
    assert ran.status == 0, ran.err
    record = ran.json
    answer = {row["attribute"]: row["value"] for row in record["answer"]}
    assert answer["Packet-Type"] == "Access-Accept"
    assert answer["Session-Timeout"] == "7200"
    assert (record["account"], record["seconds"], record["flags"]) == ("cora", 61, [])
    charges = {row["account"]: (row["amount"], row["billed_seconds"]) for row in record["charges"]}
    assert charges == {
        "cora": ("0.026000", 120),
        "coast": ("0.009350", 66),
        "north": ("0.007625", 61),
        "globex": ("0.005500", 66),
    }
    assert changes(record) == {
        "cora": "-0.026000",
        "coast": "-0.009350",
        "north": "-0.007625",
        "acme": "0.000000",
        "globex": "0.005500",
    }
    assert {row["reserved_after"] for row in record["balances"]} == {"0.000000"}
    assert served("audit").status == 0


def test_a_refused_demo_call_says_why_and_costs_nothing(served: Sky) -> None:
    for code, called, reason in (
        ("empty", LONDON, "no-credit"),
        ("suspended", LONDON, "suspended"),
        ("expired", LONDON, "expired"),
        ("alice", "9006", "blocked"),
        ("alice", "979123456", "blocked"),
        ("alice", "2101234567", "no-rate"),
    ):
        ran = served("demo-call", "--account", code, "--called", called, "-o", "json")
        assert ran.status == 1
        assert ran.json["refused"] == reason
        assert set(changes(ran.json).values()) == {"0.000000"}
        explained = served("cdr", "explain", str(ran.json["call"])).out
        assert f"refused     {reason}: " in explained
    assert served("audit").status == 0


def test_every_level_is_explained(served: Sky) -> None:
    record = served("demo-call", "--account", "carl", "--seconds", "130", "-o", "json").json
    call = str(record["call"])
    lines = served("cdr", "explain", call).out.splitlines()
    text = "\n".join(lines)
    for expected in (
        "carl, found by the account code that the switch gave",
        "prefix 4420 (United Kingdom London)",
        "0.0130 USD a minute, first block 60 s, then 60 s",
        "130 s: billed as 180 s, whole blocks",
        "180 s cost 0.039 USD exactly",
        "exchanged at 0.9200, as of authorisation",
        "rounded once, half up: 0.035880 EUR",
        "RG_22 answered",
        "north 0.002450 USD",
    ):
        assert expected in text
    as_json = served("cdr", "explain", call, "-o", "json").json
    assert {"about": "granted", "what": "7200 s in total"} in as_json


def test_who_sees_which_part_of_a_call(served: Sky, demo_connection: Connection) -> None:
    call = str(served("demo-call", "-o", "json").json["call"])
    expected = {
        "admin": {"cora", "coast", "north", "globex"},
        "north": {"cora", "coast", "north"},
        "coast": {"cora", "coast"},
        "cora": {"cora"},
    }
    for code, parties in expected.items():
        record = served("--as", code, "cdr", "show", call, "-o", "json").json
        assert {row["account"] for row in record["charges"]} == parties
        assert ("route" in record) is (code == "admin")
        explained = served("--as", code, "cdr", "explain", call).out
        assert _parties(explained) == parties
        if code != "admin":
            for secret in ("RG_2", "sofia", "acme", "globex", "0.0050"):
                assert secret not in explained
        [row] = served("--as", code, "cdr", "list", "-o", "json").json
        assert (
            row["cost"]
            == {
                "admin": "0.005500",
                "north": "0.007625",
                "coast": "0.009350",
                "cora": "0.026000",
            }[code]
        )
        assert bool(row.get("route")) is (code == "admin")
    for code in ("nora", "alice"):
        assert served("--as", code, "cdr", "show", call).status == 1
        assert served("--as", code, "cdr", "list", "-o", "json").json == []


def _parties(explained: str) -> set[str]:
    """The accounts of the levels, and the provider."""
    found = re.findall(r"^(?:level \d|provider) (\S+)", explained, re.MULTILINE)
    return set(found)


def test_the_viewers_role_reads_no_charge_or_posting_above_it(
    served: Sky, demo_connection: Connection
) -> None:
    call = served("demo-call", "-o", "json").json["call"]
    expected = {"north": 3, "coast": 2, "cora": 1, "alice": 0}
    for code, parties in expected.items():
        with transaction(demo_connection) as cursor:
            viewer.enter(cursor, code)
            cursor.execute("SELECT count(*) FROM charge WHERE call_id = %s", (call,))
            assert cursor.fetchone() == (parties,)
            cursor.execute(
                "SELECT count(*) FROM posting JOIN ledger_transaction USING (transaction_id)"
                " WHERE kind = 'call'"
            )
            assert cursor.fetchone() == (parties,)
            cursor.execute("SELECT jsonb_array_length(levels), flags FROM viewer_cdr(%s)", (call,))
            found = cursor.fetchall()
            assert (found[0][0] or 0) == parties
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("SELECT routes FROM cdr")
            cursor.execute("ROLLBACK")


def test_calls_are_found_again(served: Sky) -> None:
    first = served("demo-call", "-o", "json").json
    served("demo-call", "--account", "alice", "--ani", "15551230001", "-o", "json")
    served("demo-call", "--account", "empty")

    def calls(*words: str) -> list[str]:
        return [row["account"] for row in served("cdr", "list", *words, "-o", "json").json]

    assert calls() == ["empty", "alice", "cora"]
    assert calls("--account", "north") == ["cora"]
    assert calls("--charged") == ["alice", "cora"]
    assert calls("--refused") == ["empty"]
    assert calls("--number", "+1 555 123") == ["alice"]
    assert calls("--to", "2020-01-01") == []
    assert calls("--limit", "1") == ["empty"]
    latest = served("cdr", "list", "-o", "json").json[0]["call"]
    assert calls("--before", str(latest)) == ["alice", "cora"]
    for key in (str(first["call"]), first["session"], first["sip_call_id"]):
        assert served("cdr", "show", key, "-o", "json").json["call"] == first["call"]
    assert "no call 123" in served("cdr", "show", "123").err


def test_calls_in_progress(sky: Sky, demo_connection: Connection) -> None:
    with transaction(demo_connection) as cursor:
        cursor.execute(
            """
            INSERT INTO call (client_id, session_key, call_id, status, account_id, reserved_micros,
                              levels, granted_seconds, expires_at, authorized_at, ani, called)
            SELECT 1, code, row_number() OVER (ORDER BY code), 'authorized', account_id,
                   '{1500000}', '[]', 600, now() + interval '10 min', now(), '1', '442'
              FROM account
             WHERE code IN ('alice', 'nora')
            """
        )
    rows = sky("calls", "-o", "json").json
    assert [(row["account"], row["reserved"]) for row in rows] == [
        ("alice", "1.500000"),
        ("nora", "1.500000"),
    ]
    [row] = sky("--as", "north", "calls", "-o", "json").json
    assert row["account"] == "nora"
    assert {"client", "route", "reserved"}.isdisjoint(row)
    assert "has not ended yet" in sky("cdr", "show", "nora").err
    watched = sky("calls", "--watch")
    assert watched.status == 2
    assert "for a terminal" in watched.err


def test_the_demo_call_says_when_nobody_answers(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aaa_server.cli.demo_call.TRY_SECONDS", 0.01)
    monkeypatch.setenv("SKY_AAA_RADIUS_AUTH_PORT", "9")
    ran = sky("demo-call")
    assert ran.status == 1
    assert "sky-aaa serve" in ran.err


def test_the_demo_call_sees_that_another_database_answered(
    served: Sky, shared_demo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", shared_demo_url)
    ran = served("demo-call")
    assert ran.status == 1
    assert "a server on another database" in ran.err


# ------------------------------------------------------------------ the audit


CORRUPTIONS = {
    "balances are the sums of the postings": (
        "UPDATE account SET balance_micros = balance_micros + 1 WHERE code = 'cora'",
        "cora",
    ),
    "reserved is what calls in progress hold": (
        "UPDATE account SET reserved_micros = 7 WHERE code = 'coast'",
        "coast",
    ),
    "channels of accounts are their calls in progress": (
        "UPDATE account SET channels = 1 WHERE code = 'alice'",
        "alice",
    ),
    "channels of resource groups are their calls in progress": (
        "UPDATE resource_group SET channels = 2 WHERE name = 'RG_21'",
        "RG_21",
    ),
    "charges of calls are what was posted for them": (
        "UPDATE charge SET amount_micros = amount_micros + 5 WHERE level = 1",
        "coast",
    ),
    "records of calls count their transactions": ("UPDATE cdr SET postings = 2", "call"),
    "transactions, postings, charges and calls belong together": (
        "INSERT INTO ledger_transaction VALUES (99, 'adjustment', 'x', now())",
        "transaction 99",
    ),
    "accounts, rates and resource groups that are named exist": (
        "UPDATE charge SET rate_id = 987654 WHERE level = 0",
        "level 0",
    ),
    "postings and charges are in their account's currency": (
        "UPDATE charge SET currency = 'EUR' WHERE level = 2",
        "level 2",
    ),
    "contra books are the seller's": (
        "UPDATE posting SET contra_book = 'rounding' WHERE contra_book = 'purchases'",
        "posting",
    ),
}


def test_the_audit_names_what_was_corrupted(served: Sky, demo_url: str) -> None:
    served("demo-call")
    clean = served("audit", "-o", "json")
    assert (clean.status, clean.json) == (0, [])
    with contextlib.closing(connect(demo_url)) as connection:
        for check, (corruption, subject) in CORRUPTIONS.items():
            with transaction(connection) as cursor:
                # Tables that refuse it are corrupted as a careless superuser would.
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute("CREATE TABLE kept_account AS TABLE account")
                cursor.execute("CREATE TABLE kept_charge AS TABLE charge")
                cursor.execute("CREATE TABLE kept_posting AS TABLE posting")
                cursor.execute(corruption)
                assert cursor.rowcount
            ran = served("audit", "-o", "json")
            assert ran.status == 1
            found = [row for row in ran.json if row["check"] == check]
            assert found, (check, ran.json)
            assert subject in found[0]["subject"]
            assert found[0]["expected"] != found[0]["found"]
            with transaction(connection) as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
                for undo in UNDO:
                    cursor.execute(undo)
    assert served("audit").status == 0


UNDO = (
    """
    UPDATE account
       SET balance_micros = kept.balance_micros,
           reserved_micros = kept.reserved_micros,
           channels = kept.channels
      FROM kept_account AS kept
     WHERE kept.account_id = account.account_id
    """,
    "UPDATE resource_group SET channels = 0",
    "UPDATE cdr SET postings = 1",
    "DELETE FROM charge",
    "INSERT INTO charge SELECT * FROM kept_charge",
    "DELETE FROM posting",
    "INSERT INTO posting SELECT * FROM kept_posting",
    "DELETE FROM ledger_transaction WHERE transaction_id = 99",
    "DROP TABLE kept_account, kept_charge, kept_posting",
)
