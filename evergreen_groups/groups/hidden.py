"""Find members whom the account can't see, and what they owe.

There are two ways. :func:`find_hidden_with_ids` lists the members of a few groups and works out who is hidden.
:func:`find_hidden` handles hundreds of groups in seven calls: it reads counts and sums only, and hands the groups that
don't add up to the first function.

For the sums, :func:`read_sums` reads a number of each of many groups, hidden members included, from the sort order of
rows. Permissions don't apply inside a subquery (``pcrud-141``), but a query can only compare a sum there, not select
it. So search for one visible member of each group, the *representative*, and sort the rows by the binary digits of
their groups' sums (``hidden-numbers-001``, ``hidden-numbers-003``). Other visible patrons, the *markers*, are sorted in
as well: before the representatives with each combination of bits comes the marker with that combination. One search
tells up to six bits, so the ILS checks the permission for each row only once for all of them. These checks take longer
than the sums.

Every answer proves itself: the markers must all be there and in order, and the order differs from search to search. An
answer that fails is ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain, pairwise, zip_longest
from typing import Any, ClassVar, TypeVar

from evergreen_groups.batches import batched, batched_by_size
from evergreen_groups.errors import DataError, PermissionDeniedError, ServerError, unreadable
from evergreen_groups.gateway import TOKEN, Gateway, finite_number, holds, rows_beyond, whole_number
from evergreen_groups.groups.models import HiddenMembers, Query
from evergreen_groups.ils import read_own_fines
from evergreen_groups.values import ZERO

_SERVICE = "open-ils.actor"
_MEMBERS = "open-ils.actor.usergroup.members.retrieve"
_BALANCES = "open-ils.actor.usergroup.members.balance_owed"
_ON_PRIMARY = ".authoritative"

# The gateway accepts forms of up to 32 kB. Two lists of 1,000 seven-digit ids take 20 kB, which leaves room for the
# numbers of a hundred groups.
IDS_AT_ONCE = 1_000
# Each pair takes some 300 bytes of the 32 kB form.
_PAIRS_AT_ONCE = 60


Value = TypeVar("Value")

_CENT = Decimal("0.01")


def _sum_of(balances: Mapping[int, Decimal], ids: Iterable[int]) -> Decimal:
    return sum((balances.get(id, ZERO) for id in ids), ZERO)


def inconsistent_members() -> DataError:
    """Make the error for member lists or balances that don't match the groups that were asked for."""
    return unreadable(
        "members-not-asked-for",
        "not the members of the requested groups",
        advice="try again later, and check any proxy in between: it may have mixed up answers",
    )


def read_member_ids(
    gateway: Gateway, groups: Sequence[int], *, primary: bool = False, own_connection: bool = False
) -> frozenset[int]:
    """Return the ids of all members of some groups, hidden ones included and deleted ones not.

    With ``primary``, read from the primary database. The default reads from the same database as pcrud, so the ids
    match pcrud's rows. The answer doesn't say which group a member is in, so an answer to another request would go
    unnoticed; ``own_connection`` asks over a connection that no other request uses.

    ``usergroup.members.retrieve`` checks VIEW_USER at the account's own library only, and then lists every member
    (``groups-047``). The method also accepts a list of groups (``groups-075``).
    """
    method = f"{_MEMBERS}{_ON_PRIMARY}" if primary else _MEMBERS
    answer = gateway.call(_SERVICE, method, TOKEN, list(groups), own_connection=own_connection).value
    # Iterating over a hash or a text could look like a group without members.
    ids: list[int | None] = [whole_number(id) for id in answer] if isinstance(answer, list) else [None]
    if None in ids:
        raise unreadable("members-broken", "members aren't ids")
    return frozenset(_without_duplicates(ids))


