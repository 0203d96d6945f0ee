"""A switch for the tests: blocking, strict about the answers that it gets.

An answer must come from where it was asked, with the identifier and authenticators that
fit, and to an Access-Request with Message-Authenticator as its first attribute.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.radius import attribute
from aaa_server.radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCOUNTING_RESPONSE,
    MESSAGE_AUTHENTICATOR,
    PACKET_OCTETS_MAX,
    STATUS_SERVER,
    Packet,
    Secret,
    decode,
    encode_request,
    reply_fits,
)

if TYPE_CHECKING:
    from tests.integration.server import Server

SECRET = Secret(b"testing123")
ANSWER_SECONDS_MAX = 30.0
SILENCE_SECONDS = 0.5

START, STOP, INTERIM, ON, OFF = 1, 2, 3, 7, 8  # RFC 2866 §5.1
CALL_CHECK = 10  # RFC 2865 §5.6

CALLED = "442071838750"  # the demo has a price for it, and this route first
ROUTE = "RG_22"

Attributes = list[tuple[int, bytes]]


class Question(NamedTuple):
    """A request and the port that it goes to."""

    datagram: bytes
    port: int


class Answer(NamedTuple):
    """A reply with valid signatures."""

    packet: Packet

    @property
    def accepted(self) -> bool:
        return self.packet.code == ACCESS_ACCEPT

    def text(self, key: int) -> str | None:
        """The attribute as text, without `name=`; None when it is not there."""
        for found, value in self.packet.attributes:
            if found == key:
                return value.decode().rpartition("=")[2]
        return None

    @property
    def seconds(self) -> int | None:
        """Session-Timeout."""
        for key, value in self.packet.attributes:
            if key == attribute.SESSION_TIMEOUT:
                return int.from_bytes(value, "big")
        return None

    @property
    def granted(self) -> bool:
        return self.accepted and bool(self.seconds)

    @property
    def return_code(self) -> int:
        code = self.text(attribute.H323_RETURN_CODE)
        assert code is not None
        return int(code)


class Nas:
    """Asks `server` from the address `source`, each question from a port of its own."""

    def __init__(
        self,
        server: Server,
        source: str = "127.0.0.1",
        *,
        secret: Secret = SECRET,
        target: str = "",
        signed: bool = True,
    ) -> None:
        self._server = server
        self._secret = secret
        self._signed = signed
        self._source = source
        self._target = target or ("::1" if ":" in source else "127.0.0.1")

    # ------------------------------------------------------------------ questions

    def access(
        self, attributes: Attributes, *, identifier: int = 1, password: bytes = b""
    ) -> Question:
        """An Access-Request of these attributes, and of that User-Password."""
        authenticator = os.urandom(16)
        if password:
            hidden = self._secret.hide(password, authenticator)
            attributes = [*attributes, (attribute.USER_PASSWORD, hidden)]
        datagram = encode_request(
            ACCESS_REQUEST,
            identifier,
            self._secret,
            attributes,
            authenticator=authenticator,
            message_authenticator=self._signed,
        )
        return Question(datagram, self._server.auth_port)

    def accounting(self, attributes: Attributes, *, identifier: int = 1) -> Question:
        """An Accounting-Request of these attributes."""
        datagram = encode_request(
            ACCOUNTING_REQUEST, identifier, self._secret, attributes, message_authenticator=False
        )
        return Question(datagram, self._server.acct_port)

    def status(self) -> Question:
        """Asks whether the server is alive (RFC 5997)."""
        datagram = encode_request(STATUS_SERVER, 1, self._secret, (), authenticator=os.urandom(16))
        return Question(datagram, self._server.auth_port)

    def authorize(self, key: str, account: str, called: str, *more: tuple[int, bytes]) -> Question:
        """Asks whether `account` may call `called`."""
        return self.access([*_about(key, account, called), *more])

    def report(
        self,
        status: int,
        key: str,
        account: str = "",
        called: str = "",
        *,
        seconds: int | None = None,
        identifier: int = 1,
        later_seconds: int = 0,
    ) -> Question:
        """A Start, Interim-Update or Stop; its clock has gone on by `seconds` of talk."""
        now = int(time.time()) + (seconds or 0) + later_seconds
        attributes = [
            (attribute.ACCT_STATUS_TYPE, _integer(status)),
            (attribute.EVENT_TIMESTAMP, _integer(now)),
            *_about(key, account, called),
        ]
        if seconds is not None:
            attributes.append((attribute.ACCT_SESSION_TIME, _integer(seconds)))
        if status == STOP:
            attributes.append((attribute.CISCO_AVPAIR, f"route={ROUTE}".encode()))
        return self.accounting(attributes, identifier=identifier)

    # ------------------------------------------------------------------ the wire

    def socket(self, port: int) -> socket.socket:
        """A socket that hears the server's `port` and nobody else."""
        family = socket.AF_INET6 if ":" in self._source else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.bind((self._source, 0))
        opened.connect((self._target, port))
        return opened

    def ask(
        self,
        question: Question,
        *,
        seconds: float = ANSWER_SECONDS_MAX,
        again_seconds: float = ANSWER_SECONDS_MAX,
    ) -> Answer:
        """The answer; the same octets are sent again every `again_seconds` until it comes."""
        answer = self.try_to_ask(question, seconds=seconds, again_seconds=again_seconds)
        assert answer is not None, f"no answer within {seconds} s"
        return answer

    def try_to_ask(
        self, question: Question, *, seconds: float, again_seconds: float = ANSWER_SECONDS_MAX
    ) -> Answer | None:
        """The answer, or None when none came in time."""
        deadline = time.monotonic() + seconds
        with self.socket(question.port) as wire:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    wire.settimeout(min(left, again_seconds))
                    wire.send(question.datagram)
                    return self.check(wire.recv(PACKET_OCTETS_MAX + 1), question)
                except TimeoutError:
                    continue
                except ConnectionRefusedError:
                    # Nobody listens: as good as silence.
                    time.sleep(min(left, again_seconds, 0.1))
        return None

    def hears_nothing(self, question: Question, *, seconds: float = SILENCE_SECONDS) -> bool:
        """Whether no answer comes for so long."""
        return self.try_to_ask(question, seconds=seconds) is None

    def ask_at_once(self, questions: list[Question], *, seconds: float = 60.0) -> list[Answer]:
        """The answers to questions that are all on their way before the first is answered."""
        wires = [self.socket(question.port) for question in questions]
        try:
            for wire, question in zip(wires, questions, strict=True):
                wire.send(question.datagram)
            answers: dict[int, Answer] = {}
            places = {wire.fileno(): place for place, wire in enumerate(wires)}
            poll = select.poll()
            for number in places:
                poll.register(number, select.POLLIN)
            deadline = time.monotonic() + seconds
            while len(answers) < len(wires) and time.monotonic() < deadline:
                for number, _ in poll.poll(100):
                    place = places[number]
                    poll.unregister(number)
                    reply = wires[place].recv(PACKET_OCTETS_MAX + 1)
                    answers[place] = self.check(reply, questions[place])
        finally:
            for wire in wires:
                wire.close()
        assert len(answers) == len(questions), f"{len(answers)} of {len(questions)} were answered"
        return [answers[place] for place in range(len(questions))]

    def check(self, reply: bytes, question: Question) -> Answer:
        """The answer in `reply`; fails when it is no authentic answer to `question`."""
        asked = question.datagram
        assert reply[1] == asked[1], "another identifier"
        assert reply_fits(reply, asked[4:20], self._secret), "the signatures do not fit"
        packet = decode(reply)
        assert len(packet.raw) == len(reply)
        if asked[0] == ACCOUNTING_REQUEST:
            assert packet.code == ACCOUNTING_RESPONSE
        else:
            assert packet.attributes[0][0] == MESSAGE_AUTHENTICATOR
        return Answer(packet)


def _about(key: str, account: str, called: str) -> Attributes:
    attributes = [
        (attribute.ACCT_SESSION_ID, key.encode()),
        (attribute.SERVICE_TYPE, _integer(CALL_CHECK)),
        (attribute.H323_CALL_ORIGIN, b"h323-call-origin=inbound"),
    ]
    if account:
        attributes.append((attribute.USER_NAME, account.encode()))
    if called:
        attributes.append((attribute.CALLED_STATION_ID, called.encode()))
    return attributes


def _integer(value: int) -> bytes:
    return value.to_bytes(4, "big")
