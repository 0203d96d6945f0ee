"""Sends the orders to switches, and writes down what they say. The worker's one UDP socket."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from aaa_server.radius.disconnect import (
    ERROR_CAUSES,
    Answer,
    Exchanges,
    Session,
    session_attributes,
)
from aaa_server.radius.packet import DISCONNECT_REQUEST, Secret
from aaa_server.storage import disconnects
from aaa_server.storage.secrets import SecretsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from twisted.internet.interfaces import IListeningPort

    from aaa_server.config import Config
    from aaa_server.storage.database import Connection
    from aaa_server.storage.disconnects import Outgoing
    from aaa_server.storage.secrets import Keyring

log = Logger()

# Later calls on one FreeSWITCH channel are "uuid/2", "uuid/3" …; the switch knows the channel.
_CHANNELS = "freeswitch"


class Outcome(NamedTuple):
    """What came of an order; not written down yet."""

    order_id: int
    state: str
    error_cause: int | None = None
    detail: str = ""


class Ear(DatagramProtocol):
    """Hears what comes back."""

    noisy = False

    def __init__(self, heard: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._heard = heard

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._heard(datagram, (addr[0].partition("%")[0], addr[1]))


class Disconnects:
    """Finds calls that are to end, tells their switches, and keeps at it until they answer.

    `look` does one round; `counts` says what came of the orders, for /metrics.
    """

    def __init__(
        self, reactor: Any, connection: Connection, keyring: Keyring, config: Config, *, clock: Any
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._reactor = reactor
        self._connection = connection
        self._keyring = keyring
        self._config = config
        self._clock = clock
        self._exchanges = Exchanges(random.random)
        self._attempts: Counter[int] = Counter()
        self._outcomes: list[Outcome] = []
        self._ports: dict[int, IListeningPort] = {}

    async def begin(self) -> None:
        """This process is the worker from now on: what another one left is sent again."""
        self._exchanges.forget()
        self._attempts.clear()
        await disconnects.take_back(self._connection.execute)

    async def look(self, now: datetime) -> None:
        """Note what was answered, find new orders, send what is due."""
        execute = self._connection.execute
        charging = self._config.charging
        await self._note_answers(now)
        await disconnects.order_ended_credit(
            execute,
            now,
            grace_seconds=charging.grace_seconds,
            overrun_seconds=charging.overrun_seconds,
            ring_seconds=self._config.worker.ring_seconds,
        )
        await disconnects.order_suspended(execute, now)
        if self._exchanges.room:
            await self._take(await disconnects.outgoing(execute, self._exchanges.room), now)
        self._send_due()

    async def stop(self) -> None:
        """Close the sockets. What is under way is sent again by the next worker."""
        ports, self._ports = self._ports, {}
        for port in ports.values():
            await maybeDeferred(port.stopListening)

    async def _note_answers(self, now: datetime) -> None:
        for order_id in self._exchanges.given_up(self._clock.seconds()):
            log.warn("Order {order}: the switch does not answer", order=order_id)
            self._outcomes.append(Outcome(order_id, "unanswered"))
        while self._outcomes:
            # Kept until it is written: the database may be away just now.
            await self._close(self._outcomes[0], now)
            del self._outcomes[0]

    async def _close(self, outcome: Outcome, now: datetime) -> None:
        await disconnects.close(
            self._connection.execute,
            outcome.order_id,
            outcome.state,
            at=now,
            attempts=self._attempts[outcome.order_id],
            error_cause=outcome.error_cause,
            detail=outcome.detail,
        )
        self._attempts.pop(outcome.order_id, None)
        self.counts[outcome.state] += 1

    async def _take(self, orders: list[Outgoing], now: datetime) -> None:
        sending = []
        for order in orders:
            state, detail = self._begin(order, now)
            if state == "sent":
                sending.append(order.order_id)
            else:
                await self._close(Outcome(order.order_id, state, detail=detail), now)
        if sending:
            await disconnects.mark_sent(self._connection.execute, sending)

    def _begin(self, order: Outgoing, now: datetime) -> tuple[str, str]:
        """The order's state, and why it is impossible if it is."""
        if not order.running:
            return "ended", ""
        if order.port is None:
            return "impossible", "the client takes no orders: it has no disconnect port"
        if order.address is None:
            return "impossible", "the switch's address is not known"
        try:
            secrets = self._secrets(order)
        except SecretsError as error:
            return "impossible", str(error)
        key = order.session_key
        if order.client_type == _CHANNELS:
            key = key.partition("/")[0]
        session = Session(key, order.user_name, order.address)
        self._exchanges.begin(
            order.order_id,
            DISCONNECT_REQUEST,
            (order.address, order.port),
            secrets,
            session_attributes(session, at=int(now.timestamp())),
            self._clock.seconds(),
        )
        log.info(
            "Order {order}: call {call} is to end, {reason}",
            order=order.order_id,
            call=order.call_id,
            reason=order.reason,
        )
        return "sent", ""

    def _secrets(self, order: Outgoing) -> list[Secret]:
        sealed = {"secret": order.secret_sealed, "second_secret": order.second_secret_sealed}
        return [
            Secret(
                self._keyring.unseal(octets, table="client", row_id=order.client_id, column=column)
            )
            for column, octets in sealed.items()
            if octets is not None
        ]

    def _send_due(self) -> None:
        for order_id, datagram, address in self._exchanges.due(self._clock.seconds()):
            self._attempts[order_id] += 1
            self.counts["packets"] += 1
            try:
                self._port(6 if ":" in address[0] else 4).write(datagram, address)
            except OSError as error:
                # As good as lost on the way; it is sent again.
                log.warn(
                    "Order {order}: nothing can be sent to {host}: {reason}",
                    order=order_id,
                    host=address[0],
                    reason=str(error),
                )

    def _port(self, version: int) -> Any:
        if version not in self._ports:
            interface = "::" if version == 6 else "0.0.0.0"
            try:
                self._ports[version] = self._reactor.listenUDP(
                    0, Ear(self._heard), interface=interface
                )
            except CannotListenError as error:
                raise OSError(str(error)) from error
        return self._ports[version]

    def _heard(self, datagram: bytes, source: tuple[str, int]) -> None:
        answer = self._exchanges.received(datagram, source)
        if answer is None:
            self.counts["ignored"] += 1
        else:
            self._outcomes.append(_outcome(answer))


def _outcome(answer: Answer) -> Outcome:
    state = "acknowledged" if answer.accepted else "gone" if answer.gone else "refused"
    cause = answer.error_cause
    said = "" if cause is None else ERROR_CAUSES.get(cause, f"error cause {cause}")
    return Outcome(answer.order, state, cause, said)
