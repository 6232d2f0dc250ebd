"""The product compared with a second computation, for random populations: a table of how often and where they differ.

    python tests/bench/reckoning.py [--populations 5000] [--first 1] [--show 20] [--release 3.12]
    python tests/bench/reckoning.py --seed 4711 [--job audit] [--minimise] [--dump FILE]
    python tests/bench/reckoning.py --patrons 200000
    python tests/bench/reckoning.py --dataset FILE

Each population has a seed, counted from 1. ``--seed`` selects one of them; ``--minimise`` removes what isn't needed for
the difference, and ``--dump`` writes the population as a dataset for ``evergreen-groups sandbox``. ``--patrons`` and
``--dataset`` compare one large population, or a dataset of the sandbox: the report with several selections of groups,
the audit with all findings, and the explanations of ``--explanations`` patrons.
"""

import argparse
import json
import logging
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

# Replaces this directory in the path, where this file has the package's name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from reckoning.populations import Content, population  # noqa: E402
from reckoning.product import JOBS, Product, content_of, product  # noqa: E402

from evergreen_groups.gateway import Credentials, Gateway  # noqa: E402
from evergreen_groups.sandbox import Sandbox  # noqa: E402


def main() -> int:
    """Run the bench; exit status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--populations", type=int, default=5000)
    parser.add_argument("--first", type=int, default=1, help="the first population's seed")
    parser.add_argument("--show", type=int, default=20, help="how many differing seeds of each job to name")
    parser.add_argument("--job", choices=JOBS, action="append", help="only this one; repeatable")
    parser.add_argument(
        "--seed", type=int, action="append", help="only this population, with its differences; repeatable"
    )
    parser.add_argument("--minimise", action="store_true", help="with --seed: leave out what doesn't matter")
    parser.add_argument("--dump", type=Path, help="with --seed: write the population to this file")
    parser.add_argument("--patrons", type=int, help="report, audit, explanations over a population of so many")
    parser.add_argument("--explanations", type=int, default=400, help="with --patrons, --dataset: of so many patrons")
    parser.add_argument("--dataset", type=Path, help="report, audit, explanations over this data set")
    parser.add_argument("--release", help="the sandbox is this release of Evergreen; the latest unless given")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    if given.patrons or given.dataset:
        return _large(given.patrons or 0, given.dataset, given.explanations)
    with tempfile.TemporaryDirectory() as directory, product(Path(directory), given.release) as subject:
        if given.seed:
            return max(_one(subject, seed, given) for seed in given.seed)
        return _many(subject, given)


def _one(subject: Product, seed: int, given: argparse.Namespace) -> int:
    """Show where the product differs for one population."""
    content = population(Random(seed))
    status = 0
    for job in given.job or JOBS:
        found = subject.differences(content, job)
        shown = content
        if found and given.minimise:
            shown = _minimal(subject, content, job, _kind(found[0]))
            found = subject.differences(shown, job)
        if found:
            status = 1
            print(f"{job}, seed {seed}:", *found, sep="\n  ")
            if given.minimise:
                print(json.dumps({name: rows for name, rows in shown.items() if name != "_defaults"}, indent=1))
        if given.dump:
            given.dump.write_text(json.dumps(shown, indent=1))
    return status


def _minimal(subject: Product, content: Content, job: str, kind: str) -> Content:
    """Return the population reduced to what a difference of that kind needs."""
    return minimal(content, lambda smaller: kind in map(_kind, subject.differences(smaller, job)))


def _kind(difference: str) -> str:
    """Return where a difference is in a document, without numbers; for an error, which error."""
    place = difference.split(" instead of ", maxsplit=1)[0]
    return re.sub(r"\d+", "#", re.split(r": (?:[-\[{\"\d]|true|false|null|an answer|open-ils)", place)[0])


def _many(subject: Product, given: argparse.Namespace) -> int:
    jobs = given.job or JOBS
    differing: dict[str, dict[int, list[str]]] = {job: {} for job in jobs}
    began = time.monotonic()
    for seed in range(given.first, given.first + given.populations):
        content = population(Random(seed))
        for job in jobs:
            if found := subject.differences(content, job):
                differing[job][seed] = found
    print(f"{given.populations} populations, seeds from {given.first}, {time.monotonic() - began:.0f} s")
    print(f"\n{'what':12} {'populations':>12} {'differences':>12}")
    for job in jobs:
        print(f"{job:12} {given.populations:>12} {len(differing[job]):>12}")
    for job in jobs:
        if differing[job]:
            print(f"\n{job}, first difference of each seed:")
        for seed, found in list(differing[job].items())[: given.show]:
            print(f"  --seed {seed}: {found[0]}")
        places = Counter(_kind(found[0]) for found in differing[job].values())
        for place, count in places.most_common():
            print(f"  {count:6}  {place}")
    return int(any(differing.values()))


_CLASSES = ("au", "mbts", "mg", "circ", "ausp", "pgpt", "aous", "aua", "ac", "aou")
_SIMPLEST = {
    "policy": {"limit": "5.00", "comparison": "exceeds", "limits": []},
    "report": {"orgs": [], "top": None, "sort": "total", "choice": {}, "min_members": 1},
    "audit": {"orgs": []},
}
_PLAIN = {"pref_family_name": None, "deleted": "f", "juvenile": "f", "dob": None}


def minimal(content: Content, still_there: Callable[[Content], bool]) -> Content:
    """Remove rows and simplify the question until nothing more can go; tries everything repeatedly."""
    while (smaller := next((one for one in _smaller(content) if _holds(one, still_there)), None)) is not None:
        content = smaller
    return content


def _holds(content: Content, still_there: Callable[[Content], bool]) -> bool:
    try:
        return still_there(content)
    except Exception:  # a row that others refer to is missing, and the reader fails in some way
        return False


def _smaller(content: Content) -> Iterator[Content]:
    """Yield the content with one row less, a plainer patron, or a simpler question, in many ways."""
    yield from _fewer_rows(content)
    for before in _fewer_rows(content.get("_before", {})):
        yield {**content, "_before": before}
    question = content["_question"]
    for section, simplest in _SIMPLEST.items():
        for key, value in simplest.items():
            if question[section].get(key, value) != value:
                yield {**content, "_question": {**question, section: {**question[section], key: value}}}


def _fewer_rows(content: Content) -> Iterator[Content]:
    for name in _CLASSES:
        rows = content.get(name, [])
        for place, row in enumerate(rows):
            yield {**content, name: [*rows[:place], *rows[place + 1 :]]}
            for key, value in _PLAIN.items() if name == "au" else ():
                if row.get(key, value) != value:
                    yield {**content, name: [*rows[:place], {**row, key: value}, *rows[place + 1 :]]}


CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {"owing_since": 100},
    {"kinds": ["lost materials", "Misc"]},
    {"with_items_out": True, "with_juvenile": True},
    {"over_limit": "nobody"},
    {"blocked": True},
)


def _large(patrons: int, dataset: Path | None, explanations: int) -> int:
    """Compare report, audit and explanations for one large dataset; the report with each selection."""
    status = 0
    with Sandbox(patrons=patrons, dataset=dataset) as sandbox, tempfile.TemporaryDirectory() as directory:
        username, password = sandbox.report_account
        content = content_of(sandbox, username, dataset, patrons=explanations)
        with Gateway(sandbox.url, credentials=Credentials(username=username, password=password)) as gateway:
            subject = Product(sandbox, gateway, Path(directory))
            for job, choice in (*(("report", choice) for choice in CHOICES), ("audit", {}), ("explanation", {})):
                content["_question"]["report"]["choice"] = choice
                subject.use(content, gateway)
                found = subject.differences(content, job)
                print(
                    f"{job} {choice or ''}: {len(found)} differences", *(text[:500] for text in found[:5]), sep="\n  "
                )
                status |= bool(found)
    return status


if __name__ == "__main__":
    sys.exit(main())
