"""Wrong PINs lock a card whichever process hears them, exactly when they are too many."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import Refusal
from aaa_server.demo import CARDS
from aaa_server.radius import attribute
from aaa_server.radius.dialects.reply import RETURN_CODES
from aaa_server.storage.database import connect, transaction
from tests.integration.nas import Nas

if TYPE_CHECKING:
    from tests.integration.conftest import Serving
    from tests.integration.nas import Question
    from tests.integration.server import Server

CARD = CARDS[0]
PROCESSES = 3
TRIES = 60
CHALLENGE = b"sixteen octets 1"
FAILURES_MAX = Policy().pin_failures_max


def question(nas: Nas, pin: str) -> Question:
    """Is this the card's PIN? By CHAP (RFC 2865 §5.3)."""
    response = hashlib.md5(b"\x01" + pin.encode() + CHALLENGE, usedforsecurity=False).digest()
    return nas.access(
        [
            (attribute.USER_NAME, CARD.number.encode()),
            (attribute.CHAP_PASSWORD, b"\x01" + response),
            (attribute.CHAP_CHALLENGE, CHALLENGE),
            (attribute.CISCO_AVPAIR, b"sky-mode=card"),
        ]
    )


def codes_of(nas: Nas, questions: list[Question]) -> list[int]:
    """The return codes of questions that are all on their way at once."""
    return [answer.return_code for answer in nas.ask_at_once(questions)]


def state(server: Server) -> tuple[int, bool, int]:
    """Failures counted, whether it is locked, and how often that was told."""
    with contextlib.closing(connect(server.url)) as connection, transaction(connection) as cursor:
        cursor.execute(
            """
            SELECT pin_failures,
                   coalesce(locked_until > now(), false),
                   (SELECT count(*)
                      FROM event
                     WHERE event.account_id = account.account_id
                       AND event.kind = 'card-locked')
              FROM account
             WHERE code = %s
            """,
            (CARD.number,),
        )
        row = cursor.fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def test_wrong_pins_at_several_processes_at_once_lock_the_card_once(serving: Serving) -> None:
    wrong, locked = RETURN_CODES[Refusal.INVALID_PASSWORD], RETURN_CODES[Refusal.RETRIES]
    with serving(processes=PROCESSES) as server:
        nas = Nas(server)
        codes = codes_of(nas, [question(nas, f"9{number:05}") for number in range(TRIES)])
        assert sorted(codes) == sorted([wrong] * FAILURES_MAX + [locked] * (TRIES - FAILURES_MAX))
        assert state(server) == (FAILURES_MAX, True, 1)
        # The right one does not help, wherever it is heard.
        assert set(codes_of(nas, [question(nas, CARD.pin)] * TRIES)) == {locked}
        with (
            contextlib.closing(connect(server.url)) as connection,
            transaction(connection) as cursor,
        ):
            cursor.execute(
                "UPDATE account SET pin_failures = 0, locked_until = NULL WHERE code = %s",
                (CARD.number,),
            )
        assert set(codes_of(nas, [question(nas, CARD.pin)] * TRIES)) == {0}


def test_the_right_pin_forgets_the_wrong_ones(serving: Serving) -> None:
    with serving(processes=PROCESSES) as server:
        nas = Nas(server)
        for _ in range(3):
            for number in range(FAILURES_MAX - 1):
                nas.ask(question(nas, f"8{number:05}"))
            assert state(server) == (FAILURES_MAX - 1, False, 0)
            assert nas.ask(question(nas, CARD.pin)).return_code == 0
            assert state(server) == (0, False, 0)
