"""Records of what an audit finds.

Findings are about patrons whose blocks don't match their own fines, thresholds in Evergreen that differ from the rule,
groups that look accidental, and families that changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from itertools import chain, islice
from typing import TYPE_CHECKING, Self, TypeVar

from evergreen_groups import arguments
from evergreen_groups.formats import OF_AUDIT, Tabular
from evergreen_groups.groups import AdultRule
from evergreen_groups.policy import Limit

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member, contacts
    from evergreen_groups.ils import Penalty
    from evergreen_groups.values import Total

_BLOCKS = "evergreen_groups.audit.blocks:find_blocks"
_ADULTS = "evergreen_groups.audit.accidental_groups:find_groups_of_adults"
_BORROWED = "evergreen_groups.audit.borrowed_addresses:find_borrowed_addresses"
_OF_AGE = "evergreen_groups.audit.came_of_age:find_came_of_age"
_ACCIDENTAL = "evergreen_groups.audit.accidental_groups:find_accidental_groups"


def _kind(
    code: str, search: str, *, about_groups: bool = False, about_thresholds: bool = False, recalculable: bool = False
) -> tuple[str, str, bool, bool, bool]:
    """Return a kind's values with their names, see :class:`FindingKind`."""
    return code, search, about_groups, about_thresholds, recalculable


class FindingKind(Enum):
    """Kinds of findings. Everything about a kind except its wording is declared here.

    The value is the kind's code. ``search`` names the function that finds it (``module:function``); a name avoids
    importing the searches, which import this module. ``about_groups`` and ``about_thresholds`` mean that findings are
    :class:`GroupFinding` or :class:`ThresholdFinding` instead of :class:`PatronFinding`. ``recalculable`` means that a
    recalculation by the ILS may resolve the finding. Kinds that are found together name the same search.
    ``evergreen_groups.render.audit.wording`` has the wording of each kind.
    """

    search: str
    about_groups: bool
    about_thresholds: bool
    recalculable: bool

    def __new__(cls, code: str, search: str, about_groups: bool, about_thresholds: bool, recalculable: bool) -> Self:
        kind = object.__new__(cls)
        kind._value_ = code
        kind.search, kind.about_groups, kind.about_thresholds = search, about_groups, about_thresholds
        kind.recalculable = recalculable
        return kind

    NOT_BLOCKED = _kind("over-limit-not-blocked", _BLOCKS, recalculable=True)
    """Own fines over the limit and, as far as known, at Evergreen's threshold, but no block for fines in the ILS."""
    THRESHOLD_HIGHER = _kind("threshold-above-limit", _BLOCKS, about_thresholds=True)
    """A threshold that patrons over the limit don't reach, so recalculating doesn't block them."""
    NOT_OVER = _kind("blocked-not-over-limit", _BLOCKS, recalculable=True)
    """A block for fines set by the ILS itself.

    Own fines are within the limit and, as far as known, below Evergreen's threshold.
    """
    THRESHOLD_LOWER = _kind("threshold-below-limit", _BLOCKS, about_thresholds=True)
    """A threshold that patrons within the limit reach, so recalculating doesn't lift their block."""
    LEFT_ALONE = _kind("block-not-recalculated", _BLOCKS)
    """Like :attr:`NOT_OVER`, but the block isn't at the threshold's org unit, so recalculating doesn't lift it."""
    FOR_FAMILY = _kind("blocked-for-family", _BLOCKS)
    """Blocked for fines by staff, with own fines within the limit and the group's fines over it."""
    BY_STAFF = _kind("blocked-by-staff", _BLOCKS)
    """Blocked by staff for another reason, or for fines although not even the group's are over. For review only."""
    ACCIDENTAL = _kind("accidental-group", _ACCIDENTAL, about_groups=True)
    """A group whose members may not belong together."""
    FOR_REVIEW = _kind("group-for-review", _ACCIDENTAL, about_groups=True)
    """A group with something odd, but whose members have so much in common that it is no accident."""
    SEVERAL_ADULTS = _kind("several-adults", _ADULTS, about_groups=True)
    """A group with more adults than the library wants."""
    CAME_OF_AGE = _kind("came-of-age", _OF_AGE)
    """A patron marked as a juvenile who is an adult by date of birth, in a group with a guardian."""
    BORROWED_ADDRESS = _kind("borrowed-address", _BORROWED)
    """A patron whose record uses an address row of a patron outside the group."""


