"""Checks a configuration without contacting the gateway: finds all errors at once, with their positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evergreen_groups.doctor import machine, nightly
from evergreen_groups.doctor.finding import Finding, FindingMaker, Subject, Verdict
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.message import Message
from evergreen_groups.settings import Origin, Reading, passwords
from evergreen_groups.settings import reading as load


@dataclass(frozen=True, slots=True)
class LocatedFinding:
    """A problem in the configuration with its position. The message may name the position too."""

    finding: Finding
    origin: Origin


_Check = Callable[[Subject, FindingMaker], Iterable[Finding]]


def check_configuration(config_file: Path | None, environ: Mapping[str, str]) -> tuple[Reading, list[LocatedFinding]]:
    """Read a configuration (None: the default one) and return it with all problems found.

    Uses the same checks as doctor. Problems that may be intentional are warnings.
    """
    reading = load.read(config_file, environ)
    line = FindingMaker("configuration", Message("Configuration"))
    found = [LocatedFinding(line.from_error(fault.error), fault.origin) for fault in reading.faults]
    if reading.is_unreadable:
        return reading, found
    wrong = {one.finding.setting for one in found}
    with Subject(config_file, environ, settings=reading.valid_settings) as subject:
        for look in _CHECKS:
            for finding in _findings(look, subject, line):
                # An invalid setting counts as unset here, so don't report it as missing too.
                if finding.verdict in (Verdict.FAILED, Verdict.WARNING) and finding.setting not in wrong - {None}:
                    found.append(LocatedFinding(finding, reading.origin_of_key(finding.setting)))
    return reading, found


def _findings(look: _Check, subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    try:
        yield from look(subject, line)
    except EvergreenGroupsError as error:
        yield line.from_error(error)
    except OSError as error:
        yield line.from_os_error(error)


def _gateway(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """A gateway is configured, and an account unless only the web service is used."""
    settings = subject.settings
    yield from machine.missing_configuration(settings, line) or machine.missing_gateway(settings, line)
    if settings.gateway.url is not None and settings.gateway.username is None:
        yield line.warning(
            "no account is set: the web service works without one, and nothing else does",
            "set username in section [gateway], unless nothing but the web service is used",
            code="account-not-set",
            setting="gateway.username",
        )


def _password(subject: Subject, line: FindingMaker) -> Iterable[Finding]:
    return machine.password(subject, line) if subject.settings.gateway.username is not None else ()


def _other_secrets(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The other configured passwords can be read."""
    settings, environ = subject.settings, subject.environ
    try:
        if settings.state.database:
            passwords.database_password(settings.state, environ)
    except EvergreenGroupsError as error:
        yield line.from_error(error)
    try:
        passwords.redis_password(settings.redis, environ)
    except EvergreenGroupsError as error:
        yield line.from_error(error)


def _certificates(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The certificate files can be read."""
    settings = subject.settings
    for section, file in (("gateway", settings.gateway.ca_bundle), ("mail", settings.mail.ca_bundle)):
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            yield replace(line.from_os_error(error), setting=f"{section}.ca_bundle")


_CHECKS: tuple[_Check, ...] = (
    _gateway,
    machine.configuration_file,
    _password,
    machine.events_secret,
    _other_secrets,
    _certificates,
    machine.outputs,
    nightly.mail_settings,
)
