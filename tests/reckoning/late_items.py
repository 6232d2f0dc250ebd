"""The report by overdue and lost items, computed a second time: groups, counts, and since when items are overdue."""

import copy
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from reckoning.family import fits, items, total
from reckoning.late_prices import add_prices, price_of_items
from reckoning.library import NOTHING, Content, Library, Row, moment
from reckoning.populations import INFINITE, LONG_AGO, YEARS_AHEAD
from reckoning.reckoning import Document, in_order, lead_of, money, name

_STOPPED = (None, None, None, "MAXFINES", "LOST", "LOST", "LONGOVERDUE", "CLAIMSRETURNED", "CHECKIN")
_OF_FINES = ("owing_since", "kinds")


def with_late_items(content: Content) -> Content:
    """Return the content with loans for which nothing is owed, due long ago, lately, today or later; and a question."""
    found = copy.deepcopy(content)
    chance = Random(repr(content["au"]) + repr(content["mbts"]))
    libraries = [row["id"] for row in found["aou"]]
    now = datetime.now(UTC)
    for number in range(chance.choice((2, 6, 15))):
        late = timedelta(chance.choice((0, 0, 1, 2, 3, 13, 14, 15, 40)), chance.choice((3600, 40_000)))
        dates = [(now - late).strftime("%Y-%m-%dT%H:%M:%S+0000")] * 5 + [LONG_AGO, YEARS_AHEAD, INFINITE]
        id, usr = 50_000 + number, chance.choice(found["au"])["id"]
        stopped = chance.choice(_STOPPED)
        returned = stopped == "CHECKIN" or chance.random() < 0.1
        finished = {"xact_finish": LONG_AGO} if chance.random() < 0.1 else {}
        found["circ"].append(
            {
                **{"id": id, "usr": usr, "circ_lib": chance.choice(libraries), "stop_fines": stopped, **finished},
                **{"due_date": chance.choice(dates), "fine_interval": chance.choice(("1 day", "01:00:00"))},
                **({"checkin_time": LONG_AGO} if returned else {}),
            }
        )
        sums = {"total_owed": "0.00", "balance_owed": "0.00", "xact_type": "circulation", "last_billing_type": None}
        found["mbts"].append({"id": id, "usr": usr, **sums, **finished})
    asked = found["_question"]["report"]
    overdue, lost = chance.choice(((1, 0), (2, 0), (3, 0), (0, 1), (0, 2), (1, 1), (2, 1)))
    asked |= {
        "min_total": chance.choice(("0.00", "0.00", asked["min_total"])),
        **{"min_overdue": overdue, "min_lost": lost},
        "overdue_days": chance.choice((0, 0, 1, 14, 30)) if overdue else 0,
        "details": asked["sort"] == "age" or chance.random() < 0.6,
    }
    choice = asked.get("choice", {})
    if asked["min_total"] == "0.00":
        choice = {name: value for name, value in choice.items() if name not in _OF_FINES}
    if not asked["details"]:
        choice = {name: value for name, value in choice.items() if name in ("over_limit", "blocked")}
    asked["choice"] = choice
    add_prices(found, chance)
    return found


def overdue_rows(library: Library, patron: Row) -> list[Row]:
    """Return a patron's overdue circulations, those included that the account doesn't see."""
    now = datetime.now(UTC)
    found = []
    for row in library.rows_of("circ", patron["id"]):
        due, stopped = moment(row["due_date"]), row.get("stop_fines")
        if row.get("checkin_time") is not None or stopped in ("LOST", "CLAIMSRETURNED"):
            continue
        if stopped == "LONGOVERDUE":
            late = row.get("xact_finish") is None
        elif row["fine_interval"] == "01:00:00":
            late = due < now
        else:
            late = due.date() < now.date()
        if late:
            found.append(row)
    return found


def overdue_dates(library: Library, patron: Row) -> list[datetime]:
    """Return when a patron's overdue items were due, those included that the account doesn't see."""
    return [moment(row["due_date"]) for row in overdue_rows(library, patron)]


def lost_rows(library: Library, patron: Row) -> list[Row]:
    """Return the circulations of a patron's lost items, those included that the account doesn't see."""
    rows = library.rows_of("circ", patron["id"])
    out = [row for row in rows if row.get("checkin_time") is None and row.get("xact_finish") is None]
    return [row for row in out if row.get("stop_fines") == "LOST"]


def has_items(library: Library, members: Sequence[Row]) -> bool:
    """Return whether a group has enough overdue or lost items, counting all members and items."""
    asked = library.question["report"]
    before = datetime.now(UTC) - timedelta(asked["overdue_days"])
    dates = [due for patron in members for due in overdue_dates(library, patron)]
    overdue = len([due for due in dates if due <= before] if asked["overdue_days"] else dates)
    lost = sum(len(lost_rows(library, patron)) for patron in members)
    return 0 < asked["min_overdue"] <= overdue or 0 < asked["min_lost"] <= lost


