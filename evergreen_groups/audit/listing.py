"""Listing what was found: what nobody needs in order to judge is read of those alone that are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from evergreen_groups.audit.finding_store import FindingStore
from evergreen_groups.audit.patron_draft import PatronDraft
from evergreen_groups.groups import read_barcodes

if TYPE_CHECKING:
    from evergreen_groups.audit.context import SearchContext
    from evergreen_groups.audit.finding_store import Ranked
    from evergreen_groups.audit.findings import PatronFinding
    from evergreen_groups.groups import PatronRow

# Findings for which the rest is read together.
_AT_ONCE = 500


def list_first(
    context: SearchContext, drafts: FindingStore, complete: Callable[[Sequence[Any]], Iterable[Ranked]]
) -> None:
    """Add the first of each kind to what is found, as many as are listed, made ``complete``, and count the others."""
    for kind, count in drafts.counts().items():
        first = list(drafts.of_kind(kind, context.top))
        lists = [first[at : at + _AT_ONCE] for at in range(0, len(first), _AT_ONCE)]
        for completed in context.gateway.map(complete, lists):
            context.found.add(completed)
        context.found.count_unlisted(kind, count - len(first))


class PatronListing:
    """Takes findings about patrons; where not all will be listed, barcodes are read of the first of each kind alone.

    It is a context: what is listed is known at its end.
    """

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._drafts = None if context.top is None else FindingStore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        if self._drafts is not None:
            with self._drafts:
                if kind is None:
                    list_first(self._context, self._drafts, self._complete)

    @property
    def with_cards(self) -> bool:
        """Whether findings need the barcodes of their members."""
        return self._drafts is None

    def add(self, findings: Iterable[PatronFinding], rows: Iterable[PatronRow]) -> int:
        """Take findings about the patrons of these rows; gives how many they are."""
        if self._drafts is None:
            return len(self._context.found.add(findings))
        cards = {row.id: row.card for row in rows}
        return len(self._drafts.add(PatronDraft(finding, cards[finding.number]) for finding in findings))

    def _complete(self, drafts: Sequence[PatronDraft]) -> Iterator[PatronFinding]:
        barcodes = read_barcodes(self._context.gateway, {draft.card for draft in drafts})
        for draft in drafts:
            barcode = None if draft.card is None else barcodes.get(draft.card)
            yield replace(draft.finding, member=draft.finding.member.with_barcode(barcode))
