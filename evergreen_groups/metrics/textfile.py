"""The figures of a nightly run in a file, from which node_exporter's textfile collector takes them."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from evergreen_groups import __version__
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.metrics.families import family
from evergreen_groups.metrics.gathered import exposition_of
from evergreen_groups.metrics.samples import samples_of
from evergreen_groups.metrics.state_collector import figures, last_written, of_the_run
from evergreen_groups.state import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.core import Metric

    from evergreen_groups.state import RunStatus, Transactions

_MODE = 0o644
_WRITTEN = "last_report_timestamp_seconds"


def write_textfile(path: Path, status: RunStatus, transactions: Transactions | None) -> None:
    """Write what a run found and how it ended, whole or not at all; everybody may read it, for nothing is a patron's.

    A database that can't be used (or None, where it is none at all) leaves out what is in it. When a report was last
    written then stays as the file had it before.

    Raises:
        ConfigurationError: the file can't be written.
    """
    found = _found(path, status, transactions)
    text = exposition_of(found).decode()
    with write_atomically(path) as stream:
        os.fchmod(stream.fileno(), _MODE)
        stream.write(text)


def _found(path: Path, status: RunStatus, transactions: Transactions | None) -> list[Metric]:
    found = [samples_of("build_info", [((__version__,), 1)])]
    if transactions is not None:
        with suppress(EvergreenGroupsError):
            found += figures(transactions, status)
            return [*found, samples_of("database_up", [((), 1)])]
    found += [*of_the_run(status), samples_of("database_up", [((), 0)])]
    written = last_written(status)
    moment = _written_before(path) if written is None else written.timestamp()
    return found if moment is None else [*found, samples_of(_WRITTEN, [((), moment)])]


def _written_before(path: Path) -> float | None:
    """When a report was last written, by the file as it is; None where it doesn't say."""
    name = family(_WRITTEN).name
    with suppress(OSError, ValueError):
        for metric in text_string_to_metric_families(path.read_text("utf-8")):
            for sample in metric.samples:
                if sample.name == name:
                    return float(sample.value)
    return None
