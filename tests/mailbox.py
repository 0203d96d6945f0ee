"""A real mail server for tests: it keeps what comes, and refuses, delays or kills as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import email
import os
import signal
import socket
from email import policy
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Iterator


START_SECONDS_MAX = 60.0
HANGS_SECONDS = 120.0  # longer than anybody waits


class Mailbox:
    """A mail server's other side. It takes nothing for `refused@`, and `later@` the second time."""

    def __init__(self) -> None:
        self.port = 0
        self.messages: list[Any] = []
        self.recipients: list[str] = []
        self.sender_answer = ""  # to MAIL FROM
        self.answer = "250 taken"  # to the mail itself
        self.hangs = False
        self.deliveries = 0  # begun
        self.kills = 0  # a process that is killed once the mail is here
        self._seen: set[str] = set()

    async def handle_MAIL(
        self, _server: Any, _session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.sender_answer or "250 OK"

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.startswith("refused@"):
            return "550 no such mailbox"
        if address.startswith("later@") and address not in self._seen:
            self._seen.add(address)
            return "451 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.deliveries += 1
        if self.hangs:
            await asyncio.sleep(HANGS_SECONDS)
        if not self.answer.startswith("250"):
            return self.answer
        self.recipients += envelope.rcpt_tos
        self.messages.append(email.message_from_bytes(envelope.content, policy=policy.default))
        if self.kills:
            number, self.kills = self.kills, 0
            os.kill(number, signal.SIGKILL)
        return self.answer

    @property
    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for message in self.messages]


class Listening(Controller):
    """Has its port from the beginning: nobody else can take it meanwhile."""

    def __init__(self, box: Mailbox) -> None:
        self.wire = socket.create_server(("127.0.0.1", 0))
        box.port = self.wire.getsockname()[1]
        super().__init__(box, hostname="127.0.0.1", port=box.port, ready_timeout=START_SECONDS_MAX)

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self.wire)


@contextlib.contextmanager
def mail_server() -> Iterator[Mailbox]:
    """The server, while the block lasts."""
    box = Mailbox()
    controller = Listening(box)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
