"""Record what each run of a report found, and compare the next run with it.

The database keeps the totals of every run, what each group owed in the last runs
(:mod:`evergreen_groups.report.listings`), and groups with patron ids of the last run only, because no other run is
compared. It keeps no names and no barcodes.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, func, select

from evergreen_groups.batches import batched
from evergreen_groups.errors import DataError, GatewayError
from evergreen_groups.groups import GroupReader
from evergreen_groups.ils import Access, Limits, OrgUnit, OrgUnits
from evergreen_groups.policy import Limit
from evergreen_groups.report.listings import (
    BATCH_SIZE,
    GroupMatching,
    Listing,
    Listings,
    group_by_patron,
    majority_group,
    record_nights,
)
from evergreen_groups.report.models import ChangeKind, Changes, Criteria, GroupChange, GroupNow, Report, RunTotals
from evergreen_groups.state import record_ids, schema
from evergreen_groups.values import ZERO, Total

if TYPE_CHECKING:
    from decimal import Decimal
    from typing import Any

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group
    from evergreen_groups.state import Transactions


_EVERYWHERE = ""
"""Stands for all org units among the totals."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: when reading began (aware), and the groups that met its criteria.

    ``hidden_libraries`` are the short names of libraries whose patrons the account couldn't see. A report shows the
    first ``listed_count`` groups; ``top`` cut off the others. Of a recorded run, that isn't known.
    """

    at: datetime
    listings: Listings
    hidden_libraries: frozenset[str] = frozenset()
    listed_count: int = field(default=0, compare=False)

    @classmethod
    def of(cls, report: Report) -> Run:
        """Make the record of ``report``, including groups cut off by ``top``, which met its criteria as well."""
        contacts, details = report.known_contacts, report.details
        listings = {
            group.number: Listing.of(group, contacts.get(group.number), details, report.items)
            for group in chain(report.groups, report.left_out)
        }
        return cls(report.generated_at, listings, report.hidden_libraries, len(report.groups))

    @property
    def listed(self) -> Iterator[Listing]:
        """The groups that the report shows."""
        return islice(self.listings.values(), self.listed_count)

    def totals(self, org_units: Collection[OrgUnit]) -> dict[str, RunTotals]:
        """Return the totals of all groups under ``""``, and by org unit (short name) of a home library or above."""
        above = OrgUnits.shortnames_upwards(org_units)

        @cache
        def concerned(libraries: frozenset[str]) -> frozenset[str]:
            return frozenset(name for library in libraries for name in above.get(library, (library,)))

        found: defaultdict[str, list[Listing]] = defaultdict(list, {_EVERYWHERE: [*self.listings.values()]})
        for listing in self.listings.values():
            for shortname in concerned(listing.libraries):
                found[shortname].append(listing)
        totals = {}
        for shortname, listings in found.items():
            certain = all(listing.certain for listing in listings)
            fines = sum((listing.group_fines for listing in listings), ZERO) if certain else None
            member_count = sum(listing.member_count for listing in listings)
            totals[shortname] = RunTotals(self.at, len(listings), member_count, fines)
        return totals


def compare(previous: Run | None, current: Run) -> Changes:
    """Compare two runs: what changed for each listed group, and which groups are cleared.

    Groups are matched across membership changes (:class:`GroupMatching`), so moves between groups don't look like new
    or cleared fines. A group isn't cleared if only ``top`` cut it off, or if the account can't see its libraries any
    more.
    """
    if previous is None:
        return Changes(None, {})
    matching = GroupMatching(previous.listings, current.listings)
    gone = [
        _gone(listing, current.hidden_libraries)
        for number, listing in previous.listings.items()
        if matching.current_number(number) is None
    ]
    # Show the largest former debts first.
    gone.sort(key=lambda change: (-(change.before or ZERO), change.group))
    numbers_before = {listing.group: matching.previous_numbers(listing.group) for listing in current.listed}
    # Only groups without a predecessor need to know where their members were.
    newcomers = {patron for one in current.listed if not numbers_before[one.group] for patron in one.members}
    groups_before = group_by_patron(previous.listings, newcomers)
    by_group = {
        listing.group: _changed(listing, [previous.listings[number] for number in numbers])
        if (numbers := numbers_before[listing.group])
        else _new(listing, groups_before, previous.hidden_libraries)
        for listing in current.listed
    }
    return Changes(
        since=previous.at,
        by_group=by_group,
        cleared=tuple(change for change in gone if change.kind is ChangeKind.CLEARED),
        hidden=tuple(change for change in gone if change.kind is ChangeKind.HIDDEN),
    )


def _changed(listing: Listing, before: Sequence[Listing]) -> GroupChange:
    first, *others = before
    fines = sum((group.group_fines for group in others), first.group_fines)  # usually one amount, reused
    members, members_before = set(listing.members), {member for group in before for member in group.members}
    numbers = [group.group for group in before]
    all_visible = listing.complete and all(group.complete for group in before)
    if listing.group_fines == fines:
        kind = _changed_items(listing, before)
    else:
        kind = ChangeKind.WORSE if listing.group_fines > fines else ChangeKind.BETTER
    return _change(
        listing,
        kind,
        fines,
        listing.group_fines,
        formerly=() if numbers == [listing.group] else tuple(numbers),
        joined_count=len(members - members_before) if all_visible else None,
        left_count=len(members_before - members) if all_visible else None,
        certain=listing.certain and all(group.certain for group in before),
    )


def _changed_items(listing: Listing, before: Sequence[Listing]) -> ChangeKind:
    """Compare the items of a group that owes what it owed, if both runs counted them."""
    items = listing.unreturned
    items_before = [group.unreturned for group in before if group.unreturned is not None]
    if items is None or len(items_before) < len(before) or items == sum(items_before):
        return ChangeKind.UNCHANGED
    return ChangeKind.MORE_ITEMS if items > sum(items_before) else ChangeKind.FEWER_ITEMS


def _new(listing: Listing, groups_before: Mapping[int, int], hidden: frozenset[str]) -> GroupChange:
    origin = majority_group(listing.members, groups_before)
    formerly = () if origin in (None, listing.group) else (origin,)
    certain = listing.certain and not listing.libraries <= hidden
    unknown = {"joined_count": None, "left_count": None}
    return _change(listing, ChangeKind.NEW, None, listing.group_fines, formerly=formerly, certain=certain, **unknown)


def _gone(listing: Listing, hidden: frozenset[str]) -> GroupChange:
    """Describe a group that isn't listed any more: cleared, or possibly just hidden."""
    kind = ChangeKind.HIDDEN if listing.libraries <= hidden else ChangeKind.CLEARED
    known = {"certain": listing.certain, "members": frozenset(listing.members), "member_count": listing.member_count}
    return _change(listing, kind, listing.group_fines, None, **known)


