"""The history of a report: what each run found, so that the next one can say what changed.

Totals of every run are kept; of the last run alone also the groups with patrons' ids, because nothing else is ever
compared with, and of the last runs what each group owed, by its number (:mod:`evergreen_groups.report.group_nights`).
No names and no barcodes.
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
from evergreen_groups.report.listings import Lineage, Listing, PackedListings, group_of_most, groups_of
from evergreen_groups.report.models import (
    ChangeKind,
    Changes,
    Criteria,
    GroupChange,
    Present,
    Report,
    RunTotals,
)
from evergreen_groups.report.nights import AT_ONCE, in_batches, record_nights
from evergreen_groups.state import schema

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import Transactions


@dataclass(frozen=True, slots=True)
class Run:
    """One run: when its data was read (aware), and the groups that met its criteria.

    ``hidden_libraries`` are the short names of the libraries whose patrons the account couldn't see. The first
    ``listed_count`` are in the report, ``top`` left out the others.
    """

    at: datetime
    listings: PackedListings
    hidden_libraries: frozenset[str] = frozenset()
    listed_count: int = field(default=0, compare=False)

    @classmethod
    def of(cls, report: Report) -> Run:
        """What is remembered of ``report``: groups that ``top`` left out met its criteria as well."""
        listings = PackedListings(map(Listing.of, chain(report.groups, report.left_out)))
        return cls(report.generated_at, listings, report.hidden_libraries, len(report.groups))

    @property
    def totals(self) -> RunTotals:
        """Sums over all groups."""
        sums = _Sums()
        for listing in self.listings:
            sums.add(listing)
        return sums.at(self.at)

    def totals_by_org_unit(self, org_units: Collection[OrgUnit]) -> dict[str, RunTotals]:
        """Sums for each org unit by short name, over the groups with a member whose home library is there or below."""
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
    """Sums over some groups."""

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
        """What they are, as the totals of a run."""
        fines = self._combined_fines if self._certain else None
        return RunTotals(moment, self._group_count, self._member_count, fines)


def compare(previous: Run | None, present: Run, lineage: Lineage | None = None) -> Changes:
    """Say of each listed group what it was in ``previous``, and which groups of that run are cleared.

    Groups are followed through their numbers (:class:`Lineage`; ``lineage`` is that of the two runs, where it is at
    hand), so that no fines seem to come or go only because somebody changed membership. Neither a group that ``top``
    leaves out is cleared, nor one at libraries that the account can't see any more.
    """
    if previous is None:
        return Changes(None, {})
    lineage = lineage or Lineage(previous.listings, present.listings)
    gone = [
        _gone(listing, present.hidden_libraries)
        for listing in previous.listings
        if lineage.number_now(listing.group) is None
    ]
    gone.sort(key=lambda change: (-(change.before or ZERO), change.group))
    newcomers = {
        patron
        for listing in islice(present.listings, present.listed_count)
        if not lineage.formerly(listing.group)
        for patron in listing.members
    }
    groups_before = groups_of(previous.listings, newcomers)
    by_group = {}
    for listing in islice(present.listings, present.listed_count):
        before = lineage.before(listing.group)
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
    fines = sum((one.combined_fines for one in others), first.combined_fines)  # mostly one amount, and not another
    members = frozenset[int]().union(*(one.members for one in before))
    numbers = sorted(one.group for one in before)
    all_visible = listing.complete and all(one.complete for one in before)
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
        certain=listing.certain and all(one.certain for one in before),
    )


def _new(listing: Listing, groups_before: Mapping[int, int], hidden: frozenset[str]) -> GroupChange:
    origin = group_of_most(listing.members, groups_before)
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
    """A group that isn't listed any more; nothing is said of one that would be hidden if it were."""
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
"""Over how many runs the trend goes, the present one included."""

_EVERYWHERE = ""


