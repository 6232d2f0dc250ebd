"""What the second computation found, each case as small as possible: a consortium of two branches and a few people."""

from typing import Any

import pytest
from reckoning.populations import DEFAULTS, PASSWORD, PENALTIES, PROFILES, STARTED
from reckoning.product import Product

Row = dict[str, Any]
Content = dict[str, Any]

CONS, SYSTEM, BR1, BR2 = 1, 2, 4, 5
UNITS: list[Row] = [
    {"id": CONS, "shortname": "CONS", "name": "Consortium", "ou_type": 1, "parent_ou": None},
    {"id": SYSTEM, "shortname": "SYS", "name": "System", "ou_type": 2, "parent_ou": CONS},
    {"id": BR1, "shortname": "BR1", "name": "Branch 1", "ou_type": 3, "parent_ou": SYSTEM},
    {"id": BR2, "shortname": "BR2", "name": "Branch 2", "ou_type": 3, "parent_ou": SYSTEM},
]
ALL = ("VIEW_USER", "VIEW_USER_FINES_SUMMARY", "VIEW_USER_TRANSACTIONS", "VIEW_GROUP_PENALTY_THRESHOLD")
FINES, OVERDUE = (f"circ.custom_penalty_override.PATRON_EXCEEDS_{what}" for what in ("FINES", "OVERDUE_COUNT"))
CUSTOM_BLOCK, CUSTOM_NOTE = 101, 103
CLERK = 3


def consortium(
    *,
    permissions: tuple[str, ...] = ALL,
    works: tuple[int, ...] = (CONS,),
    depth: int = 0,
    limit: str = "5.00",
    comparison: str = "exceeds",
) -> Content:
    """Return a consortium with a clerk, and an account with work org units and permissions from ``depth`` down."""
    perms: list[list[Any]] = [["STAFF_LOGIN", works[0], 0]]
    perms += [[permission, work, depth] for permission in permissions for work in works]
    return {
        "_defaults": DEFAULTS,
        "aou": UNITS,
        "aout": [
            {"id": level + 1, "name": name, "opac_label": name, "depth": level, "parent": level or None}
            for level, name in enumerate(("Consortium", "System", "Branch"))
        ],
        "pgt": PROFILES,
        "csp": PENALTIES,
        "au": [_person(2, BR1, 2, usrname="asker", profile=3), _person(CLERK, BR1, CLERK, usrname="clerk", profile=3)],
        **{name: [] for name in ("ac", "aua", "mg", "circ", "mbts", "ausp", "pgpt", "aous")},
        "group_permissions": {"1 Everyone": []},
        "staff_permissions": {"asker": {"password": PASSWORD, "type": "staff", "perms": perms}},
        "_question": {
            "account": "asker",
            "policy": {"limit": limit, "comparison": comparison, "limits": []},
            "report": {"min_total": "25.00", "min_members": 1, "orgs": [], "top": None, "sort": "total"},
            "audit": {"orgs": [], "max_adults": 0, "adults_from_age": 18, "institutions": []},
            "check": [1001],
        },
        "_before": {},
    }


def _person(id: int, home: int, group: int, **more: Any) -> Row:
    names = {"first_given_name": f"N{id}", "family_name": "Berg"}
    return {"id": id, "usrname": str(id), "home_ou": home, "usrgroup": group, **names, **more}


def add(content: Content, id: int, home: int, *owed: tuple[int, str], group: int = 500, **more: Any) -> None:
    """Add a patron with debts (where, how much)."""
    content["au"].append(_person(id, home, group, **more))
    for place, amount in owed:
        number = 7000 + len(content["mg"])
        content["mg"].append({"id": number, "usr": id, "billing_location": place})
        sums = {"total_owed": amount, "balance_owed": amount, "xact_type": "grocery"}
        content["mbts"].append({"id": number, "usr": id, "xact_start": STARTED, **sums})


