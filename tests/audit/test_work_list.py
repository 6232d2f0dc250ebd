"""Groups to keep off the work list, and how the audit asks. The second reckoning compares all findings."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fault_proxy import Fault, FaultProxy
from support.gateways import gateway_of
from support.states import state_in

from evergreen_groups.audit import Audit, AuditCriteria, FindingKind, blocks, build_audit
from evergreen_groups.audit import queries as id_ranges
from evergreen_groups.audit.borrowed_addresses import find_borrowed_addresses
from evergreen_groups.audit.store import FindingStore
from evergreen_groups.client import Client
from evergreen_groups.errors import ArgumentError, ConfigurationError, NotFoundError
from evergreen_groups.formats import AUDIT_FORMATS
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.groups import AdultRule, IdRange
from evergreen_groups.message import silent
from evergreen_groups.render.audit import render_audit
from evergreen_groups.sandbox import Sandbox

SCHOOL, LEADERLESS, TWO_LEADS = 1016, 1007, 1006
CRITERIA = AuditCriteria(institution_profiles=("institution",))


@pytest.fixture
def client(staff: Gateway, tmp_path: Path) -> Client:
    return Client(staff, account="consortium_staff", state=state_in(tmp_path))


def update(sandbox: Sandbox, patron: int, **values: object) -> None:
    with sandbox._store.transaction():
        sandbox._store.update("au", patron, values)


def accidental(audit: Audit) -> list[int]:
    return [finding.group.number for finding in audit.groups_of_kind(FindingKind.ACCIDENTAL)]


def for_review(audit: Audit) -> list[int]:
    return [finding.group.number for finding in audit.groups_of_kind(FindingKind.FOR_REVIEW)]


def test_a_profile_of_institutions_must_exist(staff: Gateway) -> None:
    with pytest.raises(ConfigurationError, match='no profile "Nowhere"'):
        build_audit(staff, AuditCriteria(institution_profiles=("Nowhere",)))


def test_of_families_as_large_the_leads_stays(sandbox: Sandbox, staff: Gateway) -> None:
    for patron in (1054, 1055):
        update(sandbox, patron, mailing_address=None, billing_address=None)
    (split,) = (one.split for one in build_audit(staff, AuditCriteria()).groups if one.group.number == SCHOOL)
    assert split is not None
    assert (split.stay, split.leaving) == ((1054,), (1055, 1056))


def test_what_is_kept_is_not_listed_again_until_its_members_change(
    sandbox: Sandbox, client: Client, staff: Gateway
) -> None:
    client.keep_groups([SCHOOL, LEADERLESS])
    audit = client.audit(AuditCriteria())
    assert (accidental(audit), for_review(audit)) == ([], [TWO_LEADS])
    assert audit.to_keep == (LEADERLESS, SCHOOL)
    update(sandbox, 1056, usrgroup=4711)
    update(sandbox, 1055, home_ou=21)
    audit = client.audit(AuditCriteria())
    assert (accidental(audit), for_review(audit)) == ([], [TWO_LEADS])  # the school's members share an address
    update(sandbox, 1055, mailing_address=None, billing_address=None)
    audit = client.audit(AuditCriteria())
    assert (accidental(audit), for_review(audit)) == ([SCHOOL], [TWO_LEADS])
    assert audit.to_keep == (LEADERLESS,)
    # The decision isn't restored when the patron comes back: the group is listed again.
    update(sandbox, 1056, usrgroup=SCHOOL)
    assert SCHOOL in accidental(client.audit(AuditCriteria()))


def test_what_is_kept_for_a_family_is_forgotten_as_well_when_its_members_change(
    sandbox: Sandbox, client: Client
) -> None:
    client.keep_groups([LEADERLESS, TWO_LEADS])
    audit = client.audit(AuditCriteria())
    assert (for_review(audit), audit.to_keep) == ([], (TWO_LEADS, LEADERLESS))
    update(sandbox, 1003, usrgroup=LEADERLESS)
    assert TWO_LEADS not in for_review(audit := client.audit(AuditCriteria()))
    assert audit.to_keep == (TWO_LEADS,)
    assert client.audit(AuditCriteria()).to_keep == (TWO_LEADS,)


def test_listing_again(client: Client) -> None:
    assert client.list_groups_again([SCHOOL]) == 0
    client.keep_groups([SCHOOL])
    client.keep_groups([SCHOOL])
    assert client.list_groups_again([SCHOOL, LEADERLESS]) == 1
    assert SCHOOL in accidental(client.audit(AuditCriteria()))


def test_a_group_that_nobody_is_in_is_not_kept(client: Client) -> None:
    with pytest.raises(NotFoundError, match="group 4711 has no visible member"):
        client.keep_groups([SCHOOL, 4711])
    assert client.audit(AuditCriteria()).to_keep == ()


def test_who_sees_less_decides_about_the_same_members(sandbox: Sandbox, client: Client, tmp_path: Path) -> None:
    update(sandbox, 1054, expire_date="2015-03-01T00:00:00+0000")
    with gateway_of(sandbox.url, "north_manager") as gateway:
        Client(gateway, account="north_manager", state=state_in(tmp_path)).keep_groups([SCHOOL])
    assert client.audit(AuditCriteria()).to_keep == (SCHOOL,)


def test_no_birth_date_is_in_any_format(sandbox: Sandbox, staff: Gateway) -> None:
    for patron in (1019, 1020, 1021):
        update(sandbox, patron, dob="1971-07-13")
    audit = build_audit(staff, AuditCriteria(adults=AdultRule(18, 1)))
    for name in AUDIT_FORMATS:
        stream = io.StringIO(newline="")
        render_audit(audit, name, stream)
        assert "1971" not in stream.getvalue()


class SomebodyIsFoundError(Exception):
    """Raised if the search goes on with the patrons it found."""


@pytest.mark.apache(reason="whatever is empty is held against an echo")
def test_an_empty_answer_to_another_question_is_not_accepted(proxy: FaultProxy) -> None:
    """An empty list can't be matched to its query, so the search uses a fresh connection."""

    def members(_patrons: object, *, cards: bool) -> None:
        raise SomebodyIsFoundError

    with gateway_of(proxy.url, "consortium_staff", concurrency=1) as gateway:
        gateway.idl("au", "aua")
        assert gateway.token
        reader = SimpleNamespace(members=members)
        context: Any = SimpleNamespace(
            gateway=gateway,
            homes=(),
            id_ranges=[IdRange(None, None)],
            progress=silent,
            reader=reader,
            found=FindingStore(),
            top=None,
        )
        proxy.decide = lambda call: Fault.ANSWERS_BEHIND
        assert gateway.call("open-ils.pcrud", "open-ils.pcrud.search.au.atomic", TOKEN, {"id": -1}).value == []
        with pytest.raises(SomebodyIsFoundError):
            find_borrowed_addresses(context)


@pytest.mark.parametrize("account", ["consortium_staff", "north_manager"])
@pytest.mark.apache(reason="it counts calls")
def test_a_list_cut_short_has_the_first_of_all(sandbox: Sandbox, account: str) -> None:
    """Cards and fines are read only for the patrons on the shortened list."""
    with gateway_of(sandbox.url, account) as gateway:
        everything = build_audit(gateway, CRITERIA)
        calls = gateway.statistics.calls
        first = build_audit(gateway, replace(CRITERIA, top=1))
    assert gateway.statistics.calls - calls <= calls
    for kind in FindingKind:
        assert list(first.of_kind(kind)) == list(everything.of_kind(kind))[:1]
        assert list(first.groups_of_kind(kind)) == list(everything.groups_of_kind(kind))[:1]
        assert first.count(kind) == everything.count(kind)
        assert first.listed(kind) == min(first.count(kind), 1)
    with pytest.raises(ArgumentError):
        AuditCriteria(top="1")  # type: ignore[arg-type]


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
    assert list(in_parts.patrons) == list(at_once.patrons)
    assert in_parts.counts == at_once.counts
