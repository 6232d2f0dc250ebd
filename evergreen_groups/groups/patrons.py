"""Patrons as groups see them: few fields, and a name written in one way everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from evergreen_groups.gateway import Record, columns

NAME_FIELDS = (
    "family_name",
    "first_given_name",
    "second_given_name",
    "suffix",
    "pref_family_name",
    "pref_first_given_name",
    "pref_second_given_name",
    "pref_suffix",
)
_WHO = ("id", "usrgroup", "home_ou", "card", "master_account")
# Named, for a whole au is several times as large (pcrud-007). The key has to be among them: a release before 3.16
# answers 500 to a select without it (3.12/releases-001).
FIELDS = (*_WHO, *NAME_FIELDS)
"""The fields of an ``au`` that :func:`patrons_of` needs."""


class Patron(NamedTuple):
    """What the search needs of a patron: ``home_library`` and ``card`` are ids, ``name`` is family name first."""

    id: int
    group: int
    home_library: int
    card: int | None
    group_lead: bool
    name: str


def patrons_of(rows: Iterable[Sequence[Any]]) -> list[Patron]:
    """Take over the ``FIELDS`` of ``au`` rows."""
    names = len(_WHO)
    return [Patron(row[0], row[1], row[2], row[3], row[4], written_name(*row[names:])) for row in rows]


def display_name(record: Record) -> str:
    """Write a patron's name, preferred parts before legal ones: ``Family, First Second, Suffix``."""
    ((*names,),) = columns([record], *NAME_FIELDS)
    return written_name(*names)


def written_name(*parts: str | None) -> str:
    """Write a name from its parts, the values of ``NAME_FIELDS``.

    >>> written_name("O'Brien", "Aoife", None, None, None, "Effie", None, None)
    "O'Brien, Effie"
    """
    legal, preferred = parts[:4], parts[4:]
    if not any(preferred) and not any(legal[2:]) and legal[0] and legal[1]:  # as with nearly everybody
        return f"{legal[0].strip()}, {legal[1].strip()}"
    family, first, second, suffix = ((wish or name or "").strip() for wish, name in zip(preferred, legal, strict=True))
    given = f"{first} {second}".strip()
    return ", ".join(filter(None, (family, given, suffix)))