RECALCULABLE = tuple(kind for kind in FindingKind if kind.recalculable)
"""The kinds that a recalculation by the ILS may resolve."""


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason for a finding: a ``code``, and ``values`` for its text in :mod:`evergreen_groups.render.audit`."""

    code: str
    values: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def counted(cls, code: str, count: Total[int], **values: object) -> Reason:
        """Make a reason with a count, or with ``at_least`` if hidden members may raise it."""
        return cls(code, {"count" if count.exact else "at_least": count.at_least, **values})


@dataclass(frozen=True, slots=True)
class PatronFinding:
    """A finding about one patron.

    ``blocks`` are the penalties in question. ``group_fines`` is what the group owes together, None if it doesn't matter
    or is unknown. ``limits_differ`` means that limits vary between patrons, so the member's limit should be shown.

    Findings are sorted by kind, then ``rank``, then ``number``, the lowest first.
    """

    kind: FindingKind
    member: Member
    reason: Reason
    blocks: tuple[Penalty, ...] = ()
    group_fines: Decimal | None = None
    limits_differ: bool = False

    @property
    def rank(self) -> int:
        """The sort key within its kind: the highest own fines (in cents) first."""
        return -int(self.member.own_fines.scaleb(2))

    @property
    def number(self) -> int:
        return self.member.id


@dataclass(frozen=True, slots=True)
class ThresholdFinding:
    """A threshold in Evergreen that blocks other patrons than the rule does, and the number of patrons concerned.

    ``threshold`` is the amount at which Evergreen blocks, set for ``profile`` at ``library`` (all None: there is no
    threshold). ``limit`` is these patrons' limit by the rule. ``penalty`` is the penalty that Evergreen sets.
    """

    kind: FindingKind
    reason: Reason
    threshold: Decimal | None
    profile: str | None
    library: str | None
    penalty: str
    limit: Limit
    patron_count: int


@dataclass(frozen=True, slots=True)
class GroupFinding:
    """A finding about one group.

    ``confidence`` says how likely the group is accidental, with the evidence. Only :attr:`FindingKind.ACCIDENTAL` has
    points. ``split`` suggests who stays and who leaves, None if the members belong together as far as the records show,
    or if members are hidden.
    """

    group: Group
    reasons: tuple[Reason, ...]
    kind: FindingKind = FindingKind.ACCIDENTAL
    confidence: Confidence | None = None
    split: GroupSplit | None = None

    @property
    def rank(self) -> int:
        """The sort key within its kind: the highest confidence first."""
        return -self.confidence.points if self.confidence else 0

    @property
    def number(self) -> int:
        return self.group.number


@dataclass(frozen=True, slots=True)
class AuditCriteria:
    """What to audit: patrons at or below ``orgs`` (short names; empty: everywhere), and their groups.

    ``limit`` is the limit of own fines for all patrons, None if the policy's limits vary. ``adults`` is the rule for
    too many adults in a group; its age is also that of juveniles who came of age. ``institution_profiles`` (names) are
    profiles of schools, offices and so on, including profiles below. ``top`` lists the first findings of each kind and
    counts the rest (None: list all).
    """

    __repr__ = arguments.brief

    orgs: tuple[str, ...] = ()
    limit: Limit | None = field(default_factory=Limit)
    adults: AdultRule = field(default_factory=AdultRule)
    institution_profiles: tuple[str, ...] = ()
    top: int | None = None

    def __post_init__(self) -> None:
        """Raise ArgumentError for values of the wrong type, and for impossible ones."""
        arguments.texts("orgs", self.orgs)
        if self.limit is not None:
            arguments.instance("limit", self.limit, Limit)
        arguments.texts("institution_profiles", self.institution_profiles)
        arguments.instance("adults", self.adults, AdultRule)
        arguments.integer_or_none("top", self.top, least=1)


Listed = TypeVar("Listed", PatronFinding, GroupFinding)


def _filter(findings: Sequence[Listed], kind: FindingKind) -> Sequence[Listed]:
    """Return the findings of a kind. Stored findings are asked for them, so that the others aren't read."""
    of_kind: Callable[[FindingKind], Sequence[Listed]] | None = getattr(findings, "of_kind", None)
    return of_kind(kind) if of_kind else [finding for finding in findings if finding.kind is kind]


