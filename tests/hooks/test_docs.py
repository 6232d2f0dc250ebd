"""The pages about the hooks leave nothing out. That their examples run is tests/test_pages.py's affair."""

from __future__ import annotations

from importlib import resources

from support.repository import REPOSITORY

REFERENCE = (REPOSITORY / "docs" / "http-reference.md").read_text(encoding="utf-8")


def test_every_schema_is_named() -> None:
    schemas = resources.files("evergreen_groups.hooks").joinpath("schemas").iterdir()
    kinds = {schema.name.removesuffix(".schema.json") for schema in schemas}
    assert kinds == {
        "patron-summary",
        "group-summary",
        "block",
        "event-outcome",
        "plan",
        "change",
        "changes",
        "group-details",
        "group-bills",
    }
    assert all(f"`{kind}`" in REFERENCE for kind in kinds)
