"""What the work with a report's families achieved, by week and month. Pure functions.

Amounts are payments in Evergreen, each counted once for a period and a number of days. Contacted families differ from
others, so nothing here says what a contact achieved.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.follow_up.entries import Detail, Entry, PromiseOutcome, What
from evergreen_groups.follow_up.stays import Left, Stay
from evergreen_groups.values import ZERO, Total

if TYPE_CHECKING:
    from evergreen_groups.ils import Booking

WINDOWS = (30, 60, 90)
"""Within how many days payments count."""
MIN_FAMILIES = 5
"""Fewer families than this aren't compared."""

Zones = Callable[[str], tzinfo | None]
"""Returns a library's (short name) time zone, None for this machine's."""


class Length(Enum):
    """The length of a period."""

    WEEK = "week"
    MONTH = "month"

    def start_of(self, day: date) -> date:
        """Return the first day of the period that a day is in. Weeks begin on Monday.

        >>> Length.WEEK.start_of(date(2026, 11, 29)), Length.MONTH.start_of(date(2026, 11, 29))
        (datetime.date(2026, 11, 23), datetime.date(2026, 11, 1))
        """
        return day.replace(day=1) if self is Length.MONTH else day - timedelta(day.weekday())

    def next_after(self, start: date) -> date:
        """Return the first day of the next period."""
        return self.start_of(start + timedelta(7 if self is Length.WEEK else 31))

    def starts(self, first: date, last: date) -> Iterator[date]:
        """Yield the first days of the periods from one day to another."""
        start = self.start_of(first)
        while start <= last:
            yield start
            start = self.next_after(start)


_SHOWN = {Length.WEEK: 26, Length.MONTH: 24}
"""How many periods there are at most, the last ones."""


class Paid(NamedTuple):
    """What families paid within ``days`` of their first contact in a period, and what ``others`` paid in the same time.

    The amounts are at least those if payments aren't all known. Both are None while the days aren't over, and
    ``others`` if there are too few families to compare.
    """

    days: int
    contacted: Total[Decimal] | None
    others: Total[Decimal] | None


@dataclass(frozen=True, slots=True)
class PeriodResults:
    """The results at a ``library`` (short name, "" for all) from ``start`` until before ``end``.

    ``contacted`` are the families that were spoken with, written to or left a message in that time. The promises are
    those whose day is in it, and ``left`` those who left the list. ``others`` were on the list and weren't contacted
    for 90 days before and after.
    """

    library: str
    start: date
    end: date
    contacted: int
    honored: int
    broken: int
    others: int
    paid: tuple[Paid, ...]
    left: Mapping[Left, int]


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a report by library, the first period first; "" is the sum of all libraries.

    ``since`` is the first day on which a run recorded the list. Unless ``all_known``, payments of some members can't
    be seen.
    """

    report: str
    at: datetime
    since: date | None
    weeks: Mapping[str, Sequence[PeriodResults]]
    months: Mapping[str, Sequence[PeriodResults]]
    all_known: bool = True

    def of(self, length: Length) -> Mapping[str, Sequence[PeriodResults]]:
        return self.weeks if length is Length.WEEK else self.months


class _Family:
    """A stay on the list with its entries."""

    def __init__(self, stay: Stay, entries: Sequence[Entry], zone: tzinfo | None) -> None:
        self.stay, self._zone = stay, zone
        self.contacts = sorted((entry.happened_at, entry.day) for entry in entries if is_contact(entry))
        self.promises = [(entry.promised_day, entry.outcome) for entry in entries if entry.what is What.PROMISED]
        decisive = [entry for entry in entries if not entry.is_note_or_letter]
        self._is_closed = bool(decisive) and decisive[-1].what is What.CLOSED
        self.first, self.last = self.day(stay.first_at), self.day(stay.last_at)

    def day(self, at: datetime) -> date:
        return at.astimezone(self._zone).date()

    def midnight(self, day: date) -> datetime:
        naive = datetime.combine(day, time())
        return naive.astimezone() if self._zone is None else naive.replace(tzinfo=self._zone)

    @property
    def left(self) -> tuple[date, Left] | None:
        if self.stay.left_at is None:
            return None
        reason = self.stay.reason or Left.UNKNOWN
        return self.day(self.stay.left_at), Left.CLOSED if self._is_closed and reason is not Left.MOVED else reason

    def contacted_in(self, start: date, end: date) -> datetime | None:
        """Return when the family was first contacted in a period."""
        return next((at for at, day in self.contacts if start <= day < end), None)

    def listed_in(self, start: date, end: date) -> datetime | None:
        """Return from when in a period the family was on the list."""
        if self.last < start or self.first >= end:
            return None
        return max(self.stay.first_at, self.midnight(start))


def is_contact(entry: Entry) -> bool:
    """Return whether the library got in touch with a family: it spoke with them, wrote to them or left a message."""
    if entry.deleted:
        return False
    return entry.what in (What.CONTACTED, What.PROMISED) or entry.detail is Detail.LEFT_MESSAGE


def reckon(
    report: str,
    stays: Sequence[Stay],
    entries: Iterable[Entry],
    payments: Mapping[int, Sequence[Booking]],
    zones: Zones,
    now: datetime,
) -> Results:
    """Return the results of a report from the stays on its list and the current versions of the entries.

    ``payments`` are by patron id. ``now`` is aware.
    """
    by_stay = _by_stay(stays, entries)
    families = defaultdict[str, list[_Family]](list, {"": []})
    for place, stay in enumerate(stays):
        family = _Family(stay, by_stay[place], zones(stay.library))
        families[stay.library].append(family)
        families[""].append(family)

    since = min((family.first for family in families[""]), default=None)

    def of(length: Length) -> dict[str, list[PeriodResults]]:
        found = {}
        for library, some in sorted(families.items()):
            today = now.astimezone(zones(library)).date()
            starts = [] if since is None else [*length.starts(since, today)][-_SHOWN[length] :]
            at_library = _Library(library, some, payments, today)
            found[library] = [at_library.period(start, length.next_after(start)) for start in starts]
        return found

    all_known = all(stay.complete and stay.paid_until is not None for stay in stays if stay.last_at > stay.first_at)
    return Results(report, now, since, of(Length.WEEK), of(Length.MONTH), all_known)


def _by_stay(stays: Sequence[Stay], entries: Iterable[Entry]) -> defaultdict[int, list[Entry]]:
    """Return the entries of each stay, by its place: of the family's number at that time, or of the contact person."""
    by_number, by_person = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for place, stay in enumerate(stays):
        by_number[stay.number].append(place)
        for id in stay.persons:
            by_person[id].append(place)
    found = defaultdict[int, list[Entry]](list)
    for entry in entries:
        first, persons = entry.original, frozenset(entry.persons)
        candidates = [at for at in by_number[first.group] if not persons.isdisjoint(stays[at].persons)]
        for at in (*candidates, *by_person[first.contact]):
            if stays[at].covers(first.at):
                if not entry.deleted:
                    found[at].append(entry)
                break
    return found


