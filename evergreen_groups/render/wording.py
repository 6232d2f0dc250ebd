"""Texts that several formats share: criteria, limits, penalties and standings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from evergreen_groups.groups import StandingDifference
from evergreen_groups.language import current_language, describe_total, enumeration, gettext, ngettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit
from evergreen_groups.render.text import printable

if TYPE_CHECKING:
    from datetime import date

    from evergreen_groups.groups import Group, Standing
    from evergreen_groups.ils import Penalty
    from evergreen_groups.report import Choice, Criteria
    from evergreen_groups.values import Total

TITLE = Message("Groups with high combined fines")
_FINES_OR_ITEMS = Message("Groups with high combined fines, or items overdue or lost")
_WITH_OVERDUE = Message("Groups with {count} or more items overdue", plural="Groups with {count} or more items overdue")
_WITH_LOST = Message("Groups with {count} or more items lost", plural="Groups with {count} or more items lost")
CONFIDENTIAL = Message("Contains names and barcodes of patrons: keep it confidential.")
LOWER_BOUND_NOTE = Message("+ means at least: the account can't see everything.")
"""Shown below a table whose totals are lower bounds."""
NOTHING_FOUND = Message("No groups to list.")
NOT_KNOWN = Message("not known")

_SORT_ORDERS = {
    "total": Message("highest Group Fines first"),
    "age": Message("longest owing first"),
    "members": Message("most members first"),
    "name": Message("by name"),
    "library": Message("by library"),
}


def hidden_members(group: Group) -> str:
    """Say how many members are hidden, and what they owe."""
    return ngettext(
        "{count} member is hidden from this account (fines: {owed}).",
        "{count} members are hidden from this account (fines: {owed}).",
        group.hidden_member_count,
        owed=describe_total(group.hidden_fines),
    )


def report_heading(criteria: Criteria) -> str:
    """Say which groups a report lists: ``Groups with 3 or more items overdue``."""
    if criteria.asks_for_fines:
        return gettext(_FINES_OR_ITEMS if criteria.asks_for_items else TITLE)
    if criteria.min_overdue and criteria.min_lost:
        return gettext("Groups with items overdue or lost")
    items = _WITH_OVERDUE if criteria.min_overdue else _WITH_LOST
    return gettext(items, count=criteria.min_overdue or criteria.min_lost)


def report_title(criteria: Criteria, name: str = "") -> str:
    """Return the title of a report, with its name and, if it covers a single library, the library."""
    title = report_heading(criteria)
    if name:
        title = f"{title} ({printable(name)})"
    if len(criteria.orgs) == 1:
        title = gettext("{label}: {value}", label=title, value=printable(criteria.orgs[0]))
    return title


def describe_criteria(criteria: Criteria) -> str:
    """Describe in one sentence which groups the report lists, and in which order."""
    words = ", ".join(_conditions(criteria))
    if criteria.top is not None:
        words += "; " + gettext("at most {count:,}", count=criteria.top)
    by_items = criteria.sort == "total" and not criteria.asks_for_fines
    return f"{words}; {gettext(_most_items_first(criteria) if by_items else _SORT_ORDERS[criteria.sort])}"


def _most_items_first(criteria: Criteria) -> Message:
    return Message("most items overdue first") if criteria.min_overdue else Message("most items lost first")


def _conditions(criteria: Criteria) -> Iterator[str]:
    """Yield the conditions, the first of which names the groups and the others qualify them."""
    if criteria.asks_for_items:
        yield ngettext(
            "Groups of {count} or more members who together {conditions}",
            "Groups of {count} or more members who together {conditions}",
            criteria.min_members,
            conditions=enumeration(_alternatives(criteria), "or"),
        )
    else:
        yield ngettext(
            "Groups of {count} or more members who together owe {fines} or more",
            "Groups of {count} or more members who together owe {fines} or more",
            criteria.min_members,
            fines=criteria.min_total,
        )
    if criteria.orgs:
        yield gettext("with a member at {libraries} or below", libraries=_any_of(criteria.orgs))
    if not criteria.asks_for_items:
        yield from _fines_conditions(criteria.choice)
    yield from _filter_conditions(criteria.choice)


def _alternatives(criteria: Criteria) -> Iterator[str]:
    """Yield the conditions of which a group must meet one, without their subject."""
    if criteria.asks_for_fines:
        narrowed = list(_fines_conditions(criteria.choice))
        yield ", ".join([gettext("owe {fines} or more", fines=criteria.min_total), *narrowed])
    if criteria.min_overdue:
        overdue = ngettext(
            "have {count} or more items overdue", "have {count} or more items overdue", criteria.min_overdue
        )
        days = criteria.overdue_days
        yield (
            overdue
            if not days
            else ngettext(
                "{overdue} for {count} day or more", "{overdue} for {count} days or more", days, overdue=overdue
            )
        )
    if criteria.min_lost:
        yield ngettext("have {count} or more items lost", "have {count} or more items lost", criteria.min_lost)


def _fines_conditions(choice: Choice) -> Iterator[str]:
    """Yield the conditions that narrow only the condition on fines."""
    if choice.owing_since is not None:
        yield ngettext("owing for {count} day or more", "owing for {count} days or more", choice.owing_since)
    if choice.kinds:
        yield gettext("owing for {kinds}", kinds=_any_of(choice.kinds))


def _filter_conditions(choice: Choice) -> Iterator[str]:
    if choice.with_items_out:
        yield gettext("with items overdue")
    if choice.with_juvenile:
        yield gettext("with a juvenile member")
    if choice.profiles:
        yield gettext("with a member of profile {profiles} or below", profiles=_any_of(choice.profiles))
    if choice.over_limit is not None:
        over, within = gettext("with a member over the limit"), gettext("with no member over the limit")
        yield over if choice.over_limit else within
    if choice.blocked:
        yield gettext("with a member blocked in Evergreen")


def _any_of(names: Iterable[str]) -> str:
    return enumeration(map(printable, names), "or")


def describe_limit(limit: Limit) -> str:
    """Say which own fines are over the limit: ``more than $5.00``."""
    if limit.amount is None:
        return pgettext("limit", "none")
    if limit.comparison is Comparison.REACHES:
        return gettext("{amount} or more", amount=limit.amount)
    return gettext("more than {amount}", amount=limit.amount)


def information_only(limit: Limit | None) -> str:
    """Say that only own fines count toward the limit. None: limits differ between patrons."""
    if limit is None:
        return gettext("Only a member's own fines count toward the limit, which depends on profile and home library.")
    if limit.amount is None:
        return gettext("There is no limit for own fines, so no member is over it.")
    return gettext("Only a member's own fines count toward the {amount} limit.", amount=limit.amount)


def explain_no_member_over_limit(count: Total[int]) -> str:
    """Explain the mark of groups whose total exceeds the limit although no member does."""
    return ngettext(
        "in {count} group, the members together owe more than the limit, but no member is over it.",
        "in {count} groups, the members together owe more than the limit, but no member is over it.",
        count.at_least,
        count=count,
    )


def describe_incomplete(group: Group) -> str:
    """Say how many members are hidden from an incomplete group, and what they owe."""
    return gettext("{label}: {value}", label=pgettext("groups", "incomplete"), value=hidden_members(group))


DIFFERENCES: Mapping[StandingDifference, Message] = {
    StandingDifference.NOT_YET_BLOCKED: Message("over the limit, not yet blocked in Evergreen"),
    StandingDifference.NOW_WITHIN_LIMIT: Message("blocked in Evergreen, own fines within the limit"),
}
"""How the rule and Evergreen's blocks disagree."""


