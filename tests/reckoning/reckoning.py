"""What the report, the audit and the check must say of a data set, reckoned a second time and as simply as can be.

Each function gives the document that the product's JSON is held against, key by key: the product's may have more keys.
``None`` in place of a document says that there is none to give, so that an error is the only right answer.
:func:`may_refuse` says when an error is right although a document could be given by who sees more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from reckoning.library import NOTHING, Library, Row, moment

Document = dict[str, Any]

UNUSUAL_SIZE = 10
LONG_EXPIRED = timedelta(days=3 * 365)


def money(amount: Decimal) -> str:
    """An amount as documents have it."""
    return f"{amount + 0:.2f}"


# people and groups


def name(patron: Row) -> str:
    """A name as it's written, family name first; preferred names before legal ones."""
    family, first, second, suffix = (
        (patron.get(f"pref_{part}") or patron.get(part) or "").strip()
        for part in ("family_name", "first_given_name", "second_given_name", "suffix")
    )
    return ", ".join(filter(None, (family, f"{first} {second}".strip(), suffix)))


def member(library: Library, patron: Row) -> Document:
    """One member as report and audit show them."""
    return {
        "id": patron["id"],
        "barcode": library.cards.get(patron.get("card")),
        "name": name(patron),
        "library": library.shortname(patron["home_ou"]),
        "own_fines": money(library.owes(patron["id"])),
        "over_limit": library.over(patron),
        "group_lead": patron["master_account"] == "t",
        "limit": library.limit(patron).document(),
    }


def lead_of(members: Sequence[Row]) -> Row:
    """The lead, the one with the lowest id of several; the oldest record where there is none."""
    return min(members, key=lambda patron: (patron["master_account"] != "t", patron["id"]))


def by_fines(library: Library, members: Iterable[Row]) -> list[Row]:
    """Members, who owes most first."""
    return sorted(members, key=lambda patron: (-library.owes(patron["id"]), patron["id"]))


# the report


def listed_groups(library: Library, *, orgs: Iterable[str], min_total: Decimal, min_members: int) -> dict[int, list[Row]]:
    """All members of each group that meets the criteria and has a member whom the account sees."""
    homes = library.named(orgs) or set(library.orgs)
    return {
        number: members
        for number, members in library.groups().items()
        if any(map(library.visible, members))
        and any(patron["home_ou"] in homes for patron in members)
        and len(members) >= min_members
        and library.combined(members) >= min_total
    }


def report(library: Library) -> Document | None:
    """The report's document, None where the account sees nobody."""
    if not library.viewable:
        return None
    criteria = library.question["report"]
    found = listed_groups(
        library,
        orgs=criteria["orgs"],
        min_total=Decimal(criteria["min_total"]),
        min_members=criteria["min_members"],
    )
    worst = sorted(found, key=lambda number: (-library.combined(found[number]), number))
    listed = worst[: criteria["top"]]
    documents = [group(library, number, found[number]) for number in listed]
    orders: dict[str, Any] = {
        "total": lambda _document: 0,
        "members": lambda document: -document["member_count"],
        "name": lambda document: document["lead"]["name"].casefold(),
        "library": lambda document: document["library"].casefold(),
    }
    documents.sort(key=orders[criteria["sort"]])
    return {
        "groups": documents,
        "totals": {
            "group_count": len(documents),
            "member_count": sum(one["member_count"] for one in documents),
            "owing_count": sum(one["owing_count"] for one in documents),
            "over_limit_count": sum(one["over_limit_count"] for one in documents),
            "combined_fines": money(sum((Decimal(one["combined_fines"]) for one in documents), NOTHING)),
            "groups_nobody_over_limit": sum(one["nobody_over_limit"] for one in documents),
            "incomplete_group_count": sum(not one["complete"] for one in documents),
        },
        "left_out_count": len(worst) - len(listed),
    }


