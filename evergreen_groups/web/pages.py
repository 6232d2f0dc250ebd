"""What isn't about patrons: the panel's scripts, and the description of the service."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources

from flask import Blueprint, Response, jsonify, request

from evergreen_groups.language import texts_for_scripts
from evergreen_groups.web.openapi import description
from evergreen_groups.web.reader import language_of_reader
from evergreen_groups.web.service import service

blueprint = Blueprint("pages", __name__)


@blueprint.get("/panel.js", defaults={"name": "panel.js"})
@blueprint.get("/group.js", defaults={"name": "group.js"})
@blueprint.get("/tab.js", defaults={"name": "tab.js"})
@blueprint.get("/texts.js", defaults={"name": "texts.js"})
def script(name: str) -> Response:
    """The scripts that show the panel in the staff client, and the group's page in its tab."""
    return _asked_for_each_time(Response(_script(name), content_type="text/javascript; charset=utf-8"))


@blueprint.get("/desk.json")
def desk_settings() -> Response:
    """What the scripts have to know: of ``[desk]``, and the reader's language with their texts.

    Apache may hand out the first of them itself, without settings.
    """
    settings = service().settings
    desk, language = settings.desk, language_of_reader(request, settings.language)
    texts = json.loads(texts_for_scripts(language.tag))
    spoken = {"tag": language.tag, "direction": language.direction, "currency": language.currency, **texts}
    return _asked_for_each_time(
        jsonify(page=desk.page, tab=desk.page and desk.tab, panel_link=desk.panel_link, language=spoken)
    )


def _asked_for_each_time(response: Response) -> Response:
    """Have browsers keep it, but ask for it each time (304): a new release is on every desk at once."""
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


@cache
def _script(name: str) -> bytes:
    return resources.files("evergreen_groups.web").joinpath("static", name).read_bytes()


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The description of the service."""
    return jsonify(description())
