"""What each search of an audit works with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from evergreen_groups.audit.finding_store import FindingStore
    from evergreen_groups.audit.findings import ThresholdFinding
    from evergreen_groups.audit.limit_bounds import LimitBounds
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule, GroupReader
    from evergreen_groups.ils import Access, OrgUnits, PenaltyKinds, Profiles, ThresholdReader
    from evergreen_groups.limits import Limits
    from evergreen_groups.progress import Progress


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What is read once for the whole audit, where to look, and what takes the findings.

    ``found`` gets what a search finds, as it comes; ``top`` says how many of each kind will be listed (None: all), so
    that what is only shown needn't be read of the others.
    ``chosen`` are the org units asked for (ids, none: everywhere), and ``homes`` those of them whose patrons the
    account sees. ``bounds`` are the lowest and the highest limit of anybody; ``now`` is when reading began (aware).
    ``institutions`` are the names of institutions' profiles by id. ``to_keep`` are groups that are to be kept as they
    are, with their members when that was decided (ids by number); searches add those that they left out for that to
    ``left_out``, and those whose members have changed since to ``changed``. ``ils_limits`` are the ILS's own limits, of
    the ``thresholds``. Searches add what they find out about these to ``found_thresholds``, and to
    ``hidden_thresholds_at`` the home libraries (ids) whose thresholds the account can't see.
    """

    gateway: Gateway
    org_units: OrgUnits
    access: Access
    reader: GroupReader
    penalty_kinds: PenaltyKinds
    limits: Limits
    ils_limits: Limits
    thresholds: ThresholdReader
    profiles: Profiles
    bounds: LimitBounds
    chosen: Collection[int]
    homes: Collection[int]
    now: datetime
    progress: Progress
    adults: AdultRule
    institutions: Mapping[int, str]
    to_keep: Mapping[int, frozenset[int]]
    found: FindingStore
    top: int | None = None
    left_out: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    found_thresholds: list[ThresholdFinding] = field(default_factory=list)
    hidden_thresholds_at: set[int] = field(default_factory=set)


Search: TypeAlias = "Callable[[SearchContext], None]"
"""Finds everything of one kind or several, and adds it to ``found``; raises what the gateway does."""
