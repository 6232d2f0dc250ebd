"""By how much debts changed between two nights, computed from both populations without using the product."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from reckoning.changes import Listed, current_numbers, listed
from reckoning.library import NOTHING, Library, Row
from reckoning.reckoning import Document, money


def change_in_fines(earlier: Library, library: Library, shown: Iterable[int]) -> Document:
    """Return the change of the groups in both lists, and apart from it what new ones owe, and the change of those gone.

    ``shown`` are the groups of the second list, without those that ``top`` cuts off.
    """
    before, now = listed(earlier), listed(library)
    numbers = current_numbers(before, now)
    both = [number for number in shown if number in numbers.values()]
    new = [now[number] for number in shown if number not in both]
    hidden, hidden_before = _hidden(library), _hidden(earlier)
    gone = [was for number, was in before.items() if number not in numbers and not was.libraries <= hidden]
    then = sum((_debts(earlier, was.number) for number, was in before.items() if numbers.get(number) in both), NOTHING)
    uncertain = any(one.libraries <= hidden_before for one in new)
    cleared = _change_of_gone(earlier, library, gone, now)
    return {
        "difference": money(sum((_debts(library, number) for number in both), NOTHING) - then),
        "new_fines": None if uncertain else money(sum((_debts(library, one.number) for one in new), NOTHING)),
        "cleared_difference": None if cleared is None else money(cleared),
    }


def _debts(library: Library, number: int) -> Decimal:
    return sum((library.owes(patron["id"]) for patron in _people(library, number)), NOTHING)


def _people(library: Library, number: int) -> list[Row]:
    return [one for one in library.patrons.values() if one["usrgroup"] == number and one["deleted"] == "f"]


def _hidden(library: Library) -> set[str]:
    return {library.shortname(org) for org in library.orgs if org not in library.visible_orgs}


def _change_of_gone(
    earlier: Library, library: Library, gone: Iterable[Listed], now: Mapping[int, Listed]
) -> Decimal | None:
    """Return None if a group can't be found, is in a listed one, or has left the libraries that the report is about.

    Groups that became one owe once what it owes.
    """
    before, groups = NOTHING, set()
    readers = library.named(library.question["report"]["orgs"]) or set(library.orgs)
    for was in gone:
        left = [
            one["usrgroup"] for one in library.patrons.values() if one["id"] in was.members and library.visible(one)
        ]
        number = next((one for one in left if 2 * left.count(one) > len(left)), was.number)
        homes = {one["home_ou"] for one in _people(library, number) if library.visible(one)}
        if number not in left or number in now or homes.isdisjoint(readers):
            return None
        before += _debts(earlier, was.number)
        groups.add(number)
    return sum((_debts(library, number) for number in groups), NOTHING) - before
