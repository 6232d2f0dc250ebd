"""Read one group for the desk in a single call, and find out whether the account sees all of it.

The ILS silently leaves out members whom the account may not see. To notice that without another call, the query also
matches rows of other patrons that come back under a condition, which the database checks for hidden members as well:

* the *sentinel*, some patron of another group, if every member is visible (accounts that see all patrons don't ask);
* the session's own user, if there is no circulation of the kind asked about.

The same call returns the patrons whose names the desk shows, such as staff who set penalties. No row says why it came
back, so :meth:`FamilyQuery.interpret` tells them apart by their ids. If in doubt, members may be hidden.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError, unreadable
from evergreen_groups.gateway import Record, columns
from evergreen_groups.groups.families import any_of, ids_of
from evergreen_groups.groups.models import ACCOUNT_FIELDS, PATRON_FIELDS, Patron, PatronAccount, PatronRow, Query
from evergreen_groups.ils import PENALTY_FIELDS, OrgUnits, PenaltyRow

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway


@dataclass(frozen=True, slots=True)
class GroupViewer:
    """The session that looks at a group, and what it wants to know in addition to the members.

    ``user`` is the session's ``au.id`` and ``group`` the number of that user's own group (None: unknown). The session
    sees patrons of the org units ``patrons_at``; ``everywhere`` means all of them. ``with_staff`` asks for the staff
    who set penalties, and ``extra_patrons`` are ids of other patrons to read. A replica may have older records of the
    patrons ``changed`` (ids; None: of any patron).

    ``circulations`` is a condition on circulations (``circ``). The query asks whether any circulation meets it, of the
    members whose home library is in ``circulations_of`` (org unit ids), unless one of the two is empty.
    """

    user: int
    patrons_at: frozenset[int]
    everywhere: bool
    circulations: Query = field(default_factory=dict)
    circulations_of: frozenset[int] = frozenset()
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
        about_circulations = viewer.circulations and viewer.circulations_of
        self._signal = {viewer.user} - viewer.extra_patrons if about_circulations else frozenset[int]()
        # A patron's row and what is fleshed with it take Evergreen some 4 ms. No member is hidden from an account that
        # sees every patron, so don't ask then.
        self._has_sentinel = bool(viewer.patrons_at) and not viewer.everywhere
        self._with_staff = viewer.with_staff and bool(viewer.patrons_at)

    @classmethod
    def of_patron(cls, patron: int, viewer: GroupViewer) -> FamilyQuery:
        group_of_patron = ids_of({"id": patron, "deleted": "f"}, "usrgroup")
        return cls({"in": group_of_patron}, {"not in": group_of_patron}, viewer)

    @classmethod
    def of_number(cls, group: int, viewer: GroupViewer) -> FamilyQuery:
        return cls({"=": group}, {"<>": group}, viewer)

    @property
    def where(self) -> Query:
        """The condition on patrons (``au``) that matches the members and the extra rows."""
        viewer = self._viewer
        queries = [self._members()]
        if self._has_sentinel:
            queries.append(self._sentinel())
        if self._with_staff:
            # Staff who set a hidden member's penalty couldn't be told apart from the sentinel, so don't ask about them.
            staff = self._staff() if viewer.everywhere else self._staff(home_ou=sorted(viewer.patrons_at))
            queries.append(ids_of({"id": {"in": staff}}))
        if viewer.extra_patrons:
            queries.append(ids_of({"id": sorted(viewer.extra_patrons)}))
        if self._signal:
            theirs = {"usr": {"in": self._members(home_ou=sorted(viewer.circulations_of))}, **viewer.circulations}
            found = {"select": {"circ": ["id"]}, "from": "circ", "where": theirs}
            queries.append(ids_of({"id": viewer.user, "-not-exists": found}))
        return any_of(queries)

    def interpret(
        self, members: Set[int], others: Mapping[int, int], staff: Set[int]
    ) -> tuple[frozenset[int], bool, bool]:
        """Interpret the rows that don't belong to ``members`` (ids). Raises DataError if a row can't be explained.

        ``others`` maps their ids to group numbers. ``staff`` are the users (ids) who set the members' penalties,
        including archived ones. Return the ids of staff and extra patrons that were found, whether no member is hidden,
        and whether there is none of the circulations asked about. If False, there may be some.
        """
        viewer = self._viewer
        expected = viewer.extra_patrons | (staff - {viewer.user} if self._with_staff else frozenset())
        named = others.keys() & expected
        # At most one row may be left: the sentinel's.
        rest = others.keys() - named - self._signal
        if len(rest) > self._has_sentinel:
            raise unreadable(
                "groups-not-asked-for",
                "patrons of other groups",
                advice="check any proxy in between: it may have mixed up answers",
            )
        # If the row of an expected patron is missing, as happens with hidden patrons, a row with a mixed-up id could
        # pass for the sentinel.
        missing = expected - members - others.keys()
        if viewer.group is None:
            missing |= self._signal - others.keys()
        is_sentinel = not missing and all(others[id] != viewer.group for id in rest)
        complete = viewer.everywhere or (bool(rest) and is_sentinel)
        return frozenset(named), complete, bool(others.keys() & self._signal)

    def _members(self, **more: Any) -> Query:
        return ids_of({"deleted": "f", "usrgroup": self._inside, **more})

    def _staff(self, **members: Any) -> Query:
        """Return the query for the staff who set the members' penalties, without the session's own user."""
        set_by = {"usr": {"in": self._members(**members)}, "staff": {"<>": self._viewer.user}}
        return {"select": {"ausp": ["staff"]}, "from": "ausp", "where": set_by}

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
        # Permissions don't apply inside a subquery (pcrud-141), so these find the members that the search itself leaves
        # out.
        visible, members = sorted(self._viewer.patrons_at), {"deleted": "f", "usrgroup": self._inside}
        not_seen = [{"home_ou": {"<>": {"+au": "home_ou"}}}, {"home_ou": {"not in": visible}}]
        elsewhere = {
            # Join au to aou: the first class of a subquery can't have an alias, and "au" has to mean the sentinel here.
            "select": {"aou": ["id"]},
            "from": {"aou": {"m": {"class": "au", "fkey": "id", "field": "home_ou"}}},
            "where": {"+m": {**members, "-and": not_seen}},
        }
        sentinel = {
            "deleted": "f",
            "usrgroup": self._outside,
            "-and": others,
            "-or": [{"home_ou": {"in": ids_of(members, "home_ou")}}, {"home_ou": visible}],
            "-not-exists": elsewhere,
        }
        return ids_of({"id": {"in": {**ids_of(sentinel), "limit": 1}}})


MAX_MEMBERS = 5_000
"""Larger groups aren't read: a real gateway gets stuck on answers not much larger than theirs."""

