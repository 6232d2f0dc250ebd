"""The members of a group as rows of the desk page and of its CSV file, with the columns of both."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlencode

from evergreen_groups.language import describe_total, gettext, name_key, pgettext
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison
from evergreen_groups.render import StaffClient
from evergreen_groups.render.column import Column, own
from evergreen_groups.render.desk.standing import YOU, Remark, remarks_about
from evergreen_groups.render.pages import ANGULARJS
from evergreen_groups.render.report import describe_items
from evergreen_groups.render.text import BYTE_ORDER_MARK, csv_cell
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupDetails
    from evergreen_groups.groups import Member, PatronAccount, Standing
    from evergreen_groups.ils import CirculationCounts, Penalty
    from evergreen_groups.report import GroupNight


@dataclass(frozen=True, slots=True)
class ListedMember:
    """A member with everything that a row shows. ``counts`` is None if unknown, and may be incomplete."""

    member: Member
    account: PatronAccount
    counts: CirculationCounts | None
    profile: str
    standing: Standing
    remarks: tuple[Remark, ...]

    @property
    def chips(self) -> tuple[Remark, ...]:
        """The remarks that the list shows: the first, and the first block that the group's sum counts."""
        blocks = [one for one in self.remarks if one.code]
        return tuple(dict.fromkeys((*self.remarks[:1], *blocks[:1])))

    @property
    def words(self) -> str:
        """The text that a search within the list looks at."""
        member = self.member
        texts = (member.name, member.barcode or "", member.library, self.profile, *(one.text for one in self.remarks))
        return " ".join(texts).casefold()


def _items(name: str, heading: Message) -> Column[ListedMember]:
    return Column(f"items_{name}", lambda row: getattr(row.counts, name, None), heading, "number", page=name)


def _names(penalties: Iterable[Penalty]) -> str:
    return " ".join(penalty.kind.name for penalty in penalties)


COLUMNS: tuple[Column[ListedMember], ...] = (
    Column("id", attrgetter("member.id")),
    Column("name", attrgetter("member.name"), Message("Name"), page="name"),
    Column("barcode", lambda row: row.member.barcode or "", Message("Barcode"), page="barcode"),
    Column("own_fines", attrgetter("member.own_fines"), Message("Own fines"), "money", page="fines"),
    Column("limit", lambda row: row.member.decision and row.member.decision.limit.amount),
    Column("over_limit", attrgetter("member.over_limit_if_known")),
    Column("blocked_in_evergreen", lambda row: _names(row.standing.blocks_for_fines)),
    Column("other_blocks", lambda row: _names(row.standing.other_blocks)),
    _items("out", Message("Out", context="items")),
    _items("overdue", Message("Overdue", context="items")),
    _items("lost", Message("Lost", context="items")),
    Column("items_complete", lambda row: row.counts and row.counts.complete),
    Column("library", attrgetter("member.library"), Message("Library"), page="library"),
    Column(
        "",
        lambda row: tuple(one.text for one in row.remarks),
        Message("Status", context="of a member"),
        "words",
        page="standing",
    ),
    own("profile", Message("Profile"), page="profile"),
    Column("juvenile", attrgetter("account.juvenile")),
    Column(
        "expires",
        lambda row: row.account.expire_date and row.account.expire_date.date(),
        Message("Expires"),
        "day",
        page="expires",
    ),
    *(Column(name, attrgetter(f"account.{name}")) for name in ("expired", "barred", "active")),
    Column("group_lead", attrgetter("member.group_lead")),
)
"""All columns of the list. Those that ``GET patrons/ID/group`` also has are named as they are there."""
_BY_KEY = {column.page: column for column in COLUMNS if column.page}


def _sort_key(column: Column[ListedMember]) -> Callable[[ListedMember], Any]:
    """Return the function by whose values a column is sorted: unknown counts first, and no expiry date last."""
    value_of = column.value
    if column.kind == "text":
        return lambda row: name_key(value_of(row))
    missing = {"number": -1, "day": date.max}.get(column.kind)
    return lambda row: missing if (value := value_of(row)) is None else value


def column_heads(sort: str) -> list[dict[str, Any]]:
    """Return the headings of a list sorted by ``sort``: links, each with the sort key that a click on it asks for.

    Numbers and remarks are first sorted in descending order. To save width, barcodes share the column of names.
    """
    heads: list[dict[str, Any]] = []
    for key, column in _BY_KEY.items():
        first, second = (f"-{key}", key) if column.is_number or key == "standing" else (key, f"-{key}")
        direction = {key: "ascending", f"-{key}": "descending"}.get(sort, "")
        link = {"text": column.title, "sort": second if sort == first else first, "sorted": bool(direction)}
        if key == "barcode":
            heads[-1]["links"].append(link)
            heads[-1]["direction"] = heads[-1]["direction"] or direction
        else:
            heads.append({"key": key, "is_number": column.is_number, "direction": direction, "links": [link]})
    return heads


