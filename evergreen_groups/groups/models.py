"""Records of patrons, members and groups, and the decisions about members.

Money is ``Decimal`` with two decimal places.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from evergreen_groups import arguments, ils  # ils as a whole: help texts shouldn't wait for a gateway
from evergreen_groups.formats import OF_GROUP, Tabular
from evergreen_groups.language import name_key
from evergreen_groups.values import ZERO, Total, age_of, plausible, plausible_birth_date

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Limits, OrgUnit, OrgUnits, Penalty, PenaltyKinds, ResolvedLimit
    from evergreen_groups.policy import Decision, Limit


Query = dict[str, Any]
"""A condition or a subquery, in Evergreen's JSON query form."""


@dataclass(frozen=True, slots=True)
class Member:
    """A patron as a member of their group.

    ``own_fines`` is the sum of the patron's open transactions at all libraries, minus credits. ``decision`` is the
    policy's decision, based on own fines only. It is None if no limit was requested, or if the account may not see it.
    """

    __repr__ = arguments.brief

    patron: Patron
    own_fines: Decimal
    decision: Decision | None = None

    @property
    def id(self) -> int:
        return self.patron.id

    @property
    def name(self) -> str:
        return self.patron.name

    @property
    def barcode(self) -> str | None:
        return self.patron.barcode

    @property
    def library(self) -> str:
        """The short name of the home library."""
        return self.patron.home_library.shortname

    @property
    def group_lead(self) -> bool:
        return self.patron.group_lead

    @property
    def juvenile(self) -> bool | None:
        """Whether the patron is marked as a juvenile, whatever the date of birth. None if that wasn't read."""
        return self.patron.juvenile

    @property
    def decided(self) -> Decision:
        """The decision about this member. Raises ValueError if no decision was requested."""
        if self.decision is None:
            raise ValueError("nothing was decided about this member")
        return self.decision

    @property
    def over_limit(self) -> bool:
        """Whether the own fines are over the limit. Raises ValueError without a decision."""
        return self.decided.over_limit

    @property
    def limit(self) -> Limit:
        """The limit of this member's own fines. Raises ValueError without a decision."""
        return self.decided.limit

    @property
    def over_limit_if_known(self) -> bool | None:
        """Whether the own fines are over the limit, None without a decision."""
        return None if self.decision is None else self.decision.over_limit

    @staticmethod
    def of_patrons(
        gateway: Gateway,
        limits: Limits | None,
        patrons: Collection[Patron],
        own_fines: Mapping[int, Decimal],
        *,
        where_visible: bool = True,
    ) -> list[Member]:
        """Make members of patrons, and decide about each by ``limits``, if given.

        ``own_fines`` are those of all patrons with open transactions. If the account may not see a patron's limit,
        leave out the decision, or raise PermissionDeniedError unless ``where_visible``. Raises DataError if
        transactions must be read and are hidden. Reads nothing if the same limit applies to all patrons.
        """
        decisions: dict[int, Decision] = {}
        if limits is not None and limits.uniform:
            # Decide once about each amount: most patrons owe nothing.
            decide = cache(limits.limit_for(0, 0).decide)
            decisions = {patron.id: decide(own_fines.get(patron.id)) for patron in patrons}
        elif limits is not None:
            find = limits.visible_limit_for if where_visible else limits.limit_for
            found = ((patron.id, find(patron.profile, patron.home_library.id)) for patron in patrons)
            decisions = ils.decide_all(gateway, {id: limit for id, limit in found if limit is not None}, own_fines)
        return [Member(patron, own_fines.get(patron.id, ZERO), decisions.get(patron.id)) for patron in patrons]

    @staticmethod
    def decide_by_thresholds(
        gateway: Gateway, thresholds: Limits, members: Collection[Member]
    ) -> tuple[dict[int, ResolvedLimit], dict[int, Decision]]:
        """Return Evergreen's own limit of each member and the decision by it, both by id.

        Leave out what the account can't see: limits, and decisions for which it would need hidden transactions. Read
        nothing unless a threshold counts only some libraries, or is 0.00.
        """
        find = thresholds.visible_limit_for
        found = ((member.id, find(member.patron.profile, member.patron.home_library.id)) for member in members)
        limits = {id: limit for id, limit in found if limit is not None}
        own_fines = {member.id: member.own_fines for member in members if member.own_fines}
        # Open transactions matter even if they add up to 0.00: they reach a threshold of 0.00, and a threshold that
        # counts only some libraries may count a bill without the refund that balances it.
        may_matter = [
            id
            for id, limit in limits.items()
            if id not in own_fines
            and limit.limit.amount is not None
            and (limit.scope is not None or limit.limit.amount <= 0)
        ]
        if may_matter:
            own_fines |= ils.read_own_fines(gateway, may_matter)
        return limits, ils.decide_all(gateway, limits, own_fines, leave_out_hidden=True)

    @staticmethod
    def read_barcodes(gateway: Gateway, cards: Iterable[int | None]) -> dict[int, str]:
        """Return the barcodes of cards (ids; None is skipped), by card id."""
        ids = [card for card in cards if card is not None]
        return dict(gateway.pcrud.columns_by_values("ac", ("id", "barcode"), "id", ids))


