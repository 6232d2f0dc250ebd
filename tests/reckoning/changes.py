"""The expected comparison with the run before, computed from two datasets without using the product."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reckoning.library import NOTHING, Library
from reckoning.reckoning import Document, lead_of, listed_groups, money, name


@dataclass(frozen=True)
class Listed:
    """A group as a run listed it: its total, its visible members, and their home libraries."""

    number: int
    fines: Decimal
    size: int
    members: frozenset[int]
    library: str
    libraries: frozenset[str]

    @property
    def complete(self) -> bool:
        """Whether the account saw all members."""
        return len(self.members) == self.size


def listed(library: Library) -> dict[int, Listed]:
    """Return the groups that met the criteria, whether or not they were among the highest ``top``."""
    found = {}
    for number, members in listed_groups(library).items():
        visible = [patron for patron in members if library.visible(patron)]
        found[number] = Listed(
            number,
            library.combined(members),
            len(members),
            frozenset(patron["id"] for patron in visible),
            library.shortname(lead_of(visible)["home_ou"]),
            frozenset(library.shortname(patron["home_ou"]) for patron in visible),
        )
    return found


def current_numbers(before: Mapping[int, Listed], now: Mapping[int, Listed]) -> dict[int, int]:
    """Map each former group that is still listed to its current number.

    A group keeps its number as long as it shares a member with the former one. If not, it is the group that has more
    than half of the former members; and if some members were hidden, the group with the same number after all.
    """
    found = {}
    for number, was in before.items():
        most = next((one.number for one in now.values() if 2 * len(one.members & was.members) > len(was.members)), None)
        same = now.get(number)
        if same is not None and same.members & was.members:
            found[number] = number
        elif most is not None:
            found[number] = most
        elif same is not None and not (same.complete and was.complete):
            found[number] = number
    return found


def changes(earlier: Library, library: Library, groups: list[Document]) -> Document:
    """Return the document's ``changes``, and the changes of each listed group in ``groups``, by number."""
    before, now = listed(earlier), listed(library)
    current_number = current_numbers(before, now)
    hidden = {library.shortname(org) for org in library.orgs if org not in library.visible_orgs}
    hidden_before = {earlier.shortname(org) for org in earlier.orgs if org not in earlier.visible_orgs}
    shown = {one["group"] for one in groups}
    by_group = {
        number: _changed(one, [was for old, was in before.items() if current_number.get(old) == number])
        if number in current_number.values()
        else _new(one, before, certain=not one.libraries <= hidden_before)
        for number, one in now.items()
        if number in shown
    }
    gone = sorted(
        (was for number, was in before.items() if number not in current_number),
        key=lambda was: (-was.fines, was.number),
    )
    cleared = [was for was in gone if not was.libraries <= hidden]
    kinds = ["new", "worse", "better", "unchanged"]
    counts = {kind: sum(change["kind"] == kind for change in by_group.values()) for kind in kinds}
    return {
        "by_group": by_group,
        "counts": {**counts, "cleared": len(cleared), "hidden": len(gone) - len(cleared)},
        "difference": _sum(change["difference"] for change in by_group.values() if change["kind"] != "new"),
        "cleared": [
            {
                "group": was.number,
                "library": was.library,
                "before": money(was.fines),
                "certain": True,
                "member_count": was.size,
                "present": _present(library, was),
            }
            for was in cleared
        ],
        "trend": [_sums(before), _sums(now)],
    }


def _sum(amounts: Iterable[str | None]) -> str | None:
    found = [*amounts]
    return None if None in found else money(sum(map(Decimal, filter(None, found)), NOTHING))


def _changed(now: Listed, before: list[Listed]) -> Document:
    fines = sum((was.fines for was in before), NOTHING)
    members = frozenset[int]().union(*(was.members for was in before))
    numbers = sorted(was.number for was in before)
    complete = now.complete and all(was.complete for was in before)
    return {
        "kind": "unchanged" if now.fines == fines else "worse" if now.fines > fines else "better",
        "before": money(fines),
        "difference": money(now.fines - fines),
        "formerly": [] if numbers == [now.number] else numbers,
        "joined_count": len(now.members - members) if complete else None,
        "left_count": len(members - now.members) if complete else None,
        "certain": True,
    }


def _new(now: Listed, before: Mapping[int, Listed], *, certain: bool) -> Document:
    """Return a new group, with the number of the group that more than half of its members came from."""
    origins = [was.number for was in before.values() if 2 * len(was.members & now.members) > len(now.members)]
    return {
        "kind": "new",
        "before": None,
        "difference": None,
        "formerly": [number for number in origins if number != now.number],
        "joined_count": None,
        "left_count": None,
        "certain": certain,
    }


def _present(library: Library, was: Listed) -> Document | None:
    """Return a cleared group's current state: the group with more than half of its members, of those still visible.

    If there is none, it is the group with its number, if one of them is in it. A report of some libraries leaves out a
    group without members there.
    """
    left = [patron for patron in library.patrons.values() if patron["id"] in was.members and library.visible(patron)]
    groups = [patron["usrgroup"] for patron in left]
    number = next((one for one in groups if 2 * groups.count(one) > len(left)), was.number)
    if number not in groups:
        return None
    members = library.groups()[number]
    visible = [patron for patron in members if library.visible(patron)]
    readers = library.named(library.question["report"]["orgs"]) or set(library.orgs)
    if not any(patron["home_ou"] in readers for patron in visible):
        return None  # they don't see this group any more
    return {
        "group": number,
        "lead_name": name(lead_of(visible)),
        "member_count": len(members),
        "group_fines": money(library.combined(members)),
    }


def _sums(listings: Mapping[int, Listed]) -> dict[str, Any]:
    return {
        "group_count": len(listings),
        "member_count": sum(one.size for one in listings.values()),
        "group_fines": money(sum((one.fines for one in listings.values()), NOTHING)),
    }
