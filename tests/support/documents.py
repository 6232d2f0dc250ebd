"""JSON documents, validated with their schemas."""

import json
from importlib import resources
from typing import Any

import jsonschema

from evergreen_groups import hooks


def strict(schema: Any) -> Any:
    """Return the schema with every object that has named keys closed, so that an undocumented key is an error."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(part) for key, part in schema.items()}
    if "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def schema(kind: str) -> Any:
    text = resources.files("evergreen_groups.hooks").joinpath("schemas", f"{kind}.schema.json").read_text("utf-8")
    return strict(json.loads(text))


def document(value: Any) -> dict[str, Any]:
    """Return the JSON form, validated with its schema."""
    made = json.loads(json.dumps(hooks.as_json(value)))
    jsonschema.validate(made, schema(made["kind"]))
    return made
