"""The audit's expected document for a dataset: findings, and what a group's members have in common on file."""

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from reckoning.library import Content, Library, Row, birth_year, expiry, moment
from reckoning.reckoning import Document, by_fines, lead_of, member, money, name, person

UNUSUAL_SIZE = 10
LONG_EXPIRED = timedelta(days=3 * 365)
OBSCURED = "circ.obscure_dob"
_ZONES = ('"Pacific/Kiritimati"', '"Etc/GMT+12"', '"America/Toronto"')


def audit(library: Library) -> Document | None:
    """Return the audit's document; None if the account sees none of the patrons."""
    chosen = library.named(library.question["audit"]["orgs"])
    homes = (chosen or set(library.orgs)) & library.visible_orgs
    if not homes:
        return None
    people = [
        finding
        for patron in library.patrons.values()
        if patron["home_ou"] in homes
        for finding in _findings(library, patron)
    ]
    kinds = ["over-limit-not-blocked", "blocked-not-over-limit", "block-not-recalculated", "blocked-for-family"]
    kinds += ["blocked-by-staff", "came-of-age", "borrowed-address"]
    thresholds = _thresholds(library, [finding for finding in people if finding["kind"].startswith("threshold-")])
    people = [finding for finding in people if not finding["kind"].startswith("threshold-")]
    people.sort(key=lambda it: (kinds.index(it["kind"]), -Decimal(it["member"]["own_fines"]), it["member"]["id"]))
    looked_at = [
        (number, members)
        for number, members in sorted(library.groups().items())
        if not chosen or any(patron["home_ou"] in chosen for patron in members)
    ]
    groups = [found for number, members in looked_at for found in _accidental(library, number, members)]
    groups.sort(key=lambda found: (-found["confidence"]["points"], found["group"]))
    adults = [found for number, members in looked_at for found in _several_adults(library, number, members)]
    counts = {kind: sum(finding["kind"] == kind for finding in people) for kind in kinds}
    return {
        "complete": library.sees_everything,
        "counts": {**counts, **_counts(groups), "several-adults": len(adults)},
        "thresholds": thresholds,
        "people": people,
        "groups": [*groups, *adults],
    }


def _counts(groups: Sequence[Document]) -> dict[str, int]:
    kinds = [found["kind"] for found in groups]
    return {kind: kinds.count(kind) for kind in ("accidental-group", "group-for-review")}


def _findings(library: Library, patron: Row) -> Iterable[Document]:
    in_force = library.in_force(patron["id"])
    blocking = [row for row in in_force if library.blocks(row["standing_penalty"])]
    for_fines = [row for row in blocking if library.for_fines(row["standing_penalty"], patron["home_ou"])]
    finding = {"group": patron["usrgroup"], "member": member(library, patron), "group_fines": None}
    yield from _borrowed(library, patron)
    yield from came_of_age(library, patron)
    if library.over(patron):
        if not for_fines:
            yield {"kind": _not_blocked(library, patron), **finding, "blocks": []}
        return
    if stale := [row for row in for_fines if row.get("staff") is None]:
        kind, blocks = _blocked(library, patron, stale), [_block(library, row) for row in stale]
        yield {"kind": kind, **finding, "blocks": blocks}
    if by_staff := [row for row in blocking if row.get("staff") is not None]:
        together = library.combined(library.groups()[patron["usrgroup"]])
        because_of_fines = [row for row in by_staff if row in for_fines]
        of_others = library.limit(patron).over(together) and together > library.owes(patron["id"])
        is_for_family = bool(because_of_fines) and of_others
        kind = "blocked-for-family" if is_for_family else "blocked-by-staff"
        blocks = [_block(library, row) for row in (because_of_fines if is_for_family else by_staff)]
        fines = money(together) if because_of_fines else None
        yield {"kind": kind, **finding, "group_fines": fines, "blocks": blocks}


def _not_blocked(library: Library, patron: Row) -> str:
    """Return a finding about a patron over the limit: would a recalculation block, or does a threshold prevent it?"""
    if not library.blocks(library.penalty_for("PATRON_EXCEEDS_FINES", patron["home_ou"])):
        return "threshold-above-limit"
    return "threshold-above-limit" if library.reaches_threshold(patron) is False else "over-limit-not-blocked"


def _blocked(library: Library, patron: Row, stale: Sequence[Row]) -> str:
    """Return a finding about a blocked patron who isn't over the limit: would a recalculation lift the block?"""
    if library.reaches_threshold(patron):
        return "threshold-below-limit"
    if library.threshold_is_hidden(patron):
        return "blocked-not-over-limit"
    threshold = library.threshold_row(patron)
    left = threshold is None or any(row["org_unit"] != threshold["org_unit"] for row in stale)
    return "block-not-recalculated" if left else "blocked-not-over-limit"


