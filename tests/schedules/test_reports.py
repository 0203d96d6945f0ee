"""Scheduled reports: when, once, with whose eyes, and what becomes of those that fail."""

from __future__ import annotations

import csv
import io
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa_server.storage.report_schedules import When
from tests.schedules.crash import killed_once_mailed, run_once
from tests.schedules.test_invoices import events
from web_reports import report_mail

if TYPE_CHECKING:
    from tests.invoices.conftest import Sky, World
    from tests.mailbox import Mailbox
    from tests.schedules.conftest import Works

JOB = "scheduled-reports"
SIX_IN_MADRID = "2026-11-02T05:00:00Z"
DAILY = ("--every", "day", "--at", "6")


def planned(world: World, instant: str = SIX_IN_MADRID) -> None:
    """As if the schedules had been made the day before that."""
    world.ask("UPDATE report_schedule SET due_at = %s, try_at = %s RETURNING 1", instant, instant)


def add(sky: Sky, world: World, report: str, *words: str, code: str = "", **options: str) -> int:
    """Planned for the 2nd of November; its number."""
    to = ("--to", options.pop("to", "boss@example.test"))
    who = ("--as", code) if code else ()
    ran = sky(*who, "report", "schedule", "add", report, *DAILY, *to, *words, "-o", "json")
    assert ran.status == 0, ran.err
    planned(world)
    return int(ran.json["number"])


def attached(message: Any) -> bytes:
    [part] = message.iter_attachments()
    content = part.get_content()
    return content.encode() if isinstance(content, str) else content


def row(world: World) -> tuple[Any, ...]:
    [found] = world.ask("SELECT due_at, tries, active, problem FROM report_schedule")
    return found


# ------------------------------------------------------------------ when


