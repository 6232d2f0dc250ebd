"""Columns are as wide as a terminal shows their texts."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from evergreen_groups.render.columns import PLAIN, Cell, Columns, TextColumn, aligned, wrapped


@pytest.mark.parametrize("blank", ["\xa0", "\u202f"])
def test_an_amount_stays_on_one_line(blank: str) -> None:
    amount = f"1{blank}234,50{blank}$"
    assert wrapped(f"plus de {amount}", 12) == ["plus de", amount]
    assert wrapped(f"doit {amount} depuis", 14) == ["doit", amount, "depuis"]


@pytest.mark.parametrize("name", ["Müller", "山田, 太郎", "e\u0301lan", "\u200f4.90\xa0\u200f$", ""])
def test_what_follows_begins_at_the_same_place(name: str) -> None:
    columns = Columns([TextColumn("Name"), TextColumn("Fines", right=True)], [[Cell(name), Cell("1.00")]], 80)
    (line,) = "".join(segment.text for segment in columns.row([Cell(name), Cell("1.00")])).splitlines()
    assert cell_len(line) == columns.width == sum(columns.widths) + 2
    assert "".join(segment.text for segment in columns.heading(PLAIN)).startswith("Name")
    assert cell_len(aligned(name, 12)) == cell_len(aligned(name, 12, right=True)) == 12


NARROW = [TextColumn("Groupe", right=True), TextColumn("Nom", least=8), TextColumn("Bibliothèque", least=7)]
ROW = [Cell("1008"), Cell("O'Sullivan-Byrne, Siobhán", indent=2), Cell("20000000001032")]


@pytest.mark.parametrize("width", [80, 42, 36, 34])
def test_a_barcode_is_not_broken_while_a_name_can_be(width: int) -> None:
    columns = Columns(NARROW, [ROW], width)
    lines = "".join(segment.text for segment in columns.row(ROW)).splitlines()
    assert columns.width <= width
    assert lines[0].endswith("20000000001032")


def test_words_of_names_are_broken_last() -> None:
    columns = Columns(NARROW, [ROW], 38)
    lines = "".join(segment.text for segment in columns.row(ROW)).splitlines()
    assert [line.split()[-2 if number == 0 else -1] for number, line in enumerate(lines)] == [
        "O'Sullivan-",
        "Byrne,",
        "Siobhán",
    ]


def test_a_long_heading_is_parted_by_a_hyphen() -> None:
    columns = Columns([TextColumn("Bibliothèque", least=7), TextColumn("Dû")], [[Cell("PINE"), Cell("1,00")]], 13)
    lines = "".join(segment.text for segment in columns.heading(PLAIN)).splitlines()
    assert lines == ["Biblio-", "thèque   Dû"]
    assert columns.width <= 13
