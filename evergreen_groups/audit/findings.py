"""What an audit finds: patrons whose blocks and own fines don't fit together, Evergreen's thresholds that differ from
the rule, and groups that look accidental.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from itertools import chain, islice
from typing import TYPE_CHECKING, Self, TypeVar

from evergreen_groups import arguments
from evergreen_groups.groups import AdultRule
from evergreen_groups.policy import Limit

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member, Relations
    from evergreen_groups.ils import Penalty
    from evergreen_groups.total import Total

_BLOCKS = "evergreen_groups.audit.blocks:find_blocks"
_ADULTS = "evergreen_groups.audit.adults:find_groups_of_adults"
_BORROWED = "evergreen_groups.audit.borrowed_addresses:find_borrowed_addresses"
_ACCIDENTAL = "evergreen_groups.audit.accidental_groups:find_accidental_groups"


def _kind(
    code: str, search: str, *, about_groups: bool = False, about_thresholds: bool = False, recalculable: bool = False
) -> tuple[str, str, bool, bool, bool]:
    """What a kind of finding consists of, by name: see :class:`FindingKind`."""
    return code, search, about_groups, about_thresholds, recalculable


class FindingKind(Enum):
    """What is wrong, or may be: each kind is declared here, and everything but its wording follows.

    A kind has a code (the value); ``search``, the function that finds it, as ``module:function``, which is named and
    not imported because searches stand above this module; ``about_groups`` and ``about_thresholds``, whether it is a
    :class:`GroupFinding` or a :class:`ThresholdFinding` and not a :class:`PatronFinding`; and ``recalculable``,
    whether a recalculation by the ILS may resolve it. Kinds that are found together name the same search.
    ``evergreen_groups.render.audit.wording`` has the words for each.
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
    """Own fines over the limit and, as far as is known, at Evergreen's threshold; no block for fines in the ILS."""
    THRESHOLD_HIGHER = _kind("threshold-above-limit", _BLOCKS, about_thresholds=True)
    """A threshold that patrons over the limit don't reach, so that recalculating doesn't block them."""
    NOT_OVER = _kind("blocked-not-over-limit", _BLOCKS, recalculable=True)
    """A block for fines that the ILS set itself, and own fines neither over the limit nor, as far as is known, at
    Evergreen's threshold.
    """
    THRESHOLD_LOWER = _kind("threshold-below-limit", _BLOCKS, about_thresholds=True)
    """A threshold that patrons within the limit reach, so that recalculating doesn't lift their block."""
    LEFT_ALONE = _kind("block-not-recalculated", _BLOCKS)
    """As :attr:`NOT_OVER`, and the block isn't at the threshold's org unit, so that recalculating leaves it."""
    FOR_FAMILY = _kind("blocked-for-family", _BLOCKS)
    """Blocked by staff, own fines within the limit, the group's over it."""
    BY_STAFF = _kind("blocked-by-staff", _BLOCKS)
    """Blocked by staff, and neither own fines nor the group's are over the limit: for review only."""
    ACCIDENTAL = _kind("accidental-group", _ACCIDENTAL, about_groups=True)
    """A group that may not belong together."""
    FOR_REVIEW = _kind("group-for-review", _ACCIDENTAL, about_groups=True)
    """A group with something odd, and whose members have so much in common that nothing speaks for an accident."""
    SEVERAL_ADULTS = _kind("several-adults", _ADULTS, about_groups=True)
    """A group with more adults than the library wants in one."""
    BORROWED_ADDRESS = _kind("borrowed-address", _BORROWED)
    """A patron whose record uses an address row of somebody outside the group."""


RECALCULABLE = tuple(kind for kind in FindingKind if kind.recalculable)
"""The kinds that a recalculation by the ILS may resolve."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was found: ``code`` names the case, ``values`` are what it is about, by name.

    :mod:`evergreen_groups.render.audit` puts it into words.
    """

    code: str
    values: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def counted(cls, code: str, count: Total[int], **values: object) -> Reason:
        """A reason with a count, ``at_least`` so many where hidden members may raise it."""
        return cls(code, {"count" if count.exact else "at_least": count.at_least, **values})


