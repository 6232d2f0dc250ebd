"""Checks of the account: login, permissions, and whether the configured names exist in Evergreen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups import configured
from evergreen_groups.doctor.finding import Finding, failed, from_error, ok, warning
from evergreen_groups.doctor.interface import DESK_PERMISSIONS, PERMISSIONS, VIEW_USER, Need, Permission
from evergreen_groups.errors import EventError, LoginRefusedError
from evergreen_groups.ils import KindNames, Limits, OrgUnits, Profiles, permissions, read_fines_penalties
from evergreen_groups.message import Message
from evergreen_groups.settings import passwords
from evergreen_groups.values import plausible

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Subject

_AUTH = "open-ils.auth"
_EXPIRES_SOON = timedelta(days=30)
_EXPIRES = "the account's expiration date is {date}"
_EXTEND = "extend the account"
_NOT_REGISTERED = "the workstation {workstation} isn't registered"
_REGISTER = "register it in the staff client, or correct [gateway] workstation"
_GRANT = "grant {permission} at depth 0, with the top org unit as a working location"


def login(subject: Subject) -> Iterator[Finding]:
    """Evergreen accepts the user name and password for a staff login."""
    name = configured.gateway_account(subject.settings)
    try:
        subject.gateway.login()
    except LoginRefusedError as error:
        yield _refused(subject, error)
    else:
        yield ok("{name}", values={"name": name})


def _refused(subject: Subject, error: LoginRefusedError) -> Finding:
    """Find out why the login failed. Evergreen gives the same answer to a wrong password and a missing STAFF_LOGIN."""
    gateway = subject.settings.gateway
    if error.textcode == "WORKSTATION_NOT_FOUND":
        return failed(
            _NOT_REGISTERED,
            _REGISTER,
            code="workstation-not-registered",
            values={"workstation": gateway.workstation},
            setting="gateway.workstation",
        )
    if error.textcode != "LOGIN_FAILED":
        return from_error(error)
    if _known_to_the_catalog(subject):
        return failed(
            "the password is right, but {account} lacks {permission}",
            _GRANT,
            code="no-staff-login",
            values={"account": gateway.username, "permission": "STAFF_LOGIN"},
            setting="gateway.username",
        )
    return failed(
        "login refused: wrong name or password, or {account} is barred, deleted, or lacks STAFF_LOGIN",
        "try the name and password in the staff client",
        code="login-failed",
        values={"account": gateway.username},
        setting="gateway.username",
    )


def _known_to_the_catalog(subject: Subject) -> bool:
    """Return whether the same login works for the catalog, which doesn't need STAFF_LOGIN."""
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


def account(subject: Subject) -> Iterator[Finding]:
    """The account suits the purpose: it isn't a superuser and doesn't expire soon."""
    user = subject.user
    expires, now = plausible(user.expire_date), datetime.now(UTC)
    if user.super_user:
        yield warning(
            "the account is a superuser, who may do everything",
            "use an account with only the permissions below",
            code="superuser",
        )
    elif expires is not None and expires < now:
        yield warning(_EXPIRES, _EXTEND, code="account-expired", values={"date": expires.date()})
    elif expires is not None and expires < now + _EXPIRES_SOON:
        yield warning(_EXPIRES, _EXTEND, code="account-expires-soon", values={"date": expires.date()})
    else:
        home = subject.org_units.shortname(user.home_ou)
        yield ok("id {id}, home library {library}", values={"id": user.id, "library": home})


def workstation(subject: Subject) -> Iterator[Finding]:
    """The session uses the configured workstation."""
    name = subject.settings.gateway.workstation
    place = subject.org_units.shortname(subject.work_org)
    if name is None:
        yield ok("not set (optional); the account works at {place}", values={"place": place})
    elif subject.user.wsid is None:
        yield warning(
            _NOT_REGISTERED,
            _REGISTER,
            code="workstation-not-taken",
            values={"workstation": name},
            setting="gateway.workstation",
        )
    else:
        yield ok("{workstation}, at {place}", values={"workstation": name, "place": place})


