"""How sure it is that a group is accidental: a sum of evidence, each piece with its weight, and nothing else.

The weights are a librarian's rule of thumb and no statistics. They are here in one place, stand beside each finding,
and the same data always give the same sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
