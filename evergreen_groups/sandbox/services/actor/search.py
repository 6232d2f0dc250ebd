"""Methods that find patrons, after ``OpenILS/Application/Actor.pm``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    is_true,
    items,
    method,
    permission_failure,
    setting_value,
    text,
)
from evergreen_groups.sandbox.services.actor.patrons import fleshed_user
from evergreen_groups.sandbox.services.actor.search_query import find_patrons

SERVICE = "open-ils.actor"
_DEPTH_SETTING = "circ.patron_edit.duplicate_patron_check_depth"


def _asks(search: Any) -> bool:
    """Whether a search holds anything to look for.

    Raises:
        Die: an entry isn't a hash.
    """
    if not isinstance(search, dict):
        return False
    for entry in search.values():
        if entry is not None and not isinstance(entry, dict):
            raise Die('Can\'t use that value as a HASH ref while "strict refs" in use.')
    return any(entry is not None and text(entry.get("value")).strip() for entry in search.values())


class _Search(NamedTuple):
    """The parameters of the search methods, in their order; ``fields`` is for the fleshed form."""

    token: Any = None
    wanted: Any = None
    limit: Any = None
    sort: Any = None
    inactive: Any = None
    org_unit: Any = None
    fields: Any = None
    offset: Any = None

    def run(self, editor: Editor) -> list[int] | None:
        """The ids of those who fit; None where the search asks for nothing known."""
        editor.require("VIEW_USER")
        work_org = editor.session.work_org
        place = self.org_unit
        if place is None:
            depth = setting_value(editor.store, _DEPTH_SETTING, work_org)
            place = None if depth is None else editor.store.orgs.ancestor_at_depth(work_org, int(depth))
        return find_patrons(
            editor.context,
            self.wanted,
            work_org=work_org,
            top_org=place,
            sort=self.sort,
            inactive=is_true(self.inactive),
            limit=self.limit,
            offset=self.offset,
        )


@method(SERVICE, "open-ils.actor.patron.search.advanced")
def search(context: CallContext, *given: Any) -> list[str] | None:
    """The ids, as text, of the patrons that fit (``patrons-085``); an empty search finds nobody, session or not."""
    call = _Search(*given[: len(_Search._fields)])
    if not _asks(call.wanted):
        return []
    found = call.run(Editor(context, call.token))
    return None if found is None else [str(user_id) for user_id in found]


@method(SERVICE, "open-ils.actor.patron.search.advanced.fleshed", streaming=True)
def search_fleshed(context: CallContext, *given: Any) -> Iterator[dict[str, Any]]:
    """The same as a stream of users with these fields fleshed."""
    call = _Search(*given[: len(_Search._fields)])
    if not _asks(call.wanted):
        return
    editor = Editor(context, call.token)
    for user_id in call.run(editor) or []:
        yield fleshed_user(editor, user_id, items(call.fields))


@method(SERVICE, "open-ils.actor.get_barcodes")
def barcodes(
    context: CallContext, token: Any = None, org_unit: Any = None, kind: Any = None, barcode: Any = None
) -> list[Any] | None:
    """Who or what has a barcode; the sandbox knows patrons' only. An event stands for a patron who may not be seen."""
    editor = Editor(context, token)
    editor.require("STAFF_LOGIN", org_unit)
    if "actor" not in text(kind):
        return []
    found = []
    for card in [] if barcode is None else editor.store.rows("ac", {"barcode": text(barcode)}, order_by="usr"):
        user = editor.retrieve("au", card["usr"])
        if user["deleted"] == "t":
            continue
        if user["id"] == editor.user_id or editor.allowed("VIEW_USER", user["home_ou"]):
            found.append({"type": "actor", "id": user["id"], "barcode": card["barcode"]})
        else:
            found.append(permission_failure("VIEW_USER", str(user["home_ou"])).hash)
    return found or None
