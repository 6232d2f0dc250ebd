"""Every recorded exchange that code and pages cite exists in full, and every recorded exchange is cited."""

import json
from functools import cache
from pathlib import Path

import pytest
from support.recorded import (
    BETWEEN,
    CURRENT,
    DATASET,
    FAMILIES,
    ID,
    RECORDED,
    RELEASES,
    exchanges,
    files,
    is_scenario,
    named_in,
    read,
)
from support.repository import REPOSITORY

LARGEST_FILE = 256 * 1024
ALWAYS = {"id", "note", "as", "http", "form", "response"}
SOMETIMES = {"seq", "elapsed_s", "carry", "connection", "body_bytes", "body_sha256"}
FILES = [file for release in RELEASES for file in files(release)]


@cache
def names(*folders: str) -> dict[str, set[str]]:
    """Return the cited ids with the citing files; in Python, strings count too, so that none is overlooked."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in {".py", ".pyi", ".md", ".html", ".js", ".j2", ".json"} and RECORDED not in path.parents:
                for name in named_in(path.read_text(encoding="utf-8")):
                    found.setdefault(name, set()).add(str(path.relative_to(REPOSITORY)))
    return found


def pages() -> dict[str, set[str]]:
    texts = [path for path in REPOSITORY.glob("*.md") if path.name != "CHANGELOG.md"]
    return {name: {path.name} for path in texts for name in named_in(path.read_text(encoding="utf-8"))}


def test_every_exchange_that_code_or_a_page_names_is_recorded():
    named = names("evergreen_groups", "docs") | pages()
    assert {"pcrud-034", "errors-001", "penalties-update-005"} <= set(named)
    assert {name: where for name, where in named.items() if name not in exchanges()} == {}


def test_every_exchange_that_a_test_names_is_recorded():
    assert {name: where for name, where in names("tests").items() if name not in exchanges()} == {}


def test_every_recorded_exchange_is_cited():
    named = set(names("evergreen_groups", "docs", "tests")) | set(pages())
    for file in FILES:
        release = file.relative_to(RECORDED).parts[0]
        if release in BETWEEN:  # tests/sandbox/test_recorded_releases.py sends all of them
            continue
        ids = {one["id"] if release == CURRENT else f"{release}/{one['id']}" for one in read(file)}
        idle = set() if is_scenario(file) and ids & named else ids - named
        assert idle == set(), file


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(RECORDED)))
def test_a_file_is_well_formed(file: Path):
    assert file.stat().st_size < LARGEST_FILE
    found = read(file)
    for exchange in found:
        assert set(exchange) >= ALWAYS
        assert set(exchange) <= ALWAYS | SOMETIMES
        assert exchange["note"]
        assert ID.fullmatch(exchange["id"])
        assert exchange["id"][:-4] == file.stem
        assert exchange["http"]["method"] in {"GET", "POST", "PUT"}
        assert set(exchange["response"]) == {"http_status", "content_type", "body"}
        assert all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in exchange["form"])
    numbers = [int(exchange["id"][-3:]) for exchange in found]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("file", [file for file in FILES if is_scenario(file)], ids=lambda file: file.stem)
def test_a_scenario_is_there_from_its_beginning(file: Path):
    numbers = [int(exchange["id"][-3:]) for exchange in read(file)]
    if file.relative_to(RECORDED).parts[0] == CURRENT:  # elsewhere, some weren't sent or gave varying answers
        assert numbers == list(range(1, len(numbers) + 1))
    assert numbers[0] == 1


def test_an_id_is_unique():
    for release in RELEASES:
        ids = [exchange["id"] for file in files(release) for exchange in read(file)]
        assert len(set(ids)) == len(ids)


def test_no_token_of_a_session_is_recorded():
    for exchange in exchanges().values():
        if '"authtoken"' in exchange["response"]["body"]:
            [event] = json.loads(exchange["response"]["body"])["payload"]
            assert event["payload"]["authtoken"] == "$TOKEN"


def test_every_file_there_has_its_use():
    known = {"README.md", "results.json", "tried.toml", *(f"{release}/idl.xml" for release in RELEASES)}
    known |= {str(file.relative_to(RECORDED)) for file in [*FILES, FAMILIES, DATASET]}
    assert {str(path.relative_to(RECORDED)) for path in RECORDED.rglob("*") if path.is_file()} == known
