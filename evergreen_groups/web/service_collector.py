"""What the service knows of itself without counting: its breakers, its caches, requests to the gateway repeated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.metrics import samples_of
from evergreen_groups.web.overload import BreakerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from evergreen_groups.web.service import Service


class ServiceCollector:
    """Looks at the service when somebody asks; ``service`` gives the one at work."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Nothing: it is made before there is a service to look at."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What it knows now."""
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
