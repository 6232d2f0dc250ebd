"""Parts shared by JSON documents: groups, patrons and totals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TextIO

import msgspec

from evergreen_groups.render.column import Column, JSONObject, own
from evergreen_groups.render.text import LONE_SURROGATE
from evergreen_groups.values import plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.desk import RecalculationForecast
    from evergreen_groups.groups import Group, Patron, Standing, StandingTotals
    from evergreen_groups.ils import CirculationCounts, Penalty
    from evergreen_groups.policy import Limit
    from evergreen_groups.values import Total


def fields(of: object, *names: str) -> dict[str, Any]:
    """Return attributes of a record as keys of a JSON object."""
    return {name: _plain(getattr(of, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain_amount(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date):
        return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def group_document(group: Group) -> dict[str, Any]:
    """Return a group's number, fines and hidden members; amounts are strings with two decimal places."""
    return {
        "group": group.number,
        "group_fines": plain_amount_or_none(group.group_fines),
        "group_fines_are": "for information only",
        **fields(group, "hidden_member_count", "hidden_fines"),
    }


def total_document(name: str, total: Total[int] | Total[Decimal]) -> dict[str, Any]:
    """Return a total under ``name``, null unless exact, and its lower bound under ``NAME_at_least``."""
    at_least = total.at_least
    written = plain_amount(at_least) if isinstance(at_least, Decimal) else at_least
    return {name: written if total.exact else None, f"{name}_at_least": written}


def standing_totals_document(totals: StandingTotals) -> dict[str, Any]:
    """Return how many members are over the limit, blocked for fines, and blocked for any reason."""
    return {
        **total_document("over_limit_count", totals.over_limit),
        **total_document("blocked_in_evergreen_count", totals.blocked_for_fines),
        **total_document("blocked_count", totals.blocked),
    }


def item_totals_document(name: str, counts: CirculationCounts) -> dict[str, Any]:
    """Return the checked-out items of all members under ``name``, null unless exact, and lower bounds."""
    written = fields(counts, "out", "overdue", "lost")
    return {name: written if counts.complete else None, f"{name}_at_least": written}


def patron_document(patron: Patron) -> dict[str, Any]:
    """Return a patron's id, name, barcode and home library."""
    return {"id": patron.id, "name": patron.name, "barcode": patron.barcode, "library": patron.home_library.shortname}


def write_json_document(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON object, indented for human readers."""
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")


LIMIT: JSONObject[Limit] = JSONObject(
    "Limit",
    own("amount", kind="money", help="null: no limit."),
    Column(
        "comparison",
        lambda limit: limit.comparison.value,
        type=Literal["exceeds", "reaches"],
        help="Whether own fines of exactly the limit are within it (exceeds) or over it (reaches).",
    ),
    help="A limit of own fines.",
)
limit_document = LIMIT.document
PENALTY: JSONObject[Penalty] = JSONObject(
    "Penalty",
    Column("name", attrgetter("kind.name"), help="The name of its kind, such as PATRON_EXCEEDS_FINES."),
    Column("org_unit", attrgetter("org_unit.shortname"), help="Short name of the org unit where it applies."),
    Column("since", attrgetter("set_date"), kind="day"),
    own("by_staff", kind="flag", help="Whether staff set it, rather than Evergreen."),
    help="A standing penalty.",
)


def penalty_document(penalty: Penalty, *, label: bool = False) -> dict[str, Any]:
    """Return a penalty as a JSON object, with the staff client's ``label`` if requested."""
    document = PENALTY.document(penalty)
    return {"name": document["name"], "label": penalty.kind.label, **document} if label else document


def standing_document(standing: Standing, *, labels: bool = False) -> dict[str, Any]:
    """Return a member's standing as keys of a JSON object; ``over_limit`` is null if the limit isn't visible."""
    difference = standing.difference
    return {
        "over_limit": standing.over_limit,
        "blocked_in_evergreen": [penalty_document(penalty, label=labels) for penalty in standing.blocks_for_fines],
        "other_blocks": [penalty_document(penalty, label=labels) for penalty in standing.other_blocks],
        "difference": None if difference is None else difference.value,
    }


def forecast_document(forecast: RecalculationForecast | None) -> dict[str, Any]:
    """Return what a recalculation could change for a member, as keys of a JSON object; null if nothing disagrees."""
    limit = None if forecast is None else forecast.limit
    return {
        "recalculation": None if forecast is None else forecast.code,
        "evergreen_threshold": None if limit is None else plain_amount_or_none(limit.amount),
    }


def plain_text(value: object) -> str:
    """Return a Message as a plain string: msgspec takes no subclass of str."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


_encoder = msgspec.json.Encoder(enc_hook=plain_text)


def text(value: dict[str, Any]) -> str:
    """Return JSON indented by two spaces: the same bytes as Python's own encoder, and faster."""
    try:
        return msgspec.json.format(_encoder.encode(value), indent=2).decode()
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 can't encode
        return LONE_SURROGATE.sub("\ufffd", json.dumps(value, indent=2, ensure_ascii=False))


def json_line(value: dict[str, Any]) -> str:
    """Return JSON on one line, including the line feed."""
    try:
        return _encoder.encode(value).decode() + "\n"
    except UnicodeEncodeError:
        written = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return LONE_SURROGATE.sub("\ufffd", written) + "\n"


_SCHEMA_WIDTH = 120


def laid_out(value: Any, indent: str = "\n") -> str:
    """Return JSON with objects and arrays on one line each, if they aren't too long for that."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) < _SCHEMA_WIDTH or not isinstance(value, dict | list):
        return flat
    deeper = f"{indent}  "
    if isinstance(value, list):
        return f"[{','.join(deeper + laid_out(one, deeper) for one in value)}{indent}]"
    return (
        f"{{{','.join(f'{deeper}{json.dumps(key)}: {laid_out(one, deeper)}' for key, one in value.items())}{indent}}}"
    )
