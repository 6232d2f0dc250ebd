"""Write ``docs/http-reference.md`` from the service's own description: routes with parameters, responses and metrics.

``python tests/support/http_reference.py`` prints the page, and ``nox -s docs`` writes it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from evergreen_groups.metrics import FAMILIES
from evergreen_groups.web.description import description

METHODS = ("get", "post")


def page() -> str:
    document = description()
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, **options)
    environment.filters |= {
        "cell": lambda text: " ".join(text.split()).replace("|", "\\|"),
        "resolved": lambda found: _resolved(document, found),
        "schema": _schema,
        "type": _type,
    }
    template = environment.from_string(Path(__file__).with_name("http_reference.md.j2").read_text("utf-8"))
    schemas = document["components"]["schemas"]
    documents = [(name, schemas[name]) for name in sorted(_named(document["paths"], document))]
    return template.render(routes=list(_routes(document)), documents=documents, families=FAMILIES)


def _routes(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    schemes = document["components"]["securitySchemes"]
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                parameters = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                yield {
                    "method": method.upper(),
                    "path": path,
                    # As repository hosts and the site make it of a heading.
                    "anchor": re.sub(r"[^\w -]", "", f"{method} {path}".lower()).replace(" ", "-"),
                    "operation": item[method],
                    "parameters": [_resolved(document, one) for one in parameters],
                    "schemes": [_scheme(schemes[name]) for one in item[method].get("security", ()) for name in one],
                }


def _resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        place: Any = document
        for name in found["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        found = place
    return found


def _scheme(scheme: dict[str, Any]) -> str:
    if scheme["type"] == "http":
        return "a token in `Authorization: Bearer`"
    return f"the {scheme['in']} `{scheme['name']}`"


def _schema(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    return str(schema.get("type", "an object"))


def _named(found: Any, document: dict[str, Any]) -> set[str]:
    """Return the names of all schemas referred to, directly or indirectly."""
    names: set[str] = set()
    waiting = [found, document["components"]["responses"]]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(value for value in one.values())
            reference = one.get("$ref", "")
            name = reference.rpartition("/")[2]
            if isinstance(reference, str) and "/schemas/" in reference and name not in names:
                names.add(name)
                waiting.append(document["components"]["schemas"][name])
    return names


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _schema(schema)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"] if one is not None)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            types = dict.fromkeys(_type(one) for one in schema[several])
            return " or ".join(sorted(types, key="null".__eq__))  # versions of msgspec differ in null's place
    kind = schema.get("type", "anything")
    if kind == "array" and "items" in schema:
        return f"list of {_type(schema['items'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


if __name__ == "__main__":
    print(page(), end="")
