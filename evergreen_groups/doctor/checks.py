"""Runs the checks in order, skipping those that depend on a failed one, or those of a configuration alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evergreen_groups import configured
from evergreen_groups.doctor import account, interface, machine, network, nightly, thresholds
from evergreen_groups.doctor.finding import (
    CHECK_ADDRESS,
    NOT_NEEDED,
    Diagnosis,
    Finding,
    Found,
    Subject,
    Verdict,
    failed,
    findings_of,
    from_error,
    from_os_error,
    not_checked,
    warning,
)
from evergreen_groups.message import Message
from evergreen_groups.settings import Origin, Reading, passwords
from evergreen_groups.settings import reading as load
from evergreen_groups.state import counter_store, postgresql_url

_ANSWER_OF_ANOTHER_SHAPE = failed(
    "answer-of-another-shape", "an answer isn't in Evergreen's format ({kind})", CHECK_ADDRESS, "gateway.url"
)
_ACCOUNT_NOT_SET = warning(
    "account-not-set",
    "no account is set, so only the web service works",
    "set [gateway] username, unless you use only the web service",
    "gateway.username",
)


@dataclass(frozen=True, slots=True)
class Check:
    """A check with any number of findings. It is skipped if one of the checks in ``needs`` failed.

    ``login`` marks checks of the account, which don't apply to an installation for the web service alone.
    """

    name: str
    title: str
    look: Callable[[Subject], Found]
    needs: tuple[str, ...] = ()
    login: bool = False


CHECKS = (
    Check("configuration", Message("Configuration"), machine.configuration),
    Check("configuration-file", Message("File permissions"), machine.configuration_file, ("configuration",)),
    Check("password", Message("Password"), machine.password, ("configuration",), login=True),
    Check("state", Message("State directory"), machine.state_directory),
    Check("databases", Message("Database"), machine.database, ("configuration", "state")),
    Check("last-run", Message("Last report"), nightly.last_run, ("configuration", "databases")),
    Check("output", Message("Report file"), machine.outputs, ("configuration",)),
    Check("retention", Message("Retention"), machine.retention, ("configuration", "state")),
    Check("socket", Message("Socket"), machine.service_socket, ("configuration",)),
    Check("events", Message("Events"), machine.events_secret, ("configuration",)),
    Check("metrics", Message("Metrics"), machine.metrics, ("configuration",)),
    Check("plugins", Message("Plug-ins"), machine.plugins, ("configuration",)),
    Check("counters", "Redis", nightly.shared_counters, ("configuration",)),
    Check("address", Message("Address"), network.address, ("configuration",)),
    Check("certificate", Message("TLS certificate"), network.certificate, ("address",)),
    Check("gateway", Message("Gateway"), network.gateway, ("certificate",)),
    Check("services", Message("Services"), network.services, ("gateway",)),
    Check("server", Message("Server"), network.server, ("services",)),
    Check("time", Message("Answer time"), network.answer_time, ("services",)),
    Check("clock", Message("Clock"), network.clock, ("services",)),
    Check("idl", Message("IDL"), interface.idl, ("gateway",)),
    Check("methods", Message("Methods"), interface.methods, ("services",)),
    Check("login", Message("Login"), account.login, ("services", "password"), login=True),
    Check("account", Message("Account"), account.account, ("login", "idl"), login=True),
    Check("workstation", Message("Workstation"), account.workstation, ("account",), login=True),
    Check("names", Message("Configured names"), account.names, ("account",), login=True),
    Check("permission.VIEW_USER", "VIEW_USER", account.view_user, ("account",), login=True),
    Check("pushdown", Message("Fines query"), interface.pushdown, ("permission.VIEW_USER",), login=True),
    Check("permission", Message("Permissions"), account.other_permissions, ("account",), login=True),
    Check("permission.profiles", Message("Profiles"), account.profiles, ("account",), login=True),
    Check("permission.desk", Message("Desk"), account.desk, ("account",), login=True),
    Check("thresholds", Message("Thresholds"), thresholds.thresholds, ("names", "permission.VIEW_USER"), login=True),
    Check("mail", Message("Mail server"), nightly.mail, ("configuration",)),
)
"""All checks. Each comes after the checks that it needs."""


def run(
    subject: Subject, on_finding: Callable[[Finding], object] = lambda _finding: None, *, only: Collection[str] = ()
) -> Diagnosis:
    """Run all checks, or those named in ``only``. ``on_finding`` receives each finding immediately.

    Problems are reported as findings, not raised.
    """
    at = datetime.now(UTC).astimezone()
    obstacles: dict[str, str] = {}
    findings = []
    for check in CHECKS:
        if only and check.name not in only:
            continue
        for found in _run_check(check, subject, obstacles):
            finding = found.named(check.name, check.title)
            if finding.verdict is Verdict.FAILED:
                obstacles.setdefault(check.name, finding.title)
            findings.append(finding)
            on_finding(finding)
    return Diagnosis(at, subject.url, tuple(findings), subject.known_capabilities)


def _run_check(check: Check, subject: Subject, obstacles: dict[str, str]) -> Iterator[Finding]:
    if check.login and subject.is_web_only:
        yield NOT_NEEDED
        return
    obstacle = next((obstacles[needed] for needed in check.needs if needed in obstacles), None)
    if obstacle is not None:
        obstacles[check.name] = obstacle
        yield not_checked(obstacle)
        return
    try:
        yield from findings_of(check.look, subject)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # The server may be something other than Evergreen, with answers of any shape. That is a finding too.
        yield _ANSWER_OF_ANOTHER_SHAPE(kind=type(error).__name__)


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
        for look in _LOCAL_CHECKS:
            for finding in findings_of(look, subject):
                # An invalid setting counts as unset here, so don't report it as missing too.
                if finding.verdict in (Verdict.FAILED, Verdict.WARNING) and finding.setting not in wrong - {None}:
                    found.append(LocatedFinding(_named(finding), reading.origin_of_key(finding.setting)))
    return reading, found


def _named(finding: Finding) -> Finding:
    return finding.named("configuration", Message("Configuration"))


def _gateway(subject: Subject) -> Found:
    """A gateway is configured, and an account unless only the web service is used."""
    if nothing := machine.missing_configuration(subject.settings):
        return nothing
    configured.gateway_url(subject.settings)
    return _ACCOUNT_NOT_SET() if subject.settings.gateway.username is None else ()


def _password(subject: Subject) -> Found:
    return machine.password(subject) if subject.settings.gateway.username is not None else ()


def _database_address(subject: Subject) -> Found:
    if (state := subject.settings.state).database:
        postgresql_url(state.database, passwords.secret(state, subject.environ))
    return ()


def _redis_address(subject: Subject) -> Found:
    if (redis := subject.settings.redis).url:
        counter_store(redis.url, passwords.secret(redis, subject.environ))
    return ()


def _certificates(subject: Subject) -> Iterator[Finding]:
    """The certificate files can be read."""
    settings = subject.settings
    for section, file in (("gateway", settings.gateway.ca_bundle), ("mail", settings.mail.ca_bundle)):
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            yield from_os_error(error).at(f"{section}.ca_bundle")


_LOCAL_CHECKS: tuple[Callable[[Subject], Found], ...] = (
    _gateway,
    machine.configuration_file,
    _password,
    machine.events_secret,
    _database_address,
    _redis_address,
    _certificates,
    machine.outputs,
    machine.kinds,
    nightly.mail_settings,
)
