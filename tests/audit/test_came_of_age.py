"""Juveniles who came of age: by whose calendar, in which groups, and what libraries that hide birth dates see."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import gateway_of

from evergreen_groups.audit import Audit, AuditCriteria, FindingKind, build_audit
from evergreen_groups.audit.came_of_age import latest_birth_date
from evergreen_groups.formats import AUDIT_FORMATS
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import AdultRule
from evergreen_groups.ils.org_units import OBSCURED
from evergreen_groups.render.audit import describe_reason, render_audit
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.values import age_of

MOTHER, CHILD, SISTER, BABY = 1001, 1003, 1004, 1005
"""Members of one family. All but the mother (and 1002, another adult) are marked as juveniles, at HARBOR."""
ROOT, HARBOR, MILL = 1, 11, 21
EASTMOST, WESTMOST = "Pacific/Kiritimati", "Etc/GMT+12"
Change = Callable[..., None]


@pytest.fixture
def change(sandbox: Sandbox) -> Change:
    def change(patron: int, **values: object) -> None:
        sandbox._store.update("au", patron, values)

    return change


def put(sandbox: Sandbox, org_unit: int, name: str, value: str) -> None:
    for row in sandbox._store.rows("aous", {"name": name, "org_unit": org_unit}):
        sandbox._store.delete("aous", row["id"])
    sandbox._store.insert("aous", {"name": name, "org_unit": org_unit, "value": value})


def grown(audit: Audit) -> dict[int, str]:
    """Return the reasons by patron."""
    return {one.member.id: str(describe_reason(one.reason)) for one in audit.of_kind(FindingKind.CAME_OF_AGE)}


def years_ago(years: int) -> str:
    """Return a day in the middle of another month, so that the age doesn't change today."""
    middle = (datetime.now(UTC).date().replace(day=15) - timedelta(days=61)).replace(day=15)
    return middle.replace(year=middle.year - years).isoformat()


@given(
    age=st.integers(1, 120),
    today=st.dates(date(1990, 1, 1), date(2100, 12, 31)) | st.sampled_from([date(2028, 2, 29), date(2027, 2, 28)]),
    days=st.integers(-400, 400),
)
def test_the_query_finds_exactly_those_old_enough(age: int, today: date, days: int) -> None:
    latest = latest_birth_date(age, today)
    born = latest + timedelta(days=days)
    assert (born <= latest) == (age_of(born, today) >= age)


def test_who_was_born_on_february_29_comes_of_age_on_march_1() -> None:
    born = date(2008, 2, 29)
    assert born > latest_birth_date(18, date(2026, 2, 28))
    assert born <= latest_birth_date(18, date(2026, 3, 1))
    assert born <= latest_birth_date(20, date(2028, 2, 29))


def test_only_juveniles_of_age(staff: Gateway, change: Change) -> None:
    assert grown(build_audit(staff, AuditCriteria())) == {}
    change(CHILD, dob=years_ago(18))
    change(SISTER, dob=years_ago(17))
    change(BABY, dob="0207-03-04")  # a typo, which says nothing about the age
    change(MOTHER, dob=years_ago(40))
    audit = build_audit(staff, AuditCriteria())
    assert grown(audit) == {CHILD: "marked as a juvenile, age 18"}
    (found,) = audit.of_kind(FindingKind.CAME_OF_AGE)
    assert (found.member.juvenile, found.member.barcode) == (True, "20000000001003")
    assert set(grown(build_audit(staff, AuditCriteria(adults=AdultRule(from_age=17))))) == {CHILD, SISTER}
    assert grown(build_audit(staff, AuditCriteria(orgs=("MILL",)))) == {}
    change(CHILD, juvenile="f")
    assert grown(build_audit(staff, AuditCriteria())) == {}


def test_a_group_without_a_guardian_is_no_family_to_leave(staff: Gateway, change: Change) -> None:
    change(CHILD, dob=years_ago(20))
    change(1002, usrgroup=1002)
    assert set(grown(build_audit(staff, AuditCriteria()))) == {CHILD}
    for values in ({"juvenile": "t"}, {"juvenile": "f", "deleted": "t"}, {"deleted": "f", "usrgroup": MOTHER + 7000}):
        change(MOTHER, **values)
        assert grown(build_audit(staff, AuditCriteria())) == {}, values


def test_each_library_has_its_own_today(sandbox: Sandbox, staff: Gateway, change: Change) -> None:
    """The two time zones never have the same date."""
    put(sandbox, HARBOR, "lib.timezone", f'"{EASTMOST}"')
    put(sandbox, MILL, "lib.timezone", f'"{WESTMOST}"')
    change(SISTER, home_ou=MILL)
    birthday = latest_birth_date(18, datetime.now(ZoneInfo(EASTMOST)).date()).isoformat()
    for patron in (CHILD, SISTER):
        change(patron, dob=birthday)
    assert set(grown(build_audit(staff, AuditCriteria()))) == {CHILD}


@pytest.mark.parametrize("top", [None, 5])
def test_where_birth_dates_are_obscured_only_the_fact_is_shown(
    sandbox: Sandbox, staff: Gateway, change: Change, top: int | None
) -> None:
    put(sandbox, HARBOR, OBSCURED, "true")
    change(SISTER, home_ou=MILL)
    for patron in (CHILD, SISTER):
        change(patron, dob=years_ago(67))
    audit = build_audit(staff, AuditCriteria(top=top))
    assert grown(audit) == {
        CHILD: "marked as a juvenile, an adult by date of birth",
        SISTER: "marked as a juvenile, age 67",
    }
    assert audit.count(FindingKind.CAME_OF_AGE) == 2
    put(sandbox, ROOT, OBSCURED, "true")
    audit = build_audit(staff, AuditCriteria(top=top))
    for format in AUDIT_FORMATS:
        stream = io.StringIO(newline="")
        render_audit(audit, format, stream)
        assert "an adult by date of birth" in stream.getvalue()
        assert "age 67" not in stream.getvalue()
        assert years_ago(67)[:4] not in stream.getvalue()


def test_hidden_patrons_are_neither_found_nor_guardians(sandbox: Sandbox, change: Change) -> None:
    """The account sees the branches of NORTH. Nothing it gets depends on members of other libraries."""
    change(1002, usrgroup=1002)
    for patron in (CHILD, SISTER):
        change(patron, dob=years_ago(19))
    change(SISTER, home_ou=MILL)
    with gateway_of(sandbox.url, "north_manager") as gateway:
        assert set(grown(build_audit(gateway, AuditCriteria()))) == {CHILD}
        change(MOTHER, home_ou=MILL)
        assert grown(build_audit(gateway, AuditCriteria())) == {}
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        assert set(grown(build_audit(gateway, AuditCriteria()))) == {CHILD, SISTER}
