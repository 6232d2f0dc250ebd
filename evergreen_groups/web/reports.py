"""Serves the nightly reports: each complete report, its pages by library, and their index.

``[report]`` is at ``reports/latest``. A report of ``[[reports]]`` is at ``reports/named/NAME/latest``, so that its name
can't collide with a library's.
"""

from __future__ import annotations

import html
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request, url_for

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.formats import FILE_FORMATS, PAGE, format_of_file, output_format
from evergreen_groups.ils import VIEW_USER, OrgUnit, OrgUnits
from evergreen_groups.language import describe_advice, describe_problem, gettext
from evergreen_groups.message import Message
from evergreen_groups.nightly import INDEX, library_file_names
from evergreen_groups.render import StaffClient, failed_run_page, refusal_page
from evergreen_groups.state import LATEST, RunOutcome, read_run_status
from evergreen_groups.web.admission import has_permission
from evergreen_groups.web.problems import ProblemError, not_found
from evergreen_groups.web.service import Service, service

if TYPE_CHECKING:
    from evergreen_groups.settings import ReportSettings

blueprint = Blueprint("reports", __name__)

REPORTS = "reports"
"""The directory in the state directory that ``evergreen-groups-report.service`` writes to."""

_POLICY = "Content-Security-Policy"
_HEAD_BYTES = 4096  # bytes at the start of a page that contain its policy
_DECLARED_POLICY = re.compile(f'<meta http-equiv="{_POLICY}" content="([^"]*)"')
_STRICT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TEXTS = {401: Message("The report is shown to those who are logged in to the staff client.")}
_ADVICE = {
    401: Message("Log in there, in this browser, and open the report again."),
    403: Message("Whose patrons your login sees depends on VIEW_USER; each library has a page of its own."),
}


@blueprint.get("/reports/latest")
@blueprint.get("/reports/named/<report>/latest")
def latest_report(report: str | None = None) -> Response:
    """Serve the page of the latest run, or redirect to the caller's library if the report is split by library."""
    running = service()
    # Mails link here. A reader who follows such a link sees only what their session may see.
    with running.desk(request, by_link=True) as desk:
        path = location_of(running, report)
        units = OrgUnits.read(desk.client.gateway)
        sees_all = has_permission(desk.client.gateway, desk.caller, units.root.id, VIEW_USER)
    if path.is_dir():
        # Redirect to a library's page, or to the index if the report has none. The index links to the other libraries.
        library = units.root if sees_all else units.unit(desk.caller.library)
        name = library_file_names([unit.shortname for unit in units])[library.shortname]
        exists = (path / LATEST / f"{name}.{PAGE}").exists() or not (path / LATEST / INDEX).exists()
        where = url_for(".report_of_library", report=report, name=name if exists else INDEX)
        return Response(status=303, headers={"Location": where})
    if not sees_all:
        raise report_refused()
    warning = None if "last" in request.args else _warning(running, path, "?last")
    return warning or _file(path, PAGE, report)


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
            return _file(directory / INDEX, PAGE, report)
        units = OrgUnits.read(desk.client.gateway)
        unit, format = _find_file(name, units)
        allowed = has_permission(desk.client.gateway, desk.caller, unit.id, VIEW_USER)
    if not allowed:
        raise ProblemError(
            403,
            "This page names patrons of {library}: it takes VIEW_USER there.",
            code="library-report-refused",
            values={"library": unit.shortname},
        )
    stem = library_file_names([one.shortname for one in units])[unit.shortname]
    path = directory / f"{stem}.{output_format(format).ending}"
    # A file's name comes from a link within the report, so the reader has already seen the warning.
    warning = None if name == path.name else _warning(running, path, path.name)
    return warning or _file(path, format, report)


def report_refused() -> ProblemError:
    """Return the error for a report of all libraries, for a caller who doesn't see them all."""
    return ProblemError(
        403, "The report has patrons of every library: it takes VIEW_USER for all of them.", code="report-refused"
    )


