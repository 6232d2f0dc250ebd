"""A search of a class's rows, put to pcrud with one condition after another, and each answer held against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.call import PCRUD
from evergreen_groups.gateway.paging import Page
from evergreen_groups.gateway.rows import RowQuestion
from evergreen_groups.gateway.session import TOKEN

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.idl import Class

Where = Mapping[str, Any]
"""A condition in Evergreen's JSON query form: ``{"usrgroup": 6001, "deleted": "f"}``."""


class RowSearch:
    """A search of a class, but for its condition and limit.

    ``select``, ``order_by`` and further ``options`` are those of :meth:`Pcrud.search`. A ``select`` always names the
    primary key: without it releases before 3.16 answer 500 as soon as there is a row (``3.12/releases-019``).
    """

    def __init__(
        self,
        gateway: Gateway,
        class_id: str,
        *,
        select: Several[str] | None = None,
        order_by: Any = None,
        apart: bool = False,
        **options: Any,
    ) -> None:
        self._gateway = gateway
        self._class_id = class_id
        self._apart = apart
        if select is not None:
            primary = gateway.idl(class_id)[class_id].primary
            options["select"] = {class_id: list(dict.fromkeys([*select, primary] if primary else select))}
        if isinstance(order_by, str) or (
            isinstance(order_by, list | tuple) and all(isinstance(field, str) for field in order_by)
        ):
            order_by = {class_id: order_by}
        options["order_by"] = order_by
        self._options = {name: value for name, value in options.items() if value is not None}

    def options(self, limit: int) -> dict[str, Any]:
        """Return the search's options in pcrud's form, without those that aren't given."""
        # Every search has one: without it the server takes its rows a hundred at a time (20,000: 3.4 s, not 1.2 s).
        return {**self._options, "limit": limit}

    def page(self, where: Where, limit: int) -> Page:
        """Return the values of at most ``limit`` rows.

        Raises:
            DataError: they don't fit what was asked for.
        """
        class_id, options = self._class_id, self._options
        result = self._gateway.call(
            PCRUD, f"{PCRUD}.search.{class_id}.atomic", TOKEN, where, self.options(limit), apart=self._apart
        )
        if not isinstance(result.value, list):
            raise DataError(
                "a search for {name} gave something else than a list", code="rows-not-a-list", values={"name": class_id}
            )
        fleshed = options.get("flesh_fields", {}).get(class_id, ())
        known = self._gateway.idl(class_id)[class_id]
        question = RowQuestion(
            known,
            where,
            select=options.get("select", {}).get(class_id),
            limit=limit,
            order_by=options.get("order_by"),
            joined="join" in options,
            fleshed=fleshed,
        )
        rows = question.answer(result.value)
        self._check_fleshed(known, rows, fleshed)
        return Page(rows, result.size)

    def _check_fleshed(self, known: Class, rows: list[list[Any]], names: Several[str]) -> None:
        """Hold the objects in rows' fields against the classes that their links lead to."""
        for field in [known.field(name) for name in names if name in known.positions]:  # others are ignored (pcrud-164)
            if field.link is not None and not field.link.through:
                values = [row[field.position] for row in rows if len(row) > field.position]
                found = [one for value in values for one in (value if isinstance(value, list) else [value])]
                objects = [one for one in found if isinstance(one, dict)]
                # One library is the home of many.
                leads_to = self._gateway.idl(field.link.class_id)[field.link.class_id]
                RowQuestion(leads_to, {}, joined=True).answer(objects)
