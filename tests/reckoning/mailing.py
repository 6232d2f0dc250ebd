"""The expected letters, mail-merge file and statements for a dataset: to whom, about whom, how much, and why not."""

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

from reckoning.auditing import sees_row
from reckoning.family import items as count_items
from reckoning.family import total
from reckoning.late_items import lost_rows, overdue_rows, verdict, with_late_items
from reckoning.library import NOTHING, Content, Library, Row, moment
from reckoning.reckoning import Document, listed_groups, money

INVALID_ADDRESS, IN_COLLECTIONS = 29, 30
_WAYS = ("day_phone", "evening_phone", "other_phone", "email")


def mailable(content: Content) -> Content:
    """Return a population of families: most people have an address, many are children, and some have a credit."""
    chance = Random(json.dumps(content["au"], sort_keys=True))
    changed = ("au", "aua", "ausp", "mg", "mbts", "_question")
    found = {**content, **{name: copy.deepcopy(content[name]) for name in changed}}
    found["csp"] = [*content["csp"], {"id": INVALID_ADDRESS, "name": "INVALID_PATRON_ADDRESS", "block_list": None}]
    found["_question"]["report"] |= {"min_total": "0.01", "min_members": 1, "choice": {}}
    for patron in found["au"]:
        _make_relative(found, patron, chance)
    found["_question"]["letters"] = {
        "min_own": chance.choice(("0.00", "1.50", "3.01", "5.00", "20.00")),
        "to_lead": [patron["id"] for patron in found["au"] if chance.random() < 0.5],
        "held_back": {number: chance.choice(("closed", "waiting")) for number in (7, 500) if chance.random() < 0.1},
    }
    return found


def mailable_by_items(content: Content) -> Content:
    """Return the families with overdue and lost items, and a report that lists them by these items."""
    found = mailable(with_late_items(content))
    found["_question"]["report"] |= {"min_total": "0.00", "min_overdue": 1, "min_lost": 1, "overdue_days": 0}
    found["_question"]["report"]["details"] = True
    return found


def _make_relative(content: Content, patron: Row, chance: Random) -> None:
    """Put a patron into one of two families, with an address of their own, debts, and penalties about letters."""
    id, orgs = 100_000 + patron["id"], [row["id"] for row in content["aou"]]
    patron["usrgroup"] = chance.choice((7, 500, 500, patron["usrgroup"]))
    valid, pending = ("t" if chance.random() < part else "f" for part in (0.95, 0.05))
    address = {"id": id, "usr": patron["id"], "street1": f"{patron['id']} Any St", "post_code": "55555"}
    content["aua"].append({**address, "valid": valid, "pending": pending})
    patron["billing_address"] = chance.choice((*[id] * 9, patron["billing_address"]))
    patron["guardian"] = chance.choice((None, " ", f"N{patron['id']}'s guardian"))
    if patron["id"] >= 1000 and chance.random() < 0.8:
        birthday = datetime.now(UTC).date() - timedelta(18 * 365 + 4)
        ages = ("f", None), ("f", None), ("t", None), ("t", "2020-05-05"), ("f", (birthday - timedelta(9)).isoformat())
        patron["juvenile"], patron["dob"] = chance.choice((*ages, ("t", (birthday + timedelta(9)).isoformat())))
    if chance.random() < 0.6:
        amount = chance.choice(("-20.00", "-3.10", "1.50", "14.75"))
        common = {"id": id, "usr": patron["id"], "xact_finish": None}
        content["mg"].append({**common, "billing_location": chance.choice(orgs)})
        content["mbts"].append({**common, "total_owed": amount, "balance_owed": amount, "xact_type": "grocery"})
    if chance.random() < 0.1:
        kinds = (INVALID_ADDRESS, IN_COLLECTIONS, *(row["id"] for row in content["csp"] if row["id"] > 100))
        row = {"id": id, "usr": patron["id"], "standing_penalty": chance.choice(kinds), "staff": 3}
        ends = chance.choice((None, None, "2015-05-05T10:00:00+0000"))
        content["ausp"].append({**row, "org_unit": chance.choice(orgs), "stop_date": ends})


def minor(patron: Row) -> bool:
    """Return whether a patron is under 18 by a date of birth that can be true, else by the mark of a juvenile."""
    born, today = patron.get("dob"), datetime.now(UTC).date()
    if born and born >= "1900":
        year, month, day = map(int, born[:10].split("-"))
        return date(year + 18, month, day) > today
    return bool(patron["juvenile"] == "t")


def debts(library: Library, members: Iterable[Row]) -> Decimal:
    """Return what members owe, without credits."""
    return sum((max(library.owes(one["id"]), NOTHING) for one in members), NOTHING)


