"""The service's gateways: that of the desks, who come with sessions of their own, and that of the events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.connect import gateway_url
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway import Credentials, Gateway, RetryPolicy
from evergreen_groups.settings import passwords
from evergreen_groups.state import find_cache_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evergreen_groups.gateway import CallObserver
    from evergreen_groups.settings import Settings

# Somebody stands at the desk: better no figures within a few seconds than figures after a minute. A nightly run has
# more of all of these.
_CONNECT_SECONDS = 3.0
_GRACE_SECONDS = 1.0
EVENTS_AT_ONCE = 3  # what Evergreen sends at once unless configured otherwise (opensrf.xml, open-ils.trigger: parallel)
# One repeat, for a connection that had just been closed or a service that was just reloaded.
_RETRIES = RetryPolicy(tries=2, first_delay=0.2, longest_delay=0.5)


def for_desks(settings: Settings, environ: Mapping[str, str], on_call: CallObserver) -> Gateway:
    """The one that each request asks with a session of its own.

    Raises:
        ConfigurationError: no gateway is configured.
    """
    return _made(
        settings, environ, on_call, timeout=settings.serve.timeout, concurrency=settings.serve.threads, credentials=None
    )


def for_events(settings: Settings, environ: Mapping[str, str], on_call: CallObserver) -> Gateway:
    """The service account's, for events alone: nothing is read on somebody's behalf with it.

    Raises:
        ConfigurationError: no gateway is configured, no account, or its password can't be had.
    """
    account = settings.gateway
    if account.username is None:
        raise ConfigurationError(
            "events are taken with a service account",
            advice="set username in section [gateway]",
            setting="gateway.username",
            code="events-without-account",
        )
    password = passwords.password(account, environ)
    credentials = Credentials(username=account.username, password=password, workstation=account.workstation)
    return _made(
        settings,
        environ,
        on_call,
        timeout=settings.events.deadline,
        concurrency=EVENTS_AT_ONCE,
        credentials=credentials,
    )


def _made(
    settings: Settings,
    environ: Mapping[str, str],
    on_call: CallObserver,
    *,
    timeout: float,
    concurrency: int,
    credentials: Credentials | None,
) -> Gateway:
    chosen = settings.gateway
    return Gateway(
        gateway_url(settings),
        credentials=credentials,
        locale=chosen.locale,
        timeout=timeout,
        grace=_GRACE_SECONDS,
        connect_timeout=min(_CONNECT_SECONDS, timeout),
        concurrency=concurrency,
        # Apache has a process for each connection, few to spare, and makes a new one each second. One that is kept
        # occupies its process for 3 s: 1 s of keep-alive, then 2 s in which Apache waits for us to close. So the
        # ninth of a page's first calls waited for 3.0 s, and the client's own calls behind it.
        keep_alive=False,
        ca_bundle=chosen.ca_bundle,
        allow_plain_http=chosen.allow_plain_http,
        retries=_RETRIES,
        cache_directory=find_cache_directory(environ),
        on_call=on_call,
        only_supported=True,
    )
