"""A group's visible members and their penalties, in one query, together with whether that is everybody.

What else is asked for by the same query, :class:`GroupQuestion` says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway, Record, columns
from evergreen_groups.groups.current_group import put_right
from evergreen_groups.groups.current_people import not_copied_yet
from evergreen_groups.groups.group_question import GroupQuestion
from evergreen_groups.groups.member_check import cut
from evergreen_groups.groups.patrons import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    Patron,
    PatronAccount,
    PatronRow,
    make_patrons,
)
from evergreen_groups.groups.written_patron import read_patron
from evergreen_groups.ils import PENALTY_FIELDS, PenaltyRow, not_archived

if TYPE_CHECKING:
    from evergreen_groups.groups.group_question import GroupViewer, Query
    from evergreen_groups.ils import OrgUnits

MOST_MEMBERS = 5_000
"""A group of more members isn't read: the answer would come near to what gets stuck on a real gateway."""

_MOST_OTHERS = 500
"""How many rows may come beside the members; staff who have set their penalties are the most of them."""

_STAFF = PENALTY_FIELDS.index("staff")

# For a family's handful of rows two queries each are less than two calls more would be.
_FLESHED = ("card", "standing_penalties")


@dataclass(frozen=True, slots=True)
class VisiblePatrons:
    """The visible patrons of a group, before it is known what they owe; ``complete``: nobody else belongs to it.

    ``barcodes`` are by the ids of cards, ``accounts`` by those of patrons; ``penalties`` are those in force. ``names``
    are those of others who were asked for and are visible, by id. ``no_circulation_hidden`` says that none is of those
    that were asked about; where it doesn't, some may be.
    """

    group: int
    rows: tuple[PatronRow, ...]
    barcodes: Mapping[int, str]
    accounts: Mapping[int, PatronAccount]
    penalties: tuple[PenaltyRow, ...]
    names: Mapping[int, str]
    complete: bool
    no_circulation_hidden: bool

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


def visible_around(gateway: Gateway, patron: int, viewer: GroupViewer) -> VisiblePatrons | None:
    """The group that a patron is in, None where the patron is deleted, unknown or hidden.

    Raises:
        DataError: there are more than ``MOST_MEMBERS``.
    """
    if gateway.reads_copies and (record := read_patron(gateway, patron)) is not None:
        return None if record.deleted else _current_around(gateway, record, viewer)
    # In the ILS's own query, so that a desk waits for one call and not for two.
    question = GroupQuestion.around(patron, viewer)
    found = _search(gateway, question)
    group = next((record.usrgroup for record in found if record.id == patron and not record.deleted), None)
    return None if group is None else _sorted_out(group, found, question)


def visible_in(gateway: Gateway, group: int, viewer: GroupViewer) -> VisiblePatrons:
    """The group with this number; raises what :func:`visible_around` does.

    Where plain reads come from copies of the database, its members are those that it has where changes are written
    (:func:`~evergreen_groups.groups.current_group.put_right`); what stands about them is as old as the copy.
    """
    question = GroupQuestion.of_number(group, viewer)

    def look() -> VisiblePatrons:
        return _sorted_out(group, _search(gateway, question), question)

    def patrons_of_copy(ids: Collection[int]) -> VisiblePatrons:
        pages = (_rows_of(gateway, some) for some in cut(sorted(ids)))
        members = [record for page in pages for record in page]
        return _of_members(group, members, _penalties(members))

    if not gateway.reads_copies:
        return look()
    return put_right(gateway, group, look, patrons_of_copy, viewer.changed)


def _current_around(gateway: Gateway, record: Record, viewer: GroupViewer) -> VisiblePatrons:
    found = visible_in(gateway, int(record.usrgroup), viewer)
    if record.id not in found.ids:
        raise not_copied_yet()
    return found


