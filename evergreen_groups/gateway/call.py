"""One call: its name, and the form that it is sent as."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from evergreen_groups.errors import RequestTooLargeError
from evergreen_groups.gateway import wire
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.errors import CallNames

AUTH: Final = "open-ils.auth"
"""The service that logs in, by its name on the bus."""
PCRUD: Final = "open-ils.pcrud"
"""The service that reads rows, by its name on the bus."""

# Forms of about 90 kB got stuck now and then (10,000 ids while other calls were under way): the service logs a JSON
# error and 408 comes after 60 s. This stays well away from there.
REQUEST_LIMIT = 32_000
"""A request's body stays below this many bytes; real gateways can get stuck on larger ones."""


@dataclass(frozen=True, slots=True)
class Call:
    """The name of what is asked, without its parameters: those may hold patron data and tokens."""

    service: str
    method: str

    def __str__(self) -> str:
        return self.method or _THE_IDL

    @property
    def names(self) -> CallNames:
        """What an error says of it."""
        return {"service": self.service, "method": self.method, "asked": self.method or _THE_IDL}


class CallObserver(Protocol):
    """Is told of each request to the gateway when it has ended; repeated ones are told of each time.

    ``seconds`` is how long it took, waiting for a connection included. Called in whatever thread made the request.
    """

    def __call__(self, call: Call, seconds: float, outcome: CallOutcome) -> None: ...


class CallOutcome(Enum):
    """How one request ended."""

    ANSWERED = "answered"
    """With a result."""
    REFUSED = "refused"
    """With an answer that isn't one: the ILS said no, or doesn't know what was asked for."""
    FAILED = "failed"
    """Without a usable answer."""


_THE_IDL = Message("the IDL")
IDL_CALL = Call("", "")
"""Stands for fetching the IDL, which is no method."""


# Commas stay as they are: a form is cut at & and = alone (``apachetools.c``), and a list of ids has thousands of them.
_ENCODED = re.compile(r"[^A-Za-z0-9_.~,-]+")


def in_form(value: str) -> str:
    """A value as it stands in a form.

    >>> in_form('{"id": [7, 8]}')
    '%7B%22id%22%3A%20%5B7,%208%5D%7D'
    """
    # Most of what is sent are lists of ids: quote() alone looks at each character, which took eight times as long.
    return _ENCODED.sub(_quoted, value)


@lru_cache(4096)
def _quoted_text(signs: str) -> str:
    """What stands between words and numbers: brackets, commas and quotation marks, the same few over and over."""
    return quote(signs, safe="")


def _quoted(found: re.Match[str]) -> str:
    return _quoted_text(found[0])


def form(call: Call, parameters: Sequence[object], *, locale: str | None, timeout: float) -> bytes:
    """Encode a call as a form: each parameter a JSON text, a blank as %20.

    The gateway doesn't take ``+`` for a blank. ``timeout`` is in seconds, rounded up: the gateway reads it with
    ``atoi`` (``osrf_json_gateway.c``). Raises RequestTooLargeError from ``REQUEST_LIMIT`` on.
    """
    fields = [("service", call.service), ("method", call.method)]
    fields += [("param", wire.dumps(parameter)) for parameter in parameters]
    # Left out, the gateway waits its own 60 s and holds a child of the service for that long.
    fields.append(("timeout", str(max(1, math.ceil(timeout)))))
    if locale is not None:
        fields.append(("locale", locale))
    # A plus sign reaches the JSON parser as it is, and what doesn't parse is taken as null without a word
    # (errors-013): it looks like bad parameters, not like bad encoding.
    body = "&".join(f"{name}={in_form(value)}" for name, value in fields).encode("ascii")
    if len(body) >= REQUEST_LIMIT:
        raise RequestTooLargeError(
            "the request would be {size:,} bytes, and the gateway is only safe below {limit:,}",
            advice="ask in smaller portions",
            values={"size": len(body), "limit": REQUEST_LIMIT},
            **call.names,
        )
    return body
