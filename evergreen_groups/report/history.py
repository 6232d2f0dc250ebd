"""Record what each run of a report found, and compare the next run with it.

The database keeps the totals of every run, what each group owed in the last runs
(:mod:`evergreen_groups.report.nights`), and groups with patron ids of the last run only, because no other run is
compared. It keeps no names and no barcodes.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from evergreen_groups.errors import DataError, GatewayError
from evergreen_groups.groups import Group, GroupReader
from evergreen_groups.ils import Access, OrgUnit, OrgUnits, UniformLimit, highest_view_user_orgs, shortnames_upwards
from evergreen_groups.money import ZERO
from evergreen_groups.policy import Limit
from evergreen_groups.report.listings import GroupMatching, Listing, PackedListings, group_by_patron, majority_group
from evergreen_groups.report.models import (
    ChangeKind,
    Changes,
    Criteria,
    GroupChange,
    GroupNow,
    Report,
    RunTotals,
)
from evergreen_groups.report.nights import BATCH_SIZE, in_batches, record_nights
from evergreen_groups.state import schema

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import Transactions


@dataclass(frozen=True, slots=True)
class Run:
    """One run: when reading began (aware), and the groups that met its criteria.

    ``hidden_libraries`` are the short names of libraries whose patrons the account couldn't see. The report shows the
    first ``listed_count`` groups; ``top`` cut off the others.
    """

    at: datetime
    listings: PackedListings
    hidden_libraries: frozenset[str] = frozenset()
    listed_count: int = field(default=0, compare=False)

    @classmethod
    def of(cls, report: Report) -> Run:
        """Make the record of ``report``, including groups cut off by ``top``, which met its criteria as well."""
        listings = PackedListings(map(Listing.of, chain(report.groups, report.left_out)))
        return cls(report.generated_at, listings, report.hidden_libraries, len(report.groups))

    @property
    def totals(self) -> RunTotals:
        """The totals of all groups."""
        sums = _Sums()
        for listing in self.listings:
            sums.add(listing)
        return sums.at(self.at)

    def totals_by_org_unit(self, org_units: Collection[OrgUnit]) -> dict[str, RunTotals]:
        """Return totals by org unit (short name), over groups with a member whose home library is there or below."""
        above = shortnames_upwards(org_units)

        @cache
        def concerned(libraries: frozenset[str]) -> frozenset[str]:
            return frozenset(name for library in libraries for name in above.get(library, (library,)))

        found: defaultdict[str, _Sums] = defaultdict(_Sums)
        for listing in self.listings:
            for shortname in concerned(listing.libraries):
                found[shortname].add(listing)
        return {shortname: sums.at(self.at) for shortname, sums in found.items()}


class _Sums:
    """Running totals of groups."""

    def __init__(self) -> None:
        self._group_count = self._member_count = 0
        self._combined_fines = ZERO
        self._certain = True

    def add(self, listing: Listing) -> None:
        """Count one more."""
        self._group_count += 1
        self._member_count += listing.member_count
        self._combined_fines += listing.combined_fines
        self._certain = self._certain and listing.certain

    def at(self, moment: datetime) -> RunTotals:
        """Return the sums as the totals of a run."""
        fines = self._combined_fines if self._certain else None
        return RunTotals(moment, self._group_count, self._member_count, fines)


def compare(previous: Run | None, current: Run, matching: GroupMatching | None = None) -> Changes:
    """Compare two runs: what changed for each listed group, and which groups are cleared.

    Groups are matched across membership changes (:class:`GroupMatching`; pass ``matching`` to reuse one), so moves
    between groups don't look like new or cleared fines. A group isn't cleared if only ``top`` cut it off, or if the
    account can't see its libraries any more.
    """
    if previous is None:
        return Changes(None, {})
    matching = matching or GroupMatching(previous.listings, current.listings)
    gone = [
        _gone(listing, current.hidden_libraries)
        for listing in previous.listings
        if matching.current_number(listing.group) is None
    ]
    # Show the largest former debts first.
    gone.sort(key=lambda change: (-(change.before or ZERO), change.group))
    newcomers = {
        patron
        for listing in islice(current.listings, current.listed_count)
        if not matching.previous_numbers(listing.group)
        for patron in listing.members
    }
    # Only groups without a predecessor need to know where their members were.
    groups_before = group_by_patron(previous.listings, newcomers)
    by_group = {}
    for listing in islice(current.listings, current.listed_count):
        before = matching.previous_listings(listing.group)
        by_group[listing.group] = (
            _changed(listing, before) if before else _new(listing, groups_before, previous.hidden_libraries)
        )
    return Changes(
        since=previous.at,
        by_group=by_group,
        cleared=tuple(change for change in gone if change.kind is ChangeKind.CLEARED),
        hidden=tuple(change for change in gone if change.kind is ChangeKind.HIDDEN),
    )


def _changed(listing: Listing, before: Sequence[Listing]) -> GroupChange:
    first, *others = before
    fines = sum((group.combined_fines for group in others), first.combined_fines)  # usually one amount, reused
    members = frozenset[int]().union(*(group.members for group in before))
    numbers = sorted(group.group for group in before)
    all_visible = listing.complete and all(group.complete for group in before)
    if listing.combined_fines == fines:
        kind = ChangeKind.UNCHANGED
    else:
        kind = ChangeKind.WORSE if listing.combined_fines > fines else ChangeKind.BETTER
    return GroupChange(
        group=listing.group,
        kind=kind,
        before=fines,
        after=listing.combined_fines,
        library=listing.library,
        libraries=listing.libraries,
        formerly=() if numbers == [listing.group] else tuple(numbers),
        joined_count=len(listing.members - members) if all_visible else None,
        left_count=len(members - listing.members) if all_visible else None,
        certain=listing.certain and all(group.certain for group in before),
    )


def _new(listing: Listing, groups_before: Mapping[int, int], hidden: frozenset[str]) -> GroupChange:
    origin = majority_group(listing.members, groups_before)
    return GroupChange(
        group=listing.group,
        kind=ChangeKind.NEW,
        before=None,
        after=listing.combined_fines,
        library=listing.library,
        libraries=listing.libraries,
        formerly=() if origin in (None, listing.group) else (origin,),
        certain=listing.certain and not listing.libraries <= hidden,
    )


def _gone(listing: Listing, hidden: frozenset[str]) -> GroupChange:
    """Describe a group that isn't listed any more: cleared, or possibly just hidden."""
    return GroupChange(
        group=listing.group,
        kind=ChangeKind.HIDDEN if listing.libraries <= hidden else ChangeKind.CLEARED,
        before=listing.combined_fines,
        after=None,
        library=listing.library,
        libraries=listing.libraries,
        certain=listing.certain,
        members=listing.members,
    )


