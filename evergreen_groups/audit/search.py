"""What the searches of an audit share: where to search, data that is read once, and how to list what they find."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from evergreen_groups.audit.store import FindingStore, GroupDraft, Ranked
from evergreen_groups.groups import GroupReader, GroupSearch, Member, PatronRow
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.audit.findings import GroupFinding, PatronFinding, ThresholdFinding
    from evergreen_groups.audit.queries import IdRange
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule, search
    from evergreen_groups.ils import Access, Limits, OrgUnits, PenaltyKinds, Profiles, ResolvedLimit, Thresholds
    from evergreen_groups.message import Progress


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What all searches share: data that is read once, where to search, and the collectors of results.

    ``chosen`` are the requested org units (ids; empty: everywhere), ``homes`` those of them whose patrons the account
    sees. ``id_ranges`` divide the patrons for queries that compare many. ``bounds`` are the lowest and highest limit of
    any patron. ``ils_limits`` are the ILS's own limits, from its ``thresholds``. ``now`` is when reading began (aware).
    ``institutions`` are names of institution profiles by id. ``to_keep`` are groups to keep as they are, with the
    members' ids at the time.

    Searches add findings to ``found``. ``top`` is how many of each kind will be listed (None: all), so that searches
    can skip reading what isn't listed. They also add to ``left_out_groups`` the groups left out because of ``to_keep``,
    to ``changed_groups`` those whose members have changed since, to ``found_thresholds`` findings about thresholds, and
    to ``hidden_thresholds_at`` the home libraries (ids) whose thresholds the account can't see.
    """

    gateway: Gateway
    org_units: OrgUnits
    access: Access
    reader: GroupReader
    penalty_kinds: PenaltyKinds
    limits: Limits
    ils_limits: Limits
    thresholds: Thresholds
    profiles: Profiles
    bounds: LimitBounds
    chosen: Collection[int]
    homes: Collection[int]
    id_ranges: Sequence[IdRange]
    now: datetime
    progress: Progress
    adults: AdultRule
    institutions: Mapping[int, str]
    to_keep: Mapping[int, frozenset[int]]
    found: FindingStore
    top: int | None = None
    left_out_groups: set[int] = field(default_factory=set)
    changed_groups: set[int] = field(default_factory=set)
    found_thresholds: list[ThresholdFinding] = field(default_factory=list)
    hidden_thresholds_at: set[int] = field(default_factory=set)

    @property
    def visible_orgs(self) -> Collection[int]:
        """The home libraries whose patrons the account sees (org unit ids; empty: everywhere)."""
        return () if self.access.everywhere else self.access.visible_orgs


@dataclass(frozen=True, slots=True)
class LimitBounds:
    """The ``lowest`` and the ``highest`` limit of any patron.

    ``lowest`` is None if no patron has a limit, ``highest`` if some have none. ``scoped`` means that some limits count
    only what is owed at certain libraries, ``uniform`` that all patrons have the same limit.
    """

    lowest: Limit | None
    highest: Limit | None
    scoped: bool = False
    uniform: bool = False

    @classmethod
    def of(cls, limits: Iterable[ResolvedLimit]) -> LimitBounds:
        """Return the bounds of the limits of all patrons."""
        found = set(limits)
        # For the same amount, a limit that blocks on reaching it is stricter than one that blocks on exceeding it.
        amounts = sorted(
            (limit.limit for limit in found if limit.limit.amount is not None),
            key=lambda limit: (limit.amount, limit.comparison is Comparison.EXCEEDS),
        )
        return cls(
            lowest=amounts[0] if amounts else None,
            # A patron without a limit is never over it, so there is no highest limit that excludes patrons from a
            # search.
            highest=amounts[-1] if amounts and all(limit.limit.amount is not None for limit in found) else None,
            scoped=any(limit.scope is not None for limit in found),
        )


# How many findings to complete together.
_BATCH = 500


