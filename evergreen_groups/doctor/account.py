"""Checks of the account: that it may log in, what it is, and that what the configuration names is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups import connect
from evergreen_groups.errors import EventError, LoginRefusedError
from evergreen_groups.ils import Profiles, read_fines_penalties
from evergreen_groups.limits import Limits
from evergreen_groups.odd_dates import known
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
        yield line.ok("as {name}", values={"name": name})


def _refused(subject: Subject, line: FindingMaker, error: LoginRefusedError) -> Finding:
    """Say why, as far as the ILS can be made to show it: a wrong password and no STAFF_LOGIN look alike to it."""
    gateway = subject.settings.gateway
    if error.textcode == "WORKSTATION_NOT_FOUND":
        return line.failed(
            "the workstation {workstation} is not registered",
            "register it in the staff client, or correct or remove workstation in [gateway]",
            code="workstation-not-registered",
            values={"workstation": gateway.workstation},
            setting="gateway.workstation",
        )
    if error.textcode != "LOGIN_FAILED":
        return line.of_error(error)
    if _known_to_the_catalog(subject):
        return line.failed(
            "the password is right, but {account} may not log in as staff",
            "give the account STAFF_LOGIN for the whole consortium (depth 0)",
            code="no-staff-login",
            values={"account": gateway.username},
            setting="gateway.username",
        )
    return line.failed(
        "name or password is wrong, or {account} is barred, deleted, or lacks STAFF_LOGIN",
        "try both in the staff client, and look where the password is taken from",
        code="login-failed",
        values={"account": gateway.username},
        setting="gateway.username",
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
    values = {"id": user.id, "library": home}
    expires = known(user.expire_date)
    if user.super_user:
        yield line.warning(
            "id {id}, home library {library}; it is a superuser, who may do everything",
            "use an account with the rights below",
            code="superuser",
            values=values,
        )
    elif expires is not None and expires < datetime.now(UTC):
        yield line.warning(
            "id {id}, home library {library}; it expired on {date}",
            "give the account a later date",
            code="account-expired",
            values={**values, "date": expires.date()},
        )
    elif expires is not None and expires < datetime.now(UTC) + _SOON:
        yield line.warning(
            "id {id}, home library {library}; it expires on {date}",
            "give the account a later date",
            code="account-expires-soon",
            values={**values, "date": expires.date()},
        )
    else:
        yield line.ok("id {id}, home library {library}", values=values)


def workstation(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The session is at the workstation that the configuration names."""
    name = subject.settings.gateway.workstation
    place = subject.org_units.shortname(subject.work_org)
    if name is None:
        yield line.ok(
            "no workstation is set, and none is needed; the account works at {place}", values={"place": place}
        )
    elif subject.user.wsid is None:
        yield line.warning(
            "{workstation} was not taken by the server",
            "look at whether the workstation is registered",
            code="workstation-not-taken",
            values={"workstation": name},
            setting="gateway.workstation",
        )
    else:
        yield line.ok("{workstation}, at {place}", values={"workstation": name, "place": place})


def names(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The libraries and profiles that the configuration names are there, and the ILS's settings make sense."""
    settings, org_units = subject.settings, subject.org_units
    reports = [settings.report, *(named.report for named in settings.reports)]
    recipients = [settings.mail.recipients, *(named.recipients for named in settings.reports)]
    org_units.named(place for report in reports for place in report.orgs)
    org_units.named(place for some in recipients for place, _addresses in some if place != "*")
    if profiles := [profile for report in reports for profile in report.profiles]:
        Profiles.read(subject.gateway).named(profiles)
    penalties = read_fines_penalties(subject.gateway, org_units)
    Limits.read(subject.gateway, settings.policy, org_units, penalties)
    count = sum(1 for _unit in org_units)
    yield line.ok(
        "org units under {root}: {count:,}; all that are named are among them",
        values={"count": count, "root": org_units.root.shortname},
    )
