"""What real Evergreen servers answered, by id: ``recorded/README.md`` has what an exchange is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from support.gateway_server import TOKEN, Line, Request, Server, connect, http, raw
from support.repository import REPOSITORY

from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.gateway.idl import Idl

RECORDED = REPOSITORY / "tests" / "recorded"
CURRENT, OLDER = "3.17", "3.12"
RELEASES = (CURRENT, OLDER)
ID = re.compile(r"(?<![\w/.-])(?:(?P<release>\d\.\d\d)/)?(?P<id>[a-z]+(?:-[a-z]+)*-\d{3})(?![\w-])")
"""``pcrud-034`` is an exchange with the current release, ``3.12/pcrud-034`` one with the older."""

Exchange = dict[str, Any]


def files(release: str) -> list[Path]:
    return sorted((RECORDED / release).rglob("*.jsonl"))


def is_scenario(file: Path) -> bool:
    """Whether the exchanges of a file go in order, all of them."""
    return file.parent.name == "scenarios"


def read(file: Path) -> list[Exchange]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@cache
def exchanges() -> dict[str, Exchange]:
    """All of them by the id that they are named by."""
    return {
        exchange["id"] if release == CURRENT else f"{release}/{exchange['id']}": exchange
        for release in RELEASES
        for file in files(release)
        for exchange in read(file)
    }


def idl_bytes(release: str = CURRENT) -> bytes:
    return (RECORDED / release / "idl.xml").read_bytes()


@cache
def idl_of(release: str = CURRENT) -> Idl:
    return Idl.parse(idl_bytes(release))


def release_of(exchange_id: str) -> str:
    return exchange_id.partition("/")[0] if "/" in exchange_id else CURRENT


def named_in(text: str) -> Iterator[str]:
    """The ids that a text names, as :func:`exchanges` has them."""
    for found in ID.finditer(text):
        release, number = found["release"], found["id"]
        yield number if release in (None, CURRENT) else f"{release}/{number}"


def body(exchange_id: str) -> str:
    """An answer's text, with the token of the tests."""
    return exchanges()[exchange_id]["response"]["body"].replace("$TOKEN", TOKEN)


def payload(exchange_id: str) -> list[Any]:
    return json.loads(body(exchange_id))["payload"]


def method(exchange_id: str) -> str:
    return dict(map(tuple, exchanges()[exchange_id]["form"])).get("method", "")


def params(exchange_id: str) -> list[Any]:
    """What was sent; ValueError where that wasn't JSON."""
    form = exchanges()[exchange_id]["form"]
    return [json.loads(value.replace("$TOKEN", TOKEN)) for name, value in form if name == "param"]


def is_call(exchange_id: str) -> bool:
    """Whether a program that uses the gateway as it should could have sent this."""
    exchange = exchanges()[exchange_id]
    try:
        params(exchange_id)
    except ValueError:
        return False
    known = {"service", "method", "param", "timeout", "locale"}
    whole = exchange["response"]["http_status"] == 200 and "path" not in exchange["http"]
    return whole and exchange["http"]["method"] == "POST" and {name for name, _ in exchange["form"]} <= known


@contextmanager
def gateway_of(*exchange_ids: str, alike: bool = True) -> Iterator[Gateway]:
    """A gateway that gives these answers one after the other, each to its own method, and the IDL of their release.

    ``alike`` insists on the parameters as well.
    """
    release = release_of(exchange_ids[0])
    waiting = list(exchange_ids)

    def answer(line: Line, request: Request) -> None:
        if request.method == "GET":
            raw(http(idl_bytes(release)))(line, request)
            return
        if request.osrf_method == "open-ils.pcrud.count.aou" and (
            not waiting or method(waiting[0]) != request.osrf_method
        ):
            # How the release deals with hidden rows is asked before the first list, whatever it is of.
            found = '{"payload":["1"],"status":200}' if release == CURRENT else body("3.12/releases-059")
            raw(http(found))(line, request)
            return
        exchange_id = waiting.pop(0) if waiting else ""
        if not exchange_id or request.osrf_method != method(exchange_id):
            wrong.append(f"{request.osrf_method} came, not that of {exchange_id or 'anything more'}")
        elif alike and request.params != params(exchange_id):
            wrong.append(f"{exchange_id}: {request.params} came")
        raw(http(body(exchange_id) if exchange_id else '{"payload":[],"status":404}'))(line, request)

    wrong: list[str] = []
    with Server(otherwise=answer) as server, connect(server, token=TOKEN, retries=RetryPolicy(tries=1)) as gateway:
        yield gateway
    assert wrong == []
    assert waiting == []
