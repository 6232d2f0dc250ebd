"""A plan as the desk shows it for confirmation: one question, a line per group, and what to check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.changes import GROUP, MOST_PATRONS
from evergreen_groups.language import gettext, ngettext, npgettext, number, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render import isolated, printable, sentence
from evergreen_groups.render.plans import GroupNames, describe_warning, group_line
from evergreen_groups.render.text import capitalized

if TYPE_CHECKING:
    from evergreen_groups.changes import Draft, PlannedGroup, Step
    from evergreen_groups.desk import Namesake


def plan_page(draft: Draft, action: str, this_group: int | None, namesakes: Mapping[int, Namesake]) -> dict[str, Any]:
    """Return the values for the page of ``this_group`` with a plan. ``action`` is the form's name for the change.

    ``namesakes`` has, by id, what tells patrons of one name apart.
    """
    expected = _EXPECTED.get(action, _EXPECTED_ANYWHERE)
    # A new group holds only the patron named in the step, so there is nothing more to show.
    groups = {group.before.number: group for group in draft.groups if group.before is not None}
    known = [group.before for group in groups.values() if group.before and group.before.members]
    names = GroupNames(this_group, {group.number: group.lead.name for group in known})
    warnings = tuple(
        sentence(describe_warning(one, names))
        for one in draft.warnings
        if one.code not in expected and action not in ("undo", "redo")  # the group was like that before
    )
    texts = _TEXTS[action]
    return {
        "title": gettext(texts.confirm),  # without names, because page titles stay in the browser's history
        "heading": _heading(draft, action, names),
        "confirm": gettext(texts.anyway if warnings and texts.anyway else texts.confirm),
        "note": gettext(_NOTES.get(action, "")) if draft.steps else "",
        "people": tuple((step.member, tuple(_facts(step, namesakes.get(step.member.id)))) for step in draft.steps),
        "namesakes": {id: tuple(_what_tells(one)) for id, one in namesakes.items()},
        # A move writes the group only. A lead keeps the flag, even if the new group already has a lead.
        "stays_lead": any(step.field == GROUP for step in draft.steps),
        "groups": tuple(_group(group, capitalized(names.name(number))) for number, group in groups.items()),
        "warnings": warnings,
        "family": _rest_of_family(draft) if action == "join" else None,
        # Of patrons who join, a message says who is there already.
        "unchanged": tuple(sentence(printable(gettext(text))) for text in draft.unchanged if action != "join"),
    }


class _Texts(NamedTuple):
    """The question that a plan asks, and its button: ``anyway`` if there are warnings, and if that is another one."""

    question: Message
    confirm: Message
    anyway: Message | None = None


_TEXTS = {
    "join": _Texts(Message("Move {who} here?"), Message("Move", context="a button"), Message("Move anyway")),
    "move": _Texts(Message("Move {who} to {group}?"), Message("Move", context="a button"), Message("Move anyway")),
    "remove": _Texts(
        Message("Remove {who} from the group?"), Message("Remove", context="a button"), Message("Remove anyway")
    ),
    "merge": _Texts(
        Message("Merge this group into {group}?"), Message("Merge", context="a button"), Message("Merge anyway")
    ),
    "lead": _Texts(Message("Make {who} group lead?"), Message("Make group lead", context="a button")),
    "no-lead": _Texts(Message("Remove {who} as group lead?"), Message("Remove as lead", context="a button")),
    "recalculate": _Texts(Message("Refresh the penalties of {who}?"), Message("Refresh penalties", context="a button")),
    "undo": _Texts(Message("Undo this change?"), Message("Undo")),
    "redo": _Texts(Message("Redo this change?"), Message("Redo")),
}
"""Texts by the form's name for the change."""
_NOTES = {
    "remove": Message("Each removed patron gets a separate new group."),
    "recalculate": Message("Evergreen checks the members whose block may be out of date. It may set or lift a block."),
}


# Emptying a group is no reason to warn where that is the point: a single patron joins a family, or two families merge.
_EXPECTED_ANYWHERE = frozenset({"last-member-leaves"})
_EXPECTED = dict.fromkeys(("merge", "join"), _EXPECTED_ANYWHERE | {"group-left-empty"})


def _heading(draft: Draft, action: str, names: GroupNames) -> str:
    if not draft.steps:
        return gettext("Nothing to do")
    step = draft.steps[0]
    count = len({step.member.id for step in draft.steps})
    who = isolated(step.member.name)
    if count > 1:
        who = npgettext("whom a change is about", "{count} patron", "{count} patrons", count)
    elif action == "join" and names.leads.get(step.before) != step.member.name:
        return gettext("Move {who} here from {group}?", who=who, group=names.name(step.before))
    return gettext(_TEXTS[action].question, who=who, group=names.name(step.after or 0))


def _rest_of_family(draft: Draft) -> tuple[str, str] | None:
    """Return a button's text and value to move all of the group that the last patron comes from, if others stay.

    Of more members than one plan takes, return what to do instead, and no value.
    """
    last = draft.steps[-1].before if draft.steps else None
    for group in draft.groups:
        if group.before is not None and group.before.number == last and len(group.after) > 0:
            members, hidden = group.members_before, group.hidden_member_count
            values: dict[str, object] = {"count": number(len(members)), "hidden": number(hidden)}
            if len({step.patron_id for step in draft.steps} | {member.id for member in members}) > MOST_PATRONS:
                return gettext("To move all {count} of this family, merge their group from its own page.", **values), ""
            text = gettext("Move all {count} of this family", **values)
            if hidden:
                text = ngettext(
                    "Move the {count} whom you can see; {hidden} stays, hidden",
                    "Move the {count} whom you can see; {hidden} stay, hidden",
                    hidden,
                    **values,
                )
            return text, ",".join(str(member.id) for member in members)
    return None


def _what_tells(namesake: Namesake) -> Iterator[str]:
    """Yield what tells a patron from others of the name, besides the card."""
    if namesake.street:
        yield isolated(namesake.street)
    if namesake.age is not None:
        yield gettext("age {age}", age=namesake.age)


def _facts(step: Step, namesake: Namesake | None) -> Iterator[str]:
    if namesake is not None:
        yield from _what_tells(namesake)
    if step.account.juvenile:
        yield pgettext("remark about a member", "juvenile")
    yield printable(step.member.library)
    yield gettext("own fines {owed}", owed=step.member.own_fines)


def _group(group: PlannedGroup, name: str) -> dict[str, Any]:
    """Return a group before and after a plan: one line, its members, and how many more are hidden.

    Each member has a mark and its weight: they join, leave or (if the group shrinks) stay behind.
    """
    before, after = group.members_before, group.after
    ids_before, ids_after = ({member.id for member in members} for members in (before, after))
    joins, leaves = pgettext("a group", "joins"), pgettext("a group", "leaves")
    stays = pgettext("a group", "stays behind") if len(after) < len(before) else ""
    return {
        "line": group_line(group, name),
        "members": [
            *((member, joins, "lead") for member in after if member.id not in ids_before),
            *((member, leaves, "note") for member in before if member.id not in ids_after),
            *((member, stays, "note") for member in before if member.id in ids_after),
        ],
        "hidden": group.hidden_member_count,
    }