def _change(
    listing: Listing, kind: ChangeKind, before: Decimal | None, after: Decimal | None, **more: Any
) -> GroupChange:
    return GroupChange(listing.group, kind, before, after, listing.library, listing.libraries, **more)


TREND = 30
"""How many runs the trend covers, including this one."""


class History:
    """The recorded runs of a report at the gateway ``url``.

    A run is compared with the last run of its series: same gateway, same ``name`` and same ``min_total``,
    ``min_members``, ``orgs``, ``choice`` and conditions on items. If one of these changes, a new series begins, so that
    a narrower report doesn't show groups as cleared. ``top``, ``sort`` and the limit don't matter.
    """

    def __init__(self, transactions: Transactions, url: str, name: str = "") -> None:
        self._transactions = transactions
        self._name = name
        self._url = url

    def compare(self, report: Report) -> Changes:
        """Compare ``report`` with the last run of its series. Record nothing."""
        current, previous = Run.of(report), None
        last: Sequence[Row[Any]] = ()
        totals: list[dict[str, RunTotals]] = []
        if self._transactions.is_there:
            with self._transactions.reading() as connection:
                last = self._last_runs(connection, report, TREND - 1)
                totals = _totals_of_runs(connection, last)
                previous = _recorded(connection, last[-1]) if last else None
        # The trend ends with this report, which isn't recorded yet.
        moments = [*(run.at for run in last), current.at]
        totals.append(current.totals(report.org_units))
        names = sorted(set().union(*totals) - {_EVERYWHERE})
        # Org units without listed groups have no row.
        trends = {
            name: tuple(run.get(name) or RunTotals(at, 0, 0, ZERO) for at, run in zip(moments, totals, strict=True))
            for name in (_EVERYWHERE, *names)
        }
        changes = compare(previous, current)
        return replace(changes, trend=trends.pop(_EVERYWHERE), library_trends=trends)

    def record(self, report: Report, within: Connection | None = None) -> None:
        """Record ``report`` in one transaction. ``within`` is the connection of an open transaction to join."""
        current, matching = Run.of(report), None
        with self._transactions.writing() if within is None else nullcontext(within) as connection:
            mine = self._series(report.criteria)
            series = connection.execute(select(schema.series.c.id).filter_by(**mine)).scalar_one_or_none()
            if series is None:
                added = schema.series.insert().values(**mine).returning(schema.series.c.id)
                series = connection.execute(added).scalar_one()
            for last in self._last_runs(connection, report, 1):
                matching = GroupMatching(_recorded(connection, last).listings, current.listings)
            # Groups with patron ids are kept for the last run only.
            of_the_series = select(schema.runs.c.id).where(schema.runs.c.series == series)
            connection.execute(delete(schema.run_groups).where(schema.run_groups.c.run.in_(of_the_series)))
            hidden = json.dumps(sorted(report.hidden_libraries))
            new = connection.execute(
                schema.runs.insert()
                .values(series=series, at=report.generated_at, hidden_libraries=hidden)
                .returning(schema.runs.c.id)
            ).scalar_one()
            connection.execute(
                schema.run_totals.insert(),
                [
                    {
                        "run": new,
                        "org_unit": name,
                        "group_count": totals.group_count,
                        "member_count": totals.member_count,
                        "combined_fines": ZERO if totals.group_fines is None else totals.group_fines,
                    }
                    for name, totals in current.totals(report.org_units).items()
                ],
            )
            listed = {group.number: group for group in report.groups}
            for batch in batched(current.listings.values(), BATCH_SIZE):
                rows = [
                    {
                        "run": new,
                        "number": listing.group,
                        "combined_fines": listing.group_fines,
                        "certain": listing.certain,
                        "member_count": listing.member_count,
                        "members": str(list(listing.members)),  # valid JSON as well
                        "library": listing.library,
                        "libraries": _list_of(listing.libraries),
                        "contact": listing.contact,
                        "contact_library": listing.contact_library,
                        "in_collections": listing.in_collections,
                        "unreturned": listing.unreturned,
                        **_shown(report, listed.get(listing.group)),
                    }
                    for listing in batch
                ]
                connection.execute(schema.run_groups.insert(), rows)
            record_nights(connection, series, new, current.listings, matching)

    def _series(self, criteria: Criteria) -> dict[str, str]:
        settings = {
            "min_members": criteria.min_members,
            "min_total": f"{criteria.min_total:.2f}",
            "orgs": sorted({org.casefold() for org in criteria.orgs}),
            **({"report": self._name} if self._name else {}),
            # Empty without a choice or conditions on items, as in series from before these existed.
            **criteria.choice.document(),
            **criteria.item_document(),
        }
        return {"gateway": self._url, "settings": json.dumps(settings)}

    def _last_runs(self, connection: Connection, report: Report, count: int) -> Sequence[Row[Any]]:
        """Return up to ``count`` runs of the report's series, the last one last."""
        runs = select(schema.runs).join(schema.series).filter_by(**self._series(report.criteria))
        return connection.execute(runs.order_by(schema.runs.c.id.desc()).limit(count)).all()[::-1]


