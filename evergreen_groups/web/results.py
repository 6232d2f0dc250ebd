"""The results of the work with a report's families: a page, and the same as JSON and XLSX."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request, url_for

from evergreen_groups.follow_up import FollowUps, Length, Stays, reckon, timezone_at
from evergreen_groups.formats import output_format
from evergreen_groups.render import Navigation, results_document, results_page, write_results_workbook
from evergreen_groups.web.problems import not_found
from evergreen_groups.web.report_pages import location_of, name_of_report, page_response, report_refused
from evergreen_groups.web.service import service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.follow_up import Entry, Results, Stay
    from evergreen_groups.web.service import DeskRequest

blueprint = Blueprint("results", __name__)


def read_results(desk: DeskRequest, report: str | None) -> Results:
    """Return the results that the caller may see, or raise a ProblemError: 403, the caller may not read the report.

    Those are of families whose person to contact belongs to a library whose patrons the caller sees, from entries about
    persons whom the caller sees.
    """
    running, gateway = desk.service, desk.client.gateway
    location, sees_all = location_of(running, report), desk.sees_everybody()
    if not sees_all and not location.is_dir():
        raise report_refused()
    database = running.state.database
    name = name_of_report(running, report or "")
    store, units = Stays(database, gateway.url), running.reference.org_units(gateway)
    stays: Sequence[Stay] = store.of_report(name)
    entries: Sequence[Entry] = FollowUps(database, gateway.url).entries()
    if not sees_all:
        visible = {unit.shortname for unit in units if unit.id in desk.sees_patrons_at}
        stays = [one for one in stays if one.library in visible]
        entries = _readable(desk, stays, entries, visible)
    configured = running.settings.language.language().timezone
    zones = {} if configured else running.reference.timezones(gateway)
    return reckon(name, stays, entries, store.payments(), timezone_at(configured, zones, units), database.now())


def _readable(desk: DeskRequest, stays: Sequence[Stay], entries: Sequence[Entry], visible: set[str]) -> list[Entry]:
    """Return the entries about persons whom the caller sees. Only of families with other members, Evergreen says."""
    seen, unsure = set[int](), set[int]()
    for one in stays:
        (seen if one.complete and one.libraries <= visible else unsure).update(one.persons)
    asked = {id for entry in entries for id in entry.persons if id in unsure}
    seen |= desk.client.patrons.names(asked).keys() if asked else set()
    return [entry for entry in entries if not seen.isdisjoint(entry.persons)]


@blueprint.get("/reports/results")
@blueprint.get("/reports/named/<report>/results")
def page(report: str | None = None) -> Response:
    """Show the results of a report."""
    with service().desk(request, by_link=True) as desk:
        results = read_results(desk, report)
        language = request.args.get("language")
        navigation = Navigation(
            url_for("reports.latest_report", report=report),
            url_for(".page", report=report),
            url_for(".as_json", report=report),
            url_for(".as_workbook", report=report, language=language),
            language or "",
        )
        by_week = request.args.get("by") == Length.WEEK.value
        length = Length.WEEK if by_week else Length.MONTH
        library = request.args.get("library", "")
        if library and library not in results.months:
            raise not_found()
        text = results_page(results, library, length, navigation)
    return page_response(text.encode(), with_form=True)


@blueprint.get("/reports/results.json")
@blueprint.get("/reports/named/<report>/results.json")
def as_json(report: str | None = None) -> Response:
    """Answer with the results as JSON."""
    with service().desk(request, by_link=True) as desk:
        return jsonify(results_document(read_results(desk, report)))


@blueprint.get("/reports/results.xlsx")
@blueprint.get("/reports/named/<report>/results.xlsx")
def as_workbook(report: str | None = None) -> Response:
    """Answer with the results as a spreadsheet."""
    with service().desk(request, by_link=True) as desk:
        write_results_workbook(read_results(desk, report), stream := io.BytesIO())
    response = Response(stream.getvalue(), content_type=output_format("xlsx").media_type)
    response.headers["Content-Disposition"] = 'attachment; filename="results.xlsx"'
    return response
