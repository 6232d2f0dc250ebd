"""Pages list exactly what exists: error codes, permissions, and pages in the index."""

import re

from support.http_reference import page as http_page
from support.pages import GENERATED, PAGES, blocks, in_navigation
from support.pictures import MADE_FROM, PICTURES, digest, recorded
from support.python_reference import names as python_names
from support.python_reference import page as python_page
from support.repository import REPOSITORY

import evergreen_groups as eg
from evergreen_groups import hooks
from evergreen_groups.doctor.interface import DESK_PERMISSIONS, PERMISSIONS, VIEW_USER

DOCS = REPOSITORY / "docs"
MOST_WORDS = 20_000
"""How many words people may write in docs/; the bars of tables are none."""
MOST_PAGES = 20
"""How many pages written by people the navigation may have."""


def text_of(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def section(text: str, heading: str) -> str:
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_troubles_have_every_error_by_its_code_or_its_kind() -> None:
    named = set(re.findall(r"`([\w-]+)`", text_of("troubleshooting.md")))
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \|", section(text_of("errors.md"), "Errors"), re.MULTILINE)
    assert len(rows) > 150
    missing = [f"{code} ({kind})" for code, kind in rows if not {code, kind} & named and not kind.startswith("_")]
    assert missing == [], "name these in a row of docs/troubleshooting.md, or their kinds"


def test_the_troubles_name_no_code_that_is_not_there() -> None:
    known = set(re.findall(r"`([\w-]+)`", text_of("errors.md")))
    named = set(re.findall(r"\(`([a-z][a-z-]+-[a-z-]+)`", text_of("troubleshooting.md")))
    assert named <= known


def test_page_doctor_and_sql_name_the_same_permissions() -> None:
    checked = {VIEW_USER.name, *(permission.name for permission in PERMISSIONS), *DESK_PERMISSIONS}
    sql = (REPOSITORY / "config" / "evergreen" / "permissions.sql").read_text("utf-8")
    (granted,) = re.findall(r"SELECT code FROM \(VALUES\n(.*?)\) AS rights", sql, re.DOTALL)
    assert set(re.findall(r"\('(\w+)'", granted)) == checked
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", section(text_of("permissions.md"), "The service account"), re.M)
    assert {name for name, _purpose in rows} == checked
    purposes = dict(rows)
    for permission in (VIEW_USER, *PERMISSIONS):
        assert str(permission.purpose) in purposes[permission.name]
    desk = section(text_of("permissions.md"), "At the desk")
    assert all(f"`{name}`" in desk for name in DESK_PERMISSIONS)


def test_the_navigation_is_short_and_the_index_leads_to_every_page() -> None:
    pages = {page.stem for page in PAGES if page.parent == DOCS} - {"index"}
    listed = in_navigation()
    assert set(listed) <= pages, "see tests/support/pages.py"
    assert len(set(listed) - GENERATED) <= MOST_PAGES
    assert pages == set(re.findall(r"\]\(([\w-]+)\.md", text_of("index.md")))


def test_the_pages_are_short() -> None:
    pages = [page for page in DOCS.glob("*.md") if page.stem not in GENERATED]
    words = {page.name: sum(bool(re.search(r"\w", word)) for word in page.read_text("utf-8").split()) for page in pages}
    longest = sorted(words.items(), key=lambda item: -item[1])[:10]
    assert sum(words.values()) <= MOST_WORDS, f"{sum(words.values())} words: {longest}"


def test_the_pages_of_routes_is_the_services_own_description() -> None:
    assert text_of("http-reference.md") == http_page(), "run: nox -s docs"


def test_the_python_reference_has_every_public_name_and_no_other() -> None:
    assert text_of("python-api.md") == python_page(), "run: nox -s docs"
    functions_and_types = {f"hooks.{name}" for name in dir(hooks) if name not in dir(eg)}
    assert sorted(python_names()) == sorted([*dir(eg), "gateway.connect", *functions_and_types])
    assert len(python_names()) <= 60


def test_the_python_programs_are_short() -> None:
    programs = [block.text.splitlines() for block in blocks(DOCS / "python.md") if block.language == "python"]
    assert len(programs) == 5
    assert max(map(len, programs)) <= 15
    assert len(text_of("python.md").split()) <= 900
    assert [block.language for block in blocks(DOCS / "gateway.md")].count("python") == 5


def test_every_picture_is_made_of_this_source_and_shown() -> None:
    assert {file.name for file in PICTURES.glob("*.png")} == set(MADE_FROM)
    outdated = [picture for picture in MADE_FROM if recorded()[picture] != digest(picture)]
    assert outdated == [], "run: nox -s pictures, and look at them"
    shown = "".join(page.read_text("utf-8") for page in PAGES)
    assert [picture for picture in MADE_FROM if f"pictures/{picture})" not in shown] == []