class History:
    """The runs of a report at the gateway with the address ``url``, in a database or over the lease of a run.

    What a run is compared with depends on the address and on what the report lists (``min_total``, ``min_members``,
    ``orgs``, ``choice``), not on ``top``, ``sort`` or the limit: other settings of the former begin another series, so
    that no group counts as cleared because fewer were asked for. A report with a ``name`` has a series of its own.
    """

    def __init__(self, transactions: Transactions, url: str, name: str = "") -> None:
        self._transactions = transactions
        self._name = name
        self._url = url
        self._latest: _Remembered | None = None
        self._previous: tuple[int, Run] | None = None
        self._lineage: tuple[Run, Run, Lineage] | None = None

    def compare(self, report: Report) -> Changes:
        """Hold ``report`` against the run before it with the same settings; no run is written.

        Raises:
            StateError: the database is damaged, can't be read, or another process holds it for too long.
        """
        previous, present = None, self._remembered(report)
        totals: list[_Totals] = []
        if self._transactions.is_there:
            with self._transactions.reading() as connection:
                last = self._last_runs(connection, self._settings(report))
                totals = _totals_of_runs(connection, last)
                previous = self._read(connection, last[-1]) if last else None
        totals.append(present.totals)
        names = sorted(set().union(*totals) - {_EVERYWHERE})
        return replace(
            compare(previous, present.run, self._lineage_of(previous, present.run)),
            trend=_trend(totals, _EVERYWHERE),
            library_trends={name: _trend(totals, name) for name in names},
        )

    def record(self, report: Report, within: Connection | None = None) -> None:
        """Keep what ``report`` found, wholly or not at all.

        ``within`` is the connection of a transaction that also writes other things.

        Raises:
            ConfigurationError: the state directory can't be made.
            StateError: the database is damaged, can't be written, or another process holds it for too long.
        """
        present = self._remembered(report)
        with self._transactions.writing() if within is None else nullcontext(within) as connection:
            number = self._series(connection, self._settings(report))
            last = self._last_run(connection, number)
            previous = None if last is None else self._read(connection, last)
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
                    for name, totals in present.totals.items()
                ],
            )
            for some in in_batches(present.run.listings):
                connection.execute(schema.run_groups.insert(), [_row(new, one) for one in some])
            lineage = self._lineage_of(previous, present.run)
            record_nights(connection, number, new, present.run.listings, lineage)

    def _settings(self, report: Report) -> str:
        return _settings(report.criteria, self._name)

    def _remembered(self, report: Report) -> _Remembered:
        """What is remembered of a report, put together once where it is compared and then recorded."""
        if self._latest is None or not self._latest.is_of(report):
            self._latest = _Remembered(report)
        return self._latest

    def _last_runs(self, connection: Connection, settings: str) -> list[Row[Any]]:
        """The runs that the trend goes over, the last one last."""
        rows = connection.execute(
            select(schema.runs)
            .join(schema.series)
            .where(schema.series.c.gateway == self._url, schema.series.c.settings == settings)
            .order_by(schema.runs.c.id.desc())
            .limit(TREND - 1)
        )
        return list(reversed(rows.all()))

    def _read(self, connection: Connection, run: Row[Any]) -> Run:
        """A recorded run, read once where it is compared with and then followed by another."""
        if self._previous is None or self._previous[0] != run.id:
            self._previous = run.id, _read(connection, run)
        return self._previous[1]

    def _lineage_of(self, previous: Run | None, present: Run) -> Lineage | None:
        """How the groups of two runs hang together, found out once where they are compared and then recorded."""
        if previous is None:
            return None
        if self._lineage is None or self._lineage[0] is not previous or self._lineage[1] is not present:
            self._lineage = previous, present, Lineage(previous.listings, present.listings)
        return self._lineage[2]

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
    """How many runs are in the history, None where nothing has been kept yet.

    Raises:
        StateError: the database is damaged, can't be read, or another process holds it for too long.
    """
    if not transactions.is_there:
        return None
    with transactions.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.runs)).scalar_one())


def latest_totals(transactions: Transactions) -> dict[str, dict[str, RunTotals]]:
    """What the last run of each report found, by its name ('' is ``[report]``) and by org unit ('' is all of them).

    Only org units where a group was listed are there, and '' always.

    Raises:
        StateError: the database is damaged, can't be read, or another process holds it for too long.
    """
    if not transactions.is_there:
        return {}
    with transactions.reading() as connection:
        last = select(func.max(schema.runs.c.id)).group_by(schema.runs.c.series)
        columns = (schema.runs.c.id, schema.runs.c.at, schema.series.c.settings)
        joined = select(*columns).join(schema.series, schema.series.c.id == schema.runs.c.series)
        # Of several series of one report, begun by other settings or at another gateway, that of the last run.
        runs: dict[str, Any] = {
            str(json.loads(run.settings).get("report", "")): run
            for run in connection.execute(joined.where(schema.runs.c.id.in_(last)).order_by(schema.runs.c.at))
        }
        totals = _totals_of_runs(connection, list(runs.values()))
    return {name: {_EVERYWHERE: found[_EVERYWHERE], **found} for name, found in zip(runs, totals, strict=True)}


class _Totals(dict[str, RunTotals]):
    """One run's totals by org unit, and those of all groups; zeros for an org unit where no group was listed."""

    def __init__(self, at: datetime, totals: Mapping[str, RunTotals]) -> None:
        super().__init__(totals)
        self._at = at

    def __missing__(self, shortname: str) -> RunTotals:
        return RunTotals(self._at, 0, 0, ZERO)


class _Remembered:
    """What is remembered of a report: its run, and the totals."""

    def __init__(self, report: Report) -> None:
        self._made_of = _parts(report)
        self.run = run = Run.of(report)
        self.totals = _Totals(run.at, {_EVERYWHERE: run.totals, **run.totals_by_org_unit(report.org_units)})

    def is_of(self, report: Report) -> bool:
        """Whether it is of this report, or of the one that this was made of by adding notes or changes."""
        return all(mine is its for mine, its in zip(self._made_of, _parts(report), strict=True))


