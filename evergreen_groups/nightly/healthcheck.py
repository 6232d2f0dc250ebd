"""Reports the end of a run to a monitoring service such as healthchecks.io, by calling a URL."""

from __future__ import annotations

import logging

import requests

from evergreen_groups.nightly.run import Deadline

log = logging.getLogger("evergreen_groups.healthcheck")

_SECONDS = 15.0


def call(url: str, *, succeeded: bool) -> None:
    """Get ``url``, or ``url/fail`` if the run did not succeed. Failures are only logged.

    The URL is never logged, because anyone who knows it can call it.
    """
    try:
        with (
            Deadline(_SECONDS),
            requests.get(
                url if succeeded else f"{url}/fail", timeout=_SECONDS, stream=True, auth=lambda request: request
            ) as response,  # the no-op auth keeps requests from using ~/.netrc
        ):
            status = response.status_code
    except Exception as error:  # requests lets some exceptions of http.client through, such as ValueError on a redirect
        log.warning("the healthcheck could not be called (%s)", type(error).__name__)
        return
    if status >= 400:
        log.warning("the healthcheck was refused (HTTP status %d)", status)
