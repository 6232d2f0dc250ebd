"""Letters to the families of random consortia: nothing about other adults, and the amounts that are owed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reckoning.library import Content, Library
from reckoning.mailing import mailable, minor
from reckoning.populations import population
from reckoning.product import REFUSALS, Product, over_random_consortia, printed_letters


def check(product: Product, content: Content) -> int:
    """Look for other people in the letters about one population; return how many letters there are."""
    content = mailable(content)
    try:
        made, sheets = printed_letters(product, content)
    except REFUSALS:
        return 0
    library = Library(content)
    for letter, sheet in zip(made.letters, sheets, strict=True):
        contact = letter.addressee.contact
        visible = [patron for patron in library.groups()[letter.group] if library.visible(patron)]
        to = [one for one in visible if contact.role != "guardian" and one["id"] == contact.patron]
        about = [one for one in visible if letter.to_contact and minor(one)] + to
        said = sheet.text_content()
        for patron in library.people.values():
            # In these populations, every first name has the patron's id. The guardian of a member is found by it.
            if patron not in about and patron["id"] != contact.patron:
                assert f"N{patron['id']}" not in said
                assert f"B{patron['id']}" not in said
    return len(made.letters)


def test_letters_are_found_and_right(asked: Product) -> None:
    contents = [population(Random(seed)) for seed in range(25)]
    for job in ("letters", "letters by items"):
        assert [text for content in contents for text in asked.differences(content, job)] == []
    assert sum(check(asked, content) for content in contents) > 5


@pytest.mark.long
@over_random_consortia(150)
@given(seed=st.integers(1, 2**32))
def test_no_letter_says_anything_about_other_adults(seed: int, asked: Product) -> None:
    check(asked, population(Random(seed)))
