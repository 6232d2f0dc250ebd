"""Write ``docs/http-reference.md`` from the service's own description: routes with parameters, responses and metrics.

``python tests/support/http_reference.py`` prints the page, and ``nox -s docs`` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from evergreen_groups.metrics import FAMILIES
from evergreen_groups.web.api import description

HEAD = """# Routes and answers

Every address of [the service](install.md#the-service-and-the-panel), without the beginning `/evergreen-groups`, and the
service's metrics. [HTTP API](http-api.md) shows how to use the addresses.

Made from the service's description (`/evergreen-groups/openapi.json`) by `python tests/support/http_reference.py`.
"""
METHODS = ("get", "post")


def page() -> str:
    return HEAD + "".join([*_sections(description()), *_metrics()])


def _sections(document: dict[str, Any]) -> Iterator[str]:
    yield "\n| | Address | |\n| --- | --- | --- |\n"
    routes = list(_routes(document))
    for method, path, operation, _parameters in routes:
        yield f"| {method} | [`{path}`](#{_anchor(f'{method} {path}')}) | {_cell(operation['summary'])} |\n"
    for method, path, operation, parameters in routes:
        yield from _route(document, method, path, operation, parameters)
    yield from _documents(document)


def _routes(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], list[dict[str, Any]]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                parameters = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                yield method.upper(), path, item[method], [_resolved(document, one) for one in parameters]


def _anchor(heading: str) -> str:
    """Return the anchor that repository hosts, and the site, give to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        place: Any = document
        for name in found["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        found = place
    return found


def _route(
    document: dict[str, Any], method: str, path: str, operation: dict[str, Any], parameters: list[dict[str, Any]]
) -> Iterator[str]:
    yield f"\n## {method} {path}\n\n{operation['summary']}\n"
    if "description" in operation:
        yield f"\n{operation['description']}\n"
    who = [name for one in operation.get("security", ()) for name in one]
    schemes = document["components"]["securitySchemes"]
    if who:
        yield "\nAuthentication: " + "; or ".join(_scheme(schemes[name]) for name in who) + ".\n"
    if parameters:
        yield "\n| Parameter | in | |\n| --- | --- | --- |\n"
        for one in parameters:
            yield f"| `{one['name']}` | {one['in']} | {_cell(one.get('description', ''))} |\n"
    body = operation.get("requestBody")
    if body:
        kinds = ", ".join(f"`{kind}`: {_schema(media.get('schema', {}))}" for kind, media in body["content"].items())
        yield f"\nThe body is {kinds}.\n"
    yield "\n| Status | Answer |\n| --- | --- |\n"
    for status, answer in sorted(operation["responses"].items()):
        found = _resolved(document, answer)
        kinds = [
            _schema(media["schema"]) for media in found.get("content", {}).values() if "$ref" in media.get("schema", ())
        ]
        documents = [kind for kind in kinds if "Problem" not in kind]
        yield f"| {status} | {' '.join([_cell(found['description']), *documents])} |\n"


def _scheme(scheme: dict[str, Any]) -> str:
    if scheme["type"] == "http":
        return "a token in `Authorization: Bearer`"
    return f"the {scheme['in']} `{scheme['name']}`"


def _schema(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    return str(schema.get("type", "an object"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _documents(document: dict[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    wanted = _named(document["paths"], document)
    yield "\n## Documents\n"
    for name in sorted(wanted):
        schema = schemas[name]
        yield f"\n### {name}\n"
        if "description" in schema:
            yield f"\n{_cell(schema['description'])}\n"
        properties = _resolved(document, schema).get("properties", {})
        if not properties:
            continue
        required = set(schema.get("required", ()))
        yield "\n| Key | Type | |\n| --- | --- | --- |\n"
        for key, value in properties.items():
            optional = "" if key in required else " *(may be missing)*"
            says = _cell(_resolved(document, value).get("description", value.get("description", "")))
            yield f"| `{key}` | {_type(value)}{optional} | {says} |\n"


def _metrics() -> Iterator[str]:
    yield "\n## Metrics\n\n[Monitoring](monitoring.md#metrics) says how to read them. Those marked *nightly* are also "
    yield "in the file that the nightly report writes."
    yield "\n\n| Metric | Kind | Labels | |\n| --- | --- | --- | --- |\n"
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        kind = f"{family.kind}, nightly" if family.nightly else family.kind
        yield f"| `{family.name}` | {kind} | {labels} | {_cell(family.help)} |\n"
    yield "\nThere are also the standard metrics of Python programs, such as `process_resident_memory_bytes`.\n"


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