def _parts(report: Report) -> tuple[object, ...]:
    return report.generated_at, report.groups, report.left_out, report.hidden_libraries, report.org_units


def _totals_of_runs(connection: Connection, runs: Sequence[Row[Any]]) -> list[_Totals]:
    """The totals of some runs, in their order.

    What a run's groups owed is unknown, at each library, if what one of them owed isn't certain.
    """
    found: dict[int, dict[str, RunTotals]] = {run.id: {} for run in runs}
    moments = {run.id: run.at for run in runs}
    nights = schema.group_nights.c
    uncertain = set(connection.scalars(select(nights.run).where(nights.run.in_(found), ~nights.certain).distinct()))
    for row in connection.execute(select(schema.run_totals).where(schema.run_totals.c.run.in_(found))):
        fines = None if row.run in uncertain else row.combined_fines
        found[row.run][row.org_unit] = RunTotals(moments[row.run], row.group_count, row.member_count, fines)
    return [_Totals(moments[run], totals) for run, totals in found.items()]


def _trend(totals: Sequence[_Totals], shortname: str) -> tuple[RunTotals, ...]:
    return tuple(run[shortname] for run in totals)


def _read(connection: Connection, run: Row[Any]) -> Run:
    listings = PackedListings(_listings(connection, run.id))
    return Run(run.at, listings, frozenset(json.loads(run.hidden_libraries)))


def _listings(connection: Connection, run: int) -> Iterator[Listing]:
    stored = schema.run_groups.c
    columns = (stored.number, stored.combined_fines, stored.certain, stored.member_count, stored.members,
               stored.library, stored.libraries)  # fmt: skip
    for rows in connection.execute(select(*columns).where(stored.run == run)).partitions(AT_ONCE):
        members = json.loads(f"[{','.join(row.members for row in rows)}]")  # thousands of calls would take longer
        for (number, fines, certain, count, _members, library, libraries), ids in zip(rows, members, strict=True):
            yield Listing(number, fines, certain, count, frozenset(ids), library, _names_in(libraries))


def _row(run: int, listing: Listing) -> dict[str, object]:
    return {
        "run": run,
        "number": listing.group,
        "combined_fines": listing.combined_fines,
        "certain": listing.certain,
        "member_count": listing.member_count,
        "members": str(sorted(listing.members)),  # numbers are written alike in JSON
        "library": listing.library,
        "libraries": _list_of(listing.libraries),
    }


# Of thousands of groups most have members of the same few libraries.
@lru_cache(1000)
def _names_in(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


@lru_cache(1000)
def _list_of(names: frozenset[str]) -> str:
    return json.dumps(sorted(names))


def _settings(criteria: Criteria, name: str) -> str:
    """What decides which groups are listed, always written in the same way."""
    return json.dumps(
        {
            "min_members": criteria.min_members,
            "min_total": f"{criteria.min_total:.2f}",
            "orgs": sorted({org.casefold() for org in criteria.orgs}),
            **({"report": name} if name else {}),
            **criteria.choice.document(),  # nothing where nothing is chosen, as in all series before there were choices
        }
    )


logger = logging.getLogger(__name__)


def look_up_cleared(gateway: Gateway, report: Report) -> Report:
    """The report with the present state of its cleared groups, as far as the account sees their members.

    That takes a handful of calls, however many groups there are, and none when there are none. A gateway that fails
    now doesn't cost the report, which is whole without this.
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
    numbers = _present_numbers(gateway, cleared)
    org_units = OrgUnits(report.org_units) if report.org_units else OrgUnits.read(gateway)
    access = Access.read(gateway, org_units, highest_view_user_orgs(gateway))
    reader = GroupReader(gateway, org_units, access, UniformLimit(Limit()))  # no limit matters here
    groups = reader.of_numbers(numbers.values()) if numbers else {}
    return tuple(
        replace(change, present=_present(groups[numbers[change.group]]))
        if numbers.get(change.group) in groups
        else change
        for change in cleared
    )


def _present_numbers(gateway: Gateway, cleared: Sequence[GroupChange]) -> dict[int, int]:
    """The group that most of a cleared group's former members are in now, by the number it had."""
    patrons = sorted(set(chain.from_iterable(change.members for change in cleared)))
    rows = gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), "id", patrons, where={"deleted": "f"})
    groups = dict(chain.from_iterable(rows))
    found = {}
    for change in cleared:
        counts = Counter(groups[patron] for patron in sorted(change.members) if patron in groups)
        number, count = counts.most_common(1)[0] if counts else (0, 0)
        if count * 2 > counts.total():
            found[change.group] = number
    return found


def _present(group: Group) -> Present:
    return Present(
        group=group.number,
        lead_name=group.lead.name,
        member_count=group.member_count,
        combined_fines=group.combined_fines,
    )
