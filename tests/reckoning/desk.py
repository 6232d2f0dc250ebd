"""The expected documents of the check and the hooks for a dataset."""

from collections.abc import Sequence

from reckoning.family import blocked_for_fines, out_overdue_lost, total
from reckoning.library import NOTHING, Library, Row
from reckoning.reckoning import Document, in_order, money, name, person


def _family(library: Library, id: int) -> tuple[Row | None, list[Row], list[Row], list[Row]]:
    """Return a patron (None if deleted or hidden) with the group's members: all, visible, hidden."""
    patron = library.patrons.get(id)
    if patron is None or not library.visible(patron):
        return None, [], [], []
    members = library.groups()[patron["usrgroup"]]
    visible = list(filter(library.visible, members))
    return patron, members, visible, [one for one in members if one not in visible]


def check(library: Library, patron_id: int) -> Document | None:
    """Return the document about a patron's group; None if the patron is deleted or hidden."""
    patron, members, visible, hidden = _family(library, patron_id)
    if patron is None:
        return None
    patrons = [_checked(library, one) for one in sorted(visible, key=lambda one: int(one["id"]))]
    complete = not hidden and not any(one["limit"] is None for one in patrons)
    return {
        "over_limit": True if any(one["over_limit"] for one in patrons) else False if complete else None,
        "complete": complete,
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
    found = {
        **person(library, patron),
        "counted_fines": money(counted),
        "limit": {**limit.document(), "origin": limit.origin},
        "over_limit": over,
        "over_by": money(max(counted - limit.amount, NOTHING) if over and limit.amount is not None else NOTHING),
        "recorded": recorded,
        **_outlook(library, patron),
        "difference_count": len(others) + (not for_fines if over else len(for_fines)) + _is_explained(library, patron),
    }
    if library.limit_is_hidden(patron):  # without a decision, because their blocks are unknown
        return {
            **found,
            **dict.fromkeys(("counted_fines", "limit", "over_limit", "over_by")),
            "difference_count": len(others) + len(for_fines),
        }
    return found


def _recorded(library: Library, patron: Row, row: Row) -> Document:
    penalty = row["standing_penalty"]
    return {
        "penalty": library.penalties[penalty]["name"],
        "library": library.shortname(row["org_unit"]),
        "for_fines": library.for_fines(penalty, patron["home_ou"]),
        "by_staff": row.get("staff") is not None,
        "blocks": library.blocks(penalty),
    }


def summary(library: Library, patron_id: int) -> Document | None:
    """Return the hooks' document about a patron and the group; None if the patron is deleted or hidden."""
    patron, members, visible, hidden = _family(library, patron_id)
    if patron is None:
        return None
    visible.sort(key=lambda one: (one["master_account"] != "t", in_order(name(one)), one["id"]))
    leads = [one["id"] for one in visible if one["master_account"] == "t"]
    return {
        "patron": patron_id,
        "barcode": library.cards.get(patron.get("card")),
        "show": len(members) > 1,
        "own_fines": money(library.owes(patron_id)),
        **_blocked(library, patron),
        "group": patron["usrgroup"],
        "group_fines": money(library.combined(members)),
        "lead": min(leads, default=None),
        "hidden_members": {"count": len(hidden), "fines": money(library.combined(hidden))},
        **standing_totals(library, members),
        "members": [
            {**person(library, one), **_blocked(library, one), "group_lead": one["master_account"] == "t"}
            for one in visible
        ],
    }


def standing_totals(library: Library, members: Sequence[Row]) -> Document:
    """Return how many of a group's members are over the limit or blocked."""
    visible = list(filter(library.visible, members))
    exact = len(visible) == len(members)
    limits_known = not any(map(library.limit_is_hidden, visible))
    over = [one for one in visible if not library.limit_is_hidden(one) and library.over(one)]
    blocked = [
        one for one in visible if any(library.blocks(row["standing_penalty"]) for row in library.in_force(one["id"]))
    ]
    for_fines = [one for one in visible if blocked_for_fines(library, one)]
    return {
        **total("over_limit_count", len(over), exact=exact and limits_known),
        **total("blocked_in_evergreen_count", len(for_fines), exact=exact),
        **total("blocked_count", len(blocked), exact=exact),
    }


def details(library: Library, patron_id: int) -> Document | None:
    """Return the totals of a patron's group with its checkouts; None if the patron is deleted or hidden."""
    patron, members, visible, hidden = _family(library, patron_id)
    if patron is None:
        return None
    counts = [out_overdue_lost(library, one) for one in visible]
    sums = [sum(one[place] for one in counts if one is not None) for place in range(3)]
    exact = not hidden and None not in counts
    return {
        "group": patron["usrgroup"],
        "group_fines": money(library.combined(members)),
        "member_count": len(members),
        **standing_totals(library, members),
        **total("items", dict(zip(("out", "overdue", "lost"), sums, strict=True)), exact=exact),
    }


def _blocked(library: Library, patron: Row) -> Document:
    """Return whether a patron is over the limit, and the limit; null if the account may not know."""
    if library.limit_is_hidden(patron):
        return {"over_limit": None, "limit": None, **_outlook(library, patron)}
    limit = library.limit(patron).document()["amount"]
    return {"over_limit": library.over(patron), "limit": limit, **_outlook(library, patron)}


def _outlook(library: Library, patron: Row) -> Document:
    """Return what a recalculation could change where the rule and the ILS disagree, and the ILS's threshold."""
    for_fines, _others = library.blocks_of(patron)
    if library.limit_is_hidden(patron) or library.over(patron) == bool(for_fines):
        return {"recalculation": None, "evergreen_threshold": None}
    hidden = library.threshold_is_hidden(patron)
    threshold = None if hidden else library.threshold(patron).amount
    return {
        "recalculation": _recalculation(library, patron, for_fines),
        "evergreen_threshold": None if threshold is None else money(threshold),
    }


def _recalculation(library: Library, patron: Row, for_fines: list[Row]) -> str:
    over, reached = library.over(patron), library.reaches_threshold(patron)
    if any(row.get("staff") is not None for row in for_fines):
        return "set-by-staff"
    if over and not library.blocks(library.penalty_for("PATRON_EXCEEDS_FINES", patron["home_ou"])):
        return "blocks-nothing"
    if not library.threshold_is_hidden(patron) and library.threshold(patron).amount is None:
        return "no-threshold"
    if not over and library.threshold_is_hidden(patron):
        return "threshold-hidden"
    if reached is None:
        return "not-known"
    if over == reached:
        return "may-help"
    return "below-threshold" if over else "reaches-threshold"


def _is_explained(library: Library, patron: Row) -> bool:
    return _outlook(library, patron)["recalculation"] not in (None, "may-help")


def _blocks(library: Library, patron: Row) -> Document:
    """Return whether the ILS blocks a patron for fines; null if the account can't see its own penalties."""
    if not library.visible(patron):
        return {"blocked_in_evergreen": None, "other_blocks": None}
    for_fines, others = library.blocks_of(patron)
    names = [{"name": library.penalties[row["standing_penalty"]]["name"]} for row in others]
    return {"blocked_in_evergreen": bool(for_fines), "other_blocks": names}


def decision(library: Library, patron_id: int) -> Document | None:
    """Return the hooks' document about whether a patron is blocked, like :func:`summary`.

    The account may ask about itself.
    """
    patron = library.patrons.get(patron_id)
    if patron is None or not (library.visible(patron) or library.is_asking(patron)):
        return None
    limit = library.limit(patron).document()
    return {
        "patron": patron_id,
        "over_limit": library.over(patron),
        **_blocks(library, patron),
        "own_fines": money(library.counted(patron)),
        "limit": limit["amount"],
        "comparison": limit["comparison"],
    }