class _Library:
    """The families of a library (short name, "" for all), with all payments by patron id."""

    def __init__(
        self, name: str, families: Sequence[_Family], payments: Mapping[int, Sequence[Booking]], today: date
    ) -> None:
        self._name, self._families, self._payments, self._today = name, families, payments, today
        self._contacted_at = defaultdict[int, list[datetime]](list)
        for family in families:
            for id in family.stay.persons if family.contacts else ():
                self._contacted_at[id] += [at for at, _day in family.contacts]

    def period(self, start: date, end: date) -> PeriodResults:
        families = self._families
        contacted = [(one, at) for one in families if (at := one.contacted_in(start, end)) is not None]
        listed = [(one, at) for one in families if (at := one.listed_in(start, end)) is not None]
        others = [(one, at) for one, at in listed if self._is_other(one, at)]
        is_compared = min(len(contacted), len(others)) >= MIN_FAMILIES
        paid = [
            Paid(days, self._paid(contacted, days), self._paid(others, days) if is_compared else None)
            if end + timedelta(days) <= self._today
            else Paid(days, None, None)
            for days in WINDOWS
        ]
        outcomes = Counter(outcome for one in families for day, outcome in one.promises if day and start <= day < end)
        left = Counter(reason for one in families if one.left for day, reason in [one.left] if start <= day < end)
        honored, broken = outcomes[PromiseOutcome.PAID], outcomes[PromiseOutcome.BROKEN]
        return PeriodResults(
            self._name, start, end, len(contacted), honored, broken, len(others), tuple(paid), dict(left)
        )

    def _is_other(self, family: _Family, since: datetime) -> bool:
        apart = timedelta(WINDOWS[-1])
        times = (at for id in family.stay.persons for at in self._contacted_at.get(id, ()))
        return all(abs(at - since) > apart for at in times)

    def _paid(self, families: Sequence[tuple[_Family, datetime]], days: int) -> Total[Decimal]:
        """Add up what the persons of families paid within ``days``, each payment once."""
        window, exact = timedelta(days), True
        since = defaultdict[int, list[datetime]](list)  # a person may have been in several of the families
        for family, at in families:
            exact = exact and family.stay.payments_known(at + window)
            for id in family.stay.persons:
                since[id].append(at)
        paid = (
            one.amount
            for id, times in since.items()
            for one in self._payments.get(id, ())
            if any(at <= one.at < at + window for at in times)
        )
        return Total(sum(paid, ZERO), exact)
