"""How Sphinx makes the site of these pages: ``nox -s site`` writes it to build/site.

The pages are Markdown that reads as well where the repository is hosted, so links lead from file to file. Those that
leave this folder are turned here into what the site has in its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from evergreen_groups import __version__  # noqa: E402 - the path comes first

project = "evergreen-groups"
author = "the authors of evergreen-groups"
project_copyright = "GPL-2.0-or-later, as Evergreen itself"
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "support.site"]
exclude_patterns: list[str] = []
nitpicky = True

# MyST: headings get the anchors that a host of repositories gives them, so that page.md#heading leads there in both.
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
default_role = "code"

html_theme = "furo"
html_title = "evergreen-groups"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "footer_icons": [],
    "light_css_variables": {"color-brand-primary": "#17603f", "color-brand-content": "#17603f"},
    "dark_css_variables": {"color-brand-primary": "#7fcfa5", "color-brand-content": "#7fcfa5"},
}
