"""Letters to the families of random consortia: nothing about other adults, and the amounts that are owed."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from random import Random

import lxml.html
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reckoning.library import NOTHING, Content, Library, Row
from reckoning.populations import population
from reckoning.product import REFUSALS, Product, over_random_consortia

from evergreen_groups.ils import OrgUnits
from evergreen_groups.letters import Selection, read_debtors, read_letters
from evergreen_groups.nightly import Readers
from evergreen_groups.render.letters import write_letters
from evergreen_groups.settings.sections import LanguageSettings, LetterSettings


def minor(patron: Row) -> bool:
    """Return whether a patron is under 18 by a date of birth that can be true, else by the mark of a juvenile."""
    born, today = patron.get("dob"), datetime.now(UTC).date()
    if born and born >= "1900":
        year, month, day = map(int, born[:10].split("-"))
        return date(year + 18, month, day) > today
    return bool(patron["juvenile"] == "t")


def check(product: Product, content: Content) -> int:
    """Compare the letters about one population with the data; return how many there are."""
    try:
        report, library = product.report(content), Library(content)
    except REFUSALS:
        return 0
    gateway = product.client(content).gateway
    made = read_letters(gateway, report)
    stream = io.StringIO()
    readers = Readers(LanguageSettings(timezone="UTC"), report.org_units)
    upwards = OrgUnits.shortnames_upwards(report.org_units)
    write_letters(made, stream, LetterSettings(), readers.of_library, upwards.__getitem__)
    sheets = lxml.html.document_fromstring(stream.getvalue()).xpath("//article")
    numbers = [letter.group for letter in made.letters] + [one.group for one in made.left_out]
    assert sorted(numbers) == sorted(group.number for group in report.groups)
    for letter, sheet in zip(made.letters, sheets, strict=True):
        contact = letter.addressee.contact
        visible = [patron for patron in library.groups()[letter.group] if library.visible(patron)]
        said = sheet.text_content()
        about = [one for one in visible if minor(one) or (contact.role != "guardian" and one["id"] == contact.patron)]
        for patron in library.people.values():
            # In these populations, every first name has the patron's id. The guardian of a member is found by it.
            if patron not in about and patron["id"] != contact.patron:
                assert f"N{patron['id']}" not in said
                assert f"B{patron['id']}" not in said
        owed = sum((library.owes(patron["id"]) for patron in about), NOTHING)
        assert letter.statement.owed == owed > 0
        amounts = [one.text for one in sheet.xpath(".//h2/span[@class='number']") if "credit" not in one.text]
        allowed = {f"${amount:,.2f}" for amount in (owed, *(library.owes(patron["id"]) for patron in about))}
        assert set(amounts) <= allowed
        adult = next(patron for patron in visible if patron["id"] == contact.patron)
        assert adult["active"] == "t"
        assert contact.role == "guardian" or not minor(adult)
    debtors = read_debtors(gateway, report, Selection())
    owing = {one.id: one.own_fines for group in report.groups for one in group.members if one.own_fines > 0}
    listed = {one.member.id: one.member.own_fines for one in debtors.people}
    assert listed | {one.patron: owing[one.patron or 0] for one in debtors.left_out} == owing
    assert all(amount == library.owes(id) for id, amount in listed.items())
    return len(made.letters)


def with_addresses(chance: Random) -> Content:
    """Return a population in which nearly everybody has an address, some a guardian."""
    content = population(chance)
    content["_question"]["report"] |= {"min_total": "0.01", "min_members": 1, "choice": {}}
    for patron in content["au"]:
        id = 100_000 + patron["id"]
        content["aua"].append({"id": id, "usr": patron["id"], "street1": "7 Any St", "post_code": "55555"})
        patron["billing_address"] = id if chance.random() < 0.9 else None
        patron["guardian"] = chance.choice((None, f"N{patron['id']}'s guardian"))
    return content


def test_letters_are_found_and_right(asked: Product) -> None:
    found = [check(asked, with_addresses(Random(seed))) for seed in range(12)]
    assert sum(found) > 10


@pytest.mark.long
@over_random_consortia(150)
@given(seed=st.integers(1, 2**32))
def test_no_letter_says_anything_about_other_adults(seed: int, asked: Product) -> None:
    check(asked, with_addresses(Random(seed)))
