"""The sandbox's web server: the gateway, the IDL file, ``POST /sandbox/reset``, and the demo desk if enabled."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import sqlite3
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lxml import etree

from evergreen_groups.sandbox.database import Store, now
from evergreen_groups.sandbox.demo_desk import DemoDesk, Request
from evergreen_groups.sandbox.http.wire import json_answer, parse_json, parse_xml, xml_answer
from evergreen_groups.sandbox.services import CallContext, Difference, Failure, Sessions, dispatch, registry

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import IdlClasses, Retrieve, StoredClass
    from evergreen_groups.sandbox.http.rust_gateway import RustGateway

_BASE = "http://opensrf.org/spec/IDL/base/v1"
_PERSIST = "http://open-ils.org/spec/opensrf/IDL/persistence/v1"
_OBJECTS = "http://open-ils.org/spec/opensrf/IDL/objects/v1"
_REPORTER = "http://open-ils.org/spec/opensrf/IDL/reporter/v1"
_PERMACRUD = "http://open-ils.org/spec/opensrf/IDL/permacrud/v1"
_NAMESPACES = {
    "idl": _BASE,
    "oils_persist": _PERSIST,
    "oils_obj": _OBJECTS,
    "reporter": _REPORTER,
    "permacrud": _PERMACRUD,
}


def fm_idl(classes: IdlClasses, class_ids: Sequence[str] = ()) -> bytes:
    """Return the IDL of some classes, by default of all; unknown ids are ignored (``idl-005``)."""
    root = etree.Element(f"{{{_BASE}}}IDL", nsmap=_NAMESPACES)
    for idl_class in classes.values():
        if not class_ids or idl_class.id in class_ids:
            _add_class(root, idl_class)
    etree.cleanup_namespaces(root, top_nsmap=_NAMESPACES)
    return etree.tostring(root)


def _add_class(root: etree._Element, idl_class: StoredClass) -> None:
    node = etree.SubElement(root, f"{{{_BASE}}}class", id=idl_class.id, controller=" ".join(idl_class.controllers))
    node.set(f"{{{_OBJECTS}}}fieldmapper", idl_class.fieldmapper)
    node.set(f"{{{_PERSIST}}}tablename", idl_class.table)
    fields = etree.SubElement(node, f"{{{_BASE}}}fields")
    fields.set(f"{{{_PERSIST}}}primary", idl_class.primary)
    fields.set(f"{{{_PERSIST}}}sequence", idl_class.sequence or "")
    for item in idl_class.fields:
        field = etree.SubElement(fields, f"{{{_BASE}}}field", name=item.name)
        if item.virtual:
            field.set(f"{{{_PERSIST}}}virtual", "true")
        if item.datatype:
            field.set(f"{{{_REPORTER}}}datatype", item.datatype)
        if item.required:
            field.set(f"{{{_OBJECTS}}}required", "true")
        if item.translated:
            field.set(f"{{{_PERSIST}}}i18n", "true")
    links = etree.SubElement(node, f"{{{_BASE}}}links")
    for link in idl_class.links.values():
        attributes = {"field": link.field, "reltype": link.reltype, "key": link.key, "map": link.map}
        etree.SubElement(links, f"{{{_BASE}}}link", {**attributes, "class": link.class_id})
    if idl_class.retrieve is not None:
        _add_retrieve(node, idl_class.retrieve)


def _add_retrieve(node: etree._Element, rule: Retrieve) -> None:
    permacrud = etree.SubElement(node, f"{{{_PERMACRUD}}}permacrud")
    actions = etree.SubElement(permacrud, f"{{{_PERMACRUD}}}actions")
    attributes = {
        "permission": " ".join(rule.permissions),
        "global_required": "true" if rule.global_required else "",
        "context_field": " ".join(rule.context_fields),
        "owning_user": rule.owning_user or "",
    }
    given = {name: value for name, value in attributes.items() if value}
    retrieve = etree.SubElement(actions, f"{{{_PERMACRUD}}}retrieve", given)
    for context in rule.contexts:
        element = etree.SubElement(retrieve, f"{{{_PERMACRUD}}}context", link=context.link)
        element.set("field", " ".join(context.fields))
        if context.jump:
            element.set("jump", ".".join(context.jump))


GATEWAY, IDL, RESET = "/osrf-gateway-v1", "/reports/fm_IDL.xml", "/sandbox/reset"
GREATEST_BODY = 10 * 1024 * 1024
MOST_PAIRS = 1001
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_NOT_FOUND = files(__package__).joinpath("not_found.html").read_bytes()

log = logging.getLogger(__name__)


def parse_form(data: bytes) -> list[tuple[str, str]]:
    """Parse form fields like the gateway: ``%xx`` is decoded, ``+`` isn't, and an empty name ends the form."""
    pairs: list[tuple[str, str]] = []
    first, *others = data.split(b"&")
    for part in (first, *filter(None, others)):
        name, _, value = part.partition(b"=")
        if not name:
            break
        pairs.append((_unescape(name), _unescape(value)))
    return pairs if len(pairs) <= MOST_PAIRS else []