def describe_penalty(penalty: Penalty) -> str:
    """Describe a penalty: ``STAFF_CHR at BR1, by staff, since 2 Nov 2026``."""
    since = penalty.set_date.date() if penalty.set_date else None  # in Evergreen's time zone
    return _described(current_language().tag, penalty.kind.name, penalty.org_unit.shortname, penalty.by_staff, since)


# A report has tens of thousands of penalties, but few combinations of kind, library and day. The tag is a cache key.
@lru_cache(maxsize=4096)
def _described(_tag: str, kind: str, library: str, by_staff: bool, since: date | None) -> str:
    parts = [gettext("{penalty} at {library}", penalty=printable(kind), library=printable(library))]
    if by_staff:
        parts.append(gettext("by staff"))
    if since:
        parts.append(gettext("since {day}", day=since))
    return ", ".join(parts)


def penalty_cell(penalty: Penalty) -> str:
    """Describe a penalty for a CSV cell, in English: ``STAFF_CHR at BR1, by staff, since 2026-11-02``."""
    by_staff = ", by staff" if penalty.by_staff else ""
    since = f", since {penalty.set_date:%Y-%m-%d}" if penalty.set_date else ""
    return printable(f"{penalty.kind.name} at {penalty.org_unit.shortname}{by_staff}{since}")


def explain_standing(standing: Standing, *, not_yet: bool = True, within: bool = True) -> Iterator[str]:
    """Yield where the rule and Evergreen's penalties disagree, and other blocks; each text lacks its final period.

    ``not_yet``: say of an unblocked member over the limit that a recalculation would block them. ``within``: say of a
    blocked member that they are within the limit.
    """
    blocks = "; ".join(map(describe_penalty, standing.blocks_for_fines))
    if standing.difference is StandingDifference.NOT_YET_BLOCKED:
        not_blocked = Message("over the limit, not blocked in Evergreen")
        yield gettext(DIFFERENCES[standing.difference] if not_yet else not_blocked)
    elif blocks and (standing.difference is not None or standing.over_limit is None):
        blocked = Message("blocked in Evergreen")
        label = DIFFERENCES[standing.difference] if standing.difference and within else blocked
        yield gettext("{label}: {value}", label=label, value=blocks)
    yield from map(describe_other_block, standing.other_blocks)


def describe_other_block(penalty: Penalty) -> str:
    """Describe a block that isn't for fines, without a final period."""
    return gettext("blocked in Evergreen for something else: {penalty}", penalty=describe_penalty(penalty))


NOT_DECIDED = Message("Not known whether over the limit: the account can't see the limit.")
