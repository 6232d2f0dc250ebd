"""Read a dataset by pencil and paper: trees, who sees whom, who owes what, which limit applies.

Neither this module nor the others that compute use the product, so they don't repeat its mistakes. They look everything
up row by row, with indexes only for rows by patron, permissions and groups.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
Content = dict[str, Any]

NOTHING = Decimal("0.00")
STOCK = {
    "PATRON_EXCEEDS_FINES": 1,
    "PATRON_EXCEEDS_OVERDUE_COUNT": 2,
    "PATRON_EXCEEDS_CHECKOUT_COUNT": 3,
    "PATRON_EXCEEDS_COLLECTIONS_WARNING": 4,
    "PATRON_EXCEEDS_LOST_COUNT": 5,
    "PATRON_IN_COLLECTIONS": 30,
    "PATRON_EXCEEDS_LONGOVERDUE_COUNT": 35,
}
"""The penalties that the ILS recalculates, each with the stock penalty it sets unless a library has another one."""
OVERRIDE = "circ.custom_penalty_override."


@dataclass(frozen=True)
class OwnLimit:
    """A patron's limit.

    ``amount`` is None without one; ``scope`` are the org units whose transactions count (None: all).
    """

    amount: Decimal | None
    reaches: bool
    origin: str
    scope: frozenset[int] | None = None

    def over(self, amount: Decimal) -> bool:
        if self.amount is None:
            return False
        return amount >= self.amount if self.reaches else amount > self.amount

    def document(self) -> Row:
        amount = None if self.amount is None else f"{self.amount:.2f}"
        return {"amount": amount, "comparison": "reaches" if self.reaches else "exceeds"}


class Library:
    """A dataset's consortium, and what the account in ``_question`` sees of it."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._rows: dict[str, list[Row]] = {}
        self._by_field: dict[tuple[str, str], dict[Any, list[Row]]] = {}
        self._groups: dict[int, list[Row]] = {}
        self._held: dict[str, set[int]] = {}
        self.question: Row = content["_question"]
        self.orgs = {row["id"]: row for row in self.rows("aou")}
        self.depths = {row["id"]: row["depth"] for row in self.rows("aout")}
        self.profiles = {row["id"]: row for row in self.rows("pgt")}
        self.people = {row["id"]: row for row in self.rows("au")}
        self.patrons = {id: row for id, row in self.people.items() if row["deleted"] == "f"}
        self.cards = {row["id"]: row["barcode"] for row in self.rows("ac")}
        self.penalties = {row["id"]: row for row in self.rows("csp")}
        self.account = next(row for row in self.people.values() if row["usrname"] == self.question["account"])
        self.visible_orgs = self.orgs_with("VIEW_USER")

    def rows(self, class_id: str) -> list[Row]:
        """Return the rows of a class, with the dataset's defaults."""
        if class_id not in self._rows:
            defaults = self.content.get("_defaults", {}).get(class_id, {})
            self._rows[class_id] = [{**defaults, **row} for row in self.content.get(class_id, [])]
        return self._rows[class_id]

    def rows_of(self, class_id: str, patron: int) -> list[Row]:
        return self.rows_with(class_id, "usr", patron)

    def rows_with(self, class_id: str, field: str, value: object) -> list[Row]:
        if (class_id, field) not in self._by_field:
            found = defaultdict(list)
            for row in self.rows(class_id):
                found[row.get(field)].append(row)
            self._by_field[class_id, field] = dict(found)
        return self._by_field[class_id, field].get(value, [])

    # Trees.

    def upwards(self, org: int | None) -> list[int]:
        """Return an org unit and its ancestors, nearest first."""
        return [] if org is None else [org, *self.upwards(self.orgs[org]["parent_ou"])]

    def downwards(self, org: int) -> list[int]:
        return [other for other in self.orgs if org in self.upwards(other)]

    def profiles_upwards(self, profile: int | None) -> list[int]:
        """Return a profile and its ancestors, nearest first."""
        return [] if profile is None else [profile, *self.profiles_upwards(self.profiles[profile]["parent"])]

    def named(self, shortnames: Iterable[str]) -> set[int]:
        """Return the org units with these short names, and all their descendants."""
        found = {org for org, row in self.orgs.items() if row["shortname"] in shortnames}
        return {below for org in found for below in self.downwards(org)}

    def shortname(self, org: int) -> str:
        return str(self.orgs[org]["shortname"])

    # Visibility.

    def orgs_with(self, permission: str) -> set[int]:
        """Return where the account has a permission: below the ancestors, at the grant's depth, of its home and work
        org units.

        A work org unit above that depth gives nothing.
        """
        if permission not in self._held:
            self._held[permission] = self._orgs_with(permission)
        return self._held[permission]

    def _orgs_with(self, permission: str) -> set[int]:
        if self.account["super_user"] == "t":
            return set(self.orgs)
        grants = self.content["staff_permissions"][self.account["usrname"]]["perms"]
        above = self.profiles_upwards(self.account["profile"])
        by_profile = [
            depth
            for profile, granted in self.content.get("group_permissions", {}).items()
            if int(profile.split()[0]) in above
            for name, depth in granted
            if name == permission
        ]
        depths = [*by_profile, *(depth for name, _work, depth in grants if name == permission)]
        if not depths:
            return set()
        places = {self.account["home_ou"], *(work for _name, work, _depth in grants)}
        tops = [org for place in places for org in self.upwards(place) if self.depth(org) == min(depths)]
        return {below for top in tops for below in self.downwards(top)}

    def depth(self, org: int) -> int:
        """Return an org unit's depth, by its type."""
        return int(self.depths[self.orgs[org]["ou_type"]])

    @property
    def sees_everything(self) -> bool:
        """Return whether the account sees patrons at every org unit; any of them can be a home library."""
        return self.visible_orgs == set(self.orgs)

    @property
    def may_count(self) -> bool:
        """Return whether the ILS tells the account about hidden members, which takes VIEW_USER at its home library."""
        return self.sees_everything or self.account["home_ou"] in self.visible_orgs

    def visible(self, patron: Row) -> bool:
        return patron["home_ou"] in self.visible_orgs

    def is_asking(self, patron: Row) -> bool:
        """Return whether a patron is the account itself, which sees its own record without permissions."""
        return bool(patron["id"] == self.account["id"])

    # Debts.

    def transactions(self, patron: int, scope: frozenset[int] | None = None) -> list[Decimal]:
        """Return a patron's balance on each open transaction, anywhere or at some org units."""
        places = {row["id"]: row["billing_location"] for row in self.rows_of("mg", patron)}
        places.update((row["id"], row["circ_lib"]) for row in self.rows_of("circ", patron))
        return [
            Decimal(row["balance_owed"])
            for row in self.rows_of("mbts", patron)
            if row.get("xact_finish") is None and (scope is None or places[row["id"]] in scope)
        ]

    def owes(self, patron: int) -> Decimal:
        """Return a patron's total balance on open transactions, including credits."""
        return sum(self.transactions(patron), NOTHING)

    def groups(self) -> dict[int, list[Row]]:
        """Return everyone who isn't deleted, by group."""
        if not self._groups:
            for patron in self.patrons.values():
                self._groups.setdefault(patron["usrgroup"], []).append(patron)
        return self._groups

    def combined(self, members: Iterable[Row]) -> Decimal:
        return sum((self.owes(member["id"]) for member in members), NOTHING)

    # Limits.

    def limit(self, patron: Row) -> OwnLimit:
        """Return the limit that applies to a patron."""
        policy = self.question["policy"]
        for org in (*self.upwards(patron["home_ou"]), None):
            for profile in (*self.profiles_upwards(patron["profile"]), None):
                for rule in policy["limits"]:
                    names = profile and self.profiles[profile]["name"], org and self.shortname(org)
                    if (rule.get("profile"), rule.get("library")) == names:
                        reaches = rule.get("comparison", policy["comparison"]) == "reaches"
                        origin = ", ".join(filter(None, names))
                        return OwnLimit(
                            _amount(rule["limit"]), reaches, f"configuration: {origin}" if origin else "configuration"
                        )
        if policy["limit"] == "ils":
            return self.threshold(patron)
        return OwnLimit(_amount(policy["limit"]), policy["comparison"] == "reaches", "configuration")

    def threshold(self, patron: Row) -> OwnLimit:
        """Return the ILS's threshold.

        Nearest org unit first, then nearest profile; debts on the org unit's full path count.
        """
        row = self.threshold_row(patron)
        if row is None:
            return OwnLimit(None, False, "Evergreen: no threshold")
        org = row["org_unit"]
        origin = f"Evergreen: threshold of {self.profiles[row['grp']]['name']} at {self.shortname(org)}"
        scope = frozenset({*self.upwards(org), *self.downwards(org)})
        return OwnLimit(Decimal(row["threshold"]), True, origin, scope)

    def threshold_row(self, patron: Row) -> Row | None:
        penalty = self.penalty_for("PATRON_EXCEEDS_FINES", patron["home_ou"])
        for org in self.upwards(patron["home_ou"]):
            for profile in self.profiles_upwards(patron["profile"]):
                for row in self.rows("pgpt"):
                    if (row["org_unit"], row["grp"], row["penalty"]) == (org, profile, penalty):
                        return row
        return None

    def limit_is_hidden(self, patron: Row) -> bool:
        """Return whether a patron's limit is one of the ILS's that the account may not see."""
        return self.limit(patron).origin.startswith("Evergreen") and self.threshold_is_hidden(patron)

    def threshold_is_hidden(self, patron: Row) -> bool:
        """Return whether the account may not see the ILS's threshold for a patron."""
        return patron["home_ou"] not in self.orgs_with("VIEW_GROUP_PENALTY_THRESHOLD")

    def reaches_threshold(self, patron: Row) -> bool | None:
        """Return whether a patron reaches the ILS's threshold; None if the account can't tell."""
        if self.threshold_is_hidden(patron):
            return None
        threshold = self.threshold(patron)
        if threshold.amount is None:
            return False
        everywhere = threshold.scope is None or set(self.orgs) <= threshold.scope
        bills_hidden = patron["home_ou"] not in self.orgs_with("VIEW_USER_TRANSACTIONS")
        if not everywhere and bills_hidden and self.transactions(patron["id"]):
            return None
        counted = self.transactions(patron["id"], threshold.scope)
        return bool(counted) and sum(counted, NOTHING) >= threshold.amount

    def blocks_of(self, patron: Row) -> tuple[list[Row], list[Row]]:
        """Return the penalties that block a patron: those for fines, and others."""
        blocking = [row for row in self.in_force(patron["id"]) if self.blocks(row["standing_penalty"])]
        for_fines = [row for row in blocking if self.for_fines(row["standing_penalty"], patron["home_ou"])]
        return for_fines, [row for row in blocking if row not in for_fines]

    def counted(self, patron: Row) -> Decimal:
        """Return the part of a patron's own fines that the limit counts."""
        limit = self.limit(patron)
        return sum(self.transactions(patron["id"], limit.scope), NOTHING)

    def over(self, patron: Row) -> bool:
        """Return whether a patron's own fines are over the limit.

        Without open transactions that count, a patron is over no limit, not even a limit of 0.00 to be reached: SQL's
        sum over no rows is null (``actor.calculate_system_penalties``).
        """
        limit = self.limit(patron)
        return bool(self.transactions(patron["id"], limit.scope)) and limit.over(self.counted(patron))

    # Penalties.

    def penalty_for(self, name: str, org: int) -> int:
        """Return the penalty that the ILS sets for a kind, with the settings of an org unit."""
        for place in self.upwards(org):
            for row in self.rows("aous"):
                if row["name"] == OVERRIDE + name and row["org_unit"] == place:
                    return int(json.loads(row["value"]))
        return STOCK[name]

    def for_fines(self, penalty: int, org: int) -> bool:
        """Return whether a penalty means own fines at an org unit: the stock penalty, or its replacement."""
        return penalty in (STOCK["PATRON_EXCEEDS_FINES"], self.penalty_for("PATRON_EXCEEDS_FINES", org))

    def blocks(self, penalty: int) -> list[str]:
        """Return what a penalty blocks; nothing for a mere note."""
        listed = self.penalties[penalty].get("block_list")
        return str(listed).split("|") if listed else []

    def in_force(self, patron: int) -> list[Row]:
        """Return a patron's penalties that aren't archived, by id."""
        now = datetime.now(UTC)
        rows = self.rows_of("ausp", patron)
        return sorted(
            (row for row in rows if row.get("stop_date") is None or moment(row["stop_date"]) > now),
            key=lambda row: int(row["id"]),
        )


def moment(text: str) -> datetime:
    """Parse a timestamp of the dataset; infinity is the last date of the calendar."""
    if text == "infinity":
        return datetime(9999, 12, 31, tzinfo=UTC)
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")


def expiry(patron: Row) -> datetime | None:
    """Return when an account expires by what Evergreen sends; None if that says nothing."""
    stored = patron.get("expire_date")
    if stored is None or stored == "infinity" or stored.startswith(("0", "9999")):
        return None
    return datetime(2021, 11, 30, 5, tzinfo=UTC) if stored.startswith("20220") else moment(stored)


def birth_year(patron: Row) -> int | None:
    """Return a patron's year of birth; None if it is unknown or impossible."""
    born = patron.get("dob")
    return None if born is None or born.startswith("0") else int(born[:4])


def _amount(text: str) -> Decimal | None:
    return None if text == "none" else Decimal(text)