def group(library: Library, number: int, members: Sequence[Row]) -> Document:
    """One listed group."""
    visible = by_fines(library, filter(library.visible, members))
    hidden = [patron for patron in members if not library.visible(patron)]
    lead = lead_of(visible)
    combined = library.combined(members)
    over = [patron for patron in visible if library.over(patron)]
    limits = [library.limit(patron).amount for patron in visible]
    return {
        "group": number,
        "lead": {
            "id": lead["id"],
            "name": name(lead),
            "barcode": library.cards.get(lead.get("card")),
            "group_lead": lead["master_account"] == "t",
        },
        "library": library.shortname(lead["home_ou"]),
        "member_count": len(members),
        "owing_count": sum(library.owes(patron["id"]) > 0 for patron in visible),
        "combined_fines": money(combined),
        "highest_own_fines": money(max(library.owes(patron["id"]) for patron in visible)),
        "over_limit_count": len(over),
        "nobody_over_limit": not hidden and not over and any(limit is not None and combined > limit for limit in limits),
        "complete": not hidden,
        "hidden_member_count": len(hidden),
        "hidden_fines": money(library.combined(hidden)),
        "members": [member(library, patron) for patron in visible],
    }


# the audit


def audit(library: Library) -> Document | None:
    """The audit's document, None where the account sees nobody of those asked for."""
    chosen = library.named(library.question["audit"]["orgs"])
    homes = (chosen or set(library.orgs)) & library.viewable
    if not homes:
        return None
    people = [finding for patron in library.patrons.values() if patron["home_ou"] in homes for finding in _findings(library, patron)]
    kinds = ["over-limit-not-blocked", "blocked-not-over-limit", "blocked-for-family", "blocked-by-hand"]
    people.sort(key=lambda it: (kinds.index(it["kind"]), -Decimal(it["member"]["own_fines"]), it["member"]["id"]))
    groups = [
        found
        for number, members in sorted(library.groups().items())
        if not chosen or any(patron["home_ou"] in chosen for patron in members)
        for found in _accidental(library, number, members)
    ]
    counts = {kind: sum(finding["kind"] == kind for finding in people) for kind in kinds}
    return {
        "complete": library.sees_everything,
        "counts": {**counts, "accidental-group": len(groups)},
        "people": people,
        "groups": groups,
    }


def _findings(library: Library, patron: Row) -> Iterable[Document]:
    """What there is to say of one person's blocks."""
    in_force = library.in_force(patron["id"])
    blocking = [row for row in in_force if library.blocks(row["standing_penalty"])]
    for_fines = [row for row in blocking if library.for_fines(row["standing_penalty"], patron["home_ou"])]
    finding = {"group": patron["usrgroup"], "member": member(library, patron), "group_fines": None}
    if library.over(patron):
        if not for_fines:
            yield {"kind": "over-limit-not-blocked", **finding, "blocks": []}
        return
    if stale := [_block(library, row) for row in for_fines if row.get("staff") is None]:
        yield {"kind": "blocked-not-over-limit", **finding, "blocks": stale}
    if by_hand := [_block(library, row) for row in blocking if row.get("staff") is not None]:
        together = library.combined(library.groups()[patron["usrgroup"]])
        of_others = library.limit(patron).over(together) and together > library.owes(patron["id"])
        kind = "blocked-for-family" if of_others else "blocked-by-hand"
        yield {"kind": kind, **finding, "group_fines": money(together), "blocks": by_hand}


def _block(library: Library, row: Row) -> Document:
    return {
        "id": row["id"],
        "penalty": library.penalties[row["standing_penalty"]]["name"],
        "org_unit": library.shortname(row["org_unit"]),
        "by_hand": row.get("staff") is not None,
    }


