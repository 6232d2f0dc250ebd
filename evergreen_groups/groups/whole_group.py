"""A group's visible members and their penalties, in one query, together with whether that is everybody.

Rows that the account may not see are missing without a word (``pcrud-034``), but subqueries see everybody
(``pcrud-141``). So the query asks for one row more, a witness: some patron of another group with the home library of
all members. With the witness among the rows nobody is hidden; without it, somebody may be. Where the members
have several home libraries, that says nothing, unless the account may see patrons at the root.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway, Record, columns
from evergreen_groups.groups.patrons import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    Patron,
    PatronAccount,
    PatronRow,
    make_patrons,
)
from evergreen_groups.ils import PENALTY_FIELDS, PenaltyRow, not_archived

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits

MOST_MEMBERS = 5_000
"""A group of more members isn't read: the answer would come near to what gets stuck on a real gateway."""

# For a family's handful of rows two queries each are less than two calls more would be.
_FLESHED = ("card", "standing_penalties")


@dataclass(frozen=True, slots=True)
class VisiblePatrons:
    """The visible patrons of a group, before it is known what they owe; ``complete``: nobody else belongs to it.

    ``barcodes`` are by the ids of cards, ``accounts`` by those of patrons; ``penalties`` are those in force.
    """

    group: int
    rows: tuple[PatronRow, ...]
    barcodes: Mapping[int, str]
    accounts: Mapping[int, PatronAccount]
    penalties: tuple[PenaltyRow, ...]
    complete: bool

    @property
    def ids(self) -> frozenset[int]:
        """The patrons' ids."""
        return frozenset(row.id for row in self.rows)

    @property
    def named_org_units(self) -> frozenset[int]:
        """The ids of the org units that :meth:`patrons` and penalties need."""
        return frozenset((*(row.home_library for row in self.rows), *(row.org_unit for row in self.penalties)))

    def patrons(self, org_units: OrgUnits) -> list[Patron]:
        """The patrons themselves.

        Raises:
            DataError: a home library isn't among the org units.
        """
        return make_patrons(self.rows, self.barcodes, org_units)


def visible_around(gateway: Gateway, patron: int, granted: Collection[int]) -> VisiblePatrons | None:
    """The group that a patron is in, None where the patron is deleted, unknown or hidden.

    ``granted`` are the org units (ids) at which the account works with the permission to see patrons.

    Raises:
        DataError: there are more than ``MOST_MEMBERS``.
    """
    its_group = {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": patron, "deleted": "f"}}
    # In the ILS's own query, so that a desk waits for one call and not for two.
    found = _search(gateway, {"in": its_group}, {"not in": its_group}, granted)
    group = next((record.usrgroup for record in found if record.id == patron), None)
    return None if group is None else _without_witness(group, found, granted)


def visible_in(gateway: Gateway, group: int, granted: Collection[int]) -> VisiblePatrons:
    """The group with this number; raises what :func:`visible_around` does."""
    return _without_witness(group, _search(gateway, {"=": group}, {"<>": group}, granted), granted)


def _search(
    gateway: Gateway, inside: dict[str, Any], outside: dict[str, Any], granted: Collection[int]
) -> list[Record]:
    """The members and the witness. ``inside`` and ``outside`` are conditions on ``usrgroup``."""
    gateway.idl("au", "ac", "ausp", "mous")  # in one go, with what is read next
    members = _ids({"deleted": "f", "usrgroup": inside})
    wanted = {"union": [members, _witness(inside, outside, granted)]} if granted else members
    found = gateway.pcrud.search(
        "au",
        {"id": {"in": wanted}},
        select=(*PATRON_FIELDS, *ACCOUNT_FIELDS),
        flesh=1,
        flesh_fields={"au": _FLESHED},
        # One for the witness, and one by which too many are noticed.
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
    """The query for one patron of another group who is seen if, and only if, every member is.

    That is one with the home library of all members: whoever sees one patron of a library sees them all. Where the
    account may see patrons at the root, it is anybody.
    """
    roots = {
        "select": {"aou": [{"column": "id", "transform": "actor.org_unit_descendants", "result_field": "id"}]},
        "from": "aou",
        # Below the root, where somebody works with a permission isn't where they have it: who works above the depth of
        # the permission sees nobody by that. So at the root alone it is believed.
        "where": {"id": sorted(granted), "parent_ou": None},
    }
    # Inside a query nobody is hidden (pcrud-141), so these find the members that the search itself leaves out.
    homes = {"select": {"au": ["home_ou"]}, "from": "au", "where": {"deleted": "f", "usrgroup": inside}}
    elsewhere = {
        # Joined, because the first class of a subquery can't have a name of its own, and "au" has to be the witness.
        "select": {"aou": ["id"]},
        "from": {"aou": {"m": {"class": "au", "fkey": "id", "field": "home_ou"}}},
        "where": {
            "+m": {
                "deleted": "f",
                "usrgroup": inside,
                "-and": [{"home_ou": {"<>": {"+au": "home_ou"}}}, {"home_ou": {"not in": roots}}],
            }
        },
    }
    somewhere = [{"home_ou": {"in": homes}}, {"home_ou": {"in": roots}}]
    witness = {"deleted": "f", "usrgroup": outside, "-or": somewhere, "-not-exists": elsewhere}
    return _ids({"id": {"in": {**_ids(witness), "limit": 1}}})


def _ids(where: dict[str, Any]) -> dict[str, Any]:
    return {"select": {"au": ["id"]}, "from": "au", "where": where}


def _without_witness(group: int, found: list[Record], granted: Collection[int]) -> VisiblePatrons:
    """Part the members from the witness, of whom there is one at most, and only where one was asked for."""
    members = [record for record in found if record.usrgroup == group]
    others = len(found) - len(members)
    if others > (1 if granted else 0):
        raise DataError(
            "the ILS gave patrons of other groups than was asked for",
            advice="look at the proxy, where there is one: it may have mixed up answers",
            code="groups-not-asked-for",
        )
    now = datetime.now(UTC)
    return VisiblePatrons(
        group,
        rows=tuple(map(_row, members)),
        barcodes={card.id: card.barcode for card in (record.card for record in members) if isinstance(card, Record)},
        accounts={
            record.id: PatronAccount.of(values, now)
            for record, values in zip(members, columns(members, *ACCOUNT_FIELDS), strict=True)
        },
        penalties=tuple(row for record in members for row in not_archived(_penalties(record))),
        complete=bool(others),
    )


def _row(record: Record) -> PatronRow:
    (values,) = columns([record], *PATRON_FIELDS)
    row = PatronRow._make(values)
    return row._replace(card=record.card.id) if isinstance(record.card, Record) else row


def _penalties(record: Record) -> Iterator[tuple[Any, ...]]:
    """The fields of a patron's penalties, archived ones too."""
    rows = record.standing_penalties
    # A list even where there is none (oils_sql.c, doFieldmapperSearch): nothing at all would pass for no penalty.
    if not isinstance(rows, list):
        raise DataError("the ILS gave no list of a patron's penalties", code="penalties-not-a-list")
    if any(row.usr != record.id for row in rows):
        raise DataError("the ILS gave the penalties of another patron", code="penalties-of-another")
    return columns(rows, *PENALTY_FIELDS)
