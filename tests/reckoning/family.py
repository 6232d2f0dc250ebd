"""Reasons of members' debts, their dates and checkouts, computed a second time; also selects groups by them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from reckoning.library import NOTHING, Library, Row, expiry, moment

Verdict = bool | None

SAID = {
    "Overdue Materials": "overdue materials",
    "Lost Materials": "lost materials",
    "Lost Materials Processing Fee": "processing of lost materials",
    "Long-Overdue Materials": "long overdue materials",
    "Damaged Item": "damage",
    "Damaged Item Processing Fee": "processing of damaged items",
    "System: Deposit": "deposit",
    "CLAIMSRETURNED": "items claimed returned",
    "CLAIMSNEVERCHECKEDOUT": "items claimed never checked out",
}
"""The billing types in populations, with the product's words for them."""


def bills(library: Library, patron: Row) -> list[Row] | None:
    """Return a patron's open transactions with a balance; None if the account may not see them."""
    if patron["home_ou"] not in library.orgs_with("VIEW_USER_TRANSACTIONS"):
        return None
    return [
        row
        for row in library.rows_of("mbts", patron["id"])
        if row.get("xact_finish") is None and Decimal(row["balance_owed"]) != 0
    ]


Kind = tuple[str, str]
"""A transaction's type, and a billing type or claim."""


def called(kind: Kind) -> str:
    transaction, what = kind
    if not what:
        return {"circulation": "items", "grocery": "other bills"}[transaction]
    return what if transaction == "grocery" else SAID.get(what, f"{what} (item)")


def _leading(library: Library, row: Row) -> str:
    """Return the billing type of the highest amount that is neither voided nor adjusted, else of the last billing."""
    adjusted = {one["billing"] for one in library.rows("maa")}
    sums: dict[str, Decimal] = {}
    for billing in library.rows_with("mb", "xact", row["id"]):
        if billing["voided"] == "f" and billing["btype"] != 1 and billing["id"] not in adjusted:
            sums[billing["billing_type"]] = sums.get(billing["billing_type"], NOTHING) + Decimal(billing["amount"])
    if not sums:
        return row.get("last_billing_type") or ""
    largest = max(sums.values())
    overdue = Decimal(row["balance_owed"]) - sum(sums.values())
    if row["xact_type"] == "circulation" and overdue > largest:
        return "Overdue Materials"
    return next(name for name, amount in sums.items() if amount == largest)


def kind_of(library: Library, row: Row) -> Kind:
    """Return what happened to the item if the account may see that, or else the leading billing type."""
    leading = _leading(library, row)
    if row["xact_type"] == "grocery":
        return "grocery", leading
    # The first is the name in fines that the ILS generates, the second the billing type's own name.
    leading = "Overdue Materials" if leading == "Overdue materials" else leading
    (loan,) = library.rows_with("circ", "id", row["id"])
    if loan["circ_lib"] in library.orgs_with("VIEW_CIRCULATIONS"):
        stopped = loan.get("stop_fines") or ""
        if leading.startswith("Damaged Item"):
            leading = "Damaged Item"
        elif stopped in ("LOST", "LONGOVERDUE"):
            leading = {"LOST": "Lost Materials", "LONGOVERDUE": "Long-Overdue Materials"}[stopped]
        elif stopped.startswith("CLAIMS"):
            leading = stopped
        elif leading.startswith(("Lost ", "Long-")):
            leading = "Overdue Materials"
    return "circulation", leading


def by_billing_type(library: Library, patron: Row) -> bool:
    """Return whether a patron owes for an item whose circulation the account may not see."""
    seen = library.orgs_with("VIEW_CIRCULATIONS")
    places = {row["id"]: row["circ_lib"] for row in library.rows_of("circ", patron["id"])}
    return any(places.get(row["id"], 0) not in (0, *seen) for row in bills(library, patron) or ())


def kinds(library: Library, rows: Iterable[Row]) -> list[Row]:
    """Return the totals of transactions by kind, highest first."""
    same: dict[Kind, list[Row]] = {}
    for row in rows:
        same.setdefault(kind_of(library, row), []).append(row)
    found = []
    for kind, theirs in same.items():
        balance = sum((Decimal(row["balance_owed"]) for row in theirs), NOTHING)
        claim = kind[1].startswith("CLAIMS")
        found.append(
            {
                "kind": called(kind),
                "transaction": kind[0],
                "billing_type": None if claim else kind[1] or None,
                "balance": f"{balance + 0:.2f}",
                "bill_count": len(theirs),
                "_order": (-balance, kind[0], *(("", kind[1]) if claim else (kind[1], ""))),
            }
        )
    found.sort(key=lambda one: one["_order"])
    return [{name: value for name, value in one.items() if name != "_order"} for one in found]


def since(rows: Iterable[Row]) -> str | None:
    """Return the start of the oldest transaction with a balance."""
    return min((_written(row["xact_start"]) for row in rows if Decimal(row["balance_owed"]) > 0), default=None)


def paid(rows: Iterable[Row]) -> str | None:
    """Return the time of the last payment on one of them."""
    return max((_written(row["last_payment_ts"]) for row in rows if row.get("last_payment_ts")), default=None)


def _written(timestamp: str) -> str:
    return moment(timestamp).isoformat(timespec="seconds")


