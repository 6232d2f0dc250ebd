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
from evergreen_groups.state import record_ids
from evergreen_groups.values import ZERO, one_line

if TYPE_CHECKING:
    from evergreen_groups.follow_up.promises import Comparison
    from evergreen_groups.ils import OrgUnit
    from evergreen_groups.report import Listing

LONGEST_NOTE = 300
"""Maximum number of characters in a note."""

MOST_PROMISED = 1_000_000
"""What a promise must stay below."""

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


class Detail(Enum):
    """More about a family that wasn't reached, or why a follow-up was closed."""

    LEFT_MESSAGE = "left-message"
    WRONG_CONTACT = "wrong-contact"
    """The phone number or the address is wrong."""
    PAID = "paid"
    WAIVED = "waived"
    GIVEN_UP = "given-up"
    OTHER = "other"


DETAILS = {
    What.NO_ANSWER: (Detail.LEFT_MESSAGE, Detail.WRONG_CONTACT),
    What.CLOSED: (Detail.PAID, Detail.WAIVED, Detail.GIVEN_UP, Detail.OTHER),
}
"""Which details an entry may have. All others have none."""


class How(Enum):
    """How the library got in touch."""

    PHONE = "phone"
    EMAIL = "email"
    LETTER = "letter"
    IN_PERSON = "in-person"


class Agreed(Enum):
    """What a family waits for."""

    PROMISE = "promise"
    REMINDER = "reminder"


class PromiseOutcome(Enum):
    """What came of a promise, as a night's report found after its day."""

    PAID = "kept"
    BROKEN = "broken"
    NOT_OWED = "not-owed"
    """The bills went without the payment: forgiven, voided, or the item was returned."""
    CHECK = "check"
    """The account can't see the payments of all members."""


ENDED = (PromiseOutcome.PAID, PromiseOutcome.NOT_OWED)
"""The outcomes that end a promise."""


class FollowUpStatus(Enum):
    """Whether staff have to act."""

    TO_DO = "to-do"
    WAITING = "waiting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a follow-up, as stored.

    ``at`` is when it was saved, ``saved_on`` the date at the contact person's library then, and ``day`` when it
    happened. ``pay_by`` is the day of a promise, and ``amount`` what was promised (None: all). The report after that
    day found the ``outcome``, and what was ``paid`` and ``forgiven`` (or done as work) since the promise: at least
    those amounts if the outcome is *check*. ``cancels`` is what the entry ends. ``group`` (number), ``contact``
    (patron id), ``group_fines`` and ``unreturned`` are those of that time. It is about ``persons``: the ids of the
    group's visible members when it was first saved. ``staff`` (``au.id``, None once forgotten) saved it at
    ``workstation`` (``aws.id``), working for ``org_unit`` (``aou.id``). ``reopened`` means, for a closing, that the
    group has owed or kept more since, or left the reports; for a letter, that it has left them.

    An entry that ``corrects`` another (id) replaces it; if ``deleted``, with nothing. ``earlier`` are the replaced
    versions, the oldest first, without their notes.
    """

    id: str
    follow_up: int
    at: datetime
    saved_on: date
    group: int
    contact: int
    what: What
    how: How | None
    day: date
    remind_on: date | None
    note: str = field(repr=False)
    group_fines: Decimal
    reopened: bool = False
    pay_by: date | None = None
    cancels: Agreed | None = None
    staff: int | None = None
    workstation: int | None = None
    org_unit: int | None = None
    detail: Detail | None = None
    corrects: str | None = None
    deleted: bool = False
    persons: tuple[int, ...] = ()
    amount: Decimal | None = None
    outcome: PromiseOutcome | None = None
    paid: Decimal | None = None
    forgiven: Decimal | None = None
    earlier: tuple[Entry, ...] = ()
    unreturned: int | None = None

    @property
    def is_note_or_letter(self) -> bool:
        """Whether no one spoke with the family: this neither opens a closed group nor answers a reminder."""
        return self.what is What.NOTE or (self.what is What.CONTACTED and self.how is How.LETTER)

    @property
    def promised_day(self) -> date | None:
        """The day of a promise: its own, or else that of its reminder."""
        return (self.pay_by or self.remind_on) if self.what is What.PROMISED else None

    @property
    def promised_items(self) -> bool:
        """Whether a promise was to return items: the group owed nothing, but had items overdue or lost."""
        return self.amount is None and self.group_fines == 0 and bool(self.unreturned)

    @property
    def happened_at(self) -> datetime:
        """When it happened: at the time of day at which it was saved, if that was on a later day."""
        first = self.original
        return first.at - (first.saved_on - self.day)

    def concerns(self, other: Entry) -> bool:
        """Whether the two are about the same family. After a merge, a group has entries of several."""
        mine, its = self.original, other.original
        return mine.group == its.group or not set(mine.persons).isdisjoint(its.persons)

    @property
    def original(self) -> Entry:
        """The entry as it was first saved."""
        return self.earlier[0] if self.earlier else self


_AT_CLOSING = ("group_fines", "unreturned", "reopened")


def current_entries(rows: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries in the order in which they were first saved, each in its latest version.

    ``rows`` are the stored versions in the order of their ids.
    """
    found: dict[str, Entry] = {}
    for row in rows:
        before = None if row.corrects is None else found.get(row.corrects)
        if before is None:
            found[row.id] = row
        else:
            if before.what is What.CLOSED:  # a correction doesn't close it again
                row = replace(row, **{name: getattr(before, name) for name in _AT_CLOSING})  # noqa: PLW2901
            if before.how is How.LETTER:
                row = replace(row, reopened=before.reopened)  # noqa: PLW2901
            if before.what is What.PROMISED:  # "all" remains what was owed then
                row = replace(row, group_fines=before.group_fines, unreturned=before.unreturned)  # noqa: PLW2901
                if row.outcome is None and _promise_of(row) == _promise_of(before):
                    row = replace(row, outcome=before.outcome, paid=before.paid, forgiven=before.forgiven)  # noqa: PLW2901
            found[before.original.id] = replace(row, earlier=(*before.earlier, replace(before, earlier=())))
    return tuple(found.values())


