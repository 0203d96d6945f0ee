"""Mails by the worker: once, again when that may help, given up when it cannot; and reminders."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

from aaa_server.config import SmtpConfig
from tests.integration.server import wait_until
from tests.mailbox import mail_server
from tests.schedules.crash import killed_once_mailed, run_once
from tests.schedules.test_invoices import events, scheduled
from web_reports import outbox as outboxes
from web_reports.outbox import Outbox, SenderRefused, ServerTrouble

if TYPE_CHECKING:
    from tests.invoices.conftest import Sky, World
    from tests.mailbox import Mailbox
    from tests.schedules.conftest import Works

NOW = "2026-11-01T05:00:00Z"
NUMBER = "INV-2026-00001"


@pytest.fixture
def issued(ready: Sky, world: World, works: Works) -> Sky:
    """INV-2026-00001 is alice's, issued by the worker, and waits to be mailed."""
    world.call(("alice", 100_000_000))
    scheduled(ready, world, "--mail")
    works("invoice-run", NOW)
    return ready


def to(world: World, address: str) -> None:
    """Alice's mails go there."""
    world.ask("UPDATE account SET email = %s WHERE code = 'alice' RETURNING 1", address)


def waits_for(world: World, works: Works, ready: Sky, address: str) -> None:
    world.call(("alice", 100_000_000))
    to(world, address)
    scheduled(ready, world, "--mail")
    works("invoice-run", NOW)


def log(ready: Sky) -> list[str]:
    return [one["problem"] for one in ready("invoice", "mails", NUMBER, "-o", "json").json]


def test_what_is_issued_is_mailed_once(issued: Sky, mailbox: Mailbox, works: Works) -> None:
    for _ in range(3):
        assert works("invoice-mail", NOW).problem == ""
    assert mailbox.recipients == ["alice@example.test"]
    [message] = mailbox.messages
    assert message["Auto-Submitted"] == "auto-generated"
    [attached] = message.iter_attachments()
    assert attached.get_filename() == f"{NUMBER}.pdf"
    assert log(issued) == [""]
    assert "sent before" in issued("invoice", "send", NUMBER).err


def test_the_job_by_hand_mails_over_the_configured_server(
    ready: Sky, world: World, mailbox: Mailbox
) -> None:
    world.call(("alice", 100_000_000))
    assert ready("invoice", "schedule", "set", "admin", "--mail").status == 0
    ready("invoice", "run", "--period", "2026-10")
    ran = ready("jobs", "run", "invoice-mail", "-o", "json")
    assert ran.json["result"] == "1 of 1 mails tried"
    assert len(mailbox.messages) == 1