def _search(gateway: Gateway, question: GroupQuestion) -> list[Record]:
    """The members and those beside them."""
    gateway.idl("au", "ac", "ausp", "mous")  # in one go, with what is read next
    most = MOST_MEMBERS + _MOST_OTHERS
    found = _fleshed(gateway, question.where, most)
    if len(found) == most:
        raise _too_large()
    return found


def _rows_of(gateway: Gateway, ids: Sequence[int]) -> list[Record]:
    """The rows of patrons who aren't deleted."""
    return _fleshed(gateway, {"id": list(ids), "deleted": "f"}, len(ids) + 1)


def _fleshed(gateway: Gateway, where: Query, limit: int) -> list[Record]:
    fields = (*PATRON_FIELDS, *ACCOUNT_FIELDS, "deleted")
    return gateway.pcrud.search("au", where, select=fields, flesh=1, flesh_fields={"au": _FLESHED}, limit=limit)


def _sorted_out(group: int, found: list[Record], question: GroupQuestion) -> VisiblePatrons:
    """Part the members from those beside them."""
    whose = list(zip(found, columns(found, "id", "usrgroup", "deleted"), strict=True))
    members = [record for record, (_id, its_group, deleted) in whose if its_group == group and not deleted]
    if len(members) > MOST_MEMBERS:
        raise _too_large()
    penalties = _penalties(members)
    visible = _of_members(group, members, penalties)
    ids = visible.ids
    others = {id: (record, its_group) for record, (id, its_group, _deleted) in whose if id not in ids}
    beside = question.answers(
        ids,
        {id: its_group for id, (_record, its_group) in others.items()},
        {row[_STAFF] for row in penalties if row[_STAFF] is not None},
    )
    if beside is None:
        raise DataError(
            "the ILS gave patrons of other groups than was asked for",
            advice="look at the proxy, where there is one: it may have mixed up answers",
            code="groups-not-asked-for",
        )
    return replace(
        visible,
        names={row.id: row.name for row in _patron_rows([others[id][0] for id in beside.named])},
        complete=beside.complete,
        no_circulation_hidden=beside.no_circulation_hidden,
    )


def _of_members(group: int, members: list[Record], penalties: list[tuple[Any, ...]]) -> VisiblePatrons:
    """What stands about members, with their ``penalties``, without anything about others."""
    now = datetime.now(UTC)
    rows = _patron_rows(members)
    cards = [card for (card,) in columns(members, "card") if isinstance(card, Record)]
    return VisiblePatrons(
        group,
        rows=tuple(rows),
        barcodes=dict(columns(cards, "id", "barcode")),
        accounts={
            row.id: PatronAccount.of(values, now)
            for row, values in zip(rows, columns(members, *ACCOUNT_FIELDS), strict=True)
        },
        penalties=tuple(not_archived(penalties)),
        names={},
        complete=False,
        no_circulation_hidden=False,
    )


def _too_large() -> DataError:
    return DataError(
        "a group of more than {most:,} members isn't summed up",
        advice="that's no family, see the audit's accidental groups",
        code="group-too-large",
        values={"most": MOST_MEMBERS},
    )


def _patron_rows(records: Sequence[Record]) -> list[PatronRow]:
    rows = map(PatronRow._make, columns(records, *PATRON_FIELDS))
    return [row._replace(card=card.id) if isinstance(card := row.card, Record) else row for row in rows]


def _penalties(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """The fields of patrons' penalties, archived ones too."""
    found: list[Record] = []
    for id, rows in columns(records, "id", "standing_penalties"):
        # A list even where there is none (oils_sql.c, doFieldmapperSearch): nothing at all would pass for no penalty.
        if not isinstance(rows, list):
            raise DataError("the ILS gave no list of a patron's penalties", code="penalties-not-a-list")
        if any(usr != id for (usr,) in columns(rows, "usr")):
            raise DataError("the ILS gave the penalties of another patron", code="penalties-of-another")
        found += rows
    return list(columns(found, *PENALTY_FIELDS))