@dataclass(frozen=True, slots=True)
class HiddenMembers:
    """The ids of a group's hidden members, and what they owe together (None: unknown)."""

    ids: frozenset[int]
    fines: Decimal | None

    @classmethod
    def of(cls, ids: Set[int], balances: Mapping[int, Decimal] | None) -> HiddenMembers:
        """Make the record from ids and ``balances`` (None: unknown). A member without a balance owes nothing."""
        owed = None if balances is None else sum((balances.get(id, ZERO) for id in ids), ZERO)
        return cls(frozenset(ids), owed)


@dataclass(frozen=True, slots=True)
class Group(Tabular):
    """A patron group (``usrgroup``) and its members' combined fines, which are for information only.

    ``members`` are the visible ones. Totals either include hidden members or say that they don't: ``group_fines`` is
    None if ``hidden_fines`` is (unknown), and counts of visible members are a :class:`~evergreen_groups.values.Total`.
    """

    __repr__ = arguments.brief
    _forms = OF_GROUP

    number: int
    members: tuple[Member, ...]
    hidden_member_count: int = 0
    hidden_fines: Decimal | None = ZERO
    hidden_ids: frozenset[int] = frozenset()
    known_fines: Decimal = field(init=False, repr=False, compare=False)
    """What the visible members owe together, minus credits, plus what hidden members owe if known. Used for sorting."""

    def __post_init__(self) -> None:
        """Add up the fines once. A report holds 50,000 groups, so don't store other sums."""
        together = sum((member.own_fines for member in self.members), self.hidden_fines or ZERO)
        object.__setattr__(self, "known_fines", together)

    @classmethod
    def of(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        """Make a group of its visible members, in this order, and the ``hidden`` ones, if any."""
        return cls(number, tuple(members), *((len(hidden.ids), hidden.fines, hidden.ids) if hidden else ()))

    @classmethod
    def by_name(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        """Make a group with its members sorted by name, the group lead first."""
        ordered = sorted(members, key=lambda member: (not member.group_lead, name_key(member.name), member.id))
        return cls.of(number, ordered, hidden)

    @property
    def ids(self) -> frozenset[int]:
        """The ids of all members, including hidden ones."""
        return self.hidden_ids.union(member.id for member in self.members)

    @property
    def owes_nothing(self) -> bool:
        """Whether every member's balance is zero. False if hidden members' fines are unknown."""
        return self.hidden_fines == 0 and not any(member.own_fines for member in self.members)

    @property
    def complete(self) -> bool:
        """Whether every member is visible."""
        return self.hidden_member_count == 0

    @property
    def lead(self) -> Member:
        """The group lead, or the oldest record (the lowest id) without a lead. Of several leads, the oldest record."""
        if not self.members:
            raise ValueError("a group without a visible member has no lead")
        # Evergreen doesn't prevent groups with two leads, or none.
        return min(self.members, key=lambda member: (not member.patron.group_lead, member.patron.id))

    @property
    def library(self) -> str:
        """The short name of the lead's home library."""
        return self.lead.library

    @property
    def member_count(self) -> int:
        """How many members the group has, including hidden ones."""
        return len(self.members) + self.hidden_member_count

    @property
    def group_fines(self) -> Decimal | None:
        """What all members owe together, minus credits. None if unknown for hidden members."""
        return None if self.hidden_fines is None else self.known_fines

    def counted(self, number: int, *, known: bool = True) -> Total[int]:
        """Return a count of visible members as a total, a lower bound if members are hidden or not all ``known``."""
        return Total(number, known and not self.hidden_member_count)

    @property
    def owing_count(self) -> Total[int]:
        """How many members owe more than 0.00."""
        return self.counted(len([member for member in self.members if member.own_fines > ZERO]))

    @property
    def highest_own_fines(self) -> Total[Decimal]:
        """The highest own fines of any member."""
        return Total(max(member.own_fines for member in self.members), self.complete)

    @property
    def over_limit_count(self) -> Total[int]:
        """How many members' own fines are over their limit."""
        decided = [member.over_limit_if_known for member in self.members]
        return self.counted(decided.count(True), known=None not in decided)

    @property
    def no_member_over_limit(self) -> bool | None:
        """Whether the combined fines exceed a member's limit although no member is over the limit.

        This is what the rule is about: a library that blocked whole groups would block people who owe little. None if
        hidden members or invisible limits decide the answer.
        """
        # A visible member over the limit decides, whatever the hidden members owe.
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
# Select fields by name: a whole au is several times as large (pcrud-007). Keep the key among them, because releases
# before 3.16 answer 500 to a select without it (3.12/releases-001).
PATRON_FIELDS = ("id", "usrgroup", "home_ou", "profile", "card", "master_account", *NAME_FIELDS)
"""The fields of an ``au`` in a :class:`PatronRow`, in order."""
ACCOUNT_FIELDS = ("active", "barred", "juvenile", "expire_date", "dob")
"""The fields of an ``au`` that :meth:`PatronAccount.of` takes, in order."""


@dataclass(frozen=True, slots=True)
class Patron:
    """A patron's identity. Data that only some readers need is kept in mappings by patron id.

    ``group`` is the group's number (``usrgroup``). ``name`` starts with the family name and prefers preferred names;
    ``family_name`` is the legal one. ``barcode`` is the primary card's, None without a primary card. ``profile`` is the
    id of the permission profile. ``juvenile`` is Evergreen's flag, which a birthday doesn't clear; None if it
    wasn't read, as in reports and most findings of the audit, which select fewer fields.
    """

    __repr__ = arguments.brief

    id: int
    group: int
    name: str
    family_name: str
    barcode: str | None
    home_library: OrgUnit
    profile: int
    group_lead: bool
    deleted: bool = False
    juvenile: bool | None = None


class PatronAccount(NamedTuple):
    """The state of a patron's account. Reports read a :class:`PatronState`, because they shouldn't learn birth dates.

    ``expired`` is as of the time of reading. ``expiry_unknown`` means that the expiration date is set but unusable.
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
        """Make an account from the values of ``ACCOUNT_FIELDS``. ``now`` is aware."""
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
    """The account flags that a report shows. Leaves out birth dates on purpose."""

    FIELDS: ClassVar = ("juvenile", "barred", "expire_date")
    """The fields of an ``au`` that :meth:`of` takes, in order."""

    juvenile: bool
    barred: bool
    expired: bool

    @classmethod
    def of(cls, values: Iterable[Any], now: datetime) -> PatronState:
        """Make a state from the values of ``FIELDS``. ``now`` is aware."""
        juvenile, barred, sent = values
        expire_date = plausible(sent)
        return cls(bool(juvenile), bool(barred), expire_date is not None and expire_date < now)


class PatronRow(NamedTuple):
    """The columns of an ``au`` that make up a patron, as a query returns them. ``home_library`` and ``card`` are ids.

    Rows aren't :class:`Patron` yet because barcodes are in another table (``ac``), which is queried once per batch.
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
        family, first, second, suffix = (
            (preferred or "").strip() or (legal or "").strip()
            for legal, preferred in zip(names[:4], names[4:], strict=True)
        )
        return ", ".join(filter(None, (family, f"{first} {second}".strip(), suffix)))

    def patron(
        self,
        barcodes: Mapping[int, str],
        org_units: OrgUnits,
        *,
        deleted: bool = False,
        juvenile: bool | None = None,
    ) -> Patron:
        """Make the patron. ``barcodes`` are by card id. Raises DataError for an unknown home library."""
        return Patron(
            self.id,
            self.group,
            self.name,
            sys.intern(self.family_name or ""),  # share one string per family name
            None if self.card is None else barcodes.get(self.card),
            org_units.unit(self.home_library),
            self.profile,
            self.group_lead,
            deleted,
            juvenile,
        )


class StandingDifference(Enum):
    """How a member's status under the rule can differ from Evergreen's penalties. The values are used in JSON."""

    NOT_YET_BLOCKED = "not-yet-blocked"
    """Over the limit but not blocked for fines yet: the ILS recalculates only when something happens to the account."""
    NOW_WITHIN_LIMIT = "now-within-limit"
    """Blocked for fines although the own fines aren't over the limit, or no longer."""


class Standing(NamedTuple):
    """A member's status: over the limit by the rule (None: the limit is hidden), and blocked by penalties in the ILS.

    Notes don't block, and aren't among the penalties.
    """

    over_limit: bool | None
    blocks_for_fines: tuple[Penalty, ...]
    other_blocks: tuple[Penalty, ...]

    @classmethod
    def of(cls, member: Member, penalties: Collection[Penalty], kinds: PenaltyKinds) -> Standing:
        return cls.of_penalties(member.over_limit_if_known, member.patron.home_library.id, penalties, kinds)

    @classmethod
    def of_penalties(
        cls, over_limit: bool | None, home_library: int, penalties: Collection[Penalty], kinds: PenaltyKinds
    ) -> Standing:
        """Make the standing of a patron with this home library (id) and these penalties in force."""
        blocking = [penalty for penalty in penalties if penalty.kind.blocks]
        of_fines = kinds.for_fines_at(home_library)
        for_fines = tuple(penalty for penalty in blocking if penalty.kind.id in of_fines)
        others = tuple(penalty for penalty in blocking if penalty not in for_fines)
        return cls(over_limit, for_fines, others)

    @property
    def blocked_for_fines(self) -> bool:
        return bool(self.blocks_for_fines)

    @property
    def difference(self) -> StandingDifference | None:
        """How rule and penalties differ. None if they agree or the limit is unknown."""
        if self.over_limit is None or self.over_limit == self.blocked_for_fines:
            return None
        return StandingDifference.NOT_YET_BLOCKED if self.over_limit else StandingDifference.NOW_WITHIN_LIMIT


@dataclass(frozen=True, slots=True)
class StandingTotals:
    """How many members are over the limit, blocked for fines in the ILS, and blocked for any reason."""

    over_limit: Total[int]
    blocked_for_fines: Total[int]
    blocked: Total[int]

    @classmethod
    def of(cls, group: Group, standings: Sequence[Standing]) -> StandingTotals:
        """Count the standings of a group's visible members. A missing standing turns the counts into lower bounds."""
        known = len(standings) == len(group.members)
        for_fines = sum(standing.blocked_for_fines for standing in standings)
        blocked = sum(bool(standing.blocks_for_fines or standing.other_blocks) for standing in standings)
        return cls(group.over_limit_count, group.counted(for_fines, known=known), group.counted(blocked, known=known))


@dataclass(frozen=True, slots=True)
class AdultRule:
    """The rule for too many adults in one group: more than ``most`` patrons of ``from_age`` years or older.

    0 turns the rule off. A known birth date decides, even against the juvenile flag, which Evergreen doesn't clear by
    itself. Without a birth date, a patron counts as an adult unless flagged as a juvenile.
    """

    from_age: int = 18
    most: int = 0

    def __post_init__(self) -> None:
        for name in ("from_age", "most"):
            arguments.integer(name, getattr(self, name), least=0)

    @property
    def applies(self) -> bool:
        return self.most > 0

    def is_adult(self, account: PatronAccount, today: date) -> bool:
        if account.birth_date is None:
            return not account.juvenile
        return age_of(account.birth_date, today) >= self.from_age

    def count(self, patrons: Iterable[int], accounts: Mapping[int, PatronAccount]) -> int:
        today = datetime.now(UTC).date()
        return sum(self.is_adult(accounts[id], today) for id in patrons)


_STOPPED = ("LOST", "CLAIMSRETURNED", "LONGOVERDUE")


class ItemCondition(NamedTuple):
    """What a group's items must be like: ``least`` or more overdue for ``days`` or longer, or, if ``lost``, lost."""

    least: int
    lost: bool = False
    days: int = 0

    def cutoff(self, now: datetime) -> datetime:
        """Return when an item that counts as overdue must have been due, at the latest. ``now`` is aware."""
        return now - timedelta(self.days)

    def of_circulation(self, now: datetime) -> Query:
        """Return the condition on a circulation (``circ``) that counts, as :func:`~evergreen_groups.ils.kind_of`."""
        if self.lost:
            return {"checkin_time": None, "stop_fines": "LOST", "xact_finish": None}
        due = self.cutoff(now).isoformat(timespec="seconds")
        accrues: Query = {"-or": [{"stop_fines": None}, {"stop_fines": {"not in": list(_STOPPED)}}]}
        # Hashes in a list after -or are joined with OR as well, so say -and.
        stopped: Query = {"-and": [{"stop_fines": "LONGOVERDUE"}, {"xact_finish": None}]}
        if self.days:
            return {"checkin_time": None, "due_date": {"<=": due}, "-or": [accrues, stopped]}
        # Items with daily fines are overdue from the next day, by the database's time zone.
        hourly = {"-and": [{"due_date": {"<": due}}, {"fine_interval": {"<": "1 day"}}]}
        late = {"-or": [{"due_date": {"<": "today"}}, hourly]}
        return {"checkin_time": None, "-or": [{"-and": [accrues, late]}, stopped]}
