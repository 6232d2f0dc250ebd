"""What to look at before agreeing to a plan, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evergreen_groups.language import enumeration, filled, gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.render.safe_text import isolated
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.changes import PlanWarning

WARNINGS: Mapping[str, str] = {
    "card-not-active": Message("the card given for {name} is not active"),
    "account-barred": Message("the account of {name} is barred"),
    "account-not-active": Message("the account of {name} is not active"),
    "account-expired": Message("the account of {name} has expired"),
    "stranger-to-group": Message(
        "{name} shares no surname, address, phone, e-mail or library with anybody in group {group}"
    ),
    "borrowed-address": Message(
        "{name} uses an address that belongs to {owner}'s record: where one of the two changes it, it changes for both"
    ),
    "borrowed-address-of-another": Message(
        "{name} uses an address that belongs to the record of somebody outside these groups: where one of the two "
        "changes it, it changes for both"
    ),
    "lent-address": Message(
        "{borrower} stays and uses an address that belongs to {name}'s record: where one of the two changes it, it "
        "changes for both"
    ),
    "several-adults": "group {group} will have {count} adults, more than {most}: adults see each other's affairs there",
    "group-left-empty": Message("group {group} will be empty"),
    "last-member-leaves": Message("the last member leaves group {group}"),
    "left-alone": Message("{name} is left alone in group {group}"),
    "left-without-lead": "group {group} is left without a group lead; leaving: {names}; staying: {count} members",
    "several-leads": "group {group} will have {count} group leads: {names}",
    "hidden-members": "group {group} has {count} members that the account can't see",
}
"""What to look at before agreeing to a plan, by the code of the warning; those with a count for many."""


def describe_warning(warning: PlanWarning) -> str:
    """Describe a plan's warning; several names are joined."""
    values = {name: _written(value) for name, value in warning.values.items()}
    count, at_least = values.pop("count", None), values.pop("at_least", None)
    if isinstance(at_least, int):
        return _counted_warning(warning.code, at_least, {**values, "count": Total(at_least, exact=False)})
    if not isinstance(count, int):
        return gettext(WARNINGS[warning.code], **values)
    return _counted_warning(warning.code, count, values)


def _counted_warning(code: str, count: int, values: Mapping[str, object]) -> str:
    match code:
        case "several-adults":
            return ngettext(
                "group {group} will have {count} adult, more than {most}: adults see each other's affairs there",
                "group {group} will have {count} adults, more than {most}: adults see each other's affairs there",
                count,
                **values,
            )
        case "left-without-lead":
            return ngettext(
                "group {group} is left without a group lead; leaving: {names}; staying: {count} member",
                "group {group} is left without a group lead; leaving: {names}; staying: {count} members",
                count,
                **values,
            )
        case "several-leads":
            return ngettext(
                "group {group} will have {count} group lead: {names}",
                "group {group} will have {count} group leads: {names}",
                count,
                **values,
            )
        case "hidden-members":
            return ngettext(
                "group {group} has {count} member that the account can't see",
                "group {group} has {count} members that the account can't see",
                count,
                **values,
            )
    return filled(WARNINGS[code], {"count": count, **values})


def _written(value: object) -> object:
    if isinstance(value, tuple):
        return enumeration(isolated(name) for name in value)
    return isolated(value) if isinstance(value, str) else value
