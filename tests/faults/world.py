"""The world of a run with faults: a sandbox and its data, the proxy in front of it, and commands in this process."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal
from unittest.mock import patch

from faults.kinds import Bank, Kind, Moment, as_of_rust, result_of
from support.fault_proxy import Call, Fault, FaultProxy, HttpAnswer, fault_proxy
from support.gateways import environ_of

from evergreen_groups import gateway as gateways
from evergreen_groups.changes import PENALTIES
from evergreen_groups.cli import logs
from evergreen_groups.cli.application import run
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.database import idl_classes
from evergreen_groups.settings import reading as load
from evergreen_groups.state.database import Database

QUICK = RetryPolicy(tries=4, first_delay=0.0005, longest_delay=0.001, total_seconds=20.0)
UPDATE, NEW_GROUP = "open-ils.actor.patron.update", "open-ils.actor.usergroup.new"
RECALCULATE = "open-ils.actor.user.penalties.update_at_home"
LOGIN, LOGOUT = "open-ils.auth.login", "open-ils.auth.session.delete"
WRITES = (UPDATE, NEW_GROUP, RECALCULATE)
_MEMORY = Path("/dev/shm")
_LATER = timedelta(hours=2)

Exchange = tuple[Call, HttpAnswer]

NEW = "a new group"
FIELDS = ("usrgroup", "master_account")
_COMES_WITH_EVERY_CHANGE = {"last_xact_id", "last_update_time", "_position"}
_ANOTHER_MATTER = ("ausp", "aum")
_VOLATILE_TABLES = ("about", "sequences", "sqlite_stat1", "sqlite_sequence")

Place = tuple[int, str]
"""A patron's id and a field; the field ``penalties`` means the penalties in force."""


@dataclass(frozen=True)
class Stores:
    """All rows by table and key, the columns of each table, and the number of the next new group."""

    rows: dict[str, dict[Any, tuple[Any, ...]]]
    columns: dict[str, list[str]]
    next_group: int

    @classmethod
    def of(cls, sandbox: Sandbox) -> Stores:
        connection = sandbox._store.read()
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows: dict[str, dict[Any, tuple[Any, ...]]] = {}
        columns: dict[str, list[str]] = {}
        for table in tables:
            if table not in _VOLATILE_TABLES:
                found = connection.execute(f'SELECT * FROM "{table}"')
                columns[table] = names = [column[0] for column in found.description]
                key = names.index("id") if "id" in names else None
                rows[table] = {(row if key is None else row[key]): row for row in found}
        asked = "SELECT next FROM sequences WHERE name = 'actor.usr_usrgroup_seq'"
        return cls(rows, columns, int(connection.execute(asked).fetchone()[0]))

    def value(self, patron: int, field: str) -> int:
        return int(self.rows["au"][patron][self.columns["au"].index(field)])

    def penalties(self) -> dict[int, frozenset[tuple[Any, ...]]]:
        """Return the penalties in force by patron, without what differs when the same penalty is set again."""
        found: dict[int, set[tuple[Any, ...]]] = {}
        for row in self.rows["ausp"].values():
            values = dict(zip(self.columns["ausp"], row, strict=True))
            if values["stop_date"] is None:
                kind = (values["standing_penalty"], values["org_unit"], values["staff"])
                found.setdefault(values["usr"], set()).add(kind)
        return {patron: frozenset(kinds) for patron, kinds in found.items()}

    def changes_since(self, before: Stores) -> dict[Place, Any]:
        """Return the differences in groups, leads and penalties, with ``NEW`` for a group that didn't exist."""
        found: dict[Place, Any] = {}
        for patron in self.rows["au"]:
            for name in FIELDS:
                value = self.value(patron, name)
                if value != before.value(patron, name):
                    found[patron, name] = NEW if name == "usrgroup" and value >= before.next_group else value
        was, now = before.penalties(), self.penalties()
        for patron in {*was, *now}:
            if was.get(patron) != now.get(patron):
                found[patron, PENALTIES] = now.get(patron, frozenset())
        return found

    def foreign_since(self, before: Stores) -> list[str]:
        """Return all other differences."""
        patrons = {patron for patron, _field in self.changes_since(before)}
        found = []
        for table, rows in self.rows.items():
            if table in _ANOTHER_MATTER:
                continue
            for key in {**before.rows[table], **rows}:
                was, now = before.rows[table].get(key), rows.get(key)
                if was is None or now is None:
                    found.append(f"{table} {key} {'is new' if was is None else 'is gone'}")
                    continue
                known = {*FIELDS, *(_COMES_WITH_EVERY_CHANGE if key in patrons else ())} if table == "au" else ()
                for name, one, other in zip(self.columns[table], was, now, strict=True):
                    if one != other and name not in known:
                        found.append(f"{table} {key}: {name} {one!r} became {other!r}")
        return found


