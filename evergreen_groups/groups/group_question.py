"""The query for a group's visible members, with rows beside them that answer what the members' own don't tell.

Rows that the account may not see are missing without a word (``pcrud-034``), but subqueries see everybody
(``pcrud-141``). So one call brings more than the members, where it is asked for:

- a witness: some patron of another group with the home library of all members, or, where the account sees every
  member's library, one of any of those. With the witness among the rows nobody is hidden (``desk-002``); without it,
  somebody may be (``desk-001``);
- the session's own user, where no member has a circulation that is hidden from the account;
- the staff who have set members' penalties, and others who are to be named.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

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
