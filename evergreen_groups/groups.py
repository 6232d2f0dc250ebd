"""Who belongs together and who owes what: groups put together from members, balances and cards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from evergreen_groups.access import Access
from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.group_search import Patron
from evergreen_groups.models import NOTHING, GroupFines, Member
from evergreen_groups.org_units import OrgUnits
from evergreen_groups.policy import Limit, decide
from evergreen_groups.progress import Progress, silent

_MEMBERS = "open-ils.actor.usergroup.members.retrieve"
_BALANCES = "open-ils.actor.usergroup.members.balance_owed"
_GROUPS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Hidden:
    """The members of one group that the account can't see: their ids, and what they owe (None: not told)."""

    ids: frozenset[int]
    fines: Decimal | None


class GroupReader:
    """Completes patrons to groups: own fines, cards, and the members that are hidden from the account."""

    def __init__(
        self, gateway: Gateway, org_units: OrgUnits, access: Access, limit: Limit, progress: Progress = silent
    ) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._access = access
        self._limit = limit
        self._progress = progress

    def complete(self, patrons: Iterable[Patron]) -> list[GroupFines]:
        """Make groups of ``patrons``, which are all members in sight of each of their groups.

        Reads balances and cards in lists of up to 2,000; for an account that can't see every patron, it compares the
        members with those that the ILS counts.
        """
        by_id = {patron.id: patron for patron in patrons}
        balances = self._balances(by_id)
        barcodes = self._barcodes(patron.card for patron in by_id.values() if patron.card is not None)
        by_group: dict[int, list[Patron]] = {}
        for patron in by_id.values():
            by_group.setdefault(patron.group, []).append(patron)
        hidden = {} if self._access.everywhere else self._hidden(by_group)
        return [
            self._group(group, members, balances, barcodes, hidden.get(group)) for group, members in by_group.items()
        ]

    def _group(
        self,
        group: int,
        patrons: Sequence[Patron],
        balances: Mapping[int, Decimal],
        barcodes: Mapping[int, str],
        hidden: Hidden | None,
    ) -> GroupFines:
        members = (self._member(patron, balances, barcodes) for patron in patrons)
        ordered = tuple(sorted(members, key=lambda member: (-member.own_fines, member.id)))
        if hidden is None:
            return GroupFines(group, ordered)
        return GroupFines(group, ordered, len(hidden.ids), hidden.fines)

    def _member(self, patron: Patron, balances: Mapping[int, Decimal], barcodes: Mapping[int, str]) -> Member:
        own_fines = balances.get(patron.id, NOTHING)
        return Member(
            id=patron.id,
            name=patron.name,
            barcode=barcodes.get(patron.card) if patron.card is not None else None,
            library=self._org_units.shortname(patron.home_library),
            own_fines=own_fines,
            over_limit=decide(own_fines, self._limit).blocked,
            group_lead=patron.group_lead,
        )

    def _balances(self, ids: Collection[int]) -> dict[int, Decimal]:
        """What each of these patrons owes; those who owe nothing are left out."""
        owed: dict[int, Decimal] = {}
        owes = {"balance_owed": {"<>": 0}}
        fields = ("usr", "balance_owed")
        for done, batch in enumerate(self._gateway.pcrud.by_values("mous", "usr", ids, where=owes, select=fields), 1):
            owed.update((record.usr, record.balance_owed) for record in batch)
            self._progress("reading fines", done)
        return owed

    def _barcodes(self, cards: Iterable[int]) -> dict[int, str]:
        batches = self._gateway.pcrud.by_values("ac", "id", cards, select=("id", "barcode"))
        return {record.id: record.barcode for batch in batches for record in batch}

    def _hidden(self, by_group: Mapping[int, Sequence[Patron]]) -> dict[int, Hidden]:
        """Compare the members in sight with those the ILS counts, a hundred groups to a call.

        ``usergroup.members.retrieve`` checks VIEW_USER only at the account's own library and then tells of every
        member (``groups-047``); it takes a list of groups as well (``groups-075``).
        """
        seen = {group: {patron.id for patron in patrons} for group, patrons in by_group.items()}
        groups = sorted(seen)
        batches = [groups[start : start + _GROUPS_AT_ONCE] for start in range(0, len(groups), _GROUPS_AT_ONCE)]
        missing: dict[int, frozenset[int]] = {}
        for done, found in enumerate(self._gateway.map(lambda batch: dict(self._unseen(batch, seen)), batches), 1):
            missing.update(found)
            self._progress("looking for hidden members", done * _GROUPS_AT_ONCE, len(groups))
        incomplete = sorted(missing)
        fines = self._gateway.map(lambda group: self._fines_of(group, missing[group]), incomplete)
        return {group: Hidden(missing[group], owed) for group, owed in zip(incomplete, fines, strict=True)}

    def _unseen(self, groups: Sequence[int], seen: Mapping[int, set[int]]) -> Iterator[tuple[int, frozenset[int]]]:
        """The members of ``groups`` not in sight, by group: halves the list until it knows whose they are."""
        answer = self._gateway.call("open-ils.actor", _MEMBERS, TOKEN, list(groups)).value
        unseen = frozenset(map(int, answer)) - frozenset().union(*(seen[group] for group in groups))
        if not unseen:
            return
        if len(groups) == 1:
            yield groups[0], unseen
            return
        middle = len(groups) // 2
        yield from self._unseen(groups[:middle], seen)
        yield from self._unseen(groups[middle:], seen)

    def _fines_of(self, group: int, ids: frozenset[int]) -> Decimal | None:
        """What the members ``ids`` of a group owe, as far as the ILS tells."""
        try:
            answer = self._gateway.call("open-ils.actor", _BALANCES, TOKEN, group).value
        except PermissionDeniedError:
            return None
        return sum((_money(entry) for entry in answer if int(entry["usr"]) in ids), NOTHING)


def _money(entry: Mapping[str, object]) -> Decimal:
    try:
        return Decimal(str(entry["balance_owed"])).quantize(NOTHING)
    except ArithmeticError as error:
        raise DataError("the ILS gave a balance that isn't an amount of money") from error
