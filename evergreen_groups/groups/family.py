"""A group's visible members and their penalties, in one query, together with whether that is everybody.

What else is asked for by the same query, :class:`GroupQuestion` says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import Gateway, Record, columns
from evergreen_groups.groups.hidden import cut, members_not_asked_for, read_member_ids
from evergreen_groups.groups.models import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    Patron,
    PatronAccount,
    PatronRow,
    make_patrons,
)
from evergreen_groups.groups.named import not_copied_yet
from evergreen_groups.groups.patron_record import read_patron
from evergreen_groups.ils import PENALTY_FIELDS, PenaltyRow, not_archived

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits

Query = dict[str, Any]

# Each id is some seven bytes of a request that may have 32 kB, and stands in it up to three times.
_MOST_ORG_UNITS = 800


@dataclass(frozen=True, slots=True)
class HiddenCirculations:
    """Which circulations are asked about: those at ``hidden_at`` of patrons with a home library of ``counted_at``.

    Ids of org units: the first are those whose circulations the account doesn't see, of patrons of the others the ILS
    tells it all the same.
    """

    hidden_at: frozenset[int]
    counted_at: frozenset[int]


@dataclass(frozen=True, slots=True)
class GroupViewer:
    """Whose session looks at a group (``user``, an ``au.id``), and what it asks for beside the members.

    ``patrons_at`` are the ids of the org units whose patrons it sees; ``everywhere`` says that these are all.
    ``circulations`` asks whether some are hidden, ``with_staff`` for the staff who have set penalties, and ``beside``
    for these patrons (ids). ``group`` is the number of the user's own group (None: not known). ``changed`` are patrons
    (ids) of whom a copy of the database may have an older record (None: that may be anybody).
    """

    user: int
    patrons_at: frozenset[int]
    everywhere: bool
    circulations: HiddenCirculations | None = None
    with_staff: bool = False
    beside: frozenset[int] = frozenset()
    group: int | None = None
    changed: frozenset[int] | None = frozenset()


@dataclass(frozen=True, slots=True)
class BesideMembers:
    """What the rows beside the members say: ``named`` are the ids of those asked for, ``complete`` that nobody is
    hidden, ``no_circulation_hidden`` that nothing is which a member has out; where they don't say so, it may be."""

    named: frozenset[int]
    complete: bool
    no_circulation_hidden: bool


