"""Find patrons whose records use an address row of a patron outside their group.

Cloning a record causes this, and it stays when one of the two leaves the group. Correcting the address of one patron
then silently changes the other's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.audit.findings import FindingKind, PatronFinding, Reason
from evergreen_groups.audit.search import PatronListing
from evergreen_groups.gateway import columns
from evergreen_groups.groups import PATRON_FIELDS, Member, PatronRow, Query, search
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.audit.search import SearchContext
    from evergreen_groups.groups import IdRange, Patron

ADDRESSES = ("mailing_address", "billing_address")
_FIELDS = (*PATRON_FIELDS, *ADDRESSES)
_WIDTH = len(PATRON_FIELDS)
_PAGE = 4_000


def find_borrowed_addresses(context: SearchContext) -> None:
    """Search for addresses borrowed across groups: find the borrowers, their address rows, and the owners of the rows.

    A real Evergreen answers in ``contacts-003`` and the four exchanges after it. For an account of one branch
    (``contacts-010``), the query finds the borrower, but a hidden owner's row is missing in ``contacts-011``.
    """
    context.progress(Message("reading patrons"), 0)
    pages = (
        context.gateway.pcrud.pages(
            "au",
            across_groups(context.homes, within),
            select=_FIELDS,
            page_size=_PAGE,
            concurrency=1,
            all_visible=True,
            own_connection=True,  # an empty answer is believed, so it must not be another request's
        )
        for within in context.id_ranges
    )
    with PatronListing(context) as found:
        for page in chain.from_iterable(pages):
            borrowers = {PatronRow._make(row[:_WIDTH]): row[_WIDTH:] for row in columns(page, *_FIELDS)}
            members = context.reader.members(borrowers, cards=found.with_cards)
            found.add(_findings(context, members, borrowers), borrowers)


def _findings(
    context: SearchContext, members: Mapping[int, Member], borrowers: Mapping[PatronRow, tuple[int | None, ...]]
) -> Iterator[PatronFinding]:
    used = sorted({row for rows in borrowers.values() for row in rows if row is not None})
    owner_of: dict[int, int] = dict(context.gateway.pcrud.columns_by_values("aua", ("id", "usr"), "id", used))
    owners = _owners(context, set(owner_of.values()))
    for patron, rows in borrowers.items():
        for reason in _reasons(members[patron.id], rows, owner_of, owners):
            yield PatronFinding(FindingKind.BORROWED_ADDRESS, members[patron.id], reason)


def across_groups(homes: Collection[int], within: IdRange) -> Query:
    """Return the condition on patrons ``within`` a range and at ``homes`` who borrow from another group.

    ``homes`` are ids of org units (empty: everywhere). PostgreSQL expects every patron to borrow both addresses, which
    is too much to hash (see ``id_ranges``) for 200,000 patrons at once: Evergreen gave up after five minutes.
    """
    borrowers = {"union": [_borrowers(field, within) for field in ADDRESSES]}
    home: list[Query] = [{"home_ou": sorted(homes)}] if homes else []
    return {"deleted": "f", "-and": [*within.conditions("id"), search.listed("in", borrowers), *home]}


def _borrowers(field: str, within: IdRange) -> Query:
    """Return the ids of patrons ``d`` who use an address row of ``o`` in another group, neither of them deleted."""
    ends = within.conditions("id")
    return {
        "select": {"d": ["id"]},
        "from": {
            "aua": {
                "d": {"class": "au", "fkey": "id", "field": field},
                "o": {"class": "au", "fkey": "usr", "field": "id"},
            }
        },
        "where": {
            "+d": {"deleted": "f", "usrgroup": {"<>": {"+o": "usrgroup"}}, **({"-and": ends} if ends else {})},
            "+o": {"deleted": "f"},
        },
    }


def _owners(context: SearchContext, patrons: set[int]) -> dict[int, Patron]:
    rows = context.gateway.pcrud.columns_by_values("au", PATRON_FIELDS, "id", sorted(patrons), where={"deleted": "f"})
    return {row.id: row.patron({}, context.org_units) for row in map(PatronRow._make, rows)}


def _reasons(
    member: Member, rows: tuple[int | None, ...], owner_of: Mapping[int, int], owners: Mapping[int, Patron]
) -> Iterator[Reason]:
    """Yield a reason for each owner whose address a patron uses, and one if there are hidden owners."""
    lenders = {owner_of.get(row) for row in rows if row is not None} - {member.id}
    for id in sorted(filter(None, lenders)):
        owner = owners.get(id)
        if owner is not None and owner.group != member.patron.group:
            values = {"owner": owner.name, "group": owner.group, "library": owner.home_library.shortname}
            yield Reason("borrowed-address", values)
    if None in lenders:
        yield Reason("borrowed-address-of-hidden")
