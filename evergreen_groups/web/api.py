"""The JSON API: groups' fines, for information only, and whether a patron's own fines exceed the limit.

This module also has the panel's scripts, the pages for monitoring, and the address for Evergreen's events.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Request, Response, jsonify, request, url_for
from msgspec import UNSET, to_builtins

from evergreen_groups import hooks
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.groups import find_owner
from evergreen_groups.language import catalogue, money_form, use_language
from evergreen_groups.metrics import METRICS_CONTENT_TYPE
from evergreen_groups.render import total_document
from evergreen_groups.report import history
from evergreen_groups.values import plain_amount
from evergreen_groups.web import answers, bodies, problems, requests
from evergreen_groups.web.description import description
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.report_pages import name_of_report
from evergreen_groups.web.requests import language_of_reader
from evergreen_groups.web.service import Service, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from msgspec import Struct

    from evergreen_groups.client import Client
    from evergreen_groups.ils import OrgUnits

blueprint = Blueprint("api", __name__)


def _group_bills(client: Client, patron: int) -> hooks.GroupBills:
    return hooks.group_bills(client, patron, hooks.Titles(service().settings.desk.titles))


def _family_items(client: Client, patron: int) -> hooks.Document:
    settings = service().settings.statement
    return client.slip(patron, titles=hooks.Titles(settings.titles), adults=settings.adults)


def _serve(rule: str, parse: Callable[[str], Any], read: Callable[[Client, Any], hooks.Document]) -> None:
    """Answer requests for ``rule`` with what ``read`` returns for the parsed parameter of the path."""

    def answer(**parameters: str) -> Response:
        (parameter,) = parameters.values()
        with service().desk(request, verify=False) as desk:
            return jsonify(hooks.as_json(read(desk.client, parse(parameter))))

    blueprint.add_url_rule(rule, rule, answer)


def _owner_of(read: Callable[[Client, int], hooks.Document]) -> Callable[[Client, str], hooks.Document]:
    """Return ``read`` for the owner of a barcode."""

    def read_of(client: Client, barcode: str) -> hooks.Document:
        owner = find_owner(client.gateway, barcode)
        if owner is None:
            raise problems.not_found()
        return read(client, owner[0])

    return read_of


_serve("/api/v1/patrons/<patron>/summary", requests.record_id, hooks.patron_summary)
_serve("/api/v1/patrons/by-barcode/<barcode>/summary", requests.barcode, _owner_of(hooks.patron_summary))
_serve("/api/v1/patrons/<patron>/group", requests.record_id, hooks.group_details)
_serve("/api/v1/patrons/by-barcode/<barcode>/group", requests.barcode, _owner_of(hooks.group_details))
_serve("/api/v1/patrons/<patron>/group/bills", requests.record_id, _group_bills)
_serve("/api/v1/patrons/by-barcode/<barcode>/group/bills", requests.barcode, _owner_of(_group_bills))
_serve("/api/v1/patrons/<patron>/group/slip", requests.record_id, _family_items)
_serve("/api/v1/patrons/by-barcode/<barcode>/group/slip", requests.barcode, _owner_of(_family_items))
_serve("/api/v1/patrons/<patron>/block", requests.record_id, hooks.block_decision)
_serve("/api/v1/patrons/by-barcode/<barcode>/block", requests.barcode, hooks.block_decision_by_barcode)
_serve("/api/v1/groups/<group>", requests.record_id, hooks.group_summary)


_ORDERS: dict[str, Callable[[history.ListedGroup], Any]] = {
    "group_fines": lambda one: -one.listing.group_fines,
    "unreturned": lambda one: -(one.listing.unreturned or 0),
    "over_limit_count": lambda one: -one.over_limit_count.at_least,
    "member_count": lambda one: -one.listing.member_count,
    "group": lambda one: one.listing.group,
}


@blueprint.get("/api/v1/groups")
def groups() -> Response:
    """Answer with the groups that the last run of a report recorded, without a call about any group."""
    running = service()
    with running.desk(request) as desk:
        query = bodies.groups_query(request)
        gateway = desk.client.gateway
        units = running.reference.org_units(gateway)
        seen_at = desk.sees_patrons_at
        if query.library:
            seen_at &= _below(units, query.library)
        report = name_of_report(running, query.report)
        found = history.ListedGroups.read(running.state.database, gateway.url, report)
    if found is None and report not in ("", *(one.name for one in running.settings.reports)):
        raise ProblemError(
            404,
            "No report has this name.",
            advice="Send a name of [[reports]], or none for the report of [report].",
            code="no-such-report",
            more={"errors": [{"pointer": "#/report"}]},
        )
    if found is None:
        raise ProblemError(
            404, "This report hasn't run yet.", advice="`evergreen-groups status` shows the runs.", code="no-run"
        )
    run, _, begin = query.cursor.rpartition("-")
    if run and run != found.run:
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
    return _json(
        answers.GroupList(
            version=1,
            kind="groups",
            report=report,
            as_of=found.at.isoformat(),
            group_count=len(listed),
            groups=[_group(one) for one in listed[int(begin or 0) : end]],
            next=f"{found.run}-{end}" if end < len(listed) else None,
        )
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


def _selected(
    found: history.ListedGroups, query: bodies.GroupsQuery, libraries: set[str]
) -> Iterator[history.ListedGroup]:
    """Yield the groups with a member at one of ``libraries`` that meet the query."""
    least = Decimal(query.min_total)
    for one in found.groups:
        over = one.over_limit_count
        if (
            not libraries.isdisjoint(one.listing.libraries)
            and one.listing.group_fines >= least
            and (one.listing.unreturned or 0) >= query.min_unreturned
            # Hidden members may be over the limit, so "no" takes an exact count.
            and query.over_limit in (UNSET, over.at_least > 0)
            and (query.over_limit is not False or over.exact)
            and query.age_band in ("", one.age_band)
        ):
            yield one


def _group(one: history.ListedGroup) -> answers.Group:
    listing = one.listing
    return answers.Group(
        group=listing.group,
        group_fines=plain_amount(listing.group_fines) if listing.certain else None,
        unreturned_at_least=UNSET if listing.unreturned is None else listing.unreturned,
        member_count=listing.member_count,
        members=list(listing.members),
        **total_document("over_limit_count", one.over_limit_count),
        library=listing.library,
        libraries=sorted(listing.libraries),
        age_band=one.age_band,
    )


def _json(answer: Struct) -> Response:
    return jsonify(to_builtins(answer))


_ASK_AGAIN_SECONDS = 1


@blueprint.post("/api/v1/plans")
def propose() -> tuple[Response, int]:
    """Make a plan. Nothing is changed."""
    with service().changing_desk(request, largest=requests.LARGEST_PLAN_BODY, verify=False) as desk:
        proposed = hooks.propose_plan(desk.client, bodies.plan_request(request))
        return jsonify(hooks.as_json(proposed)), 201


@blueprint.post("/api/v1/changes")
def apply() -> Response:
    """Apply a plan once. Repeating the request with the same key gives the same answer."""
    with service().changing_desk(request, largest=requests.LARGEST_PLAN_BODY) as desk:
        agreement = bodies.agreement(request)
        id = desk.apply_plan(agreement.plan, requests.idempotency_key(request), agreement.approval)
        return _change(hooks.own_change(desk.client, id))


@blueprint.get("/api/v1/changes")
def recent() -> Response:
    """Answer with the caller's own recent changes."""
    with service().desk(request) as desk:
        return jsonify(hooks.as_json(hooks.recent_changes(desk.client)))


