"""The cost of writing a report and an audit, and of opening the report's page.

    python tests/bench/outputs.py formats [--groups 3000 15000]
    python tests/bench/outputs.py page [--groups 750 5000] [--runs 5]
    FLOOR_PASSWORD=… python tests/bench/outputs.py audit --url URL --account NAME [--format json] [--pairs 3]

``formats`` writes a report with everything known in each format, each in a process of its own, and prints CPU seconds,
peak memory and bytes. ``page`` opens the HTML page from its file in a new headless Chromium. The page counts as open
when its script has run and the next frame can be scrolled and clicked. ``audit`` compares ``evergreen-groups audit``
with its bare queries, by turns: the minimal client sends up to three at once, decodes the answers, and checks,
compares and writes nothing. All figures are medians, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))

from floor import Bare, Query, Start, log_in, positions_of, start
from support.desk_browser import chromium, look
from support.report_samples import full_report

from evergreen_groups.render import StaffClient
from evergreen_groups.render.report import render, write_file
from evergreen_groups.report import Report

Row = tuple[Any, ...]
FORMATS = ("csv", "json", "jsonl", "html", "xlsx")
CLIENT = StaffClient("eg2", "https://ils.example")
WIDTHS = (390, 1280)
_FRAMED = "requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - began) / 1000)));"
STEPS = {
    "opened": f"const done = arguments[0], began = 0; {_FRAMED}",
    "searched": f"""
        const done = arguments[0], began = performance.now(), find = document.getElementById("find");
        find.value = "garcia";
        find.dispatchEvent(new Event("input"));
        {_FRAMED}""",
    "sorted": f"""
        const done = arguments[0], began = performance.now();
        document.querySelector("#groups > thead th:nth-child(2) button").click();
        {_FRAMED}""",
}


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def in_a_process_of_its_own(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Run ``work`` in a fork of this process, and return what it returns."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)  # if it failed, the parent notices the missing answer
    os.close(writing)
    with os.fdopen(reading) as stream:
        found: dict[str, float] = json.loads(stream.read())
    os.waitpid(child, 0)
    return found


def written(report: Report, name: str) -> dict[str, float]:
    """Write a report in a format, and return CPU seconds, this process's peak memory in MiB, and bytes."""
    with TemporaryDirectory() as directory:
        file, began = Path(directory, f"report.{name}"), time.process_time()
        write_file(report, name, file, client=CLIENT)
        seconds = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"seconds": seconds, "peak": peak, "bytes": file.stat().st_size}


def formats(options: argparse.Namespace) -> None:
    """Print what writing costs."""
    print("| groups | format | written, s of the processor | peak memory, MB | MB written |")
    print("| ---: | --- | ---: | ---: | ---: |", flush=True)
    for groups in options.groups or (3_000, 15_000):
        report = full_report(groups, contact=True)
        for name in FORMATS:
            runs = [in_a_process_of_its_own(partial(written, report, name)) for _ in range(options.runs)]
            seconds = spread([run["seconds"] for run in runs])
            peak = max(run["peak"] for run in runs)
            print(f"| {groups:,} | {name} | {seconds} | {peak:.0f} | {runs[0]['bytes'] / 1e6:.1f} |", flush=True)


def page(options: argparse.Namespace) -> None:
    """Print what the page costs its readers."""
    with TemporaryDirectory() as directory:
        for groups in options.groups or (750, 5_000):
            file, began = Path(directory, f"report-{groups}.html").resolve(), time.process_time()
            with file.open("w", encoding="utf-8") as stream:
                render(full_report(groups, contact=True), "html", stream, client=CLIENT)
            size, seconds = file.stat().st_size / 1e6, time.process_time() - began
            print(f"{groups:,} groups: {size:.1f} MB, made in {seconds:.2f} s of the processor; {measures(file)}")
            runs = [opened(file) for _ in range(options.runs)]
            for step, found in zip(STEPS, zip(*runs, strict=True), strict=True):
                print(f"  {step} in {spread(found)} s", flush=True)


def measures(file: Path) -> str:
    """Return the number of the page's elements, and its height by width."""
    heights = []
    with chromium() as browser:
        for width in WIDTHS:
            look(browser, width, mobile=width < 500)
            browser.get(file.as_uri())
            heights.append(f"{browser.execute_script('return document.documentElement.scrollHeight'):,} px at {width}")
        return f"{browser.execute_script('return document.querySelectorAll(`*`).length'):,} elements, {heights}"


