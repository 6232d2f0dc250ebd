"""Checks of what answers at the address: a gateway, soon enough, with the right time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.errors import (
    CutOffError,
    HTTPStatusError,
    MethodNotFoundError,
    NotJSONError,
    ServiceNotFoundError,
    UnexplainedError,
)
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.doctor.installation import Subject
    from evergreen_groups.gateway import Gateway

SLOW_SECONDS = 1.0
"""A gateway takes a few milliseconds to answer the simplest call."""
CLOCK_SECONDS = 60
"""Sessions, expiry dates and due dates are compared with the server's time; a minute more or less does no harm."""

SERVICES = ("open-ils.actor", "open-ils.auth", "open-ils.pcrud")
"""The services that are used."""
_SERVICE = "open-ils.actor"
_TIME = "opensrf.system.time"
_WORD = "evergreen-groups"
_TRIES = 5


def gateway(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """A gateway answers there, with the service that knows patrons behind it."""
    try:
        answer = _echo(subject.gateway, SERVICES[0])
    except (HTTPStatusError, NotJSONError, CutOffError) as error:
        yield line.failed(
            "no gateway at {address}: {problem}",
            "check host, port and path of url in [gateway]: it is the root of an Evergreen's web server",
            code="no-gateway",
            values={"address": subject.address.gateway, "problem": Message(error.message, values=error.values)},
            setting="gateway.url",
        )
        return
    if answer not in (_WORD, None):
        yield line.failed(
            "it does not give back what it is sent",
            "check what stands between here and the gateway",
            code="no-echo",
        )
        return
    yield line.ok("{where} answers", values={"where": subject.address.gateway})


def services(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The services that are used run, and the gateway lets everybody at them."""
    missing = [service for service in SERVICES if _echo(subject.gateway, service) is None]
    if missing:
        yield line.failed(
            "without {missing}",
            "start what is missing, and name it among the gateway's services in opensrf_core.xml",
            code="services-missing",
            values={"missing": missing},
        )
    else:
        yield line.ok("{services} are offered", values={"services": [*SERVICES]})


def _echo(asked: Gateway, service: str) -> object:
    """What a service gives back of a word, None where there is no such service."""
    try:
        return asked.call(service, "opensrf.system.echo", _WORD).value
    except (ServiceNotFoundError, MethodNotFoundError, UnexplainedError):  # each service has this method
        return None


@dataclass(frozen=True, slots=True)
class _Sample:
    """One simple call: how long it took and how far the server's clock was ahead of this one's, in seconds."""

    seconds: float
    ahead: float


def _sample(subject: Subject) -> _Sample:
    began, clock = time.monotonic(), time.time()
    server = float(subject.gateway.call(_SERVICE, _TIME).value)
    seconds = time.monotonic() - began
    return _Sample(seconds, server - (clock + seconds / 2))


def answer_time(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """A simple call is answered at once."""
    seconds = statistics.median(_sample(subject).seconds for _ in range(_TRIES))
    values = {"milliseconds": seconds * 1000}
    if seconds > SLOW_SECONDS:
        yield line.warning(
            "{milliseconds:,.0f} ms for a simple call",
            "look for a busy server (free children of open-ils.actor) or a slow network",
            code="answers-slow",
            values=values,
        )
    else:
        yield line.ok("{milliseconds:,.0f} ms for a simple call", values=values)


def clock(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """This machine and the server agree about the time."""
    ahead = _sample(subject).ahead
    if abs(ahead) > CLOCK_SECONDS:
        yield line.warning(
            "the clocks of the server and this machine are {seconds:,.0f} s apart: {which}",
            "have both set by NTP: dates are compared with the wrong time otherwise",
            code="clocks-apart",
            values={
                "seconds": abs(ahead),
                "which": Message("the server's is ahead") if ahead > 0 else Message("the server's is behind"),
            },
        )
    else:
        yield line.ok("this machine and the server agree")
