"""One call: what is asked of which service, and the form it is sent as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from evergreen_groups.errors import RequestTooLargeError
from evergreen_groups.gateway import wire

REQUEST_LIMIT = 32_000
"""A request's body stays below this many bytes; real gateways can get stuck on larger ones."""


@dataclass(frozen=True, slots=True)
class Call:
    """The name of what is asked, without its parameters: those may hold patron data and tokens."""

    service: str
    method: str

    def __str__(self) -> str:
        return self.method or "the IDL"


IDL_CALL = Call("", "")
"""Stands for fetching the IDL, which is no method."""


def form(call: Call, parameters: Sequence[object], *, locale: str | None, timeout: float) -> bytes:
    """Encode a call as a form: each parameter a JSON text, a blank as %20.

    The gateway doesn't take ``+`` for a blank. ``timeout`` is in seconds, rounded up: the gateway reads it with
    ``atoi`` (``osrf_json_gateway.c``). Raises RequestTooLargeError from ``REQUEST_LIMIT`` on.
    """
    fields = [("service", call.service), ("method", call.method)]
    fields += [("param", wire.dumps(parameter)) for parameter in parameters]
    fields.append(("timeout", str(max(1, math.ceil(timeout)))))
    if locale is not None:
        fields.append(("locale", locale))
    body = urlencode(fields, quote_via=quote, safe="").encode("ascii")
    if len(body) >= REQUEST_LIMIT:
        raise RequestTooLargeError(
            f"{call}: the request would be {len(body):,} bytes; the gateway is only safe below {REQUEST_LIMIT:,}. "
            "Ask in smaller portions.",
            service=call.service,
            method=call.method,
        )
    return body
