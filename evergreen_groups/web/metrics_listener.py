"""Serves the metrics at a separate address, which only Prometheus needs to reach."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.metrics import METRICS_CONTENT_TYPE, samples_of
from evergreen_groups.settings import values
from evergreen_groups.web.overload import BreakerState
from evergreen_groups.web.server import BIND_ERRORS, Server, listening_socket, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from prometheus_client.core import Metric

    from evergreen_groups.metrics import ServiceCounters
    from evergreen_groups.web.service import Service


class ServiceCollector:
    """Collects metrics from the service on request. ``service`` returns the current one."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the collector is registered before the service exists."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        running = self._service()
        retries = sum(gateway.statistics.retries for gateway in running.gateways)
        yield samples_of("gateway_retries_total", [((), retries)])
        last = running.breaker.last_outcome()
        yield samples_of("gateway_answers", [((), last.answered)] if last else [])
        breakers = {"desks": running.breaker, "events": running.events_breaker}
        yield samples_of(
            "breaker_closed",
            [((name,), breaker.state is BreakerState.CLOSED) for name, breaker in breakers.items()],
        )
        caches = running.caches.items()
        yield samples_of("cache_hits_total", [((name,), cache.hits) for name, cache in caches])
        yield samples_of("cache_misses_total", [((name,), cache.misses) for name, cache in caches])


_THREADS = 2
"""One for Prometheus and one for a second client."""
_CLOSING_SECONDS = 2.0


class MetricsListener:
    """Serves only ``/metrics`` at ``address`` while entered. ``url`` says where.

    ``address`` is a host and a port; port 0 picks a free one.

    Raises:
        ConfigurationError: the address can't be used.
    """

    def __init__(self, counters: ServiceCounters, address: str) -> None:
        self._counters = counters
        try:
            listener = listening_socket(*values.host_and_port(address))
        except BIND_ERRORS as refusal:
            raise ConfigurationError(
                "the metrics can't be shown at {address}: {reason}",
                advice="set listen in [metrics] to another address",
                setting="metrics.listen",
                code="metrics-address-unusable",
                values={"address": address, "reason": reason_of(refusal)},
            ) from refusal
        self._server = Server(self._answer, listener, threads=_THREADS)
        self._thread = threading.Thread(target=self._server.run, args=(_CLOSING_SECONDS,), name="metrics", daemon=True)
        self.url = f"{self._server.url}/metrics"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()
        self._thread.join(_CLOSING_SECONDS)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics" or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"The metrics are at /metrics.\n"]
        text = self._counters.exposition()
        start_response("200 OK", [("Content-Type", METRICS_CONTENT_TYPE), ("Content-Length", str(len(text)))])
        return [text]
