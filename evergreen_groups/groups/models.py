"""Members and groups: who belongs together, and what they owe. Money is ``Decimal`` with two places."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.language import name_key
from evergreen_groups.money import ZERO
from evergreen_groups.odd_dates import age_of, plausible, plausible_birth_date
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.hidden import HiddenMembers
    from evergreen_groups.ils import OrgUnit, OrgUnits, Penalty, PenaltyKinds
    from evergreen_groups.policy import Decision, Limit


@dataclass(frozen=True, slots=True)
class Member:
    """A patron as a member of their group.

    ``own_fines`` is what the patron owes in open transactions anywhere, credits counted; ``decision`` is the policy's,
    on what they owe themselves alone. It is None where no limit was asked for: of a plan's groups, and of those that
    look accidental, nothing is decided. At a desk it is None as well where the account may not see the limit.
    """

    patron: Patron
    own_fines: Decimal
    decision: Decision | None = None

    @property
    def id(self) -> int:
        """The patron's id."""
        return self.patron.id

    @property
    def name(self) -> str:
        """The patron's name, family name first."""
        return self.patron.name

    @property
    def barcode(self) -> str | None:
        """The barcode of the primary card."""
        return self.patron.barcode

    @property
    def library(self) -> str:
        """The short name of the home library."""
        return self.patron.home_library.shortname

    @property
    def group_lead(self) -> bool:
        """Whether the patron leads the group."""
        return self.patron.group_lead

    @property
    def decided(self) -> Decision:
        """The decision about a member about whom one was made.

        Raises:
            ValueError: none was made. To say "not over the limit" then would be an answer to a question nobody asked.
        """
        if self.decision is None:
            raise ValueError("nothing was decided about this member")
        return self.decision

    @property
    def over_limit(self) -> bool:
        """Whether the own fines are over the limit; raises what :attr:`decided` does."""
        return self.decided.over_limit

    @property
    def limit(self) -> Limit:
        """The limit of own fines that counts for this member; raises what :attr:`decided` does."""
        return self.decided.limit

    @property
    def over_limit_if_known(self) -> bool | None:
        """Whether the own fines are over the limit, None where nothing was decided."""
        return None if self.decision is None else self.decision.over_limit

    @property
    def limit_if_known(self) -> Limit | None:
        """The limit of own fines that counts for this member, None where nothing was decided."""
        return None if self.decision is None else self.decision.limit

    def with_barcode(self, barcode: str | None) -> Member:
        """The same member with this barcode."""
        return replace(self, patron=replace(self.patron, barcode=barcode))


