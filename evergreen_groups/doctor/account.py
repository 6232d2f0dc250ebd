"""Checks of the account: login, permissions, and whether the configured names exist in Evergreen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups import configured
from evergreen_groups.doctor.finding import Finding, failed, from_error, noted, ok, warning
from evergreen_groups.doctor.interface import DESK_PERMISSIONS, PERMISSIONS, VIEW_USER, Need, Permission
from evergreen_groups.errors import EventError, LoginRefusedError
from evergreen_groups.ils import KindNames, Limits, OrgUnits, Profiles, permissions, read_fines_penalties
from evergreen_groups.message import Message
from evergreen_groups.settings import passwords
from evergreen_groups.values import plausible

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Found, Subject

_AUTH = "open-ils.auth"
_EXPIRES_SOON = timedelta(days=30)
_MOST_NAMED = 8

_EXPIRES = "the account's expiration date is {date}"
_EXTEND = "extend the account"
_NOT_REGISTERED = "the workstation {workstation} isn't registered"
_REGISTER = "register it in the staff client, or correct [gateway] workstation"
_HELD = "{places}; needed for: {purpose}"
_GRANT = "grant {permission} at depth 0, with the top org unit as a working location"

_WORKSTATION_NOT_REGISTERED = failed("workstation-not-registered", _NOT_REGISTERED, _REGISTER, "gateway.workstation")
_NO_STAFF_LOGIN = failed(
    "no-staff-login", "the password is right, but {account} lacks {permission}", _GRANT, "gateway.username"
)
_LOGIN_FAILED = failed(
    "login-failed",
    "login refused: wrong name or password, or {account} is barred, deleted, or lacks STAFF_LOGIN",
    "try the name and password in the staff client",
    "gateway.username",
)
_SUPERUSER = warning(
    "superuser",
    "the account is a superuser, who may do everything",
    "use an account with only the permissions below",
)
_ACCOUNT_EXPIRED = warning("account-expired", _EXPIRES, _EXTEND)
_ACCOUNT_EXPIRES_SOON = warning("account-expires-soon", _EXPIRES, _EXTEND)
_WORKSTATION_NOT_TAKEN = warning("workstation-not-taken", _NOT_REGISTERED, _REGISTER, "gateway.workstation")
_KINDS_NOT_VISIBLE = warning(
    "kinds-not-visible",
    "the account can't tell whether these billing types exist: {kinds}",
    "grant {permission} at depth 0, or check the names in Evergreen",
    "report.kinds",
)
_FOLLOW_UP_PERMISSION_UNKNOWN = failed(
    "follow-up-permission-unknown",
    "Evergreen has no permission {permission}, so only superusers can save follow-ups",
    "correct [follow_up] permission, or add the permission in Evergreen and grant it to staff",
    "follow_up.permission",
)
_PERMISSION_MISSING_AT_WORK = failed(
    "permission-missing-at-work",
    "the account works at {place} but lacks the permission there, so Evergreen doesn't list group members",
    "grant the permission at {place}, or set a workstation where the account has it",
    "gateway.workstation",
)
_PERMISSION_PARTLY_MISSING = warning(
    "permission-partly-missing", "{places}, but not {missing}; needed for: {purpose}", _GRANT
)
_PERMISSION_MISSING = failed("permission-missing", _HELD, _GRANT)
_PERMISSION_MISSING_FOR_SHOW = warning("permission-missing-for-show", _HELD, _GRANT)
_PERMISSION_MISSING_FOR_DETAILS = warning(
    "permission-missing-for-details", _HELD, 'grant {permission} at depth 0, or set [report] details = "sums"'
)
_NO_PROFILE_CHANGEABLE = failed(
    "no-profile-changeable",
    "the account can't edit patrons of any profile",
    "grant what `evergreen-groups install --show permissions` grants with --set changes=1",
)
_DESK_THRESHOLDS = noted(
    "desk-thresholds",
    "to see Evergreen's thresholds, clerks need {permission} at depth 0 (stock profiles have it at branch depth)",
)
_DESK_FOLLOW_UPS = noted(
    "desk-follow-ups",
    "staff save follow-ups with {permission} at the contact's home library; this account has it: {places}",
)


def login(subject: Subject) -> Finding:
    """Evergreen accepts the user name and password for a staff login."""
    name = configured.gateway_account(subject.settings)
    try:
        subject.gateway.login()
    except LoginRefusedError as error:
        return _refused(subject, error)
    return ok("{name}", name=name)


def _refused(subject: Subject, error: LoginRefusedError) -> Finding:
    """Find out why the login failed. Evergreen gives the same answer to a wrong password and a missing STAFF_LOGIN."""
    gateway = subject.settings.gateway
    if error.textcode == "WORKSTATION_NOT_FOUND":
        return _WORKSTATION_NOT_REGISTERED(workstation=gateway.workstation)
    if error.textcode != "LOGIN_FAILED":
        return from_error(error)
    if _known_to_the_catalog(subject):
        return _NO_STAFF_LOGIN(account=gateway.username, permission="STAFF_LOGIN")
    return _LOGIN_FAILED(account=gateway.username)


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


def account(subject: Subject) -> Finding:
    """The account suits the purpose: it isn't a superuser and doesn't expire soon."""
    user = subject.user
    expires, now = plausible(user.expire_date), datetime.now(UTC)
    if user.super_user:
        return _SUPERUSER()
    if expires is not None and expires < now:
        return _ACCOUNT_EXPIRED(date=expires.date())
    if expires is not None and expires < now + _EXPIRES_SOON:
        return _ACCOUNT_EXPIRES_SOON(date=expires.date())
    return ok("id {id}, home library {library}", id=user.id, library=subject.org_units.shortname(user.home_ou))


def workstation(subject: Subject) -> Finding:
    """The session uses the configured workstation."""
    name = subject.settings.gateway.workstation
    place = subject.org_units.shortname(subject.work_org)
    if name is None:
        return ok("not set (optional); the account works at {place}", place=place)
    if subject.user.wsid is None:
        return _WORKSTATION_NOT_TAKEN(workstation=name)
    return ok("{workstation}, at {place}", workstation=name, place=place)


def names(subject: Subject) -> Finding:
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
        return _KINDS_NOT_VISIBLE(kinds=name_some(unknown), permission="VIEW_BILLING_TYPE")
    penalties = read_fines_penalties(subject.gateway, org_units)
    Limits.read(subject.gateway, settings.policy, org_units, penalties)
    if settings.desk.changes and settings.follow_up.permission not in permissions.permission_names(subject.gateway):
        return _FOLLOW_UP_PERMISSION_UNKNOWN(permission=settings.follow_up.permission)
    return ok("all exist in Evergreen")


def view_user(subject: Subject) -> Iterator[Finding]:
    """Which patrons the account may view, and whether it can find the other members of their groups."""
    held = subject.visible_orgs
    yield _permission(subject, VIEW_USER, held).named("permission.VIEW_USER", "VIEW_USER")
    # Evergreen lists the members of a group only with VIEW_USER at the account's working location.
    if held and subject.work_org not in held:
        yield _PERMISSION_MISSING_AT_WORK(place=subject.org_units.shortname(subject.work_org))


def other_permissions(subject: Subject) -> Iterator[Finding]:
    """One finding per other permission, with the libraries where the account has it."""
    held = permissions.orgs_by_permission(
        subject.gateway, subject.org_units, [permission.name for permission in PERMISSIONS]
    )
    for permission in PERMISSIONS:
        found = _permission(subject, permission, held[permission.name])
        yield found.named(f"permission.{permission.name}", permission.name)


def profiles(subject: Subject) -> Found:
    """Profiles whose patrons the account may edit. Each profile can require its own permission."""
    if not subject.changes:
        return ()
    wanted = _application_permissions(subject)
    held = permissions.orgs_by_permission(subject.gateway, subject.org_units, list(wanted))
    changed = sorted(name for permission, names in wanted.items() if held[permission] for name in names)
    others = sorted(name for permission, names in wanted.items() if not held[permission] for name in names)
    if not wanted:
        return ok("no profile requires a permission")
    if not changed:
        return _NO_PROFILE_CHANGEABLE()
    without = name_some(others) or Message("none", context="profiles")
    return ok("can edit: {profiles}; can't edit: {others}", profiles=name_some(changed), others=without)


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
    yield _DESK_THRESHOLDS(permission=permissions.VIEW_THRESHOLDS)
    yield _DESK_FOLLOW_UPS(permission=to_follow_up, places=_held_at(subject.org_units, held[to_follow_up]))
    if changes:
        places = name_places(subject.org_units, set(changes))
        yield ok("this account could change groups at: {places}", places=places)
    else:
        yield ok(
            "this account can't change groups; clerks need {needed} at their libraries, STAFF_LOGIN at {root}, and the "
            "permissions of the patrons' profiles (group_application.…)",
            needed=[*DESK_PERMISSIONS],
            root=root.shortname,
        )


def _permission(subject: Subject, permission: Permission, held: Collection[int]) -> Finding:
    """Return where the account has a permission, held at these org units, and whether that is enough."""
    org_units, settings = subject.org_units, subject.settings
    missing = {unit.id for unit in org_units} - set(held)
    needed = {
        Need.CHANGES: subject.changes or settings.events.recalculate,
        Need.ILS_LIMITS: settings.policy.limit == "ils",
    }.get(permission.need, permission.need is Need.ALWAYS)
    values = {
        "permission": permission.name,
        "purpose": permission.purpose,
        "places": _held_at(org_units, held),
    }
    if held:
        if needed and missing:
            return _PERMISSION_PARTLY_MISSING(**values, missing=name_places(org_units, missing))
        return ok(_HELD, **values)
    if needed:
        return _PERMISSION_MISSING(**values)
    if permission.need is Need.ITEMS:
        return _PERMISSION_MISSING_FOR_SHOW(**values)
    if permission.name == permissions.VIEW_USER_TRANSACTIONS and settings.report.details == "full":
        return _PERMISSION_MISSING_FOR_DETAILS(**values)
    return ok(_HELD, **values)


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