def _promise_of(entry: Entry) -> tuple[object, ...]:
    return entry.what, entry.day, entry.promised_day, entry.amount


class Pending(NamedTuple):
    """A promise or a reminder that stands: the entry that it comes from, and its day."""

    entry: Entry
    day: date


def pending_in(entries: Iterable[Entry]) -> dict[Agreed, Pending]:
    """Return the promise and the reminder that stand after these entries, each only if there is one.

    A new promise replaces the promise, and a new reminder the reminder. Once a promise's day is over, a new reminder
    puts it off to its own day, and payment ends it. A contact saved on or after a reminder's day answers it. Staff
    can cancel each, and a closing ends both. Of merged families, each with its own, the earliest day counts.
    """
    promises, reminders = _standing(entries)
    promises = [one for one in promises if one.entry.outcome not in ENDED]
    found = {Agreed.PROMISE: promises, Agreed.REMINDER: reminders}
    return {agreed: min(some, key=lambda one: one.day) for agreed, some in found.items() if some}


def standing_promises(entries: Iterable[Entry]) -> list[Pending]:
    """Return the promises that no later entry ends, paid ones included."""
    return _standing(entries)[0]


def _standing(entries: Iterable[Entry]) -> tuple[list[Pending], list[Pending]]:
    """Return the promises and the reminders that no later entry ends."""
    promises: list[Pending] = []
    reminders: list[Pending] = []
    for entry in entries:
        if entry.deleted:
            continue
        promises = [left for one in promises if (left := _promise_after(one, entry)) is not None]
        reminders = [one for one in reminders if not _ends_reminder(entry, one)]
        if entry.promised_day is not None:
            promises.append(Pending(entry, entry.promised_day))
        if entry.remind_on is not None:
            reminders.append(Pending(entry, entry.remind_on))
    return promises, reminders


def promise_outcome(promised: Decimal | None, paid: Decimal, left: Decimal, *, all_known: bool) -> PromiseOutcome:
    """Return what came of a promise.

    ``promised`` is the amount, None if it includes what hidden members owed. ``paid`` is what the visible members have
    paid since, and ``left`` what they still owe of what they owed then. Unless ``all_known``, bills and payments may be
    hidden.
    """
    if promised is not None and paid > 0 and paid >= promised:
        return PromiseOutcome.PAID
    if not all_known:
        return PromiseOutcome.CHECK
    return PromiseOutcome.BROKEN if left > 0 else PromiseOutcome.NOT_OWED


