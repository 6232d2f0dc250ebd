"""Looking patrons up by what a clerk scans or types: a card, a barcode as the library shortens it, or a name.

Nobody is taken for anybody: what isn't one active card is given back as it was found, for the clerk to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.gateway import TOKEN, whole_number
from evergreen_groups.groups import Card, MembershipReader, Patron
from evergreen_groups.ils import Profiles, account_of_session, library_of

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

MOST_FOUND = 20
"""How many patrons a search by name shows: whoever needs more types more of the name."""


class LookupKind(Enum):
    """What was found."""

    CARD = "card"
    """One patron with an active card."""
    OLD_CARD = "old card"
    """A card that isn't active: whose it was."""
    SEVERAL = "several"
    """Several patrons whose barcodes the library shortens to this."""
    NAMES = "names"
    """Patrons of that name, be it one alone."""
    NOBODY = "nobody"
    """Nobody who is visible."""


@dataclass(frozen=True, slots=True)
class FoundPatron:
    """A patron who was found: no more than it takes to know them by. ``profile`` is the profile's name."""

    patron: Patron
    juvenile: bool
    profile: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a lookup found; ``more`` says that there are more than are given."""

    kind: LookupKind
    patrons: tuple[FoundPatron, ...] = ()
    more: bool = False


class PatronLookup:
    """Looks patrons up at one gateway, as far as its session may see."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader = MembershipReader(gateway)

    def find(self, text: str) -> Lookup:
        """Find whoever is meant: by a card with exactly this barcode, a shortened one, or by name."""
        text = " ".join(text.split())
        if not text:
            return Lookup(LookupKind.NOBODY)
        found = self._reader.by_barcodes([text])
        if text in found:
            return self._card(found[text])
        if any(letter.isdigit() for letter in text):
            return self._shortened(text)
        return self._named(text)

    def names(self, ids: Collection[int]) -> dict[int, Patron]:
        """The visible ones of patrons whose ids are known, deleted ones too."""
        return {id: member.patron for id, member in self._reader.by_ids(ids).members.items()} if ids else {}

    def _card(self, card: Card) -> Lookup:
        kind = LookupKind.CARD if card.active and not card.member.patron.deleted else LookupKind.OLD_CARD
        note = "deleted" if card.member.patron.deleted else ""
        return Lookup(kind, self._described([card.member.id], note))

    def _shortened(self, text: str) -> Lookup:
        """By the barcode completion of the library where the session works: the ILS tries its cards' forms."""
        library = library_of(account_of_session(self._gateway))
        try:
            answer = self._gateway.call(
                "open-ils.actor", "open-ils.actor.get_barcodes", TOKEN, library, "actor", text, expect="optional"
            )
        except PermissionDeniedError:  # an event among the results, for a patron who may not be seen
            return Lookup(LookupKind.NOBODY)
        with answer.understood("a list of cards"):
            ids = [whole_number(row["id"]) for row in answer.value or []]
        found = self._described(dict.fromkeys(id for id in ids if id is not None))
        if not found:
            return Lookup(LookupKind.NOBODY)
        return Lookup(LookupKind.CARD if len(found) == 1 else LookupKind.SEVERAL, found)

    def _named(self, text: str) -> Lookup:
        """By the beginnings of names, with the client's own search: it knows preferred names and goes by indexes."""
        family, comma, first = (part.strip() for part in text.partition(","))
        wanted = {"family_name": {"value": family, "group": 0}}
        if comma and first:
            wanted["first_given_name"] = {"value": first, "group": 0}
        found = self._searched(wanted)
        words = text.split()
        if not found and not comma and len(words) > 1:  # as it is spoken, the family name last
            first, family = words[0], " ".join(words[1:])
            found = self._searched(
                {"family_name": {"value": family, "group": 0}, "first_given_name": {"value": first, "group": 0}}
            )
        patrons = self._described(found[:MOST_FOUND])
        if not patrons:
            return Lookup(LookupKind.NOBODY)
        return Lookup(LookupKind.NAMES, patrons, more=len(found) > MOST_FOUND)

    def _searched(self, wanted: dict[str, dict[str, object]]) -> list[int]:
        sort = ["family_name ASC", "first_given_name ASC"]
        method = "open-ils.actor.patron.search.advanced"
        result = self._gateway.call("open-ils.actor", method, TOKEN, wanted, MOST_FOUND + 1, sort, 1, expect="optional")
        # Ids as text (patrons-085), and null where nothing fits.
        ids = [whole_number(id) for id in result.value or []]
        if None in ids:
            raise result.unexpected("a list of ids")
        return [id for id in ids if id is not None]

    def _described(self, ids: Iterable[int], note: str = "") -> tuple[FoundPatron, ...]:
        """The visible ones of these patrons, in their order."""
        wanted = list(ids)
        if not wanted:
            return ()
        found = self._reader.by_ids(wanted)
        profiles = Profiles.read(self._gateway)
        return tuple(
            FoundPatron(
                member.patron,
                found.accounts[id].juvenile,
                profiles.name(member.patron.profile),
                note or _note(found.accounts[id].active, found.accounts[id].barred),
            )
            for id, member in ((id, found.members[id]) for id in wanted if id in found.members)
        )


def _note(active: bool, barred: bool) -> str:
    return "barred" if barred else "" if active else "not active"