def _recorded(connection: Connection, run: Row[Any], *where: ColumnElement[bool]) -> Run:
    """Return a recorded run with those of its groups that meet the conditions."""
    listings = {one.group: one for one in _listings(connection, run.id, *where)}
    return Run(run.at, listings, frozenset(json.loads(run.hidden_libraries)))


def latest_totals(transactions: Transactions) -> dict[str, dict[str, RunTotals]]:
    """Return the last run's totals of each report, by report name and org unit.

    The name '' is the report configured as ``[report]``, and the org unit '' stands for all of them. Org units without
    listed groups are left out.
    """
    if not transactions.is_there:
        return {}
    with transactions.reading() as connection:
        runs = _last_runs(connection, None)
        totals = _totals_of_runs(connection, list(runs.values()))
    return {
        name: {_EVERYWHERE: RunTotals(run.at, 0, 0, ZERO), **found}
        for (name, run), found in zip(runs.items(), totals, strict=True)
    }


def incomplete_since(transactions: Transactions, started: datetime) -> bool:
    """Return whether a run that was recorded since then (aware) shows a group with hidden members."""
    with transactions.reading() as connection:
        runs = [run.id for run in _last_runs(connection, None).values() if run.at >= started]
        return any(not one.complete for run in runs for one in _listings(connection, run, schema.run_groups.c.listed))