@dataclass(frozen=True)
class Injection:
    """A fault in call number ``at`` of a run, and in the ``times`` - 1 calls after it.

    With ``method``, only its calls count.
    """

    kind: Kind
    at: int
    times: int
    method: str | None = None

    def __str__(self) -> str:
        which = f" of {self.method}" if self.method else ""
        return f"{self.kind} at call {self.at}{which}, {self.times} times"


@dataclass
class CommandResult:
    """A command's output and exit status. ``escaped`` is the traceback of an exception that it should have caught."""

    status: int
    output: str
    errors: str
    seconds: float
    escaped: str = ""


@dataclass
class Traffic:
    """The traffic while faults were active."""

    injections: list[Injection] = field(default_factory=list)
    chance: Random = field(default_factory=Random)
    calls: list[str] = field(default_factory=list)
    answers: list[Exchange] = field(default_factory=list)
    """Responses to learn from."""
    new_groups: int = 0
    """The number of duplicated requests for a new group."""
    moved_late: set[int] = field(default_factory=set)
    """Patrons moved again by the late duplicate of a request."""


class World:
    """A sandbox with fresh data for each run, with responses without faults to compare with.

    ``release`` and ``gateway`` say what to imitate. With ``replica``, plain reads come from one that never catches
    up.
    """

    def __init__(
        self, release: str | None = None, gateway: Literal["apache", "rust"] = "apache", *, replica: bool = False
    ) -> None:
        self._rust = gateway == "rust"
        self._stack = ExitStack()
        memory = _MEMORY if _MEMORY.is_dir() else None  # the many journals needn't survive a crash of the machine
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory("", "evergreen-faults-", memory)))
        differences = ("replica",) if replica else ()
        self.sandbox = self._stack.enter_context(
            Sandbox(
                release=release, gateway=gateway, worker_requests=1, differences=differences, replica_delay=math.inf
            )
        )
        self.proxy: FaultProxy = self._stack.enter_context(fault_proxy(self.sandbox.url))
        self.bank = Bank()
        self.traffic = Traffic()
        self.seconds, self.grace = 20.0, 5.0
        self.now = datetime.now(UTC)
        self.account = "consortium_staff"
        self.hit: list[str] = []
        """The methods of the calls hit by a fault; empty for the IDL."""
        self.stray_tracebacks: list[str] = []
        """Tracebacks of other threads, and of unexpected exceptions."""
        self.updates: list[int] = []
        """The ids of the records that the server wrote, once per write."""
        self._learning = False
        self._local = threading.local()  # each connection of the proxy has a thread
        self.proxy.decide = self._decide
        self.proxy.instead = self._instead
        self.proxy.alter = self._alter
        self.proxy.carried_out = self._carried_out
        package, handler = logging.getLogger("evergreen_groups"), logging.NullHandler()  # unless a command logs
        package.addHandler(handler)
        self._stack.callback(package.removeHandler, handler)
        self.gateway = _with_short_timeouts(self)
        self._stack.enter_context(patch.object(gateways, "Gateway", self.gateway))
        self._stack.enter_context(patch.object(logs, "report_bug", self._unforeseen))
        self._stack.enter_context(patch.object(Database, "now", lambda _: self.now))
        self._stack.enter_context(patch.object(threading, "excepthook", self._stray))
        self._made = 0

    def close(self) -> None:
        self._stack.close()

    def _unforeseen(self, error: Exception) -> None:
        self.stray_tracebacks.append("".join(traceback.format_exception(error)))

    def _stray(self, problem: Any) -> None:
        self.stray_tracebacks.append("".join(traceback.format_exception(problem.exc_value)))

    # Requests and responses.

    def _decide(self, call: Call) -> Fault:
        traffic = self.traffic
        traffic.calls.append(call.method)
        if call.method == LOGOUT:
            self.proxy.let_copies_go()  # which do nothing after the session has ended
        number = len(traffic.calls)
        found = Fault.NONE
        self._local.due = None
        for place, injection in enumerate(traffic.injections):
            methods = {injection.method, injection.kind.method} - {None}
            if number < injection.at or injection.times <= 0 or methods - {call.method}:
                continue
            traffic.injections[place] = Injection(injection.kind, injection.at, injection.times - 1, injection.method)
            if injection.kind.delivery is not None:
                found = injection.kind.delivery
                self.hit.append(call.method)
                doubled = found in (Fault.REQUEST_TWICE, Fault.REQUEST_REPEATED, Fault.LATE_COPY)
                traffic.new_groups += doubled and call.method == NEW_GROUP
                if found is Fault.LATE_COPY:
                    traffic.moved_late.add(int(call.parameters[1]))
            else:
                self._local.due = injection
            break
        return found

    def _instead(self, call: Call) -> HttpAnswer | None:
        """Return the false response to a request that the server doesn't execute."""
        due = self._local.due
        if due is None:
            return None
        done = due.kind.carried_out
        if done is None:
            done = call.method not in WRITES or self.traffic.chance.random() < 0.6
        return None if done else self._altered(due, call, HttpAnswer(b""))

    def _alter(self, call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        return None if self._local.due is None else self._altered(self._local.due, call, answer)

    def _altered(self, injection: Injection, call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        assert injection.kind.alter is not None
        altered = injection.kind.alter(Moment(self.traffic.chance, call, answer, self.bank))
        if altered is None:
            return None
        self.hit.append(call.method)
        return as_of_rust(altered) if self._rust else altered

    def _carried_out(self, call: Call, answer: HttpAnswer) -> None:
        result = result_of(answer) if call.method == UPDATE else None
        if isinstance(result, dict) and result.get("__c") == "au":
            self.updates.append(int(call.parameters[1]["__p"][idl_classes()["au"].positions["id"]]))
        if self._learning:
            self.bank.learn(answer)
            self.traffic.answers.append((call, answer))
        elif call.method:
            self.bank.earlier.append(answer.body)

    @contextmanager
    def faults(self, injections: list[Injection], chance: Random) -> Iterator[Traffic]:
        self.traffic = Traffic(list(injections), chance)
        self.bank.earlier.clear()
        try:
            yield self.traffic
        finally:
            self.traffic = Traffic()
            self.proxy.forget()

    @contextmanager
    def watched(self) -> Iterator[Traffic]:
        """Record the block's calls and responses, without faults, and learn from them."""
        self.traffic = Traffic()
        self._learning = True
        try:
            yield self.traffic
        finally:
            self.traffic = Traffic()
            self._learning = False

    # Commands.

    def fresh(self, *, state: Path | None = None) -> Path:
        """Restore the fresh data, and return a directory for one run, with a copy of a state."""
        self.sandbox.reset()
        self.now = datetime.now(UTC)
        self._made += 1
        directory = self.directory / f"run{self._made}"
        directory.mkdir()
        if state is not None and state.exists():
            shutil.copytree(state, directory / "state")
        return directory

    def later(self) -> None:
        """Let enough time pass that no request can land any more."""
        self.now += _LATER

    @contextmanager
    def environment(self, directory: Path) -> Iterator[None]:
        environ = {
            **environ_of(self.proxy.url, self.account),
            "HOME": str(directory),
            "COLUMNS": "80",
            "STATE_DIRECTORY": str(directory / "state"),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGREEN_", "XDG_"))}
        with (
            patch.dict(os.environ, {**kept, **environ}, clear=True),
            patch.object(load, "SYSTEM_FILE", directory / "no-configuration"),
        ):
            yield

    def command(self, directory: Path, *words: str) -> CommandResult:
        output, errors = io.StringIO(), io.StringIO()
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        escaped, status = "", 1
        began = time.monotonic()
        with self.environment(directory), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                status = run(list(words))
            except SystemExit as leaving:
                status = leaving.code if isinstance(leaving.code, int) else 1
            except Exception:
                escaped = traceback.format_exc()
        seconds = time.monotonic() - began
        root.handlers[:] = handlers
        root.setLevel(level)
        if self.stray_tracebacks:
            escaped += "".join(self.stray_tracebacks)
            self.stray_tracebacks.clear()
        return CommandResult(status, output.getvalue(), errors.getvalue(), seconds, escaped)

    def stores(self) -> Stores:
        return Stores.of(self.sandbox)


def _with_short_timeouts(world: World) -> type[Gateway]:
    """Return a gateway class with short timeouts; a class, because the client checks the type."""

    class ImpatientGateway(Gateway):
        def __init__(self, url: str, **options: Any) -> None:
            quick = {"timeout": world.seconds, "grace": world.grace, "concurrency": 1, "retries": QUICK}
            super().__init__(url, **{**options, **quick})

    return ImpatientGateway