def _promise_after(promise: Pending, entry: Entry) -> Pending | None:
    """Return what a later entry leaves of a promise."""
    if not entry.concerns(promise.entry):
        return promise
    if entry.what in (What.PROMISED, What.CLOSED) or entry.cancels is Agreed.PROMISE:
        return None
    is_over = promise.day < entry.original.saved_on
    return promise._replace(day=entry.remind_on) if is_over and entry.remind_on is not None else promise


def _ends_reminder(entry: Entry, reminder: Pending) -> bool:
    if not entry.concerns(reminder.entry):
        return False
    is_answer = entry.original.saved_on >= reminder.day and not entry.is_note_or_letter
    is_replaced = entry.remind_on is not None
    return is_answer or is_replaced or entry.what is What.CLOSED or entry.cancels is Agreed.REMINDER


def saved_after(seen: str | None, rows: Iterable[Entry]) -> list[Entry]:
    """Return the rows saved after the one that a writer has seen, in order: all if that isn't among them."""
    ordered = sorted(rows, key=lambda row: record_ids.number_of(row.id))
    at = next((place for place, row in enumerate(ordered, 1) if row.id == seen), 0)
    return ordered[at:]


def has_grown(before: tuple[Decimal, int | None], now: tuple[Decimal, int | None]) -> bool:
    """Return whether a group owes more than before, or has more overdue and lost items, where both are known.

    >>> has_grown((Decimal(0), 4), (Decimal(0), 5)), has_grown((Decimal(0), None), (Decimal(0), 5))
    (True, False)
    """
    (fines_before, items_before), (fines, items) = before, now
    return fines > fines_before or (items is not None and items_before is not None and items > items_before)


def status_of(
    entries: Sequence[Entry],
    group_fines: Decimal,
    today: date,
    again_after: int,
    *,
    in_collections: bool = False,
    unreturned: int | None = None,
) -> FollowUpStatus:
    """Return whether staff have to act for a listed group that owes ``group_fines`` and has ``unreturned`` items.

    *To do*: from a reminder's day, from the day after a promise's (:func:`pending_in`), and if neither stands and no
    entry is from the last ``again_after`` days. *Closed*: until the group has grown since the closing
    (:func:`has_grown`), or returns after having left the report. *Waiting*: every other group. Notes and letters don't
    open a closed group; any other entry does. A group ``in_collections`` is never to do: it waits.
    """
    open_status = FollowUpStatus.WAITING if in_collections else FollowUpStatus.TO_DO
    pending = pending_in(entries)
    if any(_is_due(agreed, one.day, today) for agreed, one in pending.items()):
        return open_status
    entries = [entry for entry in entries if not entry.deleted]
    decisive = next((entry for entry in reversed(entries) if not entry.is_note_or_letter), None)
    is_closing = decisive is not None and decisive.what is What.CLOSED
    if decisive is not None and is_closing and not decisive.reopened:
        at_closing = decisive.group_fines, decisive.unreturned
        if not has_grown(at_closing, (group_fines, unreturned)):
            return FollowUpStatus.CLOSED
    is_recent = not is_closing and any((today - entry.day).days <= again_after for entry in entries)
    return FollowUpStatus.WAITING if pending or is_recent else open_status


def _is_due(agreed: Agreed, day: date, today: date) -> bool:
    return day <= today if agreed is Agreed.REMINDER else day < today


