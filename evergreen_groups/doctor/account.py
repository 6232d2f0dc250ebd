"""Checks of the account: that it may log in, what it is, and that what the configuration names is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups import connect
from evergreen_groups.errors import EventError, LoginRefusedError
from evergreen_groups.ils import read_fines_penalties
from evergreen_groups.limits import Limits
from evergreen_groups.settings import passwords

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.doctor.installation import Subject

_AUTH = "open-ils.auth"
_SOON = timedelta(days=30)


def login(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The ILS takes name and password, as staff."""
    _url, name = connect.named(subject.settings)
    try:
        subject.gateway.login()
    except LoginRefusedError as error:
        yield _refused(subject, line, error)
    else:
        yield line.ok(f"as {name}")


def _refused(subject: Subject, line: FindingMaker, error: LoginRefusedError) -> Finding:
    """Say why, as far as the ILS can be made to tell: a wrong password and no STAFF_LOGIN look alike to it."""
    gateway = subject.settings.gateway
    if error.textcode == "WORKSTATION_NOT_FOUND":
        return line.failed(
            f"the workstation {gateway.workstation} is not registered",
            "register it in the staff client, or correct or remove workstation in [gateway]",
        )
    if error.textcode != "LOGIN_FAILED":
        return line.of_error(error)
    if _known_to_the_catalog(subject):
        return line.failed(
            f"the password is right, but {gateway.username} may not log in as staff",
            "give the account STAFF_LOGIN for the whole consortium (depth 0)",
        )
    return line.failed(
        f"name or password is wrong, or {gateway.username} is barred, deleted, or lacks STAFF_LOGIN",
        "try both in the staff client, and look where the password is taken from",
    )


def _known_to_the_catalog(subject: Subject) -> bool:
    """Whether the ILS takes the same name and password for its catalog, which needs no STAFF_LOGIN."""
    given = {
        "username": subject.settings.gateway.username,
        "password": passwords.password(subject.settings.gateway, subject.environ),
        "type": "opac",
    }
    try:
        session = subject.gateway.call(_AUTH, "open-ils.auth.login", given).value["payload"]
        subject.gateway.call(_AUTH, "open-ils.auth.session.delete", session["authtoken"], expect="optional")
    except EventError:
        return False
    return True


def account(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """It is an account for this purpose: not a superuser, and not about to expire."""
    user = subject.user
    home = subject.org_units.shortname(user.home_ou)
    words = f"id {user.id}, home library {home}"
    expires: datetime | None = user.expire_date
    if user.super_user:
        yield line.warning(f"{words}; it is a superuser, who may do everything", "use an account with the rights below")
    elif expires is not None and expires < datetime.now(UTC) + _SOON:
        verb = "expired" if expires < datetime.now(UTC) else "expires"
        yield line.warning(f"{words}; it {verb} on {expires:%Y-%m-%d}", "give the account a later date")
    else:
        yield line.ok(words)


def workstation(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The session is at the workstation that the configuration names."""
    name = subject.settings.gateway.workstation
    place = subject.org_units.shortname(subject.work_org)
    if name is None:
        yield line.ok(f"none set, and none needed; the account works at {place}")
    elif subject.user.wsid is None:
        yield line.warning(f"{name} was not taken by the server", "look at whether it is registered")
    else:
        yield line.ok(f"{name}, at {place}")


def names(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The libraries and profiles that the configuration names are there, and the ILS's settings make sense."""
    settings, org_units = subject.settings, subject.org_units
    org_units.named(settings.report.orgs)
    org_units.named(place for place, _addresses in settings.mail.recipients if place != "*")
    penalties = read_fines_penalties(subject.gateway, org_units)
    Limits.read(subject.gateway, settings.policy, org_units, penalties)
    count = sum(1 for _unit in org_units)
    yield line.ok(f"{count} org units under {org_units.root.shortname}; all that are named are among them")
