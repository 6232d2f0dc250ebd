"""The nightly reports: the whole of each, the page of each library, and the index that leads to them.

``[report]`` has ``reports/latest``, and a report of ``[[reports]]`` the same below ``reports/named/NAME``, where no
name of a report can be taken for a library's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from html.parser import HTMLParser
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
from evergreen_groups.state import LATEST, RunOutcome, run_status
from evergreen_groups.web.admission import has_permission, may_view_everybody
from evergreen_groups.web.problems import ProblemError, not_found
from evergreen_groups.web.service import DeskRequest, Service, service

if TYPE_CHECKING:
    from evergreen_groups.settings import ReportSettings

blueprint = Blueprint("reports", __name__)

REPORTS = "reports"
"""The directory below the state directory that ``evergreen-groups-report.service`` writes to."""

_POLICY = "Content-Security-Policy"
_HEAD = 4096  # bytes that the page's policy stands in, at its beginning
_STRICT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TEXTS = {401: Message("The report is shown to those who are logged in to the staff client.")}
_ADVICE = {
    401: Message("Log in there, in this browser, and open the report again."),
    403: Message("Whose patrons your login sees depends on VIEW_USER; each library has a page of its own."),
}


@blueprint.get("/reports/latest")
@blueprint.get("/reports/named/<report>/latest")
def latest_report(report: str | None = None) -> Response:
    """The page that the nightly run wrote last; of a report by library, where whoever asks is led to theirs."""
    running = service()
    with _admitted(running) as desk:
        path = _where(running, report)
        units = OrgUnits.read(desk.client.gateway)
        everybody = may_view_everybody(desk.client.gateway, desk.caller, units.root.id)
    if path.is_dir():
        library = units.root if everybody else units.unit(desk.caller.library)
        return _to_their_page(path / LATEST, library, units, report)
    if not everybody:
        raise ProblemError(
            403, "The report has patrons of every library: it takes VIEW_USER for all of them.", code="report-refused"
        )
    warning = None if "last" in request.args else _warning(running, path, "?last")
    return warning or _file(path, PAGE, report)


def _to_their_page(directory: Path, library: OrgUnit, units: OrgUnits, report: str | None) -> Response:
    """Lead on to a library's page, or to the index where the report has none: their links lead to their neighbours."""
    name = library_file_names([unit.shortname for unit in units])[library.shortname]
    is_there = (directory / f"{name}.{PAGE}").exists() or not (directory / INDEX).exists()
    where = url_for(".report_of_library", report=report, name=name if is_there else INDEX)
    return Response(status=303, headers={"Location": where})


@blueprint.get("/reports/latest/<name>")
@blueprint.get("/reports/named/<report>/latest/<name>")
def report_of_library(name: str, report: str | None = None) -> Response:
    """A library's page of a report by library, by its short name; one of its files, by that file's name; or the index.

    They are for whoever may see that library's patrons. The groups are whole: members with another home library are
    named as they are in that library's mail. The index has sums alone, and is for all staff who are let in.
    """
    running = service()
    with _admitted(running) as desk:
        directory = _where(running, report) / LATEST
        if name == INDEX:
            return _file(directory / INDEX, PAGE, report)
        units = OrgUnits.read(desk.client.gateway)
        unit, format = _asked_for(name, units)
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
    # Whoever comes by a file's name comes from the report's own links, and knows.
    warning = None if name == path.name else _warning(running, path, path.name)
    return warning or _file(path, format, report)


@contextmanager
def _admitted(running: Service) -> Iterator[DeskRequest]:
    """Admit whoever asks. A mail leads here: whoever follows it sees what their own session may see."""
    with running.desk(request, by_link=True) as desk:
        yield desk


def problem_page(error: ProblemError) -> Response:
    """What went wrong: a page for people, and for programs what they read."""
    plain = error.response()
    if request.headers.get("Sec-Fetch-Mode") != "navigate":
        return plain
    client = StaffClient.of(service().settings, service().gateway.url)
    page = refusal_page(
        gettext("Log in to see the report") if error.status == 401 else gettext("The report isn't shown"),
        gettext(_TEXTS[error.status]) if error.status in _TEXTS else describe_problem(error),
        advice=describe_advice(error) or gettext(_ADVICE.get(error.status, "")),
        again=request.path,
        login=client.login_page(request.path) if error.status == 401 else "",
    ).encode()
    response = Response(page, status=error.status, content_type="text/html; charset=utf-8")
    response.headers[_POLICY] = f"{_policy_of(page)}; frame-ancestors 'none'"
    for name in ("Retry-After", "WWW-Authenticate", "Allow"):
        if name in plain.headers:
            response.headers[name] = plain.headers[name]
    return response


def _asked_for(name: str, units: OrgUnits) -> tuple[OrgUnit, str]:
    """The org unit whose file is asked for, by its short name or by the name of the file, and the file's format.

    Raises:
        ProblemError: 404, there is none of such a name.
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


def _page(content: bytes) -> Response:
    response = Response(content, content_type="text/html; charset=utf-8")
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
        raise _not_there(report) from None
    except OSError:
        raise ProblemError(
            503, "The report can't be read; the service's account may lack the right to.", code="report-not-read"
        ) from None


def _not_there(report: str | None) -> ProblemError:
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
    """What comes before a report that tonight's run should have replaced and didn't; it leads on to ``last``."""
    try:
        status = run_status.read(running.state.database)
    except (StateError, ConfigurationError):  # the report is there all the same
        return None
    if status is None or status.outcome is not RunOutcome.FAILED or not _is_older(path, status.started):
        return None
    return _page(failed_run_page(status, last=last).encode())


def _is_older(path: Path, moment: datetime) -> bool:
    """Whether a file is there from before a moment: of several reports, one may have been written and another not."""
    try:
        return path.stat().st_mtime < moment.timestamp()
    except OSError:
        return False


def _where(running: Service, report: str | None) -> Path:
    """The page, or the directory of a report by library: what is configured, or where the nightly unit writes it.

    Raises:
        ProblemError: 404, no report of ``[[reports]]`` of that name has pages.
    """
    settings = running.settings
    if report is None:
        return settings.serve.report or _pages_of(settings.report) or running.state.directory / REPORTS
    # Names differ in more than capitals: see named_reports.
    named = (one.report for one in settings.reports if one.name.casefold() == report.casefold())
    path = next(map(_pages_of, named), None)
    if path is None:
        raise _not_there(report)
    return path


def _pages_of(settings: ReportSettings) -> Path | None:
    """The page that is written, or the directory of pages, None where the output is neither.

    A page it is by its ending, or by the format where the ending is no format's.
    """
    is_page = (format_of_file(settings.output) or settings.format) == PAGE
    return settings.output if settings.split == "library" or is_page else None


def _policy_of(page: bytes) -> str:
    """The policy that a written page names for itself, with the digests of its own style and script.

    A page of the release before has other digests than this one's, so they can't be worked out anew. What may come in
    no header is no policy.
    """
    reader = _PolicyReader()
    reader.feed(page[:_HEAD].decode("utf-8", "replace"))
    return reader.policy or _STRICT_POLICY


class _PolicyReader(HTMLParser):
    """Finds the policy among the tags of a page; empty where there is none that will do."""

    policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "meta" and given.get("http-equiv") == _POLICY and not self.policy:
            content = (given.get("content") or "").strip()
            self.policy = content if content.isascii() and content.isprintable() else ""
