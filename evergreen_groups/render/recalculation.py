"""Recalculations of penalties, before and after, in words for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from evergreen_groups.findings import PersonFinding
from evergreen_groups.journal import State
from evergreen_groups.recalculation import Recalculated, Recalculations
from evergreen_groups.render.audit.listing import person_heading
from evergreen_groups.render.audit.words import HEADINGS, person_words
from evergreen_groups.render.wording import counted


def write_plan(findings: Sequence[PersonFinding], stream: TextIO) -> None:
    """Write whose penalties would be recalculated, and why."""
    stream.writelines(f"{line}\n" for line in _plan(findings))


def _plan(findings: Sequence[PersonFinding]) -> Iterator[str]:
    if not findings:
        yield "Nobody's penalties need to be recalculated."
        return
    yield f"Recalculate the penalties of {counted(len(findings), 'patron')}, as the ILS does at their home libraries:"
    for finding in findings:
        yield f"  {person_heading(finding)}"
        yield f"    {HEADINGS[finding.kind]}: {person_words(finding)}"


def write_outcome(outcome: Recalculations, stream: TextIO) -> None:
    """Write what changed for whom, and what didn't and why."""
    stream.writelines(f"{line}\n" for line in _outcome(outcome))


def _outcome(outcome: Recalculations) -> Iterator[str]:
    settled = sum(person.settled for person in outcome.people)
    yield f"{settled} of {counted(len(outcome.people), 'finding')} settled."
    for person in outcome.people:
        yield f"  {person_heading(person.finding)}: {_what(person)}"


def _what(person: Recalculated) -> str:
    words = {State.NOT_DONE: "left out: ", State.FAILED: "failed: ", State.SENDING: "not known yet: "}
    return words.get(person.state, "") + person.reason
