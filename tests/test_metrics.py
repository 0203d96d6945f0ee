from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from aaa_server.metrics import Metrics, MetricsService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.epollreactor import EPollReactor
    from twisted.python.failure import Failure

    from tests.conftest import Run


class Fetch(Protocol):
    """One HTTP/1.0 request; `response` fires when the server has closed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.octets = b""
        self.response: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(f"GET {self.path} HTTP/1.0\r\n\r\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.octets += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.response.callback(self.octets)


class Server:
    def __init__(self, reactor: EPollReactor, run: Run) -> None:
        self.reactor = reactor
        self.run = run
        self.metrics = Metrics()
        self.why = ""
        self.services: list[MetricsService] = []

    def start(self, port: int) -> MetricsService:
        service = MetricsService(
            reactor=self.reactor,
            address="127.0.0.1",
            port=port,
            metrics=self.metrics,
            not_ready=lambda: self.why,
        )
        service.startService()
        self.services.append(service)
        return service

    def fetch(self, path: str) -> tuple[int, str]:
        async def one() -> bytes:
            endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.services[0].port)
            fetch = Fetch(path)
            await connectProtocol(endpoint, fetch)
            return await fetch.response

        head, _, body = self.run(one()).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body


@pytest.fixture
def server(reactor: EPollReactor, run: Run) -> Iterator[Server]:
    made = Server(reactor, run)
    yield made
    for service in made.services:
        stopped = service.stopService()
        if stopped is not None:
            run(stopped)


def test_metrics_are_read_when_they_are_asked_for(server: Server) -> None:
    counts = {"malformed": 1}
    server.metrics.counter("sky_aaa_requests", "Requests", lambda: sum(counts.values()))
    server.metrics.gauge("sky_aaa_waiting", "Waiting", lambda: 4)
    server.metrics.counters("sky_aaa_discarded", "Discarded", "reason", lambda: counts)
    server.start(0)
    counts["unknown-client"] = 2
    status, body = server.fetch("/metrics")
    assert status == 200
    assert "sky_aaa_requests_total 3.0" in body
    assert "sky_aaa_waiting 4.0" in body
    assert 'sky_aaa_discarded_total{reason="unknown-client"} 2.0' in body
    assert 'sky_aaa_info{version="' in body
    assert "process_cpu_seconds_total" in body


def test_alive_is_not_ready(server: Server) -> None:
    server.start(0)
    assert server.fetch("/livez") == (200, "alive\n")
    assert server.fetch("/readyz") == (200, "ready\n")
    server.why = "the database is lost"
    assert server.fetch("/livez")[0] == 200
    assert server.fetch("/readyz") == (503, "the database is lost\n")


def test_anything_else_is_not_found(server: Server) -> None:
    server.start(0)
    assert server.fetch("/")[0] == 404
    assert server.fetch("/metrics/x")[0] == 404


def test_a_taken_port_leads_to_the_next_free_one(server: Server) -> None:
    first = server.start(0)
    second = server.start(first.port)
    assert second.port > first.port


def test_no_free_port_is_said_and_nothing_breaks(server: Server) -> None:
    service = MetricsService(
        reactor=server.reactor,
        address="192.0.2.1",
        port=0,
        metrics=server.metrics,
        not_ready=lambda: "",
    )
    service.startService()
    assert service.stopService() is None
