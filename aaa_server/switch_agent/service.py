"""Wires the agent: event socket, spool, RADIUS servers, orders. Its own process, no database."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from aaa_server.metrics import Metrics, MetricsService
from aaa_server.radius import attribute
from aaa_server.radius.packet import Secret
from aaa_server.switch_agent.calls import Calls
from aaa_server.switch_agent.delivery import Delivery
from aaa_server.switch_agent.exchange import Servers
from aaa_server.switch_agent.journal import Journal
from aaa_server.switch_agent.orders import Orders
from aaa_server.switch_agent.records import NAMED_CHARACTERS_MAX, text
from aaa_server.switch_agent.slices import Slices
from aaa_server.switch_agent.spool import Spool
from aaa_server.switch_agent.switch import Switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.interfaces import IListeningPort

    from aaa_server.config import Config, SwitchAgentConfig
    from aaa_server.switch_agent.journal import Entry
    from aaa_server.switch_agent.records import Attributes

log = Logger()

SERVERS_MAX = 2
MEGABYTE = 1 << 20


class NotConfigured(Exception):
    """What is missing or wrong in [switch_agent], and what to write."""


class Settings(NamedTuple):
    """[switch_agent], checked."""

    addresses: list[str]
    secret: Secret
    nas: Attributes
    nas_address: str


def settings_of(config: SwitchAgentConfig) -> Settings:
    """The parts that need checking. Raises `NotConfigured`."""
    if not config.event_socket_password:
        raise NotConfigured(
            "[switch_agent] event_socket_password: the one in event_socket.conf.xml is needed"
        )
    if not config.secret:
        raise NotConfigured(
            "[switch_agent] secret: the one of `sky-aaa client add` is needed; "
            "SKY_AAA_SWITCH_AGENT_SECRET_FILE may name a file with it"
        )
    if len(config.servers) > SERVERS_MAX:
        raise NotConfigured(f"[switch_agent] servers: at most {SERVERS_MAX} are asked")
    bound = _address("bind", config.bind) if config.bind else None
    # As the kernel says who has sent a datagram: 2001:db8::1, and 192.0.2.1 for ::ffff:192.0.2.1.
    addresses = [
        (isinstance(said := _address("servers", server), IPv6Address) and said.ipv4_mapped) or said
        for server in config.servers
    ]
    for server, address in zip(config.servers, addresses, strict=True):
        if bound is not None and address.version != bound.version:
            raise NotConfigured(
                f"[switch_agent] servers: {server!r} is an IPv{address.version} address, which "
                f"nothing reaches from bind = {config.bind!r}: leave bind out, or name servers "
                f"with IPv{bound.version} addresses"
            )
    nas: Attributes = []
    nas_address = ""
    # 0.0.0.0 and :: are nobody's address.
    if bound is not None and not bound.is_unspecified:
        nas_address = config.bind
        if isinstance(bound, IPv4Address):
            nas.append((attribute.NAS_IP_ADDRESS, bound.packed))
    if config.nas_identifier:
        identifier = text(config.nas_identifier, NAMED_CHARACTERS_MAX)
        nas.append((attribute.NAS_IDENTIFIER, identifier))
    secret = Secret(config.secret.encode())
    return Settings([str(address) for address in addresses], secret, nas, nas_address)


def _address(name: str, value: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(value)
    except ValueError:
        raise NotConfigured(
            f"[switch_agent] {name}: {value!r} is no IP address, and names are not looked up"
        ) from None


class SwitchAgent(MultiService):
    """The agent. Raises `NotConfigured`."""

    def __init__(self, config: Config, *, reactor: Any) -> None:
        super().__init__()
        own = config.switch_agent
        settings = settings_of(own)
        self._config = own
        self._settings = settings
        self._reactor = reactor
        self._orders_port: IListeningPort | None = None
        self.spool = Spool(self._journal)
        self.switch = Switch(
            own.event_socket, own.event_socket_port, own.event_socket_password, reactor=reactor
        )
        self.accounting = self._servers(own.acct_port)
        self.access = self._servers(own.auth_port)
        self.delivery = Delivery(self.spool, self.accounting, clock=reactor, now=time.time)
        self.slices = Slices(
            self.spool,
            self.switch,
            self.access,
            clock=reactor,
            now_us=now_us,
            margin_seconds=own.slice_margin_seconds,
            nas=settings.nas,
        )
        self.orders = Orders(
            self.spool,
            self.switch,
            self.slices,
            sources=frozenset(settings.addresses),
            secret=settings.secret,
            nas_address=settings.nas_address,
            clock=reactor,
            now=time.time,
        )
        self.calls: Calls | None = None
        self.metrics = MetricsService(
            reactor=reactor,
            address=config.metrics.address,
            port=config.metrics.port,
            metrics=metrics_of(self),
            not_ready=self.not_ready,
        )
        self.metrics.setServiceParent(self)

    def _journal(self, snapshot: Callable[[], Iterator[Entry]]) -> Journal:
        return Journal(
            self._config.spool,
            in_thread=lambda work: deferToThreadPool(
                self._reactor, self._reactor.getThreadPool(), work
            ),
            snapshot=snapshot,
            seconds=self._reactor.seconds,
        )

    def _servers(self, port: int) -> Servers:
        own = self._config
        return Servers(
            [(address, port) for address in self._settings.addresses],
            self._settings.secret,
            clock=self._reactor,
            timeout_seconds=own.timeout_seconds,
            tries=own.tries,
            signed=own.sign_accounting == "yes",
        )

    def startService(self) -> None:
        """Read the spool, open the ports, connect.

        Raises `SpoolInUse`, `OSError` or `CannotListenError`.
        """
        own = self._config
        self.spool.open(own.spool_megabytes * MEGABYTE)
        if self.spool.records:
            log.info("{count} records of before are sent first", count=len(self.spool.records))
        self.calls = Calls(
            self.spool,
            self.switch,
            self.slices,
            clock=self._reactor,
            now_us=now_us,
            interim_seconds=own.interim_seconds,
            lost_seconds=own.lost_seconds,
            reconcile_seconds=own.reconcile_seconds,
            nas=self._settings.nas,
        )
        self.switch.listener = self.calls
        for servers in (self.accounting, self.access):
            servers.listen(self._reactor, own.bind)
        if own.order_port:
            self._listen_for_orders()
        super().startService()
        self.spool.ready = self.delivery.wake
        self.delivery.wake()
        self.switch.start()

    def _listen_for_orders(self) -> None:
        # A port of :: hears those of IPv4 servers too, and answers them.
        six = any(":" in address for address in self._settings.addresses)
        self._orders_port = self._reactor.listenUDP(
            self._config.order_port,
            self.orders,
            interface=self._config.bind or ("::" if six else "0.0.0.0"),
        )

    def stopService(self) -> Deferred[None]:
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self.switch.stop()
        if self.calls is not None:
            self.calls.stop()
        self.delivery.stop()
        if self._orders_port is not None:
            await maybeDeferred(self._orders_port.stopListening)
        await self.accounting.stop()
        await self.access.stop()
        await maybeDeferred(MultiService.stopService, self)
        if self.calls is not None:
            await self.spool.journal.close()

    def not_ready(self) -> str:
        """Why calls are not accounted for as they should be; '' when they are."""
        spool = self.spool
        if not self.switch.connected:
            return f"no event socket: {self.switch.problem}"
        if spool.journal.broken:
            return f"the spool cannot be written: {spool.journal.broken}"
        if self.delivery.silent_since is not None:
            return f"no RADIUS server answers; {len(spool.records)} records wait"
        if spool.full:
            return "the spool is nearly full"
        if self.calls is not None and self.calls.unlisted:
            return f"the channels cannot be listed: {self.calls.unlisted}"
        return ""


def now_us() -> int:
    """Microseconds since 1970: the switch's clock, since it runs on the same machine."""
    return time.time_ns() // 1000


