"""Entries of a follow-up, and the rule that says whether staff have to act. Pure functions."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import date, datetime, tzinfo
from decimal import Decimal
from enum import Enum
from functools import reduce
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.errors import NotFoundError, PlanError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnit
    from evergreen_groups.report import Listing

LONGEST_NOTE = 300
"""Maximum number of characters in a note."""

# str.isprintable also refuses the joiners that Persian, Hindi and emoji are written with.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Today = Callable[[str], date]
"""Returns today's date at a library (short name)."""


class What(Enum):
    """What happened."""

    CONTACTED = "contacted"
    PROMISED = "promised"
    NO_ANSWER = "no-answer"
    CLOSED = "closed"
    NOTE = "note"


class How(Enum):
    """How the library got in touch."""

    PHONE = "phone"
    EMAIL = "email"
    LETTER = "letter"
    IN_PERSON = "in-person"


class FollowUpStatus(Enum):
    """Whether staff have to act."""

    TO_DO = "to-do"
    WAITING = "waiting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a follow-up, as stored.

    ``at`` is when it was saved, ``day`` when it happened. ``group`` (number), ``contact`` (patron id) and
    ``combined_fines`` are those of that time. It is about ``persons``: the ids of the group's visible members when it
    was first saved. ``staff`` (``au.id``, None once forgotten) saved it at ``workstation`` (``aws.id``), working for
    ``org_unit`` (``aou.id``). ``reopened`` means, for a closing, that the group has owed more since, or left the
    reports.

    An entry that ``corrects`` another (id) replaces it; if ``deleted``, with nothing. ``earlier`` are the replaced
    versions, the oldest first.
    """

    id: int
    follow_up: int
    at: datetime
    group: int
    contact: int
    what: What
    how: How | None
    day: date
    remind_on: date | None
    note: str = field(repr=False)
    combined_fines: Decimal
    reopened: bool = False
    staff: int | None = None
    workstation: int | None = None
    org_unit: int | None = None
    corrects: int | None = None
    deleted: bool = False
    persons: tuple[int, ...] = ()
    earlier: tuple[Entry, ...] = ()

    @property
    def leaves_closed(self) -> bool:
        """Whether a closed group stays closed after this entry."""
        return self.what is What.NOTE or (self.what is What.CONTACTED and self.how is How.LETTER)

    @property
    def original(self) -> Entry:
        """The entry as it was first saved."""
        return self.earlier[0] if self.earlier else self


def current_entries(rows: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries in the order in which they were first saved, each in its latest version.

    ``rows`` are the stored versions in the order of their ids.
    """
    found: dict[int, Entry] = {}
    for row in rows:
        before = None if row.corrects is None else found.get(row.corrects)
        if before is None:
            found[row.id] = row
        else:
            if before.what is What.CLOSED:  # a correction doesn't close it again
                row = replace(row, combined_fines=before.combined_fines, reopened=before.reopened)  # noqa: PLW2901
            found[before.original.id] = replace(row, earlier=(*before.earlier, replace(before, earlier=())))
    return tuple(found.values())


def status_of(
    entries: Sequence[Entry], combined_fines: Decimal, today: date, again_after: int, *, in_collections: bool = False
) -> FollowUpStatus:
    """Return whether staff have to act for a listed group that owes ``combined_fines``.

    *To do*: the latest entry's reminder is due, or no entry is from the last ``again_after`` days. *Waiting*: every
    other open group. *Closed*: until the group owes more than at closing, or returns after having left the report. A
    closing ends what was agreed before it, so a group that opens again is to do. Notes and letters change none of this;
    any other entry after a closing opens the group. A group ``in_collections`` is never to do: it waits.
    """
    open_status = FollowUpStatus.WAITING if in_collections else FollowUpStatus.TO_DO
    entries = [entry for entry in entries if not entry.deleted]
    decisive = next((entry for entry in reversed(entries) if not entry.leaves_closed), None)
    if decisive is not None and decisive.what is What.CLOSED:
        holds = combined_fines <= decisive.combined_fines and not decisive.reopened
        return FollowUpStatus.CLOSED if holds else open_status
    if not entries:
        return open_status
    remind_on = entries[-1].remind_on
    is_due = remind_on is not None and remind_on <= today
    is_recent = any((today - entry.day).days <= again_after for entry in entries)
    return FollowUpStatus.WAITING if is_recent and not is_due else open_status


