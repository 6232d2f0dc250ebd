"""Find members whom the account can't see, and what they owe.

Evergreen leaves out the rows of hidden patrons. But two methods list all members of a group, hidden ones included, to
an account that may see patrons at its own library: one lists their ids, the other their balances.

Both methods take several groups in one call and then don't say who belongs to which. So :func:`find_hidden` reads a
few groups together, and one query tells the group of each hidden member (:func:`assign_to_groups`). The same query
confirms that the lists are complete, because a lost row must not make a total lower.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from decimal import Decimal
from functools import partial
from itertools import chain, islice, product, zip_longest
from math import isqrt
from typing import Any

from evergreen_groups.batches import batched, batched_by_size
from evergreen_groups.errors import DataError, PermissionDeniedError, unreadable
from evergreen_groups.gateway import TOKEN, Gateway, finite_number, holds, rows_beyond, whole_number
from evergreen_groups.groups.models import HiddenMembers
from evergreen_groups.message import Message, Progress, silent
from evergreen_groups.values import ZERO

# The gateway accepts forms of up to 32 kB. Two lists of 1,000 seven-digit ids take 20 kB, which leaves room for the
# numbers of a hundred groups.
IDS_AT_ONCE = 1_000
# Each pair of a group and a hidden member takes some 250 bytes of the form.
_USUAL_PAIRS, _MAX_PAIRS = 80, 100


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

    With ``primary``, read from the primary database, not from pcrud's. The answer doesn't say which group a member is
    in, so an answer to another request would go unnoticed; ``own_connection`` asks over a connection that no other
    request uses. ``usergroup.members.retrieve`` checks VIEW_USER at the account's own library only, and then lists
    every member (``groups-047``), also for a list of groups (``groups-075``).
    """
    method = "open-ils.actor.usergroup.members.retrieve"
    answer = _call(gateway, method, list(groups), primary=primary, own_connection=own_connection)
    # Iterating over a hash or a text could look like a group without members.
    ids: list[int | None] = [whole_number(id) for id in answer] if isinstance(answer, list) else [None]
    if None in ids:
        raise unreadable("members-broken", "members aren't ids")
    _refuse_duplicates(ids)
    return frozenset(id for id in ids if id is not None)


def read_balances(
    gateway: Gateway, groups: Sequence[int], *, primary: bool, own_connection: bool
) -> dict[int, Decimal]:
    """Return what each member with an open transaction owes, by id. The rest is as in :func:`read_member_ids`."""
    method = "open-ils.actor.usergroup.members.balance_owed"
    wanted = list(groups) if len(groups) > 1 else groups[0]
    answer = _call(gateway, method, wanted, primary=primary, own_connection=own_connection)
    try:
        # Amounts are strings such as "0.0" and "0.00" (groups-026, groups-008). A member without an open transaction is
        # missing (groups-002), which means a balance of zero, not an unknown balance.
        balances = [(whole_number(entry["usr"]), finite_number(entry["balance_owed"])) for entry in answer]
        found = {id: owed.quantize(ZERO) for id, owed in balances if id is not None and owed is not None}
    except (ArithmeticError, TypeError, KeyError):
        answer = None
    if not isinstance(answer, list) or None in chain.from_iterable(balances):
        raise unreadable("balance-broken", "a balance isn't an amount")
    _refuse_duplicates([id for id, _owed in balances])
    return found


def read_visible_balances(
    gateway: Gateway, groups: Sequence[int], *, primary: bool = False, own_connection: bool = False
) -> dict[int, Decimal] | None:
    """Like :func:`read_balances`, but return None if the account may list members but not see their balances."""
    try:
        return read_balances(gateway, groups, primary=primary, own_connection=own_connection)
    except PermissionDeniedError:  # unknown, not zero
        return None


def read_members(gateway: Gateway, groups: Collection[int]) -> dict[int, frozenset[int]]:
    """Like :func:`read_member_ids` on the primary database, but by group number. Takes one call per group."""
    # A single call for all groups wouldn't show moves between them.
    numbers = sorted(groups)
    found = gateway.map(lambda group: read_member_ids(gateway, [group], primary=True), numbers)
    return dict(zip(numbers, found, strict=True))


