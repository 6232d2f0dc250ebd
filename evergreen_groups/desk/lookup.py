"""Look patrons up by what a clerk scans or types: a barcode, a shortened barcode, or a name.

Never guess: unless the text is the barcode of one active card, return all candidates for the clerk to choose from.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups import arguments
from evergreen_groups.errors import PermissionDeniedError, not_visible
from evergreen_groups.gateway import TOKEN, whole_number
from evergreen_groups.groups import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    FamilyReader,
    PatronAccount,
    PatronRow,
    barcodes,
    find_owner,
    panel,
    read_patron,
)
from evergreen_groups.ils import OrgUnits, Profiles, permissions
from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.values import age_of

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Patron, Query

# Evergreen turns names into regular expressions and escapes only some characters (Publisher/actor.pm, patron_search).
_REGEX_CHARACTERS = re.compile(r"[\\^$?{}]")

MOST_FOUND = 20
"""How many patrons a name search shows. To find others, the clerk types more of the name."""


class LookupKind(Enum):
    """The kind of result."""

    CARD = "card"
    """One patron, by an active card."""
    OLD_CARD = "old card"
    """One patron, by a card that isn't active."""
    SEVERAL = "several"
    """Several patrons, by barcodes that the library shortens to this."""
    NAMES = "names"
    """One patron or more, by name."""
    NEAR = "near"
    """Others of the family name: no one has the given name as well."""
    NOBODY = "nobody"
    """No visible patron."""


class Namesake(NamedTuple):
    """What tells a patron from another of the same name.

    ``street`` is from the mailing address, or else the billing address. ``age`` is None if unknown, or if the home
    library hides birth dates.
    """

    street: str
    age: int | None


@dataclass(frozen=True, slots=True)
class FoundPatron:
    """A patron, with just enough data to be told from others. ``profile`` is the profile's name.

    ``namesake`` is None unless another patron who was found has the same name. ``lead`` is the name of the group's
    lead, and ``group_size`` the number of its visible members.
    """

    patron: Patron
    account: PatronAccount
    profile: str
    note: Message | None = None
    namesake: Namesake | None = None
    lead: str = ""
    group_size: int = 1


@dataclass(frozen=True, slots=True)
class Lookup:
    """The result of a lookup: the ``patron`` (id) if an active card was found, else the candidates.

    ``more`` says that there are more candidates than returned.
    """

    kind: LookupKind
    patron: int | None = None
    patrons: tuple[FoundPatron, ...] = ()
    more: bool = False