@pytest.mark.parametrize(
    ("when", "zone", "at", "after"),
    [
        (When("daily", 0, 6), "Europe/Madrid", "2026-11-02T04:59:59Z", "2026-11-02T05:00:00Z"),
        (When("daily", 0, 6), "Europe/Madrid", "2026-11-02T05:00:00Z", "2026-11-03T05:00:00Z"),
        # The clock jumps from two to three: half past one is followed by three.
        (When("daily", 0, 2), "Europe/Madrid", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
        # It shows two twice: the first time counts, and the second does not.
        (When("daily", 0, 2), "Europe/Madrid", "2026-10-24T23:30:00Z", "2026-10-25T00:00:00Z"),
        (When("daily", 0, 2), "Europe/Madrid", "2026-10-25T00:30:00Z", "2026-10-26T01:00:00Z"),
        (When("weekly", 1, 0), "Asia/Kolkata", "2026-11-22T18:29:59Z", "2026-11-22T18:30:00Z"),
        (When("weekly", 7, 23), "Pacific/Auckland", "2026-11-22T10:00:00Z", "2026-11-29T10:00:00Z"),
        (When("monthly", 31, 6), "UTC", "2027-02-01T00:00:00Z", "2027-02-28T06:00:00Z"),
        (When("monthly", 1, 6), "America/New_York", "2026-12-31T00:00:00Z", "2027-01-01T11:00:00Z"),
    ],
)
def test_the_next_run_is_by_the_owner_s_clock(when: When, zone: str, at: str, after: str) -> None:
    found = when.after(datetime.fromisoformat(at), zone)
    assert found == datetime.fromisoformat(after)
    assert when.before(found, zone) == found
    assert when.before(found - timedelta(seconds=1), zone) < found


@given(
    st.sampled_from([When("daily", 0, hour) for hour in range(24)]
                    + [When("weekly", day, 2) for day in range(1, 8)]
                    + [When("monthly", day, 2) for day in (1, 15, 28, 29, 30, 31)]),
    st.sampled_from(["Europe/Madrid", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    st.integers(min_value=0, max_value=15 * 366 * 86_400),
)  # fmt: skip
def test_no_run_is_left_out_and_none_comes_twice(when: When, zone: str, seconds: int) -> None:
    instant = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    before, after = when.before(instant, zone), when.after(instant, zone)
    assert before <= instant < after
    assert when.after(before, zone) == after
    longest = {"daily": 26, "weekly": 7 * 24 + 2, "monthly": 31 * 24 + 2}[when.rhythm]
    assert timedelta(hours=20) < after - before <= timedelta(hours=longest)


def test_a_report_comes_at_its_hour_about_the_day_before(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "calls", "--format", "json")
    for at in ("2026-11-02T04:59:59Z", SIX_IN_MADRID, SIX_IN_MADRID, "2026-11-02T20:00:00Z"):
        assert works(JOB, at).problem == ""
    [message] = mailbox.messages
    period = json.loads(attached(message))["period"]
    assert (period["begin"], period["end"]) == (
        "2026-11-01T00:00:00+01:00",
        "2026-11-02T00:00:00+01:00",
    )
    assert message["Subject"] == "Calls: Nov 1, 2026"
    assert row(world)[0] == datetime(2026, 11, 3, 5, tzinfo=UTC)
    [sent] = ready("report", "schedule", "show", "1", "-o", "json").json["sent"]
    assert (sent["run"], sent["to"]) == ("2026-11-02T05:00:00+00:00", ["boss@example.test"])
    assert sent["octets"] > 100


def test_the_day_of_a_changing_clock_has_25_hours(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "calls", "--format", "json", "--time-zone", "Europe/Berlin")
    planned(world, "2026-10-26T05:00:00Z")
    works(JOB, "2026-10-26T05:00:30Z")
    period = json.loads(attached(mailbox.messages[0]))["period"]
    begin, end = (datetime.fromisoformat(period[name]) for name in ("begin", "end"))
    assert (end - begin).total_seconds() == 25 * 3600


def test_runs_that_were_missed_are_made_up_once_as_of_the_last(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "calls", "--format", "json")
    for at in ("2026-11-12T15:00:00Z", "2026-11-12T15:01:00Z"):
        works(JOB, at)
    [message] = mailbox.messages
    assert json.loads(attached(message))["period"]["begin"] == "2026-11-11T00:00:00+01:00"
    assert row(world)[0] == datetime(2026, 11, 13, 5, tzinfo=UTC)


# ------------------------------------------------------------------ what arrives


@pytest.mark.parametrize(
    ("form", "kind", "magic"),
    [
        ("html", "text/html", b"<!doctype html>"),
        ("pdf", "application/pdf", b"%PDF"),
        ("csv", "text/csv", b"customer,"),
        ("json", "application/json", b"{"),
        ("xlsx", report_mail.TYPES["xlsx"][0] + "/" + report_mail.TYPES["xlsx"][1], b"PK"),
    ],
)
def test_each_format_arrives_as_what_it_is(
    ready: Sky, world: World, mailbox: Mailbox, works: Works, form: str, kind: str, magic: bytes
) -> None:
    world.call(("alice", 1_000_000), at="2026-11-01T12:00:00Z")
    add(ready, world, "margin", "--format", form, "--group-by", "customer")
    works(JOB, SIX_IN_MADRID)
    [message] = mailbox.messages
    if form == "html":
        part = message.get_body(("html",))
        assert "Scheduled report 1 of admin" in part.get_content()
        assert list(message.iter_attachments()) == []
    else:
        [part] = message.iter_attachments()
        assert part.get_filename() == f"margin-2026-11-02.{form}"
    assert part.get_content_type() == kind
    content = part.get_content()
    octets = content.encode() if isinstance(content, str) else content
    assert octets.startswith(magic)
    assert "Scheduled report 1 of admin" in message.get_body(("plain",)).get_content()


def test_a_page_that_is_long_is_attached(
    ready: Sky, world: World, mailbox: Mailbox, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_mail, "PAGE_OCTETS_MAX", 100)
    add(ready, world, "margin")
    works(JOB, SIX_IN_MADRID)
    [part] = mailbox.messages[0].iter_attachments()
    assert part.get_filename() == "margin-2026-11-02.html"


def test_a_report_speaks_its_owner_s_language_or_another(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "margin", code="north")
    add(ready, world, "margin", "--language", "es")
    works(JOB, SIX_IN_MADRID)
    assert sorted(mailbox.subjects) == ["Marge: 01.11.2026", "Margen: 1 nov 2026"]
    senders = {str(message["From"]) for message in mailbox.messages}
    assert senders == {
        "North Telecom GmbH <billing@operator.test>",
        '"Sky Operator S.L." <billing@operator.test>',
    }


@pytest.mark.parametrize("form", ["csv", "xlsx", "html", "pdf", "json"])
def test_what_is_too_large_for_a_mail_is_told_and_not_sent(
    ready: Sky,
    world: World,
    mailbox: Mailbox,
    works: Works,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    monkeypatch.setattr(report_mail, "MEGABYTE", 100)
    monkeypatch.setattr("aaa_server.worker.reports.MEGABYTE", 100)
    world.call(("alice", 1_000_000), at="2026-11-01T12:00:00Z")
    add(ready, world, "calls", "--format", form)
    works(JOB, SIX_IN_MADRID, mail_megabytes_max=1)
    assert mailbox.messages == []
    assert "calls is larger than 1 MB" in row(world)[3]
    assert events(world) == [("admin", "report-not-sent")]


# ------------------------------------------------------------------ whose eyes


def test_everybody_is_sent_what_it_may_see(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    world.call(("alice", 1_000_000), at="2026-11-01T12:00:00Z")
    world.call(("cora", 2_000_000), ("north", 1_000_000), at="2026-11-01T12:00:00Z")
    for code in ("", "north", "cora"):
        add(ready, world, "calls", "--format", "csv", code=code, to=f"{code or 'a'}@example.test")
    works(JOB, SIX_IN_MADRID)
    seen = {
        message["To"]: {
            line["account"] for line in csv.DictReader(io.StringIO(attached(message).decode()))
        }
        for message in mailbox.messages
    }
    assert seen == {
        "a@example.test": {"alice", "cora"},
        "north@example.test": {"cora"},
        "cora@example.test": {"cora"},
    }
    assert "provider" not in attached(mailbox.messages[1]).decode()


def test_nobody_schedules_what_it_may_not_see(ready: Sky, world: World) -> None:
    schedule = ("report", "schedule", "add")
    to = ("--every", "day", "--to", "x@example.test")
    for who, words, text in (
        ("north", ("suspense", *to), "there is no report 'suspense'"),
        ("north", ("calls", "--set", "account=alice", *to), "there is no account 'alice'"),
        ("north", ("margin", "--group-by", "provider", *to), "cannot be grouped by 'provider'"),
        ("carrier", ("calls", *to), "is a provider"),
    ):
        ran = ready("--as", who, *schedule, *words)
        assert (ran.status != 0, text in ran.err) == (True, True), ran.err
    assert world.ask("SELECT * FROM report_schedule") == []


def test_a_schedule_is_its_owner_s_and_the_operator_s(
    ready: Sky, world: World, mailbox: Mailbox
) -> None:
    own = add(ready, world, "margin", code="cora")
    operators = add(ready, world, "margin")
    listed = ready("--as", "north", "report", "schedule", "list", "-o", "json").json
    assert [one["number"] for one in listed] == [own]
    for words in (("show",), ("run",), ("remove",), ("change", "--paused")):
        ran = ready("--as", "north", "report", "schedule", words[0], str(operators), *words[1:])
        assert "there is no scheduled report" in ran.err
    # It sees what those below it are sent, and leaves it alone.
    assert ready("--as", "north", "report", "schedule", "show", str(own)).status == 0
    ran = ready("--as", "north", "report", "schedule", "remove", str(own))
    assert "a scheduled report is its owner's" in ran.err
    assert ready("report", "schedule", "change", str(own), "--to", "new@example.test").status == 0
    assert ready("report", "schedule", "change", str(own), "--group-by", "provider").status == 2
    assert ready("report", "schedule", "remove", str(own)).status == 0
    assert mailbox.messages == []


def test_an_account_that_is_closed_is_sent_nothing_any_more(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "calls", code="cora")
    world.ask("UPDATE account SET status = 'closed' WHERE code = 'north' RETURNING 1")
    for at in (SIX_IN_MADRID, "2026-11-03T05:00:00Z"):
        works(JOB, at)
    assert mailbox.messages == []
    assert row(world)[2:] == (False, "cora is closed: nothing is sent any more")
    assert events(world) == [("cora", "report-not-sent")]


# ------------------------------------------------------------------ what goes wrong


def test_a_report_that_is_no_more_or_asks_wrongly_is_told_once_and_holds_up_no_other(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "calls", "--set", "account=alice")
    add(ready, world, "margin")
    add(ready, world, "margin", to="well@example.test")
    world.ask(
        'UPDATE report_schedule SET parameters = \'{"account": "gone"}\' WHERE schedule_id = 1;'
        "UPDATE report_schedule SET report = 'gone' WHERE schedule_id = 2 RETURNING 1"
    )
    for day in (2, 3, 4):
        assert works(JOB, f"2026-11-0{day}T05:00:00Z").problem == ""
    assert mailbox.recipients == ["well@example.test"] * 3
    assert events(world) == [("admin", "report-not-sent")] * 2
    problems = [one["problem"] for one in ready("report", "schedule", "list", "-o", "json").json]
    assert "there is no account 'gone'" in problems[0]
    assert "there is no report 'gone'" in problems[1]
    assert len(ready("report", "schedule", "show", "2", "-o", "json").json["sent"]) == 3


def test_only_who_has_not_got_it_is_tried_again(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    three = ("--to", "refused@example.test", "--to", "later@example.test")
    add(ready, world, "margin", *three)
    for minute in ("00", "04", "05", "30"):
        works(JOB, f"2026-11-02T05:{minute}:00Z")
    assert mailbox.recipients == ["boss@example.test", "later@example.test"]
    assert len({message["Message-ID"] for message in mailbox.messages}) == 1
    assert events(world) == [("admin", "report-not-sent")]
    works(JOB, "2026-11-03T05:00:00Z")
    # The mailbox that is none was told of.
    assert events(world) == [("admin", "report-not-sent")]
    assert row(world)[3] == "refused@example.test: 550 no such mailbox"


def test_a_server_that_takes_nothing_is_given_up_until_the_next_day(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "margin")
    mailbox.answer = "451 not now"
    for hour in range(5, 12):
        works(JOB, f"2026-11-02T{hour:02}:00:00Z", mail_tries_max=3)
    assert events(world) == [("admin", "report-not-sent")]
    assert row(world)[:2] == (datetime(2026, 11, 3, 5, tzinfo=UTC), 0)
    mailbox.answer = "250 taken"
    works(JOB, "2026-11-03T05:00:00Z")
    assert (len(mailbox.messages), row(world)[3]) == (1, "")


def test_without_a_mail_server_reports_wait_and_are_made_up_once(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    add(ready, world, "margin")
    for day in (2, 3, 4):
        assert "1 reports wait" in works(JOB, f"2026-11-0{day}T05:00:00Z", host="").result
    assert events(world) == [("admin", "job-hindered")]
    works(JOB, "2026-11-05T04:00:00Z")
    assert mailbox.subjects == ["Margin: Nov 3, 2026"]


def test_two_sessions_at_once_send_once(
    ready: Sky, world: World, mailbox: Mailbox, database_url: str
) -> None:
    add(ready, world, "margin")
    words = (JOB, database_url, mailbox.port, SIX_IN_MADRID)
    threads = [threading.Thread(target=run_once, args=words) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mailbox.messages) == 1


def test_a_worker_killed_between_mail_and_log_sends_the_same_mail_again(
    ready: Sky, world: World, mailbox: Mailbox, works: Works, database_url: str
) -> None:
    add(ready, world, "margin")
    assert killed_once_mailed(JOB, database_url, mailbox, SIX_IN_MADRID)
    for _ in range(2):
        works(JOB, SIX_IN_MADRID)
    first, second = mailbox.messages
    assert first["Message-ID"] == second["Message-ID"]
    assert len(ready("report", "schedule", "show", "1", "-o", "json").json["sent"]) == 1


# ------------------------------------------------------------------ by command


def test_a_run_by_hand_is_sent_now_and_leaves_the_plan(
    ready: Sky, world: World, mailbox: Mailbox
) -> None:
    number = add(ready, world, "margin")
    before = row(world)
    assert ready("report", "schedule", "run", str(number)).status == 0
    assert len(mailbox.messages) == 1
    assert row(world) == before
    add(ready, world, "margin", to="refused@example.test")
    ran = ready("report", "schedule", "run", str(number + 1))
    assert (ran.status, "no such mailbox" in ran.err) == (1, True)


def test_what_is_paused_or_removed_is_not_sent_and_its_log_stays(
    ready: Sky, world: World, mailbox: Mailbox, works: Works
) -> None:
    first, second = add(ready, world, "margin"), add(ready, world, "margin")
    ready("report", "schedule", "run", str(first))
    assert ready("report", "schedule", "change", str(first), "--paused").status == 0
    assert ready("report", "schedule", "remove", str(second)).status == 0
    planned(world)
    works(JOB, SIX_IN_MADRID)
    assert len(mailbox.messages) == 1
    assert world.ask("SELECT count(*) FROM report_mail") == [(1,)]
    listed = ready("report", "schedule", "list", "-o", "json").json
    assert [(one["number"], one["next_run"]) for one in listed] == [(first, None)]


def test_what_is_changed_is_planned_anew_and_audited(ready: Sky, world: World) -> None:
    number = str(add(ready, world, "margin"))
    change = ("report", "schedule", "change", number)
    begun = datetime.now(UTC)
    changed = ready(*change, "--every", "week", "--on", "fri", "--at", "0", "-o", "json").json
    assert (changed["when"], changed["period"]) == ("every friday at 00:00", "last-week")
    assert datetime.fromisoformat(changed["next_run"]) > begun
    changed = ready(*change, "--every", "month", "--on", "31", "-o", "json").json
    assert (changed["when"], changed["period"]) == (
        "day 31 of every month at 00:00",
        "last-month",
    )
    [*_, (before, after)] = world.ask(
        "SELECT before, after FROM audit_log WHERE action = 'report schedule change' ORDER BY at"
    )
    assert (before["period"], after["period"]) == ("last-week", "last-month")
    assert ready(*change).status == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("callz", *DAILY), "did you mean calls?"),
        (("calls",), "say how often"),
        (("calls", *DAILY, "--on", "monday"), "has no day"),
        (("calls", "--every", "week", "--on", "someday"), "no day of the week"),
        (("calls", "--every", "month", "--on", "32"), "no day of a month"),
        (("calls", *DAILY, "--period", "someday"), "last-month"),
        (("calls", *DAILY, "--set", "acount=x"), "allowed are account"),
        (("calls", *DAILY, "--set", "account"), "NAME=VALUE"),
        (("calls", *DAILY, "--to", "nobody"), "'nobody' is no e-mail address"),
        (("calls", *DAILY, "--to", "a@b\nBcc: c@d"), "no e-mail address"),
        (("calls", *DAILY, "--to", "a@example.test"), "named twice"),
        (("credit-control", *DAILY, "--period", "last-week"), "has no period"),
    ],
)
def test_a_wrong_wish_is_refused_with_what_is_allowed(
    ready: Sky, words: tuple[str, ...], text: str
) -> None:
    ran = ready("report", "schedule", "add", *words, "--to", "a@example.test")
    assert (ran.status != 0, text in ran.err) == (True, True), ran.err
