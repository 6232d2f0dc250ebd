"""The order of names: letters first, then accents, then case, with the letters of Czech and Spanish."""

from __future__ import annotations

from random import Random

import pytest

from evergreen_groups.language import Language, name_key, use_language

ORDERS = {
    "en": "Ænn Af Čech Cz Đa Dz Łukasz María Ñandú Nz O'Brien O’Brien Oakley Øb",
    "fr-CA": "Čech chyba Cz Hz Ñandú Nz Raghunathan Šimek Sz Žák",
    "es": "Čech Chyba Cz Nz Ñandú Oa Raghunathan Řez Rz",
    "es-MX": "Nz ñandú Oa",
    "cs": "Cz Čech Da Hz Chyba chýba Ia Nandu Ñandú Nz Rz Řez Sz Šimek Zz Žák",
}


@pytest.mark.parametrize("tag", ORDERS)
def test_names_are_sorted_as_people_who_read_the_language_do(tag: str) -> None:
    names = ORDERS[tag].split()
    shuffled = Random(1).sample(names, len(names))
    with use_language(Language(tag)):
        assert sorted(shuffled, key=name_key) == names


def test_accents_count_before_case_and_both_after_the_letters() -> None:
    names = ["Pena, B", "pena, B", "Peña, A", "peña, A", "Pena, A", "pena, A"]
    assert sorted(names, key=name_key) == names[::-1]


def test_a_shorter_family_name_comes_first() -> None:
    assert sorted(["Leeds, A", "Lee, Z"], key=name_key) == ["Lee, Z", "Leeds, A"]


def test_composed_and_decomposed_letters_are_alike() -> None:
    assert name_key("N\u0303andu\u0301").split("\0")[:2] == name_key("Ñandú").split("\0")[:2]
