"""What each search of an audit works with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from evergreen_groups.audit.findings import GroupFinding, PatronFinding
    from evergreen_groups.audit.limit_bounds import LimitBounds
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import GroupReader
    from evergreen_groups.ils import Access, OrgUnits, PenaltyKinds
    from evergreen_groups.limits import Limits
    from evergreen_groups.progress import Progress


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What is read once for the whole audit, and where to look.

    ``chosen`` are the org units asked for (ids, none: everywhere), and ``homes`` those of them whose patrons the
    account sees. ``bounds`` are the lowest and the highest limit of anybody; ``now`` is when reading began (aware).
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


Search: TypeAlias = "Callable[[SearchContext], Iterable[PatronFinding | GroupFinding]]"
"""Finds everything of one kind or several; raises what the gateway does."""
