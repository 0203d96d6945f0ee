"""What changes while the server runs: prices, clients, accounts, and calls that fall silent."""

from __future__ import annotations

import csv
import subprocess
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from aaa_server.radius.packet import Secret
from tests.integration.nas import CALLED, INTERIM, STOP, Nas
from tests.integration.server import SKY_AAA, WAIT_SECONDS_MAX, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.conftest import Serving
    from tests.integration.server import Server

ROWS = 50_000
GAP_SECONDS_MAX = 1.0
NEW_PRICE_SECONDS_MAX = 5.0
# A server looks for changed clients once a second.
CLIENTS_SECONDS_MAX = 10.0
IMPORTS = 3


class Answers:
    """Calls one after the other, all the time; `longest` is the longest wait for an answer."""

    def __init__(self, server: Server, name: str) -> None:
        self.count = 0
        self.longest = 0.0
        self._name = name
        self._nas = Nas(server)
        self._halt = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._halt.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        nas = self._nas
        try:
            while not self._halt.is_set():
                key = f"{self._name}-{self.count}"
                for question in (
                    nas.authorize(key, "bob", "15551234567"),
                    nas.report(STOP, key, seconds=0),
                ):
                    begun = time.monotonic()
                    nas.ask(question)
                    self.longest = max(self.longest, time.monotonic() - begun)
                    self.count += 1
                time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 - raised again in `stop`
            self._failed.append(error)


def write_rates(path: Path, cents: int) -> None:
    """Every price depends on `cents`, what London costs a minute: no row is the one before."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("prefix", "destination", "per_minute"))
        writer.writerow(("44207", "London", f"0.{cents}00"))
        writer.writerows(
            (f"8{number:07}", f"Place {number}", f"0.05{cents}") for number in range(ROWS - 1)
        )


def minute_micros(server: Server, account: str, called: str = CALLED) -> int:
    """What the first minute costs now."""
    nas = Nas(server)
    key = f"price-{time.monotonic_ns()}"
    assert nas.ask(nas.authorize(key, account, called)).seconds == 60
    [(micros,)] = server.query("SELECT reserved_micros FROM call WHERE session_key = %s", key)
    nas.ask(nas.report(STOP, key, seconds=0))
    return int(micros[0])


class Import(NamedTuple):
    """How long one import kept everybody waiting."""

    answer_seconds: float  # the longest wait of those who called meanwhile
    price_seconds: float  # from its end until every process used the new price


def import_among_calls(server: Server, file: Path, cents: int) -> Import:
    """Import the file with that price of a minute while somebody calls."""
    write_rates(file, cents)
    before, after = minute_micros(server, "alice"), cents * 10_000
    answers = Answers(server, f"answers-{cents}")
    try:
        begun = time.monotonic()
        importing = subprocess.Popen(
            [SKY_AAA, "--config", server.config, "import-rates", file, "--rate-group", "retail"]
        )
        assert importing.wait(100) == 0
        imported = time.monotonic()
        # The same process does not answer each time; every one must know the price.
        in_a_row = 0
        while in_a_row < 12:
            price = minute_micros(server, "alice")
            assert price in (before, after)
            in_a_row = in_a_row + 1 if price == after else 0
            assert time.monotonic() - imported < WAIT_SECONDS_MAX
        known = time.monotonic() - imported
    finally:
        answers.stop()
    print(  # noqa: T201 - figures, shown by -s
        f"{ROWS} rows in {imported - begun:.1f} s, new price after {known:.2f} s, longest wait of "
        f"{answers.count} answers {answers.longest * 1000:.0f} ms"
    )
    assert answers.count > 100
    return Import(answers.longest, known)


@pytest.mark.parametrize("processes", [1, 2])
def test_answers_keep_coming_during_an_import_and_its_price_is_used_without_a_restart(
    serving: Serving, tmp_path: Path, processes: int
) -> None:
    with serving(processes=processes, options={"charging": "slice_seconds = 60"}) as server:
        done = [
            import_among_calls(server, tmp_path / "rates.csv", 77 + number)
            for number in range(IMPORTS)
        ]
        # What an import holds up it holds up each time; the machine stands still seldom.
        assert min(each.answer_seconds for each in done) < GAP_SECONDS_MAX
        assert min(each.price_seconds for each in done) < NEW_PRICE_SECONDS_MAX
        server.audit()


# Long enough to be told of a call before its time is over.
LONGEST_SECONDS = 6


def soon(holds: Callable[[], bool], what: str) -> None:
    """Holds within the time that a changed client may take, commands not counted."""
    wait_until(holds, what, seconds=CLIENTS_SECONDS_MAX)


def hears(nas: Nas, seconds: float = WAIT_SECONDS_MAX) -> bool:
    """Whether a question is answered at all, however often it must be asked."""
    return nas.try_to_ask(nas.status(), seconds=seconds, again_seconds=0.2) is not None


def deaf(nas: Nas) -> bool:
    """Whether a question is not answered."""
    return nas.hears_nothing(nas.status(), seconds=0.2)


def test_clients_come_go_and_change_their_secret_without_a_restart(server: Server) -> None:
    old, new = Secret(b"the old secret"), Secret(b"the new secret")
    with_old, with_new = (Nas(server, "127.0.0.9", secret=secret) for secret in (old, new))
    assert deaf(with_old)
    server.command(
        *("client", "add", "pop", "127.0.0.9", "--type", "rfc"),
        *("--secret", "the old secret"),
    )
    soon(lambda: not deaf(with_old), "an added client is answered")
    assert deaf(with_new)
    server.command("client", "set", "pop", "--second-secret-file", "-", stdin="the new secret\n")
    soon(lambda: not deaf(with_new), "the new secret is accepted")
    for nas in (with_old, with_new, with_old):
        assert hears(nas)
    server.command("client", "set", "pop", "--secret", "the new secret")
    soon(lambda: deaf(with_old), "the old secret is refused")
    assert hears(with_new)
    # A refused attempt does not hold it up; a call in progress does.
    assert with_new.ask(with_new.authorize("pop-1", "empty", CALLED)).return_code == 4
    assert with_new.ask(with_new.authorize("pop-2", "bob", CALLED)).granted
    refused = server.command("client", "remove", "pop", expected_status=1)
    assert "1 calls in progress" in refused.stderr
    with_new.ask(with_new.report(STOP, "pop-2", seconds=0))
    server.command("client", "remove", "pop")
    soon(lambda: deaf(with_new), "a removed client hears nothing")
    server.audit()


def test_an_unsigned_client_may_change_its_secret_too(server: Server) -> None:
    """FreeSWITCH's requests for access do not show their secret; its accounting does."""
    server.command(*("client", "add", "fs", "127.0.0.8", "--type", "freeswitch", "--secret", "one"))
    server.command("client", "set", "fs", "--second-secret-file", "-", stdin="two")
    two = Nas(server, "127.0.0.8", secret=Secret(b"two"), signed=False)
    one = Nas(server, "127.0.0.8", secret=Secret(b"one"), signed=False)
    for number, nas in enumerate((one, two, one)):
        nas.ask(nas.report(1, f"fs-{number}", "bob", CALLED), again_seconds=0.3)
        assert nas.ask(nas.authorize(f"fs-{number}", "bob", CALLED)).granted
        nas.ask(nas.report(STOP, f"fs-{number}", seconds=0))
    server.command("client", "remove", "fs")


