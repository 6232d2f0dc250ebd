"""What changed since the run before: a cell in the table of groups, and a section of the groups that are cleared."""

from __future__ import annotations

from evergreen_groups.money import NOTHING, amount
from evergreen_groups.render import Markup, counted, element, joined, printable, section
from evergreen_groups.render.report import CLEARED, CLEARED_WORDS, cleared_lead, cleared_now, cleared_remarks, signed
from evergreen_groups.report import ChangeKind, Changes, GroupChange

SHOWN_UNFOLDED = 10
"""The greatest number of cleared groups that aren't folded away."""

_HEADINGS = ("Group", "Lead", "Library", "Owed before", "Owes now", "Remarks")


def change_cell(change: GroupChange | None) -> Markup:
    """The difference, by which the script sorts, and what it is called."""
    if change is None:
        return element("td")
    parts = [element("span", signed(change.difference), class_=change.kind.value)]
    if change.kind is ChangeKind.NEW:
        parts.append(element("strong", "new", class_="badge"))
    elif change.kind is not ChangeKind.UNCHANGED:
        parts.append(element("small", change.kind.value))
    if not change.certain:
        parts.append(element("small", "not certain"))
    return element("td", *parts)


def cleared_section(changes: Changes) -> Markup:
    """The groups that are no longer listed; nothing where there are none."""
    if not changes.cleared:
        return Markup()
    head = element("thead", element("tr", *[element("th", word, scope="col") for word in _HEADINGS]))
    body = element("tbody", *map(_row, changes.cleared))
    table = element("table", element("caption", CLEARED), head, body, class_="cleared")
    if len(changes.cleared) > SHOWN_UNFOLDED:
        table = element("details", element("summary", counted(len(changes.cleared), "group")), table)
    return section("cleared", CLEARED, element("p", CLEARED_WORDS), table)


def _row(change: GroupChange) -> Markup:
    return element(
        "tr",
        element("th", str(change.group), scope="row"),
        element("td", element("bdi", cleared_lead(change))),
        element("td", printable(change.library)),
        element("td", amount(change.before or NOTHING)),
        element("td", cleared_now(change)),
        element("td", joined(cleared_remarks(change))),
    )
