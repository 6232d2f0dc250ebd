"""What is owed for, since when, and what is out, in words and in the keys of documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evergreen_groups.language import current_language, day, describe_total, gettext, ngettext, npgettext, pgettext
from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import printable, total_document

if TYPE_CHECKING:
    from evergreen_groups.ils import BillKind, UnreturnedItems
    from evergreen_groups.report import KindSum, MemberDetails, SummedDetails


def describe_kinds(kinds: Iterable[KindSum]) -> str:
    """Say what is owed by kind: ``lost materials: $23.00, overdue materials: $0.50``."""
    return ", ".join(_kinds(kinds))


def _kinds(kinds: Iterable[KindSum]) -> Iterator[str]:
    for one in kinds:
        kind = _described_kind(one.kind, current_language().tag)
        yield gettext("{kind}: {amount}", kind=kind, amount=one.balance)


# There are a dozen kinds of bills, and a hundred thousand bills.
@lru_cache(maxsize=1024)
def _described_kind(kind: BillKind, _tag: str) -> str:
    return printable(kind.describe())


def describe_group_details(details: SummedDetails) -> str:
    """Say in one sentence what a group owes for, since when, and whether it can return anything or only pay."""
    return "; ".join(_of_group(details))


def _of_group(details: SummedDetails) -> Iterator[str]:
    parts = list(_kinds(details.kinds))
    if details.not_known is None or details.not_known:
        parts.append(gettext("not known for what: {amount}", amount=describe_total(details.not_known)))
    yield ", ".join(parts)
    if details.owing_since is not None:
        since = day(details.owing_since)
        at_least = gettext("owing since {day} or longer", day=since)
        yield gettext("owing since {day}", day=since) if details.certain else at_least
    if details.last_payment is not None:
        yield gettext("last paid {day}", day=day(details.last_payment))
    yield describe_returnable(details)


def describe_returnable(details: SummedDetails) -> str:
    """Say what of a group is overdue and lost, and whether anything can still be returned or only paid."""
    items = describe_items(details.items)
    if not details.items_certain and items:
        items = gettext("at least {total}", total=items)
    if details.returnable:
        return gettext("{items}: can still be returned", items=items)
    if details.returnable is None:
        more = gettext("{items}, items overdue not known", items=items)
        return more if items else gettext("items overdue not known")
    nothing = gettext("nothing to return: can only be paid")
    return gettext("{items}, nothing to return: can only be paid", items=items) if items else nothing


def describe_items(items: UnreturnedItems) -> str:
    """Say how many items are overdue and lost: ``2 items overdue, 1 lost``; empty where none is."""
    overdue, lost = items.overdue, items.lost
    if not overdue:
        return ngettext("{count} item lost", "{count} items lost", lost) if lost else ""
    words = ngettext("{count} item overdue", "{count} items overdue", overdue)
    return f"{words}, {npgettext('items', '{count} lost', '{count} lost', lost)}" if lost else words


def describe_member_details(details: MemberDetails) -> str:
    """Say the same of a member, and what there is to their record; empty where there is nothing to say."""
    return "; ".join(filter(None, _of_member(details)))


def _of_member(details: MemberDetails) -> Iterator[str]:
    if details.owed is None:
        yield gettext("not known for what")
    elif details.owed.kinds:
        yield describe_kinds(details.kinds or ())
        if details.owing_since is not None:
            yield gettext("since {day}", day=day(details.owing_since))
        if details.last_payment is not None:
            yield gettext("last paid {day}", day=day(details.last_payment))
    yield gettext("items overdue not known") if details.items is None else describe_items(details.items)
    yield describe_state(details)


def describe_state(details: MemberDetails) -> str:
    """Say what there is to a member's record: ``juvenile, expired``; empty for an adult's that is in order."""
    return ", ".join(_of_state(details))


def _of_state(details: MemberDetails) -> Iterator[str]:
    if details.state.juvenile:
        yield pgettext("remark about a member", "juvenile")
    if details.state.expired:
        yield pgettext("remark about a member", "expired")
    if details.state.barred:
        yield pgettext("remark about a member", "barred")


def group_details_document(details: SummedDetails) -> dict[str, Any]:
    """A group's details as keys of a JSON object; ``kinds`` and ``kinds_not_known`` add up to the combined fines."""
    return {
        "kinds": _kinds_document(details.kinds),
        "kinds_not_known": plain_amount_or_none(details.not_known),
        "kinds_complete": details.certain,
        "owing_since": _moment(details.owing_since),
        "last_payment": _moment(details.last_payment),
        **total_document("items_overdue", details.overdue),
        **total_document("items_lost", details.lost),
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