def names(subject: Subject) -> Iterator[Finding]:
    """The configured libraries, profiles and permissions exist, and Evergreen's settings are valid."""
    settings, org_units = subject.settings, subject.org_units
    reports = [settings.report, *(named.report for named in settings.reports)]
    recipients = [settings.mail.recipients, *(named.recipients for named in settings.reports)]
    org_units.named(place for report in reports for place in report.orgs)
    org_units.named(place for some in recipients for place, _addresses in some if place != "*")
    if profiles := [profile for report in reports for profile in report.profiles]:
        Profiles.read(subject.gateway).named(profiles)
    kinds = [kind for report in reports for kind in report.kinds]
    known = KindNames.read(subject.gateway, kinds)
    known.check(kinds)
    if unknown := known.unknown(kinds):
        yield warning(
            "the account can't tell whether these billing types exist: {kinds}",
            "grant {permission} at depth 0, or check the names in Evergreen",
            code="kinds-not-visible",
            values={"kinds": name_some(unknown), "permission": "VIEW_BILLING_TYPE"},
            setting="report.kinds",
        )
        return
    penalties = read_fines_penalties(subject.gateway, org_units)
    Limits.read(subject.gateway, settings.policy, org_units, penalties)
    if settings.desk.changes and settings.follow_up.permission not in permissions.permission_names(subject.gateway):
        yield failed(
            "Evergreen has no permission {permission}, so only superusers can save follow-ups",
            "correct [follow_up] permission, or add the permission in Evergreen and grant it to staff",
            code="follow-up-permission-unknown",
            values={"permission": settings.follow_up.permission},
            setting="follow_up.permission",
        )
        return
    yield ok("all exist in Evergreen")


_MOST_NAMED = 8


def view_user(subject: Subject) -> Iterator[Finding]:
    """Which patrons the account may view, and whether it can find the other members of their groups."""
    held = subject.visible_orgs
    yield _permission(subject, VIEW_USER, held).named("permission.VIEW_USER", "VIEW_USER")
    # Evergreen lists the members of a group only with VIEW_USER at the account's working location.
    if held and subject.work_org not in held:
        place = subject.org_units.shortname(subject.work_org)
        yield failed(
            "the account works at {place} but lacks the permission there, so Evergreen doesn't list group members",
            "grant the permission at {place}, or set a workstation where the account has it",
            code="permission-missing-at-work",
            values={"place": place},
            setting="gateway.workstation",
        )


def other_permissions(subject: Subject) -> Iterator[Finding]:
    """One finding per other permission, with the libraries where the account has it."""
    held = permissions.orgs_by_permission(
        subject.gateway, subject.org_units, [permission.name for permission in PERMISSIONS]
    )
    for permission in PERMISSIONS:
        found = _permission(subject, permission, held[permission.name])
        yield found.named(f"permission.{permission.name}", permission.name)


def profiles(subject: Subject) -> Iterator[Finding]:
    """Profiles whose patrons the account may edit. Each profile can require its own permission."""
    if not subject.changes:
        return
    wanted = _application_permissions(subject)
    held = permissions.orgs_by_permission(subject.gateway, subject.org_units, list(wanted))
    changed = sorted(name for permission, names in wanted.items() if held[permission] for name in names)
    others = sorted(name for permission, names in wanted.items() if not held[permission] for name in names)
    if not wanted:
        yield ok("no profile requires a permission")
    elif not changed:
        yield failed(
            "the account can't edit patrons of any profile",
            "grant what `evergreen-groups install --show permissions` grants with --set changes=1",
            code="no-profile-changeable",
        )
    else:
        yield ok(
            "can edit: {profiles}; can't edit: {others}",
            values={"profiles": name_some(changed), "others": name_some(others) or Message("none", context="profiles")},
        )


