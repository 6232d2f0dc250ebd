"""The floor: what a minimal client needs for the nightly report, with the best known queries.

    FLOOR_PASSWORD=… python tests/bench/floor.py --url URL --account NAME [--min-total 25.00] [--details]

It only uses ``requests`` and the standard library, nothing of this package, and is a single file, so that anyone who
doubts a figure can read it. It logs in and reads the members of all groups of two or more that owe ``--min-total`` or
more, their names, own fines, blocks for fines and barcodes, with ``--details`` also bills and items out, and the number
of hidden members. Up to three calls run at a time. It checks nothing: neither that responses are complete, nor that no
patron was moved during the run.

Evergreen has no query for hidden members' balances; single calls per group return them. ``--hidden-fines`` makes them
after everything else, and they don't count toward the time.

Prints JSON: ``seconds`` (with login, without Python's startup), ``cpu_seconds`` of the process, ``calls``, ``bytes``
(sent and received), ``peak_mb``, and figures that the product must match: ``groups``, ``members`` (including hidden
ones), and the sums ``visible_fines`` and ``hidden_fines``.
"""

import argparse
import json
import os
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import requests

Query = dict[str, Any]

AT_ONCE = 3
RANGES = 6
"""The group numbers are split into so many ranges.

The database takes the same time for 3 as for 24, but with a few long ones a core idles at the end.
"""
LIST = 3_000
"""Ids per query."""
LIMIT = 20_000
GROUPS_OF_A_SET = 700
MOST_HIDDEN = 7
CLASSES = ("au", "aou", "aua", "mous", "ausp", "ac", "mobts", "mb", "circ")
"""The classes in the queries."""
PATRON = ("id", "usrgroup", "home_ou", "profile", "card", "master_account", "family_name", "first_given_name")
OTHER_NAMES = ("second_given_name", "suffix", "pref_family_name", "pref_first_given_name", "pref_second_given_name")
STATE = ("pref_suffix", "juvenile", "barred", "expire_date")
BILL = ("id", "usr", "xact_type", "last_billing_type", "balance_owed", "total_owed", "total_paid", "xact_start")
EXCEEDS_FINES, OVERDUE_FINES = 1, 1
"""The penalty that Evergreen sets for own fines, unless a setting names another."""
PENALTY = ("id", "usr", "standing_penalty", "org_unit", "staff", "set_date", "stop_date")
ITEM = ("id", "usr", "stop_fines", "due_date", "fine_interval", "xact_finish")
MEMBER_AT_HOME = {"aou": {"m": {"class": "au", "field": "home_ou", "fkey": "id"}}}
MEMBER_OWING = {"mbts": {"m": {"class": "au", "fkey": "usr", "field": "id"}}}


class Bare:
    """Calls of the gateway with counters, and the rows they return."""

    def __init__(self, url: str, positions: dict[str, dict[str, int]]) -> None:
        self.url = url
        self.positions = positions
        self.calls = self.bytes = 0
        self.token = ""
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def call(self, service: str, method: str, *parameters: object) -> Any:
        form = [("service", service), ("method", method), *(("param", compact(one)) for one in parameters)]
        body = urlencode(form, safe=",:", quote_via=quote)
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = requests.Session()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        for _ in range(2):
            try:
                answer = self._of_thread.session.post(f"{self.url}/osrf-gateway-v1", data=body, headers=headers)
                break
            except requests.ConnectionError:  # the gateway closes connections that were idle for a second
                continue
        with self._lock:
            self.calls += 1
            self.bytes += len(body) + len(answer.content)
        found = json.loads(answer.content, parse_float=Decimal)
        if found["status"] != 200 or len(found["payload"]) != 1:
            raise SystemExit(f"{method}: status {found['status']}, {len(found['payload'])} results")
        return found["payload"][0]

    def search(self, class_id: str, fields: Iterable[str], where: Query, **options: object) -> list[tuple[Any, ...]]:
        """Return the rows of a class that meet a condition, as tuples of the fields."""
        names = list(fields)
        options = {"select": {class_id: names}, "limit": LIMIT, **options}
        rows = self.call("open-ils.pcrud", f"open-ils.pcrud.search.{class_id}.atomic", self.token, where, options)
        indexes = [self.positions[class_id][name] for name in names]
        return [tuple(row["__p"][index] if index < len(row["__p"]) else None for index in indexes) for row in rows]


