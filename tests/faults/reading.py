"""Commands that read: the report, the audit, show and check, compared to runs without faults."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from faults.verdict import Ending, Judgement, judge_form
from faults.world import CommandResult, Exchange, Injection, World
from support.conversation import differences

from evergreen_groups import exit_status
from evergreen_groups.gateway import pcrud as rows_by_values
from evergreen_groups.groups.search import GroupSearch

_VOLATILE = {"generated_at", "gateway", "since", "trend"}
INCOMPLETE = "shown as incomplete"


@dataclass(frozen=True)
class Clean:
    """A run without faults: its output, exit status and calls, and the files it leaves."""

    status: int
    document: Any
    exchanges: tuple[Exchange, ...]
    state: Path


@contextmanager
def small_pages() -> Iterator[None]:
    """Read ranges and lists in pages of a few rows."""
    with (
        patch.dict(GroupSearch.__init__.__kwdefaults__, page=9),
        patch.object(rows_by_values, "LARGEST_LIST", 7),
        patch.object(rows_by_values, "LIST_OF_SLOW_ROWS", 7),
    ):
        yield


class Reading:
    """A command that reads, for an account; with ``small_pages``, it reads several pages.

    ``again`` is how often it is asked again after the faults.
    """

    is_refused = False

    def __init__(self, account: str, *words: str, small_pages: bool = False) -> None:
        self.account = account
        self.words = words
        self._small_pages = small_pages
        self.again = 0.5 if self.name == "report" else 0.2  # a report saves something for the next run

    def __str__(self) -> str:
        return f"{' '.join(self.words)} as {self.account}{' in small pages' if self._small_pages else ''}"

    @property
    def name(self) -> str:
        return self.words[0]

    def _run(self, world: World, directory: Path) -> CommandResult:
        with small_pages() if self._small_pages else nullcontext():
            return world.command(directory, *self.words, "--format", "json")

    @contextmanager
    def _asking(self, world: World, directory: Path) -> Iterator[Callable[[], CommandResult]]:
        """Yield a function that asks, for the first time or again."""
        world.account = self.account
        yield lambda: self._run(world, directory)

    def clean(self, world: World) -> Clean:
        """Return what the second run without faults does."""
        directory = world.fresh()
        with self._asking(world, directory) as ask:
            ask()
        with self._asking(world, directory) as ask, world.watched() as traffic:
            ran = ask()
        assert not ran.escaped, ran.escaped
        assert bool(ran.output) is not self.is_refused, f"{self}: {ran.errors}"
        document = plain(json.loads(ran.output)) if ran.output else None
        return Clean(ran.status, document, tuple(traffic.answers), directory / "state")

    def run(self, world: World, clean: Clean, injections: list[Injection], chance: Random) -> Judgement:
        """Ask with faults, then perhaps without: nothing is written, and nothing malformed is stored."""
        judgement = Judgement()
        again = chance.random() < self.again
        directory = world.fresh(state=clean.state)
        with self._asking(world, directory) as ask:
            before = world.stores()
            with world.faults(injections, chance):
                ran = ask()
            self._judge(ran, clean, judgement)
            if again:
                self._pass_time(injections)
                was_incomplete = (Ending.ERROR, INCOMPLETE) in judgement.found
                self._judge(ask(), clean, judgement, afterwards=True, was_incomplete=was_incomplete)
            if world.stores() != before:
                judgement.add(Ending.WRITE, "something was written")
        shutil.rmtree(directory)
        return judgement

    def _pass_time(self, injections: list[Injection]) -> None:
        pass

    def _judge(
        self,
        ran: CommandResult,
        clean: Clean,
        judgement: Judgement,
        *,
        afterwards: bool = False,
        was_incomplete: bool = False,
    ) -> None:
        judge_form(ran, judgement, endings=frozenset({clean.status}))
        if ran.escaped:
            return
        document = None
        if ran.output.strip():
            try:
                document = plain(json.loads(ran.output))
            except ValueError:
                judgement.add(Ending.BAD_ERROR, f"output that is no document: {ran.output[:200]}")
                return
        if document == clean.document and (ran.status == clean.status or not afterwards):
            return
        is_as_before = ran.status == clean.status and was_incomplete
        if is_as_before and is_the_same_but_for_uncertain_changes(clean.document, document):
            return
        if document is None and ran.status == exit_status.INCOMPLETE:
            judgement.add(Ending.BAD_ERROR, "exit status 7, and nothing was written")
            return
        if document is None and ran.status != 0 and ran.errors.strip() and not afterwards:
            judgement.add(Ending.ERROR, ran.errors)
            return
        if document == with_what_is_not_known(clean.document, document) and not afterwards:
            judgement.add(Ending.ERROR, INCOMPLETE)
            return
        if document is not None and not afterwards and is_shown_as_incomplete(clean.document, document, ran.status):
            judgement.add(Ending.ERROR, INCOMPLETE)
            return
        when = "the next run: " if afterwards else ""
        wrong = next(differences(clean.document, document), "")
        judgement.add(Ending.WRONG_NUMBER, f"{when}exit status {ran.status}, {wrong}")


def plain(document: Any) -> Any:
    """Return a document without what differs from run to run."""
    if isinstance(document, dict):
        return {name: plain(value) for name, value in document.items() if name not in _VOLATILE}
    if isinstance(document, list):
        return [plain(value) for value in document]
    return document


def is_the_same_but_for_uncertain_changes(right: Any, document: Any) -> bool:
    """Return whether two reports differ only in changes that the second one marks as uncertain.

    The run before was incomplete and said so. It didn't know some member's balance, so this run can't know what
    changed.
    """
    if not isinstance(document, dict) or not document.get("changes"):
        return False
    changes = {group["group"]: group["change"] for group in document["groups"]}
    uncertain = {number for number, change in changes.items() if change is not None and not change["certain"]}
    return without_changes_of(right, uncertain) == without_changes_of(document, uncertain)


def without_changes_of(document: Any, numbers: set[int]) -> Any:
    """Return a report without its changes for some groups, and without the difference of the totals."""
    counts, groups = dict(document["changes"]["counts"]), []
    for group in document["groups"]:
        if group["group"] in numbers and group["change"] is not None:
            counts[group["change"]["kind"]] -= 1
            groups.append({**group, "change": None})
        else:
            groups.append(group)
    return {**document, "groups": groups, "changes": {**document["changes"], "counts": counts, "difference": None}}


def with_what_is_not_known(right: Any, document: Any) -> Any:
    """Return the right document, except where the other one says that it can't predict a recalculation."""
    if isinstance(right, list) and isinstance(document, list) and len(right) == len(document):
        return [with_what_is_not_known(*pair) for pair in zip(right, document, strict=True)]
    if not isinstance(right, dict) or not isinstance(document, dict):
        return right
    found = {name: with_what_is_not_known(value, document.get(name)) for name, value in right.items()}
    if document.get("recalculation") in ("not-known", "threshold-hidden"):
        found |= {"recalculation": document["recalculation"], "evergreen_threshold": None}
    return found


