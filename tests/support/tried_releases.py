"""Which releases of Evergreen were tried, with the results: the table of docs/releases.md.

    python tests/support/tried_releases.py --page
    python tests/support/tried_releases.py [--write] --found build/releases.json
    python tests/support/tried_releases.py --replay DATASET REPLAY EXCHANGES [--release 3.12] --replayed FILE
    python tests/support/tried_releases.py [--write] --replayed build/replayed.json

The first form prints the page with its table updated; ``nox -s docs`` writes it. The third replays recorded traffic of
a real Evergreen with the sandbox: ``DATASET`` has the recorded server's data, and ``REPLAY`` is a program that sends
the ``EXCHANGES`` to a URL and compares the responses; its exit status is passed on. ``FILE`` gets the number of
replayed exchanges and of equal responses, in addition to those of other releases. The second and the last are the last
step of ``nox -s releases`` and ``nox -s replay``: they fail if something failed, or if the table claims more than was
found.
With ``--write`` they update ``tests/recorded/results.json``, its source. The number of tests is rounded to hundreds, so
that a new test doesn't outdate the table. Trials with real Evergreens are in ``tests/recorded/tried.toml``.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services.releases import CURRENT

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "tests" / "recorded" / "results.json"
TRIED = REPOSITORY / "tests" / "recorded" / "tried.toml"
PAGE = REPOSITORY / "docs" / "releases.md"
BEGIN, END = "<!-- tried releases: written by tests/support/tried_releases.py -->\n", "<!-- tried releases: end -->\n"

Results = dict[str, dict[str, int]]
"""By release.

The number of passed ``tests``, rounded to hundreds; of the ``recorded`` exchanges, how many were ``replayed``.
"""


@dataclass(frozen=True)
class Trial:
    """A trial with a real Evergreen, ``on`` a day (``2026-11-26``) or in a month (``2026-11``)."""

    release: str
    version: str
    bus: str
    on: str
    patrons: list[int]
    what: str
    right: bool
    result: str


def trials() -> list[Trial]:
    return [Trial(**one) for one in tomllib.loads(TRIED.read_text("utf-8"))["tried"]]


def results() -> Results:
    found: Results = json.loads(RESULTS.read_text("utf-8"))
    return found


def page(found: Results, tried: list[Trial]) -> str:
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    _, after = rest.split(END)
    return "".join([before, BEGIN, "\n", *(f"{line}\n" for line in table(found, tried)), "\n", END, after])


def table(found: Results, tried: list[Trial]) -> Iterator[str]:
    """Return a row for each release, the latest first."""
    yield "| Evergreen | Tests on the sandbox | Recorded requests, answers compared | Real server |"
    yield "| --- | --- | --- | --- |"
    for release, counts in sorted(found.items(), key=lambda item: _numbers(item[0]), reverse=True):
        replayed = f"{counts['replayed']} of {counts['recorded']} match" if "recorded" in counts else "–"
        yield f"| {release} | {counts['tests']:,}+ passed | {replayed} | {_last_trial(release, tried)} |"


def _last_trial(release: str, tried: list[Trial]) -> str:
    own = [one for one in tried if one.release == release]
    if not own:
        return "–"
    last = max(own, key=lambda one: one.on)
    patrons = f", {max(last.patrons):,} patrons" if last.patrons else ""
    return f"{last.version}{patrons}, {_day(last.on)}{'' if last.right else ': problems, see tried.toml'}"


def _day(on: str) -> str:
    if on.count("-") == 1:
        return f"{date.fromisoformat(f'{on}-01'):%B %Y}"
    day = date.fromisoformat(on)
    return f"{day.day} {day:%B %Y}"


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def renewed(former: Results, ended: dict[str, dict[str, int]], replayed: Results) -> tuple[Results, list[str]]:
    """Return the results after a run of tests or of the replay, and what is wrong, as sentences.

    ``ended`` counts tests by how they ended (``passed``, ``failed``, ``differing`` …).
    """
    found = {release: dict(counts) for release, counts in former.items()}
    wrong = []
    for release, counts in ended.items():
        own, passed = found.setdefault(release, {}), counts.get("passed", 0)
        if failed := sum(counts.get(outcome, 0) for outcome in ("failed", "error", "skipped")):
            wrong.append(f"{release}: {failed} tests failed, or were skipped")
        if passed < own.get("tests", 0):
            wrong.append(f"{release}: the table says {own['tests']} tests, and {passed} passed")
        own["tests"] = passed // 100 * 100
    for release, counts in replayed.items():
        found.setdefault(release, {}).update(counts)
        if counts["replayed"] != counts["recorded"]:
            wrong.append(f"{release}: {counts['replayed']} of {counts['recorded']} exchanges are alike")
    return found, wrong


def _read(path: Path | None) -> Any:
    return {} if path is None else json.loads(path.read_text("utf-8"))


def replay(dataset: str, program: str, exchanges: str, release: str | None, results: Path) -> int:
    with Sandbox(dataset=Path(dataset), release=release) as sandbox:
        command = [sys.executable, program, sandbox.url, exchanges, "--dataset", dataset]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(done.stdout)
    if found := re.search(r"^(\d+) passed, (\d+) failed, \d+ skipped$", done.stdout, re.MULTILINE):
        former = _read(results if results.exists() else None)
        counts = {"recorded": int(found[1]) + int(found[2]), "replayed": int(found[1])}
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps({**former, release or CURRENT: counts}), "utf-8")
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="print the page with its table updated")
    parser.add_argument("--found", type=Path, help="what pytest --release-results has written")
    parser.add_argument("--replay", nargs=3, metavar=("DATASET", "REPLAY", "EXCHANGES"), help="replay recorded traffic")
    parser.add_argument("--release", help="with --replay: the sandbox answers as this one; the latest unless given")
    parser.add_argument("--replayed", type=Path, help="what --replay has written, or writes")
    parser.add_argument("--write", action="store_true", help="update the results and the table")
    given = parser.parse_args()
    if given.replay:
        return replay(*given.replay, given.release, given.replayed)
    if given.page:
        sys.stdout.write(page(results(), trials()))
        return 0
    found, wrong = renewed(results(), _read(given.found), _read(given.replayed))
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
        PAGE.write_text(page(found, trials()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
