"""What a check found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from evergreen_groups.errors import (
    ConfigurationError,
    CutOffError,
    DataError,
    EvergreenGroupsError,
    GatewayError,
    HTTPStatusError,
    LoginRefusedError,
    NotJSONError,
    PermissionDeniedError,
    TransportError,
    UnreachableError,
)

_SENTENCE = re.compile(r"(?<=[.;]) +(?=[A-Z])|: (?=(?:set|chmod|create|allow|make|name|give) )")

_LEADING = re.compile(r"^[A-Z](?=[a-z ])")
_OF_THE_ADDRESS = (UnreachableError, HTTPStatusError, NotJSONError, CutOffError, LoginRefusedError)
_WHAT_TO_DO = (
    (ConfigurationError, "correct it in the configuration"),
    (PermissionDeniedError, "grant it to the account"),
    (TransportError, "check url in [gateway], and the web server there"),
    (DataError, "check that the address is that of an Evergreen, and which release it runs"),
    (GatewayError, "look into the server's log"),
)
"""For errors whose message doesn't say."""


class Verdict(Enum):
    """How a check ended; ``SKIPPED`` is one that could not be made because another failed."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    ``check`` names it for programs (``gateway``, ``permission.VIEW_USER``), ``title`` for people. ``found`` says what
    is the case, ``advice`` what to do; the latter is empty where there is nothing to do. ``setting`` is the dotted name
    of the setting it is about, None where it is about none.
    """

    check: str
    title: str
    verdict: Verdict
    found: str
    advice: str = ""
    setting: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in the order in which they were made; ``gateway`` is the address, None where none is set."""

    at: datetime
    gateway: str | None
    findings: tuple[Finding, ...]

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

    def ok(self, found: str, advice: str = "") -> Finding:
        """All is well."""
        return Finding(self.check, self.title, Verdict.OK, found, advice)

    def warning(self, found: str, advice: str) -> Finding:
        """It works, but not for ever or not for everything."""
        return Finding(self.check, self.title, Verdict.WARNING, found, advice)

    def failed(self, found: str, advice: str) -> Finding:
        """It can't work like this."""
        return Finding(self.check, self.title, Verdict.FAILED, found, advice)

    def skipped(self, because: str) -> Finding:
        """It was not looked at, ``because`` another check failed."""
        return Finding(self.check, self.title, Verdict.SKIPPED, f"not checked, because of: {because}")

    def of_error(self, error: EvergreenGroupsError) -> Finding:
        """Failed by an error, whose message says what came back and then what to do."""
        text = str(error)
        if isinstance(error, _OF_THE_ADDRESS):  # of these it doesn't matter what was asked for
            text = text.removeprefix(f"{error.method}: ")
        found, _, advice = text.partition("; ")
        if sentence := _SENTENCE.search(text):
            found, advice = text[: sentence.start()], text[sentence.end() :]
        if not advice:
            advice = next((words for kind, words in _WHAT_TO_DO if isinstance(error, kind)), "see what else failed")
        failed = self.failed(found.rstrip(".;"), _LEADING.sub(lambda first: first[0].lower(), advice.rstrip("."), 1))
        return replace(failed, setting=error.setting)

    def of_disk(self, error: OSError) -> Finding:
        """Failed because a file could not be looked at."""
        where = f"{error.filename}: " if error.filename else ""
        return self.failed(f"{where}{error.strerror or error}", "let this user read it, or name another")
