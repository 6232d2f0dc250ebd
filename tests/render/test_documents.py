"""The schemas of the hooks' documents: the published ones are made from the declared keys, and let more keys pass."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from evergreen_groups import hooks
from evergreen_groups.desk import EventOutcome
from evergreen_groups.render import documents


@pytest.mark.parametrize("kind", documents.KINDS)
def test_the_published_schema_is_made_from_the_keys(kind: str) -> None:
    """``nox -s docs`` writes it."""
    made = documents.json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(made)
    published = resources.files("evergreen_groups.hooks").joinpath("schemas", f"{kind}.schema.json").read_text("utf-8")
    assert json.loads(published) == made
    assert made["properties"]["kind"] == {"const": kind}


def test_a_consumer_who_validates_survives_new_keys() -> None:
    schemas: dict[str, Any] = {kind: documents.json_schema(kind) for kind in documents.KINDS}
    assert 'additionalProperties": false' not in json.dumps(schemas)
    shown = hooks.as_json(EventOutcome(1, 1001, over_limit=None, recalculated=True))
    assert list(shown) == [*("version", "kind", "event", "patron", "over_limit", "recalculated", "replayed")]
    jsonschema.validate({**shown, "new_key": "new"}, schemas["event-outcome"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**shown, "recalculated": "yes"}, schemas["event-outcome"])
