"""Whole calls from a switch with several threads, and the proof that none of them was lost.

Requests are sent again, the same octets from the same port, until they are answered.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage import payments, viewer
from aaa_server.storage.database import connect, transaction
from tests.integration.nas import CALLED, INTERIM, START, STOP, Answer, Nas, Question
from tests.integration.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.integration.server import Server

ACCOUNTS = ("alice", "bob", "nora", "noel", "cora", "carl")
SLICE_SECONDS = 60
PLENTY_MICROS = 100_000_000_000
AGAIN_SECONDS = 0.25
PATIENCE_SECONDS = 120.0
JOIN_SECONDS_MAX = 600.0
ENOUGH = 50  # calls, to prove anything


class Ended(NamedTuple):
    """A call whose Stop was answered."""

    account: str
    seconds: int


class Load:
    """`threads` lines that call without a pause until `stop`."""

    def __init__(self, server: Server, seed: int, *, threads: int = 6) -> None:
        self.name = f"load-{seed}"
        self.balances = balances(server)
        self.granted: dict[str, str] = {}  # session -> account, of every answered authorisation
        self.refused: list[int] = []
        self.ended: dict[str, Ended] = {}
        self.open: set[str] = set()  # granted, and no Stop was sent
        # When each question was first sent, and when its answer came.
        self.answered: list[tuple[float, float]] = []
        self.given_up: list[Question] = []
        self._server = server
        self._nas = Nas(server)
        self._halt = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number, random.Random(seed * 1000 + number)))
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def until(self, calls: int) -> None:
        """Wait until so many more calls have ended."""
        wanted = len(self.ended) + calls
        wait_until(
            lambda: self._failures or self.given_up or len(self.ended) >= wanted,
            f"{calls} calls end",
            seconds=PATIENCE_SECONDS,
        )

    def stop(self) -> None:
        """Let every thread finish its call; fails when one could not."""
        self._halt.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS_MAX)
            assert not thread.is_alive()
        if self._failures:
            raise self._failures[0]
        assert not self.given_up, f"{len(self.given_up)} requests were never answered"

    def _run(self, number: int, chance: random.Random) -> None:
        try:
            calls = 0
            while not self._halt.is_set():
                self._call(f"{self.name}-{number}-{calls}", chance)
                calls += 1
        except BaseException as error:  # noqa: BLE001 - raised again in `stop`
            self._failures.append(error)

    def _call(self, key: str, chance: random.Random) -> None:
        nas = self._nas
        account = chance.choice(ACCOUNTS)
        if chance.random() < 0.5:
            self._ask(nas.report(START, key, account, CALLED))
        answer = self._ask(nas.authorize(key, account, CALLED))
        if answer is None:
            return
        if not answer.granted:
            self.refused.append(answer.return_code)
            return
        self.granted[key] = account
        if chance.random() < 0.3:
            self._ask(nas.report(INTERIM, key, account, CALLED, seconds=chance.randrange(9)))
        if chance.random() < 0.02:
            self.open.add(key)
            return
        seconds = chance.choice((0, 1, chance.randrange(2, 60)))
        stop = nas.report(STOP, key, account, CALLED, seconds=seconds)
        if self._ask(stop) is not None:
            self.ended[key] = Ended(account, seconds)
            if chance.random() < 0.2:  # to the second server's address, as another packet
                self._ask(nas.report(STOP, key, account, CALLED, seconds=seconds, identifier=77))

    def _ask(self, question: Question) -> Answer | None:
        asked = time.monotonic()
        answer = self._nas.try_to_ask(
            question, seconds=PATIENCE_SECONDS, again_seconds=AGAIN_SECONDS
        )
        if answer is None:
            self.given_up.append(question)
        else:
            self.answered.append((asked, time.monotonic()))
        return answer


def prove(
    server: Server,
    load: Load,
    minute_micros: dict[str, int],
    paid_micros: Mapping[str, int] | None = None,
) -> None:
    """Every answered Stop is in the books once, every answered authorisation is there.

    `minute_micros` is what a started minute costs each account; `paid_micros` is what was paid
    in to some while they called.
    """
    assert not load.refused, set(load.refused)
    assert len(load.ended) >= ENOUGH, "too little was done to prove anything"
    records: dict[str, list[tuple[int, int, int]]] = {}
    for key, seconds, postings, paid in server.query(
        """
        SELECT session_key, seconds, postings, coalesce(amount_micros, 0)
          FROM cdr
          LEFT JOIN charge ON charge.call_id = cdr.call_id AND level = 0
         WHERE starts_with(session_key, %s)
        """,
        f"{load.name}-",
    ):
        records.setdefault(key, []).append((seconds, postings, paid))
    expected = {
        key: [(call.seconds, 1, minute_micros[call.account]) if call.seconds else (0, 0, 0)]
        for key, call in load.ended.items()
    }
    assert records == expected
    in_progress = server.query(
        "SELECT session_key FROM call WHERE starts_with(session_key, %s)", f"{load.name}-"
    )
    assert {key for (key,) in in_progress} == load.open
    assert load.granted.keys() == load.ended.keys() | load.open
    after = balances(server)
    for code in ACCOUNTS:
        calls = [call for call in load.ended.values() if call.account == code and call.seconds]
        paid = (paid_micros or {}).get(code, 0)
        assert load.balances[code] + paid - after[code] == len(calls) * minute_micros[code], code
    server.audit()


def minute_prices(server: Server) -> dict[str, int]:
    """What a started minute costs each account, from a reservation that is given back.

    The accounts get as much money as they will ever need first.
    """
    nas = Nas(server)
    prices = {}
    server.query("UPDATE account SET credit_limit_micros = %s WHERE NOT prepaid", PLENTY_MICROS)
    with contextlib.closing(connect(server.url)) as connection, transaction(connection) as cursor:
        for (code,) in server.query(
            "SELECT code FROM account WHERE prepaid AND kind IN ('customer', 'reseller')"
        ):
            admin = viewer.operator(cursor)
            payments.top_up(cursor, admin, code, PLENTY_MICROS, reference=f"plenty {code}")
    for code in ACCOUNTS:
        key = f"price of {code} {time.monotonic_ns()}"
        assert nas.ask(nas.authorize(key, code, CALLED)).seconds == SLICE_SECONDS
        [(reserved,)] = server.query("SELECT reserved_micros FROM call WHERE session_key = %s", key)
        prices[code] = reserved[0]
        nas.ask(nas.report(STOP, key, seconds=0))
    return prices


def balances(server: Server) -> dict[str, int]:
    """Every account's balance in micros."""
    return dict(server.query("SELECT code, balance_micros FROM account"))