def desk(subject: Subject) -> Iterator[Finding]:
    """What a clerk with this account's permissions could do at the desk, if the desk may change groups.

    This never fails: clerks use their own accounts at the desk, not the service's.
    """
    if not subject.settings.desk.changes:
        return
    root, application = subject.org_units.root, _application_permissions(subject)
    to_follow_up = subject.settings.follow_up.permission
    names = list(dict.fromkeys((*DESK_PERMISSIONS, *application, to_follow_up)))
    held = permissions.orgs_by_permission(subject.gateway, subject.org_units, names)
    changes = held["UPDATE_USER"] & held["VIEW_USER"]
    # Patrons can only be changed with a permission that their profile names, so at least one is needed.
    if application:
        changes &= frozenset().union(*(held[permission] for permission in application))
    values: dict[str, object] = {
        "needed": [*DESK_PERMISSIONS],
        "root": root.shortname,
        "places": name_places(subject.org_units, set(changes)) if changes else "-",
    }
    yield ok(
        "to see Evergreen's thresholds, clerks need {permission} at depth 0 (stock profiles have it at branch depth)",
        code="desk-thresholds",
        values={"permission": permissions.VIEW_THRESHOLDS},
    )
    yield ok(
        "staff save follow-ups with {permission} at the contact's home library; this account has it: {places}",
        code="desk-follow-ups",
        values={"permission": to_follow_up, "places": _held_at(subject.org_units, held[to_follow_up])},
    )
    if changes:
        yield ok("this account could change groups at: {places}", values=values)
    else:
        yield ok(
            "this account can't change groups; clerks need {needed} at their libraries, STAFF_LOGIN at {root}, and the "
            "permissions of the patrons' profiles (group_application.…)",
            values=values,
        )


def _permission(subject: Subject, permission: Permission, held: Collection[int]) -> Finding:
    """Return where the account has a permission, held at these org units, and whether that is enough."""
    org_units = subject.org_units
    every = {unit.id for unit in org_units}
    needed = {
        Need.CHANGES: subject.changes or subject.settings.events.recalculate,
        Need.ILS_LIMITS: subject.settings.policy.limit == "ils",
    }.get(permission.need, permission.need is Need.ALWAYS)
    values: dict[str, object] = {
        "permission": permission.name,
        "purpose": permission.purpose,
        "places": _held_at(org_units, held),
        "missing": name_places(org_units, every - set(held)),
    }
    if held and needed and not every <= set(held):
        return warning(
            "{places}, but not {missing}; needed for: {purpose}",
            _GRANT,
            code="permission-partly-missing",
            values=values,
        )
    if not held and needed:
        return failed(_HELD, _GRANT, code="permission-missing", values=values)
    if not held and permission.need is Need.ITEMS:
        return warning(_HELD, _GRANT, code="permission-missing-for-show", values=values)
    is_for_details = permission.name == permissions.VIEW_USER_TRANSACTIONS
    if not held and is_for_details and subject.settings.report.details == "full":
        return warning(
            _HELD,
            'grant {permission} at depth 0, or set [report] details = "sums"',
            code="permission-missing-for-details",
            values=values,
        )
    return ok(_HELD, values=values)


_HELD = "{places}; needed for: {purpose}"


def _held_at(org_units: OrgUnits, held: Collection[int]) -> object:
    if not held:
        return Message("nowhere")
    if all(unit.id in held for unit in org_units):
        return Message("everywhere")
    return name_places(org_units, set(held))


def name_places(org_units: OrgUnits, ids: set[int]) -> list[str]:
    """Return the short names of org units, replacing a complete subtree by its top."""
    return name_some([unit.shortname for unit in org_units.subtree_roots(ids)])


def name_some(names: Sequence[str]) -> list[str]:
    """Return the first few names, followed by the number of others."""
    more = len(names) - _MOST_NAMED
    some = list(names[:_MOST_NAMED])
    return [*some, Message("{count} more", plural="{count} more", values={"count": more})] if more > 0 else some


def _application_permissions(subject: Subject) -> dict[str, list[str]]:
    """Read which permission (``pgt.application_perm``) is needed to edit patrons of which profiles."""
    fields = ("id", "name", "application_perm")
    rows = subject.gateway.pcrud.all_columns("pgt", fields)
    found: dict[str, list[str]] = {}
    for _id, name, permission in rows:
        if permission:
            found.setdefault(permission, []).append(name)
    return found