def metrics_of(agent: SwitchAgent) -> Metrics:
    """What /metrics shows of the agent."""
    metrics = Metrics()
    spool = agent.spool
    metrics.gauge(
        "sky_aaa_agent_connected",
        "1: the event socket is open",
        lambda: int(agent.switch.connected),
    )
    metrics.gauge("sky_aaa_agent_channels", "Channels that calls run on", lambda: len(spool.legs))
    metrics.gauge(
        "sky_aaa_agent_waiting",
        "Records that no server has acknowledged",
        lambda: len(spool.records),
    )
    metrics.gauge(
        "sky_aaa_agent_unwritten", "What is not on disk yet", lambda: spool.journal.unwritten
    )
    metrics.gauge(
        "sky_aaa_agent_spool_octets", "The spool's length on disk", lambda: spool.journal.octets
    )
    metrics.counters(
        "sky_aaa_agent_records",
        "Records made, and dropped for want of room",
        "what",
        lambda: dict(spool.counts),
    )
    metrics.counters(
        "sky_aaa_agent_events",
        "Events of the switch; ends of calls, and those nobody saw",
        "what",
        lambda: dict(agent.calls.counts) if agent.calls is not None else {},
    )
    metrics.counters(
        "sky_aaa_agent_listings",
        "Lists of the switch's channels, and those that failed or never came",
        "what",
        lambda: dict(agent.calls.listings) if agent.calls is not None else {},
    )
    metrics.counters(
        "sky_aaa_agent_accounting",
        "Accounting packets",
        "what",
        lambda: dict(agent.accounting.counts),
    )
    metrics.counters(
        "sky_aaa_agent_access", "Access packets", "what", lambda: dict(agent.access.counts)
    )
    metrics.counters(
        "sky_aaa_agent_orders", "Orders of the server", "what", lambda: dict(agent.orders.counts)
    )
    return metrics
