"""Which permissions the account has, at which libraries, and what it lacks for what."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from evergreen_groups.doctor.finding import Finding, FindingMaker
from evergreen_groups.doctor.requirements import PERMISSIONS, VIEW_USER, Need, Permission
from evergreen_groups.ils import OrgUnit, OrgUnits, held_at

if TYPE_CHECKING:
    from evergreen_groups.doctor.installation import Subject

_MOST_PROFILES = 10_000
_MOST_NAMED = 8


def view_user(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """Whose patrons the account sees, and whether it can be told of the others in their groups."""
    held = subject.viewable
    yield _finding(subject, VIEW_USER, held)
    if held and subject.work_org not in held:
        place = subject.org_units.shortname(subject.work_org)
        yield line.failed(
            f"the account works at {place}, where it lacks it, so the ILS doesn't tell who else is in a group",
            f"grant it at {place}, or set a workstation at a library where the account has it",
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
            f"grant the permissions that the profiles name: {_some(sorted(wanted))}",
        )
    else:
        yield line.ok(f"patrons with the profile {_some(changed)}" + (f"; not {_some(others)}" if others else ""))


def _finding(subject: Subject, permission: Permission, held: Collection[int]) -> Finding:
    line = FindingMaker(f"permission.{permission.name}", permission.name)
    org_units = subject.org_units
    every = {unit.id for unit in org_units}
    needed = _needed(subject, permission.need)
    if every <= set(held):
        return line.ok(f"everywhere; to {permission.purpose}")
    if not held:
        if needed:
            return line.failed(f"nowhere; it is needed to {permission.purpose}", _grant(permission, org_units.root))
        if permission.need is Need.ITEMS:
            return line.warning(f"nowhere: show can't {permission.purpose}", _grant(permission, org_units.root))
        return line.ok(f"nowhere; only needed to {permission.purpose}")
    places = _places(org_units, set(held))
    if not needed:
        return line.ok(f"at {places}; to {permission.purpose}")
    missing = _places(org_units, every - set(held))
    effect = "; groups with members there are incomplete" if permission is VIEW_USER else ""
    return line.warning(
        f"at {places}, but not at {missing}{effect}; to {permission.purpose}", _grant(permission, org_units.root)
    )


def _needed(subject: Subject, need: Need) -> bool:
    """Whether the configuration, or who asked, makes a permission necessary."""
    if need is Need.CHANGES:
        return subject.changes or subject.settings.events.recalculate
    if need is Need.ILS_LIMITS:
        return subject.settings.policy.limit == "ils"
    return need is Need.ALWAYS


def _grant(permission: Permission, root: OrgUnit) -> str:
    return f"grant {permission.name} with depth 0, and {root.shortname} as a working location"


def _places(org_units: OrgUnits, ids: set[int]) -> str:
    """Short names of as few org units as say it, each meant with all below it."""
    tops = org_units.tops_of(ids) or [unit for unit in org_units if unit.id in ids]
    return _some([unit.shortname for unit in tops])


def _some(names: Sequence[str]) -> str:
    """Names, the first few where there are many."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _application_permissions(subject: Subject) -> dict[str, list[str]]:
    """The permissions for changing patrons, each with the profiles that it is for (``pgt.application_perm``)."""
    fields = ("id", "name", "application_perm")
    rows = subject.gateway.pcrud.search_columns("pgt", fields, {"id": {"<>": None}}, limit=_MOST_PROFILES)
    found: dict[str, list[str]] = {}
    for _id, name, permission in rows:
        if permission:
            found.setdefault(permission, []).append(name)
    return found
