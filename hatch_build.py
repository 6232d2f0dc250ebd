"""What is made when the package is built or installed: the catalogues that the program reads, and its data files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CatalogueHook(BuildHookInterface[Any]):
    """Compiles the catalogues of all languages; hatch takes them in because they are among its artifacts.

    A wheel gets the files of ``config/`` as well; an editable installation reads them where they are.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile them beside their sources, and name the files."""
        if self.target_name == "sdist":
            return
        if version != "editable":
            build_data["force_include"]["config"] = "evergreen_groups/data"
        sys.path.insert(0, self.root)
        try:
            from evergreen_groups.language.compilation import compile_catalogues
        finally:
            sys.path.remove(self.root)
        compile_catalogues(Path(self.root, "evergreen_groups", "language", "locale"))