def _thresholds(library: Library, findings: Sequence[Document]) -> list[Document]:
    """Return how many patrons each threshold affects, by kind, the highest number first."""
    found: dict[tuple[Any, ...], int] = {}
    for finding in findings:
        patron = library.people[finding["member"]["id"]]
        penalty = library.penalty_for("PATRON_EXCEEDS_FINES", patron["home_ou"])
        above = finding["kind"] == "threshold-above-limit"
        row = None if above and not library.blocks(penalty) else library.threshold_row(patron)
        limit, owed = library.limit(patron), library.owes(patron["id"])
        if above and not library.blocks(penalty):
            code = "penalty-blocks-nothing"
        elif row is None:
            code = "no-threshold"
        elif above:
            code = "threshold-higher" if owed < Decimal(row["threshold"]) else "counts-fewer-bills"
        else:
            code = "threshold-at-limit" if limit.amount == library.counted(patron) else "threshold-lower"
        amount = None if row is None else f"{Decimal(row['threshold']):.2f}"
        profile = None if row is None else library.profiles[row["grp"]]["name"]
        place = None if row is None else library.shortname(row["org_unit"])
        of_rule = tuple(limit.document().items())
        key = (finding["kind"], code, amount, profile, place, library.penalties[penalty]["name"], of_rule)
        found[key] = found.get(key, 0) + 1
    documents = [
        {
            "kind": kind,
            "reason_code": code,
            "threshold": amount,
            "profile": profile,
            "library": place,
            "penalty": penalty,
            "limit": dict(limit),
            "patron_count": count,
        }
        for (kind, code, amount, profile, place, penalty, limit), count in found.items()
    ]
    return sorted(documents, key=in_order)


def in_order(finding: Document) -> tuple[object, ...]:
    """Return a sort key for findings about thresholds; the order of equal numbers is undefined."""
    texts = (str(finding[name]) for name in ("reason_code", "library", "profile", "penalty", "threshold", "limit"))
    return (finding["kind"], -finding["patron_count"], *texts)


def _borrowed(library: Library, patron: Row) -> Iterable[Document]:
    """Return the owners, from other groups, of the addresses that a patron's record uses."""
    rows = used_rows(library, patron)
    owners = {row["usr"]: library.people[row["usr"]] for row in rows if row["usr"] != patron["id"]}
    outside = [one for one in owners.values() if one["deleted"] == "f" and one["usrgroup"] != patron["usrgroup"]]
    if not outside:
        return
    finding = {"kind": "borrowed-address", "group": patron["usrgroup"], "member": _shown(library, patron)}
    hidden = [row for row in rows if not sees_row(library, row)]
    for owner in sorted(outside, key=lambda one: int(one["id"])):
        if library.visible(owner) or library.is_asking(owner):
            whose = f"{name(owner)}, {library.shortname(owner['home_ou'])}, group {owner['usrgroup']}"
            yield {**finding, "reason": f"uses an address of {whose}"}
    if hidden:
        yield {**finding, "reason": "uses an address of a patron hidden from this account"}


