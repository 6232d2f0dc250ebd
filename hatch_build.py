"""What is made when the package is built or installed.

The catalogues that the program reads, its data files, its manual pages, and what completes its commands in a shell.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


def to_fill_in(root: Path) -> dict[str, str]:
    """Return the table of what is to fill in before publishing, by name; "" where nothing is."""
    text = (root / "docs" / "releases.md").read_text("utf-8") if (root / "docs").is_dir() else ""
    table = text.partition("### To fill in before publishing")[2].partition("\n\nThe first")[0]
    return dict(re.findall(r"^\| (?!What|---)(.+?) \| ?(.*?) ?\|$", table, re.MULTILINE))


def with_absolute_links(readme: str, repository: str, version: str) -> str:
    """Return the README as an index shows it, which has no files beside it."""
    readme = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{repository}/raw/v{version}/", readme)
    return re.sub(r"(?<!!)(\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{repository}/blob/v{version}/", readme)


class ProjectLinksHook(MetadataHookInterface):
    """Fills in the project's links, and the README's, of the table in docs/releases.md."""

    def update(self, metadata: dict[str, Any]) -> None:
        found, readme = to_fill_in(Path(self.root)), Path(self.root, "README.md").read_text("utf-8")
        urls = {name: found[name] for name in ("Repository", "Documentation") if found.get(name)}
        metadata["urls"] = {"Homepage": "https://evergreen-ils.org", **urls}
        if "Repository" in urls:
            text = Path(self.root, "evergreen_groups", "__init__.py").read_text("utf-8")
            (version,) = re.findall(r'^__version__ = "(.*)"$', text, re.MULTILINE)
            readme = with_absolute_links(readme, urls["Repository"].rstrip("/"), version)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}


class MadeFilesHook(BuildHookInterface[Any]):
    """Makes them from the source for a wheel; a source archive has none of them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the catalogues beside their sources; hatch takes them in because they are among its artifacts.

        A wheel gets the files of ``config/`` as well, which an editable installation reads where they are, and what
        stands elsewhere than the package's own modules, which is made in ``build/shared``.
        """
        if self.target_name == "sdist":
            return
        with self._source():
            from evergreen_groups.language.compilation import compile_catalogues

            compile_catalogues(Path(self.root, "evergreen_groups", "language", "locale"))
            if version != "editable":
                build_data["force_include"]["config"] = "evergreen_groups/data"
                build_data["shared_data"] = self._made_shared_files()

    def _made_shared_files(self) -> dict[str, str]:
        """Make the manual pages and the shells' scripts; gives where each lies and where it is installed."""
        from evergreen_groups.cli.manual import write_pages, write_scripts

        made = Path(self.root, "build", "shared")
        shutil.rmtree(made, ignore_errors=True)
        files = [*write_pages(made / "share" / "man" / "man1"), *write_scripts(made)]
        return {str(file): file.relative_to(made).as_posix() for file in files}

    @contextmanager
    def _source(self) -> Iterator[None]:
        """Have the package that is built among what can be imported, and not one that is installed."""
        sys.path.insert(0, self.root)
        try:
            yield
        finally:
            sys.path.remove(self.root)
