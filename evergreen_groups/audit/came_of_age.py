"""Find patrons who came of age but are still marked as juveniles, in a group with a guardian.

Evergreen clears the mark only where its job ``juv_to_adult`` runs, which leaves the group as it is. A guardian is a
visible member who isn't marked as a juvenile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, timedelta
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.audit.findings import FindingKind, PatronFinding, Reason
from evergreen_groups.audit.search import PatronListing
from evergreen_groups.gateway import columns
from evergreen_groups.groups import ACCOUNT_FIELDS, PATRON_FIELDS, PatronAccount, PatronRow, Query, search
from evergreen_groups.ils import OrgUnits
from evergreen_groups.message import Message
from evergreen_groups.values import age_of

if TYPE_CHECKING:
    from evergreen_groups.audit.search import SearchContext
    from evergreen_groups.groups import IdRange

_FIELDS = (*PATRON_FIELDS, *ACCOUNT_FIELDS)
_WIDTH = len(PATRON_FIELDS)
_PAGE = 4_000
_EASTMOST = timedelta(hours=14)


def find_came_of_age(context: SearchContext) -> None:
    """Search for juveniles who are adults by date of birth. The home library's calendar decides on the day."""
    gateway, from_age = context.gateway, context.adults.from_age
    context.progress(Message("reading patrons"), 0)
    # Take those who are old enough anywhere; what the libraries' calendars say comes after.
    born_by = latest_birth_date(from_age, (context.now.astimezone(UTC) + _EASTMOST).date())
    pages = (
        gateway.pcrud.pages(
            "au",
            grown_juveniles(context.homes, context.visible_orgs, within, born_by),
            select=_FIELDS,
            page_size=_PAGE,
            concurrency=1,
            all_visible=True,
            own_connection=True,  # an empty answer is believed, so it must not be another request's
        )
        for within in context.id_ranges
    )
    # Most libraries have no one to ask about.
    timezones = cache(lambda: OrgUnits.read_timezones(gateway))
    obscured = cache(lambda: OrgUnits.hiding_birth_dates(gateway, context.org_units.ids))
    with PatronListing(context) as found:
        for page in chain.from_iterable(pages):
            ages: dict[PatronRow, int] = {}
            for values in columns(page, *_FIELDS):
                row = PatronRow._make(values[:_WIDTH])
                account = PatronAccount.of(values[_WIDTH:], context.now)
                today = context.now.astimezone(timezones().get(row.home_library)).date()
                if account.juvenile and account.birth_date and (age := age_of(account.birth_date, today)) >= from_age:
                    ages[row] = age
            found.add(_findings(context, ages, obscured() if ages else (), cards=found.with_cards), ages)


def _findings(
    context: SearchContext, ages: Mapping[PatronRow, int], obscured: Collection[int], *, cards: bool
) -> Iterator[PatronFinding]:
    members = context.reader.members(ages, cards=cards)
    for row, age in ages.items():
        member = members[row.id]
        shown = Reason("came-of-age", {"age": age})
        reason = Reason("came-of-age-obscured") if row.home_library in obscured else shown
        member = replace(member, patron=replace(member.patron, juvenile=True))
        yield PatronFinding(FindingKind.CAME_OF_AGE, member, reason)


def latest_birth_date(age: int, today: date) -> date:
    """Return the latest birth date of people who are ``age`` years old ``today``, as :func:`age_of` counts.

    >>> latest_birth_date(18, date(2028, 2, 29)), latest_birth_date(18, date(2026, 3, 1))
    (datetime.date(2010, 2, 28), datetime.date(2008, 3, 1))
    """
    try:
        return today.replace(year=today.year - age)
    except ValueError:  # on February 29: that year has none
        return today.replace(year=today.year - age, day=28)


def grown_juveniles(homes: Collection[int], visible: Collection[int], within: IdRange, born_by: date) -> Query:
    """Return the condition on patrons ``within`` a range and at ``homes``: juveniles born by a day, with a guardian.

    Guardians have their home library at ``visible``. Both are ids of org units; empty means everywhere.
    """
    seen = {"home_ou": sorted(visible)} if visible else {}
    grown = {
        "select": {"d": ["id"]},
        "from": {"aou": {"d": {"class": "au", "fkey": "id", "field": "home_ou"}}},
        "where": {
            "+d": {
                "deleted": "f",
                "juvenile": "t",
                "-and": [*within.conditions("id"), {"dob": {"<=": born_by.isoformat()}}],
            },
            **search.has_member({"juvenile": "f", **seen}),
        },
    }
    home: list[Query] = [{"home_ou": sorted(homes)}] if homes else []
    return {"deleted": "f", "-and": [*within.conditions("id"), search.listed("in", grown), *home]}
