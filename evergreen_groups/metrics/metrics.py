"""All metrics, each declared once, with the code that counts them, reads them from the database, and writes them.

``docs/http-reference.md`` has a table of :data:`FAMILIES`, which ``nox -s docs`` writes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select

from evergreen_groups import __version__
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.report import history
from evergreen_groups.state import RunOutcome, RunStatus, read_run_status, schema, write_atomically

if TYPE_CHECKING:
    from datetime import datetime

    from prometheus_client.registry import Collector

    from evergreen_groups.report import RunTotals
    from evergreen_groups.state import Transactions

_PREFIX = "evergreen_groups_"


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of a metric: its full name, help text and labels.

    ``nightly`` says that the nightly run's text file has it, too.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    nightly: bool = False

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        """The kind, which the name says: only request durations are a histogram."""
        if self.name.endswith("_request_seconds"):
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


def _service(name: str, help: str, labels: str = "") -> Family:
    return Family(f"{_PREFIX}{name}", help, tuple(labels.split()))


def _nightly(name: str, help: str, labels: str = "") -> Family:
    return replace(_service(name, help, labels), nightly=True)


FAMILIES = (
    _nightly("build_info", "1, with the running version.", "version"),
    _service(
        "requests_total",
        "Requests that were answered, by HTTP status. The route has placeholders for ids and barcodes.",
        "method route status",
    ),
    _service("request_seconds", "How long requests took, in seconds.", "route"),
    _service(
        "refusals_total",
        "Requests that were refused with 429, 503 or 504, by the code of the problem: too many at once, too many in a "
        "minute, or Evergreen or the database can't be reached.",
        "code",
    ),
    _service(
        "gateway_calls_total",
        "Requests to Evergreen's gateway, including retries: answered, refused by Evergreen, or failed without a "
        "usable answer.",
        "service method outcome",
    ),
    _service(
        "gateway_seconds_total",
        "How long these requests took together, in seconds, including the wait for a connection.",
        "service method",
    ),
    _service("gateway_retries_total", "How many of these requests were retries."),
    _service(
        "gateway_answers",
        "1 if the last request to the gateway was answered, 0 if it wasn't. Missing before the first request.",
    ),
    _service(
        "breaker_closed",
        "1 while the service accepts requests that need the gateway, 0 while it refuses them after failures.",
        "breaker",
    ),
    _service("cache_hits_total", "Values that were in the cache and recent enough.", "cache"),
    _service("cache_misses_total", "Values that had to be read from Evergreen.", "cache"),
    _service("settings_timestamp_seconds", "When the current settings were read, in seconds since 1970."),
    _nightly("database_up", "1 if the program's database can be used, 0 if not."),
    _nightly("journal_open_steps", "Steps of changes that were sent and whose outcome isn't known yet."),
    _nightly("outbox_mails", "Mails that wait for the mail server, or are held since a restore."),
    _nightly("last_run_timestamp_seconds", "When the last nightly run ended, in seconds since 1970."),
    _nightly("last_run_seconds", "How long the last nightly run took, in seconds."),
    _nightly(
        "last_run_outcome",
        "1 for the outcome of the last nightly run, 0 for the others: done, partial (written, but something is "
        "missing or wasn't sent), failed.",
        "outcome",
    ),
    _nightly("last_run_exit_status", "The exit status of the last nightly run."),
    _nightly(
        "last_report_timestamp_seconds",
        "When a nightly run last wrote a report, in seconds since 1970. A failed run doesn't change it.",
    ),
    _nightly(
        "report_timestamp_seconds",
        "When the last recorded report read its data, in seconds since 1970. The report of [report] has no name.",
        "report",
    ),
    _nightly(
        "report_groups",
        'Groups in that report with a member at this library or below. The library "*" has all groups.',
        "report library",
    ),
    _nightly("report_members", "Members of those groups.", "report library"),
    _nightly(
        "report_group_fines",
        "What those groups owe together, in the library's currency. Missing if what hidden members owe is unknown. "
        'Groups with members at several libraries count at each, so don\'t add the libraries up: use "*".',
        "report library",
    ),
)
"""All metrics, in the order of the page. Python's Prometheus client adds ``process_…`` for the process's resources."""

_BY_NAME = {family.name.removeprefix(_PREFIX): family for family in FAMILIES}


def samples_of(name: str, samples: Iterable[tuple[tuple[str, ...], float | Decimal]]) -> Metric:
    """Build a metric from pairs of label values and value.

    Amounts are converted to float only here, after all additions. Up to 10,000,000,000,000.00, Prometheus shows the
    exact amount.
    """
    wanted = _BY_NAME[name]
    kind = CounterMetricFamily if wanted.kind == "counter" else GaugeMetricFamily
    metric = kind(wanted.name, wanted.help, labels=wanted.labels)
    for labels, value in samples:
        metric.add_metric(labels, float(value))
    return metric


METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds; a request may take ten


class ServiceCounters:
    """The counters of one process. Thread-safe; counting takes microseconds."""

    def __init__(self) -> None:
        # Creation times would double the number of series, and Prometheus doesn't use them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        # Looking a series up takes the client longer than counting, so each is looked up once.
        self._requests = cache(_counter("requests_total", registry).labels)
        seconds = _BY_NAME["request_seconds"]
        durations = Histogram(seconds.name, seconds.help, seconds.labels, registry=registry, buckets=_BUCKETS)
        self._seconds = cache(durations.labels)
        self._refusals = _counter("refusals_total", registry)
        self._calls = cache(_counter("gateway_calls_total", registry).labels)
        self._call_seconds = cache(_counter("gateway_seconds_total", registry).labels)
        read = _BY_NAME["settings_timestamp_seconds"]
        Gauge(read.name, read.help, registry=registry).set(time.time())
        build = _BY_NAME["build_info"]
        Gauge(build.name, build.help, build.labels, registry=registry).labels(__version__).set(1)
        ProcessCollector(registry=registry)

    def add(self, collector: Collector) -> None:
        self._registry.register(collector)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered. ``route`` has placeholders for ids and barcodes."""
        self._requests(method, route, str(status)).inc()
        self._seconds(route).observe(seconds)

    def refusal(self, code: str) -> None:
        self._refusals.labels(code).inc()

    def call(self, service: str, method: str, seconds: float, outcome: str) -> None:
        self._calls(service, method, outcome).inc()
        self._call_seconds(service, method).inc(seconds)

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus's text format, version 0.0.4."""
        return generate_latest(self._registry)


