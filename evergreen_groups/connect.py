"""What the configuration names, made from it: the gateway, and where state is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message
from evergreen_groups.settings import Settings, passwords
from evergreen_groups.state import State, find_state_directory

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, RetryPolicy


def connect(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    retries: RetryPolicy | None = None,
    cached: bool = True,
    anonymous: bool = False,
    any_release: bool = False,
) -> Gateway:
    """Make the gateway that ``[gateway]`` describes; nothing is asked of it yet.

    ``cached`` takes the IDL from the disk where it hasn't changed on the server; ``anonymous`` does without a login.
    ``any_release`` asks also an Evergreen that is too old for anything else than to be looked at.

    Raises:
        ConfigurationError: the address or the account is missing, or the password can't be had.
    """
    from evergreen_groups.gateway import Credentials, Gateway  # whoever only looks at the state needs none

    chosen = settings.gateway
    url, credentials = gateway_url(settings), None
    if not anonymous:
        _url, username = named(settings)
        password = passwords.password(chosen, environ)
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
        cache_directory=_cache_directory(environ) if cached else None,
        only_supported=not any_release,
    )


def configured_state(settings: Settings, environ: Mapping[str, str], directory: Path | None = None) -> State:
    """Where ``[state]`` has everything kept; nothing is opened yet.

    ``directory`` is the state directory (``$STATE_DIRECTORY`` or the user's own unless given).

    Raises:
        ConfigurationError: the database's password can't be read.
    """
    chosen = settings.state
    password = passwords.database_password(chosen, environ) if chosen.database else None
    directory = directory or find_state_directory(environ)
    return State(directory, chosen.database, password)


def named(settings: Settings) -> tuple[str, str]:
    """The gateway's address and the account's name.

    Raises:
        ConfigurationError: one of them is missing.
    """
    url, username = gateway_url(settings), settings.gateway.username
    if username is None:
        raise _not_set("username", settings)
    return url, username


def gateway_url(settings: Settings) -> str:
    """The gateway's address.

    Raises:
        ConfigurationError: it is missing.
    """
    if settings.gateway.url is None:
        raise _not_set("url", settings)
    return settings.gateway.url


def _not_set(name: str, settings: Settings) -> ConfigurationError:
    """That the gateway isn't named: whoever has no configuration at all is led to ``init`` first."""
    if settings.source is None and settings.gateway.url is None:
        return ConfigurationError(
            "no gateway",
            advice="make a configuration with evergreen-groups init, name one with --config, or try --sandbox",
            setting=f"gateway.{name}",
            code="no-configuration",
        )
    return ConfigurationError(
        "no gateway",
        advice="set {name} in section [gateway] of {file} (`evergreen-groups config example` shows how), or try "
        "--sandbox",
        setting=f"gateway.{name}",
        code="gateway-not-set",
        values={"name": name, "file": settings.source or Message("a configuration file")},
    )


def _cache_directory(environ: Mapping[str, str]) -> Path | None:
    """Where the gateway's IDL is kept between runs: systemd's directory, or the user's own."""
    if environ.get("CACHE_DIRECTORY"):
        return Path(environ["CACHE_DIRECTORY"].split(":")[0])
    home = environ.get("HOME")
    base = environ.get("XDG_CACHE_HOME") or (Path(home) / ".cache" if home else None)
    return Path(base) / "evergreen-groups" if base else None
