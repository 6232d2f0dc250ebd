"""The history of a report: what each run found, so that the next one can say what changed.

Totals of every run are kept; of the last run alone also the groups with patrons' ids, because nothing else is ever
compared with, and of the last runs what each group owed, by its number (:mod:`evergreen_groups.report.group_nights`).
No names and no barcodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from evergreen_groups.money import NOTHING
from evergreen_groups.report.comparison import Run, compare
from evergreen_groups.report.group_nights import AT_ONCE, in_batches, record_nights
from evergreen_groups.report.lineage import Lineage
from evergreen_groups.report.models import Changes, Criteria, Report, RunTotals
from evergreen_groups.report.packed_listings import Listing, PackedListings
from evergreen_groups.state import schema

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.state import Transactions

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
                        "combined_fines": NOTHING if totals.combined_fines is None else totals.combined_fines,
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
        return RunTotals(self._at, 0, 0, NOTHING)


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
