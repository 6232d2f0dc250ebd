"""A call to the gateway: its name, its encoding as JSON and as a form, its deadline and its retry policy."""

from __future__ import annotations

import json
import logging
import math
import random
import re
import string
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from evergreen_groups import arguments
from evergreen_groups.errors import RequestTooLargeError, TimedOutError

if TYPE_CHECKING:
    from evergreen_groups.errors import CallNames

# A pair of surrogates, a single one, or another escape. Only the second is six characters long.
_SURROGATES = re.compile(r"(?is)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\ud[89a-f][0-9a-f]{2}|\\.")
_ONE_ESCAPE = 6
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")

_decoder = msgspec.json.Decoder(float_hook=Decimal)


def loads(text: str) -> Any:
    """Decode JSON; numbers with a decimal point or an exponent become ``Decimal``, never ``float``.

    Raises ValueError for invalid JSON (including NaN and infinities), integers of over 4,300 digits, and values nested
    too deeply.
    """
    # Some amounts are JSON numbers. As floats, 0.10 and 0.20 wouldn't add up to the 0.30 that Evergreen reports
    # (patrons-063).
    if "\\ud" in text or "\\uD" in text:
        text = _without_single_surrogates(text)
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as error:  # a ValueError since msgspec 0.21
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: object) -> str:
    """Encode a value as ASCII JSON without spaces.

    ``Decimal`` becomes a number with the same digits. A record is written with all its fields and flags, because
    methods that store the record need them. Raises ArgumentError for types that msgspec can't write, and ValueError for
    NaN and infinities.

    >>> dumps({"balance_owed": {">=": Decimal("25.00")}})
    '{"balance_owed":{">=":25.00}}'
    """
    try:
        text = _encoder.encode(value).decode()
    except UnicodeEncodeError:  # half a surrogate pair, as in a command-line argument that isn't UTF-8
        return _without_single_surrogates(_standard_dumps(value))
    # msgspec writes NaN and infinity as null (0.19: Decimal's as they are), which the standard library refuses.
    if "null" in text or "NaN" in text or "Infinity" in text:
        _standard_dumps(value)
    return text if text.isascii() else _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _without_single_surrogates(text: str) -> str:
    """Replace the escapes of half surrogate pairs with U+FFFD: they can't be written to a file or a terminal."""
    return _SURROGATES.sub(lambda found: "\\ufffd" if len(found[0]) == _ONE_ESCAPE else found[0], text)


def _standard_dumps(value: object) -> str:
    built = msgspec.to_builtins(value, builtin_types=[Decimal], enc_hook=_plain)
    return json.dumps(built, allow_nan=False, default=float, separators=(",", ":"))


def _plain(value: Any) -> object:
    """Return the JSON form of a value that msgspec doesn't know."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_wire"):  # a record
        return value.to_wire(full=True)
    raise arguments.wrong("a call", value, "values that can be written as JSON")


_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)


AUTH: Final = "open-ils.auth"
"""The authentication service, by its name on the bus."""
PCRUD: Final = "open-ils.pcrud"
"""The service for reading rows, by its name on the bus."""

# Maximum bytes of a request body. The gateway sometimes got stuck on forms of about 90 kB (10,000 ids, with other calls
# running): the service logs a JSON error, and the caller gets 408 after 60 s.
REQUEST_LIMIT = 32_000


@dataclass(frozen=True, slots=True)
class Call:
    """The name of a call. Its parameters stay out, because they may hold patron data and tokens."""

    service: str
    method: str

    def __str__(self) -> str:
        return self.method or _THE_IDL

    @property
    def names(self) -> CallNames:
        """The names that an error carries."""
        return {"service": self.service, "method": self.method, "asked": self.method or _THE_IDL}


class CallOutcome(Enum):
    """Whether a request got a result, was refused by Evergreen, or got no usable answer."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"


CallObserver = Callable[[Call, float, CallOutcome], None]
"""A function called after every request to the gateway, repeated requests included, in the thread that made it.

It gets the seconds that the request took, including the wait for a free connection.
"""

_THE_IDL = "the IDL"
IDL_CALL = Call("", "")
"""The name under which fetching the IDL is logged and counted; it isn't a method."""


# Commas stay as they are: the gateway splits a form only at & and = (apachetools.c), and a list of ids has thousands of
# commas.
_UNQUOTED = set((string.ascii_letters + string.digits + "_.~,-%").encode())


def percent_encoded(value: str) -> str:
    """Percent-encode a value for a form.

    >>> percent_encoded('{"id": [7, 8]}')
    '%7B%22id%22%3A%20%5B7,%208%5D%7D'
    """
    # Ten times as fast as urllib's quote() for a long list of ids, which has only a few different characters to encode.
    quoted = value.encode().replace(b"%", b"%25")
    for byte in set(quoted) - _UNQUOTED:
        quoted = quoted.replace(bytes([byte]), b"%%%02X" % byte)
    return quoted.decode("ascii")


