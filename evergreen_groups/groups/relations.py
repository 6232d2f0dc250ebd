"""What patrons have in common: the one place where evidence of a relation between them is worked out.

Relatives have a surname, an address, a phone number or an e-mail address in common. A home library is weaker: half a
town has the same one. It is enough for not being taken for a stranger, and joins nobody to a family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups.groups.contacts import Contacts

if TYPE_CHECKING:
    from evergreen_groups.groups.patrons import Patron

SURNAME, ADDRESS, PHONE, EMAIL, LIBRARY = "surname", "address", "phone", "email", "library"
TIES = (SURNAME, ADDRESS, PHONE, EMAIL)
"""What makes relatives of patrons who have it in common."""
SHAREABLE = (*TIES, LIBRARY)
"""All that patrons can have in common."""
ONE_DAY = timedelta(days=1)
"""Records that were made within this time were made together."""
_NONE = Contacts()

Trait = tuple[str, object]


class Relations:
    """What some patrons have in common with one another; of whom no contacts are given, surname and library count."""

    def __init__(self, patrons: Iterable[Patron], contacts: Mapping[int, Contacts]) -> None:
        self._contacts = contacts
        self._traits = {patron.id: self._traits_of(patron) for patron in patrons}

    def contacts(self, patron: int) -> Contacts:
        """How a patron is reached, as far as that is known."""
        return self._contacts.get(patron, _NONE)

    def shared(self, patron: int, others: Iterable[int]) -> frozenset[str]:
        """What of ``SHAREABLE`` a patron has in common with one or several of the others."""
        mine = self._traits[patron]
        return frozenset(kind for other in others if other != patron for kind, _value in mine & self._traits[other])

    def strangers(self, patrons: Collection[int]) -> list[int]:
        """Those of some patrons who have nothing in common with another of them; nobody, where there is one alone."""
        counts = self._counts(patrons)
        alone = [id for id in patrons if all(counts[trait] == 1 for trait in self._traits[id])]
        return alone if len(patrons) > 1 else []

    def any_share(self, patrons: Collection[int], *kinds: str) -> bool:
        """Whether two of some patrons have one of these ``kinds`` in common."""
        return any(kind in kinds and count > 1 for (kind, _value), count in self._counts(patrons).items())

    def all_share(self, patrons: Collection[int], *kinds: str) -> bool:
        """Whether each of some patrons has one of these ``kinds`` in common with another of them."""
        counts = self._counts(patrons)
        return all(any(kind in kinds and counts[kind, value] > 1 for kind, value in self._traits[id]) for id in patrons)

    def families(self, patrons: Collection[int]) -> list[tuple[int, ...]]:
        """Some patrons, put together by what makes relatives of them: the largest family first, then by lowest id.

        Who shares with somebody who shares with a third belongs with both.
        """
        family = {id: [id] for id in sorted(patrons)}
        first: dict[Trait, int] = {}
        for id in sorted(patrons):
            for trait in self._traits[id]:
                if trait[0] not in TIES:
                    continue
                one, other = family[first.setdefault(trait, id)], family[id]
                if one is not other:
                    smaller, larger = sorted((one, other), key=len)
                    larger.extend(smaller)
                    family.update(dict.fromkeys(smaller, larger))
        found = {tuple(sorted(members)) for members in family.values()}
        return sorted(found, key=lambda members: (-len(members), members))

    def cloned(self, patrons: Collection[int]) -> list[int]:
        """Those whose record uses an address row of another of them that was made within a day of it.

        Only those count who have neither surname, phone nor e-mail in common with that one: a family's records are
        made by cloning as well.
        """
        among = set(patrons)
        return [
            id
            for id in sorted(among)
            if any(self._is_clone(id, lender) for lender in sorted(self.contacts(id).lenders & among))
        ]

    def _is_clone(self, patron: int, lender: int) -> bool:
        one, other = self.contacts(patron).created, self.contacts(lender).created
        together = one is not None and other is not None and abs(one - other) <= ONE_DAY
        return together and not self.shared(patron, [lender]) & {SURNAME, PHONE, EMAIL}

    def _counts(self, patrons: Iterable[int]) -> Counter[Trait]:
        return Counter(trait for id in patrons for trait in self._traits[id])

    def _traits_of(self, patron: Patron) -> frozenset[Trait]:
        known = self.contacts(patron.id)
        surname = patron.family_name.strip().casefold()
        return frozenset(
            {
                (LIBRARY, patron.home_library.id),
                *([(SURNAME, surname)] if surname else []),
                *((ADDRESS, at) for at in known.addresses),
                *((PHONE, number) for number in known.phones),
                *((EMAIL, address) for address in known.emails),
            }
        )
