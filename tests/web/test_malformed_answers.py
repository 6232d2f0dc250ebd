"""Malformed answers are never cached: the next request asks again and gets the right data."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fault_proxy import Call, FaultProxy, HttpAnswer
from support.web_caller import API, Clock, bearer, client_of, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings
from evergreen_groups.web import close, create_app

CACHED = (
    "",  # the IDL
    "open-ils.auth.session.retrieve",
    "open-ils.actor.user.perm.check.multi_org",
    "open-ils.actor.user.has_work_perm_at.batch",
    "open-ils.pcrud.search.aou.atomic",
    "open-ils.pcrud.id_list.aou.atomic",
    "open-ils.pcrud.search.pgt.atomic",
    "open-ils.pcrud.search.pgpt.atomic",
    "open-ils.actor.settings.value_for_all_orgs.atomic",
)
"""Calls of a summary that are cached for the next: sessions, permissions, org units, profiles, thresholds."""

MALFORMED = {"hash": {}, "text": "x", "nothing in a list": [None], "a record of nothing": {"__c": "au", "__p": []}}


@pytest.mark.long
@pytest.mark.parametrize("wrong", MALFORMED)
@pytest.mark.parametrize("method", CACHED)
def test_the_next_request_is_right(
    sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path, method: str, wrong: str
) -> None:
    environ = {"STATE_DIRECTORY": str(tmp_path / "state"), "CACHE_DIRECTORY": str(tmp_path / "cache")}
    app = create_app(settings_of(proxy.url, policy=PolicySettings("ils")), environ, clock=Clock())
    token = session(sandbox.url, username="consortium_staff")
    met: list[str] = []

    def alter(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method != method:
            return None
        met.append(method)
        return HttpAnswer.of({"payload": [MALFORMED[wrong]], "status": 200})

    def ask() -> tuple[int, object]:
        answer = client_of(app).get(f"{API}/patrons/1026/summary", headers=bearer(token))
        return answer.status_code, answer.get_json().get("group_fines")

    proxy.alter = alter
    status, fines = ask()
    assert met
    if status == 200:  # without knowing who may see thresholds, the service asks at each library
        assert (method, fines) == ("open-ils.actor.user.has_work_perm_at.batch", "40.40")
    else:
        assert fines is None
    proxy.alter = lambda call, answer: None
    assert ask() == (200, "40.40")
    close(app)
