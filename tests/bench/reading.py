"""The rows of the report: built by a program, as a command, and how long it takes to begin."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from . import pairs
from .places import Account, Place
from .rows import Row, Spread

ANSWER = ("groups", "members", "fines", "hidden_fines")
"""What ours and the floor have to agree on."""
PROGRAM = (sys.executable, "-m", "evergreen_groups")
MOST_CALLS = 60
"""Of an account that doesn't see everybody, beside one for each group whose hidden members owe something."""
START_SECONDS = 0.3


def report(place: Place, account: Account, runs: int, *options: str, what: str = "report") -> Row:
    """The report by a program; ends the bench where ours and the floor don't say the same."""
    given = ("--url", place.url, "--account", account.name, *options)
    environ = place.environ(account)
    mine, others = pairs.by_turns(
        lambda: pairs.figures("ours.py", [*given, "--idl", str(place.directory)], environ),
        lambda: pairs.figures("floor.py", [*given, "--idl", str(place.idl)], environ),
        runs,
    )
    _agreed(f"{what}, {account.name}", {tuple(str(one[name]) for name in ANSWER) for one in (*mine, *others)})
    ours, floor = (_middle(found) for found in (mine, others))
    row = Row(
        what=what,
        account=account.name,
        size=f"{ours['groups']:,} groups, {ours['members']:,} members, {ours['fines']}",
        ours=Spread(tuple(one["seconds"] for one in mine)),
        floor=Spread(tuple(one["seconds"] for one in others)),
        cpu=tuple(median(one["cpu_seconds"] for one in found) for found in (mine, others)),
        calls=(ours["calls"], floor["calls"]),
        bytes=(ours["bytes"], floor["bytes"]),
        peak_mb=max(one["peak_mb"] for one in mine),
        more={"ours": ours, "floor": floor},
    )
    return _judged(row, account, floor["groups_asked"])


def _agreed(what: str, answers: Collection[tuple[str, ...]]) -> None:
    """End the bench where the answers aren't all the same."""
    if len(answers) > 1:
        raise SystemExit(f"{what}: ours and the floor differ in {ANSWER}: {sorted(answers)}")


def _middle(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run that took as long as the middle one of all."""
    return sorted(found, key=lambda one: one["seconds"])[len(found) // 2]


def _judged(row: Row, account: Account, groups_asked: int) -> Row:
    assert row.floor is not None
    assert row.ratio is not None
    assert row.calls is not None
    if account.sees_all:
        goal, met = "1.1 × floor", row.ratio <= 1.1
    else:
        allowed = 1.3 + 0.003 * groups_asked / row.floor.median
        most = MOST_CALLS + groups_asked
        goal = f"1.3 × floor + {3 * groups_asked} ms (= {allowed:.2f}); {most:,} calls"
        met = row.ratio <= allowed and row.calls[0] <= most
    return Row(**{**vars(row), "goal": goal, "met": met})


def command(place: Place, account: Account, runs: int) -> Row:
    """The command as somebody types it, from its start to the end of the file that it writes; and the floor's."""
    environ = place.environ(account)
    configuration = configured(place.url, place, account)
    written = str(place.directory / "report.json")
    wanted = ("report", "--no-history", "--details", "sums", "--output", written)
    ours = [*PROGRAM, "-q", "--config", configuration, *wanted]
    floor = [sys.executable, str(pairs.HERE / "floor.py"), "--url", place.url, "--account", account.name]
    mine, others = pairs.by_turns(
        lambda: pairs.whole_process(ours, environ),
        lambda: pairs.whole_process([*floor, "--idl", str(place.idl)], environ),
        runs,
    )
    totals = json.loads(Path(written).read_text("utf-8"))["totals"]
    ours_says = (totals["group_count"], totals["member_count"], totals["combined_fines"])
    floor_says = (json.loads(one.printed) for one in others)
    answers = {tuple(map(str, ours_says)), *(tuple(str(one[name]) for name in ANSWER[:3]) for one in floor_says)}
    _agreed(f"the command, {account.name}", answers)
    return Row(
        what="report, the whole command, as JSON",
        account=account.name,
        size="{:,} groups, {:,} members, {}".format(*ours_says),
        ours=Spread(tuple(one.seconds for one in mine)),
        floor=Spread(tuple(one.seconds for one in others)),
        peak_mb=max(one.peak_mb for one in mine),
    )


def start_up(place: Place, account: Account, runs: int) -> Iterator[Row]:
    """How long the command takes to say its version, and until it sends its first request."""
    environ = place.environ(account)
    version = [pairs.whole_process([*PROGRAM, "--version"], environ).seconds for _ in range(runs + 1)]
    yield _start("start: --version", version[1:])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        report = [*PROGRAM, "-q", "--config", configured(url, place, account), "report", "--no-history"]
        floor = [sys.executable, str(pairs.HERE / "floor.py"), "--url", url, "--account", account.name]
        mine, others = pairs.by_turns(
            lambda: _until_first_request(report, listening, environ),
            lambda: _until_first_request([*floor, "--idl", str(place.idl)], listening, environ),
            runs,
        )
    yield _start("start: until the first request", mine, others)


def _start(what: str, seconds: Sequence[float], floor: Sequence[float] | None = None) -> Row:
    ours = Spread(tuple(seconds))
    return Row(
        what=what,
        account="",
        size="",
        ours=ours,
        floor=None if floor is None else Spread(tuple(floor)),
        goal=f"{START_SECONDS} s",
        met=median(seconds) <= START_SECONDS,
    )


def _until_first_request(command: Sequence[str], listening: socket.socket, environ: dict[str, str]) -> float:
    started = time.perf_counter()
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        listening.settimeout(60)
        connection, _address = listening.accept()
        with connection:
            connection.recv(1)
            seconds = time.perf_counter() - started
            process.kill()
    # Whoever was killed may have asked for a second connection, which the next one isn't to be taken for.
    listening.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
    return seconds


def configured(url: str, place: Place, account: Account) -> str:
    """A configuration file that names a gateway and an account."""
    path = place.directory / "config.toml"
    plain = "allow_plain_http = true\n" if url.startswith("http:") else ""
    path.write_text(f'[gateway]\nurl = "{url}"\nusername = "{account.name}"\n{plain}', "utf-8")
    return str(path)
