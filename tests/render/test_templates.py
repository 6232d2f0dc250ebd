"""The templates escape their values, fail on undefined names, and are the only source of HTML."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, UndefinedError, meta, nodes
from markupsafe import Markup
from support.report_samples import large_report
from support.repository import REPOSITORY
from support.sources import PACKAGE, package, syntax_tree

from evergreen_groups.render.pages import RowTemplate, environment
from evergreen_groups.render.report import render
from evergreen_groups.sandbox.demo_desk import desk as pages

ROOMS = {
    PACKAGE / "render": environment,
    PACKAGE / "sandbox" / "demo_desk": pages.environment,
}
"""The rooms with a templates folder, and the environments that render it."""
TEMPLATES = [(room, path.name) for room in ROOMS for path in sorted((room / "templates").glob("*.*"))]

HTML = re.compile(
    "</?(html|head|meta|title|style|script|body|header|footer|main|section|nav|h[1-6]|p|div|span|strong|small|b|i|em|bdi"
    "|a|ul|ol|li|dl|dt|dd|table|caption|thead|tbody|tfoot|tr|th|td|time|figure|figcaption|svg|rect|details|summary|form"
    "|input|button|label|select|option|img|link|br|hr|pre|code|!doctype)[ />]",
    re.IGNORECASE,
)
READS_HTML = {PACKAGE / "web" / "report_pages.py": "looks for the policy in a page that the nightly run wrote"}

COLOR = re.compile(
    r"#[0-9a-f]{3,8}\b|\b(?:rgba?|hsla?|hwb|lab|lch|oklab|oklch|color|color-mix)\("
    r"|(?<![\w-])(?:white|black|gray|grey|red|green|blue|yellow|orange|purple|silver|navy|maroon|teal)(?![\w-])(?=[^{}]*[;}])",
    re.IGNORECASE,
)
PALETTE = re.compile(r":root[^{}]*\{([^{}]*)\}")


def trees(room: Path) -> dict[str, nodes.Template]:
    made = ROOMS[room]()
    return {name: made.parse((room / "templates" / name).read_text("utf-8")) for one, name in TEMPLATES if one == room}


def calls(tree: nodes.Template, name: str) -> list[nodes.Call]:
    return [one for one in tree.find_all(nodes.Call) if isinstance(one.node, nodes.Name) and one.node.name == name]


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield a module's strings, including the literal parts of f-strings, without docstrings."""
    descriptions = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in descriptions:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("latin-1")


@pytest.mark.parametrize("made", ROOMS.values(), ids=["render", "demo_desk"])
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
    escaped = {name for room, name in TEMPLATES if room.name == "render" and decide(name)}
    assert {name for room, name in TEMPLATES if room.name == "render"} - escaped == {"labels.txt", "mail.txt"}
    assert pages.environment().autoescape is True


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_no_template_says_that_a_text_is_safe(room: Path) -> None:
    for name, tree in trees(room).items():
        unsafe = [
            *tree.find_all((nodes.MarkSafe, nodes.MarkSafeIfAutoescape, nodes.ScopedEvalContextModifier)),
            *(one for one in tree.find_all(nodes.Filter) if one.name in ("safe", "forceescape", "tojson")),
        ]
        assert not unsafe, name


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_every_template_and_asset_is_used(room: Path) -> None:
    """Code refers to a template by name; other templates extend, import or include it."""
    used = {text for path in sorted(room.rglob("*.py")) for text in texts(syntax_tree(path))}
    for tree in trees(room).values():
        used |= {str(name) for name in meta.find_referenced_templates(tree)}
        used |= {call.args[0].value for call in calls(tree, "asset") if isinstance(call.args[0], nodes.Const)}
    assert {name for one, name in TEMPLATES if one == room} - used == set()


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_every_macro_and_every_import_is_used(room: Path) -> None:
    everywhere = trees(room).values()
    macros = {macro.name for tree in everywhere for macro in tree.find_all(nodes.Macro)}
    # The code calls the macro for a large table's rows directly.
    by_code = {node.attr for tree in package().values() for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in macros - by_code if not any(calls(tree, name) for tree in everywhere)} == set()
    for tree in everywhere:
        imported = {name for one in tree.find_all(nodes.FromImport) for name in one.names}
        assert {name for name in imported if not calls(tree, str(name))} == set()


def test_html_is_in_templates_alone() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {text[:60]!r}"
        for path, tree in package().items()
        if path not in READS_HTML
        for text in texts(tree)
        if HTML.search(text)
    ]
    assert not found


def test_the_search_for_html_finds_it_where_it_is_put_together() -> None:
    code = 'def cell(text):\n    """Not <p>this</p>."""\n    return f"<td>{text}</td>" + b"<BR>" + "<patron> < b"\n'
    assert sorted(text for text in texts(ast.parse(code)) if HTML.search(text)) == ["</td>", "<BR>", "<td>"]


def test_only_files_of_the_package_are_taken_for_markup() -> None:
    takes = [
        path.relative_to(PACKAGE).as_posix()
        for path, tree in package().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Markup"
    ]
    assert takes == ["language/templates.py", "render/pages.py", "sandbox/demo_desk/desk.py"]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.css")), ids=lambda path: path.name)
def test_colors_are_variables(path: Path) -> None:
    """Every variable that a stylesheet uses is declared, and dark palettes only override declared ones."""
    css = re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.DOTALL)
    labels = path.with_name("labels.txt")
    declared = set(re.findall(r"(--[a-z-]+):", labels.read_text("utf-8"))) if path.name == "page.css" else set()
    light, *others = (set(re.findall(r"(--[a-z-]+):", palette)) for palette in PALETTE.findall(css))
    assert COLOR.search(PALETTE.sub("", css)) is None
    assert set(re.findall(r"var\((--[a-z-]+)\)", css)) <= light | declared
    assert all(other <= light for other in others)


def test_the_search_for_colors_finds_them() -> None:
    css = ":root { --green: #0f0; }\n#groups { color: var(--green); }\n"
    assert COLOR.search(PALETTE.sub("", css)) is None
    for color in ("#fff", "rgb(0 0 0)", "white", "1px solid Red"):
        assert COLOR.search(PALETTE.sub("", f"{css}p {{ border: {color}; }}"))


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