_MAX_OTHERS = 500
"""How many extra rows to allow for. Most are staff who set penalties."""


@dataclass(frozen=True, slots=True)
class VisiblePatrons:
    """The visible members of a group, without their fines.

    ``rows`` and ``accounts`` (by id) are the members', ``barcodes`` are by card id. ``penalties`` are those in force.
    ``names`` are those of visible staff and extra patrons, by id. ``complete`` means that no member is hidden,
    ``no_circulation`` that there is none of the circulations asked about; if False, there may be some.
    """

    group: int
    rows: tuple[PatronRow, ...]
    accounts: Mapping[int, PatronAccount]
    barcodes: Mapping[int, str]
    penalties: tuple[PenaltyRow, ...]
    names: Mapping[int, str]
    complete: bool
    no_circulation: bool

    @property
    def ids(self) -> frozenset[int]:
        return frozenset({row.id for row in self.rows})

    @property
    def named_org_units(self) -> frozenset[int]:
        """The ids of the org units that the members and their penalties refer to."""
        return frozenset({row.home_library for row in self.rows} | {row.org_unit for row in self.penalties})

    def patrons(self, org_units: OrgUnits) -> list[Patron]:
        """Make the members' patron records. Raises DataError if a home library isn't among the org units."""
        accounts = self.accounts
        return [row.patron(self.barcodes, org_units, juvenile=accounts[row.id].juvenile) for row in self.rows]