class FollowUpState(NamedTuple):
    """How far a follow-up is: whether staff have to act, and the latest entry that isn't deleted."""

    status: FollowUpStatus
    latest: Entry | None


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The follow-up of a listed group."""

    group: Listing
    entries: tuple[Entry, ...] = ()

    @property
    def seen(self) -> int | None:
        """The last row that a writer must have seen."""
        return max((entry.id for entry in self.entries), default=None)

    def about(self, patrons: Collection[int]) -> FollowUp:
        """Return what somebody may read who sees these patrons (ids): the entries about any of them.

        Merged families share a follow-up, but a merge must not show an entry to more people than before.
        """
        seen = frozenset(patrons)
        return replace(self, entries=tuple(entry for entry in self.entries if not seen.isdisjoint(entry.persons)))

    def for_libraries(self, members: Iterable[tuple[int, str]]) -> FollowUp:
        """Return what the readers of each library may see. ``members`` are the group's, with their home library."""
        by_library = defaultdict[str, list[int]](list)
        for id, library in members:
            by_library[library].append(id)
        return reduce(FollowUp.about, by_library.values(), self)

    def status(self, today: date, again_after: int) -> FollowUpStatus:
        """Return whether staff have to act. See :func:`status_of`."""
        group = self.group
        return status_of(self.entries, group.combined_fines, today, again_after, in_collections=group.in_collections)

    def state(self, today: Today, again_after: int) -> FollowUpState:
        """Return how far it is. ``today`` is asked for the library of the contact person."""
        latest = next((entry for entry in reversed(self.entries) if not entry.deleted), None)
        return FollowUpState(self.status(today(self.group.contact_library), again_after), latest)

    def entry(self, id: int) -> Entry:
        """Return an entry that isn't deleted, by the id with which it was first saved. Raises NotFoundError."""
        for entry in self.entries:
            if entry.original.id == id and not entry.deleted:
                return entry
        values = {"group": self.group.group, "entry": id}
        raise NotFoundError("group {group} has no entry {entry}", code="no-such-follow-up-entry", values=values)


@dataclass(frozen=True, slots=True)
class DraftEntry:
    """An entry to save for a group (number).

    ``seen`` is the last row that the writer has seen of the group's follow-up, None if there was none. ``corrects`` is
    the id of the entry to replace; with ``deletes``, replace it with nothing, and the fields after it don't matter.
    """

    group: int
    seen: int | None
    corrects: int | None = None
    deletes: bool = False
    what: What = What.NOTE
    how: How | None = None
    day: date | None = None
    remind_on: date | None = None
    note: str = field(default="", repr=False)

    def checked(self, follow_up: FollowUp, today: date) -> DraftEntry:
        """Return the draft with all fields filled in. ``today`` is the default for ``day``.

        Raises PlanError if the fields contradict each other, or NotFoundError if the entry to correct doesn't exist.
        """
        before = None if self.corrects is None else follow_up.entry(self.corrects)
        if self.deletes:
            if before is None:
                raise _refused("the entry to delete is missing", "corrects")
            values = (before.what, before.how, before.day, before.remind_on, before.note)
            return DraftEntry(self.group, self.seen, self.corrects, True, *values)
        day, note = self.day or today, " ".join(self.note.split())
        if self.how is None and self.what in (What.CONTACTED, What.PROMISED, What.NO_ANSWER):
            raise _refused(Message("choose phone, e-mail, letter or in person"), "how")
        if day > today:
            raise _refused(Message("the date is in the future"), "date")
        if self.remind_on is not None and self.what is What.CLOSED:
            raise _refused(Message("a closed follow-up has no reminder"), "remind_on")
        is_new = before is None or self.remind_on != before.remind_on
        if self.remind_on is not None and self.remind_on < today and is_new:
            raise _refused(Message("the reminder is before today"), "remind_on")
        if len(note) > LONGEST_NOTE or _UNPRINTABLE.search(note):
            most = {"most": LONGEST_NOTE}
            raise _refused(Message("a note has at most {most} characters, all printable", values=most), "note")
        if self.what is What.NOTE and not note and self.remind_on is None:
            raise _refused(Message("write a note or set a reminder"), "note")
        return replace(self, day=day, note=note)


def digest_of(report: str, drafts: Sequence[DraftEntry]) -> str:
    """Return a digest that tells two requests under the same idempotency key apart."""
    return sha256(json.dumps([report, *map(astuple, drafts)], default=str).encode()).hexdigest()


def today_at(
    now: datetime, configured: tzinfo | None, zones: Mapping[int, tzinfo], org_units: Iterable[OrgUnit]
) -> Today:
    """Return the function that tells today's date at a library. ``now`` is aware.

    Without a ``configured`` time zone, each library has its own in ``zones`` (by org unit id), or this machine's.
    """
    named = {unit.shortname: zones[unit.id] for unit in org_units if unit.id in zones}
    return lambda library: now.astimezone(configured or named.get(library)).date()


def _refused(problem: str, field: str) -> PlanError:
    """Return the error in words for people; ``field`` is the name in the API."""
    values = {"problem": problem, "field": field}
    return PlanError("Not accepted: {problem}", code="follow-up-unclear", values=values)