def compact(value: object) -> str:
    """Serialize to JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def positions_of(url: str, kept: Path | None) -> dict[str, dict[str, int]]:
    """Return the indexes of the classes' fields, from a cached file or from the IDL."""
    if kept is not None and kept.exists():
        return dict(json.loads(kept.read_text()))
    base = "{http://opensrf.org/spec/IDL/base/v1}"
    narrowed = "&".join(f"class={name}" for name in CLASSES)
    tree = ElementTree.fromstring(requests.get(f"{url}/reports/fm_IDL.xml?{narrowed}").content)
    found = {
        str(one.get("id")): {str(field.get("name")): index for index, field in enumerate(one.iter(f"{base}field"))}
        for one in tree.iter(f"{base}class")
    }
    if kept is not None:
        kept.write_text(json.dumps(found))
    return found


def log_in(bare: Bare, account: str, password: str) -> None:
    given = {"username": account, "password": password, "type": "staff"}
    answer = bare.call("open-ils.auth", "open-ils.auth.login", given)
    if answer["textcode"] != "SUCCESS":
        raise SystemExit(f"login: {answer['textcode']}")
    bare.token = answer["payload"]["authtoken"]


class Start(NamedTuple):
    """What must be known before reading members: the highest group number, and the visible org units.

    ``libraries`` are the org units whose patrons the account sees; none if it sees all.
    """

    highest: int
    libraries: list[int]


def start(bare: Bare, pool: ThreadPoolExecutor) -> Start:
    """Read both in parallel."""
    permissions = ["VIEW_USER"]
    method = "open-ils.actor.user.has_work_perm_at.batch"
    last = pool.submit(highest_group, bare, [])
    highest_orgs = pool.submit(bare.call, "open-ils.actor", method, bare.token, permissions)
    units = pool.submit(bare.search, "aou", ("id", "parent_ou"), {"id": {"<>": None}}).result()
    highest = last.result()
    org_units = set(map(int, highest_orgs.result()["VIEW_USER"]))
    if any(parent is None and id in org_units for id, parent in units):
        return Start(highest, [])
    user = bare.call("open-ils.auth", "open-ils.auth.session.retrieve", bare.token)["__p"][bare.positions["au"]["id"]]
    method, ids = "open-ils.actor.user.perm.check.multi_org", sorted(id for id, _parent in units)
    denied = {int(unit) for unit, _name in bare.call("open-ils.actor", method, bare.token, user, ids, permissions)}
    libraries = sorted(set(ids) - denied) if denied else []
    return Start(highest or highest_group(bare, libraries), libraries)


def highest_group(bare: Bare, libraries: list[int]) -> int:
    """Return the highest group number; 0 if its patron is hidden: before 3.16, hidden rows count toward the limit."""
    known = {"deleted": "f", "id": {">": 0}, **({"home_ou": libraries} if libraries else {})}
    order = [{"class": "au", "field": "usrgroup", "direction": "desc"}]
    found = bare.search("au", ("usrgroup", "id"), known, order_by=order, limit=1)
    return found[0][0] if found else 0


def members_query(low: int, high: int, min_total: str, seen: list[int]) -> Query:
    """Return the condition for members of groups of two or more, in a range of numbers, with a high enough total."""
    within = [{"usrgroup": {">": low}}, {"usrgroup": {"<=": high}}]
    of_group = {"deleted": "f", "usrgroup": {"=": {"+d": "usrgroup"}}}
    enough = {"balance_owed": {">=": {"transform": "sum", "value": min_total}}}
    sums = {
        "select": {"t": [{"column": "balance_owed", "transform": "sum", "aggregate": True}]},
        "from": {"au": {"t": {"class": "mbts", "fkey": "id", "field": "usr"}}},
        # The condition on the debtor's transaction is in the outer query, which makes PostgreSQL look for debtors
        # first.
        "where": {"+au": of_group, "+t": {"xact_finish": None}, "+mbts": {"xact_finish": None}},
        "having": {"+t": enough},
    }
    another = {
        "select": {"o": ["id"]},
        "from": {"aou": {"o": {"class": "au", "fkey": "id", "field": "home_ou"}}},
        "where": {"+o": {**of_group, "id": {"<>": {"+d": "id"}}}},
    }
    groups = {
        "select": {"d": ["usrgroup"]},
        "from": {"mbts": {"d": {"class": "au", "fkey": "usr", "field": "id"}}},
        "where": {
            "+mbts": {"xact_finish": None, "balance_owed": {"<>": 0}},
            # The duplicate makes PostgreSQL assume that the condition is rarely true, and look up transactions one by
            # one.
            "+d": {"deleted": "f", "-and": [*within, {"deleted": {"=": {"transform": "int4", "value": "0"}}}]},
            "-and": [{"-exists": sums}, {"-exists": another}],
        },
    }
    at_home: list[Query] = [{"home_ou": seen}] if seen else []
    # The alternative that is never true keeps PostgreSQL from checking permissions row by row before summing.
    return {"deleted": "f", "-and": [*within, {"-or": [{"usrgroup": {"in": groups}}, {"id": {"<": 0}}]}, *at_home]}