def _address(library: Library, patron: Row) -> Row | None:
    """Return the mailing address, or else the billing address, if it is valid and visible."""
    for name in ("mailing_address", "billing_address"):
        for row in library.rows_with("aua", "id", patron.get(name)) if patron.get(name) else ():
            if row["valid"] == "t" and row["pending"] == "f" and sees_row(library, row):
                return row
    return None


def _reachable(library: Library, patron: Row) -> bool:
    return any((patron.get(way) or "").strip() for way in _WAYS) or _address(library, patron) is not None


def _contact(library: Library, members: Sequence[Row]) -> tuple[Row | None, bool]:
    """Return the person to contact among visible members, and whether it is their guardian instead."""
    leads = sorted((one for one in members if one["master_account"] == "t"), key=lambda one: int(one["id"]))
    others = sorted(
        (one for one in members if one not in leads), key=lambda one: (-library.owes(one["id"]), int(one["id"]))
    )
    adults = [one for one in (*leads, *others) if one["juvenile"] == "f"]
    for adult in [one for one in adults if _reachable(library, one)] or adults:
        return adult, False
    for juvenile in (*leads, *others):
        if any((juvenile.get(name) or "").strip() for name in ("guardian", "guardian_email")):
            return juvenile, True
    return None, False


def _obstacles(library: Library, contact: Row | None, guardian: bool, members: Iterable[Row]) -> set[str]:
    """Return every reason not to write to a person about ``members``."""
    if contact is None:
        return {"no-contact"}
    homes = library.named(library.question["report"]["orgs"]) or set(library.orgs)
    in_force = library.in_force(contact["id"])
    found = {
        "withheld": contact["home_ou"] not in homes,
        "inactive": contact["active"] != "t",
        "minor": not guardian and minor(contact),
        "in-collections": any(_in_collections(library, one) for one in members),
        "no-address": _address(library, contact) is None
        or any(row["standing_penalty"] == INVALID_ADDRESS for row in in_force),
    }
    return {reason for reason, holds in found.items() if holds}


def _in_collections(library: Library, patron: Row) -> bool:
    return any(
        row["standing_penalty"] in (IN_COLLECTIONS, library.penalty_for("PATRON_IN_COLLECTIONS", row["org_unit"]))
        for row in library.in_force(patron["id"])
    )


def letters(library: Library) -> Document | None:
    """Return who gets letters about whom, what they cover, and all that may be given as the reason for the others."""
    if not library.visible_orgs:
        return None
    found: Document = {name: {} for name in ("letters", "families", "left_out", "people", "people_left_out")}
    groups = listed_groups(library)
    if _by_items(library):
        groups = {number: members for number, members in library.groups().items() if verdict(library, members)}
    listed = sorted(
        groups,
        key=lambda number: (
            *(-len(_rows(library, groups[number], rows_of)) for rows_of in (overdue_rows, lost_rows)),
            -library.combined(groups[number]),
            number,
        ),
    )
    for number in listed[: library.question["report"]["top"]]:
        _add_family(library, found, number, groups[number])
        _add_people(library, found, groups[number])
    return found


def _add_people(library: Library, found: Document, members: Sequence[Row]) -> None:
    """Add the rows of the mail-merge file."""
    visible = [one for one in members if library.visible(one)]
    contact, guardian = _contact(library, visible)
    obstacles = _obstacles(library, contact, guardian, visible)
    for one in (one for one in visible if library.owes(one["id"]) > 0 or _unreturned(library, [one])):
        to, reasons = (contact, obstacles) if minor(one) else (one, _obstacles(library, one, False, [one]))
        if reasons or to is None:
            found["people_left_out"][str(one["id"])] = sorted(reasons)
        else:
            found["people"][str(one["id"])] = {"contact": to["id"], "owed": money(library.owes(one["id"]))}