def _accidental(library: Library, number: int, members: Sequence[Row]) -> Iterable[Document]:
    """What makes a group of two and more look accidental."""
    visible = by_fines(library, filter(library.visible, members))
    if len(members) < 2 or not visible:
        return
    reasons = []
    leads = [patron for patron in visible if patron["master_account"] == "t"]
    if len(leads) > 1:
        reasons.append(f"It has {len(leads)} leads.")
    for lead in sorted(leads, key=lambda patron: int(patron["id"])):
        if lead.get("expire_date") and moment(lead["expire_date"]) < datetime.now(UTC) - LONG_EXPIRED:
            reasons.append(f"The account of its lead {name(lead)} expired on {moment(lead['expire_date']):%Y-%m-%d}.")
    if len(visible) == len(members):
        if not leads:
            deleted = [row for row in library.people.values() if row["deleted"] == "t" and library.visible(row)]
            gone = any(row["usrgroup"] == number and row["master_account"] == "t" for row in deleted)
            reasons.append("Its lead is deleted." if gone else "It has no lead.")
        reasons.extend(
            f"{name(stranger)} shares neither surname nor address nor home library with another adult."
            for stranger in _strangers(library, members)
        )
    if len(members) >= UNUSUAL_SIZE:
        reasons.append(f"It is unusually large: {len(members)} members.")
    if reasons:
        shown = ("id", "barcode", "name", "library", "own_fines", "group_lead")
        yield {
            "kind": "accidental-group",
            "group": number,
            "member_count": len(members),
            "hidden_member_count": len(members) - len(visible),
            "combined_fines": money(library.combined(members)),
            "reasons": sorted(reasons),
            "members": [{key: member(library, patron)[key] for key in shown} for patron in visible],
        }


def _strangers(library: Library, members: Sequence[Row]) -> list[Row]:
    """The adults who have nothing in common with another adult of the group."""
    adults = [patron for patron in members if _adult(patron)]
    return [
        one for one in adults if len(adults) > 1 and not any(_related(library, one, other) for other in adults if other is not one)
    ]


def _adult(patron: Row) -> bool:
    """Whether somebody is grown up; birthdays in data sets are far from eighteen years ago."""
    born = patron.get("dob")
    return patron["juvenile"] == "f" and (born is None or int(born[:4]) < datetime.now(UTC).year - 18)


def _related(library: Library, one: Row, other: Row) -> bool:
    def addresses(patron: Row) -> set[tuple[str, ...]]:
        rows = [row for row in library.rows("aua") if row["usr"] == patron["id"]]
        return {tuple("".join(row[part].split()).casefold() for part in ("street1", "post_code")) for row in rows}

    surnames = [patron["family_name"].strip().casefold() for patron in (one, other)]
    return surnames[0] == surnames[1] or one["home_ou"] == other["home_ou"] or bool(addresses(one) & addresses(other))


# the check


def check(library: Library, patron_id: int) -> Document | None:
    """The document about everybody in a patron's group, None where the account doesn't see the patron, or it's deleted."""
    patron = library.patrons.get(patron_id)
    if patron is None or not library.visible(patron):
        return None
    members = library.groups()[patron["usrgroup"]]
    hidden = [one for one in members if not library.visible(one)]
    patrons = [_checked(library, one) for one in sorted(filter(library.visible, members), key=lambda one: int(one["id"]))]
    return {
        "blocked": any(one["blocked"] for one in patrons),
        "complete": not hidden,
        "patrons": patrons,
        "group": patron["usrgroup"],
        "group_fines": money(library.combined(members)),
        "hidden_member_count": len(hidden),
        "hidden_fines": money(library.combined(hidden)),
    }


def _checked(library: Library, patron: Row) -> Document:
    limit, counted, over = library.limit(patron), library.counted(patron), library.over(patron)
    recorded = [_recorded(library, patron, row) for row in library.in_force(patron["id"])]
    for_fines = [one for one in recorded if one["for_fines"] and one["blocks"]]
    others = [one for one in recorded if not one["for_fines"] and one["blocks"]]
    return {
        "id": patron["id"],
        "name": name(patron),
        "barcode": library.cards.get(patron.get("card")),
        "library": library.shortname(patron["home_ou"]),
        "own_fines": money(library.owes(patron["id"])),
        "counted_fines": money(counted),
        "limit": {**limit.document(), "origin": limit.origin},
        "blocked": over,
        "over_by": money(max(counted - limit.amount, NOTHING) if over and limit.amount is not None else NOTHING),
        "recorded": recorded,
        "difference_count": len(others) + (not for_fines if over else len(for_fines)),
    }