class GroupQuestion:
    """The question for one group; ``inside`` and ``outside`` are conditions on ``usrgroup``."""

    def __init__(self, inside: Query, outside: Query, viewer: GroupViewer) -> None:
        self._inside = inside
        self._outside = outside
        self._viewer = viewer
        # The row of the session's own user can't stand for an answer where it is asked for anyway.
        asked = viewer.circulations is not None and viewer.user not in viewer.beside
        self._circulations = viewer.circulations if asked else None
        self._has_witness = bool(viewer.patrons_at)
        self._seen_homes = sorted(viewer.patrons_at) if len(viewer.patrons_at) <= _MOST_ORG_UNITS else []
        self._with_staff = viewer.with_staff and (viewer.everywhere or bool(self._seen_homes))

    @classmethod
    def around(cls, patron: int, viewer: GroupViewer) -> GroupQuestion:
        """The question for the group that a patron is in."""
        its_group = {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": patron, "deleted": "f"}}
        return cls({"in": its_group}, {"not in": its_group}, viewer)

    @classmethod
    def of_number(cls, group: int, viewer: GroupViewer) -> GroupQuestion:
        """The question for the group with a number."""
        return cls({"=": group}, {"<>": group}, viewer)

    @property
    def where(self) -> Query:
        """The condition for all its rows."""
        queries = [self._members()]
        if self._has_witness:
            queries.append(self._witness())
        if self._with_staff:
            queries.append(_ids({"id": {"in": self._staff_of_visible_members()}}))
        if self._viewer.beside:
            queries.append(_ids({"id": sorted(self._viewer.beside)}))
        if self._circulations is not None:
            queries.append(self._no_circulation_hidden(self._circulations))
        return {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}  # a union of one is refused

    def answers(self, members: Set[int], others: Mapping[int, int], staff: Set[int]) -> BesideMembers | None:
        """What the rows beside those of the ``members`` (ids) say, None where some weren't asked for.

        ``others`` are the groups (numbers) that these are of, by the patrons' ids, ``staff`` are the ids of those who
        have set members' penalties, archived ones too.
        """
        viewer, own = self._viewer, frozenset({self._viewer.user})
        expected = viewer.beside | ((staff - own) if self._with_staff else frozenset())
        named = others.keys() & expected
        signal = own if self._circulations is not None else frozenset[int]()
        rest = others.keys() - named - signal
        if len(rest) > self._has_witness:
            return None
        # Where somebody's row isn't there, which may well be, it would pass for the witness under a wrong id.
        missing = expected - members - others.keys()
        if viewer.group is None:
            missing |= signal - others.keys()
        is_witness = not missing and all(others[id] != viewer.group for id in rest)
        return BesideMembers(frozenset(named), bool(rest) and is_witness, bool(others.keys() & signal))

    def _members(self, **more: Any) -> Query:
        return _ids({"deleted": "f", "usrgroup": self._inside, **more})

    def _staff(self, **members: Any) -> Query:
        """The query for those who have set members' penalties, but for the session's own user."""
        theirs = {"usr": {"in": self._members(**members)}, "staff": {"<>": self._viewer.user}}
        return {"select": {"ausp": ["staff"]}, "from": "ausp", "where": theirs}

    def _staff_of_visible_members(self) -> Query:
        # Whoever has set the penalty of a hidden member couldn't be told from the witness.
        return self._staff() if self._viewer.everywhere else self._staff(home_ou=self._seen_homes)

    def _no_circulation_hidden(self, asked: HiddenCirculations) -> Query:
        members = self._members(home_ou=sorted(asked.counted_at))
        hidden = {"usr": {"in": members}, "checkin_time": None, "circ_lib": sorted(asked.hidden_at)}
        found = {"select": {"circ": ["id"]}, "from": "circ", "where": hidden}
        return _ids({"id": self._viewer.user, "-not-exists": found})

    def _witness(self) -> Query:
        """The query for one patron of another group who is seen if, and only if, every member is.

        Whoever sees one patron of a library sees them all. It is nobody whose row says something else.
        """
        others: list[Query] = [{"id": {"not in": sorted({self._viewer.user, *self._viewer.beside})}}]
        if self._viewer.group is not None:
            others.append({"usrgroup": {"<>": self._viewer.group}})
        if self._with_staff:
            others.append({"id": {"not in": self._staff()}})
        witness: Query = {"deleted": "f", "usrgroup": self._outside, "-and": others}
        if not self._viewer.everywhere:
            witness |= self._of_a_library_that_is_seen()
        return _ids({"id": {"in": {**_ids(witness), "limit": 1}}})

    def _of_a_library_that_is_seen(self) -> Query:
        # Inside a query nobody is hidden (pcrud-141), so these find the members that the search itself leaves out.
        homes = {"select": {"au": ["home_ou"]}, "from": "au", "where": {"deleted": "f", "usrgroup": self._inside}}
        seen = self._seen_homes
        not_seen = [{"home_ou": {"not in": seen}}] if seen else []
        elsewhere = {
            # Joined: the first class of a subquery can't have a name of its own, and "au" has to be the witness.
            "select": {"aou": ["id"]},
            "from": {"aou": {"m": {"class": "au", "fkey": "id", "field": "home_ou"}}},
            "where": {
                "+m": {
                    "deleted": "f",
                    "usrgroup": self._inside,
                    "-and": [{"home_ou": {"<>": {"+au": "home_ou"}}}, *not_seen],
                }
            },
        }
        somewhere = [{"home_ou": {"in": homes}}, *([{"home_ou": seen}] if seen else [])]
        return {"-or": somewhere, "-not-exists": elsewhere}


def _ids(where: Query) -> Query:
    return {"select": {"au": ["id"]}, "from": "au", "where": where}


def may_ask_about(circulations: HiddenCirculations) -> bool:
    """Whether there is something to ask about hidden circulations, and room for it."""
    count = len(circulations.hidden_at) + len(circulations.counted_at)
    return bool(circulations.hidden_at) and bool(circulations.counted_at) and count <= _MOST_ORG_UNITS


_MOST_READINGS = 3

Look = Callable[[], "VisiblePatrons"]
"""Reads the group from a copy."""
ReadPatrons = Callable[[Collection[int]], "VisiblePatrons"]
"""Reads patrons (ids) from a copy, whatever their group there is, as members of the group."""


def put_right(
    gateway: Gateway, group: int, look: Look, read_patrons: ReadPatrons, changed: frozenset[int] | None
) -> VisiblePatrons:
    """A group as a copy has it, with the members that it has now.

    Two calls beside one another. Where they differ, one for those whom the copy has elsewhere, and one for the record
    of each who has come or gone; of the ``changed`` (ids; None: anybody) each record is read as well, for the mark as
    lead.

    Who has no VIEW_USER at their own library gets no list of members, and the group as the copy has it.

    Raises:
        DataError: lists of members and records say different things each time.
    """
    readers: tuple[Callable[[], Any], ...] = (look, lambda: _members(gateway, group))
    for _ in range(_MOST_READINGS):
        found, ids = gateway.map(lambda read: read(), readers)
        if ids is None:
            return cast("VisiblePatrons", found)
        come = read_patrons(ids - found.ids)
        visible = found.ids | come.ids
        doubtful = (visible - ids) | come.ids | (visible if changed is None else visible & changed)
        records = _records(gateway, doubtful)
        if all(_is_in(records[id], group) is (id in ids) for id in doubtful):
            return _joined(found, come, ids, records)
    raise members_not_asked_for()


def _members(gateway: Gateway, group: int) -> frozenset[int] | None:
    try:
        return read_member_ids(gateway, [group], current=True)
    except PermissionDeniedError:
        return None


def _records(gateway: Gateway, patrons: Set[int]) -> dict[int, Record | None]:
    wanted = sorted(patrons)
    return dict(zip(wanted, gateway.map(partial(read_patron, gateway), wanted), strict=True))


def _is_in(record: Record | None, group: int) -> bool:
    return record is not None and not record.deleted and int(record.usrgroup) == group


def _joined(
    found: VisiblePatrons, come: VisiblePatrons, ids: frozenset[int], records: dict[int, Record | None]
) -> VisiblePatrons:
    parts = (found, come)
    leads = {id: bool(record.master_account) for id, record in records.items() if record is not None}
    rows = tuple(
        row._replace(group=found.group, group_lead=leads.get(row.id, row.group_lead))
        for part in parts
        for row in part.rows
        if row.id in ids
    )
    visible = {row.id for row in rows}
    return replace(
        found,
        rows=rows,
        barcodes={id: barcode for part in parts for id, barcode in part.barcodes.items()},
        accounts={id: account for part in parts for id, account in part.accounts.items() if id in visible},
        penalties=tuple(row for part in parts for row in part.penalties if row.patron in visible),
        complete=ids == visible,
        # Of those who have come nobody has asked.
        no_circulation_hidden=found.no_circulation_hidden and not come.rows,
    )


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
    if gateway.reads_replicas and (record := read_patron(gateway, patron)) is not None:
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

    if not gateway.reads_replicas:
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