@blueprint.get("/api/v1/changes/<change>")
def change(change: str) -> Response:
    """Answer with a change and its outcome so far."""
    with service().desk(request) as desk:
        return _change(hooks.change(desk.client, requests.change_id(change)))


@blueprint.post("/api/v1/changes/<change>/undo")
def undo(change: str) -> Response:
    """Undo a change."""
    with service().changing_desk(request, largest=requests.LARGEST_PLAN_BODY) as desk:
        id, key = requests.change_id(change), requests.idempotency_key(request)
        bodies.require_empty_body(request)
        return _change(hooks.own_change(desk.client, desk.undo_change(id, key)))


def _change(found: hooks.Change) -> Response:
    """Answer with a change: 202 while it is being made, 200 afterward."""
    response = jsonify(hooks.as_json(found))
    if found.is_under_way:
        response.status_code = 202
        response.headers["Location"] = url_for("api.change", change=found.entry.id)
        response.headers["Retry-After"] = str(_ASK_AGAIN_SECONDS)
    return response


pages_blueprint = Blueprint("pages", __name__)


@cache
def static_file(name: str) -> tuple[bytes, str]:
    """Return the content of a file in ``web/static``, and a digest of it."""
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return content, _digest(content)


def versioned(address: str, name: str) -> str:
    """Return the address of a static file with its digest, which forces a reload after an upgrade."""
    return f"{address}?{static_file(name)[1][:12]}"


def file_response(name: str) -> Response:
    """Answer with a static file."""
    content, digest = static_file(name)
    kind = "css" if name.endswith(".css") else "javascript"
    return _revalidated(Response(content, content_type=f"text/{kind}; charset=utf-8"), digest)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _revalidated(response: Response, digest: str) -> Response:
    """Let browsers cache a response but revalidate it each time (304), so that a new release reaches every desk."""
    response.set_etag(digest)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


