"""Access to the database for methods, after Evergreen's ``OpenILS/Utils/CStoreEditor.pm``.

An editor acts for one caller. Missing rows, failed writes and missing permissions raise events with the same payload
as in Evergreen.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Mapping
from typing import Any

from evergreen_groups.sandbox.database import (
    DEFAULTS,
    FLAGS,
    INTEGER_LIMIT,
    BadValueError,
    IdlClasses,
    Row,
    Store,
    StoredClass,
    StoredField,
    check_references,
    rows_hold,
    timestamp_text,
    to_wire,
    values_fit,
)
from evergreen_groups.sandbox.query import Frame, QueryError, run_search
from evergreen_groups.sandbox.services import permissions, releases
from evergreen_groups.sandbox.services.registry import (
    CallContext,
    Die,
    EventAnswer,
    is_true,
    number,
    perl_event,
    permission_failure,
    text,
)

_LEADING_INTEGER = re.compile(r"\s*[+-]?\d+")


class Editor:
    """The database on behalf of the session of a token.

    Raises:
        EventAnswer: NO_SESSION.
    """

    def __init__(self, context: CallContext, token: Any) -> None:
        self.context = context
        self.store: Store = context.store
        self.classes = context.classes
        self.session = context.session(token)
        self.user_id = self.session.user_id

    def allowed(self, permission: str, org_unit: Any = None) -> bool:
        """Return whether the caller has a permission at an org unit, by default at the session's work org unit.

        Raises:
            Die: the org unit is text but not a number, so the real service's query fails.
        """
        org = org_unit if is_true(org_unit) else self.session.work_org
        if isinstance(org, bool | list | dict):
            return permissions.allowed(self.store, self.user_id, permission, None)
        try:
            return permissions.allowed(self.store, self.user_id, permission, int(text(org)))
        except ValueError:
            raise Die("Can't use an undefined value as an ARRAY reference.") from None

    def require(self, permission: str, org_unit: Any = None) -> None:
        """Raise unless the caller has a permission (:meth:`allowed`).

        Raises:
            EventAnswer: PERM_FAILURE with the org unit as text (``errors-057``).
        """
        if not self.allowed(permission, org_unit):
            org = org_unit if is_true(org_unit) else self.session.work_org
            raise permission_failure(permission, org if isinstance(org, bool | list | dict) else text(org))

    def retrieve(self, class_id: str, key: Any, *, sent: Any = ...) -> Row:
        """Call :func:`retrieve`."""
        return retrieve(self.store, class_id, key, sent=sent)

    def search(self, class_id: str, where: Mapping[str, Any]) -> list[Row] | None:
        """Call :func:`search`."""
        return search(self.store, class_id, where)

    def create(self, class_id: str, sent: Mapping[str, Any]) -> int:
        """Insert an object (values by field name, flags included) and return its id.

        Raises:
            EventAnswer: DATABASE_UPDATE_FAILED.
            Die: a referenced row doesn't exist.
        """
        idl_class = self.classes[class_id]
        values = {item.name: _sql_value(self.classes, item, sent.get(item.name)) for item in idl_class.columns}
        defaults = DEFAULTS.get(class_id, {})
        values = {name: defaults.get(name) if value is None else value for name, value in values.items()}
        failure = self._failure(idl_class, sent, "INSERT error", 500)
        if not values_fit(idl_class, values):
            raise failure
        if values[idl_class.primary] is None:
            values[idl_class.primary] = self.store.next_value(idl_class.sequence or idl_class.table)
        if self.store.row(class_id, values[idl_class.primary]) is not None or not rows_hold(
            self.store, idl_class, values
        ):
            raise failure
        new_id = self.store.insert(class_id, values)
        check_references(self.store, class_id, values)
        return new_id

    def update(self, class_id: str, sent: Mapping[str, Any]) -> None:
        """Write every field of an object; users also get a new ``last_xact_id`` and ``last_update_time``.

        Raises:
            EventAnswer: DATABASE_UPDATE_FAILED.
        """
        idl_class, key = self._stored(class_id, sent)
        values = {
            item.name: _sql_value(self.classes, item, sent.get(item.name))
            for item in idl_class.columns
            if item.name != idl_class.primary
        }
        if class_id == "au":
            # Changes with each write, so that a later write of an outdated record is rejected (xact-collision-003).
            values["last_xact_id"] = transaction_id(self.context)
            values["last_update_time"] = timestamp_text(self.context.clock())
        failure = self._failure(idl_class, sent, "Error in updating a row", 500)
        if not values_fit(idl_class, values) or not rows_hold(
            self.store, idl_class, {**values, idl_class.primary: key}
        ):
            raise failure
        self.store.update(class_id, key, values)
        check_references(self.store, class_id, values)

    def delete(self, class_id: str, sent: Mapping[str, Any]) -> None:
        """Delete an object's row.

        Raises:
            EventAnswer: DATABASE_UPDATE_FAILED.
        """
        _known, key = self._stored(class_id, sent)
        self.store.delete(class_id, key)

    def _stored(self, class_id: str, sent: Mapping[str, Any]) -> tuple[StoredClass, Any]:
        """Return an object's class, and the primary key of its row, which must exist."""
        idl_class = self.classes[class_id]
        value = _sql_value(self.classes, idl_class.by_name[idl_class.primary], sent.get(idl_class.primary))
        key = value if isinstance(value, int) else None
        checked = releases.MISSING_ROWS_WRITTEN not in self.context.differences
        if key is None or (checked and self.store.row(class_id, key) is None):
            raise self._failure(idl_class, sent, "Invalid object or insufficient permissions", 400)
        return idl_class, key

    def _failure(self, idl_class: StoredClass, sent: Mapping[str, Any], message: str, status: int) -> EventAnswer:
        names = [*(item.name for item in idl_class.fields), *FLAGS]
        payload = {"__c": idl_class.id, "__p": [sent.get(name) for name in names]}
        return EventAnswer(perl_event("DATABASE_UPDATE_FAILED", payload=payload, debug=_debug(message, status)))