class PatronLookup:
    """Looks patrons up at one gateway, as far as its session may see."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader = FamilyReader(gateway)

    def find(self, text: str) -> Lookup:
        """Find patrons by exact barcode, else by shortened barcode if the text has a digit, else by name.

        If no one has both names, find others of the family name.
        """
        text = " ".join(arguments.text("text", text).split())
        if not barcodes.spellings(text):
            return Lookup(LookupKind.NOBODY)
        owner = find_owner(self._gateway, text)
        if owner is not None:
            patron, active = owner
            if active:
                return Lookup(LookupKind.CARD, patron)
            if found := self._describe([patron]):
                return Lookup(LookupKind.OLD_CARD, patrons=found)
        if any(letter.isdigit() for letter in text):
            return self._find_by_short_barcode(barcodes.without_blanks(text))
        return self._find_by_name(text, near=True)

    def named(self, text: str) -> Lookup:
        """Find up to ``MOST_FOUND`` patrons by the start of the last name, or of both names as in ``"Okonkwo, A"``. The
        comma may be left out.

        Like the staff client's search, this includes preferred names, and covers the account's library and those below.
        """
        if "\0" in arguments.text("text", text):  # Evergreen would search without a name
            return Lookup(LookupKind.NOBODY)
        return self._find_by_name(text)

    def names(self, ids: Collection[int]) -> dict[int, str]:
        """Return the names of the patrons who are visible, including deleted ones. Makes one call."""
        return {id: row.name for id, row in self.rows(ids).items()}

    def rows(self, ids: Collection[int]) -> dict[int, PatronRow]:
        """Return the rows of the patrons who are visible, including deleted ones. Makes one call."""
        patrons = sorted(arguments.integers("ids", ids))
        rows = self._gateway.pcrud.columns_by_values("au", PATRON_FIELDS, "id", patrons)
        return {row.id: row for row in map(PatronRow._make, rows)}

    def leads(self, groups: Collection[int]) -> dict[int, str]:
        """Return the names of groups' leads, or else oldest visible members, by the groups' numbers. Makes one call."""
        numbers = sorted(arguments.integers("groups", groups))
        found = self._gateway.pcrud.columns_by_values("au", PATRON_FIELDS, "usrgroup", numbers, where={"deleted": "f"})
        rows = sorted(map(PatronRow._make, found), key=_rank, reverse=True)
        return {row.group: row.name for row in rows}  # the last one of a group stays

    def family_of(self, id: int) -> tuple[int, frozenset[int]]:
        """Return the number of a patron's group, and the ids of its visible members. Makes one call.

        If plain reads go to replicas, another call asks the primary database for the number. Raises NotFoundError,
        also if the patron is deleted.
        """
        arguments.integer("id", id)
        record = read_patron(self._gateway, id) if self._gateway.reads_replicas else None
        if record is None:
            group: Query = {"in": {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": id}}}
        else:
            group = {"=": record.usrgroup}
        where = {"usrgroup": group, "deleted": "f"}
        found = self._gateway.pcrud.search("au", where, select=("id", "usrgroup"), limit=panel.MAX_MEMBERS)
        if record is None:
            record = next((one for one in found if one.id == id), None)
        if record is None or record.deleted:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        return int(record.usrgroup), frozenset({id, *(one.id for one in found)})

    def namesakes(self, patrons: Iterable[Patron]) -> dict[int, Namesake]:
        """Return what tells those of these patrons apart who have one name, by id.

        Makes no call if all names differ, otherwise up to three.
        """
        by_name: dict[str, set[int]] = defaultdict(set)
        for patron in patrons:
            by_name[patron.name.casefold()].add(patron.id)
        ids = sorted(id for same in by_name.values() if len(same) > 1 for id in same)
        if not ids:
            return {}
        pcrud, now = self._gateway.pcrud, datetime.now(UTC)
        fields = ("id", "home_ou", "mailing_address", "billing_address", *ACCOUNT_FIELDS)
        rows = [
            (id, library, mailing or billing, PatronAccount.of(account, now).birth_date)
            for id, library, mailing, billing, *account in pcrud.columns_by_values("au", fields, "id", ids)
        ]
        used = sorted({address for _id, _library, address, _born in rows if address is not None})
        streets = dict(pcrud.columns_by_values("aua", ("id", "street1"), "id", used))
        libraries = {library for _id, library, _address, born in rows if born is not None}
        hidden = OrgUnits.hiding_birth_dates(self._gateway, libraries)
        return {
            id: Namesake(
                streets.get(address) or "",
                None if born is None or library in hidden else age_of(born, now.date()),
            )
            for id, library, address, born in rows
        }

    def _find_by_short_barcode(self, text: str) -> Lookup:
        """Find patrons with the barcode completion of the workplace's library, done by Evergreen."""
        library = permissions.library_of(permissions.account_of_session(self._gateway))
        try:
            answer = self._gateway.call(
                "open-ils.actor", "open-ils.actor.get_barcodes", TOKEN, library, "actor", text, expect="optional"
            )
        except PermissionDeniedError:  # one of the results is an event, for a hidden patron
            return Lookup(LookupKind.NOBODY)
        with answer.understood("a list of ids"):
            ids = [whole_number(row["id"]) for row in answer.value or []]
        found = self._describe(dict.fromkeys(id for id in ids if id is not None))
        if len(found) == 1:
            return Lookup(LookupKind.CARD, found[0].patron.id)
        return Lookup(LookupKind.SEVERAL if found else LookupKind.NOBODY, patrons=found)

    def _find_by_name(self, text: str, *, near: bool = False) -> Lookup:
        """Find patrons by the start of their names, with the staff client's search, which uses indexes."""
        text = " ".join(_REGEX_CHARACTERS.sub(" ", text).split())
        family, comma, first = (part.strip() for part in text.partition(","))
        if not family:
            return Lookup(LookupKind.NOBODY)
        names = [(family, first)]
        if not comma and (words := text.split())[1:]:  # the last name last, as spoken, or first
            pairs = (words[1:], words[:1]), (words[:-1], words[-1:]), (words[:1], words[1:])
            names += [(" ".join(last), " ".join(given)) for last, given in pairs]
        families = [(last, "") for last, given in names if given] if near else []
        for kind, wanted in ((LookupKind.NAMES, names), (LookupKind.NEAR, families)):
            found = next(filter(None, (self._search(*pair) for pair in dict.fromkeys(wanted))), [])
            patrons = sorted(self._describe(found[:MOST_FOUND]), key=lambda one: name_key(one.patron.name))
            if patrons:
                return Lookup(kind, patrons=tuple(patrons), more=len(found) > MOST_FOUND)
        return Lookup(LookupKind.NOBODY)

    def _search(self, family: str, first: str) -> list[int]:
        wanted: dict[str, dict[str, object]] = {"family_name": {"value": family, "group": 0}}
        if first:
            wanted["first_given_name"] = {"value": first, "group": 0}
        sort = ["family_name ASC", "first_given_name ASC"]
        method = "open-ils.actor.patron.search.advanced"
        result = self._gateway.call("open-ils.actor", method, TOKEN, wanted, MOST_FOUND + 1, sort, 1, expect="optional")
        # The ids are strings (patrons-085), and null without a match.
        ids = [whole_number(id) for id in result.value or []]
        if None in ids:
            raise result.unexpected("a list of ids")
        return [id for id in ids if id is not None]

    def _describe(self, ids: Iterable[int]) -> tuple[FoundPatron, ...]:
        """Return the visible ones of these patrons, in the given order."""
        wanted = list(ids)
        if not wanted:
            return ()
        found = self._reader.by_ids(wanted)
        profiles = Profiles.read(self._gateway)
        patrons = [found.members[id].patron for id in wanted if id in found.members]
        numbers = sorted({patron.group for patron in patrons})
        rows = self._gateway.pcrud.columns_by_values("au", PATRON_FIELDS, "usrgroup", numbers, where={"deleted": "f"})
        groups: dict[int, list[PatronRow]] = {number: [] for number in numbers}
        for row in map(PatronRow._make, rows):
            groups[row.group].append(row)
        namesakes = self.namesakes(patrons)
        described = []
        for patron in patrons:
            account, members = found.accounts[patron.id], groups[patron.group]
            profile, note = profiles.name(patron.profile), _note(patron, account)
            lead = min(members, key=_rank).name if members else patron.name
            namesake = namesakes.get(patron.id)
            described.append(FoundPatron(patron, account, profile, note, namesake, lead, max(len(members), 1)))
        return tuple(described)


