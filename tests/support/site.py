"""An extension of Sphinx that adapts the pages, which are written for repository hosts, to the site.

Links that leave ``docs/`` lead to a page of the site if there is one, or else to a copy of the file; a link to a folder
becomes plain text, because folders have no page. Pages at the repository's root are read from there. ``<!-- reference:
MODULE -->``, or ``<!-- reference: MODULE: NAME, NAME -->``, is replaced by the module's documentation, with links from
annotations to classes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from support.navigation import NAVIGATION, in_navigation
from support.repository import REPOSITORY
from support.room_picture import draw

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


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read_page)
    app.connect("missing-reference", find_class)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
