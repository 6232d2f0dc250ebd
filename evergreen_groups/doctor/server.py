"""A check of what the server is and can do: its release, its bus, and how it checks who may see which patrons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.gateway import OLDEST_RELEASE, Bus, GatewayKind, RowChecks
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.doctor.installation import Subject
    from evergreen_groups.gateway import Capabilities

_BUSES = {Bus.REDIS: "Redis", Bus.XMPP: "XMPP", None: Message("an unknown bus")}
_ROW_CHECKS = {
    RowChecks.IN_QUERY: Message("who may be seen is checked in the query, the quickest way"),
    RowChecks.ROW_BY_ROW: Message("who may be seen is checked patron by patron, so a long report takes longer"),
    None: Message("it doesn't tell how it checks who may be seen"),
}


def server(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """It is recent enough, and all of its services are of one release."""
    found = subject.capabilities
    if found.version.is_old:
        yield line.failed(
            "this is Evergreen {release}, which is too old",
            "upgrade it to {oldest} or later",
            code="old-release",
            values={"release": str(found.version.release or found.version.name), "oldest": str(OLDEST_RELEASE)},
        )
        return
    values = {"release": _release(found), "bus": _BUSES[found.bus], "checks": _ROW_CHECKS[found.row_checks]}
    if found.gateway is GatewayKind.RUST:
        yield line.ok("{release} on {bus}, behind the Rust gateway; {checks}", values=values)
    else:
        yield line.ok("{release} on {bus}; {checks}", values=values)
    names = {service: version.name for service, version in found.versions.items() if version.name}
    if len(set(names.values())) > 1:
        yield line.warning(
            "its services are of different releases: {services}",
            "restart those that were left running by an upgrade",
            code="releases-differ",
            values={"services": [f"{service} {name}" for service, name in names.items()]},
        )


def _release(found: Capabilities) -> Message:
    version = found.version
    if version.name == "HEAD" and found.at_least is not None:
        return Message("Evergreen from git, {release} or later", values={"release": str(found.at_least)})
    if version.name in ("", "HEAD"):
        return Message("Evergreen of an unknown release")
    return Message("Evergreen {version}", values={"version": str(version.release or version.name)})