def write_members(rows: Iterable[ListedMember], stream: TextIO) -> None:
    """Write the list as CSV (RFC 4180): a header, and a row for each member in the order of ``rows``.

    Lines end in CR LF. Text that a spreadsheet would take for a formula is escaped. The file begins with a byte order
    mark, so that Excel recognizes UTF-8. Cells are empty where the account can't see the value. If ``items_complete``
    is false, the counts of items are lower bounds.
    """
    columns = [column for column in COLUMNS if column.name]
    stream.write(BYTE_ORDER_MARK)
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    writer.writerows([csv_cell(column.value(row)) for column in columns] for row in rows)


def may_sort_by(text: str) -> bool:
    """Whether ``text`` is a column's key, optionally preceded by ``-`` for descending order."""
    return text.removeprefix("-") in _BY_KEY


def member_rows(details: GroupDetails, sort: str = "") -> list[ListedMember]:
    """Return the visible members of a group, sorted by ``sort``; by default in the group's order, the lead first."""
    staff = {**details.names, details.user: YOU}
    rows = [_row(details, member, staff) for member in details.group.members]
    if sort:
        column = _BY_KEY[sort.removeprefix("-")]
        rows.sort(key=_sort_key(column), reverse=sort.startswith("-"))
    return rows


def search_rows(rows: Sequence[ListedMember], text: str) -> list[ListedMember]:
    """Return the rows that contain every word of a text."""
    words = text.casefold().split()
    return [row for row in rows if all(word in row.words for word in words)]


def _row(details: GroupDetails, member: Member, staff: Mapping[int, str]) -> ListedMember:
    account, standing = details.accounts[member.id], details.standing(member)
    forecast = details.forecasts.get(member.id)
    return ListedMember(
        member=member,
        account=account,
        counts=details.circulations[member.id],
        profile=details.profiles[member.id],
        standing=standing,
        remarks=tuple(remarks_about(member, account, standing, staff, forecast, with_limit=details.limit is None)),
    )


def late_items(details: GroupDetails) -> str:
    """Describe the overdue and lost items of a group in which nobody owes anything; empty if there are none."""
    counts = details.all_circulations
    items = describe_items(counts) if details.group.owes_nothing else ""
    return items if counts.complete or not items else gettext("at least {total}", total=items)


def visible_sums(details: GroupDetails) -> str:
    """Describe in a sentence what is known of the visible members if others are hidden; empty if none are.

    What the group owes, Evergreen says of all of them.
    """
    group = details.group
    if group.complete:
        return ""
    out, overdue, lost = details.visible_circulations.totals
    known = gettext(
        "{visible} of {count} members visible: out {out}, overdue {overdue}, lost {lost}, blocked {blocked}.",
        visible=len(group.members),
        count=group.member_count,
        out=describe_total(out),
        overdue=describe_total(overdue),
        lost=describe_total(lost),
        blocked=details.standing_totals.blocked.at_least,
    )
    if group.group_fines is None:
        return f"{known} {gettext('Group Fines are unknown.')}"
    return f"{known} {gettext('Group Fines {fines} include the others.', fines=group.group_fines)}"


def group_sums(details: GroupDetails) -> list[tuple[str, str]]:
    """Return label and text of each total: a lower bound or unknown if it depends on what the account can't see.

    Leave out what :func:`late_items` says, and members over the limit where nobody owes anything.
    """
    labels = (
        _over_limit_label(details),
        pgettext("members", "Blocked"),
        pgettext("a short label", "Items out"),
        pgettext("items", "Overdue"),
        pgettext("items", "Lost"),
    )
    standings = details.standing_totals
    totals = (standings.over_limit, standings.blocked, *details.all_circulations.totals)
    sums = [*zip(labels, map(describe_total, totals), strict=True)]
    return sums[1:3] if late_items(details) else sums


def _over_limit_label(details: GroupDetails) -> str:
    """Return a label with the limit, unless members have limits of their own."""
    limit = details.limit
    if limit is None or limit.amount is None:
        return gettext("Own fines over the limit")
    if limit.comparison is Comparison.REACHES:
        return gettext("Own fines {limit} or more", limit=limit.amount)
    return gettext("Own fines over {limit}", limit=limit.amount)


