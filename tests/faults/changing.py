"""Commands that write: changes to groups and recalculations, judged by the stored rows and by the journal."""

import re
import shutil
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from faults.reading import Clean, Reading
from faults.verdict import Ending, Judgement, judge_form
from faults.world import NEW, CommandResult, Injection, Place, Stores, World
from support.change_ids import change_id
from support.desk_page import card
from support.gateways import PASSWORD

from evergreen_groups.changes import PENALTIES, Journal, JournalEntry, JournalStep, StepState
from evergreen_groups.client import Client
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.gateway import Credentials
from evergreen_groups.state import State

Plan = Mapping[Place, Any]
"""The planned value of a patron's field, ``NEW`` for a new group, or the planned penalties in force."""


@dataclass(frozen=True)
class CleanChange(Clean):
    """What a change does without faults: its effects, and how many groups it creates."""

    plan: Plan
    groups_made: int


class Changing(Reading):
    """A command that changes data; ``first`` is a command to run before it, without faults."""

    def __init__(self, *words: str, first: Sequence[str] = (), rows: Sequence[str] = ()) -> None:
        super().__init__("consortium_staff", *words)
        self._first = tuple(first)
        self._rows = tuple(rows)
        self._can_be_undone = self.name != "audit"

    def _prepare(self, world: World) -> Path:
        """Return a directory with the state after everything that comes before the faults."""
        world.account = self.account
        directory = world.fresh()
        if self._rows:
            (directory / "batch.csv").write_text("\n".join(("action,barcode,target", *self._rows)) + "\n")
        if self._first:
            ran = world.command(directory, *self._first, "--yes")
            assert ran.status == 0, ran.errors + ran.escaped
        return directory

    def _run(self, world: World, directory: Path) -> CommandResult:
        """Run a command; ``#1`` in it is replaced by the id of the first change."""
        words = [str(directory / word) if word.endswith(".csv") else word for word in self.words]
        if "#1" in words:
            with State(directory / "state") as state:
                words[words.index("#1")] = change_id(Journal(state.database), 1)
        return world.command(directory, *words, "--yes")

    def clean(self, world: World) -> CleanChange:
        """Return what the command does without faults."""
        directory = self._prepare(world)
        before = world.stores()
        with world.watched() as traffic:
            ran = self._run(world, directory)
        assert ran.status == 0, f"{self}: {ran.errors} {ran.output} {ran.escaped}"
        after = world.stores()
        plan = after.changes_since(before)
        assert plan, f"{self} changes nothing"
        made = after.next_group - before.next_group
        return CleanChange(0, None, tuple(traffic.answers), directory, plan, made)

    def run(self, world: World, clean: Clean, injections: list[Injection], chance: Random) -> Judgement:
        """Run the command with faults, recover, then undo or complete it; judge after each step."""
        assert isinstance(clean, CleanChange)
        judgement = Judgement()
        directory = self._prepare(world)
        course = _Aftermath(world, directory, clean.plan, judgement, clean.groups_made)
        with world.faults(injections, chance) as traffic:
            ran = self._run(world, directory)
            course.doubled, course.moved_late = traffic.new_groups, traffic.moved_late
        judge_form(ran, judgement, endings=frozenset({0}), talks=self.name == "audit")
        course.judge("afterwards")
        if ran.status == 0 and course.left:
            judgement.add(Ending.UNTRUE, f"exit status 0, but not all is done: {course.left}")
        if chance.random() < 0.3:
            course.recover("recovered at once")
        elif chance.random() < 0.3:
            again = [Injection(it.kind, chance.randint(1, 5), it.times) for it in injections]
            with world.faults(again, chance):
                course.recover("recovered with the same faults", may_fail=True)
        world.proxy.let_go()
        course.judge("once all has come in", journal=False)
        world.later()
        course.recover("recovered")
        if course.open_steps:
            judgement.add(Ending.UNTRUE, f"still open: {course.open_steps}")
        if chance.random() < 0.5:
            course.complete(self, directory)
        elif self._can_be_undone:
            course.undo()
        shutil.rmtree(directory)
        return judgement


