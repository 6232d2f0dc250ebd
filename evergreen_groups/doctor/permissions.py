"""Which permissions the account has, at which libraries, and what it lacks for what."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from evergreen_groups.doctor.finding import Finding, FindingMaker
from evergreen_groups.doctor.requirements import DESK_PERMISSIONS, PERMISSIONS, VIEW_USER, Need, Permission
from evergreen_groups.ils import VIEW_THRESHOLDS, VIEW_USER_TRANSACTIONS, OrgUnits, held_at
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.doctor.installation import Subject

_MOST_NAMED = 8
_GRANT = "grant {permission} with depth 0, and {root} as a working location"
_INCOMPLETE = Message("seeing patrons, fines and penalties: groups with members there are incomplete")


def view_user(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """Whose patrons the account sees, and whether it can learn of the others in their groups."""
    held = subject.visible_orgs
    yield _finding(subject, VIEW_USER, held)
    if held and subject.work_org not in held:
        place = subject.org_units.shortname(subject.work_org)
        yield line.failed(
            "the account works at {place}, where it lacks it, so the ILS doesn't show who else is in a group",
            "grant the permission at {place}, or set a workstation at a library where the account has it",
            code="permission-missing-at-work",
            values={"place": place},
            setting="gateway.workstation",
        )


def others(subject: Subject, _line: FindingMaker) -> Iterator[Finding]:
    """A line for each of the other permissions, with the libraries at which the account has it."""
    held = held_at(subject.gateway, subject.org_units, [permission.name for permission in PERMISSIONS])
    for permission in PERMISSIONS:
        yield _finding(subject, permission, held[permission.name])


def profiles(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The profiles whose patrons the account may change: each names a permission for that."""
    if not subject.changes:
        return
    wanted = _application_permissions(subject)
    held = held_at(subject.gateway, subject.org_units, list(wanted))
    changed = sorted(name for permission, names in wanted.items() if held[permission] for name in names)
    others = sorted(name for permission, names in wanted.items() if not held[permission] for name in names)
    if not wanted:
        yield line.ok("no profile asks for a permission of its own to change its patrons")
    elif not changed:
        yield line.failed(
            "the account may change patrons of no profile",
            "grant the permissions that the profiles name: {permissions}",
            code="no-profile-changeable",
            values={"permissions": name_some(sorted(wanted))},
        )
    elif others:
        yield line.ok(
            "patrons with the profile {profiles}; not {others}",
            values={"profiles": name_some(changed), "others": name_some(others)},
        )
    else:
        yield line.ok("patrons with the profile {profiles}", values={"profiles": name_some(changed)})


def desk(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """What somebody with this account could do at a desk, where the desk changes groups.

    Never a fault: at a desk everybody has an account of their own, and the service's isn't used there.
    """
    if not subject.settings.desk.changes:
        return
    root, application = subject.org_units.root, _application_permissions(subject)
    names = [*DESK_PERMISSIONS, *application]
    held = held_at(subject.gateway, subject.org_units, names)
    changes = held["UPDATE_USER"] & held["VIEW_USER"]
    if application:
        changes &= frozenset().union(*(held[permission] for permission in application))
    values: dict[str, object] = {
        "needed": [*DESK_PERMISSIONS],
        "root": root.shortname,
        "places": name_places(subject.org_units, set(changes)) if changes else "",
    }
    yield line.ok(
        "to see at which amount Evergreen blocks, clerks need {permission} with depth 0; stock groups have it at the "
        "depth of the branch",
        code="desk-thresholds",
        values={"permission": VIEW_THRESHOLDS},
    )
    if not changes:
        yield line.ok(
            "this account could change nobody at a desk; whoever is to needs {needed} at the libraries whose patrons "
            "they serve, STAFF_LOGIN at {root}, and what the patrons' profiles ask for (group_application.…)",
            values=values,
        )
        return
    lacks = [name for name in DESK_PERMISSIONS if not held[name]]
    values["lacks"] = lacks
    if lacks:
        yield line.ok("this account could change groups at {places}; it lacks {lacks}", values=values)
    else:
        yield line.ok("this account could change groups at {places}", values=values)


def _finding(subject: Subject, permission: Permission, held: Collection[int]) -> Finding:
    line = FindingMaker(f"permission.{permission.name}", permission.name)
    org_units = subject.org_units
    every = {unit.id for unit in org_units}
    needed = _needed(subject, permission.need)
    values: dict[str, object] = {
        "permission": permission.name,
        "purpose": permission.purpose,
        "root": org_units.root.shortname,
    }
    if every <= set(held):
        return line.ok("everywhere; needed for: {purpose}", values=values)
    if not held and needed:
        return line.failed("nowhere; needed for: {purpose}", _GRANT, code="permission-missing", values=values)
    if not held:
        return _without(subject, permission, line)
    values["places"] = name_places(org_units, set(held))
    if not needed:
        return line.ok("at {places}; needed for: {purpose}", values=values)
    values["missing"] = name_places(org_units, every - set(held))
    if permission is VIEW_USER:
        values["purpose"] = _INCOMPLETE
    return line.warning(
        "at {places}, but not at {missing}; needed for: {purpose}",
        _GRANT,
        code="permission-partly-missing",
        values=values,
    )


def _without(subject: Subject, permission: Permission, line: FindingMaker) -> Finding:
    """What is missing where the account has a permission nowhere that nothing needs but for what it shows."""
    root = subject.org_units.root.shortname
    values = {"permission": permission.name, "purpose": permission.purpose, "root": root}
    if permission.need is Need.ITEMS:
        return line.warning(
            "nowhere; `evergreen-groups show` needs it for: {purpose}",
            _GRANT,
            code="permission-missing-for-show",
            values=values,
        )
    if permission.name == VIEW_USER_TRANSACTIONS and subject.settings.report.details == "full":
        return line.warning(
            "nowhere; the report needs it for: {purpose}",
            'grant {permission} with depth 0, and {root} as a working location, or set [report] details = "sums"',
            code="permission-missing-for-details",
            values=values,
        )
    return line.ok("nowhere; only needed for: {purpose}", values=values)


def _needed(subject: Subject, need: Need) -> bool:
    """Whether the configuration, or who asked, makes a permission necessary."""
    if need is Need.CHANGES:
        return subject.changes or subject.settings.events.recalculate
    if need is Need.ILS_LIMITS:
        return subject.settings.policy.limit == "ils"
    return need is Need.ALWAYS


def name_places(org_units: OrgUnits, ids: set[int]) -> list[str]:
    """Short names of as few org units as say it, each meant with all below it."""
    tops = org_units.tops_of(ids) or [unit for unit in org_units if unit.id in ids]
    return name_some([unit.shortname for unit in tops])


def name_some(names: Sequence[str]) -> list[str]:
    """Names, the first few where there are many, and then how many more there are."""
    more = len(names) - _MOST_NAMED
    some = list(names[:_MOST_NAMED])
    return [*some, Message("{count} more", plural="{count} more", values={"count": more})] if more > 0 else some


def _application_permissions(subject: Subject) -> dict[str, list[str]]:
    """The permissions for changing patrons, each with the profiles that it is for (``pgt.application_perm``)."""
    fields = ("id", "name", "application_perm")
    rows = subject.gateway.pcrud.all_columns("pgt", fields)
    found: dict[str, list[str]] = {}
    for _id, name, permission in rows:
        if permission:
            found.setdefault(permission, []).append(name)
    return found
