"""The expected document of the report, computed a second time and as simply as possible; other modules do the rest.

Each function returns the document to compare the product's JSON with, key by key; the product's may have more keys.
None instead of a document means that only an error is right. :func:`may_refuse` says when an error is right although an
account with more permissions would get a document.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from reckoning.family import blocked_for_fines, by_billing_type, fits, group_details, member_details, total
from reckoning.library import NOTHING, Library, Row

Document = dict[str, Any]


def money(amount: Decimal) -> str:
    return f"{amount + 0:.2f}"


# People and groups.


def name(patron: Row) -> str:
    """Return a name as written, family name first; preferred names take precedence over legal ones."""
    family, first, second, suffix = (
        (patron.get(f"pref_{part}") or "").strip() or (patron.get(part) or "").strip()
        for part in ("family_name", "first_given_name", "second_given_name", "suffix")
    )
    return ", ".join(filter(None, (family, f"{first} {second}".strip(), suffix)))


def in_order(text: str) -> tuple[str, str, str]:
    """Return the sort key of a name: without accents and case, then with accents, then with case, lowercase first."""
    letters = unicodedata.normalize("NFD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)), letters, text.swapcase()


def person(library: Library, patron: Row) -> Document:
    return {
        "id": patron["id"],
        "barcode": library.cards.get(patron.get("card")),
        "name": name(patron),
        "library": library.shortname(patron["home_ou"]),
        "own_fines": money(library.owes(patron["id"])),
    }


def member(library: Library, patron: Row) -> Document:
    return {
        **person(library, patron),
        "over_limit": library.over(patron),
        "group_lead": patron["master_account"] == "t",
        "limit": library.limit(patron).document(),
    }


def lead_of(members: Sequence[Row]) -> Row:
    """Return the lead, with the lowest id of several; the oldest record if there is none."""
    return min(members, key=lambda patron: (patron["master_account"] != "t", patron["id"]))


def by_fines(library: Library, members: Iterable[Row]) -> list[Row]:
    return sorted(members, key=lambda patron: (-library.owes(patron["id"]), patron["id"]))


# The report.


def listed_groups(library: Library, *, choose: bool = True, min_members: int | None = None) -> dict[int, list[Row]]:
    """Return all members of each group that meets the criteria and has a visible member.

    Without ``choose``, groups needn't meet the criteria beyond size and sum.
    """
    criteria = library.question["report"]
    homes = library.named(criteria["orgs"]) or set(library.orgs)
    return {
        number: members
        for number, members in library.groups().items()
        if any(map(library.visible, members))
        and any(patron["home_ou"] in homes for patron in members)
        and len(members) >= (min_members or criteria["min_members"])
        and library.combined(members) >= Decimal(criteria["min_total"])
        and (not choose or fits(library, members, criteria.get("choice", {})))
    }


def report(library: Library) -> Document | None:
    """Return the report's document; None if the account sees no patrons."""
    if not library.visible_orgs:
        return None
    criteria = library.question["report"]
    found, maybe = listed_groups(library), listed_groups(library, choose=False)
    unknown = [members for members in maybe.values() if fits(library, members, criteria.get("choice", {})) is None]
    worst = sorted(found, key=lambda number: (-library.combined(found[number]), number))
    listed = worst[: criteria["top"]]
    documents = [group(library, number, found[number]) for number in listed]
    orders: dict[str, Any] = {
        "total": lambda _document: 0,
        "members": lambda document: -document["member_count"],
        "name": lambda document: in_order(document["lead"]["name"]),
        "library": lambda document: document["library"].casefold(),
        "age": lambda document: (document["owing_since"] is None, document["owing_since"]),
    }
    documents.sort(key=orders[criteria["sort"]])
    return {
        "groups": documents,
        "totals": {
            "group_count": len(documents),
            "member_count": sum(one["member_count"] for one in documents),
            **_summed("owing_count", documents),
            **_summed("over_limit_count", documents),
            **_block_totals(library, [found[number] for number in listed]),
            "group_fines": money(sum((Decimal(one["group_fines"]) for one in documents), NOTHING)),
            **total(
                "groups_no_member_over_limit",
                sum(one["no_member_over_limit"] is True for one in documents),
                exact=all(one["no_member_over_limit"] is not None for one in documents),
            ),
            "incomplete_group_count": sum(not one["complete"] for one in documents),
        },
        "left_out_count": len(worst) - len(listed),
        "_notes": _notes(library, [found[number] for number in listed], bool(unknown)),
    }


