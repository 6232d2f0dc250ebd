"""Publish to a directory, killed before every single step that touches the file system, one after the other.

Run as ``python killed_publication.py DIRECTORY``; prints as JSON what ``latest`` and the date led to after each kill
and after the next run. A separate process, because it forks, which a process with threads shouldn't.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # like pytest (pythonpath)

from support.report_samples import FAMILIES, report_of

from evergreen_groups.nightly.output import publish, report_date
from evergreen_groups.report import Report
from evergreen_groups.state import LATEST

OLD = report_of(FAMILIES[:2])
NEW = report_of(FAMILIES[2:])
STEPS = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}


def publish_and_die(report: Report, directory: Path, step: int) -> bool:
    """Publish in a child process that is killed before step number ``step``; returns whether it ended before that."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    passed = 0

    def count(event: str, _arguments: tuple[object, ...]) -> None:
        nonlocal passed
        if event in STEPS:
            if passed == step:
                os.kill(os.getpid(), signal.SIGKILL)
            passed += 1

    sys.addaudithook(count)
    publish(report, directory, ("json",))
    os._exit(0)


def edition(path: Path) -> str:
    """Return which edition a reader finds in full, and no other files: "old" or "new"; else "none", or "broken"."""
    if not path.is_dir():
        return "none"
    files = {file.name: file.read_text(encoding="utf-8") for file in path.iterdir()}
    if not files.pop("index.html", "").endswith("</html>\n"):
        return "broken"
    listed = {name: {group["group"] for group in json.loads(text)["groups"]} for name, text in files.items()}
    for name, report in (("old", OLD), ("new", NEW)):
        libraries = {f"{member.library}.json" for group in report.groups for member in group.members}
        if listed.keys() == libraries and set().union(*listed.values()) == {group.number for group in report.groups}:
            return name
    return "broken"


def kill_each_step(directory: Path, first: Report) -> dict[str, object]:
    """Publish ``first``, kill a run with ``NEW``, look, run it to its end and look again; repeat for each step."""
    day = report_date(NEW).isoformat()
    seen: Counter[str] = Counter()
    after: Counter[str] = Counter()
    step, ended = 0, False
    while not ended:
        publish(first, directory, ("json",))
        ended = publish_and_die(NEW, directory, step)
        seen[f"{edition(directory / LATEST)} {edition(directory / day)}"] += 1
        publish(NEW, directory, ("json",))
        leftovers = len([path for path in (directory / ".editions").iterdir() if path.is_dir()])
        after[f"{edition(directory / LATEST)} {edition(directory / day)} {leftovers}"] += 1
        (directory / day).unlink()
        step += 1
    return {"steps": step, "seen": seen, "after": after}


if __name__ == "__main__":
    base = Path(sys.argv[1])
    (base / "same").mkdir()
    (base / "next").mkdir()
    yesterday = replace(OLD, generated_at=OLD.generated_at - timedelta(days=1))
    json.dump(
        {"same": kill_each_step(base / "same", OLD), "next": kill_each_step(base / "next", yesterday)}, sys.stdout
    )
