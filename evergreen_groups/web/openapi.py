"""The service's description of itself (OpenAPI 3.1)."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from evergreen_groups import __version__

SCHEMAS = {
    "PatronSummary": "patron-summary",
    "GroupSummary": "group-summary",
    "Block": "block",
    "EventOutcome": "event-outcome",
    "GroupDetails": "group-details",
    "GroupBills": "group-bills",
    "Plan": "plan",
    "Change": "change",
    "Changes": "changes",
}
"""The schemas of the answers, by their names in the description: files of ``evergreen_groups/hooks/schemas``."""


@cache
def description() -> dict[str, Any]:
    """The document: ``openapi.json`` beside this module, with the version and the schemas of the answers put in."""
    document: dict[str, Any] = json.loads(resources.files(__package__).joinpath("openapi.json").read_text("utf-8"))
    document["info"]["version"] = __version__
    schemas = document["components"]["schemas"]
    for name, file in SCHEMAS.items():
        folder = resources.files("evergreen_groups.hooks").joinpath("schemas")
        schema = json.loads(folder.joinpath(f"{file}.schema.json").read_text("utf-8"), object_hook=_rehung)
        schemas.update(schema.pop("$defs", {}))
        del schema["$schema"]
        schemas[name] = schema
    return document


def _rehung(found: dict[str, Any]) -> dict[str, Any]:
    """The same, with a reference to a definition of its own file led to where that goes in the description."""
    reference = found.get("$ref")
    if isinstance(reference, str):
        found["$ref"] = reference.replace("#/$defs/", "#/components/schemas/")
    return found
