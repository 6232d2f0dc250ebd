"""What a check found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from evergreen_groups.connect import configured_state, connect
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
from evergreen_groups.gateway import TOKEN, Address, Capabilities, Gateway, Record, RetryPolicy
from evergreen_groups.ils import VIEW_USER, OrgUnits, orgs_by_permission
from evergreen_groups.message import Message, system_reason
from evergreen_groups.settings import Reading, Settings, passwords
from evergreen_groups.settings import reading as load
from evergreen_groups.state import State, find_state_directory

_NOTHING: Mapping[str, object] = MappingProxyType({})

_OF_THE_ADDRESS = (UnreachableError, HTTPStatusError, NotJSONError, CutOffError, LoginRefusedError)
_WHAT_TO_DO = (
    (ConfigurationError, Message("correct the configuration")),
    (PermissionDeniedError, Message("grant the account the permission")),
    (TransportError, Message("check url in [gateway], and the web server there")),
    (DataError, Message("check that the address is that of an Evergreen, and which release it runs")),
    (MailServerError, Message("check [mail] in the configuration, and the server")),
    (GatewayError, Message("look into the server's log")),
    (EvergreenGroupsError, Message("see what else failed")),
)
"""For errors that have no advice."""
_NOT_NEEDED = Message("not needed to serve: whoever asks comes with a session of their own")
_NOT_CHECKED = Message("not checked, because of: {title}")


class Verdict(Enum):
    """How a check ended; ``SKIPPED`` is one that could not be made because another failed, or need not."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    ``check`` names it for programs (``gateway``, ``permission.VIEW_USER``), ``title`` for people. ``code`` names the
    case, ``values`` are what the case is about, by name, and ``setting`` is the dotted name of the setting it is about,
    None where it is about none. ``message`` and ``remedy`` are the templates of what is the case and of what to do,
    with ``{name}`` for a value; the latter is empty where there is nothing to do. Filled in, they are English, as for
    programs; to people they are shown by ``gettext``.
    """

    check: str
    title: str
    verdict: Verdict
    code: str
    message: str
    remedy: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    setting: str | None = None

    @property
    def found(self) -> Message:
        """What is the case."""
        return Message(self.message, values=self.values)

    @property
    def advice(self) -> Message:
        """What to do; empty where there is nothing to do."""
        return Message(self.remedy, values=self.values)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in the order in which they were made; ``gateway`` is the address, None where none is set.

    ``server`` is what was found out about the server, None where it wasn't asked.
    """

    at: datetime
    gateway: str | None
    findings: tuple[Finding, ...]
    server: Capabilities | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; there may be warnings."""
        return not any(self.failed)

    @property
    def failed(self) -> Iterator[Finding]:
        """What failed, in order."""
        return (finding for finding in self.findings if finding.verdict is Verdict.FAILED)

    def count(self, verdict: Verdict) -> int:
        """How many findings have this verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)


@dataclass(frozen=True, slots=True)
class FindingMaker:
    """Makes the findings of one check."""

    check: str
    title: str

    def ok(self, message: str, *, code: str = "well", values: Mapping[str, object] = _NOTHING) -> Finding:
        """All is well."""
        return Finding(self.check, self.title, Verdict.OK, code, message, values=values)

    def warning(
        self,
        message: str,
        remedy: str,
        *,
        code: str,
        values: Mapping[str, object] = _NOTHING,
        setting: str | None = None,
    ) -> Finding:
        """It works, but not for ever or not for everything."""
        return Finding(self.check, self.title, Verdict.WARNING, code, message, remedy, values, setting)

    def failed(
        self,
        message: str,
        remedy: str,
        *,
        code: str,
        values: Mapping[str, object] = _NOTHING,
        setting: str | None = None,
    ) -> Finding:
        """It can't work like this."""
        return Finding(self.check, self.title, Verdict.FAILED, code, message, remedy, values, setting)

    def skipped(self, because: str) -> Finding:
        """It was not looked at, ``because`` another check failed."""
        values = {"title": because}
        return Finding(self.check, self.title, Verdict.SKIPPED, "not-checked", _NOT_CHECKED, values=values)

    def not_needed(self) -> Finding:
        """It was not looked at, because the configuration is for the web service alone, which needs no account."""
        return Finding(self.check, self.title, Verdict.SKIPPED, "not-needed", _NOT_NEEDED)

    def of_error(self, error: EvergreenGroupsError) -> Finding:
        """Failed by an error, with its code and values; what its kind advises where it says nothing itself."""
        problem = Message(error.message, values=error.values)
        # Of those about the address it doesn't matter what was asked for.
        if isinstance(error, GatewayError) and error.asked and not isinstance(error, _OF_THE_ADDRESS):
            problem = Message("{asked}: {problem}", values={"asked": error.asked, "problem": problem})
        advice = Message(error.advice, values=error.values) if error.advice else _what_to_do(error)
        values = {**error.values, "problem": problem, "advice": advice}
        return self.failed("{problem}", "{advice}", code=error.code, values=values, setting=error.setting)

    def of_disk(self, error: OSError) -> Finding:
        """Failed because a file could not be looked at."""
        reason = system_reason(error)
        return self.failed(
            "{problem}",
            "let this user read the file, or name another file",
            code="file-not-read",
            values={
                "problem": Message("{path}: {reason}", values={"path": error.filename, "reason": reason})
                if error.filename
                else reason
            },
        )


def _what_to_do(error: EvergreenGroupsError) -> Message:
    return next(words for kind, words in _WHAT_TO_DO if isinstance(error, kind))


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
        return orgs_by_permission(self.gateway, self.org_units, [VIEW_USER])[VIEW_USER]

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
