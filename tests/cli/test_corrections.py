"""Calls charged anew, stuck calls closed, charges disputed: by commands, on real calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Sky

PERIOD = ("--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z")
LONDON = "442071838750"


@pytest.fixture
def called(served: Sky) -> Sky:
    """A server on the demo data after a call of cora, three levels below the operator."""
    assert served("demo-call", "--account", "cora", "--seconds", "61").status == 0
    return served


def test_a_new_rating_shows_the_difference_first_and_then_posts_it_once(called: Sky) -> None:
    nothing = called("rerate", *PERIOD, "--dry-run", "-o", "json")
    assert (nothing.json, nothing.status) == ([], 0), nothing.err
    group = called("account", "show", "cora", "-o", "json").json["rate_group"]
    added = called(
        "rate", "add", LONDON[:9], "--rate-group", group, "--per-minute", "0.10",
        "--from", "2020-01-01T00:00:00Z",
    )  # fmt: skip
    assert added.status == 0, added.err
    wanted = [
        {
            "account": "cora",
            "role": "payer",
            "calls": 1,
            "before": "0.026000",
            "after": "0.200000",
            "difference": "0.174000",
            "currency": "USD",
        }
    ]
    assert called("rerate", *PERIOD, "--dry-run", "-o", "json").json == wanted
    balance = called("account", "show", "cora", "-o", "json").json["balance"]
    assert called("rerate", *PERIOD, "-o", "json").json == wanted
    assert called("rerate", *PERIOD, "-o", "json").json == []
    after = called("account", "show", "cora", "-o", "json").json["balance"]
    assert round(float(balance) - float(after), 6) == 0.174
    record = called("cdr", "list", "--account", "cora", "-o", "json").json[0]
    shown = called("cdr", "show", str(record["call"]), "-o", "json").json
    assert shown["flags"] == ["rerated"]
    assert shown["charges"][0]["amount"] == "0.200000"
    assert called("cdr", "explain", str(record["call"])).status == 0
    assert called("audit").status == 0


def test_a_new_rating_of_no_period_or_by_a_reseller_is_refused(called: Sky) -> None:
    backwards = called("rerate", "--from", "2026-02-01", "--to", "2026-01-01")
    assert backwards.status == 2
    assert "is not before" in backwards.err
    assert called("--as", "north", "rerate", *PERIOD).status == 1
    assert called("rerate", *PERIOD, "--account", "nobody").status == 1


def test_a_dispute_is_opened_once_and_resolved_by_the_seller(called: Sky) -> None:
    call = str(called("cdr", "list", "--account", "cora", "-o", "json").json[0]["call"])
    opened = called(
        "--as", "cora", "cdr", "dispute", call, "--reason", "never called", "-o", "json"
    )
    assert (opened.status, opened.json["reason"]) == (0, "never called"), opened.err
    again = called("--as", "cora", "cdr", "dispute", call, "--reason", "never called")
    assert (again.status, "disputed already" in again.err) == (1, True)
    mine = called("--as", "cora", "cdr", "dispute", call, "--resolve", "in my favour")
    assert mine.status == 1
    assert called("--as", "alice", "cdr", "disputes", "-o", "json").json == []
    assert called("--as", "alice", "cdr", "dispute", call, "--reason", "not mine").status == 1
    assert [row["account"] for row in called("cdr", "disputes", "-o", "json").json] == ["cora"]
    closed = called("--as", "coast", "cdr", "dispute", call, "--resolve", "credited", "-o", "json")
    assert closed.json["outcome"] == "credited", closed.err
    assert called("cdr", "disputes", "-o", "json").json == []
    shown = called("cdr", "show", call, "-o", "json").json
    assert [one["outcome"] for one in shown["disputes"]] == ["credited"]


def test_closing_a_call_that_does_not_run_says_so(called: Sky) -> None:
    refused = called("calls", "close", "123456789")
    assert (refused.status, "is not in progress" in refused.err) == (1, True)