def problem_page(error: ProblemError) -> Response:
    """Answer an error with a page for browsers and with JSON for programs."""
    if request.headers.get("Sec-Fetch-Mode") != "navigate":
        return error.response()
    client = StaffClient.of(service().settings, service().gateway.url)
    page = refusal_page(
        gettext("Log in to see the report") if error.status == 401 else gettext("The report isn't shown"),
        gettext(_TEXTS[error.status]) if error.status in _TEXTS else describe_problem(error),
        advice=describe_advice(error) or gettext(_ADVICE.get(error.status, "")),
        again=request.path,
        login=client.login_page(request.path) if error.status == 401 else "",
    )
    response = _page(page.encode(), status=error.status)
    response.headers.update(error.headers)
    return response


def _find_file(name: str, units: OrgUnits) -> tuple[OrgUnit, str]:
    """Return the org unit and format for ``name``, which is a file's name or an org unit's short name.

    Raises:
        ProblemError: 404, neither exists.
    """
    files = library_file_names([unit.shortname for unit in units])
    for unit in units:
        for format in FILE_FORMATS:
            if name == f"{files[unit.shortname]}.{output_format(format).ending}":
                return unit, format
    for unit in units:
        if name == files[unit.shortname]:
            return unit, PAGE
    try:
        return units.find(name), PAGE
    except ConfigurationError:
        raise not_found() from None


def _page(content: bytes, status: int = 200) -> Response:
    response = Response(content, status=status, content_type="text/html; charset=utf-8")
    response.headers[_POLICY] = f"{_policy_of(content)}; frame-ancestors 'none'"
    return response


def _file(path: Path, format: str, report: str | None) -> Response:
    if format == PAGE:
        return _page(_read(path, report))
    response = Response(_read(path, report), content_type=output_format(format).media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{path.name}"'
    return response


def _read(path: Path, report: str | None) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _no_report(report) from None
    except OSError:
        raise ProblemError(
            503, "The report can't be read; the service's account may lack the right to.", code="report-not-read"
        ) from None


def _no_report(report: str | None) -> ProblemError:
    if report is None:
        return ProblemError(
            404,
            "There is no report yet, or it is elsewhere: see report in [serve].",
            setting="serve.report",
            code="no-report",
        )
    return ProblemError(
        404,
        "There is no such report yet, or it is no page: see output in [[reports]].",
        setting="reports.output",
        code="no-named-report",
    )


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
            return _page(failed_run_page(status, last=last).encode())
    return None


def location_of(running: Service, report: str | None) -> Path:
    """Return the page, or the directory of a split report: the configured one, or where the systemd unit writes it.

    Raises:
        ProblemError: 404, no report in ``[[reports]]`` has this name and pages.
    """
    settings = running.settings
    if report is None:
        return settings.serve.report or _pages_of(settings.report) or running.state.directory / REPORTS
    # No two names differ only in case: see named_reports.
    named = (one.report for one in settings.reports if one.name.casefold() == report.casefold())
    path = next(map(_pages_of, named), None)
    if path is None:
        raise _no_report(report)
    return path


def _pages_of(settings: ReportSettings) -> Path | None:
    """Return the page or the directory of pages that a report writes; None if it writes neither.

    The file's ending decides, or ``format`` if the ending belongs to no format.
    """
    is_page = (format_of_file(settings.output) or settings.format) == PAGE
    return settings.output if settings.split == "library" or is_page else None


def _policy_of(page: bytes) -> str:
    """Return the Content-Security-Policy that a page declares, with the digests of the page's style and script.

    The digests can't be computed here: a page written by the previous release has a different style and script. A
    declared policy that isn't valid in a header is ignored.
    """
    found = _DECLARED_POLICY.search(page[:_HEAD_BYTES].decode("utf-8", "replace"))
    policy = html.unescape(found[1]).strip() if found else ""
    return policy if policy and policy.isascii() and policy.isprintable() else _STRICT_POLICY