def _unescape(text: bytes) -> str:
    plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text)
    return plain.split(b"\0")[0].decode("utf-8", "replace")


class _HangUp(Exception):  # noqa: N818 - the gateway's behavior, not an error here
    """The gateway closes the connection without a response (``errors-047``)."""


class Handler(BaseHTTPRequestHandler):
    """Handles the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "evergreen-groups-sandbox"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: SandboxServer

    def _answer_any(self) -> None:
        parts = urlsplit(self.path)
        try:
            body = self._body()
            if parts.path == GATEWAY or parts.path.startswith(f"{GATEWAY}/"):
                self._gateway(parts.query.encode(), body)
            elif parts.path == IDL:
                self._idl(parts.query.encode())
            elif parts.path == RESET and self.command == "POST":
                self.server.reset()
                self._send(200, "text/plain", b"reset\n")
            elif not self._serve_desk(body):
                self._send(404, "text/html; charset=iso-8859-1", _NOT_FOUND)
        except _HangUp:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = _answer_any  # noqa: N815 - names of the base class

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length") or "0"
        return self.rfile.read(int(length)) if length.isdigit() else b""

    def _chunks(self) -> bytes:
        parts = []
        while (size := int(self.rfile.readline(100).split(b";")[0] or b"0", 16)) > 0:
            parts.append(self.rfile.read(size))
            self.rfile.readline(100)
        while self.rfile.readline(10_000).strip():
            pass
        return b"".join(parts)

    def _serve_desk(self, body: bytes) -> bool:
        """Respond as the demo desk; False if it isn't enabled, or has nothing at this path."""
        if self.server.desk is None:
            return False
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body, str(self.client_address[0]))
        answer = self.server.desk.answer(request)
        if answer is None:
            return False
        self._send(answer.status, answer.content_type, answer.body, answer.headers)
        return True

    def _gateway(self, query: bytes, body: bytes) -> None:
        if self.server.rust is not None:
            if "Transfer-Encoding" in self.headers:
                raise _HangUp
            self.wfile.write(self.server.rust.answer(self.command, query, body))
            self.wfile.flush()
            self.close_connection = True
            return
        in_body = self.command == "POST"
        usable = not in_body or 0 < len(body) <= GREATEST_BODY
        pairs = parse_form((query + body if in_body else query) if usable else b"")
        first = dict(reversed(pairs))
        if "service" not in first or "method" not in first:
            self._send(404, "text/html; charset=iso-8859-1", _NOT_FOUND)
            return
        texts = [value for name, value in pairs if name == "param"]
        written_form = first.get("format", "json").lower()
        given = self._parameters(first.get("input_format", written_form).lower(), texts)
        locale = first.get("locale") or self.headers.get("X-OpenSRF-Language") or self.headers.get("Accept-Language")
        level = int(match[0]) if (match := re.match(r"\d+", first.get("api_level", "1"))) else 1
        payload: list[Any] = []
        status, debug = 200, None
        try:
            language = (locale or "en-US").split(",")[0]
            payload = self.server.results(first["service"], first["method"], given, language, level)
        except Failure as failure:
            status, debug = failure.status, failure.debug
        if written_form == "xml":
            self._send(200, "application/xml", xml_answer(payload, status, debug).encode("utf-8", "replace"))
        else:
            self._send(200, "text/plain", json_answer(payload, status, debug).encode("ascii"))

    @staticmethod
    def _parameters(written_form: str, texts: list[str]) -> list[Any]:
        if written_form == "json":
            return [parse_json(text) for text in texts]
        if written_form == "xml":
            return [parse_xml(text) for text in texts]
        raise _HangUp

    def _idl(self, query: bytes) -> None:
        document = fm_idl(self.server.store.classes, [value for name, value in parse_form(query) if name == "class"])
        tag = f'"{hashlib.sha256(document).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Last-Modified": self.server.started}
        if self.headers.get("If-None-Match") == tag or self.headers.get("If-Modified-Since") == self.server.started:
            self._send(304, None, b"", headers)
        else:
            self._send(200, "application/xml; charset=utf-8", document, headers)

    def _send(self, status: int, content_type: str | None, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            # As Apache does (httpd 2.4, modules/http/http_protocol.c, ap_set_keepalive).
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: request lines may contain patron data."""


class SandboxServer(ThreadingHTTPServer):
    """Serves a :class:`Store`; ``port`` 0 picks a free one.

    ``differences`` describe the imitated release, and ``ils_version`` is the version it reports. Set ``rust`` to
    imitate the Rust gateway, and ``desk`` to serve the demo desk.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        store: Store,
        host: str,
        port: int,
        differences: frozenset[Difference] = frozenset(),
        ils_version: str = "HEAD",
    ) -> None:
        registry.register()
        super().__init__((host, port), Handler)
        self.store = store
        self.differences = differences
        self.ils_version = ils_version
        self.desk: DemoDesk | None = None
        self.rust: RustGateway | None = None
        self.sessions = Sessions(now)
        self.started = now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        self._connections: set[socket.socket] = set()

    def server_bind(self) -> None:
        """Bind without a DNS lookup of the host's full name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    @property
    def url(self) -> str:
        """The base URL, for example ``http://127.0.0.1:8080``."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def results(
        self,
        service: str,
        method: str,
        given: list[Any],
        locale: str = "en-US",
        level: int = 1,
        *,
        sends_nulls: bool = False,
    ) -> list[Any]:
        """Call a method of a service and return its results.

        Raises:
            Failure: the method doesn't exist, or it failed.
        """
        context = CallContext(
            self.store,
            self.sessions,
            method,
            locale,
            differences=self.differences,
            ils_version=self.ils_version,
            sends_nulls=sends_nulls,
        )
        try:
            return dispatch(context, service, given, level)
        except Failure as failure:
            if failure.status == HTTPStatus.NOT_FOUND:
                # Clients call a service that no site has, to find out the bus: that isn't worth a warning.
                probes_bus = service not in registry.PERL_PACKAGES and service not in registry.C_SERVICES
                level = logging.INFO if probes_bus else logging.WARNING
                log.log(level, "refused %s %s: not offered here", service, method)
            raise
        except Exception as error:  # a bug in the sandbox: respond like a service that crashes
            log.exception("%s %s broke down", service, method)
            raise Failure(500, f"osrfMethodException :  *** Call to [{method}] failed") from error

    def reset(self) -> None:
        """Restore the fresh data and end all sessions."""
        self.store.reset()
        self.sessions.clear()
        if self.rust is not None:
            self.rust.restart()

    def refill(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Replace the data (:meth:`Store.refill`) and end all sessions."""
        self.store.refill(fill)
        self.sessions.clear()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, then return the thread's database connection to the pool."""
        self._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)
            self.store.release()

    def handle_error(self, *_: Any) -> None:
        """Log at debug level only: clients that hang up are normal."""
        log.debug("connection ended early", exc_info=True)

    def close_connections(self) -> None:
        """Close all client connections, and cancel delayed messages of the Rust gateway."""
        for connection in list(self._connections):
            self.shutdown_request(connection)
        if self.rust is not None:
            self.rust.restart()