def listed_by(connection: Connection, url: str, name: str) -> Run | None:
    """Return the last run of a report (``""``: the one configured as ``[report]``), with the groups that it shows."""
    found = _last_runs(connection, url).get(name)
    return None if found is None else _recorded(connection, found, schema.run_groups.c.listed)


class ListedGroup(NamedTuple):
    """A group as a report shows it. ``age_band`` is :attr:`AgeBand.text`, None if not known."""

    listing: Listing
    over_limit_count: Total[int]
    age_band: str | None


@dataclass(frozen=True, slots=True)
class ListedGroups:
    """The groups that the last run of a report shows. ``run`` is its id, ``at`` when reading began (aware)."""

    run: str
    at: datetime
    groups: tuple[ListedGroup, ...]

    @classmethod
    def read(cls, transactions: Transactions, url: str, name: str) -> ListedGroups | None:
        """Read them for the report ``name`` at the gateway ``url``; None without a recorded run."""
        if not transactions.is_there:
            return None
        stored = schema.run_groups.c
        columns = (stored.number, stored.over_limit_count, stored.over_limit_certain, stored.age_band)
        with transactions.reading() as connection:
            run = _last_runs(connection, url).get(name)
            if run is None:
                return None
            rows = connection.execute(select(*columns).where(stored.run == run.id, stored.listed))
            facts = {number: (Total(count, certain), band) for number, count, certain, band in rows}
            listings = _listings(connection, run.id, stored.listed)
            groups = tuple(ListedGroup(listing, *facts[listing.group]) for listing in listings)
        return cls(record_ids.of(run.id, run.suffix), run.at, groups)


def _shown(report: Report, group: Group | None) -> dict[str, Any]:
    if group is None:
        return {"listed": False, "over_limit_count": None, "over_limit_certain": None, "age_band": None}
    over = group.over_limit_count
    band = None if report.details is None else report.details.age_band(group)
    return {
        "listed": True,
        "over_limit_count": over.at_least,
        "over_limit_certain": over.exact,
        "age_band": None if band is None else band.text,
    }


def reports_with(connection: Connection, url: str, number: int, members: Collection[int]) -> dict[str, str]:
    """Return the reports whose last run shows a group with this number and one of the members (ids), by name.

    The values are the short names of the home library of the group's contact person.
    """
    names = {run.id: name for name, run in _last_runs(connection, url).items()}
    stored = schema.run_groups.c
    rows = select(stored.run, stored.members, stored.contact_library)
    found = connection.execute(rows.where(stored.run.in_(names), stored.number == number, stored.listed))
    libraries = {names[row.run]: row.contact_library for row in found if set(members) & {*json.loads(row.members)}}
    return dict(sorted(libraries.items()))


def _last_runs(connection: Connection, url: str | None) -> dict[str, Row[Any]]:
    """Return the last run of each report at a gateway (None: at any), by the report's name."""
    columns = (
        schema.runs.c.id,
        schema.runs.c.suffix,
        schema.runs.c.at,
        schema.runs.c.hidden_libraries,
        schema.series.c.settings,
    )
    last = select(func.max(schema.runs.c.id)).group_by(schema.runs.c.series)
    found = select(*columns).join(schema.series).where(schema.runs.c.id.in_(last))
    if url is not None:
        found = found.where(schema.series.c.gateway == url)
    # If a report has several series, because its settings or gateway changed, use the one with the last run.
    runs: Iterable[Row[Any]] = connection.execute(found.order_by(schema.runs.c.id))
    return {str(json.loads(run.settings).get("report", "")): run for run in runs}


