"""Every request that real switches sent, sent again by UDP, octet for octet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aaa_server.radius import attribute
from aaa_server.radius.client import AUTH
from tests.integration.nas import Answer, Nas, Question
from tests.integration.server import wait_until
from tests.radius.peer import captured

if TYPE_CHECKING:
    from tests.integration.conftest import Serving
    from tests.integration.server import Server


SHIPPED = "freeswitch_shipped_config"
DIGESTS = (37, 39, 41)  # in freeswitch.jsonl: REGISTER, REGISTER, INVITE


def replay(
    server: Server, name: str, *, but_not: tuple[int, ...] = ()
) -> list[tuple[int, Question, Answer]]:
    """Number, question and answer of every captured request, in the captured order.

    A retransmission is in the captures too, from the same port; it goes from another one here.
    """
    nas = Nas(server)
    exchanged = []
    for packet in captured(name):
        if packet["n"] in but_not:
            continue
        port = server.auth_port if packet["role"] == AUTH else server.acct_port
        question = Question(packet["datagram"], port)
        exchanged.append((packet["n"], question, nas.ask(question)))
    return exchanged


def set_password(server: Server, password: str) -> None:
    """The one that the captured digests were made with is not the demo's."""
    server.command("account", "set", "alice", "--password-file", "-", stdin=password)


def one_record_a_call(server: Server) -> list[tuple[str, str, str | None, int, str]]:
    """Session, called, refusal, charged seconds, account of every record."""
    assert server.query("SELECT session_key FROM call") == []
    keys = server.query("SELECT session_key FROM cdr GROUP BY session_key HAVING count(*) > 1")
    assert keys == []
    return server.query(
        """
        SELECT session_key, called, refusal, seconds, coalesce(account.code, '')
          FROM cdr
          LEFT JOIN account USING (account_id)
         ORDER BY call_id
        """
    )


def test_the_shipped_freeswitch_configuration_is_served_from_start_to_stop(
    serving: Serving,
) -> None:
    with serving() as server:
        exchanged = replay(server, SHIPPED)
        access = {
            number: answer for number, question, answer in exchanged if question.datagram[0] == 1
        }
        # 3: an ordinary call, 9: a blocked number, 15 and 17 to 21: a call that asks for more.
        assert [access[number].return_code for number in (3, 9, 15, 17, 19, 21)] == [
            *(0, 9, 0, 0, 0, 0)
        ]
        assert [access[number].granted for number in (3, 9, 15, 17, 19, 21)] == [
            *(True, False, True, True, True, True)
        ]
        assert one_record_a_call(server) == [
            ("7a94570d-5b0c-41b2-bcf2-5aca6585281b", "4420555", None, 2, "alice"),
            ("e2e8f316-ec48-4cd2-8bf2-6d6eee8255d5", "9006", "blocked", 0, "alice"),
            ("a64b3706-aa47-45e4-aa6e-48e8a27b961c", "9018", None, 12, "alice"),
        ]
        server.audit()


def test_slices_carry_the_captured_reauthorisations(serving: Serving) -> None:
    with serving(options={"charging": "slice_seconds = 5"}) as server:
        answers = {number: answer for number, _, answer in replay(server, SHIPPED)}
        assert [answers[number].seconds for number in (3, 15)] == [5, 5]
        # The script asked at 2, 4 and 7 seconds of talk (sky-elapsed is not in this capture).
        assert all(answers[number].granted for number in (17, 19, 21))
        assert len(one_record_a_call(server)) == 3
        server.audit()


def test_what_freeswitch_sent_with_both_modules_is_one_record_a_call(serving: Serving) -> None:
    with serving() as server:
        set_password(server, "secret")
        exchanged = replay(server, "freeswitch")
        digests = {n: answer for n, _, answer in exchanged if n in DIGESTS}
        # The second was made with a wrong password.
        assert [answer.accepted for answer in digests.values()] == [True, False, True]
        assert digests[37].text(attribute.CHARGEABLE_USER_IDENTITY) == "alice"
        assert digests[39].return_code == 2
        records = one_record_a_call(server)
        server.audit()
        # Seven channels were inbound; the outbound legs without an authorisation of their
        # own are acknowledged and forgotten.
        assert sorted(key[:8] for key, *_ in records) == [
            *("27ea124c", "35dc5d14", "5d026783", "7756b152", "78b198a6", "a06e9aa4", "d86898c0")
        ]
        assert all(account in ("alice", "") for *_, account in records)


def test_what_kamailio_sent_is_answered_and_its_digest_fits(serving: Serving) -> None:
    with serving() as server:
        set_password(server, "secret")
        server.command("client", "set", "freeswitch", "--type", "kamailio")
        wait_until(lambda: server.log.count("RADIUS clients") >= 2, "the clients are read again")
        exchanged = replay(server, "kamailio")
        access = [answer for _, question, answer in exchanged if question.datagram[0] == 1]
        assert [answer.accepted for answer in access] == [False, True]
        assert access[1].text(attribute.CHARGEABLE_USER_IDENTITY) == "alice"
        assert [(key, seconds) for key, _, _, seconds, _ in one_record_a_call(server)] == [
            ("1-22706@127.0.0.1", 2)  # Stop − Start: it says no duration
        ]
        server.audit()


@pytest.mark.parametrize("name", [SHIPPED, "freeswitch"])
def test_a_capture_sent_again_after_a_restart_changes_nothing(serving: Serving, name: str) -> None:
    with serving() as server:
        replay(server, name, but_not=DIGESTS)  # their refusal takes a second each
        rows = one_record_a_call(server)
        balances = server.query("SELECT code, balance_micros FROM account ORDER BY code")
        server.stop()
        server.start()
        replay(server, name, but_not=DIGESTS)
        assert one_record_a_call(server) == rows
        assert server.query("SELECT code, balance_micros FROM account ORDER BY code") == balances
        server.audit()
