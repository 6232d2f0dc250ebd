"""Which of the groups that owe enough a report lists, by what they owe it for and who they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.report.blocks import FinesBlocks
    from evergreen_groups.report.details import ReportDetails

Verdict = bool | None
"""Whether a group fits; None where what the account sees doesn't tell."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a group must be besides owing enough; nothing of it: every group is listed.

    ``owing_since`` is a number of days: something has been owed for that long. ``kinds`` are names of kinds of bills
    (:meth:`BillKind.is_called <evergreen_groups.ils.BillKind.is_called>`), one of which somebody owes for.
    ``with_items_out`` asks for overdue items that can still be returned, ``with_juvenile`` for a member whose record
    says so, ``profiles`` (names) for a member with one of these profiles or one below them. ``over_limit`` True asks
    for somebody over their own limit, False for nobody. ``blocked`` asks for somebody who is blocked for fines in
    Evergreen.
    """

    owing_since: int | None = None
    kinds: tuple[str, ...] = ()
    with_items_out: bool = False
    with_juvenile: bool = False
    over_limit: bool | None = None
    blocked: bool = False
    profiles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values of other types. Raises ArgumentError."""
        arguments.whole_or_none("owing_since", self.owing_since)
        arguments.texts("kinds", self.kinds)
        arguments.texts("profiles", self.profiles)
        for name in ("with_items_out", "with_juvenile", "blocked"):
            arguments.truth(name, getattr(self, name))
        if self.over_limit is not None:
            arguments.truth("over_limit", self.over_limit)

    @property
    def needs_details(self) -> bool:
        """Whether it's about something that is read with the details alone."""
        asked = (self.kinds, self.with_items_out, self.with_juvenile, self.profiles)
        return self.owing_since is not None or any(asked)

    def document(self) -> dict[str, Any]:
        """What is asked for, by name, for programs and for the history; empty where nothing is."""
        nothing = Choice()
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: sorted(map(str.casefold, value)) if isinstance(value, tuple) else value
            for name, value in asked.items()
            if value != getattr(nothing, name)
        }


@dataclass(frozen=True, slots=True)
class Chooser:
    """Judges groups by a choice; ``now`` is aware. ``details`` may be None where the choice needs none."""

    choice: Choice
    details: ReportDetails | None
    blocks: FinesBlocks
    now: datetime

    def fits(self, group: Group) -> Verdict:
        """Whether a group is one of those asked for; it isn't known as long as nothing speaks against it."""
        verdicts = list(self._verdicts(group))
        if False in verdicts:
            return False
        return None if None in verdicts else True

    def _verdicts(self, group: Group) -> Iterator[Verdict]:
        choice = self.choice
        if choice.over_limit is not None:
            somebody = _somebody(group.over_limit_count.at_least > 0, group.complete)
            yield somebody if choice.over_limit or somebody is None else not somebody
        if choice.blocked:
            blocked = any(self.blocks.standing(member).blocked_for_fines for member in group.members)
            yield _somebody(blocked, group.complete)
        if self.details is not None and choice.needs_details:
            yield from self._verdicts_by_details(group, self.details)

    def _verdicts_by_details(self, group: Group, details: ReportDetails) -> Iterator[Verdict]:
        choice, found = self.choice, details.of_group(group)
        if choice.owing_since is not None:
            since = found.owing_since
            yield _somebody(since is not None and since <= self.now - timedelta(choice.owing_since), found.certain)
        if choice.kinds:
            owed = any(kind.is_called(name) for kind in found.owed_kinds for name in choice.kinds)
            yield _somebody(owed, found.certain)
        if choice.with_items_out:
            yield found.returnable
        if choice.with_juvenile:
            juvenile = any(details.of(member).state.juvenile for member in group.members)
            yield _somebody(juvenile, group.complete)
        if choice.profiles:
            wanted = details.profiles.named(choice.profiles)
            yield _somebody(any(member.patron.profile in wanted for member in group.members), group.complete)


def _somebody(found: bool, everybody_known: bool) -> Verdict:
    """Whether there is somebody, of whom it's known where they are visible; nobody is, where everybody is."""
    return True if found else False if everybody_known else None
