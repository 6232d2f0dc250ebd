"""Who counts as an adult, and how many of them may be in one group before it is worth a word.

Most libraries group one parent with the children alone, since adults in a group see each other's affairs. Nothing is
ever refused by this; it is found, and warned of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from evergreen_groups.odd_dates import age_of

if TYPE_CHECKING:
    from evergreen_groups.groups.patrons import PatronAccount


@dataclass(frozen=True, slots=True)
class AdultRule:
    """More than ``most`` adults in one group are too many (0: any number will do); ``from_age`` years make an adult.

    A birth date that is known decides, whatever the mark of a juvenile says: that isn't taken off by itself. Without
    one, whoever isn't marked as a juvenile counts as an adult.
    """

    from_age: int = 18
    most: int = 0

    @property
    def applies(self) -> bool:
        """Whether there is such a rule at all."""
        return self.most > 0

    def is_adult(self, account: PatronAccount, today: date) -> bool:
        """Whether somebody counts as an adult."""
        if account.birth_date is None:
            return not account.juvenile
        return age_of(account.birth_date, today) >= self.from_age

    def count(self, patrons: Iterable[int], accounts: Mapping[int, PatronAccount]) -> int:
        """How many of some patrons count as adults today."""
        today = datetime.now(UTC).date()
        return sum(self.is_adult(accounts[id], today) for id in patrons)
