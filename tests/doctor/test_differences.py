"""Where Evergreen's thresholds differ from the rule."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from evergreen_groups.doctor.thresholds import DifferenceKind, RuleDifference
from evergreen_groups.errors import DataError
from evergreen_groups.ils import Limits, OrgUnit, OrgUnits, PenaltyKind, PenaltyKinds, Profiles, Threshold, Thresholds
from evergreen_groups.policy import Comparison, Limit, LimitRule
from evergreen_groups.settings import PolicySettings

CONS, SYS1, SYS2, BR1, BR2, BR3 = 1, 2, 3, 4, 5, 6
PARENTS = {CONS: None, SYS1: CONS, SYS2: CONS, BR1: SYS1, BR2: SYS1, BR3: SYS2}
ORG_UNITS = OrgUnits(OrgUnit(id, f"ORG{id}", "", parent) for id, parent in PARENTS.items())
PROFILES = Profiles([(1, "Everyone", None), (2, "Adult", 1), (3, "Child", 1)])
KINDS = (PenaltyKind(1, "STOCK", ("CIRC",)), PenaltyKind(101, "OWN", ("CIRC",)), PenaltyKind(102, "NOTE", ()))
EXCEEDS, REACHES = Limit(), Limit(comparison=Comparison.REACHES)
PAIRS = 18
Row = tuple[int, int, int, str]


def differences(
    *rows: Row, limit: Limit | PolicySettings = EXCEEDS, penalties: Mapping[int, int] | None = None
) -> list[RuleDifference]:
    at_each = {unit.id: (penalties or {}).get(unit.id, 1) for unit in ORG_UNITS}
    thresholds = Thresholds(
        [Threshold(org, profile, penalty, Decimal(amount)) for org, profile, penalty, amount in rows],
        at_each,
        ORG_UNITS,
        PROFILES,
    )
    limits = Limits.of(limit) if isinstance(limit, Limit) else Limits(limit, ORG_UNITS, PROFILES, thresholds)
    kinds = PenaltyKinds(KINDS, at_each)
    return RuleDifference.find(limits, thresholds, kinds, ORG_UNITS, libraries=PARENTS, profiles=PROFILES)


@pytest.mark.parametrize(
    ("threshold", "limit"),
    [("5.01", EXCEEDS), ("5.00", REACHES), ("0.01", Limit(Decimal("0.00"))), ("5.01", PolicySettings(limit="ils"))],
)
def test_the_two_agree_where_the_threshold_is_the_least_amount_over_the_limit(
    threshold: str, limit: Limit | PolicySettings
) -> None:
    assert differences((CONS, 1, 1, threshold), limit=limit) == []


@pytest.mark.parametrize(
    ("threshold", "limit", "kind", "example", "to_set"),
    [
        ("5.00", EXCEEDS, DifferenceKind.BLOCKS_AT_LIMIT, "5.00", "5.01"),
        ("4.99", EXCEEDS, DifferenceKind.BLOCKS_EARLIER, "4.99", "5.01"),
        ("5.02", EXCEEDS, DifferenceKind.BLOCKS_LATER, "5.01", "5.01"),
        ("10.00", EXCEEDS, DifferenceKind.BLOCKS_LATER, "5.01", "5.01"),
        ("5.01", REACHES, DifferenceKind.BLOCKS_LATER, "5.00", "5.00"),
        ("4.99", REACHES, DifferenceKind.BLOCKS_EARLIER, "4.99", "5.00"),
        ("0.00", Limit(Decimal("0.00")), DifferenceKind.BLOCKS_AT_LIMIT, "0.00", "0.01"),
        ("10.00", Limit(None), DifferenceKind.NO_LIMIT, "10.00", None),
        (None, EXCEEDS, DifferenceKind.NO_THRESHOLD, "5.01", "5.01"),
    ],
)
def test_one_way_for_everybody(
    threshold: str | None, limit: Limit, kind: DifferenceKind, example: str, to_set: str | None
) -> None:
    rows = [] if threshold is None else [(CONS, 1, 1, threshold)]
    (found,) = differences(*rows, limit=limit)
    assert (found.kind, str(found.example)) == (kind, example)
    assert found.limit.least_over == (None if to_set is None else Decimal(to_set))
    assert found.pair_count == PAIRS
    assert (len(found.libraries), len(found.profiles)) == (6, 3)
    assert found.rows == {(CONS, 1)} if threshold else not found.rows


def test_nothing_is_said_where_neither_blocks() -> None:
    assert differences(limit=Limit(None)) == []


def test_each_distinct_difference_once_the_most_general_first() -> None:
    found = differences((CONS, 1, 1, "10.00"), (SYS2, 1, 1, "5.00"), (BR1, 3, 1, "3.00"), (BR2, 3, 1, "3.00"))
    assert [(one.kind.value, str(one.threshold), one.pair_count) for one in found] == [
        ("blocks-later", "10.00", 10),
        ("blocks-at-limit", "5.00", 6),
        ("counts-fewer-bills", "5.00", 6),
        ("blocks-earlier", "3.00", 2),
        ("counts-fewer-bills", "3.00", 2),
    ]
    earlier = next(one for one in found if one.kind is DifferenceKind.BLOCKS_EARLIER)
    assert earlier.rows == {(BR1, 3), (BR2, 3)}
    assert (earlier.libraries, earlier.profiles) == ({BR1, BR2}, {3})


def test_what_is_counted_at_some_libraries_alone() -> None:
    found = differences((SYS1, 1, 1, "5.01"), (SYS2, 1, 1, "5.01"), (CONS, 1, 1, "5.01"))
    assert [(one.kind, one.libraries) for one in found] == [(DifferenceKind.COUNTS_FEWER, {SYS1, BR1, BR2, SYS2, BR3})]


def test_a_librarys_own_penalty_has_its_own_thresholds() -> None:
    found = differences((CONS, 1, 1, "5.01"), penalties={BR3: 101})
    assert [(one.kind, one.penalty.name, one.libraries) for one in found] == [
        (DifferenceKind.NO_THRESHOLD, "OWN", {BR3})
    ]
    assert differences((CONS, 1, 1, "5.01"), (CONS, 1, 101, "5.01"), penalties={BR3: 101}) == []


def test_a_penalty_that_is_a_note_does_not_block() -> None:
    rows: tuple[Row, ...] = ((CONS, 1, 1, "5.01"), (CONS, 1, 102, "5.01"))
    (found,) = differences(*rows, penalties={SYS1: 102})
    assert (found.kind, found.libraries) == (DifferenceKind.BLOCKS_NOTHING, {SYS1})
    # With Evergreen's own rule too, a note means over the limit but doesn't block.
    (found,) = differences(*rows, limit=PolicySettings(limit="ils"), penalties={SYS1: 102})
    assert found.kind is DifferenceKind.BLOCKS_NOTHING
    assert differences(*rows[1:], limit=Limit(None), penalties=dict.fromkeys(PARENTS, 102)) == []


def test_limits_by_profile_and_library_are_each_held_against_what_counts_there() -> None:
    rule = LimitRule("Child", "ORG2", Decimal("2.00"), Comparison.REACHES)
    (found,) = differences((CONS, 1, 1, "5.01"), limit=PolicySettings(limits=(rule,)))
    assert (found.kind, found.profiles, found.libraries) == (DifferenceKind.BLOCKS_LATER, {3}, {SYS1, BR1, BR2})
    assert found.limit.least_over == Decimal("2.00")


def test_a_setting_that_names_a_penalty_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match="unknown penalty 999"):
        differences((CONS, 1, 1, "5.01"), penalties={BR1: 999})
