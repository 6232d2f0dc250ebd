"""The WSGI app: routes, headers common to all responses, and error responses."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.language import ENGLISH, current_language, set_language
from evergreen_groups.metrics import ServiceCounters, StateCollector
from evergreen_groups.render import SERVICE, json_line
from evergreen_groups.web import api, follow_ups, letters, reports, results
from evergreen_groups.web import desk as desk_pages
from evergreen_groups.web.problems import RETRY_SECONDS, ProblemError
from evergreen_groups.web.requests import language_of_reader
from evergreen_groups.web.service import EXTENSION, Service, ServiceCollector, service, service_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from evergreen_groups.settings import Settings


log = logging.getLogger("evergreen_groups.web")

PREFIX = SERVICE
"""The service's path on Evergreen's own host."""

# An event has three short fields. Requests for plans and changes set a larger limit themselves.
LARGEST_BODY = 4096
"""Default maximum size of a request's body, in bytes."""

_HEADERS = {
    # Any response may name patrons, so no proxy or browser may store it.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HTTP_PROBLEMS = {
    400: ProblemError(400, "The request can't be answered.", code="request-unreadable"),
    404: ProblemError(404, "There is nothing at this address.", code="no-such-address"),
    405: ProblemError(405, "This address doesn't accept this method.", code="no-such-method"),
}
_TURNED_AWAY = {429, 503, 504}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class _JSON(DefaultJSONProvider):
    """Writes JSON as the commands do: faster than Flask, and without escapes."""

    def response(self, *args: Any, **fields: Any) -> Response:
        """Return a response with a document, given in one piece or by its fields."""
        return Response(json_line(fields or args[0]), mimetype=self.mimetype)


class _App(Flask):
    """Flask that adds the headers common to all responses, and restores the path's prefix after a WSGI mount."""

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            present = {name.lower() for name, _value in headers}
            more = [(name, value) for name, value in _HEADERS.items() if name.lower() not in present]
            return start_response(status, headers + more, *error)

        mount = environ.get("SCRIPT_NAME", "").rstrip("/")
        if mount.endswith(PREFIX):
            # Routes and log entries then have the same path under every server.
            environ["SCRIPT_NAME"] = mount.removesuffix(PREFIX)
            environ["PATH_INFO"] = PREFIX + environ.get("PATH_INFO", "")
        return super().wsgi_app(environ, start)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function itself. Flask would check four times per request whether it is a coroutine's."""
        return func


def create_app(settings: Settings, environ: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> Flask:
    """Create the app. It makes no call to the gateway before the first request.

    The app answers below :data:`PREFIX`, whether the server removes the prefix (a WSGI mount) or leaves it in the path
    (a proxy). ``environ`` is used to look up passwords and directories (``os.environ``). ``clock`` returns seconds.

    Raises:
        ConfigurationError: no gateway is configured, or the account or the secret for events can't be used.
    """
    app = _App("evergreen_groups.web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    # Other origins may not use the service, so their preflight requests aren't approved.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # Flask's redirect would repeat the path, including a barcode in it.
    app.url_map.merge_slashes = False
    app.json = _JSON(app)
    running = Service(settings, environ, clock, counters := ServiceCounters())
    app.extensions[EXTENSION] = running
    counters.add(ServiceCollector(running))
    counters.add(StateCollector(running.state.database))
    for blueprint in (
        *api.BLUEPRINTS,
        follow_ups.blueprint,
        letters.blueprint,
        results.blueprint,
        reports.blueprint,
        follow_ups.worklist,
        desk_pages.blueprint,
    ):
        app.register_blueprint(blueprint, url_prefix=PREFIX)
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_end)
    app.register_error_handler(ProblemError, _problem)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _unexpected)
    return app


def close(app: Flask) -> None:
    """Log out and close the connections to the gateway. Call this after the server has stopped."""
    service_of(app).close()


def _begin() -> None:
    g.began = time.monotonic()
    # Answers to programs are in English. Threads are reused, so the previous language is restored after the request.
    language = language_of_reader(request, service().settings.language) if _is_for_people() else ENGLISH
    g.previous_language = current_language()
    set_language(language)


def _is_for_people() -> bool:
    return request.blueprint in ("desk_pages", "letters", "reports", "results", "worklist")


def _end(_error: BaseException | None) -> None:
    if "previous_language" in g:
        set_language(g.previous_language)


def _finish(response: Response) -> Response:
    # Log the route instead of the path, which contains ids and barcodes.
    method, rule = request.method, request.url_rule
    method = method if method in _METHODS else "(unknown method)"
    route = rule.rule if rule else "(no such address)"
    seconds = time.monotonic() - g.began
    log.info("%s %s %d %.0f ms", method, route, response.status_code, seconds * 1000)
    service().counters.request(method, route, response.status_code, seconds)
    return response


def _problem(error: ProblemError) -> Response:
    cause = error.__cause__
    if error.status in _TURNED_AWAY:
        service().counters.refusal(error.code)
    if isinstance(cause, PermissionDeniedError):
        log.warning("the session lacks the permission %s", cause.permission or "(not named)")
    elif error.status >= 500 and cause is not None:
        log.warning("%s: %s", type(cause).__name__, " ".join(str(cause).split()))
    return _answer(error)


def _answer(error: ProblemError) -> Response:
    """Answer with a page if the route serves pages, or else in JSON."""
    if request.blueprint == desk_pages.blueprint.name:
        return desk_pages.describe_problem(error)
    return reports.problem_page(error) if _is_for_people() else error.response()


def _http_problem(error: HTTPException) -> Response:
    status = error.code or 500
    if status == 413:
        values = {"most": request.max_content_length or LARGEST_BODY}
        return _answer(ProblemError(413, "The body is larger than {most} bytes.", code="body-too-large", values=values))
    other = ProblemError(status, "The request can't be answered.", code="request-refused")
    response = _answer(_HTTP_PROBLEMS.get(status, other))
    allowed = error.get_response().headers.get("Allow")
    if allowed:
        response.headers["Allow"] = allowed
    return response


def _unexpected(error: Exception) -> Response:
    """Answer a bug. Its message may contain patron data, so log only its type and position."""
    if isinstance(error, MemoryError):
        log.error("not enough memory")
        return _answer(
            ProblemError(
                503,
                "This service doesn't have enough memory. Try again in a moment.",
                code="not-enough-memory",
                retry_after=RETRY_SECONDS,
            )
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("a bug: %s at %s:%s", type(error).__name__, place.filename, place.lineno)
    return _answer(ProblemError(500, "This service has a bug. See its log.", code="bug"))
