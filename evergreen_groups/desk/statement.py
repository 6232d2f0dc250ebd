"""The family statement: what may be on the sheet that a parent takes home."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.groups import AdultRule
from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.desk.bills import GroupBills, MemberBills
    from evergreen_groups.groups import Patron, PatronAccount
    from evergreen_groups.ils import OrgUnit
    from evergreen_groups.settings import StatementSettings

_RULE = AdultRule(from_age=18)
"""From that age on somebody's affairs are on their own sheet alone, whatever the library's audit takes for an adult."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement says.

    ``members`` are those whose affairs may be on it; ``patron`` is the one it is for, and always among them.
    """

    group: GroupBills
    patron: Patron
    members: tuple[MemberBills, ...]

    @property
    def library(self) -> OrgUnit:
        """The library whose sheet it is."""
        return self.patron.home_library

    @property
    def owed(self) -> Decimal:
        """What the members on it owe together, credits counted; nobody else's fines are in it."""
        return sum((member.own_fines for member in self.members), NOTHING)


def make_statement(group: GroupBills, patron: int, settings: StatementSettings) -> Statement:
    """Choose what is on the statement for the patron with an id, as the library allows it.

    Adults beside that patron are left out as if they weren't there, unless the settings let them in: what they owe is
    in no sum, and the sheet reads alike whether there are any or not.
    """
    today = group.at.astimezone().date()
    members = tuple(_allowed(group, patron, settings, today))
    return Statement(group, next(member.patron for member in members if member.patron.id == patron), members)


def _allowed(group: GroupBills, patron: int, settings: StatementSettings, today: date) -> Iterator[MemberBills]:
    for member in group.members:
        if settings.adults or member.patron.id == patron or is_minor(member.account, today):
            yield member


def is_minor(account: PatronAccount, today: date) -> bool:
    """Whether somebody is under age: by the date of birth, or by the ILS's flag for juveniles where there is none."""
    return not _RULE.is_adult(account, today)
