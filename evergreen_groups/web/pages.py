"""What isn't about one patron: the nightly report, the panel's scripts, the state of the service, its description."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.formats import PAGE, format_of_file
from evergreen_groups.ils import OrgUnits
from evergreen_groups.nightly import library_file_names
from evergreen_groups.state import LATEST
from evergreen_groups.web.authorization import may_view_everybody
from evergreen_groups.web.openapi import description
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.service import Service, service

if TYPE_CHECKING:
    from evergreen_groups.settings import ReportSettings

blueprint = Blueprint("pages", __name__)

# Anybody may ask, monitoring does every minute or so: the ILS isn't asked for each.
FRESH_SECONDS = 15.0
"""How long a state of the gateway is taken to last."""

REPORTS = "reports"
"""The directory below the state directory that ``evergreen-groups-report.service`` writes to."""

# An echo touches no database; what takes longer isn't well.
_ECHO_SECONDS = 2.0
_SERVICES = ("open-ils.auth", "open-ils.actor", "open-ils.pcrud")  # what a request of a desk asks

_POLICY = "Content-Security-Policy"
_HEAD = 4096  # bytes that the page's policy stands in, at its beginning
_STRICT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@blueprint.get("/reports/latest")
def latest_report() -> Response:
    """The page that the nightly run wrote last. It names patrons of every library."""
    running = service()
    with running.desk(request) as desk:
        units = OrgUnits.read(desk.client.gateway)
        if not may_view_everybody(desk.client.gateway, desk.caller, units.root.id):
            raise ProblemError(
                403,
                "The report has patrons of every library: it takes VIEW_USER for all of them.",
                code="report-refused",
            )
    page = _report(running, library_file_names([unit.shortname for unit in units])[units.root.shortname])
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers[_POLICY] = f"{_policy_of(page)}; frame-ancestors 'none'"
    return response


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


def _report(running: Service, name: str) -> bytes:
    """The page: what is configured, or where the nightly unit writes it.

    A directory is one of a report by library: the page called ``name``, the topmost org unit's, has everything.
    """
    settings = running.settings
    path = settings.serve.report
    if path is None and (settings.report.split == "library" or _writes_a_page(settings.report)):
        path = settings.report.output
    path = path or running.state.directory / REPORTS
    try:
        if path.is_dir():
            path = path / LATEST / f"{name}.html"
        return path.read_bytes()
    except FileNotFoundError:
        raise ProblemError(
            404,
            "There is no report yet, or it is elsewhere: see report in [serve].",
            setting="serve.report",
            code="no-report",
        ) from None
    except OSError:
        raise ProblemError(
            503, "The report can't be read; the service's account may lack the right to.", code="report-not-read"
        ) from None


def _writes_a_page(settings: ReportSettings) -> bool:
    """Whether the configured output is HTML: by its ending, or by the format where the ending is no format's."""
    return (format_of_file(settings.output) or settings.format) == PAGE


@blueprint.get("/panel.js", defaults={"name": "panel.js"})
@blueprint.get("/group.js", defaults={"name": "group.js"})
@blueprint.get("/tab.js", defaults={"name": "tab.js"})
def script(name: str) -> Response:
    """The scripts that show the panel in the staff client, and the group's page in its tab."""
    return _asked_for_each_time(Response(_script(name), content_type="text/javascript; charset=utf-8"))


@blueprint.get("/desk.json")
def desk_settings() -> Response:
    """What of ``[desk]`` the scripts have to know: Apache may hand out the first of them itself, without settings."""
    desk = service().settings.desk
    return _asked_for_each_time(jsonify(page=desk.page, tab=desk.page and desk.tab, panel_link=desk.panel_link))


def _asked_for_each_time(response: Response) -> Response:
    """Have browsers keep it, but ask for it each time (304): a new release is on every desk at once."""
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


@cache
def _script(name: str) -> bytes:
    return resources.files("evergreen_groups.web").joinpath("static", name).read_bytes()


@blueprint.get("/healthz")
def health() -> Response:
    """That the service is up, and whether the gateway answers."""
    running = service()
    return jsonify(status="up", gateway=_gateway_state(running), breaker=running.breaker.state.value)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The description of the service."""
    return jsonify(description())


def _gateway_state(running: Service) -> str:
    """Whether the gateway answers, as last seen; it is asked where that was too long ago.

    One request at a time asks: anybody may come here, and all threads would wait for a gateway that hangs.
    """
    last = running.breaker.last_outcome()
    if (last is None or last.seconds_ago > FRESH_SECONDS) and running.looking.acquire(blocking=False):
        try:
            with suppress(EvergreenGroupsError), running.breaker.watching():
                gateway = running.gateway.within(_ECHO_SECONDS)
                for name in _SERVICES:
                    gateway.call(name, "opensrf.system.echo", "evergreen-groups")
        finally:
            running.looking.release()
        last = running.breaker.last_outcome()
    if last is None:
        return "not known yet"
    return "answers" if last.answered else "does not answer"
