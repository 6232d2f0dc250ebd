"""JSON schemas, made strict."""

from __future__ import annotations

from typing import Any


def strict(schema: Any) -> Any:
    """Return the schema with every object closed, so that an undocumented key is an error."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(part) for key, part in schema.items()}
    if schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed
