"""Build the audit: compare what is in the ILS with the rule that only a member's own fines block that member.

:class:`SearchContext` is what its searches share. :data:`FindingKind` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Self

from evergreen_groups.audit.findings import Audit, AuditCriteria, FindingKind
from evergreen_groups.audit.queries import LimitBounds, id_ranges
from evergreen_groups.audit.store import FindingStore, GroupDraft, Ranked, StoredFindings
from evergreen_groups.batches import batched
from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups import GroupReader, GroupSearch, Member, PatronRow, search
from evergreen_groups.ils import (
    VIEW_USER,
    Access,
    Limits,
    OrgUnits,
    PenaltyKinds,
    Profiles,
    Thresholds,
    permissions,
)
from evergreen_groups.message import Message, Progress, silent
from evergreen_groups.settings import PolicySettings

if TYPE_CHECKING:
    from evergreen_groups.audit.findings import GroupFinding, PatronFinding, ThresholdFinding
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule, IdRange, search


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What all searches share: data that is read once, where to search, and the collectors of results.

    ``chosen`` are the requested org units (ids; empty: everywhere), ``homes`` those of them whose patrons the account
    sees. ``id_ranges`` divide the patrons for queries that compare many. ``bounds`` are the lowest and highest limit of
    any patron. ``ils_limits`` are the ILS's own limits, from its ``thresholds``. ``now`` is when reading began (aware).
    ``institutions`` are names of institution profiles by id. ``to_keep`` are groups to keep as they are, with the
    members' ids at the time.

    Searches add findings to ``found`` and ``found_thresholds``. ``top`` is how many of each kind will be listed (None:
    all), so that searches can skip reading what isn't listed. ``left_out_groups`` were left out because of ``to_keep``;
    ``changed_groups`` weren't, because their members have changed since. ``hidden_thresholds_at`` are the home
    libraries (ids) whose thresholds the account can't see.
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


# How many findings to complete together.
_BATCH = 500


def list_first(
    context: SearchContext, drafts: FindingStore, complete: Callable[[Sequence[Any]], Iterable[Ranked]]
) -> None:
    """Complete the first ``context.top`` drafts of each kind, add them to the findings, and count the others."""
    for kind, count in drafts.counts().items():
        first = list(drafts.of_kind(kind, context.top))
        for completed in context.gateway.map(complete, batched(first, _BATCH)):
            context.found.add(completed)
        context.found.count_unlisted(kind, count - len(first))


class PatronListing:
    """Takes findings about patrons. If ``context.top`` is set, reads barcodes only for those listed, at the end."""

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
            patron = replace(finding.member.patron, barcode=None if card is None else barcodes.get(card))
            yield replace(finding, member=replace(finding.member, patron=patron))


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
    """Holds the extra fields that a search reads, by patron id, until they are used, or read again after a move."""

    def __init__(self, gateway: Gateway, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._gateway = gateway
        self._taken: dict[int, Sequence[Any]] = {}

    def take(self, patron: int, values: Sequence[Any]) -> None:
        self._taken[patron] = values

    def pop(self, rows: Sequence[PatronRow]) -> dict[int, Sequence[Any]]:
        found = {row.id: self._taken.pop(row.id, None) for row in rows}
        missing = sorted(id for id, values in found.items() if values is None)
        others = self._gateway.pcrud.columns_by_values("au", ("id", *self.fields), "id", missing)
        read = {id: values for id, *values in others}
        return {id: read[id] if values is None else values for id, values in found.items()}


def build_audit(
    gateway: Gateway,
    criteria: AuditCriteria,
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    to_keep: Mapping[int, frozenset[int]] | None = None,
) -> Audit:
    """Audit all patrons who owe anything or have a penalty, and all groups.

    ``policy`` has the limits if ``criteria`` has none. ``to_keep`` are groups not to list as accidental or for review,
    with their members' ids, by number. Groups whose members have changed since are listed all the same.

    Raises:
        ConfigurationError: ``criteria`` names an unknown org unit or profile.
        PermissionDeniedError: the account sees no patrons, or none at the requested org units.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    generated_at = datetime.now(UTC).astimezone()
    # Load all classes in one request instead of one at a time.
    gateway.idl("au", "aou", "mous", "ac", "ausp", "csp", "aua", "pgt", "pgpt")
    org_units = OrgUnits.read(gateway)
    chosen = org_units.named(criteria.orgs)
    access = Access.read(gateway, org_units)
    homes = _homes(criteria, chosen, access)
    settings = policy or PolicySettings()
    if criteria.limit is not None:
        settings = PolicySettings(criteria.limit.amount, criteria.limit.comparison)
    reader = GroupReader(gateway, org_units, access, progress=progress)
    penalty_kinds, profiles = gateway.in_parallel(
        lambda: PenaltyKinds.read(gateway, org_units), lambda: Profiles.read(gateway)
    )
    thresholds = Thresholds.read(gateway, org_units, profiles, penalty_kinds.fines_penalties)
    limits = Limits(settings, org_units, profiles, thresholds)
    # With the same limit for all patrons, there is no need to look up thresholds.
    if settings.uniform:
        known = settings.as_limit() if settings.as_limit().amount is not None else None
        bounds = LimitBounds(known, known, uniform=True)
    else:
        libraries = homes or [unit.id for unit in org_units]
        bounds = LimitBounds.of(limits.limit_for(profile, library) for library in libraries for profile in profiles)
    named = {profiles.find(name) for name in criteria.institution_profiles}
    institutions = {id: profiles.name(id) for id in profiles if named.intersection(profiles.upwards(id))}
    context = SearchContext(
        gateway=gateway,
        org_units=org_units,
        access=access,
        reader=reader,
        penalty_kinds=penalty_kinds,
        limits=limits,
        ils_limits=Limits(PolicySettings(limit="ils"), org_units, profiles, thresholds),
        thresholds=thresholds,
        profiles=profiles,
        bounds=bounds,
        chosen=chosen,
        homes=homes,
        id_ranges=id_ranges(_highest_id(gateway, homes)),
        now=generated_at,
        progress=progress,
        adults=criteria.adults,
        institutions=institutions,
        to_keep=to_keep or {},
        found=FindingStore(),
        top=criteria.top,
    )
    with search.gc_paused():
        for name in dict.fromkeys(kind.search for kind in FindingKind):  # one may find several kinds
            resolve_name(name)(context)
    counts = context.found.counts()
    patrons, groups = (
        {kind: count for kind, count in counts.items() if kind.about_groups is about_groups}
        for about_groups in (False, True)
    )
    return Audit(
        generated_at,
        gateway.url,
        criteria,
        StoredFindings(context.found, patrons, criteria.top),
        StoredFindings(context.found, groups, criteria.top),
        tuple(_notes(context)),
        access.everywhere,
        to_keep=tuple(sorted(context.left_out_groups)),
        changed=tuple(sorted(context.changed_groups)),
        counts=None if criteria.top is None else counts,
        thresholds=tuple(context.found_thresholds),
    )


