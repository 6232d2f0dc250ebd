"""Ranges of patron ids, and the patrons over the limit found page by page in each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import gateway_of

from evergreen_groups.audit import Audit, AuditCriteria, PatronFinding, blocks, build_audit
from evergreen_groups.audit import queries as id_ranges
from evergreen_groups.sandbox import Sandbox


@given(st.integers(0, 3_000_000), st.integers(-10, 4_000_000))
def test_every_id_is_in_one_range(highest: int, patron: int) -> None:
    ranges = id_ranges.id_ranges(highest)
    within = [
        one for one in ranges if (one.low is None or patron > one.low) and (one.high is None or patron <= one.high)
    ]
    assert len(within) == 1
    assert len(ranges) <= 32


@pytest.mark.parametrize("top", [None, 2])
def test_patrons_come_once_however_they_are_asked_for(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, top: int | None
) -> None:
    """A range with more patrons than fit in one answer takes more calls, until nothing is left."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        at_once = build_audit(gateway, AuditCriteria(top=top))
        monkeypatch.setattr(id_ranges, "_WIDTH", 60)
        monkeypatch.setattr(blocks, "_PAGE", 2)
        monkeypatch.setattr(blocks, "_BATCH", 3)
        in_parts = build_audit(gateway, AuditCriteria(top=top))
    assert len(at_once.patrons) >= 4
    assert _found(in_parts) == _found(at_once)
    assert in_parts.counts == at_once.counts


def _found(audit: Audit) -> list[PatronFinding]:
    return list(audit.patrons)
