"""Tries what the agent needs, once, and says what is wrong: for whoever sets it up."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from aaa_server.radius.packet import STATUS_SERVER, Malformed, encode_request, reply_fits
from aaa_server.switch_agent import event_socket
from aaa_server.switch_agent.event_socket import BrokenFrame, Frames
from aaa_server.switch_agent.service import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aaa_server.config import SwitchAgentConfig
    from aaa_server.switch_agent.service import Settings

ANSWER_SECONDS_MAX = 3.0
RECEIVED_OCTETS_MAX = 65_536


class Finding(NamedTuple):
    """`problem` '' when it is as it should be."""

    what: str
    problem: str = ""


def findings(config: SwitchAgentConfig) -> Iterator[Finding]:
    """Spool, event socket and each port of each server. Raises `NotConfigured`."""
    settings = settings_of(config)
    yield Finding(f"spool in {config.spool}", _spool_problem(config.spool))
    where = f"event socket {config.event_socket} port {config.event_socket_port}"
    yield Finding(where, _event_socket_problem(config))
    for address in settings.addresses:
        for port in (config.auth_port, config.acct_port):
            problem = _server_problem(settings, config.bind, address, port)
            yield Finding(f"RADIUS server {address} port {port}", problem)


def _spool_problem(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        return str(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "nothing can be written there"


def _event_socket_problem(config: SwitchAgentConfig) -> str:
    where = (config.event_socket, config.event_socket_port)
    try:
        with closing(socket.create_connection(where, ANSWER_SECONDS_MAX)) as wire:
            wire.settimeout(ANSWER_SECONDS_MAX)
            return _password_problem(wire, config.event_socket_password)
    except TimeoutError:
        return "it does not answer"
    except (OSError, BrokenFrame) as error:
        return f"{error}; is mod_event_socket loaded?"


def _password_problem(wire: socket.socket, password: str) -> str:
    frames = Frames()
    while received := wire.recv(RECEIVED_OCTETS_MAX):
        for frame in frames.feed(received):
            if frame.kind == event_socket.AUTH_REQUEST:
                wire.sendall(f"auth {password}\n\n".encode())
            elif frame.kind == event_socket.REJECTION:
                return "our address is not in its access list (apply-inbound-acl)"
            elif frame.kind == event_socket.COMMAND_REPLY:
                accepted = frame.headers.get("reply-text", "").startswith("+OK")
                return "" if accepted else "it does not take the password"
    return "it closes the connection"


def _server_problem(settings: Settings, bind: str, address: str, port: int) -> str:
    question = encode_request(STATUS_SERVER, 0, settings.secret, (), authenticator=os.urandom(16))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as wire:
        try:
            if bind:
                wire.bind((bind, 0))
            wire.settimeout(ANSWER_SECONDS_MAX)
            wire.connect((address, port))
            wire.send(question)
            answer = wire.recv(RECEIVED_OCTETS_MAX)
            genuine = reply_fits(answer, question[4:20], settings.secret)
        except TimeoutError:
            return "no answer: does it run, does it know this address, is the secret the same?"
        except (OSError, Malformed) as error:
            return str(error)
    return "" if genuine else "the answer is not signed with our secret"