def _homes(criteria: AuditCriteria, chosen: Set[int], access: Access) -> Set[int]:
    """Return the ids of the home libraries to search, empty for all."""
    if access.everywhere:
        return chosen
    # Naming the visible libraries saves a permission check of 2 ms for each patron of the others.
    homes = access.visible_orgs & chosen if chosen else access.visible_orgs
    if chosen and not homes:
        raise PermissionDeniedError(
            "the account can't see any patrons at {places}: it lacks {permission}",
            advice="grant it there",
            code="no-patrons-visible-there",
            values={"places": ", ".join(criteria.orgs), "permission": VIEW_USER},
            permission=VIEW_USER,
        )
    return homes


def _highest_id(gateway: Gateway, homes: Collection[int]) -> int:
    """Return the highest id of a patron to search, 0 if there is none."""
    where = {"deleted": "f", "id": {">": 0}, **({"home_ou": sorted(homes)} if homes else {})}
    order = [{"class": "au", "field": "id", "direction": "desc"}]
    found = gateway.pcrud.search("au", where, select=("id",), order_by=order, limit=1)
    return found[0].id if found else 0


def _notes(context: SearchContext) -> Iterator[Message]:
    """Say what the audit leaves out because the account doesn't see all patrons, or all thresholds."""
    if not context.access.everywhere:
        yield Message(
            "Incomplete: the account lacks {permission} at {libraries}, so it can't see patrons there.",
            values={"permission": VIEW_USER, "libraries": context.access.missing_names},
        )
    if context.hidden_thresholds_at:
        names = [unit.shortname for unit in context.org_units if unit.id in context.hidden_thresholds_at]
        yield Message(
            "Incomplete: thresholds for {libraries} can't be read. Grant {permission} with depth 0.",
            values={"libraries": ", ".join(names), "permission": permissions.VIEW_THRESHOLDS},
        )