TREND = 30
"""How many runs the trend covers, including this one."""

_EVERYWHERE = ""


class History:
    """The recorded runs of a report at the gateway ``url``.

    A run is compared with the last run of its series: same gateway, same ``name`` and same ``min_total``,
    ``min_members``, ``orgs`` and ``choice``. If one of these changes, a new series begins, so that a narrower report
    doesn't show groups as cleared. ``top``, ``sort`` and the limit don't matter.
    """

    def __init__(self, transactions: Transactions, url: str, name: str = "") -> None:
        self._transactions = transactions
        self._name = name
        self._url = url
        self._latest: _RunRecord | None = None
        self._previous: tuple[int, Run] | None = None
        self._matching: tuple[Run, Run, GroupMatching] | None = None

    def compare(self, report: Report) -> Changes:
        """Compare ``report`` with the last run of its series. Record nothing.

        Raises:
            StateError: the database is damaged, can't be read, or stays locked by another process.
        """
        previous, current = None, self._record_of(report)
        totals: list[_Totals] = []
        if self._transactions.is_there:
            with self._transactions.reading() as connection:
                last = self._last_runs(connection, _series_settings(report.criteria, self._name))
                totals = _totals_of_runs(connection, last)
                previous = self._read(connection, last[-1]) if last else None
        # The trend ends with this report, which isn't recorded yet.
        totals.append(current.totals)
        names = sorted(set().union(*totals) - {_EVERYWHERE})
        return replace(
            compare(previous, current.run, self._matching_of(previous, current.run)),
            trend=tuple(run[_EVERYWHERE] for run in totals),
            library_trends={name: tuple(run[name] for run in totals) for name in names},
        )

    def record(self, report: Report, within: Connection | None = None) -> None:
        """Record ``report`` in one transaction.

        ``within`` is the connection of an open transaction to join.

        Raises:
            ConfigurationError: the state directory can't be created.
            StateError: the database is damaged, can't be written, or stays locked by another process.
        """
        current = self._record_of(report)
        with self._transactions.writing() if within is None else nullcontext(within) as connection:
            number = self._series(connection, _series_settings(report.criteria, self._name))
            last = self._last_run(connection, number)
            previous = None if last is None else self._read(connection, last)
            # Groups with patron ids are kept for the last run only.
            of_the_series = select(schema.runs.c.id).where(schema.runs.c.series == number)
            connection.execute(delete(schema.run_groups).where(schema.run_groups.c.run.in_(of_the_series)))
            hidden = json.dumps(sorted(report.hidden_libraries))
            new = connection.execute(
                schema.runs.insert()
                .values(series=number, at=report.generated_at, hidden_libraries=hidden)
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
                        "combined_fines": ZERO if totals.combined_fines is None else totals.combined_fines,
                    }
                    for name, totals in current.totals.items()
                ],
            )
            for batch in in_batches(current.run.listings):
                connection.execute(schema.run_groups.insert(), [_row(new, listing) for listing in batch])
            matching = self._matching_of(previous, current.run)
            record_nights(connection, number, new, current.run.listings, matching)

    def _record_of(self, report: Report) -> _RunRecord:
        """Return the record of a report. Cache it, because a report is compared first and recorded later."""
        if self._latest is None or not self._latest.is_of(report):
            self._latest = _RunRecord(report)
        return self._latest

    def _last_runs(self, connection: Connection, settings: str) -> list[Row[Any]]:
        """Return the runs that the trend covers, the last one last."""
        rows = connection.execute(
            select(schema.runs)
            .join(schema.series)
            .where(schema.series.c.gateway == self._url, schema.series.c.settings == settings)
            .order_by(schema.runs.c.id.desc())
            .limit(TREND - 1)
        )
        return list(reversed(rows.all()))

    def _read(self, connection: Connection, run: Row[Any]) -> Run:
        """Read a run. Cache it for comparing and recording."""
        if self._previous is None or self._previous[0] != run.id:
            listings = PackedListings(_listings(connection, run.id))
            self._previous = run.id, Run(run.at, listings, frozenset(json.loads(run.hidden_libraries)))
        return self._previous[1]

    def _matching_of(self, previous: Run | None, current: Run) -> GroupMatching | None:
        """Match the groups of two runs. Cache the result for comparing and recording."""
        if previous is None:
            return None
        if self._matching is None or self._matching[0] is not previous or self._matching[1] is not current:
            self._matching = previous, current, GroupMatching(previous.listings, current.listings)
        return self._matching[2]

    def _last_run(self, connection: Connection, series: int) -> Row[Any] | None:
        runs = select(schema.runs).where(schema.runs.c.series == series)
        return connection.execute(runs.order_by(schema.runs.c.id.desc()).limit(1)).one_or_none()

    def _series(self, connection: Connection, settings: str) -> int:
        mine = {"gateway": self._url, "settings": settings}
        found = connection.execute(select(schema.series.c.id).filter_by(**mine)).scalar_one_or_none()
        if found is None:
            new = schema.series.insert().values(**mine).returning(schema.series.c.id)
            found = connection.execute(new).scalar_one()
        return int(found)


