"""What a run tells monitoring: a health check, and the metrics file."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.message import own_pip
from evergreen_groups.nightly.deadline import Deadline
from evergreen_groups.report import incomplete_since
from evergreen_groups.state import RunOutcome, RunStatus, read_run_status, write_run_status

if TYPE_CHECKING:
    from evergreen_groups.settings import Settings
    from evergreen_groups.state import Transactions

log = logging.getLogger("evergreen_groups.report_run")
_healthcheck_log = logging.getLogger("evergreen_groups.healthcheck")
_HEALTHCHECK_SECONDS = 15.0


def call_url(url: str) -> None:
    """Get the URL of a monitoring service such as healthchecks.io. Failures are only logged.

    The URL is never logged, because anyone who knows it can call it.
    """
    import requests

    seconds = _HEALTHCHECK_SECONDS
    try:
        with (
            Deadline(seconds),
            # The auth does nothing. It keeps requests from using ~/.netrc.
            requests.get(url, timeout=seconds, stream=True, auth=lambda request: request) as response,
        ):
            status = response.status_code
    except Exception as error:  # requests lets some exceptions of http.client through, such as ValueError on a redirect
        _healthcheck_log.warning("the healthcheck could not be called (%s)", type(error).__name__)
        return
    if status >= 400:
        _healthcheck_log.warning("the healthcheck was refused (HTTP status %d)", status)


def write_metrics(settings: Settings, status: RunStatus, transactions: Transactions | None) -> None:
    """Write the metrics file if one is configured. Failures are only logged."""
    if (path := settings.metrics.textfile) is None:
        return
    try:
        from evergreen_groups.metrics import write_textfile

        write_textfile(path, status, transactions)
    except ModuleNotFoundError:
        log.warning("the metrics are not written: %s install 'evergreen-groups[metrics]'", own_pip())
    except EvergreenGroupsError as error:
        log.warning("the metrics are not written: %s", error)


def note_sent(transactions: Transactions) -> RunStatus | None:
    """Note that the mails of the last scheduled run have been sent, if they waited. Return the corrected status."""
    last = read_run_status(transactions)
    if last is None or last.exit_code != exit_status.UNSENT:
        return None
    code = exit_status.INCOMPLETE if incomplete_since(transactions, last.started) else exit_status.DONE
    sent = replace(last, exit_code=code, outcome=RunOutcome.PARTIAL if code else RunOutcome.DONE)
    write_run_status(transactions, sent)
    return sent
