"""The history of a report: what each run found, so that the next one can say what changed.

Totals of every run are kept for ``keep_days``; of the last run alone also the groups, with amounts and patrons' ids,
because nothing else is ever compared with. No names and no barcodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType

from evergreen_groups.errors import HistoryError
from evergreen_groups.money import NOTHING
from evergreen_groups.report.comparison import Listing, Run, compare
from evergreen_groups.report.models import Changes, Criteria, Report, RunTotals
from evergreen_groups.state import HistoryFile, believed_since, make_state_directory

FILE_NAME = "history.sqlite3"
KEEP_DAYS = 400
WAIT = 10.0
TREND = 30
"""Over how many runs the trend goes, the present one included."""

_EVERYWHERE = ""


class History:
    """The runs of a report at the gateway with the address ``url``, kept in ``directory``.

    Runs older than ``keep_days`` are forgotten. ``wait`` is how long (seconds) it waits for another process that is
    using the file. Nothing is opened or made before :meth:`compare` or :meth:`record` is called.

    What a run is compared with depends on the address and on what the report lists (``min_total``, ``min_members``,
    ``orgs``), not on ``top``, ``sort`` or the limit: other settings of the former begin another series.
    """

    def __init__(self, directory: Path, url: str, *, keep_days: int = KEEP_DAYS, wait: float = WAIT) -> None:
        self._directory = directory
        self._url = url
        self._keep_days = keep_days
        self._wait = wait
        self._opened: HistoryFile | None = None

    def compare(self, report: Report) -> Changes:
        """Hold ``report`` against the run before it with the same settings; no run is written.

        Raises:
            HistoryError: the file is damaged, can't be read, or another process holds it for too long.
        """
        previous = None
        totals: list[_Totals] = []
        if self._opened or _is_there(self._directory / FILE_NAME):
            file = self._file()
            with file.errors_named(), file.snapshot():
                runs = self._last_runs(file.database, _settings(report.criteria))
                totals = [_totals_of_run(file.database, *run) for run in runs]
                previous = _read(file.database, *runs[-1]) if runs else None
        totals.append(_totals_of(report))
        names = sorted(set().union(*totals) - {_EVERYWHERE})
        return replace(
            compare(previous, report),
            trend=_trend(totals, _EVERYWHERE),
            library_trends={name: _trend(totals, name) for name in names},
        )

    def record(self, report: Report) -> None:
        """Keep what ``report`` found, wholly or not at all, and forget what is too old.

        Raises:
            ConfigurationError: the state directory can't be made.
            HistoryError: the file is damaged, can't be written, or another process holds it for too long.
        """
        make_state_directory(self._directory)
        file = self._file()
        with file.errors_named(), file.transaction():
            self._write(file.database, report)

    def _forget(self, database: Connection, now: datetime, new: int | None) -> None:
        """Remove the runs that are too old, but none on the word of a clock that is years ahead of the last one."""
        times = [datetime.fromisoformat(at) for (at,) in database.execute("SELECT at FROM runs WHERE id <> ?", (new,))]
        since = believed_since(times, now, "of the history")
        too_old = now - timedelta(days=self._keep_days)
        database.execute("DELETE FROM runs WHERE at < ? AND at >= ? AND id <> ?", (_text(too_old), _text(since), new))

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _file(self) -> HistoryFile:
        if self._opened is None:
            self._opened = HistoryFile(self._directory / FILE_NAME, self._wait)
        return self._opened

    def _last_runs(self, database: Connection, settings: str) -> list[tuple[int, datetime]]:
        """Ids and times of the runs that the trend goes over, the last one last."""
        rows = database.execute(
            "SELECT runs.id, at FROM runs JOIN series ON series.id = series WHERE gateway = ? AND settings = ? "
            "ORDER BY runs.id DESC LIMIT ?",
            (self._url, settings, TREND - 1),
        )
        return [(run, datetime.fromisoformat(at)) for run, at in reversed(rows.fetchall())]

    def _write(self, database: Connection, report: Report) -> None:
        settings = _settings(report.criteria)
        database.execute("INSERT OR IGNORE INTO series (gateway, settings) VALUES (?, ?)", (self._url, settings))
        (series,) = database.execute(
            "SELECT id FROM series WHERE gateway = ? AND settings = ?", (self._url, settings)
        ).fetchone()
        database.execute("DELETE FROM listings WHERE run IN (SELECT id FROM runs WHERE series = ?)", (series,))
        new = database.execute(
            "INSERT INTO runs (series, at, unseen) VALUES (?, ?, ?)",
            (series, _text(report.generated_at), json.dumps(sorted(report.hidden_libraries))),
        ).lastrowid
        database.executemany(
            "INSERT INTO totals VALUES (?, ?, ?, ?, ?)",
            [
                (new, name, totals.group_count, totals.member_count, str(totals.combined_fines))
                for name, totals in _totals_of(report).items()
            ],
        )
        database.executemany(
            "INSERT INTO listings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(new, *_row(one)) for one in Run.of(report).listings],
        )
        self._forget(database, report.generated_at, new)
        database.execute("DELETE FROM series WHERE id NOT IN (SELECT series FROM runs)")


def recorded_runs(directory: Path, *, wait: float = WAIT) -> int | None:
    """Examine the history in ``directory``: how many runs are in it, None where there is none yet.

    Raises:
        HistoryError: the file is damaged, can't be read, or another process holds it for too long.
    """
    path = directory / FILE_NAME
    if not _is_there(path):
        return None
    file = HistoryFile(path, wait)
    try:
        with file.errors_named():
            (verdict,) = file.database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise HistoryError(
                    "the history {path} is damaged",
                    advice="move it away to begin a new one",
                    code="history-damaged",
                    values={"path": path},
                )
            (count,) = file.database.execute("SELECT count(*) FROM runs").fetchone()
            return int(count)
    finally:
        file.close()


class _Totals(dict[str, RunTotals]):
    """One run's totals by org unit, and those of all groups; zeros for an org unit where no group was listed."""

    def __init__(self, at: datetime, totals: Mapping[str, RunTotals]) -> None:
        super().__init__(totals)
        self._at = at

    def __missing__(self, shortname: str) -> RunTotals:
        return RunTotals(self._at, 0, 0, NOTHING)