@dataclass(frozen=True, slots=True)
class Audit(Tabular):
    """The result of an audit.

    ``generated_at`` is when reading began (aware). ``notes`` are sentences about missing data. ``complete`` means that
    the account sees every patron. Findings come by kind: ``patrons`` with the highest fines first, ``groups`` with the
    highest confidence first, and ``thresholds`` with the most patrons first. ``patrons`` and ``groups`` are sequences
    that can be read repeatedly without loading all findings into memory.

    ``to_keep`` are the numbers of groups that aren't listed because staff decided to keep them as they are. ``changed``
    are such groups that are listed because their members have changed since. ``counts`` has the number of findings of
    each kind if not all are listed (None: all are).
    """

    __repr__ = arguments.brief
    _forms = OF_AUDIT

    generated_at: datetime
    gateway: str
    criteria: AuditCriteria
    patrons: Sequence[PatronFinding]
    groups: Sequence[GroupFinding]
    notes: tuple[str, ...] = ()
    complete: bool = True
    to_keep: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    counts: Mapping[FindingKind, int] | None = None
    thresholds: tuple[ThresholdFinding, ...] = ()

    def of_kind(self, kind: FindingKind) -> Sequence[PatronFinding]:
        """Return the listed findings of a kind about patrons."""
        return _filter(self.patrons, kind)

    def groups_of_kind(self, kind: FindingKind) -> Sequence[GroupFinding]:
        """Return the listed findings of a kind about groups."""
        return _filter(self.groups, kind)

    def thresholds_of_kind(self, kind: FindingKind) -> Sequence[ThresholdFinding]:
        """Return the findings of a kind about thresholds, which are always all listed."""
        return [finding for finding in self.thresholds if finding.kind is kind]

    def count(self, kind: FindingKind) -> int:
        """Return how many findings of a kind there are, listed or not."""
        if self.counts is None or kind.about_thresholds:
            return self.listed(kind)
        return self.counts.get(kind, 0)

    def listed(self, kind: FindingKind) -> int:
        """Return how many findings of a kind are listed."""
        if kind.about_thresholds:
            return len(self.thresholds_of_kind(kind))
        return len(self.groups_of_kind(kind) if kind.about_groups else self.of_kind(kind))

    def first(self, top: int) -> Audit:
        """Return the audit with only the first ``top`` findings of each kind listed."""
        return replace(
            self,
            patrons=tuple(chain.from_iterable(islice(self.of_kind(kind), top) for kind in FindingKind)),
            groups=tuple(chain.from_iterable(islice(self.groups_of_kind(kind), top) for kind in FindingKind)),
            counts={kind: self.count(kind) for kind in FindingKind},
        )


WEIGHTS = {
    "no-lead": 10,
    "lead-deleted": 10,
    "several-leads": 20,
    "lead-expired": 10,
    "unusually-large": 25,
    "institution": 25,
    # An adult whose record shows no relation to any other adult.
    "strangers": 35,
    # No two members share a surname, address, phone or email address.
    "nothing-shared": 25,
    "cloned": 15,
    # Evidence for a family: each member shares this with another.
    "surname-shared": -20,
    "address-shared": -20,
    "phone-or-email-shared": -20,
}
"""How much each piece of evidence counts, by code. Negative if it suggests a family."""


@dataclass(frozen=True, slots=True)
class Evidence(Reason):
    """One piece of evidence that a group is accidental, or isn't."""

    @property
    def weight(self) -> int:
        """How much the evidence counts."""
        return WEIGHTS[self.code]


@dataclass(frozen=True, slots=True)
class Confidence:
    """How likely a group is accidental, with the evidence, the weightiest first."""

    evidence: tuple[Evidence, ...]
    points: int = field(init=False, repr=False, compare=False)
    """The sum of all weights, from 0 to 100."""

    def __post_init__(self) -> None:
        """Add up the weights once."""
        points = max(0, min(100, sum(WEIGHTS[piece.code] for piece in self.evidence)))
        object.__setattr__(self, "points", points)

    @classmethod
    def from_evidence(cls, evidence: Iterable[Evidence]) -> Confidence:
        """Sort the evidence, which must have at most one piece of each code."""
        order = sorted(WEIGHTS, key=lambda code: -WEIGHTS[code])
        return cls(tuple(sorted(evidence, key=lambda piece: order.index(piece.code))))

    @property
    def level(self) -> str:
        """``high`` from 50 points, ``medium`` from 25, or ``low``."""
        return "high" if self.points >= 50 else "medium" if self.points >= 25 else "low"


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """Ids of the patrons who would ``stay`` in the group, and of those who would ``leave``, family by family."""

    stay: tuple[int, ...]
    leave: tuple[tuple[int, ...], ...]

    @property
    def leaving(self) -> tuple[int, ...]:
        """The ids of all patrons who would leave."""
        return tuple(id for family in self.leave for id in family)


def suggested_split(members: Sequence[int], lead: int, relations: contacts.Relations) -> GroupSplit | None:
    """Suggest a split by what members (ids) have in common. The largest family stays, the ``lead``'s if several are.

    Return None if all members belong together. Only call this for complete groups: hidden members may be the missing
    link.
    """
    families = relations.families(members)
    if len(families) == 1:
        return None
    stays = min(families, key=lambda family: (-len(family), lead not in family, family))
    return GroupSplit(stays, tuple(family for family in families if family is not stays))
