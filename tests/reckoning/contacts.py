"""Whom to contact about each group, and what each library's files say of them, computed a second time."""

import copy
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from random import Random

from reckoning.library import Content, Library, Row
from reckoning.reckoning import Document, listed_groups, name

WAYS = ("day_phone", "evening_phone", "other_phone", "email", "address")


def with_contact_data(content: Content) -> Content:
    """Return the population with phones, e-mails, addresses and guardians, and families at several libraries.

    The report lists as many groups as it can.
    """
    chance = Random(json.dumps(content["au"]))
    content = copy.deepcopy(content)
    content["_question"]["report"] |= {"min_total": "0.01", "min_members": 1, "choice": {}}
    orgs = [row["id"] for row in content["aou"]]
    for person in content["au"]:
        id = person["id"]
        if id > 3 and chance.random() < 0.3:
            person["home_ou"] = chance.choice(orgs)
        if chance.random() < 0.5:
            valid, pending = chance.choice(("tf", "tf", "tf", "ff", "tt"))
            new = {"id": 100_000 + id, "usr": id, "street1": f"{id} Any St", "post_code": "55555"}
            content["aua"].append({**new, "valid": valid, "pending": pending})
    rows = [row["id"] for row in content["aua"]]
    for person in content["au"]:
        for field in ("day_phone", "evening_phone", "other_phone", "email"):
            if chance.random() < 0.25:
                person[field] = chance.choice((f"{field} of {person['id']}", f" {field} of {person['id']} ", "", " "))
        for field in ("mailing_address", "billing_address"):
            if rows and chance.random() < 0.4:
                person[field] = chance.choice(rows)  # often another patron's
        person["guardian"] = chance.choice((None, "", f"Guardian of {person['id']}"))
        if chance.random() < 0.3:
            person["juvenile"] = "t"
    return content


def parts(library: Library) -> dict[str, dict[int, Document]]:
    """Return what each library's file says about its groups, by short name; under "" what the whole report says."""
    criteria = library.question["report"]
    asked = library.named(criteria["orgs"])
    found = listed_groups(library)
    worst = sorted(found, key=lambda number: (-library.combined(found[number]), number))[: criteria["top"]]
    homes = {library.shortname(org): set(library.downwards(org)) for org in asked or library.orgs}
    shown = {"": {number: contact(library, found[number], asked or set(library.orgs)) for number in worst}}
    for shortname, below in homes.items():
        shown[shortname] = {
            number: contact(library, found[number], below)
            for number in worst
            if any(patron["home_ou"] in below for patron in found[number] if library.visible(patron))
        }
    return shown


def contact(library: Library, members: Iterable[Row], readers: Collection[int]) -> Document:
    """Return what readers at some org units see of the person to contact about a group."""
    chosen = person_to_contact(library, [patron for patron in members if library.visible(patron)])
    if chosen is None:
        return _document(None, "", "", {}, withheld=False)
    patron, role, ways = chosen
    guardian = _text(patron, "guardian") if role == "guardian" else name(patron)
    if patron["home_ou"] in readers:
        return _document(patron["id"], guardian, role, ways, withheld=False)
    return _document(patron["id"], "" if role == "guardian" else guardian, role, {}, withheld=True)


def person_to_contact(library: Library, members: Sequence[Row]) -> tuple[Row, str, Row] | None:
    """Return a member, why it is this one, and how to reach them; for a guardian, the juvenile."""

    def rank(patron: Row) -> tuple[object, ...]:
        leads = patron["master_account"] == "t"
        return not leads, 0 if leads else -library.owes(patron["id"]), patron["id"]

    adults = [patron for patron in sorted(members, key=rank) if patron["juvenile"] == "f"]
    for patron in (*(one for one in adults if _ways(library, one)), *adults):
        return patron, "lead" if patron["master_account"] == "t" else "adult", _ways(library, patron)
    for patron in sorted(members, key=rank):
        if _text(patron, "guardian"):
            address = _address(library, patron)
            return patron, "guardian", {"address": address} if address else {}
    return None


def _document(patron: int | None, person: str, role: str, ways: Row, *, withheld: bool) -> Document:
    of_ways = {f"contact_{way}": ways.get(way, "") for way in WAYS}
    of_person = {"contact_id": patron, "contact_name": person, "contact_role": role}
    return {**of_person, **of_ways, "contact_withheld": withheld}


def _ways(library: Library, patron: Row) -> Row:
    found = {way: _text(patron, way) for way in WAYS[:-1]} | {"address": _address(library, patron)}
    return {way: text for way, text in found.items() if text}


def _text(patron: Row, field: str) -> str:
    return str(patron.get(field) or "").strip()


def _address(library: Library, patron: Row) -> str:
    """Return the mailing address, or else the billing address, if it is valid and the account sees whose it is."""
    for row in _addresses(library, patron):
        owner = library.people[row["usr"]]
        if row["valid"] == "t" and row["pending"] == "f" and (library.visible(owner) or library.is_asking(owner)):
            return f"{row['street1']}, {row['post_code']} {row['city']}, {row['country']}"
    return ""


def _addresses(library: Library, patron: Row) -> Iterator[Row]:
    for field in ("mailing_address", "billing_address"):
        yield from library.rows_with("aua", "id", patron.get(field))
