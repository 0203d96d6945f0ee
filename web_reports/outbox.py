"""A session with the mail server (SMTP, RFC 5321), and what it says of each mail.

`ServerTrouble` concerns every mail: the server is away, wants another password. `SenderRefused`
concerns all mails of that sender. What is said of one mail stands in `Sent`: a 4xx may be tried
again, a 5xx is for good.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.storage.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from email.message import EmailMessage

    from aaa_server.config import SmtpConfig

CONNECT_SECONDS_MAX = 10.0
ANSWER_SECONDS_MAX = 30.0  # of one command
MAIL_SECONDS_MAX = 120.0  # of a whole mail: a server may also send an octet now and then
MAILS_A_SESSION_MAX = 100  # servers end sessions that never end
PERMANENT = 500  # RFC 5321 §4.2.1: 5yz is a permanent negative completion reply
TOO_LARGE = 552  # RFC 1870 §6.1
CLOSING = 421  # RFC 5321 §3.8


class ServerTrouble(Problem):
    """No mail can be sent now, whosever it is."""


class SenderRefused(Problem):
    """No mail of this sender can be sent now."""


class Refusal(NamedTuple):
    """A recipient that the mail was not taken for; `final`: nor will it be."""

    recipient: str
    text: str
    final: bool


class Sent(NamedTuple):
    """For whom the server took the mail, and for whom not."""

    taken: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def problem(self) -> str:
        """What the server said; '' when it took the mail for all."""
        return "; ".join(dict.fromkeys(one.text for one in self.refused))


class Outbox:
    """Sends one mail after the other over one session. `interrupt` comes from another thread."""

    def __init__(self, config: SmtpConfig) -> None:
        self._config = config
        self._server: smtplib.SMTP | None = None
        self._mails = 0
        self._interrupted = False

    def send(self, message: EmailMessage, recipients: Sequence[str]) -> Sent:
        """Give the mail to the server. Raises `ServerTrouble` and `SenderRefused`."""
        server = self._open()
        self._mails += 1
        try:
            with self._deadline(server):
                return _sent(recipients, server.send_message(message, to_addrs=list(recipients)))
        except smtplib.SMTPRecipientsRefused as error:
            return _sent(recipients, error.recipients)
        except smtplib.SMTPSenderRefused as error:
            self.close()
            return self._sender_refused(recipients, error)
        except smtplib.SMTPDataError as error:
            self.close()
            return _refused(recipients, error.smtp_code, error.smtp_error)
        except smtplib.SMTPNotSupportedError as error:
            return _refused(recipients, PERMANENT, str(error))
        except (OSError, smtplib.SMTPException, UnicodeError) as error:
            # Taken or not: nobody knows. It is tried again under the same Message-ID.
            self.close()
            text = f"{self._where}: {_reason(error)} while it was given the mail"
            return Sent((), tuple(Refusal(one, text, False) for one in recipients))

    def _sender_refused(self, recipients: Sequence[str], error: smtplib.SMTPSenderRefused) -> Sent:
        """What a refused MAIL FROM means: it names the mail's size as well (RFC 1870)."""
        said = _said(error.smtp_code, error.smtp_error)
        if error.smtp_code == CLOSING:
            raise ServerTrouble(f"{self._where}: {said}") from error
        if error.smtp_code >= PERMANENT and error.smtp_code != TOO_LARGE:
            raise SenderRefused(
                f"{self._where} does not send for {error.sender}: {said}"
            ) from error
        return _refused(recipients, error.smtp_code, error.smtp_error)

    def check(self) -> None:
        """Raises `ServerTrouble` unless the server answers and lets us in."""
        self._open()

    def interrupt(self) -> None:
        """End what is going on at once; nothing is sent any more."""
        self._interrupted = True
        server = self._server
        if server is not None:
            _shut(server)

    def close(self) -> None:
        """End the session; the next mail opens another."""
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException), self._deadline(server):
                server.quit()
            server.close()

    @property
    def _where(self) -> str:
        return f"mail server {self._config.host}:{self._config.port}"

    def _open(self) -> smtplib.SMTP:
        if self._server is not None and not self._fresh(self._server):
            self.close()
        if self._interrupted:
            raise ServerTrouble("mails are not sent any more: the worker stops")
        if self._server is None:
            self._mails = 0
            try:
                self._server = self._connected()
            except (OSError, smtplib.SMTPException) as error:
                raise ServerTrouble(f"{self._where}: {_reason(error)}") from error
        return self._server

    def _fresh(self, server: smtplib.SMTP) -> bool:
        """Whether the session that was used may be used once more."""
        if self._mails >= MAILS_A_SESSION_MAX:
            return False
        try:
            with self._deadline(server):
                return server.noop()[0] == 250  # RFC 5321 §4.1.1.9
        except (OSError, smtplib.SMTPException):
            return False

    def _connected(self) -> smtplib.SMTP:
        """A session, encrypted as the configuration wants it."""
        config = self._config
        server: smtplib.SMTP
        if config.encryption == "tls":
            server = smtplib.SMTP_SSL(
                config.host,
                config.port,
                timeout=CONNECT_SECONDS_MAX,
                context=ssl.create_default_context(),
            )
        else:
            server = smtplib.SMTP(config.host, config.port, timeout=CONNECT_SECONDS_MAX)
        try:
            assert server.sock is not None
            server.sock.settimeout(ANSWER_SECONDS_MAX)
            with self._deadline(server):
                if config.encryption == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if config.user:
                    server.login(config.user, config.password)
        except BaseException:
            server.close()
            raise
        return server

    @contextlib.contextmanager
    def _deadline(self, server: smtplib.SMTP) -> Iterator[None]:
        """Whatever the block asks of the server ends, by an error, after so long."""
        timer = threading.Timer(MAIL_SECONDS_MAX, _shut, (server,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut(server: smtplib.SMTP) -> None:
    sock = server.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _sent(recipients: Sequence[str], refused: Mapping[str, tuple[int, bytes]]) -> Sent:
    """Whom it was taken for. Of a session that broke off some were not even asked for."""
    whole = len(refused) < len(recipients) and CLOSING not in {code for code, _ in refused.values()}
    left = (CLOSING, b"the mail server ended the session")
    said = {one: refused.get(one, left) for one in recipients if one in refused or not whole}
    return Sent(
        tuple(one for one in recipients if one not in said),
        tuple(
            Refusal(one, f"{one}: {_said(code, text)}", code >= PERMANENT)
            for one, (code, text) in said.items()
        ),
    )


def _refused(recipients: Sequence[str], code: int, text: bytes | str) -> Sent:
    final = code >= PERMANENT
    return Sent((), tuple(Refusal(one, _said(code, text), final) for one in recipients))


def _said(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(words.split())}"


def _reason(error: BaseException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return _said(error.smtp_code, error.smtp_error)
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return str(error) or type(error).__name__