def retrieve(store: Store, class_id: str, key: Any, *, sent: Any = ...) -> Row:
    """Return the row with a primary key; ``sent`` replaces the key as the payload of an event.

    Raises:
        EventAnswer: ``…_NOT_FOUND``, or DATABASE_QUERY_FAILED for an invalid key.
    """
    classes = store.classes
    parsed = classes.parse_object(key)
    if parsed is not None:
        key = parsed[1][classes[parsed[0]].primary]
    payload = key if sent is ... else sent
    wanted = key[0] if isinstance(key, list) and key else key
    found = [] if wanted is None else search(store, class_id, {classes[class_id].primary: wanted})
    if found is None:
        raise EventAnswer(perl_event("DATABASE_QUERY_FAILED", payload=payload, debug=_debug("Severe query error", 500)))
    if not found:
        raise not_found(classes, class_id, payload)
    return found[0]


def search(store: Store, class_id: str, where: Mapping[str, Any]) -> list[Row] | None:
    """Return the rows that meet a condition of Evergreen's JSON query language, without checking permissions.

    None if the database rejects the condition (``groups-044``).
    """
    idl_class = store.classes[class_id]
    try:
        if all(isinstance(value, str | int | None) and not isinstance(value, bool) for value in where.values()):
            return None if _too_large(idl_class, where) else store.rows(class_id, where)
        found = run_search(Frame(store.classes), idl_class, dict(where), {}, lambda _frame, _source: "TRUE")
        rows = store.read().execute(found.sql).fetchall()
    except (BadValueError, QueryError, sqlite3.OperationalError):
        return None
    columns = found.columns
    return [{f.name: to_wire(f.kind, value) for f, value in zip(columns, row, strict=True)} for row in rows]


def _too_large(idl_class: StoredClass, where: Mapping[str, Any]) -> bool:
    """Return whether a user id, given as text, exceeds PostgreSQL's integers."""
    key = where.get(idl_class.primary)
    return idl_class.id == "au" and isinstance(key, str) and abs(number(key)) >= INTEGER_LIMIT


def not_found(classes: IdlClasses, class_id: str, payload: Any) -> EventAnswer:
    """Return the event for a missing row, named after its class (``ACTOR_USER_NOT_FOUND``)."""
    name = classes[class_id].fieldmapper.replace("::", "_").upper()
    return EventAnswer(perl_event(f"{name}_NOT_FOUND", payload=payload))


def transaction_id(context: CallContext) -> str:
    """Return a new ``last_xact_id``: the time and two random numbers, like the database services."""
    return f"{int(context.clock().timestamp())}.{secrets.randbelow(10**10)}.{secrets.randbelow(10**10)}"


def object_argument(classes: IdlClasses, value: Any) -> tuple[str, dict[str, Any]]:
    """Decode a parameter that must be an object; returns its class id and its values by field name.

    Raises:
        Die: it isn't an object, and Perl can't call a method on it.
    """
    parsed = classes.parse_object(value)
    if parsed is None:
        raise Die("Can't call method on a value that is not an object.")
    return parsed


def argument_of(classes: IdlClasses, class_id: str, value: Any) -> dict[str, Any]:
    """Decode a parameter that must be an object of one class.

    Raises:
        Die: it isn't an object of the class.
    """
    found, values = object_argument(classes, value)
    if found != class_id:
        raise Die(f"No such field in Fieldmapper::{classes[found].fieldmapper}!")
    return values


def _debug(message: str, status: int) -> str:
    return f"Exception: OpenSRF::DomainObject::oilsMethodException <{status}>  {message}\n"


def _sql_value(classes: IdlClasses, item: StoredField, value: Any) -> Any:
    """Convert a field's value for an SQL statement: an object to its key, an integer like C's atoi (``doUpdate``)."""
    if isinstance(value, dict):
        parsed = classes.parse_object(value)
        value = parsed[1].get(classes[parsed[0]].primary) if parsed else None
    if isinstance(value, bool):
        value = "t" if value else "f"
    if value is None or isinstance(value, list):
        return None
    if item.kind == "integer":
        match = _LEADING_INTEGER.match(text(value))
        return int(match[0]) if match else 0
    return text(value)