class _Aftermath:
    """The stored rows and the journal since the faults."""

    def __init__(self, world: World, directory: Path, plan: Plan, judgement: Judgement, groups: int) -> None:
        self._world = world
        self._directory = directory
        self._plan = plan
        self._judgement = judgement
        self._groups_due = groups
        self._before = world.stores()
        self._former_entries = {entry.id for entry in self._entries()}
        self.doubled = 0
        self.moved_late: set[int] = set()
        world.updates.clear()

    def _entries(self) -> list[JournalEntry]:
        with State(self._directory / "state") as state:
            return Journal(state.database).entries(self._world.proxy.url) if state.database.is_there else []

    @property
    def _steps(self) -> list[JournalStep]:
        return [step for entry in self._entries() if entry.id not in self._former_entries for step in entry.steps]

    @property
    def open_steps(self) -> list[str]:
        return [f"{step.patron} {step.field}: {step.reason}" for step in self._steps if step.state is StepState.SENDING]

    @property
    def _now(self) -> dict[Place, Any]:
        return self._world.stores().changes_since(self._before)

    @property
    def left(self) -> list[Place]:
        now = self._now
        return [place for place, value in self._plan.items() if now.get(place) != value]

    def judge(self, when: str, *, journal: bool = True) -> None:
        """Check that nothing else was written, and that the journal is right."""
        stores = self._world.stores()
        now = stores.changes_since(self._before)
        for place, value in now.items():
            if self._plan.get(place) != value:
                self._wrong(f"{when}: {place} became {value}, planned was {self._plan.get(place)}")
        strange = stores.foreign_since(self._before)
        if strange:
            self._wrong(f"{when}: {strange[:3]}")
        made = stores.next_group - self._before.next_group
        if made > self._groups_due + self.doubled:
            self._wrong(f"{when}: {made} groups made, planned were {self._groups_due}")
        planned = Counter(patron for (patron, _field), value in self._plan.items() if value is not NEW)
        for patron, times in Counter(self._world.updates).items():
            if times > planned[patron]:
                self._wrong(f"{when}: {patron} written {times} times, planned were {planned[patron]}")
        if journal:
            self._judge_journal(when, stores, now)

    def _wrong(self, detail: str) -> None:
        self._judgement.add(Ending.WRITE, detail)

    def _judge_journal(self, when: str, stores: Stores, now: Plan) -> None:
        for step in self._steps:
            place = (step.patron, step.field)
            if step.state is StepState.SENDING:
                continue
            if step.state is not StepState.DONE:
                is_true = place not in now
            elif step.field == PENALTIES:
                is_true = now.get(place) == self._plan.get(place)
            else:
                # If a duplicate request lands after the read-back, no client can know.
                moved_late = step.after is None and step.patron in self.moved_late
                is_true = place in now and (moved_late or stores.value(*place) == step.value)
            if not is_true:
                said = f"{step.state.value} ({step.value}, {step.reason})"
                self._judgement.add(Ending.UNTRUE, f"{when}: {place} became {now.get(place)}, the journal says {said}")

    def recover(self, when: str, *, may_fail: bool = False) -> None:
        """Resolve open steps, as the next run does first."""
        login = Credentials(username=self._world.account, password=PASSWORD)
        try:
            with (
                self._world.gateway(self._world.proxy.url, credentials=login) as gateway,
                State(self._directory / "state") as state,
            ):
                Client(gateway, account="consortium_staff", state=state).changes.recover()
        except EvergreenGroupsError as error:
            if not may_fail:
                self._judgement.add(Ending.BAD_ERROR, f"{when}: {error}")
        except Exception:
            self._judgement.add(Ending.TRACEBACK, f"{when}: {traceback.format_exc()[-1500:]}")
        self.judge(when)

    def complete(self, change: Changing, directory: Path) -> None:
        """Run the same command again: it does the rest, unless something conflicts by now."""
        ran = change._run(self._world, directory)
        if ran.escaped:
            self._judgement.add(Ending.TRACEBACK, f"again: {ran.escaped[-1000:]}")
        self._groups_due += sum(value is NEW for value in self._plan.values())  # removing works from any group
        now = self._now
        for place, value in self._plan.items():
            if now.get(place) != value:
                self._judgement.add(
                    Ending.UNTRUE, f"again: {place} is {now.get(place)}, not {value}; {ran.output[-300:]}"
                )

    def undo(self) -> None:
        """Check that undo restores what the journal has as done, and nothing else."""
        entries = [entry for entry in self._entries() if entry.id not in self._former_entries]
        self._world.updates.clear()
        for entry in entries:
            ran = self._world.command(self._directory, "undo", str(entry.id), "--yes")
            nothing = ran.status == 1 and re.search(r"nothing to undo in change|is already undone", ran.errors)
            if ran.escaped or (ran.status != 0 and not nothing):
                self._judgement.add(Ending.UNTRUE, f"undo: exit status {ran.status}, {ran.errors}{ran.escaped[-800:]}")
        left = self._now
        if left:
            self._judgement.add(Ending.UNTRUE, f"undo left {left}")


CHANGES: tuple[Changing, ...] = (
    Changing("move", card(1052), "--to", card(1007)),
    Changing("move", card(1052), card(1053), "--to", card(1007)),
    Changing("remove", card(1052)),
    Changing("remove", card(1052), card(1028), "--lead"),
    Changing("merge", "--from", card(1043), "--to", card(1047)),
    Changing("lead", card(1002)),
    Changing("lead", card(1001), "--off"),
    Changing(
        "batch",
        "batch.csv",
        rows=(
            f"move,{card(1052)},{card(1007)}",
            f"remove,{card(1028)},",
            f"lead,{card(1013)},on",
            f"merge,{card(1043)},{card(1047)}",
        ),
    ),
    Changing("undo", "#1", first=("move", card(1052), card(1053), "--to", card(1007))),
    Changing("undo", "#1", first=("remove", card(1052))),
    Changing("audit", "--fix"),
)