def opened(file: Path) -> tuple[float, ...]:
    """Return the seconds of each of ``STEPS``."""
    with chromium() as browser:
        look(browser, WIDTHS[-1])
        browser.get("about:blank")
        browser.get(file.as_uri())
        return tuple(float(browser.execute_async_script(script)) for script in STEPS.values())


def audit(options: argparse.Namespace) -> None:
    """Print what an audit costs, beside its bare queries."""
    password = os.environ["FLOOR_PASSWORD"]
    words = ("--url", options.url, "--account", options.account, "--audit", options.format)
    ours: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    for _ in range(options.pairs):
        environ = {**os.environ, "EVERGREEN_GROUPS_PASSWORD": password}
        program = (sys.executable, str(Path(__file__).with_name("ours.py")), *words)
        ours.append(json.loads(subprocess.run(program, env=environ, check=True, capture_output=True).stdout))
        bare.append(bare_audit(options.url, options.account, password))
    for name, runs in {"audit": ours, "bare queries": bare}.items():
        seconds = spread([run["seconds"] for run in runs])
        print(f"{name}: {seconds} s, {runs[0]['calls']} calls, {runs[0]['bytes'] / 1e6:.1f} MB")
    processor = spread([run["cpu_seconds"] for run in ours])
    print(f"audit: {ours[0]['findings']:,} findings, {processor} s of the processor, {ours[0]['peak_mb']:.0f} MB")


AT_ONCE = 3
LIST = 2_000
"""Ids per query."""
RANGES = 40
"""The group numbers are split into so many ranges, because answers of 10 MB get stuck."""
RANGES_OF_IDS = 16
"""The patron ids are split into so many ranges, because the database recomputes for each page who is in question."""
PAGE = 10_000
GROUPS_OF_A_SET = 700
NAMES = ("family_name", "first_given_name", "second_given_name", "suffix")
PATRON = ("id", "usrgroup", "home_ou", "profile", "card", "master_account", *NAMES, *(f"pref_{one}" for one in NAMES))
JUDGED_BY = ("juvenile", "expire_date", "dob", "create_date")
CONTACTS = ("mailing_address", "billing_address", "day_phone", "evening_phone", "other_phone", "email")
EXCEEDS_FINES = 1
IN_FORCE: Query = {"-or": [{"stop_date": None}, {"stop_date": {">": "now"}}]}
NEVER: Query = {"id": {"<": 0}}
"""A condition that is never true, but keeps PostgreSQL from checking permissions row by row before everything else."""


def bare_audit(url: str, account: str, password: str) -> dict[str, Any]:
    """Send the audit's queries, and return the seconds, calls and bytes that they took."""
    bare = Bare(url, positions_of(url, None))
    began = time.perf_counter()
    log_in(bare, account, password)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        Reading(bare, pool).read(start(bare, pool))
    return {"seconds": time.perf_counter() - began, "calls": bare.calls, "bytes": bare.bytes}


