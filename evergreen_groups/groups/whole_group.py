"""A group's members in sight, in one query, together with whether that is everybody.

Rows that the account may not see are missing without a word (``pcrud-034``), but subqueries see everybody
(``pcrud-141``). So the query asks for one row more, a witness: some patron of another group at a library where the
account is known to see patrons, and only as long as no member of the group is at home anywhere else. With the witness
among the rows nobody is out of sight; without it, somebody may be.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway, Record
from evergreen_groups.groups.patrons import NAME_FIELDS, display_name

MOST_MEMBERS = 5_000
"""A group of more members isn't read: the answer would come near to what gets stuck on a real gateway."""

_FIELDS = ("id", "usrgroup", "home_ou", "profile", "card", "master_account", *NAME_FIELDS)
_FLESHED = ("card", "home_ou")


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A member in sight: ``barcode`` is that of the primary card, ``library`` the short name of the home library."""

    id: int
    name: str
    barcode: str | None
    profile: int
    home_library: int
    library: str
    group_lead: bool


@dataclass(frozen=True, slots=True)
class GroupRows:
    """The members of a group in sight; ``complete`` says that nobody else belongs to it."""

    group: int
    rows: tuple[GroupRow, ...]
    complete: bool


def rows_around(gateway: Gateway, patron: int, granted: Collection[int]) -> GroupRows | None:
    """The group that a patron is in, None where the patron is deleted, unknown or out of sight.

    ``granted`` are org units (ids) at which, and below which, the account may see patrons.

    Raises:
        DataError: there are more than ``MOST_MEMBERS``.
    """
    its_group = {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": patron, "deleted": "f"}}
    found = _search(gateway, {"in": its_group}, {"not in": its_group}, granted)
    group = next((record.usrgroup for record in found if record.id == patron), None)
    return None if group is None else _sorted_out(group, found)


def rows_of(gateway: Gateway, group: int, granted: Collection[int]) -> GroupRows:
    """The group with this number; raises what :func:`rows_around` does."""
    return _sorted_out(group, _search(gateway, {"=": group}, {"<>": group}, granted))


def _search(
    gateway: Gateway, inside: dict[str, Any], outside: dict[str, Any], granted: Collection[int]
) -> list[Record]:
    """The members and the witness. ``inside`` and ``outside`` are conditions on ``usrgroup``."""
    gateway.idl("au", "ac", "aou", "mous")  # in one go, with what is read next
    members = _ids({"deleted": "f", "usrgroup": inside})
    wanted = {"union": [members, _witness(inside, outside, granted)]} if granted else members
    found = gateway.pcrud.search(
        "au",
        {"id": {"in": wanted}},
        select=_FIELDS,
        flesh=1,
        flesh_fields={"au": _FLESHED},
        limit=MOST_MEMBERS + 2,
    )
    if len(found) > MOST_MEMBERS + 1:
        raise DataError(
            "a group of more than {most:,} members isn't summed up",
            advice="that's no family, see the audit's accidental groups",
            code="group-too-large",
            values={"most": MOST_MEMBERS},
        )
    return found


def _witness(inside: dict[str, Any], outside: dict[str, Any], granted: Collection[int]) -> dict[str, Any]:
    """The query for one patron of another group, while all members are at home at or below ``granted``."""
    below = {
        "select": {"aou": [{"column": "id", "transform": "actor.org_unit_descendants", "result_field": "id"}]},
        "from": "aou",
        "where": {"id": sorted(granted)},
    }
    elsewhere = _ids({"deleted": "f", "usrgroup": inside, "home_ou": {"not in": below}})
    seen = {"deleted": "f", "usrgroup": outside, "home_ou": {"in": below}, "-not-exists": elsewhere}
    return _ids({"id": {"in": {**_ids(seen), "limit": 1}}})


def _ids(where: dict[str, Any]) -> dict[str, Any]:
    return {"select": {"au": ["id"]}, "from": "au", "where": where}


def _sorted_out(group: int, found: list[Record]) -> GroupRows:
    """Tell the members from the witness."""
    members = [record for record in found if record.usrgroup == group]
    return GroupRows(group, tuple(map(_row, members)), complete=len(members) < len(found))


def _row(record: Record) -> GroupRow:
    card, library = record.card, record.home_ou
    return GroupRow(
        id=record.id,
        name=display_name(record),
        barcode=card.barcode if isinstance(card, Record) else None,
        profile=record.profile,
        home_library=library.id,
        library=library.shortname,
        group_lead=bool(record.master_account),
    )
