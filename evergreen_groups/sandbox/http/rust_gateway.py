"""Imitate the gateway written in Rust, after its source: no traffic of one has been recorded yet.

The source is ``http-gateway.rs`` of kcls/evergreen-universe-rs (June 2026). Sites put this gateway behind a proxy, at
the address of Apache's gateway. :data:`FACTS` lists the differences and where the source shows them. The compact form
of objects (``format=hash``) isn't implemented.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import parse_qsl

from evergreen_groups.sandbox.services import Failure

FACTS: Mapping[str, str] = {
    "every failure is HTTP 400, and its body has a status and an empty payload": "handle_request",
    "answers are text/json, letters beyond ASCII as they are": "handle_request, EgValue::dump",
    "the connection is closed after each answer, which doesn't say so": "GatewayHandler::process",
    "a plus sign is a blank, and of a name that comes twice the last counts": "parse_request",
    "a parameter that isn't JSON, or has an unknown class, is a failure": "parse_request, EgValue::from_json_value",
    "timeout, locale, api_level and input_format are ignored, and so is format=xml": "parse_request",
    "a body in chunks is not understood": "read_request",
    "other HTTP methods than GET, POST and HEAD are relayed as well, then answered with 405": "handle_request",
    "after 300 seconds without a message what has come so far is the answer": "relay_to_osrf, OSRF_RELAY_TIMEOUT",
    "a null in a stream is sent": "extract_osrf_responses",
    "a worker takes the next message on its queue": "relay_to_osrf, Bus::recv",
    "pcrud sends two messages for a failure": "OpenSRF, osrfAppRunMethod",
    "a worker ends after 1,000 requests, and another one begins": "mptc, DEFAULT_MAX_WORKER_REQUESTS",
}
"""Differences from Apache's gateway, each with the function or constant in the source that shows it."""

CUT_OFF = 300.0
"""Seconds without a message after which the gateway takes the messages so far as the complete response."""

_CONTENT_TYPE = "text/json"
WORKER_REQUESTS = 1000
"""Requests per worker, unless ``EG_HTTP_GATEWAY_MAX_REQUESTS`` overrides it."""
_FIRST_WORKERS = 5
_TRAILING = "open-ils.pcrud"
_FAILED, _COMPLETE = object(), object()

Dispatch = Callable[[str, str, list[Any]], list[Any]]
"""Calls a method (service, name, parameters) and returns its results; raises Failure."""


class _BadRequestError(Exception):
    """An invalid request; the client gets the same response as for any other failure."""


@dataclass(frozen=True, slots=True)
class _Call:
    service: str
    method: str
    parameters: list[Any]


class _Worker:
    """One of the gateway's threads, with its own queue on the bus."""

    def __init__(self) -> None:
        self.messages: SimpleQueue[object] = SimpleQueue()
        self.requests = 0
        self.busy = False


