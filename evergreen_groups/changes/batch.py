"""Batch files: read and check a CSV file of changes, and turn its lines into one plan."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal import GROUP
from evergreen_groups.changes.plans import Action, Draft, Step
from evergreen_groups.errors import ConfigurationError, GatewayError, PlanError
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from evergreen_groups.changes.planner import PlanBasis, Planner

COLUMNS = ("action", "barcode", "target")
_MOST_LINES = 100_000
_TARGET = Message("the target must be empty or one of: {allowed}")
_ABOUT_TARGET = Message("target: {problem}")


@dataclass
class BatchLine:
    """One line of a batch file. ``number`` counts from 1 and includes the header."""

    number: int
    action: str
    barcode: str
    target: str
    problems: list[object] = field(default_factory=list)

    @property
    def targets(self) -> tuple[str, ...]:
        """The barcode in the target, for actions whose target is a barcode."""
        return (self.target,) if self.action in ("move", "merge") else ()

    def about(self, text: object) -> Message:
        return Message("line {line}: {text}", values={"line": self.number, "text": text})


def _read(path: Path) -> list[BatchLine]:
    """Read the lines of a CSV file in UTF-8, and check their form."""
    try:
        # "utf-8-sig": spreadsheets add a byte order mark, which would become part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except OSError as error:
        raise ConfigurationError(
            "{path}: cannot be read: {reason}",
            code="batch-not-read",
            values={"path": path, "reason": system_reason(error)},
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PlanError(
            "{path}: not a CSV file in UTF-8: {reason}", code="batch-not-csv", values={"path": path, "reason": error}
        ) from error
    if not rows or [cell.strip().casefold() for cell in rows[0]] != list(COLUMNS):
        raise PlanError(
            "{path}: the first line must be {columns}",
            code="batch-without-header",
            values={"path": path, "columns": ",".join(COLUMNS)},
        )
    if len(rows) > _MOST_LINES:
        raise PlanError(
            "{path}: more than {most:,} lines",
            advice="split it into several files",
            code="batch-too-long",
            values={"path": path, "most": _MOST_LINES},
        )
    lines = []
    for number, row in enumerate(rows[1:], 2):
        if any(row):
            action, barcode, target = (*(cell.strip() for cell in row), "", "", "")[:3]
            lines.append(line := BatchLine(number, action.casefold(), barcode, target))
            line.problems += _format_problems(line)
    return lines


def _format_problems(line: BatchLine) -> Iterator[Message]:
    if line.action not in ("move", "remove", "merge", "lead"):
        yield Message("the action must be one of: {allowed}", values={"allowed": "move, remove, merge, lead"})
        return
    if not line.barcode:
        yield Message("the barcode is missing")
    if "" in line.targets:
        text = Message("{action} needs the barcode of a member of the other group as target")
        yield Message(text, values={"action": line.action})
    if line.action == "remove" and line.target not in ("", "lead"):
        yield Message(_TARGET, values={"allowed": "lead"})
    if line.action == "lead" and line.target not in ("", "on", "off"):
        yield Message(_TARGET, values={"allowed": "on, off"})


def _patron_problems(line: BatchLine, basis: PlanBasis) -> Iterator[Message]:
    """Yield the problems with the patrons that a line names."""
    for barcode, words in ((line.barcode, None), *((target, _ABOUT_TARGET) for target in line.targets)):
        known = barcode in basis.families.cards
        if not known or basis.is_deleted(barcode):
            problem = Message("the patron is deleted") if known else Message("no visible patron has this barcode")
            yield problem if words is None else words.with_values({"problem": problem})


def plan_batch(planner: Planner, path: Path) -> Draft:
    """Make one plan from all lines of a CSV file with the columns ``action,barcode,target``.

    Each patron may be changed only once, and a target must not move in the same file. So the order of the lines
    doesn't matter, and applying the same file again changes nothing.
    """
    all_lines = _read(path)
    lines = [line for line in all_lines if not line.problems]
    try:
        named = sorted({barcode for line in lines for barcode in (line.barcode, *line.targets)})
        basis = planner.basis(named, with_contacts=True)
    except GatewayError:
        _raise_problems(all_lines)  # report the problems already found
        raise
    for line in lines:
        line.problems += _patron_problems(line, basis)
    lines, cards = [line for line in lines if not line.problems], basis.families.cards
    steps: list[Step] = []
    origin: dict[tuple[int, str], int] = {}
    unchanged: list[str] = []
    for line in lines:
        targets = [cards[target] for target in line.targets]
        lead = line.target == "lead" if line.action == "remove" else line.target != "off"
        try:
            line_steps, line_unchanged = basis.steps(Action(line.action), cards[line.barcode], *targets, lead=lead)
        except PlanError as error:  # for example, a merge of a group with hidden members
            line.problems.append(error)
            continue
        unchanged += map(line.about, line_unchanged)
        for step in line_steps:
            earlier = origin.setdefault((step.patron_id, step.field), line.number)
            if earlier != line.number:
                line.problems.append(Message("line {line} already changes this patron", values={"line": earlier}))
        steps += line_steps
    for line in lines:
        for target in line.targets:
            if other := origin.get((cards[target].member.id, GROUP)):
                text = Message("line {line} moves the target; put that line in a separate file")
                line.problems.append(text.with_values({"line": other}))
    _raise_problems(all_lines)
    return basis.draft(Action.BATCH, steps, unchanged, cards=[cards[line.barcode] for line in lines])


def _raise_problems(lines: Iterable[BatchLine]) -> None:
    if found := tuple(line.about(problem) for line in lines for problem in line.problems):
        raise PlanError("nothing was changed; {problems}", code="batch-broken", values={"problems": found})