def _counter(name: str, registry: CollectorRegistry) -> Counter:
    wanted = _BY_NAME[name]
    return Counter(wanted.name, wanted.help, wanted.labels, registry=registry)


ALL_LIBRARIES = "*"
"""The library label of sums over all libraries."""

FRESH_SECONDS = 5.0
"""How long values from the database are cached, to limit queries however often metrics are scraped."""
PAUSE_SECONDS = 30.0
"""How long to wait before trying an unavailable database again, because a failed attempt may take seconds."""


class StateCollector:
    """Reads metrics from the database at each scrape. Thread-safe.

    If the database can't be used, only ``database_up`` is reported, as 0.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._lock = threading.Lock()
        self._read: tuple[Metric, ...] = ()
        self._until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Return nothing. Without this method, registering the collector would read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        with self._lock:  # simultaneous scrapes share one query
            if time.monotonic() >= self._until:
                seconds = FRESH_SECONDS
                try:
                    self._read = (*figures(self._transactions), samples_of("database_up", [((), 1)]))
                except EvergreenGroupsError:
                    seconds, self._read = PAUSE_SECONDS, (samples_of("database_up", [((), 0)]),)
                self._until = time.monotonic() + seconds
            read = self._read
        yield from read


def figures(transactions: Transactions, status: RunStatus | None = None) -> list[Metric]:
    """Return the metrics in the database. ``status`` is the last run's outcome, read from the database if None."""
    status = status or read_run_status(transactions)
    totals = history.latest_totals(transactions)
    found = list(_run_metrics(status)) if status else []
    if written := _last_written(status, totals):
        found.append(samples_of("last_report_timestamp_seconds", [((), written.timestamp())]))
    found += _report_metrics(totals)
    if transactions.is_there:
        with transactions.reading() as connection:
            waiting = select(func.count()).select_from(schema.steps).where(schema.steps.c.state == "sending")
            steps = connection.execute(waiting).scalar_one()
            mails = connection.execute(select(func.count()).select_from(schema.mails)).scalar_one()
        found += [samples_of("journal_open_steps", [((), steps)]), samples_of("outbox_mails", [((), mails)])]
    return found