@dataclass(frozen=True, slots=True)
class Group:
    """A patron group (``usrgroup``) with what its members owe together, which is for information only.

    ``members`` are the visible ones. Where the account can't see them all, ``hidden_member_count`` says how many are
    hidden, and ``hidden_fines`` what they owe, None if that is unknown. ``hidden_ids`` are theirs, None where they were
    counted alone.

    Totals include the hidden members or say that they don't: ``combined_fines`` is None if ``hidden_fines`` is, and a
    count of visible members is a :class:`~evergreen_groups.total.Total` (:meth:`counted`).
    """

    number: int
    members: tuple[Member, ...]
    hidden_member_count: int = 0
    hidden_fines: Decimal | None = ZERO
    hidden_ids: frozenset[int] | None = frozenset()
    known_fines: Decimal = field(init=False, repr=False, compare=False)
    """What the visible members owe together, credits counted, and the hidden ones if that is known: to sort by."""

    def __post_init__(self) -> None:
        """Add up what they owe, which everything asks for. Nothing else is kept: a report has groups by the 50,000."""
        owed = [member.own_fines for member in self.members if member.own_fines]
        if self.hidden_fines:
            owed.append(self.hidden_fines)
        # Where one member owes all of it, as mostly, that is one amount, and not another as large.
        together = sum(owed[1:], owed[0]) if owed else ZERO
        object.__setattr__(self, "known_fines", together)

    @classmethod
    def by_fines(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        """A group whose members stand in the order of what they owe, the highest own fines first."""
        ordered = sorted(members, key=lambda member: (-member.own_fines, member.patron.id))
        return cls._with_hidden(number, ordered, hidden)

    @classmethod
    def by_name(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        """A group whose members stand in the order of their names, the group lead first."""
        ordered = sorted(members, key=lambda member: (not member.group_lead, name_key(member.name), member.id))
        return cls._with_hidden(number, ordered, hidden)

    @classmethod
    def _with_hidden(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        if hidden is None:
            return cls(number, tuple(members))
        return cls(number, tuple(members), hidden.count, hidden.fines, hidden.ids)

    @property
    def ids(self) -> frozenset[int]:
        """The ids of all members, the hidden ones too.

        Raises:
            ValueError: the hidden ones were counted alone.
        """
        if self.hidden_ids is None:
            raise ValueError("nobody has asked who the hidden members are")
        return self.hidden_ids.union(member.id for member in self.members)

    @property
    def complete(self) -> bool:
        """Whether every member is visible."""
        return self.hidden_member_count == 0

    @property
    def lead(self) -> Member:
        """The group lead (the one with the lowest id where there are several), or who stands for it.

        In a group without a lead that is the member with the oldest record, the one with the lowest id.
        """
        # Nothing in Evergreen keeps a group from having two leads, or none.
        found: Member | None = None
        for member in self.members:
            patron = member.patron
            if found is None or (not patron.group_lead, patron.id) < (not found.patron.group_lead, found.patron.id):
                found = member
        if found is None:
            raise ValueError("a group without a visible member has no lead")
        return found

    @property
    def library(self) -> str:
        """The short name of the lead's home library."""
        return self.lead.library

    @property
    def member_count(self) -> int:
        """How many belong to the group, hidden ones counted."""
        return len(self.members) + self.hidden_member_count

    @property
    def combined_fines(self) -> Decimal | None:
        """What all members owe together, credits counted; None if what hidden members owe is unknown."""
        return None if self.hidden_fines is None else self.known_fines

    def counted(self, number: int, *, known: bool = True) -> Total[int]:
        """Make a total of all members from a number of visible ones.

        It is a lower bound if members are hidden, or if not every visible one's answer is ``known``.
        """
        return Total(number, known and not self.hidden_member_count)

    @property
    def owing_count(self) -> Total[int]:
        """How many members owe more than nothing."""
        return self.counted(sum(member.own_fines > 0 for member in self.members))

    @property
    def highest_own_fines(self) -> Total[Decimal]:
        """The largest own fines of a member."""
        return Total(max(member.own_fines for member in self.members), self.complete)

    @property
    def over_limit_count(self) -> Total[int]:
        """How many members are over the limit by their own fines."""
        decisions = [member.decision for member in self.members]
        over = sum(decision.over_limit for decision in decisions if decision is not None)
        return self.counted(over, known=None not in decisions)

    @property
    def no_member_over_limit(self) -> bool | None:
        """Whether the group owes more than one of its members may, although none of them is over the limit.

        This is the case the rule is about: a library that blocked by group would block people who owe little. None if
        hidden members, or limits that the account may not see, would decide it.
        """
        over = self.over_limit_count
        if over.at_least:
            return False
        if not over.exact:
            return None
        return any(
            member.limit.amount is not None and self.known_fines > member.limit.amount for member in self.members
        )


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
        expire_date = plausible(sent)
        return cls(
            active=bool(active),
            barred=bool(barred),
            juvenile=bool(juvenile),
            expired=expire_date is not None and expire_date < now,
            expire_date=expire_date,
            birth_date=plausible_birth_date(born.date() if isinstance(born, datetime) else born, now.date()),
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
        expire_date = plausible(sent)
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


class StandingDifference(Enum):
    """How the two truths may differ; the values are what JSON documents call them."""

    NOT_YET_BLOCKED = "not-yet-blocked"
    """Over the limit, and no penalty for fines blocks the member: the ILS recalculates when something happens."""
    NOW_WITHIN_LIMIT = "now-within-limit"
    """Blocked for fines, and the own fines aren't over the limit, or no longer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A member's own fines against the rule, and the penalties that block them in the ILS.

    ``over_limit`` is None where the account may not see the limit. ``blocks_for_fines`` are the penalties that block
    the member for fines, ``other_blocks`` those that block for something else; notes block nobody.
    """

    over_limit: bool | None
    blocks_for_fines: tuple[Penalty, ...]
    other_blocks: tuple[Penalty, ...]

    @classmethod
    def of(cls, member: Member, penalties: Collection[Penalty], kinds: PenaltyKinds) -> Standing:
        """That of a member with these penalties in force."""
        return cls.among(member.over_limit_if_known, member.patron.home_library.id, penalties, kinds)

    @classmethod
    def among(
        cls, over_limit: bool | None, home_library: int, penalties: Collection[Penalty], kinds: PenaltyKinds
    ) -> Standing:
        """That of somebody with this home library (id) and these penalties in force."""
        blocking = [penalty for penalty in penalties if penalty.kind.blocks]
        for_fines = tuple(one for one in blocking if kinds.blocks_for_fines(one.kind, home_library))
        others = tuple(one for one in blocking if one not in for_fines)
        return cls(over_limit, for_fines, others)

    @property
    def blocked_for_fines(self) -> bool:
        """Whether the ILS blocks the member for fines."""
        return bool(self.blocks_for_fines)

    @property
    def difference(self) -> StandingDifference | None:
        """How the two truths differ, None where they don't, or where the limit isn't known."""
        if self.over_limit is None or self.over_limit == self.blocked_for_fines:
            return None
        return StandingDifference.NOT_YET_BLOCKED if self.over_limit else StandingDifference.NOW_WITHIN_LIMIT


@dataclass(frozen=True, slots=True)
class StandingTotals:
    """How many members of a group are over the limit, blocked for fines in the ILS, and blocked for anything."""

    over_limit: Total[int]
    blocked_for_fines: Total[int]
    blocked: Total[int]

    @classmethod
    def of(cls, group: Group, standings: Sequence[Standing]) -> StandingTotals:
        """Count over the standings of a group's visible members; a standing that wasn't read makes a lower bound."""
        known = len(standings) == len(group.members)
        for_fines = sum(standing.blocked_for_fines for standing in standings)
        blocked = sum(bool(standing.blocks_for_fines or standing.other_blocks) for standing in standings)
        return cls(group.over_limit_count, group.counted(for_fines, known=known), group.counted(blocked, known=known))


@dataclass(frozen=True, slots=True)
class AdultRule:
    """More than ``most`` adults in one group are too many (0: any number will do); ``from_age`` years make an adult.

    A birth date that is known decides, whatever the mark of a juvenile says: that isn't taken off by itself. Without
    one, whoever isn't marked as a juvenile counts as an adult.
    """

    from_age: int = 18
    most: int = 0

    @property
    def applies(self) -> bool:
        """Whether there is such a rule at all."""
        return self.most > 0

    def is_adult(self, account: PatronAccount, today: date) -> bool:
        """Whether somebody counts as an adult."""
        if account.birth_date is None:
            return not account.juvenile
        return age_of(account.birth_date, today) >= self.from_age

    def count(self, patrons: Iterable[int], accounts: Mapping[int, PatronAccount]) -> int:
        """How many of some patrons count as adults today."""
        today = datetime.now(UTC).date()
        return sum(self.is_adult(accounts[id], today) for id in patrons)
