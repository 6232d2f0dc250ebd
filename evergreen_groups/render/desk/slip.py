"""The slip for parents: what the family has out, what they can pick up, and what they owe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.ils import CirculationKind
from evergreen_groups.language import day, gettext
from evergreen_groups.message import Message
from evergreen_groups.render import template_text

if TYPE_CHECKING:
    from evergreen_groups.desk import FamilyItems, GroupBills, MemberBills
    from evergreen_groups.ils import ItemOut, ReadyHold
    from evergreen_groups.settings import StatementSettings

_OVERDUE = Message("Overdue: due {day}")
_DUE: Mapping[CirculationKind | None, Message] = {
    CirculationKind.OVERDUE: _OVERDUE,
    CirculationKind.LONG_OVERDUE: _OVERDUE,
    CirculationKind.LOST: Message("Lost: due {day}"),
    CirculationKind.OUT: Message("Due {day}"),
}
_RENEWABLE = (CirculationKind.OUT, CirculationKind.OVERDUE)
_RENEWALS = Message("{count} renewal left", plural="{count} renewals left")
_SEVERAL = Message("{count} item", plural="{count} items")
_NOT_VISIBLE = Message("Holds are not listed here. Ask at the desk.")
_SOME_HOLDS = Message("Holds at other libraries may not be listed.")


@dataclass(frozen=True, slots=True)
class SlipLine:
    """An item out or a hold. ``title`` is empty if none is shown, and so is ``renewals`` if it can't be renewed."""

    when: str
    title: str
    name: str
    library: str
    renewals: str = ""


def slip_page(family: FamilyItems, settings: StatementSettings) -> dict[str, Any]:
    """Return the slip as the templates show it. ``out`` and ``ready`` are lines, each with how many are equal."""
    statement, group = family.statement, family.statement.group
    others = [member.patron.name for member in statement.members if member.patron.id != statement.patron.id]
    holds = _counted(_hold(group, *pair) for pair in family.holds)
    hidden_holds = "" if family.all_holds else gettext(_SOME_HOLDS if holds else _NOT_VISIBLE)
    return {
        "library": settings.library or statement.library.name,
        "names": [statement.patron.name, *others],
        "at": group.at,
        "out": _counted(_item(group, *pair) for pair in family.items),
        "all_items": family.all_items,
        "ready": holds,
        "hidden_holds": hidden_holds,
        "owed": statement.owed,
    }


def _counted(lines: Iterable[SlipLine]) -> tuple[tuple[SlipLine, str], ...]:
    """Return the lines once each, in order. Without titles, many are equal: say of these how many items they are."""
    return tuple((line, gettext(_SEVERAL, count=count) if count > 1 else "") for line, count in Counter(lines).items())


def _item(group: GroupBills, member: MemberBills, item: ItemOut) -> SlipLine:
    if item.kind is CirculationKind.CLAIMS_RETURNED:
        when = gettext("Reported as returned, but not found")
    else:
        # In Evergreen's time zone: due times are usually 23:59:59, which is another day elsewhere.
        when = gettext(_DUE[item.kind], day=day(item.due.date())) if item.due else gettext("No due date")
    remaining = item.renewals if item.kind in _RENEWABLE else None
    renewals = "" if remaining is None else gettext(_RENEWALS, count=remaining)
    return _line(group, member, item, when, renewals)


def _hold(group: GroupBills, member: MemberBills, hold: ReadyHold) -> SlipLine:
    if hold.until is None:
        return _line(group, member, hold, gettext("No pickup deadline"))
    is_over = hold.until.date() < group.at.astimezone(hold.until.tzinfo).date()
    text = Message("Was held until {day}") if is_over else Message("Held until {day}")
    return _line(group, member, hold, gettext(text, day=day(hold.until.date())))


def _line(group: GroupBills, member: MemberBills, of: ItemOut | ReadyHold, when: str, renewals: str = "") -> SlipLine:
    title = (member.titles or {}).get(of.copy or 0, "")
    library = group.org_units.unit(of.library).name if of.library in group.org_units else ""
    return SlipLine(when, title, member.patron.name, library, renewals)


def write_slip(family: FamilyItems, settings: StatementSettings, stream: TextIO, *, width: int) -> None:
    """Write the slip as text, for a terminal or a receipt printer."""
    from evergreen_groups.render.columns import wrapped  # imports rich, which pages don't need

    for line in template_text("desk/slip.txt", sheet=slip_page(family, settings)).splitlines():
        text = line.lstrip()
        indent = line[: len(line) - len(text)]
        stream.writelines(f"{indent}{part}".rstrip() + "\n" for part in wrapped(text, max(width - len(indent), 1)))