@pages_blueprint.get("/panel.js", defaults={"name": "panel.js"})
@pages_blueprint.get("/group.js", defaults={"name": "group.js"})
@pages_blueprint.get("/tab.js", defaults={"name": "tab.js"})
@pages_blueprint.get("/texts.js", defaults={"name": "texts.js"})
def script(name: str) -> Response:
    """Serve the scripts of the panel in the staff client and of the group's page in its tab."""
    return file_response(name)


@pages_blueprint.get("/desk.json")
def desk_settings() -> Response:
    """Answer with the settings, the language and the texts that the scripts need.

    Scripts read them here because Apache may serve ``panel.js`` itself, as a static file without settings.
    """
    settings = service().settings
    desk, language = settings.desk, language_of_reader(request, settings.language)
    texts = json.loads(catalogue.texts_for_scripts(language.tag))
    with use_language(language):
        money = money_form()._asdict()
    dates = str(language.date_locale).replace("_", "-")
    spoken = {"tag": language.tag, "direction": language.direction, "dates": dates, "money": money, **texts}
    response = jsonify(page=desk.page, tab=desk.page and desk.tab, panel_link=desk.panel_link, language=spoken)
    return _revalidated(response, _digest(response.get_data()))


@pages_blueprint.get("/openapi.json")
def openapi() -> Response:
    """Answer with the API description."""
    return jsonify(description())


monitoring_blueprint = Blueprint("monitoring", __name__)

_ANSWERS: Final = "answers"
_DOES_NOT: Final = "does not answer"


@monitoring_blueprint.get("/healthz")
def health() -> Response:
    """Answer that the service is up, whether the gateway responds, and if not, the error's code."""
    return _json(answers.Health(status="up", **_gateway_state(), breaker=service().breaker.state.value))


@monitoring_blueprint.get("/readyz")
def readiness() -> Response:
    """Answer whether requests can be served: 503 while the gateway or the state database is unusable."""
    found = answers.Readiness(
        **_gateway_state(), database=_ANSWERS if service().health.database_answers() else _DOES_NOT
    )
    response = _json(found)
    if _DOES_NOT in (found.gateway, found.database):
        response.status_code = 503
    return response


@monitoring_blueprint.get("/metrics")
def metrics() -> Response:
    """Answer with the metrics, if the request has their token."""
    token = service().metrics_token
    if token is None:
        raise ProblemError(
            404,
            "Metrics are turned off here: set token_file in [metrics], or listen for a separate address.",
            code="no-metrics",
        )
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # compare_digest takes the same time for every wrong token. WSGI passes header bytes decoded as Latin-1.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), token.encode()):
        raise ProblemError(403, "Send the token of [metrics] as Authorization: Bearer.", code="metrics-token-wrong")
    return Response(service().counters.exposition(), content_type=METRICS_CONTENT_TYPE)


def _gateway_state() -> dict[str, Any]:
    last = service().health.gateway_outcome()
    if last is None:
        return {"gateway": "not known yet"}
    return {"gateway": _ANSWERS} if last.answered else {"gateway": _DOES_NOT, "cause": last.cause}


SECRET_HEADER = "X-Evergreen-Groups-Secret"  # noqa: S105  # the header's name

events_blueprint = Blueprint("events", __name__)


@events_blueprint.post("/events")
def receive_event() -> Response:
    """Handle an event and answer with the outcome."""
    running = service()
    _refuse_strangers(request, running)
    event = bodies.event(request)
    try:
        with running.events_breaker.watching():
            outcome = hooks.handle_event(
                running.events_client(), event, recalculate=running.settings.events.recalculate
            )
    except EvergreenGroupsError as error:
        raise problems.event_problem(error) from error
    return jsonify(hooks.as_json(outcome))


def _refuse_strangers(event_request: Request, running: Service) -> None:
    """Refuse a request unless it comes from an allowed address and has the secret, and events are enabled."""
    if running.events_secret is None:
        raise problems.no_events()
    # WSGI passes header bytes decoded as Latin-1.
    given = event_request.headers.get(SECRET_HEADER, "").encode("latin-1")
    # compare_digest takes the same time for every wrong secret. Evergreen stores the rendered request with the secret
    # where staff may read it, so the secret alone isn't enough: the address must be right too.
    knows = hmac.compare_digest(given, running.events_secret.encode())
    if not requests.is_allowed(running.address_of(event_request), running.settings.events.allow) or not knows:
        raise ProblemError(
            403,
            "The address isn't allowed, or the secret in {header} is wrong.",
            code="event-not-allowed",
            values={"header": SECRET_HEADER},
        )


BLUEPRINTS = (blueprint, pages_blueprint, monitoring_blueprint, events_blueprint)
