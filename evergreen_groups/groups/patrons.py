"""Patrons: who somebody is, with a name written in one way everywhere, and the state of an account."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.odd_dates import known, known_birth

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import OrgUnit, OrgUnits

NAME_FIELDS = (
    "family_name",
    "first_given_name",
    "second_given_name",
    "suffix",
    "pref_family_name",
    "pref_first_given_name",
    "pref_second_given_name",
    "pref_suffix",
)
# Named, for a whole au is several times as large (pcrud-007). The key has to be among them: a release before 3.16
# answers 500 to a select without it (3.12/releases-001).
PATRON_FIELDS = ("id", "usrgroup", "home_ou", "profile", "card", "master_account", *NAME_FIELDS)
"""The fields of an ``au`` that a :class:`PatronRow` has, in its order."""
ACCOUNT_FIELDS = ("active", "barred", "juvenile", "expire_date", "dob")
"""The fields of an ``au`` that an :class:`PatronAccount` is made of, in the order of :meth:`PatronAccount.of`."""
STATE_FIELDS = ("juvenile", "barred", "expire_date")
"""The fields of an ``au`` that a :class:`PatronState` is made of, in the order of :meth:`PatronState.of`."""


@dataclass(frozen=True, slots=True)
class Patron:
    """Who somebody is.

    ``group`` is the number of their group (``usrgroup``); ``name`` is written family name first, preferred names before
    legal ones; ``family_name`` is the legal one; ``barcode`` is that of the primary card, None for a patron without
    one; ``profile`` is the id of the permission profile. Whoever reads patrons reads all of this: what only some of the
    readers ask for stands beside patrons by their ids (:class:`PatronAccount`, fines, circulations, penalties).
    """

    id: int
    group: int
    name: str
    family_name: str
    barcode: str | None
    home_library: OrgUnit
    profile: int
    group_lead: bool
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class PatronAccount:
    """The state of a patron's account.

    It isn't part of the :class:`Patron`, because a report, which reads patrons by the ten thousand, has no use for most
    of it (:class:`PatronState` is what it has), and needn't know when somebody was born. ``expired`` says that
    ``expire_date`` had passed when the account was read; ``expiry_unknown`` that there is one that says nothing.
    """

    active: bool
    barred: bool
    juvenile: bool
    expired: bool
    expire_date: datetime | None
    birth_date: date | None
    expiry_unknown: bool = False

    @classmethod
    def of(cls, values: Iterable[Any], now: datetime) -> PatronAccount:
        """Make one of the values of ``ACCOUNT_FIELDS``; ``now`` is aware."""
        active, barred, juvenile, sent, born = values
        expire_date = known(sent)
        return cls(
            active=bool(active),
            barred=bool(barred),
            juvenile=bool(juvenile),
            expired=expire_date is not None and expire_date < now,
            expire_date=expire_date,
            birth_date=known_birth(born.date() if isinstance(born, datetime) else born, now.date()),
            expiry_unknown=sent is not None and expire_date is None,
        )


@dataclass(frozen=True, slots=True)
class PatronState:
    """What a report says of an account: as little as it needs, and nothing of when somebody was born."""

    juvenile: bool
    barred: bool
    expired: bool

    @classmethod
    def of(cls, values: Iterable[Any], now: datetime) -> PatronState:
        """Make one of the values of ``STATE_FIELDS``; ``now`` is aware."""
        juvenile, barred, sent = values
        expire_date = known(sent)
        return _state(bool(juvenile), bool(barred), expire_date is not None and expire_date < now)


@cache
def _state(juvenile: bool, barred: bool, expired: bool) -> PatronState:
    """One for all whose accounts are alike: there are eight, and a report has patrons by the 100,000."""
    return PatronState(juvenile, barred, expired)


class PatronRow(NamedTuple):
    """The columns of an ``au`` that a patron is made of, as a query gives them: ``home_library`` and ``card`` are ids.

    It is no :class:`Patron` yet, because a card's barcode stands in another table (``ac``), which is asked once for
    all the rows of a batch; the search for groups sorts and cuts rows before that.
    """

    id: int
    group: int
    home_library: int
    profile: int
    card: int | None
    group_lead: bool
    family_name: str | None
    first_given_name: str | None
    second_given_name: str | None
    suffix: str | None
    pref_family_name: str | None
    pref_first_given_name: str | None
    pref_second_given_name: str | None
    pref_suffix: str | None

    @property
    def name(self) -> str:
        """The name, preferred parts before legal ones: ``Family, First Second, Suffix``.

        >>> PatronRow(7, 7, 4, 2, None, True, "O'Brien", "Aoife", None, None, None, "Effie", None, None).name
        "O'Brien, Effie"
        """
        names: tuple[Any, ...] = self[-len(NAME_FIELDS) :]
        family, first, *others = names
        if family and first and not any(others):  # as with nearly everybody, and there are many
            family, first = family.strip(), first.strip()
            if family and first:
                return f"{family}, {first}"
        legal, preferred = names[:4], names[4:]
        family, first, second, suffix = (
            (wish or "").strip() or (name or "").strip() for wish, name in zip(preferred, legal, strict=True)
        )
        return ", ".join(filter(None, (family, f"{first} {second}".strip(), suffix)))

    def patron(
        self, barcode: str | None, home_library: OrgUnit, *, deleted: bool = False, group: int | None = None
    ) -> Patron:
        """The patron with this row, a barcode and the home library; ``group`` is its number where all share that."""
        return Patron(
            self.id,
            self.group if group is None else group,
            self.name,
            sys.intern(self.family_name or ""),  # one text for all who are called the same
            barcode,
            home_library,
            self.profile,
            self.group_lead,
            deleted,
        )


def make_patrons(rows: Iterable[PatronRow], barcodes: Mapping[int, str], org_units: OrgUnits) -> list[Patron]:
    """Make patrons of rows of patrons who aren't deleted; ``barcodes`` are those of their cards, by the cards' ids."""
    found = []
    group = 0
    for row in rows:
        if row.group != group:
            group = row.group  # one number for all of its members, who come one after the other
        barcode = None if row.card is None else barcodes.get(row.card)
        found.append(row.patron(barcode, org_units.unit(row.home_library), group=group))
    return found


def read_barcodes(gateway: Gateway, cards: Iterable[int | None]) -> dict[int, str]:
    """The barcodes of cards (ids; None where somebody has none), by the cards' ids."""
    ids = [card for card in cards if card is not None]
    return dict(chain.from_iterable(gateway.pcrud.columns_by_values("ac", ("id", "barcode"), "id", ids)))
