"""Find groups with more adults than the library wants in one, if the library has set a maximum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from evergreen_groups.audit.findings import FindingKind, Reason
from evergreen_groups.audit.queries import GroupsToJudge, has_members
from evergreen_groups.audit.search import list_groups
from evergreen_groups.audit.store import GroupDraft
from evergreen_groups.groups import ACCOUNT_FIELDS, AdultRule, Groups, PatronAccount, PatronRow, Query

if TYPE_CHECKING:
    from evergreen_groups.audit.search import SearchContext


def find_groups_of_adults(context: SearchContext) -> None:
    """Search for groups with too many adults. Does nothing if the rule is off."""
    rule = context.adults
    if not rule.applies:
        return
    today, visible = context.now.date(), context.visible_orgs
    query = GroupsOfAdults(rule=rule, today=today, homes=context.chosen, visible_orgs=visible)

    def judge(groups: Mapping[int, Sequence[PatronRow]], records: Mapping[int, Sequence[Any]]) -> Iterator[GroupDraft]:
        accounts = {id: PatronAccount.of(values, context.now) for id, values in records.items()}
        for members in groups.values():
            # Hidden members' ages are unknown, so this counts visible adults. A GroupDraft makes it a lower bound.
            count = rule.count((row.id for row in members), accounts)
            if count > rule.most:
                reason = Reason("several-adults", {"count": count, "most": rule.most})
                yield GroupDraft(tuple(members), (reason,), FindingKind.SEVERAL_ADULTS)

    list_groups(context, query, ACCOUNT_FIELDS, judge)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsOfAdults(GroupsToJudge):
    """The query for groups that may have too many adults ``today``. Some turn out not to.

    A real Evergreen answers it in ``work-list-001`` (more than one adult), ``work-list-003`` (for a branch),
    ``work-list-005`` (for one library) and ``work-list-007`` (more than two adults).
    """

    rule: AdultRule
    today: date

    def _found_by(self, within: Groups) -> tuple[Query, list[Query]]:
        """Match each adult of a group, and count the group's adults."""
        patron: Query = {"deleted": "f", "-and": [*within.conditions(), self._adult()]}
        return patron, [has_members(self._adult(), ">", self.rule.most)]

    def _adult(self) -> Query:
        # Use the end of the year: patrons who come of age this year are checked again with their exact birth date.
        latest = f"{self.today.year - self.rule.from_age}-12-31"
        return {"-or": [{"dob": {"<=": latest}}, {"-and": [{"dob": None}, {"juvenile": "f"}]}]}
