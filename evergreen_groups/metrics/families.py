"""Every metric, declared once: its name, what it is, and what tells its series apart.

``docs/monitoring.md`` has this table, and what the service and the nightly run write is made by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_PREFIX = "evergreen_groups_"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, by the name that Prometheus gets it under; ``labels`` tell its series apart.

    ``nightly``: it is also in the file that the nightly run writes.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    nightly: bool = False


FAMILIES = (
    Family(f"{_PREFIX}build_info", "gauge", "1, with the release that runs.", ("version",), nightly=True),
    Family(
        f"{_PREFIX}requests_total",
        "counter",
        "Requests that were answered, by HTTP status; the route is that of the description, without ids and barcodes.",
        ("method", "route", "status"),
    ),
    Family(f"{_PREFIX}request_seconds", "histogram", "How long requests took, in seconds.", ("route",)),
    Family(
        f"{_PREFIX}refusals_total",
        "counter",
        "Requests that were turned away with 429, 503 or 504, by the code of the problem: too many at once, too many "
        "in a minute, the ILS or the database can't be reached.",
        ("code",),
    ),
    Family(
        f"{_PREFIX}gateway_calls_total",
        "counter",
        "Requests to Evergreen's gateway, repeated ones as well: answered; refused by the ILS; failed, without a "
        "usable answer.",
        ("service", "method", "outcome"),
    ),
    Family(
        f"{_PREFIX}gateway_seconds_total",
        "counter",
        "How long those took together, in seconds, waiting for a connection included.",
        ("service", "method"),
    ),
    Family(f"{_PREFIX}gateway_retries_total", "counter", "How many of those were repeats of one that had failed."),
    Family(
        f"{_PREFIX}gateway_answers",
        "gauge",
        "1 where the last request to the gateway was answered, 0 where it wasn't; nothing where there was none yet.",
    ),
    Family(
        f"{_PREFIX}breaker_closed",
        "gauge",
        "1 where requests that need the gateway are let through, 0 while they are refused because it is dead.",
        ("breaker",),
    ),
    Family(f"{_PREFIX}cache_hits_total", "counter", "What was there, and not too old, when it was needed.", ("cache",)),
    Family(f"{_PREFIX}cache_misses_total", "counter", "What had to be read from the ILS.", ("cache",)),
    Family(
        f"{_PREFIX}reloads_total",
        "counter",
        "How often the settings were read anew (SIGHUP): taken, or refused because something in them is wrong.",
        ("outcome",),
    ),
    Family(
        f"{_PREFIX}settings_timestamp_seconds",
        "gauge",
        "When the settings that count were read, in seconds since 1970.",
    ),
    Family(f"{_PREFIX}database_up", "gauge", "1 where the state's database can be used, else 0.", nightly=True),
    Family(
        f"{_PREFIX}journal_open_steps",
        "gauge",
        "Steps of changes that were sent, and of which it isn't known yet what became of them.",
        nightly=True,
    ),
    Family(f"{_PREFIX}outbox_mails", "gauge", "Mails that wait for the mail server.", nightly=True),
    Family(
        f"{_PREFIX}last_run_timestamp_seconds",
        "gauge",
        "When the last nightly run ended, in seconds since 1970.",
        nightly=True,
    ),
    Family(f"{_PREFIX}last_run_seconds", "gauge", "How long it took, in seconds.", nightly=True),
    Family(
        f"{_PREFIX}last_run_outcome",
        "gauge",
        "1 for how it ended, 0 for the others: done, partial (written, but something is missing or wasn't sent), "
        "failed.",
        ("outcome",),
        nightly=True,
    ),
    Family(f"{_PREFIX}last_run_exit_status", "gauge", "Its exit status.", nightly=True),
    Family(
        f"{_PREFIX}last_report_timestamp_seconds",
        "gauge",
        "When a nightly run last wrote a report, in seconds since 1970; a run that fails leaves it as it is.",
        nightly=True,
    ),
    Family(
        f"{_PREFIX}report_timestamp_seconds",
        "gauge",
        "The moment of the data in the last report recorded; the report of [report] has no name.",
        ("report",),
        nightly=True,
    ),
    Family(
        f"{_PREFIX}report_groups",
        "gauge",
        'Groups listed in it with a member at this library or below; the library "*" is all of them.',
        ("report", "library"),
        nightly=True,
    ),
    Family(f"{_PREFIX}report_members", "gauge", "Members of those groups.", ("report", "library"), nightly=True),
    Family(
        f"{_PREFIX}report_combined_fines",
        "gauge",
        "What those groups owe together, in the library's currency; no series if what hidden members owe is unknown. "
        'Groups with members at several libraries count at each: don\'t add up, take "*".',
        ("report", "library"),
        nightly=True,
    ),
)
"""All there are, in the order of the page; beside them Python's client adds ``process_…``, what the process uses."""

_BY_NAME = {one.name.removeprefix(_PREFIX): one for one in FAMILIES}


def family(name: str) -> Family:
    """The one of that name, without what all names begin with.

    Raises:
        LookupError: there is none.
    """
    return _BY_NAME[name]


def as_table() -> str:
    """All of them as a table in Markdown."""
    lines = ["| metric | kind | labels | what it says |", "| --- | --- | --- | --- |"]
    for one in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in one.labels) or "–"
        kind = f"{one.kind}, nightly" if one.nightly else one.kind
        lines.append(f"| `{one.name}` | {kind} | {labels} | {one.help} |")
    return "\n".join(lines) + "\n"
