"""The API for the groups of a report, as its last run recorded them: no call about a group is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify, request

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.ils import VIEW_USER
from evergreen_groups.render import total_document
from evergreen_groups.report import ListedGroup, ListedGroups
from evergreen_groups.values import plain_amount
from evergreen_groups.web import bodies
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.service import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evergreen_groups.ils import OrgUnits
    from evergreen_groups.web.bodies import GroupsQuery

blueprint = Blueprint("groups", __name__)

_ORDERS: dict[str, Callable[[ListedGroup], Any]] = {
    "combined_fines": lambda one: -one.listing.combined_fines,
    "over_limit_count": lambda one: -one.over_limit_count.at_least,
    "member_count": lambda one: -one.listing.member_count,
    "group": lambda one: one.listing.group,
}


@blueprint.get("/api/v1/groups")
def groups() -> Response:
    """Answer with the groups that the last run of a report shows and the session may see."""
    running = service()
    with running.desk(request) as desk:
        query = bodies.groups_query(request)
        gateway = desk.client.gateway
        units = running.reference.org_units(gateway)
        seen_at = running.reference.rights(gateway).at(VIEW_USER)
        if query.library:
            seen_at &= _below(units, query.library)
        # As in the address of a report's page, the case of its name doesn't matter.
        names = (one.name for one in running.settings.reports if one.name.casefold() == query.report.casefold())
        report = next(names, query.report)
        found = ListedGroups.read(running.state.database, gateway.url, report)
    if found is None:
        raise ProblemError(
            404,
            "This report hasn't run yet.",
            advice="`evergreen-groups status` shows the runs.",
            code="no-run",
        )
    run, _, begin = query.cursor.partition("-")
    if run and int(run) != found.run:
        raise ProblemError(
            410,
            "The report has run again, so the cursor is outdated.",
            advice="Start again without a cursor.",
            code="cursor-outdated",
        )
    listed = sorted(
        _selected(found, query, {unit.shortname for unit in units if unit.id in seen_at}), key=_ORDERS[query.sort]
    )
    end = int(begin or 0) + query.limit
    return jsonify(
        version=1,
        kind="groups",
        report=report,
        as_of=found.at.isoformat(),
        group_count=len(listed),
        groups=[_document(one) for one in listed[int(begin or 0) : end]],
        next=f"{found.run}-{end}" if end < len(listed) else None,
    )


def _below(units: OrgUnits, shortname: str) -> set[int]:
    try:
        return units.with_descendants(units.find(shortname).id)
    except ConfigurationError:
        raise ProblemError(
            400,
            "library must be the short name of an org unit.",
            code="library-unknown",
            more={"errors": [{"pointer": "#/library"}]},
        ) from None


def _selected(found: ListedGroups, query: GroupsQuery, libraries: set[str]) -> Iterator[ListedGroup]:
    """Yield the groups with a member at one of ``libraries`` that meet the query."""
    for one in found.groups:
        over = one.over_limit_count
        if (
            not libraries.isdisjoint(one.listing.libraries)
            and one.listing.combined_fines >= query.least
            # Hidden members may be over the limit, so "no" takes an exact count.
            and query.over_limit in (None, over.at_least > 0)
            and (query.over_limit is not False or over.exact)
            and query.age_band in ("", one.age_band)
        ):
            yield one


def _document(one: ListedGroup) -> dict[str, Any]:
    listing = one.listing
    return {
        "group": listing.group,
        "combined_fines": plain_amount(listing.combined_fines) if listing.certain else None,
        "member_count": listing.member_count,
        "members": list(listing.members),
        **total_document("over_limit_count", one.over_limit_count),
        "library": listing.library,
        "libraries": sorted(listing.libraries),
        "age_band": one.age_band,
    }
