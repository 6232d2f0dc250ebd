"""The web service over a bad network: its answers to programs, the desk's pages, and which sessions it accepts.

Changes are made with the pages' forms, each sent twice as by a double click.
"""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from faults.changing import Changing
from faults.reading import Clean, Reading
from faults.verdict import Ending, Judgement, judge_form
from faults.world import CommandResult, Injection, World
from flask import Flask
from support.desk_page import DeskClerk, DeskPage, agreed, as_text, card, scanned, selected
from support.web_caller import API, Clock, bearer, client_of, session, settings_of

from evergreen_groups.settings import ServeSettings
from evergreen_groups.web import close, create_app

SERVICE_GATEWAYS = import_module("evergreen_groups.web.service")


def service_that_raises(world: World, directory: Path, clock: Clock) -> Flask:
    """Return a service whose gateways have short timeouts, and which raises its errors instead of handling them."""
    environ = {"STATE_DIRECTORY": str(directory / "state")}
    settings = settings_of(world.proxy.url, serve=ServeSettings(port=0, rate_limit=10_000))
    with patch.object(SERVICE_GATEWAYS, "Gateway", world.gateway):
        app = create_app(settings, environ, clock=clock)
    app.testing = True
    app.error_handler_spec[None][None].pop(Exception)  # for the tests to see
    return app


class Panel(Reading):
    """A request of a staff session, or of a patron's session, which must be rejected."""

    def __init__(self, account: str, address: str, **login: str) -> None:
        super().__init__(account, "panel", address)
        self._login, self.is_refused = login or {"username": account}, bool(login)
        self.again = 1.0

    def _ask(self, app: Flask, token: str) -> CommandResult:
        try:
            answer = client_of(app).get(f"{API}/{self.words[1]}", headers=bearer(token))
        except Exception:
            return CommandResult(1, "", "", 0.0, traceback.format_exc())
        if answer.status_code == 200:
            return CommandResult(0, answer.get_data(as_text=True), "", 0.0)
        document = answer.get_json(force=True, silent=True)
        if isinstance(document, dict) and document.get("status") == answer.status_code:
            return CommandResult(1, "", f"evergreen-groups: {document.get('detail')}", 0.0)
        return CommandResult(1, "", answer.get_data(as_text=True), 0.0)

    @contextmanager
    def _asking(self, world: World, directory: Path) -> Iterator[Callable[[], CommandResult]]:
        self._clock = Clock()
        app = service_that_raises(world, directory, self._clock)
        token = session(world.sandbox.url, **self._login)
        try:
            yield lambda: self._ask(app, token)
        finally:
            close(app)

    def _pass_time(self, injections: list[Injection]) -> None:
        if any("PERM_FAILURE" in injection.kind.name for injection in injections):
            self._clock.now += 3600.0  # a rejection is cached for a while

    def _judge(self, ran: CommandResult, clean: Clean, judgement: Judgement, **when: bool) -> None:
        if clean.document is not None:
            super()._judge(ran, clean, judgement, **when)
            return
        judge_form(ran, judgement, endings=frozenset())
        if ran.output:
            judgement.add(Ending.WRONG_NUMBER, "somebody was let in")


PANELS: tuple[Panel, ...] = (
    *(Panel(account, "patrons/1026/summary") for account in ("consortium_staff", "admin", "north_manager")),
    Panel("harbor_desk", "patrons/1015/summary"),
    Panel("consortium_staff", "patrons/1053/block"),
    Panel("consortium_staff", "patrons/by-barcode/20000000001001/block"),
    Panel("consortium_staff", "groups/1008"),
    Panel("harbor_desk", "groups/1001"),
    Panel("a patron", "patrons/1015/summary", username="20000000001001", type="opac"),
)


Flow = Callable[[DeskPage], DeskPage]
"""A clerk's steps from the list to the plan."""

_HIDDEN = ("not visible", "isn't visible", "hidden from this account", "members visible", "can't see", "set by staff")
"""What a page says if it doesn't show everything."""


def _document(page: DeskPage) -> dict[str, object]:
    """Return a list's contents, without what differs between sessions."""
    sums = page.tree.xpath("//*[@class='sums']")
    notes = page.tree.xpath("//p[contains(@class, 'notice')]")
    return {"members": page.members, "sums": as_text(sums[0]) if sums else "", "notes": [*map(as_text, notes)]}