def _last_written(
    status: RunStatus | None, totals: Mapping[str, Mapping[str, RunTotals]] | None = None
) -> datetime | None:
    """Return when a report was last written, or None if unknown. A failed run leaves the previous report in place."""
    if status is not None and status.outcome is not RunOutcome.FAILED:
        return status.finished
    return max((found[""].at for found in (totals or {}).values()), default=None)


def _run_metrics(status: RunStatus) -> Iterator[Metric]:
    yield samples_of("last_run_timestamp_seconds", [((), status.finished.timestamp())])
    yield samples_of("last_run_seconds", [((), status.seconds)])
    outcomes = [((outcome.value,), float(outcome is status.outcome)) for outcome in RunOutcome]
    yield samples_of("last_run_outcome", outcomes)
    yield samples_of("last_run_exit_status", [((), status.exit_code)])


def _report_metrics(totals: Mapping[str, Mapping[str, RunTotals]]) -> Iterator[Metric]:
    yield samples_of(
        "report_timestamp_seconds", [((name,), found[""].at.timestamp()) for name, found in totals.items()]
    )
    rows = [
        ((name, library or ALL_LIBRARIES), sums) for name, found in totals.items() for library, sums in found.items()
    ]
    yield samples_of("report_groups", [(labels, sums.group_count) for labels, sums in rows])
    yield samples_of("report_members", [(labels, sums.member_count) for labels, sums in rows])
    fines = [(labels, sums.group_fines) for labels, sums in rows if sums.group_fines is not None]
    yield samples_of("report_group_fines", fines)


_MODE = 0o644  # readable by the node exporter; the file has no patron data
_LAST_REPORT = "last_report_timestamp_seconds"


def write_textfile(path: Path, status: RunStatus, transactions: Transactions | None) -> None:
    """Write a run's outcome and the database's metrics atomically to a text file for Prometheus's node exporter.

    If the database can't be used (None: there is none), its metrics are left out, and the time of the last report is
    copied from the previous file.
    """
    try:
        of_database = None if transactions is None else figures(transactions, status)
    except EvergreenGroupsError:
        of_database = None
    found = [samples_of("build_info", [((__version__,), 1)]), *(of_database or _run_metrics(status))]
    found.append(samples_of("database_up", [((), of_database is not None)]))
    if of_database is None:
        written = _last_written(status)
        timestamp = _previous_last_report(path) if written is None else written.timestamp()
        if timestamp is not None:
            found.append(samples_of(_LAST_REPORT, [((), timestamp)]))
    metrics = SimpleNamespace(collect=lambda: found)
    text = generate_latest(cast(CollectorRegistry, metrics)).decode()  # it only calls collect
    with write_atomically(path) as stream:
        os.fchmod(stream.fileno(), _MODE)
        stream.write(text)


def _previous_last_report(path: Path) -> float | None:
    """Return the time of the last report according to the previous file, or None."""
    name = _BY_NAME[_LAST_REPORT].name
    with suppress(OSError, ValueError):
        for metric in text_string_to_metric_families(path.read_text("utf-8")):
            for sample in metric.samples:
                if sample.name == name:
                    return float(sample.value)
    return None
