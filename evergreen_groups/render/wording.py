"""Sentences of the table and the page, and values as people read them."""

from __future__ import annotations

from calendar import month_name
from datetime import date, datetime
from typing import TYPE_CHECKING

from evergreen_groups.money import NOTHING, amount
from evergreen_groups.policy import Comparison, Limit
from evergreen_groups.render.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from evergreen_groups.groups import Group
    from evergreen_groups.report import Choice, Criteria

TITLE = "Groups with high combined fines"
CONFIDENTIAL = "Holds names and barcodes of patrons: keep it confidential."
NOTHING_FOUND = "No group owes that much. There is nothing to list."

_SORT_ORDERS = {
    "total": "highest combined fines first",
    "age": "those who have owed longest first",
    "members": "most members first",
    "name": "by the name of the lead",
    "library": "by library",
}


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Write a count with its noun: ``1 group``, ``1,200 groups``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def signed(value: Decimal) -> str:
    """Write a difference: ``+1,234.50``, ``-3.25``, ``0.00``."""
    return f"+{amount(value)}" if value > 0 else amount(value)


def price(value: Decimal) -> str:
    """An amount with its currency, as the staff clients write it.

    >>> from decimal import Decimal
    >>> price(Decimal("1234.5")), price(Decimal("-1.50")), price(Decimal("0"))
    ('$1,234.50', '-$1.50', '$0.00')
    """
    # Dollars are what both clients have unless their site has translated them otherwise.
    text = amount(value)
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def hidden_members(group: Group, total: str, money: Callable[[Decimal], str] = amount) -> str:
    """Say how many members are hidden, and whether what they owe is in ``total``, such as "the group fines".

    ``money`` writes amounts as what stands around it has them.
    """
    who = counted(group.hidden_member_count, "member is", "members are")
    if group.hidden_fines is None:
        return f"{who} hidden from this account; what they owe is not known and not in {total}."
    return f"{who} hidden from this account; they owe {money(group.hidden_fines)}, which is in {total}."


def local_time(moment: datetime) -> str:
    """Write a moment in this machine's time zone, as ``2026-08-01 03:15:00+02:00``."""
    return moment.astimezone().isoformat(sep=" ", timespec="seconds")


def long_day(moment: date) -> str:
    """A day as letters have it; of a moment, the day in this machine's time zone.

    >>> from datetime import date
    >>> long_day(date(2026, 8, 1))
    '1 August 2026'
    """
    day = moment.astimezone() if isinstance(moment, datetime) else moment
    return f"{day.day} {month_name[day.month]} {day.year}"


def clock_time(moment: datetime) -> str:
    """The time of a moment in this machine's time zone, as ``09:05``."""
    return f"{moment.astimezone():%H:%M}"


def title_of(criteria: Criteria, name: str = "") -> str:
    """The title of a report, with its name where it has one, and the library where it is about one alone."""
    title = f"{TITLE} ({printable(name)})" if name else TITLE
    return f"{title}: {printable(criteria.orgs[0])}" if len(criteria.orgs) == 1 else title


def listed(criteria: Criteria) -> str:
    """Say in a sentence which groups the report lists, and in which order."""
    words = f"Groups of {criteria.min_members} or more that together owe {amount(criteria.min_total)} or more"
    if criteria.orgs:
        words += f", with a member whose home library is {_either(criteria.orgs)} or below"
    words += "".join(f", {part}" for part in _chosen(criteria.choice))
    if criteria.top is not None:
        words += f"; at most {criteria.top:,}"
    return f"{words}; {_SORT_ORDERS[criteria.sort]}"


def _chosen(choice: Choice) -> Iterator[str]:
    """Say what else is asked of a group."""
    if choice.owing_since is not None:
        yield f"owing for {counted(choice.owing_since, 'day')} or more"
    if choice.kinds:
        yield f"owing for {_either(choice.kinds)}"
    if choice.with_items_out:
        yield "with overdue items that can be returned"
    if choice.with_juvenile:
        yield "with a juvenile member"
    if choice.profiles:
        yield f"with a member who has the profile {_either(choice.profiles)}, or one below"
    if choice.over_limit is not None:
        yield "with a member over the limit" if choice.over_limit else "with no member over the limit"
    if choice.blocked:
        yield "with a member who is blocked for fines in Evergreen"


def _either(shortnames: tuple[str, ...]) -> str:
    names = [printable(name) for name in shortnames]
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def describe_limit(limit: Limit) -> str:
    """Say which own fines are over the limit: ``more than 5.00``."""
    if limit.amount is None:
        return "none"
    if limit.comparison is Comparison.REACHES:
        return f"{amount(limit.amount)} or more"
    return f"more than {amount(limit.amount)}"


def information_only(limit: Limit | None) -> str:
    """Say that the group's total blocks nobody, and what does; None: each member has a limit of their own."""
    rule = "The combined fines of a group block nobody. "
    if limit is None:
        return rule + (
            "Each member has a limit by profile and home library, and is over it only with own fines; "
            "the ILS's own limits may count those of some libraries alone."
        )
    if limit.amount is None:
        return rule + "There is no limit for a member's own fines either."
    return rule + f"A member is over the limit only with own fines of {describe_limit(limit)}."


def explain_no_member_over_limit(limit: Limit | None) -> str:
    """Explain the mark of a group that owes more than one person may, while none of its members does."""
    return f"together they owe more than {one_may(limit)}, but none of them is over the limit"


def one_may(limit: Limit | None) -> str:
    """Say what one member may owe themselves."""
    return "one of them may" if limit is None else amount(limit.amount or NOTHING)


def describe_incomplete(group: Group) -> str:
    """Say what is missing of an incomplete group, and whether its total counts it."""
    hidden = group.hidden_member_count
    who = f"{hidden:,} of {group.member_count:,} members can't be seen by this account"
    if group.hidden_fines is None:
        return f"incomplete: {who}; what they owe is not known and not counted"
    return f"incomplete: {who}; they owe {amount(group.hidden_fines)}, which is counted"
