"""The report as JSON, described by ``report.schema.json`` in this folder, which is made from these declarations.

``schema`` names the format and its version. Within a version, keys may be added but never changed or removed, so
readers should ignore unknown keys.

    python -m evergreen_groups.render.report.json [--lines]
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TextIO

from msgspec import Meta
from msgspec.json import schema_components

from evergreen_groups.formats import SORT_ORDERS
from evergreen_groups.render.column import Amount, Column, Count, JSONObject, Time, of_part, own
from evergreen_groups.render.json_documents import LIMIT, json_line, laid_out, text
from evergreen_groups.render.report import columns
from evergreen_groups.render.report.columns import CERTAIN, MemberRow, group_row
from evergreen_groups.report import AgeSum, BlockTotals, ChangeKind, Criteria, GroupChange, GroupItems, Report
from evergreen_groups.values import Total

if TYPE_CHECKING:
    from evergreen_groups.groups import Member
    from evergreen_groups.report import Changes, Totals

SCHEMA = "evergreen-groups/report/1"
LINES_SCHEMA = "evergreen-groups/report-lines/1"

_BLOCKS_NOT_READ = BlockTotals(*[Total(0, exact=False)] * 3)

_MEMBER: JSONObject[MemberRow] = JSONObject(
    "Member", *columns.MEMBER, *columns.BLOCKS, *columns.MEMBER_DETAILS, optional=("member_details", "member_items")
)
_GROUP: JSONObject[columns.GroupRow] = JSONObject(
    "Group",
    *columns.GROUP,
    *columns.CHANGE,
    *columns.GROUP_DETAILS,
    *columns.CONTACT,
    *of_part(
        "members",
        Column(
            "members",
            lambda rows: [*map(_MEMBER.document, rows)],
            type=Annotated[_MEMBER.array, Meta(min_length=1)],
            help="The visible members. Missing: the report was made without members.",
        ),
    ),
    optional=("details", "items", "late", "contact", "members"),
)
_CRITERIA: JSONObject[Criteria] = JSONObject(
    "Criteria",
    own("min_total", kind="money", type=Amount, help="The minimum combined fines; 0.00: any."),
    *of_part(
        "by_items",
        own(
            "min_overdue",
            kind="number",
            help="The minimum number of overdue items; 0: not a condition. Missing, like "
            "the next two: groups aren't listed by items. A group that meets one of the conditions is listed.",
        ),
        own("min_lost", kind="number", help="The minimum number of lost items; 0: not a condition."),
        own("overdue_days", kind="number", help="For min_overdue, how many days an item must be overdue to count."),
    ),
    own("min_members", type=Annotated[int, Meta(ge=1)], help="The minimum number of members."),
    own(
        "orgs",
        type=list[str],
        help="Short names of org units; a member's home library is one of these, or below one. Empty: all.",
    ),
    own("top", type=Count | None, help="The maximum number of groups; null: all."),
    own("sort", type=Annotated[str, Meta(extra_json_schema={"enum": list(SORT_ORDERS)})]),
    Column(
        "limit",
        lambda criteria: None if criteria.limit is None else LIMIT.document(criteria.limit),
        type=LIMIT.type | None,
        help="The limit of own fines; null: limits differ between members.",
    ),
    Column(
        "choice",
        lambda criteria: criteria.choice.document(),
        type=dict[str, Any],
        help="The other filters: owing_since (days), kinds, with_items_out, with_juvenile, over_limit, blocked, "
        "profiles. Empty: none.",
    ),
    Column(
        "details",
        lambda criteria: "full" if criteria.details else "sums",
        type=Literal["full", "sums"],
        help="full: including what is owed for, since when, and items; sums: only amounts.",
    ),
    help="Which groups are listed, and how.",
    optional=("by_items",),
)
_AGE_SUM: JSONObject[AgeSum] = JSONObject(
    "AgeBand",
    Column("age_band", attrgetter("band.text")),
    own("group_count", kind="number"),
    own("group_fines", kind="money"),
)


class _Sums(NamedTuple):
    totals: Totals
    blocks: BlockTotals
    ages: list[AgeSum]
    items: GroupItems | None


_TOTALS: JSONObject[_Sums] = JSONObject(
    "Totals",
    *of_part(
        "totals",
        own("group_count", kind="number"),
        own("member_count", kind="number", help="Includes hidden members."),
        own("owing_count", kind="number", total=True),
        own("over_limit_count", kind="number", total=True),
        own("group_fines", kind="money"),
        Column(
            "groups_no_member_over_limit", attrgetter("groups_without_member_over_limit"), kind="number", total=True
        ),
        own("incomplete_group_count", kind="number"),
    ),
    *of_part(
        "blocks",
        Column(
            "blocked_in_evergreen_count",
            attrgetter("blocked"),
            kind="number",
            total=True,
            help="How many members have a penalty that blocks for fines.",
        ),
        Column(
            "not_yet_blocked_count",
            attrgetter("not_yet_blocked"),
            kind="number",
            total=True,
            help="How many members are over the limit without such a penalty.",
        ),
        Column(
            "now_within_limit_count",
            attrgetter("now_within_limit"),
            kind="number",
            total=True,
            help="How many members have such a penalty, but own fines within the limit.",
        ),
    ),
    *of_part(
        "ages",
        Column(
            "age_bands",
            lambda sums: [*map(_AGE_SUM.document, sums)],
            type=_AGE_SUM.array,
            help="The totals by age_band, the newest debts first.",
        ),
    ),
    *of_part(
        "items",
        Column(
            "items_overdue",
            attrgetter("overdue"),
            kind="number",
            total=True,
            help="Missing, like the others about items: groups aren't listed by items.",
        ),
        Column("items_lost", attrgetter("lost"), kind="number", total=True),
        own("replacement_price", kind="money", total=True, help="An estimate that isn't part of any fines."),
    ),
    optional=("items",),
    help="Totals of the listed groups. Counts are null if hidden members make them uncertain, or if penalties weren't "
    "read.",
)
_PRESENT: JSONObject[Any] = JSONObject(
    "PresentGroup",
    own("group", kind="id", help="The current number."),
    own("lead_name", help="Family name first."),
    own("member_count", kind="number"),
    own("group_fines", kind="money", help="null: not known, because of hidden members."),
)
_CLEARED: JSONObject[GroupChange] = JSONObject(
    "ClearedGroup",
    own("group", kind="id", help="The number under which it was listed."),
    own("library", help="Short name of the lead's home library in the previous run."),
    Column(
        "before",
        attrgetter("known_before"),
        kind="money",
        help="The combined fines in the previous run; null: not known.",
    ),
    CERTAIN,
    own("member_count", kind="number", help="How many members it had."),
    Column(
        "present",
        lambda change: change.present and _PRESENT.document(change.present),
        type=_PRESENT.type | None,
        help="The group's current state; null: not looked up, or its members are in several groups.",
    ),
)
_RUN: JSONObject[Any] = JSONObject(
    "Run",
    own("at", kind="day", type=Time, help="When reading began."),
    own("group_count", kind="number"),
    own("member_count", kind="number"),
    own("group_fines", kind="money"),
)


def _count(kind: ChangeKind, help: str = "") -> Column[Changes]:
    return Column(kind.value, lambda changes: changes.count(kind), kind="number", help=help)


_HIDDEN = "Groups at libraries that the account can no longer see; their state is unknown."
_COUNTS: JSONObject[Changes] = JSONObject(
    "ChangeCounts",
    *(_count(kind, _HIDDEN if kind is ChangeKind.HIDDEN else "") for kind in ChangeKind),
    help="How many groups there are of each kind. The new, worse, better and unchanged ones are listed.",
)
_CHANGES: JSONObject[Changes] = JSONObject(
    "Changes",
    own("since", kind="day", help="When reading for the previous run began; null: there is no previous run."),
    Column("counts", _COUNTS.document, type=_COUNTS.type),
    own(
        "difference",
        kind="money",
        help="By how much the combined fines of the groups that both runs list changed. null: not known, because of "
        "hidden members.",
    ),
    own(
        "new_fines",
        kind="money",
        help="The combined fines of the new groups; what they owed before isn't known. null: not certain for any.",
    ),
    own(
        "cleared_difference",
        kind="money",
        help="By how much the combined fines of the groups no longer listed changed. null: not known for any.",
    ),
    Column(
        "cleared",
        lambda changes: [*map(_CLEARED.document, changes.cleared)],
        type=_CLEARED.array,
        help="Groups that are no longer listed, the highest former fines first.",
    ),
    Column(
        "trend",
        lambda changes: [*map(_RUN.document, changes.trend)],
        type=_RUN.array,
        help="Totals of the last runs, the oldest first and this run last, over all groups that met the criteria.",
    ),
)
_HEAD: tuple[Column[Report], ...] = (
    own("generated_at", kind="day", type=Time, help="When reading began, with the UTC offset."),
    own("gateway", help="The gateway's address."),
    Column("criteria", lambda report: _CRITERIA.document(report.criteria), type=_CRITERIA.type),
    Column(
        "totals",
        lambda report: _TOTALS.document(
            _Sums(report.totals, report.block_totals or _BLOCKS_NOT_READ, AgeSum.of(report), report.item_totals)
        ),
        type=_TOTALS.type,
    ),
    own("notes", type=list[str], help="Sentences for the reader, for example about missing data."),
    own("left_out_count", kind="number", help="How many groups criteria.top left out."),
    Column(
        "changes",
        lambda report: report.changes and _CHANGES.document(report.changes),
        type=_CHANGES.type | None,
        help="What changed since the previous run with the same settings; null: not compared.",
    ),
)
_DOCUMENT: JSONObject[Report] = JSONObject("Report", *_HEAD)


def write_document(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the document, indented by two spaces, one group at a time to limit memory use.

    Amounts are strings with two decimal places. Non-Latin text isn't escaped.
    """
    stream.write(text({"schema": SCHEMA, **_DOCUMENT.document(report)}).removesuffix("\n}"))
    stream.write(',\n  "groups": [')
    separator = "\n    "
    for group in report.groups:
        # Line breaks inside strings are escaped, so replacing only affects indentation.
        made = text(_GROUP.document(group_row(report, group, members=details)))
        stream.write(separator + made.replace("\n", "\n    "))
        separator = ",\n    "
    stream.write("\n  ]\n}\n" if report.groups else "]\n}\n")