def grown(content: Content) -> Content:
    """Return a copy in which many are juveniles about to come of age, in libraries with calendars of their own."""
    content, now = deepcopy(content), datetime.now(UTC)
    chance, age = Random(len(content["au"])), content["_question"]["audit"]["adults_from_age"]
    for patron in content["au"]:
        if patron["id"] >= 1000 and chance.random() < 0.7:
            born = now.date() - timedelta(age * 365 + age // 4 + chance.choice((-400, -2, -1, 0, 1, 2, 400, 9000)))
            patron["juvenile"], patron["dob"] = chance.choice("ttf"), born.isoformat()
            patron["usrgroup"] = chance.choice((7, 7, 500))
    for unit in content["aou"]:
        for which, value in (("lib.timezone", chance.choice(_ZONES)), (OBSCURED, chance.choice(("true", "false")))):
            row = {"id": len(content["aous"]) + 1, "org_unit": unit["id"], "name": which, "value": value}
            content["aous"].extend([row] if chance.random() < 0.4 else [])
    return content


def _setting(library: Library, name: str, org: int) -> Any:
    for place in library.upwards(org):
        for row in library.rows("aous"):
            if row["name"] == name and row["org_unit"] == place:
                return json.loads(row["value"])
    return None


def _age(library: Library, patron: Row) -> int:
    """Return a patron's age where the home library is. Whoever was born on February 29 is older from March 1 on."""
    zone = _setting(library, "lib.timezone", patron["home_ou"])
    today = datetime.now(UTC).astimezone(ZoneInfo(zone) if zone else None).date().isoformat()
    return int(today[:4]) - int(patron["dob"][:4]) - (today[5:] < patron["dob"][5:10])


def came_of_age(library: Library, patron: Row) -> Iterable[Document]:
    """Return a finding about a juvenile who is old enough, if the account sees another member who isn't one."""
    if patron["juvenile"] != "t" or birth_year(patron) is None:
        return
    age = _age(library, patron)
    if age < library.question["audit"]["adults_from_age"]:
        return
    if any(one["juvenile"] == "f" and library.visible(one) for one in library.groups()[patron["usrgroup"]]):
        obscured = _setting(library, OBSCURED, patron["home_ou"])
        yield {
            "kind": "came-of-age",
            "group": patron["usrgroup"],
            "member": _shown(library, patron),
            "reason": f"marked as a juvenile, {'an adult by date of birth' if obscured else f'age {age}'}",
        }


def _block(library: Library, row: Row) -> Document:
    return {
        "id": row["id"],
        "penalty": library.penalties[row["standing_penalty"]]["name"],
        "org_unit": library.shortname(row["org_unit"]),
        "by_staff": row.get("staff") is not None,
    }


def explanation(library: Library, id: int) -> Document | None:
    """Return why a patron is blocked for fines or not; None if the account doesn't see the patron."""
    patron = library.people[id]
    if patron["deleted"] == "t" or not library.visible(patron):
        return None
    home = patron["home_ou"]
    penalty = library.penalty_for("PATRON_EXCEEDS_FINES", home)
    found: Document = {"patron": {"id": id, "own_fines": money(library.owes(id))}}
    found["penalty"] = {"name": library.penalties[penalty]["name"], "blocks": library.blocks(penalty)}
    thresholds = home in library.orgs_with("VIEW_GROUP_PENALTY_THRESHOLD")
    bills = home in library.orgs_with("VIEW_USER_TRANSACTIONS")
    limit = library.threshold(patron)
    if not thresholds:
        return {**found, "complete": False, "looked_at": None, "threshold": None, "reaches_threshold": None}
    if limit.amount is None:
        return {**found, "threshold": None, "counted": None, "reaches_threshold": False}
    found["threshold"] = {"amount": f"{limit.amount:.2f}"}
    if not bills:
        return {**found, "complete": False, "bills": None, "counted": None, "reaches_threshold": None}
    counted = library.transactions(id, limit.scope)
    total = sum(counted, Decimal("0.00"))
    return {**found, "counted": money(total), "reaches_threshold": bool(counted) and total >= limit.amount}


def _accidental(library: Library, number: int, members: Sequence[Row]) -> Iterable[Document]:
    """Return findings about a group of two or more: it looks accidental, or has too much in common for that."""
    visible = by_fines(library, filter(library.visible, members))
    if len(members) < 2 or not visible:
        return
    reasons, codes = [], set()
    leads = [patron for patron in visible if patron["master_account"] == "t"]
    if len(leads) > 1:
        least = "" if len(visible) == len(members) else "at least "
        reasons.append(f"{least}{len(leads)} leads")
        codes.add("several-leads")
    for lead in sorted(leads, key=lambda patron: int(patron["id"])):
        expires = expiry(lead)
        if expires and expires < datetime.now(UTC) - LONG_EXPIRED:
            reasons.append(f"the account of lead {name(lead)} expired on {expires:%Y-%m-%d}")
            codes.add("lead-expired")
    if len(visible) == len(members):
        if not leads:
            everybody = library.rows_with("au", "usrgroup", number)
            deleted = [row for row in everybody if row["deleted"] == "t" and library.visible(row)]
            gone = any(row["master_account"] == "t" for row in deleted)
            reasons.append("the lead is deleted" if gone else "no lead")
            codes.add("lead-deleted" if gone else "no-lead")
        for stranger in strangers(library, [patron for patron in members if _adult(patron)]):
            reasons.append(
                f"{name(stranger)} shares no surname, address, phone, e-mail or home library with another adult"
            )
            codes.add("strangers")
    if len(members) >= UNUSUAL_SIZE:
        reasons.append(f"unusually large: {len(members)} members")
        codes.add("unusually-large")
    if reasons:
        whole = len(visible) == len(members)
        sure = confidence(library, members, visible, codes)
        yield {
            **_group(library, "accidental-group" if sure["points"] else "group-for-review", number, members, visible),
            "reasons": sorted(reasons),
            "confidence": sure,
            "split": split(library, visible, lead_of(visible), complete=whole),
        }


def _several_adults(library: Library, number: int, members: Sequence[Row]) -> Iterable[Document]:
    """Return a finding about too many adults among a group's visible members, if the criteria have a maximum."""
    most, age = library.question["audit"]["max_adults"], library.question["audit"]["adults_from_age"]
    visible = by_fines(library, filter(library.visible, members))
    count = sum(adult_by_age(patron, age) for patron in visible)
    if most and count > most:
        least = "" if len(visible) == len(members) else "at least "
        reasons = [f"{least}{count} adults, more than {most}"]
        yield {
            **_group(library, "several-adults", number, members, visible),
            "reasons": reasons,
            "confidence": None,
            "split": None,
        }


def _group(library: Library, kind: str, number: int, members: Sequence[Row], visible: Sequence[Row]) -> Document:
    return {
        "kind": kind,
        "group": number,
        "member_count": len(members),
        "hidden_member_count": len(members) - len(visible),
        "group_fines": money(library.combined(members)),
        "members": [_shown(library, patron) for patron in visible],
    }


def _shown(library: Library, patron: Row) -> Document:
    """Return a member without any decision."""
    return {**person(library, patron), "group_lead": patron["master_account"] == "t"}


def _adult(patron: Row) -> bool:
    """Return whether a patron is an adult; in datasets, birthdays are never close to 18 years ago."""
    born = birth_year(patron)
    return patron["juvenile"] == "f" and (born is None or born < datetime.now(UTC).year - 18)


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
