"""What a check found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

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
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from evergreen_groups.gateway import Capabilities

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
