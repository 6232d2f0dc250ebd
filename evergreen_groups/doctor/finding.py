"""The results of checks, and the installation that is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from evergreen_groups.configured import configured_state, connect
from evergreen_groups.errors import (
    ConfigurationError,
    CutOffError,
    DataError,
    EvergreenGroupsError,
    GatewayError,
    HTTPStatusError,
    LoginRefusedError,
    MailServerError,
    NotJSONError,
    PermissionDeniedError,
    TransportError,
    UnreachableError,
)
from evergreen_groups.gateway import Address, Capabilities, Gateway, Record, RetryPolicy
from evergreen_groups.ils import VIEW_USER, OrgUnits, permissions
from evergreen_groups.message import Message, system_reason
from evergreen_groups.settings import Reading, Settings, passwords
from evergreen_groups.settings import reading as load

if TYPE_CHECKING:
    from evergreen_groups.state import State

_ADDRESS_ERRORS = (UnreachableError, HTTPStatusError, NotJSONError, CutOffError, LoginRefusedError)
CHECK_ADDRESS = Message("check [gateway] url: the root of Evergreen's web server")
CHECK_SERVER = Message("check Evergreen's release and the logs of its services")
CHECK_LOAD = Message("check the load of Evergreen's servers")
_DEFAULT_ADVICE = (
    (PermissionDeniedError, Message("grant the account the permission")),
    (TransportError, CHECK_ADDRESS),
    (MailServerError, Message("check [mail] and the mail server")),
    (GatewayError, CHECK_SERVER),
    (DataError, CHECK_SERVER),
    (EvergreenGroupsError, Message("see what else failed")),
)
"""Advice by type of error, for errors without advice."""


class Verdict(Enum):
    """The result of a check. ``SKIPPED`` means that a check it needs failed, or that it doesn't apply."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    ``message`` and ``remedy`` (empty if there is nothing to do) are templates, with ``{name}`` for one of the
    ``values``. Programs get them filled in, in English; ``gettext`` translates them for people. ``code`` identifies the
    case. ``setting`` is the dotted name of the setting concerned, or None.

    ``check`` names the check for programs (``gateway``, ``permission.VIEW_USER``), ``title`` for people. They are empty
    until the check's findings are collected, unless the check names a finding itself.
    """

    verdict: Verdict
    message: str
    remedy: str = ""
    code: str = "well"
    values: Mapping[str, object] = field(default_factory=dict)
    setting: str | None = None
    check: str = ""
    title: str = ""

    @property
    def found(self) -> Message:
        return Message(self.message, values=self.values)

    @property
    def advice(self) -> Message:
        return Message(self.remedy, values=self.values)

    def named(self, check: str, title: str) -> Finding:
        """Return the finding as one of this check, unless it has a name already."""
        return self if self.check else replace(self, check=check, title=title)

    def at(self, setting: str) -> Finding:
        """Return the finding as one about this setting."""
        return replace(self, setting=setting)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table of findings. Call it with the values of its texts to make the finding.

    ``setting`` is the setting concerned, unless the finding is located :meth:`~Finding.at` another.
    """

    verdict: Verdict
    code: str
    text: str
    advice: str = ""
    setting: str | None = None

    def __call__(self, **values: object) -> Finding:
        return Finding(self.verdict, self.text, self.advice, self.code, values, self.setting)


noted = partial(Row, Verdict.OK)
"""Information, not a problem, with its own code."""
warning = partial(Row, Verdict.WARNING)
"""Something works, but not permanently or not completely."""
failed = partial(Row, Verdict.FAILED)
"""Something can't work."""

Found = Finding | Iterable[Finding]
"""What a check returns: one finding, or several, which are shown as the check yields them."""


def ok(text: str, /, **values: object) -> Finding:
    """Return the finding of a check that found no problem."""
    return Finding(Verdict.OK, text, values=values)


NOT_CONFIGURED = ok("not configured")
"""An optional feature isn't used."""

NOT_NEEDED = Finding(Verdict.SKIPPED, Message("not needed for the web service alone"), code="not-needed")
"""The check doesn't apply: the web service alone needs no account."""

NOT_CHECKED = "not-checked"

_FILE_NOT_READ = failed("file-not-read", "{problem}", "check that it exists and that this user may read it")


def not_checked(because: str) -> Finding:
    """Return the finding of a check that was skipped, because the check titled ``because`` failed."""
    text = Message("not checked because this failed: {title}")
    return Finding(Verdict.SKIPPED, text, code=NOT_CHECKED, values={"title": because})