def read_balances(
    gateway: Gateway, groups: Sequence[int], *, primary: bool = False, own_connection: bool = False
) -> dict[int, Decimal]:
    """Return what each member with an open transaction owes, by id. The rest is as in :func:`read_member_ids`."""
    wanted = list(groups) if len(groups) > 1 else groups[0]
    method = f"{_BALANCES}{_ON_PRIMARY}" if primary else _BALANCES
    answer = gateway.call(_SERVICE, method, TOKEN, wanted, own_connection=own_connection).value
    try:
        # Amounts are strings such as "0.0" and "0.00" (groups-026, groups-008). A member without an open transaction is
        # missing (groups-002), which means a balance of zero, not an unknown balance.
        balances = [(whole_number(entry["usr"]), finite_number(entry["balance_owed"])) for entry in answer]
        found = {id: owed.quantize(ZERO) for id, owed in balances if id is not None and owed is not None}
    except (ArithmeticError, TypeError, KeyError):
        answer = None
    if not isinstance(answer, list) or None in chain.from_iterable(balances):
        raise unreadable("balance-broken", "a balance isn't an amount")
    _without_duplicates([id for id, _owed in balances])
    return found


def read_visible_balances(
    gateway: Gateway, groups: Sequence[int], *, primary: bool = False, own_connection: bool = False
) -> dict[int, Decimal] | None:
    """Like :func:`read_balances`, but return None if the account may list members but not see their balances."""
    try:
        return read_balances(gateway, groups, primary=primary, own_connection=own_connection)
    except PermissionDeniedError:  # unknown, not zero
        return None


def _without_duplicates(ids: list[int | None]) -> list[int]:
    """Return the ids. Raise DataError for a duplicate, because a patron would be counted twice."""
    found = [id for id in ids if id is not None]
    if len(set(found)) < len(found):
        raise unreadable(
            "member-twice",
            "a member is listed twice",
            advice="check any proxy in between: it may have mixed up answers",
        )
    return found


def membership_conditions(
    groups: Sequence[int], hidden: Mapping[int, Set[int]], total: int, *, owing_nothing: Set[int] = frozenset()
) -> list[dict[str, Any]]:
    """Return conditions that the ILS can check without showing any hidden row.

    They say that the ``hidden`` members (ids by group) are in these groups, that the groups have no more than ``total``
    members, and that no patron in ``owing_nothing`` (ids) has an open transaction. Each condition takes one call. There
    is one condition, or more for thousands of hidden members.
    """
    pairs = sorted((group, id) for group, ids in hidden.items() for id in ids)
    # If all hidden members are in the groups and the total is right, no other member can be missing from the list.
    no_others = _no_more_than(total, groups)
    batches = batched(pairs, IDS_AT_ONCE) if pairs else [[]]
    return [
        {"-and": [no_others, *_each_in_its_group(batch), *_no_open_transaction(ids)]}
        for batch, ids in zip_longest(batches, batched(sorted(owing_nothing), IDS_AT_ONCE), fillvalue=())
    ]


def assign_to_groups(
    gateway: Gateway,
    groups: Sequence[int],
    hidden: Set[int],
    total: int,
    *,
    owing_nothing: Set[int],
    rows: tuple[str, Sequence[int]],
) -> dict[int, frozenset[int]] | None:
    """Find the group of each ``hidden`` member (id). Return None unless :func:`membership_conditions` hold.

    Takes one call. The hidden members' own rows don't come back, so each pair of a hidden member and a group gets one
    of the visible ``rows`` (a class with ids), which comes back if the member is in the group (``desk-008``,
    ``desk-009``). Every hidden member must be found in exactly one group, so a lost row is noticed.
    """
    pairs = [(group, id) for group in groups for id in sorted(hidden)]
    class_id, ids = rows
    pair_of = dict(zip(ids, pairs, strict=True))
    where: dict[str, Any] = {
        "id": list(ids),
        "-and": [_no_more_than(total, groups), *_no_open_transaction(sorted(owing_nothing))],
        # Each row's id is bound to its own condition, so the row returns only for its own pair.
        "-or": [
            {
                "-and": [
                    {"id": id},
                    {"-exists": rows_beyond(0, "au", {"deleted": "f", "usrgroup": group, "id": patron}, "id")},
                ]
            }
            for id, (group, patron) in pair_of.items()
        ],
    }
    found = [pair_of[row.id] for row in gateway.pcrud.search(class_id, where, select=["id"], limit=len(pairs))]
    if sorted(id for _group, id in found) != sorted(hidden):
        return None
    by_group = {group: frozenset(id for number, id in found if number == group) for group in groups}
    return {group: ids for group, ids in by_group.items() if ids}


def _no_more_than(total: int, groups: Sequence[int]) -> dict[str, Any]:
    return {"-not-exists": rows_beyond(total, "au", {"deleted": "f", "usrgroup": list(groups)}, "id")}


