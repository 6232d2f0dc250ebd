"""What the service counts while it works: requests, refusals, calls to the gateway, reloads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from evergreen_groups import __version__
from evergreen_groups.metrics.families import family

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds; a request may take ten


class ServiceCounters:
    """The counts of one process, for as long as it runs; a reload of the settings doesn't touch them.

    Safe to share between threads. A count takes a few microseconds. :meth:`add` has others tell what they know
    when somebody looks.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each series began doubles them all, and Prometheus makes no use of it
        self._registry = registry = CollectorRegistry()
        self._requests = _counter("requests_total", registry)
        seconds = family("request_seconds")
        self._seconds = Histogram(seconds.name, seconds.help, seconds.labels, registry=registry, buckets=_BUCKETS)
        self._refusals = _counter("refusals_total", registry)
        self._calls = _counter("gateway_calls_total", registry)
        self._call_seconds = _counter("gateway_seconds_total", registry)
        self._reloads = _counter("reloads_total", registry)
        read = family("settings_timestamp_seconds")
        self._settings_read = Gauge(read.name, read.help, registry=registry)
        self._settings_read.set(time.time())
        build = family("build_info")
        Gauge(build.name, build.help, build.labels, registry=registry).labels(__version__).set(1)
        ProcessCollector(registry=registry)
        self._gather: Callable[[], bytes] | None = None

    def add(self, collector: Collector) -> None:
        """Have this one tell as well what it knows, whenever somebody looks."""
        self._registry.register(collector)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered; ``route`` has names in place of ids and barcodes."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refusal(self, code: str) -> None:
        """Count a request that was turned away."""
        self._refusals.labels(code).inc()

    def call(self, service: str, method: str, seconds: float, outcome: str) -> None:
        """Count a request to the gateway."""
        self._calls.labels(service, method, outcome).inc()
        self._call_seconds.labels(service, method).inc(seconds)

    def reload(self, *, taken: bool) -> None:
        """Count that the settings were read anew."""
        self._reloads.labels("taken" if taken else "refused").inc()
        if taken:
            self._settings_read.set(time.time())

    def gathered_by(self, gather: Callable[[], bytes]) -> None:
        """Have :meth:`exposition` be what this gives: the figures of all processes that serve together."""
        self._gather = gather

    def figures(self) -> list[Metric]:
        """What this process has counted, and what others tell it."""
        return list(self._registry.collect())

    def exposition(self) -> bytes:
        """All of it as Prometheus reads it (text, version 0.0.4)."""
        return generate_latest(self._registry) if self._gather is None else self._gather()


def _counter(name: str, registry: CollectorRegistry) -> Counter:
    wanted = family(name)
    return Counter(wanted.name, wanted.help, wanted.labels, registry=registry)
