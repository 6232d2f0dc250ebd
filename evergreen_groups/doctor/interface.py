"""Checks of the server's interface: its classes and fields, its methods, and the query that does the sums."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.doctor.installation import TIMEOUT, Subject
from evergreen_groups.doctor.requirements import FIELDS, METHODS, Method
from evergreen_groups.errors import (
    DataError,
    EventError,
    MethodNotFoundError,
    ProtocolError,
    ServerError,
    TimedOutError,
    UnexpectedAnswerError,
    UnexplainedError,
)
from evergreen_groups.gateway import GatewayKind, Pcrud
from evergreen_groups.groups import GroupRange, GroupSearch, HighFines
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.gateway import Gateway

_RANGE = 3_000
_ANOTHER = "look at fm_IDL.xml on the server: it is that of another release, or was edited"


def idl(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The server's IDL has the classes and fields that are used."""
    asked = subject.gateway
    missing: list[str] = []
    for class_id, fields in FIELDS.items():
        try:
            known = asked.idl(class_id)[class_id]
        except DataError:
            if not len(asked.idl()):
                raise
            missing.append(Message("class {class_id}", values={"class_id": class_id}))
            continue
        missing += [f"{class_id}.{field}" for field in sorted(fields - known.positions.keys())]
    if missing:
        yield line.failed(
            "the IDL lacks these: {missing}", _ANOTHER, code="idl-incomplete", values={"missing": missing}
        )
    else:
        yield line.ok(
            "the classes that are used are there with all their fields ({count})", values={"count": len(FIELDS)}
        )


def methods(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The server offers the methods that are used.

    Each is called with a token that no session has, so that none does anything.
    """
    asked = subject.gateway
    # The Rust gateway's workers are behind after pcrud has refused a token. Its searches are those of the classes.
    wanted = [one for one in METHODS if asked.kind is not GatewayKind.RUST or one.service != Pcrud.SERVICE]
    offered = list(zip(wanted, asked.map(lambda method: _offered(asked, method), wanted), strict=True))
    untold = [method.name for method, there in offered if there is None]
    missing = [method for method, there in offered if there is False]
    if untold:
        yield line.warning(
            "this gateway doesn't say whether these are offered: {methods}",
            "look at the server's release, and into the logs of its services",
            code="methods-untold",
            values={"methods": untold},
        )
    for method in missing:
        values = {"method": method.name, "purpose": method.purpose}
        if method.instead:
            yield line.warning(
                "{method} is not offered; needed for: {purpose}. Used in its place: {instead}",
                "nothing, or install a newer release",
                code="method-replaced",
                values={**values, "instead": method.instead},
            )
        else:
            yield line.failed(
                "{method} is not offered; needed for: {purpose}",
                "look at the server's release, and at what its gateway lets through",
                code="method-not-offered",
                values=values,
            )
    if not missing and not untold:
        yield line.ok("all that are used are offered ({count})", values={"count": len(wanted)})


def _offered(asked: Gateway, method: Method) -> bool | None:
    """Whether there is a method, None where that can't be told."""
    try:
        asked.call(method.service, method.name, *method.parameters, expect="optional")
    except MethodNotFoundError:
        return False
    except UnexplainedError:
        return None
    except (EventError, ProtocolError):
        pass  # it refused what it was sent: it is there
    return True


def pushdown(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The ILS's database adds up groups' fines itself, as the report and the audit need it to."""
    asked = subject.gateway
    everywhere = len(subject.visible_orgs) == sum(1 for _unit in subject.org_units)
    fines = HighFines(
        min_total=subject.settings.report.min_total,
        more_than_one=True,
        visible_orgs=() if everywhere else subject.visible_orgs,
    )
    highest = GroupSearch(asked, fines).highest_group()
    if not highest:
        yield line.failed(
            "the account sees not a single patron",
            "see whose home library is one where it has VIEW_USER",
            code="no-patrons",
        )
        return
    query = fines.members(GroupRange(highest - _RANGE, highest))
    began = time.monotonic()
    try:
        asked.pcrud.search_columns("au", ("id",), query, order_by="id", limit=_RANGE)
    except ServerError:
        yield line.failed(
            "the server refuses it, and there is no report without it",
            "look into the log of open-ils.pcrud, and which release it is: 3.11 and newer take it",
            code="query-refused",
        )
    except (TimedOutError, UnexpectedAnswerError):
        yield line.warning(
            "no answer in {seconds} s; the report cuts it in smaller parts",
            "look at the load of the server's database",
            code="query-slow",
            values={"seconds": TIMEOUT},
        )
    else:
        yield line.ok(
            "the server takes the query; group numbers: {count:,}, in {seconds:.2f} s",
            values={"count": _RANGE, "seconds": time.monotonic() - began},
        )
