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
            await asyncio.sleep(60)
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


@contextlib.contextmanager
def mail_server() -> Iterator[Mailbox]:
    """The server, while the block lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    box = Mailbox()
    box.port = port
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
