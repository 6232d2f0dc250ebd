"""The table of groups: a row for each, with its members under it to be unfolded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.money import amount
from evergreen_groups.render import Markup, counted, element, incomplete_words, joined, limit_words, opening, printable
from evergreen_groups.render.report import compared, remarks, signed
from evergreen_groups.render.report.page.changes import change_cell

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.report import Changes, GroupChange, Report, Totals

_NUMBER = {"data_kind": "number"}
_HEADINGS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Group", _NUMBER),
    ("Lead", {}),
    ("Library", {}),
    ("Members", _NUMBER),
    ("Owing", _NUMBER),
    ("Combined fines", _NUMBER),
    ("Highest own fines", _NUMBER),
    ("Over the limit", _NUMBER),
)
_SORTED_BY = {
    "total": ("Combined fines", "descending"),
    "members": ("Members", "descending"),
    "name": ("Lead", "ascending"),
    "library": ("Library", "ascending"),
}

_MEMBER_HEAD = element(
    "thead",
    element(
        "tr",
        *[element("th", word, scope="col") for word in ("Name", "Barcode", "Library", "Own fines", "Over the limit")],
    ),
)


def table(report: Report, details: bool) -> Iterator[Markup]:
    """The table piece by piece, so that a large one is never in memory as a whole.

    Each group is a row group of its own: the script sorts these, and the printer keeps them together.
    """
    changes = compared(report)
    yield opening("table", id="groups", **({"class_": "compared"} if changes else {}))
    yield element(
        "caption", f"{counted(report.totals.group_count, 'group')}, with the members of each" if details else ""
    )
    yield _head(report.criteria.sort, changes)
    for group in report.groups:
        yield Markup('\n<tbody class="group">')
        yield _group(group, changes)
        if details:
            yield from _members(group, len(_HEADINGS) + bool(changes), limits=report.criteria.limit is None)
        yield Markup("</tbody>")
    yield _foot(report.totals, changes)
    yield Markup("</table>\n")


def _head(sort: str, changes: Changes | None) -> Markup:
    sorted_by, direction = _SORTED_BY[sort]
    cells = []
    for heading, attributes in (*_HEADINGS, *([("Change", _NUMBER)] if changes else [])):
        order = {"aria_sort": direction} if heading == sorted_by else {}
        cells.append(element("th", heading, scope="col", **attributes, **order))
    return element("thead", element("tr", *cells))


def _group(group: Group, changes: Changes | None) -> Markup:
    change = changes.by_group.get(group.number) if changes else None
    return element(
        "tr",
        element("th", str(group.number), scope="row"),
        element("td", _lead(group, change)),
        element("td", printable(group.library)),
        element("td", f"{group.member_count:,}"),
        element("td", f"{group.owing_count:,}"),
        element("td", amount(group.combined_fines)),
        element("td", amount(group.highest_own_fines)),
        element("td", _over(group)),
        *([change_cell(change)] if changes else []),
    )


def _members(group: Group, columns: int, *, limits: bool) -> Iterator[Markup]:
    """The members, each with their limit where ``limits`` says that they have different ones."""
    yield Markup(f'\n<tr class="members"><td colspan="{columns}"><details>')
    yield element("summary", _in_sight(group))
    yield opening("table", aria_label=f"Members of group {group.number}")
    yield _MEMBER_HEAD
    yield Markup("<tbody>")
    for member in group.members:
        yield _member(member, limits=limits)
    yield Markup("</tbody></table></details></td></tr>")


def _in_sight(group: Group) -> str:
    if group.complete:
        return counted(group.member_count, "member")
    return f"{len(group.members):,} of {counted(group.member_count, 'member')}"


def _lead(group: Group, change: GroupChange | None) -> Markup:
    parts = [element("bdi", printable(group.lead.name))]
    if not group.lead.group_lead:
        parts.append(element("small", "no group lead: the oldest record stands for it"))
    if words := remarks(change):
        parts.append(element("small", words))
    if not group.complete:
        parts.append(element("strong", incomplete_words(group), class_="incomplete"))
    return joined(*parts)


def _over(group: Group) -> Markup:
    if group.nobody_over_limit:
        return element("strong", "nobody", class_="nobody")
    return joined(f"{group.over_limit_count:,}")


def _member(member: Member, *, limits: bool) -> Markup:
    name = element("bdi", printable(member.name))
    limit = [element("small", f"limit: {limit_words(member.limit)}")] if limits else []
    return element(
        "tr",
        element("th", name, *([element("small", "group lead")] if member.group_lead else []), scope="row"),
        element("td", "no card" if member.barcode is None else printable(member.barcode)),
        element("td", printable(member.library)),
        element("td", amount(member.own_fines)),
        element("td", element("strong", "yes") if member.over_limit else "no", *limit),
    )


def _foot(totals: Totals, changes: Changes | None) -> Markup:
    return element(
        "tfoot",
        element(
            "tr",
            element("th", f"Total, {counted(totals.group_count, 'group')}", scope="row", colspan="3"),
            element("td", f"{totals.member_count:,}"),
            element("td", f"{totals.owing_count:,}"),
            element("td", amount(totals.combined_fines)),
            element("td"),
            element("td", f"{totals.over_limit_count:,}"),
            *([element("td", signed(changes.difference))] if changes else []),
        ),
    )
