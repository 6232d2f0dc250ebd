"""Responses of real Evergreen servers by id; ``recorded/README.md`` describes an exchange."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from support.gateway_server import TOKEN, Action, Line, Request, Server, connect, http, raw, results
from support.repository import REPOSITORY

from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.gateway.idl import Idl

RECORDED = REPOSITORY / "tests" / "recorded"
CURRENT, OLDER = "3.17", "3.12"
BETWEEN = ("3.11", "3.13", "3.14", "3.15", "3.16")
"""Recorded for comparison with the sandbox, so kept even if nothing names them."""
RELEASES = (CURRENT, OLDER, *BETWEEN)
FAMILIES = RECORDED / CURRENT / "families.json"
"""The dataset behind the exchanges of ``ON_FAMILIES``, which the sandbox can serve."""
DATASET = RECORDED / CURRENT / "dataset.json"
"""The dataset of all recorded servers: 52 invented patrons in 16 groups. The sandbox can serve it."""
ON_FAMILIES = ("contacts", "details", "explanation", "items", "work-list")
ID = re.compile(r"(?<![\w/.-])(?:(?P<release>\d\.\d\d)/)?(?P<id>[a-z]{3,}(?:-[a-z]+)*-\d{3})(?![\w-])")
"""``pcrud-034`` is an exchange with the current release, ``3.12/pcrud-034`` with an older one.

A locale (``es-419``) doesn't match.
"""

Exchange = dict[str, Any]


def files(release: str) -> list[Path]:
    return sorted((RECORDED / release).rglob("*.jsonl"))


def is_scenario(file: Path) -> bool:
    """Return whether a file's exchanges only make sense together and in order."""
    return file.parent.name == "scenarios"


def read(file: Path) -> list[Exchange]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@cache
def exchanges() -> dict[str, Exchange]:
    return {
        exchange["id"] if release == CURRENT else f"{release}/{exchange['id']}": exchange
        for release in RELEASES
        for file in files(release)
        for exchange in read(file)
    }


@cache
def named_exchanges() -> dict[str, Exchange]:
    """Return the named exchanges of older releases, which the adapter reads one by one."""
    return {exchange_id: one for exchange_id, one in exchanges().items() if release_of(exchange_id) not in BETWEEN}


def idl_bytes(release: str = CURRENT) -> bytes:
    return (RECORDED / release / "idl.xml").read_bytes()


@cache
def idl_of(release: str = CURRENT) -> Idl:
    return Idl.parse(idl_bytes(release))


def release_of(exchange_id: str) -> str:
    return exchange_id.partition("/")[0] if "/" in exchange_id else CURRENT


def named_in(text: str) -> Iterator[str]:
    """Return the ids in a text, in the form of :func:`exchanges`."""
    for found in ID.finditer(text):
        release, number = found["release"], found["id"]
        yield number if release in (None, CURRENT) else f"{release}/{number}"


def body(exchange_id: str) -> str:
    """Return a response's text, with the tests' token."""
    return exchanges()[exchange_id]["response"]["body"].replace("$TOKEN", TOKEN)


def payload(exchange_id: str) -> list[Any]:
    return json.loads(body(exchange_id))["payload"]


def method(exchange_id: str) -> str:
    return dict(map(tuple, exchanges()[exchange_id]["form"])).get("method", "")


def params(exchange_id: str) -> list[Any]:
    """Return the parameters; ValueError if they aren't JSON."""
    form = exchanges()[exchange_id]["form"]
    return [json.loads(value.replace("$TOKEN", TOKEN)) for name, value in form if name == "param"]


def is_call(exchange_id: str) -> bool:
    """Return whether a well-behaved client could have sent this."""
    exchange = exchanges()[exchange_id]
    try:
        params(exchange_id)
    except ValueError:
        return False
    known = {"service", "method", "param", "timeout", "locale"}
    whole = exchange["response"]["http_status"] == 200 and "path" not in exchange["http"]
    return whole and exchange["http"]["method"] == "POST" and {name for name, _ in exchange["form"]} <= known


_MOMENT = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"')


def _sent(parameters: list[Any]) -> str:
    """Return the parameters without the time of sending.

    The label of penalties is left out too: when ``csp`` was recorded it wasn't asked for, and it is null there.
    """
    return _MOMENT.sub('"a moment"', json.dumps(parameters, sort_keys=True)).replace(
        '"block_list", "label"', '"block_list"'
    )


def _beside(request: Request, exchange_ids: tuple[str, ...], release: str) -> Action | None:
    """Return the response to requests that accompany those of the exchanges; None for any other."""
    asked = request.osrf_method
    if request.method == "GET":
        return raw(http(idl_bytes(release)))
    if asked in map(method, exchange_ids):
        return None
    if asked == "open-ils.pcrud.search.mb.atomic":
        return results([])  # none of the datasets has billings
    if asked.startswith("open-ils.pcrud.id_list."):
        return results(_ids_beside(asked.split(".")[3], exchange_ids, release))
    if asked == "open-ils.pcrud.count.aou":
        # Before the first list, clients test how the release handles hidden rows.
        return raw(http('{"payload":["1"],"status":200}' if release == CURRENT else body("3.12/releases-059")))
    if release == OLDER and asked == "open-ils.pcrud.search.aou.atomic":
        return results([])  # whether there are more rows than those returned, hidden ones included
    return None


def _ids_beside(class_id: str, exchange_ids: tuple[str, ...], release: str) -> list[int]:
    position = idl_of(release)[class_id].positions["id"]
    search = f"open-ils.pcrud.search.{class_id}.atomic"
    answers = [payload(exchange_id)[0] for exchange_id in exchange_ids if method(exchange_id) == search]
    return sorted((row["__p"][position] for rows in answers for row in rows), reverse=True)


@contextmanager
def gateway_of(*exchange_ids: str, alike: bool = True) -> Iterator[Gateway]:
    """Yield a gateway that gives each of these responses once, by method, and the IDL of their release.

    ``alike`` also compares the parameters, except for times of sending; without it, responses to a method come in the
    order of ``exchange_ids``. Ids requested in addition to rows, from the last one down, are those of the rows.
    """
    release = release_of(exchange_ids[0])
    waiting = list(exchange_ids)
    wrong: list[str] = []
    lock = threading.Lock()

    def next_for(request: Request) -> str:
        """Return the exchange to respond with, or "" for none; several requests may be in progress."""
        with lock:
            fitting = [one for one in waiting if method(one) == request.osrf_method]
            same = [one for one in fitting if alike and _sent(params(one)) == _sent(request.params)]
            found = (same or fitting or [""])[0]
            if not found:
                wrong.append(f"{request.osrf_method} came, for which nothing waits")
                return ""
            waiting.remove(found)
            if alike and not same:
                wrong.append(f"{found}: {request.params} came")
            return found

    def answer(line: Line, request: Request) -> None:
        reply = _beside(request, exchange_ids, release)
        if reply is None:
            exchange_id = next_for(request)
            reply = raw(http(body(exchange_id) if exchange_id else '{"payload":[],"status":404}'))
        reply(line, request)

    with Server(otherwise=answer) as server, connect(server, token=TOKEN, retries=RetryPolicy(tries=1)) as gateway:
        yield gateway
    assert wrong == []
    assert waiting == []
