"""Group Member Details and checks of patrons, as tables for a terminal or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.desk import Obstacle
from evergreen_groups.language import describe_total, gettext, ngettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render.column import Column, own
from evergreen_groups.render.columns import text_table, wrapped
from evergreen_groups.render.json_documents import (
    fields,
    forecast_document,
    group_document,
    item_totals_document,
    limit_document,
    patron_document,
    standing_document,
    standing_totals_document,
    write_json_document,
)
from evergreen_groups.render.text import printable, sentence
from evergreen_groups.render.wording import (
    LOWER_BOUND_NOTE,
    NOT_DECIDED,
    describe_limit,
    explain_standing,
    hidden_members,
    information_only,
)
from evergreen_groups.values import plain_amount

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupCheck, GroupDetails
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.ils import Penalty

SCHEMA = "evergreen-groups/group/1"
_UNKNOWN = "–"


def write_details(details: GroupDetails, stream: TextIO, *, width: int) -> None:
    """Write a table with a row for each member and a row of totals, followed by notes."""
    group = details.group
    items = (describe_total(total, short=True) for total in details.all_circulations.totals)
    total = pgettext("last line of a table", "Total")
    sums = (total, "", "", describe_total(group.group_fines), *items, "")
    columns = (
        *_MEMBER,
        *(_items(details, index, heading) for index, heading in enumerate(_ITEMS)),
        Column("", lambda member: ", ".join(_remarks(details, member)), Message("Remarks"), "words", least=10),
    )
    heading = ngettext(
        "Group {group}: {count} member", "Group {group}: {count} members", group.member_count, group=group.number
    )
    table = text_table(columns, group.members, width, ruled=True, sums=sums)
    print(heading, "", *table, "", sep="\n", file=stream)
    for note in _notes(details):
        print(*wrapped(note, width), sep="\n", file=stream)


_MEMBER: tuple[Column[Member], ...] = (
    own("name", Message("Name"), least=14),
    Column(
        "",
        lambda member: printable(member.barcode) if member.barcode else gettext("no card"),
        Message("Barcode"),
        "words",
        least=14,
    ),
    own("library", Message("Library")),
    own("own_fines", Message("Own fines"), "money"),
)
"""The columns that all tables of members begin with."""
_ITEMS = (
    Message("Out", context="items"),
    Message("Over- due", context="items; may be broken at a hyphen and space"),
    Message("Lost", context="items"),
)


def _items(details: GroupDetails, index: int, heading: Message) -> Column[Member]:
    def count(member: Member) -> str:
        counts = details.circulations[member.id]
        return _UNKNOWN if counts is None else describe_total(counts.totals[index], short=True)

    return Column("", count, heading, "id")


def _remarks(details: GroupDetails, member: Member) -> Iterator[str]:
    account, standing = details.accounts[member.id], details.standing(member)
    remarks = (
        (pgettext("remark about a member", "lead"), member.group_lead),
        (pgettext("remark about a member", "over limit"), standing.over_limit),
        (pgettext("remark about a member", "blocked"), standing.blocked_for_fines),
        (pgettext("remark about a member", "other block"), standing.other_blocks),
        (pgettext("remark about a member", "juvenile"), account.juvenile),
        (pgettext("remark about a member", "inactive"), not account.active),
        (pgettext("remark about a member", "barred"), account.barred),
        (pgettext("remark about a member", "expired"), account.expired),
    )
    return (remark for remark, applies in remarks if applies)


def _notes(details: GroupDetails) -> Iterator[str]:
    """Yield the group's fines, the rule, where limit and blocks disagree, other blocks, and what isn't visible."""
    group = details.group
    yield _group_fines(group)
    yield information_only(details.limit)
    for member in group.members:
        forecast = details.forecasts.get(member.id)
        why = None if forecast is None else forecast.explain(member)
        within = forecast is None or forecast.obstacle is not Obstacle.THRESHOLD_HIDDEN
        standings = explain_standing(details.standing(member), not_yet=why is None, within=within)
        for about in (*standings, *([why] if why else [])):
            yield gettext("{label}: {value}", label=printable(member.name), value=sentence(gettext(about)))
    if any(member.decision is None for member in group.members):
        yield gettext(NOT_DECIDED)
    if not group.complete:
        yield hidden_members(group)
    if not details.all_circulations.complete:
        yield gettext(LOWER_BOUND_NOTE)


def write_json(details: GroupDetails, stream: TextIO) -> None:
    """Write the group as one JSON object; amounts are strings with two decimal places."""
    group = details.group
    document = {
        "schema": SCHEMA,
        "gateway": details.gateway,
        **group_document(group),
        "complete": group.complete,
        "limit": None if details.limit is None else limit_document(details.limit),
        **standing_totals_document(details.standing_totals),
        **item_totals_document("totals", details.all_circulations),
        "members": [_member(details, member) for member in group.members],
    }
    write_json_document(document, stream)


def _member(details: GroupDetails, member: Member) -> dict[str, Any]:
    account, counts = details.accounts[member.id], details.circulations[member.id]
    # A lower bound would be taken for the exact count.
    exact = counts if counts is not None and counts.complete else None
    return {
        **patron_document(member.patron),
        "own_fines": plain_amount(member.own_fines),
        "limit": None if member.decision is None else limit_document(member.limit),
        **standing_document(details.standing(member)),
        **forecast_document(details.forecasts.get(member.id)),
        "items": exact and fields(exact, "out", "overdue", "lost"),
        "profile": details.profiles[member.id],
        **fields(account, "juvenile", "active", "barred", "expired"),
        "expires": account.expire_date.isoformat() if account.expire_date else None,
        "group_lead": member.group_lead,
    }


CHECK_SCHEMA = "evergreen-groups/check/1"
_CHECKED: tuple[Column[Member], ...] = (
    *_MEMBER,
    Column(
        "",
        lambda member: gettext("not known") if member.decision is None else describe_limit(member.limit),
        Message("Limit"),
        "words",
        least=10,
    ),
    own("over_limit_if_known", Message("Over the limit"), "flag"),
)


def write_check(check: GroupCheck, stream: TextIO, *, width: int) -> None:
    """Write a row for each patron, the reasons below, and the group's total for information only."""
    print(*text_table(_CHECKED, check.checked, width, ruled=True), "", sep="\n", file=stream)
    for member in check.checked:
        differences = (f"  {printable(gettext(difference))}" for difference in check.differences(member))
        stream.writelines(f"{line}\n" for line in (*_decision(member), *differences))
    group = check.group
    stream.write(f"\n{_group_fines(group)}\n")
    if not group.complete:
        stream.write(hidden_members(group) + "\n")