def search(gateway: Gateway, query: FamilyQuery) -> list[Record]:
    """Read the members and the extra rows."""
    gateway.idl("au", "ac", "ausp", "mous")  # load them in one request, together with those needed next
    most = MAX_MEMBERS + _MAX_OTHERS
    found = fleshed(gateway, query.where, most)
    if len(found) == most:
        raise _too_large()
    return found


def fleshed(gateway: Gateway, where: Query, limit: int) -> list[Record]:
    """Read patrons with their cards and penalties."""
    fields = (*PATRON_FIELDS, *ACCOUNT_FIELDS, "deleted")
    # Fleshing costs the ILS two queries per row, which is cheaper for a family than two more calls.
    flesh_fields = {"au": ("card", "standing_penalties")}
    return gateway.pcrud.search("au", where, select=fields, flesh=1, flesh_fields=flesh_fields, limit=limit)


def split_rows(group: int, found: list[Record], query: FamilyQuery) -> VisiblePatrons:
    """Tell the members from the extra rows of a search."""
    members: dict[int, Record] = {}
    others: dict[int, Record] = {}
    numbers: dict[int, int] = {}
    for record, (id, number, deleted) in zip(found, columns(found, "id", "usrgroup", "deleted"), strict=True):
        if number == group and not deleted:
            members[id] = record
        else:
            others[id], numbers[id] = record, number
    if len(members) > MAX_MEMBERS:
        raise _too_large()
    penalties = penalties_of(members.values())
    staff = {row[_STAFF] for row in penalties if row[_STAFF] is not None}
    named, complete, no_circulation = query.interpret(members.keys(), numbers, staff)
    named_rows = map(PatronRow._make, columns([others[id] for id in named], *PATRON_FIELDS))
    return replace(
        of_members(group, members.values(), penalties),
        names={row.id: row.name for row in named_rows},
        complete=complete,
        no_circulation=no_circulation,
    )


def of_members(group: int, members: Collection[Record], penalties: Iterable[tuple[Any, ...]]) -> VisiblePatrons:
    """Make the record from the members' rows and their ``penalties``. Nothing is known yet about hidden ones."""
    now = datetime.now(UTC)
    rows = list(map(PatronRow._make, columns(members, *PATRON_FIELDS)))
    cards: list[Any] = [row.card for row in rows if isinstance(row.card, Record)]
    barcodes = list(columns(cards, "id", "barcode"))
    ids = (id for id, _barcode in barcodes)
    return VisiblePatrons(
        group,
        rows=tuple(row._replace(card=next(ids)) if isinstance(row.card, Record) else row for row in rows),
        accounts={id: PatronAccount.of(values, now) for id, *values in columns(members, "id", *ACCOUNT_FIELDS)},
        barcodes=dict(barcodes),
        penalties=tuple(PenaltyRow.select_in_force(penalties)),
        names={},
        complete=False,
        no_circulation=False,
    )


def _too_large() -> DataError:
    return DataError(
        "the group has more than {most:,} members",
        advice="see the accidental groups in the audit",
        code="group-too-large",
        values={"most": MAX_MEMBERS},
    )


_PATRON, _STAFF = PENALTY_FIELDS.index("usr"), PENALTY_FIELDS.index("staff")


def penalties_of(records: Iterable[Record]) -> list[tuple[Any, ...]]:
    """Return the ``PENALTY_FIELDS`` of the records' penalties, including archived ones."""
    found: list[Record] = []
    owners: list[int] = []
    for id, rows in columns(records, "id", "standing_penalties"):
        # The ILS sends an empty list for no penalties (oils_sql.c, doFieldmapperSearch). A missing list mustn't pass
        # for none.
        if not isinstance(rows, list):
            raise unreadable("penalties-not-a-list", "a patron's penalties aren't a list")
        found += rows
        owners += [id] * len(rows)
    penalties = list(columns(found, *PENALTY_FIELDS))
    # A mixed-up answer would show another patron's penalties.
    if [row[_PATRON] for row in penalties] != owners:
        raise unreadable("penalties-of-another", "penalties of another patron")
    return penalties
