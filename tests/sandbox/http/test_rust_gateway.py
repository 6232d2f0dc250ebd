"""The sandbox as the Rust gateway: what its source says, over raw HTTP."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from support.sandbox_caller import Caller

from evergreen_groups.sandbox import Sandbox

ACTOR, ECHO, GATEWAY = "open-ils.actor", "opensrf.system.echo", "/osrf-gateway-v1"
PCRUD = "open-ils.pcrud"
ORGS = "open-ils.pcrud.search.aou.atomic"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(gateway="rust") as sandbox:
        yield sandbox


@pytest.fixture
def caller(running: Sandbox) -> Caller:
    running.reset()
    return Caller(running.url)


def send(caller: Caller, service: str, method: str, *values: object) -> tuple[int, Any]:
    status, content_type, body = caller.send("POST", GATEWAY, caller.form(service, method, *map(json.dumps, values)))
    answer = json.loads(body)
    assert (content_type, answer["status"], set(answer)) == ("text/json", status, {"status", "payload"})
    return status, answer["payload"]


@pytest.mark.parametrize(
    "form",
    [
        b"service=open-ils.actor&method=open-ils.actor.nosuch",
        b"service=open-ils.nosuch&method=opensrf.system.echo&param=1",
        b"service=open-ils.actor",
        b"method=opensrf.system.echo",
        b"service=open-ils.actor&method=opensrf.system.echo&param=nul",
        b"service=open-ils.actor&method=opensrf.system.echo&param=NaN",
        b"service=open-ils.actor&method=opensrf.system.echo&param=%5B%7B%22__c%22:%22nix%22,%22__p%22:%5B%5D%7D%5D",
        b"",
    ],
)
def test_every_failure_looks_the_same(caller: Caller, form: bytes) -> None:
    status, content_type, body = caller.send("POST", GATEWAY, form)
    assert (status, content_type, json.loads(body)) == (400, "text/json", {"status": 400, "payload": []})


def test_forms_are_decoded_like_browsers_and_the_last_value_counts(caller: Caller) -> None:
    form = b"service=nowhere&service=open-ils.actor&method=opensrf.system.echo&param=%22a+b%22&timeout=1&format=xml"
    assert json.loads(caller.send("POST", GATEWAY, form)[2])["payload"] == ["a b"]
    assert json.loads(caller.send("GET", f"{GATEWAY}?{form.decode()}")[2])["payload"] == ["a b"]
    assert caller.send("HEAD", f"{GATEWAY}?{form.decode()}") == (200, "text/json", b"")


def test_other_http_methods_are_executed_and_end_early(caller: Caller) -> None:
    with socket.create_connection(("127.0.0.1", int(caller.address.rpartition(":")[2]))) as connection:
        connection.sendall(f"PUT {GATEWAY}?service={ACTOR}&method={ECHO} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        assert connection.makefile("rb").read() == b"HTTP/1.1 405 Method Not Allowed\r\n"


def ask_again(connection: HTTPConnection, form: Any) -> None:
    connection.request("POST", GATEWAY, form)
    connection.getresponse()


def test_the_connection_closes_unannounced_and_chunks_get_no_response(caller: Caller) -> None:
    form = caller.form(ACTOR, ECHO, "1")
    connection = HTTPConnection(caller.address)
    connection.request("POST", GATEWAY, form)
    answer = connection.getresponse()
    assert (answer.read() != b"", answer.getheader("Connection"), answer.will_close) == (True, None, False)
    with pytest.raises(ConnectionError):  # RemoteDisconnected is one
        ask_again(connection, form)
    connection.close()
    with pytest.raises(ConnectionError):
        ask_again(connection, iter([form]))
    connection.close()


def test_a_silent_method_is_cut_off_and_the_rest_comes_later() -> None:
    with Sandbox(gateway="rust", cut_off=0.2, slow={ECHO: 600.0}) as sandbox:
        caller = Caller(sandbox.url)
        assert send(caller, ACTOR, ECHO, 1, 2, 3, 4) == (200, [1, 2])
        assert sandbox._server.rust is not None
        (silence,) = sandbox._server.rust._late
        silence.cancel()
        silence.function(*silence.args)  # what it does when it ends
        # The rest has arrived at the same worker, and ends whatever that worker waits for.
        assert send(caller, ACTOR, ECHO, 5, 6, 7, 8) == (200, [3, 4])


def test_a_second_message_for_a_failure_of_pcrud(caller: Caller, running: Sandbox) -> None:
    assert send(caller, PCRUD, ORGS, "nobody's", {"id": 1}) == (400, [])
    assert send(caller, ACTOR, ECHO, "first") == (400, [])
    assert send(caller, ACTOR, ECHO, "second") == (200, ["first"])
    running.reset()
    assert send(caller, ACTOR, ECHO, "after a restart") == (200, ["after a restart"])


@pytest.mark.long
def test_a_worker_serves_a_thousand_requests(caller: Caller) -> None:
    send(caller, PCRUD, ORGS, "nobody's", {"id": 1})
    send(caller, ACTOR, ECHO, 1)
    answers = [send(caller, ACTOR, ECHO, number)[1] for number in range(2, 1000)]
    assert answers == [[number - 1] for number in range(2, 1000)]
    assert send(caller, ACTOR, ECHO, "another worker's") == (200, ["another worker's"])


def test_other_failures_are_one_message(caller: Caller) -> None:
    for method in ("open-ils.actor.nosuch", "open-ils.actor.user.retrieve"):
        send(caller, ACTOR, method, "nobody's", 5)
    send(caller, PCRUD, "open-ils.pcrud.nosuch")
    assert send(caller, ACTOR, ECHO, "mine") == (200, ["mine"])
