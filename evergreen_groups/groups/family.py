"""Read a group's visible members and their penalties in one query, and find out whether members are hidden.

The ILS silently drops rows that the account may not see. :class:`FamilyQuery` therefore adds extra rows to the query
that come back only under certain conditions, which saves further calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import Gateway, Record, columns
from evergreen_groups.groups.families import not_replicated_yet, read_patron
from evergreen_groups.groups.hidden import batched, inconsistent_members, read_member_ids
from evergreen_groups.groups.models import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    Patron,
    PatronAccount,
    PatronRow,
    make_patrons,
)
from evergreen_groups.ils import PENALTY_FIELDS, PenaltyRow, select_in_force

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits

Query = dict[str, Any]

# An id takes some seven bytes and occurs up to three times in a request of at most 32 kB.
_MAX_ORG_UNITS = 800


@dataclass(frozen=True, slots=True)
class HiddenCirculations:
    """Circulations to check for: at ``hidden_at``, of patrons from ``counted_at`` (both org unit ids).

    The account can't see circulations at ``hidden_at``, but the ILS includes them in the counts of patrons of
    ``counted_at``.
    """

    hidden_at: frozenset[int]
    counted_at: frozenset[int]


@dataclass(frozen=True, slots=True)
class GroupViewer:
    """The session that looks at a group, and what it wants to know in addition to the members.

    ``user`` is the session's ``au.id`` and ``group`` the number of that user's own group (None: unknown). The session
    sees patrons of the org units ``patrons_at``; ``everywhere`` means all of them. ``circulations`` asks whether any
    are hidden, ``with_staff`` asks for the staff who set penalties, and ``extra_patrons`` are ids of other patrons to
    read. A replica may have older records of the patrons ``changed`` (ids; None: of any patron).
    """

    user: int
    patrons_at: frozenset[int]
    everywhere: bool
    circulations: HiddenCirculations | None = None
    with_staff: bool = False
    extra_patrons: frozenset[int] = frozenset()
    group: int | None = None
    changed: frozenset[int] | None = frozenset()


class FamilyQuery:
    """The query for one group. ``inside`` and ``outside`` are conditions on ``usrgroup``."""

    def __init__(self, inside: Query, outside: Query, viewer: GroupViewer) -> None:
        self._inside = inside
        self._outside = outside
        self._viewer = viewer
        # The session user's own row signals the answer about circulations, so don't ask if it comes back anyway.
        asked = viewer.circulations is not None and viewer.user not in viewer.extra_patrons
        self._circulations = viewer.circulations if asked else None
        self._has_sentinel = bool(viewer.patrons_at)
        # A long list of libraries doesn't fit into the query. Then all members must be at the sentinel's library.
        self._visible_homes = sorted(viewer.patrons_at) if len(viewer.patrons_at) <= _MAX_ORG_UNITS else []
        self._with_staff = viewer.with_staff and (viewer.everywhere or bool(self._visible_homes))

    @classmethod
    def of_patron(cls, patron: int, viewer: GroupViewer) -> FamilyQuery:
        """Make the query for a patron's group."""
        group_of_patron = {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": patron, "deleted": "f"}}
        return cls({"in": group_of_patron}, {"not in": group_of_patron}, viewer)

    @classmethod
    def of_number(cls, group: int, viewer: GroupViewer) -> FamilyQuery:
        """Make the query for the group with this number."""
        return cls({"=": group}, {"<>": group}, viewer)

    @property
    def where(self) -> Query:
        """The condition on patrons (``au``) that matches the members and the extra rows."""
        queries = [self._members()]
        if self._has_sentinel:
            queries.append(self._sentinel())
        if self._with_staff:
            queries.append(_ids({"id": {"in": self._staff_of_visible_members()}}))
        if self._viewer.extra_patrons:
            queries.append(_ids({"id": sorted(self._viewer.extra_patrons)}))
        if self._circulations is not None:
            queries.append(self._no_hidden_circulation(self._circulations))
        # The ILS refuses a union of a single query.
        return {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}

    def interpret(
        self, members: Set[int], others: Mapping[int, int], staff: Set[int]
    ) -> tuple[frozenset[int], bool, bool] | None:
        """Interpret the rows that don't belong to ``members`` (ids). Return None if a row can't be explained.

        ``others`` maps their patron ids to group numbers. ``staff`` are the ids of users who set the members'
        penalties, including archived ones. The result has the ids of staff and extra patrons that were found, whether
        no member is hidden, and whether no circulation is. If False, some may be hidden.
        """
        viewer, own = self._viewer, frozenset({self._viewer.user})
        expected = viewer.extra_patrons | ((staff - own) if self._with_staff else frozenset())
        named = others.keys() & expected
        signal = own if self._circulations is not None else frozenset[int]()
        # At most one row may be left: the sentinel's.
        rest = others.keys() - named - signal
        if len(rest) > self._has_sentinel:
            return None
        # If the row of an expected patron is missing, as happens with hidden patrons, a row with a mixed-up id could
        # pass for the sentinel.
        missing = expected - members - others.keys()
        if viewer.group is None:
            missing |= signal - others.keys()
        is_sentinel = not missing and all(others[id] != viewer.group for id in rest)
        return frozenset(named), bool(rest) and is_sentinel, bool(others.keys() & signal)

    def _members(self, **more: Any) -> Query:
        return _ids({"deleted": "f", "usrgroup": self._inside, **more})

    def _staff(self, **members: Any) -> Query:
        """Return the query for the staff who set the members' penalties, without the session's own user."""
        set_by = {"usr": {"in": self._members(**members)}, "staff": {"<>": self._viewer.user}}
        return {"select": {"ausp": ["staff"]}, "from": "ausp", "where": set_by}

    def _staff_of_visible_members(self) -> Query:
        # Staff who set a hidden member's penalty couldn't be told apart from the sentinel, so only ask about visible
        # members.
        return self._staff() if self._viewer.everywhere else self._staff(home_ou=self._visible_homes)

    def _no_hidden_circulation(self, asked: HiddenCirculations) -> Query:
        """Return the query for the session's own user, whose row comes back if no circulation is hidden."""
        members = self._members(home_ou=sorted(asked.counted_at))
        hidden = {"usr": {"in": members}, "checkin_time": None, "circ_lib": sorted(asked.hidden_at)}
        found = {"select": {"circ": ["id"]}, "from": "circ", "where": hidden}
        return _ids({"id": self._viewer.user, "-not-exists": found})

    def _sentinel(self) -> Query:
        """Return the query for one patron of another group whose row comes back if and only if every member is visible.

        An account sees all patrons of a library or none. So every member must be at the sentinel's library, or at a
        library that the account is known to see. The sentinel mustn't be a patron whose row means something else.
        """
        others: list[Query] = [{"id": {"not in": sorted({self._viewer.user, *self._viewer.extra_patrons})}}]
        if self._viewer.group is not None:
            others.append({"usrgroup": {"<>": self._viewer.group}})
        if self._with_staff:
            others.append({"id": {"not in": self._staff()}})
        sentinel: Query = {"deleted": "f", "usrgroup": self._outside, "-and": others}
        if not self._viewer.everywhere:
            sentinel |= self._at_fully_visible_library()
        return _ids({"id": {"in": {**_ids(sentinel), "limit": 1}}})

    def _at_fully_visible_library(self) -> Query:
        """Return the condition that no member is hidden if the sentinel is visible."""
        # Permissions don't apply inside a subquery (pcrud-141), so these find the members that the search itself leaves
        # out.
        homes = {"select": {"au": ["home_ou"]}, "from": "au", "where": {"deleted": "f", "usrgroup": self._inside}}
        seen = self._visible_homes
        not_seen = [{"home_ou": {"not in": seen}}] if seen else []
        elsewhere = {
            # Join au to aou: the first class of a subquery can't have an alias, and "au" has to mean the sentinel here.
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


def can_ask_about(circulations: HiddenCirculations) -> bool:
    """Return whether there are circulations to ask about, and few enough org units to fit into a request."""
    count = len(circulations.hidden_at) + len(circulations.counted_at)
    return bool(circulations.hidden_at) and bool(circulations.counted_at) and count <= _MAX_ORG_UNITS


MAX_MEMBERS = 5_000
"""Larger groups aren't read: a real gateway gets stuck on answers not much larger than theirs."""

_MAX_READINGS = 3
_MAX_OTHERS = 500
"""How many extra rows to allow for. Most are staff who set penalties."""

_STAFF = PENALTY_FIELDS.index("staff")

# Fleshing costs the ILS two queries per row, which is cheaper for a family than two more calls.
_FLESHED = ("card", "standing_penalties")


@dataclass(frozen=True, slots=True)
class VisiblePatrons:
    """The visible members of a group, without their fines.

    ``barcodes`` are by card id, ``accounts`` by patron id. ``penalties`` are those in force. ``names`` are those of
    visible staff and extra patrons, by id. ``complete`` means that no member is hidden, ``no_circulation_hidden`` that
    none of the circulations asked about is; if False, some may be hidden.
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
        """The members' ids."""
        return frozenset(row.id for row in self.rows)

    @property
    def named_org_units(self) -> frozenset[int]:
        """The ids of the org units that the members and their penalties refer to."""
        return frozenset((*(row.home_library for row in self.rows), *(row.org_unit for row in self.penalties)))

    def patrons(self, org_units: OrgUnits) -> list[Patron]:
        """Make the members' patron records.

        Raises:
            DataError: a home library isn't among the org units.
        """
        return make_patrons(self.rows, self.barcodes, org_units)


def visible_family_of(gateway: Gateway, patron: int, viewer: GroupViewer) -> VisiblePatrons | None:
    """Read a patron's group. Return None if the patron is deleted, unknown or hidden.

    Raises:
        DataError: the group has more than ``MAX_MEMBERS`` members.
    """
    if gateway.reads_replicas and (record := read_patron(gateway, patron)) is not None:
        if record.deleted:
            return None
        family = visible_group(gateway, int(record.usrgroup), viewer)
        if patron not in family.ids:
            raise not_replicated_yet()
        return family
    # Find the group number in the same query, so that the desk waits for one call instead of two.
    query = FamilyQuery.of_patron(patron, viewer)
    found = _search(gateway, query)
    group = next((record.usrgroup for record in found if record.id == patron and not record.deleted), None)
    return None if group is None else _split_rows(group, found, query)


def visible_group(gateway: Gateway, group: int, viewer: GroupViewer) -> VisiblePatrons:
    """Read the group with this number.

    If plain reads go to replicas, take the membership from the primary database. Other fields are as old as the
    replica. This takes one more concurrent call, one for each member who joined or left, and another for those who
    joined together. The records of members who may have changed are read as well, because their group lead flag may
    have changed. Without VIEW_USER at its own library, the account can't list members and gets the replica's group.

    Raises:
        DataError: the group has more than ``MAX_MEMBERS`` members, or member lists and records keep contradicting each
            other.
    """
    query = FamilyQuery.of_number(group, viewer)
    readers: tuple[Callable[[], Any], ...] = (
        lambda: _split_rows(group, _search(gateway, query), query),
        lambda: _members(gateway, group),
    )
    if not gateway.reads_replicas:
        readers = readers[:1]
    for _ in range(_MAX_READINGS):
        found, *members = gateway.map(lambda read: read(), readers)
        ids: frozenset[int] | None = members[0] if members else None
        if ids is None:
            return cast("VisiblePatrons", found)
        # Members who joined are in another group on the replica, so read their rows by id.
        joined = _replica_patrons(gateway, group, ids - found.ids)
        visible = found.ids | joined.ids
        changed = visible if viewer.changed is None else visible & viewer.changed
        to_check = sorted((visible - ids) | joined.ids | changed)
        # The two reads aren't simultaneous. A patron's own record decides who is right about a membership.
        records = dict(zip(to_check, gateway.map(partial(read_patron, gateway), to_check), strict=True))
        if all(_is_in(record, group) is (id in ids) for id, record in records.items()):
            return _merge(found, joined, ids, records)
    raise inconsistent_members()


def _members(gateway: Gateway, group: int) -> frozenset[int] | None:
    try:
        return read_member_ids(gateway, [group], primary=True)
    except PermissionDeniedError:
        return None


def _replica_patrons(gateway: Gateway, group: int, ids: Collection[int]) -> VisiblePatrons:
    """Read patrons (ids) from a replica as members of the group, whatever group the replica has them in."""
    pages = (_fleshed(gateway, {"id": page, "deleted": "f"}, len(page) + 1) for page in batched(sorted(ids)))
    members = [record for page in pages for record in page]
    return _of_members(group, members, _penalties(members))


def _is_in(record: Record | None, group: int) -> bool:
    return record is not None and not record.deleted and int(record.usrgroup) == group


def _merge(
    found: VisiblePatrons, joined: VisiblePatrons, ids: frozenset[int], records: dict[int, Record | None]
) -> VisiblePatrons:
    leads = {id: bool(record.master_account) for id, record in records.items() if record is not None}
    rows = tuple(
        row._replace(group=found.group, group_lead=leads.get(row.id, row.group_lead))
        for row in (*found.rows, *joined.rows)
        if row.id in ids
    )
    visible = {row.id for row in rows}
    return replace(
        found,
        rows=rows,
        barcodes={**found.barcodes, **joined.barcodes},
        accounts={id: account for id, account in {**found.accounts, **joined.accounts}.items() if id in visible},
        penalties=tuple(row for row in (*found.penalties, *joined.penalties) if row.patron in visible),
        complete=ids == visible,
        # The query didn't ask about circulations of members who just joined.
        no_circulation_hidden=found.no_circulation_hidden and not joined.rows,
    )


def _search(gateway: Gateway, query: FamilyQuery) -> list[Record]:
    """Return the rows of the members and the extra rows."""
    gateway.idl("au", "ac", "ausp", "mous")  # load them in one request, together with those needed next
    most = MAX_MEMBERS + _MAX_OTHERS
    found = _fleshed(gateway, query.where, most)
    if len(found) == most:
        raise _too_large()
    return found


def _fleshed(gateway: Gateway, where: Query, limit: int) -> list[Record]:
    fields = (*PATRON_FIELDS, *ACCOUNT_FIELDS, "deleted")
    return gateway.pcrud.search("au", where, select=fields, flesh=1, flesh_fields={"au": _FLESHED}, limit=limit)


def _split_rows(group: int, found: list[Record], query: FamilyQuery) -> VisiblePatrons:
    """Separate the members from the extra rows."""
    fields = list(zip(found, columns(found, "id", "usrgroup", "deleted"), strict=True))
    members = [record for record, (_id, number, deleted) in fields if number == group and not deleted]
    if len(members) > MAX_MEMBERS:
        raise _too_large()
    penalties = _penalties(members)
    visible = _of_members(group, members, penalties)
    ids = visible.ids
    others = {id: (record, number) for record, (id, number, _deleted) in fields if id not in ids}
    extra = query.interpret(
        ids,
        {id: number for id, (_record, number) in others.items()},
        {row[_STAFF] for row in penalties if row[_STAFF] is not None},
    )
    if extra is None:
        raise DataError(
            "the ILS gave patrons of other groups than was asked for",
            advice="look at the proxy, where there is one: it may have mixed up answers",
            code="groups-not-asked-for",
        )
    named, complete, no_circulation_hidden = extra
    names = {row.id: row.name for row in _patron_rows([others[id][0] for id in named])}
    return replace(visible, names=names, complete=complete, no_circulation_hidden=no_circulation_hidden)


def _of_members(group: int, members: list[Record], penalties: list[tuple[Any, ...]]) -> VisiblePatrons:
    """Make the record from the members' rows and their ``penalties``. The other answers are left at False."""
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
        penalties=tuple(select_in_force(penalties)),
        names={},
        complete=False,
        no_circulation_hidden=False,
    )


def _too_large() -> DataError:
    return DataError(
        "a group of more than {most:,} members isn't summed up",
        advice="that's no family, see the audit's accidental groups",
        code="group-too-large",
        values={"most": MAX_MEMBERS},
    )


def _patron_rows(records: Sequence[Record]) -> list[PatronRow]:
    rows = map(PatronRow._make, columns(records, *PATRON_FIELDS))
    return [row._replace(card=card.id) if isinstance(card := row.card, Record) else row for row in rows]


def _penalties(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """Return the fields of the patrons' penalties, including archived ones."""
    found: list[Record] = []
    for id, rows in columns(records, "id", "standing_penalties"):
        # The ILS sends an empty list for no penalties (oils_sql.c, doFieldmapperSearch). A missing list mustn't pass
        # for none.
        if not isinstance(rows, list):
            raise DataError("the ILS gave no list of a patron's penalties", code="penalties-not-a-list")
        # A mixed-up answer would show another patron's penalties.
        if any(usr != id for (usr,) in columns(rows, "usr")):
            raise DataError("the ILS gave the penalties of another patron", code="penalties-of-another")
        found += rows
    return list(columns(found, *PENALTY_FIELDS))
