"""Samples of a declared metric, made when somebody looks."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from evergreen_groups.metrics.families import family

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric


def samples_of(name: str, samples: Iterable[tuple[tuple[str, ...], float | Decimal]]) -> Metric:
    """The metric of that name with these values, each behind the values of its labels.

    An amount becomes the float that is nearest to it, here and nowhere before: sums are made of Decimal. Up to
    10,000,000,000,000.00 that float is written as the very amount.
    """
    wanted = family(name)
    kind = CounterMetricFamily if wanted.kind == "counter" else GaugeMetricFamily
    metric = kind(wanted.name, wanted.help, labels=wanted.labels)
    for labels, value in samples:
        metric.add_metric(labels, float(value))
    return metric
