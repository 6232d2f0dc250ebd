"""How a group might be split: who belongs together by what is on file, and who would be taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.groups import Relations


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
