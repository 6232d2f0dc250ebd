"""Groups that a search finds, listed: what nobody needs in order to judge a group is read of those listed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.audit.finding_store import FindingStore
from evergreen_groups.audit.listing import list_first
from evergreen_groups.groups import GroupSearch

if TYPE_CHECKING:
    from evergreen_groups.audit.context import SearchContext
    from evergreen_groups.audit.findings import GroupFinding
    from evergreen_groups.audit.group_draft import GroupDraft
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import GroupQuery, PatronRow

Judge = Callable[[Sequence["PatronRow"], Mapping[int, Sequence[Any]]], "list[GroupDraft]"]
"""Says of whole groups, given all visible members and the fields that were asked for (by patron's id), what is wrong
with them."""

# Three answers are in memory at once, with more of each member than a report has.
_PAGE = 2_000


def list_groups(context: SearchContext, query: GroupQuery, fields: Sequence[str], judge: Judge) -> None:
    """Search for the groups that ``query`` is about, and add those to what is found that ``judge`` has drafts of.

    Where not all of a kind will be listed, cards and fines are read of the surest alone, and the others are counted.
    ``fields`` of each member's record (``au``) are read along with the search, for the judge.
    """
    records = _Records(context.gateway, tuple(fields))
    search = GroupSearch(context.gateway, query, context.progress, page=_PAGE, beside=records)
    if context.top is None:
        _run(search, context.found, lambda rows: _finished(context, judge(rows, records.of(rows))))
        return
    with FindingStore() as drafts:
        _run(search, drafts, lambda rows: judge(rows, records.of(rows)))
        list_first(context, drafts, lambda some: _finished(context, some))


def _run(
    search: GroupSearch, store: FindingStore, find: Callable[[Sequence[PatronRow]], Sequence[GroupDraft | GroupFinding]]
) -> None:
    """Put what is found in groups into a store; what was found before somebody was moved is taken out again."""
    search.run(lambda rows: store.add(find(rows)), store.without)


def _finished(context: SearchContext, drafts: Sequence[GroupDraft]) -> list[GroupFinding]:
    """The findings that drafts are of, with cards, fines and hidden members read."""
    rows = chain.from_iterable(draft.rows for draft in drafts)
    groups = {group.number: group for group in context.reader.complete(rows)}
    return [draft.of(groups[draft.number]) for draft in drafts]


class _Records:
    """What a search reads of members' records beside their rows, by id, until somebody asks for it.

    It is let go of then, for there may be a hundred thousand of them; whoever asks again, because somebody was moved
    meanwhile, has it read again.
    """

    def __init__(self, gateway: Gateway, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._gateway = gateway
        self._taken: dict[int, Sequence[Any]] = {}

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Take what the fields hold of a patron (id)."""
        self._taken[patron] = values

    def of(self, rows: Sequence[PatronRow]) -> dict[int, Sequence[Any]]:
        """What they hold of these patrons, by id."""
        found = {row.id: self._taken.pop(row.id, None) for row in rows}
        missing = sorted(id for id, values in found.items() if values is None)
        read = dict(self._read(missing))
        return {id: read[id] if values is None else values for id, values in found.items()}

    def _read(self, patrons: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
        for batch in self._gateway.pcrud.columns_by_values("au", ("id", *self.fields), "id", patrons):
            for id, *values in batch:
                yield id, values
