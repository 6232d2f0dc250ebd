"""The groups that a report lists, out of those that were read: by its criteria, in its order, as many as wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.report.choice import Chooser
from evergreen_groups.report.models import Criteria, Report, Totals

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.report.blocks import FinesBlocks
    from evergreen_groups.report.details import ReportDetails

_LAST = float("inf")


def refuse_without_details(criteria: Criteria) -> None:
    """Look whether the criteria need what they say isn't to be read.

    Raises:
        ConfigurationError: they do.
    """
    if not criteria.details and (criteria.choice.needs_details or criteria.sort == "age"):
        raise ConfigurationError(
            "groups can be chosen, or sorted by the age of what they owe, only where the report reads what "
            "members owe for",
            advice='with details = "full" it does',
            setting="report.details",
            code="choice-without-details",
        )


def meeting_sums(groups: Iterable[Group], criteria: Criteria) -> list[Group]:
    """The groups that are large enough and owe enough, or may owe enough as far as the account can see.

    Even of groups that the ILS found it's looked at once more: a balance may have changed since it did its sums.
    """
    return [
        group
        for group in groups
        if group.member_count >= criteria.min_members
        and (group.known_fines >= criteria.min_total or group.hidden_fines is None)
    ]


def chosen(report: Report, criteria: Criteria) -> Report:
    """The report of those of its groups that meet the criteria, which must not be wider than its own.

    A group of which it isn't known whether it fits a choice isn't listed; a note says how many those are. Org units
    are left to :func:`for_libraries`.

    Raises:
        ConfigurationError: the criteria name a profile that isn't there, or need details that weren't read.
    """
    refuse_without_details(replace(criteria, details=report.details is not None))
    groups = meeting_sums(report.groups, criteria)
    notes = report.notes
    if criteria.choice.document():
        chooser = Chooser(criteria.choice, report.details, _blocks(report), report.generated_at)
        verdicts = [(group, chooser.fits(group)) for group in groups]
        groups = [group for group, fits in verdicts if fits]
        unknown = sum(fits is None for _group, fits in verdicts)
        if unknown:
            more = Message(
                "Not listed: {count} more that owes enough, and may fit as far as the account can see.",
                plural="Not listed: {count} more that owe enough, and may fit as far as the account can see.",
                values={"count": unknown},
            )
            notes = (*notes, more)
    # The highest fines first, of equal ones the lowest number; in two steps, so that no sums are made to sort by.
    groups.sort(key=attrgetter("number"))
    groups.sort(key=attrgetter("known_fines"), reverse=True)
    count = len(groups) if criteria.top is None else criteria.top
    listed = sorted(groups[:count], key=_sort_key(criteria.sort, report.details))
    left_out = tuple(groups[count:])
    return replace(
        report,
        criteria=criteria,
        groups=tuple(listed),
        totals=Totals.of(listed),
        notes=notes,
        left_out_count=len(left_out),
        left_out=left_out,
    )


def _blocks(report: Report) -> FinesBlocks:
    if report.blocks is None:
        raise ValueError("a report is chosen from with its blocks")
    return report.blocks


def _sort_key(sort: str, details: ReportDetails | None) -> Callable[[Group], tuple[object, ...]]:
    def age(group: Group) -> tuple[object, ...]:
        since = details.of_group(group).owing_since if details is not None else None
        return (_LAST if since is None else since.timestamp(),)

    keys: dict[str, Callable[[Group], tuple[object, ...]]] = {
        "total": lambda _group: (),
        "members": lambda group: (-group.member_count,),
        "name": lambda group: (name_key(group.lead.name),),
        "library": lambda group: (name_key(group.library),),
        "age": age,
    }
    return keys[sort]
