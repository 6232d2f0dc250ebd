"""The sandbox over the recorded data set, as each release that was recorded.

``nox -s replay`` does the same with all of the recorded traffic, where that lies beside the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from support.alike import TOKEN_PLACE, alike, changed
from support.recorded import DATASET, OLDER, ON_FAMILIES, RELEASES, Exchange, files, is_scenario, read
from support.sandbox_caller import Caller

from evergreen_groups.sandbox import Sandbox

ELSEWHERE = {*ON_FAMILIES, "desk", "members"}
"""Files that were recorded over other data."""
SLOW = 5


# Plain pytest has the time for one of them.
@pytest.fixture(params=[OLDER, *(pytest.param(one, marks=pytest.mark.long) for one in RELEASES if one != OLDER)])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def caller(release: str) -> Iterator[AccountCaller]:
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

    def forget_tokens(self) -> None:
        """All sessions have ended."""
        self._tokens.clear()


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


def answer(caller: Caller, exchange: Exchange, former: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """What the sandbox answers; ``former`` values of the recording are sent as those that came in their place."""
    token = caller.token(exchange["as"]) if exchange["as"] else TOKEN_PLACE
    form = []
    for name, value in exchange["form"]:
        sent = value.replace(TOKEN_PLACE, token)
        for recorded, came in former.items():
            sent = sent.replace(recorded, came)
        form.append((name, sent))
    body = urlencode(form, quote_via=quote).encode()
    found: dict[str, Any] = json.loads(caller.send("POST", "/osrf-gateway-v1", body)[2])
    return found


def is_alike(exchange: Exchange, came: dict[str, Any]) -> bool:
    recorded = json.loads(exchange["response"]["body"])
    kinds = [body.get("debug", "").partition(" : ")[0] for body in (recorded, came)]
    if recorded["status"] != came["status"] or kinds[0] != kinds[1]:
        return False
    ordered = any("order_by" in value for _, value in exchange["form"])
    return alike(recorded["payload"], came["payload"], ordered=ordered)


def test_it_answers_as_that_release_did(caller: AccountCaller, release: str) -> None:
    asked = single(release)
    assert len(asked) > 15
    assert [one["id"] for one in asked if not is_alike(one, answer(caller, one))] == []


def test_it_writes_as_that_release_did(caller: AccountCaller, release: str) -> None:
    sequences = [file for file in files(release) if is_scenario(file)]
    assert sequences
    for file in sequences:
        caller.send("POST", "/sandbox/reset")
        caller.forget_tokens()
        former: dict[str, str] = {}
        for exchange in read(file):
            if exchange.get("elapsed_s", 0) >= SLOW:
                continue
            came = answer(caller, exchange, former)
            assert is_alike(exchange, came), exchange["id"]
            former |= changed(json.loads(exchange["response"]["body"])["payload"], came["payload"])
