"""Calls that come at once, twice, out of order or not at all: money moves once."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from aaa_server.radius import attribute
from aaa_server.storage import accounts, payments, viewer
from aaa_server.storage.database import connect, transaction
from tests.integration.nas import CALLED, INTERIM, OFF, ON, START, STOP, Nas, Question
from tests.integration.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import Serving
    from tests.integration.server import Server

SLICE = "slice_seconds = 60"
AT_ONCE = 200
SLICES = 10


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "two-processes"])
def server(serving: Serving, request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(processes=request.param, options={"charging": SLICE}) as started:
        yield started
        started.audit()


def reserved_of_a_slice(server: Server) -> list[int]:
    """What the customer, its reseller and that one's reseller reserve for one slice."""
    nas = Nas(server)
    key = f"slice-{time.monotonic_ns()}"
    assert nas.ask(nas.authorize(key, "cora", CALLED)).seconds == 60
    [(micros,)] = server.query("SELECT reserved_micros FROM call WHERE session_key = %s", key)
    nas.ask(nas.report(STOP, key, seconds=0))
    return list(micros)


def add_chain(server: Server, name: str, credits_micros: list[int]) -> list[str]:
    """Prepaid accounts with this credit, each below the one after it; their codes."""
    groups = ("coast-retail", "north-wholesale", "wholesale")
    codes = [f"{name}-{level}" for level in range(len(credits_micros))]
    with contextlib.closing(connect(server.url)) as connection, transaction(connection) as cursor:
        admin = viewer.operator(cursor)
        parent_id = admin.account_id
        for level in reversed(range(len(credits_micros))):
            cursor.execute("SELECT rate_group_id FROM rate_group WHERE name = %s", (groups[level],))
            [(group_id,)] = cursor.fetchall()
            new = accounts.NewAccount(
                code=codes[level],
                kind="reseller" if level else "customer",
                parent_id=parent_id,
                prepaid=True,
                currency="USD",
                rate_group_id=group_id,
            )
            parent_id = accounts.add(cursor, new)
            payments.top_up(
                cursor, admin, codes[level], credits_micros[level], reference=codes[level]
            )
    return codes


def reserved(server: Server, codes: list[str]) -> list[tuple[int, int, int]]:
    """Balance, reserved, channels of each account."""
    return [
        server.query(
            "SELECT balance_micros, reserved_micros, channels FROM account WHERE code = %s", code
        )[0]
        for code in codes
    ]


@pytest.mark.parametrize("poorest", [0, 1, 2, None])
def test_of_many_calls_at_once_exactly_those_are_granted_that_can_be_paid(
    server: Server, poorest: int | None
) -> None:
    """`poorest` has money for ten slices and the others for more; None: all for ten."""
    slice_micros = reserved_of_a_slice(server)
    credits_micros = [
        micros * (SLICES if poorest in (None, level) else 3 * SLICES)
        for level, micros in enumerate(slice_micros)
    ]
    codes = add_chain(server, f"ten-{poorest}", credits_micros)
    nas = Nas(server)
    keys = [f"{codes[0]}-{number}" for number in range(AT_ONCE)]
    answers = nas.ask_at_once([nas.authorize(key, codes[0], CALLED) for key in keys])
    granted = [key for key, answer in zip(keys, answers, strict=True) if answer.granted]
    assert len(granted) == SLICES
    assert {answer.return_code for answer in answers if not answer.granted} == {4}
    assert reserved(server, codes) == [
        (credit, SLICES * micros, SLICES)
        for credit, micros in zip(credits_micros, slice_micros, strict=True)
    ]
    # All ten are paid and nothing is left over or owed.
    nas.ask_at_once([nas.report(STOP, key, seconds=60) for key in keys])
    assert reserved(server, codes) == [
        (credit - SLICES * micros, 0, 0)
        for credit, micros in zip(credits_micros, slice_micros, strict=True)
    ]


def cdrs(server: Server, key: str) -> list[tuple[str, int, int, list[str]]]:
    """How it ended, seconds, transactions and flags of every record of the session.

    Without the flag that minutes of talk are told of within a moment, as all of these are.
    """
    return server.query(
        "SELECT ended_by, seconds, postings, array_remove(flags, 'longer-than-elapsed')"
        " FROM cdr WHERE session_key = %s",
        key,
    )


def balance(server: Server, code: str) -> int:
    [(micros,)] = server.query("SELECT balance_micros FROM account WHERE code = %s", code)
    assert isinstance(micros, int)
    return micros


