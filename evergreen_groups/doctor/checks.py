"""Runs the checks in order, skipping those that depend on a failed one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evergreen_groups.doctor import account, interface, machine, network, nightly, thresholds
from evergreen_groups.doctor.finding import (
    NOT_NEEDED,
    Diagnosis,
    Finding,
    Verdict,
    failed,
    findings_of,
    not_checked,
)
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Subject


@dataclass(frozen=True, slots=True)
class Check:
    """A check with any number of findings. It is skipped if one of the checks in ``needs`` failed.

    ``login`` marks checks of the account, which don't apply to an installation for the web service alone.
    """

    name: str
    title: str
    look: Callable[[Subject], Iterable[Finding]]
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
    Check("events", Message("Events"), machine.events_secret, ("configuration",)),
    Check("metrics", Message("Metrics"), machine.metrics, ("configuration",)),
    Check("counters", Message("Shared counters"), nightly.shared_counters, ("configuration",)),
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
    Check("pushdown", Message("Combined query"), interface.pushdown, ("permission.VIEW_USER",), login=True),
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
        yield failed(
            "an answer had another shape than Evergreen's ({kind})",
            "check that the address is that of an Evergreen, and which release it runs",
            code="answer-of-another-shape",
            values={"kind": type(error).__name__},
            setting="gateway.url",
        )