def _add_family(library: Library, found: Document, number: int, members: Sequence[Row]) -> None:
    asked = library.question["letters"]
    visible = [one for one in members if library.visible(one)]
    hidden = [one for one in members if one not in visible]
    contact, guardian = _contact(library, visible)
    obstacles = _obstacles(library, contact, guardian, visible)
    lead = _address_of_lead(library, visible)
    mine = [one for one in visible if minor(one) or (one is contact and not guardian)]
    shares = [(contact, mine, obstacles)]
    shares += [(one, [one], _obstacles(library, one, False, [one])) for one in visible if one not in mine]
    covered, covered_items, is_written, why, needs_address = NOTHING, 0, False, [], []
    for to, about, of_person in shares:
        reasons = of_person
        owed, items = debts(library, about), _unreturned(library, about)
        address = None if to is None else _address(library, to)
        small = {"below-minimum"} if not items and 0 < owed < Decimal(asked["min_own"]) else set[str]()
        if reasons == {"no-address"} and (owed or items) and not small and lead is not None and to is not None:
            needs_address.append(to["id"])
            if to["id"] in asked["to_lead"]:
                reasons, address = set(), lead
        reasons = reasons | small or ({asked["held_back"][number]} if number in asked["held_back"] else set())
        why.append(((owed, items), reasons))
        if (owed or items) and not reasons and to is not None:
            covered += owed
            covered_items += items
            is_written = True
            role = " guardian" if guardian and about is mine else ""
            found["letters"][f"{number} {to['id']}{role}"] = {
                "members": {str(one["id"]): money(library.owes(one["id"])) for one in about if library.owes(one["id"])},
                "owed": money(owed),
                "street": (address or {}).get("street1"),
                "says_all_members": not (hidden and about is mine),
                "wrong_sums": [],
            }
            continue
        for one in about:
            if library.owes(one["id"]) > 0 or _unreturned(library, [one]):
                found["left_out"][f"{number} {one['id']}"] = sorted(reasons)
    if not is_written:
        if all_held := [one for one in why if one[1] & {"closed", "waiting"}]:
            why = all_held
        most = max(much for much, _reasons in why)
        reasons = set[str]().union(*(reasons for much, reasons in why if much == most))
        found["left_out"][str(number)] = sorted(reasons if any(most) else why[0][1] or {"nothing-owed"})
    owed = debts(library, visible) + max(library.combined(hidden), NOTHING)
    found["families"][str(number)] = {
        "covered": money(covered),
        "owed": money(owed) if len(hidden) <= 1 else None,
        "owed_at_least": money(owed),
        "hidden_member_count": len(hidden),
        "needs_address": sorted(needs_address),
        **(_items_of_family(library, members, covered_items) if _by_items(library) else {}),
    }


def _by_items(library: Library) -> bool:
    return bool(library.question["report"].get("min_overdue"))


def _rows(library: Library, members: Iterable[Row], rows_of: Callable[[Library, Row], list[Row]]) -> list[Row]:
    """Return the visible circulations of visible members, none unless the report is by items."""
    at = library.orgs_with("VIEW_CIRCULATIONS") if _by_items(library) else set[int]()
    visible = (one for one in members if library.visible(one))
    return [row for one in visible for row in rows_of(library, one) if row["circ_lib"] in at]


def _unreturned(library: Library, members: Sequence[Row]) -> int:
    return sum(len(_rows(library, members, rows_of)) for rows_of in (overdue_rows, lost_rows))


def _items_of_family(library: Library, members: Sequence[Row], covered: int) -> Document:
    known = all(library.visible(one) and count_items(library, one) is not None for one in members)
    return {"items_covered": covered, **total("unreturned", _unreturned(library, members), exact=known)}


def _address_of_lead(library: Library, visible: Iterable[Row]) -> Row | None:
    """Return the valid address of the group lead, where letters may go there."""
    leads = [one for one in visible if one["master_account"] == "t"]
    if not leads:
        return None
    lead = min(leads, key=lambda one: int(one["id"]))
    homes = library.named(library.question["report"]["orgs"]) or set(library.orgs)
    invalid = any(row["standing_penalty"] == INVALID_ADDRESS for row in library.in_force(lead["id"]))
    return None if invalid or lead["home_ou"] not in homes else _address(library, lead)


def statement(library: Library, patron_id: int) -> Document | None:
    """Return the totals of a patron's statement; None if the patron is deleted or hidden."""
    patron = library.patrons.get(patron_id)
    if patron is None or not library.visible(patron):
        return None
    family = [one for one in library.groups()[patron["usrgroup"]] if library.visible(one)]
    members = [one for one in family if one is patron or minor(one)]
    overdue, due = 0, []
    for row in (row for one in members for row in _items_out(library, one)):
        if row["stop_fines"] == "LONGOVERDUE" or (_runs(row) and _late(row)):
            overdue += 1
        elif _runs(row) and row["due_date"] != "infinity":
            due.append(moment(row["due_date"]).date().isoformat())
    owed = debts(library, members)
    return {
        "members": {str(one["id"]): money(library.owes(one["id"])) for one in members},
        "member_count": len(members),
        "owed": money(owed),
        "of_kinds": money(owed),
        "credit": money(owed - library.combined(members)),
        "overdue": overdue,
        "next_due": min(due, default=None),
    }


def _items_out(library: Library, patron: Row) -> Iterable[Row]:
    seen = library.orgs_with("VIEW_CIRCULATIONS")
    for row in library.rows_of("circ", patron["id"]):
        paid = row["stop_fines"] in ("LOST", "LONGOVERDUE") and row.get("xact_finish") is not None
        if row["circ_lib"] in seen and row.get("checkin_time") is None and not paid:
            yield row


def _runs(row: Row) -> bool:
    return row["stop_fines"] not in ("LOST", "LONGOVERDUE", "CLAIMSRETURNED")


def _late(row: Row) -> bool:
    due, now = moment(row["due_date"]), datetime.now(UTC)
    return due.date() < now.date() if row["fine_interval"] == "1 day" else due < now