def recorded_runs(transactions: Transactions) -> int | None:
    """Return how many runs are recorded, None before the database exists.

    Raises:
        StateError: the database is damaged, can't be read, or stays locked by another process.
    """
    if not transactions.is_there:
        return None
    with transactions.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.runs)).scalar_one())


def latest_totals(transactions: Transactions) -> dict[str, dict[str, RunTotals]]:
    """Return the last run's totals of each report, by report name and org unit.

    The name '' is the report configured as ``[report]``, and the org unit '' stands for all of them. Org units without
    listed groups are left out.

    Raises:
        StateError: the database is damaged, can't be read, or stays locked by another process.
    """
    if not transactions.is_there:
        return {}
    with transactions.reading() as connection:
        last = select(func.max(schema.runs.c.id)).group_by(schema.runs.c.series)
        columns = (schema.runs.c.id, schema.runs.c.at, schema.series.c.settings)
        joined = select(*columns).join(schema.series, schema.series.c.id == schema.runs.c.series)
        # If a report has several series, because its settings or gateway changed, use the one with the last run.
        runs: dict[str, Any] = {
            str(json.loads(run.settings).get("report", "")): run
            for run in connection.execute(joined.where(schema.runs.c.id.in_(last)).order_by(schema.runs.c.at))
        }
        totals = _totals_of_runs(connection, list(runs.values()))
    return {name: {_EVERYWHERE: found[_EVERYWHERE], **found} for name, found in zip(runs, totals, strict=True)}


class _Totals(dict[str, RunTotals]):
    """A run's totals by org unit and for all groups. Zeros for an org unit without listed groups."""

    def __init__(self, at: datetime, totals: Mapping[str, RunTotals]) -> None:
        super().__init__(totals)
        self._at = at

    def __missing__(self, shortname: str) -> RunTotals:
        return RunTotals(self._at, 0, 0, ZERO)


class _RunRecord:
    """A report's run and its totals."""

    def __init__(self, report: Report) -> None:
        self._source = _source_of(report)
        self.run = run = Run.of(report)
        self.totals = _Totals(run.at, {_EVERYWHERE: run.totals, **run.totals_by_org_unit(report.org_units)})

    def is_of(self, report: Report) -> bool:
        """Return whether the record is of this report, or of an earlier copy without some notes or changes."""
        return all(mine is its for mine, its in zip(self._source, _source_of(report), strict=True))


def _source_of(report: Report) -> tuple[object, ...]:
    return report.generated_at, report.groups, report.left_out, report.hidden_libraries, report.org_units