class FollowUpState(NamedTuple):
    """How far a follow-up is: whether staff have to act, and the latest entry that isn't deleted.

    ``waits_for`` is the promise or the reminder that a waiting group waits for, if any. ``last_contact`` is when staff
    last got, or tried to get, in touch. ``next_day`` is the day of the earliest promise or reminder that stands.
    ``due`` are those whose day makes it *to do*; ``is_broken`` if one is a broken promise. ``letters_sent`` is that of
    :class:`FollowUp`.
    """

    status: FollowUpStatus
    latest: Entry | None
    waits_for: Pending | None = None
    last_contact: date | None = None
    next_day: date | None = None
    due: frozenset[Agreed] = frozenset()
    is_broken: bool = False
    letters_sent: int = 0

    @property
    def is_closed(self) -> bool:
        return self.status is FollowUpStatus.CLOSED

    @property
    def waits_until(self) -> date | None:
        """The day until which a group waits because of a promise or a reminder."""
        return None if self.waits_for is None else self.waits_for.day


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The follow-up of a listed group."""

    group: Listing
    entries: tuple[Entry, ...] = ()

    @property
    def seen(self) -> str | None:
        """The id of the last row, which a writer must have seen."""
        return max((entry.id for entry in self.entries), key=record_ids.number_of, default=None)

    @property
    def pending(self) -> dict[Agreed, Pending]:
        """The promise and the reminder that stand, each only if there is one."""
        return pending_in(self.entries)

    @property
    def letters_sent(self) -> int:
        """How many letters were sent since the family last came onto the list."""
        sent = (entry for entry in self.entries if entry.what is What.CONTACTED and entry.how is How.LETTER)
        return sum(not entry.deleted and not entry.reopened for entry in sent)

    def about(self, patrons: Collection[int]) -> FollowUp:
        """Return only the entries about any of these patrons (ids): what a reader who sees them may read.

        Merged families share a follow-up, but a merge must not show an entry to more people than before.
        """
        seen = frozenset(patrons)
        return replace(self, entries=tuple(entry for entry in self.entries if not seen.isdisjoint(entry.persons)))

    def with_outcomes(self, outcomes: Mapping[str, Comparison]) -> FollowUp:
        """Return it with what a run found of promises, by the id of their latest version."""
        entries = [
            replace(entry, outcome=found.outcome, paid=found.paid, forgiven=found.forgiven)
            if (found := outcomes.get(entry.id))
            else entry
            for entry in self.entries
        ]
        return replace(self, entries=tuple(entries))

    def for_libraries(self, members: Iterable[tuple[int, str]]) -> FollowUp:
        """Return what the readers of each library may see. ``members`` are the group's, with their home library."""
        by_library = defaultdict[str, list[int]](list)
        for id, library in members:
            by_library[library].append(id)
        return reduce(FollowUp.about, by_library.values(), self)

    def status(self, today: date, again_after: int) -> FollowUpStatus:
        """Return whether staff have to act. See :func:`status_of`."""
        group = self.group
        return status_of(
            self.entries,
            group.group_fines,
            today,
            again_after,
            in_collections=group.in_collections,
            unreturned=group.unreturned,
        )

    def state(self, today: Today, again_after: int) -> FollowUpState:
        """Return how far it is. ``today`` is asked for the library of the contact person."""
        latest = next((entry for entry in reversed(self.entries) if not entry.deleted), None)
        day = today(self.group.contact_library)
        status = self.status(day, again_after)
        waits_for = min(self.pending.values(), key=lambda one: one.day, default=None)
        next_day = None if waits_for is None else waits_for.day
        if waits_for is not None and (status is not FollowUpStatus.WAITING or waits_for.day < day):
            waits_for = None
        contacts = [entry.day for entry in self.entries if entry.how is not None and not entry.deleted]
        contact = max(contacts, default=None)
        found = FollowUpState(status, latest, waits_for, contact, next_day, letters_sent=self.letters_sent)
        if status is not FollowUpStatus.TO_DO:
            return found
        due = frozenset(agreed for agreed, one in self.pending.items() if _is_due(agreed, one.day, day))
        over = [one for one in standing_promises(self.entries) if _is_due(Agreed.PROMISE, one.day, day)]
        is_broken = any(one.entry.outcome is PromiseOutcome.BROKEN for one in over)
        return found._replace(due=due, is_broken=is_broken)

    def entry(self, id: str) -> Entry:
        """Return an entry that isn't deleted, by the id with which it was first saved. Raises NotFoundError."""
        for entry in self.entries:
            if entry.original.id == id and not entry.deleted:
                return entry
        values = {"group": self.group.group, "entry": id}
        raise NotFoundError("group {group} has no entry {entry}", code="no-such-follow-up-entry", values=values)