def test_the_same_stop_from_three_ports_and_as_other_packets_is_charged_once(
    server: Server,
) -> None:
    nas = Nas(server)
    before = balance(server, "alice")
    assert nas.ask(nas.authorize("thrice", "alice", CALLED)).granted
    same = nas.report(STOP, "thrice", "alice", CALLED, seconds=61)
    others = [
        nas.report(STOP, "thrice", "alice", CALLED, seconds=61, identifier=number)
        for number in range(100, 120)
    ]
    nas.ask_at_once([same, same, same, *others])
    assert cdrs(server, "thrice") == [("stop", 60, 1, [])]  # cut one second late
    [(paid,)] = server.query(
        "SELECT sum(charge.amount_micros) FROM charge JOIN cdr USING (call_id)"
        " WHERE session_key = 'thrice' AND level = 0"
    )
    assert before - balance(server, "alice") == paid > 0


def test_the_same_authorisation_from_many_ports_reserves_once(server: Server) -> None:
    nas = Nas(server)
    question = nas.authorize("again", "alice", CALLED)
    answers = nas.ask_at_once([question] * 20)
    assert {(answer.seconds, answer.return_code) for answer in answers} == {(60, 0)}
    [(micros, channels)] = server.query(
        "SELECT reserved_micros, channels FROM account WHERE code = 'alice'"
    )
    [(once,)] = server.query("SELECT reserved_micros FROM call WHERE session_key = 'again'")
    assert ([micros], channels) == (once, 1)
    nas.ask(nas.report(STOP, "again", seconds=0))


def test_stop_before_start_and_interim_after_stop_are_answered_and_change_nothing(
    server: Server,
) -> None:
    nas = Nas(server)
    nas.ask(nas.authorize("late", "alice", CALLED))
    nas.ask(nas.report(STOP, "late", "alice", CALLED, seconds=30))
    after = balance(server, "alice")
    for status, seconds in ((START, None), (INTERIM, 50), (START, None), (STOP, 59)):
        nas.ask(nas.report(status, "late", "alice", CALLED, seconds=seconds))
    assert cdrs(server, "late") == [("stop", 30, 1, [])]
    assert server.query("SELECT 1 FROM call WHERE session_key = 'late'") == []
    assert balance(server, "alice") == after


def test_start_interim_and_stop_at_once_are_one_call(server: Server) -> None:
    nas = Nas(server)
    for number in range(20):
        key = f"mixed-{number}"
        nas.ask(nas.authorize(key, "bob", CALLED))
        nas.ask_at_once(
            [
                nas.report(STOP, key, "bob", CALLED, seconds=20),
                nas.report(INTERIM, key, "bob", CALLED, seconds=10),
                nas.report(START, key, "bob", CALLED),
                nas.report(STOP, key, "bob", CALLED, seconds=20),
            ]
        )
        assert cdrs(server, key) == [("stop", 20, 1, [])]


def test_a_stop_that_nobody_authorised_is_charged_once(server: Server) -> None:
    nas = Nas(server, "127.0.0.2")
    before = balance(server, "bob")
    question = nas.report(STOP, "unknown", "bob", CALLED, seconds=61)
    other = nas.report(STOP, "unknown", "bob", CALLED, seconds=61, identifier=9)
    nas.ask_at_once([question, question, other])
    [(ended_by, seconds, postings, flags)] = cdrs(server, "unknown")
    assert (ended_by, seconds, postings) == ("stop", 61, 1)
    assert "no-authorization" in flags
    assert balance(server, "bob") < before


def test_accounting_on_closes_the_calls_of_that_switch_alone(server: Server) -> None:
    nas, rfc = Nas(server), Nas(server, "127.0.0.2")
    for asking, key in ((nas, "fs-1"), (nas, "fs-2"), (rfc, "rfc-1")):
        assert asking.ask(asking.authorize(key, "bob", CALLED)).granted
    nas.ask(nas.report(INTERIM, "fs-2", seconds=7))
    nas.ask_at_once([nas.report(ON, ""), nas.report(OFF, "")])
    assert [row[:2] for row in cdrs(server, "fs-1")] == [("reboot", 0)]
    assert [row[:2] for row in cdrs(server, "fs-2")] == [("reboot", 7)]
    assert server.query("SELECT session_key FROM call WHERE status = 'authorized'") == [("rfc-1",)]
    # The Stop comes after all: the difference is posted, once.
    late = nas.report(STOP, "fs-1", seconds=45)
    nas.ask_at_once([late, late])
    assert [row[:3] for row in cdrs(server, "fs-1")] == [("reboot", 45, 1)]
    nas.ask(late)
    rfc.ask(rfc.report(STOP, "rfc-1", seconds=0))
    assert [row[:3] for row in cdrs(server, "fs-1")] == [("reboot", 45, 1)]