def _call(gateway: Gateway, method: str, groups: object, *, primary: bool, own_connection: bool) -> Any:
    method = f"{method}.authoritative" if primary else method
    return gateway.call("open-ils.actor", method, TOKEN, groups, own_connection=own_connection).value


def _refuse_duplicates(ids: Sequence[int | None]) -> None:
    """Raise DataError for a duplicate, because a patron would be counted twice."""
    if len(set(ids)) < len(ids):
        raise unreadable(
            "member-twice",
            "a member is listed twice",
            advice="check any proxy in between: it may have mixed up answers",
        )


Confirm = Callable[[dict[str, Any]], bool]
"""Checks a condition in a call that is made anyway. Returns False if the condition fails or can't be checked."""


def membership_conditions(
    group: int, hidden: Set[int], total: int, *, owing_nothing: Set[int] = frozenset()
) -> list[dict[str, Any]]:
    """Return conditions that the ILS can check without showing any hidden row: one, or more for thousands of members.

    They say that the ``hidden`` members (ids) are in the group, that it has no more than ``total`` members, and that no
    patron in ``owing_nothing`` (ids) has an open transaction.
    """
    # If all hidden members are in the group and the total is right, no other member can be missing from the list.
    conditions = []
    batches = batched(sorted(hidden), IDS_AT_ONCE), batched(sorted(owing_nothing), IDS_AT_ONCE)
    for ids, others in zip_longest(*batches, fillvalue=()):
        # Inside -or, the fields of a hash are alternatives too, unless they are wrapped in -and.
        members = {"deleted": "f", "-or": [{"-and": {"usrgroup": group, "id": list(ids)}}]}
        in_group = [{"-exists": rows_beyond(len(ids) - 1, "au", members, "id")}] if ids else []
        conditions.append({"-and": [*_no_more_than(total, [group], others), *in_group]})
    return conditions