def _totals_of(report: Report) -> _Totals:
    run = Run.of(report)
    return _Totals(run.at, {_EVERYWHERE: run.totals, **run.totals_by_org_unit(report.org_units)})


def _totals_of_run(database: Connection, run: int, at: datetime) -> _Totals:
    rows = database.execute(
        "SELECT org_unit, group_count, member_count, combined_fines FROM totals WHERE run = ?", (run,)
    )
    return _Totals(at, {name: RunTotals(at, groups, members, Decimal(fines)) for name, groups, members, fines in rows})


def _trend(totals: Sequence[_Totals], shortname: str) -> tuple[RunTotals, ...]:
    return tuple(run[shortname] for run in totals)


def _read(database: Connection, run: int, at: datetime) -> Run:
    (hidden,) = database.execute("SELECT unseen FROM runs WHERE id = ?", (run,)).fetchone()
    rows = database.execute(
        "SELECT number, combined_fines, certain, member_count, members, library, libraries FROM listings WHERE run = ?",
        (run,),
    )
    return Run(
        at,
        tuple(
            Listing(
                group=number,
                combined_fines=Decimal(fines),
                certain=bool(certain),
                member_count=member_count,
                members=frozenset(json.loads(members)),
                library=library,
                libraries=frozenset(json.loads(libraries)),
            )
            for number, fines, certain, member_count, members, library, libraries in rows
        ),
        frozenset(json.loads(hidden)),
    )


def _row(listing: Listing) -> tuple[int, str, bool, int, str, str, str]:
    return (
        listing.group,
        str(listing.combined_fines),
        listing.certain,
        listing.member_count,
        json.dumps(sorted(listing.members)),
        listing.library,
        json.dumps(sorted(listing.libraries)),
    )


def _settings(criteria: Criteria) -> str:
    """What decides which groups are listed, always written in the same way."""
    return json.dumps(
        {
            "min_members": criteria.min_members,
            "min_total": f"{criteria.min_total:.2f}",
            "orgs": sorted({name.casefold() for name in criteria.orgs}),
        }
    )


def _text(moment: datetime) -> str:
    """A moment as a text that sorts as moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _is_there(path: Path) -> bool:
    """Whether there is such a file; one that can't be looked at is taken to be there, and opening it says why not."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
