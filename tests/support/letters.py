"""The family of the sandbox that tests write to, and changes to its records."""

import io
from decimal import Decimal
from typing import Any

from support.gateways import gateway_of

from evergreen_groups.ils import OrgUnits
from evergreen_groups.letters import FamilyLetter, LetterChoice, Letters, read_letters
from evergreen_groups.nightly import Readers
from evergreen_groups.render.letters import write_letters
from evergreen_groups.report import Criteria, Report, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import LanguageSettings, LetterSettings

FAMILY, LEAD, OTHER_ADULT = 1001, 1001, 1002
CHILDREN = (1003, 1004, 1005, 1006)
HARBOR, CONSORTIUM = 11, 1
INVALID_ADDRESS, IN_COLLECTIONS = 29, 30
FROM_FIVE = LetterChoice(Decimal("5.00"))


def change(sandbox: Sandbox, patron: int, **fields: Any) -> None:
    sandbox._store.update("au", patron, fields)


def penalize(sandbox: Sandbox, patron: int, kind: int) -> None:
    row = {"usr": patron, "standing_penalty": kind, "org_unit": CONSORTIUM, "staff": 4}
    sandbox._store.insert("ausp", {"set_date": "2026-09-03T10:00:00+0000", **row})


def library_address(sandbox: Sandbox, field: str = "mailing_address", **fields: Any) -> None:
    row = {"org_unit": HARBOR, "address_type": "MAILING", "street1": "1 Harbor Street", "city": "Lakeland"}
    place = {"state": "MN", "post_code": "55550", "country": "USA", "valid": "t"}
    id = sandbox._store.insert("aoa", {**row, **place, **fields})
    sandbox._store.update("aou", HARBOR, {field: id, "phone": "555-0111"})


def opening_hours(sandbox: Sandbox, *days: str) -> None:
    """Set the library's opening hours from Monday on, such as 09:00-17:00."""
    names = (f"dow_{day}_{what}" for day in range(7) for what in ("open", "close"))
    times = (f"{time}:00" for day in days for time in day.split("-"))
    sandbox._store.insert("aouhoo", {"id": HARBOR, **dict(zip(names, times, strict=True))})


def read_for(
    sandbox: Sandbox, criteria: Criteria, account: str = "consortium_staff", choice: LetterChoice = FROM_FIVE
) -> tuple[Report, Letters]:
    with gateway_of(sandbox.url, account) as gateway:
        report = build_report(gateway, criteria)
        return report, read_letters(gateway, report, choice)


def document_of(report: Report, made: Letters, settings: LetterSettings, language: LanguageSettings) -> str:
    stream = io.StringIO()
    readers = Readers(language, report.org_units)
    upwards = OrgUnits.shortnames_upwards(report.org_units)
    write_letters(made, stream, settings, readers.of_library, upwards.__getitem__)
    return stream.getvalue()


def of_family(made: Letters) -> FamilyLetter:
    return next(letter for letter in made.letters if letter.group == FAMILY)
