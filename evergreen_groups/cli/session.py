"""What every command shares: the settings, and a gateway made from them or from the sandbox."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from evergreen_groups import config, state
from evergreen_groups.errors import ConfigurationError

if TYPE_CHECKING:
    from evergreen_groups.client import Client
    from evergreen_groups.gateway import Gateway


@dataclass(frozen=True)
class Session:
    """One run of the command, with the global options it was given."""

    config_file: Path | None
    use_sandbox: bool
    quiet: bool

    @cached_property
    def settings(self) -> config.Settings:
        """The settings, read when they are first needed."""
        return config.load(self.config_file, os.environ)

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """A gateway that is logged out and closed at the end."""
        with self._sandbox() if self.use_sandbox else self._configured() as (gateway, _account):
            yield gateway

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The jobs at that gateway, with the configured limits; the sandbox has a journal that ends with it."""
        from evergreen_groups.client import Client

        policy = self.settings.policy
        if not self.use_sandbox:
            with self._configured() as (gateway, account):
                yield Client(gateway, account=account, policy=policy)
            return
        with TemporaryDirectory(prefix="evergreen-groups-") as directory, self._sandbox() as (gateway, account):
            yield Client(gateway, account=account, policy=policy, state_directory=Path(directory))

    @contextmanager
    def _configured(self) -> Iterator[tuple[Gateway, str]]:
        """The gateway of the configuration, and the account's name."""
        from evergreen_groups.gateway import Credentials, Gateway

        settings = self.settings.gateway
        if settings.url is None or settings.username is None:
            missing = "url" if settings.url is None else "username"
            raise ConfigurationError(
                f"no gateway: set {missing} in section [gateway] of {self.settings.source or 'a configuration file'} "
                "(config/evergreen-groups.toml is an example), or try --sandbox"
            )
        credentials = Credentials(
            username=settings.username,
            password=config.password(settings, os.environ),
            workstation=settings.workstation,
        )
        with Gateway(
            settings.url,
            credentials=credentials,
            locale=settings.locale,
            timeout=settings.timeout,
            concurrency=settings.concurrency,
            ca_bundle=settings.ca_bundle,
            allow_plain_http=settings.allow_plain_http,
            cache_directory=state.cache_directory(os.environ),
        ) as gateway:
            yield gateway, settings.username

    @contextmanager
    def _sandbox(self) -> Iterator[tuple[Gateway, str]]:
        """A gateway of an embedded sandbox, and the account's name."""
        from evergreen_groups.gateway import Credentials, Gateway
        from evergreen_groups.sandbox import Sandbox

        with Sandbox() as sandbox:
            username, password = sandbox.report_account
            credentials = Credentials(username=username, password=password)
            with Gateway(sandbox.url, credentials=credentials) as gateway:
                yield gateway, username
