"""The sandbox over the recorded data set, as each release that was recorded: single exchanges that ask for something.

``nox -s replay`` does the same with all of the recorded traffic, sequences of writes with it, where that lies beside
the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from support.alike import TOKEN_PLACE, alike
from support.recorded import CURRENT, DATASET, ON_FAMILIES, RELEASES, Exchange, files, is_scenario, read
from support.sandbox_caller import Caller

from evergreen_groups.sandbox import Sandbox

ELSEWHERE = {*ON_FAMILIES, "desk", "members"}
"""Files that were recorded over other data."""
SLOW = 5
OTHERS = [release for release in RELEASES if release != CURRENT]


# Of the current release there are the most by far.
@pytest.fixture(params=[pytest.param(CURRENT, marks=pytest.mark.long), *OTHERS])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def caller(release: str) -> Iterator[Caller]:
    with Sandbox(dataset=DATASET, release=release) as sandbox:
        accounts = {name: (account.login, account.password) for name, account in sandbox.accounts.items()}
        yield AccountCaller(sandbox.url, accounts)


class AccountCaller(Caller):
    """Logs in as the data set's accounts, by the names that they were recorded under."""

    def __init__(self, url: str, accounts: dict[str, tuple[str, str]]) -> None:
        super().__init__(url)
        self._accounts = accounts

    def token(self, account: str) -> str:
        login, self._password = self._accounts[account]
        return super().token(login)


def single(release: str) -> list[Exchange]:
    """Those that need none before them, and that the recorded server answered by itself."""
    suitable = [file for file in files(release) if file.stem not in ELSEWHERE and not is_scenario(file)]
    found = [one for file in suitable for one in read(file)]
    return [one for one in found if "seq" not in one and one.get("elapsed_s", 0) < SLOW and asks_a_service(one)]


def asks_a_service(exchange: Exchange) -> bool:
    names = dict(map(tuple, exchange["form"]))
    plain = "path" not in exchange["http"] and exchange["http"]["method"] == "POST"
    json_comes = (exchange["response"]["body"] or "").startswith("{")
    # What else there is would be an answer to how quick a server is, or to a seed that it made up.
    return plain and json_comes and "timeout" not in names and "authenticate" not in names.get("method", "")


def answer(caller: Caller, exchange: Exchange) -> dict[str, Any]:
    token = caller.token(exchange["as"]) if exchange["as"] else TOKEN_PLACE
    form = [(name, value.replace(TOKEN_PLACE, token)) for name, value in exchange["form"]]
    sent = urlencode(form, quote_via=quote).encode()
    found: dict[str, Any] = json.loads(caller.send("POST", "/osrf-gateway-v1", sent)[2])
    return found


def test_it_answers_as_that_release_did(caller: Caller, release: str) -> None:
    asked = single(release)
    assert len(asked) > 15
    wrong = []
    for exchange in asked:
        recorded, came = json.loads(exchange["response"]["body"]), answer(caller, exchange)
        ordered = any("order_by" in value for _, value in exchange["form"])
        kinds = [body.get("debug", "").partition(" : ")[0] for body in (recorded, came)]
        same = recorded["status"] == came["status"] and kinds[0] == kinds[1]
        if not (same and alike(recorded["payload"], came["payload"], ordered=ordered)):
            wrong.append(exchange["id"])
    assert wrong == []