def test_the_operators_own_code_is_refused_and_its_accounting_recorded(server: Server) -> None:
    rfc = Nas(server, "127.0.0.2")
    for number in range(3):
        answer = rfc.ask(rfc.authorize(f"admin-{number}", "admin", CALLED))
        assert (answer.accepted, answer.return_code) == (False, 1)
        rfc.ask(rfc.report(STOP, f"admin-{number}", "admin", CALLED, seconds=0))
        rfc.ask(rfc.report(START, f"unasked-{number}", "admin", CALLED))
        rfc.ask(rfc.report(STOP, f"unasked-{number}", "admin", CALLED, seconds=9))
        [(_, _, postings, flags)] = cdrs(server, f"unasked-{number}")
        assert (postings, "unrated" in flags) == (0, True)


def test_a_provider_does_not_make_calls(server: Server) -> None:
    rfc = Nas(server, "127.0.0.2")
    for number in range(2):
        answer = rfc.ask(rfc.authorize(f"acme-{number}", "acme", CALLED))
        assert (answer.accepted, answer.return_code) == (False, 1)
        rfc.ask(rfc.report(STOP, f"acme-{number}", "acme", CALLED, seconds=5))
        rfc.ask(rfc.report(STOP, f"acme-unasked-{number}", "acme", CALLED, seconds=5))
    assert balance(server, "acme") == sum(
        row[0]
        for row in server.query(
            "SELECT amount_micros FROM charge JOIN account USING (account_id)"
            " WHERE code = 'acme' AND level = -1"
        )
    )


def test_the_channel_limit_holds_for_calls_at_once(server: Server) -> None:
    nas = Nas(server)
    keys = [f"single-{number}" for number in range(40)]
    answers = nas.ask_at_once([nas.authorize(key, "single", CALLED) for key in keys])
    assert sum(answer.granted for answer in answers) == 1
    assert {answer.return_code for answer in answers if not answer.granted} == {3}
    nas.ask_at_once([nas.report(STOP, key, seconds=0) for key in keys])
    assert reserved(server, ["single"])[0][1:] == (0, 0)


def reauthorize(nas: Nas, key: str, step: int, elapsed: int) -> Question:
    """The script's question for more time."""
    return nas.access(
        [
            (attribute.ACCT_SESSION_ID, key.encode()),
            (attribute.CALLED_STATION_ID, CALLED.encode()),
            (attribute.USER_NAME, b"alice"),
            (attribute.CISCO_AVPAIR, f"h323-ivr-out=PHASE:reauth:{step}".encode()),
            (attribute.CISCO_AVPAIR, f"sky-elapsed={elapsed}".encode()),
        ]
    )


def test_more_time_is_given_once_a_step(server: Server) -> None:
    nas = Nas(server)
    assert nas.ask(nas.authorize("more", "alice", CALLED)).seconds == 60
    answers = nas.ask_at_once([reauthorize(nas, "more", 1, 50) for _ in range(5)])
    assert {answer.seconds for answer in answers} == {60}
    [(granted,)] = server.query("SELECT granted_seconds FROM call WHERE session_key = 'more'")
    assert granted == 110
    nas.ask(nas.report(STOP, "more", seconds=111))
    assert cdrs(server, "more") == [("stop", 110, 1, [])]
    late = nas.ask(reauthorize(nas, "more", 2, 100))
    assert (late.granted, late.return_code) == (False, 11)


def test_every_process_shares_the_ports(server: Server) -> None:
    wait_until(lambda: len(server.children()) == server.processes - 1, "the further processes run")


def test_a_session_key_used_again_much_later_is_another_call(server: Server) -> None:
    """Some gateways count their sessions from 1 again; here the second call is another's."""
    rfc = Nas(server, "127.0.0.2")
    much_earlier = -30 * 86_400
    rfc.ask(rfc.report(STOP, "counted-1", "alice", CALLED, seconds=61, later_seconds=much_earlier))
    for status, seconds in ((START, 0), (INTERIM, 10), (STOP, 20), (STOP, 20)):
        rfc.ask(rfc.report(status, "counted-1", "nora", CALLED, seconds=seconds))
    rows = server.query(
        "SELECT code, seconds FROM cdr JOIN account USING (account_id)"
        " WHERE session_key = 'counted-1' ORDER BY authorized_at"
    )
    assert rows == [("alice", 61), ("nora", 20)]
