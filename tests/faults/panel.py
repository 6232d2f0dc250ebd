"""The web service: its responses to a session over a bad network, and which sessions it accepts."""

from __future__ import annotations

import json
import shutil
import traceback
from importlib import import_module
from pathlib import Path
from random import Random
from unittest.mock import patch

from faults.reading import Clean, Reading, plain
from faults.verdict import Ending, Judgement, judge_form
from faults.world import CommandResult, Injection, World
from flask import Flask
from support.web_caller import API, Clock, bearer, client_of, session, settings_of

from evergreen_groups.settings import ServeSettings
from evergreen_groups.web import close, create_app

SERVICE_GATEWAYS = import_module("evergreen_groups.web.service")


class CleanAnswer(Clean):
    """The service's response without faults."""

    @property
    def is_answered(self) -> bool:
        """Whether the session is accepted."""
        return self.document is not None


def service_that_raises(world: World, directory: Path, clock: Clock) -> Flask:
    """Return a service whose gateways have short timeouts, and which raises its errors instead of handling them."""
    environ = {"STATE_DIRECTORY": str(directory / "state"), "CACHE_DIRECTORY": str(directory / "cache")}
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
        self._login = login or {"username": account}

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

    def clean(self, world: World) -> Clean:
        """Return the response without faults; None if the session is rejected."""
        directory = world.fresh()
        app = service_that_raises(world, directory, Clock())
        token = session(world.sandbox.url, **self._login)
        self._ask(app, token)
        close(app)
        app = service_that_raises(world, directory, Clock())
        with world.watched() as traffic:
            ran = self._ask(app, token)
        close(app)
        document = plain(json.loads(ran.output)) if ran.output else None
        return CleanAnswer(ran.status, document, tuple(traffic.answers), directory / "state", directory / "cache")

    def run(self, world: World, clean: Clean, injections: list[Injection], chance: Random) -> Judgement:
        """Send the request with faults, then without.

        A rejected session stays rejected, and nothing malformed is cached.
        """
        judgement = Judgement()
        directory = world.fresh(cache=clean.cache if chance.random() < 0.7 else None)
        clock = Clock()
        app = service_that_raises(world, directory, clock)
        token = session(world.sandbox.url, **self._login)
        before = world.stores()
        with world.faults(injections, chance):
            ran = self._ask(app, token)
        self._judge_answer(ran, clean, judgement)
        if any("PERM_FAILURE" in injection.kind.name for injection in injections):
            clock.now += 3600.0  # a rejection is cached for a while
        self._judge_answer(self._ask(app, token), clean, judgement, afterwards=True)
        if world.stores() != before:
            judgement.add(Ending.WRITE, "something was written")
        close(app)
        shutil.rmtree(directory)
        return judgement

    def _judge_answer(
        self, ran: CommandResult, clean: Clean, judgement: Judgement, *, afterwards: bool = False
    ) -> None:
        if clean.document is not None:
            self._judge(ran, clean, judgement, afterwards=afterwards)
            return
        judge_form(ran, judgement, endings=frozenset())
        if ran.output:
            judgement.add(Ending.WRONG_NUMBER, "somebody was let in")


PANELS: tuple[Panel, ...] = (
    *(Panel(account, "patrons/1026/summary") for account in ("consortium_staff", "admin", "north_manager")),
    Panel("harbor_desk", "patrons/1015/summary"),
    Panel("consortium_staff", "patrons/1053/block"),
    Panel("harbor_desk", "groups/1001"),
    Panel("a patron", "patrons/1015/summary", username="20000000001001", type="opac"),
)