def _confirmed(
    gateway: Gateway, group: int, hidden: Set[int], total: int, owing_nothing: Set[int], confirm: Confirm | None = None
) -> bool:
    conditions = membership_conditions(group, hidden, total, owing_nothing=owing_nothing)
    if confirm is not None and len(conditions) == 1 and confirm(conditions[0]):
        return True
    return all(holds(gateway, condition) for condition in conditions)


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

    The hidden members' own rows don't come back, so each pair of a hidden member and a group gets one of the visible
    ``rows`` (a class with ids), which comes back if the member is in the group (``desk-008``, ``desk-009``). Every
    hidden member must be found in exactly one group, so a lost row is noticed.
    """
    class_id, ids = rows
    pair_of = dict(zip(ids, product(groups, sorted(hidden)), strict=True))
    where: dict[str, Any] = {
        "id": list(ids),
        "-and": _no_more_than(total, groups, sorted(owing_nothing)),
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
    found = [pair_of[row.id] for row in gateway.pcrud.search(class_id, where, select=["id"], limit=len(ids))]
    if sorted(id for _group, id in found) != sorted(hidden):
        return None
    in_groups = {group for group, _id in found}
    return {group: frozenset(id for number, id in found if number == group) for group in in_groups}


def _no_more_than(total: int, groups: Sequence[int], owing_nothing: Sequence[int]) -> list[dict[str, Any]]:
    """Return the conditions on the number of members, and on the patrons without an open transaction."""
    members = {"deleted": "f", "usrgroup": list(groups)}
    conditions = [{"-not-exists": rows_beyond(total, "au", members, "id")}]
    if owing_nothing:
        transactions = {"usr": list(owing_nothing), "xact_finish": None}
        conditions.append({"-not-exists": rows_beyond(0, "mbts", transactions, "usr")})
    return conditions


_MAX_ROUNDS = 3
# The members of up to this many groups are read together. For more groups, first find out which ones have hidden
# members.
_MAX_GROUPS = 20
# As many ids fit into a form of 32 kB, even with eight digits, each followed by "%2C".
_MAX_IDS = 2_300


def find_hidden(
    gateway: Gateway,
    visible: Mapping[int, Set[int]],
    org_units: Callable[[], Collection[int]],
    *,
    with_fines: bool = True,
    progress: Progress = silent,
) -> dict[int, HiddenMembers]:
    """Find hidden members by comparing the visible ones (ids by group) with the ILS's member lists.

    Leave out groups without hidden members. For up to twenty groups, takes three calls: all member ids; if any are
    hidden, all balances (not without ``with_fines``); then one query that finds the group of each hidden member, for
    which the ids of ``org_units`` may be needed. For more groups, first find those with hidden members (two calls for
    some 600 groups).

    Raises DataError if the ILS lists members or balances of other groups, or leaves some out, and PermissionDeniedError
    if the account has no VIEW_USER at its own library, so that it can't list members.
    """
    groups, at_once = sorted(visible), _MAX_GROUPS
    if len(groups) > _MAX_GROUPS:
        groups = sorted(_with_hidden(gateway, visible))
    if len(groups) > _MAX_GROUPS:
        # Few batches should have so many pairs that half of them must be read at a time.
        everybody, known = _all_and_visible(gateway, groups[:_MAX_GROUPS], visible)
        at_once = max(1, min(_MAX_GROUPS, isqrt(_USUAL_PAIRS * _MAX_GROUPS // max(1, len(everybody - known)))))
    found: dict[int, HiddenMembers] = {}

    def read(batch: Sequence[int]) -> dict[int, HiddenMembers]:
        return _read_hidden(gateway, batch, visible, org_units, with_fines=with_fines)

    for number, hidden in enumerate(gateway.map(read, batched(groups, at_once)), start=1):
        found.update(hidden)
        progress(Message("reading fines of hidden members"), min(number * at_once, len(groups)), len(groups))
    return found


def _with_hidden(gateway: Gateway, visible: Mapping[int, Set[int]]) -> list[int]:
    """Return the groups that may have hidden members.

    Permissions don't apply inside a subquery (``pcrud-141``), so a search for one visible member of each group can ask
    whether the group has other members than the visible ones. The member lists of the remaining groups then confirm
    that no row was lost.
    """
    # Groups without a visible member, or too large for the query.
    others = [group for group, ids in visible.items() if not ids or len(ids) > _MAX_IDS]

    def among(groups: Sequence[int]) -> Sequence[int]:
        representatives = {min(visible[group]): group for group in groups}
        known = sorted(chain.from_iterable(visible[group] for group in groups))
        hidden = {"deleted": "f", "usrgroup": {"=": {"+au": "usrgroup"}}, "id": {"not in": known}}
        member = {"aou": {"m": {"class": "au", "field": "home_ou", "fkey": "id"}}}
        where = {
            "id": sorted(representatives),
            "-exists": {"select": {"m": ["id"]}, "from": member, "where": {"+m": hidden}},
        }
        rows = gateway.pcrud.search("au", where, select=["id"], limit=len(representatives))
        found = [representatives[row.id] for row in rows]
        rest = sorted(set(groups).difference(found))
        listed, visible_in_rest = _all_and_visible(gateway, rest, visible) if rest else (set(), set())
        return found if listed <= visible_in_rest else groups

    searched = sorted(visible.keys() - set(others))
    # With its representative and its number, a group takes two more places than it has members.
    batches = batched_by_size(searched, _MAX_IDS, lambda group: len(visible[group]) + 2)
    return [*others, *chain.from_iterable(gateway.map(among, batches))]


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


def _read_hidden(
    gateway: Gateway,
    groups: Sequence[int],
    visible: Mapping[int, Set[int]],
    org_units: Callable[[], Collection[int]],
    *,
    with_fines: bool,
) -> dict[int, HiddenMembers]:
    for _ in range(_MAX_ROUNDS if len(groups) == 1 else 1):
        everybody, known = _all_and_visible(gateway, groups, visible)
        hidden = everybody - known
        if not hidden:
            return {}
        rows = None
        if len(groups) > 1:
            rows = _visible_rows(len(groups) * len(hidden), known & everybody, visible, org_units)
            if rows is None:
                break
        owed = read_visible_balances(gateway, groups) if with_fines else None
        # A patron was moved in between the two reads, or the balances belong to other patrons.
        if owed is not None and not owed.keys() <= everybody | known:
            continue
        # A lost balance would turn a debt into 0.00, so have the database confirm that the others have no open
        # transaction.
        owing_nothing = frozenset() if owed is None else hidden - owed.keys()
        found: Mapping[int, frozenset[int]] | None = {groups[0]: hidden}
        if rows is not None:
            found = assign_to_groups(gateway, groups, hidden, len(everybody), owing_nothing=owing_nothing, rows=rows)
        elif not _confirmed(gateway, groups[0], hidden, len(everybody), owing_nothing):
            found = None
        if found is not None:
            return {group: HiddenMembers.of(ids, owed) for group, ids in found.items()}
    if len(groups) == 1:
        raise inconsistent_members()
    middle = len(groups) // 2
    halves = (groups[:middle], groups[middle:])
    first, second = (_read_hidden(gateway, half, visible, org_units, with_fines=with_fines) for half in halves)
    return first | second


def _visible_rows(
    count: int, members: Set[int], visible: Mapping[int, Set[int]], org_units: Callable[[], Collection[int]]
) -> tuple[str, Sequence[int]] | None:
    """Choose rows for :func:`assign_to_groups`. Return None if there are too few or ``count`` is too high.

    Prefer the groups' own members: an answer to another query, mixed up by a proxy, wouldn't contain them.
    """
    if count > _MAX_PAIRS:
        return None
    others = (id for ids in visible.values() for id in ids if id not in members)
    ids = list(islice(chain(sorted(members), others), count))
    if len(ids) == count:
        return "au", ids
    units = sorted(org_units())  # every account can see them
    return ("aou", units[:count]) if len(units) >= count else None


_MAX_READINGS = 2


def _read_group(
    gateway: Gateway,
    group: int,
    visible: Set[int],
    read_owed: Callable[..., Mapping[int, Decimal] | None],
    *,
    primary: bool,
    confirm: Confirm | None = None,
) -> tuple[Mapping[int, Decimal] | None, HiddenMembers | None]:
    former: object = None
    for _ in range(_MAX_READINGS):
        options = {"primary": primary, "own_connection": former is not None}
        owed, everybody = gateway.in_parallel(
            partial(read_owed, gateway, [group], **options), partial(read_member_ids, gateway, [group], **options)
        )
        # A patron was moved between the two reads, or the balances belong to other patrons. Read again.
        if not everybody >= visible | set(owed or ()):
            continue
        hidden = everybody - visible
        if not hidden:
            return owed, None
        owing_nothing = frozenset() if owed is None else everybody - owed.keys()
        if _confirmed(gateway, group, hidden, len(everybody), owing_nothing, confirm):
            return owed, HiddenMembers.of(hidden, owed)
        # The condition runs on the replica and fails while the replica lags behind. If a second read of the primary
        # gives the same lists, trust them.
        if primary and (owed, everybody) == former:
            return owed, HiddenMembers.of(hidden, owed)
        former = owed, everybody
    raise inconsistent_members()


def read_group_balances(
    gateway: Gateway, group: int, visible: Set[int], *, confirm: Confirm | None = None
) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
    """Return the balances of a group's members with open transactions, by id, and the members who aren't ``visible``.

    Takes two concurrent calls, plus one to verify hidden members unless ``confirm`` already did. Use this only for
    groups that may have hidden members: ``usergroup.members.balance_owed`` runs a query per member, which takes ten
    times as long as reading visible members' balances. Raises PermissionDeniedError if the account lacks VIEW_USER at
    its own library, or may not see the balances.
    """
    owed, hidden = _read_group(gateway, group, visible, read_balances, primary=gateway.reads_replicas, confirm=confirm)
    return owed or {}, hidden


def find_on_primary(
    gateway: Gateway, visible: Mapping[int, Set[int]], members: Mapping[int, Set[int]]
) -> dict[int, HiddenMembers]:
    """Like :func:`find_hidden`, given the ``members`` (ids by group) that the primary database lists."""

    def read(group: int) -> HiddenMembers | None:
        return _read_group(gateway, group, visible.get(group, set()), read_visible_balances, primary=True)[1]

    groups = [group for group, ids in members.items() if not ids <= visible.get(group, set())]
    found = zip(groups, gateway.map(read, groups), strict=True)
    return {group: hidden for group, hidden in found if hidden is not None}
