"""Checks a configuration without contacting the gateway: finds all errors at once, with their positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evergreen_groups import connect
from evergreen_groups.doctor import machine, nightly
from evergreen_groups.doctor.finding import (
    Finding,
    Subject,
    Verdict,
    findings_of,
    from_error,
    from_os_error,
    warning,
)
from evergreen_groups.message import Message
from evergreen_groups.settings import Origin, Reading, passwords
from evergreen_groups.settings import reading as load


@dataclass(frozen=True, slots=True)
class LocatedFinding:
    """A problem in the configuration with its position. The message may name the position too."""

    finding: Finding
    origin: Origin


def check_configuration(config_file: Path | None, environ: Mapping[str, str]) -> tuple[Reading, list[LocatedFinding]]:
    """Read a configuration (None: the default one) and return it with all problems found.

    Uses the same checks as doctor. Problems that may be intentional are warnings.
    """
    reading = load.read(config_file, environ)
    found = [LocatedFinding(_named(from_error(fault.error)), fault.origin) for fault in reading.faults]
    if reading.is_unreadable:
        return reading, found
    wrong = {one.finding.setting for one in found}
    with Subject(config_file, environ, settings=reading.valid_settings) as subject:
        for look in _CHECKS:
            for finding in findings_of(look, subject):
                # An invalid setting counts as unset here, so don't report it as missing too.
                if finding.verdict in (Verdict.FAILED, Verdict.WARNING) and finding.setting not in wrong - {None}:
                    found.append(LocatedFinding(_named(finding), reading.origin_of_key(finding.setting)))
    return reading, found


def _named(finding: Finding) -> Finding:
    return finding.named("configuration", Message("Configuration"))


def _gateway(subject: Subject) -> Iterator[Finding]:
    """A gateway is configured, and an account unless only the web service is used."""
    if nothing := machine.missing_configuration(subject.settings):
        yield nothing
        return
    connect.gateway_url(subject.settings)
    if subject.settings.gateway.username is None:
        yield warning(
            "no account is set: the web service works without one, and nothing else does",
            "set username in section [gateway], unless nothing but the web service is used",
            code="account-not-set",
            setting="gateway.username",
        )


def _password(subject: Subject) -> Iterable[Finding]:
    return machine.password(subject) if subject.settings.gateway.username is not None else ()


def _database_password(subject: Subject) -> Iterable[Finding]:
    if subject.settings.state.database:
        passwords.secret(subject.settings.state, subject.environ)
    return ()


def _redis_password(subject: Subject) -> Iterable[Finding]:
    if subject.settings.redis.url:
        passwords.secret(subject.settings.redis, subject.environ)
    return ()


def _certificates(subject: Subject) -> Iterator[Finding]:
    """The certificate files can be read."""
    settings = subject.settings
    for section, file in (("gateway", settings.gateway.ca_bundle), ("mail", settings.mail.ca_bundle)):
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            yield replace(from_os_error(error), setting=f"{section}.ca_bundle")


_CHECKS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    _gateway,
    machine.configuration_file,
    _password,
    machine.events_secret,
    _database_password,
    _redis_password,
    _certificates,
    machine.outputs,
    nightly.mail_settings,
)