def _totals_of_runs(connection: Connection, runs: Sequence[Row[Any]]) -> list[_Totals]:
    """Read the totals of some runs, in order.

    If one group's fines are uncertain, so are the run's combined fines at every library.
    """
    found: dict[int, dict[str, RunTotals]] = {run.id: {} for run in runs}
    moments = {run.id: run.at for run in runs}
    nights = schema.group_nights.c
    uncertain = set(connection.scalars(select(nights.run).where(nights.run.in_(found), ~nights.certain).distinct()))
    for row in connection.execute(select(schema.run_totals).where(schema.run_totals.c.run.in_(found))):
        fines = None if row.run in uncertain else row.combined_fines
        found[row.run][row.org_unit] = RunTotals(moments[row.run], row.group_count, row.member_count, fines)
    return [_Totals(moments[run], totals) for run, totals in found.items()]


def _listings(connection: Connection, run: int) -> Iterator[Listing]:
    stored = schema.run_groups.c
    columns = (stored.number, stored.combined_fines, stored.certain, stored.member_count, stored.members,
               stored.library, stored.libraries)  # fmt: skip
    for rows in connection.execute(select(*columns).where(stored.run == run)).partitions(BATCH_SIZE):
        members = json.loads(f"[{','.join(row.members for row in rows)}]")  # one call instead of thousands
        for (number, fines, certain, count, _members, library, libraries), ids in zip(rows, members, strict=True):
            yield Listing(number, fines, certain, count, frozenset(ids), library, _names_in(libraries))


def _row(run: int, listing: Listing) -> dict[str, object]:
    return {
        "run": run,
        "number": listing.group,
        "combined_fines": listing.combined_fines,
        "certain": listing.certain,
        "member_count": listing.member_count,
        "members": str(sorted(listing.members)),  # valid JSON as well
        "library": listing.library,
        "libraries": _list_of(listing.libraries),
    }


# Most of the thousands of groups have members of the same few libraries.
@lru_cache(1000)
def _names_in(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


@lru_cache(1000)
def _list_of(names: frozenset[str]) -> str:
    return json.dumps(sorted(names))


def _series_settings(criteria: Criteria, name: str) -> str:
    """Return the settings that identify a series, in a canonical form."""
    return json.dumps(
        {
            "min_members": criteria.min_members,
            "min_total": f"{criteria.min_total:.2f}",
            "orgs": sorted({org.casefold() for org in criteria.orgs}),
            **({"report": name} if name else {}),
            **criteria.choice.document(),  # empty without a choice, as in series from before choices existed
        }
    )


logger = logging.getLogger(__name__)


def look_up_cleared(gateway: Gateway, report: Report) -> Report:
    """Add the current state of the report's cleared groups, as far as their members are visible.

    Takes a handful of calls, however many groups there are, and none without cleared groups. If the gateway fails,
    return the report without this information.
    """
    changes = report.changes
    if changes is None or not changes.cleared:
        return report
    try:
        cleared = _looked_up(gateway, report, changes.cleared)
    except (DataError, GatewayError) as error:
        logger.warning("how the cleared groups stand now could not be looked up: %s", error)
        return report
    return replace(report, changes=replace(changes, cleared=cleared))


def _looked_up(gateway: Gateway, report: Report, cleared: Sequence[GroupChange]) -> tuple[GroupChange, ...]:
    numbers = _current_numbers(gateway, cleared)
    org_units = OrgUnits(report.org_units) if report.org_units else OrgUnits.read(gateway)
    access = Access.read(gateway, org_units, highest_view_user_orgs(gateway))
    reader = GroupReader(gateway, org_units, access, UniformLimit(Limit()))  # the limit doesn't matter here
    groups = reader.read_groups(numbers.values()) if numbers else {}
    return tuple(
        replace(change, present=_group_now(groups[numbers[change.group]]))
        if numbers.get(change.group) in groups
        else change
        for change in cleared
    )


def _current_numbers(gateway: Gateway, cleared: Sequence[GroupChange]) -> dict[int, int]:
    """Return, by former group number, the group that most of a cleared group's members are in now."""
    patrons = sorted(set(chain.from_iterable(change.members for change in cleared)))
    rows = gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), "id", patrons, where={"deleted": "f"})
    groups = dict(chain.from_iterable(rows))
    found = {}
    for change in cleared:
        counts = Counter(groups[patron] for patron in sorted(change.members) if patron in groups)
        number, count = counts.most_common(1)[0] if counts else (0, 0)
        # A majority, as in GroupMatching.
        if count * 2 > counts.total():
            found[change.group] = number
    return found


def _group_now(group: Group) -> GroupNow:
    return GroupNow(
        group=group.number,
        lead_name=group.lead.name,
        member_count=group.member_count,
        combined_fines=group.combined_fines,
    )