class Reading:
    """Reads everything that the audit of all visible patrons needs, with a limit of 5.00."""

    def __init__(self, bare: Bare, pool: ThreadPoolExecutor) -> None:
        self._bare = bare
        self._pool = pool
        self._beside: list[Future[Any]] = []
        self._known: set[int] = set()

    def read(self, beginning: Start) -> None:
        """Send all queries, and wait for the responses."""
        highest, seen = beginning
        at_home: list[Query] = [{"home_ou": seen}] if seen else []
        ranges_of_ids = self._ranges_of_ids(at_home)
        questions = [{"deleted": "f", "-and": [*where, *at_home]} for where in blocks(ranges_of_ids)]
        for pages in self._pool.map(lambda where: list(self._pages(PATRON, where)), questions):
            for rows in pages:
                self._details(rows, penalties=True)
        for within in ranges_of_ids:
            where = {"deleted": "f", "-and": [borrowers(within), *({"id": end} for end in within), *at_home]}
            for rows in self._pages((*PATRON, *CONTACTS[:2]), where):
                self._details(rows)
                self._lists("aua", ("id", "usr"), "id", [one for row in rows for one in row[-2:] if one is not None])
        edges = [-1, *(highest * part // RANGES for part in range(1, RANGES)), 2**31 - 1]
        fields = (*PATRON, *JUDGED_BY, *CONTACTS)
        ranges = [
            self._pool.submit(self._bare.search, "au", fields, accidental(low, high, at_home))
            for low, high in pairwise(edges)
        ]
        for one in ranges:
            rows = one.result()
            self._details(rows)
            self._lists("aua", ("id", "usr", "street1", "post_code"), "usr", [row[0] for row in rows])
            groups = {row[1] for row in rows} - {row[1] for row in rows if row[5] == "t"}
            self._lists("au", ("id", "usrgroup"), "usrgroup", list(groups), {"deleted": "t", "master_account": "t"})
            if seen:
                self._hidden({row[1]: row[0] for row in rows}, seen)
        while self._beside:
            self._beside.pop().result()

    def _ranges_of_ids(self, at_home: list[Query]) -> list[list[Query]]:
        """Yield ranges of patron ids as conditions on an id."""
        order = [{"class": "au", "field": "id", "direction": "desc"}]
        where = {"deleted": "f", "-and": [{"id": {">": 0}}, *at_home]}
        [(highest,)] = self._bare.search("au", ("id",), where, limit=1, order_by=order)
        edges = [-1, *(highest * part // RANGES_OF_IDS for part in range(1, RANGES_OF_IDS)), 2**31 - 1]
        return [[{">": low}, {"<=": high}] for low, high in pairwise(edges)]

    def _pages(self, fields: Iterable[str], where: Query) -> Iterator[list[Row]]:
        last = -1
        while True:
            rows = self._bare.search(
                "au", fields, {"-and": [where, {"id": {">": last}}]}, limit=PAGE, order_by={"au": "id"}
            )
            yield rows
            if len(rows) < PAGE:
                return
            last = rows[-1][0]

    def _details(self, rows: list[Row], *, penalties: bool = False) -> None:
        """Read patrons' own fines, barcodes and penalties, once per patron."""
        ids = [row[0] for row in rows]
        unknown = [row for row in rows if row[0] not in self._known]
        self._known.update(ids)
        self._lists("mous", ("usr", "balance_owed"), "usr", [row[0] for row in unknown], {"balance_owed": {"<>": 0}})
        self._lists("ac", ("id", "barcode"), "id", [row[4] for row in unknown if row[4] is not None])
        if penalties:
            self._lists("ausp", ("id", "usr", "standing_penalty", "org_unit", "staff", "set_date"), "usr", ids)

    def _hidden(self, member_of: dict[int, int], seen: list[int]) -> None:
        """Read which groups have hidden members, through one visible member of each."""
        where = {"+m": {"deleted": "f", "usrgroup": {"=": {"+au": "usrgroup"}}, "home_ou": {"not in": seen}}}
        source = {"aou": {"m": {"class": "au", "field": "home_ou", "fkey": "id"}}}
        exists = {"-exists": {"select": {"m": ["id"]}, "from": source, "where": where}}
        members = list(member_of.values())
        self._lists("au", ("id", "usrgroup"), "id", members, exists, size=GROUPS_OF_A_SET)

    def _lists(
        self,
        class_id: str,
        fields: Iterable[str],
        field: str,
        values: list[Any],
        where: Query | None = None,
        *,
        size: int = LIST,
    ) -> None:
        wanted = sorted(set(values))
        for at in range(0, len(wanted), size):
            asked = {field: wanted[at : at + size], **(where or {})}
            self._beside.append(self._pool.submit(self._bare.search, class_id, tuple(fields), asked))


def blocks(ranges: list[list[Query]]) -> list[list[Query]]:
    """Return queries for patrons over the limit without the penalty, with it but not over, and blocked by staff but not
    over, each by ranges of ids.
    """
    with_penalty = {"select": {"ausp": ["usr"]}, "from": "ausp"}
    fines = {**with_penalty, "where": {"+ausp": {"standing_penalty": EXCEEDS_FINES, **IN_FORCE}}}
    stale = {**with_penalty, "where": {"+ausp": {"standing_penalty": EXCEEDS_FINES, "staff": None, **IN_FORCE}}}
    by_staff = {
        "select": {"ausp": ["usr"]},
        "from": {"ausp": {"csp": {"fkey": "standing_penalty", "field": "id"}}},
        "where": {"+ausp": {"staff": {"<>": None}, **IN_FORCE}, "+csp": {"block_list": {"<>": None}}},
    }
    return [
        [*conditions, *({"id": end} for end in within)]
        for within in ranges
        for conditions in (
            [listed("in", over(within)), listed("not in", fines)],
            [listed("in", stale), listed("not in", over(within))],
            [listed("in", by_staff), listed("not in", over(within))],
        )
    ]


def over(within: Sequence[Query]) -> Query:
    """Return a query for the ids of debtors who owe more than 5.00, within a range of ids."""
    own_fines = {
        "select": {"mbts": [{"column": "balance_owed", "transform": "sum", "aggregate": True}]},
        "from": "mbts",
        "where": {"+mbts": {"usr": {"=": {"+d": "id"}}, "xact_finish": None}},
        "having": {"+mbts": {"balance_owed": {">": {"transform": "sum", "value": "5.00"}}}},
    }
    owing: Query = {"xact_finish": None, "balance_owed": {"<>": 0}, "-and": [{"usr": end} for end in within]}
    debtor: Query = {"deleted": "f", "-and": [{"id": end} for end in within]}
    source = {"mbts": {"d": {"class": "au", "fkey": "usr", "field": "id"}}}
    return {"select": {"d": ["id"]}, "from": source, "where": {"+mbts": owing, "+d": debtor, "-exists": own_fines}}


def listed(operator: str, query: Query) -> Query:
    """Return a condition for patrons who are, or aren't, among the ids found by a query."""
    return {"-or": [{"id": {operator: query}}, NEVER]}


def borrowers(within: Sequence[Query]) -> Query:
    """Return a query for patrons within a range of ids who use an address row of another group."""
    in_range = [{"id": end} for end in within]
    union = [
        {
            "select": {"d": ["id"]},
            "from": {
                "aua": {
                    "d": {"class": "au", "fkey": "id", "field": field},
                    "o": {"class": "au", "fkey": "usr", "field": "id"},
                }
            },
            "where": {
                "+d": {"deleted": "f", "usrgroup": {"<>": {"+o": "usrgroup"}}, "-and": in_range},
                "+o": {"deleted": "f"},
            },
        }
        for field in CONTACTS[:2]
    ]
    return listed("in", {"union": union})


def accidental(low: int, high: int, at_home: list[Query]) -> Query:
    """Return a query for members of groups that may be accidental, in a range of group numbers."""
    within = [{"usrgroup": {">": low}}, {"usrgroup": {"<=": high}}]
    long_ago = (datetime.now(UTC) - timedelta(days=3 * 365)).isoformat(timespec="seconds")
    lead, other = {"master_account": "t"}, {"id": {"<>": {"+d": "id"}}}

    def member(condition: Query, **beside: object) -> Query:
        of_group = {"deleted": "f", "usrgroup": {"=": {"+d": "usrgroup"}}, **condition}
        source = {"aou": {"o": {"class": "au", "fkey": "id", "field": "home_ou"}}}
        return {"-exists": {"select": {"o": ["id"]}, "from": source, "where": {"+o": of_group}, **beside}}

    stranger = {"juvenile": "f", "home_ou": {"<>": {"+d": "home_ou"}}, "family_name": {"<>": {"+d": "family_name"}}}
    ten = {
        "select": {"o": [{"column": "id", "transform": "count", "aggregate": True}]},
        "having": {"+o": {"id": {">=": {"transform": "count", "value": 10}}}},
    }
    odd = [
        # The range is repeated because PostgreSQL would scan the leads of all groups where leads are rare.
        {"-not-exists": member({**lead, "-and": within})["-exists"]},
        {"-and": [{"+d": lead}, member({**other, **lead})]},
        {"-and": [{"+d": {**lead, "expire_date": {"<": long_ago}}}]},
        {"-and": [{"+d": {"juvenile": "f"}}, member(stranger)]},
        {"-and": [{"+d": lead}, member({}, **ten)]},
    ]
    groups = {
        "select": {"d": ["usrgroup"]},
        "from": {"aou": {"d": {"class": "au", "fkey": "id", "field": "home_ou"}}},
        "where": {"+d": {"deleted": "f", "-and": within}, "-and": [member(other), {"-or": odd}]},
    }
    return {"deleted": "f", "-and": [*within, {"-or": [{"usrgroup": {"in": groups}}, NEVER]}, *at_home]}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for command in (formats, page):
        one = commands.add_parser(command.__name__)
        one.add_argument("--groups", type=int, nargs="+")
        one.add_argument("--runs", type=int, default=5)
        one.set_defaults(measure=command)
    one = commands.add_parser("audit")
    one.add_argument("--url", required=True)
    one.add_argument("--account", required=True)
    one.add_argument("--format", default="json", choices=("table", "csv", "json", "html"))
    one.add_argument("--pairs", type=int, default=3)
    one.set_defaults(measure=audit)
    options = parser.parse_args()
    options.measure(options)


if __name__ == "__main__":
    main()
