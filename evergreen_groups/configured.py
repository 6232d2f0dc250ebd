"""Build the gateway and the state that the configuration describes."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.plugins import Plugins
from evergreen_groups.settings import Settings, passwords
from evergreen_groups.settings import reading as load
from evergreen_groups.state import State, find_state_directory

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, RetryPolicy
    from evergreen_groups.settings import ServeSettings


def connect(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    retries: RetryPolicy | None = None,
    anonymous: bool = False,
    any_release: bool = False,
) -> Gateway:
    """Create the gateway described in ``[gateway]``, without connecting to it.

    ``anonymous`` creates a gateway without a login. ``any_release`` allows calls to an Evergreen older than the
    supported releases.

    Raises:
        ConfigurationError: the address or the account is missing, or the password can't be read.
    """
    from evergreen_groups.gateway import Credentials, Gateway  # slow to import, and commands on the state don't need it

    chosen = settings.gateway
    url, credentials = gateway_url(settings), None
    if not anonymous:
        username, password = gateway_account(settings), passwords.password(chosen, environ)
        credentials = Credentials(username=username, password=password, workstation=chosen.workstation)
    return Gateway(
        url,
        credentials=credentials,
        locale=chosen.locale,
        timeout=chosen.timeout,
        concurrency=chosen.concurrency,
        ca_bundle=chosen.ca_bundle,
        allow_plain_http=chosen.allow_plain_http,
        retries=retries,
        only_supported=not any_release,
    )


def configured_state(settings: Settings, environ: Mapping[str, str], directory: Path | None = None) -> State:
    """Create the state described in ``[state]``, without opening it, and with the plug-ins of ``[plugins]``.

    ``directory`` is the state directory, by default ``$STATE_DIRECTORY`` or the user's.

    Raises:
        ConfigurationError: the database's password can't be read.
    """
    chosen = settings.state
    password = passwords.secret(chosen, environ) if chosen.database else None
    directory = directory or find_state_directory(environ)
    return State(directory, chosen.database, password, configured_plugins(settings))


def configured_plugins(settings: Settings) -> Plugins:
    """Create the plug-ins described in ``[plugins]``, without loading them."""
    return Plugins(settings.plugins.enabled, settings.plugins.timeout)


def gateway_account(settings: Settings) -> str:
    """Return the account's name at the gateway. Raise ConfigurationError if it or the address is missing."""
    gateway_url(settings)
    if settings.gateway.username is None:
        raise _not_set("username", settings)
    return settings.gateway.username


def gateway_url(settings: Settings) -> str:
    """Return the gateway's address. Raise ConfigurationError if it is missing."""
    if settings.gateway.url is None:
        raise _not_set("url", settings)
    return settings.gateway.url


def _not_set(name: str, settings: Settings) -> ConfigurationError:
    """Build the error for a missing setting. If there is no configuration at all, it points to ``init``."""
    if settings.source is None and settings.gateway.url is None:
        return ConfigurationError(
            "no configuration found",
            advice="run `evergreen-groups init`, name a file with --config, or try --sandbox",
            setting=f"gateway.{name}",
            code="no-configuration",
        )
    return ConfigurationError(
        "[gateway] {name} isn't set",
        advice="set it in {file}, or try --sandbox",
        setting=f"gateway.{name}",
        code="gateway-not-set",
        values={"name": name, "file": settings.source or load.SYSTEM_FILE.name},
    )


def listen_address(serve: ServeSettings) -> str:
    """Return the address of ``[serve]`` with its port. A host name is looked up, because systemd accepts none."""
    host = serve.host
    with suppress(OSError, ValueError):  # systemd names an address that can't be used
        host = str(socket.getaddrinfo(host, serve.port, type=socket.SOCK_STREAM)[0][4][0])
    return f"[{host}]:{serve.port}" if ":" in host else f"{host}:{serve.port}"