def from_error(error: EvergreenGroupsError) -> Finding:
    """Return a failed finding for an error. If the error has no advice, its type determines it."""
    problem = Message(error.message, values=error.values)
    # For errors about the address, the method that was called is irrelevant.
    if isinstance(error, GatewayError) and error.asked and not isinstance(error, _ADDRESS_ERRORS):
        problem = Message("{place}: {problem}", values={"place": error.asked, "problem": problem})
    values, remedy = {**error.values, "problem": problem}, "{advice}"
    if error.advice:
        values["advice"] = Message(error.advice, values=error.values)
    elif isinstance(error, ConfigurationError):  # the problem says what to correct
        remedy = ""
    else:
        values["advice"] = next(text for kind, text in _DEFAULT_ADVICE if isinstance(error, kind))
    return Finding(Verdict.FAILED, "{problem}", remedy, error.code, values, error.setting)


def from_os_error(error: OSError) -> Finding:
    problem = system_reason(error)
    if error.filename:
        problem = Message("{place}: {problem}", values={"place": error.filename, "problem": problem})
    return _FILE_NOT_READ(problem=problem)


def findings_of(look: Callable[[Subject], Found], subject: Subject) -> Iterator[Finding]:
    """Yield what a check finds. Errors of the package, and files that can't be read, are findings too."""
    try:
        found = look(subject)
        yield from (found,) if isinstance(found, Finding) else found
    except EvergreenGroupsError as error:
        yield from_error(error)
    except OSError as error:
        yield from_os_error(error)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings in order, with the gateway's URL (None if not configured).

    ``server`` has the server's capabilities, None if the server wasn't asked.
    """

    at: datetime
    gateway: str | None
    findings: tuple[Finding, ...]
    server: Capabilities | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing failed. There may be warnings."""
        return not any(self.failed)

    @property
    def failed(self) -> Iterator[Finding]:
        return (finding for finding in self.findings if finding.verdict is Verdict.FAILED)

    def count(self, verdict: Verdict) -> int:
        return sum(finding.verdict is verdict for finding in self.findings)


TIMEOUT = 20
"""Maximum timeout of a call in seconds, because a person is waiting. Other commands use the configured timeout."""
_TWICE = RetryPolicy(tries=2)


class Subject:
    """The installation to check: a configuration file (None: the default one) and an environment.

    ``settings`` replace the file's. ``changes`` also checks what changing groups requires. Use it in a ``with``
    statement or close it, which logs out.
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

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out and close the gateway and the state if they were opened."""
        for opened in ("gateway", "state"):
            if opened in self.__dict__:
                getattr(self, opened).close()

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError if they are invalid."""
        return self._settings or self.reading.settings

    @cached_property
    def reading(self) -> Reading:
        """The configuration with all of its errors. Empty if the constructor received settings."""
        if self._settings is not None:
            return Reading(self._settings.source, None, {}, type(self._settings))
        return load.read(self.config_file, self.environ)

    @property
    def url(self) -> str | None:
        """The configured URL; None if there is none or the settings are invalid."""
        try:
            return self.settings.gateway.url
        except ConfigurationError:
            return None

    @cached_property
    def address(self) -> Address:
        return Address.parse(self.settings.gateway.url or "")

    @cached_property
    def state(self) -> State:
        return configured_state(self.settings, self.environ)

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway, with a short timeout and without the cached IDL.

        If there is no password, calls that need no login still work.
        """
        gateway = self.settings.gateway
        with_short_timeout = replace(self.settings, gateway=replace(gateway, timeout=min(gateway.timeout, TIMEOUT)))
        anonymous = self.is_web_only or not self._has_password
        return connect(with_short_timeout, self.environ, retries=_TWICE, anonymous=anonymous, any_release=True)

    @cached_property
    def capabilities(self) -> Capabilities:
        """The server's capabilities, queried without a login."""
        return self.gateway.capabilities()

    @property
    def known_capabilities(self) -> Capabilities | None:
        """The capabilities if they have been queried, or None."""
        return self.__dict__.get("capabilities")

    @cached_property
    def is_web_only(self) -> bool:
        """Whether the installation is only for the web service without events, which needs no account."""
        try:
            settings = self.settings
            needs_account = settings.gateway.username or settings.gateway.password_file or self._has_password
            is_mailed = settings.mail.recipients or settings.reports
            takes_events = passwords.secret(settings.events, self.environ) is not None
        except ConfigurationError:  # reported by another check
            return False
        return settings.gateway.url is not None and not (needs_account or is_mailed or takes_events)

    @property
    def _has_password(self) -> bool:
        try:
            return bool(passwords.password(self.settings.gateway, self.environ))
        except ConfigurationError:
            return False

    @cached_property
    def org_units(self) -> OrgUnits:
        return OrgUnits.read(self.gateway)

    @cached_property
    def visible_orgs(self) -> frozenset[int]:
        """The ids of the org units whose patrons the account may view."""
        return permissions.orgs_by_permission(self.gateway, self.org_units, [VIEW_USER])[VIEW_USER]

    @cached_property
    def user(self) -> Record:
        """The account's own record (``au``), from its session."""
        return permissions.account_of_session(self.gateway)

    @property
    def work_org(self) -> int:
        """The id of the org unit where the account works: the workstation's or the home library."""
        return permissions.library_of(self.user)