def test_what_was_issued_before_anybody_wanted_it_is_not_mailed(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    world.call(("alice", 100_000_000))
    ready("invoice", "run", "--period", "2026-10")
    assert ready("invoice", "schedule", "set", "admin", "--mail").status == 0
    works("invoice-mail", datetime.now(UTC).isoformat())
    assert mailbox.messages == []


def test_a_void_invoice_and_the_note_that_takes_it_back_are_not_mailed(
    issued: Sky, mailbox: Mailbox, works: Works
) -> None:
    assert issued("invoice", "void", NUMBER, "--reason", "wrong").status == 0
    assert works("invoice-mail", NOW).result == "no mail waits"
    assert mailbox.messages == []


def test_two_sessions_at_once_mail_once(issued: Sky, mailbox: Mailbox, database_url: str) -> None:
    words = ("invoice-mail", database_url, mailbox.port, NOW)
    threads = [threading.Thread(target=run_once, args=words) for _ in range(2)]
    threads.append(threading.Thread(target=lambda: issued("invoice", "send", NUMBER)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mailbox.messages) == 1
    assert log(issued) == [""]


def test_a_worker_killed_between_mail_and_log_sends_the_same_mail_again(
    issued: Sky, mailbox: Mailbox, works: Works, database_url: str
) -> None:
    # Nobody knows whether the first arrived: at least once, and mailboxes know it by its id.
    assert killed_once_mailed("invoice-mail", database_url, mailbox, NOW)
    assert (len(mailbox.messages), log(issued)) == (1, [])
    works("invoice-mail", NOW)
    assert log(issued) == [""]
    first, second = mailbox.messages
    assert first["Message-ID"] == second["Message-ID"]


def test_a_mailbox_that_is_none_is_given_up_at_once_with_an_event(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    waits_for(world, works, ready, "refused@example.test")
    for at in (NOW, "2026-11-02T05:00:00Z"):
        works("invoice-mail", at)
    assert log(ready) == ["refused@example.test: 550 no such mailbox"]
    assert events(world) == [("admin", "mail-given-up")]
    # By hand it goes to another address.
    assert ready("invoice", "send", NUMBER, "--to", "alice@example.test").status == 0


def test_who_greylists_is_asked_again_after_five_minutes(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    waits_for(world, works, ready, "later@example.test")
    for minute in ("00", "04", "05", "06"):
        works("invoice-mail", f"2026-11-01T05:{minute}:00Z")
    assert log(ready) == ["later@example.test: 451 greylisted, come again", ""]
    assert (len(mailbox.messages), events(world)) == (1, [])


def test_after_so_many_tries_a_mail_is_given_up(
    issued: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    mailbox.answer = "452 disk full"
    for hour in range(5, 15):
        works("invoice-mail", f"2026-11-01T{hour:02}:00:00Z", mail_tries_max=3)
    assert log(issued) == ["452 disk full"] * 3
    assert events(world) == [("admin", "mail-given-up")]


def test_a_server_that_is_away_is_no_try_of_any_mail(
    issued: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port, mailbox.port = mailbox.port, closed.getsockname()[1]
        for _ in range(3):
            assert "refused" in works("invoice-mail", NOW).problem
    assert log(issued) == []
    assert world.ask("SELECT kind FROM event") == [("job-failed",)]
    mailbox.port = port
    works("invoice-mail", NOW)
    assert log(issued) == [""]


def test_a_server_that_hangs_is_left_and_asked_again(
    issued: Sky, mailbox: Mailbox, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox.hangs = True
    with monkeypatch.context() as patched:
        # What does not hang is answered in that time.
        patched.setattr(outboxes, "ANSWER_SECONDS_MAX", 4.0)
        works("invoice-mail", NOW)
    [problem] = log(issued)
    assert "timed out while it was given the mail" in problem
    mailbox.hangs = False
    works("invoice-mail", "2026-11-01T05:05:00Z")
    assert log(issued)[1:] == [""]


def test_a_sender_that_is_refused_is_the_issuer_s_trouble(
    issued: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    mailbox.sender_answer = "550 who are you"
    for _ in range(2):
        works("invoice-mail", NOW)
    assert events(world) == [("admin", "job-hindered")]
    assert log(issued) == []
    mailbox.sender_answer = ""
    works("invoice-mail", NOW)
    assert log(issued) == [""]


def test_who_has_no_address_is_told_of_once(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    waits_for(world, works, ready, "")
    for _ in range(2):
        works("invoice-mail", NOW)
    [problem] = log(ready)
    assert "alice has no e-mail address" in problem
    assert events(world) == [("admin", "mail-given-up")]


def test_without_a_mail_server_mails_wait_and_it_is_said_once(
    issued: Sky, world: World, mailbox: Mailbox, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert "1 mails wait" in works("invoice-mail", NOW, host="").result
    assert events(world) == [("admin", "job-hindered")]
    monkeypatch.setenv("SKY_AAA_SMTP_HOST", "")
    assert "none is configured" in issued("doctor").out
    monkeypatch.setenv("SKY_AAA_SMTP_HOST", "127.0.0.1")
    assert f"127.0.0.1:{mailbox.port} answers" in issued("doctor").out
    works("invoice-mail", NOW)
    assert len(mailbox.messages) == 1
    assert world.ask("SELECT * FROM job_problem") == []


# ------------------------------------------------------------------ reminders


def test_steps_that_were_missed_keep_their_distance(
    issued: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    scheduled(issued, world, "--no-mail", "--remind")
    issued("issuer", "dunning", "admin", "7", "21:5.00", "35:5.00:suspend")
    # Due on the 15th; the worker comes back on the 30th of December, in Madrid.
    for at in ("2026-11-21T22:59:00Z", "2026-12-29T23:00:00Z", "2026-12-30T01:00:00Z",
               "2027-01-12T22:00:00Z", "2027-01-12T23:00:00Z", "2027-01-26T23:00:00Z"):  # fmt: skip
        assert works("reminders", at).problem == ""
        for _ in range(2):
            works("invoice-mail", at)
    assert mailbox.subjects == [f"Reminder {step}: invoice {NUMBER}" for step in (1, 2, 3)]
    assert world.ask("SELECT status, balance_micros FROM account WHERE code = 'alice'") == [
        ("suspended", -131_000_000)
    ]


def test_nobody_pays_for_a_reminder_that_is_not_sent(
    issued: Sky, world: World, works: Works
) -> None:
    scheduled(issued, world, "--remind")
    issued("issuer", "dunning", "admin", "7:5.00:suspend")
    ran = works("reminders", "2026-12-30T00:00:00Z", host="")
    assert "no mail server" in ran.result
    assert world.ask("SELECT status, dunning_step FROM invoice") == [("issued", 0)]


def test_who_has_paid_meanwhile_gets_no_reminder(
    issued: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    scheduled(issued, world, "--no-mail", "--remind")
    issued("issuer", "dunning", "admin", "7")
    works("reminders", "2026-12-30T00:00:00Z")
    issued("invoice", "pay", NUMBER, "121.00", "--reference", "x")
    assert works("invoice-mail", "2026-12-30T00:00:00Z").result == "no mail waits"
    assert mailbox.messages == []


# ------------------------------------------------------------------ the session itself


def message() -> EmailMessage:
    one = EmailMessage()
    one["From"] = "a@example.test"
    one.set_content("hello")
    return one


def test_a_session_sends_many_mails_and_another_one_when_it_has_ended() -> None:
    with mail_server() as box:
        outbox = Outbox(SmtpConfig(host="127.0.0.1", port=box.port, encryption="none"))
        for _ in range(3):
            assert outbox.send(message(), ["b@example.test"]).problem == ""
        assert outbox._server is not None
        assert outbox._server.sock is not None
        outbox._server.sock.close()
        assert outbox.send(message(), ["b@example.test"]).taken == ("b@example.test",)
        outbox.close()
        assert len(box.messages) == 4


@pytest.mark.parametrize(("answer", "final"), [("552 too large", True), ("452 no room", False)])
def test_a_mail_that_is_too_large_is_its_own_trouble(answer: str, final: bool) -> None:
    with mail_server() as box:
        box.sender_answer = answer
        outbox = Outbox(SmtpConfig(host="127.0.0.1", port=box.port, encryption="none"))
        [refused] = outbox.send(message(), ["b@example.test"]).refused
        assert (refused.text, refused.final) == (answer, final)
        box.sender_answer = "530 log in first"
        with pytest.raises(SenderRefused, match="log in first"):
            outbox.send(message(), ["b@example.test"])
        box.sender_answer = "421 closing"
        with pytest.raises(ServerTrouble, match="closing"):
            outbox.send(message(), ["b@example.test"])
        outbox.close()


def test_some_recipients_are_taken_and_others_not() -> None:
    with mail_server() as box:
        outbox = Outbox(SmtpConfig(host="127.0.0.1", port=box.port, encryption="none"))
        to = ["b@example.test", "refused@example.test", "later@example.test"]
        sent = outbox.send(message(), to)
        assert sent.taken == ("b@example.test",)
        assert [(one.recipient, one.final) for one in sent.refused] == [
            ("refused@example.test", True),
            ("later@example.test", False),
        ]
        outbox.close()


def test_a_mail_that_hangs_is_broken_off_when_the_worker_stops() -> None:
    with mail_server() as box:
        box.hangs = True
        outbox = Outbox(SmtpConfig(host="127.0.0.1", port=box.port, encryption="none"))

        def stop() -> None:
            wait_until(lambda: box.deliveries, "the mail hangs")
            outbox.interrupt()

        stopping = threading.Thread(target=stop)
        stopping.start()
        begun = time.monotonic()
        assert outbox.send(message(), ["b@example.test"]).taken == ()
        # Else it would have been the answer that did not come.
        assert time.monotonic() - begun < outboxes.ANSWER_SECONDS_MAX - 5
        stopping.join()
        with pytest.raises(ServerTrouble, match="stops"):
            outbox.send(message(), ["b@example.test"])


def test_a_server_that_wants_encryption_and_has_none_is_told() -> None:
    with mail_server() as box:
        for encryption in ("starttls", "tls"):
            outbox = Outbox(SmtpConfig(host="127.0.0.1", port=box.port, encryption=encryption))
            with pytest.raises(ServerTrouble, match=f"127.0.0.1:{box.port}"):
                outbox.check()
