"""Mails, by a real mail server: what arrives, what is logged, what is refused; and reminders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mailbox import Mailbox, mail_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.invoices.conftest import Sky, World

OCTOBER = ("--period", "2026-10")


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server that the configuration names."""
    with mail_server() as box:
        monkeypatch.setenv("SKY_AAA_SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("SKY_AAA_SMTP_PORT", str(box.port))
        monkeypatch.setenv("SKY_AAA_SMTP_ENCRYPTION", "none")
        yield box


@pytest.fixture
def issued(ready: Sky, world: World, mailbox: Mailbox) -> Sky:
    """INV-2026-00001 is alice's."""
    world.call(("alice", 100_000_000))
    ready("invoice", "run", *OCTOBER)
    return ready


def overdue(world: World, days: int) -> None:
    """As if it had been due so many days ago, by its issuer's clock."""
    world.ask("ALTER TABLE invoice DISABLE TRIGGER invoice_stays; SELECT 1")
    world.ask(
        "UPDATE invoice SET due_date = (now() AT TIME ZONE 'Europe/Madrid')::date - %s RETURNING 1",
        days,
    )
    world.ask("ALTER TABLE invoice ENABLE TRIGGER invoice_stays; SELECT 1")


def test_an_invoice_arrives_with_its_pdf(issued: Sky, mailbox: Mailbox) -> None:
    issued("invoice", "pdf", "INV-2026-00001", "--out", "i.pdf")
    ran = issued("invoice", "send", "INV-2026-00001", "-o", "json")
    assert ran.status == 0, ran.err
    (message,) = mailbox.messages
    assert mailbox.recipients == ["alice@example.test"]
    assert message["Subject"] == "Invoice INV-2026-00001 from Sky Operator S.L."
    assert message["From"].addresses[0].addr_spec == "billing@operator.test"
    text = message.get_body().get_content()
    assert "€121.00" in text
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "INV-2026-00001.pdf"
    with open("i.pdf", "rb") as file:
        assert attached.get_content() == file.read()


def test_it_is_sent_once_unless_said(issued: Sky, mailbox: Mailbox) -> None:
    issued("invoice", "send", "INV-2026-00001")
    again = issued("invoice", "send", "INV-2026-00001")
    assert (again.status, "sent before" in again.err) == (1, True)
    assert issued("invoice", "send", "INV-2026-00001", "--again").status == 0
    assert len(mailbox.messages) == 2
    # No mailbox takes it for the one that it has.
    assert len({message["Message-ID"] for message in mailbox.messages}) == 2


def test_what_the_server_refuses_is_logged(issued: Sky, mailbox: Mailbox) -> None:
    ran = issued("invoice", "send", "INV-2026-00001", "--to", "refused@example.test")
    assert ran.status == 1
    assert "no such mailbox" in ran.err
    log = issued("invoice", "mails", "INV-2026-00001", "-o", "json").json
    assert [("no such mailbox" in one["problem"], one["recipient"]) for one in log] == [
        (True, "refused@example.test")
    ]
    # It never arrived, so it may be sent without --again.
    assert issued("invoice", "send", "INV-2026-00001").status == 0


def test_a_server_that_is_not_there_is_said(
    issued: Sky, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKY_AAA_SMTP_PORT", "1")
    ran = issued("invoice", "send", "INV-2026-00001")
    assert ran.status == 1
    assert "refused" in ran.err
    monkeypatch.setenv("SKY_AAA_SMTP_HOST", "")
    ran = issued("invoice", "send", "INV-2026-00001")
    assert ran.status == 2
    assert "[smtp] host" in ran.err


@pytest.mark.parametrize("address", ["nobody", "a@b\nBcc: c@d"])
def test_an_address_that_is_none_is_refused(issued: Sky, mailbox: Mailbox, address: str) -> None:
    assert issued("invoice", "send", "INV-2026-00001", "--to", address).status == 2
    assert mailbox.messages == []


@pytest.mark.parametrize(
    ("language", "subject"),
    [("de", "Rechnung"), ("es", "Factura"), ("fr", "Facture")],
)
def test_mails_speak_the_buyer_s_language(
    ready: Sky, world: World, mailbox: Mailbox, language: str, subject: str
) -> None:
    ready("account", "set", "alice", "--language", language)
    world.call(("alice", 100_000_000))
    ready("invoice", "run", *OCTOBER)
    ready("invoice", "send", "INV-2026-00001")
    assert mailbox.messages[0]["Subject"].startswith(subject)
    assert "121,00" in mailbox.messages[0].get_body().get_content()


def test_numbers_of_who_is_suspended_are_read_again(issued: Sky, world: World) -> None:
    for words in (
        ("did", "add", "442079460555", "--provider", "carrier"),
        ("did", "price", "442079460555", "--account", "alice", "--per-minute", "0"),
        ("did", "assign", "442079460555", "alice", "--extension", "1001@sip.example"),
    ):
        ran = issued(*words)
        assert ran.status == 0, ran.err
    revision = "SELECT revision FROM did WHERE number = '442079460555'"
    issued("issuer", "dunning", "admin", "7", "35:0:suspend")
    overdue(world, 40)
    before = world.ask(revision)
    assert issued("invoice", "remind", "-o", "json").json[0]["suspended"] is False
    assert world.ask(revision) == before
    assert issued("invoice", "remind", "-o", "json").json[0]["suspended"] is True
    assert world.ask(revision) > before


def test_each_dunning_step_is_taken_once(issued: Sky, world: World, mailbox: Mailbox) -> None:
    steps = issued("issuer", "dunning", "admin", "7", "21:5.00", "35:5.00:suspend", "-o", "json")
    assert [one["days"] for one in steps.json] == [7, 21, 35]
    # Also when the next day begins meanwhile.
    overdue(world, 5)
    assert issued("invoice", "remind", "-o", "json").json == []
    overdue(world, 40)
    assert issued("invoice", "remind", "--dry-run", "-o", "json").json[0]["step"] == 1
    ran = [issued("invoice", "remind", "-o", "json").json for _ in range(4)]
    assert [[(one["step"], one["fee"], one["suspended"]) for one in each] for each in ran] == [
        [(1, "0.000000", False)],
        [(2, "5.000000", False)],
        [(3, "5.000000", True)],
        [],
    ]
    assert world.ask("SELECT status, balance_micros FROM account WHERE code = 'alice'") == [
        ("suspended", -131_000_000)
    ]
    assert [message["Subject"] for message in mailbox.messages] == [
        f"Reminder {step}: invoice INV-2026-00001" for step in (1, 2, 3)
    ]
    assert world.ask("SELECT count(*) FROM event WHERE kind = 'invoice-overdue'") == [(3,)]


def test_who_has_paid_is_not_reminded(issued: Sky, world: World, mailbox: Mailbox) -> None:
    issued("issuer", "dunning", "admin", "7")
    overdue(world, 40)
    # Entered as a payment of the account, for no invoice in particular.
    issued("payment", "add", "alice", "121.00", "--method", "card", "--reference", "x")
    assert issued("invoice", "remind", "-o", "json").json == []
    assert issued("invoice", "show", "INV-2026-00001", "-o", "json").json["status"] == "paid"


@pytest.mark.parametrize("step", ["x", "7:a", "7:1:2", "7:-1"])
def test_a_wrong_dunning_step_is_refused(issued: Sky, step: str) -> None:
    assert issued("issuer", "dunning", "admin", step).status == 2


def test_dunning_steps_come_one_after_the_other(issued: Sky) -> None:
    assert issued("issuer", "dunning", "admin", "21", "7").status == 2