def write_lines(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the head, then one line for each group. The values are as in :func:`write_document`."""
    stream.write(json_line({"schema": LINES_SCHEMA, **_DOCUMENT.document(report)}))
    for group in report.groups:
        stream.write(json_line(_GROUP.document(group_row(report, group, members=details))))


_UNNAMED = of_part("", *columns.MEMBER)
_OF_MEMBER: JSONObject[Member] = JSONObject("Member", *_UNNAMED)
_OF_UNDECIDED: JSONObject[Member] = JSONObject(
    "Member", *(column for column in _UNNAMED if column.name not in ("over_limit", "limit"))
)


def member_document(member: Member) -> dict[str, Any]:
    """Return a member of a group, with ``over_limit`` and ``limit`` only if a decision was made."""
    return (_OF_UNDECIDED if member.decision is None else _OF_MEMBER).document(member)


_ABOUT = (
    "For information only: a group's combined fines block no one. Amounts are in the library's currency, with two "
    "decimal places, negative for a credit. A total is null unless it is exact; NAME_at_least is its lower bound. "
    "Ignore unknown keys."
)


def json_schema(*, lines: bool = False) -> dict[str, Any]:
    """Return the schema of the document, or of its lines. An object may have more keys than it names."""
    name = LINES_SCHEMA if lines else SCHEMA
    own_name = Column("schema", str, type=Annotated[str, Meta(extra_json_schema={"const": name})])
    groups = () if lines else (Column("groups", str, type=_GROUP.array),)
    title = "FirstLine" if lines else "Report"
    about = JSONObject(title, own_name, *_HEAD, *groups).type
    (first, *others), definitions = schema_components(
        [about, *([_GROUP.type] if lines else [])], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{name.replace('/', ':')}",
        **({"oneOf": [first, *others]} if lines else definitions.pop(title)),
        "title": "Report of groups with high combined fines",
        "description": _ABOUT,
        "$defs": definitions,
    }


if __name__ == "__main__":
    sys.stdout.write(laid_out(json_schema(lines="--lines" in sys.argv)) + "\n")
