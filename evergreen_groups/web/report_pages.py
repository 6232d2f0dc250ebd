"""The pages of the nightly reports: where they are, and responses with one."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from flask import Response

from evergreen_groups.formats import PAGE, format_of_file
from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from pathlib import Path

    from evergreen_groups.settings import ReportSettings
    from evergreen_groups.web.service import Service

_POLICY = "Content-Security-Policy"
_HEAD_BYTES = 4096  # bytes at the start of a page that contain its policy
DECLARED_POLICY = re.compile(f'<meta http-equiv="{_POLICY}" content="([^"]*)"')
_STRICT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_NO_REPORT = "There is no report here. If there should be one, ask your administrator (setting: {setting})."
REPORTS = "reports"
"""The directory in the state directory that ``evergreen-groups-report.service`` writes to."""


def name_of_report(running: Service, given: str) -> str:
    """Return a report's name as the settings have it, if they do. No two names differ only in case."""
    return next((one.name for one in running.settings.reports if one.name.casefold() == given.casefold()), given)


def settings_of_report(running: Service, report: str | None) -> ReportSettings:
    """Return the settings of the report with this name, or of ``[report]``. Raises ProblemError 404."""
    if report is None:
        return running.settings.report
    name = name_of_report(running, report)
    for one in running.settings.reports:
        if one.name == name:
            return one.report
    raise no_report(report)


def location_of(running: Service, report: str | None) -> Path:
    """Return the page, or the directory of a split report: the configured one, or where the systemd unit writes it.

    A ProblemError (404) says that no report in ``[[reports]]`` has this name and pages.
    """
    settings = settings_of_report(running, report)
    # The file's ending decides, or ``format`` if the ending belongs to no format.
    is_page = (format_of_file(settings.output) or settings.format) == PAGE
    path = settings.output if settings.split == "library" or is_page else None
    if report is None:
        return running.settings.serve.report or path or running.state.directory / REPORTS
    if path is None:
        raise no_report(report)
    return path


def no_report(report: str | None) -> ProblemError:
    if report is None:
        values = {"setting": "report in [serve]"}
        return ProblemError(404, _NO_REPORT, setting="serve.report", code="no-report", values=values)
    values = {"setting": "output in [[reports]]"}
    return ProblemError(404, _NO_REPORT, setting="reports.output", code="no-named-report", values=values)


def report_refused() -> ProblemError:
    """Return the error for a report of all libraries, for a caller who doesn't see them all."""
    return ProblemError(
        403,
        "Your login can't see the patrons of all libraries (permission VIEW_USER).",
        advice="Ask your administrator for a report by library.",
        code="report-refused",
    )


def page_response(content: bytes, status: int = 200, *, with_form: bool = False) -> Response:
    """Answer with a page, under the policy that it declares."""
    response = Response(content, status=status, content_type="text/html; charset=utf-8")
    response.headers[_POLICY] = f"{policy_of(content)}; frame-ancestors 'none'"
    if with_form:
        # With no-referrer, browsers would send "Origin: null" with forms, even to the same origin.
        response.headers["Referrer-Policy"] = "same-origin"
    return response


def policy_of(page: bytes) -> str:
    """Return the Content-Security-Policy that a page declares, with the digests of the page's style and script.

    The digests can't be computed here: a page written by the previous release has a different style and script. A
    declared policy that isn't valid in a header is ignored.
    """
    found = DECLARED_POLICY.search(page[:_HEAD_BYTES].decode("utf-8", "replace"))
    policy = html.unescape(found[1]).strip() if found else ""
    return policy if policy and policy.isascii() and policy.isprintable() else _STRICT_POLICY
