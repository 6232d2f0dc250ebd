"""Random consortia, as odd as possible: datasets for the sandbox, with questions about them in ``_question``.

``_question`` has the account that asks, the policy, and the criteria of report, audit and check. ``_before`` has the
data of an earlier run where they differ: whole classes of rows that replace those here.
"""

import copy
import json
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

Row = dict[str, Any]
Content = dict[str, Any]

PASSWORD = "sandbox"
STARTED, FINISHED = "2026-03-02T10:00:00+0000", "2026-04-02T10:00:00+0000"
INFINITE, LONG_TYPO = "infinity", "20220-05-05 00:00:00-05"
OLD_TYPO, END_OF_TIME = "0201-03-04T00:00:00+0000", "9999-12-31 23:59:59-05"
"""Dates that Evergreen sends differently from how it stores them."""
LONG_AGO, YEARS_AHEAD = "2015-05-05T10:00:00+0000", "2090-05-05T10:00:00+0000"

DEFAULTS = {
    "aou": {"opac_visible": "t", "staff_catalog_visible": "t", "fiscal_calendar": 1},
    "aout": {"can_have_users": "f", "can_have_vols": "f"},
    "pgt": {"perm_interval": "3 years", "usergroup": "t", "hold_priority": 0, "mfa_allowed": "f", "mfa_required": "f"},
    "csp": {"staff_alert": "t"},
    "au": {
        **{"active": "t", "barred": "f", "deleted": "f", "juvenile": "f", "master_account": "f", "super_user": "f"},
        **{"claims_returned_count": 0, "claims_never_checked_out_count": 0, "credit_forward_balance": "0.00"},
        **{"create_date": "2020-09-02T09:00:00+0000", "expire_date": YEARS_AHEAD, "ident_type": 3, "profile": 11},
        **{"net_access_level": 1, "standing": 1, "last_xact_id": "seed"},
    },
    "ac": {"active": "t"},
    "aua": {
        **{"address_type": "HOME", "city": "Town", "country": "USA", "valid": "t", "within_city_limits": "t"},
        "pending": "f",
    },
    "mbts": {"total_paid": "0.00", "last_billing_type": "Overdue Materials", "xact_start": STARTED},
    "mg": {"xact_start": STARTED},
    "circ": {
        **{"circ_staff": 3, "desk_renewal": "f", "opac_renewal": "f", "phone_renewal": "f", "auto_renewal": "f"},
        **{"duration": "14 days", "duration_rule": "default", "fine_interval": "1 day", "max_fine": "10.00"},
        **{"max_fine_rule": "default", "recurring_fine": "0.10", "recurring_fine_rule": "default", "target_copy": 1},
        **{"renewal_remaining": 2, "grace_period": "00:00:00", "copy_location": 1, "xact_start": STARTED},
        "due_date": "2026-03-16T10:00:00+0000",
    },
    "ausp": {"set_date": "2026-05-05T08:00:00+0000"},
}
PROFILES: list[Row] = [
    {"id": 1, "name": "Everyone", "parent": None},
    {"id": 3, "name": "Staff", "parent": 1},
    {"id": 2, "name": "Patrons", "parent": 1},
    {"id": 11, "name": "Adult", "parent": 2},
    {"id": 12, "name": "Child", "parent": 2},
    {"id": 13, "name": "Toddler", "parent": 12},
]
_BLOCKS = "CIRC|FULFILL|HOLD|CAPTURE|RENEW"
PENALTIES: list[Row] = [
    {"id": 1, "name": "PATRON_EXCEEDS_FINES", "block_list": _BLOCKS},
    {"id": 2, "name": "PATRON_EXCEEDS_OVERDUE_COUNT", "block_list": _BLOCKS},
    {"id": 4, "name": "PATRON_EXCEEDS_COLLECTIONS_WARNING", "block_list": None},
    {"id": 20, "name": "ALERT_NOTE", "block_list": None},
    {"id": 25, "name": "STAFF_CHR", "block_list": "CIRC|HOLD|RENEW"},
    {"id": 30, "name": "PATRON_IN_COLLECTIONS", "block_list": None},
    {"id": 101, "name": "CUSTOM_BLOCK", "block_list": "CIRC|HOLD"},
    {"id": 102, "name": "CUSTOM_HARD_BLOCK", "block_list": _BLOCKS},
    {"id": 103, "name": "CUSTOM_NOTE", "block_list": None},
]
_CUSTOM = (101, 102, 103)
_OTHER_RULES = (
    "PATRON_EXCEEDS_OVERDUE_COUNT",
    "PATRON_EXCEEDS_CHECKOUT_COUNT",
    "PATRON_EXCEEDS_LOST_COUNT",
    "PATRON_EXCEEDS_LONGOVERDUE_COUNT",
    "PATRON_EXCEEDS_COLLECTIONS_WARNING",
    "PATRON_IN_COLLECTIONS",
)
_PERMISSIONS = (
    "VIEW_USER_FINES_SUMMARY",
    "VIEW_USER_TRANSACTIONS",
    "VIEW_GROUP_PENALTY_THRESHOLD",
    "VIEW_CIRCULATIONS",
)
_BILLING_TYPES = (
    "Overdue Materials",
    "Overdue materials",
    "Lost Materials",
    "Lost Materials Processing Fee",
    "Damaged Item",
    "Misc",
    "photocopies",
    None,
)
_FAMILY_NAMES = ("Aas", "Berg", "berg ", "Çelik", "", " ", "\u00a0 ")
_STOPPED = (
    *(None, None, None, "LOST", "LOST", "LONGOVERDUE", "CLAIMSRETURNED", "CLAIMSNEVERCHECKEDOUT"),
    *("MAXFINES", "CHECKIN"),
)
_BILLED = (
    *(("Overdue materials", 1), ("Lost Materials", 3), ("Lost Materials Processing Fee", 4)),
    *(("System: Deposit", 5), ("Damaged Item", 7), ("Damaged Item Processing Fee", 8)),
    *(("Long-Overdue Materials", 10), ("Misc", 101), ("Room", 101)),
)
_AMOUNTS = ("0.00", "0.01", "1.00", "2.50", "4.99", "5.00", "5.01", "7.25", "10.00", "12.50", "24.99", "25.00", "40.00")
_CREDITS = ("-0.01", "-1.00", "-2.50", "-5.00", "-12.50")
_THRESHOLDS = ("0.00", "0.01", "2.50", "5.00", "5.01", "10.00", "25.00")