def block(content: Content, id: int, penalty: int, org_unit: int, staff: int | None = None) -> None:
    number = 9000 + len(content["ausp"])
    penalties = {"id": number, "usr": id, "standing_penalty": penalty, "org_unit": org_unit, "staff": staff}
    content["ausp"].append(penalties)


def setting(content: Content, org_unit: int, name: str, penalty: int) -> None:
    rows = content["aous"]
    rows.append({"id": len(rows) + 1, "org_unit": org_unit, "name": name, "value": str(penalty)})


def threshold(content: Content, org_unit: int, amount: str, penalty: int = 1) -> None:
    rows = content["pgpt"]
    rows.append({"id": len(rows) + 1, "org_unit": org_unit, "grp": 1, "penalty": penalty, "threshold": amount})


def agrees(asked: Product, content: Content, *jobs: str) -> None:
    """Compare the product's answers with the computed ones."""
    found = [f"{job}: {text}" for job in jobs for text in asked.differences(content, job)]
    assert not found, "\n".join(found)


# Home libraries above the branches.


def _above_the_libraries(**more: Any) -> Content:
    """One patron's home library is a branch, another's is the consortium; the account only sees the system."""
    content = consortium(works=(SYSTEM,), depth=1, **more)
    add(content, 1001, BR1, (BR1, "30.00"))
    add(content, 1002, CONS, (BR1, "15.00"))
    return content


def test_members_with_a_home_library_above_the_branches_are_hidden_and_counted(asked: Product) -> None:
    agrees(asked, _above_the_libraries(), "report", "audit", "check", "summary")


def test_thresholds_are_only_read_where_patrons_are_visible(asked: Product) -> None:
    content = _above_the_libraries(limit="ils")
    threshold(content, SYSTEM, "10.00")
    agrees(asked, content, "audit")


def test_the_accounts_own_debts_are_hidden_or_counted(asked: Product) -> None:
    other_system = 6
    content = consortium(limit="ils", works=(other_system, BR2), depth=2, permissions=ALL[:2])
    content["aou"] = [*UNITS, {**UNITS[1], "id": other_system, "shortname": "SYS2"}]
    content["staff_permissions"]["asker"]["perms"].append(["VIEW_GROUP_PENALTY_THRESHOLD", BR2, 0])
    content["au"].pop(0)
    add(content, 2, other_system, (CONS, "10.00"), group=2, usrname="asker", profile=3)
    threshold(content, other_system, "0.01")
    content["_question"]["check"] = [2]
    agrees(asked, content, "summary")


def test_a_group_that_continues_above_the_branches_has_improved_not_cleared(asked: Product) -> None:
    content = _above_the_libraries()
    content["au"][-1]["home_ou"] = BR1
    before = [{**row} for row in content["au"]]
    content["au"][-1]["home_ou"] = CONS
    content["mbts"][0]["balance_owed"] = "12.00"
    content["_before"] = {"au": before, "mbts": [{**content["mbts"][0], "balance_owed": "30.00"}, content["mbts"][1]]}
    agrees(asked, content, "comparison")


# Work org units above the permission's depth.


def test_a_work_org_unit_above_the_depth_of_view_user_shows_no_patrons(asked: Product) -> None:
    """The account works at BR1 and at the consortium, and has VIEW_USER from branches down: it sees BR1 but not BR2."""
    content = consortium(works=(BR1, CONS), depth=2)
    add(content, 1001, BR1, (BR1, "30.00"))
    add(content, 1002, BR2, (BR2, "15.00"))
    agrees(asked, content, "summary", "report", "audit", "check")


# No transactions, and open transactions that add up to zero.


def test_without_open_transactions_no_limit_is_reached(asked: Product) -> None:
    content = consortium(limit="0.00", comparison="reaches")
    add(content, 1001, BR1)
    add(content, 1002, BR1, (BR1, "30.00"))
    agrees(asked, content, "report", "check", "summary")


