"""What is looked at: the settings, the gateway and the account, each asked for when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from evergreen_groups.connect import configured_state, connect
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway import TOKEN, Address, Capabilities, Gateway, Record, RetryPolicy
from evergreen_groups.ils import VIEW_USER, OrgUnits, held_at
from evergreen_groups.settings import Reading, Settings, load, passwords
from evergreen_groups.state import State, find_state_directory

TIMEOUT = 20
"""How many seconds a call may take here: who looks is waiting. The jobs themselves wait as long as is configured."""
_TWICE = RetryPolicy(tries=2)


class Subject:
    """One installation: a configuration file (None: the one that counts) and an environment.

    ``settings`` are put in place of the file's. ``changes`` says that the account is also to change groups. Close it,
    or use it in a ``with`` statement: it logs out.
    """

    def __init__(
        self,
        config_file: Path | None,
        environ: Mapping[str, str],
        *,
        settings: Settings | None = None,
        changes: bool = False,
    ) -> None:
        self.config_file = config_file
        self.environ = environ
        self.changes = changes
        self._settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log out and close what was opened."""
        for opened in ("gateway", "state"):
            if opened in self.__dict__:
                getattr(self, opened).close()

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError where they can't be read."""
        return self._settings or self.reading.settings

    @cached_property
    def reading(self) -> Reading:
        """What the configuration says, with everything that is wrong with it; nothing, where settings were given."""
        if self._settings is not None:
            return Reading(self._settings.source, None, {}, type(self._settings))
        return load.read(self.config_file, self.environ)

    @property
    def url(self) -> str | None:
        """The configured address, None where there is none or the settings can't be read."""
        try:
            return self.settings.gateway.url
        except ConfigurationError:
            return None

    @cached_property
    def address(self) -> Address:
        """The configured address, taken apart."""
        return Address.parse(self.settings.gateway.url or "")

    @property
    def state_directory(self) -> Path:
        """The directory where state is kept."""
        return find_state_directory(self.environ)

    @cached_property
    def state(self) -> State:
        """What is kept; nothing is opened yet."""
        return configured_state(self.settings, self.environ)

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway, asked with a short timeout. Its IDL is not taken from the disk.

        Without a password, what needs no login can be asked all the same.
        """
        gateway = self.settings.gateway
        hurried = replace(self.settings, gateway=replace(gateway, timeout=min(gateway.timeout, TIMEOUT)))
        anonymous = self.serves_only or not self._has_password
        return connect(hurried, self.environ, retries=_TWICE, cached=False, anonymous=anonymous, any_release=True)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the server can do; asked without a login."""
        return self.gateway.capabilities()

    @property
    def known_capabilities(self) -> Capabilities | None:
        """The same where it has been asked."""
        return self.__dict__.get("capabilities")

    @cached_property
    def serves_only(self) -> bool:
        """Whether this is for the web service without events: it needs no account, and nothing here is for one."""
        try:
            settings, environ = self.settings, self.environ
            is_without = settings.gateway.username is None and settings.gateway.password_file is None
            nobody_to_mail = not (settings.mail.recipients or settings.reports)
            return (
                settings.gateway.url is not None
                and is_without
                and nobody_to_mail
                and not self._has_password
                and passwords.events_secret(settings.events, environ) is None
            )
        except ConfigurationError:  # which is found elsewhere
            return False

    @property
    def _has_password(self) -> bool:
        try:
            return bool(passwords.password(self.settings.gateway, self.environ))
        except ConfigurationError:
            return False

    @cached_property
    def org_units(self) -> OrgUnits:
        """The org units."""
        return OrgUnits.read(self.gateway)

    @cached_property
    def visible_orgs(self) -> frozenset[int]:
        """The ids of the org units whose patrons the account sees."""
        return held_at(self.gateway, self.org_units, [VIEW_USER])[VIEW_USER]

    @cached_property
    def user(self) -> Record:
        """The account's own record, as its session has it (``au``)."""
        record = self.gateway.decode(self.gateway.call("open-ils.auth", "open-ils.auth.session.retrieve", TOKEN).value)
        if not isinstance(record, Record):
            raise TypeError("a session without an account")
        return record

    @property
    def work_org(self) -> int:
        """The id of the org unit that the account works at: the workstation's, or its home library."""
        return int(self.user.ws_ou or self.user.home_ou)