def list_first(
    context: SearchContext, drafts: FindingStore, complete: Callable[[Sequence[Any]], Iterable[Ranked]]
) -> None:
    """Complete the first ``context.top`` drafts of each kind, add them to the findings, and count the others."""
    for kind, count in drafts.counts().items():
        first = list(drafts.of_kind(kind, context.top))
        lists = [first[at : at + _BATCH] for at in range(0, len(first), _BATCH)]
        for completed in context.gateway.map(complete, lists):
            context.found.add(completed)
        context.found.count_unlisted(kind, count - len(first))


class PatronListing:
    """Takes findings about patrons. If ``context.top`` is set, reads barcodes only for the listed ones.

    A context manager, because the listed findings are known only at the end.
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
        """Whether findings need the members' barcodes when they are added."""
        return self._drafts is None

    def add(self, findings: Iterable[PatronFinding], rows: Iterable[PatronRow]) -> int:
        """Add findings about the patrons of these rows. Return how many."""
        if self._drafts is None:
            return len(self._context.found.add(findings))
        return len(self._drafts.add(findings, {row.id: row.card for row in rows}))

    def _complete(self, drafts: Sequence[tuple[PatronFinding, int | None]]) -> Iterator[PatronFinding]:
        barcodes = Member.read_barcodes(self._context.gateway, {card for _finding, card in drafts})
        for finding, card in drafts:
            yield replace(finding, member=finding.member.with_barcode(None if card is None else barcodes.get(card)))


Judge = Callable[[Mapping[int, Sequence[PatronRow]], Mapping[int, Sequence[Any]]], Iterable[GroupDraft]]
"""Makes drafts of findings about groups from their visible members and, by patron id, the requested fields."""

# Three answers are in memory at once, and each has more fields per member than a report's.
_PAGE = 2_000


def list_groups(context: SearchContext, query: search.GroupQuery, fields: Sequence[str], judge: Judge) -> None:
    """Search the groups that ``query`` matches and add findings for those that ``judge`` drafts.

    If ``context.top`` is set, read cards and fines only for the first groups of each kind and count the others.
    ``fields`` are the fields of each member's record (``au``) that the judge needs.
    """
    records = _RecordCache(context.gateway, tuple(fields))
    searching = GroupSearch(
        context.gateway, query, context.progress, page=_PAGE, extra_fields=fields, take=records.take
    )

    def build(drafts: Sequence[GroupDraft]) -> list[GroupFinding]:
        """Read cards, fines and hidden members, and make findings of the drafts."""
        rows = chain.from_iterable(draft.rows for draft in drafts)
        groups = {group.number: group for group in context.reader.build_groups(rows)}
        return [draft.of(groups[draft.number]) for draft in drafts]

    def judged(rows: Sequence[PatronRow]) -> list[GroupDraft]:
        groups: dict[int, list[PatronRow]] = {}
        for row in rows:
            groups.setdefault(row.group, []).append(row)
        return list(judge(groups, records.pop(rows)))

    # If patrons move during the search, the search drops results and adds new ones.
    if context.top is None:
        searching.run(lambda rows: context.found.add(build(judged(rows))), context.found.drop)
        return
    with FindingStore() as drafts:
        searching.run(lambda rows: drafts.add(judged(rows)), drafts.drop)
        list_first(context, drafts, build)


class _RecordCache:
    """Holds the extra fields that a search reads, by patron id, until they are used.

    Used values are removed, because there may be a hundred thousand. They are read again if a group is judged again
    after a move.
    """

    def __init__(self, gateway: Gateway, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._gateway = gateway
        self._taken: dict[int, Sequence[Any]] = {}

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Store the values of a patron's fields."""
        self._taken[patron] = values

    def pop(self, rows: Sequence[PatronRow]) -> dict[int, Sequence[Any]]:
        """Remove and return the values of these patrons, by id. Read missing ones."""
        found = {row.id: self._taken.pop(row.id, None) for row in rows}
        missing = sorted(id for id, values in found.items() if values is None)
        others = self._gateway.pcrud.columns_by_values("au", ("id", *self.fields), "id", missing)
        read = {id: values for id, *values in others}
        return {id: read[id] if values is None else values for id, values in found.items()}
