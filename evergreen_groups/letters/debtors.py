"""The people of a report who owe something, for mailing houses and collection services. No sums of groups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.letters.letters import AddressBook, Addressee, LeftOut, NoLetter
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Member
    from evergreen_groups.report import AgeBand, Report

# Staff set it to keep a patron from being sent to collections (Collections.pm, 950.data.seed-values.sql, rel_3_17).
# Evergreen compares its value with the text true (Storage/Publisher/money.pm).
_EXEMPT = "circ.collections.exempt"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which people to list: those who owe ``min_own`` or more themselves, for ``owing_since`` days or longer.

    With ``collections``, people whom Evergreen exempts from collections are left out.
    """

    min_own: Decimal = ZERO
    owing_since: int | None = None
    collections: bool = False


@dataclass(frozen=True, slots=True)
class Debtor:
    """A member who owes something, and whom to write to: themselves, or for a minor the person to contact."""

    group: int
    member: Member
    minor: bool
    owing_since: datetime | None
    age_band: AgeBand | None
    addressee: Addressee


@dataclass(frozen=True, slots=True)
class Debtors:
    """The people of a report who owe something, and those who are left out because no one can be written to."""

    people: tuple[Debtor, ...]
    left_out: tuple[LeftOut, ...]


def read_debtors(gateway: Gateway, report: Report, selection: Selection) -> Debtors:
    """Return the people of a report who owe something. The report was read with details."""
    details = report.details
    if details is None:
        raise ValueError("people are listed from a report with its details")
    book = AddressBook.read(gateway, report)
    before = None if selection.owing_since is None else report.generated_at - timedelta(selection.owing_since)
    wanted = []
    for group in report.groups:
        for member in group.members:
            since = details.of(member).owing_since
            is_old = before is None or (since is not None and since <= before)
            if member.own_fines > 0 and member.own_fines >= selection.min_own and is_old:
                wanted.append((group, member, since))
    exempt = set[int]()
    if selection.collections and wanted:
        ids = sorted(member.id for _group, member, _since in wanted)
        rows = gateway.pcrud.columns_by_values("aus", ("usr", "value"), "usr", ids, where={"name": _EXEMPT})
        exempt = {patron for patron, value in rows if value == "true"}
    people: list[Debtor] = []
    left_out: list[LeftOut] = []
    for group, member, since in wanted:
        minor = book.is_minor(member.id)
        is_own = member.id in book.accounts and not minor
        contact = book.contacts.of_member(member) if is_own else book.contacts.of_group(group)
        found = NoLetter.EXEMPT if member.id in exempt else book.addressee(contact)
        if member.id not in book.accounts:
            found = NoLetter.INACTIVE
        if isinstance(found, NoLetter):
            left_out.append(LeftOut(group.number, found, member.id))
        else:
            people.append(Debtor(group.number, member, minor, since, details.age_band_since(since), found))
    return Debtors(tuple(people), tuple(left_out))
