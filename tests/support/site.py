"""An extension of Sphinx that adapts the pages, which are written for repository hosts, to the site.

Links that leave ``docs/`` lead to a page of the site if there is one, or else to a copy of the file; a link to a folder
becomes plain text, because folders have no page. Pages at the repository's root are read from there. ``<!-- reference:
MODULE -->``, or ``<!-- reference: MODULE: NAME, NAME -->``, is replaced by the module's documentation, with links from
annotations to classes.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from support.pages import NAVIGATION, in_navigation
from support.repository import REPOSITORY

DOCS = REPOSITORY / "docs"
FROM_ROOT = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "security-policy": "SECURITY.md"}
"""Pages of the site whose text is a file at the root, where repository hosts expect it."""
AT_ROOT = {file: f"{page}.md" for page, file in FROM_ROOT.items()} | {"README.md": "index.md"}
_PARTS = re.compile(
    r"^```.*?^```$"
    r"|\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)]*)?\)"
    r"|`[^`\n]+`",
    re.DOTALL | re.MULTILINE,
)
"""What to look at in a page, whichever comes first: a block, a link, inline code."""


def for_site(text: str, folder: Path) -> str:
    """Adapt the links of a page in ``folder`` to the site; code is left alone."""
    return _PARTS.sub(lambda part: _linked(part, folder) if part["target"] else part[0], text)


def _linked(link: re.Match[str], folder: Path) -> str:
    text, target, anchor = link["text"], link["target"], link["anchor"] or ""
    if "://" in target or target.startswith("mailto:"):
        return link[0]
    file = (folder / target).resolve()
    if file.is_dir():
        return text
    inside = file.relative_to(REPOSITORY).as_posix()
    if inside in AT_ROOT:
        return f"[{text}]({AT_ROOT[inside]}{anchor})"
    if file.is_relative_to(DOCS):
        return f"[{text}]({file.relative_to(DOCS).as_posix()}{anchor})"
    return f"[{text}](../{inside}{anchor})"


def read_page(_app: Sphinx, name: str, source: list[str]) -> None:
    root = name in FROM_ROOT
    text = (REPOSITORY / FROM_ROOT[name]).read_text("utf-8") if root else source[0]
    text = re.sub(r"^```mermaid\n(.*?)^```$", lambda chart: draw(chart[1]), text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^<!-- reference: (\S+?)(?:: (.+?))? -->$", _reference, text, flags=re.DOTALL | re.MULTILINE)
    text = for_site(text, REPOSITORY if root else DOCS)
    if name == "index":
        text += _trees()
    elif name not in in_navigation():
        text = f"---\norphan: true\n---\n{text}"  # otherwise Sphinx warns
    source[0] = text


def _reference(asked: re.Match[str]) -> str:
    """Return the documentation of a module's exports, or of some names, taken from its docstrings."""
    names = " ".join((asked[2] or "").split())
    imported = "   :imported-members:\n" if names else ""  # a face defines nothing itself
    return f"```{{eval-rst}}\n.. automodule:: {asked[1]}\n   :members: {names}\n{imported}```"


def _trees() -> str:
    """Return the navigation, which isn't part of the pages."""
    trees = ((heading, "\n".join(pages)) for heading, pages in NAVIGATION.items())
    return "".join(f"\n```{{toctree}}\n:caption: {heading}\n:hidden:\n{pages}\n```\n" for heading, pages in trees)


def find_class(
    _app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Node
) -> nodes.reference | nodes.Node | None:
    """Resolve the class of an annotation: class names are unique in the package, and documented at the face of their
    room.

    Undocumented classes, and those of Python or a library, are shown without a link.
    """
    if node.get("refdomain") != "py":
        return None
    name = str(node["reftarget"]).rpartition(".")[2]
    python: Any = env.get_domain("py")
    for full, entry in python.objects.items():
        if full.rpartition(".")[2] == name and entry.objtype in ("class", "exception", "function"):
            reference = nodes.reference("", "", shown.deepcopy(), internal=True)
            reference["refuri"] = _app.builder.get_relative_uri(node["refdoc"], entry.docname) + f"#{entry.node_id}"
            return reference
    return shown


LAYER, WIDTH, HEIGHT, GAP = 66, 96, 28, 60
_MIDDLES = 8
"""Rounds that improve the order within layers; more don't help."""


def draw(flowchart: str) -> str:
    """Return a flowchart of arrows that point down as SVG in HTML, all on one line, so that Markdown leaves it alone.

    Repository hosts render the same text themselves. This needs no external script and uses the page's colors, light or
    dark. Each node is one layer below the lowest node with an arrow to it; within a layer, connected nodes are placed
    near each other.
    """
    arrows = re.findall(r"^ +(\w+) --> (\w+)$", flowchart, re.MULTILINE)
    layers = _layers(arrows)
    places = _places(layers, arrows)
    across = max(len(layer) for layer in layers) * (WIDTH + GAP)
    down = len(layers) * LAYER
    lines = "".join(_line(places[begin], places[end]) for begin, end in arrows)
    boxes = "".join(_box(name, place) for name, place in places.items())
    return (
        f'<div class="rooms" style="max-width: {across}px">'
        f'<svg viewBox="0 0 {across} {down}" role="img" aria-label="Which package may import which">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z"/></marker></defs>{lines}{boxes}</svg></div>\n'
    )


def _layers(arrows: list[tuple[str, str]]) -> list[list[str]]:
    """Return the nodes in layers, by the longest path of arrows to them."""
    depth = {name: 0 for arrow in arrows for name in arrow}
    for _ in depth:
        for begin, end in arrows:
            depth[end] = max(depth[end], depth[begin] + 1)
    return [[name for name in depth if depth[name] == layer] for layer in range(max(depth.values()) + 1)]


def _places(layers: list[list[str]], arrows: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Return the center of each node."""
    most = max(len(layer) for layer in layers)
    across: dict[str, float] = {}
    for _ in range(_MIDDLES):
        for layer in layers:
            layer.sort(key=lambda name: _middle(name, arrows, across))
            for place, name in enumerate(layer):
                across[name] = (place + 0.5 + (most - len(layer)) / 2) * (WIDTH + GAP)
    return {name: (across[name], row * LAYER + LAYER / 2) for row, layer in enumerate(layers) for name in layer}


def _middle(name: str, arrows: list[tuple[str, str]], across: dict[str, float]) -> float:
    near = [across[one] for arrow in arrows for one in arrow if name in arrow and one != name and one in across]
    return sum(near) / len(near) if near else 0.0


def _line(begin: tuple[float, float], end: tuple[float, float]) -> str:
    """Return the line from the lower edge of a box to the upper edge of another.

    A long one curves around boxes between.
    """
    (x1, y1), (x2, y2) = begin, end
    y1, y2 = y1 + HEIGHT / 2, y2 - HEIGHT / 2
    aside = 0.0 if y2 - y1 < LAYER else (WIDTH * 0.9 if x2 >= x1 else -WIDTH * 0.9)
    middle = (y2 - y1) / 2
    bend = f"{x1 + aside:.0f} {y1 + middle:.0f} {x2 + aside:.0f} {y2 - middle:.0f}"
    return f'<path d="M{x1:.0f} {y1:.0f}C{bend} {x2:.0f} {y2:.0f}"/>'


def _box(name: str, place: tuple[float, float]) -> str:
    x, y = place
    return (
        f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}">{escape(name)}</text>'
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read_page)
    app.connect("missing-reference", find_class)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
