"""The page about the hooks: its example runs as it stands, and its tables and lists leave nothing out."""

from __future__ import annotations

import contextlib
import io
import re
from importlib import resources

from support.repository import REPOSITORY

from evergreen_groups import hooks
from evergreen_groups.sandbox import Sandbox

PAGE = (REPOSITORY / "docs" / "hooks.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_example_prints_what_the_page_says(sandbox: Sandbox) -> None:
    example = block("python").replace("https://evergreen.example.org", sandbox.url)
    example = example.replace("circulation_desk", "consortium_staff").replace("…", "sandbox")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "docs/hooks.md", "exec"), {})
    assert printed.getvalue() == block("text")


def test_every_function_and_schema_is_named() -> None:
    functions = {name for name in hooks.__all__ if name[0].islower()}
    assert set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)) == functions
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
    assert all(f"`{kind}`" in PAGE for kind in kinds)
