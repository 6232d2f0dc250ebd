"""The slip for parents at the desk and over HTTP."""

from __future__ import annotations

import jsonschema
import pytest
from flask import Flask
from support.bills_and_items import ELM, hold, lend
from support.circulators import change_rows, take_away
from support.desk_caller import caller_of
from support.desk_page import GROUP, ClerkNamed, DeskClerk, DeskPage, with_settings
from support.documents import schema

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import StatementSettings

HUONG, DUC, MINH, LAN = 1015, 1016, 1017, 1018
PAGE = f"{GROUP.format(HUONG)}/slip"


def lines(page: DeskPage) -> list[str]:
    return [" ".join(" ".join(line.itertext()).split()) for line in page.tree.xpath("//ul[@class='slip-lines']/li")]


def test_the_page(clerk: DeskClerk) -> None:
    page = clerk.get(PAGE)
    assert (page.status, page.heading) == (200, "Harbor Street Library")
    assert "for Nguyễn, Thị Hương ; Nguyễn, Lan ; Nguyễn, Minh" in page.text
    assert lines(page) == [
        "Overdue: due 20 Sept 2026 Nguyễn, Minh Harbor Street Library · 2 renewals left",
        "Reported as returned, but not found Nguyễn, Thị Hương Harbor Street Library",
        "Due 15 Jan 2039 Nguyễn, Thị Hương Harbor Street Library · 2 renewals left",
        "Held until 20 Jan 2039 Nguyễn, Lan Harbor Street Library",
    ]
    assert "Owed: $17.85" in page.text
    assert "Đức" not in page.text
    assert page.tree.xpath("//head/link[@rel='stylesheet']")
    assert f"{PAGE}" in clerk.open(HUONG).response.text, "the group's page leads there"


def test_equal_lines_are_counted_and_a_deadline_may_be_over(clerk: DeskClerk, sandbox: Sandbox) -> None:
    change_rows(sandbox, "DELETE FROM circ")
    change_rows(sandbox, "DELETE FROM ahr")
    for _ in range(3):
        lend(sandbox, MINH, "2039-01-01", renewals=1)
    lend(sandbox, MINH, "2026-01-01", state="LOST")
    hold(sandbox, LAN, "2026-01-01")
    hold(sandbox, LAN, None, library=ELM)
    assert lines(clerk.get(PAGE)) == [
        "Lost: due 1 Jan 2026 Nguyễn, Minh Harbor Street Library",
        "Due 1 Jan 2039 3 items Nguyễn, Minh Harbor Street Library · 1 renewal left",
        "Was held until 1 Jan 2026 Nguyễn, Lan Harbor Street Library",
        "No pickup deadline Nguyễn, Lan Elmwood Library",
    ]


def test_nothing_out_and_nothing_to_pick_up(clerk: DeskClerk, sandbox: Sandbox) -> None:
    for table in ("circ", "ahr"):
        change_rows(sandbox, f"DELETE FROM {table}")
    page = clerk.get(PAGE)
    assert "No items out." in page.text
    assert "Ready for pickup" not in page.text


@with_settings(statement=StatementSettings(titles="all", adults=True, library="Our <Library>"))
def test_the_settings_of_the_statement_apply(clerk: DeskClerk) -> None:
    page = clerk.get(PAGE)
    assert page.heading == "Our <Library>"
    for text in ("The owl who read at night", "The tide tables", "Held until 22 Jan 2039 Kites over Pine Hill", "Đức"):
        assert text in page.text


@with_settings(statement=StatementSettings(page=False))
def test_without_the_page(clerk: DeskClerk) -> None:
    assert clerk.get(PAGE).status == 404
    assert "Family items" not in clerk.open(HUONG).text


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ("Family items on", "Overdue: due", "Ready for pickup", "Owed: $17.85")),
        ("es", ("Artículos de la familia", "Atrasado: venció el", "Listos para recoger", "Adeudado: $17.85")),
        ("fr-CA", ("Documents de la famille", "En retard\xa0: à rendre le", "prêtes à retirer", "Dû\xa0: 17,85\xa0$")),
        (
            "cs",
            ("Výpůjčky rodiny ke dni", "Po lhůtě: mělo být vráceno do", "Připraveno k vyzvednutí", "Dluh: 17,85\xa0$"),
        ),
    ],
)
def test_in_the_language_of_whoever_takes_it_home(clerk: DeskClerk, language: str, texts: tuple[str, ...]) -> None:
    page = clerk.get(f"{PAGE}?language={language}")
    assert page.tree.get("lang") == language
    for text in texts:
        assert text in page.response.text


def test_what_is_hidden_is_said(clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
    hold(sandbox, MINH, "2039-01-01", library=ELM)
    desk = clerk_named("harbor_desk")
    assert "Holds at other libraries may not be listed." in desk.get(PAGE).text
    take_away(sandbox, "VIEW_HOLD", user=4)
    page = clerk_named("harbor_desk").get(PAGE)
    assert "Ready for pickup Holds: not visible to your login" in page.text
    assert "Held until" not in page.text


def test_it_does_not_reveal_who_is_left_out(clerk: DeskClerk, sandbox: Sandbox) -> None:
    hold(sandbox, DUC, "2039-01-01", library=ELM)
    before = lines(clerk.get(PAGE))
    change_rows(sandbox, "UPDATE au SET usrgroup = 5001 WHERE id = ?", DUC)
    assert lines(clerk.get(PAGE)) == before


@with_settings(statement=StatementSettings(titles="juveniles"))
def test_the_json(app: Flask, sandbox: Sandbox) -> None:
    document = caller_of(app, sandbox).send("GET", f"patrons/{HUONG}/group/slip").body
    jsonschema.validate(document, schema("family-items"))
    assert [(one["id"], one["own_fines"]) for one in document["members"]] == [
        (HUONG, "14.75"),
        (LAN, "-1.50"),
        (MINH, "3.10"),
    ]
    assert (document["patron"], document["owed"]) == (HUONG, "17.85")
    assert [(one["patron"], one["state"], one["renewals"], one["title"]) for one in document["items"]] == [
        (MINH, "overdue", 2, "The owl who read at night"),
        (HUONG, "claims_returned", 2, None),
        (HUONG, "out", 2, None),
    ]
    assert document["holds"] == [
        {
            "id": 9201,
            "patron": LAN,
            "library": "HARBOR",
            "until": "2039-01-20T23:59:59+00:00",
            "title": "The tide tables",
        }
    ]
    assert document["all_items"] is document["all_holds"] is True
