"""The doctor on the ILS's thresholds against the rule: one sentence for each difference, with an amount to set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.circulators import make_stock_circulator
from support.installation import Installation

from evergreen_groups.doctor import Finding, Verdict
from evergreen_groups.doctor.thresholds import MOST
from evergreen_groups.language import gettext
from evergreen_groups.sandbox import Sandbox

ROOT, NORTH, HARBOR, CHILD = 1, 2, 11, 12
OVERRIDE = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
Look = Callable[..., list[Finding]]


@pytest.fixture
def look(sandbox: Sandbox, tmp_path: Path) -> Look:
    installation = Installation(tmp_path, sandbox.url)

    def look(more: str = "", account: str = "consortium_staff") -> list[Finding]:
        installation.more, installation.username = more, account
        installation.write()
        return list(installation.examined(["thresholds"]).findings)

    return look


def threshold(sandbox: Sandbox, amount: str) -> None:
    """Set the one threshold for fines that there is."""
    sandbox._store.update("pgpt", 1, {"threshold": amount})


def test_where_the_two_agree(look: Look) -> None:
    (found,) = look()
    assert found.verdict is Verdict.OK
    assert found.found == "Evergreen's thresholds match the rule at all org units (8)"


@pytest.mark.parametrize(
    ("amount", "more", "code", "sentence", "advice"),
    [
        (
            "5.00",
            "",
            "blocks-at-limit",
            "Evergreen blocks at $5.00; limit: more than $5.00. A patron who owes $5.00 is blocked in "
            "Evergreen, but not over the limit (all profiles (7); all org units (8))",
            "set the threshold of Users at LAKELAND to $5.01 in Evergreen (Group Penalty Thresholds), or "
            'set [policy] comparison = "reaches"',
        ),
        (
            "10.00",
            "",
            "blocks-later",
            "Evergreen blocks at $10.00; limit: more than $5.00. A patron who owes $5.01 is over the limit, "
            "but not blocked in Evergreen (all profiles (7); all org units (8))",
            "to $5.01",
        ),
        (
            "2.50",
            '[policy]\ncomparison = "reaches"\n',
            "blocks-earlier",
            "Evergreen blocks at $2.50; limit: $5.00 or more. A patron who owes $2.50 is blocked in Evergreen, "
            "but not over the limit (all profiles (7); all org units (8))",
            "to $5.00",
        ),
        (
            "1250.00",
            '[policy]\nlimit = "none"\n',
            "no-limit",
            "Evergreen blocks at $1,250.00; limit: no limit. A patron who owes $1,250.00 is blocked in "
            "Evergreen, but not over the limit (all profiles (7); all org units (8))",
            "remove the threshold of Users at LAKELAND",
        ),
    ],
)
def test_one_sentence_with_an_amount_and_the_threshold_to_set(
    sandbox: Sandbox, look: Look, amount: str, more: str, code: str, sentence: str, advice: str
) -> None:
    threshold(sandbox, amount)
    (found,) = look(more)
    assert (found.verdict, found.code, gettext(found.found)) == (Verdict.WARNING, code, sentence)
    assert advice in gettext(found.advice)
    assert found.values["profile_count"] == 7
    assert found.values["library_count"] == 8


def test_no_threshold_and_a_penalty_of_a_librarys_own(sandbox: Sandbox, look: Look) -> None:
    sandbox._store.insert("aous", {"name": OVERRIDE, "org_unit": HARBOR, "value": "20"})
    (found,) = look()
    assert found.code == "no-threshold"
    assert "Evergreen has no threshold for ALERT_NOTE" in gettext(found.found)
    assert "A patron who owes $5.01 is over the limit, but never blocked in Evergreen" in gettext(found.found)
    assert "(all profiles (7); 1 of 8 org units: HARBOR)" in gettext(found.found)
    assert gettext(found.advice).startswith("add a threshold of $5.01 for ALERT_NOTE")
    sandbox._store.insert("pgpt", {"org_unit": ROOT, "grp": 1, "penalty": 20, "threshold": "5.01"})
    (found,) = look()
    assert found.code == "penalty-blocks-nothing"
    assert "Evergreen's penalty for fines, ALERT_NOTE, blocks nothing" in gettext(found.found)
    assert OVERRIDE in gettext(found.advice)


def test_bills_that_a_threshold_of_some_libraries_does_not_count(sandbox: Sandbox, look: Look) -> None:
    sandbox._store.insert("pgpt", {"org_unit": NORTH, "grp": 1, "penalty": 1, "threshold": "5.01"})
    (found,) = look()
    assert found.code == "counts-fewer-bills"
    assert "A patron from NORTH who owes $5.01 at" in gettext(found.found)
    assert "at LAKELAND" in gettext(found.advice)


def test_many_differences_are_not_a_list_of_hundreds(sandbox: Sandbox, look: Look) -> None:
    for place, unit in enumerate(sandbox._store.rows("aou", {})):
        for kind in (CHILD, 2):
            amount = f"{7 + place}.{kind:02}"
            sandbox._store.insert("pgpt", {"org_unit": unit["id"], "grp": kind, "penalty": 1, "threshold": amount})
    found = look()
    assert len(found) == MOST + 1
    assert found[-1].code == "more-differences"
    assert found[-1].values["count"] > 1
    counts = [finding.values["profile_count"] * finding.values["library_count"] for finding in found[:MOST]]  # type: ignore[operator]
    assert counts == sorted(counts, reverse=True)


def test_the_ils_own_thresholds_as_the_rule(sandbox: Sandbox, look: Look) -> None:
    threshold(sandbox, "10.00")
    (found,) = look('[policy]\nlimit = "ils"\n')
    assert found.verdict is Verdict.OK


def test_an_account_that_sees_no_thresholds_or_some(sandbox: Sandbox, look: Look) -> None:
    threshold(sandbox, "10.00")
    (found,) = look(account="north_manager")
    assert (found.code, found.values["library_count"]) == ("blocks-later", 3)
    assert "; all org units (3)" in gettext(found.found)
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE permission = 'VIEW_GROUP_PENALTY_THRESHOLD'")
    (found,) = look(account="north_manager")
    assert (found.verdict, found.code) == (Verdict.WARNING, "thresholds-not-visible")
    assert (
        gettext(found.advice)
        == "grant VIEW_GROUP_PENALTY_THRESHOLD at depth 0, with the top org unit as a working location"
    )
    make_stock_circulator(sandbox)
    found, *_others = look(account="harbor_desk")
    assert found.code == "thresholds-not-visible"
    assert "can't see Evergreen's thresholds for patrons of PINE" in gettext(found.found)