def _refused(page: DeskPage) -> CommandResult:
    """Return the page's error message, like a command's error line, or None."""
    return CommandResult(1, "", f"evergreen-groups: {page.status} {page.outcome or page.message or page.text}", 0.0)


class ListPage(Panel):
    """The list of a group, as a staff account sees it."""

    def __init__(self, account: str, patron: int) -> None:
        super().__init__(account, str(patron))
        self._patron = patron

    @property
    def name(self) -> str:
        return "page"

    def _ask(self, app: Flask, token: str) -> CommandResult:
        began = time.monotonic()
        try:
            page = DeskClerk(app, token, "").open(self._patron)
        except Exception:
            return CommandResult(1, "", "", 0.0, traceback.format_exc())
        if page.status != 200:
            return _refused(page)
        return CommandResult(0, json.dumps(_document(page)), "", time.monotonic() - began)

    def _judge(
        self, ran: CommandResult, clean: Clean, judgement: Judgement, *, afterwards: bool = False, **_when: bool
    ) -> None:
        judge_form(ran, judgement, endings=frozenset({0}))
        if ran.status != 0:
            if afterwards:
                judgement.add(Ending.BAD_ERROR, f"afterwards: {ran.errors[-300:]}")
            return
        document = json.loads(ran.output)
        if document == clean.document:
            return
        rows, right = document["members"], clean.document["members"]
        wrong = {name: rows.get(name) for name in {*rows, *right} if rows.get(name) != right.get(name)}
        said = [*wrong.values(), document["sums"], *document["notes"]]
        if not afterwards and any(words in str(text) for words in _HIDDEN for text in said):
            judgement.add(Ending.ERROR, "shown as incomplete")
            return
        judgement.add(Ending.WRONG_NUMBER, f"{wrong or document}, not {clean.document}")


class PageChange(Changing):
    """A change on the page of a patron's group, using forms only."""

    def __init__(self, patron: int, what: str, flow: Flow, *, undoable: bool = True) -> None:
        super().__init__("page", what)
        self._patron = patron
        self._flow = flow
        self._can_be_undone = undoable

    def _run(self, world: World, directory: Path) -> CommandResult:
        began = time.monotonic()
        app = service_that_raises(world, directory, Clock())
        clerk = DeskClerk(app, session(world.sandbox.url, username=self.account), world.proxy.url)
        try:
            ran = self._done(clerk)
        except Exception:
            ran = CommandResult(1, "", "", 0.0, traceback.format_exc())
        finally:
            close(app)
        ran.seconds = time.monotonic() - began
        return ran

    def _done(self, clerk: DeskClerk) -> CommandResult:
        page = clerk.open(self._patron)
        if page.status != 200:
            return _refused(page)
        plan = self._flow(page)
        if "already in this group" in plan.message:
            return CommandResult(0, plan.message, "", 0.0)
        if plan.status != 200 or not plan.has_form("/change"):
            return _refused(plan)
        if plan.heading == "Nothing to do":
            return CommandResult(0, plan.text, "", 0.0)
        agreed(plan)
        done = agreed(plan)  # twice, as by a double click
        is_done = done.status == 200 and done.outcome.startswith("Done")
        return CommandResult(0, done.outcome, "", 0.0) if is_done else _refused(done)


def _scan(*patrons: int) -> Flow:
    def flow(page: DeskPage) -> DeskPage:
        for patron in patrons:
            if patron is patrons[0]:
                page = scanned(page, card(patron))
            elif page.has_form("/change"):
                page = page.send("/change", ("do", "add"), card=card(patron))
        return page

    return flow


def _select(action: str, *members: int) -> Flow:
    return lambda page: selected(page, action, *members)


PAGES: tuple[Reading, ...] = (
    *(ListPage(account, 1026) for account in ("consortium_staff", "north_manager")),
    ListPage("harbor_desk", 1015),
    PageChange(1007, "1052 into the group of 1007", _scan(1052)),
    PageChange(1007, "1052 and 1053 into the group of 1007", _scan(1052, 1053)),
    PageChange(1051, "1052 out of the group", _select("remove", 1052)),
    PageChange(1002, "1002 group lead", _select("lead", 1002)),
    PageChange(
        1032,
        "recalculated",
        lambda page: page.send("/plan", ("action", "recalculate"), id="selection"),
        undoable=False,  # the ILS decides about penalties
    ),
)
