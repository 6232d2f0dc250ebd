"""The API for follow-ups: what was agreed with the groups of a report, and entries to save."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from flask import Blueprint, Response, jsonify, request

from evergreen_groups.follow_up import FollowUps, ReportFollowUps, Today, Written, digest_of, today_at
from evergreen_groups.ils import VIEW_USER
from evergreen_groups.render import entry_document, follow_ups_document
from evergreen_groups.web import bodies, requests
from evergreen_groups.web.admission import permitted_at
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.report_pages import location_of, report_refused
from evergreen_groups.web.service import service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evergreen_groups.follow_up import DraftEntry
    from evergreen_groups.web.service import DeskRequest, Service

blueprint = Blueprint("follow_ups", __name__)


@dataclass(frozen=True, slots=True)
class ReadFollowUps:
    """The follow-ups of a report that a caller may see, and ``store``, where they are from.

    ``libraries`` are the ids of org units by short name. ``found`` is None if no run was recorded.
    """

    store: FollowUps
    found: ReportFollowUps | None
    libraries: Mapping[str, int]
    today: Today

    @classmethod
    def read(cls, running: Service, desk: DeskRequest, report: str) -> Self:
        """Read them.

        Raises:
            ProblemError: 403, the caller may not read the report; 404, there is none with this name.
        """
        location = location_of(running, report or None)
        # As in the address of its page, the case of the name doesn't matter.
        names = [one.name for one in running.settings.reports if one.name.casefold() == report.casefold()]
        report = next(iter(names), report)
        gateway = desk.client.gateway
        units = running.reference.org_units(gateway)
        libraries = {unit.shortname: unit.id for unit in units}
        visible = running.reference.rights(gateway).at(VIEW_USER)
        sees_all = visible.issuperset(libraries.values())
        if not sees_all and not location.is_dir():
            raise report_refused()
        store = FollowUps(running.state.database, gateway.url)
        found = store.of_report(report)
        if found is not None and not sees_all:
            # A library's page shows the groups that have a member there.
            mine = {
                number: one
                for number, one in found.by_group.items()
                if any(libraries.get(name) in visible for name in one.group.libraries)
            }
            found = replace(found, by_group=mine)
        configured = running.settings.language.language().timezone
        zones = {} if configured else running.reference.timezones(gateway)
        today = today_at(running.state.database.now(), configured, zones, units)
        return cls(store, found, libraries, today)

    def writable(self, running: Service, desk: DeskRequest, libraries: Iterable[str]) -> frozenset[str]:
        """Return the libraries (short names) at which the caller may save entries."""
        if not running.settings.desk.changes:
            return frozenset()
        ids = {name: self.libraries[name] for name in libraries if name in self.libraries}
        permission = running.settings.follow_up.permission
        permitted = permitted_at(desk.client.gateway, desk.caller, frozenset(ids.values()), permission)
        return frozenset(name for name, id in ids.items() if id in permitted)


@blueprint.get("/api/v1/follow-ups")
def follow_ups() -> Response:
    """Answer with the follow-ups of the groups that a report shows."""
    running = service()
    with running.desk(request) as desk:
        report = request.args.get("report", "")
        read = ReadFollowUps.read(running, desk, report)
        groups = read.found.by_group.values() if read.found else ()
        writable = read.writable(running, desk, {one.group.contact_library for one in groups})
        again_after = running.settings.follow_up.again_after
        return jsonify(follow_ups_document(report, read.found, read.today, again_after, writable=writable))


def save_entries(
    running: Service,
    desk: DeskRequest,
    report: str,
    drafts: Sequence[DraftEntry],
    key: str,
    read: ReadFollowUps | None = None,
) -> Written:
    """Save entries for a caller, all or none. ``read`` are the follow-ups if the caller has just read them.

    Raises:
        ProblemError: 403, the caller may not save one of them.
        PlanError: an entry isn't accepted, or the key stands for other entries.
        NotFoundError: the report doesn't list a group, or there is no such entry.
    """
    digest = digest_of(report, drafts)
    store = FollowUps(running.state.database, desk.client.gateway.url)
    if saved := store.saved(desk.caller.user, key, digest):
        return Written(saved)
    read = read or ReadFollowUps.read(running, desk, report)
    found = read.found or ReportFollowUps(report, running.state.database.now(), {})
    follow_ups = [found.group(draft.group) for draft in drafts]
    others = {
        one.group.contact_library
        for one, draft in zip(follow_ups, drafts, strict=True)
        if draft.corrects is None or one.entry(draft.corrects).original.staff != desk.caller.user
    }
    for library in sorted(others - read.writable(running, desk, others)):
        raise ProblemError(
            403,
            "your login lacks the permission {permission} at {library}",
            code="follow-up-permission-missing",
            values={"permission": running.settings.follow_up.permission, "library": library},
        )
    checked = [
        draft.checked(one, read.today(one.group.contact_library)) for one, draft in zip(follow_ups, drafts, strict=True)
    ]
    written = store.write(
        found,
        checked,
        staff=desk.caller.user,
        workstation=desk.caller.workstation,
        org_unit=desk.caller.library,
        key=key,
        request=digest,
    )
    running.state.plugins.notify("follow_up_added", *written.entries)
    return written


@blueprint.post("/api/v1/follow-ups")
def save() -> Response:
    """Save entries, all or none. Repeating the request with the same key gives the same answer."""
    running = service()
    with running.changing_desk(request, largest=requests.LARGEST_ENTRIES_BODY) as desk:
        report, drafts = bodies.follow_up_entries(request)
        outcome = save_entries(running, desk, report, drafts, requests.idempotency_key(request))
        if outcome.newer:
            raise ProblemError(
                409,
                "A colleague has added an entry. Yours wasn't saved.",
                advice="Check the new entry, then save yours.",
                code="newer-entry",
                more={"newer": [entry_document(entry) for entry in outcome.newer]},
            )
        entries = [entry_document(entry) for entry in outcome.entries]
        return jsonify(version=1, kind="follow-up-entries", entries=entries)
