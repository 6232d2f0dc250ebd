"""The service open-ils.fielder: flattened searches, and the fields of classes that anyone may read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from evergreen_groups.sandbox.classes import classes
from evergreen_groups.sandbox.events import Event, perl_event
from evergreen_groups.sandbox.flattener import FLATTENER, flat_map
from evergreen_groups.sandbox.methods import Context, Die, Failure, method
from evergreen_groups.sandbox.pcrud import Reader
from evergreen_groups.sandbox.query.frames import QueryError
from evergreen_groups.sandbox.query.subqueries import subquery
from evergreen_groups.sandbox.values import to_wire
from evergreen_groups.sandbox.visibility import Visibility

SERVICE = "open-ils.fielder"
_FIELD_SAFE = ("aou", "aout")


@method(SERVICE, f"{SERVICE}.flattened_search", streaming=True)
def flattened_search(
    context: Context, token: Any = None, class_id: Any = None, given: Any = None, where: Any = None, span: Any = None
) -> Iterator[dict[str, Any]]:
    """Search a class's rows and send them as flat hashes, by a map of keys to paths (``fielder-001``)."""
    session = context.session(token)
    prepared = flat_map(class_id, given)
    if not isinstance(where, dict):
        raise Die(f"Can't use an undefined value as a HASH reference at {FLATTENER} line 350.")
    options = prepared.options(span if isinstance(span, dict) else {})
    if not prepared.known.in_pcrud:
        raise Die(f"Method [open-ils.pcrud.search.{class_id}] not found for service open-ils.pcrud")
    reader = Reader(context, Visibility(context.store, session.user_id))
    try:
        for found in reader.objects(prepared.known, prepared.condition(where), options):
            yield prepared.flat(found)
    except Failure as failure:
        raise Die(failure.debug) from failure


def _has_function(node: Any) -> bool:
    """Whether a query names a function anywhere, which this service lets nobody do."""
    if isinstance(node, dict):
        return "transform" in node or "params" in node or any(map(_has_function, node.values()))
    return isinstance(node, list) and any(map(_has_function, node))


def _register_fields(class_id: str) -> None:
    def fetch(context: Context, wanted: Any = None) -> Iterator[dict[str, Any]]:
        wanted = wanted if isinstance(wanted, dict) else {}
        query, fields = wanted.get("query"), wanted.get("fields")
        if not isinstance(query, dict) or not query:
            note = "query must be a hash" if query else "query is required"
            raise Event(perl_event("BAD_PARAMS", note=note))
        if _has_function(query) or _has_function(fields):
            raise Event(perl_event("BAD_PARAMS", note="query must not use function transforms"))
        known = classes()[class_id]
        names = fields or [item.name for item in known.columns]
        names = names if isinstance(names, list) else [names]
        select: dict[str, Any] = {"select": {class_id: names}, "from": class_id, "where": query}
        try:
            sql, kinds = subquery(None, select)
        except QueryError:
            return
        for row in context.store.read().execute(sql):
            values = zip(names, kinds, row, strict=True)
            yield {name: to_wire("integer" if kind == "bigint" else kind, value) for name, kind, value in values}

    register: Callable[..., Any] = method(SERVICE, f"{SERVICE}.{class_id}", streaming=True)
    register(fetch)


for _class_id in _FIELD_SAFE:
    _register_fields(_class_id)
