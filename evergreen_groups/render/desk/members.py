"""The members of a group as rows of the page, and the orders in which they may stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.render.desk.standing import YOU, Remark, Weight, remarks_about

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupDetails
    from evergreen_groups.groups import Member, PatronAccount, Standing
    from evergreen_groups.ils import CirculationCounts

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ListedMember:
    """A member with everything that a row shows; ``counts`` None: the ILS doesn't say; they may be incomplete."""

    member: Member
    account: PatronAccount
    counts: CirculationCounts | None
    profile: str
    standing: Standing
    remarks: tuple[Remark, ...]

    @property
    def blocked(self) -> bool:
        """Whether something blocks this member in the ILS."""
        return any(remark.weight is Weight.BLOCK for remark in self.remarks)

    @property
    def words(self) -> str:
        """What a search within the list looks through."""
        member = self.member
        texts = (member.name, member.barcode or "", member.library, self.profile, *(one.text for one in self.remarks))
        return " ".join(texts).casefold()


@dataclass(frozen=True, slots=True)
class DeskColumn:
    """A column of the list that it can be sorted by; ``heading`` is a text of the catalogue."""

    key: str
    heading: Message
    value: Callable[[ListedMember], Any]
    number: bool = False
    right: bool = False

    def next_sort(self, current: str) -> str:
        """The order that a click on the heading asks for."""
        first, second = (f"-{self.key}", self.key) if self.number else (self.key, f"-{self.key}")
        return second if current == first else first

    def direction(self, current: str) -> str:
        """How the list is sorted by it, in ARIA's words; empty where it isn't."""
        return {self.key: "ascending", f"-{self.key}": "descending"}.get(current, "")


COLUMNS = (
    DeskColumn("name", Message("Name"), lambda row: name_key(row.member.name)),
    DeskColumn("barcode", Message("Barcode"), lambda row: row.member.barcode or ""),
    DeskColumn("fines", Message("Own fines"), lambda row: row.member.own_fines, number=True, right=True),
    DeskColumn(
        "out",
        Message("Out", context="items"),
        lambda row: row.counts.out if row.counts else -1,
        number=True,
        right=True,
    ),
    DeskColumn(
        "overdue",
        Message("Overdue", context="items"),
        lambda row: row.counts.overdue if row.counts else -1,
        number=True,
        right=True,
    ),
    DeskColumn(
        "lost",
        Message("Lost", context="items"),
        lambda row: row.counts.lost if row.counts else -1,
        number=True,
        right=True,
    ),
    DeskColumn("library", Message("Home library"), lambda row: name_key(row.member.library)),
    DeskColumn("profile", Message("Profile"), lambda row: name_key(row.profile)),
    DeskColumn("expires", Message("Expires"), lambda row: row.account.expire_date or _NEVER),
    DeskColumn("standing", Message("Standing"), lambda row: tuple(one.text for one in row.remarks), number=True),
)
"""What the list can be sorted by. ``number`` ones begin with the highest, ``right`` ones stand at the right."""
HEADS = (COLUMNS[:2], *((column,) for column in COLUMNS[2:6]), COLUMNS[6:8], COLUMNS[8:9], COLUMNS[9:])
"""The columns as they stand: what fits below something else has no column of its own, so that there is room."""
_BY_KEY = {column.key: column for column in COLUMNS}


def may_sort_by(text: str) -> bool:
    """Whether a list can be sorted that way: a column's key, with ``-`` before it the other way round."""
    return text.removeprefix("-") in _BY_KEY


def member_rows(details: GroupDetails, sort: str = "") -> list[ListedMember]:
    """The visible members of a group; as the group has them, the lead first, unless ``sort`` says otherwise."""
    staff = {**details.names, details.user: YOU}
    rows = [_row(details, member, staff) for member in details.group.members]
    if sort:
        column = _BY_KEY[sort.removeprefix("-")]
        rows.sort(key=column.value, reverse=sort.startswith("-"))
    return rows


def found_within(rows: Sequence[ListedMember], text: str) -> list[ListedMember]:
    """Those of the rows that have each word of a text."""
    words = text.casefold().split()
    return [row for row in rows if all(word in row.words for word in words)]


def _row(details: GroupDetails, member: Member, staff: Mapping[int, str]) -> ListedMember:
    account, standing = details.accounts[member.id], details.standing(member)
    return ListedMember(
        member=member,
        account=account,
        counts=details.circulations[member.id],
        profile=details.profiles[member.id],
        standing=standing,
        remarks=tuple(remarks_about(member, account, standing, staff, details.prospects.get(member.id))),
    )
