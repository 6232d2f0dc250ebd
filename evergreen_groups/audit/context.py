"""What each search of an audit works with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from evergreen_groups.audit.findings import GroupFinding, PatronFinding
    from evergreen_groups.audit.limit_bounds import LimitBounds
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule, GroupReader
    from evergreen_groups.ils import Access, OrgUnits, PenaltyKinds
    from evergreen_groups.limits import Limits
    from evergreen_groups.progress import Progress


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What is read once for the whole audit, and where to look.

    ``chosen`` are the org units asked for (ids, none: everywhere), and ``homes`` those of them whose patrons the
    account sees. ``bounds`` are the lowest and the highest limit of anybody; ``now`` is when reading began (aware).
    ``institutions`` are the names of institutions' profiles by id. ``to_keep`` are groups that are to be kept as they
    are, with their members when that was decided (ids by number); searches add those that they left out for that to
    ``left_out``.
    """

    gateway: Gateway
    org_units: OrgUnits
    access: Access
    reader: GroupReader
    penalty_kinds: PenaltyKinds
    limits: Limits
    bounds: LimitBounds
    chosen: Collection[int]
    homes: Collection[int]
    now: datetime
    progress: Progress
    adults: AdultRule
    institutions: Mapping[int, str]
    to_keep: Mapping[int, frozenset[int]]
    left_out: set[int] = field(default_factory=set)


Search: TypeAlias = "Callable[[SearchContext], Iterable[PatronFinding | GroupFinding]]"
"""Finds everything of one kind or several; raises what the gateway does."""