# The Angular client's addresses contain its language. Without one, it redirects to the browser's language.
_CLIENT = re.compile(r"eg|eg2(/[a-z]{2,3}-[A-Z]{2})?")
_CLIENT_PAGE = re.compile(r"[^/]*//[^/]+/(eg2(?:/[a-z]{2,3}-[A-Z]{2})?|eg)/staff/")


@dataclass(frozen=True, slots=True)
class DeskLinks:
    """The addresses around the group page of ``patron``, as opened from a staff client.

    ``root`` is the service's path (``/evergreen-groups``), ``client`` the path of the staff client, without a leading
    slash, and ``in_tab`` says that the page is shown in a frame within the client's own tab.
    """

    root: str
    patron: int
    client: str = ANGULARJS
    in_tab: bool = False

    def address(self, part: str = "", **query: str) -> str:
        """Return the address of the page, or of a part of it such as ``/plan``. The client is passed along."""
        asked = f"{urlencode(query, safe='/')}&" if query else ""
        return f"{self.root}/patrons/{self.patron}/group{part}?{asked}{_client_query(self.client, in_tab=self.in_tab)}"

    def patron_page(self, patron: int, tab: str = "checkout") -> str:
        return StaffClient(self.client).patron_page(patron, tab)

    @property
    def cloning(self) -> str:
        """The client's page that registers a new patron with this one's address."""
        return StaffClient(self.client).cloning_page(self.patron)

    @property
    def login(self) -> str:
        """The client's login page, which leads back to this page, or in Angular to the client's own group tab."""
        own_tab = f"/staff/circ/patron/{self.patron}/group"
        here = replace(self, in_tab=False).address() if self.client == ANGULARJS else own_tab
        return StaffClient(self.client).login_page(here)


@lru_cache(64)  # the dozens of addresses on a page share the same parameters
def _client_query(client: str, *, in_tab: bool) -> str:
    return urlencode({"client": client, **({"in": "tab"} if in_tab else {})}, safe="/")


def client_from(name: str | None, referrer: str | None) -> str:
    """Return the client that the user comes from: named in the address, or else taken from the referrer.

    >>> client_from(None, "https://ils.example.org/eg2/fr-CA/staff/circ/patron/7/checkout")
    'eg2/fr-CA'
    """
    if name and _CLIENT.fullmatch(name):
        return name
    found = _CLIENT_PAGE.match(referrer or "")
    # The menus of a stock Evergreen lead to AngularJS.
    return found[1] if found else ANGULARJS


WIDTH, HEIGHT = 160, 28
_EDGE = 3
_FEWEST_NIGHTS = 2
"""A trend needs at least this many nights."""


def trend_view(nights: Sequence[GroupNight]) -> dict[str, Any] | None:
    """Return what the template shows of a group's nights, given the earliest first. None if too few can be compared.

    Each of the chart's ``lines`` is a list of SVG points; a night without a known amount starts a new line. ``last`` is
    the point of the latest night, None if its amount isn't known.
    """
    listed = [night for night in nights if _fines(night) is not None]
    if len(listed) < _FEWEST_NIGHTS:
        return None
    points = _points(nights)
    lines = [list(filter(None, line)) for known, line in groupby(points, lambda point: point is not None) if known]
    return {
        "nights": nights[::-1],
        "first": listed[0],
        "latest": listed[-1],
        "lines": [" ".join(f"{x:.1f},{y:.1f}" for x, y in line) for line in lines if len(line) > 1],
        "last": points[-1],
        "width": WIDTH,
        "height": HEIGHT,
    }


def _points(nights: Sequence[GroupNight]) -> list[tuple[float, float] | None]:
    """Return each night's point in the chart, None without a known amount. The vertical axis always includes zero."""
    found = [_fines(night) for night in nights]
    amounts = [fines for fines in found if fines is not None]
    lowest, highest = min(*amounts, ZERO), max(*amounts, ZERO)
    span = float(highest - lowest) or 1.0
    step = (WIDTH - 2 * _EDGE) / max(len(nights) - 1, 1)
    return [
        None
        if fines is None
        else (_EDGE + index * step, HEIGHT - _EDGE - float(fines - lowest) / span * (HEIGHT - 2 * _EDGE))
        for index, fines in enumerate(found)
    ]


def _fines(night: GroupNight) -> Decimal | None:
    """Return what the group owed, None if unknown or not listed that night."""
    return night.group_fines if night.certain else None
