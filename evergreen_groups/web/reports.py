"""Serves the nightly reports: each complete report, its pages by library, and their index.

``[report]`` is at ``reports/latest``. A report of ``[[reports]]`` is at ``reports/named/NAME/latest``, so that its name
can't collide with a library's.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request, url_for

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.formats import FILE_FORMATS, PAGE, output_format
from evergreen_groups.ils import VIEW_USER
from evergreen_groups.language import describe_advice, describe_problem, gettext, use_language
from evergreen_groups.nightly import INDEX, library_file_names
from evergreen_groups.render import StaffClient, failed_run_page, refusal_page, sentence
from evergreen_groups.render.report import with_results
from evergreen_groups.state import LATEST, RunOutcome, read_run_status
from evergreen_groups.web import follow_ups
from evergreen_groups.web.problems import ProblemError, not_found
from evergreen_groups.web.report_pages import (
    DECLARED_POLICY,
    location_of,
    no_report,
    page_response,
    policy_of,
    report_refused,
)
from evergreen_groups.web.service import Service, service

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnit, OrgUnits
    from evergreen_groups.web.service import DeskRequest

blueprint = Blueprint("reports", __name__)


@blueprint.get("/reports/latest")
@blueprint.get("/reports/named/<report>/latest")
def latest_report(report: str | None = None) -> Response:
    """Serve the page of the latest run, or redirect to the caller's library if the report is split by library."""
    running = service()
    # Mails link here. A reader who follows such a link sees only what their session may see.
    with running.desk(request, by_link=True) as desk:
        path = location_of(running, report)
        units = running.reference.org_units(desk.client.gateway, {desk.caller.library})
        sees_all = desk.sees_everybody()
        if path.is_dir():
            # Redirect to a library's page, or to the index if the report has none. The index links to the others.
            library = units.root if sees_all else units.unit(desk.caller.library)
            name = library_file_names([unit.shortname for unit in units])[library.shortname]
            exists = (path / LATEST / f"{name}.{PAGE}").exists() or not (path / LATEST / INDEX).exists()
            where = url_for(".report_of_library", report=report, name=name if exists else INDEX)
            return Response(status=303, headers={"Location": where})
        if not sees_all:
            raise report_refused()
        warning = None if "last" in request.args else _warning(running, path, "?last")
        return warning or _worklist(desk, path, report)


@blueprint.get("/reports/latest/<name>")
@blueprint.get("/reports/named/<report>/latest/<name>")
def report_of_library(name: str, report: str | None = None) -> Response:
    """Serve one library's page or file of a split report, or the index.

    ``name`` is a library's short name, a file's name, or "index". A library's page requires VIEW_USER there. It shows
    whole groups, including members with another home library, as the library's mail does. The index has only totals and
    is open to all admitted staff.
    """
    running = service()
    with running.desk(request, by_link=True) as desk:
        directory = location_of(running, report) / LATEST
        if name == INDEX:
            return page_response(_with_results(running, _read(directory / INDEX, report), report))
        units = running.reference.org_units(desk.client.gateway)
        unit, format = _find_file(name, units)
        if unit.id not in desk.sees_patrons_at:
            raise ProblemError(
                403,
                "Your login can't see the patrons of {library} (permission {permission}).",
                code="library-report-refused",
                values={"permission": VIEW_USER, "library": unit.shortname},
            )
        stem = library_file_names([one.shortname for one in units])[unit.shortname]
        path = directory / f"{stem}.{output_format(format).ending}"
        # A file's name comes from a link within the report, so the reader has already seen the warning.
        warning = None if name == path.name else _warning(running, path, path.name)
        if format != PAGE and warning is None:
            response = Response(_read(path, report), content_type=output_format(format).media_type)
            response.headers["Content-Disposition"] = f'attachment; filename="{path.name}"'
            return response
        return warning or _worklist(desk, path, report, name)


def problem_page(error: ProblemError) -> Response:
    """Answer an error with a page for browsers and with JSON for programs."""
    is_asked_for = request.headers.get("Accept") == "text/html"  # by the script of the worklist
    if request.headers.get("Sec-Fetch-Mode") != "navigate" and not is_asked_for:
        return error.response()
    client = StaffClient.of(service().settings, service().gateway.url)
    here = request.full_path.removesuffix("?")
    title = gettext("Letters not available") if request.blueprint == "letters" else gettext("Report not available")
    if request.method == "POST":
        title = gettext("Not saved")
    page = refusal_page(
        title,
        sentence(describe_problem(error)),
        advice=sentence(describe_advice(error)),
        again=here,
        # It leads to the page of the reader's own library.
        latest=url_for("reports.latest_report", report=(request.view_args or {}).get("report"))
        if error.code == "library-report-refused"
        else "",
        login=client.login_page(here) if error.status == 401 else "",
    )
    response = page_response(page.encode(), status=error.status)
    response.headers.update(error.headers)
    return response


def _find_file(name: str, units: OrgUnits) -> tuple[OrgUnit, str]:
    """Return the org unit and format for ``name``, which is a file's name or an org unit's short name."""
    files = library_file_names([unit.shortname for unit in units])
    found = {files[unit.shortname]: (unit, PAGE) for unit in units}
    for format in FILE_FORMATS:
        found |= {f"{files[unit.shortname]}.{output_format(format).ending}": (unit, format) for unit in units}
    try:
        return found.get(name) or (units.find(name), PAGE)
    except ConfigurationError:
        raise not_found() from None


def _worklist(desk: DeskRequest, path: Path, report: str | None, name: str = "") -> Response:
    """Return a page with current follow-ups, or as it was written if these aren't known."""
    written = _read(path, report)
    filled = follow_ups.filled(desk, written.decode("utf-8", "replace"), report or "", name)
    if filled is None:
        return page_response(_with_results(desk.service, written, report))
    # The page declares its policy, too, and both apply.
    policy = _with_own_requests(policy_of(written))
    page = DECLARED_POLICY.sub(lambda found: found[0].replace(found[1], policy), filled, count=1)
    return page_response(page.encode(), with_form=True)


def _with_results(running: Service, written: bytes, report: str | None) -> bytes:
    """Return a page without a list, with a link to the results in the default language."""
    with use_language(running.settings.language.language()):
        page = with_results(written.decode("utf-8", "replace"), url_for("results.page", report=report))
    return page.encode()


def _with_own_requests(policy: str) -> str:
    """Return a page's policy with the service's script, and with requests and forms to the service."""
    each = dict(directive.strip().partition(" ")[::2] for directive in policy.split(";"))
    each["script-src"] = f"{each.get('script-src', '')} 'self'".strip()
    each |= {"connect-src": "'self'", "form-action": "'self'"}
    return "; ".join(f"{name} {value}" for name, value in each.items())


def _read(path: Path, report: str | None) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise no_report(report) from None
    except OSError:
        raise ProblemError(503, "This service can't read the report's file.", code="report-not-read") from None


def _warning(running: Service, path: Path, last: str) -> Response | None:
    """Return a page that warns of a failed run and links to the older report (``last``), or None if none failed."""
    try:
        status = read_run_status(running.state.database)
    except (StateError, ConfigurationError):  # the report can be shown without it
        return None
    if status is None or status.outcome is not RunOutcome.FAILED:
        return None
    with suppress(OSError):
        # A failed run may have written some of several reports.
        if path.stat().st_mtime < status.started.timestamp():
            return page_response(failed_run_page(status, last=last).encode())
    return None