def verdict(library: Library, members: Sequence[Row]) -> bool | None:
    """Return whether a group is listed; None if the account can't know."""
    asked = library.question["report"]
    homes = library.named(asked["orgs"]) or set(library.orgs)
    at_home = any(patron["home_ou"] in homes for patron in members)
    if len(members) < asked["min_members"] or not at_home or not any(map(library.visible, members)):
        return False
    least, choice = Decimal(asked["min_total"]), asked["choice"]
    if has_items(library, members):
        return fits(library, members, {name: one for name, one in choice.items() if name not in _OF_FINES})
    return bool(least) and library.combined(members) >= least and fits(library, members, choice)


def late_report(library: Library) -> Document | None:
    """Return the report's document; None if the account sees no patrons."""
    if not library.visible_orgs:
        return None
    asked = library.question["report"]
    verdicts = {number: verdict(library, members) for number, members in library.groups().items()}
    found = [_group(library, number) for number, listed in verdicts.items() if listed]
    found.sort(key=lambda one: (-Decimal(one["group_fines"]), one["group"]))
    if asked["min_total"] == "0.00":
        first, second = ("overdue", "lost") if asked["min_overdue"] else ("lost", "overdue")
        found.sort(key=lambda one: (-one[f"items_{first}_at_least"], -one[f"items_{second}_at_least"]))
    listed = found[: asked["top"]]
    orders: dict[str, Any] = {
        "total": lambda _one: 0,
        "members": lambda one: -one["member_count"],
        "name": lambda one: in_order(one["_lead"]),
        "library": lambda one: one["library"].casefold(),
        "age": lambda one: (one["_owing_since"] is None, one["_owing_since"]),
    }
    listed.sort(key=orders[asked["sort"]])
    unknown = None in verdicts.values()
    items_unknown = any(one["items_overdue"] is None for group in listed for one in group["members"])
    exact = all(one["items_overdue"] is not None for one in listed)
    return {
        "groups": [{key: value for key, value in one.items() if not key.startswith("_")} for one in listed],
        "totals": {
            "group_count": len(listed),
            "group_fines": money(sum((Decimal(one["group_fines"]) for one in listed), NOTHING)),
            **total("items_overdue", sum(one["items_overdue_at_least"] for one in listed), exact=exact),
            **total("items_lost", sum(one["items_lost_at_least"] for one in listed), exact=exact),
            **total(
                "replacement_price",
                money(sum((Decimal(one["replacement_price_at_least"]) for one in listed), NOTHING)),
                exact=all(one["replacement_price"] is not None for one in listed),
            ),
        },
        "left_out_count": len(found) - len(listed),
        "_notes": {"Items overdue: not known": items_unknown, "Not listed": unknown},
    }


def _group(library: Library, number: int) -> Document:
    members = library.groups()[number]
    visible = [patron for patron in members if library.visible(patron)]
    visible.sort(key=lambda patron: (-library.owes(patron["id"]), patron["id"]))
    exact = len(visible) == len(members) and all(items(library, patron) is not None for patron in visible)
    at = library.orgs_with("VIEW_CIRCULATIONS")
    overdue, lost = (
        [row for patron in visible for row in rows_of(library, patron) if row["circ_lib"] in at]
        for rows_of in (overdue_rows, lost_rows)
    )
    # Evergreen sends infinity as the beginning of 1970, which says nothing.
    dates = [due for row in overdue if (due := moment(row["due_date"])).year < 9999]
    price, prices_known = price_of_items(library, [row["target_copy"] for row in (*overdue, *lost)])
    lead = lead_of(visible)
    rows = [row for patron in visible for row in library.rows_of("mbts", patron["id"])]
    seen = library.orgs_with("VIEW_USER_TRANSACTIONS")
    homes = {patron["id"]: patron["home_ou"] for patron in visible}
    starts = [
        moment(row["xact_start"])
        for row in rows
        if row.get("xact_finish") is None and Decimal(row["balance_owed"]) > 0 and homes[row["usr"]] in seen
    ]
    return {
        "group": number,
        "member_count": len(members),
        "group_fines": money(library.combined(members)),
        "library": library.shortname(lead["home_ou"]),
        **total("items_overdue", len(overdue), exact=exact),
        **total("items_lost", len(lost), exact=exact),
        "items_complete": exact,
        "overdue_since": min(dates).isoformat(timespec="seconds") if dates else None,
        **total("replacement_price", money(price), exact=exact and prices_known),
        "members": [_member(library, patron) for patron in visible],
        "_lead": name(lead),
        "_owing_since": min(starts, default=None),
    }


def _member(library: Library, patron: Row) -> Document:
    counts = items(library, patron)
    overdue, lost = counts or (None, None)
    return {"id": patron["id"], "items_overdue": overdue, "items_lost": lost}