class RustGateway:
    """Responds to requests like the Rust gateway. Safe to share between threads.

    ``classes`` are the ids of the IDL's classes. ``cut_off`` replaces the 300 seconds and ``worker_requests`` the 1,000
    requests of the real one. ``slow`` maps methods to seconds of silence, before an only result or between several.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        classes: Container[str],
        cut_off: float = CUT_OFF,
        slow: Mapping[str, float] | None = None,
        worker_requests: int = WORKER_REQUESTS,
    ) -> None:
        self._dispatch = dispatch
        self._classes = classes
        self._cut_off = cut_off
        self._slow = dict(slow or {})
        self._worker_requests = worker_requests
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._late: list[threading.Timer] = []
        self.restart()

    def restart(self) -> None:
        """Replace all workers, as ``systemctl restart`` does; what is on their queues is lost."""
        with self._lock:
            self._workers = [_Worker() for _ in range(_FIRST_WORKERS)]
            for timer in self._late:
                timer.cancel()
            self._late = []

    def answer(self, command: str, query: bytes, body: bytes) -> bytes:
        """Return the complete HTTP response to a request, after which the connection is closed."""
        status, payload = HTTPStatus.BAD_REQUEST, []
        parsed_command = "GET"  # an invalid request gets 400 whatever its HTTP method
        try:
            request = _parsed(body or query, self._classes)
            parsed_command = command
            found = self._relay(request)
            if found is not None:
                status, payload = HTTPStatus.OK, found
        except _BadRequestError:
            pass
        if parsed_command not in ("GET", "POST", "HEAD"):
            return b"HTTP/1.1 405 Method Not Allowed\r\n"
        data = json.dumps({"status": int(status), "payload": payload}, ensure_ascii=False, separators=(",", ":"))
        content = data.encode("utf-8", "replace")
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {_CONTENT_TYPE}\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        return head.encode() + (b"" if parsed_command == "HEAD" else content)

    def _relay(self, request: _Call) -> list[Any] | None:
        """Return the results, or None for a failure."""
        worker = self._idle()
        try:
            self._send(worker, request)
            replies: list[Any] = []
            while True:
                try:
                    message = worker.messages.get(timeout=self._cut_off)
                except Empty:
                    return replies
                if message is _FAILED:
                    return None
                if message is _COMPLETE:
                    return replies
                replies.append(message)
        finally:
            with self._lock:
                worker.busy = False
                worker.requests += 1
                if worker.requests >= self._worker_requests and worker in self._workers:
                    self._workers[self._workers.index(worker)] = _Worker()

    def _send(self, worker: _Worker, request: _Call) -> None:
        results: list[Any] = []
        try:
            results = self._dispatch(request.service, request.method, request.parameters)
            ending = [_COMPLETE]
        except Failure as failure:
            ending = [_FAILED, *_after_a_failure(request, failure)]
        messages = [*results, *ending]
        silence = self._slow.get(request.method)
        # A service sends an only result together with the end of the response, so nothing comes before the silence.
        at_once = len(messages) if silence is None else len(results) // 2
        _put(worker, messages[:at_once])
        if silence is not None:
            later = threading.Timer(silence, _put, (worker, messages[at_once:]))
            later.daemon = True
            with self._lock:
                self._late.append(later)
            later.start()

    def _idle(self) -> _Worker:
        """Return the first idle worker, so sequential requests share one."""
        with self._lock:
            worker = next((worker for worker in self._workers if not worker.busy), None)
            if worker is None:
                worker = _Worker()
                self._workers.append(worker)
            worker.busy = True
            return worker


def _put(worker: _Worker, messages: list[object]) -> None:
    for message in messages:
        worker.messages.put(message)


def _after_a_failure(request: _Call, failure: Failure) -> list[object]:
    """Return the messages a service sends after a failure; Apache's gateway never reads them."""
    if request.service != _TRAILING or failure.status == HTTPStatus.NOT_FOUND:
        return []
    streamed = ".search." in request.method and not request.method.endswith(".atomic")
    return [_COMPLETE, _FAILED] if streamed else [_FAILED]


def _parsed(form: bytes, classes: Container[str]) -> _Call:
    fields = parse_qsl(form.split(b"#", 1)[0].decode("ascii", "replace"), keep_blank_values=True, errors="replace")
    last = dict(fields)
    try:
        given = [json.loads(value, parse_constant=_refuse) for name, value in fields if name == "param"]
        if not _all_known(given, classes):
            raise _BadRequestError
        return _Call(last["service"], last["method"], given)
    except (ValueError, KeyError, RecursionError):
        raise _BadRequestError from None


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _all_known(value: Any, classes: Container[str]) -> bool:
    """Return whether all objects in a value belong to known classes."""
    if isinstance(value, list):
        return all(_all_known(item, classes) for item in value)
    if not isinstance(value, dict):
        return True
    if isinstance(value.get("__c"), str) and "__p" in value and value["__c"] not in classes:
        return False
    return all(_all_known(item, classes) for item in value.values())