def _group_fines(group: Group) -> str:
    fines = describe_total(group.group_fines)
    return gettext("Fines of group {group}, for information only: {fines}", group=group.number, fines=fines)


def _decision(member: Member) -> Iterator[str]:
    name, decision = printable(member.name), member.decision
    if decision is None:
        yield gettext("{label}: {value}", label=name, value=NOT_DECIDED)
        return
    yield gettext("{label}: {value}", label=name, value=decision.explanation)
    origin = printable(gettext(decision.limit.origin))
    yield "  " + gettext("{label}: {value}", label=gettext("Source of the limit"), value=origin)
    if decision.counted_fines != member.own_fines:
        yield "  " + gettext(
            "Of {owed}, {counted} counts toward the limit: the rest was billed at other libraries.",
            owed=member.own_fines,
            counted=decision.counted_fines,
        )


def write_check_json(check: GroupCheck, stream: TextIO) -> None:
    """Write the check as one JSON object; amounts are strings with two decimal places."""
    group = check.group
    document = {
        "schema": CHECK_SCHEMA,
        "gateway": check.gateway,
        **fields(check, "over_limit", "complete"),
        "patrons": [_patron(check, member) for member in check.checked],
        **group_document(group),
    }
    write_json_document(document, stream)


def _patron(check: GroupCheck, member: Member) -> dict[str, Any]:
    decision = member.decision
    return {
        **patron_document(member.patron),
        "own_fines": plain_amount(member.own_fines),
        "counted_fines": None if decision is None else plain_amount(decision.counted_fines),
        "limit": None if decision is None else {**limit_document(decision.limit), "origin": decision.limit.origin},
        **standing_document(check.standing(member)),
        **forecast_document(check.forecasts.get(member.id)),
        "over_by": None if decision is None else plain_amount(decision.over_by),
        "explanation": None if decision is None else decision.explanation,
        "recorded": [_recorded(check, member, penalty) for penalty in check.penalties[member.id]],
        "differences": list(check.differences(member)),
    }


def _recorded(check: GroupCheck, member: Member, penalty: Penalty) -> dict[str, Any]:
    return {
        "penalty": penalty.kind.name,
        "library": penalty.org_unit.shortname,
        "for_fines": penalty.kind.id in check.kinds.for_fines_at(member.patron.home_library.id),
        "by_staff": penalty.by_staff,
        "blocks": list(penalty.kind.blocks),
    }