def _totals_of_runs(connection: Connection, runs: Sequence[Row[Any]]) -> list[dict[str, RunTotals]]:
    """Read the totals of runs, in order. An uncertain group makes the run's fines uncertain at every library."""
    found: dict[int, dict[str, RunTotals]] = {run.id: {} for run in runs}
    moments = {run.id: run.at for run in runs}
    nights = schema.group_nights.c
    uncertain = set(connection.scalars(select(nights.run).where(nights.run.in_(found), ~nights.certain).distinct()))
    for row in connection.execute(select(schema.run_totals).where(schema.run_totals.c.run.in_(found))):
        fines = None if row.run in uncertain else row.combined_fines
        found[row.run][row.org_unit] = RunTotals(moments[row.run], row.group_count, row.member_count, fines)
    return list(found.values())


def _listings(connection: Connection, run: int, *where: ColumnElement[bool]) -> Iterator[Listing]:
    stored = schema.run_groups.c
    columns = (stored.number, stored.combined_fines, stored.certain, stored.member_count, stored.members,
               stored.library, stored.libraries, stored.contact, stored.contact_library,
               stored.in_collections, stored.unreturned)  # fmt: skip
    for rows in connection.execute(select(*columns).where(stored.run == run, *where)).partitions(BATCH_SIZE):
        members = json.loads(f"[{','.join(row.members for row in rows)}]")  # one call instead of thousands
        for row, ids in zip(rows, members, strict=True):
            number, fines, certain, count, _members, library, libraries, *contact = row
            yield Listing(number, fines, certain, count, tuple(ids), library, _names_in(libraries), *contact)


# Most of the thousands of groups have members of the same few libraries.
@lru_cache(1000)
def _names_in(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


@lru_cache(1000)
def _list_of(names: frozenset[str]) -> str:
    return json.dumps(sorted(names))


logger = logging.getLogger(__name__)


def look_up_cleared(gateway: Gateway, report: Report) -> Report:
    """Add the current state of the report's cleared groups, as far as their members are visible.

    Takes a handful of calls, or none without cleared groups. If the gateway fails, return the report as it is.
    """
    changes = report.changes
    if changes is None or not changes.cleared:
        return report
    try:
        numbers = _current_numbers(gateway, changes.cleared)
        org_units = OrgUnits(report.org_units) if report.org_units else OrgUnits.read(gateway)
        access = Access.read(gateway, org_units)
        reader = GroupReader(gateway, org_units, access, Limits.of(Limit()))  # the limit doesn't matter here
        groups = reader.read_groups(numbers.values()) if numbers else {}
    except (DataError, GatewayError) as error:
        logger.warning("how the cleared groups stand now could not be looked up: %s", error)
        return report
    readers = {org_units.shortname(id) for id in org_units.named(report.criteria.orgs)}
    listed = {group.number for group in chain(report.groups, report.left_out)}
    cleared = []
    for change in changes.cleared:
        if (number := numbers.get(change.group)) is not None and (group := groups.get(number)):
            homes, is_listed = frozenset(member.library for member in group.members), group.number in listed
            present = GroupNow(
                group.number,
                group.lead.name,
                group.member_count,
                group.group_fines,
                homes,
                is_listed=is_listed,
                lead=group.lead.id,
            )
            change = replace(change, present=present)  # noqa: PLW2901
        cleared.append(change.seen_from(readers) if report.criteria.orgs else change)
    return replace(report, changes=replace(changes, cleared=tuple(cleared)))


def _current_numbers(gateway: Gateway, cleared: Sequence[GroupChange]) -> dict[int, int]:
    """Return, by former group number, the group that most of a cleared group's members are in now.

    If none has most of them, it is the group that kept the number, if one of them is still there.
    """
    patrons = sorted(set(chain.from_iterable(change.members for change in cleared)))
    rows = gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), "id", patrons, where={"deleted": "f"})
    groups: dict[int, int] = dict(rows)
    found = {}
    for change in cleared:
        counts = Counter(groups[patron] for patron in sorted(change.members) if patron in groups)
        number, count = counts.most_common(1)[0] if counts else (0, 0)
        # A majority, as in GroupMatching.
        if count * 2 > counts.total():
            found[change.group] = number
        elif change.group in counts:
            found[change.group] = change.group
    return found