def form(call: Call, parameters: Sequence[object], *, locale: str | None, timeout: float) -> bytes:
    """Encode a call as a form: each parameter as JSON, spaces as %20.

    The gateway doesn't read ``+`` as a space. ``timeout`` is in seconds, rounded up, because the gateway parses it with
    ``atoi`` (``osrf_json_gateway.c``). Raises RequestTooLargeError if the body reaches ``REQUEST_LIMIT``.
    """
    fields = [("service", call.service), ("method", call.method)]
    fields += [("param", dumps(parameter)) for parameter in parameters]
    # Without this field the gateway waits 60 s, and keeps one of the service's processes busy for that long.
    fields.append(("timeout", str(max(1, math.ceil(timeout)))))
    if locale is not None:
        fields.append(("locale", locale))
    # A plus sign would reach the JSON parser unchanged, and the gateway silently turns JSON that it can't parse into
    # null (errors-013). The error would then blame the parameters, not the encoding.
    body = "&".join(f"{name}={percent_encoded(value)}" for name, value in fields).encode("ascii")
    if len(body) >= REQUEST_LIMIT:
        raise RequestTooLargeError(
            "the request is too large: {size:,} bytes, limit {limit:,}",
            advice="ask for less at once",
            values={"size": len(body), "limit": REQUEST_LIMIT},
            **call.names,
        )
    return body


def seconds_left(deadline: float, call: Call) -> float:
    """Return the seconds left before a deadline, which may be infinite. Raises TimedOutError once it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise _too_late(call)
    return left


@contextmanager
def held(lock: threading.Lock, deadline: float, call: Call) -> Iterator[None]:
    """Hold a lock that another thread may hold for long. Raises TimedOutError if the deadline passes first."""
    if not lock.acquire(timeout=min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)):
        raise _too_late(call)
    try:
        yield
    finally:
        lock.release()


def _too_late(call: Call) -> TimedOutError:
    return TimedOutError(
        "not sent, because the deadline has passed", advice="try again later", code="job-timed-out", **call.names
    )


log = logging.getLogger("evergreen_groups.gateway")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long to try a read; all times are in seconds.

    The delay doubles from ``first_delay`` up to ``longest_delay``, less up to half at random, so that many clients
    don't return at the same moment. No try begins after ``total_seconds``. ``unexplained`` also retries failures for
    which the gateway gives no reason.
    """

    # Delays of 0.5, 1 and 2 s outlast a reload of Apache or of a service. Longer outages are left to the caller's
    # schedule.
    tries: int = 4
    first_delay: float = 0.5
    longest_delay: float = 8.0
    # Three times the gateway's 60 s: a service that hangs is tried three times, not four.
    total_seconds: float = 180.0
    unexplained: bool = True

    def delays(self) -> Iterator[float]:
        """Yield the ``tries`` - 1 delays between tries."""
        for number in range(self.tries - 1):
            whole = min(self.longest_delay, self.first_delay * 2.0**number)
            yield whole * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, guards nothing


# Stays well below the point at which the Rust gateway cuts an answer off. An answer that arrives in this time is
# complete.
LONGEST_CALL = 240.0
"""Maximum seconds to wait for an answer of the Rust gateway, whatever the settings say."""
BRIEF_CALL = 10.0
"""Maximum seconds for calls that any service answers at once."""


class GatewayKind(Enum):
    """The program that serves the gateway: OpenSRF's Apache module, or the newer one written in Rust."""

    OPENSRF = "opensrf"
    RUST = "rust"


def is_rust_gateway(headers: Mapping[str, str]) -> bool:
    """Whether an answer is the Rust gateway's: its content type is text/json, Apache's text/plain (``errors-004``)."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/json"


@dataclass(eq=False)
class Statistics:
    """Counters of one gateway. Safe to share between threads.

    ``calls`` counts HTTP requests, repeats included, and the bytes those of bodies on the wire. ``unreadable_dates``
    lists the class, key and field of each date that couldn't be read, without duplicates.
    """

    calls: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    retries: int = 0
    unreadable_dates: list[tuple[str, object, str]] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, calls: int = 0, sent: int = 0, received: int = 0, retries: int = 0) -> None:
        """Count requests, bytes and repeats."""
        with self._lock:
            self.calls += calls
            self.bytes_sent += sent
            self.bytes_received += received
            self.retries += retries

    def unreadable_date(self, class_id: str, key: object, field: str) -> None:
        """Record a date that can't be read, and log a warning the first time."""
        found = (class_id, key, field)
        with self._lock:
            if found in self.unreadable_dates:
                return
            self.unreadable_dates.append(found)
        log.warning("the field %s of %s %s has a date that can't be read; it counts as unknown", field, class_id, key)
