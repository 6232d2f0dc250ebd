"""Reports the end of a run to a monitoring service, as healthchecks.io and its like want it: by calling an address."""

from __future__ import annotations

import logging

import requests

from evergreen_groups.nightly.run import Deadline

log = logging.getLogger("evergreen_groups.healthcheck")

_SECONDS = 15.0


def call(url: str, *, well: bool) -> None:
    """Get ``url``, or ``url/fail`` after a run that did not end ``well``. What goes wrong is only a warning.

    Who knows the address can call it, so it is never logged.
    """
    try:
        with (
            Deadline(_SECONDS),
            requests.get(
                url if well else f"{url}/fail", timeout=_SECONDS, stream=True, auth=lambda request: request
            ) as response,  # with auth, nothing is taken from ~/.netrc
        ):
            status = response.status_code
    except Exception as error:  # requests lets some of http.client's own through, as ValueError after a redirect
        log.warning("the healthcheck could not be called (%s)", type(error).__name__)
        return
    if status >= 400:
        log.warning("the healthcheck was refused (HTTP status %d)", status)
