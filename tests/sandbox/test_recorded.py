"""The sandbox with the rows of recorded exchanges gives the same responses as the real Evergreen, value for value.

``nox -s replay`` covers exchanges with the dataset of 52 patrons; the rows of these exchanges are here.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

from support.gateway_server import TOKEN
from support.recorded import CURRENT, FAMILIES, ON_FAMILIES, RECORDED, exchanges, method, params, payload, read

from evergreen_groups.gateway import TOKEN as TOKEN_PLACE
from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.gateway.call import dumps
from evergreen_groups.sandbox import Sandbox

IDS = [exchange["id"] for topic in ON_FAMILIES for exchange in read(RECORDED / CURRENT / f"{topic}.jsonl")]
ACCOUNTS = {exchanges()[exchange_id]["as"] for exchange_id in IDS}


def test_responses_match_a_real_evergreen() -> None:
    assert len(IDS) > 75
    assert sorted(ACCOUNTS) == ["context_branch", "context_staff"]
    wrong = {}
    with Sandbox(dataset=FAMILIES) as sandbox, ExitStack() as stack:
        gateways = {}
        for name in ACCOUNTS:
            credentials = Credentials(username=name, password=sandbox.accounts[name].password)
            gateways[name] = stack.enter_context(Gateway(sandbox.url, credentials=credentials))
        for exchange_id in IDS:
            exchange = exchanges()[exchange_id]
            sent = [TOKEN_PLACE if value == TOKEN else value for value in params(exchange_id)]
            service = dict(map(tuple, exchange["form"]))["service"]
            answer = gateways[exchange["as"]].call(service, method(exchange_id), *sent)
            ordered = any("order_by" in json.dumps(value) for value in params(exchange_id))
            found, expected = (
                comparable(json.loads(dumps(answer.value)), ordered),
                comparable(*payload(exchange_id), ordered),
            )
            if found != expected:
                wrong[exchange_id] = (found, expected)
    assert wrong == {}


def comparable(value: Any, ordered: bool) -> Any:
    """Return a response to compare; lists requested without an order get a fixed one."""
    if ordered or not isinstance(value, list):
        return value
    return sorted(value, key=lambda it: json.dumps(it, sort_keys=True))
