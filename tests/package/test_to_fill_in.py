"""What the project fills in before it publishes: one table, of which links, README and packages are made."""

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from support.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY))
from hatch_build import ProjectLinksHook, to_fill_in, with_absolute_links

TABLE = """### To fill in before publishing

| What | Value |
| --- | --- |
| Repository | https://forge.example/groups |
| Documentation | |
| Maintainer | A. Maintainer <a@library.example> |

The first version
"""


def test_the_table_of_this_checkout_has_what_a_release_needs() -> None:
    assert set(to_fill_in(REPOSITORY)) == {"Repository", "Documentation", "Maintainer", "Security contact"}


def test_the_package_is_made_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "evergreen_groups").mkdir()
    (tmp_path / "docs" / "releases.md").write_text(TABLE)
    (tmp_path / "evergreen_groups" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "README.md").write_text(
        "![Panel](docs/pictures/panel.png) [Install](docs/install.md) [E](https://e.org)"
    )
    found: dict[str, object] = {}
    ProjectLinksHook(str(tmp_path), {}).update(found)
    assert found["urls"] == {"Homepage": "https://evergreen-ils.org", "Repository": "https://forge.example/groups"}
    assert found["readme"] == {
        "content-type": "text/markdown",
        "text": "![Panel](https://forge.example/groups/raw/v1.2.3/docs/pictures/panel.png) "
        "[Install](https://forge.example/groups/blob/v1.2.3/docs/install.md) [E](https://e.org)",
    }


def test_no_link_of_the_readme_stays_relative() -> None:
    text = with_absolute_links((REPOSITORY / "README.md").read_text("utf-8"), "https://forge.example/groups", "1.0.0")
    assert re.findall(r"\]\((?!https://)", text) == []


def test_nothing_invented_is_in_the_packages() -> None:
    files = [REPOSITORY / "packaging" / name for name in ("build-deb", "debian/control", "debian/copyright")]
    assert [file.name for file in files if ".invalid" in file.read_text("utf-8")] == []


FREE = re.compile(r"MIT|BSD|PSF|Python Software|ZPL|Zope|MPL-2\.0|Apache|LGPL")


@pytest.mark.parametrize("extra", ["", "serve", "postgresql", "redis"])
def test_licenses_of_dependencies_go_with_gpl_3(extra: str) -> None:
    """With the GPL version 2 alone, Apache-2.0 and LGPL-3.0 don't."""
    wrong, seen, open_ = [], set(), [f"evergreen-groups[{extra}]"]
    while open_:
        name, _, extras = re.match(r"([\w.-]+)(\[?)([\w,-]*)", open_.pop()).groups()  # type: ignore[union-attr]
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # of another platform or Python
            continue
        named = [about.get("License-Expression") or "", about.get("License") or "", *about.get_all("Classifier", [])]
        if name != "evergreen-groups" and not any(
            FREE.search(one) for one in named if "License ::" in one or "::" not in one
        ):
            wrong.append(name)
        for required in metadata.requires(name) or []:
            condition = re.search(r"extra == ['\"]([\w-]+)['\"]", required)
            if condition is None or condition[1] in extras.split(","):
                open_.append(required)
    assert len(seen) > 10
    assert wrong == []