def population(chance: Random) -> Content:
    """Return a consortium of a few libraries and a dozen patrons, with the questions about it."""
    maker = _Maker(chance)
    maker.libraries()
    maker.settings()
    maker.staff()
    maker.patrons()
    maker.penalties()
    maker.question()
    maker.before()
    maker.zero_balance()
    maker.relations()
    return maker.content


class _Maker:
    """A population under construction; each step uses the results of earlier ones."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.content: Content = {
            "_defaults": DEFAULTS,
            "pgt": PROFILES,
            "csp": PENALTIES,
            **{name: [] for name in ("au", "ac", "aua", "mg", "circ", "mb", "maa", "mbts", "ausp", "pgpt", "aous")},
            "passwords": f"every au with id > 0 has the password {PASSWORD}",
        }
        self.orgs: list[int] = []
        self.levels = 1
        self.transaction = 7000

    def often(self, part: float) -> bool:
        return self.chance.random() < part

    def some(self, items: Sequence[Any], most: int) -> list[Any]:
        return self.chance.sample(list(items), self.chance.randint(0, min(most, len(items))))

    def libraries(self) -> None:
        """Add a tree of one to four levels, with ids in no order."""
        chance = self.chance
        self.levels = chance.choice((1, 2, 2, 3, 3, 3, 4, 4))
        numbers = chance.sample(range(1, 60), 10)
        units: list[Row] = [_unit(numbers.pop(), 0, None)]
        for level in range(1, self.levels):
            leap = self.often(0.1)  # for example, a library right below the consortium, without a system between them
            above = [unit for unit in units if unit["ou_type"] == level or (leap and unit["ou_type"] < level)]
            for _ in range(chance.randint(1, 3)):
                units.append(_unit(numbers.pop(), level, chance.choice(above)["id"]))
        self.orgs = [unit["id"] for unit in units]
        self.content["aou"] = units
        names = ("Consortium", "System", "Library", "Branch")
        self.content["aout"] = [
            {"id": level + 1, "name": names[level], "opac_label": names[level], "depth": level, "parent": level or None}
            for level in range(self.levels)
        ]

    def settings(self) -> None:
        """Add libraries' custom penalties, and thresholds at any org unit and profile."""
        chance, content = self.chance, self.content
        if self.often(0.5):
            for org in self.some(self.orgs, 2):
                self._override(org, "PATRON_EXCEEDS_FINES", chance.choice(_CUSTOM))
            for org in self.some(self.orgs, 2):
                self._override(org, chance.choice(_OTHER_RULES), chance.choice(_CUSTOM))
        self._leave_out_what_is_ambiguous()
        places = {
            (
                chance.choice(self.orgs),
                chance.choice((1, 1, 2, 2, 3, 11, 12, 13)),
                chance.choice((1, 1, 1, 1, 1, 2, *_CUSTOM)),
            )
            for _ in range(chance.choice((0, 2, 4, 8)))
        }
        content["pgpt"] = [
            {"id": id, "org_unit": org, "grp": profile, "penalty": penalty, "threshold": chance.choice(_THRESHOLDS)}
            for id, (org, profile, penalty) in enumerate(sorted(places), 1)
        ]

    def _override(self, org: int, rule: str, penalty: int) -> None:
        rows, name = self.content["aous"], f"circ.custom_penalty_override.{rule}"
        if not any((row["org_unit"], row["name"]) == (org, name) for row in rows):
            value = json.dumps(str(penalty) if self.often(0.5) else penalty)
            rows.append({"id": len(rows) + 1, "org_unit": org, "name": name, "value": value})

    def _leave_out_what_is_ambiguous(self) -> None:
        """Remove penalties that stand for fines and for something else at the same org unit: that's ambiguous."""
        parents = {unit["id"]: unit["parent_ou"] for unit in self.content["aou"]}

        def seen_from(org: int | None) -> dict[str, int]:
            if org is None:
                return {}
            own = {row["name"]: int(json.loads(row["value"])) for row in self.content["aous"] if row["org_unit"] == org}
            return {**seen_from(parents[org]), **own}

        fines = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
        for org in self.orgs:
            found = seen_from(org)
            if any(name != fines and penalty == found.get(fines) for name, penalty in found.items()):
                self.content["aous"] = [row for row in self.content["aous"] if row["name"] == fines]

    def staff(self) -> None:
        """Add the account that asks, with any mix of permissions, and a clerk who has applied penalties."""
        chance, content = self.chance, self.content
        root = self.orgs[0]
        works = self.some(self.orgs, 3) or [chance.choice(self.orgs)]
        perms = [["STAFF_LOGIN", works[0], 0]]
        if self.often(0.95):
            depth = chance.randint(0, self.levels - 1)
            perms += [["VIEW_USER", work, depth] for work in works]
            whole = self.often(0.6)
            for permission in _PERMISSIONS:
                if whole or self.often(0.6):
                    same = depth if whole or self.often(0.7) else chance.randint(0, self.levels - 1)
                    perms += [[permission, work, same] for work in works]
        content["group_permissions"] = {"1 Everyone": []}
        if self.often(0.15):
            granted = ["VIEW_USER", *self.some(_PERMISSIONS, 3)]
            content["group_permissions"]["3 Staff"] = [[name, chance.randint(0, self.levels - 1)] for name in granted]
        content["staff_permissions"] = {"asker": {"password": PASSWORD, "type": "staff", "perms": perms}}
        self._person(2, "asker", profile=3, home=chance.choice(self.orgs), group=chance.choice((2, 500)))
        content["au"][-1]["super_user"] = "t" if self.often(0.06) else "f"
        self._person(3, "clerk", profile=3, home=root, group=3)

    def patrons(self) -> None:
        """Add patrons in a few groups with debts; some have a system or the consortium as home library."""
        chance = self.chance
        groups = chance.sample((0, 7, 500, 501, 502, 2999, 3600, 9000, 41_000, 1_000_000), 4)
        large = self.often(0.06)
        count = 12 if large else chance.randint(2, 9)
        homes = self.orgs if self.often(0.5) else chance.sample(self.orgs, min(2, len(self.orgs)))
        for id in sorted(chance.sample(range(1000, 1040), count)):
            group = groups[0] if large else chance.choice(groups) if self.often(0.85) else id
            self._person(
                id, str(id), profile=chance.choice((2, 11, 11, 12, 13)), home=chance.choice(homes), group=group
            )
            self._details(self.content["au"][-1])
        for person in self.content["au"]:
            for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
                self._owe(person["id"])

    def _person(self, id: int, usrname: str, *, profile: int, home: int, group: int) -> None:
        person = {"id": id, "usrname": usrname, "home_ou": home, "usrgroup": group, "profile": profile}
        names = {"first_given_name": f"N{id}", "family_name": self.chance.choice(_FAMILY_NAMES)}
        self.content["au"].append({**person, **names, "card": None})
        if self.often(0.9):
            self.content["ac"].append({"id": id, "usr": id, "barcode": f"B{id}", "active": self._flag(0.9)})
            self.content["au"][-1]["card"] = id
        if self.often(0.3):
            street = self.chance.choice(("1 Elm St", "1 ELM  st", "2 Oak Rd"))
            self.content["aua"].append({"id": id, "usr": id, "street1": street, "post_code": "55555"})

    def _details(self, person: Row) -> None:
        chance = self.chance
        person.update(
            deleted=self._flag(0.1),
            active=self._flag(0.95),
            master_account=self._flag(0.4),
            juvenile=self._flag(0.2),
            barred=self._flag(0.1),
            dob=chance.choice((None, None, "1970-05-05", "2020-05-05", "0201-03-04")),
            expire_date=chance.choice((YEARS_AHEAD, YEARS_AHEAD, LONG_AGO, None, INFINITE, OLD_TYPO, END_OF_TIME)),
        )
        # The database compares stored dates, so it doesn't find a lead who has expired only by the date it sends.
        if person["master_account"] == "f" and self.often(0.1):
            person["expire_date"] = LONG_TYPO
        if self.often(0.1):
            person["pref_family_name"] = "Dahl"

    def _flag(self, part: float) -> str:
        return "t" if self.often(part) else "f"

    def _owe(self, user: int) -> None:
        """Add one transaction: open or closed, a fine or a credit, at any org unit, of either type."""
        chance = self.chance
        self.transaction += 1
        amount = chance.choice(_AMOUNTS if self.often(0.8) else _CREDITS)
        finished = FINISHED if self.often(0.15) else None
        kind, place = chance.choice((("mg", "billing_location"), ("circ", "circ_lib")))
        common = {"id": self.transaction, "usr": user, "xact_finish": finished}
        begun = chance.choice((STARTED, STARTED, "2026-07-07T07:00:00+0000", "2024-01-31T23:30:00+0000"))
        loan = self._loan() if kind == "circ" else {}
        self.content[kind].append({**common, **loan, place: chance.choice(self.orgs), "xact_start": begun})
        xact_type = "grocery" if kind == "mg" else "circulation"
        sums = {"total_owed": amount, "balance_owed": amount, "xact_type": xact_type}
        billed = self._billings(self.transaction, amount, loan.get("stop_fines")) if self.often(0.6) else {}
        last = {"last_billing_type": chance.choice(_BILLING_TYPES), "xact_start": begun}
        if self.often(0.2):
            last["last_payment_ts"] = chance.choice(("2026-04-04T04:00:00+0000", "2026-08-08T08:00:00+0000"))
        self.content["mbts"].append({**common, **sums, **last, **billed})
        if finished is None and self.often(0.15):  # offset by a credit, with both transactions still open
            self.transaction += 1
            common = {"id": self.transaction, "usr": user, "xact_finish": None}
            self.content["mg"].append({**common, "billing_location": chance.choice(self.orgs)})
            opposite = amount.removeprefix("-") if amount.startswith("-") else f"-{amount}"
            sums = {"total_owed": opposite, "balance_owed": opposite, "xact_type": "grocery"}
            self.content["mbts"].append({**common, **sums})

    def _billings(self, transaction: int, balance: str, stopped: str | None) -> Row:
        """Add a transaction's billings, some of them adjusted or voided, and return the resulting sums."""
        chance, cents = self.chance, int(Decimal(balance) * 100)
        if cents <= 0:
            return {}
        types = chance.sample(_BILLED, chance.choice((1, 2, 2, 3)))
        if stopped == "LOST" and self.often(0.5):
            types = [("Lost Materials", 3), ("Lost Materials Processing Fee", 4)]
        parts = [cents // len(types)] * len(types)
        parts[0] += cents - sum(parts) + 1
        parts[-1] -= 1
        rows = [(Decimal(part) / 100, *one) for part, one in zip(parts, types, strict=True) if part > 0]
        paid = Decimal(0)
        for amount, name, number in rows:
            self._billing(transaction, amount, name, number)
        if self.often(0.2):
            self._billing(transaction, Decimal(99), *chance.choice(_BILLED), voided="t")
        if self.often(0.2):
            paid = Decimal(30)
            number = self._billing(transaction, paid, *chance.choice(_BILLED[1:]))
            self.content["maa"].append({"id": number, "xact": transaction, "billing": number, "amount": f"{paid:.2f}"})
        owed = sum((amount for amount, _, _ in rows), Decimal(0)) + paid
        return {
            "total_owed": f"{owed:.2f}",
            "total_paid": f"{paid:.2f}",
            "balance_owed": f"{owed - paid:.2f}",
            "last_billing_type": rows[-1][1],
        }

    def _billing(self, transaction: int, amount: Decimal, name: str, number: int, *, voided: str = "f") -> int:
        id = len(self.content["mb"]) + 1
        when = {"billing_ts": STARTED, "create_date": STARTED}
        row = {"id": id, "xact": transaction, "amount": f"{amount:.2f}", "billing_type": name, "btype": number}
        self.content["mb"].append({**row, **when, "voided": voided})
        return id

    def _loan(self) -> Row:
        """Add an item that is out, overdue, lost, claimed returned, or returned."""
        chance = self.chance
        stopped = chance.choice(_STOPPED)
        returned = stopped in ("CHECKIN", "CLAIMSNEVERCHECKEDOUT") or (stopped == "LOST" and self.often(0.3))
        back = {"checkin_time": "2026-09-09T09:00:00+0000"} if returned else {}
        return {
            "stop_fines": stopped,
            "due_date": chance.choice(("2026-03-16T10:00:00+0000", LONG_AGO, YEARS_AHEAD, INFINITE)),
            "fine_interval": chance.choice(("1 day", "01:00:00")),
            **back,
        }

    def penalties(self) -> None:
        """Add penalties of all kinds for anyone, set by staff or by the ILS; some end in the past or future."""
        chance = self.chance
        for id in range(1, chance.choice((0, 2, 4, 8)) + 1):
            self.content["ausp"].append(
                {
                    "id": 9000 + id,
                    "usr": chance.choice(self.content["au"])["id"],
                    "standing_penalty": chance.choice((1, 1, 1, 2, 20, 25, 25, *_CUSTOM)),
                    "org_unit": chance.choice(self.orgs),
                    "staff": chance.choice((None, None, 3, 2)),
                    "stop_date": chance.choice((None, None, None, LONG_AGO, YEARS_AHEAD, INFINITE)),
                }
            )

    def question(self) -> None:
        """Add the questions: limits of each kind, criteria of each kind."""
        chance = self.chance
        names = {unit["id"]: unit["shortname"] for unit in self.content["aou"]}
        places = {
            (chance.choice((None, *(row["name"] for row in PROFILES))), chance.choice((None, *names.values())))
            for _ in range(chance.choice((0, 0, 1, 3)))
        }
        rules = []
        for profile, library in sorted(places, key=str):
            if profile or library:
                rule = {"limit": chance.choice(("0.00", "2.50", "5.00", "10.00", "none"))}
                comparison = {"comparison": chance.choice(("exceeds", "reaches"))} if self.often(0.5) else {}
                place = {"profile": profile} if profile else {}
                rules.append({**place, **({"library": library} if library else {}), **rule, **comparison})
        patrons = [row["id"] for row in self.content["au"]]
        self.content["_question"] = {
            "account": "asker",
            "policy": {
                "limit": chance.choice(("5.00", "5.00", "0.00", "10.00", "none", "ils", "ils", "ils")),
                "comparison": chance.choice(("exceeds", "reaches")),
                "limits": rules,
            },
            "report": {
                "min_total": chance.choice(("0.01", "5.00", "5.01", "10.00", "25.00")),
                "min_members": chance.choice((1, 2, 2, 3)),
                "orgs": self.some(list(names.values()), 2) if self.often(0.3) else [],
                "top": chance.choice((None, None, None, 1, 2)),
                "sort": chance.choice(("total", "members", "name", "library", "age")),
                "choice": self._choice(),
            },
            "audit": {"orgs": self.some(list(names.values()), 2) if self.often(0.3) else []},
            "check": [chance.choice(patrons)],
        }

    def _choice(self) -> Row:
        """Return further criteria for groups: mostly none, sometimes one kind, rarely two."""
        chance = self.chance
        asked: dict[str, Any] = {
            "owing_since": chance.choice((1, 100, 300, 1000)),
            "kinds": [chance.choice(("lost materials", "Overdue Materials", "misc", "grocery", "circulation"))],
            "with_items_out": True,
            "with_juvenile": True,
            "over_limit": chance.choice(("somebody", "nobody")),
            "blocked": True,
            "profiles": [chance.choice(("Patrons", "Adult", "Child", "Toddler"))],
        }
        count = chance.choice((0, 0, 0, 1, 1, 2))
        return {name: asked[name] for name in chance.sample(sorted(asked), count)}

    def before(self) -> None:
        """Add the run before, with other debts and groups, or with patrons whom the account didn't see."""
        chance, earlier = self.chance, copy.deepcopy({name: self.content[name] for name in ("au", "mbts")})
        groups = sorted({person["usrgroup"] for person in earlier["au"]})
        renumbered = chance.choice(groups) if self.often(0.2) else None
        for person in earlier["au"]:
            self._changed(person, groups)
            if person["usrgroup"] == renumbered:
                person["usrgroup"] = 778
        for row in earlier["mbts"]:
            if self.often(0.3):
                row["balance_owed"] = row["total_owed"] = chance.choice(_AMOUNTS)
                row["total_paid"] = "0.00"
        if self.often(0.2):
            perms = self.content["staff_permissions"]["asker"]["perms"]
            depth = chance.randint(0, self.levels - 1)
            others = [[name, work, depth if name == "VIEW_USER" else old] for name, work, old in perms]
            earlier["staff_permissions"] = {"asker": {"password": PASSWORD, "type": "staff", "perms": others}}
        self.content["_before"] = earlier

    def zero_balance(self) -> None:
        """Add a patron who owes nothing in total: a fine at the home library, and an equal credit somewhere else."""
        debtors = {row["usr"] for row in self.content["mbts"]}
        others = [person for person in self.content["au"] if person["id"] not in debtors]
        if not others or not self.often(0.5):
            return
        person, amount = self.chance.choice(others), self.chance.choice(("5.01", "12.50", "40.00"))
        self.content["_question"]["check"] = [person["id"]]
        for place, owed in ((person["home_ou"], amount), (self.chance.choice(self.orgs), f"-{amount}")):
            self.transaction += 1
            common = {"id": self.transaction, "usr": person["id"], "xact_finish": None}
            sums = {"total_owed": owed, "balance_owed": owed, "xact_type": "grocery"}
            self.content["mg"].append({**common, "billing_location": place})
            self.content["mbts"].append({**common, **sums})
            self.content["_before"]["mbts"].append({**common, **sums})

    def relations(self) -> None:
        """Add phones and addresses in common or not, records created together, and addresses of others."""
        chance, rows = self.chance, [row["id"] for row in self.content["aua"]]
        for person in self.content["au"]:
            person["day_phone"] = chance.choice((None, None, None, "555-0107", "x12", "000-0000"))
            person["other_phone"] = chance.choice((None, None, None, "(555) 0107", "5550199"))
            person["email"] = chance.choice((None, None, None, "a@example.org", " A@Example.org", "none"))
            if self.often(0.3):
                person["create_date"] = chance.choice(("2020-09-03T08:59:59+0000", "2021-01-01T00:00:00+0000"))
            for field in ("mailing_address", "billing_address"):
                person[field] = chance.choice((None, *rows)) if self.often(0.4) else None
        self.content["_question"]["audit"].update(
            max_adults=chance.choice((0, 1, 1, 2)),
            adults_from_age=chance.choice((5, 18, 18)),
            institutions=chance.choice(([], [], ["Toddler"], ["child", "Staff"])),
        )

    def _changed(self, person: Row, groups: Sequence[int]) -> None:
        """Change one patron for the run before."""
        if self.often(0.25):
            person["usrgroup"] = self.chance.choice((*groups, 777))
        if person["id"] >= 1000 and self.often(0.1):
            person["deleted"] = "t" if person["deleted"] == "f" else "f"
        if person["id"] >= 1000 and self.often(0.1):
            person["home_ou"] = self.chance.choice(self.orgs)


def _unit(id: int, level: int, parent: int | None) -> Row:
    return {"id": id, "shortname": f"L{level}-{id}", "name": f"Library {id}", "ou_type": level + 1, "parent_ou": parent}


def earlier(content: Content) -> Content:
    return {**content, **content["_before"]}