def is_shown_as_incomplete(right: Any, document: Any, status: int) -> bool:
    """Return whether a document that differs says so itself wherever it differs.

    Members may be missing, or the number of hidden ones may differ; everything about the members present must be true.
    """
    if not isinstance(document, dict) or not _members(document).items() <= _members(right).items():
        return False
    if "groups" in document:
        others = [group for group in document["groups"] if group not in right["groups"]]
        there = {group["group"] for group in document["groups"]}
        none_is_missing = there == {group["group"] for group in right["groups"]}
        return none_is_missing and status == exit_status.INCOMPLETE and not any(group["complete"] for group in others)
    if document.get("blocked_in_evergreen", "") is None:  # the gateway said that the login may not read penalties
        return bool({**right, "blocked_in_evergreen": None, "other_blocks": None} == document)
    if "hidden_members" in document:
        return bool(document["hidden_members"]["count"])
    # Checkouts are null if the ILS doesn't return them, and so are their totals.
    unknown = document.get("complete") is False or document.get("totals", {}) is None
    return unknown and status != exit_status.DONE


def _members(document: Any) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Return what a document says about people (balance, over the limit or not), by position in the document."""
    found = {}
    waiting = [("", document)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, list):
            waiting += [(place, item) for item in value]
        elif isinstance(value, dict):
            waiting += [(f"{place}.{name}", item) for name, item in value.items()]
            if "own_fines" in value and "id" in value:
                found[place, value["id"]] = tuple(value.get(name) for name in ("own_fines", "over_limit"))
    return found


ACCOUNTS = ("consortium_staff", "admin", "north_manager", "harbor_desk")

READINGS: tuple[Reading, ...] = (
    *(Reading(account, "report") for account in ACCOUNTS),
    Reading("consortium_staff", "report", "--org", "NORTH", "--min-total", "10"),
    *(Reading(account, "report", "--min-total", "1", small_pages=True) for account in ACCOUNTS),
    *(Reading(account, "audit") for account in ACCOUNTS[:3]),
    Reading("consortium_staff", "audit", small_pages=True),
    *(Reading(account, "show", "--user", "1026") for account in ACCOUNTS[:3]),
    Reading("harbor_desk", "show", "--user", "1015"),
    Reading("consortium_staff", "show", "20000000001019"),
    Reading("consortium_staff", "show", "--group", "1008"),
    *(Reading(account, "check", "--user", "1026", "--all-members") for account in ACCOUNTS[:3]),
    Reading("consortium_staff", "check", "20000000001001"),
    Reading("harbor_desk", "check", "20000000001001", "--all-members"),
)
