"""What patrons have in common: the one place where evidence of a relation between them is worked out.

Relatives have a surname, an address, a phone number or an e-mail address in common. A home library is weaker: half a
town has the same one. It is enough for not being taken for a stranger, and joins nobody to a family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from datetime import timedelta
from typing import Protocol

from evergreen_groups.groups.contacts import Contacts

SURNAME, ADDRESS, PHONE, EMAIL, LIBRARY = "surname", "address", "phone", "email", "library"
TIES = (SURNAME, ADDRESS, PHONE, EMAIL)
"""What makes relatives of patrons who have it in common."""
SHAREABLE = (*TIES, LIBRARY)
"""All that patrons can have in common."""
ONE_DAY = timedelta(days=1)
"""Records that were made within this time were made together."""
_NONE = Contacts()

Trait = tuple[str, object]


class Related(Protocol):
    """What is known of a patron without contacts: a :class:`Patron`, or the row that one is made of."""

    @property
    def id(self) -> int:
        """The patron's id."""

    @property
    def family_name(self) -> str | None:
        """The legal family name."""

    @property
    def home_library(self) -> Hashable:
        """The home library, or its id, of all alike."""


class Relations:
    """What some patrons have in common with one another; of whom no contacts are given, surname and library count."""

    def __init__(self, patrons: Iterable[Related], contacts: Mapping[int, Contacts]) -> None:
        self._contacts = contacts
        self._traits = {patron.id: self._traits_of(patron) for patron in patrons}

    def contacts(self, patron: int) -> Contacts:
        """How a patron is reached, as far as that is known."""
        return self._contacts.get(patron, _NONE)

    def shared(self, patron: int, others: Iterable[int]) -> frozenset[str]:
        """What of ``SHAREABLE`` a patron has in common with one or several of the others."""
        mine = self._traits[patron]
        return frozenset(kind for other in others if other != patron for kind, _value in mine & self._traits[other])

    def in_common(self, patrons: Collection[int]) -> dict[int, set[str]]:
        """What of ``SHAREABLE`` each of some patrons has in common with another of them, by id."""
        counts = Counter(trait for id in patrons for trait in self._traits[id])
        return {id: {trait[0] for trait in self._traits[id] if counts[trait] > 1} for id in patrons}

    def strangers(self, patrons: Collection[int]) -> list[int]:
        """Those of some patrons who have nothing in common with another of them; nobody, where there is one alone."""
        return [id for id, kinds in self.in_common(patrons).items() if not kinds] if len(patrons) > 1 else []

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
            if any(self._is_clone(id, lender) for lender in self.contacts(id).lenders if lender in among)
        ]

    def _is_clone(self, patron: int, lender: int) -> bool:
        one, other = self.contacts(patron).created, self.contacts(lender).created
        together = one is not None and other is not None and abs(one - other) <= ONE_DAY
        return together and not self.shared(patron, [lender]) & {SURNAME, PHONE, EMAIL}

    def _traits_of(self, patron: Related) -> frozenset[Trait]:
        known = self.contacts(patron.id)
        traits: list[Trait] = [(LIBRARY, patron.home_library)]
        if surname := (patron.family_name or "").strip().casefold():
            traits.append((SURNAME, surname))
        traits.extend((ADDRESS, at) for at in known.addresses)
        traits.extend((PHONE, number) for number in known.phones)
        traits.extend((EMAIL, address) for address in known.emails)
        return frozenset(traits)
