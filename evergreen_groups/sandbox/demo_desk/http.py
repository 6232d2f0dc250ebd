"""Handing requests on to the web service, as Apache's ``ProxyPass`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException
from importlib.resources import files
from urllib.parse import urlsplit

TIMEOUT = 60.0
_ONE_HOP = {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_BY_SERVER = {"date", "server"}


@cache
def _unavailable() -> bytes:
    return files(__package__).joinpath("templates", "unavailable.html").read_bytes()


class Forwarder:
    """Hands requests on to the server at ``url``; only its host and port count."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def forward(self, request: Request) -> ForwardedAnswer:
        """The server's answer; 503 in HTML, as Apache gives it, where there is none."""
        connection = HTTPConnection(self._address, timeout=TIMEOUT)
        try:
            connection.request(request.command, request.target, request.body or None, self._headers(request))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            return ForwardedAnswer(503, "text/html; charset=iso-8859-1", _unavailable())
        finally:
            connection.close()
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _ONE_HOP | _BY_SERVER}
        content_type = next((headers.pop(name) for name in list(headers) if name.lower() == "content-type"), None)
        return ForwardedAnswer(answer.status, content_type, body, headers)

    @staticmethod
    def _headers(request: Request) -> dict[str, str]:
        passed_on = {name: value for name, value in request.headers.items() if name not in _ONE_HOP}
        former = passed_on.pop("x-forwarded-for", "")
        return passed_on | {
            "x-forwarded-for": f"{former}, {request.peer}" if former else request.peer,
            "x-forwarded-host": request.headers.get("host", ""),
        }


@dataclass(frozen=True, slots=True)
class Request:
    """A request: ``target`` is path and query as sent, ``peer`` the address of whoever asks.

    The names of ``headers`` are in small letters.
    """

    command: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def path(self) -> str:
        """The path, as sent."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class ForwardedAnswer:
    """An answer; ``content_type`` none: there's no body."""

    status: int
    content_type: str | None
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
