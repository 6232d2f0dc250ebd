"""Parse and print JSON and XML like OpenSRF."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree

_NAMESPACE = "http://opensrf.org/-/namespaces/gateway/v1"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\deE]+|true|false|null|.', re.DOTALL)
_STRICT_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_LOOSE_NUMBER = re.compile(r"([-+]?)0*(\d*)(\.\d*)?([eE][-+]?\d+)?")
_ODD_ESCAPE = re.compile(r'\\([^"\\/bfnrtu])', re.DOTALL)


def _number(text: str) -> float:
    """Convert a number to 15 digits, as a float. C services return it with a decimal point (``errors-061``: Perl's)."""
    return float(f"{float(text):.15g}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    if isinstance(found.get("__c"), str) and found.get("__p") is None:
        return {"__c": ""}
    return found


def _refuse(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_number, parse_constant=_refuse, strict=False)


def _tidy_token(token: str) -> str:
    if token.startswith('"'):
        return _ODD_ESCAPE.sub(lambda match: json.dumps(match[1])[1:-1], token)
    if token[0] in "-+.0123456789eE" and not _STRICT_NUMBER.fullmatch(token):
        match = _LOOSE_NUMBER.fullmatch(token)
        if match and (match[2] or match[3] or token.lstrip("-+").startswith("0")):
            fraction = match[3] if match[3] not in (None, ".") else ""
            return f"{match[1].strip('+')}{match[2] or '0'}{fraction}{match[4] or ''}"
    return token


def parse_json(text: str) -> Any:
    """Parse a JSON parameter like the gateway; invalid JSON is null (``errors-012``).

    The gateway is more lenient than the standard (control characters in strings, ``+5``, ``.5``, ``007``), but rejects
    duplicate keys and null characters.
    """
    try:
        try:
            value = _DECODER.decode(text)
        except ValueError:
            value = _DECODER.decode("".join(map(_tidy_token, _TOKEN.findall(text))))
        return _cleaned(value)
    except (ValueError, RecursionError):
        return None


def _cleaned(value: Any) -> Any:
    """Replace empty objects of a class with null.

    Raises:
        ValueError: a string contains a null character.
    """
    if isinstance(value, dict):
        if value == {"__c": ""}:
            return None
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a null character")
    return value


def write_json(value: Any) -> str:
    """Serialize a value like the gateway: without spaces, and with non-ASCII characters escaped (``pcrud-039``)."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def parse_xml(text: str) -> Any:
    """Parse a parameter in the gateway's XML form; anything else is null (``errors-038``)."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        return _from_element(etree.fromstring(text.encode(), parser))
    except etree.XMLSyntaxError:
        return None


def _from_element(node: etree._Element) -> Any:
    name = etree.QName(node).localname
    if name == "string":
        return node.text
    if name == "number":
        return parse_json(node.text or "0") if _STRICT_NUMBER.fullmatch(node.text or "0") else 0
    if name == "boolean":
        return node.get("value") == "true"
    if name not in ("array", "object"):
        return None
    content: Any = (
        [_from_element(child) for child in node]
        if name == "array"
        else {child.get("key"): _from_element(child[0]) for child in node if len(child)}
    )
    hint = node.get("class_hint")
    return {"__c": hint, "__p": content} if hint else content


def write_xml(value: Any) -> str:
    """Serialize a value in the gateway's XML form (``errors-037`` to ``errors-043``)."""
    return "".join(_xml_parts(value, ""))


def _xml_parts(value: Any, hint: str) -> list[str]:
    if isinstance(value, list):
        inner = [part for item in value for part in _xml_parts(item, "")]
        return [f"<array{hint}>", *inner, "</array>"]
    if not isinstance(value, dict):
        return [_xml_scalar(value, hint)]
    if set(value) == {"__c", "__p"}:
        return _xml_parts(value["__p"], f' class_hint="{value["__c"]}"')
    parts = [f"<object{hint}>"]
    for key, item in value.items():
        parts += [f'<element key="{key}">', *_xml_parts(item, ""), "</element>"]
    return [*parts, "</object>"]


def _xml_scalar(value: Any, hint: str) -> str:
    if value is None:
        return f"<null{hint}/>"
    if isinstance(value, bool):
        return f'<boolean value="{"true" if value else "false"}"{hint}/>'
    if isinstance(value, int | float):
        text = str(int(value)) if float(value).is_integer() else f"{value:f}"
        return f"<number{hint}>{text}</number>"
    return f"<string{hint}>{escape(value)}</string>"


def json_answer(payload: list[Any], status: int, debug: str | None = None) -> str:
    """Return the body of a JSON response."""
    middle = "" if debug is None else f',"debug": {write_json(debug)}'
    return f'{{"payload":{write_json(payload)}{middle},"status":{status}}}'


def xml_answer(payload: list[Any], status: int, debug: str | None = None) -> str:
    """Return the body of an XML response, where the debug text is in quotation marks (``errors-045``)."""
    items = "".join(map(write_xml, payload))
    middle = "" if debug is None else f'<debug>"{debug}"</debug>'
    return f'<response xmlns="{_NAMESPACE}"><payload>{items}</payload>{middle}<status>{status}</status></response>'
