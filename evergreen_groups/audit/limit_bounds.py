"""Between which limits those of all patrons lie, so that the ILS can leave out whom none of them is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.limits import Limits, ResolvedLimit


@dataclass(frozen=True, slots=True)
class LimitBounds:
    """The ``lowest`` limit of anybody (None: nobody has one) and the ``highest`` (None: somebody has none).

    ``scoped`` says that some limits count only what is owed at some libraries; ``uniform`` that there is one for all.
    """

    lowest: Limit | None
    highest: Limit | None
    scoped: bool = False
    uniform: bool = False

    @classmethod
    def of(cls, limits: Limits, profiles: Iterable[int], libraries: Iterable[int]) -> LimitBounds:
        """The bounds of the limits of patrons with these profiles and home libraries (ids)."""
        kinds = list(profiles)
        return cls.among([limits.limit_for(profile, library) for library in libraries for profile in kinds])

    @classmethod
    def among(cls, resolved: Iterable[ResolvedLimit]) -> LimitBounds:
        """The bounds of these limits."""
        found = set(resolved)
        amounts = sorted((one.limit for one in found if one.limit.amount is not None), key=_strictness)
        return cls(
            lowest=amounts[0] if amounts else None,
            # Somebody without a limit is never over one, so nobody may be left out as being over the highest.
            highest=amounts[-1] if amounts and all(one.limit.amount is not None for one in found) else None,
            scoped=any(one.scope is not None for one in found),
        )

    @classmethod
    def only(cls, limit: Limit) -> LimitBounds:
        """The bounds where everybody has the same limit."""
        known = None if limit.amount is None else limit
        return cls(known, known, uniform=True)


def _strictness(limit: Limit) -> tuple[object, bool]:
    # At one amount, reaching it is stricter than exceeding it.
    return limit.amount, limit.comparison is Comparison.EXCEEDS