def test_a_network_of_clients_gives_way_to_one_of_its_addresses(server: Server) -> None:
    server.command(
        *("client", "add", "net", "127.0.3.0/24", "--type", "rfc", "--secret", "of the net")
    )
    in_net = Nas(server, "127.0.3.7", secret=Secret(b"of the net"))
    soon(lambda: not deaf(in_net), "an address of the network is answered")
    server.command(
        *("client", "add", "own", "127.0.3.7", "--type", "rfc", "--secret", "of its own")
    )
    soon(lambda: deaf(in_net), "it has a secret of its own")
    assert hears(Nas(server, "127.0.3.7", secret=Secret(b"of its own")))
    assert hears(Nas(server, "127.0.3.8", secret=Secret(b"of the net")))


def test_a_changed_account_is_known_at_the_next_call(server: Server) -> None:
    nas = Nas(server)

    def code(key: str) -> int:
        answer = nas.ask(nas.authorize(key, "noel", CALLED))
        nas.ask(nas.report(STOP, key, seconds=0))
        return answer.return_code

    assert code("account-1") == 0
    server.command("account", "suspend", "noel")
    assert code("account-2") == 7
    server.command("account", "resume", "noel")
    assert code("account-3") == 0
    server.command("account", "suspend", "north")
    assert code("account-4") == 7
    server.command("account", "resume", "north")
    server.command("account", "set", "noel", "--credit-limit", "0")
    assert code("account-5") == 6
    server.command("account", "set", "noel", "--credit-limit", "50")
    assert code("account-6") == 0
    assert nas.ask(nas.authorize("account-7", "empty", CALLED)).return_code == 4
    server.command("account", "top-up", "empty", "5", "--reference", "now")
    assert nas.ask(nas.authorize("account-8", "empty", CALLED)).granted
    nas.ask(nas.report(STOP, "account-8", seconds=0))
    server.audit()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_call_that_falls_silent_is_closed_and_its_late_stop_counts(
    serving: Serving, processes: int
) -> None:
    options = {"charging": f"grace_seconds = 0\nmaximum_call_seconds = {LONGEST_SECONDS}"}
    with serving(processes=processes, options=options) as server:
        nas = Nas(server)
        for key in ("silent-1", "silent-2", "silent-3"):
            assert nas.ask(nas.authorize(key, "bob", CALLED)).seconds == LONGEST_SECONDS
        nas.ask(nas.authorize("silent-refused", "empty", CALLED))
        nas.ask(nas.report(INTERIM, "silent-2", seconds=1))
        wait_until(lambda: server.query("SELECT 1 FROM call") == [], "all are closed")
        rows = server.query("SELECT session_key, ended_by, seconds, postings FROM cdr ORDER BY 1")
        assert rows == [
            ("silent-1", "expiry", 0, 0),
            ("silent-2", "expiry", 1, 1),
            ("silent-3", "expiry", 0, 0),
            ("silent-refused", "expiry", 0, 0),
        ]
        assert server.query("SELECT code FROM account WHERE reserved_micros + channels > 0") == []
        late = nas.report(STOP, "silent-1", seconds=2)
        nas.ask_at_once([late, late, nas.report(STOP, "silent-2", seconds=0)])
        rows = server.query("SELECT session_key, seconds, postings FROM cdr ORDER BY 1 LIMIT 2")
        assert rows == [("silent-1", 2, 1), ("silent-2", 0, 2)]
        server.audit()