@dataclass(frozen=True, slots=True)
class DraftEntry:
    """An entry to save for a group (number).

    ``seen`` is the id of the last row that the writer has seen of the group's follow-up, None if there was none.
    ``corrects`` is the id of the entry to replace; with ``deletes``, replace it with nothing, and the fields after it
    don't matter. ``saved_on`` is filled in by :meth:`checked`.
    """

    group: int
    seen: str | None
    corrects: str | None = None
    deletes: bool = False
    what: What = What.NOTE
    how: How | None = None
    day: date | None = None
    remind_on: date | None = None
    note: str = field(default="", repr=False)
    pay_by: date | None = None
    cancels: Agreed | None = None
    detail: Detail | None = None
    amount: Decimal | None = None
    saved_on: date | None = None

    def checked(self, follow_up: FollowUp, today: date) -> DraftEntry:
        """Return the draft with all fields filled in. ``today`` is the date at the library, the default for ``day``.

        Raises PlanError if the fields contradict each other, or NotFoundError if the entry to correct doesn't exist.
        """
        before = None if self.corrects is None else follow_up.entry(self.corrects)
        if self.deletes:
            if before is None:
                raise _refused("the entry to delete is missing", "corrects")
            return replace(
                self,
                what=before.what,
                how=before.how,
                day=before.day,
                remind_on=before.remind_on,
                note="",
                pay_by=before.pay_by,
                cancels=before.cancels,
                detail=before.detail,
                amount=before.amount,
                saved_on=today,
            )
        day, note = self.day or today, one_line(self.note)
        if self.how is None and self.what in (What.CONTACTED, What.PROMISED, What.NO_ANSWER):
            raise _refused(Message("choose phone, e-mail, letter or in person"), "how")
        if self.detail not in (None, *DETAILS.get(self.what, ())):
            raise _refused("the detail belongs to another outcome", "detail")
        if day > today:
            raise _refused(Message("the date is in the future"), "date")
        self._check_agreed(follow_up, before, day, today)
        if len(note) > LONGEST_NOTE or _UNPRINTABLE.search(note):
            most = {"most": LONGEST_NOTE}
            raise _refused(Message("a note has at most {most} characters, all printable", values=most), "note")
        if self.what is What.NOTE and not note and self.remind_on is None and self.cancels is None:
            raise _refused(Message("write a note or set a reminder"), "note")
        return replace(self, day=day, note=note, saved_on=today)

    def _check_agreed(self, follow_up: FollowUp, before: Entry | None, day: date, today: date) -> None:
        """Refuse a promise, a reminder or a cancellation that makes no sense. ``before`` is the entry to correct."""
        if self.remind_on is not None and self.what is What.CLOSED:
            raise _refused(Message("a closed follow-up has no reminder"), "remind_on")
        is_new = before is None or self.remind_on != before.remind_on
        if self.remind_on is not None and self.remind_on < today and is_new:
            raise _refused(Message("the reminder is before today"), "remind_on")
        if self.pay_by is not None and self.what is not What.PROMISED:
            raise _refused(Message("only a promise has a day to pay by"), "pay_by")
        if self.pay_by is not None and self.pay_by < day:
            raise _refused(Message("the day to pay by is before the promise"), "pay_by")
        if self.amount is not None and self.what is not What.PROMISED:
            raise _refused(Message("only a promise has an amount"), "amount")
        if self.amount is not None and not _is_amount(self.amount):
            raise _refused(Message("the amount must be more than 0, with two decimal places"), "amount")
        if self.cancels is not None and self.what is not What.NOTE:
            raise _refused("only a note cancels a promise or a reminder", "cancels")
        if self.cancels not in (None, before and before.cancels, *follow_up.pending):
            raise _refused(Message("there is nothing to cancel"), "cancels")


def _is_amount(amount: Decimal) -> bool:
    return amount.is_finite() and 0 < amount < MOST_PROMISED and amount == amount.quantize(ZERO)


def digest_of(report: str, drafts: Sequence[DraftEntry]) -> str:
    """Return a digest that tells two requests under the same idempotency key apart."""
    return sha256(json.dumps([report, *map(astuple, drafts)], default=str).encode()).hexdigest()


def today_at(
    now: datetime, configured: tzinfo | None, zones: Mapping[int, tzinfo], org_units: Iterable[OrgUnit]
) -> Today:
    """Return the function that tells today's date at a library. ``now`` is aware.

    Without a ``configured`` time zone, each library has its own in ``zones`` (by org unit id), or this machine's.
    """
    zone_of = timezone_at(configured, zones, org_units)
    return lambda library: now.astimezone(zone_of(library)).date()


def timezone_at(
    configured: tzinfo | None, zones: Mapping[int, tzinfo], org_units: Iterable[OrgUnit]
) -> Callable[[str], tzinfo | None]:
    """Return the function that tells a library's (short name) time zone, None for this machine's."""
    named = {unit.shortname: zones[unit.id] for unit in org_units if unit.id in zones}
    return lambda library: configured or named.get(library)


def _refused(problem: str, field: str) -> PlanError:
    """Return the error in words for people; ``field`` is the name in the API."""
    values = {"problem": problem, "field": field}
    return PlanError("Not accepted: {problem}", code="follow-up-unclear", values=values)
