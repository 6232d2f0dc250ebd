"""Undo of other users' changes by an account that sees only some of the patrons."""

from __future__ import annotations

import pytest
from flask import Flask
from support.desk_caller import DeskCaller
from support.fault_proxy import FaultProxy
from support.web_caller import MakeApp, client_of, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
from evergreen_groups.settings.sections import DeskSettings

SEEN, HIDDEN = 1052, 1038


@pytest.fixture
def app(make_app: MakeApp, proxy: FaultProxy) -> Flask:
    serve = ServeSettings(port=0, rate_limit=1_000_000)
    return make_app(settings_of(proxy.url, serve=serve, desk=DeskSettings(undo_others="VIEW_USER")))


def test_those_who_are_hidden_are_counted_and_not_named(app: Flask, sandbox: Sandbox) -> None:
    one, other = (
        DeskCaller(client_of(app), session(sandbox.url, username=name)) for name in ("consortium_staff", "harbor_desk")
    )
    done = one.apply(one.planned("move", SEEN, HIDDEN, target=1001))
    assert done.body["done"]
    plan = other.plan("undo", change=done.body["id"])
    assert plan.status == 201, plan.body
    assert [step["patron"]["id"] for step in plan.body["steps"]] == [SEEN]
    assert str(HIDDEN) not in str(plan.body)
    assert plan.body["unchanged"] == ["1 change to patrons your login can't see"]
