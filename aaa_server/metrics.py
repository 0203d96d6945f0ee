"""/metrics for Prometheus, /livez and /readyz for whoever restarts the server.

Counters are read from the objects that count when somebody asks, so what answers calls only
adds to an int. No account and no phone number is ever a label.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort, IReactorTCP
    from twisted.web.http import Request
    from twisted.web.resource import IResource

log = Logger()

# Each further process on a machine takes the next free port.
PORTS_TRIED_MAX = 300
HTTP_SERVICE_UNAVAILABLE = 503  # RFC 9110 §15.6.4
HTTP_IDLE_SECONDS_MAX = 30.0


class Metrics(Collector):
    """What is counted, under the names that /metrics shows it by.

    `registry` also takes prometheus_client's own metrics, for what happens once a batch or
    less often.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._read: list[Callable[[], Metric]] = []
        ProcessCollector(registry=self.registry)
        Info("sky_aaa", "The running version", registry=self.registry).info(
            {"version": version("sky-aaa")}
        )
        self.registry.register(self)

    def counter(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A number that only grows; `read` is called at each scrape."""
        self._read.append(lambda: CounterMetricFamily(name, documentation, value=read()))

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A number as it is now; `read` is called at each scrape."""
        self._read.append(lambda: GaugeMetricFamily(name, documentation, value=read()))

    def counters(
        self, name: str, documentation: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """Numbers that only grow, one for each value of `label`, which has few of them."""

        def family() -> Metric:
            made = CounterMetricFamily(name, documentation, labels=[label])
            for value, count in read().items():
                made.add_metric([value], count)
            return made

        self._read.append(family)

    def collect(self) -> Iterator[Metric]:
        for read in self._read:
            yield read()


class MetricsService(Service):
    """Listens on `address` at `port`, or at the next free one; `port` then tells which.

    `not_ready` returns why the server cannot answer calls, "" when it can.
    """

    def __init__(
        self,
        *,
        reactor: IReactorTCP,
        address: str,
        port: int,
        metrics: Metrics,
        not_ready: Callable[[], str],
    ) -> None:
        self.port = port
        self._reactor = reactor
        self._address = address
        self._site = QuietSite(_pages(metrics, not_ready), timeout=HTTP_IDLE_SECONDS_MAX)
        self._listening: IListeningPort | None = None

    def startService(self) -> None:
        super().startService()
        first = self.port
        for port in range(first, first + (PORTS_TRIED_MAX if first else 1)):
            try:
                self._listening = self._reactor.listenTCP(
                    port,
                    # Site's bases have no annotations, so it is not known to be a factory.
                    self._site,  # type: ignore[arg-type]
                    interface=self._address,
                )
            except CannotListenError as error:
                reason = error.socketError
                continue
            host = self._listening.getHost()
            assert isinstance(host, IPv4Address | IPv6Address)
            self.port = host.port
            return
        # Calls matter more than numbers about calls.
        log.error(
            "No metrics: no port from {port} on {address} is free: {reason}",
            port=first,
            address=self._address,
            reason=str(reason),
        )

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()


class QuietSite(Site):
    """A site whose starts and requests are not worth a line in the log."""

    noisy = False

    def log(self, request: Request) -> None:
        """Says nothing."""


class Folder(Resource):
    """Pages by name, and not found for any other."""

    def getChild(self, path: bytes, request: Request) -> IResource:  # noqa: ARG002 - Twisted's
        """What no page is named."""
        return notFound()


class Page(Folder):
    """A page that `render` makes: status, content type, body."""

    def __init__(self, render: Callable[[], tuple[int, str, bytes]]) -> None:
        super().__init__()
        self._render = render

    def render_GET(self, request: Request) -> bytes:
        """The page; twisted.web makes HEAD of it too."""
        status, kind, body = self._render()
        request.setResponseCode(status)
        request.setHeader(b"Content-Type", kind.encode())
        return body


def _pages(metrics: Metrics, not_ready: Callable[[], str]) -> Resource:
    def ready() -> tuple[int, str, bytes]:
        why = not_ready()
        status = HTTP_SERVICE_UNAVAILABLE if why else 200
        return status, "text/plain; charset=utf-8", f"{why or 'ready'}\n".encode()

    root = Folder()
    root.putChild(
        b"metrics", Page(lambda: (200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry)))
    )
    # That it answers is the proof of life.
    root.putChild(b"livez", Page(lambda: (200, "text/plain; charset=utf-8", b"alive\n")))
    root.putChild(b"readyz", Page(ready))
    return root
