"""The API description: what each route takes and answers, in OpenAPI."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from evergreen_groups import __version__
from evergreen_groups.render import documents
from evergreen_groups.web import answers, bodies
from evergreen_groups.web.problems import CONTENT_TYPE
from evergreen_groups.web.requests import LARGEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from msgspec import Struct

_SCHEMAS = "#/components/schemas/{name}"
_INFO = {
    "title": "evergreen-groups",
    "version": __version__,
    "summary": "What a patron group owes, for information only, and who is over the limit by their own fines.",
    "description": "Every request uses the caller's own Evergreen session, so Evergreen's permissions decide what the "
    "caller sees. Status 404 doesn't say whether something doesn't exist or is hidden from the caller. Amounts are "
    "strings with two decimal places.",
    "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
}
_WAYS_TO_SIGN_IN = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The token of an Evergreen staff session."},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "eg.auth.token",
        "description": "The staff client's cookie.",
    },
    "eventSecret": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Evergreen-Groups-Secret",
        "description": "The secret for events. Only allowed addresses may send it.",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of [metrics] in the service's settings.",
    },
}
_PROBLEMS = {
    400: ("BadRequest", "An id, a barcode or the body is invalid."),
    401: ("NoSession", "The token of an Evergreen session is missing or has expired."),
    403: (
        "NotAllowed",
        "The caller lacks a permission, or the request comes from another site. For events: the sender's address or "
        "the secret is wrong.",
    ),
    404: ("NotFound", "It doesn't exist, or the caller may not see it."),
    409: (
        "NoLongerSo",
        "The plan is outdated or was already applied, or the change is in progress, is already undone, or has nothing "
        "to undo.",
    ),
    410: ("TooOld", "The plan is too old."),
    413: ("TooLarge", "The body is too large."),
    415: ("OtherType", "The body has the wrong media type."),
    422: (
        "NotPossible",
        "The request can't be fulfilled, such as for an unknown barcode, a patron named twice, nothing to do, or a key "
        "used for another change.",
    ),
    429: ("TooMany", "Too many requests in this session. `Retry-After` says when to try again."),
    500: ("Broken", "The service's settings contradict Evergreen, or the service has a bug. See its log."),
    502: ("Refused", "Evergreen refused, or its answer was incomplete."),
    503: ("NotAvailable", "Evergreen can't be reached. `Retry-After` says when to try again."),
    504: ("NotInTime", "Evergreen didn't answer in time."),
}
_FAILURES = (500, 502, 503, 504)
_READ = (401, 403, 404, 429, *_FAILURES)
_READ_ONE = (400, *_READ)
_WRITE = (409, 413, 415, 422, *_READ_ONE)
_CHANGE = (410, *_WRITE)
_SESSION = ("bearer", "cookie")


def _ref(shape: type[Struct]) -> dict[str, Any]:
    return {"$ref": _SCHEMAS.format(name=shape.__name__)}


def _content(shape: type[Struct], *kinds: str) -> dict[str, Any]:
    return {kind: {"schema": _ref(shape)} for kind in kinds or ("application/json",)}


def _answer(description: str, shape: type[Struct], kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": _content(shape, kind)}


def _files(description: str, *kinds: str) -> dict[str, Any]:
    return {"description": description, "content": {kind: {} for kind in kinds}}


def _parameter(name: str, description: str, schema: dict[str, Any], place: str = "path") -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        **({} if place == "query" else {"required": True}),
        "description": description,
        "schema": schema,
    }


def _query(shape: type[Struct]) -> list[dict[str, Any]]:
    """Return the parameters of a query."""
    keys = documents.schemas([shape], _SCHEMAS)[shape.__name__]["properties"]
    return [_parameter(name, schema.pop("description"), schema, "query") for name, schema in keys.items()]


def _operation(
    id: str,
    summary: str,
    responses: dict[int, dict[str, Any]],
    problems: Iterable[int] = (),
    *,
    description: str = "",
    sign_in: Iterable[str] = (),
    parameters: Iterable[dict[str, Any]] = (),
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    refused = {status: {"$ref": f"#/components/responses/{_PROBLEMS[status][0]}"} for status in problems}
    return {
        "operationId": id,
        "summary": summary,
        **({"description": description} if description else {}),
        "security": [{way: []} for way in sign_in],
        **({"parameters": [*parameters]} if parameters else {}),
        **({"requestBody": {"required": True, "content": body}} if body else {}),
        "responses": {str(status): answer for status, answer in sorted({**refused, **responses}.items())},
    }


_ID = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
_TEXT = {"type": "string"}
_PATRON = _parameter("patron", "The patron's id (`au.id`).", _ID)
_GROUP = _parameter("group", "The group's number (`au.usrgroup`).", _ID)
_BARCODE = _parameter("barcode", "The barcode of a card.", {**_TEXT, "pattern": "^[0-9A-Za-z.$+_-]+$", "maxLength": 64})
_CHANGE_ID = _parameter(
    "change", "The id of a change in the journal.", {**_TEXT, "pattern": documents.CHANGE_ID_PATTERN}
)
_KEY = _parameter(
    "Idempotency-Key",
    "A key that the caller chooses: a new one for each change, and the same one to repeat a request.",
    {**_TEXT, "pattern": "^[!-~]+$", "minLength": 1, "maxLength": 100},
    "header",
)
_REPORT = _parameter("report", "The name of a report in `[[reports]]`.", _TEXT)
_FILE = _parameter("name", "A library's short name, or the name of one of the report's files.", _TEXT)
_REPORT_QUERY = _parameter(
    "report",
    "The name of a report in `[[reports]]`. By default, the report of `[report]`.",
    {**_TEXT, "default": ""},
    "query",
)

_OWN_ORIGIN = "Requires a request from the staff client's own origin, or a Bearer token."
_PATRON_ROUTES = (
    (
        "summary",
        "patronSummary",
        "What the members of a patron's group owe, individually and together.",
        _answer("The patron's group. `show` is false if the group has only one member.", documents.PatronSummary),
    ),
    (
        "group",
        "groupDetails",
        "A patron's group, with everything that the desk shows about its members.",
        _answer("The group, with the rule's decisions and Evergreen's penalties side by side.", documents.GroupDetails),
    ),
    (
        "group/bills",
        "groupBills",
        "The open bills and the items out of the visible members of a patron's group.",
        _answer("The open bills and the items out, as the caller may see them.", documents.GroupBills),
    ),
    (
        "group/slip",
        "familyItems",
        "What a patron and the children of the group have out, and which holds they can pick up.",
        _answer("The items and holds, as the caller may see them and `[statement]` allows.", documents.FamilyItems),
    ),
    ("block", "block", "Whether a patron's own fines exceed the limit.", _answer("The decision.", documents.Block)),
)
_IN_PROGRESS = {
    **_answer("The change is in progress: ask again at `Location`.", documents.Change),
    "headers": {
        "Location": {"description": "The address to ask.", "schema": {"type": "string"}},
        "Retry-After": {"description": "The number of seconds to wait.", "schema": {"type": "integer"}},
    },
}
_CHANGED = {200: _answer("The outcome of each step.", documents.Change), 202: _IN_PROGRESS}
_PAGE = {
    200: _files("The report.", "text/html"),
    303: {
        "description": "The report is split by library: go to the page of the topmost org unit, or of the session's "
        "library.",
        "headers": {"Location": {"description": "The page's address.", "schema": {"type": "string"}}},
    },
}
_REPORT_FILE = {
    200: _files(
        "The page or the file.",
        "text/html",
        "text/csv",
        "application/json",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    )
}
_FILE_DESCRIPTION = (
    "The page lists all members of its groups, also those with another home library. The index of the libraries is "
    "`index.html`. If the last run failed, a page says so and links to the older report."
)
_CURRENT = {"description": "The caller's copy is current."}
_SCRIPTS = (
    ("panel", "panelScript", "The script that shows a patron's group in the staff client."),
    ("group", "groupScript", "The script that makes the panel's content. The panel's script loads it."),
    (
        "tab",
        "tabScript",
        "The script that shows the group's page in the staff client's tab. The panel's script loads it.",
    ),
    ("texts", "getTextsScript", "The script that looks up texts in the reader's language, for the other scripts."),
)


def _patron_paths() -> dict[str, dict[str, Any]]:
    made = {}
    for place, parameter, suffix, more in (
        ("{patron}", _PATRON, "", ""),
        ("by-barcode/{barcode}", _BARCODE, "ByBarcode", " Takes the barcode of any of the patron's cards."),
    ):
        for rest, id, summary, answer in _PATRON_ROUTES:
            made[f"/api/v1/patrons/{place}/{rest}"] = {
                "get": _operation(
                    id + suffix, summary + more, {200: answer}, _READ_ONE, sign_in=_SESSION, parameters=[parameter]
                )
            }
    return made


def _paths() -> dict[str, dict[str, Any]]:
    return {
        **_patron_paths(),
        "/api/v1/groups": {
            "get": _operation(
                "groups",
                "The groups that the last nightly report lists.",
                {200: _answer("The groups, and the cursor for the next ones.", answers.GroupList)},
                (410, *_READ_ONE),
                description="Returns what the last run recorded (`as_of`) about groups that have a member at a library "
                "where the caller has VIEW_USER. Names aren't recorded; `GET /api/v1/groups/{group}` has them.",
                sign_in=_SESSION,
                parameters=_query(bodies.GroupsQuery),
            )
        },
        "/api/v1/groups/{group}": {
            "get": _operation(
                "groupSummary",
                "What the members of a group owe, individually and together.",
                {200: _answer("The group.", documents.GroupSummary)},
                _READ_ONE,
                sign_in=_SESSION,
                parameters=[_GROUP],
            )
        },
        "/api/v1/plans": {
            "post": _operation(
                "proposePlan",
                "Plan to move, remove or merge patrons, make them leads, undo a change, or recalculate penalties.",
                {201: _answer("The plan: its steps, the groups before and after, and warnings.", documents.Plan)},
                _CHANGE,
                description="This changes nothing. Only the caller can apply the plan, within an hour. " + _OWN_ORIGIN,
                sign_in=_SESSION,
                body=_content(bodies.PlanBody),
            )
        },
        "/api/v1/changes": {
            "get": _operation(
                "recentChanges",
                "The caller's own changes of the last seven days, newest first.",
                {200: _answer("The changes to patrons whom the caller may see.", documents.ChangeList)},
                _READ,
                sign_in=_SESSION,
            ),
            "post": _operation(
                "applyPlan",
                "Apply a plan once.",
                _CHANGED,
                _CHANGE,
                description="A repeated request with the same key gets the same answer and changes nothing again. A "
                "plan is outdated (409) if a patron's group or lead mark has changed, or the members of the group that "
                "patrons move to. Changed amounts don't matter. " + _OWN_ORIGIN,
                sign_in=_SESSION,
                parameters=[_KEY],
                body=_content(bodies.Agreement),
            ),
        },
        "/api/v1/changes/{change}": {
            "get": _operation(
                "change",
                "A change and its outcome.",
                {200: _answer("The steps for patrons whom the caller may see.", documents.Change), 202: _IN_PROGRESS},
                _READ_ONE,
                sign_in=_SESSION,
                parameters=[_CHANGE_ID],
            )
        },
        "/api/v1/changes/{change}/undo": {
            "post": _operation(
                "undoChange",
                "Undo a change.",
                _CHANGED,
                _CHANGE,
                description="Moves back the patrons who are still where the change put them. Callers can undo what "
                "they made or approved, and others' changes with the permission in `[desk] undo_others`. "
                + _OWN_ORIGIN,
                sign_in=_SESSION,
                parameters=[_CHANGE_ID, _KEY],
            )
        },
        "/api/v1/follow-ups": {
            "get": _operation(
                "followUps",
                "What staff agreed with the groups of a report, and which groups are to do.",
                {200: _answer("The groups in the report's last run.", answers.FollowUps)},
                _READ,
                description="Requires VIEW_USER for the whole consortium, like the report's page. If the report is "
                "split by library, the answer has the groups of the libraries where the caller has VIEW_USER. Before "
                "the first run, there are no groups.",
                sign_in=_SESSION,
                parameters=[_REPORT_QUERY],
            ),
            "post": _operation(
                "saveFollowUpEntries",
                "Save entries, either all or none.",
                {
                    200: _answer("The entries as saved.", answers.FollowUpEntries),
                    409: _answer(
                        "A group has an entry newer than `seen`. Nothing was saved.", answers.NewerEntry, CONTENT_TYPE
                    ),
                },
                _WRITE,
                description="Requires UPDATE_USER, or the permission in `[follow_up] permission`, at the home library "
                "of each group's person to contact. Authors may correct their own entries without it. A repeated "
                "request with the same key gets the same answer and saves nothing again. " + _OWN_ORIGIN,
                sign_in=_SESSION,
                parameters=[_KEY],
                body=_content(bodies.FollowUpBody),
            ),
        },
        "/reports/latest": {
            "get": _operation(
                "latestReport",
                "The latest page of the nightly report. Requires VIEW_USER for the whole consortium. If the report is "
                "split by library, leads to the page of the caller's library.",
                _PAGE,
                _READ,
                sign_in=_SESSION,
            )
        },
        "/reports/latest/{name}": {
            "get": _operation(
                "libraryReport",
                "A library's page of the nightly report, if it is split by library. Requires VIEW_USER there.",
                _REPORT_FILE,
                _READ,
                description=_FILE_DESCRIPTION,
                sign_in=_SESSION,
                parameters=[_FILE],
            )
        },
        "/reports/named/{report}/latest": {
            "get": _operation(
                "latestNamedReport",
                "The latest page of a report in `[[reports]]`.",
                _PAGE,
                _READ,
                sign_in=_SESSION,
                parameters=[_REPORT],
            )
        },
        "/reports/named/{report}/latest/{name}": {
            "get": _operation(
                "namedLibraryReport",
                "A library's page of a report in `[[reports]]`. Requires VIEW_USER there.",
                _REPORT_FILE,
                _READ,
                description=_FILE_DESCRIPTION,
                sign_in=_SESSION,
                parameters=[_REPORT, _FILE],
            )
        },
        "/events": {
            "post": _operation(
                "receiveEvent",
                "Handle an event from Evergreen (Action/Trigger, reactor CallHTTP).",
                {200: _answer("The outcome.", documents.EventOutcome)},
                (400, 403, 404, 413, 415, *_FAILURES),
                description="The answer comes after the event was handled. A repeated event gets the earlier outcome "
                "and changes nothing. An event that failed may be sent again.",
                sign_in=["eventSecret"],
                body=_content(bodies.EventBody, "application/json", "application/x-www-form-urlencoded"),
            )
        },
        "/healthz": {
            "get": _operation(
                "health",
                "Whether the service runs and the gateway answers, and if it doesn't, why.",
                {200: _answer("The service runs.", answers.Health)},
            )
        },
        "/readyz": {
            "get": _operation(
                "readiness",
                "Whether the service can answer requests: the gateway and the service's database must work.",
                {200: _answer("It can.", answers.Readiness), 503: _answer("It can't.", answers.Readiness)},
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "Metrics for Prometheus, without patron data.",
                {
                    200: {
                        "description": "The metrics in Prometheus's text format.",
                        "content": {"text/plain": {"schema": _TEXT}},
                    }
                },
                (403, 404),
                sign_in=["metricsToken"],
            )
        },
        "/openapi.json": {
            "get": _operation(
                "description",
                "The OpenAPI description.",
                {200: _files("A document in OpenAPI 3.1.", "application/json")},
            )
        },
        **{
            f"/{name}.js": {
                "get": _operation(id, summary, {200: _files("The script.", "text/javascript"), 304: _CURRENT})
            }
            for name, id, summary in _SCRIPTS
        },
        "/desk.json": {
            "get": _operation(
                "deskSettings",
                "The settings of [desk] that the panel's script needs.",
                {200: _answer("The settings.", answers.DeskSettings), 304: _CURRENT},
            )
        },
    }


_BODIES: tuple[type[Struct], ...] = (bodies.PlanBody, bodies.Agreement, bodies.FollowUpBody, bodies.EventBody)
_ANSWERS: tuple[type[Struct], ...] = (
    *documents.KINDS.values(),
    *(answers.Health, answers.Readiness, answers.DeskSettings, answers.Problem, answers.GroupList),
    *(answers.FollowUps, answers.FollowUpEntries, answers.NewerEntry),
)


@cache
def description() -> dict[str, Any]:
    """Return the description."""
    schemas = documents.schemas([*_BODIES, *_ANSWERS], _SCHEMAS)
    schemas["EventBody"]["maxProperties"] = bodies.MOST_FIELDS
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": "/evergreen-groups"}],
        "paths": _paths(),
        "components": {
            "responses": {name: _answer(text, answers.Problem, CONTENT_TYPE) for name, text in _PROBLEMS.values()},
            "securitySchemes": _WAYS_TO_SIGN_IN,
            "schemas": schemas,
        },
    }
