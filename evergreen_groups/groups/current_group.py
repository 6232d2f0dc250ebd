"""A group's visible members as they are where changes are written, for sites whose plain reads come from copies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups.hidden_members import read_member_ids
from evergreen_groups.groups.member_check import members_not_asked_for
from evergreen_groups.groups.written_patron import read_patron

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.groups.whole_group import VisiblePatrons

_MOST_READINGS = 3

Look = Callable[[], "VisiblePatrons"]
"""Reads the group from a copy."""
ReadPatrons = Callable[[Collection[int]], "VisiblePatrons"]
"""Reads patrons (ids) from a copy, whatever their group there is, as members of the group."""


def put_right(
    gateway: Gateway, group: int, look: Look, read_patrons: ReadPatrons, changed: frozenset[int] | None
) -> VisiblePatrons:
    """A group as a copy has it, with the members that it has now.

    Two calls beside one another. Where they differ, one for those whom the copy has elsewhere, and one for the record
    of each who has come or gone; of the ``changed`` (ids; None: anybody) each record is read as well, for the mark as
    lead.

    Who has no VIEW_USER at their own library gets no list of members, and the group as the copy has it.

    Raises:
        DataError: lists of members and records say different things each time.
    """
    readers: tuple[Callable[[], Any], ...] = (look, lambda: _members(gateway, group))
    for _ in range(_MOST_READINGS):
        found, ids = gateway.map(lambda read: read(), readers)
        if ids is None:
            return cast("VisiblePatrons", found)
        come = read_patrons(ids - found.ids)
        visible = found.ids | come.ids
        doubtful = (visible - ids) | come.ids | (visible if changed is None else visible & changed)
        records = _records(gateway, doubtful)
        if all(_is_in(records[id], group) is (id in ids) for id in doubtful):
            return _joined(found, come, ids, records)
    raise members_not_asked_for()


def _members(gateway: Gateway, group: int) -> frozenset[int] | None:
    try:
        return read_member_ids(gateway, [group], current=True)
    except PermissionDeniedError:
        return None


def _records(gateway: Gateway, patrons: Set[int]) -> dict[int, Record | None]:
    wanted = sorted(patrons)
    return dict(zip(wanted, gateway.map(partial(read_patron, gateway), wanted), strict=True))


def _is_in(record: Record | None, group: int) -> bool:
    return record is not None and not record.deleted and int(record.usrgroup) == group


def _joined(
    found: VisiblePatrons, come: VisiblePatrons, ids: frozenset[int], records: dict[int, Record | None]
) -> VisiblePatrons:
    parts = (found, come)
    leads = {id: bool(record.master_account) for id, record in records.items() if record is not None}
    rows = tuple(
        row._replace(group=found.group, group_lead=leads.get(row.id, row.group_lead))
        for part in parts
        for row in part.rows
        if row.id in ids
    )
    visible = {row.id for row in rows}
    return replace(
        found,
        rows=rows,
        barcodes={id: barcode for part in parts for id, barcode in part.barcodes.items()},
        accounts={id: account for part in parts for id, account in part.accounts.items() if id in visible},
        penalties=tuple(row for part in parts for row in part.penalties if row.patron in visible),
        complete=ids == visible,
        # Of those who have come nobody has asked.
        no_circulation_hidden=found.no_circulation_hidden and not come.rows,
    )
