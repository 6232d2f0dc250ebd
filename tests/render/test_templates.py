"""The templates escape their values and fail on undefined names; long pages are written piece by piece."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, UndefinedError, nodes
from markupsafe import Markup
from support.report_samples import large_report
from support.repository import PACKAGE, package

from evergreen_groups.render.pages import RowTemplate, environment
from evergreen_groups.render.report import render
from evergreen_groups.sandbox.demo_desk import desk as pages

PACKAGES = {PACKAGE / "render": environment, PACKAGE / "sandbox" / "demo_desk": pages.environment}
"""The packages with a templates folder, and the environments that render it."""
TEMPLATES = [(package, path.name) for package in PACKAGES for path in sorted((package / "templates").glob("*.*"))]


def trees(package: Path) -> dict[str, nodes.Template]:
    made = PACKAGES[package]()
    return {
        name: made.parse((package / "templates" / name).read_text("utf-8")) for one, name in TEMPLATES if one == package
    }


@pytest.mark.parametrize("made", PACKAGES.values(), ids=["render", "demo_desk"])
def test_what_is_shown_is_escaped_and_what_is_missing_is_an_error(made: Any) -> None:
    filled: Environment = made()
    assert filled.from_string("{{ one }}").render(one="<b title='\"'>&") == "&lt;b title=&#39;&#34;&#39;&gt;&amp;"
    for template in (
        "{{ missing }}",
        "{{ one.missing }}",
        "{% if missing %}{% endif %}",
        "{% for one in missing %}{% endfor %}",
    ):
        with pytest.raises(UndefinedError):
            filled.from_string(template).render(one="")


def test_only_plain_text_is_not_escaped() -> None:
    decide: Any = environment().autoescape
    escaped = {name for package, name in TEMPLATES if package.name == "render" and decide(name)}
    assert {name for package, name in TEMPLATES if package.name == "render"} - escaped == {"labels.txt", "mail.txt"}
    assert pages.environment().autoescape is True


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_template_says_that_a_text_is_safe(package: Path) -> None:
    for name, tree in trees(package).items():
        unsafe = [
            *tree.find_all((nodes.MarkSafe, nodes.MarkSafeIfAutoescape, nodes.ScopedEvalContextModifier)),
            *(one for one in tree.find_all(nodes.Filter) if one.name in ("safe", "forceescape", "tojson")),
        ]
        assert not unsafe, name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_template_has_a_typed_colon_after_a_text(package: Path) -> None:
    """In French, a space precedes it: colons are part of a text, or come from the filter ``label``."""
    typed = {}
    for path in sorted((package / "templates").rglob("*.*")):
        if path.suffix in (".html", ".txt") and path.name != "labels.txt":  # a style sheet
            source = re.sub(r"{% trans\b.*?{% endtrans\b", "", path.read_text("utf-8"), flags=re.DOTALL)
            typed[path.name] = re.findall(r".{0,60}[}>]:(?:\s|</).{0,20}", source)
    assert typed
    assert not any(typed.values()), typed


def test_only_files_of_the_package_are_taken_for_markup() -> None:
    takes = [
        path.relative_to(PACKAGE).as_posix()
        for path, tree in package().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Markup"
    ]
    assert takes == ["language/templates.py", "render/pages.py", "sandbox/demo_desk/desk.py"]


class Writes(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, text: str, /) -> int:
        self.sizes.append(len(text))
        return super().write(text)


def test_a_long_page_is_written_piece_by_piece() -> None:
    """Ten times as many groups: ten times as many pieces, none of them longer."""
    few, many = Writes(), Writes()
    for stream, report in ((few, large_report(200)), (many, large_report(2000))):
        render(report, "html", stream)
    assert len(many.sizes) > 8 * len(few.sizes)
    assert max(many.sizes) <= 1.25 * max(few.sizes)


def test_a_form_is_filled_in_as_the_macro_writes_it() -> None:
    source = '{% macro form(name, more) %}<b title="100 %(name)s">{{ name }}</b>{{ more }} {{ name }}{% endmacro %}'
    macro: Any = environment().from_string(source).module
    for name, more in (("%(more)s", "%"), (r"\1", "<i>%s</i>"), ("", "\0name\0")):
        values = {"name": Markup(name), "more": Markup(more)}
        assert RowTemplate(macro.form).filled(values) == str(macro.form(**values))