def items(library: Library, patron: Row) -> tuple[int, int] | None:
    """Return a patron's number of overdue and lost items; None if the account may not see one that might count."""
    seen = library.orgs_with("VIEW_CIRCULATIONS")
    now = datetime.now(UTC)
    out = [row for row in library.rows_of("circ", patron["id"]) if row.get("checkin_time") is None]
    late = [row for row in out if moment(row["due_date"]) < now or row.get("stop_fines") in ("LOST", "LONGOVERDUE")]
    if not seen or any(row["circ_lib"] not in seen for row in late):
        return None
    overdue = lost = 0
    for row in late:
        stopped, finished = row.get("stop_fines"), row.get("xact_finish") is not None
        if stopped == "CLAIMSRETURNED" or (stopped in ("LOST", "LONGOVERDUE") and finished):
            continue
        by_day = row["fine_interval"] == "1 day"
        if stopped == "LOST":
            lost += 1
        elif stopped == "LONGOVERDUE" or not by_day or moment(row["due_date"]).date() < now.date():
            overdue += 1
    return overdue, lost


def total(name: str, number: object, *, exact: bool) -> Row:
    """Return a total as in documents: null unless it is exact, and its lower bound."""
    return {name: number if exact else None, f"{name}_at_least": number}


def out_overdue_lost(library: Library, patron: Row) -> tuple[int, int, int] | None:
    """Return all items out, overdue and lost of a patron; None if the ILS doesn't tell the account."""
    if patron["home_ou"] not in library.orgs_with("VIEW_CIRCULATIONS") and not library.is_asking(patron):
        return None
    now = datetime.now(UTC)
    out = overdue = lost = 0
    for row in library.rows_of("circ", patron["id"]):
        stopped, finished = row.get("stop_fines"), row.get("xact_finish") is not None
        if row.get("checkin_time") is not None or (stopped in ("LOST", "LONGOVERDUE") and finished):
            continue
        if stopped == "LOST":
            lost += 1
            continue
        due = moment(row["due_date"])
        late = due.date() < now.date() if row["fine_interval"] == "1 day" else due < now
        out += 1
        overdue += stopped == "LONGOVERDUE" or (stopped != "CLAIMSRETURNED" and late)
    return out, overdue, lost


def member_details(library: Library, patron: Row) -> Row:
    """Return what the report says about a member besides fines."""
    theirs, out = bills(library, patron), items(library, patron)
    expires = expiry(patron)
    return {
        "kinds": None if theirs is None else kinds(library, theirs),
        "owing_since": since(theirs or ()),
        "last_payment": paid(theirs or ()),
        "items_overdue": None if out is None else out[0],
        "items_lost": None if out is None else out[1],
        "juvenile": patron["juvenile"] == "t",
        "expired": expires is not None and expires < datetime.now(UTC),
        "barred": patron["barred"] == "t",
        "profile": library.profiles[patron["profile"]]["name"],
    }


def group_details(library: Library, members: Sequence[Row]) -> Row:
    """Return what the report says about a group besides combined fines."""
    visible = [patron for patron in members if library.visible(patron)]
    theirs = [bills(library, patron) for patron in visible]
    out = [items(library, patron) for patron in visible]
    known = [row for rows in theirs for row in rows or ()]
    all_visible = len(visible) == len(members)
    overdue, lost = (sum(one[place] for one in out if one is not None) for place in (0, 1))
    items_known = all_visible and None not in out
    return {
        "kinds": kinds(library, known),
        "kinds_not_known": (
            f"{library.combined(members) - sum((Decimal(row['balance_owed']) for row in known), NOTHING) + 0:.2f}"
        ),
        "kinds_complete": all_visible and None not in theirs,
        "owing_since": since(known),
        "last_payment": paid(known),
        **total("items_overdue", overdue, exact=items_known),
        **total("items_lost", lost, exact=items_known),
        "items_complete": items_known,
        "returnable": True if overdue else False if items_known else None,
    }


def blocked_for_fines(library: Library, patron: Row) -> bool:
    penalties = [row["standing_penalty"] for row in library.in_force(patron["id"])]
    return any(library.blocks(one) and library.for_fines(one, patron["home_ou"]) for one in penalties)


def fits(library: Library, members: Sequence[Row], choice: Row) -> Verdict:
    """Return whether a group meets the criteria; None if that is unknown."""
    visible = [patron for patron in members if library.visible(patron)]
    everybody = len(visible) == len(members)
    details = group_details(library, members)
    verdicts: list[Verdict] = []

    def somebody(found: bool, known: bool = everybody) -> None:
        verdicts.append(True if found else False if known else None)

    if choice.get("over_limit") == "somebody":
        somebody(any(map(library.over, visible)))
    if choice.get("over_limit") == "nobody":
        over = any(map(library.over, visible))
        verdicts.append(False if over else True if everybody else None)
    if choice.get("blocked"):
        somebody(any(blocked_for_fines(library, patron) for patron in visible))
    if days := choice.get("owing_since"):
        early = details["owing_since"]
        long_ago = early is not None and datetime.fromisoformat(early) <= datetime.now(UTC) - timedelta(days)
        somebody(long_ago, details["kinds_complete"])
    if wanted := choice.get("kinds"):
        owed = [row for patron in visible for row in bills(library, patron) or () if Decimal(row["balance_owed"]) > 0]
        found = {kind_of(library, row) for row in owed}
        names = {name.lower() for kind in found for name in (called(kind), *kind)}
        somebody(any(name.lower() in names for name in wanted), details["kinds_complete"])
    if choice.get("with_items_out"):
        verdicts.append(details["returnable"])
    if choice.get("with_juvenile"):
        somebody(any(patron["juvenile"] == "t" for patron in visible))
    if wanted := choice.get("profiles"):
        tops = {id for id, row in library.profiles.items() if row["name"] in wanted}
        somebody(any(tops & set(library.profiles_upwards(patron["profile"])) for patron in visible))
    return False if False in verdicts else None if None in verdicts else True
