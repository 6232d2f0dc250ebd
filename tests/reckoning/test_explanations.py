"""What ``audit --explain`` says about patrons, compared with the second computation and with what the ILS then does.

The sandbox recalculates like a recorded Evergreen (``penalties-update-…``, ``fines-elsewhere-…``).
"""

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from reckoning.library import Library
from reckoning.populations import Content, population
from reckoning.product import Product
from reckoning.test_found import (
    BR1,
    BR2,
    CONS,
    CUSTOM_BLOCK,
    CUSTOM_NOTE,
    FINES,
    SYSTEM,
    add,
    agrees,
    block,
    consortium,
    setting,
    threshold,
)

from evergreen_groups.audit import BlockExplanation, PenaltyFate
from evergreen_groups.errors import DataError, NotFoundError, PermissionDeniedError
from evergreen_groups.sandbox.services.actor import recalculate
from evergreen_groups.sandbox.services.actor.penalties import active_penalties

pytestmark = pytest.mark.long


def explained(asked: Product, content: Content, patron: int) -> BlockExplanation | None:
    try:
        return asked.client(content).explanations.of_user(patron)
    except (DataError, NotFoundError, PermissionDeniedError):
        return None


def rows(asked: Product, patron: int) -> dict[int, tuple[int, int]]:
    """Return the ids of a patron's penalties in force, with org unit and kind."""
    return {
        row["id"]: (row["org_unit"], row["standing_penalty"]) for row in active_penalties(asked.sandbox._store, patron)
    }


def recalculated_as_said(asked: Product, content: Content, patron: int) -> bool:
    """Recalculate, and compare the result with the prediction; return whether there was a prediction."""
    explanation = explained(asked, content, patron)
    if explanation is None or explanation.reaches_threshold is None:
        return False
    store, home = asked.sandbox._store, explanation.member.patron.home_library.id
    before = rows(asked, patron)
    with store.transaction():
        recalculate(store, patron, home, ["PATRON_EXCEEDS_FINES"])
    after = rows(asked, patron)
    assert set(explanation.fates) <= set(before)
    gone = {id for id, fate in explanation.fates.items() if fate is PenaltyFate.REMOVED}
    assert before.keys() - after.keys() == gone
    new = [after[id] for id in after.keys() - before.keys()]
    place = explanation.threshold
    assert new == ([(place.org_unit.id, explanation.penalty.id)] if explanation.to_be_set and place else [])
    kinds = Library(content).for_fines
    for_fines = [kind for _org_unit, kind in after.values() if kinds(kind, home)]
    assert explanation.would_block == any(Library(content).blocks(kind) for kind in for_fines)
    return True


def test_random_consortia(asked: Product) -> None:
    said = 0
    for seed in (*range(1, 31), *range(1000, 1400)):
        content = population(Random(seed))
        agrees(asked, content, "explanation")
        said += sum(recalculated_as_said(asked, content, patron) for patron in content["_question"]["check"])
    assert said > 10


def one_patron(content: Content, *owed: tuple[int, str], **more: object) -> Content:
    add(content, 1001, BR1, *owed, **more)
    content["_question"]["check"] = [1001]
    return content


@dataclass(frozen=True)
class Case:
    """A patron of BR1 who owes ``owed``, with a threshold of 10.00 at the consortium, and what is to be said."""

    owed: tuple[int, str]
    place: str | None
    counted: str | None
    reached: bool
    fates: tuple[str, ...] = ()
    more: tuple[tuple[int, str], ...] = ()
    thresholds: tuple[tuple[Any, ...], ...] = ()
    blocks: tuple[tuple[Any, ...], ...] = ()
    penalty: tuple[int, int] | None = None


CASES = {
    "nearest org unit": Case((BR2, "6.00"), "SYS", "6.00", True, thresholds=((SYSTEM, "5.00"),)),
    "billed elsewhere": Case((BR2, "30.00"), "BR1", "4.99", False, more=((BR1, "4.99"),), thresholds=((BR1, "5.00"),)),
    "at the threshold": Case((BR1, "10.00"), "CONS", "10.00", True),
    "stale at another org unit": Case((BR1, "1.00"), "CONS", "1.00", False, ("untouched",), blocks=((1, SYSTEM),)),
    "set by staff and removed": Case((BR1, "1.00"), "CONS", "1.00", False, ("removed",), blocks=((1, CONS, 3),)),
    "custom penalty without threshold": Case(
        (BR1, "50.00"), None, None, False, ("untouched",), blocks=((1, CONS),), penalty=(BR1, CUSTOM_BLOCK)
    ),
    "custom note with threshold": Case(
        *((BR1, "50.00"), "CONS", "50.00", True, ("removed",)),
        thresholds=((CONS, "2.00", CUSTOM_NOTE),),
        blocks=((1, CONS),),
        penalty=(SYSTEM, CUSTOM_NOTE),
    ),
    "two of one kind": Case((BR1, "50.00"), "CONS", "50.00", True, ("stays", "removed"), blocks=((1, CONS),) * 2),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_counted_fines_and_the_fate_of_penalties(case: Case, asked: Product) -> None:
    content = one_patron(consortium(), case.owed, *case.more)
    threshold(content, CONS, "10.00")
    for place in case.thresholds:
        threshold(content, *place)
    for penalty in case.blocks:
        block(content, 1001, *penalty)
    if case.penalty:
        setting(content, case.penalty[0], FINES, case.penalty[1])
    agrees(asked, content, "explanation")
    found = explained(asked, content, 1001)
    assert found is not None
    place = found.threshold.org_unit.shortname if found.threshold else None
    counted = None if found.counted is None else str(found.counted)
    fates = tuple(fate.value for _id, fate in sorted(found.fates.items()))
    assert (place, counted, found.reaches_threshold, fates) == (case.place, case.counted, case.reached, case.fates)
    assert recalculated_as_said(asked, content, 1001)


@pytest.mark.parametrize(
    ("lacking", "complete"),
    [("VIEW_GROUP_PENALTY_THRESHOLD", False), ("VIEW_USER_TRANSACTIONS", False), ("VIEW_USER_FINES_SUMMARY", True)],
)
def test_hidden_data_is_unknown(lacking: str, complete: bool, asked: Product) -> None:
    permissions = tuple(
        one
        for one in ("VIEW_USER", "VIEW_USER_FINES_SUMMARY", "VIEW_USER_TRANSACTIONS", "VIEW_GROUP_PENALTY_THRESHOLD")
        if one != lacking
    )
    content = consortium(permissions=permissions)
    threshold(content, CONS, "10.00")
    one_patron(content, (BR1, "12.00"), (BR2, "-12.00"))
    agrees(asked, content, "explanation")
    found = explained(asked, content, 1001)
    assert found is not None
    assert found.complete is complete
    assert found.would_block is (False if complete else None)
