"""Bodies and answers held against the service's OpenAPI description."""

from typing import Any

from jsonschema import Draft202012Validator
from support.documents import strict

from evergreen_groups.web.description import description

DOCUMENT = description()


def resolved(value: dict[str, Any]) -> Any:
    """Follow references until a value is reached."""
    while "$ref" in value:
        place: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        value = place
    return value


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def check_body(method: str, path: str, body: object) -> None:
    """Check a request's body."""
    content = DOCUMENT["paths"][path][method.lower()]["requestBody"]["content"]
    validator(content["application/json"]["schema"]).validate(body)


def check_answer(method: str, path: str, status: int, body: object) -> None:
    """Check an answer: that the operation may have the status, and that every key of the body is described."""
    response = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
    (content,) = resolved(response)["content"].values()
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(strict(schema)).validate(body)
