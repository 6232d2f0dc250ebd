"""What is made when the package is built or installed.

The catalogues that the program reads, its data files, its manual pages, and what completes its commands in a shell.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


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
