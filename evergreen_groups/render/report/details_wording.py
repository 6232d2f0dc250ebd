"""What is owed for, since when, and what is out, in words and in the keys of documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evergreen_groups.money import amount, plain_amount
from evergreen_groups.render import counted, printable

if TYPE_CHECKING:
    from evergreen_groups.ils import UnreturnedItems
    from evergreen_groups.report import KindSum, MemberDetails, SummedDetails

NOT_KNOWN = "not known"


def day(moment: datetime) -> str:
    """The day of a moment in this machine's time zone: ``2026-03-02``."""
    return f"{moment.astimezone():%Y-%m-%d}"


def describe_kinds(kinds: Iterable[KindSum]) -> str:
    """Say what is owed by kind: ``lost materials 23.00, overdue materials 0.50``."""
    return ", ".join(f"{printable(one.kind.text)} {amount(one.balance)}" for one in kinds)


def describe_group_details(details: SummedDetails) -> str:
    """Say in one sentence what a group owes for, since when, and whether it can return anything or only pay."""
    return "; ".join(_of_group(details))


def _of_group(details: SummedDetails) -> Iterator[str]:
    parts = [describe_kinds(details.kinds)] if details.kinds else []
    if details.not_known:
        parts.append(f"{NOT_KNOWN} for what {amount(details.not_known)}")
    yield ", ".join(parts)
    if details.owing_since is not None:
        yield f"owing since {day(details.owing_since)}{'' if details.certain else ' or longer'}"
    if details.last_payment is not None:
        yield f"last paid {day(details.last_payment)}"
    yield describe_returnable(details)


def describe_returnable(details: SummedDetails) -> str:
    """Say what of a group is overdue and lost, and whether anything can still be returned or only paid."""
    items = describe_items(details.items)
    if details.returnable:
        return f"{items}: can still be returned{'' if details.items_certain else ', perhaps more'}"
    if details.returnable is None:
        return f"{items + ', ' if items else ''}items overdue {NOT_KNOWN}"
    return f"{items + ', ' if items else ''}nothing to return: can only be paid"


def describe_items(items: UnreturnedItems) -> str:
    """Say how many items are overdue and lost: ``2 items overdue, 1 lost``; empty where none is."""
    overdue, lost = items.overdue, items.lost
    if overdue:
        return f"{counted(overdue, 'item')} overdue{f', {lost:,} lost' if lost else ''}"
    return f"{counted(lost, 'item')} lost" if lost else ""


def describe_member_details(details: MemberDetails) -> str:
    """Say the same of a member, and what there is to their record; empty where there is nothing to say."""
    return "; ".join(filter(None, _of_member(details)))


def _of_member(details: MemberDetails) -> Iterator[str]:
    if details.bills is None:
        yield f"{NOT_KNOWN} for what"
    elif details.bills:
        yield describe_kinds(details.kinds or ())
        if details.owing_since is not None:
            yield f"since {day(details.owing_since)}"
        if details.last_payment is not None:
            yield f"last paid {day(details.last_payment)}"
    yield f"items overdue {NOT_KNOWN}" if details.items is None else describe_items(details.items)
    yield describe_state(details)


def describe_state(details: MemberDetails) -> str:
    """Say what there is to a member's record: ``juvenile, expired``; empty for an adult's that is in order."""
    state = details.state
    words = {"juvenile": state.juvenile, "expired": state.expired, "barred": state.barred}
    return ", ".join(word for word, is_so in words.items() if is_so)


def group_details_document(details: SummedDetails) -> dict[str, Any]:
    """A group's details as keys of a JSON object; ``kinds`` and ``kinds_not_known`` add up to the combined fines."""
    return {
        "kinds": _kinds_document(details.kinds),
        "kinds_not_known": plain_amount(details.not_known),
        "kinds_complete": details.certain,
        "owing_since": _moment(details.owing_since),
        "last_payment": _moment(details.last_payment),
        "items_overdue": details.items.overdue,
        "items_lost": details.items.lost,
        "items_complete": details.items_certain,
        "returnable": details.returnable,
    }


def member_details_document(details: MemberDetails) -> dict[str, Any]:
    """A member's details as keys of a JSON object; null where something isn't known, and for no date."""
    items = details.items
    return {
        "kinds": None if details.kinds is None else _kinds_document(details.kinds),
        "owing_since": _moment(details.owing_since),
        "last_payment": _moment(details.last_payment),
        "items_overdue": None if items is None else items.overdue,
        "items_lost": None if items is None else items.lost,
        "juvenile": details.state.juvenile,
        "expired": details.state.expired,
        "barred": details.state.barred,
        "profile": details.profile,
    }


def _kinds_document(kinds: Iterable[KindSum]) -> list[dict[str, Any]]:
    return [
        {
            "kind": one.kind.text,
            "transaction": one.kind.transaction,
            "billing_type": one.kind.billing_type or None,
            "balance": plain_amount(one.balance),
            "bill_count": one.bill_count,
        }
        for one in kinds
    ]


def _moment(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="seconds")
