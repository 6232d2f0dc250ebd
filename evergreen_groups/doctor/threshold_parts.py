"""What the sentences about thresholds name: the rule's limit, where thresholds stand, and whom they are about."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from evergreen_groups.doctor.permissions import name_places, name_some
from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits, Profiles
    from evergreen_groups.limits import RuleDifference


def describe_rule(limit: Limit) -> Message:
    """The limit in a few words."""
    if limit.amount is None:
        return Message("no limit")
    if limit.comparison is Comparison.REACHES:
        return Message("{amount} or more", values={"amount": limit.amount})
    return Message("more than {amount}", values={"amount": limit.amount})


def describe_rows(org_units: OrgUnits, difference: RuleDifference, profiles: Profiles) -> list[str]:
    """Where the thresholds stand that differ."""
    return name_some(
        [
            Message(
                "{profile} at {library}",
                values={"profile": profiles.name(profile), "library": org_units.shortname(org_unit)},
            )
            for org_unit, profile in sorted(difference.rows)
        ]
    )


def describe_profiles(some: Collection[int], profiles: Profiles) -> Message:
    """How many of all profiles it is about, and their names where it isn't all of them."""
    if len(some) == len(profiles):
        return Message("all profiles ({count:,})", values={"count": len(some)})
    names = sorted(map(profiles.name, some), key=name_key)
    return Message(
        "profiles ({count:,} of {all:,}): {names}",
        values={"count": len(some), "all": len(profiles), "names": name_some(names)},
    )


def describe_libraries(some: Collection[int], every: int, org_units: OrgUnits) -> Message:
    """How many org units of ``every`` one it is about, and their names where it isn't all of them."""
    if len(some) == every:
        return Message("all org units ({count:,})", values={"count": every})
    return Message(
        "org units ({count:,} of {all:,}): {names}",
        values={"count": len(some), "all": every, "names": name_places(org_units, set(some))},
    )