@dataclass(frozen=True, slots=True)
class PatronFinding:
    """One patron whose blocks and own fines don't fit together.

    ``blocks`` are the penalties that the finding is about; ``group_fines`` is what the patron's group owes together,
    None where it doesn't matter or isn't known. ``limits_differ`` says that patrons have different limits, so that the
    member's own is worth a word.
    """

    kind: FindingKind
    member: Member
    reason: Reason
    blocks: tuple[Penalty, ...] = ()
    group_fines: Decimal | None = None
    limits_differ: bool = False

    @property
    def rank(self) -> int:
        """Where it stands among those of its kind, the lowest first: whoever owes most (in cents)."""
        return -int(self.member.own_fines.scaleb(2))

    @property
    def number(self) -> int:
        """Where it stands among those of its rank: the patron's id."""
        return self.member.id


@dataclass(frozen=True, slots=True)
class ThresholdFinding:
    """A threshold of Evergreen's that blocks otherwise than the rule, and how many patrons that concerns.

    ``threshold`` is the amount at which Evergreen blocks, set for ``profile`` at ``library`` (all None: there is none);
    ``limit`` is the rule's limit of these patrons. ``penalty`` is what Evergreen sets.
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
    """A group with which something may be wrong, and why.

    ``confidence`` says how sure it is that it is accidental, and by which evidence: some for
    :attr:`FindingKind.ACCIDENTAL`, none for :attr:`FindingKind.FOR_REVIEW`. ``split`` says who of the members would
    stay together and who would be taken out, None where all belong together by what is on file, or where members are
    hidden.
    """

    group: Group
    reasons: tuple[Reason, ...]
    kind: FindingKind = FindingKind.ACCIDENTAL
    confidence: Confidence | None = None
    split: GroupSplit | None = None

    @property
    def rank(self) -> int:
        """Where it stands among those of its kind, the lowest first: the surest."""
        return -self.confidence.points if self.confidence else 0

    @property
    def number(self) -> int:
        """Where it stands among those of its rank: the group's number."""
        return self.group.number


@dataclass(frozen=True, slots=True)
class AuditCriteria:
    """What an audit goes over: patrons of ``orgs`` (short names; none: everywhere) or below, and their groups.

    ``limit`` is the limit of everybody's own fines, None where the policy has different ones for different patrons.
    ``adults`` says how many of them are too many in one group; ``institution_profiles`` (names) are the profiles of
    schools, offices and the like, with all below them. ``top`` lists only the first so many findings of each
    kind and counts the others (None: all are listed).
    """

    orgs: tuple[str, ...] = ()
    limit: Limit | None = field(default_factory=Limit)
    adults: AdultRule = field(default_factory=AdultRule)
    institution_profiles: tuple[str, ...] = ()
    top: int | None = None

    def __post_init__(self) -> None:
        """Refuse values of other types. Raises ArgumentError."""
        arguments.texts("orgs", self.orgs)
        if self.limit is not None:
            arguments.instance("limit", self.limit, Limit)
        arguments.texts("institution_profiles", self.institution_profiles)
        if self.top is not None:
            arguments.integer("top", self.top, "how many findings of each kind to list, as int")


Listed = TypeVar("Listed", PatronFinding, GroupFinding)


class FindingSequence(Sequence[Listed]):
    """Findings in their order, of which those of one kind can be had without looking at the others."""

    @abstractmethod
    def of_kind(self, kind: FindingKind) -> Sequence[Listed]:
        """Those of a kind."""


def only(findings: Sequence[Listed], kind: FindingKind) -> Sequence[Listed]:
    """Those of some findings that are of a kind."""
    if isinstance(findings, FindingSequence):
        return findings.of_kind(kind)
    return [finding for finding in findings if finding.kind is kind]