@pytest.mark.parametrize("staff", [None, CLERK])
def test_the_audit_lists_blocks_of_patrons_without_open_transactions(staff: int | None, asked: Product) -> None:
    content = consortium(limit="0.00", comparison="reaches")
    add(content, 1001, BR1)
    block(content, 1001, 1, CONS, staff)
    agrees(asked, content, "audit")


@pytest.mark.parametrize("owed", [[(BR1, "0.00")], [(BR1, "3.00"), (BR2, "-3.00")]], ids=["zero", "net zero"])
@pytest.mark.parametrize("limit", ["0.00", "ils"])
def test_open_transactions_that_add_up_to_zero_reach_it(
    limit: str, owed: list[tuple[int, str]], asked: Product
) -> None:
    content = consortium(limit=limit, comparison="reaches")
    threshold(content, CONS, "0.00")
    add(content, 1001, BR1, *owed)
    add(content, 1002, BR1, (BR1, "30.00"))
    agrees(asked, content, "audit", "report", "check", "summary")


def _net_zero_hidden() -> Content:
    """Add a patron who reaches BR1's threshold there and has a credit at BR2; the account may not see transactions."""
    content = consortium(permissions=("VIEW_USER", "VIEW_GROUP_PENALTY_THRESHOLD"), limit="ils")
    threshold(content, BR1, "10.00")
    add(content, 1001, BR1, (BR1, "12.00"), (BR2, "-12.00"))
    add(content, 1002, SYSTEM, (BR1, "30.00"))
    return content


def test_hidden_transactions_do_not_count_as_none(asked: Product) -> None:
    """And the audit doesn't call a block stale because of hidden data."""
    content = _net_zero_hidden()
    agrees(asked, content, "report", "check", "summary")
    content = _net_zero_hidden()
    block(content, 1001, 1, BR1)
    agrees(asked, content, "audit")


# Custom penalties of libraries.


def test_a_custom_penalty_means_fines_only_at_its_library(asked: Product) -> None:
    """BR1 blocks for fines with a penalty that BR2 sets for overdue items: on a patron of BR2 it doesn't mean fines."""
    content = consortium()
    setting(content, BR1, FINES, CUSTOM_BLOCK)
    setting(content, BR2, OVERDUE, CUSTOM_BLOCK)
    add(content, 1001, BR2, (BR2, "30.00"))
    block(content, 1001, CUSTOM_BLOCK, BR2)
    add(content, 1002, BR2, group=501)
    block(content, 1002, CUSTOM_BLOCK, BR2)
    agrees(asked, content, "audit")


def test_a_note_in_place_of_the_fines_penalty_is_no_block(asked: Product) -> None:
    content = consortium()
    setting(content, CONS, FINES, CUSTOM_NOTE)
    add(content, 1001, BR1, (BR1, "30.00"))
    block(content, 1001, CUSTOM_NOTE, CONS)
    add(content, 1002, BR1, group=501)
    block(content, 1002, CUSTOM_NOTE, CONS)
    agrees(asked, content, "audit")


def test_the_check_agrees(asked: Product) -> None:
    content = consortium()
    setting(content, BR1, FINES, CUSTOM_BLOCK)
    setting(content, BR2, FINES, CUSTOM_NOTE)
    add(content, 1001, BR1, (BR1, "30.00"))
    add(content, 1002, BR2, (BR2, "30.00"))
    for patron, home in ((1001, BR1), (1002, BR2)):
        for penalty in (1, 2, CUSTOM_BLOCK, CUSTOM_NOTE):
            block(content, patron, penalty, home)
    agrees(asked, content, "check")


# Deleted patrons.


def test_there_is_no_document_for_a_deleted_patron(asked: Product) -> None:
    content = consortium()
    add(content, 1001, BR1, (BR1, "30.00"), deleted="t")
    agrees(asked, content, "check", "summary")
