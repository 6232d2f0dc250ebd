"""The figures of several processes as those of one service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

_SUMS = ("counter", "histogram")
_LEAST = ("breaker_closed", "database_up", "settings_timestamp_seconds", "process_start_time_seconds")
_MOST = ("reloads",)
"""What each process counts alike."""
_SUMS_OF_GAUGES = ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds")


def gathered(parts: Iterable[Iterable[Metric]]) -> list[Metric]:
    """One list of metrics from those of several processes: counts are added up.

    Of gauges, those of the first part count that has them, so give those first that were seen last; whether all is
    well is so only where it is in each, and settings are as old as the oldest.
    """
    found: dict[str, Metric] = {}
    samples: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Sample]] = {}
    for part in parts:
        for metric in part:
            if metric.name not in found:
                found[metric.name] = Metric(metric.name, metric.documentation, metric.type)
            known, together = samples.setdefault(metric.name, {}), _together(metric)
            for sample in metric.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                before = known.get(key)
                known[key] = sample if before is None else sample._replace(value=together(before.value, sample.value))
    for name, metric in found.items():
        metric.samples = list(samples[name].values())
    return list(found.values())


def counts_of(metrics: Iterable[Metric]) -> list[Metric]:
    """What is left of a process that has ended: its counts."""
    return [metric for metric in metrics if metric.type in _SUMS]


def exposition_of(metrics: Iterable[Metric]) -> bytes:
    """Metrics as Prometheus reads them (text, version 0.0.4)."""
    registry = CollectorRegistry()
    registry.register(_Given(metrics))
    return generate_latest(registry)


class _Given:
    """Metrics that are there already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _together(metric: Metric) -> Callable[[float, float], float]:
    """What two values of a metric are together."""
    if metric.name.endswith(_MOST):
        return max
    if metric.type in _SUMS or metric.name in _SUMS_OF_GAUGES:
        return lambda one, other: one + other
    if metric.name.endswith(_LEAST):
        return min
    return lambda first, _other: first