def _recorded(library: Library, patron: Row, row: Row) -> Document:
    penalty = row["standing_penalty"]
    return {
        "penalty": library.penalties[penalty]["name"],
        "library": library.shortname(row["org_unit"]),
        "for_fines": library.for_fines(penalty, patron["home_ou"]),
        "by_hand": row.get("staff") is not None,
        "blocks": library.blocks(penalty),
    }


# what the desk and other systems see


def summary(library: Library, patron_id: int) -> Document | None:
    """The hooks' document about a patron and the group, None where the account doesn't see the patron, or it's deleted."""
    patron = library.patrons.get(patron_id)
    if patron is None or not library.visible(patron):
        return None
    members = library.groups()[patron["usrgroup"]]
    visible = [one for one in members if library.visible(one)]
    visible.sort(key=lambda one: (one["master_account"] != "t", name(one).casefold(), one["id"]))
    hidden = [one for one in members if not library.visible(one)]
    leads = [one["id"] for one in visible if one["master_account"] == "t"]
    return {
        "patron": patron_id,
        "barcode": library.cards.get(patron.get("card")),
        "show": len(members) > 1,
        "own_fines": money(library.owes(patron_id)),
        "blocked": library.over(patron),
        "limit": library.limit(patron).document()["amount"],
        "group": patron["usrgroup"],
        "group_fines": money(library.combined(members)),
        "lead": min(leads, default=None),
        "hidden_members": {"count": len(hidden), "fines": money(library.combined(hidden))},
        "members": [
            {
                "id": one["id"],
                "name": name(one),
                "barcode": library.cards.get(one.get("card")),
                "library": library.shortname(one["home_ou"]),
                "own_fines": money(library.owes(one["id"])),
                "limit": library.limit(one).document()["amount"],
                "blocked": library.over(one),
                "group_lead": one["master_account"] == "t",
            }
            for one in visible
        ],
    }


def decision(library: Library, patron_id: int) -> Document | None:
    """The hooks' document about whether somebody is blocked, None as with :func:`summary`; the account may ask of itself."""
    patron = library.patrons.get(patron_id)
    if patron is None or not (library.visible(patron) or library.is_asking(patron)):
        return None
    limit = library.limit(patron).document()
    return {
        "patron": patron_id,
        "blocked": library.over(patron),
        "own_fines": money(library.counted(patron)),
        "limit": limit["amount"],
        "comparison": limit["comparison"],
    }


# when an error is right


def may_refuse(library: Library, what: str) -> bool:
    """Whether an error is right as well: something that the document needs is none of the account's business.

    An account that doesn't see everybody is told of members that it doesn't see only with VIEW_USER at its own home
    library. The ILS's thresholds take VIEW_GROUP_PENALTY_THRESHOLD, and what's owed where VIEW_USER_TRANSACTIONS, at
    the home library of the patron.
    """
    about = _about(library, what)
    if about and not library.may_count and not what.startswith("decision"):
        return True
    if any(not library.visible(patron) for patron in about):  # the account itself
        return True
    thresholds, transactions = library.orgs_with("VIEW_GROUP_PENALTY_THRESHOLD"), library.orgs_with("VIEW_USER_TRANSACTIONS")
    if what == "audit" and library.question["policy"]["limit"] == "ils" and not library.viewable <= thresholds:
        return True  # which limits there are is asked beforehand, of every library
    by_ils = [patron for patron in about if library.limit(patron).origin.startswith("ILS")]
    return any(
        patron["home_ou"] not in thresholds
        or (library.transactions(patron["id"]) and patron["home_ou"] not in transactions)
        for patron in by_ils
    )


def _about(library: Library, what: str) -> list[Row]:
    """The patrons that something has to be found out about."""
    visible = [patron for patron in library.patrons.values() if library.visible(patron)]
    if what == "report":
        criteria = library.question["report"]
        found = listed_groups(library, orgs=criteria["orgs"], min_total=Decimal(criteria["min_total"]), min_members=1)
        return [patron for patron in visible if patron["usrgroup"] in found]
    if what == "audit":
        return visible
    job, number = what.split()
    wanted = library.people[int(number)]
    if job == "decision":
        return [wanted]
    return [patron for patron in visible if patron["usrgroup"] == wanted["usrgroup"]]