def _each_in_its_group(pairs: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    if not pairs:
        return []
    by_group: dict[int, list[int]] = {}
    for group, id in pairs:
        by_group.setdefault(group, []).append(id)
    # Inside -or, the fields of a hash are alternatives too, unless they are wrapped in -and.
    alternatives = [{"-and": {"usrgroup": group, "id": ids}} for group, ids in by_group.items()]
    return [{"-exists": rows_beyond(len(pairs) - 1, "au", {"deleted": "f", "-or": alternatives}, "id")}]


def _no_open_transaction(ids: Sequence[int]) -> list[dict[str, Any]]:
    return [{"-not-exists": rows_beyond(0, "mbts", {"usr": list(ids), "xact_finish": None}, "usr")}] if ids else []


_MAX_ROUNDS = 3
# The ILS runs a query for each member's balance, so first narrow a long list down to groups with hidden members.
_MAX_GROUPS = 20
_GROUPS_AT_ONCE = 100


def find_hidden_with_ids(
    gateway: Gateway,
    visible: Mapping[int, Set[int]],
    org_units: Callable[[], Collection[int]],
    primary: Mapping[int, Set[int]] | None = None,
) -> dict[int, HiddenMembers]:
    """Find hidden members and their ids by comparing the visible ones (ids by group) with the ILS's member lists.

    Takes three calls: all member ids; if any are hidden, all balances; then one query that finds the group of each
    hidden member and confirms that the list is complete and that members without a balance owe nothing. For several
    groups, the last query needs one visible member or ``org_units`` id for each pair of a hidden member and a group. If
    there are too few, it takes one more call for each group but the last. For more than twenty groups, first check a
    hundred at a time for hidden members, then read twenty at a time.

    ``primary`` are the member lists of the groups if the caller has read them from the primary database. Then the
    balances come from there as well.

    Raises:
        DataError: the ILS lists members or balances of other groups, or leaves some out.
        PermissionDeniedError: the account has no VIEW_USER at its own library, so it can't list members.
    """
    if primary is not None:
        return _find_on_primary(gateway, visible, primary)
    numbers = sorted(visible)
    batches = batched(numbers, _GROUPS_AT_ONCE)
    if len(numbers) > _MAX_GROUPS:
        read = gateway.map(lambda groups: (groups, *_all_and_visible(gateway, groups, visible)), batches)
        with_hidden = [group for groups, everybody, known in read if not everybody <= known for group in groups]
        batches = batched(sorted(with_hidden), _MAX_GROUPS)
    found: dict[int, HiddenMembers] = {}
    for hidden in gateway.map(lambda groups: _hidden_of(gateway, groups, visible, org_units), batches):
        found.update(hidden)
    return found


def _all_and_visible(
    gateway: Gateway, groups: Sequence[int], visible: Mapping[int, Set[int]]
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the ids of all members of some groups, and of the visible members. Reject a list of other groups."""
    everybody = read_member_ids(gateway, groups)
    known = frozenset[int]().union(*(visible[group] for group in groups))
    # A few patrons may have been moved between two reads. If most visible members are missing, the list isn't for these
    # groups.
    if len(known & everybody) * 2 < len(known):
        raise inconsistent_members()
    return everybody, known


def _hidden_of(
    gateway: Gateway, groups: Sequence[int], visible: Mapping[int, Set[int]], org_units: Callable[[], Collection[int]]
) -> dict[int, HiddenMembers]:
    for _ in range(_MAX_ROUNDS):
        everybody, known = _all_and_visible(gateway, groups, visible)
        hidden = everybody - known
        if not hidden:
            return {}
        owed = read_visible_balances(gateway, groups)
        # A patron was moved in between the two reads, or the balances belong to other patrons. Read again.
        if owed is not None and not owed.keys() <= everybody | known:
            continue
        # A lost balance would turn a debt into 0.00, so have the database confirm that the others have no open
        # transaction.
        owing_nothing = frozenset() if owed is None else hidden - owed.keys()
        rows = _signal_rows(len(groups) * len(hidden), known & everybody, org_units) if len(groups) > 1 else None
        found: Mapping[int, frozenset[int]] | None
        if rows is not None:
            found = assign_to_groups(gateway, groups, hidden, len(everybody), owing_nothing=owing_nothing, rows=rows)
        else:
            *others, last = groups
            read = gateway.map(lambda group: read_member_ids(gateway, [group]), others)
            by_group = {group: ids & hidden for group, ids in zip(others, read, strict=True)}
            # The last group needs no call: it has the hidden members who aren't in the others. The conditions confirm
            # this.
            by_group[last] = hidden.difference(*by_group.values())
            by_group = {group: ids for group, ids in by_group.items() if ids}
            conditions = membership_conditions(groups, by_group, len(everybody), owing_nothing=owing_nothing)
            found = by_group if all(holds(gateway, condition) for condition in conditions) else None
        if found is not None:
            return {group: HiddenMembers.of(ids, owed) for group, ids in found.items()}
    raise inconsistent_members()


def _signal_rows(
    count: int, members: Collection[int], org_units: Callable[[], Collection[int]]
) -> tuple[str, Sequence[int]] | None:
    """Choose visible rows for :func:`assign_to_groups`. Return None if there are too few or ``count`` is too high."""
    # Prefer the groups' own members: an answer to another client's query, mixed up by a proxy, wouldn't contain them.
    # Every account can see org units.
    if count <= _PAIRS_AT_ONCE:
        if len(members) >= count:
            return "au", sorted(members)[:count]
        if len(units := sorted(org_units())) >= count:
            return "aou", units[:count]
    return None


def _find_on_primary(
    gateway: Gateway, visible: Mapping[int, Set[int]], members: Mapping[int, Set[int]]
) -> dict[int, HiddenMembers]:
    """Find the ``members`` (ids by group, from the primary database) who aren't ``visible``, and what they owe.

    A query on the replica verifies the list. It fails while the replica lags behind; then the lists are read again from
    the primary database and must be the same.
    """
    hidden = {group: ids - visible.get(group, set()) for group, ids in members.items()}
    hidden = {group: ids for group, ids in hidden.items() if ids}
    if not hidden:
        return {}
    groups = sorted(hidden)
    # Balances bypass visibility, so they can be summed up for members whose rows don't come back.
    owed = read_visible_balances(gateway, groups, primary=True)
    everybody = frozenset[int]().union(*(members[group] for group in groups))
    if owed is not None and not owed.keys() <= everybody:
        raise inconsistent_members()
    owing_nothing = frozenset[int]() if owed is None else frozenset[int]().union(*hidden.values()) - owed.keys()
    conditions = membership_conditions(groups, hidden, len(everybody), owing_nothing=owing_nothing)
    if not all(holds(gateway, condition) for condition in conditions):
        again = read_members(gateway, groups, own_connection=True)
        if read_visible_balances(gateway, groups, primary=True, own_connection=True) != owed or any(
            again[group] != members[group] for group in groups
        ):
            raise inconsistent_members()
    return {group: HiddenMembers.of(ids, owed) for group, ids in hidden.items()}


def read_members(
    gateway: Gateway, groups: Collection[int], *, own_connection: bool = False
) -> dict[int, frozenset[int]]:
    """Like :func:`read_member_ids` on the primary database, but by group number. Takes one call per group."""
    # A single call for all groups wouldn't show moves between them.
    numbers = sorted(groups)
    found = gateway.map(
        lambda group: read_member_ids(gateway, [group], primary=True, own_connection=own_connection), numbers
    )
    return dict(zip(numbers, found, strict=True))


# Each additional bit doubles the number of markers, and the ILS checks permissions for each marker's row.
_MIN_BITS, _MAX_BITS = 4, 6
_MARKER = {"aou": {"label": {"class": "au", "field": "home_ou", "fkey": "id"}}}

MIN_MARKERS, MAX_MARKERS = 2**_MIN_BITS, 2**_MAX_BITS
"""The number of markers that :func:`read_sums` needs, and the most it can use. More markers mean fewer searches."""


class GroupSum(ABC):
    """An aggregate over the members of a group, as a number of up to ``BITS`` bits."""

    BITS: ClassVar[int]
    SOURCE: ClassVar[Query]
    """What to aggregate, with members as ``m``."""
    WHERE: ClassVar[Query] = {}

    @property
    def conditions(self) -> list[Query]:
        """The conditions to sort by: whether the number is out of range, then each bit from the highest down."""
        return [self._is_out_of_range(), *(self._bit_is_set(position) for position in reversed(range(self.BITS)))]

    def of_group(self, condition: Query, markers: Sequence[int]) -> Query:
        """Return a query for the group of patron ``au``, unless a marker (id), if the condition holds for the group."""
        return {
            "select": {"m": [{"column": "usrgroup", "transform": "max", "aggregate": True}]},
            "from": self.SOURCE,
            "where": {
                **self.WHERE,
                "+m": {"deleted": "f", "usrgroup": {"=": {"+au": "usrgroup"}}},
                "+au": {"id": {"not in": list(markers)}},
            },
            "having": condition,
        }

    @abstractmethod
    def _is_out_of_range(self) -> Query:
        """Return the condition that the number is negative or needs more bits."""

    @abstractmethod
    def _bit_is_set(self, position: int) -> Query:
        """Return the condition that a bit is set. The lowest bit has position 0."""


class MemberCount(GroupSum):
    """The number of members of a group, including hidden ones."""

    BITS = 5
    SOURCE: ClassVar = {"aou": {"m": {"class": "au", "field": "home_ou", "fkey": "id"}}}

    def _is_out_of_range(self) -> Query:
        return self._count(">=", 2**self.BITS)

    def _bit_is_set(self, position: int) -> Query:
        """Return the condition that masking the bit out changes the number."""
        # A bitwise "and" works here because counts are integers. Sums of money aren't, see MemberFines.
        return self._count("<>", self._count("&", 2**self.BITS - 1 - 2**position))

    def _count(self, operator: str, value: Query | int) -> Query:
        return {"+m": {"id": {operator: {"transform": "count", "value": value}}}}


class MemberFines(GroupSum):
    """What all members of a group owe in open transactions, in cents, including hidden members."""

    BITS = 17
    SOURCE: ClassVar = {"mbts": {"m": {"class": "au", "fkey": "usr", "field": "id"}}}
    WHERE: ClassVar = {"+mbts": {"xact_finish": None}}

    def _is_out_of_range(self) -> Query:
        # Recorded in hidden-numbers-002.
        return {"-or": [self._sum("<", "0"), self._sum(">=", str(2**self.BITS * _CENT))]}

    def _bit_is_set(self, position: int) -> Query:
        """Return the condition that the amount rounds up to a multiple of twice the bit's value.

        The modulo operator doesn't reach the database, because a ``%`` in a key is lost on the way. Floating point does
        the rounding instead: add a number so large that its last bit has the value to round to, and subtract it again.
        A condition needs a column on its left side, so a constant is written as the average of itself (``regr_avgx``),
        which is exact for a number with two significant bits. Scaling by a millionth up and down makes halves round up
        and keeps equal values equal. The error stays below a cent for every number in range.
        """
        large = 3 * 2 ** (52 + position)
        cents = self._sum("*", "100.0001")
        rounded = self._number("+", -large, self._number("+", large, cents))
        return self._sum("<", self._number("*", "0.00999999", rounded))

    def _sum(self, operator: str, value: Query | str) -> Query:
        return {"+mbts": {"balance_owed": {operator: {"transform": "sum", "value": value}}}}

    def _number(self, operator: str, constant: int | str, value: Query) -> Query:
        average = {"transform": "regr_avgx", "params": [str(constant)], "value": value}
        return {"+mbts": {"usr": {operator: average}}}


def read_sums(
    gateway: Gateway, number: GroupSum, representatives: Mapping[int, int], markers: Sequence[int]
) -> dict[int, int | None]:
    """Return the number of each group (members or cents), by group number; None if it is out of range.

    ``representatives`` maps patron ids to their groups. Groups whose answers can't be trusted are left out. ``markers``
    are the ids of at least ``MIN_MARKERS`` other visible patrons.
    """
    conditions = number.conditions
    at_once = min(len(markers).bit_length() - 1, _MAX_BITS)
    # Rotate the markers, so that each search expects its own order and rejects another search's answer.
    searches = [
        _SortedSearch(number, chunk, representatives, [*markers[position:], *markers[:position]][: 2 ** len(chunk)])
        for position, chunk in enumerate(batched(conditions, at_once))
    ]
    found = list(gateway.map(lambda search: search.ask(gateway), searches))
    # Keep the groups that every search answered.
    groups = set(representatives.values()).intersection(*found)
    bits = {group: "".join(searched[group] for searched in found) for group in groups}
    # The first bit says whether the number is out of range.
    return {group: None if ones[0] == "1" else int(ones, 2) for group, ones in bits.items()}


@dataclass(frozen=True, slots=True)
class _SortedSearch:
    """One search whose sort order tells for which groups some conditions hold."""

    number: GroupSum
    conditions: Sequence[Query]
    representatives: Mapping[int, int]
    markers: Sequence[int]

    def ask(self, gateway: Gateway) -> dict[int, str]:
        """Return by group which conditions hold (1 or 0). Return nothing if the answer doesn't prove itself."""
        ids = sorted({*self.representatives, *self.markers})
        where = {"id": ids, "deleted": "f"}
        rows = gateway.pcrud.search_columns("au", ("id", "usrgroup"), where, order_by=self._order(), limit=len(ids))
        markers = set(self.markers)
        starts = [start for start, (id, _group) in enumerate(rows) if id in markers]
        # All markers must be there in the expected order, with no row before the first one.
        if [rows[start][0] for start in starts] != list(self.markers) or starts[0] != 0:
            return {}
        found: dict[int, str] = {}
        for position, (start, end) in enumerate(pairwise([*starts, len(rows)])):
            block = rows[start + 1 : end]
            # Rows with the same bits are sorted by id. Any other order means that the answer was garbled.
            if block != sorted(block):
                return {}
            # A representative who has been moved says nothing about the group.
            found.update((group, self._bits(position)) for id, group in block if self.representatives[id] == group)
        return found

    def _bits(self, position: int) -> str:
        return f"{position:0{len(self.conditions)}b}"

    def _order(self) -> list[Query]:
        # Among rows with the same bits, the marker comes first.
        first = {"class": "au", "field": "id", "compare": {"in": list(self.markers)}, "direction": "desc"}
        bits = [self._bit_order(position, condition) for position, condition in enumerate(self.conditions)]
        return [*bits, first, {"class": "au", "field": "id"}]

    def _bit_order(self, position: int, condition: Query) -> Query:
        """Sort by whether the condition holds for a representative's group, or by the marker's bit."""
        ones = [id for marker, id in enumerate(self.markers) if self._bits(marker)[position] == "1"]
        marked = {
            "select": {"label": ["usrgroup"]},
            "from": _MARKER,
            "where": {"+label": {"id": {"=": {"+au": "id"}}}, "+au": {"id": ones}},
        }
        either = {"union": [self.number.of_group(condition, self.markers), marked]}
        return {"class": "au", "field": "usrgroup", "compare": {"in": either}}


# Up to five groups take three calls with find_hidden_with_ids; reading sums takes at least seven.
_FEW = 5
# The share of the 32 kB form that ids may fill; the rest is for the query itself.
_MAX_IDS_BYTES = 26_000
BalanceProgress = Callable[[int, int], None]
"""Called with the number of groups whose balances were read since the last call, and the number of groups added."""


def find_hidden(
    gateway: Gateway,
    visible: Mapping[int, Set[int]],
    org_units: Callable[[], Collection[int]],
    progress: BalanceProgress = lambda _read, _more: None,
    *,
    own_fines: Mapping[int, Decimal] | None = None,
    with_fines: bool = True,
) -> dict[int, HiddenMembers]:
    """Find hidden members of groups by comparing the visible ones (ids by group) with the ILS.

    Leave out groups without hidden members. ``own_fines`` is what visible members owe, by id (a missing patron owes
    nothing); it is read if not given. With ``with_fines=False``, count hidden members and skip their fines where that
    saves calls.

    Takes seven calls for some 600 groups, however many members are hidden (ten if few members are visible; two without
    fines). :func:`read_sums` gives each group's member count and total balance, and the visible members' share is
    subtracted. A sum inside a query bypasses permissions, so the account must first prove that it may know the
    balances: ``usergroup.members.balance_owed`` gives the balances of any group to an account with VIEW_USER at its own
    library. Its answer for one group must equal that group's sum, and the counts and sums of all groups together are
    checked as well.

    :func:`find_hidden_with_ids`, which needs ``org_units`` and raises the same errors, handles fewer than six groups,
    groups with more members or fines than fit into a sum, and groups that changed between two reads. Only these have
    the ids of their hidden members.
    """
    in_bulk = {group: ids for group, ids in visible.items() if ids and _form_bytes(ids) < _MAX_IDS_BYTES}
    everybody = [id for group in sorted(visible) for id in visible[group]]

    def find(groups: Iterable[int]) -> dict[int, HiddenMembers]:
        in_batch = {group: visible[group] for group in groups}
        # The visible member with the lowest id represents the group in a sorted search.
        markers = sorted(set(everybody) - set(map(min, in_batch.values())))[:MAX_MARKERS]
        if len(markers) < MIN_MARKERS:
            return {}
        batch = _Batch(gateway, in_batch, markers)
        counts = batch.count()
        if not with_fines:
            return {group: HiddenMembers(count, None) for group, count in counts.items()}
        found = {group: HiddenMembers(0, ZERO) for group, count in counts.items() if not count}
        if with_hidden := counts.keys() - found.keys():
            progress(0, len(with_hidden))
            sample = max(with_hidden, key=lambda group: (counts[group], group))
            fines = batch.fines(sample, with_hidden, own_fines)
            found.update((group, HiddenMembers(counts[group], owed)) for group, owed in fines.items())
            progress(len(with_hidden), 0)
        return found

    certain: dict[int, HiddenMembers] = {}
    for found in gateway.map(find, _in_batches(in_bulk) if len(in_bulk) > _FEW else []):
        certain.update(found)
    rest = {group: visible[group] for group in visible.keys() - certain.keys()}
    hidden = {group: members for group, members in certain.items() if members.count}
    return {**hidden, **find_hidden_with_ids(gateway, rest, org_units)}


class _Batch:
    """As many groups as fit into one query, with their ``visible`` members (ids by group)."""

    def __init__(self, gateway: Gateway, visible: Mapping[int, Set[int]], markers: list[int]) -> None:
        self._gateway = gateway
        self._visible = visible
        self._markers = markers

    def count(self) -> dict[int, int]:
        """Return the number of hidden members of each group, zero included, as far as it could be verified."""
        counts: dict[int, int] = {}
        for group, count in self._read(MemberCount(), self._visible).items():
            # A lower count means that visible members left between the reads.
            if count is not None and count >= len(self._visible[group]):
                counts[group] = count - len(self._visible[group])
        return self._verified(counts, _count_matches)

    def fines(
        self, sample: int, groups: Collection[int], own_fines: Mapping[int, Decimal] | None
    ) -> Mapping[int, Decimal | None]:
        """Return what the hidden members of each group owe, None if the account may not know.

        The sum of ``sample``, one of the groups, must equal the balances that the ILS reports for that group alone.
        """
        balances = read_visible_balances(self._gateway, [sample])
        if balances is None:
            return dict.fromkeys(groups)
        if own_fines is None:
            own_fines = read_own_fines(self._gateway, self._known(groups))
        fines: dict[int, Decimal] = {}
        for group, number in self._read(MemberFines(), groups).items():
            if number is not None:
                fines[group] = number * _CENT - _sum_of(own_fines, self._visible[group])
        reported = _sum_of(balances, balances.keys() - self._visible[sample])
        verified = self._verified(fines, _sum_matches) if fines.get(sample, reported) == reported else {}
        return {**verified}

    def _verified(
        self, found: Mapping[int, Value], together: Callable[[Collection[Value], Query], Query]
    ) -> dict[int, Value]:
        """Keep the groups for which the values in ``found`` pass the check of their total.

        ``together`` makes a condition from the values and a query for the hidden members. Payments arrive all the time,
        so if the total is wrong, check each half of the groups separately.
        """
        if not found:
            return {}
        hidden: Query = {"deleted": "f", "usrgroup": sorted(found), "id": {"not in": self._known(found)}}
        if holds(self._gateway, together(found.values(), hidden), own_connection=True):
            return dict(found)
        # Leave small remainders to find_hidden_with_ids instead of halving further.
        if len(found) <= _FEW:
            return {}
        groups = sorted(found)
        halves = (groups[: len(groups) // 2], groups[len(groups) // 2 :])
        verified = [self._verified({group: found[group] for group in half}, together) for half in halves]
        return {**verified[0], **verified[1]}

    def _read(self, number: GroupSum, groups: Collection[int]) -> dict[int, int | None]:
        representatives = {min(self._visible[group]): group for group in groups}
        try:
            return read_sums(self._gateway, number, representatives, self._markers)
        # A release that supports fewer functions or operators can still list members.
        except ServerError:
            return {}

    def _known(self, groups: Iterable[int]) -> list[int]:
        return sorted(chain.from_iterable(self._visible[group] for group in groups))


def _count_matches(counts: Collection[int], hidden: Query) -> Query:
    """Return the condition that exactly this many patrons are hidden (``hidden-numbers-004``)."""
    count = {
        "select": {"au": [{"column": "id", "transform": "count", "aggregate": True}]},
        "from": "au",
        "where": hidden,
        "having": {"+au": {"id": {"=": {"transform": "count", "value": sum(counts)}}}},
    }
    return {"-exists": count}


def _sum_matches(fines: Collection[Decimal], hidden: Query) -> Query:
    """Return the condition that hidden patrons owe this much: ``hidden-numbers-005``, unlike ``hidden-numbers-006``."""
    total = sum(fines, ZERO)
    # Without any transaction SQL's sum is NULL, which equals no amount, so zero is checked the other way around: no sum
    # other than zero.
    word, operator = ("-exists", "=") if total else ("-not-exists", "<>")
    owed: Query = {
        "select": {"mbts": [{"column": "balance_owed", "transform": "sum", "aggregate": True}]},
        "from": {"mbts": {"m": {"class": "au", "fkey": "usr", "field": "id"}}},
        "where": {"+mbts": {"xact_finish": None}, "+m": hidden},
        "having": {"+mbts": {"balance_owed": {operator: {"transform": "sum", "value": str(total)}}}},
    }
    return {word: owed}


def _in_batches(known: Mapping[int, Set[int]]) -> Iterator[list[int]]:
    # If there are hardly any members besides the representatives, split the groups in two: the representatives of each
    # half serve as markers for the other.
    few = sum(map(len, known.values())) - len(known) < MIN_MARKERS
    most = (len(known) + 1) // 2 if few else len(known)
    return batched_by_size(sorted(known), _MAX_IDS_BYTES, lambda group: _form_bytes(known[group]), lambda _count: most)


def _form_bytes(ids: Set[int]) -> int:
    """Return the bytes that a group takes in a form: its ids, number and representative, each with a comma."""
    return (len(ids) + 2) * (len(str(max(ids, default=0))) + len("%2C"))


_MAX_READINGS = 2

Confirm = Callable[[dict[str, Any]], bool]
"""Checks a condition in a call that is made anyway. Returns False if the condition fails or can't be checked."""


def read_group_balances(
    gateway: Gateway, group: int, visible: Set[int], *, confirm: Confirm = lambda _condition: False
) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
    """Return the balances of a group's members with open transactions, by id, and the members who aren't ``visible``.

    Takes two concurrent calls, plus one to verify hidden members unless ``confirm`` already did. Use this only for
    groups that may have hidden members: ``usergroup.members.balance_owed`` runs a query per member, which takes ten
    times as long as reading visible members' balances. If plain reads go to a replica, both lists come from the primary
    database. The account needs VIEW_USER at its own library, and permission to see the balances.
    """
    primary = gateway.reads_replicas
    former: tuple[Mapping[int, Decimal], frozenset[int]] | None = None
    for _ in range(_MAX_READINGS):
        options = {"primary": primary, "own_connection": former is not None}
        balances, everybody = gateway.in_parallel(
            partial(read_balances, gateway, [group], **options), partial(read_member_ids, gateway, [group], **options)
        )
        hidden = everybody - visible
        # A patron was moved between the two reads, or the balances belong to other patrons. Read again.
        if not everybody >= balances.keys() | visible:
            continue
        if not hidden:
            return balances, None
        owing_nothing = everybody - balances.keys()
        conditions = membership_conditions([group], {group: hidden}, len(everybody), owing_nothing=owing_nothing)
        confirmed = len(conditions) == 1 and confirm(conditions[0])
        if confirmed or all(holds(gateway, condition) for condition in conditions):
            return balances, HiddenMembers.of(hidden, balances)
        # The condition runs on the replica and fails while the replica lags behind. If a second read of the primary
        # gives the same lists, trust them.
        if primary and (balances, everybody) == former:
            return balances, HiddenMembers.of(hidden, balances)
        former = balances, everybody
    raise inconsistent_members()
