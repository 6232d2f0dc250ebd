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
REPORTS = "reports"
"""The directory in the state directory that ``evergreen-groups-report.service`` writes to."""


def location_of(running: Service, report: str | None) -> Path:
    """Return the page, or the directory of a split report: the configured one, or where the systemd unit writes it.

    Raises:
        ProblemError: 404, no report in ``[[reports]]`` has this name and pages.
    """
    settings = settings_of_report(running, report)
    if report is None:
        return running.settings.serve.report or _pages_of(settings) or running.state.directory / REPORTS
    path = _pages_of(settings)
    if path is None:
        raise no_report(report)
    return path


def settings_of_report(running: Service, report: str | None) -> ReportSettings:
    """Return the settings of the report with this name, or of ``[report]``.

    Raises:
        ProblemError: 404, no report in ``[[reports]]`` has this name.
    """
    if report is None:
        return running.settings.report
    # No two names differ only in case: see named_reports.
    found = next((one.report for one in running.settings.reports if one.name.casefold() == report.casefold()), None)
    if found is None:
        raise no_report(report)
    return found


def _pages_of(settings: ReportSettings) -> Path | None:
    """Return the page or the directory of pages that a report writes; None if it writes neither.

    The file's ending decides, or ``format`` if the ending belongs to no format.
    """
    is_page = (format_of_file(settings.output) or settings.format) == PAGE
    return settings.output if settings.split == "library" or is_page else None


def no_report(report: str | None) -> ProblemError:
    if report is None:
        return ProblemError(
            404,
            "There is no report here. If there should be one, ask your administrator (setting: {setting}).",
            setting="serve.report",
            code="no-report",
            values={"setting": "report in [serve]"},
        )
    return ProblemError(
        404,
        "There is no report here. If there should be one, ask your administrator (setting: {setting}).",
        setting="reports.output",
        code="no-named-report",
        values={"setting": "output in [[reports]]"},
    )


def report_refused() -> ProblemError:
    """Return the error for a report of all libraries, for a caller who doesn't see them all."""
    return ProblemError(
        403,
        "Your login can't see the patrons of all libraries (permission VIEW_USER).",
        advice="Ask your administrator for a report by library.",
        code="report-refused",
    )


def page_response(content: bytes, status: int = 200) -> Response:
    """Answer with a page, under the policy that it declares."""
    response = Response(content, status=status, content_type="text/html; charset=utf-8")
    response.headers[_POLICY] = f"{policy_of(content)}; frame-ancestors 'none'"
    return response


def policy_of(page: bytes) -> str:
    """Return the Content-Security-Policy that a page declares, with the digests of the page's style and script.

    The digests can't be computed here: a page written by the previous release has a different style and script. A
    declared policy that isn't valid in a header is ignored.
    """
    found = DECLARED_POLICY.search(page[:_HEAD_BYTES].decode("utf-8", "replace"))
    policy = html.unescape(found[1]).strip() if found else ""
    return policy if policy and policy.isascii() and policy.isprintable() else _STRICT_POLICY
