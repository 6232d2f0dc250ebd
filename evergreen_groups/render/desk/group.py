"""The members of a group as rows of the page, and the orders in which they may stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from evergreen_groups.language import describe_total, gettext, name_key, pgettext
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING
from evergreen_groups.render import ANGULARJS, StaffClient, hidden_members
from evergreen_groups.render.desk.standing import YOU, Remark, Weight, remarks_about

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.desk import GroupDetails
    from evergreen_groups.groups import Member, PatronAccount, Standing
    from evergreen_groups.ils import CirculationCounts
    from evergreen_groups.report import GroupNight

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
        remarks=tuple(remarks_about(member, account, standing, staff, details.forecasts.get(member.id))),
    )


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Counts of a group's members, as text, and ``items`` with their labels.

    ``items_explained`` says what there is to know about the latter.
    """

    over_limit: str
    blocked: str
    items: tuple[tuple[str, str], ...]
    items_explained: str


def group_sums(details: GroupDetails) -> GroupSums:
    """Write the totals. Each is a lower bound, or unknown, if it depends on something the account can't see."""
    counts, standings = details.all_circulations, details.standing_totals
    labels = gettext("Items out"), pgettext("items", "Overdue"), pgettext("items", "Lost")
    return GroupSums(
        over_limit=describe_total(standings.over_limit),
        blocked=describe_total(standings.blocked_for_fines),
        items=tuple(zip(labels, map(describe_total, counts.totals), strict=True)),
        items_explained="" if counts.complete else gettext("your login may not see all"),
    )


def notes_about(details: GroupDetails) -> Iterator[str]:
    """What is to be known about the list: who isn't in it."""
    group = details.group
    if not group.complete:
        yield hidden_members(group)


# The Angular client has its language in its addresses; without one it is redirected to that of the browser.
_CLIENT = re.compile(r"eg|eg2(/[a-z]{2,3}-[A-Z]{2})?")
_CLIENTS_PAGE = re.compile(r"[^/]*//[^/]+/(eg2(?:/[a-z]{2,3}-[A-Z]{2})?|eg)/staff/")


@dataclass(frozen=True, slots=True)
class DeskPlace:
    """The group of ``patron``, as it is reached from a client.

    ``root`` is where the service is (``/evergreen-groups``), ``client`` the path of the staff client that somebody
    came from, without the slash before it, and ``in_tab`` says that the page stands in a frame in that client's own
    tab.
    """

    root: str
    patron: int
    client: str = ANGULARJS
    in_tab: bool = False

    def address(self, part: str = "", **query: str) -> str:
        """The address of the page, or of a part of it such as ``/plan``; it leads back to the same client."""
        asked = f"{urlencode(query, safe='/')}&" if query else ""
        return f"{self.root}/patrons/{self.patron}/group{part}?{asked}{_way_back(self.client, in_tab=self.in_tab)}"

    def of(self, patron: int) -> DeskPlace:
        """The same for another patron."""
        return replace(self, patron=patron)

    def alone(self) -> DeskPlace:
        """The same outside of the client's tab."""
        return replace(self, in_tab=False)

    def patron_page(self, patron: int, tab: str = "checkout") -> str:
        """The address of a patron in the client."""
        return StaffClient(self.client).patron_page(patron, tab)

    @property
    def cloning(self) -> str:
        """Where the client registers a new patron with this one's address."""
        return StaffClient(self.client).cloning_page(self.patron)

    @property
    def login(self) -> str:
        """The client's login page, which leads back: to this page, or in Angular to the client's own tab."""
        own_tab = f"/staff/circ/patron/{self.patron}/group"
        return StaffClient(self.client).login_page(self.alone().address() if self.client == ANGULARJS else own_tab)


@lru_cache(64)  # a page has dozens of addresses, all with the same
def _way_back(client: str, *, in_tab: bool) -> str:
    """What leads back to the same client."""
    return urlencode({"client": client, **({"in": "tab"} if in_tab else {})}, safe="/")


def client_named(name: str | None, referrer: str | None) -> str:
    """The client that somebody comes from: as the address names it, or else by the page that they left.

    >>> client_named(None, "https://ils.example.org/eg2/fr-CA/staff/circ/patron/7/checkout")
    'eg2/fr-CA'
    """
    if name and _CLIENT.fullmatch(name):
        return name
    found = _CLIENTS_PAGE.match(referrer or "")
    # Where the menus of a stock Evergreen lead.
    return found[1] if found else ANGULARJS


WIDTH, HEIGHT = 160, 28
_EDGE = 3
_MEANINGFUL = 2
"""Of fewer nights there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class TrendView:
    """The ``nights``, the latest first; ``lines`` are points of an SVG picture, one for each run of nights without a
    gap, and ``last`` is where the latest stands, None where it wasn't listed then."""

    nights: tuple[GroupNight, ...]
    first: GroupNight
    latest: GroupNight
    lines: tuple[str, ...]
    last: tuple[float, float] | None
    width: int = WIDTH
    height: int = HEIGHT


def trend_view(nights: Sequence[GroupNight]) -> TrendView | None:
    """The view of a group's nights, the earliest first; None where there are too few to be one."""
    listed = [night for night in nights if _fines(night) is not None]
    if len(listed) < _MEANINGFUL:
        return None
    points = _points(nights)
    lines: list[list[str]] = [[]]
    for point in points:
        if point is None:
            lines.append([])
        else:
            lines[-1].append(f"{point[0]:.1f},{point[1]:.1f}")
    return TrendView(
        nights=tuple(reversed(nights)),
        first=listed[0],
        latest=listed[-1],
        lines=tuple(" ".join(line) for line in lines if len(line) > 1),
        last=points[-1],
    )


def _points(nights: Sequence[GroupNight]) -> list[tuple[float, float] | None]:
    """Where each night stands in the picture: by its number of the way across, and by its amount from nothing up."""
    found = [_fines(night) for night in nights]
    amounts = [fines for fines in found if fines is not None]
    lowest, highest = min(*amounts, NOTHING), max(*amounts, NOTHING)
    span = float(highest - lowest) or 1.0
    step = (WIDTH - 2 * _EDGE) / max(len(nights) - 1, 1)
    return [
        None
        if fines is None
        else (_EDGE + place * step, HEIGHT - _EDGE - float(fines - lowest) / span * (HEIGHT - 2 * _EDGE))
        for place, fines in enumerate(found)
    ]


def _fines(night: GroupNight) -> Decimal | None:
    """What the group owed, None if that is unknown or the report didn't list it."""
    return night.combined_fines if night.certain else None
