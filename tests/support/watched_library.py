"""A library where the command runs, is killed, or runs out of disk space, while its writes are recorded."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support.change_ids import change_id
from support.fault_proxy import Call, FaultProxy, HttpAnswer
from support.gateways import environ_of
from support.killable import KILLED, ORDINARY, Killable, Run, World

from evergreen_groups import exit_status
from evergreen_groups.changes import Journal, JournalStep, StepState
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, examine
from evergreen_groups.state.database import FILE_NAME

UPDATE, NEW_GROUP = "open-ils.actor.patron.update", "open-ils.actor.usergroup.new"
Target = Mapping[tuple[int, str], int | None]
"""The expected result of a command, by patron id and field; None means a new group."""

_LATE = 1800.0  # seconds after which no request can land any more
_FLAGS = {"t": 1, "f": 0}
_SAID = re.compile(r"^(\d+) of \d+ changes? done", re.MULTILINE)
_ALREADY_UNDONE = re.compile(r"^evergreen-groups: change \S+ is already undone$", re.MULTILINE)
_FILES = re.compile(rf"{re.escape(FILE_NAME)}(-wal|-shm)?|.*\.lock")


class WatchedLibrary:
    """The sandbox behind a proxy, and a state directory that can be restored."""

    def __init__(self, killable: Killable, sandbox: Sandbox, proxy: FaultProxy, directory: Path) -> None:
        self._killable = killable
        self._sandbox = sandbox
        self._proxy = proxy
        self._kept = directory / "kept"
        self.directory = directory
        self.state = directory / "library" / "state"
        self.state.mkdir(mode=0o700, parents=True)
        self.environ = {**environ_of(proxy.url), "STATE_DIRECTORY": str(self.state)}
        self._writes: Counter[int] = Counter()
        self._before: dict[int, dict[str, Any]] = {}
        self._former_entries: set[str] = set()
        self._preparation: tuple[str, ...] | None = None
        self.put_back: Callable[[], None] = lambda: None
        """Restores other things that a test uses."""
        proxy.carried_out = self._carried_out

    def prepare(self, *words: str) -> None:
        """Run a command before each recorded one."""
        self._preparation = words
        self.keep()
        self.again()

    def keep(self) -> None:
        """Save the current state directory, for :meth:`again`."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.state, self._kept, symlinks=True)

    def again(self) -> None:
        """Restore the state directory and the ILS's data, and start recording."""
        self._sandbox.reset()
        self.put_back()
        for path in self.state.iterdir():  # not the directory itself, which may be a small disk
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._kept, self.state, symlinks=True, dirs_exist_ok=True)
        if self._preparation is not None:
            assert self.run(*self._preparation).status == exit_status.DONE
        self._before = self._people()
        self._writes.clear()
        self._former_entries = set(self._entries())

    def run(self, *words: str, world: World = ORDINARY) -> Run:
        """Run the command, and let all its requests land. ``#1`` is replaced by the id of change 1."""
        run = self._killable(*self.with_ids(words), environ=self.environ, world=world)
        self._proxy.settle()
        return run

    def with_ids(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Replace each ``#1`` by the id of change 1. Reads the database."""
        if not any(word.startswith("#") for word in words):
            return words
        with State(self.state) as state:
            journal = Journal(state.database)
            return tuple(change_id(journal, int(word[1:])) if word.startswith("#") else word for word in words)

    def check_journal(self, run: Run, target: Target) -> None:
        """Check that reported changes are done, the journal matches the ILS, and no other patron was changed."""
        steps = self._new_steps()
        done = [step for step in steps if step.state is StepState.DONE]
        said = sum(int(number) for number in _SAID.findall(run.output))
        assert said <= len(done), run
        if run.status == exit_status.DONE and target:
            assert Counter((step.patron, step.field) for step in done) == Counter(list(target))
        people = self._people()
        for step in done:
            value = step.after if step.value is None else step.value
            assert _number(people[step.patron][step.field]) == value, step
        attempted = {(step.patron, step.field) for step in steps if step.state is not StepState.PLANNED}
        for patron, before in self._before.items():
            changed = {name for name, value in people[patron].items() if value != before[name]}
            written = {field for one, field in attempted if one == patron}
            assert changed <= {"last_xact_id", "last_update_time"} | written
        # Each once, however often the command was killed, as far as the journal knows yet.
        assert all(count == 1 for count in self._writes.values()), self._writes
        assert set(self._writes) <= {patron for patron, _field in attempted}

    def check_next_run(self, words: tuple[str, ...], target: Target, ahead: float = _LATE) -> None:
        """Check that the same command does the rest, once, and leaves nothing open."""
        run = self.run(*words, world=World(ahead=ahead))
        self.check_journal(Run(exit_status.FAILED, run.output, run.errors, run.steps), target)
        if not _is_complete(run):
            assert ahead < _LATE, run  # a request may still land
            assert "Traceback" not in run.errors
            run = self.run(*words, world=World(ahead=_LATE))
        assert _is_complete(run), run
        self.check_whole()
        self.check_journal(Run(exit_status.FAILED, run.output, run.errors, run.steps), target)
        done = Counter((step.patron, step.field) for step in self._new_steps() if step.state is StepState.DONE)
        assert done == Counter(list(target))
        assert Counter(patron for patron, _field in target) == self._writes
        people = self._people()
        for (patron, field), value in target.items():
            found = _number(people[patron][field])
            if value is None:
                assert found not in {row["usrgroup"] for row in self._before.values()}
            else:
                assert found == value
        assert all(step.state is not StepState.SENDING for step in self._new_steps())
        self.check_names()

    def check_whole(self) -> None:
        """Check that SQLite finds no damage in the database, if there is one."""
        with State(self.state) as state:
            if (self.state / FILE_NAME).exists():
                examine(state.database, thoroughly=True)

    def check_names(self, *others: str) -> None:
        """Check that the state directory has only its own files, and ``others``."""
        names = {path.name for path in self.state.iterdir()} - set(others)
        assert [name for name in sorted(names) if not _FILES.fullmatch(name)] == [], sorted(names)

    def _entries(self) -> dict[str, tuple[JournalStep, ...]]:
        if not (self.state / FILE_NAME).exists():
            return {}
        with State(self.state) as state:
            return {entry.id: entry.steps for entry in Journal(state.database).entries(self._proxy.url)}

    def _new_steps(self) -> list[JournalStep]:
        return [step for id, steps in self._entries().items() if id not in self._former_entries for step in steps]

    def _people(self) -> dict[int, dict[str, Any]]:
        return {row["id"]: dict(row) for row in self._sandbox._store.rows("au", {})}

    def _carried_out(self, call: Call, answer: HttpAnswer) -> None:
        if call.method not in (UPDATE, NEW_GROUP):
            return
        payload = json.loads(answer.body)["payload"]
        if payload and not (isinstance(payload[0], dict) and "ilsevent" in payload[0]):
            patron = call.parameters[1]
            self._writes[patron["__p"][28] if call.method == UPDATE else patron] += 1


def _is_complete(run: Run) -> bool:
    """Return whether nothing is left to do. An undo that an earlier run completed is refused."""
    return run.status == exit_status.DONE or bool(_ALREADY_UNDONE.search(run.errors))


def _number(value: Any) -> int:
    return int(_FLAGS.get(value, value))


def check_errors(run: Run, advice: str = "free up disk space") -> None:
    """Check that each error is one line, and that one of them gives advice."""
    assert run.status not in (exit_status.DONE, KILLED), run
    assert "Traceback" not in run.errors
    lines = run.errors.splitlines()
    assert all(line.startswith("evergreen-groups: ") for line in lines), run.errors
    assert advice in run.errors, run.errors