class Reading:
    """Reads everything that the report needs, with up to three calls at a time."""

    def __init__(self, bare: Bare, pool: ThreadPoolExecutor, options: argparse.Namespace) -> None:
        self.bare = bare
        self.pool = pool
        self.options = options
        self.members: dict[int, set[int]] = defaultdict(set)
        self.fines: dict[int, Decimal] = {}
        self.owing_groups: list[int] = []
        self.hidden_count = 0

    def read(self, beginning: Start) -> None:
        """Read members by range, and their data as soon as they are known."""
        highest, seen = beginning
        count = self.options.ranges
        edges = [-1, *(highest * part // count for part in range(1, count)), 2**31 - 1]
        ranges = [self.pool.submit(self._members, low, high, seen) for low, high in pairwise(edges)]
        beside: list[Future[None]] = []
        for done in as_completed(ranges):
            beside += self._beside(done.result())
        for one in beside:
            one.result()
        if seen:
            self._hidden(seen)

    def _members(self, low: int, high: int, seen: list[int]) -> list[tuple[Any, ...]]:
        fields = PATRON + OTHER_NAMES + (STATE if self.options.details else STATE[:1])
        where = members_query(low, high, self.options.min_total, seen)
        rows = self.bare.search("au", fields, where)
        if len(rows) == LIMIT:
            raise SystemExit("a range has too many members: cut it into more with --ranges")
        return rows

    def _beside(self, rows: list[tuple[Any, ...]]) -> Iterator[Future[None]]:
        """Read members' own fines, blocks and barcodes, and the details."""
        for id, group, *_others in rows:
            self.members[group].add(id)
        for some in parts(sorted(row[0] for row in rows), LIST):
            yield self.pool.submit(self._own_fines, some)
            blocked = {"usr": some, "standing_penalty": [EXCEEDS_FINES]}
            yield self.pool.submit(self._ask, "ausp", PENALTY, blocked)
            if self.options.details:
                yield self.pool.submit(self._bills, some)
                late = {"due_date": {"<": datetime.now(UTC).isoformat(timespec="seconds")}}
                away = {"usr": some, "checkin_time": None, "-or": [late, {"stop_fines": ["LOST", "LONGOVERDUE"]}]}
                yield self.pool.submit(self._ask, "circ", ITEM, away)
        for cards in parts(sorted(row[4] for row in rows if row[4] is not None), LIST):
            yield self.pool.submit(self._ask, "ac", ("id", "barcode"), {"id": cards})

    def _ask(self, class_id: str, fields: Iterable[str], where: Query) -> None:
        self.bare.search(class_id, fields, where)

    def _bills(self, ids: list[int]) -> None:
        """Read members' bills, and their billings, from which a bill's kind is the largest."""
        more = ("last_payment_ts", "billing_location")
        bills = self.bare.search("mobts", (*BILL, *more), {"usr": ids, "balance_owed": {"<>": 0}})
        adjusted = {"billing": {"=": {"+mb": "id"}}, "amount": {">=": {"+mb": "amount"}}}
        in_force = {
            "voided": "f",
            "btype": {"<>": OVERDUE_FINES},
            "-not-exists": {"select": {"maa": ["id"]}, "from": "maa", "where": adjusted},
        }
        for some in parts(sorted(row[0] for row in bills), LIST):
            self._ask("mb", ("id", "xact", "billing_type", "amount"), {"xact": some, **in_force})

    def _own_fines(self, ids: list[int]) -> None:
        rows = self.bare.search("mous", ("usr", "balance_owed"), {"usr": ids, "balance_owed": {"<>": 0}})
        self.fines.update((id, Decimal(owed)) for id, owed in rows)

    def _hidden(self, seen: list[int]) -> None:
        """Read the number of hidden members in sets, through one visible member of each group."""
        sets = list(parts(sorted(self.members), GROUPS_OF_A_SET))
        hidden = {"deleted": "f", "usrgroup": {"=": {"+au": "usrgroup"}}, "home_ou": {"not in": seen}}

        def more_than(number: int, groups: list[int]) -> list[int]:
            having = {"+m": {"id": {">": {"transform": "count", "value": str(number)}}}}
            counted = {"m": [{"column": "id", "transform": "count", "aggregate": True}]}
            where = {"+m": hidden}
            return self._where(groups, {"select": counted, "from": MEMBER_AT_HOME, "where": where, "having": having})

        def owing(groups: list[int]) -> list[int]:
            owed = {"+mbts": {"xact_finish": None, "balance_owed": {"<>": 0}}, "+m": hidden}
            return self._where(groups, {"select": {"mbts": ["id"]}, "from": MEMBER_OWING, "where": owed})

        self.owing_groups = [group for some in self.pool.map(owing, sets) for group in some]
        left = sorted(self.members)
        for number in range(MOST_HIDDEN + 1):
            found = self.pool.map(more_than, [number] * len(left), list(parts(left, GROUPS_OF_A_SET)))
            left = sorted(group for some in found for group in some)
            self.hidden_count += len(left)
        for group in left:  # so many that they are counted by method calls
            ids = self.bare.call("open-ils.actor", "open-ils.actor.usergroup.members.retrieve", self.bare.token, group)
            self.hidden_count += len(set(map(int, ids)) - self.members[group]) - MOST_HIDDEN - 1

    def hidden_fines(self) -> Decimal:
        """Read the balances of hidden members, group by group."""
        return sum(self.pool.map(self._balances, self.owing_groups), Decimal(0))

    def _where(self, groups: list[int], exists: Query) -> list[int]:
        """Return the groups where something exists, through one visible member of each."""
        anchors = [min(self.members[group]) for group in groups]
        return [group for group, _id in self.bare.search("au", ("usrgroup", "id"), {"id": anchors, "-exists": exists})]

    def _balances(self, group: int) -> Decimal:
        """Return the balances of a group's hidden members."""
        method = "open-ils.actor.usergroup.members.balance_owed"
        rows = self.bare.call("open-ils.actor", method, self.bare.token, group)
        known = self.members[group]
        return sum((Decimal(row["balance_owed"]) for row in rows if int(row["usr"]) not in known), Decimal(0))


def parts(values: list[int], size: int) -> Iterator[list[int]]:
    """Split values into lists of so many."""
    return (values[at : at + size] for at in range(0, len(values), size))


def main() -> None:
    """Read what the command line asks for, and print the cost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--min-total", default="25.00")
    parser.add_argument("--details", action="store_true")
    parser.add_argument("--hidden-fines", action="store_true")
    parser.add_argument("--ranges", type=int, default=RANGES)
    parser.add_argument("--idl", type=Path, help="where the order of fields is kept between runs")
    options = parser.parse_args()
    positions = positions_of(options.url, options.idl)
    started, cpu_started = time.perf_counter(), time.process_time()
    bare = Bare(options.url, positions)
    log_in(bare, options.account, os.environ["FLOOR_PASSWORD"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reading = Reading(bare, pool, options)
        reading.read(start(bare, pool))
        result = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu_started,
            "calls": bare.calls,
            "bytes": bare.bytes,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "groups": len(reading.members),
            "members": sum(map(len, reading.members.values())) + reading.hidden_count,
            "visible_fines": f"{sum(reading.fines.values(), Decimal(0)):.2f}",
            "hidden_fines": f"{reading.hidden_fines():.2f}" if options.hidden_fines else None,
        }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
