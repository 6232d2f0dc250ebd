"""Batch files: read and check a CSV file of changes, and turn its lines into one plan."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One line of a batch file. ``number`` counts from 1 and includes the header."""

    number: int
    action: str
    barcode: str
    target: str


def _read(path: Path) -> tuple[list[BatchLine], list[Message]]:
    """Read the valid lines of a CSV file in UTF-8, and the problems with the others."""
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
    filled = ((number, [cell.strip() for cell in row]) for number, row in enumerate(rows[1:], 2) if any(row))
    lines: list[BatchLine] = []
    problems: list[Message] = []
    for number, cells in filled:
        action, barcode, target = (*cells, "", "", "")[:3]
        line = BatchLine(number, action.casefold(), barcode, target)
        found = [_with_line(line, problem) for problem in _format_problems(line)]
        problems += found
        lines += () if found else (line,)
    return lines, problems


def _format_problems(line: BatchLine) -> Iterator[Message]:
    if line.action not in ("move", "remove", "merge", "lead"):
        yield Message("the action must be one of: {allowed}", values={"allowed": "move, remove, merge, lead"})
        return
    if not line.barcode:
        yield Message("the barcode is missing")
    if line.action in ("move", "merge") and not line.target:
        text = Message("{action} needs the barcode of a member of the other group as target")
        yield Message(text, values={"action": line.action})
    if line.action == "remove" and line.target not in ("", "lead"):
        yield Message(_TARGET, values={"allowed": "lead"})
    if line.action == "lead" and line.target not in ("", "on", "off"):
        yield Message(_TARGET, values={"allowed": "on, off"})


def plan_batch(planner: Planner, path: Path) -> Draft:
    """Make one plan from all lines of a CSV file with the columns ``action,barcode,target``.

    Each patron may be changed only once, and a target must not move in the same file. So the order of the lines
    doesn't matter, and applying the same file again changes nothing.
    """
    well_formed, problems = _read(path)
    named = {barcode for line in well_formed for barcode in (line.barcode, *_target(line))}
    try:
        basis = planner.basis(sorted(named))
    except GatewayError:
        _raise_problems(problems)  # report the problems already found
        raise
    cards = basis.families.cards
    lines: list[BatchLine] = []
    for line in well_formed:
        found = [_with_line(line, problem) for problem in _patron_problems(line, basis)]
        problems += found
        lines += () if found else (line,)
    steps: list[Step] = []
    origin: dict[tuple[int, str], int] = {}
    unchanged: list[str] = []
    for line in lines:
        try:
            targets = [cards[target] for target in _target(line)]
            lead = line.target == "lead" if line.action == "remove" else line.target != "off"
            line_steps, line_unchanged = basis.steps(Action(line.action), cards[line.barcode], *targets, lead=lead)
        except PlanError as error:  # for example, a merge of a group with hidden members
            problems.append(_with_line(line, error))
            continue
        unchanged.extend(_with_line(line, text) for text in line_unchanged)
        for step in line_steps:
            earlier = origin.setdefault((step.member.id, step.field), line.number)
            if earlier != line.number:
                text = Message("line {line} already changes this patron", values={"line": earlier})
                problems.append(_with_line(line, text))
        steps.extend(line_steps)
    moving = {step.member.id: origin[step.member.id, GROUP] for step in steps if step.field == GROUP}
    for line in lines:
        if line.action in ("move", "merge") and cards[line.target].member.id in moving:
            other = moving[cards[line.target].member.id]
            text = Message("line {line} moves the target; put that line in a separate file", values={"line": other})
            problems.append(_with_line(line, text))
    _raise_problems(problems)
    return basis.draft(Action.BATCH, steps, unchanged, cards=[cards[line.barcode] for line in lines])


def _target(line: BatchLine) -> tuple[str, ...]:
    """Return the barcode in the line's target, for actions whose target is a barcode."""
    return (line.target,) if line.action in ("move", "merge") else ()


def _patron_problems(line: BatchLine, basis: PlanBasis) -> Iterator[Message]:
    """Yield the problems with the patrons that a line names."""
    if line.barcode not in basis.families.cards:
        yield Message("no visible patron has this barcode")
    if basis.is_deleted(line.barcode):
        yield Message("the patron is deleted")
    for target in _target(line):
        if target not in basis.families.cards:
            yield Message(_ABOUT_TARGET, values={"problem": Message("no visible patron has this barcode")})
        if basis.is_deleted(target):
            yield Message(_ABOUT_TARGET, values={"problem": Message("the patron is deleted")})


def _raise_problems(problems: Iterable[Message]) -> None:
    found = sorted(problems, key=lambda problem: int(str(problem.values["line"])))
    if found:
        raise PlanError("nothing was changed; {problems}", code="batch-broken", values={"problems": tuple(found)})


def _with_line(line: BatchLine, text: object) -> Message:
    return Message("line {line}: {text}", values={"line": line.number, "text": text})
