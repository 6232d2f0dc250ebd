"""Linked rows in place of ids, as the database services' ``flesh`` gives them (to the first depth)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database.store import Row, Store


def flesh(store: Store, class_id: str, row: Row, fields: Iterable[Any]) -> dict[str, Any]:
    """The objects that the row's links lead to, for
    :meth:`~evergreen_groups.sandbox.database.classes.IdlClasses.wire_object`.

    Fields that are no links are passed over (``patrons-042``), and so are single links to classes that the sandbox
    doesn't keep; lists of those are empty.
    """
    classes, found = store.classes, dict[str, Any]()
    for name in fields:
        link = classes[class_id].links.get(name) if isinstance(name, str) else None
        if link is None:
            continue
        known = link.class_id in classes and not link.map
        if link.reltype == "has_many":
            rows = store.rows(link.class_id, {link.key: row[classes[class_id].primary]}) if known else []
            found[name] = [classes.wire_object(link.class_id, linked) for linked in rows]
            continue
        value = row.get(name) if link.reltype == "has_a" else row[classes[class_id].primary]
        rows = store.rows(link.class_id, {link.key: value}) if known and value is not None else []
        if rows:
            found[name] = classes.wire_object(link.class_id, rows[0])
    return found