def _summed(name: str, documents: Sequence[Document]) -> Document:
    exact = all(one[name] is not None for one in documents)
    return total(name, sum(one[f"{name}_at_least"] for one in documents), exact=exact)


def _block_totals(library: Library, groups: Iterable[Sequence[Row]]) -> Document:
    """Return how many members are blocked for fines, and for how many that differs from the rule."""
    members = [patron for group in groups for patron in group]
    visible = list(filter(library.visible, members))
    standings = [(library.over(patron), blocked_for_fines(library, patron)) for patron in visible]
    exact = len(visible) == len(members)
    return {
        **total("blocked_in_evergreen_count", sum(blocked for _over, blocked in standings), exact=exact),
        **total("not_yet_blocked_count", sum(over and not blocked for over, blocked in standings), exact=exact),
        **total("now_within_limit_count", sum(blocked and not over for over, blocked in standings), exact=exact),
    }


def _notes(library: Library, listed: Iterable[Sequence[Row]], unknown: bool) -> Document:
    """Return which notes are present, by words that only one of them has."""
    members = [patron for group in listed for patron in group if library.visible(patron)]
    details = [member_details(library, patron) for patron in members]
    return {
        " VIEW_USER at ": not library.sees_everything,
        "Owed for: not known": any(one["kinds"] is None for one in details),
        "are listed by billing type": any(by_billing_type(library, patron) for patron in members),
        "Items overdue: not known": any(one["items_overdue"] is None for one in details),
        "Not listed": unknown,
    }


def group(library: Library, number: int, members: Sequence[Row]) -> Document:
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
        **total("owing_count", sum(library.owes(patron["id"]) > 0 for patron in visible), exact=not hidden),
        "group_fines": money(combined),
        **total("highest_own_fines", money(max(library.owes(patron["id"]) for patron in visible)), exact=not hidden),
        **total("over_limit_count", len(over), exact=not hidden),
        "no_member_over_limit": False
        if over
        else None
        if hidden
        else any(limit is not None and combined > limit for limit in limits),
        "complete": not hidden,
        "hidden_member_count": len(hidden),
        "hidden_fines": money(library.combined(hidden)),
        "members": [{**member(library, patron), **member_details(library, patron)} for patron in visible],
        **group_details(library, members),
    }


# Errors.


def may_refuse(library: Library, what: str) -> bool:
    """Return whether an error is right too, because the account may not see something that the document needs.

    An account that doesn't see everyone learns about hidden members only with VIEW_USER at its own home library. The
    ILS's thresholds take VIEW_GROUP_PENALTY_THRESHOLD, and the location of debts takes VIEW_USER_TRANSACTIONS at the
    patron's home library.
    """
    about = _about(library, what)
    if about and not library.may_count and not what.startswith("decision"):
        return True
    if any(not library.visible(patron) for patron in about):  # the account itself
        return True
    thresholds = library.orgs_with("VIEW_GROUP_PENALTY_THRESHOLD")
    transactions = library.orgs_with("VIEW_USER_TRANSACTIONS")
    if what == "audit" and library.question["policy"]["limit"] == "ils" and not library.visible_orgs <= thresholds:
        return True  # the limits of every library are read in advance
    by_ils = [patron for patron in about if library.limit(patron).origin.startswith("Evergreen")]
    return any(
        patron["home_ou"] not in thresholds
        or (library.transactions(patron["id"]) and patron["home_ou"] not in transactions)
        for patron in by_ils
    )


def _about(library: Library, what: str) -> list[Row]:
    """Return the patrons whom the document needs something about."""
    visible = [patron for patron in library.patrons.values() if library.visible(patron)]
    if what == "report":
        found = listed_groups(library, min_members=1, choose=False)
        return [patron for patron in visible if patron["usrgroup"] in found]
    if what == "audit":
        return visible
    job, number = what.split()
    wanted = library.people[int(number)]
    if job == "decision":
        return [wanted]
    return [patron for patron in visible if patron["usrgroup"] == wanted["usrgroup"]]
