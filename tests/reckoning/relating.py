"""What a group's members have in common on file, and how likely their group is an accident."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from reckoning.library import Library, Row, birth_year, moment

Document = dict[str, Any]

WEIGHTS = {
    "no-lead": 10,
    "lead-deleted": 10,
    "several-leads": 20,
    "lead-expired": 10,
    "unusually-large": 25,
    "institution": 25,
    "strangers": 35,
    "nothing-shared": 25,
    "cloned": 15,
    "surname-shared": -20,
    "address-shared": -20,
    "phone-or-email-shared": -20,
}


def used_rows(library: Library, patron: Row) -> list[Row]:
    """Return the address rows that a patron's record uses, including those of others."""
    wanted = {patron.get("mailing_address"), patron.get("billing_address")} - {None}
    return [row for id in sorted(wanted) for row in library.rows_with("aua", "id", id)]


def sees_row(library: Library, row: Row) -> bool:
    """Return whether the account sees an address row: only if it sees the owner."""
    owner = library.people[row["usr"]]
    return library.visible(owner) or library.is_asking(owner)


def in_common(library: Library, one: Row, other: Row) -> set[str]:
    surnames = [patron["family_name"].strip().casefold() for patron in (one, other)]
    pairs = {
        "surname": surnames[0] == surnames[1] != "",
        "library": one["home_ou"] == other["home_ou"],
        "address": bool(_addresses(library, one) & _addresses(library, other)),
        "phone": bool(_phones(one) & _phones(other)),
        "email": bool(_emails(one) & _emails(other)),
    }
    return {kind for kind, holds in pairs.items() if holds}


def _addresses(library: Library, patron: Row) -> set[tuple[str, ...]]:
    own = library.rows_of("aua", patron["id"])
    rows = [*own, *(row for row in used_rows(library, patron) if sees_row(library, row))]
    return {tuple("".join(row[part].split()).casefold() for part in ("street1", "post_code")) for row in rows}


def _phones(patron: Row) -> set[str]:
    written = [patron.get(f"{which}_phone") or "" for which in ("day", "evening", "other")]
    digits = ["".join(filter(str.isdigit, text)) for text in written]
    return {number for number in digits if len(number) >= 5 and len(set(number)) > 1}


def _emails(patron: Row) -> set[str]:
    text = (patron.get("email") or "").strip().casefold()
    return {text} if "@" in text else set()


def strangers(library: Library, people: Sequence[Row]) -> list[Row]:
    """Return the patrons who have nothing in common with any of the others."""
    return [
        one
        for one in people
        if len(people) > 1 and not any(in_common(library, one, other) for other in people if other is not one)
    ]


def adult_by_age(patron: Row, age: int) -> bool:
    """Return whether a patron is old enough, if the birth date is known; no birthday is close to today."""
    born = birth_year(patron)
    return patron["juvenile"] == "f" if born is None else datetime.now(UTC).year - born > age


def confidence(library: Library, members: Sequence[Row], visible: Sequence[Row], found: set[str]) -> Document:
    """Return the confidence; ``found`` are the codes that the group was listed for."""
    codes = {code for code in found if code in WEIGHTS}
    wanted = {name.casefold() for name in library.question["audit"]["institutions"]}
    for patron in visible:
        names = {
            library.profiles[profile]["name"].casefold() for profile in library.profiles_upwards(patron["profile"])
        }
        if names & wanted:
            codes.add("institution")
    if any(_is_clone(library, one, other) for one in visible for other in visible if one is not other):
        codes.add("cloned")
    if len(visible) == len(members):
        ties = {one["id"]: _shares(library, one, members) - {"library"} for one in members}
        if not any(ties.values()):
            codes.add("nothing-shared")
        for code, kinds in (
            ("surname-shared", {"surname"}),
            ("address-shared", {"address"}),
            ("phone-or-email-shared", {"phone", "email"}),
        ):
            if all(ties[one["id"]] & kinds for one in members):
                codes.add(code)
    points = min(100, max(0, sum(WEIGHTS[code] for code in codes)))
    return {
        "points": points,
        "level": "high" if points >= 50 else "medium" if points >= 25 else "low",
        "evidence": [
            {"code": code, "weight": weight}
            for code, weight in sorted(WEIGHTS.items(), key=lambda item: -item[1])
            if code in codes
        ],
    }


def _shares(library: Library, one: Row, others: Sequence[Row]) -> set[str]:
    return {kind for other in others if other is not one for kind in in_common(library, one, other)}


def _is_clone(library: Library, one: Row, other: Row) -> bool:
    lent = any(row["usr"] == other["id"] for row in used_rows(library, one))
    apart = abs(moment(one["create_date"]) - moment(other["create_date"]))
    return lent and apart <= timedelta(days=1) and not in_common(library, one, other) & {"surname", "phone", "email"}


def split(library: Library, visible: Sequence[Row], lead: Row, *, complete: bool) -> Document | None:
    """Return who would stay and who would be removed: patrons belong together if a chain of relations connects them."""
    families: list[set[int]] = []
    by_id = {patron["id"]: patron for patron in visible}
    left = sorted(by_id)
    while left:
        family = {left[0]}
        while more := {
            id
            for id in left
            if id not in family and any(in_common(library, by_id[id], by_id[of]) - {"library"} for of in family)
        }:
            family |= more
        families.append(family)
        left = [id for id in left if id not in family]
    if not complete or len(families) == 1:
        return None
    families.sort(key=lambda family: (-len(family), lead["id"] not in family, sorted(family)))
    first, *others = families
    others.sort(key=lambda family: (-len(family), sorted(family)))
    return {"stay": sorted(first), "leave": [sorted(family) for family in others]}
