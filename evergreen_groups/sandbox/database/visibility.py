"""Permacrud's rules as an SQL condition: which rows of a class an account may see.

The real service builds the same condition with a function call for each row (``generatePcrudVisibilityConditions``).
The sandbox computes the org units once per account instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.sandbox.query import Frame, QueryError, Source, quoted
from evergreen_groups.sandbox.services import permissions

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database.classes import PermissionContext, Retrieve, StoredClass
    from evergreen_groups.sandbox.database.store import Store

NOTHING, EVERYTHING = "0", "1"


class Visibility:
    """Builds conditions for one account; ``user_id`` is None without a session (``ANONYMOUS``)."""

    def __init__(self, store: Store, user_id: int | None) -> None:
        self._store = store
        self._user_id = user_id
        self._orgs: dict[str, set[int]] = {}
        row = store.read().execute("SELECT active AND super_user FROM au WHERE id = ?", [user_id]).fetchone()
        self._superuser = bool(row and row[0])

    def condition(self, frame: Frame, core: Source) -> str:
        """Return the condition on rows of ``core``, in parentheses.

        Raises:
            QueryError: a context field's name is ambiguous among the joined classes, as in the real service.
        """
        idl_class = core.idl_class
        rule = idl_class.retrieve
        if rule is None:
            return NOTHING
        if not rule.permissions:
            return EVERYTHING
        if self._user_id is None:
            return NOTHING
        parts = [] if rule.owning_user is None else [f"{core.quoted}.{quoted(rule.owning_user)} = {self._user_id}"]
        if rule.global_required:
            parts.append(EVERYTHING if self._store.orgs.root in self._allowed(rule) else NOTHING)
        else:
            parts += [self._local(frame, core, name, rule) for name in rule.context_fields]
        parts += [self._linked(idl_class, core, context, rule) for context in rule.contexts]
        return f"({' OR '.join(parts) or NOTHING})"

    def _allowed(self, rule: Retrieve) -> set[int]:
        for permission in rule.permissions:
            if permission not in self._orgs:
                self._orgs[permission] = permissions.orgs_where(self._store, self._user_id or 0, permission)
        return set().union(*(self._orgs[permission] for permission in rule.permissions))

    def _at(self, column: str, rule: Retrieve) -> str:
        if self._superuser:
            return EVERYTHING
        allowed = self._allowed(rule)
        if allowed.issuperset(self._store.orgs.ids):
            # The unary plus keeps SQLite from using an index, which is slower when every row matches.
            return f"+{column} IS NOT NULL"
        return f"{column} IN ({', '.join(map(str, sorted(allowed)))})"

    def _local(self, frame: Frame, core: Source, name: str, rule: Retrieve) -> str:
        owners = [source for source in frame.sources if any(item.name == name for item in source.idl_class.columns)]
        if len(owners) > 1:
            raise QueryError(f"column {name} is ambiguous")
        return self._at(f"{core.quoted}.{quoted(name)}", rule)

    def _linked(self, idl_class: StoredClass, core: Source, context: PermissionContext, rule: Retrieve) -> str:
        link = idl_class.links[context.link]
        joined, alias = f"{link.class_id} AS context0", "context0"
        current = self._store.classes[link.class_id]
        for step, name in enumerate(context.jump, 1):
            jump = current.links[name]
            joined += f" JOIN {jump.class_id} AS context{step} ON context{step}.{jump.key} = {alias}.{name}"
            alias, current = f"context{step}", self._store.classes[jump.class_id]
        tests = " OR ".join(self._at(f"{alias}.{quoted(name)}", rule) for name in context.fields)
        here = f"{core.quoted}.{quoted(link.field)}"
        return f"EXISTS (SELECT 1 FROM {joined} WHERE context0.{quoted(link.key)} = {here} AND ({tests}))"
