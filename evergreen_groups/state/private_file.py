"""Files that nobody else sees, for what is too large for the memory while a command runs."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from evergreen_groups.state.files import writing_in


def temporary_directory() -> Path:
    """Where SQLite makes its temporary files (https://sqlite.org/tempfiles.html), and we ours."""
    return Path(os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108


def private_file() -> BinaryIO:
    """Open a new file that only this user can read and that has no name: it's gone when it is closed.

    So it is with the process, however that ends.

    Raises:
        ConfigurationError: none can be made.
    """
    directory = temporary_directory()
    with writing_in(directory):
        return cast("BinaryIO", TemporaryFile(dir=directory))
