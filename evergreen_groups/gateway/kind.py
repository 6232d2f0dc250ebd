"""Which gateway answers: Apache's module, or the one that is written in Rust.

The second (``http-gateway.rs`` of kcls/evergreen-universe-rs) ends every failure with HTTP 400 and no reason. It
ignores ``timeout``, and an answer that is 300 seconds late with status 200 and what had come so far. Its workers take
whatever is next on the bus for the answer: after a failure of pcrud, which sends two messages of it, or after an answer
that was cut off, each request to that worker gets what belongs to the one before.
"""

from __future__ import annotations

import secrets
from enum import Enum
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError, TransportError
from evergreen_groups.gateway.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Well before it cuts off an answer: one that came within this time is whole, and one that didn't isn't an answer.
LONGEST_CALL = 240.0
"""How long, in seconds, an answer of the Rust gateway is waited for at most, whatever the settings say."""
BRIEF_CALL = 10.0
"""How long, in seconds, the answer to a question may take that any service answers at once."""

_ECHO = "opensrf.system.echo"
_TRIES = 2
_SETTING, _PROGRAM = "EG_HTTP_GATEWAY_MAX_REQUESTS", "eg-http-gateway"


class GatewayKind(Enum):
    """Which program answers for the site's OpenSRF: Apache with OpenSRF's own module, or the one written in Rust."""

    OPENSRF = "opensrf"
    RUST = "rust"


class KindSeen:
    """What the answers that have come show of the gateway's ``kind``: None before the first."""

    def __init__(self) -> None:
        self.kind: GatewayKind | None = None

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take in the headers of an answer. Where both kinds answer in turn, it is the one that wants more care."""
        if is_of_rust(headers):
            self.kind = GatewayKind.RUST
        elif self.kind is None:
            self.kind = GatewayKind.OPENSRF


def is_of_rust(headers: Mapping[str, str]) -> bool:
    """Whether an answer is the Rust gateway's: it calls it text/json, Apache's calls it text/plain (``errors-004``)."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/json"


def is_mixed_up(service: str, ask: Callable[[Call, str], list[Any] | None]) -> bool:
    """Whether a service doesn't give back a word: then a worker is behind. ``ask`` gives None for a failure.

    It need not be the worker that has answered before, though where nothing else goes on it is: requests go to the
    first that is idle.
    """
    for _ in range(_TRIES):
        word = secrets.token_hex(8)
        answer = ask(Call(service, _ECHO), word)
        # The failure may be what was left over from another request. Then the next answer is the first word.
        if answer is not None:
            return answer != [word]
    return False


def not_believed() -> DataError:
    """The error for an answer that may be another request's."""
    return DataError(
        "the gateway gave an answer that belongs to another request",
        advice="set {variable}=1 for {program} and restart it: its workers mix up answers after a failure",
        code="answers-mixed-up",
        values={"variable": _SETTING, "program": _PROGRAM},
    )


def not_sent(call: Call) -> TransportError:
    """The error for a write whose answer might be another request's: it hasn't been sent."""
    return TransportError(
        "not sent, because the gateway gives answers that belong to other requests",
        advice="set {variable}=1 for {program} and restart it: its workers mix up answers after a failure",
        code="write-withheld",
        values={"variable": _SETTING, "program": _PROGRAM},
        sent=False,
        **call.names,
    )