@dataclass(frozen=True, slots=True)
class Audit:
    """What stands in the ILS and doesn't fit the rule.

    ``generated_at`` is when reading began (aware); ``notes`` are sentences about what is missing; ``complete`` says
    that the account sees every patron. ``patrons`` come by kind, whoever owes most first, and ``groups`` by kind, the
    surest first; they are sequences that may be read as often as one likes, of which only what is being looked at is in
    memory. ``thresholds`` come by kind, the one that concerns most patrons first. ``to_keep`` are the numbers of groups
    that would be accidental or for review and aren't listed, because somebody decided that they are to be kept as they
    are; ``changed`` of those are listed, for their members have changed since. ``counts`` says how many findings of
    each kind there are where not all are listed (None: they are).
    """

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
        """The findings about patrons of one kind, in their order."""
        return only(self.patrons, kind)

    def groups_of_kind(self, kind: FindingKind) -> Sequence[GroupFinding]:
        """The findings about groups of one kind, in their order."""
        return only(self.groups, kind)

    def thresholds_of_kind(self, kind: FindingKind) -> Sequence[ThresholdFinding]:
        """The findings about thresholds of one kind, in their order; all of them are listed."""
        return [finding for finding in self.thresholds if finding.kind is kind]

    def count(self, kind: FindingKind) -> int:
        """How many findings of a kind there are, listed or not."""
        if self.counts is None or kind.about_thresholds:
            return self.listed(kind)
        return self.counts.get(kind, 0)

    def listed(self, kind: FindingKind) -> int:
        """How many findings of a kind are listed."""
        if kind.about_thresholds:
            return len(self.thresholds_of_kind(kind))
        return len(self.groups_of_kind(kind) if kind.about_groups else self.of_kind(kind))

    def first(self, top: int) -> Audit:
        """The same audit with only the first so many findings of each kind listed, and the others counted."""
        return replace(
            self,
            patrons=tuple(chain.from_iterable(islice(self.of_kind(kind), top) for kind in FindingKind)),
            groups=tuple(chain.from_iterable(islice(self.groups_of_kind(kind), top) for kind in FindingKind)),
            counts={kind: self.count(kind) for kind in FindingKind},
        )


HIGH, MEDIUM = "high", "medium"
LOW = "low"
_HIGH_FROM, _MEDIUM_FROM = 50, 25

WEIGHTS = {
    "no-lead": 10,
    "lead-deleted": 10,
    "several-leads": 20,
    "lead-expired": 10,
    "unusually-large": 25,
    "institution": 25,
    # An adult of whom nothing on file speaks for a relation to another adult.
    "strangers": 35,
    # Nobody has surname, address, phone or e-mail in common with anybody.
    "nothing-shared": 25,
    "cloned": 15,
    # What speaks against it: each member has it in common with another.
    "surname-shared": -20,
    "address-shared": -20,
    "phone-or-email-shared": -20,
}
"""What each piece of evidence adds, by its code; below nought where it speaks for a family."""
_PLACES = {code: place for place, code in enumerate(sorted(WEIGHTS, key=lambda code: -WEIGHTS[code]))}


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence: ``code`` names it, ``values`` are what it is about, by name.

    :mod:`evergreen_groups.render.audit` puts it into words.
    """

    code: str
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """What it adds."""
        return WEIGHTS[self.code]


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure something is, by its evidence, what weighs most first."""

    evidence: tuple[Evidence, ...]
    points: int = field(init=False, repr=False, compare=False)
    """The sum of all weights, from 0 to 100."""

    def __post_init__(self) -> None:
        """Add up the weights, which everything asks for."""
        points = max(0, min(100, sum(WEIGHTS[piece.code] for piece in self.evidence)))
        object.__setattr__(self, "points", points)

    @classmethod
    def by(cls, evidence: Iterable[Evidence]) -> Confidence:
        """The confidence by some evidence; of each code there is one piece at most."""
        return cls(tuple(sorted(evidence, key=_place)))

    @property
    def level(self) -> str:
        """``high`` from 50 points on, ``medium`` from 25 on, else ``low``."""
        if self.points >= _HIGH_FROM:
            return HIGH
        return MEDIUM if self.points >= _MEDIUM_FROM else LOW


def _place(piece: Evidence) -> int:
    return _PLACES[piece.code]


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """Patrons' ids: those who would ``stay``, and those who would ``leave``, each family for itself."""

    stay: tuple[int, ...]
    leave: tuple[tuple[int, ...], ...]

    @property
    def leaving(self) -> tuple[int, ...]:
        """The ids of all who would be taken out."""
        return tuple(id for family in self.leave for id in family)


def suggested_split(members: Sequence[int], lead: int, relations: Relations) -> GroupSplit | None:
    """The split by what members (ids) have in common: the largest family stays, of several as large the ``lead``'s.

    None where all belong together. Where members are hidden they may be the relatives who are missing: nobody knows.
    """
    families = relations.families(members)
    if len(families) == 1:
        return None
    stays = min(families, key=lambda family: (-len(family), lead not in family, family))
    return GroupSplit(stays, tuple(family for family in families if family is not stays))