def _rank(row: PatronRow) -> tuple[bool, int]:
    return not row.group_lead, row.id


def _note(patron: Patron, account: PatronAccount) -> Message | None:
    if patron.deleted:
        return Message("deleted", context="a record")
    if account.barred:
        return Message("barred", context="remark about a member")
    return None if account.active else Message("inactive", context="remark about a member")


MOST_NEAR = 5
"""How many similar cards to return. If there are more, the barcodes are consecutive and none is more likely."""

# Few: for an account of one library among many, Evergreen also scans all other libraries' cards, at up to 2 ms each.
_SAMPLE_SIZE = 25


@dataclass(frozen=True, slots=True)
class NearCard:
    """A card whose barcode differs by a single mistake, in the middle one of its ``parts``.

    It has no name, because a mistyped barcode mustn't show the names of strangers.
    """

    parts: tuple[str, str, str]
    active: bool

    @property
    def barcode(self) -> str:
        return "".join(self.parts)


@dataclass(frozen=True, slots=True)
class UnknownBarcode:
    """Facts that may explain an unknown ``barcode``.

    ``length`` is the usual length of the library's barcodes, if this one's length differs. ``check_digit_fails`` says
    that the last digit is wrong, if other cards have check digits. ``deleted`` is the name of the card's patron if that
    record is deleted. ``near`` are similar cards, the most likely first.
    """

    barcode: str
    length: int | None = None
    check_digit_fails: bool = False
    deleted: str | None = None
    near: tuple[NearCard, ...] = ()


def explain_unknown(gateway: Gateway, barcode: str) -> UnknownBarcode | None:
    """Find out why a barcode is unknown. None if a visible patron has it after all. Makes three calls."""
    text = barcodes.without_blanks(barcode)
    if not text:
        return UnknownBarcode("")
    likely = {spelling: rank for rank, spelling in enumerate((text, *barcodes.similar_barcodes(text)))}
    pages = gateway.pcrud.by_values("ac", "barcode", likely, select=("id", "usr", "barcode", "active"), unique=True)
    found = [card for page in pages for card in page if card.barcode in likely]
    owners = sorted({card.usr for card in found})
    rows = gateway.pcrud.columns_by_values("au", (*PATRON_FIELDS, "deleted"), "id", owners)
    patrons = {values[0]: (PatronRow._make(values[:-1]), bool(values[-1])) for values in rows}
    cards = sorted((card for card in found if card.usr in patrons), key=lambda card: likely[card.barcode])
    deleted, near = None, []
    for card in cards:
        row, is_deleted = patrons[card.usr]
        if card.barcode == text and not is_deleted:
            return None
        if card.barcode == text:
            deleted = row.name
        elif not is_deleted:
            near.append(NearCard(barcodes.difference(card.barcode, text), bool(card.active)))
    order = [{"class": "ac", "field": "id", "direction": "desc"}]
    latest = gateway.pcrud.search(
        "ac", {"active": "t"}, select=("id", "usr", "barcode"), order_by=order, limit=_SAMPLE_SIZE
    )
    others = [card.barcode for card in latest]
    length = barcodes.usual_length(others)
    return UnknownBarcode(
        text,
        length=None if length == len(text) else length,
        check_digit_fails=barcodes.check_digit_fails(text, others),
        deleted=deleted,
        near=tuple(near[:MOST_NEAR]),
    )
